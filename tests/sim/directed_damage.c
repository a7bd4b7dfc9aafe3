/* directed_damage.c - rows that rotted, and what meets them (mend.c, purge.c). */
#include "hand.h"

static gboolean is_forgotten(Hand *hand, gconstpointer key) {
  for (guint i = 1; i <= hand->nodes; i++)
    if (hand_row(hand, i, key) != NULL)
      return FALSE;
  return TRUE;
}

static void set_row(Hand *hand, guint node, const char *key, const QfsRecord *record) {
  MemDisk *disk = hand->node[node].disk;
  mem_disk_begin(disk);
  mem_disk_set_row(disk, key, record);
  mem_disk_commit(disk, TRUE);
}

static void test_purge(void) {
  /* A collection of tombstones by command meets one that rotted: it is mended, and then collected with the others. */
  Hand *hand = hand_new(3, 3);
  g_assert_cmpint(hand_put(hand, "key", "value"), ==, QFS_OK);
  g_assert_cmpint(hand_remove(hand, "key"), ==, QFS_OK);
  hand_settle(hand, qfs_set_all(3));
  mem_disk_rot_row(hand->node[3].disk, "key");
  g_assert_cmpint(hand_wait(hand, qfs_request_new(QFS_REQUEST_GC, NULL, NULL, NULL)), ==, QFS_OK);
  hand_run_until(hand, is_forgotten, "key");
  hand_free(hand);
}

static void test_hidden_row(void) {
  /* A damaged page hides a row from its node: who asks that one first hears from another that the key is there. */
  Hand *hand = hand_new(3, 3);
  for (guint i = 1; i <= 3; i++) {
    g_autofree char *key = g_strdup_printf("key%u", i);
    g_assert_cmpint(hand_put(hand, key, "value"), ==, QFS_OK);
    hand_settle(hand, qfs_set_all(3));
    for (guint node = 1; node <= 3; node++) { /* each in turn, whoever is asked first */
      g_autoptr(QfsRecord) row = qfs_record_ref((QfsRecord *)hand_row(hand, node, key));
      set_row(hand, node, key, NULL);
      hand_assert_value(hand, key, "value");
      set_row(hand, node, key, row);
    }
  }
  hand_free(hand);
}

static void test_write_meets_bad_row(void) {
  /* W needs the node whose row rotted: the row is replaced while the write waits for it. */
  Hand *hand = hand_new(3, 3);
  g_assert_cmpint(hand_put(hand, "key", "old"), ==, QFS_OK);
  hand_settle(hand, qfs_set_all(3));
  hand->away = NODES(2);
  hand_crash(hand, 2);
  hand_settle(hand, NODES(1, 3));
  mem_disk_rot_row(hand->node[1].disk, "key");
  g_assert_cmpint(hand_put(hand, "key", "new"), ==, QFS_OK);
  hand_settle(hand, NODES(1, 3));
  g_assert_nonnull(hand_row(hand, 1, "key"));
  hand_assert_value(hand, "key", "new");
  hand_free(hand);
}

void directed_damage_add(void) {
  g_test_add_func("/damage/row-that-is-hidden", test_hidden_row);
  g_test_add_func("/damage/write-that-meets-a-bad-row", test_write_meets_bad_row);
  g_test_add_func("/damage/tombstone-that-rotted-is-collected", test_purge);
}
