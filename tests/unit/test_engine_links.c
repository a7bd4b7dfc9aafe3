/* Goal: a slow, lossy or cut-off node of a real store costs nobody his puts and gets. Times are printed; only bounds that a
 * broken store alone misses decide, on a machine that may stand still for seconds. */
#include "engine_fixture.h"

#define KEYS 400
#define PATIENT_TIMEOUT_MS 20000 /* a node is given up after half of it */
#define LIMIT_US (8 * G_USEC_PER_SEC)

/* Faults. */

typedef struct {
  guint node;
  const char *delay, *drop, *partition;
} Change;

static void change_links(QfsLinks *links, gpointer user_data) {
  const Change *change = user_data;
  g_autofree char *why = NULL;
  if (change->delay != NULL)
    g_assert_true(qfs_links_parse_delay(links, change->node, change->delay, &why));
  if (change->drop != NULL)
    g_assert_true(qfs_links_parse_drop(links, change->node, change->drop, &why));
  if (change->partition != NULL)
    g_assert_true(qfs_links_parse_partition(links, change->partition, &why));
}

static void inject(Fixture *f, Change change) {
  f->engine->ops->edit_links(f->engine, change_links, &change);
}

/* Waiting for the store. */

static guint nodes_up(Fixture *f) {
  QfsEngineStatus *status = qfs_engine_status(f->engine);
  guint up = 0;
  for (guint i = 0; i < 5; i++)
    up += status->node[i].state == QFS_NODE_STATE_UP;
  qfs_engine_status_free(status);
  return up;
}

static void wait_for_nodes(Fixture *f, guint up) {
  const gint64 until_us = g_get_monotonic_time() + DEADLINE_S * G_USEC_PER_SEC;
  while (nodes_up(f) != up) {
    g_usleep(10000);
    g_assert_cmpint(g_get_monotonic_time(), <, until_us);
  }
}

static void set_up_patient(Fixture *f, gconstpointer faults) {
  set_up(f, faults);
  close_engine(f);
  f->config.timeout_ms = PATIENT_TIMEOUT_MS;
  open_engine(f);
}

static guint64 hedged(Fixture *f) {
  QfsEngineStatus *status = qfs_engine_status(f->engine);
  const guint64 count = status->count.hedged;
  qfs_engine_status_free(status);
  return count;
}

/* Measuring. */

static gint by_value(gconstpointer a, gconstpointer b) {
  const gint64 x = *(const gint64 *)a, y = *(const gint64 *)b;
  return x < y ? -1 : x > y;
}

/* Runs for all keys; prints and returns the median; none may wait for who does not answer. */
static gint64 measure(Fixture *f, const char *what, gboolean puts) {
  g_autoptr(GArray) times = g_array_new(FALSE, FALSE, sizeof(gint64));
  for (guint i = 0; i < KEYS; i++) {
    g_autofree char *key = g_strdup_printf("key%u", i);
    const gint64 begin_us = g_get_monotonic_time();
    if (puts) {
      g_assert_cmpint(put(f, key, what), ==, QFS_OK);
    } else {
      g_autofree char *value = get(f, key, NULL);
      g_assert_nonnull(value);
    }
    const gint64 took_us = g_get_monotonic_time() - begin_us;
    g_array_append_val(times, took_us);
    if (!puts)
      g_usleep(1); /* what was put may still be in memory */
  }
  g_array_sort(times, by_value);
  const gint64 *sorted = (const gint64 *)(gpointer)times->data;
  g_test_message("%s, %s: median %" G_GINT64_FORMAT " us, 99th percentile %" G_GINT64_FORMAT
                 " us, worst %" G_GINT64_FORMAT " us",
                 what, puts ? "puts" : "gets", sorted[KEYS / 2], sorted[KEYS * 99 / 100],
                 sorted[KEYS - 1]);
  g_test_message("hedged reads so far: %" G_GUINT64_FORMAT, hedged(f));
  g_assert_cmpint(sorted[KEYS - 1], <, LIMIT_US);
  return sorted[KEYS / 2];
}

static void settle(Fixture *f) {
  const gint64 until_us = g_get_monotonic_time() + DEADLINE_S * G_USEC_PER_SEC;
  for (guint64 unsettled = 1; unsettled > 0;) {
    QfsEngineStatus *status = qfs_engine_status(f->engine);
    unsettled = status->unsettled;
    qfs_engine_status_free(status);
    g_usleep(10000);
    g_assert_cmpint(g_get_monotonic_time(), <, until_us);
  }
}

static void test_slow(Fixture *f, gconstpointer data) {
  measure(f, "first", TRUE);
  settle(f);
  const gint64 put_us = measure(f, "healthy", TRUE);
  settle(f);
  const gint64 get_us = measure(f, "healthy", FALSE);
  inject(f, (Change){.node = 4, .delay = "20000"});
  const gint64 slow_get_us = measure(f, "node 4 slow", FALSE);
  const gint64 slow_put_us = measure(f, "node 4 slow", TRUE);
  g_assert_cmpuint(hedged(f), >, 0);
  g_test_message("medians against healthy ones: puts %.2f, gets %.2f",
                 (gdouble)slow_put_us / (gdouble)put_us, (gdouble)slow_get_us / (gdouble)get_us);
  wait_for_nodes(f, 4);
  settle(f);
  measure(f, "node 4 given up", TRUE);
  measure(f, "node 4 given up", FALSE);
  inject(f, (Change){.node = 4, .delay = "0"});
  wait_for_nodes(f, 5);
}

/* A node that answers late but in time stays, and reads avoid it. */
static void test_late(Fixture *f, gconstpointer data) {
  measure(f, "first", TRUE);
  inject(f, (Change){.node = 2, .delay = "300"});
  for (guint round = 0; round < 3; round++) {
    measure(f, "node 2 late", TRUE);
    measure(f, "node 2 late", FALSE);
    g_usleep(300000);
  }
  g_assert_cmpuint(nodes_up(f), ==, 5);
  settle(f);
}

/* Where the whole machine is slow, giving up one node after another would end in refusing all writes. */
static void test_all_slow_alike(Fixture *f, gconstpointer data) {
  g_assert_cmpint(put(f, "key", "quick"), ==, QFS_OK);
  for (guint i = 1; i <= 5; i++)
    inject(f, (Change){.node = i, .delay = "1300"}); /* more than half of the timeout */
  for (guint i = 0; i < 3; i++) {
    const QfsStatus status = put(f, "key", "slow"); /* in time or not */
    g_assert_true(status == QFS_OK || status == QFS_UNKNOWN);
    g_assert_cmpuint(nodes_up(f), ==, 5);
  }
  for (guint i = 1; i <= 5; i++)
    inject(f, (Change){.node = i, .delay = "0"});
}

/* More is written than may be on its way at once: the one that holds everything up is given up. The deadline is long: with
 * a busy disk under all nodes the others are slow as well. */
static void test_back_pressure(Fixture *f, gconstpointer data) {
  const gsize len = 1 << 20;
  g_autofree char *value = g_malloc(len + 1);
  memset(value, 'v', len);
  value[len] = '\0';
  close_engine(f);
  f->config.timeout_ms = 60000;
  open_engine(f);
  inject(f, (Change){.node = 2, .delay = "900"});
  gboolean given_up = FALSE;
  const gint64 begin_us = g_get_monotonic_time();
  gint64 worst_us = 0;
  for (guint i = 0; i < 150; i++) {
    g_autofree char *key = g_strdup_printf("large%u", i);
    const gint64 before_us = g_get_monotonic_time();
    g_assert_cmpint(put(f, key, value), ==, QFS_OK);
    worst_us = MAX(worst_us, g_get_monotonic_time() - before_us);
    given_up = given_up || nodes_up(f) < 5;
  }
  g_test_message("150 puts of 1 MiB took %" G_GINT64_FORMAT " ms, the worst %" G_GINT64_FORMAT
                 " ms",
                 (g_get_monotonic_time() - begin_us) / 1000, worst_us / 1000);
  g_assert_true(given_up);
  inject(f, (Change){.node = 2, .delay = "0"});
  wait_for_nodes(f, 5);
  settle(f);
}

static void test_lossy(Fixture *f, gconstpointer data) {
  for (guint node = 1; node <= 2; node++)
    inject(f, (Change){.node = node, .drop = "0.3"});
  measure(f, "two lossy nodes", TRUE);
  measure(f, "two lossy nodes", FALSE);
  for (guint node = 1; node <= 2; node++)
    inject(f, (Change){.node = node, .drop = "0"});
  wait_for_nodes(f, 5);
  settle(f);
}

/* Cut off from all but one node: everything ends by its deadline, and at once when that is known.
 */
static void test_cut(Fixture *f, gconstpointer data) {
  measure(f, "first", TRUE);
  settle(f);
  inject(f, (Change){.partition = "3 | 1 2 4 5"});
  g_assert_cmpint(put(f, "key0", "cut"), !=, QFS_OK);
  guint answered = 0;
  for (guint i = 1; i < KEYS; i++) {
    g_autofree char *key = g_strdup_printf("key%u", i);
    const gint64 begin_us = g_get_monotonic_time();
    g_assert_cmpint(put(f, key, "cut"), ==, QFS_NO_QUORUM);
    QfsStatus status;
    g_autofree char *value = get(f, key, &status);
    if (status == QFS_OK)
      g_assert_cmpstr(value, ==, "first");
    answered += status == QFS_OK;
    g_assert_cmpint(g_get_monotonic_time() - begin_us, <, 1000 * f->config.timeout_ms + LIMIT_US);
  }
  g_test_message("%u of %d keys are read with one node left", answered, KEYS - 1);
  g_assert_cmpuint(answered, >, 0);
  inject(f, (Change){.partition = "heal"});
  wait_for_nodes(f, 5);
  g_assert_cmpint(put(f, "key0", "healed"), ==, QFS_OK);
  settle(f);
}

/* Closing while messages and reads are on their way, or lost. */
static void ignore_done(QfsRequest *request, gpointer user_data) {
  qfs_request_free(request);
}

static void test_close(Fixture *f, gconstpointer data) {
  g_assert_cmpint(put(f, "key", "value"), ==, QFS_OK);
  for (guint node = 1; node <= 5; node++)
    inject(f, (Change){.node = node, .delay = "600"});
  inject(f, (Change){.partition = "1>2 3>1"});
  for (guint i = 0; i < 50; i++) {
    QfsRequest *request = qfs_request_new(QFS_REQUEST_GET, "key", ignore_done, NULL);
    qfs_engine_submit(f->engine, request);
    request = qfs_request_new(QFS_REQUEST_WRITE, "key", ignore_done, NULL);
    request->flags = QFS_WRITE_REPLACE | QFS_WRITE_CREATE;
    request->data = g_bytes_new("x", 1);
    qfs_engine_submit(f->engine, request);
  }
  qfs_engine_close(g_steal_pointer(&f->engine), 700);
  open_engine(f);
  g_autofree char *value = get(f, "key", NULL);
  g_assert_nonnull(value);
}

int main(int argc, char **argv) {
  g_test_init(&argc, &argv, NULL);
  g_log_set_always_fatal(G_LOG_LEVEL_CRITICAL | G_LOG_LEVEL_ERROR);
#define ADD_AS(set_up, name, test) g_test_add("/engine-links/" name, Fixture, "faults", set_up, test, tear_down)
#define ADD(name, test) ADD_AS(set_up, name, test)
  ADD_AS(set_up_patient, "slow-node", test_slow);
  ADD_AS(set_up_patient, "late-node-stays", test_late);
  ADD("all-slow-alike", test_all_slow_alike);
  ADD("back-pressure", test_back_pressure);
  ADD_AS(set_up_patient, "lossy-nodes", test_lossy);
  ADD("cut-off", test_cut);
  ADD("closing", test_close);
  return g_test_run();
}
