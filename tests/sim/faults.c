/* faults.c - see faults.h. */
#include "faults.h"

#include "check.h"
#include "cluster/placement.h"
#include "check.h"
#include "moments.h"

#include <string.h>

/* How often broken nodes are looked after. */
#define CARE_US (200 * SIM_MS)

typedef enum {
  /* of the whole store */
  FAULT_KILL,
  FAULT_POWER,
  FAULT_SHUTDOWN,
  FAULT_CLOCK,
  FAULT_RESIZE,
  FAULT_LOSSY_LINKS,
  FAULT_DUPLICATES,
  FAULT_KILL_AT_MESSAGE,
  FAULT_KILL_AT_ACK,
  FAULT_CLOCK_AT_START,
  FAULT_KILL_AND_AWAY,
  FAULT_LATE_COPY,
  FAULT_COLLECT,
  FAULT_SCRUB,
  /* of one node */
  FAULT_CRASH_AT_MESSAGE,
  FAULT_CRASH,
  FAULT_CRASH_REQUEST,
  FAULT_DOWN_REQUEST,
  FAULT_CRASH_AT_COMMIT,
  FAULT_IO_ERROR,
  FAULT_READ_ERROR,
  FAULT_FULL_DISK,
  FAULT_PARTITION,
  FAULT_ONE_WAY,
  FAULT_SLOW,
  FAULT_LOSSY_NODE,
  /* of one node's disk */
  FAULT_BAD_ROWS,
  FAULT_DISK_LOST,
  FAULT_OLD_COPY,
  FAULT_ROT,
  FAULT_DAMAGE,
  FAULT_EVICT,
  FAULT_PLANTED, /* between the phases: sim_faults_plant */
  FAULT_KINDS,
} FaultKind;

static const char *const kind_names[FAULT_KINDS] = {
    [FAULT_KILL] = "kill",
    [FAULT_POWER] = "power loss",
    [FAULT_SHUTDOWN] = "shutdown",
    [FAULT_CLOCK] = "clock jump",
    [FAULT_LOSSY_LINKS] = "lossy links",
    [FAULT_DUPLICATES] = "duplicates",
    [FAULT_KILL_AT_MESSAGE] = "kill at a message",
    [FAULT_KILL_AT_ACK] = "kill at an acknowledgement",
    [FAULT_CLOCK_AT_START] = "clock jump between lives",
    [FAULT_KILL_AND_AWAY] = "kill at a message, its node away at the start",
    [FAULT_LATE_COPY] = "late copy of a message",
    [FAULT_COLLECT] = "gc command",
    [FAULT_SCRUB] = "scrub command",
    [FAULT_CRASH_AT_MESSAGE] = "crash at a message",
    [FAULT_CRASH] = "crash",
    [FAULT_CRASH_REQUEST] = "crash request",
    [FAULT_DOWN_REQUEST] = "down request",
    [FAULT_CRASH_AT_COMMIT] = "crash at commit",
    [FAULT_IO_ERROR] = "io error",
    [FAULT_READ_ERROR] = "read error",
    [FAULT_FULL_DISK] = "full disk",
    [FAULT_PARTITION] = "partition",
    [FAULT_ONE_WAY] = "one-way partition",
    [FAULT_RESIZE] = "other N or K",
    [FAULT_SLOW] = "slow node",
    [FAULT_LOSSY_NODE] = "lossy node",
    [FAULT_BAD_ROWS] = "bad rows",
    [FAULT_DISK_LOST] = "disk lost",
    [FAULT_OLD_COPY] = "old copy",
    [FAULT_ROT] = "bit rot",
    [FAULT_DAMAGE] = "damaged files",
    [FAULT_EVICT] = "evicted",
    [FAULT_PLANTED] = "silent changes",
};
G_STATIC_ASSERT(FAULT_KINDS <= SIM_FAULT_KINDS_MAX);

const char *sim_fault_name(guint kind) {
  return kind < FAULT_KINDS ? kind_names[kind] : NULL;
}

static void count(Sim *sim, FaultKind kind) {
  sim->result->faults++;
  sim->result->fault_count[kind]++;
}

struct SimFaults {
  gboolean active;
  gint64 gap_us;
  guint enabled[FAULT_KINDS]; /* weights */
  QfsNodeSet broken;
  QfsNodeSet held; /* of those: the fault itself is not over */
  gboolean caring, starting;
  guint64 heal_id[QFS_NODES_MAX + 1]; /* an older plan to heal is void */
  /* A node that was away is first seen by the start of another life: with what nobody else has. */
  gboolean back_at_a_start[QFS_NODES_MAX + 1];
  gboolean was_in_sync[QFS_NODES_MAX + 1]; /* when it was looked at last */
};

static SimRandom *dice(Sim *sim) {
  return &sim->random;
}

static const guint usual_weight[FAULT_KINDS] = {
    [FAULT_KILL] = 10,        [FAULT_POWER] = 3,
    [FAULT_SHUTDOWN] = 4,     [FAULT_CLOCK] = 6,
    [FAULT_RESIZE] = 6,
    [FAULT_LOSSY_LINKS] = 8,  [FAULT_DUPLICATES] = 5,
    [FAULT_CRASH] = 10,       [FAULT_CRASH_REQUEST] = 5,
    [FAULT_DOWN_REQUEST] = 5, [FAULT_CRASH_AT_COMMIT] = 10,
    [FAULT_IO_ERROR] = 7,     [FAULT_READ_ERROR] = 4,
    [FAULT_FULL_DISK] = 5,    [FAULT_PARTITION] = 10,
    [FAULT_SLOW] = 7,         [FAULT_LOSSY_NODE] = 6,
    [FAULT_KILL_AT_MESSAGE] = 9, [FAULT_KILL_AT_ACK] = 5,
    [FAULT_CRASH_AT_MESSAGE] = 4, [FAULT_ONE_WAY] = 6,
    [FAULT_BAD_ROWS] = 8,
    [FAULT_DISK_LOST] = 3,    [FAULT_OLD_COPY] = 5,
    [FAULT_ROT] = 4,          [FAULT_DAMAGE] = 4,
    [FAULT_KILL_AND_AWAY] = 7, [FAULT_LATE_COPY] = 9,
    [FAULT_EVICT] = 5,
    [FAULT_COLLECT] = 4,      [FAULT_SCRUB] = 2,
};

SimFaults *sim_faults_new(Sim *sim) {
  SimFaults *faults = g_new0(SimFaults, 1);
  gboolean power = sim_random_percent(dice(sim), 35);
  for (guint kind = 0; kind < FAULT_KINDS; kind++)
    faults->enabled[kind] = sim_random_percent(dice(sim), 60) ? usual_weight[kind] : 0;
  faults->enabled[FAULT_KILL] = usual_weight[FAULT_KILL];
  if (!power)
    faults->enabled[FAULT_POWER] = 0;
  return faults;
}

void sim_faults_free(SimFaults *faults) {
  g_free(faults);
}

guint sim_faults_survivable(const Sim *sim) {
  return MIN(sim->former_k - 1, (sim->former_n - 1) / 2);
}

/* ---- looking after broken nodes ---- */

static void request_over(QfsRequest *request, gpointer unused) {
  qfs_request_free(request);
}

static void ask_node_then(Sim *sim, guint node, QfsNodeAction action, QfsRequestDone done,
                          gpointer data) {
  if (sim->coordinator == NULL)
    return;
  QfsRequest *request = qfs_request_new(QFS_REQUEST_NODE, NULL, done, data);
  request->node = node;
  request->action = action;
  qfs_coordinator_submit(sim->coordinator, request);
}

static void ask_node(Sim *sim, guint node, QfsNodeAction action) {
  ask_node_then(sim, node, action, request_over, NULL);
}

static QfsNodeSet closed_nodes(const Sim *sim) {
  QfsNodeSet closed = 0;
  for (guint i = 1; i <= sim->config.nodes; i++) {
    QfsNodeState state = qfs_coordinator_node_state(sim->coordinator, i);
    if (state == QFS_NODE_STATE_DOWN || state == QFS_NODE_STATE_CRASHED || state == QFS_NODE_STATE_FAILED ||
        state == QFS_NODE_STATE_EVICTED)
      closed |= QFS_NODE_BIT(i);
  }
  return closed;
}

/* A node on a bad link may be given what it lacks much later. */
static void look_whether_whole(Sim *sim, guint node, gboolean is_in_sync) {
  const SimLink *to = &sim->node[node].to;
  gboolean good = !to->cut && to->loss_percent == 0 && to->delay_us == 0;
  gboolean in_sync = is_in_sync && sim->node[node].node != NULL && sim_daemon_is_up(sim);
  if (in_sync && !sim->faults->was_in_sync[node] && good)
    sim_check_whole(sim, node);
  sim->faults->was_in_sync[node] = in_sync;
}

static void on_care(Sim *sim, gpointer unused) {
  SimFaults *faults = sim->faults;
  if (sim->coordinator != NULL && !sim->closing) {
    const QfsNodeSet in_sync = qfs_coordinator_in_sync(sim->coordinator), closed = closed_nodes(sim);
    faults->broken &= qfs_set_all(sim->config.nodes);
    for (guint i = 1; i <= sim->config.nodes; i++) {
      look_whether_whole(sim, i, qfs_set_has(in_sync, i));
      if (qfs_set_has(faults->held, i))
        continue;
      if (qfs_set_has(closed, i))
        ask_node(sim, i, QFS_NODE_UP);
      else if (qfs_set_has(in_sync, i) && sim->node[i].node != NULL && !sim->disk[i].rotten &&
               !sim_disk_has_bad_rows(&sim->disk[i]) &&
               g_hash_table_size(sim->disk[i].planted) == 0) {
        faults->broken &= ~QFS_NODE_BIT(i);
        sim->disk[i].lost = sim->disk[i].fresh = FALSE;
      }
      if (faults->active && sim_random_percent(dice(sim), 4))
        sim_disk_keep_copy(&sim->disk[i]);
    }
  }
  sim_after(sim, CARE_US, on_care, NULL);
}

static void heal_node(Sim *sim, guint number) {
  SimNode *node = &sim->node[number];
  SimDisk *disk = &sim->disk[number];
  SIM_TRACE(sim, "fault of node %u is over", number);
  sim->faults->held &= ~QFS_NODE_BIT(number);
  node->to = (SimLink){.last_us = node->to.last_us};
  node->from = (SimLink){.last_us = node->from.last_us};
  sim_disk_heal(disk);
}

typedef struct {
  guint node;
  guint64 id;
} Heal;

/* A start that meets a node again may miss one of those that went on without it; 0: none. */
static guint another_node(Sim *sim, guint node) {
  guint other = 1 + sim_random_below(dice(sim), sim->config.nodes);
  return other != node && sim_random_percent(dice(sim), 50) ? other : 0;
}

static void on_heal(Sim *sim, gpointer data) {
  Heal *heal = data;
  SimFaults *faults = sim->faults;
  if (faults->heal_id[heal->node] == heal->id) {
    heal_node(sim, heal->node);
    if (faults->active && faults->back_at_a_start[heal->node])
      sim_faults_end_daemon(sim, another_node(sim, heal->node));
    faults->back_at_a_start[heal->node] = FALSE;
  }
  g_free(heal);
}

static void heal_later(Sim *sim, guint node) {
  Heal *heal = g_new(Heal, 1);
  *heal = (Heal){.node = node, .id = ++sim->faults->heal_id[node]};
  gint64 us = sim_random_spread(dice(sim), 20 * SIM_MS, 8 * SIM_SECOND);
  sim_after(sim, us, on_heal, heal);
}

/* ---- faults of the whole store ---- */

static void jump_clock(Sim *sim) {
  gint64 ms = sim_random_spread(dice(sim), 100, 5 * 3600 * 1000);
  sim->wall_offset_ms += sim_random_percent(dice(sim), 50) ? ms : -ms;
}

static void on_restart(Sim *sim, gpointer unused) {
  sim->faults->starting = FALSE;
  if (sim->coordinator == NULL)
    sim_daemon_start(sim, FALSE);
}

static void heal_later(Sim *sim, guint node);

/* Some disks are not there when the daemon comes back. */
static void take_away(Sim *sim) {
  for (guint i = 1; i <= sim->config.nodes; i++) {
    if (!sim_random_percent(dice(sim), 40))
      continue;
    sim->disk[i].absent = TRUE;
    sim->faults->broken |= QFS_NODE_BIT(i);
    sim->faults->held |= QFS_NODE_BIT(i);
    heal_later(sim, i);
  }
}

static void restart_later(Sim *sim) {
  SimFaults *faults = sim->faults;
  sim->closing = FALSE;
  for (guint i = 1; i <= sim->config.nodes; i++)
    if (qfs_set_has(faults->held, i) && sim_random_percent(dice(sim), 40))
      sim->disk[i].absent = TRUE;
  if (faults->starting)
    return;
  if (sim->options.unlimited && faults->active && sim_random_percent(dice(sim), 30))
    take_away(sim);
  faults->starting = TRUE;
  if (sim_random_percent(dice(sim), 15)) {
    jump_clock(sim);
    sim->result->fault_count[FAULT_CLOCK_AT_START]++;
  }
  sim_after(sim, sim_random_spread(dice(sim), 1 * SIM_MS, 2 * SIM_SECOND), on_restart, NULL);
}

static void kill_daemon(Sim *sim) {
  sim_daemon_kill(sim);
  sim_history_check_kept(sim);
  restart_later(sim);
}

static gboolean is_quiet(Sim *sim) {
  return sim->coordinator != NULL && qfs_coordinator_is_quiet(sim->coordinator);
}

static void lose_power(Sim *sim) {
  if (is_quiet(sim))
    sim_history_settled(sim);
  sim_daemon_lose_power(sim);
  restart_later(sim);
}

gboolean sim_faults_are_active(const Sim *sim) {
  return sim->faults->active;
}

gboolean sim_faults_holds(const Sim *sim, guint node) {
  return qfs_set_has(sim->faults->held, node);
}

static gboolean may_break(const Sim *sim, guint node) {
  const SimFaults *faults = sim->faults;
  return sim->options.unlimited || qfs_set_has(faults->broken, node) ||
         qfs_set_size(faults->broken) < sim_faults_survivable(sim);
}

void sim_faults_end_daemon(Sim *sim, guint away) {
  if (sim->coordinator == NULL)
    return;
  if (sim->faults->enabled[FAULT_POWER] > 0 && sim_random_percent(dice(sim), 50))
    lose_power(sim);
  else
    kill_daemon(sim);
  if (away == 0 || !may_break(sim, away))
    return;
  sim->disk[away].absent = TRUE;
  sim->faults->broken |= QFS_NODE_BIT(away);
  sim->faults->held |= QFS_NODE_BIT(away);
  heal_later(sim, away);
  sim->faults->back_at_a_start[away] = sim_random_percent(dice(sim), 50);
}

/* ---- shutting down ---- */

typedef struct {
  guint run;
  gint64 until_us;
} Closing;

static void on_closing(Sim *sim, gpointer data) {
  Closing *closing = data;
  if (sim->run != closing->run || sim->coordinator == NULL) {
    g_free(closing);
    return;
  }
  if (is_quiet(sim) || sim->now_us >= closing->until_us) {
    SIM_TRACE(sim, "daemon is shut down%s", is_quiet(sim) ? "" : ", not settled");
    sim_daemon_kill(sim);
    sim->result->crashes--;
    restart_later(sim);
    g_free(closing);
    return;
  }
  sim_after(sim, 10 * SIM_MS, on_closing, closing);
}

static void shut_down(Sim *sim) {
  if (!sim_daemon_is_up(sim))
    return;
  Closing *closing = g_new(Closing, 1);
  *closing = (Closing){.run = sim->run, .until_us = sim->now_us + 3 * SIM_SECOND};
  sim->closing = TRUE;
  qfs_coordinator_shutdown(sim->coordinator);
  sim_after(sim, 0, on_closing, closing);
}

/* Damage that nobody has found yet survives a move. With too few copies left afterwards it may be in the last one. */
static gboolean may_resize(Sim *sim, guint nodes, guint replicas) {
  guint damaged = 0;
  for (guint i = 1; i <= sim->nodes_all; i++)
    damaged += sim->disk[i].rotten || sim_disk_has_bad_rows(&sim->disk[i]);
  return sim->options.unlimited || damaged <= MIN(replicas - 1, (nodes - 1) / 2);
}

/* The daemon ends, in one way or another, and the next one is started with other N and K; perhaps while
 * the data still moves for the ones before. */
static void resize(Sim *sim) {
  guint nodes = sim->nodes_n, replicas = sim->replicas_k;
  gboolean both = sim_random_percent(dice(sim), 40), more_nodes = sim_random_percent(dice(sim), 50);
  if (more_nodes || both)
    nodes = 1 + sim_random_below(dice(sim), sim->nodes_all);
  if (!more_nodes || both || replicas > nodes)
    replicas = 1 + sim_random_below(dice(sim), nodes);
  if (nodes >= 3 && replicas == 1 && sim_random_percent(dice(sim), 70)) /* else hardly anything may fail */
    replicas = 2 + sim_random_below(dice(sim), nodes - 1);
  if (!may_resize(sim, nodes, replicas))
    return;
  sim_daemon_resize(sim, nodes, replicas);
  if (sim_random_percent(dice(sim), 40))
    sim_moments_set(sim, sim_random_percent(dice(sim), 50) ? SIM_MOMENT_KILL : SIM_MOMENT_KILL_AND_AWAY);
  if (sim_random_percent(dice(sim), 60))
    kill_daemon(sim);
  else
    shut_down(sim);
}

static void set_all_links(Sim *sim, guint loss_percent, guint duplicate_percent) {
  for (guint i = 1; i <= sim->config.nodes; i++) {
    SimLink *links[] = {&sim->node[i].to, &sim->node[i].from};
    for (guint j = 0; j < 2; j++) {
      links[j]->loss_percent = loss_percent;
      links[j]->duplicate_percent = duplicate_percent;
    }
  }
}

static void on_links_mended(Sim *sim, gpointer unused) {
  set_all_links(sim, 0, 0);
}

static void disturb_links(Sim *sim, FaultKind kind) {
  guint percent = 1 + sim_random_below(dice(sim), kind == FAULT_LOSSY_LINKS ? 5 : 30);
  set_all_links(sim, kind == FAULT_LOSSY_LINKS ? percent : 0,
                kind == FAULT_DUPLICATES ? percent : 0);
  sim_after(sim, sim_random_spread(dice(sim), 50 * SIM_MS, 4 * SIM_SECOND), on_links_mended, NULL);
}

/* ---- faults of one node ---- */

static void cut_one_way(Sim *sim, SimNode *node) {
  gboolean to = sim_random_percent(dice(sim), 50);
  node->to.cut = to;
  node->from.cut = !to;
}

/* DESIGN 1.6: a version that is not settled survives W-1 losses, and as many nodes may fail at once as
 * the budget says; nodes that have not yet caught up again count, whatever made them fall behind. */
static gboolean may_lose(Sim *sim, guint number) {
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
  if (gone || !may_lose(sim, number)) {
    g_free(evict);
    return;
  }
  if (sim_random_percent(dice(sim), 30))
    sim_disk_damage(&sim->disk[number],
                    sim_random_percent(dice(sim), 50) ? SIM_DAMAGE_OLD_COPY : SIM_DAMAGE_DELETE);
  sim->disk[number].lost = sim->disk[number].ever_lost = sim->disk[number].rolled_back = TRUE;
  ask_node_then(sim, number, QFS_NODE_EVICT, on_evicted, evict);
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
  ask_node_then(sim, number, sim_random_percent(dice(sim), 70) ? QFS_NODE_CRASH : QFS_NODE_DOWN,
                on_closed_to_evict, evict);
}

/* Steps of a SQLite replica fail where they happen: in its files. */
static void fail_files(Sim *sim, guint number) {
  SimVolume *volume = sim->disk[number].volume;
  volume->spare = !may_lose(sim, number);
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

static void break_node(Sim *sim, FaultKind kind, guint number) {
  SimNode *node = &sim->node[number];
  SimDisk *disk = &sim->disk[number];
  sim->faults->broken |= QFS_NODE_BIT(number);
  sim->faults->held |= QFS_NODE_BIT(number);
  switch (kind) {
  case FAULT_CRASH:
    sim_node_crash(sim, number, "injected: crash");
    break;
  case FAULT_CRASH_REQUEST:
    ask_node(sim, number, QFS_NODE_CRASH);
    break;
  case FAULT_DOWN_REQUEST:
    ask_node(sim, number, QFS_NODE_DOWN);
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
static guint pick_node(Sim *sim) {
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

/* ---- the course ---- */

static FaultKind pick_kind(Sim *sim) {
  const guint *weight = sim->faults->enabled;
  guint total = 0;
  for (guint kind = 0; kind < FAULT_KINDS; kind++)
    total += weight[kind];
  guint roll = sim_random_below(dice(sim), total);
  for (guint kind = 0;; kind++) {
    if (roll < weight[kind])
      return kind;
    roll -= weight[kind];
  }
}

static void happen_at(Sim *sim, FaultKind kind, guint number);

/* The copy that is restored is this young: what it lacks need not be settled yet. */
static void on_restore(Sim *sim, gpointer data) {
  guint number = GPOINTER_TO_UINT(data);
  if (sim->faults->active && sim->coordinator != NULL && may_break(sim, number) &&
      may_lose(sim, number))
    happen_at(sim, FAULT_OLD_COPY, number);
}

void sim_faults_keep_copy(Sim *sim, guint node) {
  sim_disk_keep_copy(&sim->disk[node]);
  sim_after(sim, sim_random_spread(dice(sim), 1 * SIM_MS, 3 * SIM_SECOND), on_restore,
            GUINT_TO_POINTER(node));
}

static void happen(Sim *sim, FaultKind kind) {
  guint number = 0;
  if (sim->coordinator == NULL)
    return;
  if (kind >= FAULT_CRASH_AT_MESSAGE && (number = pick_node(sim)) == 0)
    return;
  if (kind == FAULT_OLD_COPY && sim_random_percent(dice(sim), 50)) {
    if (sim_random_percent(dice(sim), 50))
      sim_moments_set(sim, SIM_MOMENT_KEEP_COPY);
    else
      sim_faults_keep_copy(sim, number);
    return;
  }
  if (kind >= FAULT_BAD_ROWS && !may_lose(sim, number))
    return;
  happen_at(sim, kind, number);
}

static gboolean collects(const Sim *sim) {
  return sim->faults->enabled[FAULT_COLLECT] > 0;
}

static void on_collect(Sim *sim, gpointer unused) {
  if (sim->faults->active)
    sim_daemon_collect(sim);
}

static void happen_at(Sim *sim, FaultKind kind, guint number) {
  SIM_TRACE(sim, "fault: %s%s%.0u", kind_names[kind], number != 0 ? " at node " : "", number);
  count(sim, kind);
  switch (kind) {
  case FAULT_KILL:
    kill_daemon(sim);
    break;
  case FAULT_POWER:
    lose_power(sim);
    break;
  case FAULT_SHUTDOWN:
    shut_down(sim);
    break;
  case FAULT_CLOCK:
    jump_clock(sim);
    break;
  case FAULT_RESIZE:
    resize(sim);
    break;
  case FAULT_LOSSY_LINKS:
  case FAULT_DUPLICATES:
    disturb_links(sim, kind);
    break;
  case FAULT_KILL_AT_MESSAGE:
    sim_moments_set(sim, SIM_MOMENT_KILL);
    break;
  case FAULT_KILL_AND_AWAY:
    sim_moments_set(sim, SIM_MOMENT_KILL_AND_AWAY);
    break;
  case FAULT_KILL_AT_ACK:
    sim_moments_set(sim, SIM_MOMENT_KILL_AT_ACK);
    break;
  case FAULT_LATE_COPY:
    sim_moments_set(sim, SIM_MOMENT_LATE_COPY);
    if (collects(sim) && sim_random_percent(dice(sim), 40)) /* what the copy brings may be forgotten before it comes */
      sim_after(sim, sim_random_spread(dice(sim), 50 * SIM_MS, 2 * SIM_SECOND), on_collect, NULL);
    break;
  case FAULT_COLLECT:
    sim_daemon_collect(sim);
    break;
  case FAULT_SCRUB:
    sim_daemon_scrub(sim);
    break;
  default:
    break_node(sim, kind, number);
    heal_later(sim, number);
    break;
  }
}

static void on_fault(Sim *sim, gpointer unused) {
  SimFaults *faults = sim->faults;
  if (!faults->active)
    return;
  happen(sim, pick_kind(sim));
  sim_after(sim, sim_random_range(dice(sim), 1, 2 * faults->gap_us), on_fault, NULL);
}

void sim_faults_start(Sim *sim, gint64 gap_us) {
  SimFaults *faults = sim->faults;
  faults->active = TRUE;
  faults->gap_us = gap_us;
  if (!faults->caring) {
    faults->caring = TRUE;
    on_care(sim, NULL);
  }
  sim_after(sim, sim_random_range(dice(sim), 1, 2 * gap_us), on_fault, NULL);
}

void sim_faults_stop(Sim *sim) {
  sim->faults->active = FALSE;
  for (guint i = 1; i <= sim->nodes_all; i++) {
    sim->faults->heal_id[i]++;
    heal_node(sim, i);
  }
  set_all_links(sim, 0, 0);
  for (guint i = 1; i <= sim->config.nodes; i++)
    if (sim->disk[i].rotten) { /* damage that nobody has read yet: the disk is replaced */
      sim_node_crash(sim, i, "injected: disk replaced");
      sim_disk_damage(&sim->disk[i], SIM_DAMAGE_DELETE);
    }
}

void sim_faults_break(Sim *sim, guint n) {
  static const FaultKind kinds[] = {FAULT_CRASH, FAULT_CRASH_REQUEST, FAULT_DOWN_REQUEST,
                                    FAULT_PARTITION};
  while (n > 0) {
    guint number = 1 + sim_random_below(dice(sim), sim->nodes_n);
    if (qfs_set_has(sim->faults->held, number))
      continue;
    FaultKind kind = kinds[sim_random_below(dice(sim), G_N_ELEMENTS(kinds))];
    SIM_TRACE(sim, "fault: %s at node %u, at once", kind_names[kind], number);
    break_node(sim, kind, number);
    count(sim, kind);
    n--;
  }
}

void sim_faults_break_one_more(Sim *sim) {
  if (qfs_set_size(sim->faults->held) < sim->nodes_n)
    sim_faults_break(sim, 1);
}

void sim_faults_evict(Sim *sim, QfsNodeSet nodes) {
  for (; nodes != 0; nodes &= nodes - 1) {
    guint number = (guint)__builtin_ctzll(nodes) + 1;
    SIM_TRACE(sim, "node %u is given up", number);
    sim->disk[number].lost = sim->disk[number].rolled_back = TRUE;
    ask_node(sim, number, QFS_NODE_EVICT);
  }
}

void sim_faults_evict_one(Sim *sim) {
  guint number = 1 + sim_random_below(dice(sim), sim->nodes_n);
  SIM_TRACE(sim, "fault: %s at node %u, for long", kind_names[FAULT_EVICT], number);
  break_node(sim, FAULT_EVICT, number);
  count(sim, FAULT_EVICT);
}

void sim_faults_restart(Sim *sim, gboolean in_good_order) {
  if (in_good_order)
    shut_down(sim);
  else
    kill_daemon(sim);
}

static gboolean are_well(Sim *sim, QfsNodeSet nodes) {
  /* A life that was not yet told what N and K are to be may be quiet with those that were in force before. */
  if (!sim_daemon_is_up(sim) || sim->asked_in != sim->run || !qfs_coordinator_is_quiet(sim->coordinator))
    return FALSE;
  const QfsNodeSet in_sync = qfs_coordinator_in_sync(sim->coordinator);
  for (guint i = 1; i <= sim->config.nodes; i++)
    if (qfs_set_has(nodes, i) && (!qfs_set_has(in_sync, i) || sim->disk[i].lost))
      return FALSE;
  return TRUE;
}

gboolean sim_all_is_well(Sim *sim) {
  return are_well(sim, qfs_set_all(sim->nodes_n));
}

gboolean sim_all_is_well_but_held(Sim *sim) {
  return are_well(sim, qfs_set_all(sim->nodes_n) & ~sim->faults->held);
}

gboolean sim_faults_rows_are_bad(Sim *sim) {
  for (guint i = 1; i <= sim->nodes_n; i++)
    if (sim_disk_has_bad_rows(&sim->disk[i]))
      return TRUE;
  return FALSE;
}

/* An older version of the key, whole in its record; NULL: none is known. */
static const QfsRecord *older_version(Sim *sim, const SimKey *key, const QfsRecord *now) {
  guint n = key->ops->len, start = n > 0 ? sim_random_below(dice(sim), n) : 0;
  for (guint i = 0; i < n; i++) {
    const SimOp *op = g_ptr_array_index(key->ops, (start + i) % n);
    if (op->outcome == SIM_APPLIED && op->record != NULL && op->record->seq != 0 &&
        strcmp(op->record->key, key->name) == 0 && qfs_object_is_none(op->record->object) &&
        sim_record_order(op->record, now) < 0)
      return op->record;
  }
  return NULL;
}

static void count_planted(Sim *sim) {
  sim->result->faults++;
  sim->result->fault_count[FAULT_PLANTED]++;
}

void sim_faults_lose_chunks(Sim *sim) {
  guint number = 1 + sim_random_below(dice(sim), sim->nodes_n);
  for (guint i = sim->replicas_k < 2 ? 0 : sim_random_below(dice(sim), 6); i > 0; i--)
    if (sim_disk_lose_chunk(&sim->disk[number]))
      count_planted(sim);
}

void sim_faults_plant(Sim *sim) {
  guint number = 1 + sim_random_below(dice(sim), sim->nodes_n);
  if (sim->replicas_k < 2)
    return;
  for (guint i = 1 + sim_random_below(dice(sim), 6); i > 0; i--) {
    const SimKey *key =
        g_ptr_array_index(sim->history->keys, sim_random_below(dice(sim), sim->history->keys->len));
    if (!qfs_set_has(qfs_coordinator_holders(sim->coordinator, key->name), number))
      continue;
    g_autoptr(QfsRecord) now = sim_disk_record(&sim->disk[number], key->name);
    const QfsRecord *older = NULL;
    gboolean gone = now == NULL && sim->replicas_k >= 3; /* of two copies nobody knows which is right */
    if (gone || (now != NULL && sim_random_percent(dice(sim), 50))) {
      g_autoptr(QfsRecord) top = qfs_record_new_tombstone(key->name, G_MAXUINT64);
      older = older_version(sim, key, now != NULL ? now : top);
      if (older == NULL)
        continue;
    }
    if (sim_disk_plant(&sim->disk[number], key->name, older))
      count_planted(sim);
  }
}
