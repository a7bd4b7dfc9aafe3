/* ops_attr.c - what is there: lookup, forget, attributes, symlink targets, statfs.
 *
 * LOOKUP always asks the engine; GETATTR answers from the inode's record while that is known to be
 * current (this daemon is the only writer, so it stays so until something here changes it).
 */
#include "fs/acl.h"
#include "fs/atime.h"
#include "fs/handle.h"
#include "fs/names.h"
#include "fs/ops_control.h"

#include <string.h>
#include <sys/statvfs.h>

/* --- lookup --- */

/* Sends an entry, or ENOENT as a cacheable negative one; a lookup that the kernel did not take is
 * undone. */
void qfs_reply_entry(QfsCall *call, const struct fuse_entry_param *entry) {
  QfsFs *fs = call->fs;
  if (!qfs_call_claim(call)) {
    if (entry->ino != 0)
      qfs_inode_forget(fs, entry->ino, 1);
    qfs_call_end_late(call);
    return;
  }
  if (fuse_reply_entry(call->req, entry) != 0 && entry->ino != 0)
    qfs_inode_forget(fs, entry->ino, 1);
  qfs_call_end(call);
}

static void reply_absent(QfsCall *call) {
  struct fuse_entry_param entry = {.entry_timeout = QFS_CACHE_SECONDS};
  qfs_reply_entry(call, &entry);
}

static void lookup_done(QfsCall *call, QfsRequest *request) {
  QfsFs *fs = call->fs;
  if (request->status == QFS_NOT_FOUND) {
    g_mutex_lock(&fs->lock);
    QfsInode *inode = qfs_inode_by_key_locked(fs, request->key);
    gboolean pending = inode != NULL && inode->pending;
    if (inode != NULL && !pending && inode->mutations == 0 && call->doubts == fs->doubts)
      qfs_inode_lose_name_locked(fs, inode, request->key); /* deleted behind the kernel's back */
    g_mutex_unlock(&fs->lock);
    if (pending && call->attempts++ < 8)
      qfs_call_run(call);
    else
      reply_absent(call);
    return;
  }
  if (request->status != QFS_OK) {
    qfs_call_reply_status(call, "lookup", request->status);
    return;
  }
  struct fuse_entry_param entry;
  g_mutex_lock(&fs->lock);
  if (qfs_names_outran_locked(fs, request->key, request->record) && call->attempts++ < 8) {
    g_mutex_unlock(&fs->lock);
    qfs_call_run(call);
    return;
  }
  QfsInode *inode = qfs_names_inode_locked(fs, request->key, request->record, call->doubts, FALSE);
  qfs_inode_entry_locked(fs, inode, &entry);
  qfs_inode_unref_locked(fs, inode);
  g_mutex_unlock(&fs->lock);
  qfs_reply_entry(call, &entry);
}

static void run_lookup(QfsCall *call) {
  QfsFs *fs = call->fs;
  char *key = NULL;
  g_mutex_lock(&fs->lock);
  int error = qfs_inode_child_key_locked(call->dir, call->name, &key);
  if (error != 0) {
    g_mutex_unlock(&fs->lock);
    qfs_call_reply_errno(call, error);
    return;
  }
  QfsInode *inode = qfs_inode_by_key_locked(fs, key);
  if (inode != NULL && inode->blocked > 0) {
    qfs_call_park_locked(call, inode, 0);
    g_mutex_unlock(&fs->lock);
    g_free(key);
    return;
  }
  struct fuse_entry_param entry;
  if (inode != NULL && inode->pending && qfs_inode_entry_locked(fs, inode, &entry)) {
    g_mutex_unlock(&fs->lock);
    g_free(key);
    qfs_reply_entry(call, &entry);
    return;
  }
  g_mutex_unlock(&fs->lock);
  QfsRequest *request = qfs_request_new(QFS_REQUEST_GET, NULL, NULL, NULL);
  request->key = key;
  qfs_call_submit(call, request, lookup_done);
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name) {
  QfsCall *call = qfs_call_new(req, run_lookup);
  call->dir = qfs_inode_get(call->fs, parent);
  if (call->dir == NULL) {
    qfs_call_reply_errno(call, ESTALE);
    return;
  }
  call->name = g_strdup(name);
  if (qfs_control_owns_child(call->dir, name))
    qfs_control_lookup(call);
  else
    run_lookup(call);
}

static void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup) {
  qfs_inode_forget(fuse_req_userdata(req), ino, nlookup);
  fuse_reply_none(req);
}

static void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets) {
  QfsFs *fs = fuse_req_userdata(req);
  for (size_t i = 0; i < count; i++)
    qfs_inode_forget(fs, forgets[i].ino, forgets[i].nlookup);
  fuse_reply_none(req);
}

/* --- getattr --- */

static void reply_attr(QfsCall *call, const struct stat *st, double timeout) {
  if (!qfs_call_claim(call)) {
    qfs_call_end_late(call);
    return;
  }
  fuse_reply_attr(call->req, st, timeout);
  qfs_call_end(call);
}

/* The last attributes known; lock held, released. */
static void reply_known_unlock(QfsCall *call, int otherwise) {
  struct stat st;
  gboolean ok = qfs_inode_attr_locked(call->fs, call->inode, &st);
  double timeout = qfs_inode_attr_timeout_locked(call->inode);
  g_mutex_unlock(&call->fs->lock);
  if (ok)
    reply_attr(call, &st, timeout);
  else
    qfs_call_reply_errno(call, otherwise);
}

static void getattr_done(QfsCall *call, QfsRequest *request) {
  QfsFs *fs = call->fs;
  QfsInode *inode = call->inode;
  g_mutex_lock(&fs->lock);
  if (request->status == QFS_OK)
    qfs_inode_learn_locked(fs, inode, request->record, QFS_KNOWN_ALL, call->doubts);
  qfs_inode_trim_locked(inode);
  gboolean lost = request->status == QFS_NOT_FOUND && inode->mutations == 0 && !inode->pending;
  if (lost && inode != fs->root && inode->named && call->doubts == fs->doubts)
    qfs_inode_unname_locked(fs, inode, NULL);
  /* The root's attributes do not depend on a node being up. */
  if (request->status == QFS_OK || request->status == QFS_NOT_FOUND || inode == fs->root) {
    reply_known_unlock(call, ENOENT);
    return;
  }
  g_mutex_unlock(&fs->lock);
  qfs_call_reply_status(call, "getattr", request->status);
}

static void run_getattr(QfsCall *call) {
  QfsFs *fs = call->fs;
  QfsInode *inode = call->inode;
  g_mutex_lock(&fs->lock);
  if (inode->blocked > 0) {
    qfs_call_park_locked(call, inode, 0);
    g_mutex_unlock(&fs->lock);
    return;
  }
  if (inode->control || inode->pending || !inode->named || inode->known >= QFS_KNOWN_ATTRS) {
    reply_known_unlock(call, ESTALE);
    return;
  }
  QfsRequest *request = qfs_request_new(QFS_REQUEST_GET, inode->key, NULL, NULL);
  g_mutex_unlock(&fs->lock);
  qfs_call_submit(call, request, getattr_done);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi) {
  QfsFs *fs = fuse_req_userdata(req);
  struct stat st;
  g_mutex_lock(&fs->lock);
  QfsInode *inode = qfs_inode_get_locked(fs, ino);
  if (inode != NULL && inode->blocked == 0 && inode->known >= QFS_KNOWN_ATTRS &&
      qfs_inode_attr_locked(fs, inode, &st)) { /* the usual case, without a call */
    double timeout = qfs_inode_attr_timeout_locked(inode);
    qfs_inode_unref_locked(fs, inode);
    g_mutex_unlock(&fs->lock);
    fuse_reply_attr(req, &st, timeout);
    return;
  }
  g_mutex_unlock(&fs->lock);
  QfsCall *call = qfs_call_new(req, run_getattr);
  call->inode = inode;
  if (inode == NULL)
    qfs_call_reply_errno(call, ESTALE);
  else if (inode->replica)
    qfs_keys_getattr(call);
  else
    run_getattr(call);
}

/* --- setattr --- */

static void setattr_done(QfsCall *call, QfsRequest *request) {
  QfsFs *fs = call->fs;
  QfsInode *inode = call->inode;
  GSList *pins = NULL;
  g_mutex_lock(&fs->lock);
  if (call->blocks)
    inode->blocked--;
  qfs_inode_mutated_locked(fs, inode, request, call->doubts);
  if (request->status == QFS_OK) {
    if ((request->mask & QFS_ATTR_MTIME) && inode->times_ns <= request->attr.ctime_ns)
      inode->times_ns = 0; /* a directory's remembered times give way */
    if (request->mask & QFS_ATTR_ATIME)
      inode->atime_ns = 0;
    if (request->mask & QFS_ATTR_SIZE)
      pins = qfs_inode_unpin_all_locked(inode, NULL);
  }
  GSList *woken = qfs_inode_wake_locked(inode);
  if (request->status == QFS_OK)
    reply_known_unlock(call, ESTALE);
  else
    g_mutex_unlock(&fs->lock);
  qfs_fs_drop_pins(fs, pins);
  qfs_calls_run(woken);
  if (request->status != QFS_OK)
    qfs_call_reply_status(call, "setattr", request->status);
}

static void run_setattr(QfsCall *call);

static void setattr_got(QfsCall *call, QfsRequest *request) {
  QfsFs *fs = call->fs;
  if (request->status != QFS_OK) {
    qfs_call_reply_status(call, "setattr", request->status);
    return;
  }
  g_mutex_lock(&fs->lock);
  qfs_inode_learn_locked(fs, call->inode, request->record, QFS_KNOWN_ALL, call->doubts);
  qfs_inode_trim_locked(call->inode);
  g_mutex_unlock(&fs->lock);
  run_setattr(call);
}

/* chmod of a file whose access list is not known for certain looks at it first. Lock held; TRUE: released. */
static gboolean get_acl_first_unlock(QfsCall *call) {
  QfsInode *inode = call->inode;
  if ((call->mask & QFS_ATTR_MODE) == 0 || !inode->named || inode->pending || inode->known != QFS_KNOWN_NOTHING ||
      call->attempts++ >= 16)
    return FALSE;
  QfsRequest *request = qfs_request_new(QFS_REQUEST_GET, inode->key, NULL, NULL);
  g_mutex_unlock(&call->fs->lock);
  qfs_call_submit(call, request, setattr_got);
  return TRUE;
}

static void run_setattr(QfsCall *call) {
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
  if ((call->mask & QFS_ATTR_MTIME) && inode->times_storing) {
    qfs_call_park_locked(call, inode, 0);
    g_mutex_unlock(&fs->lock);
    return;
  }
  if (get_acl_first_unlock(call))
    return;
  QfsRequest *request = qfs_request_new(QFS_REQUEST_SETATTR, inode->key, NULL, NULL);
  request->mask = call->mask;
  request->attr = call->attr;
  if ((call->mask & QFS_ATTR_MODE) && inode->record != NULL)
    request->data = qfs_acl_chmod(inode->record->xattrs, call->attr.mode);
  if (request->data != NULL) {
    request->mask |= QFS_ATTR_XATTRS;
    call->blocks = TRUE;
    inode->blocked++;
  }
  qfs_call_submit_mutation_unlock(call, inode, request, setattr_done);
}

/* Records hold the years 1677 to 2262; what is beyond becomes the nearest that they can. */
static gint64 to_ns(struct timespec time) {
  static const gint64 max_s = G_MAXINT64 / G_GINT64_CONSTANT(1000000000);
  if (time.tv_sec >= max_s || time.tv_sec < -max_s)
    return time.tv_sec > 0 ? max_s * G_GINT64_CONSTANT(1000000000) : -max_s * G_GINT64_CONSTANT(1000000000);
  return (gint64)time.tv_sec * G_GINT64_CONSTANT(1000000000) + time.tv_nsec;
}

static void translate(QfsCall *call, const struct stat *st, int to_set) {
  gint64 now = qfs_fs_now_ns();
  guint mask = QFS_ATTR_CTIME;
  QfsAttr *attr = &call->attr;
  attr->ctime_ns = now;
  if (to_set & FUSE_SET_ATTR_MODE) {
    mask |= QFS_ATTR_MODE;
    attr->mode = st->st_mode & 07777;
  }
  if (to_set & FUSE_SET_ATTR_UID) {
    mask |= QFS_ATTR_UID;
    attr->uid = st->st_uid;
  }
  if (to_set & FUSE_SET_ATTR_GID) {
    mask |= QFS_ATTR_GID;
    attr->gid = st->st_gid;
  }
  if (to_set & FUSE_SET_ATTR_SIZE) {
    mask |= QFS_ATTR_SIZE | QFS_ATTR_MTIME;
    attr->size = (guint64)st->st_size;
    attr->mtime_ns = now;
  }
  if (to_set & (FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_ATIME_NOW)) {
    mask |= QFS_ATTR_ATIME;
    attr->atime_ns = to_set & FUSE_SET_ATTR_ATIME_NOW ? now : to_ns(st->st_atim);
  }
  if (to_set & (FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW)) {
    mask |= QFS_ATTR_MTIME;
    attr->mtime_ns = to_set & FUSE_SET_ATTR_MTIME_NOW ? now : to_ns(st->st_mtim);
  }
  call->mask = mask;
}

static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *st, int to_set,
                       struct fuse_file_info *fi) {
  QfsCall *call = qfs_call_new(req, run_setattr);
  QfsFs *fs = call->fs;
  call->inode = qfs_inode_get(fs, ino);
  if (call->inode == NULL) {
    qfs_call_reply_errno(call, ESTALE);
  } else if (call->inode->replica) {
    qfs_call_reply_errno(call, EROFS);
  } else if (call->inode->control) {
    /* `echo down > state` truncates first; nothing else can be changed. */
    if ((to_set & ~(FUSE_SET_ATTR_SIZE | FUSE_SET_ATTR_MTIME_NOW | FUSE_SET_ATTR_ATIME_NOW |
                    FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_CTIME)) != 0) {
      qfs_call_reply_errno(call, EPERM);
      return;
    }
    g_mutex_lock(&fs->lock);
    reply_known_unlock(call, ENOENT);
  } else if ((to_set & FUSE_SET_ATTR_SIZE) && (guint64)st->st_size > QFS_VALUE_MAX) {
    qfs_call_reply_errno(call, EFBIG);
  } else {
    translate(call, st, to_set);
    run_setattr(call);
  }
}

/* --- readlink --- */

static void reply_target(QfsCall *call, const QfsRecord *record) {
  gsize len;
  const char *bytes = g_bytes_get_data(record->tail, &len);
  char *target = g_strndup(bytes != NULL ? bytes : "", len);
  if (qfs_call_claim(call)) {
    fuse_reply_readlink(call->req, target);
    qfs_call_end(call);
  } else {
    qfs_call_end_late(call);
  }
  g_free(target);
}

static void readlink_done(QfsCall *call, QfsRequest *request) {
  if (request->status == QFS_OK && request->record->kind == QFS_KIND_SYMLINK)
    reply_target(call, request->record);
  else if (request->status == QFS_OK)
    qfs_call_reply_errno(call, EINVAL);
  else
    qfs_call_reply_status(call, "readlink", request->status);
}

static void op_readlink(fuse_req_t req, fuse_ino_t ino) {
  QfsCall *call = qfs_call_new(req, NULL);
  QfsFs *fs = call->fs;
  call->inode = qfs_inode_get(fs, ino);
  if (call->inode == NULL || (call->inode->control && !call->inode->replica)) {
    qfs_call_reply_errno(call, call->inode == NULL ? ESTALE : EINVAL);
    return;
  }
  g_mutex_lock(&fs->lock);
  QfsInode *inode = call->inode;
  QfsRecord *record = NULL;
  QfsRequest *request = NULL;
  qfs_atime_note_locked(fs, inode, 0);
  if (inode->record != NULL && (inode->known != QFS_KNOWN_NOTHING || inode->key == NULL || inode->replica))
    record = qfs_record_ref(inode->record); /* a listing's symlink has its target */
  else if (inode->key != NULL)
    request = qfs_request_new(QFS_REQUEST_GET, inode->key, NULL, NULL);
  g_mutex_unlock(&fs->lock);
  if (record != NULL)
    reply_target(call, record);
  else if (request != NULL)
    qfs_call_submit(call, request, readlink_done);
  else
    qfs_call_reply_errno(call, ESTALE);
  qfs_record_unref(record);
}

/* --- statfs --- */

/* Nodes that share a disk report the same totals: such a disk counts once. What is left holds every
 * value K times. */
static void sum_disks(const QfsEngineStatus *status, struct statvfs *st) {
  guint64 total = 0, available = 0, records = 0;
  for (guint i = 0; i < status->nodes; i++) {
    const QfsReplicaStats *stats = &status->node[i].replica;
    records = MAX(records, stats->records);
    gboolean counted = stats->disk_total == 0;
    for (guint j = 0; j < i && !counted; j++)
      counted = status->node[j].replica.disk_total == stats->disk_total &&
                status->node[j].replica.disk_files == stats->disk_files;
    if (counted)
      continue;
    total += stats->disk_total;
    available += stats->disk_free;
  }
  guint replicas = MAX(status->replicas, 1);
  st->f_bsize = st->f_frsize = 4096;
  st->f_blocks = MAX(total / replicas / st->f_frsize, 1);
  st->f_bfree = st->f_bavail = available / replicas / st->f_frsize;
  /* Values are rows, not files: what bounds their number is space. */
  st->f_ffree = st->f_favail = MAX(st->f_bavail, 1);
  st->f_files = st->f_ffree + records + 1;
  st->f_namemax = QFS_NAME_MAX;
}

static void op_statfs(fuse_req_t req, fuse_ino_t ino) {
  QfsFs *fs = fuse_req_userdata(req);
  QfsEngineStatus *status = qfs_engine_status(fs->engine);
  struct statvfs st = {0};
  sum_disks(status, &st);
  qfs_engine_status_free(status);
  fuse_reply_statfs(req, &st);
}

void qfs_ops_attr_init(struct fuse_lowlevel_ops *ops) {
  ops->lookup = op_lookup;
  ops->forget = op_forget;
  ops->forget_multi = op_forget_multi;
  ops->getattr = op_getattr;
  ops->setattr = op_setattr;
  ops->readlink = op_readlink;
  ops->statfs = op_statfs;
}
