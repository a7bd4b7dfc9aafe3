/* cli.h - what the subcommands share: one-line errors, argument parsing, finding the mount of a
 * path, and the client side of .quorumfs/rpc.
 *
 * Each subcommand is a function that gets argv with its own name as argv[0] and returns the exit
 * status. Errors are one line on standard error, "quorumfs: ...". Threading: the main thread only.
 */
#pragma once

#include <glib.h>
#include <json-glib/json-glib.h>

G_BEGIN_DECLS

enum { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2 };

int cli_mount(int argc, char **argv);
int cli_umount(int argc, char **argv);
int cli_put(int argc, char **argv);
int cli_get(int argc, char **argv);
int cli_delete(int argc, char **argv);
int cli_status(int argc, char **argv);
int cli_nodes(int argc, char **argv);
int cli_partition(int argc, char **argv);
int cli_gc(int argc, char **argv);
int cli_scrub(int argc, char **argv);
int cli_repair(int argc, char **argv);
int cli_watch(int argc, char **argv);

/* Prints "quorumfs: " and the message, control characters replaced, as one line. */
void cli_error(const char *format, ...) G_GNUC_PRINTF(1, 2);

typedef struct {
  const char *arguments;   /* what follows the options in the first line of help */
  const char *summary;     /* before the options */
  const char *description; /* after them; may be NULL */
  int min, max;            /* how many arguments that are no options */
} CliUsage;

/* Parses argv by `entries` (which may be NULL). The arguments that are no options, NULL-terminated.
 * NULL: help or an error was printed, and *out_status is the exit status. */
char **cli_parse(int argc, char **argv, const CliUsage *usage, const GOptionEntry *entries,
                 int *out_status);

/* Writes everything to standard output and flushes; FALSE: an error was printed. */
gboolean cli_print(const char *text);
int cli_print_version(void); /* exit status */

/* The mount that `path` (made absolute, "." and ".." taken lexically) lies in, found by walking up
 * from its parent, or from itself with `or_itself`, until there is a .quorumfs control directory.
 * `out_key` (may be NULL): the path relative to it. FALSE: an error was printed. */
gboolean cli_find_mount(const char *path, gboolean or_itself, char **out_root, char **out_key);

/* The text of ROOT/.quorumfs/NAME; NULL and *error. */
char *cli_read_control(const char *root, const char *name, GError **error);
/* From status.json of the mount at `root`: the daemon's process and the store's directory (newly
 * allocated). FALSE: it can't be had. Either may be NULL. */
gboolean cli_read_daemon(const char *root, int *out_pid, char **out_store);

/* Without a path: the mount that the working directory is in, else the only one there is; newly
 * allocated. NULL: an error was printed. */
char *cli_choose_mount(const char *command);
/* Writes `text` and a line end to ROOT/.quorumfs/NAME; 0 or an errno. */
int cli_write_control(const char *root, const char *name, const char *text);
/* The object that status.json holds; `parser` owns it. NULL and *error: it can't be had. */
JsonObject *cli_read_status(const char *root, JsonParser *parser, GError **error);
gint64 cli_number(JsonObject *status, const char *name); /* 0: it has none of this name */

/* Work in the background that `now`, written to .quorumfs/COMMAND, asks for: cli_run.c. */
typedef struct CliRun CliRun;
struct CliRun {
  const char *command;
  const char *running, *waits_for, *percent; /* members of status.json; percent may be NULL */
  int (*over)(const CliRun *run, JsonObject *status, gpointer data); /* prints the result; exit status */
};
/* Asks for it and waits until it is over, or can't go on now; exit status. */
int cli_run(const char *path, const CliRun *run, gpointer data);
/* The number of nodes, from status.json. FALSE: it can't be had. */
gboolean cli_read_nodes(const char *root, guint *out_nodes);

/* "--OPTION T": 0 ... 2^64-1, decimal digits only. FALSE: an error was printed. */
gboolean cli_parse_timestamp(const char *option, const char *text);

/* One put or delete through the daemon that serves `path`. `timestamp` NULL: the store's clock.
 * `value_fd` is read to its end; -1: `value`. NULL value: a delete. Prints the outcome, as JSON
 * with `json`; exit status. `if_timestamp` (a put; NULL: none): only if that is stored. */
int cli_rpc(const char *path, const char *timestamp, const char *if_timestamp, const char *value, int value_fd,
            gboolean json);

G_END_DECLS
