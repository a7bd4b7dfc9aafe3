#include "fs/cli.h"

#include "fs/mountpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <json-glib/json-glib.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#ifndef FUSE_SUPER_MAGIC
#define FUSE_SUPER_MAGIC 0x65735546
#endif

void cli_error(const char *format, ...) {
  va_list args;
  va_start(args, format);
  g_autofree char *line = g_strdup_vprintf(format, args);
  va_end(args);
  for (char *c = line; *c != '\0'; c++)
    if (g_ascii_iscntrl(*c))
      *c = '?';
  fflush(stdout);
  fprintf(stderr, "quorumfs: %s\n", line);
}

static guint count_arguments(char **arguments) {
  return arguments == NULL ? 0 : g_strv_length(arguments);
}

static int print_help(GOptionContext *context) {
  g_autofree char *help = g_option_context_get_help(context, TRUE, NULL);
  g_autoptr(GString) text = g_string_new(help);
  g_string_replace(text, "\xe2\x80\xa6", "...", 0); /* GLib's "[OPTION...]" in any locale */
  return cli_print(text->str) ? CLI_OK : CLI_FAILED;
}

char **cli_parse(int argc, char **argv, const CliUsage *usage, const GOptionEntry *entries,
                 int *out_status) {
  g_auto(GStrv) arguments = NULL;
  gboolean help = FALSE, version = FALSE;
  const GOptionEntry own[] = {
      {"help", 'h', 0, G_OPTION_ARG_NONE, &help, "print this text", NULL},
      {"version", 'V', 0, G_OPTION_ARG_NONE, &version, "print the version", NULL},
      {G_OPTION_REMAINING, 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &arguments, NULL, NULL},
      {NULL, 0, 0, 0, NULL, NULL, NULL},
  };
  const char *command = argv[0];
  g_autofree char *program = g_strdup_printf("quorumfs %s", command);
  g_set_prgname(program);
  g_autoptr(GOptionContext) context = g_option_context_new(usage->arguments);
  g_option_context_set_help_enabled(context, FALSE);
  g_option_context_set_summary(context, usage->summary);
  g_option_context_set_description(context, usage->description);
  if (entries != NULL)
    g_option_context_add_main_entries(context, entries, NULL);
  g_option_context_add_main_entries(context, own, NULL);
  /* The parser drops arguments from the array that it is given, which nobody would free. */
  g_autofree char **left = g_memdup2(argv, sizeof(char *) * ((gsize)argc + 1));
  char **left_argv = left;
  g_autoptr(GError) error = NULL;
  *out_status = CLI_USAGE;
  if (!g_option_context_parse(context, &argc, &left_argv, &error)) {
    cli_error("%s: %s; see '%s --help'", command, error->message, program);
    return NULL;
  }
  if (help) {
    *out_status = print_help(context);
    return NULL;
  }
  if (version) {
    *out_status = cli_print_version();
    return NULL;
  }
  int count = (int)count_arguments(arguments);
  if (count < usage->min || count > usage->max) {
    cli_error("%s: %s; see '%s --help'", command,
              count < usage->min ? "an argument is missing" : "too many arguments", program);
    return NULL;
  }
  /* The first argument is always a path; an empty one would mean the working directory. */
  if (count > 0 && *arguments[0] == '\0') {
    cli_error("%s: the path is empty; see '%s --help'", command, program);
    return NULL;
  }
  return arguments == NULL ? g_new0(char *, 1) : g_steal_pointer(&arguments);
}

gboolean cli_print(const char *text) {
  if (fputs(text, stdout) == EOF || fflush(stdout) == EOF) {
    cli_error("standard output: %s", g_strerror(errno));
    return FALSE;
  }
  return TRUE;
}

int cli_print_version(void) {
  return cli_print("quorumfs " QFS_VERSION "\n") ? CLI_OK : CLI_FAILED;
}

/* A FUSE file system with a control tree; an ordinary directory that happens to have the name is
 * none. */
static gboolean is_mount_root(const char *dir) {
  g_autofree char *control = g_build_filename(dir, ".quorumfs", "rpc", NULL);
  struct stat st;
  struct statfs fs;
  return stat(control, &st) == 0 && S_ISREG(st.st_mode) && statfs(control, &fs) == 0 &&
         fs.f_type == FUSE_SUPER_MAGIC;
}

/* The mount that a crashed daemon left and `absolute` lies in; NULL: none. */
static QfsMount *find_dead_mount(const char *absolute) {
  g_autofree char *real = qfs_mountpoint_resolve(absolute);
  g_autoptr(GPtrArray) mounts = qfs_mounts_list();
  for (guint i = mounts->len; i-- > 0;) {
    const QfsMount *mount = g_ptr_array_index(mounts, i);
    gsize len = strlen(mount->path);
    if (strncmp(real, mount->path, len) == 0 && (real[len] == '/' || real[len] == '\0') &&
        qfs_mountpoint_is_dead(mount->path))
      return qfs_mounts_find(mount->path);
  }
  return NULL;
}

/* Quoted where a shell needs that. */
static char *shell_word(const char *text) {
  return g_regex_match_simple("^[A-Za-z0-9_./+@%:,=-]+$", text, 0, 0) ? g_strdup(text)
                                                                      : g_shell_quote(text);
}

static void tell_not_found(const char *path, const char *absolute) {
  g_autoptr(QfsMount) dead = find_dead_mount(absolute);
  if (dead == NULL) {
    cli_error("%s: not in a mounted quorumfs store", path);
    return;
  }
  g_autofree char *point = shell_word(dead->path);
  g_autofree char *option = g_strconcat("store=", dead->source, NULL);
  g_autofree char *word = shell_word(option);
  gboolean known = *dead->source == '/'; /* else fsname= hides the store */
  cli_error("%s: the daemon of the mount %s is gone; mount again with 'quorumfs mount %s%s%s%s', "
            "or unmount with 'quorumfs umount %s'",
            path, dead->path, known ? "-o " : "", known ? word : "", known ? " " : "", point,
            point);
}

gboolean cli_find_mount(const char *path, gboolean or_itself, char **out_root, char **out_key) {
  if (*path == '\0') {
    cli_error("the path is empty");
    return FALSE;
  }
  g_autofree char *absolute = g_canonicalize_filename(path, NULL);
  g_autofree char *root = or_itself ? g_strdup(absolute) : g_path_get_dirname(absolute);
  while (!is_mount_root(root)) {
    if (strcmp(root, "/") == 0) {
      if (!or_itself && is_mount_root(absolute))
        cli_error("%s: is the mountpoint, not a key", path);
      else
        tell_not_found(path, absolute);
      return FALSE;
    }
    char *parent = g_path_get_dirname(root);
    g_free(root);
    root = parent;
  }
  if (out_key != NULL) {
    const char *key = absolute + strlen(root);
    while (*key == '/')
      key++;
    *out_key = g_strdup(key);
  }
  *out_root = g_steal_pointer(&root);
  return TRUE;
}

char *cli_read_control(const char *root, const char *name, GError **error) {
  g_autofree char *path = g_build_filename(root, ".quorumfs", name, NULL);
  char *text = NULL;
  return g_file_get_contents(path, &text, NULL, error) ? text : NULL;
}

int cli_write_control(const char *root, const char *name, const char *text) {
  g_autofree char *path = g_build_filename(root, ".quorumfs", name, NULL);
  g_autofree char *line = g_strconcat(text, "\n", NULL);
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0)
    return errno;
  ssize_t put = write(fd, line, strlen(line));
  int error = put < 0 ? errno : 0;
  close(fd);
  return error;
}

JsonObject *cli_read_status(const char *root, JsonParser *parser, GError **error) {
  g_autofree char *text = cli_read_control(root, "status.json", error);
  if (text == NULL || !json_parser_load_from_data(parser, text, -1, error))
    return NULL;
  JsonNode *node = json_parser_get_root(parser);
  if (node != NULL && JSON_NODE_HOLDS_OBJECT(node))
    return json_node_get_object(node);
  g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL, "status.json is not an object");
  return NULL;
}

gboolean cli_read_nodes(const char *root, guint *out_nodes) {
  g_autoptr(JsonParser) parser = json_parser_new();
  JsonObject *object = cli_read_status(root, parser, NULL);
  if (object == NULL)
    return FALSE;
  *out_nodes = (guint)json_object_get_int_member_with_default(object, "nodes", 0);
  return TRUE;
}

gboolean cli_read_daemon(const char *root, int *out_pid, char **out_store) {
  g_autoptr(JsonParser) parser = json_parser_new();
  JsonObject *object = cli_read_status(root, parser, NULL);
  if (object == NULL)
    return FALSE;
  if (out_pid != NULL)
    *out_pid = (int)json_object_get_int_member_with_default(object, "pid", 0);
  if (out_store != NULL)
    *out_store = g_strdup(json_object_get_string_member_with_default(object, "store", ""));
  return TRUE;
}

gboolean cli_parse_timestamp(const char *option, const char *text) {
  guint64 timestamp;
  if (g_ascii_string_to_unsigned(text, 10, 0, G_MAXUINT64, &timestamp, NULL))
    return TRUE;
  cli_error("--%s %s: not a number from 0 to 18446744073709551615", option, text);
  return FALSE;
}
