/* cli_partition.c - quorumfs partition: prints, makes and heals one. */
#include "cluster/links.h"
#include "fs/cli.h"

#include <errno.h>

static const CliUsage usage = {
    .arguments = "PATH [GROUPS|heal]",
    .summary = "Prints the groups that the links of the store are parted into, or parts them. The "
               "store must be\n"
               "mounted with -o faults.\n"
               "GROUPS: '1 2 3 | 4 5' names every node once; the coordinator is with the first "
               "group, at its\n"
               "lowest node, and reaches nobody else. '1>4' after the groups, or alone, is a "
               "one-way cut: what\n"
               "goes from node 1 to node 4 is lost. Messages flow between the coordinator and "
               "nodes only, so a\n"
               "cut matters when one end is where the coordinator is.\n"
               "Exit status: 0 done, 1 not, 2 wrong usage.",
    .min = 1,
    .max = 1000,
};

static int print_groups(const char *root, gboolean json) {
  g_autoptr(GError) error = NULL;
  g_autofree char *text = cli_read_control(root, "partition", &error);
  if (text == NULL) {
    cli_error("partition: %s", error->message);
    return CLI_FAILED;
  }
  if (json) {
    g_auto(GStrv) lines = g_strsplit(g_strchomp(text), "\n", -1);
    g_autofree char *joined = g_strjoinv("\\n", lines);
    g_autofree char *object = g_strdup_printf("{\"partition\": \"%s\"}\n", joined);
    return cli_print(object) ? CLI_OK : CLI_FAILED;
  }
  return cli_print(text) ? CLI_OK : CLI_FAILED;
}

static int set_groups(const char *root, const char *groups) {
  guint nodes = 0;
  g_autofree char *why = NULL;
  QfsLinks links;
  if (!cli_read_nodes(root, &nodes) || nodes < 1 || nodes > QFS_NODES_MAX) {
    cli_error("partition: the status of the store can't be read");
    return CLI_FAILED;
  }
  qfs_links_init(&links, nodes);
  if (!qfs_links_parse_partition(&links, groups, &why)) {
    cli_error("partition: %s", why);
    return CLI_USAGE;
  }
  int error = cli_write_control(root, "partition", groups);
  if (error == EPERM)
    cli_error("partition: the store must be mounted with the option 'faults'");
  else if (error != 0)
    cli_error("partition: %s", g_strerror(error));
  return error == 0 ? CLI_OK : CLI_FAILED;
}

int cli_partition(int argc, char **argv) {
  gboolean json = FALSE;
  const GOptionEntry entries[] = {
      {"json", 'j', 0, G_OPTION_ARG_NONE, &json, "print JSON", NULL},
      {NULL, 0, 0, 0, NULL, NULL, NULL},
  };
  int status = CLI_USAGE;
  g_auto(GStrv) arguments = cli_parse(argc, argv, &usage, entries, &status);
  if (arguments == NULL)
    return status;
  if (json && arguments[1] != NULL) {
    cli_error("partition: --json prints, it changes nothing; see 'quorumfs partition --help'");
    return CLI_USAGE;
  }
  g_autofree char *root = NULL;
  if (!cli_find_mount(arguments[0], TRUE, &root, NULL))
    return CLI_FAILED;
  if (arguments[1] == NULL)
    return print_groups(root, json);
  g_autofree char *groups = g_strjoinv(" ", arguments + 1);
  return set_groups(root, groups);
}
