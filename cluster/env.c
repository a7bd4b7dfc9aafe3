/* env.c - what every environment needs for direct reads; see env.h. Pure, no state. */
#include "cluster/env.h"

QfsRead *qfs_read_new(QfsReadKind kind, guint node) {
  QfsRead *read = g_slice_new0(QfsRead);
  read->kind = kind;
  read->node = node;
  return read;
}

static void free_answer(QfsRead *read) {
  g_clear_pointer(&read->reason, g_free);
  g_clear_pointer(&read->bad, qfs_bad_row_free);
  g_clear_pointer(&read->record, qfs_record_unref);
  g_clear_pointer(&read->list, g_ptr_array_unref);
  for (guint i = 0; read->chunks != NULL && i < read->count; i++)
    qfs_chunk_free(read->chunks[i]);
  g_clear_pointer(&read->chunks, g_free);
}

void qfs_read_clear(QfsRead *read) {
  free_answer(read);
  g_clear_pointer(&read->key, g_ref_string_release);
  g_free(read->after);
  g_clear_pointer(&read->spans, g_bytes_unref);
}

void qfs_read_free(QfsRead *read) {
  if (read == NULL)
    return;
  qfs_read_clear(read);
  g_slice_free(QfsRead, read);
}

void qfs_read_fail(QfsRead *read, QfsStatus status, const char *reason) {
  free_answer(read);
  read->status = status;
  read->reason = g_strdup(reason);
}

static gboolean read_chunks(QfsRead *read, QfsReplica *replica, GError **error) {
  read->chunks = g_new0(QfsChunk *, MAX(read->count, 1));
  for (guint i = 0; i < read->count; i++) {
    gboolean newer = FALSE;
    if (!qfs_replica_chunk(replica, read->object, read->index + i, read->spans, &read->chunks[i],
                           &newer, error))
      return FALSE;
    read->newer |= newer;
  }
  return TRUE;
}

/* At most so many rows by one SEEK: others want the replica, too. */
#define SEEK_ROWS 64

/* *out_length: of the bytes that the version has at read->index. */
static gboolean chunk_length(QfsRead *read, QfsReplica *replica, guint *out_length, GError **error) {
  g_autoptr(QfsChunk) chunk = NULL;
  gboolean newer = FALSE;
  if (!qfs_replica_chunk(replica, read->object, read->index, read->spans, &chunk, &newer, error))
    return FALSE;
  read->newer |= newer;
  *out_length = chunk != NULL ? (guint)g_bytes_get_size(chunk->data) : 0;
  return TRUE;
}

/* Moves read->index on to the next chunk that has any row. */
static gboolean skip_absent(QfsRead *read, QfsReplica *replica, GError **error) {
  g_autoptr(GPtrArray) rows = qfs_chunks_new();
  gboolean more;
  QfsChunk before = {.object = read->object, .index = read->index - 1, .version = G_MAXUINT64};
  if (read->index == 0) {
    before.object.unique--; /* never 0 itself */
    before.index = G_MAXINT64;
  }
  if (!replica->ops->chunk_list(replica, &before, 1, rows, &more, error))
    return FALSE;
  const QfsChunk *row = rows->len > 0 ? rows->pdata[0] : NULL;
  gboolean here = row != NULL && qfs_object_equal(row->object, read->object);
  read->index = here ? MIN(row->index, read->end) : read->end;
  return TRUE;
}

static gboolean seek_chunks(QfsRead *read, QfsReplica *replica, GError **error) {
  for (guint n = 0; n < SEEK_ROWS && read->index < read->end; n++) {
    if (!read->hole && !skip_absent(read, replica, error))
      return FALSE;
    if (read->index == read->end)
      return TRUE;
    if (!chunk_length(read, replica, &read->length, error))
      return FALSE;
    read->found = read->hole ? read->length < QFS_CHUNK_SIZE : read->length > 0;
    if (read->found)
      return TRUE;
    read->index++;
  }
  return TRUE;
}

gboolean qfs_read_run(QfsRead *read, QfsReplica *replica) {
  g_autoptr(GError) error = NULL;
  gboolean ok = FALSE;
  read->status = QFS_OK;
  switch (read->kind) {
  case QFS_READ_RECORD:
    ok = replica->ops->record_get(replica, read->key, &read->record, &error);
    break;
  case QFS_READ_LIST:
    read->list = qfs_records_new();
    ok = replica->ops->record_list(replica, read->key, read->after, read->limit, read->whole, read->list,
                                   &read->more, &error);
    break;
  case QFS_READ_CHUNKS:
    ok = read_chunks(read, replica, &error);
    break;
  case QFS_READ_SEEK:
    ok = seek_chunks(read, replica, &error);
    break;
  }
  read->corrupt = g_error_matches(error, QFS_REPLICA_ERROR, QFS_REPLICA_ERROR_CORRUPT);
  if (ok)
    return TRUE;
  qfs_read_fail(read, QFS_IO, error != NULL ? error->message : "unknown storage failure");
  if (g_error_matches(error, QFS_REPLICA_ERROR, QFS_REPLICA_ERROR_BAD_ROW))
    read->bad = qfs_bad_row_copy(replica->ops->bad_row(replica));
  return read->bad != NULL;
}
