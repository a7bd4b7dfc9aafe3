/* private.h - the coordinator's parts, shared by its files only.
 *
 *   coordinator.c  life, events, peers          rpc.c      requests to nodes, repetition, suspicion
 *   view.c         epochs and the in-sync set    flight.c   replicated writes on their way
 *   lack.c         what must come first: chunks, intents
 *   keys.c         per-key order                 fetch.c    the newest record of a key
 *   recent.c       newest records used lately
 *   reads.c        direct reads, avoiding slow nodes     chunk_read.c   of chunks, holes confirmed
 *   op.c           requests and deadlines        op_get.c, op_write.c, op_remove.c, op_rename.c, op_link.c, op_node.c
 *   batch.c        several keys in one step      linked.c   files with several names
 *   moved_chunks.c chunks of values that are given another key
 *   subtree.c      directories with all below them, while they are renamed
 *   objects.c      pins, garbage                 settle.c   durability in the background
 *   mover.c        giving nodes what they will have to hold    held.c  records that wait for what must be there first
 *   resize.c       another N or K                             tidy.c     removing rows from other nodes than the owners
 *   purge.c        collecting tombstones            evict.c    nodes given up by command
 *   mend.c, mend_chunk.c  bad rows, and differences between holders     scrub.c, scrub_range.c  looking for them
 *   mend_known.c   a bad row of a key about which something is under way
 *   reclaim.c      chunk rows that no record has
 *   recovery*.c    start, and loss of all trusted nodes      catchup.c  one returning node
 *
 * Everything here runs under the environment's one-event-at-a-time rule; nothing blocks.
 */
#pragma once

#include "cluster/clock.h"
#include "cluster/coordinator.h"
#include "cluster/placement.h"
#include "cluster/plan.h"

G_BEGIN_DECLS

typedef struct QfsOp QfsOp;
typedef struct QfsFlight QfsFlight;
typedef struct QfsCatchup QfsCatchup;
typedef struct QfsRecovery QfsRecovery;
typedef struct QfsMover QfsMover;
typedef struct QfsTidy QfsTidy;
typedef struct QfsPurge QfsPurge;
typedef struct QfsMend QfsMend;
typedef struct QfsScrub QfsScrub;
typedef struct QfsScrubRange QfsScrubRange;
typedef struct QfsReclaim QfsReclaim;
typedef struct QfsSubtree QfsSubtree;
typedef struct QfsBatch QfsBatch;

/* ---- peers: what the coordinator knows of a node ---- */

/* CLOSED -> OPENING -> KNOWN -> (TRUSTED | JOINING -> TRUSTED); any -> CLOSED; TRUSTED, JOINING, KNOWN ->
 * SUSPECT (silent) -> OPENING (greeted anew). */
typedef enum {
  PEER_CLOSED,   /* no process */
  PEER_OPENING,  /* started, not yet answered HELLO */
  PEER_KNOWN,    /* answered; holds nothing that counts yet */
  PEER_JOINING,  /* catching up: gets every new write, counts for nothing */
  PEER_TRUSTED,  /* member of S and has everything that S promises */
  PEER_SUSPECT,  /* silent for too long; its process may live */
} QfsPeerState;

typedef struct {
  guint index;
  QfsPeerState state;
  guint64 incarnation;
  guint64 process;        /* incarnation of the running process; 0: none */
  gint64 opening_since_us;
  gboolean wanted;        /* to be up: the operator did not close it */
  gboolean crashed;       /* closed by QFS_NODE_CRASH */
  gboolean evicted;       /* given up by command, until it is in sync again */
  char *aside;            /* why what lies beside its replica was set aside; NULL: nothing does */
  guint64 aside_process;  /* whose news of that were counted */
  char *aside_wanted;     /* its replica is to be set aside for this reason, not emptied */
  guint unreachable_rows; /* bad ones that were not there by the name they tell */
  guint bad_rows;         /* found since it was started */
  gint64 catchup_at_us;   /* its catch-up met a bad row: again not before */
  gboolean rebuild;       /* what it holds is not to be believed: wipe before joining */
  gboolean filled;        /* ... which was done, and what it holds since then may stay */
  gboolean damaged;       /* to be wiped whatever the view says */
  gboolean retired;       /* no longer part of the store: its replica is being removed */
  char *reason;           /* why it failed; NULL: it did not */
  gint64 retry_at_us;     /* failed: try to open again then */
  guint retries;
  QfsNodeMeta meta;       /* as of HELLO */
  QfsReplicaStats stats;
  gint64 silent_since_us; /* latest answer while requests are unanswered, else 0 */
  guint64 outstanding;
  GQueue rpcs;            /* QfsRpc not answered, oldest first */
  gint64 rpc_us;          /* usual time from a request to its answer */
  gint64 latest_us;       /* that of the latest answer */
  gint64 read_us, read_at_us; /* usual time of a direct read, as of then: reads.c */
  gint64 unread_since_us; /* first direct read since the latest one that was answered; 0: none */
  gint64 greeted_us;      /* OPENING: greeted anew at; 0: its process was started */
  guint suspicions;       /* SUSPECT so many times in a row: asked less and less often */
  gint64 trusted_since_us;
  gboolean too_slow;      /* SUSPECT, OPENING: answers, but late */
  QfsCatchup *catchup;    /* JOINING */
  gboolean stopping;      /* node_stop asked for, not yet gone */
} QfsPeer;

/* ---- requests to nodes ---- */

/* `reply` NULL: the node is gone or was greeted anew; the outcome is unknown. */
typedef void (*QfsRpcDone)(QfsCoordinator *c, QfsPeer *peer, QfsMessage *reply, gpointer data);

typedef struct {
  guint64 cookie;
  guint node;
  gint64 sent_us, first_us;
  guint tries;
  QfsMessage *message;   /* kept for repetition */
  QfsRpcDone done;
  gpointer data;
  GList link;            /* in its peer's rpcs */
} QfsRpc;

/* Takes `message` over; sets epoch, incarnation and cookie. */
void qfs_rpc_send(QfsCoordinator *c, QfsPeer *peer, QfsMessage *message, QfsRpcDone done,
                  gpointer data);
void qfs_rpc_receive(QfsCoordinator *c, QfsMessage *reply);
void qfs_rpc_drop_peer(QfsCoordinator *c, QfsPeer *peer); /* ends its requests with NULL replies */
void qfs_rpc_tick(QfsCoordinator *c, gint64 now_us);
/* A greeted node answered after `took_us`. TRUE: too late to be of use, and the others can do without it. */
gboolean qfs_rpc_is_too_slow(QfsCoordinator *c, const QfsPeer *peer, gint64 took_us);
/* Trusted nodes that have not answered for long but can't be given up: nobody should wait for them. */
QfsNodeSet qfs_peers_silent(const QfsCoordinator *c);
QfsNodeSet qfs_peers_mute(const QfsCoordinator *c); /* the same for direct reads */

/* ---- replicated writes ---- */

typedef void (*QfsFlightDone)(QfsCoordinator *c, QfsFlight *flight, gpointer data);

struct QfsFlight {
  guint64 seq;
  QfsMessage *message;     /* template; records are cut down to each node's own */
  guint n_hashes;
  guint64 *hashes;         /* one per record; or one for all that the message carries */
  gboolean split;          /* node gets only the records it holds (hashes[i] belongs to record i) */
  QfsNodeSet acked, outstanding, full;
  gint64 full_since_us;    /* first answer for lack of space; 0: none */
  gboolean tainted;        /* lack of space does not prove that it was not applied */
  gboolean quorum;
  gboolean recovery;       /* complete when all of H(hash, S) have it, though S be smaller than W */
  guint round;             /* of split flights: answers of an earlier round are for other parts */
  gsize bytes;
  QfsFlightDone on_quorum; /* once; NULL after it was called */
  QfsFlightDone on_complete; /* once, when every holder has it; the flight is freed afterwards */
  QfsFlightDone on_refused;  /* no space anywhere, nothing applied; the flight is freed afterwards; or NULL */
  gpointer data;
  GList link;              /* in c->flights, by seq */
};

/* Numbers and sends a flight; hashes are copied. Must be called only while writes are possible. */
QfsFlight *qfs_flight_start(QfsCoordinator *c, QfsMessage *message, const guint64 *hashes,
                            guint n_hashes, gboolean split, gpointer data, QfsFlightDone on_quorum,
                            QfsFlightDone on_complete, QfsFlightDone on_refused);
void qfs_flights_dispatch(QfsCoordinator *c);          /* after a view change or a new joiner */
gboolean qfs_flight_is_under_way(QfsCoordinator *c, guint64 seq); /* not yet at all holders */
void qfs_flight_forget(QfsCoordinator *c, guint64 seq); /* complete, and not to be sent again */
void qfs_flights_tick(QfsCoordinator *c, gint64 now_us);
void qfs_flights_revive(QfsCoordinator *c);            /* after S changed */
void qfs_flights_join(QfsCoordinator *c);              /* after a node began to join */
void qfs_flights_settled(QfsCoordinator *c);           /* after the mark moved */
void qfs_flights_forget_peer(QfsCoordinator *c, QfsPeer *peer, gboolean lost); /* its outstanding bits */
QfsNodeSet qfs_flight_targets(QfsCoordinator *c, const QfsFlight *flight);
QfsNodeSet qfs_key_targets(QfsCoordinator *c, guint64 hash); /* of what changes the key alone */

/* ---- what must come first: lack.c ---- */

/* Nodes that must not get it yet: what has to be there before it is on its way to them. */
QfsNodeSet qfs_lack(QfsCoordinator *c, const QfsRecord *record);
QfsNodeSet qfs_flight_lack(QfsCoordinator *c, const QfsFlight *flight);
/* The same of the chunks of the object which a record with number `seq` may name. */
QfsNodeSet qfs_lack_chunks(QfsCoordinator *c, QfsObjectId id, guint64 seq);
/* May `flight` have been held back because of `first`, which is chunks or an intent? */
gboolean qfs_flight_waits_for(const QfsFlight *flight, const QfsFlight *first);

/* ---- records to be copied to a node that lacks what must come first: held.c ---- */

/* TRUE: not yet, and it was added to `held`. */
gboolean qfs_held_add(QfsCoordinator *c, GPtrArray *held, guint node, QfsRecord *record);
/* Takes those out that need not wait any more; NULL: none. Then the view is evaluated again when that may have changed. */
GPtrArray *qfs_held_take(QfsCoordinator *c, GPtrArray *held, guint node);
void qfs_held_wake(QfsCoordinator *c); /* something has arrived somewhere, or does not come */

/* ---- per-key order ---- */

typedef struct {
  char *key;
  guint64 hash;
  guint uses;             /* ops that plan or wait, flights not complete */
  QfsOp *planner;
  GQueue waiting;         /* QfsOp wanting to plan */
  gboolean have_base;     /* acked and newest mean something */
  GQueue ack_waiters;     /* QfsOp to be stepped when an acknowledgement changes `acked` */
  QfsRecord *acked;       /* newest acknowledged version, NULL: absent */
  QfsRecord *newest;      /* newest sent version */
} QfsKey;

QfsKey *qfs_key_find(QfsCoordinator *c, const char *key);
QfsKey *qfs_key_use(QfsCoordinator *c, const char *key);   /* finds or makes; uses++ */
void qfs_key_done(QfsCoordinator *c, QfsKey *key);         /* uses--; may free */
/* Lets `op` plan on key: TRUE at once, or FALSE and op->step is called when its turn comes. */
gboolean qfs_key_lock(QfsKey *key, QfsOp *op);
/* TRUE: nothing in flight is newer than what was acknowledged; else op is stepped after the next one. */
gboolean qfs_key_wait_acked(QfsKey *key, QfsOp *op);
void qfs_key_acked(QfsCoordinator *c, QfsKey *key, QfsRecord *record);
/* The newest version was in `refused`, which nobody has: what was sent before it is the newest. */
void qfs_key_take_back(QfsCoordinator *c, QfsKey *key, const QfsFlight *refused);
void qfs_key_set_base(QfsKey *key, QfsRecord *record);
void qfs_key_unlock(QfsCoordinator *c, QfsKey *key, QfsOp *op);
guint64 qfs_key_counter(QfsCoordinator *c, guint64 hash);  /* changes whenever the key's state may have */
void qfs_key_bump(QfsCoordinator *c, guint64 hash);

/* ---- versions used lately ---- */

void qfs_recent_init(QfsCoordinator *c);
void qfs_recent_clear(QfsCoordinator *c);
/* What is certainly the newest acknowledged version, as if read now; borrowed, NULL: to be read. */
QfsRecord *qfs_recent_find(QfsCoordinator *c, const char *key, guint64 hash);
/* `record` (may be NULL) is the newest acknowledged version as of the key's counter now. */
void qfs_recent_note(QfsCoordinator *c, QfsRecord *record, guint64 hash);

/* The node's row of the key goes back to the acknowledged version: what is in flight is to be sent there (again). Nothing
 * is sent before the next qfs_flights_dispatch. */
void qfs_flights_lost_row(QfsCoordinator *c, const QfsKey *key, guint node);

/* ---- the newest record of a key ---- */

/* status QFS_OK: `record` (may be a tombstone or NULL); else why not. Called once, perhaps at once. */
typedef void (*QfsFetchDone)(QfsCoordinator *c, QfsStatus status, QfsRecord *record, gpointer data);
void qfs_fetch(QfsCoordinator *c, const char *key, QfsFetchDone done, gpointer data);
/* As base of a write: versions used lately are not read again. */
void qfs_fetch_base(QfsCoordinator *c, const char *key, QfsFetchDone done, gpointer data);
/* What the trusted nodes have, though it may have been recovered and never acknowledged: not to be shown. */
void qfs_fetch_any(QfsCoordinator *c, const char *key, QfsFetchDone done, gpointer data);

/* ---- direct reads: reads.c ---- */

typedef struct QfsAsk QfsAsk;
/* `read` is borrowed. QFS_NO_QUORUM: nobody who may answer did; then its node may be 0, too. */
typedef void (*QfsReadDone)(QfsCoordinator *c, QfsRead *read, gpointer data);
/* Asks `what` (its node is 0; taken over) of `need` of the nodes that may answer it, other than `except`. Those
 * are for RECORD qfs_readable(hash), for CHUNKS qfs_object_readable, for LIST qfs_listable; `all`: of now, without
 * the mute ones. `done` is called once per answer, `need` times; or until the first failure, which is the
 * last call. Not before this returns. */
void qfs_ask(QfsCoordinator *c, QfsRead *what, guint64 hash, QfsNodeSet all, QfsNodeSet except,
             guint need, QfsReadDone done, gpointer data);
void qfs_reads_receive(QfsCoordinator *c, QfsRead *read); /* takes it over */
void qfs_reads_peer_lost(QfsCoordinator *c, QfsPeer *peer);
void qfs_reads_tick(QfsCoordinator *c, gint64 now_us);
void qfs_reads_clear(QfsCoordinator *c);
gint64 qfs_read_estimate(const QfsPeer *peer, gint64 now_us); /* usual time of a direct read there */
QfsNodeSet qfs_listable(const QfsCoordinator *c); /* nodes whose listings count */
/* Nodes that may answer for `hash` alone: trusted members of H(hash, B). */
QfsNodeSet qfs_readable(const QfsCoordinator *c, guint64 hash);
guint qfs_pick(QfsCoordinator *c, guint64 hash, QfsNodeSet among); /* a node of the set; 0: it is empty */
/* The node of a read, which may be none. */
static inline QfsNodeSet qfs_read_bit(const QfsRead *read) {
  return read->node != 0 ? QFS_NODE_BIT(read->node) : 0;
}
/* A read failed at its node: demote it if others can answer. TRUE: ask another one. */
gboolean qfs_read_failed(QfsCoordinator *c, guint64 hash, QfsRead *read);

/* Chunks of a version from `nodes`, rather not those of `bad_at`; `done` as of qfs_ask with a need of 1, perhaps after
 * a second node confirmed that there is no row: chunk_read.c. */
void qfs_chunks_read(QfsCoordinator *c, QfsRecord *record, guint64 index, guint count, QfsNodeSet nodes,
                     QfsNodeSet bad_at, QfsReadDone done, gpointer data);

/* ---- operations ---- */

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
  gint64 deadline_us;
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
  guint64 chunks_after;   /* its chunk flights are numbered above this; its record is not yet everywhere */
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
gboolean qfs_key_has_quorum(QfsCoordinator *c, const QfsKey *key); /* NULL has */
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

/* ---- files with several names: linked.c ---- */
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

/* ---- directories that are being renamed: subtree.c ---- */
/* What is below `from` and below `to` is `op`'s alone until qfs_subtree_release: who comes later waits. FALSE: parked,
 * another one is under way. Its keys are locked. */
gboolean qfs_subtree_claim(QfsCoordinator *c, QfsOp *op, const char *from, const char *to, gboolean exchange);
/* Nothing is under way there any more. FALSE: parked. */
gboolean qfs_subtree_is_quiet(QfsCoordinator *c, QfsOp *op);
/* Reads both trees. QFS_CROSS: there is too much below them for one step. Called once, perhaps at once. */
typedef void (*QfsSubtreeDone)(QfsCoordinator *c, QfsStatus status, gpointer data);
void qfs_subtree_read(QfsCoordinator *c, QfsSubtreeDone done, gpointer data);
/* Newest record of each key that was read, tombstones too; below one of the two directories. In the order of keys.
 * Element-type QfsRecord, a new array. */
GPtrArray *qfs_subtree_records(const QfsCoordinator *c);
QfsRecord *qfs_subtree_find(const QfsCoordinator *c, const char *key); /* borrowed; NULL: no row */
gboolean qfs_subtree_has(const QfsCoordinator *c, const char *dir); /* anything that exists below it */
/* The key's place in the other tree, newly allocated; NULL: it is in none. */
char *qfs_subtree_other(const QfsCoordinator *c, const char *key);
/* `moved`: the requests that waited, and that say so, go on with the new names. Nothing when it is not `op`'s. */
void qfs_subtree_release(QfsCoordinator *c, QfsOp *op, gboolean moved);
/* At the head of qfs_op_lock_keys. TRUE: parked. */
gboolean qfs_subtree_holds_back(QfsCoordinator *c, QfsOp *op);

void qfs_op_close_chunks(QfsCoordinator *c, QfsOp *op); /* its chunks have a record now, or are gone */
void qfs_op_get(QfsCoordinator *c, QfsRequest *request);
void qfs_op_read(QfsCoordinator *c, QfsRequest *request);
void qfs_op_seek(QfsCoordinator *c, QfsRequest *request);
void qfs_op_list(QfsCoordinator *c, QfsRequest *request);
void qfs_op_write(QfsCoordinator *c, QfsRequest *request);
void qfs_op_remove(QfsCoordinator *c, QfsRequest *request);
void qfs_op_rename(QfsCoordinator *c, QfsRequest *request);
void qfs_op_link(QfsCoordinator *c, QfsRequest *request);
/* Removes exactly this version, and tells. `done` may be called at once. */
/* SYNC of a key, or of everything: NULL. */
typedef void (*QfsSyncDone)(QfsCoordinator *c, QfsStatus status, gpointer data);
void qfs_sync(QfsCoordinator *c, const char *key, QfsSyncDone done, gpointer data);
typedef void (*QfsRemovedDone)(QfsCoordinator *c, QfsStatus status, gpointer data);
void qfs_remove_version(QfsCoordinator *c, const QfsRecord *record, QfsRemovedDone done, gpointer data);
void qfs_op_sync(QfsCoordinator *c, QfsRequest *request);
void qfs_op_node(QfsCoordinator *c, QfsRequest *request);
void qfs_op_node_poll(QfsCoordinator *c); /* after peers or settling changed */

/* One page of a directory, in the order of names. `entries` is borrowed, NULL unless QFS_OK. */
typedef void (*QfsListDone)(QfsCoordinator *c, QfsStatus status, GPtrArray *entries, gboolean more, gpointer data);
/* After name `after` (NULL: from the first), with data, and tombstones where keys were deleted. */
void qfs_list_whole(QfsCoordinator *c, const char *dir, const char *after, QfsListDone done, gpointer data);
/* The first child of `dir` that exists, other than those in `except`: for emptiness checks. */
typedef void (*QfsEmptyDone)(QfsCoordinator *c, QfsStatus status, gboolean empty, gpointer data);
void qfs_list_is_empty(QfsCoordinator *c, const char *dir, QfsEmptyDone done, gpointer data);

/* ---- objects ---- */

typedef struct {
  QfsObjectId id;
  guint pins;
  GPtrArray *flights;     /* chunk flights not complete */
} QfsObject;

QfsObject *qfs_object_find(QfsCoordinator *c, QfsObjectId id);
QfsObject *qfs_object_use(QfsCoordinator *c, QfsObjectId id);
void qfs_object_release_if_idle(QfsCoordinator *c, QfsObject *object);
/* Chunks flight; registers it with its object until complete. */
QfsFlight *qfs_object_send_chunks(QfsCoordinator *c, QfsObjectId id, GPtrArray *chunks, gboolean durable,
                                  gpointer data, QfsFlightDone on_quorum, QfsFlightDone on_refused);
/* Chunk flights that are not at all holders: known to their object. */
void qfs_object_add_flight(QfsCoordinator *c, QfsFlight *flight);
void qfs_object_remove_flight(QfsCoordinator *c, QfsFlight *flight); /* does nothing when it is not there */
/* Nodes that have every chunk of the object up to write number `version`. */
QfsNodeSet qfs_object_readable(QfsCoordinator *c, QfsObjectId id, guint64 version);
/* Garbage: removed once operation `seq` is durable at all holders and nobody pins the object. Takes `chunks` over. */
void qfs_garbage_add(QfsCoordinator *c, guint64 seq, QfsDiscard discard, QfsObjectId id,
                     GPtrArray *chunks);
/* The intent `id` is removed everywhere once the batch of operation `seq` is durable at all holders. */
void qfs_garbage_add_intent(QfsCoordinator *c, guint64 seq, guint64 id);
void qfs_garbage_collect(QfsCoordinator *c);
gboolean qfs_garbage_has_intents(const QfsCoordinator *c);
gboolean qfs_garbage_waits(const QfsCoordinator *c); /* for a round to begin, not for a pin */
void qfs_garbage_round(QfsCoordinator *c); /* a round of settling begins */

guint qfs_object_id_hash(gconstpointer id);
gboolean qfs_object_id_equal(gconstpointer a, gconstpointer b);
/* A write's number: of the rows that it brings, above those of every earlier write, never given again. */
guint64 qfs_next_write(QfsCoordinator *c);
/* Rows of writes up to now may come to light that no version that is known has: a new life began, or the trusted
 * nodes were lost and what they find now is all that is believed. */
void qfs_writes_uncertain(QfsCoordinator *c);
/* The write's chunks found no room and no record will have them, but they may be at some nodes. */
void qfs_object_give_up(QfsCoordinator *c, QfsObjectId id, guint64 number);
/* Are the rows newer than `newest`, up to now, all known? */
gboolean qfs_object_may_extend(QfsCoordinator *c, QfsObjectId id, guint64 newest);
/* An object that is built piece by piece in this life, before a record names it. */
void qfs_object_stage(QfsCoordinator *c, QfsObjectId id);
void qfs_object_unstage(QfsCoordinator *c, QfsObjectId id);
gboolean qfs_object_is_staged(const QfsCoordinator *c, QfsObjectId id);

/* ---- orphans: reclaim.c ---- */
void qfs_reclaim_want(QfsCoordinator *c); /* something happened that may leave chunk rows that no record has */
void qfs_reclaim_consider(QfsCoordinator *c);
void qfs_reclaim_stop(QfsCoordinator *c);
/* A run is under way, or could be at once. */
gboolean qfs_reclaim_is_due(const QfsCoordinator *c);
/* A write was given up: what was proved of its time does not hold any more. */
void qfs_reclaim_unprove(QfsCoordinator *c);
/* A version has these: so many that a run which proves that gaps between them are empty is worth it? */
void qfs_reclaim_note_spans(QfsCoordinator *c, GBytes *spans);
/* The flight carries records or chunks: their objects are alive. */
void qfs_reclaim_note_flight(QfsCoordinator *c, const QfsMessage *message);

/* ---- views ---- */

/* Looks whether S should change and whether quorum is there; starts a proposal if so. */
void qfs_view_evaluate(QfsCoordinator *c);
void qfs_view_propose(QfsCoordinator *c, QfsNodeSet in_sync, QfsNodeSet base);
void qfs_view_propose_layout(QfsCoordinator *c, QfsNodeSet in_sync, QfsNodeSet base, guint nodes,
                             guint replicas);
/* May S shrink to `in_sync` without leaving a key with no holder that is whole? */
gboolean qfs_view_allows(const QfsCoordinator *c, QfsNodeSet in_sync);
/* Why the node's file does not belong to this view and must be rebuilt; NULL: it does. */
const char *qfs_view_objection(const QfsView *view, const QfsNodeMeta *meta, guint64 settled,
                               gboolean *out_is_damage);
/* It was emptied, and what it holds since then is sound, but not all. */
gboolean qfs_view_is_filled(const QfsView *view, const QfsNodeMeta *meta);
void qfs_view_update_blocked(QfsCoordinator *c);
/* All that anybody missed is at the members of S: what is known of earlier sets does not matter any more. */
void qfs_view_begin_phase(QfsCoordinator *c);
/* N and K of the view in force, and its nodes. W of K replicas acknowledge. */
guint qfs_view_nodes(const QfsCoordinator *c);
guint qfs_replicas(const QfsCoordinator *c);
QfsNodeSet qfs_view_all(const QfsCoordinator *c);
static inline guint qfs_write_quorum(guint replicas) { return replicas / 2 + 1; }
gboolean qfs_view_is_majority(const QfsView *view, QfsNodeSet nodes);
/* Are there enough nodes in `nodes` for a decision on the view? */
gboolean qfs_view_has_majority(const QfsCoordinator *c, QfsNodeSet nodes);
/* Who held the key under such a set; and: have so many of them been seen that every write that they may have
 * acknowledged was? */
QfsNodeSet qfs_set_holders(const QfsViewSet *set, guint64 hash);
gboolean qfs_set_was_met(const QfsViewSet *set, guint64 hash, QfsNodeSet seen);
QfsNodeSet qfs_peers_in(const QfsCoordinator *c, QfsPeerState state);
QfsNodeSet qfs_peers_alive(const QfsCoordinator *c); /* answer messages */
gboolean qfs_can_write(const QfsCoordinator *c);
QfsNodeSet qfs_holders(const QfsCoordinator *c, guint64 hash);  /* H(hash, S) */
gboolean qfs_is_blocked(const QfsCoordinator *c, guint64 hash); /* an unseen newer version may exist */
QfsNodeSet qfs_view_hidden(const QfsCoordinator *c); /* nodes that may have such versions */
/* An unsettled set of the view; of too many to remember any node may have been a member. */
QfsViewSet qfs_view_unsettled(const QfsCoordinator *c, guint i);
/* Any W nodes may have what nobody else has, until everything is settled. */
void qfs_view_suspect_all(QfsCoordinator *c);

/* ---- settling ---- */
void qfs_settle_dirty(QfsCoordinator *c);
void qfs_settle_now(QfsCoordinator *c);
void qfs_settle_tick(QfsCoordinator *c, gint64 now_us);

gboolean qfs_is_settled(const QfsCoordinator *c);
void qfs_ceiling_raise(QfsCoordinator *c);

/* ---- start and return ---- */
void qfs_recovery_consider(QfsCoordinator *c);
void qfs_recovery_peer_changed(QfsCoordinator *c, QfsPeer *peer);
void qfs_recovery_view_done(QfsCoordinator *c);
void qfs_recovery_free(QfsCoordinator *c);
gboolean qfs_recovery_unites(const QfsCoordinator *c);
guint64 qfs_recovery_void_below(const QfsCoordinator *c); /* for the next view: QfsView.void_below */
/* While keys are blocked, a node whose unsettled operations were not seen yet is a reason to begin again. */
gboolean qfs_recovery_somebody_unseen(const QfsCoordinator *c);

QfsNodeSet qfs_unite_present(const QfsCoordinator *c); /* answer with files that belong to the view */
/* Members of S that answer with files that belong to the view. */
QfsNodeSet qfs_members_present(const QfsCoordinator *c);
/* `members` are too few. Is everything acknowledged at those who are there, members of S or not? */
gboolean qfs_unite_may(const QfsCoordinator *c, QfsNodeSet members);
guint64 qfs_unite_from(const QfsCoordinator *c); /* operations above this are to be looked at */
QfsNodeSet qfs_unite_begin(QfsCoordinator *c, QfsNodeSet members); /* the members to begin with */
void qfs_unite_tell(QfsCoordinator *c); /* once, what is waited for */
char *qfs_waits_for_text(const QfsCoordinator *c); /* newly allocated; NULL: for nothing */
void qfs_catchup_start(QfsCoordinator *c, QfsPeer *peer);
void qfs_catchup_stop(QfsCoordinator *c, QfsPeer *peer);
void qfs_catchup_restart_all(QfsCoordinator *c); /* all begin anew when they are considered next */
/* Notes that what `message` carries is copied to a node that lacks it. */
void qfs_count_copied(QfsCoordinator *c, const QfsMessage *message);
void qfs_catchup_consider(QfsCoordinator *c);
gboolean qfs_catchup_was_from_nothing(const QfsPeer *peer); /* copied all that it has to hold */
/* The trusted nodes are too few: will they do with those that can catch up from them? */
gboolean qfs_catchup_may_complete(const QfsCoordinator *c);
gboolean qfs_catchup_ready(const QfsCoordinator *c, const QfsPeer *peer);
guint qfs_catchup_progress(const QfsPeer *peer);

/* ---- moving data: mover.c, resize.c, tidy.c ---- */

/* Where a move leads: S = B = set, with this N and K. */
typedef struct {
  QfsNodeSet set;
  guint nodes, replicas;
} QfsMoveTarget;

void qfs_mover_consider(QfsCoordinator *c);
void qfs_mover_stop(QfsCoordinator *c);
gboolean qfs_mover_is_due(const QfsCoordinator *c);  /* to be done or under way */
gboolean qfs_mover_is_done(const QfsCoordinator *c, QfsMoveTarget *out_target); /* the view may switch */
guint qfs_mover_progress(const QfsCoordinator *c);
QfsNodeSet qfs_mover_holders(const QfsCoordinator *c, guint64 hash); /* who is to hold it; 0: no move */

void qfs_resize_consider(QfsCoordinator *c);
gboolean qfs_resize_is_wanted(const QfsCoordinator *c);
gboolean qfs_resize_is_over(const QfsCoordinator *c);
gboolean qfs_resize_grows(const QfsCoordinator *c); /* the view may take the greater N */
gboolean qfs_resize_introduces(const QfsCoordinator *c); /* new nodes are to get the next view first */
gboolean qfs_resize_target(const QfsCoordinator *c, QfsMoveTarget *out); /* FALSE: nothing to be moved now */
gboolean qfs_resize_marks_leavers(const QfsCoordinator *c); /* the next view says that they are unusable */
guint qfs_resize_progress(const QfsCoordinator *c);
/* What it waits for, newly allocated; NULL: it goes on. */
char *qfs_resize_reason(const QfsCoordinator *c);

void qfs_tidy_consider(QfsCoordinator *c);
void qfs_tidy_stop(QfsCoordinator *c);
gboolean qfs_tidy_is_due(const QfsCoordinator *c);  /* to be done or under way */
gboolean qfs_tidy_is_done(const QfsCoordinator *c); /* the next view may say so */

/* ---- evicted nodes ---- */
QfsNodeSet qfs_evicted(const QfsCoordinator *c);
QfsNodeSet qfs_evicted_away(const QfsCoordinator *c); /* of these, the ones that are closed */
/* Has the operator accepted the loss of what only these nodes have? */
gboolean qfs_is_given_up(const QfsCoordinator *c, QfsNodeSet missing);
/* Have some keys, or has this one, lost all holders? */
gboolean qfs_has_lost(const QfsCoordinator *c);
gboolean qfs_is_lost(const QfsCoordinator *c, guint64 hash);
void qfs_evict_strays(QfsCoordinator *c); /* before the view that says that others took over */
gboolean qfs_evictions_are_remembered(const QfsCoordinator *c); /* by the view */
QfsStatus qfs_evict(QfsCoordinator *c, QfsPeer *peer); /* QFS_OK: decided, the node is to be closed */
gboolean qfs_evict_is_done(const QfsCoordinator *c, const QfsPeer *peer);

/* ---- tombstones ---- */
void qfs_purge_consider(QfsCoordinator *c);
void qfs_purge_stop(QfsCoordinator *c);
/* Every node is in sync or given up, and nothing moves. */
gboolean qfs_purge_may_run(const QfsCoordinator *c);
/* What collecting tombstones waits for, newly allocated; NULL: for nothing but its time. */
char *qfs_purge_reason(const QfsCoordinator *c);
void qfs_op_gc(QfsCoordinator *c, QfsRequest *request);

/* ---- mending ---- */
/* `peer` has this row, and it does not match its checksum. `needed`: not by a direct read; if there is no good copy
 * the node fails. */
void qfs_mend_bad_row(QfsCoordinator *c, QfsPeer *peer, const QfsBadRow *bad, gboolean needed,
                      const char *reason);
/* The holders of `key` differ, or so it seemed without its lock. */
void qfs_mend_key(QfsCoordinator *c, const char *key);
/* Some record has this chunk row, and not all of its holders have it. */
void qfs_mend_missing(QfsCoordinator *c, const QfsChunk *row);
struct QfsMend {
  char *key;             /* NULL: of a chunk row */
  QfsChunk chunk;        /* no data */
  guint64 hash;          /* who holds it */
  QfsNodeSet subjects;   /* nodes to look at beside the holders */
  QfsNodeSet reported;   /* of them: told of a bad row */
  QfsNodeSet needed;     /* of them: something can't go on before, whose node fails if there is no good copy */
  gboolean missing;      /* a chunk row that a record has, and that some holder seemed to lack */
  gboolean running;
  QfsOp *op;             /* running, and waiting for the key's lock */
  gint64 at_us;
  guint tries;
};
/* More rows than this that can't be reached by the names they tell, and the node is rebuilt. */
#define QFS_UNREACHABLE_ROWS_MAX 3
void qfs_mend_over(QfsCoordinator *c, QfsMend *mend, QfsStatus status);
void qfs_mend_chunk_start(QfsCoordinator *c, QfsMend *mend); /* mend_chunk.c */
/* mend_known.c: of a bad record, is the version in memory that belongs there? Then the key's lock is not needed. */
gboolean qfs_mend_is_known(QfsCoordinator *c, const QfsMend *mend);
void qfs_mend_known_start(QfsCoordinator *c, QfsMend *mend);
/* It told of a bad row and has none by that name: the name is damaged, too, and the row can't be reached. */
void qfs_mend_unreachable(QfsCoordinator *c, QfsPeer *peer);
void qfs_mends_consider(QfsCoordinator *c);
gboolean qfs_mends_records(const QfsCoordinator *c); /* are records waiting to be mended? */
void qfs_mends_clear(QfsCoordinator *c);
/* `resume` is called when some key was mended, or could not be. */
void qfs_mend_wait(QfsCoordinator *c, void (*resume)(QfsCoordinator *c, gpointer data), gpointer data);

/* ---- looking for damage and differences ---- */
/* Records are compared, then the names of chunk rows, then chunks are verified node by node. */
typedef enum { QFS_SCRUB_RECORDS, QFS_SCRUB_CHUNKS, QFS_SCRUB_DATA, QFS_SCRUB_OVER } QfsScrubPass;
typedef struct {
  QfsScrubPass pass;
  char *key;                      /* RECORDS: this one and those before it are done; NULL: none is */
  QfsChunk chunk;                 /* the others: the same of the row of this name; object none: none is */
  guint node;                     /* DATA: its rows */
} QfsScrubPlace;
typedef struct {
  gboolean forced, forced_verify; /* by command */
  gboolean due;                   /* by schedule */
  gboolean compare;               /* a node came back */
  gint64 at_us;                   /* the next one by schedule */
  gboolean resumes, verifying;    /* a run was interrupted, at: */
  QfsScrubPlace at;
  guint64 rows;                   /* looked at in this run */
  guint64 bad_before, mended_before, lost_before;
  guint64 runs;                   /* that came to their end */
  gint64 last_ms;                 /* wall clock; 0: none yet */
  gboolean last_verified;
  guint64 last_bad, last_mended, last_lost;
} QfsScrubState;
void qfs_scrub_consider(QfsCoordinator *c);
void qfs_scrub_stop(QfsCoordinator *c); /* it goes on when it can */
void qfs_scrub_clear(QfsCoordinator *c);
void qfs_scrub_compare_soon(QfsCoordinator *c);
const char *qfs_scrub_reason(const QfsCoordinator *c); /* what it waits for; NULL: for nothing */
guint qfs_scrub_progress(const QfsCoordinator *c);     /* percent */
void qfs_op_scrub(QfsCoordinator *c, QfsRequest *request);
/* The rows after `at` are compared, at most `rows` of them: scrub_range.c. Ends with qfs_scrub_range_done, which moves
 * `at` on, or with qfs_scrub_interrupt; qfs_scrub_stop ends it, too. */
QfsScrubRange *qfs_scrub_range_new(QfsScrubPass pass, gboolean verify);
void qfs_scrub_range_free(QfsScrubRange *range); /* accepts NULL */
void qfs_scrub_range_begin(QfsCoordinator *c, QfsScrubRange *range, const QfsScrubPlace *at, guint rows);
/* `end`: the place up to which rows were compared; NULL: all were. */
void qfs_scrub_range_done(QfsCoordinator *c, const QfsScrubPlace *end);
gboolean qfs_scrub_goes_on(QfsCoordinator *c); /* FALSE: it was interrupted */
void qfs_scrub_interrupt(QfsCoordinator *c);
void qfs_scrub_take_bad_rows(QfsCoordinator *c, QfsPeer *peer, const QfsMessage *reply);

/* ---- peers ---- */
/* Marks the peer for rebuilding if its file does not belong to the view. */
void qfs_peer_judge(QfsCoordinator *c, QfsPeer *peer);
void qfs_peer_start(QfsCoordinator *c, QfsPeer *peer);
void qfs_peer_greet(QfsCoordinator *c, QfsPeer *peer);
void qfs_peer_lost(QfsCoordinator *c, QfsPeer *peer, QfsPeerState state);
void qfs_peer_fail(QfsCoordinator *c, QfsPeer *peer, const char *reason, gboolean rebuild);
/* Takes over what the reply says of a replica that was set aside. */
void qfs_peer_note_aside(QfsCoordinator *c, QfsPeer *peer, const QfsMessage *reply);
/* Every reply passes here: QFS_IO means that the node failed. FALSE: the reply is of no use. */
gboolean qfs_peer_reply_ok(QfsCoordinator *c, QfsPeer *peer, const QfsMessage *reply);
void qfs_log(QfsCoordinator *c, GLogLevelFlags level, const char *format, ...) G_GNUC_PRINTF(3, 4);
void qfs_wake_at(QfsCoordinator *c, gint64 at_us);
/* Bookkeeping that may be due after any event. */
/* The number of the next flight; records and chunks of it carry it. */
guint64 qfs_next_seq(QfsCoordinator *c);
void qfs_after_event(QfsCoordinator *c);

/* Above every timestamp that the clock issues: versions of chunk rows of before there were write numbers. */
#define QFS_WRITE_NUMBER(epoch, counter) ((G_GUINT64_CONSTANT(1) << 63) | QFS_SEQ(epoch, counter))

#define QFS_KEY_COUNTERS 4096
#define QFS_SETTLE_DELAY_US (300 * 1000)
/* More than this on its way and new writes wait: memory stays bounded when a node is slow. */
#define QFS_FLIGHT_BYTES_MAX (32u << 20)
#define QFS_FLIGHTS_MAX 4096
#define QFS_CLOSING_DELAY_US 2000
#define QFS_CEILING_AHEAD_MS 60000

typedef struct {
  void (*resume)(QfsCoordinator *c, gpointer data);
  gpointer data;
} QfsMendWaiter;

struct QfsCoordinator {
  QfsEnv *env;
  QfsCoordinatorConfig config;
  guint n_peers;                  /* node processes; N is the view's */
  QfsPeer peer[QFS_NODES_MAX + 1]; /* from 1 */
  char *failure;
  gboolean serving, closing;

  /* views */
  QfsView view;                   /* durable at a majority */
  gboolean view_known;
  gboolean view_proven;           /* ... which this coordinator has seen; else a start chose it */
  gboolean view_stable;           /* no proposal under way */
  gboolean view_wants_untidy;     /* the next one is not to call the nodes tidy */
  guint64 base_epoch;             /* of the view that brought its B, N and K */
  guint64 set_after;              /* operations above this were sent under its S, N and K */
  gboolean quorum;                /* a majority of the nodes answers and S may be changed at will */
  QfsView proposal;
  QfsNodeSet proposal_promised, proposal_acked, proposal_sent;
  QfsNodeSet proposal_believed;   /* whose replicas take its epoch as their generation when they promise */
  guint64 proposal_id;
  guint64 proposal_ceiling;
  gboolean view_stale;            /* nodes may have promised an epoch newer than the view's */
  guint64 first_epoch;            /* least epoch of this coordinator's life */
  guint64 epoch_seen;             /* greatest epoch ever seen or proposed */
  gboolean view_dirty;            /* peers changed: qfs_after_event looks again */
  gboolean held_waits;            /* records that are to be copied wait for what must come first */
  gboolean joiner_lost;           /* so are flights that waited only for it: they may be complete */
  QfsNodeSet seen;                /* nodes whose operations past the settled mark have been taken in */
  gboolean recover_again;         /* keys were opened by command: what was kept meanwhile is to be judged */
  QfsNodeSet waits_told;          /* these were waited for, and the log says so */
  gboolean blocked;               /* some keys may have newer versions at nodes not seen */
  gboolean phase_known;           /* the sets since S was last equal to B are all in `phase` */
  guint n_phase;
  struct {
    QfsViewSet set;
    guint64 after;                /* operations above this were sent under it or a later one */
  } phase[QFS_VIEW_SETS_MAX];

  /* sequence */
  guint64 counter;
  guint64 last_seq;                 /* of the flight being made: qfs_next_seq */
  guint64 n_issued, n_issued_at_settle, n_settled;
  QfsClock clock;
  gboolean raising_ceiling;

  /* in flight */
  GQueue flights;                 /* QfsFlight by seq */
  GPtrArray *intents;             /* those of them that are intents */
  gint64 full_retry_us;           /* flights wait for space: ask again then; 0: none */
  GQueue retained;                /* complete but not settled: sent again if their holders change */
  gsize flight_bytes;             /* payload of all of them */
  GHashTable *rpcs;               /* cookie -> QfsRpc */
  gint64 ping_at_us, repeat_at_us;
  guint64 next_cookie;
  guint64 next_incarnation;
  GQueue ops;                     /* QfsOp by deadline */
  GQueue open_ops;                /* QfsOp that sent chunks: the settled mark stays below them */
  GQueue stalled;                 /* QfsOp waiting for a view or the clock */
  GHashTable *keys;               /* key -> QfsKey */
  guint64 key_counters[QFS_KEY_COUNTERS];
  GHashTable *recent;             /* key -> its newest version: recent.c */
  GQueue recent_order;
  gsize recent_bytes;
  GHashTable *creating;           /* directory -> number of creations under way below it */
  QfsSubtree *tree;                  /* a directory that is being renamed; or NULL */
  GHashTable *removing;           /* directories whose removal is under way -> by how many */
  GHashTable *objects;            /* QfsObjectId* -> QfsObject */
  GQueue garbage;                 /* QfsGarbage by seq */
  GHashTable *given_up;           /* QfsObjectId -> number of a write that was given up (guint64 *) */
  GHashTable *staged;             /* set of QfsObjectId */
  guint64 extend_above;           /* spans that end up to here are not extended: qfs_writes_uncertain */
  guint64 next_object;
  GQueue node_ops;                /* QfsOp of QFS_REQUEST_NODE and SYNC that wait for settling */

  /* direct reads */
  GQueue asks;                    /* QfsAsk by id */
  guint64 next_ask;
  guint64 reads_started, reads_ticked; /* now, and at the last tick */

  /* settling */
  guint64 settled;                /* mark: durable on all holders */
  guint64 settled_told;           /* value that every in-sync node has been told */
  gboolean settling;
  guint64 settle_mark, settle_told_next;
  QfsNodeSet settle_waiting;
  gint64 settle_at_us;            /* 0: nothing to settle */
  guint64 settle_id;              /* of the round that began last */
  guint64 settle_done;            /* of the round that ended well last */

  QfsRecovery *recovery;
  QfsMover *mover;
  QfsTidy *tidy;
  guint64 tidied_epoch;           /* view in which a run came to its end */
  guint want_nodes, want_replicas; /* 0: as they are */
  gboolean resize_told;
  guint intents_leaving;          /* nodes asked to remove an intent, not yet answered */
  QfsPurge *purge;                /* the run under way */
  gint64 purge_at_us;             /* the next one by schedule */
  gboolean purge_again;           /* a run is to begin in the new epoch that it asked for */
  guint64 tidying_epoch;          /* in which rows were last removed from nodes that do not own them */
  gboolean purge_wants_epoch;     /* ... which is not there yet */
  gboolean purge_forced;          /* by command, whatever the age, once operations up to */
  guint64 purge_forced_seq;       /* ... this one are settled */
  guint64 purge_last_removed;
  gint64 purge_last_ms;           /* wall clock; 0: no run ended yet */
  GQueue mends;                   /* QfsMend in the order in which they were found */
  guint mends_running;
  QfsScrub *scrub;                /* the run under way */
  QfsScrubRange *scrub_range;     /* ... and the rows that it compares */
  QfsScrubState scrub_state;
  GQueue mend_waiters;            /* QfsMendWaiter */
  QfsReclaim *reclaim;            /* the run under way */
  gboolean reclaim_wanted;
  gboolean reclaim_forced;        /* by command, which waits for its end */
  guint64 reclaim_last_removed;
  guint64 reclaim_runs;           /* that passed nothing over */
  guint64 reclaim_seq;            /* ... once operations up to this one are settled */
  gint64 reclaim_at_us;           /* ... not before */
  gboolean reclaim_proving;       /* a run has ended, and its proof waits until operations up to */
  guint64 reclaim_proof_seq;      /* ... this one are settled and all nodes know it */
  guint64 reclaim_proof;          /* ... to become the next: */
  guint64 reclaimed;              /* rows of writes below this number are all some record's */
  gint64 view_changed_us;         /* when S changed last */
  gint64 wake_us;                 /* wish that the environment knows of; 0: none */
  QfsEngineCounters stat;
};

G_END_DECLS
