/* chunk_read.c - the chunks of a version, read at one holder; where it has no row, a second one is asked.
 *
 * An index without a row reads as zeros: a hole. But a row may also be missing where it should be, lost or hidden by a
 * damaged page. So, like the absence of a record, a hole is confirmed by a second holder, if another one can answer.
 * A row that only the second has is the right one, and the first gets it (mend_chunk.c) if the version is still the
 * newest of its key: its rows are not replaced before a later one is acknowledged.
 */
#include "cluster/private.h"

typedef struct {
  QfsRecord *record;
  QfsRead *first;          /* what was found until now */
  QfsNodeSet not_at;       /* nodes not to be asked any more */
  guint answers;
  GPtrArray *missing;      /* QfsChunk without data: rows that only a later node had */
  QfsReadDone done;
  gpointer data;
} ChunkRead;

static void chunk_read_free(ChunkRead *cr) {
  qfs_record_unref(cr->record);
  qfs_read_free(cr->first);
  g_ptr_array_unref(cr->missing);
  g_free(cr);
}

static gboolean has_holes(const QfsRead *read) {
  for (guint i = 0; i < read->count; i++)
    if (read->chunks[i] == NULL)
      return TRUE;
  return FALSE;
}

/* ---- rows that a holder lacks ---- */

typedef struct {
  QfsRecord *record;
  GPtrArray *missing;
} Lack;

static void lack_compared(QfsCoordinator *c, QfsStatus status, QfsRecord *newest, gpointer data) {
  Lack *lack = data;
  if (status == QFS_OK && qfs_record_compare(newest, lack->record) == 0)
    for (guint i = 0; i < lack->missing->len; i++)
      qfs_mend_missing(c, lack->missing->pdata[i]);
  qfs_record_unref(lack->record);
  g_ptr_array_unref(lack->missing);
  g_free(lack);
}

static void tell_missing(QfsCoordinator *c, const ChunkRead *cr) {
  if (cr->missing->len == 0)
    return;
  Lack *lack = g_new(Lack, 1);
  lack->record = qfs_record_ref(cr->record);
  lack->missing = g_ptr_array_ref(cr->missing);
  qfs_fetch(c, lack->record->key, lack_compared, lack);
}

/* ---- reading ---- */

static void answered(QfsCoordinator *c, QfsRead *read, gpointer data);

static QfsRead question(const ChunkRead *cr, guint64 index, guint count) {
  return (QfsRead){.kind = QFS_READ_CHUNKS,
                   .object = cr->record->object,
                   .index = index,
                   .count = count,
                   .spans = qfs_record_spans(cr->record)};
}

static void take_answer(ChunkRead *cr, QfsRead *read) {
  cr->answers++;
  if (cr->first == NULL) {
    cr->first = qfs_read_new(read->kind, read->node);
    cr->first->object = read->object;
    cr->first->index = read->index;
    cr->first->count = read->count;
    cr->first->chunks = g_steal_pointer(&read->chunks);
    cr->first->newer = read->newer;
    return;
  }
  cr->first->newer |= read->newer;
  for (guint i = 0; i < read->count; i++) {
    if (cr->first->chunks[i] != NULL || read->chunks[i] == NULL)
      continue;
    cr->first->chunks[i] = g_steal_pointer(&read->chunks[i]);
    QfsChunk *name = g_memdup2(cr->first->chunks[i], sizeof(QfsChunk));
    name->data = NULL;
    g_ptr_array_add(cr->missing, name);
  }
}

static void over(QfsCoordinator *c, ChunkRead *cr, QfsRead *read) {
  cr->done(c, read, cr->data);
  chunk_read_free(cr);
}

static void answered(QfsCoordinator *c, QfsRead *read, gpointer data) {
  ChunkRead *cr = data;
  const QfsObjectId id = cr->record->object;
  cr->not_at |= qfs_read_bit(read);
  if (read->status != QFS_OK && cr->first == NULL) {
    over(c, cr, read);
    return;
  }
  if (read->status == QFS_OK)
    take_answer(cr, read);
  else
    qfs_read_failed(c, id.placement, read);
  QfsNodeSet nodes = qfs_object_readable(c, id, qfs_record_newest_write(cr->record)) & ~qfs_peers_mute(c);
  if (cr->answers < 2 && has_holes(cr->first) && (nodes & ~cr->not_at) != 0) {
    const QfsRead what = question(cr, cr->first->index, cr->first->count);
    qfs_ask(c, &what, id.placement, nodes, cr->not_at, 1, answered, cr);
    return;
  }
  tell_missing(c, cr);
  cr->first->newer = cr->first->newer && has_holes(cr->first);
  over(c, cr, cr->first);
}

void qfs_chunks_read(QfsCoordinator *c, QfsRecord *record, guint64 index, guint count, QfsNodeSet nodes,
                     QfsNodeSet bad_at, QfsReadDone done, gpointer data) {
  ChunkRead *cr = g_new0(ChunkRead, 1);
  cr->record = qfs_record_ref(record);
  cr->not_at = (nodes & ~bad_at) != 0 ? bad_at : 0; /* when all were met they may have been mended */
  cr->missing = qfs_chunks_new();
  cr->done = done;
  cr->data = data;
  const QfsRead what = question(cr, index, count);
  qfs_ask(c, &what, record->object.placement, nodes, cr->not_at, 1, answered, cr);
}
