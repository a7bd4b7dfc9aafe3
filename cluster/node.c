/* node.c - see node.h. One thread at a time.
 *
 * A batch is one attempt: every request is served against the writer, which sees its own
 * transaction, the replies are kept back, and the whole is committed once. What an attempt changes
 * in memory (`next`, the tail of `drops`) is adopted only after the commit. */
#include "cluster/node_private.h"

/* Disk space that only deletes and bookkeeping may use. */
#define ROOM_RESERVE (4u << 20)
/* ... that copies which others have already leave. */
#define OVERDUE_RESERVE (ROOM_RESERVE / 8)
/* What is written at most before the disk is asked again. */
#define ROOM_STEP (1u << 20)

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
  node->meta = node->next = *meta;
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

/* Batches. */

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

/* What a byte of payload may take: once in the log, once in the file, and a quarter more for pages that are not full.
 * (Where there is little room there is no redo log.) */
static guint64 room_of_copy(const QfsMessage *request) {
  return qfs_message_size(request) * 5 / 2;
}

/* ... for each of the K copies, which may be on this very disk. */
static guint64 room_needed(const QfsNode *node, const QfsMessage *request) {
  return room_of_copy(request) * (node->next.has_view ? node->next.view.replicas : 5);
}

/* What may be written. What so many files are yet to grow by is taken already: else the logs could not be moved once the
 * disk is full, and what is deleted then would never be free. */
static guint64 room_left(const QfsReplicaStats *stats, guint files) {
  const guint64 all = stats->disk_free + stats->reusable, taken = stats->owed * files;
  return all > taken ? all - taken : 0;
}

static gboolean is_full(const QfsNode *node, const QfsMessage *request, const QfsReplicaStats *stats) {
  const guint64 copy = room_of_copy(request);
  if (request->is_overdue)
    return room_left(stats, 1) < OVERDUE_RESERVE + copy || stats->disk_free < OVERDUE_RESERVE + copy / 2;
  return room_left(stats, sharers(node)) < ROOM_RESERVE + room_needed(node, request) ||
         stats->disk_free < ROOM_RESERVE / 4 + copy;
}

/* Refuses before anything is written while a reserve is left: nodes that share a disk then refuse nearly alike, so that
 * mostly a write is refused as a whole. But one of them may have room in its own file that another has not: for the
 * copy that this other one owes then (is_overdue) a part of the reserve is kept free, whatever the files can take: else it
 * would be given up, and could not catch up either.
 * The disk is asked again after every few writes. */
static gboolean has_room(QfsNode *node, const QfsMessage *request, GError **error) {
  const guint64 needed = room_needed(node, request);
  if (node->room >= ROOM_RESERVE + needed && !request->is_overdue) {
    node->room -= needed;
    return TRUE;
  }
  QfsReplicaStats stats;
  if (!node->replica->ops->stats(node->replica, &stats, error))
    return FALSE;
  if (stats.disk_total == 0)
    return TRUE;
  if (is_full(node, request, &stats) && node->replica->ops->discard_aside(node->replica)) {
    g_clear_pointer(&node->aside, g_free);
    if (!node->replica->ops->stats(node->replica, &stats, error))
      return FALSE;
  }
  if (is_full(node, request, &stats)) {
    node->is_tight = TRUE;
    g_set_error(error, QFS_REPLICA_ERROR, QFS_REPLICA_ERROR_NO_SPACE, "the disk is full");
    return FALSE;
  }
  /* What is spent before the next look: little of what is there, for others may spend it too. */
  const guint64 room = room_left(&stats, sharers(node));
  node->room = ROOM_RESERVE + MIN((room - MIN(room, ROOM_RESERVE)) / 16, ROOM_STEP);
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
  if (qfs_node_writes(request)) {
    if (!node->in_transaction && !node->replica->ops->begin(node->replica, error))
      return FALSE;
    node->in_transaction = TRUE;
    node->durable |= request->durable;
  }
  return qfs_node_serve(node, request, reply, error);
}

static gboolean commit(QfsNode *node, GError **error) {
  if (!node->in_transaction) {
    g_assert(!node->meta_changed);
    return TRUE;
  }
  if (node->meta_changed && !node->replica->ops->meta_store(node->replica, &node->next, error))
    return FALSE;
  if (!node->replica->ops->commit(node->replica, node->durable, error))
    return FALSE;
  node->in_transaction = FALSE;
  if (node->meta_changed)
    node->meta = node->next;
  node->wiped_incarnation = node->next_wiped;
  return TRUE;
}

/* Serves all or nothing; on failure nothing changed, neither on disk nor in memory, and `replies`
 * has its former length. */
static gboolean attempt(QfsNode *node, QfsMessage **requests, guint n, GPtrArray *replies,
                        GError **error) {
  const guint replies_before = replies->len, drops_before = node->drops->len;
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
  if (node->meta_changed)
    node->next = node->meta;
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
    qfs_raise_to(&node->refused_newest, request->cookie);
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
  if (node->failure != NULL || !qfs_is_bad_row(error))
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
  if (node->failure == NULL && (is_no_space(error) || qfs_is_bad_row(error))) {
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
