/* file_watch.c - see file_watch.h. `turn` is odd while the writer is at it; readers of the stamp take it before
 * and after. */
#include "storage/file_watch.h"

#include <pthread.h>
#include <sys/stat.h>

typedef struct {
  guint64 device, inode;
  gint64 size;
  gint64 changed_s, changed_ns;
} Stamp;

struct QfsFileWatch {
  gatomicrefcount refs;
  char *path;
  gboolean is_there;   /* constant */
  guint turn;          /* atomic */
  pthread_mutex_t lock;
  Stamp stamp;         /* lock */
};

static gboolean take_stamp(const char *path, Stamp *out) {
  struct stat st;
  if (stat(path, &st) != 0)
    return FALSE;
  *out = (Stamp){.device = st.st_dev,
                 .inode = st.st_ino,
                 .size = st.st_size,
                 .changed_s = st.st_mtim.tv_sec,
                 .changed_ns = st.st_mtim.tv_nsec};
  return TRUE;
}

QfsFileWatch *qfs_file_watch_new(const char *path) {
  QfsFileWatch *watch = g_new0(QfsFileWatch, 1);
  g_atomic_ref_count_init(&watch->refs);
  watch->path = g_strdup(path);
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

const char *qfs_file_watch_objection(QfsFileWatch *watch) {
  if (!watch->is_there)
    return NULL;
  const guint turn = __atomic_load_n(&watch->turn, __ATOMIC_SEQ_CST);
  Stamp now, known;
  const gboolean found = take_stamp(watch->path, &now);
  pthread_mutex_lock(&watch->lock);
  known = watch->stamp;
  pthread_mutex_unlock(&watch->lock);
  if (!found)
    return "the file was deleted";
  if (now.device != known.device || now.inode != known.inode)
    return "another file is in its place";
  const gboolean moving =
      turn % 2 != 0 || turn != __atomic_load_n(&watch->turn, __ATOMIC_SEQ_CST);
  if (!moving && (now.size != known.size || now.changed_s != known.changed_s ||
                  now.changed_ns != known.changed_ns))
    return "somebody else wrote to the file";
  return NULL;
}
