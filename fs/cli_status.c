/* cli_status.c - quorumfs status. */
#include "fs/cli.h"
#include "fs/mountpoint.h"

#include <string.h>
#include <sys/stat.h>

/* Not what a crashed daemon left, nor what another user mounted for himself. */
static gboolean is_usable(const QfsMount *mount) {
  struct stat st;
  return stat(mount->path, &st) == 0 && !qfs_mountpoint_is_dead(mount->path);
}

char *cli_choose_mount(const char *command) {
  g_autofree char *here = g_get_current_dir();
  g_autoptr(GPtrArray) mounts = qfs_mounts_list();
  const QfsMount *best = NULL;
  for (guint i = 0; i < mounts->len; i++) {
    const QfsMount *mount = g_ptr_array_index(mounts, i);
    gsize len = strlen(mount->path);
    if (strncmp(here, mount->path, len) == 0 && (here[len] == '/' || here[len] == '\0') &&
        (best == NULL || len >= strlen(best->path)))
      best = mount;
  }
  if (best != NULL)
    return g_strdup(best->path);
  for (guint i = mounts->len; i-- > 0;)
    if (!is_usable(g_ptr_array_index(mounts, i)))
      g_ptr_array_remove_index(mounts, i);
  if (mounts->len == 1)
    return g_strdup(((const QfsMount *)g_ptr_array_index(mounts, 0))->path);
  if (mounts->len == 0) {
    cli_error("%s: no quorumfs store is mounted", command);
    return NULL;
  }
  g_autoptr(GString) paths = g_string_new(NULL);
  for (guint i = 0; i < mounts->len; i++)
    g_string_append_printf(paths, "%s%s", i > 0 ? ", " : "",
                           ((const QfsMount *)g_ptr_array_index(mounts, i))->path);
  cli_error("%s: several stores are mounted, name one: %s", command, paths->str);
  return NULL;
}

int cli_status(int argc, char **argv) {
  gboolean json = FALSE;
  const GOptionEntry entries[] = {
      {"json", 'j', 0, G_OPTION_ARG_NONE, &json, "print JSON", NULL},
      {NULL, 0, 0, 0, NULL, NULL, NULL},
  };
  static const CliUsage usage = {
      .arguments = "[PATH]",
      .summary = "Prints nodes, quorum and what is under way in the store "
                 "that PATH lies in (default: the one that\n"
                 "the working directory is in, else the only one mounted). "
                 "Works also when every node is down.\n"
                 "Exit status: 0 printed, 1 not, 2 wrong usage.",
      .min = 0,
      .max = 1,
  };
  int status = CLI_USAGE;
  g_auto(GStrv) arguments = cli_parse(argc, argv, &usage, entries, &status);
  if (arguments == NULL)
    return status;
  g_autofree char *path =
      arguments[0] != NULL ? g_strdup(arguments[0]) : cli_choose_mount("status");
  if (path == NULL)
    return CLI_USAGE;
  g_autofree char *root = NULL;
  if (!cli_find_mount(path, TRUE, &root, NULL))
    return CLI_FAILED;
  g_autoptr(GError) error = NULL;
  g_autofree char *text = cli_read_control(root, json ? "status.json" : "status", &error);
  if (text == NULL) {
    cli_error("status: %s", error->message);
    return CLI_FAILED;
  }
  return cli_print(text) ? CLI_OK : CLI_FAILED;
}
