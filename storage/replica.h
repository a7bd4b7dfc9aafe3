/* replica.h - one node's copy of its records and chunks, behind a table of functions.
 *
 * Owns: what is durable at one node: records, chunks, intents of multi-key batches, and the node's
 * metadata (identity, view of the cluster, marks). The last-writer rule is enforced here, inside the
 * transaction. Leaves to others: which node holds what, sequence numbers, epochs' meaning.
 *
 * Two implementations: SQLite (qfs_sqlite_replica_open, the product) and an in-memory model with
 * faults (tests/sim). Callers use the qfs_replica_* wrappers at the end.
 *
 * Invariants
 *  S1. A stored record is never replaced by an older version (record.h R2), except by
 *      record_apply(force), which repair uses on a node that is not in sync, and the
 *      node on tombstones that were collected elsewhere.
 *  S2. Nothing is visible to other connections before commit returned TRUE; after a FALSE from any
 *      writing call the transaction must be rolled back and the node counts as failed until reopened.
 *  S3. commit(durable=TRUE) returns TRUE only when this and every earlier commit is on stable storage.
 *  S4. Records and chunks returned have passed their checksum; a bad one gives QFS_REPLICA_ERROR_BAD_ROW, and
 *      bad_row tells which it is.
 *
 * Threading: one thread at a time per object, no owner thread. A writer object is used by its node's
 * thread; reader objects (open_reader) see committed data only and are pooled by their users.
 * Ownership: out parameters are owned by the caller; untouched on failure.
 * Errors: GError in QFS_REPLICA_ERROR.
 */
#pragma once

#include "storage/file_watch.h"
#include "storage/record.h"

G_BEGIN_DECLS

#define QFS_REPLICA_ERROR (qfs_replica_error_quark())
GQuark qfs_replica_error_quark(void);
typedef enum {
  QFS_REPLICA_ERROR_IO,        /* SQLite or the operating system failed */
  QFS_REPLICA_ERROR_NO_SPACE,  /* the disk is full; nothing of the transaction is kept */
  QFS_REPLICA_ERROR_CORRUPT,   /* the file is damaged */
  QFS_REPLICA_ERROR_BAD_ROW,   /* one record or chunk does not match its checksum; the others are not affected */
  QFS_REPLICA_ERROR_FORMAT,    /* of a newer schema, or of another node */
  QFS_REPLICA_ERROR_FOREIGN,   /* a database, but no replica */
  QFS_REPLICA_ERROR_ABSENT,    /* no replica there and create was not asked for */
} QfsReplicaError;

typedef enum {
  QFS_APPLY_APPLIED,     /* stored */
  QFS_APPLY_SAME,        /* this very version was already stored (seq is raised if the new one is higher) */
  QFS_APPLY_SUPERSEDED,  /* a newer version is stored; nothing changed */
} QfsApplyResult;

#define QFS_NODES_MAX 64
#define QFS_VIEW_SETS_MAX 64
#define QFS_VIEW_PASSED_MAX 16
/* Left marks that are no operations. What the node holds is not to be believed. */
#define QFS_MARK_UNUSABLE G_MAXUINT64
/* The same, and the operator has accepted the loss of what only that node held. */
#define QFS_MARK_EVICTED (G_MAXUINT64 - 1)
/* It was emptied in this epoch (QfsNodeMeta.wiped), and what it holds since then is sound but not all. */
#define QFS_MARK_FILLING(epoch) (G_GUINT64_CONSTANT(1) << 63 | (epoch))
/* Beside a mark: N or K changed meanwhile, so that it may lack keys from before the mark, too. */
#define QFS_MARK_INCOMPLETE (G_GUINT64_CONSTANT(1) << 62)
/* QfsView.tidy: nowhere else are rows at all. */
#define QFS_TIDY_ALL G_MAXUINT64
typedef guint64 QfsNodeSet; /* bit i-1 stands for node i */

/* An in-sync set and the number of replicas of its time: together they say who held a key. */
typedef struct {
  QfsNodeSet nodes;              /* 0: too many sets to remember */
  guint32 replicas;
} QfsViewSet;

/* A start went on without having met all nodes: of operations before it nothing else counts where a version of a key is
 * found that was acknowledged, if at all, under the first `n_sets` unsettled sets, and these nodes suffice to know it. */
typedef struct {
  guint64 below;                 /* number of the first operation that is not before it */
  guint64 n_sets;
  QfsNodeSet seen;               /* nodes that it met */
  QfsNodeSet given_up;           /* what only these had is lost by decision */
} QfsViewPassed;

/* Configuration and membership that a majority of nodes remembers; see cluster/view.h for meaning. */
typedef struct {
  char store[37];                /* UUID text of the store */
  guint32 nodes;                 /* N */
  guint32 replicas;              /* K */
  guint32 former_nodes;          /* N before it: a majority of those must know of the change, too; 0: no change */
  guint64 epoch;
  QfsNodeSet in_sync;            /* S */
  QfsNodeSet base;               /* B: the set for which in-sync nodes hold everything */
  guint64 left_mark[QFS_NODES_MAX];     /* node i-1: settled mark when it left S; or as above */
  guint64 generation[QFS_NODES_MAX];    /* least generation that node i-1's file shows */
  guint32 n_unsettled;           /* sets of the epochs since the settled mark, without repeats */
  QfsViewSet unsettled[QFS_VIEW_SETS_MAX];
  guint64 tidy;                  /* of operations up to here only a key's owners have rows; or QFS_TIDY_ALL */
  guint64 void_below;            /* of operations below this only what members of S have counts */
  guint32 n_passed;              /* starts since then that met too few nodes to say so of all keys, in their order */
  QfsViewPassed passed[QFS_VIEW_PASSED_MAX];
} QfsView;

/* Durable facts of one node beside its data. */
typedef struct {
  guint32 node;                  /* own number, from 1 */
  guint64 generation;            /* raised at each opening that a majority remembers */
  guint64 promised_epoch;        /* operations of older epochs are refused */
  guint64 mark;                  /* every operation up to here that concerned this node is durable here */
  guint64 settled;               /* known: every operation up to here is durable on all its holders */
  guint64 ceiling;               /* the clock issued no timestamp above this */
  guint64 wiped;                 /* epoch in which it was emptied last; 0: never */
  gboolean has_view;
  QfsView view;
} QfsNodeMeta;

typedef struct {
  QfsObjectId object;
  guint64 index;      /* bytes [index * QFS_CHUNK_SIZE, ...) */
  guint64 version;    /* number of the write that brought it (record.h R5); 0: staged; up to schema 3: a timestamp */
  guint64 seq;
  GBytes *data;       /* at most QFS_CHUNK_SIZE; what is missing reads as zeros; NULL in listings */
} QfsChunk;

void qfs_chunk_free(QfsChunk *chunk); /* accepts NULL */
QfsChunk *qfs_chunk_copy(const QfsChunk *chunk);
/* By object, index, version: <0, 0, >0. */
int qfs_chunk_order(const QfsChunk *a, const QfsChunk *b);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QfsChunk, qfs_chunk_free)

typedef struct {
  guint64 records;     /* rows that are not tombstones */
  guint64 tombstones;
  guint64 chunks;
  guint64 bytes;       /* of the file and its WAL */
  guint64 reusable;    /* bytes of the file that hold nothing: writes go there before it grows */
  guint64 owed;        /* bytes by which the file grows once the log is moved into it */
  guint64 disk_total, disk_free; /* bytes of the file system that holds it, free to this user */
  guint64 disk_files, disk_files_free;
} QfsReplicaStats;

/* A row that does not match its checksum. What names it is as it is stored, and may be damaged, too, unless the
 * row was asked for by it. */
typedef struct {
  gboolean is_chunk;
  char *key;          /* of a record */
  QfsChunk chunk;     /* no data */
} QfsBadRow;
QfsBadRow *qfs_bad_row_copy(const QfsBadRow *bad); /* accepts NULL */
void qfs_bad_row_free(QfsBadRow *bad);             /* accepts NULL */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QfsBadRow, qfs_bad_row_free)

typedef struct QfsReplica QfsReplica;

typedef struct {
  void (*close)(QfsReplica *self);

  /* Transactions (writer objects only). Reads on a writer see its own transaction. */
  gboolean (*begin)(QfsReplica *self, GError **error);
  gboolean (*commit)(QfsReplica *self, gboolean durable, GError **error);
  void (*rollback)(QfsReplica *self); /* does nothing when no transaction is open */

  /* Metadata. Storing outside begin/commit is a programmer's error. */
  gboolean (*meta_load)(QfsReplica *self, QfsNodeMeta *out_meta, GError **error);
  gboolean (*meta_store)(QfsReplica *self, const QfsNodeMeta *meta, GError **error);

  /* Records. *out_record is NULL and the result TRUE when there is no row; tombstones are returned. */
  gboolean (*record_get)(QfsReplica *self, const char *key, QfsRecord **out_record, GError **error);
  gboolean (*record_apply)(QfsReplica *self, const QfsRecord *record, gboolean force,
                           QfsApplyResult *out_result, GError **error);
  gboolean (*record_remove)(QfsReplica *self, const char *key, GError **error);
  /* Records with (seq, key) > (after_seq, after_key) in that order, tombstones included, until
   * `limit` records or about 1 MiB; appended to `out` (element-type QfsRecord, owned by the array).
   * after_key NULL: every record with seq > after_seq. */
  gboolean (*record_scan)(QfsReplica *self, guint64 after_seq, const char *after_key, guint limit,
                          GPtrArray *out, gboolean *out_more, GError **error);
  /* Children of directory `dir` with name > `after` (NULL: from the first) in memcmp order of names, tombstones
   * included, tails left out (empty) except for symlinks. `whole`: with all tails, and about 1 MiB at most. The
   * root record is no child of the root. */
  gboolean (*record_list)(QfsReplica *self, const char *dir, const char *after, guint limit, gboolean whole,
                          GPtrArray *out, gboolean *out_more, GError **error);
  /* The least directory >= from, in memcmp order, that has a row which is no tombstone; *out_dir (newly allocated) NULL:
   * none. For tree.h; rows are not verified. */
  gboolean (*live_dir)(QfsReplica *self, const char *from, char **out_dir, GError **error);
  /* As record_scan, of tombstones only. */
  gboolean (*tombstone_scan)(QfsReplica *self, guint64 after_seq, const char *after_key, guint limit,
                             GPtrArray *out, gboolean *out_more, GError **error);

  /* Chunks. chunk_get: the row of (object, index) with the greatest version <= max_version. None:
   * *out_chunk NULL; *out_newer (may be NULL) tells whether a row with a greater version exists. */
  gboolean (*chunk_put)(QfsReplica *self, const QfsChunk *chunk, GError **error);
  gboolean (*chunk_get)(QfsReplica *self, QfsObjectId object, guint64 index, guint64 max_version,
                        QfsChunk **out_chunk, gboolean *out_newer, GError **error);
  /* Removes versions of (object, index) older than `keep`. */
  gboolean (*chunk_trim)(QfsReplica *self, QfsObjectId object, guint64 index, guint64 keep,
                         GError **error);
  /* Removes exactly this version. */
  gboolean (*chunk_remove)(QfsReplica *self, QfsObjectId object, guint64 index, guint64 version,
                           GError **error);
  /* Removes at most `limit` rows of the object; *out_more tells whether some are left. */
  gboolean (*object_drop)(QfsReplica *self, QfsObjectId object, guint limit, gboolean *out_more,
                          GError **error);
  /* Chunks after (after_seq, after object, index, version) in (seq, object, index, version) order;
   * `after` NULL: every chunk with seq > after_seq. with_data FALSE leaves data NULL. */
  gboolean (*chunk_scan)(QfsReplica *self, guint64 after_seq, const QfsChunk *after, gboolean with_data,
                         guint limit, GPtrArray *out, gboolean *out_more, GError **error);

  /* Records from after_key (NULL: from the first) to until_key (NULL: to the last) in the order of directories and
   * names in them, at most `limit` rows or about 1 MiB. Without `whole` tails are left out and not verified. Rows
   * that are bad go to `bad` (element-type QfsBadRow), not to `out`. *out_end (newly allocated): the last key that
   * was looked at, until_key if there is no more. Both orders of keys here are qfs_key_order. */
  gboolean (*record_walk)(QfsReplica *self, const char *after_key, const char *until_key, gboolean whole,
                          guint limit, GPtrArray *out, GPtrArray *bad, char **out_end, gboolean *out_more,
                          GError **error);

  /* Bad rows. The one of the latest QFS_REPLICA_ERROR_BAD_ROW; valid until the next call. */
  const QfsBadRow *(*bad_row)(QfsReplica *self);
  /* Digest of the row as it is stored, whether its checksum holds or not; 0: there is none. */
  gboolean (*record_print)(QfsReplica *self, const char *key, guint64 *out_print, GError **error);
  /* The row goes if it is still the one of `print`, and `record`, unless it is NULL, takes its place. *out_done:
   * it was. A row that is bad never says which version it was: so a late request must not take a later one. */
  gboolean (*record_mend)(QfsReplica *self, const char *key, guint64 print, const QfsRecord *record,
                          gboolean *out_done, GError **error);

  /* The same of the chunk row with exactly this object, index and version. chunk_exact: its data, verified; *out_chunk
   * NULL: there is none. chunk_mend with `print` 0: there is no row, and `chunk` takes the empty place. */
  gboolean (*chunk_exact)(QfsReplica *self, const QfsChunk *id, QfsChunk **out_chunk, GError **error);
  gboolean (*chunk_print)(QfsReplica *self, const QfsChunk *id, guint64 *out_print, GError **error);
  gboolean (*chunk_mend)(QfsReplica *self, const QfsChunk *id, guint64 print, const QfsChunk *chunk,
                         gboolean *out_done, GError **error);
  /* Chunk rows after `after` (NULL: from the first) up to `until` (NULL: to the last) in (object, index, version)
   * order, at most `limit`; bad ones go to `bad`. Without `whole` data is left out and not verified. */
  gboolean (*chunk_walk)(QfsReplica *self, const QfsChunk *after, const QfsChunk *until, gboolean whole, guint limit,
                         GPtrArray *out, GPtrArray *bad, gboolean *out_more, GError **error);
  /* Chunks after `after` (NULL: from the first) in (object, index, version) order, without data. */
  gboolean (*chunk_list)(QfsReplica *self, const QfsChunk *after, guint limit, GPtrArray *out, gboolean *out_more,
                         GError **error);
  /* Records that name the object, tails left out (empty). */
  gboolean (*object_records)(QfsReplica *self, QfsObjectId object, GPtrArray *out, GError **error);

  /* Intents: multi-key batches that must be rolled forward. `records` is an array of QfsRecord, not
   * empty; an intent of the same id is replaced. */
  gboolean (*intent_put)(QfsReplica *self, guint64 id, GPtrArray *records, GError **error);
  /* *out_records NULL: there is none. */
  gboolean (*intent_get)(QfsReplica *self, guint64 id, GPtrArray **out_records, GError **error);
  gboolean (*intent_remove)(QfsReplica *self, guint64 id, GError **error);
  gboolean (*intent_list)(QfsReplica *self, GArray *out_ids /* guint64 */, GError **error);

  /* Empties records, chunks and intents (not the metadata) within the transaction. */
  gboolean (*wipe)(QfsReplica *self, GError **error);

  /* Moves the log into the file when it grew, or, with `everything` or on a disk with little
   * room, all that readers let go of; cheap to call often, outside transactions. */
  gboolean (*checkpoint)(QfsReplica *self, gboolean everything, GError **error);
  gboolean (*stats)(QfsReplica *self, QfsReplicaStats *out_stats, GError **error);
  /* What a writer knows of its file; borrowed, NULL: nothing. */
  QfsFileWatch *(*watch)(QfsReplica *self);
  /* Deletes what was set aside in the replica's directory, to make room. TRUE: there was some. */
  gboolean (*discard_aside)(QfsReplica *self);
} QfsReplicaOps;

struct QfsReplica {
  const QfsReplicaOps *ops;
};

static inline void qfs_replica_close(QfsReplica *replica) {
  if (replica != NULL)
    replica->ops->close(replica);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QfsReplica, qfs_replica_close)

/* The newest row of (object, index) that `spans` have; *out_newer (may be NULL): there is none, but some row of
 * a write newer than all of them. */
gboolean qfs_replica_chunk(QfsReplica *replica, QfsObjectId object, guint64 index, GBytes *spans,
                           QfsChunk **out_chunk, gboolean *out_newer, GError **error);

/* Opens (and with `create` makes) the SQLite replica in directory `dir` ("replica.db" in it) as its
 * only writer: WAL, exclusive use enforced by a lock file beside it. With create, the directory is made
 * too and a fresh file gets `node` as its number. Blocks for recovery of the log. */
QfsReplica *qfs_sqlite_replica_open(const char *dir, guint32 node, gboolean create, gboolean sync_always,
                                    GError **error);
/* A read-only connection to the same file. It sees what was committed by record_get, record_list and live_dir; its scans of
 * records see what is in the tables by now: front.h. */
QfsReplica *qfs_sqlite_replica_open_reader(const char *dir, GError **error);

/* From now on nothing waits for the disk: for a process whose only store is deleted when it ends. Before anything is
 * opened. */
void qfs_sqlite_replica_sync_nothing(void);
gboolean qfs_sqlite_replica_syncs(void);

G_END_DECLS
