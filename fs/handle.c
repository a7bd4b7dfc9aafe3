/* handle.c - see handle.h. */
#include "fs/move.h"
#include "fs/pages.h"

#include <fcntl.h>

/* --- life --- */

QfsHandle *qfs_handle_new_locked(QfsFs *fs, QfsInode *inode, QfsHandleKind kind, int flags) {
  QfsHandle *handle = g_slice_new0(QfsHandle);
  handle->inode = qfs_inode_ref_locked(inode);
  handle->refs = 1;
  handle->kind = kind;
  handle->active_us = g_get_monotonic_time();
  handle->flags = flags;
  handle->link.data = handle;
  g_queue_push_tail_link(&inode->handles, &handle->link);
  return handle;
}

QfsHandle *qfs_handle_ref_locked(QfsHandle *handle) {
  handle->refs++;
  return handle;
}

void qfs_handle_unref_locked(QfsFs *fs, QfsHandle *handle) {
  if (--handle->refs > 0)
    return;
  qfs_inode_unref_locked(fs, handle->inode);
  g_slice_free(QfsHandle, handle);
}

void qfs_handle_announce_release(QfsFs *fs, guint64 fh) {
  QfsHandle *handle = (QfsHandle *)(gsize)fh;
  g_mutex_lock(&fs->lock);
  if (handle->owes && !handle->failed && !handle->first_write) {
    handle->announced = TRUE;
    handle->inode->blocked++;
  }
  g_mutex_unlock(&fs->lock);
}

static void start_publication_unlock(QfsFs *fs, QfsInode *inode, QfsHandle *closing, QfsCall *call);

static void orphan_removed(QfsRequest *request, gpointer user_data) {
  QfsFs *fs = user_data;
  qfs_fs_log_failure(fs, "remove of unlinked file", request->key, request->status);
  qfs_fs_request_end(fs, request);
}

void qfs_handle_remove_orphan(QfsFs *fs, char *key) {
  if (key == NULL)
    return;
  qfs_fs_submit(fs, qfs_request_new(QFS_REQUEST_REMOVE, key, orphan_removed, fs));
  g_free(key);
}

/* A creation that was never published and never will be: the name that the kernel knows is wrong.
 */
static void give_up_locked(QfsFs *fs, QfsInode *inode) {
  gsize dir_len;
  const char *name;
  qfs_key_split(inode->key, &dir_len, &name);
  qfs_notify_entry(fs->notify, inode->parent->ino, name, FALSE);
  qfs_inode_settle_pending_locked(fs, inode);
  if (inode->record == NULL)
    qfs_inode_unname_locked(fs, inode, NULL);
}

char *qfs_inode_abandoned_locked(QfsFs *fs, QfsInode *inode) {
  if (!g_queue_is_empty(&inode->handles) || inode->mutations > 0)
    return NULL;
  if (inode->pending)
    give_up_locked(fs, inode);
  if (inode->named || inode->control || inode->key == NULL || *inode->key != '/')
    return NULL;
  char *orphan = inode->key; /* nobody can write to it any more */
  inode->key = NULL;
  return orphan;
}

/* The handle is gone for everybody. Lock held, released. */
static void finish_unlock(QfsFs *fs, QfsHandle *handle, GSList *pins) {
  QfsInode *inode = handle->inode;
  g_queue_unlink(&inode->handles, &handle->link);
  char *orphan = qfs_inode_abandoned_locked(fs, inode);
  qfs_inode_trim_locked(inode);
  GSList *woken = qfs_inode_wake_locked(inode);
  g_mutex_unlock(&fs->lock);

  qfs_fs_drop_pins(fs, pins);
  qfs_handle_remove_orphan(fs, orphan);
  if (handle->control != NULL)
    qfs_control_close(handle->control);
  qfs_calls_run(woken);
  g_mutex_lock(&fs->lock);
  qfs_handle_unref_locked(fs, handle);
  g_mutex_unlock(&fs->lock);
}

void qfs_handle_close(QfsFs *fs, QfsHandle *handle, gboolean aborted) {
  g_mutex_lock(&fs->lock);
  GSList *pins = qfs_handle_unpin_locked(handle, NULL);
  gboolean publish =
      handle->announced || (handle->owes && !aborted && !handle->failed && !handle->first_write);
  if (!publish) {
    finish_unlock(fs, handle, pins);
    return;
  }
  g_assert(pins == NULL); /* writers pin nothing */
  start_publication_unlock(fs, handle->inode, handle, NULL);
}

/* --- who waits for whom --- */

gboolean qfs_inode_is_contended_locked(const QfsInode *inode) {
  if (g_get_monotonic_time() < inode->contended_until_us)
    return TRUE;
  for (const GList *l = inode->handles.head; l != NULL; l = l->next) {
    const QfsHandle *handle = l->data;
    if (handle->truncates || handle->owes)
      return TRUE;
  }
  return FALSE;
}

static gboolean is_writer(const QfsCall *call) {
  return (call->fi.flags & O_ACCMODE) == O_WRONLY;
}

/* Is this handle one that the open waits for? */
static gboolean opposes(const QfsHandle *handle, gboolean writer) {
  if (handle->outlasted)
    return FALSE;
  if (writer)
    return handle->kind == QFS_HANDLE_READER && handle->cached;
  return handle->truncates || handle->owes;
}

static void outlast(QfsInode *inode, gboolean writer) {
  for (GList *l = inode->handles.head; l != NULL; l = l->next)
    if (opposes(l->data, writer))
      ((QfsHandle *)l->data)->outlasted = TRUE;
}

gboolean qfs_handle_open_waits_locked(QfsCall *call) {
  QfsInode *inode = call->inode;
  gboolean writer = is_writer(call);
  gboolean wait = FALSE, active = FALSE;
  gint64 now = g_get_monotonic_time();
  for (GList *l = inode->handles.head; l != NULL; l = l->next) {
    QfsHandle *handle = l->data;
    if (writer && handle->kind == QFS_HANDLE_READER && !handle->cached)
      inode->contended_until_us = now + QFS_CONTENDED_US; /* they go on meeting */
    if (!opposes(handle, writer))
      continue;
    wait = TRUE;
    active = active || ((writer || inode->pending) && now - handle->active_us < QFS_ACTIVE_US);
  }
  if (wait)
    inode->contended_until_us = now + QFS_CONTENDED_US;
  if (call->waited && active && now - call->queued_us < QFS_OPEN_WAIT_MAX_US) {
    call->waited = call->timed = FALSE; /* once more */
  } else if (call->waited) {
    outlast(inode, writer);
    return FALSE;
  }
  for (GList *l = inode->openers.head; l != NULL && l->data != call && !wait; l = l->next)
    wait = is_writer(l->data) != writer;
  if (!wait)
    return FALSE;
  if (!call->queued) {
    call->queued = TRUE;
    call->queued_us = now;
    g_queue_push_tail_link(&inode->openers, &call->opener_link);
  }
  return TRUE;
}

/* --- pins --- */

GSList *qfs_handle_unpin_locked(QfsHandle *handle, GSList *pins) {
  if (handle->pin != NULL)
    pins = g_slist_prepend(pins, g_steal_pointer(&handle->pin));
  handle->pinned = FALSE;
  return pins;
}

GSList *qfs_inode_unpin_all_locked(QfsInode *inode, GSList *pins) {
  for (GList *l = inode->handles.head; l != NULL; l = l->next)
    pins = qfs_handle_unpin_locked(l->data, pins);
  return pins;
}

void qfs_fs_drop_pins(QfsFs *fs, GSList *pins) {
  for (GSList *l = pins; l != NULL; l = l->next) {
    QfsRecord *record = l->data;
    qfs_engine_unpin(fs->engine, record->object);
    qfs_record_unref(record);
  }
  g_slist_free(pins);
}

/* --- publication --- */

gboolean qfs_inode_owes_locked(const QfsInode *inode) {
  for (const GList *l = inode->handles.head; l != NULL; l = l->next) {
    const QfsHandle *handle = l->data;
    gboolean own = handle->conditional && (!inode->pending || handle->if_timestamp != 0); /* H5 */
    if (handle->owes && !handle->failed && !own)
      return TRUE;
  }
  return FALSE;
}

void qfs_inode_clear_debts_locked(QfsInode *inode) {
  for (GList *l = inode->handles.head; l != NULL; l = l->next)
    ((QfsHandle *)l->data)->owes = FALSE;
}

typedef struct {
  QfsFs *fs;
  QfsInode *inode;
  QfsHandle *closing; /* its RELEASE; stays registered until the publication ended, so that others'
                       * writes can still cancel its debt */
  QfsCall *call;      /* referenced, or NULL */
  guint64 doubts;
  guint attempts;
} Publication;

static void publication_submit_unlock(Publication *pub);

/* H5: a truncation that only its own handle publishes. */
static gboolean is_conditional(const Publication *pub) {
  const QfsHandle *closing = pub->closing;
  return closing != NULL && closing->conditional && closing->owes;
}

static void publication_end_unlock(Publication *pub) {
  QfsFs *fs = pub->fs;
  QfsInode *inode = pub->inode;
  inode->blocked--;
  if (pub->closing != NULL) {
    finish_unlock(fs, pub->closing, NULL);
  } else {
    GSList *woken = qfs_inode_wake_locked(inode);
    g_mutex_unlock(&fs->lock);
    qfs_calls_run(woken);
  }
  if (pub->call != NULL)
    qfs_call_unref(pub->call);
  qfs_inode_unref(fs, inode);
  g_slice_free(Publication, pub);
}

static void publication_done(QfsRequest *request, gpointer user_data) {
  Publication *pub = user_data;
  QfsFs *fs = pub->fs;
  QfsInode *inode = pub->inode;
  QfsStatus status = request->status;
  gboolean creation = (request->flags & QFS_WRITE_CREATE) != 0;
  g_mutex_lock(&fs->lock);
  qfs_inode_mutated_locked(fs, inode, request, pub->doubts);
  if (status == QFS_STALE && !is_conditional(pub) && inode->record != NULL && qfs_inode_owes_locked(inode) &&
      inode->record->timestamp != request->if_timestamp && pub->attempts++ < 8) {
    /* Something submitted before the truncation came in between: build on that. */
    publication_submit_unlock(pub);
    qfs_fs_request_end(fs, request);
    return;
  }
  gboolean newer = status == QFS_STALE || (creation && status == QFS_EXISTS);
  if (newer && is_conditional(pub)) {
    pub->closing->owes = FALSE; /* the truncation was not to be */
  } else if (status == QFS_OK || newer) { /* newer: published by somebody else since the open */
    qfs_inode_clear_debts_locked(inode);
    qfs_inode_settle_pending_locked(fs, inode);
    if (qfs_pages_written_locked(inode))
      qfs_pages_drop_locked(fs, inode, NULL, NULL);
  } else if (pub->call != NULL) {
    pub->call->failure = status;
  }
  if (!newer && pub->call == NULL)
    qfs_fs_log_failure(fs, "publication of an emptied file", request->key, status);
  publication_end_unlock(pub);
  qfs_fs_request_end(fs, request);
}

/* All who truncated were root. */
static gboolean keeps_setid_locked(const QfsInode *inode) {
  for (const GList *l = inode->handles.head; l != NULL; l = l->next) {
    const QfsHandle *handle = l->data;
    if (handle->owes && !handle->keeps_setid)
      return FALSE;
  }
  return TRUE;
}

static void publication_submit_unlock(Publication *pub) {
  QfsFs *fs = pub->fs;
  QfsInode *inode = pub->inode;
  gboolean own = is_conditional(pub);
  if (inode->key == NULL || (!own && !qfs_inode_owes_locked(inode))) { /* renamed over, or cancelled */
    qfs_inode_clear_debts_locked(inode);
    publication_end_unlock(pub);
    return;
  }
  QfsRequest *request = qfs_request_new(QFS_REQUEST_WRITE, inode->key, publication_done, pub);
  request->data = g_bytes_new_static("", 0);
  request->flags = QFS_WRITE_REPLACE;
  if (keeps_setid_locked(inode))
    request->flags |= QFS_WRITE_KEEP_SETID;
  if (own) {
    request->flags |= QFS_WRITE_IF_TIMESTAMP;
    request->if_timestamp = pub->closing->if_timestamp;
  }
  if (inode->pending) {
    request->flags |= QFS_WRITE_CREATE | QFS_WRITE_EXCLUSIVE;
    request->attr = inode->attr;
    request->xattrs = inode->xattrs != NULL ? g_bytes_ref(inode->xattrs) : NULL;
  } else if (own) {
    request->flags |= QFS_WRITE_REPLACE;
  } else if (inode->record != NULL) {
    request->flags |= QFS_WRITE_IF_TIMESTAMP;
    request->if_timestamp = inode->record->timestamp;
  }
  pub->doubts = fs->doubts;
  inode->mutations++;
  qfs_move_note_locked(fs, request);
  g_mutex_unlock(&fs->lock);
  qfs_fs_submit(fs, request);
}

/* Publishes what is owed: on behalf of a RELEASE, or of a call that needs it done first. */
static void start_publication_unlock(QfsFs *fs, QfsInode *inode, QfsHandle *closing,
                                     QfsCall *call) {
  Publication *pub = g_slice_new0(Publication);
  pub->fs = fs;
  pub->inode = qfs_inode_ref_locked(inode);
  pub->closing = closing;
  if (closing != NULL && !closing->announced)
    inode->blocked++;
  if (call != NULL) {
    inode->blocked++;
    pub->call = qfs_call_ref(call);
    qfs_call_park_locked(call, inode, 0);
  }
  publication_submit_unlock(pub);
}

gboolean qfs_call_settle_first_unlock(QfsCall *call, QfsInode *inode, gboolean publish) {
  if (inode == NULL)
    return FALSE;
  if (call->failure != QFS_OK) {
    g_mutex_unlock(&call->fs->lock);
    qfs_call_reply_status(call, "publication before the change", call->failure);
    return TRUE;
  }
  if (inode->blocked > 0) {
    qfs_call_park_locked(call, inode, 0);
    g_mutex_unlock(&call->fs->lock);
    return TRUE;
  }
  if (publish && qfs_inode_owes_locked(inode)) {
    start_publication_unlock(call->fs, inode, NULL, call);
    return TRUE;
  }
  return FALSE;
}
