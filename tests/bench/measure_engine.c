/* measure_engine.c - the store itself in this process, without a mount: five nodes, three replicas.
 * A client's connection is what it waits on. Keys lie in the directory b. */
#include "cluster/engine.h"
#include "measure.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>

static QfsEngine *engine;

typedef struct {
  pthread_mutex_t lock;
  pthread_cond_t changed; /* GLib's asks the kernel also where nobody waits */
  gboolean done;
} Waiter;

static gboolean engine_start(const char *where) {
  g_autofree char *store = g_strdup(where);
  QfsEngineConfig config = {
      .store = store, .nodes = 5, .replicas = 3, .timeout_ms = 10000, .tombstone_grace_s = 86400};
  g_autoptr(GError) error = NULL;
  engine = qfs_engine_open_embedded(&config, NULL, NULL, &error);
  if (engine == NULL)
    g_printerr("measure: %s\n", error->message);
  return engine != NULL;
}

static void engine_stop(void) { qfs_engine_close(engine, 10000); }

static gpointer engine_connect(const char *where) {
  Waiter *waiter = g_new0(Waiter, 1);
  pthread_mutex_init(&waiter->lock, NULL);
  pthread_cond_init(&waiter->changed, NULL);
  return waiter;
}

static void engine_disconnect(gpointer connection) {
  Waiter *waiter = connection;
  pthread_cond_destroy(&waiter->changed);
  pthread_mutex_destroy(&waiter->lock);
  g_free(waiter);
}

static void finished(QfsRequest *request, gpointer data) {
  Waiter *waiter = data;
  pthread_mutex_lock(&waiter->lock);
  waiter->done = TRUE;
  pthread_cond_signal(&waiter->changed);
  pthread_mutex_unlock(&waiter->lock);
}

/* The request, ended; to be freed. */
static QfsRequest *call(Waiter *waiter, QfsRequest *request) {
  waiter->done = FALSE;
  request->lend = QFS_LEND_FOR_ANSWER;
  qfs_engine_submit(engine, request);
  pthread_mutex_lock(&waiter->lock);
  while (!waiter->done)
    pthread_cond_wait(&waiter->changed, &waiter->lock);
  pthread_mutex_unlock(&waiter->lock);
  return request;
}

static gboolean end(QfsRequest *request) {
  gboolean good = request->status == QFS_OK;
  errno = EIO;
  qfs_request_free(request);
  return good;
}

static QfsRequest *new_request(Waiter *waiter, QfsRequestType type, const char *key) {
  char path[80];
  g_snprintf(path, sizeof path, "b/%s", key);
  QfsRequest *request = qfs_request_new(type, path, finished, waiter);
  request->now_ns = g_get_real_time() * 1000;
  return request;
}

static gboolean engine_write(Waiter *waiter, const char *key, guint flags, const char *value, gsize size) {
  QfsRequest *request = new_request(waiter, QFS_REQUEST_WRITE, key);
  request->flags = flags | QFS_WRITE_CREATE | QFS_WRITE_PARENTS;
  request->attr.mode = S_IFREG | 0644;
  request->data = g_bytes_new(value, size);
  return end(call(waiter, request));
}

static gboolean engine_put(gpointer connection, const char *key, const char *value, gsize size, gboolean durable) {
  return engine_write(connection, key, QFS_WRITE_REPLACE | (durable ? QFS_WRITE_DURABLE : 0), value, size);
}

static gboolean engine_append(gpointer connection, const char *key, const char *value, gsize size) {
  return engine_write(connection, key, QFS_WRITE_APPEND, value, size);
}

static gssize engine_get(gpointer connection, const char *key, char *buffer, gsize room) {
  QfsRequest *found = call(connection, new_request(connection, QFS_REQUEST_GET, key));
  if (found->status != QFS_OK) {
    gssize result = found->status == QFS_NOT_FOUND ? -1 : -2;
    qfs_request_free(found);
    return result;
  }
  const QfsRecord *record = found->record;
  if (record->tail_offset == 0 && g_bytes_get_size(record->tail) == record->attr.size) { /* all of it is in the answer */
    memcpy(buffer, g_bytes_get_data(record->tail, NULL), MIN(record->attr.size, room));
    gssize result = (gssize)record->attr.size;
    qfs_request_free(found);
    return result;
  }
  QfsRequest *read = new_request(connection, QFS_REQUEST_READ, key);
  read->record = g_steal_pointer(&found->record);
  read->length = room;
  qfs_request_free(found);
  call(connection, read);
  gssize result = -2;
  if (read->status == QFS_OK) {
    gsize size;
    const char *data = g_bytes_get_data(read->data, &size);
    memcpy(buffer, data, MIN(size, room));
    result = (gssize)size;
  }
  qfs_request_free(read);
  return result;
}

static gboolean engine_remove(gpointer connection, const char *key) {
  return end(call(connection, new_request(connection, QFS_REQUEST_REMOVE, key)));
}

const Target target_engine = {.name = "engine",
                              .start = engine_start,
                              .stop = engine_stop,
                              .connect = engine_connect,
                              .disconnect = engine_disconnect,
                              .put = engine_put,
                              .get = engine_get,
                              .remove = engine_remove,
                              .append = engine_append};
