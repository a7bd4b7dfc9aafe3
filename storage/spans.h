/* spans.h - which writes' chunk rows belong to a version: sorted, disjoint spans of write numbers.
 *
 * A write numbers the chunk rows that it brings with its own number, which no other write ever gets, and
 * lists it in its record. So rows of a write that never got its record are nobody's, wherever they lie and
 * whenever they come to light: no later version can take them for its own.
 *
 * Kept as bytes as they are stored: pairs (lo, hi), 64 bits each, big-endian. Pure functions, any thread.
 */
#pragma once

#include <glib.h>

G_BEGIN_DECLS

typedef struct {
  guint64 lo, hi; /* both belong to it */
} QfsSpan;

GBytes *qfs_spans_new(guint64 lo, guint64 hi);
guint qfs_spans_count(GBytes *spans);
QfsSpan qfs_spans_get(GBytes *spans, guint i);
/* The greatest number in it; 0: it is empty. */
guint64 qfs_spans_newest(GBytes *spans);
gboolean qfs_spans_have(GBytes *spans, guint64 number);
/* The greatest number in it that is at most `number`. FALSE: there is none. */
gboolean qfs_spans_floor(GBytes *spans, guint64 number, guint64 *out);
/* The last span up to `number`, which is greater than all in it: nothing between may be another's. */
GBytes *qfs_spans_extend(GBytes *spans, guint64 number);
/* A new span of `number` alone, which is greater than all in it. */
GBytes *qfs_spans_append(GBytes *spans, guint64 number);
/* Gaps that end below `number` are closed: no row of another lies in them any more. */
GBytes *qfs_spans_merge(GBytes *spans, guint64 number);

G_END_DECLS
