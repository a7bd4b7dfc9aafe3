/* fetch.c - the newest acknowledged record of a key: the get path.
 *
 * From memory when something about the key is in flight, else from one in-sync node. The key's counter is
 * read before and compared after: if anything was sent or forgotten meanwhile the read is done again
 * (C3). An absent row is confirmed by a second holder, because a damaged page can hide a row. When no
 * node holds the key for certain, a majority of the holders of every set since S was whole is asked.
 */
#include "cluster/private.h"

typedef struct {
  GRefString *key;
  guint64 hash;
  guint64 counter;
  QfsNodeSet absent_at;    /* nodes that said there is no row */
  QfsNodeSet failed;       /* nodes not to be asked again */
  guint tries;
  gboolean base;           /* what is known from the last time will do */
  gboolean any;            /* also what may never have been acknowledged */
  QfsFetchDone done;
  gpointer data;
  /* majority read */
  QfsNodeSet asked, answered;
  QfsRecord *best;
} Fetch;

#define FETCH_TRIES_MAX 1000

static void fetch_step(QfsCoordinator *c, Fetch *fetch);

static void fetch_end(QfsCoordinator *c, Fetch *fetch, QfsStatus status, QfsRecord *record) {
  fetch->done(c, status, record, fetch->data);
  qfs_record_unref(fetch->best);
  g_ref_string_release(fetch->key);
  g_slice_free(Fetch, fetch);
}

QfsNodeSet qfs_readable(const QfsCoordinator *c, guint64 hash) {
  if (!c->serving)
    return 0;
  return qfs_placement_holders(hash, c->view.base, qfs_replicas(c)) & c->view.in_sync &
         qfs_peers_in(c, PEER_TRUSTED);
}

guint qfs_pick(QfsCoordinator *c, guint64 hash, QfsNodeSet among) {
  guint order[QFS_NODES_MAX];
  return qfs_placement_order(hash, among, order) > 0 ? order[0] : 0;
}

gboolean qfs_read_failed(QfsCoordinator *c, guint64 hash, QfsRead *read) {
  QfsNodeSet others = qfs_readable(c, hash) & ~qfs_read_bit(read);
  if (others == 0)
    return FALSE;
  if (read->bad != NULL) {
    qfs_mend_bad_row(c, &c->peer[read->node], read->bad, FALSE, read->reason);
    return TRUE;
  }
  if (read->status == QFS_IO && c->peer[read->node].state == PEER_TRUSTED)
    qfs_peer_fail(c, &c->peer[read->node], read->reason ? read->reason : "read failed", read->corrupt);
  return TRUE;
}

static void fetch_read(QfsCoordinator *c, QfsRead *read, gpointer data) {
  Fetch *fetch = data;
  if (read->status != QFS_OK) {
    fetch->failed |= qfs_read_bit(read);
    if (!qfs_read_failed(c, fetch->hash, read) && read->status == QFS_IO) {
      qfs_log(c, G_LOG_LEVEL_WARNING, "%s: node %u: %s", fetch->key, read->node,
              read->reason ? read->reason : "read failed");
      fetch_end(c, fetch, QFS_IO, NULL);
      return;
    }
    fetch_step(c, fetch);
    return;
  }
  if (fetch->counter != qfs_key_counter(c, fetch->hash)) {
    fetch->absent_at = 0;
    fetch_step(c, fetch);
    return;
  }
  if (read->record != NULL && read->record->seq > c->settled && !fetch->any) {
    /* Perhaps recovered and never acknowledged: too few are left to make it so before it is shown. */
    QfsNodeSet holders = qfs_holders(c, fetch->hash) & qfs_peers_in(c, PEER_TRUSTED);
    if (qfs_set_size(holders) < qfs_write_quorum(qfs_replicas(c))) {
      fetch_end(c, fetch, QFS_NO_QUORUM, NULL);
      return;
    }
  }
  if (read->record != NULL) {
    if (fetch->base)
      qfs_recent_note(c, read->record, fetch->hash);
    fetch_end(c, fetch, QFS_OK, read->record);
    return;
  }
  fetch->absent_at |= QFS_NODE_BIT(read->node);
  fetch_step(c, fetch);
}

/* ---- majority read ---- */

/* Is what was found the newest? Of every set from the one on that it was written under, enough holders
 * must have answered to meet any W of them. What was written before is older (C2); rows from before the
 * phase prove nothing, they may be leftovers of an earlier time as stand-in. */
static gboolean majority_is_enough(QfsCoordinator *c, Fetch *fetch) {
  if (!c->phase_known || c->n_phase == 0 || fetch->best == NULL ||
      fetch->best->seq <= c->phase[0].after)
    return FALSE;
  for (guint i = 0; i < c->n_phase; i++) {
    if (i + 1 < c->n_phase && c->phase[i + 1].after < fetch->best->seq)
      continue; /* over before it was written */
    if (!qfs_set_was_met(&c->phase[i].set, fetch->hash, fetch->answered))
      return FALSE;
  }
  return TRUE;
}

static void written_back(QfsCoordinator *c, QfsFlight *flight, gpointer data) {
  Fetch *fetch = data;
  c->stat.written_back++;
  fetch_end(c, fetch, QFS_OK, fetch->best);
}

static void majority_decide(QfsCoordinator *c, Fetch *fetch) {
  if (!majority_is_enough(c, fetch) || qfs_key_find(c, fetch->key) != NULL) {
    fetch_end(c, fetch, QFS_NO_QUORUM, NULL);
    return;
  }
  if (!qfs_can_write(c)) {
    /* Nothing about the key is in flight and the phase is all this coordinator's: it was acknowledged. */
    fetch_end(c, fetch, QFS_OK, fetch->best);
    return;
  }
  QfsMessage *message = qfs_message_new(QFS_MESSAGE_APPLY, 0);
  message->records = qfs_records_new();
  QfsRecord *copy = qfs_record_copy(fetch->best);
  copy->seq = qfs_next_seq(c);
  g_ptr_array_add(message->records, copy);
  qfs_record_unref(fetch->best);
  fetch->best = qfs_record_ref(copy);
  qfs_flight_start(c, message, &fetch->hash, 1, FALSE, fetch, written_back, NULL, NULL);
}

static void majority_reply(QfsCoordinator *c, QfsPeer *peer, QfsMessage *reply, gpointer data) {
  Fetch *fetch = data;
  fetch->asked &= ~QFS_NODE_BIT(peer->index);
  if (reply != NULL && qfs_peer_reply_ok(c, peer, reply)) {
    fetch->answered |= QFS_NODE_BIT(peer->index);
    QfsRecord *record = reply->records && reply->records->len ? reply->records->pdata[0] : NULL;
    if (qfs_record_compare(record, fetch->best) > 0) {
      qfs_record_unref(fetch->best);
      fetch->best = qfs_record_ref(record);
    }
  }
  if (fetch->asked == 0)
    majority_decide(c, fetch);
}

static void majority_start(QfsCoordinator *c, Fetch *fetch) {
  QfsNodeSet reach = c->serving ? qfs_peers_in(c, PEER_TRUSTED) & qfs_holders(c, fetch->hash) : 0;
  reach &= ~qfs_peers_silent(c);
  if (reach == 0) {
    fetch_end(c, fetch, QFS_NO_QUORUM, NULL);
    return;
  }
  fetch->asked = reach;
  for (; reach != 0; reach &= reach - 1) {
    QfsPeer *peer = &c->peer[__builtin_ctzll(reach) + 1];
    QfsMessage *message = qfs_message_new(QFS_MESSAGE_READ, peer->index);
    message->key = g_strdup(fetch->key);
    qfs_rpc_send(c, peer, message, majority_reply, fetch);
  }
}

static void fetch_step(QfsCoordinator *c, Fetch *fetch) {
  QfsKey *key = qfs_key_find(c, fetch->key);
  if (key != NULL && key->have_base) {
    fetch_end(c, fetch, QFS_OK, key->acked);
    return;
  }
  if (qfs_is_blocked(c, fetch->hash) || ++fetch->tries > FETCH_TRIES_MAX) {
    fetch_end(c, fetch, QFS_NO_QUORUM, NULL);
    return;
  }
  QfsNodeSet readable = qfs_readable(c, fetch->hash);
  QfsNodeSet answer = readable & ~qfs_peers_mute(c);
  QfsNodeSet left = answer & ~fetch->failed & ~fetch->absent_at;
  if (fetch->absent_at != 0 && (left == 0 || qfs_set_size(fetch->absent_at) >= 2)) {
    fetch_end(c, fetch, QFS_OK, NULL);
    return;
  }
  if (left == 0) {
    majority_start(c, fetch);
    return;
  }
  QfsRecord *known = fetch->base ? qfs_recent_find(c, fetch->key, fetch->hash) : NULL;
  if (known != NULL) {
    g_autoptr(QfsRecord) held = qfs_record_ref(known);
    fetch_end(c, fetch, QFS_OK, held);
    return;
  }
  fetch->counter = qfs_key_counter(c, fetch->hash);
  const QfsRead what = {.kind = QFS_READ_RECORD, .key = g_ref_string_acquire(fetch->key)};
  qfs_ask(c, &what, fetch->hash, answer, fetch->failed | fetch->absent_at, 1, fetch_read, fetch);
}

static void fetch_start(QfsCoordinator *c, const char *key, gboolean any, gboolean base, QfsFetchDone done,
                        gpointer data) {
  Fetch *fetch = g_slice_new0(Fetch);
  fetch->key = g_ref_string_new(key);
  fetch->hash = qfs_key_hash(key);
  fetch->any = any;
  fetch->base = base;
  fetch->done = done;
  fetch->data = data;
  fetch_step(c, fetch);
}

void qfs_fetch(QfsCoordinator *c, const char *key, QfsFetchDone done, gpointer data) {
  fetch_start(c, key, FALSE, FALSE, done, data);
}

void qfs_fetch_base(QfsCoordinator *c, const char *key, QfsFetchDone done, gpointer data) {
  fetch_start(c, key, FALSE, TRUE, done, data);
}

void qfs_fetch_any(QfsCoordinator *c, const char *key, QfsFetchDone done, gpointer data) {
  fetch_start(c, key, TRUE, FALSE, done, data);
}
