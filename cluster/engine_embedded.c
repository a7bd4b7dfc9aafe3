/* engine_embedded.c - the embedded engine: a store's directory (store.h) and the coordinator with
 * its nodes on threads (env_thread.h), behind QfsEngineOps. Safe across threads except open and
 * close. */
#include "cluster/engine.h"

#include "cluster/env_thread.h"
#include "cluster/store.h"

/* How long an open waits for nodes that neither serve nor fail. */
#define OPEN_TIMEOUT_MS 30000
#define PURGE_PERIOD_S 60
/* Versions kept in memory as bases of further writes. */
#define RECENT_BYTES (8u << 20)

typedef struct {
  QfsEngine engine; /* first */
  QfsStore *store;
  QfsEnvThread *threads;
  guint nodes; /* wanted; engine.config.nodes counts those that are to go, too */
} Embedded;

static void embedded_submit(QfsEngine *engine, QfsRequest *request) {
  qfs_env_thread_submit(((Embedded *)engine)->threads, request);
}

static void embedded_release(QfsEngine *engine) {
  qfs_env_thread_release(((Embedded *)engine)->threads);
}

static void embedded_pin(QfsEngine *engine, QfsObjectId object) {
  qfs_env_thread_pin(((Embedded *)engine)->threads, object);
}

static void embedded_unpin(QfsEngine *engine, QfsObjectId object) {
  qfs_env_thread_unpin(((Embedded *)engine)->threads, object);
}

static void embedded_discard(QfsEngine *engine, QfsObjectId object) {
  qfs_env_thread_discard(((Embedded *)engine)->threads, object);
}

static QfsEngineStatus *embedded_status(QfsEngine *engine) {
  Embedded *self = (Embedded *)engine;
  QfsEngineStatus *status = g_new0(QfsEngineStatus, 1);
  qfs_env_thread_status(self->threads, status);
  for (guint i = 0; i < status->nodes; i++) {
    g_free(status->node[i].dir);
    status->node[i].dir = g_strdup(qfs_store_node_dir(self->store, i + 1));
  }
  return status;
}

static void embedded_read_links(QfsEngine *engine, QfsLinks *out) {
  qfs_env_thread_read_links(((Embedded *)engine)->threads, out);
}

static void embedded_edit_links(QfsEngine *engine, QfsLinksEdit edit, gpointer user_data) {
  g_assert(engine->config.faults);
  qfs_env_thread_edit_links(((Embedded *)engine)->threads, edit, user_data);
}

static void embedded_watch(QfsEngine *engine, QfsChangeFunc func, gpointer user_data) {
  qfs_env_thread_watch(((Embedded *)engine)->threads, func, user_data);
}

static QfsStatus embedded_inspect(QfsEngine *engine, guint node, QfsReaderFunc inspect, gpointer user_data,
                                  char **out_reason) {
  return qfs_env_thread_inspect(((Embedded *)engine)->threads, node, inspect, user_data, out_reason);
}

static QfsNodeSet embedded_holders(QfsEngine *engine, const char *key) {
  return qfs_env_thread_holders(((Embedded *)engine)->threads, key);
}

static guint64 embedded_stand(QfsEngine *engine) {
  return qfs_env_thread_stand(((Embedded *)engine)->threads);
}

/* Also of a half-built engine. The files are closed before the lock is given back. */
static void embedded_free(Embedded *self) {
  qfs_env_thread_free(self->threads);
  qfs_store_close(self->store);
  g_free(self->engine.config.store);
  for (guint i = 0; i < QFS_NODES_MAX; i++)
    g_free(self->engine.config.node_dirs[i]);
  g_free(self);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Embedded, embedded_free)

/* A store that does not serve can't settle anything either. */
static gboolean nothing_is_left(const QfsCoordinator *coordinator) {
  return qfs_coordinator_is_quiet(coordinator) || qfs_coordinator_is_stuck(coordinator);
}

static void embedded_close(QfsEngine *engine, guint timeout_ms) {
  Embedded *self = (Embedded *)engine;
  qfs_env_thread_shutdown(self->threads);
  qfs_env_thread_wait(self->threads, nothing_is_left, timeout_ms);
  qfs_env_thread_stop(self->threads);
  embedded_free(self);
}

static const QfsEngineOps embedded_ops = {.submit = embedded_submit,
                                          .release = embedded_release,
                                          .status = embedded_status,
                                          .pin = embedded_pin,
                                          .unpin = embedded_unpin,
                                          .discard = embedded_discard,
                                          .read_links = embedded_read_links,
                                          .edit_links = embedded_edit_links,
                                          .watch = embedded_watch,
                                          .inspect = embedded_inspect,
                                          .holders = embedded_holders,
                                          .stand = embedded_stand,
                                          .close = embedded_close};

static gboolean start_is_over(const QfsCoordinator *coordinator) {
  return qfs_coordinator_is_serving(coordinator) || qfs_coordinator_is_stuck(coordinator) ||
         qfs_coordinator_failure(coordinator) != NULL;
}

/* What the nodes that failed have to say, in one line. */
static char *node_reasons(Embedded *self, gboolean *out_failed) {
  QfsEngineStatus *status = embedded_status(&self->engine);
  GString *line = g_string_new(NULL);
  for (guint i = 0; i < status->nodes; i++)
    if (status->node[i].state == QFS_NODE_STATE_FAILED)
      g_string_append_printf(line, "%snode %u: %s", line->len > 0 ? "; " : "", i + 1,
                             status->node[i].reason != NULL ? status->node[i].reason : "failed");
  qfs_engine_status_free(status);
  *out_failed = line->len > 0;
  if (line->len == 0)
    g_string_append(line, "its nodes did not answer in time");
  return g_string_free(line, FALSE);
}

/* store.conf names the nodes to come, so that they may be started. */
static gboolean resize(Embedded *self) {
  qfs_env_thread_resize(self->threads, self->nodes, self->engine.config.replicas);
  return TRUE;
}

/* Nodes above N are gone. Called without locks, once per request to resize. */
static void resized(gpointer data) {
  Embedded *self = data;
  g_autoptr(GError) error = NULL;
  if (!qfs_store_resized(self->store, &error))
    g_warning("%s", error->message); /* they are looked for once more at the next start */
}

/* An old store opens with whatever nodes it has; a new one must come up. */
static gboolean wait_for_start(Embedded *self, GError **error) {
  qfs_env_thread_wait(self->threads, start_is_over, OPEN_TIMEOUT_MS);
  const char *dir = qfs_store_dir(self->store);
  g_autofree char *failure = qfs_env_thread_failure(self->threads);
  if (failure != NULL) {
    g_set_error(error, QFS_ENGINE_ERROR, QFS_ENGINE_ERROR_FAILED, "store %s: %s", dir, failure);
    return FALSE;
  }
  const gboolean serves = qfs_env_thread_wait(self->threads, qfs_coordinator_is_serving, 0);
  if (serves)
    return qfs_store_ready(self->store, error) && resize(self);
  if (!qfs_store_is_new(self->store) && !qfs_store_is_resized(self->store))
    return qfs_store_ready(self->store, error);
  gboolean failed = FALSE;
  g_autofree char *reasons = node_reasons(self, &failed);
  if (qfs_store_is_new(self->store))
    g_set_error(error, QFS_ENGINE_ERROR, QFS_ENGINE_ERROR_FAILED, "cannot create store %s: %s", dir,
                reasons);
  else
    g_set_error(error, QFS_ENGINE_ERROR, QFS_ENGINE_ERROR_FAILED,
                "store %s: other nodes or replicas can be had only while a majority of its nodes is there: %s",
                dir, failed ? reasons : "too few of their replicas are usable");
  return FALSE;
}

QfsEngine *qfs_engine_open_embedded(const QfsEngineConfig *config, QfsEngineWatch watch,
                                    gpointer watch_data, GError **error) {
  if (config->temporary)
    qfs_sqlite_replica_sync_nothing();
  QfsStore *store = qfs_store_open(config, error);
  if (store == NULL)
    return NULL;
  g_autoptr(Embedded) self = g_new0(Embedded, 1);
  self->engine.ops = &embedded_ops;
  self->store = store;
  self->engine.config = *config;
  self->engine.config.store = g_strdup(qfs_store_dir(store));
  self->nodes = config->nodes;
  self->engine.config.nodes = qfs_store_places(store);
  for (guint i = 0; i < QFS_NODES_MAX; i++)
    self->engine.config.node_dirs[i] =
        i < qfs_store_places(store) ? g_strdup(qfs_store_node_dir(store, i + 1)) : NULL;

  self->threads = qfs_env_thread_new(qfs_store_places(store), self->engine.config.node_dirs,
                                     config->sync, watch, watch_data);
  if (config->faults)
    qfs_env_thread_allow_faults(self->threads);
  const gboolean is_new = qfs_store_is_new(store);
  QfsCoordinatorConfig coordinator = {.nodes = qfs_store_known(store),
                                      .replicas = is_new ? config->replicas : 1,
                                      .resized = resized,
                                      .resized_data = self,
                                      .sync = config->sync,
                                      .timeout_ms = config->timeout_ms,
                                      .tombstone_grace_s = config->tombstone_grace_s,
                                      .recent_bytes = RECENT_BYTES,
                                      .scrub_period_s = config->scrub_period_s,
                                      .purge_period_s = PURGE_PERIOD_S,
                                      .create = is_new};
  g_strlcpy(coordinator.store, qfs_store_uuid(store), sizeof coordinator.store);
  qfs_env_thread_run(self->threads, &coordinator);
  if (!wait_for_start(self, error))
    return NULL;
  return &g_steal_pointer(&self)->engine;
}
