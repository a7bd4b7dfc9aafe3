/* coordinator.h - the one sequencer of a store: quorums, epochs, recovery, catch-up. A state machine.
 *
 * Owns: who is in sync (view.c), which operations are in flight (flight.c), what each request still needs
 * (op.c and the op_*.c files), the clock (clock.c), settling (settle.c), start and rejoin (recovery.c,
 * catchup.c). Leaves to others: threads and queues (env), durable state (node.c, storage/).
 *
 * Invariants (numbers are cited by assertions)
 *  C1. An operation is acknowledged only when W of the key's holders H(key, S) have it, S being the
 *      in-sync set of a view that a majority of the nodes has on stable storage.
 *  C2. A version is sent only when it wins over every version of its key acknowledged or in flight.
 *      So per key the order of sequence numbers is the order of versions.
 *  C3. A get returns an acknowledged version that was the newest at some moment between its start and its
 *      end: read from an in-sync holder with nothing in flight for the key before and after the read,
 *      or from memory.
 *  C4. What was sent to a node is driven to completion on W holders, even after its requester was told
 *      QFS_UNKNOWN; nothing else on that key is answered before.
 *  C5. The settled mark passes an operation only when all in-sync holders have it on stable storage.
 *
 * Threading: one event at a time (env.h E2); no function blocks.
 */
#pragma once

#include "cluster/engine.h"
#include "cluster/env.h"

G_BEGIN_DECLS

typedef struct QfsCoordinator QfsCoordinator;

typedef struct {
  guint nodes;              /* that may know of the store: all are opened at the start */
  guint replicas;           /* of a new store */
  guint coordinator_id;     /* low bits of every timestamp, 0..255 */
  gboolean sync;
  guint timeout_ms;
  guint tombstone_grace_s;  /* least age of a tombstone that is collected by schedule */
  guint purge_period_s;     /* of that schedule */
  gsize recent_bytes;       /* memory for versions that further writes will build on; 0: none are kept */
  guint scrub_period_s;     /* everything is read and compared so often; 0: only by command */
  gboolean create;          /* the replicas are new: nothing to recover */
  char store[37];           /* UUID of a new store */
  QfsEngineWatch watch;     /* may be NULL */
  gpointer watch_data;
  QfsChangeFunc changed;    /* a change is acknowledged, before its request is answered; or NULL. As an effect of E1 */
  gpointer changed_data;
  void (*resized)(gpointer data); /* what qfs_coordinator_resize asked for is done; or NULL. As an effect of E1 */
  gpointer resized_data;
} QfsCoordinatorConfig;

QfsCoordinator *qfs_coordinator_new(QfsEnv *env, const QfsCoordinatorConfig *config);
void qfs_coordinator_free(QfsCoordinator *coordinator); /* pending requests are completed QFS_UNKNOWN first */

/* Events. */
void qfs_coordinator_start(QfsCoordinator *coordinator);   /* starts all nodes, then recovers */
void qfs_coordinator_submit(QfsCoordinator *coordinator, QfsRequest *request);
void qfs_coordinator_receive(QfsCoordinator *coordinator, QfsMessage *reply);  /* takes it over */
void qfs_coordinator_read_done(QfsCoordinator *coordinator, QfsRead *read);    /* takes it over */
void qfs_coordinator_tick(QfsCoordinator *coordinator);
/* The store is to have these N and K. Only while it serves; data moves in the background, and
 * the environment is asked for further nodes. */
void qfs_coordinator_resize(QfsCoordinator *coordinator, guint nodes, guint replicas);
/* The node is closed: stopped by command (reason NULL), or its replica failed or could not be opened. */
void qfs_coordinator_node_gone(QfsCoordinator *coordinator, guint node, guint64 incarnation,
                               const char *reason);
/* Brings everything to the settled state and marks the store clean; qfs_coordinator_is_quiet tells when. */
void qfs_coordinator_shutdown(QfsCoordinator *coordinator);

/* Nodes that may have what nobody else has: the store does not go on, or keys are blocked, until they return with
 * their files or are evicted. 0: none. */
QfsNodeSet qfs_coordinator_waits_for(const QfsCoordinator *coordinator);

void qfs_coordinator_pin(QfsCoordinator *coordinator, QfsObjectId object);
void qfs_coordinator_unpin(QfsCoordinator *coordinator, QfsObjectId object);
void qfs_coordinator_discard(QfsCoordinator *coordinator, QfsObjectId object);

/* Questions. */
gboolean qfs_coordinator_is_serving(const QfsCoordinator *coordinator);  /* start is over */
/* Start can't go on without more nodes (no majority, or no in-sync holder among those that opened). */
gboolean qfs_coordinator_is_stuck(const QfsCoordinator *coordinator);
gboolean qfs_coordinator_is_quiet(const QfsCoordinator *coordinator);    /* nothing in flight or unsettled, all owed work done */
void qfs_coordinator_status(const QfsCoordinator *coordinator, QfsEngineStatus *out);
/* Changes whenever another answer than the last acknowledged version may have become right: a node came, went or was no
 * longer trusted, another view, keys that are not available. 0: not settled, so that nothing may be taken from memory. */
guint64 qfs_coordinator_stand(const QfsCoordinator *coordinator);
/* Single answers of it, without its cost: of one node (DOWN where the store has no such node), the nodes in sync, N in
 * force, whether start is not finished, and scrubs that came to their end. */
QfsNodeState qfs_coordinator_node_state(const QfsCoordinator *coordinator, guint node);
QfsNodeSet qfs_coordinator_in_sync(const QfsCoordinator *coordinator);
guint qfs_coordinator_nodes(const QfsCoordinator *coordinator);
gboolean qfs_coordinator_is_recovering(const QfsCoordinator *coordinator);
guint64 qfs_coordinator_scrubs(const QfsCoordinator *coordinator);
/* The nodes that must hold `key` now: H(key, S). For tests and xattrs. */
QfsNodeSet qfs_coordinator_holders(const QfsCoordinator *coordinator, const char *key);
QfsNodeSet qfs_coordinator_chunk_holders(const QfsCoordinator *coordinator, QfsObjectId object);
/* The K nodes that own it when all are up. */
QfsNodeSet qfs_coordinator_owners(const QfsCoordinator *coordinator, const char *key);
/* Was not closed cleanly, and too many of those who may have the newest version of `key` are missing: it is not
 * available. */
gboolean qfs_coordinator_is_blocked(const QfsCoordinator *coordinator, const char *key);
/* Start failed for good (another N or K than stored, a foreign store): a line for people, else NULL. */
const char *qfs_coordinator_failure(const QfsCoordinator *coordinator);

G_END_DECLS
