/* cli_umount.c - quorumfs umount: unmounts, and returns when the daemon has closed the store, so
 * that the next mount of the same store does not find it locked. */
#include "fs/cli.h"
#include "fs/mountpoint.h"
#include "fs/rescue.h"

#include <errno.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#define EXIT_WAIT_MS 20000
#define BUSY_PATIENCE_US (100 * 1000)

/* A descriptor that becomes readable when the process ends; -1: it has ended, or is not visible
 * here. */
static int watch_process(int pid) {
  if (pid <= 0)
    return -1;
  return (int)syscall(SYS_pidfd_open, pid, 0);
}

static gboolean wait_for_end(int pidfd) {
  struct pollfd poll_fd = {.fd = pidfd, .events = POLLIN};
  int result;
  do
    result = poll(&poll_fd, 1, EXIT_WAIT_MS);
  while (result < 0 && errno == EINTR);
  return result == 1;
}

/* Whoever just looks at the mount, such as df(1), holds it busy for a moment. */
static gboolean unmount_patiently(const char *path, gboolean lazy, GError **error) {
  gint64 until_us = g_get_monotonic_time() + BUSY_PATIENCE_US;
  for (;;) {
    GError *failure = NULL;
    if (qfs_mountpoint_unmount(path, lazy, &failure))
      return TRUE;
    if (!g_error_matches(failure, QFS_MOUNTPOINT_ERROR, QFS_MOUNTPOINT_ERROR_BUSY) ||
        g_get_monotonic_time() > until_us) {
      g_propagate_error(error, failure);
      return FALSE;
    }
    g_error_free(failure);
    g_usleep(10000);
  }
}

static int unmount(const char *path, gboolean lazy) {
  g_autoptr(QfsMount) mount = qfs_mounts_find(path);
  if (!qfs_mount_is_ours(mount)) {
    cli_error("%s: no quorumfs store is mounted there", path);
    return CLI_FAILED;
  }
  if (geteuid() != 0 && mount->uid != geteuid()) {
    cli_error("%s: only the user who mounted the store, and root, may unmount it", path);
    return CLI_FAILED;
  }
  gboolean stale = qfs_mountpoint_is_dead(path);
  int pid = 0;
  if (!stale)
    cli_read_daemon(path, &pid, NULL);
  int pidfd = watch_process(pid);
  g_autoptr(GError) error = NULL;
  int status = CLI_OK;
  if (!unmount_patiently(path, lazy || stale, &error)) {
    status = CLI_FAILED;
    if (g_error_matches(error, QFS_MOUNTPOINT_ERROR, QFS_MOUNTPOINT_ERROR_BUSY))
      cli_error("%s: is in use (open files, or a shell's working directory); "
                "'umount --lazy' detaches it all the same",
                path);
    else
      cli_error("%s", error->message);
  } else if (pidfd >= 0 && !lazy && !wait_for_end(pidfd)) {
    status = CLI_FAILED;
    cli_error("%s: unmounted, but its daemon (process %d) is still closing the store", path, pid);
  }
  if (pidfd >= 0)
    close(pidfd);
  return status;
}

int cli_umount(int argc, char **argv) {
  gboolean lazy = FALSE;
  const GOptionEntry entries[] = {
      {"lazy", 'l', 0, G_OPTION_ARG_NONE, &lazy,
       "detach although files are open; the daemon ends when the last is closed", NULL},
      {NULL, 0, 0, 0, NULL, NULL, NULL},
  };
  static const CliUsage usage = {
      .arguments = "MOUNTPOINT",
      .summary = "Unmounts the store and returns when it is closed. Also "
                 "removes what a crashed daemon left mounted.\n"
                 "Exit status: 0 unmounted, 1 not, 2 wrong usage.",
      .min = 1,
      .max = 1,
  };
  int status = CLI_USAGE;
  g_auto(GStrv) arguments = cli_parse(argc, argv, &usage, entries, &status);
  if (arguments == NULL)
    return status;
  qfs_rescue_mounts();
  g_autofree char *path = qfs_mountpoint_resolve(arguments[0]);
  return unmount(path, lazy);
}
