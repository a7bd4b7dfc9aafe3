/* handle.h - open files, and the rule between readers and writers of one inode (DESIGN 4).
 *
 * Owns: who waits for whom at open, what an open writer owes, versions pinned by readers,
 * publication.
 *
 * Invariants
 *   H1. A handle that opened with O_TRUNC, or created the file, `owes` a publication until some
 *       write carried it: its own first WRITE, anybody else's WRITE (which then replaces, as
 *       truncation came before it), an operation that needs the file to be there (setattr,
 *       rename, unlink, fsync, O_RDWR open), or RELEASE. A newer version from elsewhere (rpc),
 *       and a first WRITE that failed, cancel the debt.
 *   H2. A `replacing` handle's next WRITE is a REPLACE; later ones write in place.
 *   H3. Only read(2) by a `pinned` handle sees the pinned version; a page fill (a READ without
 *       lock owner: mmap, page cache) always gets the newest, so cached pages never hold an old
 *       version on purpose. Its first read(2) pins the newest version anew, unless a replacing
 *       writer is in the middle of a value. The pin ends when its sequential pass reached the end,
 *       reads elsewhere, or pauses for QFS_PIN_US.
 *   H5. The truncation of a `conditional` handle is nobody else's: it is published with its own first WRITE, or at
 *       its RELEASE, if the stored timestamp is the one that was asked for, else not at all.
 *   H4. Nobody waits at open for a handle that has `outlasted` one such wait.
 *
 * Where readers and writers of one key meet, readers go direct for a while, also when no writer is
 * open: the kernel sets the size to 0 at every O_TRUNC open, and a cached read(2) under way then
 * would see nothing.
 *
 * Threading: fields by fs->lock; functions as named.
 */
#pragma once

#include "fs/call.h"

G_BEGIN_DECLS

typedef enum {
  QFS_HANDLE_READER,
  QFS_HANDLE_WRITER,
  QFS_HANDLE_BOTH,
  QFS_HANDLE_CONTROL
} QfsHandleKind;

struct QfsHandle {
  QfsInode *inode;         /* constant, referenced */
  QfsHandleKind kind;      /* constant */
  int flags;               /* constant: of open(2) */
  gboolean cached;         /* constant: a reader by way of the page cache */
  gboolean truncates;      /* constant: O_TRUNC, a replacing writer until its release */
  QfsControlFile *control; /* constant, owned */
  guint refs;              /* the kernel's and those of calls */
  GList link;              /* in inode->handles until closed */

  gboolean owes;        /* H1 */
  gboolean keeps_setid; /* ... which leaves set-id bits alone: root opened it */
  gboolean replacing;   /* H2 */
  gboolean first_write; /* the REPLACE is under way */
  gboolean failed;      /* the last REPLACE failed: the old value stays */
  gboolean conditional; /* H5: what it owes, and its REPLACE, is only for the stored timestamp ... */
  guint64 if_timestamp;
  gboolean announced;   /* its RELEASE was read: inode->blocked is held for its publication */
  gboolean outlasted;   /* H4 */
  gint64 active_us;     /* its open, or a cached reader's last READ */

  guint64 fresh_of;      /* pages.h: opened without keep_cache at this version; 0: no */
  guint64 fills_at_open; /* pages.h: of a replacing writer */

  gboolean pinned; /* H3 */
  QfsRecord *pin;  /* NULL: pinned to "empty" */
  gint64 pin_until_us;
  guint64 next_offset; /* where a sequential pass goes on */
};

static inline QfsHandle *qfs_handle_of(const struct fuse_file_info *fi) {
  return (QfsHandle *)(gsize)fi->fh;
}

/* Makes and registers a handle. */
QfsHandle *qfs_handle_new_locked(QfsFs *fs, QfsInode *inode, QfsHandleKind kind, int flags);
QfsHandle *qfs_handle_ref_locked(QfsHandle *handle);
void qfs_handle_unref_locked(QfsFs *fs, QfsHandle *handle);
/* The kernel let go of it, or never got it (`aborted`: nothing that it owes is published). */
void qfs_handle_close(QfsFs *fs, QfsHandle *handle, gboolean aborted);

/* The RELEASE of this handle was read from the kernel, and no later request yet: what it owes is
 * announced, so that whatever comes next waits for it. Called under the receive lock. */
void qfs_handle_announce_release(QfsFs *fs, guint64 fh);

/* Must this open of a reader (of a replacing writer) wait: for handles of the other sort, or for an
 * open of the other sort that waits since earlier? (First come, first served, or one sort would
 * keep the other out.) Queues it if so. When it has waited: marks H4 and says no. */
gboolean qfs_handle_open_waits_locked(QfsCall *call);
/* Is some replacing writer open, a publication owed, or was it so lately? */
gboolean qfs_inode_is_contended_locked(const QfsInode *inode);
gboolean qfs_inode_owes_locked(const QfsInode *inode);
/* No handle owes anything any more. */
void qfs_inode_clear_debts_locked(QfsInode *inode);

/* Ends the pinning of one handle, of all; the result is to be given to qfs_fs_drop_pins after
 * unlocking. */
GSList *qfs_handle_unpin_locked(QfsHandle *handle, GSList *pins);
GSList *qfs_inode_unpin_all_locked(QfsInode *inode, GSList *pins);
void qfs_fs_drop_pins(QfsFs *fs, GSList *pins);

/* After a request on it ended: what nobody has open any more is given up (a creation) or returned
 * as the hidden key to remove. */
char *qfs_inode_abandoned_locked(QfsFs *fs, QfsInode *inode);
/* Removes the hidden key of an unlinked file that nobody has open any more; takes `key` (NULL:
 * nothing). */
void qfs_handle_remove_orphan(QfsFs *fs, char *key);

/* The common beginning of an operation that names or changes `inode` (may be NULL): parks it while
 * the inode is blocked; with `publish`, publishes first what is owed (H1), parked meanwhile. Lock
 * held. FALSE: held still, go on. TRUE: released, the call is parked, or answered because the
 * publication failed. */
gboolean qfs_call_settle_first_unlock(QfsCall *call, QfsInode *inode, gboolean publish);

G_END_DECLS
