/* aside.h - a replica that can't be used is set aside: kept under another name beside the new one, for whoever
 * wants to look into it. The newest one only.
 *
 *   replica.damaged, -wal, -shm   the files; sqlite3 opens them
 *   replica.damaged.txt           why, in one line
 *   replica.new/replica.db        the replica that is about to take its place
 *
 * Threading: no connection to the replica may be open in this process.
 */
#pragma once

#include "storage/replica.h"

G_BEGIN_DECLS

/* Moves the files away. With `meta` a new, empty replica that remembers it takes their place, all or nothing: what the
 * node promised its coordinator must outlive its data. Without: there is none afterwards. */
gboolean qfs_replica_set_aside(const char *dir, const char *reason, const QfsNodeMeta *meta, GError **error);
/* Ends what a set-aside that was interrupted left; at opening. */
void qfs_replica_end_set_aside(const char *dir);
/* Why what lies aside was set aside, newly allocated; NULL: nothing does. */
char *qfs_replica_aside_reason(const char *dir);
/* Deletes it. TRUE: there was some. */
gboolean qfs_replica_discard_aside(const char *dir);

G_END_DECLS
