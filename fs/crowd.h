/* crowd.h - a bound on the names that the kernel keeps, and so on what is kept here for each.
 *
 * The kernel forgets a name only when memory runs short; until then this daemon must know its inode: a listing of a
 * million files with their attributes would take a gigabyte here. So beyond a limit the oldest names that nobody uses
 * are taken from the kernel, two for each new one; it asks again when it needs them.
 *
 * Owns: the order in which the kernel came to know inodes. Directories, files below .quorumfs and those that are open
 * stay.
 *
 * Threading: fs->lock.
 */
#pragma once

#include "fs/fs_private.h"

G_BEGIN_DECLS

#define QFS_CACHED_NAMES_DEFAULT 131072

/* The kernel came to know it. */
void qfs_crowd_add_locked(QfsFs *fs, QfsInode *inode);
/* It forgot it. */
void qfs_crowd_remove_locked(QfsFs *fs, QfsInode *inode);

G_END_DECLS
