/* disk.c - see disk.h. The operations that change nothing but what the inner replica does are at
 * the end. */
#include "disk.h"

#include "check.h"
#include "cluster/placement.h"
#include "sim.h"

#include <sqlite3.h>

typedef struct {
  QfsReplica base;
  QfsReplica *inner;
  SimDisk *disk;
  gboolean reader;
  gboolean in_transaction;
  gboolean wrote;     /* something that needs space */
  gboolean wiped;     /* in this transaction */
  GPtrArray *watched; /* keys of which rows went in this transaction (D2) */
} FaultReplica;

static FaultReplica *fault(QfsReplica *self) {
  return (FaultReplica *)self;
}
static QfsReplica *inner(QfsReplica *self) {
  return fault(self)->inner;
}

static gboolean is_corrupt_now(SimDisk *disk, const char *what, GError **error) {
  if (disk->corrupt_in == 0 || --disk->corrupt_in > 0)
    return FALSE;
  SIM_TRACE(disk->sim, "disk %u is damaged at %s", disk->node, what);
  g_set_error(error, QFS_REPLICA_ERROR, QFS_REPLICA_ERROR_CORRUPT, "injected: damage at %s", what);
  return TRUE;
}

static gboolean io_error(GError **error, const char *what) {
  g_set_error(error, QFS_REPLICA_ERROR, QFS_REPLICA_ERROR_IO, "injected: %s", what);
  return FALSE;
}

/* Every step of a writer passes here. FALSE: it fails. */
static gboolean step(QfsReplica *self, const char *what, GError **error) {
  SimDisk *disk = fault(self)->disk;
  if (is_corrupt_now(disk, what, error)) {
    disk->failed = disk->failed || !fault(self)->reader;
    return FALSE;
  }
  if (fault(self)->reader) {
    if (disk->read_fail_in > 0 && --disk->read_fail_in == 0)
      return io_error(error, what);
    return TRUE;
  }
  if (disk->fail_in > 0 && --disk->fail_in == 0) {
    disk->failed = TRUE;
    SIM_TRACE(disk->sim, "disk %u fails at %s", disk->node, what);
  }
  return disk->failed || disk->crashed ? io_error(error, what) : TRUE;
}

static gboolean space(QfsReplica *self, const char *what, GError **error) {
  if (!step(self, what, error))
    return FALSE;
  fault(self)->wrote = TRUE;
  if (!fault(self)->disk->full || fault(self)->disk->mem == NULL) /* there the files are full */
    return TRUE;
  g_set_error(error, QFS_REPLICA_ERROR, QFS_REPLICA_ERROR_NO_SPACE, "injected: disk full at %s",
              what);
  return FALSE;
}

static void fault_close(QfsReplica *self) {
  FaultReplica *replica = fault(self);
  SimVolume *volume = replica->disk->volume;
  if (volume != NULL)
    volume->dead = replica->disk->dying;
  if (replica->in_transaction)
    replica->inner->ops->rollback(replica->inner);
  qfs_replica_close(replica->inner);
  if (volume != NULL)
    volume->dead = FALSE;
  if (!replica->reader)
    replica->disk->writer_open = FALSE;
  g_ptr_array_unref(replica->watched);
  g_free(replica);
}

/* ---- transactions ---- */

static gboolean fault_begin(QfsReplica *self, GError **error) {
  FaultReplica *replica = fault(self);
  g_assert(!replica->in_transaction);
  if (!step(self, "begin", error) || !replica->inner->ops->begin(replica->inner, error))
    return FALSE;
  replica->in_transaction = TRUE;
  replica->wrote = replica->wiped = FALSE;
  g_ptr_array_set_size(replica->watched, 0);
  return TRUE;
}

static void fault_rollback(QfsReplica *self) {
  FaultReplica *replica = fault(self);
  if (replica->in_transaction)
    replica->inner->ops->rollback(replica->inner);
  replica->in_transaction = FALSE;
}

static gboolean commit_inner(FaultReplica *replica, gboolean durable, GError **error) {
  if (!replica->inner->ops->commit(replica->inner, durable, error))
    return FALSE;
  replica->in_transaction = FALSE;
  if (replica->wiped) { /* and checked (storage/replica.c): what was damaged is gone */
    replica->disk->wiped_incarnation = replica->disk->wipe_incarnation;
    replica->disk->rotten = FALSE;
  }
  for (guint i = 0; i < replica->watched->len; i++)
    sim_check_still_held(replica->disk->sim, g_ptr_array_index(replica->watched, i));
  return TRUE;
}

/* The process ends at this commit, just before or just after it took effect. */
static gboolean crash_here(FaultReplica *replica, gboolean durable, GError **error) {
  SimDisk *disk = replica->disk;
  SIM_TRACE(disk->sim, "disk %u crashes %s commit", disk->node,
            disk->crash_point == SIM_CRASH_AFTER_COMMIT ? "after" : "before");
  if (disk->crash_point == SIM_CRASH_AFTER_COMMIT)
    commit_inner(replica, durable, NULL);
  disk->crash_point = SIM_CRASH_NONE;
  disk->crashed = TRUE;
  return io_error(error, "crash at commit");
}

static gboolean fault_commit(QfsReplica *self, gboolean durable, GError **error) {
  FaultReplica *replica = fault(self);
  SimDisk *disk = replica->disk;
  g_assert(replica->in_transaction);
  gboolean failed_before = disk->failed;
  if (!step(self, "commit", error)) {
    /* A commit that reports failure may have happened all the same. */
    if (!failed_before && !disk->crashed && sim_random_percent(&disk->sim->random, 50))
      commit_inner(replica, durable, NULL);
    return FALSE;
  }
  if (disk->crash_point != SIM_CRASH_NONE && --disk->crash_in == 0)
    return crash_here(replica, durable, error);
  return commit_inner(replica, durable, error);
}

/* ---- what may lose something ---- */

static void watch(QfsReplica *self, const char *key) {
  g_ptr_array_add(fault(self)->watched, g_strdup(key));
}

/* The row before a step, for the checks. What is damaged may be overwritten all the same. */
static gboolean get_old(SimDisk *disk, QfsReplica *real, const char *key, QfsRecord **out_old,
                        GError **error) {
  g_autoptr(GError) local = NULL;
  if (real->ops->record_get(real, key, out_old, &local) || disk->rotten ||
      g_error_matches(local, QFS_REPLICA_ERROR, QFS_REPLICA_ERROR_BAD_ROW))
    return TRUE;
  g_propagate_error(error, g_steal_pointer(&local));
  return FALSE;
}

static gboolean fault_record_apply(QfsReplica *self, const QfsRecord *record, gboolean force,
                                   QfsApplyResult *out_result, GError **error) {
  SimDisk *disk = fault(self)->disk;
  QfsReplica *real = inner(self);
  g_autoptr(QfsRecord) old = NULL;
  if (!space(self, "record_apply", error) || !get_old(disk, real, record->key, &old, error) ||
      !real->ops->record_apply(real, record, force, out_result, error))
    return FALSE;
  if (*out_result == QFS_APPLY_APPLIED)
    sim_check_has_chunks(disk->sim, disk->node, record);
  if (!force && !disk->rotten)
    sim_check_merge(disk->sim, disk->node, old, record, *out_result);
  if (*out_result != QFS_APPLY_SUPERSEDED && sim_record_order(record, old) < 0 &&
      !g_hash_table_contains(disk->planted, record->key)) {
    sim_check_regress(disk->sim, disk->node, old, record, force);
    watch(self, record->key);
  }
  return TRUE;
}

static gboolean fault_record_remove(QfsReplica *self, const char *key, GError **error) {
  SimDisk *disk = fault(self)->disk;
  QfsReplica *real = inner(self);
  g_autoptr(QfsRecord) old = NULL;
  if (!step(self, "record_remove", error) || !get_old(disk, real, key, &old, error))
    return FALSE;
  if (old != NULL && !g_hash_table_contains(disk->planted, key)) {
    sim_check_regress(disk->sim, disk->node, old, NULL, TRUE);
    watch(self, key);
  }
  return real->ops->record_remove(real, key, error);
}

/* What the row held before it rotted; borrowed, NULL: not known. */
static const QfsRecord *truth_of(const SimDisk *disk, const char *key) {
  const MemRow *row = disk->mem != NULL ? mem_disk_row(disk->mem, key) : NULL;
  return row != NULL ? row->record : g_hash_table_lookup(disk->bad_rows, key);
}

static gboolean fault_record_mend(QfsReplica *self, const char *key, guint64 print,
                                  const QfsRecord *record, gboolean *out_done, GError **error) {
  SimDisk *disk = fault(self)->disk;
  QfsReplica *real = inner(self);
  const QfsRecord *known = truth_of(disk, key);
  g_autoptr(QfsRecord) truth = known != NULL ? qfs_record_ref(known) : NULL;
  if (!space(self, "record_mend", error) ||
      !real->ops->record_mend(real, key, print, record, out_done, error))
    return FALSE;
  if (*out_done && truth != NULL && sim_record_order(record, truth) < 0) {
    /* Of a leftover it matters only that the holders have it. */
    if (qfs_set_has(qfs_coordinator_holders(disk->sim->coordinator, key), disk->node))
      sim_check_mended(disk->sim, disk->node, truth, record);
    watch(self, key);
  }
  return TRUE;
}

static gboolean fault_wipe(QfsReplica *self, GError **error) {
  SimDisk *disk = fault(self)->disk;
  if (!step(self, "wipe", error))
    return FALSE;
  sim_check_wipe(disk->sim, disk->node);
  fault(self)->wiped = TRUE;
  return inner(self)->ops->wipe(inner(self), error);
}

static gboolean fault_meta_store(QfsReplica *self, const QfsNodeMeta *meta, GError **error) {
  SimDisk *disk = fault(self)->disk;
  QfsReplica *real = inner(self);
  QfsNodeMeta old;
  if (!space(self, "meta_store", error))
    return FALSE;
  if (real->ops->meta_load(real, &old, NULL))
    sim_check_promises(disk->sim, disk->node, &old, meta);
  return real->ops->meta_store(real, meta, error);
}

/* ---- the rest passes through ---- */

#define PASS(check, name, ...)                                                                     \
  return check(self, #name, error) && inner(self)->ops->name(inner(self), __VA_ARGS__, error)

static gboolean fault_meta_load(QfsReplica *self, QfsNodeMeta *out_meta, GError **error) {
  PASS(step, meta_load, out_meta);
}
static gboolean fault_record_get(QfsReplica *self, const char *key, QfsRecord **out,
                                 GError **error) {
  PASS(step, record_get, key, out);
}
static gboolean fault_record_walk(QfsReplica *self, const char *after, const char *until,
                                  gboolean whole, guint limit, GPtrArray *out, GPtrArray *bad,
                                  char **end, gboolean *more, GError **error) {
  PASS(step, record_walk, after, until, whole, limit, out, bad, end, more);
}
static gboolean fault_chunk_exact(QfsReplica *self, const QfsChunk *id, QfsChunk **out, GError **error) {
  PASS(step, chunk_exact, id, out);
}
static gboolean fault_chunk_print(QfsReplica *self, const QfsChunk *id, guint64 *out, GError **error) {
  PASS(step, chunk_print, id, out);
}
/* What a record has is never missing at a holder but by a fault. */
static void check_was_lost(SimDisk *disk, const QfsChunk *id) {
  for (guint i = 0; i < disk->lost_chunks->len; i++)
    if (qfs_chunk_order(disk->lost_chunks->pdata[i], id) == 0)
      return;
  SIM_CHECK(disk->sim, FALSE,
            "node %u was given chunk %" G_GUINT64_FORMAT "@%" G_GUINT64_FORMAT " of object %08x, which it never lost",
            disk->node, id->index, id->version, (guint)id->object.unique);
}
static gboolean fault_chunk_mend(QfsReplica *self, const QfsChunk *id, guint64 print, const QfsChunk *chunk,
                                 gboolean *done, GError **error) {
  if (!space(self, "chunk_mend", error) ||
      !inner(self)->ops->chunk_mend(inner(self), id, print, chunk, done, error))
    return FALSE;
  if (print == 0 && *done)
    check_was_lost(fault(self)->disk, id);
  return TRUE;
}
static gboolean fault_chunk_walk(QfsReplica *self, const QfsChunk *after, const QfsChunk *until,
                                 gboolean whole, guint limit, GPtrArray *out, GPtrArray *bad,
                                 gboolean *more, GError **error) {
  PASS(step, chunk_walk, after, until, whole, limit, out, bad, more);
}
static const QfsBadRow *fault_bad_row(QfsReplica *self) {
  return inner(self)->ops->bad_row(inner(self));
}
static gboolean fault_record_print(QfsReplica *self, const char *key, guint64 *out,
                                   GError **error) {
  PASS(step, record_print, key, out);
}
static gboolean fault_record_scan(QfsReplica *self, guint64 seq, const char *key, guint limit,
                                  GPtrArray *out, gboolean *more, GError **error) {
  PASS(step, record_scan, seq, key, limit, out, more);
}
static gboolean fault_tombstone_scan(QfsReplica *self, guint64 seq, const char *key, guint limit,
                                     GPtrArray *out, gboolean *more, GError **error) {
  PASS(step, tombstone_scan, seq, key, limit, out, more);
}
static gboolean fault_record_list(QfsReplica *self, const char *dir, const char *after, guint limit, gboolean whole,
                                  GPtrArray *out, gboolean *more, GError **error) {
  PASS(step, record_list, dir, after, limit, whole, out, more);
}
static gboolean fault_chunk_put(QfsReplica *self, const QfsChunk *chunk, GError **error) {
  PASS(space, chunk_put, chunk);
}
static gboolean fault_chunk_get(QfsReplica *self, QfsObjectId object, guint64 index,
                                guint64 max_version, QfsChunk **out, gboolean *newer,
                                GError **error) {
  PASS(step, chunk_get, object, index, max_version, out, newer);
}
static gboolean fault_chunk_trim(QfsReplica *self, QfsObjectId object, guint64 index, guint64 keep,
                                 GError **error) {
  PASS(step, chunk_trim, object, index, keep);
}
static gboolean fault_chunk_remove(QfsReplica *self, QfsObjectId object, guint64 index,
                                   guint64 version, GError **error) {
  PASS(step, chunk_remove, object, index, version);
}
static gboolean fault_object_drop(QfsReplica *self, QfsObjectId object, guint limit, gboolean *more,
                                  GError **error) {
  PASS(step, object_drop, object, limit, more);
}
static gboolean fault_chunk_scan(QfsReplica *self, guint64 seq, const QfsChunk *after,
                                 gboolean with_data, guint limit, GPtrArray *out, gboolean *more,
                                 GError **error) {
  PASS(step, chunk_scan, seq, after, with_data, limit, out, more);
}
static gboolean fault_chunk_list(QfsReplica *self, const QfsChunk *after, guint limit,
                                 GPtrArray *out, gboolean *more, GError **error) {
  PASS(step, chunk_list, after, limit, out, more);
}
static gboolean fault_object_records(QfsReplica *self, QfsObjectId object, GPtrArray *out,
                                     GError **error) {
  PASS(step, object_records, object, out);
}
static gboolean fault_intent_put(QfsReplica *self, guint64 id, GPtrArray *records, GError **error) {
  PASS(space, intent_put, id, records);
}
static gboolean fault_intent_get(QfsReplica *self, guint64 id, GPtrArray **out, GError **error) {
  PASS(step, intent_get, id, out);
}
static gboolean fault_intent_remove(QfsReplica *self, guint64 id, GError **error) {
  PASS(step, intent_remove, id);
}
static gboolean fault_intent_list(QfsReplica *self, GArray *out, GError **error) {
  PASS(step, intent_list, out);
}
static gboolean fault_checkpoint(QfsReplica *self, gboolean everything, GError **error) {
  PASS(step, checkpoint, everything);
}
static gboolean fault_stats(QfsReplica *self, QfsReplicaStats *out, GError **error) {
  PASS(step, stats, out);
}

static QfsFileWatch *fault_watch(QfsReplica *self) {
  return inner(self)->ops->watch(inner(self));
}
static gboolean fault_discard_aside(QfsReplica *self) {
  return inner(self)->ops->discard_aside(inner(self));
}

static const QfsReplicaOps fault_ops = {
    .close = fault_close,
    .begin = fault_begin,
    .commit = fault_commit,
    .rollback = fault_rollback,
    .meta_load = fault_meta_load,
    .meta_store = fault_meta_store,
    .record_get = fault_record_get,
    .record_apply = fault_record_apply,
    .record_remove = fault_record_remove,
    .record_scan = fault_record_scan,
    .tombstone_scan = fault_tombstone_scan,
    .record_list = fault_record_list,
    .record_walk = fault_record_walk,
    .chunk_exact = fault_chunk_exact,
    .chunk_print = fault_chunk_print,
    .chunk_mend = fault_chunk_mend,
    .chunk_walk = fault_chunk_walk,
    .bad_row = fault_bad_row,
    .record_print = fault_record_print,
    .record_mend = fault_record_mend,
    .chunk_put = fault_chunk_put,
    .chunk_get = fault_chunk_get,
    .chunk_trim = fault_chunk_trim,
    .chunk_remove = fault_chunk_remove,
    .object_drop = fault_object_drop,
    .chunk_scan = fault_chunk_scan,
    .chunk_list = fault_chunk_list,
    .object_records = fault_object_records,
    .intent_put = fault_intent_put,
    .intent_get = fault_intent_get,
    .intent_remove = fault_intent_remove,
    .intent_list = fault_intent_list,
    .wipe = fault_wipe,
    .checkpoint = fault_checkpoint,
    .stats = fault_stats,
    .watch = fault_watch,
    .discard_aside = fault_discard_aside,
};

/* ---- life ---- */

static QfsReplica *peek(SimDisk *disk);

static void close_peeks(SimDisk *disk) {
  g_clear_pointer(&disk->peek, qfs_replica_close);
  g_clear_pointer(&disk->stable_peek, qfs_replica_close);
  g_clear_pointer(&disk->stable, sim_volume_free);
}

/* A new file of the same name is another one: whoever looks at the deleted one must not be in its way. */
static void drop_orphans(SimDisk *disk) {
  if (disk->volume == NULL || disk->orphans == disk->volume->n_orphans)
    return;
  close_peeks(disk);
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
  close_peeks(disk);
  g_clear_pointer(&disk->volume, sim_volume_free);
  g_clear_pointer(&disk->mem, mem_disk_free);
  g_clear_pointer(&disk->dir, g_free);
  g_hash_table_unref(disk->bad_rows);
  g_hash_table_unref(disk->planted);
  g_ptr_array_unref(disk->bad_chunks);
  g_ptr_array_unref(disk->lost_chunks);
}

static QfsReplica *wrap(SimDisk *disk, QfsReplica *real, gboolean reader) {
  FaultReplica *replica = g_new0(FaultReplica, 1);
  replica->base.ops = &fault_ops;
  replica->inner = real;
  replica->disk = disk;
  replica->reader = reader;
  replica->watched = g_ptr_array_new_with_free_func(g_free);
  return &replica->base;
}

QfsReplica *sim_disk_open(SimDisk *disk, gboolean create, GError **error) {
  g_assert(!disk->writer_open);
  close_peeks(disk); /* a damaged file may need to be opened alone */
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
  return wrap(disk, real, FALSE);
}

QfsReplica *sim_disk_open_reader(SimDisk *disk, GError **error) {
  QfsReplica *real = disk->mem != NULL ? mem_replica_open_reader(disk->mem)
                                       : qfs_sqlite_replica_open_reader(disk->dir, error);
  return real != NULL ? wrap(disk, real, TRUE) : NULL;
}

void sim_disk_lose_power(SimDisk *disk) {
  if (disk->mem == NULL) {
    close_peeks(disk);
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

gboolean sim_disk_damage(SimDisk *disk, SimDamage damage) {
  g_assert(!disk->writer_open);
  close_peeks(disk);
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
  if (disk->mem != NULL)
    mem_disk_keep_copy(disk->mem);
  else
    sim_volume_keep_copy(disk->volume);
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

/* ---- rows that rot ---- */

/* Runs a statement on the row of `key` beside the node's own connection, which is in no transaction now. Nothing
 * else is made durable by it. */
static gboolean change_in_file(SimDisk *disk, const char *key, const char *sql) {
  gsize dir_len;
  const char *name;
  sqlite3 *db = NULL;
  sqlite3_stmt *statement = NULL;
  g_autofree char *path = g_build_filename(disk->dir, "replica.db", NULL);
  qfs_key_split(key, &dir_len, &name);
  sim_vfs_set_quiet(TRUE);
  gboolean ok = sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL) == SQLITE_OK &&
                sqlite3_exec(db, "PRAGMA synchronous = OFF; PRAGMA wal_autocheckpoint = 0", NULL, NULL,
                             NULL) == SQLITE_OK &&
                sqlite3_prepare_v2(db, sql, -1, &statement, NULL) == SQLITE_OK &&
                sqlite3_bind_text(statement, 1, key, (int)dir_len, SQLITE_STATIC) == SQLITE_OK &&
                sqlite3_bind_text(statement, 2, name, -1, SQLITE_STATIC) == SQLITE_OK &&
                sqlite3_step(statement) == SQLITE_DONE && sqlite3_changes(db) == 1;
  sqlite3_finalize(statement);
  sqlite3_close(db);
  sim_vfs_set_quiet(FALSE);
  return ok;
}

static gboolean rot_in_file(SimDisk *disk, const char *key) {
  return change_in_file(disk, key,
                        sim_random_percent(&disk->sim->random, 50)
                            ? "UPDATE record SET digest = digest + 1 WHERE dir = ?1 AND name = ?2"
                            : "UPDATE record SET data = data || x'00' WHERE dir = ?1 AND name = ?2");
}

gboolean sim_disk_plant(SimDisk *disk, const char *key, const QfsRecord *record) {
  if (!disk->writer_open || disk->rotten || (record == NULL && disk->mem != NULL && mem_disk_row(disk->mem, key) == NULL))
    return FALSE;
  if (disk->mem != NULL) {
    mem_disk_begin(disk->mem);
    mem_disk_set_row(disk->mem, key, record);
    mem_disk_commit(disk->mem, FALSE);
  } else if (record != NULL ||
             !change_in_file(disk, key, "DELETE FROM record WHERE dir = ?1 AND name = ?2")) {
    return FALSE;
  }
  SIM_TRACE(disk->sim, "disk %u: the row of %s silently becomes @%" G_GUINT64_FORMAT, disk->node, key,
            record != NULL ? record->timestamp : 0);
  g_hash_table_add(disk->planted, g_strdup(key));
  disk->lost = disk->ever_lost = disk->rolled_back = TRUE;
  return TRUE;
}

gboolean sim_disk_rot_row(SimDisk *disk, const char *key) {
  g_autoptr(QfsRecord) record = sim_disk_record(disk, key);
  if (!disk->writer_open || record == NULL || disk->rotten)
    return FALSE;
  if (disk->mem != NULL)
    mem_disk_rot_row(disk->mem, key);
  else if (!rot_in_file(disk, key))
    return FALSE;
  SIM_TRACE(disk->sim, "disk %u: the row of %s rots", disk->node, key);
  g_hash_table_insert(disk->bad_rows, g_strdup(key), g_steal_pointer(&record));
  disk->lost = disk->ever_lost = disk->rolled_back = TRUE;
  return TRUE;
}

/* The reader that looks from outside; *out_own is to be closed. NULL: nothing can be read. */
static QfsReplica *looker(SimDisk *disk, QfsReplica **out_own) {
  *out_own = disk->mem != NULL ? mem_replica_open_reader(disk->mem) : NULL;
  return disk->mem != NULL ? *out_own : peek(disk);
}

/* Runs what `change` says of exactly this chunk row beside the node's own connection. */
static gboolean change_chunk_in_file(SimDisk *disk, const QfsChunk *id, const char *change) {
  const guint64 sign = G_GUINT64_CONSTANT(1) << 63;
  sqlite3 *db = NULL;
  g_autofree char *path = g_build_filename(disk->dir, "replica.db", NULL);
  g_autofree char *sql = g_strdup_printf(
      "PRAGMA synchronous = OFF; PRAGMA wal_autocheckpoint = 0; %s"
      " WHERE object_placement = %" G_GINT64_FORMAT " AND object_unique = %" G_GINT64_FORMAT
      " AND idx = %" G_GUINT64_FORMAT " AND version = %" G_GINT64_FORMAT,
      change, (gint64)(id->object.placement ^ sign), (gint64)(id->object.unique ^ sign), id->index,
      (gint64)(id->version ^ sign));
  gboolean ok = sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL) == SQLITE_OK &&
                sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK && sqlite3_changes(db) == 1;
  sqlite3_close(db);
  return ok;
}

gboolean sim_disk_rot_chunk(SimDisk *disk) {
  g_autoptr(QfsReplica) own = NULL;
  g_autoptr(GPtrArray) rows = qfs_chunks_new();
  g_autoptr(GPtrArray) bad = g_ptr_array_new_with_free_func((GDestroyNotify)qfs_bad_row_free);
  gboolean more, ok = FALSE;
  if (!disk->writer_open || disk->rotten)
    return FALSE;
  sim_vfs_set_quiet(TRUE);
  QfsReplica *from = looker(disk, &own);
  if (from != NULL && from->ops->chunk_walk(from, NULL, NULL, TRUE, 1000, rows, bad, &more, NULL) && rows->len > 0) {
    QfsChunk *id = g_memdup2(rows->pdata[sim_random_below(&disk->sim->random, rows->len)], sizeof *id);
    id->data = NULL;
    if (disk->mem != NULL)
      mem_disk_rot_chunk(disk->mem, id);
    ok = disk->mem != NULL || change_chunk_in_file(disk, id, "UPDATE chunk SET data = data || x'00'");
    SIM_TRACE(disk->sim, "disk %u: chunk %" G_GUINT64_FORMAT "@%" G_GUINT64_FORMAT " of object %08x rots",
              disk->node, id->index, id->version, (guint)id->object.unique);
    g_ptr_array_add(disk->bad_chunks, id);
    disk->lost = disk->ever_lost = disk->rolled_back = TRUE;
  }
  sim_vfs_set_quiet(FALSE);
  return ok;
}

gboolean sim_disk_lose_chunk(SimDisk *disk) {
  g_autoptr(GPtrArray) rows = sim_disk_chunks(disk);
  if (!disk->writer_open || disk->rotten || rows->len == 0)
    return FALSE;
  guint at = sim_random_below(&disk->sim->random, rows->len);
  const QfsChunk *before = at > 0 ? rows->pdata[at - 1] : NULL;
  QfsChunk *id = qfs_chunk_copy(rows->pdata[at]);
  if (before != NULL && qfs_object_equal(before->object, id->object) && before->index == id->index) {
    qfs_chunk_free(id);
    return FALSE;
  }
  g_ptr_array_add(disk->lost_chunks, id);
  if (disk->mem != NULL) {
    mem_disk_begin(disk->mem);
    mem_disk_unset_chunk(disk->mem, id);
    mem_disk_commit(disk->mem, FALSE);
  } else {
    sim_vfs_set_quiet(TRUE);
    gboolean ok = change_chunk_in_file(disk, id, "DELETE FROM chunk");
    sim_vfs_set_quiet(FALSE);
    if (!ok)
      return FALSE;
  }
  SIM_TRACE(disk->sim, "disk %u: chunk %" G_GUINT64_FORMAT "@%" G_GUINT64_FORMAT " of object %08x is silently gone",
            disk->node, id->index, id->version, (guint)id->object.unique);
  disk->lost = disk->ever_lost = disk->rolled_back = TRUE;
  return TRUE;
}

static gboolean is_bad_chunk(SimDisk *disk, const QfsChunk *id) {
  g_autoptr(QfsReplica) own = NULL;
  g_autoptr(QfsChunk) chunk = NULL;
  g_autoptr(GError) error = NULL;
  sim_vfs_set_quiet(TRUE);
  QfsReplica *from = looker(disk, &own);
  if (from != NULL)
    from->ops->chunk_exact(from, id, &chunk, &error);
  sim_vfs_set_quiet(FALSE);
  return g_error_matches(error, QFS_REPLICA_ERROR, QFS_REPLICA_ERROR_BAD_ROW);
}

static gboolean is_bad(SimDisk *disk, const char *key) {
  g_autoptr(GError) error = NULL;
  QfsRecord *record = NULL;
  if (disk->mem != NULL)
    return mem_disk_row(disk->mem, key) != NULL && mem_disk_row(disk->mem, key)->bad;
  sim_vfs_set_quiet(TRUE);
  QfsReplica *from = peek(disk);
  if (from != NULL)
    from->ops->record_get(from, key, &record, &error);
  sim_vfs_set_quiet(FALSE);
  qfs_record_unref(record);
  return g_error_matches(error, QFS_REPLICA_ERROR, QFS_REPLICA_ERROR_BAD_ROW);
}

gboolean sim_disk_has_bad_rows(SimDisk *disk) {
  GHashTableIter iter;
  gpointer key;
  g_hash_table_iter_init(&iter, disk->bad_rows);
  while (g_hash_table_iter_next(&iter, &key, NULL))
    if (is_bad(disk, key))
      return TRUE;
  for (guint i = 0; i < disk->bad_chunks->len; i++)
    if (is_bad_chunk(disk, disk->bad_chunks->pdata[i]))
      return TRUE;
  return FALSE;
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

static QfsReplica *peek(SimDisk *disk) {
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
  QfsRecord *record = look(disk, peek(disk), key);
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
  QfsReplica *from = peek(disk);
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
  QfsReplica *from = peek(disk);
  gboolean ok = from != NULL && from->ops->meta_load(from, out_meta, NULL);
  sim_vfs_set_quiet(FALSE);
  return ok;
}

QfsChunk *sim_disk_chunk(SimDisk *disk, QfsObjectId object, guint64 index, GBytes *spans) {
  g_autoptr(QfsReplica) reader = disk->mem != NULL ? mem_replica_open_reader(disk->mem) : NULL;
  sim_vfs_set_quiet(TRUE);
  QfsReplica *from = reader != NULL ? reader : peek(disk);
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
  QfsReplica *from = reader != NULL ? reader : peek(disk);
  g_autoptr(GError) error = NULL;
  GPtrArray *rows = qfs_chunks_new();
  gboolean more;
  if (from != NULL && !from->ops->chunk_list(from, NULL, G_MAXUINT, rows, &more, &error))
    sim_fail(disk->sim, "node %u: listing chunks: %s", disk->node, error->message);
  sim_vfs_set_quiet(FALSE);
  return rows;
}
