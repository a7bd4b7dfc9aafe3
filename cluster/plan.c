#include "cluster/plan.h"

#include <string.h>

static void chunk_clear(gpointer data) {
  QfsPlanChunk *chunk = data;
  for (guint i = 0; i < chunk->n_parts; i++)
    g_bytes_unref(chunk->part[i].bytes);
}

static QfsPlan *plan_new(void) {
  QfsPlan *plan = g_new0(QfsPlan, 1);
  plan->chunks = g_array_new(FALSE, TRUE, sizeof(QfsPlanChunk));
  g_array_set_clear_func(plan->chunks, chunk_clear);
  return plan;
}

void qfs_plan_free(QfsPlan *plan) {
  if (plan == NULL)
    return;
  g_clear_pointer(&plan->tail, g_bytes_unref);
  g_array_unref(plan->chunks);
  g_free(plan);
}

/* The plan's entry for chunk `index`; entries are made in ascending order or near the end. */
static QfsPlanChunk *chunk_at(QfsPlan *plan, guint64 index, guint64 base_end) {
  for (guint i = plan->chunks->len; i-- > 0;) {
    QfsPlanChunk *chunk = &g_array_index(plan->chunks, QfsPlanChunk, i);
    if (chunk->index == index)
      return chunk;
    if (chunk->index < index)
      break;
  }
  QfsPlanChunk fresh = {.index = index, .cut = QFS_CHUNK_SIZE};
  fresh.had_base = index * QFS_CHUNK_SIZE < base_end;
  guint at = plan->chunks->len;
  while (at > 0 && g_array_index(plan->chunks, QfsPlanChunk, at - 1).index > index)
    at--;
  g_array_insert_val(plan->chunks, at, fresh);
  return &g_array_index(plan->chunks, QfsPlanChunk, at);
}

/* Puts `data` at `offset` into chunks. base_end: where the base's chunked bytes end. */
static void put_chunks(QfsPlan *plan, guint64 base_end, guint64 offset, GBytes *data) {
  gsize len = g_bytes_get_size(data);
  gsize done = 0;
  while (done < len) {
    guint64 at = offset + done;
    QfsPlanChunk *chunk = chunk_at(plan, at / QFS_CHUNK_SIZE, base_end);
    guint within = (guint)(at % QFS_CHUNK_SIZE);
    gsize n = MIN(len - done, QFS_CHUNK_SIZE - within);
    g_assert(chunk->n_parts < G_N_ELEMENTS(chunk->part));
    chunk->part[chunk->n_parts].offset = within;
    chunk->part[chunk->n_parts++].bytes = g_bytes_new_from_bytes(data, done, n);
    done += n;
  }
}

/* A chunk keeps base bytes unless one part covers all that the base has in it. */
static void find_needs(QfsPlan *plan, guint64 base_end) {
  for (guint i = 0; i < plan->chunks->len; i++) {
    QfsPlanChunk *chunk = &g_array_index(plan->chunks, QfsPlanChunk, i);
    if (!chunk->had_base)
      continue;
    guint64 start = chunk->index * QFS_CHUNK_SIZE;
    guint base_len = (guint)MIN(base_end - start, QFS_CHUNK_SIZE);
    base_len = MIN(base_len, chunk->cut);
    chunk->need_base = base_len > 0;
    for (guint p = 0; p < chunk->n_parts; p++)
      if (chunk->part[p].offset == 0 && g_bytes_get_size(chunk->part[p].bytes) >= base_len)
        chunk->need_base = FALSE;
  }
}

/* `tail` (bytes from `tail_offset` on) with `data` put over it at `offset`; gaps are zeros. */
static GBytes *patch_tail(GBytes *tail, guint64 tail_offset, guint64 offset, GBytes *data) {
  gsize tail_len, len;
  const guint8 *old = g_bytes_get_data(tail, &tail_len);
  const guint8 *bytes = g_bytes_get_data(data, &len);
  gsize at = (gsize)(offset - tail_offset);
  if (at == 0 && len >= tail_len)
    return g_bytes_ref(data);
  gsize new_len = MAX(tail_len, at + len);
  guint8 *buffer = g_malloc(new_len);
  if (tail_len > 0)
    memcpy(buffer, old, tail_len);
  if (at > tail_len)
    memset(buffer + tail_len, 0, at - tail_len);
  if (len > 0)
    memcpy(buffer + at, bytes, len);
  return g_bytes_new_take(buffer, new_len);
}

QfsPlan *qfs_plan_write(const QfsRecord *base, gboolean replace, guint64 offset, GBytes *data) {
  QfsPlan *plan = plan_new();
  g_autoptr(GBytes) nothing = g_bytes_new_static("", 0);
  gboolean fresh = replace || !qfs_record_exists(base);
  guint64 base_size = fresh ? 0 : base->attr.size;
  guint64 base_end = fresh ? 0 : base->tail_offset;
  GBytes *base_tail = fresh ? nothing : base->tail;
  gsize len = g_bytes_get_size(data);
  plan->size = MAX(base_size, len > 0 ? offset + len : 0);
  plan->tail_offset = base_end;
  plan->drops_object = fresh;

  g_autoptr(GBytes) rest = g_bytes_ref(data);
  if (offset < base_end && len > 0) { /* the part that lies in chunks */
    gsize n = (gsize)MIN(len, base_end - offset);
    g_autoptr(GBytes) head = g_bytes_new_from_bytes(data, 0, n);
    put_chunks(plan, base_end, offset, head);
    g_bytes_unref(rest);
    rest = g_bytes_new_from_bytes(data, n, len - n);
    offset += n;
    len -= n;
  }
  guint64 tail_len = MAX((guint64)g_bytes_get_size(base_tail), len > 0 ? offset + len - base_end : 0);
  guint64 limit = fresh ? QFS_INLINE_MAX : QFS_TAIL_MAX;
  /* A tail that is already longer (written inline in one go) may be patched in place. */
  if (tail_len <= limit || tail_len <= g_bytes_get_size(base_tail)) {
    plan->tail = len > 0 ? patch_tail(base_tail, base_end, offset, rest) : g_bytes_ref(base_tail);
  } else {
    put_chunks(plan, base_end, base_end, base_tail);
    put_chunks(plan, base_end, offset, rest);
    plan->tail_offset = plan->size;
    plan->tail = g_bytes_ref(nothing);
  }
  find_needs(plan, base_end);
  plan->needs_object = plan->tail_offset > 0;
  return plan;
}

/* A value that got longer by a hole must not leave room for a tail beyond the limit: it moves into chunks. */
static void extend_by_hole(QfsPlan *plan, const QfsRecord *base) {
  guint64 base_end = base->tail_offset;
  if (plan->size <= base->attr.size || plan->size - base_end <= QFS_INLINE_MAX)
    return;
  put_chunks(plan, base_end, base_end, plan->tail);
  g_bytes_unref(plan->tail);
  plan->tail = g_bytes_new_static("", 0);
  plan->tail_offset = plan->size;
}

static GBytes *zeros(gsize len) {
  static const guint8 chunk[QFS_CHUNK_SIZE];
  g_assert(len <= sizeof chunk);
  return g_bytes_new_static(chunk, len);
}

static GBytes *zero_tail(GBytes *tail, guint64 tail_offset, guint64 from, guint64 to) {
  guint64 end = tail_offset + g_bytes_get_size(tail);
  from = MAX(from, tail_offset);
  if (from >= MIN(to, end))
    return g_bytes_ref(tail);
  if (to >= end)
    return g_bytes_new_from_bytes(tail, 0, (gsize)(from - tail_offset)); /* what is missing reads as zeros */
  g_autoptr(GBytes) blank = zeros((gsize)(to - from));
  return patch_tail(tail, tail_offset, from, blank);
}

QfsPlan *qfs_plan_zero(const QfsRecord *base, guint64 offset, guint64 length, gboolean keep_size) {
  QfsPlan *plan = plan_new();
  guint64 base_end = base->tail_offset, end = offset + length;
  plan->size = keep_size ? base->attr.size : MAX(base->attr.size, end);
  plan->tail_offset = base_end;
  plan->tail = zero_tail(base->tail, base_end, offset, end);
  for (guint64 at = offset; at < MIN(end, base_end);) {
    guint64 index = at / QFS_CHUNK_SIZE;
    guint64 chunk_end = MIN(base_end, (index + 1) * QFS_CHUNK_SIZE), stop = MIN(end, chunk_end);
    guint within = (guint)(at % QFS_CHUNK_SIZE);
    QfsPlanChunk *chunk = chunk_at(plan, index, base_end);
    if (stop == chunk_end) {
      chunk->cut = within;
    } else {
      chunk->part[chunk->n_parts].offset = within;
      chunk->part[chunk->n_parts++].bytes = zeros((gsize)(stop - at));
    }
    at = stop;
  }
  extend_by_hole(plan, base);
  find_needs(plan, base_end);
  plan->needs_object = plan->tail_offset > 0;
  return plan;
}

QfsPlan *qfs_plan_truncate(const QfsRecord *base, guint64 size) {
  QfsPlan *plan = plan_new();
  guint64 base_end = base->tail_offset;
  gsize tail_len = g_bytes_get_size(base->tail);
  plan->size = size;
  if (size >= base_end) {
    plan->tail_offset = base_end;
    plan->tail = g_bytes_new_from_bytes(base->tail, 0, (gsize)MIN(tail_len, size - base_end));
    extend_by_hole(plan, base);
  } else {
    plan->tail_offset = size;
    plan->tail = g_bytes_new_static("", 0);
    plan->drops_object = size == 0;
    guint64 first = size / QFS_CHUNK_SIZE, end = (base_end + QFS_CHUNK_SIZE - 1) / QFS_CHUNK_SIZE;
    for (guint64 index = first; index < end && size > 0; index++) {
      guint cut = index == first ? (guint)(size % QFS_CHUNK_SIZE) : 0;
      chunk_at(plan, index, base_end)->cut = cut;
    }
  }
  find_needs(plan, base_end);
  plan->needs_object = plan->tail_offset > 0;
  return plan;
}

void qfs_plan_relayout(QfsPlan *plan, const QfsRecord *base) {
  guint64 kept = MIN(base->tail_offset, plan->tail_offset);
  for (guint64 index = 0; index * QFS_CHUNK_SIZE < kept; index++)
    chunk_at(plan, index, base->tail_offset);
  find_needs(plan, base->tail_offset);
}

GBytes *qfs_plan_chunk_data(const QfsPlanChunk *chunk, GBytes *base) {
  gsize len = base && chunk->need_base ? MIN(g_bytes_get_size(base), chunk->cut) : 0;
  if (chunk->n_parts == 1 && !(len > 0) && chunk->part[0].offset == 0)
    return g_bytes_ref(chunk->part[0].bytes);
  gsize end = len;
  for (guint i = 0; i < chunk->n_parts; i++)
    end = MAX(end, chunk->part[i].offset + g_bytes_get_size(chunk->part[i].bytes));
  guint8 *buffer = g_malloc0(MAX(end, 1));
  if (len > 0)
    memcpy(buffer, g_bytes_get_data(base, NULL), len);
  for (guint i = 0; i < chunk->n_parts; i++) {
    gsize n;
    const guint8 *bytes = g_bytes_get_data(chunk->part[i].bytes, &n);
    if (n > 0)
      memcpy(buffer + chunk->part[i].offset, bytes, n);
  }
  return g_bytes_new_take(buffer, end);
}
