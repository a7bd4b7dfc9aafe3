/* cli_scrub.c - quorumfs scrub and quorumfs repair: looks for damage and differences, and waits for the end. */
#include "fs/cli.h"

#include <unistd.h>

#define POLL_US (50 * 1000)
/* A node that just returned is not worth a refusal. */
#define PATIENCE_US (5 * G_USEC_PER_SEC)
#define BAR_WIDTH 40

typedef struct {
  gboolean wanted; /* the run that was asked for is not over */
  gint64 percent, bad, mended, lost;
  char *waits_for; /* NULL: nothing */
} Progress;

static gboolean read_progress(const char *root, Progress *out, GError **error) {
  g_autoptr(JsonParser) parser = json_parser_new();
  JsonObject *object = cli_read_status(root, parser, error);
  if (object == NULL)
    return FALSE;
  out->wanted = json_object_get_boolean_member_with_default(object, "scrub_wanted", FALSE);
  out->percent = json_object_get_int_member_with_default(object, "scrub_progress_percent", 0);
  out->bad = json_object_get_int_member_with_default(object, "scrub_last_bad", 0);
  out->mended = json_object_get_int_member_with_default(object, "scrub_last_mended", 0);
  out->lost = json_object_get_int_member_with_default(object, "scrub_last_lost", 0);
  g_free(out->waits_for);
  out->waits_for =
      g_strdup(json_object_get_string_member_with_default(object, "scrub_waits_for", NULL));
  return TRUE;
}

/* On a terminal only, and on standard error: the output stays clean. */
static void draw(const char *command, const Progress *progress) {
  if (!isatty(STDERR_FILENO))
    return;
  const int done = (int)(CLAMP(progress->percent, 0, 100) * BAR_WIDTH / 100);
  g_autofree char *full = g_strnfill((gsize)done, '#');
  g_autofree char *rest = g_strnfill((gsize)(BAR_WIDTH - done), '.');
  g_printerr("\r%s [%s%s] %3d%%", command, full, rest, (int)progress->percent);
}

static void erase(void) {
  if (isatty(STDERR_FILENO))
    g_printerr("\r\033[K");
}

static int print_result(const char *command, const Progress *progress, gboolean json) {
  g_autofree char *line =
      json ? g_strdup_printf("{\"command\": \"%s\", \"bad_rows\": %" G_GINT64_FORMAT
                             ", \"mended_rows\": %" G_GINT64_FORMAT ", \"lost_rows\": %" G_GINT64_FORMAT "}\n",
                             command, progress->bad, progress->mended, progress->lost)
           : g_strdup_printf("%" G_GINT64_FORMAT " bad rows found, %" G_GINT64_FORMAT
                             " rows mended, %" G_GINT64_FORMAT " without a good copy\n",
                             progress->bad, progress->mended, progress->lost);
  if (!cli_print(line))
    return CLI_FAILED;
  return progress->lost == 0 ? CLI_OK : CLI_FAILED;
}

static int wait_for_end(const char *root, const char *command, gboolean json) {
  Progress progress = {0};
  g_autoptr(GError) error = NULL;
  int status = CLI_FAILED;
  gint64 since_us = g_get_monotonic_time();
  for (;;) {
    if (!read_progress(root, &progress, &error)) {
      erase();
      cli_error("%s: %s", command, error->message);
      break;
    }
    if (!progress.wanted) {
      erase();
      status = print_result(command, &progress, json);
      break;
    }
    draw(command, &progress);
    if (progress.waits_for == NULL) {
      since_us = g_get_monotonic_time();
    } else if (g_get_monotonic_time() > since_us + PATIENCE_US) {
      erase();
      cli_error("%s: waits for %s; it goes on by itself when that is over", command, progress.waits_for);
      break;
    }
    g_usleep(POLL_US);
  }
  g_free(progress.waits_for);
  return status;
}

static int run(int argc, char **argv, const char *command, const char *summary) {
  gboolean json = FALSE;
  const GOptionEntry entries[] = {
      {"json", 'j', 0, G_OPTION_ARG_NONE, &json, "print JSON", NULL},
      {NULL, 0, 0, 0, NULL, NULL, NULL},
  };
  const CliUsage usage = {.arguments = "PATH", .summary = summary, .min = 1, .max = 1};
  int status = CLI_USAGE;
  g_auto(GStrv) arguments = cli_parse(argc, argv, &usage, entries, &status);
  if (arguments == NULL)
    return status;
  g_autofree char *root = NULL;
  if (!cli_find_mount(arguments[0], TRUE, &root, NULL))
    return CLI_FAILED;
  int error = cli_write_control(root, command, "now");
  if (error != 0) {
    cli_error("%s: %s", command, g_strerror(error));
    return CLI_FAILED;
  }
  return wait_for_end(root, command, json);
}

#define EXIT_STATUS                                                                                \
  "PATH is in the mount.\n"                                                                        \
  "Exit status: 0 done and all is well now, 1 not (something has no good copy, or the run waits; " \
  "it goes on\nby itself when that is over), 2 wrong usage."

int cli_scrub(int argc, char **argv) {
  return run(argc, argv, "scrub",
             "Reads everything that is stored, verifies every checksum, compares all replicas, and mends what is\n"
             "damaged or differs. The store serves meanwhile. " EXIT_STATUS);
}

int cli_repair(int argc, char **argv) {
  return run(argc, argv, "repair",
             "Compares the versions of all keys at all their replicas and mends what differs, without reading the\n"
             "data: quicker than scrub. " EXIT_STATUS);
}
