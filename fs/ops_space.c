/* ops_space.c - the space of a file: fallocate, and where its holes are.
 *
 * Nothing is reserved: a file takes what its bytes take. Zeros and holes are made by one put as long as the range is no
 * longer than PIECE; a longer one is several, which skip what is a hole already.
 */
#include "fs/handle.h"
#include "fs/ops_control.h"
#include "fs/pages.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <unistd.h>

/* Some thousand rows of chunks that become empty. */
#define PIECE (G_GUINT64_CONSTANT(256) << 20)
#define ATTEMPTS_MAX 16

/* What an operation on an open file works on. */
static QfsCall *call_new(fuse_req_t req, QfsCallRun run, const struct fuse_file_info *fi) {
  QfsCall *call = qfs_call_new(req, run);
  g_mutex_lock(&call->fs->lock);
  call->handle = qfs_handle_ref_locked(qfs_handle_of(fi));
  call->inode = qfs_inode_ref_locked(call->handle->inode);
  g_mutex_unlock(&call->fs->lock);
  call->fi = *fi;
  return call;
}

/* The engine's answer makes the record current. Lock held; TRUE: released, and `then` follows. */
static gboolean get_first_unlock(QfsCall *call, QfsCallDone then) {
  QfsInode *inode = call->inode;
  if (inode->key == NULL || inode->pending || inode->known == QFS_KNOWN_ALL || call->attempts >= ATTEMPTS_MAX)
    return FALSE;
  call->attempts++;
  QfsRequest *request = qfs_request_new(QFS_REQUEST_GET, inode->key, NULL, NULL);
  g_mutex_unlock(&call->fs->lock);
  qfs_call_submit(call, request, then);
  return TRUE;
}

static void record_got(QfsCall *call, QfsRequest *request) {
  QfsFs *fs = call->fs;
  if (request->status != QFS_OK) {
    qfs_call_reply_status(call, "get", request->status);
    return;
  }
  g_mutex_lock(&fs->lock);
  qfs_inode_learn_locked(fs, call->inode, request->record, QFS_KNOWN_ALL, call->doubts);
  g_mutex_unlock(&fs->lock);
  qfs_call_run(call);
}

/* --- SEEK_DATA, SEEK_HOLE --- */

static void reply_seek(QfsCall *call, guint64 offset, guint64 size) {
  if (call->offset >= size || (call->flags == SEEK_DATA && offset >= size)) {
    qfs_call_reply_errno(call, ENXIO);
  } else if (qfs_call_claim(call)) {
    fuse_reply_lseek(call->req, (off_t)offset);
    qfs_call_end(call);
  } else {
    qfs_call_end_late(call);
  }
}

/* Changed in place meanwhile: look at the newest. TRUE: it is being looked at. */
static gboolean again_if_stale(QfsCall *call, const QfsRequest *request) {
  if (request->status != QFS_STALE || call->attempts >= ATTEMPTS_MAX)
    return FALSE;
  QfsInode *inode = call->inode;
  g_mutex_lock(&call->fs->lock);
  if (inode->record != NULL && inode->record->timestamp == request->record->timestamp)
    inode->known = QFS_KNOWN_NOTHING;
  g_mutex_unlock(&call->fs->lock);
  qfs_call_run(call);
  return TRUE;
}

static void seek_done(QfsCall *call, QfsRequest *request) {
  if (again_if_stale(call, request))
    return;
  if (request->status == QFS_OK)
    reply_seek(call, request->offset, request->record->attr.size);
  else
    qfs_call_reply_status(call, "seek", request->status);
}

static void seek_on(gpointer data) {
  qfs_call_run(data);
}

/* What was stored through a shared mapping is known to the kernel alone until its pages are written back, which
 * dropping them does; the kernel does not do it before it asks for holes. Lock held; TRUE: released, and it runs again. */
static gboolean write_back_first_unlock(QfsCall *call) {
  gboolean mappable = FALSE;
  for (const GList *at = call->inode->handles.head; at != NULL && !mappable; at = at->next)
    mappable = ((const QfsHandle *)at->data)->kind == QFS_HANDLE_BOTH;
  if (!mappable || call->got)
    return FALSE;
  call->got = TRUE;
  qfs_pages_drop_locked(call->fs, call->inode, seek_on, call);
  g_mutex_unlock(&call->fs->lock);
  return TRUE;
}

static void run_seek(QfsCall *call) {
  QfsFs *fs = call->fs;
  g_mutex_lock(&fs->lock);
  if (qfs_call_settle_first_unlock(call, call->inode, TRUE) || write_back_first_unlock(call) ||
      get_first_unlock(call, record_got))
    return;
  QfsRecord *record = call->inode->record;
  guint64 size = record != NULL ? record->attr.size : 0;
  QfsRequest *request = NULL;
  if (call->offset < size) {
    request = qfs_request_new(QFS_REQUEST_SEEK, record->key, NULL, NULL);
    request->record = qfs_record_ref(record);
    request->offset = call->offset;
    request->flags = call->flags == SEEK_HOLE ? QFS_SEEK_HOLE : 0;
  }
  g_mutex_unlock(&fs->lock);
  if (request != NULL)
    qfs_call_submit(call, request, seek_done);
  else
    qfs_call_reply_errno(call, ENXIO);
}

static void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t offset, int whence, struct fuse_file_info *fi) {
  QfsCall *call = call_new(req, run_seek, fi);
  call->offset = (guint64)offset;
  call->flags = (guint)whence;
  if ((whence != SEEK_DATA && whence != SEEK_HOLE) || call->handle->kind == QFS_HANDLE_CONTROL)
    qfs_call_reply_errno(call, EINVAL);
  else
    run_seek(call);
}

/* --- fallocate: [offset, offset + size) is what is left to do; `mask`: the flags of the WRITE --- */

static void write_piece_unlock(QfsCall *call, guint64 length, guint flags);

static void piece_done(QfsCall *call, QfsRequest *request) {
  QfsFs *fs = call->fs;
  QfsInode *inode = call->inode;
  GSList *pins = NULL;
  g_mutex_lock(&fs->lock);
  qfs_inode_mutated_locked(fs, inode, request, call->doubts);
  if (request->status == QFS_OK)
    pins = qfs_inode_unpin_all_locked(inode, NULL); /* always seen */
  GSList *woken = qfs_inode_wake_locked(inode);
  g_mutex_unlock(&fs->lock);
  qfs_fs_drop_pins(fs, pins);
  qfs_calls_run(woken);
  if (request->status != QFS_OK) {
    qfs_call_reply_status(call, "fallocate", request->status);
    return;
  }
  call->offset += request->length;
  call->size -= MIN(call->size, request->length);
  call->attempts = 0;
  if (call->size == 0)
    qfs_call_reply_errno(call, 0);
  else
    qfs_call_run(call);
}

/* Lock held, released. */
static void write_piece_unlock(QfsCall *call, guint64 length, guint flags) {
  QfsInode *inode = call->inode;
  QfsRequest *request = qfs_request_new(QFS_REQUEST_WRITE, inode->key, NULL, NULL);
  request->offset = call->offset;
  request->length = length;
  request->flags = flags;
  if (call->uid == 0)
    request->flags |= QFS_WRITE_KEEP_SETID;
  if (call->handle->flags & (O_SYNC | O_DSYNC))
    request->flags |= QFS_WRITE_DURABLE;
  qfs_call_submit_mutation_unlock(call, inode, request, piece_done);
}

/* Holes from here to `to`, or to the end of the value: what is left to do begins there. */
static void skipped(QfsCall *call, QfsRequest *request) {
  if (again_if_stale(call, request))
    return;
  if (request->status != QFS_OK) {
    qfs_call_reply_status(call, "fallocate", request->status);
    return;
  }
  guint64 end = call->offset + call->size, size = request->record->attr.size;
  gboolean over = request->offset >= MIN(end, size);
  guint64 to = over ? end : request->offset;
  if (over && (call->mask & QFS_WRITE_KEEP_SIZE) == 0 && end > size) {
    call->mask = QFS_WRITE_GROW;
  } else {
    call->offset = to;
    call->size = end - to;
  }
  call->got = TRUE;
  if (call->size == 0)
    qfs_call_reply_errno(call, 0);
  else
    qfs_call_run(call);
}

static void run_fallocate(QfsCall *call) {
  QfsFs *fs = call->fs;
  QfsInode *inode = call->inode;
  g_mutex_lock(&fs->lock);
  if (qfs_call_settle_first_unlock(call, inode, TRUE))
    return;
  if (inode->key == NULL) {
    g_mutex_unlock(&fs->lock);
    qfs_call_reply_errno(call, ESTALE);
    return;
  }
  if ((call->mask & QFS_WRITE_ZERO) == 0 || call->size <= PIECE) {
    write_piece_unlock(call, call->size, call->mask);
    return;
  }
  if (get_first_unlock(call, record_got))
    return;
  if (call->got || inode->record == NULL) { /* at bytes that are to go */
    call->got = FALSE;
    write_piece_unlock(call, PIECE, call->mask);
    return;
  }
  QfsRequest *request = qfs_request_new(QFS_REQUEST_SEEK, inode->record->key, NULL, NULL);
  request->record = qfs_record_ref(inode->record);
  request->offset = call->offset;
  g_mutex_unlock(&fs->lock);
  qfs_call_submit(call, request, skipped);
}

static void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length,
                         struct fuse_file_info *fi) {
  QfsCall *call = call_new(req, run_fallocate, fi);
  call->offset = (guint64)offset;
  call->size = (guint64)length;
  gboolean keep = (mode & FALLOC_FL_KEEP_SIZE) != 0;
  gboolean zero = (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) != 0;
  if (call->handle->kind == QFS_HANDLE_CONTROL ||
      (mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) != 0) {
    qfs_call_reply_errno(call, EOPNOTSUPP);
  } else if (call->offset + call->size > QFS_VALUE_MAX) {
    qfs_call_reply_errno(call, EFBIG);
  } else if (!zero && keep) { /* space is not reserved */
    qfs_call_reply_errno(call, 0);
  } else {
    call->mask = zero ? QFS_WRITE_ZERO | (keep ? QFS_WRITE_KEEP_SIZE : 0) : QFS_WRITE_GROW;
    run_fallocate(call);
  }
}

void qfs_ops_space_init(struct fuse_lowlevel_ops *ops) {
  ops->lseek = op_lseek;
  ops->fallocate = op_fallocate;
}
