/* pages.c - see pages.h. */
#include "fs/pages.h"

gboolean qfs_pages_open_locked(QfsHandle *handle) {
  QfsInode *inode = handle->inode;
  guint64 version = inode->record != NULL ? inode->record->timestamp : 0;
  if (version != 0 && inode->pages_of == version)
    return TRUE;
  handle->fresh_of = version;
  return FALSE;
}

void qfs_pages_truncating_open_locked(QfsHandle *handle) {
  handle->fills_at_open = handle->inode->fills;
}

void qfs_pages_fill_locked(QfsHandle *handle) {
  QfsInode *inode = handle->inode;
  if (handle->fresh_of != 0) {
    /* The kernel dropped older pages when it took the answer to this handle's open. */
    if (inode->record != NULL && inode->record->timestamp == handle->fresh_of)
      inode->pages_of = handle->fresh_of;
    handle->fresh_of = 0;
  }
  inode->fills++;
}

void qfs_pages_write_begins_locked(QfsHandle *handle) {
  if (handle->truncates && handle->replacing)
    handle->inode->clean_fills = MAX(handle->inode->clean_fills, handle->fills_at_open);
}

gboolean qfs_pages_written_locked(QfsInode *inode) {
  gboolean cached = inode->fills != inode->clean_fills;
  inode->pages_of = cached || inode->record == NULL ? 0 : inode->record->timestamp;
  return cached;
}

typedef struct {
  QfsFs *fs;
  QfsInode *inode;
  guint64 mark;
  guint64 version;
  QfsNotifyThen then;
  gpointer data;
} Drop;

static void dropped(gpointer data) {
  Drop *drop = data;
  QfsFs *fs = drop->fs;
  QfsInode *inode = drop->inode;
  g_mutex_lock(&fs->lock);
  inode->clean_fills = MAX(inode->clean_fills, drop->mark);
  if (drop->version != 0 && inode->record != NULL && inode->record->timestamp == drop->version)
    inode->pages_of = drop->version; /* what was filled since then is of this version */
  qfs_inode_unref_locked(fs, inode);
  g_mutex_unlock(&fs->lock);
  if (drop->then != NULL)
    drop->then(drop->data);
  g_slice_free(Drop, drop);
}

void qfs_pages_drop_locked(QfsFs *fs, QfsInode *inode, QfsNotifyThen then, gpointer data) {
  Drop *drop = g_slice_new(Drop);
  *drop = (Drop){.fs = fs,
                 .inode = qfs_inode_ref_locked(inode),
                 .mark = inode->fills,
                 .version = inode->known == QFS_KNOWN_ALL && inode->record != NULL
                                ? inode->record->timestamp
                                : 0,
                 .then = then,
                 .data = data};
  inode->pages_of = 0;
  qfs_notify_pages(fs->notify, inode->ino, dropped, drop);
}
