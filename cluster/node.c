/* node.c - see node.h. One thread at a time.
 *
 * A batch is one attempt: every request is served against the writer, which sees its own
 * transaction, the replies are kept back, and the whole is committed once. What an attempt changes
 * in memory (`next`, the tail of `drops`) is adopted only after the commit. */
#include "cluster/node.h"

#include "cluster/placement.h"
#include "cluster/scrub.h"

/* Rows of a garbage object that one step removes: about 4 MiB of pages. */
#define DROP_STEP_ROWS 64
#define SCAN_LIMIT_DEFAULT 256
/* Disk space that only deletes and bookkeeping may use. */
#define ROOM_RESERVE (4u << 20)
/* What is written at most before the disk is asked again. */
#define ROOM_STEP (1u << 20)
/* Requests refused for lack of space that are remembered, and batches that are over. */
#define REFUSED_MAX 1024
#define ENDED_MAX 1024

struct QfsNode {
  QfsEnv *env;
  guint number;
  guint64 incarnation;
  guint64 wiped_incarnation; /* the one that a WIPE was served for */
  QfsReplica *replica;
  QfsNodeMeta meta; /* as last committed */
  QfsFileWatch *watch; /* the replica's; or NULL */
  char *aside;      /* why what lies beside the replica was set aside; NULL: nothing does */
  gboolean is_aside_new; /* ... by this process */
  guint64 room;     /* bytes that may be written before the disk is asked again */
  gboolean is_tight; /* the disk was full: the log is to be moved and given back */
  gboolean corrupt; /* the failure was damage to what is stored */
  char *failure;    /* N3: why everything is refused; NULL while usable */
  guint64 refused[REFUSED_MAX]; /* cookies, a ring: a late copy of one must not work after all */
  guint n_refused;              /* ever */
  guint64 refused_newest;       /* of them: cookies only grow, so what is newer was not refused */
  guint64 ended[ENDED_MAX];     /* intents, a ring: a late copy of one must not bring it back */
  guint n_ended;                /* ever */
  guint64 ended_newest;         /* of them */
  GArray *drops;    /* QfsObjectId: garbage objects of which rows are left */

  /* of the attempt in progress */
  gboolean in_transaction;
  gboolean durable; /* some request wants the commit on stable storage */
  gboolean meta_changed;
  QfsNodeMeta next;
  guint64 next_wiped;
};

typedef gboolean (*Serve)(QfsNode *node, const QfsMessage *request, QfsMessage *reply,
                          GError **error);

QfsNode *qfs_node_new(QfsEnv *env, guint number, guint64 incarnation, QfsReplica *replica,
                      GError **error) {
  g_assert(number >= 1 && number <= QFS_NODES_MAX);
  g_autoptr(QfsReplica) owned = replica;
  g_autofree QfsNodeMeta *meta = g_new0(QfsNodeMeta, 1);
  if (!replica->ops->meta_load(replica, meta, error))
    return NULL;
  if (meta->node != number) {
    g_set_error(error, QFS_REPLICA_ERROR, QFS_REPLICA_ERROR_FORMAT,
                "the replica belongs to node %u, not to node %u", meta->node, number);
    return NULL;
  }
  QfsNode *node = g_new0(QfsNode, 1);
  node->env = env;
  node->number = number;
  node->incarnation = incarnation;
  node->replica = g_steal_pointer(&owned);
  node->meta = *meta;
  node->drops = g_array_new(FALSE, FALSE, sizeof(QfsObjectId));
  node->watch = node->replica->ops->watch(node->replica);
  return node;
}

void qfs_node_free(QfsNode *node) {
  if (node == NULL)
    return;
  qfs_replica_close(node->replica);
  g_array_unref(node->drops);
  g_free(node->failure);
  g_free(node->aside);
  g_free(node);
}

void qfs_node_note_aside(QfsNode *node, const char *reason, gboolean is_new) {
  g_free(node->aside);
  node->aside = g_strdup(reason);
  node->is_aside_new = is_new;
}

QfsFileWatch *qfs_node_watch(const QfsNode *node) {
  return node->watch;
}

const QfsNodeMeta *qfs_node_meta(const QfsNode *node) {
  return node->failure == NULL ? &node->meta : NULL;
}

/* Metadata. */

static gboolean raise_to(guint64 *field, guint64 value) {
  if (value <= *field)
    return FALSE;
  *field = value;
  return TRUE;
}

static void raise_marks(QfsNode *node, const QfsMessage *request) {
  if (raise_to(&node->next.mark, request->mark) | raise_to(&node->next.settled, request->settled) |
      raise_to(&node->next.ceiling, request->ceiling))
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
  if (raise_to(&node->next.promised_epoch, request->id))
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
  raise_to(&node->next.generation, view->epoch);
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
    raise_to(&reply->newest, stored->timestamp);
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
  raise_to(&node->ended_newest, id);
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

static gboolean is_bad_row(const GError *error) {
  return g_error_matches(error, QFS_REPLICA_ERROR, QFS_REPLICA_ERROR_BAD_ROW);
}

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
  if (is_bad_row(local)) {
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

/* Batches. */

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

/* N2. Compared with `next`: a view earlier in the same batch counts. */
static gboolean is_stale(const QfsNode *node, const QfsMessage *request) {
  g_assert(request->type != QFS_MESSAGE_VIEW || request->view != NULL);
  if (request->type == QFS_MESSAGE_HELLO || request->type == QFS_MESSAGE_PING)
    return FALSE;
  const guint64 epoch = request->type == QFS_MESSAGE_VIEW      ? request->view->epoch
                        : request->type == QFS_MESSAGE_PROMISE ? request->id
                                                               : request->epoch;
  return epoch < node->next.promised_epoch;
}

/* Does the request bring something that takes room to stay? Deletes, views, marks and the ends of batches
 * must work on a full disk, or nothing could make room. */
static gboolean brings_data(const QfsMessage *request) {
  if (request->type == QFS_MESSAGE_CHUNKS)
    return TRUE;
  if (request->type == QFS_MESSAGE_MEND && request->print == 0)
    return TRUE;
  if (request->type != QFS_MESSAGE_APPLY && request->type != QFS_MESSAGE_INTENT)
    return FALSE;
  for (guint i = 0; request->records != NULL && i < request->records->len; i++)
    if (qfs_record_exists(g_ptr_array_index(request->records, i)))
      return TRUE;
  return FALSE;
}

/* Nodes that may be on this very disk. */
static guint sharers(const QfsNode *node) {
  return node->next.has_view ? MAX(node->next.view.nodes, node->next.view.replicas) : 5;
}

/* What a byte of payload may take: for each of the K copies, which may be on this very disk, once in the log, once in
 * the file, and a quarter more for pages that are not full. */
static guint64 room_needed(const QfsNode *node, const QfsMessage *request) {
  guint copies = node->next.has_view ? node->next.view.replicas : 5;
  return qfs_message_size(request) * 5 * copies / 2;
}

/* What may be written. What the files are yet to grow by is taken already: else the logs could not be moved once
 * the disk is full, and what is deleted then would never be free. */
static guint64 room_left(const QfsNode *node, const QfsReplicaStats *stats) {
  const guint64 all = stats->disk_free + stats->reusable, taken = stats->owed * sharers(node);
  return all > taken ? all - taken : 0;
}

/* Refuses before anything is written while a reserve is left: nodes that share a disk then refuse alike, so
 * that a write is refused as a whole. The disk is asked again after every few writes. */
static gboolean has_room(QfsNode *node, const QfsMessage *request, GError **error) {
  const guint64 needed = ROOM_RESERVE + room_needed(node, request);
  if (node->room >= needed) {
    node->room -= MIN(node->room, room_needed(node, request));
    return TRUE;
  }
  QfsReplicaStats stats;
  if (!node->replica->ops->stats(node->replica, &stats, error))
    return FALSE;
  if (stats.disk_total == 0)
    return TRUE;
  guint64 room = room_left(node, &stats);
  if (room < needed && node->replica->ops->discard_aside(node->replica)) {
    g_clear_pointer(&node->aside, g_free);
    if (!node->replica->ops->stats(node->replica, &stats, error))
      return FALSE;
    room = room_left(node, &stats);
  }
  if (room < needed || stats.disk_free < ROOM_RESERVE / 4) {
    node->is_tight = TRUE;
    g_set_error(error, QFS_REPLICA_ERROR, QFS_REPLICA_ERROR_NO_SPACE, "the disk is full");
    return FALSE;
  }
  /* What is spent before the next look: little of what is there, for others may spend it too. */
  node->room = ROOM_RESERVE + MIN((room - ROOM_RESERVE) / 16, ROOM_STEP);
  return TRUE;
}

static gboolean was_refused(const QfsNode *node, const QfsMessage *request) {
  if (request->cookie == 0 || request->cookie > node->refused_newest)
    return FALSE;
  for (guint i = 0; i < MIN(node->n_refused, REFUSED_MAX); i++)
    if (node->refused[i] == request->cookie)
      return TRUE;
  return FALSE;
}

static gboolean serve_one(QfsNode *node, const QfsMessage *request, QfsMessage *reply,
                          GError **error) {
  g_assert((guint)request->type < G_N_ELEMENTS(handlers));
  if (is_stale(node, request)) {
    reply->status = QFS_STALE;
    reply->epoch = node->next.promised_epoch; /* what the coordinator has to go beyond */
    return TRUE;
  }
  if (brings_data(request) && was_refused(node, request)) {
    g_set_error(error, QFS_REPLICA_ERROR, QFS_REPLICA_ERROR_NO_SPACE, "the disk was full");
    return FALSE;
  }
  if (brings_data(request) && !has_room(node, request, error))
    return FALSE;
  if (handlers[request->type].writes) {
    if (!node->in_transaction && !node->replica->ops->begin(node->replica, error))
      return FALSE;
    node->in_transaction = TRUE;
    node->durable |= request->durable;
  }
  return handlers[request->type].serve(node, request, reply, error);
}

static gboolean commit(QfsNode *node, GError **error) {
  if (!node->in_transaction)
    return TRUE;
  if (node->meta_changed && !node->replica->ops->meta_store(node->replica, &node->next, error))
    return FALSE;
  if (!node->replica->ops->commit(node->replica, node->durable, error))
    return FALSE;
  node->in_transaction = FALSE;
  node->meta = node->next;
  node->wiped_incarnation = node->next_wiped;
  return TRUE;
}

/* Serves all or nothing; on failure nothing changed, neither on disk nor in memory, and `replies`
 * has its former length. */
static gboolean attempt(QfsNode *node, QfsMessage **requests, guint n, GPtrArray *replies,
                        GError **error) {
  const guint replies_before = replies->len, drops_before = node->drops->len;
  node->next = node->meta;
  node->next_wiped = node->wiped_incarnation;
  node->meta_changed = FALSE;
  node->durable = FALSE;
  gboolean ok = TRUE;
  for (guint i = 0; ok && i < n; i++) {
    QfsMessage *reply = qfs_message_new_reply(requests[i]);
    g_ptr_array_add(replies, reply);
    ok = serve_one(node, requests[i], reply, error);
  }
  if (ok && commit(node, error))
    return TRUE;
  if (node->in_transaction)
    node->replica->ops->rollback(node->replica);
  node->in_transaction = FALSE;
  g_array_set_size(node->drops, drops_before);
  g_ptr_array_set_size(replies, (int)replies_before);
  return FALSE;
}

static void refuse(QfsNode *node, const QfsMessage *request, QfsStatus status, const char *reason,
                   GPtrArray *replies) {
  QfsMessage *reply = qfs_message_new_reply(request);
  reply->status = status;
  reply->reason = g_strdup(reason);
  reply->corrupt = status == QFS_IO && node->corrupt;
  if (status == QFS_NO_SPACE) {
    node->is_tight = TRUE;
    node->refused[node->n_refused++ % REFUSED_MAX] = request->cookie;
    raise_to(&node->refused_newest, request->cookie);
  }
  g_ptr_array_add(replies, reply);
}

static gboolean is_no_space(const GError *error) {
  return g_error_matches(error, QFS_REPLICA_ERROR, QFS_REPLICA_ERROR_NO_SPACE);
}

/* N3. */
static void fail(QfsNode *node, const GError *error) {
  node->corrupt |= g_error_matches(error, QFS_REPLICA_ERROR, QFS_REPLICA_ERROR_CORRUPT);
  if (node->failure == NULL)
    node->failure = g_strdup(error != NULL ? error->message : "unknown storage failure");
}

/* One bad row is that request's failure only (N3). */
static gboolean refuse_bad_row(QfsNode *node, const QfsMessage *request, const GError *error,
                               GPtrArray *replies) {
  if (node->failure != NULL || !is_bad_row(error))
    return FALSE;
  refuse(node, request, QFS_IO, error->message, replies);
  QfsMessage *reply = g_ptr_array_index(replies, replies->len - 1);
  reply->bad = qfs_bad_row_copy(node->replica->ops->bad_row(node->replica));
  return TRUE;
}

/* The batch failed as a whole: each request on its own, so that what fits and can be read is kept. */
static void serve_separately(QfsNode *node, QfsMessage **requests, guint n, GPtrArray *replies) {
  for (guint i = 0; i < n; i++) {
    g_autoptr(GError) error = NULL;
    if (node->failure == NULL && attempt(node, &requests[i], 1, replies, &error))
      continue;
    if (node->failure == NULL && is_no_space(error)) {
      refuse(node, requests[i], QFS_NO_SPACE, error->message, replies);
      continue;
    }
    if (refuse_bad_row(node, requests[i], error, replies))
      continue;
    fail(node, error);
    refuse(node, requests[i], QFS_IO, node->failure, replies);
  }
}

/* N5. FALSE: the node has failed. */
static gboolean owns_its_file(QfsNode *node) {
  const char *objection =
      node->watch != NULL && node->failure == NULL ? qfs_file_watch_objection(node->watch) : NULL;
  if (objection == NULL)
    return TRUE;
  node->corrupt = TRUE;
  node->failure = g_strdup(objection);
  return FALSE;
}

static void serve_all(QfsNode *node, QfsMessage **requests, guint n, GPtrArray *replies) {
  g_autoptr(GError) error = NULL;
  if (node->failure == NULL && attempt(node, requests, n, replies, &error))
    return;
  if (node->failure == NULL && (is_no_space(error) || is_bad_row(error))) {
    if (n > 1)
      serve_separately(node, requests, n, replies);
    else if (is_no_space(error))
      refuse(node, requests[0], QFS_NO_SPACE, error->message, replies);
    else
      refuse_bad_row(node, requests[0], error, replies);
    return;
  }
  fail(node, error);
  for (guint i = 0; i < n; i++)
    refuse(node, requests[i], QFS_IO, node->failure, replies);
}

/* N4. Called in order of arrival. */
static gboolean is_addressed(QfsNode *node, const QfsMessage *request) {
  if (request->type == QFS_MESSAGE_HELLO && request->incarnation > node->incarnation)
    node->incarnation = request->incarnation;
  return request->incarnation == node->incarnation;
}

void qfs_node_handle(QfsNode *node, GPtrArray *batch) {
  gsize n_all = 0;
  g_autofree gpointer *taken = g_ptr_array_steal(batch, &n_all);
  QfsMessage **requests = (QfsMessage **)taken;
  guint n = 0;
  for (gsize i = 0; i < n_all; i++) {
    if (is_addressed(node, requests[i]))
      requests[n++] = requests[i];
    else
      qfs_message_free(requests[i]);
  }
  if (n == 0)
    return;

  g_autoptr(GPtrArray) replies = g_ptr_array_new_with_free_func((GDestroyNotify)qfs_message_free);
  serve_all(node, requests, n, replies);
  g_assert(replies->len == n && !node->in_transaction);
  if (!owns_its_file(node)) {
    g_ptr_array_set_size(replies, 0);
    for (guint i = 0; i < n; i++)
      refuse(node, requests[i], QFS_IO, node->failure, replies);
  }
  for (guint i = 0; i < n; i++)
    qfs_message_free(requests[i]);
  for (guint i = 0; i < n; i++) {
    QfsMessage *reply = g_steal_pointer(&g_ptr_array_index(replies, i));
    if (reply->cookie != 0)
      node->env->reply(node->env, reply);
    else
      qfs_message_free(reply);
  }
}

/* Idle work. */

static gboolean drop_step(QfsNode *node, QfsObjectId object, gboolean *out_more, GError **error) {
  QfsReplica *replica = node->replica;
  if (!replica->ops->begin(replica, error))
    return FALSE;
  if (replica->ops->object_drop(replica, object, DROP_STEP_ROWS, out_more, error) &&
      replica->ops->commit(replica, FALSE, error))
    return TRUE;
  replica->ops->rollback(replica);
  return FALSE;
}

gboolean qfs_node_idle(QfsNode *node) {
  if (node->failure != NULL)
    return FALSE;
  g_autoptr(GError) error = NULL;
  gboolean more = FALSE;
  gboolean ok = node->replica->ops->checkpoint(node->replica, node->is_tight, &error);
  if (ok)
    node->is_tight = FALSE;
  if (ok && node->drops->len > 0) {
    const guint last = node->drops->len - 1;
    ok = drop_step(node, g_array_index(node->drops, QfsObjectId, last), &more, &error);
    if (ok && !more)
      g_array_set_size(node->drops, last);
  }
  if (!ok) {
    /* A full disk is tried again at the next idle time, not in a loop. */
    if (!is_no_space(error))
      fail(node, error);
    return FALSE;
  }
  return node->drops->len > 0;
}
