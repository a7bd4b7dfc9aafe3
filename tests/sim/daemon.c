/* daemon.c - lives and deaths: the daemon (coordinator and all nodes at once) and single node
 * processes. */
#include "check.h"
#include "history.h"
#include "sim.h"

#include <string.h>

/* ---- node processes ---- */

/* What the coordinator hears when a process has ended. */
typedef struct {
  guint number;
  guint64 incarnation;
  char *reason;
} Gone;

static void gone_free(gpointer data) {
  Gone *gone = data;
  g_free(gone->reason);
  g_free(gone);
}

static void on_gone(Sim *sim, gpointer data) {
  Gone *gone = data;
  SIM_TRACE(sim, "node %u.%" G_GUINT64_FORMAT " is gone: %s", gone->number, gone->incarnation,
            gone->reason != NULL ? gone->reason : "as asked");
  qfs_coordinator_node_gone(sim->coordinator, gone->number, gone->incarnation, gone->reason);
  gone_free(gone);
}

static void close_node(SimNode *node) {
  g_clear_pointer(&node->reader, qfs_replica_close);
  g_clear_pointer(&node->node, qfs_node_free);
  g_ptr_array_set_size(node->inbox, 0);
  node->started = FALSE;
}

/* Ends the process and lets the coordinator know, once per process. */
static void end_node(Sim *sim, SimNode *node, const char *reason) {
  if (!node->started)
    return;
  close_node(node);
  Gone *gone = g_new(Gone, 1);
  *gone = (Gone){.number = node->number, .incarnation = node->process, .reason = g_strdup(reason)};
  sim_after_in_run(sim, sim_random_range(&sim->random, 10, 5 * SIM_MS), on_gone, gone, gone_free);
}

static QfsNode *try_open(Sim *sim, SimNode *node, GError **error) {
  QfsReplica *replica = sim_disk_open(&sim->disk[node->number], TRUE, error);
  if (replica == NULL)
    return NULL;
  return qfs_node_new(&sim->env, node->number, node->process, replica, error);
}

static void on_node_opens(Sim *sim, gpointer data) {
  guint number = GPOINTER_TO_UINT(data);
  SimNode *node = &sim->node[number];
  if (!node->started || node->node != NULL)
    return; /* stopped meanwhile */
  g_autoptr(GError) error = NULL;
  node->node = try_open(sim, node, &error);
  if (g_error_matches(error, QFS_REPLICA_ERROR, QFS_REPLICA_ERROR_CORRUPT) ||
      g_error_matches(error, QFS_REPLICA_ERROR, QFS_REPLICA_ERROR_FOREIGN)) {
    sim_disk_set_aside(&sim->disk[number]);
    g_clear_error(&error);
    node->node = try_open(sim, node, &error);
  }
  SIM_TRACE(sim, "node %u.%" G_GUINT64_FORMAT " opens: %s", number, node->process,
            node->node != NULL ? "ok" : error->message);
  if (node->node == NULL)
    end_node(sim, node, error->message);
  else
    sim_env_poke(sim, node);
}

void sim_node_set_aside(Sim *sim, SimNode *node, const QfsMessage *wipe) {
  if (qfs_node_meta(node->node) == NULL || node->aside_incarnation == wipe->incarnation)
    return;
  g_autofree QfsNodeMeta *meta = g_memdup2(qfs_node_meta(node->node), sizeof *meta);
  g_autoptr(GError) error = NULL;
  node->aside_incarnation = wipe->incarnation;
  meta->mark = meta->settled = 0;
  g_clear_pointer(&node->reader, qfs_replica_close);
  g_clear_pointer(&node->node, qfs_node_free);
  sim_check_wipe(sim, node->number);
  sim_disk_set_aside(&sim->disk[node->number]);
  g_autoptr(QfsReplica) replica = sim_disk_open(&sim->disk[node->number], TRUE, &error);
  if (replica != NULL && replica->ops->begin(replica, &error) &&
      replica->ops->meta_store(replica, meta, &error) && replica->ops->commit(replica, TRUE, &error))
    node->node =
        qfs_node_new(&sim->env, node->number, wipe->incarnation, g_steal_pointer(&replica), &error);
  if (node->node == NULL) {
    if (replica != NULL)
      replica->ops->rollback(replica);
    g_clear_pointer(&replica, qfs_replica_close);
    end_node(sim, node, error->message);
    return;
  }
  qfs_node_note_aside(node->node, wipe->aside, TRUE);
}

void sim_node_start(Sim *sim, guint number, guint64 incarnation) {
  SimNode *node = &sim->node[number];
  SIM_CHECK(sim, !node->started, "node %u was started while it runs", number);
  node->started = TRUE;
  node->process = incarnation;
  node->aside_incarnation = 0;
  sim_after_in_run(sim, sim_random_spread(&sim->random, 100, 20 * SIM_MS), on_node_opens,
                   GUINT_TO_POINTER(number), NULL);
}

typedef struct {
  guint number;
  guint64 process;
} Stop;

static void on_node_stops(Sim *sim, gpointer data) {
  Stop *stop = data;
  SimNode *node = &sim->node[stop->number];
  if (node->process == stop->process)
    end_node(sim, node, NULL);
  g_free(stop);
}

void sim_node_stop(Sim *sim, guint number) {
  Stop *stop = g_new(Stop, 1);
  *stop = (Stop){.number = number, .process = sim->node[number].process};
  sim_after_in_run(sim, sim_random_range(&sim->random, 10, 5 * SIM_MS), on_node_stops, stop,
                   g_free);
}

static void on_node_removed(Sim *sim, gpointer data) {
  Stop *stop = data;
  SimNode *node = &sim->node[stop->number];
  SimDisk *disk = &sim->disk[stop->number];
  SIM_TRACE(sim, "node %u is removed", stop->number);
  close_node(node);
  sim_disk_damage(disk, SIM_DAMAGE_DELETE);
  disk->lost = FALSE; /* nothing of it is missed */
  disk->rolled_back = TRUE;
  node->started = TRUE;
  node->process = stop->process;
  end_node(sim, node, NULL);
  g_free(stop);
}

void sim_node_remove(Sim *sim, guint number, guint64 incarnation) {
  Stop *stop = g_new(Stop, 1);
  *stop = (Stop){.number = number, .process = incarnation};
  sim_after_in_run(sim, sim_random_range(&sim->random, 10, 5 * SIM_MS), on_node_removed, stop, g_free);
}

void sim_node_crash(Sim *sim, guint number, const char *reason) {
  if (!sim->node[number].started)
    return;
  sim->result->node_crashes++;
  SIM_TRACE(sim, "node %u crashes", number);
  sim->disk[number].dying = TRUE;
  end_node(sim, &sim->node[number], reason);
  sim->disk[number].dying = FALSE;
}

/* ---- the daemon ---- */

/* All nodes above N are gone: store.conf forgets them. */
static void on_resized(gpointer data) {
  Sim *sim = data;
  sim->config.nodes = sim->asked_n;
}

static void on_resize(Sim *sim, gpointer unused) {
  sim->config.nodes = MAX(sim->config.nodes, sim->nodes_n);
  sim->asked_n = sim->nodes_n;
  sim->asked_in = sim->run;
  qfs_coordinator_resize(sim->coordinator, sim->nodes_n, sim->replicas_k);
}

/* What the daemon does once it serves: store.conf is written, which may take a while, with every node that may be opened
 * from now on. */
static void on_may_resize(Sim *sim, gpointer unused) {
  const gboolean serves = qfs_coordinator_is_serving(sim->coordinator);
  gint64 us = SIM_MS;
  if (serves)
    us = sim_random_percent(&sim->random, 60) ? 0 : sim_random_spread(&sim->random, 100, 60 * SIM_MS);
  sim_after_in_run(sim, us, serves ? on_resize : on_may_resize, NULL, NULL);
}

void sim_daemon_resize(Sim *sim, guint nodes, guint replicas) {
  SIM_TRACE(sim, "the store is to have %u nodes and %u replicas", nodes, replicas);
  for (guint i = MIN(nodes, sim->nodes_n) + 1; i <= sim->nodes_all; i++)
    sim->disk[i].rolled_back = sim->disk[i].fresh = TRUE; /* what it has, if anything, is to go */
  sim->nodes_n = nodes;
  sim->replicas_k = replicas;
  sim->former_n = MIN(sim->former_n, nodes);
  sim->former_k = MIN(sim->former_k, replicas);
}

void sim_daemon_start(Sim *sim, gboolean create) {
  g_assert(sim->coordinator == NULL);
  sim->config.create = create;
  if (!create)
    sim->config.replicas = 1; /* not asked for */
  sim->config.changed = sim_check_changed;
  sim->config.changed_data = sim;
  sim->config.watch = sim_trust_told;
  sim->config.watch_data = sim;
  sim->config.resized = on_resized;
  sim->config.resized_data = sim;
  sim->run++;
  sim->wake_us = G_MAXINT64;
  sim->wake_id++;
  for (guint i = 1; i <= sim->nodes_all; i++) /* incarnations are counted anew */
    sim->disk[i].wiped_incarnation = 0;
  SIM_TRACE(sim, "daemon starts, life %u", sim->run);
  sim->coordinator = qfs_coordinator_new(&sim->env, &sim->config);
  qfs_coordinator_start(sim->coordinator);
  sim_after_in_run(sim, 0, on_may_resize, NULL, NULL);
}

static void add_counts(Sim *sim) {
  QfsEngineStatus *status = g_new0(QfsEngineStatus, 1);
  qfs_coordinator_status(sim->coordinator, status);
  sim->result->hedged += status->count.hedged;
  qfs_engine_status_free(status);
}

void sim_daemon_kill(Sim *sim) {
  if (sim->coordinator == NULL)
    return;
  add_counts(sim);
  SIM_TRACE(sim, "daemon is killed");
  sim->result->crashes++;
  /* What freeing emits is bound to the life that ends here, and so never happens. */
  g_clear_pointer(&sim->coordinator, qfs_coordinator_free);
  sim_check_changes_forget(sim);
  for (guint i = 1; i <= sim->nodes_all; i++) {
    sim->disk[i].dying = TRUE;
    close_node(&sim->node[i]);
    sim->disk[i].dying = FALSE;
    sim->node[i].working = FALSE;
    sim->node[i].to.last_us = sim->node[i].from.last_us = 0;
  }
  sim->run++;
}

void sim_daemon_lose_power(Sim *sim) {
  sim_daemon_kill(sim);
  SIM_TRACE(sim, "power is lost");
  if (sim->power_losses++ == 0)
    sim->first_power_loss_us = sim->now_us;
  for (guint i = 1; i <= sim->nodes_all; i++)
    sim_disk_lose_power(&sim->disk[i]);
  /* A machine that boots anew counts from near zero. */
  sim->monotonic_base_us = sim->now_us - sim_random_range(&sim->random, 0, SIM_SECOND);
  sim_history_power_lost(sim);
}

gboolean sim_daemon_is_up(const Sim *sim) {
  return sim->coordinator != NULL && !sim->closing &&
         (qfs_coordinator_is_serving(sim->coordinator) ||
          qfs_coordinator_is_stuck(sim->coordinator));
}

static void on_collect_answered(QfsRequest *request, gpointer user_data) {
  qfs_request_free(request);
}

void sim_daemon_collect(Sim *sim) {
  sim->collect_forced = TRUE;
  if (sim->coordinator != NULL)
    qfs_coordinator_submit(sim->coordinator,
                           qfs_request_new(QFS_REQUEST_GC, NULL, on_collect_answered, NULL));
}

void sim_daemon_scrub(Sim *sim) {
  if (sim->coordinator == NULL)
    return;
  QfsRequest *request = qfs_request_new(QFS_REQUEST_SCRUB, NULL, on_collect_answered, NULL);
  request->flags = QFS_SCRUB_VERIFY;
  qfs_coordinator_submit(sim->coordinator, request);
}

guint64 sim_daemon_scrubs(Sim *sim) {
  return sim->coordinator != NULL ? qfs_coordinator_scrubs(sim->coordinator) : 0;
}
