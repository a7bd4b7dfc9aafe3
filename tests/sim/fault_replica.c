/* fault_replica.c - a replica that fails when its disk was told to, and that is checked at every step (disk.h, D1 to D5).
 * The operations that change nothing but what the inner replica does are at the end. */
#include "disk_private.h"

#include "check.h"
#include "cluster/placement.h"

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

QfsReplica *sim_fault_replica_new(SimDisk *disk, QfsReplica *real, gboolean reader) {
  FaultReplica *replica = g_new0(FaultReplica, 1);
  replica->base.ops = &fault_ops;
  replica->inner = real;
  replica->disk = disk;
  replica->reader = reader;
  replica->watched = g_ptr_array_new_with_free_func(g_free);
  return &replica->base;
}
