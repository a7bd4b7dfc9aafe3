/* workload.c - see workload.h. */
#include "workload.h"

#include "content.h"

#include <string.h>

#define CLIENTS_MAX 6
#define COLD_DIR "dir"
#define TOKEN_DIR "ren"

struct SimClients {
  SimClient client[CLIENTS_MAX + 1]; /* the last one is asked by the scenario */
  guint n;
  guint next_group;
  guint left; /* operations still to begin */
  gint64 think_us;
  guint large_percent; /* of values that are large */
  /* where an operation goes, in percent */
  GArray *targets; /* guint key index; hot keys several times */
  GPtrArray *tokens, *children;
  SimKey *directory;
  SimKeyClass focus; /* keys of this class come up five times as often */
  guint gather_percent; /* of operations that go where the latest one went: clients meet at one key */
  guint gathered;       /* its index */
};

static SimRandom *dice(Sim *sim) {
  return &sim->random;
}

/* ---- keys ---- */

static void add_keys(Sim *sim, const char *format, guint n, SimKeyClass class, guint *group,
                     gboolean join, guint weight) {
  SimClients *clients = sim->clients;
  for (guint i = 0; i < n; i++) {
    g_autofree char *name = g_strdup_printf("%s%u", format, i);
    SimKey *key = sim_history_add_key(sim->history, name, class, *group);
    if (!join || i + 1 == n)
      ++*group;
    for (guint w = class == clients->focus ? 5 * weight : weight; w > 0; w--)
      g_array_append_val(clients->targets, key->index);
    if (class == SIM_KEY_TOKEN)
      g_ptr_array_add(clients->tokens, key);
    if (class == SIM_KEY_CHILD)
      g_ptr_array_add(clients->children, key);
  }
}

SimClients *sim_clients_new(Sim *sim) {
  SimClients *clients = sim->clients = g_new0(SimClients, 1);
  clients->targets = g_array_new(FALSE, FALSE, sizeof(guint));
  clients->tokens = g_ptr_array_new();
  clients->children = g_ptr_array_new();
  /* Combinations of few keys as well as all at once, as with the kinds of faults (faults.h). */
  clients->focus = sim_random_percent(dice(sim), 50)
                       ? (SimKeyClass)sim_random_below(dice(sim), SIM_KEY_CHILD)
                       : SIM_KEY_CHILD;
  clients->gather_percent = sim_random_percent(dice(sim), 50) ? 0 : sim_random_below(dice(sim), 80);
  guint group = 0;
  add_keys(sim, "hot", 2 + sim_random_below(dice(sim), 2), SIM_KEY_VALUE, &group, FALSE, 6);
  add_keys(sim, "stamped", 2, SIM_KEY_STAMPED, &group, FALSE, 5);
  add_keys(sim, "log", 2, SIM_KEY_LOG, &group, FALSE, 5);
  add_keys(sim, "patched", 2, SIM_KEY_PATCHED, &group, FALSE, 4);
  add_keys(sim, COLD_DIR "/c", 8 + sim_random_below(dice(sim), 8), SIM_KEY_VALUE, &group, FALSE, 1);
  add_keys(sim, TOKEN_DIR "/t", 4, SIM_KEY_TOKEN, &group, TRUE, 2);
  clients->directory = sim_history_add_key(sim->history, "tree", SIM_KEY_DIRECTORY, group);
  g_array_append_val(clients->targets, clients->directory->index);
  g_array_append_val(clients->targets, clients->directory->index);
  g_array_append_val(clients->targets, clients->directory->index);
  add_keys(sim, "tree/x", 2, SIM_KEY_CHILD, &group, TRUE, 2);
  clients->next_group = group;
  return clients;
}

void sim_clients_free(SimClients *clients) {
  if (clients == NULL)
    return;
  for (guint i = 0; i <= CLIENTS_MAX; i++)
    sim_client_clear(&clients->client[i]);
  g_array_unref(clients->targets);
  g_ptr_array_unref(clients->tokens);
  g_ptr_array_unref(clients->children);
  g_free(clients);
}

/* ---- choices by class ---- */

static gsize value_size(Sim *sim) {
  if (sim_random_percent(dice(sim), sim->clients->large_percent))
    return (gsize)sim_random_spread(dice(sim), 30000, 400000);
  if (sim_random_percent(dice(sim), 5))
    return 0;
  return (gsize)sim_random_spread(dice(sim), SIM_VALUE_MIN, 4000);
}

static SimOp *begin(SimClient *client, SimOpKind kind, SimKey *key) {
  return sim_history_begin(client->sim, client->id, kind, key, NULL);
}

static SimOp *begin_write(SimClient *client, SimKey *key) {
  SimOp *op = begin(client, SIM_OP_WRITE, key);
  op->size = value_size(client->sim);
  op->durable = sim_random_percent(dice(client->sim), 10);
  return op;
}

/* The write goes through only if the key is as somebody last saw it. */
static void make_conditional(SimOp *op, const SimKey *key) {
  op->conditional = TRUE;
  if (qfs_record_exists(key->floor)) {
    op->if_timestamp = key->floor->timestamp;
    op->if_version = sim_op_of_ns(key->floor->attr.ctime_ns);
  }
}

static SimOp *choose_value(SimClient *client, SimKey *key) {
  guint roll = sim_random_below(dice(client->sim), 100);
  if (roll < 36)
    return begin(client, roll < 34 ? SIM_OP_GET : SIM_OP_NOTE, key);
  if (roll < 78) {
    SimOp *op = begin_write(client, key);
    if (roll < 44)
      op->exclusive = TRUE;
    else if (roll < 52)
      make_conditional(op, key);
    return op;
  }
  if (roll < 82)
    return begin(client, SIM_OP_CREATE, key);
  if (roll < 88)
    return begin(client, SIM_OP_SETATTR, key);
  if (roll < 97)
    return begin(client, SIM_OP_REMOVE, key);
  return begin(client, SIM_OP_SYNC, roll < 99 ? key : NULL);
}

/* Old ones, ties, the middle of the range where the sign bit is, and the end of it. */
static guint64 explicit_timestamp(Sim *sim) {
  static const guint64 ties[] = {5, 9, G_MAXINT64, (guint64)G_MAXINT64 + 1};
  guint roll = sim_random_below(dice(sim), 100);
  if (roll < 30)
    return 1 + sim_random_below(dice(sim), 1000);
  if (roll < 60)
    return ties[sim_random_below(dice(sim), G_N_ELEMENTS(ties))];
  guint64 now = (guint64)(SIM_WALL_START_MS + sim->now_us / 1000) << 22;
  if (roll < 85)
    return now + sim_random_u64(dice(sim)) % (G_GUINT64_CONSTANT(1) << 30);
  return roll < 97 ? G_MAXUINT64 / 2 + sim_random_u64(dice(sim)) / 2
                   : G_MAXUINT64 - sim_random_below(dice(sim), 2);
}

static SimOp *choose_stamped(SimClient *client, SimKey *key) {
  guint roll = sim_random_below(dice(client->sim), 100);
  if (roll < 40)
    return begin(client, roll < 36 ? SIM_OP_GET : SIM_OP_NOTE, key);
  SimOp *op = roll < 84 ? begin_write(client, key) : begin(client, SIM_OP_REMOVE, key);
  op->has_timestamp = roll < 72 || (roll >= 84 && roll < 94);
  if (op->has_timestamp)
    op->timestamp = explicit_timestamp(client->sim);
  return op;
}

static SimOp *choose_log(SimClient *client, SimKey *key) {
  guint roll = sim_random_below(dice(client->sim), 100);
  if (roll < 36)
    return begin(client, roll < 34 ? SIM_OP_GET : SIM_OP_NOTE, key);
  if (roll < 92) {
    SimOp *op = begin(client, SIM_OP_APPEND, key);
    op->size = (gsize)sim_random_spread(dice(client->sim), 24, 6000);
    op->durable = roll >= 90;
    return op;
  }
  if (roll < 94)
    return begin(client, SIM_OP_REMOVE, key);
  if (roll < 97)
    return begin(client, SIM_OP_SYNC, key);
  SimOp *op = begin(client, SIM_OP_WRITE, key);
  op->size = roll == 99 ? 0 : 24 + sim_random_below(dice(client->sim), 3000);
  return op;
}

static SimOp *choose_patched(SimClient *client, SimKey *key) {
  guint roll = sim_random_below(dice(client->sim), 100);
  if (roll < 36)
    return begin(client, roll < 34 ? SIM_OP_GET : SIM_OP_NOTE, key);
  if (roll < 87) {
    SimOp *op = begin(client, SIM_OP_PATCH, key);
    op->count = (guint)sim_random_spread(dice(client->sim), 1, 80);
    op->first = sim_random_below(dice(client->sim), SIM_CELLS_MAX - op->count);
    if (sim_random_percent(dice(client->sim), 40)) /* mostly small files */
      op->first /= 16;
    return op;
  }
  if (roll < 93) {
    static const guint bare[] = {QFS_WRITE_ZERO, QFS_WRITE_ZERO | QFS_WRITE_KEEP_SIZE, QFS_WRITE_GROW};
    SimOp *op = begin(client, SIM_OP_ZERO, key);
    op->bare = bare[sim_random_below(dice(client->sim), G_N_ELEMENTS(bare))];
    op->count = (guint)sim_random_spread(dice(client->sim), 1, 250);
    op->first = sim_random_below(dice(client->sim), SIM_CELLS_MAX - op->count);
    return op;
  }
  if (roll < 96) {
    SimOp *op = begin(client, SIM_OP_TRUNCATE, key);
    op->first = sim_random_below(dice(client->sim), SIM_CELLS_MAX);
    return op;
  }
  return begin(client, roll < 98 ? SIM_OP_WRITE : SIM_OP_REMOVE, key);
}

static SimOp *choose_token(SimClient *client, SimKey *key) {
  Sim *sim = client->sim;
  guint roll = sim_random_below(dice(sim), 100);
  if (roll < 30)
    return begin(client, roll < 28 ? SIM_OP_GET : SIM_OP_NOTE, key);
  if (roll < 40) /* the first names, or those after one that is in use */
    return sim_history_begin_list(sim, client->id, TOKEN_DIR, roll < 33 ? NULL : key->name + strlen(TOKEN_DIR "/"),
                                  2 + sim_random_below(dice(sim), 8));
  if (roll < 60) {
    SimOp *op = begin_write(client, key);
    op->exclusive = TRUE;
    op->size += SIM_VALUE_MIN;
    return op;
  }
  if (roll < 65)
    return begin(client, SIM_OP_REMOVE, key);
  SimKey *to = key;
  while (to == key)
    to = g_ptr_array_index(sim->clients->tokens,
                           sim_random_below(dice(sim), sim->clients->tokens->len));
  SimOp *op = sim_history_begin(sim, client->id, SIM_OP_RENAME, key, to);
  op->exclusive = sim_random_percent(dice(sim), 30);
  return op;
}

static SimOp *choose_directory(SimClient *client, SimKey *key) {
  guint roll = sim_random_below(dice(client->sim), 100);
  if (roll < 40)
    return begin(client, SIM_OP_MKDIR, key);
  if (roll < 75)
    return begin(client, SIM_OP_RMDIR, key);
  if (roll < 90)
    return begin(client, roll < 88 ? SIM_OP_GET : SIM_OP_NOTE, key);
  return sim_history_begin_list(client->sim, client->id, "tree", NULL, 10);
}

static SimOp *choose_child(SimClient *client, SimKey *key) {
  guint roll = sim_random_below(dice(client->sim), 100);
  if (roll < 40) {
    SimOp *op = begin_write(client, key);
    op->exclusive = roll < 12;
    return op;
  }
  return begin(client, roll < 75 ? SIM_OP_REMOVE : roll < 97 ? SIM_OP_GET : SIM_OP_NOTE, key);
}

static SimOp *choose(SimClient *client) {
  Sim *sim = client->sim;
  SimClients *clients = sim->clients;
  if (sim_random_percent(dice(sim), 4))
    return sim_history_begin_list(sim, client->id, COLD_DIR, NULL,
                                  (guint)sim_random_range(dice(sim), 2, 20));
  if (!sim_random_percent(dice(sim), clients->gather_percent))
    clients->gathered =
        g_array_index(clients->targets, guint, sim_random_below(dice(sim), clients->targets->len));
  SimKey *key = g_ptr_array_index(sim->history->keys, clients->gathered);
  switch (key->class) {
  case SIM_KEY_VALUE:
    return choose_value(client, key);
  case SIM_KEY_STAMPED:
    return choose_stamped(client, key);
  case SIM_KEY_LOG:
    return choose_log(client, key);
  case SIM_KEY_PATCHED:
    return choose_patched(client, key);
  case SIM_KEY_TOKEN:
    return choose_token(client, key);
  case SIM_KEY_DIRECTORY:
    return choose_directory(client, key);
  case SIM_KEY_CHILD:
    return choose_child(client, key);
  }
  g_assert_not_reached();
}

/* ---- the course of a client ---- */

static void on_think_over(Sim *sim, gpointer data);

static void think(SimClient *client) {
  Sim *sim = client->sim;
  sim_after(sim, sim_random_range(dice(sim), 1, 2 * sim->clients->think_us), on_think_over, client);
}

static void on_think_over(Sim *sim, gpointer data) {
  SimClient *client = data;
  if (sim->clients->left == 0)
    return;
  if (!sim_daemon_is_up(sim)) {
    sim_after(sim, 5 * SIM_MS, on_think_over, client);
    return;
  }
  sim->clients->left--;
  SimOp *op = choose(client);
  sim_client_run(client, op,
                 op->size > 0 && sim_random_percent(dice(sim), op->size > 60000 ? 40 : 2));
}

static void on_asked(SimClient *client) {}

void sim_clients_start(Sim *sim, guint operations) {
  SimClients *clients = sim->clients;
  clients->n = 2 + sim_random_below(dice(sim), CLIENTS_MAX - 1);
  clients->think_us = sim->fast ? sim_random_spread(dice(sim), 100, 2 * SIM_MS)
                                : sim_random_spread(dice(sim), 2 * SIM_MS, 100 * SIM_MS);
  clients->large_percent = sim_random_percent(dice(sim), 50) ? 2 : 12;
  clients->left = operations;
  for (guint i = 0; i < clients->n; i++) {
    sim_client_init(&clients->client[i], sim, i + 1, think);
    think(&clients->client[i]);
  }
}

void sim_clients_stop(Sim *sim) {
  sim->clients->left = 0;
}

gboolean sim_clients_are_idle(Sim *sim) {
  for (guint i = 0; i < sim->clients->n; i++)
    if (sim->clients->client[i].op != NULL)
      return FALSE;
  return sim->clients->left == 0;
}

/* ---- asked by the scenario ---- */

static SimClient *asked_client(Sim *sim) {
  SimClient *client = &sim->clients->client[CLIENTS_MAX];
  if (client->sim == NULL)
    sim_client_init(client, sim, 0, on_asked);
  return client;
}

static gboolean asked_client_is_idle(Sim *sim) {
  return sim->clients->client[CLIENTS_MAX].op == NULL;
}

static SimOp *ask(Sim *sim, SimOp *op) {
  sim_client_run(asked_client(sim), op, FALSE);
  if (!sim_run_until(sim, asked_client_is_idle, 60 * SIM_SECOND))
    sim_fail(sim, "%s was never answered", sim_op_text(op));
  return op;
}

SimOp *sim_clients_get(Sim *sim, SimKey *key) {
  return ask(sim, begin(asked_client(sim), SIM_OP_GET, key));
}

SimOp *sim_clients_change(Sim *sim, SimKey *key) {
  SimClient *client = asked_client(sim);
  SimOpKind kind = SIM_OP_WRITE;
  if (key->class == SIM_KEY_LOG)
    kind = SIM_OP_APPEND;
  else if (key->class == SIM_KEY_PATCHED)
    kind = SIM_OP_PATCH;
  else if (key->class == SIM_KEY_DIRECTORY || key->class == SIM_KEY_CHILD)
    kind = qfs_record_exists(key->floor) ? SIM_OP_SETATTR : SIM_OP_REMOVE;
  SimOp *op = begin(client, kind, key);
  op->size = 100;
  op->count = 3;
  return ask(sim, op);
}

SimOp *sim_clients_remove(Sim *sim, SimKey *key) {
  return ask(sim, begin(asked_client(sim), SIM_OP_REMOVE, key));
}

void sim_clients_prepare(Sim *sim) {
  static const char *const dirs[] = {COLD_DIR, TOKEN_DIR};
  for (guint i = 0; i < G_N_ELEMENTS(dirs); i++) {
    SimKey *key =
        sim_history_add_key(sim->history, dirs[i], SIM_KEY_DIRECTORY, sim->clients->next_group++);
    SimOp *op = ask(sim, begin(asked_client(sim), SIM_OP_MKDIR, key));
    SIM_CHECK(sim, op->outcome == SIM_APPLIED, "%s", sim_op_text(op));
  }
}
