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

/* A view that is known to be durable needs the former nodes no more: whoever finds an older one will not get
 * by without a node that knows this one. */
gboolean qfs_view_has_majority(const QfsCoordinator *c, QfsNodeSet nodes) {
  return c->view_proven ? is_majority_of(c->view.nodes, nodes) : qfs_view_is_majority(&c->view, nodes);
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

static gboolean is_filling(guint64 mark) {
  return mark < QFS_MARK_EVICTED && (mark & QFS_MARK_FILLING(0)) != 0;
}

gboolean qfs_view_is_filled(const QfsView *view, const QfsNodeMeta *meta) {
  return !qfs_set_has(view->in_sync, meta->node) && meta->wiped != 0 && meta->node <= view->nodes &&
         view->left_mark[meta->node - 1] == QFS_MARK_FILLING(meta->wiped);
}

const char *qfs_view_objection(const QfsView *view, const QfsNodeMeta *meta, guint64 settled,
                               gboolean *out_is_damage) {
  guint i = meta->node - 1;
  *out_is_damage = FALSE;
  if (!meta->has_view)
    return "it is new";
  if (meta->generation < view->generation[i]) {
    *out_is_damage = TRUE;
    return "it is an older copy (smaller generation)";
  }
  /* By its own account, too: a view that it never got promised nothing about its marks. */
  gboolean member = qfs_set_has(view->in_sync & meta->view.in_sync, meta->node);
  gboolean named = qfs_set_has(view->in_sync, meta->node);
  if (!named && view->left_mark[i] == QFS_MARK_EVICTED)
    return "it was evicted";
  if (!named && (view->left_mark[i] == QFS_MARK_UNUSABLE || is_filling(view->left_mark[i])))
    return "it does not have what it has to hold";
  if (meta->mark < (member ? settled : view->left_mark[i] & ~QFS_MARK_INCOMPLETE)) {
    *out_is_damage = TRUE;
    return "it is an older copy (lacks settled writes)";
  }
  return NULL;
}

gboolean qfs_can_write(const QfsCoordinator *c) {
  return c->serving && c->view_stable && c->quorum && c->recovery == NULL;
}

/* May versions that these holders acknowledged under `set` be hidden from everybody who was seen? Any W of
 * them may have been the ones that had it. What only evicted nodes had is lost, not hidden. */
static gboolean hides_from(const QfsViewSet *set, QfsNodeSet holders, QfsNodeSet seen, QfsNodeSet given_up) {
  QfsNodeSet missing = holders & ~seen;
  return qfs_set_size(missing) >= qfs_write_quorum(set->replicas) && (missing & ~given_up) != 0;
}

static gboolean hides(const QfsCoordinator *c, const QfsViewSet *set, QfsNodeSet holders) {
  return hides_from(set, holders, c->seen, qfs_evicted(c));
}

gboolean qfs_view_set_hides(const QfsCoordinator *c, guint i, const guint64 *hash, QfsNodeSet seen,
                            QfsNodeSet given_up) {
  const QfsViewSet set = qfs_view_unsettled(c, i);
  const gboolean of_key = hash != NULL && c->view.unsettled[i].nodes != 0;
  return hides_from(&set, of_key ? qfs_set_holders(&set, *hash) : set.nodes, seen, given_up);
}

QfsViewSet qfs_view_unsettled(const QfsCoordinator *c, guint i) {
  QfsViewSet set = c->view.unsettled[i];
  if (set.nodes == 0)
    set.nodes = qfs_set_all(c->n_peers);
  return set;
}

gboolean qfs_is_blocked(const QfsCoordinator *c, guint64 hash) {
  if (!c->blocked)
    return FALSE;
  for (guint i = 0; i < c->view.n_unsettled; i++)
    if (qfs_view_set_hides(c, i, &hash, c->seen, qfs_evicted(c)))
      return TRUE;
  return FALSE;
}

QfsNodeSet qfs_view_hidden(const QfsCoordinator *c) {
  QfsNodeSet hidden = 0;
  for (guint i = 0; i < c->view.n_unsettled; i++) {
    QfsViewSet set = qfs_view_unsettled(c, i);
    if (hides(c, &set, set.nodes))
      hidden |= set.nodes & ~c->seen;
  }
  return hidden;
}

void qfs_view_update_blocked(QfsCoordinator *c) {
  gboolean blocked = FALSE;
  for (guint i = 0; i < c->view.n_unsettled; i++)
    blocked = blocked || qfs_view_set_hides(c, i, NULL, c->seen, qfs_evicted(c));
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

void qfs_view_add_all(QfsView *view) { add_set(view, (QfsViewSet){.nodes = 0, .replicas = view->replicas}); }

void qfs_view_suspect_all(QfsCoordinator *c) { qfs_view_add_all(&c->view); }

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

void qfs_view_begin_phase(QfsCoordinator *c) {
  c->phase_known = TRUE;
  c->n_phase = 0;
  note_phase(c);
}

/* ---- proposals ---- */

static gboolean has_other_layout(const QfsView *a, const QfsView *b) {
  return a->nodes != b->nodes || a->replicas != b->replicas;
}

/* Nodes that the view brought are nobody yet, whatever is in their files. */
static void admit(QfsCoordinator *c, guint first) {
  for (guint i = first; i <= MIN(qfs_view_nodes(c), c->n_peers); i++) {
    c->peer[i].rebuild = TRUE;
    c->peer[i].filled = FALSE;
  }
}

static void proposal_done(QfsCoordinator *c) {
  QfsView old = c->view;
  gboolean layout = has_other_layout(&c->view, &c->proposal);
  /* Others took over from nodes that are away: who is catching up must hold keys that it never had, and looked
   * only for what it missed. */
  if ((c->view.base & ~c->proposal.base) != 0 || layout)
    qfs_catchup_restart_all(c);
  if (layout)
    qfs_mover_stop(c);
  c->view = c->proposal;
  c->view_known = c->view_proven = TRUE;
  c->view_stable = TRUE;
  c->purge_wants_epoch = c->view_wants_untidy = FALSE;
  c->clock.ceiling = MAX(c->clock.ceiling, c->proposal_ceiling);
  if (layout) {
    admit(c, old.nodes + 1);
    qfs_log(c, G_LOG_LEVEL_MESSAGE, "the store has %u nodes and %u replicas", qfs_view_nodes(c),
            qfs_replicas(c));
  }
  for (guint i = 1; i <= c->n_peers; i++) /* of a recovery: at its end */
    if (c->recovery == NULL && qfs_set_has(c->view.in_sync, i) && c->peer[i].state == PEER_JOINING) {
      qfs_catchup_stop(c, &c->peer[i]);
      c->peer[i].evicted = FALSE;
      c->peer[i].rebuild = c->peer[i].filled = FALSE; /* not before: a view without it may come first */
      c->peer[i].state = PEER_TRUSTED;
      c->peer[i].retries = 0; /* only opening well does not mean that it is well: its disk may be full */
      c->peer[i].trusted_since_us = c->env->now_us(c->env);
      c->seen |= QFS_NODE_BIT(i);
      qfs_log(c, G_LOG_LEVEL_MESSAGE, "node %u is in sync", i);
      if (c->serving)
        qfs_scrub_compare_soon(c);
    }
  note_phase(c);
  if (c->recovery == NULL)
    qfs_view_update_blocked(c);
  c->view_dirty = TRUE;
  if (c->recovery != NULL)
    qfs_recovery_view_done(c);
  if (old.base != c->view.base || layout)
    c->base_epoch = c->view.epoch;
  if (old.in_sync != c->view.in_sync || layout) {
    c->set_after = c->last_seq;
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

guint64 qfs_view_settled_by_any(const QfsCoordinator *c, QfsNodeSet in_sync) {
  guint64 settled = c->settled;
  for (QfsNodeSet rest = in_sync; rest != 0; rest &= rest - 1)
    settled = MAX(settled, c->peer[__builtin_ctzll(rest) + 1].meta.settled);
  return settled;
}

static void send_view(QfsCoordinator *c, QfsPeer *peer) {
  QfsMessage *message = qfs_message_new(QFS_MESSAGE_VIEW, peer->index);
  message->view = g_memdup2(&c->proposal, sizeof c->proposal);
  message->ceiling = c->proposal_ceiling;
  if (qfs_set_has(c->proposal.in_sync, peer->index)) {
    message->mark = qfs_view_settled_by_any(c, c->proposal.in_sync);
    message->settled = c->settled;
  }
  qfs_rpc_send(c, peer, message, proposal_reply, proposal_ticket(c));
}

/* By a majority and by all members of S. */
static gboolean is_promised(const QfsCoordinator *c) {
  return has_proposal_majority(c, c->proposal_promised) && (c->proposal.in_sync & ~c->proposal_promised) == 0;
}

/* What the files of those show who have promised this epoch, before anybody is told of it: whoever finds the view
 * knows that a file with less is an older copy. A replica that was opened counts by a new view only, so a copy of it
 * from before is known as one from then on. */
static void remember_generations(QfsCoordinator *c) {
  for (QfsNodeSet rest = c->proposal_promised & c->proposal_believed; rest != 0; rest &= rest - 1) {
    guint i = (guint)__builtin_ctzll(rest);
    c->proposal.generation[i] = c->peer[i + 1].meta.generation = c->proposal.epoch;
  }
}

static void promise_reply(QfsCoordinator *c, QfsPeer *peer, QfsMessage *reply, gpointer data) {
  if (!of_proposal(c, peer, reply, data))
    return;
  gboolean promised = is_promised(c);
  c->proposal_promised |= QFS_NODE_BIT(peer->index);
  if (promised || !is_promised(c))
    return;
  remember_generations(c);
  for (QfsNodeSet rest = c->proposal_sent; rest != 0; rest &= rest - 1)
    send_view(c, &c->peer[__builtin_ctzll(rest) + 1]);
}

/* A node's generation is the last epoch that it promised: it only grows, so what a majority remembers is a lower
 * bound, and a file that shows less is an older copy. */
static void set_generations(QfsCoordinator *c, QfsView *view) {
  QfsNodeSet alive = qfs_peers_alive(c);
  for (guint i = 1; i <= c->n_peers; i++) {
    QfsPeer *peer = &c->peer[i];
    if (peer->evicted)
      view->left_mark[i - 1] = QFS_MARK_EVICTED;
    else if (peer->rebuild) /* also while it is closed: the damage must not be forgotten by a restart */
      view->left_mark[i - 1] = peer->filled && i <= view->nodes ? QFS_MARK_FILLING(peer->meta.wiped)
                                                                : QFS_MARK_UNUSABLE;
    if (qfs_set_has(alive, i))
      view->generation[i - 1] = peer->meta.generation;
    else /* what it stored last before it went, or in a life before this one */
      view->generation[i - 1] = MAX(view->generation[i - 1], peer->meta.generation);
  }
}

/* What is said of the nodes that are not in S. */
static void set_left_marks(QfsCoordinator *c, QfsView *view) {
  for (guint i = 1; i <= QFS_NODES_MAX; i++)
    if (qfs_set_has(c->view.in_sync & ~view->in_sync, i))
      view->left_mark[i - 1] = c->settled;
  set_generations(c, view);
  gboolean moved = view->replicas != c->view.replicas || view->nodes < c->view.nodes;
  for (guint i = 1; i <= MAX(view->nodes, c->view.nodes); i++) {
    guint64 *mark = &view->left_mark[i - 1];
    if (qfs_set_has(view->in_sync, i)) /* whatever was said of it before, now it is whole */
      *mark = c->settled;
    else if (i > c->view.nodes && i <= view->nodes) /* it is new */
      *mark = QFS_MARK_UNUSABLE;
    else if (moved && (*mark & QFS_MARK_FILLING(0)) == 0)
      *mark |= QFS_MARK_INCOMPLETE;
  }
}

static gboolean was_filled(const QfsCoordinator *c, QfsNodeSet nodes) {
  for (; nodes != 0; nodes &= nodes - 1)
    if (qfs_catchup_was_from_nothing(&c->peer[__builtin_ctzll(nodes) + 1]))
      return TRUE;
  return FALSE;
}

static void set_tidy(QfsCoordinator *c, QfsView *view) {
  gboolean whole = view->in_sync == qfs_set_all(view->nodes);
  if (has_other_layout(view, &c->view) || c->view_wants_untidy ||
      was_filled(c, view->in_sync & ~c->view.in_sync))
    view->tidy = 0; /* rows may have come to, or be left at, nodes that are not to own them */
  else if (qfs_tidy_is_done(c) && whole)
    view->tidy = QFS_TIDY_ALL;
  else if (view->tidy == QFS_TIDY_ALL && !whole)
    view->tidy = c->settled; /* others stand in from here on */
  /* A copy of a file from before its rows were removed has them again; what it was then, its own view tells. */
  for (QfsNodeSet rest = view->in_sync & ~qfs_peers_in(c, PEER_TRUSTED); rest != 0; rest &= rest - 1) {
    const QfsNodeMeta *meta = &c->peer[__builtin_ctzll(rest) + 1].meta;
    if (meta->has_view)
      view->tidy = MIN(view->tidy, meta->view.tidy);
  }
}

/* Sets under which everything is settled. */
static void drop_sets(QfsCoordinator *c, QfsView *view) {
  if (c->blocked || c->recovery != NULL || !c->view_proven)
    return;
  const gboolean all = qfs_is_settled(c);
  if (!all && c->settled < c->set_after)
    return;
  view->n_unsettled = 0;
  if (!all)
    add_set(view, (QfsViewSet){.nodes = c->view.in_sync, .replicas = c->view.replicas});
  qfs_passed_settled(c, view);
}

/* Who is above N and holds nothing that is not settled will not be asked again. */
static void dismiss(QfsCoordinator *c, QfsView *view) {
  QfsNodeSet sets = view->in_sync | view->base;
  for (guint i = 0; i < view->n_unsettled; i++)
    sets |= view->unsettled[i].nodes != 0 ? view->unsettled[i].nodes : ~G_GUINT64_CONSTANT(0);
  for (guint i = view->nodes + 1; i <= c->n_peers; i++)
    if (!qfs_set_has(sets, i))
      view->left_mark[i - 1] = QFS_MARK_UNUSABLE;
}

void qfs_view_propose(QfsCoordinator *c, QfsNodeSet in_sync, QfsNodeSet base) {
  qfs_view_propose_layout(c, in_sync, base, c->view.nodes, c->view.replicas);
}

void qfs_view_propose_layout(QfsCoordinator *c, QfsNodeSet in_sync, QfsNodeSet base, guint nodes,
                             guint replicas) {
  QfsView *view = &c->proposal;
  *view = c->view;
  view->epoch = ++c->epoch_seen;
  view->nodes = nodes;
  view->replicas = replicas;
  if (nodes != c->view.nodes)
    view->former_nodes = c->view.nodes;
  else if (c->view_proven)
    view->former_nodes = 0;
  view->in_sync = in_sync;
  view->base = base;
  set_left_marks(c, view);
  set_tidy(c, view);
  drop_sets(c, view);
  qfs_recovery_mark_view(c, view);
  add_set(view, (QfsViewSet){.nodes = in_sync, .replicas = replicas});
  dismiss(c, view);

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
  c->proposal_believed = 0;
  for (QfsNodeSet rest = c->proposal_sent; rest != 0; rest &= rest - 1) {
    QfsPeer *peer = &c->peer[__builtin_ctzll(rest) + 1];
    QfsMessage *message = qfs_message_new(QFS_MESSAGE_PROMISE, peer->index);
    message->id = view->epoch;
    message->force = !peer->rebuild; /* or an older copy would look like the newest, should the view not come through */
    if (message->force)
      c->proposal_believed |= QFS_NODE_BIT(peer->index);
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

/* S is as it should be: is there another reason for a new view? */
static gboolean has_news(QfsCoordinator *c) {
  gboolean fold = c->view.n_unsettled > 1 && !c->blocked &&
                  (qfs_is_settled(c) || c->settled >= c->set_after);
  if (c->closing)
    return fold;
  gboolean filled = FALSE;
  for (guint i = 1; i <= MIN(qfs_view_nodes(c), c->n_peers); i++)
    filled = filled || (c->peer[i].state == PEER_JOINING && c->peer[i].filled &&
                        !c->peer[i].evicted &&
                        c->view.left_mark[i - 1] != QFS_MARK_FILLING(c->peer[i].meta.wiped));
  return fold || filled || c->purge_wants_epoch || c->view_wants_untidy || qfs_tidy_is_done(c) ||
         c->view.former_nodes != 0 || qfs_resize_marks_leavers(c) || qfs_resize_introduces(c);
}

/* Another N or K, or a base that shrinks to S. */
static gboolean propose_layout(QfsCoordinator *c) {
  QfsMoveTarget target;
  if (c->closing)
    return FALSE;
  if (qfs_mover_is_done(c, &target)) {
    qfs_mover_stop(c);
    qfs_evict_strays(c);
    qfs_view_propose_layout(c, target.set, target.set, target.nodes, target.replicas);
    return TRUE;
  }
  if (!qfs_resize_grows(c))
    return FALSE;
  qfs_view_propose_layout(c, c->view.in_sync, c->view.base, c->want_nodes, qfs_replicas(c));
  return TRUE;
}

/* The view that recovery waits for can't come through: nodes that it was sent to are gone, or promised a newer one. */
static void propose_for_recovery(QfsCoordinator *c) {
  QfsNodeSet alive = qfs_peers_alive(c), hopeful = (c->proposal_sent & alive) | c->proposal_acked;
  if (c->view_stable || !has_proposal_majority(c, alive) ||
      (!c->view_stale && has_proposal_majority(c, hopeful)))
    return;
  c->view_stale = FALSE;
  qfs_view_propose(c, c->proposal.in_sync, c->proposal.base);
}

gboolean qfs_view_is_hopeful(const QfsCoordinator *c, QfsNodeSet alive) {
  QfsNodeSet hopeful = (c->proposal_sent & alive) | c->proposal_acked;
  return has_proposal_majority(c, hopeful) && (c->proposal.in_sync & ~hopeful) == 0;
}

void qfs_view_evaluate(QfsCoordinator *c) {
  if (c->recovery != NULL)
    propose_for_recovery(c);
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
    if (!c->view_stable && !qfs_view_is_hopeful(c, alive)) {
      /* The proposal can't come through: go back to the view that is known to be durable, in which those whose
       * return would make the quorum catch up. Nodes that promised the newer epoch will be proposed a newer one. */
      c->proposal_id = 0;
      c->view_stable = TRUE;
      c->view_stale = TRUE;
    }
    return;
  }
  /* A member that returned before S could do without it becomes trusted by a view, too. */
  if (c->view_stable && want == c->view.in_sync && !c->view_stale && ready == 0 &&
      qfs_evictions_are_remembered(c)) {
    if (propose_layout(c) || !has_news(c))
      return;
  } else if (!c->view_stable && c->proposal.epoch == c->epoch_seen &&
             (want == c->proposal.in_sync ||
              (has_other_layout(&c->proposal, &c->view) && (c->proposal.in_sync & ~want) == 0)) &&
             qfs_view_is_hopeful(c, alive)) {
    return; /* on its way */
  }
  c->view_stale = FALSE;
  qfs_view_propose(c, want, c->view.base | want);
}
