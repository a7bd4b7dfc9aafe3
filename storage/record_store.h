/* record_store.h - records of a SQLite replica: see QfsReplicaOps for effects. Private to storage/.
 */
#pragma once

#include "storage/connection.h"

G_BEGIN_DECLS

gboolean qfs_record_store_get(QfsReplica *replica, const char *key, QfsRecord **out_record,
                              GError **error);
gboolean qfs_record_store_apply(QfsReplica *replica, const QfsRecord *record, gboolean force,
                                QfsApplyResult *out_result, GError **error);

/* What the last-writer rule says of a record beside what is stored of its key. */
typedef struct {
  QfsApplyResult result;
  gboolean stores; /* it takes the row */
  int kind;        /* of what is stored; < 0: nothing is */
} QfsVerdict;
gboolean qfs_record_store_judge(QfsReplica *replica, const QfsRecord *record, QfsVerdict *out_verdict, GError **error);
QfsVerdict qfs_record_store_compare(const QfsRecord *record, const QfsRecord *stored);
/* Kind of what is stored, without a look at its sum; < 0: nothing is. */
gboolean qfs_record_store_kind(QfsReplica *replica, const char *key, int *out_kind, GError **error);

gboolean qfs_record_store_remove(QfsReplica *replica, const char *key, GError **error);
gboolean qfs_record_store_scan(QfsReplica *replica, guint64 after_seq, const char *after_key,
                               guint limit, GPtrArray *out, gboolean *out_more, GError **error);
gboolean qfs_record_store_tombstone_scan(QfsReplica *replica, guint64 after_seq,
                                         const char *after_key, guint limit, GPtrArray *out,
                                         gboolean *out_more, GError **error);
gboolean qfs_record_store_list(QfsReplica *replica, const char *dir, const char *after, guint limit, gboolean whole,
                               GPtrArray *out, gboolean *out_more, GError **error);
gboolean qfs_record_store_live_dir(QfsReplica *replica, const char *from, char **out_dir, GError **error);
gboolean qfs_record_store_object_records(QfsReplica *replica, QfsObjectId object, GPtrArray *out,
                                         GError **error);
gboolean qfs_record_store_wipe(QfsConnection *connection, GError **error);

G_END_DECLS
