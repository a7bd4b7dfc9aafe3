/* check_changes.c - what watchers are told: each acknowledged change, once, and nothing else. See check.h. */
#include "check.h"

static gboolean is_told(const SimKey *key, const QfsRecord *record) {
  return g_hash_table_contains(key->told, &record->timestamp);
}

/* Timestamps name versions, except where explicit ones may tie. */
static void note_told(Sim *sim, SimKey *key, const QfsRecord *record) {
  SIM_CHECK(sim, key->class == SIM_KEY_STAMPED || !is_told(key, record),
            "%s@%" G_GUINT64_FORMAT " was told twice", record->key, record->timestamp);
  g_hash_table_add(key->told, g_memdup2(&record->timestamp, sizeof record->timestamp));
}

void sim_check_changed(const QfsChange *change, gpointer data) {
  Sim *sim = data;
  const QfsRecord *record = change->record;
  SIM_TRACE(sim, "told: %s %s@%" G_GUINT64_FORMAT, qfs_change_kind_name(change->kind), record->key,
            record->timestamp);
  SIM_CHECK(sim, (change->kind == QFS_CHANGE_DELETE) == (record->kind == QFS_KIND_TOMBSTONE),
            "told of a version of kind %d as %s", record->kind, qfs_change_kind_name(change->kind));
  SIM_CHECK(sim, (change->kind == QFS_CHANGE_MKDIR) <= (record->kind == QFS_KIND_DIRECTORY),
            "told of a version of kind %d as of a directory", record->kind);
  SimKey *key = sim_history_find_key(sim->history, record->key);
  if (key == NULL)
    return; /* a directory that is there from the beginning */
  key->tellings++;
  note_told(sim, key, record);
  if (change->kind == QFS_CHANGE_RENAME) {
    sim_trust_told(change->former_key, sim);
    SIM_CHECK(sim, sim_history_find_key(sim->history, change->former_key) != NULL,
              "%s came from %s", record->key, change->former_key);
  }
  const SimOp *op = sim_history_op(sim->history, sim_op_of_ns(record->attr.ctime_ns));
  if (record->kind != QFS_KIND_TOMBSTONE && op != NULL)
    SIM_CHECK(sim, op->outcome != SIM_REFUSED, "told of %s", sim_op_text(op));
  sim_check_held(sim, key->name, record);
}

void sim_check_told(Sim *sim, const SimOp *op, const SimKey *key, const QfsRecord *record) {
  /* The same once more is no change; the first one may have been another life's. */
  if (op->has_timestamp || record->timestamp == G_MAXUINT64)
    return;
  SIM_CHECK(sim, is_told(key, record), "%s was acknowledged and not told", sim_op_text(op));
}

void sim_check_changes_forget(Sim *sim) {
  for (guint i = 0; i < sim->history->keys->len; i++)
    g_hash_table_remove_all(((SimKey *)g_ptr_array_index(sim->history->keys, i))->told);
}
