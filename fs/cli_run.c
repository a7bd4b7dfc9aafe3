/* cli_run.c - runs in the background of a store that a command asks for and waits for: gc, scrub, repair. */
#include "fs/cli.h"

#include <unistd.h>

#define POLL_US (50 * 1000)
/* A node that just returned, or a rename that just ended, is not worth a refusal. */
#define PATIENCE_US (5 * G_USEC_PER_SEC)
#define BAR_WIDTH 40

/* On a terminal only, and on standard error: the output stays clean. */
static void draw(const CliRun *run, JsonObject *status) {
  if (run->percent == NULL || !isatty(STDERR_FILENO))
    return;
  const gint64 percent = cli_number(status, run->percent);
  const int done = (int)(CLAMP(percent, 0, 100) * BAR_WIDTH / 100);
  g_autofree char *full = g_strnfill((gsize)done, '#');
  g_autofree char *rest = g_strnfill((gsize)(BAR_WIDTH - done), '.');
  g_printerr("\r%s [%s%s] %3d%%", run->command, full, rest, (int)percent);
}

static void erase(const CliRun *run) {
  if (run->percent != NULL && isatty(STDERR_FILENO))
    g_printerr("\r\033[K");
}

gint64 cli_number(JsonObject *status, const char *name) {
  return json_object_get_int_member_with_default(status, name, 0);
}

/* TRUE: it is over, one way or the other. */
static gboolean look(const char *root, const CliRun *run, gint64 *since_us, gpointer data, int *out_status) {
  g_autoptr(JsonParser) parser = json_parser_new();
  g_autoptr(GError) error = NULL;
  JsonObject *status = cli_read_status(root, parser, &error);
  if (status == NULL) {
    erase(run);
    cli_error("%s: %s", run->command, error->message);
    return TRUE;
  }
  if (!json_object_get_boolean_member_with_default(status, run->running, FALSE)) {
    erase(run);
    *out_status = run->over(run, status, data);
    return TRUE;
  }
  draw(run, status);
  const char *waits_for = json_object_get_string_member_with_default(status, run->waits_for, NULL);
  const gint64 now_us = g_get_monotonic_time();
  if (waits_for == NULL)
    *since_us = now_us;
  if (now_us <= *since_us + PATIENCE_US)
    return FALSE;
  erase(run);
  cli_error("%s: waits for %s; it goes on by itself when that is over", run->command, waits_for);
  return TRUE;
}

int cli_run(const char *path, const CliRun *run, gpointer data) {
  g_autofree char *root = NULL;
  if (!cli_find_mount(path, TRUE, &root, NULL))
    return CLI_FAILED;
  const int error = cli_write_control(root, run->command, "now");
  if (error != 0) {
    cli_error("%s: %s", run->command, g_strerror(error));
    return CLI_FAILED;
  }
  int status = CLI_FAILED;
  gint64 since_us = g_get_monotonic_time();
  while (!look(root, run, &since_us, data, &status))
    g_usleep(POLL_US);
  return status;
}
