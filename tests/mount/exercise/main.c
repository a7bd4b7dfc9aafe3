/* main.c - random operations on real files, compared with a model in memory: see exercise.h, and --help. */
#include "exercise.h"

#include <errno.h>
#include <ftw.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

/* --- what happened --- */

void operation_begin(Exercise *e, const char *format, ...) {
  va_list args;
  va_start(args, format);
  g_autofree char *raw = g_strdup_vprintf(format, args);
  g_autofree char *text = g_strescape(raw, "\"");
  va_end(args);
  char **slot = &e->log[e->logged % LOG_LEN];
  g_free(*slot);
  *slot = g_strdup_printf("%" G_GUINT64_FORMAT ": %s", e->count, text);
  e->logged++;
  e->now_ns = g_get_real_time() * 1000;
  if (e->trace)
    g_print("%s\n", *slot);
}

static void print_replay(const Exercise *e) {
  g_print("replay with: %s --seed %" G_GUINT64_FORMAT " --operations %" G_GUINT64_FORMAT " --size %u", e->program,
          e->seed, e->operations, e->size_max);
  if (e->remount != NULL)
    g_print(" --remount '%s'", e->remount);
  if (e->faults != NULL)
    g_print(" --faults %s", e->faults);
  g_print(" %s\n", e->directory);
}

void differ(Exercise *e, const char *format, ...) {
  const guint64 shown = MIN(e->logged, LOG_LEN);
  for (guint64 i = e->logged - shown; i < e->logged; i++)
    g_print("%s\n", e->log[i % LOG_LEN]);
  va_list args;
  va_start(args, format);
  g_autofree char *text = g_strdup_vprintf(format, args);
  va_end(args);
  g_print("DIFFERENCE with seed %" G_GUINT64_FORMAT ", operation %" G_GUINT64_FORMAT ": %s\n", e->seed, e->count,
          text);
  print_replay(e);
  exit(1);
}

void expect(Exercise *e, long result, int error) {
  const int got = result < 0 ? errno : 0;
  if (got != error)
    differ(e, "%s, and not %s", got == 0 ? "success" : g_strerror(got),
           error == 0 ? "success" : g_strerror(error));
}

/* --- a run --- */

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at) {
  return remove(path);
}

static gboolean remove_tree(const char *path) {
  return nftw(path, remove_one, 32, FTW_DEPTH | FTW_PHYS) == 0;
}

static void enter(Exercise *e, const char *path) {
  if (chdir(path) != 0)
    differ(e, "%s: %s", path, g_strerror(errno));
}

/* The same files must be there, of another mount. */
static void remount(Exercise *e, const char *path) {
  operation_begin(e, "remount");
  close_all(e);
  enter(e, "/");
  int status = 0;
  g_autoptr(GError) error = NULL;
  g_auto(GStrv) argv = NULL;
  if (!g_shell_parse_argv(e->remount, NULL, &argv, &error) ||
      !g_spawn_sync(NULL, argv, NULL, G_SPAWN_SEARCH_PATH | G_SPAWN_CHILD_INHERITS_STDIN, NULL, NULL, NULL, NULL,
                    &status, &error) ||
      status != 0)
    differ(e, "%s: %s, status %d", e->remount, error != NULL ? error->message : "failed", status);
  enter(e, path);
  e->model->root->ino = 0;
  for (guint i = 0; i < e->model->names->len; i++) {
    Node *node = ((const Name *)g_ptr_array_index(e->model->names, i))->node;
    node->ino = 0;
    node_written_back(node);
  }
  compare_tree(e);
}

static void operate(Exercise *e) {
  const guint kind = below(e, 100);
  if (kind < 22)
    operate_on_names(e);
  else if (kind < 75)
    operate_on_bytes(e);
  else if (kind < 88)
    operate_on_maps(e);
  else
    operate_on_attributes(e);
}

static void run_seed(Exercise *e, guint64 seed) {
  e->seed = seed;
  e->random.state = sim_mix(seed);
  e->logged = 0;
  g_autofree char *path = g_strdup_printf("%s/exercise-%" G_GUINT64_FORMAT, e->directory, seed);
  remove_tree(path);
  if (mkdir(path, 0755) != 0)
    differ(e, "mkdir %s: %s", path, g_strerror(errno));
  enter(e, path);
  e->model = model_new();
  NodeFaults *faults = e->faults != NULL ? node_faults_start(e->faults, seed) : NULL;
  const guint64 remount_at = e->remount != NULL ? 1 + below(e, (guint)e->operations) : 0;
  for (e->count = 1; e->count <= e->operations; e->count++) {
    node_faults_enter(faults);
    const guint64 logged = e->logged;
    while (e->logged == logged) /* what was drawn may have nothing to work on */
      operate(e);
    if (e->count % 500 == 0)
      compare_tree(e);
    node_faults_leave(faults);
    if (e->count == remount_at && faults == NULL)
      remount(e, path);
  }
  if (faults != NULL)
    e->faults_done += node_faults_stop(faults);
  if (e->remount != NULL)
    remount(e, path);
  else
    compare_tree(e);
  close_all(e);
  enter(e, "/");
  if (!remove_tree(path))
    differ(e, "remove %s: %s", path, g_strerror(errno));
  g_clear_pointer(&e->model, model_free);
}

static gboolean linux_has_direct_maps(void) {
  struct utsname name;
  guint major = 0, minor = 0;
  return uname(&name) == 0 && sscanf(name.release, "%u.%u", &major, &minor) == 2 &&
         (major > 6 || (major == 6 && minor >= 6));
}

int main(int argc, char **argv) {
  gint64 seed = 1, seeds = 1, operations = 1000, size = 400000;
  gboolean trace = FALSE;
  g_autofree char *remount_command = NULL, *faults = NULL;
  const GOptionEntry entries[] = {
      {"seed", 0, 0, G_OPTION_ARG_INT64, &seed, "the first seed (1)", "S"},
      {"seeds", 0, 0, G_OPTION_ARG_INT64, &seeds, "how many, each in a new directory (1)", "M"},
      {"operations", 0, 0, G_OPTION_ARG_INT64, &operations, "of each seed (1000)", "N"},
      {"size", 0, 0, G_OPTION_ARG_INT64, &size, "of files at most, in bytes (400000)", "BYTES"},
      {"remount", 0, 0, G_OPTION_ARG_STRING, &remount_command, "mounts anew; run within and after each seed",
       "COMMAND"},
      {"faults", 0, 0, G_OPTION_ARG_STRING, &faults, "nodes of this mount fail and return meanwhile", "MOUNT"},
      {"trace", 0, 0, G_OPTION_ARG_NONE, &trace, "print every operation", NULL},
      {0}};
  setlocale(LC_ALL, "C");
  g_autoptr(GError) error = NULL;
  g_autoptr(GOptionContext) options = g_option_context_new("DIRECTORY - compares files with a model");
  g_option_context_add_main_entries(options, entries, NULL);
  if (!g_option_context_parse(options, &argc, &argv, &error) || argc != 2 || size < 8 || operations < 1) {
    g_printerr("exercise: %s\n", error != NULL ? error->message : "see --help");
    return 2;
  }
  g_autofree char *program = g_canonicalize_filename(argv[0], NULL);
  g_autofree char *directory = g_canonicalize_filename(argv[1], NULL);
  Exercise e = {.program = program,
                .directory = directory,
                .remount = remount_command,
                .faults = faults,
                .operations = (guint64)operations,
                .size_max = (guint)size,
                .trace = trace,
                .maps_direct = linux_has_direct_maps(),
                .open = g_ptr_array_new(),
                .maps = g_ptr_array_new()};
  umask(022);
  setvbuf(stdout, NULL, _IOLBF, 0);
  for (gint64 i = 0; i < seeds; i++)
    run_seed(&e, (guint64)(seed + i));
  g_print("%" G_GINT64_FORMAT " seeds, %" G_GINT64_FORMAT
          " operations each, %u nodes failed or returned: no difference\n",
          seeds, operations, e.faults_done);
  return 0;
}
