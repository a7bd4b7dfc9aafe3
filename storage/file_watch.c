/* file_watch.c - see file_watch.h. `turn` is odd while the writer is at it; readers of the stamp take it before
 * and after. */
#include "storage/file_watch.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

typedef struct {
  guint64 device, inode;
  gint64 size;
  gint64 changed_s, changed_ns;
} Stamp;

struct QfsFileWatch {
  gatomicrefcount refs;
  char *path;
  int fd;              /* constant: the file itself; -1: it is not to be had. Only to look at: closing it gives back no lock */
  gboolean is_there;   /* constant */
  gint64 path_us;      /* atomic: when the path was followed last */
  guint turn;          /* atomic */
  pthread_mutex_t lock;
  Stamp stamp;         /* lock */
};

static Stamp stamp_of(const struct stat *st) {
  return (Stamp){.device = st->st_dev,
                 .inode = st->st_ino,
                 .size = st->st_size,
                 .changed_s = st->st_mtim.tv_sec,
                 .changed_ns = st->st_mtim.tv_nsec};
}

static gboolean take_stamp(const char *path, Stamp *out) {
  struct stat st;
  if (stat(path, &st) != 0)
    return FALSE;
  *out = stamp_of(&st);
  return TRUE;
}

/* Some milliseconds late, for next to nothing. */
static gint64 coarse_us(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
  return now.tv_sec * G_USEC_PER_SEC + now.tv_nsec / 1000;
}

QfsFileWatch *qfs_file_watch_new(const char *path) {
  QfsFileWatch *watch = g_new0(QfsFileWatch, 1);
  g_atomic_ref_count_init(&watch->refs);
  watch->path = g_strdup(path);
  watch->fd = open(path, O_PATH | O_CLOEXEC);
  pthread_mutex_init(&watch->lock, NULL);
  watch->is_there = take_stamp(path, &watch->stamp);
  return watch;
}

QfsFileWatch *qfs_file_watch_ref(QfsFileWatch *watch) {
  g_atomic_ref_count_inc(&watch->refs);
  return watch;
}

void qfs_file_watch_unref(QfsFileWatch *watch) {
  if (watch == NULL || !g_atomic_ref_count_dec(&watch->refs))
    return;
  pthread_mutex_destroy(&watch->lock);
  if (watch->fd >= 0)
    close(watch->fd);
  g_free(watch->path);
  g_free(watch);
}

void qfs_file_watch_begin(QfsFileWatch *watch) {
  __atomic_add_fetch(&watch->turn, 1, __ATOMIC_SEQ_CST);
}

void qfs_file_watch_end(QfsFileWatch *watch) {
  Stamp stamp;
  if (watch->is_there && take_stamp(watch->path, &stamp)) {
    pthread_mutex_lock(&watch->lock);
    /* Another file under the name is never taken for ours. */
    if (stamp.device == watch->stamp.device && stamp.inode == watch->stamp.inode)
      watch->stamp = stamp;
    pthread_mutex_unlock(&watch->lock);
  }
  __atomic_add_fetch(&watch->turn, 1, __ATOMIC_SEQ_CST);
}

/* `found`, which was looked at since `turn` was read, and what is known. */
static const char *compare(QfsFileWatch *watch, guint turn, const Stamp *found) {
  pthread_mutex_lock(&watch->lock);
  const Stamp known = watch->stamp;
  pthread_mutex_unlock(&watch->lock);
  if (found->device != known.device || found->inode != known.inode)
    return "another file is in its place";
  const gboolean moving =
      turn % 2 != 0 || turn != __atomic_load_n(&watch->turn, __ATOMIC_SEQ_CST);
  if (!moving && (found->size != known.size || found->changed_s != known.changed_s ||
                  found->changed_ns != known.changed_ns))
    return "somebody else wrote to the file";
  return NULL;
}

const char *qfs_file_watch_objection(QfsFileWatch *watch) {
  if (!watch->is_there)
    return NULL;
  __atomic_store_n(&watch->path_us, coarse_us(), __ATOMIC_RELAXED);
  const guint turn = __atomic_load_n(&watch->turn, __ATOMIC_SEQ_CST);
  Stamp now;
  return take_stamp(watch->path, &now) ? compare(watch, turn, &now) : "the file was deleted";
}

const char *qfs_file_watch_glance(QfsFileWatch *watch) {
  if (!watch->is_there)
    return NULL;
  const gint64 since_us = coarse_us() - __atomic_load_n(&watch->path_us, __ATOMIC_RELAXED);
  const guint turn = __atomic_load_n(&watch->turn, __ATOMIC_SEQ_CST);
  struct stat st;
  if (watch->fd < 0 || since_us >= QFS_FILE_WATCH_PATH_US || fstat(watch->fd, &st) != 0 || st.st_nlink == 0)
    return qfs_file_watch_objection(watch);
  const Stamp now = stamp_of(&st);
  return compare(watch, turn, &now);
}
