/* cli_mount.c - quorumfs mount: checks everything that can be checked, and only then starts to
 * serve. */
#include "fs/cli.h"
#include "fs/daemon.h"
#include "fs/mountpoint.h"
#include "fs/rescue.h"
#include "fs/options.h"
#include "fs/serve.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char description[] =
    "Mount options (-o, separated by commas; '\\,' is a comma in a value; the last one counts):\n"
    "  store=DIR             the store's directory (default: $XDG_DATA_HOME/quorumfs/default,\n"
    "                        or ~/.local/share/quorumfs/default)\n"
    "  nodes=N               nodes, 1 to 64 (default: 5; an existing store knows its own)\n"
    "  replicas=K            replicas of each key, 1 to N (default: (N+1)/2); an existing store takes\n"
    "                        other numbers, too, and moves its data in the background\n"
    "  node1=DIR, node2=DIR, ...\n"
    "                        a node's own directory, such as one on another disk; a node that was\n"
    "                        elsewhere is moved there\n"
    "  sync                  a write is on stable storage before it is acknowledged\n"
    "  timeout=MS            deadline of every operation, 100 to 600000 (default: 2000)\n"
    "  tombstone_grace=SECONDS\n"
    "                        how long deletes are remembered at least (default: 86400)\n"
    "  scrub_period=SECONDS  how often everything is read and compared (default: 86400; 0: never)\n"
    "  cached_names=N        files that the kernel may keep known at once (default: 131072)\n"
    "  ephemeral             a store in a temporary directory, deleted at unmount\n"
    "  faults                allow fault injection\n"
    "  engine=embedded       the engine\n"
    "  allow_other, allow_root, ro, noexec, nosuid, nodev, noatime, fsname=NAME, ...\n"
    "                        as for every FUSE filesystem\n"
    "\n"
    "Exit status: 0 serving (-f: unmounted), 1 failed, 2 wrong usage; then nothing was changed.";

typedef struct {
  char **lists; /* of -o */
  gboolean foreground, create, reuse, quiet;
} Flags;

static int usage_error(GError *error) {
  cli_error("%s", error->message);
  g_error_free(error);
  return CLI_USAGE;
}

static gboolean inside(const char *path, const char *dir) {
  gsize len = strlen(dir);
  return strncmp(path, dir, len) == 0 && (path[len] == '/' || path[len] == '\0' || len == 1);
}

/* What is there of `dir` must be directories. *out_nearest: the innermost that is there. */
static gboolean check_path(const char *what, const char *dir, char **out_nearest) {
  g_autofree char *nearest = g_strdup(dir);
  struct stat st;
  while (stat(nearest, &st) != 0) {
    if ((errno != ENOENT && errno != ENOTDIR) || strcmp(nearest, "/") == 0) {
      cli_error("%s %s: %s", what, dir, g_strerror(errno));
      return FALSE;
    }
    char *above = g_path_get_dirname(nearest);
    g_free(nearest);
    nearest = above;
  }
  if (!S_ISDIR(st.st_mode)) {
    if (strcmp(nearest, dir) == 0)
      cli_error("%s %s: is not a directory", what, dir);
    else
      cli_error("%s %s: %s is not a directory", what, dir, nearest);
    return FALSE;
  }
  *out_nearest = g_steal_pointer(&nearest);
  return TRUE;
}

/* Can files be made in the store's directory, or it itself? Tried, because file systems such as
 * /proc refuse even root. */
static gboolean check_store(const char *store) {
  g_autofree char *nearest = NULL;
  if (!check_path("store", store, &nearest))
    return FALSE;
  if (strcmp(nearest, store) == 0) {
    g_autofree char *lock = g_build_filename(store, "lock", NULL);
    if (access(store, R_OK | X_OK) == 0 &&
        (access(lock, F_OK) == 0 || access(store, W_OK | X_OK) == 0))
      return TRUE;
    cli_error("store %s: %s", store, g_strerror(errno));
    return FALSE;
  }
  g_autofree char *trial = g_build_filename(nearest, ".quorumfs-XXXXXX", NULL);
  if (g_mkdtemp(trial) != NULL && rmdir(trial) == 0)
    return TRUE;
  cli_error("store %s: cannot be made in %s: %s", store, nearest, g_strerror(errno));
  return FALSE;
}

/* Is `dir` a file, or below one? */
static gboolean is_blocked(const char *dir) {
  struct stat st;
  return stat(dir, &st) == 0 ? !S_ISDIR(st.st_mode) : errno == ENOTDIR;
}

/* Neither of them may hide the mount or be hidden by it. */
static gboolean check_directories(const char *mountpoint, const QfsEngineConfig *engine) {
  for (guint i = 0; i <= engine->nodes; i++) {
    const char *dir = i == 0 ? engine->store : engine->node_dirs[i - 1];
    if (dir == NULL)
      continue;
    g_autofree char *what = g_strdup_printf("node %u:", i), *nearest = NULL;
    /* A node's disk may be broken: what is no plain mistake is left to the engine. */
    if (i > 0 && is_blocked(dir) && !check_path(what, dir, &nearest))
      return FALSE;
    g_autofree char *real = qfs_mountpoint_resolve(dir);
    if (inside(real, mountpoint) || inside(mountpoint, real)) {
      cli_error("mountpoint %s and the store's directory %s lie in one another", mountpoint, dir);
      return FALSE;
    }
  }
  return TRUE;
}

/* Would the kernel and fusermount3 let this user mount at all? Better told before a store is made.
 */
static gboolean check_fuse(const QfsOptions *options, const char *mountpoint) {
  if (access("/dev/fuse", F_OK) != 0) {
    cli_error("/dev/fuse is missing: load the module with 'modprobe fuse' (in a container: give it "
              "the device)");
    return FALSE;
  }
  if (access("/dev/fuse", R_OK | W_OK) != 0) {
    cli_error("/dev/fuse: %s; root allows it by 'chmod 666 /dev/fuse'", g_strerror(errno));
    return FALSE;
  }
  for (guint i = 0; i < options->fuse->len; i++) {
    const char *option = g_ptr_array_index(options->fuse, i);
    if (g_regex_match_simple("^(fs|def|root)?context=", option, 0, 0) && access("/sys/fs/selinux/enforce", F_OK) != 0) {
      cli_error("option %s: SELinux is not in use here", option);
      return FALSE;
    }
  }
  if (geteuid() == 0)
    return TRUE;
  g_autofree char *fusermount = g_find_program_in_path("fusermount3");
  if (fusermount == NULL) {
    cli_error("fusermount3 is missing, without it only root can mount: install the package fuse3");
    return FALSE;
  }
  if (access(mountpoint, F_OK) == 0 && access(mountpoint, W_OK) != 0) {
    cli_error("mountpoint %s: %s; a user must be able to write there", mountpoint,
              g_strerror(errno));
    return FALSE;
  }
  g_autofree char *conf = NULL;
  if (options->allow_other && g_file_get_contents("/etc/fuse.conf", &conf, NULL, NULL) &&
      !g_regex_match_simple("^\\s*user_allow_other\\s*$", conf, G_REGEX_MULTILINE, 0)) {
    cli_error("option allow_other: root allows it to users by a line 'user_allow_other' in "
              "/etc/fuse.conf");
    return FALSE;
  }
  return TRUE;
}

static gboolean same_directory(const char *a, const char *b) {
  struct stat first, second;
  return stat(a, &first) == 0 && stat(b, &second) == 0 && first.st_dev == second.st_dev &&
         first.st_ino == second.st_ino;
}

static gboolean is_continued(const char *piece) {
  gsize len = strlen(piece), end = len;
  while (end > 0 && piece[end - 1] == '\\')
    end--;
  return (len - end) % 2 == 1;
}

/* Does -o say more than which store is meant? */
static gboolean has_other_options(char **lists) {
  for (char **list = lists; list != NULL && *list != NULL; list++) {
    g_auto(GStrv) pieces = g_strsplit(*list, ",", -1);
    for (guint i = 0; pieces[i] != NULL; i++)
      if ((i == 0 || !is_continued(pieces[i - 1])) && *pieces[i] != '\0' &&
          !g_str_has_prefix(pieces[i], "store=") && !g_str_has_prefix(pieces[i], "nodes=") &&
          !g_str_has_prefix(pieces[i], "replicas="))
        return TRUE;
  }
  return FALSE;
}

static gboolean wants_other_size(const QfsEngineConfig *engine) {
  guint nodes, replicas;
  return qfs_store_probe(engine->store, &nodes, &replicas) &&
         (nodes != engine->nodes || replicas != engine->replicas);
}

static int already_mounted(const Flags *flags, const QfsOptions *options,
                           const QfsMountpoint *point) {
  g_autofree char *store = NULL;
  gboolean known = cli_read_daemon(point->path, NULL, &store);
  if (known && flags->reuse && !options->ephemeral &&
      same_directory(store, options->engine.store)) {
    g_autofree char *line = qfs_serve_describe("already mounted", point->path, store);
    if (!flags->quiet && !cli_print(line))
      return CLI_FAILED;
    if (!flags->quiet && (has_other_options(flags->lists) || wants_other_size(&options->engine)))
      cli_error("already mounted; options given now take effect at the next mount");
    return CLI_OK;
  }
  cli_error("mountpoint %s: already mounted (store %s)", point->path, known ? store : "unknown");
  return CLI_USAGE;
}

static gboolean parse_options(const Flags *flags, QfsOptions *options, GError **error) {
  guint nodes, replicas;
  for (char **list = flags->lists; list != NULL && *list != NULL; list++)
    if (!qfs_options_add(options, *list, error))
      return FALSE;
  if (!qfs_options_finish(options, error))
    return FALSE;
  if (options->engine.store != NULL && qfs_store_probe(options->engine.store, &nodes, &replicas))
    qfs_options_adopt_store(options, nodes, replicas);
  return qfs_options_settle(options, error);
}

static int mount_at(const Flags *flags, const char *path) {
  g_autoptr(QfsOptions) options = qfs_options_new();
  GError *error = NULL;
  if (!parse_options(flags, options, &error))
    return usage_error(error);
  qfs_rescue_mounts();
  g_autoptr(QfsMountpoint) point = qfs_mountpoint_examine(path, flags->create, &error);
  if (point == NULL)
    return usage_error(error);
  if (options->engine.store != NULL && !check_directories(point->path, &options->engine))
    return CLI_USAGE;
  if (point->mounted)
    return already_mounted(flags, options, point);
  if (options->engine.store != NULL && !check_store(options->engine.store))
    return CLI_USAGE;
  if (!check_fuse(options, point->path))
    return CLI_USAGE;
  QfsDaemon daemon;
  int status;
  if (!qfs_daemon_start(&daemon, flags->foreground, &status))
    return status;
  return qfs_serve(options, point, &daemon, flags->quiet);
}

int cli_mount(int argc, char **argv) {
  Flags flags = {0};
  g_auto(GStrv) lists = NULL;
  const GOptionEntry entries[] = {
      {"options", 'o', 0, G_OPTION_ARG_FILENAME_ARRAY, &lists, "mount options, see below",
       "OPTIONS"},
      {"foreground", 'f', 0, G_OPTION_ARG_NONE, &flags.foreground,
       "stay in the foreground; messages go to standard error", NULL},
      {"create", 'c', 0, G_OPTION_ARG_NONE, &flags.create, "make a missing mountpoint", NULL},
      {"reuse", 0, 0, G_OPTION_ARG_NONE, &flags.reuse,
       "succeed when this store is already mounted there", NULL},
      {"quiet", 'q', 0, G_OPTION_ARG_NONE, &flags.quiet, "print nothing but errors", NULL},
      {NULL, 0, 0, 0, NULL, NULL, NULL},
  };
  static const CliUsage usage = {
      .arguments = "MOUNTPOINT",
      .summary = "Mounts a store of replicated keys on MOUNTPOINT, in the background, and returns "
                 "when it\n"
                 "serves. A store that does not exist is made.",
      .description = description,
      .min = 1,
      .max = 1,
  };
  int status = CLI_USAGE;
  g_auto(GStrv) arguments = cli_parse(argc, argv, &usage, entries, &status);
  if (arguments == NULL)
    return status;
  flags.lists = lists;
  return mount_at(&flags, arguments[0]);
}
