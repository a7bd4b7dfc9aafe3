/* trace.c - see trace.h. */
#include "trace.h"

#include "storage/record.h"

#include <string.h>

void sim_trace_line(SimTrace *trace, gint64 now_us, const char *format, ...) {
  char line[SIM_TRACE_LINE_MAX];
  int head = g_snprintf(line, sizeof line, "%4" G_GINT64_FORMAT ".%06d ", now_us / 1000000,
                        (int)(now_us % 1000000));
  va_list arguments;
  va_start(arguments, format);
  g_vsnprintf(line + head, sizeof line - (gulong)head, format, arguments);
  va_end(arguments);
  gsize len = strlen(line);
  trace->digest = trace->digest * G_GUINT64_CONSTANT(0x9e3779b97f4a7c15) + qfs_digest(line, len);
  trace->lines++;
  if (trace->out != NULL)
    fprintf(trace->out, "%s\n", line);
}
