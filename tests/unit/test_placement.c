/* test_placement.c - rendezvous hashing. */
#include "cluster/placement.h"

static void test_size(void) {
  g_test_message("goal: exactly K holders, all of the set; the whole set when it is smaller");
  for (guint64 hash = 1; hash < 2000; hash++) {
    QfsNodeSet all = qfs_set_all(7);
    QfsNodeSet holders = qfs_placement_holders(hash * 7919, all, 4);
    g_assert_cmpuint(qfs_set_size(holders), ==, 4);
    g_assert_cmpuint(holders & ~all, ==, 0);
    g_assert_cmpuint(qfs_placement_holders(hash, 0x15, 4), ==, 0x15);
  }
  g_assert_cmpuint(qfs_placement_holders(5, 0, 3), ==, 0);
  g_assert_cmpuint(qfs_set_all(64), ==, G_MAXUINT64);
}

static void test_minimal_change(void) {
  g_test_message("goal: without a node, only its keys get another holder, one each");
  for (guint64 hash = 1; hash < 2000; hash++) {
    QfsNodeSet all = qfs_set_all(5), without = all & ~QFS_NODE_BIT(3);
    QfsNodeSet before = qfs_placement_holders(hash * 104729, all, 3);
    QfsNodeSet after = qfs_placement_holders(hash * 104729, without, 3);
    if (!qfs_set_has(before, 3))
      g_assert_cmpuint(before, ==, after);
    else
      g_assert_cmpuint(qfs_set_size(before & after), ==, 2);
  }
}

static void test_order(void) {
  g_test_message("goal: the holders are the first K of the rendezvous order");
  guint order[QFS_NODES_MAX];
  for (guint64 hash = 1; hash < 500; hash++) {
    guint n = qfs_placement_order(hash, qfs_set_all(9), order);
    g_assert_cmpuint(n, ==, 9);
    for (guint k = 1; k <= 9; k++) {
      QfsNodeSet first = 0;
      for (guint i = 0; i < k; i++)
        first |= QFS_NODE_BIT(order[i]);
      g_assert_cmpuint(first, ==, qfs_placement_holders(hash, qfs_set_all(9), k));
    }
  }
}

static void test_balance(void) {
  g_test_message("goal: the keys of one directory spread evenly: within a tenth of the mean over 20,000 keys");
  guint count[6] = {0};
  for (guint i = 0; i < 20000; i++) {
    g_autofree char *key = g_strdup_printf("dir/file-%u", i);
    QfsNodeSet holders = qfs_placement_holders(qfs_key_hash(key), qfs_set_all(5), 3);
    for (guint node = 1; node <= 5; node++)
      count[node] += qfs_set_has(holders, node);
  }
  for (guint node = 1; node <= 5; node++) {
    g_assert_cmpuint(count[node], >, 12000 * 9 / 10);
    g_assert_cmpuint(count[node], <, 12000 * 11 / 10);
  }
}

static void test_stable(void) {
  g_test_message("goal: placement never changes between versions: data would be looked for elsewhere");
  static const QfsNodeSet expected[] = {0x0d, 0x07, 0x1c, 0x0b};
  for (guint64 i = 0; i < G_N_ELEMENTS(expected); i++)
    g_assert_cmpuint(qfs_placement_holders((i + 1) * 1000003, qfs_set_all(5), 3), ==, expected[i]);
}

int main(int argc, char **argv) {
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/cluster/placement/a-key-has-exactly-K-holders", test_size);
  g_test_add_func("/cluster/placement/losing-a-node-moves-only-its-keys", test_minimal_change);
  g_test_add_func("/cluster/placement/holders-are-the-head-of-the-order", test_order);
  g_test_add_func("/cluster/placement/a-directory-spreads-over-all-nodes", test_balance);
  g_test_add_func("/cluster/placement/it-never-changes", test_stable);
  return g_test_run();
}
