/* main.c - the quorumfs program: finds the subcommand and hands over to it. */
#include "fs/cli.h"

#include <stdio.h>
#include <string.h>

typedef struct {
  const char *name;
  int (*run)(int argc, char **argv);
} Command;

static const Command commands[] = {
    {"mount", cli_mount}, {"umount", cli_umount},       {"put", cli_put},
    {"get", cli_get},     {"delete", cli_delete},       {"status", cli_status},
    {"nodes", cli_nodes}, {"partition", cli_partition},
    {"gc", cli_gc},       {"scrub", cli_scrub},         {"repair", cli_repair},
    {"watch", cli_watch},
};

static const char help[] =
    "Usage: quorumfs COMMAND [ARGUMENT...]\n"
    "\n"
    "A replicated key-value store whose front end is a filesystem: keys are files.\n"
    "\n"
    "Commands:\n"
    "  mount [-f] [-o OPTIONS] MOUNTPOINT   mount a store; made if it is new\n"
    "  umount [-l] MOUNTPOINT               unmount and wait until the store is closed\n"
    "  put PATH VALUE|-                     store a value ('-': from standard input); compare-and-swap\n"
    "  get PATH                             print a value\n"
    "  delete PATH                          delete a key\n"
    "  status [PATH]                        nodes, quorum and what is under way\n"
    "  nodes [PATH [N up|down|crash]]       the nodes; opens or closes one\n"
    "  watch PATH                           prints changes as they are acknowledged\n"
    "  gc PATH                              forgets deleted keys, whatever their age\n"
    "  scrub PATH                           verifies every byte of every replica, mends what is bad\n"
    "  repair PATH                          compares all replicas, mends what differs\n"
    "  partition PATH [GROUPS|heal]         parts the links between nodes, for tests\n"
    "\n"
    "'quorumfs COMMAND --help' tells more about each.\n"
    "\n"
    "Options:\n"
    "  -h, --help       print this text\n"
    "  -V, --version    print the version\n";

/* mount(8) and fstab call "mount.fuse.quorumfs SOURCE MOUNTPOINT [-o OPTIONS] [-sfnv]": the source
 * is the store's directory, or any word without '/' when -o store= names it or the default is
 * meant. */
static int run_for_mount8(int argc, char **argv) {
  if (argc < 3) {
    cli_error("usage: mount.fuse.quorumfs SOURCE MOUNTPOINT [-o OPTIONS]");
    return CLI_USAGE;
  }
  g_autoptr(GPtrArray) arguments = g_ptr_array_new();
  g_autofree char *store = NULL;
  g_ptr_array_add(arguments, (gpointer) "mount");
  g_ptr_array_add(arguments, (gpointer) "--quiet");
  if (strchr(argv[1], '/') != NULL) {
    g_autoptr(GString) escaped = g_string_new(argv[1]);
    g_string_replace(escaped, "\\", "\\\\", 0);
    g_string_replace(escaped, ",", "\\,", 0);
    store = g_strconcat("store=", escaped->str, NULL);
    g_ptr_array_add(arguments, (gpointer) "-o");
    g_ptr_array_add(arguments, store);
  }
  for (int i = 3; i < argc; i++) {
    gboolean takes_value =
        strcmp(argv[i], "-o") == 0 || strcmp(argv[i], "-t") == 0 || strcmp(argv[i], "-N") == 0;
    if (takes_value && i + 1 < argc) {
      if (strcmp(argv[i], "-o") == 0) {
        g_ptr_array_add(arguments, argv[i]);
        g_ptr_array_add(arguments, argv[i + 1]);
      }
      i++;
    } else if (argv[i][0] != '-' || strspn(argv[i] + 1, "sfnv") != strlen(argv[i] + 1)) {
      cli_error("mount.fuse.quorumfs: unknown argument '%s'", argv[i]);
      return CLI_USAGE;
    } else if (strchr(argv[i], 'f') != NULL) {
      return CLI_OK; /* "fake" */
    }
  }
  g_ptr_array_add(arguments, (gpointer) "--");
  g_ptr_array_add(arguments, argv[2]);
  int count = (int)arguments->len;
  g_ptr_array_add(arguments, NULL);
  return cli_mount(count, (char **)arguments->pdata);
}

int main(int argc, char **argv) {
  g_autofree char *name = argc > 0 ? g_path_get_basename(argv[0]) : NULL;
  if (g_strcmp0(name, "mount.fuse.quorumfs") == 0)
    return run_for_mount8(argc, argv);
  if (argc < 2) {
    cli_error("a command is missing; see 'quorumfs --help'");
    return CLI_USAGE;
  }
  const char *command = argv[1];
  if (strcmp(command, "--help") == 0 || strcmp(command, "-h") == 0 || strcmp(command, "help") == 0)
    return cli_print(help) ? CLI_OK : CLI_FAILED;
  if (strcmp(command, "--version") == 0 || strcmp(command, "-V") == 0)
    return cli_print_version();
  for (gsize i = 0; i < G_N_ELEMENTS(commands); i++)
    if (strcmp(command, commands[i].name) == 0)
      return commands[i].run(argc - 1, argv + 1);
  cli_error("unknown %s '%s'; see 'quorumfs --help'", command[0] == '-' ? "option" : "command",
            command);
  return CLI_USAGE;
}
