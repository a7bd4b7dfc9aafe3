/* atime.c - see atime.h. */
#include "fs/atime.h"
#include "fs/call.h"
#include "fs/move.h"

#include <fcntl.h>

#define NS_PER_S G_GINT64_CONSTANT(1000000000)
#define DAY_NS (24 * 3600 * NS_PER_S)
#define IN_FLIGHT_MAX 16

void qfs_atime_init(QfsFs *fs, const QfsFsConfig *config) {
  g_queue_init(&fs->read_inodes);
  fs->atime_files = !config->noatime;
  fs->atime_dirs = fs->atime_files && !config->nodiratime;
}

/* ---- storing ---- */

typedef struct {
  QfsFs *fs;
  QfsInode *inode;
  gint64 atime_ns;
  guint64 doubts;
} Note;

static void store_some(QfsFs *fs);

static void stored(QfsRequest *request, gpointer user_data) {
  Note *note = user_data;
  QfsFs *fs = note->fs;
  QfsInode *inode = note->inode;
  g_mutex_lock(&fs->lock);
  qfs_inode_mutated_locked(fs, inode, request, note->doubts);
  if (inode->atime_ns <= note->atime_ns)
    inode->atime_ns = 0; /* stored, or given up */
  GSList *woken = qfs_inode_wake_locked(inode);
  fs->atimes_in_flight--;
  qfs_inode_unref_locked(fs, inode);
  g_mutex_unlock(&fs->lock);
  qfs_calls_run(woken);
  g_slice_free(Note, note);
  store_some(fs);
  qfs_fs_request_end(fs, request);
}

static void due(gpointer data) {
  QfsFs *fs = data;
  g_mutex_lock(&fs->lock);
  fs->atimes_armed = FALSE;
  g_mutex_unlock(&fs->lock);
  store_some(fs);
}

static void arm_locked(QfsFs *fs) {
  if (fs->atimes_armed || g_atomic_int_get(&fs->closing))
    return;
  fs->atimes_armed = TRUE;
  qfs_timer_add(fs->timer, g_get_monotonic_time() + G_USEC_PER_SEC, due, fs);
}

/* The next one to store; NULL: none now. Those that are being changed are left for later: an explicit time must not
 * be overtaken. */
static Note *next_locked(QfsFs *fs) {
  if (fs->atimes_in_flight >= IN_FLIGHT_MAX)
    return NULL;
  if (g_atomic_int_get(&fs->closing) && g_get_monotonic_time() > fs->atimes_until_us)
    return NULL;
  for (guint left = fs->read_inodes.length; left > 0; left--) {
    QfsInode *inode = g_queue_pop_head(&fs->read_inodes);
    gboolean usable = inode->named && !inode->pending;
    if (usable && inode->atime_ns != 0 && (inode->mutations > 0 || inode->blocked > 0)) {
      g_queue_push_tail(&fs->read_inodes, inode);
      arm_locked(fs);
      continue;
    }
    inode->atime_queued = FALSE;
    if (!usable || inode->atime_ns == 0) {
      qfs_inode_unref_locked(fs, inode);
      continue;
    }
    Note *note = g_slice_new(Note);
    *note = (Note){fs, inode, inode->atime_ns, fs->doubts};
    inode->mutations++;
    fs->atimes_in_flight++;
    return note;
  }
  return NULL;
}

static void store_some(QfsFs *fs) {
  for (;;) {
    g_mutex_lock(&fs->lock);
    Note *note = next_locked(fs);
    QfsRequest *request = NULL;
    if (note != NULL) {
      request = qfs_request_new(QFS_REQUEST_SETATTR, note->inode->key, stored, note);
      request->mask = QFS_ATTR_ATIME;
      request->attr.atime_ns = note->atime_ns;
      qfs_move_note_locked(fs, request);
    }
    g_mutex_unlock(&fs->lock);
    if (request == NULL)
      return;
    qfs_fs_submit(fs, request);
  }
}

void qfs_atime_store_all(QfsFs *fs) {
  fs->atimes_until_us = g_get_monotonic_time() + G_USEC_PER_SEC;
  store_some(fs);
}

/* ---- noting ---- */

static gboolean is_due(const QfsInode *inode, gint64 now_ns) {
  const QfsAttr *attr = &inode->record->attr;
  gint64 atime = inode->atime_ns != 0 ? inode->atime_ns : attr->atime_ns;
  gint64 mtime = attr->mtime_ns, ctime = attr->ctime_ns;
  if (inode->times_ns != 0) {
    mtime = MAX(mtime, inode->times_ns);
    ctime = MAX(ctime, inode->times_ns);
  }
  return atime <= mtime || atime <= ctime || now_ns - atime >= DAY_NS;
}

void qfs_atime_note_locked(QfsFs *fs, QfsInode *inode, int flags) {
  gboolean wanted = qfs_inode_is_dir(inode) ? fs->atime_dirs : fs->atime_files;
  if (!wanted || (flags & O_NOATIME) || inode->control || inode->replica || inode->record == NULL || !inode->named)
    return;
  gint64 now_ns = qfs_fs_now_ns();
  if (!is_due(inode, now_ns))
    return;
  inode->atime_ns = now_ns;
  if (!inode->atime_queued) {
    inode->atime_queued = TRUE;
    g_queue_push_tail(&fs->read_inodes, qfs_inode_ref_locked(inode));
    arm_locked(fs);
  }
}
