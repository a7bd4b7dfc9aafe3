/* The embedded engine as its users see it: a real store of 5 nodes and 3 replicas on disk. */
#include "engine_fixture.h"

static void assert_holds(Fixture *f, const char *key, const char *expected) {
  QfsStatus status;
  g_autofree char *value = get(f, key, &status);
  if (status != (expected != NULL ? QFS_OK : QFS_NOT_FOUND))
    g_error("get %s: %s", key, qfs_status_name(status));
  g_assert_cmpstr(value, ==, expected);
}

static QfsStatus delete (Fixture *f, const char *key) {
  QfsRequest *request = qfs_request_new(QFS_REQUEST_REMOVE, key, NULL, NULL);
  const QfsStatus status = run_request(f, request);
  qfs_request_free(request);
  return status;
}

static guint count_entries(Fixture *f, const char *dir) {
  QfsRequest *request = qfs_request_new(QFS_REQUEST_LIST, dir, NULL, NULL);
  request->limit = 1000;
  g_assert_cmpint(run_request(f, request), ==, QFS_OK);
  g_assert_false(request->more);
  const guint n = request->entries->len;
  qfs_request_free(request);
  return n;
}

/* Tests. */

static void test_put_get(Fixture *f, gconstpointer data) {
  /* What was put is got, listed, and gone after a delete. */
  g_assert_cmpint(put(f, "colour", "blue"), ==, QFS_OK);
  g_assert_cmpint(put(f, "a/b/c", "deep"), ==, QFS_OK);
  assert_holds(f, "colour", "blue");
  assert_holds(f, "a/b/c", "deep");
  g_assert_cmpint(put(f, "colour", "red"), ==, QFS_OK);
  assert_holds(f, "colour", "red");
  g_assert_cmpuint(count_entries(f, ""), ==, 2);
  g_assert_cmpint(delete (f, "colour"), ==, QFS_OK);
  assert_holds(f, "colour", NULL);
  g_assert_cmpuint(count_entries(f, ""), ==, 1);
  g_assert_cmpint(put(f, "colour/x", "no"), ==, QFS_OK);
  g_assert_cmpint(put(f, "a/b/c/d", "no"), ==, QFS_NOT_DIRECTORY);
}

static void test_restart(Fixture *f, gconstpointer data) {
  /* Data survives a close and an open, and timestamps go on rising. */
  for (guint i = 0; i < 100; i++) {
    g_autofree char *key = g_strdup_printf("k%u", i);
    g_assert_cmpint(put(f, key, key), ==, QFS_OK);
  }
  for (guint round = 0; round < 3; round++) {
    close_engine(f);
    open_engine(f);
    for (guint i = 0; i < 100; i++) {
      g_autofree char *key = g_strdup_printf("k%u", i);
      assert_holds(f, key, key);
    }
    g_assert_cmpint(put(f, "k0", "k0"), ==, QFS_OK);
    g_assert_cmpuint(count_entries(f, ""), ==, 100);
  }
}

static void test_two_down(Fixture *f, gconstpointer data) {
  /* Any two of five may be down: everything stays readable and writable, and comes back in sync. */
  for (guint i = 0; i < 50; i++) {
    g_autofree char *key = g_strdup_printf("k%u", i);
    g_assert_cmpint(put(f, key, "before"), ==, QFS_OK);
  }
  g_assert_cmpint(node_action(f, 2, QFS_NODE_DOWN), ==, QFS_OK);
  g_assert_cmpint(node_action(f, 4, QFS_NODE_CRASH), ==, QFS_OK);
  for (guint i = 0; i < 50; i++) {
    g_autofree char *key = g_strdup_printf("k%u", i);
    assert_holds(f, key, "before");
    g_assert_cmpint(put(f, key, "while"), ==, QFS_OK);
  }
  g_assert_cmpint(node_action(f, 2, QFS_NODE_UP), ==, QFS_OK);
  g_assert_cmpint(node_action(f, 4, QFS_NODE_UP), ==, QFS_OK);
  wait_settled(f, 5);
  g_assert_cmpint(node_action(f, 1, QFS_NODE_DOWN), ==, QFS_OK);
  g_assert_cmpint(node_action(f, 3, QFS_NODE_DOWN), ==, QFS_OK);
  for (guint i = 0; i < 50; i++) {
    g_autofree char *key = g_strdup_printf("k%u", i);
    assert_holds(f, key, "while");
  }
}

static void test_majority_down(Fixture *f, gconstpointer data) {
  /* With a majority down puts are refused, and work again once one node is back. */
  g_assert_cmpint(put(f, "a", "1"), ==, QFS_OK);
  for (guint node = 1; node <= 3; node++)
    g_assert_cmpint(node_action(f, node, QFS_NODE_DOWN), ==, QFS_OK);
  g_assert_cmpint(put(f, "a", "2"), ==, QFS_NO_QUORUM);
  g_assert_cmpint(node_action(f, 1, QFS_NODE_UP), ==, QFS_OK);
  wait_settled(f, 3);
  assert_holds(f, "a", "1");
  g_assert_cmpint(put(f, "a", "3"), ==, QFS_OK);
  assert_holds(f, "a", "3");
}

static void test_lost_replica(Fixture *f, gconstpointer data) {
  /* A replica that was deleted while the store was closed is rebuilt. */
  for (guint i = 0; i < 50; i++) {
    g_autofree char *key = g_strdup_printf("k%u", i);
    g_assert_cmpint(put(f, key, key), ==, QFS_OK);
  }
  wait_settled(f, 5);
  close_engine(f);
  g_autofree char *dir = g_build_filename(f->config.store, "node-3", NULL);
  remove_tree(dir);
  open_engine(f);
  wait_settled(f, 5);
  g_assert_cmpint(node_action(f, 1, QFS_NODE_DOWN), ==, QFS_OK);
  g_assert_cmpint(node_action(f, 2, QFS_NODE_DOWN), ==, QFS_OK);
  for (guint i = 0; i < 50; i++) {
    g_autofree char *key = g_strdup_printf("k%u", i);
    assert_holds(f, key, key);
  }
}

static void test_second_mount(Fixture *f, gconstpointer data) {
  /* A store in use is refused and goes on undisturbed. */
  g_autoptr(GError) error = NULL;
  g_assert_null(qfs_engine_open_embedded(&f->config, NULL, NULL, &error));
  g_assert_error(error, QFS_ENGINE_ERROR, QFS_ENGINE_ERROR_LOCKED);
  g_clear_error(&error);
  g_assert_cmpint(put(f, "a", "1"), ==, QFS_OK);
  close_engine(f);
  open_engine(f);
  assert_holds(f, "a", "1");
}

/* Until everything is where it belongs. */
static void wait_moved(Fixture *f, guint nodes, guint replicas) {
  const gint64 deadline_us = g_get_monotonic_time() + DEADLINE_S * G_USEC_PER_SEC;
  for (gboolean moved = FALSE; !moved; g_usleep(20000)) {
    g_assert_cmpint(g_get_monotonic_time(), <, deadline_us);
    QfsEngineStatus *status = qfs_engine_status(f->engine);
    moved = !status->resizing && status->nodes == nodes && status->replicas == replicas &&
            status->purge_waits_for == NULL;
    qfs_engine_status_free(status);
  }
}

static void resize(Fixture *f, guint nodes, guint replicas) {
  close_engine(f);
  f->config.nodes = nodes;
  f->config.replicas = replicas;
  open_engine(f);
}

static guint64 count_records(Fixture *f) {
  guint64 n = 0;
  wait_settled(f, f->config.nodes);
  QfsEngineStatus *status = qfs_engine_status(f->engine);
  for (guint i = 0; i < status->nodes; i++)
    n += status->node[i].replica.records;
  qfs_engine_status_free(status);
  return n;
}

static void test_resize(Fixture *f, gconstpointer data) {
  /* Other N and K: every key is right while and after the data moves, with K copies; nodes that are
   * too many leave nothing behind. */
  static const guint sizes[][2] = {{7, 5}, {5, 2}, {3, 3}, {1, 1}, {5, 3}};
  for (guint i = 0; i < 300; i++) {
    g_autofree char *key = g_strdup_printf("k%u", i);
    g_assert_cmpint(put(f, key, key), ==, QFS_OK);
  }
  for (guint n = 0; n < G_N_ELEMENTS(sizes); n++) {
    resize(f, sizes[n][0], sizes[n][1]);
    for (guint i = 0; i < 300; i++) {
      g_autofree char *key = g_strdup_printf("k%u", i);
      g_autofree char *new_key = g_strdup_printf("n%u-%u", n, i);
      assert_holds(f, key, key);
      if (i % 10 == 0)
        g_assert_cmpint(put(f, new_key, new_key), ==, QFS_OK);
    }
    wait_moved(f, sizes[n][0], sizes[n][1]);
    /* Nodes report what they hold from time to time. */
    const gint64 deadline_us = g_get_monotonic_time() + DEADLINE_S * G_USEC_PER_SEC;
    const guint64 expected = (300 + 30 * (n + 1)) * sizes[n][1];
    while (count_records(f) != expected) {
      g_assert_cmpint(g_get_monotonic_time(), <, deadline_us);
      g_usleep(20000);
    }
    g_autofree char *sixth = g_build_filename(f->config.store, "node-6", NULL);
    g_assert_cmpint(g_file_test(sixth, G_FILE_TEST_EXISTS), ==, sizes[n][0] >= 6);
  }
}

typedef struct {
  Fixture *f;
  guint number;
} Client;

static gpointer run_client(gpointer data) {
  Client *client = data;
  g_autofree char *own = g_strdup_printf("own-%u", client->number);
  for (guint i = 0; i < 200; i++) {
    g_autofree char *value = g_strdup_printf("%u", i);
    g_assert_cmpint(put(client->f, own, value), ==, QFS_OK);
    assert_holds(client->f, own, value);
    g_assert_cmpint(put(client->f, "shared", value), ==, QFS_OK);
    g_autofree char *shared = get(client->f, "shared", NULL);
    g_assert_nonnull(shared);
  }
  return NULL;
}

static void test_many_clients(Fixture *f, gconstpointer data) {
  /* Threads that put and get at once, with a node going down and up: each sees its own writes. */
  Client clients[4];
  GThread *threads[4];
  for (guint i = 0; i < 4; i++) {
    clients[i] = (Client){.f = f, .number = i};
    threads[i] = g_thread_new("client", run_client, &clients[i]);
  }
  g_assert_cmpint(node_action(f, 5, QFS_NODE_DOWN), ==, QFS_OK);
  g_assert_cmpint(node_action(f, 5, QFS_NODE_UP), ==, QFS_OK);
  for (guint i = 0; i < 4; i++)
    g_thread_join(threads[i]);
  wait_settled(f, 5);
}

/* Not a check: prints what one thread gets and puts per second. */
static void test_speed(Fixture *f, gconstpointer data) {
  enum { ROUNDS = 20000 };
  g_assert_cmpint(put(f, "k", "value"), ==, QFS_OK);
  gint64 begun_us = g_get_monotonic_time();
  for (guint i = 0; i < ROUNDS; i++)
    g_assert_cmpint(put(f, "k", "value"), ==, QFS_OK);
  g_test_message("put: %.1f us", (double)(g_get_monotonic_time() - begun_us) / ROUNDS);
  begun_us = g_get_monotonic_time();
  for (guint i = 0; i < ROUNDS; i++)
    assert_holds(f, "k", "value");
  g_test_message("get: %.1f us", (double)(g_get_monotonic_time() - begun_us) / ROUNDS);
}

int main(int argc, char **argv) {
  g_test_init(&argc, &argv, NULL);
  g_log_set_always_fatal(G_LOG_LEVEL_ERROR | G_LOG_LEVEL_CRITICAL);
#define ADD(path, test) g_test_add("/cluster/engine/" path, Fixture, NULL, set_up, test, tear_down)
  ADD("what-was-put-is-got-listed-and-deleted", test_put_get);
  ADD("data-survives-restarts", test_restart);
  ADD("two-of-five-may-be-down", test_two_down);
  ADD("majority-down-refuses-puts", test_majority_down);
  ADD("deleted-replica-is-rebuilt", test_lost_replica);
  ADD("second-mount-is-refused", test_second_mount);
  ADD("another-size-moves-the-data", test_resize);
  ADD("each-client-sees-its-own-writes", test_many_clients);
  if (g_test_perf())
    ADD("speed", test_speed);
#undef ADD
  return g_test_run();
}
