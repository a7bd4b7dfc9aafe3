/* Goal: the table of injected faults means what links.h says, its parsers take nothing else, and
 * what is printed parses to the same. */
#include "cluster/delay_line.h"
#include "cluster/links.h"
#include "cluster/placement.h"

#include <pthread.h>
#include <string.h>

#define NODES 5

static void parse(QfsLinks *links, const char *text) {
  g_autofree char *why = NULL;
  if (!qfs_links_parse_partition(links, text, &why))
    g_error("'%s': %s", text, why);
  g_assert_null(why);
}

static void assert_refused(const QfsLinks *links, const char *text) {
  QfsLinks copy = *links;
  g_autofree char *why = NULL;
  if (qfs_links_parse_partition(&copy, text, &why))
    g_error("'%s' was taken", text);
  g_assert_nonnull(why);
  g_assert_null(strchr(why, '\n'));
  g_assert_cmpmem(&copy, sizeof copy, links, sizeof *links);
}

static void assert_text(const QfsLinks *links, const char *expected) {
  g_autofree char *text = qfs_links_partition_text(links);
  g_assert_cmpstr(text, ==, expected);
}

/* The nodes that requests reach, and whose answers come back, one bit each. */
static QfsNodeSet open_ways(const QfsLinks *links, QfsLinkWay way) {
  QfsNodeSet set = 0;
  for (guint i = 1; i <= links->nodes; i++)
    if (!qfs_links_is_cut(links, i, way))
      set |= QFS_NODE_BIT(i);
  return set;
}

static void assert_ways(const char *text, QfsNodeSet to, QfsNodeSet from) {
  QfsLinks links;
  qfs_links_init(&links, NODES);
  parse(&links, text);
  g_assert_cmphex(open_ways(&links, QFS_LINK_TO_NODE), ==, to);
  g_assert_cmphex(open_ways(&links, QFS_LINK_FROM_NODE), ==, from);
}

static void test_meaning(void) {
  assert_ways("heal", 0x1f, 0x1f);
  assert_ways("1 2 3 4 5", 0x1f, 0x1f);
  assert_ways("1 2 3 | 4 5", 0x07, 0x07);
  assert_ways("4 5 | 1 2 3", 0x18, 0x18);
  assert_ways("5|4|3|2|1", 0x10, 0x10);
  assert_ways("1>4", 0x17, 0x1f);
  assert_ways("4>1", 0x1f, 0x17);
  assert_ways("1>4 4>1 1>2", 0x15, 0x17);
  assert_ways("2>4", 0x1f, 0x1f); /* nodes do not talk to one another */
  assert_ways("2 3 4 | 1 5 2>4", 0x06, 0x0e);
  assert_ways("2 3 4 | 1 5 1>4", 0x0e, 0x0e);
}

static void test_text(void) {
  static const struct {
    const char *text, *printed;
  } all[] = {
      {"heal", "1 2 3 4 5\n"},
      {" heal \n", "1 2 3 4 5\n"},
      {"1 2 3 | 4 5", "1 2 3 | 4 5\n"},
      {"\t3 2 1|5,4\r\n", "1 2 3 | 4 5\n"},
      {"4 5 | 3 1 2", "4 5 | 1 2 3\n"},
      {"1>4", "1 2 3 4 5\n1>4\n"},
      {"5 > 1, 1 >4", "1 2 3 4 5\n1>4 5>1\n"},
      {"1|2|3|4|5\n1>2 1>2", "1 | 2 | 3 | 4 | 5\n1>2\n"},
      {"001 02 3 4 5", "1 2 3 4 5\n"},
  };
  for (gsize i = 0; i < G_N_ELEMENTS(all); i++) {
    QfsLinks links, again;
    qfs_links_init(&links, NODES);
    again = links;
    parse(&links, all[i].text);
    assert_text(&links, all[i].printed);
    parse(&again, all[i].printed);
    g_assert_cmpmem(&again, sizeof again, &links, sizeof links);
  }
}

/* A partition replaces the former one, and leaves delays and losses alone. */
static void test_replaces(void) {
  QfsLinks links;
  g_autofree char *why = NULL;
  qfs_links_init(&links, NODES);
  g_assert_true(qfs_links_are_clean(&links));
  g_assert_true(qfs_links_parse_delay(&links, 3, "2000\n", &why));
  g_assert_true(qfs_links_parse_drop(&links, 4, " 0.25 ", &why));
  parse(&links, "1 2 3 | 4 5 1>2");
  parse(&links, "1>3");
  assert_text(&links, "1 2 3 4 5\n1>3\n");
  parse(&links, "heal");
  assert_text(&links, "1 2 3 4 5\n");
  g_assert_false(qfs_links_are_clean(&links));
  g_assert_cmpuint(links.delay_ms[2], ==, 2000);
  g_assert_cmpfloat(links.drop[3], ==, 0.25);
  g_assert_cmpint(qfs_links_delay_us(&links, 3, QFS_LINK_TO_NODE) +
                      qfs_links_delay_us(&links, 3, QFS_LINK_FROM_NODE),
                  ==, 2000000);
  g_assert_cmpint(qfs_links_delay_us(&links, 2, QFS_LINK_TO_NODE), ==, 0);
  g_assert_true(qfs_links_parse_delay(&links, 3, "0", &why));
  g_assert_true(qfs_links_parse_drop(&links, 4, "0", &why));
  g_assert_true(qfs_links_are_clean(&links));
}

static void test_refused(void) {
  static const char *const bad[] = {"",
                                    " ",
                                    "\n",
                                    "|",
                                    "| 1 2 3 4 5",
                                    "1 2 3 4 5 |",
                                    "1 2 | | 3 4 5",
                                    "1 2 3",
                                    "1 2 3 4 5 5",
                                    "1 2 3 | 3 4 5",
                                    "0 1 2 3 4 5",
                                    "1 2 3 4 6",
                                    "1 2 3 4 5 6",
                                    "1>1",
                                    "1>",
                                    ">1",
                                    "1>6",
                                    "0>1",
                                    "1>2>3",
                                    "1>2 | 3",
                                    "1 2 3 4 5 1>2 3",
                                    "1 2 | 1>3 3 4 5",
                                    "1>2 1",
                                    "heal 1",
                                    "heals",
                                    "HEAL",
                                    "1-2",
                                    "1;2;3;4;5",
                                    "-1 2 3 4 5",
                                    "+1 2 3 4 5",
                                    "1.0 2 3 4 5",
                                    "18446744073709551617 2 3 4 5",
                                    "1 2 3 4 5 \x01",
                                    "1 2 3 | 4 \xff",
                                    "1 2 3 4 5 1=>2",
                                    "99999999999999999999999999999999999999>1",
                                    "1 2 3 | 1>4"};
  QfsLinks links;
  qfs_links_init(&links, NODES);
  parse(&links, "1 2 | 3 4 5 1>2");
  for (gsize i = 0; i < G_N_ELEMENTS(bad); i++)
    assert_refused(&links, bad[i]);
}

static void test_numbers(void) {
  static const char *const bad_delays[] = {"",       "-1",   "+1",  "1.5",
                                           "1e3",    "0x10", "5 5", "abc",
                                           "600001", "nan",  "5ms", "18446744073709551616"};
  static const char *const bad_drops[] = {"",    "-0.1", "+0.1", "1.1",     "nan",
                                          "inf", "1e-1", "0x1",  "0.1 0.2", "half",
                                          "0,3", ".",    "..",   "1.0.0",   "30%"};
  QfsLinks links;
  qfs_links_init(&links, NODES);
  for (gsize i = 0; i < G_N_ELEMENTS(bad_delays); i++) {
    g_autofree char *why = NULL;
    g_assert_false(qfs_links_parse_delay(&links, 1, bad_delays[i], &why));
    g_assert_nonnull(why);
  }
  for (gsize i = 0; i < G_N_ELEMENTS(bad_drops); i++) {
    g_autofree char *why = NULL;
    g_assert_false(qfs_links_parse_drop(&links, 1, bad_drops[i], &why));
    g_assert_nonnull(why);
  }
  g_assert_true(qfs_links_are_clean(&links));
  g_autofree char *why = NULL;
  g_assert_true(qfs_links_parse_delay(&links, 1, "600000", &why));
  g_assert_true(qfs_links_parse_drop(&links, 1, "1", &why));
  g_assert_true(qfs_links_parse_drop(&links, 2, "1.", &why));
  g_assert_true(qfs_links_parse_drop(&links, 3, ".5", &why));
}

static void test_loss(void) {
  QfsLinks links;
  g_autofree char *why = NULL;
  g_autoptr(GRand) rand = g_rand_new_with_seed(1);
  qfs_links_init(&links, NODES);
  g_assert_true(qfs_links_parse_drop(&links, 2, "0.3", &why));
  g_assert_true(qfs_links_parse_drop(&links, 3, "1", &why));
  guint lost = 0;
  for (guint i = 0; i < 10000; i++) {
    const guint64 chance = (guint64)g_rand_int(rand) << 32 | g_rand_int(rand);
    g_assert_false(qfs_links_loses(&links, 1, QFS_LINK_TO_NODE, chance));
    g_assert_true(qfs_links_loses(&links, 3, QFS_LINK_FROM_NODE, chance));
    lost += qfs_links_loses(&links, 2, QFS_LINK_TO_NODE, chance);
  }
  g_assert_cmpuint(lost, >, 2700);
  g_assert_cmpuint(lost, <, 3300);
  g_assert_true(qfs_links_loses(&links, 3, QFS_LINK_TO_NODE, G_MAXUINT64));
  g_assert_false(qfs_links_loses(&links, 1, QFS_LINK_TO_NODE, 0));
}

/* Random texts of the grammar's own letters, and mutations of a good one: refused without a change,
 * or taken and printed so that it parses to the same; all groups disjoint and complete. */
static void test_random_texts(void) {
  static const char letters[] = "0123456789||>>>  ,\n\theal-x\xc3";
  g_autoptr(GRand) rand = g_rand_new_with_seed(20);
  guint taken = 0;
  for (guint round = 0; round < 200000; round++) {
    const guint nodes = 1 + (guint)g_rand_int_range(rand, 0, round % 10 == 0 ? 64 : 6);
    GString *text = g_string_new(round % 2 == 0 ? "1 2 3 | 4 5 1>4" : "");
    const guint edits = (guint)g_rand_int_range(rand, 0, 12);
    for (guint i = 0; i < edits; i++) {
      const gssize at = g_rand_int_range(rand, 0, (gint)text->len + 1);
      const char c = letters[g_rand_int_range(rand, 0, sizeof letters - 1)];
      if (round % 4 == 0 && (gsize)at < text->len)
        text->str[at] = c;
      else
        g_string_insert_c(text, at, c);
    }
    QfsLinks links, before, again;
    g_autofree char *why = NULL;
    qfs_links_init(&links, nodes);
    before = links;
    if (!qfs_links_parse_partition(&links, text->str, &why)) {
      g_assert_cmpmem(&links, sizeof links, &before, sizeof before);
      g_assert_nonnull(why);
    } else {
      QfsNodeSet seen = 0;
      taken++;
      for (guint i = 0; i < links.groups; i++) {
        g_assert_cmphex(links.group[i], !=, 0);
        g_assert_cmphex(seen & links.group[i], ==, 0);
        seen |= links.group[i];
      }
      g_assert_cmphex(seen, ==, qfs_set_all(nodes));
      g_autofree char *printed = qfs_links_partition_text(&links);
      again = before;
      parse(&again, printed);
      g_assert_cmpmem(&again, sizeof again, &links, sizeof links);
    }
    g_string_free(text, TRUE);
  }
  g_test_message("%u of 200000 texts were taken", taken);
  g_assert_cmpuint(taken, >, 1000);
}

/* The delay line. */

typedef struct {
  pthread_mutex_t lock;
  GArray *arrived; /* lock: guint */
} Arrivals;

static gint dropped;

static void on_arrival(gpointer owner, gpointer item) {
  Arrivals *arrivals = owner;
  const guint number = GPOINTER_TO_UINT(item);
  pthread_mutex_lock(&arrivals->lock);
  g_array_append_val(arrivals->arrived, number);
  pthread_mutex_unlock(&arrivals->lock);
}

static void on_drop(gpointer item) {
  g_atomic_int_inc(&dropped);
}

static void test_delay_line(void) {
  Arrivals arrivals = {PTHREAD_MUTEX_INITIALIZER, g_array_new(FALSE, FALSE, sizeof(guint))};
  QfsDelayLine *line = qfs_delay_line_new(on_arrival, &arrivals, on_drop);
  const gint64 now_us = g_get_monotonic_time();
  for (guint i = 300; i > 0; i--) /* later ones first; three of each time, in order */
    qfs_delay_line_push(line, now_us + (gint64)((i - 1) / 3) * 100, GUINT_TO_POINTER(i));
  qfs_delay_line_push(line, now_us + (gint64)3600 * G_USEC_PER_SEC, GUINT_TO_POINTER(1000));
  for (guint arrived = 0; arrived < 300;) {
    g_usleep(1000);
    pthread_mutex_lock(&arrivals.lock);
    arrived = arrivals.arrived->len;
    pthread_mutex_unlock(&arrivals.lock);
    g_assert_cmpint(g_get_monotonic_time() - now_us, <, 20 * G_USEC_PER_SEC);
  }
  g_assert_cmpint(g_get_monotonic_time() - now_us, >=, 99 * 100);
  qfs_delay_line_stop(line);
  g_assert_cmpint(dropped, ==, 1);
  qfs_delay_line_push(line, now_us, GUINT_TO_POINTER(1001));
  g_assert_cmpint(dropped, ==, 2);
  qfs_delay_line_free(line);
  qfs_delay_line_free(NULL);
  g_assert_cmpuint(arrivals.arrived->len, ==, 300);
  g_array_unref(arrivals.arrived);
}

int main(int argc, char **argv) {
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/links/meaning", test_meaning);
  g_test_add_func("/links/text", test_text);
  g_test_add_func("/links/a-partition-replaces-the-former", test_replaces);
  g_test_add_func("/links/refused", test_refused);
  g_test_add_func("/links/numbers", test_numbers);
  g_test_add_func("/links/loss", test_loss);
  g_test_add_func("/links/random-texts", test_random_texts);
  g_test_add_func("/links/delay-line", test_delay_line);
  return g_test_run();
}
