/* directed_sizes.c - the store has other N or K since a node was away (resize.c, recovery.c, catchup.c). */
#include "hand.h"

static gboolean are_3_left(Hand *hand, gconstpointer unused) {
  return qfs_coordinator_nodes(hand->coordinator) == 3 && !hand_meta(hand, 4).has_view && !hand_meta(hand, 5).has_view &&
         qfs_coordinator_is_quiet(hand->coordinator);
}

static gboolean is_serving(Hand *hand, gconstpointer unused) { return qfs_coordinator_is_serving(hand->coordinator); }

static void test_straggler_first(void) {
  /* Node 2 was away since the store had five nodes, and is the first to answer a start that knows of three. The others are
   * waited for. */
  Hand *hand = hand_new(5, 3);
  g_assert_cmpint(hand_put(hand, "key", "value"), ==, QFS_OK);
  hand_settle(hand, qfs_set_all(5));
  hand->away = NODES(2);
  hand_crash(hand, 2);
  hand_settle(hand, NODES(1, 3, 4, 5));
  qfs_coordinator_resize(hand->coordinator, 3, 2);
  hand_run_until(hand, are_3_left, NULL);
  hand_kill(hand);
  hand->away = 0;
  hand->config.nodes = 3;
  hand->config.replicas = 2;
  hand_lose(hand, 1, HAND_ALL);
  hand_lose(hand, 3, HAND_ALL);
  hand_begin(hand);
  hand_run(hand, 5 * HAND_SECOND);
  g_assert_null(qfs_coordinator_failure(hand->coordinator));
  hand_lose(hand, 1, 0);
  hand_lose(hand, 3, 0);
  hand_run_until(hand, is_serving, NULL);
  hand_settle(hand, qfs_set_all(3));
  hand_assert_value(hand, "key", "value");
  hand_free(hand);
}

static gboolean has_3_replicas(Hand *hand, gconstpointer unused) { return hand_meta(hand, 1).view.replicas == 3; }

static gboolean is_with_3(Hand *hand, gconstpointer unused) {
  return qfs_set_has(qfs_coordinator_in_sync(hand->coordinator), 3);
}

static gboolean is_stored_at_1(Hand *hand, gconstpointer in_sync) {
  return hand_meta(hand, 1).view.in_sync == *(const QfsNodeSet *)in_sync;
}

static void leave(Hand *hand, guint node, QfsNodeSet others) {
  hand->away |= QFS_NODE_BIT(node);
  hand_crash(hand, node);
  hand_run_until(hand, is_stored_at_1, &others);
}

static void test_other_replicas(void) {
  /* The store has more replicas since node 3 left: it must hold keys that it never had. It returns when those that are left
   * in sync are too few to be whole from, and others are on their way back, too. */
  Hand *hand = hand_new(7, 2);
  const QfsNodeSet others = NODES(1, 2, 4, 5, 6, 7);
  leave(hand, 3, others);
  qfs_coordinator_resize(hand->coordinator, 7, 3);
  hand_run_until(hand, has_3_replicas, NULL);
  hand->replicas = 3;
  g_autofree char *key = hand_key_with_next(hand, "key", NODES(2, 3, 6), 3, 7);
  g_assert_cmpint(hand_put(hand, key, "value"), ==, QFS_OK);
  hand_settle(hand, others);
  leave(hand, 6, NODES(1, 2, 4, 5, 7));
  leave(hand, 7, NODES(1, 2, 4, 5));
  hand_kill(hand);
  hand->away = QFS_NODE_BIT(2);
  g_assert_true(hand_start(hand));
  hand_run_until(hand, is_with_3, NULL);
  g_assert_nonnull(hand_row(hand, 3, key));
  hand_assert_value(hand, key, "value");
  hand_free(hand);
}

static gboolean has_2_replicas(Hand *hand, gconstpointer unused) { return hand_meta(hand, 1).view.replicas == 2; }

static gboolean scans_records_of_1(Hand *hand, gconstpointer before) {
  return hand->sent[1][QFS_MESSAGE_SCAN_RECORDS] > GPOINTER_TO_UINT(before);
}

static void test_more_again(void) {
  /* Fewer replicas, and then more again, before node 1 has been asked to remove the row that it does not own any more. It
   * will own it again, and the others rely on that it has been given it. */
  Hand *hand = hand_new(5, 3);
  hand->replicas = 2;
  g_autofree char *key = hand_key_with_next(hand, "key", NODES(2, 3), 2, 1); /* node 1 is the third */
  g_autofree char *other = hand_key(hand, "other", NODES(1, 2));
  g_assert_cmpint(hand_put(hand, key, "value"), ==, QFS_OK);
  hand_settle(hand, qfs_set_all(5));
  qfs_coordinator_resize(hand->coordinator, 5, 2);
  hand_run_until(hand, has_2_replicas, NULL);
  hand_lose_replies(hand, 1, HAND_TYPE(SCAN_RECORDS));
  hand_run_until(hand, scans_records_of_1, GUINT_TO_POINTER(hand->sent[1][QFS_MESSAGE_SCAN_RECORDS]));
  qfs_coordinator_resize(hand->coordinator, 5, 3);
  const guint chunks = hand->sent[1][QFS_MESSAGE_SCAN_CHUNKS];
  while (hand->sent[1][QFS_MESSAGE_SCAN_CHUNKS] == chunks) { /* the move has not begun; node 1 goes on answering */
    g_assert_cmpint(hand_put(hand, other, "value"), ==, QFS_OK);
    hand_run(hand, 50000);
  }
  hand_lose(hand, 1, HAND_TYPE(PURGE));
  hand_lose(hand, 5, HAND_TYPE(SYNC)); /* the move does not come to its end */
  hand_lose_replies(hand, 1, 0);
  hand_run(hand, 300000);
  hand_lose(hand, 1, 0);
  hand_run(hand, 300000);
  hand_lose(hand, 5, 0);
  hand->replicas = 3;
  hand_run_until(hand, has_3_replicas, NULL);
  hand_settle(hand, qfs_set_all(5));
  g_assert_nonnull(hand_row(hand, 1, key));
  hand_free(hand);
}

void directed_sizes_add(void) {
  g_test_add_func("/sizes/fewer-replicas-and-more-again", test_more_again);
  g_test_add_func("/sizes/more-replicas-since-a-node-left", test_other_replicas);
  g_test_add_func("/sizes/who-knows-of-more-nodes-answers-first", test_straggler_first);
}
