/* recovery_batches.c - batches that a start finds: which of them are rolled forward, and what is void. See recovery.c.
 *
 * Intents are found at the nodes that were scanned. What members have of a batch was, or is, completed. Of what nodes that
 * are no members have, the intents decide.
 */
#include "cluster/recovery.h"

#include <string.h>

static gint by_id(gconstpointer a, gconstpointer b) {
  guint64 x = *(const guint64 *)a, y = *(const guint64 *)b;
  return x < y ? -1 : x > y;
}

/* Or carried from an earlier batch (batch.c), whose own intent says what became of that. */
static gboolean is_own(const QfsFoundIntent *found, const QfsRecord *record) { return record->seq == found->id; }

static void guest_free(gpointer data) {
  qfs_record_unref(((QfsRecoveryGuest *)data)->record);
  g_free(data);
}

static void found_intent_free(gpointer data) {
  QfsFoundIntent *found = data;
  g_ptr_array_unref(found->records);
  g_free(found);
}

void qfs_recovery_init_batches(QfsRecovery *r) {
  r->guests = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)g_ptr_array_unref);
  r->intents = g_hash_table_new_full(g_int64_hash, g_int64_equal, NULL, found_intent_free);
}

/* ---- what counts ---- */

void qfs_recovery_note_guest(QfsRecovery *r, guint node, QfsRecord *record) {
  GPtrArray *rows = g_hash_table_lookup(r->guests, record->key);
  if (rows == NULL) {
    rows = g_ptr_array_new_with_free_func(guest_free);
    g_hash_table_insert(r->guests, g_strdup(record->key), rows);
  }
  QfsRecoveryGuest *guest = g_new(QfsRecoveryGuest, 1);
  *guest = (QfsRecoveryGuest){node, qfs_record_ref(record)};
  g_ptr_array_add(rows, guest);
}

/* What an earlier start did without may be undone in part at a node that was catching up; and others may have built on what
 * they saw without it. */
gboolean qfs_recovery_counts(const QfsCoordinator *c, guint node, const QfsRecord *record) {
  const QfsRecovery *r = c->recovery;
  if (r->unites && (r->voids_count || record->seq <= qfs_unite_settled_at(c, node)))
    return TRUE;
  return record->seq >= r->void_below && qfs_passed_over(c, record->seq, qfs_key_hash(record->key)) == 0;
}

/* An earlier life had seen what became of the batch when its operations began: the first one of which that is known. It
 * had not been acknowledged if one of its keys was accounted for without it. */
static guint64 void_since(const QfsCoordinator *c, const QfsFoundIntent *found) {
  guint64 since = 0;
  if (found->id < c->recovery->void_below)
    return c->recovery->void_below;
  for (guint i = 0; i < found->records->len; i++) {
    const QfsRecord *record = found->records->pdata[i];
    const guint64 passed = is_own(found, record) ? qfs_passed_over(c, found->id, qfs_key_hash(record->key)) : 0;
    if (passed != 0 && (since == 0 || passed < since))
      since = passed;
  }
  return since;
}

static gboolean is_seen_without(QfsCoordinator *c, const QfsFoundIntent *found) {
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
 * which intents that was seen for good, by the time that a life serves what it found (mark, passed.c); the numbers of rows
 * do not say it, for a start gives new ones also to rows of keys that are blocked. That holds for a member's, too, which
 * may be one for want of a better (unite.c): a batch that was carried out is on stable storage at all holders by then. */
static gboolean is_abandoned(QfsCoordinator *c, const QfsFoundIntent *found) {
  QfsRecovery *r = c->recovery;
  if (found->void_since != 0)
    return TRUE;
  if ((found->at & r->members) != 0)
    return FALSE;
  return found->seen_without;
}

/* What an abandoned batch did at a node that is no member is half of it: void, and so is what was built on it there, of
 * which nothing was acknowledged that others do not have. What members have of it was completed. */
static gboolean is_of(const QfsRecoveryGuest *guest, const QfsFoundIntent *found, const QfsRecord *record) {
  if (!is_own(found, record) || strcmp(guest->record->key, record->key) != 0)
    return FALSE;
  const int order = qfs_record_compare(guest->record, record);
  return order == 0 || (order > 0 && found->seen_without && qfs_set_has(found->at, guest->node));
}

/* What a life numbered that had seen what became of the batch is not void with it. */
static gboolean is_void(const QfsRecoveryGuest *guest, GPtrArray *abandoned) {
  for (guint i = 0; i < abandoned->len; i++) {
    const QfsFoundIntent *found = abandoned->pdata[i];
    if (found->void_since != 0 && guest->record->seq >= found->void_since)
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
      const QfsRecoveryGuest *guest = rows->pdata[i];
      if (!is_void(guest, abandoned))
        qfs_recovery_take_record(r, guest->record);
    }
  }
}

/* An intent may be older than the settled mark: its batch was completed, and newer versions of its keys may be
 * settled, which the scans do not show. Rolled forward, it would give an old version a new number. */

typedef struct {
  QfsRecoveryStep step;               /* first */
  QfsRecord *record;
} IntentCheck;

static void intent_compared(QfsCoordinator *c, QfsPeer *peer, QfsMessage *reply, gpointer data) {
  g_autofree IntentCheck *check = data;
  g_autoptr(QfsRecord) record = check->record;
  if (!qfs_recovery_reply_ok(c, peer, reply, &check->step))
    return;
  QfsRecord *stored =
      reply->records != NULL && reply->records->len > 0 ? reply->records->pdata[0] : NULL;
  if (qfs_record_compare(record, stored) > 0)
    qfs_recovery_take_record(c->recovery, record);
  if (--c->recovery->left == 0)
    qfs_recovery_everything_found(c);
}

static void compare_intent(QfsCoordinator *c, QfsRecord *record) {
  QfsRecovery *r = c->recovery;
  guint64 hash = qfs_key_hash(record->key);
  QfsNodeSet whole = qfs_placement_holders(hash, c->view.base, qfs_replicas(c)) & r->members;
  guint node = qfs_pick(c, hash, whole);
  if (node == 0) {
    qfs_recovery_take_record(r, record);
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

static void scan_finished(QfsCoordinator *c) {
  QfsRecovery *r = c->recovery;
  if (--r->left > 0)
    return;
  g_autoptr(GList) ids = g_list_sort(g_hash_table_get_keys(r->intents), by_id);
  g_autoptr(GPtrArray) abandoned = g_ptr_array_new();
  for (GList *link = ids; link != NULL; link = link->next) {
    QfsFoundIntent *found = g_hash_table_lookup(r->intents, link->data);
    found->void_since = void_since(c, found);
    found->seen_without = is_seen_without(c, found);
    found->abandoned = is_abandoned(c, found);
    if (found->abandoned)
      g_ptr_array_add(abandoned, found);
  }
  take_guests(r, abandoned);
  for (GList *link = ids; link != NULL; link = link->next) {
    const QfsFoundIntent *found = g_hash_table_lookup(r->intents, link->data);
    for (guint i = 0; !found->abandoned && i < found->records->len; i++)
      compare_intent(c, found->records->pdata[i]);
  }
  if (r->left == 0)
    qfs_recovery_everything_found(c);
}

static void intents_reply(QfsCoordinator *c, QfsPeer *peer, QfsMessage *reply, gpointer data) {
  g_autofree QfsRecoveryStep *step = data;
  if (!qfs_recovery_reply_ok(c, peer, reply, step))
    return;
  for (guint i = 0; reply->intents != NULL && i < reply->intents->len; i++) {
    QfsIntent *intent = reply->intents->pdata[i];
    QfsFoundIntent *found = g_hash_table_lookup(c->recovery->intents, &intent->id);
    if (found == NULL) {
      found = g_new0(QfsFoundIntent, 1);
      found->id = intent->id;
      found->records = g_ptr_array_ref(intent->records);
      g_hash_table_insert(c->recovery->intents, &found->id, found);
    }
    found->at |= QFS_NODE_BIT(peer->index);
  }
  scan_finished(c);
}

void qfs_recovery_scan_intents(QfsCoordinator *c, QfsPeer *peer) {
  QfsMessage *message = qfs_message_new(QFS_MESSAGE_INTENTS, peer->index);
  qfs_rpc_send(c, peer, message, intents_reply, qfs_recovery_step(c->recovery, peer->index));
}

/* ---- intents: to all members before anything that they say is written ---- */

typedef struct {
  QfsRecoveryStep step; /* first */
  QfsFoundIntent *found;
  guint node;
} Spread;

static void intent_spread(QfsCoordinator *c, QfsPeer *peer, QfsMessage *reply, gpointer data) {
  g_autofree Spread *spread = data;
  if (!qfs_recovery_reply_ok(c, peer, reply, &spread->step))
    return;
  spread->found->at |= QFS_NODE_BIT(spread->node);
  if (--c->recovery->left == 0)
    qfs_recovery_write_more(c);
}

/* A start that is cut off in the middle of rolling a batch forward may be followed by one that meets other nodes: it
 * must find the intent, or it would take half of the batch for the whole. */
void qfs_recovery_spread_intents(QfsCoordinator *c) {
  QfsRecovery *r = c->recovery;
  g_autoptr(GList) ids = g_list_sort(g_hash_table_get_keys(r->intents), by_id);
  r->left = 1; /* answers may come at once */
  for (GList *link = ids; link != NULL; link = link->next) {
    QfsFoundIntent *found = g_hash_table_lookup(r->intents, link->data);
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
    qfs_recovery_write_more(c);
}

/* ---- the end of them ---- */

static void intent_removed(QfsCoordinator *c, QfsPeer *peer, QfsMessage *reply, gpointer data) {
  g_autofree QfsRecoveryStep *step = data;
  if (reply != NULL && qfs_recovery_is_current(c, step) && qfs_peer_reply_ok(c, peer, reply) &&
      qfs_recovery_is_current(c, step) && --c->recovery->left == 0)
    qfs_recovery_end(c);
}

/* What was taken for nothing stays at nodes that are no members until what was done of it there is undone (catchup.c), or it is
 * void by its number: without the intent the next start would take that for a change like any other. */
static QfsNodeSet leaves_from(const QfsCoordinator *c, const QfsFoundIntent *found) {
  const QfsRecovery *r = c->recovery;
  QfsNodeSet nodes = r->scanned & qfs_peers_alive(c);
  return found->abandoned && found->id >= c->view.void_below ? nodes & r->members : nodes;
}

/* What the intents say is at all holders: they go, before anything newer is served. */
void qfs_recovery_remove_intents(QfsCoordinator *c) {
  QfsRecovery *r = c->recovery;
  g_autoptr(GList) ids = g_list_sort(g_hash_table_get_keys(r->intents), by_id);
  r->removing_intents = TRUE;
  r->left = 1;
  for (GList *link = ids; link != NULL; link = link->next) {
    const QfsFoundIntent *found = g_hash_table_lookup(r->intents, link->data);
    for (QfsNodeSet rest = leaves_from(c, found); rest != 0; rest &= rest - 1) {
      QfsPeer *peer = &c->peer[__builtin_ctzll(rest) + 1];
      QfsMessage *message = qfs_message_new(QFS_MESSAGE_COMMIT, peer->index);
      message->id = found->id;
      message->records = qfs_records_new();
      r->left++;
      qfs_rpc_send(c, peer, message, intent_removed, qfs_recovery_step(r, peer->index));
    }
  }
  if (--r->left == 0)
    qfs_recovery_end(c);
}
