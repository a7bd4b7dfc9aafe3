/* faults.c - which fault comes when, and the course of faults in a run; see faults.h. */
#include "faults_private.h"

#include "moments.h"

static const char *const kind_names[FAULT_KINDS] = {
    [FAULT_KILL] = "kill",
    [FAULT_POWER] = "power loss",
    [FAULT_SHUTDOWN] = "shutdown",
    [FAULT_CLOCK] = "clock jump",
    [FAULT_LOSSY_LINKS] = "lossy links",
    [FAULT_DUPLICATES] = "duplicates",
    [FAULT_KILL_AT_MESSAGE] = "kill at a message",
    [FAULT_KILL_AT_ACK] = "kill at an acknowledgement",
    [FAULT_CLOCK_AT_START] = "clock jump between lives",
    [FAULT_KILL_AND_AWAY] = "kill at a message, its node away at the start",
    [FAULT_LATE_COPY] = "late copy of a message",
    [FAULT_COLLECT] = "gc command",
    [FAULT_SCRUB] = "scrub command",
    [FAULT_CRASH_AT_MESSAGE] = "crash at a message",
    [FAULT_CRASH] = "crash",
    [FAULT_CRASH_REQUEST] = "crash request",
    [FAULT_DOWN_REQUEST] = "down request",
    [FAULT_CRASH_AT_COMMIT] = "crash at commit",
    [FAULT_IO_ERROR] = "io error",
    [FAULT_READ_ERROR] = "read error",
    [FAULT_FULL_DISK] = "full disk",
    [FAULT_PARTITION] = "partition",
    [FAULT_ONE_WAY] = "one-way partition",
    [FAULT_RESIZE] = "other N or K",
    [FAULT_SLOW] = "slow node",
    [FAULT_LOSSY_NODE] = "lossy node",
    [FAULT_BAD_ROWS] = "bad rows",
    [FAULT_DISK_LOST] = "disk lost",
    [FAULT_OLD_COPY] = "old copy",
    [FAULT_ROT] = "bit rot",
    [FAULT_DAMAGE] = "damaged files",
    [FAULT_EVICT] = "evicted",
    [FAULT_PLANTED] = "silent changes",
    [FAULT_BUSY] = "busy machine",
};

const char *sim_fault_name(guint kind) {
  return kind < FAULT_KINDS ? kind_names[kind] : NULL;
}

void sim_faults_count(Sim *sim, FaultKind kind) {
  sim->result->faults++;
  sim->result->fault_count[kind]++;
}

static const guint usual_weight[FAULT_KINDS] = {
    [FAULT_KILL] = 10,        [FAULT_POWER] = 3,
    [FAULT_SHUTDOWN] = 4,     [FAULT_CLOCK] = 6,
    [FAULT_RESIZE] = 6,
    [FAULT_LOSSY_LINKS] = 8,  [FAULT_DUPLICATES] = 5,
    [FAULT_CRASH] = 10,       [FAULT_CRASH_REQUEST] = 5,
    [FAULT_DOWN_REQUEST] = 5, [FAULT_CRASH_AT_COMMIT] = 10,
    [FAULT_IO_ERROR] = 7,     [FAULT_READ_ERROR] = 4,
    [FAULT_FULL_DISK] = 5,    [FAULT_PARTITION] = 10,
    [FAULT_SLOW] = 7,         [FAULT_LOSSY_NODE] = 6,
    [FAULT_KILL_AT_MESSAGE] = 9, [FAULT_KILL_AT_ACK] = 5,
    [FAULT_CRASH_AT_MESSAGE] = 4, [FAULT_ONE_WAY] = 6,
    [FAULT_BAD_ROWS] = 8,
    [FAULT_DISK_LOST] = 3,    [FAULT_OLD_COPY] = 5,
    [FAULT_ROT] = 4,          [FAULT_DAMAGE] = 4,
    [FAULT_KILL_AND_AWAY] = 7, [FAULT_LATE_COPY] = 9,
    [FAULT_EVICT] = 5,
    [FAULT_COLLECT] = 4,      [FAULT_SCRUB] = 2,
};

SimFaults *sim_faults_new(Sim *sim) {
  SimFaults *faults = g_new0(SimFaults, 1);
  gboolean power = sim_random_percent(dice(sim), 35);
  for (guint kind = 0; kind < FAULT_BUSY; kind++)
    faults->enabled[kind] = sim_random_percent(dice(sim), 60) ? usual_weight[kind] : 0;
  faults->enabled[FAULT_KILL] = usual_weight[FAULT_KILL];
  if (!power)
    faults->enabled[FAULT_POWER] = 0;
  return faults;
}

void sim_faults_free(SimFaults *faults) {
  g_free(faults);
}

guint sim_faults_survivable(const Sim *sim) {
  return MIN(sim->former_k - 1, (sim->former_n - 1) / 2);
}

gboolean sim_faults_are_active(const Sim *sim) {
  return sim->faults->active;
}

gboolean sim_faults_holds(const Sim *sim, guint node) {
  return qfs_set_has(sim->faults->held, node);
}

/* ---- the course ---- */

static FaultKind pick_kind(Sim *sim) {
  const guint *weight = sim->faults->enabled;
  guint total = 0;
  for (guint kind = 0; kind < FAULT_KINDS; kind++)
    total += weight[kind];
  guint roll = sim_random_below(dice(sim), total);
  for (guint kind = 0;; kind++) {
    if (roll < weight[kind])
      return kind;
    roll -= weight[kind];
  }
}

static void happen_at(Sim *sim, FaultKind kind, guint number);

/* The copy that is restored is this young: what it lacks need not be settled yet. */
static void on_restore(Sim *sim, gpointer data) {
  guint number = GPOINTER_TO_UINT(data);
  if (sim->faults->active && sim->coordinator != NULL && sim_faults_may_break(sim, number) &&
      sim_faults_may_lose(sim, number))
    happen_at(sim, FAULT_OLD_COPY, number);
}

void sim_faults_keep_copy(Sim *sim, guint node) {
  sim_disk_keep_copy(&sim->disk[node]);
  sim_after(sim, sim_random_spread(dice(sim), 1 * SIM_MS, 3 * SIM_SECOND), on_restore,
            GUINT_TO_POINTER(node));
}

static void happen(Sim *sim, FaultKind kind) {
  guint number = 0;
  if (sim->coordinator == NULL)
    return;
  if (kind >= FAULT_CRASH_AT_MESSAGE && (number = sim_faults_pick_node(sim)) == 0)
    return;
  if (kind == FAULT_OLD_COPY && sim_random_percent(dice(sim), 50)) {
    if (sim_random_percent(dice(sim), 50))
      sim_moments_set(sim, SIM_MOMENT_KEEP_COPY);
    else
      sim_faults_keep_copy(sim, number);
    return;
  }
  if (kind >= FAULT_BAD_ROWS && !sim_faults_may_lose(sim, number))
    return;
  happen_at(sim, kind, number);
}

static gboolean collects(const Sim *sim) {
  return sim->faults->enabled[FAULT_COLLECT] > 0;
}

static void on_collect(Sim *sim, gpointer unused) {
  if (sim->faults->active)
    sim_daemon_collect(sim);
}

static void happen_at(Sim *sim, FaultKind kind, guint number) {
  SIM_TRACE(sim, "fault: %s%s%.0u", kind_names[kind], number != 0 ? " at node " : "", number);
  sim_faults_count(sim, kind);
  switch (kind) {
  case FAULT_KILL:
    sim_faults_kill_daemon(sim);
    break;
  case FAULT_POWER:
    sim_faults_lose_power(sim);
    break;
  case FAULT_SHUTDOWN:
    sim_faults_shut_down(sim);
    break;
  case FAULT_CLOCK:
    sim_faults_jump_clock(sim);
    break;
  case FAULT_RESIZE:
    sim_faults_resize(sim);
    break;
  case FAULT_LOSSY_LINKS:
  case FAULT_DUPLICATES:
    sim_faults_disturb_links(sim, kind);
    break;
  case FAULT_KILL_AT_MESSAGE:
    sim_moments_set(sim, SIM_MOMENT_KILL);
    break;
  case FAULT_KILL_AND_AWAY:
    sim_moments_set(sim, SIM_MOMENT_KILL_AND_AWAY);
    break;
  case FAULT_KILL_AT_ACK:
    sim_moments_set(sim, SIM_MOMENT_KILL_AT_ACK);
    break;
  case FAULT_LATE_COPY:
    sim_moments_set(sim, SIM_MOMENT_LATE_COPY);
    if (collects(sim) && sim_random_percent(dice(sim), 40)) /* what the copy brings may be forgotten before it comes */
      sim_after(sim, sim_random_spread(dice(sim), 50 * SIM_MS, 2 * SIM_SECOND), on_collect, NULL);
    break;
  case FAULT_COLLECT:
    sim_daemon_collect(sim);
    break;
  case FAULT_SCRUB:
    sim_daemon_scrub(sim);
    break;
  default:
    sim_faults_break_node(sim, kind, number);
    sim_faults_heal_later(sim, number);
    break;
  }
}

static void on_fault(Sim *sim, gpointer unused) {
  SimFaults *faults = sim->faults;
  if (!faults->active)
    return;
  happen(sim, pick_kind(sim));
  sim_after(sim, sim_random_range(dice(sim), 1, 2 * faults->gap_us), on_fault, NULL);
}

void sim_faults_start(Sim *sim, gint64 gap_us) {
  SimFaults *faults = sim->faults;
  faults->active = TRUE;
  faults->gap_us = gap_us;
  if (!faults->caring) {
    faults->caring = TRUE;
    sim_faults_care(sim, NULL);
  }
  sim_after(sim, sim_random_range(dice(sim), 1, 2 * gap_us), on_fault, NULL);
  sim_faults_busy_start(sim);
}

void sim_faults_stop(Sim *sim) {
  sim->faults->active = FALSE;
  sim_faults_busy_stop(sim);
  for (guint i = 1; i <= sim->nodes_all; i++) {
    sim->faults->heal_id[i]++;
    sim_faults_heal_node(sim, i);
  }
  sim_faults_set_all_links(sim, 0, 0);
  for (guint i = 1; i <= sim->config.nodes; i++)
    if (sim->disk[i].rotten) { /* damage that nobody has read yet: the disk is replaced */
      sim_node_crash(sim, i, "injected: disk replaced");
      sim_disk_damage(&sim->disk[i], SIM_DAMAGE_DELETE);
    }
}

void sim_faults_break(Sim *sim, guint n) {
  static const FaultKind kinds[] = {FAULT_CRASH, FAULT_CRASH_REQUEST, FAULT_DOWN_REQUEST,
                                    FAULT_PARTITION};
  while (n > 0) {
    guint number = 1 + sim_random_below(dice(sim), sim->nodes_n);
    if (qfs_set_has(sim->faults->held, number))
      continue;
    FaultKind kind = kinds[sim_random_below(dice(sim), G_N_ELEMENTS(kinds))];
    SIM_TRACE(sim, "fault: %s at node %u, at once", kind_names[kind], number);
    sim_faults_break_node(sim, kind, number);
    sim_faults_count(sim, kind);
    n--;
  }
}

void sim_faults_break_one_more(Sim *sim) {
  if (qfs_set_size(sim->faults->held) < sim->nodes_n)
    sim_faults_break(sim, 1);
}

void sim_faults_evict(Sim *sim, QfsNodeSet nodes) {
  for (; nodes != 0; nodes &= nodes - 1) {
    guint number = (guint)__builtin_ctzll(nodes) + 1;
    SIM_TRACE(sim, "node %u is given up", number);
    sim->disk[number].lost = sim->disk[number].rolled_back = TRUE;
    sim_faults_ask_node(sim, number, QFS_NODE_EVICT);
  }
}

void sim_faults_evict_one(Sim *sim) {
  guint number = 1 + sim_random_below(dice(sim), sim->nodes_n);
  SIM_TRACE(sim, "fault: %s at node %u, for long", kind_names[FAULT_EVICT], number);
  sim_faults_break_node(sim, FAULT_EVICT, number);
  sim_faults_count(sim, FAULT_EVICT);
}

void sim_faults_restart(Sim *sim, gboolean in_good_order) {
  if (in_good_order)
    sim_faults_shut_down(sim);
  else
    sim_faults_kill_daemon(sim);
}
