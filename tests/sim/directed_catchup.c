/* directed_catchup.c - a node returns while much is not settled; a listing while a node lags (catchup.c, op_list.c). */
#include "hand.h"

#include <string.h>

#define N_KEYS 700

static gboolean is_with_1(Hand *hand, gconstpointer unused) { return !hand_is_without(hand, GUINT_TO_POINTER(1)); }

static gboolean is_open(Hand *hand, gconstpointer unused) { return hand->node[1].node != NULL; }

static gboolean is_settled_at_2(Hand *hand, gconstpointer unused) { return hand_meta(hand, 2).mark > 0; }

static gboolean has_first(Hand *hand, gconstpointer unused) { return hand_row(hand, 1, "key0") != NULL; }

static void test_much_missed(void) {
  /* Node 1 missed more than fits into one page, and nothing of it is settled yet when it returns. */
  Hand *hand = hand_new(3, 3);
  QfsRequest *request[N_KEYS];
  hand_take_away(hand, 1);
  hand->away = 0;
  hand_lose(hand, 1, HAND_TYPE(HELLO));
  hand_run_until(hand, is_open, NULL);
  hand_lose(hand, 2, HAND_TYPE(SYNC));
  for (guint i = 0; i < N_KEYS; i++) {
    g_autofree char *key = g_strdup_printf("key%u", i);
    request[i] = hand_put_request(key, key);
    hand_submit(hand, request[i]);
  }
  for (guint i = 0; i < N_KEYS; i++)
    g_assert_cmpint(hand_wait(hand, request[i]), ==, QFS_OK);
  hand_lose(hand, 1, HAND_TYPE(SYNC)); /* all is settled before it comes to its end */
  hand_run_until(hand, has_first, NULL);
  hand_lose(hand, 2, 0);
  hand_run_until(hand, is_settled_at_2, NULL);
  hand_run(hand, 10000);
  hand_lose(hand, 1, 0);
  hand_run_until(hand, is_with_1, NULL); /* at once, before all are compared */
  for (guint i = 0; i < N_KEYS; i++) {
    g_autofree char *key = g_strdup_printf("key%u", i);
    g_assert_nonnull(hand_row(hand, 1, key));
  }
  hand_free(hand);
}

static gboolean lists(Hand *hand, const char *dir, const char *key) {
  QfsRequest *request = qfs_request_new(QFS_REQUEST_LIST, dir, NULL, NULL);
  gboolean found = FALSE;
  request->limit = 100;
  hand_submit(hand, request);
  while (!hand_is_answered(request))
    hand_run(hand, 1000);
  g_assert_cmpint(request->status, ==, QFS_OK);
  for (guint i = 0; i < request->entries->len; i++)
    found = found || strcmp(((const QfsRecord *)request->entries->pdata[i])->key, key) == 0;
  qfs_request_free(request);
  return found;
}

static void test_listing(void) {
  /* Each node in turn misses what was acknowledged, and then a delete: a listing shows neither too little nor too much. */
  Hand *hand = hand_new(3, 3);
  QfsRequest *request = qfs_request_new(QFS_REQUEST_CREATE, "dir", NULL, NULL);
  request->kind = QFS_KIND_DIRECTORY;
  g_assert_cmpint(hand_wait(hand, request), ==, QFS_OK);
  for (guint node = 1; node <= 3; node++) {
    g_autofree char *key = g_strdup_printf("dir/key%u", node);
    hand_lose(hand, node, HAND_TYPE(APPLY));
    g_assert_cmpint(hand_put(hand, key, "value"), ==, QFS_OK);
    g_assert_true(lists(hand, "dir", key));
    hand_lose(hand, node, 0);
    hand_settle(hand, qfs_set_all(3));
    hand_lose(hand, node, HAND_TYPE(APPLY));
    g_assert_cmpint(hand_remove(hand, key), ==, QFS_OK);
    g_assert_false(lists(hand, "dir", key));
    hand_lose(hand, node, 0);
    hand_settle(hand, qfs_set_all(3));
  }
  hand_free(hand);
}

static QfsStatus act(Hand *hand, guint node, QfsNodeAction action) {
  QfsRequest *request = qfs_request_new(QFS_REQUEST_NODE, NULL, NULL, NULL);
  request->node = node;
  request->action = action;
  return hand_wait(hand, request);
}

/* Nodes 1 and 2 missed something, and are on their way back. */
static Hand *let_two_return(guint lost) {
  Hand *hand = hand_new(5, 3);
  g_assert_cmpint(act(hand, 1, QFS_NODE_DOWN), ==, QFS_OK);
  g_assert_cmpint(act(hand, 2, QFS_NODE_DOWN), ==, QFS_OK);
  for (guint i = 0; i < N_KEYS; i++) {
    g_autofree char *key = g_strdup_printf("key%u", i);
    g_assert_cmpint(hand_put(hand, key, key), ==, QFS_OK);
  }
  for (guint node = 3; node <= 5; node++)
    hand_lose(hand, node, lost);
  g_assert_cmpint(act(hand, 1, QFS_NODE_UP), ==, QFS_OK);
  g_assert_cmpint(act(hand, 2, QFS_NODE_UP), ==, QFS_OK);
  return hand;
}

static void test_down_waits(void) {
  /* Who takes two nodes up and then two others down, without waiting in between, can go on writing. */
  Hand *hand = let_two_return(0);
  g_assert_cmpint(act(hand, 3, QFS_NODE_DOWN), ==, QFS_OK);
  g_assert_cmpint(hand_put(hand, "between", "value"), ==, QFS_OK);
  g_assert_cmpint(act(hand, 5, QFS_NODE_DOWN), ==, QFS_OK);
  g_assert_cmpint(hand_put(hand, "after", "value"), ==, QFS_OK);
  hand_assert_value(hand, "key7", "key7");
  g_assert_cmpint(act(hand, 4, QFS_NODE_DOWN), ==, QFS_OK); /* nobody else is on his way: as it is wanted */
  g_assert_cmpint(hand_put(hand, "too-few", "value"), ==, QFS_NO_QUORUM);
  hand_free(hand);
}

static void test_down_is_refused(void) {
  /* Nodes that do not get on: who is needed meanwhile stays, unless he is to crash. */
  Hand *hand = let_two_return(HAND_TYPE(SCAN_RECORDS));
  g_assert_cmpint(act(hand, 3, QFS_NODE_DOWN), ==, QFS_BUSY);
  g_assert_cmpint(hand_put(hand, "after", "value"), ==, QFS_OK);
  g_assert_cmpint(act(hand, 3, QFS_NODE_CRASH), ==, QFS_OK);
  hand_free(hand);
}

void directed_catchup_add(void) {
  g_test_add_func("/catchup/down-waits-for-who-returns", test_down_waits);
  g_test_add_func("/catchup/down-is-refused-when-that-takes-long", test_down_is_refused);
  g_test_add_func("/catchup/much-is-missed-and-not-settled", test_much_missed);
  g_test_add_func("/catchup/listing-while-a-node-lags", test_listing);
}
