/* mem_disk.c - see mem_disk.h. */
#include "mem_disk.h"

#include <string.h>

typedef enum { UNDO_ROW, UNDO_CHUNK, UNDO_INTENT, UNDO_META } UndoKind;

/* How a row was before; NULL: there was none. */
typedef struct {
  UndoKind kind;
  char *key;
  MemRow *row;
  QfsChunk chunk; /* which one */
  QfsChunk *old_chunk;
  guint64 intent;
  GPtrArray *records;
  QfsNodeMeta *meta;
} Undo;

static void row_free(MemRow *row) {
  if (row == NULL)
    return;
  qfs_record_unref(row->record);
  g_free(row);
}

static void undo_free(gpointer data) {
  Undo *undo = data;
  g_free(undo->key);
  row_free(undo->row);
  qfs_chunk_free(undo->old_chunk);
  g_clear_pointer(&undo->records, g_ptr_array_unref);
  g_free(undo->meta);
  g_free(undo);
}

/* ---- orders ---- */

static int compare_u64(guint64 a, guint64 b) {
  return a < b ? -1 : a > b;
}

static int compare_rows(gconstpointer a, gconstpointer b, gpointer unused) {
  return qfs_key_order(((const MemRow *)a)->record->key, ((const MemRow *)b)->record->key);
}

static int compare_rows_by_seq(gconstpointer a, gconstpointer b, gpointer unused) {
  const QfsRecord *x = ((const MemRow *)a)->record, *y = ((const MemRow *)b)->record;
  int order = compare_u64(x->seq, y->seq);
  return order != 0 ? order : strcmp(x->key, y->key);
}

static int compare_chunks(gconstpointer a, gconstpointer b, gpointer unused) {
  const QfsChunk *x = a, *y = b;
  int order = compare_u64(x->object.placement, y->object.placement);
  if (order == 0)
    order = compare_u64(x->object.unique, y->object.unique);
  if (order == 0)
    order = compare_u64(x->index, y->index);
  return order != 0 ? order : compare_u64(x->version, y->version);
}

static int compare_chunks_by_seq(gconstpointer a, gconstpointer b, gpointer unused) {
  int order = compare_u64(((const QfsChunk *)a)->seq, ((const QfsChunk *)b)->seq);
  return order != 0 ? order : compare_chunks(a, b, NULL);
}

static int compare_intents(gconstpointer a, gconstpointer b, gpointer unused) {
  return compare_u64(((const MemIntent *)a)->id, ((const MemIntent *)b)->id);
}

/* ---- life ---- */

MemDisk *mem_disk_new(guint32 node) {
  MemDisk *disk = g_new0(MemDisk, 1);
  disk->meta.node = node;
  disk->row_of = g_hash_table_new(g_str_hash, g_str_equal);
  disk->rows = g_tree_new_full(compare_rows, NULL, NULL, NULL);
  disk->rows_by_seq = g_tree_new_full(compare_rows_by_seq, NULL, NULL, NULL);
  disk->chunks = g_tree_new_full(compare_chunks, NULL, NULL, NULL);
  disk->chunks_by_seq = g_tree_new_full(compare_chunks_by_seq, NULL, NULL, NULL);
  disk->intents = g_tree_new_full(compare_intents, NULL, NULL, NULL);
  disk->commits = g_ptr_array_new_with_free_func((GDestroyNotify)g_ptr_array_unref);
  return disk;
}

void mem_disk_free(MemDisk *disk) {
  if (disk == NULL)
    return;
  for (GTreeNode *n = g_tree_node_first(disk->rows); n != NULL; n = g_tree_node_next(n))
    row_free(g_tree_node_value(n));
  for (GTreeNode *n = g_tree_node_first(disk->chunks); n != NULL; n = g_tree_node_next(n))
    qfs_chunk_free(g_tree_node_value(n));
  for (GTreeNode *n = g_tree_node_first(disk->intents); n != NULL; n = g_tree_node_next(n)) {
    MemIntent *intent = g_tree_node_value(n);
    g_ptr_array_unref(intent->records);
    g_free(intent);
  }
  g_hash_table_unref(disk->row_of);
  g_tree_unref(disk->rows);
  g_tree_unref(disk->rows_by_seq);
  g_tree_unref(disk->chunks);
  g_tree_unref(disk->chunks_by_seq);
  g_tree_unref(disk->intents);
  g_clear_pointer(&disk->undo, g_ptr_array_unref);
  g_ptr_array_unref(disk->commits);
  g_clear_pointer(&disk->older, g_ptr_array_unref);
  g_free(disk);
}

/* ---- placing rows, without undo: the old one is returned ---- */

static MemRow *find_row(const MemDisk *disk, const char *key) {
  return g_hash_table_lookup(disk->row_of, key);
}

static void take_row(MemDisk *disk, MemRow *row) {
  disk->tombstones -= row->record->kind == QFS_KIND_TOMBSTONE;
  g_hash_table_remove(disk->row_of, row->record->key);
  g_tree_remove(disk->rows, row);
  g_tree_remove(disk->rows_by_seq, row);
}

static MemRow *place_row(MemDisk *disk, const char *key, MemRow *row) {
  MemRow *old = find_row(disk, key);
  if (old != NULL)
    take_row(disk, old);
  if (row != NULL) {
    disk->tombstones += row->record->kind == QFS_KIND_TOMBSTONE;
    g_hash_table_insert(disk->row_of, row->record->key, row);
    g_tree_insert(disk->rows, row, row);
    g_tree_insert(disk->rows_by_seq, row, row);
  }
  return old;
}

static QfsChunk *place_chunk(MemDisk *disk, const QfsChunk *id, QfsChunk *chunk) {
  QfsChunk *old = g_tree_lookup(disk->chunks, id);
  if (old != NULL) {
    g_tree_remove(disk->chunks, old);
    g_tree_remove(disk->chunks_by_seq, old);
  }
  if (chunk != NULL) {
    g_tree_insert(disk->chunks, chunk, chunk);
    g_tree_insert(disk->chunks_by_seq, chunk, chunk);
  }
  return old;
}

static GPtrArray *place_intent(MemDisk *disk, guint64 id, GPtrArray *records) {
  MemIntent probe = {.id = id};
  MemIntent *old = g_tree_lookup(disk->intents, &probe);
  GPtrArray *old_records = NULL;
  if (old != NULL) {
    g_tree_remove(disk->intents, old);
    old_records = old->records;
    g_free(old);
  }
  if (records != NULL) {
    MemIntent *intent = g_new(MemIntent, 1);
    *intent = (MemIntent){.id = id, .records = records};
    g_tree_insert(disk->intents, intent, intent);
  }
  return old_records;
}

/* ---- changes with undo ---- */

static Undo *undo_new(MemDisk *disk, UndoKind kind) {
  g_assert(disk->undo != NULL);
  Undo *undo = g_new0(Undo, 1);
  undo->kind = kind;
  g_ptr_array_add(disk->undo, undo);
  return undo;
}

void mem_disk_set_row(MemDisk *disk, const char *key, const QfsRecord *record) {
  MemRow *row = NULL;
  if (record != NULL) {
    row = g_new0(MemRow, 1);
    *row = (MemRow){.record = qfs_record_ref(record)};
  }
  Undo *undo = undo_new(disk, UNDO_ROW);
  undo->key = g_strdup(key);
  undo->row = place_row(disk, key, row);
}

static QfsChunk *chunk_copy(const QfsChunk *chunk) {
  QfsChunk *copy = g_new(QfsChunk, 1);
  *copy = *chunk;
  copy->data = chunk->data != NULL ? g_bytes_ref(chunk->data) : NULL;
  return copy;
}

static Undo *undo_new_chunk(MemDisk *disk, const QfsChunk *chunk) {
  Undo *undo = undo_new(disk, UNDO_CHUNK);
  undo->chunk = *chunk;
  undo->chunk.data = NULL;
  return undo;
}

void mem_disk_set_chunk(MemDisk *disk, const QfsChunk *chunk) {
  Undo *undo = undo_new_chunk(disk, chunk);
  undo->old_chunk = place_chunk(disk, chunk, chunk_copy(chunk));
}

void mem_disk_unset_chunk(MemDisk *disk, const QfsChunk *chunk) {
  Undo *undo = undo_new_chunk(disk, chunk);
  undo->old_chunk = place_chunk(disk, &undo->chunk, NULL);
}

void mem_disk_set_intent(MemDisk *disk, guint64 id, GPtrArray *records) {
  Undo *undo = undo_new(disk, UNDO_INTENT);
  undo->intent = id;
  undo->records = place_intent(disk, id, records != NULL ? g_ptr_array_ref(records) : NULL);
}

void mem_disk_set_meta(MemDisk *disk, const QfsNodeMeta *meta) {
  Undo *undo = undo_new(disk, UNDO_META);
  undo->meta = g_memdup2(&disk->meta, sizeof disk->meta);
  disk->meta = *meta;
}

static void undo_one(MemDisk *disk, Undo *undo) {
  switch (undo->kind) {
  case UNDO_ROW:
    row_free(place_row(disk, undo->key, g_steal_pointer(&undo->row)));
    break;
  case UNDO_CHUNK:
    qfs_chunk_free(place_chunk(disk, &undo->chunk, g_steal_pointer(&undo->old_chunk)));
    break;
  case UNDO_INTENT: {
    g_autoptr(GPtrArray) records =
        place_intent(disk, undo->intent, g_steal_pointer(&undo->records));
    break;
  }
  case UNDO_META:
    disk->meta = *undo->meta;
    break;
  }
}

static void undo_all(MemDisk *disk, GPtrArray *entries) {
  for (guint i = entries->len; i-- > 0;)
    undo_one(disk, g_ptr_array_index(entries, i));
}

/* ---- transactions ---- */

void mem_disk_begin(MemDisk *disk) {
  g_assert(disk->undo == NULL);
  disk->undo = g_ptr_array_new_with_free_func(undo_free);
}

static void make_stable(MemDisk *disk) {
  if (disk->older == NULL) {
    g_ptr_array_set_size(disk->commits, 0);
    return;
  }
  for (guint i = 0; i < disk->commits->len; i++)
    g_ptr_array_add(disk->older, g_ptr_array_ref(disk->commits->pdata[i]));
  g_ptr_array_set_size(disk->commits, 0);
}

void mem_disk_commit(MemDisk *disk, gboolean durable) {
  g_assert(disk->undo != NULL);
  g_ptr_array_add(disk->commits, g_steal_pointer(&disk->undo));
  if (durable)
    make_stable(disk);
}

void mem_disk_rollback(MemDisk *disk) {
  if (disk->undo == NULL)
    return;
  undo_all(disk, disk->undo);
  g_clear_pointer(&disk->undo, g_ptr_array_unref);
}

void mem_disk_lose_power(MemDisk *disk, guint keep) {
  g_assert(!disk->open && disk->undo == NULL);
  for (guint i = disk->commits->len; i-- > keep;)
    undo_all(disk, g_ptr_array_index(disk->commits, i));
  g_ptr_array_set_size(disk->commits, (gint)MIN(keep, disk->commits->len));
  make_stable(disk); /* what is left was read from the disk: it is on it */
}

gboolean mem_disk_keep_copy(MemDisk *disk) {
  g_assert(disk->undo == NULL);
  if (disk->commits->len > 0)
    return FALSE;
  g_clear_pointer(&disk->older, g_ptr_array_unref);
  disk->older = g_ptr_array_new_with_free_func((GDestroyNotify)g_ptr_array_unref);
  return TRUE;
}

static void undo_commits(MemDisk *disk, GPtrArray *commits) {
  for (guint i = commits->len; i-- > 0;)
    undo_all(disk, g_ptr_array_index(commits, i));
  g_ptr_array_set_size(commits, 0);
}

gboolean mem_disk_restore_copy(MemDisk *disk) {
  g_assert(!disk->open && disk->undo == NULL);
  if (disk->older == NULL)
    return FALSE;
  undo_commits(disk, disk->commits);
  undo_commits(disk, disk->older);
  g_clear_pointer(&disk->older, g_ptr_array_unref);
  return TRUE;
}

void mem_disk_erase(MemDisk *disk) {
  g_assert(!disk->open && disk->undo == NULL);
  MemDisk *fresh = mem_disk_new(disk->meta.node), old = *disk;
  *disk = *fresh;
  *fresh = old;
  mem_disk_free(fresh);
}

guint mem_disk_volatile_commits(const MemDisk *disk) {
  return disk->commits->len;
}

void mem_disk_rot_row(MemDisk *disk, const char *key) {
  find_row(disk, key)->bad = TRUE;
}

/* What is read of a chunk that rotted; no data of a value is these very bytes in memory. */
static GBytes *rotten(void) {
  static GBytes *bytes;
  if (bytes == NULL)
    bytes = g_bytes_new_static("rotten", 6);
  return bytes;
}

void mem_disk_rot_chunk(MemDisk *disk, const QfsChunk *id) {
  QfsChunk *chunk = g_tree_lookup(disk->chunks, id);
  g_bytes_unref(chunk->data);
  chunk->data = g_bytes_ref(rotten());
}

gboolean mem_chunk_is_bad(const QfsChunk *chunk) {
  return chunk->data == rotten();
}

/* ---- lookups ---- */

const MemRow *mem_disk_row(const MemDisk *disk, const char *key) {
  return find_row(disk, key);
}

const MemIntent *mem_disk_intent(const MemDisk *disk, guint64 id) {
  MemIntent probe = {.id = id};
  return g_tree_lookup(disk->intents, &probe);
}

const QfsRecord *mem_disk_durable_record(const MemDisk *disk, const char *key) {
  for (guint i = 0; i < disk->commits->len; i++) {
    const GPtrArray *commit = g_ptr_array_index(disk->commits, i);
    for (guint j = 0; j < commit->len; j++) {
      const Undo *undo = g_ptr_array_index(commit, j);
      if (undo->kind == UNDO_ROW && strcmp(undo->key, key) == 0)
        return undo->row != NULL ? undo->row->record : NULL;
    }
  }
  const MemRow *row = find_row(disk, key);
  return row != NULL ? row->record : NULL;
}

GTreeNode *mem_disk_rows_after(const MemDisk *disk, const char *key) {
  QfsRecord probe_record = {.key = (char *)key};
  MemRow probe = {.record = &probe_record};
  return g_tree_upper_bound(disk->rows, &probe);
}

GTreeNode *mem_disk_rows_after_seq(const MemDisk *disk, guint64 seq, const char *key) {
  if (key == NULL && seq == 0)
    return g_tree_node_first(disk->rows_by_seq);
  if (key == NULL)
    return mem_disk_rows_after_seq(disk, seq, "\xff");
  QfsRecord probe_record = {.key = (char *)key, .seq = seq};
  MemRow probe = {.record = &probe_record};
  return g_tree_upper_bound(disk->rows_by_seq, &probe);
}
