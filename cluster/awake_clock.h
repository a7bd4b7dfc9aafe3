/* awake_clock.h - monotonic time less the time in which the process stood still.
 *
 * Stopped by a signal, on a virtual machine that was paused, or starved, the coordinator and its nodes stop together. On
 * the monotonic clock all nodes would seem silent for so long, and be given up as soon as the process goes on, before
 * any of them could answer. So that time does not count: whoever reads this clock while it `beats` has promised to do so
 * every QFS_AWAKE_BEAT_US, and of a longer gap QFS_AWAKE_GAP_MAX_US count.
 *
 * Threading: one thread at a time.
 */
#pragma once

#include <glib.h>

G_BEGIN_DECLS

#define QFS_AWAKE_BEAT_US (100 * 1000)
#define QFS_AWAKE_GAP_MAX_US (250 * 1000)

typedef struct {
  gboolean beats;       /* set by the owner; else gaps are somebody's sleep */
  gint64 seen_us;       /* monotonic time when it was read last */
  gint64 left_out_us;
} QfsAwakeClock; /* starts zeroed */

/* `monotonic_us`: never less than at the call before. Microseconds; never goes back. */
gint64 qfs_awake_clock_read(QfsAwakeClock *clock, gint64 monotonic_us);

G_END_DECLS
