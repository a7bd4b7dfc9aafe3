/* mountpoint.h - the directory that a store is mounted on: may it be used, making it, cleaning up
 * what a crashed daemon left, unmounting.
 *
 * Nothing is changed by examine; prepare changes what examine promised and withdraw takes it back.
 * Threading: one thread at a time. Errors are one line, in QFS_MOUNTPOINT_ERROR.
 */
#pragma once

#include <glib.h>

G_BEGIN_DECLS

/* One line of the kernel's list of mounts. */
typedef struct {
  char *path;
  char *type;
  char *source;
  unsigned int minor; /* of the device: names the connection of a FUSE mount */
  unsigned int uid;   /* who mounted it, if it is a FUSE mount */
} QfsMount;

void qfs_mount_free(QfsMount *mount); /* accepts NULL */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QfsMount, qfs_mount_free)

/* All mounts of quorumfs, oldest first; never NULL. */
GPtrArray *qfs_mounts_list(void);

/* The uppermost mount at exactly `path` (absolute, symlinks resolved), of whatever type; NULL:
 * none. */
QfsMount *qfs_mounts_find(const char *path);
gboolean qfs_mount_is_ours(const QfsMount *mount);

typedef struct {
  char *path;       /* absolute, symlinks resolved */
  gboolean missing; /* prepare will make it */
  gboolean stale;   /* a crashed daemon's mount is there; prepare will remove it */
  gboolean mounted; /* a live quorumfs mount is there: not to be used */
  GPtrArray *made;  /* element-type char*: directories that prepare made, outermost first */
} QfsMountpoint;

void qfs_mountpoint_free(QfsMountpoint *point); /* accepts NULL */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QfsMountpoint, qfs_mountpoint_free)

/* Fails on what can't be a mountpoint: a file, a non-empty directory, another file system's broken
 * mount; and on a missing one unless `create`. */
QfsMountpoint *qfs_mountpoint_examine(const char *path, gboolean create, GError **error);
gboolean qfs_mountpoint_prepare(QfsMountpoint *point, GError **error);
void qfs_mountpoint_withdraw(QfsMountpoint *point);

/* Unmounts, as root by umount2(2), else by fusermount3. `lazy` detaches although files are open. */
gboolean qfs_mountpoint_unmount(const char *path, gboolean lazy, GError **error);

/* Is the daemon behind the mount at `path` gone? */
gboolean qfs_mountpoint_is_dead(const char *path);

/* The symlink-free absolute form of `path`, also when its last component is a dead mount or
 * missing. */
char *qfs_mountpoint_resolve(const char *path);

#define QFS_MOUNTPOINT_ERROR (qfs_mountpoint_error_quark())
GQuark qfs_mountpoint_error_quark(void);
typedef enum {
  QFS_MOUNTPOINT_ERROR_UNUSABLE,
  QFS_MOUNTPOINT_ERROR_BUSY,
  QFS_MOUNTPOINT_ERROR_SYSTEM
} QfsMountpointError;

G_END_DECLS
