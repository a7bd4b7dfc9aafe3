/* ops_name.c - names: mkdir, mknod, symlink, unlink, rmdir, rename; link: ops_link.c.
 *
 * What loses its last name while it is open, be it by unlink or by a rename over it, stays readable and writable: in the
 * same step its record goes to a hidden key "/orphan/N", removed at the last release (or the next mount).
 */
#include "fs/handle.h"
#include "fs/move.h"
#include "fs/names.h"
#include "fs/notify.h"
#include "fs/ops_control.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

/* --- making --- */

static void make_done(QfsCall *call, QfsRequest *request) {
  QfsFs *fs = call->fs;
  if (request->status != QFS_OK) {
    qfs_call_reply_status(call, "create", request->status);
    return;
  }
  struct fuse_entry_param entry;
  g_mutex_lock(&fs->lock);
  qfs_inode_touch_dir_locked(fs, call->dir, request->now_ns);
  QfsInode *inode =
      qfs_inode_of_record_locked(fs, request->record, QFS_KNOWN_ALL, call->doubts, FALSE);
  qfs_inode_entry_locked(fs, inode, &entry);
  qfs_inode_unref_locked(fs, inode);
  g_mutex_unlock(&fs->lock);
  qfs_reply_entry(call, &entry);
}

static void run_make(QfsCall *call) {
  QfsFs *fs = call->fs;
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
  if (inode != NULL && inode->pending)
    error = EEXIST;
  if (error != 0) {
    g_mutex_unlock(&fs->lock);
    g_free(key);
    qfs_call_reply_errno(call, error);
    return;
  }
  QfsRequest *request = qfs_request_new(QFS_REQUEST_CREATE, NULL, NULL, NULL);
  request->key = key;
  guint64 rdev = call->attr.rdev;
  mode_t mode = call->attr.mode;
  request->xattrs = qfs_inode_child_xattrs_locked(call->dir, call->umask, &mode);
  qfs_inode_child_attr_locked(fs, call->dir, mode, call->uid, call->gid, &request->attr);
  request->attr.rdev = rdev;
  switch (call->attr.mode & S_IFMT) {
  case S_IFDIR:
    request->kind = QFS_KIND_DIRECTORY;
    break;
  case S_IFLNK:
    request->kind = QFS_KIND_SYMLINK;
    request->data = g_bytes_new(call->text, strlen(call->text));
    request->attr.size = strlen(call->text);
    break;
  case S_IFREG:
    request->kind = QFS_KIND_VALUE;
    break;
  default:
    request->kind = QFS_KIND_SPECIAL;
    break;
  }
  qfs_call_submit_mutation_unlock(call, NULL, request, make_done);
}

static void make(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev,
                 const char *target) {
  QfsCall *call = qfs_call_new(req, run_make);
  call->dir = qfs_inode_get(call->fs, parent);
  call->name = g_strdup(name);
  call->text = g_strdup(target);
  call->attr.mode = mode;
  call->attr.rdev = rdev;
  if (call->dir == NULL)
    qfs_call_reply_errno(call, ESTALE);
  else
    run_make(call);
}

static void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev) {
  make(req, parent, name, (mode & S_IFMT) == 0 ? mode | S_IFREG : mode, rdev, NULL);
}

static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode) {
  make(req, parent, name, S_IFDIR | (mode & 07777), 0, NULL);
}

static void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name) {
  make(req, parent, name, S_IFLNK | 0777, 0, target);
}

/* --- removing --- */

/* Where the file goes that loses its last name while it is open. */
static char *orphan_name_locked(QfsFs *fs) {
  return g_strdup_printf(QFS_ORPHAN_DIR "/%016" G_GINT64_MODIFIER "x", fs->next_orphan++);
}

static void remove_done(QfsCall *call, QfsRequest *request) {
  QfsFs *fs = call->fs;
  QfsInode *inode = call->inode;
  char *orphan = NULL;
  GSList *woken = NULL;
  g_mutex_lock(&fs->lock);
  if (request->status == QFS_OK)
    qfs_inode_touch_dir_locked(fs, call->dir, request->now_ns);
  if (inode != NULL) {
    inode->blocked--;
    if (request->status == QFS_OK && inode->named)
      qfs_inode_name_taken_locked(fs, inode, request->key, request->keep, request->record, call->doubts);
    qfs_inode_mutated_locked(fs, inode, request, call->doubts);
    orphan = qfs_inode_abandoned_locked(fs, inode);
    woken = qfs_inode_wake_locked(inode);
  }
  g_mutex_unlock(&fs->lock);
  qfs_handle_remove_orphan(fs, orphan);
  qfs_call_reply_status(call, "remove", request->status);
  qfs_calls_run(woken);
}

static void run_remove(QfsCall *call) {
  QfsFs *fs = call->fs;
  g_autofree char *key = NULL;
  g_mutex_lock(&fs->lock);
  int error = qfs_inode_child_key_locked(call->dir, call->name, &key);
  QfsInode *inode = error == 0 ? qfs_inode_by_key_locked(fs, key) : NULL;
  if (error == 0 && inode != NULL && inode->pending_children > 0)
    error = ENOTEMPTY;
  if (error == 0 && call->holding && inode != call->inode)
    error = ESTALE; /* removed behind the kernel's back */
  if (error != 0) {
    g_mutex_unlock(&fs->lock);
    qfs_call_reply_errno(call, error);
    return;
  }
  if (inode != NULL && ((!call->holding && qfs_call_settle_first_unlock(call, inode, TRUE)) ||
                        qfs_call_hold_unlock(call, inode, NULL)))
    return;
  QfsRequest *request = qfs_request_new(QFS_REQUEST_REMOVE, key, NULL, NULL);
  request->flags = call->flags | QFS_REMOVE_MUST_EXIST;
  if (inode != NULL && !g_queue_is_empty(&inode->handles))
    request->keep = orphan_name_locked(fs);
  qfs_call_submit_mutation_unlock(call, inode, request, remove_done);
}

static void remove_name(fuse_req_t req, fuse_ino_t parent, const char *name, guint flags) {
  QfsCall *call = qfs_call_new(req, run_remove);
  call->dir = qfs_inode_get(call->fs, parent);
  call->name = g_strdup(name);
  call->flags = flags;
  if (call->dir == NULL)
    qfs_call_reply_errno(call, ESTALE);
  else
    run_remove(call);
}

static void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name) {
  remove_name(req, parent, name, QFS_REMOVE_NON_DIRECTORY);
}

static void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name) {
  remove_name(req, parent, name, QFS_REMOVE_DIRECTORY);
}

/* --- rename --- */

static gboolean is_tree(const QfsCall *call) {
  return qfs_inode_is_dir(call->inode) ||
         ((call->flags & QFS_RENAME_EXCHANGE) != 0 && call->target != NULL && qfs_inode_is_dir(call->target));
}

/* The names after a rename. Lock held. */
static void renamed_locked(QfsCall *call, const QfsRequest *request) {
  QfsFs *fs = call->fs;
  QfsInode *source = call->inode, *target = call->target;
  qfs_inode_touch_dir_locked(fs, call->dir, request->now_ns);
  qfs_inode_touch_dir_locked(fs, call->dir2, request->now_ns);
  if (!(call->flags & QFS_RENAME_EXCHANGE)) {
    if (target != NULL && target->named)
      qfs_inode_name_taken_locked(fs, target, request->key2, request->keep, request->replaced, call->doubts);
    qfs_inode_lose_name_locked(fs, source, request->key);
    qfs_inode_take_name_locked(fs, source, request->key2);
  } else if (target->named && source->named) {
    qfs_inode_lose_name_locked(fs, source, request->key);
    qfs_inode_lose_name_locked(fs, target, request->key2);
    qfs_inode_take_name_locked(fs, source, request->key2);
    qfs_inode_take_name_locked(fs, target, request->key);
    if (request->replaced != NULL)
      qfs_inode_learn_locked(fs, target, request->replaced, QFS_KNOWN_ALL, call->doubts);
  }
}

static void rename_done(QfsCall *call, QfsRequest *request) {
  QfsFs *fs = call->fs;
  QfsInode *source = call->inode;
  QfsInode *target = call->target;
  char *orphan = NULL;
  GSList *woken = NULL, *held = NULL;
  g_mutex_lock(&fs->lock);
  if (request->status == QFS_OK)
    renamed_locked(call, request);
  if (is_tree(call))
    held = qfs_move_end_locked(fs, source, request->status == QFS_OK);
  source->blocked--;
  qfs_inode_mutated_locked(fs, source, request, call->doubts);
  woken = qfs_inode_wake_locked(source);
  if (target != NULL) {
    target->blocked--;
    if (request->status != QFS_OK)
      qfs_inode_doubt_locked(fs, target);
    orphan = qfs_inode_abandoned_locked(fs, target);
    woken = g_slist_concat(woken, qfs_inode_wake_locked(target));
  }
  g_mutex_unlock(&fs->lock);
  qfs_move_send(fs, held);
  qfs_handle_remove_orphan(fs, orphan);
  qfs_call_reply_status(call, "rename", request->status);
  qfs_calls_run(woken);
}

/* Source and target as they are now, or the errno. Lock held. */
static int rename_inodes_locked(QfsCall *call, char **key, char **key2, QfsInode **source,
                                QfsInode **target) {
  QfsFs *fs = call->fs;
  int error = qfs_inode_child_key_locked(call->dir, call->name, key);
  if (error == 0)
    error = qfs_inode_child_key_locked(call->dir2, call->name2, key2);
  if (error != 0)
    return error;
  *source = qfs_inode_by_key_locked(fs, *key);
  *target = qfs_inode_by_key_locked(fs, *key2);
  if (*source == NULL || (call->holding && (*source != call->inode || *target != call->target)))
    return ESTALE; /* the kernel names what it looked up */
  if (*target == *source)
    return 0;
  if (*target != NULL && (call->flags & QFS_RENAME_NOREPLACE))
    return EEXIST;
  if (*target != NULL && (*target)->pending_children > 0 && !(call->flags & QFS_RENAME_EXCHANGE))
    return ENOTEMPTY;
  return 0;
}

/* TRUE: released, the call is parked or answered. */
static gboolean settle_names_unlock(QfsCall *call, const char *key, const char *key2, QfsInode *source, QfsInode *target) {
  QfsFs *fs = call->fs;
  return qfs_call_settle_first_unlock(call, qfs_move_pending_locked(fs, key), TRUE) ||
         qfs_call_settle_first_unlock(call, qfs_move_pending_locked(fs, key2), TRUE) ||
         (!call->holding && (qfs_call_settle_first_unlock(call, source, TRUE) ||
                             qfs_call_settle_first_unlock(call, target, TRUE)));
}

static void run_rename(QfsCall *call) {
  QfsFs *fs = call->fs;
  g_autofree char *key = NULL, *key2 = NULL;
  QfsInode *source = NULL, *target = NULL;
  g_mutex_lock(&fs->lock);
  int error = rename_inodes_locked(call, &key, &key2, &source, &target);
  if (error != 0 || source == target) {
    g_mutex_unlock(&fs->lock);
    qfs_call_reply_errno(call, error);
    return;
  }
  if (settle_names_unlock(call, key, key2, source, target) || qfs_call_hold_unlock(call, source, target))
    return;
  QfsRequest *request = qfs_request_new(QFS_REQUEST_RENAME, key, NULL, NULL);
  request->key2 = g_steal_pointer(&key2);
  request->flags = call->flags;
  if (target != NULL && !(call->flags & QFS_RENAME_EXCHANGE) && !g_queue_is_empty(&target->handles))
    request->keep = orphan_name_locked(fs);
  if (is_tree(call))
    qfs_move_begin_locked(fs, source, request);
  qfs_call_submit_mutation_unlock(call, source, request, rename_done);
}

static void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent,
                      const char *newname, unsigned int flags) {
  QfsCall *call = qfs_call_new(req, run_rename);
  call->dir = qfs_inode_get(call->fs, parent);
  call->dir2 = qfs_inode_get(call->fs, newparent);
  call->name = g_strdup(name);
  call->name2 = g_strdup(newname);
  call->flags = (flags & RENAME_NOREPLACE ? QFS_RENAME_NOREPLACE : 0) | (flags & RENAME_EXCHANGE ? QFS_RENAME_EXCHANGE : 0);
  if ((flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE)) != 0)
    qfs_call_reply_errno(call, EINVAL);
  else if (call->dir == NULL || call->dir2 == NULL)
    qfs_call_reply_errno(call, ESTALE);
  else
    run_rename(call);
}

void qfs_ops_name_init(struct fuse_lowlevel_ops *ops) {
  ops->mknod = op_mknod;
  ops->mkdir = op_mkdir;
  ops->symlink = op_symlink;
  ops->unlink = op_unlink;
  ops->rmdir = op_rmdir;
  ops->rename = op_rename;
}
