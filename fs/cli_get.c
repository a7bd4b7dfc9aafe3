/* cli_get.c - quorumfs get. */
#include "fs/cli.h"
#include "fs/control.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PIECE_BYTES (1 << 20)

enum { GET_NONE = 1, GET_ERROR = 2 };

static int failed(const char *path, int error) {
  const char *explanation = qfs_control_explain(error);
  if (error == EHOSTDOWN)
    explanation = "no replica that certainly has the newest version is up";
  if (explanation != NULL && error != ETIMEDOUT)
    cli_error("%s: %s (%s)", path, g_strerror(error), explanation);
  else
    cli_error("%s: %s", path, g_strerror(error));
  return error == ENOENT ? GET_NONE : GET_ERROR;
}

static int copy_out(const char *path, int fd) {
  g_autofree char *buffer = g_malloc(PIECE_BYTES);
  for (;;) {
    ssize_t got = read(fd, buffer, PIECE_BYTES);
    if (got == 0)
      return CLI_OK;
    if (got < 0 && errno == EINTR)
      continue;
    if (got < 0)
      return failed(path, errno);
    for (ssize_t done = 0; done < got;) {
      ssize_t put = write(STDOUT_FILENO, buffer + done, (gsize)(got - done));
      if (put < 0 && errno == EINTR)
        continue;
      if (put < 0) {
        cli_error("standard output: %s", g_strerror(errno));
        return GET_ERROR;
      }
      done += put;
    }
  }
}

int cli_get(int argc, char **argv) {
  static const CliUsage usage = {
      .arguments = "PATH",
      .summary = "Prints the value of the key PATH, a path in the mount, byte for byte.\n"
                 "Exit status: 0 with the value, 1 when there is none, 2 on an error.",
      .min = 1,
      .max = 1,
  };
  int status = CLI_USAGE;
  g_auto(GStrv) arguments = cli_parse(argc, argv, &usage, NULL, &status);
  if (arguments == NULL)
    return status;
  const char *path = arguments[0];
  g_autofree char *root = NULL;
  if (!cli_find_mount(path, FALSE, &root, NULL))
    return GET_ERROR;
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a fifo has no value to wait for */
  if (fd < 0)
    return failed(path, errno);
  struct stat st;
  if (fstat(fd, &st) != 0)
    status = failed(path, errno);
  else if (!S_ISREG(st.st_mode))
    status = failed(path, S_ISDIR(st.st_mode) ? EISDIR : EINVAL);
  else
    status = copy_out(path, fd);
  close(fd);
  return status;
}
