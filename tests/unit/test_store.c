/* The directory of a store: making, locking, refusing, and leaving everything as it was on failure.
 */
#include "cluster/store.h"

#include "cluster/store_conf.h"

#include <glib/gstdio.h>
#include <unistd.h>

typedef struct {
  char *top;
  QfsEngineConfig config; /* store below `top`, 3 nodes, 2 replicas */
} Fixture;

static void set_up(Fixture *f, gconstpointer data) {
  f->top = g_dir_make_tmp("qfs-store-XXXXXX", NULL);
  f->config = (QfsEngineConfig){.nodes = 3, .replicas = 2};
  f->config.store = g_build_filename(f->top, "deep", "store", NULL);
}

/* Every path below `path`, sorted, one per line; also removes them when asked to. */
static void walk(const char *path, GPtrArray *out, gboolean and_remove) {
  g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
  const char *name = NULL;
  while (dir != NULL && (name = g_dir_read_name(dir)) != NULL) {
    g_autofree char *child = g_build_filename(path, name, NULL);
    g_ptr_array_add(out, g_strdup(child));
    walk(child, out, and_remove);
    if (and_remove)
      g_remove(child);
  }
}

static gint compare_paths(gconstpointer a, gconstpointer b) {
  return strcmp(*(char *const *)a, *(char *const *)b);
}

static char *tree(const Fixture *f) {
  g_autoptr(GPtrArray) paths = g_ptr_array_new_with_free_func(g_free);
  walk(f->top, paths, FALSE);
  g_ptr_array_sort(paths, compare_paths);
  g_ptr_array_add(paths, NULL);
  return g_strjoinv("\n", (char **)paths->pdata);
}

static void tear_down(Fixture *f, gconstpointer data) {
  g_autoptr(GPtrArray) paths = g_ptr_array_new_with_free_func(g_free);
  walk(f->top, paths, TRUE);
  g_remove(f->top);
  g_free(f->top);
  g_free(f->config.store);
  for (guint i = 0; i < QFS_NODES_MAX; i++)
    g_free(f->config.node_dirs[i]);
}

static QfsStore *open_ok(const Fixture *f) {
  g_autoptr(GError) error = NULL;
  QfsStore *store = qfs_store_open(&f->config, &error);
  g_assert_no_error(error);
  return store;
}

/* Refused with `text` in the message, and nothing below `top` was touched. */
static void assert_refused(const Fixture *f, QfsEngineError code, const char *text) {
  g_autofree char *before = tree(f);
  g_autoptr(GError) error = NULL;
  g_assert_null(qfs_store_open(&f->config, &error));
  g_assert_error(error, QFS_ENGINE_ERROR, (gint)code);
  if (strstr(error->message, text) == NULL || strchr(error->message, '\n') != NULL)
    g_error("message \"%s\" lacks \"%s\"", error->message, text);
  g_autofree char *after = tree(f);
  g_assert_cmpstr(after, ==, before);
}

/* A store that served once. */
static char *make_ready(const Fixture *f) {
  g_autoptr(QfsStore) store = open_ok(f);
  g_autoptr(GError) error = NULL;
  g_assert_true(qfs_store_is_new(store));
  g_assert_true(qfs_store_ready(store, &error));
  g_assert_no_error(error);
  return g_strdup(qfs_store_uuid(store));
}

static void make_replica(const char *dir, guint node, const QfsView *view) {
  g_autoptr(GError) error = NULL;
  g_autoptr(QfsReplica) replica = qfs_sqlite_replica_open(dir, node, TRUE, FALSE, &error);
  g_assert_no_error(error);
  g_autofree QfsNodeMeta *meta = g_new0(QfsNodeMeta, 1);
  g_assert_true(replica->ops->meta_load(replica, meta, NULL));
  if (view == NULL)
    return;
  meta->has_view = TRUE;
  meta->view = *view;
  g_assert_true(replica->ops->begin(replica, NULL));
  g_assert_true(replica->ops->meta_store(replica, meta, NULL));
  g_assert_true(replica->ops->commit(replica, TRUE, NULL));
}

static char *node_dir(const Fixture *f, guint node) {
  return g_strdup_printf("%s/node-%u", f->config.store, node);
}

static void test_made_and_found(Fixture *f, gconstpointer data) {
  /* A store that became ready is the same one at the next open. */
  guint nodes = 0, replicas = 0;
  g_assert_false(qfs_store_probe(f->config.store, &nodes, &replicas));
  g_autofree char *uuid = make_ready(f);
  g_assert_true(qfs_store_probe(f->config.store, &nodes, &replicas));
  g_assert_cmpuint(nodes, ==, 3);
  g_assert_cmpuint(replicas, ==, 2);
  g_autoptr(QfsStore) store = open_ok(f);
  g_assert_false(qfs_store_is_new(store));
  g_assert_cmpstr(qfs_store_uuid(store), ==, uuid);
  g_autofree char *dir = node_dir(f, 3);
  g_assert_cmpstr(qfs_store_node_dir(store, 3), ==, dir);
}

static void test_unmade(Fixture *f, gconstpointer data) {
  /* A new store that never became ready leaves nothing behind, neither files nor directories. */
  g_autofree char *before = tree(f);
  QfsStore *store = open_ok(f);
  make_replica(qfs_store_node_dir(store, 1), 1, NULL);
  qfs_store_close(store);
  g_autofree char *after = tree(f);
  g_assert_cmpstr(after, ==, before);
}

static void test_bad_config(Fixture *f, gconstpointer data) {
  /* Each wrong setting is one clear line and nothing is made. */
  f->config.replicas = 4;
  assert_refused(f, QFS_ENGINE_ERROR_CONFIG, "replicas=4 is more than nodes=3");
  f->config.replicas = 0;
  assert_refused(f, QFS_ENGINE_ERROR_CONFIG, "replicas=0");
  f->config.replicas = 2;
  f->config.nodes = 0;
  assert_refused(f, QFS_ENGINE_ERROR_CONFIG, "nodes=0");
  f->config.nodes = 65;
  assert_refused(f, QFS_ENGINE_ERROR_CONFIG, "nodes=65");
  f->config.nodes = 3;
  f->config.node_dirs[3] = g_strdup("/x");
  assert_refused(f, QFS_ENGINE_ERROR_CONFIG, "node4=/x: there are only 3 nodes");
  g_clear_pointer(&f->config.node_dirs[3], g_free);
  f->config.node_dirs[0] = g_build_filename(f->top, "a", NULL);
  f->config.node_dirs[2] = g_build_filename(f->top, "b", "..", "a", NULL);
  assert_refused(f, QFS_ENGINE_ERROR_CONFIG, "is given to two nodes");
  g_clear_pointer(&f->config.node_dirs[2], g_free);
  g_free(f->config.node_dirs[0]);
  f->config.node_dirs[0] = g_build_filename(f->top, "no-such-disk", "a", NULL);
  assert_refused(f, QFS_ENGINE_ERROR_CONFIG, "no-such-disk is missing");
}

static void test_not_a_directory(Fixture *f, gconstpointer data) {
  /* A file in the way is an error. */
  g_autofree char *deep = g_path_get_dirname(f->config.store);
  g_assert_true(g_file_set_contents(deep, "x", 1, NULL));
  assert_refused(f, QFS_ENGINE_ERROR_FAILED, "cannot make directory");
}

static void test_other_size(Fixture *f, gconstpointer data) {
  /* Another N and K are taken while a majority of the nodes is there, and remembered with all places until nothing is
   * left above N; with less than a majority nothing changes. */
  g_autofree char *uuid = make_ready(f);
  g_autofree char *dir[2] = {node_dir(f, 1), node_dir(f, 2)};
  f->config.nodes = 5;
  f->config.replicas = 3;
  QfsView view = {.nodes = 3, .replicas = 2, .epoch = 4};
  make_replica(dir[0], 1, &view);
  assert_refused(f, QFS_ENGINE_ERROR_CONFIG, "only while a majority of its nodes is there, and only 1 are");
  make_replica(dir[1], 2, &view);
  QfsStore *store = open_ok(f);
  g_assert_true(qfs_store_is_resized(store));
  g_assert_cmpuint(qfs_store_known(store), ==, 3);
  g_assert_cmpuint(qfs_store_places(store), ==, 5);
  g_assert_true(qfs_store_ready(store, NULL));
  g_assert_true(qfs_store_resized(store, NULL));
  qfs_store_close(store);
  f->config.nodes = f->config.replicas = 2;
  assert_refused(f, QFS_ENGINE_ERROR_CONFIG, "only while a majority of its nodes is there");
  g_autofree char *third = node_dir(f, 3);
  make_replica(third, 3, &view);
  store = open_ok(f);
  g_assert_true(qfs_store_ready(store, NULL));
  qfs_store_close(store);
  store = open_ok(f); /* killed before the data had moved */
  g_assert_false(qfs_store_is_resized(store));
  g_assert_cmpuint(qfs_store_known(store), ==, 5);
  g_assert_true(qfs_store_ready(store, NULL));
  g_assert_true(qfs_store_resized(store, NULL));
  qfs_store_close(store);
  store = open_ok(f);
  g_assert_cmpuint(qfs_store_known(store), ==, 2);
  qfs_store_close(store);
}

static void test_moved_node(Fixture *f, gconstpointer data) {
  /* A node's new place: its replica that is there is used, else it is moved there; another node's or another
   * store's is refused, and a failed open moves nothing. */
  g_autofree char *uuid = make_ready(f);
  QfsView view = {.nodes = 3, .replicas = 2, .epoch = 4};
  g_strlcpy(view.store, uuid, sizeof view.store);
  g_autofree char *usual = node_dir(f, 2), *elsewhere = g_build_filename(f->top, "disk", NULL);
  g_autofree char *before = g_build_filename(usual, "replica.db", NULL);
  g_autofree char *after = g_build_filename(elsewhere, "replica.db", NULL);
  make_replica(usual, 2, &view);
  f->config.node_dirs[1] = g_strdup(elsewhere);
  qfs_store_close(open_ok(f)); /* never ready */
  g_assert_true(g_file_test(before, G_FILE_TEST_EXISTS));
  g_assert_false(g_file_test(after, G_FILE_TEST_EXISTS));
  QfsStore *store = open_ok(f);
  g_assert_true(g_file_test(after, G_FILE_TEST_EXISTS));
  g_assert_true(qfs_store_ready(store, NULL));
  g_assert_false(g_file_test(before, G_FILE_TEST_EXISTS));
  qfs_store_close(store);

  g_autofree char *theirs = g_build_filename(f->top, "theirs", NULL);
  make_replica(theirs, 3, &view);
  g_free(f->config.node_dirs[1]);
  f->config.node_dirs[1] = g_strdup(theirs);
  assert_refused(f, QFS_ENGINE_ERROR_CONFIG, "holds the replica of node 3");
  g_autofree char *foreign = g_build_filename(f->top, "foreign", NULL);
  g_strlcpy(view.store, "0a1b2c3d-0000-4000-8000-000000000009", sizeof view.store);
  make_replica(foreign, 2, &view);
  g_free(f->config.node_dirs[1]);
  f->config.node_dirs[1] = g_strdup(foreign);
  assert_refused(f, QFS_ENGINE_ERROR_CONFIG, "already holds a replica of another store");

  g_clear_pointer(&f->config.node_dirs[1], g_free); /* what was given once is remembered */
  store = open_ok(f);
  g_assert_cmpstr(qfs_store_node_dir(store, 2), ==, elsewhere);
  qfs_store_close(store);
  g_autofree char *by_hand = g_build_filename(f->top, "by-hand", NULL);
  g_assert_cmpint(g_rename(elsewhere, by_hand), ==, 0);
  f->config.node_dirs[1] = g_strdup(by_hand);
  store = open_ok(f);
  g_assert_true(qfs_store_ready(store, NULL));
  g_autofree char *moved = g_build_filename(by_hand, "replica.db", NULL);
  g_assert_true(g_file_test(moved, G_FILE_TEST_EXISTS));
  qfs_store_close(store);
}

static void test_locked(Fixture *f, gconstpointer data) {
  /* A store in use is refused with the process that uses it, and free again after its close. */
  g_autofree char *uuid = make_ready(f);
  QfsStore *first = open_ok(f);
  g_autofree char *process =
      g_strdup_printf("is in use by another mount (process %ld)", (long)getpid());
  assert_refused(f, QFS_ENGINE_ERROR_LOCKED, process);
  qfs_store_close(first);
  g_autoptr(QfsStore) second = open_ok(f);
  g_assert_nonnull(second);
}

static void set_conf(const Fixture *f, const char *text) {
  g_autofree char *path = g_build_filename(f->config.store, "store.conf", NULL);
  g_assert_true(g_file_set_contents(path, text, -1, NULL));
}

static void test_foreign_conf(Fixture *f, gconstpointer data) {
  /* A newer format and a damaged file are refused, each with its own words. */
  g_autofree char *uuid = make_ready(f);
  set_conf(f, "[store]\nformat=2\nfuture=yes\n");
  assert_refused(f, QFS_ENGINE_ERROR_CONFIG, "has format 2, newer than this program reads");
  set_conf(f, "");
  assert_refused(f, QFS_ENGINE_ERROR_CONFIG, "store.conf is damaged");
  set_conf(f, "[store]\nformat=1\nuuid=nonsense\nnodes=3\nreplicas=2\n");
  assert_refused(f, QFS_ENGINE_ERROR_CONFIG, "store.conf is damaged");
  set_conf(f, "\x01\x02 no key file");
  assert_refused(f, QFS_ENGINE_ERROR_CONFIG, "store.conf is damaged");
}

static void test_interrupted(Fixture *f, gconstpointer data) {
  /* A creation that was killed midway is begun again, also with other settings: nothing was
   * acknowledged. Replicas in places that it did not name are not touched. */
  g_assert_cmpint(g_mkdir_with_parents(f->config.store, 0700), ==, 0);
  QfsStoreConf conf = {.nodes = 3, .replicas = 3, .creating = TRUE};
  g_autofree char *old_uuid = g_uuid_string_random();
  g_strlcpy(conf.uuid, old_uuid, sizeof conf.uuid);
  g_assert_true(qfs_store_conf_write(f->config.store, &conf, NULL));
  g_autofree char *first = node_dir(f, 1);
  make_replica(first, 1, &(QfsView){.nodes = 3, .replicas = 3, .epoch = 1});

  f->config.node_dirs[1] = g_build_filename(f->top, "other", NULL);
  make_replica(f->config.node_dirs[1], 2, NULL);
  g_autoptr(GError) error = NULL;
  g_assert_null(qfs_store_open(&f->config, &error));
  g_assert_nonnull(strstr(error->message, "already holds a replica of another store"));
  g_autofree char *others = g_build_filename(f->config.node_dirs[1], "replica.db", NULL);
  g_assert_true(g_file_test(others, G_FILE_TEST_EXISTS));
  g_clear_pointer(&f->config.node_dirs[1], g_free);

  g_autoptr(QfsStore) store = open_ok(f);
  g_assert_true(qfs_store_is_new(store));
  g_assert_cmpstr(qfs_store_uuid(store), !=, old_uuid);
  g_autofree char *left = g_build_filename(first, "replica.db", NULL);
  g_assert_false(g_file_test(left, G_FILE_TEST_EXISTS));
}

static void test_lost_conf(Fixture *f, gconstpointer data) {
  /* Without store.conf a majority of the replicas tells what the store is; a minority does not. */
  QfsView view = {.nodes = 3, .replicas = 2, .epoch = 4};
  g_strlcpy(view.store, "0a1b2c3d-0000-4000-8000-000000000001", sizeof view.store);
  g_assert_cmpint(g_mkdir_with_parents(f->config.store, 0700), ==, 0);
  g_autofree char *first = node_dir(f, 1);
  g_autofree char *third = node_dir(f, 3);
  make_replica(first, 1, &view);
  assert_refused(f, QFS_ENGINE_ERROR_FAILED, "do not tell what it was");
  view.epoch = 5;
  make_replica(third, 3, &view);
  QfsStore *store = open_ok(f);
  g_assert_false(qfs_store_is_new(store));
  g_assert_cmpstr(qfs_store_uuid(store), ==, view.store);
  g_assert_true(qfs_store_ready(store, NULL));
  qfs_store_close(store);
  guint nodes = 0, replicas = 0;
  g_assert_true(qfs_store_probe(f->config.store, &nodes, &replicas));
  g_assert_cmpuint(nodes, ==, 3);
}

static void test_places(Fixture *f, gconstpointer data) {
  /* A node's place given once is remembered; a later one replaces it. */
  f->config.node_dirs[1] = g_build_filename(f->top, "disk", NULL);
  g_autofree char *uuid = make_ready(f);
  g_autofree char *disk = g_steal_pointer(&f->config.node_dirs[1]);
  QfsStore *store = open_ok(f);
  g_assert_cmpstr(qfs_store_node_dir(store, 2), ==, disk);
  qfs_store_close(store);
  f->config.node_dirs[1] = g_build_filename(f->top, "disk2", NULL);
  store = open_ok(f);
  g_assert_cmpstr(qfs_store_node_dir(store, 2), ==, f->config.node_dirs[1]);
  qfs_store_close(store);
}

int main(int argc, char **argv) {
  g_test_init(&argc, &argv, NULL);
#define ADD(path, test) g_test_add("/cluster/store/" path, Fixture, NULL, set_up, test, tear_down)
  ADD("made-once-and-found-again", test_made_and_found);
  ADD("unfinished-one-leaves-nothing", test_unmade);
  ADD("wrong-settings-are-refused-with-one-line", test_bad_config);
  ADD("file-in-the-way-is-refused", test_not_a_directory);
  ADD("another-size-needs-a-majority", test_other_size);
  ADD("node-is-moved-or-found-moved", test_moved_node);
  ADD("second-mount-is-refused-with-the-process", test_locked);
  ADD("foreign-store-conf-is-refused", test_foreign_conf);
  ADD("interrupted-creation-begins-again", test_interrupted);
  ADD("lost-store-conf-is-told-by-a-majority", test_lost_conf);
  ADD("places-of-nodes-are-remembered", test_places);
#undef ADD
  return g_test_run();
}
