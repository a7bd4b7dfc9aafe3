/* connection.c - one SQLite connection: set-up, statements, transactions, errors.
 *
 * A commit is written to the log without waiting for the disk (synchronous=NORMAL): it survives the
 * death of the process. A durable commit then syncs the log file itself, once. Because the log is
 * written in order, and because SQLite syncs the log before it moves it and the file after, that
 * puts this and every earlier commit on stable storage. (SQLite can't be told so at commit: the
 * safety level can't change within a transaction.)
 *
 * One thread at a time per connection; connections of several threads share nothing.
 */
#include "storage/connection.h"
#include "storage/meta.h"
#include "storage/vfs.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

/* How long a writer waits for someone with the sqlite3 shell, and a reader for the recovery of a
 * log. */
#define WRITER_BUSY_MS 1000
#define READER_BUSY_MS 200
/* A log that grew beyond this is cut when it is begun anew. */
#define LOG_KEPT_BYTES (16 * 1024 * 1024)

static QfsReplicaError error_code(int sqlite_code, int system_errno) {
  switch (sqlite_code & 0xff) {
  case SQLITE_FULL:
    return QFS_REPLICA_ERROR_NO_SPACE;
  case SQLITE_CORRUPT:
  case SQLITE_NOTADB:
    return QFS_REPLICA_ERROR_CORRUPT;
  case SQLITE_IOERR:
  case SQLITE_CANTOPEN:
    /* A write that stopped at a quota, or an index of the log that can't grow, is no SQLITE_FULL.
     */
    if (system_errno == ENOSPC || system_errno == EDQUOT || system_errno == EFBIG)
      return QFS_REPLICA_ERROR_NO_SPACE;
    return QFS_REPLICA_ERROR_IO;
  default:
    return QFS_REPLICA_ERROR_IO;
  }
}

gboolean qfs_connection_fail(QfsConnection *connection, const char *what, GError **error) {
  int code = sqlite3_extended_errcode(connection->db);
  int system_errno = sqlite3_system_errno(connection->db);
  gboolean by_system = (code & 0xff) == SQLITE_IOERR || (code & 0xff) == SQLITE_CANTOPEN;

  if (code == SQLITE_IOERR_FSYNC || code == SQLITE_IOERR_DIR_FSYNC)
    connection->has_failed = TRUE; /* Q4; SQLite syncs by itself in checkpoints and in new logs */
  g_set_error(error, QFS_REPLICA_ERROR, error_code(code, system_errno),
              "%s: %s: %s (SQLite %d%s%s)", connection->path, what, sqlite3_errmsg(connection->db),
              code, by_system && system_errno != 0 ? ", " : "",
              by_system && system_errno != 0 ? g_strerror(system_errno) : "");
  return FALSE;
}

gboolean qfs_connection_fail_with(QfsConnection *connection, QfsReplicaError code, GError **error,
                                  const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  g_autofree char *words = g_strdup_vprintf(format, arguments);
  va_end(arguments);
  g_set_error(error, QFS_REPLICA_ERROR, code, "%s: %s", connection->path, words);
  return FALSE;
}

gboolean qfs_connection_give_up(QfsConnection *connection, GError **error, const char *what) {
  connection->has_failed = TRUE;
  return qfs_connection_fail_with(connection, QFS_REPLICA_ERROR_IO, error, "%s", what);
}

guint64 qfs_connection_file_size(const QfsConnection *connection, const char *name) {
  g_autofree char *path = g_build_filename(connection->dir, name, NULL);
  struct stat st;
  return stat(path, &st) == 0 ? (guint64)st.st_size : 0;
}

gboolean qfs_connection_is_usable(QfsConnection *connection, GError **error) {
  return !connection->has_failed || qfs_connection_fail_with(connection, QFS_REPLICA_ERROR_IO, error,
                                                             "not used any more since it could not be synced");
}

sqlite3_stmt *qfs_connection_statement(QfsConnection *connection, QfsSql id, GError **error) {
  sqlite3_stmt **statement = &connection->statements[id];

  if (!qfs_connection_is_usable(connection, error))
    return NULL;
  if (*statement != NULL)
    return *statement;
  const int code =
      sqlite3_prepare_v3(connection->db, qfs_sql_text[id], -1, SQLITE_PREPARE_PERSISTENT, statement, NULL);
  /* The text is ours: it is the schema in the file that is not what it was. */
  if ((code & 0xff) == SQLITE_ERROR)
    qfs_connection_fail_with(connection, QFS_REPLICA_ERROR_CORRUPT, error, "%s: %s", qfs_sql_text[id],
                             sqlite3_errmsg(connection->db));
  else if (code != SQLITE_OK)
    qfs_connection_fail(connection, qfs_sql_text[id], error);
  return *statement;
}

gboolean qfs_connection_step(QfsConnection *connection, sqlite3_stmt *statement, gboolean *out_row,
                             GError **error) {
  int code = sqlite3_step(statement);

  if (code == SQLITE_ROW) {
    *out_row = TRUE;
    return TRUE;
  }
  if (code == SQLITE_DONE) {
    sqlite3_reset(statement);
    *out_row = FALSE;
    return TRUE;
  }
  qfs_connection_fail(connection, sqlite3_sql(statement), error);
  sqlite3_reset(statement);
  return FALSE;
}

gboolean qfs_connection_run(QfsConnection *connection, sqlite3_stmt *statement, GError **error) {
  gboolean row;

  if (!qfs_connection_step(connection, statement, &row, error))
    return FALSE;
  g_assert(!row);
  return TRUE;
}

gboolean qfs_connection_exec(QfsConnection *connection, const char *sql, GError **error) {
  if (sqlite3_exec(connection->db, sql, NULL, NULL, NULL) != SQLITE_OK)
    return qfs_connection_fail(connection, sql, error);
  return TRUE;
}

gboolean qfs_connection_number(QfsConnection *connection, const char *sql, gint64 *out_number,
                               GError **error) {
  sqlite3_stmt *statement = NULL;

  if (sqlite3_prepare_v2(connection->db, sql, -1, &statement, NULL) != SQLITE_OK)
    return qfs_connection_fail(connection, sql, error);
  gboolean ok = sqlite3_step(statement) == SQLITE_ROW;
  if (ok)
    *out_number = sqlite3_column_int64(statement, 0);
  else
    qfs_connection_fail(connection, sql, error);
  sqlite3_finalize(statement);
  return ok;
}

static gint sync_nothing; /* atomic */

void qfs_sqlite_replica_sync_nothing(void) {
  g_atomic_int_set(&sync_nothing, 1);
}

gboolean qfs_sqlite_replica_syncs(void) {
  return !g_atomic_int_get(&sync_nothing);
}

/* Memory: up to 7 nodes with a writer and three readers each, so caches are small; the kernel's
 * page cache is behind them. */
static const char *set_up_sql(gboolean is_writer) {
  return is_writer ? "PRAGMA synchronous = NORMAL; PRAGMA cache_size = -2000; PRAGMA mmap_size = 0;"
                     "PRAGMA secure_delete = OFF; PRAGMA temp_store = MEMORY;"
                     "PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;"
                     "PRAGMA wal_autocheckpoint = 0;"
                   : "PRAGMA cache_size = -1000; PRAGMA mmap_size = 0; PRAGMA temp_store = MEMORY;"
                     "PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;";
}

void qfs_connection_configure(void) {
  static gsize done = 0;
  if (!g_once_init_enter(&done))
    return;
  sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
  g_once_init_leave(&done, 1);
}

QfsConnection *qfs_connection_open(const char *dir, gboolean is_writer, gboolean create,
                                   GError **error) {
  g_autoptr(QfsConnection) connection = g_new0(QfsConnection, 1);
  int flags = SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE | SQLITE_OPEN_EXRESCODE |
              (is_writer ? SQLITE_OPEN_READWRITE : SQLITE_OPEN_READONLY) |
              (create ? SQLITE_OPEN_CREATE : 0);

  qfs_connection_configure();
  connection->lock_fd = -1;
  connection->is_writer = is_writer;
  connection->heads = is_writer ? qfs_heads_new() : NULL;
  connection->dir = g_strdup(dir);
  connection->path = g_build_filename(dir, "replica.db", NULL);
  if (sqlite3_open_v2(connection->path, &connection->db, flags, qfs_vfs()) != SQLITE_OK) {
    qfs_connection_fail(connection, "can't be opened", error);
    return NULL;
  }
  sqlite3_busy_timeout(connection->db, is_writer ? WRITER_BUSY_MS : READER_BUSY_MS);
  if (!qfs_connection_exec(connection, set_up_sql(is_writer), error) ||
      (!qfs_sqlite_replica_syncs() && !qfs_connection_exec(connection, "PRAGMA synchronous = OFF", error)))
    return NULL;
  return g_steal_pointer(&connection);
}

gboolean qfs_connection_start_log(QfsConnection *connection, GError **error) {
  g_autofree char *limit = g_strdup_printf("PRAGMA journal_size_limit = %d", LOG_KEPT_BYTES);
  sqlite3_stmt *statement = NULL;

  g_assert(connection->is_writer);
  /* Where it can't be turned on, SQLite says so by the mode that it answers, not by an error. */
  if (sqlite3_prepare_v2(connection->db, "PRAGMA journal_mode = WAL", -1, &statement, NULL) !=
          SQLITE_OK ||
      sqlite3_step(statement) != SQLITE_ROW) {
    qfs_connection_fail(connection, "write-ahead logging can't be turned on", error);
    sqlite3_finalize(statement);
    return FALSE;
  }
  gboolean is_on = sqlite3_stricmp((const char *)sqlite3_column_text(statement, 0), "wal") == 0;
  /* The answer comes before the change is committed, which may still fail. */
  gboolean is_kept = sqlite3_step(statement) == SQLITE_DONE;
  if (!is_kept)
    qfs_connection_fail(connection, "write-ahead logging can't be turned on", error);
  sqlite3_finalize(statement);
  if (!is_kept)
    return FALSE;
  if (!is_on)
    return qfs_connection_fail_with(connection, QFS_REPLICA_ERROR_IO, error,
                                    "write-ahead logging can't be turned on");
  qfs_connection_watch_log(connection);
  return qfs_connection_exec(connection, limit, error);
}

void qfs_connection_close(QfsConnection *connection) {
  if (connection == NULL)
    return;
  if (connection->db != NULL)
    qfs_connection_rollback(connection);
  for (guint i = 0; i < QFS_SQL_COUNT; i++)
    sqlite3_finalize(connection->statements[i]);
  if (connection->db != NULL)
    qfs_vfs_moves_log(connection->db, TRUE); /* who closes last does */
  int code = sqlite3_close(connection->db);
  g_assert(code == SQLITE_OK); /* everything was finalized */
  if (connection->lock_fd >= 0)
    close(connection->lock_fd); /* gives the lock back */
  g_clear_pointer(&connection->meta, g_bytes_unref);
  qfs_bad_row_free(connection->bad_row);
  qfs_file_watch_unref(connection->watch);
  qfs_heads_free(connection->heads);
  g_free(connection->path);
  g_free(connection->dir);
  g_free(connection);
}

static gboolean run_id(QfsConnection *connection, QfsSql id, GError **error) {
  sqlite3_stmt *statement = qfs_connection_statement(connection, id, error);
  return statement != NULL && qfs_connection_run(connection, statement, error);
}

gboolean qfs_connection_begin_read(QfsConnection *connection, gboolean *out_opened,
                                   GError **error) {
  if (!sqlite3_get_autocommit(connection->db)) {
    *out_opened = FALSE;
    return TRUE;
  }
  if (!run_id(connection, QFS_SQL_BEGIN_READ, error))
    return FALSE;
  *out_opened = TRUE;
  return TRUE;
}

void qfs_connection_end_read(QfsConnection *connection, gboolean opened) {
  if (opened && !sqlite3_get_autocommit(connection->db))
    run_id(connection, QFS_SQL_COMMIT,
           NULL); /* nothing was written: can't fail but by being over */
}

static guint data_version(QfsConnection *connection) {
  guint version = 0;
  sqlite3_file_control(connection->db, "main", SQLITE_FCNTL_DATA_VERSION, &version);
  return version;
}

gboolean qfs_connection_begin(QfsConnection *connection, GError **error) {
  g_assert(connection->is_writer);
  g_assert(!connection->in_transaction);
  if (!run_id(connection, QFS_SQL_BEGIN_WRITE, error))
    return FALSE;
  if (data_version(connection) != connection->data_version)
    qfs_heads_forget_all(connection->heads);
  connection->in_transaction = TRUE;
  connection->is_broken = FALSE;
  return TRUE;
}

gboolean qfs_connection_may_write(QfsConnection *connection, GError **error) {
  g_assert(connection->is_writer);
  g_assert(connection->in_transaction);
  if (connection->is_broken)
    return qfs_connection_fail_with(connection, QFS_REPLICA_ERROR_IO, error,
                                    "an earlier step of the transaction failed");
  return TRUE;
}

gboolean qfs_connection_wrote(QfsConnection *connection, gboolean ok) {
  if (!ok)
    connection->is_broken = TRUE;
  return ok;
}

gboolean qfs_connection_commit(QfsConnection *connection, gboolean durable, GError **error) {
  if (!qfs_connection_may_write(connection, error))
    return FALSE;
  if (!qfs_meta_store_counters(connection, error) || !run_id(connection, QFS_SQL_COMMIT, error))
    return qfs_connection_wrote(connection, FALSE);
  connection->in_transaction = FALSE;
  connection->data_version = data_version(connection);
  connection->committed_counters = connection->counters;
  if (!durable && !connection->sync_always)
    return TRUE;
  return qfs_connection_sync_log(connection, error);
}

void qfs_connection_rollback(QfsConnection *connection) {
  /* After some errors SQLite has rolled back by itself. */
  if (!sqlite3_get_autocommit(connection->db) &&
      sqlite3_exec(connection->db, "ROLLBACK", NULL, NULL, NULL) != SQLITE_OK)
    connection->has_failed = TRUE;
  if (!connection->in_transaction)
    return;
  connection->in_transaction = FALSE;
  connection->is_broken = FALSE;
  connection->counters = connection->committed_counters;
  qfs_heads_forget_all(connection->heads);
  g_clear_pointer(&connection->meta, g_bytes_unref);
}
