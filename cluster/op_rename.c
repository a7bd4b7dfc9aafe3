/* op_rename.c - RENAME: several keys in one step, behind an intent.
 *
 *   lock both -> bases -> checks -> parent -> trees -> intent on W holders of all -> commit on W holders of all
 *
 * The batch is the two keys, and for directories whatever is below them (subtree.c). The intent is the commit point: a
 * holder that has it applies its part when told, and recovery rolls forward every intent that it finds, so
 * after a crash all parts are there or none. Only records move; their chunks stay where the object id says.
 */
#include "cluster/private.h"

#include <string.h>

enum { LOCK, SOURCE, TARGET, PARENT, TREE, READING, PLAN, SENT };

typedef struct {
  GPtrArray *keys;    /* QfsKey, in use */
  GPtrArray *records; /* their new versions */
} Batch;

static void rename_step(QfsCoordinator *c, QfsOp *op);

static gboolean exchanges(const QfsOp *op) { return (op->request->flags & QFS_RENAME_EXCHANGE) != 0; }

/* ---- what is there ---- */

static void fetched(QfsCoordinator *c, QfsOp *op, QfsStatus status, QfsKey *key, QfsRecord *record) {
  if (!op->dead) {
    if (status != QFS_OK) {
      qfs_op_finish(c, op, status);
    } else {
      qfs_key_set_base(key, record);
      rename_step(c, op);
    }
  }
  qfs_op_unref(c, op);
}

static void source_fetched(QfsCoordinator *c, QfsStatus status, QfsRecord *record, gpointer data) {
  fetched(c, data, status, ((QfsOp *)data)->key, record);
}

static void target_fetched(QfsCoordinator *c, QfsStatus status, QfsRecord *record, gpointer data) {
  fetched(c, data, status, ((QfsOp *)data)->key2, record);
}

static void parent_fetched(QfsCoordinator *c, QfsStatus status, QfsRecord *record, gpointer data) {
  QfsOp *op = data;
  if (!op->dead) {
    if (status == QFS_OK)
      status = qfs_check_parent(op->key2->key, record);
    if (status != QFS_OK) {
      qfs_op_finish(c, op, status);
    } else {
      op->stage = TREE;
      rename_step(c, op);
    }
  }
  qfs_op_unref(c, op);
}

static QfsStatus check_kinds(const QfsOp *op) {
  const QfsRecord *from = op->key->newest, *to = op->key2->newest;
  if (!qfs_record_exists(from))
    return QFS_NOT_FOUND;
  if (qfs_key_below(op->key->key, op->key2->key) != NULL && from->kind == QFS_KIND_DIRECTORY)
    return QFS_INVALID; /* into itself */
  if (exchanges(op)) {
    if (!qfs_record_exists(to))
      return QFS_NOT_FOUND;
    return qfs_key_below(op->key2->key, op->key->key) != NULL ? QFS_INVALID : QFS_OK;
  }
  if (!qfs_record_exists(to))
    return QFS_OK;
  if (op->request->flags & QFS_RENAME_NOREPLACE)
    return QFS_EXISTS;
  if (qfs_key_below(op->key2->key, op->key->key) != NULL)
    return QFS_NOT_EMPTY;
  if (from->kind == QFS_KIND_DIRECTORY)
    return to->kind == QFS_KIND_DIRECTORY ? QFS_OK : QFS_NOT_DIRECTORY;
  return to->kind == QFS_KIND_DIRECTORY ? QFS_IS_DIRECTORY : QFS_OK;
}

static gboolean check_base(QfsCoordinator *c, QfsOp *op) {
  QfsStatus status = check_kinds(op);
  if (status == QFS_OK)
    return TRUE;
  if (qfs_key_wait_acked(op->key, op) && qfs_key_wait_acked(op->key2, op))
    qfs_op_finish(c, op, status);
  return FALSE;
}

/* ---- the batch ---- */

static void batch_free(gpointer data) {
  Batch *batch = data;
  g_ptr_array_unref(batch->keys); /* given back before: release_keys */
  g_ptr_array_unref(batch->records);
  g_free(batch);
}

static void add(QfsCoordinator *c, Batch *batch, const char *name, QfsRecord *base, QfsRecord *record) {
  QfsKey *key = qfs_key_use(c, name);
  qfs_key_set_base(key, base);
  g_ptr_array_add(batch->keys, key);
  g_ptr_array_add(batch->records, record);
}

static QfsRecord *moved(const QfsOp *op, const QfsRecord *from, const char *name) {
  QfsRecord *record = qfs_record_successor(from);
  g_free(record->key);
  record->key = g_strdup(name);
  record->timestamp = op->timestamp;
  return record;
}

/* One of the two that the request names. */
static QfsRecord *moved_itself(const QfsOp *op, const QfsRecord *from, const char *name) {
  QfsRecord *record = moved(op, from, name);
  if (op->request->now_ns != 0)
    record->attr.ctime_ns = op->request->now_ns;
  return record;
}

static gboolean is_tree(const QfsOp *op) {
  const QfsRecord *from = op->key->newest, *to = op->key2->newest;
  return from->kind == QFS_KIND_DIRECTORY || (to != NULL && to->kind == QFS_KIND_DIRECTORY);
}

static void add_tree(QfsCoordinator *c, const QfsOp *op, Batch *batch, GPtrArray *records) {
  for (guint i = 0; i < records->len; i++) {
    QfsRecord *record = records->pdata[i];
    if (!qfs_record_exists(record))
      continue;
    g_autofree char *name = qfs_subtree_other(c, record->key);
    QfsRecord *there = qfs_subtree_find(c, name);
    add(c, batch, name, there, moved(op, record, name));
    if (!qfs_record_exists(there))
      add(c, batch, record->key, record, qfs_op_tombstone(c, op, record->key));
  }
}

static guint64 newest_timestamp(const QfsOp *op, const GPtrArray *records) {
  const QfsRecord *from = op->key->newest, *to = op->key2->newest;
  guint64 newest = MAX(from->timestamp, to != NULL ? to->timestamp : 0);
  for (guint i = 0; records != NULL && i < records->len; i++)
    newest = MAX(newest, ((const QfsRecord *)records->pdata[i])->timestamp);
  return newest;
}

/* FALSE: parked or answered. */
static gboolean plan(QfsCoordinator *c, QfsOp *op) {
  g_autoptr(GPtrArray) records = is_tree(op) ? qfs_subtree_records(c) : NULL;
  QfsRecord *from = op->key->newest, *to = op->key2->newest;
  if (!qfs_op_timestamp(c, op, newest_timestamp(op, records)))
    return FALSE;
  op->base2 = to != NULL ? qfs_record_ref(to) : NULL;
  op->result = exchanges(op) ? moved_itself(op, to, op->key->key) : qfs_op_tombstone(c, op, op->key->key);
  op->result2 = moved_itself(op, from, op->key2->key);
  Batch *batch = g_new(Batch, 1);
  batch->keys = g_ptr_array_new();
  batch->records = qfs_records_new();
  add(c, batch, op->key->key, from, qfs_record_ref(op->result));
  add(c, batch, op->key2->key, to, qfs_record_ref(op->result2));
  if (records != NULL)
    add_tree(c, op, batch, records);
  op->extra = batch;
  op->extra_free = batch_free;
  return TRUE;
}

static void release_keys(QfsCoordinator *c, QfsOp *op) {
  const Batch *batch = op->extra;
  for (guint i = 0; i < batch->keys->len; i++)
    qfs_key_done(c, batch->keys->pdata[i]);
  g_ptr_array_set_size(batch->keys, 0);
}

static guint64 *hashes_of(const Batch *batch) {
  guint64 *hashes = g_new(guint64, batch->keys->len);
  for (guint i = 0; i < batch->keys->len; i++)
    hashes[i] = ((const QfsKey *)batch->keys->pdata[i])->hash;
  return hashes;
}

static void committed(QfsCoordinator *c, QfsFlight *flight, gpointer data) {
  QfsOp *op = data;
  const Batch *batch = op->extra;
  qfs_op_ref(op);
  for (guint i = 0; i < batch->keys->len; i++)
    qfs_key_acked(c, batch->keys->pdata[i], batch->records->pdata[i]);
  qfs_op_tell(c, op);
  gboolean exchanged = qfs_record_exists(op->result);
  if (op->request != NULL) {
    op->request->record = qfs_record_ref(op->result2);
    if (exchanged)
      op->request->replaced = qfs_record_ref(op->result);
    else if (qfs_record_exists(op->base2))
      op->request->replaced = qfs_record_ref(op->base2);
  }
  qfs_garbage_add_intent(c, flight->seq, flight->message->id);
  if (!exchanged && op->base2 != NULL && !qfs_object_is_none(op->base2->object))
    qfs_garbage_add(c, flight->seq, QFS_DISCARD_OBJECT, op->base2->object, NULL);
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
  const Batch *batch = op->extra;
  QfsMessage *message = qfs_message_new(QFS_MESSAGE_COMMIT, 0);
  message->durable = flight->message->durable;
  message->id = flight->message->id;
  /* The rows carry the number of the flight that brings them: catch-up goes by it. */
  guint64 seq = qfs_next_seq(c);
  message->records = qfs_records_new();
  for (guint i = 0; i < flight->message->records->len; i++) {
    QfsRecord *copy = qfs_record_copy(flight->message->records->pdata[i]);
    copy->seq = seq;
    g_ptr_array_add(message->records, copy);
  }
  g_autofree guint64 *hashes = hashes_of(batch);
  qfs_flight_start(c, message, hashes, batch->keys->len, TRUE, qfs_op_ref(op), committed, commit_complete, NULL);
}

static void refused(QfsCoordinator *c, QfsFlight *flight, gpointer data) {
  QfsOp *op = data;
  const Batch *batch = op->extra;
  for (guint i = 0; i < batch->keys->len; i++) { /* nobody built on these versions */
    QfsKey *key = batch->keys->pdata[i];
    qfs_record_unref(key->newest);
    key->newest = key->acked != NULL ? qfs_record_ref(key->acked) : NULL;
  }
  release_keys(c, op);
  qfs_op_finish(c, op, QFS_NO_SPACE);
  qfs_op_release(c, op);
  qfs_op_unref(c, op);
}

static gboolean all_have_quorum(QfsCoordinator *c, const Batch *batch) {
  for (guint i = 0; i < batch->keys->len; i++)
    if (!qfs_key_has_quorum(c, batch->keys->pdata[i]))
      return FALSE;
  return TRUE;
}

static void send_batch(QfsCoordinator *c, QfsOp *op) {
  if (!plan(c, op))
    return;
  const Batch *batch = op->extra;
  if (!all_have_quorum(c, batch)) {
    release_keys(c, op);
    qfs_op_finish(c, op, QFS_NO_QUORUM);
    return;
  }
  op->change = QFS_CHANGE_RENAME;
  op->stage = SENT;
  op->sent = TRUE;
  guint64 seq = qfs_next_seq(c);
  QfsMessage *message = qfs_message_new(QFS_MESSAGE_INTENT, 0);
  message->durable = c->config.sync;
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
  qfs_wake_at(c, op->deadline_us);
  qfs_flight_start(c, message, hashes, batch->keys->len, FALSE, qfs_op_ref(op), intended, complete, refused);
}

/* ---- steps ---- */

static void tree_read(QfsCoordinator *c, QfsStatus status, gpointer data) {
  QfsOp *op = data;
  if (op->request != NULL) {
    if (status == QFS_OK && !exchanges(op) && qfs_subtree_has(c, op->key2->key))
      status = QFS_NOT_EMPTY;
    if (status != QFS_OK) {
      qfs_op_finish(c, op, status);
    } else {
      op->stage = PLAN;
      rename_step(c, op);
    }
  }
  qfs_op_unref(c, op);
}

/* FALSE: parked, waiting or answered. */
static gboolean read_bases(QfsCoordinator *c, QfsOp *op) {
  if (!op->key->have_base) {
    op->stage = SOURCE;
    qfs_fetch(c, op->key->key, source_fetched, qfs_op_ref(op));
    return FALSE;
  }
  if (!op->key2->have_base) {
    op->stage = TARGET;
    qfs_fetch(c, op->key2->key, target_fetched, qfs_op_ref(op));
    return FALSE;
  }
  const char *to = op->key2->key;
  if (!check_base(c, op))
    return FALSE;
  if (exchanges(op) || to[0] == '/') {
    op->stage = TREE;
    return TRUE;
  }
  if (!qfs_op_begin_creating(c, op, to))
    return FALSE;
  op->stage = PARENT;
  g_autofree char *parent = qfs_key_parent(to);
  qfs_fetch(c, parent, parent_fetched, qfs_op_ref(op));
  return FALSE;
}

static void rename_step(QfsCoordinator *c, QfsOp *op) {
  if (qfs_op_is_dead(c, op) || op->stage == READING || op->stage == SENT || !qfs_op_lock_keys(c, op))
    return;
  if (op->stage == LOCK && !qfs_op_may_write(c, op))
    return;
  if (op->stage < PARENT && !read_bases(c, op))
    return;
  if (op->stage == TREE) {
    if (is_tree(op)) {
      if (qfs_subtree_claim(c, op, op->key->key, op->key2->key, exchanges(op)) && qfs_subtree_is_quiet(c, op)) {
        op->stage = READING;
        qfs_subtree_read(c, tree_read, qfs_op_ref(op));
      }
      return;
    }
    op->stage = PLAN;
  }
  if (op->stage == PLAN && qfs_op_may_write(c, op))
    send_batch(c, op);
}

void qfs_op_rename(QfsCoordinator *c, QfsRequest *request) {
  c->stat.renames++;
  QfsOp *op = qfs_op_new(c, request, rename_step);
  op->key = qfs_key_use(c, request->key);
  if (strcmp(request->key, request->key2) == 0) { /* rename(2): nothing to do */
    op->sent = FALSE;
    qfs_op_finish(c, op, QFS_OK);
    return;
  }
  op->key2 = qfs_key_use(c, request->key2);
  rename_step(c, op);
}
