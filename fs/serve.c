#include "fs/serve.h"

#include "fs/cli.h"
#include "fs/fs.h"
#include "fs/log.h"
#include "fs/rescue.h"

#include <errno.h>
#include <ftw.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

/* How long closing may take to bring all replicas level; what is left is done at the next start. */
#define SETTLE_MS 1500
/* After a plain umount(8) the former daemon needs a moment to close the store, on a busy machine a long one. */
#define LOCK_PATIENCE_US (20 * G_USEC_PER_SEC)
/* An end that was asked for and hangs is cut short: the store survives that by design. */
#define END_PATIENCE_S 10

typedef struct {
  QfsOptions *options;
  QfsMountpoint *point;
  QfsDaemon *daemon;
  gboolean quiet;
  char *temporary; /* directory of an ephemeral store */
  mode_t umask;    /* the user's */
  QfsEngine *engine;

  GRWLock lock;    /* protects the two below */
  QfsFs *fs;       /* NULL: not mounted yet, or no more */
  gboolean ending; /* a signal asked for the end */
} Serve;

char *qfs_serve_describe(const char *what, const char *mountpoint, const char *store) {
  g_autofree char *program = g_file_read_link("/proc/self/exe", NULL);
  const char *command = g_getenv("QUORUMFS_UNMOUNT");
  g_autofree char *own = g_strdup_printf("%s umount", program != NULL ? program : "quorumfs");
  g_autofree char *quoted = g_regex_match_simple("^[A-Za-z0-9_./+@%:,-]+$", mountpoint, 0, 0)
                                ? g_strdup(mountpoint)
                                : g_shell_quote(mountpoint);
  return g_strdup_printf("%s %s\nstore in %s\nunmount with: %s %s\n", what, mountpoint, store,
                         command != NULL && *command != '\0' ? command : own, quoted);
}

static void raise_file_limit(void) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
  }
}

static void end_signals(sigset_t *set) {
  sigemptyset(set);
  sigaddset(set, SIGTERM);
  sigaddset(set, SIGINT);
  sigaddset(set, SIGHUP);
}

static gpointer handle_signals(gpointer data) {
  Serve *serve = data;
  sigset_t set;
  end_signals(&set);
  int number = 0;
  while (sigwait(&set, &number) != 0)
    ;
  g_message("ending on signal %d", number);
  g_rw_lock_writer_lock(&serve->lock);
  serve->ending = TRUE;
  if (serve->fs != NULL)
    qfs_fs_stop(serve->fs);
  g_rw_lock_writer_unlock(&serve->lock);
  const struct timespec patience = {.tv_sec = END_PATIENCE_S};
  while (sigtimedwait(&set, NULL, &patience) < 0 && errno == EINTR)
    ;
  g_warning("the end takes too long: detaching %s", serve->point->path);
  qfs_mountpoint_unmount(serve->point->path, TRUE, NULL);
  _exit(CLI_FAILED);
}

static void key_changed(const char *key, gpointer user_data) {
  Serve *serve = user_data;
  g_rw_lock_reader_lock(&serve->lock);
  if (serve->fs != NULL)
    qfs_fs_key_changed(key, serve->fs);
  g_rw_lock_reader_unlock(&serve->lock);
}

static void tell_ready(gpointer user_data) {
  Serve *serve = user_data;
  g_autofree char *text =
      serve->quiet ? g_strdup("")
                   : qfs_serve_describe("mounted", serve->point->path, serve->engine->config.store);
  if (!qfs_daemon_ready(serve->daemon, text)) {
    g_warning("nobody waits for the mount any more: unmounting");
    kill(getpid(), SIGTERM);
  } else {
    g_message("serving %s from %s", serve->point->path, serve->engine->config.store);
  }
}

static gboolean make_temporary(Serve *serve, GError **error) {
  if (!serve->options->ephemeral)
    return TRUE;
  serve->temporary = g_build_filename(g_get_tmp_dir(), "quorumfs-XXXXXX", NULL);
  if (g_mkdtemp(serve->temporary) == NULL) {
    g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(errno), "%s: %s", serve->temporary,
                g_strerror(errno));
    g_clear_pointer(&serve->temporary, g_free);
    return FALSE;
  }
  serve->options->engine.store = g_build_filename(serve->temporary, "store", NULL);
  serve->options->engine.temporary = TRUE;
  return TRUE;
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *walk) {
  return remove(path);
}

static void remove_temporary(Serve *serve) {
  if (serve->temporary != NULL &&
      nftw(serve->temporary, remove_entry, 16, FTW_DEPTH | FTW_PHYS) != 0)
    g_warning("%s: %s", serve->temporary, g_strerror(errno));
  g_clear_pointer(&serve->temporary, g_free);
}

/* Runs the mount with standard error caught: libfuse and fusermount3 write there, and their lines
 * belong into the one line of our error. Newly allocated; "" when nothing was said. */
static char *mount_and_listen(const QfsFsConfig *config, QfsFs **out_fs, GError **error) {
  int saved = dup(STDERR_FILENO);
  int heard = memfd_create("stderr", MFD_CLOEXEC);
  if (heard >= 0)
    dup2(heard, STDERR_FILENO);
  *out_fs = qfs_fs_mount(config, error);
  if (saved >= 0 && heard >= 0)
    dup2(saved, STDERR_FILENO);
  if (saved >= 0)
    close(saved);
  char *text = g_malloc0(4096);
  if (heard >= 0) {
    if (pread(heard, text, 4095, 0) < 0)
      *text = '\0';
    close(heard);
  }
  return g_strchomp(text);
}

static gboolean prepare_mountpoint(Serve *serve, GError **error) {
  umask(serve->umask);
  gboolean prepared = qfs_mountpoint_prepare(serve->point, error);
  umask(077);
  return prepared;
}

static gboolean mount_store(Serve *serve, GError **error) {
  if (!prepare_mountpoint(serve, error))
    return FALSE;
  g_autofree char *fuse_string = qfs_options_fuse_string(serve->options);
  const char *const fuse_options[] = {fuse_string, NULL};
  const QfsFsConfig config = {
      .engine = serve->engine,
      .mountpoint = serve->point->path,
      .uid = geteuid(),
      .gid = getegid(),
      .fuse_options = fuse_options,
      .cached_names = serve->options->cached_names,
      .noatime = qfs_options_has_fuse(serve->options, "noatime") || qfs_options_has_fuse(serve->options, "ro"),
      .nodiratime = qfs_options_has_fuse(serve->options, "nodiratime"),
      .ready = tell_ready,
      .ready_data = serve,
  };
  QfsFs *fs = NULL;
  GError *mount_error = NULL;
  g_autofree char *said = mount_and_listen(&config, &fs, &mount_error);
  if (fs == NULL) {
    for (char *line_end = said; (line_end = strchr(line_end, '\n')) != NULL;)
      *line_end = ';';
    if (*said != '\0')
      g_prefix_error(&mount_error, "%s: ", said);
    g_propagate_error(error, mount_error);
    return FALSE;
  }
  if (*said != '\0')
    fprintf(stderr, "%s\n", said);
  g_rw_lock_writer_lock(&serve->lock);
  serve->fs = fs;
  gboolean ending = serve->ending;
  g_rw_lock_writer_unlock(&serve->lock);
  if (ending)
    qfs_fs_stop(fs);
  return TRUE;
}

static void unmount_store(Serve *serve) {
  g_rw_lock_writer_lock(&serve->lock);
  QfsFs *fs = g_steal_pointer(&serve->fs);
  g_rw_lock_writer_unlock(&serve->lock);
  qfs_fs_free(fs);
}

/* Is the store `dir` mounted somewhere, as far as this process sees mounts? */
static gboolean is_mounted(const char *dir) {
  g_autoptr(GPtrArray) mounts = qfs_mounts_list();
  for (guint i = 0; i < mounts->len; i++) {
    const QfsMount *mount = g_ptr_array_index(mounts, i);
    if (strcmp(mount->source, dir) == 0 && !qfs_mountpoint_is_dead(mount->path))
      return TRUE;
  }
  return FALSE;
}

static QfsEngine *open_engine(Serve *serve, GError **error) {
  const QfsEngineConfig *config = &serve->options->engine;
  gint64 until_us = g_get_monotonic_time() + LOCK_PATIENCE_US;
  for (;;) {
    GError *failure = NULL;
    QfsEngine *engine = qfs_engine_open_embedded(config, key_changed, serve, &failure);
    if (engine != NULL)
      return engine;
    if (!g_error_matches(failure, QFS_ENGINE_ERROR, QFS_ENGINE_ERROR_LOCKED) ||
        g_get_monotonic_time() > until_us || is_mounted(config->store)) {
      g_propagate_error(error, failure);
      return NULL;
    }
    g_error_free(failure);
    g_usleep(20000);
  }
}

/* The exit status; *error when the start failed. */
static int run(Serve *serve, GError **error) {
  /* A missing mountpoint is made before the store: what can't be made leaves no store behind. */
  if (serve->point->missing && !prepare_mountpoint(serve, error)) {
    qfs_mountpoint_withdraw(serve->point);
    return CLI_USAGE;
  }
  if (!make_temporary(serve, error)) {
    qfs_mountpoint_withdraw(serve->point);
    return CLI_FAILED;
  }
  GError *open_error = NULL;
  serve->engine = open_engine(serve, &open_error);
  if (serve->engine == NULL) {
    qfs_mountpoint_withdraw(serve->point);
    gboolean usage = g_error_matches(open_error, QFS_ENGINE_ERROR, QFS_ENGINE_ERROR_CONFIG) ||
                     g_error_matches(open_error, QFS_ENGINE_ERROR, QFS_ENGINE_ERROR_LOCKED);
    g_propagate_error(error, open_error);
    return usage ? CLI_USAGE : CLI_FAILED;
  }
  int result = CLI_FAILED;
  if (mount_store(serve, error)) {
    if (!qfs_rescue_watch(serve->point->path))
      g_info("no watcher: %s cannot be freed at once if this process is killed", serve->point->path);
    result = qfs_fs_run(serve->fs) == 0 ? CLI_OK : CLI_FAILED;
    unmount_store(serve);
  } else {
    qfs_mountpoint_withdraw(serve->point);
  }
  qfs_engine_close(serve->engine, SETTLE_MS);
  return result;
}

int qfs_serve(QfsOptions *options, QfsMountpoint *point, QfsDaemon *daemon, gboolean quiet) {
  static Serve serve; /* the signal thread waits with it until the process ends */
  sigset_t set;
  serve.options = options;
  serve.point = point;
  serve.daemon = daemon;
  serve.quiet = quiet;
  qfs_log_init(daemon->pipe_fd < 0);
  g_rw_lock_init(&serve.lock);
  raise_file_limit();
  /* Values of any mode are in the store: its files are for their owner only. */
  serve.umask = umask(077);
  if (chdir("/") != 0)
    g_warning("/: %s", g_strerror(errno));
  end_signals(&set);
  pthread_sigmask(SIG_BLOCK, &set, NULL);
  g_thread_unref(g_thread_new("signals", handle_signals, &serve));
  GError *error = NULL;
  int status = run(&serve, &error);
  remove_temporary(&serve);
  /* Told only now: who hears of a failure may try again at once. */
  if (error != NULL) {
    qfs_daemon_failed(daemon, status, error->message);
    g_error_free(error);
  } else if (daemon->pipe_fd >= 0) {
    status = CLI_FAILED;
    qfs_daemon_failed(daemon, status, "unmounted before it served");
  } else {
    g_message("unmounted %s", point->path);
  }
  return status;
}
