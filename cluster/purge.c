/* purge.c - collecting tombstones: a deleted key is forgotten when nothing older of it can be anywhere.
 *
 * A run takes place only while every node is in sync and nothing moves (qfs_purge_reason): whoever is away may
 * hold an older version, and would bring it back. Not so who was evicted: it is wiped before it returns. It looks at tombstones that all holders have on stable
 * storage and all nodes know to be so (c->settled_told): a file that was copied before the delete then shows a
 * smaller mark and is rebuilt, never merged. Per batch, at every node: (1) what earlier operations wrote of
 * these keys goes, durably: leftovers of a time as stand-in; (2) the tombstones go. If (2) does not reach
 * every node nothing is lost: a tombstone that stayed gives way to whatever comes later (node.c), and the next
 * run finds it. Any change of the view ends the run; nodes refuse its
 * requests from then on (they are of an older epoch).
 *
 * A late copy of a request that wrote an older version would bring the key back, too. So only tombstones of earlier
 * epochs than the run's are collected, and a run that meets younger ones asks for a new epoch and begins
 * again: nodes refuse what was sent before it.
 */
#include "cluster/private.h"

#define RECORDS_LIMIT 256

struct QfsPurge {
  guint64 id;
  guint64 epoch;           /* of the view that it is for */
  guint64 up_to;           /* operations to look at */
  gint64 deleted_before_ns;
  gboolean forced;
  gboolean met_younger;    /* tombstones of the run's own epoch */
  QfsNodeSet sources;      /* still to be scanned */
  guint source;            /* 0: the next one is to be taken */
  guint64 at_seq;
  char *at_key;
  gboolean more;
  GPtrArray *batch;        /* tombstones being removed */
  guint64 last_seq;        /* no later operation may have touched them */
  guint waiting;           /* answers */
  guint64 removed;
};

static void purge_step(QfsCoordinator *c);

void qfs_purge_stop(QfsCoordinator *c) {
  QfsPurge *p = c->purge;
  if (p == NULL)
    return;
  c->purge = NULL;
  g_free(p->at_key);
  g_clear_pointer(&p->batch, g_ptr_array_unref);
  g_free(p);
}

/* ---- when ---- */

static gboolean intents_are_left(const QfsCoordinator *c) {
  return c->intents_leaving > 0 || qfs_garbage_has_intents(c);
}

typedef enum { WAIT_NOTHING, WAIT_START, WAIT_NODE, WAIT_QUORUM, WAIT_MOVE, WAIT_RENAMES, WAIT_MENDS } Wait;

static QfsNodeSet not_in_sync(const QfsCoordinator *c) {
  return qfs_view_all(c) & ~(c->view.in_sync & qfs_peers_in(c, PEER_TRUSTED)) & ~qfs_evicted_away(c);
}

static Wait waits_for(const QfsCoordinator *c) {
  if (!c->serving || c->recovery != NULL)
    return WAIT_START;
  if (not_in_sync(c) != 0)
    return WAIT_NODE;
  if (!c->view_stable || !c->quorum || c->blocked)
    return WAIT_QUORUM;
  if (c->view.base != c->view.in_sync || c->mover != NULL || qfs_resize_is_wanted(c) ||
      qfs_tidy_is_due(c) || c->view.former_nodes != 0 || c->n_peers > qfs_view_nodes(c))
    return WAIT_MOVE; /* nodes above N have rows until they are removed */
  if (qfs_mends_records(c)) /* a run meets the bad row, and ends; and while one is under way nothing is mended */
    return WAIT_MENDS;
  return intents_are_left(c) ? WAIT_RENAMES : WAIT_NOTHING;
}

char *qfs_purge_reason(const QfsCoordinator *c) {
  switch (waits_for(c)) {
  case WAIT_NOTHING:
    return NULL;
  case WAIT_START:
    return g_strdup("the end of the start");
  case WAIT_NODE:
    return g_strdup_printf("node %u, which is not in sync",
                           (guint)__builtin_ctzll(not_in_sync(c)) + 1);
  case WAIT_QUORUM:
    return g_strdup("a quorum");
  case WAIT_MOVE:
    return g_strdup("data on the move");
  case WAIT_RENAMES:
    return g_strdup("the end of renames");
  case WAIT_MENDS:
    return g_strdup("bad rows to be mended");
  }
  g_assert_not_reached();
}

gboolean qfs_purge_may_run(const QfsCoordinator *c) {
  return !c->closing && waits_for(c) == WAIT_NOTHING;
}

static gboolean anything_to_do(const QfsCoordinator *c) {
  for (guint i = 1; i <= c->n_peers; i++)
    if (qfs_set_has(c->view.in_sync, i) && c->peer[i].stats.tombstones > 0)
      return TRUE;
  return FALSE;
}

/* ---- requests ---- */

static QfsPurge *current(QfsCoordinator *c, gpointer data) {
  g_autofree guint64 *id = data;
  return c->purge != NULL && c->purge->id == *id ? c->purge : NULL;
}

static gpointer ticket(const QfsPurge *p) { return g_memdup2(&p->id, sizeof p->id); }

/* FALSE: the run has ended; a later one begins anew. */
static gboolean usable(QfsCoordinator *c, QfsPeer *peer, QfsMessage *reply) {
  guint64 id = c->purge->id;
  if (reply != NULL && qfs_peer_reply_ok(c, peer, reply))
    return c->purge != NULL && c->purge->id == id;
  qfs_purge_stop(c);
  return FALSE;
}

static void to_all(QfsCoordinator *c, QfsPurge *p, QfsMessage *message, QfsRpcDone done) {
  p->waiting = qfs_set_size(c->view.in_sync);
  for (guint i = 1; i <= c->n_peers; i++)
    if (qfs_set_has(c->view.in_sync, i))
      qfs_rpc_send(c, &c->peer[i], qfs_message_copy(message, i), done, ticket(p));
  qfs_message_free(message);
}

static void removed(QfsCoordinator *c, QfsPeer *peer, QfsMessage *reply, gpointer data) {
  QfsPurge *p = current(c, data);
  if (p == NULL || !usable(c, peer, reply) || --p->waiting > 0)
    return;
  p->removed += p->batch->len;
  c->stat.tombstones_collected += p->batch->len;
  g_clear_pointer(&p->batch, g_ptr_array_unref);
  purge_step(c);
}

static void older_removed(QfsCoordinator *c, QfsPeer *peer, QfsMessage *reply, gpointer data) {
  QfsPurge *p = current(c, data);
  if (p == NULL || !usable(c, peer, reply) || --p->waiting > 0)
    return;
  QfsMessage *message = qfs_message_new(QFS_MESSAGE_PURGE, 0);
  message->of_epoch = TRUE;
  message->records = g_ptr_array_ref(p->batch);
  message->after_seq = p->last_seq;
  message->force = TRUE;
  to_all(c, p, message, removed);
}

static void found(QfsCoordinator *c, QfsPeer *peer, QfsMessage *reply, gpointer data) {
  QfsPurge *p = current(c, data);
  if (p == NULL || !usable(c, peer, reply))
    return;
  guint n = reply->records != NULL ? reply->records->len : 0;
  p->batch = qfs_records_new();
  p->more = reply->more && n > 0;
  for (guint i = 0; i < n; i++) {
    QfsRecord *tombstone = reply->records->pdata[i];
    /* Later ones were made later, but for jumps of the clock: those wait with the others. */
    if (tombstone->seq > p->up_to || tombstone->attr.ctime_ns > p->deleted_before_ns) {
      p->more = FALSE;
      break;
    }
    p->at_seq = tombstone->seq;
    g_free(p->at_key);
    p->at_key = g_strdup(tombstone->key);
    if (QFS_SEQ_EPOCH(tombstone->seq) >= p->epoch) {
      p->met_younger = TRUE;
      continue;
    }
    /* At a holder it is the key's newest version; elsewhere it may be a leftover. A key in use may be about
     * to change. */
    if (qfs_set_has(qfs_holders(c, qfs_key_hash(tombstone->key)), peer->index) &&
        qfs_key_find(c, tombstone->key) == NULL)
      g_ptr_array_add(p->batch, qfs_record_ref(tombstone));
  }
  if (!p->more)
    p->source = 0;
  if (p->batch->len == 0) {
    g_clear_pointer(&p->batch, g_ptr_array_unref);
    purge_step(c);
    return;
  }
  QfsMessage *message = qfs_message_new(QFS_MESSAGE_PURGE, 0);
  message->of_epoch = TRUE;
  message->records = g_ptr_array_ref(p->batch);
  message->after_seq = p->last_seq = c->last_seq;
  message->durable = TRUE;
  to_all(c, p, message, older_removed);
}

static void purge_end(QfsCoordinator *c, QfsPurge *p) {
  if (p->met_younger) {
    c->purge_again = TRUE;
    c->purge_wants_epoch = TRUE;
    c->view_dirty = TRUE;
    qfs_purge_stop(c);
    return;
  }
  if (p->removed > 0)
    qfs_log(c, G_LOG_LEVEL_MESSAGE, "%" G_GUINT64_FORMAT " tombstones collected", p->removed);
  c->purge_last_ms = c->env->wall_ms(c->env);
  c->purge_last_removed = p->removed;
  if (p->forced)
    c->purge_forced = FALSE;
  qfs_purge_stop(c);
}

static void purge_step(QfsCoordinator *c) {
  QfsPurge *p = c->purge;
  if (p->epoch != c->view.epoch || !qfs_purge_may_run(c)) {
    qfs_purge_stop(c);
    return;
  }
  if (p->source == 0) {
    if (p->sources == 0) {
      purge_end(c, p);
      return;
    }
    p->source = (guint)__builtin_ctzll(p->sources) + 1;
    p->sources &= p->sources - 1;
    p->at_seq = 0;
    g_clear_pointer(&p->at_key, g_free);
  }
  QfsMessage *message = qfs_message_new(QFS_MESSAGE_SCAN_TOMBSTONES, p->source);
  message->after_seq = p->at_seq;
  message->key = g_strdup(p->at_key);
  message->limit = RECORDS_LIMIT;
  qfs_rpc_send(c, &c->peer[p->source], message, found, ticket(p));
}

static void purge_start(QfsCoordinator *c) {
  static guint64 ids; /* only compared for equality */
  c->purge_again = FALSE;
  QfsPurge *p = g_new0(QfsPurge, 1);
  p->id = ++ids;
  p->epoch = c->view.epoch;
  p->up_to = c->settled_told;
  p->forced = c->purge_forced;
  gint64 grace_ms = (gint64)c->config.tombstone_grace_s * 1000;
  p->deleted_before_ns =
      p->forced ? G_MAXINT64 : (c->env->wall_ms(c->env) - grace_ms) * 1000000;
  p->sources = c->view.in_sync;
  c->purge = p;
  purge_step(c);
}

void qfs_purge_consider(QfsCoordinator *c) {
  gint64 now_us = c->env->now_us(c->env);
  if (c->purge != NULL && (c->purge->epoch != c->view.epoch || !c->view_stable || c->closing))
    qfs_purge_stop(c);
  if (c->closing || (c->purge_again && !c->purge_wants_epoch && !qfs_purge_may_run(c)))
    c->purge_again = c->purge_wants_epoch = FALSE; /* later, by schedule */
  if (c->purge != NULL || c->closing)
    return;
  gboolean due = c->purge_at_us != 0 && now_us >= c->purge_at_us;
  if (c->purge_again && c->purge_wants_epoch)
    return; /* it is on its way */
  if (due || c->purge_at_us == 0) {
    c->purge_at_us = now_us + (gint64)c->config.purge_period_s * G_USEC_PER_SEC;
    qfs_wake_at(c, c->purge_at_us);
  }
  if (c->purge_forced) /* what was deleted before the command has to be settled first */
    due = c->settled_told >= c->purge_forced_seq;
  due = due || c->purge_again;
  if (due && (c->purge_forced || anything_to_do(c)) && qfs_purge_may_run(c))
    purge_start(c);
}

void qfs_op_gc(QfsCoordinator *c, QfsRequest *request) {
  c->purge_forced = TRUE;
  c->purge_forced_seq = c->last_seq;
  qfs_reclaim_want(c);
  c->reclaim_at_us = 0;
  c->reclaim_forced = TRUE;
  qfs_purge_stop(c); /* a run by schedule leaves what is young */
  qfs_settle_dirty(c);
  request->status = QFS_OK;
  c->env->complete(c->env, request);
}
