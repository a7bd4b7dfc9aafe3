/* ops_link.c - link: another name of a file.
 *
 * The first time the file's inode changes its key (names.h), so nothing may be under way there: what the engine gets
 * afterwards has the new one.
 */
#include "fs/handle.h"
#include "fs/names.h"
#include "fs/ops_control.h"

#include <string.h>

static void link_done(QfsCall *call, QfsRequest *request) {
  QfsFs *fs = call->fs;
  QfsInode *inode = call->inode;
  struct fuse_entry_param entry;
  gboolean ok = request->status == QFS_OK;
  g_mutex_lock(&fs->lock);
  if (ok) {
    qfs_inode_touch_dir_locked(fs, call->dir, request->now_ns);
    qfs_inode_become_linked_locked(fs, inode, request->record->key, request->key2);
  }
  inode->blocked--;
  qfs_inode_mutated_locked(fs, inode, request, call->doubts);
  GSList *woken = qfs_inode_wake_locked(inode);
  if (ok)
    ok = qfs_inode_entry_locked(fs, inode, &entry);
  g_mutex_unlock(&fs->lock);
  if (ok)
    qfs_reply_entry(call, &entry);
  else
    qfs_call_reply_status(call, "link", request->status);
  qfs_calls_run(woken);
}

static void run_link(QfsCall *call) {
  QfsFs *fs = call->fs;
  QfsInode *inode = call->inode;
  g_autofree char *key2 = NULL;
  g_mutex_lock(&fs->lock);
  int error = qfs_inode_child_key_locked(call->dir, call->name, &key2);
  QfsInode *there = error == 0 ? qfs_inode_by_key_locked(fs, key2) : NULL;
  if (error == 0 && (inode->control || qfs_inode_is_dir(inode)))
    error = EPERM;
  else if (error == 0 && !inode->named)
    error = ENOENT; /* unlinked */
  else if (there != NULL && there->pending)
    error = EEXIST;
  if (error != 0) {
    g_mutex_unlock(&fs->lock);
    qfs_call_reply_errno(call, error);
    return;
  }
  if ((!call->holding && qfs_call_settle_first_unlock(call, inode, TRUE)) || qfs_call_hold_unlock(call, inode, NULL))
    return;
  QfsRequest *request = qfs_request_new(QFS_REQUEST_LINK, inode->key, NULL, NULL);
  request->key2 = g_steal_pointer(&key2);
  qfs_call_submit_mutation_unlock(call, inode, request, link_done);
}

static void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name) {
  QfsCall *call = qfs_call_new(req, run_link);
  call->inode = qfs_inode_get(call->fs, ino);
  call->dir = qfs_inode_get(call->fs, parent);
  call->name = g_strdup(name);
  if (call->inode == NULL || call->dir == NULL)
    qfs_call_reply_errno(call, ESTALE);
  else
    run_link(call);
}

void qfs_ops_link_init(struct fuse_lowlevel_ops *ops) { ops->link = op_link; }
