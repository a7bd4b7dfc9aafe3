/* recovery.c - start of the store, and the return from losing too many trusted nodes at once.
 *
 * From the newest view that a majority remembers: every member of its S that opened becomes a member of a
 * new epoch's S; then all operations past the settled mark that any node holds are completed on all
 * holders, before anybody counts as in sync. Keys of which too few holders were seen stay blocked.
 *
 * When the members of S that opened are too few, others may help: unite.c.
 *
 * A start that has accounted for everything, but not met all nodes, makes what it found durable and puts a mark into the
 * view: of what is below it only what members of S have counts from then on.
 *
 * A node that has a record has all its chunk rows that are not settled (flight.c), or they are on stable storage at W
 * others (moved_chunks.c). So every row that a winning
 * record owns is found, and goes to all holders before the record does. Rows that no winner owns are left
 * where they are: no later version can take them for its own (reclaim.c removes them).
 */
#include "cluster/private.h"

#include <string.h>

#define SCAN_LIMIT 256
#define WRITE_WINDOW 64

typedef struct {
  QfsChunk id;             /* no data */
  QfsNodeSet at;
} FoundChunk;

typedef struct {
  guint64 id;
  GPtrArray *records;
  QfsNodeSet at;
  gboolean abandoned;      /* decided once, by what the nodes hold */
  gboolean seen_without;   /* whatever was acknowledged of its keys is at nodes that do not have it, too */
} FoundIntent;

/* Or carried from an earlier batch (batch.c), whose own intent says what became of that. */
static gboolean is_own(const FoundIntent *found, const QfsRecord *record) { return record->seq == found->id; }

/* A row of a node that is no member. */
typedef struct {
  guint node;
  QfsRecord *record;
} Guest;

struct QfsRecovery {
  guint64 generation;      /* callbacks of an earlier attempt are ignored */
  gboolean removing_intents;
  gboolean marking;        /* the view that says what is void is under way */
  guint64 void_below;      /* what the view said of that when it began */
  gboolean unites;         /* with what nodes that left S have: unite.c */
  QfsNodeSet relied;       /* unites: it began because these are there, and ends with any of them */
  guint64 from;            /* operations above this are looked at */
  QfsNodeSet members, scanned;
  QfsNodeSet seen_before;  /* c->seen is put back to this if it does not come to its end */
  guint left;              /* scans, then comparisons of intents, under way */
  GHashTable *records;     /* key -> QfsRecord, newest; until all is scanned, of members only */
  GHashTable *guests;      /* key -> GPtrArray of Guest: it is the intents that say which of them count */
  GHashTable *winners;     /* QfsObjectId -> QfsRecord of `records`: the newest that names it */
  GHashTable *chunks;      /* FoundChunk set, keyed by itself */
  GHashTable *intents;     /* id -> FoundIntent */
  GPtrArray *todo_records, *todo_chunks;
  guint next_record, next_chunk, in_flight;
};

typedef struct {
  guint64 generation;
  guint node;
  FoundChunk *chunk;
} Step;

static Step *step_new(QfsRecovery *r, guint node) {
  Step *step = g_new0(Step, 1);
  step->generation = r->generation;
  step->node = node;
  return step;
}

/* Is the callback of the recovery that is under way now? */
static gboolean is_current(QfsCoordinator *c, const Step *step) {
  return c->recovery != NULL && c->recovery->generation == step->generation;
}

static guint found_hash(gconstpointer p) {
  const FoundChunk *f = p;
  return (guint)(f->id.object.unique ^ f->id.index * 31 ^ f->id.version);
}

static gboolean found_equal(gconstpointer a, gconstpointer b) {
  const QfsChunk *x = &((const FoundChunk *)a)->id, *y = &((const FoundChunk *)b)->id;
  return qfs_object_equal(x->object, y->object) && x->index == y->index && x->version == y->version;
}

void qfs_recovery_free(QfsCoordinator *c) {
  QfsRecovery *r = c->recovery;
  if (r == NULL)
    return;
  c->recovery = NULL;
  c->seen = r->seen_before;
  g_hash_table_unref(r->records);
  g_hash_table_unref(r->guests);
  g_hash_table_unref(r->winners);
  g_hash_table_unref(r->chunks);
  g_hash_table_unref(r->intents);
  g_clear_pointer(&r->todo_records, g_ptr_array_unref);
  g_clear_pointer(&r->todo_chunks, g_ptr_array_unref);
  g_free(r);
}

/* ---- which view ---- */

static gboolean somebody_opens(QfsCoordinator *c) {
  gint64 now = c->env->now_us(c->env), patience = (gint64)c->config.timeout_ms * 1000;
  for (guint i = 1; i <= c->n_peers; i++)
    if (c->peer[i].state == PEER_OPENING && now - c->peer[i].opening_since_us < patience) {
      qfs_wake_at(c, c->peer[i].opening_since_us + patience);
      return TRUE;
    }
  return FALSE;
}

static void adopt_view(QfsCoordinator *c, const QfsView *view) {
  c->view = *view;
  c->view_known = c->view_stable = TRUE;
  c->view_proven = FALSE;
  guint64 ceiling = 0;
  for (guint i = 1; i <= c->n_peers; i++) {
    QfsPeer *peer = &c->peer[i];
    peer->evicted = peer->evicted || (!qfs_set_has(view->in_sync, i) &&
                                      view->left_mark[i - 1] == QFS_MARK_EVICTED);
    if (peer->state != PEER_KNOWN || !peer->meta.has_view)
      continue;
    ceiling = MAX(ceiling, peer->meta.ceiling);
    if (qfs_set_has(view->in_sync, i) && !peer->evicted) /* others may know of times that this view's members do not */
      c->settled = MAX(c->settled, peer->meta.settled);
  }
  c->settled_told = c->settled;
  c->last_seq = MAX(c->last_seq, c->settled);
  qfs_clock_init(&c->clock, c->config.coordinator_id, ceiling, ceiling);
  for (guint i = 1; i <= c->n_peers; i++) {
    QfsPeer *peer = &c->peer[i];
    if (peer->state == PEER_KNOWN)
      qfs_peer_judge(c, peer);
  }
}

static gboolean choose_new_store(QfsCoordinator *c) {
  for (guint i = 1; i <= c->n_peers; i++)
    if (c->peer[i].state != PEER_KNOWN || c->peer[i].meta.has_view)
      return FALSE;
  QfsView view = {.nodes = c->config.nodes, .replicas = c->config.replicas};
  view.in_sync = view.base = qfs_set_all(view.nodes);
  view.tidy = QFS_TIDY_ALL;
  g_strlcpy(view.store, c->config.store, sizeof view.store);
  adopt_view(c, &view);
  for (guint i = 1; i <= c->n_peers; i++)
    c->peer[i].rebuild = FALSE;
  return TRUE;
}

static gboolean choose_view(QfsCoordinator *c) {
  if (c->config.create && choose_new_store(c))
    return TRUE;
  QfsNodeSet remember = qfs_evicted(c); /* as if they had answered: what they alone know is given up */
  const QfsView *newest = NULL;
  for (guint i = 1; i <= c->n_peers; i++) {
    QfsPeer *peer = &c->peer[i];
    if (peer->state != PEER_KNOWN || !peer->meta.has_view || peer->evicted)
      continue;
    remember |= QFS_NODE_BIT(i);
    if (newest == NULL || peer->meta.view.epoch > newest->epoch)
      newest = &peer->meta.view;
  }
  if (newest == NULL || !qfs_view_is_majority(newest, remember))
    return FALSE;
  /* Not before: a node that was away since the store had more nodes may be the first to answer. */
  if (newest->nodes > c->n_peers) {
    c->failure = g_strdup_printf("it has %u nodes, and the places of only %u are known", newest->nodes,
                                 c->n_peers);
    return FALSE;
  }
  adopt_view(c, newest);
  return TRUE;
}

/* ---- scanning ---- */

static void scan_records(QfsCoordinator *c, QfsPeer *peer, guint64 after_seq, const char *after);
static void scan_chunks(QfsCoordinator *c, QfsPeer *peer, guint64 after_seq, const QfsChunk *after);
static void write_more(QfsCoordinator *c);

static void take_record(QfsRecovery *r, QfsRecord *record) {
  QfsRecord *known = g_hash_table_lookup(r->records, record->key);
  const int order = qfs_record_compare(record, known);
  if (order > 0 || (order == 0 && record->seq > known->seq)) /* the same version by its latest number */
    g_hash_table_replace(r->records, record->key, qfs_record_ref(record));
}

static void guest_free(gpointer data) {
  qfs_record_unref(((Guest *)data)->record);
  g_free(data);
}

static void note_guest(QfsRecovery *r, guint node, QfsRecord *record) {
  GPtrArray *rows = g_hash_table_lookup(r->guests, record->key);
  if (rows == NULL) {
    rows = g_ptr_array_new_with_free_func(guest_free);
    g_hash_table_insert(r->guests, g_strdup(record->key), rows);
  }
  Guest *guest = g_new(Guest, 1);
  *guest = (Guest){node, qfs_record_ref(record)};
  g_ptr_array_add(rows, guest);
}

/* What an earlier start did without may be undone in part at a node that was catching up. */
static gboolean counts(const QfsRecovery *r, const QfsRecord *record) {
  return r->unites || record->seq >= r->void_below;
}

/* Two keys may name one object: what a rename left of the former name may have come to light again. */
static void note_winner(QfsRecovery *r, QfsRecord *record) {
  if (qfs_object_is_none(record->object))
    return;
  const QfsRecord *known = g_hash_table_lookup(r->winners, &record->object);
  if (known == NULL || qfs_record_newest_write(known) < qfs_record_newest_write(record))
    g_hash_table_replace(r->winners, &record->object, record);
}

/* Did a later life number a version of the key that is not the batch's? It has begun without the intent, or its
 * members had it (spread_intents). */
static gboolean was_passed_over(const QfsRecovery *r, const FoundIntent *found, const QfsRecord *record) {
  if (!is_own(found, record))
    return FALSE;
  const QfsRecord *known = g_hash_table_lookup(r->records, record->key);
  const GPtrArray *rows = g_hash_table_lookup(r->guests, record->key);
  for (guint i = 0; rows != NULL && i < rows->len; i++) {
    const QfsRecord *row = ((const Guest *)rows->pdata[i])->record;
    const int order = qfs_record_compare(row, known);
    if (order > 0 || (order == 0 && row->seq > known->seq))
      known = row;
  }
  return known != NULL && qfs_record_compare(known, record) != 0 &&
         QFS_SEQ_EPOCH(known->seq) > QFS_SEQ_EPOCH(found->id);
}

static gboolean is_seen_without(QfsCoordinator *c, const FoundIntent *found) {
  for (guint i = 0; i < found->records->len; i++) {
    const QfsRecord *record = found->records->pdata[i];
    guint64 hash = qfs_key_hash(record->key);
    for (guint j = 0; is_own(found, record) && j < c->view.n_unsettled; j++) {
      QfsViewSet set = qfs_view_unsettled(c, j);
      if (!qfs_set_was_met(&set, hash, c->recovery->scanned & ~found->at))
        return FALSE;
    }
  }
  return TRUE;
}

/* Would enough holders of all keys have been seen also without the nodes that have the intent? Then, if no
 * member of S has it, an earlier recovery saw that it never reached its quorum and took it for nothing; the
 * keys have gone their own ways since, and rolling it forward now would move only one of them. The view says of
 * which intents that was seen for good (mark); while keys are blocked it cannot be. That holds for a member's, too, which
 * may be one for want of a better (unite.c): a batch that was carried out is on stable storage at all holders by then. */
static gboolean is_abandoned(QfsCoordinator *c, const FoundIntent *found) {
  QfsRecovery *r = c->recovery;
  if (found->id < r->void_below)
    return TRUE;
  if ((found->at & r->members) != 0)
    return FALSE;
  for (guint i = 0; i < found->records->len; i++)
    if (was_passed_over(r, found, found->records->pdata[i]))
      return TRUE;
  return found->seen_without;
}

/* What an abandoned batch did at a node that is no member is half of it: void, and so is what was built on it there, of
 * which nothing was acknowledged that others do not have. What members have of it was completed. */
static gboolean is_of(const Guest *guest, const FoundIntent *found, const QfsRecord *record) {
  if (!is_own(found, record) || strcmp(guest->record->key, record->key) != 0)
    return FALSE;
  const int order = qfs_record_compare(guest->record, record);
  return order == 0 || (order > 0 && found->seen_without && qfs_set_has(found->at, guest->node));
}

/* What a life numbered that had seen what became of the batch is not void with it. */
static gboolean is_void(const QfsRecovery *r, const Guest *guest, GPtrArray *abandoned) {
  for (guint i = 0; i < abandoned->len; i++) {
    const FoundIntent *found = abandoned->pdata[i];
    if (found->id < r->void_below && guest->record->seq >= r->void_below)
      continue;
    for (guint j = 0; j < found->records->len; j++)
      if (is_of(guest, found, found->records->pdata[j]))
        return TRUE;
  }
  return FALSE;
}

static void take_guests(QfsRecovery *r, GPtrArray *abandoned) {
  GHashTableIter iter;
  gpointer value;
  g_hash_table_iter_init(&iter, r->guests);
  while (g_hash_table_iter_next(&iter, NULL, &value)) { /* in any order: the newest wins */
    const GPtrArray *rows = value;
    for (guint i = 0; i < rows->len; i++) {
      const Guest *guest = rows->pdata[i];
      if (!is_void(r, guest, abandoned))
        take_record(r, guest->record);
    }
  }
}

/* An intent may be older than the settled mark: its batch was completed, and newer versions of its keys may be
 * settled, which the scans do not show. Rolled forward, it would give an old version a new number. */

typedef struct {
  Step step;               /* first */
  QfsRecord *record;
} IntentCheck;

static gboolean scan_reply_ok(QfsCoordinator *c, QfsPeer *peer, QfsMessage *reply, Step *step);
static void everything_found(QfsCoordinator *c);

static void intent_compared(QfsCoordinator *c, QfsPeer *peer, QfsMessage *reply, gpointer data) {
  g_autofree IntentCheck *check = data;
  g_autoptr(QfsRecord) record = check->record;
  if (!scan_reply_ok(c, peer, reply, &check->step))
    return;
  QfsRecord *stored =
      reply->records != NULL && reply->records->len > 0 ? reply->records->pdata[0] : NULL;
  if (qfs_record_compare(record, stored) > 0)
    take_record(c->recovery, record);
  if (--c->recovery->left == 0)
    everything_found(c);
}

static void compare_intent(QfsCoordinator *c, QfsRecord *record) {
  QfsRecovery *r = c->recovery;
  guint64 hash = qfs_key_hash(record->key);
  QfsNodeSet whole = qfs_placement_holders(hash, c->view.base, qfs_replicas(c)) & r->members;
  guint node = qfs_pick(c, hash, whole);
  if (node == 0) {
    take_record(r, record);
    return;
  }
  IntentCheck *check = g_new0(IntentCheck, 1);
  check->step.generation = r->generation;
  check->record = qfs_record_ref(record);
  QfsMessage *message = qfs_message_new(QFS_MESSAGE_READ, node);
  message->key = g_strdup(record->key);
  r->left++;
  qfs_rpc_send(c, &c->peer[node], message, intent_compared, check);
}

static gint by_id(gconstpointer a, gconstpointer b);

static void scan_finished(QfsCoordinator *c) {
  QfsRecovery *r = c->recovery;
  if (--r->left > 0)
    return;
  g_autoptr(GList) ids = g_list_sort(g_hash_table_get_keys(r->intents), by_id);
  g_autoptr(GPtrArray) abandoned = g_ptr_array_new();
  for (GList *link = ids; link != NULL; link = link->next) {
    FoundIntent *found = g_hash_table_lookup(r->intents, link->data);
    found->seen_without = is_seen_without(c, found);
    found->abandoned = is_abandoned(c, found);
    if (found->abandoned)
      g_ptr_array_add(abandoned, found);
  }
  take_guests(r, abandoned);
  for (GList *link = ids; link != NULL; link = link->next) {
    const FoundIntent *found = g_hash_table_lookup(r->intents, link->data);
    for (guint i = 0; !found->abandoned && i < found->records->len; i++)
      compare_intent(c, found->records->pdata[i]);
  }
  if (r->left == 0)
    everything_found(c);
}

/* ---- intents: to all members before anything that they say is written ---- */

typedef struct {
  Step step; /* first */
  FoundIntent *found;
  guint node;
} Spread;

static void intent_spread(QfsCoordinator *c, QfsPeer *peer, QfsMessage *reply, gpointer data) {
  g_autofree Spread *spread = data;
  if (!scan_reply_ok(c, peer, reply, &spread->step))
    return;
  spread->found->at |= QFS_NODE_BIT(spread->node);
  if (--c->recovery->left == 0)
    write_more(c);
}

/* A start that is cut off in the middle of rolling a batch forward may be followed by one that meets other nodes: it
 * must find the intent, or it would take half of the batch for the whole. */
static void spread_intents(QfsCoordinator *c) {
  QfsRecovery *r = c->recovery;
  g_autoptr(GList) ids = g_list_sort(g_hash_table_get_keys(r->intents), by_id);
  r->left = 1; /* answers may come at once */
  for (GList *link = ids; link != NULL; link = link->next) {
    FoundIntent *found = g_hash_table_lookup(r->intents, link->data);
    QfsNodeSet lack = found->abandoned ? 0 : r->members & ~found->at;
    for (; lack != 0; lack &= lack - 1) {
      QfsPeer *peer = &c->peer[__builtin_ctzll(lack) + 1];
      Spread *spread = g_new0(Spread, 1);
      spread->step.generation = r->generation;
      spread->found = found;
      spread->node = peer->index;
      QfsMessage *message = qfs_message_new(QFS_MESSAGE_INTENT, peer->index);
      message->durable = TRUE;
      message->id = found->id;
      message->records = g_ptr_array_ref(found->records);
      r->left++;
      qfs_rpc_send(c, peer, message, intent_spread, spread);
    }
  }
  if (--r->left == 0)
    write_more(c);
}

static void everything_found(QfsCoordinator *c) {
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
  spread_intents(c);
}

static gboolean scan_reply_ok(QfsCoordinator *c, QfsPeer *peer, QfsMessage *reply, Step *step) {
  return reply != NULL && is_current(c, step) && qfs_peer_reply_ok(c, peer, reply) &&
         is_current(c, step);
}

static void intents_reply(QfsCoordinator *c, QfsPeer *peer, QfsMessage *reply, gpointer data) {
  g_autofree Step *step = data;
  if (!scan_reply_ok(c, peer, reply, step))
    return;
  for (guint i = 0; reply->intents != NULL && i < reply->intents->len; i++) {
    QfsIntent *intent = reply->intents->pdata[i];
    FoundIntent *found = g_hash_table_lookup(c->recovery->intents, &intent->id);
    if (found == NULL) {
      found = g_new0(FoundIntent, 1);
      found->id = intent->id;
      found->records = g_ptr_array_ref(intent->records);
      g_hash_table_insert(c->recovery->intents, &found->id, found);
    }
    found->at |= QFS_NODE_BIT(peer->index);
  }
  scan_finished(c);
}

static void chunks_reply(QfsCoordinator *c, QfsPeer *peer, QfsMessage *reply, gpointer data) {
  g_autofree Step *step = data;
  if (!scan_reply_ok(c, peer, reply, step))
    return;
  for (guint i = 0; reply->chunks != NULL && i < reply->chunks->len; i++) {
    QfsChunk *chunk = reply->chunks->pdata[i];
    FoundChunk probe = {.id = *chunk};
    FoundChunk *found = g_hash_table_lookup(c->recovery->chunks, &probe);
    if (found == NULL) {
      found = g_new0(FoundChunk, 1);
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
  QfsMessage *message = qfs_message_new(QFS_MESSAGE_INTENTS, peer->index);
  qfs_rpc_send(c, peer, message, intents_reply, step_new(c->recovery, peer->index));
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
  qfs_rpc_send(c, peer, message, chunks_reply, step_new(c->recovery, peer->index));
}

static void records_reply(QfsCoordinator *c, QfsPeer *peer, QfsMessage *reply, gpointer data) {
  g_autofree Step *step = data;
  if (!scan_reply_ok(c, peer, reply, step))
    return;
  for (guint i = 0; reply->records != NULL && i < reply->records->len; i++) {
    QfsRecord *record = reply->records->pdata[i];
    if (qfs_set_has(c->recovery->members, peer->index))
      take_record(c->recovery, record);
    else if (counts(c->recovery, record))
      note_guest(c->recovery, peer->index, record);
  }
  if (reply->more && reply->records->len > 0) {
    QfsRecord *last = reply->records->pdata[reply->records->len - 1];
    scan_records(c, peer, last->seq, last->key);
    return;
  }
  scan_chunks(c, peer, c->recovery->from, NULL);
}

static void scan_records(QfsCoordinator *c, QfsPeer *peer, guint64 after_seq, const char *after) {
  QfsMessage *message = qfs_message_new(QFS_MESSAGE_SCAN_RECORDS, peer->index);
  message->after_seq = after_seq;
  message->key = g_strdup(after);
  message->limit = SCAN_LIMIT;
  qfs_rpc_send(c, peer, message, records_reply, step_new(c->recovery, peer->index));
}

/* ---- completing what was found ---- */

static gint by_key(gconstpointer a, gconstpointer b) {
  return strcmp((*(QfsRecord *const *)a)->key, (*(QfsRecord *const *)b)->key);
}

static gint by_seq(gconstpointer a, gconstpointer b) {
  const QfsChunk *x = &(*(FoundChunk *const *)a)->id, *y = &(*(FoundChunk *const *)b)->id;
  if (x->seq != y->seq)
    return x->seq < y->seq ? -1 : 1;
  return x->index < y->index ? -1 : x->index > y->index;
}

static gint by_id(gconstpointer a, gconstpointer b) {
  guint64 x = *(const guint64 *)a, y = *(const guint64 *)b;
  return x < y ? -1 : x > y;
}

static GPtrArray *chunk_name(const QfsChunk *id) {
  GPtrArray *chunks = qfs_chunks_new();
  QfsChunk *chunk = g_memdup2(id, sizeof *id);
  chunk->data = NULL;
  g_ptr_array_add(chunks, chunk);
  return chunks;
}

static void recovery_end(QfsCoordinator *c) {
  QfsRecovery *r = c->recovery;
  for (guint i = 1; i <= c->n_peers; i++)
    if (qfs_set_has(r->members, i)) {
      c->peer[i].state = PEER_TRUSTED;
      c->peer[i].retries = 0;
      c->peer[i].trusted_since_us = c->env->now_us(c->env);
    }
  if (r->todo_records->len > 0 || r->todo_chunks->len > 0) {
    qfs_reclaim_want(c);
    qfs_log(c, G_LOG_LEVEL_MESSAGE, "recovered %u records and %u chunks written before the last stop",
            r->todo_records->len, r->todo_chunks->len);
  }
  r->seen_before = c->seen;
  if (r->unites)
    qfs_view_begin_phase(c); /* whatever was before, the members have what the others missed */
  qfs_recovery_free(c);
  c->serving = TRUE;
  c->set_after = c->last_seq; /* what was found is one with what comes */
  c->view_dirty = TRUE;
  qfs_settle_dirty(c);
}

static void intent_removed(QfsCoordinator *c, QfsPeer *peer, QfsMessage *reply, gpointer data) {
  g_autofree Step *step = data;
  if (reply != NULL && is_current(c, step) && qfs_peer_reply_ok(c, peer, reply) &&
      is_current(c, step) && --c->recovery->left == 0)
    recovery_end(c);
}

/* What was taken for nothing stays at nodes that are no members until what was done of it there is undone (catchup.c), or it is
 * void by its number: without the intent the next start would take that for a change like any other. */
static QfsNodeSet leaves_from(const QfsCoordinator *c, const FoundIntent *found) {
  const QfsRecovery *r = c->recovery;
  QfsNodeSet nodes = r->scanned & qfs_peers_alive(c);
  return found->abandoned && found->id >= c->view.void_below ? nodes & r->members : nodes;
}

/* What the intents say is at all holders: they go, before anything newer is served. */
static void remove_intents(QfsCoordinator *c) {
  QfsRecovery *r = c->recovery;
  g_autoptr(GList) ids = g_list_sort(g_hash_table_get_keys(r->intents), by_id);
  r->removing_intents = TRUE;
  r->left = 1;
  for (GList *link = ids; link != NULL; link = link->next) {
    const FoundIntent *found = g_hash_table_lookup(r->intents, link->data);
    for (QfsNodeSet rest = leaves_from(c, found); rest != 0; rest &= rest - 1) {
      QfsPeer *peer = &c->peer[__builtin_ctzll(rest) + 1];
      QfsMessage *message = qfs_message_new(QFS_MESSAGE_COMMIT, peer->index);
      message->id = found->id;
      message->records = qfs_records_new();
      r->left++;
      qfs_rpc_send(c, peer, message, intent_removed, step_new(r, peer->index));
    }
  }
  if (--r->left == 0)
    recovery_end(c);
}

/* ---- the mark ---- */

/* May a node that was not seen have something of an earlier life? Removing an intent is not durable at once. */
static gboolean may_return(const QfsCoordinator *c) {
  const QfsRecovery *r = c->recovery;
  return g_hash_table_size(r->intents) > 0 || (qfs_set_all(c->n_peers) & ~r->scanned) != 0;
}

guint64 qfs_recovery_void_below(const QfsCoordinator *c) {
  return MAX(c->view.void_below,
             c->recovery != NULL && c->recovery->marking ? QFS_SEQ(c->first_epoch, 0) : 0);
}

static void made_durable(QfsCoordinator *c, QfsPeer *peer, QfsMessage *reply, gpointer data) {
  g_autofree Step *step = data;
  if (scan_reply_ok(c, peer, reply, step) && --c->recovery->left == 0)
    qfs_view_propose(c, c->recovery->members, c->view.base);
}

/* Whatever was acknowledged before this life was seen, and is at all holders, now on stable storage. What else comes to
 * light of that time is void, whether its keys are written again before that or not, and part of it may be undone by
 * then (catchup.c). The view says so before anything is served. */
static void mark(QfsCoordinator *c) {
  QfsRecovery *r = c->recovery;
  r->marking = !c->blocked && may_return(c) && c->view.void_below < QFS_SEQ(c->first_epoch, 0);
  if (!r->marking) {
    remove_intents(c);
    return;
  }
  r->left = qfs_set_size(r->members);
  for (QfsNodeSet rest = r->members; rest != 0; rest &= rest - 1) {
    QfsPeer *peer = &c->peer[__builtin_ctzll(rest) + 1];
    qfs_rpc_send(c, peer, qfs_message_new(QFS_MESSAGE_SYNC, peer->index), made_durable, step_new(r, peer->index));
  }
}

static void recovery_one_done(QfsCoordinator *c) {
  c->recovery->in_flight--;
  write_more(c);
}

static void flight_complete(QfsCoordinator *c, QfsFlight *flight, gpointer data) {
  g_autofree Step *step = data;
  if (is_current(c, step))
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
  qfs_flight_start(c, message, &hash, 1, FALSE, step_new(c->recovery, 0), NULL, flight_complete, NULL)
      ->recovery = TRUE;
}

static void chunk_found(QfsCoordinator *c, QfsPeer *peer, QfsMessage *reply, gpointer data) {
  g_autofree Step *step = data;
  if (!scan_reply_ok(c, peer, reply, step))
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
  qfs_flight_start(c, message, &copy->object.placement, 1, FALSE, step_new(c->recovery, 0), NULL,
                   flight_complete, NULL)
      ->recovery = TRUE;
}

static void write_chunk(QfsCoordinator *c, FoundChunk *found) {
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
  qfs_rpc_send(c, peer, message, chunk_found, step_new(r, peer->index));
}

static void write_more(QfsCoordinator *c) {
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
    mark(c);
}

/* ---- beginning ---- */

void qfs_recovery_view_done(QfsCoordinator *c) {
  QfsRecovery *r = c->recovery;
  if (r->marking) {
    r->marking = FALSE;
    remove_intents(c);
    return;
  }
  for (guint i = 1; i <= c->n_peers; i++)
    if (qfs_set_has(r->members, i))
      c->peer[i].state = PEER_JOINING;
  for (guint i = 1; i <= c->n_peers; i++) {
    gboolean known = c->peer[i].state == PEER_KNOWN && !c->peer[i].rebuild;
    if (qfs_set_has(r->members, i) || known)
      r->scanned |= QFS_NODE_BIT(i);
  }
  g_assert((r->relied & ~r->scanned) == 0);
  r->left = qfs_set_size(r->scanned);
  for (guint i = 1; i <= c->n_peers; i++)
    if (qfs_set_has(r->scanned, i))
      scan_records(c, &c->peer[i], r->from, NULL);
}

/* A node came or went while recovering: begin again with those that are there now. */
void qfs_recovery_peer_changed(QfsCoordinator *c, QfsPeer *peer) {
  QfsRecovery *r = c->recovery;
  if (r == NULL || !qfs_set_has(r->members | r->scanned | r->relied, peer->index))
    return;
  for (guint i = 1; i <= c->n_peers; i++)
    if (c->peer[i].state == PEER_JOINING && qfs_set_has(r->members, i))
      c->peer[i].state = PEER_KNOWN;
  qfs_recovery_free(c);
  qfs_view_update_blocked(c);
  c->proposal_id = 0;
  c->view_stable = TRUE;
  c->view_stale = TRUE;
  c->view_dirty = TRUE;
}

static void found_intent_free(gpointer data) {
  FoundIntent *found = data;
  g_ptr_array_unref(found->records);
  g_free(found);
}

static void recovery_start(QfsCoordinator *c, QfsNodeSet members, guint64 from) {
  static guint64 generations; /* only compared for equality */
  qfs_catchup_restart_all(c); /* afterwards: nobody is trusted meanwhile */
  QfsRecovery *r = g_new0(QfsRecovery, 1);
  r->generation = ++generations;
  r->members = members;
  r->from = from;
  r->void_below = c->view.void_below;
  r->seen_before = c->seen;
  r->records = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify)qfs_record_unref);
  r->guests = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)g_ptr_array_unref);
  r->winners = g_hash_table_new(qfs_object_id_hash, qfs_object_id_equal);
  r->chunks = g_hash_table_new_full(found_hash, found_equal, g_free, NULL);
  r->intents = g_hash_table_new_full(g_int64_hash, g_int64_equal, NULL, found_intent_free);
  c->recovery = r;
  c->recover_again = FALSE;
  c->view_stale = FALSE; /* the one proposed now is newer than whatever was promised */
  c->quorum = FALSE;
  qfs_writes_uncertain(c);
  qfs_view_propose(c, members, c->view.base);
}

gboolean qfs_recovery_somebody_unseen(const QfsCoordinator *c) {
  for (guint i = 1; c->blocked && i <= c->n_peers; i++)
    if (c->peer[i].state == PEER_KNOWN && !c->peer[i].rebuild && !qfs_set_has(c->seen, i))
      return TRUE;
  return FALSE;
}

static void unite(QfsCoordinator *c, QfsNodeSet members) {
  QfsNodeSet begin = qfs_unite_begin(c, members);
  qfs_log(c, G_LOG_LEVEL_WARNING,
          "too many in-sync nodes are missing, but what they have is at others: these are united");
  recovery_start(c, begin, qfs_unite_from(c));
  c->recovery->unites = TRUE;
  c->recovery->relied = qfs_unite_present(c);
}

gboolean qfs_recovery_unites(const QfsCoordinator *c) {
  return c->recovery != NULL && c->recovery->unites;
}

void qfs_recovery_consider(QfsCoordinator *c) {
  if (c->recovery != NULL || c->failure != NULL || c->closing)
    return;
  if (!c->view_known && (somebody_opens(c) || !choose_view(c)))
    return;
  QfsNodeSet trusted = qfs_peers_in(c, PEER_TRUSTED);
  if (c->serving && qfs_view_allows(c, trusted) && !qfs_recovery_somebody_unseen(c) && !c->recover_again)
    return;
  if (somebody_opens(c) || !qfs_view_has_majority(c, qfs_peers_alive(c)))
    return;
  QfsNodeSet members = qfs_members_present(c);
  if (qfs_view_allows(c, members))
    recovery_start(c, members, c->settled);
  else if (qfs_unite_may(c, members))
    unite(c, members);
  else
    qfs_unite_tell(c);
}
