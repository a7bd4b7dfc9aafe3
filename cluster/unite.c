/* unite.c - the in-sync nodes are too few to go on with, and others have what is missing.
 *
 * S has so few members left that some keys have no holder that is whole (qfs_view_allows). But every acknowledged
 * version was at W nodes or more at any time. So if fewer than W of all nodes are missing, or all that are were
 * evicted, somebody who is there has it: stragglers, who left S, have what was settled then, and what came since
 * is found wherever it is. Recovery then looks not above the settled mark, but above the least mark at which a
 * node left (U1), and completes all that at the members of S. After that these have what the stragglers missed,
 * who catch up as ever, and a view with both is possible. Cost: proportional to what was missed.
 *
 * Where S is smaller than W only its members show by their marks that they have what was settled; a straggler that
 * had it, too, may be an older copy by now. So all but one of S may be missing then, and none where it was one node.
 *
 * U1. Also a node that is still away: what it missed is at the members then, whatever the sets were in between.
 * U2. A straggler is in no S before it has caught up: a crash finds the same as before. When no member is left
 *     one must begin all the same. The view that says so says, too, that any W nodes may hide what nobody else
 *     has: without enough of them all keys are blocked; and what it calls settled is nothing newer than U1.
 * U3. A straggler may have what an earlier start did without (recovery_batches.c), which by its number looks like what was
 *     settled before that start. Up to the mark at which the straggler left it is that. Above, nobody needs its row: that
 *     start had found everything acknowledged and given it new numbers, or it was settled by then, at all K holders. At
 *     W - 1 of those a void version may have taken its place, and some are missing: while one of K is left nothing is
 *     lost by leaving out what is void. Else (K is even, or nodes were evicted) it may be all that is left, and counts.
 */
#include "cluster/private.h"

static gboolean is_plain(guint64 mark) {
  return mark < QFS_MARK_INCOMPLETE;
}

QfsNodeSet qfs_unite_present(const QfsCoordinator *c) {
  QfsNodeSet set = qfs_peers_in(c, PEER_TRUSTED);
  for (guint i = 1; i <= c->n_peers; i++)
    if ((c->peer[i].state == PEER_KNOWN || c->peer[i].state == PEER_JOINING) && !c->peer[i].rebuild)
      set |= QFS_NODE_BIT(i);
  return set;
}

QfsNodeSet qfs_members_present(const QfsCoordinator *c) {
  return qfs_unite_present(c) & c->view.in_sync;
}

static QfsNodeSet stragglers(const QfsCoordinator *c) {
  QfsNodeSet set = qfs_unite_present(c) & c->view.base & ~c->view.in_sync;
  for (QfsNodeSet rest = set; rest != 0; rest &= rest - 1) {
    guint node = (guint)__builtin_ctzll(rest) + 1;
    if (!is_plain(c->view.left_mark[node - 1]))
      set &= ~QFS_NODE_BIT(node);
  }
  return set;
}

guint64 qfs_unite_from(const QfsCoordinator *c) {
  guint64 from = c->settled;
  for (guint i = 1; i <= qfs_view_nodes(c); i++)
    if (!qfs_set_has(c->view.in_sync, i) && is_plain(c->view.left_mark[i - 1]))
      from = MIN(from, c->view.left_mark[i - 1]);
  return from;
}

guint64 qfs_unite_settled_at(const QfsCoordinator *c, guint node) {
  const guint64 mark = c->view.left_mark[node - 1] & ~QFS_MARK_INCOMPLETE;
  return is_plain(mark) ? mark : 0;
}

/* Nodes that may have what nobody has who is there. Whoever was never in S since B was made has nothing of that. */
static QfsNodeSet missing_nodes(const QfsCoordinator *c) {
  QfsNodeSet may_have = c->view.base | c->view.in_sync;
  for (guint i = 0; i < c->view.n_unsettled; i++)
    may_have |= qfs_view_unsettled(c, i).nodes;
  return qfs_view_all(c) & may_have & ~qfs_unite_present(c);
}

gboolean qfs_unite_may(const QfsCoordinator *c, QfsNodeSet members) {
  gboolean helped = c->serving && !qfs_recovery_somebody_unseen(c) && qfs_catchup_may_complete(c);
  if (helped || !qfs_view_allows(c, members | stragglers(c)))
    return FALSE;
  QfsNodeSet missing = missing_nodes(c);
  guint copies = MIN(qfs_write_quorum(qfs_replicas(c)), qfs_set_size(c->view.in_sync));
  return qfs_set_size(missing) < copies || qfs_is_given_up(c, missing);
}

gboolean qfs_unite_has_all(const QfsCoordinator *c) {
  const guint replicas = qfs_replicas(c);
  return qfs_set_size(missing_nodes(c)) + qfs_write_quorum(replicas) <= replicas;
}

/* Who left last. */
static QfsNodeSet latest(const QfsCoordinator *c, QfsNodeSet nodes) {
  guint best = 0;
  for (; nodes != 0; nodes &= nodes - 1) {
    guint node = (guint)__builtin_ctzll(nodes) + 1;
    if (best == 0 || c->view.left_mark[node - 1] > c->view.left_mark[best - 1])
      best = node;
  }
  return QFS_NODE_BIT(best);
}

QfsNodeSet qfs_unite_begin(QfsCoordinator *c, QfsNodeSet members) {
  if (members != 0)
    return members;
  c->settled = c->settled_told = qfs_unite_from(c);
  qfs_view_suspect_all(c);
  return latest(c, stragglers(c));
}

/* ---- what is waited for ---- */

static gboolean somebody_opens(const QfsCoordinator *c) {
  gint64 since_us = c->env->now_us(c->env) - (gint64)c->config.timeout_ms * 1000;
  for (guint i = 1; i <= c->n_peers; i++)
    if (c->peer[i].state == PEER_OPENING && c->peer[i].opening_since_us > since_us)
      return TRUE;
  return FALSE;
}

/* Before a view is known a majority must tell of one. */
static QfsNodeSet silent_about_view(const QfsCoordinator *c) {
  QfsNodeSet set = qfs_set_all(c->n_peers) & ~qfs_unite_present(c);
  for (guint i = 1; i <= c->n_peers; i++)
    if (!c->peer[i].meta.has_view)
      set |= QFS_NODE_BIT(i);
  return set;
}

QfsNodeSet qfs_coordinator_waits_for(const QfsCoordinator *c) {
  QfsNodeSet wanted = 0;
  if (c->closing || c->failure != NULL || c->recovery != NULL || somebody_opens(c))
    return 0;
  if (c->view_known && c->blocked)
    wanted = qfs_view_hidden(c) & ~qfs_unite_present(c) & ~qfs_evicted(c);
  if (wanted != 0)
    return wanted;
  if (!c->view_known)
    wanted = silent_about_view(c);
  else if (qfs_view_allows(c, qfs_members_present(c)) || qfs_catchup_may_complete(c) ||
           qfs_unite_may(c, qfs_members_present(c)))
    return 0;
  else
    wanted = missing_nodes(c);
  return wanted & ~qfs_evicted(c);
}

char *qfs_waits_for_text(const QfsCoordinator *c) {
  QfsNodeSet nodes = qfs_coordinator_waits_for(c);
  if (nodes == 0)
    return NULL;
  GString *text = g_string_new(qfs_set_size(nodes) > 1 ? "nodes" : "node");
  for (; nodes != 0; nodes &= nodes - 1)
    g_string_append_printf(text, " %u", (guint)__builtin_ctzll(nodes) + 1);
  return g_string_free(text, FALSE);
}

void qfs_unite_tell(QfsCoordinator *c) {
  QfsNodeSet nodes = qfs_coordinator_waits_for(c);
  if (nodes == c->waits_told)
    return;
  c->waits_told = nodes;
  g_autofree char *text = qfs_waits_for_text(c);
  if (text != NULL)
    qfs_log(c, G_LOG_LEVEL_WARNING,
            "too many in-sync nodes are missing: waits for %s, with their files, or to be evicted", text);
}
