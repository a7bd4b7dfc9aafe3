#include "fs/mountpoint.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

/* Crashes in a row can leave several dead mounts on top of each other. */
#define STALE_LAYERS_MAX 64

GQuark qfs_mountpoint_error_quark(void) {
  return g_quark_from_static_string("qfs-mountpoint-error");
}

void qfs_mount_free(QfsMount *mount) {
  if (mount == NULL)
    return;
  g_free(mount->path);
  g_free(mount->type);
  g_free(mount->source);
  g_free(mount);
}

gboolean qfs_mount_is_ours(const QfsMount *mount) {
  return mount != NULL && strcmp(mount->type, "fuse.quorumfs") == 0;
}

/* "ID PARENT MAJ:MIN ROOT PATH OPTIONS [FIELD...] - TYPE SOURCE SUPEROPTIONS", with \040 for a
 * space. */
static QfsMount *parse_line(const char *line) {
  g_auto(GStrv) fields = g_strsplit(line, " ", -1);
  guint count = g_strv_length(fields), dash = 6;
  while (dash < count && strcmp(fields[dash], "-") != 0)
    dash++;
  if (dash + 2 >= count)
    return NULL;
  QfsMount *mount = g_new0(QfsMount, 1);
  mount->path = g_strcompress(fields[4]);
  mount->type = g_strcompress(fields[dash + 1]);
  mount->source = g_strcompress(fields[dash + 2]);
  const char *colon = strchr(fields[2], ':');
  mount->minor = colon != NULL ? (unsigned)strtoul(colon + 1, NULL, 10) : 0;
  const char *user = dash + 3 < count ? strstr(fields[dash + 3], "user_id=") : NULL;
  mount->uid = user != NULL ? (unsigned)strtoul(user + strlen("user_id="), NULL, 10) : 0;
  return mount;
}

static GPtrArray *all_mounts(void) {
  GPtrArray *mounts = g_ptr_array_new_with_free_func((GDestroyNotify)qfs_mount_free);
  g_autofree char *text = NULL;
  if (!g_file_get_contents("/proc/self/mountinfo", &text, NULL, NULL))
    return mounts;
  g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
  for (char **line = lines; *line != NULL; line++) {
    QfsMount *mount = parse_line(*line);
    if (mount != NULL)
      g_ptr_array_add(mounts, mount);
  }
  return mounts;
}

GPtrArray *qfs_mounts_list(void) {
  GPtrArray *mounts = all_mounts();
  for (guint i = mounts->len; i-- > 0;)
    if (!qfs_mount_is_ours(g_ptr_array_index(mounts, i)))
      g_ptr_array_remove_index(mounts, i);
  return mounts;
}

QfsMount *qfs_mounts_find(const char *path) {
  g_autoptr(GPtrArray) mounts = all_mounts();
  for (guint i = mounts->len; i-- > 0;) {
    QfsMount *mount = g_ptr_array_index(mounts, i);
    if (strcmp(mount->path, path) == 0) {
      g_ptr_array_set_free_func(mounts, NULL);
      g_ptr_array_remove_index(mounts, i);
      g_ptr_array_set_free_func(mounts, (GDestroyNotify)qfs_mount_free);
      return mount;
    }
  }
  return NULL;
}

char *qfs_mountpoint_resolve(const char *path) {
  g_autofree char *absolute = g_canonicalize_filename(path, NULL);
  char *real = realpath(absolute, NULL);
  if (real == NULL && strcmp(absolute, "/") != 0) {
    /* The last component may be dead or absent: what leads to it still has symlinks to resolve. */
    g_autofree char *parent = g_path_get_dirname(absolute);
    g_autofree char *name = g_path_get_basename(absolute);
    g_autofree char *real_parent = qfs_mountpoint_resolve(parent);
    return g_build_filename(real_parent, name, NULL);
  }
  char *result = g_strdup(real != NULL ? real : absolute);
  free(real);
  return result;
}

void qfs_mountpoint_free(QfsMountpoint *point) {
  if (point == NULL)
    return;
  g_free(point->path);
  g_ptr_array_unref(point->made);
  g_free(point);
}

static gboolean fail(GError **error, const char *path, const char *reason) {
  g_set_error(error, QFS_MOUNTPOINT_ERROR, QFS_MOUNTPOINT_ERROR_UNUSABLE, "mountpoint %s: %s", path,
              reason);
  return FALSE;
}

static gboolean check_empty(const char *path, GError **error) {
  DIR *dir = opendir(path);
  if (dir == NULL)
    return fail(error, path, g_strerror(errno));
  gboolean empty = TRUE;
  for (struct dirent *entry; empty && (entry = readdir(dir)) != NULL;)
    empty = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0;
  closedir(dir);
  return empty || fail(error, path, "is not empty");
}

/* The nearest directory above that exists must take a new entry. */
static gboolean check_creatable(const char *path, GError **error) {
  g_autofree char *above = g_path_get_dirname(path);
  struct stat st;
  while (stat(above, &st) != 0) {
    if (errno != ENOENT || strcmp(above, "/") == 0)
      return fail(error, path, g_strerror(errno));
    char *next = g_path_get_dirname(above);
    g_free(above);
    above = next;
  }
  if (!S_ISDIR(st.st_mode))
    return fail(error, path, g_strerror(ENOTDIR));
  return access(above, W_OK | X_OK) == 0 || fail(error, path, g_strerror(errno));
}

gboolean qfs_mountpoint_is_dead(const char *path) {
  struct stat st;
  struct statfs fs;
  /* stat(2) may be answered by what the kernel remembers of the root; statfs(2) never is. */
  return (stat(path, &st) != 0 || statfs(path, &fs) != 0) &&
         (errno == ENOTCONN || errno == ECONNABORTED);
}

static gboolean examine(QfsMountpoint *point, gboolean create, GError **error) {
  g_autoptr(QfsMount) mount = qfs_mounts_find(point->path);
  struct stat st;
  if (qfs_mountpoint_is_dead(point->path)) {
    point->stale = TRUE;
    return qfs_mount_is_ours(mount) ||
           fail(error, point->path, "holds a broken mount of another file system");
  }
  int result = stat(point->path, &st) == 0 ? 0 : errno;
  if (result == 0 && qfs_mount_is_ours(mount)) {
    point->mounted = TRUE;
    return TRUE;
  }
  if (result == ENOENT) {
    point->missing = TRUE;
    return create ? check_creatable(point->path, error)
                  : fail(error, point->path, g_strerror(ENOENT));
  }
  if (result != 0)
    return fail(error, point->path, g_strerror(result));
  if (!S_ISDIR(st.st_mode))
    return fail(error, point->path, "is not a directory");
  return check_empty(point->path, error);
}

QfsMountpoint *qfs_mountpoint_examine(const char *path, gboolean create, GError **error) {
  g_autoptr(QfsMountpoint) point = g_new0(QfsMountpoint, 1);
  point->made = g_ptr_array_new_with_free_func(g_free);
  point->path = qfs_mountpoint_resolve(path);
  return examine(point, create, error) ? g_steal_pointer(&point) : NULL;
}

static gboolean make_directory(QfsMountpoint *point, const char *path, GError **error) {
  struct stat st;
  if (stat(path, &st) == 0)
    return TRUE;
  g_autofree char *parent = g_path_get_dirname(path);
  if (!make_directory(point, parent, error))
    return FALSE;
  if (mkdir(path, 0777) == 0)
    g_ptr_array_add(point->made, g_strdup(path));
  else if (errno != EEXIST)
    return fail(error, path, g_strerror(errno));
  return TRUE;
}

gboolean qfs_mountpoint_prepare(QfsMountpoint *point, GError **error) {
  for (int i = 0; point->stale && i < STALE_LAYERS_MAX && qfs_mountpoint_is_dead(point->path); i++)
    if (!qfs_mountpoint_unmount(point->path, TRUE, error))
      return FALSE;
  if (point->stale && !check_empty(point->path, error))
    return FALSE;
  return !point->missing || make_directory(point, point->path, error);
}

void qfs_mountpoint_withdraw(QfsMountpoint *point) {
  for (guint i = point->made->len; i-- > 0;)
    rmdir(g_ptr_array_index(point->made, i));
  g_ptr_array_set_size(point->made, 0);
}

static gboolean unmount_by_fusermount(const char *path, gboolean lazy, GError **error) {
  const char *argv[] = {"fusermount3", "-u", lazy ? "-z" : "-q", "--", path, NULL};
  g_autofree char *said = NULL;
  g_autoptr(GError) spawn_error = NULL;
  int status;
  if (!g_spawn_sync("/", (char **)argv, NULL, G_SPAWN_SEARCH_PATH | G_SPAWN_STDOUT_TO_DEV_NULL,
                    NULL, NULL, NULL, &said, &status, &spawn_error)) {
    g_set_error(error, QFS_MOUNTPOINT_ERROR, QFS_MOUNTPOINT_ERROR_SYSTEM,
                "%s: cannot be unmounted without fusermount3 (package fuse3): %s", path,
                spawn_error->message);
    return FALSE;
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
    return TRUE;
  g_strstrip(said);
  gboolean busy = strcasestr(said, "busy") != NULL || *said == '\0';
  g_set_error(error, QFS_MOUNTPOINT_ERROR,
              busy ? QFS_MOUNTPOINT_ERROR_BUSY : QFS_MOUNTPOINT_ERROR_SYSTEM, "%s: %s", path,
              *said != '\0' ? said : "cannot be unmounted: busy, or not yours");
  return FALSE;
}

gboolean qfs_mountpoint_unmount(const char *path, gboolean lazy, GError **error) {
  if (geteuid() != 0)
    return unmount_by_fusermount(path, lazy, error);
  if (umount2(path, UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0)) == 0)
    return TRUE;
  g_set_error(error, QFS_MOUNTPOINT_ERROR,
              errno == EBUSY ? QFS_MOUNTPOINT_ERROR_BUSY : QFS_MOUNTPOINT_ERROR_SYSTEM, "%s: %s",
              path, g_strerror(errno));
  return FALSE;
}
