/* disk_rot.c - rows of a node's disk that rot, change or go without anything that tells of it. */
#include "disk_private.h"

#include "sim.h"

#include <sqlite3.h>

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
  return disk->mem != NULL ? *out_own : sim_disk_peek(disk);
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
  QfsReplica *from = sim_disk_peek(disk);
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
