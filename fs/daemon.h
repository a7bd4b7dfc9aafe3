/* daemon.h - going into the background, and telling the one who waits how the start went.
 *
 * qfs_daemon_start forks before any thread exists. The child goes on; the parent waits until the
 * child reports or dies, prints what it said and ends with the status it named. In the foreground
 * there is no fork and reports are printed directly. Threading: the main thread only.
 */
#pragma once

#include <glib.h>

G_BEGIN_DECLS

typedef struct {
  int pipe_fd; /* to the waiting parent; -1 in the foreground */
} QfsDaemon;

/* Returns in the process that is to serve. FALSE: *out_status is the exit status of this one. */
gboolean qfs_daemon_start(QfsDaemon *daemon, gboolean foreground, int *out_status);

/* Start is over: `text` goes to standard output. In the background, standard input, output and
 * error become /dev/null and the log goes to the system. FALSE: the parent is gone, nobody wants
 * the mount. */
gboolean qfs_daemon_ready(QfsDaemon *daemon, const char *text);

/* Start failed: "quorumfs: LINE" goes to standard error and `status` is the exit status. */
void qfs_daemon_failed(QfsDaemon *daemon, int status, const char *line);

G_END_DECLS
