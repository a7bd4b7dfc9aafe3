/* Goal: too few in-sync nodes are left. What others have is enough, or the store says for which nodes it waits. */
#include "engine_fixture.h"

#define N_KEYS 60

typedef gboolean (*Condition)(const QfsEngineStatus *status, gconstpointer data);

static void wait_until(Fixture *f, Condition condition, gconstpointer data) {
  const gint64 until_us = g_get_monotonic_time() + DEADLINE_S * G_USEC_PER_SEC;
  for (;;) {
    QfsEngineStatus *status = qfs_engine_status(f->engine);
    const gboolean holds = condition(status, data);
    qfs_engine_status_free(status);
    if (holds)
      return;
    g_assert_cmpint(g_get_monotonic_time(), <, until_us);
    g_usleep(1000);
  }
}

static gboolean is_settled(const QfsEngineStatus *status, gconstpointer n_in_sync) {
  guint in_sync = 0;
  for (guint i = 0; i < status->nodes; i++)
    in_sync += status->node[i].in_sync ? 1 : 0;
  return in_sync == GPOINTER_TO_UINT(n_in_sync) && status->unsettled == 0 && status->quorum;
}

static gboolean waits_for(const QfsEngineStatus *status, gconstpointer nodes) {
  return g_strcmp0(status->waits_for, nodes) == 0;
}

static void put_all(Fixture *f, guint first, const char *value) {
  for (guint i = first; i < N_KEYS; i++) {
    g_autofree char *key = g_strdup_printf("k%u", i);
    g_assert_cmpint(put(f, key, value), ==, QFS_OK);
  }
}

static void assert_all(Fixture *f) {
  for (guint i = 0; i < N_KEYS; i++) {
    g_autofree char *key = g_strdup_printf("k%u", i);
    QfsStatus status;
    g_autofree char *held = get(f, key, &status);
    g_assert_cmpint(status, ==, QFS_OK);
    g_assert_cmpstr(held, ==, i < N_KEYS / 2 ? "first" : "second");
  }
}

/* Half of the keys were written while all were there, the others while nodes 1 and 3 were away. */
static void write_with_two_away(Fixture *f) {
  put_all(f, 0, "first");
  wait_until(f, is_settled, GUINT_TO_POINTER(5));
  g_assert_cmpint(node_action(f, 1, QFS_NODE_DOWN), ==, QFS_OK);
  g_assert_cmpint(node_action(f, 3, QFS_NODE_DOWN), ==, QFS_OK);
  put_all(f, N_KEYS / 2, "second");
  wait_until(f, is_settled, GUINT_TO_POINTER(3));
  close_engine(f);
}

static void lose(Fixture *f, guint node) {
  g_autofree char *name = g_strdup_printf("node-%u", node);
  g_autofree char *dir = g_build_filename(f->config.store, name, NULL);
  remove_tree(dir);
}

static void test_one_lost(Fixture *f, gconstpointer data) {
  /* Keys of nodes 1, 3 and 5 have no holder that is whole: what was settled is at 1 and 3, what came since at 2
   * and 4. No command is needed, and nothing is lost. */
  write_with_two_away(f);
  lose(f, 5);
  open_engine(f);
  wait_until(f, is_settled, GUINT_TO_POINTER(5));
  assert_all(f);
  g_assert_cmpint(put(f, "k0", "first"), ==, QFS_OK);
}

static void test_two_lost(Fixture *f, gconstpointer data) {
  /* A write that two nodes acknowledged may be lost with them: that is for the operator to accept. */
  write_with_two_away(f);
  lose(f, 4);
  lose(f, 5);
  open_engine(f);
  wait_until(f, waits_for, "nodes 4 5");
  g_assert_cmpint(put(f, "k0", "first"), ==, QFS_NO_QUORUM);
  g_assert_cmpint(node_action(f, 4, QFS_NODE_EVICT), ==, QFS_OK);
  wait_until(f, waits_for, "node 5");
  g_assert_cmpint(node_action(f, 5, QFS_NODE_EVICT), ==, QFS_OK);
  wait_until(f, waits_for, NULL);
  g_assert_cmpint(node_action(f, 4, QFS_NODE_UP), ==, QFS_OK);
  g_assert_cmpint(node_action(f, 5, QFS_NODE_UP), ==, QFS_OK);
  wait_until(f, is_settled, GUINT_TO_POINTER(5));
  assert_all(f); /* node 2 has what was written by three nodes */
}

int main(int argc, char **argv) {
  g_test_init(&argc, &argv, NULL);
  g_log_set_always_fatal(G_LOG_LEVEL_ERROR | G_LOG_LEVEL_CRITICAL);
#define ADD(path, test) g_test_add("/cluster/unite/" path, Fixture, NULL, set_up, test, tear_down)
  ADD("what-stragglers-have-is-enough", test_one_lost);
  ADD("lost-nodes-are-named-and-evicted", test_two_lost);
#undef ADD
  return g_test_run();
}
