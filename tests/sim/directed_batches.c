/* directed_batches.c - a batch is all or nothing, whoever is left of those who had a part of it (batch.c, flight.c). */
#include "hand.h"

#include <string.h>

#define ONLY(node) QFS_NODE_BIT(node)

/* ---- who lacks the intent ---- */

static gboolean has_row(Hand *hand, guint node, const char *key, QfsKind kind) {
  const QfsRecord *row = hand_row(hand, node, key);
  return row != NULL && row->kind == kind;
}

static gboolean is_open(Hand *hand, gconstpointer node) { return hand->node[GPOINTER_TO_UINT(node)].node != NULL; }

static gboolean lost_name_at_1(Hand *hand, gconstpointer key) { return has_row(hand, 1, key, QFS_KIND_TOMBSTONE); }

static void assert_moved_or_not(Hand *hand, const char *from, const char *to) {
  g_autofree char *old = hand_get(hand, from), *new = hand_get(hand, to);
  g_assert_cmpstr(old != NULL ? old : new, ==, "value");
  g_assert_true(old == NULL || new == NULL);
}

static void test_commit(void) {
  /* Node 1 misses the intent. What the batch took from a key there is not all that a loss of power leaves of it. */
  Hand *hand = hand_new(5, 3);
  g_autofree char *from = hand_key(hand, "from", QFS_NODE_BIT(1) | QFS_NODE_BIT(2) | QFS_NODE_BIT(3));
  g_autofree char *to = hand_key(hand, "to", QFS_NODE_BIT(3) | QFS_NODE_BIT(4) | QFS_NODE_BIT(5));
  g_assert_cmpint(hand_put(hand, from, "value"), ==, QFS_OK);
  hand_settle(hand, qfs_set_all(5));
  hand_lose(hand, 1, HAND_TYPE(INTENT));
  g_assert_cmpint(hand_rename(hand, from, to), ==, QFS_OK);
  hand_run(hand, 10000);
  hand_lose(hand, 1, 0);
  hand_lose_power(hand, ONLY(1));
  g_assert_true(hand_start(hand));
  hand_settle(hand, qfs_set_all(5));
  assert_moved_or_not(hand, from, to);
  hand_free(hand);
}

static void test_write_after(void) {
  /* The same of a name of a file with two: what is written over the name is not all that is left of the batch. */
  Hand *hand = hand_new(3, 3);
  g_assert_cmpint(hand_put(hand, "name", "old"), ==, QFS_OK);
  g_assert_cmpint(hand_link(hand, "name", "other"), ==, QFS_OK);
  hand_settle(hand, qfs_set_all(3));
  hand_lose(hand, 3, HAND_TYPE(INTENT) | HAND_TYPE(COMMIT));
  g_assert_cmpint(hand_remove(hand, "other"), ==, QFS_OK);
  g_assert_cmpint(hand_put(hand, "other", "new"), ==, QFS_OK);
  hand_run(hand, 10000);
  hand_lose(hand, 3, 0);
  hand_lose_power(hand, ONLY(3));
  g_assert_true(hand_start(hand));
  hand_settle(hand, qfs_set_all(3));
  g_autofree char *other = hand_get(hand, "other");
  g_assert_cmpuint(hand_links(hand, "name"), ==, g_strcmp0(other, "old") == 0 ? 2 : 1);
  hand_free(hand);
}

static void test_told_again(void) {
  /* A round of settling begins when all have their part of the batch. Then node 4 takes over from node 3, which has not
   * answered: the intent stays until it, too, has its part. */
  Hand *hand = hand_new(5, 3);
  g_autofree char *from = hand_key_with_next(hand, "from", NODES(1, 2, 3), 3, 4);
  g_autofree char *to = hand_key(hand, "to", NODES(1, 2, 5));
  g_assert_cmpint(hand_put(hand, from, "value"), ==, QFS_OK);
  hand_settle(hand, qfs_set_all(5));
  hand_lose_replies(hand, 3, HAND_TYPE(SYNC));
  g_assert_cmpint(hand_rename(hand, from, to), ==, QFS_OK);
  hand_run(hand, HAND_SECOND / 2);
  hand->away = ONLY(3);
  hand_lose(hand, 4, HAND_TYPE(COMMIT));
  hand_crash(hand, 3);
  hand_run_until(hand, hand_is_without, GUINT_TO_POINTER(3));
  hand_run(hand, HAND_SECOND / 2);
  g_assert_true(qfs_set_has(qfs_coordinator_in_sync(hand->coordinator), 4));
  g_assert_null(hand_row(hand, 4, from));
  g_assert_cmpuint(hand_intents(hand, 1), ==, 1);
  hand_lose(hand, 4, 0);
  hand_lose_replies(hand, 3, 0);
  hand->away = 0;
  hand_settle(hand, qfs_set_all(5));
  for (guint node = 1; node <= 5; node++)
    g_assert_cmpuint(hand_intents(hand, node), ==, 0);
  assert_moved_or_not(hand, from, to);
  hand_free(hand);
}

static void test_copied(void) {
  /* Node 1 returns after the batch was carried out, and is given its half of it: with the intent, while that counts. */
  Hand *hand = hand_new(5, 3);
  g_autofree char *from = hand_key(hand, "from", QFS_NODE_BIT(1) | QFS_NODE_BIT(2) | QFS_NODE_BIT(3));
  g_autofree char *to = hand_key(hand, "to", QFS_NODE_BIT(3) | QFS_NODE_BIT(4) | QFS_NODE_BIT(5));
  g_assert_cmpint(hand_put(hand, from, "value"), ==, QFS_OK);
  hand_settle(hand, qfs_set_all(5));
  hand_take_away(hand, 1);
  hand->away = 0;
  hand_lose(hand, 1, HAND_TYPE(HELLO));
  hand_run_until(hand, is_open, GUINT_TO_POINTER(1));
  g_assert_cmpint(hand_rename(hand, from, to), ==, QFS_OK);
  hand_lose(hand, 1, 0);
  hand_run_until(hand, lost_name_at_1, from);
  hand_lose_power(hand, ONLY(1));
  g_assert_true(hand_start(hand));
  hand_settle(hand, qfs_set_all(5));
  assert_moved_or_not(hand, from, to);
  hand_free(hand);
}

static gboolean is_synced_1(Hand *hand, gconstpointer before) {
  return hand->sent[1][QFS_MESSAGE_SYNC] > GPOINTER_TO_UINT(before);
}

static void test_kept(void) {
  /* Node 1 is catching up, and is told of a batch; its process ends, and it catches up once more. It is given its part of the
   * batch, and keeps the intent while that is not settled. */
  Hand *hand = hand_new(5, 3);
  g_autofree char *from = hand_key(hand, "from", QFS_NODE_BIT(1) | QFS_NODE_BIT(2) | QFS_NODE_BIT(3));
  g_autofree char *to = hand_key(hand, "to", QFS_NODE_BIT(3) | QFS_NODE_BIT(4) | QFS_NODE_BIT(5));
  g_assert_cmpint(hand_put(hand, from, "value"), ==, QFS_OK);
  hand_settle(hand, qfs_set_all(5));
  hand_take_away(hand, 1);
  hand_settle(hand, qfs_set_all(5) & ~ONLY(1));
  for (guint i = 1; i <= 5; i++)
    hand_lose(hand, i, HAND_TYPE(SYNC)); /* nothing is on stable storage from here on, and it does not come to its end */
  guint before = hand->sent[1][QFS_MESSAGE_SYNC];
  hand->away = 0;
  hand_run_until(hand, is_synced_1, GUINT_TO_POINTER(before));
  hand_lose(hand, 1, HAND_TYPE(SYNC) | HAND_TYPE(COMMIT));
  g_assert_cmpint(hand_rename(hand, from, to), ==, QFS_OK);
  hand_run(hand, 10000);
  g_assert_cmpuint(hand_intents(hand, 1), ==, 1);
  g_assert_false(lost_name_at_1(hand, from));
  hand_lose(hand, 1, HAND_TYPE(SYNC));
  before = hand->sent[1][QFS_MESSAGE_SYNC];
  hand_crash(hand, 1);
  hand_run_until(hand, is_synced_1, GUINT_TO_POINTER(before));
  g_assert_true(lost_name_at_1(hand, from));
  for (guint i = 1; i <= 5; i++)
    hand_lose(hand, i, 0);
  hand_lose_power(hand, ONLY(1));
  g_assert_true(hand_start(hand));
  hand_settle(hand, qfs_set_all(5));
  assert_moved_or_not(hand, from, to);
  hand_free(hand);
}

/* ---- intents of batches that are over ---- */

static gboolean no_intents(Hand *hand, gconstpointer unused) {
  for (guint i = 1; i <= hand->nodes; i++)
    if (hand_intents(hand, i) != 0)
      return FALSE;
  return TRUE;
}

static void test_late_intent(void) {
  /* A copy of the intent arrives at node 3 when the batch is over and forgotten. */
  Hand *hand = hand_new(3, 3);
  g_assert_cmpint(hand_put(hand, "from", "value"), ==, QFS_OK);
  hand_keep(hand, 3, QFS_MESSAGE_INTENT);
  g_assert_cmpint(hand_rename(hand, "from", "to"), ==, QFS_OK);
  hand_settle(hand, qfs_set_all(3));
  hand_run_until(hand, no_intents, NULL);
  g_assert_cmpuint(hand->kept->len, ==, 1);
  hand_deliver_kept(hand);
  hand_run(hand, 10000);
  g_assert_cmpuint(hand_intents(hand, 3), ==, 0);
  hand_free(hand);
}

static void test_intent_again(void) {
  /* A write that waits for space at node 2 keeps all that follows from being settled. A batch is over all the same when
   * node 1 returns, which is to hold one of its keys: it is not told of the batch any more. */
  Hand *hand = hand_new(5, 3);
  g_autofree char *waits = hand_key(hand, "waits", ONLY(2) | ONLY(3) | ONLY(5));
  g_autofree char *from = hand_key_with_next(hand, "from", ONLY(1) | ONLY(3) | ONLY(4), 1, 5);
  g_autofree char *to = hand_key(hand, "to", ONLY(3) | ONLY(4) | ONLY(5));
  g_assert_cmpint(hand_put(hand, from, "value"), ==, QFS_OK);
  hand_settle(hand, qfs_set_all(5));
  hand_take_away(hand, 1);
  hand->full = ONLY(2);
  g_assert_cmpint(hand_put(hand, waits, "value"), ==, QFS_OK);
  g_assert_cmpint(hand_rename(hand, from, to), ==, QFS_OK);
  hand_run(hand, 1000);
  hand_run_until(hand, no_intents, NULL);
  hand->away = 0;
  hand_run_until(hand, lost_name_at_1, from);
  hand->full = 0;
  hand_settle(hand, qfs_set_all(5));
  hand_run(hand, HAND_SECOND);
  g_assert_true(no_intents(hand, NULL));
  hand_free(hand);
}

/* ---- who lacks the chunks ---- */

static gboolean scanned(Hand *hand, gconstpointer from) { return hand->sent[2][QFS_MESSAGE_SCAN_RECORDS] > GPOINTER_TO_UINT(from); }

static void test_copied_value(void) {
  /* A value is written while node 1 is about to be given copies of records, and its chunks are lost on the way there. */
  Hand *hand = hand_new(3, 3);
  g_autofree char *value = g_strnfill(200000, 'v');
  hand_take_away(hand, 1);
  hand_settle(hand, ONLY(2) | ONLY(3));
  const guint before = hand->sent[2][QFS_MESSAGE_SCAN_RECORDS];
  hand_lose(hand, 2, HAND_TYPE(SCAN_RECORDS));
  hand->away = 0;
  hand_run_until(hand, scanned, GUINT_TO_POINTER(before));
  hand_lose(hand, 1, HAND_TYPE(CHUNKS) | HAND_TYPE(SYNC)); /* it does not come to its end meanwhile */
  g_assert_cmpint(hand_put(hand, "big", value), ==, QFS_OK);
  hand_lose(hand, 2, 0);
  hand_run(hand, 100000);
  hand_lose(hand, 1, 0);
  hand_lose_power(hand, ONLY(1));
  g_assert_true(hand_start(hand));
  hand_settle(hand, qfs_set_all(3));
  g_autofree char *left = hand_get(hand, "big");
  g_assert_true(left == NULL || strcmp(left, value) == 0);
  hand_free(hand);
}

static void test_put_back(void) {
  /* Node 1 alone has a version of the far future that nobody acknowledged. It returns while a large value is not settled, which
   * is to take the place of that: not before its chunks, which are lost on the way. */
  Hand *hand = hand_new(3, 3);
  g_autofree char *value = g_strnfill(200000, 'v');
  g_assert_cmpint(hand_put(hand, "key", "old"), ==, QFS_OK);
  hand_settle(hand, qfs_set_all(3));
  hand_lose(hand, 2, HAND_TYPE(APPLY));
  hand_lose(hand, 3, HAND_TYPE(APPLY));
  QfsRequest *extra = hand_put_request("key", "extra");
  extra->flags |= QFS_WRITE_TIMESTAMP;
  extra->timestamp = G_GUINT64_CONSTANT(1) << 63;
  hand_submit(hand, extra);
  hand_run(hand, 10000);
  hand_kill(hand);
  qfs_request_free(extra);
  hand_lose(hand, 2, 0);
  hand_lose(hand, 3, 0);
  hand->away = ONLY(1);
  g_assert_true(hand_start(hand));
  hand->away = 0;
  hand_lose(hand, 1, HAND_TYPE(HELLO));
  hand_run_until(hand, is_open, GUINT_TO_POINTER(1));
  g_assert_cmpint(hand_put(hand, "key", value), ==, QFS_OK);
  hand_lose(hand, 1, HAND_TYPE(CHUNKS));
  hand_run(hand, 100000);
  g_assert_nonnull(hand_row(hand, 1, "key")); /* nothing is missing there, whatever happens now */
  hand_lose(hand, 1, 0);
  hand_lose_power(hand, ONLY(1));
  g_assert_true(hand_start(hand));
  hand_settle(hand, qfs_set_all(3));
  g_autofree char *left = hand_get(hand, "key");
  g_assert_true(g_strcmp0(left, "old") == 0 || g_strcmp0(left, value) == 0);
  hand_free(hand);
}

static QfsNodeSet holders_of_file(Hand *hand, const char *name) {
  QfsRequest *request = qfs_request_new(QFS_REQUEST_GET, name, NULL, NULL);
  hand_submit(hand, request);
  while (!hand_is_answered(request))
    hand_run(hand, 1000);
  const QfsNodeSet holders = qfs_coordinator_holders(hand->coordinator, request->record->key);
  qfs_request_free(request);
  return holders;
}

/* A name of a file with two that is kept by a node that the name's own value would not be at. */
static char *name_of_file_elsewhere(Hand *hand, QfsNodeSet *out_elsewhere) {
  for (guint i = 0;; i++) {
    g_autofree char *prefix = g_strdup_printf("name%u-", i), *other = g_strdup_printf("other%u", i);
    g_autofree char *name = hand_key(hand, prefix, QFS_NODE_BIT(1) | QFS_NODE_BIT(2) | QFS_NODE_BIT(3));
    g_assert_cmpint(hand_put(hand, name, "old"), ==, QFS_OK);
    g_assert_cmpint(hand_link(hand, name, other), ==, QFS_OK);
    *out_elsewhere = holders_of_file(hand, name) & ~(QFS_NODE_BIT(1) | QFS_NODE_BIT(2) | QFS_NODE_BIT(3));
    if (*out_elsewhere != 0)
      return g_steal_pointer(&name);
  }
}

static void test_staged(void) {
  /* A large value that was staged under a name is published where the name leads. Only who has no chunks of it is left. */
  Hand *hand = hand_new(5, 3);
  QfsNodeSet elsewhere;
  g_autofree char *value = g_strnfill(200000, 'v'), *name = name_of_file_elsewhere(hand, &elsewhere);
  hand_settle(hand, qfs_set_all(5));
  QfsRequest *stage = hand_put_request(name, value);
  stage->flags = QFS_WRITE_STAGE;
  hand_submit(hand, stage);
  while (!hand_is_answered(stage))
    hand_run(hand, 1000);
  QfsRequest *publish = qfs_request_new(QFS_REQUEST_WRITE, name, NULL, NULL);
  publish->flags = QFS_WRITE_REPLACE | QFS_WRITE_STAGED;
  publish->object = stage->object;
  publish->staged_size = strlen(value);
  qfs_request_free(stage);
  g_assert_cmpint(hand_wait(hand, publish), ==, QFS_OK);
  hand_run(hand, 10000);
  hand_lose_power(hand, elsewhere);
  g_assert_true(hand_start(hand));
  hand_settle(hand, qfs_set_all(5));
  g_autofree char *left = hand_get(hand, name);
  g_assert_true(g_strcmp0(left, "old") == 0 || g_strcmp0(left, value) == 0);
  hand_free(hand);
}

/* ---- what an intent carries ---- */

static QfsNodeSet owners_of_file(Hand *hand, const char *name) {
  QfsNodeSet holders = qfs_coordinator_holders(hand->coordinator, name);
  g_autofree char *file = qfs_record_link_target(hand_row(hand, (guint)__builtin_ctzll(holders) + 1, name));
  return qfs_coordinator_holders(hand->coordinator, file);
}

static void test_carried(void) {
  /* A name is taken from one file and given to another. Of all who have a part of that a loss of power leaves those that know
   * of the second step only: carried out from there, it does not leave the first file with a name too much. */
  Hand *hand = hand_new(6, 3);
  guint tried = 0;
  for (guint i = 0; tried == 0 && i < 50; i++) {
    g_autofree char *first = g_strdup_printf("first%u", i), *name = g_strdup_printf("name%u", i);
    g_autofree char *second = g_strdup_printf("second%u", i), *more = g_strdup_printf("more%u", i);
    g_assert_cmpint(hand_put(hand, first, "one"), ==, QFS_OK);
    g_assert_cmpint(hand_link(hand, first, name), ==, QFS_OK);
    g_assert_cmpint(hand_put(hand, second, "two"), ==, QFS_OK);
    g_assert_cmpint(hand_link(hand, second, more), ==, QFS_OK);
    hand_settle(hand, qfs_set_all(6));
    const QfsNodeSet keep = owners_of_file(hand, second) & ~owners_of_file(hand, first) &
                            ~qfs_coordinator_holders(hand->coordinator, name);
    if (keep == 0)
      continue;
    tried++;
    g_assert_cmpint(hand_remove(hand, name), ==, QFS_OK);
    g_assert_cmpint(hand_link(hand, second, name), ==, QFS_OK);
    hand_lose_power(hand, keep);
    g_assert_true(hand_start(hand));
    hand_settle(hand, qfs_set_all(6));
    g_autofree char *value = hand_get(hand, name);
    g_assert_cmpuint(hand_links(hand, first), ==, g_strcmp0(value, "one") == 0 ? 2 : 1);
    g_assert_cmpuint(hand_links(hand, second), ==, g_strcmp0(value, "two") == 0 ? 3 : 2);
  }
  g_assert_cmpuint(tried, ==, 1);
  hand_free(hand);
}

/* ---- refused for lack of space ---- */

/* Something is refused at full nodes while an earlier append is on its way: what comes next builds on that append. */
static void check_refused(QfsRequest *refused) {
  Hand *hand = hand_new(3, 3);
  g_assert_cmpint(hand_put(hand, "log", "a"), ==, QFS_OK);
  hand_settle(hand, qfs_set_all(3));
  hand_lose(hand, 2, HAND_TYPE(APPLY));
  hand_lose(hand, 3, HAND_TYPE(APPLY));
  QfsRequest *first = hand_append_request("log", "b");
  hand_submit(hand, first);
  hand_run(hand, 10000);
  g_assert_false(hand_is_answered(first));
  hand->full = qfs_set_all(3);
  hand_lose(hand, 2, 0);
  hand_lose(hand, 3, 0);
  g_assert_cmpint(hand_wait(hand, refused), ==, QFS_NO_SPACE);
  g_assert_false(hand_is_answered(first));
  hand->full = 0;
  QfsRequest *next = hand_append_request("log", "c");
  g_assert_cmpint(hand_wait(hand, next), ==, QFS_OK);
  g_assert_cmpint(hand_wait(hand, first), ==, QFS_OK);
  hand_assert_value(hand, "log", "abc");
  hand_free(hand);
}

static void test_refused_batch(void) { check_refused(hand_two_keys(QFS_REQUEST_RENAME, "log", "log2")); }

static void test_refused_write(void) { check_refused(hand_put_request("log", "x")); }

void directed_batches_add(void) {
  g_test_add_func("/batches/intent-says-what-an-earlier-one-did-to-the-key", test_carried);
  g_test_add_func("/batches/late-copy-of-an-intent", test_late_intent);
  g_test_add_func("/batches/intent-is-not-told-again", test_intent_again);
  g_test_add_func("/batches/a-part-waits-for-the-intent", test_commit);
  g_test_add_func("/batches/a-write-after-it-waits-for-the-intent", test_write_after);
  g_test_add_func("/batches/refused-beside-a-write-on-its-way", test_refused_batch);
  g_test_add_func("/batches/write-refused-beside-another-on-its-way", test_refused_write);
  g_test_add_func("/batches/a-value-put-back-waits-for-its-chunks", test_put_back);
  g_test_add_func("/batches/a-copy-of-a-value-waits-for-its-chunks", test_copied_value);
  g_test_add_func("/batches/staged-under-one-key-and-published-under-another", test_staged);
  g_test_add_func("/batches/a-copy-of-a-part-waits-for-the-intent", test_copied);
  g_test_add_func("/batches/intents-stay-until-new-holders-have-their-part", test_told_again);
  g_test_add_func("/batches/who-returns-keeps-the-intent", test_kept);
}
