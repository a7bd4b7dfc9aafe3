/* The SQLite replica as its callers see it: records, chunks, intents, metadata, transactions. */
#include "replica_fixture.h"

static void assert_same(const QfsRecord *found, const QfsRecord *expected) {
  g_assert_nonnull(found);
  g_assert_cmpstr(found->key, ==, expected->key);
  g_assert_cmpuint(found->timestamp, ==, expected->timestamp);
  g_assert_cmpuint(found->seq, ==, expected->seq);
  g_assert_cmpint(found->kind, ==, expected->kind);
  g_assert_cmpuint(found->attr.mode, ==, expected->attr.mode);
  g_assert_cmpuint(found->attr.uid, ==, expected->attr.uid);
  g_assert_cmpuint(found->attr.gid, ==, expected->attr.gid);
  g_assert_cmpuint(found->attr.rdev, ==, expected->attr.rdev);
  g_assert_cmpuint(found->attr.size, ==, expected->attr.size);
  g_assert_cmpint(found->attr.atime_ns, ==, expected->attr.atime_ns);
  g_assert_cmpint(found->attr.mtime_ns, ==, expected->attr.mtime_ns);
  g_assert_cmpint(found->attr.ctime_ns, ==, expected->attr.ctime_ns);
  g_assert_cmpint(found->attr.btime_ns, ==, expected->attr.btime_ns);
  g_assert_true(qfs_object_equal(found->object, expected->object));
  g_assert_cmpuint(found->tail_offset, ==, expected->tail_offset);
  g_assert_true(g_bytes_equal(found->tail, expected->tail));
  g_assert_true(g_bytes_equal(found->xattrs, expected->xattrs));
  g_assert_cmpuint(found->digest, ==, expected->digest);
}

/* Extremes of every field; `bytes` of tail. */
static QfsRecord *full_record(const char *key, gsize bytes) {
  g_autofree guint8 *tail = g_malloc(bytes + 1);
  QfsRecord *record = qfs_record_new(key);

  for (gsize i = 0; i < bytes; i++)
    tail[i] = (guint8)(i * 7);
  record->timestamp = G_MAXUINT64;
  record->seq = QFS_SEQ((1 << 28) - 1, ((guint64)1 << 35) - 1);
  record->kind = QFS_KIND_SPECIAL;
  record->attr = (QfsAttr){.mode = G_MAXUINT32,
                           .uid = G_MAXUINT32 - 1,
                           .gid = G_MAXUINT32 - 2,
                           .rdev = G_MAXUINT64,
                           .size = QFS_VALUE_MAX,
                           .atime_ns = G_MININT64,
                           .mtime_ns = -1,
                           .ctime_ns = G_MAXINT64,
                           .btime_ns = 7};
  record->object = (QfsObjectId){G_MAXUINT64, (guint64)1 << 63};
  record->tail_offset = (guint64)1 << 63;
  record->digest = G_MAXUINT64 - 5;
  set_tail(record, tail, bytes);
  g_bytes_unref(record->xattrs);
  record->xattrs = g_bytes_new_static("\0user.x\0\xff", 9);
  return record;
}

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
  g_assert_cmpint(apply(replica, older, FALSE, TRUE), ==, QFS_APPLY_APPLIED);
  commit(replica);
  g_autoptr(QfsRecord) found = get(replica, "k");
  assert_same(found, older);
  g_assert_cmpuint(stats_of(replica).records, ==, 1);
}

static guint remove_hints(QfsReplica *replica, guint64 up_to, guint limit) {
  guint removed = 99;
  begin(replica);
  g_assert_true(replica->ops->hints_remove(replica, up_to, limit, &removed, NULL));
  commit(replica);
  return removed;
}

/* Rows held for others go when asked for, up to a number; all others stay. */
static void hints_are_removed(Fixture *fixture, gconstpointer data) {
  QfsReplica *replica = fixture->replica;

  put_text(replica, "own", 1, 1, "own");
  begin(replica);
  for (guint i = 0; i < 10; i++) {
    g_autofree char *key = g_strdup_printf("hint%u", i);
    g_autoptr(QfsRecord) record = value_of(key, 1, 10 + i, "x");
    apply(replica, record, TRUE, FALSE);
    if (i == 3) { /* became an owner meanwhile */
      apply(replica, record, FALSE, FALSE);
      g_assert_cmpint(apply(replica, record, TRUE, FALSE), ==, QFS_APPLY_SAME);
    }
  }
  commit(replica);
  g_assert_cmpuint(remove_hints(replica, 9, 100), ==, 0);
  g_assert_cmpuint(remove_hints(replica, 15, 2), ==, 2);
  g_assert_cmpuint(remove_hints(replica, 15, 100), ==, 3);
  assert_text(replica, "hint5", NULL);
  assert_text(replica, "hint6", "x");
  g_assert_cmpuint(remove_hints(replica, G_MAXUINT64, 100), ==, 4);
  assert_text(replica, "own", "own");
  assert_text(replica, "hint3", "x");
  g_assert_cmpuint(stats_of(replica).records, ==, 2);
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
    apply(replica, record, FALSE, FALSE);
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
    g_assert_true(replica->ops->record_list(replica, dir, after, limit, page, &more, NULL));
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

/* Text of the chunk, "-" when there is none, "newer" when there are only newer versions. */
static char *chunk_text(QfsReplica *replica, QfsObjectId object, guint64 index,
                        guint64 max_version) {
  g_autoptr(QfsChunk) chunk = NULL;
  gboolean newer = FALSE;

  g_assert_true(replica->ops->chunk_get(replica, object, index, max_version, &chunk, &newer, NULL));
  if (chunk == NULL)
    return g_strdup(newer ? "newer" : "-");
  g_assert_true(qfs_object_equal(chunk->object, object));
  g_assert_cmpuint(chunk->index, ==, index);
  g_assert_cmpuint(chunk->version, <=, max_version);
  return g_strndup(g_bytes_get_data(chunk->data, NULL), g_bytes_get_size(chunk->data));
}

static void assert_chunk(QfsReplica *replica, QfsObjectId object, guint64 index,
                         guint64 max_version, const char *text) {
  g_autofree char *found = chunk_text(replica, object, index, max_version);
  g_assert_cmpstr(found, ==, text);
}

/* The greatest version up to the wanted one is found, as unsigned. */
static void chunk_of_greatest_version(Fixture *fixture, gconstpointer data) {
  QfsReplica *replica = fixture->replica;
  QfsObjectId object = {G_MAXUINT64 - 3, 4}, other = {4, G_MAXUINT64 - 3};
  const guint64 high = (guint64)1 << 63;

  put_chunk(replica, object, 2, high + 5, 1, "high");
  put_chunk(replica, object, 2, 10, 2, "ten");
  put_chunk(replica, object, 2, 20, 3, "twenty");
  put_chunk(replica, object, 2, G_MAXUINT64, 4, "highest");
  put_chunk(replica, object, 3, 1, 5, "neighbour");

  assert_chunk(replica, object, 2, 0, "newer");
  assert_chunk(replica, object, 2, 9, "newer");
  assert_chunk(replica, object, 2, 10, "ten");
  assert_chunk(replica, object, 2, 19, "ten");
  assert_chunk(replica, object, 2, 20, "twenty");
  assert_chunk(replica, object, 2, high - 1, "twenty");
  assert_chunk(replica, object, 2, high + 4, "twenty");
  assert_chunk(replica, object, 2, high + 5, "high");
  assert_chunk(replica, object, 2, G_MAXUINT64 - 1, "high");
  assert_chunk(replica, object, 2, G_MAXUINT64, "highest");
  assert_chunk(replica, object, 1, G_MAXUINT64, "-");
  assert_chunk(replica, other, 2, G_MAXUINT64, "-");
  g_assert_true(replica->ops->chunk_get(replica, other, 2, 1, &(QfsChunk *){NULL}, NULL, NULL));

  put_chunk(replica, object, 2, 20, 9, "again");
  assert_chunk(replica, object, 2, 20, "again");
  g_assert_cmpuint(stats_of(replica).chunks, ==, 5);
}

/* Trimming takes what is older, removing takes one, and nothing else goes. */
static void chunk_trim_and_remove(Fixture *fixture, gconstpointer data) {
  QfsReplica *replica = fixture->replica;
  QfsObjectId object = {1, 2};
  const guint64 versions[] = {10, 20, 30, G_MAXUINT64};

  for (guint i = 0; i < G_N_ELEMENTS(versions); i++) {
    put_chunk(replica, object, 0, versions[i], i + 1, "x");
    put_chunk(replica, object, 1, versions[i], i + 1, "y");
  }
  begin(replica);
  g_assert_true(replica->ops->chunk_trim(replica, object, 0, 30, NULL));
  g_assert_true(replica->ops->chunk_remove(replica, object, 1, 20, NULL));
  g_assert_true(replica->ops->chunk_remove(replica, object, 1, 21, NULL));
  commit(replica);
  assert_chunk(replica, object, 0, 29, "newer");
  assert_chunk(replica, object, 0, 30, "x");
  assert_chunk(replica, object, 1, 10, "y");
  g_assert_cmpuint(stats_of(replica).chunks, ==, 5);
  begin(replica);
  g_assert_true(replica->ops->chunk_remove(replica, object, 1, 10, NULL));
  commit(replica);
  assert_chunk(replica, object, 1, 29, "newer");
}

/* An object goes in steps, and no other with it. */
static void object_drops_in_steps(Fixture *fixture, gconstpointer data) {
  QfsReplica *replica = fixture->replica;
  QfsObjectId object = {1, 2}, other = {1, 3};
  gboolean more = TRUE;
  guint steps = 0;

  for (guint i = 0; i < 10; i++) {
    put_chunk(replica, object, i / 2, i, i, "x");
    put_chunk(replica, other, i, i, i, "other");
  }
  for (; more; steps++) {
    begin(replica);
    g_assert_true(replica->ops->object_drop(replica, object, 4, &more, NULL));
    commit(replica);
  }
  g_assert_cmpuint(steps, ==, 3);
  g_assert_cmpuint(stats_of(replica).chunks, ==, 10);
  assert_chunk(replica, object, 0, G_MAXUINT64, "-");
  assert_chunk(replica, other, 0, G_MAXUINT64, "other");
}

static gint compare_chunks(gconstpointer a, gconstpointer b) {
  const QfsChunk *x = a, *y = b;
  const guint64 pairs[][2] = {{x->seq, y->seq},
                              {x->object.placement, y->object.placement},
                              {x->object.unique, y->object.unique},
                              {x->index, y->index},
                              {x->version, y->version}};
  for (guint i = 0; i < G_N_ELEMENTS(pairs); i++)
    if (pairs[i][0] != pairs[i][1])
      return pairs[i][0] < pairs[i][1] ? -1 : 1;
  return 0;
}

/* Scans of chunks follow (seq, object, index, version) as unsigned, in pages of any size. */
static void chunk_scan_is_ordered(Fixture *fixture, gconstpointer data) {
  QfsReplica *replica = fixture->replica;
  const guint64 numbers[] = {1, (guint64)1 << 63, G_MAXUINT64};
  guint total = 0;

  for (guint i = 0; i < 54; i++, total++)
    put_chunk(replica, (QfsObjectId){numbers[i % 3], numbers[i / 3 % 3]}, i / 9 % 2,
              numbers[i / 18], 4 + i % 2, "x");
  for (guint limit = 1; limit < 60; limit += 7) {
    g_autoptr(GPtrArray) all = new_chunks();
    for (gboolean more = TRUE; more;) {
      const QfsChunk *after = all->len > 0 ? g_ptr_array_index(all, all->len - 1) : NULL;
      guint before = all->len;
      gboolean with_data = limit % 2 == 0;
      g_assert_true(replica->ops->chunk_scan(replica, after ? after->seq : 3, after, with_data,
                                             limit, all, &more, NULL));
      g_assert_cmpuint(all->len, <=, before + limit);
      for (guint i = before; i < all->len; i++)
        g_assert_cmpint(((QfsChunk *)g_ptr_array_index(all, i))->data != NULL, ==, with_data);
    }
    g_assert_cmpuint(all->len, ==, total);
    for (guint i = 1; i < all->len; i++)
      g_assert_cmpint(compare_chunks(g_ptr_array_index(all, i - 1), g_ptr_array_index(all, i)), <,
                      0);
  }
  g_autoptr(GPtrArray) above = new_chunks();
  gboolean more = TRUE;
  g_assert_true(replica->ops->chunk_scan(replica, 4, NULL, FALSE, 100, above, &more, NULL));
  g_assert_cmpuint(above->len, ==, total / 2);
  g_assert_false(more);
}

/* An intent keeps its records whole and in order until it is removed. */
static void intents_round_trip(Fixture *fixture, gconstpointer data) {
  QfsReplica *replica = fixture->replica;
  g_autoptr(GPtrArray) records = new_records();
  g_autoptr(GArray) ids = g_array_new(FALSE, FALSE, sizeof(guint64));

  for (guint i = 0; i < 300; i++) {
    g_autofree char *key = g_strdup_printf("d/%u", 999 - i);
    g_ptr_array_add(records, full_record(key, i * 20));
  }
  begin(replica);
  g_assert_true(replica->ops->intent_put(replica, G_MAXUINT64, records, NULL));
  g_ptr_array_set_size(records, 2);
  g_assert_true(replica->ops->intent_put(replica, 5, records, NULL));
  g_assert_true(replica->ops->intent_put(replica, G_MAXUINT64, records, NULL)); /* replaces */
  commit(replica);

  g_assert_true(replica->ops->intent_list(replica, ids, NULL));
  g_assert_cmpuint(ids->len, ==, 2);
  g_assert_cmpuint(g_array_index(ids, guint64, 0), ==, 5);
  g_assert_cmpuint(g_array_index(ids, guint64, 1), ==, G_MAXUINT64);
  g_autoptr(GPtrArray) found = NULL;
  g_assert_true(replica->ops->intent_get(replica, G_MAXUINT64, &found, NULL));
  g_assert_cmpuint(found->len, ==, 2);
  for (guint i = 0; i < 2; i++)
    assert_same(g_ptr_array_index(found, i), g_ptr_array_index(records, i));

  begin(replica);
  g_assert_true(replica->ops->intent_remove(replica, 5, NULL));
  g_assert_true(replica->ops->intent_remove(replica, 6, NULL));
  commit(replica);
  g_autoptr(GPtrArray) gone = NULL;
  g_assert_true(replica->ops->intent_get(replica, 5, &gone, NULL));
  g_assert_null(gone);
}

static void store_meta(QfsReplica *replica, const QfsNodeMeta *meta) {
  begin(replica);
  g_assert_true(replica->ops->meta_store(replica, meta, NULL));
  commit(replica);
}

static void assert_meta(QfsReplica *replica, const QfsNodeMeta *expected) {
  g_autoptr(GError) error = NULL;
  QfsNodeMeta found;
  const QfsView *a = &found.view, *b = &expected->view;

  g_assert_true(replica->ops->meta_load(replica, &found, &error));
  g_assert_no_error(error);
  g_assert_cmpuint(found.node, ==, expected->node);
  g_assert_cmpuint(found.generation, ==, expected->generation);
  g_assert_cmpuint(found.promised_epoch, ==, expected->promised_epoch);
  g_assert_cmpuint(found.mark, ==, expected->mark);
  g_assert_cmpuint(found.settled, ==, expected->settled);
  g_assert_cmpuint(found.ceiling, ==, expected->ceiling);
  g_assert_cmpint(found.has_view, ==, expected->has_view);
  g_assert_cmpstr(a->store, ==, b->store);
  g_assert_cmpuint(a->nodes, ==, b->nodes);
  g_assert_cmpuint(a->replicas, ==, b->replicas);
  g_assert_cmpuint(a->epoch, ==, b->epoch);
  g_assert_cmpuint(a->in_sync, ==, b->in_sync);
  g_assert_cmpuint(a->base, ==, b->base);
  g_assert_cmpmem(a->left_mark, sizeof a->left_mark, b->left_mark, sizeof b->left_mark);
  g_assert_cmpmem(a->generation, sizeof a->generation, b->generation, sizeof b->generation);
  g_assert_cmpmem(a->next_generation, sizeof a->next_generation, b->next_generation,
                  sizeof b->next_generation);
  g_assert_cmpuint(a->n_unsettled, ==, b->n_unsettled);
  for (guint i = 0; i < b->n_unsettled; i++)
    g_assert_cmpuint(a->unsettled[i], ==, b->unsettled[i]);
}

/* Metadata comes back as it was stored, also by a reader, and after changes of every part. */
static void meta_round_trip(Fixture *fixture, gconstpointer data) {
  QfsReplica *replica = fixture->replica;
  g_autoptr(QfsReplica) reader = fixture_reader(fixture);
  QfsNodeMeta meta = {.node = 3};

  assert_meta(replica, &meta);
  meta = (QfsNodeMeta){.node = 3, .generation = 8, .promised_epoch = 9, .mark = 10};
  meta.settled = G_MAXINT64;
  meta.ceiling = G_MAXUINT64;
  store_meta(replica, &meta);
  assert_meta(replica, &meta);

  meta.has_view = TRUE;
  g_strlcpy(meta.view.store, "01234567-89ab-cdef-0123-456789abcdef", sizeof meta.view.store);
  meta.view.nodes = 5;
  meta.view.replicas = 3;
  meta.view.epoch = G_MAXUINT64;
  meta.view.in_sync = (QfsNodeSet)1 << 63 | 0x1f;
  meta.view.base = 0x0f;
  for (guint i = 0; i < QFS_NODES_MAX; i += 3) {
    meta.view.left_mark[i] = i;
    meta.view.generation[i] = G_MAXUINT64 - i;
    meta.view.next_generation[i] = i % 2;
  }
  meta.view.n_unsettled = QFS_VIEW_SETS_MAX;
  for (guint i = 0; i < QFS_VIEW_SETS_MAX; i++)
    meta.view.unsettled[i] = ~(QfsNodeSet)i;
  store_meta(replica, &meta);
  assert_meta(reader, &meta);

  meta.view.n_unsettled = 1;
  memset(meta.view.generation, 0, sizeof meta.view.generation);
  meta.view.in_sync = 0;
  store_meta(replica, &meta);
  meta.mark++;
  store_meta(replica, &meta);
  store_meta(replica, &meta);
  assert_meta(reader, &meta);
  fixture_close(fixture);
  fixture_open(fixture);
  assert_meta(fixture->replica, &meta);

  QfsNodeMeta without = {.node = 3, .mark = 1};
  store_meta(fixture->replica, &without);
  assert_meta(reader, &without);
}

/* A rolled back transaction leaves nothing behind, in the file or in memory. */
static void rollback_leaves_nothing(Fixture *fixture, gconstpointer data) {
  QfsReplica *replica = fixture->replica;
  g_autoptr(QfsRecord) record = value_of("k", 9, 9, "no");
  QfsNodeMeta before = {.node = 3, .mark = 1}, after = {.node = 3, .mark = 2};
  g_autoptr(GBytes) bytes = g_bytes_new_static("x", 1);
  QfsChunk chunk = {.object = {1, 2}, .data = bytes};

  put_text(replica, "k", 1, 1, "yes");
  store_meta(replica, &before);
  begin(replica);
  apply(replica, record, FALSE, FALSE);
  g_assert_true(replica->ops->meta_store(replica, &after, NULL));
  g_assert_true(replica->ops->chunk_put(replica, &chunk, NULL));
  assert_text(replica, "k", "no"); /* its own transaction is visible */
  replica->ops->rollback(replica);
  replica->ops->rollback(replica);

  assert_text(replica, "k", "yes");
  assert_meta(replica, &before);
  g_assert_cmpuint(stats_of(replica).chunks, ==, 0);
  store_meta(replica, &after); /* what was rolled back is not taken for stored */
  assert_meta(replica, &after);
}

/* A reader sees what was committed, and sees it at once. */
static void reader_sees_only_committed(Fixture *fixture, gconstpointer data) {
  QfsReplica *replica = fixture->replica;
  g_autoptr(QfsReplica) reader = fixture_reader(fixture);
  g_autoptr(QfsRecord) two = value_of("k", 2, 2, "two");
  g_autoptr(QfsRecord) other = value_of("other", 2, 2, "two");

  put_text(replica, "k", 1, 1, "one");
  begin(replica);
  apply(replica, two, FALSE, FALSE);
  apply(replica, other, FALSE, FALSE);
  assert_text(reader, "k", "one");
  assert_text(reader, "other", NULL);
  g_assert_cmpuint(stats_of(reader).records, ==, 1);
  commit(replica);
  assert_text(reader, "k", "two");
  assert_text(reader, "other", "two");
  g_assert_cmpuint(stats_of(reader).records, ==, 2);
}

/* Wiping takes records, chunks and intents, and leaves the metadata. */
static void wipe_leaves_metadata(Fixture *fixture, gconstpointer data) {
  QfsReplica *replica = fixture->replica;
  QfsNodeMeta meta = {.node = 3, .generation = 4};
  g_autoptr(GPtrArray) records = new_records();
  g_autoptr(GArray) ids = g_array_new(FALSE, FALSE, sizeof(guint64));

  store_meta(replica, &meta);
  put_text(replica, "k", 1, 1, "x");
  put_chunk(replica, (QfsObjectId){1, 2}, 0, 1, 1, "x");
  g_ptr_array_add(records, value_of("k", 1, 1, "x"));
  begin(replica);
  g_assert_true(replica->ops->intent_put(replica, 5, records, NULL));
  commit(replica);
  begin(replica);
  g_assert_true(replica->ops->wipe(replica, NULL));
  commit(replica);

  assert_text(replica, "k", NULL);
  assert_chunk(replica, (QfsObjectId){1, 2}, 0, 9, "-");
  g_assert_true(replica->ops->intent_list(replica, ids, NULL));
  g_assert_cmpuint(ids->len, ==, 0);
  assert_meta(replica, &meta);
  QfsReplicaStats stats = stats_of(replica);
  g_assert_cmpuint(stats.records + stats.tombstones + stats.chunks, ==, 0);
}

/* Counters follow every kind of change, and are known at once after opening again. */
static void stats_count_rows(Fixture *fixture, gconstpointer data) {
  QfsReplica *replica = fixture->replica;
  g_autoptr(QfsRecord) tombstone = qfs_record_new_tombstone("a", 5);

  put_text(replica, "a", 1, 1, "x");
  put_text(replica, "a", 2, 2, "x");
  put_text(replica, "b", 1, 3, "x");
  put_chunk(replica, (QfsObjectId){1, 2}, 0, 1, 1, "x");
  put(replica, tombstone);
  g_assert_cmpuint(stats_of(replica).records, ==, 1);
  g_assert_cmpuint(stats_of(replica).tombstones, ==, 1);
  put_text(replica, "a", 6, 4, "back");
  g_assert_cmpuint(stats_of(replica).tombstones, ==, 0);
  begin(replica);
  g_assert_true(replica->ops->record_remove(replica, "b", NULL));
  g_assert_true(replica->ops->record_remove(replica, "absent", NULL));
  commit(replica);

  fixture_close(fixture);
  fixture_open(fixture);
  QfsReplicaStats stats = stats_of(fixture->replica);
  g_assert_cmpuint(stats.records, ==, 1);
  g_assert_cmpuint(stats.tombstones, ==, 0);
  g_assert_cmpuint(stats.chunks, ==, 1);
  g_assert_cmpuint(stats.bytes, >=, 4096);
  g_assert_cmpuint(stats.disk_total, >=, stats.disk_free);
  g_assert_cmpuint(stats.disk_total, >, 0);
}

int main(int argc, char **argv) {
  g_test_init(&argc, &argv, NULL);
  ADD("/storage/replica/every-field-survives", every_field_survives);
  ADD("/storage/replica/names-are-any-bytes", names_are_any_bytes);
  ADD("/storage/replica/older-timestamp-is-superseded", older_is_superseded);
  ADD("/storage/replica/timestamps-are-unsigned", timestamps_are_unsigned);
  ADD("/storage/replica/ties-converge-in-any-order", ties_converge);
  ADD("/storage/replica/same-version-raises-seq", same_version_raises_seq);
  ADD("/storage/replica/force-replaces-what-is-newer", force_replaces);
  ADD("/storage/replica/hints-are-removed-up-to-a-seq", hints_are_removed);
  ADD("/storage/replica/scan-follows-seq-and-key", scan_follows_seq_and_key);
  ADD("/storage/replica/scan-is-bounded-in-bytes", scan_is_bounded_in_bytes);
  ADD("/storage/replica/list-is-ordered-and-without-data", list_is_ordered);
  ADD("/storage/replica/chunk-of-greatest-version-is-found", chunk_of_greatest_version);
  ADD("/storage/replica/chunk-trim-and-remove-take-no-others", chunk_trim_and_remove);
  ADD("/storage/replica/object-drops-in-steps", object_drops_in_steps);
  ADD("/storage/replica/chunk-scan-is-ordered", chunk_scan_is_ordered);
  ADD("/storage/replica/intents-round-trip", intents_round_trip);
  ADD("/storage/replica/metadata-round-trips", meta_round_trip);
  ADD("/storage/replica/rollback-leaves-nothing", rollback_leaves_nothing);
  ADD("/storage/replica/reader-sees-only-what-was-committed", reader_sees_only_committed);
  ADD("/storage/replica/wipe-leaves-the-metadata", wipe_leaves_metadata);
  ADD("/storage/replica/stats-count-rows", stats_count_rows);
  return g_test_run();
}
