/* scenario.c - the course of one seed, and the event loop.
 *
 *   create -> clients and faults -> heal -> all is quiet: owners agree -> as many nodes fail as may
 * fail at once, or one after another: everything still reads and writes -> heal, quiet, agree ->
 * every key changes
 *   -> quiet, agree -> restart -> the same -> tombstones go, and an old copy comes back -> every history has a
 *   linear order
 */
#include "check.h"
#include "cluster/placement.h"
#include "faults.h"
#include "linked.h"
#include "walk.h"
#include "workload.h"

#include <string.h>
#include <unistd.h>

/* After faults ended, all must be settled and handed back within this. */
#define QUIET_TIMEOUT_US (120 * (gint64)SIM_SECOND)
/* After nodes failed at once, the others have taken over by then. */
#define TAKE_OVER_US (8 * SIM_SECOND)
/* Events of one run; more means that something goes round in circles. */
#define EVENTS_MAX 5000000

/* ---- the event loop ---- */

void sim_fail(Sim *sim, const char *format, ...) {
  SimResult *result = sim->result;
  va_list arguments;
  va_start(arguments, format);
  g_vsnprintf(result->message, sizeof result->message, format, arguments);
  va_end(arguments);
  SIM_TRACE(sim, "FAILED: %s", result->message);
  result->failed = TRUE;
  result->virtual_us = sim->now_us;
  result->digest = sim->trace.digest;
  result->lines = sim->trace.lines;
  if (sim->trace.out != NULL)
    fflush(sim->trace.out);
  _exit(SIM_EXIT_FAILED);
}

static void schedule(Sim *sim, gint64 delay_us, guint run, SimEventFn fn, gpointer data,
                     GDestroyNotify drop) {
  SimEvent event = {
      .at_us = sim->now_us + MAX(delay_us, 0), .run = run, .fn = fn, .data = data, .drop = drop};
  sim_queue_push(&sim->queue, &event);
}

void sim_after(Sim *sim, gint64 delay_us, SimEventFn fn, gpointer data) {
  schedule(sim, delay_us, 0, fn, data, NULL);
}

void sim_after_in_run(Sim *sim, gint64 delay_us, SimEventFn fn, gpointer data,
                      GDestroyNotify drop) {
  schedule(sim, delay_us, sim->run, fn, data, drop);
}

static void next_event(Sim *sim) {
  SimEvent event;
  if (!sim_queue_pop(&sim->queue, &event))
    sim_fail(sim, "nothing will ever happen again");
  sim->now_us = event.at_us;
  SIM_CHECK(sim, ++sim->result->events < EVENTS_MAX, "no end after %d events", EVENTS_MAX);
  if (event.run == 0 || event.run == sim->run)
    event.fn(sim, event.data);
  else if (event.drop != NULL)
    event.drop(event.data);
}

gboolean sim_run_until(Sim *sim, SimCondition condition, gint64 timeout_us) {
  gint64 deadline_us = sim->now_us + timeout_us;
  while (!condition(sim)) {
    if (sim_queue_next_us(&sim->queue) > deadline_us) {
      sim->now_us = deadline_us;
      return FALSE;
    }
    next_event(sim);
  }
  return TRUE;
}

static gboolean never(Sim *sim) {
  return FALSE;
}

void sim_run_for(Sim *sim, gint64 time_us) {
  sim_run_until(sim, never, time_us);
}

/* ---- the world ---- */

static void draw_size(Sim *sim) {
  static const struct {
    guint nodes, replicas, weight;
  } sizes[] = {{5, 3, 46}, {3, 2, 10}, {3, 3, 10}, {4, 2, 6}, {7, 4, 6},
               {1, 1, 4},  {2, 1, 4},  {5, 5, 5},  {7, 3, 5},  {7, 5, 4}};
  guint roll = sim_random_below(&sim->random, 100);
  guint i = 0;
  while (roll >= sizes[i].weight)
    roll -= sizes[i++].weight;
  sim->nodes_n = sim->options.nodes != 0 ? sim->options.nodes : sizes[i].nodes;
  sim->replicas_k = sim->options.replicas != 0 ? sim->options.replicas : sizes[i].replicas;
  sim->replicas_k = MIN(sim->replicas_k, sim->nodes_n);
  sim->former_n = sim->nodes_n;
  sim->former_k = sim->replicas_k;
  sim->nodes_all = MAX(7, sim->nodes_n);
}

SimStorage sim_storage_of(const SimOptions *options, guint64 seed) {
  if (options->storage != SIM_STORAGE_AUTO)
    return options->storage;
  return seed % 20 == 7 ? SIM_STORAGE_SQLITE : SIM_STORAGE_MEMORY;
}

static Sim *sim_new(const SimOptions *options, const SimTrace *trace, SimResult *result) {
  Sim *sim = g_new0(Sim, 1);
  sim->options = *options;
  sim->trace = *trace;
  sim->result = result;
  sim->random.state = sim_mix(options->seed * G_GUINT64_CONSTANT(0x9e3779b97f4a7c15) + 1);
  draw_size(sim);
  sim->sqlite = sim_storage_of(options, options->seed) == SIM_STORAGE_SQLITE;
  sim->reorder = sim_random_percent(&sim->random, 20);
  sim->fast = sim_random_percent(&sim->random, 25);
  sim->latency_us = sim_random_spread(&sim->random, 10, 2 * SIM_MS);
  sim->read_us = sim_random_percent(&sim->random, 60) ? 40 : sim_random_spread(&sim->random, 40, 50 * SIM_MS);
  sim->ghost_percent = sim_random_percent(&sim->random, 50) ? 50 : 0;
  sim->config = (QfsCoordinatorConfig){.nodes = sim->nodes_n,
                                       .replicas = sim->replicas_k,
                                       .coordinator_id = sim_random_below(&sim->random, 256),
                                       .sync = sim_random_percent(&sim->random, 10),
                                       .timeout_ms = 2000,
                                       .tombstone_grace_s = 86400,
                                       .purge_period_s = 60};
  if (sim_random_percent(&sim->random, 70)) { /* deleted keys are forgotten soon */
    sim->config.tombstone_grace_s = sim_random_below(&sim->random, 3);
    sim->config.purge_period_s = 1 + sim_random_below(&sim->random, 4);
  }
  if (sim_random_percent(&sim->random, 50))
    sim->config.scrub_period_s = 1 + sim_random_below(&sim->random, 5);
  if (sim_random_percent(&sim->random, 60))
    sim->config.recent_bytes = sim_random_spread(&sim->random, 1000, 1000000);
  g_strlcpy(sim->config.store, "00000000-0000-4000-8000-000000000000", sizeof sim->config.store);
  sim_env_init(sim);
  for (guint i = 1; i <= sim->nodes_all; i++) {
    sim->node[i].number = i;
    sim->node[i].inbox = g_ptr_array_new_with_free_func((GDestroyNotify)qfs_message_free);
    sim->node[i].service_us = sim_random_spread(&sim->random, 50, 4 * SIM_MS);
    sim_disk_init(&sim->disk[i], sim, i,
                  sim->sqlite ? g_strdup_printf("node-%u", i) : NULL);
  }
  result->nodes = sim->nodes_n;
  result->replicas = sim->replicas_k;
  result->sqlite = sim->sqlite;
  sim->history = sim_history_new();
  sim->clients = sim_clients_new(sim);
  sim->faults = sim_faults_new(sim);
  sim->walk = sim_walk_new(sim);
  sim->linked = sim_linked_new(sim);
  return sim;
}

static void sim_free(Sim *sim) {
  sim_daemon_kill(sim);
  sim_queue_clear(&sim->queue);
  for (guint i = 1; i <= sim->nodes_all; i++) {
    g_ptr_array_unref(sim->node[i].inbox);
    sim_disk_clear(&sim->disk[i]);
  }
  sim_faults_free(sim->faults);
  sim_walk_free(sim->walk);
  sim_linked_free(sim->linked);
  sim_clients_free(sim->clients);
  sim_history_free(sim->history);
  g_free(sim);
}

/* ---- phases ---- */

static gboolean is_up(Sim *sim) {
  return sim_daemon_is_up(sim);
}

static void create(Sim *sim) {
  sim_daemon_start(sim, TRUE);
  SIM_CHECK(sim, sim_run_until(sim, is_up, 10 * SIM_SECOND), "a new store does not serve");
  SIM_CHECK(sim, qfs_coordinator_is_serving(sim->coordinator), "a new store is stuck");
  sim_clients_prepare(sim);
  sim_walk_prepare(sim);
}

static void describe(Sim *sim) {
  if (sim->coordinator == NULL || !sim->trace.on)
    return;
  QfsEngineStatus *status = g_new0(QfsEngineStatus, 1);
  qfs_coordinator_status(sim->coordinator, status);
  SIM_TRACE(sim,
            "status: epoch %" G_GUINT64_FORMAT
            " quorum %d recovering %d unsettled %" G_GUINT64_FORMAT " serving %d stuck %d quiet %d"
            " N %u resizing %d to %u/%u waits for %s",
            status->epoch, status->quorum, status->recovering, status->unsettled,
            qfs_coordinator_is_serving(sim->coordinator),
            qfs_coordinator_is_stuck(sim->coordinator), qfs_coordinator_is_quiet(sim->coordinator),
            status->nodes_in_force, status->resizing, status->wanted_nodes, status->wanted_replicas,
            status->resize_waits_for != NULL ? status->resize_waits_for : "nothing");
  for (guint i = 0; i < status->nodes; i++)
    SIM_TRACE(sim, "status: node %u state %d in sync %d lag %" G_GUINT64_FORMAT " %s", i + 1,
              status->node[i].state, status->node[i].in_sync, status->node[i].lag,
              status->node[i].reason != NULL ? status->node[i].reason : "");
  qfs_engine_status_free(status);
}

static gboolean no_intents(Sim *sim) {
  guint node;
  return sim_intents_left(sim, &node) == 0;
}

/* A batch that is over leaves no intent, or a later start would roll it forward once more. Removing them is not
 * waited for where the coordinator says that it is quiet. */
static void wait_for_intents(Sim *sim) {
  guint node = 0;
  if (sim_run_until(sim, no_intents, 5 * SIM_SECOND))
    return;
  guint n = sim_intents_left(sim, &node);
  sim_fail(sim, "node %u still has %u intents of batches that are over", node, n);
}

/* How many members the in-sync set of the newest view has. */
static guint in_sync_size(Sim *sim) {
  g_autofree QfsNodeMeta *meta = g_new0(QfsNodeMeta, 1);
  QfsView newest = {.epoch = 0};
  for (guint i = 1; i <= sim->nodes_all; i++)
    if (sim_disk_meta(&sim->disk[i], meta) && meta->view.epoch > newest.epoch)
      newest = meta->view;
  return qfs_set_size(newest.in_sync);
}

/* Beyond what must be survived lost disks may have had the only copies that were left: the store then waits for good
 * (DESIGN 1.6), and tells for which nodes: each of them did lose something, or never had anything yet, and so did W or more,
 * or all in-sync nodes. */
static gboolean may_wait_for_good(Sim *sim) {
  QfsNodeSet nodes = sim->coordinator != NULL ? qfs_coordinator_waits_for(sim->coordinator) : 0;
  QfsEngineStatus *status = g_new0(QfsEngineStatus, 1);
  guint lost = 0;
  gboolean all_lost = nodes != 0;
  if (nodes != 0)
    qfs_coordinator_status(sim->coordinator, status);
  for (guint i = 1; i <= sim->nodes_all; i++) {
    gboolean empty = sim->disk[i].ever_lost || sim->disk[i].fresh;
    lost += empty;
    all_lost = all_lost && (!qfs_set_has(nodes, i) || empty);
  }
  gboolean enough = lost >= MIN(status->write_quorum, in_sync_size(sim));
  qfs_engine_status_free(status);
  return sim->options.unlimited && all_lost && enough;
}

static void end_run(Sim *sim) {
  sim_check_linear(sim);
  sim->result->virtual_us = sim->now_us;
  sim->result->digest = sim->trace.digest;
  sim->result->lines = sim->trace.lines;
  sim->result->finished = TRUE;
}

/* DESIGN 1.6: the operator accepts the loss, of the nodes that the store names; then it goes on, with what is left. */
static void accept_loss(Sim *sim) {
  gint64 deadline_us = sim->now_us + QUIET_TIMEOUT_US;
  sim->loss_accepted = TRUE;
  while (!sim_all_is_well(sim)) {
    sim_faults_evict(sim, qfs_coordinator_waits_for(sim->coordinator));
    sim_run_for(sim, SIM_SECOND);
    if (sim->now_us > deadline_us) {
      describe(sim);
      sim_fail(sim, "not at rest %d s after all lost nodes were evicted", (int)(QUIET_TIMEOUT_US / SIM_SECOND));
    }
  }
  SIM_TRACE(sim, "at rest after lost nodes were evicted");
  sim_check_converged(sim);
  wait_for_intents(sim);
}

/* All settled, all in sync, owners agree. FALSE: it waits for good, and that is right. */
static gboolean come_to_rest(Sim *sim, const char *when) {
  gint64 deadline_us = sim->now_us + QUIET_TIMEOUT_US;
  gint64 scrub_us = sim->now_us;
  while (!sim_all_is_well(sim)) {
    /* Where everything is read from time to time, no command is needed. */
    if (sim->config.scrub_period_s == 0 && sim->now_us >= scrub_us && sim_faults_rows_are_bad(sim)) {
      sim_daemon_scrub(sim);
      scrub_us = sim->now_us + 10 * SIM_SECOND;
    }
    if (sim->now_us > deadline_us) {
      describe(sim);
      if (may_wait_for_good(sim))
        return FALSE;
      sim_fail(sim, "not at rest %d s after %s", (int)(QUIET_TIMEOUT_US / SIM_SECOND), when);
    }
    sim_run_for(sim, 20 * SIM_MS);
  }
  SIM_TRACE(sim, "at rest after %s", when);
  sim->former_n = sim->nodes_n;
  sim->former_k = sim->replicas_k;
  sim_history_settled(sim);
  sim_check_converged(sim);
  wait_for_intents(sim);
  return TRUE;
}

/* By command all tombstones go, whatever their age, and all chunk rows that no record has. */
static void collect_tombstones(Sim *sim) {
  sim_daemon_collect(sim);
  sim_run_for(sim, 12 * SIM_SECOND);
  come_to_rest(sim, "tombstones were collected");
  sim_check_collected(sim);
  sim_check_reclaimed(sim);
}

static void remove_some(Sim *sim) {
  for (guint i = 0; i < sim->history->keys->len; i++) {
    SimKey *key = g_ptr_array_index(sim->history->keys, i);
    if (key->class == SIM_KEY_DIRECTORY || sim_random_percent(&sim->random, 50))
      continue;
    SimOp *op = sim_clients_remove(sim, key);
    SIM_CHECK(sim, op->outcome == SIM_APPLIED || op->status == QFS_NOT_FOUND, "%s", sim_op_text(op));
  }
}

static void read_everything(Sim *sim, const char *when) {
  for (guint i = 0; i < sim->history->keys->len; i++) {
    SimOp *op = sim_clients_get(sim, g_ptr_array_index(sim->history->keys, i));
    SIM_CHECK(sim, op->outcome == SIM_ANSWERED, "%s: %s", when, sim_op_text(op));
  }
}

/* DESIGN 1.9: what a replica had before the deletes does not come back, though the deletes are forgotten. */
static void restore_after_collecting(Sim *sim) {
  guint number = 1 + sim_random_below(&sim->random, sim->nodes_n);
  sim_disk_keep_copy(&sim->disk[number]);
  remove_some(sim);
  collect_tombstones(sim);
  sim_node_crash(sim, number, "injected: an old copy");
  sim_disk_damage(&sim->disk[number], SIM_DAMAGE_OLD_COPY);
  sim_run_for(sim, SIM_SECOND);
  come_to_rest(sim, "a copy from before the deletes was restored");
}

static gboolean others_are_well(Sim *sim) {
  return sim_all_is_well_but_held(sim);
}

/* DESIGN 1.9: deletes are forgotten without a node that was given up, and what it had does not come back with it. */
static void evict_before_collecting(Sim *sim) {
  sim_faults_evict_one(sim);
  sim_run_for(sim, TAKE_OVER_US);
  SIM_CHECK(sim, sim_run_until(sim, others_are_well, QUIET_TIMEOUT_US), "the others do not settle after a node was evicted");
  remove_some(sim);
  sim_daemon_collect(sim);
  sim_run_for(sim, 12 * SIM_SECOND);
  sim_faults_stop(sim);
  come_to_rest(sim, "an evicted node came back");
  read_everything(sim, "after an evicted node came back");
  collect_tombstones(sim);
}

static void change_everything(Sim *sim, const char *when) {
  for (guint i = 0; i < sim->history->keys->len; i++) {
    SimOp *op = sim_clients_change(sim, g_ptr_array_index(sim->history->keys, i));
    gboolean right = op->outcome == SIM_APPLIED || op->status == QFS_NOT_FOUND ||
                     (op->status == QFS_OVERFLOW && op->key->class == SIM_KEY_STAMPED);
    SIM_CHECK(sim, right, "%s: %s", when, sim_op_text(op));
  }
}

/* DESIGN 1.8, 1.11: what no number explains is found by comparing all holders, and mended; before that a lost chunk
 * row is nothing that a reader or a writer sees. */
static void plant_and_scrub(Sim *sim) {
  if (sim_random_percent(&sim->random, 50))
    return;
  sim_faults_lose_chunks(sim);
  if (sim_random_percent(&sim->random, 50)) { /* before anybody looks for them */
    read_everything(sim, "with lost chunk rows");
    if (sim_random_percent(&sim->random, 50))
      change_everything(sim, "with lost chunk rows");
    read_everything(sim, "with lost chunk rows, again");
  } else {
    sim_faults_plant(sim);
  }
  guint64 runs = sim_daemon_scrubs(sim);
  if (sim->config.scrub_period_s == 0)
    sim_daemon_scrub(sim);
  gint64 deadline_us = sim->now_us + QUIET_TIMEOUT_US;
  while (sim_daemon_scrubs(sim) < runs + 2) { /* one may have passed the place before */
    SIM_CHECK(sim, sim->now_us < deadline_us, "no scrub comes to its end");
    sim_run_for(sim, 20 * SIM_MS);
    if (sim->config.scrub_period_s == 0 && sim_daemon_scrubs(sim) == runs + 1)
      break;
  }
  for (guint i = 1; i <= sim->nodes_n; i++)
    g_hash_table_remove_all(sim->disk[i].planted); /* from here on they count as mended */
  come_to_rest(sim, "rows were changed silently");
}

static void clients_and_faults(Sim *sim) {
  /* SQLite takes twenty times as long: such seeds are shorter, and there are more of them for that. */
  guint operations = sim->sqlite ? 60 + sim_random_below(&sim->random, 80) : 220 + sim_random_below(&sim->random, 160);
  gint64 begin_us = sim->now_us;
  sim_clients_start(sim, operations);
  sim_walk_start(sim);
  sim_linked_start(sim);
  sim_faults_start(sim, sim->fast ? sim_random_spread(&sim->random, 10 * SIM_MS, 120 * SIM_MS)
                                  : sim_random_spread(&sim->random, 10 * SIM_MS, 1 * SIM_SECOND));
  SIM_CHECK(sim, sim_run_until(sim, sim_clients_are_idle, 3600 * (gint64)SIM_SECOND),
            "clients are not done after an hour");
  SIM_TRACE(sim, "clients are done after %" G_GINT64_FORMAT " us", sim->now_us - begin_us);
  sim_walk_stop(sim);
  sim_linked_stop(sim);
  sim_faults_stop(sim);
}

/* DESIGN 1.7: past what it must survive it may refuse, and answers nothing that is not right. */
static void fail_one_more(Sim *sim) {
  if (sim_random_percent(&sim->random, 50))
    return;
  for (guint i = 0; i < 2; i++) {
    sim_faults_break_one_more(sim);
    sim_run_for(sim, sim_random_spread(&sim->random, 1 * SIM_MS, 4 * SIM_SECOND));
    for (guint k = 0; k < sim->history->keys->len; k++) {
      sim_clients_get(sim, g_ptr_array_index(sim->history->keys, k));
      if (sim_random_percent(&sim->random, 20))
        sim_clients_change(sim, g_ptr_array_index(sim->history->keys, k));
    }
  }
}

/* DESIGN 1.6: of settled data, so many nodes may fail at once, and every key reads and writes. */
static void fail_at_once(Sim *sim) {
  guint n = sim_faults_survivable(sim);
  if (n == 0)
    return;
  sim_faults_break(sim, n);
  sim_run_for(sim, TAKE_OVER_US);
  read_everything(sim, "with nodes down");
  if (sim_random_percent(&sim->random, 70)) { /* else what follows finds old rows at stand-ins */
    change_everything(sim, "with nodes down");
    read_everything(sim, "with nodes down, after changes");
  }
  fail_one_more(sim);
  sim_faults_stop(sim);
  come_to_rest(sim, "nodes were down");
}


/* DESIGN 1.6: and so may any minority, one after another with settling in between. */
static void fail_in_turn(Sim *sim) {
  guint n = sim->replicas_k > 1 ? (sim->nodes_n - 1) / 2 : 0;
  if (n == 0)
    return;
  for (guint i = 0; i < n; i++) {
    sim_faults_break(sim, 1);
    sim_run_for(sim, TAKE_OVER_US);
    if (!sim_run_until(sim, others_are_well, QUIET_TIMEOUT_US)) {
      describe(sim);
      sim_fail(sim, "the others do not settle after %u nodes failed one after another", i + 1);
    }
  }
  read_everything(sim, "with a minority down, one after another");
  if (sim_random_percent(&sim->random, 70)) {
    change_everything(sim, "with a minority down, one after another");
    read_everything(sim, "with a minority down, after changes");
  }
  fail_one_more(sim);
  sim_faults_stop(sim);
  come_to_rest(sim, "nodes were down one after another");
}

static void restart(Sim *sim) {
  gboolean in_good_order = sim_random_percent(&sim->random, 50);
  sim_faults_restart(sim, in_good_order);
  sim_run_for(sim, 6 * SIM_SECOND);
  come_to_rest(sim, in_good_order ? "a restart" : "kill -9 and a restart");
}

void sim_run_seed(const SimOptions *options, const SimTrace *trace, SimResult *result) {
  Sim *sim = sim_new(options, trace, result);
  SIM_TRACE(sim, "seed %" G_GUINT64_FORMAT ": %u nodes, %u replicas%s%s%s", options->seed,
            sim->nodes_n, sim->replicas_k, sim->sqlite ? ", sqlite" : "",
            sim->config.sync ? ", sync" : "", sim->reorder ? ", reordering" : "");
  create(sim);
  clients_and_faults(sim);
  if (!come_to_rest(sim, "faults ended")) {
    sim->result->waiting = TRUE;
    end_run(sim);
    accept_loss(sim);
    sim_free(sim);
    return;
  }
  for (guint i = 1; i <= sim->nodes_n; i++)
    sim->disk[i].ever_lost = FALSE;
  read_everything(sim, "after faults");
  sim_walk_check(sim, "faults");
  sim_linked_check(sim, "faults");
  plant_and_scrub(sim);
  if (sim_random_percent(&sim->random, 65))
    fail_at_once(sim);
  else
    fail_in_turn(sim);
  change_everything(sim, "after healing");
  come_to_rest(sim, "every key changed");
  restart(sim);
  read_everything(sim, "after the restart");
  sim_walk_check(sim, "the restart");
  sim_linked_check(sim, "the restart");
  guint end = sim_faults_survivable(sim) > 0 ? sim_random_below(&sim->random, 100) : 100;
  if (end < 40)
    restore_after_collecting(sim);
  else if (end < 70)
    evict_before_collecting(sim);
  else
    collect_tombstones(sim);
  read_everything(sim, "after tombstones were collected");
  sim_walk_check(sim, "tombstones were collected");
  sim_linked_check(sim, "tombstones were collected");
  end_run(sim);
  sim_free(sim);
}
