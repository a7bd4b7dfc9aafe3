/* test_plan.c - layouts of values: a random run of writes and truncations against a plain buffer. */
#include "cluster/plan.h"

#include <string.h>

/* A value kept the way the store does: chunk rows and a record. */
typedef struct {
  QfsRecord *record;
  GHashTable *chunks; /* index -> GBytes */
} Store;

static void store_apply(Store *store, QfsPlan *plan) {
  if (plan->drops_object)
    g_hash_table_remove_all(store->chunks);
  for (guint i = 0; i < plan->chunks->len; i++) {
    const QfsPlanChunk *chunk = &g_array_index(plan->chunks, QfsPlanChunk, i);
    gpointer slot = GUINT_TO_POINTER((guint)chunk->index);
    GBytes *base = chunk->need_base ? g_hash_table_lookup(store->chunks, slot) : NULL;
    GBytes *data = qfs_plan_chunk_data(chunk, base);
    g_assert_cmpuint(g_bytes_get_size(data), <=, QFS_CHUNK_SIZE);
    g_hash_table_replace(store->chunks, slot, data);
  }
  QfsRecord *next = qfs_record_copy(store->record);
  next->kind = QFS_KIND_VALUE;
  next->attr.size = plan->size;
  next->tail_offset = plan->tail_offset;
  g_bytes_unref(next->tail);
  next->tail = g_bytes_ref(plan->tail);
  qfs_record_unref(store->record);
  store->record = next;
}

static void store_read(Store *store, guint8 *out) {
  memset(out, 0, store->record->attr.size);
  for (guint64 at = 0; at < store->record->tail_offset; at += QFS_CHUNK_SIZE) {
    GBytes *chunk =
        g_hash_table_lookup(store->chunks, GUINT_TO_POINTER((guint)(at / QFS_CHUNK_SIZE)));
    if (chunk == NULL)
      continue;
    gsize len = MIN(g_bytes_get_size(chunk), store->record->tail_offset - at);
    if (len > 0)
      memcpy(out + at, g_bytes_get_data(chunk, NULL), len);
  }
  gsize tail_len;
  gconstpointer tail = g_bytes_get_data(store->record->tail, &tail_len);
  g_assert_cmpuint(store->record->tail_offset + tail_len, <=, store->record->attr.size);
  if (tail_len > 0)
    memcpy(out + store->record->tail_offset, tail, tail_len);
}

static void run(guint32 seed, guint max_len, guint max_offset) {
  GRand *rand = g_rand_new_with_seed(seed);
  Store store = {qfs_record_new("k"),
                 g_hash_table_new_full(NULL, NULL, NULL, (GDestroyNotify)g_bytes_unref)};
  gsize room = 2 * (gsize)max_offset + max_len, size = 0;
  g_autofree guint8 *model = g_malloc0(room);
  g_autofree guint8 *seen = g_malloc0(room);
  for (guint step = 0; step < 300; step++) {
    guint what = g_rand_int_range(rand, 0, 10);
    g_autoptr(QfsPlan) plan = NULL;
    if (what == 0 && step > 0) {
      gsize to = g_rand_int_range(rand, 0, max_offset);
      plan = qfs_plan_truncate(store.record, to);
      if (to < size)
        memset(model + to, 0, size - to);
      size = to;
    } else if ((what == 2 || what == 5) && size > 0) {
      gsize len = g_rand_int_range(rand, 1, max_len), offset = (gsize)g_rand_int_range(rand, 0, max_offset);
      gboolean keep = what == 2;
      plan = qfs_plan_zero(store.record, offset, len, keep);
      if (offset < size)
        memset(model + offset, 0, MIN(len, size - offset));
      size = keep ? size : MAX(size, offset + len);
    } else {
      gsize len = g_rand_int_range(rand, 1, max_len);
      gboolean replace = what == 1;
      gsize offset = what < 5 ? size : (gsize)g_rand_int_range(rand, 0, max_offset);
      if (replace)
        offset = 0;
      if (offset + len > room)
        continue;
      guint8 *bytes = g_malloc(len);
      for (gsize i = 0; i < len; i++)
        bytes[i] = (guint8)g_rand_int(rand);
      g_autoptr(GBytes) data = g_bytes_new_take(bytes, len);
      plan = qfs_plan_write(store.record, replace, offset, data);
      if (replace) {
        memset(model, 0, room);
        size = 0;
      }
      memcpy(model + offset, bytes, len);
      size = MAX(size, offset + len);
    }
    store_apply(&store, plan);
    g_assert_cmpuint(store.record->attr.size, ==, size);
    store_read(&store, seen);
    g_assert_true(size == 0 || memcmp(seen, model, size) == 0);
    g_assert_cmpuint(g_bytes_get_size(store.record->tail), <=, QFS_INLINE_MAX);
  }
  qfs_record_unref(store.record);
  g_hash_table_unref(store.chunks);
  g_rand_free(rand);
}

static void test_small(void) {
  g_test_message("goal: runs of small writes read back as a plain buffer would");
  for (guint32 seed = 1; seed <= 40; seed++)
    run(seed, 300, 3000);
}

static void test_medium(void) {
  g_test_message("goal: writes around the inline limit, the tail limit and chunk borders");
  for (guint32 seed = 1; seed <= 40; seed++)
    run(seed, 70000, 200000);
}

static void test_large(void) {
  g_test_message("goal: writes of many chunks");
  for (guint32 seed = 1; seed <= 4; seed++)
    run(seed, 1 << 20, 3 << 20);
}

static void test_cost(void) {
  g_test_message("goal: overwriting a part costs what the part costs");
  g_autofree guint8 *bytes = g_malloc0(8 << 20);
  g_autoptr(GBytes) all = g_bytes_new(bytes, 8 << 20);
  g_autoptr(QfsPlan) whole = qfs_plan_write(NULL, TRUE, 0, all);
  g_assert_cmpuint(whole->chunks->len, ==, (8 << 20) / QFS_CHUNK_SIZE);
  QfsRecord *record = qfs_record_new("k");
  record->kind = QFS_KIND_VALUE;
  record->attr.size = record->tail_offset = 8 << 20;
  g_autoptr(GBytes) byte = g_bytes_new("x", 1);
  g_autoptr(QfsPlan) patch = qfs_plan_write(record, FALSE, 1234567, byte);
  g_assert_cmpuint(patch->chunks->len, ==, 1);
  g_assert_cmpuint(patch->tail_offset, ==, 8 << 20);
  g_autoptr(QfsPlan) append = qfs_plan_write(record, FALSE, 8 << 20, byte);
  g_assert_cmpuint(append->chunks->len, ==, 0);
  g_assert_cmpuint(g_bytes_get_size(append->tail), ==, 1);
  qfs_record_unref(record);
}

int main(int argc, char **argv) {
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/cluster/plan/small-writes-read-back", test_small);
  g_test_add_func("/cluster/plan/writes-around-the-limits-read-back", test_medium);
  g_test_add_func("/cluster/plan/writes-of-many-chunks-read-back", test_large);
  g_test_add_func("/cluster/plan/a-part-costs-a-part", test_cost);
  return g_test_run();
}
