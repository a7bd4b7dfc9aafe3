/* content.c - see content.h. */
#include "content.h"

#include "random.h"

#include <string.h>

static void fill(guint8 *out, gsize len, guint64 key) {
  SimRandom random = {.state = key};
  for (gsize at = 0; at < len; at += 8) {
    guint64 word = sim_random_u64(&random);
    memcpy(out + at, &word, MIN(len - at, 8));
  }
}

GBytes *sim_value_bytes(guint op, gsize size) {
  char head[SIM_VALUE_MIN + 1];
  int head_len = g_snprintf(head, sizeof head, "v%u:%" G_GSIZE_FORMAT ":", op, size);
  guint8 *bytes = g_malloc(MAX(size, 1));
  memcpy(bytes, head, MIN(size, (gsize)head_len));
  if (size > (gsize)head_len)
    fill(bytes + head_len, size - (gsize)head_len, op);
  return g_bytes_new_take(bytes, size);
}

gboolean sim_value_is(GBytes *data, guint op, gsize size) {
  if (g_bytes_get_size(data) != size)
    return FALSE;
  g_autoptr(GBytes) wanted = sim_value_bytes(op, size);
  return g_bytes_equal(data, wanted);
}

static char letter(guint op, gsize at) {
  return (char)('a' + (op * 7 + at) % 26);
}

GBytes *sim_line_bytes(guint op, gsize size) {
  g_assert(size >= 24);
  char *line = g_malloc(size + 1);
  int head_len = g_snprintf(line, size, "%u:%" G_GSIZE_FORMAT " ", op, size);
  for (gsize at = (gsize)head_len; at < size - 1; at++)
    line[at] = letter(op, at);
  line[size - 1] = '\n';
  return g_bytes_new_take(line, size);
}

gboolean sim_line_parse(const guint8 *data, gsize len, gsize *at, guint *out_op) {
  const char *line = (const char *)data + *at;
  gsize left = len - *at;
  const char *colon = memchr(line, ':', MIN(left, 12));
  if (colon == NULL)
    return FALSE;
  guint op = (guint)strtoul(line, NULL, 10);
  gsize size = (gsize)strtoul(colon + 1, NULL, 10);
  if (size < 24 || size > left)
    return FALSE;
  g_autoptr(GBytes) wanted = sim_line_bytes(op, size);
  if (memcmp(g_bytes_get_data(wanted, NULL), line, size) != 0)
    return FALSE;
  *at += size;
  *out_op = op;
  return TRUE;
}

static void fill_cell(guint8 *out, guint op, guint cell) {
  guint32 head[2] = {op, cell};
  memcpy(out, head, sizeof head);
  fill(out + sizeof head, SIM_CELL - sizeof head, ((guint64)op << 32) | cell);
}

GBytes *sim_cell_bytes(guint op, guint first, guint count) {
  guint8 *bytes = g_malloc((gsize)count * SIM_CELL);
  for (guint i = 0; i < count; i++)
    fill_cell(bytes + (gsize)i * SIM_CELL, op, first + i);
  return g_bytes_new_take(bytes, (gsize)count * SIM_CELL);
}

gboolean sim_cell_parse(const guint8 *data, guint cell, guint *out_op) {
  guint8 wanted[SIM_CELL] = {0};
  guint32 head[2];
  memcpy(head, data, sizeof head);
  if (head[0] != 0)
    fill_cell(wanted, head[0], cell);
  *out_op = head[0];
  return memcmp(data, wanted, SIM_CELL) == 0;
}
