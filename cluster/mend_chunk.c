/* mend_chunk.c - one chunk row that does not match its checksum, or that some holder has lost: replaced by another
 * holder's.
 *
 * A row never changes: object, index and version name it for good. So no lock is needed, and any copy that matches its
 * checksum is the right one. A bad row that no other holder has goes, if nothing is on its way to them: nobody was
 * promised it; unless a record is known to have it.
 *
 * Is a missing one given back that has been replaced since it was looked for, it is hidden by the newer one, and
 * garbage (reclaim.c). No other version comes to read it: its number is in spans of this object, and objects that are
 * gone never return.
 */
#include "cluster/private.h"

typedef struct {
  gboolean bad;
  guint64 print;
  gboolean lacks;
} Found;

typedef struct {
  QfsMend *mend;
  guint64 epoch;
  QfsNodeSet holders, asked;
  guint left;
  gboolean failed;
  QfsChunk *copy;        /* NULL: no good one was found */
  Found at[QFS_NODES_MAX + 1];
} Work;

static void over(QfsCoordinator *c, Work *work, QfsStatus status) {
  QfsMend *mend = work->mend;
  qfs_chunk_free(work->copy);
  g_free(work);
  qfs_mend_over(c, mend, status);
}

static gboolean may_mend(QfsCoordinator *c) {
  return qfs_can_write(c) && !c->view_dirty && !c->closing && c->purge == NULL;
}

/* Is every row that anybody was promised at all holders? */
static gboolean is_at_rest(QfsCoordinator *c, const Work *work) {
  const QfsObject *object = qfs_object_find(c, work->mend->chunk.object);
  return qfs_is_settled(c) && (object == NULL || object->flights->len == 0) && c->open_ops.length == 0;
}

static void fixed(QfsCoordinator *c, QfsPeer *peer, QfsMessage *reply, gpointer data) {
  Work *work = data;
  if (reply != NULL && qfs_peer_reply_ok(c, peer, reply))
    c->stat.mended_chunks += reply->more;
  else
    work->failed = TRUE;
  if (--work->left > 0)
    return;
  over(c, work, work->failed ? QFS_NO_QUORUM : QFS_OK);
}

static gboolean is_missing(const Work *work, guint node) {
  return work->mend->missing && work->copy != NULL && work->at[node].lacks && qfs_set_has(work->holders, node);
}

static void fix(QfsCoordinator *c, Work *work) {
  work->left = 1; /* until all are sent */
  for (QfsNodeSet rest = work->asked; rest != 0; rest &= rest - 1) {
    guint node = (guint)__builtin_ctzll(rest) + 1;
    if (!work->at[node].bad && !is_missing(work, node))
      continue;
    if (!work->at[node].bad)
      qfs_reclaim_want(c); /* should it be garbage by now */
    QfsMessage *message = qfs_message_new(QFS_MESSAGE_MEND, node);
    message->print = work->at[node].print;
    message->durable = TRUE;
    message->chunks = qfs_chunks_new();
    g_ptr_array_add(message->chunks, qfs_chunk_copy(work->copy != NULL ? work->copy : &work->mend->chunk));
    work->left++;
    qfs_rpc_send(c, &c->peer[node], message, fixed, work);
  }
  if (--work->left == 0)
    over(c, work, QFS_OK);
}

static void check_subjects(QfsCoordinator *c, const Work *work) {
  for (QfsNodeSet rest = work->mend->reported & work->asked; rest != 0; rest &= rest - 1) {
    QfsPeer *peer = &c->peer[__builtin_ctzll(rest) + 1];
    if (work->at[peer->index].lacks)
      qfs_mend_unreachable(c, peer);
  }
}

static void all_inspected(QfsCoordinator *c, Work *work) {
  guint n_lack = 0, n_bad = 0;
  if (work->failed || work->epoch != c->view.epoch || !may_mend(c)) {
    over(c, work, QFS_NO_QUORUM);
    return;
  }
  for (QfsNodeSet rest = work->asked; rest != 0; rest &= rest - 1) {
    const guint node = (guint)__builtin_ctzll(rest) + 1;
    n_bad += work->at[node].bad;
    n_lack += work->at[node].lacks && qfs_set_has(work->holders, node);
  }
  if (n_bad == 0)
    check_subjects(c, work);
  if (work->copy != NULL) {
    fix(c, work);
  } else if (n_bad == 0) {
    over(c, work, QFS_OK);
  } else if (n_lack == 0 || work->mend->missing) {
    over(c, work, QFS_IO);
  } else if (is_at_rest(c, work)) {
    fix(c, work);
  } else {
    over(c, work, QFS_NO_QUORUM);
  }
}

static void inspected(QfsCoordinator *c, QfsPeer *peer, QfsMessage *reply, gpointer data) {
  Work *work = data;
  if (reply != NULL && qfs_peer_reply_ok(c, peer, reply)) {
    Found *found = &work->at[peer->index];
    const QfsChunk *chunk =
        reply->chunks != NULL && reply->chunks->len > 0 ? reply->chunks->pdata[0] : NULL;
    found->bad = reply->bad != NULL;
    found->print = reply->print;
    found->lacks = !found->bad && chunk == NULL;
    if (chunk != NULL && work->copy == NULL)
      work->copy = qfs_chunk_copy(chunk);
  } else {
    work->failed = TRUE;
  }
  if (--work->left == 0)
    all_inspected(c, work);
}

void qfs_mend_chunk_start(QfsCoordinator *c, QfsMend *mend) {
  Work *work = g_new0(Work, 1);
  work->mend = mend;
  work->epoch = c->view.epoch;
  work->holders = qfs_readable(c, mend->chunk.object.placement);
  work->asked = work->holders | (mend->subjects & qfs_peers_alive(c));
  work->left = qfs_set_size(work->asked);
  for (QfsNodeSet rest = work->asked; rest != 0; rest &= rest - 1) {
    guint node = (guint)__builtin_ctzll(rest) + 1;
    QfsMessage *message = qfs_message_new(QFS_MESSAGE_INSPECT, node);
    message->chunks = qfs_chunks_new();
    g_ptr_array_add(message->chunks, qfs_chunk_copy(&mend->chunk));
    qfs_rpc_send(c, &c->peer[node], message, inspected, work);
  }
}
