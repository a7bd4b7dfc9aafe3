/* op_write.c - WRITE, CREATE, SETATTR: read the newest version, plan the next one, send it.
 *
 *   parents -> lock -> base -> checks -> parent -> plan -> bases of chunks -> chunks -> record
 *
 * The record is the commit point: chunks are nobody's until a record has their number among its spans.
 */
#include "cluster/private.h"

#include <string.h>
#include <sys/stat.h>

enum { PARENTS, LOCK, BASE, PARENT, PLAN, CHUNK_BASES, CHUNKS, RECORD, SENT, FIRST_PIECE };

#define CHUNKS_PER_MESSAGE 16

static void write_step(QfsCoordinator *c, QfsOp *op);

/* ---- base ---- */

static void base_fetched(QfsCoordinator *c, QfsStatus status, QfsRecord *record, gpointer data) {
  QfsOp *op = data;
  if (!op->dead) {
    if (status != QFS_OK) {
      qfs_op_finish(c, op, status);
    } else {
      qfs_key_set_base(op->key, record);
      op->stage = BASE;
      write_step(c, op);
    }
  }
  qfs_op_unref(c, op);
}

/* ---- missing parents (QFS_WRITE_PARENTS) ---- */

static void parent_made(QfsCoordinator *c, QfsOp *sub, QfsStatus status) {
  QfsOp *op = sub->internal_data;
  if (!op->dead) {
    if (status != QFS_OK && status != QFS_EXISTS)
      qfs_op_finish(c, op, status);
    else
      write_step(c, op);
  }
  qfs_op_unref(c, op);
}

static void prefix_fetched(QfsCoordinator *c, QfsStatus status, QfsRecord *record, gpointer data) {
  QfsOp *op = data;
  if (op->dead) {
    qfs_op_unref(c, op);
    return;
  }
  const char *key = op->request->key;
  g_autofree char *prefix = g_strndup(key, op->tries);
  if (status != QFS_OK) {
    qfs_op_finish(c, op, status);
  } else if (!qfs_record_exists(record)) {
    QfsRequest *request = qfs_request_new(QFS_REQUEST_CREATE, prefix, NULL, NULL);
    request->kind = QFS_KIND_DIRECTORY;
    request->attr = op->request->attr;
    request->attr.mode = S_IFDIR | 0755;
    request->now_ns = op->request->now_ns;
    QfsOp *sub = qfs_op_new(c, request, write_step);
    sub->key = qfs_key_use(c, prefix);
    sub->stage = LOCK;
    sub->internal = parent_made;
    sub->internal_data = qfs_op_ref(op);
    write_step(c, sub);
  } else if (record->kind != QFS_KIND_DIRECTORY) {
    qfs_op_finish(c, op, QFS_NOT_DIRECTORY);
  } else {
    write_step(c, op);
  }
  qfs_op_unref(c, op);
}

/* op->tries is the length of the prefix looked at last. */
static void next_parent(QfsCoordinator *c, QfsOp *op) {
  const char *key = op->request->key;
  const char *slash = strchr(key + (op->tries > 0 ? op->tries + 1 : 0), '/');
  if (slash == NULL) {
    op->stage = LOCK;
    op->tries = 0;
    write_step(c, op);
    return;
  }
  op->tries = (guint)(slash - key);
  g_autofree char *prefix = g_strndup(key, op->tries);
  qfs_fetch_base(c, prefix, prefix_fetched, qfs_op_ref(op));
}

/* ---- checks against the base ---- */

static gboolean is_note_of_reading(const QfsRequest *request) {
  return request->type == QFS_REQUEST_SETATTR && request->mask == QFS_ATTR_ATIME;
}

static QfsStatus check_kind(const QfsRequest *request, const QfsRecord *base) {
  gboolean exists = qfs_record_exists(base);
  if (request->type == QFS_REQUEST_CREATE)
    return exists ? QFS_EXISTS : QFS_OK;
  if (request->type == QFS_REQUEST_SETATTR) {
    if (!exists)
      return QFS_NOT_FOUND;
    if ((request->mask & QFS_ATTR_SIZE) && base->kind == QFS_KIND_DIRECTORY)
      return QFS_IS_DIRECTORY;
    if ((request->mask & QFS_ATTR_SIZE) && base->kind != QFS_KIND_VALUE)
      return QFS_INVALID;
    return QFS_OK;
  }
  if ((request->flags & QFS_WRITE_EXCLUSIVE) && exists)
    return QFS_EXISTS;
  if (!exists)
    return request->flags & QFS_WRITE_CREATE ? QFS_OK : QFS_NOT_FOUND;
  if (base->kind == QFS_KIND_DIRECTORY)
    return QFS_IS_DIRECTORY;
  return base->kind == QFS_KIND_VALUE ? QFS_OK : QFS_INVALID;
}

static QfsStatus check_limits(const QfsRequest *request) {
  gboolean bare = (request->flags & (QFS_WRITE_ZERO | QFS_WRITE_GROW)) != 0;
  guint64 len = request->data != NULL ? g_bytes_get_size(request->data) : 0;
  if (request->type == QFS_REQUEST_WRITE && bare) {
    static const guint others =
        QFS_WRITE_REPLACE | QFS_WRITE_APPEND | QFS_WRITE_CREATE | QFS_WRITE_STAGED | QFS_WRITE_TIMESTAMP;
    if ((request->flags & others) != 0)
      return QFS_INVALID;
    len = MIN(request->length, QFS_VALUE_MAX + 1);
  }
  if (request->offset > QFS_VALUE_MAX || request->offset + len > QFS_VALUE_MAX ||
      ((request->mask & QFS_ATTR_SIZE) && request->attr.size > QFS_VALUE_MAX))
    return QFS_TOO_BIG;
  return QFS_OK;
}

/* FALSE: answered, or waiting for an acknowledgement that the answer depends on. */
static gboolean checks_pass(QfsCoordinator *c, QfsOp *op) {
  QfsRequest *request = op->request;
  QfsRecord *base = op->key->newest;
  QfsStatus status = check_kind(request, base);
  guint64 stored = base != NULL ? base->timestamp : 0;
  gboolean cas = request->type == QFS_REQUEST_WRITE && (request->flags & QFS_WRITE_IF_TIMESTAMP);
  if (status == QFS_OK && cas && (qfs_record_exists(base) ? stored : 0) != request->if_timestamp)
    status = QFS_STALE;
  if (status == QFS_OK)
    status = check_limits(request);
  gboolean is_noted = status == QFS_OK && is_note_of_reading(request) && base->attr.atime_ns >= request->attr.atime_ns;
  /* A note is told to nobody: acknowledged before the write that it builds on, it would show that untold. */
  if (status == QFS_OK && !is_noted)
    return !is_note_of_reading(request) || qfs_key_wait_acked(op->key, op);
  if (qfs_key_wait_acked(op->key, op)) {
    if ((status == QFS_EXISTS || status == QFS_STALE || is_noted) && base != NULL)
      request->record = qfs_record_ref(base);
    qfs_op_finish(c, op, status);
  }
  return FALSE;
}

/* ---- the new version ---- */

static void touch(QfsRecord *record, const QfsRequest *request, gboolean data_changed) {
  if (request->now_ns == 0)
    return;
  record->attr.ctime_ns = request->now_ns;
  if (data_changed)
    record->attr.mtime_ns = request->now_ns;
}

static void set_created(QfsRecord *record, const QfsRequest *request) {
  record->attr = request->attr;
  record->attr.size = 0;
  if (request->xattrs != NULL) {
    g_bytes_unref(record->xattrs);
    record->xattrs = g_bytes_ref(request->xattrs);
  }
  if (record->kind == QFS_KIND_VALUE && (record->attr.mode & S_IFMT) == 0)
    record->attr.mode |= S_IFREG;
  if (record->attr.atime_ns == 0)
    record->attr.atime_ns = request->now_ns;
  if (record->attr.btime_ns == 0)
    record->attr.btime_ns = request->now_ns;
  if (record->attr.mtime_ns == 0)
    record->attr.mtime_ns = request->now_ns;
  if (record->attr.ctime_ns == 0)
    record->attr.ctime_ns = request->now_ns;
}

static void set_tail(QfsRecord *record, GBytes *tail) {
  g_bytes_unref(record->tail);
  record->tail = g_bytes_ref(tail);
}

static void set_spans(QfsRecord *record, GBytes *spans) { /* takes it over */
  g_bytes_unref(record->spans);
  record->spans = spans;
}

/* What the version has of the base's rows, and its own. Only what this life has seen all of may be extended:
 * between the base's newest rows and these there may be some of a write that was not finished. */
static void continue_spans(QfsCoordinator *c, QfsOp *op) {
  QfsRecord *record = op->result;
  guint64 newest = qfs_spans_newest(record->spans);
  if (newest >= op->number) {
    /* Rows of before there were write numbers, with an explicit timestamp above all of those. */
    qfs_plan_relayout(op->plan, op->base);
    record->object = (QfsObjectId){op->key->hash, ++c->next_object};
    set_spans(record, qfs_spans_new(0, op->number));
    return;
  }
  g_autoptr(GBytes) merged = qfs_spans_merge(record->spans, c->reclaimed);
  set_spans(record, qfs_object_may_extend(c, record->object, newest)
                        ? qfs_spans_extend(merged, op->number)
                        : qfs_spans_append(merged, op->number));
  qfs_reclaim_note_spans(c, record->spans);
}

static void take_plan(QfsCoordinator *c, QfsOp *op, QfsPlan *plan) {
  QfsRecord *record = op->result;
  op->plan = plan;
  record->attr.size = plan->size;
  record->tail_offset = plan->tail_offset;
  set_tail(record, plan->tail);
  op->number = qfs_next_write(c);
  if (plan->drops_object || !plan->needs_object) {
    record->object = (QfsObjectId){0, 0};
    set_spans(record, g_bytes_new_static("", 0));
  }
  if (!plan->needs_object)
    return;
  if (qfs_object_is_none(record->object)) {
    record->object = (QfsObjectId){op->key->hash, ++c->next_object};
    set_spans(record, qfs_spans_new(0, op->number));
  } else if (plan->chunks->len > 0) {
    continue_spans(c, op);
  }
}

/* Without data: zeros, or a hole at the end. */
static void plan_bare(QfsCoordinator *c, QfsOp *op) {
  const QfsRequest *request = op->request;
  guint64 end = request->offset + request->length;
  if (request->flags & QFS_WRITE_ZERO)
    take_plan(c, op, qfs_plan_zero(op->base, request->offset, request->length,
                                   (request->flags & QFS_WRITE_KEEP_SIZE) != 0));
  else
    take_plan(c, op, qfs_plan_truncate(op->base, MAX(end, op->base->attr.size)));
  guint64 chain[4] = {op->base->digest, request->offset, request->length, request->flags & QFS_WRITE_ZERO};
  op->result->digest = qfs_digest(chain, sizeof chain);
}

static void plan_write(QfsCoordinator *c, QfsOp *op) {
  QfsRequest *request = op->request;
  QfsRecord *base = op->base, *record = op->result;
  gboolean replace = (request->flags & QFS_WRITE_REPLACE) || !qfs_record_exists(base);
  if (!qfs_record_exists(base)) {
    record->kind = QFS_KIND_VALUE;
    set_created(record, request);
    if (request->data != NULL && g_bytes_get_size(request->data) > 0)
      touch(record, request, TRUE); /* it was created, by open(2), some time before */
  } else {
    touch(record, request, TRUE);
    if (!(request->flags & QFS_WRITE_KEEP_SETID))
      record->attr.mode &= ~(guint32)(S_ISUID | ((record->attr.mode & S_IXGRP) ? S_ISGID : 0));
  }
  if (request->flags & QFS_WRITE_STAGED) {
    record->object = request->object;
    set_spans(record, qfs_spans_new(0, qfs_next_write(c))); /* staged pieces have the number 0 */
    record->attr.size = record->tail_offset = request->staged_size;
    g_autoptr(GBytes) nothing = g_bytes_new_static("", 0);
    set_tail(record, nothing);
    record->digest = request->object.unique;
    return;
  }
  if (request->flags & (QFS_WRITE_ZERO | QFS_WRITE_GROW)) {
    plan_bare(c, op);
    return;
  }
  g_autoptr(GBytes) data =
      request->data != NULL ? g_bytes_ref(request->data) : g_bytes_new_static("", 0);
  if (request->flags & QFS_WRITE_APPEND)
    request->offset = replace ? 0 : base->attr.size;
  take_plan(c, op, qfs_plan_write(base, replace, request->offset, data));
  gsize len;
  gconstpointer bytes = g_bytes_get_data(data, &len);
  guint64 chain[3] = {replace ? 0 : base->digest, request->offset, qfs_digest(bytes, len)};
  record->digest = replace && request->offset == 0 ? chain[2] : qfs_digest(chain, sizeof chain);
}

static void plan_setattr(QfsCoordinator *c, QfsOp *op) {
  QfsRequest *request = op->request;
  QfsAttr *attr = &op->result->attr;
  const QfsAttr *wish = &request->attr;
  guint mask = request->mask;
  if (mask & QFS_ATTR_SIZE) {
    take_plan(c, op, qfs_plan_truncate(op->base, wish->size));
    guint64 chain[2] = {op->base->digest, wish->size};
    op->result->digest = qfs_digest(chain, sizeof chain);
  }
  const gboolean implied = (request->flags & QFS_SETATTR_IMPLIED) != 0;
  if (!is_note_of_reading(request) && !implied)
    touch(op->result, request, (mask & QFS_ATTR_SIZE) != 0);
  if (mask & QFS_ATTR_MODE)
    attr->mode = (attr->mode & S_IFMT) | (wish->mode & ~(guint32)S_IFMT);
  if (mask & QFS_ATTR_UID)
    attr->uid = wish->uid;
  if (mask & QFS_ATTR_GID)
    attr->gid = wish->gid;
  if (mask & QFS_ATTR_ATIME)
    attr->atime_ns = wish->atime_ns;
  if (mask & QFS_ATTR_MTIME)
    attr->mtime_ns = wish->mtime_ns;
  if (mask & QFS_ATTR_CTIME)
    attr->ctime_ns = implied ? MAX(attr->ctime_ns, wish->ctime_ns) : wish->ctime_ns;
  if ((mask & QFS_ATTR_XATTRS) && request->data != NULL) {
    g_bytes_unref(op->result->xattrs);
    op->result->xattrs = g_bytes_ref(request->data);
  }
}

static void plan_create(QfsOp *op) {
  QfsRequest *request = op->request;
  QfsRecord *record = op->result;
  record->kind = request->kind;
  set_created(record, request);
  record->attr.rdev = request->attr.rdev;
  if (request->data != NULL) {
    set_tail(record, request->data);
    record->attr.size = g_bytes_get_size(request->data);
    record->digest = qfs_digest(g_bytes_get_data(request->data, NULL), record->attr.size);
  }
}

static QfsChangeKind change_of(const QfsRequest *request) {
  if (request->type == QFS_REQUEST_SETATTR) {
    if ((request->flags & QFS_SETATTR_IMPLIED) || is_note_of_reading(request))
      return QFS_CHANGE_NONE;
    return request->mask & QFS_ATTR_SIZE ? QFS_CHANGE_PUT : QFS_CHANGE_ATTR;
  }
  if (request->type != QFS_REQUEST_CREATE)
    return QFS_CHANGE_PUT;
  switch (request->kind) {
  case QFS_KIND_DIRECTORY:
    return QFS_CHANGE_MKDIR;
  case QFS_KIND_SYMLINK:
    return QFS_CHANGE_SYMLINK;
  case QFS_KIND_SPECIAL:
    return QFS_CHANGE_MKNOD;
  case QFS_KIND_VALUE:
  case QFS_KIND_LINK:
  case QFS_KIND_TOMBSTONE:
    break;
  }
  return QFS_CHANGE_PUT;
}

static QfsRecord *start_result(QfsOp *op) {
  if (qfs_record_exists(op->base))
    return qfs_record_successor(op->base);
  return qfs_record_new(op->key->key);
}

/* FALSE: parked or answered. */
static gboolean make_plan(QfsCoordinator *c, QfsOp *op) {
  QfsRequest *request = op->request;
  QfsRecord *newest = op->key->newest;
  gboolean is_explicit =
      request->type == QFS_REQUEST_WRITE && (request->flags & QFS_WRITE_TIMESTAMP);
  if (is_explicit)
    op->timestamp = request->timestamp;
  else if (is_note_of_reading(request) && newest->attr.atime_ns >= 0) /* times before 1970 sort above later ones */
    op->timestamp = newest->timestamp;
  else if (!qfs_op_timestamp(c, op, newest != NULL ? newest->timestamp : 0))
    return FALSE;
  op->base = newest != NULL ? qfs_record_ref(newest) : NULL;
  op->result = start_result(op);
  op->result->timestamp = op->timestamp;
  op->change = change_of(request);
  if (request->type == QFS_REQUEST_WRITE)
    plan_write(c, op);
  else if (request->type == QFS_REQUEST_SETATTR)
    plan_setattr(c, op);
  else
    plan_create(op);
  return !qfs_op_is_superseded(c, op, BASE);
}

/* ---- chunks ---- */

/* Some chunks found no space anywhere, so no record will ever have the others: garbage, and no reason for
 * anybody to wait. */
static void give_up_chunks(QfsCoordinator *c, QfsOp *op) {
  GPtrArray *rows = op->chunks;
  for (guint i = 0, end; i < rows->len; i = end) {
    GPtrArray *part = qfs_chunks_new(); /* of one flight */
    const QfsChunk *first = rows->pdata[i];
    for (end = i; end < rows->len && ((QfsChunk *)rows->pdata[end])->seq == first->seq; end++)
      g_ptr_array_add(part, g_memdup2(rows->pdata[end], sizeof(QfsChunk)));
    qfs_garbage_add(c, first->seq, QFS_DISCARD_VERSION, op->result->object, part);
  }
  qfs_object_give_up(c, op->result->object, op->number);
  qfs_op_finish(c, op, op->failure);
  qfs_op_release(c, op);
}

static void chunks_landed(QfsCoordinator *c, QfsOp *op) {
  if (--op->left == 0) {
    if (op->failure != QFS_OK) {
      give_up_chunks(c, op);
    } else {
      op->stage = RECORD;
      write_step(c, op);
    }
  }
  qfs_op_unref(c, op);
}

static void chunks_acked(QfsCoordinator *c, QfsFlight *flight, gpointer data) {
  chunks_landed(c, data);
}

static void chunks_refused(QfsCoordinator *c, QfsFlight *flight, gpointer data) {
  ((QfsOp *)data)->failure = QFS_NO_SPACE;
  chunks_landed(c, data);
}

static void send_chunks(QfsCoordinator *c, QfsOp *op) {
  gboolean durable = c->config.sync || (op->request && (op->request->flags & QFS_WRITE_DURABLE)) ||
                     qfs_record_is_away(op->result);
  op->stage = CHUNKS;
  op->sent = TRUE;
  op->open_link.data = op;
  g_queue_push_tail_link(&c->open_ops, &op->open_link);
  guint n = op->chunks->len;
  op->left = (n + CHUNKS_PER_MESSAGE - 1) / CHUNKS_PER_MESSAGE;
  for (guint from = 0; from < n; from += CHUNKS_PER_MESSAGE) {
    GPtrArray *part = qfs_chunks_new();
    for (guint i = from; i < MIN(n, from + CHUNKS_PER_MESSAGE); i++)
      g_ptr_array_add(part, g_steal_pointer(&op->chunks->pdata[i]));
    QfsFlight *flight = qfs_object_send_chunks(c, op->result->object, part, durable, qfs_op_ref(op),
                                               chunks_acked, chunks_refused);
    for (guint i = from; i < MIN(n, from + CHUNKS_PER_MESSAGE); i++) { /* their names, should it be given up */
      op->chunks->pdata[i] = g_memdup2(flight->message->chunks->pdata[i - from], sizeof(QfsChunk));
      ((QfsChunk *)op->chunks->pdata[i])->data = NULL;
    }
  }
  qfs_wake_at(c, op->deadline_us);
}

static void add_chunk(QfsOp *op, const QfsPlanChunk *planned, GBytes *base) {
  QfsChunk *chunk = g_new0(QfsChunk, 1);
  chunk->object = op->result->object;
  chunk->index = planned->index;
  chunk->version = op->number;
  chunk->data = qfs_plan_chunk_data(planned, base);
  g_ptr_array_add(op->chunks, chunk);
}

static void next_chunk_base(QfsCoordinator *c, QfsOp *op);

static void chunk_base_read(QfsCoordinator *c, QfsRead *read, gpointer data) {
  QfsOp *op = data;
  if (op->dead) {
    qfs_op_unref(c, op);
    return;
  }
  if (read->status != QFS_OK) {
    if (read->bad != NULL)
      op->bad_at |= qfs_read_bit(read);
    if (++op->tries > c->n_peers ||
        (!qfs_read_failed(c, op->base->object.placement, read) && read->status == QFS_IO))
      qfs_op_finish(c, op, read->status);
    else
      next_chunk_base(c, op);
  } else {
    const QfsPlanChunk *planned = &g_array_index(op->plan->chunks, QfsPlanChunk, op->chunk_next);
    add_chunk(op, planned, read->chunks[0] != NULL ? read->chunks[0]->data : NULL);
    op->chunk_next++;
    op->tries = 0;
    next_chunk_base(c, op);
  }
  qfs_op_unref(c, op);
}

static void next_chunk_base(QfsCoordinator *c, QfsOp *op) {
  GArray *chunks = op->plan->chunks;
  while (op->chunk_next < chunks->len) {
    const QfsPlanChunk *planned = &g_array_index(chunks, QfsPlanChunk, op->chunk_next);
    if (planned->need_base) {
      QfsObjectId id = op->base->object;
      QfsNodeSet nodes =
          qfs_object_readable(c, id, qfs_record_newest_write(op->base)) & ~qfs_peers_mute(c);
      if (nodes == 0) {
        qfs_op_park(c, op);
        return;
      }
      qfs_chunks_read(c, op->base, planned->index, 1, nodes, op->bad_at, chunk_base_read, qfs_op_ref(op));
      return;
    }
    add_chunk(op, planned, NULL);
    op->chunk_next++;
  }
  if (qfs_op_may_write(c, op))
    send_chunks(c, op);
}

/* ---- stage: pieces of an object that no record names yet ---- */

/* The requester never learns of the object if this was its first piece. */
static void forget_stage(QfsCoordinator *c, QfsOp *op) {
  if (op->stage == FIRST_PIECE)
    qfs_object_unstage(c, op->result->object);
  qfs_reclaim_want(c);
}

static void staged(QfsCoordinator *c, QfsFlight *flight, gpointer data) {
  QfsOp *op = data;
  if (--op->left == 0) {
    if (op->request != NULL)
      op->request->object = op->result->object;
    else
      forget_stage(c, op);
    qfs_op_finish(c, op, QFS_OK);
  }
  qfs_op_unref(c, op);
}

static void stage_refused(QfsCoordinator *c, QfsFlight *flight, gpointer data) {
  QfsOp *op = data;
  forget_stage(c, op);
  qfs_op_finish(c, op, QFS_NO_SPACE);
  qfs_op_unref(c, op);
}

static void stage_step(QfsCoordinator *c, QfsOp *op) {
  if (qfs_op_is_dead(c, op) || op->sent || !qfs_op_may_write(c, op))
    return;
  QfsRequest *request = op->request;
  op->result = qfs_record_new(op->key->key);
  op->result->object = request->object;
  if (qfs_object_is_none(request->object)) {
    op->stage = FIRST_PIECE;
    op->result->object = (QfsObjectId){op->key->hash, ++c->next_object};
  }
  gsize len = g_bytes_get_size(request->data);
  GPtrArray *part = NULL;
  for (gsize done = 0; done < len; done += QFS_CHUNK_SIZE) {
    if (part == NULL)
      part = qfs_chunks_new();
    QfsChunk *chunk = g_new0(QfsChunk, 1);
    chunk->object = op->result->object;
    chunk->index = (request->offset + done) / QFS_CHUNK_SIZE;
    chunk->data = g_bytes_new_from_bytes(request->data, done, MIN(len - done, QFS_CHUNK_SIZE));
    g_ptr_array_add(part, chunk); /* version 0: below whatever number the write will have that publishes it */
  }
  if (part == NULL) {
    request->object = op->result->object;
    qfs_op_finish(c, op, QFS_OK);
    return;
  }
  op->sent = TRUE;
  op->left = 1;
  qfs_object_stage(c, op->result->object);
  qfs_object_send_chunks(c, op->result->object, part, FALSE, qfs_op_ref(op), staged, stage_refused);
  qfs_wake_at(c, op->deadline_us);
}

/* ---- the steps ---- */

/* The key is a link: the file that it names is meant, and the link stays locked while it leads there. */
static void go_to_file(QfsCoordinator *c, QfsOp *op) {
  g_autofree char *target = qfs_record_link_target(op->key->newest);
  op->key2 = op->key;
  op->locked2 = op->locked;
  op->key = qfs_key_use(c, target);
  op->locked = FALSE;
  op->stage = LOCK;
  write_step(c, op);
}

static void write_locked(QfsCoordinator *c, QfsOp *op) {
  if (op->stage == LOCK) {
    if (!qfs_op_may_write(c, op))
      return;
    if (!op->key->have_base) {
      qfs_fetch_base(c, op->key->key, base_fetched, qfs_op_ref(op));
      return;
    }
    op->stage = BASE;
  }
  if (op->stage == BASE && qfs_record_is_link(op->key->newest)) {
    go_to_file(c, op);
    return;
  }
  if (op->stage == BASE) {
    if (op->key2 != NULL && !qfs_record_exists(op->key->newest)) { /* it was lost, as somebody decided */
      qfs_op_finish(c, op, QFS_IO);
      return;
    }
    if (!checks_pass(c, op))
      return;
    const char *key = op->key->key;
    gboolean creates = !qfs_record_exists(op->key->newest);
    op->stage = PLAN;
    if (creates && key[0] != '\0' && key[0] != '/') {
      if (!qfs_op_begin_creating(c, op, key)) {
        op->stage = BASE;
        return;
      }
      op->stage = PARENT;
      qfs_op_fetch_parent(c, op);
      return;
    }
  }
  if (op->stage == PLAN) {
    if (!qfs_op_may_write(c, op) || !make_plan(c, op))
      return;
    op->tries = 0;
    op->chunks = qfs_chunks_new();
    op->stage = op->plan == NULL || op->plan->chunks->len == 0 ? RECORD : CHUNK_BASES;
  }
  if (op->stage == CHUNK_BASES) {
    next_chunk_base(c, op);
    return;
  }
  if (op->stage == RECORD) {
    if (!c->view_stable) { /* not before the epoch is settled; sent or not, it goes on then */
      qfs_op_park(c, op);
      return;
    }
    if (!op->sent && (!qfs_op_may_write(c, op) || !qfs_op_sync_staged(c, op)))
      return;
    gboolean durable = op->request && (op->request->flags & QFS_WRITE_DURABLE);
    op->stage = SENT;
    qfs_op_send_record(c, op, durable);
  }
}

static void write_step(QfsCoordinator *c, QfsOp *op) {
  if (qfs_op_is_dead(c, op))
    return;
  if (op->stage == PARENTS) {
    next_parent(c, op);
    return;
  }
  if (!qfs_op_lock_keys(c, op))
    return;
  write_locked(c, op);
}

void qfs_op_write(QfsCoordinator *c, QfsRequest *request) {
  if (!is_note_of_reading(request))
    c->stat.puts++;
  QfsOp *op = qfs_op_new(c, request, write_step);
  op->key = qfs_key_use(c, request->key);
  gboolean is_write = request->type == QFS_REQUEST_WRITE;
  if (is_write && (request->flags & QFS_WRITE_STAGE)) {
    op->step = stage_step;
    stage_step(c, op);
    return;
  }
  op->stage = is_write && (request->flags & QFS_WRITE_PARENTS) ? PARENTS : LOCK;
  write_step(c, op);
}
