/* catchup.c - one node returns: it gets what it missed, and then is in sync.
 *
 * From the moment it is JOINING every new write that concerns it is sent to it too. Then, by sequence
 * number from the mark at which it left: (1) what it holds beyond the others is taken away key by key: it
 * was acknowledged to nobody, for recovery saw enough holders without it (or began again with it, while
 * keys were blocked), and what this coordinator sent is driven to completion elsewhere (its chunk rows are
 * nobody's then: reclaim.c); (2) chunks and records that the trusted nodes have and it should hold are copied; (3) it makes all
 * that durable, and a view with it in S is proposed. A node that must be rebuilt is wiped first and
 * starts from mark 0. Cost: proportional to what it missed (or to what it holds, when rebuilt).
 */
#include "cluster/private.h"

#define RECORDS_LIMIT 256
#define CHUNKS_LIMIT 16
/* A bad row was met, and is being mended. */
#define BAD_ROW_PAUSE_US (20 * 1000)

typedef enum { STAGE_WIPE, STAGE_INTENTS, STAGE_EXTRAS, STAGE_INTENTS_GO, STAGE_CHUNKS, STAGE_RECORDS, STAGE_SYNC, STAGE_READY } Stage;

struct QfsCatchup {
  guint64 id;
  guint node;
  Stage stage;
  guint64 from, until;      /* sequence numbers to look at */
  guint64 settled_first;    /* the mark when it began to join: what came since has greater numbers */
  gboolean everything;      /* it may lack what is older than it knows of */
  QfsNodeSet all;           /* the trusted nodes when it joined: each must be scanned in each stage */
  QfsNodeSet sources;       /* of these, still to be scanned in this stage */
  guint source;
  guint64 at_seq;
  char *at_key;
  QfsChunk *at_chunk;
  gboolean more;
  GPtrArray *extras;        /* records of the node being looked at */
  guint next_extra;
  gboolean pauses;          /* the next one waits for chunks, or an intent, that are on their way */
  GPtrArray *held;          /* records to be copied later: held.c */
  gboolean copying;         /* rows were sent to it, and are not answered yet */
  GArray *intents;          /* that it has of the time before */
  guint intents_left;
  guint64 mark;             /* that it has made durable */
  guint64 sent;
};

typedef struct {
  guint64 id;
  guint node;
} Ticket;

static Ticket *ticket_new(QfsCatchup *u) {
  Ticket *ticket = g_new(Ticket, 1);
  ticket->id = u->id;
  ticket->node = u->node;
  return ticket;
}

/* The catch-up that a callback belongs to, or NULL if it ended meanwhile. Frees the ticket. */
static QfsCatchup *ticket_use(QfsCoordinator *c, gpointer data) {
  g_autofree Ticket *ticket = data;
  QfsCatchup *u = c->peer[ticket->node].catchup;
  return u != NULL && u->id == ticket->id ? u : NULL;
}

static void catchup_restart(QfsCoordinator *c, QfsCatchup *u);

/* FALSE: the reply is no use; the catch-up was restarted or has ended with its node. */
static gboolean usable(QfsCoordinator *c, QfsCatchup *u, QfsPeer *peer, QfsMessage *reply) {
  guint node = u->node;
  if (reply != NULL && qfs_peer_reply_ok(c, peer, reply))
    return c->peer[node].catchup == u;
  if (reply != NULL && reply->status == QFS_NO_SPACE)
    qfs_peer_fail(c, peer, reply->reason ? reply->reason : "disk full", FALSE);
  if (reply != NULL && reply->bad != NULL)
    c->peer[node].catchup_at_us = c->env->now_us(c->env) + BAD_ROW_PAUSE_US;
  if (c->peer[node].catchup == u)
    catchup_restart(c, u);
  return FALSE;
}

static void catchup_step(QfsCoordinator *c, QfsCatchup *u);
static void extras_next(QfsCoordinator *c, QfsCatchup *u);

void qfs_catchup_stop(QfsCoordinator *c, QfsPeer *peer) {
  QfsCatchup *u = peer->catchup;
  if (u == NULL)
    return;
  peer->catchup = NULL;
  g_free(u->at_key);
  qfs_chunk_free(u->at_chunk);
  g_clear_pointer(&u->extras, g_ptr_array_unref);
  g_ptr_array_unref(u->held);
  g_array_unref(u->intents);
  g_free(u);
}

/* Something it depends on went away: start over from KNOWN. */
static void catchup_restart(QfsCoordinator *c, QfsCatchup *u) {
  QfsPeer *peer = &c->peer[u->node];
  qfs_catchup_stop(c, peer);
  if (peer->state == PEER_JOINING) {
    peer->state = PEER_KNOWN;
    c->joiner_lost = TRUE;
  }
  c->view_dirty = TRUE;
}

void qfs_catchup_restart_all(QfsCoordinator *c) {
  for (guint i = 1; i <= c->n_peers; i++) {
    QfsPeer *peer = &c->peer[i];
    if (peer->catchup == NULL)
      continue;
    qfs_catchup_stop(c, peer);
    if (peer->state == PEER_JOINING) {
      peer->state = PEER_KNOWN;
      c->joiner_lost = TRUE;
    }
  }
}

/* Its own mark must not be below the settled one, or its file would look like an older copy. */
gboolean qfs_catchup_ready(const QfsCoordinator *c, const QfsPeer *peer) {
  return peer->catchup != NULL && peer->catchup->stage == STAGE_READY &&
         peer->catchup->mark >= c->settled;
}

guint qfs_catchup_progress(const QfsPeer *peer) {
  const QfsCatchup *u = peer->catchup;
  if (u == NULL)
    return 0;
  if (u->stage == STAGE_READY || u->stage == STAGE_SYNC || u->until <= u->from)
    return 99;
  /* Counters of one epoch are dense, epochs are not: a share of the span is the best cheap guess. */
  gdouble part = (gdouble)(u->at_seq > u->from ? u->at_seq - u->from : 0) / (u->until - u->from);
  gdouble base = u->stage == STAGE_RECORDS ? 50 : u->stage == STAGE_CHUNKS ? 5 : 0;
  gdouble span = u->stage == STAGE_EXTRAS ? 5 : 45;
  return (guint)(base + span * MIN(part, 1.0));
}

gboolean qfs_catchup_was_from_nothing(const QfsPeer *peer) {
  return peer->catchup != NULL && peer->catchup->everything;
}

static gboolean should_hold(QfsCoordinator *c, QfsCatchup *u, guint64 hash) {
  QfsNodeSet with = c->view.in_sync | QFS_NODE_BIT(u->node);
  return qfs_set_has(qfs_placement_holders(hash, with, qfs_replicas(c)), u->node);
}

/* ---- (1) what it has beyond the others ---- */

static void extra_removed(QfsCoordinator *c, QfsPeer *peer, QfsMessage *reply, gpointer data) {
  QfsCatchup *u = ticket_use(c, data);
  if (u != NULL && usable(c, u, peer, reply))
    extras_next(c, u);
}

static void extra_fetched(QfsCoordinator *c, QfsStatus status, QfsRecord *record, gpointer data) {
  QfsCatchup *u = ticket_use(c, data);
  if (u == NULL)
    return;
  QfsRecord *extra = u->extras->pdata[u->next_extra - 1];
  QfsKey *key = qfs_key_find(c, extra->key);
  QfsRecord *newest = key != NULL && key->have_base ? key->newest : record;
  if (status != QFS_OK && (!c->view_stable || c->recovery != NULL || c->view_dirty)) {
    catchup_restart(c, u); /* passing: to be asked again */
    return;
  }
  /* A key that nobody else can answer for: what this node has of it may be all there is. */
  if (status != QFS_OK || qfs_record_compare(newest, extra) >= 0) {
    extras_next(c, u);
    return;
  }
  /* What takes its place waits for what must be there first (lack.c), and nothing is to be missing meanwhile. */
  if (record != NULL && qfs_set_has(qfs_lack(c, record), u->node)) {
    u->next_extra--;
    u->pauses = c->held_waits = TRUE;
    return;
  }
  QfsMessage *message = qfs_message_new(QFS_MESSAGE_REMOVE, u->node);
  message->key = g_strdup(extra->key);
  message->records = qfs_records_new();
  g_ptr_array_add(message->records, qfs_record_ref(extra));
  if (record != NULL)
    g_ptr_array_add(message->records, qfs_record_ref(record));
  qfs_rpc_send(c, &c->peer[u->node], message, extra_removed, ticket_new(u));
}

/* A node that is being filled remembers that what it holds up to here was compared with the others: when it is
 * interrupted and begins again it need not be compared once more. */
static void tell_settled(QfsCoordinator *c, const QfsCatchup *u) {
  if (!c->peer[u->node].filled)
    return;
  QfsMessage *message = qfs_message_new(QFS_MESSAGE_SYNC, u->node);
  message->settled = u->settled_first;
  qfs_rpc_send(c, &c->peer[u->node], message, NULL, NULL);
}

static void extras_next(QfsCoordinator *c, QfsCatchup *u) {
  if (u->next_extra < u->extras->len) {
    QfsRecord *extra = u->extras->pdata[u->next_extra++];
    qfs_fetch_any(c, extra->key, extra_fetched, ticket_new(u));
    return;
  }
  if (!u->more)
    u->stage = STAGE_INTENTS_GO;
  catchup_step(c, u);
}

static void begin_copying(QfsCoordinator *c, QfsCatchup *u) {
  u->stage = STAGE_CHUNKS;
  /* When others took over from nodes that are still away it must hold keys that it never had. */
  if ((c->view.base | QFS_NODE_BIT(u->node)) != qfs_view_all(c))
    u->everything = TRUE;
  if (u->everything)
    u->from = 0;
  tell_settled(c, u);
  u->at_seq = u->from;
  g_clear_pointer(&u->at_key, g_free);
  u->sources = u->all;
  u->source = 0;
  catchup_step(c, u);
}

static void extras_found(QfsCoordinator *c, QfsPeer *peer, QfsMessage *reply, gpointer data) {
  QfsCatchup *u = ticket_use(c, data);
  if (u == NULL || !usable(c, u, peer, reply))
    return;
  g_clear_pointer(&u->extras, g_ptr_array_unref);
  u->extras = reply->records != NULL ? g_ptr_array_ref(reply->records) : qfs_records_new();
  u->next_extra = 0;
  u->more = reply->more && u->extras->len > 0;
  if (u->extras->len > 0) {
    QfsRecord *last = u->extras->pdata[u->extras->len - 1];
    u->at_seq = last->seq;
    g_free(u->at_key);
    u->at_key = g_strdup(last->key);
  }
  extras_next(c, u);
}

/* ---- (2) copying ---- */

static void copied(QfsCoordinator *c, QfsPeer *peer, QfsMessage *reply, gpointer data) {
  QfsCatchup *u = ticket_use(c, data);
  if (u == NULL || !usable(c, u, peer, reply))
    return;
  u->copying = FALSE;
  catchup_step(c, u);
}

void qfs_count_copied(QfsCoordinator *c, const QfsMessage *message) {
  if (message->chunks != NULL)
    c->stat.copied_chunks += message->chunks->len;
  else
    c->stat.copied_records += message->records->len;
}

static void copy_on(QfsCoordinator *c, QfsCatchup *u, QfsMessage *message, guint n) {
  if (n == 0) {
    qfs_message_free(message);
    catchup_step(c, u);
    return;
  }
  u->sent += n;
  u->copying = TRUE;
  qfs_count_copied(c, message);
  if (c->peer[u->node].rebuild && c->peer[u->node].restored)
    *(message->chunks != NULL ? &c->restored_chunks : &c->restored_records) += n;
  qfs_rpc_send(c, &c->peer[u->node], message, copied, ticket_new(u));
}

static void page_end(QfsCatchup *u, guint64 last_seq, gboolean more) {
  u->at_seq = MAX(u->at_seq, last_seq);
  u->more = more && last_seq <= u->until;
  if (!u->more)
    u->source = 0;
}

static void source_chunks(QfsCoordinator *c, QfsPeer *peer, QfsMessage *reply, gpointer data) {
  QfsCatchup *u = ticket_use(c, data);
  if (u == NULL || !usable(c, u, peer, reply))
    return;
  QfsMessage *message = qfs_message_new(QFS_MESSAGE_CHUNKS, u->node);
  message->chunks = qfs_chunks_new();
  guint n = reply->chunks != NULL ? reply->chunks->len : 0;
  for (guint i = 0; i < n; i++) {
    QfsChunk *chunk = reply->chunks->pdata[i];
    if (!should_hold(c, u, chunk->object.placement))
      continue;
    QfsChunk *copy = g_memdup2(chunk, sizeof *chunk);
    g_bytes_ref(copy->data);
    g_ptr_array_add(message->chunks, copy);
  }
  guint64 last_seq = 0;
  if (n > 0) {
    QfsChunk *last = reply->chunks->pdata[n - 1];
    last_seq = last->seq;
    qfs_chunk_free(u->at_chunk);
    u->at_chunk = g_memdup2(last, sizeof *last);
    u->at_chunk->data = NULL;
  }
  page_end(u, last_seq, reply->more && n > 0);
  copy_on(c, u, message, message->chunks->len);
}

static void source_records(QfsCoordinator *c, QfsPeer *peer, QfsMessage *reply, gpointer data) {
  QfsCatchup *u = ticket_use(c, data);
  if (u == NULL || !usable(c, u, peer, reply))
    return;
  QfsMessage *message = qfs_message_new(QFS_MESSAGE_APPLY, u->node);
  message->records = qfs_records_new();
  guint n = reply->records != NULL ? reply->records->len : 0;
  for (guint i = 0; i < n; i++) {
    QfsRecord *record = reply->records->pdata[i];
    guint64 hash = qfs_key_hash(record->key);
    if (should_hold(c, u, hash) && !qfs_held_add(c, u->held, u->node, record))
      g_ptr_array_add(message->records, qfs_record_ref(record));
  }
  guint64 last_seq = 0;
  if (n > 0) {
    QfsRecord *last = reply->records->pdata[n - 1];
    last_seq = last->seq;
    g_free(u->at_key);
    u->at_key = g_strdup(last->key);
  }
  page_end(u, last_seq, reply->more && n > 0);
  copy_on(c, u, message, message->records->len);
}

static void ask_source(QfsCoordinator *c, QfsCatchup *u) {
  QfsPeer *peer = &c->peer[u->source];
  if (u->stage == STAGE_CHUNKS) {
    QfsMessage *message = qfs_message_new(QFS_MESSAGE_SCAN_CHUNKS, peer->index);
    message->after_seq = u->at_seq;
    message->limit = CHUNKS_LIMIT;
    message->with_data = TRUE;
    if (u->at_chunk != NULL) {
      message->chunks = qfs_chunks_new();
      g_ptr_array_add(message->chunks, g_memdup2(u->at_chunk, sizeof *u->at_chunk));
    }
    qfs_rpc_send(c, peer, message, source_chunks, ticket_new(u));
  } else {
    QfsMessage *message = qfs_message_new(QFS_MESSAGE_SCAN_RECORDS, peer->index);
    message->after_seq = u->at_seq;
    message->key = g_strdup(u->at_key);
    message->limit = RECORDS_LIMIT;
    qfs_rpc_send(c, peer, message, source_records, ticket_new(u));
  }
}

/* ---- (3) the end ---- */

static void synced(QfsCoordinator *c, QfsPeer *peer, QfsMessage *reply, gpointer data) {
  QfsCatchup *u = ticket_use(c, data);
  if (u == NULL || !usable(c, u, peer, reply))
    return;
  if (u->mark < c->settled) { /* the mark moved meanwhile */
    catchup_step(c, u);
    return;
  }
  u->stage = STAGE_READY;
  qfs_reclaim_want(c); /* of what it had beyond the others, and of what they have dropped since, rows are left */
  c->view_dirty = TRUE;
}

static void copy_held(QfsCoordinator *c, QfsCatchup *u) {
  GPtrArray *ready = qfs_held_take(c, u->held, u->node);
  if (ready == NULL)
    return;
  QfsMessage *message = qfs_message_new(QFS_MESSAGE_APPLY, u->node);
  message->records = ready;
  copy_on(c, u, message, ready->len);
}

static void copy_step(QfsCoordinator *c, QfsCatchup *u) {
  if (u->source == 0) {
    if ((u->sources & ~qfs_peers_in(c, PEER_TRUSTED)) != 0) {
      catchup_restart(c, u); /* what only it has would be missed */
      return;
    }
    if (u->sources == 0 && u->held->len > 0) {
      copy_held(c, u);
      return;
    }
    if (u->sources == 0) {
      u->stage = u->stage == STAGE_CHUNKS ? STAGE_RECORDS : STAGE_SYNC;
      u->sources = u->all;
      u->at_seq = u->from;
      catchup_step(c, u);
      return;
    }
    u->source = (guint)__builtin_ctzll(u->sources) + 1;
    u->sources &= u->sources - 1;
    u->at_seq = u->from;
    g_clear_pointer(&u->at_key, g_free);
    g_clear_pointer(&u->at_chunk, qfs_chunk_free);
  }
  if (c->peer[u->source].state != PEER_TRUSTED) {
    catchup_restart(c, u);
    return;
  }
  ask_source(c, u);
}

static void wiped(QfsCoordinator *c, QfsPeer *peer, QfsMessage *reply, gpointer data) {
  QfsCatchup *u = ticket_use(c, data);
  if (u == NULL || !usable(c, u, peer, reply))
    return;
  c->stat.rebuilt++;
  peer->filled = TRUE;
  peer->damaged = FALSE;
  peer->meta.wiped = reply->id;
  peer->meta.settled = 0;
  qfs_peer_note_aside(c, peer, reply);
  u->stage = STAGE_EXTRAS;
  c->view_dirty = TRUE; /* the next view remembers it */
  catchup_step(c, u);
}

static void wipe(QfsCoordinator *c, QfsCatchup *u, QfsPeer *peer) {
  QfsMessage *message = qfs_message_new(QFS_MESSAGE_WIPE, u->node);
  message->aside = g_strdup(peer->aside_wanted);
  qfs_rpc_send(c, peer, message, wiped, ticket_new(u));
}

/* Batches that it was told of and whose end it missed: done or taken for nothing, its records are compared
 * like all others. Kept, such an intent would be rolled forward by some later recovery; but it goes only after what was
 * done of it here and is not to be (extras), for without it that would pass for a change like any other. */

static void intent_removed(QfsCoordinator *c, QfsPeer *peer, QfsMessage *reply, gpointer data) {
  QfsCatchup *u = ticket_use(c, data);
  if (u == NULL || !usable(c, u, peer, reply) || --u->intents_left > 0)
    return;
  begin_copying(c, u);
}

static void remove_intents(QfsCoordinator *c, QfsCatchup *u) {
  u->intents_left = u->intents->len;
  if (u->intents_left == 0) {
    begin_copying(c, u);
    return;
  }
  g_autoptr(GArray) ids = g_array_ref(u->intents);
  for (guint i = 0; i < ids->len; i++) {
    QfsMessage *message = qfs_message_new(QFS_MESSAGE_COMMIT, u->node);
    message->id = g_array_index(ids, guint64, i);
    message->records = qfs_records_new();
    qfs_rpc_send(c, &c->peer[u->node], message, intent_removed, ticket_new(u));
  }
}

/* Of this life, and not over: it goes when that is over, and until then it counts here, too. */
static gboolean still_counts(const QfsCoordinator *c, guint64 intent) {
  for (const GList *link = c->flights.head; link != NULL; link = link->next)
    if (((const QfsFlight *)link->data)->message->id == intent)
      return TRUE;
  for (const GList *link = c->retained.head; link != NULL; link = link->next)
    if (((const QfsFlight *)link->data)->seq == intent)
      return TRUE;
  return FALSE;
}

static void intents_found(QfsCoordinator *c, QfsPeer *peer, QfsMessage *reply, gpointer data) {
  QfsCatchup *u = ticket_use(c, data);
  if (u == NULL || !usable(c, u, peer, reply))
    return;
  for (guint i = 0; reply->intents != NULL && i < reply->intents->len; i++) {
    const QfsIntent *intent = reply->intents->pdata[i];
    if (!still_counts(c, intent->id))
      g_array_append_val(u->intents, intent->id);
  }
  u->stage = STAGE_EXTRAS;
  catchup_step(c, u);
}

static void catchup_step(QfsCoordinator *c, QfsCatchup *u) {
  QfsPeer *peer = &c->peer[u->node];
  switch (u->stage) {
  case STAGE_WIPE:
    wipe(c, u, peer);
    break;
  case STAGE_INTENTS:
    qfs_rpc_send(c, peer, qfs_message_new(QFS_MESSAGE_INTENTS, u->node), intents_found, ticket_new(u));
    break;
  case STAGE_EXTRAS: {
    if (peer->state == PEER_KNOWN) { /* joins from here on: a wipe must not take new writes with it */
      peer->state = PEER_JOINING;
      u->until = c->last_seq;
      u->settled_first = c->settled;
      u->all = qfs_peers_in(c, PEER_TRUSTED); /* who came in meanwhile may have what was written meanwhile */
      qfs_flights_join(c);
      if (peer->catchup != u)
        return;
    }
    QfsMessage *message = qfs_message_new(QFS_MESSAGE_SCAN_RECORDS, u->node);
    message->after_seq = u->at_seq;
    message->key = g_strdup(u->at_key);
    message->limit = RECORDS_LIMIT;
    qfs_rpc_send(c, peer, message, extras_found, ticket_new(u));
    break;
  }
  case STAGE_INTENTS_GO:
    remove_intents(c, u);
    break;
  case STAGE_CHUNKS:
  case STAGE_RECORDS:
    copy_step(c, u);
    break;
  case STAGE_SYNC: {
    QfsMessage *message = qfs_message_new(QFS_MESSAGE_SYNC, u->node);
    /* No less than the view will ask of it, which may never reach it, while others go by it. */
    u->mark = message->mark = qfs_view_settled_by_any(c, c->view.in_sync | qfs_peers_in(c, PEER_JOINING));
    qfs_rpc_send(c, peer, message, synced, ticket_new(u));
    break;
  }
  case STAGE_READY:
    break;
  }
}

void qfs_catchup_start(QfsCoordinator *c, QfsPeer *peer) {
  static guint64 ids; /* only compared for equality */
  QfsNodeSet trusted = qfs_peers_in(c, PEER_TRUSTED);
  if (trusted == 0)
    return; /* nobody to learn from */
  QfsCatchup *u = g_new0(QfsCatchup, 1);
  u->id = ++ids;
  u->node = peer->index;
  guint64 left_mark = c->view.left_mark[peer->index - 1];
  u->stage = peer->rebuild && !peer->filled ? STAGE_WIPE : STAGE_INTENTS;
  u->everything = peer->rebuild || (left_mark & QFS_MARK_INCOMPLETE) != 0;
  if (peer->filled)
    u->from = peer->meta.settled; /* as it was told when it had no extras */
  else if (!peer->rebuild)
    u->from = qfs_set_has(c->view.in_sync, peer->index) ? c->settled : left_mark & ~QFS_MARK_INCOMPLETE;
  u->from = MIN(u->from, c->settled);
  u->at_seq = u->from;
  u->held = qfs_records_new();
  u->intents = g_array_new(FALSE, FALSE, sizeof(guint64));
  peer->catchup = u;
  qfs_log(c, G_LOG_LEVEL_MESSAGE, "node %u %s", peer->index,
          peer->filled    ? "goes on being rebuilt from its peers"
          : peer->rebuild ? "is rebuilt from its peers"
                          : "is catching up");
  catchup_step(c, u);
}

/* Do the trusted nodes have everything that was written while `node` was away? It went to all K holders of
 * the S of its time (what did not yet is in flight, in memory): some of any K must be trusted. Sets with
 * the node in them are of times when it was there. */
static gboolean sources_suffice(const QfsCoordinator *c, guint node, QfsNodeSet trusted) {
  if (!c->phase_known)
    return FALSE;
  for (guint i = 0; i < c->n_phase; i++) {
    QfsViewSet set = c->phase[i].set;
    guint holders = MIN(set.replicas, qfs_set_size(set.nodes));
    if (!qfs_set_has(set.nodes, node) && qfs_set_size(set.nodes & ~trusted) >= holders)
      return FALSE;
  }
  return TRUE;
}

/* Though the trusted nodes are too few: what it must hold of the time before it left, it holds itself, and they have what came
 * since. Not if it was emptied, or if N, K or B changed meanwhile: it must hold keys then that it never had, of which none of
 * them may be a holder. */
static gboolean few_suffice(const QfsCoordinator *c, guint node, QfsNodeSet trusted) {
  return !c->peer[node].rebuild && qfs_set_has(c->view.base, node) &&
         (qfs_set_has(c->view.in_sync, node) || (c->view.left_mark[node - 1] & QFS_MARK_INCOMPLETE) == 0) &&
         sources_suffice(c, node, trusted);
}

/* The trusted nodes, and those who can catch up from them though they are too few. */
static QfsNodeSet able(const QfsCoordinator *c, QfsNodeSet trusted) {
  QfsNodeSet set = trusted;
  for (guint i = 1; i <= MIN(c->n_peers, qfs_view_nodes(c)); i++) {
    const QfsPeer *peer = &c->peer[i];
    if ((peer->state == PEER_KNOWN || peer->state == PEER_JOINING) && few_suffice(c, i, trusted))
      set |= QFS_NODE_BIT(i);
  }
  return set;
}

gboolean qfs_catchup_may_complete(const QfsCoordinator *c) {
  QfsNodeSet trusted = qfs_peers_in(c, PEER_TRUSTED);
  return trusted != 0 && qfs_view_allows(c, able(c, trusted));
}

/* Everything is copied but what is held back. */
static gboolean is_waiting(const QfsCatchup *u) {
  return u->stage == STAGE_RECORDS && u->source == 0 && u->sources == 0 && u->held->len > 0 && !u->copying;
}

void qfs_catchup_consider(QfsCoordinator *c) {
  if (!c->serving || c->recovery != NULL || !c->view_stable || c->closing)
    return;
  QfsNodeSet trusted = qfs_peers_in(c, PEER_TRUSTED);
  for (guint i = 1; i <= MIN(c->n_peers, qfs_view_nodes(c)); i++) {
    QfsPeer *peer = &c->peer[i];
    if (peer->catchup != NULL && peer->catchup->pauses) {
      peer->catchup->pauses = FALSE;
      extras_next(c, peer->catchup);
    } else if (peer->catchup != NULL && is_waiting(peer->catchup)) {
      copy_held(c, peer->catchup);
    }
    if (peer->catchup != NULL && peer->catchup->stage == STAGE_READY &&
        peer->catchup->mark < c->settled) {
      peer->catchup->stage = STAGE_SYNC;
      catchup_step(c, peer->catchup);
    }
    if (peer->state != PEER_KNOWN || peer->catchup != NULL || trusted == 0)
      continue;
    if (peer->catchup_at_us > c->env->now_us(c->env)) {
      qfs_wake_at(c, peer->catchup_at_us);
      continue;
    }
    if (c->blocked && !qfs_set_has(c->seen, i))
      continue; /* recovery first takes in what it has; wiped, it would pass for somebody who was seen */
    if (qfs_has_lost(c) && (peer->rebuild || !qfs_set_has(c->view.base, i)))
      continue; /* first it is settled what is left of keys that lost all their holders */
    if (qfs_view_allows(c, trusted) || (few_suffice(c, i, trusted) && qfs_view_allows(c, able(c, trusted))))
      qfs_catchup_start(c, peer);
  }
}
