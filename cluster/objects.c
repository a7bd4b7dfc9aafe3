/* objects.c - chunked values: which nodes have which chunks, who still reads them, what is garbage.
 *
 * Chunk rows carry the number of the write that brought them, and a read of a version takes, of the rows
 * that its spans have (storage/spans.h), the newest; so an overwritten chunk stays readable for the old
 * version until it is discarded, which happens only when the version that replaced it is settled (else a
 * power failure could bring the old record back without its chunks) and nobody pins the object. Rows that no
 * record has harm nobody: reclaim.c finds those that no garbage entry knows of.
 */
#include "cluster/private.h"

typedef struct {
  guint64 seq;
  guint64 round;      /* of settling that began when the operation was at all holders; 0: not yet */
  guint64 intent;     /* or 0 */
  QfsDiscard discard;
  QfsObjectId id;
  GPtrArray *chunks;
} Garbage;

guint qfs_object_id_hash(gconstpointer p) {
  const QfsObjectId *id = p;
  return (guint)(id->unique ^ (id->unique >> 32) ^ id->placement);
}

gboolean qfs_object_id_equal(gconstpointer a, gconstpointer b) {
  return qfs_object_equal(*(const QfsObjectId *)a, *(const QfsObjectId *)b);
}

QfsObject *qfs_object_find(QfsCoordinator *c, QfsObjectId id) {
  return g_hash_table_lookup(c->objects, &id);
}

QfsObject *qfs_object_use(QfsCoordinator *c, QfsObjectId id) {
  QfsObject *object = qfs_object_find(c, id);
  if (object == NULL) {
    object = g_new0(QfsObject, 1);
    object->id = id;
    object->flights = g_ptr_array_new();
    g_hash_table_insert(c->objects, &object->id, object);
  }
  return object;
}

void qfs_object_release_if_idle(QfsCoordinator *c, QfsObject *object) {
  if (object->pins > 0 || object->flights->len > 0)
    return;
  g_hash_table_remove(c->objects, &object->id);
  g_ptr_array_unref(object->flights);
  g_free(object);
}

void qfs_coordinator_pin(QfsCoordinator *c, QfsObjectId id) {
  if (!qfs_object_is_none(id))
    qfs_object_use(c, id)->pins++;
}

void qfs_coordinator_unpin(QfsCoordinator *c, QfsObjectId id) {
  QfsObject *object = qfs_object_is_none(id) ? NULL : qfs_object_find(c, id);
  if (object == NULL)
    return;
  g_assert(object->pins > 0);
  object->pins--;
  gboolean free_now = object->pins == 0;
  qfs_object_release_if_idle(c, object);
  if (free_now)
    qfs_garbage_collect(c);
}

void qfs_coordinator_discard(QfsCoordinator *c, QfsObjectId id) {
  if (!qfs_object_is_none(id)) {
    qfs_object_unstage(c, id);
    qfs_garbage_add(c, c->last_seq, QFS_DISCARD_OBJECT, id, NULL);
  }
  qfs_garbage_collect(c);
}

/* ---- chunks on their way ---- */

typedef struct {
  gpointer data;
  QfsFlightDone on_quorum, on_refused;
} ChunkFlight;

static void chunks_quorum(QfsCoordinator *c, QfsFlight *flight, gpointer data) {
  ChunkFlight *cf = data;
  if (cf->on_quorum != NULL)
    cf->on_quorum(c, flight, cf->data);
}

static QfsObjectId object_of(const QfsFlight *flight) {
  return ((const QfsChunk *)flight->message->chunks->pdata[0])->object;
}

void qfs_object_add_flight(QfsCoordinator *c, QfsFlight *flight) {
  g_ptr_array_add(qfs_object_use(c, object_of(flight))->flights, flight);
}

void qfs_object_remove_flight(QfsCoordinator *c, QfsFlight *flight) {
  QfsObject *object = qfs_object_find(c, object_of(flight));
  if (object != NULL && g_ptr_array_remove_fast(object->flights, flight))
    qfs_object_release_if_idle(c, object);
}

static void chunks_refused(QfsCoordinator *c, QfsFlight *flight, gpointer data) {
  ChunkFlight *cf = data;
  cf->on_refused(c, flight, cf->data);
  qfs_object_remove_flight(c, flight);
  g_free(cf);
}

static void chunks_complete(QfsCoordinator *c, QfsFlight *flight, gpointer data) { g_free(data); }

QfsFlight *qfs_object_send_chunks(QfsCoordinator *c, QfsObjectId id, GPtrArray *chunks,
                                  gboolean durable, gpointer data, QfsFlightDone on_quorum,
                                  QfsFlightDone on_refused) {
  QfsMessage *message = qfs_message_new(QFS_MESSAGE_CHUNKS, 0);
  message->durable = durable;
  message->chunks = chunks;
  guint64 seq = qfs_next_seq(c);
  for (guint i = 0; i < chunks->len; i++)
    ((QfsChunk *)chunks->pdata[i])->seq = seq;
  ChunkFlight *cf = g_new0(ChunkFlight, 1);
  cf->data = data;
  cf->on_quorum = on_quorum;
  cf->on_refused = on_refused;
  QfsFlight *flight = qfs_flight_start(c, message, &id.placement, 1, FALSE, cf, chunks_quorum,
                                       chunks_complete, on_refused ? chunks_refused : NULL);
  qfs_object_add_flight(c, flight);
  return flight;
}

QfsNodeSet qfs_object_readable(QfsCoordinator *c, QfsObjectId id, guint64 version) {
  QfsNodeSet nodes = qfs_readable(c, id.placement);
  QfsObject *object = qfs_object_find(c, id);
  if (object == NULL)
    return nodes;
  for (guint i = 0; i < object->flights->len; i++) {
    QfsFlight *flight = object->flights->pdata[i];
    const QfsChunk *first = flight->message->chunks->pdata[0];
    if (first->version <= version)
      nodes &= flight->acked;
  }
  return nodes;
}

/* ---- garbage ---- */

void qfs_garbage_add(QfsCoordinator *c, guint64 seq, QfsDiscard discard, QfsObjectId id,
                     GPtrArray *chunks) {
  Garbage *garbage = g_slice_new(Garbage);
  garbage->seq = seq;
  garbage->round = 0;
  garbage->intent = 0;
  garbage->discard = discard;
  garbage->id = id;
  garbage->chunks = chunks;
  if (chunks == NULL) {
    garbage->chunks = qfs_chunks_new();
    QfsChunk *chunk = g_new0(QfsChunk, 1);
    chunk->object = id;
    g_ptr_array_add(garbage->chunks, chunk);
  }
  g_queue_push_tail(&c->garbage, garbage);
  qfs_settle_dirty(c);
}

void qfs_garbage_add_intent(QfsCoordinator *c, guint64 seq, guint64 id) {
  qfs_garbage_add(c, seq, QFS_DISCARD_OBJECT, (QfsObjectId){0, 0}, NULL);
  ((Garbage *)g_queue_peek_tail(&c->garbage))->intent = id;
}

gboolean qfs_garbage_has_intents(const QfsCoordinator *c) {
  for (GList *link = c->garbage.head; link != NULL; link = link->next)
    if (((const Garbage *)link->data)->intent != 0)
      return TRUE;
  return FALSE;
}

/* Who was lost meanwhile is asked for its intents when it returns. A node that refused keeps its intent, and a
 * later start would roll it forward, though its keys may be deleted and forgotten by then: it is asked again. */
static void intent_left(QfsCoordinator *c, QfsPeer *peer, QfsMessage *reply, gpointer data) {
  g_autofree guint64 *id = data;
  c->intents_leaving--;
  if (reply != NULL && !qfs_peer_reply_ok(c, peer, reply))
    qfs_garbage_add_intent(c, c->last_seq, *id);
}

static void intent_send(QfsCoordinator *c, guint64 id) {
  qfs_flight_forget(c, id); /* or a node that becomes a holder later would be given the intent again */
  for (QfsNodeSet nodes = qfs_peers_alive(c); nodes != 0; nodes &= nodes - 1) {
    QfsPeer *peer = &c->peer[__builtin_ctzll(nodes) + 1];
    QfsMessage *message = qfs_message_new(QFS_MESSAGE_COMMIT, peer->index);
    message->id = id;
    message->records = qfs_records_new();
    c->intents_leaving++;
    qfs_rpc_send(c, peer, message, intent_left, g_memdup2(&id, sizeof id));
  }
}

static void garbage_send(QfsCoordinator *c, Garbage *garbage) {
  if (garbage->intent != 0) {
    intent_send(c, garbage->intent);
    return;
  }
  if (garbage->discard == QFS_DISCARD_OBJECT)
    qfs_flights_end_chunks(c, garbage->id);
  QfsNodeSet nodes = qfs_holders(c, garbage->id.placement) |
                     qfs_placement_holders(garbage->id.placement, c->view.base, qfs_replicas(c)) |
                     qfs_mover_holders(c, garbage->id.placement);
  nodes &= qfs_peers_in(c, PEER_TRUSTED) | qfs_peers_in(c, PEER_JOINING);
  for (; nodes != 0; nodes &= nodes - 1) {
    QfsPeer *peer = &c->peer[__builtin_ctzll(nodes) + 1];
    QfsMessage *message = qfs_message_new(QFS_MESSAGE_DISCARD, peer->index);
    message->discard = garbage->discard;
    message->chunks = g_ptr_array_ref(garbage->chunks);
    qfs_rpc_send(c, peer, message, NULL, NULL);
  }
}

/* Some holder, perhaps one that has become one since, does not have yet what makes it garbage, and may need it until then.
 * Not by the settled mark: one write that waits for space must not keep all other space from being freed. */
static gboolean is_told(QfsCoordinator *c, const Garbage *garbage) {
  return qfs_flight_is_under_way(c, garbage->seq) ||
         (garbage->intent != 0 && qfs_flight_is_under_way(c, garbage->intent));
}

void qfs_garbage_round(QfsCoordinator *c) {
  for (GList *link = c->garbage.head; link != NULL; link = link->next) {
    Garbage *garbage = link->data;
    if (is_told(c, garbage))
      garbage->round = 0;
    else if (garbage->round == 0)
      garbage->round = c->settle_id;
  }
}

gboolean qfs_garbage_waits(const QfsCoordinator *c) {
  for (GList *link = c->garbage.head; link != NULL; link = link->next)
    if (((const Garbage *)link->data)->round == 0)
      return TRUE;
  return FALSE;
}

void qfs_garbage_collect(QfsCoordinator *c) {
  for (GList *link = c->garbage.head; link != NULL;) {
    GList *next = link->next;
    Garbage *garbage = link->data;
    QfsObject *object = qfs_object_find(c, garbage->id);
    gboolean pinned = object != NULL && object->pins > 0;
    gboolean durable = garbage->round != 0 && garbage->round <= c->settle_done;
    if (durable && !pinned && is_told(c, garbage)) {
      garbage->round = 0;
    } else if (durable && !pinned) {
      garbage_send(c, garbage);
      g_ptr_array_unref(garbage->chunks);
      g_slice_free(Garbage, garbage);
      g_queue_delete_link(&c->garbage, link);
    }
    link = next;
  }
}

/* ---- what rows may yet come to light ---- */

guint64 qfs_next_write(QfsCoordinator *c) {
  /* The view is durable at a majority, so the next life's epoch is greater: no number is given twice. */
  return QFS_WRITE_NUMBER(c->view.epoch, ++c->counter);
}

void qfs_writes_uncertain(QfsCoordinator *c) {
  c->extend_above = QFS_WRITE_NUMBER(c->epoch_seen + 1, 0); /* an epoch's first counter is 1 at least */
  g_hash_table_remove_all(c->given_up);
  qfs_reclaim_unprove(c);
}

void qfs_object_give_up(QfsCoordinator *c, QfsObjectId id, guint64 number) {
  g_hash_table_replace(c->given_up, g_memdup2(&id, sizeof id), g_memdup2(&number, sizeof number));
  qfs_reclaim_unprove(c);
  qfs_reclaim_want(c);
}

gboolean qfs_object_may_extend(QfsCoordinator *c, QfsObjectId id, guint64 newest) {
  const guint64 *number = g_hash_table_lookup(c->given_up, &id);
  return newest > c->extend_above && (number == NULL || newest > *number);
}

void qfs_object_stage(QfsCoordinator *c, QfsObjectId id) {
  if (!g_hash_table_contains(c->staged, &id))
    g_hash_table_add(c->staged, g_memdup2(&id, sizeof id));
}

void qfs_object_unstage(QfsCoordinator *c, QfsObjectId id) { g_hash_table_remove(c->staged, &id); }

gboolean qfs_object_is_staged(const QfsCoordinator *c, QfsObjectId id) {
  return g_hash_table_contains(c->staged, &id);
}
