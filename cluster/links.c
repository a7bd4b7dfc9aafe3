/* links.c - see links.h. Pure, no state. */
#include "cluster/links.h"

#include "cluster/placement.h"

#include <string.h>

void qfs_links_init(QfsLinks *links, guint nodes) {
  g_assert(nodes >= 1 && nodes <= QFS_NODES_MAX);
  *links = (QfsLinks){.nodes = nodes, .groups = 1, .group = {qfs_set_all(nodes)}};
}

gboolean qfs_links_are_clean(const QfsLinks *links) {
  for (guint i = 0; i < links->nodes; i++)
    if (links->cut[i] != 0 || links->delay_ms[i] != 0 || links->drop[i] > 0)
      return FALSE;
  return links->groups == 1;
}

guint qfs_links_place(const QfsLinks *links) {
  return (guint)__builtin_ctzll(links->group[0]) + 1;
}

gboolean qfs_links_is_cut(const QfsLinks *links, guint node, QfsLinkWay way) {
  if (!qfs_set_has(links->group[0], node))
    return TRUE;
  const guint place = qfs_links_place(links);
  return way == QFS_LINK_TO_NODE ? qfs_set_has(links->cut[place - 1], node)
                                 : qfs_set_has(links->cut[node - 1], place);
}

gboolean qfs_links_loses(const QfsLinks *links, guint node, QfsLinkWay way, guint64 chance) {
  /* The upper 53 bits are a number in [0, 1) that a double holds exactly. */
  return qfs_links_is_cut(links, node, way) ||
         (gdouble)(chance >> 11) * 0x1p-53 < links->drop[node - 1];
}

gint64 qfs_links_delay_us(const QfsLinks *links, guint node, QfsLinkWay way) {
  const gint64 whole_us = (gint64)links->delay_ms[node - 1] * 1000;
  return way == QFS_LINK_TO_NODE ? whole_us / 2 : whole_us - whole_us / 2;
}

/* The partition's text. */

typedef struct {
  const char *at;
  guint nodes;
  char **out_why;
} Reader;

static gboolean complain(char **out_why, const char *format, ...) G_GNUC_PRINTF(2, 3);
static gboolean complain(char **out_why, const char *format, ...) {
  va_list args;
  va_start(args, format);
  *out_why = g_strdup_vprintf(format, args);
  va_end(args);
  return FALSE;
}

static gboolean is_blank(char c) {
  return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == ',';
}

static char next(Reader *reader) {
  while (is_blank(*reader->at))
    reader->at++;
  return *reader->at;
}

static gboolean read_node(Reader *reader, guint *out_node) {
  const char c = next(reader);
  guint64 number = 0;
  if (c == '\0')
    return complain(reader->out_why, "a node's number is missing at the end");
  if (!g_ascii_isdigit(c))
    return complain(reader->out_why, "'%c' where a node's number is expected",
                    g_ascii_isprint(c) ? c : '?');
  for (; g_ascii_isdigit(*reader->at); reader->at++)
    number = MIN(number * 10 + (guint64)(*reader->at - '0'), 1000000);
  if (number < 1 || number > reader->nodes)
    return complain(reader->out_why, "there is no node %" G_GUINT64_FORMAT ": nodes are 1 to %u",
                    number, reader->nodes);
  *out_node = (guint)number;
  return TRUE;
}

/* "A>B", A read already. */
static gboolean read_cut(Reader *reader, guint from, QfsLinks *links) {
  guint to = 0;
  reader->at++;
  if (!read_node(reader, &to))
    return FALSE;
  if (from == to)
    return complain(reader->out_why, "%u>%u: a node's way to itself can't be cut", from, to);
  links->cut[from - 1] |= QFS_NODE_BIT(to);
  return TRUE;
}

static gboolean read_partition(Reader *reader, QfsLinks *links) {
  QfsNodeSet named = 0, group = 0;
  gboolean cuts = FALSE;
  links->groups = 0;
  while (next(reader) != '\0') {
    guint node = 0;
    if (*reader->at == '|') {
      if (cuts)
        return complain(reader->out_why, "groups come before cuts");
      if (group == 0)
        return complain(reader->out_why, "a group is empty");
      links->group[links->groups++] = group;
      group = 0;
      reader->at++;
      if (next(reader) == '\0')
        return complain(reader->out_why, "a group is empty");
      continue;
    }
    if (!read_node(reader, &node))
      return FALSE;
    if (next(reader) == '>') {
      if (group == 0 && links->groups > 0 && !cuts)
        return complain(reader->out_why, "a group is empty");
      cuts = TRUE;
      if (!read_cut(reader, node, links))
        return FALSE;
      continue;
    }
    if (cuts)
      return complain(reader->out_why, "groups come before cuts");
    if (qfs_set_has(named, node))
      return complain(reader->out_why, "node %u is named twice", node);
    named |= QFS_NODE_BIT(node);
    group |= QFS_NODE_BIT(node);
  }
  if (named == 0 && !cuts)
    return complain(reader->out_why, "no groups and no cuts; 'heal' ends a partition");
  if (named == 0)
    group = named = qfs_set_all(links->nodes);
  const QfsNodeSet missing = qfs_set_all(links->nodes) & ~named;
  if (missing != 0)
    return complain(reader->out_why, "node %d is in no group", __builtin_ctzll(missing) + 1);
  links->group[links->groups++] = group;
  return TRUE;
}

static char *stripped(const char *text) {
  return g_strstrip(g_strdup(text));
}

gboolean qfs_links_parse_partition(QfsLinks *links, const char *text, char **out_why) {
  g_autofree char *word = stripped(text);
  QfsLinks result = *links;
  memset(result.group, 0, sizeof result.group);
  memset(result.cut, 0, sizeof result.cut);
  if (strcmp(word, "heal") == 0) {
    result.groups = 1;
    result.group[0] = qfs_set_all(result.nodes);
  } else {
    Reader reader = {.at = text, .nodes = links->nodes, .out_why = out_why};
    if (!read_partition(&reader, &result))
      return FALSE;
  }
  *links = result;
  return TRUE;
}

char *qfs_links_partition_text(const QfsLinks *links) {
  GString *text = g_string_new(NULL);
  for (guint i = 0; i < links->groups; i++) {
    if (i > 0)
      g_string_append(text, " |");
    for (QfsNodeSet rest = links->group[i]; rest != 0; rest &= rest - 1)
      g_string_append_printf(text, "%s%d", text->len > 0 ? " " : "", __builtin_ctzll(rest) + 1);
  }
  char separator = '\n';
  for (guint a = 1; a <= links->nodes; a++)
    for (QfsNodeSet rest = links->cut[a - 1]; rest != 0; rest &= rest - 1) {
      g_string_append_printf(text, "%c%u>%d", separator, a, __builtin_ctzll(rest) + 1);
      separator = ' ';
    }
  g_string_append_c(text, '\n');
  return g_string_free(text, FALSE);
}

/* Numbers. */

gboolean qfs_links_parse_delay(QfsLinks *links, guint node, const char *text, char **out_why) {
  g_assert(node >= 1 && node <= links->nodes);
  g_autofree char *word = stripped(text);
  guint64 ms = 0;
  if (!g_ascii_string_to_unsigned(word, 10, 0, QFS_LINKS_DELAY_MAX_MS, &ms, NULL))
    return complain(out_why, "a delay is a number of milliseconds from 0 to %d",
                    QFS_LINKS_DELAY_MAX_MS);
  links->delay_ms[node - 1] = (guint)ms;
  return TRUE;
}

gboolean qfs_links_parse_drop(QfsLinks *links, guint node, const char *text, char **out_why) {
  g_assert(node >= 1 && node <= links->nodes);
  g_autofree char *word = stripped(text);
  char *end = NULL;
  /* Decimal digits and a point only: no sign, exponent, "nan", "0x". */
  const gboolean plain = *word != '\0' && strspn(word, "0123456789.") == strlen(word);
  const gdouble drop = g_ascii_strtod(word, &end);
  if (!plain || end == word || *end != '\0' || !(drop >= 0 && drop <= 1))
    return complain(out_why, "a probability of loss is a number from 0 to 1, such as 0.3");
  links->drop[node - 1] = drop;
  return TRUE;
}
