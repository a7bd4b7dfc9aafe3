/* tidy.c - removes rows from nodes that do not own them.
 *
 * A key's owners are H(key, all nodes of the view, K). Others have rows of it from a time as stand-in, or from
 * before N or K changed. When every node is in sync and nothing moves, what the owners have on stable storage goes
 * elsewhere. The view remembers up to which operation there can be no such rows (QfsView.tidy), so that
 * what is looked at is what was written since a node went away; everything, after a move or after
 * a node was filled anew.
 */
#include "cluster/private.h"

#define RECORDS_LIMIT 256

struct QfsTidy {
  guint64 id;
  guint64 epoch;           /* of the view that it is for */
  guint64 up_to;           /* operations to look at */
  guint node;              /* being looked at */
  gboolean records;        /* after its chunks */
  gboolean more;
  guint64 at_seq;
  char *at_key;
  QfsChunk *at_chunk;
  guint64 removed;
};

static void tidy_step(QfsCoordinator *c);

void qfs_tidy_stop(QfsCoordinator *c) {
  QfsTidy *t = c->tidy;
  if (t == NULL)
    return;
  c->tidy = NULL;
  g_free(t->at_key);
  qfs_chunk_free(t->at_chunk);
  g_free(t);
}

static QfsTidy *current(QfsCoordinator *c, gpointer data) {
  g_autofree guint64 *id = data;
  return c->tidy != NULL && c->tidy->id == *id ? c->tidy : NULL;
}

static gpointer ticket(const QfsTidy *t) { return g_memdup2(&t->id, sizeof t->id); }

/* FALSE: the run has ended; another one begins anew. */
static gboolean usable(QfsCoordinator *c, QfsPeer *peer, QfsMessage *reply) {
  guint64 id = c->tidy->id;
  if (reply != NULL && qfs_peer_reply_ok(c, peer, reply))
    return c->tidy != NULL && c->tidy->id == id;
  qfs_tidy_stop(c);
  return FALSE;
}

static gboolean owns(const QfsCoordinator *c, guint node, guint64 hash) {
  return qfs_set_has(qfs_placement_holders(hash, qfs_view_all(c), qfs_replicas(c)), node);
}

static void removed(QfsCoordinator *c, QfsPeer *peer, QfsMessage *reply, gpointer data) {
  QfsTidy *t = current(c, data);
  if (t != NULL && usable(c, peer, reply))
    tidy_step(c);
}

static void remove_rows(QfsCoordinator *c, QfsTidy *t, QfsMessage *message, guint n) {
  if (n == 0) {
    qfs_message_free(message);
    tidy_step(c);
    return;
  }
  t->removed += n;
  c->tidying_epoch = t->epoch;
  qfs_rpc_send(c, &c->peer[t->node], message, removed, ticket(t));
}

static void records_found(QfsCoordinator *c, QfsPeer *peer, QfsMessage *reply, gpointer data) {
  QfsTidy *t = current(c, data);
  if (t == NULL || !usable(c, peer, reply))
    return;
  QfsMessage *message = qfs_message_new(QFS_MESSAGE_PURGE, t->node);
  message->of_epoch = TRUE;
  message->records = qfs_records_new();
  message->after_seq = t->up_to;
  message->force = TRUE;
  t->more = reply->more && reply->records->len > 0;
  for (guint i = 0; i < reply->records->len; i++) {
    QfsRecord *record = reply->records->pdata[i];
    if (record->seq > t->up_to) {
      t->more = FALSE;
      break;
    }
    t->at_seq = record->seq;
    g_free(t->at_key);
    t->at_key = g_strdup(record->key);
    if (!owns(c, t->node, qfs_key_hash(record->key)))
      g_ptr_array_add(message->records, qfs_record_ref(record));
  }
  remove_rows(c, t, message, message->records->len);
}

static void chunks_found(QfsCoordinator *c, QfsPeer *peer, QfsMessage *reply, gpointer data) {
  QfsTidy *t = current(c, data);
  if (t == NULL || !usable(c, peer, reply))
    return;
  QfsMessage *message = qfs_message_new(QFS_MESSAGE_DISCARD, t->node);
  message->of_epoch = TRUE;
  message->discard = QFS_DISCARD_VERSION;
  message->chunks = qfs_chunks_new();
  t->more = reply->more && reply->chunks->len > 0;
  for (guint i = 0; i < reply->chunks->len; i++) {
    const QfsChunk *chunk = reply->chunks->pdata[i];
    if (chunk->seq > t->up_to) {
      t->more = FALSE;
      break;
    }
    t->at_seq = chunk->seq;
    qfs_chunk_free(t->at_chunk);
    t->at_chunk = g_memdup2(chunk, sizeof *chunk);
    if (!owns(c, t->node, chunk->object.placement))
      g_ptr_array_add(message->chunks, g_memdup2(chunk, sizeof *chunk));
  }
  remove_rows(c, t, message, message->chunks->len);
}

static void tidy_end(QfsCoordinator *c, QfsTidy *t) {
  if (t->removed > 0)
    qfs_log(c, G_LOG_LEVEL_INFO, "%" G_GUINT64_FORMAT " rows were removed from nodes that do not own them",
            t->removed);
  c->stat.tidied += t->removed;
  c->tidied_epoch = t->epoch;
  c->view_dirty = TRUE; /* the next view says so */
  qfs_tidy_stop(c);
}

static void next_pass(QfsCoordinator *c, QfsTidy *t) {
  if (t->node != 0 && !t->records) {
    t->records = TRUE;
  } else {
    t->records = FALSE;
    t->node++;
  }
  t->at_seq = c->view.tidy;
  g_clear_pointer(&t->at_key, g_free);
  g_clear_pointer(&t->at_chunk, qfs_chunk_free);
}

static void tidy_step(QfsCoordinator *c) {
  QfsTidy *t = c->tidy;
  if (t->epoch != c->view.epoch || !qfs_tidy_is_due(c)) {
    qfs_tidy_stop(c);
    return;
  }
  if (!t->more)
    next_pass(c, t);
  if (t->node > qfs_view_nodes(c)) {
    tidy_end(c, t);
    return;
  }
  QfsMessage *message =
      qfs_message_new(t->records ? QFS_MESSAGE_SCAN_RECORDS : QFS_MESSAGE_SCAN_CHUNKS, t->node);
  message->after_seq = t->at_seq;
  message->limit = RECORDS_LIMIT;
  message->key = g_strdup(t->at_key);
  if (t->at_chunk != NULL) {
    message->chunks = qfs_chunks_new();
    g_ptr_array_add(message->chunks, g_memdup2(t->at_chunk, sizeof *t->at_chunk));
  }
  qfs_rpc_send(c, &c->peer[t->node], message, t->records ? records_found : chunks_found, ticket(t));
}

gboolean qfs_tidy_is_due(const QfsCoordinator *c) {
  QfsNodeSet all = qfs_view_all(c);
  return c->serving && c->recovery == NULL && c->quorum && !c->blocked && !c->closing &&
         c->view.tidy != QFS_TIDY_ALL && c->mover == NULL && !qfs_resize_is_wanted(c) &&
         c->view.in_sync == all && c->view.base == all;
}

gboolean qfs_tidy_is_done(const QfsCoordinator *c) {
  return c->tidied_epoch == c->view.epoch && qfs_tidy_is_due(c);
}

void qfs_tidy_consider(QfsCoordinator *c) {
  static guint64 ids; /* only compared for equality */
  /* Also once a move has begun: what it gives to the coming owners would be removed by what was found before. */
  if (c->tidy != NULL && (c->tidy->epoch != c->view.epoch || !c->view_stable || !qfs_tidy_is_due(c)))
    qfs_tidy_stop(c);
  /* What stand-ins were sent before they ceased to be some must be settled: only then do the owners have it. */
  if (c->tidy != NULL || !qfs_tidy_is_due(c) || !c->view_stable || c->tidied_epoch == c->view.epoch ||
      (c->view.in_sync & ~qfs_peers_in(c, PEER_TRUSTED)) != 0 || c->settled_told < c->set_after)
    return;
  QfsTidy *t = g_new0(QfsTidy, 1);
  t->id = ++ids;
  t->epoch = c->view.epoch;
  t->up_to = c->settled_told;
  c->tidy = t;
  tidy_step(c);
}
