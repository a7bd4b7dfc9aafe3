/* directed_chunks.c - chunks whose record is not there, or not yet, or that are nobody's (objects.c, reclaim.c). */
#include "hand.h"

#include <string.h>

#define SIZE 200000

static guint64 reclaim_runs(Hand *hand) {
  QfsEngineStatus *status = g_new0(QfsEngineStatus, 1);
  qfs_coordinator_status(hand->coordinator, status);
  const guint64 runs = status->reclaim_runs;
  qfs_engine_status_free(status);
  return runs;
}

static void reclaim(Hand *hand) {
  g_assert_cmpint(hand_wait(hand, qfs_request_new(QFS_REQUEST_GC, NULL, NULL, NULL)), ==, QFS_OK);
}

static void test_staged(void) {
  /* A piece of a value is stored, nothing names it yet, and chunks that no value has are looked for. */
  Hand *hand = hand_new(3, 3);
  g_autofree char *value = g_strnfill(SIZE, 'v');
  QfsRequest *stage = hand_put_request("key", value);
  stage->flags = QFS_WRITE_STAGE;
  hand_submit(hand, stage);
  hand_settle(hand, qfs_set_all(3));
  g_assert_true(hand_is_answered(stage));
  const guint64 runs = reclaim_runs(hand);
  reclaim(hand);
  hand_run(hand, 10 * HAND_SECOND);
  g_assert_cmpuint(reclaim_runs(hand), >, runs);
  QfsRequest *publish = qfs_request_new(QFS_REQUEST_WRITE, "key", NULL, NULL);
  publish->flags = QFS_WRITE_REPLACE | QFS_WRITE_CREATE | QFS_WRITE_STAGED;
  publish->attr.mode = stage->attr.mode;
  publish->object = stage->object;
  publish->staged_size = SIZE;
  qfs_request_free(stage);
  g_assert_cmpint(hand_wait(hand, publish), ==, QFS_OK);
  hand_assert_value(hand, "key", value);
  hand_free(hand);
}

static gboolean asked_1(Hand *hand, gconstpointer before) {
  return hand->sent[1][QFS_MESSAGE_OBJECT_RECORDS] > GPOINTER_TO_UINT(before);
}

static void test_renamed_meanwhile(void) {
  /* Which records name a value's chunks is asked of the nodes of one name before it is renamed, and of those of the other
   * after that: none of them has any. */
  Hand *hand = hand_new(6, 3);
  g_autofree char *value = g_strnfill(SIZE, 'v');
  g_autofree char *from = hand_key(hand, "from", QFS_NODE_BIT(1) | QFS_NODE_BIT(2) | QFS_NODE_BIT(3));
  g_autofree char *to = hand_key(hand, "to", QFS_NODE_BIT(4) | QFS_NODE_BIT(5) | QFS_NODE_BIT(6));
  g_assert_cmpint(hand_put(hand, from, value), ==, QFS_OK);
  hand_settle(hand, qfs_set_all(6));
  const gint chunks = g_tree_nnodes(hand->node[1].disk->chunks);
  g_assert_cmpint(chunks, >, 1);
  for (guint i = 1; i <= 3; i++)
    hand_lose(hand, i, HAND_TYPE(OBJECT_RECORDS));
  reclaim(hand);
  hand_run_until(hand, asked_1, GUINT_TO_POINTER(hand->sent[1][QFS_MESSAGE_OBJECT_RECORDS]));
  hand_run(hand, 1000);
  g_assert_cmpint(hand_rename(hand, from, to), ==, QFS_OK);
  hand_run(hand, 1000);
  for (guint i = 1; i <= 3; i++)
    hand_lose(hand, i, 0);
  hand_run(hand, 5 * HAND_SECOND);
  hand_settle(hand, qfs_set_all(6));
  g_assert_cmpint(g_tree_nnodes(hand->node[1].disk->chunks), ==, chunks);
  hand_assert_value(hand, to, value);
  hand_free(hand);
}

static QfsRequest *patch_request(const char *key, guint64 offset, const char *bytes) {
  QfsRequest *request = qfs_request_new(QFS_REQUEST_WRITE, key, NULL, NULL);
  request->offset = offset;
  request->data = g_bytes_new(bytes, strlen(bytes));
  return request;
}

static void test_given_up(void) {
  /* A write is refused for lack of space when node 1 has its chunk already, and node 1 is not told to let that go. The
   * next write, to another chunk, does not make it part of the value. */
  Hand *hand = hand_new(3, 3);
  g_autofree char *value = g_strnfill(SIZE, 'v');
  g_assert_cmpint(hand_put(hand, "key", value), ==, QFS_OK);
  g_assert_cmpint(hand_wait(hand, patch_request("key", 0, "A")), ==, QFS_OK);
  hand_settle(hand, qfs_set_all(3));
  hand_lose(hand, 1, HAND_TYPE(DISCARD));
  hand->full = QFS_NODE_BIT(2) | QFS_NODE_BIT(3);
  g_assert_cmpint(hand_wait(hand, patch_request("key", 70000, "never")), ==, QFS_NO_SPACE);
  hand->full = 0;
  g_assert_cmpint(hand_wait(hand, patch_request("key", 140000, "B")), ==, QFS_OK);
  value[0] = 'A';
  value[140000] = 'B';
  hand_run(hand, HAND_SECOND);
  hand->away = QFS_NODE_BIT(2) | QFS_NODE_BIT(3); /* node 1 answers alone */
  hand_crash(hand, 2);
  hand_crash(hand, 3);
  hand_run(hand, 10000);
  hand_assert_value(hand, "key", value);
  hand_free(hand);
}

static gboolean has_no_chunks(Hand *hand, gconstpointer node) {
  return g_tree_nnodes(hand->node[GPOINTER_TO_UINT(node)].disk->chunks) == 0;
}

static void test_deleted_while_full(void) {
  /* Node 3 has no room for the chunks of a value that is deleted meanwhile. Once it has, it does not get them after all:
   * what they were discarded by is over. */
  Hand *hand = hand_new(3, 3);
  g_autofree char *value = g_strnfill(SIZE, 'v');
  hand->full = QFS_NODE_BIT(3);
  hand->full_types = HAND_TYPE(CHUNKS);
  g_assert_cmpint(hand_put(hand, "key", value), ==, QFS_OK);
  g_assert_cmpint(hand_remove(hand, "key"), ==, QFS_OK);
  hand_run_until(hand, has_no_chunks, GUINT_TO_POINTER(1));
  g_assert_false(hand_is_without(hand, GUINT_TO_POINTER(3)));
  hand->full = 0;
  hand_settle(hand, qfs_set_all(3));
  for (guint i = 1; i <= 3; i++)
    g_assert_true(has_no_chunks(hand, GUINT_TO_POINTER(i)));
  hand_free(hand);
}

static void test_note(void) {
  /* That a value was read is noted while a write of it is on its way: not before that, for nobody is told of a note. */
  Hand *hand = hand_new(3, 3);
  g_assert_cmpint(hand_put(hand, "key", "old"), ==, QFS_OK);
  hand_settle(hand, qfs_set_all(3));
  hand_lose(hand, 2, HAND_TYPE(APPLY));
  hand_lose(hand, 3, HAND_TYPE(APPLY));
  QfsRequest *write = hand_put_request("key", "new"), *note = qfs_request_new(QFS_REQUEST_SETATTR, "key", NULL, NULL);
  hand_submit(hand, write);
  hand_run(hand, 1000);
  hand_lose(hand, 2, 0);
  hand_lose(hand, 3, 0);
  note->mask = QFS_ATTR_ATIME;
  note->attr.atime_ns = G_GINT64_CONSTANT(1800000000) * 1000000000;
  hand_submit(hand, note);
  while (!hand_is_answered(note))
    hand_run(hand, 100);
  g_assert_true(hand_is_answered(write));
  g_assert_cmpint(hand_wait(hand, note), ==, QFS_OK);
  g_assert_cmpint(hand_wait(hand, write), ==, QFS_OK);
  hand_free(hand);
}

static void test_renamed_before_power(void) {
  /* A value gets a name whose holders have none of its chunks, and the power goes: of who has them nothing is left that was
   * not on stable storage, of who has the new name everything. */
  Hand *hand = hand_new(6, 3);
  g_autofree char *value = g_strnfill(SIZE, 'v');
  g_autofree char *from = hand_key(hand, "from", QFS_NODE_BIT(1) | QFS_NODE_BIT(2) | QFS_NODE_BIT(3));
  g_autofree char *to = hand_key(hand, "to", QFS_NODE_BIT(4) | QFS_NODE_BIT(5) | QFS_NODE_BIT(6));
  g_assert_cmpint(hand_put(hand, from, value), ==, QFS_OK);
  g_assert_cmpint(hand_rename(hand, from, to), ==, QFS_OK);
  hand_lose_power(hand, QFS_NODE_BIT(4) | QFS_NODE_BIT(5) | QFS_NODE_BIT(6));
  g_assert_true(hand_start(hand));
  hand_settle(hand, qfs_set_all(6));
  g_autofree char *found = hand_get(hand, to);
  g_assert_true(g_strcmp0(found, value) == 0);
  hand_free(hand);
}

void directed_chunks_add(void) {
  g_test_add_func("/chunks/staged-while-others-are-reclaimed", test_staged);
  g_test_add_func("/chunks/renamed-while-others-are-reclaimed", test_renamed_meanwhile);
  g_test_add_func("/chunks/of-a-write-that-was-given-up", test_given_up);
  g_test_add_func("/chunks/of-a-value-deleted-before-they-found-room", test_deleted_while_full);
  g_test_add_func("/chunks/renamed-before-the-power-goes", test_renamed_before_power);
  g_test_add_func("/chunks/note-of-reading-beside-a-write", test_note);
}
