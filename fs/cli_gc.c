/* cli_gc.c - quorumfs gc: forgets what was deleted and gives back the space that no value uses, now. */
#include "fs/cli.h"

static int print_result(const CliRun *run, JsonObject *status, gpointer data) {
  const gint64 chunks = cli_number(status, "gc_last_chunks"), collected = cli_number(status, "gc_last_collected");
  const gboolean *json = data;
  if (*json) {
    g_autofree char *object = g_strdup_printf(
        "{\"command\": \"gc\", \"collected\": %" G_GINT64_FORMAT ", \"reclaimed_chunks\": %" G_GINT64_FORMAT "}\n",
        collected, chunks);
    return cli_print(object) ? CLI_OK : CLI_FAILED;
  }
  g_autofree char *line = g_strdup_printf("%" G_GINT64_FORMAT " collected\n", collected);
  g_autofree char *more = g_strdup_printf("%" G_GINT64_FORMAT " chunks reclaimed\n", chunks);
  return cli_print(line) && (chunks == 0 || cli_print(more)) ? CLI_OK : CLI_FAILED;
}

int cli_gc(int argc, char **argv) {
  gboolean json = FALSE;
  const GOptionEntry entries[] = {
      {"json", 'j', 0, G_OPTION_ARG_NONE, &json, "print JSON", NULL},
      {NULL, 0, 0, 0, NULL, NULL, NULL},
  };
  static const CliUsage usage = {
      .arguments = "PATH",
      .summary = "Collects tombstones, whatever their age: the store no longer remembers what was "
                 "deleted, and\n"
                 "gives back space that no value uses any more, as a crash may leave it. Nothing\n"
                 "comes back by that: it needs every node to be up and in sync. PATH is in the "
                 "mount.\n"
                 "Exit status: 0 done, 1 not (it goes on when what it waits for is over), 2 wrong "
                 "usage.",
      .min = 1,
      .max = 1,
  };
  int status = CLI_USAGE;
  g_auto(GStrv) arguments = cli_parse(argc, argv, &usage, entries, &status);
  if (arguments == NULL)
    return status;
  static const CliRun run = {
      .command = "gc", .running = "gc_running", .waits_for = "gc_waits_for", .over = print_result};
  return cli_run(arguments[0], &run, &json);
}
