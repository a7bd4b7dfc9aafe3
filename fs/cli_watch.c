/* cli_watch.c - quorumfs watch: prints changes as they are acknowledged, from .quorumfs/events (events.h). */
#include "fs/cli.h"
#include "fs/events.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define READ_BYTES 65536

typedef struct {
  char *key; /* what is watched; "": everything */
  gboolean json;
  guint64 left; /* changes still to be printed */
  GString *out;
} Watch;

typedef struct {
  char *timestamp, *kind, *key, *new_key;
} Line;

static void line_clear(Line *line) {
  g_free(line->timestamp);
  g_free(line->kind);
  g_free(line->key);
  g_free(line->new_key);
}

static char *key_of(const char *text, gsize len) {
  return len == 1 && *text == '.' ? g_strdup("") : qfs_events_unescape(text, len);
}

static gboolean parse_line(const char *text, Line *out) {
  const char *kind = strchr(text, ' ');
  const char *key = kind != NULL ? strchr(kind + 1, ' ') : NULL;
  if (key == NULL)
    return FALSE;
  const char *tab = strchr(key, '\t');
  out->timestamp = g_strndup(text, (gsize)(kind - text));
  out->kind = g_strndup(kind + 1, (gsize)(key - kind - 1));
  out->key = key_of(key + 1, tab != NULL ? (gsize)(tab - key - 1) : strlen(key + 1));
  out->new_key = tab != NULL ? key_of(tab + 1, strlen(tab + 1)) : NULL;
  return TRUE;
}

static gboolean is_below(const char *key, const char *dir) {
  gsize len = strlen(dir);
  return len == 0 || (strncmp(key, dir, len) == 0 && (key[len] == '/' || key[len] == '\0'));
}

/* Does it concern what is watched: itself, something below, or a directory above that moved? */
static gboolean concerns(const Watch *watch, const Line *line) {
  if (strcmp(line->kind, "lost") == 0 || is_below(line->key, watch->key))
    return TRUE;
  return line->new_key != NULL && (is_below(line->new_key, watch->key) || is_below(watch->key, line->key) ||
                                   is_below(watch->key, line->new_key));
}

/* JSON is Unicode and keys are bytes: what is none is replaced, and told percent-encoded beside it. */
static void add_key(JsonBuilder *builder, const char *name, const char *key) {
  g_autofree char *text = g_utf8_make_valid(key, -1);
  json_builder_set_member_name(builder, name);
  json_builder_add_string_value(builder, text);
  if (g_utf8_validate(key, -1, NULL))
    return;
  g_autofree char *member = g_strconcat(name, "_uri", NULL);
  g_autofree char *escaped = g_uri_escape_bytes((const guint8 *)key, strlen(key), "/");
  json_builder_set_member_name(builder, member);
  json_builder_add_string_value(builder, escaped);
}

static char *json_of(const Line *line) {
  g_autoptr(JsonBuilder) builder = json_builder_new();
  json_builder_begin_object(builder);
  if (strcmp(line->kind, "lost") == 0) {
    json_builder_set_member_name(builder, "lost");
    json_builder_add_int_value(builder, g_ascii_strtoll(line->key, NULL, 10));
  } else {
    json_builder_set_member_name(builder, "timestamp");
    json_builder_add_string_value(builder, line->timestamp);
    json_builder_set_member_name(builder, "change");
    json_builder_add_string_value(builder, line->kind);
    add_key(builder, "key", line->key);
    if (line->new_key != NULL)
      add_key(builder, "new_key", line->new_key);
  }
  json_builder_end_object(builder);
  g_autoptr(JsonNode) root = json_builder_get_root(builder);
  return json_to_string(root, FALSE);
}

static void take_line(Watch *watch, const char *text) {
  Line line = {0};
  if (watch->left > 0 && parse_line(text, &line) && concerns(watch, &line)) {
    g_autofree char *json = watch->json ? json_of(&line) : NULL;
    g_string_append_printf(watch->out, "%s\n", json != NULL ? json : text);
    watch->left--;
  }
  line_clear(&line);
}

/* Prints the whole lines in `text` and leaves the rest there. */
static gboolean take_lines(Watch *watch, GString *text) {
  char *from = text->str, *end;
  while ((end = strchr(from, '\n')) != NULL) {
    *end = '\0';
    if (*from != '\0') /* else it ends a line that was lost */
      take_line(watch, from);
    from = end + 1;
  }
  g_string_erase(text, 0, from - text->str);
  gboolean printed = watch->out->len == 0 || cli_print(watch->out->str);
  g_string_truncate(watch->out, 0);
  return printed;
}

/* Until there are changes. FALSE: nobody reads what is printed any more. */
static gboolean wait_for_changes(int fd) {
  struct pollfd fds[2] = {{.fd = fd, .events = POLLIN}, {.fd = STDOUT_FILENO}};
  while (poll(fds, 2, -1) < 0 && errno == EINTR)
    ;
  return (fds[1].revents & (POLLERR | POLLHUP)) == 0;
}

static int run(Watch *watch, int fd) {
  g_autoptr(GString) text = g_string_new(NULL);
  g_autofree char *buffer = g_malloc(READ_BYTES);
  while (watch->left > 0) {
    ssize_t got = read(fd, buffer, READ_BYTES);
    if (got < 0 && errno == EINTR)
      continue;
    if (got < 0) {
      cli_error("watch: %s", errno == ENOTCONN || errno == ECONNABORTED ? "the store was unmounted"
                                                                         : g_strerror(errno));
      return CLI_FAILED;
    }
    g_string_append_len(text, buffer, got);
    if (!take_lines(watch, text))
      return CLI_FAILED;
    if (got == 0 && !wait_for_changes(fd))
      return CLI_OK;
  }
  return CLI_OK;
}

int cli_watch(int argc, char **argv) {
  gboolean json = FALSE;
  g_autofree char *count = NULL;
  const GOptionEntry entries[] = {
      {"json", 'j', 0, G_OPTION_ARG_NONE, &json, "print each change as a JSON object", NULL},
      {"count", 'n', 0, G_OPTION_ARG_FILENAME, &count, "end after so many changes", "N"},
      {NULL, 0, 0, 0, NULL, NULL, NULL},
  };
  static const CliUsage usage = {
      .arguments = "PATH",
      .summary =
          "Waits, and prints changes of PATH and of everything below it, one line each, as they are acknowledged:\n"
          "  TIMESTAMP put|attr|mkdir|symlink|mknod|delete KEY\n"
          "  TIMESTAMP rename|link KEY<tab>NEW-KEY\n"
          "Keys are relative to the mount; backslash and control characters are escaped as printf %b undoes it.\n"
          "'0 lost N': the reader of the output was too slow, and N changes of the store are missing here.\n"
          "Exit status: 0 after N changes, 1 the store was unmounted or cannot be watched, 2 wrong usage.",
      .min = 1,
      .max = 1,
  };
  int status = CLI_USAGE;
  g_auto(GStrv) arguments = cli_parse(argc, argv, &usage, entries, &status);
  if (arguments == NULL)
    return status;
  guint64 left = G_MAXUINT64;
  if (count != NULL && !g_ascii_string_to_unsigned(count, 10, 1, G_MAXUINT64, &left, NULL)) {
    cli_error("watch: --count %s: not a number from 1 on", count);
    return CLI_USAGE;
  }
  g_autofree char *root = NULL, *key = NULL;
  if (!cli_find_mount(arguments[0], TRUE, &root, &key))
    return CLI_FAILED;
  while (g_str_has_suffix(key, "/"))
    key[strlen(key) - 1] = '\0';
  g_autofree char *path = g_build_filename(root, ".quorumfs", "events", NULL);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0 || lseek(fd, 0, SEEK_END) < 0) {
    cli_error("watch: %s", errno == EACCES ? "only for the user who mounted the store, and root"
                                           : g_strerror(errno));
    if (fd >= 0)
      close(fd);
    return CLI_FAILED;
  }
  Watch watch = {.key = key, .json = json, .left = left, .out = g_string_new(NULL)};
  status = run(&watch, fd);
  g_string_free(watch.out, TRUE);
  close(fd);
  return status;
}
