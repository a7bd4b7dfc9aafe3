/* faults_store.c - faults of the whole store: its daemon, its clock, its size, all links. */
#include "faults_private.h"

#include "check.h"
#include "moments.h"

void sim_faults_jump_clock(Sim *sim) {
  gint64 ms = sim_random_spread(dice(sim), 100, 5 * 3600 * 1000);
  sim->wall_offset_ms += sim_random_percent(dice(sim), 50) ? ms : -ms;
}

static void on_restart(Sim *sim, gpointer unused) {
  sim->faults->starting = FALSE;
  if (sim->coordinator == NULL)
    sim_daemon_start(sim, FALSE);
}

/* Some disks are not there when the daemon comes back. */
static void take_away(Sim *sim) {
  for (guint i = 1; i <= sim->config.nodes; i++) {
    if (!sim_random_percent(dice(sim), 40))
      continue;
    sim->disk[i].absent = TRUE;
    sim->faults->broken |= QFS_NODE_BIT(i);
    sim->faults->held |= QFS_NODE_BIT(i);
    sim_faults_heal_later(sim, i);
  }
}

static void restart_later(Sim *sim) {
  SimFaults *faults = sim->faults;
  sim->closing = FALSE;
  for (guint i = 1; i <= sim->config.nodes; i++)
    if (qfs_set_has(faults->held, i) && sim_random_percent(dice(sim), 40))
      sim->disk[i].absent = TRUE;
  if (faults->starting)
    return;
  if (sim->options.unlimited && faults->active && sim_random_percent(dice(sim), 30))
    take_away(sim);
  faults->starting = TRUE;
  if (sim_random_percent(dice(sim), 15)) {
    sim_faults_jump_clock(sim);
    sim->result->fault_count[FAULT_CLOCK_AT_START]++;
  }
  sim_after(sim, sim_random_spread(dice(sim), 1 * SIM_MS, 2 * SIM_SECOND), on_restart, NULL);
}

void sim_faults_kill_daemon(Sim *sim) {
  sim_daemon_kill(sim);
  sim_history_check_kept(sim);
  restart_later(sim);
}

static gboolean is_quiet(Sim *sim) {
  return sim->coordinator != NULL && qfs_coordinator_is_quiet(sim->coordinator);
}

void sim_faults_lose_power(Sim *sim) {
  if (is_quiet(sim))
    sim_history_settled(sim);
  sim_daemon_lose_power(sim);
  restart_later(sim);
}

void sim_faults_end_daemon(Sim *sim, guint away) {
  if (sim->coordinator == NULL)
    return;
  if (sim->faults->enabled[FAULT_POWER] > 0 && sim_random_percent(dice(sim), 50))
    sim_faults_lose_power(sim);
  else
    sim_faults_kill_daemon(sim);
  if (away == 0 || !sim_faults_may_break(sim, away))
    return;
  sim->disk[away].absent = TRUE;
  sim->faults->broken |= QFS_NODE_BIT(away);
  sim->faults->held |= QFS_NODE_BIT(away);
  sim_faults_heal_later(sim, away);
  sim->faults->back_at_a_start[away] = sim_random_percent(dice(sim), 50);
}

/* ---- shutting down ---- */

typedef struct {
  guint run;
  gint64 until_us;
} Closing;

static void on_closing(Sim *sim, gpointer data) {
  Closing *closing = data;
  if (sim->run != closing->run || sim->coordinator == NULL) {
    g_free(closing);
    return;
  }
  if (is_quiet(sim) || sim->now_us >= closing->until_us) {
    SIM_TRACE(sim, "daemon is shut down%s", is_quiet(sim) ? "" : ", not settled");
    sim_daemon_kill(sim);
    sim->result->crashes--;
    restart_later(sim);
    g_free(closing);
    return;
  }
  sim_after(sim, 10 * SIM_MS, on_closing, closing);
}

void sim_faults_shut_down(Sim *sim) {
  if (!sim_daemon_is_up(sim))
    return;
  Closing *closing = g_new(Closing, 1);
  *closing = (Closing){.run = sim->run, .until_us = sim->now_us + 3 * SIM_SECOND};
  sim->closing = TRUE;
  qfs_coordinator_shutdown(sim->coordinator);
  sim_after(sim, 0, on_closing, closing);
}

/* ---- other N and K ---- */

/* Damage that nobody has found yet survives a move. With too few copies left afterwards it may be in the last one. */
static gboolean may_resize(Sim *sim, guint nodes, guint replicas) {
  guint damaged = 0;
  for (guint i = 1; i <= sim->nodes_all; i++)
    damaged += sim->disk[i].rotten || sim_disk_has_bad_rows(&sim->disk[i]);
  return sim->options.unlimited || damaged <= MIN(replicas - 1, (nodes - 1) / 2);
}

/* The daemon ends, in one way or another, and the next one is started with other N and K; perhaps while
 * the data still moves for the ones before. */
void sim_faults_resize(Sim *sim) {
  guint nodes = sim->nodes_n, replicas = sim->replicas_k;
  gboolean both = sim_random_percent(dice(sim), 40), more_nodes = sim_random_percent(dice(sim), 50);
  if (more_nodes || both)
    nodes = 1 + sim_random_below(dice(sim), sim->nodes_all);
  if (!more_nodes || both || replicas > nodes)
    replicas = 1 + sim_random_below(dice(sim), nodes);
  if (nodes >= 3 && replicas == 1 && sim_random_percent(dice(sim), 70)) /* else hardly anything may fail */
    replicas = 2 + sim_random_below(dice(sim), nodes - 1);
  if (!may_resize(sim, nodes, replicas))
    return;
  sim_daemon_resize(sim, nodes, replicas);
  if (sim_random_percent(dice(sim), 40))
    sim_moments_set(sim, sim_random_percent(dice(sim), 50) ? SIM_MOMENT_KILL : SIM_MOMENT_KILL_AND_AWAY);
  if (sim_random_percent(dice(sim), 60))
    sim_faults_kill_daemon(sim);
  else
    sim_faults_shut_down(sim);
}

/* ---- links ---- */

void sim_faults_set_all_links(Sim *sim, guint loss_percent, guint duplicate_percent) {
  for (guint i = 1; i <= sim->config.nodes; i++) {
    SimLink *links[] = {&sim->node[i].to, &sim->node[i].from};
    for (guint j = 0; j < 2; j++) {
      links[j]->loss_percent = loss_percent;
      links[j]->duplicate_percent = duplicate_percent;
    }
  }
}

static void on_links_mended(Sim *sim, gpointer unused) {
  sim_faults_set_all_links(sim, 0, 0);
}

void sim_faults_disturb_links(Sim *sim, FaultKind kind) {
  guint percent = 1 + sim_random_below(dice(sim), kind == FAULT_LOSSY_LINKS ? 5 : 30);
  sim_faults_set_all_links(sim, kind == FAULT_LOSSY_LINKS ? percent : 0,
                kind == FAULT_DUPLICATES ? percent : 0);
  sim_after(sim, sim_random_spread(dice(sim), 50 * SIM_MS, 4 * SIM_SECOND), on_links_mended, NULL);
}
