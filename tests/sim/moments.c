/* moments.c - see moments.h. */
#include "moments.h"

#include "faults.h"

G_STATIC_ASSERT(SIM_MOMENTS <= SIM_MOMENTS_MAX);

static guint draw_type(Sim *sim) {
  static const guint types[] = {
      1u << QFS_MESSAGE_APPLY,  1u << QFS_MESSAGE_CHUNKS, 1u << QFS_MESSAGE_INTENT,
      1u << QFS_MESSAGE_COMMIT, 1u << QFS_MESSAGE_VIEW,   1u << QFS_MESSAGE_SYNC,
      1u << QFS_MESSAGE_WIPE,   1u << QFS_MESSAGE_REMOVE, 1u << QFS_MESSAGE_DISCARD,
      1u << QFS_MESSAGE_PURGE,  1u << QFS_MESSAGE_SCAN_RECORDS, 1u << QFS_MESSAGE_PROMISE,
  };
  return types[sim_random_below(&sim->random, G_N_ELEMENTS(types))];
}

void sim_moments_set(Sim *sim, SimMoment moment) {
  gboolean at_ack = moment == SIM_MOMENT_KILL_AT_ACK;
  guint left = sim_random_percent(&sim->random, 40) ? 1 : 1 + sim_random_below(&sim->random, 6);
  sim->awaited[moment] = (SimAwaited){.types = at_ack ? 0 : draw_type(sim), .left = left};
}

/* TRUE: this is the moment. */
static gboolean has_come(Sim *sim, SimMoment moment, guint types) {
  SimAwaited *awaited = &sim->awaited[moment];
  if (awaited->left == 0 || !sim_faults_are_active(sim) ||
      (awaited->types != 0 && (types & awaited->types) == 0) || --awaited->left > 0)
    return FALSE;
  SIM_TRACE(sim, "fault: the moment has come");
  return TRUE;
}

static void on_end(Sim *sim, gpointer away) {
  if (sim_faults_are_active(sim))
    sim_faults_end_daemon(sim, GPOINTER_TO_UINT(away));
}

void sim_moments_handled(Sim *sim, guint node, guint types) {
  if (has_come(sim, SIM_MOMENT_KILL, types))
    sim_after(sim, 0, on_end, NULL);
  if (has_come(sim, SIM_MOMENT_KILL_AND_AWAY, types))
    sim_after(sim, 0, on_end, GUINT_TO_POINTER(node));
  if (has_come(sim, SIM_MOMENT_CRASH, types) && sim_faults_holds(sim, node))
    sim->disk[node].crashed = TRUE; /* found by whoever let it work */
  if (!sim->disk[node].crashed && has_come(sim, SIM_MOMENT_KEEP_COPY, types))
    sim_faults_keep_copy(sim, node);
}

void sim_moments_acknowledged(Sim *sim) {
  if (has_come(sim, SIM_MOMENT_KILL_AT_ACK, 0))
    sim_after(sim, 0, on_end, NULL);
}

gint64 sim_moments_copy_us(Sim *sim, const QfsMessage *message) {
  if (!has_come(sim, SIM_MOMENT_LATE_COPY, 1u << message->type))
    return 0;
  sim->result->duplicated++;
  return sim_random_spread(&sim->random, 1 * SIM_MS, 4 * SIM_SECOND);
}
