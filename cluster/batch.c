/* batch.c - several keys changed in one step, behind an intent.
 *
 *   plan (the op's own file: new, add, leave) -> send: intent on W holders of all -> commit on W holders of all
 *
 * The intent is the commit point: a holder that has it applies its part when told, and recovery rolls forward every
 * intent that it finds, so after a crash all parts are there or none. Only records move; chunks stay where
 * their object id says.
 */
#include "cluster/private.h"

struct QfsBatch {
  GPtrArray *keys;    /* QfsKey, in use */
  GPtrArray *records; /* their new versions */
  GArray *left;       /* QfsObjectId: of values that go */
  QfsBatchDone done;
};

static void batch_free(gpointer data) {
  QfsBatch *batch = data;
  g_ptr_array_unref(batch->keys); /* given back before: release_keys */
  g_ptr_array_unref(batch->records);
  g_array_unref(batch->left);
  g_free(batch);
}

QfsBatch *qfs_batch_new(QfsOp *op) {
  g_assert(op->extra == NULL);
  QfsBatch *batch = g_new0(QfsBatch, 1);
  batch->keys = g_ptr_array_new();
  batch->records = qfs_records_new();
  batch->left = g_array_new(FALSE, FALSE, sizeof(QfsObjectId));
  op->extra = batch;
  op->extra_free = batch_free;
  return batch;
}

void qfs_batch_add(QfsCoordinator *c, QfsBatch *batch, QfsRecord *base, QfsRecord *record) {
  QfsKey *key = qfs_key_use(c, record->key);
  qfs_key_set_base(key, base);
  g_ptr_array_add(batch->keys, key);
  g_ptr_array_add(batch->records, record);
}

void qfs_batch_leave(QfsBatch *batch, const QfsRecord *record) {
  if (record != NULL && !qfs_object_is_none(record->object))
    g_array_append_val(batch->left, record->object);
}

static void release_keys(QfsCoordinator *c, QfsOp *op) {
  const QfsBatch *batch = op->extra;
  for (guint i = 0; i < batch->keys->len; i++)
    qfs_key_done(c, batch->keys->pdata[i]);
  g_ptr_array_set_size(batch->keys, 0);
}

static guint64 *hashes_of(const QfsBatch *batch) {
  guint64 *hashes = g_new(guint64, batch->keys->len);
  for (guint i = 0; i < batch->keys->len; i++)
    hashes[i] = ((const QfsKey *)batch->keys->pdata[i])->hash;
  return hashes;
}

static void committed(QfsCoordinator *c, QfsFlight *flight, gpointer data) {
  QfsOp *op = data;
  const QfsBatch *batch = op->extra;
  qfs_op_ref(op);
  for (guint i = 0; i < batch->keys->len; i++)
    qfs_key_acked(c, batch->keys->pdata[i], batch->records->pdata[i]);
  qfs_op_tell(c, op);
  if (op->request != NULL)
    batch->done(c, op);
  qfs_garbage_add_intent(c, flight->seq, flight->message->id);
  for (guint i = 0; i < batch->left->len; i++)
    qfs_garbage_add(c, flight->seq, QFS_DISCARD_OBJECT, g_array_index(batch->left, QfsObjectId, i), NULL);
  qfs_subtree_release(c, op, TRUE);
  qfs_op_finish(c, op, QFS_OK);
  qfs_op_release(c, op);
  qfs_op_unref(c, op);
}

static void complete(QfsCoordinator *c, QfsFlight *flight, gpointer data) { qfs_op_unref(c, data); }

static void commit_complete(QfsCoordinator *c, QfsFlight *flight, gpointer data) {
  release_keys(c, data);
  qfs_op_unref(c, data);
}

static void intended(QfsCoordinator *c, QfsFlight *flight, gpointer data) {
  QfsOp *op = data;
  const QfsBatch *batch = op->extra;
  QfsMessage *message = qfs_message_new(QFS_MESSAGE_COMMIT, 0);
  message->durable = flight->message->durable;
  message->id = flight->message->id;
  /* The rows carry the number of the flight that brings them: catch-up goes by it. */
  guint64 seq = qfs_next_seq(c);
  message->records = qfs_records_new();
  for (guint i = 0; i < batch->keys->len; i++) { /* without what the intent carries beside */
    QfsRecord *copy = qfs_record_copy(flight->message->records->pdata[i]);
    copy->seq = seq;
    g_ptr_array_add(message->records, copy);
  }
  g_autofree guint64 *hashes = hashes_of(batch);
  qfs_flight_start(c, message, hashes, batch->keys->len, TRUE, qfs_op_ref(op), committed, commit_complete, NULL);
}

static void refused(QfsCoordinator *c, QfsFlight *flight, gpointer data) {
  QfsOp *op = data;
  const QfsBatch *batch = op->extra;
  for (guint i = 0; i < batch->keys->len; i++) /* nobody built on these versions */
    qfs_key_take_back(c, batch->keys->pdata[i], flight);
  release_keys(c, op);
  qfs_op_finish(c, op, QFS_NO_SPACE);
  qfs_op_release(c, op);
  qfs_op_unref(c, op);
}

static gboolean all_have_quorum(QfsCoordinator *c, const QfsOp *op, const QfsBatch *batch) {
  QfsNodeSet given_up = qfs_op_given_up(c, op, qfs_peers_silent(c));
  for (guint i = 0; i < batch->keys->len; i++)
    if (!qfs_key_has_quorum(c, batch->keys->pdata[i], given_up))
      return FALSE;
  return TRUE;
}

/* ---- what an intent carries beside its own records ---- */

typedef struct {
  GPtrArray *records;
  guint n_own;     /* the first of them */
  GHashTable *at;  /* key -> its place in `records`, from 1 */
} Carrier;

static void carrier_note(Carrier *carrier, guint place) {
  QfsRecord *record = carrier->records->pdata[place - 1];
  g_hash_table_replace(carrier->at, record->key, GUINT_TO_POINTER(place));
}

static guint carrier_find(const Carrier *carrier, const QfsRecord *record) {
  return GPOINTER_TO_UINT(g_hash_table_lookup(carrier->at, record->key));
}

static gboolean has_own_key(const Carrier *carrier, const GPtrArray *earlier) {
  for (guint i = 0; i < earlier->len; i++) {
    const guint place = carrier_find(carrier, earlier->pdata[i]);
    if (place != 0 && place <= carrier->n_own)
      return TRUE;
  }
  return FALSE;
}

static void carry_records(Carrier *carrier, const GPtrArray *earlier) {
  for (guint i = 0; i < earlier->len; i++) {
    QfsRecord *record = earlier->pdata[i];
    guint place = carrier_find(carrier, record);
    if (place == 0) {
      g_ptr_array_add(carrier->records, qfs_record_ref(record));
      carrier_note(carrier, carrier->records->len);
    } else if (qfs_record_compare(record, carrier->records->pdata[place - 1]) > 0) {
      QfsRecord *older = carrier->records->pdata[place - 1];
      carrier->records->pdata[place - 1] = qfs_record_ref(record);
      carrier_note(carrier, place); /* before the older one goes: the table's key is its */
      qfs_record_unref(older);
    }
  }
}

/* A power failure may take an earlier batch from all who have it, and leave this one, which wrote over a part of it, at
 * a node that was not told of the earlier: rolled forward there, it would bring that part back and not the others. So
 * this intent says them too, by their own numbers, which says in turn what that one carried. */
static void carry_earlier(QfsCoordinator *c, QfsMessage *message, QfsNodeSet targets) {
  const GQueue *queues[] = {&c->retained, &c->flights}; /* all that are not settled */
  Carrier carrier = {message->records, message->records->len, NULL};
  for (guint q = 0; q < G_N_ELEMENTS(queues); q++)
    for (const GList *link = queues[q]->head; link != NULL; link = link->next) {
      const QfsFlight *flight = link->data;
      if (flight->message->type != QFS_MESSAGE_INTENT || (targets & ~flight->acked) == 0)
        continue;
      if (carrier.at == NULL) {
        carrier.at = g_hash_table_new(g_str_hash, g_str_equal);
        for (guint place = 1; place <= carrier.n_own; place++)
          carrier_note(&carrier, place);
      }
      if (has_own_key(&carrier, flight->message->records))
        carry_records(&carrier, flight->message->records);
    }
  g_clear_pointer(&carrier.at, g_hash_table_unref);
}

static QfsNodeSet targets_of(QfsCoordinator *c, const guint64 *hashes, guint n) {
  const QfsFlight probe = {.hashes = (guint64 *)hashes, .n_hashes = n};
  return qfs_flight_targets(c, &probe);
}

void qfs_batch_send(QfsCoordinator *c, QfsOp *op, QfsBatch *batch, gboolean durable, QfsBatchDone done) {
  batch->done = done;
  if (!all_have_quorum(c, op, batch)) {
    release_keys(c, op);
    qfs_op_finish(c, op, QFS_NO_QUORUM);
    return;
  }
  op->sent = TRUE;
  guint64 seq = qfs_next_seq(c);
  QfsMessage *message = qfs_message_new(QFS_MESSAGE_INTENT, 0);
  message->durable = durable || c->config.sync;
  message->id = seq;
  message->records = qfs_records_new();
  for (guint i = 0; i < batch->keys->len; i++) {
    QfsKey *key = batch->keys->pdata[i];
    QfsRecord *record = batch->records->pdata[i];
    record->seq = seq;
    g_assert(qfs_record_compare(record, key->newest) > 0); /* C2 */
    qfs_record_unref(key->newest);
    key->newest = qfs_record_ref(record);
    qfs_key_bump(c, key->hash);
    g_ptr_array_add(message->records, qfs_record_ref(record));
  }
  g_autofree guint64 *hashes = hashes_of(batch);
  carry_earlier(c, message, targets_of(c, hashes, batch->keys->len));
  qfs_wake_at(c, op->deadline_us);
  qfs_flight_start(c, message, hashes, batch->keys->len, FALSE, qfs_op_ref(op), intended, complete, refused);
}
