/* scrub_range.c - one range of rows, of records or of the names of chunk rows: do all that have to hold them?
 *
 * One node tells where the range ends; then every in-sync node sums up what it has up to there and what is settled, by
 * the set of nodes that has to hold it. Holders whose sums differ list their rows of the range. Each key that differs is
 * looked at again under its lock (mend.c). Of chunk rows more is there than anybody needs, at some nodes longer than at
 * others. So all nodes are asked for the records of the objects in question: of the rows of an index that are in such a
 * record's spans the newest counts, and one that some holder lacks is given to it (mend_chunk.c).
 *
 * Traffic makes sums differ, but nothing is changed for that.
 */
#include "cluster/private.h"
#include "cluster/scrub.h"

/* Others may hold more rows of a range than the one that chose its end. */
#define OTHERS_LIMIT 8000

typedef enum { STAGE_FIRST, STAGE_OTHERS, STAGE_ALL, STAGE_LIST, STAGE_RECORDS } Stage;

struct QfsScrubRange {
  guint64 id;
  QfsScrubPass pass;         /* RECORDS or CHUNKS */
  gboolean verify;           /* data of records is read, too */
  Stage stage;
  QfsScrubPlace at, until;   /* after, up to; until: none: to the last */
  QfsNodeSet nodes;
  guint first;               /* node that chooses the end */
  guint waiting;
  QfsNodeSet short_of;       /* nodes that did not get to the end */
  GPtrArray *sums[QFS_NODES_MAX + 1]; /* QfsDigest by node */
  GArray *differing;         /* QfsNodeSet: holders whose sums differ */
  QfsNodeSet listing;
  GArray *rows;              /* Row, chunk rows that the ones listing have, in order */
  GPtrArray *records;        /* that name the objects of rows that some lack */
};

/* A chunk row by name. */
typedef struct {
  QfsChunk name;
  QfsNodeSet at;
} Row;

static void step(QfsCoordinator *c, QfsScrubRange *s);

QfsScrubRange *qfs_scrub_range_new(QfsScrubPass pass, gboolean verify) {
  static guint64 ids; /* only compared for equality */
  QfsScrubRange *s = g_new0(QfsScrubRange, 1);
  s->id = ++ids;
  s->pass = pass;
  s->verify = verify;
  s->differing = g_array_new(FALSE, FALSE, sizeof(QfsNodeSet));
  return s;
}

static void clear_sums(QfsScrubRange *s) {
  for (guint i = 0; i <= QFS_NODES_MAX; i++)
    g_clear_pointer(&s->sums[i], g_ptr_array_unref);
}

static void clear_places(QfsScrubRange *s) {
  g_clear_pointer(&s->at.key, g_free);
  g_clear_pointer(&s->until.key, g_free);
  s->at.chunk = s->until.chunk = (QfsChunk){.seq = 0};
}

void qfs_scrub_range_free(QfsScrubRange *s) {
  if (s == NULL)
    return;
  clear_sums(s);
  clear_places(s);
  g_array_unref(s->differing);
  g_clear_pointer(&s->rows, g_array_unref);
  g_clear_pointer(&s->records, g_ptr_array_unref);
  g_free(s);
}

/* ---- requests ---- */

static gpointer ticket(const QfsScrubRange *s) { return g_memdup2(&s->id, sizeof s->id); }

static QfsScrubRange *current(QfsCoordinator *c, gpointer data) {
  g_autofree guint64 *id = data;
  return c->scrub_range != NULL && c->scrub_range->id == *id ? c->scrub_range : NULL;
}

static gboolean usable(QfsCoordinator *c, QfsPeer *peer, QfsMessage *reply) {
  guint64 id = c->scrub_range->id;
  if (reply != NULL && qfs_peer_reply_ok(c, peer, reply))
    return c->scrub_range != NULL && c->scrub_range->id == id;
  qfs_scrub_interrupt(c);
  return FALSE;
}

static gboolean has_end(const QfsScrubRange *s) {
  return s->until.key != NULL || !qfs_object_is_none(s->until.chunk.object);
}

/* A node got only so far: the range ends there, if it did not end before. */
static void shorten(QfsScrubRange *s, const QfsMessage *reply) {
  if (s->pass == QFS_SCRUB_RECORDS) {
    if (!has_end(s) || qfs_key_order(reply->until, s->until.key) < 0) {
      g_free(s->until.key);
      s->until.key = g_strdup(reply->until);
    }
  } else {
    const QfsChunk *end = reply->chunks->pdata[0];
    if (!has_end(s) || qfs_chunk_order(end, &s->until.chunk) < 0)
      s->until.chunk = *end;
  }
}

static void summed(QfsCoordinator *c, QfsPeer *peer, QfsMessage *reply, gpointer data) {
  QfsScrubRange *s = current(c, data);
  if (s == NULL || !usable(c, peer, reply))
    return;
  guint64 id = s->id;
  g_clear_pointer(&s->sums[peer->index], g_ptr_array_unref);
  s->sums[peer->index] = g_ptr_array_ref(reply->digests);
  qfs_scrub_take_bad_rows(c, peer, reply);
  if (c->scrub_range == NULL || c->scrub_range->id != id)
    return; /* too many: the node failed */
  if (s->stage != STAGE_LIST)
    c->scrub_state.rows += reply->limit;
  if (reply->more) {
    s->short_of |= QFS_NODE_BIT(peer->index);
    shorten(s, reply);
  }
  if (--s->waiting == 0)
    step(c, s);
}

static void set_range(const QfsScrubRange *s, QfsMessage *message) {
  if (s->pass == QFS_SCRUB_RECORDS) {
    message->key = g_strdup(s->at.key);
    message->until = g_strdup(s->until.key);
    message->with_data = s->verify;
    return;
  }
  message->chunks = qfs_chunks_new();
  g_ptr_array_add(message->chunks, qfs_chunk_copy(&s->at.chunk));
  if (has_end(s))
    g_ptr_array_add(message->chunks, qfs_chunk_copy(&s->until.chunk));
}

static void ask(QfsCoordinator *c, QfsScrubRange *s, QfsNodeSet nodes, guint limit) {
  s->waiting = qfs_set_size(nodes);
  s->short_of = 0;
  for (; nodes != 0; nodes &= nodes - 1) {
    guint node = (guint)__builtin_ctzll(nodes) + 1;
    QfsMessage *message = qfs_message_new(
        s->pass == QFS_SCRUB_RECORDS ? QFS_MESSAGE_DIGEST : QFS_MESSAGE_DIGEST_CHUNKS, node);
    set_range(s, message);
    message->after_seq = c->settled;
    message->limit = limit;
    message->in_sync = c->view.in_sync;
    message->replicas = qfs_replicas(c);
    message->holders = s->stage == STAGE_LIST ? s->listing : 0;
    qfs_rpc_send(c, &c->peer[node], message, summed, ticket(s));
  }
}

/* ---- records that differ ---- */

/* Keys of the listed rows that are not the same at every holder. */
static void compare_records(QfsCoordinator *c, QfsScrubRange *s) {
  g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal); /* key -> QfsDigest */
  g_autoptr(GHashTable) times = g_hash_table_new(g_str_hash, g_str_equal); /* key -> holders that agree */
  const guint n = qfs_set_size(s->listing & s->nodes);
  g_autoptr(GPtrArray) keys = g_ptr_array_new(); /* in the order in which they were met */
  for (guint node = 1; node <= QFS_NODES_MAX; node++)
    for (guint i = 0; s->sums[node] != NULL && i < s->sums[node]->len; i++) {
      QfsDigest *row = s->sums[node]->pdata[i];
      const QfsDigest *first = g_hash_table_lookup(seen, row->key);
      if (first == NULL) {
        g_hash_table_insert(seen, row->key, row);
        g_ptr_array_add(keys, row->key);
      }
      if (first == NULL || first->digest == row->digest)
        g_hash_table_insert(times, row->key,
                            GUINT_TO_POINTER(GPOINTER_TO_UINT(g_hash_table_lookup(times, row->key)) + 1));
    }
  for (guint i = 0; i < keys->len; i++) {
    if (GPOINTER_TO_UINT(g_hash_table_lookup(times, keys->pdata[i])) == n)
      continue;
    qfs_mend_key(c, keys->pdata[i]);
  }
}

/* ---- chunk rows that some lack ---- */

static gint by_name(gconstpointer a, gconstpointer b) {
  return qfs_chunk_order(&((const Row *)a)->name, &((const Row *)b)->name);
}

/* The listed rows, each once, with who has it. */
static GArray *merge_rows(const QfsScrubRange *s) {
  g_autoptr(GArray) all = g_array_new(FALSE, FALSE, sizeof(Row));
  GArray *rows = g_array_new(FALSE, FALSE, sizeof(Row));
  for (guint node = 1; node <= QFS_NODES_MAX; node++)
    for (guint i = 0; s->sums[node] != NULL && i < s->sums[node]->len; i++) {
      const Row row = {((const QfsDigest *)s->sums[node]->pdata[i])->chunk, QFS_NODE_BIT(node)};
      g_array_append_val(all, row);
    }
  g_array_sort(all, by_name);
  for (guint i = 0; i < all->len; i++) {
    const Row *row = &g_array_index(all, Row, i);
    Row *last = rows->len > 0 ? &g_array_index(rows, Row, rows->len - 1) : NULL;
    if (last == NULL || by_name(last, row) != 0) {
      g_array_append_vals(rows, row, 1);
    } else {
      last->at |= row->at;
      last->name.seq = MAX(last->name.seq, row->name.seq);
    }
  }
  return rows;
}

/* What is not settled is on its way to the others. */
static gboolean is_lacking(const QfsCoordinator *c, const QfsScrubRange *s, const Row *row) {
  return (s->listing & s->nodes & ~row->at) != 0 && row->name.seq <= c->settled;
}

static void mend_group(QfsCoordinator *c, const QfsScrubRange *s, guint from, guint to) {
  const QfsObjectId object = g_array_index(s->rows, Row, from).name.object;
  for (guint k = 0; k < s->records->len; k++) {
    const QfsRecord *record = s->records->pdata[k];
    if (!qfs_object_equal(record->object, object))
      continue;
    guint i = to;
    while (i > from && !qfs_record_owns(record, g_array_index(s->rows, Row, i - 1).name.version))
      i--;
    if (i > from && is_lacking(c, s, &g_array_index(s->rows, Row, i - 1)))
      qfs_mend_missing(c, &g_array_index(s->rows, Row, i - 1).name);
  }
}

static void mend_missing(QfsCoordinator *c, QfsScrubRange *s) {
  for (guint from = 0, to; from < s->rows->len; from = to) {
    for (to = from + 1; to < s->rows->len && qfs_chunk_same_group(&g_array_index(s->rows, Row, from).name,
                                                                   &g_array_index(s->rows, Row, to).name);)
      to++;
    mend_group(c, s, from, to);
  }
  g_clear_pointer(&s->rows, g_array_unref);
  g_clear_pointer(&s->records, g_ptr_array_unref);
}

static void records_found(QfsCoordinator *c, QfsPeer *peer, QfsMessage *reply, gpointer data) {
  QfsScrubRange *s = current(c, data);
  if (s == NULL || !usable(c, peer, reply))
    return;
  for (guint i = 0; reply->records != NULL && i < reply->records->len; i++) {
    QfsRecord *record = reply->records->pdata[i];
    if (qfs_set_has(qfs_holders(c, qfs_key_hash(record->key)), peer->index)) /* others' may be leftovers */
      g_ptr_array_add(s->records, qfs_record_ref(record));
  }
  if (--s->waiting == 0)
    step(c, s);
}

/* FALSE: no row is missing anywhere. */
static gboolean ask_for_records(QfsCoordinator *c, QfsScrubRange *s) {
  g_autoptr(GPtrArray) objects = qfs_chunks_new();
  s->rows = merge_rows(s);
  for (guint i = 0; i < s->rows->len; i++) {
    const Row *row = &g_array_index(s->rows, Row, i);
    const QfsChunk *last = objects->len > 0 ? objects->pdata[objects->len - 1] : NULL;
    if (is_lacking(c, s, row) && (last == NULL || !qfs_object_equal(last->object, row->name.object)))
      g_ptr_array_add(objects, qfs_chunk_copy(&row->name));
  }
  if (objects->len == 0) {
    g_clear_pointer(&s->rows, g_array_unref);
    return FALSE;
  }
  s->stage = STAGE_RECORDS;
  s->records = qfs_records_new();
  s->waiting = qfs_set_size(s->nodes);
  for (QfsNodeSet rest = s->nodes; rest != 0; rest &= rest - 1) {
    QfsPeer *peer = &c->peer[__builtin_ctzll(rest) + 1];
    QfsMessage *message = qfs_message_new(QFS_MESSAGE_OBJECT_RECORDS, peer->index);
    message->chunks = g_ptr_array_ref(objects);
    qfs_rpc_send(c, peer, message, records_found, ticket(s));
  }
  return TRUE;
}

/* ---- the course ---- */

void qfs_scrub_range_begin(QfsCoordinator *c, QfsScrubRange *s, const QfsScrubPlace *at, guint rows) {
  clear_sums(s);
  clear_places(s);
  s->at.key = g_strdup(at->key);
  s->at.chunk = at->chunk;
  s->nodes = c->view.in_sync;
  s->first = s->first % QFS_NODES_MAX + 1;
  while (!qfs_set_has(s->nodes, s->first))
    s->first = s->first % QFS_NODES_MAX + 1;
  s->stage = STAGE_FIRST;
  ask(c, s, QFS_NODE_BIT(s->first), rows);
}

static void list_next(QfsCoordinator *c, QfsScrubRange *s) {
  clear_sums(s);
  if (s->differing->len == 0) {
    qfs_scrub_range_done(c, has_end(s) ? &s->until : NULL);
    return;
  }
  s->stage = STAGE_LIST;
  s->listing = g_array_index(s->differing, QfsNodeSet, s->differing->len - 1);
  g_array_set_size(s->differing, s->differing->len - 1);
  ask(c, s, s->listing & s->nodes, OTHERS_LIMIT);
}

static void step(QfsCoordinator *c, QfsScrubRange *s) {
  if (!qfs_scrub_goes_on(c))
    return;
  switch (s->stage) {
  case STAGE_FIRST:
    s->stage = STAGE_OTHERS;
    if ((s->nodes & ~QFS_NODE_BIT(s->first)) != 0) {
      ask(c, s, s->nodes & ~QFS_NODE_BIT(s->first), OTHERS_LIMIT);
      break;
    }
    /* fall through */
  case STAGE_OTHERS:
  case STAGE_ALL:
    if (s->short_of != 0 && qfs_set_size(s->nodes) > 1) { /* the range became shorter: all anew */
      s->stage = STAGE_ALL;
      ask(c, s, s->nodes, OTHERS_LIMIT);
      break;
    }
    g_array_set_size(s->differing, 0);
    qfs_digests_compare(s->sums, s->nodes, s->differing);
    list_next(c, s);
    break;
  case STAGE_LIST:
    if (s->pass == QFS_SCRUB_RECORDS)
      compare_records(c, s);
    else if (ask_for_records(c, s))
      break;
    list_next(c, s);
    break;
  case STAGE_RECORDS:
    mend_missing(c, s);
    list_next(c, s);
    break;
  }
}
