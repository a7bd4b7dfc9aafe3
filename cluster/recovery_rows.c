/* recovery_rows.c - what a start finds, and completing it on all holders. See recovery.c. */
#include "cluster/recovery.h"

#include <string.h>

#define SCAN_LIMIT 256
#define WRITE_WINDOW 64

static void scan_chunks(QfsCoordinator *c, QfsPeer *peer, guint64 after_seq, const QfsChunk *after);

static guint found_hash(gconstpointer p) {
  const QfsFoundChunk *f = p;
  return (guint)(f->id.object.unique ^ f->id.index * 31 ^ f->id.version);
}

static gboolean found_equal(gconstpointer a, gconstpointer b) {
  const QfsChunk *x = &((const QfsFoundChunk *)a)->id, *y = &((const QfsFoundChunk *)b)->id;
  return qfs_object_equal(x->object, y->object) && x->index == y->index && x->version == y->version;
}

void qfs_recovery_init_rows(QfsRecovery *r) {
  r->records = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify)qfs_record_unref);
  r->winners = g_hash_table_new(qfs_object_id_hash, qfs_object_id_equal);
  r->chunks = g_hash_table_new_full(found_hash, found_equal, g_free, NULL);
}

/* ---- scanning ---- */

void qfs_recovery_take_record(QfsRecovery *r, QfsRecord *record) {
  QfsRecord *known = g_hash_table_lookup(r->records, record->key);
  const int order = qfs_record_compare(record, known);
  if (order > 0 || (order == 0 && record->seq > known->seq)) /* the same version by its latest number */
    g_hash_table_replace(r->records, record->key, qfs_record_ref(record));
}

/* Two keys may name one object: what a rename left of the former name may have come to light again. */
static void note_winner(QfsRecovery *r, QfsRecord *record) {
  if (qfs_object_is_none(record->object))
    return;
  const QfsRecord *known = g_hash_table_lookup(r->winners, &record->object);
  if (known == NULL || qfs_record_newest_write(known) < qfs_record_newest_write(record))
    g_hash_table_replace(r->winners, &record->object, record);
}

void qfs_recovery_everything_found(QfsCoordinator *c) {
  QfsRecovery *r = c->recovery;
  GHashTableIter iter;
  gpointer value;
  r->todo_records = g_ptr_array_new();
  g_hash_table_iter_init(&iter, r->records);
  while (g_hash_table_iter_next(&iter, NULL, &value)) {
    QfsRecord *record = value;
    g_ptr_array_add(r->todo_records, record);
    note_winner(r, record);
  }
  r->todo_chunks = g_ptr_array_new();
  g_hash_table_iter_init(&iter, r->chunks);
  while (g_hash_table_iter_next(&iter, NULL, &value))
    g_ptr_array_add(r->todo_chunks, value);
  c->seen |= r->scanned;
  qfs_view_update_blocked(c);
  qfs_recovery_spread_intents(c);
}

static void chunks_reply(QfsCoordinator *c, QfsPeer *peer, QfsMessage *reply, gpointer data) {
  g_autofree QfsRecoveryStep *step = data;
  if (!qfs_recovery_reply_ok(c, peer, reply, step))
    return;
  for (guint i = 0; reply->chunks != NULL && i < reply->chunks->len; i++) {
    QfsChunk *chunk = reply->chunks->pdata[i];
    QfsFoundChunk probe = {.id = *chunk};
    QfsFoundChunk *found = g_hash_table_lookup(c->recovery->chunks, &probe);
    if (found == NULL) {
      found = g_new0(QfsFoundChunk, 1);
      found->id = *chunk;
      found->id.data = NULL;
      g_hash_table_add(c->recovery->chunks, found);
    }
    found->at |= QFS_NODE_BIT(peer->index);
  }
  if (reply->more && reply->chunks->len > 0) {
    QfsChunk *last = reply->chunks->pdata[reply->chunks->len - 1];
    scan_chunks(c, peer, last->seq, last);
    return;
  }
  qfs_recovery_scan_intents(c, peer);
}

static void scan_chunks(QfsCoordinator *c, QfsPeer *peer, guint64 after_seq, const QfsChunk *after) {
  QfsMessage *message = qfs_message_new(QFS_MESSAGE_SCAN_CHUNKS, peer->index);
  message->after_seq = after_seq;
  message->limit = SCAN_LIMIT;
  if (after != NULL) {
    message->chunks = qfs_chunks_new();
    QfsChunk *position = g_memdup2(after, sizeof *after);
    position->data = NULL;
    g_ptr_array_add(message->chunks, position);
  }
  qfs_rpc_send(c, peer, message, chunks_reply, qfs_recovery_step(c->recovery, peer->index));
}

static void records_reply(QfsCoordinator *c, QfsPeer *peer, QfsMessage *reply, gpointer data) {
  g_autofree QfsRecoveryStep *step = data;
  if (!qfs_recovery_reply_ok(c, peer, reply, step))
    return;
  for (guint i = 0; reply->records != NULL && i < reply->records->len; i++) {
    QfsRecord *record = reply->records->pdata[i];
    if (qfs_set_has(c->recovery->members, peer->index))
      qfs_recovery_take_record(c->recovery, record);
    else if (qfs_recovery_counts(c, peer->index, record))
      qfs_recovery_note_guest(c->recovery, peer->index, record);
  }
  if (reply->more && reply->records->len > 0) {
    QfsRecord *last = reply->records->pdata[reply->records->len - 1];
    qfs_recovery_scan_records(c, peer, last->seq, last->key);
    return;
  }
  scan_chunks(c, peer, c->recovery->from, NULL);
}

void qfs_recovery_scan_records(QfsCoordinator *c, QfsPeer *peer, guint64 after_seq, const char *after) {
  QfsMessage *message = qfs_message_new(QFS_MESSAGE_SCAN_RECORDS, peer->index);
  message->after_seq = after_seq;
  message->key = g_strdup(after);
  message->limit = SCAN_LIMIT;
  qfs_rpc_send(c, peer, message, records_reply, qfs_recovery_step(c->recovery, peer->index));
}

/* ---- completing what was found ---- */

static gint by_key(gconstpointer a, gconstpointer b) {
  return strcmp((*(QfsRecord *const *)a)->key, (*(QfsRecord *const *)b)->key);
}

static gint by_seq(gconstpointer a, gconstpointer b) {
  const QfsChunk *x = &(*(QfsFoundChunk *const *)a)->id, *y = &(*(QfsFoundChunk *const *)b)->id;
  if (x->seq != y->seq)
    return x->seq < y->seq ? -1 : 1;
  return x->index < y->index ? -1 : x->index > y->index;
}

static GPtrArray *chunk_name(const QfsChunk *id) {
  GPtrArray *chunks = qfs_chunks_new();
  QfsChunk *chunk = g_memdup2(id, sizeof *id);
  chunk->data = NULL;
  g_ptr_array_add(chunks, chunk);
  return chunks;
}

static void recovery_one_done(QfsCoordinator *c) {
  c->recovery->in_flight--;
  qfs_recovery_write_more(c);
}

static void flight_complete(QfsCoordinator *c, QfsFlight *flight, gpointer data) {
  g_autofree QfsRecoveryStep *step = data;
  if (qfs_recovery_is_current(c, step))
    recovery_one_done(c);
}

static void write_record(QfsCoordinator *c, const QfsRecord *record) {
  QfsMessage *message = qfs_message_new(QFS_MESSAGE_APPLY, 0);
  /* Intents are removed next: a power failure must not take one half of what they say after that. */
  message->durable = g_hash_table_size(c->recovery->intents) > 0;
  message->records = qfs_records_new();
  QfsRecord *copy = qfs_record_copy(record);
  copy->seq = qfs_next_seq(c);
  message->first_seq = record->seq;
  g_ptr_array_add(message->records, copy);
  guint64 hash = qfs_key_hash(record->key);
  c->recovery->in_flight++;
  qfs_flight_start(c, message, &hash, 1, FALSE, qfs_recovery_step(c->recovery, 0), NULL, flight_complete, NULL)
      ->recovery = TRUE;
}

static void chunk_found(QfsCoordinator *c, QfsPeer *peer, QfsMessage *reply, gpointer data) {
  g_autofree QfsRecoveryStep *step = data;
  if (!qfs_recovery_reply_ok(c, peer, reply, step))
    return;
  if (reply->chunks == NULL || reply->chunks->len == 0) {
    recovery_one_done(c);
    return;
  }
  QfsChunk *chunk = reply->chunks->pdata[0];
  QfsMessage *message = qfs_message_new(QFS_MESSAGE_CHUNKS, 0);
  message->chunks = qfs_chunks_new();
  QfsChunk *copy = g_memdup2(chunk, sizeof *chunk);
  g_bytes_ref(copy->data);
  copy->seq = qfs_next_seq(c);
  const QfsRecord *winner = g_hash_table_lookup(c->recovery->winners, &copy->object);
  message->durable = qfs_record_is_away(winner);
  g_ptr_array_add(message->chunks, copy);
  qfs_flight_start(c, message, &copy->object.placement, 1, FALSE, qfs_recovery_step(c->recovery, 0), NULL,
                   flight_complete, NULL)
      ->recovery = TRUE;
}

static void write_chunk(QfsCoordinator *c, QfsFoundChunk *found) {
  QfsRecovery *r = c->recovery;
  const QfsRecord *winner = g_hash_table_lookup(r->winners, &found->id.object);
  QfsNodeSet at = found->at & qfs_peers_alive(c);
  /* Also what is at all holders: the record that follows goes to nodes that become holders before all is settled. */
  if (winner == NULL || !qfs_record_owns(winner, found->id.version) || at == 0)
    return;
  QfsPeer *peer = &c->peer[__builtin_ctzll(at) + 1];
  QfsMessage *message = qfs_message_new(QFS_MESSAGE_CHUNK_GET, peer->index);
  message->chunks = chunk_name(&found->id);
  r->in_flight++;
  qfs_rpc_send(c, peer, message, chunk_found, qfs_recovery_step(r, peer->index));
}

void qfs_recovery_write_more(QfsCoordinator *c) {
  QfsRecovery *r = c->recovery;
  if (r->next_chunk == 0 && r->next_record == 0) {
    g_ptr_array_sort(r->todo_records, by_key);
    g_ptr_array_sort(r->todo_chunks, by_seq);
  }
  while (r->in_flight < WRITE_WINDOW && r->next_chunk < r->todo_chunks->len)
    write_chunk(c, r->todo_chunks->pdata[r->next_chunk++]);
  /* Chunks have smaller numbers than the record that names them, also here: recovery relies on it. */
  if (r->next_chunk < r->todo_chunks->len || (r->next_record == 0 && r->in_flight > 0))
    return;
  while (r->in_flight < WRITE_WINDOW && r->next_record < r->todo_records->len)
    write_record(c, r->todo_records->pdata[r->next_record++]);
  if (r->in_flight == 0 && r->next_chunk == r->todo_chunks->len &&
      r->next_record == r->todo_records->len && !r->removing_intents && !r->marking)
    qfs_recovery_mark(c);
}
