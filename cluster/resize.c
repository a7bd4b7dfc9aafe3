/* resize.c - another number of nodes or replicas than the view in force has.
 *
 * Steps, each of them one view that a majority remembers; a restart at any moment goes on from there:
 *   1. More nodes: they get to know the view in force; then a view with the greater N. The new nodes are unusable at first, and join like any node that
 *      is rebuilt from its peers (catchup.c).
 *   2. Another K, or fewer nodes: the mover gives everything to those who will hold it, then a view switches.
 *   3. Nodes above N have nothing to say from then on, but are asked at a start for what was not settled when the
 *      view switched. When it is, they are unusable, and once a later view is durable, which needs the former
 *      majority no more, their replicas are removed and their processes end.
 *
 * A view with another N is stored at a majority of the former nodes and of its own (QfsView.former_nodes). A
 * start that finds it as the newest needs both majorities, too, until a later view is durable: else two
 * lives, one with each N, could go separate ways.
 */
#include "cluster/private.h"

/* ---- what is wanted ---- */

gboolean qfs_resize_is_wanted(const QfsCoordinator *c) {
  return c->want_nodes != 0 && c->serving &&
         (c->want_nodes != qfs_view_nodes(c) || c->want_replicas != qfs_replicas(c));
}

/* Nodes that may still be needed: of the view, or holders of what is not settled. */
static guint needed_nodes(const QfsCoordinator *c) {
  QfsNodeSet sets = c->view.in_sync | c->view.base;
  for (guint i = 0; i < c->view.n_unsettled; i++)
    sets |= c->view.unsettled[i].nodes;
  guint highest = sets != 0 ? 64 - (guint)__builtin_clzll(sets) : 0;
  return MAX(highest, MAX(qfs_view_nodes(c), c->want_nodes));
}

gboolean qfs_resize_is_over(const QfsCoordinator *c) {
  return c->want_nodes == 0 || (!qfs_resize_is_wanted(c) && c->n_peers == qfs_view_nodes(c));
}

/* Would `nodes` be enough to give the store the greater N? */
static gboolean may_grow(const QfsCoordinator *c, QfsNodeSet nodes) {
  if (!qfs_resize_is_wanted(c) || c->want_nodes <= qfs_view_nodes(c) || c->closing || c->blocked)
    return FALSE;
  for (guint i = 0; i < c->view.n_unsettled; i++) /* nodes that left have to be asked no more */
    if ((c->view.unsettled[i].nodes & ~qfs_view_all(c)) != 0)
      return FALSE;
  QfsView view = {.nodes = c->want_nodes, .former_nodes = qfs_view_nodes(c)};
  return qfs_view_is_majority(&view, nodes);
}

/* Nodes that have stored a view of this store. */
static QfsNodeSet introduced(const QfsCoordinator *c) {
  QfsNodeSet nodes = qfs_peers_alive(c);
  for (guint i = 1; i <= c->n_peers; i++)
    if (!c->peer[i].meta.has_view)
      nodes &= ~QFS_NODE_BIT(i);
  return nodes;
}

gboolean qfs_resize_grows(const QfsCoordinator *c) { return may_grow(c, introduced(c)); }

/* A start counts only nodes that know of some view, for others may have forgotten one: new nodes get to know one
 * before the view that they have a say in. */
gboolean qfs_resize_introduces(const QfsCoordinator *c) {
  return may_grow(c, qfs_peers_alive(c)) && !may_grow(c, introduced(c));
}

gboolean qfs_resize_target(const QfsCoordinator *c, QfsMoveTarget *out) {
  if (!qfs_resize_is_wanted(c) || c->want_nodes > qfs_view_nodes(c))
    return FALSE;
  QfsMoveTarget target = {c->view.in_sync & qfs_set_all(c->want_nodes), c->want_nodes,
                          c->want_replicas};
  /* Too few to be what is asked for: waits until more are in sync. */
  guint in_sync = qfs_set_size(target.set);
  if (in_sync < target.nodes / 2 + 1 || in_sync < qfs_write_quorum(target.replicas))
    return FALSE;
  *out = target;
  return TRUE;
}

char *qfs_resize_reason(const QfsCoordinator *c) {
  QfsMoveTarget target;
  if (!qfs_resize_is_wanted(c) || c->mover != NULL)
    return NULL;
  if (!c->quorum || c->blocked)
    return g_strdup("a quorum");
  QfsNodeSet away = qfs_set_all(MIN(c->want_nodes, c->n_peers)) & ~c->view.in_sync;
  if (away != 0 && (c->want_nodes > qfs_view_nodes(c) || !qfs_resize_target(c, &target)))
    return g_strdup_printf("node %u", (guint)__builtin_ctzll(away) + 1);
  return NULL;
}

guint qfs_resize_progress(const QfsCoordinator *c) {
  if (c->mover != NULL)
    return qfs_mover_progress(c);
  guint percent = 0, joining = 0;
  for (QfsNodeSet nodes = qfs_peers_in(c, PEER_JOINING); nodes != 0; nodes &= nodes - 1, joining++)
    percent += qfs_catchup_progress(&c->peer[__builtin_ctzll(nodes) + 1]);
  return joining > 0 ? percent / joining : 0;
}

/* ---- processes ---- */

static void add_peers(QfsCoordinator *c, guint n) {
  while (c->n_peers < n) {
    QfsPeer *peer = &c->peer[++c->n_peers];
    peer->wanted = TRUE;
    if (peer->state == PEER_CLOSED && !peer->stopping)
      qfs_peer_start(c, peer);
  }
}

/* Who is above all numbers that count, and durably known to be unusable, goes. A view that a start would believe only
 * with a majority of the former nodes must not be the newest by then. */
static void retire_peers(QfsCoordinator *c) {
  if (!c->view_stable || c->recovery != NULL || c->closing || c->view.former_nodes != 0)
    return;
  for (guint i = c->n_peers; i > needed_nodes(c); i--) {
    QfsPeer *peer = &c->peer[i];
    if (c->view.left_mark[i - 1] != QFS_MARK_UNUSABLE)
      return; /* the next view says so */
    if (!peer->retired) {
      peer->retired = TRUE;
      peer->wanted = FALSE;
      peer->retry_at_us = 0;
      g_clear_pointer(&peer->reason, g_free);
      if (peer->state != PEER_CLOSED)
        qfs_peer_lost(c, peer, PEER_CLOSED);
      peer->stopping = TRUE;
      peer->incarnation = peer->process = ++c->next_incarnation;
      c->env->node_remove(c->env, i, peer->process);
    }
    if (peer->stopping || peer->process != 0)
      return;
    c->n_peers--;
    peer->retired = FALSE;
    qfs_view_update_blocked(c); /* it hides nothing */
    c->view_dirty = TRUE;
    qfs_log(c, G_LOG_LEVEL_MESSAGE, "node %u is no longer part of the store: its replica was removed", i);
  }
}

gboolean qfs_resize_marks_leavers(const QfsCoordinator *c) {
  for (guint i = needed_nodes(c) + 1; c->want_nodes != 0 && i <= c->n_peers; i++)
    if (c->view.left_mark[i - 1] != QFS_MARK_UNUSABLE)
      return TRUE;
  return FALSE;
}

static void tell(QfsCoordinator *c) {
  if (!qfs_resize_is_over(c) || c->resize_told)
    return;
  c->resize_told = TRUE;
  if (c->config.resized != NULL)
    c->config.resized(c->config.resized_data);
}

void qfs_resize_consider(QfsCoordinator *c) {
  if (!c->serving || c->want_nodes == 0)
    return;
  if (c->want_nodes > c->n_peers && !c->closing)
    add_peers(c, c->want_nodes);
  retire_peers(c);
  tell(c);
}

void qfs_coordinator_resize(QfsCoordinator *c, guint nodes, guint replicas) {
  g_assert(nodes >= 1 && nodes <= QFS_NODES_MAX && replicas >= 1 && replicas <= nodes);
  g_assert(c->serving);
  c->want_nodes = nodes;
  c->want_replicas = replicas;
  c->resize_told = FALSE;
  c->view_dirty = TRUE;
  if (qfs_resize_is_wanted(c))
    qfs_log(c, G_LOG_LEVEL_MESSAGE, "the store is to have %u nodes and %u replicas instead of %u and %u",
            nodes, replicas, qfs_view_nodes(c), qfs_replicas(c));
  qfs_after_event(c);
}
