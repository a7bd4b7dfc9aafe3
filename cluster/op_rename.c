/* op_rename.c - RENAME: two keys in one step, behind an intent.
 *
 *   lock both -> bases -> checks -> intent on W holders of both -> commit on W holders of both
 *
 * The intent is the commit point: a holder that has it applies its part when told, and recovery rolls
 * forward every intent that it finds, so after a crash both parts are there or none. Only the record
 * moves; its chunks stay where the object id says.
 */
#include "cluster/private.h"

#include <string.h>

enum { LOCK, SOURCE, TARGET, PARENT, EMPTY_SOURCE, EMPTY_TARGET, PLAN, SENT };

static void rename_step(QfsCoordinator *c, QfsOp *op);

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
      op->stage = EMPTY_SOURCE;
      rename_step(c, op);
    }
  }
  qfs_op_unref(c, op);
}

static void emptiness_known(QfsCoordinator *c, QfsStatus status, gboolean empty, gpointer data) {
  QfsOp *op = data;
  if (!op->dead) {
    if (status == QFS_OK && !empty)
      status = op->stage == EMPTY_SOURCE ? QFS_CROSS : QFS_NOT_EMPTY;
    if (status != QFS_OK) {
      qfs_op_finish(c, op, status);
    } else {
      op->stage++;
      rename_step(c, op);
    }
  }
  qfs_op_unref(c, op);
}

static QfsStatus check_kinds(const QfsOp *op) {
  const QfsRecord *from = op->key->newest, *to = op->key2->newest;
  if (!qfs_record_exists(from))
    return QFS_NOT_FOUND;
  if (from->kind == QFS_KIND_DIRECTORY) {
    gsize len = strlen(op->key->key);
    if (strncmp(op->key2->key, op->key->key, len) == 0 && op->key2->key[len] == '/')
      return QFS_INVALID; /* into itself */
  }
  if (!qfs_record_exists(to))
    return QFS_OK;
  if (op->request->flags & QFS_RENAME_NOREPLACE)
    return QFS_EXISTS;
  if (from->kind == QFS_KIND_DIRECTORY)
    return to->kind == QFS_KIND_DIRECTORY ? QFS_OK : QFS_NOT_DIRECTORY;
  return to->kind == QFS_KIND_DIRECTORY ? QFS_IS_DIRECTORY : QFS_OK;
}

/* ---- the batch ---- */

static void committed(QfsCoordinator *c, QfsFlight *flight, gpointer data) {
  QfsOp *op = data;
  qfs_op_ref(op);
  qfs_key_acked(c, op->key, op->result);
  qfs_key_acked(c, op->key2, op->result2);
  qfs_op_tell(c, op);
  if (op->request != NULL) {
    op->request->record = qfs_record_ref(op->result2);
    if (qfs_record_exists(op->base2))
      op->request->replaced = qfs_record_ref(op->base2);
  }
  qfs_garbage_add_intent(c, flight->seq, flight->message->id);
  if (op->base2 != NULL && !qfs_object_is_none(op->base2->object))
    qfs_garbage_add(c, flight->seq, QFS_DISCARD_OBJECT, op->base2->object, NULL);
  qfs_op_finish(c, op, QFS_OK);
  qfs_op_release(c, op);
  qfs_op_unref(c, op);
}

static void complete(QfsCoordinator *c, QfsFlight *flight, gpointer data) { qfs_op_unref(c, data); }

static void intended(QfsCoordinator *c, QfsFlight *flight, gpointer data) {
  QfsOp *op = data;
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
  guint64 hashes[2] = {op->key->hash, op->key2->hash};
  qfs_flight_start(c, message, hashes, 2, TRUE, qfs_op_ref(op), committed, complete, NULL);
}

static void refused(QfsCoordinator *c, QfsFlight *flight, gpointer data) {
  QfsOp *op = data;
  QfsKey *keys[2] = {op->key, op->key2};
  for (guint i = 0; i < 2; i++) { /* both are locked until now: nobody built on these versions */
    qfs_record_unref(keys[i]->newest);
    keys[i]->newest = keys[i]->acked != NULL ? qfs_record_ref(keys[i]->acked) : NULL;
  }
  qfs_op_finish(c, op, QFS_NO_SPACE);
  qfs_op_release(c, op);
  qfs_op_unref(c, op);
}

static void set_newest(QfsCoordinator *c, QfsKey *key, QfsRecord *record) {
  g_assert(qfs_record_compare(record, key->newest) > 0); /* C2 */
  qfs_record_unref(key->newest);
  key->newest = qfs_record_ref(record);
  qfs_key_bump(c, key->hash);
}

static void send_batch(QfsCoordinator *c, QfsOp *op) {
  QfsRecord *from = op->key->newest, *to = op->key2->newest;
  guint64 above = MAX(from->timestamp, to != NULL ? to->timestamp : 0);
  if (!qfs_op_timestamp(c, op, above))
    return;
  op->base = qfs_record_ref(from);
  op->base2 = to != NULL ? qfs_record_ref(to) : NULL;
  op->result = qfs_op_tombstone(c, op);
  op->result2 = qfs_record_successor(from);
  g_free(op->result2->key);
  op->result2->key = g_strdup(op->key2->key);
  op->result2->timestamp = op->timestamp;
  if (op->request->now_ns != 0)
    op->result2->attr.ctime_ns = op->request->now_ns;
  op->change = QFS_CHANGE_RENAME;
  op->stage = SENT;
  op->sent = TRUE;
  guint64 seq = qfs_next_seq(c);
  op->result->seq = op->result2->seq = seq;
  set_newest(c, op->key, op->result);
  set_newest(c, op->key2, op->result2);
  QfsMessage *message = qfs_message_new(QFS_MESSAGE_INTENT, 0);
  message->durable = c->config.sync;
  message->id = seq;
  message->records = qfs_records_new();
  g_ptr_array_add(message->records, qfs_record_ref(op->result));
  g_ptr_array_add(message->records, qfs_record_ref(op->result2));
  guint64 hashes[2] = {op->key->hash, op->key2->hash};
  qfs_wake_at(c, op->deadline_us);
  qfs_flight_start(c, message, hashes, 2, FALSE, qfs_op_ref(op), intended, complete, refused);
}

/* ---- steps ---- */

static gboolean check_base(QfsCoordinator *c, QfsOp *op) {
  QfsStatus status = check_kinds(op);
  if (status == QFS_OK && strcmp(op->key->key, op->key2->key) == 0)
    status = QFS_INVALID;
  if (status == QFS_OK)
    return TRUE;
  if (qfs_key_wait_acked(op->key, op) && qfs_key_wait_acked(op->key2, op))
    qfs_op_finish(c, op, status);
  return FALSE;
}

static void check_empty(QfsCoordinator *c, QfsOp *op) {
  QfsKey *key = op->stage == EMPTY_SOURCE ? op->key : op->key2;
  if (!qfs_record_exists(key->newest) || key->newest->kind != QFS_KIND_DIRECTORY) {
    op->stage++;
    rename_step(c, op);
    return;
  }
  qfs_list_is_empty(c, key->key, emptiness_known, qfs_op_ref(op));
}

static void rename_step(QfsCoordinator *c, QfsOp *op) {
  if (qfs_op_is_dead(c, op) || op->stage == SENT || !qfs_op_lock_keys(c, op))
    return;
  if (op->stage == LOCK && !qfs_op_may_write(c, op))
    return;
  if (op->stage < PARENT) {
    if (!op->key->have_base) {
      op->stage = SOURCE;
      qfs_fetch(c, op->key->key, source_fetched, qfs_op_ref(op));
      return;
    }
    if (!op->key2->have_base) {
      op->stage = TARGET;
      qfs_fetch(c, op->key2->key, target_fetched, qfs_op_ref(op));
      return;
    }
    const char *to = op->key2->key;
    if (!check_base(c, op) || !qfs_op_begin_creating(c, op, to))
      return;
    op->stage = PARENT;
    if (to[0] != '/') {
      g_autofree char *parent = qfs_key_parent(to);
      qfs_fetch(c, parent, parent_fetched, qfs_op_ref(op));
      return;
    }
    op->stage = EMPTY_SOURCE;
  }
  if (op->stage == EMPTY_SOURCE || op->stage == EMPTY_TARGET)
    check_empty(c, op);
  else if (op->stage == PLAN && qfs_op_may_write(c, op))
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
