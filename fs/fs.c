/* fs.c - see fs.h: mounting, unmounting, and what all operations share. */
#include "fs/atime.h"
#include "fs/crowd.h"
#include "fs/direct_map.h"
#include "fs/handle.h"
#include "fs/move.h"
#include "fs/names.h"
#include "fs/notify.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <time.h>
#include <unistd.h>

#define QUORUM_CACHE_US 10000
#define WARNINGS_PER_SECOND 5
#define LIST_LIMIT 512
#define READAHEAD_KIB "1024"
/* Engine requests end by their deadline; this is for an engine that breaks that promise. */
#define DRAIN_US (20 * G_USEC_PER_SEC)

GQuark qfs_fs_error_quark(void) {
  return g_quark_from_static_string("qfs-fs-error");
}

gint64 qfs_fs_now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return (gint64)now.tv_sec * G_GINT64_CONSTANT(1000000000) + now.tv_nsec;
}

gint64 qfs_fs_birth_ns_locked(QfsFs *fs) {
  fs->last_birth_ns = MAX(fs->last_birth_ns + 1, qfs_fs_now_ns());
  return fs->last_birth_ns;
}

/* --- engine requests --- */

/* Which thread sends it decides on lending: what was held is sent by another one than it came from. */
void qfs_fs_send(QfsFs *fs, QfsRequest *request) {
  const guint64 mark = request->mark;
  if (!qfs_move_holds(fs, request)) {
    request->lend = qfs_session_lends();
    qfs_engine_submit(fs->engine, request);
  }
  if (mark != 0)
    qfs_move_handed_over(fs, mark);
}

void qfs_fs_submit(QfsFs *fs, QfsRequest *request) {
  request->now_ns = qfs_fs_now_ns();
  request->follow = TRUE;
  g_atomic_int_inc(&fs->in_flight);
  qfs_fs_send(fs, request);
}

void qfs_fs_request_end(QfsFs *fs, QfsRequest *request) {
  qfs_request_free(request);
  g_atomic_int_add(&fs->in_flight, -1);
}

gboolean qfs_fs_may_write(QfsFs *fs) {
  gint64 now = g_get_monotonic_time();
  g_mutex_lock(&fs->calls_lock);
  gboolean fresh = now < fs->quorum_until_us;
  g_mutex_unlock(&fs->calls_lock);
  if (fresh)
    return TRUE;
  QfsEngineStatus *status = qfs_engine_status(fs->engine);
  gboolean quorum = status->quorum;
  qfs_engine_status_free(status);
  if (quorum) {
    g_mutex_lock(&fs->calls_lock);
    fs->quorum_until_us = now + QUORUM_CACHE_US;
    g_mutex_unlock(&fs->calls_lock);
  }
  return quorum;
}

void qfs_fs_log_failure(QfsFs *fs, const char *what, const char *key, QfsStatus status) {
  switch (status) {
  case QFS_NO_QUORUM:
  case QFS_UNKNOWN:
  case QFS_IO:
  case QFS_NO_SPACE:
    break;
  default:
    return;
  }
  gint64 second = g_get_monotonic_time() / G_USEC_PER_SEC;
  g_mutex_lock(&fs->calls_lock);
  if (second != fs->warned_second) {
    fs->warned_second = second;
    fs->warned = 0;
  }
  gboolean quiet = fs->warned++ >= WARNINGS_PER_SECOND;
  g_mutex_unlock(&fs->calls_lock);
  if (!quiet)
    g_warning("%s of '%s' failed: %s", what, key != NULL ? key : "", qfs_status_name(status));
}

/* --- waiting for a request, at mount and unmount only --- */

typedef struct {
  GMutex lock;
  GCond cond;
  gboolean done;
} Waiter;

static void waiter_done(QfsRequest *request, gpointer user_data) {
  Waiter *waiter = user_data;
  g_mutex_lock(&waiter->lock);
  waiter->done = TRUE;
  g_cond_signal(&waiter->cond);
  g_mutex_unlock(&waiter->lock);
}

static void submit_and_wait(QfsFs *fs, QfsRequest *request) {
  Waiter waiter = {.done = FALSE};
  g_mutex_init(&waiter.lock);
  g_cond_init(&waiter.cond);
  request->done = waiter_done;
  request->user_data = &waiter;
  qfs_fs_submit(fs, request);
  g_mutex_lock(&waiter.lock);
  while (!waiter.done)
    g_cond_wait(&waiter.cond, &waiter.lock);
  g_mutex_unlock(&waiter.lock);
  g_mutex_clear(&waiter.lock);
  g_cond_clear(&waiter.cond);
}

/* --- the root's record --- */

static void ensure_root_again(gpointer data) {
  qfs_fs_ensure_root(data);
}

static void root_created(QfsRequest *request, gpointer user_data) {
  QfsFs *fs = user_data;
  gboolean ok = request->status == QFS_OK || request->status == QFS_EXISTS;
  g_mutex_lock(&fs->lock);
  fs->root_stored = ok;
  if (request->status == QFS_OK && qfs_record_exists(request->record))
    qfs_inode_learn_locked(fs, fs->root, request->record, QFS_KNOWN_ALL, fs->doubts);
  g_mutex_unlock(&fs->lock);
  if (!ok && !g_atomic_int_get(&fs->closing))
    qfs_timer_add(fs->timer, g_get_monotonic_time() + G_USEC_PER_SEC, ensure_root_again, fs);
  qfs_fs_request_end(fs, request);
}

void qfs_fs_ensure_root(QfsFs *fs) {
  if (g_atomic_int_get(&fs->closing))
    return;
  QfsRequest *request = qfs_request_new(QFS_REQUEST_CREATE, "", root_created, fs);
  request->kind = QFS_KIND_DIRECTORY;
  request->attr = fs->root->attr;
  qfs_fs_submit(fs, request);
}

static void load_root(QfsFs *fs) {
  QfsRequest *request = qfs_request_new(QFS_REQUEST_GET, "", NULL, NULL);
  submit_and_wait(fs, request);
  if (request->status == QFS_OK) {
    fs->root_stored = TRUE;
    qfs_inode_learn_locked(fs, fs->root, request->record, QFS_KNOWN_ALL, fs->doubts);
    qfs_fs_request_end(fs, request);
    return;
  }
  qfs_fs_request_end(fs, request);
  request = qfs_request_new(QFS_REQUEST_CREATE, "", NULL, NULL);
  request->kind = QFS_KIND_DIRECTORY;
  request->attr = fs->root->attr;
  submit_and_wait(fs, request);
  request->done = root_created;
  root_created(request, fs);
}

/* Unlinked files that were still open when the last mount ended. */
static void remove_orphans(QfsFs *fs) {
  gboolean more = TRUE;
  while (more) {
    QfsRequest *list = qfs_request_new(QFS_REQUEST_LIST, QFS_ORPHAN_DIR, NULL, NULL);
    list->limit = LIST_LIMIT;
    submit_and_wait(fs, list);
    more = list->status == QFS_OK && list->more && list->entries->len > 0;
    for (guint i = 0; list->status == QFS_OK && i < list->entries->len; i++) {
      QfsRecord *record = list->entries->pdata[i];
      QfsRequest *remove = qfs_request_new(QFS_REQUEST_REMOVE, record->key, NULL, NULL);
      submit_and_wait(fs, remove);
      more = more && remove->status == QFS_OK;
      qfs_fs_request_end(fs, remove);
    }
    qfs_fs_request_end(fs, list);
  }
}

/* --- directory times: shown at once from memory, stored within a second, so that a create costs
 * one put --- */

typedef struct {
  QfsFs *fs;
  QfsInode *dir;
  gint64 times_ns;
  guint64 doubts;
} DirTimes;

static void dir_times_stored(QfsRequest *request, gpointer user_data) {
  DirTimes *times = user_data;
  QfsFs *fs = times->fs;
  QfsInode *dir = times->dir;
  g_mutex_lock(&fs->lock);
  qfs_inode_mutated_locked(fs, dir, request, times->doubts);
  dir->times_storing = FALSE;
  if (request->status == QFS_OK && dir->times_ns <= times->times_ns)
    dir->times_ns = 0;
  if (request->status == QFS_NO_QUORUM && dir->named && !g_atomic_int_get(&fs->closing))
    qfs_inode_touch_dir_locked(fs, dir, times->times_ns); /* again in a second */
  GSList *woken = qfs_inode_wake_locked(dir);
  qfs_inode_unref_locked(fs, dir);
  g_mutex_unlock(&fs->lock);
  qfs_calls_run(woken);
  g_slice_free(DirTimes, times);
  qfs_fs_request_end(fs, request);
}

void qfs_fs_store_dir_times(QfsFs *fs) {
  g_mutex_lock(&fs->lock);
  GQueue dirs = fs->dirty_dirs;
  g_queue_init(&fs->dirty_dirs);
  fs->flush_armed = FALSE;
  QfsInode *dir;
  while ((dir = g_queue_pop_head(&dirs)) != NULL) {
    dir->times_dirty = FALSE;
    gboolean later = dir->mutations > 0 || dir->blocked > 0; /* an explicit time must not be overtaken */
    if (later && !g_atomic_int_get(&fs->closing))
      qfs_inode_times_dirty_locked(fs, dir);
    if (!dir->named || dir->times_ns == 0 || dir->times_dirty) {
      qfs_inode_unref_locked(fs, dir);
      continue;
    }
    dir->times_storing = TRUE;
    DirTimes *times = g_slice_new(DirTimes);
    *times = (DirTimes){fs, dir, dir->times_ns, fs->doubts};
    QfsRequest *request = qfs_request_new(QFS_REQUEST_SETATTR, dir->key, dir_times_stored, times);
    request->mask = QFS_ATTR_MTIME | QFS_ATTR_CTIME;
    request->flags = QFS_SETATTR_IMPLIED;
    request->attr.mtime_ns = request->attr.ctime_ns = dir->times_ns;
    dir->mutations++;
    qfs_move_note_locked(fs, request);
    g_mutex_unlock(&fs->lock);
    qfs_fs_submit(fs, request);
    g_mutex_lock(&fs->lock);
  }
  g_mutex_unlock(&fs->lock);
}

/* --- mount --- */

static void op_init(void *userdata, struct fuse_conn_info *conn) {
  static const unsigned wanted =
      FUSE_CAP_ASYNC_READ | FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_READDIRPLUS |
      FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_ASYNC_DIO |
      FUSE_CAP_EXPLICIT_INVAL_DATA | FUSE_CAP_EXPIRE_ONLY | FUSE_CAP_CACHE_SYMLINKS |
      FUSE_CAP_POSIX_ACL | FUSE_CAP_DONT_MASK; /* the umask counts only where there is no default list */
  /* Not: killpriv (the kernel clears set-id bits by SETATTR, and the engine on writes), automatic
   * invalidation (this daemon knows what changed), splicing (values are in memory anyway). */
  static const unsigned refused =
      FUSE_CAP_HANDLE_KILLPRIV | FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_WRITEBACK_CACHE |
      FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE | FUSE_CAP_POSIX_LOCKS |
      FUSE_CAP_FLOCK_LOCKS;
  conn->want = (conn->want | (conn->capable & wanted)) & ~refused;
  conn->max_write = QFS_MAX_WRITE;
  conn->max_background = 64;
  conn->congestion_threshold = 48;
  conn->time_gran = 1;
}

/* A comma ends an option unless a backslash is before it. */
static char *escape_option(const char *value) {
  GString *escaped = g_string_new(NULL);
  for (; *value != '\0'; value++) {
    if (*value == ',' || *value == '\\')
      g_string_append_c(escaped, '\\');
    g_string_append_c(escaped, *value);
  }
  return g_string_free(escaped, FALSE);
}

static struct fuse_session *session_new(const QfsFsConfig *config, QfsFs *fs) {
  struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
  char *fsname = escape_option(config->fsname != NULL ? config->fsname : "quorumfs");
  char *options = g_strdup_printf("default_permissions,subtype=quorumfs,fsname=%s%s%s%s", fsname,
                                  config->allow_other ? ",allow_other" : "",
                                  config->read_only ? ",ro" : "", config->debug ? ",debug" : "");
  fuse_opt_add_arg(&args, "quorumfs");
  fuse_opt_add_arg(&args, "-o");
  fuse_opt_add_arg(&args, options);
  for (guint i = 0; config->fuse_options != NULL && config->fuse_options[i] != NULL; i++) {
    fuse_opt_add_arg(&args, "-o");
    fuse_opt_add_arg(&args, config->fuse_options[i]);
  }
  struct fuse_lowlevel_ops ops = {.init = op_init};
  qfs_ops_file_init(&ops);
  qfs_ops_space_init(&ops);
  qfs_ops_name_init(&ops);
  qfs_ops_link_init(&ops);
  qfs_ops_dir_init(&ops);
  qfs_ops_attr_init(&ops);
  qfs_ops_xattr_init(&ops);
  struct fuse_session *se = fuse_session_new(&args, &ops, sizeof ops, fs);
  fuse_opt_free_args(&args);
  g_free(options);
  g_free(fsname);
  return se;
}

/* Who polls a control file. */
static void poll_wake(gpointer token, gboolean readable, gpointer user_data) {
  QfsFs *fs = user_data;
  if (readable)
    qfs_notify_poll(fs->notify, token);
  else
    fuse_pollhandle_destroy(token);
}

QfsFs *qfs_fs_mount(const QfsFsConfig *config, GError **error) {
  QfsFs *fs = g_new0(QfsFs, 1);
  fs->engine = config->engine;
  fs->threads = config->threads > 0 ? config->threads : 3;
  fs->cached_names = config->cached_names > 0 ? config->cached_names : QFS_CACHED_NAMES_DEFAULT;
  fs->uid = config->uid;
  fs->gid = config->gid;
  fs->ready = config->ready;
  fs->ready_data = config->ready_data;
  fs->mounted_ns = qfs_fs_now_ns();
  fs->next_orphan = (guint64)fs->mounted_ns;
  g_mutex_init(&fs->lock);
  g_mutex_init(&fs->calls_lock);
  g_queue_init(&fs->calls);
  qfs_inode_table_init(fs);
  qfs_atime_init(fs, config);
  fs->conditions = qfs_conditions_new(qfs_process_read);

  fs->mountpoint = realpath(config->mountpoint, NULL); /* now: later it would ask this daemon */
  if (fs->mountpoint == NULL) {
    g_set_error(error, QFS_FS_ERROR, QFS_FS_ERROR_MOUNT, "%s: %s", config->mountpoint,
                g_strerror(errno));
    qfs_fs_free(fs);
    return NULL;
  }
  fs->se = session_new(config, fs);
  if (fs->se == NULL) {
    g_set_error(error, QFS_FS_ERROR, QFS_FS_ERROR_OPTION, "a mount option was refused by libfuse");
    qfs_fs_free(fs);
    return NULL;
  }
  fs->timer = qfs_timer_new();
  fs->notify = qfs_notify_new(fs);
  fs->session = qfs_session_new(fs);
  fs->control = qfs_control_new(fs->engine, qfs_fs_key_changed, fs);
  qfs_control_on_wake(fs->control, poll_wake);
  qfs_control_on_names(fs->control, qfs_names_known);
  load_root(fs);
  remove_orphans(fs);
  if (fuse_session_mount(fs->se, fs->mountpoint) != 0) {
    g_set_error(error, QFS_FS_ERROR, QFS_FS_ERROR_MOUNT, "cannot mount on %s", fs->mountpoint);
    qfs_fs_free(fs);
    return NULL;
  }
  if (!qfs_direct_map_allow(fs->se))
    g_warning("files that are being replaced can't be mapped MAP_SHARED: %s", g_strerror(errno));
  return fs;
}

/* READs of 1 MiB instead of 128 KiB, where this user may say so: INIT can only lower what the
 * kernel starts with. Fails silently. */
static void raise_readahead(QfsFs *fs) {
  g_autofree char *text = NULL;
  if (!g_file_get_contents("/proc/self/mountinfo", &text, NULL, NULL))
    return;
  g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
  for (char **line = lines; *line != NULL; line++) {
    g_auto(GStrv) fields = g_strsplit(*line, " ", 6);
    if (g_strv_length(fields) < 6)
      continue;
    g_autofree char *path = g_strcompress(fields[4]);
    if (strcmp(path, fs->mountpoint) != 0)
      continue;
    g_autofree char *file = g_strdup_printf("/sys/class/bdi/%s/read_ahead_kb", fields[2]);
    int fd = open(file, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
      continue;
    if (write(fd, READAHEAD_KIB, strlen(READAHEAD_KIB)) < 0)
      g_debug("%s: %s", file, g_strerror(errno));
    close(fd);
  }
}

void qfs_fs_serving(QfsFs *fs) {
  raise_readahead(fs);
  if (fs->ready != NULL)
    fs->ready(fs->ready_data);
}

int qfs_fs_run(QfsFs *fs) {
  return qfs_session_run(fs->session);
}

void qfs_fs_stop(QfsFs *fs) {
  qfs_session_stop(fs->session);
}

/* --- the end --- */

/* Files still open will send no RELEASE any more. */
static void publish_debts(QfsFs *fs) {
  GPtrArray *handles = g_ptr_array_new();
  GHashTableIter iter;
  gpointer value;
  g_mutex_lock(&fs->lock);
  g_hash_table_iter_init(&iter, fs->by_ino);
  while (g_hash_table_iter_next(&iter, NULL, &value))
    for (GList *l = ((QfsInode *)value)->handles.head; l != NULL; l = l->next)
      if (!((QfsHandle *)l->data)->announced)
        g_ptr_array_add(handles, l->data);
  g_mutex_unlock(&fs->lock);
  for (guint i = 0; i < handles->len; i++)
    qfs_handle_close(fs, handles->pdata[i], FALSE);
  g_ptr_array_unref(handles);
}

static gboolean is_busy(QfsFs *fs) {
  g_mutex_lock(&fs->calls_lock);
  gboolean calls = !g_queue_is_empty(&fs->calls);
  g_mutex_unlock(&fs->calls_lock);
  return calls || g_atomic_int_get(&fs->in_flight) > 0;
}

static gboolean drain(QfsFs *fs, gint64 limit_us) {
  gint64 until = g_get_monotonic_time() + limit_us;
  while (is_busy(fs)) {
    if (g_get_monotonic_time() > until)
      return FALSE;
    g_usleep(500);
  }
  return TRUE;
}

void qfs_fs_free(QfsFs *fs) {
  if (fs == NULL)
    return;
  g_atomic_int_set(&fs->closing, 1);
  if (fs->session != NULL) {
    drain(fs, G_USEC_PER_SEC / 4);
    qfs_notify_quiesce(fs->notify);
    qfs_calls_cut_off(fs);
    fuse_session_unmount(fs->se);
    publish_debts(fs);
    qfs_fs_store_dir_times(fs);
    qfs_atime_store_all(fs);
    if (!drain(fs, DRAIN_US)) {
      g_critical("the engine did not end %d requests; leaking the mount",
                 g_atomic_int_get(&fs->in_flight));
      return;
    }
    qfs_notify_free(fs->notify);
    qfs_timer_free(fs->timer);
    drain(fs, DRAIN_US);
    qfs_control_free(fs->control);
    qfs_session_free(fs->session);
  }
  if (fs->se != NULL)
    fuse_session_destroy(fs->se);
  qfs_dir_handles_free(fs);
  while (!g_queue_is_empty(&fs->dirty_dirs))
    qfs_inode_unref_locked(fs, g_queue_pop_head(&fs->dirty_dirs));
  while (!g_queue_is_empty(&fs->read_inodes))
    qfs_inode_unref_locked(fs, g_queue_pop_head(&fs->read_inodes));
  qfs_inode_table_free(fs);
  qfs_conditions_free(fs->conditions);
  g_mutex_clear(&fs->lock);
  g_mutex_clear(&fs->calls_lock);
  free(fs->mountpoint);
  g_free(fs);
}
