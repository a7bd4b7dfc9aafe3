/* Goal: the tree that one replica's rows make (storage/tree.h) has exactly its live keys and the directories above them, in the
 * order of names, whatever page size; and values read as they were written. */
#include "storage/tree.h"

#include "tests/unit/replica_fixture.h"

#include <sys/stat.h>

static QfsRecord *directory_of(const char *key, guint64 timestamp) {
  QfsRecord *record = qfs_record_new(key);
  record->timestamp = timestamp;
  record->kind = QFS_KIND_DIRECTORY;
  record->attr.mode = S_IFDIR | 0700;
  record->attr.btime_ns = 5;
  return record;
}

static void store(Fixture *fixture, QfsRecord *record) {
  begin(fixture->replica);
  apply(fixture->replica, record, TRUE);
  commit(fixture->replica);
  qfs_record_unref(record);
}

/* "name kind, ..." of the children of `dir`, asked for in pages of `limit`; '?' marks implied ones. */
static char *listed(QfsReplica *reader, const char *dir, guint limit) {
  GString *text = g_string_new(NULL);
  g_autofree char *after = NULL;
  gboolean more = TRUE;
  while (more) {
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) page = g_ptr_array_new_with_free_func((GDestroyNotify)qfs_record_unref);
    g_assert_true(qfs_tree_list(reader, dir, after, limit, page, &more, &error));
    g_assert_no_error(error);
    g_assert_cmpuint(page->len, <=, limit);
    g_assert_true(!more || page->len == limit);
    for (guint i = 0; i < page->len; i++) {
      const QfsRecord *record = page->pdata[i];
      g_autofree char *parent = qfs_key_parent(record->key);
      g_assert_cmpstr(parent, ==, dir);
      const char *slash = strrchr(record->key, '/');
      g_free(after);
      after = g_strdup(slash != NULL ? slash + 1 : record->key);
      g_string_append_printf(text, "%s%s%s", text->len > 0 ? " " : "", after,
                             record->kind != QFS_KIND_DIRECTORY ? "" : qfs_tree_is_implied(record) ? "?" : "/");
    }
  }
  return g_string_free(text, FALSE);
}

static void lists(QfsReplica *reader, const char *dir, const char *expected) {
  for (guint limit = 1; limit < 6; limit++) {
    g_autofree char *text = listed(reader, dir, limit);
    g_assert_cmpstr(text, ==, expected);
  }
}

static void test_implied(Fixture *fixture, gconstpointer data) {
  store(fixture, value_of("a/x", 1, 1, "1"));
  store(fixture, value_of("a-b", 1, 2, "2"));
  store(fixture, value_of("a-c/d/e", 1, 3, "3"));
  store(fixture, value_of("a.d/x", 1, 4, "4"));
  store(fixture, directory_of("b", 1));
  store(fixture, value_of("b/k", 1, 5, "5"));
  store(fixture, qfs_record_new_tombstone("c", 2));
  store(fixture, qfs_record_new_tombstone("d/x", 2));
  store(fixture, qfs_record_new_tombstone("e", 2));
  store(fixture, value_of("e/left", 1, 6, "6"));
  store(fixture, value_of("/orphan/1", 1, 7, "7"));
  store(fixture, value_of("!/x", 1, 8, "8"));
  QfsReplica *reader = fixture_reader(fixture);
  lists(reader, "", "!? a? a-b a-c? a.d? b/ e?");
  lists(reader, "a", "x");
  lists(reader, "a-c", "d?");
  lists(reader, "a-c/d", "e");
  lists(reader, "d", "");
  lists(reader, "e", "left");
  qfs_replica_close(reader);
}

static void finds(QfsReplica *reader, const char *key, int kind, gboolean implied) {
  g_autoptr(GError) error = NULL;
  g_autoptr(QfsRecord) record = NULL;
  g_assert_true(qfs_tree_lookup(reader, key, &record, &error));
  g_assert_no_error(error);
  g_assert_cmpint(record != NULL ? (int)record->kind : -1, ==, kind);
  g_assert_true(record == NULL || qfs_tree_is_implied(record) == implied);
}

static void test_lookup(Fixture *fixture, gconstpointer data) {
  store(fixture, value_of("a/x/y", 1, 1, "1"));
  store(fixture, value_of("a/x-z", 1, 2, "2"));
  store(fixture, qfs_record_new_tombstone("t/u", 2));
  store(fixture, directory_of("dir", 1));
  QfsReplica *reader = fixture_reader(fixture);
  finds(reader, "", QFS_KIND_DIRECTORY, TRUE);
  finds(reader, "a", QFS_KIND_DIRECTORY, TRUE);
  finds(reader, "a/x", QFS_KIND_DIRECTORY, TRUE);
  finds(reader, "a/x/y", QFS_KIND_VALUE, FALSE);
  finds(reader, "a/x-z", QFS_KIND_VALUE, FALSE);
  finds(reader, "a/x/y/z", -1, FALSE);
  finds(reader, "a/", -1, FALSE);
  finds(reader, "t", -1, FALSE);
  finds(reader, "t/u", -1, FALSE);
  finds(reader, "dir", QFS_KIND_DIRECTORY, FALSE);
  finds(reader, "di", -1, FALSE);
  qfs_replica_close(reader);
}

/* ---- against the words of tree.h, over keys by lot ---- */

static char *random_key(GRand *rand) {
  static const char *const parts[] = {"a", "a-", "a.", "a0", "ab", "b", "-", "\x01", "\xff"};
  GString *key = g_string_new(NULL);
  guint depth = (guint)g_rand_int_range(rand, 1, 5);
  for (guint i = 0; i < depth; i++)
    g_string_append_printf(key, "%s%s", i > 0 ? "/" : "", parts[g_rand_int_range(rand, 0, G_N_ELEMENTS(parts))]);
  return g_string_free(key, FALSE);
}

static int by_bytes(gconstpointer a, gconstpointer b) {
  return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The same as `listed`, from `rows`: key -> record. */
static char *expected_of(GHashTable *rows, const char *dir) {
  g_autofree char *prefix = *dir != '\0' ? g_strconcat(dir, "/", NULL) : g_strdup("");
  g_autoptr(GHashTable) marks = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
  GHashTableIter iter;
  gpointer key, record;
  g_hash_table_iter_init(&iter, rows);
  while (g_hash_table_iter_next(&iter, &key, &record)) {
    if (!qfs_record_exists(record) || !g_str_has_prefix(key, prefix))
      continue;
    const char *name = (char *)key + strlen(prefix), *slash = strchr(name, '/');
    char *child = slash != NULL ? g_strndup(name, (gsize)(slash - name)) : g_strdup(name);
    if (slash == NULL)
      g_hash_table_insert(marks, child, (gpointer)(((QfsRecord *)record)->kind == QFS_KIND_DIRECTORY ? "/" : ""));
    else if (!g_hash_table_contains(marks, child))
      g_hash_table_insert(marks, child, (gpointer) "?");
    else
      g_free(child);
  }
  g_autoptr(GPtrArray) names = g_ptr_array_new();
  g_hash_table_iter_init(&iter, marks);
  while (g_hash_table_iter_next(&iter, &key, NULL))
    g_ptr_array_add(names, key);
  g_ptr_array_sort(names, by_bytes);
  GString *text = g_string_new(NULL);
  for (guint i = 0; i < names->len; i++)
    g_string_append_printf(text, "%s%s%s", i > 0 ? " " : "", (char *)names->pdata[i],
                           (char *)g_hash_table_lookup(marks, names->pdata[i]));
  return g_string_free(text, FALSE);
}

static void one_lot(Fixture *fixture, GRand *rand) {
  g_autoptr(GHashTable) rows =
      g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify)qfs_record_unref);
  begin(fixture->replica);
  g_assert_true(fixture->replica->ops->wipe(fixture->replica, NULL));
  for (guint i = 0; i < 12; i++) {
    g_autofree char *key = random_key(rand);
    int kind = g_rand_int_range(rand, 0, 4);
    QfsRecord *record = kind == 0   ? qfs_record_new_tombstone(key, i + 1)
                        : kind == 1 ? directory_of(key, i + 1)
                                    : value_of(key, i + 1, i + 1, "v");
    apply(fixture->replica, record, TRUE);
    g_hash_table_replace(rows, record->key, record);
  }
  commit(fixture->replica);
  QfsReplica *reader = fixture_reader(fixture);
  for (guint i = 0; i < 8; i++) {
    g_autofree char *key = random_key(rand);
    g_autofree char *dir = i == 0 ? g_strdup("") : qfs_key_parent(key);
    g_autofree char *expected = expected_of(rows, dir);
    g_autofree char *text = listed(reader, dir, (guint)g_rand_int_range(rand, 1, 5));
    g_assert_cmpstr(text, ==, expected);
  }
  qfs_replica_close(reader);
}

static void test_by_lot(Fixture *fixture, gconstpointer data) {
  g_autoptr(GRand) rand = g_rand_new_with_seed(4);
  for (guint i = 0; i < 300; i++)
    one_lot(fixture, rand);
}

/* ---- values ---- */

static void reads(QfsReplica *reader, const QfsRecord *record, guint64 offset, gsize length, QfsTreeBytes where,
                  const char *bytes, gsize len) {
  g_autoptr(GError) error = NULL;
  g_autoptr(GBytes) data = NULL;
  QfsTreeBytes got;
  g_assert_true(qfs_tree_read(reader, record, offset, length, &got, &data, &error));
  g_assert_no_error(error);
  g_assert_cmpint(got, ==, where);
  if (where == QFS_TREE_HERE)
    g_assert_cmpmem(g_bytes_get_data(data, NULL), g_bytes_get_size(data), bytes, len);
  else
    g_assert_null(data);
}

static QfsRecord *chunked(const char *key, const char *object_of, guint64 number) {
  QfsRecord *record = value_of(key, number, 1, "tail");
  record->object = (QfsObjectId){qfs_key_hash(object_of), 7};
  record->tail_offset = 2 * QFS_CHUNK_SIZE;
  record->attr.size = record->tail_offset + 6; /* two bytes more than there are */
  g_bytes_unref(record->spans);
  record->spans = qfs_spans_new(number, number);
  return record;
}

static void store_chunk(Fixture *fixture, QfsObjectId object, guint64 index, guint64 version, const char *text) {
  g_autoptr(GError) error = NULL;
  g_autoptr(QfsChunk) chunk = g_new0(QfsChunk, 1);
  *chunk = (QfsChunk){object, index, version, 1, g_bytes_new(text, strlen(text))};
  begin(fixture->replica);
  g_assert_true(fixture->replica->ops->chunk_put(fixture->replica, chunk, &error));
  g_assert_no_error(error);
  commit(fixture->replica);
}

static void test_values(Fixture *fixture, gconstpointer data) {
  guint64 number = (G_GUINT64_CONSTANT(1) << 63) + 5;
  g_autoptr(QfsRecord) small = value_of("s", 1, 1, "hello"), own = chunked("k", "k", number);
  g_autoptr(QfsRecord) moved = chunked("new", "k", number);
  QfsReplica *reader = fixture_reader(fixture);
  reads(reader, small, 1, 3, QFS_TREE_HERE, "ell", 3);
  reads(reader, small, 4, 100, QFS_TREE_HERE, "o", 1);
  reads(reader, small, 5, 100, QFS_TREE_HERE, "", 0);
  reads(reader, small, 500, 100, QFS_TREE_HERE, "", 0);
  reads(reader, own, 10, 3, QFS_TREE_HERE, "\0\0\0", 3); /* a hole, for all that is known */
  reads(reader, moved, 10, 3, QFS_TREE_ELSEWHERE, NULL, 0);
  store_chunk(fixture, own->object, 1, number, "chunk");
  qfs_replica_close(reader);
  reader = fixture_reader(fixture);
  reads(reader, moved, QFS_CHUNK_SIZE - 1, 7, QFS_TREE_HERE, "\0chunk\0", 7);
  reads(reader, moved, 10, 3, QFS_TREE_HERE, "\0\0\0", 3);
  reads(reader, own, 2 * QFS_CHUNK_SIZE - 1, 100, QFS_TREE_HERE, "\0tail\0\0", 7);
  g_autoptr(QfsRecord) older = chunked("k", "k", number - 1);
  reads(reader, older, QFS_CHUNK_SIZE, 3, QFS_TREE_CHANGED, NULL, 0);
  qfs_replica_close(reader);
}

int main(int argc, char **argv) {
  g_test_init(&argc, &argv, NULL);
#define ADD(path, function) g_test_add(path, Fixture, NULL, fixture_set_up, function, fixture_tear_down)
  ADD("/storage/tree/lists-live-keys-and-the-directories-above-them", test_implied);
  ADD("/storage/tree/finds-what-it-lists", test_lookup);
  ADD("/storage/tree/keys-by-lot", test_by_lot);
  ADD("/storage/tree/values-and-where-their-chunks-are", test_values);
  return g_test_run();
}
