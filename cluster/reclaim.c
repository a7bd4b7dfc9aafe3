/* reclaim.c - chunk rows that no record has: left by writes that were not finished, by values that were replaced
 * just before the end of a life or while a node was away, by nodes that stood in.
 *
 * They harm nobody (storage/spans.h), but take space. A run marks and sweeps, under the conditions under which
 * tombstones are collected (purge.c): every node is in sync (or evicted: it is wiped before it returns), nothing moves. Node by node it takes pages of the
 * rows' names in the order of objects, asks all nodes for the records that name these objects, and discards
 * the rows that none of them needs: rows of other writes, rows that a newer one of the same write or a later one
 * replaces. (Rows at nodes that do not own them are removed before: tidy.c.)
 *
 * What protects a row: a flight that names its object, under way or begun since the nodes were asked (a rename is nowhere
 * for a moment); an object that is being staged; a pin, for rows that some record of the object had. So a row whose record
 * is not there yet stays: from its chunks to that record some flight of its object is always under way, but for while a
 * view is; then the run ends, and what it sent before is refused for its epoch. And nothing goes before a
 * round of settling has made durable what the nodes answered: a power failure must not bring an older record
 * back without its chunks.
 *
 * A run that met nothing it had to pass over proves that all rows of writes of earlier epochs are some record's:
 * nodes refuse what was sent in those. Then gaps between spans are closed (qfs_spans_merge), once a round of
 * settling has made the discards durable, and a copy of a file from before it is known as one. So a record has few
 * spans but for those of this epoch, unless no life of the store lasts as long as a run.
 */
#include "cluster/private.h"
#include "cluster/scrub.h"

#define ROWS_LIMIT 256
#define RETRY_US (60 * 1000 * 1000)
#define SPANS_MANY 8

struct QfsReclaim {
  guint64 id;
  guint64 epoch;        /* of the view that it is for */
  gboolean whole;       /* nothing was passed over */
  QfsNodeSet nodes;     /* still to be swept */
  guint node;           /* being swept */
  QfsChunk at;          /* rows up to here are done; none while its object is none */
  guint limit;
  gboolean more;
  GPtrArray *rows;      /* of this page, whole groups of (object, index) */
  GPtrArray *records;   /* that name their objects */
  GHashTable *busy;     /* QfsObjectId, set: alive, whatever the nodes say */
  guint waiting;
  GPtrArray *garbage;   /* of this page, while a round of settling is awaited that began after this one: */
  guint64 after_round;
  guint64 removed;
};

static void reclaim_step(QfsCoordinator *c);

void qfs_reclaim_stop(QfsCoordinator *c) {
  QfsReclaim *r = c->reclaim;
  if (r == NULL)
    return;
  c->reclaim = NULL;
  g_clear_pointer(&r->rows, g_ptr_array_unref);
  g_clear_pointer(&r->records, g_ptr_array_unref);
  g_clear_pointer(&r->garbage, g_ptr_array_unref);
  g_hash_table_unref(r->busy);
  g_free(r);
}

/* ---- when ---- */

void qfs_reclaim_want(QfsCoordinator *c) {
  c->reclaim_wanted = TRUE;
  c->reclaim_seq = 0;
}

/* A number of nothing: when the settled mark has passed it, it has passed all rows that are there now. Those of
 * earlier lives may be numbered above everything that this one did. */
static guint64 move_mark(QfsCoordinator *c) {
  guint64 seq = qfs_next_seq(c);
  c->n_issued++;
  qfs_settle_dirty(c);
  return seq;
}

static gboolean may_run(const QfsCoordinator *c) {
  return qfs_purge_may_run(c) && c->purge == NULL && !c->purge_again;
}

gboolean qfs_reclaim_is_due(const QfsCoordinator *c) {
  return c->reclaim != NULL || (c->reclaim_wanted && qfs_purge_may_run(c));
}

/* ---- requests ---- */

static QfsReclaim *current(QfsCoordinator *c, gpointer data) {
  g_autofree guint64 *id = data;
  return c->reclaim != NULL && c->reclaim->id == *id ? c->reclaim : NULL;
}

static gpointer ticket(const QfsReclaim *r) { return g_memdup2(&r->id, sizeof r->id); }

static void interrupt(QfsCoordinator *c) {
  qfs_reclaim_stop(c);
  qfs_reclaim_want(c);
}

/* FALSE: the run has ended; a later one begins anew. */
static gboolean usable(QfsCoordinator *c, QfsPeer *peer, QfsMessage *reply) {
  guint64 id = c->reclaim->id;
  gboolean ok = reply != NULL && qfs_peer_reply_ok(c, peer, reply);
  if (c->reclaim == NULL || c->reclaim->id != id)
    return FALSE;
  if (!ok)
    interrupt(c);
  return ok;
}

/* ---- which rows stay ---- */

static void note_busy(QfsReclaim *r, QfsObjectId id) {
  if (!qfs_object_is_none(id) && !g_hash_table_contains(r->busy, &id))
    g_hash_table_add(r->busy, g_memdup2(&id, sizeof id));
}

static void note_message(QfsReclaim *r, const QfsMessage *message) {
  for (guint i = 0; message->records != NULL && i < message->records->len; i++)
    note_busy(r, ((const QfsRecord *)message->records->pdata[i])->object);
  if (message->chunks != NULL && message->chunks->len > 0)
    note_busy(r, ((const QfsChunk *)message->chunks->pdata[0])->object);
}

void qfs_reclaim_note_flight(QfsCoordinator *c, const QfsMessage *message) {
  if (c->reclaim != NULL)
    note_message(c->reclaim, message);
}

static gboolean is_busy(QfsCoordinator *c, QfsReclaim *r, QfsObjectId id) {
  if (qfs_object_is_staged(c, id))
    return TRUE;
  if (!g_hash_table_contains(r->busy, &id))
    return FALSE;
  r->whole = FALSE;
  return TRUE;
}

/* The row that `record` reads at the group's index, of those from `from` to `to`; or `to`. Behind the end, too: an
 * empty row there may be all that hides an older one at a node that has not been swept, should the value grow. */
static guint needed_row(const QfsReclaim *r, const QfsRecord *record, guint from, guint to) {
  g_autoptr(GBytes) spans = qfs_record_spans(record);
  for (guint i = to; i-- > from;)
    if (qfs_spans_have(spans, ((const QfsChunk *)r->rows->pdata[i])->version))
      return i;
  return to;
}

/* Adds those rows of a group (one object, one index, in the order of their numbers) that can go. */
static void sweep_group(QfsCoordinator *c, QfsReclaim *r, guint from, guint to, GPtrArray *garbage) {
  const QfsChunk *first = r->rows->pdata[from];
  if (is_busy(c, r, first->object))
    return;
  QfsObject *object = qfs_object_find(c, first->object);
  gboolean pinned = object != NULL && object->pins > 0;
  guint n = to - from, named = 0;
  g_autofree gboolean *owned = g_new0(gboolean, n), *needed = g_new0(gboolean, n + 1);
  for (guint k = 0; k < r->records->len; k++) {
    const QfsRecord *record = r->records->pdata[k];
    if (!qfs_object_equal(record->object, first->object))
      continue;
    named++;
    needed[needed_row(r, record, from, to) - from] = TRUE;
    for (guint i = 0; i < n; i++)
      owned[i] = owned[i] || qfs_record_owns(record, ((const QfsChunk *)r->rows->pdata[from + i])->version);
  }
  for (guint i = 0; i < n; i++) {
    const QfsChunk *row = r->rows->pdata[from + i];
    gboolean may_be_read = needed[i] || (pinned && (named == 0 || owned[i]));
    if (may_be_read)
      continue;
    QfsChunk *name = g_memdup2(row, sizeof *row);
    name->data = NULL;
    g_ptr_array_add(garbage, name);
  }
}

/* ---- the steps of a page ---- */

static void page_done(QfsCoordinator *c, QfsReclaim *r) {
  r->at = *(const QfsChunk *)r->rows->pdata[r->rows->len - 1];
  g_clear_pointer(&r->rows, g_ptr_array_unref);
  g_clear_pointer(&r->records, g_ptr_array_unref);
  g_hash_table_remove_all(r->busy);
  reclaim_step(c);
}

static void discarded(QfsCoordinator *c, QfsPeer *peer, QfsMessage *reply, gpointer data) {
  QfsReclaim *r = current(c, data);
  if (r != NULL && usable(c, peer, reply))
    page_done(c, r);
}

static void sweep_page(QfsCoordinator *c, QfsReclaim *r) {
  g_autoptr(GPtrArray) garbage = qfs_chunks_new();
  for (guint from = 0, to; from < r->rows->len; from = to) {
    for (to = from + 1; to < r->rows->len && qfs_chunk_same_group(r->rows->pdata[from], r->rows->pdata[to]);)
      to++;
    sweep_group(c, r, from, to, garbage);
  }
  if (garbage->len == 0) {
    page_done(c, r);
    return;
  }
  r->garbage = g_steal_pointer(&garbage);
  r->after_round = c->settle_id;
  qfs_settle_now(c);
}

static void discard_page(QfsCoordinator *c, QfsReclaim *r) {
  r->removed += r->garbage->len;
  c->stat.chunks_reclaimed += r->garbage->len;
  QfsMessage *message = qfs_message_new(QFS_MESSAGE_DISCARD, r->node);
  message->of_epoch = TRUE;
  message->discard = QFS_DISCARD_VERSION;
  message->chunks = g_steal_pointer(&r->garbage);
  qfs_rpc_send(c, &c->peer[r->node], message, discarded, ticket(r));
}

static void records_found(QfsCoordinator *c, QfsPeer *peer, QfsMessage *reply, gpointer data) {
  QfsReclaim *r = current(c, data);
  if (r == NULL || !usable(c, peer, reply))
    return;
  for (guint i = 0; reply->records != NULL && i < reply->records->len; i++)
    g_ptr_array_add(r->records, qfs_record_ref(reply->records->pdata[i]));
  if (--r->waiting == 0)
    sweep_page(c, r);
}

static void ask_for_records(QfsCoordinator *c, QfsReclaim *r) {
  g_autoptr(GPtrArray) objects = qfs_chunks_new();
  for (guint i = 0; i < r->rows->len; i++) {
    const QfsChunk *row = r->rows->pdata[i];
    if (i > 0 && qfs_object_equal(((const QfsChunk *)r->rows->pdata[i - 1])->object, row->object))
      continue;
    QfsChunk *name = g_new0(QfsChunk, 1);
    name->object = row->object;
    g_ptr_array_add(objects, name);
  }
  for (GList *link = c->flights.head; link != NULL; link = link->next)
    note_message(r, ((const QfsFlight *)link->data)->message);
  r->records = qfs_records_new();
  r->waiting = qfs_set_size(c->view.in_sync);
  for (guint i = 1; i <= c->n_peers; i++) {
    if (!qfs_set_has(c->view.in_sync, i))
      continue;
    QfsMessage *message = qfs_message_new(QFS_MESSAGE_OBJECT_RECORDS, i);
    message->chunks = g_ptr_array_ref(objects);
    qfs_rpc_send(c, &c->peer[i], message, records_found, ticket(r));
  }
}

static void listed(QfsCoordinator *c, QfsPeer *peer, QfsMessage *reply, gpointer data) {
  QfsReclaim *r = current(c, data);
  if (r == NULL || !usable(c, peer, reply))
    return;
  /* Which row of a group is read depends on the whole group: one that may go on is left for the next page. */
  guint n = reply->chunks != NULL ? qfs_chunks_whole_groups(reply->chunks, reply->more) : 0;
  r->more = reply->more;
  if (n == 0) {
    r->limit *= 2; /* more rows of one index than a page takes */
    reclaim_step(c);
    return;
  }
  r->limit = ROWS_LIMIT;
  r->more = TRUE; /* the next page tells */
  r->rows = qfs_chunks_new();
  for (guint i = 0; i < n; i++)
    g_ptr_array_add(r->rows, g_memdup2(reply->chunks->pdata[i], sizeof(QfsChunk)));
  ask_for_records(c, r);
}

/* ---- a run ---- */

static void reclaim_end(QfsCoordinator *c, QfsReclaim *r) {
  if (r->removed > 0)
    qfs_log(c, G_LOG_LEVEL_MESSAGE, "%" G_GUINT64_FORMAT " chunks that no value has were reclaimed", r->removed);
  c->reclaim_last_removed = r->removed;
  if (!c->reclaim_wanted) /* not asked for again meanwhile */
    c->reclaim_forced = FALSE;
  if (r->whole) {
    c->reclaim_proving = TRUE;
    c->reclaim_proof = QFS_WRITE_NUMBER(r->epoch, 0);
    c->reclaim_proof_seq = move_mark(c);
  } else {
    qfs_reclaim_want(c);
    c->reclaim_at_us = c->env->now_us(c->env) + RETRY_US;
    qfs_wake_at(c, c->reclaim_at_us);
  }
  qfs_reclaim_stop(c);
}

static void reclaim_step(QfsCoordinator *c) {
  QfsReclaim *r = c->reclaim;
  if (r->epoch != c->view.epoch || !qfs_purge_may_run(c)) {
    interrupt(c);
    return;
  }
  if (!r->more) {
    if (r->nodes == 0) {
      reclaim_end(c, r);
      return;
    }
    r->node = (guint)__builtin_ctzll(r->nodes) + 1;
    r->nodes &= r->nodes - 1;
    r->at = (QfsChunk){.seq = 0};
    r->limit = ROWS_LIMIT;
  }
  QfsMessage *message = qfs_message_new(QFS_MESSAGE_LIST_CHUNKS, r->node);
  message->limit = r->limit;
  if (!qfs_object_is_none(r->at.object)) {
    message->chunks = qfs_chunks_new();
    g_ptr_array_add(message->chunks, g_memdup2(&r->at, sizeof r->at));
  }
  qfs_rpc_send(c, &c->peer[r->node], message, listed, ticket(r));
}

static void reclaim_start(QfsCoordinator *c) {
  static guint64 ids; /* only compared for equality */
  c->reclaim_wanted = FALSE;
  QfsReclaim *r = g_new0(QfsReclaim, 1);
  r->id = ++ids;
  r->epoch = c->view.epoch;
  r->whole = TRUE;
  r->nodes = c->view.in_sync;
  for (GList *link = c->flights.head; link != NULL; link = link->next)
    if (((const QfsFlight *)link->data)->message->chunks != NULL)
      r->whole = FALSE; /* it may bring rows of a write that was given up to nodes that were swept */
  r->busy = g_hash_table_new_full(qfs_object_id_hash, qfs_object_id_equal, g_free, NULL);
  c->reclaim = r;
  reclaim_step(c);
}

/* Each life adds a span to a value that is overwritten in it: with none that looks, a record would grow for ever. */
void qfs_reclaim_note_spans(QfsCoordinator *c, GBytes *spans) {
  if (qfs_spans_count(spans) <= SPANS_MANY || c->reclaim != NULL || c->reclaim_wanted || c->reclaim_proving)
    return;
  g_autoptr(GBytes) fewer = qfs_spans_merge(spans, QFS_WRITE_NUMBER(c->view.epoch, 0));
  if (qfs_spans_count(fewer) < qfs_spans_count(spans)) /* else they are all of this epoch */
    qfs_reclaim_want(c);
}

void qfs_reclaim_unprove(QfsCoordinator *c) {
  c->reclaimed = 0;
  c->reclaim_proving = FALSE;
  if (c->reclaim != NULL)
    c->reclaim->whole = FALSE;
}

void qfs_reclaim_consider(QfsCoordinator *c) {
  gint64 now_us = c->env->now_us(c->env);
  if (c->reclaim != NULL && (c->reclaim->epoch != c->view.epoch || !c->view_stable || c->closing))
    interrupt(c);
  if (c->reclaim_proving && c->settled_told >= c->reclaim_proof_seq) {
    c->reclaim_proving = FALSE;
    c->reclaimed = MAX(c->reclaimed, c->reclaim_proof);
    c->reclaim_runs++;
  }
  if (c->reclaim != NULL && c->reclaim->garbage != NULL && c->settle_done > c->reclaim->after_round)
    discard_page(c, c->reclaim);
  if (c->reclaim != NULL || !c->reclaim_wanted || !may_run(c))
    return;
  if (c->reclaim_seq == 0)
    c->reclaim_seq = move_mark(c);
  if (c->settled_told < c->reclaim_seq)
    return;
  if (now_us < c->reclaim_at_us)
    qfs_wake_at(c, c->reclaim_at_us);
  else
    reclaim_start(c);
}
