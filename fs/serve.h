/* serve.h - the daemon's life: opens the store, mounts it, serves until unmounted or told to end,
 * and takes everything down in the right order.
 *
 * Threading: the main thread only. One call per process.
 */
#pragma once

#include "fs/daemon.h"
#include "fs/mountpoint.h"
#include "fs/options.h"

G_BEGIN_DECLS

/* Serves `options` on `point` (both checked), reports through `daemon` when it serves or why not,
 * and returns the exit status after the unmount. A failed start leaves no mountpoint that was not
 * there. */
int qfs_serve(QfsOptions *options, QfsMountpoint *point, QfsDaemon *daemon, gboolean quiet);

/* What is told to the user: "WHAT MOUNTPOINT", the store's directory, how to unmount. Newly
 * allocated. */
char *qfs_serve_describe(const char *what, const char *mountpoint, const char *store);

G_END_DECLS
