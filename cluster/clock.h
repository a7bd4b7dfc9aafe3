/* clock.h - hybrid logical clock in a u64.
 *
 * Source: Kulkarni et al., "Logical Physical Clocks", 2014, cut to one issuer: 42 bits of milliseconds
 * since 1970 (until the year 2109), 14 bits of counter, 8 bits of coordinator id.
 *
 * Invariants
 *  K1. Every timestamp issued is greater than every one issued before, whatever the wall clock does.
 *  K2. No timestamp is issued above the ceiling; the ceiling is durable at a majority before it is
 *      raised here, and a new clock starts above it: so K1 holds across restarts.
 *  K3. Explicit timestamps of users never enter: one far in the future does not drag the clock along.
 */
#pragma once

#include <glib.h>

#define QFS_CLOCK_MS_SHIFT 22
#define QFS_CLOCK_ID_BITS 8

typedef struct {
  guint64 last;     /* greatest issued, or the floor at start */
  guint64 ceiling;  /* inclusive */
  guint id;
} QfsClock;

/* Starts above `floor`, with `ceiling` already durable. */
void qfs_clock_init(QfsClock *clock, guint id, guint64 floor, guint64 ceiling);
/* Next timestamp, or 0 when it would pass the ceiling: raise it first. */
guint64 qfs_clock_next(QfsClock *clock, gint64 wall_ms);
/* The ceiling to make durable now so that it lasts `ahead_ms` from now. */
guint64 qfs_clock_wanted_ceiling(const QfsClock *clock, gint64 wall_ms, guint ahead_ms);
