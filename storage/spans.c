/* spans.c - see spans.h. */
#include "storage/spans.h"

#include <string.h>

static GBytes *encode(const QfsSpan *span, guint n) {
  guint64 *words = g_new(guint64, MAX(2 * n, 1));
  for (guint i = 0; i < n; i++) {
    words[2 * i] = GUINT64_TO_BE(span[i].lo);
    words[2 * i + 1] = GUINT64_TO_BE(span[i].hi);
  }
  return g_bytes_new_take(words, n * sizeof(QfsSpan));
}

static QfsSpan *decode(GBytes *spans, guint *out_n, guint room) {
  guint n = qfs_spans_count(spans);
  QfsSpan *all = g_new(QfsSpan, n + room);
  for (guint i = 0; i < n; i++)
    all[i] = qfs_spans_get(spans, i);
  *out_n = n;
  return all;
}

GBytes *qfs_spans_new(guint64 lo, guint64 hi) {
  QfsSpan span = {lo, hi};
  return encode(&span, 1);
}

guint qfs_spans_count(GBytes *spans) { return (guint)(g_bytes_get_size(spans) / sizeof(QfsSpan)); }

QfsSpan qfs_spans_get(GBytes *spans, guint i) {
  guint64 words[2];
  const guint8 *bytes = g_bytes_get_data(spans, NULL);
  memcpy(words, bytes + i * sizeof words, sizeof words);
  return (QfsSpan){GUINT64_FROM_BE(words[0]), GUINT64_FROM_BE(words[1])};
}

guint64 qfs_spans_newest(GBytes *spans) {
  guint n = qfs_spans_count(spans);
  return n > 0 ? qfs_spans_get(spans, n - 1).hi : 0;
}

gboolean qfs_spans_floor(GBytes *spans, guint64 number, guint64 *out) {
  for (guint i = qfs_spans_count(spans); i-- > 0;) {
    QfsSpan span = qfs_spans_get(spans, i);
    if (span.lo > number)
      continue;
    *out = MIN(span.hi, number);
    return TRUE;
  }
  return FALSE;
}

gboolean qfs_spans_have(GBytes *spans, guint64 number) {
  guint64 nearest;
  return qfs_spans_floor(spans, number, &nearest) && nearest == number;
}

GBytes *qfs_spans_extend(GBytes *spans, guint64 number) {
  guint n;
  g_autofree QfsSpan *all = decode(spans, &n, 0);
  g_assert(n > 0 && number > all[n - 1].hi);
  all[n - 1].hi = number;
  return encode(all, n);
}

GBytes *qfs_spans_append(GBytes *spans, guint64 number) {
  guint n;
  g_autofree QfsSpan *all = decode(spans, &n, 1);
  g_assert(n == 0 || number > all[n - 1].hi);
  all[n++] = (QfsSpan){number, number};
  return encode(all, n);
}

GBytes *qfs_spans_merge(GBytes *spans, guint64 number) {
  guint n, kept = 0;
  g_autofree QfsSpan *all = decode(spans, &n, 0);
  for (guint i = 1; i < n; i++) {
    if (all[i].lo <= number)
      all[kept].hi = all[i].hi;
    else
      all[++kept] = all[i];
  }
  return encode(all, n > 0 ? kept + 1 : 0);
}
