/* What many lives of a store leave in the record of a value that is overwritten in place in each of them. */
#include "engine_fixture.h"

#define LIVES 40

static guint spans_of(Fixture *f, const char *key) {
  QfsRequest *request = qfs_request_new(QFS_REQUEST_GET, key, NULL, NULL);
  g_assert_cmpint(run_request(f, request), ==, QFS_OK);
  const guint n = qfs_spans_count(request->record->spans);
  qfs_request_free(request);
  return n;
}

static void wait_for_reclaiming(Fixture *f) {
  const gint64 until_us = g_get_monotonic_time() + DEADLINE_S * G_USEC_PER_SEC;
  for (gboolean done = FALSE; !done; g_usleep(2000)) {
    QfsEngineStatus *status = qfs_engine_status(f->engine);
    done = status->reclaim_runs > 0;
    qfs_engine_status_free(status);
    g_assert_cmpint(g_get_monotonic_time(), <, until_us);
  }
}

static void test_spans(Fixture *f, gconstpointer timeout_ms) {
  /* Each life adds a span, for what the one before may have left is not known. Once there are some, a life that lasts
   * until chunks were looked through brings them down to two: of the lives before, and of this one. */
  g_autofree char *value = g_strnfill(300000, 'v');
  g_assert_cmpint(put(f, "big", value), ==, QFS_OK);
  for (guint i = 0; i < LIVES; i++) {
    qfs_engine_close(g_steal_pointer(&f->engine), GPOINTER_TO_UINT(timeout_ms));
    open_engine(f);
    g_assert_cmpint(patch(f, "big", i * 1000, "p"), ==, QFS_OK);
    g_assert_cmpuint(spans_of(f, "big"), <=, i + 2);
  }
  g_test_message("%u spans after %u lives", spans_of(f, "big"), LIVES);
  wait_for_reclaiming(f);
  g_assert_cmpint(patch(f, "big", 7, "q"), ==, QFS_OK);
  g_assert_cmpuint(spans_of(f, "big"), <=, 2);
}

int main(int argc, char **argv) {
  g_test_init(&argc, &argv, NULL);
  g_log_set_always_fatal(G_LOG_LEVEL_ERROR | G_LOG_LEVEL_CRITICAL);
  g_test_add("/cluster/lives/spans-stay-few-when-closed-in-order", Fixture, GUINT_TO_POINTER(5000), set_up_without_faults,
             test_spans, tear_down);
  g_test_add("/cluster/lives/spans-stay-few-when-ended-at-once", Fixture, GUINT_TO_POINTER(0), set_up_without_faults,
             test_spans, tear_down);
  return g_test_run();
}
