/* faults_busy.c - a machine that is busy: for some seconds all nodes take long for whatever they are asked.
 *
 * In some seeds only, and with dice of its own, so that the course of the others does not depend on it. */
#include "faults_private.h"

#define SEEDS_PER_BUSY 20

static void on_busy(Sim *sim, gpointer unused);

static void on_idle(Sim *sim, gpointer unused) {
  SimFaults *faults = sim->faults;
  for (guint i = 1; i <= sim->nodes_all; i++)
    sim->node[i].busy_us = 0;
  if (faults->active)
    sim_after(sim, sim_random_spread(&faults->busy_dice, 100 * SIM_MS, 8 * SIM_SECOND), on_busy, NULL);
}

/* What takes long then: the others are to find out, and to go on without it. */
static void cut_off_one(Sim *sim) {
  const guint number = sim->coordinator != NULL ? sim_faults_pick_node(sim) : 0;
  if (number == 0)
    return;
  SIM_TRACE(sim, "fault: %s at node %u", sim_fault_name(FAULT_PARTITION), number);
  sim_faults_count(sim, FAULT_PARTITION);
  sim_faults_break_node(sim, FAULT_PARTITION, number);
  sim_faults_heal_later(sim, number);
}

static void on_busy(Sim *sim, gpointer unused) {
  SimFaults *faults = sim->faults;
  if (!faults->active)
    return;
  SIM_TRACE(sim, "fault: %s", sim_fault_name(FAULT_BUSY));
  sim_faults_count(sim, FAULT_BUSY);
  const gint64 most_us = sim_random_range(&faults->busy_dice, 50 * SIM_MS, 700 * SIM_MS);
  for (guint i = 1; i <= sim->nodes_all; i++)
    sim->node[i].busy_us = sim_random_range(&faults->busy_dice, most_us / 2, most_us);
  while (sim_random_percent(&faults->busy_dice, 60))
    cut_off_one(sim);
  sim_after(sim, sim_random_spread(&faults->busy_dice, 500 * SIM_MS, 8 * SIM_SECOND), on_idle, NULL);
}

void sim_faults_busy_start(Sim *sim) {
  const guint64 mixed = sim_mix(sim->options.seed + 1);
  if (mixed % SEEDS_PER_BUSY != 0 || sim->faults->busy_dice.state != 0)
    return;
  sim->faults->busy_dice.state = mixed;
  sim_after(sim, sim_random_spread(&sim->faults->busy_dice, 100 * SIM_MS, 8 * SIM_SECOND), on_busy, NULL);
}

void sim_faults_busy_stop(Sim *sim) {
  for (guint i = 1; i <= sim->nodes_all; i++)
    sim->node[i].busy_us = 0;
}
