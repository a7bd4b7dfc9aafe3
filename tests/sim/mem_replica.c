/* mem_replica.c - see mem_replica.h. */
#include "mem_replica.h"

#include <string.h>

/* What one scan returns at most, about, in bytes. */
#define SCAN_BYTES (1024 * 1024)

typedef struct {
  QfsReplica base;
  MemDisk *disk;
  gboolean reader;
  QfsBadRow *bad;
} MemReplica;

static MemDisk *disk_of(QfsReplica *self) {
  return ((MemReplica *)self)->disk;
}

static MemDisk *writable(QfsReplica *self) {
  MemDisk *disk = disk_of(self);
  g_assert(!((MemReplica *)self)->reader && disk->undo != NULL);
  return disk;
}

/* FALSE: the row rotted. */
static gboolean is_readable(QfsReplica *self, const MemRow *row, GError **error) {
  MemReplica *replica = (MemReplica *)self;
  if (row == NULL || !row->bad)
    return TRUE;
  qfs_bad_row_free(replica->bad);
  replica->bad = g_new0(QfsBadRow, 1);
  replica->bad->key = g_strdup(row->record->key);
  g_set_error(error, QFS_REPLICA_ERROR, QFS_REPLICA_ERROR_BAD_ROW, "%s rotted", row->record->key);
  return FALSE;
}

static void mem_close(QfsReplica *self) {
  MemReplica *replica = (MemReplica *)self;
  if (!replica->reader) {
    mem_disk_rollback(replica->disk);
    replica->disk->open = FALSE;
  }
  qfs_bad_row_free(replica->bad);
  g_free(replica);
}

/* ---- transactions and metadata ---- */

static gboolean mem_begin(QfsReplica *self, GError **error) {
  g_assert(!((MemReplica *)self)->reader);
  mem_disk_begin(disk_of(self));
  return TRUE;
}

static gboolean mem_commit(QfsReplica *self, gboolean durable, GError **error) {
  mem_disk_commit(writable(self), durable);
  return TRUE;
}

static void mem_rollback(QfsReplica *self) {
  mem_disk_rollback(disk_of(self));
}

static gboolean mem_meta_load(QfsReplica *self, QfsNodeMeta *out_meta, GError **error) {
  *out_meta = disk_of(self)->meta;
  return TRUE;
}

static gboolean mem_meta_store(QfsReplica *self, const QfsNodeMeta *meta, GError **error) {
  mem_disk_set_meta(writable(self), meta);
  return TRUE;
}

/* ---- records ---- */

static gboolean mem_record_get(QfsReplica *self, const char *key, QfsRecord **out_record,
                               GError **error) {
  const MemRow *row = mem_disk_row(disk_of(self), key);
  if (!is_readable(self, row, error))
    return FALSE;
  *out_record = row != NULL ? qfs_record_ref(row->record) : NULL;
  return TRUE;
}

static gboolean mem_record_apply(QfsReplica *self, const QfsRecord *record, gboolean force,
                                 QfsApplyResult *out_result, GError **error) {
  MemDisk *disk = writable(self);
  const MemRow *row = mem_disk_row(disk, record->key);
  if (!force && !is_readable(self, row, error))
    return FALSE;
  int order = row != NULL ? qfs_record_compare(record, row->record) : 1;
  if (order < 0 && !force) {
    *out_result = QFS_APPLY_SUPERSEDED;
    return TRUE;
  }
  if (order != 0 || force) {
    mem_disk_set_row(disk, record->key, record);
    *out_result = QFS_APPLY_APPLIED;
    return TRUE;
  }
  if (record->seq > row->record->seq) {
    mem_disk_set_row(disk, record->key, record);
  }
  *out_result = QFS_APPLY_SAME;
  return TRUE;
}

static gboolean mem_record_remove(QfsReplica *self, const char *key, GError **error) {
  MemDisk *disk = writable(self);
  if (mem_disk_row(disk, key) != NULL)
    mem_disk_set_row(disk, key, NULL);
  return TRUE;
}

static gboolean cut_back(GPtrArray *out, guint len) {
  g_ptr_array_set_size(out, (gint)len);
  return FALSE;
}

static gboolean mem_record_scan(QfsReplica *self, guint64 after_seq, const char *after_key,
                                guint limit, GPtrArray *out, gboolean *out_more, GError **error) {
  const guint start = out->len;
  guint n = 0;
  gsize bytes = 0;
  GTreeNode *at = mem_disk_rows_after_seq(disk_of(self), after_seq, after_key);
  for (; at != NULL && n < limit && bytes < SCAN_BYTES; at = g_tree_node_next(at), n++) {
    const MemRow *row = g_tree_node_value(at);
    if (!is_readable(self, row, error))
      return cut_back(out, start);
    bytes += sizeof *row->record + g_bytes_get_size(row->record->tail);
    g_ptr_array_add(out, qfs_record_ref(row->record));
  }
  *out_more = at != NULL;
  return TRUE;
}

static gboolean mem_tombstone_scan(QfsReplica *self, guint64 after_seq, const char *after_key,
                                   guint limit, GPtrArray *out, gboolean *out_more,
                                   GError **error) {
  const guint start = out->len;
  guint n = 0;
  GTreeNode *at = mem_disk_rows_after_seq(disk_of(self), after_seq, after_key);
  for (; at != NULL && n < limit; at = g_tree_node_next(at)) {
    const MemRow *row = g_tree_node_value(at);
    if (row->record->kind != QFS_KIND_TOMBSTONE)
      continue;
    if (!is_readable(self, row, error))
      return cut_back(out, start);
    g_ptr_array_add(out, qfs_record_ref(row->record));
    n++;
  }
  *out_more = at != NULL;
  return TRUE;
}

static gboolean is_in(const char *key, const char *dir) {
  gsize dir_len;
  const char *name;
  qfs_key_split(key, &dir_len, &name);
  return dir_len == strlen(dir) && memcmp(key, dir, dir_len) == 0;
}

/* The record as listings return it: a long tail is of no use there. */
static QfsRecord *listed(const QfsRecord *record) {
  if (record->kind == QFS_KIND_SYMLINK || record->kind == QFS_KIND_LINK || g_bytes_get_size(record->tail) == 0)
    return qfs_record_ref(record);
  QfsRecord *copy = qfs_record_copy(record);
  g_bytes_unref(copy->tail);
  copy->tail = g_bytes_new_static("", 0);
  return copy;
}

static gboolean mem_record_list(QfsReplica *self, const char *dir, const char *after, guint limit, gboolean whole,
                                GPtrArray *out, gboolean *out_more, GError **error) {
  g_autofree char *from = qfs_key_join(dir, after != NULL ? after : "");
  const guint start = out->len;
  guint n = 0;
  GTreeNode *at = mem_disk_rows_after(disk_of(self), from);
  for (; at != NULL && n < limit; at = g_tree_node_next(at), n++) {
    const MemRow *row = g_tree_node_value(at);
    if (!is_in(row->record->key, dir))
      break;
    if (!is_readable(self, row, error))
      return cut_back(out, start);
    g_ptr_array_add(out, whole ? qfs_record_ref(row->record) : listed(row->record));
  }
  *out_more = at != NULL && is_in(((const MemRow *)g_tree_node_value(at))->record->key, dir);
  return TRUE;
}

/* ---- bad rows ---- */

static gboolean mem_record_walk(QfsReplica *self, const char *after_key, const char *until_key,
                                gboolean whole, guint limit, GPtrArray *out, GPtrArray *bad,
                                char **out_end, gboolean *out_more, GError **error) {
  const char *last = after_key;
  GTreeNode *at = after_key != NULL ? mem_disk_rows_after(disk_of(self), after_key)
                                    : g_tree_node_first(disk_of(self)->rows);
  for (guint n = 0; at != NULL; at = g_tree_node_next(at), n++) {
    const MemRow *row = g_tree_node_value(at);
    if (until_key != NULL && qfs_key_order(row->record->key, until_key) > 0)
      break;
    if (n >= limit) {
      *out_more = TRUE;
      *out_end = g_strdup(last);
      return TRUE;
    }
    last = row->record->key;
    if (is_readable(self, row, NULL))
      g_ptr_array_add(out, qfs_record_ref(row->record));
    else
      g_ptr_array_add(bad, qfs_bad_row_copy(((MemReplica *)self)->bad));
  }
  *out_more = FALSE;
  *out_end = g_strdup(until_key != NULL ? until_key : last);
  return TRUE;
}

static const QfsBadRow *mem_bad_row(QfsReplica *self) {
  return ((MemReplica *)self)->bad;
}

static gboolean mem_record_print(QfsReplica *self, const char *key, guint64 *out_print,
                                 GError **error) {
  const MemRow *row = mem_disk_row(disk_of(self), key);
  *out_print = row != NULL ? qfs_record_checksum(row->record) + row->bad : 0;
  return TRUE;
}

static gboolean mem_record_mend(QfsReplica *self, const char *key, guint64 print,
                                const QfsRecord *record, gboolean *out_done, GError **error) {
  guint64 found = 0;
  mem_record_print(self, key, &found, NULL);
  *out_done = found != 0 && found == print;
  if (*out_done)
    mem_disk_set_row(writable(self), key, record);
  return TRUE;
}

/* ---- chunks ---- */

static QfsChunk *chunk_dup(const QfsChunk *chunk, gboolean with_data) {
  QfsChunk *copy = g_new(QfsChunk, 1);
  *copy = *chunk;
  copy->data = with_data ? g_bytes_ref(chunk->data) : NULL;
  return copy;
}

static gboolean is_chunk_readable(QfsReplica *self, const QfsChunk *chunk, GError **error) {
  MemReplica *replica = (MemReplica *)self;
  if (chunk == NULL || !mem_chunk_is_bad(chunk))
    return TRUE;
  qfs_bad_row_free(replica->bad);
  replica->bad = g_new0(QfsBadRow, 1);
  replica->bad->is_chunk = TRUE;
  replica->bad->chunk = *chunk;
  replica->bad->chunk.data = NULL;
  g_set_error(error, QFS_REPLICA_ERROR, QFS_REPLICA_ERROR_BAD_ROW, "a chunk rotted");
  return FALSE;
}

static gboolean mem_chunk_exact(QfsReplica *self, const QfsChunk *id, QfsChunk **out_chunk, GError **error) {
  const QfsChunk *found = g_tree_lookup(disk_of(self)->chunks, id);
  if (!is_chunk_readable(self, found, error))
    return FALSE;
  *out_chunk = found != NULL ? chunk_dup(found, TRUE) : NULL;
  return TRUE;
}

static gboolean mem_chunk_print(QfsReplica *self, const QfsChunk *id, guint64 *out_print, GError **error) {
  const QfsChunk *found = g_tree_lookup(disk_of(self)->chunks, id);
  *out_print = found != NULL ? qfs_chunk_checksum(found->object, found->index, found->version, found->seq,
                                                  found->data)
                             : 0;
  return TRUE;
}

static gboolean mem_chunk_mend(QfsReplica *self, const QfsChunk *id, guint64 print, const QfsChunk *chunk,
                               gboolean *out_done, GError **error) {
  guint64 found = 0;
  mem_chunk_print(self, id, &found, NULL);
  *out_done = found == print && (found != 0 || chunk != NULL);
  if (*out_done && chunk != NULL)
    mem_disk_set_chunk(writable(self), chunk);
  else if (*out_done)
    mem_disk_unset_chunk(writable(self), id);
  return TRUE;
}

static gboolean mem_chunk_walk(QfsReplica *self, const QfsChunk *after, const QfsChunk *until, gboolean whole,
                               guint limit, GPtrArray *out, GPtrArray *bad, gboolean *out_more, GError **error) {
  GTree *chunks = disk_of(self)->chunks;
  GTreeNode *at = after != NULL ? g_tree_upper_bound(chunks, after) : g_tree_node_first(chunks);
  for (guint n = 0; at != NULL && n < limit; at = g_tree_node_next(at), n++) {
    const QfsChunk *chunk = g_tree_node_value(at);
    if (until != NULL && qfs_chunk_order(chunk, until) > 0) {
      *out_more = FALSE;
      return TRUE;
    }
    if (!whole || is_chunk_readable(self, chunk, NULL))
      g_ptr_array_add(out, chunk_dup(chunk, whole));
    else
      g_ptr_array_add(bad, qfs_bad_row_copy(((MemReplica *)self)->bad));
  }
  *out_more = at != NULL;
  return TRUE;
}

static gboolean mem_chunk_put(QfsReplica *self, const QfsChunk *chunk, GError **error) {
  g_assert(chunk->data != NULL && g_bytes_get_size(chunk->data) <= QFS_CHUNK_SIZE);
  mem_disk_set_chunk(writable(self), chunk);
  return TRUE;
}

static gboolean same_place(const QfsChunk *chunk, QfsObjectId object, guint64 index) {
  return qfs_object_equal(chunk->object, object) && chunk->index == index;
}

static gboolean mem_chunk_get(QfsReplica *self, QfsObjectId object, guint64 index,
                              guint64 max_version, QfsChunk **out_chunk, gboolean *out_newer,
                              GError **error) {
  GTree *chunks = disk_of(self)->chunks;
  QfsChunk probe = {.object = object, .index = index, .version = max_version};
  GTreeNode *above = g_tree_upper_bound(chunks, &probe);
  GTreeNode *below = above != NULL ? g_tree_node_previous(above) : g_tree_node_last(chunks);
  const QfsChunk *newer = above != NULL ? g_tree_node_value(above) : NULL;
  const QfsChunk *found = below != NULL ? g_tree_node_value(below) : NULL;
  if (found != NULL && same_place(found, object, index) && !is_chunk_readable(self, found, error))
    return FALSE;
  *out_chunk = found != NULL && same_place(found, object, index) ? chunk_dup(found, TRUE) : NULL;
  if (out_newer != NULL)
    *out_newer = newer != NULL && same_place(newer, object, index);
  return TRUE;
}

static gboolean mem_chunk_trim(QfsReplica *self, QfsObjectId object, guint64 index, guint64 keep,
                               GError **error) {
  MemDisk *disk = writable(self);
  for (;;) {
    QfsChunk probe = {.object = object, .index = index, .version = 0};
    GTreeNode *at = g_tree_lower_bound(disk->chunks, &probe);
    const QfsChunk *chunk = at != NULL ? g_tree_node_value(at) : NULL;
    if (chunk == NULL || !same_place(chunk, object, index) || chunk->version >= keep)
      return TRUE;
    mem_disk_unset_chunk(disk, chunk);
  }
}

static gboolean mem_chunk_remove(QfsReplica *self, QfsObjectId object, guint64 index,
                                 guint64 version, GError **error) {
  MemDisk *disk = writable(self);
  QfsChunk probe = {.object = object, .index = index, .version = version};
  if (g_tree_lookup(disk->chunks, &probe) != NULL)
    mem_disk_unset_chunk(disk, &probe);
  return TRUE;
}

static gboolean mem_object_drop(QfsReplica *self, QfsObjectId object, guint limit,
                                gboolean *out_more, GError **error) {
  MemDisk *disk = writable(self);
  for (guint n = 0;; n++) {
    QfsChunk probe = {.object = object};
    GTreeNode *at = g_tree_lower_bound(disk->chunks, &probe);
    const QfsChunk *chunk = at != NULL ? g_tree_node_value(at) : NULL;
    gboolean more = chunk != NULL && qfs_object_equal(chunk->object, object);
    if (!more || n == limit) {
      *out_more = more;
      return TRUE;
    }
    mem_disk_unset_chunk(disk, chunk);
  }
}

static gboolean mem_chunk_scan(QfsReplica *self, guint64 after_seq, const QfsChunk *after,
                               gboolean with_data, guint limit, GPtrArray *out, gboolean *out_more,
                               GError **error) {
  QfsChunk probe = {.seq = after_seq};
  if (after != NULL)
    probe = (QfsChunk){.seq = after_seq,
                       .object = after->object,
                       .index = after->index,
                       .version = after->version};
  else
    probe = (QfsChunk){.seq = after_seq,
                       .object = {G_MAXUINT64, G_MAXUINT64},
                       .index = G_MAXUINT64,
                       .version = G_MAXUINT64};
  const guint start = out->len;
  guint n = 0;
  gsize bytes = 0;
  GTreeNode *at = g_tree_upper_bound(disk_of(self)->chunks_by_seq, &probe);
  for (; at != NULL && n < limit && bytes < SCAN_BYTES; at = g_tree_node_next(at), n++) {
    const QfsChunk *chunk = g_tree_node_value(at);
    if (with_data && !is_chunk_readable(self, chunk, error))
      return cut_back(out, start);
    bytes += with_data ? g_bytes_get_size(chunk->data) : 0;
    g_ptr_array_add(out, chunk_dup(chunk, with_data));
  }
  *out_more = at != NULL;
  return TRUE;
}

static gboolean mem_chunk_list(QfsReplica *self, const QfsChunk *after, guint limit, GPtrArray *out,
                               gboolean *out_more, GError **error) {
  const QfsChunk first = {.index = 0};
  guint n = 0;
  GTreeNode *at = g_tree_upper_bound(disk_of(self)->chunks, after != NULL ? after : &first);
  for (; at != NULL && n < limit; at = g_tree_node_next(at), n++)
    g_ptr_array_add(out, chunk_dup(g_tree_node_value(at), FALSE));
  *out_more = at != NULL;
  return TRUE;
}

static gboolean mem_object_records(QfsReplica *self, QfsObjectId object, GPtrArray *out,
                                   GError **error) {
  GTreeNode *n = g_tree_node_first(disk_of(self)->rows);
  for (; n != NULL; n = g_tree_node_next(n)) {
    const QfsRecord *record = ((const MemRow *)g_tree_node_value(n))->record;
    if (qfs_object_equal(record->object, object))
      g_ptr_array_add(out, listed(record));
  }
  return TRUE;
}

/* ---- intents and the rest ---- */

static gboolean mem_intent_put(QfsReplica *self, guint64 id, GPtrArray *records, GError **error) {
  mem_disk_set_intent(writable(self), id, records);
  return TRUE;
}

static gboolean mem_intent_get(QfsReplica *self, guint64 id, GPtrArray **out_records,
                               GError **error) {
  const MemIntent *intent = mem_disk_intent(disk_of(self), id);
  *out_records = intent != NULL ? g_ptr_array_ref(intent->records) : NULL;
  return TRUE;
}

static gboolean mem_intent_remove(QfsReplica *self, guint64 id, GError **error) {
  MemDisk *disk = writable(self);
  if (mem_disk_intent(disk, id) != NULL)
    mem_disk_set_intent(disk, id, NULL);
  return TRUE;
}

static gboolean mem_intent_list(QfsReplica *self, GArray *out_ids, GError **error) {
  for (GTreeNode *n = g_tree_node_first(disk_of(self)->intents); n != NULL; n = g_tree_node_next(n))
    g_array_append_val(out_ids, ((const MemIntent *)g_tree_node_value(n))->id);
  return TRUE;
}

static gboolean mem_wipe(QfsReplica *self, GError **error) {
  MemDisk *disk = writable(self);
  for (GTreeNode *n; (n = g_tree_node_first(disk->rows)) != NULL;) {
    g_autofree char *key = g_strdup(((const MemRow *)g_tree_node_value(n))->record->key);
    mem_disk_set_row(disk, key, NULL);
  }
  for (GTreeNode *n; (n = g_tree_node_first(disk->chunks)) != NULL;)
    mem_disk_unset_chunk(disk, g_tree_node_value(n));
  for (GTreeNode *n; (n = g_tree_node_first(disk->intents)) != NULL;)
    mem_disk_set_intent(disk, ((const MemIntent *)g_tree_node_value(n))->id, NULL);
  return TRUE;
}

static gboolean mem_checkpoint(QfsReplica *self, gboolean everything, GError **error) {
  return TRUE;
}

static gboolean mem_stats(QfsReplica *self, QfsReplicaStats *out_stats, GError **error) {
  const MemDisk *disk = disk_of(self);
  const guint rows = g_hash_table_size(disk->row_of);
  *out_stats = (QfsReplicaStats){.records = rows - disk->tombstones,
                                 .tombstones = disk->tombstones,
                                 .chunks = (guint64)g_tree_nnodes(disk->chunks),
                                 .disk_total = 1 << 30,
                                 .disk_free = 1 << 29};
  return TRUE;
}

static QfsFileWatch *mem_watch(QfsReplica *self) {
  return NULL;
}

static gboolean mem_discard_aside(QfsReplica *self) {
  return FALSE;
}

static const QfsReplicaOps mem_ops = {
    .close = mem_close,
    .begin = mem_begin,
    .commit = mem_commit,
    .rollback = mem_rollback,
    .meta_load = mem_meta_load,
    .meta_store = mem_meta_store,
    .record_get = mem_record_get,
    .record_apply = mem_record_apply,
    .record_remove = mem_record_remove,
    .record_scan = mem_record_scan,
    .tombstone_scan = mem_tombstone_scan,
    .record_list = mem_record_list,
    .record_walk = mem_record_walk,
    .bad_row = mem_bad_row,
    .record_print = mem_record_print,
    .record_mend = mem_record_mend,
    .chunk_exact = mem_chunk_exact,
    .chunk_print = mem_chunk_print,
    .chunk_mend = mem_chunk_mend,
    .chunk_walk = mem_chunk_walk,
    .chunk_put = mem_chunk_put,
    .chunk_get = mem_chunk_get,
    .chunk_trim = mem_chunk_trim,
    .chunk_remove = mem_chunk_remove,
    .object_drop = mem_object_drop,
    .chunk_scan = mem_chunk_scan,
    .chunk_list = mem_chunk_list,
    .object_records = mem_object_records,
    .intent_put = mem_intent_put,
    .intent_get = mem_intent_get,
    .intent_remove = mem_intent_remove,
    .intent_list = mem_intent_list,
    .wipe = mem_wipe,
    .checkpoint = mem_checkpoint,
    .stats = mem_stats,
    .watch = mem_watch,
    .discard_aside = mem_discard_aside,
};

static QfsReplica *open_as(MemDisk *disk, gboolean reader) {
  MemReplica *replica = g_new0(MemReplica, 1);
  replica->base.ops = &mem_ops;
  replica->disk = disk;
  replica->reader = reader;
  return &replica->base;
}

QfsReplica *mem_replica_open(MemDisk *disk) {
  g_assert(!disk->open);
  disk->open = TRUE;
  return open_as(disk, FALSE);
}

QfsReplica *mem_replica_open_reader(MemDisk *disk) {
  return open_as(disk, TRUE);
}
