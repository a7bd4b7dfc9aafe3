/* reader_pool.c - see reader_pool.h. Safe across threads: everything below `lock` in the struct is
 * guarded by it.
 *
 * POSIX locks rather than GLib's in this and the other threaded files: ThreadSanitizer sees them,
 * and signalling a condition that nobody waits for costs no system call. */
#include "cluster/reader_pool.h"

#include <pthread.h>

struct QfsReaderPool {
  char *dir;
  pthread_mutex_t lock;
  pthread_cond_t returned;
  gboolean open;
  QfsFileWatch *watch; /* constant while it is open; NULL: none */
  guint lent;
  guint n_idle;
  QfsReplica
      *idle[QFS_READERS_IDLE_MAX]; /* the last one returned is taken first: its cache is warm */
};

QfsReaderPool *qfs_reader_pool_new(const char *dir) {
  QfsReaderPool *pool = g_new0(QfsReaderPool, 1);
  pool->dir = g_strdup(dir);
  pthread_mutex_init(&pool->lock, NULL);
  pthread_cond_init(&pool->returned, NULL);
  return pool;
}

void qfs_reader_pool_free(QfsReaderPool *pool) {
  if (pool == NULL)
    return;
  qfs_reader_pool_close(pool);
  pthread_cond_destroy(&pool->returned);
  pthread_mutex_destroy(&pool->lock);
  g_free(pool->dir);
  g_free(pool);
}

void qfs_reader_pool_open(QfsReaderPool *pool, QfsFileWatch *watch) {
  pthread_mutex_lock(&pool->lock);
  pool->watch = watch != NULL ? qfs_file_watch_ref(watch) : NULL;
  pool->open = TRUE;
  pthread_mutex_unlock(&pool->lock);
}

void qfs_reader_pool_close(QfsReaderPool *pool) {
  pthread_mutex_lock(&pool->lock);
  pool->open = FALSE;
  while (pool->lent > 0)
    pthread_cond_wait(&pool->returned, &pool->lock);
  pthread_mutex_unlock(&pool->lock);
  /* Closed and nothing lent: the idle ones are this thread's alone. */
  while (pool->n_idle > 0)
    qfs_replica_close(pool->idle[--pool->n_idle]);
  g_clear_pointer(&pool->watch, qfs_file_watch_unref);
}

/* FALSE: the node is closed. Else the caller must return_reader. *out_reader NULL: open a new one.
 */
static gboolean take_reader(QfsReaderPool *pool, QfsReplica **out_reader) {
  pthread_mutex_lock(&pool->lock);
  const gboolean open = pool->open;
  if (open) {
    *out_reader = pool->n_idle > 0 ? pool->idle[--pool->n_idle] : NULL;
    pool->lent++;
  }
  pthread_mutex_unlock(&pool->lock);
  return open;
}

static void return_reader(QfsReaderPool *pool, QfsReplica *reader, gboolean usable) {
  if (reader != NULL && !usable)
    g_clear_pointer(&reader, qfs_replica_close);
  pthread_mutex_lock(&pool->lock);
  if (reader != NULL && pool->open && pool->n_idle < QFS_READERS_IDLE_MAX)
    pool->idle[pool->n_idle++] = g_steal_pointer(&reader);
  if (reader != NULL) {
    /* Still counted as lent while it closes (P1), with the lock released (P2). */
    pthread_mutex_unlock(&pool->lock);
    qfs_replica_close(reader);
    pthread_mutex_lock(&pool->lock);
  }
  if (--pool->lent == 0 && !pool->open)
    pthread_cond_signal(&pool->returned);
  pthread_mutex_unlock(&pool->lock);
}

void qfs_reader_pool_run(QfsReaderPool *pool, QfsRead *read) {
  QfsReplica *reader = NULL;
  if (!take_reader(pool, &reader)) {
    qfs_read_fail(read, QFS_NO_QUORUM, "the node is closed");
    return;
  }
  gboolean usable = FALSE;
  const gboolean is_new = reader == NULL; /* it was opened by the path */
  g_autoptr(GError) error = NULL;
  if (is_new)
    reader = qfs_sqlite_replica_open_reader(pool->dir, &error);
  if (reader == NULL)
    qfs_read_fail(read, QFS_IO, error != NULL ? error->message : "cannot open a read connection");
  else
    usable = qfs_read_run(read, reader);
  /* Afterwards: what was read before is sound. */
  const char *objection = pool->watch == NULL ? NULL
                          : is_new            ? qfs_file_watch_objection(pool->watch)
                                              : qfs_file_watch_glance(pool->watch);
  if (objection != NULL) {
    qfs_read_fail(read, QFS_IO, objection);
    read->corrupt = TRUE;
    usable = FALSE;
  }
  return_reader(pool, reader, usable);
}

QfsStatus qfs_reader_pool_inspect(QfsReaderPool *pool, QfsReaderFunc inspect, gpointer user_data, char **out_reason) {
  QfsReplica *reader = NULL;
  if (!take_reader(pool, &reader))
    return QFS_NO_QUORUM;
  g_autoptr(GError) error = NULL;
  if (reader == NULL)
    reader = qfs_sqlite_replica_open_reader(pool->dir, &error);
  gboolean ok = reader != NULL && inspect(reader, user_data, &error);
  const char *objection = pool->watch != NULL ? qfs_file_watch_objection(pool->watch) : NULL;
  gboolean usable = ok || g_error_matches(error, QFS_REPLICA_ERROR, QFS_REPLICA_ERROR_BAD_ROW);
  if (!ok || objection != NULL)
    *out_reason = g_strdup(objection != NULL ? objection : error != NULL ? error->message : "it cannot be read");
  return_reader(pool, reader, usable && objection == NULL);
  return ok && objection == NULL ? QFS_OK : QFS_IO;
}
