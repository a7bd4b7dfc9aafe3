/* store.c - see store.h. Everything that is made is noted first, so that a failed open can unmake
 * it. */
#include "cluster/store.h"

#include "cluster/store_conf.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

struct QfsStore {
  char *dir;
  QfsStoreConf conf;       /* node_dirs: those given by name */
  guint nodes, replicas;   /* as wanted now */
  QfsStoreConf unfinished; /* of a creation that was interrupted; nodes 0: none */
  char *node_dirs[QFS_NODES_MAX];
  char *former_dirs[QFS_NODES_MAX]; /* replicas that were moved from there; NULL: none */
  gboolean is_new;
  gboolean ready;
  int lock_fd;
  gboolean made_lock;
  GPtrArray *made_dirs; /* paths, parents first */
};

static void set_errno_error(GError **error, const char *what, const char *path, int err) {
  g_set_error(error, QFS_ENGINE_ERROR, QFS_ENGINE_ERROR_FAILED, "cannot %s %s: %s", what, path,
              g_strerror(err));
}

/* Configuration: no file is touched. */

static gboolean check_config(const QfsEngineConfig *config, GError **error) {
  g_autofree char *line = NULL;
  if (config->store == NULL || *config->store == '\0')
    line = g_strdup("store: no directory given");
  else if (config->nodes < 1 || config->nodes > QFS_NODES_MAX)
    line = g_strdup_printf("nodes=%u is not between 1 and %d", config->nodes, QFS_NODES_MAX);
  else if (config->replicas < 1)
    line = g_strdup("replicas=0: at least one is needed");
  else if (config->replicas > config->nodes)
    line = g_strdup_printf("replicas=%u is more than nodes=%u", config->replicas, config->nodes);
  for (guint i = 0; line == NULL && i < QFS_NODES_MAX; i++)
    if (config->node_dirs[i] != NULL && i >= config->nodes)
      line = g_strdup_printf("node%u=%s: there are only %u nodes", i + 1, config->node_dirs[i],
                             config->nodes);
    else if (config->node_dirs[i] != NULL && *config->node_dirs[i] == '\0')
      line = g_strdup_printf("node%u= names no directory", i + 1);
  if (line == NULL)
    return TRUE;
  g_set_error_literal(error, QFS_ENGINE_ERROR, QFS_ENGINE_ERROR_CONFIG, line);
  return FALSE;
}

static char *default_node_dir(const char *dir, guint node) {
  g_autofree char *name = g_strdup_printf("node-%u", node);
  return g_build_filename(dir, name, NULL);
}

/* The places of the nodes: as configured now, else as the store remembers, else the default. */
static gboolean place_nodes(QfsStore *store, const QfsEngineConfig *config, GError **error) {
  g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);
  for (guint i = 0; i < MAX(config->nodes, store->conf.places); i++) {
    if (config->node_dirs[i] != NULL) {
      g_free(store->conf.node_dirs[i]);
      store->conf.node_dirs[i] = g_canonicalize_filename(config->node_dirs[i], NULL);
    }
    g_free(store->node_dirs[i]);
    store->node_dirs[i] = store->conf.node_dirs[i] != NULL ? g_strdup(store->conf.node_dirs[i])
                                                           : default_node_dir(store->dir, i + 1);
    if (!g_hash_table_add(seen, store->node_dirs[i])) {
      g_set_error(error, QFS_ENGINE_ERROR, QFS_ENGINE_ERROR_CONFIG, "%s is given to two nodes",
                  store->node_dirs[i]);
      return FALSE;
    }
  }
  return TRUE;
}

/* Directories and the lock. */

static gboolean sync_dir(const char *path, GError **error) {
  const int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const gboolean ok = fd >= 0 && (!qfs_sqlite_replica_syncs() || fsync(fd) == 0);
  if (!ok)
    set_errno_error(error, "sync", path, errno);
  if (fd >= 0)
    close(fd);
  return ok;
}

/* Each name is durable in its parent: what is synced below it later must not be lost with it. */
static gboolean make_dirs(QfsStore *store, const char *path, GError **error) {
  if (g_file_test(path, G_FILE_TEST_IS_DIR))
    return TRUE;
  g_autofree char *parent = g_path_get_dirname(path);
  if (strcmp(parent, path) != 0 && !make_dirs(store, parent, error))
    return FALSE;
  if (g_mkdir(path, 0700) < 0) {
    set_errno_error(error, "make directory", path, errno);
    return FALSE;
  }
  g_ptr_array_add(store->made_dirs, g_strdup(path));
  return sync_dir(parent, error);
}

/* The file behind `fd` may have been removed by its holder between our open and our lock. */
static gboolean is_still_at(int fd, const char *path) {
  struct stat by_fd, by_path;
  return fstat(fd, &by_fd) == 0 && stat(path, &by_path) == 0 && by_fd.st_ino == by_path.st_ino &&
         by_fd.st_dev == by_path.st_dev;
}

static void set_locked_error(const QfsStore *store, int fd, GError **error) {
  char text[32] = "";
  const gssize len = pread(fd, text, sizeof text - 1, 0);
  const long pid = len > 0 ? strtol(text, NULL, 10) : 0;
  if (pid > 0)
    g_set_error(error, QFS_ENGINE_ERROR, QFS_ENGINE_ERROR_LOCKED,
                "store %s is in use by another mount (process %ld)", store->dir, pid);
  else
    g_set_error(error, QFS_ENGINE_ERROR, QFS_ENGINE_ERROR_LOCKED,
                "store %s is in use by another mount", store->dir);
}

static gboolean write_pid(int fd) {
  char text[32];
  const int len = g_snprintf(text, sizeof text, "%ld\n", (long)getpid());
  return ftruncate(fd, 0) == 0 && pwrite(fd, text, (gsize)len, 0) == len;
}

static gboolean take_lock(QfsStore *store, GError **error) {
  g_autofree char *path = g_build_filename(store->dir, "lock", NULL);
  for (;;) {
    const gboolean was_there = g_file_test(path, G_FILE_TEST_EXISTS);
    const int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
      set_errno_error(error, "open", path, errno);
      return FALSE;
    }
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
      if (errno == EWOULDBLOCK)
        set_locked_error(store, fd, error);
      else
        set_errno_error(error, "lock", path, errno);
      close(fd);
      return FALSE;
    }
    if (!is_still_at(fd, path)) {
      close(fd);
      continue;
    }
    store->lock_fd = fd;
    store->made_lock = !was_there;
    if (write_pid(fd))
      return TRUE;
    set_errno_error(error, "write", path, errno);
    return FALSE;
  }
}

static gboolean holds_replica(const char *node_dir) {
  g_autofree char *path = g_build_filename(node_dir, "replica.db", NULL);
  return g_file_test(path, G_FILE_TEST_EXISTS);
}

/* Only the files of a replica: whatever else lies in the directory is not ours. */
static void remove_replica(const char *node_dir) {
  g_autoptr(GDir) dir = g_dir_open(node_dir, 0, NULL);
  const char *name = NULL;
  while (dir != NULL && (name = g_dir_read_name(dir)) != NULL) {
    g_autofree char *path = g_build_filename(node_dir, name, NULL);
    if (g_str_has_prefix(name, "replica."))
      g_unlink(path);
  }
}

/* A store whose store.conf is gone: what a majority of its replicas remembers. */

typedef struct {
  guint found, unreadable, agreeing, places;
  QfsView *view; /* of the greatest epoch; NULL: no replica has one */
} Survey;

static void survey_one(Survey *survey, const char *node_dir, guint node) {
  if (!holds_replica(node_dir))
    return;
  survey->found++;
  survey->places = MAX(survey->places, node);
  g_autoptr(QfsReplica) replica = qfs_sqlite_replica_open(node_dir, node, FALSE, FALSE, NULL);
  g_autofree QfsNodeMeta *meta = g_new0(QfsNodeMeta, 1);
  if (replica == NULL || !replica->ops->meta_load(replica, meta, NULL)) {
    survey->unreadable++;
    return;
  }
  if (!meta->has_view)
    return;
  if (survey->view != NULL && strcmp(survey->view->store, meta->view.store) == 0)
    survey->agreeing++;
  else
    survey->agreeing = 1;
  if (survey->view == NULL || meta->view.epoch > survey->view->epoch) {
    g_free(survey->view);
    survey->view = g_memdup2(&meta->view, sizeof meta->view);
  }
}

/* *out_found FALSE: there is no store here. */
static gboolean recover_conf(QfsStore *store, const QfsEngineConfig *config, gboolean *out_found,
                             GError **error) {
  Survey survey = {0};
  for (guint i = 0; i < QFS_NODES_MAX; i++) {
    g_autofree char *fallback = default_node_dir(store->dir, i + 1);
    survey_one(&survey, store->node_dirs[i] != NULL ? store->node_dirs[i] : fallback, i + 1);
  }
  g_autofree QfsView *view = survey.view;
  *out_found = survey.found > 0;
  if (survey.found == 0)
    return TRUE;
  if (view == NULL || survey.agreeing < view->nodes / 2 + 1) {
    g_set_error(
        error, QFS_ENGINE_ERROR, QFS_ENGINE_ERROR_FAILED,
        "store %s has no store.conf, and its replicas (%u found, %u unreadable) do not tell "
        "what it was",
        store->dir, survey.found, survey.unreadable);
    return FALSE;
  }
  store->conf.nodes = view->nodes;
  store->conf.replicas = view->replicas;
  store->conf.places = MAX(view->nodes, survey.places);
  g_strlcpy(store->conf.uuid, view->store, sizeof store->conf.uuid);
  return place_nodes(store, config, error);
}

/* Opening. */

static gboolean read_conf(QfsStore *store, const QfsEngineConfig *config, gboolean *out_found,
                          GError **error) {
  qfs_store_conf_clear(&store->conf);
  qfs_store_conf_clear(&store->unfinished);
  store->conf = store->unfinished = (QfsStoreConf){0};
  if (!qfs_store_conf_read(store->dir, &store->conf, out_found, error))
    return FALSE;
  if (*out_found && store->conf.creating) {
    store->unfinished = store->conf;
    store->conf = (QfsStoreConf){0};
    *out_found = FALSE;
  }
  return place_nodes(store, config, error);
}

/* D3: back to nothing. Only in the places that the unfinished store named. */
static void remove_unfinished(const QfsStore *store) {
  for (guint i = 0; i < store->unfinished.places; i++) {
    g_autofree char *fallback = default_node_dir(store->dir, i + 1);
    const char *named = store->unfinished.node_dirs[i];
    remove_replica(named != NULL ? named : fallback);
  }
}

static gboolean parent_is_there(const QfsStore *store, guint node, GError **error) {
  g_autofree char *parent = g_path_get_dirname(store->node_dirs[node - 1]);
  if (g_file_test(parent, G_FILE_TEST_IS_DIR))
    return TRUE;
  g_set_error(error, QFS_ENGINE_ERROR, QFS_ENGINE_ERROR_CONFIG,
              "node%u=%s: directory %s is missing", node, store->node_dirs[node - 1], parent);
  return FALSE;
}

/* A directory that was given by name must not hold another store's replica, and its parent must be
 * there: a missing one means a disk that is not mounted. */
static gboolean check_new_node_dirs(const QfsStore *store, guint nodes, GError **error) {
  for (guint i = 0; i < nodes; i++) {
    const char *dir = store->node_dirs[i];
    if (holds_replica(dir)) {
      g_set_error(error, QFS_ENGINE_ERROR, QFS_ENGINE_ERROR_CONFIG,
                  "node%u=%s already holds a replica of another store", i + 1, dir);
      return FALSE;
    }
    if (store->conf.node_dirs[i] != NULL && !parent_is_there(store, i + 1, error))
      return FALSE;
  }
  return TRUE;
}

/* Places of nodes that differ from those of the last time. */

/* A replica that is there already must be this node's: the user has moved it. */
static gboolean check_identity(const QfsStore *store, guint node, GError **error) {
  const char *dir = store->node_dirs[node - 1];
  g_autoptr(GError) failure = NULL;
  g_autoptr(QfsReplica) replica = qfs_sqlite_replica_open(dir, node, FALSE, FALSE, &failure);
  g_autofree QfsNodeMeta *meta = g_new0(QfsNodeMeta, 1);
  g_autofree char *what = NULL;
  if (replica == NULL || !replica->ops->meta_load(replica, meta, &failure))
    what = g_strdup_printf("what is there cannot be used: %s", failure->message);
  else if (meta->node != node)
    what = g_strdup_printf("holds the replica of node %u", meta->node);
  else if (meta->has_view && strcmp(meta->view.store, store->conf.uuid) != 0)
    what = g_strdup("already holds a replica of another store");
  if (what == NULL)
    return TRUE;
  g_set_error(error, QFS_ENGINE_ERROR, QFS_ENGINE_ERROR_CONFIG, "node%u=%s %s", node, dir, what);
  return FALSE;
}

static gboolean write_all(int fd, const char *bytes, gsize len) {
  while (len > 0) {
    const gssize n = write(fd, bytes, len);
    if (n < 0 && errno != EINTR)
      return FALSE;
    bytes += MAX(n, 0);
    len -= (gsize)MAX(n, 0);
  }
  return TRUE;
}

/* *out_source_failed: the fault is of what is read. */
static gboolean copy_bytes(int from, int to, gboolean *out_source_failed) {
  g_autofree char *buffer = g_malloc(1 << 20);
  for (;;) {
    const gssize n = read(from, buffer, 1 << 20);
    if (n < 0 && errno == EINTR)
      continue;
    *out_source_failed = n < 0;
    if (n <= 0)
      return n == 0 && fsync(to) == 0;
    if (!write_all(to, buffer, (gsize)n))
      return FALSE;
  }
}

static gboolean copy_file(const char *from_dir, const char *to_dir, const char *name,
                          gboolean *out_source_failed) {
  g_autofree char *from = g_build_filename(from_dir, name, NULL);
  g_autofree char *to = g_build_filename(to_dir, name, NULL);
  g_autofree char *part = g_strconcat(to, ".part", NULL);
  const int source = open(from, O_RDONLY | O_CLOEXEC);
  if (source < 0) {
    const gboolean is_needed = errno != ENOENT || g_str_has_suffix(name, ".db"); /* there need be no log */
    *out_source_failed |= is_needed;
    return !is_needed;
  }
  const int target = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  gboolean ok = target >= 0 && copy_bytes(source, target, out_source_failed);
  ok = ok && g_rename(part, to) == 0;
  const int err = errno;
  close(source);
  if (target >= 0)
    close(target);
  errno = err;
  return ok;
}

/* The logs first: where there is a replica.db, all of it is there. The files are not in use: the store is locked. */
static gboolean move_replica(QfsStore *store, guint node, const char *from, GError **error) {
  const char *to = store->node_dirs[node - 1];
  gboolean source_failed = FALSE;
  if (!parent_is_there(store, node, error) || !make_dirs(store, to, error))
    return FALSE;
  store->former_dirs[node - 1] = g_strdup(from); /* from here on there is something to undo */
  if (copy_file(from, to, "replica.db-wal", &source_failed) &&
      copy_file(from, to, "replica.db-redo", &source_failed) &&
      copy_file(from, to, "replica.db", &source_failed)) {
    g_message("node %u: its replica was moved from %s to %s", node, from, to);
    return TRUE;
  }
  const int err = errno;
  remove_replica(to);
  g_clear_pointer(&store->former_dirs[node - 1], g_free);
  if (source_failed) {
    g_warning("node %u: its replica in %s cannot be read (%s): it is rebuilt in %s from its peers",
              node, from, g_strerror(err), to);
    return TRUE;
  }
  set_errno_error(error, "move a replica to", to, err);
  return FALSE;
}

static gboolean settle_places(QfsStore *store, const QfsEngineConfig *config,
                              char *const *former_dirs, GError **error) {
  for (guint i = 0; i < config->nodes; i++) {
    const char *dir = store->node_dirs[i];
    g_autofree char *fallback = default_node_dir(store->dir, i + 1);
    const char *former = former_dirs[i] != NULL ? former_dirs[i] : fallback;
    if (config->node_dirs[i] == NULL || (i < store->conf.places && strcmp(dir, former) == 0))
      continue;
    if (holds_replica(dir) && !check_identity(store, i + 1, error))
      return FALSE;
    if (!holds_replica(dir) && !parent_is_there(store, i + 1, error))
      return FALSE;
  }
  for (guint i = 0; i < MIN(config->nodes, store->conf.places); i++) {
    g_autofree char *fallback = default_node_dir(store->dir, i + 1);
    const char *former = former_dirs[i] != NULL ? former_dirs[i] : fallback;
    if (strcmp(store->node_dirs[i], former) != 0 && !holds_replica(store->node_dirs[i]) &&
        holds_replica(former) && !move_replica(store, i + 1, former, error))
      return FALSE;
  }
  return TRUE;
}

/* Other numbers can be had only while a majority of the nodes is there. What is there may still be
 * unusable: the engine finds out. */
static gboolean check_resize(const QfsStore *store, char *const *former_dirs, GError **error) {
  guint there = 0;
  for (guint i = 0; i < store->conf.nodes; i++) {
    g_autofree char *fallback = default_node_dir(store->dir, i + 1);
    there += (store->node_dirs[i] != NULL && holds_replica(store->node_dirs[i])) ||
             holds_replica(former_dirs[i] != NULL ? former_dirs[i] : fallback);
  }
  if (!qfs_store_is_resized(store) || there >= store->conf.nodes / 2 + 1)
    return TRUE;
  g_set_error(error, QFS_ENGINE_ERROR, QFS_ENGINE_ERROR_CONFIG,
              "store %s has %u nodes and %u replicas: it gets nodes=%u, replicas=%u only while a majority "
              "of its nodes is there, and only %u are",
              store->dir, store->conf.nodes, store->conf.replicas, store->nodes, store->replicas,
              there);
  return FALSE;
}

/* Where store.conf has the nodes, before the places asked for now are put in. */
static gboolean open_existing(QfsStore *store, const QfsEngineConfig *config, GError **error) {
  QfsStoreConf former = {0};
  gboolean found = FALSE;
  if (!qfs_store_conf_read(store->dir, &former, &found, error))
    return FALSE;
  const gboolean ok = check_resize(store, former.node_dirs, error) &&
                      settle_places(store, config, former.node_dirs, error);
  qfs_store_conf_clear(&former);
  return ok;
}

static gboolean begin_new(QfsStore *store, const QfsEngineConfig *config, GError **error) {
  if (!check_new_node_dirs(store, config->nodes, error))
    return FALSE;
  g_autofree char *uuid = g_uuid_string_random();
  g_strlcpy(store->conf.uuid, uuid, sizeof store->conf.uuid);
  store->conf.nodes = config->nodes;
  store->conf.replicas = config->replicas;
  store->conf.places = config->nodes;
  store->conf.creating = TRUE;
  store->is_new = TRUE;
  if (!qfs_store_conf_write(store->dir, &store->conf, error))
    return FALSE;
  for (guint i = 0; i < config->nodes; i++)
    if (!make_dirs(store, store->node_dirs[i], error))
      return FALSE;
  return TRUE;
}

QfsStore *qfs_store_open(const QfsEngineConfig *config, GError **error) {
  if (!check_config(config, error))
    return NULL;
  g_autoptr(QfsStore) store = g_new0(QfsStore, 1);
  store->dir = g_canonicalize_filename(config->store, NULL);
  store->nodes = config->nodes;
  store->replicas = config->replicas;
  store->lock_fd = -1;
  store->made_dirs = g_ptr_array_new_with_free_func(g_free);

  /* Once before anything is made, for a clear refusal; again under the lock, for the truth. */
  gboolean found = FALSE;
  if (!read_conf(store, config, &found, error) || !make_dirs(store, store->dir, error) ||
      !take_lock(store, error) || !read_conf(store, config, &found, error))
    return NULL;
  if (store->unfinished.nodes > 0)
    remove_unfinished(store);
  else if (!found && !recover_conf(store, config, &found, error))
    return NULL;
  if (found ? !open_existing(store, config, error) : !begin_new(store, config, error))
    return NULL;
  return g_steal_pointer(&store);
}

gboolean qfs_store_is_new(const QfsStore *store) {
  return store->is_new;
}

const char *qfs_store_uuid(const QfsStore *store) {
  return store->conf.uuid;
}

const char *qfs_store_dir(const QfsStore *store) {
  return store->dir;
}

gboolean qfs_store_is_resized(const QfsStore *store) {
  return !store->is_new &&
         (store->conf.nodes != store->nodes || store->conf.replicas != store->replicas);
}

guint qfs_store_known(const QfsStore *store) {
  return store->conf.places;
}

guint qfs_store_places(const QfsStore *store) {
  return MAX(store->conf.places, store->nodes);
}

const char *qfs_store_node_dir(const QfsStore *store, guint node) {
  g_assert(node >= 1 && node <= qfs_store_places(store));
  return store->node_dirs[node - 1];
}

static gboolean write_conf(QfsStore *store, guint places, GError **error) {
  QfsStoreConf conf = store->conf;
  conf.creating = FALSE;
  conf.nodes = store->nodes;
  conf.replicas = store->replicas;
  conf.places = places;
  if (!qfs_store_conf_write(store->dir, &conf, error))
    return FALSE;
  store->conf = conf;
  return TRUE;
}

gboolean qfs_store_ready(QfsStore *store, GError **error) {
  if (!write_conf(store, qfs_store_places(store), error))
    return FALSE;
  store->ready = TRUE;
  for (guint i = 0; i < QFS_NODES_MAX; i++)
    if (store->former_dirs[i] != NULL)
      remove_replica(store->former_dirs[i]);
  return TRUE;
}

gboolean qfs_store_resized(QfsStore *store, GError **error) {
  g_assert(store->ready);
  return write_conf(store, store->nodes, error);
}

/* D2. */
static void unmake(QfsStore *store) {
  g_autofree char *conf = g_build_filename(store->dir, "store.conf", NULL);
  g_autofree char *lock = g_build_filename(store->dir, "lock", NULL);
  if (store->is_new && !store->ready) {
    for (guint i = 0; i < store->conf.nodes; i++)
      remove_replica(store->node_dirs[i]);
    g_unlink(conf);
  }
  for (guint i = 0; i < QFS_NODES_MAX; i++)
    if (store->former_dirs[i] != NULL && !store->ready)
      remove_replica(store->node_dirs[i]);
  if (store->made_lock && !store->ready)
    g_unlink(lock);
  for (guint i = store->made_dirs->len; !store->ready && i > 0; i--)
    g_rmdir(g_ptr_array_index(store->made_dirs, i - 1));
}

void qfs_store_close(QfsStore *store) {
  if (store == NULL)
    return;
  unmake(store);
  if (store->lock_fd >= 0)
    close(store->lock_fd);
  qfs_store_conf_clear(&store->conf);
  qfs_store_conf_clear(&store->unfinished);
  for (guint i = 0; i < QFS_NODES_MAX; i++)
    g_free(store->node_dirs[i]);
  for (guint i = 0; i < QFS_NODES_MAX; i++)
    g_free(store->former_dirs[i]);
  g_ptr_array_unref(store->made_dirs);
  g_free(store->dir);
  g_free(store);
}
