/* Goal: nodes that are given up by command: who may be, what opens again, and that they return empty. */
#include "engine_fixture.h"

#define N_KEYS 60

static QfsNodeState state_of(Fixture *f, guint node) {
  QfsEngineStatus *status = qfs_engine_status(f->engine);
  const QfsNodeState state = status->node[node - 1].state;
  qfs_engine_status_free(status);
  return state;
}

static void put_all(Fixture *f, const char *value) {
  for (guint i = 0; i < N_KEYS; i++) {
    g_autofree char *key = g_strdup_printf("k%u", i);
    g_assert_cmpint(put(f, key, value), ==, QFS_OK);
  }
}

static void assert_all(Fixture *f, const char *value) {
  for (guint i = 0; i < N_KEYS; i++) {
    g_autofree char *key = g_strdup_printf("k%u", i);
    QfsStatus status;
    g_autofree char *held = get(f, key, &status);
    g_assert_cmpint(status, ==, value != NULL ? QFS_OK : QFS_NOT_FOUND);
    g_assert_cmpstr(held, ==, value);
  }
}

static char *node_dir(Fixture *f, guint node) {
  g_autofree char *name = g_strdup_printf("node-%u", node);
  return g_build_filename(f->config.store, name, NULL);
}

static void copy_replica(const char *from, const char *to) {
  static const char *const names[] = {"replica.db", "replica.db-wal", "replica.db-shm", "replica.db-redo"};
  g_assert_true(g_mkdir_with_parents(to, 0700) == 0);
  for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
    g_autofree char *source = g_build_filename(from, names[i], NULL);
    g_autofree char *target = g_build_filename(to, names[i], NULL);
    g_autofree char *bytes = NULL;
    gsize len;
    g_unlink(target);
    if (g_file_get_contents(source, &bytes, &len, NULL))
      g_assert_true(g_file_set_contents(target, bytes, (gssize)len, NULL));
  }
}

static void test_refused(Fixture *f, gconstpointer data) {
  /* A node in use, and the last one with data, are not given up; nothing changes then. */
  put_all(f, "v");
  wait_settled(f, 5);
  g_assert_cmpint(node_action(f, 2, QFS_NODE_EVICT), ==, QFS_BUSY);
  g_assert_cmpint(state_of(f, 2), ==, QFS_NODE_STATE_UP);
  g_assert_cmpint(node_action(f, 6, QFS_NODE_EVICT), ==, QFS_INVALID);
  for (guint node = 1; node <= 5; node++)
    g_assert_cmpint(node_action(f, node, QFS_NODE_DOWN), ==, QFS_OK);
  g_assert_cmpint(node_action(f, 5, QFS_NODE_EVICT), ==, QFS_INVALID);
  g_assert_cmpint(state_of(f, 5), ==, QFS_NODE_STATE_DOWN);
  for (guint node = 1; node <= 5; node++)
    g_assert_cmpint(node_action(f, node, QFS_NODE_UP), ==, QFS_OK);
  wait_settled(f, 5);
  assert_all(f, "v");
}

static void test_returns_empty(Fixture *f, gconstpointer data) {
  /* An evicted node stays closed until `up`, and then is wiped though its files were whole; the others hold
   * enough copies afterwards. */
  put_all(f, "first");
  wait_settled(f, 5);
  g_assert_cmpint(node_action(f, 2, QFS_NODE_DOWN), ==, QFS_OK);
  g_assert_cmpint(node_action(f, 2, QFS_NODE_EVICT), ==, QFS_OK);
  g_assert_cmpint(state_of(f, 2), ==, QFS_NODE_STATE_EVICTED);
  g_assert_cmpint(node_action(f, 2, QFS_NODE_EVICT), ==, QFS_OK); /* once more: the same */
  put_all(f, "second");
  g_assert_cmpint(node_action(f, 2, QFS_NODE_UP), ==, QFS_OK);
  wait_settled(f, 5);
  QfsEngineStatus *status = qfs_engine_status(f->engine);
  g_assert_cmpuint(status->count.rebuilt, ==, 1);
  qfs_engine_status_free(status);
  g_assert_cmpint(node_action(f, 1, QFS_NODE_DOWN), ==, QFS_OK);
  g_assert_cmpint(node_action(f, 3, QFS_NODE_DOWN), ==, QFS_OK);
  assert_all(f, "second");
}

static void test_remembered(Fixture *f, gconstpointer data) {
  /* The decision outlives the daemon: opened again with its old files the node is wiped. */
  put_all(f, "v");
  wait_settled(f, 5);
  g_assert_cmpint(node_action(f, 4, QFS_NODE_CRASH), ==, QFS_OK);
  g_assert_cmpint(node_action(f, 4, QFS_NODE_EVICT), ==, QFS_OK);
  close_engine(f);
  open_engine(f);
  wait_settled(f, 5);
  QfsEngineStatus *status = qfs_engine_status(f->engine);
  g_assert_cmpuint(status->count.rebuilt, ==, 1);
  qfs_engine_status_free(status);
  assert_all(f, "v");
}

static guint wait_collected(Fixture *f) {
  QfsRequest *request = qfs_request_new(QFS_REQUEST_GC, NULL, NULL, NULL);
  g_assert_cmpint(run_request(f, request), ==, QFS_OK);
  qfs_request_free(request);
  const gint64 until_us = g_get_monotonic_time() + DEADLINE_S * G_USEC_PER_SEC;
  for (;;) {
    QfsEngineStatus *status = qfs_engine_status(f->engine);
    const gboolean running = status->purge_running;
    const guint64 removed = status->purge_last_removed;
    qfs_engine_status_free(status);
    if (!running)
      return (guint)removed;
    g_assert_cmpint(g_get_monotonic_time(), <, until_us);
    g_usleep(1000);
  }
}

static void test_collecting(Fixture *f, gconstpointer data) {
  /* Tombstones are not kept for an evicted node, and what it still has of the deleted keys never comes back. */
  put_all(f, "v");
  wait_settled(f, 5);
  g_assert_cmpint(node_action(f, 3, QFS_NODE_DOWN), ==, QFS_OK);
  g_autofree char *dir = node_dir(f, 3);
  g_autofree char *aside = g_strconcat(dir, ".aside", NULL);
  copy_replica(dir, aside);
  for (guint i = 0; i < N_KEYS; i++) {
    g_autofree char *key = g_strdup_printf("k%u", i);
    QfsRequest *request = qfs_request_new(QFS_REQUEST_REMOVE, key, NULL, NULL);
    g_assert_cmpint(run_request(f, request), ==, QFS_OK);
    qfs_request_free(request);
  }
  wait_settled(f, 4);
  QfsEngineStatus *status = qfs_engine_status(f->engine);
  g_assert_nonnull(status->purge_waits_for);
  qfs_engine_status_free(status);
  g_assert_cmpint(node_action(f, 3, QFS_NODE_EVICT), ==, QFS_OK);
  g_assert_cmpuint(wait_collected(f), >=, N_KEYS);
  copy_replica(aside, dir);
  g_assert_cmpint(node_action(f, 3, QFS_NODE_UP), ==, QFS_OK);
  wait_settled(f, 5);
  assert_all(f, NULL);
  g_assert_cmpint(node_action(f, 1, QFS_NODE_DOWN), ==, QFS_OK);
  g_assert_cmpint(node_action(f, 2, QFS_NODE_DOWN), ==, QFS_OK);
  assert_all(f, NULL);
}

int main(int argc, char **argv) {
  g_test_init(&argc, &argv, NULL);
  g_log_set_always_fatal(G_LOG_LEVEL_ERROR | G_LOG_LEVEL_CRITICAL);
#define ADD(path, test) g_test_add("/cluster/evict/" path, Fixture, NULL, set_up, test, tear_down)
  ADD("nodes-in-use-and-the-last-one-are-not-given-up", test_refused);
  ADD("evicted-node-returns-empty", test_returns_empty);
  ADD("the-decision-outlives-the-daemon", test_remembered);
  ADD("tombstones-do-not-wait-for-evicted-nodes", test_collecting);
#undef ADD
  return g_test_run();
}
