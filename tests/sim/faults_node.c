/* faults_node.c - faults of one node: its process, its links, its disk, and giving it up. */
#include "faults_private.h"

#include "check.h"
#include "moments.h"

gboolean sim_faults_may_break(const Sim *sim, guint node) {
  const SimFaults *faults = sim->faults;
  return sim->options.unlimited || qfs_set_has(faults->broken, node) ||
         qfs_set_size(faults->broken) < sim_faults_survivable(sim);
}

static void cut_one_way(Sim *sim, SimNode *node) {
  gboolean to = sim_random_percent(dice(sim), 50);
  node->to.cut = to;
  node->from.cut = !to;
}

/* DESIGN 1.6: a version that is not settled survives W-1 losses, and as many nodes may fail at once as
 * the budget says; nodes that have not yet caught up again count, whatever made them fall behind. */
gboolean sim_faults_may_lose(Sim *sim, guint number) {
  guint lost = 1, behind = 1;
  if (sim->coordinator == NULL)
    return FALSE;
  const QfsNodeSet in_sync = qfs_coordinator_in_sync(sim->coordinator);
  for (guint i = 1; i <= sim->config.nodes; i++) {
    lost += i != number && sim->disk[i].lost;
    behind += i != number && !qfs_set_has(in_sync, i);
  }
  return lost < sim_write_quorum(sim) &&
         (sim->options.unlimited || behind <= sim_faults_survivable(sim));
}

static SimDamage damage_of(Sim *sim, FaultKind kind) {
  static const SimDamage other[] = {SIM_DAMAGE_NO_LOG, SIM_DAMAGE_NO_FILE, SIM_DAMAGE_TRUNCATE,
                                    SIM_DAMAGE_GARBAGE};
  switch (kind) {
  case FAULT_OLD_COPY:
    return SIM_DAMAGE_OLD_COPY;
  case FAULT_ROT:
    return SIM_DAMAGE_FLIP;
  case FAULT_DAMAGE:
    return other[sim_random_below(dice(sim), G_N_ELEMENTS(other))];
  default:
    return SIM_DAMAGE_DELETE;
  }
}

static void damage_disk(Sim *sim, FaultKind kind, guint number) {
  sim_node_crash(sim, number, "injected: damage");
  /* Nobody can know what such a copy lost. One loss is survived as any other (DESIGN 1.6); but where other nodes may be
   * away beside that, a key whose newest version was there can't be told to be hidden. */
  if (kind == FAULT_OLD_COPY && sim->options.unlimited && sim_disk_copy_is_recent(&sim->disk[number]))
    return;
  sim_disk_damage(&sim->disk[number], damage_of(sim, kind));
}

/* ---- giving up a node ---- */

typedef struct {
  Sim *sim;
  guint node, run;
} Evict;

static void on_evicted(QfsRequest *request, gpointer data) {
  Evict *evict = data;
  SIM_TRACE(evict->sim, "evicting node %u: %s", evict->node, qfs_status_name(request->status));
  g_free(evict);
  qfs_request_free(request);
}

/* The node is closed. Its disk keeps what it has, unless it is broken too; it will be back with that. */
static void on_evict(Sim *sim, gpointer data) {
  Evict *evict = data;
  guint number = evict->node;
  gboolean gone = sim->coordinator == NULL || sim->run != evict->run ||
                  !qfs_set_has(sim->faults->held, number) || sim->node[number].started;
  if (gone || !sim_faults_may_lose(sim, number)) {
    g_free(evict);
    return;
  }
  if (sim_random_percent(dice(sim), 30))
    sim_disk_damage(&sim->disk[number],
                    sim_random_percent(dice(sim), 50) ? SIM_DAMAGE_OLD_COPY : SIM_DAMAGE_DELETE);
  sim->disk[number].lost = sim->disk[number].ever_lost = sim->disk[number].rolled_back = TRUE;
  sim_faults_ask_node_then(sim, number, QFS_NODE_EVICT, on_evicted, evict);
}

static void on_closed_to_evict(QfsRequest *request, gpointer data) {
  Evict *evict = data;
  if (request->status == QFS_OK)
    sim_after(evict->sim, sim_random_spread(dice(evict->sim), 1, 2 * SIM_SECOND), on_evict, evict);
  else
    g_free(evict);
  qfs_request_free(request);
}

static void evict_node(Sim *sim, guint number) {
  Evict *evict = g_new(Evict, 1);
  *evict = (Evict){.sim = sim, .node = number, .run = sim->run};
  sim_faults_ask_node_then(sim, number, sim_random_percent(dice(sim), 70) ? QFS_NODE_CRASH : QFS_NODE_DOWN,
                on_closed_to_evict, evict);
}

/* ---- all kinds ---- */

/* Steps of a SQLite replica fail where they happen: in its files. */
static void fail_files(Sim *sim, guint number) {
  SimVolume *volume = sim->disk[number].volume;
  volume->spare = !sim_faults_may_lose(sim, number);
  if (!volume->spare)
    sim->disk[number].lost = sim->disk[number].ever_lost = sim->disk[number].rolled_back = TRUE;
  volume->stay = sim_random_percent(dice(sim), 50);
  volume->fail_in = (guint)sim_random_spread(dice(sim), 1, 400);
}

static void rot_rows(Sim *sim, guint number) {
  guint n = 1 + sim_random_below(dice(sim), 4);
  for (guint i = 0; i < n; i++) {
    if (sim_random_percent(dice(sim), 40)) {
      sim_disk_rot_chunk(&sim->disk[number]);
      continue;
    }
    const SimKey *key = g_ptr_array_index(sim->history->keys, sim_random_below(dice(sim), sim->history->keys->len));
    sim_disk_rot_row(&sim->disk[number], key->name);
  }
}

void sim_faults_break_node(Sim *sim, FaultKind kind, guint number) {
  SimNode *node = &sim->node[number];
  SimDisk *disk = &sim->disk[number];
  sim->faults->broken |= QFS_NODE_BIT(number);
  sim->faults->held |= QFS_NODE_BIT(number);
  switch (kind) {
  case FAULT_CRASH:
    sim_node_crash(sim, number, "injected: crash");
    break;
  case FAULT_CRASH_REQUEST:
    sim_faults_ask_node(sim, number, QFS_NODE_CRASH);
    break;
  case FAULT_DOWN_REQUEST:
    sim_faults_ask_node(sim, number, QFS_NODE_DOWN);
    break;
  case FAULT_CRASH_AT_COMMIT:
    disk->crash_point =
        sim_random_percent(dice(sim), 50) ? SIM_CRASH_BEFORE_COMMIT : SIM_CRASH_AFTER_COMMIT;
    disk->crash_in = (guint)sim_random_spread(dice(sim), 1, 20);
    break;
  case FAULT_IO_ERROR:
    if (disk->volume != NULL && sim_random_percent(dice(sim), 80))
      fail_files(sim, number);
    else
      disk->fail_in = (guint)sim_random_spread(dice(sim), 1, 60);
    break;
  case FAULT_READ_ERROR:
    if (disk->volume != NULL)
      disk->volume->read_fail_in = (guint)sim_random_spread(dice(sim), 1, 200);
    else
      disk->read_fail_in = 1 + sim_random_below(dice(sim), 4);
    break;
  case FAULT_FULL_DISK:
    disk->full = TRUE;
    if (disk->volume != NULL)
      disk->volume->full = TRUE;
    break;
  case FAULT_PARTITION:
    node->to.cut = node->from.cut = TRUE;
    break;
  case FAULT_ONE_WAY:
    cut_one_way(sim, node);
    break;
  case FAULT_CRASH_AT_MESSAGE:
    sim_moments_set(sim, SIM_MOMENT_CRASH);
    break;
  case FAULT_SLOW:
    node->to.delay_us = sim_random_spread(dice(sim), SIM_MS, 4 * SIM_SECOND);
    node->from.delay_us = sim_random_percent(dice(sim), 50) ? 0 : node->to.delay_us;
    break;
  case FAULT_LOSSY_NODE:
    node->to.loss_percent = sim_random_below(dice(sim), 60);
    node->from.loss_percent = sim_random_below(dice(sim), 60);
    break;
  case FAULT_BAD_ROWS:
    rot_rows(sim, number);
    break;
  case FAULT_DISK_LOST:
  case FAULT_OLD_COPY:
  case FAULT_ROT:
  case FAULT_DAMAGE:
    damage_disk(sim, kind, number);
    break;
  case FAULT_EVICT:
    evict_node(sim, number);
    break;
  default:
    g_assert_not_reached();
  }
}

/* A node that may be broken now; 0: none. */
guint sim_faults_pick_node(Sim *sim) {
  SimFaults *faults = sim->faults;
  faults->broken &= qfs_set_all(sim->config.nodes);
  gboolean more =
      sim->options.unlimited || qfs_set_size(faults->broken) < sim_faults_survivable(sim);
  QfsNodeSet among = more ? qfs_set_all(sim->config.nodes) : faults->broken;
  guint n = qfs_set_size(among);
  if (n == 0)
    return 0;
  guint skip = sim_random_below(dice(sim), n);
  for (guint i = 1; i <= sim->config.nodes; i++)
    if (qfs_set_has(among, i) && skip-- == 0)
      return i;
  g_assert_not_reached();
}
