/* ops_control.h - .quorumfs and what is below it, as inodes: never cached, never from a node.
 * The names and contents are control.h's. */
#pragma once

#include "fs/handle.h"

G_BEGIN_DECLS

/* Is `name` in `dir` (".quorumfs" in the root included) the control tree's? */
gboolean qfs_control_owns_child(const QfsInode *dir, const char *name);
/* The path of a control inode relative to .quorumfs; borrowed. Its key never changes. */
const char *qfs_control_path(const QfsInode *inode);

/* ops_keys.c: below nodes/I/keys. */
gboolean qfs_keys_is_dir(QfsFs *fs, const QfsInode *inode, guint *out_node, const char **out_key);
void qfs_keys_lookup(QfsCall *call, const char *key); /* the inode's key, below .quorumfs */
void qfs_keys_getattr(QfsCall *call);                 /* call->inode, which is a replica's */
/* The children of `dir` behind `after`, at most `limit`; 0 or an errno. */
int qfs_keys_page(QfsFs *fs, const QfsInode *dir, const char *after, guint limit, GPtrArray **out_entries,
                  gboolean *out_more);

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
