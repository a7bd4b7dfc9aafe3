/* aside.c - see aside.h. One thread at a time per directory.
 *
 * The order makes every interruption harmless: the new replica is complete and on stable storage before the old
 * files move; between the two renames there is no replica.db, and the next opening ends what was begun. The log goes
 * first: without its file nobody takes it for another one's.
 */
#include "storage/aside.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <sqlite3.h>
#include <string.h>
#include <unistd.h>

static const char *const suffixes[] = {"-wal", "-shm", "-redo", ""};

static char *live_path(const char *dir, const char *suffix) {
  return g_strdup_printf("%s/replica.db%s", dir, suffix);
}

static char *aside_path(const char *dir, const char *suffix) {
  return g_strdup_printf("%s/replica.damaged%s", dir, suffix);
}

static char *new_dir(const char *dir) {
  return g_build_filename(dir, "replica.new", NULL);
}

static void remove_new(const char *dir) {
  static const char *const names[] = {"replica.db", "replica.db-wal", "replica.db-shm", "replica.db-redo", "replica.lock"};
  g_autofree char *fresh = new_dir(dir);
  for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
    g_autofree char *path = g_build_filename(fresh, names[i], NULL);
    g_unlink(path);
  }
  g_rmdir(fresh);
}

static gboolean make_new(const char *dir, const QfsNodeMeta *meta, GError **error) {
  g_autofree char *fresh = new_dir(dir);
  QfsNodeMeta empty = *meta;
  empty.mark = empty.settled = 0;
  remove_new(dir);
  g_autoptr(QfsReplica) replica = qfs_sqlite_replica_open(fresh, meta->node, TRUE, FALSE, error);
  if (replica == NULL)
    return FALSE;
  const QfsReplicaOps *ops = replica->ops;
  return ops->begin(replica, error) && ops->meta_store(replica, &empty, error) &&
         ops->commit(replica, TRUE, error) && ops->checkpoint(replica, TRUE, error);
}

static gboolean put_new_in_place(const char *dir) {
  g_autofree char *fresh = new_dir(dir);
  g_autofree char *from = g_build_filename(fresh, "replica.db", NULL);
  g_autofree char *to = live_path(dir, "");
  if (g_rename(from, to) != 0)
    return FALSE;
  remove_new(dir);
  return TRUE;
}

void qfs_replica_end_set_aside(const char *dir) {
  g_autofree char *fresh = new_dir(dir);
  g_autofree char *live = live_path(dir, "");
  if (!g_file_test(fresh, G_FILE_TEST_IS_DIR))
    return;
  if (g_file_test(live, G_FILE_TEST_EXISTS))
    remove_new(dir); /* the old one had not moved */
  else
    put_new_in_place(dir);
}

static void write_reason(const char *dir, const char *reason) {
  g_autofree char *path = aside_path(dir, ".txt");
  g_autofree char *line = g_strdup_printf("%s\n", reason);
  g_file_set_contents(path, line, -1, NULL); /* only for people: it may fail */
}

char *qfs_replica_aside_reason(const char *dir) {
  g_autofree char *file = aside_path(dir, "");
  g_autofree char *path = aside_path(dir, ".txt");
  char *reason = NULL;
  if (!g_file_test(file, G_FILE_TEST_EXISTS))
    return NULL;
  return g_file_get_contents(path, &reason, NULL, NULL) ? g_strchomp(reason) : g_strdup("damaged");
}

gboolean qfs_replica_discard_aside(const char *dir) {
  g_autofree char *text = aside_path(dir, ".txt");
  gboolean any = FALSE;
  g_unlink(text);
  for (guint i = 0; i < G_N_ELEMENTS(suffixes); i++) {
    g_autofree char *path = aside_path(dir, suffixes[i]);
    any |= g_unlink(path) == 0;
  }
  return any;
}

/* Files that SQLite reaches by another layer than the system's can't be renamed: they go. */
static gboolean move_away(const char *dir, const char *suffix, GError **error) {
  g_autofree char *from = live_path(dir, suffix);
  g_autofree char *to = aside_path(dir, suffix);
  sqlite3_vfs *vfs = sqlite3_vfs_find(NULL);
  /* Somebody else's: nothing was written there, and in the place of a file it would be in the way of the next. */
  if (g_file_test(from, G_FILE_TEST_IS_DIR))
    return TRUE;
  if (g_rename(from, to) == 0)
    return TRUE;
  if (errno == ENOENT) {
    vfs->xDelete(vfs, from, 0);
    return TRUE;
  }
  g_set_error(error, QFS_REPLICA_ERROR, QFS_REPLICA_ERROR_IO, "%s can't be set aside: %s", from,
              g_strerror(errno));
  return FALSE;
}

gboolean qfs_replica_set_aside(const char *dir, const char *reason, const QfsNodeMeta *meta, GError **error) {
  g_autofree char *live = live_path(dir, "");
  if (meta != NULL && !make_new(dir, meta, error)) {
    remove_new(dir);
    return FALSE;
  }
  if (g_file_test(live, G_FILE_TEST_EXISTS)) {
    qfs_replica_discard_aside(dir);
    write_reason(dir, reason);
  }
  for (guint i = 0; i < G_N_ELEMENTS(suffixes); i++)
    if (!move_away(dir, suffixes[i], error))
      return FALSE;
  if (meta != NULL && !put_new_in_place(dir)) {
    g_set_error(error, QFS_REPLICA_ERROR, QFS_REPLICA_ERROR_IO, "%s: a new replica can't take its place: %s", dir,
                g_strerror(errno));
    return FALSE;
  }
  return TRUE;
}
