/* The SQLite replica as its callers see it: records. What else it holds: test_replica_parts.c. */
#include "replica_fixture.h"

/* Whatever is put in comes out, for every field and any size of value. */
static void every_field_survives(Fixture *fixture, gconstpointer data) {
  const gsize sizes[] = {0, 1, 900, 1100, 4096, QFS_INLINE_MAX};
  g_autoptr(QfsReplica) reader = fixture_reader(fixture);

  for (guint i = 0; i < G_N_ELEMENTS(sizes); i++) {
    g_autofree char *key = g_strdup_printf("a/b/%u", i);
    g_autoptr(QfsRecord) record = full_record(key, sizes[i]);
    g_assert_cmpint(put(fixture->replica, record), ==, QFS_APPLY_APPLIED);
    g_autoptr(QfsRecord) found = get(fixture->replica, key);
    g_autoptr(QfsRecord) found_by_reader = get(reader, key);
    assert_same(found, record);
    assert_same(found_by_reader, record);
  }
  g_autoptr(QfsRecord) none = get(reader, "a/b");
  g_assert_null(none);
}

/* Names are any bytes but NUL and '/', up to the limits. */
static void names_are_any_bytes(Fixture *fixture, gconstpointer data) {
  g_autoptr(GString) long_key = g_string_new(NULL);

  for (guint i = 1; i < 256; i++) {
    if (i == '/')
      continue;
    char key[] = {'d', '/', (char)i, (char)(257 - i) == '/' ? 'x' : (char)(257 - i), 0};
    if (i == 1)
      key[3] = '\xfe';
    put_text(fixture->replica, key, i, i, key);
    assert_text(fixture->replica, key, key);
  }
  while (long_key->len < QFS_KEY_MAX)
    g_string_append_c(long_key, long_key->len % 250 == 249 ? '/' : '\xe9');
  put_text(fixture->replica, long_key->str, 1, 1, "long");
  assert_text(fixture->replica, long_key->str, "long");
  put_text(fixture->replica, "", 1, 1, "root");
  put_text(fixture->replica, "x", 1, 1, "user's");
  put_text(fixture->replica, "/x", 1, 1, "store's");
  assert_text(fixture->replica, "", "root");
  assert_text(fixture->replica, "x", "user's");
  assert_text(fixture->replica, "/x", "store's");
}

/* What is older than the stored version changes nothing. */
static void older_is_superseded(Fixture *fixture, gconstpointer data) {
  QfsReplica *replica = fixture->replica;

  g_assert_cmpint(put_text(replica, "k", 5, 1, "five"), ==, QFS_APPLY_APPLIED);
  g_assert_cmpint(put_text(replica, "k", 4, 2, "four"), ==, QFS_APPLY_SUPERSEDED);
  assert_text(replica, "k", "five");
  g_assert_cmpint(put_text(replica, "k", 6, 3, "six"), ==, QFS_APPLY_APPLIED);
  assert_text(replica, "k", "six");

  g_autoptr(QfsRecord) tombstone = qfs_record_new_tombstone("k", 5);
  g_assert_cmpint(put(replica, tombstone), ==, QFS_APPLY_SUPERSEDED);
  assert_text(replica, "k", "six");
}

/* Timestamps are ordered as unsigned, though SQLite's integers are signed. */
static void timestamps_are_unsigned(Fixture *fixture, gconstpointer data) {
  const guint64 ascending[] = {0, 1, G_MAXINT64, (guint64)1 << 63, G_MAXUINT64 - 1, G_MAXUINT64};
  QfsReplica *replica = fixture->replica;

  for (guint i = 0; i < G_N_ELEMENTS(ascending); i++) {
    g_assert_cmpint(put_text(replica, "k", ascending[i], 1, "newer"), ==, QFS_APPLY_APPLIED);
    for (guint j = 0; j < i; j++)
      g_assert_cmpint(put_text(replica, "k", ascending[j], 1, "older"), ==, QFS_APPLY_SUPERSEDED);
    g_autoptr(QfsRecord) found = get(replica, "k");
    g_assert_cmpuint(found->timestamp, ==, ascending[i]);
  }
  g_autoptr(QfsRecord) tombstone = qfs_record_new_tombstone("k", G_MAXUINT64);
  g_assert_cmpint(put(replica, tombstone), ==, QFS_APPLY_APPLIED);
  g_assert_cmpint(put_text(replica, "k", G_MAXUINT64, 1, "value"), ==, QFS_APPLY_SUPERSEDED);
}

/* At equal timestamps both orders of arrival end in the same version. */
static void ties_converge(Fixture *fixture, gconstpointer data) {
  QfsReplica *replica = fixture->replica;
  g_autoptr(QfsRecord) a = value_of("a", 9, 1, "blue");
  g_autoptr(QfsRecord) b = value_of("a", 9, 1, "green");
  gboolean a_wins = qfs_record_compare(a, b) > 0;

  put(replica, a);
  g_assert_cmpint(put(replica, b), ==, a_wins ? QFS_APPLY_SUPERSEDED : QFS_APPLY_APPLIED);
  g_autoptr(QfsRecord) first = get(replica, "a");
  begin(replica);
  g_assert_true(replica->ops->record_remove(replica, "a", NULL));
  commit(replica);
  put(replica, b);
  g_assert_cmpint(put(replica, a), ==, a_wins ? QFS_APPLY_APPLIED : QFS_APPLY_SUPERSEDED);
  g_autoptr(QfsRecord) second = get(replica, "a");
  assert_same(first, second);
}

/* A retry is answered as the same, and keeps the highest operation number. */
static void same_version_raises_seq(Fixture *fixture, gconstpointer data) {
  QfsReplica *replica = fixture->replica;
  const struct { guint64 seq, stored; } steps[] = {{5, 5}, {5, 5}, {9, 9}, {7, 9}};

  g_assert_cmpint(put_text(replica, "k", 3, 4, "blue"), ==, QFS_APPLY_APPLIED);
  for (guint i = 0; i < G_N_ELEMENTS(steps); i++) {
    g_assert_cmpint(put_text(replica, "k", 3, steps[i].seq, "blue"), ==, QFS_APPLY_SAME);
    g_autoptr(QfsRecord) found = get(replica, "k");
    g_assert_cmpuint(found->seq, ==, steps[i].stored);
  }
  assert_text(replica, "k", "blue");
  g_assert_cmpuint(stats_of(replica).records, ==, 1);
}

/* Force stores what is older too, and lowers seq. */
static void force_replaces(Fixture *fixture, gconstpointer data) {
  QfsReplica *replica = fixture->replica;
  g_autoptr(QfsRecord) older = value_of("k", 2, 1, "older");

  put_text(replica, "k", 7, 8, "newer");
  begin(replica);
  g_assert_cmpint(apply(replica, older, TRUE), ==, QFS_APPLY_APPLIED);
  commit(replica);
  g_autoptr(QfsRecord) found = get(replica, "k");
  assert_same(found, older);
  g_assert_cmpuint(stats_of(replica).records, ==, 1);
}

/* Keys from a scan with pages of `limit`, joined by spaces. */
static char *scan(QfsReplica *replica, guint64 after_seq, const char *after_key, guint limit) {
  g_autoptr(GString) keys = g_string_new(NULL);
  g_autoptr(QfsRecord) last = NULL;
  gboolean more = TRUE;

  while (more) {
    g_autoptr(GPtrArray) page = new_records();
    g_assert_true(replica->ops->record_scan(replica, last ? last->seq : after_seq,
                                            last ? last->key : after_key, limit, page, &more,
                                            NULL));
    g_assert_cmpuint(page->len, <=, limit);
    g_assert_true(!more || page->len > 0);
    for (guint i = 0; i < page->len; i++) {
      const QfsRecord *record = g_ptr_array_index(page, i);
      g_string_append_printf(keys, "%s%" G_GUINT64_FORMAT ":%s", keys->len > 0 ? " " : "",
                             record->seq, record->key);
      g_clear_pointer(&last, qfs_record_unref);
      last = qfs_record_ref(record);
    }
  }
  return g_string_free(g_steal_pointer(&keys), FALSE);
}

/* Scans follow (seq, key), tombstones included, whatever the size of a page. */
static void scan_follows_seq_and_key(Fixture *fixture, gconstpointer data) {
  QfsReplica *replica = fixture->replica;
  /* In order of memcmp of the whole key, which that of (directory, name) is not. */
  const char *keys[] = {"", "/own", "a", "a-", "a/b", "a/b/c", "a0", "b"};

  for (guint i = 0; i < G_N_ELEMENTS(keys); i++) {
    guint shuffled = (i * 5) % G_N_ELEMENTS(keys);
    put_text(replica, keys[shuffled], 1, 7, "x");
  }
  put_text(replica, "zz", 1, 3, "x");
  g_autoptr(QfsRecord) tombstone = qfs_record_new_tombstone("aa", 8);
  tombstone->seq = 9;
  put(replica, tombstone);

  for (guint limit = 1; limit < 12; limit++) {
    g_autofree char *all = scan(replica, 0, NULL, limit);
    g_autofree char *from_seq = scan(replica, 6, NULL, limit);
    g_autofree char *after_seq = scan(replica, 7, NULL, limit);
    g_autofree char *after_key = scan(replica, 7, "a-", limit);
    g_assert_cmpstr(all, ==, "3:zz 7: 7:/own 7:a 7:a- 7:a/b 7:a/b/c 7:a0 7:b 9:aa");
    g_assert_cmpstr(from_seq, ==, "7: 7:/own 7:a 7:a- 7:a/b 7:a/b/c 7:a0 7:b 9:aa");
    g_assert_cmpstr(after_seq, ==, "9:aa");
    g_assert_cmpstr(after_key, ==, "7:a/b 7:a/b/c 7:a0 7:b 9:aa");
  }
  g_autofree char *nothing = scan(replica, G_MAXUINT64, NULL, 3);
  g_assert_cmpstr(nothing, ==, "");
}

/* A page of a scan ends after about 1 MiB, with at least one record in it. */
static void scan_is_bounded_in_bytes(Fixture *fixture, gconstpointer data) {
  QfsReplica *replica = fixture->replica;
  g_autofree char *text = g_strnfill(60000, 'x');
  g_autoptr(GPtrArray) page = new_records();
  gboolean more = FALSE;

  begin(replica);
  for (guint i = 0; i < 40; i++) {
    g_autofree char *key = g_strdup_printf("k%02u", i);
    g_autoptr(QfsRecord) record = value_of(key, 1, i + 1, text);
    apply(replica, record, FALSE);
  }
  commit(replica);
  g_assert_true(replica->ops->record_scan(replica, 0, NULL, 1000, page, &more, NULL));
  g_assert_true(more);
  g_assert_cmpuint(page->len, ==, 18);
}

/* Names of the children, those of tombstones with a '-' before. */
static char *list(QfsReplica *replica, const char *dir, guint limit) {
  g_autoptr(GString) names = g_string_new(NULL);
  g_autofree char *after = NULL;
  gboolean more = TRUE;

  while (more) {
    g_autoptr(GPtrArray) page = new_records();
    g_assert_true(replica->ops->record_list(replica, dir, after, limit, FALSE, page, &more, NULL));
    g_assert_cmpuint(page->len, <=, limit);
    for (guint i = 0; i < page->len; i++) {
      const QfsRecord *record = g_ptr_array_index(page, i);
      gsize dir_len;
      const char *name;
      qfs_key_split(record->key, &dir_len, &name);
      g_string_append_printf(names, "%s%s%s", names->len > 0 ? " " : "",
                             qfs_record_exists(record) ? "" : "-", name);
      g_free(after);
      after = g_strdup(name);
      if (record->kind != QFS_KIND_SYMLINK)
        g_assert_cmpuint(g_bytes_get_size(record->tail), ==, 0);
      else
        g_assert_cmpmem(g_bytes_get_data(record->tail, NULL), g_bytes_get_size(record->tail),
                        "target", 6);
    }
  }
  return g_string_free(g_steal_pointer(&names), FALSE);
}

/* A listing has a directory's own children, in the order of bytes, without their data. */
static void list_is_ordered(Fixture *fixture, gconstpointer data) {
  QfsReplica *replica = fixture->replica;
  g_autofree char *long_text = g_strnfill(20000, 'x');
  const char *keys[] = {"", "b", "a", "a/y", "a/\xff", "a/x", "a/x/deep", "a-", "/own", "aa/z"};

  for (guint i = 0; i < G_N_ELEMENTS(keys); i++)
    put_text(replica, keys[i], 1, i + 1, long_text);
  g_autoptr(QfsRecord) tombstone = qfs_record_new_tombstone("a/gone", 1);
  put(replica, tombstone);
  g_autoptr(QfsRecord) link = value_of("a/link", 1, 1, "target");
  link->kind = QFS_KIND_SYMLINK;
  put(replica, link);

  for (guint limit = 1; limit < 8; limit++) {
    g_autofree char *root = list(replica, "", limit);
    g_autofree char *a = list(replica, "a", limit);
    g_autofree char *none = list(replica, "nowhere", limit);
    g_autofree char *own = list(replica, "/", limit);
    g_assert_cmpstr(root, ==, "a a- b");
    g_assert_cmpstr(a, ==, "-gone link x y \xff");
    g_assert_cmpstr(none, ==, "");
    g_assert_cmpstr(own, ==, "own");
  }
}

static void no_shared_count(Fixture *f, gconstpointer data) {
  /* SQLite keeps no count of its memory: that is one lock for the threads of all nodes. */
  g_assert_cmpint(sqlite3_memory_used(), ==, 0);
}

int main(int argc, char **argv) {
  g_test_init(&argc, &argv, NULL);
  ADD("/storage/replica/memory-is-not-counted", no_shared_count);
  ADD("/storage/replica/every-field-survives", every_field_survives);
  ADD("/storage/replica/names-are-any-bytes", names_are_any_bytes);
  ADD("/storage/replica/older-timestamp-is-superseded", older_is_superseded);
  ADD("/storage/replica/timestamps-are-unsigned", timestamps_are_unsigned);
  ADD("/storage/replica/ties-converge-in-any-order", ties_converge);
  ADD("/storage/replica/same-version-raises-seq", same_version_raises_seq);
  ADD("/storage/replica/force-replaces-what-is-newer", force_replaces);
  ADD("/storage/replica/scan-follows-seq-and-key", scan_follows_seq_and_key);
  ADD("/storage/replica/scan-is-bounded-in-bytes", scan_is_bounded_in_bytes);
  ADD("/storage/replica/list-is-ordered-and-without-data", list_is_ordered);
  return g_test_run();
}
