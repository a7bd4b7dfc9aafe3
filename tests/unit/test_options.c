/* Goal: every mount option is understood, and every wrong one is refused with one line. */
#include "fs/options.h"

#include <string.h>

static QfsOptions *parse(const char *list) {
  QfsOptions *options = qfs_options_new();
  g_autoptr(GError) error = NULL;
  g_assert_true(qfs_options_add(options, list, &error));
  g_assert_no_error(error);
  g_assert_true(qfs_options_finish(options, &error));
  g_assert_no_error(error);
  return options;
}

/* Parses and settles; the error's message must contain `part` and be one line. */
static void assert_refused(const char *list, const char *part) {
  g_autoptr(QfsOptions) options = qfs_options_new();
  g_autoptr(GError) error = NULL;
  gboolean ok = qfs_options_add(options, list, &error) && qfs_options_finish(options, &error) &&
                qfs_options_settle(options, &error);
  if (ok)
    g_test_message("'%s' was taken", list);
  g_assert_false(ok);
  g_assert_error(error, QFS_OPTIONS_ERROR, 0);
  g_assert_null(strchr(error->message, '\n'));
  if (strstr(error->message, part) == NULL)
    g_test_message("'%s' lacks '%s'", error->message, part);
  g_assert_nonnull(strstr(error->message, part));
}

static void test_defaults(void) {
  g_autoptr(QfsOptions) options = parse("");
  g_assert_true(qfs_options_settle(options, NULL));
  g_assert_cmpuint(options->engine.nodes, ==, 5);
  g_assert_cmpuint(options->engine.replicas, ==, 3);
  g_assert_cmpuint(options->engine.timeout_ms, ==, 2000);
  g_assert_cmpuint(options->engine.tombstone_grace_s, ==, 86400);
  g_assert_cmpuint(options->engine.scrub_period_s, ==, 86400);
  g_assert_false(options->engine.sync);
  g_autofree char *store = g_build_filename(g_get_user_data_dir(), "quorumfs", "default", NULL);
  g_assert_cmpstr(options->engine.store, ==, store);
}

static void test_replicas_follow_nodes(void) {
  static const guint expected[][2] = {{1, 1}, {2, 1}, {3, 2}, {4, 2},
                                      {5, 3}, {6, 3}, {7, 4}, {64, 32}};
  for (gsize i = 0; i < G_N_ELEMENTS(expected); i++) {
    g_autofree char *list = g_strdup_printf("nodes=%u", expected[i][0]);
    g_autoptr(QfsOptions) options = parse(list);
    g_assert_true(qfs_options_settle(options, NULL));
    g_assert_cmpuint(options->engine.replicas, ==, expected[i][1]);
  }
}

static void test_everything(void) {
  g_autoptr(QfsOptions) options = parse(
      "store=/s,nodes=7,replicas=5,node2=/disk2/q,node7=/disk7,sync,timeout=100,tombstone_grace=0,scrub_period=60,cached_names=7,"
      "faults,engine=embedded");
  g_assert_true(qfs_options_settle(options, NULL));
  g_assert_cmpstr(options->engine.store, ==, "/s");
  g_assert_cmpuint(options->engine.nodes, ==, 7);
  g_assert_cmpuint(options->engine.replicas, ==, 5);
  g_assert_null(options->engine.node_dirs[0]);
  g_assert_cmpstr(options->engine.node_dirs[1], ==, "/disk2/q");
  g_assert_cmpstr(options->engine.node_dirs[6], ==, "/disk7");
  g_assert_true(options->engine.sync);
  g_assert_true(options->engine.faults);
  g_assert_cmpuint(options->engine.timeout_ms, ==, 100);
  g_assert_cmpuint(options->engine.tombstone_grace_s, ==, 0);
  g_assert_cmpuint(options->engine.scrub_period_s, ==, 60);
  g_assert_cmpuint(options->cached_names, ==, 7);
}

static void test_last_wins(void) {
  g_autoptr(QfsOptions) options =
      parse("nodes=3,store=/a,sync,nodes=7,store=/b,async,node1=/x,node1=/y");
  g_assert_cmpuint(options->engine.nodes, ==, 7);
  g_assert_cmpstr(options->engine.store, ==, "/b");
  g_assert_cmpstr(options->engine.node_dirs[0], ==, "/y");
  g_assert_false(options->engine.sync);
  g_assert_true(qfs_options_add(options, "nodes=9", NULL));
  g_assert_cmpuint(options->engine.nodes, ==, 9);
}

static void test_escapes(void) {
  g_autoptr(QfsOptions) options = parse("store=/a\\,b\\\\c d,fsname=x\\,y");
  g_assert_cmpstr(options->engine.store, ==, "/a,b\\c d");
  g_assert_true(options->fsname_given);
  g_autofree char *fuse = qfs_options_fuse_string(options);
  g_assert_nonnull(strstr(fuse, "fsname=x\\,y"));
}

static void test_relative_paths(void) {
  g_autoptr(QfsOptions) options = parse("store=some/../dir,node1=n1");
  g_autofree char *store = g_canonicalize_filename("dir", NULL);
  g_autofree char *node = g_canonicalize_filename("n1", NULL);
  g_assert_cmpstr(options->engine.store, ==, store);
  g_assert_cmpstr(options->engine.node_dirs[0], ==, node);
  g_autoptr(QfsOptions) home = parse("store=~/kv");
  g_autofree char *in_home = g_build_filename(g_get_home_dir(), "kv", NULL);
  g_assert_cmpstr(home->engine.store, ==, in_home);
}

static void test_passed_on(void) {
  g_autoptr(QfsOptions) options =
      parse("store=/a\\,b,allow_other,ro,noexec,nosuid,nodev,noatime,default_permissions");
  g_autofree char *fuse = qfs_options_fuse_string(options);
  g_assert_true(options->allow_other);
  g_assert_cmpstr(fuse, ==, "fsname=/a\\,b,allow_other,ro,noexec,nosuid,nodev,noatime");
}

static void test_ignored(void) {
  g_autoptr(QfsOptions) options = parse(
      "defaults,auto,noauto,_netdev,nofail,user,nouser,users,x-systemd.automount,X-mount.mkdir,"
      "comment=hello,relatime,subtype=other,,");
  g_assert_cmpuint(options->fuse->len, ==, 0);
}

static void test_refused(void) {
  static const char *const cases[][2] = {
      {"nodes=0", "nodes=0"},
      {"nodes=65", "nodes=65"},
      {"nodes=", "nodes="},
      {"nodes=five", "five"},
      {"nodes=-1", "-1"},
      {"nodes=+5", "+5"},
      {"nodes= 5", "nodes"},
      {"nodes=5x", "5x"},
      {"nodes=99999999999999999999", "nodes"},
      {"nodes", "needs a value"},
      {"store", "needs a value"},
      {"store=", "directory"},
      {"node1=", "directory"},
      {"node1", "needs a value"},
      {"replicas=0", "replicas=0"},
      {"nodes=3,replicas=4", "only 3 nodes"},
      {"replicas=6", "only 5 nodes"},
      {"nodes=3,node4=/x", "only 3 nodes"},
      {"node0=/x", "unknown"},
      {"node65=/x", "unknown"},
      {"node01=/x", "unknown"},
      {"node1=/x,node3=/y/../x", "same directory"},
      {"timeout=99", "timeout=99"},
      {"timeout=600001", "timeout"},
      {"timeout=1s", "1s"},
      {"tombstone_grace=-1", "-1"},
      {"scrub_period=often", "often"},
      {"engine=etcd", "not available in this build"},
      {"engine=zookeeper", "zookeeper"},
      {"wibble", "'wibble'"},
      {"wibble=1", "'wibble="},
      {"ephemeral,store=/x", "exclude"},
      {"ephemeral,node1=/x", "exclude"},
      {"remount", "remount"},
      {"max_write=4096", "max_write"},
      {"sync=1", "sync="},
      {"Nodes=3", "Nodes"},
  };
  for (gsize i = 0; i < G_N_ELEMENTS(cases); i++)
    assert_refused(cases[i][0], cases[i][1]);
}

static void test_existing_store(void) {
  g_autoptr(GError) error = NULL;
  g_autoptr(QfsOptions) options = parse("store=/s");
  qfs_options_adopt_store(options, 7, 3);
  g_assert_true(qfs_options_settle(options, &error));
  g_assert_cmpuint(options->engine.nodes, ==, 7);
  g_assert_cmpuint(options->engine.replicas, ==, 3);
  g_autoptr(QfsOptions) same = parse("store=/s,nodes=7");
  qfs_options_adopt_store(same, 7, 3);
  g_assert_cmpuint(same->engine.replicas, ==, 3);
  g_autoptr(QfsOptions) other = parse("store=/s,nodes=5"); /* the store is to have other ones */
  qfs_options_adopt_store(other, 7, 3);
  g_assert_cmpuint(other->engine.nodes, ==, 5);
  g_assert_cmpuint(other->engine.replicas, ==, 3);
  g_autoptr(QfsOptions) fewer = parse("store=/s,nodes=2");
  qfs_options_adopt_store(fewer, 7, 3);
  g_assert_false(qfs_options_settle(fewer, &error));
  g_assert_error(error, QFS_OPTIONS_ERROR, 0);
  g_clear_error(&error);
}

int main(int argc, char **argv) {
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/fs/options/defaults", test_defaults);
  g_test_add_func("/fs/options/replicas-follow-nodes", test_replicas_follow_nodes);
  g_test_add_func("/fs/options/every-option-is-understood", test_everything);
  g_test_add_func("/fs/options/the-last-one-counts", test_last_wins);
  g_test_add_func("/fs/options/commas-and-backslashes-can-be-escaped", test_escapes);
  g_test_add_func("/fs/options/relative-paths-become-absolute", test_relative_paths);
  g_test_add_func("/fs/options/libfuse-options-are-passed-on", test_passed_on);
  g_test_add_func("/fs/options/fstab-options-are-ignored", test_ignored);
  g_test_add_func("/fs/options/wrong-ones-are-refused-in-one-line", test_refused);
  g_test_add_func("/fs/options/an-existing-store-gives-the-defaults", test_existing_store);
  return g_test_run();
}
