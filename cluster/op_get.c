/* op_get.c - GET, READ and SEEK. */
#include "cluster/private.h"

#include <string.h>

/* ---- GET ---- */

static void no_step(QfsCoordinator *c, QfsOp *op) {}

static void got(QfsCoordinator *c, QfsStatus status, QfsRecord *record, gpointer data);

/* The file that a link names. As long as nothing happened to the link it is what the key means. */
static void file_got(QfsCoordinator *c, QfsStatus status, QfsRecord *record, gpointer data) {
  QfsOp *op = data;
  if (op->request != NULL && op->counter != qfs_key_counter(c, qfs_key_hash(op->request->key)))
    qfs_fetch(c, op->request->key, got, op);
  else
    got(c, status, record, op);
}

static void got(QfsCoordinator *c, QfsStatus status, QfsRecord *record, gpointer data) {
  QfsOp *op = data;
  if (op->request != NULL && status == QFS_OK && qfs_record_is_link(record)) {
    g_autofree char *target = qfs_record_link_target(record);
    op->counter = qfs_key_counter(c, qfs_key_hash(op->request->key));
    qfs_fetch(c, target, file_got, op);
    return;
  }
  if (op->request != NULL) {
    if (status == QFS_OK && record != NULL)
      op->request->record = qfs_record_ref(record);
    if (status == QFS_OK && !qfs_record_exists(record))
      status = QFS_NOT_FOUND;
    op->sent = TRUE; /* nothing to unwind */
    qfs_op_finish(c, op, status);
  }
  qfs_op_unref(c, op);
}

void qfs_op_get(QfsCoordinator *c, QfsRequest *request) {
  c->stat.gets++;
  QfsOp *op = qfs_op_new(c, request, no_step);
  qfs_op_ref(op);
  qfs_wake_at(c, op->deadline_us);
  qfs_fetch(c, request->key, got, op);
}

/* ---- READ ---- */

/* The bytes `from` to `to` of a value, put together in ascending order; where nothing is put there are zeros. */
typedef struct {
  guint8 *bytes;
  guint64 from, to;
  guint64 at; /* all before is done */
} Window;

static Window window_new(const QfsRequest *request) {
  const guint64 from = request->offset;
  return (Window){.bytes = g_malloc(MAX(request->length, 1)), .from = from, .to = from + request->length, .at = from};
}

static void window_zero_up_to(Window *window, guint64 end) {
  memset(window->bytes + (window->at - window->from), 0, end - window->at);
  window->at = end;
}

/* Bytes that begin at `at` of the value, as far as they are in the window. */
static void window_put(Window *window, guint64 at, const guint8 *data, gsize len) {
  guint64 start = MAX(window->at, at), end = MIN(window->to, at + len);
  if (start >= end)
    return;
  window_zero_up_to(window, start);
  memcpy(window->bytes + (start - window->from), data + (start - at), end - start);
  window->at = end;
}

static GBytes *window_end(Window *window, const QfsRecord *record) {
  gsize len;
  const guint8 *tail = g_bytes_get_data(record->tail, &len);
  window_put(window, record->tail_offset, tail, len);
  window_zero_up_to(window, window->to);
  return g_bytes_new_take(window->bytes, window->to - window->from);
}

static void read_step(QfsCoordinator *c, QfsOp *op);

/* There is no row where there is one of a newer write: a hole, and the row may be of a write that was never
 * finished; or the value was changed in place since, and its former row trimmed. */
static void hole_compared(QfsCoordinator *c, QfsStatus status, QfsRecord *newest, gpointer data) {
  QfsOp *op = data;
  QfsRequest *request = op->request;
  if (request != NULL) {
    const QfsRecord *record = request->record;
    QfsObject *object = qfs_object_find(c, record->object);
    gboolean kept = object != NULL && object->pins > 0;
    if (newest != NULL && qfs_object_equal(newest->object, record->object))
      kept = qfs_record_compare(newest, record) == 0;
    if (status == QFS_OK && !kept)
      status = QFS_STALE;
    if (status != QFS_OK)
      g_clear_pointer(&request->data, g_bytes_unref);
    qfs_op_finish(c, op, status);
  }
  qfs_op_unref(c, op);
}

static void chunks_read(QfsCoordinator *c, QfsRead *read, gpointer data) {
  QfsOp *op = data;
  QfsRequest *request = op->request;
  if (request == NULL) {
    qfs_op_unref(c, op);
    return;
  }
  QfsRecord *record = request->record;
  if (read->status != QFS_OK) {
    gboolean others = qfs_read_failed(c, record->object.placement, read);
    if (read->bad != NULL)
      op->bad_at |= qfs_read_bit(read);
    if (++op->tries > c->n_peers || (!others && read->status == QFS_IO))
      qfs_op_finish(c, op, read->status);
    else
      read_step(c, op);
  } else {
    Window window = window_new(request);
    for (guint i = 0; i < read->count; i++) {
      if (read->chunks[i] == NULL)
        continue;
      guint64 at = (read->index + i) * QFS_CHUNK_SIZE;
      gsize len;
      const guint8 *bytes = g_bytes_get_data(read->chunks[i]->data, &len);
      window_put(&window, at, bytes, MIN(len, record->tail_offset - at));
    }
    request->data = window_end(&window, record);
    if (read->newer)
      qfs_fetch(c, record->key, hole_compared, qfs_op_ref(op));
    else
      qfs_op_finish(c, op, QFS_OK);
  }
  qfs_op_unref(c, op);
}

/* Who may be asked for the version's chunks now. 0: parked or answered. */
static QfsNodeSet nodes_with_chunks(QfsCoordinator *c, QfsOp *op, const QfsRecord *record) {
  QfsNodeSet mute = qfs_peers_mute(c);
  QfsNodeSet nodes = qfs_object_readable(c, record->object, qfs_record_newest_write(record)) & ~mute;
  if (nodes == 0 && (qfs_readable(c, record->object.placement) & ~mute) != 0)
    qfs_op_park(c, op); /* the chunks are on their way */
  else if (nodes == 0)
    qfs_op_finish(c, op, QFS_NO_QUORUM);
  return nodes;
}

static void read_step(QfsCoordinator *c, QfsOp *op) {
  if (op->request == NULL)
    return;
  QfsRequest *request = op->request;
  QfsRecord *record = request->record;
  QfsNodeSet nodes = nodes_with_chunks(c, op, record);
  if (nodes == 0)
    return;
  guint64 end = MIN(request->offset + request->length, record->tail_offset);
  const guint64 index = request->offset / QFS_CHUNK_SIZE;
  const guint count = (guint)((end + QFS_CHUNK_SIZE - 1) / QFS_CHUNK_SIZE - index);
  qfs_chunks_read(c, record, index, count, nodes, op->bad_at, chunks_read, qfs_op_ref(op));
}

void qfs_op_read(QfsCoordinator *c, QfsRequest *request) {
  QfsOp *op = qfs_op_new(c, request, read_step);
  QfsRecord *record = request->record;
  op->sent = TRUE; /* a read has nothing to unwind */
  guint64 size = record->attr.size;
  request->offset = MIN(request->offset, size);
  request->length = MIN(request->length, size - request->offset);
  if (request->offset >= record->tail_offset || request->length == 0) {
    Window window = window_new(request);
    request->data = window_end(&window, record);
    qfs_op_finish(c, op, QFS_OK);
    return;
  }
  qfs_wake_at(c, op->deadline_us);
  read_step(c, op);
}

/* ---- SEEK ---- */

/* Bytes are told from holes in pieces of this size, as other filesystems do. */
#define SEEK_GRAIN 4096

static guint64 round_up(guint64 at) { return (at + SEEK_GRAIN - 1) / SEEK_GRAIN * SEEK_GRAIN; }

/* There is nothing of the kind in the chunks. */
static guint64 seek_in_tail(const QfsRecord *record, guint64 offset, gboolean hole) {
  gsize len = g_bytes_get_size(record->tail);
  guint64 end = len > 0 ? round_up(record->tail_offset + len) : record->tail_offset;
  guint64 at = hole ? MAX(offset, end) : MAX(offset, record->tail_offset);
  return hole || at < end ? MIN(at, record->attr.size) : record->attr.size;
}

/* A chunk that was found to have bytes, or not to be full. FALSE: not what is looked for, at or after the offset. */
static gboolean seek_in_chunk(const QfsRequest *request, const QfsSeek *seek, guint64 *out) {
  guint64 start = seek->at * QFS_CHUNK_SIZE, end = start + MIN(round_up(seek->length), QFS_CHUNK_SIZE);
  gboolean hole = (request->flags & QFS_SEEK_HOLE) != 0;
  *out = MAX(request->offset, hole ? end : start);
  return *out < MIN(hole ? start + QFS_CHUNK_SIZE : end, request->record->tail_offset);
}

static void seek_from(QfsCoordinator *c, QfsOp *op, guint64 index);

static void seek_done(QfsCoordinator *c, QfsOp *op, guint64 offset) {
  op->request->offset = MIN(offset, op->request->record->attr.size);
  if (op->newer)
    qfs_fetch(c, op->request->record->key, hole_compared, qfs_op_ref(op));
  else
    qfs_op_finish(c, op, QFS_OK);
}

/* A row may be lost at one of two holders: bytes are where either has them, a hole is where both have none. */
static void seek_merge(QfsOp *op, const QfsRead *read) {
  QfsSeek *seek = &op->seek;
  gboolean hole = (op->request->flags & QFS_SEEK_HOLE) != 0;
  gboolean better = hole ? read->index > seek->at : read->index < seek->at;
  if (seek->answers > 0 && read->index == seek->at && read->found == seek->found) {
    seek->length = MAX(seek->length, read->length);
  } else if (seek->answers == 0 || better || (read->index == seek->at && read->found != hole)) {
    seek->at = read->index;
    seek->found = read->found;
    seek->length = read->length;
  }
  seek->answers++;
  op->newer |= read->newer;
}

static void seek_ask(QfsCoordinator *c, QfsOp *op);

static void seek_read(QfsCoordinator *c, QfsRead *read, gpointer data) {
  QfsOp *op = data;
  QfsRequest *request = op->request;
  QfsSeek *seek = &op->seek;
  guint64 at;
  if (request == NULL) {
    qfs_op_unref(c, op);
    return;
  }
  seek->not_at |= qfs_read_bit(read);
  if (read->status != QFS_OK) {
    gboolean others = qfs_read_failed(c, request->record->object.placement, read);
    if (read->bad != NULL)
      op->bad_at |= qfs_read_bit(read);
    if (++op->tries > c->n_peers || (!others && read->status == QFS_IO))
      qfs_op_finish(c, op, read->status);
    else
      seek_from(c, op, seek->index);
  } else {
    op->tries = 0;
    seek_merge(op, read);
    QfsNodeSet nodes = qfs_object_readable(c, request->record->object, qfs_record_newest_write(request->record)) &
                       ~qfs_peers_mute(c);
    if (seek->answers == 1 && (nodes & ~seek->not_at) != 0)
      seek_ask(c, op);
    else if (seek->found && seek_in_chunk(request, seek, &at))
      seek_done(c, op, at);
    else
      seek_from(c, op, seek->found ? seek->at + 1 : seek->at);
  }
  qfs_op_unref(c, op);
}

static void seek_ask(QfsCoordinator *c, QfsOp *op) {
  QfsRequest *request = op->request;
  QfsRecord *record = request->record;
  QfsNodeSet nodes = nodes_with_chunks(c, op, record);
  if (nodes == 0)
    return;
  const QfsRead what = {.kind = QFS_READ_SEEK,
                        .object = record->object,
                        .index = op->seek.index,
                        .end = (record->tail_offset + QFS_CHUNK_SIZE - 1) / QFS_CHUNK_SIZE,
                        .hole = (request->flags & QFS_SEEK_HOLE) != 0,
                        .spans = qfs_record_spans(record)};
  QfsNodeSet except = op->seek.not_at | op->bad_at;
  except = (nodes & ~except) != 0 ? except : op->seek.not_at;
  qfs_ask(c, &what, record->object.placement, nodes, (nodes & ~except) != 0 ? except : 0, 1, seek_read,
          qfs_op_ref(op));
}

/* Looks at the chunks from `index` on. */
static void seek_from(QfsCoordinator *c, QfsOp *op, guint64 index) {
  const QfsRecord *record = op->request->record;
  op->seek = (QfsSeek){.index = index};
  if (index * QFS_CHUNK_SIZE >= record->tail_offset)
    seek_done(c, op, seek_in_tail(record, op->request->offset, (op->request->flags & QFS_SEEK_HOLE) != 0));
  else
    seek_ask(c, op);
}

static void seek_step(QfsCoordinator *c, QfsOp *op) {
  if (op->request != NULL)
    seek_from(c, op, op->seek.index);
}

void qfs_op_seek(QfsCoordinator *c, QfsRequest *request) {
  QfsOp *op = qfs_op_new(c, request, seek_step);
  op->sent = TRUE; /* nothing to unwind */
  request->offset = MIN(request->offset, request->record->attr.size);
  qfs_wake_at(c, op->deadline_us);
  qfs_op_ref(op);
  seek_from(c, op, request->offset / QFS_CHUNK_SIZE);
  qfs_op_unref(c, op);
}
