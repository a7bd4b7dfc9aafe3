/* faults.h - what goes wrong in a run, and when.
 *
 * Owns: the choice of faults and their ends. Each run uses a random part of the kinds of faults, so
 * that combinations of few are tried as well as all at once ("swarm testing", Groce et al., 2012).
 *
 * Budget. A node is *broken* from the beginning of a fault of its own until it is in sync again
 * after the fault ended. Unless the run is unlimited, at most min(K-1, (N-1)/2) nodes are broken at
 * a time.
 */
#pragma once

#include "sim.h"

SimFaults *sim_faults_new(Sim *sim);
void sim_faults_free(SimFaults *faults);

/* From now on something goes wrong about every `gap_us`. */
void sim_faults_start(Sim *sim, gint64 gap_us);
/* Nothing new; what is broken is mended: links, disks, and nodes that are down are asked to come up
 * until they are in sync. A daemon that is down will be started. */
void sim_faults_stop(Sim *sim);

/* Some chunk rows of one node are silently gone. */
void sim_faults_lose_chunks(Sim *sim);
/* Rows of one node are lost, become older or come back, silently; while no client is at work. */
void sim_faults_plant(Sim *sim);
/* Rows that rotted, or that were planted, which nobody has mended. */
gboolean sim_faults_rows_are_bad(Sim *sim);

/* How many nodes may be broken at once. */
guint sim_faults_survivable(const Sim *sim);
/* Breaks `n` random nodes at one moment, until sim_faults_stop. */
void sim_faults_break(Sim *sim, guint n);
/* One node more than that, if there is another. */
void sim_faults_break_one_more(Sim *sim);

gboolean sim_faults_are_active(const Sim *sim);
gboolean sim_faults_holds(const Sim *sim, guint node); /* a fault of this node is not over */
/* A copy of the node's files as they are now takes their place some time later, if the node may be broken then. */
void sim_faults_keep_copy(Sim *sim, guint node);
/* kill -9 or a loss of power, and a start soon after. `away`: a node that is not there then, if that may be; 0:
 * none. */
void sim_faults_end_daemon(Sim *sim, guint away);

const char *sim_fault_name(guint kind); /* NULL: no such kind */

/* All nodes are in sync and nothing is owed. */
gboolean sim_all_is_well(Sim *sim);
/* The same of those nodes that no fault holds. */
gboolean sim_all_is_well_but_held(Sim *sim);
/* By command: what only these nodes may have is given up. They return empty. */
void sim_faults_evict(Sim *sim, QfsNodeSet nodes);
/* One node is closed and given up, until sim_faults_stop. */
void sim_faults_evict_one(Sim *sim);
/* Ends the daemon in good order or not, and starts it again a little later. */
void sim_faults_restart(Sim *sim, gboolean in_good_order);
