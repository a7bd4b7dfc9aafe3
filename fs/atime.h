/* atime.h - when files were read last, by the rule of "relatime".
 *
 * An open for reading that is due (atime not later than mtime or ctime, or older than a day) is shown in the
 * attributes, from memory, whenever the kernel asks for them, and stored within a second by a change of the atime alone: that keeps ctime and the
 * version's timestamp (QFS_REQUEST_SETATTR), fails silently, and is not tried again before the next such open.
 * Files that were just read do not get in the way of those who use them: few such changes are under way at a time.
 *
 * Threading: fs->lock, as named.
 */
#pragma once

#include "fs/inode.h"

G_BEGIN_DECLS

/* What the mount options say. */
void qfs_atime_init(QfsFs *fs, const QfsFsConfig *config);
/* `inode` is being read by a handle with these open(2) flags. */
void qfs_atime_note_locked(QfsFs *fs, QfsInode *inode, int flags);
/* Unmounting: stores what is remembered, as far as that takes less than a second. */
void qfs_atime_store_all(QfsFs *fs);

G_END_DECLS
