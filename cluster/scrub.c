/* scrub.c - anti-entropy: do all holders of every key hold the same?
 *
 * A run goes through the keys in steps, in the order in which nodes keep them. One node tells where its next page ends;
 * then every in-sync node sums up what it holds up to there and what is settled, by the set of nodes that has to
 * hold it. Holders whose sums differ list the keys of the range, and each key that differs is looked at again under its
 * lock (mend.c): traffic makes sums differ, but nothing is changed for that. Rows that do not match their checksum are
 * told beside the sums. Then a scrub has each node read all its chunk rows, in the order of their names.
 *
 *   repair   compares the versions of all keys; reads what is before the data of each row
 *   scrub    the same, and reads and verifies every byte
 *
 * A run takes place while the in-sync nodes are all there and hold everything (waits_for). It begins by command; by schedule
 * (a scrub); and after a node has come back (a repair). Those that nobody waits for leave pauses, longer ones
 * while there is traffic. When the view changes the run goes on from where it was.
 */
#include "cluster/scrub.h"

#include "cluster/private.h"

#define PAGE_ROWS 256
#define PAGE_ROWS_FAST 1000
#define CHUNKS_LIMIT 16
/* Others may hold more rows of a range than the one that chose its end. */
#define OTHERS_FACTOR 8
/* Between steps that nobody waits for. */
#define PAUSE_US (20 * 1000)
#define PAUSE_BUSY_US (200 * 1000)
#define LOOK_US (20 * 1000)
/* No further than this ahead of what is being mended. */
#define MENDS_MAX 64

typedef enum { STAGE_FIRST, STAGE_OTHERS, STAGE_ALL, STAGE_LIST, STAGE_CHUNKS, STAGE_PAUSE, STAGE_MENDING } Stage;

struct QfsScrub {
  guint64 id;
  guint64 epoch;
  gboolean verify, fast;
  Stage stage;
  char *at_key, *until;      /* the range: after, up to; NULL: from the first, to the last */
  QfsNodeSet nodes;
  guint first;               /* node that chooses the ends */
  guint waiting;
  QfsNodeSet short_of;       /* nodes that did not get to the end of the range */
  GPtrArray *sums[QFS_NODES_MAX + 1]; /* QfsDigest by node */
  GArray *differing;         /* QfsNodeSet: holders whose sums differ */
  QfsNodeSet listing;
  guint chunks_at;           /* node whose chunks are being verified; 0: records come first */
  QfsChunk *at_chunk;        /* after this one; no data */
  gint64 next_us;
};

static void step(QfsCoordinator *c);
static void compare(QfsCoordinator *c, QfsScrub *s);

static void clear_sums(QfsScrub *s) {
  for (guint i = 0; i <= QFS_NODES_MAX; i++)
    g_clear_pointer(&s->sums[i], g_ptr_array_unref);
}

static void scrub_free(QfsScrub *s) {
  clear_sums(s);
  g_array_unref(s->differing);
  g_free(s->at_key);
  g_free(s->until);
  qfs_chunk_free(s->at_chunk);
  g_free(s);
}

void qfs_scrub_stop(QfsCoordinator *c) {
  QfsScrub *s = g_steal_pointer(&c->scrub);
  if (s == NULL)
    return;
  /* It goes on from here. */
  g_free(c->scrub_state.at_key);
  c->scrub_state.at_key = g_steal_pointer(&s->at_key);
  c->scrub_state.resumes = TRUE;
  c->scrub_state.chunks_at = s->chunks_at;
  scrub_free(s);
}

/* ---- when ---- */

static const char *waits_for(const QfsCoordinator *c) {
  if (!c->serving || c->recovery != NULL)
    return "the end of the start";
  if (!c->view_stable || c->view_dirty || !c->quorum || c->blocked ||
      (c->view.in_sync & ~qfs_peers_in(c, PEER_TRUSTED)) != 0)
    return "a quorum";
  if (c->view.base != c->view.in_sync || c->mover != NULL || qfs_resize_is_wanted(c))
    return "data on the move";
  return c->purge != NULL ? "collecting tombstones" : NULL;
}

const char *qfs_scrub_reason(const QfsCoordinator *c) {
  return c->scrub != NULL || c->scrub_state.forced ? waits_for(c) : NULL;
}

static gboolean may_run(const QfsCoordinator *c) { return !c->closing && waits_for(c) == NULL; }

guint qfs_scrub_progress(const QfsCoordinator *c) {
  guint64 total = 0;
  for (guint i = 1; i <= c->n_peers; i++)
    total += c->peer[i].stats.records + c->peer[i].stats.tombstones +
             (c->scrub_state.verifying ? c->peer[i].stats.chunks : 0);
  return (guint)MIN(c->scrub_state.rows * 100 / MAX(total, 1), 99);
}

/* ---- requests ---- */

static QfsScrub *current(QfsCoordinator *c, gpointer data) {
  g_autofree guint64 *id = data;
  return c->scrub != NULL && c->scrub->id == *id ? c->scrub : NULL;
}

static gboolean usable(QfsCoordinator *c, QfsPeer *peer, QfsMessage *reply) {
  guint64 id = c->scrub->id;
  if (reply != NULL && qfs_peer_reply_ok(c, peer, reply))
    return c->scrub != NULL && c->scrub->id == id;
  qfs_scrub_stop(c);
  qfs_wake_at(c, c->env->now_us(c->env) + LOOK_US);
  return FALSE;
}

static void take_bad_rows(QfsCoordinator *c, QfsPeer *peer, const QfsMessage *reply) {
  for (guint i = 0; reply->bad_rows != NULL && i < reply->bad_rows->len; i++) {
    const QfsBadRow *bad = g_ptr_array_index(reply->bad_rows, i);
    g_autofree char *reason =
        bad->is_chunk ? g_strdup("a chunk does not match its checksum")
                      : g_strdup_printf("the record of key \"%s\" does not match its checksum", bad->key);
    qfs_mend_bad_row(c, peer, bad, FALSE, reason);
  }
}

static void summed(QfsCoordinator *c, QfsPeer *peer, QfsMessage *reply, gpointer data) {
  QfsScrub *s = current(c, data);
  if (s == NULL || !usable(c, peer, reply))
    return;
  g_clear_pointer(&s->sums[peer->index], g_ptr_array_unref);
  s->sums[peer->index] = g_ptr_array_ref(reply->digests);
  guint64 id = s->id;
  take_bad_rows(c, peer, reply);
  if (c->scrub == NULL || c->scrub->id != id)
    return; /* too many: the node failed */
  if (s->stage != STAGE_LIST)
    c->scrub_state.rows += reply->limit;
  if (reply->more) {
    s->short_of |= QFS_NODE_BIT(peer->index);
    if (s->until == NULL || qfs_key_order(reply->until, s->until) < 0) {
      g_free(s->until);
      s->until = g_strdup(reply->until);
    }
  }
  if (--s->waiting == 0)
    step(c);
}

static void ask(QfsCoordinator *c, QfsScrub *s, QfsNodeSet nodes, guint limit) {
  s->waiting = qfs_set_size(nodes);
  s->short_of = 0;
  for (; nodes != 0; nodes &= nodes - 1) {
    guint node = (guint)__builtin_ctzll(nodes) + 1;
    QfsMessage *message = qfs_message_new(QFS_MESSAGE_DIGEST, node);
    message->key = g_strdup(s->at_key);
    message->until = g_strdup(s->until);
    message->after_seq = c->settled;
    message->limit = limit;
    message->with_data = s->verify;
    message->in_sync = c->view.in_sync;
    message->replicas = qfs_replicas(c);
    message->holders = s->stage == STAGE_LIST ? s->listing : 0;
    qfs_rpc_send(c, &c->peer[node], message, summed, g_memdup2(&s->id, sizeof s->id));
  }
}

/* ---- comparing ---- */

static gboolean same_sum(const QfsDigest *a, const QfsDigest *b) {
  if (a == NULL || b == NULL)
    return a == b;
  return a->digest == b->digest && a->count == b->count;
}

static gboolean holders_agree(const QfsScrub *s, QfsNodeSet holders) {
  guint first = 0;
  for (QfsNodeSet rest = holders & s->nodes; rest != 0; rest &= rest - 1) {
    guint node = (guint)__builtin_ctzll(rest) + 1;
    if (first == 0)
      first = node;
    else if (!same_sum(qfs_digests_find(s->sums[first], holders), qfs_digests_find(s->sums[node], holders)))
      return FALSE;
  }
  return TRUE;
}

static gboolean is_noted(const QfsScrub *s, QfsNodeSet holders) {
  for (guint i = 0; i < s->differing->len; i++)
    if (g_array_index(s->differing, QfsNodeSet, i) == holders)
      return TRUE;
  return FALSE;
}

static void compare(QfsCoordinator *c, QfsScrub *s) {
  g_array_set_size(s->differing, 0);
  for (guint node = 1; node <= QFS_NODES_MAX; node++)
    for (guint i = 0; s->sums[node] != NULL && i < s->sums[node]->len; i++) {
      QfsNodeSet holders = ((const QfsDigest *)s->sums[node]->pdata[i])->holders;
      if (!is_noted(s, holders) && !holders_agree(s, holders))
        g_array_append_val(s->differing, holders);
    }
  clear_sums(s);
}

/* Keys of the listed rows that are not the same at every holder. */
static void compare_rows(QfsCoordinator *c, QfsScrub *s) {
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
  clear_sums(s);
}

/* ---- the course ---- */

static int chunk_order(const QfsChunk *a, const QfsChunk *b) {
  const guint64 pairs[][2] = {{a->object.placement, b->object.placement},
                              {a->object.unique, b->object.unique},
                              {a->index, b->index},
                              {a->version, b->version}};
  for (guint i = 0; i < G_N_ELEMENTS(pairs); i++)
    if (pairs[i][0] != pairs[i][1])
      return pairs[i][0] < pairs[i][1] ? -1 : 1;
  return 0;
}

static void take_pause(QfsCoordinator *c, QfsScrub *s) {
  s->stage = STAGE_PAUSE;
  s->next_us = c->env->now_us(c->env);
  if (!s->fast)
    s->next_us += c->flights.length > 0 ? PAUSE_BUSY_US : PAUSE_US;
  else if (c->mends.length > MENDS_MAX)
    s->next_us += LOOK_US;
  qfs_wake_at(c, s->next_us);
}

static void next_chunks_node(QfsCoordinator *c, QfsScrub *s) {
  g_clear_pointer(&s->at_chunk, qfs_chunk_free);
  for (s->chunks_at++; s->chunks_at <= QFS_NODES_MAX && !qfs_set_has(c->view.in_sync, s->chunks_at);)
    s->chunks_at++;
}

static void verified(QfsCoordinator *c, QfsPeer *peer, QfsMessage *reply, gpointer data) {
  QfsScrub *s = current(c, data);
  if (s == NULL || !usable(c, peer, reply))
    return;
  guint64 id = s->id;
  take_bad_rows(c, peer, reply);
  if (c->scrub == NULL || c->scrub->id != id)
    return;
  c->scrub_state.rows += reply->limit;
  const QfsChunk *last =
      reply->chunks != NULL && reply->chunks->len > 0 ? reply->chunks->pdata[0] : NULL;
  if (reply->more && last != NULL && s->at_chunk != NULL && chunk_order(last, s->at_chunk) <= 0) {
    qfs_peer_fail(c, peer, "damaged rows can't be reached by their names", TRUE);
    return;
  }
  if (reply->more && last != NULL) {
    qfs_chunk_free(s->at_chunk);
    s->at_chunk = g_memdup2(last, sizeof *last);
  } else {
    next_chunks_node(c, s);
  }
  take_pause(c, s);
}

static void verify_chunks(QfsCoordinator *c, QfsScrub *s) {
  QfsMessage *message = qfs_message_new(QFS_MESSAGE_VERIFY, s->chunks_at);
  message->limit = CHUNKS_LIMIT;
  if (s->at_chunk != NULL) {
    message->chunks = qfs_chunks_new();
    g_ptr_array_add(message->chunks, g_memdup2(s->at_chunk, sizeof *s->at_chunk));
  }
  s->stage = STAGE_CHUNKS;
  qfs_rpc_send(c, &c->peer[s->chunks_at], message, verified, g_memdup2(&s->id, sizeof s->id));
}

static void scrub_end(QfsCoordinator *c, QfsScrub *s) {
  QfsScrubState *state = &c->scrub_state;
  state->last_ms = c->env->wall_ms(c->env);
  state->last_verified = s->verify;
  state->last_bad = c->stat.bad_records + c->stat.bad_chunks - state->bad_before;
  state->last_mended = c->stat.mended_records + c->stat.mended_chunks - state->mended_before;
  state->last_lost = c->stat.lost_rows - state->lost_before;
  state->runs++;
  if (state->last_bad + state->last_mended > 0)
    qfs_log(c, G_LOG_LEVEL_MESSAGE,
            "%s: %" G_GUINT64_FORMAT " bad rows found, %" G_GUINT64_FORMAT " rows mended",
            s->verify ? "scrub" : "repair", state->last_bad, state->last_mended);
  if (s->fast)
    state->forced = FALSE;
  if (s->verify || !s->fast)
    state->compare = FALSE;
  qfs_scrub_stop(c);
  state->resumes = FALSE;
}

static void next_page(QfsCoordinator *c, QfsScrub *s) {
  gboolean last = s->until == NULL;
  g_free(s->at_key);
  s->at_key = g_steal_pointer(&s->until);
  if (last)
    next_chunks_node(c, s);
  take_pause(c, s);
}

static void begin_page(QfsCoordinator *c, QfsScrub *s) {
  s->nodes = c->view.in_sync;
  s->first = s->first % QFS_NODES_MAX + 1;
  while (!qfs_set_has(s->nodes, s->first))
    s->first = s->first % QFS_NODES_MAX + 1;
  s->stage = STAGE_FIRST;
  ask(c, s, QFS_NODE_BIT(s->first), s->fast ? PAGE_ROWS_FAST : PAGE_ROWS);
}

static void list_next(QfsCoordinator *c, QfsScrub *s) {
  if (s->differing->len == 0) {
    next_page(c, s);
    return;
  }
  s->stage = STAGE_LIST;
  s->listing = g_array_index(s->differing, QfsNodeSet, s->differing->len - 1);
  g_array_set_size(s->differing, s->differing->len - 1);
  ask(c, s, s->listing & s->nodes, PAGE_ROWS_FAST * OTHERS_FACTOR);
}

static void step(QfsCoordinator *c) {
  QfsScrub *s = c->scrub;
  const guint limit = PAGE_ROWS_FAST * OTHERS_FACTOR;
  if (s->epoch != c->view.epoch || !may_run(c)) {
    qfs_scrub_stop(c);
    qfs_wake_at(c, c->env->now_us(c->env) + LOOK_US);
    return;
  }
  switch (s->stage) {
  case STAGE_FIRST:
    s->stage = STAGE_OTHERS;
    if ((s->nodes & ~QFS_NODE_BIT(s->first)) != 0) {
      ask(c, s, s->nodes & ~QFS_NODE_BIT(s->first), limit);
      break;
    }
    /* fall through */
  case STAGE_OTHERS:
  case STAGE_ALL:
    if (s->short_of != 0 && qfs_set_size(s->nodes) > 1) { /* the range became shorter: all anew */
      s->stage = STAGE_ALL;
      ask(c, s, s->nodes, limit);
      break;
    }
    compare(c, s);
    list_next(c, s);
    break;
  case STAGE_LIST:
    compare_rows(c, s);
    list_next(c, s);
    break;
  case STAGE_PAUSE:
    if (c->mends.length > MENDS_MAX) {
      s->next_us = c->env->now_us(c->env) + LOOK_US;
      qfs_wake_at(c, s->next_us);
    } else if (s->chunks_at == 0) {
      begin_page(c, s);
    } else if (s->verify && s->chunks_at <= QFS_NODES_MAX) {
      verify_chunks(c, s);
    } else {
      s->stage = STAGE_MENDING;
      s->next_us = c->env->now_us(c->env);
      qfs_wake_at(c, s->next_us);
    }
    break;
  case STAGE_CHUNKS:
    break;
  case STAGE_MENDING:
    if (!g_queue_is_empty(&c->mends)) {
      s->next_us = c->env->now_us(c->env) + LOOK_US;
      qfs_wake_at(c, s->next_us);
    } else {
      scrub_end(c, s);
    }
    break;
  }
}

static void scrub_start(QfsCoordinator *c, gboolean verify, gboolean fast) {
  static guint64 ids; /* only compared for equality */
  QfsScrubState *state = &c->scrub_state;
  QfsScrub *s = g_new0(QfsScrub, 1);
  s->id = ++ids;
  s->epoch = c->view.epoch;
  s->verify = verify;
  s->fast = fast;
  s->stage = STAGE_PAUSE;
  s->differing = g_array_new(FALSE, FALSE, sizeof(QfsNodeSet));
  if (state->resumes && state->verifying == verify) {
    s->at_key = g_steal_pointer(&state->at_key);
    s->chunks_at = state->chunks_at;
    if (s->chunks_at != 0 && !qfs_set_has(c->view.in_sync, s->chunks_at))
      next_chunks_node(c, s);
  } else {
    g_clear_pointer(&state->at_key, g_free);
    state->rows = 0;
    state->bad_before = c->stat.bad_records + c->stat.bad_chunks;
    state->mended_before = c->stat.mended_records + c->stat.mended_chunks;
    state->lost_before = c->stat.lost_rows;
  }
  state->verifying = verify;
  state->resumes = FALSE;
  c->scrub = s;
  step(c);
}

void qfs_scrub_consider(QfsCoordinator *c) {
  QfsScrubState *state = &c->scrub_state;
  gint64 now_us = c->env->now_us(c->env);
  if (c->closing) {
    qfs_scrub_stop(c);
    return;
  }
  if (c->scrub != NULL && (c->scrub->epoch != c->view.epoch || !may_run(c)))
    qfs_scrub_stop(c);
  if (c->scrub != NULL) {
    QfsScrub *s = c->scrub;
    if (s->stage != STAGE_PAUSE && s->stage != STAGE_MENDING) /* an answer is on its way */
      return;
    if (now_us >= s->next_us)
      step(c);
    else
      qfs_wake_at(c, s->next_us);
    return;
  }
  if (c->config.scrub_period_s != 0 && state->at_us == 0)
    state->at_us = now_us + (gint64)c->config.scrub_period_s * G_USEC_PER_SEC;
  if (state->at_us != 0 && now_us >= state->at_us) {
    state->due = TRUE;
    state->at_us = now_us + (gint64)c->config.scrub_period_s * G_USEC_PER_SEC;
  }
  if (state->at_us != 0)
    qfs_wake_at(c, state->at_us);
  if ((!state->forced && !state->due && !state->compare && !state->resumes) || !may_run(c))
    return;
  gboolean verify = state->forced ? state->forced_verify : state->due || (state->resumes && state->verifying);
  if (!state->forced)
    state->due = state->due && !verify;
  scrub_start(c, verify, state->forced);
}

/* A node came back: what no number explains is looked for. */
void qfs_scrub_compare_soon(QfsCoordinator *c) { c->scrub_state.compare = TRUE; }

void qfs_scrub_clear(QfsCoordinator *c) {
  if (c->scrub != NULL)
    scrub_free(g_steal_pointer(&c->scrub));
  g_clear_pointer(&c->scrub_state.at_key, g_free);
}

void qfs_op_scrub(QfsCoordinator *c, QfsRequest *request) {
  QfsScrubState *state = &c->scrub_state;
  gboolean verify = (request->flags & QFS_SCRUB_VERIFY) != 0;
  state->forced_verify = verify || (state->forced && state->forced_verify);
  state->forced = TRUE;
  qfs_scrub_stop(c); /* one that nobody waited for began earlier */
  state->resumes = FALSE;
  qfs_wake_at(c, c->env->now_us(c->env));
  request->status = QFS_OK;
  c->env->complete(c->env, request);
}
