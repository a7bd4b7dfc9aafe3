/* rescue.h - frees mounts whose daemon was killed in the middle of telling the kernel to forget a name.
 *
 * Such a daemon has a thread that waits in the kernel for a directory's lock; its holder waits for the dead
 * daemon; and the thread keeps /dev/fuse open, so the kernel never ends the connection by itself. The last
 * resort is /sys/fs/fuse/connections/N/abort. Only mounts whose daemon is known to be dying are touched,
 * and nothing here looks at a path inside a mount, so it never blocks.
 */
#pragma once

/* Called by mount and umount before they look at any mountpoint. Without the rights it does nothing. */
void qfs_rescue_mounts(void);
