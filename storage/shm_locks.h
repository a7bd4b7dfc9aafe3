/* shm_locks.h - the locks of a log's index, for all connections of this process to one file.
 *
 * SQLite's own way costs six calls of fcntl for a commit and two for a read. Here the connections of the process agree in
 * memory, and what the operating system is asked for on their behalf is kept as long as it hinders nobody:
 *
 *  L1. While a connection has a lock, the process has it from the operating system (shared or exclusive, as SQLite asks),
 *      so other processes, such as the sqlite3 shell, are as safe as ever.
 *  L2. A shared lock is not given back. It keeps other processes from nothing but moving the log, which they have no
 *      business to do while this process has the file open.
 *  L3. A connection that begins to read asks for an exclusive lock to raise a read mark. That is refused most of the time,
 *      which SQLite takes for "somebody reads there" and goes on with the lower mark: a lower mark only means that the log
 *      may be moved up to there while that reader is at it. Who moves the log is never refused so.
 *
 * The locks are those of https://www.sqlite.org/walformat.html: 0 write, 1 checkpoint, 2 recover, 3 to 7 read marks.
 * Threading: any.
 */
#pragma once

#include <glib.h>
#include <sqlite3.h>

G_BEGIN_DECLS

typedef struct QfsShmLocks QfsShmLocks;

/* Of the database at `path`; asks the operating system through a file of its own, opened with `base`. NULL: that can't be
 * opened. Release it once per call; the last one gives all locks back. */
QfsShmLocks *qfs_shm_locks_get(sqlite3_vfs *base, const char *path, int open_flags);
void qfs_shm_locks_release(QfsShmLocks *locks);

/* xShmLock. `refused` is the connection's: 0 at first. moves_log: L3. */
int qfs_shm_locks_lock(QfsShmLocks *locks, int first, int n, int flags, guint *refused, gboolean moves_log);

G_END_DECLS
