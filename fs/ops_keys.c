/* ops_keys.c - what is below .quorumfs/nodes/I/keys, as inodes: see ops_control.h.
 *
 * An inode here has the record that the latest LOOKUP or GETATTR found; nothing is cached, neither by the kernel (all
 * timeouts are 0, files are direct) nor here. The replica is read by the session's thread, without fs->lock. */
#include "fs/ops_control.h"
#include "storage/tree.h"

#include <string.h>

gboolean qfs_keys_is_dir(QfsFs *fs, const QfsInode *inode, guint *out_node, const char **out_key) {
  return inode->control && qfs_control_parse_key(fs->control, qfs_control_path(inode), out_node, out_key);
}

/* What is there now; 0 or an errno. Implied directories belong to whoever mounted. */
static int find(QfsFs *fs, const char *path, QfsRecord **out_record) {
  guint node;
  const char *key;
  if (!qfs_control_parse_key(fs->control, path, &node, &key))
    return ENOENT;
  g_autoptr(QfsRecord) record = NULL;
  int error = qfs_control_key_lookup(fs->control, node, key, &record);
  if (error != 0)
    return error;
  if (qfs_tree_is_implied(record)) {
    QfsRecord *own = qfs_record_copy(record);
    own->attr.uid = fs->uid;
    own->attr.gid = fs->gid;
    *out_record = own;
  } else {
    *out_record = g_steal_pointer(&record);
  }
  return 0;
}

void qfs_keys_lookup(QfsCall *call, const char *key) {
  QfsFs *fs = call->fs;
  g_autoptr(QfsRecord) record = NULL;
  struct fuse_entry_param entry;
  int error = find(fs, key + strlen(QFS_CONTROL_NAME) + 1, &record);
  if (error != 0) {
    qfs_call_reply_errno(call, error);
    return;
  }
  g_mutex_lock(&fs->lock);
  QfsInode *inode = qfs_inode_new_replica_locked(fs, key, record);
  qfs_inode_entry_locked(fs, inode, &entry);
  qfs_inode_unref_locked(fs, inode);
  g_mutex_unlock(&fs->lock);
  qfs_reply_entry(call, &entry);
}

void qfs_keys_getattr(QfsCall *call) {
  QfsFs *fs = call->fs;
  QfsInode *inode = call->inode;
  g_autoptr(QfsRecord) record = NULL;
  struct stat st;
  int error = find(fs, qfs_control_path(inode), &record);
  if (error == 0) {
    g_mutex_lock(&fs->lock);
    if (!qfs_inode_is_replica_of_locked(inode, record))
      error = ESTALE; /* the kernel looks the name up again */
    else
      qfs_inode_take_replica_locked(inode, record);
    qfs_inode_attr_locked(fs, inode, &st);
    g_mutex_unlock(&fs->lock);
  }
  if (error != 0) {
    qfs_call_reply_errno(call, error);
  } else if (qfs_call_claim(call)) {
    fuse_reply_attr(call->req, &st, 0);
    qfs_call_end(call);
  } else {
    qfs_call_end_late(call);
  }
}

int qfs_keys_page(QfsFs *fs, const QfsInode *dir, const char *after, guint limit, GPtrArray **out_entries,
                  gboolean *out_more) {
  guint node;
  const char *key;
  g_autoptr(GPtrArray) rows = NULL;
  if (!qfs_keys_is_dir(fs, dir, &node, &key))
    return ENOENT;
  int error = qfs_control_key_list(fs->control, node, key, after, limit, &rows, out_more);
  if (error != 0)
    return error;
  /* Under their names here: the same key elsewhere is another inode. */
  GPtrArray *entries = g_ptr_array_new_with_free_func((GDestroyNotify)qfs_record_unref);
  for (guint i = 0; i < rows->len; i++) {
    QfsRecord *entry = qfs_record_copy(rows->pdata[i]);
    const char *slash = strrchr(entry->key, '/');
    char *path = g_strconcat(dir->key, "/", slash != NULL ? slash + 1 : entry->key, NULL);
    g_free(entry->key);
    entry->key = path;
    entry->attr.btime_ns = 0; /* its number is that of the place */
    g_ptr_array_add(entries, entry);
  }
  *out_entries = entries;
  return 0;
}
