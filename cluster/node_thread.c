/* node_thread.c - see node_thread.h. The queue is safe across threads, the rest belongs to the thread that serves
 * (T4): the node's own while it is awake, else at most one that is lent. */
#include "cluster/node_thread.h"

#include "cluster/reader_pool.h"
#include "storage/aside.h"

#include <glib/gstdio.h>
#include <pthread.h>

/* Messages of one transaction: bounds what a rollback repeats and how long a reply is held back. */
#define BATCH_MAX 256
/* Under steady load the queue is never empty; idle work, such as moving what waits in front of SQLite, must not starve. */
#define BATCHES_PER_IDLE 64
#define BYTES_PER_IDLE (256 * 1024)
/* A lent thread takes work of at most so many bytes, and leaves off after so many batches; threads that are lent at
 * once leave others for everything else. A node that once took longer is left to its own thread for a while. */
#define LENT_BYTES_MAX 32768
#define LENT_BATCHES_MAX 4
#define LENT_THREADS_MAX 2
#define LENT_SLOW_US 5000
#define LENT_PAUSE_US 200000

typedef enum { ITEM_MESSAGE, ITEM_START, ITEM_STOP, ITEM_REMOVE } ItemKind;

typedef struct {
  ItemKind kind;
  guint64 incarnation; /* START, REMOVE */
  QfsMessage *message; /* MESSAGE */
} Item;

struct QfsNodeThread {
  QfsEnv env; /* what the node sees: reply only; first, so that it leads back here */
  guint number;
  char *dir;
  gboolean sync;
  QfsNodeHooks hooks;
  QfsReaderPool *readers;
  GThread *thread;

  pthread_mutex_t lock;
  pthread_cond_t wake;
  GArray *queue;     /* lock */
  gboolean sleeping; /* lock: and nobody has taken it on to wake it */
  gboolean awake;    /* lock: the node's own thread serves */
  gboolean lent;     /* lock: another one does */
  gboolean heavy;    /* lock: there is something in the queue that is not for a lent thread */
  gsize queued;      /* lock: bytes in the queue */
  gint64 no_help_until_us; /* lock */
  gboolean quit;     /* lock */

  /* of the thread that serves */
  GArray *taken;
  GPtrArray *batch;
  GPtrArray *replies;
  QfsNode *node;       /* NULL: closed */
  guint64 incarnation; /* of the last start */
  guint64 aside_incarnation; /* in which its replica was set aside by command */
  guint batches;       /* since the last idle work */
  gsize served;        /* bytes of them */
};

/* The queue, any thread. */

/* Work that is short, and never waits for a disk. */
static gboolean is_light(const Item *item) {
  if (item->kind != ITEM_MESSAGE || item->message->durable)
    return FALSE;
  QfsMessageType type = item->message->type;
  return type == QFS_MESSAGE_APPLY || type == QFS_MESSAGE_INTENT || type == QFS_MESSAGE_COMMIT;
}

static gboolean push(QfsNodeThread *self, Item item) {
  gboolean light = is_light(&item);
  gsize size = light ? qfs_message_size(item.message) : 0;
  pthread_mutex_lock(&self->lock);
  g_array_append_val(self->queue, item);
  self->heavy |= !light;
  self->queued += size;
  const gboolean was_sleeping = self->sleeping;
  self->sleeping = FALSE;
  pthread_mutex_unlock(&self->lock);
  return was_sleeping;
}

gboolean qfs_node_thread_send(QfsNodeThread *self, QfsMessage *message) {
  return push(self, (Item){.kind = ITEM_MESSAGE, .message = message});
}

gboolean qfs_node_thread_start(QfsNodeThread *self, guint64 incarnation) {
  return push(self, (Item){.kind = ITEM_START, .incarnation = incarnation});
}

gboolean qfs_node_thread_stop(QfsNodeThread *self) {
  return push(self, (Item){.kind = ITEM_STOP});
}

gboolean qfs_node_thread_remove(QfsNodeThread *self, guint64 incarnation) {
  return push(self, (Item){.kind = ITEM_REMOVE, .incarnation = incarnation});
}

void qfs_node_thread_wake(QfsNodeThread *self) {
  pthread_cond_signal(&self->wake);
}

void qfs_node_thread_read(QfsNodeThread *self, QfsRead *read) {
  qfs_reader_pool_run(self->readers, read);
}

QfsStatus qfs_node_thread_inspect(QfsNodeThread *self, QfsReaderFunc inspect, gpointer user_data,
                                  char **out_reason) {
  return qfs_reader_pool_inspect(self->readers, inspect, user_data, out_reason);
}

/* Opening and closing, the node's thread. */

/* A directory below a missing one means a disk that is not mounted: a replica must not appear in
 * its place. */
static gboolean parent_is_there(const char *dir, GError **error) {
  g_autofree char *parent = g_path_get_dirname(dir);
  if (g_file_test(parent, G_FILE_TEST_IS_DIR))
    return TRUE;
  g_set_error(error, QFS_REPLICA_ERROR, QFS_REPLICA_ERROR_ABSENT, "directory %s is missing",
              parent);
  return FALSE;
}

/* A missing replica of an old store is made afresh: its generation gives it away and it is rebuilt.
 */
static QfsNode *try_open(QfsNodeThread *self, guint64 incarnation, GError **error) {
  QfsReplica *replica = qfs_sqlite_replica_open(self->dir, self->number, TRUE, self->sync, error);
  if (replica == NULL)
    return NULL;
  return qfs_node_new(&self->env, self->number, incarnation, replica, error);
}

/* Kept for whoever wants to look into it; an earlier one is given up. */
static gboolean set_aside(QfsNodeThread *self, const char *reason, const QfsNodeMeta *meta) {
  g_autoptr(GError) error = NULL;
  const gboolean ok = qfs_replica_set_aside(self->dir, reason, meta, &error);
  if (ok)
    g_warning("node %u: replica set aside as %s/replica.damaged: %s", self->number, self->dir, reason);
  else
    g_warning("node %u: %s", self->number, error->message);
  return ok;
}

static gboolean is_to_be_set_aside(const GError *error) {
  return g_error_matches(error, QFS_REPLICA_ERROR, QFS_REPLICA_ERROR_CORRUPT) ||
         g_error_matches(error, QFS_REPLICA_ERROR, QFS_REPLICA_ERROR_FOREIGN);
}

/* FALSE: it can't be opened; the owner was told. */
static gboolean open_node(QfsNodeThread *self, guint64 incarnation, gboolean is_aside_new) {
  g_autoptr(GError) error = NULL;
  if (parent_is_there(self->dir, &error))
    self->node = try_open(self, incarnation, &error);
  if (is_to_be_set_aside(error) && set_aside(self, error->message, NULL)) {
    g_clear_error(&error);
    is_aside_new = TRUE;
    self->node = try_open(self, incarnation, &error);
  }
  if (self->node == NULL) {
    self->hooks.gone(self->hooks.owner, self->number, incarnation,
                     error != NULL ? error->message : "cannot be opened");
    return FALSE;
  }
  g_autofree char *aside = qfs_replica_aside_reason(self->dir);
  qfs_node_note_aside(self->node, aside, is_aside_new);
  qfs_reader_pool_open(self->readers, qfs_node_watch(self->node));
  return TRUE;
}

/* Readers first: the writer, closing last, moves the log into the file. */
static void close_node(QfsNodeThread *self) {
  qfs_reader_pool_close(self->readers);
  g_clear_pointer(&self->node, qfs_node_free);
}

/* Only the files of a replica, and the directory only where this program made it: whatever else is there
 * belongs to somebody else. */
static void remove_files(QfsNodeThread *self) {
  g_autoptr(GDir) dir = g_dir_open(self->dir, 0, NULL);
  const char *name = NULL;
  while (dir != NULL && (name = g_dir_read_name(dir)) != NULL) {
    g_autofree char *path = g_build_filename(self->dir, name, NULL);
    if (g_str_has_prefix(name, "replica."))
      g_unlink(path);
  }
  g_autofree char *usual = g_strdup_printf("node-%u", self->number);
  g_autofree char *last = g_path_get_basename(self->dir);
  if (g_strcmp0(last, usual) == 0)
    g_rmdir(self->dir);
}

/* Serving, the node's thread. */

static void collect_reply(QfsEnv *env, QfsMessage *reply) {
  QfsNodeThread *self = (QfsNodeThread *)env;
  g_ptr_array_add(self->replies, reply);
}

static void serve_batch(QfsNodeThread *self) {
  if (self->batch->len == 0)
    return;
  qfs_node_handle(self->node, self->batch);
  self->batches++;
  if (self->replies->len > 0)
    self->hooks.receive(self->hooks.owner, self->replies);
}

/* The replica is not emptied but replaced. Once per life of the node: a repeated request must not take away
 * what came after the first. */
static void set_aside_on_request(QfsNodeThread *self, const QfsMessage *wipe) {
  const QfsNodeMeta *meta = qfs_node_meta(self->node);
  if (meta == NULL || self->aside_incarnation == wipe->incarnation)
    return;
  g_autofree QfsNodeMeta *kept = g_memdup2(meta, sizeof *meta);
  self->aside_incarnation = wipe->incarnation;
  close_node(self);
  const gboolean done = set_aside(self, wipe->aside, kept);
  open_node(self, wipe->incarnation, done);
}

static void accept_message(QfsNodeThread *self, QfsMessage *message) {
  if (self->node != NULL && message->type == QFS_MESSAGE_WIPE && message->aside != NULL) {
    serve_batch(self);
    set_aside_on_request(self, message);
  }
  if (self->node == NULL) {
    qfs_message_free(message);
    return;
  }
  g_ptr_array_add(self->batch, message);
  if (self->batch->len >= BATCH_MAX)
    serve_batch(self);
}

static void serve_taken(QfsNodeThread *self) {
  guint live = 0; /* items before this one are cut off by a stop */
  for (guint i = 0; i < self->taken->len; i++)
    if (g_array_index(self->taken, Item, i).kind >= ITEM_STOP)
      live = i + 1;
  for (guint i = 0; i < self->taken->len; i++) {
    const Item *item = &g_array_index(self->taken, Item, i);
    switch (item->kind) {
    case ITEM_MESSAGE:
      if (i < live)
        qfs_message_free(item->message);
      else
        accept_message(self, item->message);
      break;
    case ITEM_START:
      serve_batch(self);
      close_node(self);
      self->incarnation = item->incarnation;
      if (i >= live)
        open_node(self, item->incarnation, FALSE);
      break;
    case ITEM_STOP:
      close_node(self);
      self->hooks.gone(self->hooks.owner, self->number, self->incarnation, NULL);
      break;
    case ITEM_REMOVE:
      close_node(self);
      remove_files(self);
      self->incarnation = item->incarnation;
      self->hooks.gone(self->hooks.owner, self->number, self->incarnation, NULL);
      break;
    }
  }
  serve_batch(self);
}

static void drop_taken(QfsNodeThread *self) {
  for (guint i = 0; i < self->taken->len; i++)
    qfs_message_free(g_array_index(self->taken, Item, i).message);
  g_array_set_size(self->taken, 0);
}

/* FALSE: quit. */
static gboolean take(QfsNodeThread *self) {
  g_array_set_size(self->taken, 0);
  pthread_mutex_lock(&self->lock);
  GArray *taken = self->queue;
  self->queue = self->taken;
  self->taken = taken;
  self->heavy = FALSE;
  self->served += self->queued;
  self->queued = 0;
  const gboolean quit = self->quit;
  pthread_mutex_unlock(&self->lock);
  return !quit;
}

/* Waiting, the node's thread. */

static void sleep_until_work(QfsNodeThread *self) {
  pthread_mutex_lock(&self->lock);
  if (self->queue->len == 0 && !self->quit) {
    self->sleeping = TRUE;
    self->awake = FALSE;
    while (self->sleeping || self->lent)
      pthread_cond_wait(&self->wake, &self->lock);
    self->awake = TRUE;
  }
  pthread_mutex_unlock(&self->lock);
}

static gboolean idle_is_due(const QfsNodeThread *self) {
  return self->batches >= BATCHES_PER_IDLE || self->served >= BYTES_PER_IDLE;
}

/* Lending: another thread serves while the node's own sleeps (T4). */

static gint lent_threads;

static gboolean may_help_locked(const QfsNodeThread *self, gint64 now_us) {
  return !self->heavy && !self->quit && self->queue->len > 0 && self->queued <= LENT_BYTES_MAX &&
         !idle_is_due(self) && now_us >= self->no_help_until_us;
}

/* FALSE: to be woken. */
static gboolean begin_lent(QfsNodeThread *self) {
  pthread_mutex_lock(&self->lock);
  const gboolean free = !self->awake && !self->lent;
  const gboolean good = free && may_help_locked(self, g_get_monotonic_time());
  self->lent |= good;
  pthread_mutex_unlock(&self->lock);
  return good;
}

/* TRUE: there is more for the lent thread to do. */
static gboolean go_on_lent(QfsNodeThread *self, guint n, gint64 took_us) {
  pthread_mutex_lock(&self->lock);
  const gint64 now_us = g_get_monotonic_time();
  if (took_us > LENT_SLOW_US)
    self->no_help_until_us = now_us + LENT_PAUSE_US;
  const gboolean more = n < LENT_BATCHES_MAX && may_help_locked(self, now_us);
  const gboolean wakes = !more && (self->queue->len > 0 || self->quit || idle_is_due(self));
  if (!more) {
    self->lent = FALSE;
    self->sleeping = !wakes;
  }
  pthread_mutex_unlock(&self->lock);
  if (wakes)
    pthread_cond_signal(&self->wake);
  return more;
}

static void serve_lent(QfsNodeThread *self) {
  gint64 took_us = 0;
  guint n = 0;
  do {
    const gint64 before_us = g_get_monotonic_time();
    take(self);
    serve_taken(self);
    took_us = g_get_monotonic_time() - before_us;
  } while (go_on_lent(self, ++n, took_us));
}

void qfs_node_thread_help(QfsNodeThread *self) {
  const gboolean good = g_atomic_int_add(&lent_threads, 1) < LENT_THREADS_MAX && begin_lent(self);
  if (good)
    serve_lent(self);
  g_atomic_int_add(&lent_threads, -1);
  if (!good)
    qfs_node_thread_wake(self);
}

static gboolean idle_step(QfsNodeThread *self) {
  self->batches = 0;
  self->served = 0;
  return self->node != NULL && qfs_node_idle(self->node);
}

static gpointer run(gpointer data) {
  QfsNodeThread *self = data;
  while (take(self)) {
    if (self->taken->len > 0) {
      serve_taken(self);
      if (idle_is_due(self))
        idle_step(self);
    } else if (!idle_step(self)) {
      sleep_until_work(self);
    }
  }
  drop_taken(self);
  close_node(self);
  return NULL;
}

/* Life. */

QfsNodeThread *qfs_node_thread_new(guint number, const char *dir, gboolean sync,
                                   const QfsNodeHooks *hooks) {
  QfsNodeThread *self = g_new0(QfsNodeThread, 1);
  self->env.reply = collect_reply;
  self->number = number;
  self->dir = g_strdup(dir);
  self->sync = sync;
  self->hooks = *hooks;
  self->readers = qfs_reader_pool_new(dir);
  pthread_mutex_init(&self->lock, NULL);
  pthread_cond_init(&self->wake, NULL);
  self->queue = g_array_new(FALSE, FALSE, sizeof(Item));
  self->taken = g_array_new(FALSE, FALSE, sizeof(Item));
  self->awake = TRUE;
  self->batch = g_ptr_array_new();
  self->replies = g_ptr_array_new();
  g_autofree char *name = g_strdup_printf("qfs-node-%u", number);
  self->thread = g_thread_new(name, run, self);
  return self;
}

void qfs_node_thread_quit(QfsNodeThread *self) {
  pthread_mutex_lock(&self->lock);
  self->quit = TRUE;
  self->sleeping = FALSE; /* a lent thread wakes it when it is through */
  pthread_mutex_unlock(&self->lock);
  qfs_node_thread_wake(self);
}

void qfs_node_thread_join(QfsNodeThread *self) {
  g_thread_join(g_steal_pointer(&self->thread));
  /* What arrived after the thread's last look. */
  take(self);
  drop_taken(self);
}

void qfs_node_thread_free(QfsNodeThread *self) {
  if (self == NULL)
    return;
  g_assert(self->thread == NULL && self->node == NULL);
  take(self);
  drop_taken(self);
  g_array_unref(self->queue);
  g_array_unref(self->taken);
  g_ptr_array_unref(self->batch);
  g_ptr_array_unref(self->replies);
  qfs_reader_pool_free(self->readers);
  pthread_cond_destroy(&self->wake);
  pthread_mutex_destroy(&self->lock);
  g_free(self->dir);
  g_free(self);
}
