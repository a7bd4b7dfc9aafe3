/* chunk.c - chunk rows of a SQLite replica.
 *
 * A row is (object, index, version), where version is the number of the write that brought it: writing a part
 * of a value adds a row of a higher number, readers of the old version of the value still find theirs, and
 * older rows are trimmed later. Object and
 * version are stored with their sign bit flipped (schema.c), so order by SQL is order as unsigned.
 *
 * One thread at a time, like the connection.
 */
#include "storage/chunk.h"

#include "storage/bad_row.h"
#include "storage/checksum.h"
#include "storage/row.h"

/* A page of a walk stops after about this much. */
#define WALK_BYTES (1024 * 1024)

enum {
  COLUMN_OBJECT_PLACEMENT,
  COLUMN_OBJECT_UNIQUE,
  COLUMN_INDEX,
  COLUMN_VERSION,
  COLUMN_SEQ,
  COLUMN_CHECKSUM,
  COLUMN_HEAD_CHECKSUM,
  COLUMN_DATA,
};

void qfs_chunk_free(QfsChunk *chunk) {
  if (chunk == NULL)
    return;
  g_clear_pointer(&chunk->data, g_bytes_unref);
  g_free(chunk);
}

QfsChunk *qfs_chunk_copy(const QfsChunk *chunk) {
  QfsChunk *copy = g_memdup2(chunk, sizeof *chunk);
  if (copy->data != NULL)
    g_bytes_ref(copy->data);
  return copy;
}

int qfs_chunk_order(const QfsChunk *a, const QfsChunk *b) {
  const guint64 pairs[][2] = {{a->object.placement, b->object.placement},
                              {a->object.unique, b->object.unique},
                              {a->index, b->index},
                              {a->version, b->version}};
  for (guint i = 0; i < G_N_ELEMENTS(pairs); i++)
    if (pairs[i][0] != pairs[i][1])
      return pairs[i][0] < pairs[i][1] ? -1 : 1;
  return 0;
}

/* Binds ?1 and ?2 (the object), ?3 (the index). */
static void bind_place(sqlite3_stmt *statement, QfsObjectId object, guint64 index) {
  g_assert(index <= G_MAXINT64); /* SQL orders it */
  qfs_bind_ordered(statement, 1, object.placement);
  qfs_bind_ordered(statement, 2, object.unique);
  qfs_bind_u64(statement, 3, index);
}

static void bind_chunk(sqlite3_stmt *statement, const QfsChunk *chunk) {
  guint64 checksum =
      qfs_chunk_checksum(chunk->object, chunk->index, chunk->version, chunk->seq, chunk->data);

  bind_place(statement, chunk->object, chunk->index);
  qfs_bind_ordered(statement, 4, chunk->version);
  qfs_bind_u64(statement, 5, chunk->seq);
  qfs_bind_u64(statement, 6, checksum);
  qfs_bind_u64(
      statement, 7,
      qfs_chunk_head_checksum(chunk->object, chunk->index, chunk->version, chunk->seq, checksum));
  qfs_bind_bytes(statement, 8, chunk->data);
}

static gboolean run_with_chunk(QfsConnection *connection, QfsSql id, const QfsChunk *chunk,
                               GError **error) {
  sqlite3_stmt *statement = qfs_connection_statement(connection, id, error);

  if (statement == NULL)
    return FALSE;
  bind_chunk(statement, chunk);
  return qfs_connection_run(connection, statement, error);
}

gboolean qfs_chunk_store_put(QfsReplica *replica, const QfsChunk *chunk, GError **error) {
  QfsConnection *connection = qfs_connection(replica);

  if (!qfs_connection_may_write(connection, error))
    return FALSE;
  g_assert(chunk->data != NULL && g_bytes_get_size(chunk->data) <= QFS_CHUNK_SIZE);
  g_assert(chunk->seq <= G_MAXINT64);
  /* New rows are the rule. */
  if (!run_with_chunk(connection, QFS_SQL_CHUNK_INSERT, chunk, error))
    return qfs_connection_wrote(connection, FALSE);
  if (sqlite3_changes64(connection->db) > 0) {
    connection->counters.chunks++;
    return TRUE;
  }
  return qfs_connection_wrote(connection,
                              run_with_chunk(connection, QFS_SQL_CHUNK_UPDATE, chunk, error));
}

/* The chunk in the current row, verified (S4); NULL with BAD_ROW. */
static QfsChunk *read_chunk(QfsConnection *connection, sqlite3_stmt *row, gboolean with_data,
                            GError **error) {
  g_autoptr(QfsChunk) chunk = g_new0(QfsChunk, 1);
  guint64 checksum = qfs_column_u64(row, COLUMN_CHECKSUM);

  chunk->object.placement = qfs_column_ordered(row, COLUMN_OBJECT_PLACEMENT);
  chunk->object.unique = qfs_column_ordered(row, COLUMN_OBJECT_UNIQUE);
  chunk->index = qfs_column_u64(row, COLUMN_INDEX);
  chunk->version = qfs_column_ordered(row, COLUMN_VERSION);
  chunk->seq = qfs_column_u64(row, COLUMN_SEQ);
  if (with_data)
    chunk->data = qfs_column_bytes(row, COLUMN_DATA);

  gboolean is_intact =
      qfs_column_u64(row, COLUMN_HEAD_CHECKSUM) ==
          qfs_chunk_head_checksum(chunk->object, chunk->index, chunk->version, chunk->seq,
                                  checksum) &&
      (!with_data || checksum == qfs_chunk_checksum(chunk->object, chunk->index, chunk->version,
                                                    chunk->seq, chunk->data));
  if (!is_intact) {
    qfs_bad_row_note_chunk(connection, chunk);
    qfs_connection_fail_with(connection, QFS_REPLICA_ERROR_BAD_ROW, error,
                             "chunk %" G_GUINT64_FORMAT " of object %" G_GINT64_MODIFIER
                             "x-%" G_GINT64_MODIFIER "x does not match its checksum",
                             chunk->index, chunk->object.placement, chunk->object.unique);
    return NULL;
  }
  return g_steal_pointer(&chunk);
}

gboolean qfs_chunk_store_get(QfsReplica *replica, QfsObjectId object, guint64 index,
                             guint64 max_version, QfsChunk **out_chunk, gboolean *out_newer,
                             GError **error) {
  QfsConnection *connection = qfs_connection(replica);
  sqlite3_stmt *statement = qfs_connection_statement(connection, QFS_SQL_CHUNK_GET, error);
  g_autoptr(QfsChunk) found = NULL;
  gboolean row, newer = FALSE;

  if (statement == NULL)
    return FALSE;
  g_autoptr(QfsCursor) cursor = statement;
  bind_place(cursor, object, index);
  qfs_bind_ordered(cursor, 4, max_version);
  /* At most two rows: the one that is wanted, and one that is too new. */
  while (found == NULL) {
    if (!qfs_connection_step(connection, cursor, &row, error))
      return FALSE;
    if (!row)
      break;
    if (qfs_column_ordered(cursor, COLUMN_VERSION) > max_version) {
      newer = TRUE;
      continue;
    }
    found = read_chunk(connection, cursor, TRUE, error);
    if (found == NULL)
      return FALSE;
    if (!qfs_object_equal(found->object, object) || found->index != index)
      return qfs_row_astray(connection, "chunks", error);
  }
  if (out_newer != NULL)
    *out_newer = newer;
  *out_chunk = g_steal_pointer(&found);
  return TRUE;
}

/* Runs a DELETE of chunk rows whose first three parameters are bound by bind_place. */
static gboolean delete_rows(QfsConnection *connection, QfsSql id, QfsObjectId object, guint64 index,
                            guint64 version, GError **error) {
  if (!qfs_connection_may_write(connection, error))
    return FALSE;
  sqlite3_stmt *statement = qfs_connection_statement(connection, id, error);
  if (statement == NULL)
    return qfs_connection_wrote(connection, FALSE);
  bind_place(statement, object, index);
  if (sqlite3_bind_parameter_count(statement) >= 4)
    qfs_bind_ordered(statement, 4, version);
  if (!qfs_connection_run(connection, statement, error))
    return qfs_connection_wrote(connection, FALSE);
  guint64 changes = (guint64)sqlite3_changes64(connection->db);
  connection->counters.chunks -= MIN(changes, connection->counters.chunks);
  return TRUE;
}

gboolean qfs_chunk_store_trim(QfsReplica *replica, QfsObjectId object, guint64 index, guint64 keep,
                              GError **error) {
  return delete_rows(qfs_connection(replica), QFS_SQL_CHUNK_TRIM, object, index, keep, error);
}

gboolean qfs_chunk_store_remove(QfsReplica *replica, QfsObjectId object, guint64 index,
                                guint64 version, GError **error) {
  return delete_rows(qfs_connection(replica), QFS_SQL_CHUNK_REMOVE, object, index, version, error);
}

gboolean qfs_chunk_store_drop(QfsReplica *replica, QfsObjectId object, guint limit,
                              gboolean *out_more, GError **error) {
  QfsConnection *connection = qfs_connection(replica);
  gboolean row;

  if (!delete_rows(connection, QFS_SQL_CHUNK_DROP, object, limit, 0, error)) /* ?3: LIMIT */
    return FALSE;
  sqlite3_stmt *statement = qfs_connection_statement(connection, QFS_SQL_CHUNK_ANY, error);
  if (statement == NULL)
    return qfs_connection_wrote(connection, FALSE);
  g_autoptr(QfsCursor) cursor = statement;
  qfs_bind_ordered(cursor, 1, object.placement);
  qfs_bind_ordered(cursor, 2, object.unique);
  if (!qfs_connection_step(connection, cursor, &row, error))
    return qfs_connection_wrote(connection, FALSE);
  *out_more = row;
  return TRUE;
}

/* (seq, object, index, version) of a as against b; seq only if it counts. */
static int compare_places(const QfsChunk *a, const QfsChunk *b, gboolean by_seq) {
  if (by_seq && a->seq != b->seq)
    return a->seq < b->seq ? -1 : 1;
  return qfs_chunk_order(a, b);
}

static void bind_after(sqlite3_stmt *statement, const QfsChunk *place) {
  qfs_bind_u64(statement, 1, place->seq);
  qfs_bind_ordered(statement, 2, place->object.placement);
  qfs_bind_ordered(statement, 3, place->object.unique);
  qfs_bind_u64(statement, 4, MIN(place->index, (guint64)G_MAXINT64));
  qfs_bind_ordered(statement, 5, place->version);
}

/* Appends rows after `place` until they end or there are `limit`. Resets the statement. */
static gboolean collect(QfsConnection *connection, sqlite3_stmt *statement, const QfsChunk *place,
                        gboolean by_seq, gboolean with_data, guint limit, GPtrArray *out,
                        gboolean *out_more, GError **error) {
  const guint start = out->len;
  g_autoptr(QfsCursor) cursor = statement;
  bind_after(cursor, place);
  for (const QfsChunk *last = place;; last = g_ptr_array_index(out, out->len - 1)) {
    gboolean row;
    g_autoptr(QfsChunk) chunk = NULL;
    gboolean ok = qfs_connection_step(connection, cursor, &row, error);
    if (ok && (!row || out->len - start >= limit)) {
      *out_more = row;
      return TRUE;
    }
    if (ok)
      chunk = read_chunk(connection, cursor, with_data, error);
    /* Out of order, paging might go round for ever. */
    if (chunk != NULL && compare_places(last, chunk, by_seq) >= 0) {
      qfs_row_astray(connection, by_seq ? "operations" : "chunks", error);
      g_clear_pointer(&chunk, qfs_chunk_free);
    }
    if (chunk == NULL) {
      g_ptr_array_set_size(out, (int)start);
      return FALSE;
    }
    g_ptr_array_add(out, g_steal_pointer(&chunk));
  }
}

gboolean qfs_chunk_store_list(QfsReplica *replica, const QfsChunk *after, guint limit,
                              GPtrArray *out, gboolean *out_more, GError **error) {
  QfsConnection *connection = qfs_connection(replica);
  const QfsChunk first = {.seq = 0};
  sqlite3_stmt *statement = qfs_connection_statement(connection, QFS_SQL_CHUNK_LIST, error);

  return statement != NULL && collect(connection, statement, after != NULL ? after : &first, FALSE,
                                      FALSE, limit, out, out_more, error);
}

gboolean qfs_chunk_store_scan(QfsReplica *replica, guint64 after_seq, const QfsChunk *after,
                              gboolean with_data, guint limit, GPtrArray *out, gboolean *out_more,
                              GError **error) {
  QfsConnection *connection = qfs_connection(replica);
  /* The place that the scan goes on from; without `after`, above every row of after_seq. */
  const QfsChunk place = {
      .seq = after_seq,
      .object = after != NULL ? after->object : (QfsObjectId){G_MAXUINT64, G_MAXUINT64},
      .index = after != NULL ? after->index : G_MAXUINT64,
      .version = after != NULL ? after->version : G_MAXUINT64,
  };
  sqlite3_stmt *statement = qfs_connection_statement(
      connection, with_data ? QFS_SQL_CHUNK_SCAN_DATA : QFS_SQL_CHUNK_SCAN, error);

  if (statement == NULL)
    return FALSE;
  if (after_seq > G_MAXINT64) { /* nothing can be above it */
    *out_more = FALSE;
    return TRUE;
  }
  return collect(connection, statement, &place, TRUE, with_data, limit, out, out_more, error);
}

gboolean qfs_chunk_store_wipe(QfsConnection *connection, GError **error) {
  sqlite3_stmt *statement = qfs_connection_statement(connection, QFS_SQL_CHUNK_CLEAR, error);

  if (statement == NULL || !qfs_connection_run(connection, statement, error))
    return FALSE;
  connection->counters.chunks = 0;
  return TRUE;
}

/* ---- bad rows ---- */

static sqlite3_stmt *find_exact(QfsConnection *connection, const QfsChunk *id, gboolean *out_row,
                                GError **error) {
  sqlite3_stmt *statement = qfs_connection_statement(connection, QFS_SQL_CHUNK_EXACT, error);
  if (statement == NULL)
    return NULL;
  bind_place(statement, id->object, id->index);
  qfs_bind_ordered(statement, 4, id->version);
  return qfs_connection_step(connection, statement, out_row, error) ? statement : NULL;
}

gboolean qfs_chunk_store_exact(QfsReplica *replica, const QfsChunk *id, QfsChunk **out_chunk, GError **error) {
  QfsConnection *connection = qfs_connection(replica);
  gboolean row;
  g_autoptr(QfsCursor) cursor = find_exact(connection, id, &row, error);

  if (cursor == NULL)
    return FALSE;
  QfsChunk *found = row ? read_chunk(connection, cursor, TRUE, error) : NULL;
  if (row && found == NULL)
    return FALSE;
  *out_chunk = found;
  return TRUE;
}

gboolean qfs_chunk_store_print(QfsReplica *replica, const QfsChunk *id, guint64 *out_print, GError **error) {
  gboolean row;
  g_autoptr(QfsCursor) cursor = find_exact(qfs_connection(replica), id, &row, error);

  if (cursor == NULL)
    return FALSE;
  *out_print = row ? qfs_bad_row_print(cursor) : 0;
  return TRUE;
}

gboolean qfs_chunk_store_mend(QfsReplica *replica, const QfsChunk *id, guint64 print, const QfsChunk *chunk,
                              gboolean *out_done, GError **error) {
  QfsConnection *connection = qfs_connection(replica);
  guint64 found = 0;

  if (!qfs_connection_may_write(connection, error) || !qfs_chunk_store_print(replica, id, &found, error))
    return FALSE;
  *out_done = found == print && (found != 0 || chunk != NULL);
  if (!*out_done)
    return TRUE;
  return chunk != NULL ? qfs_chunk_store_put(replica, chunk, error)
                       : qfs_chunk_store_remove(replica, id->object, id->index, id->version, error);
}

/* The chunk in the row; NULL with *out_failed FALSE: it is bad, and noted. `last`: the good one before it. */
static QfsChunk *walk_row(QfsConnection *connection, sqlite3_stmt *row, gboolean whole, const QfsChunk *last,
                          GPtrArray *bad, gboolean *out_failed, GError **error) {
  g_autoptr(GError) local = NULL;
  g_autoptr(QfsChunk) chunk = read_chunk(connection, row, whole, &local);
  *out_failed = FALSE;
  if (chunk == NULL && g_error_matches(local, QFS_REPLICA_ERROR, QFS_REPLICA_ERROR_BAD_ROW)) {
    g_ptr_array_add(bad, qfs_bad_row_copy(connection->bad_row));
    return NULL;
  }
  if (chunk == NULL)
    g_propagate_error(error, g_steal_pointer(&local));
  else if (qfs_chunk_order(last, chunk) >= 0) /* paging might go round for ever */
    qfs_row_astray(connection, "chunks", error);
  else
    return g_steal_pointer(&chunk);
  *out_failed = TRUE;
  return NULL;
}

gboolean qfs_chunk_store_walk(QfsReplica *replica, const QfsChunk *after, const QfsChunk *until, gboolean whole,
                              guint limit, GPtrArray *out, GPtrArray *bad, gboolean *out_more, GError **error) {
  QfsConnection *connection = qfs_connection(replica);
  const QfsChunk first = {.seq = 0}; /* there is no object 0 */
  const QfsChunk *last = after != NULL ? after : &first;
  sqlite3_stmt *statement =
      qfs_connection_statement(connection, whole ? QFS_SQL_CHUNK_WALK : QFS_SQL_CHUNK_LIST, error);
  gsize bytes = 0;

  if (statement == NULL)
    return FALSE;
  g_autoptr(QfsCursor) cursor = statement;
  bind_after(cursor, last);
  for (guint n = 0;; n++) {
    gboolean row, failed;
    if (!qfs_connection_step(connection, cursor, &row, error))
      return FALSE;
    if (!row || n >= limit || bytes >= WALK_BYTES) {
      *out_more = row;
      return TRUE;
    }
    g_autoptr(QfsChunk) chunk = walk_row(connection, cursor, whole, last, bad, &failed, error);
    if (failed)
      return FALSE;
    if (chunk == NULL)
      continue;
    if (until != NULL && qfs_chunk_order(chunk, until) > 0) {
      *out_more = FALSE;
      return TRUE;
    }
    bytes += chunk->data != NULL ? g_bytes_get_size(chunk->data) : 0;
    last = chunk;
    g_ptr_array_add(out, g_steal_pointer(&chunk));
  }
}
