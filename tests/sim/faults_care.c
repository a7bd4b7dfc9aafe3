/* faults_care.c - broken nodes are looked after: faults end, nodes are asked to come up, until all is well. */
#include "faults_private.h"

#include "check.h"

/* How often broken nodes are looked after. */
#define CARE_US (200 * SIM_MS)

static void request_over(QfsRequest *request, gpointer unused) {
  qfs_request_free(request);
}

void sim_faults_ask_node_then(Sim *sim, guint node, QfsNodeAction action, QfsRequestDone done, gpointer data) {
  if (sim->coordinator == NULL)
    return;
  QfsRequest *request = qfs_request_new(QFS_REQUEST_NODE, NULL, done, data);
  request->node = node;
  request->action = action;
  qfs_coordinator_submit(sim->coordinator, request);
}

void sim_faults_ask_node(Sim *sim, guint node, QfsNodeAction action) {
  sim_faults_ask_node_then(sim, node, action, request_over, NULL);
}

static QfsNodeSet closed_nodes(const Sim *sim) {
  QfsNodeSet closed = 0;
  for (guint i = 1; i <= sim->config.nodes; i++) {
    QfsNodeState state = qfs_coordinator_node_state(sim->coordinator, i);
    if (state == QFS_NODE_STATE_DOWN || state == QFS_NODE_STATE_CRASHED || state == QFS_NODE_STATE_FAILED ||
        state == QFS_NODE_STATE_EVICTED)
      closed |= QFS_NODE_BIT(i);
  }
  return closed;
}

/* A node on a bad link may be given what it lacks much later. */
static void look_whether_whole(Sim *sim, guint node, gboolean is_in_sync) {
  const SimLink *to = &sim->node[node].to;
  gboolean good = !to->cut && to->loss_percent == 0 && to->delay_us == 0;
  gboolean in_sync = is_in_sync && sim->node[node].node != NULL && sim_daemon_is_up(sim);
  if (in_sync && !sim->faults->was_in_sync[node] && good)
    sim_check_whole(sim, node);
  sim->faults->was_in_sync[node] = in_sync;
}

void sim_faults_care(Sim *sim, gpointer unused) {
  SimFaults *faults = sim->faults;
  if (sim->coordinator != NULL && !sim->closing) {
    const QfsNodeSet in_sync = qfs_coordinator_in_sync(sim->coordinator), closed = closed_nodes(sim);
    faults->broken &= qfs_set_all(sim->config.nodes);
    for (guint i = 1; i <= sim->config.nodes; i++) {
      look_whether_whole(sim, i, qfs_set_has(in_sync, i));
      if (qfs_set_has(faults->held, i))
        continue;
      if (qfs_set_has(closed, i))
        sim_faults_ask_node(sim, i, QFS_NODE_UP);
      else if (qfs_set_has(in_sync, i) && sim->node[i].node != NULL && !sim->disk[i].rotten &&
               !sim_disk_has_bad_rows(&sim->disk[i]) &&
               g_hash_table_size(sim->disk[i].planted) == 0) {
        faults->broken &= ~QFS_NODE_BIT(i);
        sim->disk[i].lost = sim->disk[i].fresh = FALSE;
      }
      if (faults->active && sim_random_percent(dice(sim), 4))
        sim_disk_keep_copy(&sim->disk[i]);
    }
  }
  sim_after(sim, CARE_US, sim_faults_care, NULL);
}

/* ---- the ends of faults ---- */

void sim_faults_heal_node(Sim *sim, guint number) {
  SimNode *node = &sim->node[number];
  SimDisk *disk = &sim->disk[number];
  SIM_TRACE(sim, "fault of node %u is over", number);
  sim->faults->held &= ~QFS_NODE_BIT(number);
  node->to = (SimLink){.last_us = node->to.last_us};
  node->from = (SimLink){.last_us = node->from.last_us};
  sim_disk_heal(disk);
}

typedef struct {
  guint node;
  guint64 id;
} Heal;

/* A start that meets a node again may miss one of those that went on without it; 0: none. */
static guint another_node(Sim *sim, guint node) {
  guint other = 1 + sim_random_below(dice(sim), sim->config.nodes);
  return other != node && sim_random_percent(dice(sim), 50) ? other : 0;
}

static void on_heal(Sim *sim, gpointer data) {
  Heal *heal = data;
  SimFaults *faults = sim->faults;
  if (faults->heal_id[heal->node] == heal->id) {
    sim_faults_heal_node(sim, heal->node);
    if (faults->active && faults->back_at_a_start[heal->node])
      sim_faults_end_daemon(sim, another_node(sim, heal->node));
    faults->back_at_a_start[heal->node] = FALSE;
  }
  g_free(heal);
}

void sim_faults_heal_later(Sim *sim, guint node) {
  Heal *heal = g_new(Heal, 1);
  *heal = (Heal){.node = node, .id = ++sim->faults->heal_id[node]};
  gint64 us = sim_random_spread(dice(sim), 20 * SIM_MS, 8 * SIM_SECOND);
  sim_after(sim, us, on_heal, heal);
}

/* ---- is all well? ---- */

static gboolean are_well(Sim *sim, QfsNodeSet nodes) {
  /* A life that was not yet told what N and K are to be may be quiet with those that were in force before. */
  if (!sim_daemon_is_up(sim) || sim->asked_in != sim->run || !qfs_coordinator_is_quiet(sim->coordinator))
    return FALSE;
  const QfsNodeSet in_sync = qfs_coordinator_in_sync(sim->coordinator);
  for (guint i = 1; i <= sim->config.nodes; i++)
    if (qfs_set_has(nodes, i) && (!qfs_set_has(in_sync, i) || sim->disk[i].lost))
      return FALSE;
  return TRUE;
}

gboolean sim_all_is_well(Sim *sim) {
  return are_well(sim, qfs_set_all(sim->nodes_n));
}

gboolean sim_all_is_well_but_held(Sim *sim) {
  return are_well(sim, qfs_set_all(sim->nodes_n) & ~sim->faults->held);
}
