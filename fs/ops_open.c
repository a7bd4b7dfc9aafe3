/* ops_open.c - create, open, release: how a file's handle comes to be and what it owes (handle.h).
 */
#include "fs/atime.h"
#include "fs/names.h"
#include "fs/ops_control.h"
#include "fs/pages.h"

#include <fcntl.h>
#include <string.h>

/* --- answers --- */

void qfs_reply_open(QfsCall *call, QfsHandle *handle) {
  QfsFs *fs = call->fs;
  call->fi.fh = (guint64)(gsize)handle;
  if (!qfs_call_claim(call)) {
    qfs_handle_close(fs, handle, TRUE);
    qfs_call_end_late(call);
    return;
  }
  /* Once the kernel has it, its RELEASE may free it: not touched after a success. */
  if (fuse_reply_open(call->req, &call->fi) != 0)
    qfs_handle_close(fs, handle, TRUE);
  qfs_call_end(call);
}

static void reply_create(QfsCall *call, QfsHandle *handle, const struct fuse_entry_param *entry) {
  QfsFs *fs = call->fs;
  call->fi.fh = (guint64)(gsize)handle;
  gboolean claimed = qfs_call_claim(call);
  if (!claimed || fuse_reply_create(call->req, entry, &call->fi) != 0) {
    qfs_handle_close(fs, handle, TRUE);
    qfs_inode_forget(fs, entry->ino, 1);
  }
  if (claimed)
    qfs_call_end(call);
  else
    qfs_call_end_late(call);
}

/* OPEN and CREATE of an existing file end alike. Lock held, released. */
static void answer_unlock(QfsCall *call, QfsHandle *handle) {
  QfsFs *fs = call->fs;
  struct fuse_entry_param entry;
  gboolean create = call->dir != NULL;
  gboolean ok = !create || qfs_inode_entry_locked(fs, call->inode, &entry);
  g_mutex_unlock(&fs->lock);
  if (!ok) {
    qfs_handle_close(fs, handle, TRUE);
    qfs_call_reply_errno(call, ESTALE);
  } else if (create) {
    reply_create(call, handle, &entry);
  } else {
    qfs_reply_open(call, handle);
  }
}

/* The handle's first write is the one that is meant. */
static void hand_condition_over(QfsCall *call, QfsHandle *handle) {
  handle->conditional = call->conditional;
  handle->if_timestamp = call->if_timestamp;
  qfs_conditions_used(call->fs->conditions, call->condition);
}

/* The stored timestamp is another one; answers the open so. */
static void refuse_stale(QfsCall *call) {
  qfs_conditions_refused(call->fs->conditions, call->condition);
  qfs_call_reply_errno(call, ESTALE);
}

/* --- open --- */

static void run_open(QfsCall *call);

static void open_record_done(QfsCall *call, QfsRequest *request) {
  QfsFs *fs = call->fs;
  QfsInode *inode = call->inode;
  if (request->status == QFS_OK) {
    g_mutex_lock(&fs->lock);
    qfs_inode_learn_locked(fs, inode, request->record, QFS_KNOWN_ALL, call->doubts);
    qfs_inode_trust_locked(inode, call->stand);
    g_mutex_unlock(&fs->lock);
    run_open(call);
    return;
  }
  if (request->status != QFS_NOT_FOUND) {
    qfs_call_reply_status(call, "open", request->status);
    return;
  }
  g_mutex_lock(&fs->lock);
  gboolean moved =
      inode->blocked > 0 || inode->key == NULL || strcmp(inode->key, request->key) != 0;
  g_mutex_unlock(&fs->lock);
  if (moved && call->attempts++ < 8) {
    call->got = FALSE;
    run_open(call);
  } else {
    qfs_call_reply_errno(call, ESTALE); /* the kernel looks the name up again */
  }
}

/* The version that a reader beside a replacing writer will see is pinned, without the lock; then
 * everything is looked at again. Lock held; TRUE: released and run again. */
static gboolean pin_first_unlock(QfsCall *call) {
  QfsFs *fs = call->fs;
  QfsRecord *record = call->inode->record;
  if (call->pin == record)
    return FALSE;
  QfsRecord *old = call->pin;
  call->pin = record != NULL ? qfs_record_ref(record) : NULL;
  g_mutex_unlock(&fs->lock);
  if (call->pin != NULL)
    qfs_engine_pin(fs->engine, call->pin->object);
  if (old != NULL)
    qfs_fs_drop_pins(fs, g_slist_prepend(NULL, old));
  run_open(call);
  return TRUE;
}

/* The engine's answer makes the record current; asked once, and again if it became doubtful. */
static gboolean get_first_unlock(QfsCall *call) {
  QfsInode *inode = call->inode;
  if (inode->pending || inode->key == NULL || (call->got && inode->known == QFS_KNOWN_ALL))
    return FALSE;
  if (call->got && call->attempts++ >= 8)
    return FALSE;
  call->got = TRUE;
  call->stand = qfs_engine_stand(call->fs->engine);
  QfsRequest *request = qfs_request_new(QFS_REQUEST_GET, inode->key, NULL, NULL);
  g_mutex_unlock(&call->fs->lock);
  qfs_call_submit(call, request, open_record_done);
  return TRUE;
}

static void truncated(QfsCall *call, QfsRequest *request) {
  QfsFs *fs = call->fs;
  QfsInode *inode = call->inode;
  g_mutex_lock(&fs->lock);
  qfs_inode_mutated_locked(fs, inode, request, call->doubts);
  GSList *pins = qfs_inode_unpin_all_locked(inode, NULL);
  GSList *woken = qfs_inode_wake_locked(inode);
  g_mutex_unlock(&fs->lock);
  qfs_fs_drop_pins(fs, pins);
  qfs_calls_run(woken);
  if (request->status == QFS_STALE && call->conditional) {
    refuse_stale(call);
    return;
  }
  if (request->status != QFS_OK) {
    qfs_call_reply_status(call, "truncation", request->status);
    return;
  }
  qfs_conditions_used(fs->conditions, call->condition);
  call->fi.flags &= ~O_TRUNC; /* done */
  run_open(call);
}

/* A handle that reads through the cache (O_RDWR) truncates at once. */
static gboolean truncate_first_unlock(QfsCall *call) {
  QfsInode *inode = call->inode;
  if ((call->fi.flags & O_TRUNC) == 0 || inode->key == NULL)
    return FALSE;
  QfsRequest *request = qfs_request_new(QFS_REQUEST_WRITE, inode->key, NULL, NULL);
  request->data = g_bytes_new_static("", 0);
  request->flags = QFS_WRITE_REPLACE;
  if (call->uid == 0)
    request->flags |= QFS_WRITE_KEEP_SETID;
  if (call->conditional) { /* this is the write that was meant */
    request->flags |= QFS_WRITE_IF_TIMESTAMP;
    request->if_timestamp = call->if_timestamp;
  }
  qfs_call_submit_mutation_unlock(call, inode, request, truncated);
  return TRUE;
}

static void park_open_unlock(QfsCall *call) {
  qfs_call_park_locked(call, call->inode, QFS_OPEN_WAIT_US);
  g_mutex_unlock(&call->fs->lock);
}

static void open_reader_unlock(QfsCall *call) {
  QfsInode *inode = call->inode;
  if (qfs_handle_open_waits_locked(call)) {
    park_open_unlock(call);
    return;
  }
  gboolean beside = qfs_inode_is_contended_locked(inode);
  /* Who gets a version pinned needs its bytes. */
  if ((beside || !qfs_inode_is_trusted_locked(call->fs, inode)) && get_first_unlock(call))
    return;
  if (beside && pin_first_unlock(call))
    return;
  QfsHandle *handle = qfs_handle_new_locked(call->fs, inode, QFS_HANDLE_READER, call->fi.flags);
  handle->cached = !beside;
  call->fi.noflush = 1;
  if (beside) {
    handle->pinned = TRUE;
    handle->pin = g_steal_pointer(&call->pin);
    handle->pin_until_us = handle->active_us + QFS_PIN_US;
    call->fi.direct_io = 1;
    call->fi.keep_cache = 1;
  } else {
    call->fi.keep_cache = qfs_pages_open_locked(handle);
  }
  /* A READ makes the kernel ask for attributes again by itself. Nobody tells it to: that would void an answer about
   * the size that is on its way, and a reader that needs it, for another one is truncating, would find nothing. */
  qfs_atime_note_locked(call->fs, inode, call->fi.flags);
  answer_unlock(call, handle);
}

static void open_writer_unlock(QfsCall *call) {
  QfsInode *inode = call->inode;
  gboolean truncates = (call->fi.flags & O_TRUNC) != 0;
  if (truncates && qfs_handle_open_waits_locked(call)) {
    park_open_unlock(call);
    return;
  }
  if (truncates && inode->known == QFS_KNOWN_NOTHING && get_first_unlock(call))
    return;
  QfsHandle *handle = qfs_handle_new_locked(call->fs, inode, QFS_HANDLE_WRITER, call->fi.flags);
  handle->truncates = handle->replacing = handle->owes = truncates;
  handle->keeps_setid = call->uid == 0;
  if (truncates && inode->pending)
    inode->attr.mtime_ns = inode->attr.ctime_ns = qfs_fs_now_ns();
  hand_condition_over(call, handle);
  if (truncates)
    qfs_pages_truncating_open_locked(handle);
  call->fi.direct_io = 1;
  call->fi.keep_cache = 1;
  call->fi.noflush = 1;
  answer_unlock(call, handle);
}

static void open_both_unlock(QfsCall *call) {
  if (truncate_first_unlock(call) || get_first_unlock(call))
    return;
  QfsHandle *handle = qfs_handle_new_locked(
      call->fs, call->inode,
      (call->fi.flags & O_ACCMODE) == O_RDONLY ? QFS_HANDLE_READER : QFS_HANDLE_BOTH,
      call->fi.flags);
  handle->cached = TRUE;
  call->fi.keep_cache = qfs_pages_open_locked(handle);
  answer_unlock(call, handle);
}

static void run_open(QfsCall *call) {
  QfsFs *fs = call->fs;
  QfsInode *inode = call->inode;
  int access = call->fi.flags & O_ACCMODE;
  gboolean truncates = (call->fi.flags & O_TRUNC) != 0;
  if ((access != O_RDONLY || truncates) && !qfs_fs_may_write(fs)) {
    qfs_call_reply_status(call, "open for writing", QFS_NO_QUORUM);
    return;
  }
  g_mutex_lock(&fs->lock);
  if (qfs_call_settle_first_unlock(call, inode, access == O_RDWR))
    return;
  if (inode->key == NULL && (access != O_RDONLY || inode->record == NULL)) {
    g_mutex_unlock(&fs->lock);
    qfs_call_reply_errno(call, ESTALE);
  } else if (access == O_WRONLY) {
    open_writer_unlock(call);
  } else if (access == O_RDONLY && !truncates) {
    open_reader_unlock(call);
  } else {
    open_both_unlock(call);
  }
}

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi) {
  QfsCall *call = qfs_call_new(req, run_open);
  call->inode = qfs_inode_get(call->fs, ino);
  call->fi = *fi;
  if (call->inode == NULL)
    qfs_call_reply_errno(call, ESTALE);
  else if (call->inode->control)
    qfs_control_open_call(call);
  else if ((fi->flags & O_TRUNC) == 0 || qfs_call_take_condition(call, NULL, TRUE))
    run_open(call);
}

/* --- create --- */

static void run_create(QfsCall *call);

/* A new file by a write-only handle without O_EXCL: it is published with its first write, so that
 * nobody reads it empty. Lock held, released. */
static void create_pending_unlock(QfsCall *call, const char *key) {
  QfsFs *fs = call->fs;
  QfsInode *inode = qfs_inode_new_pending_locked(fs, call->dir, key, &call->attr);
  inode->xattrs = g_steal_pointer(&call->xattrs);
  QfsHandle *handle = qfs_handle_new_locked(fs, inode, QFS_HANDLE_WRITER, call->fi.flags);
  handle->owes = TRUE;
  handle->truncates = handle->replacing = (call->fi.flags & O_TRUNC) != 0;
  hand_condition_over(call, handle);
  call->inode = inode; /* the call has the first reference */
  call->fi.direct_io = 1;
  call->fi.keep_cache = 1;
  call->fi.noflush = 1;
  /* Now, not when it is published: after this answer the kernel asks for the directory's times
   * again. */
  qfs_inode_touch_dir_locked(fs, call->dir, call->attr.btime_ns);
  answer_unlock(call, handle);
}

static void create_done(QfsCall *call, QfsRequest *request) {
  QfsFs *fs = call->fs;
  if (request->status == QFS_EXISTS && (call->fi.flags & O_EXCL) == 0 && call->attempts++ < 8) {
    call->got = TRUE; /* somebody was faster: open that */
    run_create(call);
    return;
  }
  if (request->status != QFS_OK) {
    qfs_call_reply_status(call, "create", request->status);
    return;
  }
  g_mutex_lock(&fs->lock);
  qfs_inode_touch_dir_locked(fs, call->dir, request->now_ns);
  call->inode = qfs_inode_of_record_locked(fs, request->record, QFS_KNOWN_ALL, call->doubts, TRUE);
  int access = call->fi.flags & O_ACCMODE;
  QfsHandleKind kind = access == O_RDONLY   ? QFS_HANDLE_READER
                       : access == O_WRONLY ? QFS_HANDLE_WRITER
                                            : QFS_HANDLE_BOTH;
  QfsHandle *handle = qfs_handle_new_locked(fs, call->inode, kind, call->fi.flags);
  handle->cached = kind != QFS_HANDLE_WRITER;
  call->fi.direct_io = kind == QFS_HANDLE_WRITER;
  call->fi.keep_cache = kind == QFS_HANDLE_WRITER || qfs_pages_open_locked(handle);
  call->fi.noflush = kind != QFS_HANDLE_BOTH;
  answer_unlock(call, handle);
}

static void create_found(QfsCall *call, QfsRequest *request) {
  QfsFs *fs = call->fs;
  if (request->status == QFS_NOT_FOUND && call->attempts++ < 8) {
    call->got = FALSE; /* gone again */
    run_create(call);
    return;
  }
  if (request->status != QFS_OK) {
    qfs_call_reply_status(call, "create", request->status);
    return;
  }
  g_mutex_lock(&fs->lock);
  if (qfs_names_outran_locked(fs, request->key, request->record) && call->attempts++ < 8) {
    g_mutex_unlock(&fs->lock);
    run_create(call);
    return;
  }
  call->inode = qfs_names_inode_locked(fs, request->key, request->record, call->doubts, TRUE);
  gboolean file = S_ISREG(call->inode->mode);
  g_mutex_unlock(&fs->lock);
  call->run = run_open;
  if (file)
    run_open(call);
  else
    qfs_call_reply_errno(call, qfs_inode_is_dir(call->inode) ? EISDIR : ESTALE);
}

/* The key is absent, and a version of it is asked for. (A write-only handle's first write tells.) */
static gboolean creation_is_stale(const QfsCall *call) {
  return call->conditional && call->if_timestamp != 0;
}

static void create_in_engine(QfsCall *call, char *key) {
  if (!call->got && creation_is_stale(call)) {
    g_free(key);
    refuse_stale(call);
    return;
  }
  QfsRequest *request =
      qfs_request_new(call->got ? QFS_REQUEST_GET : QFS_REQUEST_CREATE, NULL, NULL, NULL);
  request->key = key;
  if (call->got) {
    qfs_call_submit(call, request, create_found);
    return;
  }
  request->kind = QFS_KIND_VALUE;
  request->attr = call->attr;
  request->xattrs = call->xattrs != NULL ? g_bytes_ref(call->xattrs) : NULL;
  g_mutex_lock(&call->fs->lock);
  qfs_call_submit_mutation_unlock(call, NULL, request, create_done);
}

static void run_create(QfsCall *call) {
  QfsFs *fs = call->fs;
  if (!qfs_fs_may_write(fs)) {
    qfs_call_reply_status(call, "create", QFS_NO_QUORUM);
    return;
  }
  char *key = NULL;
  g_mutex_lock(&fs->lock);
  int error = qfs_inode_child_key_locked(call->dir, call->name, &key);
  QfsInode *inode = error == 0 ? qfs_inode_by_key_locked(fs, key) : NULL;
  if (inode != NULL && inode->blocked > 0) {
    qfs_call_park_locked(call, inode, 0);
    g_mutex_unlock(&fs->lock);
    g_free(key);
    return;
  }
  if (error == 0 && inode != NULL && inode->pending) {
    gboolean exclusive = (call->fi.flags & O_EXCL) != 0;
    if (!exclusive)
      call->inode = qfs_inode_ref_locked(inode);
    g_mutex_unlock(&fs->lock);
    g_free(key);
    call->run = run_open;
    if (exclusive)
      qfs_call_reply_errno(call, EEXIST);
    else
      run_open(call);
    return;
  }
  if (error != 0) {
    g_mutex_unlock(&fs->lock);
    qfs_call_reply_errno(call, error);
    return;
  }
  if (call->attr.btime_ns == 0) {
    mode_t mode = call->attr.mode;
    call->xattrs = qfs_inode_child_xattrs_locked(call->dir, call->umask, &mode);
    qfs_inode_child_attr_locked(fs, call->dir, mode, call->uid, call->gid, &call->attr);
  }
  if (inode == NULL && !call->got && (call->fi.flags & (O_ACCMODE | O_EXCL)) == O_WRONLY) {
    create_pending_unlock(call, key);
    g_free(key);
    return;
  }
  g_mutex_unlock(&fs->lock);
  if (inode != NULL && (call->fi.flags & O_EXCL) == 0)
    call->got = TRUE; /* known to exist */
  create_in_engine(call, key);
}

static void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
                      struct fuse_file_info *fi) {
  QfsCall *call = qfs_call_new(req, run_create);
  call->dir = qfs_inode_get(call->fs, parent);
  call->name = g_strdup(name);
  call->fi = *fi;
  call->attr.mode = S_IFREG | (mode & 07777);
  if (call->dir == NULL) {
    qfs_call_reply_errno(call, ESTALE);
    return;
  }
  g_autofree char *key = NULL;
  if (qfs_conditions_any(call->fs->conditions) && (fi->flags & O_ACCMODE) != O_RDONLY) {
    g_mutex_lock(&call->fs->lock);
    qfs_inode_child_key_locked(call->dir, name, &key); /* if it fails, so will the creation */
    g_mutex_unlock(&call->fs->lock);
  }
  if (key == NULL || qfs_call_take_condition(call, key, TRUE))
    run_create(call);
}

/* --- release --- */

static void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi) {
  qfs_handle_close(fuse_req_userdata(req), qfs_handle_of(fi), FALSE);
  fuse_reply_err(req, 0);
}

void qfs_ops_open_init(struct fuse_lowlevel_ops *ops) {
  ops->create = op_create;
  ops->open = op_open;
  ops->release = op_release;
}
