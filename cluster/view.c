/* view.c - epochs: who is in sync, remembered by a majority before it counts.
 *
 * A proposal carries a new epoch with a new in-sync set S, in two rounds as in Paxos (Lamport, "Paxos Made Simple",
 * 2001): first a majority promises the epoch, durably; only then is the view itself sent. While that is under way
 * nothing is acknowledged and nothing new is sent; when a majority of all nodes and every member of S have it on
 * stable storage it becomes the view, and what is in flight is looked at again under the new S.
 * Without the promises the view of a coordinator that died could stand at one node under the same epoch as the one
 * that the next coordinator, which did not see that node, made for itself; and so could sequence numbers.
 * S never shrinks so far that some key's base holders (H(key, B)) are all outside: then the old view
 * stays, writes are refused, and gets go on at the trusted nodes; unless all who are missing were evicted.
 */
#include "cluster/private.h"

guint qfs_view_nodes(const QfsCoordinator *c) { return c->view.nodes; }

guint qfs_replicas(const QfsCoordinator *c) { return c->view.replicas; }

QfsNodeSet qfs_view_all(const QfsCoordinator *c) {
  return qfs_set_all(c->view.nodes);
}

static gboolean is_majority_of(guint nodes, QfsNodeSet set) {
  return nodes > 0 && qfs_set_size(set & qfs_set_all(nodes)) >= nodes / 2 + 1;
}

gboolean qfs_view_is_majority(const QfsView *view, QfsNodeSet nodes) {
  return is_majority_of(view->nodes, nodes) &&
         (view->former_nodes == 0 || is_majority_of(view->former_nodes, nodes));
}

gboolean qfs_view_has_majority(const QfsCoordinator *c, QfsNodeSet nodes) {
  return qfs_view_is_majority(&c->view, nodes);
}

QfsNodeSet qfs_peers_in(const QfsCoordinator *c, QfsPeerState state) {
  QfsNodeSet set = 0;
  for (guint i = 1; i <= c->n_peers; i++)
    if (c->peer[i].state == state)
      set |= QFS_NODE_BIT(i);
  return set;
}

QfsNodeSet qfs_peers_alive(const QfsCoordinator *c) {
  return qfs_peers_in(c, PEER_KNOWN) | qfs_peers_in(c, PEER_JOINING) | qfs_peers_in(c, PEER_TRUSTED);
}

QfsNodeSet qfs_holders(const QfsCoordinator *c, guint64 hash) {
  return qfs_placement_holders(hash, c->view.in_sync, qfs_replicas(c));
}

QfsNodeSet qfs_set_holders(const QfsViewSet *set, guint64 hash) {
  return qfs_placement_holders(hash, set->nodes, set->replicas);
}

gboolean qfs_set_was_met(const QfsViewSet *set, guint64 hash, QfsNodeSet seen) {
  QfsNodeSet holders = qfs_set_holders(set, hash);
  guint size = qfs_set_size(holders), quorum = qfs_write_quorum(set->replicas);
  return size < quorum || qfs_set_size(holders & seen) >= size - quorum + 1;
}

gboolean qfs_view_allows(const QfsCoordinator *c, QfsNodeSet in_sync) {
  QfsNodeSet missing = c->view.base & ~in_sync;
  guint holders = MIN(qfs_replicas(c), qfs_set_size(c->view.base));
  return qfs_set_size(missing) < holders || (in_sync != 0 && qfs_is_given_up(c, missing));
}

const char *qfs_view_objection(const QfsView *view, const QfsNodeMeta *meta, guint64 settled) {
  guint i = meta->node - 1;
  if (!meta->has_view)
    return "it is new";
  if (meta->generation < view->generation[i])
    return "it is an older copy (smaller generation)";
  /* By its own account, too: a view that it never got promised nothing about its marks. */
  gboolean member = qfs_set_has(view->in_sync & meta->view.in_sync, meta->node);
  gboolean named = qfs_set_has(view->in_sync, meta->node);
  if (!named && view->left_mark[i] == QFS_MARK_EVICTED)
    return "it was evicted";
  if (!named && view->left_mark[i] == QFS_MARK_UNUSABLE)
    return "an earlier rebuild did not finish";
  if (meta->mark < (member ? settled : view->left_mark[i]))
    return "it is an older copy (lacks settled writes)";
  return NULL;
}

gboolean qfs_can_write(const QfsCoordinator *c) {
  return c->serving && c->view_stable && c->quorum && c->recovery == NULL;
}

/* May versions that these holders acknowledged under `set` be hidden from everybody who was seen? Any W of
 * them may have been the ones that had it. What only evicted nodes had is lost, not hidden. */
static gboolean hides(const QfsCoordinator *c, const QfsViewSet *set, QfsNodeSet holders) {
  QfsNodeSet missing = holders & ~c->seen;
  return qfs_set_size(missing) >= qfs_write_quorum(set->replicas) && !qfs_is_given_up(c, missing);
}

/* The set of an epoch; of too many to remember any node may have been a member. */
static QfsViewSet unsettled_set(const QfsCoordinator *c, guint i) {
  QfsViewSet set = c->view.unsettled[i];
  if (set.nodes == 0)
    set.nodes = qfs_set_all(c->n_peers);
  return set;
}

gboolean qfs_is_blocked(const QfsCoordinator *c, guint64 hash) {
  if (!c->blocked)
    return FALSE;
  for (guint i = 0; i < c->view.n_unsettled; i++) {
    QfsViewSet set = unsettled_set(c, i);
    gboolean known = c->view.unsettled[i].nodes != 0;
    if (hides(c, &set, known ? qfs_set_holders(&set, hash) : set.nodes))
      return TRUE;
  }
  return FALSE;
}

void qfs_view_update_blocked(QfsCoordinator *c) {
  gboolean blocked = FALSE;
  for (guint i = 0; i < c->view.n_unsettled; i++) {
    QfsViewSet set = unsettled_set(c, i);
    blocked = blocked || hides(c, &set, set.nodes);
  }
  if (c->blocked && !blocked)
    qfs_log(c, G_LOG_LEVEL_MESSAGE, "all unsettled writes are accounted for again");
  else if (blocked && !c->blocked)
    qfs_log(c, G_LOG_LEVEL_WARNING,
            "the store was not closed cleanly and too many nodes are missing: keys whose newest "
            "version may be at them are not available until they return or are evicted");
  c->blocked = blocked;
}

static void add_set(QfsView *view, QfsViewSet set) {
  for (guint i = 0; i < view->n_unsettled; i++)
    if (view->unsettled[i].nodes == set.nodes && view->unsettled[i].replicas == set.replicas)
      return;
  if (view->n_unsettled == QFS_VIEW_SETS_MAX)
    view->unsettled[QFS_VIEW_SETS_MAX - 1] = (QfsViewSet){.nodes = 0, .replicas = view->replicas};
  else
    view->unsettled[view->n_unsettled++] = set;
}

static void note_phase(QfsCoordinator *c) {
  if (c->view.in_sync == c->view.base) {
    c->phase_known = TRUE;
    c->n_phase = 0;
  }
  QfsViewSet set = {.nodes = c->view.in_sync, .replicas = qfs_replicas(c)};
  const QfsViewSet *last = c->n_phase > 0 ? &c->phase[c->n_phase - 1].set : NULL;
  if (last != NULL && last->nodes == set.nodes && last->replicas == set.replicas)
    return;
  if (c->n_phase == QFS_VIEW_SETS_MAX) {
    c->phase_known = FALSE; /* too many changes to remember: no claims until S is whole again */
    return;
  }
  c->phase[c->n_phase].set = set;
  c->phase[c->n_phase++].after = c->last_seq;
}

/* ---- proposals ---- */

static void proposal_done(QfsCoordinator *c) {
  QfsNodeSet old = c->view.in_sync;
  /* Others took over from nodes that are away: who is catching up must hold keys that it never had, and looked
   * only for what it missed. */
  if ((c->view.base & ~c->proposal.base) != 0)
    qfs_catchup_restart_all(c);
  c->view = c->proposal;
  c->view_known = TRUE;
  c->view_stable = TRUE;
  c->purge_wants_epoch = FALSE;
  c->clock.ceiling = MAX(c->clock.ceiling, c->proposal_ceiling);
  for (guint i = 1; i <= c->n_peers; i++)
    if (qfs_set_has(c->view.in_sync, i) && c->peer[i].state == PEER_JOINING) {
      qfs_catchup_stop(c, &c->peer[i]);
      c->peer[i].evicted = FALSE;
      c->peer[i].state = PEER_TRUSTED;
      c->peer[i].retries = 0; /* only opening well does not mean that it is well: its disk may be full */
      c->peer[i].trusted_since_us = c->env->now_us(c->env);
      c->seen |= QFS_NODE_BIT(i);
      qfs_log(c, G_LOG_LEVEL_MESSAGE, "node %u is in sync", i);
    }
  note_phase(c);
  if (c->recovery == NULL)
    qfs_view_update_blocked(c);
  c->view_dirty = TRUE;
  if (c->recovery != NULL)
    qfs_recovery_view_done(c);
  if (old != c->view.in_sync) {
    c->view_changed_us = c->env->now_us(c->env);
    qfs_flights_revive(c);
    qfs_settle_dirty(c);
  }
  qfs_flights_dispatch(c);
}

/* Of the nodes of the view in force and of those of the proposal. */
static gboolean has_proposal_majority(const QfsCoordinator *c, QfsNodeSet nodes) {
  return qfs_view_has_majority(c, nodes) && qfs_view_is_majority(&c->proposal, nodes);
}

static void proposal_check(QfsCoordinator *c) {
  if (c->view_stable || c->proposal_id == 0)
    return;
  if (!has_proposal_majority(c, c->proposal_acked))
    return;
  if ((c->proposal.in_sync & ~c->proposal_acked) != 0)
    return;
  c->proposal_id = 0;
  proposal_done(c);
}

/* Frees `data`. FALSE: the reply is of no use, or of an earlier proposal. */
static gboolean of_proposal(QfsCoordinator *c, QfsPeer *peer, QfsMessage *reply, gpointer data) {
  g_autofree guint64 *id = data;
  if (reply != NULL && qfs_peer_reply_ok(c, peer, reply))
    return *id == c->proposal_id;
  if (reply != NULL && reply->status == QFS_NO_SPACE)
    qfs_peer_fail(c, peer, reply->reason ? reply->reason : "disk full", FALSE);
  return FALSE;
}

static void proposal_reply(QfsCoordinator *c, QfsPeer *peer, QfsMessage *reply, gpointer data) {
  if (!of_proposal(c, peer, reply, data))
    return;
  peer->meta.has_view = TRUE;
  peer->meta.generation = c->proposal.epoch;
  c->proposal_acked |= QFS_NODE_BIT(peer->index);
  proposal_check(c);
}

static gpointer proposal_ticket(const QfsCoordinator *c) {
  return g_memdup2(&c->proposal_id, sizeof c->proposal_id);
}

static void send_view(QfsCoordinator *c, QfsPeer *peer) {
  QfsMessage *message = qfs_message_new(QFS_MESSAGE_VIEW, peer->index);
  message->view = g_memdup2(&c->proposal, sizeof c->proposal);
  message->ceiling = c->proposal_ceiling;
  if (qfs_set_has(c->proposal.in_sync, peer->index))
    message->mark = message->settled = c->settled;
  qfs_rpc_send(c, peer, message, proposal_reply, proposal_ticket(c));
}

static void promise_reply(QfsCoordinator *c, QfsPeer *peer, QfsMessage *reply, gpointer data) {
  if (!of_proposal(c, peer, reply, data))
    return;
  gboolean promised = has_proposal_majority(c, c->proposal_promised);
  c->proposal_promised |= QFS_NODE_BIT(peer->index);
  if (promised || !has_proposal_majority(c, c->proposal_promised))
    return;
  for (QfsNodeSet rest = c->proposal_sent; rest != 0; rest &= rest - 1)
    send_view(c, &c->peer[__builtin_ctzll(rest) + 1]);
}

/* A node's generation is the epoch of the last view that it stored: it only grows, so what a majority
 * remembers is a lower bound, and a file that shows less is an older copy. */
static void set_generations(QfsCoordinator *c, QfsView *view) {
  QfsNodeSet alive = qfs_peers_alive(c);
  for (guint i = 1; i <= c->n_peers; i++) {
    QfsPeer *peer = &c->peer[i];
    if (peer->evicted)
      view->left_mark[i - 1] = QFS_MARK_EVICTED;
    if (!qfs_set_has(alive, i))
      continue;
    if (peer->rebuild && !peer->evicted)
      view->left_mark[i - 1] = QFS_MARK_UNUSABLE;
    view->generation[i - 1] = peer->meta.generation;
  }
}

void qfs_view_propose(QfsCoordinator *c, QfsNodeSet in_sync, QfsNodeSet base) {
  QfsView *view = &c->proposal;
  *view = c->view;
  view->epoch = ++c->epoch_seen;
  view->in_sync = in_sync;
  view->base = base;
  for (guint i = 1; i <= c->n_peers; i++)
    if (qfs_set_has(c->view.in_sync & ~in_sync, i))
      view->left_mark[i - 1] = c->settled;
  set_generations(c, view);
  for (guint i = 1; i <= c->n_peers; i++)
    if (qfs_set_has(in_sync, i)) /* whatever was said of it before, now it is whole */
      view->left_mark[i - 1] = c->settled;
  if (qfs_is_settled(c) && !c->blocked && c->recovery == NULL)
    view->n_unsettled = 0;
  add_set(view, (QfsViewSet){.nodes = in_sync, .replicas = view->replicas});

  if (c->first_epoch == 0)
    c->first_epoch = view->epoch;
  c->settling = FALSE; /* the settled mark stands still while S changes */
  c->view_stable = FALSE;
  c->proposal_id = view->epoch;
  c->proposal_acked = 0;
  c->proposal_ceiling =
      qfs_clock_wanted_ceiling(&c->clock, c->env->wall_ms(c->env), QFS_CEILING_AHEAD_MS);
  c->proposal_promised = 0;
  c->proposal_sent = qfs_peers_alive(c);
  for (QfsNodeSet rest = c->proposal_sent; rest != 0; rest &= rest - 1) {
    QfsPeer *peer = &c->peer[__builtin_ctzll(rest) + 1];
    QfsMessage *message = qfs_message_new(QFS_MESSAGE_PROMISE, peer->index);
    message->id = view->epoch;
    qfs_rpc_send(c, peer, message, promise_reply, proposal_ticket(c));
  }
}

/* Nodes that have caught up and wait to be members. */
static QfsNodeSet ready_nodes(QfsCoordinator *c) {
  QfsNodeSet ready = 0;
  for (guint i = 1; i <= c->n_peers; i++)
    if (c->peer[i].state == PEER_JOINING && qfs_catchup_ready(c, &c->peer[i]))
      ready |= QFS_NODE_BIT(i);
  return ready;
}

void qfs_view_evaluate(QfsCoordinator *c) {
  if (!c->view_known || c->recovery != NULL)
    return;
  QfsNodeSet ready = ready_nodes(c);
  QfsNodeSet want = (c->view.in_sync & qfs_peers_in(c, PEER_TRUSTED)) | ready;
  QfsNodeSet alive = qfs_peers_alive(c);
  gboolean majority = qfs_view_has_majority(c, alive);
  gboolean had = c->quorum;
  c->quorum = majority && qfs_view_allows(c, want);
  if (had && !c->quorum)
    qfs_log(c, G_LOG_LEVEL_WARNING, "no quorum: %u of %u nodes answer, %u in sync: writes are refused",
            qfs_set_size(alive), qfs_view_nodes(c), qfs_set_size(want));
  else if (!had && c->quorum)
    qfs_log(c, G_LOG_LEVEL_MESSAGE, "quorum: writes are possible");
  if (!c->quorum) {
    if (!c->view_stable && !majority) {
      /* The proposal can't come through: go back to the view that is known to be durable. Nodes that
       * promised the newer epoch will be proposed a newer one still. */
      c->proposal_id = 0;
      c->view_stable = TRUE;
      c->view_stale = TRUE;
    }
    return;
  }
  /* A member that returned before S could do without it becomes trusted by a view, too. */
  if (c->view_stable && want == c->view.in_sync && !c->view_stale && ready == 0 &&
      qfs_evictions_are_remembered(c)) {
    gboolean fold = (c->view.n_unsettled > 1 && qfs_is_settled(c) && !c->blocked) ||
                    (c->purge_wants_epoch && !c->closing);
    if (qfs_rebase_is_done(c)) {
      qfs_rebase_stop(c);
      qfs_evict_strays(c);
      qfs_view_propose(c, want, want);
      return;
    }
    if (!fold)
      return;
  } else if (!c->view_stable && c->proposal.epoch == c->epoch_seen && want == c->proposal.in_sync &&
             (c->proposal_sent & ~alive & ~c->proposal_acked) == 0 &&
             (c->proposal.in_sync & ~(c->proposal_sent | c->proposal_acked)) == 0) {
    return; /* on its way */
  }
  c->view_stale = FALSE;
  qfs_view_propose(c, want, c->view.base | want);
}
