/* keys.c - what is in memory of a key while something about it is under way.
 *
 * A QfsKey lives while an op plans on it or a flight of it is not complete. `acked` is then the newest
 * acknowledged version, so gets are answered from memory; ops plan one after another (the plan lock),
 * each on `newest`, and may be in flight together.
 */
#include "cluster/private.h"

#include <string.h>

QfsKey *qfs_key_find(QfsCoordinator *c, const char *key) { return g_hash_table_lookup(c->keys, key); }

QfsKey *qfs_key_use(QfsCoordinator *c, const char *name) {
  QfsKey *key = qfs_key_find(c, name);
  if (key == NULL) {
    key = g_slice_new0(QfsKey);
    key->key = g_strdup(name);
    key->hash = qfs_key_hash(name);
    g_queue_init(&key->waiting);
    g_queue_init(&key->ack_waiters);
    g_hash_table_insert(c->keys, key->key, key);
  }
  key->uses++;
  return key;
}

void qfs_key_done(QfsCoordinator *c, QfsKey *key) {
  g_assert(key->uses > 0);
  if (--key->uses > 0)
    return;
  g_assert(key->planner == NULL && g_queue_is_empty(&key->waiting));
  qfs_key_bump(c, key->hash);
  if (key->have_base && key->newest == key->acked)
    qfs_recent_note(c, key->acked, key->hash);
  g_hash_table_remove(c->keys, key->key);
  qfs_record_unref(key->acked);
  qfs_record_unref(key->newest);
  g_free(key->key);
  g_slice_free(QfsKey, key);
}

gboolean qfs_key_lock(QfsKey *key, QfsOp *op) {
  if (key->planner == op)
    return TRUE;
  if (key->planner == NULL) {
    key->planner = op;
    return TRUE;
  }
  g_queue_push_tail(&key->waiting, qfs_op_ref(op));
  return FALSE;
}

void qfs_key_unlock(QfsCoordinator *c, QfsKey *key, QfsOp *op) {
  g_assert(key->planner == op);
  QfsOp *next = g_queue_pop_head(&key->waiting);
  key->planner = next;
  if (next != NULL) {
    next->step(c, next);
    qfs_op_unref(c, next);
  }
}

gboolean qfs_key_wait_acked(QfsKey *key, QfsOp *op) {
  if (!key->have_base || key->newest == key->acked)
    return TRUE;
  g_queue_push_tail(&key->ack_waiters, qfs_op_ref(op));
  return FALSE;
}

void qfs_key_acked(QfsCoordinator *c, QfsKey *key, QfsRecord *record) {
  if (qfs_record_compare(record, key->acked) > 0) {
    qfs_record_unref(key->acked);
    key->acked = qfs_record_ref(record);
    qfs_key_bump(c, key->hash);
  }
  key->uses++; /* the waiters may end with the key's last use */
  GQueue waiters = key->ack_waiters;
  g_queue_init(&key->ack_waiters);
  for (QfsOp *op = g_queue_pop_head(&waiters); op != NULL; op = g_queue_pop_head(&waiters)) {
    op->step(c, op);
    qfs_op_unref(c, op);
  }
  qfs_key_done(c, key);
}

/* Earlier writes may be on their way still; none of them is part of a batch, which keeps its keys locked. */
void qfs_key_take_back(QfsCoordinator *c, QfsKey *key, const QfsFlight *refused) {
  QfsRecord *newest = key->acked;
  for (const GList *link = c->flights.head; link != NULL; link = link->next) {
    const QfsFlight *flight = link->data;
    if (flight == refused || flight->message->type != QFS_MESSAGE_APPLY)
      continue;
    QfsRecord *record = flight->message->records->pdata[0];
    if (strcmp(record->key, key->key) == 0 && qfs_record_compare(record, newest) > 0)
      newest = record;
  }
  if (newest != NULL)
    qfs_record_ref(newest);
  qfs_record_unref(key->newest);
  key->newest = newest;
}

void qfs_key_set_base(QfsKey *key, QfsRecord *record) {
  if (key->have_base)
    return;
  key->have_base = TRUE;
  key->acked = record != NULL ? qfs_record_ref(record) : NULL;
  key->newest = record != NULL ? qfs_record_ref(record) : NULL;
}

guint64 qfs_key_counter(QfsCoordinator *c, guint64 hash) {
  return c->key_counters[hash % QFS_KEY_COUNTERS];
}

void qfs_key_bump(QfsCoordinator *c, guint64 hash) { c->key_counters[hash % QFS_KEY_COUNTERS]++; }
