/* crowd.c - see crowd.h. */
#include "fs/crowd.h"
#include "fs/handle.h"
#include "fs/notify.h"

#include <string.h>

#define LEAVE_MAX 2   /* names taken from the kernel for each new one */
#define LOOK_MAX 8    /* looked at for that */

void qfs_crowd_remove_locked(QfsFs *fs, QfsInode *inode) {
  if (inode->crowd_link.data == NULL)
    return;
  g_queue_unlink(&fs->crowd, &inode->crowd_link);
  inode->crowd_link.data = NULL;
}

static gboolean is_unused(QfsInode *inode) {
  return inode->named && !inode->pending && inode->blocked == 0 && inode->mutations == 0 &&
         g_queue_is_empty(&inode->handles) && inode->key[0] != '/';
}

/* FALSE: its directory is not known, so that the kernel has no such name. */
static gboolean send_away(QfsFs *fs, const QfsInode *inode) {
  gsize dir_len;
  const char *name;
  qfs_key_split(inode->key, &dir_len, &name);
  g_autofree char *above = g_strndup(inode->key, dir_len);
  const QfsInode *dir = qfs_inode_by_key_locked(fs, above);
  if (dir == NULL)
    return FALSE;
  qfs_notify_entry(fs->notify, dir->ino, name, FALSE);
  return TRUE;
}

void qfs_crowd_add_locked(QfsFs *fs, QfsInode *inode) {
  if (qfs_inode_is_dir(inode) || inode->control)
    return;
  inode->crowd_link.data = inode;
  g_queue_push_tail_link(&fs->crowd, &inode->crowd_link);
  guint leave = 0;
  for (guint i = 0; i < LOOK_MAX && leave < LEAVE_MAX && fs->crowd.length > fs->cached_names; i++) {
    GList *link = g_queue_pop_head_link(&fs->crowd);
    g_queue_push_tail_link(&fs->crowd, link); /* until the kernel has forgotten it, or in use */
    leave += is_unused(link->data) && send_away(fs, link->data);
  }
}
