/* xattr_stored.c - extended attributes that a record holds: all that are not virtual, POSIX ACLs among them.
 *
 * A change reads the record's list and replaces it whole (QFS_ATTR_XATTRS); while it is under way the inode is blocked
 * (inode.h I4), so that no other change of the list comes in between. Other changes of the file keep its list.
 * Threading: any session thread.
 */
#include "fs/xattr_stored.h"
#include "fs/acl.h"
#include "fs/ops_control.h"

#include <string.h>
#include <sys/xattr.h>

#define ATTEMPTS_MAX 16
#define GROUPS_MAX 1024

/* The newest list; FALSE: the engine must be asked first. Referenced, NULL: none. Lock held. */
static gboolean list_locked(QfsInode *inode, GBytes **out) {
  *out = NULL;
  if (inode->control)
    return TRUE;
  if (inode->pending) {
    *out = inode->xattrs != NULL ? g_bytes_ref(inode->xattrs) : NULL;
    return TRUE;
  }
  if (inode->record == NULL || (inode->named && inode->known == QFS_KNOWN_NOTHING))
    return inode->key == NULL;
  *out = g_bytes_ref(inode->record->xattrs);
  return TRUE;
}

static void got_record(QfsCall *call, QfsRequest *request) {
  QfsFs *fs = call->fs;
  if (request->status != QFS_OK && !(request->status == QFS_NOT_FOUND && call->inode == fs->root)) {
    qfs_call_reply_status(call, "getxattr", request->status);
    return;
  }
  g_mutex_lock(&fs->lock);
  if (request->status == QFS_OK)
    qfs_inode_learn_locked(fs, call->inode, request->record, QFS_KNOWN_ALL, call->doubts);
  qfs_inode_trim_locked(call->inode);
  call->got = call->attempts >= ATTEMPTS_MAX || request->status != QFS_OK;
  g_mutex_unlock(&fs->lock);
  qfs_call_run(call);
}

/* Lock held; TRUE: released, and the call runs again. */
static gboolean get_first_unlock(QfsCall *call, GBytes **out) {
  if (list_locked(call->inode, out) || call->got)
    return FALSE;
  call->attempts++;
  QfsRequest *request = qfs_request_new(QFS_REQUEST_GET, call->inode->key, NULL, NULL);
  g_mutex_unlock(&call->fs->lock);
  qfs_call_submit(call, request, got_record);
  return TRUE;
}

static gboolean is_supported(const char *name) {
  return g_str_has_prefix(name, "user.") || g_str_has_prefix(name, "trusted.") ||
         g_str_has_prefix(name, "security.") || strcmp(name, QFS_ACL_ACCESS) == 0 || strcmp(name, QFS_ACL_DEFAULT) == 0;
}

/* --- get and list --- */

/* Without SELinux the kernel asks us for labels: `ls -l` for each file, unless it hears that there are none at all. */
static gboolean is_label(const char *name) { return name != NULL && strcmp(name, "security.selinux") == 0; }

static void reply_bytes(fuse_req_t req, const char *name, const void *bytes, gsize len, gsize room) {
  if (bytes == NULL)
    fuse_reply_err(req, is_label(name) ? EOPNOTSUPP : ENODATA);
  else if (room == 0)
    fuse_reply_xattr(req, len);
  else if (len > room)
    fuse_reply_err(req, ERANGE);
  else
    fuse_reply_buf(req, bytes, len);
}

static void answer(fuse_req_t req, GBytes *list, const char *name, gsize room) {
  gsize len = 0;
  if (name != NULL) {
    const guint8 *value = qfs_xattrs_find(list, name, &len);
    reply_bytes(req, name, value, len, room);
    return;
  }
  GByteArray *names = qfs_xattrs_names(list, fuse_req_ctx(req)->uid == 0);
  reply_bytes(req, NULL, names->data != NULL ? names->data : (const guint8 *)"", names->len, room);
  g_byte_array_unref(names);
}

static void run_get(QfsCall *call) {
  QfsFs *fs = call->fs;
  g_autoptr(GBytes) list = NULL;
  g_mutex_lock(&fs->lock);
  if (qfs_call_settle_first_unlock(call, call->inode, FALSE) || get_first_unlock(call, &list))
    return;
  g_mutex_unlock(&fs->lock);
  if (!qfs_call_claim(call)) {
    qfs_call_end_late(call);
    return;
  }
  answer(call->req, list, call->name, call->size);
  qfs_call_end(call);
}

/* `name` NULL: all names. The usual case is answered without a call: the kernel asks for security.capability at each
 * O_TRUNC. */
void qfs_stored_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, gsize room) {
  QfsFs *fs = fuse_req_userdata(req);
  g_autoptr(GBytes) list = NULL;
  if (name != NULL && !is_supported(name)) {
    fuse_reply_err(req, EOPNOTSUPP);
    return;
  }
  g_mutex_lock(&fs->lock);
  QfsInode *inode = qfs_inode_get_locked(fs, ino);
  if (inode != NULL && inode->blocked == 0 && list_locked(inode, &list)) {
    qfs_inode_unref_locked(fs, inode);
    g_mutex_unlock(&fs->lock);
    answer(req, list, name, room);
    return;
  }
  g_mutex_unlock(&fs->lock);
  QfsCall *call = qfs_call_new(req, run_get);
  call->inode = inode;
  call->name = g_strdup(name);
  call->size = room;
  if (inode == NULL)
    qfs_call_reply_errno(call, ESTALE);
  else
    run_get(call);
}

/* --- set and remove --- */

static void changed(QfsCall *call, QfsRequest *request) {
  QfsFs *fs = call->fs;
  QfsInode *inode = call->inode;
  g_mutex_lock(&fs->lock);
  inode->blocked--;
  qfs_inode_mutated_locked(fs, inode, request, call->doubts);
  if (request->status == QFS_OK && inode->times_ns != 0 && inode->record != NULL)
    qfs_notify_attr(fs->notify, inode->ino);
  GSList *woken = qfs_inode_wake_locked(inode);
  g_mutex_unlock(&fs->lock);
  qfs_call_reply_status(call, "setxattr", request->status);
  qfs_calls_run(woken);
}

static gboolean is_in_group(const QfsCall *call, gid_t gid) {
  g_autofree gid_t *groups = g_new(gid_t, GROUPS_MAX);
  int n = fuse_req_getgroups(call->req, GROUPS_MAX, groups);
  gboolean found = call->gid == gid;
  for (int i = 0; i < MIN(n, GROUPS_MAX); i++)
    found = found || groups[i] == gid;
  return found;
}

/* An access list changes the mode, too, and is not kept if that says it all. Lock held. */
static int apply_acl_locked(QfsCall *call, QfsRequest *request, const void **value, gsize len) {
  const QfsAttr *attr = &call->inode->record->attr;
  mode_t mode = attr->mode;
  if (!qfs_acl_is_valid(*value, len))
    return EINVAL;
  if (qfs_acl_to_mode(*value, len, &mode))
    *value = NULL;
  if ((mode & S_ISGID) && call->uid != 0 && !call->got_group)
    mode &= ~(mode_t)S_ISGID;
  request->mask |= QFS_ATTR_MODE;
  request->attr.mode = mode;
  return 0;
}

static void run_change(QfsCall *call) {
  QfsFs *fs = call->fs;
  QfsInode *inode = call->inode;
  g_autoptr(GBytes) list = NULL;
  g_mutex_lock(&fs->lock);
  if (qfs_call_settle_first_unlock(call, inode, TRUE) || get_first_unlock(call, &list))
    return;
  if (inode->key == NULL || inode->record == NULL) {
    g_mutex_unlock(&fs->lock);
    qfs_call_reply_errno(call, ESTALE);
    return;
  }
  QfsRequest *request = qfs_request_new(QFS_REQUEST_SETATTR, inode->key, NULL, NULL);
  gsize len = 0;
  const void *value = call->data != NULL ? g_bytes_get_data(call->data, &len) : NULL;
  if (call->data != NULL && value == NULL)
    value = "";
  gboolean is_acl = strcmp(call->name, QFS_ACL_ACCESS) == 0 && value != NULL;
  int error = is_acl ? apply_acl_locked(call, request, &value, len) : 0;
  if (error == 0)
    error = qfs_xattrs_change(list, call->name, value, len, call->flags, &request->data);
  if (is_acl && value == NULL && error == ENODATA) { /* there was none: the mode changes alone */
    error = 0;
    request->data = list != NULL ? g_bytes_ref(list) : g_bytes_new_static("", 0);
  }
  if (error != 0) {
    g_mutex_unlock(&fs->lock);
    qfs_request_free(request);
    qfs_call_reply_errno(call, error);
    return;
  }
  request->mask |= QFS_ATTR_XATTRS | QFS_ATTR_CTIME;
  request->attr.ctime_ns = qfs_fs_now_ns();
  inode->blocked++;
  qfs_call_submit_mutation_unlock(call, inode, request, changed);
}

static void change(fuse_req_t req, fuse_ino_t ino, const char *name, GBytes *value, QfsXattrHow how) {
  QfsCall *call = qfs_call_new(req, run_change);
  call->inode = qfs_inode_get(call->fs, ino);
  call->name = g_strdup(name);
  call->data = value;
  call->flags = how;
  if (call->inode == NULL || call->inode->control) {
    qfs_call_reply_errno(call, call->inode == NULL ? ESTALE : EPERM);
    return;
  }
  if (strcmp(name, QFS_ACL_ACCESS) == 0) {
    g_mutex_lock(&call->fs->lock);
    gid_t gid = call->inode->record != NULL ? call->inode->record->attr.gid : 0;
    g_mutex_unlock(&call->fs->lock);
    call->got_group = is_in_group(call, gid);
  }
  run_change(call);
}

/* --- what a write takes away --- */

static void dropped(QfsCall *call, QfsRequest *request) {
  QfsFs *fs = call->fs;
  QfsInode *inode = call->inode;
  g_mutex_lock(&fs->lock);
  inode->blocked--;
  qfs_inode_mutated_locked(fs, inode, request, call->doubts);
  GSList *woken = qfs_inode_wake_locked(inode);
  g_mutex_unlock(&fs->lock);
  if (request->status == QFS_OK)
    qfs_call_run(call);
  else
    qfs_call_reply_status(call, "write", request->status);
  qfs_calls_run(woken);
}

gboolean qfs_stored_drop_capability_unlock(QfsCall *call) {
  static const char name[] = "security.capability";
  QfsInode *inode = call->inode;
  gsize len;
  if (inode->record == NULL || g_bytes_get_size(inode->record->xattrs) == 0 ||
      qfs_xattrs_find(inode->record->xattrs, name, &len) == NULL)
    return FALSE;
  QfsRequest *request = qfs_request_new(QFS_REQUEST_SETATTR, inode->key, NULL, NULL);
  qfs_xattrs_change(inode->record->xattrs, name, NULL, 0, QFS_XATTR_SET, &request->data);
  request->mask = QFS_ATTR_XATTRS | QFS_ATTR_CTIME;
  request->attr.ctime_ns = qfs_fs_now_ns();
  inode->blocked++;
  qfs_call_submit_mutation_unlock(call, inode, request, dropped);
  return TRUE;
}

void qfs_stored_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, gsize len, int flags) {
  gsize name_len = strlen(name);
  if (!is_supported(name))
    fuse_reply_err(req, EOPNOTSUPP);
  else if (name_len > G_MAXUINT8)
    fuse_reply_err(req, ERANGE);
  else if (len > QFS_XATTR_VALUE_MAX)
    fuse_reply_err(req, E2BIG);
  else
    change(req, ino, name, g_bytes_new(value, len),
           flags & XATTR_CREATE    ? QFS_XATTR_CREATE
           : flags & XATTR_REPLACE ? QFS_XATTR_REPLACE
                                   : QFS_XATTR_SET);
}

void qfs_stored_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name) {
  if (is_supported(name))
    change(req, ino, name, NULL, QFS_XATTR_SET);
  else
    fuse_reply_err(req, EOPNOTSUPP);
}
