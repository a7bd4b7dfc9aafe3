/* intent.c - intents of a SQLite replica: batches over several keys, decided and not yet applied.
 *
 * A row holds one record of a batch in the columns of `record`, with its position and the batch's
 * total, so that a row that went missing is found. An intent never has a hint: its sums are made
 * without.
 *
 * One thread at a time, like the connection.
 */
#include "storage/intent.h"
#include "storage/row.h"

/* After the columns of the record, in QFS_SQL_INTENT_GET. */
enum { COLUMN_POS = QFS_ROW_COLUMNS, COLUMN_TOTAL };

static gboolean run_with_id(QfsConnection *connection, QfsSql sql, guint64 id, GError **error) {
  sqlite3_stmt *statement = qfs_connection_statement(connection, sql, error);

  if (statement == NULL)
    return FALSE;
  qfs_bind_u64(statement, 1, id);
  return qfs_connection_run(connection, statement, error);
}

static gboolean put_rows(QfsConnection *connection, guint64 id, GPtrArray *records,
                         GError **error) {
  if (!run_with_id(connection, QFS_SQL_INTENT_REMOVE, id, error))
    return FALSE;
  for (guint i = 0; i < records->len; i++) {
    sqlite3_stmt *statement = qfs_connection_statement(connection, QFS_SQL_INTENT_PUT, error);
    if (statement == NULL)
      return FALSE;
    qfs_bind_u64(statement, 1, id);
    sqlite3_bind_int64(statement, 2, i);
    sqlite3_bind_int64(statement, 3, records->len);
    qfs_row_bind(statement, 4, g_ptr_array_index(records, i));
    if (!qfs_connection_run(connection, statement, error))
      return FALSE;
  }
  return TRUE;
}

gboolean qfs_intent_store_put(QfsReplica *replica, guint64 id, GPtrArray *records, GError **error) {
  QfsConnection *connection = qfs_connection(replica);

  if (!qfs_connection_may_write(connection, error))
    return FALSE;
  g_assert(records->len > 0);
  return qfs_connection_wrote(connection, put_rows(connection, id, records, error));
}

gboolean qfs_intent_store_get(QfsReplica *replica, guint64 id, GPtrArray **out_records,
                              GError **error) {
  QfsConnection *connection = qfs_connection(replica);
  g_autoptr(GPtrArray) records = g_ptr_array_new_with_free_func((GDestroyNotify)qfs_record_unref);
  sqlite3_stmt *statement = qfs_connection_statement(connection, QFS_SQL_INTENT_GET, error);
  gint64 total = 0;
  gboolean row, is_whole = TRUE;

  if (statement == NULL)
    return FALSE;
  g_autoptr(QfsCursor) cursor = statement;
  qfs_bind_u64(cursor, 1, id);
  while (TRUE) {
    if (!qfs_connection_step(connection, cursor, &row, error))
      return FALSE;
    if (!row)
      break;
    QfsRecord *record = qfs_row_read(connection, cursor, QFS_ROW_WHOLE, error);
    if (record == NULL) {
      if (error != NULL) /* peers have none to mend it by */
        (*error)->code = QFS_REPLICA_ERROR_CORRUPT;
      return FALSE;
    }
    is_whole = is_whole && sqlite3_column_int64(cursor, COLUMN_POS) == records->len;
    total = sqlite3_column_int64(cursor, COLUMN_TOTAL);
    g_ptr_array_add(records, record);
  }
  if (!is_whole || total != records->len)
    return qfs_connection_fail_with(connection, QFS_REPLICA_ERROR_CORRUPT, error,
                                    "intent %" G_GUINT64_FORMAT " lacks records", id);
  *out_records = records->len > 0 ? g_steal_pointer(&records) : NULL;
  return TRUE;
}

gboolean qfs_intent_store_remove(QfsReplica *replica, guint64 id, GError **error) {
  QfsConnection *connection = qfs_connection(replica);

  if (!qfs_connection_may_write(connection, error))
    return FALSE;
  return qfs_connection_wrote(connection,
                              run_with_id(connection, QFS_SQL_INTENT_REMOVE, id, error));
}

static int compare_ids(gconstpointer a, gconstpointer b) {
  guint64 x = *(const guint64 *)a, y = *(const guint64 *)b;
  return x < y ? -1 : x > y;
}

gboolean qfs_intent_store_list(QfsReplica *replica, GArray *out_ids, GError **error) {
  QfsConnection *connection = qfs_connection(replica);
  g_autoptr(GArray) ids = g_array_new(FALSE, FALSE, sizeof(guint64));
  sqlite3_stmt *statement = qfs_connection_statement(connection, QFS_SQL_INTENT_LIST, error);
  gboolean row;

  if (statement == NULL)
    return FALSE;
  g_autoptr(QfsCursor) cursor = statement;
  while (TRUE) {
    if (!qfs_connection_step(connection, cursor, &row, error))
      return FALSE;
    if (!row)
      break;
    guint64 id = qfs_column_u64(cursor, 0);
    g_array_append_val(ids, id);
  }
  g_array_sort(ids, compare_ids);
  if (ids->len > 0)
    g_array_append_vals(out_ids, ids->data, ids->len);
  return TRUE;
}

gboolean qfs_intent_store_wipe(QfsConnection *connection, GError **error) {
  sqlite3_stmt *statement = qfs_connection_statement(connection, QFS_SQL_INTENT_CLEAR, error);
  return statement != NULL && qfs_connection_run(connection, statement, error);
}
