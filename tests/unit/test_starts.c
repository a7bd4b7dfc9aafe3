/* Goal: what a start decided about the batches and the files that it found still holds at the starts after it, whichever
 * nodes these meet. */
#include "engine_fixture.h"

#include "storage/replica.h"

static char *dir_of(Fixture *f, guint node) {
  g_autofree char *name = g_strdup_printf("node-%u", node);
  return g_build_filename(f->config.store, name, NULL);
}

static char *away_dir(Fixture *f, guint node) {
  g_autofree char *name = g_strdup_printf("away-%u", node);
  return g_build_filename(f->top, name, NULL);
}

/* The node can't be opened: a file is where its directory was. */
static void take_away(Fixture *f, guint node) {
  g_autofree char *dir = dir_of(f, node), *away = away_dir(f, node);
  g_assert_cmpint(g_rename(dir, away), ==, 0);
  g_assert_true(g_file_set_contents(dir, "", 0, NULL));
}

static void bring_back(Fixture *f, guint node) {
  g_autofree char *dir = dir_of(f, node), *away = away_dir(f, node);
  g_assert_cmpint(g_remove(dir), ==, 0);
  g_assert_cmpint(g_rename(away, dir), ==, 0);
}

static QfsReplica *open_replica(Fixture *f, guint node) {
  g_autofree char *dir = dir_of(f, node);
  g_autoptr(GError) error = NULL;
  QfsReplica *replica = qfs_sqlite_replica_open(dir, node, FALSE, TRUE, &error);
  g_assert_no_error(error);
  return replica;
}

static QfsNodeMeta meta_of(Fixture *f, guint node) {
  g_autoptr(QfsReplica) replica = open_replica(f, node);
  QfsNodeMeta meta;
  g_assert_true(replica->ops->meta_load(replica, &meta, NULL));
  return meta;
}

static void set_up_three(Fixture *f, gconstpointer data) {
  f->top = g_dir_make_tmp("qfs-starts-XXXXXX", NULL);
  f->config = (QfsEngineConfig){.nodes = 3, .replicas = 3, .timeout_ms = 2000};
  f->config.store = g_build_filename(f->top, "store", NULL);
  open_engine(f);
}

/* As a rename that was cut off leaves it: `from` is to be deleted, `to` to hold its value. */
static guint64 leave_intent(Fixture *f, guint node, const char *from, const char *to) {
  g_autoptr(QfsReplica) replica = open_replica(f, node);
  g_autoptr(QfsRecord) old = NULL;
  QfsNodeMeta meta;
  g_assert_true(replica->ops->meta_load(replica, &meta, NULL));
  g_assert_true(replica->ops->record_get(replica, from, &old, NULL) && old != NULL);
  const guint64 id = QFS_SEQ(meta.view.epoch, 1000000);
  g_autoptr(GPtrArray) records = g_ptr_array_new_with_free_func((GDestroyNotify)qfs_record_unref);
  QfsRecord *there = qfs_record_copy(old), *gone = qfs_record_new(from);
  g_free(there->key);
  there->key = g_strdup(to);
  gone->kind = QFS_KIND_TOMBSTONE;
  gone->timestamp = there->timestamp = old->timestamp + 1;
  gone->seq = there->seq = id;
  g_ptr_array_add(records, gone);
  g_ptr_array_add(records, there);
  g_assert_true(replica->ops->begin(replica, NULL) && replica->ops->intent_put(replica, id, records, NULL) &&
                replica->ops->commit(replica, TRUE, NULL));
  return id;
}

static void assert_moved(Fixture *f, gboolean moved) {
  QfsStatus status, other;
  g_autofree char *from = get(f, "from", &status), *to = get(f, "to", &other);
  g_assert_cmpint(status, ==, moved ? QFS_NOT_FOUND : QFS_OK);
  g_assert_cmpint(other, ==, moved ? QFS_OK : QFS_NOT_FOUND);
  g_assert_cmpstr(from, ==, moved ? NULL : "value");
  g_assert_cmpstr(to, ==, moved ? "value" : NULL);
}

static void test_void_intent(Fixture *f, gconstpointer data) {
  /* Only node 3 has the intent, and a start does without it. Nothing is written. The next one meets node 3, but not
   * one of the two that went on: what clients have seen since stays so. */
  g_assert_cmpint(put(f, "from", "value"), ==, QFS_OK);
  wait_settled(f, 3);
  close_engine(f);
  const guint64 id = leave_intent(f, 3, "from", "to");
  take_away(f, 3);
  open_engine(f);
  qfs_engine_close(g_steal_pointer(&f->engine), 0); /* at once: nothing is settled yet */
  const QfsNodeMeta meta = meta_of(f, 1);
  g_assert_cmpuint(meta.view.void_below, >, id);
  bring_back(f, 3);
  take_away(f, 2);
  open_engine(f);
  wait_settled(f, 2);
  assert_moved(f, FALSE);
  close_engine(f);
  bring_back(f, 2);
}

static void test_void_record(Fixture *f, gconstpointer data) {
  /* The same of a version that only node 3 has: as part of a batch it may have been undone in part by the next start. */
  g_assert_cmpint(put(f, "from", "value"), ==, QFS_OK);
  wait_settled(f, 3);
  close_engine(f);
  QfsReplica *replica = open_replica(f, 3);
  g_autoptr(QfsRecord) record = NULL;
  g_assert_true(replica->ops->record_get(replica, "from", &record, NULL) && record != NULL);
  g_autoptr(QfsRecord) gone = qfs_record_new_tombstone("from", record->timestamp + 1);
  gone->seq = QFS_SEQ(QFS_SEQ_EPOCH(record->seq), 1000000);
  QfsApplyResult result;
  g_assert_true(replica->ops->begin(replica, NULL) &&
                replica->ops->record_apply(replica, gone, FALSE, &result, NULL) &&
                replica->ops->commit(replica, TRUE, NULL));
  g_assert_cmpint(result, ==, QFS_APPLY_APPLIED);
  qfs_replica_close(replica);
  take_away(f, 3);
  open_engine(f);
  qfs_engine_close(g_steal_pointer(&f->engine), 0);
  bring_back(f, 3);
  take_away(f, 2);
  open_engine(f);
  wait_settled(f, 2);
  assert_moved(f, FALSE);
  close_engine(f);
  bring_back(f, 2);
}

static void test_intent_of_all(Fixture *f, gconstpointer data) {
  /* The same intent, but the start meets node 3: it is carried out, and stays so. */
  g_assert_cmpint(put(f, "from", "value"), ==, QFS_OK);
  wait_settled(f, 3);
  close_engine(f);
  leave_intent(f, 3, "from", "to");
  take_away(f, 2);
  open_engine(f);
  wait_settled(f, 2);
  assert_moved(f, TRUE);
  qfs_engine_close(g_steal_pointer(&f->engine), 0);
  bring_back(f, 2);
  take_away(f, 3);
  open_engine(f);
  wait_settled(f, 2);
  assert_moved(f, TRUE);
  close_engine(f);
  bring_back(f, 3);
}

static void test_generation(Fixture *f, gconstpointer data) {
  /* A replica that was opened once more shows less in a copy from before than what a majority remembers, from the
   * first view on, though nothing was written. */
  wait_settled(f, 3);
  qfs_engine_close(g_steal_pointer(&f->engine), 0);
  const QfsNodeMeta before = meta_of(f, 3);
  open_engine(f);
  qfs_engine_close(g_steal_pointer(&f->engine), 0);
  for (guint node = 1; node <= 3; node++) {
    const QfsNodeMeta now = meta_of(f, node);
    g_assert_cmpuint(now.view.epoch, >, before.view.epoch);
    g_assert_cmpuint(now.view.generation[2], >, before.generation);
  }
}

int main(int argc, char **argv) {
  g_test_init(&argc, &argv, NULL);
  g_log_set_always_fatal(G_LOG_LEVEL_ERROR | G_LOG_LEVEL_CRITICAL);
  g_test_add("/cluster/starts/intent-that-a-start-did-without", Fixture, NULL, set_up_three, test_void_intent, tear_down);
  g_test_add("/cluster/starts/version-that-a-start-did-without", Fixture, NULL, set_up_three, test_void_record, tear_down);
  g_test_add("/cluster/starts/intent-that-a-start-found", Fixture, NULL, set_up_three, test_intent_of_all, tear_down);
  g_test_add("/cluster/starts/copy-from-before-an-opening-shows-it", Fixture, NULL, set_up_three, test_generation, tear_down);
  return g_test_run();
}
