/* direct_map.h - lets the kernel map files MAP_SHARED that are read past its page cache. */
#pragma once

#include "fs/fs_private.h"

G_BEGIN_DECLS

/* After fuse_session_mount, before the first request is taken. FALSE with errno: libfuse refused. Kernels before 6.6
 * do not know it, and go on answering ENODEV. */
gboolean qfs_direct_map_allow(struct fuse_session *se);

G_END_DECLS
