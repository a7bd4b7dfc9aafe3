/* The SQLite replica as its callers see it: chunks, intents, metadata, transactions, counters. */
#include "replica_fixture.h"

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
  g_assert_cmpuint(a->n_unsettled, ==, b->n_unsettled);
  for (guint i = 0; i < b->n_unsettled; i++)
    g_assert_cmpmem(&a->unsettled[i], sizeof a->unsettled[i], &b->unsettled[i], sizeof b->unsettled[i]);
  g_assert_cmpuint(a->former_nodes, ==, b->former_nodes);
  g_assert_cmpuint(a->tidy, ==, b->tidy);
  g_assert_cmpuint(a->void_below, ==, b->void_below);
  g_assert_cmpuint(a->n_passed, ==, b->n_passed);
  g_assert_cmpmem(a->passed, a->n_passed * sizeof a->passed[0], b->passed, b->n_passed * sizeof b->passed[0]);
  g_assert_cmpuint(found.wiped, ==, expected->wiped);
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
  }
  meta.view.n_unsettled = QFS_VIEW_SETS_MAX;
  for (guint i = 0; i < QFS_VIEW_SETS_MAX; i++)
    meta.view.unsettled[i] = (QfsViewSet){.nodes = ~(QfsNodeSet)i, .replicas = 1 + i};
  meta.view.n_passed = QFS_VIEW_PASSED_MAX;
  for (guint i = 0; i < QFS_VIEW_PASSED_MAX; i++)
    meta.view.passed[i] = (QfsViewPassed){G_MAXUINT64 - i, i, (QfsNodeSet)1 << 63 | i, G_MAXUINT64};
  store_meta(replica, &meta);
  assert_meta(reader, &meta);

  meta.view.n_unsettled = 1;
  meta.view.n_passed = 2;
  meta.view.former_nodes = 3;
  meta.view.tidy = G_MAXUINT64;
  meta.view.void_below = G_MAXUINT64 - 1;
  meta.wiped = 5;
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
  apply(replica, record, FALSE);
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
  apply(replica, two, FALSE);
  apply(replica, other, FALSE);
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
  put_text(replica, "k", 9, 1, "x");
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
  put_text(replica, "k", 8, 1, "older"); /* than what nobody remembers */
  assert_text(replica, "k", "older");
}

/* Counters follow every kind of change, and are known at once after opening again. */
static void stats_count_rows(Fixture *fixture, gconstpointer data) {
  QfsReplica *replica = fixture->replica;
  g_autoptr(QfsRecord) tombstone = qfs_record_new_tombstone("a", 5);
  g_autofree char *big = g_strnfill(20000, 'b');

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
  /* What is in the log only is owed by the file until the log is moved. */
  put_text(replica, "big", 1, 5, big);
  g_assert_cmpuint(stats_of(replica).owed, >, 0);
  g_assert_true(replica->ops->checkpoint(replica, TRUE, NULL));
  g_assert_cmpuint(stats_of(replica).owed, ==, 0);
  begin(replica);
  g_assert_true(replica->ops->record_remove(replica, "big", NULL));
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
