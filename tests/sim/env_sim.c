/* env_sim.c - QfsEnv over virtual time (cluster/env.h): the world that a coordinator and its nodes
 * see.
 *
 * A message is an event at its arrival. What arrived at a node waits in its inbox until the node
 * takes some of it as a batch; a direct read is one event at the node and another at the
 * coordinator; an answered request is an event. So everything else can happen between any two of
 * these.
 */
#include "moments.h"
#include "sim.h"

/* Rarely a hop takes this much longer than usual, in usual latencies. */
#define STRAGGLER 20

static Sim *sim_of(QfsEnv *env) {
  return (Sim *)env;
}

/* ---- clocks and chance ---- */

static gint64 env_now_us(QfsEnv *env) {
  return sim_of(env)->now_us - sim_of(env)->monotonic_base_us;
}

static gint64 env_wall_ms(QfsEnv *env) {
  Sim *sim = sim_of(env);
  gint64 wall_ms = SIM_WALL_START_MS + sim->now_us / 1000 + sim->wall_offset_ms;
  sim->greatest_wall_ms = MAX(sim->greatest_wall_ms, wall_ms);
  return wall_ms;
}

static guint64 env_random(QfsEnv *env) {
  return sim_random_u64(&sim_of(env)->random);
}

static void on_tick(Sim *sim, gpointer data) {
  if (GPOINTER_TO_SIZE(data) != sim->wake_id)
    return; /* an earlier wish came in between */
  sim->wake_us = G_MAXINT64;
  qfs_coordinator_tick(sim->coordinator);
}

static void env_wake_at(QfsEnv *env, gint64 at_us) {
  Sim *sim = sim_of(env);
  gint64 wanted_us = MAX(at_us + sim->monotonic_base_us, sim->now_us);
  if (wanted_us >= sim->wake_us)
    return;
  sim->wake_us = wanted_us;
  gint64 late_us = sim_random_range(&sim->random, 0, 200);
  sim_after_in_run(sim, wanted_us - sim->now_us + late_us, on_tick,
                   GSIZE_TO_POINTER(++sim->wake_id), NULL);
}

/* ---- links ---- */

/* When something sent now over `link` arrives. */
static gint64 arrival_us(Sim *sim, SimLink *link) {
  gint64 latency_us = sim_random_range(&sim->random, sim->latency_us / 4 + 1, sim->latency_us + 1);
  if (sim_random_below(&sim->random, 64) == 0)
    latency_us *= STRAGGLER;
  if (link->delay_us > 0)
    latency_us += sim_random_range(&sim->random, link->delay_us / 2, link->delay_us);
  gint64 at_us = sim->now_us + latency_us;
  if (!sim->reorder)
    at_us = MAX(at_us, link->last_us);
  link->last_us = MAX(link->last_us, at_us);
  return at_us;
}

/* How many copies of a message arrive: 0, 1, 2. */
static guint copies(Sim *sim, const SimLink *link) {
  if (link->cut ||
      (link->loss_percent > 0 && sim_random_percent(&sim->random, link->loss_percent))) {
    sim->result->lost++;
    return 0;
  }
  gboolean twice =
      link->duplicate_percent > 0 && sim_random_percent(&sim->random, link->duplicate_percent);
  sim->result->duplicated += twice;
  return twice ? 2 : 1;
}

/* When copy `i` of a message arrives. A second one may turn up long after. */
static gint64 copy_delay_us(Sim *sim, SimLink *link, guint i) {
  if (i > 0 && sim_random_percent(&sim->random, sim->ghost_percent))
    return sim_random_spread(&sim->random, 1 * SIM_MS, 4 * SIM_SECOND);
  return arrival_us(sim, link) - sim->now_us;
}

/* The first record or chunk of a message, for the trace; newly allocated. */
static char *first_of(const QfsMessage *m) {
  if (m->records != NULL && m->records->len > 0) {
    const QfsRecord *record = g_ptr_array_index(m->records, 0);
    return g_strdup_printf(
        "%s@%" G_GUINT64_FORMAT " kind %d size %" G_GUINT64_FORMAT " tail from %" G_GUINT64_FORMAT
        " seq %" G_GUINT64_FORMAT ":%" G_GUINT64_FORMAT " (%u)",
        record->key, record->timestamp, record->kind, record->attr.size, record->tail_offset,
        QFS_SEQ_EPOCH(record->seq), QFS_SEQ_COUNTER(record->seq), m->records->len);
  }
  if (m->chunks != NULL && m->chunks->len > 0) {
    GString *text = g_string_new(NULL);
    guint64 object = 0;
    for (guint i = 0; i < m->chunks->len; i++) {
      const QfsChunk *chunk = g_ptr_array_index(m->chunks, i);
      if (i == 0 || object != chunk->object.unique)
        g_string_append_printf(text, "object %08x ", (guint)chunk->object.unique);
      g_string_append_printf(text, "%" G_GUINT64_FORMAT "@%" G_GUINT64_FORMAT " ", chunk->index,
                             chunk->version);
      object = chunk->object.unique;
    }
    return g_string_free(text, FALSE);
  }
  if (m->meta != NULL)
    return g_strdup_printf("mark %" G_GUINT64_FORMAT " settled %" G_GUINT64_FORMAT
                           " generation %" G_GUINT64_FORMAT " epoch %" G_GUINT64_FORMAT
                           " in sync %" G_GINT64_MODIFIER "x",
                           m->meta->mark, m->meta->settled, m->meta->generation,
                           m->meta->view.epoch, m->meta->view.in_sync);
  if (m->type == QFS_MESSAGE_SYNC || m->view != NULL)
    return g_strdup_printf("mark %" G_GUINT64_FORMAT " settled %" G_GUINT64_FORMAT
                           " in sync %" G_GINT64_MODIFIER "x",
                           m->mark, m->settled, m->view != NULL ? m->view->in_sync : 0);
  return g_strdup(m->key != NULL ? m->key : "");
}

static void trace_message(Sim *sim, const char *what, const QfsMessage *m) {
  if (G_LIKELY(!sim->trace.on))
    return;
  g_autofree char *first = first_of(m);
  SIM_TRACE(sim,
            "%s %u.%" G_GUINT64_FORMAT " %s%s #%" G_GUINT64_FORMAT " epoch %" G_GUINT64_FORMAT
            "%s%s%s %s %s",
            what, m->node, m->incarnation, qfs_message_type_name(m->type),
            m->is_reply ? " reply" : "", m->cookie, m->epoch, m->durable ? " durable" : "",
            m->durable ? " durable" : "", m->force ? " force" : "",
            m->is_reply ? qfs_status_name(m->status) : "", first);
}

static void message_drop(gpointer message) {
  qfs_message_free(message);
}

/* A message on its way to a process of a node. */
typedef struct {
  QfsMessage *message;
  guint64 process;
} Delivery;

static void delivery_drop(gpointer data) {
  Delivery *delivery = data;
  qfs_message_free(delivery->message);
  g_free(delivery);
}

/* A message reaches its node's inbox, if the process it was sent to still lives. */
static void on_request_arrives(Sim *sim, gpointer data) {
  Delivery *delivery = data;
  SimNode *node = &sim->node[delivery->message->node];
  if (!node->started || node->process != delivery->process) {
    sim->result->lost++;
    delivery_drop(delivery);
    return;
  }
  g_ptr_array_add(node->inbox, delivery->message);
  g_free(delivery);
  sim_env_poke(sim, node);
}

static void deliver(Sim *sim, SimNode *node, const QfsMessage *message, gint64 delay_us) {
  Delivery *delivery = g_new(Delivery, 1);
  *delivery =
      (Delivery){.message = qfs_message_copy(message, message->node), .process = node->process};
  sim_after_in_run(sim, delay_us, on_request_arrives, delivery, delivery_drop);
}

static void env_send(QfsEnv *env, QfsMessage *message) {
  Sim *sim = sim_of(env);
  SimNode *node = &sim->node[message->node];
  trace_message(sim, "send to", message);
  guint n = copies(sim, &node->to);
  for (guint i = 0; i < n; i++)
    deliver(sim, node, message, copy_delay_us(sim, &node->to, i));
  if (n == 0)
    trace_message(sim, "lost to", message);
  gint64 late_us = sim_moments_copy_us(sim, message);
  if (late_us > 0)
    deliver(sim, node, message, late_us);
  qfs_message_free(message);
}

static void on_reply_arrives(Sim *sim, gpointer data) {
  trace_message(sim, "got from", data);
  sim->node[((const QfsMessage *)data)->node].replied_us = sim->now_us;
  qfs_coordinator_receive(sim->coordinator, data);
}

/* Called while the node handles a batch. A node that crashed in the middle says nothing any more.
 */
static void env_reply(QfsEnv *env, QfsMessage *message) {
  Sim *sim = sim_of(env);
  SimNode *node = &sim->node[message->node];
  guint n = sim->disk[message->node].crashed ? 0 : copies(sim, &node->from);
  for (guint i = 0; i < n; i++)
    sim_after_in_run(sim, copy_delay_us(sim, &node->from, i), on_reply_arrives,
                     qfs_message_copy(message, message->node), message_drop);
  if (n == 0)
    trace_message(sim, "lost from", message);
  qfs_message_free(message);
}

/* ---- a node at work ---- */

static void on_node_works(Sim *sim, gpointer data) {
  SimNode *node = data;
  node->working = FALSE;
  if (node->node == NULL)
    return;
  if (node->inbox->len == 0) {
    if (qfs_node_idle(node->node))
      sim_env_poke(sim, node);
  } else {
    /* Usually all that waits, sometimes only the beginning of it. */
    guint n = node->inbox->len;
    if (sim_random_percent(&sim->random, 20))
      n = 1 + sim_random_below(&sim->random, n);
    g_autoptr(GPtrArray) batch = g_ptr_array_new_with_free_func(message_drop);
    for (guint i = 0; i < n; i++)
      g_ptr_array_add(batch, g_ptr_array_index(node->inbox, i));
    g_ptr_array_set_free_func(node->inbox, NULL);
    g_ptr_array_remove_range(node->inbox, 0, n);
    g_ptr_array_set_free_func(node->inbox, message_drop);
    SIM_TRACE(sim, "node %u handles %u", node->number, n);
    guint types = 0;
    for (guint i = 0; i < n; i++) {
      const QfsMessage *message = g_ptr_array_index(batch, i);
      types |= 1u << message->type;
      if (message->type == QFS_MESSAGE_WIPE)
        sim->disk[node->number].wipe_incarnation = message->incarnation;
      if (message->type == QFS_MESSAGE_WIPE && message->aside != NULL && node->node != NULL)
        sim_node_set_aside(sim, node, message);
    }
    if (node->node == NULL)
      return;
    sim->disk[node->number].collecting = (types >> QFS_MESSAGE_PURGE & 1) != 0;
    qfs_node_handle(node->node, batch);
    sim_moments_handled(sim, node->number, types);
    sim_env_poke(sim, node);
  }
  if (sim->disk[node->number].crashed)
    sim_node_crash(sim, node->number, "injected: crash at a commit");
}

void sim_env_poke(Sim *sim, SimNode *node) {
  if (node->working || node->node == NULL)
    return;
  node->working = TRUE;
  gint64 us = node->inbox->len > 0 ? sim_random_range(&sim->random, 10, node->service_us) : 2000;
  if (node->inbox->len > 0 && node->busy_us > 0)
    us += sim_random_range(&sim->random, node->busy_us / 2, node->busy_us);
  sim_after_in_run(sim, us, on_node_works, node, NULL);
}

/* ---- direct reads ---- */

static void read_drop(gpointer read) {
  qfs_read_free(read);
}

static void on_read_answered(Sim *sim, gpointer data) {
  QfsRead *read = data;
  SIM_TRACE(sim, "read of %u answered: %s %s", read->node, read->key != NULL ? read->key : "chunks",
            qfs_status_name(read->status));
  for (guint i = 0; read->chunks != NULL && i < read->count; i++)
    SIM_TRACE(
        sim, "  chunk %" G_GUINT64_FORMAT " at most @%" G_GUINT64_FORMAT ": @%" G_GUINT64_FORMAT,
        read->index + i, qfs_spans_newest(read->spans), read->chunks[i] != NULL ? read->chunks[i]->version : 0);
  qfs_coordinator_read_done(sim->coordinator, read);
}

/* A hop of a direct read: usually no link at all, but a node's cut, lossy or slow link is its
 * reads', too. */
static void read_goes(Sim *sim, SimLink *link, SimEventFn arrives, QfsRead *read) {
  if (copies(sim, link) == 0) {
    SIM_TRACE(sim, "read of %u lost: %s", read->node, read->key != NULL ? read->key : "chunks");
    qfs_read_free(read);
    return;
  }
  gint64 us = sim_random_range(&sim->random, 1, sim->read_us);
  if (link->delay_us > 0)
    us += sim_random_range(&sim->random, link->delay_us / 2, link->delay_us);
  if (sim_random_below(&sim->random, 64) == 0) /* its disk has a bad moment */
    us += sim_random_spread(&sim->random, SIM_MS, 200 * SIM_MS);
  sim_after_in_run(sim, us, arrives, read, read_drop);
}

static void on_read_runs(Sim *sim, gpointer data) {
  QfsRead *read = data;
  SimNode *node = &sim->node[read->node];
  SIM_TRACE(sim, "read of %u runs: %s", read->node, read->key != NULL ? read->key : "chunks");
  g_autoptr(GError) error = NULL;
  if (node->node == NULL) {
    qfs_read_fail(read, QFS_NO_QUORUM, "closed");
  } else {
    if (node->reader == NULL)
      node->reader = sim_disk_open_reader(&sim->disk[read->node], &error);
    if (node->reader == NULL)
      qfs_read_fail(read, QFS_IO, error->message);
    else if (!qfs_read_run(read, node->reader))
      g_clear_pointer(&node->reader, qfs_replica_close);
  }
  read_goes(sim, &node->from, on_read_answered, read);
}

static void env_read(QfsEnv *env, QfsRead *read) {
  read_goes(sim_of(env), &sim_of(env)->node[read->node].to, on_read_runs, read);
}

/* ---- answers ---- */

static void on_complete(Sim *sim, gpointer data) {
  QfsRequest *request = data;
  request->done(request, request->user_data);
}

/* The daemon died before the requester got the answer: it will never know. */
static void complete_drop(gpointer data) {
  QfsRequest *request = data;
  request->status = QFS_UNKNOWN;
  request->done(request, request->user_data);
}

static void env_complete(QfsEnv *env, QfsRequest *request) {
  Sim *sim = sim_of(env);
  sim_after_in_run(sim, sim_random_range(&sim->random, 1, 30), on_complete, request, complete_drop);
}

/* ---- nodes' lives, and the log ---- */

static void env_node_start(QfsEnv *env, guint node, guint64 incarnation) {
  sim_node_start(sim_of(env), node, incarnation);
}

static void env_node_stop(QfsEnv *env, guint node) {
  sim_node_stop(sim_of(env), node);
}

static void env_node_remove(QfsEnv *env, guint node, guint64 incarnation) {
  sim_node_remove(sim_of(env), node, incarnation);
}

static void env_log(QfsEnv *env, GLogLevelFlags level, const char *line) {
  SIM_TRACE(sim_of(env), "log: %s", line);
}

void sim_env_init(Sim *sim) {
  sim->env = (QfsEnv){
      .now_us = env_now_us,
      .wall_ms = env_wall_ms,
      .random = env_random,
      .send = env_send,
      .reply = env_reply,
      .read = env_read,
      .complete = env_complete,
      .wake_at = env_wake_at,
      .node_start = env_node_start,
      .node_stop = env_node_stop,
      .node_remove = env_node_remove,
      .log = env_log,
      .lossy = TRUE,
  };
}
