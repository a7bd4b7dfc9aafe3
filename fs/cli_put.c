/* cli_put.c - quorumfs put. */
#include "fs/cli.h"

#include <string.h>
#include <unistd.h>

int cli_put(int argc, char **argv) {
  g_autofree char *timestamp = NULL, *if_timestamp = NULL;
  gboolean json = FALSE;
  const GOptionEntry entries[] = {
      {"timestamp", 't', 0, G_OPTION_ARG_FILENAME, &timestamp,
       "store under this timestamp, 0 to 2^64-1 (default: the store's clock)", "T"},
      {"if-timestamp", 'i', 0, G_OPTION_ARG_FILENAME, &if_timestamp,
       "only if the stored version has this timestamp (0: if there is none)", "T"},
      {"json", 'j', 0, G_OPTION_ARG_NONE, &json, "print JSON", NULL},
      {NULL, 0, 0, 0, NULL, NULL, NULL},
  };
  static const CliUsage usage = {
      .arguments = "PATH VALUE|-",
      .summary = "Stores VALUE (with '-': all of standard input) as the value of the key PATH, a "
                 "path in the "
                 "mount.\n"
                 "Missing parent directories are made. The value is replaced in one step, whatever "
                 "its size.\n"
                 "Prints 'applied', or 'superseded by T' when a version of the newer timestamp T "
                 "is stored.\n"
                 "With --if-timestamp, compare-and-swap: fails with 'Stale file handle' when the stored "
                 "timestamp differs\n"
                 "('getfattr -n user.quorumfs.timestamp PATH' tells it).\n"
                 "Exit status: 0 a majority acknowledged, 1 not, 2 wrong usage.",
      .min = 2,
      .max = 2,
  };
  int status = CLI_USAGE;
  g_auto(GStrv) arguments = cli_parse(argc, argv, &usage, entries, &status);
  if (arguments == NULL)
    return status;
  gboolean from_input = strcmp(arguments[1], "-") == 0;
  return cli_rpc(arguments[0], timestamp, if_timestamp, from_input ? NULL : arguments[1],
                 from_input ? STDIN_FILENO : -1, json);
}
