/* test_file_watch.c - storage/file_watch.h. */
#include "remove_tree.h"

#include "storage/file_watch.h"

#include <glib/gstdio.h>
#include <unistd.h>

typedef struct {
  char *dir, *path, *other;
  QfsFileWatch *watch;
} Fixture;

static void write_file(const char *path, const char *text) {
  FILE *file = g_fopen(path, "a");
  g_assert_nonnull(file);
  g_assert_cmpint(fputs(text, file), >=, 0);
  g_assert_cmpint(fclose(file), ==, 0);
}

static void set_up(Fixture *f, gconstpointer unused) {
  f->dir = g_dir_make_tmp("quorumfs-watch-XXXXXX", NULL);
  f->path = g_build_filename(f->dir, "file", NULL);
  f->other = g_build_filename(f->dir, "other", NULL);
  write_file(f->path, "text");
  f->watch = qfs_file_watch_new(f->path);
}

static void tear_down(Fixture *f, gconstpointer unused) {
  qfs_file_watch_unref(f->watch);
  remove_tree(f->dir);
  g_free(f->dir);
  g_free(f->path);
  g_free(f->other);
}

/* Right after the path was followed, and after a while. */
static void assert_noticed(Fixture *f, const char *what) {
  g_assert_cmpstr(qfs_file_watch_glance(f->watch), ==, what);
  g_assert_cmpstr(qfs_file_watch_objection(f->watch), ==, what);
  g_assert_cmpstr(qfs_file_watch_glance(f->watch), ==, what);
  g_usleep(3 * QFS_FILE_WATCH_PATH_US);
  g_assert_cmpstr(qfs_file_watch_glance(f->watch), ==, what);
}

static void own_writes(Fixture *f, gconstpointer unused) {
  assert_noticed(f, NULL);
  qfs_file_watch_begin(f->watch);
  write_file(f->path, "more");
  assert_noticed(f, NULL);
  qfs_file_watch_end(f->watch);
  assert_noticed(f, NULL);
}

static void written_to(Fixture *f, gconstpointer unused) {
  g_assert_null(qfs_file_watch_objection(f->watch));
  write_file(f->path, "more");
  assert_noticed(f, "somebody else wrote to the file");
}

static void deleted(Fixture *f, gconstpointer unused) {
  g_assert_null(qfs_file_watch_objection(f->watch));
  g_assert_cmpint(g_unlink(f->path), ==, 0);
  assert_noticed(f, "the file was deleted");
}

static void replaced(Fixture *f, gconstpointer unused) {
  write_file(f->other, "text");
  g_assert_null(qfs_file_watch_objection(f->watch));
  g_assert_cmpint(g_rename(f->other, f->path), ==, 0);
  assert_noticed(f, "another file is in its place");
}

/* It is the file that was read, whatever its name: the path tells it. */
static void moved_away(Fixture *f, gconstpointer unused) {
  g_assert_null(qfs_file_watch_objection(f->watch));
  g_assert_cmpint(g_rename(f->path, f->other), ==, 0);
  g_assert_cmpstr(qfs_file_watch_objection(f->watch), ==, "the file was deleted");
  write_file(f->path, "text");
  g_assert_cmpstr(qfs_file_watch_objection(f->watch), ==, "another file is in its place");
  g_usleep(3 * QFS_FILE_WATCH_PATH_US);
  g_assert_cmpstr(qfs_file_watch_glance(f->watch), ==, "another file is in its place");
}

static void never_there(Fixture *f, gconstpointer unused) {
  g_autoptr(QfsFileWatch) watch = qfs_file_watch_new(f->other);
  g_assert_null(qfs_file_watch_glance(watch));
  g_assert_null(qfs_file_watch_objection(watch));
}

#define ADD(name, function)                                                                                           \
  g_test_add("/storage/file-watch/" name, Fixture, NULL, set_up, function, tear_down)

int main(int argc, char **argv) {
  g_test_init(&argc, &argv, NULL);
  ADD("own-writes-are-expected", own_writes);
  ADD("writes-of-others-are-noticed-at-once", written_to);
  ADD("a-deleted-file-is-noticed-at-once", deleted);
  ADD("a-replaced-file-is-noticed-at-once", replaced);
  ADD("a-file-that-was-moved-away-is-noticed-by-its-path", moved_away);
  ADD("a-file-that-never-was-there-is-not-missed", never_there);
  return g_test_run();
}
