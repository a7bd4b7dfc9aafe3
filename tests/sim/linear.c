/* linear.c - is there one order of a group's operations that explains every answer?
 *
 * Source: Wing and Gong, "Testing and verifying concurrent objects", 1993, with the cache of seen
 * configurations of Lowe, "Testing for linearizability", 2017. A group is up to SLOTS keys that
 * some operation joins (rename, or a directory and what is in it). The state is, per key, who wrote
 * its bytes and who made its version. Independent of the checks by version order in check.c:
 * timestamps are not looked at.
 *
 * A change whose outcome is unknown may take place at any time after it began, or never. The search
 * is bounded; a history that exceeds the bound counts as undecided. What happened since the first
 * loss of power is left out: unpromised effects that were seen may be gone after it.
 */
#include "check.h"

#include <string.h>

#define SLOTS 8
#define OPS_MAX 128
#define STEPS_MAX 60000

typedef struct {
  guint32 content, version; /* operations; version 0: absent */
} Cell;

typedef enum { EFFECT_NONE, EFFECT_SET, EFFECT_CLEAR, EFFECT_TOUCH, EFFECT_MOVE } Effect;

typedef struct {
  gint64 invoke_us, end_us;
  gboolean optional;
  guint8 need_there, need_absent; /* slots, as bits */
  gint8 see, see_not;             /* slot that must (not) be `seen`; -1: none */
  gboolean see_content;
  Cell seen;
  Effect effect;
  guint8 slot, slot2;
  Cell value;
  const SimOp *op;
} Step;

typedef struct {
  Cell cell[SLOTS];
} State;

typedef struct {
  guint64 done[OPS_MAX / 64];
  State state;
} Configuration;

typedef struct {
  Step step[OPS_MAX];
  guint n;
  guint required;   /* steps that are not optional */
  GHashTable *seen; /* Configuration; looked up, never walked */
  guint steps;
  const SimKey *slots[SLOTS];
  guint n_slots;
} Search;

/* ---- steps from operations ---- */

static int slot_of(const Search *search, const SimKey *key) {
  for (guint i = 0; i < search->n_slots; i++)
    if (search->slots[i] == key)
      return (int)i;
  return -1;
}

static int slot_of_class(const Search *search, SimKeyClass class) {
  for (guint i = 0; i < search->n_slots; i++)
    if (search->slots[i]->class == class)
      return (int)i;
  return -1;
}

static guint8 bit(int slot) {
  return slot >= 0 ? (guint8)(1u << slot) : 0;
}

static guint8 bits_of_class(const Search *search, SimKeyClass class) {
  guint8 bits = 0;
  for (guint i = 0; i < search->n_slots; i++)
    if (search->slots[i]->class == class)
      bits |= bit((int)i);
  return bits;
}

static void add_get(Step *step, const SimOp *op, int slot) {
  step->see = (gint8)slot;
  step->see_content = op->record != NULL && op->record->kind == QFS_KIND_VALUE;
  step->seen =
      qfs_record_exists(op->record) ? (Cell){op->seen_content, op->seen_version} : (Cell){0, 0};
  if (op->key->class ==
      SIM_KEY_TOKEN) /* a rename's version has two ends: who wrote the bytes tells */
    step->seen.version = step->seen.content;
}

/* A change that took place, or may have. */
static void add_effect(const Search *search, Step *step, const SimOp *op, int slot) {
  step->slot = (guint8)slot;
  step->value = (Cell){op->id, op->id};
  if (op->key->class == SIM_KEY_CHILD && op->kind != SIM_OP_REMOVE)
    step->need_there |= bit(slot_of_class(search, SIM_KEY_DIRECTORY));
  switch (op->kind) {
  case SIM_OP_WRITE:
    step->effect = EFFECT_SET;
    if (op->exclusive)
      step->need_absent |= bit(slot);
    if (op->conditional) {
      step->see = (gint8)slot;
      step->seen = (Cell){0, op->if_version};
    }
    break;
  case SIM_OP_CREATE:
  case SIM_OP_MKDIR:
    step->effect = EFFECT_SET;
    step->need_absent |= bit(slot);
    break;
  case SIM_OP_SETATTR:
    step->effect = EFFECT_TOUCH;
    step->need_there |= bit(slot);
    break;
  case SIM_OP_REMOVE:
    step->effect = EFFECT_CLEAR;
    break;
  case SIM_OP_RMDIR:
    step->effect = EFFECT_CLEAR;
    step->need_there |= bit(slot);
    step->need_absent |= bits_of_class(search, SIM_KEY_CHILD);
    break;
  case SIM_OP_RENAME:
    step->effect = EFFECT_MOVE;
    step->slot2 = (guint8)slot_of(search, op->key2);
    step->need_there |= bit(slot);
    if (op->exclusive)
      step->need_absent |= bit(step->slot2);
    break;
  case SIM_OP_NOTE:
    step->need_there |= bit(slot);
    break;
  case SIM_OP_GET:
  case SIM_OP_LIST:
  case SIM_OP_SYNC:
  case SIM_OP_APPEND:
  case SIM_OP_PATCH:
  case SIM_OP_TRUNCATE:
  case SIM_OP_ZERO:
    g_assert_not_reached();
  }
}

/* A change that was refused because of what it found. FALSE: its refusal says nothing. */
static gboolean add_refusal(const Search *search, Step *step, const SimOp *op, int slot) {
  switch (op->status) {
  case QFS_EXISTS:
    step->need_there = op->kind == SIM_OP_RENAME ? bit(slot_of(search, op->key2)) : bit(slot);
    return TRUE;
  case QFS_NOT_FOUND:
    if (op->key->class == SIM_KEY_CHILD && op->kind != SIM_OP_REMOVE && op->kind != SIM_OP_SETATTR &&
        op->kind != SIM_OP_NOTE)
      step->need_absent = bit(slot_of_class(search, SIM_KEY_DIRECTORY));
    else
      step->need_absent = bit(slot);
    return TRUE;
  case QFS_STALE:
    step->see_not = (gint8)slot;
    step->seen = (Cell){0, op->if_version};
    return TRUE;
  default:
    return FALSE;
  }
}

/* FALSE: the operation has no place in the search. */
static gboolean make_step(const Search *search, const SimOp *op, gint64 horizon_us, Step *step) {
  int slot = slot_of(search, op->key);
  gboolean late = op->end_us >= horizon_us; /* as if it were still pending */
  *step =
      (Step){.invoke_us = op->invoke_us, .end_us = op->end_us, .see = -1, .see_not = -1, .op = op};
  switch (op->outcome) {
  case SIM_ANSWERED:
    if (late || op->kind != SIM_OP_GET)
      return FALSE;
    add_get(step, op, slot);
    return TRUE;
  case SIM_REFUSED:
    return !late && add_refusal(search, step, op, slot);
  case SIM_APPLIED:
  case SIM_PENDING:
  case SIM_UNKNOWN:
    if (!sim_op_changes(op))
      return FALSE;
    step->optional = late || op->outcome != SIM_APPLIED;
    if (step->optional)
      step->end_us = G_MAXINT64;
    add_effect(search, step, op, slot);
    return TRUE;
  case SIM_SUPERSEDED:
    break;
  }
  return FALSE;
}

/* ---- the search ---- */

static guint configuration_hash(gconstpointer data) {
  guint64 hash = qfs_digest(data, sizeof(Configuration));
  return (guint)(hash ^ (hash >> 32));
}

static gboolean configuration_equal(gconstpointer a, gconstpointer b) {
  return memcmp(a, b, sizeof(Configuration)) == 0;
}

static gboolean is_done(const Configuration *at, guint i) {
  return (at->done[i / 64] >> (i % 64)) & 1;
}

static gboolean is_match(const Step *step, Cell cell) {
  return cell.version == step->seen.version &&
         (!step->see_content || cell.content == step->seen.content);
}

/* FALSE: the step cannot happen in this state. */
static gboolean apply(const Step *step, State *state) {
  for (guint i = 0; i < SLOTS; i++) {
    gboolean there = state->cell[i].version != 0;
    if ((step->need_there >> i & 1 && !there) || (step->need_absent >> i & 1 && there))
      return FALSE;
  }
  if (step->see >= 0 && !is_match(step, state->cell[step->see]))
    return FALSE;
  if (step->see_not >= 0 && is_match(step, state->cell[step->see_not]))
    return FALSE;
  switch (step->effect) {
  case EFFECT_NONE:
    break;
  case EFFECT_SET:
    state->cell[step->slot] = step->value;
    break;
  case EFFECT_CLEAR:
    state->cell[step->slot] = (Cell){0, 0};
    break;
  case EFFECT_TOUCH:
    state->cell[step->slot].version = step->value.version;
    break;
  case EFFECT_MOVE:
    if (step->slot != step->slot2) {
      state->cell[step->slot2] = state->cell[step->slot];
      state->cell[step->slot] = (Cell){0, 0};
    }
    break;
  }
  return TRUE;
}

/* TRUE: an order was found, or the bound was reached. */
static gboolean explore(Search *search, const Configuration *at, guint required_done) {
  if (required_done == search->required || ++search->steps > STEPS_MAX)
    return TRUE;
  if (!g_hash_table_add(search->seen, g_memdup2(at, sizeof *at)))
    return FALSE;
  gint64 first_end_us = G_MAXINT64; /* nothing that began later can come before what ends here */
  for (guint i = 0; i < search->n; i++)
    if (!is_done(at, i))
      first_end_us = MIN(first_end_us, search->step[i].end_us);
  for (guint i = 0; i < search->n; i++) {
    const Step *step = &search->step[i];
    if (is_done(at, i) || step->invoke_us > first_end_us)
      continue;
    Configuration next = *at;
    if (!apply(step, &next.state))
      continue;
    next.done[i / 64] |= G_GUINT64_CONSTANT(1) << (i % 64);
    if (explore(search, &next, required_done + !step->optional))
      return TRUE;
  }
  return FALSE;
}

/* ---- groups ---- */

static gboolean has_steps(SimKeyClass class) {
  return class != SIM_KEY_LOG && class != SIM_KEY_PATCHED;
}

/* Collects what began before `horizon`; FALSE: too much. */
static gboolean collect(Sim *sim, Search *search, gint64 horizon_us) {
  search->n = search->required = 0;
  for (guint i = 0; i < sim->history->ops->len; i++) {
    const SimOp *op = g_ptr_array_index(sim->history->ops, i);
    Step step;
    if (op->key == NULL || op->invoke_us >= horizon_us || slot_of(search, op->key) < 0 ||
        !make_step(search, op, horizon_us, &step))
      continue;
    if (search->n == OPS_MAX)
      return FALSE;
    search->step[search->n++] = step;
    search->required += !step.optional;
  }
  return TRUE;
}

static void check_group(Sim *sim, guint group, gint64 horizon_us) {
  Search search = {0};
  for (guint i = 0; i < sim->history->keys->len; i++) {
    const SimKey *key = g_ptr_array_index(sim->history->keys, i);
    if (key->group == group && has_steps(key->class) && search.n_slots < SLOTS)
      search.slots[search.n_slots++] = key;
  }
  if (search.n_slots == 0)
    return;
  while (!collect(sim, &search, horizon_us)) /* too long: a beginning of it is a history too */
    horizon_us = search.step[OPS_MAX / 2].invoke_us;
  search.seen = g_hash_table_new_full(configuration_hash, configuration_equal, g_free, NULL);
  Configuration start;
  memset(&start, 0, sizeof start);
  gboolean found = explore(&search, &start, 0);
  g_hash_table_unref(search.seen);
  if (search.steps > STEPS_MAX)
    sim->result->linear_open++;
  else
    sim->result->linear_checked++;
  if (found)
    return;
  for (guint i = 0; i < search.n; i++)
    SIM_TRACE(
        sim, "history: %12" G_GINT64_FORMAT " .. %12" G_GINT64_FORMAT " %s saw %u/%u",
        search.step[i].invoke_us, search.step[i].end_us == G_MAXINT64 ? -1 : search.step[i].end_us,
        sim_op_text(search.step[i].op), search.step[i].seen.content, search.step[i].seen.version);
  sim_fail(sim, "no order of the %u operations on %s explains their answers", search.n,
           search.slots[0]->name);
}

void sim_check_linear(Sim *sim) {
  gint64 horizon_us = G_MAXINT64;
  if (sim->power_losses > 0)
    horizon_us = sim->first_power_loss_us;
  guint groups = 0;
  for (guint i = 0; i < sim->history->keys->len; i++)
    groups = MAX(groups, ((const SimKey *)g_ptr_array_index(sim->history->keys, i))->group + 1);
  for (guint group = 0; group < groups; group++)
    check_group(sim, group, horizon_us);
}
