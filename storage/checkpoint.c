/* checkpoint.c - keeping the log short, and putting it on stable storage.
 *
 * Commits append frames (a page each) to the log. A checkpoint copies frames into the file; when
 * all are copied and no reader needs the log, SQLite's next write begins the log anew from its
 * start.
 *
 *   below LOG_SMALL_FRAMES   nothing to do: moving costs two syncs whatever the amount
 *   from there on            a passive checkpoint, which waits for nobody. Readers hold snapshots
 * for microseconds, so nearly always everything is copied and the log restarts from
 * LOG_LARGE_FRAMES    readers kept that from happening: one that waits for them a moment, until
 *                            each has let go of the log, and new ones read the file
 *
 * After each attempt the next is due when the log has grown by another step, so a reader that holds
 * its snapshot for long costs an attempt per step and not per call.
 *
 * Threading: the writer's thread.
 */
#include "storage/connection.h"
#include "storage/vfs.h"

#define LOG_SMALL_FRAMES 1024 /* 4 MiB of 4 KiB pages */
#define LOG_LARGE_FRAMES 2048
#define LOG_STEP_FRAMES 512
/* What a checkpoint waits for readers. */
#define READERS_WAIT_MS 50
#define WRITER_BUSY_MS 1000

static int on_commit(void *data, sqlite3 *db, const char *schema, int frames) {
  QfsConnection *connection = data;

  if ((guint)frames < connection->log_frames)
    connection->checkpoint_due = LOG_SMALL_FRAMES; /* begun anew */
  connection->log_frames = (guint)frames;
  return SQLITE_OK;
}

void qfs_connection_watch_log(QfsConnection *connection) {
  connection->checkpoint_due = LOG_SMALL_FRAMES;
  sqlite3_wal_hook(connection->db, on_commit, connection);
}

gboolean qfs_connection_checkpoint(QfsConnection *connection, gboolean everything, GError **error) {
  int frames = -1, copied = -1;
  int mode = SQLITE_CHECKPOINT_PASSIVE;

  g_assert(connection->is_writer);
  g_assert(!connection->in_transaction);
  if (!qfs_connection_is_usable(connection, error))
    return FALSE;
  if (everything)
    mode = SQLITE_CHECKPOINT_TRUNCATE;
  else if (connection->log_frames < connection->checkpoint_due)
    return TRUE;
  else if (connection->log_frames >= LOG_LARGE_FRAMES)
    mode = SQLITE_CHECKPOINT_RESTART;

  const char *objection = connection->watch != NULL ? qfs_file_watch_objection(connection->watch) : NULL;
  if (objection != NULL)
    return qfs_connection_fail_with(connection, QFS_REPLICA_ERROR_CORRUPT, error, "%s", objection);
  if (connection->watch != NULL)
    qfs_file_watch_begin(connection->watch);
  sqlite3_busy_timeout(connection->db, READERS_WAIT_MS);
  qfs_vfs_moves_log(connection->db, TRUE);
  int code = sqlite3_wal_checkpoint_v2(connection->db, "main", mode, &frames, &copied);
  qfs_vfs_moves_log(connection->db, FALSE);
  sqlite3_busy_timeout(connection->db, WRITER_BUSY_MS);
  if (connection->watch != NULL)
    qfs_file_watch_end(connection->watch);
  /* Busy: a reader is in the way. What could be copied was; nothing is lost by trying again later.
   */
  if (code != SQLITE_OK && (code & 0xff) != SQLITE_BUSY)
    return qfs_connection_fail(connection, "can't move the log into the file", error);

  if (frames >= 0)
    connection->log_frames = (guint)frames;
  connection->checkpoint_due = connection->log_frames < LOG_SMALL_FRAMES
                                   ? LOG_SMALL_FRAMES
                                   : connection->log_frames + LOG_STEP_FRAMES;
  return TRUE;
}

gboolean qfs_connection_sync_log(QfsConnection *connection, GError **error) {
  sqlite3_file *log = NULL;

  if (!qfs_sqlite_replica_syncs())
    return TRUE;
  int code = sqlite3_file_control(connection->db, "main", SQLITE_FCNTL_JOURNAL_POINTER, &log);
  g_assert(code == SQLITE_OK && log != NULL && log->pMethods != NULL);
  code = log->pMethods->xSync(log, SQLITE_SYNC_NORMAL | SQLITE_SYNC_DATAONLY);
  if (code == SQLITE_OK)
    return TRUE;
  g_autofree char *what = g_strdup_printf("the log can't be synced: %s", sqlite3_errstr(code));
  return qfs_connection_give_up(connection, error, what);
}
