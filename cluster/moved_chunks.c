/* moved_chunks.c - chunks of values that are given another key.
 *
 * Chunks are at the holders of the key that their object was made for, which is its home; a record is at those of its
 * own key. At home whoever has a record has all its chunk rows that are not settled (flight.c). Elsewhere nobody need
 * have any, and after a loss of power a record could be all that is left of a value. So what a record away from home names
 * is on stable storage at W holders before anybody gets the record: it is synced before a record leaves, or before pieces
 * staged for a link are published where that leads (here). Later writes ask for it (op_write.c, recovery.c).
 */
#include "cluster/private.h"

gboolean qfs_record_is_away(const QfsRecord *record) {
  return !qfs_object_is_none(record->object) && record->object.placement != qfs_key_hash(record->key);
}

static gboolean must_sync(const QfsCoordinator *c, const QfsOp *op, const QfsRecord *record) {
  return qfs_record_exists(record) && !qfs_object_is_none(record->object) && !qfs_record_is_away(record) &&
         record->seq > c->settled && record->seq > op->synced;
}

static void synced(QfsCoordinator *c, QfsStatus status, gpointer data) {
  QfsOp *op = data;
  op->syncing = FALSE;
  if (!op->dead && status == QFS_OK) {
    op->synced = op->synced_next;
    op->step(c, op);
  } else if (!op->dead) {
    qfs_op_finish(c, op, QFS_NO_QUORUM); /* nothing was sent */
  }
  qfs_op_unref(c, op);
}

static gboolean sync_begins(QfsCoordinator *c, QfsOp *op, const char *key, guint64 synced_next) {
  op->syncing = TRUE;
  op->synced_next = synced_next;
  qfs_sync(c, key, synced, qfs_op_ref(op));
  return FALSE;
}

gboolean qfs_op_sync_staged(QfsCoordinator *c, QfsOp *op) {
  if (op->syncing)
    return FALSE;
  if ((op->request->flags & QFS_WRITE_STAGED) == 0 || !qfs_record_is_away(op->result) || op->synced > 0)
    return TRUE;
  return sync_begins(c, op, NULL, c->last_seq);
}

gboolean qfs_op_sync_moved(QfsCoordinator *c, QfsOp *op, QfsRecord *const *records, guint n) {
  const QfsRecord *first = NULL;
  gboolean one = TRUE;
  if (op->syncing)
    return FALSE;
  for (guint i = 0; i < n; i++) {
    if (!must_sync(c, op, records[i]))
      continue;
    QfsKey *key = qfs_key_find(c, records[i]->key);
    if (key != NULL && !qfs_key_wait_acked(key, op)) /* SYNC takes what is acknowledged */
      return FALSE;
    one = first == NULL;
    first = first == NULL || records[i]->seq > first->seq ? records[i] : first;
  }
  if (first == NULL)
    return TRUE;
  return sync_begins(c, op, one ? first->key : NULL, first->seq);
}
