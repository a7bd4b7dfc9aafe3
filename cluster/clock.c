#include "cluster/clock.h"

void qfs_clock_init(QfsClock *clock, guint id, guint64 floor, guint64 ceiling) {
  g_assert(id < (1u << QFS_CLOCK_ID_BITS));
  clock->last = floor;
  clock->ceiling = ceiling;
  clock->id = id;
}

static guint64 at_wall(const QfsClock *clock, gint64 wall_ms) {
  guint64 ms = wall_ms > 0 ? (guint64)wall_ms : 0;
  return (ms << QFS_CLOCK_MS_SHIFT) | clock->id;
}

/* The smallest timestamp with our id above `last`. */
static guint64 successor(const QfsClock *clock) {
  guint64 step = G_GUINT64_CONSTANT(1) << QFS_CLOCK_ID_BITS;
  return (clock->last & ~(step - 1)) + step + clock->id;
}

guint64 qfs_clock_next(QfsClock *clock, gint64 wall_ms) {
  guint64 next = MAX(at_wall(clock, wall_ms), successor(clock));
  if (next > clock->ceiling)
    return 0;
  g_assert(next > clock->last); /* K1 */
  clock->last = next;
  return next;
}

guint64 qfs_clock_wanted_ceiling(const QfsClock *clock, gint64 wall_ms, guint ahead_ms) {
  guint64 base = MAX(at_wall(clock, wall_ms), successor(clock));
  return base + ((guint64)ahead_ms << QFS_CLOCK_MS_SHIFT);
}
