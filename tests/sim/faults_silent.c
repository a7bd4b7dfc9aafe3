/* faults_silent.c - rows that are lost, older or back, and nothing tells of it; between the phases of a run. */
#include "faults_private.h"

#include "check.h"

#include <string.h>

/* An older version of the key, whole in its record; NULL: none is known. */
static const QfsRecord *older_version(Sim *sim, const SimKey *key, const QfsRecord *now) {
  guint n = key->ops->len, start = n > 0 ? sim_random_below(dice(sim), n) : 0;
  for (guint i = 0; i < n; i++) {
    const SimOp *op = g_ptr_array_index(key->ops, (start + i) % n);
    if (op->outcome == SIM_APPLIED && op->record != NULL && op->record->seq != 0 &&
        strcmp(op->record->key, key->name) == 0 && qfs_object_is_none(op->record->object) &&
        sim_record_order(op->record, now) < 0)
      return op->record;
  }
  return NULL;
}

static void count_planted(Sim *sim) {
  sim->result->faults++;
  sim->result->fault_count[FAULT_PLANTED]++;
}

void sim_faults_lose_chunks(Sim *sim) {
  guint number = 1 + sim_random_below(dice(sim), sim->nodes_n);
  for (guint i = sim->replicas_k < 2 ? 0 : sim_random_below(dice(sim), 6); i > 0; i--)
    if (sim_disk_lose_chunk(&sim->disk[number]))
      count_planted(sim);
}

void sim_faults_plant(Sim *sim) {
  guint number = 1 + sim_random_below(dice(sim), sim->nodes_n);
  if (sim->replicas_k < 2)
    return;
  for (guint i = 1 + sim_random_below(dice(sim), 6); i > 0; i--) {
    const SimKey *key =
        g_ptr_array_index(sim->history->keys, sim_random_below(dice(sim), sim->history->keys->len));
    if (!qfs_set_has(qfs_coordinator_holders(sim->coordinator, key->name), number))
      continue;
    g_autoptr(QfsRecord) now = sim_disk_record(&sim->disk[number], key->name);
    const QfsRecord *older = NULL;
    gboolean gone = now == NULL && sim->replicas_k >= 3; /* of two copies nobody knows which is right */
    if (gone || (now != NULL && sim_random_percent(dice(sim), 50))) {
      g_autoptr(QfsRecord) top = qfs_record_new_tombstone(key->name, G_MAXUINT64);
      older = older_version(sim, key, now != NULL ? now : top);
      if (older == NULL)
        continue;
    }
    if (sim_disk_plant(&sim->disk[number], key->name, older))
      count_planted(sim);
  }
}

gboolean sim_faults_rows_are_bad(Sim *sim) {
  for (guint i = 1; i <= sim->nodes_n; i++)
    if (sim_disk_has_bad_rows(&sim->disk[i]))
      return TRUE;
  return FALSE;
}
