/* op_remove.c - REMOVE: a tombstone over a key; a name less of a file with several (linked.c); rmdir's emptiness check. */
#include "cluster/private.h"

enum { LOCK, BASE, EMPTY, PLAN, SENT };

static void remove_step(QfsCoordinator *c, QfsOp *op);

static void base_fetched(QfsCoordinator *c, QfsStatus status, QfsRecord *record, gpointer data) {
  QfsOp *op = data;
  if (!op->dead) {
    if (status != QFS_OK) {
      qfs_op_finish(c, op, status);
    } else {
      qfs_key_set_base(op->key, record);
      op->stage = BASE;
      remove_step(c, op);
    }
  }
  qfs_op_unref(c, op);
}

static void emptiness_known(QfsCoordinator *c, QfsStatus status, gboolean empty, gpointer data) {
  QfsOp *op = data;
  if (!op->dead) {
    if (status != QFS_OK || !empty) {
      qfs_op_finish(c, op, status != QFS_OK ? status : QFS_NOT_EMPTY);
    } else {
      op->stage = PLAN;
      remove_step(c, op);
    }
  }
  qfs_op_unref(c, op);
}

static QfsStatus check(const QfsRequest *request, const QfsRecord *base) {
  gboolean exists = qfs_record_exists(base);
  if (!exists)
    return request->flags & (QFS_REMOVE_MUST_EXIST | QFS_REMOVE_DIRECTORY) ? QFS_NOT_FOUND : QFS_OK;
  if ((request->flags & QFS_REMOVE_NON_DIRECTORY) && base->kind == QFS_KIND_DIRECTORY)
    return QFS_IS_DIRECTORY;
  if ((request->flags & QFS_REMOVE_DIRECTORY) && base->kind != QFS_KIND_DIRECTORY)
    return QFS_NOT_DIRECTORY;
  return QFS_OK;
}

/* FALSE: parked, waiting or answered. */
static gboolean check_base(QfsCoordinator *c, QfsOp *op) {
  QfsRecord *base = op->key->newest;
  QfsStatus status = check(op->request, base);
  if (status != QFS_OK) {
    if (qfs_key_wait_acked(op->key, op))
      qfs_op_finish(c, op, status);
    return FALSE;
  }
  if (!qfs_record_exists(base) || base->kind != QFS_KIND_DIRECTORY) {
    op->stage = PLAN;
    return TRUE;
  }
  /* No child may come while we look: creations below wait for `removing`, we for those under way. */
  if (!op->removing) {
    op->removing = TRUE;
    guint n = GPOINTER_TO_UINT(g_hash_table_lookup(c->removing, op->key->key));
    g_hash_table_insert(c->removing, g_strdup(op->key->key), GUINT_TO_POINTER(n + 1));
  }
  if (g_hash_table_contains(c->creating, op->key->key)) {
    qfs_op_park(c, op);
    return FALSE;
  }
  op->stage = EMPTY;
  qfs_list_is_empty(c, op, op->key->key, emptiness_known, qfs_op_ref(op));
  return FALSE;
}

/* Must it be more than a tombstone: is there a file with other names, or one to be kept? */
static gboolean is_batch(const QfsOp *op) {
  const QfsRecord *newest = op->key->newest;
  if (qfs_record_is_link(newest))
    return TRUE;
  return op->request->keep != NULL && qfs_record_exists(newest) && newest->kind != QFS_KIND_DIRECTORY;
}

static void batch_acknowledged(QfsCoordinator *c, QfsOp *op) {
  op->request->record = qfs_record_ref(op->result2 != NULL ? op->result2 : op->result);
}

/* Explicit timestamps are compared with the newest of name and file. TRUE: answered so, or waiting. */
static gboolean is_superseded_by_file(QfsCoordinator *c, QfsOp *op, guint64 stored, QfsRecord *file) {
  QfsRequest *request = op->request;
  if (!(request->flags & QFS_REMOVE_TIMESTAMP) || request->timestamp >= stored)
    return FALSE;
  if (!qfs_key_wait_acked(op->key, op) || (op->file != NULL && !qfs_key_wait_acked(op->file, op)))
    return TRUE;
  request->superseded = TRUE;
  request->superseded_by = stored;
  request->record = qfs_record_ref(file != NULL ? file : op->key->newest);
  qfs_op_finish(c, op, QFS_OK);
  return TRUE;
}

/* The timestamp of what becomes of the file; the name's. FALSE: parked or answered. */
static gboolean batch_timestamps(QfsCoordinator *c, QfsOp *op, guint64 stored, gboolean goes, guint64 *out_name) {
  gboolean given = (op->request->flags & QFS_REMOVE_TIMESTAMP) != 0;
  if (goes && (given || stored == G_MAXUINT64)) /* of equal timestamps the tombstone's wins */
    op->timestamp = given ? op->request->timestamp : G_MAXUINT64;
  else if (!qfs_op_timestamp(c, op, stored))
    return FALSE;
  *out_name = given ? op->request->timestamp : op->timestamp;
  return TRUE;
}

static void send_batch(QfsCoordinator *c, QfsOp *op) {
  QfsRecord *name = op->key->newest, *file = qfs_op_file_of(c, name);
  const guint64 stored = MAX(name->timestamp, file != NULL ? file->timestamp : 0);
  gboolean lost = file == NULL && qfs_record_is_link(name);
  gboolean goes = lost || (op->request->keep == NULL && (file == NULL || file->attr.nlink <= 1));
  guint64 name_timestamp;
  if (is_superseded_by_file(c, op, stored, file) || !batch_timestamps(c, op, stored, goes, &name_timestamp))
    return;
  QfsBatch *batch = qfs_batch_new(op);
  op->result = qfs_op_tombstone(c, op, op->key->key);
  op->result->timestamp = name_timestamp;
  qfs_batch_add(c, batch, name, qfs_record_ref(op->result));
  QfsRecord *left = qfs_batch_lose_name(c, op, batch, name);
  op->result2 = left != NULL ? qfs_record_ref(left) : NULL;
  op->change = QFS_CHANGE_DELETE;
  op->stage = SENT;
  qfs_batch_send(c, op, batch, (op->request->flags & QFS_REMOVE_DURABLE) != 0, batch_acknowledged);
}

static void send_tombstone(QfsCoordinator *c, QfsOp *op) {
  QfsRequest *request = op->request;
  QfsRecord *newest = op->key->newest;
  guint64 stored = newest != NULL ? newest->timestamp : 0;
  /* At the last timestamp a tombstone still wins, by the tie rule. */
  gboolean last = stored == G_MAXUINT64 && qfs_record_exists(newest);
  if (request->flags & QFS_REMOVE_TIMESTAMP)
    op->timestamp = request->timestamp;
  else if (last || (stored == G_MAXUINT64 && newest != NULL))
    op->timestamp = G_MAXUINT64;
  else if (!qfs_op_timestamp(c, op, stored))
    return;
  op->base = newest != NULL ? qfs_record_ref(newest) : NULL;
  if (newest != NULL && newest->kind == QFS_KIND_TOMBSTONE && newest->timestamp == op->timestamp)
    op->result = qfs_record_ref(newest); /* the same once more */
  else
    op->result = qfs_op_tombstone(c, op, op->key->key);
  if (qfs_op_is_superseded(c, op, BASE))
    return;
  op->change = QFS_CHANGE_DELETE;
  op->stage = SENT;
  gboolean durable = (request->flags & QFS_REMOVE_DURABLE) != 0;
  qfs_op_send_record(c, op, durable);
}

static void remove_step(QfsCoordinator *c, QfsOp *op) {
  if (qfs_op_is_dead(c, op) || op->stage == EMPTY || op->stage == SENT)
    return;
  if (!qfs_op_lock_keys(c, op))
    return;
  if (op->stage == LOCK) {
    if (!qfs_op_may_write(c, op))
      return;
    if (!op->key->have_base) {
      qfs_fetch_base(c, op->key->key, base_fetched, qfs_op_ref(op));
      return;
    }
    op->stage = BASE;
  }
  if (op->stage == BASE && !check_base(c, op))
    return;
  if (op->stage != PLAN || !qfs_op_lock_files(c, op) || !qfs_op_may_write(c, op))
    return;
  if (is_batch(op) && !qfs_op_sync_moved(c, op, &op->key->newest, 1))
    return;
  if (is_batch(op))
    send_batch(c, op);
  else
    send_tombstone(c, op);
}

void qfs_op_remove(QfsCoordinator *c, QfsRequest *request) {
  c->stat.deletes++;
  QfsOp *op = qfs_op_new(c, request, remove_step);
  op->key = qfs_key_use(c, request->key);
  remove_step(c, op);
}

/* ---- by the store itself ---- */

typedef struct {
  QfsRemovedDone done;
  gpointer data;
} Removal;

static void version_removed(QfsCoordinator *c, QfsOp *op, QfsStatus status) {
  g_autofree Removal *removal = op->internal_data;
  removal->done(c, status, removal->data);
}

/* A tombstone of the same timestamp wins over that version, and over no later one. */
void qfs_remove_version(QfsCoordinator *c, const QfsRecord *record, QfsRemovedDone done, gpointer data) {
  QfsRequest *request = qfs_request_new(QFS_REQUEST_REMOVE, record->key, NULL, NULL);
  request->flags = QFS_REMOVE_TIMESTAMP;
  request->timestamp = record->timestamp;
  request->now_ns = c->env->wall_ms(c->env) * 1000000;
  QfsOp *op = qfs_op_new(c, request, remove_step);
  Removal *removal = g_new(Removal, 1);
  *removal = (Removal){done, data};
  op->internal = version_removed;
  op->internal_data = removal;
  op->key = qfs_key_use(c, request->key);
  remove_step(c, op);
}
