/* chunk.h - chunk rows of a SQLite replica: see QfsReplicaOps for effects. Private to storage/. */
#pragma once

#include "storage/connection.h"

G_BEGIN_DECLS

gboolean qfs_chunk_store_put(QfsReplica *replica, const QfsChunk *chunk, GError **error);
gboolean qfs_chunk_store_get(QfsReplica *replica, QfsObjectId object, guint64 index,
                             guint64 max_version, QfsChunk **out_chunk, gboolean *out_newer,
                             GError **error);
gboolean qfs_chunk_store_trim(QfsReplica *replica, QfsObjectId object, guint64 index, guint64 keep,
                              GError **error);
gboolean qfs_chunk_store_remove(QfsReplica *replica, QfsObjectId object, guint64 index,
                                guint64 version, GError **error);
gboolean qfs_chunk_store_drop(QfsReplica *replica, QfsObjectId object, guint limit,
                              gboolean *out_more, GError **error);
gboolean qfs_chunk_store_scan(QfsReplica *replica, guint64 after_seq, const QfsChunk *after,
                              gboolean with_data, guint limit, GPtrArray *out, gboolean *out_more,
                              GError **error);
gboolean qfs_chunk_store_list(QfsReplica *replica, const QfsChunk *after, guint limit,
                              GPtrArray *out, gboolean *out_more, GError **error);
gboolean qfs_chunk_store_wipe(QfsConnection *connection, GError **error);

/* Bad rows. */
gboolean qfs_chunk_store_exact(QfsReplica *replica, const QfsChunk *id, QfsChunk **out_chunk, GError **error);
gboolean qfs_chunk_store_print(QfsReplica *replica, const QfsChunk *id, guint64 *out_print, GError **error);
gboolean qfs_chunk_store_mend(QfsReplica *replica, const QfsChunk *id, guint64 print, const QfsChunk *chunk,
                              gboolean *out_done, GError **error);
gboolean qfs_chunk_store_walk(QfsReplica *replica, const QfsChunk *after, const QfsChunk *until, gboolean whole,
                              guint limit, GPtrArray *out, GPtrArray *bad, gboolean *out_more, GError **error);

G_END_DECLS
