/* trace.h - the readable record of one simulated run.
 *
 * Off (the default): nothing is formatted, a run costs nothing extra. A failing seed is run again
 * with the trace on; since the same seed gives the same run, nothing is lost. Two sinks: a file, line by line so
 * that a crash leaves them behind, and a digest of all lines (so that two runs compare as two numbers).
 */
#pragma once

#include <glib.h>
#include <stdio.h>

#define SIM_TRACE_LINE_MAX 400

typedef struct {
  gboolean on;
  FILE *out;          /* NULL: not printed */
  guint64 digest;
  guint64 lines;
} SimTrace;

void sim_trace_line(SimTrace *trace, gint64 now_us, const char *format, ...) G_GNUC_PRINTF(3, 4);

/* The arguments are not evaluated while the trace is off. */
#define SIM_TRACE(sim, ...)                                                                        \
  G_STMT_START {                                                                                   \
    if (G_UNLIKELY((sim)->trace.on))                                                               \
      sim_trace_line(&(sim)->trace, (sim)->now_us, __VA_ARGS__);                                   \
  }                                                                                                \
  G_STMT_END
