/* load.c - fills a store that is not mounted with many small keys, over the engine itself.
 *
 *   load STORE NODES REPLICAS KEYS [SIZE [PER_DIRECTORY]]
 *
 * Makes the store if there is none; keys load/DDD/N of SIZE bytes (default 40), a thousand in each directory. As many
 * requests are under way as keeps the nodes' transactions full. The last line tells how long it took.
 */
#include "cluster/engine.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define UNDER_WAY_MAX 512

typedef struct {
  pthread_mutex_t lock;
  pthread_cond_t changed;
  guint under_way; /* lock */
  guint64 failed;  /* lock */
  QfsStatus first_failure;
} Load;

static void done(QfsRequest *request, gpointer user_data) {
  Load *load = user_data;
  pthread_mutex_lock(&load->lock);
  if (request->status != QFS_OK && load->failed++ == 0)
    load->first_failure = request->status;
  load->under_way--;
  pthread_cond_signal(&load->changed);
  pthread_mutex_unlock(&load->lock);
  qfs_request_free(request);
}

static void wait_until(Load *load, guint under_way) {
  pthread_mutex_lock(&load->lock);
  while (load->under_way > under_way)
    pthread_cond_wait(&load->changed, &load->lock);
  pthread_mutex_unlock(&load->lock);
}

static void put(QfsEngine *engine, Load *load, const char *key, GBytes *value) {
  QfsRequest *request = qfs_request_new(QFS_REQUEST_WRITE, key, done, load);
  request->flags = QFS_WRITE_REPLACE | QFS_WRITE_CREATE | QFS_WRITE_PARENTS;
  request->attr.mode = S_IFREG | 0644;
  request->now_ns = g_get_real_time() * 1000;
  request->data = g_bytes_ref(value);
  pthread_mutex_lock(&load->lock);
  load->under_way++;
  pthread_mutex_unlock(&load->lock);
  qfs_engine_submit(engine, request);
}

int main(int argc, char **argv) {
  if (argc < 5) {
    g_printerr("usage: load STORE NODES REPLICAS KEYS [SIZE [PER_DIRECTORY]]\n");
    return 2;
  }
  g_autoptr(GError) error = NULL;
  QfsEngineConfig config = {.store = argv[1],
                            .nodes = (guint)atoi(argv[2]),
                            .replicas = (guint)atoi(argv[3]),
                            .timeout_ms = 600000,
                            .tombstone_grace_s = 86400};
  const guint64 keys = g_ascii_strtoull(argv[4], NULL, 10);
  const gsize size = argc > 5 ? (gsize)atol(argv[5]) : 40;
  const guint64 per_directory = argc > 6 ? MAX(g_ascii_strtoull(argv[6], NULL, 10), 1) : 1000;
  g_autofree char *text = g_malloc(size);
  memset(text, 'v', size);
  g_autoptr(GBytes) value = g_bytes_new(text, size);

  QfsEngine *engine = qfs_engine_open_embedded(&config, NULL, NULL, &error);
  if (engine == NULL) {
    g_printerr("load: %s\n", error->message);
    return 1;
  }
  Load load = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
  const gint64 started_us = g_get_monotonic_time();
  for (guint64 i = 0; i < keys; i++) {
    g_autofree char *key =
        g_strdup_printf("load/%03" G_GUINT64_FORMAT "/%" G_GUINT64_FORMAT, i / per_directory, i);
    put(engine, &load, key, value);
    wait_until(&load, UNDER_WAY_MAX);
  }
  wait_until(&load, 0);
  const double seconds = (double)(g_get_monotonic_time() - started_us) / 1e6;
  qfs_engine_close(engine, 600000);
  if (load.failed > 0) {
    g_printerr("load: %" G_GUINT64_FORMAT " of %" G_GUINT64_FORMAT " keys failed, the first with %s\n",
               load.failed, keys, qfs_status_name(load.first_failure));
    return 1;
  }
  g_print("%" G_GUINT64_FORMAT " keys in %.1f s, %.0f a second\n", keys, seconds,
          (double)keys / MAX(seconds, 1e-6));
  return 0;
}
