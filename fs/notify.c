/* notify.c - see notify.h. Thread-safe: one lock per queue, a leaf. */
#include "fs/notify.h"
#include "fs/names.h"
#include "fs/pages.h"

#include <string.h>

typedef enum { JOB_PAGES, JOB_ATTR, JOB_ENTRY, JOB_ENTRY_GENTLE, JOB_FENCE, JOB_POLL } JobKind;

typedef struct {
  JobKind kind;
  fuse_ino_t ino;
  char *name;
  QfsNotifyThen then;
  gpointer data;
} Job;

typedef struct {
  QfsNotify *notify;
  GMutex lock;
  GCond wake;
  GQueue jobs;   /* lock */
  gboolean busy; /* lock: a job is being carried out */
  gboolean stop; /* lock */
  GThread *thread;
} Queue;

struct QfsNotify {
  QfsFs *fs;
  gint quiet; /* atomic */
  Queue pages, names, polls;
};

static void carry_out(QfsNotify *notify, Job *job) {
  struct fuse_session *se = notify->fs->se;
  if (!g_atomic_int_get(&notify->quiet)) {
    switch (job->kind) {
    case JOB_PAGES:
      fuse_lowlevel_notify_inval_inode(se, job->ino, 0, 0);
      break;
    case JOB_ATTR:
      fuse_lowlevel_notify_inval_inode(se, job->ino, -1, 0);
      break;
    case JOB_ENTRY:
      fuse_lowlevel_notify_inval_entry(se, job->ino, job->name, strlen(job->name));
      break;
    case JOB_ENTRY_GENTLE:
      if (fuse_lowlevel_notify_expire_entry(se, job->ino, job->name, strlen(job->name),
                                            FUSE_LL_EXPIRE_ONLY) == -ENOSYS)
        fuse_lowlevel_notify_inval_entry(se, job->ino, job->name, strlen(job->name));
      break;
    case JOB_POLL:
      fuse_lowlevel_notify_poll(job->data);
      break;
    case JOB_FENCE:
      break;
    }
  }
  if (job->then != NULL)
    job->then(job->data);
  g_free(job->name);
  g_slice_free(Job, job);
}

static gpointer queue_main(gpointer data) {
  Queue *queue = data;
  g_mutex_lock(&queue->lock);
  for (;;) {
    Job *job = g_queue_pop_head(&queue->jobs);
    if (job == NULL) {
      if (queue->stop)
        break;
      g_cond_wait(&queue->wake, &queue->lock);
      continue;
    }
    queue->busy = TRUE;
    g_mutex_unlock(&queue->lock);
    carry_out(queue->notify, job);
    g_mutex_lock(&queue->lock);
    queue->busy = FALSE;
  }
  g_mutex_unlock(&queue->lock);
  return NULL;
}

static void queue_start(Queue *queue, QfsNotify *notify, const char *name) {
  queue->notify = notify;
  g_mutex_init(&queue->lock);
  g_cond_init(&queue->wake);
  g_queue_init(&queue->jobs);
  queue->thread = g_thread_new(name, queue_main, queue);
}

static void queue_end(Queue *queue) {
  g_mutex_lock(&queue->lock);
  queue->stop = TRUE;
  g_cond_signal(&queue->wake);
  g_mutex_unlock(&queue->lock);
  g_thread_join(queue->thread);
  g_mutex_clear(&queue->lock);
  g_cond_clear(&queue->wake);
}

static gboolean queue_is_idle(Queue *queue) {
  g_mutex_lock(&queue->lock);
  gboolean idle = !queue->busy && g_queue_is_empty(&queue->jobs);
  g_mutex_unlock(&queue->lock);
  return idle;
}

static void post(Queue *queue, JobKind kind, fuse_ino_t ino, const char *name, QfsNotifyThen then,
                 gpointer data) {
  Job *job = g_slice_new(Job);
  *job = (Job){.kind = kind, .ino = ino, .name = g_strdup(name), .then = then, .data = data};
  g_mutex_lock(&queue->lock);
  g_queue_push_tail(&queue->jobs, job);
  g_cond_signal(&queue->wake);
  g_mutex_unlock(&queue->lock);
}

QfsNotify *qfs_notify_new(QfsFs *fs) {
  QfsNotify *notify = g_new0(QfsNotify, 1);
  notify->fs = fs;
  queue_start(&notify->pages, notify, "qfs-pages");
  queue_start(&notify->names, notify, "qfs-names");
  queue_start(&notify->polls, notify, "qfs-polls");
  return notify;
}

void qfs_notify_quiesce(QfsNotify *notify) {
  g_atomic_int_set(&notify->quiet, 1);
}

gboolean qfs_notify_is_idle(QfsNotify *notify) {
  return queue_is_idle(&notify->pages) && queue_is_idle(&notify->names);
}

void qfs_notify_free(QfsNotify *notify) {
  if (notify == NULL)
    return;
  qfs_notify_quiesce(notify);
  queue_end(&notify->pages);
  queue_end(&notify->names);
  queue_end(&notify->polls);
  g_free(notify);
}

void qfs_notify_pages(QfsNotify *notify, fuse_ino_t ino, QfsNotifyThen then, gpointer data) {
  post(&notify->pages, JOB_PAGES, ino, NULL, then, data);
}

void qfs_notify_attr(QfsNotify *notify, fuse_ino_t ino) {
  post(&notify->names, JOB_ATTR, ino, NULL, NULL, NULL);
}

void qfs_notify_entry(QfsNotify *notify, fuse_ino_t dir, const char *name, gboolean gentle) {
  post(&notify->names, gentle ? JOB_ENTRY_GENTLE : JOB_ENTRY, dir, name, NULL, NULL);
}

static void destroy_poll(gpointer data) {
  fuse_pollhandle_destroy(data);
}

void qfs_notify_poll(QfsNotify *notify, struct fuse_pollhandle *ph) {
  post(&notify->polls, JOB_POLL, 0, NULL, destroy_poll, ph);
}

/* --- the fence: through one queue, then through the other --- */

typedef struct {
  QfsNotify *notify;
  QfsNotifyThen then;
  gpointer data;
} Fence;

static void fence_half(gpointer data) {
  Fence *fence = data;
  post(&fence->notify->names, JOB_FENCE, 0, NULL, fence->then, fence->data);
  g_slice_free(Fence, fence);
}

void qfs_notify_fence(QfsNotify *notify, QfsNotifyThen then, gpointer data) {
  Fence *fence = g_slice_new(Fence);
  *fence = (Fence){.notify = notify, .then = then, .data = data};
  post(&notify->pages, JOB_FENCE, 0, NULL, fence_half, fence);
}

/* --- what others changed --- */

/* The deepest directory above `key` that the kernel knows forgets the name that leads to it: an
 * entry below an unknown directory can't be cached. */
static void forget_name_locked(QfsFs *fs, const char *key, gboolean gentle) {
  char *path = g_strdup(key);
  for (;;) {
    char *slash = strrchr(path, '/');
    const char *name = slash != NULL ? slash + 1 : path;
    char *above = slash != NULL ? g_strndup(path, slash - path) : g_strdup("");
    QfsInode *dir = qfs_inode_by_key_locked(fs, above);
    if (dir != NULL || slash == NULL) {
      if (dir != NULL) {
        dir->changes++;
        if (*name != '\0')
          qfs_notify_entry(fs->notify, dir->ino, name, gentle);
        qfs_notify_attr(fs->notify, dir->ino);
      }
      g_free(above);
      break;
    }
    g_free(path);
    path = above;
  }
  g_free(path);
}

void qfs_fs_key_changed(const char *key, gpointer data) {
  QfsFs *fs = data;
  gboolean own = *key == '/'; /* the file's, of a file with several names */
  if (fs == NULL || (own && qfs_key_below(QFS_LINK_DIR, key) == NULL))
    return;
  GSList *pins = NULL;
  g_mutex_lock(&fs->lock);
  fs->doubts++;
  QfsInode *inode = qfs_inode_by_key_locked(fs, key);
  gboolean gentle = inode != NULL && qfs_inode_is_dir(inode);
  if (!own)
    forget_name_locked(fs, key, gentle);
  if (inode != NULL) {
    inode->known = QFS_KNOWN_NOTHING;
    inode->changes++;
    qfs_inode_clear_debts_locked(inode);
    if (inode->pending)
      qfs_inode_settle_pending_locked(fs, inode);
    pins = qfs_inode_unpin_all_locked(inode, NULL);
    qfs_pages_drop_locked(fs, inode, NULL, NULL);
    qfs_names_drop_link_locked(fs, key); /* it may not be a link any more */
  }
  g_mutex_unlock(&fs->lock);
  qfs_fs_drop_pins(fs, pins);
}
