/* trace.h - the readable record of one simulated run.
 *
 * Off (the default): nothing is formatted, a run costs nothing extra. A failing seed is run again
 * with the trace on; since the same seed gives the same run, nothing is lost. Three sinks: standard
 * output, a ring of the latest lines in memory shared with the parent process (so that a crash
 * leaves them behind), and a digest of all lines (so that two runs compare as two numbers).
 */
#pragma once

#include <glib.h>
#include <stdio.h>

#define SIM_TRACE_RING_LINES 400
#define SIM_TRACE_LINE_MAX 400

typedef struct {
  guint64 lines; /* ever written; line i lies at i % SIM_TRACE_RING_LINES */
  char text[SIM_TRACE_RING_LINES][SIM_TRACE_LINE_MAX];
} SimTraceRing;

typedef struct {
  gboolean on;
  FILE *out;          /* NULL: not printed */
  SimTraceRing *ring; /* NULL: not kept */
  guint64 digest;
  guint64 lines;
} SimTrace;

void sim_trace_line(SimTrace *trace, gint64 now_us, const char *format, ...) G_GNUC_PRINTF(3, 4);
void sim_trace_print_ring(const SimTraceRing *ring, guint last, FILE *out);

/* The arguments are not evaluated while the trace is off. */
#define SIM_TRACE(sim, ...)                                                                        \
  G_STMT_START {                                                                                   \
    if (G_UNLIKELY((sim)->trace.on))                                                               \
      sim_trace_line(&(sim)->trace, (sim)->now_us, __VA_ARGS__);                                   \
  }                                                                                                \
  G_STMT_END
