/* call.c - see call.h. */
#include "fs/handle.h"
#include "fs/move.h"
#include "fs/notify.h"

#include <signal.h>
#include <string.h>

/* --- interruption --- */

/* Bit set of a line of /proc/N/status, such as "SigPnd". */
static guint64 signal_mask(const char *status, const char *name) {
  const char *line = strstr(status, name);
  return line != NULL ? g_ascii_strtoull(line + strlen(name), NULL, 16) : 0;
}

static guint64 signal_set(const int *signals, guint n) {
  guint64 set = 0;
  for (guint i = 0; i < n; i++)
    set |= G_GUINT64_CONSTANT(1) << (signals[i] - 1);
  return set;
}

/* Is the caller to end, or asked to, by a signal that waits for it? One that stops it or lets it go on, that it ignores, or
 * that it handles as a program handles timers, children or windows is no reason: no other filesystem's write(2) returns
 * EINTR for it, and a call made again would be done twice. */
static gboolean is_to_end(const QfsCall *call) {
  static const int asking[] = {SIGINT, SIGTERM, SIGQUIT, SIGHUP};
  static const int harmless[] = {SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU, SIGCONT, SIGCHLD, SIGURG, SIGWINCH};
  g_autofree char *path = g_strdup_printf("/proc/%d/status", (int)call->thread);
  g_autofree char *status = NULL;
  if (call->thread == 0 || !g_file_get_contents(path, &status, NULL, NULL))
    return TRUE;
  const guint64 pending = signal_mask(status, "\nSigPnd:") | signal_mask(status, "\nShdPnd:");
  const guint64 quiet = signal_mask(status, "\nSigBlk:") | signal_mask(status, "\nSigIgn:") |
                        signal_set(harmless, G_N_ELEMENTS(harmless));
  const guint64 handled = signal_mask(status, "\nSigCgt:") & ~signal_set(asking, G_N_ELEMENTS(asking));
  return (pending & ~quiet & ~handled) != 0;
}

static void interrupt_soon(QfsCall *call);

/* The grace is over: the caller gets EINTR; what is under way goes on without it. */
static void interrupt_due(gpointer data) {
  QfsCall *call = data;
  QfsFs *fs = call->fs;
  if (g_atomic_int_get(&call->answered) == 0 && !is_to_end(call)) {
    interrupt_soon(call); /* the kernel tells only once */
    return;
  }
  g_mutex_lock(&fs->lock);
  gboolean parked = call->parked_on != NULL;
  if (parked) {
    g_queue_unlink(&call->parked_on->parked, &call->park_link);
    call->parked_on = NULL;
  }
  g_mutex_unlock(&fs->lock);
  if (qfs_call_claim(call))
    fuse_reply_err(call->req, EINTR);
  if (parked)
    qfs_call_end(call);
  qfs_call_unref(call);
}

/* The timer has a reference. */
static void interrupt_soon(QfsCall *call) {
  qfs_timer_add(call->fs->timer, g_get_monotonic_time() + QFS_INTERRUPT_GRACE_US, interrupt_due, call);
}

/* Called by libfuse with the request's lock held: nothing but a timer here. */
static void on_interrupt(fuse_req_t req, void *data) {
  interrupt_soon(qfs_call_ref(data));
}

/* --- life --- */

QfsCall *qfs_call_new(fuse_req_t req, QfsCallRun run) {
  QfsFs *fs = fuse_req_userdata(req);
  const struct fuse_ctx *ctx = fuse_req_ctx(req);
  QfsCall *call = g_slice_new0(QfsCall);
  call->fs = fs;
  call->req = req;
  call->run = run;
  call->uid = ctx->uid;
  call->gid = ctx->gid;
  call->thread = ctx->pid;
  call->umask = ctx->umask;
  call->link.data = call;
  call->park_link.data = call;
  call->opener_link.data = call;
  g_atomic_ref_count_init(&call->refs);
  g_mutex_lock(&fs->calls_lock);
  g_queue_push_tail_link(&fs->calls, &call->link);
  g_mutex_unlock(&fs->calls_lock);
  fuse_req_interrupt_func(req, on_interrupt, call);
  return call;
}

void qfs_call_run(QfsCall *call) {
  call->run(call);
}

void qfs_calls_run(GSList *calls) {
  for (GSList *l = calls; l != NULL; l = l->next)
    qfs_call_run(l->data);
  g_slist_free(calls);
}

QfsCall *qfs_call_ref(QfsCall *call) {
  g_atomic_ref_count_inc(&call->refs);
  return call;
}

void qfs_call_unref(QfsCall *call) {
  if (!g_atomic_ref_count_dec(&call->refs))
    return;
  g_free(call->name);
  g_free(call->name2);
  g_free(call->text);
  g_clear_pointer(&call->data, g_bytes_unref);
  g_clear_pointer(&call->xattrs, g_bytes_unref);
  g_slice_free(QfsCall, call);
}

gboolean qfs_call_claim(QfsCall *call) {
  if (!g_atomic_int_compare_and_exchange(&call->answered, 0, 1))
    return FALSE;
  /* Waits for an on_interrupt that is running: afterwards nobody else has the request. */
  fuse_req_interrupt_func(call->req, NULL, NULL);
  return TRUE;
}

void qfs_call_end(QfsCall *call) {
  QfsFs *fs = call->fs;
  g_mutex_lock(&fs->calls_lock);
  g_queue_unlink(&fs->calls, &call->link);
  g_mutex_unlock(&fs->calls_lock);
  if (call->pin != NULL)
    qfs_fs_drop_pins(fs, g_slist_prepend(NULL, g_steal_pointer(&call->pin)));
  qfs_dir_handle_unref(fs, call->dir_handle);
  if (call->inode != NULL || call->dir != NULL) {
    g_mutex_lock(&fs->lock);
    GSList *woken = qfs_call_let_go_locked(call);
    if (call->queued) {
      g_queue_unlink(&call->inode->openers, &call->opener_link);
      woken = g_slist_concat(woken, qfs_inode_wake_locked(call->inode));
    }
    if (call->handle != NULL)
      qfs_handle_unref_locked(fs, call->handle);
    qfs_inode_unref_locked(fs, call->inode);
    qfs_inode_unref_locked(fs, call->target);
    qfs_inode_unref_locked(fs, call->dir);
    qfs_inode_unref_locked(fs, call->dir2);
    g_mutex_unlock(&fs->lock);
    qfs_calls_run(woken);
  }
  qfs_call_unref(call);
}

void qfs_call_end_late(QfsCall *call) {
  QfsNotify *notify = call->fs->notify;
  if (call->mutates) {
    if (call->dir != NULL && call->name != NULL)
      qfs_notify_entry(notify, call->dir->ino, call->name, FALSE);
    if (call->dir2 != NULL && call->name2 != NULL)
      qfs_notify_entry(notify, call->dir2->ino, call->name2, FALSE);
    if (call->inode != NULL)
      qfs_notify_pages(notify, call->inode->ino, NULL, NULL);
  }
  qfs_call_end(call);
}

void qfs_call_reply_errno(QfsCall *call, int error) {
  if (!qfs_call_claim(call)) {
    qfs_call_end_late(call);
    return;
  }
  fuse_reply_err(call->req, error);
  qfs_call_end(call);
}

void qfs_call_reply_status(QfsCall *call, const char *what, QfsStatus status) {
  if (status != QFS_OK) {
    char *key = NULL;
    g_mutex_lock(&call->fs->lock);
    if (call->inode != NULL)
      key = g_strdup(call->inode->key);
    else if (call->dir != NULL && call->dir->key != NULL && call->name != NULL)
      key = qfs_key_join(call->dir->key, call->name);
    g_mutex_unlock(&call->fs->lock);
    qfs_fs_log_failure(call->fs, what, key, status);
    g_free(key);
  }
  if (call->mutates && (status == QFS_UNKNOWN || status == QFS_IO)) {
    /* It may be applied after all: the kernel must not remember the failure as the state. */
    if (qfs_call_claim(call))
      fuse_reply_err(call->req, qfs_status_to_errno(status));
    qfs_call_end_late(call);
    return;
  }
  qfs_call_reply_errno(call, qfs_status_to_errno(status));
}

/* --- conditions --- */

gboolean qfs_call_take_condition(QfsCall *call, const char *given, gboolean open) {
  QfsFs *fs = call->fs;
  if (!qfs_conditions_any(fs->conditions))
    return TRUE;
  g_autofree char *key = g_strdup(given);
  if (call->inode != NULL && key == NULL) {
    g_mutex_lock(&fs->lock);
    key = g_strdup(call->inode->key);
    g_mutex_unlock(&fs->lock);
  }
  guint64 file = call->inode != NULL ? call->inode->ino : 0;
  QfsConditionMatch match =
      qfs_conditions_look(fs->conditions, file, key, call->thread, &call->if_timestamp, &call->condition);
  if (!open && match == QFS_CONDITION_FOUND)
    qfs_conditions_used(fs->conditions, call->condition);
  call->conditional = match == QFS_CONDITION_FOUND;
  if (match == QFS_CONDITION_UNCLEAR)
    qfs_call_reply_errno(call, ESTALE);
  return match != QFS_CONDITION_UNCLEAR;
}

/* --- the engine --- */

static void on_done(QfsRequest *request, gpointer user_data) {
  QfsCall *call = user_data;
  QfsFs *fs = call->fs;
  if (!qfs_move_outran(call, request))
    call->done(call, request);
  qfs_fs_request_end(fs, request);
}

static void submit(QfsCall *call, QfsRequest *request, QfsCallDone done) {
  call->done = done;
  request->done = on_done;
  request->user_data = call;
  qfs_fs_submit(call->fs, request);
}

void qfs_call_submit(QfsCall *call, QfsRequest *request, QfsCallDone done) {
  g_mutex_lock(&call->fs->lock);
  call->doubts = call->fs->doubts;
  call->moves_done = call->fs->moves_done;
  g_mutex_unlock(&call->fs->lock);
  submit(call, request, done);
}

void qfs_call_submit_mutation_unlock(QfsCall *call, QfsInode *inode, QfsRequest *request,
                                     QfsCallDone done) {
  call->mutates = TRUE;
  call->doubts = call->fs->doubts;
  if (inode != NULL)
    inode->mutations++;
  qfs_move_note_locked(call->fs, request);
  g_mutex_unlock(&call->fs->lock);
  submit(call, request, done);
}

/* --- parking --- */

static void limit_due(gpointer data) {
  QfsCall *call = data;
  QfsFs *fs = call->fs;
  g_mutex_lock(&fs->lock);
  call->waited = TRUE;
  gboolean parked = call->parked_on != NULL;
  if (parked) {
    g_queue_unlink(&call->parked_on->parked, &call->park_link);
    call->parked_on = NULL;
  }
  g_mutex_unlock(&fs->lock);
  if (parked)
    qfs_call_run(call);
  qfs_call_unref(call);
}

void qfs_call_park_locked(QfsCall *call, QfsInode *inode, gint64 limit_us) {
  g_assert(call->parked_on == NULL);
  call->parked_on = inode;
  g_queue_push_tail_link(&inode->parked, &call->park_link);
  if (limit_us > 0 && !call->timed) {
    call->timed = TRUE;
    qfs_call_ref(call);
    qfs_timer_add(call->fs->timer, g_get_monotonic_time() + limit_us, limit_due, call);
  }
}

gboolean qfs_call_hold_unlock(QfsCall *call, QfsInode *inode, QfsInode *target) {
  if (!call->holding) {
    if (call->inode == NULL)
      call->inode = qfs_inode_ref_locked(inode);
    if (target != NULL)
      call->target = qfs_inode_ref_locked(target);
    inode->blocked++;
    if (target != NULL)
      target->blocked++;
    call->holding = TRUE;
  }
  g_assert(call->inode == inode && call->target == target);
  QfsInode *busy = inode->mutations > 0 ? inode : target != NULL && target->mutations > 0 ? target : NULL;
  if (busy != NULL) {
    qfs_call_park_locked(call, busy, 0);
    g_mutex_unlock(&call->fs->lock);
    return TRUE;
  }
  call->holding = FALSE;
  return FALSE;
}

GSList *qfs_call_let_go_locked(QfsCall *call) {
  if (!call->holding)
    return NULL;
  call->holding = FALSE;
  call->inode->blocked--;
  GSList *woken = qfs_inode_wake_locked(call->inode);
  if (call->target != NULL) {
    call->target->blocked--;
    woken = g_slist_concat(woken, qfs_inode_wake_locked(call->target));
  }
  return woken;
}

void qfs_calls_cut_off(QfsFs *fs) {
  GPtrArray *alive = g_ptr_array_new();
  g_mutex_lock(&fs->calls_lock);
  for (GList *l = fs->calls.head; l != NULL; l = l->next) {
    QfsCall *call = l->data;
    qfs_call_ref(call);
    g_ptr_array_add(alive, call);
  }
  g_mutex_unlock(&fs->calls_lock);
  for (guint i = 0; i < alive->len; i++) {
    QfsCall *call = alive->pdata[i];
    if (qfs_call_claim(call))
      fuse_reply_err(call->req, ENOTCONN);
    g_mutex_lock(&fs->lock);
    gboolean parked = call->parked_on != NULL;
    if (parked) {
      g_queue_unlink(&call->parked_on->parked, &call->park_link);
      call->parked_on = NULL;
    }
    g_mutex_unlock(&fs->lock);
    if (parked)
      qfs_call_end(call);
    qfs_call_unref(call);
  }
  g_ptr_array_unref(alive);
}
