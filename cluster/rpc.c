/* rpc.c - requests to nodes: pairing of replies, repetition on lossy links, suspicion of silent nodes. */
#include "cluster/private.h"

#define REPEAT_FIRST_US (20 * 1000)
#define REPEAT_FACTOR 4 /* of what is usual at the node */
#define REPEAT_MAX_US (200 * 1000)
#define REPEAT_LOOK_US (5 * 1000) /* not more often than this */
/* When new writes wait because too much is on its way: a node that has owed an answer for so long, and for
 * so many times longer than all others, is what they wait for. */
#define LAGGARD_US (250 * 1000)
#define LAGGARD_FACTOR 4
#define LAGGARD_LOOK_US (50 * 1000)
/* Who was in sync for so long may begin anew with suspicions. */
#define FORGIVEN_US (30 * G_USEC_PER_SEC)

static void rpc_free(QfsRpc *rpc) {
  qfs_message_free(rpc->message);
  g_slice_free(QfsRpc, rpc);
}

/* How often unanswered requests are looked at for suspicion. */
static gint64 tick_us(const QfsCoordinator *c) { return (gint64)c->config.timeout_ms * 100; }

/* How long to wait for an answer before the request is repeated. */
static gint64 repeat_pause_us(const QfsPeer *peer, const QfsRpc *rpc) {
  gint64 first = MAX(REPEAT_FIRST_US, REPEAT_FACTOR * peer->rpc_us);
  return MIN(first << MIN(rpc->tries - 1, 6), MAX(first, REPEAT_MAX_US));
}

static void repeat_by(QfsCoordinator *c, gint64 at_us) {
  if (!c->env->lossy || (c->repeat_at_us != 0 && c->repeat_at_us <= at_us))
    return;
  c->repeat_at_us = at_us;
  qfs_wake_at(c, at_us);
}

gint64 qfs_rpc_patience_us(const QfsCoordinator *c) { return (gint64)c->config.timeout_ms * 500; }

static void send_counted(QfsCoordinator *c, QfsMessage *message) {
  c->stat.sent[message->type]++;
  c->env->send(c->env, message);
}

void qfs_rpc_send(QfsCoordinator *c, QfsPeer *peer, QfsMessage *message, QfsRpcDone done,
                  gpointer data) {
  gint64 now = c->env->now_us(c->env);
  message->node = peer->index;
  message->incarnation = peer->incarnation;
  message->is_overdue = message->is_overdue || peer->state != PEER_TRUSTED;
  /* The newest epoch ever proposed: a node that promised it must not refuse what is sent beside it. */
  message->epoch = message->of_epoch ? c->view.epoch : c->epoch_seen;
  if (done != NULL) {
    QfsRpc *rpc = g_slice_new0(QfsRpc);
    rpc->cookie = message->cookie = ++c->next_cookie;
    rpc->node = peer->index;
    rpc->sent_us = rpc->first_us = now;
    rpc->tries = 1;
    rpc->message = c->env->lossy ? qfs_message_copy(message, peer->index) : NULL;
    rpc->done = done;
    rpc->data = data;
    rpc->link.data = rpc;
    g_hash_table_insert(c->rpcs, &rpc->cookie, rpc);
    g_queue_push_tail_link(&peer->rpcs, &rpc->link);
    if (peer->outstanding++ == 0)
      peer->silent_since_us = now;
    repeat_by(c, now + repeat_pause_us(peer, rpc));
    qfs_wake_at(c, now + tick_us(c));
  }
  send_counted(c, message);
}

/* The time of requests that were sent once: of the others it is not known which was answered. */
static void note_time(QfsCoordinator *c, QfsPeer *peer, const QfsRpc *rpc, gint64 now_us) {
  peer->latest_us = now_us - rpc->first_us;
  if (rpc->tries == 1)
    peer->rpc_us += (now_us - rpc->first_us - peer->rpc_us) / 8;
  else
    peer->rpc_us = MAX(peer->rpc_us, MIN(now_us - rpc->sent_us, qfs_rpc_patience_us(c)));
}

void qfs_rpc_receive(QfsCoordinator *c, QfsMessage *reply) {
  g_assert(reply->is_reply && reply->node >= 1 && reply->node <= QFS_NODES_MAX);
  QfsPeer *peer = &c->peer[reply->node];
  gint64 now_us = c->env->now_us(c->env);
  c->stat.received[reply->type]++;
  QfsRpc *rpc = g_hash_table_lookup(c->rpcs, &reply->cookie);
  if (rpc == NULL || reply->incarnation != peer->incarnation || rpc->node != reply->node) {
    qfs_message_free(reply); /* a repeated or outdated answer */
    return;
  }
  g_hash_table_steal(c->rpcs, &rpc->cookie);
  g_queue_unlink(&peer->rpcs, &rpc->link);
  note_time(c, peer, rpc, now_us);
  peer->heard_us = now_us;
  peer->outstanding--;
  peer->silent_since_us = peer->outstanding > 0 ? now_us : 0;
  reply->repeated = rpc->tries > 1;
  rpc->done(c, peer, reply, rpc->data);
  qfs_message_free(reply);
  rpc_free(rpc);
}

void qfs_rpc_drop_peer(QfsCoordinator *c, QfsPeer *peer) {
  GQueue dropped = peer->rpcs; /* in the order in which they were made */
  for (GList *link = dropped.head; link != NULL; link = link->next)
    g_hash_table_steal(c->rpcs, &((QfsRpc *)link->data)->cookie);
  g_queue_init(&peer->rpcs);
  peer->outstanding = 0;
  peer->silent_since_us = 0;
  for (GList *link = dropped.head; link != NULL;) {
    QfsRpc *rpc = link->data;
    link = link->next;
    rpc->done(c, peer, NULL, rpc->data);
    rpc_free(rpc);
  }
}

static void repeat_lost(QfsCoordinator *c, gint64 now_us) {
  if (now_us < c->repeat_at_us) {
    qfs_wake_at(c, c->repeat_at_us);
    return;
  }
  gint64 next_us = G_MAXINT64;
  for (guint i = 1; i <= c->n_peers; i++) {
    const QfsPeer *peer = &c->peer[i];
    for (GList *link = peer->rpcs.head; link != NULL; link = link->next) {
      QfsRpc *rpc = link->data;
      if (now_us >= rpc->sent_us + repeat_pause_us(peer, rpc)) {
        rpc->sent_us = now_us;
        rpc->tries++;
        if (!rpc->message->of_epoch)
          rpc->message->epoch = MAX(rpc->message->epoch, c->epoch_seen); /* still this coordinator's */
        send_counted(c, qfs_message_copy(rpc->message, rpc->node));
      }
      next_us = MIN(next_us, rpc->sent_us + repeat_pause_us(peer, rpc));
    }
  }
  c->repeat_at_us = 0;
  if (next_us != G_MAXINT64)
    repeat_by(c, MAX(next_us, now_us + REPEAT_LOOK_US));
}

static gboolean is_silent(const QfsPeer *peer, gint64 for_us, gint64 now_us) {
  return peer->silent_since_us != 0 && now_us - peer->silent_since_us >= for_us;
}

QfsNodeSet qfs_peers_silent_for(const QfsCoordinator *c, gint64 for_us, gint64 at_us) {
  QfsNodeSet silent = 0;
  for (guint i = 1; i <= c->n_peers; i++)
    if (c->peer[i].state == PEER_TRUSTED && is_silent(&c->peer[i], for_us, at_us))
      silent |= QFS_NODE_BIT(i);
  return silent;
}

gint64 qfs_rpc_silence_us(const QfsCoordinator *c) { return qfs_rpc_patience_us(c) * 3 / 2; }

QfsNodeSet qfs_peers_silent(const QfsCoordinator *c) {
  gboolean owed = FALSE; /* mostly nothing is, and what time it is need not be known */
  for (guint i = 1; i <= c->n_peers; i++)
    owed = owed || (c->peer[i].state == PEER_TRUSTED && c->peer[i].silent_since_us != 0);
  return owed ? qfs_peers_silent_for(c, qfs_rpc_silence_us(c), c->env->now_us(c->env)) : 0;
}

/* A node that is busy writing does not answer requests, and can be read all the same. */
QfsNodeSet qfs_peers_mute(const QfsCoordinator *c) {
  QfsNodeSet mute = 0;
  gint64 now_us = 0;
  for (guint i = 1; i <= c->n_peers; i++) {
    const QfsPeer *peer = &c->peer[i];
    if (peer->state != PEER_TRUSTED || peer->silent_since_us == 0 || peer->unread_since_us == 0)
      continue;
    if (now_us == 0)
      now_us = c->env->now_us(c->env);
    if (is_silent(peer, qfs_rpc_patience_us(c), now_us) &&
        now_us - peer->unread_since_us >= qfs_rpc_patience_us(c) / 2)
      mute |= QFS_NODE_BIT(i);
  }
  return mute;
}

gboolean qfs_rpc_suffice(const QfsCoordinator *c, QfsNodeSet nodes) {
  return qfs_view_has_majority(c, qfs_peers_alive(c) & nodes) &&
         qfs_view_allows(c, qfs_peers_in(c, PEER_TRUSTED) & nodes);
}

/* A node is given up only while the others still make a quorum: otherwise waiting for it is the better
 * choice. */
static gboolean can_do_without(const QfsCoordinator *c, const QfsPeer *peer) {
  return qfs_rpc_suffice(c, ~QFS_NODE_BIT(peer->index));
}

/* A machine or a disk that all nodes share may be too busy for all of them: then giving up one after another would make
 * it worse, and in the end refuse writes that only have to wait. */
QfsNodeSet qfs_rpc_answering(const QfsCoordinator *c, gint64 now_us) {
  QfsNodeSet set = 0;
  for (guint i = 1; i <= c->n_peers; i++)
    if (c->peer[i].latest_us < qfs_rpc_patience_us(c) / 2 && !is_silent(&c->peer[i], qfs_rpc_patience_us(c) / 2, now_us))
      set |= QFS_NODE_BIT(i);
  return set;
}

static void suspect(QfsCoordinator *c, QfsPeer *peer, const char *why, gint64 now_us) {
  gboolean was_in_sync = peer->state == PEER_TRUSTED;
  if (was_in_sync && now_us - peer->trusted_since_us > FORGIVEN_US)
    peer->suspicions = 0;
  if (was_in_sync || peer->suspicions == 0)
    qfs_log(c, G_LOG_LEVEL_WARNING, "node %u %s: going on without it", peer->index, why);
  peer->suspicions++;
  qfs_peer_lost(c, peer, PEER_SUSPECT);
}

static void pong(QfsCoordinator *c, QfsPeer *peer, QfsMessage *reply, gpointer data) {
  if (reply != NULL && qfs_peer_reply_ok(c, peer, reply))
    peer->stats = reply->stats;
}

/* Who answered late last time, and owes nothing since: is he quick again? */
static void ask_late(QfsCoordinator *c) {
  for (QfsNodeSet rest = qfs_peers_alive(c); rest != 0; rest &= rest - 1) {
    QfsPeer *peer = &c->peer[__builtin_ctzll(rest) + 1];
    if (peer->outstanding == 0 && peer->latest_us >= qfs_rpc_patience_us(c) / 2)
      qfs_rpc_send(c, peer, qfs_message_new(QFS_MESSAGE_PING, peer->index), pong, NULL);
  }
}

static void suspect_silent(QfsCoordinator *c, gint64 now_us) {
  QfsNodeSet others = qfs_rpc_answering(c, now_us);
  for (guint i = 1; i <= c->n_peers; i++) {
    QfsPeer *peer = &c->peer[i];
    if (!is_silent(peer, qfs_rpc_patience_us(c), now_us))
      continue;
    if (peer->state != PEER_TRUSTED && peer->state != PEER_JOINING && peer->state != PEER_KNOWN)
      continue;
    if (peer->state == PEER_TRUSTED && !qfs_rpc_suffice(c, others)) {
      if (is_silent(peer, qfs_rpc_silence_us(c), now_us))
        ask_late(c);
      continue;
    }
    peer->too_slow = FALSE;
    suspect(c, peer, "does not answer", now_us);
  }
}

static gint64 oldest_us(const QfsPeer *peer, gint64 now_us) {
  const QfsRpc *rpc = peer->rpcs.head != NULL ? peer->rpcs.head->data : NULL;
  return rpc != NULL ? now_us - rpc->first_us : 0;
}

/* Writes wait for room: is one node alone the reason? It catches up later. */
static void suspect_laggard(QfsCoordinator *c, gint64 now_us) {
  if (c->flight_bytes < QFS_FLIGHT_BYTES_MAX && c->flights.length < QFS_FLIGHTS_MAX)
    return;
  qfs_wake_at(c, now_us + LAGGARD_LOOK_US);
  QfsPeer *worst = NULL;
  gint64 age = 0, second = 0;
  for (guint i = 1; i <= c->n_peers; i++) {
    QfsPeer *peer = &c->peer[i];
    gint64 oldest = oldest_us(peer, now_us);
    if (peer->state != PEER_TRUSTED && peer->state != PEER_JOINING)
      continue;
    second = MAX(second, MIN(age, oldest));
    if (oldest > age)
      worst = peer;
    age = MAX(age, oldest);
  }
  if (worst == NULL || age < LAGGARD_US || age < second * LAGGARD_FACTOR)
    return;
  if (worst->state == PEER_TRUSTED && !can_do_without(c, worst))
    return;
  worst->too_slow = TRUE;
  suspect(c, worst, "lags behind", now_us);
}

gboolean qfs_rpc_is_too_slow(QfsCoordinator *c, const QfsPeer *peer, gint64 took_us) {
  return took_us > qfs_rpc_patience_us(c) * 3 / 4 && c->serving && c->recovery == NULL && !c->blocked &&
         can_do_without(c, peer);
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
  suspect_laggard(c, now_us);
  for (guint i = 1; i <= c->n_peers; i++) {
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
