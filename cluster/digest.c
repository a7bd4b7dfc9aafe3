/* digest.c - see scrub.h: sums of rows. No state. */
#include "cluster/scrub.h"

#include "cluster/placement.h"

void qfs_digest_free(QfsDigest *digest) {
  if (digest == NULL)
    return;
  g_free(digest->key);
  g_free(digest);
}

GPtrArray *qfs_digests_new(void) {
  return g_ptr_array_new_with_free_func((GDestroyNotify)qfs_digest_free);
}

const QfsDigest *qfs_digests_find(const GPtrArray *digests, QfsNodeSet holders) {
  for (guint i = 0; digests != NULL && i < digests->len; i++) {
    const QfsDigest *digest = g_ptr_array_index(digests, i);
    if (digest->holders == holders)
      return digest;
  }
  return NULL;
}

void qfs_digests_add(GPtrArray *digests, QfsNodeSet holders, guint64 digest) {
  QfsDigest *sum = (QfsDigest *)qfs_digests_find(digests, holders);
  if (sum == NULL) {
    sum = g_new0(QfsDigest, 1);
    sum->holders = holders;
    g_ptr_array_add(digests, sum);
  }
  sum->digest ^= digest;
  sum->count++;
}

/* ---- comparing ---- */

static gboolean same_sum(const QfsDigest *a, const QfsDigest *b) {
  if (a == NULL || b == NULL)
    return a == b;
  return a->digest == b->digest && a->count == b->count;
}

static gboolean holders_agree(GPtrArray *const *sums, QfsNodeSet among, QfsNodeSet holders) {
  guint first = 0;
  for (QfsNodeSet rest = among; rest != 0; rest &= rest - 1) {
    guint node = (guint)__builtin_ctzll(rest) + 1;
    if (first == 0)
      first = node;
    else if (!same_sum(qfs_digests_find(sums[first], holders), qfs_digests_find(sums[node], holders)))
      return FALSE;
  }
  return TRUE;
}

static gboolean is_noted(const GArray *sets, QfsNodeSet holders) {
  for (guint i = 0; i < sets->len; i++)
    if (g_array_index(sets, QfsNodeSet, i) == holders)
      return TRUE;
  return FALSE;
}

void qfs_digests_compare(GPtrArray *const *sums, QfsNodeSet nodes, GArray *out) {
  for (QfsNodeSet rest = nodes; rest != 0; rest &= rest - 1) {
    const GPtrArray *of_node = sums[__builtin_ctzll(rest) + 1];
    for (guint i = 0; of_node != NULL && i < of_node->len; i++) {
      QfsNodeSet holders = ((const QfsDigest *)of_node->pdata[i])->holders;
      if (!is_noted(out, holders) && !holders_agree(sums, holders & nodes, holders))
        g_array_append_val(out, holders);
    }
  }
}

/* ---- what a node answers ---- */

/* Adds a row, if the node has to hold it and the request asks for it; `one`: what tells it from others, taken over. */
static void add_row(QfsMessage *reply, const QfsMessage *request, guint number, guint64 hash, guint64 digest,
                    QfsDigest *one) {
  const QfsNodeSet holders = qfs_placement_holders(hash, request->in_sync, request->replicas);
  one->holders = holders;
  one->digest = digest;
  one->count = 1;
  if (!qfs_set_has(holders, number) || (request->holders != 0 && request->holders != holders)) {
    qfs_digest_free(one);
  } else if (request->holders == 0) {
    qfs_digests_add(reply->digests, holders, digest);
    qfs_digest_free(one);
  } else {
    g_ptr_array_add(reply->digests, one);
  }
}

static void begin_reply(QfsMessage *reply) {
  reply->bad_rows = g_ptr_array_new_with_free_func((GDestroyNotify)qfs_bad_row_free);
  reply->digests = qfs_digests_new();
}

gboolean qfs_digest_records(QfsReplica *replica, guint number, const QfsMessage *request, QfsMessage *reply,
                            GError **error) {
  g_autoptr(GPtrArray) records = qfs_records_new();
  begin_reply(reply);
  if (!replica->ops->record_walk(replica, request->key, request->until, request->with_data, request->limit,
                                 records, reply->bad_rows, &reply->until, &reply->more, error))
    return FALSE;
  reply->limit = records->len + reply->bad_rows->len;
  for (guint i = 0; i < records->len; i++) {
    const QfsRecord *record = g_ptr_array_index(records, i);
    if (record->seq > request->after_seq)
      continue;
    QfsDigest *one = g_new0(QfsDigest, 1);
    one->key = g_strdup(record->key);
    add_row(reply, request, number, qfs_key_hash(record->key), qfs_record_version_digest(record), one);
  }
  return TRUE;
}

gboolean qfs_chunk_same_group(const QfsChunk *a, const QfsChunk *b) {
  return qfs_object_equal(a->object, b->object) && a->index == b->index;
}

guint qfs_chunks_whole_groups(GPtrArray *rows, gboolean more) {
  guint n = rows->len;
  if (!more || n == 0)
    return n;
  const QfsChunk *last = rows->pdata[n - 1];
  while (n > 0 && qfs_chunk_same_group(rows->pdata[n - 1], last))
    n--;
  return n;
}

/* A row never changes, and its checksum tells whether it is what its name says: so names are enough. */
static guint64 name_digest(const QfsChunk *chunk) {
  const guint64 words[] = {chunk->object.placement, chunk->object.unique, chunk->index, chunk->version};
  return qfs_digest(words, sizeof words);
}

gboolean qfs_digest_chunks(QfsReplica *replica, guint number, const QfsMessage *request, QfsMessage *reply,
                           GError **error) {
  const QfsChunk *from = g_ptr_array_index(request->chunks, 0);
  const QfsChunk *until = request->chunks->len > 1 ? g_ptr_array_index(request->chunks, 1) : NULL;
  const QfsChunk *after = qfs_object_is_none(from->object) ? NULL : from;
  g_autoptr(GPtrArray) rows = qfs_chunks_new();
  guint n = 0;
  begin_reply(reply);
  for (guint limit = request->limit; n == 0; limit *= 2) { /* one index may have more rows than that */
    g_ptr_array_set_size(rows, 0);
    g_ptr_array_set_size(reply->bad_rows, 0);
    if (!replica->ops->chunk_walk(replica, after, until, FALSE, limit, rows, reply->bad_rows, &reply->more, error))
      return FALSE;
    n = qfs_chunks_whole_groups(rows, reply->more);
    if (!reply->more)
      break;
  }
  reply->limit = n + reply->bad_rows->len;
  for (guint i = 0; i < n; i++) {
    const QfsChunk *chunk = g_ptr_array_index(rows, i);
    if (request->holders == 0 && chunk->seq > request->after_seq)
      continue;
    QfsDigest *one = g_new0(QfsDigest, 1);
    one->chunk = *chunk;
    add_row(reply, request, number, chunk->object.placement, name_digest(chunk), one);
  }
  reply->chunks = qfs_chunks_new();
  if (reply->more) {
    QfsChunk *end = qfs_chunk_copy(g_ptr_array_index(rows, n - 1));
    end->version = G_MAXUINT64;
    g_ptr_array_add(reply->chunks, end);
  }
  return TRUE;
}
