/* env_thread.c - see env_thread.h. Safe across threads; fields say what guards them. */
#include "cluster/env_thread.h"

#include "cluster/awake_clock.h"
#include "cluster/change.h"
#include "cluster/delay_line.h"
#include "cluster/node_thread.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/random.h>

/* Of the nodes that an event wakes: one more would make the request wait that these complete. */
#define HELPED_MAX 2
/* The timer looks at the clock now and then when the coordinator wants to be called within this time. */
#define BEATS_WITHIN_US (10 * G_USEC_PER_SEC)

struct QfsEnvThread {
  QfsEnv env; /* first: effects lead back here */
  guint nodes;
  QfsNodeThread *node[QFS_NODES_MAX]; /* node i-1; constant between run and free */
  QfsEngineWatch watch;
  gpointer watch_data;
  QfsChangeFeed *changes;
  void (*resized)(gpointer data);
  gpointer resized_data;
  GThread *timer;

  pthread_mutex_t monitor;
  QfsCoordinator *coordinator; /* monitor */
  gboolean entered;            /* monitor: inside an event (V1) */
  GRand *rand;                 /* monitor */
  QfsNodeSet wakes;            /* monitor: nodes to be woken after this event */
  guint helped;                /* monitor: nodes whose work this event leaves to its thread */
  pthread_cond_t timer_wake;
  gboolean timer_early;   /* monitor: the timer sleeps too long */
  gint64 timer_until_us;  /* monitor: it sleeps until then, by `clock` */
  QfsAwakeClock clock;    /* monitor: the coordinator's */
  gint64 event_us;        /* monitor: what it showed in this event; 0: nobody looked */
  gint64 wake_us;         /* monitor: wish of the coordinator; G_MAXINT64: none */
  gboolean quit;          /* monitor */
  pthread_cond_t changed; /* an event happened; signalled when somebody waits */
  guint waiters;          /* monitor */
  gint inside;            /* atomic: events and effects under way in any thread */

  guint64 stand; /* atomic, written under the monitor: the coordinator's after the last event */
  gint faulty; /* atomic: links are to be looked at, or what was delayed is still on its way */
  QfsDelayLine *late;
  pthread_mutex_t links_lock;
  QfsLinks links; /* links_lock */
  GRand *chance;  /* links_lock */
  gint64 last_us[2]
                [QFS_NODES_MAX]; /* links_lock: by QfsLinkWay: latest arrival; links keep order */
};

/* Effects: one queue per thread, so that each runs where it was caused (V2). */

typedef enum {
  EFFECT_HELP,
  EFFECT_READ,
  EFFECT_COMPLETE,
  EFFECT_WATCH,
  EFFECT_CHANGED,
  EFFECT_LOG,
  EFFECT_RESIZED
} EffectKind;

typedef struct {
  EffectKind kind;
  QfsEnvThread *self;
  gpointer what; /* HELP: QfsNodeThread; READ: QfsRead; COMPLETE: QfsRequest; WATCH: key; LOG: line */
  GLogLevelFlags level;
} Effect;

typedef struct {
  GArray *queue;
  guint next; /* those before were taken */
  gboolean draining;
  QfsLend lends;        /* the thread does the work of nodes, too */
  GPtrArray *later;     /* QfsNodeThread: when the queue is empty, so that requests are completed first */
  QfsNodeSet gathered;  /* nodes of `gathered_of` that sleep until release (V4) */
  QfsEnvThread *gathered_of;
} Effects;

static void effects_free(gpointer data) {
  Effects *effects = data;
  g_array_unref(effects->queue);
  g_ptr_array_unref(effects->later);
  g_free(effects);
}

static GPrivate effects_key = G_PRIVATE_INIT(effects_free);

static Effects *effects_of_this_thread(void) {
  Effects *effects = g_private_get(&effects_key);
  if (effects == NULL) {
    effects = g_new0(Effects, 1);
    effects->queue = g_array_new(FALSE, FALSE, sizeof(Effect));
    effects->later = g_ptr_array_new();
    g_private_set(&effects_key, effects);
  }
  return effects;
}

static void emit(QfsEnvThread *self, EffectKind kind, gpointer what, GLogLevelFlags level) {
  g_assert(self->entered);
  const Effect effect = {.kind = kind, .self = self, .what = what, .level = level};
  g_atomic_int_inc(&self->inside);
  g_array_append_val(effects_of_this_thread()->queue, effect);
}

/* Entering and leaving the monitor. */

static void lock_coordinator(QfsEnvThread *self) {
  pthread_mutex_lock(&self->monitor);
  self->entered = TRUE;
  self->event_us = 0;
}

/* Threads are woken after the release, so that they do not run into the lock at once. */
static void unlock_and_wake(QfsEnvThread *self) {
  QfsNodeSet wakes = self->wakes;
  const gboolean timer_early = self->timer_early;
  const gboolean waiters = self->waiters > 0;
  const guint64 stand = self->coordinator != NULL ? qfs_coordinator_stand(self->coordinator) : 0;
  if (stand != self->stand)
    __atomic_store_n(&self->stand, stand, __ATOMIC_SEQ_CST);
  self->wakes = 0;
  self->helped = 0;
  self->timer_early = FALSE;
  self->entered = FALSE;
  pthread_mutex_unlock(&self->monitor);
  for (; wakes != 0; wakes &= wakes - 1)
    qfs_node_thread_wake(self->node[__builtin_ctzll(wakes)]);
  if (timer_early)
    pthread_cond_signal(&self->timer_wake);
  if (waiters)
    pthread_cond_broadcast(&self->changed);
}

/* Links with faults. */

typedef enum { HOP_REQUEST, HOP_REPLY, HOP_READ, HOP_ANSWER } HopKind;

typedef struct {
  HopKind kind;
  guint node;
  gpointer what; /* REQUEST, REPLY: QfsMessage; READ, ANSWER: QfsRead */
} Hop;

static void hop_drop(gpointer data) {
  Hop *hop = data;
  if (hop->kind == HOP_REQUEST || hop->kind == HOP_REPLY)
    qfs_message_free(hop->what);
  else
    qfs_read_free(hop->what);
  g_free(hop);
}

/* links_lock is held. */
static gboolean links_are_idle(const QfsEnvThread *self, gint64 now_us) {
  for (guint i = 0; i < self->nodes; i++)
    if (self->last_us[0][i] > now_us || self->last_us[1][i] > now_us)
      return FALSE;
  return qfs_links_are_clean(&self->links);
}

static void take_detour(QfsEnvThread *self, const Hop *hop, gboolean *out_taken) {
  const QfsLinkWay way =
      hop->kind == HOP_REQUEST || hop->kind == HOP_READ ? QFS_LINK_TO_NODE : QFS_LINK_FROM_NODE;
  pthread_mutex_lock(&self->links_lock);
  const gint64 now_us = g_get_monotonic_time();
  const guint64 chance = (guint64)g_rand_int(self->chance) << 32 | g_rand_int(self->chance);
  gint64 *last_us = &self->last_us[way][hop->node - 1];
  const gint64 at_us = MAX(now_us + qfs_links_delay_us(&self->links, hop->node, way), *last_us);
  const gboolean lost = qfs_links_loses(&self->links, hop->node, way, chance);
  const gboolean late = !lost && at_us > now_us;
  if (late) {
    *last_us = at_us;
    qfs_delay_line_push(self->late, at_us, g_memdup2(hop, sizeof *hop));
  }
  if (links_are_idle(self, now_us))
    g_atomic_int_set(&self->faulty, FALSE);
  pthread_mutex_unlock(&self->links_lock);
  if (lost)
    hop_drop(g_memdup2(hop, sizeof *hop));
  *out_taken = lost || late;
}

/* TRUE: it was taken over, to be lost or to arrive later. */
static gboolean detour(QfsEnvThread *self, HopKind kind, guint node, gpointer what) {
  if (G_LIKELY(!__atomic_load_n(&self->faulty, __ATOMIC_RELAXED)))
    return FALSE;
  gboolean taken = FALSE;
  take_detour(self, &(Hop){.kind = kind, .node = node, .what = what}, &taken);
  return taken;
}

static void read_answered(QfsEnvThread *self, QfsRead *read) {
  lock_coordinator(self);
  if (self->coordinator != NULL)
    qfs_coordinator_read_done(self->coordinator, read);
  else
    qfs_read_free(read);
  unlock_and_wake(self);
}

static void read_at_node(QfsEnvThread *self, QfsRead *read) {
  qfs_node_thread_read(self->node[read->node - 1], read);
  if (!detour(self, HOP_ANSWER, read->node, read))
    read_answered(self, read);
}

static void run_read(QfsEnvThread *self, QfsRead *read) {
  if (!detour(self, HOP_READ, read->node, read))
    read_at_node(self, read);
}

static void run_effect(const Effect *effect) {
  QfsEnvThread *self = effect->self;
  switch (effect->kind) {
  case EFFECT_HELP:
    qfs_node_thread_help(effect->what);
    break;
  case EFFECT_READ:
    run_read(self, effect->what);
    break;
  case EFFECT_COMPLETE: {
    QfsRequest *request = effect->what;
    request->done(request, request->user_data);
    break;
  }
  case EFFECT_WATCH:
    self->watch(effect->what, self->watch_data);
    g_free(effect->what);
    break;
  case EFFECT_CHANGED:
    qfs_change_feed_deliver(self->changes);
    break;
  case EFFECT_LOG:
    g_log(G_LOG_DOMAIN, effect->level, "%s", (const char *)effect->what);
    g_free(effect->what);
    break;
  case EFFECT_RESIZED:
    self->resized(self->resized_data);
    break;
  }
}

static void run_queue(Effects *effects) {
  while (effects->next < effects->queue->len) {
    const Effect effect = g_array_index(effects->queue, Effect, effects->next++);
    if (effects->next >= 256) { /* a chain that never ends must not grow the queue */
      g_array_remove_range(effects->queue, 0, effects->next);
      effects->next = 0;
    }
    run_effect(&effect);
    g_atomic_int_add(&effect.self->inside, -1);
  }
  g_array_set_size(effects->queue, 0);
  effects->next = 0;
}

/* Runs what this thread caused, until nothing is left. Inside another drain: that one does it. */
static void drain(void) {
  Effects *effects = effects_of_this_thread();
  if (effects->draining)
    return;
  effects->draining = TRUE;
  run_queue(effects);
  while (effects->later->len > 0) {
    QfsNodeThread *node = g_ptr_array_steal_index_fast(effects->later, effects->later->len - 1);
    if (effects->lends == QFS_LEND_ALL)
      qfs_node_thread_help(node);
    else
      qfs_node_thread_wake(node);
    run_queue(effects);
  }
  effects->lends = QFS_LEND_NOTHING;
  effects->draining = FALSE;
}

/* Every event is: enter; if the coordinator is there, call it; leave. */
static QfsCoordinator *enter(QfsEnvThread *self) {
  g_atomic_int_inc(&self->inside);
  lock_coordinator(self);
  return self->coordinator;
}

/* The last line is the last touch of `self`: stop frees it as soon as nobody is inside. */
static void leave(QfsEnvThread *self) {
  unlock_and_wake(self);
  drain();
  g_atomic_int_add(&self->inside, -1);
}

/* The coordinator's effects; the monitor is held. */

static gint64 env_now_us(QfsEnv *env) {
  QfsEnvThread *self = (QfsEnvThread *)env;
  if (!self->entered)
    return qfs_awake_clock_read(&self->clock, g_get_monotonic_time());
  if (self->event_us == 0)
    self->event_us = qfs_awake_clock_read(&self->clock, g_get_monotonic_time());
  return self->event_us;
}

static gint64 env_wall_ms(QfsEnv *env) {
  return g_get_real_time() / 1000;
}

static guint64 env_random(QfsEnv *env) {
  QfsEnvThread *self = (QfsEnvThread *)env;
  g_assert(self->entered);
  return (guint64)g_rand_int(self->rand) << 32 | g_rand_int(self->rand);
}

static void gather(QfsEnvThread *self, Effects *effects, guint node) {
  g_assert(effects->gathered == 0 || effects->gathered_of == self);
  effects->gathered |= (QfsNodeSet)1 << (node - 1);
  effects->gathered_of = self;
}

/* V3, V4. As many nodes as a write needs, one after another by this thread; the others when the request was answered. */
static void note_wake(QfsEnvThread *self, guint node, gboolean sleeps) {
  if (!sleeps)
    return;
  Effects *effects = effects_of_this_thread();
  if (effects->lends == QFS_LEND_NOTHING)
    self->wakes |= (QfsNodeSet)1 << (node - 1);
  else if (effects->lends == QFS_LEND_GATHER)
    gather(self, effects, node);
  else if (self->helped++ < HELPED_MAX)
    emit(self, EFFECT_HELP, self->node[node - 1], 0);
  else
    g_ptr_array_add(effects->later, self->node[node - 1]);
}

static void env_send(QfsEnv *env, QfsMessage *message) {
  QfsEnvThread *self = (QfsEnvThread *)env;
  const guint node = message->node;
  g_assert(self->entered && node >= 1 && node <= self->nodes);
  if (!detour(self, HOP_REQUEST, node, message))
    note_wake(self, node, qfs_node_thread_send(self->node[node - 1], message));
}

static void env_node_start(QfsEnv *env, guint node, guint64 incarnation) {
  QfsEnvThread *self = (QfsEnvThread *)env;
  g_assert(self->entered && node >= 1 && node <= self->nodes);
  note_wake(self, node, qfs_node_thread_start(self->node[node - 1], incarnation));
}

static void env_node_stop(QfsEnv *env, guint node) {
  QfsEnvThread *self = (QfsEnvThread *)env;
  g_assert(self->entered && node >= 1 && node <= self->nodes);
  note_wake(self, node, qfs_node_thread_stop(self->node[node - 1]));
}

static void env_node_remove(QfsEnv *env, guint node, guint64 incarnation) {
  QfsEnvThread *self = (QfsEnvThread *)env;
  g_assert(self->entered && node >= 1 && node <= self->nodes);
  note_wake(self, node, qfs_node_thread_remove(self->node[node - 1], incarnation));
}

static void env_read(QfsEnv *env, QfsRead *read) {
  QfsEnvThread *self = (QfsEnvThread *)env;
  g_assert(read->node >= 1 && read->node <= self->nodes);
  emit(self, EFFECT_READ, read, 0);
}

static void env_complete(QfsEnv *env, QfsRequest *request) {
  emit((QfsEnvThread *)env, EFFECT_COMPLETE, request, 0);
}

static void env_log(QfsEnv *env, GLogLevelFlags level, const char *line) {
  emit((QfsEnvThread *)env, EFFECT_LOG, g_strdup(line), level);
}

static void env_watch(const char *key, gpointer user_data) {
  QfsEnvThread *self = user_data;
  if (self->watch != NULL)
    emit(self, EFFECT_WATCH, g_strdup(key), 0);
}

static void env_changed(const QfsChange *change, gpointer user_data) {
  QfsEnvThread *self = user_data;
  if (qfs_change_feed_push(self->changes, change))
    emit(self, EFFECT_CHANGED, NULL, 0);
}

static void env_resized(gpointer data) {
  QfsEnvThread *self = data;
  if (self->resized != NULL)
    emit(self, EFFECT_RESIZED, NULL, 0);
}

static void env_wake_at(QfsEnv *env, gint64 at_us) {
  QfsEnvThread *self = (QfsEnvThread *)env;
  g_assert(self->entered);
  self->wake_us = MIN(self->wake_us, at_us);
  self->timer_early |= self->wake_us < self->timer_until_us;
}

/* Events from the nodes' threads. */

static void node_receive(gpointer owner, GPtrArray *replies) {
  QfsEnvThread *self = owner;
  guint on_time = 0;
  for (guint i = 0; i < replies->len; i++) {
    QfsMessage *reply = g_ptr_array_index(replies, i);
    if (!detour(self, HOP_REPLY, reply->node, reply))
      replies->pdata[on_time++] = reply;
  }
  g_ptr_array_set_size(replies, (gint)on_time);
  if (on_time == 0)
    return;
  QfsCoordinator *coordinator = enter(self);
  for (guint i = 0; i < replies->len; i++) {
    if (coordinator != NULL)
      qfs_coordinator_receive(coordinator, g_ptr_array_index(replies, i));
    else
      qfs_message_free(g_ptr_array_index(replies, i));
  }
  g_ptr_array_set_size(replies, 0);
  leave(self);
}

static void node_gone(gpointer owner, guint node, guint64 incarnation, const char *reason) {
  QfsEnvThread *self = owner;
  QfsCoordinator *coordinator = enter(self);
  if (coordinator != NULL)
    qfs_coordinator_node_gone(coordinator, node, incarnation, reason);
  leave(self);
}

/* What was delayed arrives; the delay line's thread. */
static void hop_arrives(gpointer owner, gpointer item) {
  QfsEnvThread *self = owner;
  g_autofree Hop *hop = item;
  QfsNodeThread *node = self->node[hop->node - 1];
  if (hop->kind == HOP_REQUEST) {
    if (qfs_node_thread_send(node, hop->what))
      qfs_node_thread_wake(node);
    return;
  }
  QfsCoordinator *coordinator = enter(self);
  if (hop->kind == HOP_REPLY && coordinator != NULL)
    qfs_coordinator_receive(coordinator, hop->what);
  else if (hop->kind == HOP_REPLY)
    qfs_message_free(hop->what);
  else if (hop->kind == HOP_ANSWER && coordinator != NULL)
    qfs_coordinator_read_done(coordinator, hop->what);
  else if (hop->kind == HOP_ANSWER)
    qfs_read_free(hop->what);
  unlock_and_wake(self);
  if (hop->kind == HOP_READ)
    read_at_node(self, hop->what);
  drain();
  g_atomic_int_add(&self->inside, -1);
}

/* Time. */

static struct timespec monotonic(gint64 at_us) {
  return (struct timespec){.tv_sec = at_us / G_USEC_PER_SEC,
                           .tv_nsec = at_us % G_USEC_PER_SEC * 1000};
}

/* Waits on `cond` with the monitor held, until `until_us` at the latest. */
static void wait_until(QfsEnvThread *self, pthread_cond_t *cond, gint64 until_us) {
  const struct timespec until = monotonic(MAX(until_us, 0));
  if (until_us == G_MAXINT64)
    pthread_cond_wait(cond, &self->monitor);
  else
    pthread_cond_timedwait(cond, &self->monitor, &until);
}

/* Until the coordinator wants to be called, or until the clock is to be read again. */
static void sleep_from(QfsEnvThread *self, gint64 now_us) {
  self->clock.beats = self->wake_us - now_us <= BEATS_WITHIN_US;
  self->timer_until_us = self->clock.beats ? MIN(self->wake_us, now_us + QFS_AWAKE_BEAT_US) : self->wake_us;
  wait_until(self, &self->timer_wake,
             self->timer_until_us == G_MAXINT64 ? G_MAXINT64 : self->timer_until_us + self->clock.left_out_us);
  self->timer_until_us = G_MININT64;
}

static gpointer run_timer(gpointer data) {
  QfsEnvThread *self = data;
  pthread_mutex_lock(&self->monitor);
  while (!self->quit) {
    const gint64 now_us = env_now_us(&self->env);
    if (self->wake_us > now_us) {
      sleep_from(self, now_us);
      continue;
    }
    pthread_mutex_unlock(&self->monitor);
    QfsCoordinator *coordinator = enter(self);
    self->wake_us = G_MAXINT64;
    if (coordinator != NULL)
      qfs_coordinator_tick(coordinator);
    leave(self);
    pthread_mutex_lock(&self->monitor);
  }
  pthread_mutex_unlock(&self->monitor);
  return NULL;
}

/* Life. */

static void init_condition(pthread_cond_t *cond) {
  pthread_condattr_t attr;
  pthread_condattr_init(&attr);
  pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
  pthread_cond_init(cond, &attr);
  pthread_condattr_destroy(&attr);
}

static GRand *new_seeded_rand(void) {
  guint32 seed[8];
  if (getrandom(seed, sizeof seed, 0) != (gssize)sizeof seed)
    return g_rand_new();
  return g_rand_new_with_seed_array(seed, G_N_ELEMENTS(seed));
}

QfsEnvThread *qfs_env_thread_new(guint nodes, char *const *dirs, gboolean sync,
                                 QfsEngineWatch watch, gpointer watch_data) {
  g_assert(nodes >= 1 && nodes <= QFS_NODES_MAX);
  QfsEnvThread *self = g_new0(QfsEnvThread, 1);
  qfs_replica_error_quark(); /* made by whoever asks first, without a lock: before there are threads
                              */
  self->env = (QfsEnv){.now_us = env_now_us,
                       .wall_ms = env_wall_ms,
                       .random = env_random,
                       .send = env_send,
                       .read = env_read,
                       .complete = env_complete,
                       .wake_at = env_wake_at,
                       .node_start = env_node_start,
                       .node_stop = env_node_stop,
                       .node_remove = env_node_remove,
                       .log = env_log};
  self->nodes = nodes;
  self->watch = watch;
  self->watch_data = watch_data;
  self->rand = new_seeded_rand();
  self->wake_us = G_MAXINT64;
  self->timer_until_us = G_MININT64;
  pthread_mutex_init(&self->monitor, NULL);
  init_condition(&self->timer_wake);
  init_condition(&self->changed);
  pthread_mutex_init(&self->links_lock, NULL);
  self->changes = qfs_change_feed_new();
  qfs_links_init(&self->links, nodes);
  self->chance = new_seeded_rand();
  self->late = qfs_delay_line_new(hop_arrives, self, hop_drop);
  const QfsNodeHooks hooks = {.owner = self, .receive = node_receive, .gone = node_gone};
  for (guint i = 0; i < nodes; i++)
    self->node[i] = qfs_node_thread_new(i + 1, dirs[i], sync, &hooks);
  return self;
}

void qfs_env_thread_allow_faults(QfsEnvThread *self) {
  g_assert(self->timer == NULL);
  self->env.lossy = TRUE;
}

void qfs_env_thread_run(QfsEnvThread *self, const QfsCoordinatorConfig *config) {
  QfsCoordinatorConfig watched = *config;
  watched.watch = env_watch;
  watched.watch_data = self;
  watched.changed = env_changed;
  watched.changed_data = self;
  self->resized = config->resized;
  self->resized_data = config->resized_data;
  watched.resized = env_resized;
  watched.resized_data = self;
  g_assert(enter(self) == NULL && self->timer == NULL && !self->quit);
  self->timer = g_thread_new("qfs-timer", run_timer, self);
  self->coordinator = qfs_coordinator_new(&self->env, &watched);
  qfs_coordinator_start(self->coordinator);
  leave(self);
}

void qfs_env_thread_stop(QfsEnvThread *self) {
  pthread_mutex_lock(&self->monitor);
  self->quit = TRUE;
  pthread_mutex_unlock(&self->monitor);
  pthread_cond_signal(&self->timer_wake);
  if (self->timer != NULL)
    g_thread_join(g_steal_pointer(&self->timer));
  qfs_delay_line_stop(self->late);
  for (guint i = 0; i < self->nodes; i++)
    qfs_node_thread_quit(self->node[i]);
  for (guint i = 0; i < self->nodes; i++)
    qfs_node_thread_join(self->node[i]);
  /* A thread may still be on its way out of an event whose request another one completed. The
   * counter is its last touch, so there is nothing it could signal. */
  while (g_atomic_int_get(&self->inside) > 0)
    g_usleep(50);
  enter(self);
  g_clear_pointer(&self->coordinator, qfs_coordinator_free);
  leave(self);
}

void qfs_env_thread_free(QfsEnvThread *self) {
  if (self == NULL)
    return;
  if (!self->quit)
    qfs_env_thread_stop(self);
  for (guint i = 0; i < self->nodes; i++)
    qfs_node_thread_free(self->node[i]);
  pthread_cond_destroy(&self->changed);
  pthread_cond_destroy(&self->timer_wake);
  pthread_mutex_destroy(&self->monitor);
  qfs_delay_line_free(self->late);
  pthread_mutex_destroy(&self->links_lock);
  qfs_change_feed_free(self->changes);
  g_rand_free(self->chance);
  g_rand_free(self->rand);
  g_free(self);
}

/* Events and questions from users. */

void qfs_env_thread_submit(QfsEnvThread *self, QfsRequest *request) {
  Effects *effects = effects_of_this_thread();
  if (!effects->draining)
    effects->lends = request->lend;
  QfsCoordinator *coordinator = enter(self);
  if (coordinator != NULL) {
    qfs_coordinator_submit(coordinator, request);
  } else {
    request->status = QFS_NO_QUORUM;
    env_complete(&self->env, request);
  }
  leave(self);
}

void qfs_env_thread_release(QfsEnvThread *self) {
  Effects *effects = effects_of_this_thread();
  if (effects->gathered == 0)
    return;
  g_assert(effects->gathered_of == self);
  QfsNodeSet nodes = effects->gathered;
  effects->gathered = 0;
  for (; nodes != 0; nodes &= nodes - 1)
    qfs_node_thread_help(self->node[__builtin_ctzll(nodes)]);
}

static void with_object(QfsEnvThread *self, void (*event)(QfsCoordinator *, QfsObjectId),
                        QfsObjectId object) {
  QfsCoordinator *coordinator = enter(self);
  if (coordinator != NULL)
    event(coordinator, object);
  leave(self);
}

void qfs_env_thread_pin(QfsEnvThread *self, QfsObjectId object) {
  with_object(self, qfs_coordinator_pin, object);
}

void qfs_env_thread_unpin(QfsEnvThread *self, QfsObjectId object) {
  with_object(self, qfs_coordinator_unpin, object);
}

void qfs_env_thread_discard(QfsEnvThread *self, QfsObjectId object) {
  with_object(self, qfs_coordinator_discard, object);
}

void qfs_env_thread_shutdown(QfsEnvThread *self) {
  QfsCoordinator *coordinator = enter(self);
  if (coordinator != NULL)
    qfs_coordinator_shutdown(coordinator);
  leave(self);
}

void qfs_env_thread_resize(QfsEnvThread *self, guint nodes, guint replicas) {
  g_assert(nodes <= self->nodes);
  QfsCoordinator *coordinator = enter(self);
  if (coordinator != NULL)
    qfs_coordinator_resize(coordinator, nodes, replicas);
  leave(self);
}

void qfs_env_thread_read_links(QfsEnvThread *self, QfsLinks *out) {
  pthread_mutex_lock(&self->links_lock);
  *out = self->links;
  pthread_mutex_unlock(&self->links_lock);
}

void qfs_env_thread_edit_links(QfsEnvThread *self, QfsLinksEdit edit, gpointer user_data) {
  g_assert(self->env.lossy);
  pthread_mutex_lock(&self->links_lock);
  edit(&self->links, user_data);
  if (!links_are_idle(self, g_get_monotonic_time()))
    g_atomic_int_set(&self->faulty, TRUE);
  pthread_mutex_unlock(&self->links_lock);
}

void qfs_env_thread_watch(QfsEnvThread *self, QfsChangeFunc func, gpointer user_data) {
  qfs_change_feed_watch(self->changes, func, user_data);
}

QfsStatus qfs_env_thread_inspect(QfsEnvThread *self, guint node, QfsReaderFunc inspect, gpointer user_data,
                                 char **out_reason) {
  g_assert(node >= 1 && node <= self->nodes);
  return qfs_node_thread_inspect(self->node[node - 1], inspect, user_data, out_reason);
}

/* On links with faults a GET might not get through. */
guint64 qfs_env_thread_stand(QfsEnvThread *self) {
  if (__atomic_load_n(&self->faulty, __ATOMIC_SEQ_CST))
    return 0;
  return __atomic_load_n(&self->stand, __ATOMIC_SEQ_CST);
}

QfsNodeSet qfs_env_thread_holders(QfsEnvThread *self, const char *key) {
  QfsCoordinator *coordinator = enter(self);
  QfsNodeSet set = coordinator != NULL ? qfs_coordinator_holders(coordinator, key) |
                                             qfs_coordinator_owners(coordinator, key)
                                       : 0;
  leave(self);
  return set;
}

void qfs_env_thread_status(QfsEnvThread *self, QfsEngineStatus *out) {
  QfsCoordinator *coordinator = enter(self);
  if (coordinator != NULL)
    qfs_coordinator_status(coordinator, out);
  leave(self);
}

char *qfs_env_thread_failure(QfsEnvThread *self) {
  QfsCoordinator *coordinator = enter(self);
  char *failure = coordinator != NULL ? g_strdup(qfs_coordinator_failure(coordinator)) : NULL;
  leave(self);
  return failure;
}

gboolean qfs_env_thread_wait(QfsEnvThread *self, QfsCoordinatorTest test, guint timeout_ms) {
  const gint64 until_us = g_get_monotonic_time() + (gint64)timeout_ms * 1000;
  gboolean holds = FALSE;
  pthread_mutex_lock(&self->monitor);
  self->waiters++;
  while (self->coordinator != NULL && !(holds = test(self->coordinator)) &&
         g_get_monotonic_time() < until_us)
    wait_until(self, &self->changed, until_us);
  self->waiters--;
  pthread_mutex_unlock(&self->monitor);
  return holds;
}
