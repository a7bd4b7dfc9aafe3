/* cli_delete.c - quorumfs delete. */
#include "fs/cli.h"

int cli_delete(int argc, char **argv) {
  g_autofree char *timestamp = NULL;
  gboolean json = FALSE;
  const GOptionEntry entries[] = {
      {"timestamp", 't', 0, G_OPTION_ARG_FILENAME, &timestamp,
       "delete as of this timestamp, 0 to 2^64-1 (default: the store's clock)", "T"},
      {"json", 'j', 0, G_OPTION_ARG_NONE, &json, "print JSON", NULL},
      {NULL, 0, 0, 0, NULL, NULL, NULL},
  };
  static const CliUsage usage = {
      .arguments = "PATH",
      .summary =
          "Deletes the key PATH, a path in the mount; deleting an absent key succeeds and is "
          "remembered.\n"
          "Prints 'applied', or 'superseded by T' when a version of the newer timestamp T is "
          "stored.\n"
          "Exit status: 0 a majority acknowledged, 1 not, 2 wrong usage.",
      .min = 1,
      .max = 1,
  };
  int status = CLI_USAGE;
  g_auto(GStrv) arguments = cli_parse(argc, argv, &usage, entries, &status);
  if (arguments == NULL)
    return status;
  return cli_rpc(arguments[0], timestamp, NULL, NULL, -1, json);
}
