/* main.c - the command line, and what is printed of many seeds (jobs.h).
 *
 * Prints a line per seed with -v; for a failure the seed, the broken invariant, the end of the
 * trace (from a second run of the same seed with the trace on) and the command that replays it.
 * With --tap the same as test points over chunks of seeds.
 */
#include "faults.h"
#include "hand.h"
#include "jobs.h"
#include "story.h"

#include <string.h>

static struct {
  gint64 seeds, start, seed;
  gboolean unlimited, verbose, trace, until_failure, directed;
  char *storage;
  gint jobs, nodes, replicas, tail;
  gint timeout_s; /* a seed that takes more seconds of the processor hangs */
  char *tap, *scenario;
} arguments = {.seeds = 100, .start = 1, .seed = -1, .jobs = 2, .tail = 40, .timeout_s = 60};

typedef struct {
  guint64 seeds, failed, sqlite, waiting;
  guint64 operations, acked_puts, gets, crashes, node_crashes, lost, faults, events, hedged, trusted, prolonged;
  guint64 linear_checked, linear_open;
  gint64 virtual_us;
  guint64 duplicated;
  guint64 fault_count[SIM_FAULT_KINDS_MAX];
} Totals;

static SimStorage storage_wanted(void) {
  if (g_strcmp0(arguments.storage, "sqlite") == 0)
    return SIM_STORAGE_SQLITE;
  return g_strcmp0(arguments.storage, "memory") == 0 ? SIM_STORAGE_MEMORY : SIM_STORAGE_AUTO;
}

static SimJobsConfig jobs_config(void) {
  return (SimJobsConfig){.options = {.unlimited = arguments.unlimited,
                                     .storage = storage_wanted(),
                                     .nodes = (guint)arguments.nodes,
                                     .replicas = (guint)arguments.replicas},
                         .timeout_s = arguments.timeout_s,
                         .until_failure = arguments.until_failure,
                         .jobs = (guint)CLAMP(arguments.jobs, 1, SIM_JOBS_MAX)};
}

static const char *replay_options(void) {
  static char text[128];
  g_snprintf(text, sizeof text, "%s%s%s", arguments.unlimited ? " --unlimited" : "",
             arguments.storage != NULL ? " --storage " : "",
             arguments.storage != NULL ? arguments.storage : "");
  if (arguments.nodes != 0)
    g_snprintf(text + strlen(text), sizeof text - strlen(text), " --nodes %d --replicas %d",
               arguments.nodes, arguments.replicas);
  return text;
}

/* A failing seed is run again with the trace on: the same happens. */
static void report_failure(guint64 seed, const char *why, const char *log) {
  printf("# seed %" G_GUINT64_FORMAT " FAILED: %s\n", seed, why);
  if (log != NULL)
    fputs(log, stdout);
  FILE *trace = arguments.tail > 0 ? tmpfile() : NULL;
  if (trace != NULL) {
    SimJobsConfig config = jobs_config();
    setvbuf(trace, NULL, _IOLBF, 0);
    g_autofree char *again = sim_jobs_trace(&config, seed, trace, NULL);
    if (g_strcmp0(again, why) != 0)
      printf("# the second run: %s\n", again != NULL ? again : "passed");
    sim_story_print(trace, why, (guint)arguments.tail, stdout);
    fclose(trace);
  }
  printf("# replay: tests/sim/run.sh --seed %" G_GUINT64_FORMAT " --trace%s\n", seed,
         replay_options());
}

/* ---- many seeds ---- */

static void add_totals(Totals *totals, const SimResult *result) {
  totals->operations += result->operations;
  totals->acked_puts += result->acked_puts;
  totals->gets += result->gets;
  totals->crashes += result->crashes;
  totals->node_crashes += result->node_crashes;
  totals->lost += result->lost;
  totals->faults += result->faults;
  totals->events += result->events;
  totals->hedged += result->hedged;
  totals->trusted += result->trusted;
  totals->prolonged += result->prolonged;
  totals->virtual_us += result->virtual_us;
  totals->linear_checked += result->linear_checked;
  totals->linear_open += result->linear_open;
  totals->duplicated += result->duplicated;
  totals->sqlite += result->sqlite;
  totals->waiting += result->waiting;
  for (guint i = 0; i < SIM_FAULT_KINDS_MAX; i++)
    totals->fault_count[i] += result->fault_count[i];
}

static void print_seed(guint64 seed, const SimResult *r) {
  printf("# seed %" G_GUINT64_FORMAT ": %u/%u%s, %" G_GUINT64_FORMAT
         " operations, %" G_GUINT64_FORMAT " acknowledged puts, %" G_GUINT64_FORMAT
         " gets, %" G_GUINT64_FORMAT " crashes, %" G_GUINT64_FORMAT
         " node crashes, %" G_GUINT64_FORMAT " lost messages, %" G_GUINT64_FORMAT
         " faults, %" G_GUINT64_FORMAT " events, %.1f s\n",
         seed, r->nodes, r->replicas, r->sqlite ? " sqlite" : "", r->operations, r->acked_puts,
         r->gets, r->crashes, r->node_crashes, r->lost, r->faults, r->events,
         (double)r->virtual_us / SIM_SECOND);
}

static void on_seed_done(guint64 seed, const SimResult *result, const char *why, const char *log,
                         gpointer data) {
  Totals *totals = data;
  totals->seeds++;
  add_totals(totals, result);
  if (arguments.verbose)
    print_seed(seed, result);
  if (why != NULL) {
    totals->failed++;
    report_failure(seed, why, log);
  }
}

static void run_seeds(guint64 first, guint64 n, Totals *totals) {
  SimJobsConfig config = jobs_config();
  sim_jobs_run(&config, first, n, on_seed_done, totals);
}

static void print_fault_counts(const Totals *t) {
  printf("# %" G_GUINT64_FORMAT " seeds on SQLite; messages: %" G_GUINT64_FORMAT
         " lost, %" G_GUINT64_FORMAT " repeated; faults by kind:\n",
         t->sqlite, t->lost, t->duplicated);
  for (guint i = 0; sim_fault_name(i) != NULL; i++)
    printf("# %10" G_GUINT64_FORMAT " %s\n", t->fault_count[i], sim_fault_name(i));
}

static void print_totals(const Totals *t, gint64 real_us) {
  double n = (double)MAX(t->seeds, 1);
  printf(
      "# per seed: %.0f operations, %.0f acknowledged puts, %.0f gets, %.1f crashes, %.1f node "
      "crashes, "
      "%.0f lost messages, %.1f hedged reads, %.1f to be trusted, %.1f faults, %.0f events, %.1f s; %" G_GUINT64_FORMAT
      " histories in order, %" G_GUINT64_FORMAT " undecided, %" G_GUINT64_FORMAT
      " answers later than usual\n",
      (double)t->operations / n, (double)t->acked_puts / n, (double)t->gets / n,
      (double)t->crashes / n, (double)t->node_crashes / n, (double)t->lost / n,
      (double)t->hedged / n, (double)t->trusted / n, (double)t->faults / n, (double)t->events / n,
      (double)t->virtual_us / n / SIM_SECOND, t->linear_checked, t->linear_open, t->prolonged);
  if (t->waiting > 0)
    printf("# %" G_GUINT64_FORMAT " seeds ended waiting for a disk that was lost beyond what must be survived\n",
           t->waiting);
  if (arguments.verbose)
    print_fault_counts(t);
  printf("%" G_GUINT64_FORMAT " seeds, %" G_GUINT64_FORMAT " failed, %.0f times real time\n",
         t->seeds, t->failed, (double)t->virtual_us / (double)MAX(real_us, 1));
}

/* ---- test points ---- */

/* What this program prints for a seed, in a process of its own: other addresses, same trace. */
static char *replay(guint64 seed) {
  g_autofree char *number = g_strdup_printf("%" G_GUINT64_FORMAT, seed);
  char *command[] = {"/proc/self/exe", "--seed", number, "--trace", NULL};
  char *out = NULL;
  g_autoptr(GError) error = NULL;
  if (!g_spawn_sync(NULL, command, NULL, G_SPAWN_DEFAULT, NULL, NULL, &out, NULL, NULL, &error))
    g_error("cannot replay: %s", error->message);
  return out;
}

static gboolean same_trace_twice(guint64 seed) {
  g_autofree char *first = replay(seed), *second = replay(seed);
  return strlen(first) > 1000 && strcmp(first, second) == 0;
}

static int test_points(void) {
  gboolean same = g_strcmp0(arguments.tap, "same") == 0;
  guint points = same ? 10 : (guint)MAX(1, arguments.seeds / 250), bad = 0;
  printf("1..%u\n", points);
  for (guint i = 0; i < points; i++) {
    Totals totals = {0};
    guint64 n = same ? 1 : (guint64)arguments.seeds / points;
    guint64 first = (guint64)arguments.start + i * (same ? 13 : n);
    if (same)
      totals.failed = !same_trace_twice(first);
    else
      run_seeds(first, n, &totals);
    bad += totals.failed > 0;
    printf("%s %u - %s: seeds %" G_GUINT64_FORMAT " to %" G_GUINT64_FORMAT,
           totals.failed > 0 ? "not ok" : "ok", i + 1, arguments.tap, first, first + n - 1);
    printf(", %" G_GUINT64_FORMAT " failed, %.1f faults and %.1f crashes each\n", totals.failed,
           (double)totals.faults / (double)n,
           (double)(totals.crashes + totals.node_crashes) / (double)n);
    fflush(stdout);
  }
  return bad > 0;
}

static int trace_one(void) {
  SimJobsConfig config = jobs_config();
  SimResult result;
  g_autofree char *why = sim_jobs_trace(&config, (guint64)arguments.seed,
                                        arguments.trace ? stdout : NULL, &result);
  print_seed((guint64)arguments.seed, &result);
  printf("# %s\n", why != NULL ? why : "passed");
  return why != NULL;
}

int main(int argc, char **argv) {
  const GOptionEntry entries[] = {
      {"seeds", 0, 0, G_OPTION_ARG_INT64, &arguments.seeds, "How many seeds (100)", "N"},
      {"start", 0, 0, G_OPTION_ARG_INT64, &arguments.start, "The first one (1)", "S"},
      {"seed", 0, 0, G_OPTION_ARG_INT64, &arguments.seed, "This seed alone", "S"},
      {"trace", 0, 0, G_OPTION_ARG_NONE, &arguments.trace, "With --seed: print every event", NULL},
      {"unlimited", 0, 0, G_OPTION_ARG_NONE, &arguments.unlimited,
       "Any number of nodes may fail at once", NULL},
      {"storage", 0, 0, G_OPTION_ARG_STRING, &arguments.storage,
       "memory or sqlite (one in 20 is sqlite)", "KIND"},
      {"nodes", 0, 0, G_OPTION_ARG_INT, &arguments.nodes, "Number of nodes (drawn)", "N"},
      {"replicas", 0, 0, G_OPTION_ARG_INT, &arguments.replicas, "Number of replicas (drawn)", "K"},
      {"jobs", 'j', 0, G_OPTION_ARG_INT, &arguments.jobs, "Seeds at the same time (2)", "J"},
      {"until-failure", 0, 0, G_OPTION_ARG_NONE, &arguments.until_failure,
       "Begin no more seeds once one has failed", NULL},
      {"timeout", 0, 0, G_OPTION_ARG_INT, &arguments.timeout_s,
       "Seconds of the processor after which a seed counts as hanging (60)", "S"},
      {"tail", 0, 0, G_OPTION_ARG_INT, &arguments.tail, "Trace lines to show of a failure, of each sort (40)",
       "N"},
      {"verbose", 'v', 0, G_OPTION_ARG_NONE, &arguments.verbose, "A line per seed, and how often each kind of fault happened", NULL},
      {"directed", 0, 0, G_OPTION_ARG_NONE, &arguments.directed, "The scenarios that are written out, and no seeds", NULL},
      {"scenario", 0, 0, G_OPTION_ARG_STRING, &arguments.scenario, "This one alone, or all that begin so", "/PATH"},
      {"tap", 0, 0, G_OPTION_ARG_STRING, &arguments.tap,
       "Test points; \"same\": the same trace twice", "NAME"},
      {NULL},
  };
  g_autoptr(GOptionContext) context = g_option_context_new("- the store under simulated faults");
  g_autoptr(GError) error = NULL;
  g_option_context_add_main_entries(context, entries, NULL);
  if (!g_option_context_parse(context, &argc, &argv, &error)) {
    fprintf(stderr, "sim: %s\n", error->message);
    return 2;
  }
  if (arguments.directed || arguments.scenario != NULL)
    return hand_run_directed(argv[0], arguments.scenario, arguments.tap != NULL);
  if (arguments.seed >= 0)
    return trace_one();
  if (arguments.tap != NULL)
    return test_points();
  Totals totals = {0};
  gint64 begin_us = g_get_monotonic_time();
  run_seeds((guint64)arguments.start, (guint64)MAX(arguments.seeds, 0), &totals);
  print_totals(&totals, g_get_monotonic_time() - begin_us);
  return totals.failed > 0;
}
