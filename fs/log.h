/* log.h - where the daemon's messages go: standard error in the foreground and while it starts, the
 * system log once it serves in the background. The latest warning is kept for .quorumfs/last-error.
 *
 * Threading: any thread may log and ask; the other functions are for the main thread.
 */
#pragma once

#include <glib.h>

G_BEGIN_DECLS

/* Messages of g_log and of libfuse go through here from now on. Those below a warning are shown on
 * standard error only if `verbose`. */
void qfs_log_init(gboolean verbose);
void qfs_log_to_system(void);

/* The latest line of level warning or worse; newly allocated; NULL: none so far. */
char *qfs_log_last_fault(void);

G_END_DECLS
