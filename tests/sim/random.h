/* random.h - the one generator that every decision of a simulated run comes from.
 *
 * SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014): a
 * counter and a finaliser, so a seed of any quality will do. Integers only: the same draws on every
 * machine.
 */
#pragma once

#include <glib.h>

typedef struct {
  guint64 state;
} SimRandom;

static inline guint64 sim_mix(guint64 x) {
  x = (x ^ (x >> 30)) * G_GUINT64_CONSTANT(0xbf58476d1ce4e5b9);
  x = (x ^ (x >> 27)) * G_GUINT64_CONSTANT(0x94d049bb133111eb);
  return x ^ (x >> 31);
}

static inline guint64 sim_random_u64(SimRandom *random) {
  random->state += G_GUINT64_CONSTANT(0x9e3779b97f4a7c15);
  return sim_mix(random->state);
}

/* 0 .. n-1; n > 0. */
static inline guint sim_random_below(SimRandom *random, guint n) {
  return (guint)(sim_random_u64(random) % n);
}

/* low .. high, both included. */
static inline gint64 sim_random_range(SimRandom *random, gint64 low, gint64 high) {
  return low + (gint64)(sim_random_u64(random) % (guint64)(high - low + 1));
}

static inline gboolean sim_random_percent(SimRandom *random, guint percent) {
  return sim_random_below(random, 100) < percent;
}

/* low .. high with every power of two as likely as the next: mostly small, sometimes large. low >
 * 0. */
static inline gint64 sim_random_spread(SimRandom *random, gint64 low, gint64 high) {
  guint doublings = 0;
  while ((low << (doublings + 1)) <= high)
    doublings++;
  gint64 from = low << sim_random_below(random, doublings + 1);
  return MIN(sim_random_range(random, from, 2 * from - 1), high);
}
