/* mend_known.c - a bad record of a key about which something is under way: replaced by the newest acknowledged version,
 * which is in memory.
 *
 * The key's lock is not waited for (mend.c), nor what is in flight: a write can't be compared with a bad row, the node
 * refuses it, and where W needs that node the write waits for the row. What is in flight goes to the node after that;
 * also what it had acknowledged of it, for the row that is replaced may have been that.
 */
#include "cluster/private.h"

typedef struct {
  gboolean bad, absent;
  guint64 print;
} Found;

typedef struct {
  QfsMend *mend;
  QfsKey *key;
  guint64 epoch;
  QfsNodeSet asked;
  guint left;
  gboolean failed;
  Found at[QFS_NODES_MAX + 1];
} Work;

gboolean qfs_mend_is_known(QfsCoordinator *c, const QfsMend *mend) {
  const QfsKey *key = mend->key != NULL && mend->reported != 0 ? qfs_key_find(c, mend->key) : NULL;
  return key != NULL && key->have_base;
}

static void over(QfsCoordinator *c, Work *work, QfsStatus status) {
  QfsMend *mend = work->mend;
  if (status == QFS_OK) {
    mend->reported &= ~work->asked;
    mend->subjects &= ~work->asked;
    if ((mend->subjects & qfs_peers_alive(c)) != 0)
      status = QFS_NO_QUORUM; /* these differ, or so it seemed: looked at when nothing is under way */
  }
  qfs_key_bump(c, work->key->hash);
  qfs_mend_over(c, mend, status);
  qfs_key_done(c, work->key);
  g_free(work);
  qfs_flights_dispatch(c); /* what the bad row had refused, and what it may have been */
}

static void fixed(QfsCoordinator *c, QfsPeer *peer, QfsMessage *reply, gpointer data) {
  Work *work = data;
  if (reply != NULL && qfs_peer_reply_ok(c, peer, reply) && reply->more)
    c->stat.mended_records++;
  else
    work->failed = TRUE; /* or the row is another one now: looked at again */
  if (--work->left == 0)
    over(c, work, work->failed ? QFS_NO_QUORUM : QFS_OK);
}

static void mend_at(QfsCoordinator *c, Work *work, guint node) {
  const QfsKey *key = work->key;
  const QfsNodeSet bit = QFS_NODE_BIT(node);
  QfsMessage *message = qfs_message_new(QFS_MESSAGE_MEND, node);
  message->key = g_strdup(key->key);
  message->print = work->at[node].print;
  message->durable = TRUE;
  message->records = qfs_records_new();
  if (key->acked != NULL && (qfs_placement_holders(key->hash, c->view.in_sync | bit, qfs_replicas(c)) & bit) != 0)
    g_ptr_array_add(message->records, qfs_record_ref(key->acked));
  qfs_flights_lost_row(c, key, node);
  work->left++;
  qfs_rpc_send(c, &c->peer[node], message, fixed, work);
}

static void all_inspected(QfsCoordinator *c, Work *work) {
  if (work->failed || work->epoch != c->view.epoch || !qfs_can_write(c) || c->view_dirty || c->closing ||
      c->purge != NULL || qfs_is_blocked(c, work->key->hash)) {
    over(c, work, QFS_NO_QUORUM);
    return;
  }
  const QfsRecord *acked = work->key->acked;
  QfsNodeSet lack = acked != NULL ? qfs_lack(c, acked) : 0;
  work->left = 1; /* until all are sent */
  for (QfsNodeSet rest = work->asked; rest != 0; rest &= rest - 1) {
    QfsPeer *peer = &c->peer[__builtin_ctzll(rest) + 1];
    const Found *found = &work->at[peer->index];
    if (found->bad && qfs_set_has(lack, peer->index))
      work->failed = TRUE; /* they are on their way */
    else if (found->bad)
      mend_at(c, work, peer->index);
    else if (found->absent)
      qfs_mend_unreachable(c, peer);
  }
  if (--work->left == 0)
    over(c, work, work->failed ? QFS_NO_QUORUM : QFS_OK);
}

static void inspected(QfsCoordinator *c, QfsPeer *peer, QfsMessage *reply, gpointer data) {
  Work *work = data;
  if (reply != NULL && qfs_peer_reply_ok(c, peer, reply)) {
    Found *found = &work->at[peer->index];
    found->bad = reply->bad != NULL;
    found->print = reply->print;
    found->absent = !found->bad && (reply->records == NULL || reply->records->len == 0);
  } else {
    work->failed = TRUE;
  }
  if (--work->left == 0)
    all_inspected(c, work);
}

void qfs_mend_known_start(QfsCoordinator *c, QfsMend *mend) {
  Work *work = g_new0(Work, 1);
  work->mend = mend;
  work->key = qfs_key_use(c, mend->key);
  work->epoch = c->view.epoch;
  work->asked = mend->reported & qfs_peers_alive(c);
  work->left = qfs_set_size(work->asked);
  if (work->left == 0) {
    over(c, work, QFS_NO_QUORUM);
    return;
  }
  for (QfsNodeSet rest = work->asked; rest != 0; rest &= rest - 1) {
    guint node = (guint)__builtin_ctzll(rest) + 1;
    QfsMessage *message = qfs_message_new(QFS_MESSAGE_INSPECT, node);
    message->key = g_strdup(mend->key);
    qfs_rpc_send(c, &c->peer[node], message, inspected, work);
  }
}
