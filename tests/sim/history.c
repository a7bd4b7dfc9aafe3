/* history.c - see history.h. */
#include "history.h"

#include "check.h"
#include "moments.h"

static const char *const kind_names[] = {
    "get",    "list",  "sync",    "write",  "append", "patch",  "truncate", "zero",
    "create", "mkdir", "setattr", "note", "remove", "rmdir",  "rename",
};
static const char *const outcome_names[] = {"pending",    "answered", "applied",
                                            "superseded", "refused",  "unknown"};

const char *sim_op_kind_name(SimOpKind kind) {
  return kind_names[kind];
}

const char *sim_op_text(const SimOp *op) {
  static char texts[4][160];
  static guint next;
  if (op == NULL)
    return "no op";
  char *text = texts[next++ % G_N_ELEMENTS(texts)];
  g_snprintf(text, sizeof texts[0], "op %u %s %s%s%s by client %u [%s, %s]", op->id,
             kind_names[op->kind],
             op->key != NULL   ? op->key->name
             : op->dir != NULL ? op->dir
                               : "*",
             op->key2 != NULL ? " -> " : "", op->key2 != NULL ? op->key2->name : "", op->client,
             outcome_names[op->outcome], qfs_status_name(op->status));
  return text;
}

/* ---- life ---- */

static void floor_clear(SimFloor *floor) {
  g_clear_pointer(&floor->record, qfs_record_unref);
}

static QfsRecord *ref_or_null(const QfsRecord *record) {
  return record != NULL ? qfs_record_ref(record) : NULL;
}

static SimFloor floor_of(const SimKey *key) {
  return (SimFloor){.record = ref_or_null(key->floor), .invoke_us = key->floor_invoke_us};
}

static SimFloor acked_of(const SimKey *key) {
  return (SimFloor){.record = ref_or_null(key->acked), .invoke_us = key->acked_invoke_us};
}

static void key_free(gpointer data) {
  SimKey *key = data;
  g_free(key->name);
  qfs_record_unref(key->purged);
  qfs_record_unref(key->floor);
  qfs_record_unref(key->acked);
  qfs_record_unref(key->durable);
  qfs_record_unref(key->trust.record);
  g_ptr_array_unref(key->ops);
  g_hash_table_unref(key->told);
  g_free(key);
}

static void op_forget_floors(SimOp *op, guint n_keys) {
  floor_clear(&op->floor);
  floor_clear(&op->floor2);
  for (guint i = 0; op->floors != NULL && i < n_keys; i++)
    floor_clear(&op->floors[i]);
  g_clear_pointer(&op->floors, g_free);
}

static void op_free(gpointer data) {
  SimOp *op = data;
  op_forget_floors(op, 0); /* the keys' floors go with history_end, or below */
  g_free(op->dir);
  g_free(op->after);
  qfs_record_unref(op->record);
  g_free(op);
}

SimHistory *sim_history_new(void) {
  SimHistory *history = g_new0(SimHistory, 1);
  history->keys = g_ptr_array_new_with_free_func(key_free);
  history->ops = g_ptr_array_new_with_free_func(op_free);
  history->by_name = g_hash_table_new(g_str_hash, g_str_equal);
  history->issued = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
  return history;
}

void sim_history_free(SimHistory *history) {
  if (history == NULL)
    return;
  for (guint i = 0; i < history->ops->len; i++)
    op_forget_floors(g_ptr_array_index(history->ops, i), history->keys->len);
  g_hash_table_unref(history->issued);
  g_hash_table_unref(history->by_name);
  g_ptr_array_unref(history->ops);
  g_ptr_array_unref(history->keys);
  g_free(history);
}

SimKey *sim_history_add_key(SimHistory *history, const char *name, SimKeyClass class, guint group) {
  SimKey *key = g_new0(SimKey, 1);
  key->index = history->keys->len;
  key->name = g_strdup(name);
  key->class = class;
  key->group = group;
  key->floor_invoke_us = key->acked_invoke_us = key->durable_invoke_us = -1;
  key->ops = g_ptr_array_new();
  key->told = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
  g_ptr_array_add(history->keys, key);
  g_hash_table_insert(history->by_name, key->name, key);
  return key;
}

SimKey *sim_history_find_key(const SimHistory *history, const char *name) {
  return g_hash_table_lookup(history->by_name, name);
}

SimOp *sim_history_op(const SimHistory *history, guint id) {
  return id >= 1 && id <= history->ops->len ? g_ptr_array_index(history->ops, id - 1) : NULL;
}

gboolean sim_op_changes(const SimOp *op) {
  return op->kind != SIM_OP_GET && op->kind != SIM_OP_LIST && op->kind != SIM_OP_SYNC;
}

gboolean sim_op_removes(const SimOp *op, const SimKey *key) {
  return op->kind == SIM_OP_REMOVE || op->kind == SIM_OP_RMDIR ||
         (op->kind == SIM_OP_RENAME && op->key == key);
}

gboolean sim_op_creates(const SimOp *op, const SimKey *key) {
  switch (op->kind) {
  case SIM_OP_WRITE:
  case SIM_OP_APPEND:
  case SIM_OP_PATCH:
  case SIM_OP_CREATE:
  case SIM_OP_MKDIR:
    return TRUE;
  case SIM_OP_RENAME:
    return op->key2 == key;
  case SIM_OP_GET:
  case SIM_OP_LIST:
  case SIM_OP_SYNC:
  case SIM_OP_TRUNCATE:
  case SIM_OP_ZERO:
  case SIM_OP_SETATTR:
  case SIM_OP_NOTE:
  case SIM_OP_REMOVE:
  case SIM_OP_RMDIR:
    break;
  }
  return FALSE;
}

/* ---- beginning ---- */

static SimOp *begin(Sim *sim, guint client, SimOpKind kind) {
  SimHistory *history = sim->history;
  SimOp *op = g_new0(SimOp, 1);
  op->id = history->ops->len + 1;
  op->client = client;
  op->kind = kind;
  op->invoke_us = sim->now_us;
  op->end_us = G_MAXINT64;
  op->issued_floor = history->greatest_issued;
  g_ptr_array_add(history->ops, op);
  sim->result->operations++;
  return op;
}

static void take_all_floors(Sim *sim, SimOp *op) {
  GPtrArray *keys = sim->history->keys;
  op->floors = g_new0(SimFloor, keys->len);
  for (guint i = 0; i < keys->len; i++) {
    const SimKey *key = g_ptr_array_index(keys, i);
    op->floors[i] = op->kind == SIM_OP_SYNC ? acked_of(key) : floor_of(key);
  }
}

SimOp *sim_history_begin(Sim *sim, guint client, SimOpKind kind, SimKey *key, SimKey *key2) {
  SimOp *op = begin(sim, client, kind);
  op->key = key;
  op->key2 = key2;
  op->floor.invoke_us = op->floor2.invoke_us = -1;
  if (key != NULL)
    op->floor = floor_of(key);
  if (key2 != NULL)
    op->floor2 = floor_of(key2);
  if (kind == SIM_OP_SYNC)
    take_all_floors(sim, op);
  if (sim_op_changes(op)) {
    g_ptr_array_add(key->ops, op);
    if (key2 != NULL && key2 != key)
      g_ptr_array_add(key2->ops, op);
  }
  return op;
}

SimOp *sim_history_begin_list(Sim *sim, guint client, const char *dir, const char *after,
                              guint limit) {
  SimOp *op = begin(sim, client, SIM_OP_LIST);
  op->dir = g_strdup(dir);
  op->after = g_strdup(after);
  op->limit = limit;
  take_all_floors(sim, op);
  return op;
}

/* ---- ending ---- */

/* What a status says of a change. */
static SimOutcome outcome_of(const QfsRequest *request) {
  switch (request->status) {
  case QFS_OK:
    return request->superseded ? SIM_SUPERSEDED : SIM_APPLIED;
  case QFS_NOT_FOUND:
  case QFS_EXISTS:
  case QFS_NOT_DIRECTORY:
  case QFS_IS_DIRECTORY:
  case QFS_NOT_EMPTY:
  case QFS_STALE:
  case QFS_NO_QUORUM:
  case QFS_NO_SPACE:
  case QFS_NAME_TOO_LONG:
  case QFS_TOO_BIG:
  case QFS_OVERFLOW:
  case QFS_INVALID:
  case QFS_CROSS:
  case QFS_BUSY:
  case QFS_TOO_MANY_LINKS:
    return SIM_REFUSED;
  case QFS_UNKNOWN:
  case QFS_IO:
  case QFS_CANCELED:
    break;
  }
  return SIM_UNKNOWN;
}

void sim_history_acked(SimKey *key, const SimOp *op, const QfsRecord *record) {
  if (sim_record_order(record, key->acked) <= 0)
    return;
  qfs_record_unref(key->acked);
  key->acked = qfs_record_ref(record);
  key->acked_invoke_us = op->invoke_us;
  key->acked_us = op->end_us;
}

static void forget_up_to(QfsRecord **record, const QfsRecord *tombstone) {
  if (*record != NULL && sim_record_order(*record, tombstone) <= 0)
    g_clear_pointer(record, qfs_record_unref);
}

void sim_history_purged(Sim *sim, SimKey *key, const QfsRecord *tombstone) {
  key->purged_us = sim->now_us;
  key->purged_seq = MAX(key->purged_seq, tombstone->seq);
  if (sim_record_order(tombstone, key->purged) > 0) {
    qfs_record_unref(key->purged);
    key->purged = qfs_record_ref(tombstone);
  }
  forget_up_to(&key->floor, tombstone);
  forget_up_to(&key->acked, tombstone);
  forget_up_to(&key->durable, tombstone);
}

static void raise_durable(SimKey *key, const SimFloor *floor) {
  if (sim_is_purged(key, floor->record))
    return;
  if (sim_record_order(floor->record, key->durable) <= 0)
    return;
  qfs_record_unref(key->durable);
  key->durable = qfs_record_ref(floor->record);
  key->durable_invoke_us = floor->invoke_us;
}

static void end_sync(Sim *sim, SimOp *op, const QfsRequest *request) {
  op->outcome = request->status == QFS_OK ? SIM_ANSWERED : SIM_UNKNOWN;
  if (request->status != QFS_OK)
    return;
  for (guint i = 0; i < sim->history->keys->len; i++) {
    SimKey *key = g_ptr_array_index(sim->history->keys, i);
    if (op->key == NULL || op->key == key) {
      sim_check_durable(sim, op, key, op->floors[i].record);
      raise_durable(key, &op->floors[i]);
    }
  }
}

static void end_change(Sim *sim, SimOp *op, const QfsRequest *request) {
  op->outcome = outcome_of(request);
  if (request->status == QFS_OK) {
    sim->result->acked_puts++;
    op->record = request->record != NULL ? qfs_record_ref(request->record) : NULL;
    op->offset = request->offset;
    sim_check_acknowledged(sim, op, request);
    sim_moments_acknowledged(sim);
    SimFloor made = {.record = op->record, .invoke_us = op->invoke_us};
    if ((op->durable || sim->config.sync) && op->outcome == SIM_APPLIED)
      raise_durable(op->kind == SIM_OP_RENAME ? op->key2 : op->key, &made);
  } else {
    sim_check_refused(sim, op);
  }
}

static void end_read(Sim *sim, SimOp *op, const QfsRequest *request, GBytes *data) {
  if (op->kind == SIM_OP_LIST) {
    op->outcome = request->status == QFS_OK ? SIM_ANSWERED : SIM_UNKNOWN;
    if (request->status == QFS_OK)
      sim_check_list(sim, op, request->entries, request->more);
    return;
  }
  gboolean answered = request->status == QFS_OK || request->status == QFS_NOT_FOUND;
  op->outcome = answered ? SIM_ANSWERED : SIM_UNKNOWN;
  if (!answered)
    return;
  op->record = request->record != NULL ? qfs_record_ref(request->record) : NULL;
  sim->result->gets++;
  sim_check_get(sim, op, request->status == QFS_OK, data);
}

void sim_history_end(Sim *sim, SimOp *op, const QfsRequest *request, GBytes *data) {
  g_assert(op->outcome == SIM_PENDING);
  op->end_us = sim->now_us;
  op->status = request->status;
  if (sim_op_changes(op))
    end_change(sim, op, request);
  else if (op->kind == SIM_OP_SYNC)
    end_sync(sim, op, request);
  else
    end_read(sim, op, request, data);
  op_forget_floors(op, sim->history->keys->len);
  SIM_TRACE(sim, "end %s @%" G_GUINT64_FORMAT, sim_op_text(op),
            op->record != NULL ? op->record->timestamp : 0);
}

/* ---- what is certain to survive ---- */

void sim_history_settled(Sim *sim) {
  for (guint i = 0; i < sim->history->keys->len; i++) {
    SimKey *key = g_ptr_array_index(sim->history->keys, i);
    SimFloor floor = {.record = key->floor, .invoke_us = key->floor_invoke_us};
    raise_durable(key, &floor);
  }
}

/* Was what the operation made promised to outlive a loss of power? */
static gboolean is_durable(const SimOp *op) {
  const SimKey *key = op->kind == SIM_OP_RENAME ? op->key2 : op->key;
  return op->record != NULL && sim_record_order(op->record, key->durable) <= 0;
}

void sim_history_power_lost(Sim *sim) {
  for (guint i = 0; i < sim->history->ops->len; i++) {
    SimOp *op = g_ptr_array_index(sim->history->ops, i);
    if (op->outcome == SIM_APPLIED && !is_durable(op)) {
      op->outcome = SIM_UNKNOWN;
      op->end_us = sim->now_us;
    }
  }
  for (guint i = 0; i < sim->history->keys->len; i++) {
    SimKey *key = g_ptr_array_index(sim->history->keys, i);
    qfs_record_unref(key->floor);
    qfs_record_unref(key->acked);
    key->floor = ref_or_null(key->durable);
    key->acked = ref_or_null(key->durable);
    key->floor_invoke_us = key->acked_invoke_us = key->durable_invoke_us;
    sim_check_still_held(sim, key->name);
  }
}

void sim_history_check_kept(Sim *sim) {
  sim_check_still_held(sim, NULL);
}
