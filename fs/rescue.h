/* rescue.h - ends the kernel's side of a mount whose daemon was killed.
 *
 * A daemon killed in the middle of telling the kernel to forget a name has a thread that waits in
 * the kernel for a directory's lock; the lock's holder waits for the dead daemon; and that thread
 * keeps /dev/fuse open, so the kernel never ends the connection by itself: everyone in the mount
 * would hang, unkillable. The way out is the connection's "abort" file, on the fusectl file system
 * (mounted or, as root, without being mounted). Nothing here looks at a path inside a mount, so
 * nothing here can hang itself.
 */
#pragma once

#include <glib.h>

/* Starts a process that waits for the calling thread's end and then ends the connection of the
 * mount at `mountpoint`, at once, whatever ended the daemon; after an orderly unmount it has
 * nothing to do. It holds no other file open and ends with its parent. FALSE: not possible here (no
 * rights to the abort file). Call from the main thread, after mounting. */
gboolean qfs_rescue_watch(const char *mountpoint);

/* Frees every mount whose daemon is dying: for watchers that were killed too. Called by mount and
 * umount before they look at any mountpoint. Without the rights it does nothing. */
void qfs_rescue_mounts(void);
