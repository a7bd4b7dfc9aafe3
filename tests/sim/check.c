/* check.c - versions and nodes' steps; see check.h. */
#include "check.h"

#include "cluster/clock.h"
#include "cluster/placement.h"

#include <string.h>

/* What was acknowledged this long ago is not on its way any more to a node that answers. */
#define JOINED_SETTLES_US (3 * SIM_SECOND)

int sim_record_order(const QfsRecord *a, const QfsRecord *b) {
  if (a == NULL || b == NULL || a == b)
    return (a != NULL) - (b != NULL);
  if (a->timestamp != b->timestamp)
    return a->timestamp > b->timestamp ? 1 : -1;
  int removed = (a->kind == QFS_KIND_TOMBSTONE) - (b->kind == QFS_KIND_TOMBSTONE);
  if (removed != 0)
    return removed;
  g_autoptr(GBytes) a_bytes = qfs_record_canonical(a);
  g_autoptr(GBytes) b_bytes = qfs_record_canonical(b);
  gsize a_len, b_len;
  const guint8 *a_data = g_bytes_get_data(a_bytes, &a_len), *b_data = g_bytes_get_data(b_bytes, &b_len);
  int order = memcmp(a_data, b_data, MIN(a_len, b_len));
  return order != 0 ? order : (a_len > b_len) - (a_len < b_len);
}

/* ---- who made a version ---- */

/* A version without attributes (a tombstone) is known by its timestamp. */
static SimOp *remover_of(const SimKey *key, const QfsRecord *record) {
  SimOp *possible = NULL;
  for (guint i = 0; i < key->ops->len; i++) {
    SimOp *op = g_ptr_array_index(key->ops, i);
    if (!sim_op_removes(op, key) || !sim_op_possible(op))
      continue;
    gboolean timestamp_known = op->kind != SIM_OP_RENAME && op->record != NULL;
    if (timestamp_known ? op->record->timestamp == record->timestamp
                        : !op->has_timestamp || op->timestamp == record->timestamp)
      possible = op;
    if (timestamp_known && possible == op)
      break;
  }
  return possible;
}

/* Extended attributes are those of the operation that created the key, or changed them last. */
static void check_xattrs(Sim *sim, const SimOp *op, const SimKey *key, const SimOp *maker, const QfsRecord *record) {
  guint32 id = 0;
  if (record->kind == QFS_KIND_TOMBSTONE)
    return;
  gsize len;
  gconstpointer bytes = g_bytes_get_data(record->xattrs, &len);
  memcpy(&id, bytes, len == sizeof id ? len : 0);
  const SimOp *setter = sim_history_op(sim->history, id);
  SIM_CHECK(sim, setter != NULL && sim_op_possible(setter), "%s saw %s with attributes of %s", sim_op_text(op),
            key->name, sim_op_text(setter));
  gboolean here = setter->key == key || (key->class == SIM_KEY_TOKEN && setter->key->class == SIM_KEY_TOKEN);
  gboolean sets = setter->kind == SIM_OP_SETATTR || sim_op_creates(setter, setter->key);
  SIM_CHECK(sim, here && sets && (maker->kind != SIM_OP_SETATTR || setter == maker),
            "%s saw %s, made by %s, with attributes of %s", sim_op_text(op), key->name, sim_op_text(maker),
            sim_op_text(setter));
}

SimOp *sim_check_maker(Sim *sim, const SimOp *op, const SimKey *key, const QfsRecord *record) {
  SimOp *maker = record->kind == QFS_KIND_TOMBSTONE
                     ? remover_of(key, record)
                     : sim_history_op(sim->history, sim_op_of_ns(record->attr.ctime_ns));
  SIM_CHECK(sim, maker != NULL, "%s saw %s@%" G_GUINT64_FORMAT " kind %d that nobody wrote",
            sim_op_text(op), key->name, record->timestamp, record->kind);
  SIM_CHECK(sim, maker->key == key || maker->key2 == key, "%s saw at %s what %s wrote",
            sim_op_text(op), key->name, sim_op_text(maker));
  SIM_CHECK(sim, sim_op_possible(maker),
            "%s saw %s@%" G_GUINT64_FORMAT ", which %s certainly did not write", sim_op_text(op),
            key->name, record->timestamp, sim_op_text(maker));
  check_xattrs(sim, op, key, maker, record);
  return maker;
}

/* The same version, or one of the two was noted to have been read since. */
static gboolean same_but_for_reading(const QfsRecord *a, const QfsRecord *b) {
  g_autoptr(QfsRecord) copy = qfs_record_copy(a);
  copy->attr.atime_ns = b->attr.atime_ns;
  return sim_record_order(copy, b) == 0;
}

/* One operation makes one version. The first sighting of one whose outcome is unknown settles
 * which. */
static void check_same_version(Sim *sim, const SimOp *op, const SimKey *key, SimOp *maker,
                               const QfsRecord *record) {
  if (maker->kind == SIM_OP_RENAME && maker->key == key)
    return; /* the tombstone that it left: maker->record is the other end */
  if (maker->record == NULL && maker->outcome == SIM_UNKNOWN && record->kind != QFS_KIND_TOMBSTONE)
    maker->record = qfs_record_ref(record);
  if (maker->record == NULL)
    return;
  /* Once collected, a tombstone may be made again at the same explicit timestamp. */
  gboolean again = record->kind == QFS_KIND_TOMBSTONE && record->timestamp == maker->record->timestamp;
  SIM_CHECK(sim, again || same_but_for_reading(record, maker->record),
            "%s saw %s@%" G_GUINT64_FORMAT " by %s, which made @%" G_GUINT64_FORMAT,
            sim_op_text(op), key->name, record->timestamp, sim_op_text(maker),
            maker->record->timestamp);
}

SimOp *sim_check_seen(Sim *sim, SimOp *op, SimKey *key, const QfsRecord *record,
                      const SimFloor *floor) {
  if (record == NULL) {
    SIM_CHECK(sim, !qfs_record_exists(sim_floor_record(key, floor)),
              "%s found nothing, not even a tombstone, of %s, known @%" G_GUINT64_FORMAT,
              sim_op_text(op), key->name, floor->record->timestamp);
    return NULL;
  }
  SIM_CHECK(sim, sim_record_order(record, sim_floor_record(key, floor)) >= 0,
            "%s saw %s@%" G_GUINT64_FORMAT " kind %d, older than @%" G_GUINT64_FORMAT
            " kind %d, known before it began",
            sim_op_text(op), key->name, record->timestamp, record->kind, floor->record->timestamp,
            floor->record->kind);
  SimOp *maker = sim_check_maker(sim, op, key, record);
  check_same_version(sim, op, key, maker, record);
  SIM_CHECK(sim,
            !qfs_record_exists(record) || !sim_is_purged(key, record) ||
                maker->end_us > key->purged_us || op->invoke_us <= key->purged_us,
            "%s saw %s@%" G_GUINT64_FORMAT " come back after its tombstone @%" G_GUINT64_FORMAT
            " was collected",
            sim_op_text(op), key->name, record->timestamp, key->purged->timestamp);
  /* A slow get may tell of a version that was deleted and collected before its answer came. */
  gboolean outdated = sim_is_purged(key, record) && maker->end_us <= key->purged_us;
  if (!sim_is_leftover(key, record) && !outdated && sim_record_order(record, key->floor) > 0) {
    qfs_record_unref(key->floor);
    key->floor = qfs_record_ref(record);
    key->floor_invoke_us = maker->invoke_us;
  }
  return maker;
}

/* A change that ended before the floor's began is older than it, and no longer matters; except with
 * explicit timestamps, which follow no order of time. */
static gboolean may_follow(const SimOp *op, const SimKey *key, const SimFloor *floor) {
  return sim_op_possible(op) && (key->class == SIM_KEY_STAMPED || op->end_us > floor->invoke_us);
}

gboolean sim_may_be_absent(const SimKey *key, const SimFloor *floor, const SimOp *except) {
  if (!qfs_record_exists(sim_floor_record(key, floor)))
    return TRUE;
  for (guint i = key->ops->len; i-- > 0;) {
    const SimOp *op = g_ptr_array_index(key->ops, i);
    if (op != except && sim_op_removes(op, key) && may_follow(op, key, floor))
      return TRUE;
  }
  return FALSE;
}

gboolean sim_may_exist(const SimKey *key, const SimFloor *floor, const SimOp *except) {
  if (qfs_record_exists(floor->record))
    return TRUE;
  for (guint i = key->ops->len; i-- > 0;) {
    const SimOp *op = g_ptr_array_index(key->ops, i);
    if (op != except && sim_op_creates(op, key) && may_follow(op, key, floor))
      return TRUE;
  }
  return FALSE;
}

/* ---- holders ---- */

typedef QfsRecord *(*Look)(SimDisk *disk, const char *key);

static gboolean holds(Sim *sim, guint node, const char *key, const QfsRecord *record, Look look) {
  if (sim->disk[node].lost)
    return TRUE;
  g_autoptr(QfsRecord) held = look(&sim->disk[node], key);
  return sim_record_order(held, record) >= 0;
}

/* Counts no further than W, and none of `except`. Looking costs: those first that are most likely to have it. */
static guint count_holders(Sim *sim, const char *key, const QfsRecord *record, Look look,
                           QfsNodeSet except) {
  QfsNodeSet likely = sim->coordinator != NULL ? qfs_coordinator_holders(sim->coordinator, key) : 0;
  guint n = 0;
  for (guint pass = 0; pass < 2; pass++)
    for (guint i = 1; i <= sim->nodes_all && n < sim_write_quorum(sim); i++)
      if (!qfs_set_has(except, i) && qfs_set_has(likely, i) == (pass == 0))
        n += holds(sim, i, key, record, look);
  return n;
}

/* While K changes, the lesser one: which of them was in force is the coordinator's secret. */
guint sim_write_quorum(const Sim *sim) {
  return MIN(sim->replicas_k, sim->former_k) / 2 + 1;
}

static void check_held_but(Sim *sim, const char *key, const QfsRecord *record, Look look,
                           const char *how, const char *when, QfsNodeSet except) {
  const SimKey *known = sim_history_find_key(sim->history, key);
  if (record == NULL || sim->loss_accepted || (sim_is_purged(known, record) && known->acked != record))
    return;
  guint n = count_holders(sim, key, record, look, except);
  guint quorum = sim_write_quorum(sim);
  SIM_CHECK(sim, n >= quorum,
            "%s@%" G_GUINT64_FORMAT " is %s on %u replicas, not on %u: %s", key, record->timestamp,
            how, n, quorum, when);
}

static void check_held(Sim *sim, const char *key, const QfsRecord *record, Look look,
                       const char *how, const char *when) {
  check_held_but(sim, key, record, look, how, when, 0);
}

/* Nodes that are being given what they missed: nothing that they have counts yet. */
static QfsNodeSet incomplete_nodes(Sim *sim) {
  QfsNodeSet set = 0;
  if (sim->coordinator == NULL)
    return 0;
  /* When all begin anew together, what they had counted a moment ago. */
  for (guint i = 1; i <= sim->nodes_all && !qfs_coordinator_is_recovering(sim->coordinator); i++) {
    QfsNodeState state = qfs_coordinator_node_state(sim->coordinator, i);
    if (state == QFS_NODE_STATE_CATCHING_UP || state == QFS_NODE_STATE_REBUILDING)
      set |= QFS_NODE_BIT(i);
  }
  return set;
}

void sim_check_durable(Sim *sim, const SimOp *op, const SimKey *key, const QfsRecord *record) {
  check_held(sim, key->name, record, sim_disk_durable_record, "on stable storage", sim_op_text(op));
}

void sim_check_still_held(Sim *sim, const char *name) {
  for (guint i = 0; i < sim->history->keys->len; i++) {
    const SimKey *key = g_ptr_array_index(sim->history->keys, i);
    if (name == NULL || strcmp(name, key->name) == 0)
      check_held(sim, key->name, key->acked, sim_disk_record, "left",
                 sim->coordinator != NULL ? "rows were taken away" : "the daemon is gone");
  }
}

void sim_check_held(Sim *sim, const char *key, const QfsRecord *record) {
  check_held(sim, key, record, sim_disk_record, "held", "watchers are told of it");
}

/* ---- acknowledgements ---- */

/* e. `timestamp` was issued by the store to `op`. */
static void check_issued(Sim *sim, SimOp *op, guint64 timestamp) {
  SimHistory *history = sim->history;
  SimOp *other = g_hash_table_lookup(history->issued, &timestamp);
  SIM_CHECK(sim, other == NULL || other == op, "%s and %s both got timestamp %" G_GUINT64_FORMAT,
            sim_op_text(op), sim_op_text(other), timestamp);
  SIM_CHECK(sim, timestamp > op->issued_floor,
            "%s got timestamp %" G_GUINT64_FORMAT ", not above %" G_GUINT64_FORMAT
            " acknowledged before it began",
            sim_op_text(op), timestamp, op->issued_floor);
  g_hash_table_insert(history->issued, g_memdup2(&timestamp, sizeof timestamp), op);
  history->greatest_issued = MAX(history->greatest_issued, timestamp);
  /* Each start may skip what the former life had reserved: a minute, doubled for good measure. */
  guint64 latest_ms = (guint64)sim->greatest_wall_ms + 120000u * (sim->run + 1);
  SIM_CHECK(sim, timestamp >> (QFS_CLOCK_MS_SHIFT) <= latest_ms,
            "%s got timestamp %" G_GUINT64_FORMAT ", far ahead of every clock", sim_op_text(op),
            timestamp);
}

/* f. */
static void check_superseded(Sim *sim, SimOp *op, const QfsRequest *request) {
  SIM_CHECK(sim, op->has_timestamp, "%s was superseded without an explicit timestamp",
            sim_op_text(op));
  SIM_CHECK(sim, request->superseded_by >= op->timestamp,
            "%s at %" G_GUINT64_FORMAT " was superseded by the older %" G_GUINT64_FORMAT,
            sim_op_text(op), op->timestamp, request->superseded_by);
  if (request->record != NULL) {
    SIM_CHECK(sim, request->record->timestamp >= request->superseded_by,
              "%s was superseded by %" G_GUINT64_FORMAT " but is told of %" G_GUINT64_FORMAT,
              sim_op_text(op), request->superseded_by, request->record->timestamp);
    sim_check_seen(sim, op, op->key, request->record, &op->floor);
    check_held(sim, op->key->name, request->record, sim_disk_record, "held", sim_op_text(op));
  }
}

/* What had to be there, or not, for the operation to succeed (h). */
static void check_precondition(Sim *sim, SimOp *op) {
  gboolean needs_absent = op->kind == SIM_OP_CREATE || op->kind == SIM_OP_MKDIR ||
                          (op->kind == SIM_OP_WRITE && op->exclusive);
  gboolean needs_there = op->kind == SIM_OP_SETATTR || op->kind == SIM_OP_NOTE || op->kind == SIM_OP_TRUNCATE ||
                         op->kind == SIM_OP_ZERO ||
                         op->kind == SIM_OP_RENAME || op->kind == SIM_OP_RMDIR;
  if (needs_absent)
    SIM_CHECK(sim, sim_may_be_absent(op->key, &op->floor, op),
              "%s succeeded although the key was there", sim_op_text(op));
  if (needs_there)
    SIM_CHECK(sim, sim_may_exist(op->key, &op->floor, op),
              "%s succeeded although the key was absent", sim_op_text(op));
  if (op->kind == SIM_OP_RENAME && op->exclusive)
    SIM_CHECK(sim, sim_may_be_absent(op->key2, &op->floor2, op),
              "%s succeeded although the target was there", sim_op_text(op));
  if (op->conditional && op->if_version != 0 && op->floor.record != NULL)
    SIM_CHECK(sim, op->if_timestamp >= op->floor.record->timestamp,
              "%s succeeded on version %" G_GUINT64_FORMAT " although a newer one was acknowledged",
              sim_op_text(op), op->if_timestamp);
}

/* It keeps the version's timestamp and ctime, so who made the version does not change. */
static void check_noted(Sim *sim, SimOp *op) {
  const QfsRecord *record = op->record;
  SIM_CHECK(sim, record != NULL && strcmp(record->key, op->key->name) == 0, "%s: of another key", sim_op_text(op));
  SIM_CHECK(sim, record->attr.atime_ns >= SIM_OP_NS(op->id), "%s: its time is not there", sim_op_text(op));
  check_precondition(sim, op);
  check_held_but(sim, op->key->name, record, sim_disk_record, "held", sim_op_text(op), incomplete_nodes(sim));
  sim_check_seen(sim, op, op->key, record, &op->floor);
  sim_history_acked(op->key, op, record);
}

void sim_check_acknowledged(Sim *sim, SimOp *op, const QfsRequest *request) {
  if (op->kind == SIM_OP_NOTE) {
    check_noted(sim, op);
    return;
  }
  if (op->outcome == SIM_SUPERSEDED) {
    check_superseded(sim, op, request);
    g_clear_pointer(&op->record, qfs_record_unref);
    return;
  }
  SimKey *key = op->kind == SIM_OP_RENAME ? op->key2 : op->key;
  const SimFloor *floor = op->kind == SIM_OP_RENAME ? &op->floor2 : &op->floor;
  const QfsRecord *record = op->record;
  SIM_CHECK(sim, record != NULL, "%s was acknowledged without its version", sim_op_text(op));
  SIM_CHECK(sim, strcmp(record->key, key->name) == 0, "%s made a version of %s", sim_op_text(op),
            record->key);
  /* The same once more is a success: an explicit timestamp, or a removal where nothing is above. */
  gboolean may_repeat = op->has_timestamp || record->timestamp == G_MAXUINT64;
  SIM_CHECK(sim, sim_record_order(record, sim_floor_record(key, floor)) > (may_repeat ? -1 : 0),
            "%s made @%" G_GUINT64_FORMAT ", not newer than @%" G_GUINT64_FORMAT " before it",
            sim_op_text(op), record->timestamp, floor->record->timestamp);
  gboolean removal = op->kind == SIM_OP_REMOVE || op->kind == SIM_OP_RMDIR;
  SIM_CHECK(sim, removal == (record->kind == QFS_KIND_TOMBSTONE), "%s made a version of kind %d",
            sim_op_text(op), record->kind);
  check_precondition(sim, op);
  sim_check_told(sim, op, key, record);
  check_held_but(sim, key->name, record, sim_disk_record, "held", sim_op_text(op),
                 incomplete_nodes(sim));
  if (op->durable || sim->config.sync)
    sim_check_durable(sim, op, key, record);
  if (op->has_timestamp)
    SIM_CHECK(sim, record->timestamp == op->timestamp,
              "%s got timestamp %" G_GUINT64_FORMAT ", not %" G_GUINT64_FORMAT, sim_op_text(op),
              record->timestamp, op->timestamp);
  else if (key->class != SIM_KEY_STAMPED)
    check_issued(sim, op, record->timestamp);
  sim_check_seen(sim, op, key, record, floor);
  sim_history_acked(key, op, record);
}

void sim_check_refused(Sim *sim, SimOp *op) {
  switch (op->status) {
  case QFS_EXISTS:
    if (op->kind != SIM_OP_RENAME)
      SIM_CHECK(sim, sim_may_exist(op->key, &op->floor, op), "%s although the key was absent",
                sim_op_text(op));
    else
      SIM_CHECK(sim, sim_may_exist(op->key2, &op->floor2, op), "%s although the target was absent",
                sim_op_text(op));
    break;
  case QFS_NOT_FOUND:
    /* The parent may be what is missing: below a directory that comes and goes, and where a loss of power took
     * a directory that was not yet on stable storage but left what was put into it. */
    if (op->key->class != SIM_KEY_CHILD &&
        (sim->power_losses == 0 || strchr(op->key->name, '/') == NULL))
      SIM_CHECK(sim, sim_may_be_absent(op->key, &op->floor, op), "%s although the key was there",
                sim_op_text(op));
    break;
  case QFS_STALE:
    SIM_CHECK(sim, op->conditional, "%s was not conditional", sim_op_text(op));
    break;
  case QFS_OVERFLOW:
    SIM_CHECK(sim, op->key->class == SIM_KEY_STAMPED, "%s on a key without explicit timestamps",
              sim_op_text(op));
    break;
  case QFS_INVALID:
  case QFS_CROSS:
  case QFS_TOO_BIG:
  case QFS_NAME_TOO_LONG:
    sim_fail(sim, "%s was refused for no reason", sim_op_text(op));
  case QFS_OK:
  case QFS_NOT_DIRECTORY:
  case QFS_IS_DIRECTORY:
  case QFS_NOT_EMPTY:
  case QFS_NO_QUORUM:
  case QFS_UNKNOWN:
  case QFS_IO:
  case QFS_NO_SPACE:
  case QFS_CANCELED:
  case QFS_BUSY:
  case QFS_TOO_MANY_LINKS:
    break;
  }
}

/* ---- gets ---- */

void sim_check_get(Sim *sim, SimOp *op, gboolean found, GBytes *data) {
  SIM_CHECK(sim, found == qfs_record_exists(op->record), "%s: the record and the status disagree",
            sim_op_text(op));
  SimOp *maker = sim_check_seen(sim, op, op->key, op->record, &op->floor);
  op->seen_version = maker != NULL ? maker->id : 0;
  if (!found) {
    SIM_CHECK(sim, sim_may_be_absent(op->key, &op->floor, NULL), "%s although the key was there",
              sim_op_text(op));
    return;
  }
  SIM_CHECK(sim, sim_may_exist(op->key, &op->floor, NULL), "%s found a key that was absent",
            sim_op_text(op));
  if (op->record->kind == QFS_KIND_VALUE)
    sim_check_content(sim, op, op->record, data);
}

/* ---- nodes' steps ---- */

static gboolean is_in_sync(const Sim *sim, guint node) {
  return sim->coordinator != NULL && qfs_set_has(qfs_coordinator_in_sync(sim->coordinator), node);
}

static gboolean is_evicted(const Sim *sim, guint node) {
  return sim->coordinator != NULL && qfs_coordinator_node_state(sim->coordinator, node) == QFS_NODE_STATE_EVICTED;
}

/* Not before its time; and a copy of any node's files as they are now must show, when it is restored, that it is
 * older than the delete: by the settled operations that it knows of (purge.c). */
static void check_purge_time(Sim *sim, guint node, const QfsRecord *tombstone) {
  gint64 age_ms = sim->greatest_wall_ms - tombstone->attr.ctime_ns / 1000000;
  SIM_CHECK(sim, sim->collect_forced || age_ms >= (gint64)sim->config.tombstone_grace_s * 1000,
            "node %u collected the tombstone %s@%" G_GUINT64_FORMAT " after %" G_GINT64_FORMAT
            " ms, before its grace of %u s was over",
            node, tombstone->key, tombstone->timestamp, age_ms, sim->config.tombstone_grace_s);
  /* Who is not a member is emptied before he becomes one. */
  for (guint i = 1, n = qfs_coordinator_nodes(sim->coordinator); i <= n; i++) {
    g_autofree QfsNodeMeta *meta = g_new0(QfsNodeMeta, 1);
    /* Whose files are damaged is wiped when it is met. */
    if (!is_evicted(sim, i) && !sim->disk[i].lost && sim_disk_meta(&sim->disk[i], meta))
      SIM_CHECK(sim, meta->settled >= tombstone->seq,
                "node %u collected the tombstone %s@%" G_GUINT64_FORMAT
                ", which node %u does not know to be settled",
                node, tombstone->key, tombstone->timestamp, i);
  }
}

static gboolean is_older_left(const QfsRecord *left, const QfsRecord *tombstone) {
  return left != NULL && left->kind != QFS_KIND_TOMBSTONE && left->seq <= tombstone->seq;
}

static gboolean anything_older(Sim *sim, const SimKey *key, const QfsRecord *tombstone) {
  for (guint i = 1; i <= sim->nodes_all; i++) {
    if (is_evicted(sim, i))
      continue;
    g_autoptr(QfsRecord) now = sim_disk_record(&sim->disk[i], key->name);
    g_autoptr(QfsRecord) durable = sim_disk_durable_record(&sim->disk[i], key->name);
    if (is_older_left(now, tombstone) || is_older_left(durable, tombstone))
      return TRUE;
  }
  return FALSE;
}

/* A tombstone goes from a node: nothing older may be left anywhere that could bring the key back. Evicted nodes are
 * wiped before they could. */
static void check_purge(Sim *sim, guint node, SimKey *key, const QfsRecord *tombstone) {
  if (sim->loss_accepted) /* an older version may be the newest now */
    return;
  check_purge_time(sim, node, tombstone);
  for (guint i = 1; i <= sim->nodes_all; i++) {
    /* What was planted came out of nothing, perhaps since the node was asked: a comparison removes it. */
    if (is_evicted(sim, i) || g_hash_table_contains(sim->disk[i].planted, key->name))
      continue;
    g_autoptr(QfsRecord) now = sim_disk_record(&sim->disk[i], key->name);
    g_autoptr(QfsRecord) durable = sim_disk_durable_record(&sim->disk[i], key->name);
    const QfsRecord *left[] = {now, durable};
    for (guint j = 0; j < G_N_ELEMENTS(left); j++)
      SIM_CHECK(sim,
                left[j] == NULL || left[j]->kind == QFS_KIND_TOMBSTONE ||
                    left[j]->seq > tombstone->seq,
                "node %u collected the tombstone %s@%" G_GUINT64_FORMAT
                ", but node %u holds %s@%" G_GUINT64_FORMAT,
                node, key->name, tombstone->timestamp, i, j == 0 ? "" : "on stable storage ",
                left[j]->timestamp);
  }
  SIM_CHECK(sim, remover_of(key, tombstone) != NULL, "%s@%" G_GUINT64_FORMAT " was never deleted",
            key->name, tombstone->timestamp);
  sim_history_purged(sim, key, tombstone);
}

static gboolean owns_name(Sim *sim, guint node, const char *key) {
  return sim->coordinator != NULL && qfs_set_has(qfs_coordinator_owners(sim->coordinator, key), node);
}

static gboolean owns(Sim *sim, guint node, const SimKey *key) { return owns_name(sim, node, key->name); }

/* What goes from a node that does not own the key must be safe with all who do. */
static void check_owners_have(Sim *sim, guint node, const SimKey *key, const QfsRecord *old) {
  if (sim_is_leftover(key, old) || sim_is_purged(key, old))
    return;
  QfsNodeSet owners = qfs_coordinator_owners(sim->coordinator, key->name);
  for (guint i = 1; i <= sim->nodes_all; i++) {
    if (!qfs_set_has(owners, i) || sim->disk[i].lost)
      continue;
    g_autoptr(QfsRecord) held = sim_disk_durable_record(&sim->disk[i], key->name);
    SIM_CHECK(sim, sim_record_order(held, old) >= 0,
              "node %u, no owner, let %s@%" G_GUINT64_FORMAT " go, which owner %u does not have durably",
              node, key->name, old->timestamp, i);
  }
}

static gboolean owners_are_gone(Sim *sim, const SimKey *key) {
  QfsNodeSet owners = qfs_coordinator_owners(sim->coordinator, key->name);
  for (guint i = 1; i <= sim->nodes_all; i++)
    if (qfs_set_has(owners, i) && !sim->disk[i].lost && !is_evicted(sim, i))
      return FALSE;
  return TRUE;
}

void sim_check_regress(Sim *sim, guint node, const QfsRecord *old, const QfsRecord *new,
                       gboolean force) {
  SimKey *key = sim_history_find_key(sim->history, old->key);
  SIM_TRACE(sim, "node %u goes back from %s@%" G_GUINT64_FORMAT " to @%" G_GUINT64_FORMAT, node,
            old->key, old->timestamp, new != NULL ? new->timestamp : 0);
  gboolean in_sync = is_in_sync(sim, node);
  if (new == NULL && key == NULL && (old->kind == QFS_KIND_TOMBSTONE || !owns_name(sim, node, old->key)))
    return; /* walk.c looks at what is there in the end */
  if (new == NULL && in_sync && key != NULL && !owns(sim, node, key)) {
    check_owners_have(sim, node, key, old);
    if (old->kind == QFS_KIND_TOMBSTONE && sim->coordinator != NULL && owners_are_gone(sim, key))
      sim_history_purged(sim, key, old); /* nobody has it any more: nothing older may come back */
    return;
  }
  if (new == NULL && in_sync && key != NULL) {
    if (old->kind == QFS_KIND_TOMBSTONE)
      check_purge(sim, node, key, old);
    else
      SIM_CHECK(sim, sim_record_order(old, key->acked) < 0 || sim->loss_accepted,
                "node %u is in sync and removed %s@%" G_GUINT64_FORMAT, node, old->key,
                old->timestamp);
    return;
  }
  if (sim_is_leftover(key, old))
    return;
  /* The request to collect it may find the node out of S; a returning node also loses tombstones that nobody
   * acknowledged. */
  if (new == NULL && key != NULL && old->kind == QFS_KIND_TOMBSTONE && sim->disk[node].collecting &&
      !anything_older(sim, key, old)) {
    if (owns(sim, node, key))
      check_purge(sim, node, key, old);
    else
      check_owners_have(sim, node, key, old);
    return;
  }
  SIM_CHECK(sim, force || (!in_sync && old->kind == QFS_KIND_TOMBSTONE && old->seq < new->seq),
            "node %u replaced %s@%" G_GUINT64_FORMAT " by the older @%" G_GUINT64_FORMAT, node,
            old->key, old->timestamp, new->timestamp);
  SIM_CHECK(sim, !in_sync,
            "node %u is in sync but was forced back from %s@%" G_GUINT64_FORMAT
            " to @%" G_GUINT64_FORMAT,
            node, old->key, old->timestamp, new != NULL ? new->timestamp : 0);
}

void sim_check_mended(Sim *sim, guint node, const QfsRecord *old, const QfsRecord *new) {
  const SimKey *key = sim_history_find_key(sim->history, old->key);
  SIM_TRACE(sim, "node %u has the row of %s@%" G_GUINT64_FORMAT " mended to @%" G_GUINT64_FORMAT, node, old->key,
            old->timestamp, new != NULL ? new->timestamp : 0);
  /* What was in flight is sent again. */
  if (key == NULL || key->acked == NULL || sim->loss_accepted || sim_is_purged(key, key->acked) || sim_is_leftover(key, old))
    return;
  SIM_CHECK(sim, !is_in_sync(sim, node) || sim_record_order(new, key->acked) >= 0,
            "node %u is in sync, and its row of %s@%" G_GUINT64_FORMAT " was mended to @%" G_GUINT64_FORMAT
            ", but @%" G_GUINT64_FORMAT " was acknowledged",
            node, old->key, old->timestamp, new != NULL ? new->timestamp : 0, key->acked->timestamp);
}

void sim_check_merge(Sim *sim, guint node, const QfsRecord *old, const QfsRecord *new,
                     QfsApplyResult result) {
  int order = sim_record_order(new, old);
  QfsApplyResult wanted = order > 0   ? QFS_APPLY_APPLIED
                          : order < 0 ? QFS_APPLY_SUPERSEDED
                                      : QFS_APPLY_SAME;
  SIM_CHECK(sim, result == wanted,
            "node %u merged %s@%" G_GUINT64_FORMAT " kind %d into @%" G_GUINT64_FORMAT
            " kind %d: result %d, not %d",
            node, new->key, new->timestamp, new->kind, old != NULL ? old->timestamp : 0,
            old != NULL ? (int)old->kind : -1, result, wanted);
}

/* A version that was not settled survives the loss of W-1 of its holders; then nobody who is left may have it, and
 * that the others count is right as long as its key is not available (DESIGN 1.6). */
static gboolean may_be_hidden(Sim *sim, const SimKey *key) {
  if (!qfs_coordinator_is_blocked(sim->coordinator, key->name))
    return FALSE;
  for (guint i = 1; i <= sim->nodes_all; i++)
    if (sim->node[i].node != NULL && !sim->disk[i].lost && is_in_sync(sim, i) &&
        holds(sim, i, key->name, key->acked, sim_disk_record))
      return FALSE;
  return TRUE;
}

void sim_check_whole(Sim *sim, guint node) {
  for (guint i = 0; i < sim->history->keys->len; i++) {
    const SimKey *key = g_ptr_array_index(sim->history->keys, i);
    if (key->acked == NULL || sim->loss_accepted || sim->now_us - key->acked_us < JOINED_SETTLES_US ||
        sim_is_purged(key, key->acked) ||
        !qfs_set_has(qfs_coordinator_owners(sim->coordinator, key->name), node))
      continue;
    SIM_CHECK(sim, holds(sim, node, key->name, key->acked, sim_disk_record) || may_be_hidden(sim, key),
              "node %u counts as in sync again, but lacks %s@%" G_GUINT64_FORMAT
              " that was acknowledged %" G_GINT64_FORMAT " ms ago",
              node, key->name, key->acked->timestamp, (sim->now_us - key->acked_us) / SIM_MS);
  }
}

void sim_check_wipe(Sim *sim, guint node) {
  SIM_TRACE(sim, "node %u is wiped", node);
  SIM_CHECK(sim, !is_in_sync(sim, node), "node %u is in sync but was wiped", node);
  /* Who was away when keys were given up may have other versions of these (evict.c). */
  SIM_CHECK(sim, sim->disk[node].rolled_back || sim->loss_accepted,
            "node %u was wiped, but its replica never lost anything", node);
  SIM_CHECK(sim, sim->disk[node].wiped_incarnation != sim->disk[node].wipe_incarnation,
            "node %u was wiped twice by one request: what it was given after the first is gone", node);
}

void sim_check_promises(Sim *sim, guint node, const QfsNodeMeta *old, const QfsNodeMeta *new) {
  const struct {
    const char *what;
    guint64 old, new;
  } promises[] = {
      {"the epoch", old->promised_epoch, new->promised_epoch},
      {"the view", old->view.epoch, new->view.epoch},
      {"the generation", old->generation, new->generation},
      {"the clock's ceiling", old->ceiling, new->ceiling},
  };
  for (guint i = 0; i < G_N_ELEMENTS(promises); i++)
    SIM_CHECK(sim, promises[i].new >= promises[i].old,
              "node %u went back with %s, from %" G_GUINT64_FORMAT " to %" G_GUINT64_FORMAT, node,
              promises[i].what, promises[i].old, promises[i].new);
}
