/* measure_file.c - keys as files of a directory, by the calls that a shell makes: any filesystem. */
#include "measure.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct {
  int directory, file;
} Files;

static gpointer files_connect(const char *where) {
  int directory = open(where, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory < 0) {
    perror(where);
    return NULL;
  }
  Files *files = g_new(Files, 1);
  *files = (Files){.directory = directory, .file = -1};
  return files;
}

static void files_disconnect(gpointer connection) {
  Files *files = connection;
  if (files->file >= 0)
    close(files->file);
  close(files->directory);
  g_free(files);
}

static gboolean write_all(int fd, const char *value, gsize size) {
  for (gsize done = 0; done < size;) {
    gssize n = write(fd, value + done, size - done);
    if (n <= 0)
      return FALSE;
    done += (gsize)n;
  }
  return TRUE;
}

static gboolean write_file(Files *files, const char *key, int flags, const char *value, gsize size, gboolean durable) {
  int fd = openat(files->directory, key, O_WRONLY | O_CREAT | O_CLOEXEC | flags, 0644);
  if (fd < 0)
    return FALSE;
  gboolean good = write_all(fd, value, size) && (!durable || fsync(fd) == 0);
  return close(fd) == 0 && good;
}

static gboolean files_put(gpointer connection, const char *key, const char *value, gsize size, gboolean durable) {
  return write_file(connection, key, O_TRUNC, value, size, durable);
}

static gboolean files_append(gpointer connection, const char *key, const char *value, gsize size) {
  return write_file(connection, key, O_APPEND, value, size, FALSE);
}

static gssize files_get(gpointer connection, const char *key, char *buffer, gsize room) {
  Files *files = connection;
  int fd = openat(files->directory, key, O_RDONLY | O_CLOEXEC);
  if (fd < 0)
    return errno == ENOENT ? -1 : -2;
  gsize got = 0;
  while (got < room) {
    gssize n = read(fd, buffer + got, room - got);
    if (n < 0) {
      close(fd);
      return -2;
    }
    if (n == 0)
      break;
    got += (gsize)n;
    if (got + 1 == room) /* as much as is expected: who knows the size reads once */
      break;
  }
  close(fd);
  return (gssize)got;
}

static gboolean files_remove(gpointer connection, const char *key) {
  return unlinkat(((Files *)connection)->directory, key, 0) == 0;
}

static gboolean files_stat(gpointer connection, const char *key) {
  struct stat st;
  return fstatat(((Files *)connection)->directory, key, &st, 0) == 0;
}

static gboolean files_open(gpointer connection, const char *key) {
  Files *files = connection;
  files->file = openat(files->directory, key, O_RDONLY | O_CLOEXEC);
  return files->file >= 0;
}

static gssize files_read_open(gpointer connection, char *buffer, gsize room) {
  return pread(((Files *)connection)->file, buffer, room, 0);
}

const Target target_file = {.name = "file",
                            .connect = files_connect,
                            .disconnect = files_disconnect,
                            .put = files_put,
                            .get = files_get,
                            .remove = files_remove,
                            .append = files_append,
                            .stat = files_stat,
                            .open = files_open,
                            .read_open = files_read_open};
