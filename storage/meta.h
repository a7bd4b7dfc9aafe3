/* meta.h - the node's metadata and row counters in the tables meta, view_node, view_unsettled.
 * Private.
 *
 * Threading and errors: like the connection.
 */
#pragma once

#include "storage/connection.h"

G_BEGIN_DECLS

gboolean qfs_meta_load(QfsReplica *replica, QfsNodeMeta *out_meta, GError **error);
gboolean qfs_meta_store(QfsReplica *replica, const QfsNodeMeta *meta, GError **error);

/* Into connection->counters and committed_counters, at opening. */
gboolean qfs_meta_load_counters(QfsConnection *connection, QfsCounters *out_counters,
                                GError **error);
/* Those of the transaction, as part of it; writes nothing when none changed. */
gboolean qfs_meta_store_counters(QfsConnection *connection, GError **error);

/* Salt of the redo log (redo.h R1); 0: there was none yet. */
gboolean qfs_meta_load_salt(QfsConnection *connection, guint64 *out_salt, GError **error);
gboolean qfs_meta_store_salt(QfsConnection *connection, guint64 salt, GError **error);

G_END_DECLS
