/* engine.h - the store as fs/ and other users in the process see it.
 *
 * Owns: the set of operations that every engine offers. Two engines: the embedded cluster
 * (qfs_engine_open_embedded) and, later, etcd.
 * Threading: any thread may call anything except close. submit never blocks on nodes (unless request->lend allows it
 * to do their work): it returns when the request is answered or queued; a hot get is answered inside submit by the calling thread.
 * Nothing here calls `done` with a lock held.
 */
#pragma once

#include "cluster/change.h"
#include "cluster/links.h"
#include "cluster/message.h"
#include "cluster/reader_pool.h"
#include "cluster/request.h"

G_BEGIN_DECLS

typedef struct {
  char *store;                 /* directory of the store */
  guint nodes;                 /* N, 1..QFS_NODES_MAX */
  guint replicas;              /* K, 1..N */
  char *node_dirs[QFS_NODES_MAX]; /* NULL: store/node-I */
  gboolean sync;               /* every put is durable before it is acknowledged */
  guint timeout_ms;            /* deadline of a request */
  guint tombstone_grace_s;
  guint scrub_period_s;        /* 0: only by command */
  gboolean faults;             /* fault injection allowed */
  gboolean temporary;          /* the store is deleted when the process ends, which has no other one: nothing is synced */
} QfsEngineConfig;

typedef enum {
  QFS_NODE_STATE_DOWN,         /* closed by command */
  QFS_NODE_STATE_CRASHED,      /* closed by command, without settling */
  QFS_NODE_STATE_OPENING,
  QFS_NODE_STATE_CATCHING_UP,  /* progress in percent */
  QFS_NODE_STATE_REBUILDING,
  QFS_NODE_STATE_UP,           /* in sync */
  QFS_NODE_STATE_FAILED,       /* reason */
  QFS_NODE_STATE_EVICTED,      /* closed and given up; comes up empty */
} QfsNodeState;

typedef struct {
  QfsNodeState state;
  guint progress;              /* percent, for CATCHING_UP and REBUILDING */
  char *reason;                /* for FAILED, else NULL */
  char *aside;                 /* why a damaged replica lies beside its present one; NULL: none does */
  char *dir;
  gboolean in_sync;
  guint64 lag;                 /* operations sent and not yet acknowledged */
  guint64 answer_us, read_us;  /* usual time of a request, and of a direct read */
  QfsReplicaStats replica;     /* as of the node's last report */
} QfsNodeStatus;

/* What happened since the start. */
typedef struct {
  guint64 puts, gets, deletes, renames;
  guint64 acknowledged, timed_out, refused; /* puts, deletes, renames and syncs that ended so */
  guint64 sent[QFS_MESSAGE_TYPES], received[QFS_MESSAGE_TYPES]; /* by QfsMessageType; repeats count */
  guint64 tombstones_collected;
  guint64 chunks_reclaimed;    /* chunk rows that no record had */
  guint64 hedged;              /* direct reads that were sent to another node because one was late */
  guint64 written_back;        /* versions that a read found at too few nodes and wrote to a majority */
  guint64 bad_records, bad_chunks;       /* rows that did not match their checksum */
  guint64 mended_records, mended_chunks; /* rows that were replaced by a good copy, or taken away;
                                          * those of replicas that were rebuilt because of damage as well */
  guint64 lost_rows;           /* bad rows for which there was no good copy */
  guint64 set_aside;           /* replicas that could not be used and were kept under another name */
  guint64 rebuilt;             /* replicas that were found unusable and wiped, to be copied anew */
  guint64 lost_values;         /* removed because their data was only at evicted nodes */
  guint64 copied_records, copied_chunks; /* to nodes that caught up or took over */
  guint64 tidied;              /* rows removed from nodes that do not own them */
} QfsEngineCounters;

typedef struct {
  guint nodes, replicas, write_quorum;
  guint64 epoch;
  gboolean quorum;             /* writes are possible */
  gboolean recovering;         /* start is not finished */
  char *waits_for;             /* nodes that are to return with their files, or to be evicted; NULL: none */
  guint64 unsettled;           /* versions not yet on stable storage on all holders */
  QfsEngineCounters count;
  guint nodes_in_force;        /* N; `nodes` counts those that come or go, too */
  gboolean resizing;           /* to these: */
  guint wanted_nodes, wanted_replicas;
  guint resize_progress;       /* percent of the step under way */
  char *resize_waits_for;      /* NULL: it goes on */
  gboolean purge_running;      /* or asked for and waiting; reclaiming by command, too */
  char *purge_waits_for;       /* collecting tombstones waits for this; NULL: for nothing but its time */
  gint64 purge_last_ms;        /* wall clock of the end of the last run; 0: none yet */
  guint64 purge_last_removed;  /* tombstones that it collected */
  gboolean scrub_running;      /* or waiting */
  gboolean scrub_wanted;       /* by command */
  gboolean scrub_verifies;     /* it reads all data (scrub), or only compares versions (repair) */
  const char *scrub_waits_for; /* static; NULL: for nothing */
  guint scrub_progress;        /* percent */
  guint64 scrub_runs;          /* that came to their end since the start */
  gint64 scrub_last_ms;        /* wall clock of the end of the last one; 0: none yet */
  gboolean scrub_last_verified;
  guint64 scrub_last_bad, scrub_last_mended; /* rows that it found bad; that were mended meanwhile */
  guint64 scrub_last_lost;     /* for which there is no good copy */
  guint64 reclaim_last_removed; /* chunk rows that the last run of reclaiming discarded */
  guint64 reclaim_runs;        /* that looked at all chunk rows and are settled, since the start */
  char store[37];
  QfsNodeStatus node[QFS_NODES_MAX]; /* node i-1 */
} QfsEngineStatus;

typedef struct QfsEngine QfsEngine;

typedef struct {
  void (*submit)(QfsEngine *engine, QfsRequest *request);
  /* Nodes go on with what the calling thread submitted with QFS_LEND_GATHER, mostly in this thread. NULL in an engine that
   * does not gather. */
  void (*release)(QfsEngine *engine);
  /* A snapshot that touches no replica and never blocks on one; free with qfs_engine_status_free. */
  QfsEngineStatus *(*status)(QfsEngine *engine);
  /* While pinned, the chunks of `object` are not dropped though their record was replaced or removed.
   * Counts; a zero object is ignored. Pin between the GET that gave the record and the first READ. */
  void (*pin)(QfsEngine *engine, QfsObjectId object);
  void (*unpin)(QfsEngine *engine, QfsObjectId object);
  /* Drops a staged object that will not be published. */
  void (*discard)(QfsEngine *engine, QfsObjectId object);
  /* Injected faults of the links; an engine without such has NULL for both. Editing is for engines that were
   * opened with `faults` only. `edit` is called once, before return. */
  void (*read_links)(QfsEngine *engine, QfsLinks *out);
  void (*edit_links)(QfsEngine *engine, QfsLinksEdit edit, gpointer user_data);
  /* `func` is told every change that is acknowledged from now on (W1, W2; before the request is answered), until another
   * is given; NULL: none. A change whose request ended QFS_UNKNOWN is told if it is applied after all. NULL in
   * an engine without. */
  void (*watch)(QfsEngine *engine, QfsChangeFunc func, gpointer user_data);
  /* Calls `inspect` in this thread with a read connection of the replica of `node`, 1..config.nodes, whatever the
   * coordinator thinks of that node and its links. QFS_NO_QUORUM: it is closed; QFS_IO: *out_reason (newly allocated).
   * NULL in an engine without replicas of its own. */
  QfsStatus (*inspect)(QfsEngine *engine, guint node, QfsReaderFunc inspect, gpointer user_data, char **out_reason);
  /* The nodes that own `key` or stand in for an owner now. NULL where inspect is. */
  QfsNodeSet (*holders)(QfsEngine *engine, const char *key);
  /* A number to compare with an earlier one: while it stays the same, an answer to a GET that was asked for under it, and
   * to whose key no change was told since (`watch`, QfsEngineWatch, own requests), is what a GET would still answer. 0, or NULL in an engine without: ask. Never blocks. */
  guint64 (*stand)(QfsEngine *engine);
  /* Settles what can be settled within `timeout_ms`, stops all threads, frees the engine. Call once, when
   * no request is under way or all are to be cut off (they end with QFS_UNKNOWN). */
  void (*close)(QfsEngine *engine, guint timeout_ms);
} QfsEngineOps;

struct QfsEngine {
  const QfsEngineOps *ops;
  QfsEngineConfig config;
};

void qfs_engine_status_free(QfsEngineStatus *status);

/* What `key` last changed to although nobody asked through this engine's submit (recovery): caches must
 * forget it. Called without locks, from any thread. */
typedef void (*QfsEngineWatch)(const char *key, gpointer user_data);

/* Opens or creates the embedded store and returns when it serves (or when it serves as far as it can: a
 * store without a majority of its nodes opens and answers QFS_NO_QUORUM). Blocks. Fails, changing
 * nothing, on: bad configuration, a store locked by another process, another N or K than the store has while
 * it lacks a majority of its nodes, a newer format, a directory that can't be made. Another N or K is reached in
 * the background. Errors are one line, fit for standard error. */
QfsEngine *qfs_engine_open_embedded(const QfsEngineConfig *config, QfsEngineWatch watch,
                                    gpointer watch_data, GError **error);

/* N and K of the store in directory `dir`, as its store.conf tells, so that defaults can follow an
 * existing store. FALSE, outputs untouched: no store there, or its store.conf can't be read. Takes no lock,
 * changes nothing. */
gboolean qfs_store_probe(const char *dir, guint *out_nodes, guint *out_replicas);

#define QFS_ENGINE_ERROR (qfs_engine_error_quark())
GQuark qfs_engine_error_quark(void);
typedef enum { QFS_ENGINE_ERROR_CONFIG, QFS_ENGINE_ERROR_LOCKED, QFS_ENGINE_ERROR_FAILED } QfsEngineError;

static inline void qfs_engine_submit(QfsEngine *engine, QfsRequest *request) {
  engine->ops->submit(engine, request);
}
static inline void qfs_engine_release(QfsEngine *engine) {
  if (engine->ops->release != NULL)
    engine->ops->release(engine);
}
static inline QfsEngineStatus *qfs_engine_status(QfsEngine *engine) { return engine->ops->status(engine); }
static inline void qfs_engine_pin(QfsEngine *engine, QfsObjectId object) { engine->ops->pin(engine, object); }
static inline void qfs_engine_unpin(QfsEngine *engine, QfsObjectId object) {
  engine->ops->unpin(engine, object);
}
static inline void qfs_engine_discard(QfsEngine *engine, QfsObjectId object) {
  engine->ops->discard(engine, object);
}
static inline guint64 qfs_engine_stand(QfsEngine *engine) {
  return engine->ops->stand != NULL ? engine->ops->stand(engine) : 0;
}
static inline void qfs_engine_close(QfsEngine *engine, guint timeout_ms) {
  engine->ops->close(engine, timeout_ms);
}

G_END_DECLS
