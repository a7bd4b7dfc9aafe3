/* The SQLite replica on a disk that fails, fills up, or loses power; and what it asks of a good
 * one. */
#include "fault_vfs.h"
#include "replica_fixture.h"

/* What a power cut leaves of the replica, opened. */
static Fixture after_power_cut(char *image_dir) {
  Fixture image = {.dir = image_dir};
  fault_vfs_reset();
  fixture_open(&image);
  return image;
}

/* A durable commit puts itself and all before it on stable storage, also when it is empty (S3). */
static void durable_commit_survives_power_cut(Fixture *fixture, gconstpointer data) {
  for (guint with_rows = 0; with_rows < 2; with_rows++) {
    g_autofree char *image_dir = g_dir_make_tmp("qfs-image-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(fixture->dir, "replica.db", NULL);
    g_autofree char *image_path = g_build_filename(image_dir, "replica.db", NULL);
    g_autofree char *bytes = NULL;
    gsize len;
    g_assert_true(fixture->replica->ops->checkpoint(fixture->replica, TRUE, NULL));
    g_assert_true(g_file_get_contents(path, &bytes, &len, NULL));
    g_assert_true(g_file_set_contents(image_path, bytes, (gssize)len, NULL));

    fault.image_dir = image_dir;
    put_text(fixture->replica, "first", 10 + with_rows, 1, "a new log is synced once more");
    settle(fixture->replica);
    put_text(fixture->replica, "a", 10 + with_rows, 1, with_rows ? "a1" : "a0");
    g_autoptr(QfsRecord) record = value_of("b", 10 + with_rows, 1, with_rows ? "b1" : "b0");
    begin(fixture->replica);
    if (with_rows)
      apply(fixture->replica, record, FALSE);
    guint syncs = fault.syncs;
    g_assert_true(fixture->replica->ops->commit(fixture->replica, TRUE, NULL));
    g_assert_cmpuint(fault.syncs, ==, syncs + 1);
    put_text(fixture->replica, "c", 10 + with_rows, 2, "not durable");

    Fixture image = after_power_cut(image_dir);
    assert_text(image.replica, "a", with_rows ? "a1" : "a0");
    assert_text(image.replica, "b", with_rows ? "b1" : NULL);
    fixture_close(&image);
    remove_tree(image_dir);
  }
}

/* Durable commits survive a power cut at any later moment, checkpoints and new logs included. */
static void checkpoints_lose_nothing(Fixture *fixture, gconstpointer data) {
  g_autofree char *image_dir = g_dir_make_tmp("qfs-image-XXXXXX", NULL);
  g_autofree char *text = g_strnfill(60000, 'x');
  gboolean durable = FALSE;

  fixture_close(fixture);
  remove_tree(fixture->dir);
  fault.image_dir = image_dir;
  fixture_open(fixture);
  for (guint i = 1; i <= 120; i++) {
    g_autoptr(QfsRecord) big = value_of("big", i, i, text);
    g_autofree char *number = g_strdup_printf("%u", i);
    g_autoptr(QfsRecord) small = value_of("small", i, i, number);
    begin(fixture->replica);
    apply(fixture->replica, big, FALSE);
    apply(fixture->replica, small, FALSE);
    durable = i % 10 == 0;
    g_assert_true(fixture->replica->ops->commit(fixture->replica, durable, NULL));
    g_assert_true(fixture->replica->ops->checkpoint(fixture->replica, i % 50 == 0, NULL));
    if (i % 10 != 5)
      continue;
    /* At worst the latest durable one is what is left. */
    g_autofree char *copy_dir = g_dir_make_tmp("qfs-copy-XXXXXX", NULL);
    const char *const names[] = {"replica.db", "replica.db-wal"};
    for (guint n = 0; n < 2; n++) {
      g_autofree char *from = g_build_filename(image_dir, names[n], NULL);
      g_autofree char *to = g_build_filename(copy_dir, names[n], NULL);
      g_autofree char *bytes = NULL;
      gsize len;
      if (g_file_get_contents(from, &bytes, &len, NULL))
        g_assert_true(g_file_set_contents(to, bytes, (gssize)len, NULL));
    }
    fault.image_dir = NULL;
    Fixture image = {.dir = copy_dir};
    fixture_open(&image);
    g_autoptr(QfsRecord) found = get(image.replica, "small");
    g_assert_cmpuint(found != NULL ? found->timestamp : 0, >=, i - 5);
    fixture_close(&image);
    remove_tree(copy_dir);
    fault.image_dir = image_dir;
  }
  fault_vfs_reset();
  remove_tree(image_dir);
}

/* A commit that needn't be durable waits for no disk; with sync_always each one does. */
static void commit_syncs_when_asked(Fixture *fixture, gconstpointer data) {
  put_text(fixture->replica, "k", 1, 1, "x");
  guint before = fault.syncs;
  put_text(fixture->replica, "k", 2, 2, "x");
  g_assert_cmpuint(fault.syncs, ==, before);

  fixture_close(fixture);
  fixture->replica = qfs_sqlite_replica_open(fixture->dir, 3, FALSE, TRUE, NULL);
  put_text(fixture->replica, "k", 3, 3, "x");
  before = fault.syncs;
  put_text(fixture->replica, "k", 4, 4, "x");
  g_assert_cmpuint(fault.syncs, ==, before + 1);
}

/* After a failed sync nothing goes on, be it one of ours or SQLite's; opened again, all is well. */
static void failed_sync_ends_use(Fixture *fixture, gconstpointer data) {
  for (guint64 round = 1; round <= 2; round++) {
    QfsReplica *replica = fixture->replica;
    g_autoptr(QfsRecord) record = value_of("k", 2 * round, 1, "x");
    g_autoptr(GError) error = NULL;
    g_autoptr(GError) later = NULL;

    if (round == 2) /* the log has begun: the only sync is that of the durable commit */
      put_text(replica, "k", 2 * round - 1, 1, "x");
    begin(replica);
    apply(replica, record, FALSE);
    fault.syncs_only = TRUE;
    fault.countdown = 0;
    g_assert_false(replica->ops->commit(replica, TRUE, &error));
    g_assert_error(error, QFS_REPLICA_ERROR, QFS_REPLICA_ERROR_IO);
    replica->ops->rollback(replica);
    fault_vfs_reset(); /* the next sync succeeds, as Linux has it: that proves nothing */
    g_assert_false(replica->ops->begin(replica, &later));
    g_assert_error(later, QFS_REPLICA_ERROR, QFS_REPLICA_ERROR_IO);
    g_assert_false(replica->ops->checkpoint(replica, TRUE, NULL));

    fixture_close(fixture);
    fixture_open(fixture);
    put_text(fixture->replica, "k", 2 * round + 1, 2, "y");
    assert_text(fixture->replica, "k", "y");
  }
}

/* Two keys in one transaction, durable; FALSE with `error` and rolled back when any step failed. */
static gboolean try_pair(QfsReplica *replica, guint64 timestamp, const char *text, GError **error) {
  g_autoptr(QfsRecord) a = value_of("pair/a", timestamp, timestamp, text);
  g_autoptr(QfsRecord) b = value_of("pair/b", timestamp, timestamp, text);
  QfsApplyResult result;
  gboolean ok = replica->ops->begin(replica, error) &&
                replica->ops->record_apply(replica, a, FALSE, &result, error) &&
                replica->ops->record_apply(replica, b, FALSE, &result, error) &&
                replica->ops->commit(replica, TRUE, error);
  if (!ok)
    replica->ops->rollback(replica);
  return ok;
}

/* Whichever write or sync fails, the transaction is whole or absent after opening again. */
static void any_failing_step_leaves_whole_transactions(Fixture *fixture, gconstpointer data) {
  g_autofree char *old_text = g_strnfill(9000, 'o');
  g_autofree char *new_text = g_strnfill(30000, 'n');
  guint64 timestamp = 0;
  gboolean ok = FALSE;

  for (int step = 0; !ok; step++) {
    g_autoptr(GError) error = NULL;
    g_assert_cmpint(step, <, 200);
    g_assert_true(try_pair(fixture->replica, ++timestamp, old_text, NULL));
    fault.countdown = step;
    ok = try_pair(fixture->replica, ++timestamp, new_text, &error);
    fault_vfs_reset();
    if (!ok)
      g_assert_error(error, QFS_REPLICA_ERROR, QFS_REPLICA_ERROR_IO);
    fixture_close(fixture);
    fixture_open(fixture);
    g_autoptr(QfsRecord) a = get(fixture->replica, "pair/a");
    g_autoptr(QfsRecord) b = get(fixture->replica, "pair/b");
    g_assert_cmpuint(a->timestamp, ==, b->timestamp);
    g_assert_true(a->timestamp == timestamp || (!ok && a->timestamp == timestamp - 1));
    g_assert_cmpuint(stats_of(fixture->replica).records, ==, 2);
  }
}

/* A full disk fails the transaction and nothing else: with room again, the same replica goes on. */
static void full_disk_is_told(Fixture *fixture, gconstpointer data) {
  g_autofree char *text = g_strnfill(30000, 'n');
  g_autoptr(GError) error = NULL;

  g_assert_true(try_pair(fixture->replica, 1, "small", NULL));
  fault.code = SQLITE_FULL;
  fault.countdown = 0;
  g_assert_false(try_pair(fixture->replica, 2, text, &error));
  g_assert_error(error, QFS_REPLICA_ERROR, QFS_REPLICA_ERROR_NO_SPACE);
  assert_text(fixture->replica, "pair/a", "small");
  fault_vfs_reset();
  g_assert_true(try_pair(fixture->replica, 3, text, NULL));
  assert_text(fixture->replica, "pair/b", text);
}

/* Listing long values reads none of their pages. */
static void list_reads_no_data(Fixture *fixture, gconstpointer data) {
  g_autofree char *text = g_strnfill(QFS_INLINE_MAX, 'x');
  g_autoptr(GPtrArray) out = new_records();
  gboolean more = TRUE;

  for (guint i = 0; i < 100; i++) {
    g_autofree char *key = g_strdup_printf("d/%03u", i);
    put_text(fixture->replica, key, 1, i + 1, text);
  }
  g_autoptr(QfsReplica) reader = fixture_reader(fixture);
  fault.reads = 0;
  g_assert_true(reader->ops->record_list(reader, "d", NULL, 1000, FALSE, out, &more, NULL));
  g_assert_cmpuint(out->len, ==, 100);
  g_assert_false(more);
  g_assert_cmpuint(fault.reads, <, 60); /* the data is on 1,600 pages */
}

static void faulty_set_up(Fixture *fixture, gconstpointer data) {
  fault_vfs_reset();
  fixture_set_up(fixture, data);
}
static void faulty_tear_down(Fixture *fixture, gconstpointer data) {
  fault_vfs_reset();
  fixture_tear_down(fixture, data);
}
/* A test that breaks, watches or cuts the disk. */
#define ADD_FAULTY(path, function)                                                                 \
  g_test_add(path, Fixture, NULL, faulty_set_up, function, faulty_tear_down)

int main(int argc, char **argv) {
  g_test_init(&argc, &argv, NULL);
  fault_vfs_install();
  ADD_FAULTY("/storage/replica/durable-commit-survives-power-cut",
             durable_commit_survives_power_cut);
  ADD_FAULTY("/storage/replica/checkpoints-lose-nothing-in-a-power-cut", checkpoints_lose_nothing);
  ADD_FAULTY("/storage/replica/commit-syncs-only-when-asked", commit_syncs_when_asked);
  ADD_FAULTY("/storage/replica/failed-sync-ends-use", failed_sync_ends_use);
  ADD_FAULTY("/storage/replica/any-failing-step-leaves-whole-transactions",
             any_failing_step_leaves_whole_transactions);
  ADD_FAULTY("/storage/replica/full-disk-fails-one-transaction", full_disk_is_told);
  ADD_FAULTY("/storage/replica/list-reads-no-data", list_reads_no_data);
  return g_test_run();
}
