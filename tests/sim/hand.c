/* hand.c - see hand.h. */
#include "hand.h"


#include <string.h>
#include <sys/stat.h>

#define LATENCY_US 100
#define PATIENCE_US (60 * HAND_SECOND)
#define WALL_START_MS G_GINT64_CONSTANT(1700000000000)

/* ---- events ---- */

typedef enum { EVENT_REQUEST, EVENT_REPLY, EVENT_READ, EVENT_READ_DONE, EVENT_COMPLETE, EVENT_OPEN, EVENT_CLOSE, EVENT_REMOVE } EventKind;

typedef struct {
  gint64 at_us;
  guint64 id;
  EventKind kind;
  gpointer object;   /* message, read or request */
  guint node;
  guint64 process;
} Event;

static Hand *hand_of(QfsEnv *env) { return (Hand *)env; }

static void event_free(gpointer data) {
  Event *event = data;
  if (event->kind == EVENT_REQUEST || event->kind == EVENT_REPLY)
    qfs_message_free(event->object);
  else if (event->kind == EVENT_READ || event->kind == EVENT_READ_DONE)
    qfs_read_free(event->object);
  g_free(event);
}

static gint by_time(gconstpointer a, gconstpointer b, gpointer unused) {
  const Event *x = a, *y = b;
  if (x->at_us != y->at_us)
    return x->at_us < y->at_us ? -1 : 1;
  return x->id < y->id ? -1 : x->id > y->id;
}

static void after(Hand *hand, gint64 delay_us, EventKind kind, gpointer object, guint node, guint64 process) {
  Event *event = g_new(Event, 1);
  *event = (Event){hand->now_us + delay_us, ++hand->next_id, kind, object, node, process};
  g_queue_insert_sorted(&hand->events, event, by_time, NULL);
}

/* ---- the environment ---- */

static gint64 env_now_us(QfsEnv *env) { return hand_of(env)->now_us; }

static gint64 env_wall_ms(QfsEnv *env) { return WALL_START_MS + hand_of(env)->now_us / 1000; }

static guint64 env_random(QfsEnv *env) {
  Hand *hand = hand_of(env);
  hand->random = hand->random * G_GUINT64_CONSTANT(6364136223846793005) + 1442695040888963407;
  return hand->random ^ hand->random >> 29;
}

static gint64 travel_us(const Hand *hand, const HandNode *node, QfsMessageType type) {
  const gint64 late_us = (node->late >> type & 1) != 0 ? node->late_us : 0;
  return MAX(LATENCY_US + late_us, node->still_us - hand->now_us);
}

static void env_send(QfsEnv *env, QfsMessage *message) {
  Hand *hand = hand_of(env);
  const HandNode *node = &hand->node[message->node];
  hand->sent[message->node][message->type]++;
  if (hand->kept_node == message->node && hand->kept_type == message->type)
    g_ptr_array_add(hand->kept, qfs_message_copy(message, message->node));
  if ((node->to_lost >> message->type & 1) != 0)
    qfs_message_free(message);
  else
    after(hand, travel_us(hand, node, message->type), EVENT_REQUEST, message, message->node, node->process);
}

static void env_reply(QfsEnv *env, QfsMessage *message) {
  Hand *hand = hand_of(env);
  if ((hand->node[message->node].from_lost >> message->type & 1) != 0)
    qfs_message_free(message);
  else
    after(hand, LATENCY_US, EVENT_REPLY, message, message->node, 0);
}

static void env_read(QfsEnv *env, QfsRead *read) { after(hand_of(env), LATENCY_US + hand_of(env)->read_us, EVENT_READ, read, read->node, 0); }

static void env_complete(QfsEnv *env, QfsRequest *request) {
  after(hand_of(env), 1, EVENT_COMPLETE, request, 0, 0);
}

static void env_wake_at(QfsEnv *env, gint64 at_us) { hand_of(env)->wake_us = MIN(hand_of(env)->wake_us, at_us); }

static void env_node_start(QfsEnv *env, guint node, guint64 incarnation) {
  Hand *hand = hand_of(env);
  g_assert_cmpuint(hand->node[node].process, ==, 0);
  hand->node[node].process = incarnation;
  after(hand, LATENCY_US, EVENT_OPEN, NULL, node, incarnation);
}

static void env_node_stop(QfsEnv *env, guint node) {
  after(hand_of(env), LATENCY_US, EVENT_CLOSE, NULL, node, hand_of(env)->node[node].process);
}

static void env_node_remove(QfsEnv *env, guint node, guint64 incarnation) {
  after(hand_of(env), LATENCY_US + hand_of(env)->remove_us, EVENT_REMOVE, NULL, node, incarnation);
}

static void env_log(QfsEnv *env, GLogLevelFlags level, const char *line) { g_test_message("%s", line); }

/* ---- nodes ---- */

static void close_node(HandNode *node) {
  g_clear_pointer(&node->reader, qfs_replica_close);
  g_clear_pointer(&node->node, qfs_node_free);
  node->process = 0;
}

static void on_open(Hand *hand, const Event *event) {
  HandNode *node = &hand->node[event->node];
  g_autoptr(GError) error = NULL;
  if (node->process != event->process || node->node != NULL)
    return;
  if (qfs_set_has(hand->away, event->node)) {
    node->process = 0;
    qfs_coordinator_node_gone(hand->coordinator, event->node, event->process, "it is away");
    return;
  }
  node->node = qfs_node_new(&hand->env, event->node, event->process, mem_replica_open(node->disk), &error);
  g_assert_no_error(error);
}

static void end_node(Hand *hand, guint number, const char *reason) {
  const guint64 process = hand->node[number].process;
  close_node(&hand->node[number]);
  if (process != 0 && hand->coordinator != NULL)
    qfs_coordinator_node_gone(hand->coordinator, number, process, reason);
}

static void remove_node(Hand *hand, guint number, guint64 incarnation) {
  HandNode *node = &hand->node[number];
  close_node(node);
  mem_disk_free(node->disk);
  node->disk = mem_disk_new(number);
  qfs_coordinator_node_gone(hand->coordinator, number, incarnation, NULL);
}

static gboolean takes_space(const Hand *hand, const QfsMessage *message) {
  if (hand->full_types != 0)
    return (hand->full_types & (1u << message->type)) != 0;
  return message->type == QFS_MESSAGE_CHUNKS || message->type == QFS_MESSAGE_APPLY || message->type == QFS_MESSAGE_INTENT;
}

static void on_request(Hand *hand, Event *event) {
  HandNode *node = &hand->node[event->node];
  QfsMessage *message = event->object;
  if (node->node == NULL || node->process != event->process)
    return;
  if (qfs_set_has(hand->full, event->node) && takes_space(hand, message)) {
    QfsMessage *reply = qfs_message_new_reply(message);
    reply->status = QFS_NO_SPACE;
    env_reply(&hand->env, reply);
    return;
  }
  g_autoptr(GPtrArray) batch = g_ptr_array_new_with_free_func((GDestroyNotify)qfs_message_free);
  g_ptr_array_add(batch, g_steal_pointer(&event->object));
  qfs_node_handle(node->node, batch);
}

static void on_read(Hand *hand, Event *event) {
  HandNode *node = &hand->node[event->node];
  QfsRead *read = g_steal_pointer(&event->object);
  if (node->node == NULL) {
    qfs_read_fail(read, QFS_NO_QUORUM, "closed");
  } else {
    if (node->reader == NULL)
      node->reader = mem_replica_open_reader(node->disk);
    g_assert_true(qfs_read_run(read, node->reader));
  }
  after(hand, LATENCY_US, EVENT_READ_DONE, read, event->node, 0);
}

/* ---- the loop ---- */

static void handle(Hand *hand, Event *event) {
  QfsRequest *request = event->kind == EVENT_COMPLETE ? event->object : NULL;
  switch (event->kind) {
  case EVENT_REQUEST:
    on_request(hand, event);
    break;
  case EVENT_REPLY:
    qfs_coordinator_receive(hand->coordinator, g_steal_pointer(&event->object));
    break;
  case EVENT_READ:
    on_read(hand, event);
    break;
  case EVENT_READ_DONE:
    qfs_coordinator_read_done(hand->coordinator, g_steal_pointer(&event->object));
    break;
  case EVENT_COMPLETE:
    request->done(request, request->user_data);
    break;
  case EVENT_OPEN:
    on_open(hand, event);
    break;
  case EVENT_CLOSE:
    if (hand->node[event->node].process == event->process)
      end_node(hand, event->node, NULL);
    break;
  case EVENT_REMOVE:
    remove_node(hand, event->node, event->process);
    break;
  }
}

/* The next event or tick; nothing until then: the time becomes `until_us`. */
static void step(Hand *hand, gint64 until_us) {
  Event *event = g_queue_peek_head(&hand->events);
  const gint64 event_us = event != NULL ? event->at_us : G_MAXINT64;
  if (MIN(event_us, hand->wake_us) > until_us) {
    hand->now_us = until_us;
  } else if (event_us <= hand->wake_us) {
    g_queue_pop_head(&hand->events);
    hand->now_us = MAX(hand->now_us, event_us);
    handle(hand, event);
    event_free(event);
  } else {
    hand->now_us = MAX(hand->now_us, hand->wake_us);
    hand->wake_us = G_MAXINT64;
    qfs_coordinator_tick(hand->coordinator);
  }
}

void hand_run(Hand *hand, gint64 time_us) {
  const gint64 until_us = hand->now_us + time_us;
  while (hand->now_us < until_us)
    step(hand, until_us);
}

void hand_run_until(Hand *hand, HandCondition condition, gconstpointer data) {
  const gint64 until_us = hand->now_us + PATIENCE_US;
  while (!condition(hand, data)) {
    g_assert_cmpint(hand->now_us, <, until_us);
    step(hand, until_us);
  }
}

static gboolean is_settled(Hand *hand, gconstpointer in_sync) {
  return qfs_coordinator_is_serving(hand->coordinator) &&
         qfs_coordinator_in_sync(hand->coordinator) == *(const QfsNodeSet *)in_sync &&
         qfs_coordinator_is_quiet(hand->coordinator);
}

gboolean hand_is_without(Hand *hand, gconstpointer node) {
  return !qfs_set_has(qfs_coordinator_in_sync(hand->coordinator), GPOINTER_TO_UINT(node));
}

void hand_take_away(Hand *hand, guint node) {
  hand->away |= QFS_NODE_BIT(node);
  hand_crash(hand, node);
  hand_run_until(hand, hand_is_without, GUINT_TO_POINTER(node));
}

void hand_settle(Hand *hand, QfsNodeSet in_sync) { hand_run_until(hand, is_settled, &in_sync); }

void hand_lose(Hand *hand, guint node, guint types) { hand->node[node].to_lost = types; }

void hand_lose_replies(Hand *hand, guint node, guint types) { hand->node[node].from_lost = types; }

void hand_slow_down(Hand *hand, guint node, guint types, gint64 late_us) {
  hand->node[node].late = types;
  hand->node[node].late_us = late_us;
}

void hand_stall(Hand *hand, guint node, gint64 time_us) { hand->node[node].still_us = hand->now_us + time_us; }

void hand_keep(Hand *hand, guint node, QfsMessageType type) {
  hand->kept_node = node;
  hand->kept_type = type;
}

void hand_deliver_kept(Hand *hand) {
  hand->kept_node = 0;
  for (guint i = 0; i < hand->kept->len; i++) {
    QfsMessage *message = hand->kept->pdata[i];
    after(hand, LATENCY_US, EVENT_REQUEST, qfs_message_copy(message, message->node), message->node,
          hand->node[message->node].process);
  }
  g_ptr_array_set_size(hand->kept, 0);
}

/* ---- lives ---- */

static gboolean has_started(Hand *hand, gconstpointer unused) {
  return qfs_coordinator_is_serving(hand->coordinator) || qfs_coordinator_is_stuck(hand->coordinator);
}

void hand_begin(Hand *hand) {
  g_assert_null(hand->coordinator);
  hand->wake_us = G_MAXINT64;
  hand->coordinator = qfs_coordinator_new(&hand->env, &hand->config);
  qfs_coordinator_start(hand->coordinator);
}

gboolean hand_start(Hand *hand) {
  hand_begin(hand);
  hand_run_until(hand, has_started, NULL);
  hand->config.create = FALSE;
  return qfs_coordinator_is_serving(hand->coordinator);
}

/* Answers of requests are kept: whoever asked is alive. */
static void drop_events(Hand *hand) {
  GQueue events = hand->events;
  g_queue_init(&hand->events);
  for (Event *event = g_queue_pop_head(&events); event != NULL; event = g_queue_pop_head(&events)) {
    if (event->kind == EVENT_COMPLETE)
      handle(hand, event);
    event_free(event);
  }
}

void hand_kill(Hand *hand) {
  g_clear_pointer(&hand->coordinator, qfs_coordinator_free);
  for (guint i = 1; i <= hand->nodes; i++)
    close_node(&hand->node[i]);
  drop_events(hand);
}

void hand_lose_power(Hand *hand, QfsNodeSet keep) {
  hand_kill(hand);
  for (guint i = 1; i <= hand->nodes; i++)
    if (!qfs_set_has(keep, i))
      mem_disk_lose_power(hand->node[i].disk, 0);
}

void hand_crash(Hand *hand, guint node) { end_node(hand, node, "its process ended"); }

QfsNodeSet hand_nodes(const guint *numbers) {
  QfsNodeSet set = 0;
  for (; *numbers != 0; numbers++)
    set |= QFS_NODE_BIT(*numbers);
  return set;
}

Hand *hand_new(guint nodes, guint replicas) {
  Hand *hand = g_new0(Hand, 1);
  hand->env = (QfsEnv){.lossy = TRUE,
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
                       .log = env_log};
  hand->nodes = nodes;
  hand->replicas = replicas;
  hand->random = 1;
  hand->kept = g_ptr_array_new_with_free_func((GDestroyNotify)qfs_message_free);
  hand->config = (QfsCoordinatorConfig){.nodes = nodes,
                                        .replicas = replicas,
                                        .timeout_ms = 2000,
                                        .tombstone_grace_s = 86400,
                                        .purge_period_s = 86400,
                                        .create = TRUE};
  g_strlcpy(hand->config.store, "00000000-0000-4000-8000-000000000000", sizeof hand->config.store);
  for (guint i = 1; i <= nodes; i++)
    hand->node[i].disk = mem_disk_new(i);
  g_assert_true(hand_start(hand));
  hand_settle(hand, qfs_set_all(nodes));
  return hand;
}

void hand_free(Hand *hand) {
  hand_kill(hand);
  for (guint i = 1; i <= hand->nodes; i++)
    mem_disk_free(hand->node[i].disk);
  g_ptr_array_unref(hand->kept);
  g_free(hand);
}

/* ---- requests ---- */

static void on_answered(QfsRequest *request, gpointer data) { request->mark = 1; }

gboolean hand_is_answered(const QfsRequest *request) { return request->mark != 0; }

void hand_submit(Hand *hand, QfsRequest *request) {
  request->done = on_answered;
  request->now_ns = env_wall_ms(&hand->env) * 1000000;
  qfs_coordinator_submit(hand->coordinator, request);
}

static gboolean is_answered(Hand *hand, gconstpointer request) { return hand_is_answered(request); }

static void finish(Hand *hand, QfsRequest *request) {
  if (request->done == NULL)
    hand_submit(hand, request);
  hand_run_until(hand, is_answered, request);
}

QfsStatus hand_wait(Hand *hand, QfsRequest *request) {
  finish(hand, request);
  const QfsStatus status = request->status;
  qfs_request_free(request);
  return status;
}

QfsRequest *hand_put_request(const char *key, const char *value) {
  QfsRequest *request = qfs_request_new(QFS_REQUEST_WRITE, key, NULL, NULL);
  request->flags = QFS_WRITE_REPLACE | QFS_WRITE_CREATE;
  request->attr.mode = S_IFREG | 0644;
  request->data = g_bytes_new(value, strlen(value));
  return request;
}

QfsRequest *hand_append_request(const char *key, const char *value) {
  QfsRequest *request = hand_put_request(key, value);
  request->flags = QFS_WRITE_APPEND;
  return request;
}

QfsRequest *hand_two_keys(QfsRequestType type, const char *key, const char *key2) {
  QfsRequest *request = qfs_request_new(type, key, NULL, NULL);
  request->key2 = g_strdup(key2);
  return request;
}

QfsStatus hand_put(Hand *hand, const char *key, const char *value) {
  return hand_wait(hand, hand_put_request(key, value));
}

QfsStatus hand_rename(Hand *hand, const char *key, const char *key2) {
  return hand_wait(hand, hand_two_keys(QFS_REQUEST_RENAME, key, key2));
}

QfsStatus hand_link(Hand *hand, const char *key, const char *key2) {
  return hand_wait(hand, hand_two_keys(QFS_REQUEST_LINK, key, key2));
}

QfsStatus hand_remove(Hand *hand, const char *key) {
  return hand_wait(hand, qfs_request_new(QFS_REQUEST_REMOVE, key, NULL, NULL));
}

QfsRequest *hand_mkdir_request(const char *key) {
  QfsRequest *request = qfs_request_new(QFS_REQUEST_CREATE, key, NULL, NULL);
  request->kind = QFS_KIND_DIRECTORY;
  request->attr.mode = S_IFDIR | 0755;
  return request;
}

QfsRequest *hand_rmdir_request(const char *key) {
  QfsRequest *request = qfs_request_new(QFS_REQUEST_REMOVE, key, NULL, NULL);
  request->flags = QFS_REMOVE_DIRECTORY | QFS_REMOVE_MUST_EXIST;
  return request;
}

QfsStatus hand_mkdir(Hand *hand, const char *key) { return hand_wait(hand, hand_mkdir_request(key)); }

QfsStatus hand_rmdir(Hand *hand, const char *key) { return hand_wait(hand, hand_rmdir_request(key)); }

static QfsRecord *get_record(Hand *hand, const char *key) {
  QfsRequest *request = qfs_request_new(QFS_REQUEST_GET, key, NULL, NULL);
  finish(hand, request);
  QfsRecord *record = request->status == QFS_OK ? qfs_record_ref(request->record) : NULL;
  g_assert_true(request->status == QFS_OK || request->status == QFS_NOT_FOUND);
  qfs_request_free(request);
  return record;
}

char *hand_get(Hand *hand, const char *key) {
  g_autoptr(QfsRecord) record = get_record(hand, key);
  if (record == NULL)
    return NULL;
  QfsRequest *request = qfs_request_new(QFS_REQUEST_READ, NULL, NULL, NULL);
  request->record = qfs_record_ref(record);
  request->length = record->attr.size;
  finish(hand, request);
  g_assert_cmpint(request->status, ==, QFS_OK);
  char *value = g_strndup(g_bytes_get_data(request->data, NULL), g_bytes_get_size(request->data));
  qfs_request_free(request);
  return value;
}

guint hand_links(Hand *hand, const char *key) {
  g_autoptr(QfsRecord) record = get_record(hand, key);
  return record != NULL ? MAX(record->attr.nlink, 1) : 0;
}

/* ---- looking ---- */

char *hand_key_with_next(Hand *hand, const char *prefix, QfsNodeSet owners, guint gone, guint next) {
  const QfsNodeSet all = qfs_set_all(hand->nodes), others = gone != 0 ? all & ~QFS_NODE_BIT(gone) : all;
  for (guint i = 0; i < 100000; i++) {
    g_autofree char *key = g_strdup_printf("%s%u", prefix, i);
    const guint64 hash = qfs_key_hash(key);
    if (qfs_placement_holders(hash, all, hand->replicas) == owners &&
        (gone == 0 || qfs_set_has(qfs_placement_holders(hash, others, hand->replicas), next)))
      return g_steal_pointer(&key);
  }
  g_assert_not_reached();
}

char *hand_key(Hand *hand, const char *prefix, QfsNodeSet owners) {
  return hand_key_with_next(hand, prefix, owners, 0, 0);
}

const QfsRecord *hand_row(Hand *hand, guint node, const char *key) {
  const MemRow *row = mem_disk_row(hand->node[node].disk, key);
  return row != NULL ? row->record : NULL;
}

guint hand_intents(Hand *hand, guint node) { return (guint)g_tree_nnodes(hand->node[node].disk->intents); }

QfsNodeMeta hand_meta(Hand *hand, guint node) { return hand->node[node].disk->meta; }
