/* intent.h - intents of a SQLite replica: see QfsReplicaOps for effects. Private to storage/. */
#pragma once

#include "storage/connection.h"

G_BEGIN_DECLS

gboolean qfs_intent_store_put(QfsReplica *replica, guint64 id, GPtrArray *records, GError **error);
gboolean qfs_intent_store_get(QfsReplica *replica, guint64 id, GPtrArray **out_records,
                              GError **error);
gboolean qfs_intent_store_remove(QfsReplica *replica, guint64 id, GError **error);
gboolean qfs_intent_store_list(QfsReplica *replica, GArray *out_ids, GError **error);
gboolean qfs_intent_store_wipe(QfsConnection *connection, GError **error);

G_END_DECLS
