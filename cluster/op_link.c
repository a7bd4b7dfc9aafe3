/* op_link.c - LINK: another name of a file.
 *
 *   lock both -> bases -> checks -> file -> parent -> batch (batch.c)
 *
 * The first time the file goes from its name to a key of its own, and the name becomes a LINK to it like the new one
 * (linked.c).
 */
#include "cluster/private.h"

#include <string.h>

enum { LOCK, PARENT, PLAN, SENT };

static void link_step(QfsCoordinator *c, QfsOp *op);

static void base_fetched(QfsCoordinator *c, QfsStatus status, QfsRecord *record, gpointer data) {
  QfsOp *op = data;
  if (!op->dead) {
    QfsKey *key = !op->key->have_base ? op->key : op->key2;
    if (status != QFS_OK) {
      qfs_op_finish(c, op, status);
    } else {
      qfs_key_set_base(key, record);
      link_step(c, op);
    }
  }
  qfs_op_unref(c, op);
}

/* The file itself, as far as it is at a key of its own. */
static QfsRecord *own_file(QfsCoordinator *c, const QfsOp *op) {
  return op->key->key[0] == '/' ? op->key->newest : qfs_op_file_of(c, op->key->newest);
}

static QfsStatus check(QfsCoordinator *c, const QfsOp *op) {
  const QfsRecord *from = op->key->newest;
  gboolean unlinked = op->key->key[0] == '/' && qfs_key_below(QFS_LINK_DIR, op->key->key) == NULL;
  if (!qfs_record_exists(from) || unlinked)
    return QFS_NOT_FOUND;
  if (from->kind == QFS_KIND_DIRECTORY)
    return QFS_IS_DIRECTORY;
  if (qfs_record_exists(op->key2->newest))
    return QFS_EXISTS;
  const QfsRecord *file = own_file(c, op);
  if (file == NULL && qfs_record_is_link(from))
    return QFS_IO; /* it was lost, as somebody decided */
  return file != NULL && file->attr.nlink >= QFS_LINKS_MAX ? QFS_TOO_MANY_LINKS : QFS_OK;
}

/* FALSE: waiting or answered. */
static gboolean check_base(QfsCoordinator *c, QfsOp *op) {
  QfsStatus status = check(c, op);
  if (status == QFS_OK)
    return TRUE;
  if (qfs_key_wait_acked(op->key, op) && qfs_key_wait_acked(op->key2, op))
    qfs_op_finish(c, op, status);
  return FALSE;
}

static void acknowledged(QfsCoordinator *c, QfsOp *op) { op->request->record = qfs_record_ref(op->result2); }

static QfsRecord *add_link(QfsCoordinator *c, const QfsOp *op, QfsBatch *batch, const QfsKey *name, const QfsRecord *file) {
  QfsRecord *link = qfs_record_new_link(name->key, file, op->timestamp);
  qfs_batch_add(c, batch, name->newest, link);
  return link;
}

static void send_batch(QfsCoordinator *c, QfsOp *op) {
  QfsRecord *from = op->key->newest, *to = op->key2->newest, *file = own_file(c, op);
  guint64 newest = MAX(from->timestamp, to != NULL ? to->timestamp : 0);
  if (!qfs_op_timestamp(c, op, MAX(newest, file != NULL ? file->timestamp : 0)))
    return;
  QfsBatch *batch = qfs_batch_new(op);
  g_autofree char *fresh = g_strdup_printf(QFS_LINK_DIR "/%016" G_GINT64_MODIFIER "x", ++c->next_object);
  QfsRecord *next = qfs_op_moved_itself(op, file != NULL ? file : from, file != NULL ? file->key : fresh);
  next->attr.nlink = file != NULL ? file->attr.nlink + 1 : 2;
  qfs_batch_add(c, batch, file, next);
  if (file == NULL)
    add_link(c, op, batch, op->key, next);
  op->result = qfs_record_ref(add_link(c, op, batch, op->key2, next));
  op->result2 = qfs_record_ref(next);
  op->change = QFS_CHANGE_LINK;
  op->stage = SENT;
  qfs_batch_send(c, op, batch, FALSE, acknowledged);
}

static void link_step(QfsCoordinator *c, QfsOp *op) {
  if (qfs_op_is_dead(c, op) || op->stage == SENT || !qfs_op_lock_keys(c, op))
    return;
  if (op->stage == LOCK) {
    if (!qfs_op_may_write(c, op))
      return;
    const QfsKey *unknown = !op->key->have_base ? op->key : !op->key2->have_base ? op->key2 : NULL;
    if (unknown != NULL) {
      qfs_fetch(c, unknown->key, base_fetched, qfs_op_ref(op));
      return;
    }
    if (!qfs_op_lock_files(c, op) || !check_base(c, op) || !qfs_op_begin_creating(c, op, op->key2->key))
      return;
    op->stage = PARENT;
    qfs_op_fetch_parent(c, op);
    return;
  }
  if (op->stage == PLAN && qfs_op_may_write(c, op) && qfs_op_sync_moved(c, op, &op->key->newest, 1))
    send_batch(c, op);
}

void qfs_op_link(QfsCoordinator *c, QfsRequest *request) {
  c->stat.puts++;
  QfsOp *op = qfs_op_new(c, request, link_step);
  op->key = qfs_key_use(c, request->key);
  if (strcmp(request->key, request->key2) == 0) {
    qfs_op_finish(c, op, QFS_EXISTS);
    return;
  }
  op->key2 = qfs_key_use(c, request->key2);
  link_step(c, op);
}
