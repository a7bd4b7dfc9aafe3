/* cli_nodes.c - quorumfs nodes: the table of nodes, and taking one down or up. */
#include "fs/cli.h"
#include "fs/control.h"

#include <errno.h>
#include <json-glib/json-glib.h>
#include <string.h>

/* The part of status.json, or of status, that is about nodes; NULL and *error. */
static char *nodes_json(const char *text, GError **error) {
  g_autoptr(JsonParser) parser = json_parser_new();
  if (!json_parser_load_from_data(parser, text, -1, error))
    return NULL;
  JsonNode *root = json_parser_get_root(parser);
  JsonNode *nodes = root != NULL && JSON_NODE_HOLDS_OBJECT(root)
                        ? json_object_get_member(json_node_get_object(root), "node")
                        : NULL;
  g_autofree char *json = nodes != NULL ? json_to_string(nodes, TRUE) : g_strdup("[]");
  return g_strconcat(json, "\n", NULL);
}

static const char *table_of(const char *text) {
  const char *table = g_str_has_prefix(text, "node ") ? text : strstr(text, "\nnode ");
  return table == NULL ? text : table + (*table == '\n');
}

static int print_nodes(const char *root, gboolean json) {
  g_autoptr(GError) error = NULL;
  g_autofree char *text = cli_read_control(root, json ? "status.json" : "status", &error);
  g_autofree char *nodes = text != NULL && json ? nodes_json(text, &error) : NULL;
  if (text == NULL || (json && nodes == NULL)) {
    cli_error("nodes: %s", error->message);
    return CLI_FAILED;
  }
  return cli_print(json ? nodes : table_of(text)) ? CLI_OK : CLI_FAILED;
}

static int set_state(const char *root, const char *node, const char *state) {
  guint64 number = 0;
  if (!g_ascii_string_to_unsigned(node, 10, 1, 64, &number, NULL)) {
    cli_error("nodes: '%s' is no node's number", node);
    return CLI_USAGE;
  }
  static const char *const states[] = {"up", "down", "crash", "evict", NULL};
  if (!g_strv_contains(states, state)) {
    cli_error("nodes: '%s' is not one of up, down, crash, evict", state);
    return CLI_USAGE;
  }
  g_autofree char *name = g_strdup_printf("nodes/%" G_GUINT64_FORMAT "/state", number);
  int error = cli_write_control(root, name, state);
  if (error == ENOENT) {
    cli_error("nodes: the store has no node %s", node);
    return CLI_USAGE;
  }
  if (error == 0)
    return CLI_OK;
  /* Why it was refused is the daemon's latest warning. */
  g_autofree char *fault = error == EBUSY || error == EINVAL ? cli_read_control(root, "last-error", NULL) : NULL;
  const char *explanation = fault != NULL ? g_strchomp(fault) : qfs_control_explain(error);
  cli_error("nodes: node %s: %s%s%s%s", node, g_strerror(error), explanation != NULL ? " (" : "",
            explanation != NULL ? explanation : "", explanation != NULL ? ")" : "");
  return CLI_FAILED;
}

int cli_nodes(int argc, char **argv) {
  gboolean json = FALSE;
  const GOptionEntry entries[] = {
      {"json", 'j', 0, G_OPTION_ARG_NONE, &json, "print JSON", NULL},
      {NULL, 0, 0, 0, NULL, NULL, NULL},
  };
  static const CliUsage usage = {
      .arguments = "[PATH [N up|down|crash|evict]]",
      .summary =
          "Prints the nodes of the store that PATH lies in (default: the one that the working\n"
          "directory is in, else the only one mounted), or opens or closes node N: 'down' settles\n"
          "first, and waits for nodes that are catching up where writes would be refused without N;\n"
          "'crash' closes it at once. 'evict' gives up what only a closed or failed node N has, for\n"
          "good; 'up' then takes it back as an empty node that is rebuilt from the others.\n"
          "Exit status: 0 done, 1 not, 2 wrong usage.",
      .min = 0,
      .max = 3,
  };
  int status = CLI_USAGE;
  g_auto(GStrv) arguments = cli_parse(argc, argv, &usage, entries, &status);
  if (arguments == NULL)
    return status;
  guint count = g_strv_length(arguments);
  if (count == 2 || (count == 3 && json)) {
    cli_error("nodes: %s; see 'quorumfs nodes --help'",
              count == 2 ? "a state is missing" : "--json prints, it changes nothing");
    return CLI_USAGE;
  }
  g_autofree char *path = count > 0 ? g_strdup(arguments[0]) : cli_choose_mount("nodes");
  g_autofree char *root = NULL;
  if (path == NULL)
    return CLI_USAGE;
  if (!cli_find_mount(path, TRUE, &root, NULL))
    return CLI_FAILED;
  return count == 3 ? set_state(root, arguments[1], arguments[2]) : print_nodes(root, json);
}
