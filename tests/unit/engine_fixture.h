/* engine_fixture.h - a real store of 5 nodes and 3 replicas on disk, opened through the engine, and
 * blocking puts and gets on it; for tests. */
#pragma once

#include "cluster/engine.h"
#include "tests/unit/remove_tree.h"

#include <glib/gstdio.h>
#include <pthread.h>
#include <sys/stat.h>

#define DEADLINE_S 60

typedef struct {
  char *top;
  QfsEngineConfig config;
  QfsEngine *engine;
} Fixture;

static void open_engine(Fixture *f) {
  g_autoptr(GError) error = NULL;
  f->engine = qfs_engine_open_embedded(&f->config, NULL, NULL, &error);
  g_assert_no_error(error);
  g_assert_nonnull(f->engine);
}

static void close_engine(Fixture *f) {
  qfs_engine_close(g_steal_pointer(&f->engine), 5000);
}

/* `faults` not NULL: they may be injected. */
static void set_up(Fixture *f, gconstpointer faults) {
  f->top = g_dir_make_tmp("qfs-engine-XXXXXX", NULL);
  f->config =
      (QfsEngineConfig){.nodes = 5, .replicas = 3, .timeout_ms = 10000, .faults = faults != NULL};
  f->config.store = g_build_filename(f->top, "store", NULL);
  open_engine(f);
}

G_GNUC_UNUSED static void set_up_without_faults(Fixture *f, gconstpointer how) { set_up(f, NULL); }

static void tear_down(Fixture *f, gconstpointer data) {
  if (f->engine != NULL)
    close_engine(f);
  remove_tree(f->top);
  g_free(f->config.store);
  g_free(f->top);
}

/* Waiting for requests. */

typedef struct {
  pthread_mutex_t lock;
  pthread_cond_t cond;
  gboolean done;
} Waiter;

static void wake_waiter(QfsRequest *request, gpointer user_data) {
  Waiter *waiter = user_data;
  pthread_mutex_lock(&waiter->lock);
  g_assert_false(waiter->done);
  waiter->done = TRUE;
  pthread_cond_signal(&waiter->cond);
  pthread_mutex_unlock(&waiter->lock);
}

static gint requests_run; /* atomic */

/* Every other one lends the calling thread to the nodes. */
static QfsStatus run_request(Fixture *f, QfsRequest *request) {
  Waiter waiter = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, FALSE};
  request->done = wake_waiter;
  request->user_data = &waiter;
  request->now_ns = g_get_real_time() * 1000;
  request->lend = (g_atomic_int_add(&requests_run, 1) & 1) != 0;
  qfs_engine_submit(f->engine, request);
  struct timespec until;
  clock_gettime(CLOCK_REALTIME, &until);
  until.tv_sec += DEADLINE_S;
  pthread_mutex_lock(&waiter.lock);
  while (!waiter.done)
    g_assert_cmpint(pthread_cond_timedwait(&waiter.cond, &waiter.lock, &until), ==, 0);
  pthread_mutex_unlock(&waiter.lock);
  return request->status;
}

static QfsStatus put(Fixture *f, const char *key, const char *value) {
  QfsRequest *request = qfs_request_new(QFS_REQUEST_WRITE, key, NULL, NULL);
  request->flags = QFS_WRITE_REPLACE | QFS_WRITE_CREATE | QFS_WRITE_PARENTS;
  request->attr.mode = S_IFREG | 0644;
  request->data = g_bytes_new(value, strlen(value));
  const QfsStatus status = run_request(f, request);
  qfs_request_free(request);
  return status;
}

/* The value, newly allocated; NULL with *out_status (may be NULL) otherwise. */
G_GNUC_UNUSED static char *get(Fixture *f, const char *key, QfsStatus *out_status) {
  QfsRequest *request = qfs_request_new(QFS_REQUEST_GET, key, NULL, NULL);
  const QfsStatus status = run_request(f, request);
  char *value = NULL;
  if (status == QFS_OK) {
    const QfsRecord *record = request->record;
    g_assert_cmpuint(record->tail_offset, ==, 0);
    value = g_strndup(g_bytes_get_data(record->tail, NULL), record->attr.size);
  }
  if (out_status != NULL)
    *out_status = status;
  qfs_request_free(request);
  return value;
}

/* Writes bytes in the middle of a value. */
G_GNUC_UNUSED static QfsStatus patch(Fixture *f, const char *key, guint64 offset, const char *bytes) {
  QfsRequest *request = qfs_request_new(QFS_REQUEST_WRITE, key, NULL, NULL);
  request->offset = offset;
  request->data = g_bytes_new(bytes, strlen(bytes));
  const QfsStatus status = run_request(f, request);
  qfs_request_free(request);
  return status;
}

G_GNUC_UNUSED static QfsStatus node_action(Fixture *f, guint node, QfsNodeAction action) {
  QfsRequest *request = qfs_request_new(QFS_REQUEST_NODE, NULL, NULL, NULL);
  request->node = node;
  request->action = action;
  const QfsStatus status = run_request(f, request);
  qfs_request_free(request);
  return status;
}

/* Until so many nodes are in sync, and everything is settled. */
G_GNUC_UNUSED static void wait_settled(Fixture *f, guint n_in_sync) {
  const gint64 until_us = g_get_monotonic_time() + DEADLINE_S * G_USEC_PER_SEC;
  for (;;) {
    QfsEngineStatus *status = qfs_engine_status(f->engine);
    guint in_sync = 0;
    for (guint i = 0; i < status->nodes; i++)
      in_sync += status->node[i].in_sync ? 1 : 0;
    const gboolean settled = in_sync == n_in_sync && status->unsettled == 0 && status->quorum;
    qfs_engine_status_free(status);
    if (settled)
      return;
    g_assert_cmpint(g_get_monotonic_time(), <, until_us);
    g_usleep(1000);
  }
}
