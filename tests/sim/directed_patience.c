/* directed_patience.c - nodes fall silent, and the others are slow: what the clock may end and what not (patience.c). */
#include "hand.h"

#define MS 1000

/* Nodes 4 and 5 are cut off. Whoever asks for a write of `key` needs another view: nodes 1, 4 and 5 own it. */
static Hand *cut_off_two(char **key) {
  Hand *hand = hand_new(5, 3);
  *key = hand_key(hand, "key", NODES(1, 4, 5));
  g_assert_cmpint(hand_put(hand, *key, "old"), ==, QFS_OK);
  hand_settle(hand, qfs_set_all(5));
  hand_lose(hand, 4, HAND_ALL);
  hand_lose(hand, 5, HAND_ALL);
  return hand;
}

static QfsRequest *submit_put(Hand *hand, const char *key) {
  QfsRequest *request = hand_put_request(key, "new");
  hand_submit(hand, request);
  return request;
}

static void test_slow_view(void) {
  /* Each of the two rounds of the view takes nearly as long as a node may be silent: the write outlasts its deadline. */
  g_autofree char *key = NULL;
  Hand *hand = cut_off_two(&key);
  hand_slow_down(hand, 3, HAND_TYPE(PROMISE) | HAND_TYPE(VIEW), 900 * MS);
  const gint64 before_us = hand->now_us;
  g_assert_cmpint(hand_put(hand, key, "new"), ==, QFS_OK);
  g_assert_cmpint(hand->now_us - before_us, >, 2 * HAND_SECOND);
  g_assert_cmpint(hand->now_us - before_us, <, 4 * HAND_SECOND);
  hand_assert_value(hand, key, "new");
  hand_free(hand);
}

static gboolean was_pinged(Hand *hand, gconstpointer times) {
  return hand->sent[3][QFS_MESSAGE_PING] > *(const guint *)times;
}

/* Node 3 owes an answer, and nothing else, for so long from now on. */
static void let_stall(Hand *hand, gint64 time_us) {
  const guint times = hand->sent[3][QFS_MESSAGE_PING];
  hand_lose(hand, 3, HAND_ALL); /* it is sent again */
  hand_run_until(hand, was_pinged, &times);
  hand_lose(hand, 3, 0);
  hand_stall(hand, 3, time_us);
}

static void test_late_answer(void) {
  /* Node 3 was late once: nobody is given up then, and the silence of two is known. Those who need the others wait. */
  g_autofree char *key = NULL;
  Hand *hand = cut_off_two(&key);
  let_stall(hand, 900 * MS); /* what else it is asked meanwhile is answered as late */
  QfsRequest *first = submit_put(hand, key);
  hand_run(hand, 1400 * MS);
  hand_slow_down(hand, 3, HAND_TYPE(PING), 300 * MS);
  hand_run(hand, 150 * MS);
  g_assert_false(hand_is_answered(first));
  g_assert_cmpint(hand_put(hand, key, "newer"), ==, QFS_OK);
  g_assert_cmpint(hand_wait(hand, first), ==, QFS_OK);
  hand_assert_value(hand, key, "newer");
  hand_free(hand);
}

static void test_silent_for_long(void) {
  /* Three are silent, one of them for 1.8 s only. Who came before that was known waits, who comes then is refused. */
  g_autofree char *key = NULL;
  Hand *hand = cut_off_two(&key);
  let_stall(hand, 1800 * MS);
  QfsRequest *first = submit_put(hand, "first");
  hand_run(hand, 1400 * MS);
  hand->read_us = 200 * MS; /* it is planned when the silence is known */
  QfsRequest *second = submit_put(hand, key);
  hand_run(hand, 250 * MS);
  hand->read_us = 0;
  g_assert_false(hand_is_answered(second));
  const gint64 before_us = hand->now_us;
  g_assert_cmpint(hand_put(hand, "refused", "new"), ==, QFS_NO_QUORUM);
  g_assert_cmpint(hand->now_us - before_us, <, 1 * MS);
  g_assert_cmpint(hand_wait(hand, second), ==, QFS_OK);
  g_assert_cmpint(hand_wait(hand, first), ==, QFS_OK);
  hand_free(hand);
}

static void test_no_majority(void) {
  /* Three of five are cut off: the clock ends what was sent, and what comes when it is known ends at once. */
  g_autofree char *key = NULL;
  Hand *hand = cut_off_two(&key);
  hand_lose(hand, 3, HAND_ALL);
  g_autofree char *other = hand_key(hand, "other", NODES(3, 4, 5));
  QfsRequest *request = submit_put(hand, other);
  gint64 before_us = hand->now_us;
  g_assert_cmpint(hand_put(hand, key, "new"), ==, QFS_UNKNOWN);
  g_assert_cmpint(hand_wait(hand, request), ==, QFS_UNKNOWN);
  g_assert_cmpint(hand->now_us - before_us, >=, 2 * HAND_SECOND);
  g_assert_cmpint(hand->now_us - before_us, <, 2 * HAND_SECOND + 1 * MS);
  before_us = hand->now_us;
  g_assert_cmpint(hand_put(hand, "more", "new"), ==, QFS_NO_QUORUM);
  g_assert_cmpint(hand->now_us - before_us, <, 1 * MS);
  hand_free(hand);
}

static void test_stuck_view(void) {
  /* The third is cut off, too, when the view begins: nobody answers any more, and nobody is waited for. */
  g_autofree char *key = NULL;
  Hand *hand = cut_off_two(&key);
  hand_lose(hand, 3, HAND_TYPE(PROMISE));
  const gint64 before_us = hand->now_us;
  g_assert_cmpint(hand_put(hand, key, "new"), ==, QFS_UNKNOWN);
  g_assert_cmpint(hand->now_us - before_us, >=, 2 * HAND_SECOND);
  g_assert_cmpint(hand->now_us - before_us, <, 2500 * MS);
  hand_free(hand);
}

void directed_patience_add(void) {
  g_test_add_func("/patience/view-that-takes-longer-than-the-deadline", test_slow_view);
  g_test_add_func("/patience/answer-that-was-late", test_late_answer);
  g_test_add_func("/patience/silence-that-ends-before-the-deadline", test_silent_for_long);
  g_test_add_func("/patience/cut-off-from-a-majority", test_no_majority);
  g_test_add_func("/patience/view-that-can-not-come", test_stuck_view);
}
