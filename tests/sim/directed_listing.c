/* directed_listing.c - directories that were very full: what it takes to see that they are empty (op_list.c). */
#include "hand.h"

/* Enough for a dozen pages, since these grow fourfold. */
#define NAMES 6000

static void fill_and_empty(Hand *hand, const char *dir) {
  g_assert_cmpint(hand_mkdir(hand, dir), ==, QFS_OK);
  for (guint i = 0; i < NAMES; i++) {
    g_autofree char *key = g_strdup_printf("%s/%u", dir, i);
    g_assert_cmpint(hand_put(hand, key, "value"), ==, QFS_OK);
    g_assert_cmpint(hand_remove(hand, key), ==, QFS_OK);
  }
  /* One step is well within the time that a request has, all of them are not. */
  hand->read_us = 500000;
}

static void test_rmdir(void) {
  Hand *hand = hand_new(5, 3);
  fill_and_empty(hand, "dir");
  const gint64 before_us = hand->now_us;
  g_assert_cmpint(hand_rmdir(hand, "dir"), ==, QFS_OK);
  g_assert_cmpint(hand->now_us - before_us, >, 2 * HAND_SECOND);
  hand_free(hand);
}

static void test_list(void) {
  Hand *hand = hand_new(5, 3);
  fill_and_empty(hand, "dir");
  g_assert_cmpint(hand_put(hand, "dir/last", "value"), ==, QFS_OK);
  const gint64 before_us = hand->now_us;
  QfsRequest *request = qfs_request_new(QFS_REQUEST_LIST, "dir", NULL, NULL);
  request->limit = 16;
  hand_submit(hand, request);
  while (!hand_is_answered(request))
    hand_run(hand, 1000);
  g_assert_cmpint(request->status, ==, QFS_OK);
  g_assert_cmpuint(request->entries->len, ==, 1);
  g_assert_cmpint(hand->now_us - before_us, >, 2 * HAND_SECOND);
  g_assert_cmpint(hand_wait(hand, request), ==, QFS_OK);
  hand_free(hand);
}

static void test_silence(void) {
  /* Nodes that say nothing any more are another thing: the request ends in its time. */
  Hand *hand = hand_new(5, 3);
  fill_and_empty(hand, "dir");
  hand->read_us = 60 * HAND_SECOND;
  const gint64 before_us = hand->now_us;
  g_assert_cmpint(hand_rmdir(hand, "dir"), ==, QFS_NO_QUORUM);
  g_assert_cmpint(hand->now_us - before_us, <, 3 * HAND_SECOND);
  hand_free(hand);
}

void directed_listing_add(void) {
  g_test_add_func("/listing/removal-of-what-was-very-full", test_rmdir);
  g_test_add_func("/listing/of-what-was-very-full", test_list);
  g_test_add_func("/listing/of-nodes-that-are-silent", test_silence);
}
