/* faults_private.h - what the parts of faults.h share.
 *
 * faults.c        the kinds of faults, which comes when      faults_store.c   of the whole store
 * faults_node.c   of one node                                faults_silent.c  changes that nothing tells of
 * faults_care.c   their ends, and looking after broken nodes
 */
#pragma once

#include "cluster/placement.h"
#include "faults.h"

typedef enum {
  /* of the whole store */
  FAULT_KILL,
  FAULT_POWER,
  FAULT_SHUTDOWN,
  FAULT_CLOCK,
  FAULT_RESIZE,
  FAULT_LOSSY_LINKS,
  FAULT_DUPLICATES,
  FAULT_KILL_AT_MESSAGE,
  FAULT_KILL_AT_ACK,
  FAULT_CLOCK_AT_START,
  FAULT_KILL_AND_AWAY,
  FAULT_LATE_COPY,
  FAULT_COLLECT,
  FAULT_SCRUB,
  /* of one node */
  FAULT_CRASH_AT_MESSAGE,
  FAULT_CRASH,
  FAULT_CRASH_REQUEST,
  FAULT_DOWN_REQUEST,
  FAULT_CRASH_AT_COMMIT,
  FAULT_IO_ERROR,
  FAULT_READ_ERROR,
  FAULT_FULL_DISK,
  FAULT_PARTITION,
  FAULT_ONE_WAY,
  FAULT_SLOW,
  FAULT_LOSSY_NODE,
  /* of one node's disk */
  FAULT_BAD_ROWS,
  FAULT_DISK_LOST,
  FAULT_OLD_COPY,
  FAULT_ROT,
  FAULT_DAMAGE,
  FAULT_EVICT,
  FAULT_PLANTED, /* between the phases: sim_faults_plant */
  FAULT_BUSY,    /* of all nodes: faults_busy.c */
  FAULT_KINDS,
} FaultKind;
G_STATIC_ASSERT(FAULT_KINDS <= SIM_FAULT_KINDS_MAX);

struct SimFaults {
  gboolean active;
  gint64 gap_us;
  guint enabled[FAULT_KINDS]; /* weights */
  QfsNodeSet broken;
  QfsNodeSet held; /* of those: the fault itself is not over */
  gboolean caring, starting;
  guint64 heal_id[QFS_NODES_MAX + 1]; /* an older plan to heal is void */
  /* A node that was away is first seen by the start of another life: with what nobody else has. */
  gboolean back_at_a_start[QFS_NODES_MAX + 1];
  gboolean was_in_sync[QFS_NODES_MAX + 1]; /* when it was looked at last */
  SimRandom busy_dice; /* 0: nodes are never busy in this seed */
};

static inline SimRandom *dice(Sim *sim) {
  return &sim->random;
}

/* ---- faults.c ---- */

void sim_faults_count(Sim *sim, FaultKind kind);

/* ---- faults_store.c ---- */

void sim_faults_jump_clock(Sim *sim);
void sim_faults_kill_daemon(Sim *sim);
void sim_faults_lose_power(Sim *sim);
void sim_faults_shut_down(Sim *sim);
void sim_faults_resize(Sim *sim);
void sim_faults_disturb_links(Sim *sim, FaultKind kind);
void sim_faults_set_all_links(Sim *sim, guint loss_percent, guint duplicate_percent);

/* ---- faults_busy.c ---- */

void sim_faults_busy_start(Sim *sim);
void sim_faults_busy_stop(Sim *sim);

/* ---- faults_node.c ---- */

/* Is there room for it in the budget? */
gboolean sim_faults_may_break(const Sim *sim, guint node);
/* May what it holds be lost? */
gboolean sim_faults_may_lose(Sim *sim, guint number);
guint sim_faults_pick_node(Sim *sim); /* that may be broken now; 0: none */
void sim_faults_break_node(Sim *sim, FaultKind kind, guint number);

/* ---- faults_care.c ---- */

/* Looks after broken nodes, again and again. */
void sim_faults_care(Sim *sim, gpointer unused);
void sim_faults_ask_node(Sim *sim, guint node, QfsNodeAction action);
void sim_faults_ask_node_then(Sim *sim, guint node, QfsNodeAction action, QfsRequestDone done, gpointer data);
void sim_faults_heal_node(Sim *sim, guint number);
/* The fault of the node is over some time later. */
void sim_faults_heal_later(Sim *sim, guint node);
