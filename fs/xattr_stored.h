/* xattr_stored.h - extended attributes that a record holds; see xattr_stored.c. Each answers the request. */
#pragma once

#include "fs/handle.h"
#include "fs/notify.h"
#include "fs/xattrs.h"

G_BEGIN_DECLS

/* name NULL: the names of all. */
void qfs_stored_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, gsize room);
void qfs_stored_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, gsize len, int flags);
void qfs_stored_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name);
/* Before a WRITE through a direct handle: the kernel takes file capabilities away only where it caches pages. Lock held;
 * TRUE: released, and the call runs again. */
gboolean qfs_stored_drop_capability_unlock(QfsCall *call);

G_END_DECLS
