/* check.h - the invariants: what DESIGN section 1 promises, as code. Each failure ends the run
 * (sim_fail).
 *
 *   check.c          versions: freshness, invention, acknowledgement, timestamps; steps of nodes
 *   check_content.c  the bytes of a value belong to exactly its version
 *   check_list.c     listings
 *   check_final.c    after all faults: owners agree, nothing is owed
 *   linear.c         an independent search for a linear order of each group's history
 *
 * Checks when an operation ends (history.c)
 *  a. A get returns what some operation on the key really wrote, whole (never invented, never
 * mixed). b. It is not older than the key's floor when the get began; so it is not older than any
 * write acknowledged before, nor than what an earlier get returned. c. What was refused is never
 * seen. d. A deleted key stays deleted unless something newer was written. e. Issued timestamps are
 * unique and grow in the order of real time; and they are not dragged along by far-future explicit
 * ones. f. A superseded outcome names a version that is newer, or the same. g. Appended lines are
 * there, whole, once, in order, from acknowledgement until replaced. h. Exclusive creation succeeds
 * only when the key may have been absent, and fails only when it may have existed. i. A listing
 * holds what was there throughout, and nothing that was absent throughout. j. At its
 * acknowledgement a version, or a newer one, is on W replicas (on stable storage when so asked).
 * Checks at a node's steps (disk.c)
 *  k. Versions at a node do not go down, but by force on a node that is not in sync.
 *  l. What a node promised stays: a node that took part in an epoch refuses older ones.
 *  m. A tombstone is collected only when no node holds an older version, nor would after a loss of power.
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

/* ---- at steps of nodes ---- */

/* A row goes from `old` down to `new` (NULL: goes away). */
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

/* ---- after all faults ---- */

/* Every owner of every key holds the same record and the same bytes; nothing acknowledged is
 * missing. */
void sim_check_converged(Sim *sim);
/* How many intents some node still has. */
guint sim_intents_left(Sim *sim, guint *out_node);
/* No tombstone is left at any node. */
void sim_check_collected(Sim *sim);
/* The history of every group has a linear order. */
void sim_check_linear(Sim *sim);
