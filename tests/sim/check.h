/* check.h - the invariants: what DESIGN section 1 promises, as code. Each failure ends the run (sim_fail).
 *
 *   check.c          versions: freshness, invention, acknowledgement, timestamps; steps of nodes
 *   check_content.c  the bytes of a value belong to exactly its version
 *   check_list.c     listings
 *   check_changes.c  what watchers are told
 *   check_final.c    after all faults: owners agree, nothing is owed
 *   linear.c         an independent search for a linear order of each group's history
 *
 * Each is checked at the event that can break it: the end of an operation (E), a node's step on its disk (N), the
 * end of a process (P), a node's return (R), rest (Q); and proven by mutations that it catches.
 *
 *   invariant                                         when where                   mutations, such as
 *   timestamps are unique and grow in real time;      E    check_issued            timestamps-reused, ceiling-forgotten,
 *     far-future explicit ones do not drag them                                    clock-follows-wall, clock-dragged
 *   an acknowledged version, or a newer one, is on    E    check_held_but          ack-below-quorum, ack-counts-joining
 *     W complete replicas, and stays there            NP   sim_check_still_held    rebase-copies-nothing
 *     on stable storage there, when so asked          E    sim_check_durable       sync-not-durable, durable-not-asked
 *   a get is not older than any write acknowledged    E    sim_check_seen          read-joining, read-stand-in,
 *     before it began, and never goes back                                         read-unacknowledged, blocked-ignored
 *   it is one that some operation wrote, whole        E    sim_check_maker, _content read-counter-not-checked,
 *                                                                                  chunks-read-anywhere
 *   what was refused is never seen later              E    sim_check_maker         refused-after-sent
 *   a deleted key stays deleted                       E    sim_check_seen          purge-with-nodes-away
 *     a tombstone goes when nothing older is left,    N    check_purge, _purge_time purge-in-same-epoch, purge-in-grace,
 *     also after a loss of power, and not before its                               purge-before-settled,
 *     grace is over                                                                purge-without-checks
 *   a superseded outcome names a version at least     E    check_superseded        superseded-before-acknowledged
 *     as new
 *   lines are there whole, once, in order; cells as   E    sim_check_content       append-at-old-end
 *     the latest writer left them
 *   exclusive and conditional changes, renames and    E    check_precondition, linear exclusive-ignored, rename-replaces,
 *     removals of directories keep their conditions                                condition-ignored, rmdir-full
 *   a listing has what was there throughout, and      E    sim_check_list          list-too-few, list-without-memory
 *     nothing that was absent throughout
 *   versions at a replica go down only by force, and  N    sim_check_regress       storage-no-last-writer
 *     only on one that is not in sync
 *   a record comes to a node after those of its       N    sim_check_has_chunks    record-before-chunks,
 *     chunks that are not settled                                                  chunks-ack-at-one
 *   a value is not given another key, nor written to   E    sim_check_content,      moved-chunks-not-synced
 *     there, before its chunks are on stable storage        sim_walk_check
 *   merging takes the greater of a total order: it is N    sim_check_merge         ties-reversed, timestamps-signed,
 *     commutative, associative, idempotent                                         tombstone-loses-ties
 *   epochs, views, generations, ceilings that a node  N    sim_check_promises      stale-epoch-accepted
 *     promised do not go back
 *   a replica is wiped only if it lost something, and N    sim_check_wipe          wipe-repeated
 *     once per request
 *   corrupt bytes never reach a reader                E    sim_check_content       storage-record-unchecked,
 *                                                                                  storage-chunk-unchecked
 *   a node that was away or rebuilt counts when it is R    sim_check_whole         amnesia-ignored, catchup-skips-chunks,
 *     whole                                                                        damage-not-rebuilt
 *   at rest all owners hold the same bytes, on stable Q    sim_check_converged     settle-past-flights,
 *     storage                                                                      storage-log-not-synced
 *   at rest no debt is left: intents, rows at nodes   Q    wait_for_intents,       intent-sent-again, tidy-keeps-all,
 *     that do not own them, tombstones after               sim_check_converged,    catchup-keeps-intents
 *     collecting                                           sim_check_collected
 *   also after N or K changed: exactly K copies       Q    sim_check_converged     resize-switch-without-move,
 *                                                                                  resize-flights-to-old-holders
 *   what a node that is no owner lets go, all owners  N    check_owners_have       (not yet)
 *     have on stable storage
 *   watchers are told of every acknowledged change,   E    sim_check_changed,      tell-no-renames, tell-before-quorum
 *     once, before its answer, and of nothing else         sim_check_told
 *   an answer that is still to be trusted is not      E    sim_trust_ask           tell-before-quorum
 *     older than what is known to be there
 *   the history of every group has a linear order     Q    sim_check_linear        rename-without-intent, rmdir-races
 *   files have as many names as they count, all names EQ   linked.c                link-count-stays, link-file-stays,
 *     the same value, and none is left without                                     link-not-kept, link-written-over
 *   every request is answered by its deadline, or     E    client.c                deadline-ignored,
 *     while nodes are given up and a majority answers,      directed_patience.c     deadline-not-extended
 *     within twice the time
 */
#pragma once

#include "history.h"

/* ---- at the end of operations ---- */

void sim_check_acknowledged(Sim *sim, SimOp *op, const QfsRequest *request);
void sim_check_refused(Sim *sim, SimOp *op);
void sim_check_get(Sim *sim, SimOp *op, gboolean found, GBytes *data);
void sim_check_list(Sim *sim, SimOp *op, GPtrArray *entries, gboolean more);
/* `record`, or newer, is on stable storage on W replicas. */
void sim_check_durable(Sim *sim, const SimOp *op, const SimKey *key, const QfsRecord *record);

/* The version `record` (NULL: absent without a tombstone) of `key` was seen by `op`, which began at
 * `floor`. Returns the operation that made it (NULL: not known) and raises the key's floor. */
SimOp *sim_check_seen(Sim *sim, SimOp *op, SimKey *key, const QfsRecord *record,
                      const SimFloor *floor);
/* The operation that made the version; it must be one that may have had an effect. */
SimOp *sim_check_maker(Sim *sim, const SimOp *op, const SimKey *key, const QfsRecord *record);
/* Could the key have been absent, or existed, at some time since the floor was taken? */
gboolean sim_may_be_absent(const SimKey *key, const SimFloor *floor, const SimOp *except);
gboolean sim_may_exist(const SimKey *key, const SimFloor *floor, const SimOp *except);

/* check_content.c: `data` is the value of version `record`; sets op->seen_content. */
void sim_check_content(Sim *sim, SimOp *op, const QfsRecord *record, GBytes *data);

/* check_changes.c. The coordinator tells of a change. */
void sim_check_changed(const QfsChange *change, gpointer sim);
/* The change that made `record` of `key` is being acknowledged: it was told. */
void sim_check_told(Sim *sim, const SimOp *op, const SimKey *key, const QfsRecord *record);
/* check_trust.c. A client is about to get `key`: what is asked under, for sim_trust_answered, and a check of what need not
 * have been asked. */
void sim_trust_ask(Sim *sim, SimKey *key, SimTrust *out);
void sim_trust_answered(SimKey *key, const SimTrust *asked, QfsRecord *record);
/* QfsEngineWatch: `key` changed although nobody asked for it. */
void sim_trust_told(const char *key, gpointer sim);
/* The daemon is gone, and its watchers with it. */
void sim_check_changes_forget(Sim *sim);

/* ---- at steps of nodes ---- */

/* A row goes from `old` down to `new` (NULL: goes away). */
/* The record was stored there. */
void sim_check_has_chunks(Sim *sim, guint node, const QfsRecord *record);
/* A bad row that held `old` gave way to `new` (NULL: to none). */
void sim_check_mended(Sim *sim, guint node, const QfsRecord *old, const QfsRecord *new);
void sim_check_regress(Sim *sim, guint node, const QfsRecord *old, const QfsRecord *new,
                       gboolean force);
void sim_check_wipe(Sim *sim, guint node);
/* `new` met `old` (NULL: none) without force: merging is the greater one of a total order, so it is commutative,
 * associative and idempotent. */
void sim_check_merge(Sim *sim, guint node, const QfsRecord *old, const QfsRecord *new,
                     QfsApplyResult result);
/* A node has become a member of the in-sync set: it holds all that was acknowledged of the keys that it owns. */
void sim_check_whole(Sim *sim, guint node);
/* The node replaces what it knows of itself. */
void sim_check_promises(Sim *sim, guint node, const QfsNodeMeta *old, const QfsNodeMeta *new);
/* What was acknowledged of `name` (NULL: of every key) is on W replicas. */
void sim_check_still_held(Sim *sim, const char *name);
/* `record`, or newer, is on W replicas. */
void sim_check_held(Sim *sim, const char *key, const QfsRecord *record);

/* ---- after all faults ---- */

/* Every owner of every key holds the same record and the same bytes; nothing acknowledged is
 * missing. */
void sim_check_converged(Sim *sim);
/* How many intents some node still has. */
guint sim_intents_left(Sim *sim, guint *out_node);
/* No tombstone is left at any node. */
void sim_check_collected(Sim *sim);
/* Every chunk row at every node is needed by some record, and the node is an owner of its object. */
void sim_check_reclaimed(Sim *sim);
/* The history of every group has a linear order. */
void sim_check_linear(Sim *sim);
