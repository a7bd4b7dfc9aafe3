/* rpc.c - requests to nodes: pairing of replies, repetition on lossy links, suspicion of silent nodes. */
#include "cluster/private.h"

#define REPEAT_FIRST_US (100 * 1000)
#define REPEAT_MAX_US (800 * 1000)

static void rpc_free(QfsRpc *rpc) {
  qfs_message_free(rpc->message);
  g_slice_free(QfsRpc, rpc);
}

/* How often unanswered requests are looked at: for repetition, or for suspicion only. */
static gint64 tick_us(const QfsCoordinator *c) {
  return c->env->lossy ? 50 * 1000 : (gint64)c->config.timeout_ms * 100;
}

void qfs_rpc_send(QfsCoordinator *c, QfsPeer *peer, QfsMessage *message, QfsRpcDone done,
                  gpointer data) {
  gint64 now = c->env->now_us(c->env);
  message->node = peer->index;
  message->incarnation = peer->incarnation;
  /* The newest epoch ever proposed: a node that promised it must not refuse what is sent beside it. */
  message->nodes = c->config.nodes;
  message->replicas = c->config.replicas;
  message->epoch = c->epoch_seen;
  if (done != NULL) {
    QfsRpc *rpc = g_slice_new0(QfsRpc);
    rpc->cookie = message->cookie = ++c->next_cookie;
    rpc->node = peer->index;
    rpc->sent_us = rpc->first_us = now;
    rpc->tries = 1;
    rpc->message = c->env->lossy ? qfs_message_copy(message, peer->index) : NULL;
    rpc->done = done;
    rpc->data = data;
    g_hash_table_insert(c->rpcs, &rpc->cookie, rpc);
    if (peer->outstanding++ == 0)
      peer->silent_since_us = now;
    qfs_wake_at(c, now + tick_us(c));
  }
  c->env->send(c->env, message);
}

void qfs_rpc_receive(QfsCoordinator *c, QfsMessage *reply) {
  g_assert(reply->is_reply && reply->node >= 1 && reply->node <= c->config.nodes);
  QfsPeer *peer = &c->peer[reply->node];
  QfsRpc *rpc = g_hash_table_lookup(c->rpcs, &reply->cookie);
  if (rpc == NULL || reply->incarnation != peer->incarnation || rpc->node != reply->node) {
    qfs_message_free(reply); /* a repeated or outdated answer */
    return;
  }
  g_hash_table_steal(c->rpcs, &rpc->cookie);
  peer->outstanding--;
  peer->silent_since_us = peer->outstanding > 0 ? c->env->now_us(c->env) : 0;
  reply->repeated = rpc->tries > 1;
  rpc->done(c, peer, reply, rpc->data);
  qfs_message_free(reply);
  rpc_free(rpc);
}

static gint by_cookie(gconstpointer a, gconstpointer b) {
  guint64 x = (*(QfsRpc *const *)a)->cookie, y = (*(QfsRpc *const *)b)->cookie;
  return x < y ? -1 : x > y;
}

/* Pending requests in the order they were made: hash order must not leak into behaviour. */
static GPtrArray *sorted_rpcs(QfsCoordinator *c, guint node) {
  GPtrArray *list = g_ptr_array_new();
  GHashTableIter iter;
  gpointer value;
  g_hash_table_iter_init(&iter, c->rpcs);
  while (g_hash_table_iter_next(&iter, NULL, &value))
    if (node == 0 || ((QfsRpc *)value)->node == node)
      g_ptr_array_add(list, value);
  g_ptr_array_sort(list, by_cookie);
  return list;
}

void qfs_rpc_drop_peer(QfsCoordinator *c, QfsPeer *peer) {
  g_autoptr(GPtrArray) list = sorted_rpcs(c, peer->index);
  for (guint i = 0; i < list->len; i++)
    g_hash_table_steal(c->rpcs, &((QfsRpc *)list->pdata[i])->cookie);
  peer->outstanding = 0;
  peer->silent_since_us = 0;
  for (guint i = 0; i < list->len; i++) {
    QfsRpc *rpc = list->pdata[i];
    rpc->done(c, peer, NULL, rpc->data);
    rpc_free(rpc);
  }
}

static void repeat_lost(QfsCoordinator *c, gint64 now_us) {
  g_autoptr(GPtrArray) list = sorted_rpcs(c, 0);
  for (guint i = 0; i < list->len; i++) {
    QfsRpc *rpc = list->pdata[i];
    gint64 pause = MIN((gint64)REPEAT_FIRST_US << MIN(rpc->tries - 1, 4), REPEAT_MAX_US);
    if (now_us - rpc->sent_us < pause)
      continue;
    rpc->sent_us = now_us;
    rpc->tries++;
    rpc->message->epoch = MAX(rpc->message->epoch, c->epoch_seen); /* still this coordinator's */
    c->env->send(c->env, qfs_message_copy(rpc->message, rpc->node));
  }
}

/* A silent node is given up only while the others still make a quorum: otherwise waiting for it is the
 * better choice, and deadlines tell the users. */
static void suspect_silent(QfsCoordinator *c, gint64 now_us) {
  gint64 patience_us = (gint64)c->config.timeout_ms * 500;
  for (guint i = 1; i <= c->config.nodes; i++) {
    QfsPeer *peer = &c->peer[i];
    if (peer->silent_since_us == 0 || now_us - peer->silent_since_us < patience_us)
      continue;
    if (peer->state != PEER_TRUSTED && peer->state != PEER_JOINING && peer->state != PEER_KNOWN)
      continue;
    QfsNodeSet others = qfs_peers_alive(c) & ~QFS_NODE_BIT(i);
    if (peer->state == PEER_TRUSTED) {
      QfsNodeSet trusted = qfs_peers_in(c, PEER_TRUSTED) & ~QFS_NODE_BIT(i);
      if (qfs_set_size(others) < qfs_view_majority(c) ||
          qfs_set_size(c->view.base & ~trusted) > c->config.replicas - 1)
        continue;
    }
    qfs_log(c, G_LOG_LEVEL_WARNING, "node %u does not answer: going on without it", i);
    qfs_peer_lost(c, peer, PEER_SUSPECT);
  }
}

static void pong(QfsCoordinator *c, QfsPeer *peer, QfsMessage *reply, gpointer data) {
  if (reply != NULL && qfs_peer_reply_ok(c, peer, reply))
    peer->stats = reply->stats;
}

/* A node that fails while nothing is asked of it must be noticed before the next one does. */
static void ping_idle(QfsCoordinator *c, gint64 now_us) {
  if (now_us < c->ping_at_us) {
    qfs_wake_at(c, c->ping_at_us);
    return;
  }
  c->ping_at_us = now_us + (gint64)c->config.timeout_ms * 1000;
  qfs_wake_at(c, c->ping_at_us);
  for (QfsNodeSet rest = qfs_peers_alive(c); rest != 0; rest &= rest - 1) {
    QfsPeer *peer = &c->peer[__builtin_ctzll(rest) + 1];
    if (peer->outstanding == 0)
      qfs_rpc_send(c, peer, qfs_message_new(QFS_MESSAGE_PING, peer->index), pong, NULL);
  }
}

void qfs_rpc_tick(QfsCoordinator *c, gint64 now_us) {
  ping_idle(c, now_us);
  if (c->env->lossy)
    repeat_lost(c, now_us);
  suspect_silent(c, now_us);
  for (guint i = 1; i <= c->config.nodes; i++) {
    QfsPeer *peer = &c->peer[i];
    gboolean silent = peer->state == PEER_SUSPECT;
    gboolean failed = peer->state == PEER_CLOSED && peer->wanted && !peer->stopping &&
                      peer->retry_at_us != 0 && !c->closing;
    if (!silent && !failed)
      continue;
    if (now_us < peer->retry_at_us)
      qfs_wake_at(c, peer->retry_at_us);
    else if (silent)
      qfs_peer_greet(c, peer);
    else
      qfs_peer_start(c, peer);
  }
  if (g_hash_table_size(c->rpcs) > 0)
    qfs_wake_at(c, now_us + tick_us(c));
}
