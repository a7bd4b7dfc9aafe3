/* names.c - see names.h. */
#include "fs/names.h"

#include <string.h>

void qfs_names_init(QfsFs *fs) { fs->by_link = g_hash_table_new(g_str_hash, g_str_equal); }

void qfs_names_free(QfsFs *fs) { g_hash_table_unref(fs->by_link); }

gboolean qfs_inode_is_linked_locked(const QfsInode *inode) {
  return inode->named && !inode->control && inode->key != NULL && qfs_key_below(QFS_LINK_DIR, inode->key) != NULL;
}

void qfs_names_drop_link_locked(QfsFs *fs, const char *name) {
  QfsInode *inode = g_hash_table_lookup(fs->by_link, name);
  if (inode == NULL)
    return;
  qfs_inode_child_changed_locked(fs, name);
  g_hash_table_remove(fs->by_link, name);
  g_hash_table_remove(inode->links, name); /* frees the name in both */
}

void qfs_inode_add_link_locked(QfsFs *fs, QfsInode *inode, const char *name) {
  g_assert(qfs_inode_is_linked_locked(inode));
  QfsInode *old = qfs_inode_by_key_locked(fs, name);
  if (old == inode)
    return;
  if (old != NULL)
    qfs_inode_lose_name_locked(fs, old, name); /* N1 */
  if (inode->links == NULL)
    inode->links = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
  char *own = g_strdup(name);
  g_hash_table_add(inode->links, own);
  g_hash_table_insert(fs->by_link, own, inode);
  qfs_inode_child_changed_locked(fs, name);
}

void qfs_inode_drop_links_locked(QfsFs *fs, QfsInode *inode) {
  GHashTableIter iter;
  gpointer name;
  if (inode->links == NULL)
    return;
  g_hash_table_iter_init(&iter, inode->links);
  while (g_hash_table_iter_next(&iter, &name, NULL)) {
    qfs_inode_child_changed_locked(fs, name);
    g_hash_table_remove(fs->by_link, name);
  }
  g_clear_pointer(&inode->links, g_hash_table_unref);
}

void qfs_inode_take_name_locked(QfsFs *fs, QfsInode *inode, const char *name) {
  if (qfs_inode_is_linked_locked(inode))
    qfs_inode_add_link_locked(fs, inode, name);
  else
    qfs_inode_rename_locked(fs, inode, name);
}

void qfs_inode_lose_name_locked(QfsFs *fs, QfsInode *inode, const char *name) {
  if (!qfs_inode_is_linked_locked(inode))
    qfs_inode_unname_locked(fs, inode, NULL);
  else if (g_hash_table_lookup(fs->by_link, name) == inode)
    qfs_names_drop_link_locked(fs, name);
}

void qfs_inode_become_linked_locked(QfsFs *fs, QfsInode *inode, const char *key, const char *name) {
  if (!qfs_inode_is_linked_locked(inode)) {
    g_autofree char *former = g_strdup(inode->key);
    qfs_inode_rename_locked(fs, inode, key);
    qfs_inode_add_link_locked(fs, inode, former);
  }
  qfs_inode_add_link_locked(fs, inode, name);
}

void qfs_inode_name_taken_locked(QfsFs *fs, QfsInode *inode, const char *name, const char *keep, QfsRecord *left,
                                 guint64 doubts) {
  gboolean exists = qfs_record_exists(left);
  if (exists && g_strcmp0(left->key, keep) == 0)
    qfs_inode_unname_locked(fs, inode, g_strdup(keep));
  else if (exists && qfs_inode_is_linked_locked(inode) && strcmp(left->key, inode->key) == 0)
    qfs_names_drop_link_locked(fs, name);
  else
    qfs_inode_unname_locked(fs, inode, NULL);
  if (exists)
    qfs_inode_learn_locked(fs, inode, left, QFS_KNOWN_ALL, doubts);
}

guint qfs_inode_nlink_locked(const QfsInode *inode) {
  if (!inode->named)
    return 0;
  if (qfs_inode_is_linked_locked(inode) && inode->record != NULL && inode->record->attr.nlink > 0)
    return inode->record->attr.nlink;
  return 1; /* directories too: 1 says "links are not counted" */
}

QfsInode *qfs_names_of_link_locked(QfsFs *fs, const QfsRecord *link) {
  g_autofree char *key = qfs_record_link_target(link);
  return g_hash_table_lookup(fs->by_key, key);
}

gboolean qfs_names_outran_locked(QfsFs *fs, const char *name, const QfsRecord *record) {
  const QfsInode *inode = qfs_inode_by_key_locked(fs, name);
  if (inode == NULL || inode->pending)
    return FALSE;
  return strcmp(inode->key, record->key) != 0;
}

QfsInode *qfs_names_inode_locked(QfsFs *fs, const char *name, QfsRecord *record, guint64 doubts, gboolean keep) {
  if (strcmp(record->key, name) == 0)
    qfs_names_drop_link_locked(fs, name); /* N1 */
  QfsInode *inode = qfs_inode_of_record_locked(fs, record, QFS_KNOWN_ALL, doubts, keep);
  if (strcmp(record->key, name) != 0)
    qfs_inode_add_link_locked(fs, inode, name);
  return inode;
}

static gint by_name(gconstpointer a, gconstpointer b) { return strcmp(*(char *const *)a, *(char *const *)b); }

char **qfs_names_known(const char *key, gpointer data) {
  QfsFs *fs = data;
  g_mutex_lock(&fs->lock);
  const QfsInode *inode = g_hash_table_lookup(fs->by_key, key);
  g_autoptr(GPtrArray) names = g_ptr_array_new();
  GHashTableIter iter;
  gpointer name;
  if (inode != NULL && inode->links != NULL) {
    g_hash_table_iter_init(&iter, inode->links);
    while (g_hash_table_iter_next(&iter, &name, NULL))
      g_ptr_array_add(names, g_strdup(name));
  }
  g_mutex_unlock(&fs->lock);
  g_ptr_array_sort(names, by_name);
  g_ptr_array_add(names, NULL);
  return (char **)g_ptr_array_steal(names, NULL);
}
