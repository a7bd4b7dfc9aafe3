/* directed_starts.c - what a start decides about what it finds, and which nodes the next one meets (recovery.c, unite.c). */
#include "hand.h"

#include <string.h>

static gboolean has_lost_name(Hand *hand, gconstpointer key) {
  const QfsRecord *row = hand_row(hand, 1, key);
  return row != NULL && row->kind == QFS_KIND_TOMBSTONE;
}

static gboolean has_view(Hand *hand, gconstpointer in_sync) {
  return qfs_coordinator_in_sync(hand->coordinator) == *(const QfsNodeSet *)in_sync;
}

/* The node leaves S, and returns, but its catching up does not come to its end. */
static void leave_and_join(Hand *hand, guint node, QfsNodeSet others) {
  const guint before = hand->sent[node][QFS_MESSAGE_SYNC];
  hand->away = QFS_NODE_BIT(node);
  hand_crash(hand, node);
  hand_run_until(hand, has_view, &others);
  hand->away = 0;
  hand_lose(hand, node, HAND_TYPE(SYNC));
  while (hand->sent[node][QFS_MESSAGE_SYNC] == before)
    hand_run(hand, 1000);
}

/* Node 1 is left alone with the intent of a rename and its half of it: it was catching up then, and the others lost it. */
static void leave_half_at_1(Hand *hand, const char *from, const char *to) {
  const QfsNodeSet others = qfs_set_all(hand->nodes) & ~QFS_NODE_BIT(1);
  g_assert_cmpint(hand_put(hand, from, "value"), ==, QFS_OK);
  hand_settle(hand, qfs_set_all(hand->nodes));
  leave_and_join(hand, 1, others);
  g_assert_cmpint(hand_rename(hand, from, to), ==, QFS_OK);
  hand_run_until(hand, has_lost_name, from);
  g_assert_cmpuint(hand_intents(hand, 1), ==, 1);
  hand_lose(hand, 1, 0);
  hand_lose_power(hand, QFS_NODE_BIT(1));
}

/* Nodes 5 to 7 stay away. */
static void cut_off_while_undoing(Hand *hand, const char *from, const char *to) {
  leave_half_at_1(hand, from, to);
  hand->away = NODES(5, 6, 7);
  hand_lose(hand, 1, HAND_TYPE(REMOVE));
  g_assert_true(hand_start(hand));
  hand_run(hand, 100000);
  hand_kill(hand);
  hand_lose(hand, 1, 0);
}

static void test_abandoned_while_blocked(void) {
  /* A start meets node 1 and does without its batch; it can't say so for good, because three nodes are missing. It is cut
   * off while node 1 catches up, and the next one meets the same. */
  Hand *hand = hand_new(7, 5);
  g_autofree char *from = hand_key(hand, "from", NODES(1, 2, 3, 4, 5));
  g_autofree char *to = hand_key(hand, "to", NODES(2, 3, 4, 5, 6));
  cut_off_while_undoing(hand, from, to);
  g_assert_true(hand_start(hand));
  hand_assert_value(hand, from, "value");
  hand->away = 0;
  hand_settle(hand, qfs_set_all(7));
  hand_assert_value(hand, from, "value");
  hand_assert_value(hand, to, NULL);
  g_assert_cmpuint(hand_intents(hand, 1), ==, 0);
  hand_free(hand);
}

static void act(Hand *hand, guint node, QfsNodeAction action) {
  QfsRequest *request = qfs_request_new(QFS_REQUEST_NODE, NULL, NULL, NULL);
  request->node = node;
  request->action = action;
  g_assert_cmpint(hand_wait(hand, request), ==, QFS_OK);
}

/* What they have is given up; they are there again, with nothing. */
static void evict_and_replace(Hand *hand, QfsNodeSet nodes) {
  for (QfsNodeSet rest = nodes; rest != 0; rest &= rest - 1)
    act(hand, (guint)__builtin_ctzll(rest) + 1, QFS_NODE_EVICT);
  hand->away = 0;
  for (QfsNodeSet rest = nodes; rest != 0; rest &= rest - 1)
    act(hand, (guint)__builtin_ctzll(rest) + 1, QFS_NODE_UP);
}

/* Nodes 2 and 1 have left S, and are told what the others do; then "second", a name of a file, is removed. Node 1 is told of
 * that, and carries nothing out. */
static Hand *leave_intent_at_1(void) {
  Hand *hand = hand_new(5, 3);
  g_assert_cmpint(hand_put(hand, "file", "value"), ==, QFS_OK);
  g_assert_cmpint(hand_link(hand, "file", "second"), ==, QFS_OK);
  hand_settle(hand, qfs_set_all(5));
  leave_and_join(hand, 2, NODES(1, 3, 4, 5));
  g_assert_cmpint(hand_put(hand, "later", "x"), ==, QFS_OK); /* node 1 leaves after node 2 */
  hand_run(hand, HAND_SECOND);
  leave_and_join(hand, 1, NODES(3, 4, 5));
  hand_lose(hand, 1, HAND_TYPE(SYNC) | HAND_TYPE(COMMIT));
  g_assert_cmpint(hand_remove(hand, "second"), ==, QFS_OK);
  hand_run(hand, 10000);
  g_assert_cmpuint(hand_intents(hand, 1), ==, 1);
  return hand;
}

/* A life without node 1; then nodes 1 and 2 are all that is left. */
static void lose_all_in_sync(Hand *hand, const char *new_name) {
  hand_lose(hand, 1, 0);
  hand->away = QFS_NODE_BIT(1);
  g_assert_true(hand_start(hand));
  hand_run(hand, HAND_SECOND);
  g_assert_cmpint(hand_link(hand, "file", new_name), ==, QFS_OK);
  hand_run(hand, HAND_SECOND);
  hand_kill(hand);
  g_assert_cmpuint(hand_meta(hand, 2).view.void_below, >, 0);
  hand_lose(hand, 2, 0);
  hand->away = NODES(3, 4, 5);
  g_assert_false(hand_start(hand));
  evict_and_replace(hand, NODES(3, 4, 5));
  hand_settle(hand, qfs_set_all(5));
}

static void test_abandoned_at_straggler(void) {
  /* The others lost the batch, and the life without node 1 did without it. Node 1 does not bring it back. */
  Hand *hand = leave_intent_at_1();
  hand_lose_power(hand, QFS_NODE_BIT(1));
  lose_all_in_sync(hand, "third");
  hand_assert_value(hand, "second", "value");
  hand_assert_value(hand, "third", "value");
  g_assert_cmpuint(hand_links(hand, "file"), ==, 3);
  hand_free(hand);
}

static void test_carried_out_before_straggler(void) {
  /* The life without node 1 carried it out, and it stays so, though only node 2 knows of that. */
  Hand *hand = leave_intent_at_1();
  hand_kill(hand);
  lose_all_in_sync(hand, "third");
  hand_assert_value(hand, "second", NULL);
  hand_assert_value(hand, "third", "value");
  g_assert_cmpuint(hand_links(hand, "file"), ==, 2);
  hand_free(hand);
}

static void test_abandoned_then_united(void) {
  /* A start does without the batch of node 1, and is cut off before what node 1 has done of it is undone. The next one has
   * to unite it with others, as nodes were given up, and takes whatever it finds: but not half of the batch. */
  Hand *hand = hand_new(7, 5);
  g_autofree char *from = hand_key(hand, "from", NODES(1, 2, 3, 4, 5));
  g_autofree char *to = hand_key(hand, "to", NODES(2, 3, 4, 5, 6));
  cut_off_while_undoing(hand, from, to);
  hand->away = NODES(3, 4, 5);
  g_assert_false(hand_start(hand));
  evict_and_replace(hand, NODES(3, 4, 5));
  hand_settle(hand, qfs_set_all(7));
  hand_assert_value(hand, from, "value");
  hand_assert_value(hand, to, NULL);
  hand_free(hand);
}

static guint n_applied(const Hand *hand) {
  guint n = 0;
  for (guint i = 1; i <= hand->nodes; i++)
    n += hand->sent[i][QFS_MESSAGE_APPLY];
  return n;
}

static gboolean has_new_name(Hand *hand, gconstpointer key) {
  const QfsRecord *row = hand_row(hand, 3, key);
  return row != NULL && row->kind == QFS_KIND_VALUE;
}

static gboolean has_mark(Hand *hand, gconstpointer mark) {
  for (guint i = 1; i <= hand->nodes; i++)
    if (hand_meta(hand, i).settled <= *(const guint64 *)mark)
      return FALSE;
  return TRUE;
}

static void test_overtaken_intent(void) {
  /* Node 3 still has the intent of a rename. That was carried out, and what it made is overwritten, and settled: a start
   * writes nothing of it. */
  Hand *hand = hand_new(3, 3);
  g_assert_cmpint(hand_put(hand, "from", "value"), ==, QFS_OK);
  hand_settle(hand, qfs_set_all(3));
  QfsRequest *rename = hand_two_keys(QFS_REQUEST_RENAME, "from", "to");
  hand_submit(hand, rename);
  hand_run_until(hand, has_new_name, "to");
  hand_lose(hand, 3, HAND_TYPE(COMMIT));
  g_assert_cmpint(hand_wait(hand, rename), ==, QFS_OK);
  g_assert_cmpint(hand_put(hand, "from", "newer"), ==, QFS_OK);
  g_assert_cmpint(hand_put(hand, "to", "newer"), ==, QFS_OK);
  const guint64 last = MAX(hand_row(hand, 1, "from")->seq, hand_row(hand, 1, "to")->seq) - 1;
  hand_run_until(hand, has_mark, &last);
  g_assert_cmpuint(hand_intents(hand, 3), ==, 1);
  hand_kill(hand);
  hand_lose(hand, 3, 0);
  const guint before = n_applied(hand);
  g_assert_true(hand_start(hand));
  hand_settle(hand, qfs_set_all(3));
  g_assert_cmpuint(n_applied(hand), ==, before);
  g_assert_cmpuint(hand_intents(hand, 3), ==, 0);
  hand_assert_value(hand, "from", "newer");
  hand_assert_value(hand, "to", "newer");
  hand_free(hand);
}

static void test_void_version(void) {
  /* Only node 3 has a version, and a start does without it; nothing is written. The next one meets node 3, and not one of
   * the two that went on: what was read since stays so. */
  Hand *hand = hand_new(3, 3);
  g_assert_cmpint(hand_put(hand, "key", "old"), ==, QFS_OK);
  hand_settle(hand, qfs_set_all(3));
  g_assert_cmpint(hand_put(hand, "key", "lost"), ==, QFS_OK);
  hand_run(hand, 10000);
  hand_lose_power(hand, QFS_NODE_BIT(3));
  hand->away = QFS_NODE_BIT(3);
  g_assert_true(hand_start(hand));
  hand_assert_value(hand, "key", "old");
  hand_kill(hand);
  hand->away = QFS_NODE_BIT(2);
  g_assert_true(hand_start(hand));
  hand_settle(hand, NODES(1, 3));
  hand_assert_value(hand, "key", "old");
  hand_free(hand);
}

static gboolean is_gone_at_2(Hand *hand, gconstpointer key) {
  const QfsRecord *row = hand_row(hand, 2, key);
  return row != NULL && row->kind == QFS_KIND_TOMBSTONE;
}

static void test_rolled_forward_by_half(void) {
  /* Only node 1 has the intent. A start is cut off when it has written one half of the batch, and the next one does not
   * meet node 1. */
  Hand *hand = hand_new(6, 3);
  g_autofree char *from = hand_key(hand, "from", NODES(2, 3, 4)), *to = hand_key(hand, "to", NODES(1, 5, 6));
  g_assert_cmpint(hand_put(hand, from, "value"), ==, QFS_OK);
  hand_settle(hand, qfs_set_all(6));
  for (guint i = 2; i <= 6; i++)
    hand_lose(hand, i, HAND_TYPE(INTENT));
  QfsRequest *request = hand_two_keys(QFS_REQUEST_RENAME, from, to);
  hand_submit(hand, request);
  hand_run(hand, 10000);
  hand_kill(hand);
  qfs_request_free(request);
  for (guint i = 1; i <= 6; i++)
    hand_lose(hand, i, i == 1 || i >= 5 ? HAND_TYPE(APPLY) : 0);
  g_assert_cmpuint(hand_intents(hand, 1), ==, 1);
  hand_begin(hand);
  hand_run_until(hand, is_gone_at_2, from);
  hand_kill(hand);
  for (guint i = 1; i <= 6; i++)
    hand_lose(hand, i, 0);
  hand->away = QFS_NODE_BIT(1);
  g_assert_true(hand_start(hand));
  hand_settle(hand, NODES(2, 3, 4, 5, 6));
  hand_assert_value(hand, from, NULL);
  hand_assert_value(hand, to, "value");
  hand_free(hand);
}

#define N_KEYS 12

static char *some_key(Hand *hand, guint i) {
  g_autofree char *prefix = g_strdup_printf("key%u-", i);
  return hand_key(hand, prefix, NODES(1, 3, 4));
}

static void put_some(Hand *hand, const char *value) {
  for (guint i = 0; i < N_KEYS; i++) {
    g_autofree char *key = some_key(hand, i);
    g_assert_cmpint(hand_put(hand, key, value), ==, QFS_OK);
  }
}

static void assert_some(Hand *hand, const char *value) {
  for (guint i = 0; i < N_KEYS; i++) {
    g_autofree char *key = some_key(hand, i);
    hand_assert_value(hand, key, value);
  }
}

static void test_view_by_few(void) {
  /* Coordinators die while they propose a view, which two nodes promised. The next one meets the other three, and what
   * it acknowledges is the newest, whoever is met after that. */
  Hand *hand = hand_new(5, 3);
  put_some(hand, "old");
  hand_settle(hand, qfs_set_all(5));
  for (guint i = 2; i <= 4; i++)
    hand_lose(hand, i, i == 2 ? HAND_TYPE(VIEW) : HAND_TYPE(VIEW) | HAND_TYPE(PROMISE));
  hand->away = QFS_NODE_BIT(5);
  hand_crash(hand, 5);
  hand_run(hand, 50000);
  hand_kill(hand);
  for (guint i = 0; i < 3; i++) { /* and so do those after it, each with a number of its own */
    hand_begin(hand);
    hand_run(hand, 50000);
    hand_kill(hand);
  }
  for (guint i = 1; i <= 5; i++)
    hand_lose(hand, i, 0);
  hand->away = NODES(1, 2);
  g_assert_true(hand_start(hand));
  hand_lose(hand, 3, HAND_TYPE(APPLY));
  put_some(hand, "new");
  hand_kill(hand);
  hand->away = NODES(4, 5);
  hand_lose(hand, 3, 0);
  g_assert_false(hand_start(hand)); /* by the view of the first one it would */
  hand_kill(hand);
  hand->away = 0;
  g_assert_true(hand_start(hand));
  hand_settle(hand, qfs_set_all(5));
  assert_some(hand, "new");
  hand_free(hand);
}

static void test_found_is_completed(void) {
  /* What node 1 missed is completed there before anything is served. */
  Hand *hand = hand_new(3, 3);
  for (guint i = 0; i < N_KEYS; i++) {
    g_autofree char *key = g_strdup_printf("key%u", i);
    g_assert_cmpint(hand_put(hand, key, "old"), ==, QFS_OK);
  }
  hand_settle(hand, qfs_set_all(3));
  hand_lose(hand, 1, HAND_TYPE(APPLY));
  for (guint i = 0; i < N_KEYS; i++) {
    g_autofree char *key = g_strdup_printf("key%u", i);
    g_assert_cmpint(hand_put(hand, key, "new"), ==, QFS_OK);
  }
  hand_kill(hand);
  hand_begin(hand);
  hand_run(hand, 300000);
  for (guint i = 0; i < N_KEYS && qfs_coordinator_is_serving(hand->coordinator); i++) {
    g_autofree char *key = g_strdup_printf("key%u", i);
    hand_assert_value(hand, key, "new");
  }
  hand_lose(hand, 1, 0);
  hand_settle(hand, qfs_set_all(3));
  hand_free(hand);
}

static gboolean is_told_at_1(Hand *hand, gconstpointer mark) { return hand_meta(hand, 1).settled >= *(const guint64 *)mark; }

static gboolean are_marked(Hand *hand, gconstpointer mark) {
  for (guint i = 1; i <= 5; i++)
    if (i != 4 && hand_meta(hand, i).mark <= *(const guint64 *)mark)
      return FALSE;
  return TRUE;
}

static void lose_at_2_to_5(Hand *hand, guint types) {
  for (guint i = 2; i <= 5; i++)
    hand_lose(hand, i, types);
}

/* A store of five nodes, not running, whose node 1 alone is told that all up to *out_mark is settled; node 4 was catching
 * up, and has a lower mark. */
static Hand *new_told_at_1(guint64 *out_mark) {
  Hand *hand = hand_new(5, 3);
  g_assert_cmpint(hand_put(hand, "first", "x"), ==, QFS_OK);
  hand_settle(hand, qfs_set_all(5));
  leave_and_join(hand, 4, NODES(1, 2, 3, 5));
  *out_mark = hand_meta(hand, 1).mark;
  put_some(hand, "value");
  hand_run_until(hand, are_marked, out_mark);
  *out_mark = hand_meta(hand, 1).mark;
  lose_at_2_to_5(hand, HAND_TYPE(SYNC));
  hand_run_until(hand, is_told_at_1, out_mark);
  hand_kill(hand);
  lose_at_2_to_5(hand, 0);
  return hand;
}

static void test_marks_follow(void) {
  /* Only node 1 is told what is settled. A life without it takes in node 4, which has all of that by other numbers, and then
   * node 1. To the life after that node 4 does not look like an older copy. */
  guint64 mark;
  Hand *hand = new_told_at_1(&mark);
  hand->away = QFS_NODE_BIT(1);
  g_assert_true(hand_start(hand));
  hand_lose(hand, 2, HAND_TYPE(SYNC)); /* nothing is settled from here on */
  const QfsNodeSet others = NODES(2, 3, 4, 5), all = qfs_set_all(5);
  hand_run_until(hand, has_view, &others);
  g_assert_cmpuint(hand_meta(hand, 4).mark, <, mark);
  lose_at_2_to_5(hand, HAND_TYPE(SYNC));
  hand->away = 0;
  hand_run_until(hand, has_view, &all);
  hand_kill(hand);
  lose_at_2_to_5(hand, 0);
  const guint wipes = hand->sent[4][QFS_MESSAGE_WIPE];
  g_assert_true(hand_start(hand));
  hand_settle(hand, all);
  g_assert_cmpuint(hand->sent[4][QFS_MESSAGE_WIPE], ==, wipes);
  assert_some(hand, "value");
  hand_free(hand);
}

static gboolean are_told_of(Hand *hand, gconstpointer in_sync) {
  for (guint i = 1; i <= 5; i++)
    if (i != 4 && hand_meta(hand, i).view.in_sync != *(const QfsNodeSet *)in_sync)
      return FALSE;
  return TRUE;
}

static void test_unseen_view(void) {
  /* Only node 1 is told what is settled. A life that began without it takes it in, and node 4, to which that view never
   * comes. The next one goes by it, does without node 4, and takes it in again: it is no older copy. */
  guint64 mark;
  Hand *hand = new_told_at_1(&mark);
  hand->away = NODES(1, 4);
  g_assert_true(hand_start(hand));
  hand_lose(hand, 2, HAND_TYPE(SYNC)); /* nothing is settled from here on */
  const QfsNodeSet few = NODES(2, 3, 5), without_4 = NODES(1, 2, 3, 5), all = qfs_set_all(5);
  hand_run_until(hand, has_view, &few);
  hand_lose(hand, 5, HAND_TYPE(SYNC));
  hand->away = NODES(4);
  hand_run_until(hand, has_view, &without_4);
  hand_lose(hand, 4, HAND_TYPE(VIEW));
  hand->away = 0;
  hand_run_until(hand, are_told_of, &all);
  hand_kill(hand);
  lose_at_2_to_5(hand, 0);
  hand->away = NODES(4);
  g_assert_true(hand_start(hand));
  hand_run_until(hand, are_told_of, &without_4);
  const guint wipes = hand->sent[4][QFS_MESSAGE_WIPE];
  hand->away = 0;
  hand_settle(hand, all);
  g_assert_cmpuint(hand->sent[4][QFS_MESSAGE_WIPE], ==, wipes);
  assert_some(hand, "value");
  hand_free(hand);
}

static gboolean has_3_nodes(Hand *hand, gconstpointer unused) { return qfs_coordinator_nodes(hand->coordinator) == 3; }

static void test_fewer_nodes(void) {
  /* The store has three nodes now, and two of them fail before that is proven to all. Those that go are still needed: a
   * majority of the five must agree that there are three. */
  Hand *hand = hand_new(5, 3);
  put_some(hand, "value");
  hand_settle(hand, qfs_set_all(5));
  qfs_coordinator_resize(hand->coordinator, 3, 3);
  hand_run_until(hand, has_3_nodes, NULL);
  hand_lose_replies(hand, 1, HAND_TYPE(PROMISE));
  hand_lose_replies(hand, 2, HAND_TYPE(PROMISE));
  hand_run(hand, 10000);
  hand->away = NODES(1, 2);
  hand_crash(hand, 1);
  hand_crash(hand, 2);
  hand_run(hand, 100000);
  hand_kill(hand);
  hand_lose_replies(hand, 1, 0);
  hand_lose_replies(hand, 2, 0);
  hand->away = NODES(2);
  g_assert_true(hand_start(hand));
  assert_some(hand, "value");
  hand_free(hand);
}

void directed_starts_add(void) {
  g_test_add_func("/starts/what-is-found-is-completed-first", test_found_is_completed);
  g_test_add_func("/starts/marks-follow-who-returns", test_marks_follow);
  g_test_add_func("/starts/marks-precede-the-view", test_unseen_view);
  g_test_add_func("/starts/fewer-nodes", test_fewer_nodes);
  g_test_add_func("/starts/version-that-a-start-did-without", test_void_version);
  g_test_add_func("/starts/batch-rolled-forward-by-half", test_rolled_forward_by_half);
  g_test_add_func("/starts/view-that-few-promised", test_view_by_few);
  g_test_add_func("/starts/batch-that-was-carried-out-without-the-last-who-are-left", test_carried_out_before_straggler);
  g_test_add_func("/starts/abandoned-batch-at-the-last-who-are-left", test_abandoned_at_straggler);
  g_test_add_func("/starts/abandoned-batch-stays-so-while-keys-are-blocked", test_abandoned_while_blocked);
  g_test_add_func("/starts/abandoned-batch-before-nodes-are-united", test_abandoned_then_united);
  g_test_add_func("/starts/intent-that-was-overtaken", test_overtaken_intent);
}
