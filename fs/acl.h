/* acl.h - POSIX access control lists, as they are in extended attributes; see acl(5).
 *
 * The kernel checks permissions by them (FUSE_CAP_POSIX_ACL, default_permissions) and leaves to us what keeps them and
 * the mode in step: POSIX 1003.1e draft 17, as in the kernel's fs/posix_acl.c.
 *
 * Pure functions, any thread.
 */
#pragma once

#include <glib.h>
#include <sys/types.h>

G_BEGIN_DECLS

#define QFS_ACL_ACCESS "system.posix_acl_access"
#define QFS_ACL_DEFAULT "system.posix_acl_default"

gboolean qfs_acl_is_valid(const void *value, gsize len);
/* The permission bits that a valid access list stands for replace those of *mode. TRUE: it says no more than the mode
 * does, and is not to be kept. */
gboolean qfs_acl_to_mode(const void *value, gsize len, mode_t *mode);
/* What becomes of the attributes `xattrs` of a file by chmod to `mode`: a list, NULL: they stay. */
GBytes *qfs_acl_chmod(GBytes *xattrs, mode_t mode);
/* Attributes of something made in a directory with the attributes `dir`, and its mode: by the default list, or by the
 * umask if there is none. NULL: none. */
GBytes *qfs_acl_inherit(GBytes *dir, mode_t umask, mode_t *mode);

G_END_DECLS
