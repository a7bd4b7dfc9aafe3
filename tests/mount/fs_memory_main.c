/* Mounts the in-memory engine in the foreground: fs_memory MOUNTPOINT [DELAY_US].
 * SIGUSR1 takes the quorum away, SIGUSR2 gives it back, SIGINT and SIGTERM end it. */
#include "fs/fs.h"
#include "tests/lib/engine_memory.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static QfsFs *mounted;
static volatile sig_atomic_t quorum = 1;

static void on_end(int number) { qfs_fs_stop(mounted); }
static void on_quorum(int number) { quorum = number == SIGUSR2; }

static gpointer watch_quorum(gpointer engine) {
  for (;;) {
    qfs_memory_engine_set_quorum(engine, quorum);
    g_usleep(10000);
  }
  return NULL;
}

static void ready(gpointer data) {
  puts("ready");
  fflush(stdout);
}

int main(int argc, char **argv) {
  if (argc < 2) {
    fputs("usage: fs_memory MOUNTPOINT [DELAY_US]\n", stderr);
    return 2;
  }
  QfsEngine *engine = qfs_memory_engine_new(argc > 2 ? (guint)atoi(argv[2]) : 0);
  QfsFsConfig config = {.engine = engine,
                        .mountpoint = argv[1],
                        .allow_other = getuid() == 0,
                        .debug = g_getenv("FS_MEMORY_DEBUG") != NULL,
                        .uid = getuid(),
                        .gid = getgid(),
                        .ready = ready};
  g_autoptr(GError) error = NULL;
  mounted = qfs_fs_mount(&config, &error);
  if (mounted == NULL) {
    fprintf(stderr, "%s\n", error->message);
    return 1;
  }
  signal(SIGINT, on_end);
  signal(SIGTERM, on_end);
  signal(SIGUSR1, on_quorum);
  signal(SIGUSR2, on_quorum);
  g_thread_unref(g_thread_new("quorum", watch_quorum, engine));
  int result = qfs_fs_run(mounted);
  qfs_fs_free(mounted);
  fflush(stdout);
  _exit(result == 0 ? 0 : 1); /* the watching thread still uses the engine */
}
