/* cli_scrub.c - quorumfs scrub and quorumfs repair: looks for damage and differences, and waits for the end. */
#include "fs/cli.h"

static int print_result(const CliRun *run, JsonObject *status, gpointer data) {
  const gint64 bad = cli_number(status, "scrub_last_bad"), mended = cli_number(status, "scrub_last_mended"),
               lost = cli_number(status, "scrub_last_lost");
  const gboolean *json = data;
  g_autofree char *line =
      *json ? g_strdup_printf("{\"command\": \"%s\", \"bad_rows\": %" G_GINT64_FORMAT
                              ", \"mended_rows\": %" G_GINT64_FORMAT ", \"lost_rows\": %" G_GINT64_FORMAT "}\n",
                              run->command, bad, mended, lost)
            : g_strdup_printf("%" G_GINT64_FORMAT " bad rows found, %" G_GINT64_FORMAT
                              " rows mended, %" G_GINT64_FORMAT " without a good copy\n",
                              bad, mended, lost);
  if (!cli_print(line))
    return CLI_FAILED;
  return lost == 0 ? CLI_OK : CLI_FAILED;
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
  const CliRun scrub = {.command = command,
                        .running = "scrub_wanted",
                        .waits_for = "scrub_waits_for",
                        .percent = "scrub_progress_percent",
                        .over = print_result};
  return cli_run(arguments[0], &scrub, &json);
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
