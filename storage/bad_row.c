/* bad_row.c - see bad_row.h.
 *
 * A row that can't be read can't be compared with what should take its place. So it is replaced only while it
 * is still, byte for byte, the one that was looked at: its *print*, a digest over the columns as they are
 * stored, says so.
 *
 * One thread at a time, like the connection.
 */
#include "storage/bad_row.h"

#include "storage/record_store.h"
#include "storage/row.h"

QfsBadRow *qfs_bad_row_copy(const QfsBadRow *bad) {
  if (bad == NULL)
    return NULL;
  QfsBadRow *copy = g_memdup2(bad, sizeof *bad);
  copy->key = g_strdup(bad->key);
  copy->chunk.data = NULL;
  return copy;
}

void qfs_bad_row_free(QfsBadRow *bad) {
  if (bad == NULL)
    return;
  g_free(bad->key);
  g_free(bad);
}

static QfsBadRow *note(QfsConnection *connection) {
  qfs_bad_row_free(connection->bad_row);
  return connection->bad_row = g_new0(QfsBadRow, 1);
}

void qfs_bad_row_note_record(QfsConnection *connection, const char *key) {
  char *copy = g_strdup(key); /* may be the noted one */
  note(connection)->key = copy;
}

void qfs_bad_row_note_chunk(QfsConnection *connection, const QfsChunk *chunk) {
  QfsBadRow *bad = note(connection);
  bad->is_chunk = TRUE;
  bad->chunk = *chunk;
  bad->chunk.data = NULL;
}

const QfsBadRow *qfs_bad_row(QfsReplica *replica) {
  return qfs_connection(replica)->bad_row;
}

/* Types and lengths are part of it, so that no two rows look alike. */
guint64 qfs_bad_row_print(sqlite3_stmt *row) {
  g_autoptr(GByteArray) bytes = g_byte_array_new();
  for (int i = 0; i < sqlite3_column_count(row); i++) {
    const gint32 type = sqlite3_column_type(row, i);
    const void *data = sqlite3_column_blob(row, i);
    const gint32 head[] = {type, sqlite3_column_bytes(row, i)};
    g_byte_array_append(bytes, (const guint8 *)head, sizeof head);
    if (head[1] > 0)
      g_byte_array_append(bytes, data, (guint)head[1]);
  }
  return MAX(qfs_digest(bytes->data, bytes->len), 1);
}

gboolean qfs_bad_row_record_print(QfsReplica *replica, const char *key, guint64 *out_print,
                                  GError **error) {
  gboolean row;
  g_autoptr(QfsCursor) cursor = qfs_row_find(qfs_connection(replica), QFS_SQL_RECORD_GET, key, &row, error);

  if (cursor == NULL)
    return FALSE;
  *out_print = row ? qfs_bad_row_print(cursor) : 0;
  return TRUE;
}

gboolean qfs_bad_row_record_mend(QfsReplica *replica, const char *key, guint64 print,
                                 const QfsRecord *record, gboolean *out_done, GError **error) {
  guint64 found = 0;
  QfsApplyResult result;

  if (!qfs_connection_may_write(qfs_connection(replica), error) ||
      !qfs_bad_row_record_print(replica, key, &found, error))
    return FALSE;
  *out_done = found != 0 && found == print;
  if (!*out_done)
    return TRUE;
  return record != NULL ? qfs_record_store_apply(replica, record, TRUE, &result, error)
                        : qfs_record_store_remove(replica, key, error);
}

/* A page stops after about this much. */
#define WALK_BYTES (1024 * 1024)

/* Takes the row into the page. FALSE: failed; a bad row is no failure. */
static gboolean take_row(QfsConnection *connection, sqlite3_stmt *row, gboolean whole, GPtrArray *out,
                         GPtrArray *bad, gssize *bytes_left, GError **error) {
  g_autoptr(GError) local = NULL;
  QfsRecord *record =
      qfs_row_read(connection, row, whole ? QFS_ROW_WHOLE : QFS_ROW_HEAD, &local);
  if (record != NULL) {
    *bytes_left -= (gssize)(sizeof *record + g_bytes_get_size(record->tail) +
                            g_bytes_get_size(record->xattrs));
    g_ptr_array_add(out, record);
    return TRUE;
  }
  if (!g_error_matches(local, QFS_REPLICA_ERROR, QFS_REPLICA_ERROR_BAD_ROW)) {
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
  }
  g_ptr_array_add(bad, qfs_bad_row_copy(connection->bad_row));
  return TRUE;
}

/* The key in the row; dir and name are the second and third of its columns. */
static char *key_in(sqlite3_stmt *row) {
  const char *dir = (const char *)sqlite3_column_text(row, 1);
  const char *name = (const char *)sqlite3_column_text(row, 2);
  return qfs_key_join(dir != NULL ? dir : "", name != NULL ? name : "");
}

gboolean qfs_bad_row_record_walk(QfsReplica *replica, const char *after_key, const char *until_key,
                                 gboolean whole, guint limit, GPtrArray *out, GPtrArray *bad,
                                 char **out_end, gboolean *out_more, GError **error) {
  QfsConnection *connection = qfs_connection(replica);
  sqlite3_stmt *statement = qfs_connection_statement(
      connection, whole ? QFS_SQL_RECORD_WALK : QFS_SQL_RECORD_WALK_HEADS, error);
  gssize bytes_left = WALK_BYTES;
  g_autofree char *last = g_strdup(after_key);
  gboolean row;

  if (statement == NULL)
    return FALSE;
  g_autoptr(QfsCursor) cursor = statement;
  qfs_row_bind_key(cursor, 1, after_key != NULL ? after_key : "");
  for (guint n = 0;;) {
    if (!qfs_connection_step(connection, cursor, &row, error))
      return FALSE;
    g_autofree char *key = row ? key_in(cursor) : NULL;
    if (row && after_key != NULL && qfs_key_order(key, after_key) == 0)
      continue;
    if (!row || (until_key != NULL && qfs_key_order(key, until_key) > 0)) {
      *out_more = FALSE;
      *out_end = g_strdup(until_key != NULL ? until_key : last);
      return TRUE;
    }
    if (n++ >= limit || bytes_left <= 0) {
      *out_more = TRUE;
      *out_end = g_steal_pointer(&last);
      return TRUE;
    }
    /* Out of order, paging might go round for ever. */
    if (last != NULL && qfs_key_order(key, last) <= 0)
      return qfs_row_astray(connection, "keys", error);
    if (!take_row(connection, cursor, whole, out, bad, &bytes_left, error))
      return FALSE;
    g_free(last);
    last = g_steal_pointer(&key);
  }
}
