/* test_clock.c - the hybrid logical clock: unique, increasing, under its ceiling. */
#include "cluster/awake_clock.h"
#include "cluster/clock.h"

#define MS(x) ((guint64)(x) << QFS_CLOCK_MS_SHIFT)

static void test_increases(void) {
  g_test_message("goal: every timestamp is greater than the one before, also within a millisecond");
  QfsClock clock;
  qfs_clock_init(&clock, 7, 0, G_MAXUINT64);
  guint64 last = 0;
  for (guint i = 0; i < 100000; i++) {
    guint64 now = qfs_clock_next(&clock, 1000 + i / 50000);
    g_assert_cmpuint(now, >, last);
    g_assert_cmpuint(now & 0xff, ==, 7);
    last = now;
  }
}

static void test_backwards(void) {
  g_test_message("goal: a wall clock that jumps back by hours changes nothing");
  QfsClock clock;
  qfs_clock_init(&clock, 0, 0, G_MAXUINT64);
  guint64 before = qfs_clock_next(&clock, G_GINT64_CONSTANT(100) * 3600 * 1000);
  guint64 after = qfs_clock_next(&clock, G_GINT64_CONSTANT(90) * 3600 * 1000);
  g_assert_cmpuint(after, >, before);
  g_assert_cmpuint(qfs_clock_next(&clock, -5), >, after);
}

static void test_ceiling(void) {
  g_test_message("goal: nothing is issued above the ceiling; raising it goes on above the last one");
  QfsClock clock;
  qfs_clock_init(&clock, 1, MS(10), MS(20));
  guint64 low = qfs_clock_next(&clock, 15);
  g_assert_cmpuint(low, >, MS(10));
  g_assert_cmpuint(qfs_clock_next(&clock, 21), ==, 0);
  g_assert_cmpuint(qfs_clock_next(&clock, 16), >, low);
  clock.ceiling = qfs_clock_wanted_ceiling(&clock, 21, 1000);
  g_assert_cmpuint(clock.ceiling, >=, MS(1021));
  g_assert_cmpuint(qfs_clock_next(&clock, 21), >=, MS(21));
}

static void test_restart(void) {
  g_test_message("goal: a clock that starts again above the old ceiling repeats nothing");
  QfsClock clock, again;
  qfs_clock_init(&clock, 0, 0, MS(5000));
  guint64 greatest = 0;
  for (guint i = 0; i < 1000; i++)
    greatest = MAX(greatest, qfs_clock_next(&clock, 4999));
  qfs_clock_init(&again, 0, clock.ceiling, G_MAXUINT64);
  g_assert_cmpuint(qfs_clock_next(&again, 0), >, greatest);
}

static void test_counter_carries(void) {
  g_test_message("goal: more timestamps than the counter holds carry into the milliseconds");
  QfsClock clock;
  qfs_clock_init(&clock, 255, 0, G_MAXUINT64);
  guint64 first = qfs_clock_next(&clock, 1);
  guint64 last = first;
  for (guint i = 0; i < 40000; i++) {
    guint64 now = qfs_clock_next(&clock, 1);
    g_assert_cmpuint(now, ==, last + (1u << QFS_CLOCK_ID_BITS));
    last = now;
  }
  g_assert_cmpuint(last, >, MS(2));
}

static void test_awake(void) {
  g_test_message("goal: time in which the process stood still does not count; somebody's sleep does");
  QfsAwakeClock clock = {0};
  const gint64 start = 77 * G_USEC_PER_SEC;
  g_assert_cmpint(qfs_awake_clock_read(&clock, start), ==, start);
  clock.beats = TRUE;
  gint64 now = qfs_awake_clock_read(&clock, start + QFS_AWAKE_GAP_MAX_US);
  g_assert_cmpint(now, ==, start + QFS_AWAKE_GAP_MAX_US); /* a late beat is none yet */
  const gint64 resumed = start + QFS_AWAKE_GAP_MAX_US + 3600 * (gint64)G_USEC_PER_SEC;
  g_assert_cmpint(qfs_awake_clock_read(&clock, resumed), ==, now + QFS_AWAKE_GAP_MAX_US);
  g_assert_cmpint(qfs_awake_clock_read(&clock, resumed + 10), ==, now + QFS_AWAKE_GAP_MAX_US + 10);
  clock.beats = FALSE;
  g_assert_cmpint(qfs_awake_clock_read(&clock, resumed + G_USEC_PER_SEC), ==,
                  now + QFS_AWAKE_GAP_MAX_US + G_USEC_PER_SEC);
}

int main(int argc, char **argv) {
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/cluster/clock/timestamps-increase-within-a-millisecond", test_increases);
  g_test_add_func("/cluster/clock/a-wall-clock-going-back-changes-nothing", test_backwards);
  g_test_add_func("/cluster/clock/nothing-is-issued-above-the-ceiling", test_ceiling);
  g_test_add_func("/cluster/clock/a-restart-repeats-nothing", test_restart);
  g_test_add_func("/cluster/clock/a-full-counter-carries", test_counter_carries);
  g_test_add_func("/cluster/clock/a-pause-of-the-process-does-not-count", test_awake);
  return g_test_run();
}
