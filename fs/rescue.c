/* rescue.c - see rescue.h. */
#include "fs/rescue.h"

#include "fs/mountpoint.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The process that the store's lock file names, while it is only half gone: killed (its first thread is a
 * zombie) and still listed, because another thread of it waits in the kernel. 0: there is none. */
static long dying_daemon(const char *store) {
  g_autofree char *path = g_build_filename(store, "lock", NULL);
  g_autofree char *text = NULL;
  if (!g_path_is_absolute(store) || !g_file_get_contents(path, &text, NULL, NULL))
    return 0;
  long pid = strtol(text, NULL, 10);
  g_autofree char *stat_path = g_strdup_printf("/proc/%ld/stat", pid);
  g_autofree char *line = NULL;
  if (pid <= 0 || !g_file_get_contents(stat_path, &line, NULL, NULL))
    return 0;
  const char *state = strrchr(line, ')');
  return state != NULL && strlen(state) > 2 && (state[2] == 'Z' || state[2] == 'X') ? pid : 0;
}

static void abort_connection(guint minor) {
  g_autofree char *path = g_strdup_printf("/sys/fs/fuse/connections/%u/abort", minor);
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0)
    return;
  if (write(fd, "1", 1) == 1)
    g_message("freed a mount whose daemon was killed");
  close(fd);
}

void qfs_rescue_mounts(void) {
  g_autoptr(GPtrArray) mounts = qfs_mounts_list();
  for (guint i = 0; i < mounts->len; i++) {
    const QfsMount *mount = g_ptr_array_index(mounts, i);
    if (dying_daemon(mount->source) != 0)
      abort_connection(mount->minor);
  }
}
