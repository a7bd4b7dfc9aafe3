/* env.h - everything that cluster logic may ask of the outside world.
 *
 * The coordinator (coordinator.h) and the node (node.h) are state machines: they take events and emit
 * effects through this table, and hold no thread, clock, sleep or randomness of their own. Two
 * environments implement it: env_thread.c (the product) and env_sim.c (tests/sim).
 *
 * The contract of an environment
 *  E1. No effect calls back into the state machine before the event that emitted it has returned:
 *      results arrive as later events. (env_thread runs them right after it released its lock.)
 *  E2. Events of one state machine are given one at a time (env_thread: under one lock).
 *  E3. Messages and direct reads may be lost or delayed, messages also repeated; env_thread delivers in order
 *      and loses only what was under way when a node stopped, unless faults are injected (links.h).
 *  E4. complete() reaches the requester exactly once per request, with no lock held.
 */
#pragma once

#include "cluster/message.h"
#include "cluster/request.h"

G_BEGIN_DECLS

typedef enum { QFS_READ_RECORD, QFS_READ_CHUNKS, QFS_READ_LIST, QFS_READ_SEEK } QfsReadKind;

/* A read of one node's committed state by the thread that serves the request: the hot path of gets.
 * Filled in by the coordinator, answered by qfs_coordinator_read_done with the same object, unless the link
 * to the node loses it: then the environment frees it. */
typedef struct {
  QfsReadKind kind;
  guint node;
  guint64 ask, hash;         /* the coordinator's */
  guint64 incarnation;       /* the coordinator's: of the node, when it was asked */
  gint64 asked_us;           /* the coordinator's */
  GRefString *key;           /* RECORD: key; LIST: directory; or NULL. Shared by all who are asked the same */
  char *after;               /* LIST */
  guint limit;               /* LIST */
  gboolean whole;            /* LIST: with the data */
  QfsObjectId object;        /* CHUNKS: per index of [index, index + count) the newest row of `spans` */
  guint64 index;             /* SEEK: looks from it on, ... */
  guint64 end;               /* ... up to this one */
  gboolean hole;             /* SEEK: for a chunk that is not full; else for one that has bytes */
  guint count;
  GBytes *spans;
  /* answer */
  QfsStatus status;          /* QFS_OK; QFS_IO: failed or corrupt, `reason`; QFS_NO_QUORUM: node is closed */
  char *reason;
  gboolean corrupt;          /* QFS_IO: what is stored there is damaged */
  QfsBadRow *bad;            /* QFS_IO: only this row is; or NULL */
  QfsRecord *record;         /* RECORD: NULL when absent */
  GPtrArray *list;           /* LIST: QfsRecord */
  gboolean more;
  QfsChunk **chunks;         /* CHUNKS: `count` pointers, NULL: no such row */
  gboolean found;            /* SEEK: at `index`, ... */
  guint length;              /* ... whose row has so many bytes; else everything before `index` was looked at */
  gboolean newer;            /* CHUNKS, SEEK: some index without a row has one of a newer write */
} QfsRead;
QfsRead *qfs_read_new(QfsReadKind kind, guint node);
void qfs_read_free(QfsRead *read); /* accepts NULL */
void qfs_read_clear(QfsRead *read); /* frees what it holds */
/* Fills in the answer from `replica` (a reader). FALSE: it is QFS_IO, and the reader should be closed. */
gboolean qfs_read_run(QfsRead *read, QfsReplica *replica);
/* Makes the answer `status` with `reason` (may be NULL). */
void qfs_read_fail(QfsRead *read, QfsStatus status, const char *reason);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QfsRead, qfs_read_free)

typedef struct QfsEnv QfsEnv;
struct QfsEnv {
  gboolean lossy; /* links may lose messages, so unanswered requests are repeated */
  gint64 (*now_us)(QfsEnv *env);   /* monotonic, microseconds; may be the same all through an event */
  gint64 (*wall_ms)(QfsEnv *env);  /* wall clock, milliseconds since 1970; may jump */
  guint64 (*random)(QfsEnv *env);
  /* coordinator -> node; takes the message over. */
  void (*send)(QfsEnv *env, QfsMessage *message);
  /* node -> coordinator; takes the message over. */
  void (*reply)(QfsEnv *env, QfsMessage *message);
  /* Read node `read->node` directly; takes the object over until qfs_coordinator_read_done, if that comes. */
  void (*read)(QfsEnv *env, QfsRead *read);
  /* Hands the answered request to its requester. */
  void (*complete)(QfsEnv *env, QfsRequest *request);
  /* qfs_coordinator_tick is to be called at `at_us` (monotonic) or a little later; only the earliest
   * wish since the last tick counts. */
  void (*wake_at)(QfsEnv *env, gint64 at_us);
  /* Opens the node's replica and starts the node; its first reply answers a HELLO. A replica that can't be
   * opened is reported by qfs_coordinator_node_gone. */
  void (*node_start)(QfsEnv *env, guint node, guint64 incarnation);
  /* Closes the node's files for real; what was queued for it is lost. Ends with qfs_coordinator_node_gone. */
  void (*node_stop)(QfsEnv *env, guint node);
  /* Ends the node's process, if it has one, and removes its replica. Ends with qfs_coordinator_node_gone for
   * `incarnation`. */
  void (*node_remove)(QfsEnv *env, guint node, guint64 incarnation);
  /* One line for the operator. */
  void (*log)(QfsEnv *env, GLogLevelFlags level, const char *line);
};

G_END_DECLS
