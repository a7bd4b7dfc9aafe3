/* coordinator.c - life of the coordinator, its events, and what it knows of each node. */
#include "cluster/private.h"

#include <string.h>

#define RETRY_FIRST_US (1000 * 1000)
#define RETRY_MAX_US (30 * 1000 * 1000)
#define SUSPECT_RETRY_US (500 * 1000)
#define SUSPECT_DOUBLINGS_MAX 3

void qfs_log(QfsCoordinator *c, GLogLevelFlags level, const char *format, ...) {
  va_list args;
  va_start(args, format);
  g_autofree char *line = g_strdup_vprintf(format, args);
  va_end(args);
  c->env->log(c->env, level, line);
}

void qfs_wake_at(QfsCoordinator *c, gint64 at_us) {
  if (c->wake_us != 0 && c->wake_us <= at_us)
    return;
  c->wake_us = at_us;
  c->env->wake_at(c->env, at_us);
}

guint64 qfs_next_seq(QfsCoordinator *c) {
  /* Of the view, which a majority has: a greater epoch that somebody promised may be another coordinator's. */
  c->last_seq = QFS_SEQ(c->view.epoch, ++c->counter);
  return c->last_seq;
}

QfsCoordinator *qfs_coordinator_new(QfsEnv *env, const QfsCoordinatorConfig *config) {
  g_assert(config->nodes >= 1 && config->nodes <= QFS_NODES_MAX);
  g_assert(config->replicas >= 1 && config->replicas <= config->nodes);
  QfsCoordinator *c = g_new0(QfsCoordinator, 1);
  c->env = env;
  c->config = *config;
  c->n_peers = config->nodes;
  for (guint i = 1; i <= QFS_NODES_MAX; i++)
    c->peer[i].index = i;
  c->rpcs = g_hash_table_new(g_int64_hash, g_int64_equal);
  c->keys = g_hash_table_new(g_str_hash, g_str_equal);
  qfs_recent_init(c);
  c->creating = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
  c->removing = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
  c->intents = g_ptr_array_new();
  c->objects = g_hash_table_new(qfs_object_id_hash, qfs_object_id_equal);
  c->given_up = g_hash_table_new_full(qfs_object_id_hash, qfs_object_id_equal, g_free, g_free);
  c->staged = g_hash_table_new_full(qfs_object_id_hash, qfs_object_id_equal, g_free, NULL);
  c->next_object = env->random(env);
  return c;
}

void qfs_coordinator_start(QfsCoordinator *c) {
  for (guint i = 1; i <= c->n_peers; i++) {
    c->peer[i].wanted = TRUE;
    qfs_peer_start(c, &c->peer[i]);
  }
  qfs_wake_at(c, c->env->now_us(c->env) + (gint64)c->config.timeout_ms * 1000);
  qfs_after_event(c);
}

void qfs_coordinator_free(QfsCoordinator *c) {
  if (c == NULL)
    return;
  c->closing = TRUE;
  for (GList *link = c->ops.head; link != NULL; link = link->next) {
    QfsOp *op = link->data;
    if (op->request != NULL) {
      QfsRequest *request = op->request;
      op->request = NULL;
      request->status = QFS_UNKNOWN;
      if (op->internal != NULL)
        qfs_request_free(request); /* the coordinator's own */
      else
        c->env->complete(c->env, request);
    }
  }
  /* What is still linked together (ops, flights, callbacks) dies with the process: it is owed to
   * nodes that will not answer any more. Only the containers are freed here. */
  g_hash_table_unref(c->rpcs);
  g_hash_table_unref(c->keys);
  qfs_recent_clear(c);
  g_hash_table_unref(c->creating);
  g_hash_table_unref(c->removing);
  g_hash_table_unref(c->objects);
  g_ptr_array_unref(c->intents);
  g_hash_table_unref(c->given_up);
  g_hash_table_unref(c->staged);
  qfs_reads_clear(c);
  qfs_mends_clear(c);
  qfs_scrub_clear(c);
  g_queue_clear_full(&c->mend_waiters, g_free);
  for (guint i = 1; i <= QFS_NODES_MAX; i++) {
    g_free(c->peer[i].reason);
    g_free(c->peer[i].aside);
    g_free(c->peer[i].aside_wanted);
  }
  g_free(c->failure);
  g_free(c);
}

void qfs_after_event(QfsCoordinator *c) {
  for (guint round = 0; c->view_dirty && round < 16; round++) {
    c->view_dirty = FALSE;
    qfs_recovery_consider(c);
    qfs_view_evaluate(c);
    qfs_catchup_consider(c);
    qfs_resize_consider(c);
    qfs_mover_consider(c);
    qfs_tidy_consider(c);
    if (c->joiner_lost && c->view_stable) { /* else the next view looks at all flights */
      c->joiner_lost = FALSE;
      qfs_flights_dispatch(c);
    }
  }
  if (c->purge != NULL || c->purge_forced || c->purge_again)
    qfs_purge_consider(c);
  qfs_mends_consider(c);
  if (c->scrub != NULL || c->scrub_state.forced)
    qfs_scrub_consider(c);
  if (c->reclaim != NULL || c->reclaim_wanted || c->reclaim_proving)
    qfs_reclaim_consider(c);
  if (!g_queue_is_empty(&c->stalled))
    qfs_ops_resume(c);
  if (!g_queue_is_empty(&c->node_ops))
    qfs_op_node_poll(c);
  if (c->view_dirty)
    qfs_wake_at(c, c->env->now_us(c->env));
}

/* ---- events ---- */

void qfs_coordinator_submit(QfsCoordinator *c, QfsRequest *request) {
  switch (request->type) {
  case QFS_REQUEST_GET:
    qfs_op_get(c, request);
    break;
  case QFS_REQUEST_READ:
    qfs_op_read(c, request);
    break;
  case QFS_REQUEST_SEEK:
    qfs_op_seek(c, request);
    break;
  case QFS_REQUEST_LIST:
    qfs_op_list(c, request);
    break;
  case QFS_REQUEST_WRITE:
  case QFS_REQUEST_CREATE:
  case QFS_REQUEST_SETATTR:
    qfs_op_write(c, request);
    break;
  case QFS_REQUEST_REMOVE:
    qfs_op_remove(c, request);
    break;
  case QFS_REQUEST_RENAME:
    qfs_op_rename(c, request);
    break;
  case QFS_REQUEST_LINK:
    qfs_op_link(c, request);
    break;
  case QFS_REQUEST_SYNC:
    qfs_op_sync(c, request);
    break;
  case QFS_REQUEST_NODE:
    qfs_op_node(c, request);
    break;
  case QFS_REQUEST_GC:
    qfs_op_gc(c, request);
    break;
  case QFS_REQUEST_SCRUB:
    qfs_op_scrub(c, request);
    break;
  }
  qfs_after_event(c);
}

void qfs_coordinator_receive(QfsCoordinator *c, QfsMessage *reply) {
  qfs_rpc_receive(c, reply);
  qfs_after_event(c);
}

void qfs_coordinator_read_done(QfsCoordinator *c, QfsRead *read) {
  qfs_reads_receive(c, read);
  qfs_after_event(c);
}

void qfs_coordinator_tick(QfsCoordinator *c) {
  gint64 now_us = c->env->now_us(c->env);
  c->wake_us = 0;
  qfs_rpc_tick(c, now_us);
  qfs_reads_tick(c, now_us);
  qfs_flights_tick(c, now_us);
  qfs_settle_tick(c, now_us);
  qfs_ops_tick(c, now_us);
  qfs_recovery_consider(c);
  qfs_catchup_consider(c);
  qfs_mover_consider(c);
  qfs_tidy_consider(c);
  qfs_purge_consider(c);
  qfs_scrub_consider(c);
  qfs_reclaim_consider(c);
  qfs_after_event(c);
}

void qfs_coordinator_node_gone(QfsCoordinator *c, guint node, guint64 incarnation,
                               const char *reason) {
  QfsPeer *peer = &c->peer[node];
  if (incarnation != peer->process)
    return;
  gboolean expected = peer->stopping;
  peer->stopping = FALSE;
  peer->process = 0;
  if (reason != NULL && !expected)
    qfs_peer_fail(c, peer, reason, FALSE);
  if (peer->state != PEER_CLOSED)
    qfs_peer_lost(c, peer, PEER_CLOSED);
  if (peer->wanted && peer->reason == NULL)
    peer->retry_at_us = c->env->now_us(c->env);
  if (peer->wanted && peer->retry_at_us != 0)
    qfs_wake_at(c, peer->retry_at_us);
  c->view_dirty = TRUE;
  qfs_after_event(c);
}

void qfs_coordinator_shutdown(QfsCoordinator *c) {
  c->closing = TRUE;
  qfs_settle_now(c);
  qfs_after_event(c);
}

/* ---- peers ---- */

/* Of a node that is no longer part of the view only what is not settled counts. */
static gboolean is_stranger(const QfsCoordinator *c, guint node) {
  QfsNodeSet sets = qfs_view_all(c) | c->view.in_sync;
  for (guint i = 0; i < c->view.n_unsettled; i++)
    sets |= c->view.unsettled[i].nodes;
  return !qfs_set_has(sets, node);
}

static void want_aside(QfsPeer *peer, const char *reason) {
  g_free(peer->aside_wanted);
  peer->aside_wanted = g_strdup(reason);
}

void qfs_peer_note_aside(QfsCoordinator *c, QfsPeer *peer, const QfsMessage *reply) {
  g_free(peer->aside);
  peer->aside = g_strdup(reply->aside);
  if (!reply->more)
    return;
  g_clear_pointer(&peer->aside_wanted, g_free); /* it is empty now */
  if (peer->aside_process != peer->process)
    c->stat.set_aside++;
  peer->aside_process = peer->process;
}

void qfs_peer_judge(QfsCoordinator *c, QfsPeer *peer) {
  if (is_stranger(c, peer->index)) {
    peer->rebuild = TRUE;
    peer->filled = peer->restored = FALSE;
    return;
  }
  gboolean is_damage = FALSE;
  const char *objection =
      peer->evicted ? "it was evicted"
                    : qfs_view_objection(&c->view, &peer->meta, c->settled, &is_damage);
  if (!peer->damaged && !peer->evicted && qfs_view_is_filled(&c->view, &peer->meta) &&
      peer->meta.generation >= c->view.generation[peer->index - 1]) {
    peer->rebuild = peer->filled = TRUE; /* goes on where it was */
    return;
  }
  peer->filled = FALSE;
  if (objection == NULL || peer->rebuild)
    return;
  peer->rebuild = peer->restored = TRUE;
  if (is_damage)
    want_aside(peer, objection);
  if (c->view.epoch != 0)
    qfs_log(c, G_LOG_LEVEL_WARNING, "node %u: its replica can't be used, %s: it is rebuilt from its peers",
            peer->index, objection);
}

static void hello_done(QfsCoordinator *c, QfsPeer *peer, QfsMessage *reply, gpointer data) {
  if (reply == NULL)
    return;
  if (reply->status != QFS_OK || reply->meta == NULL) {
    qfs_peer_fail(c, peer, reply->reason ? reply->reason : "did not open", FALSE);
    return;
  }
  gint64 took_us = peer->greeted_us != 0 ? c->env->now_us(c->env) - peer->greeted_us : 0;
  peer->too_slow = qfs_rpc_is_too_slow(c, peer, took_us);
  if (peer->too_slow) { /* it would not get far: it is asked again after a while */
    peer->suspicions++;
    peer->rpc_us = took_us;
    qfs_peer_lost(c, peer, PEER_SUSPECT);
    return;
  }
  peer->meta = *reply->meta;
  qfs_peer_note_aside(c, peer, reply);
  if (!peer->meta.has_view) /* it is new: there is nothing to set aside */
    g_clear_pointer(&peer->aside_wanted, g_free);
  peer->stats = reply->stats;
  if (peer->meta.has_view && c->config.store[0] != '\0' &&
      strcmp(peer->meta.view.store, c->config.store) != 0) {
    qfs_peer_fail(c, peer, "belongs to another store", FALSE);
    return;
  }
  c->epoch_seen = MAX(c->epoch_seen, peer->meta.promised_epoch);
  g_clear_pointer(&peer->reason, g_free);
  peer->retry_at_us = 0;
  peer->state = PEER_KNOWN;
  if (c->view_known && !c->serving && peer->meta.has_view &&
      qfs_set_has(c->view.in_sync, peer->index)) { /* a member that came late */
    if (!qfs_recovery_unites(c)) /* there it may be too new for who begins: unite.c */
      c->settled = MAX(c->settled, peer->meta.settled);
    c->last_seq = MAX(c->last_seq, peer->meta.settled);
    c->clock.last = MAX(c->clock.last, peer->meta.ceiling);
  }
  if (c->view_known)
    qfs_peer_judge(c, peer);
  c->view_dirty = TRUE;
}

void qfs_peer_greet(QfsCoordinator *c, QfsPeer *peer) {
  if (peer->state != PEER_OPENING)
    peer->state = PEER_OPENING;
  qfs_rpc_drop_peer(c, peer);
  peer->latest_us = 0;
  peer->incarnation = ++c->next_incarnation;
  peer->greeted_us = c->env->now_us(c->env);
  qfs_rpc_send(c, peer, qfs_message_new(QFS_MESSAGE_HELLO, peer->index), hello_done, NULL);
}

void qfs_peer_start(QfsCoordinator *c, QfsPeer *peer) {
  g_assert(peer->state == PEER_CLOSED && !peer->stopping);
  peer->state = PEER_OPENING;
  peer->crashed = FALSE;
  peer->bad_rows = peer->unreachable_rows = 0;
  peer->catchup_at_us = 0;
  peer->greeted_us = 0;
  peer->too_slow = FALSE;
  peer->latest_us = 0;
  qfs_rpc_drop_peer(c, peer); /* what was sent while it was closed */
  peer->incarnation = peer->process = ++c->next_incarnation;
  peer->opening_since_us = c->env->now_us(c->env);
  c->env->node_start(c->env, peer->index, peer->incarnation);
  qfs_rpc_send(c, peer, qfs_message_new(QFS_MESSAGE_HELLO, peer->index), hello_done, NULL);
  qfs_wake_at(c, peer->opening_since_us + (gint64)c->config.timeout_ms * 1000);
}

void qfs_peer_lost(QfsCoordinator *c, QfsPeer *peer, QfsPeerState state) {
  qfs_catchup_stop(c, peer);
  c->joiner_lost = c->joiner_lost || peer->state == PEER_JOINING;
  peer->state = state;
  c->proposal_sent &= ~QFS_NODE_BIT(peer->index); /* what was sent went to a life that ended */
  if (state == PEER_SUSPECT) {
    guint doublings = MIN(MAX(peer->suspicions, 1) - 1, SUSPECT_DOUBLINGS_MAX);
    peer->retry_at_us = c->env->now_us(c->env) + ((gint64)SUSPECT_RETRY_US << doublings);
    qfs_wake_at(c, peer->retry_at_us);
  }
  qfs_rpc_drop_peer(c, peer);
  qfs_reads_peer_lost(c, peer);
  qfs_flights_forget_peer(c, peer, TRUE);
  qfs_recovery_peer_changed(c, peer);
  c->view_dirty = TRUE;
}

void qfs_peer_fail(QfsCoordinator *c, QfsPeer *peer, const char *reason, gboolean rebuild) {
  if (peer->state == PEER_CLOSED && peer->reason != NULL)
    return;
  char *copy = g_strdup(reason);
  if (rebuild)
    want_aside(peer, reason);
  g_free(peer->reason);
  peer->reason = copy;
  peer->rebuild = peer->rebuild || rebuild;
  peer->damaged = peer->damaged || rebuild;
  peer->restored = peer->restored || rebuild;
  qfs_log(c, G_LOG_LEVEL_WARNING, "node %u failed: %s", peer->index, peer->reason);
  gint64 pause = MIN((gint64)RETRY_FIRST_US << MIN(peer->retries, 5), RETRY_MAX_US);
  peer->retries++;
  peer->retry_at_us = c->env->now_us(c->env) + pause;
  qfs_wake_at(c, peer->retry_at_us);
  if (peer->state != PEER_CLOSED)
    qfs_peer_lost(c, peer, PEER_CLOSED);
  if (peer->process != 0 && !peer->stopping) {
    peer->stopping = TRUE;
    c->env->node_stop(c->env, peer->index);
  }
}

gboolean qfs_peer_reply_ok(QfsCoordinator *c, QfsPeer *peer, const QfsMessage *reply) {
  switch (reply->status) {
  case QFS_OK:
    return TRUE;
  case QFS_STALE: /* it promised a newer epoch: propose one above that, unless ours is above it by now */
    if (reply->epoch > (c->view_stable ? c->view.epoch : c->proposal.epoch)) {
      c->epoch_seen = MAX(c->epoch_seen, reply->epoch);
      c->view_stale = TRUE;
      c->view_dirty = TRUE;
    }
    return FALSE;
  case QFS_NO_SPACE:
    return FALSE;
  default:
    if (reply->bad != NULL)
      qfs_mend_bad_row(c, peer, reply->bad, TRUE, reply->reason);
    else
      qfs_peer_fail(c, peer, reply->reason ? reply->reason : "storage failed", reply->corrupt);
    return FALSE;
  }
}

/* ---- questions ---- */

gboolean qfs_coordinator_is_serving(const QfsCoordinator *c) { return c->serving; }

gboolean qfs_coordinator_is_stuck(const QfsCoordinator *c) {
  return !c->serving && c->recovery == NULL && qfs_peers_in(c, PEER_OPENING) == 0;
}

gboolean qfs_coordinator_is_quiet(const QfsCoordinator *c) {
  if (!c->serving || c->recovery != NULL || !c->view_stable || !qfs_is_settled(c))
    return FALSE;
  return c->settled_told >= c->settled && !c->settling && !qfs_garbage_waits(c) &&
         c->purge == NULL && !c->purge_again && (c->closing || !qfs_reclaim_is_due(c)) &&
         qfs_peers_in(c, PEER_JOINING) == 0 &&
         (qfs_peers_in(c, PEER_KNOWN) & qfs_view_all(c)) == 0 && !c->view_dirty &&
         (c->closing || (!qfs_mover_is_due(c) && !qfs_tidy_is_due(c) && qfs_resize_is_over(c)));
}

const char *qfs_coordinator_failure(const QfsCoordinator *c) { return c->failure; }

QfsNodeSet qfs_coordinator_holders(const QfsCoordinator *c, const char *key) {
  return qfs_holders(c, qfs_key_hash(key));
}

QfsNodeSet qfs_coordinator_chunk_holders(const QfsCoordinator *c, QfsObjectId object) {
  return qfs_holders(c, object.placement);
}

QfsNodeSet qfs_coordinator_owners(const QfsCoordinator *c, const char *key) {
  return qfs_placement_holders(qfs_key_hash(key), qfs_view_all(c), qfs_replicas(c));
}

gboolean qfs_coordinator_is_blocked(const QfsCoordinator *c, const char *key) {
  return qfs_is_blocked(c, qfs_key_hash(key));
}
