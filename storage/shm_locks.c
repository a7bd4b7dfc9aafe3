/* shm_locks.c - see shm_locks.h. */
#include "storage/shm_locks.h"

#include <pthread.h>

#define FIRST_READ_MARK 4 /* marks 1 to 4; mark 0 is for who needs no log, and is never raised */
/* One of so many wishes to raise a mark is granted: each beginning makes up to four. */
#define RAISE_EVERY 256
/* After so many refusals without a shared lock in between there is no usable mark, so one must be raised. */
#define REFUSALS_MAX 4

typedef enum { OS_NONE, OS_SHARED, OS_EXCLUSIVE } OsLock;

struct QfsShmLocks {
  char *path;          /* constant */
  guint refs;          /* table_lock */
  pthread_mutex_t lock;
  sqlite3_file *file;  /* lock, constant once it is there: asks the operating system */
  guint shared[SQLITE_SHM_NLOCK];        /* lock: how many connections have it so */
  gboolean exclusive[SQLITE_SHM_NLOCK];  /* lock */
  OsLock os[SQLITE_SHM_NLOCK];           /* lock */
  guint wishes;                          /* lock */
};

static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;
static GHashTable *table; /* table_lock: path -> QfsShmLocks; NULL: none */

/* The index is there: who asks has mapped it. */
static sqlite3_file *open_file(sqlite3_vfs *base, const char *path, int open_flags) {
  sqlite3_file *file = g_malloc0((gsize)base->szOsFile);
  volatile void *region;
  int flags;
  if (base->xOpen(base, path, file, open_flags, &flags) == SQLITE_OK &&
      file->pMethods->xShmMap(file, 0, 32768, 0, &region) == SQLITE_OK)
    return file;
  if (file->pMethods != NULL)
    file->pMethods->xClose(file);
  g_free(file);
  return NULL;
}

static QfsShmLocks *find_or_add(const char *path) {
  pthread_mutex_lock(&table_lock);
  if (table == NULL)
    table = g_hash_table_new(g_str_hash, g_str_equal);
  QfsShmLocks *locks = g_hash_table_lookup(table, path);
  if (locks == NULL) {
    locks = g_new0(QfsShmLocks, 1);
    locks->path = g_strdup(path);
    pthread_mutex_init(&locks->lock, NULL);
    g_hash_table_insert(table, locks->path, locks);
  }
  locks->refs++;
  pthread_mutex_unlock(&table_lock);
  return locks;
}

QfsShmLocks *qfs_shm_locks_get(sqlite3_vfs *base, const char *path, int open_flags) {
  QfsShmLocks *locks = find_or_add(path);
  pthread_mutex_lock(&locks->lock); /* another file's disk may hang: not under the table's */
  if (locks->file == NULL)
    locks->file = open_file(base, path, open_flags);
  const gboolean opened = locks->file != NULL;
  pthread_mutex_unlock(&locks->lock);
  if (opened)
    return locks;
  qfs_shm_locks_release(locks);
  return NULL;
}

void qfs_shm_locks_release(QfsShmLocks *locks) {
  pthread_mutex_lock(&table_lock);
  const gboolean last = --locks->refs == 0;
  if (last)
    g_hash_table_remove(table, locks->path);
  if (last && g_hash_table_size(table) == 0)
    g_clear_pointer(&table, g_hash_table_unref);
  pthread_mutex_unlock(&table_lock);
  if (!last)
    return;
  if (locks->file != NULL) {
    locks->file->pMethods->xShmUnmap(locks->file, 0);
    locks->file->pMethods->xClose(locks->file);
    g_free(locks->file);
  }
  pthread_mutex_destroy(&locks->lock);
  g_free(locks->path);
  g_free(locks);
}

static int ask(QfsShmLocks *locks, int first, int n, int flags) {
  return locks->file->pMethods->xShmLock(locks->file, first, n, flags);
}

static int unlock(QfsShmLocks *locks, int first, int n, int flags) {
  int code = SQLITE_OK;
  for (int i = first; i < first + n; i++) {
    if (flags & SQLITE_SHM_SHARED) {
      g_assert(locks->shared[i] > 0);
      locks->shared[i]--; /* L2 */
    } else if (locks->exclusive[i]) {
      locks->exclusive[i] = FALSE;
      if (locks->os[i] == OS_EXCLUSIVE)
        code = ask(locks, i, 1, SQLITE_SHM_UNLOCK | SQLITE_SHM_EXCLUSIVE);
      locks->os[i] = OS_NONE;
    }
  }
  return code;
}

static int lock_shared(QfsShmLocks *locks, int i) {
  if (locks->exclusive[i])
    return SQLITE_BUSY;
  if (locks->os[i] == OS_NONE) {
    int code = ask(locks, i, 1, SQLITE_SHM_LOCK | SQLITE_SHM_SHARED);
    if (code != SQLITE_OK)
      return code;
    locks->os[i] = OS_SHARED;
  }
  locks->shared[i]++;
  return SQLITE_OK;
}

static int lock_exclusive(QfsShmLocks *locks, int first, int n) {
  for (int i = first; i < first + n; i++)
    if (locks->exclusive[i] || locks->shared[i] > 0)
      return SQLITE_BUSY;
  for (int i = first; i < first + n; i++) {
    if (locks->os[i] == OS_SHARED)
      ask(locks, i, 1, SQLITE_SHM_UNLOCK | SQLITE_SHM_SHARED);
    locks->os[i] = OS_NONE;
  }
  int code = ask(locks, first, n, SQLITE_SHM_LOCK | SQLITE_SHM_EXCLUSIVE);
  if (code != SQLITE_OK)
    return code;
  for (int i = first; i < first + n; i++) {
    locks->exclusive[i] = TRUE;
    locks->os[i] = OS_EXCLUSIVE;
  }
  return SQLITE_OK;
}

/* L3 */
static gboolean is_refused(QfsShmLocks *locks, int first, int n, guint *refused, gboolean moves_log) {
  if (moves_log || n != 1 || first < FIRST_READ_MARK || *refused >= REFUSALS_MAX)
    return FALSE;
  return ++locks->wishes % RAISE_EVERY != 0;
}

int qfs_shm_locks_lock(QfsShmLocks *locks, int first, int n, int flags, guint *refused, gboolean moves_log) {
  int code;
  pthread_mutex_lock(&locks->lock);
  if (flags & SQLITE_SHM_UNLOCK) {
    code = unlock(locks, first, n, flags);
  } else if (flags & SQLITE_SHM_SHARED) {
    code = lock_shared(locks, first);
    if (code == SQLITE_OK)
      *refused = 0;
  } else if (is_refused(locks, first, n, refused, moves_log)) {
    code = SQLITE_BUSY;
    (*refused)++;
  } else {
    code = lock_exclusive(locks, first, n);
  }
  pthread_mutex_unlock(&locks->lock);
  return code;
}
