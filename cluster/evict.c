/* evict.c - the operator declares a node's replica lost for good.
 *
 * What an evicted node alone held is lost by decision, so nothing waits for it any more: keys whose newest
 * version may be hidden at missing nodes are blocked only while one of those is not evicted, S may shrink
 * without it, tombstones are collected without it. The view remembers it (QFS_MARK_EVICTED), and its file is
 * wiped before it joins again, whatever it holds by then. Without a majority the decision is kept in memory,
 * counts at once, and goes into the next view.
 *
 * When as many are evicted as a key has holders, some keys have lost all of them. Then the others take over first
 * (mover.c), and only then does anybody return: of such a key the newest version counts that the others happen to
 * have, or it is gone; a value that lost all holders of its chunks is removed, for holes would be read in their place.
 *
 * E1. An evicted node is in no in-sync set before it was wiped and has caught up.
 * E2. Where some missing node is not evicted, what it may hold is waited for as ever.
 */
#include "cluster/private.h"

QfsNodeSet qfs_evicted(const QfsCoordinator *c) {
  QfsNodeSet set = 0;
  for (guint i = 1; i <= c->n_peers; i++)
    if (c->peer[i].evicted)
      set |= QFS_NODE_BIT(i);
  return set;
}

/* Closed by decision, and to stay so. */
QfsNodeSet qfs_evicted_away(const QfsCoordinator *c) {
  QfsNodeSet set = 0;
  for (guint i = 1; i <= c->n_peers; i++)
    if (c->peer[i].evicted && !c->peer[i].wanted && c->peer[i].state == PEER_CLOSED)
      set |= QFS_NODE_BIT(i);
  return set;
}

gboolean qfs_is_given_up(const QfsCoordinator *c, QfsNodeSet missing) {
  return (missing & ~qfs_evicted(c)) == 0;
}

static gboolean is_remembered(const QfsCoordinator *c, guint node) {
  return qfs_set_has(c->view.in_sync, node) || node > qfs_view_nodes(c) ||
         c->view.left_mark[node - 1] == QFS_MARK_EVICTED;
}

gboolean qfs_evictions_are_remembered(const QfsCoordinator *c) {
  for (QfsNodeSet rest = qfs_evicted(c); rest != 0; rest &= rest - 1)
    if (!is_remembered(c, (guint)__builtin_ctzll(rest) + 1))
      return FALSE;
  return TRUE;
}

/* ---- what is lost ---- */

gboolean qfs_has_lost(const QfsCoordinator *c) {
  guint holders = MIN(qfs_replicas(c), qfs_set_size(c->view.base));
  return holders > 0 && qfs_set_size(c->view.base & qfs_evicted(c)) >= holders;
}

gboolean qfs_is_lost(const QfsCoordinator *c, guint64 hash) {
  QfsNodeSet holders = qfs_placement_holders(hash, c->view.base, qfs_replicas(c));
  return holders != 0 && qfs_is_given_up(c, holders);
}

/* Others have taken over, with what was left of lost keys. Who is away, evicted or not, may have other versions of
 * these, which it must not bring back. */
void qfs_evict_strays(QfsCoordinator *c) {
  if (!qfs_has_lost(c))
    return;
  for (guint i = 1; i <= c->n_peers; i++)
    if (!qfs_set_has(c->view.in_sync, i) && !c->peer[i].evicted) {
      qfs_log(c, G_LOG_LEVEL_WARNING, "node %u: it may have older versions of lost keys: it will be wiped, too", i);
      c->peer[i].evicted = c->peer[i].rebuild = TRUE;
    }
}

/* ---- by command ---- */

/* Does the node hold the store's data, as far as can be known now? Before the start is over nobody is trusted, and
 * whoever remembers a view counts. */
static gboolean has_data(const QfsCoordinator *c, const QfsPeer *peer) {
  if (peer->evicted || peer->rebuild)
    return FALSE;
  if (qfs_peers_in(c, PEER_TRUSTED) != 0)
    return peer->state == PEER_TRUSTED;
  return (peer->state == PEER_KNOWN || peer->state == PEER_JOINING) && peer->meta.has_view;
}

static gboolean is_last(const QfsCoordinator *c, guint node) {
  for (guint i = 1; i <= c->n_peers; i++)
    if (i != node && has_data(c, &c->peer[i]))
      return FALSE;
  return TRUE;
}

/* Against slips of the hand: only who is closed, has failed, or holds nothing yet. */
static gboolean is_in_use(const QfsPeer *peer) {
  switch (peer->state) {
  case PEER_CLOSED:
  case PEER_SUSPECT:
    return FALSE;
  case PEER_OPENING:
    return peer->greeted_us == 0; /* else it is asked again after a silence */
  case PEER_KNOWN:
  case PEER_JOINING:
    return !peer->rebuild && peer->meta.has_view;
  case PEER_TRUSTED:
    return TRUE;
  }
  g_assert_not_reached();
}

QfsStatus qfs_evict(QfsCoordinator *c, QfsPeer *peer) {
  guint node = peer->index;
  if (peer->evicted && !peer->wanted)
    return QFS_OK;
  if (is_in_use(peer)) {
    qfs_log(c, G_LOG_LEVEL_WARNING, "node %u is not evicted: it is in use; take it down first", node);
    return QFS_BUSY;
  }
  if (is_last(c, node)) {
    qfs_log(c, G_LOG_LEVEL_WARNING, "node %u is not evicted: no other node that has data is up", node);
    return QFS_INVALID;
  }
  peer->evicted = peer->rebuild = TRUE;
  qfs_log(c, G_LOG_LEVEL_WARNING,
          "node %u is evicted: what only it had is given up, and it will be wiped before it returns", node);
  if (qfs_has_lost(c))
    qfs_log(c, G_LOG_LEVEL_WARNING, "so many nodes are evicted that keys have lost all their replicas");
  qfs_writes_uncertain(c); /* what is newest now may not have been */
  gboolean was_blocked = c->blocked;
  qfs_view_update_blocked(c);
  c->recover_again = c->recover_again || (c->serving && was_blocked && !c->blocked);
  c->view_dirty = TRUE;
  return QFS_OK;
}

/* Closed, and in a view; or no view can be made now. */
gboolean qfs_evict_is_done(const QfsCoordinator *c, const QfsPeer *peer) {
  if (peer->process != 0 || c->view_dirty || c->recovery != NULL)
    return FALSE;
  if (!c->view_known || !c->quorum)
    return TRUE;
  return c->view_stable && !qfs_set_has(c->view.in_sync, peer->index) &&
         is_remembered(c, peer->index);
}
