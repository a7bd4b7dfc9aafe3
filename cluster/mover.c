/* mover.c - gives nodes what they will have to hold, before anybody relies on it.
 *
 * A move has a target: a set T within S, and K'. Everything goes to H(key, T, K') while H(key, S, K) stays in
 * charge: writes on their way go to both and count as complete only with both (flight.c), and what was there
 * before is copied in pages by the first of those who certainly have it, H(key, B, K) within S. When the
 * copies are durable one view switches to S = B = T and K'. Two reasons to move:
 *
 *   Taking over. S has become smaller than B: T = S, K' = K. Done only where K-1 is less than the minority of N
 *   that may fail one after another: with more replicas every key keeps a holder anyway; and for nodes that
 *   were evicted (evict.c).
 *   Another K, or a smaller N (resize.c): T = S without the nodes that are to go.
 *
 * A change of S begins the move anew. Nothing of a move is remembered over a restart but what was copied: a
 * node that has a row already writes nothing. Rows that turn out to be in the wrong place are removed later
 * (tidy.c), which is why the view must not call the nodes tidy before a move begins.
 * Cost: a scan of every node of S, and the copies.
 */
#include "cluster/private.h"

#define MOVE_DELAY_US (1000 * 1000)
#define RECORDS_LIMIT 256
#define CHUNKS_LIMIT 16

struct QfsMover {
  guint64 id;
  QfsMoveTarget target;
  QfsNodeSet set, sources; /* S, and those of it that are still to be scanned */
  guint source;
  gboolean records;        /* chunks come first */
  gboolean more, done;
  guint64 at_seq;
  char *at_key;
  QfsChunk *at_chunk;
  GPtrArray *held[QFS_NODES_MAX + 1]; /* for each node, or NULL: held.c */
  guint left;
  guint64 round;           /* of settling that makes the copies durable */
};

static void mover_step(QfsCoordinator *c);

void qfs_mover_stop(QfsCoordinator *c) {
  QfsMover *r = c->mover;
  if (r == NULL)
    return;
  c->mover = NULL;
  c->joiner_lost = c->view_dirty = TRUE; /* flights waited for holders that are not to come */
  g_free(r->at_key);
  qfs_chunk_free(r->at_chunk);
  for (guint i = 1; i <= QFS_NODES_MAX; i++)
    if (r->held[i] != NULL)
      g_ptr_array_unref(r->held[i]);
  g_free(r);
}

/* The move that a callback belongs to, or NULL. Frees `data`. */
static QfsMover *current(QfsCoordinator *c, gpointer data) {
  g_autofree guint64 *id = data;
  return c->mover != NULL && c->mover->id == *id ? c->mover : NULL;
}

static gpointer ticket(const QfsMover *r) { return g_memdup2(&r->id, sizeof r->id); }

/* The nodes that lack what `source` is to give them. */
static QfsNodeSet takers(QfsCoordinator *c, const QfsMover *r, guint64 hash) {
  if (qfs_is_lost(c, hash)) /* the newest that anybody happens to have */
    return qfs_mover_holders(c, hash) & ~QFS_NODE_BIT(r->source);
  QfsNodeSet have = qfs_placement_holders(hash, c->view.base, qfs_replicas(c)) & r->set;
  if (qfs_pick(c, hash, have) != r->source)
    return 0;
  return qfs_mover_holders(c, hash) & ~have;
}

QfsNodeSet qfs_mover_holders(const QfsCoordinator *c, guint64 hash) {
  const QfsMover *r = c->mover;
  return r != NULL ? qfs_placement_holders(hash, r->target.set, r->target.replicas) : 0;
}

static gboolean usable(QfsCoordinator *c, QfsPeer *peer, QfsMessage *reply) {
  guint64 id = c->mover->id;
  if (reply != NULL && qfs_peer_reply_ok(c, peer, reply))
    return c->mover != NULL && c->mover->id == id;
  if (reply != NULL && reply->status == QFS_NO_SPACE)
    qfs_peer_fail(c, peer, reply->reason ? reply->reason : "disk full", FALSE);
  qfs_mover_stop(c);
  qfs_wake_at(c, c->env->now_us(c->env) + MOVE_DELAY_US);
  return FALSE;
}

static void given(QfsCoordinator *c, QfsPeer *peer, QfsMessage *reply, gpointer data) {
  QfsMover *r = current(c, data);
  if (r != NULL && usable(c, peer, reply) && --r->left == 0)
    mover_step(c);
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
  QfsMover *r = c->mover;
  if (status == QFS_OK) {
    c->stat.lost_values++;
    qfs_log(c, G_LOG_LEVEL_WARNING, "%s: its value was only at evicted nodes: removed", key);
    if (c->config.watch != NULL)
      c->config.watch(key, c->config.watch_data);
  }
  if (r == NULL || r->id != loss->id)
    return;
  if (status != QFS_OK) { /* the whole round again */
    qfs_mover_stop(c);
    qfs_wake_at(c, c->env->now_us(c->env) + MOVE_DELAY_US);
  } else if (--r->left == 0) {
    mover_step(c);
  }
}

/* FALSE: the move ended meanwhile. */
static gboolean remove_lost(QfsCoordinator *c, QfsMover *r, GPtrArray *records) {
  guint64 id = r->id;
  for (guint i = 0; i < records->len; i++) {
    const QfsRecord *record = records->pdata[i];
    Loss *loss = g_new(Loss, 1);
    *loss = (Loss){id, g_strdup(record->key)};
    r->left++;
    qfs_remove_version(c, record, lost_value_removed, loss);
    if (c->mover == NULL || c->mover->id != id)
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

static void give(QfsCoordinator *c, QfsMover *r, QfsMessage **messages, GPtrArray *lost) {
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
    mover_step(c);
}

/* TRUE: not yet. */
static gboolean hold(QfsCoordinator *c, QfsMover *r, guint node, QfsRecord *record) {
  if (r->held[node] == NULL)
    r->held[node] = qfs_records_new();
  return qfs_held_add(c, r->held[node], node, record);
}

static gboolean has_held(const QfsMover *r) {
  for (guint i = 1; i <= QFS_NODES_MAX; i++)
    if (r->held[i] != NULL && r->held[i]->len > 0)
      return TRUE;
  return FALSE;
}

static void give_held(QfsCoordinator *c, QfsMover *r) {
  r->left = 0;
  for (guint i = 1; i <= c->n_peers; i++) {
    GPtrArray *ready = r->held[i] != NULL ? qfs_held_take(c, r->held[i], i) : NULL;
    if (ready == NULL)
      continue;
    QfsMessage *message = qfs_message_new(QFS_MESSAGE_APPLY, i);
    message->records = ready;
    r->left++;
    qfs_count_copied(c, message);
    qfs_rpc_send(c, &c->peer[i], message, given, ticket(r));
  }
}

static void scanned(QfsCoordinator *c, QfsPeer *peer, QfsMessage *reply, gpointer data) {
  QfsMover *r = current(c, data);
  if (r == NULL || !usable(c, peer, reply))
    return;
  QfsMessage *messages[QFS_NODES_MAX + 1] = {NULL};
  g_autoptr(GPtrArray) lost = qfs_records_new();
  GPtrArray *rows = r->records ? reply->records : reply->chunks;
  guint n = rows != NULL ? rows->len : 0;
  for (guint i = 0; i < n; i++) {
    QfsRecord *record = r->records ? rows->pdata[i] : NULL;
    QfsChunk *chunk = r->records ? NULL : rows->pdata[i];
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
      if (record != NULL && hold(c, r, node, given_record))
        continue;
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

static void next_source(QfsMover *r) {
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

static void mover_step(QfsCoordinator *c) {
  QfsMover *r = c->mover;
  if (!r->more)
    next_source(r);
  if (r->source == 0 && has_held(r)) {
    give_held(c, r);
    return;
  }
  if (r->source == 0) { /* a round of settling makes it durable; then the view may say so */
    r->done = TRUE;
    r->round = c->settle_id + 1;
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

/* ---- when ---- */

/* Who is away would be missed if others failed in their turn. */
static gboolean takes_over(const QfsCoordinator *c) {
  guint minority = (qfs_view_nodes(c) - 1) / 2;
  gboolean few = qfs_replicas(c) > 1 && qfs_replicas(c) - 1 < minority;
  gboolean evicted = qfs_has_lost(c) || (c->view.base & qfs_evicted_away(c)) != 0;
  return (few || evicted) && c->view.in_sync != c->view.base;
}

static gboolean find_target(const QfsCoordinator *c, QfsMoveTarget *out) {
  if (!c->serving || !c->quorum || c->closing)
    return FALSE;
  if (qfs_resize_target(c, out))
    return TRUE;
  *out = (QfsMoveTarget){c->view.in_sync, qfs_view_nodes(c), qfs_replicas(c)};
  return takes_over(c);
}

static gboolean same_target(const QfsMoveTarget *a, const QfsMoveTarget *b) {
  return a->set == b->set && a->nodes == b->nodes && a->replicas == b->replicas;
}

gboolean qfs_mover_is_due(const QfsCoordinator *c) {
  QfsMoveTarget target;
  return find_target(c, &target);
}

gboolean qfs_mover_is_done(const QfsCoordinator *c, QfsMoveTarget *out_target) {
  const QfsMover *r = c->mover;
  if (r == NULL || !r->done || r->set != c->view.in_sync || c->settle_done < r->round)
    return FALSE;
  *out_target = r->target;
  return TRUE;
}

guint qfs_mover_progress(const QfsCoordinator *c) {
  const QfsMover *r = c->mover;
  if (r == NULL)
    return 0;
  if (r->done)
    return 99;
  /* By nodes scanned, and the share of the operations of the one that is being scanned. */
  guint all = 2 * qfs_set_size(r->set);
  guint left = qfs_set_size(r->sources) + (r->records ? 0 : qfs_set_size(r->set)) + 1;
  gdouble page = c->last_seq > 0 ? (gdouble)r->at_seq / (gdouble)c->last_seq : 0;
  return (guint)(99 * (all - MIN(left, all) + MIN(page, 1.0)) / all);
}

static gboolean may_begin(QfsCoordinator *c) {
  if (!c->view_stable || c->recovery != NULL || c->blocked)
    return FALSE;
  QfsNodeSet trusted = qfs_peers_in(c, PEER_TRUSTED), known = qfs_peers_in(c, PEER_KNOWN);
  if (qfs_has_lost(c)) /* then whoever is to be wiped waits for us (catchup.c) */
    known &= c->view.base & ~qfs_evicted(c);
  if ((c->view.in_sync & ~trusted) != 0 || qfs_peers_in(c, PEER_JOINING) != 0 ||
      ((known & qfs_view_all(c)) != 0 && !qfs_has_lost(c)))
    return FALSE; /* who is coming is waited for: its coming changes S; but see catchup.c on lost keys */
  gint64 now_us = c->env->now_us(c->env), patience_us = (gint64)c->config.timeout_ms * 1000;
  for (guint i = 1; i <= qfs_view_nodes(c); i++)
    if (c->peer[i].state == PEER_OPENING && now_us - c->peer[i].opening_since_us < patience_us) {
      qfs_wake_at(c, c->peer[i].opening_since_us + patience_us);
      return FALSE;
    }
  if (now_us < c->view_changed_us + MOVE_DELAY_US) {
    qfs_wake_at(c, c->view_changed_us + MOVE_DELAY_US);
    return FALSE;
  }
  /* A crash must not leave rows in wrong places that nobody knows of; and a late copy of what removed rows from
   * other nodes than the owners must not take what is given to these now. */
  if (c->view.tidy != 0 || c->tidying_epoch == c->view.epoch) {
    c->view_wants_untidy = c->view_dirty = TRUE;
    return FALSE;
  }
  return TRUE;
}

static void begin(QfsCoordinator *c, const QfsMoveTarget *target) {
  static guint64 ids; /* only compared for equality */
  QfsMover *r = g_new0(QfsMover, 1);
  r->id = ++ids;
  r->target = *target;
  r->set = r->sources = c->view.in_sync;
  c->mover = r;
  if (target->nodes != qfs_view_nodes(c) || target->replicas != qfs_replicas(c))
    qfs_log(c, G_LOG_LEVEL_MESSAGE, "data moves to %u nodes and %u replicas", target->nodes,
            target->replicas);
  else
    qfs_log(c, G_LOG_LEVEL_MESSAGE, "the nodes that are up take over from those that are away");
  qfs_flights_revive(c); /* what is not settled yet goes to the coming holders, too */
  qfs_flights_dispatch(c);
  if (c->mover == r)
    mover_step(c);
}

void qfs_mover_consider(QfsCoordinator *c) {
  QfsMoveTarget target;
  gboolean due = find_target(c, &target);
  const QfsMover *r = c->mover;
  if (r != NULL && (r->set != c->view.in_sync || c->recovery != NULL ||
                    (due ? !same_target(&r->target, &target) : !r->done)))
    qfs_mover_stop(c);
  else if (r != NULL && r->source == 0 && r->left == 0 && has_held(r))
    give_held(c, c->mover);
  if (c->mover == NULL && due && may_begin(c))
    begin(c, &target);
}
