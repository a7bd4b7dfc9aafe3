/* op_rename.c - RENAME: several keys in one step.
 *
 *   lock both -> bases -> checks -> files -> parent -> trees -> batch (batch.c)
 *
 * The batch is the two keys, the files of those that are links (linked.c), and for directories whatever is below them
 * (subtree.c).
 */
#include "cluster/private.h"

#include <string.h>

enum { LOCK, SOURCE, TARGET, PARENT, TREE, READING, PLAN, SENT };

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

/* Two names of one file: rename(2) does nothing. */
static gboolean same_file(const QfsRecord *from, const QfsRecord *to) {
  return qfs_record_is_link(from) && qfs_record_is_link(to) && g_bytes_equal(from->tail, to->tail);
}

static gboolean check_base(QfsCoordinator *c, QfsOp *op) {
  QfsStatus status = check_kinds(op);
  gboolean over = status == QFS_OK && same_file(op->key->newest, op->key2->newest);
  if (status == QFS_OK && !over)
    return TRUE;
  if (qfs_key_wait_acked(op->key, op) && qfs_key_wait_acked(op->key2, op))
    qfs_op_finish(c, op, status);
  return FALSE;
}

/* ---- the batch ---- */

static gboolean is_tree(const QfsOp *op) {
  const QfsRecord *from = op->key->newest, *to = op->key2->newest;
  return from->kind == QFS_KIND_DIRECTORY || (to != NULL && to->kind == QFS_KIND_DIRECTORY);
}

static void add_tree(QfsCoordinator *c, const QfsOp *op, QfsBatch *batch, GPtrArray *records) {
  for (guint i = 0; i < records->len; i++) {
    QfsRecord *record = records->pdata[i];
    if (!qfs_record_exists(record))
      continue;
    g_autofree char *name = qfs_subtree_other(c, record->key);
    QfsRecord *there = qfs_subtree_find(c, name);
    qfs_batch_add(c, batch, there, qfs_op_moved(op, record, name));
    if (!qfs_record_exists(there))
      qfs_batch_add(c, batch, record, qfs_op_tombstone(c, op, record->key));
  }
}

static guint64 newest_timestamp(QfsCoordinator *c, const QfsOp *op, const GPtrArray *records) {
  const QfsRecord *from = op->key->newest, *to = op->key2->newest;
  guint64 newest = MAX(from->timestamp, to != NULL ? to->timestamp : 0);
  const QfsRecord *file = qfs_op_file_of(c, from), *file2 = qfs_op_file_of(c, to);
  newest = MAX(newest, MAX(file != NULL ? file->timestamp : 0, file2 != NULL ? file2->timestamp : 0));
  for (guint i = 0; records != NULL && i < records->len; i++)
    newest = MAX(newest, ((const QfsRecord *)records->pdata[i])->timestamp);
  return newest;
}

/* `record` under its new name, and its file if it is a link. Outputs: references, of the name and of the file itself. */
static void add_moved(QfsCoordinator *c, QfsOp *op, QfsBatch *batch, QfsRecord *record, QfsKey *to, QfsRecord **out_name,
                      QfsRecord **out_file) {
  QfsRecord *moved = qfs_op_moved_itself(op, record, to->key), *file = qfs_op_file_of(c, record);
  qfs_batch_add(c, batch, to->newest, moved);
  *out_name = qfs_record_ref(moved);
  *out_file = qfs_record_ref(moved);
  if (file == NULL)
    return;
  QfsRecord *touched = qfs_op_moved_itself(op, file, file->key);
  qfs_batch_add(c, batch, file, touched);
  qfs_record_unref(*out_file);
  *out_file = qfs_record_ref(touched);
}

static void acknowledged(QfsCoordinator *c, QfsOp *op) {
  op->request->record = qfs_record_ref(op->base);
  if (op->base2 != NULL)
    op->request->replaced = qfs_record_ref(op->base2);
}

/* What the request is told of is op->base and op->base2. NULL: parked or answered. */
static QfsBatch *plan(QfsCoordinator *c, QfsOp *op) {
  g_autoptr(GPtrArray) records = is_tree(op) ? qfs_subtree_records(c) : NULL;
  QfsRecord *from = op->key->newest, *to = op->key2->newest;
  if (!qfs_op_timestamp(c, op, newest_timestamp(c, op, records)))
    return NULL;
  QfsBatch *batch = qfs_batch_new(op);
  add_moved(c, op, batch, from, op->key2, &op->result2, &op->base);
  if (exchanges(op)) {
    add_moved(c, op, batch, to, op->key, &op->result, &op->base2);
  } else {
    op->result = qfs_op_tombstone(c, op, op->key->key);
    qfs_batch_add(c, batch, from, qfs_record_ref(op->result));
    QfsRecord *left = qfs_batch_lose_name(c, op, batch, to);
    if (left == NULL && qfs_record_exists(to) && !qfs_record_is_link(to))
      left = to;
    op->base2 = left != NULL ? qfs_record_ref(left) : NULL;
  }
  if (records != NULL)
    add_tree(c, op, batch, records);
  return batch;
}

/* FALSE: waiting or answered. */
static gboolean sync_moved(QfsCoordinator *c, QfsOp *op) {
  if (is_tree(op)) {
    g_autoptr(GPtrArray) records = qfs_subtree_records(c);
    return qfs_op_sync_moved(c, op, (QfsRecord *const *)records->pdata, records->len);
  }
  QfsRecord *const records[] = {op->key->newest, op->key2->newest};
  return qfs_op_sync_moved(c, op, records, exchanges(op) || op->request->keep != NULL ? 2 : 1);
}

static void send_batch(QfsCoordinator *c, QfsOp *op) {
  QfsBatch *batch = plan(c, op);
  if (batch == NULL)
    return;
  op->change = QFS_CHANGE_RENAME;
  op->stage = SENT;
  qfs_batch_send(c, op, batch, FALSE, acknowledged);
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
    qfs_fetch_base(c, op->key->key, source_fetched, qfs_op_ref(op));
    return FALSE;
  }
  if (!op->key2->have_base) {
    op->stage = TARGET;
    qfs_fetch_base(c, op->key2->key, target_fetched, qfs_op_ref(op));
    return FALSE;
  }
  const char *to = op->key2->key;
  if (!check_base(c, op) || !qfs_op_lock_files(c, op))
    return FALSE;
  if (exchanges(op) || to[0] == '/') {
    op->stage = TREE;
    return TRUE;
  }
  if (!qfs_op_begin_creating(c, op, to))
    return FALSE;
  op->stage = PARENT;
  qfs_op_fetch_parent(c, op);
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
  if (op->stage == PLAN && qfs_op_may_write(c, op) && sync_moved(c, op))
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
