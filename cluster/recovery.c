/* recovery.c - start of the store, and the return from losing too many trusted nodes at once.
 *
 * From the newest view that a majority remembers: every member of its S that opened becomes a member of a
 * new epoch's S; then all operations past the settled mark that any node holds are completed on all
 * holders, before anybody counts as in sync. Keys of which too few holders were seen stay blocked.
 *
 * When the members of S that opened are too few, others may help: unite.c.
 *
 * A start that has accounted for everything, but not met all nodes, makes what it found durable and puts a mark into the
 * view: of what is below it only what members of S have counts from then on. While keys are blocked the mark is for the
 * others: passed.c.
 *
 * A node that has a record has all its chunk rows that are not settled (flight.c), or they are on stable storage at W
 * others (moved_chunks.c). So every row that a winning
 * record owns is found, and goes to all holders before the record does. Rows that no winner owns are left
 * where they are: no later version can take them for its own (reclaim.c removes them).
 */
#include "cluster/recovery.h"

#include <string.h>

QfsRecoveryStep *qfs_recovery_step(QfsRecovery *r, guint node) {
  QfsRecoveryStep *step = g_new0(QfsRecoveryStep, 1);
  step->generation = r->generation;
  step->node = node;
  return step;
}

gboolean qfs_recovery_is_current(QfsCoordinator *c, const QfsRecoveryStep *step) {
  return c->recovery != NULL && c->recovery->generation == step->generation;
}

void qfs_recovery_free(QfsCoordinator *c) {
  QfsRecovery *r = c->recovery;
  if (r == NULL)
    return;
  c->recovery = NULL;
  c->seen = r->seen_before;
  g_hash_table_unref(r->records);
  g_hash_table_unref(r->guests);
  g_hash_table_unref(r->winners);
  g_hash_table_unref(r->chunks);
  g_hash_table_unref(r->intents);
  g_clear_pointer(&r->todo_records, g_ptr_array_unref);
  g_clear_pointer(&r->todo_chunks, g_ptr_array_unref);
  g_free(r);
}

/* ---- which view ---- */

static gboolean somebody_opens(QfsCoordinator *c) {
  gint64 now = c->env->now_us(c->env), patience = (gint64)c->config.timeout_ms * 1000;
  for (guint i = 1; i <= c->n_peers; i++)
    if (c->peer[i].state == PEER_OPENING && now - c->peer[i].opening_since_us < patience) {
      qfs_wake_at(c, c->peer[i].opening_since_us + patience);
      return TRUE;
    }
  return FALSE;
}

static void adopt_view(QfsCoordinator *c, const QfsView *view) {
  c->view = *view;
  c->view_known = c->view_stable = TRUE;
  c->view_proven = FALSE;
  guint64 ceiling = 0;
  for (guint i = 1; i <= c->n_peers; i++) {
    QfsPeer *peer = &c->peer[i];
    peer->evicted = peer->evicted || (!qfs_set_has(view->in_sync, i) &&
                                      view->left_mark[i - 1] == QFS_MARK_EVICTED);
    if (peer->state != PEER_KNOWN || !peer->meta.has_view)
      continue;
    ceiling = MAX(ceiling, peer->meta.ceiling);
    if (qfs_set_has(view->in_sync, i) && !peer->evicted) /* others may know of times that this view's members do not */
      c->settled = MAX(c->settled, peer->meta.settled);
  }
  c->settled_told = c->settled;
  c->last_seq = MAX(c->last_seq, c->settled);
  qfs_clock_init(&c->clock, c->config.coordinator_id, ceiling, ceiling);
  for (guint i = 1; i <= c->n_peers; i++) {
    QfsPeer *peer = &c->peer[i];
    if (peer->state == PEER_KNOWN)
      qfs_peer_judge(c, peer);
  }
}

static gboolean choose_new_store(QfsCoordinator *c) {
  for (guint i = 1; i <= c->n_peers; i++)
    if (c->peer[i].state != PEER_KNOWN || c->peer[i].meta.has_view)
      return FALSE;
  QfsView view = {.nodes = c->config.nodes, .replicas = c->config.replicas};
  view.in_sync = view.base = qfs_set_all(view.nodes);
  view.tidy = QFS_TIDY_ALL;
  g_strlcpy(view.store, c->config.store, sizeof view.store);
  adopt_view(c, &view);
  for (guint i = 1; i <= c->n_peers; i++)
    c->peer[i].rebuild = FALSE;
  return TRUE;
}

static gboolean choose_view(QfsCoordinator *c) {
  if (c->config.create && choose_new_store(c))
    return TRUE;
  QfsNodeSet remember = qfs_evicted(c); /* as if they had answered: what they alone know is given up */
  const QfsView *newest = NULL;
  for (guint i = 1; i <= c->n_peers; i++) {
    QfsPeer *peer = &c->peer[i];
    if (peer->state != PEER_KNOWN || !peer->meta.has_view || peer->evicted)
      continue;
    remember |= QFS_NODE_BIT(i);
    if (newest == NULL || peer->meta.view.epoch > newest->epoch)
      newest = &peer->meta.view;
  }
  if (newest == NULL || !qfs_view_is_majority(newest, remember))
    return FALSE;
  /* Not before: a node that was away since the store had more nodes may be the first to answer. */
  if (newest->nodes > c->n_peers) {
    c->failure = g_strdup_printf("it has %u nodes, and the places of only %u are known", newest->nodes,
                                 c->n_peers);
    return FALSE;
  }
  adopt_view(c, newest);
  return TRUE;
}

gboolean qfs_recovery_reply_ok(QfsCoordinator *c, QfsPeer *peer, QfsMessage *reply, QfsRecoveryStep *step) {
  return reply != NULL && qfs_recovery_is_current(c, step) && qfs_peer_reply_ok(c, peer, reply) &&
         qfs_recovery_is_current(c, step);
}

void qfs_recovery_end(QfsCoordinator *c) {
  QfsRecovery *r = c->recovery;
  for (guint i = 1; i <= c->n_peers; i++)
    if (qfs_set_has(r->members, i)) {
      c->peer[i].state = PEER_TRUSTED;
      c->peer[i].retries = 0;
      c->peer[i].trusted_since_us = c->env->now_us(c->env);
    }
  if (r->todo_records->len > 0 || r->todo_chunks->len > 0) {
    qfs_reclaim_want(c);
    qfs_log(c, G_LOG_LEVEL_MESSAGE, "recovered %u records and %u chunks written before the last stop",
            r->todo_records->len, r->todo_chunks->len);
  }
  r->seen_before = c->seen;
  if (r->unites)
    qfs_view_begin_phase(c); /* whatever was before, the members have what the others missed */
  qfs_recovery_free(c);
  c->serving = TRUE;
  c->set_after = c->last_seq; /* what was found is one with what comes */
  c->view_dirty = TRUE;
  qfs_settle_dirty(c);
}

/* ---- the mark ---- */

/* May a node that was not seen have something of an earlier life? Removing an intent is not durable at once. */
static gboolean may_return(const QfsCoordinator *c) {
  const QfsRecovery *r = c->recovery;
  return g_hash_table_size(r->intents) > 0 || (qfs_set_all(c->n_peers) & ~r->scanned) != 0;
}

void qfs_recovery_mark_view(const QfsCoordinator *c, QfsView *view) {
  const QfsRecovery *r = c->recovery;
  if (r == NULL || !r->marking)
    return;
  if (r->marks_all) {
    view->void_below = QFS_SEQ(c->first_epoch, 0);
    view->n_passed = 0;
  } else {
    qfs_passed_note(c, view);
  }
}

static void made_durable(QfsCoordinator *c, QfsPeer *peer, QfsMessage *reply, gpointer data) {
  g_autofree QfsRecoveryStep *step = data;
  if (qfs_recovery_reply_ok(c, peer, reply, step) && --c->recovery->left == 0)
    qfs_view_propose(c, c->recovery->members, c->view.base);
}

/* Whatever was acknowledged before this life of keys that are not blocked was seen, and is at all holders, now on stable
 * storage. What else comes to light of that time is void, whether its keys are written again before that or not, and part of it may be undone by
 * then (catchup.c). The view says so before anything is served. */
void qfs_recovery_mark(QfsCoordinator *c) {
  QfsRecovery *r = c->recovery;
  r->marks_all = !c->blocked;
  r->marking = c->blocked || (may_return(c) && c->view.void_below < QFS_SEQ(c->first_epoch, 0));
  if (!r->marking) {
    qfs_recovery_remove_intents(c);
    return;
  }
  r->left = qfs_set_size(r->members);
  for (QfsNodeSet rest = r->members; rest != 0; rest &= rest - 1) {
    QfsPeer *peer = &c->peer[__builtin_ctzll(rest) + 1];
    qfs_rpc_send(c, peer, qfs_message_new(QFS_MESSAGE_SYNC, peer->index), made_durable, qfs_recovery_step(r, peer->index));
  }
}

/* ---- beginning ---- */

void qfs_recovery_view_done(QfsCoordinator *c) {
  QfsRecovery *r = c->recovery;
  if (r->marking) {
    r->marking = FALSE;
    qfs_recovery_remove_intents(c);
    return;
  }
  for (guint i = 1; i <= c->n_peers; i++)
    if (qfs_set_has(r->members, i))
      c->peer[i].state = PEER_JOINING;
  for (guint i = 1; i <= c->n_peers; i++) {
    gboolean known = c->peer[i].state == PEER_KNOWN && !c->peer[i].rebuild;
    if (qfs_set_has(r->members, i) || known)
      r->scanned |= QFS_NODE_BIT(i);
  }
  g_assert((r->relied & ~r->scanned) == 0);
  r->left = qfs_set_size(r->scanned);
  for (guint i = 1; i <= c->n_peers; i++)
    if (qfs_set_has(r->scanned, i))
      qfs_recovery_scan_records(c, &c->peer[i], r->from, NULL);
}

/* A node came or went while recovering: begin again with those that are there now. */
void qfs_recovery_peer_changed(QfsCoordinator *c, QfsPeer *peer) {
  QfsRecovery *r = c->recovery;
  if (r == NULL || !qfs_set_has(r->members | r->scanned | r->relied, peer->index))
    return;
  for (guint i = 1; i <= c->n_peers; i++)
    if (c->peer[i].state == PEER_JOINING && qfs_set_has(r->members, i))
      c->peer[i].state = PEER_KNOWN;
  qfs_recovery_free(c);
  qfs_view_update_blocked(c);
  c->proposal_id = 0;
  c->view_stable = TRUE;
  c->view_stale = TRUE;
  c->view_dirty = TRUE;
}

static void recovery_start(QfsCoordinator *c, QfsNodeSet members, guint64 from) {
  static guint64 generations; /* only compared for equality */
  qfs_catchup_restart_all(c); /* afterwards: nobody is trusted meanwhile */
  QfsRecovery *r = g_new0(QfsRecovery, 1);
  r->generation = ++generations;
  r->members = members;
  r->from = from;
  r->void_below = c->view.void_below;
  r->seen_before = c->seen;
  qfs_recovery_init_rows(r);
  qfs_recovery_init_batches(r);
  c->recovery = r;
  c->recover_again = FALSE;
  c->view_stale = FALSE; /* the one proposed now is newer than whatever was promised */
  c->quorum = FALSE;
  qfs_writes_uncertain(c);
  qfs_view_propose(c, members, c->view.base);
}

gboolean qfs_recovery_somebody_unseen(const QfsCoordinator *c) {
  for (guint i = 1; c->blocked && i <= c->n_peers; i++)
    if (c->peer[i].state == PEER_KNOWN && !c->peer[i].rebuild && !qfs_set_has(c->seen, i))
      return TRUE;
  return FALSE;
}

static void unite(QfsCoordinator *c, QfsNodeSet members) {
  QfsNodeSet begin = qfs_unite_begin(c, members);
  qfs_log(c, G_LOG_LEVEL_WARNING,
          "too many in-sync nodes are missing, but what they have is at others: these are united");
  recovery_start(c, begin, qfs_unite_from(c));
  c->recovery->unites = TRUE;
  c->recovery->voids_count = !qfs_unite_has_all(c);
  c->recovery->relied = qfs_unite_present(c);
}

gboolean qfs_recovery_unites(const QfsCoordinator *c) {
  return c->recovery != NULL && c->recovery->unites;
}

void qfs_recovery_consider(QfsCoordinator *c) {
  if (c->recovery != NULL || c->failure != NULL || c->closing)
    return;
  if (!c->view_known && (somebody_opens(c) || !choose_view(c)))
    return;
  QfsNodeSet trusted = qfs_peers_in(c, PEER_TRUSTED);
  if (c->serving && qfs_view_allows(c, trusted) && !qfs_recovery_somebody_unseen(c) && !c->recover_again)
    return;
  if (somebody_opens(c) || !qfs_view_has_majority(c, qfs_peers_alive(c)))
    return;
  QfsNodeSet members = qfs_members_present(c);
  if (qfs_view_allows(c, members))
    recovery_start(c, members, c->settled);
  else if (qfs_unite_may(c, members))
    unite(c, members);
  else
    qfs_unite_tell(c);
}
