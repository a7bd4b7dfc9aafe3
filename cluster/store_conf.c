/* store_conf.c - see store_conf.h. */
#include "cluster/store_conf.h"
#include "storage/replica.h"

#include <string.h>

#define GROUP "store"

static char *conf_path(const char *dir) {
  return g_build_filename(dir, "store.conf", NULL);
}

void qfs_store_conf_clear(QfsStoreConf *conf) {
  for (guint i = 0; i < QFS_NODES_MAX; i++)
    g_clear_pointer(&conf->node_dirs[i], g_free);
}

/* A number in [1, max], else 0. */
static guint read_number(GKeyFile *file, const char *name, guint max) {
  const guint64 number = g_key_file_get_uint64(file, GROUP, name, NULL);
  return number <= max ? (guint)number : 0;
}

static gboolean parse(GKeyFile *file, const char *dir, QfsStoreConf *out, GError **error) {
  const guint64 format = g_key_file_get_uint64(file, GROUP, "format", NULL);
  if (format > QFS_STORE_FORMAT) {
    g_set_error(error, QFS_ENGINE_ERROR, QFS_ENGINE_ERROR_CONFIG,
                "store %s has format %" G_GUINT64_FORMAT ", newer than this program reads (%d)",
                dir, format, QFS_STORE_FORMAT);
    return FALSE;
  }
  QfsStoreConf conf = {0};
  g_autofree char *uuid = g_key_file_get_string(file, GROUP, "uuid", NULL);
  g_autofree char *state = g_key_file_get_string(file, GROUP, "state", NULL);
  conf.nodes = read_number(file, "nodes", QFS_NODES_MAX);
  conf.replicas = read_number(file, "replicas", conf.nodes);
  if (format == 0 || uuid == NULL || !g_uuid_string_is_valid(uuid) || conf.replicas == 0) {
    g_set_error(error, QFS_ENGINE_ERROR, QFS_ENGINE_ERROR_CONFIG, "store %s: store.conf is damaged",
                dir);
    return FALSE;
  }
  g_strlcpy(conf.uuid, uuid, sizeof conf.uuid);
  conf.creating = g_strcmp0(state, "creating") == 0;
  conf.places = MAX(conf.nodes, read_number(file, "places", QFS_NODES_MAX));
  for (guint i = 0; i < conf.places; i++) {
    g_autofree char *name = g_strdup_printf("node%u", i + 1);
    conf.node_dirs[i] = g_key_file_get_string(file, GROUP, name, NULL);
  }
  *out = conf;
  return TRUE;
}

gboolean qfs_store_conf_read(const char *dir, QfsStoreConf *out, gboolean *out_found,
                             GError **error) {
  g_autofree char *path = conf_path(dir);
  g_autofree char *text = NULL;
  gsize len = 0;
  g_autoptr(GError) failure = NULL;
  if (!g_file_get_contents(path, &text, &len, &failure)) {
    if (g_error_matches(failure, G_FILE_ERROR, G_FILE_ERROR_NOENT) ||
        g_error_matches(failure, G_FILE_ERROR, G_FILE_ERROR_NOTDIR)) {
      *out_found = FALSE;
      return TRUE;
    }
    g_set_error(error, QFS_ENGINE_ERROR, QFS_ENGINE_ERROR_CONFIG, "%s", failure->message);
    return FALSE;
  }
  g_autoptr(GKeyFile) file = g_key_file_new();
  if (!g_key_file_load_from_data(file, text, len, G_KEY_FILE_NONE, &failure)) {
    g_set_error(error, QFS_ENGINE_ERROR, QFS_ENGINE_ERROR_CONFIG,
                "store %s: store.conf is damaged: %s", dir, failure->message);
    return FALSE;
  }
  if (!parse(file, dir, out, error))
    return FALSE;
  *out_found = TRUE;
  return TRUE;
}

gboolean qfs_store_conf_write(const char *dir, const QfsStoreConf *conf, GError **error) {
  g_autoptr(GKeyFile) file = g_key_file_new();
  g_key_file_set_uint64(file, GROUP, "format", QFS_STORE_FORMAT);
  g_key_file_set_string(file, GROUP, "uuid", conf->uuid);
  g_key_file_set_uint64(file, GROUP, "nodes", conf->nodes);
  g_key_file_set_uint64(file, GROUP, "replicas", conf->replicas);
  g_key_file_set_string(file, GROUP, "state", conf->creating ? "creating" : "ready");
  if (conf->places > conf->nodes)
    g_key_file_set_uint64(file, GROUP, "places", conf->places);
  for (guint i = 0; i < MAX(conf->nodes, conf->places); i++) {
    g_autofree char *name = g_strdup_printf("node%u", i + 1);
    if (conf->node_dirs[i] != NULL)
      g_key_file_set_string(file, GROUP, name, conf->node_dirs[i]);
  }
  gsize len = 0;
  g_autofree char *text = g_key_file_to_data(file, &len, NULL);
  g_autofree char *path = conf_path(dir);
  g_autofree char *stored = NULL;
  if (g_file_get_contents(path, &stored, NULL, NULL) && strcmp(stored, text) == 0)
    return TRUE;
  g_autoptr(GError) failure = NULL;
  if (g_file_set_contents_full(path, text, (gssize)len,
                               qfs_sqlite_replica_syncs() ? G_FILE_SET_CONTENTS_CONSISTENT | G_FILE_SET_CONTENTS_DURABLE
                                                          : G_FILE_SET_CONTENTS_NONE,
                               0600,
                               &failure))
    return TRUE;
  g_set_error(error, QFS_ENGINE_ERROR, QFS_ENGINE_ERROR_FAILED, "%s", failure->message);
  return FALSE;
}

gboolean qfs_store_probe(const char *dir, guint *out_nodes, guint *out_replicas) {
  QfsStoreConf conf = {0};
  gboolean found = FALSE;
  if (!qfs_store_conf_read(dir, &conf, &found, NULL) || !found)
    return FALSE;
  *out_nodes = conf.nodes;
  *out_replicas = conf.replicas;
  qfs_store_conf_clear(&conf);
  return TRUE;
}
