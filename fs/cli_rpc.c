/* cli_rpc.c - the command line's side of .quorumfs/rpc (control.h). */
#include "fs/cli.h"
#include "fs/control.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PIECE_BYTES (1 << 20)

static int failed(const char *path, int error, const char *explanation) {
  if (explanation == NULL || *explanation == '\0')
    cli_error("%s: %s", path, g_strerror(error));
  else
    cli_error("%s: %s (%s)", path, g_strerror(error), explanation);
  return CLI_FAILED;
}

static gboolean write_all(int fd, const char *data, gsize len) {
  while (len > 0) {
    ssize_t put = write(fd, data, len);
    if (put < 0 && errno == EINTR)
      continue;
    if (put < 0)
      return FALSE;
    data += put;
    len -= (gsize)put;
  }
  return TRUE;
}

/* Everything from `from` goes to `to`; CLI_OK or an exit status after an error was printed. */
static int copy_value(const char *path, int from, int to) {
  g_autofree char *buffer = g_malloc(PIECE_BYTES);
  for (;;) {
    ssize_t got = read(from, buffer, PIECE_BYTES);
    if (got == 0)
      return CLI_OK;
    if (got < 0 && errno == EINTR)
      continue;
    if (got < 0) {
      cli_error("standard input: %s", g_strerror(errno));
      return CLI_FAILED;
    }
    if (!write_all(to, buffer, (gsize)got))
      return failed(path, errno, qfs_control_explain(errno));
  }
}

/* The timestamp: of the version that is stored now. A string, as it may be above what JSON's numbers hold. */
static int print_outcome(const char *outcome, const char *timestamp, gboolean json) {
  gboolean superseded = strcmp(outcome, "superseded") == 0;
  g_autofree char *line =
      json ? g_strdup_printf("{\"outcome\": \"%s\", \"timestamp\": \"%s\"}\n", outcome, timestamp)
           : g_strdup_printf("%s%s%s\n", outcome, superseded ? " by " : "", superseded ? timestamp : "");
  return cli_print(line) ? CLI_OK : CLI_FAILED;
}

static int print_answer(const char *path, char *answer, gboolean json) {
  g_strchomp(answer);
  g_auto(GStrv) words = g_strsplit(answer, " ", 3);
  guint count = g_strv_length(words);
  if (count >= 2 && (strcmp(words[0], "applied") == 0 || strcmp(words[0], "superseded") == 0))
    return print_outcome(words[0], words[1], json);
  if (count >= 2 && strcmp(words[0], "error") == 0)
    return failed(path, atoi(words[1]), count == 3 ? words[2] : NULL);
  cli_error("%s: the daemon gave an answer that is not understood", path);
  return CLI_FAILED;
}

static int talk(const char *path, int fd, const char *header, const char *value, int value_fd, gboolean json) {
  if (!write_all(fd, header, strlen(header)) ||
      (value != NULL && !write_all(fd, value, strlen(value))))
    return failed(path, errno, qfs_control_explain(errno));
  if (value_fd >= 0) {
    int status = copy_value(path, value_fd, fd);
    if (status != CLI_OK)
      return status;
  }
  char answer[512];
  ssize_t got;
  do
    got = pread(fd, answer, sizeof answer - 1, 0);
  while (got < 0 && errno == EINTR);
  if (got < 0)
    return failed(path, errno, qfs_control_explain(errno));
  answer[got] = '\0';
  return print_answer(path, answer, json);
}

int cli_rpc(const char *path, const char *timestamp, const char *if_timestamp, const char *value, int value_fd,
            gboolean json) {
  g_autofree char *root = NULL, *key = NULL;
  if ((timestamp != NULL && !cli_parse_timestamp("timestamp", timestamp)) ||
      (if_timestamp != NULL && !cli_parse_timestamp("if-timestamp", if_timestamp)))
    return CLI_USAGE;
  if (g_str_has_suffix(path, "/")) {
    cli_error("%s: a key does not end in '/'", path);
    return CLI_FAILED;
  }
  if (!cli_find_mount(path, FALSE, &root, &key))
    return CLI_FAILED;
  if (strcmp(key, ".quorumfs") == 0 || g_str_has_prefix(key, ".quorumfs/")) {
    cli_error("%s: the name .quorumfs is reserved", path);
    return CLI_FAILED;
  }
  g_autofree char *rpc = g_build_filename(root, ".quorumfs", "rpc", NULL);
  int fd = open(rpc, O_RDWR | O_CLOEXEC);
  if (fd < 0)
    return errno == EACCES
               ? failed(path, EACCES, "only for the user who mounted the store, and root")
               : failed(path, errno, NULL);
  g_autofree char *escaped = g_uri_escape_bytes((const guint8 *)key, strlen(key), "/");
  g_autofree char *header =
      g_strdup_printf("%s%s %s %s\n", value == NULL && value_fd < 0 ? "delete" : if_timestamp ? "put-if " : "put",
                      if_timestamp != NULL ? if_timestamp : "", timestamp != NULL ? timestamp : "-", escaped);
  int status = talk(path, fd, header, value, value_fd, json);
  close(fd);
  return status;
}
