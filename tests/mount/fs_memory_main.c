/* Mounts the in-memory engine in the foreground: fs_memory MOUNTPOINT [DELAY_US].
 * SIGUSR1 takes the quorum away, SIGUSR2 gives it back, SIGINT and SIGTERM end it. */
#include "fs/fs.h"
#include "tests/lib/engine_memory.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

typedef struct {
  QfsEngine *engine;
  QfsFs *fs;
  sigset_t signals;
} Context;

static gpointer wait_for_signals(gpointer data) {
  Context *context = data;
  for (;;) {
    int number = 0;
    sigwait(&context->signals, &number);
    if (number == SIGUSR1 || number == SIGUSR2) {
      qfs_memory_engine_set_quorum(context->engine, number == SIGUSR2);
      continue;
    }
    qfs_fs_stop(context->fs);
    return NULL;
  }
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
  Context context = {.engine = NULL};
  sigemptyset(&context.signals);
  sigaddset(&context.signals, SIGINT);
  sigaddset(&context.signals, SIGTERM);
  sigaddset(&context.signals, SIGUSR1);
  sigaddset(&context.signals, SIGUSR2);
  sigprocmask(SIG_BLOCK, &context.signals, NULL);
  context.engine = qfs_memory_engine_new(argc > 2 ? (guint)atoi(argv[2]) : 0);
  QfsFsConfig config = {.engine = context.engine,
                        .mountpoint = argv[1],
                        .allow_other = getuid() == 0,
                        .debug = g_getenv("FS_MEMORY_DEBUG") != NULL,
                        .uid = getuid(),
                        .gid = getgid(),
                        .threads = g_getenv("FS_MEMORY_THREADS") != NULL
                                       ? (guint)atoi(g_getenv("FS_MEMORY_THREADS"))
                                       : 0,
                        .ready = ready};
  g_autoptr(GError) error = NULL;
  context.fs = qfs_fs_mount(&config, &error);
  if (context.fs == NULL) {
    fprintf(stderr, "%s\n", error->message);
    return 1;
  }
  GThread *signals = g_thread_new("signals", wait_for_signals, &context);
  int result = qfs_fs_run(context.fs);
  kill(getpid(), SIGTERM); /* ends the waiting thread when the mount ended by umount */
  g_thread_join(signals);
  qfs_fs_free(context.fs);
  qfs_engine_close(context.engine, 1000);
  return result == 0 ? 0 : 1;
}
