/* settle.c - moves the settled mark: in rounds, every in-sync node makes all that it has durable.
 *
 * A round takes the mark m below which every flight is complete, asks all of S to put everything on
 * stable storage and to remember m, and when all of them have, m is settled (C5). The nodes learn that
 * by the next round, or by one more when it gets quiet. A node's own mark is durable before the settled
 * one is: a file that shows less than the settled mark is an older copy.
 */
#include "cluster/private.h"

gboolean qfs_is_settled(const QfsCoordinator *c) {
  return c->flights.length == 0 && c->n_settled == c->n_issued;
}

void qfs_settle_dirty(QfsCoordinator *c) {
  if (c->flight_bytes > QFS_FLIGHT_BYTES_MAX / 2 && !c->settling) {
    c->settle_at_us = c->env->now_us(c->env);
    qfs_wake_at(c, c->settle_at_us);
    return;
  }
  gint64 at_us = c->env->now_us(c->env) + (c->closing ? QFS_CLOSING_DELAY_US : QFS_SETTLE_DELAY_US);
  if (c->settle_at_us != 0 && c->settle_at_us <= at_us)
    return;
  c->settle_at_us = at_us;
  qfs_wake_at(c, c->settle_at_us);
}

static void settle_finish(QfsCoordinator *c) {
  c->settling = FALSE;
  c->settle_done = c->settle_id;
  gboolean progress = c->settle_mark > c->settled;
  c->settled = MAX(c->settled, c->settle_mark);
  c->n_settled = c->n_issued_at_settle;
  c->settled_told = c->settle_told_next;
  qfs_flights_settled(c);
  qfs_garbage_collect(c);
  if (progress || c->mover != NULL || c->tidy != NULL || qfs_mover_is_due(c) ||
      qfs_tidy_is_due(c) || c->view.n_unsettled > 1)
    c->view_dirty = TRUE; /* the list of unsettled sets may shrink */
  gboolean again = !qfs_is_settled(c) || c->settled_told < c->settled || qfs_garbage_waits(c);
  if (again && c->closing && qfs_is_settled(c))
    qfs_settle_now(c);
  else if (again)
    qfs_settle_dirty(c);
  qfs_op_node_poll(c);
}

static void settle_reply(QfsCoordinator *c, QfsPeer *peer, QfsMessage *reply, gpointer data) {
  g_autofree guint64 *id = data;
  /* Without space for its mark a node has missed nothing: it stays, and the next round asks again. */
  if (reply != NULL && !qfs_peer_reply_ok(c, peer, reply))
    reply = NULL;
  else if (reply != NULL)
    peer->stats = reply->stats;
  if (!c->settling || *id != c->settle_id) {
    qfs_settle_dirty(c);
    return;
  }
  if (reply == NULL || c->view_stale) {
    c->settling = FALSE; /* try again when the view has followed */
    qfs_settle_dirty(c);
    return;
  }
  c->settle_waiting &= ~QFS_NODE_BIT(peer->index);
  if (c->settle_waiting == 0)
    settle_finish(c);
}

static guint64 complete_mark(QfsCoordinator *c, guint64 *out_issued) {
  QfsFlight *first = g_queue_peek_head(&c->flights);
  *out_issued = c->n_issued - g_queue_get_length(&c->flights);
  return first != NULL ? first->seq - 1 : c->last_seq;
}

void qfs_settle_now(QfsCoordinator *c) {
  c->settle_at_us = 0;
  if (!c->view_known || !c->serving)
    return;
  /* All of S must take part: wait until the view has dropped who is away. And nobody else may think that it
   * is of S: nodes may remember a proposal that was given up and named them, and the next start may go by it;
   * then a mark that moved without them makes them look like older copies. */
  QfsNodeSet members = c->view.in_sync;
  if (c->settling || !c->view_stable || c->view_stale || c->recovery != NULL || c->blocked ||
      (members & ~qfs_peers_in(c, PEER_TRUSTED)) != 0) {
    qfs_settle_dirty(c);
    return;
  }
  c->settling = TRUE;
  c->settle_id++;
  qfs_garbage_round(c);
  c->settle_mark = complete_mark(c, &c->n_issued_at_settle);
  c->settle_told_next = c->settled;
  c->settle_waiting = members;
  for (; members != 0; members &= members - 1) {
    QfsPeer *peer = &c->peer[__builtin_ctzll(members) + 1];
    QfsMessage *message = qfs_message_new(QFS_MESSAGE_SYNC, peer->index);
    message->mark = c->settle_mark;
    message->settled = c->settled;
    qfs_rpc_send(c, peer, message, settle_reply, g_memdup2(&c->settle_id, sizeof c->settle_id));
  }
}

void qfs_settle_tick(QfsCoordinator *c, gint64 now_us) {
  if (c->settle_at_us != 0 && now_us >= c->settle_at_us)
    qfs_settle_now(c);
  else if (c->settle_at_us != 0)
    qfs_wake_at(c, c->settle_at_us);
}

/* ---- the clock's ceiling ---- */

typedef struct {
  guint refs;
  QfsNodeSet acked;
  guint64 ceiling;
} Raise;

static void ceiling_reply(QfsCoordinator *c, QfsPeer *peer, QfsMessage *reply, gpointer data) {
  Raise *raise = data;
  if (reply != NULL && qfs_peer_reply_ok(c, peer, reply)) {
    gboolean had = qfs_view_has_majority(c, raise->acked);
    raise->acked |= QFS_NODE_BIT(peer->index);
    if (!had && qfs_view_has_majority(c, raise->acked)) {
      c->clock.ceiling = MAX(c->clock.ceiling, raise->ceiling);
      c->raising_ceiling = FALSE;
      qfs_ops_resume(c);
    }
  }
  if (--raise->refs == 0) {
    if (!qfs_view_has_majority(c, raise->acked)) {
      c->raising_ceiling = FALSE;
      qfs_ops_resume(c);
    }
    g_free(raise);
  }
}

void qfs_ceiling_raise(QfsCoordinator *c) {
  if (c->raising_ceiling)
    return;
  QfsNodeSet alive = qfs_peers_alive(c);
  if (!qfs_view_has_majority(c, alive))
    return;
  c->raising_ceiling = TRUE;
  Raise *raise = g_new0(Raise, 1);
  raise->ceiling = qfs_clock_wanted_ceiling(&c->clock, c->env->wall_ms(c->env), QFS_CEILING_AHEAD_MS);
  raise->refs = qfs_set_size(alive);
  for (; alive != 0; alive &= alive - 1) {
    QfsPeer *peer = &c->peer[__builtin_ctzll(alive) + 1];
    QfsMessage *message = qfs_message_new(QFS_MESSAGE_SYNC, peer->index);
    message->ceiling = raise->ceiling;
    qfs_rpc_send(c, peer, message, ceiling_reply, raise);
  }
}
