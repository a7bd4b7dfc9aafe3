/* connection.h - one SQLite connection to a replica's file and what is known beside it. Private.
 *
 * Owns: the connection's pragmas, its prepared statements, transactions, the translation of
 * SQLite's errors, moving the log. Leaves to others: tables (schema.c), what the statements say
 * (statements.c), what they mean (record_store.c, chunk.c, intent.c, meta.c), the lock file
 * (replica.c).
 *
 * Invariants
 *  Q1. One writing connection per file in the whole system (the lock file); readers never write.
 *  Q2. A statement is reset before the function that stepped it returns: an open statement would be
 *      an open snapshot, and would hold up the log.
 *  Q3. `counters` and `meta` are those of the open transaction; on rollback they return to the
 * committed. Q4. After a failed fsync nothing but close works: what the kernel dropped can't be
 * known.
 *
 * Threading: one thread at a time. Errors: QFS_REPLICA_ERROR, message with path and SQLite's words.
 */
#pragma once

#include "storage/heads.h"
#include "storage/replica.h"

#include <sqlite3.h>

G_BEGIN_DECLS

/* Every statement that runs more than once; texts in statements.c. */
typedef enum {
  QFS_SQL_BEGIN_READ,
  QFS_SQL_BEGIN_WRITE,
  QFS_SQL_COMMIT,
  QFS_SQL_META_SET,
  QFS_SQL_META_ALL,
  QFS_SQL_META_COUNTS,
  QFS_SQL_META_SALT,
  QFS_SQL_VIEW_NODE_SET,
  QFS_SQL_VIEW_NODE_ALL,
  QFS_SQL_VIEW_NODE_CLEAR,
  QFS_SQL_VIEW_UNSETTLED_SET,
  QFS_SQL_VIEW_UNSETTLED_ALL,
  QFS_SQL_VIEW_UNSETTLED_CLEAR,
  QFS_SQL_RECORD_GET,
  QFS_SQL_RECORD_HEAD,
  QFS_SQL_RECORD_KIND,
  QFS_SQL_RECORD_PUT,
  QFS_SQL_RECORD_REMOVE,
  QFS_SQL_RECORD_SCAN_EQUAL,
  QFS_SQL_RECORD_SCAN_ABOVE,
  QFS_SQL_TOMBSTONE_SCAN_EQUAL,
  QFS_SQL_TOMBSTONE_SCAN_ABOVE,
  QFS_SQL_RECORD_LIST,
  QFS_SQL_RECORD_LIVE_DIR,
  QFS_SQL_RECORD_LIST_WHOLE,
  QFS_SQL_RECORD_WALK,
  QFS_SQL_RECORD_WALK_HEADS,
  QFS_SQL_RECORD_OF_OBJECT,
  QFS_SQL_RECORD_CLEAR,
  QFS_SQL_CHUNK_INSERT,
  QFS_SQL_CHUNK_UPDATE,
  QFS_SQL_CHUNK_GET,
  QFS_SQL_CHUNK_TRIM,
  QFS_SQL_CHUNK_REMOVE,
  QFS_SQL_CHUNK_DROP,
  QFS_SQL_CHUNK_ANY,
  QFS_SQL_CHUNK_EXACT,
  QFS_SQL_CHUNK_WALK,
  QFS_SQL_CHUNK_SCAN,
  QFS_SQL_CHUNK_SCAN_DATA,
  QFS_SQL_CHUNK_LIST,
  QFS_SQL_CHUNK_CLEAR,
  QFS_SQL_INTENT_PUT,
  QFS_SQL_INTENT_GET,
  QFS_SQL_INTENT_REMOVE,
  QFS_SQL_INTENT_LIST,
  QFS_SQL_INTENT_CLEAR,
  QFS_SQL_COUNT,
} QfsSql;

extern const char *const qfs_sql_text[QFS_SQL_COUNT];

typedef struct {
  guint64 records, tombstones, chunks; /* rows, as in QfsReplicaStats */
} QfsCounters;

typedef struct {
  QfsReplica base; /* first: ops are called with a pointer to it */
  sqlite3 *db;
  char *dir;
  char *path; /* of replica.db in dir */
  gboolean is_writer;
  gboolean sync_always;
  int lock_fd; /* writer: the lock file, else -1 */
  sqlite3_stmt *statements[QFS_SQL_COUNT];

  gboolean in_transaction; /* writer: between begin and commit or rollback */
  gboolean is_broken;      /* a call of this transaction failed: only rollback may follow */
  gboolean has_failed;     /* Q4 */
  gboolean is_beyond_repair; /* damaged so that it can't even be emptied */

  QfsHeads *heads;       /* writer */
  guint data_version;    /* SQLite's, after the latest commit: another one means that somebody else wrote */
  QfsBadRow *bad_row; /* of the latest BAD_ROW */
  QfsCounters counters, committed_counters;
  GBytes *meta; /* encoding of the metadata in the file as of this transaction; NULL: unknown */

  QfsFileWatch *watch;  /* writer; NULL while it is being opened */
  guint log_frames;     /* in the log after the latest commit */
  guint checkpoint_due; /* when log_frames reaches this, the log is worth moving */
} QfsConnection;

/* Once per process, before SQLite is used: it keeps no count of all memory, for which every allocation of every thread
 * would take one lock. Opening does it; who uses SQLite earlier calls it. Any thread. */
void qfs_connection_configure(void);

/* Opens the file and sets the connection up; looks at no table. Creates the file when asked to. */
QfsConnection *qfs_connection_open(const char *dir, gboolean is_writer, gboolean create,
                                   GError **error);
/* Turns the file to write-ahead logging; a writer calls it once the schema is known to be ours. */
gboolean qfs_connection_start_log(QfsConnection *connection, GError **error);
/* Rolls back what is open, finalizes, closes, gives the lock back. Accepts NULL and half-built
 * ones. */
void qfs_connection_close(QfsConnection *connection);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QfsConnection, qfs_connection_close)

/* Error of the latest SQLite call, as "PATH: what: words". Always FALSE. */
gboolean qfs_connection_fail(QfsConnection *connection, const char *what, GError **error);
/* "PATH: ..." with a code of the caller's choice. Always FALSE. */
gboolean qfs_connection_fail_with(QfsConnection *connection, QfsReplicaError code, GError **error,
                                  const char *format, ...) G_GNUC_PRINTF(4, 5);
/* Q4, after a sync that failed: error "PATH: `what`". Always FALSE. */
gboolean qfs_connection_give_up(QfsConnection *connection, GError **error, const char *what);

/* Bytes of a file beside the replica's, such as "replica.db-wal"; 0: there is none. */
guint64 qfs_connection_file_size(const QfsConnection *connection, const char *name);

/* FALSE: Q4. */
gboolean qfs_connection_is_usable(QfsConnection *connection, GError **error);
/* The prepared statement, ready to be bound; NULL with `error` set. */
sqlite3_stmt *qfs_connection_statement(QfsConnection *connection, QfsSql id, GError **error);
/* One step. *out_row tells whether there is a row; when not, or on failure, the statement was
 * reset. */
gboolean qfs_connection_step(QfsConnection *connection, sqlite3_stmt *statement, gboolean *out_row,
                             GError **error);
/* Steps a statement that gives no rows to its end and resets it. */
gboolean qfs_connection_run(QfsConnection *connection, sqlite3_stmt *statement, GError **error);
/* Prepares, runs and forgets: for what happens once. */
gboolean qfs_connection_exec(QfsConnection *connection, const char *sql, GError **error);
/* The integer in the first column of the first row of `sql`. */
gboolean qfs_connection_number(QfsConnection *connection, const char *sql, gint64 *out_number,
                               GError **error);

/* One snapshot over several statements. Within a transaction both do nothing; *out_opened, given to
 * the end, tells. */
gboolean qfs_connection_begin_read(QfsConnection *connection, gboolean *out_opened, GError **error);
void qfs_connection_end_read(QfsConnection *connection, gboolean opened);

gboolean qfs_connection_begin(QfsConnection *connection, GError **error);
gboolean qfs_connection_commit(QfsConnection *connection, gboolean durable, GError **error);
void qfs_connection_rollback(QfsConnection *connection);
/* Asserts an open transaction; FALSE when it is broken. Every writing function begins with it ...
 */
gboolean qfs_connection_may_write(QfsConnection *connection, GError **error);
/* ... and ends with this: remembers a failure. Returns `ok`. */
gboolean qfs_connection_wrote(QfsConnection *connection, gboolean ok);

/* checkpoint.c: see replica.h. */
gboolean qfs_connection_checkpoint(QfsConnection *connection, gboolean everything, GError **error);
/* Counts the log's frames from here on. */
void qfs_connection_watch_log(QfsConnection *connection);
/* Puts the log, and so every commit so far, on stable storage. */
gboolean qfs_connection_sync_log(QfsConnection *connection, GError **error);

static inline QfsConnection *qfs_connection(QfsReplica *replica) {
  return (QfsConnection *)replica;
}

/* A statement that is reset when it leaves scope (Q2). */
typedef sqlite3_stmt QfsCursor;
static inline void qfs_cursor_reset(QfsCursor *cursor) {
  if (cursor != NULL)
    sqlite3_reset(cursor);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QfsCursor, qfs_cursor_reset)

/* Unsigned 64-bit numbers are stored as two's complement ... */
static inline int qfs_bind_u64(sqlite3_stmt *statement, int index, guint64 value) {
  return sqlite3_bind_int64(statement, index, (gint64)value);
}
static inline guint64 qfs_column_u64(sqlite3_stmt *statement, int column) {
  return (guint64)sqlite3_column_int64(statement, column);
}
/* ... or, where SQL has to order them, with the sign bit flipped: signed order is then theirs. */
#define QFS_SIGN_BIT (G_GUINT64_CONSTANT(1) << 63)
static inline int qfs_bind_ordered(sqlite3_stmt *statement, int index, guint64 value) {
  return qfs_bind_u64(statement, index, value ^ QFS_SIGN_BIT);
}
static inline guint64 qfs_column_ordered(sqlite3_stmt *statement, int column) {
  return qfs_column_u64(statement, column) ^ QFS_SIGN_BIT;
}
/* Bytes that stay alive and unchanged until the statement is reset or bound again. */
static inline void qfs_bind_bytes(sqlite3_stmt *statement, int index, GBytes *bytes) {
  gsize len = 0;
  gconstpointer data = bytes != NULL ? g_bytes_get_data(bytes, &len) : NULL;
  sqlite3_bind_blob64(statement, index, len > 0 ? data : "", len, SQLITE_STATIC);
}
static inline GBytes *qfs_column_bytes(sqlite3_stmt *statement, int column) {
  const void *data = sqlite3_column_blob(statement, column);
  return data != NULL ? g_bytes_new(data, (gsize)sqlite3_column_bytes(statement, column)) : qfs_bytes_none();
}

G_END_DECLS
