/* directed_passed.c - a start serves the keys that are not blocked; what comes to light of these afterwards is void (passed.c). */
#include "hand.h"

/* Of what the request sends only node 4 gets any; then the daemon is killed. */
static void leave_at_4(Hand *hand, QfsRequest *request) {
  const guint types = HAND_TYPE(APPLY) | HAND_TYPE(INTENT) | HAND_TYPE(COMMIT);
  for (guint i = 1; i <= hand->nodes; i++)
    hand_lose(hand, i, i == 4 ? 0 : types);
  hand_submit(hand, request);
  hand_run(hand, 10000);
  g_assert_false(hand_is_answered(request));
  hand_kill(hand);
  qfs_request_free(request);
  for (guint i = 1; i <= hand->nodes; i++)
    hand_lose(hand, i, 0);
}

/* Nodes 1 and 4 are away, so that what is at both of them and only there is blocked. */
static void start_without(Hand *hand, QfsNodeSet away) {
  g_autofree char *blocked = hand_key(hand, "blocked", NODES(1, 4, 5));
  hand->away = away;
  g_assert_true(hand_start(hand));
  g_assert_true(qfs_coordinator_is_blocked(hand->coordinator, blocked));
}

static char *child_of(Hand *hand, const char *dir, const char *name) {
  g_autofree char *prefix = g_strdup_printf("%s/%s", dir, name);
  return hand_key(hand, prefix, NODES(2, 3, 5));
}

typedef enum { SAME_LIFE, NEXT_LIFE, LIFE_AFTER_NEXT } Return;

/* Node 4 returns, to whom `how` says; in the end all are there. */
static void return_of_4(Hand *hand, Return how) {
  if (how != SAME_LIFE)
    hand_kill(hand);
  if (how == LIFE_AFTER_NEXT) {
    start_without(hand, NODES(1, 4));
    hand_kill(hand);
  }
  hand->away = 0;
  if (how != SAME_LIFE)
    g_assert_true(hand_start(hand));
  hand_settle(hand, qfs_set_all(hand->nodes));
}

static void check_removed_directory(Return how) {
  Hand *hand = hand_new(5, 3);
  g_autofree char *dir = hand_key(hand, "dir", NODES(2, 3, 4));
  g_autofree char *first = child_of(hand, dir, "first"), *second = child_of(hand, dir, "second");
  g_assert_cmpint(hand_wait(hand, hand_mkdir_request(dir)), ==, QFS_OK);
  hand_settle(hand, qfs_set_all(5));
  leave_at_4(hand, hand_rmdir_request(dir));
  g_assert_cmpint(hand_row(hand, 4, dir)->kind, ==, QFS_KIND_TOMBSTONE);
  start_without(hand, NODES(1, 4));
  g_assert_cmpint(hand_put(hand, first, "value"), ==, QFS_OK);
  return_of_4(hand, how);
  hand_assert_value(hand, first, "value");
  g_assert_cmpint(hand_put(hand, second, "value"), ==, QFS_OK);
  g_assert_cmpint(hand_row(hand, 4, dir)->kind, ==, QFS_KIND_DIRECTORY);
  hand_free(hand);
}

/* A file was made in a directory whose removal only node 4 has. */
static void test_directory(void) { check_removed_directory(NEXT_LIFE); }
static void test_directory_same_life(void) { check_removed_directory(SAME_LIFE); }
static void test_directory_later(void) { check_removed_directory(LIFE_AFTER_NEXT); }

static void test_condition(void) {
  /* Node 4 has a version of the far future whose condition no longer holds: somebody else's compare-and-swap was
   * acknowledged. */
  Hand *hand = hand_new(5, 3);
  g_autofree char *key = hand_key(hand, "key", NODES(2, 3, 4));
  QfsRequest *first = hand_put_request(key, "old"), *hidden = hand_put_request(key, "hidden"), *swap = hand_put_request(key, "new");
  first->flags |= QFS_WRITE_TIMESTAMP;
  first->timestamp = 5;
  hidden->flags |= QFS_WRITE_TIMESTAMP | QFS_WRITE_IF_TIMESTAMP;
  hidden->timestamp = G_GUINT64_CONSTANT(1) << 63;
  swap->flags |= QFS_WRITE_IF_TIMESTAMP;
  hidden->if_timestamp = swap->if_timestamp = 5;
  g_assert_cmpint(hand_wait(hand, first), ==, QFS_OK);
  hand_settle(hand, qfs_set_all(5));
  leave_at_4(hand, hidden);
  start_without(hand, NODES(1, 4));
  g_assert_cmpint(hand_wait(hand, swap), ==, QFS_OK);
  return_of_4(hand, NEXT_LIFE);
  hand_assert_value(hand, key, "new");
  hand_free(hand);
}

static void test_exclusive(void) {
  /* The same of a file that was made where a tombstone was: two made it, and each was to be the only one. */
  Hand *hand = hand_new(5, 3);
  g_autofree char *key = hand_key(hand, "key", NODES(2, 3, 4));
  QfsRequest *hidden = hand_put_request(key, "hidden"), *other = hand_put_request(key, "other");
  hidden->flags |= QFS_WRITE_EXCLUSIVE | QFS_WRITE_TIMESTAMP;
  hidden->timestamp = G_GUINT64_CONSTANT(1) << 63;
  other->flags |= QFS_WRITE_EXCLUSIVE;
  g_assert_cmpint(hand_put(hand, key, "old"), ==, QFS_OK);
  g_assert_cmpint(hand_remove(hand, key), ==, QFS_OK);
  hand_settle(hand, qfs_set_all(5));
  leave_at_4(hand, hidden);
  start_without(hand, NODES(1, 4));
  g_assert_cmpint(hand_wait(hand, other), ==, QFS_OK);
  return_of_4(hand, NEXT_LIFE);
  hand_assert_value(hand, key, "other");
  hand_free(hand);
}

static void test_batch(void) {
  /* Only node 4 has the intent of a rename, of whose keys the former name was accounted for and the other was blocked. It is
   * void as a whole, as the half of it at the former name would be. */
  Hand *hand = hand_new(5, 3);
  g_autofree char *from = hand_key(hand, "from", NODES(2, 3, 4)), *to = hand_key(hand, "to", NODES(1, 4, 5));
  g_assert_cmpint(hand_put(hand, from, "value"), ==, QFS_OK);
  hand_settle(hand, qfs_set_all(5));
  leave_at_4(hand, hand_two_keys(QFS_REQUEST_RENAME, from, to));
  g_assert_cmpuint(hand_intents(hand, 4), ==, 1);
  start_without(hand, NODES(1, 4));
  hand_assert_value(hand, from, "value");
  hand_kill(hand);
  hand->away = QFS_NODE_BIT(1);
  g_assert_true(hand_start(hand));
  hand_assert_value(hand, from, "value");
  hand->away = 0;
  hand_settle(hand, qfs_set_all(5));
  hand_assert_value(hand, from, "value");
  hand_assert_value(hand, to, NULL);
  hand_free(hand);
}

static void test_blocked_counts(void) {
  /* Of a key that was blocked node 4 has what was acknowledged; it counts when it is met. */
  Hand *hand = hand_new(5, 3);
  g_autofree char *key = hand_key(hand, "key", NODES(1, 4, 5));
  g_assert_cmpint(hand_put(hand, key, "old"), ==, QFS_OK);
  hand_settle(hand, qfs_set_all(5));
  hand_lose(hand, 5, HAND_TYPE(APPLY));
  g_assert_cmpint(hand_put(hand, key, "new"), ==, QFS_OK);
  hand_kill(hand);
  hand_lose(hand, 5, 0);
  start_without(hand, NODES(1, 4));
  hand_kill(hand);
  hand->away = QFS_NODE_BIT(1);
  g_assert_true(hand_start(hand));
  hand_assert_value(hand, key, "new");
  hand->away = 0;
  hand_settle(hand, qfs_set_all(5));
  hand_assert_value(hand, key, "new");
  hand_free(hand);
}

static void test_united(void) {
  /* The start without node 4 accounted for everything. Then node 5 leaves, too, and the next start meets these two and not
   * node 3: they are united with those who are left, and what only node 4 has stays void. */
  Hand *hand = hand_new(5, 3);
  g_autofree char *dir = hand_key(hand, "dir", NODES(2, 3, 4)), *child = child_of(hand, dir, "child");
  g_assert_cmpint(hand_wait(hand, hand_mkdir_request(dir)), ==, QFS_OK);
  hand_settle(hand, qfs_set_all(5));
  leave_at_4(hand, hand_rmdir_request(dir));
  hand->away = NODES(4);
  g_assert_true(hand_start(hand));
  g_assert_cmpint(hand_put(hand, child, "value"), ==, QFS_OK);
  hand_settle(hand, NODES(1, 2, 3, 5));
  hand->away = NODES(4, 5);
  hand_crash(hand, 5);
  hand_run_until(hand, hand_is_without, GUINT_TO_POINTER(5));
  g_assert_cmpint(hand_put(hand, child, "newer"), ==, QFS_OK);
  hand_settle(hand, NODES(1, 2, 3));
  hand_kill(hand);
  hand->away = NODES(3);
  g_assert_true(hand_start(hand));
  hand_assert_value(hand, child, "newer");
  hand_settle(hand, NODES(1, 2, 4, 5));
  g_assert_cmpint(hand_row(hand, 4, dir)->kind, ==, QFS_KIND_DIRECTORY);
  g_assert_cmpint(hand_row(hand, 2, dir)->kind, ==, QFS_KIND_DIRECTORY);
  hand_free(hand);
}

void directed_passed_add(void) {
  g_test_add_func("/passed/removal-of-a-directory-at-who-is-united", test_united);
  g_test_add_func("/passed/removal-of-a-directory", test_directory);
  g_test_add_func("/passed/removal-of-a-directory-in-the-same-life", test_directory_same_life);
  g_test_add_func("/passed/removal-of-a-directory-two-lives-later", test_directory_later);
  g_test_add_func("/passed/condition-that-no-longer-holds", test_condition);
  g_test_add_func("/passed/made-by-two", test_exclusive);
  g_test_add_func("/passed/batch-of-which-one-key-was-blocked", test_batch);
  g_test_add_func("/passed/blocked-key-counts", test_blocked_counts);
}
