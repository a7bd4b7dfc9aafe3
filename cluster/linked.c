/* linked.c - files with several names (record.h, QFS_KIND_LINK), as far as the operations share it.
 *
 * A name is a LINK to the key that the file itself has, "/link/ID", whose record counts its LINKs. Both change in one
 * batch, under the locks of both: so the count is right, what a LINK names is there, and the file goes with
 * its last name. Locks are taken in one order, names before files: what a name leads to is known only once it is
 * locked.
 */
#include "cluster/private.h"

static void file_fetched(QfsCoordinator *c, QfsStatus status, QfsRecord *record, gpointer data) {
  QfsOp *op = data;
  if (!op->dead) {
    QfsKey *key = !op->file->have_base ? op->file : op->file2;
    if (status != QFS_OK) {
      qfs_op_finish(c, op, status);
    } else {
      qfs_key_set_base(key, record);
      op->step(c, op);
    }
  }
  qfs_op_unref(c, op);
}

static QfsKey *use_file(QfsCoordinator *c, const QfsKey *name) {
  if (name == NULL || !qfs_record_is_link(name->newest))
    return NULL;
  g_autofree char *target = qfs_record_link_target(name->newest);
  return qfs_key_use(c, target);
}

gboolean qfs_op_lock_files(QfsCoordinator *c, QfsOp *op) {
  if (op->file == NULL && op->file2 == NULL) {
    op->file = use_file(c, op->key);
    op->file2 = use_file(c, op->key2);
    if (op->file == NULL || (op->file2 != NULL && strcmp(op->file->key, op->file2->key) > 0)) {
      QfsKey *swap = op->file; /* in the order of locking */
      op->file = op->file2;
      op->file2 = swap;
    }
    if (op->file2 != NULL && op->file == op->file2) {
      qfs_key_done(c, op->file2);
      op->file2 = NULL;
    }
  }
  if (op->file != NULL && !qfs_key_lock(op->file, op))
    return FALSE;
  if (op->file2 != NULL && !qfs_key_lock(op->file2, op))
    return FALSE;
  QfsKey *unknown = op->file != NULL && !op->file->have_base    ? op->file
                    : op->file2 != NULL && !op->file2->have_base ? op->file2
                                                                 : NULL;
  if (unknown != NULL)
    qfs_fetch(c, unknown->key, file_fetched, qfs_op_ref(op));
  return unknown == NULL;
}

QfsRecord *qfs_op_file_of(QfsCoordinator *c, const QfsRecord *name) {
  if (!qfs_record_is_link(name))
    return NULL;
  g_autofree char *target = qfs_record_link_target(name);
  const QfsKey *key = qfs_key_find(c, target);
  g_assert(key != NULL && key->have_base); /* locked */
  return qfs_record_exists(key->newest) ? key->newest : NULL;
}

QfsRecord *qfs_op_moved(const QfsOp *op, const QfsRecord *from, const char *name) {
  QfsRecord *record = qfs_record_successor(from);
  g_free(record->key);
  record->key = g_strdup(name);
  record->timestamp = op->timestamp;
  return record;
}

QfsRecord *qfs_op_moved_itself(const QfsOp *op, const QfsRecord *from, const char *name) {
  QfsRecord *record = qfs_op_moved(op, from, name);
  if (op->request->now_ns != 0)
    record->attr.ctime_ns = op->request->now_ns;
  return record;
}

/* What a name without LINKs, or the last LINK of a file, leaves. */
static QfsRecord *keep(QfsCoordinator *c, QfsOp *op, QfsBatch *batch, QfsRecord *last) {
  const char *name = op->request->keep;
  if (name == NULL || last->kind == QFS_KIND_DIRECTORY) {
    qfs_batch_leave(batch, last);
    return NULL;
  }
  QfsRecord *kept = qfs_op_moved_itself(op, last, name);
  kept->attr.nlink = 0;
  qfs_batch_add(c, batch, NULL, kept);
  return kept;
}

QfsRecord *qfs_batch_lose_name(QfsCoordinator *c, QfsOp *op, QfsBatch *batch, QfsRecord *name) {
  if (!qfs_record_exists(name))
    return NULL;
  if (!qfs_record_is_link(name))
    return keep(c, op, batch, name);
  QfsRecord *file = qfs_op_file_of(c, name);
  if (file == NULL)
    return NULL; /* lost, as somebody decided */
  if (file->attr.nlink > 1) {
    QfsRecord *left = qfs_op_moved_itself(op, file, file->key);
    left->attr.nlink--;
    qfs_batch_add(c, batch, file, left);
    return left;
  }
  QfsRecord *kept = keep(c, op, batch, file);
  qfs_batch_add(c, batch, file, qfs_op_tombstone(c, op, file->key));
  return kept;
}
