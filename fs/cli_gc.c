/* cli_gc.c - quorumfs gc: forgets what was deleted and gives back the space that no value uses, now. */
#include "fs/cli.h"

#define POLL_US (50 * 1000)
/* A node that just returned, or a rename that just ended, is not worth a refusal. */
#define PATIENCE_US (5 * G_USEC_PER_SEC)

typedef struct {
  gboolean running;
  gint64 collected, chunks;
  char *waits_for; /* NULL: nothing */
} Progress;

static gboolean read_progress(const char *root, Progress *out, GError **error) {
  g_autoptr(JsonParser) parser = json_parser_new();
  JsonObject *object = cli_read_status(root, parser, error);
  if (object == NULL)
    return FALSE;
  out->running = json_object_get_boolean_member_with_default(object, "gc_running", FALSE);
  out->collected = json_object_get_int_member_with_default(object, "gc_last_collected", 0);
  out->chunks = json_object_get_int_member_with_default(object, "gc_last_chunks", 0);
  g_free(out->waits_for);
  out->waits_for =
      g_strdup(json_object_get_string_member_with_default(object, "gc_waits_for", NULL));
  return TRUE;
}

/* Returns when the run is over, or when it cannot begin. */
static int wait_for_end(const char *root) {
  Progress progress = {0};
  g_autoptr(GError) error = NULL;
  int status = CLI_OK;
  gint64 began_us = g_get_monotonic_time();
  for (;;) {
    if (!read_progress(root, &progress, &error)) {
      cli_error("gc: %s", error->message);
      status = CLI_FAILED;
      break;
    }
    if (!progress.running) {
      g_autofree char *line =
          g_strdup_printf("%" G_GINT64_FORMAT " collected\n", progress.collected);
      g_autofree char *more =
          g_strdup_printf("%" G_GINT64_FORMAT " chunks reclaimed\n", progress.chunks);
      status = cli_print(line) && (progress.chunks == 0 || cli_print(more)) ? CLI_OK : CLI_FAILED;
      break;
    }
    if (progress.waits_for == NULL) {
      began_us = g_get_monotonic_time();
    } else if (g_get_monotonic_time() > began_us + PATIENCE_US) {
      cli_error("gc: waits for %s; it goes on by itself when that is over", progress.waits_for);
      status = CLI_FAILED;
      break;
    }
    g_usleep(POLL_US);
  }
  g_free(progress.waits_for);
  return status;
}

int cli_gc(int argc, char **argv) {
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
  g_auto(GStrv) arguments = cli_parse(argc, argv, &usage, NULL, &status);
  if (arguments == NULL)
    return status;
  g_autofree char *root = NULL;
  if (!cli_find_mount(arguments[0], TRUE, &root, NULL))
    return CLI_FAILED;
  int error = cli_write_control(root, "gc", "now");
  if (error != 0) {
    cli_error("gc: %s", g_strerror(error));
    return CLI_FAILED;
  }
  return wait_for_end(root);
}
