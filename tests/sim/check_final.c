/* check_final.c - after all faults, when the coordinator says that nothing is owed: every owner of
 * every key holds the same record and the same bytes (DESIGN 1.8). Looks at the disks themselves.
 */
#include "check.h"
#include "linked.h"
#include "walk.h"

#include "cluster/placement.h"

static gboolean same_encoding(const QfsRecord *a, const QfsRecord *b) {
  g_autoptr(GBytes) a_bytes = qfs_record_canonical(a);
  g_autoptr(GBytes) b_bytes = qfs_record_canonical(b);
  return g_bytes_equal(a_bytes, b_bytes) && a->timestamp == b->timestamp;
}

/* Every chunk that the version needs is at each of the object's owners, with the same bytes; a hole
 * is a hole everywhere. */
static void check_chunks(Sim *sim, const SimKey *key, const QfsRecord *record) {
  QfsNodeSet owners =
      qfs_placement_holders(record->object.placement, qfs_set_all(sim->nodes_n), sim->replicas_k);
  guint64 n = (record->tail_offset + QFS_CHUNK_SIZE - 1) / QFS_CHUNK_SIZE;
  g_autoptr(GBytes) spans = qfs_record_spans(record);
  for (guint64 index = 0; index < n; index++) {
    g_autoptr(QfsChunk) first = NULL;
    gboolean have_first = FALSE;
    for (guint node = 1; node <= sim->nodes_all; node++) {
      if (!qfs_set_has(owners, node))
        continue;
      g_autoptr(QfsChunk) chunk =
          sim_disk_chunk(&sim->disk[node], record->object, index, spans);
      if (have_first)
        SIM_CHECK(sim,
                  (chunk == NULL) == (first == NULL) &&
                      (chunk == NULL || (chunk->version == first->version &&
                                         g_bytes_equal(chunk->data, first->data))),
                  "chunk %" G_GUINT64_FORMAT " of %s@%" G_GUINT64_FORMAT
                  " differs at node %u: object %" G_GINT64_MODIFIER "x/%" G_GINT64_MODIFIER
                  "x: version %" G_GUINT64_FORMAT " there, %" G_GUINT64_FORMAT " elsewhere",
                  index, key->name, record->timestamp, node, record->object.placement,
                  record->object.unique, chunk != NULL ? chunk->version : 0,
                  first != NULL ? first->version : 0);
      else
        first = g_steal_pointer(&chunk);
      have_first = TRUE;
    }
  }
}

static void check_owners_agree(Sim *sim, const SimKey *key, QfsNodeSet owners,
                               QfsRecord **out_record) {
  g_autoptr(QfsRecord) first = NULL;
  gboolean have_first = FALSE;
  for (guint node = 1; node <= sim->nodes_all; node++) {
    if (!qfs_set_has(owners, node))
      continue;
    g_autoptr(QfsRecord) record = sim_disk_record(&sim->disk[node], key->name);
    if (sim_is_leftover(key, record)) /* left where the removal was lost: counts as nothing */
      g_clear_pointer(&record, qfs_record_unref);
    if (have_first)
      SIM_CHECK(
          sim,
          (record == NULL) == (first == NULL) && (record == NULL || same_encoding(record, first)),
          "%s: node %u holds @%" G_GUINT64_FORMAT ", another owner @%" G_GUINT64_FORMAT, key->name,
          node, record != NULL ? record->timestamp : 0, first != NULL ? first->timestamp : 0);
    else
      first = g_steal_pointer(&record);
    have_first = TRUE;
  }
  *out_record = g_steal_pointer(&first);
}

/* Settled means: on stable storage at every owner (DESIGN 1.6). */
static void check_settled(Sim *sim, const SimKey *key, QfsNodeSet owners, const QfsRecord *record) {
  for (guint node = 1; node <= sim->nodes_all; node++) {
    if (!qfs_set_has(owners, node))
      continue;
    g_autoptr(QfsRecord) durable = sim_disk_durable_record(&sim->disk[node], key->name);
    SIM_CHECK(sim, sim_record_order(durable, record) >= 0,
              "%s@%" G_GUINT64_FORMAT " counts as settled, but node %u has @%" G_GUINT64_FORMAT
              " on stable storage",
              key->name, record->timestamp, node, durable != NULL ? durable->timestamp : 0);
  }
}

static void check_key(Sim *sim, const SimKey *key) {
  QfsNodeSet owners = qfs_coordinator_owners(sim->coordinator, key->name);
  SIM_CHECK(sim, qfs_set_size(owners) == sim->replicas_k, "%s has %u owners", key->name,
            qfs_set_size(owners));
  g_autoptr(QfsRecord) record = NULL;
  check_owners_agree(sim, key, owners, &record);
  SIM_CHECK(sim, sim_record_order(record, key->floor) >= 0 || sim->loss_accepted,
            "%s: the owners agree on @%" G_GUINT64_FORMAT ", but @%" G_GUINT64_FORMAT
            " was acknowledged",
            key->name, record != NULL ? record->timestamp : 0, key->floor->timestamp);
  for (guint node = 1; node <= sim->nodes_all; node++) {
    g_autoptr(QfsRecord) other = sim_disk_record(&sim->disk[node], key->name);
    SIM_CHECK(sim, sim_is_leftover(key, other) || sim_record_order(other, record) <= 0,
              "%s: node %u, no owner, holds @%" G_GUINT64_FORMAT ", newer than the owners",
              key->name, node, other->timestamp);
    SIM_CHECK(sim, other == NULL || qfs_set_has(owners, node),
              "%s: node %u, no owner, holds @%" G_GUINT64_FORMAT, key->name, node, other->timestamp);
  }
  check_settled(sim, key, owners, record);
  if (record != NULL && record->kind == QFS_KIND_VALUE && record->tail_offset > 0)
    check_chunks(sim, key, record);
}

guint sim_intents_left(Sim *sim, guint *out_node) {
  guint n = 0;
  for (guint node = 1; node <= sim->nodes_all && n == 0; node++) {
    n = sim_disk_intents(&sim->disk[node]);
    *out_node = node;
  }
  return n;
}

void sim_check_collected(Sim *sim) {
  for (guint i = 0; i < sim->history->keys->len; i++) {
    const SimKey *key = g_ptr_array_index(sim->history->keys, i);
    QfsNodeSet owners = qfs_coordinator_owners(sim->coordinator, key->name);
    for (guint node = 1; node <= sim->nodes_all; node++) {
      g_autoptr(QfsRecord) record = sim_disk_record(&sim->disk[node], key->name);
      SIM_CHECK(sim, record == NULL || record->kind != QFS_KIND_TOMBSTONE,
                "node %u still has the tombstone %s@%" G_GUINT64_FORMAT, node, key->name,
                record->timestamp);
      /* What it held for others was handed back before. */
      SIM_CHECK(sim, record == NULL || qfs_set_has(owners, node),
                "node %u, no owner, still holds %s@%" G_GUINT64_FORMAT, node, key->name,
                record->timestamp);
    }
  }
}

void sim_check_converged(Sim *sim) {
  for (guint i = 0; i < sim->history->keys->len; i++)
    check_key(sim, g_ptr_array_index(sim->history->keys, i));
}

/* ---- chunk rows ---- */

static void add_records(Sim *sim, GPtrArray *keys, GPtrArray *records) {
  for (guint i = 0; i < keys->len; i++)
    for (guint node = 1; node <= sim->nodes_n; node++) {
      QfsRecord *record = sim_disk_record(&sim->disk[node], keys->pdata[i]);
      if (record != NULL)
        g_ptr_array_add(records, record);
    }
}

static GPtrArray *all_records(Sim *sim) {
  GPtrArray *records = qfs_records_new();
  for (guint i = 0; i < sim->history->keys->len; i++)
    for (guint node = 1; node <= sim->nodes_n; node++) {
      const SimKey *key = g_ptr_array_index(sim->history->keys, i);
      QfsRecord *record = sim_disk_record(&sim->disk[node], key->name);
      if (record != NULL)
        g_ptr_array_add(records, record);
    }
  g_autoptr(GPtrArray) walking = sim_walk_keys(sim), linked = sim_linked_keys(sim);
  add_records(sim, walking, records);
  add_records(sim, linked, records);
  return records;
}

/* Does `record` read the row at this place of the node's rows, or would it if the value were longer? */
static gboolean needs(const QfsRecord *record, GPtrArray *rows, guint at) {
  const QfsChunk *row = g_ptr_array_index(rows, at);
  if (!qfs_object_equal(record->object, row->object) || !qfs_record_owns(record, row->version))
    return FALSE;
  for (guint i = at + 1; i < rows->len; i++) {
    const QfsChunk *later = g_ptr_array_index(rows, i);
    if (!qfs_object_equal(later->object, row->object) || later->index != row->index)
      break;
    if (qfs_record_owns(record, later->version))
      return FALSE;
  }
  return TRUE;
}

void sim_check_reclaimed(Sim *sim) {
  g_autoptr(GPtrArray) records = all_records(sim);
  for (guint node = 1; node <= sim->nodes_n; node++) {
    g_autoptr(GPtrArray) rows = sim_disk_chunks(&sim->disk[node]);
    for (guint i = 0; i < rows->len; i++) {
      const QfsChunk *row = g_ptr_array_index(rows, i);
      QfsNodeSet owners = qfs_placement_holders(row->object.placement, qfs_set_all(sim->nodes_n),
                                                sim->replicas_k);
      gboolean needed = FALSE;
      for (guint k = 0; !needed && k < records->len; k++)
        needed = needs(g_ptr_array_index(records, k), rows, i);
      SIM_CHECK(sim, needed && qfs_set_has(owners, node),
                "node %u still has chunk %" G_GUINT64_FORMAT " of object %" G_GINT64_MODIFIER
                "x/%" G_GINT64_MODIFIER "x, version %" G_GUINT64_FORMAT ", which %s",
                node, row->index, row->object.placement, row->object.unique, row->version,
                needed ? "others own" : "no record needs");
    }
  }
}
