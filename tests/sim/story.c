/* story.c - see story.h. */
#include "story.h"

#include <string.h>

#define KEYS_MAX 4
#define STORY_LINE_MAX 600

typedef struct {
  char *key[KEYS_MAX];
  guint n_keys;
  GQueue key_lines, events, last; /* lines, oldest first */
  guint n;                        /* of each */
} Story;

/* ---- what the failure names ---- */

static void add_key(Story *story, const char *word) {
  g_autofree char *key = g_strndup(word, strcspn(word, "@:,"));
  for (guint i = 0; i < story->n_keys; i++)
    if (strcmp(story->key[i], key) == 0)
      return;
  if (strlen(key) >= 2 && story->n_keys < KEYS_MAX)
    story->key[story->n_keys++] = g_steal_pointer(&key);
}

/* Keys stand before their version (hot0@17), or in the name of an operation (op 17 write hot0 by ...). */
static void find_keys(Story *story, const char *why) {
  g_auto(GStrv) words = g_strsplit_set(why, " \n", -1);
  for (guint i = 0; words[i] != NULL; i++) {
    const char *version = strchr(words[i], '@');
    gboolean in_directory = strchr(words[i], '/') != NULL && g_ascii_isalpha(words[i][0]) &&
                            strstr(words[i], ".db") == NULL;
    if ((version != NULL && version > words[i]) || in_directory)
      add_key(story, words[i]);
    if (strcmp(words[i], "by") != 0 || i < 3)
      continue;
    for (guint j = i - 1; j + 4 > i && j > 0; j--) /* the words between "op N kind" and "by" */
      if (strcmp(words[j], "->") != 0 && g_ascii_isalpha(words[j][0]) && j + 1 >= i - 2 &&
          (j == i - 1 || strcmp(words[j + 1], "->") == 0))
        add_key(story, words[j]);
  }
  if (story->n_keys == 0 && strchr(why, ':') != NULL && g_ascii_isalpha(why[0]))
    add_key(story, why);
}

/* ---- lines ---- */

static gboolean names_a_key(const Story *story, const char *line) {
  if (strstr(line, "read of ") != NULL)
    return FALSE;
  for (guint i = 0; i < story->n_keys; i++) {
    gsize len = strlen(story->key[i]);
    for (const char *at = strstr(line, story->key[i]); at != NULL; at = strstr(at + 1, story->key[i]))
      if (!g_ascii_isalnum(at[len]) && at[len] != '/' && at > line && !g_ascii_isalnum(at[-1]))
        return TRUE;
  }
  return FALSE;
}

static gboolean is_event(const char *line) {
  static const char *const marks[] = {" fault",   " log: ",  " daemon ",    " power ",    " crashes",
                                      " opens: ", " wiped",  " goes back ", " at rest ",  " status: ",
                                      " damage",  " aside",  " clients ",   " history: ", " is gone"};
  for (guint i = 0; i < G_N_ELEMENTS(marks); i++)
    if (strstr(line, marks[i]) != NULL)
      return TRUE;
  return FALSE;
}

static void keep(GQueue *lines, const char *line, guint n) {
  g_queue_push_tail(lines, g_strdup(line));
  if (lines->length > n)
    g_free(g_queue_pop_head(lines));
}

static void print_lines(GQueue *lines, const char *title, FILE *out) {
  if (lines->length > 0)
    fprintf(out, "# %s\n", title);
  for (char *line; (line = g_queue_pop_head(lines)) != NULL; g_free(line))
    fprintf(out, "  %s\n", line);
}

void sim_story_print(FILE *trace, const char *why, guint n, FILE *out) {
  Story story = {.n = n};
  char line[STORY_LINE_MAX];
  find_keys(&story, why);
  rewind(trace);
  while (fgets(line, sizeof line, trace) != NULL) {
    g_strchomp(line);
    if (is_event(line))
      keep(&story.events, line, n);
    if (names_a_key(&story, line))
      keep(&story.key_lines, line, n);
    keep(&story.last, line, n);
  }
  fprintf(out, "# Seconds, then what happened. N.I is incarnation I of node N; #C pairs a request with its "
               "answer;\n# KEY@T is version T of KEY; [from, to] of an operation is its outcome and status.\n");
  print_lines(&story.events, "what went wrong, lives and deaths, the store's log (the latest):", out);
  for (guint i = 0; i < story.n_keys; i++)
    fprintf(out, "# key: %s\n", story.key[i]);
  print_lines(&story.key_lines, "everything about these keys (the latest):", out);
  print_lines(&story.last, "the last lines of the trace:", out);
  for (guint i = 0; i < story.n_keys; i++)
    g_free(story.key[i]);
}
