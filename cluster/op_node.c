/* op_node.c - NODE (up, down, crash, evict) and SYNC. */
#include "cluster/private.h"

/* ---- NODE ---- */

enum { BEGIN, SETTLING, STOPPING, OPENING, EVICTING };

static void no_step(QfsCoordinator *c, QfsOp *op) {}

static void node_wait(QfsCoordinator *c, QfsOp *op) {
  g_queue_push_tail(&c->node_ops, op);
  qfs_wake_at(c, op->deadline_us);
}

static void stop(QfsCoordinator *c, QfsPeer *peer, gboolean crash) {
  peer->wanted = FALSE;
  peer->crashed = crash;
  g_clear_pointer(&peer->reason, g_free);
  peer->retry_at_us = 0;
  if (peer->state != PEER_CLOSED)
    qfs_peer_lost(c, peer, PEER_CLOSED);
  if (peer->process != 0 && !peer->stopping) {
    peer->stopping = TRUE;
    c->env->node_stop(c->env, peer->index);
  }
}

/* FALSE: it was refused. */
static gboolean begin_evicting(QfsCoordinator *c, QfsOp *op, QfsPeer *peer) {
  QfsStatus status = qfs_evict(c, peer);
  if (status != QFS_OK) {
    qfs_op_finish(c, op, status);
    qfs_op_unref(c, op);
    return FALSE;
  }
  op->stage = EVICTING;
  stop(c, peer, FALSE);
  return TRUE;
}

static gboolean is_done(QfsCoordinator *c, const QfsOp *op, const QfsPeer *peer) {
  if (op->stage == EVICTING)
    return qfs_evict_is_done(c, peer);
  if (op->stage == STOPPING)
    return peer->process == 0;
  return peer->state != PEER_CLOSED && peer->state != PEER_OPENING && c->recovery == NULL &&
         c->view_stable && !c->view_dirty;
}

/* Nodes that answer and are not in sync yet. */
static QfsNodeSet nodes_returning(const QfsCoordinator *c) {
  return (qfs_peers_in(c, PEER_KNOWN) | qfs_peers_in(c, PEER_JOINING)) & ~qfs_evicted(c);
}

/* Writes would be refused without it, and not if it stayed until those who are on their way back are in sync. */
static gboolean is_needed(const QfsCoordinator *c, const QfsPeer *peer) {
  if (!c->serving || c->blocked || peer->state != PEER_TRUSTED || nodes_returning(c) == 0)
    return FALSE;
  QfsNodeSet others = ~QFS_NODE_BIT(peer->index);
  return !qfs_view_has_majority(c, qfs_peers_alive(c) & others) ||
         !qfs_view_allows(c, c->view.in_sync & qfs_peers_in(c, PEER_TRUSTED) & others);
}

/* Of a node that is to go down: may it? Else *out_refused tells whether it stays. */
static gboolean may_stop(QfsCoordinator *c, const QfsOp *op, const QfsPeer *peer, gboolean *out_refused) {
  *out_refused = FALSE;
  gint64 now_us = c->env->now_us(c->env), patience_us = (gint64)c->config.timeout_ms * 1000;
  if (is_needed(c, peer)) {
    *out_refused = now_us >= op->deadline_us - patience_us;
    if (*out_refused)
      qfs_log(c, G_LOG_LEVEL_WARNING,
              "node %u stays up: without it writes would be refused until nodes are back in sync that are catching up "
              "('crash' closes it all the same)",
              peer->index);
    else
      qfs_wake_at(c, op->deadline_us - patience_us);
    return FALSE;
  }
  gboolean hopeless = !c->quorum || peer->state != PEER_TRUSTED ||
                      now_us > op->deadline_us - QFS_NODE_PATIENCE * patience_us + patience_us;
  if (qfs_is_settled(c) || hopeless)
    return TRUE;
  if (!c->settling)
    qfs_settle_now(c);
  return FALSE;
}

/* TRUE: the op is done and was answered. */
static gboolean node_step(QfsCoordinator *c, QfsOp *op) {
  QfsRequest *request = op->request;
  if (request == NULL) {
    qfs_op_unref(c, op);
    return TRUE;
  }
  QfsPeer *peer = &c->peer[request->node];
  if (peer->retired || peer->index > c->n_peers) { /* it has left the store */
    qfs_op_finish(c, op, QFS_INVALID);
    qfs_op_unref(c, op);
    return TRUE;
  }
  if (op->stage == BEGIN) {
    if (request->action == QFS_NODE_UP) {
      peer->wanted = TRUE;
      op->stage = OPENING;
    } else if (request->action == QFS_NODE_EVICT) {
      if (!begin_evicting(c, op, peer))
        return TRUE;
    } else {
      gboolean settle = request->action == QFS_NODE_DOWN && peer->state == PEER_TRUSTED;
      op->stage = settle ? SETTLING : STOPPING;
      if (settle)
        qfs_settle_now(c);
      else
        stop(c, peer, request->action == QFS_NODE_CRASH);
    }
  }
  if (op->stage == SETTLING) {
    gboolean refused;
    if (!may_stop(c, op, peer, &refused)) {
      if (!refused)
        return FALSE;
      qfs_op_finish(c, op, QFS_BUSY);
      qfs_op_unref(c, op);
      return TRUE;
    }
    op->stage = STOPPING;
    stop(c, peer, FALSE);
  }
  if (op->stage == OPENING && peer->state == PEER_CLOSED && !peer->stopping) {
    if (op->tries++ > 0) { /* it was started for us and failed */
      qfs_op_finish(c, op, QFS_IO);
      qfs_op_unref(c, op);
      return TRUE;
    }
    g_clear_pointer(&peer->reason, g_free);
    peer->retry_at_us = 0;
    peer->retries = 0;
    qfs_peer_start(c, peer);
    return FALSE;
  }
  if (!is_done(c, op, peer))
    return FALSE;
  qfs_op_finish(c, op, QFS_OK);
  qfs_op_unref(c, op);
  return TRUE;
}

void qfs_op_node(QfsCoordinator *c, QfsRequest *request) {
  QfsOp *op = qfs_op_new(c, request, no_step);
  op->sent = TRUE; /* nothing to unwind */
  if (request->node < 1 || request->node > c->n_peers) {
    qfs_op_finish(c, op, QFS_INVALID);
    return;
  }
  qfs_op_ref(op);
  if (!node_step(c, op))
    node_wait(c, op);
}

void qfs_op_node_poll(QfsCoordinator *c) {
  GQueue batch = c->node_ops;
  g_queue_init(&c->node_ops);
  for (QfsOp *op = g_queue_pop_head(&batch); op != NULL; op = g_queue_pop_head(&batch))
    if (!node_step(c, op))
      g_queue_push_tail(&c->node_ops, op);
}

/* ---- SYNC: fsync(2) ---- */

/* What was acknowledged but is not at all holders yet, as of the start. */
typedef struct {
  QfsNodeSet holders, acked;
} Lagging;

typedef struct {
  QfsOp *op;
  guint n_hashes;
  guint64 hashes[2];
  gboolean everywhere;
  GArray *lagging;         /* Lagging */
  QfsNodeSet synced, waiting;
  guint64 epoch;           /* the barriers are for the holders of this one */
} Sync;

static void sync_step(QfsCoordinator *c, QfsOp *op);

static gboolean sync_enough(QfsCoordinator *c, const Sync *sync) {
  guint quorum = qfs_write_quorum(qfs_replicas(c));
  for (guint i = 0; i < sync->lagging->len; i++) {
    const Lagging *lag = &g_array_index(sync->lagging, Lagging, i);
    if (qfs_set_size(lag->holders & lag->acked & sync->synced) < quorum)
      return FALSE;
  }
  if (sync->everywhere) {
    /* W of any holders that a key can have within S. */
    guint holders = MIN(qfs_replicas(c), qfs_set_size(c->view.in_sync));
    guint missing = qfs_set_size(c->view.in_sync & ~sync->synced);
    return missing + quorum <= holders;
  }
  for (guint i = 0; i < sync->n_hashes; i++)
    if (qfs_set_size(qfs_holders(c, sync->hashes[i]) & sync->synced) < quorum)
      return FALSE;
  return TRUE;
}

static void sync_reply(QfsCoordinator *c, QfsPeer *peer, QfsMessage *reply, gpointer data) {
  Sync *sync = data;
  sync->waiting &= ~QFS_NODE_BIT(peer->index);
  if (reply != NULL && qfs_peer_reply_ok(c, peer, reply))
    sync->synced |= QFS_NODE_BIT(peer->index);
  if (sync->op->request != NULL && c->view_stable && sync->epoch == c->view.epoch &&
      sync_enough(c, sync))
    qfs_op_finish(c, sync->op, QFS_OK);
  if (sync->waiting != 0)
    return;
  if (sync->op->request != NULL)
    qfs_op_park(c, sync->op); /* not enough: again, until the deadline */
  qfs_op_unref(c, sync->op);
  g_array_unref(sync->lagging);
  g_free(sync);
}

static gboolean concerns(const Sync *sync, const QfsFlight *flight) {
  if (sync->everywhere)
    return TRUE;
  for (guint i = 0; i < flight->n_hashes; i++)
    for (guint j = 0; j < sync->n_hashes; j++)
      if (flight->hashes[i] == sync->hashes[j])
        return TRUE;
  return FALSE;
}

/* A barrier at a holder covers what it had applied before: for flights that are acknowledged and not
 * complete only those holders count that had acknowledged before the barrier was sent. */
static void note_lagging(QfsCoordinator *c, Sync *sync) {
  sync->lagging = g_array_new(FALSE, FALSE, sizeof(Lagging));
  for (GList *link = c->flights.head; link != NULL; link = link->next) {
    QfsFlight *flight = link->data;
    if (!flight->quorum || !concerns(sync, flight))
      continue;
    for (guint i = 0; i < flight->n_hashes; i++) {
      Lagging lag = {qfs_holders(c, flight->hashes[i]), flight->acked};
      g_array_append_val(sync->lagging, lag);
    }
  }
}

static void sync_send(QfsCoordinator *c, QfsOp *op, const QfsRecord *record) {
  Sync *sync = g_new0(Sync, 1);
  sync->everywhere = op->request->key == NULL;
  QfsNodeSet nodes = c->view.in_sync;
  if (!sync->everywhere) {
    sync->hashes[sync->n_hashes++] = qfs_key_hash(op->request->key);
    if (record != NULL && !qfs_object_is_none(record->object))
      sync->hashes[sync->n_hashes++] = record->object.placement;
    nodes = 0;
    for (guint i = 0; i < sync->n_hashes; i++)
      nodes |= qfs_holders(c, sync->hashes[i]);
  }
  nodes &= qfs_peers_in(c, PEER_TRUSTED);
  if (nodes == 0) {
    g_free(sync);
    qfs_op_finish(c, op, QFS_NO_QUORUM);
    return;
  }
  note_lagging(c, sync);
  sync->op = qfs_op_ref(op);
  sync->epoch = c->view.epoch;
  sync->waiting = nodes;
  for (; nodes != 0; nodes &= nodes - 1) {
    QfsPeer *peer = &c->peer[__builtin_ctzll(nodes) + 1];
    qfs_rpc_send(c, peer, qfs_message_new(QFS_MESSAGE_SYNC, peer->index), sync_reply, sync);
  }
}

static void sync_fetched(QfsCoordinator *c, QfsStatus status, QfsRecord *record, gpointer data) {
  QfsOp *op = data;
  if (op->request != NULL) {
    if (status == QFS_OK)
      sync_send(c, op, record);
    else
      qfs_op_finish(c, op, status);
  }
  qfs_op_unref(c, op);
}

static void sync_step(QfsCoordinator *c, QfsOp *op) {
  if (op->request == NULL || !qfs_op_may_write(c, op))
    return;
  const char *key = op->request->key;
  if (c->blocked && (key == NULL || qfs_is_blocked(c, qfs_key_hash(key))))
    qfs_op_finish(c, op, QFS_NO_QUORUM); /* what was acknowledged may be at nodes that are away */
  else if (key == NULL)
    sync_send(c, op, NULL);
  else
    qfs_fetch(c, op->request->key, sync_fetched, qfs_op_ref(op));
}

void qfs_op_sync(QfsCoordinator *c, QfsRequest *request) {
  QfsOp *op = qfs_op_new(c, request, sync_step);
  qfs_wake_at(c, op->deadline_us);
  sync_step(c, op);
}

typedef struct {
  QfsSyncDone done;
  gpointer data;
} Synced;

static void own_synced(QfsCoordinator *c, QfsOp *op, QfsStatus status) {
  g_autofree Synced *own = op->internal_data;
  own->done(c, status, own->data);
}

void qfs_sync(QfsCoordinator *c, const char *key, QfsSyncDone done, gpointer data) {
  QfsOp *op = qfs_op_new(c, qfs_request_new(QFS_REQUEST_SYNC, key, NULL, NULL), sync_step);
  Synced *own = g_new(Synced, 1);
  *own = (Synced){done, data};
  op->internal = own_synced;
  op->internal_data = own;
  qfs_wake_at(c, op->deadline_us);
  sync_step(c, op);
}
