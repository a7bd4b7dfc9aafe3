/* content.c - see content.h. */
#include "content.h"

#include "random.h"

#include <string.h>

static void fill(guint8 *out, gsize len, guint64 key) {
  SimRandom random = {.state = key};
  gsize at = 0;
  for (; at + 8 <= len; at += 8) {
    guint64 word = sim_random_u64(&random);
    memcpy(out + at, &word, 8);
  }
  guint64 last = sim_random_u64(&random);
  memcpy(out + at, &last, len - at);
}

/* Is it what fill() makes? */
static gboolean is_filled(const guint8 *data, gsize len, guint64 key) {
  SimRandom random = {.state = key};
  gsize at = 0;
  for (; at + 8 <= len; at += 8) {
    guint64 word = sim_random_u64(&random), found;
    memcpy(&found, data + at, 8);
    if (found != word)
      return FALSE;
  }
  guint64 last = sim_random_u64(&random);
  return memcmp(data + at, &last, len - at) == 0;
}

/* ---- values ---- */

/* Returns how much of the value it is. */
static gsize value_head(char head[SIM_VALUE_MIN + 1], guint op, gsize size) {
  int len = g_snprintf(head, SIM_VALUE_MIN + 1, "v%u:%" G_GSIZE_FORMAT ":", op, size);
  return MIN(size, (gsize)len);
}

GBytes *sim_value_bytes(guint op, gsize size) {
  char head[SIM_VALUE_MIN + 1];
  gsize head_len = value_head(head, op, size);
  guint8 *bytes = g_malloc(MAX(size, 1));
  memcpy(bytes, head, head_len);
  fill(bytes + head_len, size - head_len, op);
  return g_bytes_new_take(bytes, size);
}

gboolean sim_value_is(GBytes *data, guint op, gsize size) {
  char head[SIM_VALUE_MIN + 1];
  gsize head_len = value_head(head, op, size), len;
  const guint8 *bytes = g_bytes_get_data(data, &len);
  if (len != size || size == 0)
    return len == size;
  return memcmp(bytes, head, head_len) == 0 && is_filled(bytes + head_len, size - head_len, op);
}

/* ---- lines ---- */

#define LETTERS 26

/* The letters at `at` and behind it, at most LETTERS and up to the end. */
static gsize letters(guint op, gsize at, gsize end, const char **out) {
  static const char alphabet[] = "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz";
  *out = alphabet + (op * 7 + at) % LETTERS;
  return MIN(end - at, LETTERS);
}

/* The head is shorter than any line. */
static gsize line_head(char head[24], guint op, gsize size) {
  return (gsize)g_snprintf(head, 24, "%u:%" G_GSIZE_FORMAT " ", op, size);
}

GBytes *sim_line_bytes(guint op, gsize size) {
  g_assert(size >= 24);
  char head[24];
  char *line = g_malloc(size);
  gsize at = line_head(head, op, size);
  memcpy(line, head, at);
  const char *piece;
  for (gsize len; (len = letters(op, at, size - 1, &piece)) > 0; at += len)
    memcpy(line + at, piece, len);
  line[size - 1] = '\n';
  return g_bytes_new_take(line, size);
}

static gboolean is_line(const char *line, guint op, gsize size) {
  char head[24];
  const char *piece;
  gsize at = line_head(head, op, size);
  if (memcmp(line, head, at) != 0)
    return FALSE;
  for (gsize len; (len = letters(op, at, size - 1, &piece)) > 0; at += len)
    if (memcmp(line + at, piece, len) != 0)
      return FALSE;
  return line[size - 1] == '\n';
}

gboolean sim_line_parse(const guint8 *data, gsize len, gsize *at, guint *out_op) {
  const char *line = (const char *)data + *at;
  gsize left = len - *at;
  const char *colon = memchr(line, ':', MIN(left, 12));
  if (colon == NULL)
    return FALSE;
  guint op = (guint)strtoul(line, NULL, 10);
  gsize size = (gsize)strtoul(colon + 1, NULL, 10);
  if (size < 24 || size > left || !is_line(line, op, size))
    return FALSE;
  *at += size;
  *out_op = op;
  return TRUE;
}

/* ---- cells ---- */

static guint64 cell_key(guint op, guint cell) {
  return ((guint64)op << 32) | cell;
}

GBytes *sim_cell_bytes(guint op, guint first, guint count) {
  guint8 *bytes = g_malloc((gsize)count * SIM_CELL);
  for (guint i = 0; i < count; i++) {
    guint8 *cell = bytes + (gsize)i * SIM_CELL;
    guint32 head[2] = {op, first + i};
    memcpy(cell, head, sizeof head);
    fill(cell + sizeof head, SIM_CELL - sizeof head, cell_key(op, first + i));
  }
  return g_bytes_new_take(bytes, (gsize)count * SIM_CELL);
}

gboolean sim_cell_parse(const guint8 *data, guint cell, guint *out_op) {
  static const guint8 zeros[SIM_CELL];
  guint32 head[2];
  memcpy(head, data, sizeof head);
  *out_op = head[0];
  if (head[0] == 0)
    return memcmp(data, zeros, SIM_CELL) == 0;
  return head[1] == cell && is_filled(data + sizeof head, SIM_CELL - sizeof head, cell_key(head[0], cell));
}
