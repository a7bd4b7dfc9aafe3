/* disk.c - life of a node's disk, and looking at it from outside; see disk.h. */
#include "disk_private.h"

#include "sim.h"

/* ---- life ---- */

void sim_disk_close_peeks(SimDisk *disk) {
  g_clear_pointer(&disk->peek, qfs_replica_close);
  g_clear_pointer(&disk->stable_peek, qfs_replica_close);
  g_clear_pointer(&disk->stable, sim_volume_free);
}

/* A new file of the same name is another one: whoever looks at the deleted one must not be in its way. */
static void drop_orphans(SimDisk *disk) {
  if (disk->volume == NULL || disk->orphans == disk->volume->n_orphans)
    return;
  sim_disk_close_peeks(disk);
  disk->orphans = disk->volume->n_orphans;
}

void sim_disk_init(SimDisk *disk, Sim *sim, guint node, char *dir) {
  *disk = (SimDisk){.sim = sim, .node = node, .dir = dir};
  disk->bad_chunks = g_ptr_array_new_with_free_func((GDestroyNotify)qfs_chunk_free);
  disk->lost_chunks = g_ptr_array_new_with_free_func((GDestroyNotify)qfs_chunk_free);
  disk->planted = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
  disk->bad_rows =
      g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)qfs_record_unref);
  if (dir == NULL) {
    disk->mem = mem_disk_new(node);
    return;
  }
  sim_vfs_init();
  disk->volume = sim_volume_new(dir, sim_random_u64(&sim->random));
}

void sim_disk_clear(SimDisk *disk) {
  g_assert(!disk->writer_open);
  sim_disk_close_peeks(disk);
  g_clear_pointer(&disk->volume, sim_volume_free);
  g_clear_pointer(&disk->mem, mem_disk_free);
  g_clear_pointer(&disk->dir, g_free);
  g_hash_table_unref(disk->bad_rows);
  g_hash_table_unref(disk->planted);
  g_ptr_array_unref(disk->bad_chunks);
  g_ptr_array_unref(disk->lost_chunks);
}

QfsReplica *sim_disk_open(SimDisk *disk, gboolean create, GError **error) {
  g_assert(!disk->writer_open);
  sim_disk_close_peeks(disk); /* a damaged file may need to be opened alone */
  if (disk->absent) {
    g_set_error(error, QFS_REPLICA_ERROR, QFS_REPLICA_ERROR_IO, "injected: the directory is away");
    return NULL;
  }
  disk->failed = disk->crashed = FALSE;
  disk->crash_point = SIM_CRASH_NONE;
  drop_orphans(disk);
  if (disk->volume != NULL && !disk->volume->stay) /* a disk that broke, and was replaced */
    disk->volume->fail_in = 0;
  QfsReplica *real = disk->mem != NULL
                         ? mem_replica_open(disk->mem)
                         : qfs_sqlite_replica_open(disk->dir, disk->node, create, FALSE, error);
  if (real == NULL)
    return NULL;
  disk->writer_open = TRUE;
  return sim_fault_replica_new(disk, real, FALSE);
}

QfsReplica *sim_disk_open_reader(SimDisk *disk, GError **error) {
  QfsReplica *real = disk->mem != NULL ? mem_replica_open_reader(disk->mem)
                                       : qfs_sqlite_replica_open_reader(disk->dir, error);
  return real != NULL ? sim_fault_replica_new(disk, real, TRUE) : NULL;
}

void sim_disk_lose_power(SimDisk *disk) {
  if (disk->mem == NULL) {
    sim_disk_close_peeks(disk);
    sim_volume_lose_power(disk->volume);
    disk->rolled_back = TRUE;
    return;
  }
  guint volatile_commits = mem_disk_volatile_commits(disk->mem);
  guint keep = sim_random_below(&disk->sim->random, volatile_commits + 1);
  SIM_TRACE(disk->sim, "disk %u keeps %u of %u commits", disk->node, keep, volatile_commits);
  mem_disk_lose_power(disk->mem, keep);
  disk->rolled_back = disk->rolled_back || keep < volatile_commits;
}

static gboolean damage_in_memory(SimDisk *disk, SimDamage damage) {
  if (damage == SIM_DAMAGE_OLD_COPY)
    return mem_disk_restore_copy(disk->mem);
  if (damage == SIM_DAMAGE_FLIP)
    disk->corrupt_in = (guint)sim_random_spread(&disk->sim->random, 1, 100);
  else
    mem_disk_erase(disk->mem);
  return TRUE;
}

gboolean sim_disk_copy_is_recent(SimDisk *disk) {
  g_autofree QfsNodeMeta *meta = g_new0(QfsNodeMeta, 1);
  return sim_disk_meta(disk, meta) && meta->generation == disk->copy_generation;
}

gboolean sim_disk_damage(SimDisk *disk, SimDamage damage) {
  g_assert(!disk->writer_open);
  sim_disk_close_peeks(disk);
  if (!(disk->mem != NULL ? damage_in_memory(disk, damage)
                          : sim_volume_damage(disk->volume, damage)))
    return FALSE;
  SIM_TRACE(disk->sim, "disk %u: damage %d", disk->node, damage);
  disk->lost = disk->ever_lost = disk->rolled_back = TRUE;
  if (damage == SIM_DAMAGE_DELETE || damage == SIM_DAMAGE_NO_FILE)
    disk->rotten = FALSE;
  else if (damage != SIM_DAMAGE_OLD_COPY)
    disk->rotten = disk->rotten || disk->mem == NULL;
  return TRUE;
}

void sim_disk_keep_copy(SimDisk *disk) {
  g_autofree QfsNodeMeta *meta = g_new0(QfsNodeMeta, 1);
  if (!sim_disk_meta(disk, meta))
    return;
  if (disk->mem == NULL)
    sim_volume_keep_copy(disk->volume);
  else if (!mem_disk_keep_copy(disk->mem))
    return;
  disk->copy_generation = meta->generation;
}

void sim_disk_set_aside(SimDisk *disk) {
  SIM_TRACE(disk->sim, "disk %u: replica set aside", disk->node);
  SIM_CHECK(disk->sim, disk->rolled_back,
            "the replica of node %u is damaged, but nothing was done to it", disk->node);
  sim_disk_damage(disk, SIM_DAMAGE_DELETE);
}

void sim_disk_heal(SimDisk *disk) {
  disk->absent = disk->full = FALSE;
  disk->fail_in = disk->read_fail_in = disk->corrupt_in = 0;
  disk->crash_point = SIM_CRASH_NONE;
  if (disk->volume == NULL)
    return;
  disk->volume->full = disk->volume->stay = FALSE;
  disk->volume->fail_in = disk->volume->read_fail_in = 0;
}

/* ---- looking from outside ---- */

static gboolean may_be_unreadable(const SimDisk *disk) {
  return disk->lost || disk->rotten;
}

/* NULL: it was damaged. */
static QfsReplica *open_peek(SimDisk *disk, const char *dir) {
  g_autoptr(GError) error = NULL;
  QfsReplica *replica = qfs_sqlite_replica_open_reader(dir, &error);
  if (replica == NULL && !may_be_unreadable(disk) &&
      !g_error_matches(error, QFS_REPLICA_ERROR, QFS_REPLICA_ERROR_ABSENT))
    sim_fail(disk->sim, "cannot look into %s: %s", dir, error->message);
  return replica;
}

QfsReplica *sim_disk_peek(SimDisk *disk) {
  drop_orphans(disk);
  if (disk->peek == NULL)
    disk->peek = open_peek(disk, disk->dir);
  return disk->peek;
}

static QfsReplica *stable_peek(SimDisk *disk) {
  if (disk->stable != NULL && disk->stable_syncs == disk->volume->syncs)
    return disk->stable_peek;
  disk->stable_syncs = disk->volume->syncs;
  if (disk->stable_peek != NULL && !may_be_unreadable(disk) && sim_volume_renew_view(disk->stable))
    return disk->stable_peek;
  g_clear_pointer(&disk->stable_peek, qfs_replica_close);
  g_clear_pointer(&disk->stable, sim_volume_free);
  g_autofree char *dir = g_strconcat(disk->dir, ".stable", NULL);
  disk->stable = sim_volume_new_view(disk->volume, dir);
  return disk->stable_peek = open_peek(disk, dir);
}

static QfsRecord *look(SimDisk *disk, QfsReplica *replica, const char *key) {
  g_autoptr(GError) error = NULL;
  QfsRecord *record = NULL;
  if (replica != NULL && !replica->ops->record_get(replica, key, &record, &error) &&
      !may_be_unreadable(disk) && !g_hash_table_contains(disk->bad_rows, key))
    sim_fail(disk->sim, "node %u: reading %s: %s", disk->node, key, error->message);
  return record;
}

QfsRecord *sim_disk_record(SimDisk *disk, const char *key) {
  if (disk->mem != NULL) {
    const MemRow *row = mem_disk_row(disk->mem, key);
    return row != NULL ? qfs_record_ref(row->record) : NULL;
  }
  sim_vfs_set_quiet(TRUE);
  QfsRecord *record = look(disk, sim_disk_peek(disk), key);
  sim_vfs_set_quiet(FALSE);
  return record;
}

QfsRecord *sim_disk_durable_record(SimDisk *disk, const char *key) {
  if (disk->mem == NULL) {
    sim_vfs_set_quiet(TRUE);
    QfsRecord *stable = look(disk, stable_peek(disk), key);
    sim_vfs_set_quiet(FALSE);
    return stable;
  }
  const QfsRecord *record = mem_disk_durable_record(disk->mem, key);
  return record != NULL ? qfs_record_ref(record) : NULL;
}

guint sim_disk_intents(SimDisk *disk) {
  if (disk->mem != NULL)
    return (guint)g_tree_nnodes(disk->mem->intents);
  g_autoptr(GArray) ids = g_array_new(FALSE, FALSE, sizeof(guint64));
  sim_vfs_set_quiet(TRUE);
  QfsReplica *from = sim_disk_peek(disk);
  if (from != NULL)
    from->ops->intent_list(from, ids, NULL);
  sim_vfs_set_quiet(FALSE);
  return ids->len;
}

gboolean sim_disk_meta(SimDisk *disk, QfsNodeMeta *out_meta) {
  if (disk->mem != NULL) {
    *out_meta = disk->mem->meta;
    return TRUE;
  }
  sim_vfs_set_quiet(TRUE);
  QfsReplica *from = sim_disk_peek(disk);
  gboolean ok = from != NULL && from->ops->meta_load(from, out_meta, NULL);
  sim_vfs_set_quiet(FALSE);
  return ok;
}

QfsChunk *sim_disk_chunk(SimDisk *disk, QfsObjectId object, guint64 index, GBytes *spans) {
  g_autoptr(QfsReplica) reader = disk->mem != NULL ? mem_replica_open_reader(disk->mem) : NULL;
  sim_vfs_set_quiet(TRUE);
  QfsReplica *from = reader != NULL ? reader : sim_disk_peek(disk);
  g_autoptr(GError) error = NULL;
  QfsChunk *chunk = NULL;
  if (from != NULL && !qfs_replica_chunk(from, object, index, spans, &chunk, NULL, &error))
    sim_fail(disk->sim, "node %u: reading a chunk: %s", disk->node, error->message);
  sim_vfs_set_quiet(FALSE);
  return chunk;
}

GPtrArray *sim_disk_chunks(SimDisk *disk) {
  g_autoptr(QfsReplica) reader = disk->mem != NULL ? mem_replica_open_reader(disk->mem) : NULL;
  sim_vfs_set_quiet(TRUE);
  QfsReplica *from = reader != NULL ? reader : sim_disk_peek(disk);
  g_autoptr(GError) error = NULL;
  GPtrArray *rows = qfs_chunks_new();
  gboolean more;
  if (from != NULL && !from->ops->chunk_list(from, NULL, G_MAXUINT, rows, &more, &error))
    sim_fail(disk->sim, "node %u: listing chunks: %s", disk->node, error->message);
  sim_vfs_set_quiet(FALSE);
  return rows;
}
