/* mend.c - one key is made the same at all its holders: rows that do not match their checksum, and differences.
 *
 * Under the key's lock, so that no write of it is planned meanwhile, the in-sync holders are asked what they hold.
 * What should be there is decided by what they answer:
 *
 *   - what was written since the settled mark is on its way to all of them, or was recovered: the newest one wins;
 *   - below the mark every holder has had it on stable storage. The newest version wins that is not lacked by
 *     more than half of the holders; a row that can't be read counts as one that does not lack it, for something
 *     is stored there. So neither a row that was lost nor one that came back out of nothing spreads.
 *
 * Then every holder is brought to that. A bad row is replaced only if it is still the one that was looked at
 * (storage/bad_row.c); older rows are replaced by the usual rule; what more than half lack goes. All that is
 * durable before it counts: the settled mark promises it already.
 *
 * Who meets a bad row goes on elsewhere, or begins again; a row for which there is no good copy stays as it is,
 * and its reader gets an error, for what it says is not known to be superseded. Too many bad rows at a node, and
 * it is rebuilt as a whole.
 */
#include "cluster/private.h"

#include <string.h>

/* Keys that are being mended at once. */
#define RUNNING_MAX 4
/* A node with more bad rows than this since it was opened is rebuilt. */
#define BAD_ROWS_MAX 1000
#define RETRY_FIRST_US (20 * 1000)
#define RETRY_MAX_US (1000 * 1000)

typedef struct {
  gboolean bad;
  guint64 print;
  QfsRecord *record;     /* NULL: no row */
} Found;

typedef struct {
  QfsMend *mend;         /* NULL: it is over */
  guint64 epoch;
  QfsNodeSet holders, asked, changed;
  guint left;
  gboolean failed;
  Found at[QFS_NODES_MAX + 1];
} Work;

static void work_free(gpointer data) {
  Work *work = data;
  for (guint i = 0; i <= QFS_NODES_MAX; i++)
    qfs_record_unref(work->at[i].record);
  g_free(work);
}

static void mend_free(QfsMend *mend) {
  g_free(mend->key);
  g_free(mend);
}

void qfs_mends_clear(QfsCoordinator *c) {
  while (c->mends.head != NULL)
    mend_free(g_queue_pop_head(&c->mends));
}

/* ---- what should be there ---- */

static guint lacking(const Work *work, const QfsRecord *version) {
  guint n = 0;
  for (QfsNodeSet rest = work->holders; rest != 0; rest &= rest - 1) {
    const Found *found = &work->at[__builtin_ctzll(rest) + 1];
    n += !found->bad && qfs_record_compare(found->record, version) < 0;
  }
  return n;
}

/* FALSE: nobody has anything that can be read. *out_winner (borrowed) NULL: no row. */
static gboolean decide(QfsCoordinator *c, const Work *work, QfsRecord **out_winner) {
  const guint n = qfs_set_size(work->holders);
  gboolean readable = FALSE;
  QfsRecord *winner = NULL;
  for (QfsNodeSet rest = work->holders; rest != 0; rest &= rest - 1) {
    const Found *found = &work->at[__builtin_ctzll(rest) + 1];
    readable = readable || !found->bad;
    if (found->record == NULL)
      continue;
    int order = qfs_record_compare(found->record, winner);
    gboolean spreads = found->record->seq > c->settled || lacking(work, found->record) * 2 <= n;
    if (spreads && (order > 0 || (order == 0 && found->record->seq > winner->seq)))
      winner = found->record;
  }
  *out_winner = winner;
  return readable;
}

/* ---- bringing the holders to it ---- */

static gboolean may_mend(QfsCoordinator *c, const QfsOp *op) {
  return qfs_can_write(c) && !c->view_dirty && !c->closing && c->purge == NULL &&
         !qfs_is_blocked(c, op->key->hash);
}

static void work_over(QfsCoordinator *c, QfsOp *op) {
  Work *work = op->extra;
  if (work->changed != 0)
    qfs_key_bump(c, op->key->hash);
  qfs_op_finish(c, op, work->failed ? QFS_NO_QUORUM : QFS_OK);
  qfs_op_release(c, op);
}

static void fixed(QfsCoordinator *c, QfsPeer *peer, QfsMessage *reply, gpointer data) {
  QfsOp *op = data;
  Work *work = op->extra;
  gboolean ok = reply != NULL && qfs_peer_reply_ok(c, peer, reply);
  if (ok && (reply->type != QFS_MESSAGE_MEND || reply->more)) {
    work->changed |= QFS_NODE_BIT(peer->index);
    c->stat.mended_records++;
  } else {
    work->failed = TRUE; /* or the row is another one now: looked at again */
  }
  if (--work->left == 0)
    work_over(c, op);
  qfs_op_unref(c, op);
}

static QfsMessage *fix_for(QfsCoordinator *c, const QfsOp *op, guint node, QfsRecord *winner) {
  const Work *work = op->extra;
  const Found *found = &work->at[node];
  const QfsNodeSet bit = QFS_NODE_BIT(node);
  const gboolean holds =
      (qfs_placement_holders(op->key->hash, c->view.in_sync | bit, qfs_replicas(c)) & bit) != 0;
  const int order = qfs_record_compare(found->record, winner);
  if (!found->bad && ((work->holders & bit) == 0 || order == 0))
    return NULL;
  QfsMessage *message = qfs_message_new(found->bad  ? QFS_MESSAGE_MEND
                                        : order < 0 ? QFS_MESSAGE_APPLY
                                                    : QFS_MESSAGE_REMOVE,
                                        node);
  message->key = g_strdup(op->key->key);
  message->print = found->print;
  message->durable = TRUE;
  message->records = qfs_records_new();
  if (message->type == QFS_MESSAGE_REMOVE)
    g_ptr_array_add(message->records, qfs_record_ref(found->record));
  if (winner != NULL && holds)
    g_ptr_array_add(message->records, qfs_record_ref(winner));
  return message;
}

void qfs_mend_unreachable(QfsCoordinator *c, QfsPeer *peer) {
  if (++peer->unreachable_rows >= QFS_UNREACHABLE_ROWS_MAX)
    qfs_peer_fail(c, peer, "damaged rows can't be reached by their names", TRUE);
}

static void check_reported(QfsCoordinator *c, const Work *work) {
  for (QfsNodeSet rest = work->mend->reported & work->asked; rest != 0; rest &= rest - 1) {
    QfsPeer *peer = &c->peer[__builtin_ctzll(rest) + 1];
    const Found *found = &work->at[peer->index];
    if (!found->bad && found->record == NULL)
      qfs_mend_unreachable(c, peer);
  }
}

static void fix(QfsCoordinator *c, QfsOp *op, QfsRecord *winner) {
  Work *work = op->extra;
  const QfsNodeSet lack = winner != NULL ? qfs_lack(c, winner) : 0;
  check_reported(c, work);
  for (QfsNodeSet rest = work->asked; rest != 0; rest &= rest - 1) {
    guint node = (guint)__builtin_ctzll(rest) + 1;
    QfsMessage *message = fix_for(c, op, node, winner);
    if (message == NULL)
      continue;
    if (message->records->len > 0 && message->records->pdata[message->records->len - 1] == winner &&
        qfs_set_has(lack, node)) {
      work->failed = TRUE; /* what must be there first is on its way */
      qfs_message_free(message);
      continue;
    }
    op->sent = TRUE; /* the lock is kept until it was answered */
    work->left++;
    qfs_rpc_send(c, &c->peer[node], message, fixed, qfs_op_ref(op));
  }
  if (work->left == 0)
    qfs_op_finish(c, op, work->failed ? QFS_NO_QUORUM : QFS_OK);
}

static void all_inspected(QfsCoordinator *c, QfsOp *op) {
  Work *work = op->extra;
  QfsKey *key = op->key;
  QfsRecord *winner = NULL;
  if (op->request == NULL)
    return;
  if (work->failed || work->epoch != c->view.epoch || !may_mend(c, op) || key->newest != key->acked) {
    qfs_op_finish(c, op, QFS_NO_QUORUM);
    return;
  }
  gboolean readable = decide(c, work, &winner);
  /* What others plan on is what holders have had, or it is younger than the mark. */
  if (key->have_base && key->acked != NULL && key->acked->seq > c->settled &&
      qfs_record_compare(key->acked, winner) >= 0)
    winner = key->acked;
  else if (!readable)
    work->failed = TRUE;
  else if (key->have_base && qfs_record_compare(key->acked, winner) != 0) {
    qfs_op_finish(c, op, QFS_NO_QUORUM);
    return;
  }
  if (work->failed)
    qfs_op_finish(c, op, QFS_IO);
  else
    fix(c, op, winner);
}

/* ---- looking ---- */

static void inspected(QfsCoordinator *c, QfsPeer *peer, QfsMessage *reply, gpointer data) {
  QfsOp *op = data;
  Work *work = op->extra;
  if (reply != NULL && qfs_peer_reply_ok(c, peer, reply)) {
    Found *found = &work->at[peer->index];
    found->bad = reply->bad != NULL;
    found->print = reply->print;
    if (reply->records != NULL && reply->records->len > 0)
      found->record = qfs_record_ref(reply->records->pdata[0]);
  } else {
    work->failed = TRUE;
  }
  if (--work->left == 0)
    all_inspected(c, op);
  qfs_op_unref(c, op);
}

static void mend_step(QfsCoordinator *c, QfsOp *op) {
  if (qfs_op_is_dead(c, op) || op->request == NULL)
    return;
  Work *work = op->extra;
  if (!may_mend(c, op) || qfs_mend_is_known(c, work->mend)) {
    qfs_op_finish(c, op, QFS_NO_QUORUM);
    return;
  }
  work->mend->op = op;
  if (!qfs_op_lock_keys(c, op) || !qfs_key_wait_acked(op->key, op))
    return;
  work->mend->op = NULL;
  work->epoch = c->view.epoch;
  work->holders = qfs_readable(c, op->key->hash);
  work->asked = work->holders | (work->mend->subjects & qfs_peers_alive(c));
  work->left = qfs_set_size(work->asked);
  for (QfsNodeSet rest = work->asked; rest != 0; rest &= rest - 1) {
    guint node = (guint)__builtin_ctzll(rest) + 1;
    QfsMessage *message = qfs_message_new(QFS_MESSAGE_INSPECT, node);
    message->key = g_strdup(op->key->key);
    qfs_rpc_send(c, &c->peer[node], message, inspected, qfs_op_ref(op));
  }
}

/* ---- the list of what is to be mended ---- */

static void resume_waiters(QfsCoordinator *c) {
  GQueue waiters = c->mend_waiters;
  g_queue_init(&c->mend_waiters);
  for (QfsMendWaiter *waiter = g_queue_pop_head(&waiters); waiter != NULL;
       waiter = g_queue_pop_head(&waiters)) {
    waiter->resume(c, waiter->data);
    g_free(waiter);
  }
}

void qfs_mend_wait(QfsCoordinator *c, void (*resume)(QfsCoordinator *c, gpointer data), gpointer data) {
  QfsMendWaiter *waiter = g_new(QfsMendWaiter, 1);
  waiter->resume = resume;
  waiter->data = data;
  g_queue_push_tail(&c->mend_waiters, waiter);
}

static void give_up(QfsCoordinator *c, QfsMend *mend) {
  g_autofree char *reason =
      mend->key != NULL ? g_strdup_printf("no good copy of %s is left", mend->key)
                        : g_strdup_printf("no good copy of a chunk is left (object %" G_GINT64_MODIFIER
                                          "x-%" G_GINT64_MODIFIER "x, index %" G_GUINT64_FORMAT ")",
                                          mend->chunk.object.placement, mend->chunk.object.unique,
                                          mend->chunk.index);
  c->stat.lost_rows++;
  qfs_log(c, G_LOG_LEVEL_WARNING, "%s", reason);
  for (QfsNodeSet rest = mend->needed & qfs_peers_alive(c); rest != 0; rest &= rest - 1)
    qfs_peer_fail(c, &c->peer[__builtin_ctzll(rest) + 1], reason, TRUE);
}

void qfs_mend_over(QfsCoordinator *c, QfsMend *mend, QfsStatus status) {
  const gboolean waited_for = mend->needed != 0 && status == QFS_OK;
  mend->running = FALSE;
  c->mends_running--;
  if (status == QFS_IO)
    give_up(c, mend);
  /* What is wrong at a node that is gone is found again when it is back. */
  if (status == QFS_OK || status == QFS_IO || (mend->subjects & qfs_peers_alive(c)) == 0) {
    g_queue_remove(&c->mends, mend);
    mend_free(mend);
  } else {
    mend->at_us = c->env->now_us(c->env) + MIN((gint64)RETRY_FIRST_US << MIN(mend->tries, 6), RETRY_MAX_US);
    mend->tries++;
    qfs_wake_at(c, mend->at_us);
  }
  resume_waiters(c);
  if (waited_for) /* also if the row was found to be good: it may have been mended before the refusal was heard of */
    qfs_flights_dispatch(c);
}

static void mend_over(QfsCoordinator *c, QfsOp *op, QfsStatus status) {
  ((QfsMend *)op->internal_data)->op = NULL;
  qfs_mend_over(c, op->internal_data, status);
}

static void mend_start(QfsCoordinator *c, QfsMend *mend) {
  mend->running = TRUE;
  c->mends_running++;
  if (mend->key == NULL) {
    qfs_mend_chunk_start(c, mend);
    return;
  }
  if (qfs_mend_is_known(c, mend)) {
    qfs_mend_known_start(c, mend);
    return;
  }
  QfsOp *op = qfs_op_new(c, qfs_request_new(QFS_REQUEST_GET, mend->key, NULL, NULL), mend_step);
  op->internal = mend_over;
  op->internal_data = mend;
  op->key = qfs_key_use(c, mend->key);
  op->extra = g_new0(Work, 1);
  op->extra_free = work_free;
  ((Work *)op->extra)->mend = mend;
  qfs_wake_at(c, op->deadline_us);
  mend_step(c, op);
}

/* A row that was found bad while its key's lock is waited for: who has the lock may wait for the row. TRUE: one is begun
 * anew, without the lock. */
static gboolean gives_up_lock(QfsCoordinator *c) {
  for (GList *link = c->mends.head; link != NULL; link = link->next) {
    QfsMend *mend = link->data;
    if (mend->op == NULL || !qfs_mend_is_known(c, mend))
      continue;
    qfs_op_finish(c, mend->op, QFS_NO_QUORUM);
    qfs_wake_at(c, c->env->now_us(c->env));
    return TRUE;
  }
  return FALSE;
}

gboolean qfs_mends_records(const QfsCoordinator *c) {
  for (const GList *link = c->mends.head; link != NULL; link = link->next)
    if (((const QfsMend *)link->data)->key != NULL)
      return TRUE;
  return FALSE;
}

void qfs_mends_consider(QfsCoordinator *c) {
  if (g_queue_is_empty(&c->mends) || gives_up_lock(c) || !qfs_can_write(c) || c->view_dirty || c->closing ||
      c->purge != NULL)
    return;
  gint64 now_us = c->env->now_us(c->env);
  for (GList *link = c->mends.head; link != NULL && c->mends_running < RUNNING_MAX;) {
    QfsMend *mend = link->data;
    link = link->next;
    if (mend->running)
      continue;
    if (mend->at_us > now_us)
      qfs_wake_at(c, mend->at_us);
    else if (qfs_readable(c, mend->hash) != 0) {
      mend_start(c, mend);
      link = NULL; /* the list may have changed; more after the next event */
      qfs_wake_at(c, now_us);
    }
  }
}

static gboolean is_same(const QfsMend *mend, const QfsBadRow *row) {
  if (!row->is_chunk)
    return g_strcmp0(mend->key, row->key) == 0;
  return mend->key == NULL && qfs_object_equal(mend->chunk.object, row->chunk.object) &&
         mend->chunk.index == row->chunk.index && mend->chunk.version == row->chunk.version;
}

static QfsMend *find_or_add(QfsCoordinator *c, const QfsBadRow *row) {
  for (GList *link = c->mends.head; link != NULL; link = link->next)
    if (is_same(link->data, row))
      return link->data;
  QfsMend *mend = g_new0(QfsMend, 1);
  mend->key = row->is_chunk ? NULL : g_strdup(row->key);
  mend->chunk = row->chunk;
  mend->hash = row->is_chunk ? row->chunk.object.placement : qfs_key_hash(row->key);
  g_queue_push_tail(&c->mends, mend);
  return mend;
}

void qfs_mend_bad_row(QfsCoordinator *c, QfsPeer *peer, const QfsBadRow *bad, gboolean needed,
                      const char *reason) {
  const QfsNodeSet bit = QFS_NODE_BIT(peer->index);
  /* Where too few are in sync, those who catch up are waited for, and they for this row: the others must do. */
  gboolean urgent = needed && !qfs_view_allows(c, qfs_peers_in(c, PEER_TRUSTED));
  if (c->recovery != NULL || !c->serving || urgent || peer->bad_rows >= BAD_ROWS_MAX) {
    qfs_peer_fail(c, peer, reason, TRUE);
    return;
  }
  QfsMend *mend = find_or_add(c, bad);
  if ((mend->reported & bit) == 0) {
    peer->bad_rows++;
    if (bad->is_chunk)
      c->stat.bad_chunks++;
    else
      c->stat.bad_records++;
    qfs_log(c, G_LOG_LEVEL_WARNING, "node %u: %s", peer->index, reason);
  }
  mend->subjects |= bit;
  mend->reported |= bit;
  if (needed)
    mend->needed |= bit;
  qfs_wake_at(c, c->env->now_us(c->env));
}

void qfs_mend_missing(QfsCoordinator *c, const QfsChunk *row) {
  const QfsBadRow name = {.is_chunk = TRUE, .chunk = *row};
  QfsMend *mend = find_or_add(c, &name);
  mend->subjects |= qfs_readable(c, mend->hash);
  mend->missing = TRUE;
  qfs_wake_at(c, c->env->now_us(c->env));
}

void qfs_mend_key(QfsCoordinator *c, const char *key) {
  const QfsBadRow row = {.key = (char *)key};
  QfsMend *mend = find_or_add(c, &row);
  mend->subjects |= qfs_readable(c, mend->hash);
  qfs_wake_at(c, c->env->now_us(c->env));
}
