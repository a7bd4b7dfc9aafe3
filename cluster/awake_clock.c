/* awake_clock.c - see awake_clock.h. */
#include "cluster/awake_clock.h"

gint64 qfs_awake_clock_read(QfsAwakeClock *clock, gint64 monotonic_us) {
  const gint64 gap_us = monotonic_us - clock->seen_us;
  if (clock->beats && gap_us > QFS_AWAKE_GAP_MAX_US)
    clock->left_out_us += gap_us - QFS_AWAKE_GAP_MAX_US;
  clock->seen_us = monotonic_us;
  return monotonic_us - clock->left_out_us;
}
