#include "fs/daemon.h"

#include "fs/cli.h"
#include "fs/log.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* A report is one byte of exit status and then text, up to the end of the pipe's data. */
static int wait_for_report(pid_t child, int fd) {
  g_autoptr(GString) report = g_string_new(NULL);
  char buffer[4096];
  for (;;) {
    ssize_t got = read(fd, buffer, sizeof buffer);
    if (got > 0)
      g_string_append_len(report, buffer, got);
    else if (got == 0 || errno != EINTR)
      break;
  }
  if (report->len > 0) {
    int status = report->str[0];
    if (status != CLI_OK)
      cli_error("%s", report->str + 1);
    else if (!cli_print(report->str + 1))
      status = CLI_FAILED;
    return status;
  }
  int wait_status = 0;
  while (waitpid(child, &wait_status, 0) < 0 && errno == EINTR)
    ;
  if (WIFSIGNALED(wait_status))
    cli_error("the daemon was killed by signal %d before it served", WTERMSIG(wait_status));
  else
    cli_error("the daemon ended before it served");
  return CLI_FAILED;
}

gboolean qfs_daemon_start(QfsDaemon *daemon, gboolean foreground, int *out_status) {
  daemon->pipe_fd = -1;
  signal(SIGPIPE, SIG_IGN);
  if (foreground)
    return TRUE;
  int fds[2];
  if (pipe2(fds, O_CLOEXEC) != 0) {
    cli_error("pipe: %s", g_strerror(errno));
    *out_status = CLI_FAILED;
    return FALSE;
  }
  fflush(NULL);
  pid_t child = fork();
  if (child < 0) {
    cli_error("fork: %s", g_strerror(errno));
    *out_status = CLI_FAILED;
    return FALSE;
  }
  if (child > 0) {
    close(fds[1]);
    *out_status = wait_for_report(child, fds[0]);
    return FALSE;
  }
  close(fds[0]);
  daemon->pipe_fd = fds[1];
  setsid();
  return TRUE;
}

static gboolean report(QfsDaemon *daemon, int status, const char *text) {
  g_autoptr(GString) message = g_string_new(text);
  g_string_prepend_c(message, (char)status);
  gsize done = 0;
  while (done < message->len) {
    ssize_t put = write(daemon->pipe_fd, message->str + done, message->len - done);
    if (put < 0 && errno != EINTR)
      break;
    done += put > 0 ? (gsize)put : 0;
  }
  return done == message->len;
}

gboolean qfs_daemon_ready(QfsDaemon *daemon, const char *text) {
  if (daemon->pipe_fd < 0) {
    fputs(text, stdout);
    fflush(stdout);
    return TRUE;
  }
  qfs_log_to_system();
  int null_fd = open("/dev/null", O_RDWR);
  for (int fd = STDIN_FILENO; null_fd >= 0 && fd <= STDERR_FILENO; fd++)
    dup2(null_fd, fd);
  if (null_fd > STDERR_FILENO)
    close(null_fd);
  gboolean told = report(daemon, CLI_OK, text);
  close(daemon->pipe_fd);
  daemon->pipe_fd = -1;
  return told;
}

void qfs_daemon_failed(QfsDaemon *daemon, int status, const char *line) {
  if (daemon->pipe_fd < 0) {
    cli_error("%s", line);
    return;
  }
  report(daemon, status, line);
  close(daemon->pipe_fd);
  daemon->pipe_fd = -1;
}
