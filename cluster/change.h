/* change.h - what watchers are told of one acknowledged change, and the way from the coordinator to them.
 *
 * Owns: the order of changes between the coordinator, which tells them one at a time, and the watcher, which is
 * called by whatever thread comes first. Leaves to others: what is a change (op.c), what is done with it
 * (fs/events.h).
 *
 * Invariants
 *  W1. The watcher is called once per change, in the order of acknowledgement, one call at a time, with no
 *      lock of the coordinator held.
 *  W2. A thread that delivers before it answers a request has thereby delivered that request's change.
 *  W3. After qfs_change_feed_watch has returned the former watcher is not called any more.
 *
 * Threading: any thread. The watcher must not block and not call the engine.
 */
#pragma once

#include "storage/record.h"

G_BEGIN_DECLS

typedef enum {
  QFS_CHANGE_NONE,    /* nothing that anybody is told of */
  QFS_CHANGE_PUT,     /* a value was made, replaced, written to or truncated */
  QFS_CHANGE_ATTR,    /* mode, owner, times, attributes, and nothing else */
  QFS_CHANGE_MKDIR,
  QFS_CHANGE_SYMLINK,
  QFS_CHANGE_MKNOD,   /* a fifo, socket or device */
  QFS_CHANGE_DELETE,  /* also of a directory, and of what was absent but is remembered as deleted */
  QFS_CHANGE_RENAME,
  QFS_CHANGE_LINK,    /* another name */
} QfsChangeKind;

typedef struct {
  QfsChangeKind kind;
  const QfsRecord *record; /* the new version; DELETE: the tombstone; RENAME: under its new key; LINK: the new name. Of a
                            * file with several names it is at the file's own key: see record.h */
  const char *former_key;  /* RENAME; LINK: a name that it had before, or the file's own key; changes of a file with
                            * several names: the one that was given, or NULL; else NULL */
} QfsChange;

typedef void (*QfsChangeFunc)(const QfsChange *change, gpointer user_data);

const char *qfs_change_kind_name(QfsChangeKind kind); /* "put"; static */

typedef struct QfsChangeFeed QfsChangeFeed;

QfsChangeFeed *qfs_change_feed_new(void);
void qfs_change_feed_free(QfsChangeFeed *feed); /* accepts NULL; what was not delivered is dropped */
/* `func` NULL: nobody watches. Not from inside the watcher. */
void qfs_change_feed_watch(QfsChangeFeed *feed, QfsChangeFunc func, gpointer user_data);
/* One caller at a time; takes references. FALSE: nobody watches, and nothing was done. */
gboolean qfs_change_feed_push(QfsChangeFeed *feed, const QfsChange *change);
/* Calls the watcher with all that was pushed and not yet delivered; waits for another thread that is at it. */
void qfs_change_feed_deliver(QfsChangeFeed *feed);

G_END_DECLS
