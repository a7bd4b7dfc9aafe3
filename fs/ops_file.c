/* ops_file.c - read, write, fsync. There is no FLUSH handler: everything is published in WRITE, and
 * the ENOSYS that libfuse answers makes the kernel stop sending it. */
#include "fs/atime.h"
#include "fs/ops_control.h"
#include "fs/pages.h"
#include "fs/xattr_stored.h"

#include <fcntl.h>
#include <string.h>

#define ATTEMPTS_MAX 16

/* --- read --- */

static void run_read(QfsCall *call);

static void reply_data(QfsCall *call, gconstpointer bytes, gsize len) {
  if (!qfs_call_claim(call)) {
    qfs_call_end_late(call);
    return;
  }
  fuse_reply_buf(call->req, bytes, len);
  qfs_call_end(call);
}

/* Bytes that a record answers without the engine: the tail, zeros behind it, or none beyond the
 * end. FALSE: some of them are in chunks. *out_len may be shorter than asked; it is at the end
 * only. */
static gboolean read_inline(const QfsRecord *record, guint64 offset, gsize size,
                            GBytes **out_data) {
  guint64 end = record != NULL ? record->attr.size : 0;
  if (offset >= end || size == 0) {
    *out_data = NULL;
    return TRUE;
  }
  if (offset < record->tail_offset)
    return FALSE;
  gsize want = MIN(size, end - offset);
  guint64 have = g_bytes_get_size(record->tail);
  guint64 from = offset - record->tail_offset;
  if (from + want <= have) {
    *out_data = g_bytes_new_from_bytes(record->tail, from, want);
    return TRUE;
  }
  guint8 *bytes = g_malloc0(want);
  if (from < have)
    memcpy(bytes, (const guint8 *)g_bytes_get_data(record->tail, NULL) + from, have - from);
  *out_data = g_bytes_new_take(bytes, want);
  return TRUE;
}

/* Opens for reading are noted at once; an O_RDWR handle may never read. */
static void note_reading_locked(QfsFs *fs, QfsHandle *handle) {
  if (handle->kind == QFS_HANDLE_BOTH)
    qfs_atime_note_locked(fs, handle->inode, handle->flags);
}

/* What a READ is to see: NULL with *out_ask: the engine must be asked for the newest first.
 * Referenced. */
static QfsRecord *choose_locked(QfsHandle *handle, gboolean fill, guint64 offset, gboolean *out_ask,
                                gboolean *out_pinned, GSList **pins) {
  QfsInode *inode = handle->inode;
  *out_ask = FALSE;
  *out_pinned = FALSE;
  if (handle->pinned && !fill) {
    /* Who is slow to begin, and could not be given a newer version, still sees that of its open, whole. */
    gboolean first = offset == 0 && handle->pin != NULL;
    if (offset == handle->next_offset && (first || g_get_monotonic_time() < handle->pin_until_us)) {
      *out_pinned = TRUE;
      return handle->pin != NULL ? qfs_record_ref(handle->pin) : NULL;
    }
    *pins = qfs_handle_unpin_locked(handle, *pins);
  }
  if (inode->key != NULL && !inode->pending && inode->known != QFS_KNOWN_ALL) {
    *out_ask = TRUE;
    return NULL;
  }
  if (fill)
    qfs_pages_fill_locked(handle);
  handle->active_us = g_get_monotonic_time();
  return inode->record != NULL ? qfs_record_ref(inode->record) : NULL;
}

/* A pinned reader goes on behind what it got; at the end it has seen its version. */
static GSList *advance_locked(QfsHandle *handle, gboolean pinned, guint64 offset, gsize got,
                              gsize asked) {
  if (!pinned || !handle->pinned)
    return NULL;
  handle->next_offset = offset + got;
  handle->pin_until_us = g_get_monotonic_time() + QFS_PIN_US;
  /* A short read is not the end yet: the reader asks once more, and must not get bytes of the next
   * version. */
  return got == 0 && asked > 0 ? qfs_handle_unpin_locked(handle, NULL) : NULL;
}

static void read_record_done(QfsCall *call, QfsRequest *request) {
  QfsFs *fs = call->fs;
  if (request->status == QFS_OK) {
    g_mutex_lock(&fs->lock);
    qfs_inode_learn_locked(fs, call->inode, request->record, QFS_KNOWN_ALL, call->doubts);
    g_mutex_unlock(&fs->lock);
  }
  if (call->attempts++ < ATTEMPTS_MAX &&
      (request->status == QFS_OK || request->status == QFS_NOT_FOUND)) {
    call->got =
        request->status == QFS_NOT_FOUND; /* deleted by others: what was known is all there is */
    run_read(call);
  } else {
    qfs_call_reply_status(call, "read", request->status == QFS_OK ? QFS_STALE : request->status);
  }
}

static void read_done(QfsCall *call, QfsRequest *request) {
  QfsFs *fs = call->fs;
  QfsHandle *handle = call->handle;
  GSList *pins = NULL;
  if (request->status == QFS_OK) {
    gsize len;
    gconstpointer bytes = g_bytes_get_data(request->data, &len);
    g_mutex_lock(&fs->lock);
    pins = advance_locked(handle, call->pinned, call->offset, len, call->size);
    g_mutex_unlock(&fs->lock);
    qfs_fs_drop_pins(fs, pins);
    reply_data(call, bytes, len);
    return;
  }
  if (request->status != QFS_STALE || call->attempts++ >= ATTEMPTS_MAX) {
    qfs_call_reply_status(call, "read", request->status);
    return;
  }
  /* Changed in place meanwhile: read the newest. */
  g_mutex_lock(&fs->lock);
  pins = qfs_handle_unpin_locked(handle, NULL);
  if (call->inode->record != NULL && call->inode->record->timestamp == request->record->timestamp)
    call->inode->known = QFS_KNOWN_NOTHING;
  g_mutex_unlock(&fs->lock);
  qfs_fs_drop_pins(fs, pins);
  run_read(call);
}

/* Some of a value of several writes is there, and more may come. */
static gboolean is_half_replaced_locked(const QfsInode *inode) {
  for (const GList *l = inode->handles.head; l != NULL; l = l->next) {
    const QfsHandle *handle = l->data;
    if (handle->truncates && !handle->replacing && !handle->announced)
      return TRUE;
  }
  return FALSE;
}

/* The READ is its handle's first, and is better answered with the newest version than with that of the open. */
static gboolean wants_newest_locked(const QfsCall *call) {
  const QfsHandle *handle = call->handle;
  return handle->pinned && handle->next_offset == 0 && call->offset == 0 && call->fi.lock_owner != 0 &&
         (g_get_monotonic_time() >= handle->pin_until_us || !is_half_replaced_locked(handle->inode));
}

/* Who opened beside a replacing writer and begins to read now is given the newest version, of which it then sees all. */
static void renew_pin(QfsCall *call) {
  QfsFs *fs = call->fs;
  QfsHandle *handle = call->handle;
  QfsInode *inode = handle->inode;
  GSList *pins = NULL;
  g_mutex_lock(&fs->lock);
  for (guint i = 0; i < ATTEMPTS_MAX && wants_newest_locked(call) && inode->known == QFS_KNOWN_ALL &&
                    inode->record != NULL && handle->pin != inode->record;
       i++) {
    QfsRecord *record = qfs_record_ref(inode->record);
    g_mutex_unlock(&fs->lock);
    qfs_engine_pin(fs->engine, record->object);
    g_mutex_lock(&fs->lock);
    if (handle->pinned && inode->record == record) { /* else its parts may be gone already */
      pins = qfs_handle_unpin_locked(handle, pins);
      handle->pinned = TRUE;
      handle->pin = record;
      handle->pin_until_us = g_get_monotonic_time() + QFS_PIN_US;
    } else {
      pins = g_slist_prepend(pins, record);
    }
  }
  g_mutex_unlock(&fs->lock);
  qfs_fs_drop_pins(fs, pins);
}

/* TRUE: the newest version is asked for, to be pinned, and the call runs again. */
static gboolean get_newest_first(QfsCall *call) {
  QfsFs *fs = call->fs;
  QfsInode *inode = call->inode;
  g_mutex_lock(&fs->lock);
  gboolean get = wants_newest_locked(call) && inode->key != NULL && !inode->pending &&
                 inode->known != QFS_KNOWN_ALL && !call->got && call->attempts < ATTEMPTS_MAX;
  QfsRequest *request = get ? qfs_request_new(QFS_REQUEST_GET, inode->key, NULL, NULL) : NULL;
  g_mutex_unlock(&fs->lock);
  if (get)
    qfs_call_submit(call, request, read_record_done);
  return get;
}

static void run_read(QfsCall *call) {
  QfsFs *fs = call->fs;
  QfsHandle *handle = call->handle;
  gboolean fill = call->fi.lock_owner == 0;
  gboolean ask, pinned;
  GSList *pins = NULL;
  if (get_newest_first(call))
    return;
  renew_pin(call);
  g_mutex_lock(&fs->lock);
  QfsRecord *record = choose_locked(handle, fill, call->offset, &ask, &pinned, &pins);
  note_reading_locked(fs, handle);
  QfsRequest *request = NULL;
  if (ask && call->got) {
    ask = FALSE;
    if (fill)
      qfs_pages_fill_locked(handle);
    record = call->inode->record != NULL ? qfs_record_ref(call->inode->record) : NULL;
  }
  if (ask)
    request = qfs_request_new(QFS_REQUEST_GET, call->inode->key, NULL, NULL);
  g_mutex_unlock(&fs->lock);
  qfs_fs_drop_pins(fs, pins);
  if (ask) {
    qfs_call_submit(call, request, read_record_done);
    return;
  }
  GBytes *data = NULL;
  if (read_inline(record, call->offset, call->size, &data)) {
    gsize len = 0;
    gconstpointer bytes = data != NULL ? g_bytes_get_data(data, &len) : NULL;
    g_mutex_lock(&fs->lock);
    pins = advance_locked(handle, pinned, call->offset, len, call->size);
    g_mutex_unlock(&fs->lock);
    qfs_fs_drop_pins(fs, pins);
    reply_data(call, bytes, len);
    g_clear_pointer(&data, g_bytes_unref);
    qfs_record_unref(record);
    return;
  }
  call->pinned = pinned;
  request = qfs_request_new(QFS_REQUEST_READ, record->key, NULL, NULL);
  request->record = record;
  request->offset = call->offset;
  request->length = call->size;
  qfs_call_submit(call, request, read_done);
}

/* The usual case: a small value, unpinned and current. No call, no engine. */
static gboolean read_fast(fuse_req_t req, QfsHandle *handle, size_t size, off_t offset,
                          gboolean fill) {
  QfsFs *fs = fuse_req_userdata(req);
  QfsInode *inode = handle->inode;
  g_mutex_lock(&fs->lock);
  QfsRecord *record = inode->record;
  gboolean fast = !handle->pinned && inode->key != NULL && inode->known == QFS_KNOWN_ALL &&
                  record != NULL && record->tail_offset == 0 &&
                  g_bytes_get_size(record->tail) == record->attr.size;
  if (fast) {
    qfs_record_ref(record);
    handle->active_us = g_get_monotonic_time();
    if (fill)
      qfs_pages_fill_locked(handle);
    note_reading_locked(fs, handle);
  }
  g_mutex_unlock(&fs->lock);
  if (!fast)
    return FALSE;
  gsize len;
  const char *bytes = g_bytes_get_data(record->tail, &len);
  gsize from = MIN((guint64)offset, len);
  fuse_reply_buf(req, bytes != NULL ? bytes + from : NULL, MIN(size, len - from));
  qfs_record_unref(record);
  return TRUE;
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
                    struct fuse_file_info *fi) {
  QfsHandle *handle = qfs_handle_of(fi);
  if (handle->kind != QFS_HANDLE_CONTROL &&
      read_fast(req, handle, size, offset, fi->lock_owner == 0))
    return;
  QfsCall *call = qfs_call_new(req, run_read);
  g_mutex_lock(&call->fs->lock);
  call->handle = qfs_handle_ref_locked(handle);
  call->inode = qfs_inode_ref_locked(handle->inode);
  g_mutex_unlock(&call->fs->lock);
  call->fi = *fi;
  call->size = size;
  call->offset = (guint64)offset;
  if (handle->kind == QFS_HANDLE_CONTROL)
    qfs_control_read_call(call);
  else
    run_read(call);
}

/* --- write --- */

static void write_answer(gpointer data) {
  QfsCall *call = data;
  if (!qfs_call_claim(call)) {
    qfs_call_end_late(call);
    return;
  }
  fuse_reply_write(call->req, call->size);
  qfs_call_end(call);
}

/* What a successful WRITE changes beside the record. Lock held. TRUE: answer after the pages were
 * dropped. */
static gboolean written_locked(QfsCall *call, const QfsRequest *request, GSList **pins) {
  QfsFs *fs = call->fs;
  QfsInode *inode = call->inode;
  QfsHandle *handle = call->handle;
  if (request->flags & QFS_WRITE_REPLACE)
    qfs_inode_clear_debts_locked(inode); /* truncations so far are in it */
  if (request->flags & QFS_WRITE_CREATE) {
    qfs_inode_clear_debts_locked(inode);
    qfs_inode_settle_pending_locked(fs, inode);
  }
  if (!handle->truncates)
    *pins = qfs_inode_unpin_all_locked(inode, *pins); /* always seen */
  if (handle->kind == QFS_HANDLE_WRITER)
    return qfs_pages_written_locked(inode);
  if ((request->flags & QFS_WRITE_APPEND) && request->offset != call->offset)
    qfs_pages_drop_locked(fs, inode, NULL, NULL); /* the kernel put it elsewhere into its pages */
  return FALSE;
}

static void write_done(QfsCall *call, QfsRequest *request) {
  QfsFs *fs = call->fs;
  QfsInode *inode = call->inode;
  QfsHandle *handle = call->handle;
  GSList *pins = NULL;
  gboolean drop = FALSE;
  g_mutex_lock(&fs->lock);
  mode_t mode = inode->record != NULL ? inode->record->attr.mode : 0;
  qfs_inode_mutated_locked(fs, inode, request, call->doubts);
  if (request->status == QFS_OK) {
    drop = written_locked(call, request, &pins);
    if (inode->record != NULL && mode != 0 && mode != inode->record->attr.mode)
      qfs_notify_attr(fs->notify, inode->ino); /* set-id bits were cleared */
  }
  if (request->status == QFS_OK && (request->flags & QFS_WRITE_IF_TIMESTAMP))
    handle->conditional = FALSE; /* else it goes on to fail */
  if (call->replacing) {
    handle->first_write = FALSE;
    handle->failed = request->status != QFS_OK;
    if (request->status == QFS_OK)
      handle->replacing = FALSE;
  }
  char *orphan = qfs_inode_abandoned_locked(fs, inode);
  GSList *woken = qfs_inode_wake_locked(inode);
  if (drop)
    qfs_pages_drop_locked(fs, inode, write_answer, call);
  g_mutex_unlock(&fs->lock);
  qfs_fs_drop_pins(fs, pins);
  qfs_handle_remove_orphan(fs, orphan);
  if (request->status != QFS_OK)
    qfs_call_reply_status(call, "write", request->status);
  else if (!drop)
    write_answer(call);
  qfs_calls_run(woken);
}

/* The request of a WRITE as the handle and the inode stand now. Lock held. */
static QfsRequest *write_request_locked(QfsCall *call) {
  QfsInode *inode = call->inode;
  QfsHandle *handle = call->handle;
  QfsRequest *request = qfs_request_new(QFS_REQUEST_WRITE, inode->key, NULL, NULL);
  request->data = g_bytes_ref(call->data);
  request->offset = call->offset;
  gboolean append = (call->fi.flags & O_APPEND) != 0 && !call->fi.writepage;
  if (append)
    request->flags |= QFS_WRITE_APPEND; /* at the real end, whatever the kernel takes for it */
  gboolean own = handle->conditional;
  if (own || call->conditional) {
    request->flags |= QFS_WRITE_IF_TIMESTAMP;
    request->if_timestamp = own ? handle->if_timestamp : call->if_timestamp;
  }
  if (handle->replacing || qfs_inode_owes_locked(inode))
    request->flags |= QFS_WRITE_REPLACE; /* the truncation is part of the put */
  if (inode->pending) {
    request->flags |= QFS_WRITE_CREATE;
    request->attr = inode->attr;
    request->xattrs = inode->xattrs != NULL ? g_bytes_ref(inode->xattrs) : NULL;
  }
  if (call->fi.writepage || call->uid == 0)
    request->flags |= QFS_WRITE_KEEP_SETID;
  if (handle->flags & (O_SYNC | O_DSYNC))
    request->flags |= QFS_WRITE_DURABLE;
  return request;
}

static void run_write(QfsCall *call) {
  QfsFs *fs = call->fs;
  QfsInode *inode = call->inode;
  QfsHandle *handle = call->handle;
  g_mutex_lock(&fs->lock);
  if (handle->first_write &&
      inode->blocked == 0) { /* what follows a REPLACE needs to know how it ended */
    qfs_call_park_locked(call, inode, 0);
    g_mutex_unlock(&fs->lock);
    return;
  }
  if (qfs_call_settle_first_unlock(call, inode, handle->kind == QFS_HANDLE_BOTH))
    return;
  if (inode->key == NULL) { /* another file was renamed over it */
    g_mutex_unlock(&fs->lock);
    qfs_call_reply_errno(call, ESTALE);
    return;
  }
  if (handle->kind == QFS_HANDLE_WRITER && qfs_stored_drop_capability_unlock(call))
    return;
  QfsRequest *request = write_request_locked(call);
  if (handle->replacing) {
    handle->first_write = TRUE;
    call->replacing = TRUE;
    qfs_pages_write_begins_locked(handle);
  }
  qfs_call_submit_mutation_unlock(call, inode, request, write_done);
}

static void op_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t offset,
                     struct fuse_file_info *fi) {
  QfsCall *call = qfs_call_new(req, run_write);
  QfsFs *fs = call->fs;
  g_mutex_lock(&fs->lock);
  call->handle = qfs_handle_ref_locked(qfs_handle_of(fi));
  call->inode = qfs_inode_ref_locked(call->handle->inode);
  g_mutex_unlock(&fs->lock);
  call->fi = *fi;
  call->size = size;
  call->offset = (guint64)offset;
  call->data = qfs_session_take_bytes(buf, size);
  if (call->handle->kind == QFS_HANDLE_CONTROL)
    qfs_control_write_call(call);
  else if (call->offset + size > QFS_VALUE_MAX)
    qfs_call_reply_errno(call, EFBIG);
  else if (fi->writepage || call->handle->conditional || qfs_call_take_condition(call, NULL, FALSE))
    run_write(call);
}

/* --- fsync --- */

static void fsync_done(QfsCall *call, QfsRequest *request) {
  qfs_call_reply_status(call, "fsync", request->status);
}

static void run_fsync(QfsCall *call) {
  QfsFs *fs = call->fs;
  QfsInode *inode = call->inode;
  g_mutex_lock(&fs->lock);
  if (qfs_call_settle_first_unlock(call, inode, TRUE))
    return;
  if (inode->key == NULL || inode->control) {
    g_mutex_unlock(&fs->lock);
    qfs_call_reply_errno(call, 0);
    return;
  }
  QfsRequest *request = qfs_request_new(QFS_REQUEST_SYNC, inode->key, NULL, NULL);
  g_mutex_unlock(&fs->lock);
  qfs_call_submit(call, request, fsync_done);
}

static void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi) {
  QfsCall *call = qfs_call_new(req, run_fsync);
  call->inode = qfs_inode_get(call->fs, ino);
  if (call->inode == NULL)
    qfs_call_reply_errno(call, ESTALE);
  else
    run_fsync(call);
}

/* --- poll --- */

static void op_poll(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi,
                    struct fuse_pollhandle *ph) {
  qfs_control_poll_call(req, qfs_handle_of(fi), ph);
}

void qfs_ops_file_init(struct fuse_lowlevel_ops *ops) {
  qfs_ops_open_init(ops);
  ops->read = op_read;
  ops->write = op_write;
  ops->fsync = op_fsync;
  ops->poll = op_poll;
}
