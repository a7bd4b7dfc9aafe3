/* names.h - the names of inodes: one that is the inode's key, or several that lead to it.
 *
 * A file that was linked has a key of its own, "/link/ID" (storage/record.h), and so has its inode: whatever is done to
 * the file goes there, through whichever name it was found. Which names lead to it is known as far as the kernel
 * looked them up, and kept as long as the inode is.
 *
 * Invariants
 *   N1. At most one inode has a name: as its key (inode.h I1), or among its links. Only a named inode with a key below
 *       "/link" has links.
 *   N2. An answer of the engine about a name may be older or newer than what is known here only while a link or a
 *       rename is on its way: then it is asked for again (qfs_names_outran).
 *
 * Threading: fs->lock held.
 */
#pragma once

#include "fs/call.h"

G_BEGIN_DECLS

void qfs_names_init(QfsFs *fs);
void qfs_names_free(QfsFs *fs);

gboolean qfs_inode_is_linked_locked(const QfsInode *inode);
/* `name` leads to the linked inode, and to no other. */
void qfs_inode_add_link_locked(QfsFs *fs, QfsInode *inode, const char *name);
/* Nobody knows any more where `name` leads to, if it was a link. */
void qfs_names_drop_link_locked(QfsFs *fs, const char *name);
void qfs_inode_drop_links_locked(QfsFs *fs, QfsInode *inode);
/* The inode takes, or loses, a name, in whichever way it has names. */
void qfs_inode_take_name_locked(QfsFs *fs, QfsInode *inode, const char *name);
void qfs_inode_lose_name_locked(QfsFs *fs, QfsInode *inode, const char *name);
/* It was linked: its key is `key` now, below "/link", its former one a link like `name`. */
void qfs_inode_become_linked_locked(QfsFs *fs, QfsInode *inode, const char *key, const char *name);
/* After a request that took `name` away, as it was asked for with `keep` (or NULL): `left` is what the engine says of the
 * file now, or NULL. */
void qfs_inode_name_taken_locked(QfsFs *fs, QfsInode *inode, const char *name, const char *keep, QfsRecord *left,
                                 guint64 doubts);
guint qfs_inode_nlink_locked(const QfsInode *inode);

/* A LINK's file, if its inode is known; not referenced. */
QfsInode *qfs_names_of_link_locked(QfsFs *fs, const QfsRecord *link);
/* N2: `record` was the answer about `name`. */
gboolean qfs_names_outran_locked(QfsFs *fs, const char *name, const QfsRecord *record);
/* The inode of the answer about `name` (qfs_inode_of_record_locked), to which the name leads from now on. Referenced. */
QfsInode *qfs_names_inode_locked(QfsFs *fs, const char *name, QfsRecord *record, guint64 doubts, gboolean keep);

/* Names that are known to lead to the file at `key`, NULL-terminated, newly allocated. Takes the lock. */
char **qfs_names_known(const char *key, gpointer fs);

G_END_DECLS
