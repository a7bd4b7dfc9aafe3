/* op.c - life of a request inside the coordinator: deadline, parking, locks, the record flight. */
#include "cluster/private.h"

#include <string.h>

#define FULL_LOOK_US (50 * 1000)

static void insert_by_deadline(QfsCoordinator *c, QfsOp *op) {
  GList *before = c->ops.tail;
  while (before != NULL && ((QfsOp *)before->data)->deadline_us > op->deadline_us)
    before = before->prev;
  if (before == c->ops.tail)
    g_queue_push_tail_link(&c->ops, &op->link);
  else
    g_queue_insert_before_link(&c->ops, before != NULL ? before->next : c->ops.head, &op->link);
}

QfsOp *qfs_op_new(QfsCoordinator *c, QfsRequest *request, void (*step)(QfsCoordinator *, QfsOp *)) {
  QfsOp *op = g_slice_new0(QfsOp);
  op->request = request;
  op->step = step;
  op->refs = 1;
  guint factor = request->type == QFS_REQUEST_NODE ? QFS_NODE_PATIENCE : 1;
  op->began_us = c->env->now_us(c->env);
  op->deadline_us = op->began_us + (gint64)c->config.timeout_ms * 1000 * factor;
  op->link.data = op;
  insert_by_deadline(c, op);
  request->op = op;
  return op;
}

static void set_deadline(QfsCoordinator *c, QfsOp *op, gint64 deadline_us) {
  g_queue_unlink(&c->ops, &op->link);
  op->deadline_us = deadline_us;
  insert_by_deadline(c, op);
}

void qfs_op_extend(QfsCoordinator *c, QfsOp *op, guint factor) {
  set_deadline(c, op, op->deadline_us + (gint64)c->config.timeout_ms * 1000 * (factor - 1));
}

void qfs_op_goes_on(QfsCoordinator *c, QfsOp *op) {
  const gint64 deadline_us = c->env->now_us(c->env) + (gint64)c->config.timeout_ms * 1000;
  if (op->dead || op->deadline_us >= deadline_us)
    return;
  op->last_us = 0;
  set_deadline(c, op, deadline_us);
}

QfsOp *qfs_op_ref(QfsOp *op) {
  op->refs++;
  return op;
}

void qfs_op_close_chunks(QfsCoordinator *c, QfsOp *op) {
  if (op->open_link.data == NULL)
    return;
  op->open_link.data = NULL;
  g_queue_unlink(&c->open_ops, &op->open_link);
}

void qfs_op_unref(QfsCoordinator *c, QfsOp *op) {
  g_assert(op->refs > 0);
  if (--op->refs > 0)
    return;
  g_assert(op->request == NULL && !op->locked && !op->locked2);
  qfs_op_close_chunks(c, op);
  if (op->key != NULL)
    qfs_key_done(c, op->key);
  if (op->key2 != NULL)
    qfs_key_done(c, op->key2);
  if (op->file != NULL)
    qfs_key_done(c, op->file);
  if (op->file2 != NULL)
    qfs_key_done(c, op->file2);
  qfs_record_unref(op->base);
  qfs_record_unref(op->base2);
  qfs_record_unref(op->parent);
  qfs_record_unref(op->result);
  qfs_record_unref(op->result2);
  qfs_plan_free(op->plan);
  g_clear_pointer(&op->chunks, g_ptr_array_unref);
  if (op->extra_free != NULL)
    op->extra_free(op->extra);
  g_slice_free(QfsOp, op);
}

static void count_outcome(QfsCoordinator *c, QfsRequest *request, QfsStatus status) {
  switch (request->type) {
  case QFS_REQUEST_GET:
  case QFS_REQUEST_READ:
  case QFS_REQUEST_SEEK:
  case QFS_REQUEST_LIST:
  case QFS_REQUEST_NODE:
    return;
  default:
    break;
  }
  if (status == QFS_OK)
    c->stat.acknowledged++;
  else if (status == QFS_UNKNOWN)
    c->stat.timed_out++;
  else if (status == QFS_NO_QUORUM)
    c->stat.refused++;
}

void qfs_op_finish(QfsCoordinator *c, QfsOp *op, QfsStatus status) {
  QfsRequest *request = op->request;
  if (request == NULL)
    return;
  op->request = NULL;
  g_queue_unlink(&c->ops, &op->link);
  request->status = status;
  request->op = NULL;
  count_outcome(c, request, status);
  if (op->internal != NULL) {
    op->internal(c, op, status);
    qfs_request_free(request);
  } else {
    c->env->complete(c->env, request);
  }
  if (!op->sent) {
    op->dead = TRUE;
    qfs_op_release(c, op);
  }
  qfs_op_unref(c, op);
}

void qfs_op_release(QfsCoordinator *c, QfsOp *op) {
  qfs_op_ref(op);
  qfs_subtree_release(c, op, FALSE);
  if (op->creating) {
    op->creating = FALSE;
    g_autofree char *parent = qfs_key_parent(op->key2 ? op->key2->key : op->key->key);
    guint n = GPOINTER_TO_UINT(g_hash_table_lookup(c->creating, parent));
    if (n > 1)
      g_hash_table_insert(c->creating, g_strdup(parent), GUINT_TO_POINTER(n - 1));
    else
      g_hash_table_remove(c->creating, parent);
  }
  if (op->removing) {
    op->removing = FALSE;
    guint n = GPOINTER_TO_UINT(g_hash_table_lookup(c->removing, op->key->key));
    if (n > 1)
      g_hash_table_insert(c->removing, g_strdup(op->key->key), GUINT_TO_POINTER(n - 1));
    else
      g_hash_table_remove(c->removing, op->key->key);
  }
  /* Also a lock that just came, and that the op ends before taking notice of. */
  if (op->key != NULL && op->key->planner == op) {
    op->locked = FALSE;
    qfs_key_unlock(c, op->key, op);
  }
  if (op->key2 != NULL && op->key2->planner == op) {
    op->locked2 = FALSE;
    qfs_key_unlock(c, op->key2, op);
  }
  if (op->file != NULL && op->file->planner == op)
    qfs_key_unlock(c, op->file, op);
  if (op->file2 != NULL && op->file2->planner == op)
    qfs_key_unlock(c, op->file2, op);
  qfs_op_unref(c, op);
}

gboolean qfs_op_is_dead(QfsCoordinator *c, QfsOp *op) {
  if (!op->dead)
    return FALSE;
  qfs_op_release(c, op);
  return TRUE;
}

gboolean qfs_op_begin_creating(QfsCoordinator *c, QfsOp *op, const char *key) {
  if (op->creating || key[0] == '/' || key[0] == '\0')
    return TRUE;
  g_autofree char *parent = qfs_key_parent(key);
  if (g_hash_table_contains(c->removing, parent)) {
    qfs_op_park(c, op);
    return FALSE;
  }
  guint n = GPOINTER_TO_UINT(g_hash_table_lookup(c->creating, parent));
  g_hash_table_insert(c->creating, g_strdup(parent), GUINT_TO_POINTER(n + 1));
  op->creating = TRUE;
  return TRUE;
}

static QfsStatus check_parent(const char *key, const QfsRecord *parent) {
  if (strchr(key, '/') == NULL && !qfs_record_exists(parent))
    return QFS_OK; /* the root directory is there even before it has a record */
  if (!qfs_record_exists(parent))
    return QFS_NOT_FOUND;
  return parent->kind == QFS_KIND_DIRECTORY ? QFS_OK : QFS_NOT_DIRECTORY;
}

static const char *made_by(const QfsOp *op) { return op->key2 != NULL ? op->key2->key : op->key->key; }

static void parent_fetched(QfsCoordinator *c, QfsStatus status, QfsRecord *record, gpointer data) {
  QfsOp *op = data;
  if (!op->dead) {
    if (status == QFS_OK)
      status = check_parent(made_by(op), record);
    if (status != QFS_OK) {
      qfs_op_finish(c, op, status);
    } else {
      op->stage++;
      op->step(c, op);
    }
  }
  qfs_op_unref(c, op);
}

void qfs_op_fetch_parent(QfsCoordinator *c, QfsOp *op) {
  g_autofree char *parent = qfs_key_parent(made_by(op));
  qfs_fetch_base(c, parent, parent_fetched, qfs_op_ref(op));
}

/* ---- parking ---- */

void qfs_op_park(QfsCoordinator *c, QfsOp *op) {
  if (op->stalled)
    return;
  op->stalled = TRUE;
  g_queue_push_tail(&c->stalled, qfs_op_ref(op));
}

void qfs_ops_resume(QfsCoordinator *c) {
  GQueue batch = c->stalled;
  g_queue_init(&c->stalled);
  for (QfsOp *op = g_queue_pop_head(&batch); op != NULL; op = g_queue_pop_head(&batch)) {
    op->stalled = FALSE;
    op->step(c, op);
    qfs_op_unref(c, op);
  }
}

gboolean qfs_key_has_quorum(QfsCoordinator *c, const QfsKey *key, QfsNodeSet silent) {
  if (key == NULL)
    return TRUE;
  QfsNodeSet trusted = qfs_peers_in(c, PEER_TRUSTED) & ~silent;
  return qfs_set_size(qfs_holders(c, key->hash) & trusted) >=
             qfs_write_quorum(qfs_replicas(c)) &&
         !qfs_is_blocked(c, key->hash);
}

static gboolean keys_have_quorum(QfsCoordinator *c, const QfsOp *op, QfsNodeSet silent) {
  return qfs_key_has_quorum(c, op->key, silent) && qfs_key_has_quorum(c, op->key2, silent);
}

gboolean qfs_op_may_write(QfsCoordinator *c, QfsOp *op) {
  QfsNodeSet silent = qfs_peers_silent(c), given_up = silent != 0 ? qfs_op_given_up(c, op, silent) : 0;
  if (given_up != 0 && !qfs_view_has_majority(c, qfs_peers_alive(c) & ~given_up)) {
    qfs_op_finish(c, op, QFS_NO_QUORUM); /* cut off from a majority, and known before it is sent */
    return FALSE;
  }
  if (qfs_can_write(c) && !c->view_dirty) {
    if (keys_have_quorum(c, op, silent)) {
      if (c->flight_bytes < QFS_FLIGHT_BYTES_MAX && c->flights.length < QFS_FLIGHTS_MAX)
        return TRUE;
      qfs_wake_at(c, c->env->now_us(c->env) + FULL_LOOK_US); /* who is it that we wait for? */
      qfs_op_park(c, op);
      return FALSE;
    }
    if (keys_have_quorum(c, op, given_up))
      qfs_op_park(c, op);
    else
      qfs_op_finish(c, op, QFS_NO_QUORUM);
    return FALSE;
  }
  gboolean passing = c->serving && (c->recovery != NULL || !c->view_stable || c->view_dirty);
  if (passing && !c->closing)
    qfs_op_park(c, op);
  else
    qfs_op_finish(c, op, QFS_NO_QUORUM);
  return FALSE;
}

gboolean qfs_op_timestamp(QfsCoordinator *c, QfsOp *op, guint64 above) {
  if (op->timestamp != 0)
    return TRUE;
  if (above == G_MAXUINT64) {
    qfs_op_finish(c, op, QFS_OVERFLOW);
    return FALSE;
  }
  guint64 now = qfs_clock_next(&c->clock, c->env->wall_ms(c->env));
  if (now == 0) {
    qfs_ceiling_raise(c);
    if (c->raising_ceiling)
      qfs_op_park(c, op);
    else
      qfs_op_finish(c, op, QFS_NO_QUORUM);
    return FALSE;
  }
  op->timestamp = MAX(now, above + 1);
  return TRUE;
}

static gboolean wants_durable(const QfsRequest *request) {
  return (request->flags & (request->type == QFS_REQUEST_REMOVE ? QFS_REMOVE_DURABLE : QFS_WRITE_DURABLE)) != 0;
}

/* Is the acknowledged version at W nodes that count, on stable storage if that is asked for? Not where a holder was
 * lost since, and who stands in for it has not been given the key yet. */
static gboolean is_on_quorum(QfsCoordinator *c, const QfsOp *op) {
  const guint64 hash = op->key->hash;
  return qfs_set_size(qfs_readable(c, hash) & qfs_holders(c, hash)) >= qfs_write_quorum(qfs_replicas(c)) &&
         (!wants_durable(op->request) || op->key->acked->seq <= c->settled);
}

static void answer_stored(QfsCoordinator *c, QfsOp *op, QfsRecord *stored) {
  if (op->request != NULL) {
    op->request->superseded = qfs_record_compare(op->result, stored) < 0;
    op->request->superseded_by = stored->timestamp;
    op->request->record = qfs_record_ref(stored);
  }
  qfs_op_finish(c, op, QFS_OK);
}

static void stored_quorum(QfsCoordinator *c, QfsFlight *flight, gpointer data) {
  answer_stored(c, data, flight->message->records->pdata[0]);
}

static void stored_complete(QfsCoordinator *c, QfsFlight *flight, gpointer data) { qfs_op_unref(c, data); }

static void no_step(QfsCoordinator *c, QfsOp *op) {}

/* The stored version goes to its holders once more, and then the op is answered. */
static void send_stored(QfsCoordinator *c, QfsOp *op) {
  QfsRecord *record = qfs_record_copy(op->key->acked);
  QfsMessage *message = qfs_message_new(QFS_MESSAGE_APPLY, 0);
  message->durable = wants_durable(op->request) || c->config.sync;
  message->first_seq = record->seq;
  record->seq = qfs_next_seq(c);
  message->records = qfs_records_new();
  g_ptr_array_add(message->records, record);
  op->sent = TRUE;
  op->step = no_step;
  qfs_flight_start(c, message, &op->key->hash, 1, FALSE, qfs_op_ref(op), stored_quorum, stored_complete, NULL);
  qfs_wake_at(c, op->deadline_us);
  qfs_op_release(c, op);
}

/* Explicit timestamps: an older version than the stored one is ignored, successfully. TRUE: answered, or
 * waiting until the stored one is acknowledged, or at W nodes again. */
gboolean qfs_op_is_superseded(QfsCoordinator *c, QfsOp *op, guint again) {
  QfsRecord *stored = op->key->newest;
  if (qfs_record_compare(op->result, stored) > 0)
    return FALSE;
  if (!qfs_key_wait_acked(op->key, op)) {
    g_clear_pointer(&op->result, qfs_record_unref);
    g_clear_pointer(&op->base, qfs_record_unref);
    g_clear_pointer(&op->plan, qfs_plan_free);
    op->stage = again;
    return TRUE;
  }
  if (is_on_quorum(c, op))
    answer_stored(c, op, stored);
  else
    send_stored(c, op);
  return TRUE;
}

/* In the order of locking: files, which are the store's own keys, after the names that lead to them. */
static gboolean comes_after(const char *key, const char *other) {
  gboolean own = key[0] == '/', other_own = other[0] == '/';
  return own != other_own ? own : strcmp(key, other) > 0;
}

gboolean qfs_op_lock_keys(QfsCoordinator *c, QfsOp *op) {
  if (qfs_subtree_holds_back(c, op))
    return FALSE;
  gboolean swap = op->key2 != NULL && comes_after(op->key->key, op->key2->key);
  QfsKey *first = swap ? op->key2 : op->key;
  QfsKey *second = swap ? op->key : op->key2;
  gboolean *first_locked = swap ? &op->locked2 : &op->locked;
  gboolean *second_locked = swap ? &op->locked : &op->locked2;
  if (!*first_locked) {
    if (!qfs_key_lock(first, op))
      return FALSE;
    *first_locked = TRUE;
  }
  if (second != NULL && !*second_locked) {
    if (!qfs_key_lock(second, op))
      return FALSE;
    *second_locked = TRUE;
  }
  return TRUE;
}

void qfs_ops_tick(QfsCoordinator *c, gint64 now_us) {
  QfsOp *op;
  while ((op = g_queue_peek_head(&c->ops)) != NULL && op->deadline_us <= now_us) {
    const gint64 later_us = qfs_op_later_us(c, op, now_us);
    if (later_us != 0)
      set_deadline(c, op, later_us);
    else
      qfs_op_finish(c, op, op->sent ? QFS_UNKNOWN : QFS_NO_QUORUM);
  }
  if (op != NULL)
    qfs_wake_at(c, op->deadline_us);
}

QfsRecord *qfs_op_tombstone(QfsCoordinator *c, const QfsOp *op, const char *key) {
  QfsRecord *tombstone = qfs_record_new_tombstone(key, op->timestamp);
  tombstone->attr.ctime_ns = c->env->wall_ms(c->env) * 1000000;
  return tombstone;
}

/* Keys that begin with '/' are the store's own: what moves there is gone for everybody else. */
void qfs_op_tell(QfsCoordinator *c, const QfsOp *op) {
  const QfsKey *asked = op->key2 != NULL && op->change != QFS_CHANGE_RENAME ? op->key2 : op->key;
  if (c->config.changed == NULL || op->change == QFS_CHANGE_NONE)
    return;
  if (asked->key[0] == '/' && qfs_key_below(QFS_LINK_DIR, asked->key) == NULL)
    return;
  QfsChange change = {op->change, op->result, NULL};
  if (op->change == QFS_CHANGE_LINK)
    change.former_key = op->key->key;
  else if (asked != op->key)
    change.former_key = asked->key;
  if (op->change == QFS_CHANGE_RENAME && op->result2->key[0] == '/') {
    change.kind = QFS_CHANGE_DELETE;
  } else if (op->change == QFS_CHANGE_RENAME) {
    change.record = op->result2;
    change.former_key = op->key->key;
  }
  c->config.changed(&change, c->config.changed_data);
  if (op->change == QFS_CHANGE_RENAME && qfs_record_exists(op->result)) { /* exchanged */
    change.record = op->result;
    change.former_key = op->key2->key;
    c->config.changed(&change, c->config.changed_data);
  }
}

/* ---- the record flight ---- */

/* What the version that was replaced leaves behind. Only once its successor is acknowledged: a write that
 * is refused must not cost the old value its chunks. */
static void leave_garbage(QfsCoordinator *c, QfsOp *op) {
  const QfsRecord *base = op->base, *record = op->result;
  if (base == NULL || qfs_object_is_none(base->object))
    return;
  if (!qfs_object_equal(base->object, record->object)) {
    qfs_garbage_add(c, record->seq, QFS_DISCARD_OBJECT, base->object, NULL);
    return;
  }
  GPtrArray *older = NULL;
  for (guint i = 0; op->plan != NULL && i < op->plan->chunks->len; i++) {
    const QfsPlanChunk *planned = &g_array_index(op->plan->chunks, QfsPlanChunk, i);
    if (!planned->had_base)
      continue;
    if (older == NULL)
      older = qfs_chunks_new();
    QfsChunk *chunk = g_new0(QfsChunk, 1);
    chunk->object = record->object;
    chunk->index = planned->index;
    chunk->version = qfs_record_newest_write(record);
    g_ptr_array_add(older, chunk);
  }
  if (older != NULL)
    qfs_garbage_add(c, record->seq, QFS_DISCARD_OLDER, record->object, older);
}

static void record_quorum(QfsCoordinator *c, QfsFlight *flight, gpointer data) {
  QfsOp *op = data;
  qfs_op_ref(op);
  leave_garbage(c, op);
  qfs_key_acked(c, op->key, op->result);
  qfs_op_tell(c, op);
  if (op->request != NULL) {
    g_clear_pointer(&op->request->record, qfs_record_unref);
    op->request->record = qfs_record_ref(op->result);
  }
  qfs_op_finish(c, op, QFS_OK);
  qfs_op_release(c, op);
  qfs_op_unref(c, op);
}

static void record_complete(QfsCoordinator *c, QfsFlight *flight, gpointer data) {
  qfs_op_close_chunks(c, data);
  qfs_object_unstage(c, ((QfsOp *)data)->result->object);
  qfs_op_unref(c, data);
}

/* Every disk that it could have gone to is full, and it is nowhere. */
static void record_refused(QfsCoordinator *c, QfsFlight *flight, gpointer data) {
  QfsOp *op = data;
  QfsKey *key = op->key;
  gboolean last = key->newest == op->result;
  if (last)
    qfs_key_take_back(c, key, flight);
  qfs_op_finish(c, op, last ? QFS_NO_SPACE : QFS_UNKNOWN);
  qfs_op_release(c, op);
  qfs_op_unref(c, op);
}

void qfs_op_send_record(QfsCoordinator *c, QfsOp *op, gboolean durable) {
  QfsKey *key = op->key;
  g_assert(op->locked && key->have_base);
  g_assert(qfs_record_compare(op->result, key->newest) > 0); /* C2 */
  op->result->seq = qfs_next_seq(c);
  op->sent = TRUE;
  qfs_record_unref(key->newest);
  key->newest = qfs_record_ref(op->result);
  qfs_key_bump(c, key->hash);
  QfsMessage *message = qfs_message_new(QFS_MESSAGE_APPLY, 0);
  message->durable = durable || c->config.sync;
  message->records = qfs_records_new();
  g_ptr_array_add(message->records, qfs_record_ref(op->result));
  /* A record whose chunks are stored is not taken back: it takes the room that is kept, or waits for some. */
  gboolean bare = op->plan == NULL || op->plan->chunks->len == 0;
  message->is_overdue = !bare;
  qfs_flight_start(c, message, &key->hash, 1, FALSE, qfs_op_ref(op), record_quorum, record_complete,
                   bare ? record_refused : NULL);
  qfs_wake_at(c, op->deadline_us);
  op->locked = FALSE;
  qfs_key_unlock(c, key, op);
  if (op->key2 != NULL && op->key2->planner == op) { /* the name that led to it */
    op->locked2 = FALSE;
    qfs_key_unlock(c, op->key2, op);
  }
}
