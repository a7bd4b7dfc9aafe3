/* notify.h - telling the kernel to forget, from threads of their own.
 *
 * Invariants
 *   N1. Three threads. `pages` drops cached pages: that waits for locked pages, thus for READs and
 *       cached WRITEs under way. `names` drops directory entries and attributes: that waits for
 *       directory locks, thus for any name operation, which may in turn wait for a file's
 *       writer. `polls` wakes who polls a control file: that waits for nothing.
 *   N2. Only the WRITE of a direct (O_WRONLY) handle and an LSEEK, which lock no page, wait for `pages`, and only
 *       the answer of rpc, which holds no kernel lock, for both. No READ, cached WRITE or name
 *       operation waits for either: no cycle.
 *
 * Threading: any thread, fs->lock may be held.
 */
#pragma once

#include "fs/fs_private.h"

G_BEGIN_DECLS

typedef void (*QfsNotifyThen)(gpointer data);

QfsNotify *qfs_notify_new(QfsFs *fs);
/* From now on nothing is sent; `then` callbacks run at once. */
void qfs_notify_quiesce(QfsNotify *notify);
gboolean qfs_notify_is_idle(QfsNotify *notify);
void qfs_notify_free(QfsNotify *notify);

/* Drops the cached pages of `ino`, then calls `then` (may be NULL). */
void qfs_notify_pages(QfsNotify *notify, fuse_ino_t ino, QfsNotifyThen then, gpointer data);
/* Drops the cached attributes. */
void qfs_notify_attr(QfsNotify *notify, fuse_ino_t ino);
/* Drops the entry (also a negative one). gentle: it is looked up again, but a directory stays
 * attached. */
void qfs_notify_entry(QfsNotify *notify, fuse_ino_t dir, const char *name, gboolean gentle);
/* A file that somebody polls has become readable; takes the handle over. A thread of its own: it waits for no lock. */
void qfs_notify_poll(QfsNotify *notify, struct fuse_pollhandle *ph);
/* Calls `then` when everything asked for so far was sent. */
void qfs_notify_fence(QfsNotify *notify, QfsNotifyThen then, gpointer data);

G_END_DECLS
