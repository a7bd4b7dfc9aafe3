/* file_watch.h - is a replica's file still the one that was opened, and written by nobody else?
 *
 * In write-ahead logging the file itself changes only when its one writer moves the log into it. So whoever
 * deleted it, put another one in its place or wrote to it is found by its identity, size and time of change.
 * Without that, what a copy of an older time holds, with good checksums, would be served as if it were current.
 *
 * Threading: begin and end belong to the writer; anything else to any thread. Shared by reference count.
 */
#pragma once

#include <glib.h>

G_BEGIN_DECLS

typedef struct QfsFileWatch QfsFileWatch;

/* A file that is not there at first (it is behind another file system layer of SQLite) is never missed. */
QfsFileWatch *qfs_file_watch_new(const char *path);
QfsFileWatch *qfs_file_watch_ref(QfsFileWatch *watch);
void qfs_file_watch_unref(QfsFileWatch *watch); /* accepts NULL */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QfsFileWatch, qfs_file_watch_unref)

/* Around what the writer itself does to the file. */
void qfs_file_watch_begin(QfsFileWatch *watch);
void qfs_file_watch_end(QfsFileWatch *watch);

/* NULL: all is well; else what happened, for people. One system call. */
const char *qfs_file_watch_objection(QfsFileWatch *watch);
/* The same for who read by a connection that was open before, at a fraction of the cost: the path is followed only
 * every QFS_FILE_WATCH_PATH_US. A file that was written to, deleted or replaced is noticed at once all the same; one
 * that was moved away and goes on under another name, which is the very file that was read, a little later. */
#define QFS_FILE_WATCH_PATH_US (10 * 1000)
const char *qfs_file_watch_glance(QfsFileWatch *watch);

G_END_DECLS
