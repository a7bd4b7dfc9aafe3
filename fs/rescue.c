/* rescue.c - see rescue.h. */
#include "fs/rescue.h"

#include "fs/mountpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The "abort" file of the connection, open for writing; -1: not within reach. It stays bound to
 * that connection: once that is gone a write does nothing, although another mount may bear its
 * number. */
static int open_abort(guint minor) {
  g_autofree char *name = g_strdup_printf("%u/abort", minor);
  g_autofree char *path = g_build_filename("/sys/fs/fuse/connections", name, NULL);
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd >= 0 || errno != ENOENT)
    return fd;
  /* Containers often have no fusectl mounted: root can reach it without mounting it. */
  int context = fsopen("fusectl", FSOPEN_CLOEXEC);
  if (context < 0)
    return -1;
  int mount = fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) == 0
                  ? fsmount(context, FSMOUNT_CLOEXEC, 0)
                  : -1;
  fd = mount >= 0 ? openat(mount, name, O_WRONLY | O_CLOEXEC) : -1;
  if (mount >= 0)
    close(mount);
  close(context);
  return fd;
}

/* --- the watcher --- */

/* Async-signal-safe: the process that forked may have threads. */
G_GNUC_NORETURN static void watch(int abort_fd, pid_t parent) {
  sigset_t set;
  sigfillset(&set);
  sigprocmask(SIG_SETMASK, &set, NULL);
  setsid();
  prctl(PR_SET_NAME, "qfs-watcher");
  prctl(PR_SET_PDEATHSIG, SIGUSR1);
  dup2(abort_fd, STDIN_FILENO);
  syscall(SYS_close_range, 1U, UINT_MAX, 0U);
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  int number = 0;
  if (getppid() == parent)
    while (sigwait(&set, &number) != 0)
      ;
  while (write(STDIN_FILENO, "1", 1) < 0 && errno == EINTR)
    ;
  _exit(0);
}

gboolean qfs_rescue_watch(const char *mountpoint) {
  g_autoptr(QfsMount) mount = qfs_mounts_find(mountpoint);
  int fd = qfs_mount_is_ours(mount) ? open_abort(mount->minor) : -1;
  if (fd < 0)
    return FALSE;
  pid_t parent = getpid();
  pid_t child = fork();
  if (child == 0)
    watch(fd, parent);
  close(fd);
  return child > 0;
}

/* --- what a watcher left --- */

/* Is the process that the store's lock file names only half gone: killed (its first thread is a
 * zombie) and still listed, because another thread of it waits in the kernel? */
static gboolean daemon_is_dying(const char *store) {
  g_autofree char *path = g_build_filename(store, "lock", NULL);
  g_autofree char *text = NULL;
  if (!g_path_is_absolute(store) || !g_file_get_contents(path, &text, NULL, NULL))
    return FALSE;
  long pid = strtol(text, NULL, 10);
  g_autofree char *stat_path = g_strdup_printf("/proc/%ld/stat", pid);
  g_autofree char *line = NULL;
  if (pid <= 0 || !g_file_get_contents(stat_path, &line, NULL, NULL))
    return FALSE;
  const char *state = strrchr(line, ')');
  return state != NULL && strlen(state) > 2 && (state[2] == 'Z' || state[2] == 'X');
}

static void abort_connection(guint minor) {
  int fd = open_abort(minor);
  if (fd < 0)
    return;
  if (write(fd, "1", 1) != 1)
    g_debug("connection %u: %s", minor, g_strerror(errno));
  close(fd);
}

void qfs_rescue_mounts(void) {
  g_autoptr(GPtrArray) mounts = qfs_mounts_list();
  for (guint i = 0; i < mounts->len; i++) {
    const QfsMount *mount = g_ptr_array_index(mounts, i);
    if (daemon_is_dying(mount->source))
      abort_connection(mount->minor);
  }
}
