/* directed_forget.c - rows that are removed, and late copies of what removes or brings them (purge.c, tidy.c, rpc.c). */
#include "hand.h"

static gboolean is_forgotten(Hand *hand, gconstpointer key) {
  for (guint i = 1; i <= hand->nodes; i++)
    if (hand_row(hand, i, key) != NULL)
      return FALSE;
  return TRUE;
}

static void test_late_put(void) {
  /* A copy of a put arrives at node 3 when the key was deleted, and the delete is forgotten. */
  Hand *hand = hand_new(3, 3);
  hand_keep(hand, 3, QFS_MESSAGE_APPLY);
  g_assert_cmpint(hand_put(hand, "key", "value"), ==, QFS_OK);
  g_assert_cmpint(hand_remove(hand, "key"), ==, QFS_OK);
  hand_settle(hand, qfs_set_all(3));
  g_assert_cmpint(hand_wait(hand, qfs_request_new(QFS_REQUEST_GC, NULL, NULL, NULL)), ==, QFS_OK);
  hand_run_until(hand, is_forgotten, "key");
  g_assert_cmpuint(hand->kept->len, ==, 2);
  g_ptr_array_set_size(hand->kept, 1); /* the put; with the delete it would be no test */
  hand_deliver_kept(hand);
  hand_run(hand, 10000);
  g_assert_true(is_forgotten(hand, "key"));
  hand_assert_value(hand, "key", NULL);
  hand_free(hand);
}

static gboolean is_in_sync(Hand *hand, gconstpointer in_sync) {
  return qfs_coordinator_in_sync(hand->coordinator) == *(const QfsNodeSet *)in_sync;
}

static gboolean is_tidy_at_4(Hand *hand, gconstpointer unused) {
  return hand_meta(hand, 4).view.tidy == QFS_TIDY_ALL;
}

static void test_lost_on_its_way(void) {
  /* Node 4 stands in for node 3, and what is written then is lost on its way there, again and again. When it gets through,
   * node 3 is back, and rows that are no owner's have been removed. */
  Hand *hand = hand_new(5, 3);
  g_autofree char *key = hand_key_with_next(hand, "key", NODES(1, 2, 3), 3, 4);
  hand_settle(hand, qfs_set_all(5));
  hand->away = QFS_NODE_BIT(3);
  hand_crash(hand, 3);
  const QfsNodeSet others = NODES(1, 2, 4, 5), all = NODES(1, 2, 3, 4, 5);
  hand_run_until(hand, is_in_sync, &others);
  hand_lose(hand, 4, HAND_TYPE(APPLY));
  g_assert_cmpint(hand_put(hand, key, "value"), ==, QFS_OK);
  hand->away = 0;
  hand_run_until(hand, is_in_sync, &all);
  hand_run_until(hand, is_tidy_at_4, NULL);
  hand_lose(hand, 4, 0);
  hand_run(hand, HAND_SECOND);
  g_assert_null(hand_row(hand, 4, key));
  hand_assert_value(hand, key, "value");
  hand_free(hand);
}

static gboolean asked_3_to_remove(Hand *hand, gconstpointer before) {
  return hand->sent[3][QFS_MESSAGE_PURGE] > GPOINTER_TO_UINT(before);
}

static void test_late_removal(void) {
  /* Node 3 stood in for node 1, and is to give the row up. It does not hear of that before node 1 is away again, and
   * node 3 stands in for it once more. */
  Hand *hand = hand_new(5, 2);
  const QfsNodeSet others = qfs_set_all(5) & ~QFS_NODE_BIT(1);
  g_autofree char *key = hand_key_with_next(hand, "key", QFS_NODE_BIT(1) | QFS_NODE_BIT(2), 1, 3);
  g_assert_cmpint(hand_put(hand, key, "value"), ==, QFS_OK);
  hand_settle(hand, qfs_set_all(5));
  hand->away = QFS_NODE_BIT(1);
  hand_crash(hand, 1);
  hand_run_until(hand, is_in_sync, &others);
  hand_settle(hand, others);
  g_assert_nonnull(hand_row(hand, 3, key));
  const guint removals = hand->sent[3][QFS_MESSAGE_PURGE];
  hand_lose(hand, 3, HAND_TYPE(PURGE));
  hand->away = 0;
  hand_run_until(hand, asked_3_to_remove, GUINT_TO_POINTER(removals));
  hand->away = QFS_NODE_BIT(1);
  hand_crash(hand, 1);
  hand_run_until(hand, is_in_sync, &others);
  hand_settle(hand, others);
  hand_lose(hand, 3, 0);
  hand_run(hand, HAND_SECOND);
  g_assert_nonnull(hand_row(hand, 3, key));
  hand_free(hand);
}

static gboolean has_kind(Hand *hand, guint node, const char *key, QfsKind kind) {
  const QfsRecord *row = hand_row(hand, node, key);
  return row != NULL && row->kind == kind;
}

static void test_leaver(void) {
  /* The store becomes smaller. Node 5, which is above its nodes then, has a value that was deleted while it was away, until
   * its replica is removed: the delete is remembered as long. */
  Hand *hand = hand_new(5, 3);
  const QfsNodeSet others = NODES(1, 2, 3, 4);
  g_autofree char *key = hand_key(hand, "key", NODES(1, 2, 5));
  g_assert_cmpint(hand_put(hand, key, "value"), ==, QFS_OK);
  hand_settle(hand, qfs_set_all(5));
  hand->away = NODES(5);
  hand_crash(hand, 5);
  hand_run_until(hand, is_in_sync, &others);
  g_assert_cmpint(hand_remove(hand, key), ==, QFS_OK);
  hand_settle(hand, others);
  hand->remove_us = 5 * HAND_SECOND;
  qfs_coordinator_resize(hand->coordinator, 3, 3);
  QfsRequest *collect = qfs_request_new(QFS_REQUEST_GC, NULL, NULL, NULL);
  hand_submit(hand, collect);
  for (const gint64 until_us = hand->now_us + 60 * HAND_SECOND; hand_row(hand, 5, key) != NULL; hand_run(hand, 1000)) {
    g_assert_cmpint(hand->now_us, <, until_us);
    g_assert_true(has_kind(hand, 1, key, QFS_KIND_TOMBSTONE) && has_kind(hand, 2, key, QFS_KIND_TOMBSTONE));
  }
  hand_wait(hand, collect); /* it may have taken too long */
  g_assert_cmpint(hand_wait(hand, qfs_request_new(QFS_REQUEST_GC, NULL, NULL, NULL)), ==, QFS_OK);
  hand_run_until(hand, is_forgotten, key);
  hand_free(hand);
}

void directed_forget_add(void) {
  g_test_add_func("/forget/not-before-who-leaves-the-store-is-gone", test_leaver);
  g_test_add_func("/forget/late-copy-of-a-put", test_late_put);
  g_test_add_func("/forget/late-removal-of-a-row", test_late_removal);
  g_test_add_func("/forget/lost-on-its-way-to-who-held-it-then", test_lost_on_its_way);
}
