/* replica.c - the SQLite implementation of QfsReplicaOps: opening, locking, closing, statistics.
 *
 * A replica's directory holds
 *
 *   replica.db, -wal, -shm  the file, its log, the log's index (schema.c)
 *   replica.db-redo         what is not in the file yet (front.h, redo.h)
 *   replica.lock            flock'd by the writer while it is open; never deleted
 *   replica.damaged*        what was set aside (aside.h)
 *
 * Opening as writer: take the lock; look at the schema before anything is changed; create or
 * migrate it in one transaction; move what an earlier run left in the log into the file. That last
 * step also mends a sync that failed: what was in the kernel's cache of the log is written again,
 * to the file, and synced.
 *
 * SQLite's own locks belong to the process and vanish when any descriptor of the file is closed, so
 * nothing here ever opens replica.db beside SQLite.
 *
 * Threading: one thread at a time per object; objects share nothing.
 */
#include "storage/aside.h"
#include "storage/bad_row.h"
#include "storage/chunk.h"
#include "storage/connection.h"
#include "storage/front.h"
#include "storage/intent.h"
#include "storage/meta.h"
#include "storage/record_store.h"
#include "storage/schema.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <sys/file.h>
#include <sys/statvfs.h>
#include <unistd.h>

G_DEFINE_QUARK(qfs - replica - error - quark, qfs_replica_error)

static void set_system_error(const char *path, const char *what, int code, GError **error) {
  gboolean is_full = code == ENOSPC || code == EDQUOT;
  g_set_error(error, QFS_REPLICA_ERROR, is_full ? QFS_REPLICA_ERROR_NO_SPACE : QFS_REPLICA_ERROR_IO,
              "%s: %s: %s", path, what, g_strerror(code));
}

static gboolean sync_directory(const char *dir, GError **error) {
  int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  gboolean ok = fd >= 0 && (!qfs_sqlite_replica_syncs() || fsync(fd) == 0);

  if (!ok)
    set_system_error(dir, "can't be synced", errno, error);
  if (fd >= 0)
    close(fd);
  return ok;
}

/* Makes the directory, and its name durable in its parent. */
static gboolean make_directory(const char *dir, GError **error) {
  g_autofree char *parent = g_path_get_dirname(dir);

  if (g_file_test(dir, G_FILE_TEST_IS_DIR))
    return TRUE;
  if (g_mkdir_with_parents(dir, 0700) != 0) {
    set_system_error(dir, "can't be made", errno, error);
    return FALSE;
  }
  return sync_directory(parent, error);
}

/* The open and locked lock file; -1 with `error`. */
static int take_lock(const char *dir, GError **error) {
  g_autofree char *path = g_build_filename(dir, "replica.lock", NULL);
  int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

  if (fd < 0) {
    set_system_error(path, "can't be opened", errno, error);
    return -1;
  }
  if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK)
      g_set_error(error, QFS_REPLICA_ERROR, QFS_REPLICA_ERROR_IO, "%s is in use by another process",
                  dir);
    else
      set_system_error(path, "can't be locked", errno, error);
    close(fd);
    return -1;
  }
  return fd;
}

/* SQLite's own, for everything that is done to the file and its log. To ask for it starts SQLite, after which nothing
 * can be configured. */
static sqlite3_vfs *file_layer(void) {
  qfs_connection_configure();
  return sqlite3_vfs_find(NULL);
}

/* An empty file counts as none. */
static gboolean file_exists(const char *dir) {
  g_autofree char *path = g_build_filename(dir, "replica.db", NULL);
  sqlite3_vfs *vfs = file_layer();
  int exists = 0;
  return vfs->xAccess(vfs, path, SQLITE_ACCESS_EXISTS, &exists) == SQLITE_OK && exists;
}

/* The file, if there is one, and its logs. Logs that a deleted file left behind must not be taken for a
 * new one's. */
static void remove_files(const char *dir) {
  static const char *const names[] = {"replica.db", "replica.db-wal", "replica.db-shm",
                                      "replica.db-journal", "replica.db-redo"};
  sqlite3_vfs *vfs = file_layer();
  for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
    g_autofree char *path = g_build_filename(dir, names[i], NULL);
    vfs->xDelete(vfs, path, 0);
  }
}

static void set_absent_error(const char *dir, GError **error) {
  g_set_error(error, QFS_REPLICA_ERROR, QFS_REPLICA_ERROR_ABSENT, "%s holds no replica", dir);
}

/* Schema and first metadata of a file that has no tables, all or nothing. */
static gboolean fill_new_file(QfsConnection *connection, guint32 node, GError **error) {
  QfsNodeMeta meta = {.node = node};

  /* Before the first page is written; ignored afterwards. */
  if (!qfs_connection_exec(connection, "PRAGMA page_size = 4096; PRAGMA auto_vacuum = NONE",
                           error) ||
      !qfs_connection_start_log(connection, error) || !qfs_connection_begin(connection, error))
    return FALSE;
  if (!qfs_schema_create(connection, error) || !qfs_meta_store(&connection->base, &meta, error) ||
      !qfs_connection_commit(connection, TRUE, error)) {
    qfs_connection_rollback(connection);
    return FALSE;
  }
  return sync_directory(connection->dir, error);
}

static gboolean migrate(QfsConnection *connection, GError **error) {
  if (!qfs_connection_begin(connection, error))
    return FALSE;
  if (!qfs_schema_migrate(connection, error) || !qfs_connection_commit(connection, TRUE, error)) {
    qfs_connection_rollback(connection);
    return FALSE;
  }
  return TRUE;
}

static gboolean prepare_file(QfsConnection *connection, guint32 node, gboolean create,
                             GError **error) {
  QfsSchemaState state;

  if (!qfs_schema_inspect(connection, &state, error))
    return FALSE;
  switch (state) {
  case QFS_SCHEMA_EMPTY:
    if (!create) {
      set_absent_error(connection->dir, error);
      return FALSE;
    }
    if (!fill_new_file(connection, node, error))
      return FALSE;
    break;
  case QFS_SCHEMA_OLD:
    if (!qfs_connection_start_log(connection, error) || !migrate(connection, error))
      return FALSE;
    break;
  case QFS_SCHEMA_CURRENT:
    if (!qfs_connection_start_log(connection, error))
      return FALSE;
    break;
  }
  g_autoptr(GError) local = NULL;
  if (qfs_connection_checkpoint(connection, TRUE, &local))
    return TRUE;
  /* On a full disk the log stays where it is: it is readable there, and deletes must go on. */
  if (g_error_matches(local, QFS_REPLICA_ERROR, QFS_REPLICA_ERROR_NO_SPACE))
    return TRUE;
  g_propagate_error(error, g_steal_pointer(&local));
  return FALSE;
}

/* Also sets a file aside that was to be emptied and is too damaged for that: the next opening makes a new
 * one. */
static void close_replica(QfsReplica *replica) {
  QfsConnection *connection = qfs_connection(replica);
  g_autofree char *dir = connection->is_beyond_repair ? g_strdup(connection->dir) : NULL;
  int lock_fd = connection->lock_fd;

  connection->lock_fd = -1; /* kept until the files are gone */
  qfs_connection_close(connection);
  if (dir != NULL)
    qfs_replica_set_aside(dir, "too damaged to be emptied", NULL, NULL);
  if (lock_fd >= 0)
    close(lock_fd); /* gives the lock back */
}

static gboolean begin(QfsReplica *replica, GError **error) {
  return qfs_connection_begin(qfs_connection(replica), error);
}

static gboolean commit(QfsReplica *replica, gboolean durable, GError **error) {
  return qfs_connection_commit(qfs_connection(replica), durable, error);
}

static void rollback(QfsReplica *replica) {
  qfs_connection_rollback(qfs_connection(replica));
}

/* Is what is left after a wipe a file to build on? Little is left to look at: a few tables, and the list of
 * free pages. */
static gboolean is_sound(QfsConnection *connection, GError **error) {
  sqlite3_stmt *statement = NULL;

  if (sqlite3_prepare_v2(connection->db, "PRAGMA quick_check(1)", -1, &statement, NULL) != SQLITE_OK ||
      sqlite3_step(statement) != SQLITE_ROW) {
    qfs_connection_fail(connection, "can't be checked", error);
    sqlite3_finalize(statement);
    return FALSE;
  }
  g_autofree char *verdict = g_strdup((const char *)sqlite3_column_text(statement, 0));
  sqlite3_finalize(statement);
  return g_strcmp0(verdict, "ok") == 0 ||
         qfs_connection_fail_with(connection, QFS_REPLICA_ERROR_CORRUPT, error, "is damaged: %s",
                                  verdict != NULL ? verdict : "no answer");
}

/* In a file that is damaged this may fail; such a one is given up at closing. */
static gboolean wipe(QfsReplica *replica, GError **error) {
  QfsConnection *connection = qfs_connection(replica);

  if (!qfs_connection_may_write(connection, error))
    return FALSE;
  g_autoptr(GError) local = NULL;
  gboolean ok = qfs_record_store_wipe(connection, &local) &&
                qfs_chunk_store_wipe(connection, &local) &&
                qfs_intent_store_wipe(connection, &local) && is_sound(connection, &local);
  if (g_error_matches(local, QFS_REPLICA_ERROR, QFS_REPLICA_ERROR_CORRUPT))
    connection->is_beyond_repair = TRUE;
  if (!ok)
    g_propagate_error(error, g_steal_pointer(&local));
  return qfs_connection_wrote(connection, ok);
}

static gboolean checkpoint(QfsReplica *replica, gboolean everything, GError **error) {
  return qfs_connection_checkpoint(qfs_connection(replica), everything, error);
}

static guint64 pragma_number(QfsConnection *connection, const char *sql) {
  sqlite3_stmt *statement = NULL;
  guint64 number = 0;
  if (sqlite3_prepare_v2(connection->db, sql, -1, &statement, NULL) == SQLITE_OK &&
      sqlite3_step(statement) == SQLITE_ROW)
    number = (guint64)sqlite3_column_int64(statement, 0);
  sqlite3_finalize(statement);
  return number;
}

/* Pages beyond the end of the file are in the log only. */
static guint64 owed(QfsConnection *connection, guint64 page_size) {
  const guint64 whole = pragma_number(connection, "PRAGMA page_count") * page_size;
  const guint64 size = qfs_connection_file_size(connection, "replica.db");
  return whole > size ? whole - size : 0;
}

static gboolean stats(QfsReplica *replica, QfsReplicaStats *out_stats, GError **error) {
  QfsConnection *connection = qfs_connection(replica);
  QfsCounters counters = connection->counters;
  struct statvfs disk;

  if (!connection->is_writer && !qfs_meta_load_counters(connection, &counters, error))
    return FALSE;
  if (statvfs(connection->dir, &disk) != 0) {
    set_system_error(connection->dir, "can't be measured", errno, error);
    return FALSE;
  }
  const guint64 page_size = pragma_number(connection, "PRAGMA page_size");
  *out_stats = (QfsReplicaStats){
      .records = counters.records,
      .tombstones = counters.tombstones,
      .chunks = counters.chunks,
      .bytes =
          qfs_connection_file_size(connection, "replica.db") + qfs_connection_file_size(connection, "replica.db-wal") +
          qfs_connection_file_size(connection, "replica.db-redo"),
      .reusable = pragma_number(connection, "PRAGMA freelist_count") * page_size,
      .owed = owed(connection, page_size),
      .disk_total = (guint64)disk.f_blocks * disk.f_frsize,
      .disk_free = (guint64)disk.f_bavail * disk.f_frsize,
      .disk_files = disk.f_files,
      .disk_files_free = disk.f_favail,
  };
  return TRUE;
}

static QfsFileWatch *watch(QfsReplica *replica) {
  return qfs_connection(replica)->watch;
}

static gboolean discard_aside(QfsReplica *replica) {
  return qfs_replica_discard_aside(qfs_connection(replica)->dir);
}

static const QfsReplicaOps sqlite_ops = {
    .close = close_replica,
    .begin = begin,
    .commit = commit,
    .rollback = rollback,
    .meta_load = qfs_meta_load,
    .meta_store = qfs_meta_store,
    .record_get = qfs_record_store_get,
    .record_apply = qfs_record_store_apply,
    .record_remove = qfs_record_store_remove,
    .record_scan = qfs_record_store_scan,
    .tombstone_scan = qfs_record_store_tombstone_scan,
    .record_list = qfs_record_store_list,
    .live_dir = qfs_record_store_live_dir,
    .chunk_put = qfs_chunk_store_put,
    .chunk_get = qfs_chunk_store_get,
    .chunk_trim = qfs_chunk_store_trim,
    .chunk_remove = qfs_chunk_store_remove,
    .object_drop = qfs_chunk_store_drop,
    .chunk_scan = qfs_chunk_store_scan,
    .record_walk = qfs_bad_row_record_walk,
    .bad_row = qfs_bad_row,
    .record_print = qfs_bad_row_record_print,
    .record_mend = qfs_bad_row_record_mend,
    .chunk_exact = qfs_chunk_store_exact,
    .chunk_print = qfs_chunk_store_print,
    .chunk_mend = qfs_chunk_store_mend,
    .chunk_walk = qfs_chunk_store_walk,
    .chunk_list = qfs_chunk_store_list,
    .object_records = qfs_record_store_object_records,
    .intent_put = qfs_intent_store_put,
    .intent_get = qfs_intent_store_get,
    .intent_remove = qfs_intent_store_remove,
    .intent_list = qfs_intent_store_list,
    .wipe = wipe,
    .checkpoint = checkpoint,
    .stats = stats,
    .watch = watch,
    .discard_aside = discard_aside,
};

gboolean qfs_replica_chunk(QfsReplica *replica, QfsObjectId object, guint64 index, GBytes *spans,
                           QfsChunk **out_chunk, gboolean *out_newer, GError **error) {
  guint64 wanted = qfs_spans_newest(spans);
  gboolean newer = FALSE, first = TRUE;
  *out_chunk = NULL;
  for (;; first = FALSE) {
    QfsChunk *chunk = NULL;
    if (!replica->ops->chunk_get(replica, object, index, wanted, &chunk, first ? &newer : NULL,
                                 error))
      return FALSE;
    gboolean found = chunk != NULL && qfs_spans_floor(spans, chunk->version, &wanted);
    if (found && wanted == chunk->version) {
      *out_chunk = chunk;
      break;
    }
    qfs_chunk_free(chunk);
    if (!found)
      break;
  }
  if (out_newer != NULL)
    *out_newer = newer && *out_chunk == NULL;
  return TRUE;
}

QfsReplica *qfs_tables_open(const char *dir, guint32 node, gboolean create,
                            gboolean sync_always, GError **error) {
  if (!create && !file_exists(dir)) {
    set_absent_error(dir, error);
    return NULL;
  }
  if (create && !make_directory(dir, error))
    return NULL;
  int lock_fd = take_lock(dir, error);
  if (lock_fd < 0)
    return NULL;
  qfs_replica_end_set_aside(dir);
  if (create && !file_exists(dir))
    remove_files(dir);

  g_autoptr(QfsConnection) connection = qfs_connection_open(dir, TRUE, create, error);
  if (connection == NULL) {
    close(lock_fd);
    return NULL;
  }
  connection->base.ops = &sqlite_ops;
  connection->lock_fd = lock_fd;
  connection->sync_always = sync_always;
  if (!prepare_file(connection, node, create, error) ||
      !qfs_meta_load_counters(connection, &connection->counters, error))
    return NULL;
  connection->committed_counters = connection->counters;
  connection->watch = qfs_file_watch_new(connection->path);
  return &g_steal_pointer(&connection)->base;
}

QfsReplica *qfs_tables_open_reader(const char *dir, GError **error) {
  QfsSchemaState state;

  if (!file_exists(dir)) {
    set_absent_error(dir, error);
    return NULL;
  }
  g_autoptr(QfsConnection) connection = qfs_connection_open(dir, FALSE, FALSE, error);
  if (connection == NULL || !qfs_schema_inspect(connection, &state, error))
    return NULL;
  if (state == QFS_SCHEMA_EMPTY) {
    set_absent_error(dir, error);
    return NULL;
  }
  if (state == QFS_SCHEMA_OLD) {
    qfs_connection_fail_with(connection, QFS_REPLICA_ERROR_FORMAT, error,
                             "has an older schema; its writer brings it up to date");
    return NULL;
  }
  connection->base.ops = &sqlite_ops;
  return &g_steal_pointer(&connection)->base;
}
