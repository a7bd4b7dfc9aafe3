/* flight.c - replicated writes on their way: from numbering to "every holder has it".
 *
 * A flight is sent to H(hash, S) and to those who will hold the key: joining nodes, and H(hash, T, K') of a move. W acknowledgements of
 * H(hash, S) under a durable view make a quorum (C1); when all of H(hash, S) and those have it,
 * it is complete and forgotten. It is never given up while it may have been applied anywhere (C4).
 */
#include "cluster/private.h"

#define FULL_RETRY_US (250 * 1000)

/* Who is to have it beside the holders of now: who catches up, and who holds it after the move under way. */
static QfsNodeSet joining(QfsCoordinator *c, guint64 hash) {
  QfsNodeSet result = qfs_mover_holders(c, hash);
  for (QfsNodeSet rest = qfs_peers_in(c, PEER_JOINING); rest != 0; rest &= rest - 1) {
    guint node = (guint)__builtin_ctzll(rest) + 1;
    QfsNodeSet with = c->view.in_sync | QFS_NODE_BIT(node);
    result |= qfs_placement_holders(hash, with, qfs_replicas(c)) & QFS_NODE_BIT(node);
  }
  return result;
}

QfsNodeSet qfs_key_targets(QfsCoordinator *c, guint64 hash) { return qfs_holders(c, hash) | joining(c, hash); }

QfsNodeSet qfs_flight_targets(QfsCoordinator *c, const QfsFlight *flight) {
  QfsNodeSet targets = 0;
  for (guint i = 0; i < flight->n_hashes; i++)
    targets |= qfs_key_targets(c, flight->hashes[i]);
  return targets;
}

/* Do others wait for it (lack.c)? */
static gboolean comes_first(const QfsFlight *flight) {
  return flight->message->chunks != NULL || flight->message->type == QFS_MESSAGE_INTENT;
}

static void flight_free(QfsCoordinator *c, QfsFlight *flight) {
  c->flight_bytes -= flight->bytes;
  qfs_message_free(flight->message);
  g_free(flight->hashes);
  g_slice_free(QfsFlight, flight);
}

/* The message for one node: of split flights only the records that it holds. */
static QfsMessage *message_for(QfsCoordinator *c, QfsFlight *flight, guint node) {
  QfsMessage *message = qfs_message_copy(flight->message, node);
  QfsNodeSet bit = QFS_NODE_BIT(node);
  message->is_overdue = message->is_overdue || flight->acked != 0;
  if (!flight->split)
    return message;
  g_ptr_array_unref(message->records);
  message->records = qfs_records_new();
  for (guint i = 0; i < flight->n_hashes; i++) {
    if (qfs_key_targets(c, flight->hashes[i]) & bit)
      g_ptr_array_add(message->records,
                      qfs_record_ref(g_ptr_array_index(flight->message->records, i)));
  }
  return message;
}

/* Nodes whose acknowledgements count. A member of S that returned before S could do without it is being given what it
 * missed, and may have been emptied before that: a start from now would not believe what it has. */
static QfsNodeSet complete_nodes(const QfsCoordinator *c) {
  QfsNodeSet nodes = qfs_peers_in(c, PEER_TRUSTED);
  for (QfsNodeSet rest = qfs_peers_in(c, PEER_JOINING); rest != 0; rest &= rest - 1) {
    guint node = (guint)__builtin_ctzll(rest) + 1;
    if (c->peer[node].catchup == NULL) /* a member of the recovery */
      nodes |= QFS_NODE_BIT(node);
  }
  return nodes;
}

static gboolean flight_has_quorum(QfsCoordinator *c, QfsFlight *flight) {
  QfsNodeSet acked = flight->acked & complete_nodes(c);
  for (guint i = 0; i < flight->n_hashes; i++)
    if (qfs_set_size(qfs_holders(c, flight->hashes[i]) & acked) < qfs_write_quorum(qfs_replicas(c)))
      return FALSE;
  return TRUE;
}

/* Applied nowhere and refused for lack of space everywhere it could have gone. */
static gboolean flight_is_refused(QfsCoordinator *c, QfsFlight *flight) {
  /* Chunks that cannot reach W are taken back: no record names them yet. */
  if (flight->on_refused != NULL && flight->message->chunks != NULL && flight->full != 0 &&
      flight->outstanding == 0 &&
      qfs_set_size(qfs_holders(c, flight->hashes[0]) & ~flight->full) <
          qfs_write_quorum(qfs_replicas(c)))
    return TRUE;
  return flight->on_refused != NULL && !flight->tainted && flight->acked == 0 && flight->outstanding == 0 &&
         flight->full != 0 && (qfs_flight_targets(c, flight) & ~flight->full) == 0;
}

static void flight_check(QfsCoordinator *c, QfsFlight *flight) {
  if (!c->view_stable)
    return;
  if (!flight->quorum && flight_has_quorum(c, flight)) {
    flight->quorum = TRUE;
    if (flight->on_quorum != NULL)
      flight->on_quorum(c, flight, flight->data);
    flight->on_quorum = NULL;
  }
  if ((flight->quorum || flight->recovery) &&
      (qfs_flight_targets(c, flight) & ~flight->acked) == 0) {
    if (flight->on_complete != NULL)
      flight->on_complete(c, flight, flight->data);
    flight->on_complete = NULL;
    flight->full = 0; /* of nodes that are no holders now; if they become some, they are asked again */
    if (flight->message->chunks != NULL)
      qfs_object_remove_flight(c, flight);
    g_ptr_array_remove(c->intents, flight);
    g_queue_unlink(&c->flights, &flight->link);
    g_queue_push_tail_link(&c->retained, &flight->link);
  } else if (!flight->quorum && flight_is_refused(c, flight)) {
    flight->on_refused(c, flight, flight->data);
    qfs_held_wake(c);
    if (g_ptr_array_remove(c->intents, flight))
      c->joiner_lost = c->view_dirty = TRUE; /* what waited for it is sent */
    g_queue_unlink(&c->flights, &flight->link);
    flight_free(c, flight);
  }
}

static QfsFlight *flight_find(QfsCoordinator *c, guint64 seq);

gboolean qfs_flight_is_under_way(QfsCoordinator *c, guint64 seq) {
  return flight_find(c, seq) != NULL;
}

static QfsFlight *flight_find(QfsCoordinator *c, guint64 seq) {
  for (GList *link = c->flights.head; link != NULL; link = link->next) {
    QfsFlight *flight = link->data;
    if (flight->seq == seq)
      return flight;
    if (flight->seq > seq)
      break;
  }
  return NULL;
}

typedef struct {
  guint64 seq;
  guint round;
} Sent;

/* Complete, but not settled. */
static QfsFlight *retained_find(QfsCoordinator *c, guint64 seq) {
  for (GList *link = c->retained.head; link != NULL; link = link->next)
    if (((QfsFlight *)link->data)->seq == seq)
      return link->data;
  return NULL;
}

/* A late answer of a node that had ceased to be a holder when the flight completed. */
static void note_late(QfsCoordinator *c, const Sent *sent, QfsNodeSet bit, const QfsMessage *reply) {
  QfsFlight *flight = retained_find(c, sent->seq);
  if (flight == NULL || flight->round != sent->round)
    return;
  flight->outstanding &= ~bit;
  if (reply->status == QFS_OK)
    flight->acked |= bit;
}

static void flight_send(QfsCoordinator *c, QfsFlight *flight);

/* What waited for these chunks, or this intent. */
static void send_held_back(QfsCoordinator *c, const QfsFlight *first) {
  qfs_held_wake(c);
  if (!c->view_stable)
    return;
  for (const GList *link = first->link.next; link != NULL; link = link->next)
    if (qfs_flight_waits_for(link->data, first))
      flight_send(c, link->data);
}

/* What waited for this flight, or others, because it is older. */
static void send_obsolete(QfsCoordinator *c, guint64 seq) {
  if (!c->has_obsolete || !c->view_stable)
    return;
  c->has_obsolete = FALSE;
  for (const GList *link = c->flights.head; link != NULL; link = link->next) {
    QfsFlight *flight = link->data;
    c->has_obsolete |= flight->obsolete;
    if (flight->obsolete && flight->seq < seq)
      flight_send(c, flight);
  }
  for (const GList *link = c->retained.head; link != NULL && !c->has_obsolete; link = link->next)
    c->has_obsolete = ((const QfsFlight *)link->data)->obsolete;
}

static void make_obsolete(QfsCoordinator *c, GQueue *flights, QfsObjectId id) {
  for (GList *link = flights->head; link != NULL; link = link->next) {
    QfsFlight *flight = link->data;
    flight->obsolete |= qfs_flight_names(flight, id);
    c->has_obsolete |= flight->obsolete;
  }
}

/* A node has a version that is newer than all that is known here: never acknowledged, and left from a time whose end the
 * node missed. What it came to is for a mend to say: copies must not differ for ever. */
static void look_at_newer(QfsCoordinator *c, const QfsFlight *flight, guint64 newest) {
  const GPtrArray *records = flight->message->records;
  for (guint i = 0; records != NULL && i < records->len; i++) {
    const QfsRecord *record = records->pdata[i];
    const QfsKey *key = qfs_key_find(c, record->key);
    const guint64 known = key != NULL && key->newest != NULL ? key->newest->timestamp : 0;
    if (newest > MAX(known, record->timestamp))
      qfs_mend_key(c, record->key);
  }
}

static void flight_reply(QfsCoordinator *c, QfsPeer *peer, QfsMessage *reply, gpointer data) {
  g_autofree Sent *sent = data;
  const guint64 *seq = &sent->seq;
  QfsFlight *flight = flight_find(c, *seq);
  if (reply == NULL)
    return;
  if (flight == NULL || flight->round != sent->round) {
    note_late(c, sent, QFS_NODE_BIT(peer->index), reply);
    qfs_peer_reply_ok(c, peer, reply);
    return;
  }
  flight->outstanding &= ~QFS_NODE_BIT(peer->index);
  if (!qfs_peer_reply_ok(c, peer, reply)) {
    if (reply->status == QFS_STALE && c->view_stable && reply->epoch <= c->epoch_seen)
      flight_send(c, flight); /* an old copy of it was refused */
    if (reply->status == QFS_NO_SPACE) {
      flight->full |= QFS_NODE_BIT(peer->index);
      flight->tainted |= reply->repeated; /* an earlier copy of the request may have worked */
      if (flight->full_since_us == 0)
        flight->full_since_us = c->env->now_us(c->env);
      c->full_retry_us = c->env->now_us(c->env) + FULL_RETRY_US;
      qfs_wake_at(c, c->full_retry_us);
      flight_check(c, flight);
    }
    return;
  }
  flight->acked |= QFS_NODE_BIT(peer->index);
  if (reply->newest != 0)
    look_at_newer(c, flight, reply->newest);
  if (comes_first(flight))
    send_held_back(c, flight);
  if ((flight = flight_find(c, *seq)) != NULL)
    flight_check(c, flight);
  send_obsolete(c, *seq);
}

static void flight_send(QfsCoordinator *c, QfsFlight *flight) {
  QfsNodeSet targets = qfs_flight_targets(c, flight);
  QfsNodeSet reach = qfs_peers_in(c, PEER_TRUSTED) | qfs_peers_in(c, PEER_JOINING);
  QfsNodeSet now = targets & reach & ~flight->acked & ~flight->outstanding & ~flight->full;
  if (now != 0)
    now &= ~qfs_flight_lack(c, flight);
  flight->outstanding |= now;
  for (; now != 0; now &= now - 1) {
    QfsPeer *peer = &c->peer[__builtin_ctzll(now) + 1];
    Sent *sent = g_new(Sent, 1);
    sent->seq = flight->seq;
    sent->round = flight->round;
    qfs_rpc_send(c, peer, message_for(c, flight, peer->index), flight_reply, sent);
  }
}

QfsFlight *qfs_flight_start(QfsCoordinator *c, QfsMessage *message, const guint64 *hashes,
                            guint n_hashes, gboolean split, gpointer data, QfsFlightDone on_quorum,
                            QfsFlightDone on_complete, QfsFlightDone on_refused) {
  g_assert(c->view_stable && n_hashes > 0);
  QfsFlight *flight = g_slice_new0(QfsFlight);
  flight->seq = c->last_seq;
  flight->message = message;
  for (guint i = 0; message->records != NULL && i < message->records->len; i++) /* intents carry earlier ones */
    g_assert(((QfsRecord *)message->records->pdata[i])->seq >= flight->seq || message->type == QFS_MESSAGE_INTENT);
  flight->n_hashes = n_hashes;
  flight->hashes = g_memdup2(hashes, n_hashes * sizeof *hashes);
  flight->split = split;
  flight->data = data;
  flight->on_quorum = on_quorum;
  flight->on_complete = on_complete;
  flight->on_refused = on_refused;
  flight->bytes = qfs_message_size(message);
  c->flight_bytes += flight->bytes;
  flight->link.data = flight;
  g_queue_push_tail_link(&c->flights, &flight->link);
  if (message->type == QFS_MESSAGE_INTENT)
    g_ptr_array_add(c->intents, flight);
  c->n_issued++;
  qfs_reclaim_note_flight(c, message);
  qfs_settle_dirty(c);
  flight_send(c, flight);
  return flight;
}

/* A node that has no room for what others have applied: asked again until it has some. If it misses an
 * acknowledged write for long it is given up, as long as the others can do without it. TRUE: one was. */
static gboolean give_up_full(QfsCoordinator *c, const QfsFlight *flight) {
  for (QfsNodeSet full = flight->full; full != 0; full &= full - 1) {
    guint node = (guint)__builtin_ctzll(full) + 1;
    QfsNodeSet trusted = qfs_peers_in(c, PEER_TRUSTED) & ~QFS_NODE_BIT(node);
    QfsNodeSet alive = qfs_peers_alive(c) & ~QFS_NODE_BIT(node);
    if (c->peer[node].state == PEER_JOINING ||
        (c->peer[node].state == PEER_TRUSTED && qfs_view_allows(c, trusted) &&
         qfs_view_has_majority(c, alive))) {
      qfs_peer_fail(c, &c->peer[node], "disk full", FALSE);
      return TRUE;
    }
  }
  return FALSE;
}

void qfs_flights_tick(QfsCoordinator *c, gint64 now_us) {
  if (c->full_retry_us == 0)
    return;
  if (now_us < c->full_retry_us) {
    qfs_wake_at(c, c->full_retry_us);
    return;
  }
  if (!c->view_stable) { /* nothing is sent now, and nothing but this tick asks again */
    c->full_retry_us = now_us + FULL_RETRY_US;
    qfs_wake_at(c, c->full_retry_us);
    return;
  }
  c->full_retry_us = 0;
  gint64 patience_us = (gint64)c->config.timeout_ms * 1000;
  for (GList *link = c->flights.head; link != NULL; link = link->next) {
    QfsFlight *flight = link->data;
    if (flight->full == 0)
      continue;
    c->full_retry_us = now_us + FULL_RETRY_US;
    qfs_wake_at(c, c->full_retry_us);
    if (flight->quorum && now_us - flight->full_since_us > patience_us && give_up_full(c, flight))
      return;
    flight->full = 0;
    flight_send(c, flight);
  }
}

void qfs_flights_dispatch(QfsCoordinator *c) {
  g_autoptr(GArray) seqs = g_array_new(FALSE, FALSE, sizeof(guint64));
  for (GList *link = c->flights.head; link != NULL; link = link->next)
    g_array_append_val(seqs, ((QfsFlight *)link->data)->seq);
  for (guint i = 0; i < seqs->len && c->view_stable; i++) {
    QfsFlight *flight = flight_find(c, g_array_index(seqs, guint64, i));
    if (flight == NULL)
      continue;
    flight_send(c, flight);
    flight_check(c, flight);
  }
}

/* Puts a flight back among those on their way, by seq. */
static void flight_revive(QfsCoordinator *c, QfsFlight *flight) {
  g_queue_unlink(&c->retained, &flight->link);
  GList *after = c->flights.head;
  while (after != NULL && ((QfsFlight *)after->data)->seq < flight->seq)
    after = after->next;
  if (after == NULL)
    g_queue_push_tail_link(&c->flights, &flight->link);
  else
    g_queue_insert_before_link(&c->flights, after, &flight->link);
  if (flight->message->chunks != NULL)
    qfs_object_add_flight(c, flight); /* records that name them wait for them once more */
  if (flight->message->type == QFS_MESSAGE_INTENT)
    g_ptr_array_add(c->intents, flight); /* so do parts of it, and what is written over them */
}

/* Which parts of a split flight a node must have depends on S: what it acknowledged was for the old one. */
static void new_round(GQueue *flights) {
  for (GList *link = flights->head; link != NULL; link = link->next) {
    QfsFlight *flight = link->data;
    if (!flight->split)
      continue;
    flight->round++;
    flight->acked = flight->outstanding = flight->full = 0;
  }
}

/* Chunks and intents that are complete but not settled go to a new joiner too, before any record that waits for them
 * (lack.c): after a power failure it may be the only one that still has that. */
void qfs_flights_join(QfsCoordinator *c) {
  for (GList *link = c->retained.head; link != NULL;) {
    GList *next = link->next;
    QfsFlight *flight = link->data;
    if (comes_first(flight) && (qfs_flight_targets(c, flight) & ~flight->acked) != 0)
      flight_revive(c, flight);
    link = next;
  }
  qfs_flights_dispatch(c);
}

/* Requests to nodes that are no holders any more are not repeated under epochs to come: rows that were taken away from such a
 * node (tidy.c) would come back. Refused as stale they end. */
static void leave_in_their_epoch(QfsCoordinator *c) {
  for (guint i = 1; c->env->lossy && i <= c->n_peers; i++)
    for (const GList *link = c->peer[i].rpcs.head; link != NULL; link = link->next) {
      const QfsRpc *rpc = link->data;
      if (rpc->done != flight_reply)
        continue;
      const Sent *sent = rpc->data;
      const QfsFlight *flight = flight_find(c, sent->seq);
      if (flight == NULL)
        flight = retained_find(c, sent->seq);
      if (flight == NULL || flight->round != sent->round || !qfs_set_has(qfs_flight_targets(c, flight), i))
        rpc->message->of_epoch = TRUE;
    }
}

/* Settled means: at all K holders of now. What is complete under the old S but not settled goes to the
 * holders that the new S brought. */
void qfs_flights_revive(QfsCoordinator *c) {
  new_round(&c->flights);
  new_round(&c->retained);
  for (GList *link = c->retained.head; link != NULL;) {
    GList *next = link->next;
    QfsFlight *flight = link->data;
    if ((qfs_flight_targets(c, flight) & ~flight->acked) != 0)
      flight_revive(c, flight);
    link = next;
  }
  leave_in_their_epoch(c);
}

void qfs_flights_settled(QfsCoordinator *c) {
  for (GList *link = c->retained.head; link != NULL;) {
    GList *next = link->next;
    QfsFlight *flight = link->data;
    if (flight->seq <= c->settled) {
      g_queue_unlink(&c->retained, link);
      flight_free(c, flight);
    }
    link = next;
  }
}

void qfs_flight_forget(QfsCoordinator *c, guint64 seq) {
  QfsFlight *flight = retained_find(c, seq);
  if (flight == NULL)
    return;
  g_queue_unlink(&c->retained, &flight->link);
  flight_free(c, flight);
}

void qfs_flights_end_chunks(QfsCoordinator *c, QfsObjectId id) {
  const QfsObject *object = qfs_object_find(c, id);
  g_autoptr(GArray) seqs = g_array_new(FALSE, FALSE, sizeof(guint64));
  make_obsolete(c, &c->flights, id);
  make_obsolete(c, &c->retained, id);
  for (guint i = 0; object != NULL && i < object->flights->len; i++) {
    QfsFlight *flight = object->flights->pdata[i];
    if (!flight->quorum)
      continue;
    flight->acked |= qfs_flight_targets(c, flight); /* who becomes a holder later gets the record, and these before it */
    flight->full = 0;
    g_array_append_val(seqs, flight->seq);
  }
  for (guint i = 0; i < seqs->len; i++) {
    QfsFlight *flight = flight_find(c, g_array_index(seqs, guint64, i));
    if (flight == NULL)
      continue;
    send_held_back(c, flight);
    if ((flight = flight_find(c, g_array_index(seqs, guint64, i))) != NULL)
      flight_check(c, flight);
  }
}

static void forget(GQueue *flights, QfsNodeSet bit, gboolean lost) {
  for (GList *link = flights->head; link != NULL; link = link->next) {
    QfsFlight *flight = link->data;
    flight->tainted |= ((flight->acked | flight->outstanding) & bit) != 0; /* it may have it when it returns */
    flight->outstanding &= ~bit;
    flight->full &= ~bit;
    if (lost) /* it may come back with less than it had acknowledged */
      flight->acked &= ~bit;
  }
}

static gboolean carries(const QfsFlight *flight, guint64 hash) {
  const QfsMessageType type = flight->message->type;
  gboolean found = FALSE;
  for (guint i = 0; i < flight->n_hashes; i++)
    found = found || flight->hashes[i] == hash;
  return found && (type == QFS_MESSAGE_APPLY || type == QFS_MESSAGE_COMMIT);
}

void qfs_flights_lost_row(QfsCoordinator *c, const QfsKey *key, guint node) {
  for (GList *link = c->flights.head; link != NULL; link = link->next) {
    QfsFlight *flight = link->data;
    if (flight->quorum || !carries(flight, key->hash))
      continue;
    flight->tainted |= (flight->acked | flight->outstanding) != 0;
    flight->acked &= ~QFS_NODE_BIT(node);
    flight->outstanding = 0; /* answers that are under way may be of before */
    flight->round++;
  }
}

void qfs_flights_forget_peer(QfsCoordinator *c, QfsPeer *peer, gboolean lost) {
  forget(&c->flights, QFS_NODE_BIT(peer->index), lost);
  forget(&c->retained, QFS_NODE_BIT(peer->index), lost);
}
