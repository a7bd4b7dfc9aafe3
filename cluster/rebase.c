/* rebase.c - when nodes stay away: the others take over what those held, so that more may fail.
 *
 * In-sync nodes hold everything for H(key, B). When S has become smaller than B, the nodes that moved up
 * in H(key, S) get what they lack, from the first of H(key, B) that is in S; when all that is durable, a view
 * with B = S says so. Done only where K-1 is less than the minority of N that may fail one after another:
 * with more replicas every key keeps a holder anyway; and for nodes that were evicted (evict.c). Cost: one scan of every node, and copies of what the
 * missing nodes held.
 */
#include "cluster/private.h"

#define REBASE_DELAY_US (1000 * 1000)
#define RECORDS_LIMIT 256
#define CHUNKS_LIMIT 16

struct QfsRebase {
  guint64 id;
  guint64 epoch;           /* of the view that it is for */
  QfsNodeSet set, sources;
  guint source;
  gboolean records;        /* chunks come first */
  gboolean more, done;
  guint64 at_seq;
  char *at_key;
  QfsChunk *at_chunk;
  guint left;
  guint64 n_issued;        /* everything up to here must be settled before B changes */
};

static void rebase_step(QfsCoordinator *c);

void qfs_rebase_stop(QfsCoordinator *c) {
  QfsRebase *r = c->rebase;
  if (r == NULL)
    return;
  c->rebase = NULL;
  g_free(r->at_key);
  qfs_chunk_free(r->at_chunk);
  g_free(r);
}

/* The rebase that a callback belongs to, or NULL. Frees `data`. */
static QfsRebase *current(QfsCoordinator *c, gpointer data) {
  g_autofree guint64 *id = data;
  return c->rebase != NULL && c->rebase->id == *id ? c->rebase : NULL;
}

static gpointer ticket(const QfsRebase *r) { return g_memdup2(&r->id, sizeof r->id); }

/* The nodes that lack what `source` is to give them. */
static QfsNodeSet takers(QfsCoordinator *c, const QfsRebase *r, guint64 hash) {
  if (qfs_is_lost(c, hash)) /* the newest that anybody happens to have */
    return qfs_placement_holders(hash, r->set, qfs_replicas(c)) & ~QFS_NODE_BIT(r->source);
  QfsNodeSet have = qfs_placement_holders(hash, c->view.base, qfs_replicas(c)) & r->set;
  if (qfs_pick(c, hash, have) != r->source)
    return 0;
  return qfs_placement_holders(hash, r->set, qfs_replicas(c)) & ~have;
}

static gboolean usable(QfsCoordinator *c, QfsPeer *peer, QfsMessage *reply) {
  guint64 id = c->rebase->id;
  if (reply != NULL && qfs_peer_reply_ok(c, peer, reply))
    return c->rebase != NULL && c->rebase->id == id;
  if (reply != NULL && reply->status == QFS_NO_SPACE)
    qfs_peer_fail(c, peer, reply->reason ? reply->reason : "disk full", FALSE);
  qfs_rebase_stop(c);
  qfs_wake_at(c, c->env->now_us(c->env) + REBASE_DELAY_US);
  return FALSE;
}

static void given(QfsCoordinator *c, QfsPeer *peer, QfsMessage *reply, gpointer data) {
  QfsRebase *r = current(c, data);
  if (r != NULL && usable(c, peer, reply) && --r->left == 0)
    rebase_step(c);
}

/* A value whose chunks are lost: TRUE, and it is not to be spread. What else is known of its key stays known. */
static gboolean is_lost_value(QfsCoordinator *c, const QfsRecord *record) {
  return !qfs_object_is_none(record->object) && qfs_is_lost(c, record->object.placement);
}

typedef struct {
  guint64 id;
  char *key;
} Loss;

static void lost_value_removed(QfsCoordinator *c, QfsStatus status, gpointer data) {
  g_autofree Loss *loss = data;
  g_autofree char *key = loss->key;
  QfsRebase *r = c->rebase;
  if (status == QFS_OK) {
    c->stat.lost_values++;
    qfs_log(c, G_LOG_LEVEL_WARNING, "%s: its value was only at evicted nodes: removed", key);
    if (c->config.watch != NULL)
      c->config.watch(key, c->config.watch_data);
  }
  if (r == NULL || r->id != loss->id)
    return;
  if (status != QFS_OK) { /* the whole round again */
    qfs_rebase_stop(c);
    qfs_wake_at(c, c->env->now_us(c->env) + REBASE_DELAY_US);
  } else if (--r->left == 0) {
    rebase_step(c);
  }
}

/* FALSE: the rebase ended meanwhile. */
static gboolean remove_lost(QfsCoordinator *c, QfsRebase *r, GPtrArray *records) {
  guint64 id = r->id;
  for (guint i = 0; i < records->len; i++) {
    const QfsRecord *record = records->pdata[i];
    Loss *loss = g_new(Loss, 1);
    *loss = (Loss){id, g_strdup(record->key)};
    r->left++;
    qfs_remove_version(c, record, lost_value_removed, loss);
    if (c->rebase == NULL || c->rebase->id != id)
      return FALSE;
  }
  return TRUE;
}

/* Of a key that lost all holders nobody is asked: the tombstone goes the way of the version. */
static QfsRecord *what_to_give(QfsCoordinator *c, QfsRecord *record) {
  if (!is_lost_value(c, record))
    return qfs_record_ref(record);
  c->stat.lost_values++;
  qfs_log(c, G_LOG_LEVEL_WARNING, "%s: its value was only at evicted nodes: removed", record->key);
  QfsRecord *tombstone = qfs_record_new_tombstone(record->key, record->timestamp);
  tombstone->seq = record->seq;
  tombstone->attr.ctime_ns = c->env->wall_ms(c->env) * 1000000;
  return tombstone;
}

static void give(QfsCoordinator *c, QfsRebase *r, QfsMessage **messages, GPtrArray *lost) {
  r->left = 1;
  if (!remove_lost(c, r, lost)) {
    for (guint i = 1; i <= c->n_peers; i++)
      qfs_message_free(messages[i]);
    return;
  }
  for (guint i = 1; i <= c->n_peers; i++)
    if (messages[i] != NULL) {
      r->left++;
      qfs_count_copied(c, messages[i]);
      qfs_rpc_send(c, &c->peer[i], messages[i], given, ticket(r));
    }
  if (--r->left == 0)
    rebase_step(c);
}

static void scanned(QfsCoordinator *c, QfsPeer *peer, QfsMessage *reply, gpointer data) {
  QfsRebase *r = current(c, data);
  if (r == NULL || !usable(c, peer, reply))
    return;
  QfsMessage *messages[QFS_NODES_MAX + 1] = {NULL};
  g_autoptr(GPtrArray) lost = qfs_records_new();
  GPtrArray *rows = r->records ? reply->records : reply->chunks;
  guint n = rows != NULL ? rows->len : 0;
  for (guint i = 0; i < n; i++) {
    QfsRecord *record = r->records ? rows->pdata[i] : NULL;
    QfsChunk *chunk = r->records ? NULL : rows->pdata[i];
    if (chunk != NULL && qfs_is_taken_back(c, chunk))
      continue;
    guint64 hash = record != NULL ? qfs_key_hash(record->key) : chunk->object.placement;
    if (chunk != NULL && qfs_is_lost(c, hash))
      continue; /* it may be a part of a whole that is lost */
    gboolean own = record != NULL && is_lost_value(c, record);
    if (own && !qfs_is_lost(c, hash)) {
      g_ptr_array_add(lost, qfs_record_ref(record));
      continue;
    }
    g_autoptr(QfsRecord) given_record = record != NULL ? what_to_give(c, record) : NULL;
    QfsNodeSet to = takers(c, r, hash) | (own ? QFS_NODE_BIT(r->source) : 0);
    for (; to != 0; to &= to - 1) {
      guint node = (guint)__builtin_ctzll(to) + 1;
      QfsMessage *message = messages[node];
      if (message == NULL) {
        message = qfs_message_new(r->records ? QFS_MESSAGE_APPLY : QFS_MESSAGE_CHUNKS, node);
        message->records = r->records ? qfs_records_new() : NULL;
        message->chunks = r->records ? NULL : qfs_chunks_new();
        messages[node] = message;
      }
      if (record != NULL) {
        g_ptr_array_add(message->records, qfs_record_ref(given_record));
      } else {
        QfsChunk *copy = g_memdup2(chunk, sizeof *chunk);
        g_bytes_ref(copy->data);
        g_ptr_array_add(message->chunks, copy);
      }
    }
  }
  r->more = reply->more && n > 0;
  if (n > 0 && r->records) {
    QfsRecord *last = rows->pdata[n - 1];
    r->at_seq = last->seq;
    g_free(r->at_key);
    r->at_key = g_strdup(last->key);
  } else if (n > 0) {
    QfsChunk *last = rows->pdata[n - 1];
    r->at_seq = last->seq;
    qfs_chunk_free(r->at_chunk);
    r->at_chunk = g_memdup2(last, sizeof *last);
    r->at_chunk->data = NULL;
  }
  give(c, r, messages, lost);
}

static void next_source(QfsRebase *r) {
  if (r->sources == 0 && !r->records) {
    r->records = TRUE;
    r->sources = r->set;
  }
  r->source = r->sources != 0 ? (guint)__builtin_ctzll(r->sources) + 1 : 0;
  r->sources &= r->sources - 1;
  r->at_seq = 0;
  g_clear_pointer(&r->at_key, g_free);
  g_clear_pointer(&r->at_chunk, qfs_chunk_free);
}

static void rebase_step(QfsCoordinator *c) {
  QfsRebase *r = c->rebase;
  if (!r->more)
    next_source(r);
  if (r->source == 0) { /* a round of settling makes it durable; then the view may say so */
    r->done = TRUE;
    c->n_issued++;
    r->n_issued = c->n_issued;
    qfs_settle_now(c);
    return;
  }
  QfsPeer *peer = &c->peer[r->source];
  QfsMessage *message =
      qfs_message_new(r->records ? QFS_MESSAGE_SCAN_RECORDS : QFS_MESSAGE_SCAN_CHUNKS, r->source);
  message->after_seq = r->at_seq;
  message->limit = r->records ? RECORDS_LIMIT : CHUNKS_LIMIT;
  message->with_data = !r->records;
  message->key = g_strdup(r->at_key);
  if (r->at_chunk != NULL) {
    message->chunks = qfs_chunks_new();
    g_ptr_array_add(message->chunks, g_memdup2(r->at_chunk, sizeof *r->at_chunk));
  }
  qfs_rpc_send(c, peer, message, scanned, ticket(r));
}

gboolean qfs_rebase_is_due(const QfsCoordinator *c) {
  guint minority = (qfs_view_nodes(c) - 1) / 2;
  gboolean few = qfs_replicas(c) > 1 && qfs_replicas(c) - 1 < minority;
  gboolean evicted = qfs_has_lost(c) || (c->view.base & qfs_evicted_away(c)) != 0;
  return c->serving && (few || evicted) && c->view.in_sync != c->view.base && c->quorum && !c->closing;
}

gboolean qfs_rebase_is_done(const QfsCoordinator *c) {
  const QfsRebase *r = c->rebase;
  return r != NULL && r->done && r->set == c->view.in_sync && c->n_settled >= r->n_issued;
}

void qfs_rebase_consider(QfsCoordinator *c) {
  static guint64 ids; /* only compared for equality */
  if (c->rebase != NULL && (c->rebase->set != c->view.in_sync || c->recovery != NULL))
    qfs_rebase_stop(c);
  if (c->rebase != NULL || !qfs_rebase_is_due(c) || !c->view_stable || c->recovery != NULL || c->blocked)
    return;
  QfsNodeSet trusted = qfs_peers_in(c, PEER_TRUSTED);
  if ((c->view.in_sync & ~trusted) != 0 || qfs_peers_in(c, PEER_JOINING) != 0 || !qfs_is_settled(c))
    return;
  gint64 now_us = c->env->now_us(c->env);
  if (now_us < c->view_changed_us + REBASE_DELAY_US) {
    qfs_wake_at(c, c->view_changed_us + REBASE_DELAY_US);
    return;
  }
  QfsRebase *r = g_new0(QfsRebase, 1);
  r->id = ++ids;
  r->epoch = c->view.epoch;
  r->set = r->sources = c->view.in_sync;
  c->rebase = r;
  qfs_log(c, G_LOG_LEVEL_MESSAGE, "the nodes that are up take over from those that are away");
  rebase_step(c);
}
