/* inode.h - what the kernel knows by number, and the newest acknowledged record of each.
 *
 * Owns: numbering, lookup counts, the table from keys to inodes, the cached record and what it may
 * be used for, the state that orders operations on one inode. Leaves to others: handles
 * (handle.h), replies.
 *
 * Invariants
 *   I1. At most one inode has a given key as its name; one that lost its last name (unlink, rename
 *       over it) is not in by_key. It stays usable through its handles, under "/orphan/N". If
 *       it was lost behind the kernel's back its key is NULL: reads go on from the last record,
 *       writes fail with ESTALE. Files with several names: names.h.
 *   I2. `record` is an acknowledged version, never one in flight: size and times change after W
 *       acknowledgements. It only moves to newer versions while `known` says so.
 *   I3. The nodeid is a counter, never used twice. st_ino is made from the birth time and kept
 *       while the kernel knows the inode, also across rename; no two known inodes share one.
 *   I4. While `blocked` > 0 an operation that changes the inode's name, or publishes at release,
 *       is under way: whoever names or changes the inode is parked and runs again afterwards.
 *       READ never waits for it.
 *   I5. A created file that was not published yet (`pending`) has no record, has a handle that
 *       owes it, and holds its directory in `parent`.
 *
 * Threading: every function ends in _locked (fs->lock held) or takes the lock itself.
 */
#pragma once

#include "fs/fs_private.h"

G_BEGIN_DECLS

typedef enum {
  QFS_KNOWN_NOTHING, /* the record may be outdated: ask the engine */
  QFS_KNOWN_ATTRS,   /* from a listing: the tail is missing */
  QFS_KNOWN_ALL,
} QfsKnown;

struct QfsInode {
  fuse_ino_t ino;   /* constant */
  guint64 st_ino;   /* constant */
  gboolean control; /* constant: below .quorumfs */
  gboolean replica; /* constant: a control inode below nodes/I/keys; its record is what was found there last */

  /* All below: fs->lock. */
  guint refs; /* handles, calls, table entries of others; one for nlookup > 0 */
  guint64 nlookup;
  char *key;      /* NULL: I1 */
  GHashTable *links; /* names.h: set of names that lead to it, besides its key; NULL: none */
  gboolean named; /* in by_key */
  QfsRecord *record;
  QfsKnown known;
  mode_t mode; /* file type bits; fixed */
  guint64 told;           /* timestamp of the record whose attributes the kernel got last; 0: it does not keep them */
  guint64 stand;          /* qfs_engine_stand when the engine was last asked for it by an open; 0: never */
  gint64 trusted_until_us; /* opens take `record` on trust until then, while `stand` is the same */

  gboolean pending;   /* I5 */
  QfsAttr attr;       /* of a pending file, and of a root without record */
  GBytes *xattrs;     /* I5; NULL: none */
  QfsInode *parent;   /* I5 */
  GList pending_link; /* in fs->pending */

  GList crowd_link; /* in fs->crowd (crowd.h); data is NULL: not */

  gint64 atime_ns;       /* later than the record's, and not yet stored (atime.h); 0: none */
  gboolean atime_queued; /* in fs->read_inodes */

  guint blocked;             /* I4 */
  guint mutations;           /* requests that change this inode and are under way */
  GQueue parked;             /* of QfsCall: run again when something here changed */
  GQueue handles;            /* of QfsHandle, open files only */
  gint64 contended_until_us; /* until then readers are direct (handle.h) */
  GQueue openers;         /* of QfsCall: opens that wait for handles or for each other, by arrival
                             (handle.h) */

  guint64 pages_of;    /* version that every cached page belongs to; 0: unknown */
  guint64 fills;       /* READs that may have put pages into the cache; pages.h P1, P2 */
  guint64 clean_fills; /* how many of them are known to be dropped */

  /* Directories. */
  guint64 changes; /* raised by each change of a child: a listing page fetched before is outdated */
  guint pending_children;
  gint64 times_ns;      /* mtime and ctime that are newer than the record's; 0: none */
  gboolean times_dirty;   /* in fs->dirty_dirs */
  gboolean times_storing; /* they are being stored: times that are set explicitly wait */
};

void qfs_inode_table_init(QfsFs *fs);
void qfs_inode_table_free(QfsFs *fs);

/* NULL when the kernel names an inode that it was never told of. The result is referenced. */
QfsInode *qfs_inode_get(QfsFs *fs, fuse_ino_t ino);
QfsInode *qfs_inode_get_locked(QfsFs *fs, fuse_ino_t ino);
QfsInode *qfs_inode_ref_locked(QfsInode *inode);
void qfs_inode_unref_locked(QfsFs *fs, QfsInode *inode); /* accepts NULL */
void qfs_inode_unref(QfsFs *fs, QfsInode *inode);        /* accepts NULL */
void qfs_inode_forget(QfsFs *fs, fuse_ino_t ino, guint64 nlookup);

/* The inode that has this name, as its key or as a link, or NULL; not referenced. */
QfsInode *qfs_inode_by_key_locked(QfsFs *fs, const char *key);
/* The inode of an existing record: found or made, and told what the record says (I2). `doubts` is
 * fs->doubts as it was when the record was asked for. keep: it is about to be opened, its bytes are
 * needed. Referenced. */
QfsInode *qfs_inode_of_record_locked(QfsFs *fs, QfsRecord *record, QfsKnown known, guint64 doubts,
                                     gboolean keep);
QfsInode *qfs_inode_new_control_locked(QfsFs *fs, const char *key, mode_t mode);
/* What a replica alone has, under a key below .quorumfs. Found, if it is the same sort of thing, or made. */
QfsInode *qfs_inode_new_replica_locked(QfsFs *fs, const char *key, QfsRecord *record);
/* May the inode go on as this record? Type, and the target of a symlink, which the kernel caches, never change. */
gboolean qfs_inode_is_replica_of_locked(const QfsInode *inode, const QfsRecord *record);
void qfs_inode_take_replica_locked(QfsInode *inode, QfsRecord *record);
QfsInode *qfs_inode_new_pending_locked(QfsFs *fs, QfsInode *parent, const char *key,
                                       const QfsAttr *attr);

void qfs_inode_learn_locked(QfsFs *fs, QfsInode *inode, QfsRecord *record, QfsKnown known,
                            guint64 doubts);
/* Would the engine answer a GET with inode->record (as far as it is known)? Its changes have been told (I2), and no
 * node that might be needed for it came or went since it was asked. A second later it is asked again, so that files
 * that were damaged or deleted underneath are noticed, however often a value is read from the page cache. */
gboolean qfs_inode_is_trusted_locked(QfsFs *fs, const QfsInode *inode);
/* An open asked the engine under `stand`, and learned what it answered. */
void qfs_inode_trust_locked(QfsInode *inode, guint64 stand);
/* Drops the bytes of a value that is not open, so that memory follows open files and not known
 * names. */
void qfs_inode_trim_locked(QfsInode *inode);
/* A request that changed `inode` ended. Counts it down, learns its record, and marks what it left
 * unknown. Directory listings of the parent become outdated. */
void qfs_inode_mutated_locked(QfsFs *fs, QfsInode *inode, const QfsRequest *request,
                              guint64 doubts);
/* Nothing is known for certain any more. */
void qfs_inode_doubt_locked(QfsFs *fs, QfsInode *inode);

/* The name is gone; key becomes `key` (taken over, may be NULL). */
void qfs_inode_unname_locked(QfsFs *fs, QfsInode *inode, char *key);
void qfs_inode_rename_locked(QfsFs *fs, QfsInode *inode, const char *key);
/* The file was published or given up (I5). */
void qfs_inode_settle_pending_locked(QfsFs *fs, QfsInode *inode);

/* Makes the parked calls runnable; run them with qfs_calls_run after unlocking. */
GSList *qfs_inode_wake_locked(QfsInode *inode);

/* A name in this directory changed at `now_ns`. */
void qfs_inode_touch_dir_locked(QfsFs *fs, QfsInode *dir, gint64 now_ns);
/* Its times are to be stored within a second. */
void qfs_inode_times_dirty_locked(QfsFs *fs, QfsInode *dir);
/* A child of the directory of `key` changed. */
void qfs_inode_child_changed_locked(QfsFs *fs, const char *key);

/* Attributes of something that a user makes in `dir`: its group and set-gid bit go on as in other
 * systems. */
void qfs_inode_child_attr_locked(QfsFs *fs, const QfsInode *dir, mode_t mode, uid_t uid, gid_t gid,
                                 QfsAttr *out_attr);

/* Its access lists, or NULL, and its mode by them or by the umask (acl.h). */
GBytes *qfs_inode_child_xattrs_locked(const QfsInode *dir, mode_t umask, mode_t *mode);

gboolean qfs_inode_is_dir(const QfsInode *inode);
/* FALSE: nothing is known. */
gboolean qfs_inode_attr_locked(QfsFs *fs, QfsInode *inode, struct stat *out_stat);
/* How long the kernel may keep the attributes that it is about to get. */
double qfs_inode_attr_timeout_locked(QfsInode *inode);
/* Does the kernel have what an entry for `key` would tell it, as far as is known here? */
gboolean qfs_inode_was_told_locked(const QfsInode *inode, const char *key);
/* Fills the whole entry and counts one lookup. FALSE: nothing is known of it. */
gboolean qfs_inode_entry_locked(QfsFs *fs, QfsInode *inode, struct fuse_entry_param *out_entry);
/* st_ino that a record not known to the kernel would get. */
guint64 qfs_inode_number_locked(QfsFs *fs, const QfsRecord *record);

/* Key of `name` in `dir`. 0, or ENOENT, ENAMETOOLONG, EPERM (reserved), EROFS (a replica's), EINVAL. */
int qfs_inode_child_key_locked(const QfsInode *dir, const char *name, char **out_key);

G_END_DECLS
