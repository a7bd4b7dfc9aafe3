/* pages.h - which version the kernel's cached pages of an inode belong to, and when they must go.
 *
 * Who fills pages: READs without a lock owner (page cache, mmap). They are always answered from the
 * newest record (handle.h H3), so pages are wrong only after a change that the kernel did not make
 * in them:
 *  - a direct write (O_WRONLY): pages go before it is answered;
 *  - a publication at RELEASE, a change by rpc, an append by O_RDWR that landed elsewhere: they
 *    go soon after.
 * The kernel drops pages itself at an O_TRUNC open and at an open without keep_cache, that is
 * before the first request of that handle; so such a handle's first request proves them gone.
 *
 * Invariants
 *   P1. fills == clean_fills: no page is cached.
 *   P2. pages_of == record's timestamp: every cached page belongs to it, an open may keep them.
 *
 * Threading: fs->lock, as named.
 */
#pragma once

#include "fs/handle.h"
#include "fs/notify.h"

G_BEGIN_DECLS

/* At the open of a handle that reads through the cache: keep_cache? Remembers what the answer
 * implies. */
gboolean qfs_pages_open_locked(QfsHandle *handle);
/* At the open of a replacing writer. */
void qfs_pages_truncating_open_locked(QfsHandle *handle);
/* A page fill through `handle` is about to be answered from inode->record. */
void qfs_pages_fill_locked(QfsHandle *handle);
/* A WRITE through `handle` arrived. */
void qfs_pages_write_begins_locked(QfsHandle *handle);
/* After inode->record changed by a direct write: TRUE when pages must be dropped
 * (qfs_pages_drop_locked) before it is answered. */
gboolean qfs_pages_written_locked(QfsInode *inode);
/* Posts the drop; `then` (may be NULL) follows on the notification thread. */
void qfs_pages_drop_locked(QfsFs *fs, QfsInode *inode, QfsNotifyThen then, gpointer data);

G_END_DECLS
