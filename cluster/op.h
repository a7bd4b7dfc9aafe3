/* op.h - requests that are being served: op*.c, and what several of them share. */
#pragma once

#include "cluster/keys.h"
#include "cluster/plan.h"

G_BEGIN_DECLS

#define QFS_NODE_PATIENCE 10 /* timeouts until a request to open or close a node ends */

/* A look at chunks from `index` on, at one or two nodes: op_get.c. */
typedef struct {
  guint64 index;
  guint answers;
  QfsNodeSet not_at;      /* asked */
  gboolean found;         /* at `at`, whose row has `length` bytes; else all before `at` was looked at */
  guint64 at;
  guint length;
} QfsSeek;

struct QfsOp {
  QfsRequest *request;    /* NULL once answered */
  gint64 began_us, deadline_us;
  gint64 last_us;         /* it was given more time, and not beyond this; 0: it was not */
  GList link;             /* in c->ops, by deadline */
  guint refs;             /* request unanswered, callbacks, flights, waiting for a lock */
  void (*step)(QfsCoordinator *c, QfsOp *op);
  guint stage;
  gboolean sent;          /* something left for a node: outcome no longer certain */
  gboolean dead;          /* answered before anything was sent: unwind */
  gboolean stalled;       /* in c->stalled */
  QfsNodeSet bad_at;      /* nodes where its read met a bad row */
  gboolean creating;      /* counted in c->creating for the key's parent */
  gboolean removing;      /* its key is in c->removing */
  gboolean held_back;     /* parked by a directory that is being renamed */
  gboolean syncing;       /* chunks of what it moves: moved_chunks.c */
  guint64 synced, synced_next; /* those of records with numbers up to this are; will be */
  void (*internal)(QfsCoordinator *c, QfsOp *op, QfsStatus status); /* answer to the coordinator itself */
  gpointer internal_data;
  QfsKey *key, *key2;
  gboolean locked, locked2;
  QfsKey *file, *file2;   /* what key and key2 name, as far as they are links; locked, too: linked.c */
  QfsRecord *base, *base2, *parent;
  QfsRecord *result, *result2;
  QfsPlan *plan;
  guint64 timestamp;
  QfsChangeKind change;   /* what watchers are told when it is acknowledged */
  guint64 number;         /* of the write, when it brings chunks */
  GPtrArray *chunks;      /* QfsChunk being prepared; once sent, their names */
  GList open_link;        /* in c->open_ops while that is so */
  guint chunk_next;
  QfsSeek seek;
  gboolean newer;         /* SEEK: some chunks without a row have one of a newer write */
  guint left;             /* callbacks still to come in this stage */
  QfsStatus failure;
  guint64 counter;
  guint tries;
  gpointer extra;         /* of the kind of op; freed by extra_free */
  GDestroyNotify extra_free;
};

QfsOp *qfs_op_new(QfsCoordinator *c, QfsRequest *request, void (*step)(QfsCoordinator *, QfsOp *));
QfsOp *qfs_op_ref(QfsOp *op);
void qfs_op_unref(QfsCoordinator *c, QfsOp *op);
void qfs_op_finish(QfsCoordinator *c, QfsOp *op, QfsStatus status); /* answers; op lives on for its refs */
/* FALSE: writes are not possible now; the op is parked (TRUE soon) or was refused. */
gboolean qfs_op_may_write(QfsCoordinator *c, QfsOp *op);
gboolean qfs_key_has_quorum(QfsCoordinator *c, const QfsKey *key, QfsNodeSet silent); /* NULL has */
void qfs_ops_resume(QfsCoordinator *c);   /* what stalled for a view or the clock */
void qfs_ops_tick(QfsCoordinator *c, gint64 now_us);
void qfs_op_release(QfsCoordinator *c, QfsOp *op); /* gives up its plan locks */
/* At the head of every step: TRUE when the op was answered already; a lock that just came is passed on. */
gboolean qfs_op_is_dead(QfsCoordinator *c, QfsOp *op);
/* Is op->result older than what is stored? TRUE: answered so, or to be tried again from stage `again` when the
 * stored version is acknowledged. */
gboolean qfs_op_is_superseded(QfsCoordinator *c, QfsOp *op, guint again);
gboolean qfs_op_timestamp(QfsCoordinator *c, QfsOp *op, guint64 above); /* FALSE: parked or failed */
void qfs_op_park(QfsCoordinator *c, QfsOp *op); /* stepped again after the next event */
/* The deadline becomes so many times what it is by default. */
void qfs_op_extend(QfsCoordinator *c, QfsOp *op, guint factor);
/* It takes many steps, and has got one further: its time begins again. */
void qfs_op_goes_on(QfsCoordinator *c, QfsOp *op);
/* Locks key (and key2; in name order, the store's own keys last). TRUE: both are held. */
gboolean qfs_op_lock_keys(QfsCoordinator *c, QfsOp *op);
/* Sends the records of a planned op; answers at the quorum. The op's locks are given up. */
void qfs_op_send_record(QfsCoordinator *c, QfsOp *op, gboolean durable);
/* Registers a creation below the parent of op's key: FALSE: parked, the directory is being removed. */
gboolean qfs_op_begin_creating(QfsCoordinator *c, QfsOp *op, const char *key);
/* Tells watchers of op->result, or of op->result2 that came from op->key. */
void qfs_op_tell(QfsCoordinator *c, const QfsOp *op);
/* Of `key` at op->timestamp; its ctime tells its age (request->now_ns may be anything). */
QfsRecord *qfs_op_tombstone(QfsCoordinator *c, const QfsOp *op, const char *key);
/* Looks whether what op makes (its last key) has a directory for parent: then the next stage (stage + 1) begins, else op ends. */
void qfs_op_fetch_parent(QfsCoordinator *c, QfsOp *op);

void qfs_op_close_chunks(QfsCoordinator *c, QfsOp *op); /* its chunks have a record now, or are gone */
void qfs_op_get(QfsCoordinator *c, QfsRequest *request);
void qfs_op_read(QfsCoordinator *c, QfsRequest *request);
void qfs_op_seek(QfsCoordinator *c, QfsRequest *request);
void qfs_op_list(QfsCoordinator *c, QfsRequest *request);
void qfs_op_write(QfsCoordinator *c, QfsRequest *request);
void qfs_op_remove(QfsCoordinator *c, QfsRequest *request);
void qfs_op_rename(QfsCoordinator *c, QfsRequest *request);
void qfs_op_link(QfsCoordinator *c, QfsRequest *request);
/* SYNC of a key, or of everything: NULL. */
typedef void (*QfsSyncDone)(QfsCoordinator *c, QfsStatus status, gpointer data);
void qfs_sync(QfsCoordinator *c, const char *key, QfsSyncDone done, gpointer data);
/* Removes exactly this version, and tells. `done` may be called at once. */
typedef void (*QfsRemovedDone)(QfsCoordinator *c, QfsStatus status, gpointer data);
void qfs_remove_version(QfsCoordinator *c, const QfsRecord *record, QfsRemovedDone done, gpointer data);
void qfs_op_sync(QfsCoordinator *c, QfsRequest *request);
void qfs_op_node(QfsCoordinator *c, QfsRequest *request);
void qfs_op_node_poll(QfsCoordinator *c); /* after peers or settling changed */

/* One page of a directory, in the order of names. `entries` is borrowed, NULL unless QFS_OK. */
typedef void (*QfsListDone)(QfsCoordinator *c, QfsStatus status, GPtrArray *entries, gboolean more, gpointer data);
/* After name `after` (NULL: from the first), with data, and tombstones where keys were deleted. */
void qfs_list_whole(QfsCoordinator *c, const char *dir, const char *after, QfsListDone done, gpointer data);
/* Does any child of `dir` exist? `op` waits for the answer. */
typedef void (*QfsEmptyDone)(QfsCoordinator *c, QfsStatus status, gboolean empty, gpointer data);
void qfs_list_is_empty(QfsCoordinator *c, QfsOp *op, const char *dir, QfsEmptyDone done, gpointer data);

/* ---- deadlines while silent nodes are given up: patience.c ---- */

/* The op's time is over: until when it may go on all the same; 0: it is not to. */
gint64 qfs_op_later_us(const QfsCoordinator *c, QfsOp *op, gint64 now_us);
/* Those of `silent`, which is qfs_peers_silent, that the op need not wait for: it fails if it can't do without them. */
QfsNodeSet qfs_op_given_up(const QfsCoordinator *c, const QfsOp *op, QfsNodeSet silent);

/* ---- several keys in one step: batch.c ---- */

typedef void (*QfsBatchDone)(QfsCoordinator *c, QfsOp *op);
QfsBatch *qfs_batch_new(QfsOp *op); /* owned by op->extra */
/* `record` (taken over) is the next version of its key, whose lock the op has, or which is nobody else's; `base` is the
 * newest one, NULL: none. */
void qfs_batch_add(QfsCoordinator *c, QfsBatch *batch, QfsRecord *base, QfsRecord *record);
/* The chunks of this version go when the batch is acknowledged. NULL: nothing. */
void qfs_batch_leave(QfsBatch *batch, const QfsRecord *record);
/* The op is answered at the quorum, after `done` has filled in its request; then its locks are given up. */
void qfs_batch_send(QfsCoordinator *c, QfsOp *op, QfsBatch *batch, gboolean durable, QfsBatchDone done);

/* ---- files with several names: linked.c, moved_chunks.c ---- */

/* Locks the files that the op's keys, whose bases are known, name, and finds out their bases. FALSE: waiting or answered. */
gboolean qfs_op_lock_files(QfsCoordinator *c, QfsOp *op);
/* The newest record of the file that `name` is a link to, locked; borrowed. NULL: it is none, or its file was lost. */
QfsRecord *qfs_op_file_of(QfsCoordinator *c, const QfsRecord *name);
/* The next version of `from`, at key `name`; and of what the request itself changes: its ctime, too. */
QfsRecord *qfs_op_moved(const QfsOp *op, const QfsRecord *from, const char *name);
QfsRecord *qfs_op_moved_itself(const QfsOp *op, const QfsRecord *from, const char *name);
/* Before versions (entries may be NULL) are given other keys. TRUE: their chunks survive a loss of power. FALSE: op is
 * stepped again when they do, or answered. */
gboolean qfs_op_sync_moved(QfsCoordinator *c, QfsOp *op, QfsRecord *const *records, guint n);
/* The same before staged pieces are published. */
gboolean qfs_op_sync_staged(QfsCoordinator *c, QfsOp *op);
/* Has it another key than the one that its object was made for? */
gboolean qfs_record_is_away(const QfsRecord *record);
/* Adds what becomes of the file when the version `name` of a key goes: one name less, or gone, or kept under
 * request->keep. Borrowed: the file's next version, NULL: gone. */
QfsRecord *qfs_batch_lose_name(QfsCoordinator *c, QfsOp *op, QfsBatch *batch, QfsRecord *name);

G_END_DECLS
