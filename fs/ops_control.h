/* ops_control.h - .quorumfs and what is below it, as inodes: never cached, never from a node.
 * The names and contents are control.h's. */
#pragma once

#include "fs/handle.h"

G_BEGIN_DECLS

/* Is `name` in `dir` (".quorumfs" in the root included) the control tree's? */
gboolean qfs_control_owns_child(const QfsInode *dir, const char *name);
/* The path of a control inode relative to .quorumfs; borrowed. Its key never changes. */
const char *qfs_control_path(const QfsInode *inode);

void qfs_control_lookup(QfsCall *call);     /* call->dir, call->name */
void qfs_control_open_call(QfsCall *call);  /* call->inode, call->fi */
void qfs_control_read_call(QfsCall *call);  /* call->handle, size, offset */
void qfs_control_poll_call(fuse_req_t req, QfsHandle *handle,
                           struct fuse_pollhandle *ph); /* any handle; takes `ph` over */
void qfs_control_write_call(QfsCall *call); /* call->handle, data, offset */

/* ops_attr.c; sends the entry and ends the call. */
void qfs_reply_entry(QfsCall *call, const struct fuse_entry_param *entry);
/* ops_file.c; answers OPEN with a registered handle, which is closed again if the kernel did not
 * take it. */
void qfs_reply_open(QfsCall *call, QfsHandle *handle);

G_END_DECLS
