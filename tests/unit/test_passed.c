/* Goal: what the view says of starts that did not meet all nodes stays small, and says no less than it did. */
#include "cluster/private.h"

#define NODES 12

static QfsCoordinator *coordinator_new(void) {
  QfsCoordinator *c = g_new0(QfsCoordinator, 1);
  c->n_peers = NODES;
  c->view.nodes = NODES;
  c->view.replicas = 3;
  c->view.unsettled[c->view.n_unsettled++] = (QfsViewSet){qfs_set_all(NODES), 3};
  return c;
}

/* A start in `epoch` that met all but these nodes; the view with its mark is in force. */
static void start(QfsCoordinator *c, guint64 epoch, QfsNodeSet missing) {
  QfsView view = c->view;
  c->first_epoch = epoch;
  c->seen = qfs_set_all(NODES) & ~missing;
  qfs_passed_note(c, &view);
  c->view = view;
}

static QfsNodeSet pair(guint a, guint b) { return QFS_NODE_BIT(a) | QFS_NODE_BIT(b); }

/* Of keys that both of these nodes hold: one. */
static guint64 hash_at(const QfsCoordinator *c, QfsNodeSet nodes) {
  guint64 hash = 1;
  while ((nodes & ~qfs_set_holders(&c->view.unsettled[0], hash)) != 0)
    hash++;
  return hash;
}

static void test_keys(void) {
  /* It speaks against what came before it, of keys that it could account for. */
  g_autofree QfsCoordinator *c = coordinator_new();
  const guint64 blocked = hash_at(c, pair(1, 2)), served = hash_at(c, pair(3, 4));
  start(c, 7, pair(1, 2));
  g_assert_cmpuint(qfs_passed_over(c, QFS_SEQ(6, 9), served), ==, QFS_SEQ(7, 0));
  g_assert_cmpuint(qfs_passed_over(c, QFS_SEQ(7, 1), served), ==, 0);
  g_assert_cmpuint(qfs_passed_over(c, QFS_SEQ(6, 9), blocked), ==, 0);
}

static void test_implied(void) {
  /* A start that met no fewer takes the place of an earlier one, and not one that met others. */
  g_autofree QfsCoordinator *c = coordinator_new();
  const guint64 of_first = hash_at(c, pair(3, 4));
  start(c, 7, pair(1, 2));
  start(c, 8, pair(1, 2));
  g_assert_cmpuint(c->view.n_passed, ==, 1);
  g_assert_cmpuint(qfs_passed_over(c, QFS_SEQ(7, 9), of_first), ==, QFS_SEQ(8, 0));
  start(c, 9, pair(3, 4));
  g_assert_cmpuint(c->view.n_passed, ==, 2);
  g_assert_cmpuint(qfs_passed_over(c, QFS_SEQ(6, 9), of_first), ==, QFS_SEQ(8, 0));
  g_assert_cmpuint(qfs_passed_over(c, QFS_SEQ(8, 9), of_first), ==, 0);
  c->view.unsettled[c->view.n_unsettled++] = (QfsViewSet){pair(5, 6) | QFS_NODE_BIT(7), 3};
  start(c, 10, pair(5, 6)); /* what was written since may be hidden from it */
  g_assert_cmpuint(c->view.n_passed, ==, 3);
}

static void test_given_up(void) {
  /* What only evicted nodes had is lost; it is not the same as to have met them. */
  g_autofree QfsCoordinator *c = coordinator_new();
  c->peer[1].evicted = c->peer[2].evicted = TRUE;
  start(c, 7, pair(1, 2) | QFS_NODE_BIT(3));
  g_assert_cmpuint(qfs_passed_over(c, QFS_SEQ(6, 9), hash_at(c, pair(1, 2) | QFS_NODE_BIT(4))), ==, QFS_SEQ(7, 0));
  g_assert_cmpuint(qfs_passed_over(c, QFS_SEQ(6, 9), hash_at(c, pair(1, 3))), ==, 0);
}

static void test_too_many(void) {
  /* More starts than the view can name, each without two others: then all keys are blocked, and no entry is lost. */
  g_autofree QfsCoordinator *c = coordinator_new();
  guint64 epoch = 1;
  for (guint a = 1; a <= NODES; a++)
    for (guint b = a + 1; b <= NODES && epoch <= QFS_VIEW_PASSED_MAX; b++, epoch++)
      start(c, epoch, pair(a, b));
  g_assert_cmpuint(c->view.n_passed, ==, QFS_VIEW_PASSED_MAX);
  const QfsView before = c->view;
  start(c, epoch, pair(NODES - 1, NODES));
  g_assert_cmpuint(c->view.n_passed, ==, QFS_VIEW_PASSED_MAX);
  g_assert_cmpmem(c->view.passed, sizeof before.passed, before.passed, sizeof before.passed);
  c->blocked = TRUE; /* as it is when such an entry is made */
  for (guint64 hash = 1; hash < 100; hash++)
    g_assert_true(qfs_is_blocked(c, hash));
}

static void test_settled(void) {
  /* When all is settled one number says it. */
  g_autofree QfsCoordinator *c = coordinator_new();
  start(c, 7, pair(1, 2));
  c->first_epoch = 8;
  qfs_passed_settled(c, &c->view);
  g_assert_cmpuint(c->view.n_passed, ==, 0);
  g_assert_cmpuint(c->view.void_below, ==, QFS_SEQ(8, 0));
}

int main(int argc, char **argv) {
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/cluster/passed/of-keys-that-were-accounted-for", test_keys);
  g_test_add_func("/cluster/passed/a-later-one-takes-its-place", test_implied);
  g_test_add_func("/cluster/passed/evicted-nodes", test_given_up);
  g_test_add_func("/cluster/passed/too-many", test_too_many);
  g_test_add_func("/cluster/passed/settled", test_settled);
  return g_test_run();
}
