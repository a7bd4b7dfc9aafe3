/* directed_damage.c - rows that rotted, and what meets them (mend.c, purge.c). */
#include "hand.h"

static gboolean is_forgotten(Hand *hand, gconstpointer key) {
  for (guint i = 1; i <= hand->nodes; i++)
    if (hand_row(hand, i, key) != NULL)
      return FALSE;
  return TRUE;
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

void directed_damage_add(void) {
  g_test_add_func("/damage/tombstone-that-rotted-is-collected", test_purge);
}
