/* check_chunks.c - a node that has a record has all its chunk rows that are not settled: after a loss of power it may be
 * the only one with the record (recovery.c, flight.c). Not if the record has another key than its object was made for: its
 * chunks are on stable storage at a quorum before that (moved_chunks.c). See check.h. */
#include "check.h"

#include "cluster/placement.h"
#include "mem_disk.h"

/* The first row of the object at the node; NULL: it has none. */
static GTreeNode *first_row(const MemDisk *mem, QfsObjectId object) {
  const QfsChunk probe = {.object = object};
  GTreeNode *at = g_tree_lower_bound(mem->chunks, &probe);
  return at != NULL && qfs_object_equal(((const QfsChunk *)g_tree_node_value(at))->object, object) ? at : NULL;
}

static GTreeNode *next_row(GTreeNode *at, QfsObjectId object) {
  at = g_tree_node_next(at);
  return at != NULL && qfs_object_equal(((const QfsChunk *)g_tree_node_value(at))->object, object) ? at : NULL;
}

/* Has the record a newer row of this index at the node? Then what is older may be gone elsewhere. */
static gboolean is_covered(const MemDisk *mem, const QfsChunk *row, const QfsRecord *record) {
  GTreeNode *at = g_tree_upper_bound(mem->chunks, row);
  for (; at != NULL; at = g_tree_node_next(at)) {
    const QfsChunk *later = g_tree_node_value(at);
    if (later->index != row->index || !qfs_object_equal(later->object, row->object))
      return FALSE;
    if (qfs_record_owns(record, later->version))
      return TRUE;
  }
  return FALSE;
}

/* Has the node the row, or a newer one of its index that the record has? */
static gboolean has_or_newer(const MemDisk *mem, const QfsChunk *row, const QfsRecord *record) {
  for (GTreeNode *at = g_tree_lower_bound(mem->chunks, row); at != NULL; at = g_tree_node_next(at)) {
    const QfsChunk *own = g_tree_node_value(at);
    if (!qfs_object_equal(own->object, row->object) || own->index != row->index)
      return FALSE;
    if (qfs_record_owns(record, own->version))
      return TRUE;
  }
  return FALSE;
}

static guint64 greatest_settled(Sim *sim) {
  guint64 settled = 0;
  for (guint i = 1; i <= sim->nodes_all; i++)
    settled = MAX(settled, sim->disk[i].mem->meta.settled);
  return settled;
}

static gboolean is_whole(const Sim *sim, guint node) {
  const SimDisk *disk = &sim->disk[node];
  return !disk->lost && disk->bad_chunks->len == 0 && disk->lost_chunks->len == 0;
}

void sim_check_has_chunks(Sim *sim, guint node, const QfsRecord *record) {
  const MemDisk *mem = sim->disk[node].mem;
  if (mem == NULL || record->object.placement != qfs_key_hash(record->key) || record->tail_offset == 0 || sim->coordinator == NULL ||
      !is_whole(sim, node) || !qfs_set_has(qfs_coordinator_chunk_holders(sim->coordinator, record->object), node))
    return;
  const guint64 settled = greatest_settled(sim);
  const QfsNodeSet in_sync = qfs_coordinator_in_sync(sim->coordinator); /* others may have rows that were discarded */
  for (guint i = 1; i <= sim->nodes_all; i++) {
    if (i == node || !is_whole(sim, i) || !qfs_set_has(in_sync, i))
      continue;
    for (GTreeNode *at = first_row(sim->disk[i].mem, record->object); at != NULL; at = next_row(at, record->object)) {
      const QfsChunk *row = g_tree_node_value(at);
      if (row->seq <= settled || row->seq >= record->seq || row->index * QFS_CHUNK_SIZE >= record->tail_offset ||
          !qfs_record_owns(record, row->version) || is_covered(sim->disk[i].mem, row, record) ||
          is_covered(mem, row, record))
        continue;
      SIM_CHECK(sim, has_or_newer(mem, row, record),
                "node %u has %s@%" G_GUINT64_FORMAT ", but not its chunk %" G_GUINT64_FORMAT "@%" G_GUINT64_FORMAT
                ", which node %u has and which is not settled",
                node, record->key, record->timestamp, row->index, row->version, i);
    }
  }
}
