/* patience.c - requests that the clock would fail while silent nodes are being given up.
 *
 * When a minority falls silent the others go on in another view. On a busy machine they are slow, too: the silence is
 * taken for what it is late, the view takes its time, and what would succeed under it reaches its deadline in the middle of
 * that. Such a request is given more time, step by step, up to as much again as it had, while those whom the view takes
 * answer. Cut off from a majority there is no such view: requests end at their deadlines, and new ones at once as soon as
 * the silence is known.
 */
#include "cluster/private.h"

static gint64 timeout_us(const QfsCoordinator *c) { return (gint64)c->config.timeout_ms * 1000; }

static gint64 step_us(const QfsCoordinator *c) { return timeout_us(c) / 10; }

/* Nodes that answer, if only late. */
static QfsNodeSet heard_nodes(const QfsCoordinator *c, gint64 now_us) {
  QfsNodeSet heard = qfs_rpc_answering(c, now_us);
  for (guint i = 1; i <= c->n_peers; i++)
    if (now_us - c->peer[i].heard_us < qfs_rpc_patience_us(c))
      heard |= QFS_NODE_BIT(i);
  return heard & qfs_peers_alive(c);
}

/* S changes, is to change, or has just changed, and those who are to be in it answer. */
static gboolean is_passing(const QfsCoordinator *c, gint64 now_us) {
  if (!c->serving || c->recovery != NULL || c->closing || !c->quorum)
    return FALSE;
  QfsNodeSet heard = heard_nodes(c, now_us);
  if (!c->view_stable)
    return qfs_view_is_hopeful(c, heard);
  gint64 patience_us = qfs_rpc_patience_us(c);
  gboolean news = now_us - c->view_changed_us < patience_us || qfs_peers_silent_for(c, patience_us, now_us) != 0;
  return news && qfs_rpc_suffice(c, heard);
}

gint64 qfs_op_later_us(const QfsCoordinator *c, QfsOp *op, gint64 now_us) {
  if (op->request->type == QFS_REQUEST_NODE) /* has time enough for all that */
    return 0;
  if (op->last_us == 0)
    op->last_us = op->deadline_us + timeout_us(c);
  if (now_us >= op->last_us || !is_passing(c, now_us))
    return 0;
  return MIN(now_us + step_us(c), op->last_us);
}

/* Not those without whom the others will go on, and not for who came before that was known: the node may be slow only, and
 * until the deadline there is time. */
QfsNodeSet qfs_op_given_up(const QfsCoordinator *c, const QfsOp *op, QfsNodeSet silent) {
  if (qfs_rpc_suffice(c, ~silent))
    return 0;
  return silent & qfs_peers_silent_for(c, qfs_rpc_silence_us(c), op->began_us);
}
