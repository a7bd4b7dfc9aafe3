/* The threaded environment with real nodes and replicas, under a coordinator that is only a puppet:
 * its functions are defined here, so the linker leaves the real one out. */
#include "cluster/env_thread.h"
#include "tests/unit/remove_tree.h"

#include <glib/gstdio.h>
#include <pthread.h>

#define NODES 3
#define DEADLINE_US (20 * G_USEC_PER_SEC)

/* The puppet: GET reads node `request->node`, WRITE applies `request->record` there, NODE starts
 * and stops it, SYNC ends after `request->length` microseconds, LIST never ends. */

struct QfsCoordinator {
  QfsEnv *env;
  GHashTable *open; /* cookie -> QfsRequest */
  guint64 next_cookie, next_incarnation;
  guint64 incarnation[NODES + 1];
  gboolean up[NODES + 1];
  guint64 epoch;
  guint starts_failed;
  char *reason;
  GQueue timed; /* SYNC requests */
  guint ticks;
};

static guint64 remember(QfsCoordinator *c, QfsRequest *request) {
  guint64 *cookie = g_new(guint64, 1);
  *cookie = ++c->next_cookie;
  g_hash_table_insert(c->open, cookie, request);
  return *cookie;
}

static void answer(QfsCoordinator *c, guint64 cookie, QfsStatus status) {
  QfsRequest *request = g_hash_table_lookup(c->open, &cookie);
  if (request == NULL)
    return;
  request->status = status;
  g_hash_table_remove(c->open, &cookie);
  c->env->complete(c->env, request);
}

QfsCoordinator *qfs_coordinator_new(QfsEnv *env, const QfsCoordinatorConfig *config) {
  QfsCoordinator *c = g_new0(QfsCoordinator, 1);
  c->env = env;
  c->open = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
  g_assert_cmpuint(env->random(env), !=, env->random(env));
  g_assert_cmpint(env->wall_ms(env), >, 0);
  return c;
}

void qfs_coordinator_free(QfsCoordinator *c) {
  while (g_hash_table_size(c->open) > 0) {
    GHashTableIter iter;
    gpointer cookie;
    g_hash_table_iter_init(&iter, c->open);
    g_assert_true(g_hash_table_iter_next(&iter, &cookie, NULL));
    answer(c, *(guint64 *)cookie, QFS_UNKNOWN);
  }
  g_hash_table_unref(c->open);
  g_queue_clear(&c->timed);
  g_free(c->reason);
  g_free(c);
}

static void start_node(QfsCoordinator *c, guint node) {
  c->incarnation[node] = ++c->next_incarnation;
  c->up[node] = TRUE;
  c->env->node_start(c->env, node, c->incarnation[node]);
}

void qfs_coordinator_start(QfsCoordinator *c) {
  for (guint node = 1; node <= NODES; node++)
    start_node(c, node);
}

static void send_apply(QfsCoordinator *c, QfsRequest *request) {
  if (!c->up[request->node]) {
    request->status = QFS_UNKNOWN;
    c->env->complete(c->env, request);
    return;
  }
  QfsMessage *message = qfs_message_new(QFS_MESSAGE_APPLY, request->node);
  message->incarnation = c->incarnation[request->node];
  message->records = qfs_records_new();
  g_ptr_array_add(message->records, qfs_record_ref(request->record));
  request->timestamp = message->incarnation;
  message->cookie = remember(c, request);
  c->env->send(c->env, message);
}

void qfs_coordinator_submit(QfsCoordinator *c, QfsRequest *request) {
  switch (request->type) {
  case QFS_REQUEST_GET: {
    QfsRead *read = qfs_read_new(QFS_READ_RECORD, request->node);
    read->ask = GPOINTER_TO_SIZE(request);
    read->key = g_ref_string_new(request->key);
    c->env->read(c->env, read);
    break;
  }
  case QFS_REQUEST_WRITE:
    send_apply(c, request);
    break;
  case QFS_REQUEST_NODE:
    if (request->action == QFS_NODE_UP) {
      start_node(c, request->node);
      QfsMessage *hello = qfs_message_new(QFS_MESSAGE_HELLO, request->node);
      hello->incarnation = c->incarnation[request->node];
      request->timestamp = hello->incarnation;
      hello->cookie = remember(c, request);
      c->env->send(c->env, hello);
    } else {
      request->timestamp = c->incarnation[request->node];
      remember(c, request);
      c->up[request->node] = FALSE;
      c->env->node_stop(c->env, request->node);
    }
    break;
  case QFS_REQUEST_SYNC:
    request->timestamp = (guint64)c->env->now_us(c->env) + request->length;
    remember(c, request);
    g_queue_push_tail(&c->timed, request);
    c->env->wake_at(c->env, (gint64)request->timestamp);
    break;
  default:
    remember(c, request);
    break;
  }
}

void qfs_coordinator_receive(QfsCoordinator *c, QfsMessage *reply) {
  answer(c, reply->cookie, reply->status);
  qfs_message_free(reply);
}

void qfs_coordinator_read_done(QfsCoordinator *c, QfsRead *read) {
  QfsRequest *request = GSIZE_TO_POINTER(read->ask);
  request->status = read->status == QFS_OK && read->record == NULL ? QFS_NOT_FOUND : read->status;
  request->record = g_steal_pointer(&read->record);
  qfs_read_free(read);
  c->env->complete(c->env, request);
}

static guint64 cookie_of(QfsCoordinator *c, QfsRequest *wanted) {
  GHashTableIter iter;
  gpointer cookie, request;
  g_hash_table_iter_init(&iter, c->open);
  while (g_hash_table_iter_next(&iter, &cookie, &request))
    if (request == wanted)
      return *(guint64 *)cookie;
  return 0;
}

void qfs_coordinator_tick(QfsCoordinator *c) {
  c->ticks++;
  for (guint i = c->timed.length; i > 0; i--) {
    QfsRequest *request = g_queue_pop_head(&c->timed);
    if ((gint64)request->timestamp <= c->env->now_us(c->env)) {
      request->limit = c->ticks;
      answer(c, cookie_of(c, request), QFS_OK);
    } else {
      g_queue_push_tail(&c->timed, request);
      c->env->wake_at(c->env, (gint64)request->timestamp);
    }
  }
}

/* Ends what was sent to this life of the node. */
void qfs_coordinator_node_gone(QfsCoordinator *c, guint node, guint64 incarnation,
                               const char *reason) {
  if (reason != NULL) {
    c->starts_failed++;
    g_free(c->reason);
    c->reason = g_strdup(reason);
  }
  g_autoptr(GList) requests = g_hash_table_get_values(c->open);
  for (GList *l = requests; l != NULL; l = l->next) {
    QfsRequest *request = l->data;
    const gboolean stop = request->type == QFS_REQUEST_NODE && request->action == QFS_NODE_DOWN;
    if (request->node == node && request->timestamp == incarnation)
      answer(c, cookie_of(c, request), stop ? QFS_OK : QFS_UNKNOWN);
  }
}

void qfs_coordinator_shutdown(QfsCoordinator *c) {}
void qfs_coordinator_resize(QfsCoordinator *c, guint nodes, guint replicas) {}
void qfs_coordinator_pin(QfsCoordinator *c, QfsObjectId object) {}
void qfs_coordinator_unpin(QfsCoordinator *c, QfsObjectId object) {}
void qfs_coordinator_discard(QfsCoordinator *c, QfsObjectId object) {}
QfsNodeSet qfs_coordinator_holders(const QfsCoordinator *c, const char *key) {
  return 0;
}
QfsNodeSet qfs_coordinator_owners(const QfsCoordinator *c, const char *key) {
  return 0;
}
guint64 qfs_coordinator_stand(const QfsCoordinator *c) {
  return 1;
}

void qfs_coordinator_status(const QfsCoordinator *c, QfsEngineStatus *out) {
  out->count.refused = c->starts_failed;
}
const char *qfs_coordinator_failure(const QfsCoordinator *c) {
  return c->reason;
}

static gboolean one_start_failed(const QfsCoordinator *c) {
  return c->starts_failed == 1;
}

/* Fixture. */

typedef struct {
  char *dir;
  char *dirs[NODES];
  QfsEnvThread *threads;
} Fixture;

static void set_up(Fixture *f, gconstpointer data) {
  f->dir = g_dir_make_tmp("qfs-env-XXXXXX", NULL);
  for (guint i = 0; i < NODES; i++)
    f->dirs[i] = g_strdup_printf("%s/node-%u", f->dir, i + 1);
  f->threads = qfs_env_thread_new(NODES, f->dirs, FALSE, NULL, NULL);
  qfs_env_thread_allow_faults(f->threads);
  qfs_env_thread_run(f->threads, &(QfsCoordinatorConfig){.nodes = NODES, .replicas = NODES});
}

static void tear_down(Fixture *f, gconstpointer data) {
  qfs_env_thread_free(f->threads);
  remove_tree(f->dir);
  for (guint i = 0; i < NODES; i++)
    g_free(f->dirs[i]);
  g_free(f->dir);
}

/* Waiting for one request. */

typedef struct {
  pthread_mutex_t lock;
  pthread_cond_t cond;
  guint done;
} Waiter;
#define WAITER_INIT                                                                                \
  { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0 }

static void count_done(QfsRequest *request, gpointer user_data) {
  Waiter *waiter = user_data;
  pthread_mutex_lock(&waiter->lock);
  waiter->done++;
  pthread_cond_signal(&waiter->cond);
  pthread_mutex_unlock(&waiter->lock);
}

static gint requests_run; /* atomic: each lends its thread in another way */

static void wait_done(Waiter *waiter, guint n) {
  struct timespec until;
  clock_gettime(CLOCK_REALTIME, &until);
  until.tv_sec += DEADLINE_US / G_USEC_PER_SEC;
  pthread_mutex_lock(&waiter->lock);
  while (waiter->done < n)
    g_assert_cmpint(pthread_cond_timedwait(&waiter->cond, &waiter->lock, &until), ==, 0);
  g_assert_cmpuint(waiter->done, ==, n);
  pthread_mutex_unlock(&waiter->lock);
}

static QfsStatus run_request(Fixture *f, QfsRequest *request) {
  Waiter waiter = WAITER_INIT;
  request->done = count_done;
  request->user_data = &waiter;
  request->lend = (QfsLend)(g_atomic_int_add(&requests_run, 1) % 4);
  qfs_env_thread_submit(f->threads, request);
  qfs_env_thread_release(f->threads); /* without effect but where it gathers */
  wait_done(&waiter, 1);
  return request->status;
}

static QfsStatus put(Fixture *f, guint node, const char *key, guint64 timestamp) {
  QfsRequest *request = qfs_request_new(QFS_REQUEST_WRITE, key, NULL, NULL);
  request->node = node;
  request->record = qfs_record_new(key);
  request->record->kind = QFS_KIND_VALUE;
  request->record->timestamp = request->record->seq = timestamp;
  const QfsStatus status = run_request(f, request);
  qfs_request_free(request);
  return status;
}

/* Timestamp of the record, 0: none; *out_status may be NULL. */
static guint64 get(Fixture *f, guint node, const char *key, QfsStatus *out_status) {
  QfsRequest *request = qfs_request_new(QFS_REQUEST_GET, key, NULL, NULL);
  request->node = node;
  const QfsStatus status = run_request(f, request);
  const guint64 timestamp = request->record != NULL ? request->record->timestamp : 0;
  if (out_status != NULL)
    *out_status = status;
  qfs_request_free(request);
  return timestamp;
}

static QfsStatus node_action(Fixture *f, guint node, QfsNodeAction action) {
  QfsRequest *request = qfs_request_new(QFS_REQUEST_NODE, NULL, NULL, NULL);
  request->node = node;
  request->action = action;
  const QfsStatus status = run_request(f, request);
  qfs_request_free(request);
  return status;
}

static guint files_open_below(const char *path) {
  guint n = 0;
  g_autoptr(GDir) dir = g_dir_open("/proc/self/fd", 0, NULL);
  const char *name = NULL;
  while ((name = g_dir_read_name(dir)) != NULL) {
    g_autofree char *link = g_build_filename("/proc/self/fd", name, NULL);
    g_autofree char *target = g_file_read_link(link, NULL);
    n += target != NULL && g_str_has_prefix(target, path) ? 1 : 0;
  }
  return n;
}

/* Tests. */

static void test_put_get(Fixture *f, gconstpointer data) {
  /* A put through a node's thread is seen by the next get through its read connections. */
  for (guint64 i = 1; i <= 50; i++) {
    const guint node = 1 + i % NODES;
    g_assert_cmpint(put(f, node, "a", i), ==, QFS_OK);
    g_assert_cmpuint(get(f, node, "a", NULL), ==, i);
  }
  QfsStatus status;
  get(f, 1, "absent", &status);
  g_assert_cmpint(status, ==, QFS_NOT_FOUND);
}

static void test_down_closes_files(Fixture *f, gconstpointer data) {
  /* A stopped node has no file open, its directory can be moved away and back, reads are refused.
   */
  g_assert_cmpint(put(f, 2, "a", 7), ==, QFS_OK);
  g_assert_cmpuint(get(f, 2, "a", NULL), ==, 7);
  g_assert_cmpuint(files_open_below(f->dirs[1]), >, 0);
  g_assert_cmpint(node_action(f, 2, QFS_NODE_DOWN), ==, QFS_OK);
  g_assert_cmpuint(files_open_below(f->dirs[1]), ==, 0);
  QfsStatus status;
  get(f, 2, "a", &status);
  g_assert_cmpint(status, ==, QFS_NO_QUORUM);

  g_autofree char *aside = g_strconcat(f->dirs[1], ".away", NULL);
  g_assert_cmpint(g_rename(f->dirs[1], aside), ==, 0);
  g_assert_cmpuint(get(f, 1, "a", NULL), ==, 0);
  g_assert_cmpint(g_rename(aside, f->dirs[1]), ==, 0);
  g_assert_cmpint(node_action(f, 2, QFS_NODE_UP), ==, QFS_OK);
  g_assert_cmpuint(get(f, 2, "a", NULL), ==, 7);
}

static void test_quick_restarts(Fixture *f, gconstpointer data) {
  /* Stops and starts in a row, without waiting between, each end; the last life serves. */
  enum { ROUNDS = 20 };
  QfsRequest *requests[2 * ROUNDS];
  Waiter waiter = WAITER_INIT;
  for (guint i = 0; i < 2 * ROUNDS; i++) {
    requests[i] = qfs_request_new(QFS_REQUEST_NODE, NULL, count_done, &waiter);
    requests[i]->node = 1;
    requests[i]->action = i % 2 == 0 ? QFS_NODE_DOWN : QFS_NODE_UP;
    qfs_env_thread_submit(f->threads, requests[i]);
  }
  wait_done(&waiter, 2 * ROUNDS);
  for (guint i = 0; i < 2 * ROUNDS; i++) {
    if (requests[i]->action == QFS_NODE_DOWN)
      g_assert_cmpint(requests[i]->status, ==, QFS_OK);
    qfs_request_free(requests[i]);
  }
  g_assert_cmpint(put(f, 1, "a", 9), ==, QFS_OK);
  g_assert_cmpuint(get(f, 1, "a", NULL), ==, 9);
}

static void test_missing_parent(Fixture *f, gconstpointer data) {
  /* A node whose directory's parent is missing does not open, and says why. */
  qfs_env_thread_free(f->threads);
  g_free(f->dirs[2]);
  f->dirs[2] = g_build_filename(f->dir, "no-such-disk", "qfs", NULL);
  f->threads = qfs_env_thread_new(NODES, f->dirs, FALSE, NULL, NULL);
  qfs_env_thread_run(f->threads, &(QfsCoordinatorConfig){.nodes = NODES, .replicas = NODES});
  g_assert_true(qfs_env_thread_wait(f->threads, one_start_failed, 10000));
  g_autofree char *reason = qfs_env_thread_failure(f->threads);
  g_assert_nonnull(strstr(reason, "no-such-disk is missing"));
  g_assert_false(g_file_test(f->dirs[2], G_FILE_TEST_EXISTS));
  g_assert_cmpint(put(f, 1, "a", 1), ==, QFS_OK);
}

static void test_damaged_replica(Fixture *f, gconstpointer data) {
  /* A file that is no database is set aside and an empty replica takes its place. */
  g_assert_cmpint(put(f, 1, "a", 5), ==, QFS_OK);
  g_assert_cmpint(node_action(f, 1, QFS_NODE_DOWN), ==, QFS_OK);
  g_autofree char *path = g_build_filename(f->dirs[0], "replica.db", NULL);
  g_autofree char *aside = g_build_filename(f->dirs[0], "replica.damaged", NULL);
  g_autofree char *junk = g_strnfill(8192, 'x');
  g_assert_true(g_file_set_contents(path, junk, 8192, NULL));
  g_assert_cmpint(node_action(f, 1, QFS_NODE_UP), ==, QFS_OK);
  QfsStatus status;
  get(f, 1, "a", &status);
  g_assert_cmpint(status, ==, QFS_NOT_FOUND);
  g_assert_true(g_file_test(aside, G_FILE_TEST_EXISTS));
}

typedef struct {
  Fixture *f;
  Waiter waiter;
  guint left;
  gpointer deepest, shallowest;
} Chain;

static void next_in_chain(QfsRequest *request, gpointer user_data) {
  Chain *chain = user_data;
  gpointer here = __builtin_frame_address(0);
  chain->deepest = chain->deepest == NULL ? here : MIN(chain->deepest, here);
  chain->shallowest = MAX(chain->shallowest, here);
  g_assert_cmpint(request->status, ==, QFS_NOT_FOUND);
  qfs_request_free(request);
  if (--chain->left == 0) {
    count_done(NULL, &chain->waiter);
    return;
  }
  QfsRequest *next = qfs_request_new(QFS_REQUEST_GET, "a", next_in_chain, chain);
  next->node = 1 + chain->left % NODES;
  qfs_env_thread_submit(chain->f->threads, next);
}

static void test_chain(Fixture *f, gconstpointer data) {
  /* Requests made from inside `done`, without end, need no stack. */
  Chain chain = {.f = f, .waiter = WAITER_INIT, .left = 5000};
  for (guint node = 1; node <= NODES; node++)
    g_assert_cmpint(put(f, node, "other", 1), ==, QFS_OK); /* they are open */
  QfsRequest *first = qfs_request_new(QFS_REQUEST_GET, "a", next_in_chain, &chain);
  first->node = 1;
  qfs_env_thread_submit(f->threads, first);
  wait_done(&chain.waiter, 1);
  g_assert_cmpint((char *)chain.shallowest - (char *)chain.deepest, <, 4096);
}

static void test_timer(Fixture *f, gconstpointer data) {
  /* Ticks come at the earliest wish, never before, also when it is made while the timer sleeps. */
  QfsRequest *requests[3];
  Waiter waiter = WAITER_INIT;
  static const guint64 after_us[] = {60000, 20000, 40000};
  const gint64 begun_us = g_get_monotonic_time();
  for (guint i = 0; i < 3; i++) {
    requests[i] = qfs_request_new(QFS_REQUEST_SYNC, NULL, count_done, &waiter);
    requests[i]->length = after_us[i];
    qfs_env_thread_submit(f->threads, requests[i]);
  }
  wait_done(&waiter, 3);
  g_assert_cmpint(g_get_monotonic_time() - begun_us, >=, 60000);
  g_assert_cmpuint(requests[1]->limit, <=, requests[2]->limit);
  g_assert_cmpuint(requests[2]->limit, <=, requests[0]->limit);
  for (guint i = 0; i < 3; i++)
    qfs_request_free(requests[i]);
}

typedef struct {
  Fixture *f;
  guint number;
} Client;

static gpointer run_client(gpointer data) {
  Client *client = data;
  g_autofree char *key = g_strdup_printf("client-%u", client->number);
  guint64 acknowledged = 0;
  for (guint64 i = 1; i <= 300; i++) {
    const QfsStatus status = put(client->f, 1 + i % 2, key, i);
    g_assert_true(status == QFS_OK || status == QFS_UNKNOWN);
    if (i % 2 == 0 && status == QFS_OK)
      acknowledged = i;
    QfsStatus got;
    const guint64 timestamp = get(client->f, 1, key, &got);
    g_assert_true(got == QFS_OK || got == QFS_NOT_FOUND || got == QFS_NO_QUORUM);
    if (got == QFS_OK)
      g_assert_cmpuint(timestamp, >=, acknowledged);
  }
  return NULL;
}

static void test_many_clients(Fixture *f, gconstpointer data) {
  /* Several threads put and get while one of the nodes is stopped and started: every request ends
   * once. */
  Client clients[4];
  GThread *threads[4];
  for (guint i = 0; i < 4; i++) {
    clients[i] = (Client){.f = f, .number = i};
    threads[i] = g_thread_new("client", run_client, &clients[i]);
  }
  for (guint i = 0; i < 10; i++) {
    g_assert_cmpint(node_action(f, 2, QFS_NODE_DOWN), ==, QFS_OK);
    g_assert_cmpint(node_action(f, 2, QFS_NODE_UP), ==, QFS_OK);
  }
  for (guint i = 0; i < 4; i++)
    g_thread_join(threads[i]);
}

typedef struct {
  Waiter waiter;
  GThread *by; /* who completed it */
} Lent;

static void note_thread(QfsRequest *request, gpointer user_data) {
  Lent *lent = user_data;
  lent->by = g_thread_self();
  count_done(request, &lent->waiter);
}

static QfsRequest *new_put(guint node, const char *key, guint64 timestamp, QfsLend lend, Lent *lent) {
  QfsRequest *request = qfs_request_new(QFS_REQUEST_WRITE, key, note_thread, lent);
  request->node = node;
  request->lend = lend;
  request->record = qfs_record_new(key);
  request->record->kind = QFS_KIND_VALUE;
  request->record->timestamp = request->record->seq = timestamp;
  return request;
}

/* How many of `n` puts the calling thread completed itself. */
static guint puts_by_caller(Fixture *f, guint n, QfsLend lend) {
  guint by_caller = 0;
  const char *const keys[] = {"kept", "lent", "all"};
  const char *key = keys[lend];
  for (guint i = 1; i <= n; i++) {
    Lent lent = {.waiter = WAITER_INIT};
    QfsRequest *request = new_put(1 + i % NODES, key, i, lend, &lent);
    qfs_env_thread_submit(f->threads, request);
    wait_done(&lent.waiter, 1);
    g_assert_cmpint(request->status, ==, QFS_OK);
    g_assert_cmpuint(get(f, request->node, key, NULL), ==, i);
    by_caller += lent.by == g_thread_self();
    qfs_request_free(request);
  }
  return by_caller;
}

static void test_lent(Fixture *f, gconstpointer data) {
  /* A lent thread does the work of nodes that sleep; one that is not never does. */
  g_assert_cmpuint(puts_by_caller(f, 50, QFS_LEND_NOTHING), ==, 0);
  g_assert_cmpuint(puts_by_caller(f, 500, QFS_LEND_FOR_ANSWER), >, 0);
  g_assert_cmpuint(puts_by_caller(f, 500, QFS_LEND_ALL), >, 0);
}

static guint done_of(Waiter *waiter) {
  pthread_mutex_lock(&waiter->lock);
  const guint done = waiter->done;
  pthread_mutex_unlock(&waiter->lock);
  return done;
}

static void test_gathered(Fixture *f, gconstpointer data) {
  /* What a thread gathers rests until its release, which does it. (A node that happens to be awake goes on by itself.) */
  enum { ROUNDS = 20, REST_US = 20000 };
  guint rested = 0, by_caller = 0;
  for (guint round = 1; round <= ROUNDS; round++) {
    Lent lent[2] = {{.waiter = WAITER_INIT}, {.waiter = WAITER_INIT}};
    QfsRequest *requests[2];
    for (guint i = 0; i < 2; i++) {
      requests[i] = new_put(1 + round % NODES, "gathered", 2 * round + i, QFS_LEND_GATHER, &lent[i]);
      qfs_env_thread_submit(f->threads, requests[i]);
    }
    g_usleep(REST_US);
    rested += done_of(&lent[0].waiter) == 0 && done_of(&lent[1].waiter) == 0;
    qfs_env_thread_release(f->threads);
    for (guint i = 0; i < 2; i++) {
      wait_done(&lent[i].waiter, 1);
      g_assert_cmpint(requests[i]->status, ==, QFS_OK);
      by_caller += lent[i].by == g_thread_self();
      qfs_request_free(requests[i]);
    }
  }
  g_assert_cmpuint(rested, >, ROUNDS / 2);
  g_assert_cmpuint(by_caller, >, 0);
}

static void test_stop(Fixture *f, gconstpointer data) {
  /* Stopping ends what is open as unknown; later requests are refused. */
  QfsRequest *request = qfs_request_new(QFS_REQUEST_LIST, "a", NULL, NULL);
  Waiter waiter = WAITER_INIT;
  request->done = count_done;
  request->user_data = &waiter;
  qfs_env_thread_submit(f->threads, request);
  qfs_env_thread_stop(f->threads);
  wait_done(&waiter, 1);
  g_assert_cmpint(request->status, ==, QFS_UNKNOWN);
  qfs_request_free(request);
  g_assert_cmpint(put(f, 1, "a", 1), ==, QFS_NO_QUORUM);
  g_assert_cmpuint(files_open_below(f->dir), ==, 0);
}

/* Links: what is delayed is late, and in order; what is cut never comes; healing lets everything
 * through. */

static void edit_links(QfsLinks *links, gpointer user_data) {
  *links = *(const QfsLinks *)user_data;
}

static void test_links(Fixture *f, gconstpointer data) {
  QfsLinks links;
  qfs_env_thread_read_links(f->threads, &links);
  g_assert_true(qfs_links_are_clean(&links));
  g_assert_cmpint(put(f, 2, "key", 1), ==, QFS_OK);

  links.delay_ms[1] = 100;
  qfs_env_thread_edit_links(f->threads, edit_links, &links);
  gint64 begin_us = g_get_monotonic_time();
  g_assert_cmpint(put(f, 2, "key", 2), ==, QFS_OK);
  g_assert_cmpint(g_get_monotonic_time() - begin_us, >=, 100000);
  begin_us = g_get_monotonic_time();
  g_assert_cmpuint(get(f, 2, "key", NULL), ==, 2); /* direct reads go the same way */
  g_assert_cmpint(g_get_monotonic_time() - begin_us, >=, 100000);
  begin_us = g_get_monotonic_time();
  g_assert_cmpint(put(f, 1, "key", 2), ==, QFS_OK); /* of the other nodes nothing is delayed */
  g_assert_cmpint(g_get_monotonic_time() - begin_us, <, 20 * G_USEC_PER_SEC);

  /* Many at once, the last ones sent when the delay is gone already: none is lost or overtaken.
   */
  Waiter waiter = WAITER_INIT;
  QfsRequest *requests[64];
  for (guint i = 0; i < G_N_ELEMENTS(requests); i++) {
    if (i == 32) {
      links.delay_ms[1] = 0;
      qfs_env_thread_edit_links(f->threads, edit_links, &links);
    }
    requests[i] = qfs_request_new(QFS_REQUEST_WRITE, "key", count_done, &waiter);
    requests[i]->node = 2;
    requests[i]->record = qfs_record_new("key");
    requests[i]->record->kind = QFS_KIND_VALUE;
    requests[i]->record->timestamp = requests[i]->record->seq = 10 + i;
    qfs_env_thread_submit(f->threads, requests[i]);
  }
  wait_done(&waiter, G_N_ELEMENTS(requests));
  for (guint i = 0; i < G_N_ELEMENTS(requests); i++) {
    g_assert_cmpint(requests[i]->status, ==, QFS_OK);
    qfs_request_free(requests[i]);
  }
  g_assert_cmpuint(get(f, 2, "key", NULL), ==, 73);

  /* What is cut is lost for good; the requests end when the environment does. */
  links.cut[0] = 1 << 2; /* 1>3 */
  qfs_env_thread_edit_links(f->threads, edit_links, &links);
  Waiter lost = WAITER_INIT;
  QfsRequest *read = qfs_request_new(QFS_REQUEST_GET, "key", count_done, &lost);
  read->node = 3;
  qfs_env_thread_submit(f->threads,
                        read); /* the puppet does not ask again: it is freed by nobody else */
  g_usleep(50000);
  pthread_mutex_lock(&lost.lock);
  g_assert_cmpuint(lost.done, ==, 0);
  pthread_mutex_unlock(&lost.lock);
  qfs_request_free(read);
  links.cut[0] = 0;
  qfs_env_thread_edit_links(f->threads, edit_links, &links);
  g_assert_cmpint(put(f, 3, "key", 5), ==, QFS_OK);
}

int main(int argc, char **argv) {
  g_test_init(&argc, &argv, NULL);
  g_log_set_always_fatal(G_LOG_LEVEL_ERROR | G_LOG_LEVEL_CRITICAL);
#define ADD(path, test)                                                                            \
  g_test_add("/cluster/env-thread/" path, Fixture, NULL, set_up, test, tear_down)
  ADD("put-is-seen-by-the-next-get", test_put_get);
  ADD("down-closes-the-files", test_down_closes_files);
  ADD("quick-restarts-each-end", test_quick_restarts);
  ADD("missing-disk-fails-the-node-with-a-reason", test_missing_parent);
  ADD("damaged-replica-is-set-aside", test_damaged_replica);
  ADD("requests-from-done-need-no-stack", test_chain);
  ADD("ticks-come-in-time", test_timer);
  ADD("every-request-ends-once-under-restarts", test_many_clients);
  ADD("a-lent-thread-does-the-work-of-nodes", test_lent);
  ADD("what-a-thread-gathers-rests-until-its-release", test_gathered);
  ADD("stop-ends-what-is-open", test_stop);
  ADD("links-delay-and-lose", test_links);
#undef ADD
  return g_test_run();
}
