/* ops_control.c - see ops_control.h. */
#include "fs/ops_control.h"
#include "fs/notify.h"

#include <poll.h>
#include <string.h>

gboolean qfs_control_owns_child(const QfsInode *dir, const char *name) {
  return dir->control || (dir->ino == FUSE_ROOT_ID && strcmp(name, QFS_CONTROL_NAME) == 0);
}

const char *qfs_control_path(const QfsInode *inode) {
  const char *path = inode->key + strlen(QFS_CONTROL_NAME);
  return *path == '/' ? path + 1 : path;
}

void qfs_control_lookup(QfsCall *call) {
  QfsFs *fs = call->fs;
  QfsInode *dir = call->dir;
  char *key =
      dir->control ? g_strconcat(dir->key, "/", call->name, NULL) : g_strdup(QFS_CONTROL_NAME);
  const char *path = key + strlen(QFS_CONTROL_NAME);
  guint node;
  const char *rest;
  if (*path == '/' && qfs_control_parse_key(fs->control, path + 1, &node, &rest) && *rest != '\0') {
    qfs_keys_lookup(call, key);
    g_free(key);
    return;
  }
  mode_t mode = qfs_control_mode(fs->control, *path == '/' ? path + 1 : path);
  struct fuse_entry_param entry;
  if (mode != 0) {
    g_mutex_lock(&fs->lock);
    QfsInode *inode = qfs_inode_new_control_locked(fs, key, mode);
    qfs_inode_entry_locked(fs, inode, &entry);
    qfs_inode_unref_locked(fs, inode);
    g_mutex_unlock(&fs->lock);
  }
  g_free(key);
  if (mode == 0)
    qfs_call_reply_errno(call, ENOENT); /* not cacheable */
  else
    qfs_reply_entry(call, &entry);
}

void qfs_control_open_call(QfsCall *call) {
  QfsFs *fs = call->fs;
  int error = 0;
  QfsControlFile *file = qfs_control_open(fs->control, qfs_control_path(call->inode),
                                          call->fi.flags, call->uid, call->gid, &error);
  if (file == NULL) {
    qfs_call_reply_errno(call, error);
    return;
  }
  g_mutex_lock(&fs->lock);
  QfsHandle *handle = qfs_handle_new_locked(fs, call->inode, QFS_HANDLE_CONTROL, call->fi.flags);
  handle->control = file;
  g_mutex_unlock(&fs->lock);
  call->fi.direct_io = 1;
  qfs_reply_open(call, handle);
}

static void read_answer(gpointer data) {
  QfsCall *call = data;
  if (!qfs_call_claim(call)) {
    qfs_call_end_late(call);
    return;
  }
  gsize len = 0;
  const char *bytes = call->data != NULL ? g_bytes_get_data(call->data, &len) : NULL;
  fuse_reply_buf(call->req, bytes, MIN(len, call->size));
  qfs_call_end(call);
}

static void read_done(int error, GBytes *data, gpointer user_data) {
  QfsCall *call = user_data;
  if (error != 0) {
    g_clear_pointer(&data, g_bytes_unref);
    qfs_call_reply_errno(call, error);
    return;
  }
  call->data = data;
  /* What rpc changed is forgotten by the kernel before its answer is given. */
  if (strcmp(qfs_control_path(call->inode), "rpc") == 0)
    qfs_notify_fence(call->fs->notify, read_answer, call);
  else
    read_answer(call);
}

void qfs_control_read_call(QfsCall *call) {
  qfs_control_read(call->handle->control, (off_t)call->offset, call->size, read_done, call);
}

/* Files other than control files are always ready, as everywhere. */
void qfs_control_poll_call(fuse_req_t req, QfsHandle *handle, struct fuse_pollhandle *ph) {
  unsigned ready = POLLIN | POLLRDNORM | POLLOUT | POLLWRNORM;
  if (handle->kind != QFS_HANDLE_CONTROL && ph != NULL)
    fuse_pollhandle_destroy(ph);
  else if (handle->kind == QFS_HANDLE_CONTROL && !qfs_control_poll(handle->control, ph))
    ready = POLLOUT | POLLWRNORM;
  fuse_reply_poll(req, ready);
}

static void write_done(int error, gsize written, gpointer user_data) {
  QfsCall *call = user_data;
  if (error != 0) {
    qfs_call_reply_errno(call, error);
  } else if (qfs_call_claim(call)) {
    fuse_reply_write(call->req, written);
    qfs_call_end(call);
  } else {
    qfs_call_end_late(call);
  }
}

void qfs_control_write_call(QfsCall *call) {
  qfs_control_write(call->handle->control, (off_t)call->offset, g_steal_pointer(&call->data),
                    write_done, call);
}
