/* reads.c - direct reads, and what to do about nodes that answer them late.
 *
 * An *ask* wants answers to one question from `need` nodes out of those that may answer it. It goes
 * to the quickest of them first; when an answer is late, further nodes are asked too and the first
 * answers win, so that no get waits for a slow node while a quick one has the record. An answer
 * counts only if its node might still be asked at that moment. Links may lose a read or its answer:
 * where they do, it is asked again.
 *
 * Of each node an estimate is kept of how long a read takes there. It counts half after each second
 * without a new one, so that a node that was slow is tried again, at the price of one late answer.
 */
#include "cluster/private.h"

/* An answer is late after this, or after some times what is usual at the quickest node that could
 * give it. */
#define LATE_US (5 * 1000)
#define LATE_FACTOR 4
#define LATE_MAX_US (250 * 1000)
/* What is quicker than this is not slow, however quick the others are. */
#define QUICK_US (5 * 1000)
#define SLOW_FACTOR 4
#define HALF_LIFE_US (1000 * 1000)
#define REPEAT_FIRST_US (20 * 1000)
#define REPEAT_MAX_US (200 * 1000)

struct QfsAsk {
  guint64 id;
  QfsRead what; /* the question; node 0 */
  guint64 hash;
  guint64 epoch;        /* of the view that `open` was chosen by */
  guint need;           /* answers still wanted; 0: over */
  QfsNodeSet open;      /* asked, not yet answered */
  QfsNodeSet done_with; /* answered, failed, or not to be asked */
  gint64 late_us;       /* an answer is late after this */
  gint64 sent_us;       /* when nodes were asked last */
  gint64 more_at_us;    /* to be looked at again */
  gint64 end_us;
  guint repeats;
  QfsReadDone done;
  gpointer data;
  GList link; /* in c->asks, by id */
};

/* ---- estimates ---- */

gint64 qfs_read_estimate(const QfsPeer *peer, gint64 now_us) {
  gint64 age = (now_us - peer->read_at_us) / HALF_LIFE_US;
  return age >= 32 ? 0 : peer->read_us >> age;
}

static void note_read(QfsPeer *peer, gint64 took_us, gint64 now_us) {
  gint64 before = qfs_read_estimate(peer, now_us);
  peer->read_us = before + (took_us - before) / 8;
  peer->read_at_us = now_us;
}

static void note_late(QfsPeer *peer, gint64 so_far_us, gint64 now_us) {
  peer->read_us = MAX(qfs_read_estimate(peer, now_us), so_far_us);
  peer->read_at_us = now_us;
}

/* How long a read takes at each of some nodes, all as of one moment. */
typedef struct {
  gint64 us[QFS_NODES_MAX]; /* of node i + 1, if it is among them */
} Estimates;

static void estimate(const QfsCoordinator *c, QfsNodeSet among, gint64 now_us, Estimates *out) {
  for (QfsNodeSet rest = among; rest != 0; rest &= rest - 1) {
    const guint i = (guint)__builtin_ctzll(rest);
    out->us[i] = qfs_read_estimate(&c->peer[i + 1], now_us);
  }
}

static gint64 quickest_us(const Estimates *estimates, QfsNodeSet among) {
  gint64 best = G_MAXINT64;
  for (QfsNodeSet rest = among; rest != 0; rest &= rest - 1)
    best = MIN(best, estimates->us[__builtin_ctzll(rest)]);
  return best;
}

/* The first of `among` in the order of the key's holders, quick ones before slow ones; 0: none. */
static guint pick_quick(QfsCoordinator *c, guint64 hash, QfsNodeSet among, const Estimates *estimates) {
  const gint64 limit = MAX(QUICK_US, SLOW_FACTOR * quickest_us(estimates, among));
  QfsNodeSet quick = 0;
  for (QfsNodeSet rest = among; rest != 0; rest &= rest - 1)
    if (estimates->us[__builtin_ctzll(rest)] <= limit)
      quick |= rest & -rest;
  return qfs_pick(c, hash, quick);
}

/* ---- asking ---- */

/* Nodes that may answer now, asked or not. */
static QfsNodeSet answerers(QfsCoordinator *c, const QfsAsk *ask) {
  switch (ask->what.kind) {
  case QFS_READ_RECORD:
    return qfs_readable(c, ask->hash);
  case QFS_READ_CHUNKS:
  case QFS_READ_SEEK:
    return qfs_object_readable(c, ask->what.object, qfs_spans_newest(ask->what.spans));
  case QFS_READ_LIST:
    return qfs_listable(c);
  }
  g_assert_not_reached();
}

static void send_read(QfsCoordinator *c, QfsAsk *ask, guint node, gint64 now_us) {
  const QfsRead *what = &ask->what;
  QfsRead *read = qfs_read_new(what->kind, node);
  read->ask = ask->id;
  read->hash = ask->hash;
  read->incarnation = c->peer[node].incarnation;
  read->asked_us = now_us;
  read->key = what->key != NULL ? g_ref_string_acquire(what->key) : NULL;
  read->after = g_strdup(what->after);
  read->limit = what->limit;
  read->whole = what->whole;
  read->object = what->object;
  read->index = what->index;
  read->end = what->end;
  read->hole = what->hole;
  read->count = what->count;
  read->spans = what->spans != NULL ? g_bytes_ref(what->spans) : NULL;
  if (c->peer[node].unread_since_us == 0)
    c->peer[node].unread_since_us = now_us;
  ask->open |= QFS_NODE_BIT(node);
  ask->sent_us = now_us;
  c->reads_started++;
  c->env->read(c->env, read);
}

/* Asks up to `n` nodes of `all` that were not asked yet; returns how many. */
static guint ask_nodes(QfsCoordinator *c, QfsAsk *ask, QfsNodeSet all, guint n, gint64 now_us) {
  QfsNodeSet left = all & ~ask->open & ~ask->done_with;
  Estimates estimates;
  estimate(c, all, now_us, &estimates);
  if (all != 0)
    ask->late_us = CLAMP(LATE_FACTOR * quickest_us(&estimates, all), LATE_US, LATE_MAX_US);
  guint sent = 0;
  for (; sent < n && left != 0; sent++) {
    guint node = pick_quick(c, ask->hash, left, &estimates);
    left &= ~QFS_NODE_BIT(node);
    send_read(c, ask, node, now_us);
  }
  return sent;
}

void qfs_ask(QfsCoordinator *c, const QfsRead *what, guint64 hash, QfsNodeSet all, QfsNodeSet except,
             guint need, QfsReadDone done, gpointer data) {
  gint64 now_us = c->env->now_us(c->env);
  QfsAsk *ask = g_slice_new0(QfsAsk);
  ask->id = ++c->next_ask;
  ask->what = *what;
  ask->hash = hash;
  ask->epoch = c->view.epoch;
  ask->need = need;
  ask->done_with = except;
  ask->end_us = now_us + (gint64)c->config.timeout_ms * 1000;
  ask->done = done;
  ask->data = data;
  ask->link.data = ask;
  g_queue_push_tail_link(&c->asks, &ask->link);
  guint sent = ask_nodes(c, ask, all, need, now_us);
  ask->more_at_us = sent < need ? now_us : now_us + ask->late_us;
  qfs_wake_at(c, ask->more_at_us);
}

/* ---- answers ---- */

static void ask_free(QfsAsk *ask) {
  qfs_read_clear(&ask->what);
  g_slice_free(QfsAsk, ask);
}

/* Mostly there is one, and the answer is to a late one. */
static QfsAsk *find_ask(QfsCoordinator *c, guint64 id) {
  for (GList *link = c->asks.tail; link != NULL; link = link->prev)
    if (((QfsAsk *)link->data)->id <= id)
      return ((QfsAsk *)link->data)->id == id ? link->data : NULL;
  return NULL;
}

/* May the node still be asked? What it answered counts for nothing when it left, or left and came
 * back, meanwhile. */
static gboolean counts(QfsCoordinator *c, const QfsAsk *ask, const QfsRead *read) {
  const QfsPeer *peer = &c->peer[read->node];
  if (peer->incarnation != read->incarnation || peer->state != PEER_TRUSTED)
    return FALSE;
  return ask->epoch == c->view.epoch || (answerers(c, ask) & QFS_NODE_BIT(read->node)) != 0;
}

/* Hands an answer, good or bad, to whoever asked; a bad one is the last. */
static void deliver(QfsCoordinator *c, QfsAsk *ask, QfsRead *read) {
  ask->need = read->status == QFS_OK ? ask->need - 1 : 0;
  gboolean over = ask->need == 0;
  if (over)
    g_queue_unlink(&c->asks, &ask->link);
  ask->done(c, read, ask->data);
  if (over)
    ask_free(ask);
}

static void deliver_failure(QfsCoordinator *c, QfsAsk *ask) {
  guint node = ask->open != 0 ? (guint)__builtin_ctzll(ask->open) + 1 : 0;
  g_autoptr(QfsRead) read = qfs_read_new(ask->what.kind, node);
  qfs_read_fail(read, QFS_NO_QUORUM, "no answer");
  deliver(c, ask, read);
}

/* Nobody waits for this one any more, or others are still to answer: only what it says of its node
 * counts. */
static void note_failure(QfsCoordinator *c, QfsRead *read) {
  if (read->status == QFS_IO && read->kind != QFS_READ_LIST &&
      c->peer[read->node].incarnation == read->incarnation)
    qfs_read_failed(c, read->hash, read);
}

void qfs_reads_receive(QfsCoordinator *c, QfsRead *owned) {
  g_autoptr(QfsRead) read = owned;
  QfsPeer *peer = &c->peer[read->node];
  QfsNodeSet bit = QFS_NODE_BIT(read->node);
  gint64 now_us = c->env->now_us(c->env);
  peer->unread_since_us = 0;
  if (read->status == QFS_OK)
    note_read(peer, now_us - read->asked_us, now_us);
  QfsAsk *ask = find_ask(c, read->ask);
  if (ask == NULL || (ask->open & bit) == 0) {
    note_failure(c, read);
    return;
  }
  ask->open &= ~bit;
  ask->done_with |= bit;
  if (read->status == QFS_OK && !counts(c, ask, read))
    qfs_read_fail(read, QFS_NO_QUORUM, NULL);
  if (read->status != QFS_OK && ask->need == 1 && ask->open != 0)
    note_failure(c, read);
  else
    deliver(c, ask, read);
}

void qfs_reads_peer_lost(QfsCoordinator *c, QfsPeer *peer) {
  peer->unread_since_us = 0;
  QfsNodeSet bit = QFS_NODE_BIT(peer->index);
  for (GList *link = c->asks.head; link != NULL; link = link->next) {
    QfsAsk *ask = link->data;
    if ((ask->open & bit) == 0)
      continue;
    ask->open &= ~bit;
    ask->done_with |= bit;
    ask->more_at_us = c->env->now_us(c->env);
    qfs_wake_at(c, ask->more_at_us);
  }
}

/* ---- time ---- */

/* Where links lose messages those that were asked are asked again. */
static void ask_again(QfsCoordinator *c, QfsAsk *ask, gint64 now_us) {
  gint64 pause_us = MIN((gint64)REPEAT_FIRST_US << MIN(ask->repeats, 6), REPEAT_MAX_US);
  if (now_us - ask->sent_us >= pause_us) {
    ask->repeats++;
    for (QfsNodeSet rest = ask->open; rest != 0; rest &= rest - 1)
      send_read(c, ask, (guint)__builtin_ctzll(rest) + 1, now_us);
  }
  ask->more_at_us = ask->sent_us + pause_us;
}

static void ask_more(QfsCoordinator *c, QfsAsk *ask, gint64 now_us) {
  if (now_us >= ask->end_us) {
    deliver_failure(c, ask);
    return;
  }
  guint open = qfs_set_size(ask->open);
  for (QfsNodeSet rest = ask->open; rest != 0; rest &= rest - 1)
    note_late(&c->peer[__builtin_ctzll(rest) + 1], now_us - ask->sent_us, now_us);
  guint sent = ask_nodes(c, ask, answerers(c, ask) & ~qfs_peers_mute(c), ask->need, now_us);
  if (open + sent < ask->need) {
    deliver_failure(c, ask);
    return;
  }
  c->stat.hedged += MIN(sent, open);
  if (sent > 0)
    ask->more_at_us = now_us + ask->late_us;
  else if (c->env->lossy)
    ask_again(c, ask, now_us);
  else
    ask->more_at_us = ask->end_us;
  ask->more_at_us = MIN(MAX(ask->more_at_us, now_us + 1), ask->end_us);
}

static QfsAsk *first_due(QfsCoordinator *c, gint64 now_us) {
  gint64 next_us = G_MAXINT64;
  for (GList *link = c->asks.head; link != NULL; link = link->next) {
    QfsAsk *ask = link->data;
    if (ask->more_at_us <= now_us)
      return ask;
    next_us = MIN(next_us, ask->more_at_us);
  }
  if (next_us != G_MAXINT64)
    qfs_wake_at(c, next_us);
  return NULL;
}

void qfs_reads_tick(QfsCoordinator *c, gint64 now_us) {
  for (QfsAsk *ask = first_due(c, now_us); ask != NULL; ask = first_due(c, now_us))
    ask_more(c, ask, now_us);
  /* While there are reads the timer stays set, so that a read need not set it. */
  if (c->reads_started != c->reads_ticked)
    qfs_wake_at(c, now_us + LATE_US);
  c->reads_ticked = c->reads_started;
}

void qfs_reads_clear(QfsCoordinator *c) {
  while (c->asks.head != NULL) {
    QfsAsk *ask = c->asks.head->data;
    g_queue_unlink(&c->asks, &ask->link);
    ask_free(ask);
  }
}
