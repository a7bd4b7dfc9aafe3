/* node_serve.c - what each request does to a node's replica, and what it answers. Called within the attempt of a batch
 * (node.c). One thread at a time.
 */
#include "cluster/node_private.h"
#include "cluster/scrub.h"

#define SCAN_LIMIT_DEFAULT 256

typedef gboolean (*Serve)(QfsNode *node, const QfsMessage *request, QfsMessage *reply,
                          GError **error);

/* Metadata. */

static void raise_marks(QfsNode *node, const QfsMessage *request) {
  if (qfs_raise_to(&node->next.mark, request->mark) | qfs_raise_to(&node->next.settled, request->settled) |
      qfs_raise_to(&node->next.ceiling, request->ceiling))
    node->meta_changed = TRUE;
}

static void tell_aside(const QfsNode *node, QfsMessage *reply) {
  reply->aside = g_strdup(node->aside);
  reply->more = node->is_aside_new;
}

static gboolean serve_hello(QfsNode *node, const QfsMessage *request, QfsMessage *reply,
                            GError **error) {
  reply->meta = g_memdup2(&node->next, sizeof node->next);
  tell_aside(node, reply);
  return node->replica->ops->stats(node->replica, &reply->stats, error);
}

static gboolean serve_ping(QfsNode *node, const QfsMessage *request, QfsMessage *reply,
                           GError **error) {
  return node->replica->ops->stats(node->replica, &reply->stats, error);
}

static gboolean serve_promise(QfsNode *node, const QfsMessage *request, QfsMessage *reply,
                              GError **error) {
  if (qfs_raise_to(&node->next.promised_epoch, request->id) |
      (request->force && qfs_raise_to(&node->next.generation, request->id)))
    node->meta_changed = TRUE;
  node->durable = TRUE;
  return TRUE;
}

static gboolean serve_view(QfsNode *node, const QfsMessage *request, QfsMessage *reply,
                           GError **error) {
  const QfsView *view = request->view;
  node->next.has_view = TRUE;
  node->next.view = *view;
  node->next.promised_epoch = view->epoch;
  qfs_raise_to(&node->next.generation, view->epoch);
  node->meta_changed = TRUE;
  node->durable = TRUE;
  raise_marks(node, request);
  return TRUE;
}

static gboolean serve_sync(QfsNode *node, const QfsMessage *request, QfsMessage *reply,
                           GError **error) {
  raise_marks(node, request);
  node->durable = TRUE;
  return node->replica->ops->stats(node->replica, &reply->stats, error);
}

static gboolean serve_wipe(QfsNode *node, const QfsMessage *request, QfsMessage *reply,
                           GError **error) {
  tell_aside(node, reply);
  /* A repeated request must not take away what came after the first. */
  if (node->next_wiped == request->incarnation) {
    reply->id = node->next.wiped;
    return TRUE;
  }
  node->next_wiped = request->incarnation;
  node->next.wiped = reply->id = request->epoch;
  node->next.mark = 0;
  node->next.settled = 0;
  node->meta_changed = TRUE;
  node->durable = TRUE;
  return node->replica->ops->wipe(node->replica, error);
}

/* Records. */

/* The order of operations on a key is the order of its versions, but for one case: a tombstone that was
 * collected elsewhere and stayed here. The key began anew there, and a later operation may then have been given
 * a smaller timestamp. While a tombstone counts no later operation sends an older version. */
static gboolean gives_way(const QfsRecord *stored, const QfsRecord *record,
                          const QfsMessage *request) {
  guint64 seq = request->first_seq != 0 ? request->first_seq : record->seq;
  return stored->kind == QFS_KIND_TOMBSTONE && stored->seq < seq;
}

static gboolean apply_one(QfsNode *node, const QfsRecord *record, const QfsMessage *request,
                          QfsMessage *reply, GError **error) {
  QfsReplica *replica = node->replica;
  QfsApplyResult result;
  if (!replica->ops->record_apply(replica, record, request->force, &result, error))
    return FALSE;
  if (result != QFS_APPLY_SUPERSEDED)
    return TRUE;
  g_autoptr(QfsRecord) stored = NULL;
  if (!replica->ops->record_get(replica, record->key, &stored, error))
    return FALSE;
  if (stored != NULL && gives_way(stored, record, request))
    return replica->ops->record_apply(replica, record, TRUE, &result, error);
  if (stored != NULL)
    qfs_raise_to(&reply->newest, stored->timestamp);
  return TRUE;
}

static gboolean serve_apply(QfsNode *node, const QfsMessage *request, QfsMessage *reply,
                            GError **error) {
  for (guint i = 0; request->records != NULL && i < request->records->len; i++)
    if (!apply_one(node, g_ptr_array_index(request->records, i), request, reply, error))
      return FALSE;
  return TRUE;
}

static void note_ended(QfsNode *node, guint64 id) {
  node->ended[node->n_ended++ % ENDED_MAX] = id;
  qfs_raise_to(&node->ended_newest, id);
}

static gboolean has_ended(const QfsNode *node, guint64 id) {
  for (guint i = 0; id <= node->ended_newest && i < MIN(node->n_ended, ENDED_MAX); i++)
    if (node->ended[i] == id)
      return TRUE;
  return FALSE;
}

static gboolean serve_intent(QfsNode *node, const QfsMessage *request, QfsMessage *reply,
                             GError **error) {
  if (has_ended(node, request->id))
    return TRUE;
  return node->replica->ops->intent_put(node->replica, request->id, request->records, error);
}

static gboolean serve_commit(QfsNode *node, const QfsMessage *request, QfsMessage *reply,
                             GError **error) {
  /* The intent stays until its effect is durable everywhere: a power failure may take the effect from some
   * holders, and then the batch is rolled forward from here. A COMMIT without records removes it. */
  if (request->records != NULL && request->records->len > 0)
    return serve_apply(node, request, reply, error);
  note_ended(node, request->id);
  return node->replica->ops->intent_remove(node->replica, request->id, error);
}

static gboolean serve_intents(QfsNode *node, const QfsMessage *request, QfsMessage *reply,
                              GError **error) {
  QfsReplica *replica = node->replica;
  g_autoptr(GArray) ids = g_array_new(FALSE, FALSE, sizeof(guint64));
  if (!replica->ops->intent_list(replica, ids, error))
    return FALSE;
  reply->intents = g_ptr_array_new_with_free_func((GDestroyNotify)qfs_intent_free);
  for (guint i = 0; i < ids->len; i++) {
    QfsIntent *intent = g_new0(QfsIntent, 1);
    intent->id = g_array_index(ids, guint64, i);
    g_ptr_array_add(reply->intents, intent);
    if (!replica->ops->intent_get(replica, intent->id, &intent->records, error))
      return FALSE;
  }
  return TRUE;
}

static gboolean serve_read(QfsNode *node, const QfsMessage *request, QfsMessage *reply,
                           GError **error) {
  QfsRecord *record = NULL;
  if (!node->replica->ops->record_get(node->replica, request->key, &record, error))
    return FALSE;
  reply->records = qfs_records_new();
  if (record != NULL)
    g_ptr_array_add(reply->records, record);
  return TRUE;
}

static gboolean serve_scan_records(QfsNode *node, const QfsMessage *request, QfsMessage *reply,
                                   GError **error) {
  reply->records = qfs_records_new();
  return node->replica->ops->record_scan(node->replica, request->after_seq,
                                         request->key,
                                         request->limit != 0 ? request->limit : SCAN_LIMIT_DEFAULT,
                                         reply->records, &reply->more, error);
}

static gboolean serve_scan_tombstones(QfsNode *node, const QfsMessage *request, QfsMessage *reply,
                                      GError **error) {
  reply->records = qfs_records_new();
  return node->replica->ops->tombstone_scan(node->replica, request->after_seq, request->key,
                                            request->limit != 0 ? request->limit
                                                                : SCAN_LIMIT_DEFAULT,
                                            reply->records, &reply->more, error);
}

static gboolean serve_purge(QfsNode *node, const QfsMessage *request, QfsMessage *reply,
                            GError **error) {
  QfsReplica *replica = node->replica;
  for (guint i = 0; request->records != NULL && i < request->records->len; i++) {
    const QfsRecord *tombstone = g_ptr_array_index(request->records, i);
    g_autoptr(QfsRecord) stored = NULL;
    if (!replica->ops->record_get(replica, tombstone->key, &stored, error))
      return FALSE;
    if (stored == NULL || stored->seq > request->after_seq)
      continue;
    int order = qfs_record_compare(stored, tombstone);
    if ((order < 0 || (order == 0 && request->force)) &&
        !replica->ops->record_remove(replica, tombstone->key, error))
      return FALSE;
  }
  return TRUE;
}

static gboolean serve_remove(QfsNode *node, const QfsMessage *request, QfsMessage *reply,
                             GError **error) {
  /* Only exactly this version: a late request must not take a newer one. */
  g_autoptr(QfsRecord) stored = NULL;
  if (!node->replica->ops->record_get(node->replica, request->key, &stored, error))
    return FALSE;
  const QfsRecord *unwanted = g_ptr_array_index(request->records, 0);
  if (stored == NULL || qfs_record_compare(stored, unwanted) != 0)
    return TRUE;
  if (!node->replica->ops->record_remove(node->replica, request->key, error))
    return FALSE;
  return request->records->len < 2 ||
         apply_one(node, g_ptr_array_index(request->records, 1), request, reply, error);
}

/* ---- bad rows ---- */

static QfsChunk *first_chunk(GPtrArray *chunks) {
  return chunks != NULL && chunks->len > 0 ? g_ptr_array_index(chunks, 0) : NULL;
}

static gboolean inspect_chunk(QfsReplica *replica, const QfsChunk *id, QfsMessage *reply, GError **error) {
  QfsChunk *chunk = NULL;
  if (!replica->ops->chunk_exact(replica, id, &chunk, error))
    return FALSE;
  reply->chunks = qfs_chunks_new();
  if (chunk != NULL)
    g_ptr_array_add(reply->chunks, chunk);
  return TRUE;
}

static gboolean serve_inspect(QfsNode *node, const QfsMessage *request, QfsMessage *reply,
                              GError **error) {
  QfsReplica *replica = node->replica;
  const QfsChunk *id = first_chunk(request->chunks);
  g_autoptr(GError) local = NULL;
  if (id != NULL ? inspect_chunk(replica, id, reply, &local) : serve_read(node, request, reply, &local))
    return TRUE;
  if (qfs_is_bad_row(local)) {
    reply->bad = qfs_bad_row_copy(replica->ops->bad_row(replica));
    return id != NULL ? replica->ops->chunk_print(replica, id, &reply->print, error)
                      : replica->ops->record_print(replica, request->key, &reply->print, error);
  }
  g_propagate_error(error, g_steal_pointer(&local));
  return FALSE;
}

static gboolean serve_mend(QfsNode *node, const QfsMessage *request, QfsMessage *reply,
                           GError **error) {
  const QfsChunk *chunk = first_chunk(request->chunks);
  if (chunk != NULL)
    return node->replica->ops->chunk_mend(node->replica, chunk, request->print,
                                          chunk->data != NULL ? chunk : NULL, &reply->more, error);
  const QfsRecord *record = request->records->len > 0 ? g_ptr_array_index(request->records, 0) : NULL;
  return node->replica->ops->record_mend(node->replica, request->key, request->print, record,
                                         &reply->more, error);
}

/* The place after which the walk goes on: the last row, good or bad. A bad one may be out of order: then the
 * greatest good one, and the bad one is met again. */
static gboolean serve_verify(QfsNode *node, const QfsMessage *request, QfsMessage *reply, GError **error) {
  g_autoptr(GPtrArray) rows = qfs_chunks_new();
  reply->bad_rows = g_ptr_array_new_with_free_func((GDestroyNotify)qfs_bad_row_free);
  if (!node->replica->ops->chunk_walk(node->replica, first_chunk(request->chunks), NULL, TRUE, request->limit,
                                      rows, reply->bad_rows, &reply->more, error))
    return FALSE;
  reply->limit = rows->len + reply->bad_rows->len;
  reply->chunks = qfs_chunks_new();
  const QfsChunk *last = rows->len > 0 ? g_ptr_array_index(rows, rows->len - 1) : NULL;
  if (last == NULL && reply->bad_rows->len > 0)
    last = &((const QfsBadRow *)g_ptr_array_index(reply->bad_rows, reply->bad_rows->len - 1))->chunk;
  if (last != NULL) {
    QfsChunk *place = g_memdup2(last, sizeof *last);
    place->data = NULL;
    g_ptr_array_add(reply->chunks, place);
  }
  return TRUE;
}

static gboolean serve_digest(QfsNode *node, const QfsMessage *request, QfsMessage *reply,
                             GError **error) {
  return qfs_digest_records(node->replica, node->number, request, reply, error);
}

static gboolean serve_digest_chunks(QfsNode *node, const QfsMessage *request, QfsMessage *reply,
                                    GError **error) {
  return qfs_digest_chunks(node->replica, node->number, request, reply, error);
}

/* Chunks. */

static gboolean serve_chunks(QfsNode *node, const QfsMessage *request, QfsMessage *reply,
                             GError **error) {
  for (guint i = 0; request->chunks != NULL && i < request->chunks->len; i++)
    if (!node->replica->ops->chunk_put(node->replica, g_ptr_array_index(request->chunks, i), error))
      return FALSE;
  return TRUE;
}

static gboolean serve_chunk_get(QfsNode *node, const QfsMessage *request, QfsMessage *reply,
                                GError **error) {
  const QfsChunk *wanted = g_ptr_array_index(request->chunks, 0);
  QfsChunk *chunk = NULL;
  if (!node->replica->ops->chunk_get(node->replica, wanted->object, wanted->index, wanted->version,
                                     &chunk, NULL, error))
    return FALSE;
  reply->chunks = qfs_chunks_new();
  if (chunk != NULL && chunk->version == wanted->version)
    g_ptr_array_add(reply->chunks, chunk);
  else
    qfs_chunk_free(chunk);
  return TRUE;
}

static gboolean serve_scan_chunks(QfsNode *node, const QfsMessage *request, QfsMessage *reply,
                                  GError **error) {
  const gboolean from_chunk = request->chunks != NULL && request->chunks->len > 0;
  const QfsChunk *after = from_chunk ? g_ptr_array_index(request->chunks, 0) : NULL;
  reply->chunks = qfs_chunks_new();
  return node->replica->ops->chunk_scan(node->replica, request->after_seq, after,
                                        request->with_data,
                                        request->limit != 0 ? request->limit : SCAN_LIMIT_DEFAULT,
                                        reply->chunks, &reply->more, error);
}

static gboolean serve_list_chunks(QfsNode *node, const QfsMessage *request, QfsMessage *reply,
                                  GError **error) {
  const gboolean from_chunk = request->chunks != NULL && request->chunks->len > 0;
  const QfsChunk *after = from_chunk ? g_ptr_array_index(request->chunks, 0) : NULL;
  reply->chunks = qfs_chunks_new();
  return node->replica->ops->chunk_list(node->replica, after,
                                        request->limit != 0 ? request->limit : SCAN_LIMIT_DEFAULT,
                                        reply->chunks, &reply->more, error);
}

static gboolean serve_object_records(QfsNode *node, const QfsMessage *request, QfsMessage *reply,
                                     GError **error) {
  reply->records = qfs_records_new();
  for (guint i = 0; request->chunks != NULL && i < request->chunks->len; i++) {
    const QfsChunk *chunk = g_ptr_array_index(request->chunks, i);
    if (!node->replica->ops->object_records(node->replica, chunk->object, reply->records, error))
      return FALSE;
  }
  return TRUE;
}

/* A large object would hold up the batch: its first rows go now, the others in qfs_node_idle. */
static gboolean discard_object(QfsNode *node, QfsObjectId object, GError **error) {
  gboolean more = FALSE;
  if (!node->replica->ops->object_drop(node->replica, object, DROP_STEP_ROWS, &more, error))
    return FALSE;
  if (more)
    g_array_append_val(node->drops, object);
  return TRUE;
}

static gboolean serve_discard(QfsNode *node, const QfsMessage *request, QfsMessage *reply,
                              GError **error) {
  QfsReplica *replica = node->replica;
  for (guint i = 0; request->chunks != NULL && i < request->chunks->len; i++) {
    const QfsChunk *chunk = g_ptr_array_index(request->chunks, i);
    gboolean ok = FALSE;
    switch (request->discard) {
    case QFS_DISCARD_OBJECT:
      ok = discard_object(node, chunk->object, error);
      break;
    case QFS_DISCARD_OLDER:
      ok = replica->ops->chunk_trim(replica, chunk->object, chunk->index, chunk->version, error);
      break;
    case QFS_DISCARD_VERSION:
      ok = replica->ops->chunk_remove(replica, chunk->object, chunk->index, chunk->version, error);
      break;
    }
    if (!ok)
      return FALSE;
  }
  return TRUE;
}

static const struct {
  Serve serve;
  gboolean writes;
} handlers[] = {
    [QFS_MESSAGE_HELLO] = {serve_hello, FALSE},
    [QFS_MESSAGE_PROMISE] = {serve_promise, TRUE},
    [QFS_MESSAGE_VIEW] = {serve_view, TRUE},
    [QFS_MESSAGE_APPLY] = {serve_apply, TRUE},
    [QFS_MESSAGE_CHUNKS] = {serve_chunks, TRUE},
    [QFS_MESSAGE_INTENT] = {serve_intent, TRUE},
    [QFS_MESSAGE_COMMIT] = {serve_commit, TRUE},
    [QFS_MESSAGE_DISCARD] = {serve_discard, TRUE},
    [QFS_MESSAGE_SYNC] = {serve_sync, TRUE},
    [QFS_MESSAGE_READ] = {serve_read, FALSE},
    [QFS_MESSAGE_CHUNK_GET] = {serve_chunk_get, FALSE},
    [QFS_MESSAGE_SCAN_RECORDS] = {serve_scan_records, FALSE},
    [QFS_MESSAGE_SCAN_CHUNKS] = {serve_scan_chunks, FALSE},
    [QFS_MESSAGE_INTENTS] = {serve_intents, FALSE},
    [QFS_MESSAGE_REMOVE] = {serve_remove, TRUE},
    [QFS_MESSAGE_WIPE] = {serve_wipe, TRUE},
    [QFS_MESSAGE_SCAN_TOMBSTONES] = {serve_scan_tombstones, FALSE},
    [QFS_MESSAGE_PURGE] = {serve_purge, TRUE},
    [QFS_MESSAGE_LIST_CHUNKS] = {serve_list_chunks, FALSE},
    [QFS_MESSAGE_OBJECT_RECORDS] = {serve_object_records, FALSE},
    [QFS_MESSAGE_PING] = {serve_ping, FALSE},
    [QFS_MESSAGE_INSPECT] = {serve_inspect, FALSE},
    [QFS_MESSAGE_MEND] = {serve_mend, TRUE},
    [QFS_MESSAGE_VERIFY] = {serve_verify, FALSE},
    [QFS_MESSAGE_DIGEST] = {serve_digest, FALSE},
    [QFS_MESSAGE_DIGEST_CHUNKS] = {serve_digest_chunks, FALSE},
};

gboolean qfs_node_serve(QfsNode *node, const QfsMessage *request, QfsMessage *reply, GError **error) {
  return handlers[request->type].serve(node, request, reply, error);
}

gboolean qfs_node_writes(const QfsMessage *request) {
  g_assert((guint)request->type < G_N_ELEMENTS(handlers));
  return handlers[request->type].writes;
}
