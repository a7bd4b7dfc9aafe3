/* scrub.c - anti-entropy: do all holders of every key hold the same?
 *
 * A run goes through the rows in steps, in the order in which nodes keep them: first records are compared, range by
 * range, then the names of chunk rows (scrub_range.c). Rows that do not match their checksum are told beside the sums.
 * Then a scrub has each node read all its chunk rows.
 *
 *   repair   compares the versions of all keys and the names of all chunk rows; reads what is before the data of each row
 *   scrub    the same, and reads and verifies every byte
 *
 * A run takes place while the in-sync nodes are all there and hold everything (waits_for). It begins by command; by schedule
 * (a scrub); and after a node has come back (a repair). Those that nobody waits for leave pauses, longer ones
 * while there is traffic. When the view changes the run goes on from where it was.
 */
#include "cluster/private.h"

#define PAGE_ROWS 256
#define PAGE_ROWS_FAST 1000
#define CHUNKS_LIMIT 16
/* Between steps that nobody waits for. */
#define PAUSE_US (20 * 1000)
#define PAUSE_BUSY_US (200 * 1000)
#define LOOK_US (20 * 1000)
/* No further than this ahead of what is being mended. */
#define MENDS_MAX 64

typedef enum { STAGE_WAITING, STAGE_PAUSE, STAGE_MENDING } Stage;

struct QfsScrub {
  guint64 id;
  guint64 epoch;
  gboolean verify, fast;
  Stage stage;               /* WAITING: for answers */
  QfsScrubPlace at;
  gint64 next_us;
};

static void step(QfsCoordinator *c);

static void scrub_free(QfsScrub *s) {
  g_free(s->at.key);
  g_free(s);
}

void qfs_scrub_stop(QfsCoordinator *c) {
  QfsScrub *s = g_steal_pointer(&c->scrub);
  g_clear_pointer(&c->scrub_range, qfs_scrub_range_free);
  if (s == NULL)
    return;
  /* It goes on from here. */
  g_free(c->scrub_state.at.key);
  c->scrub_state.at = s->at;
  s->at.key = NULL;
  c->scrub_state.resumes = TRUE;
  scrub_free(s);
}

void qfs_scrub_interrupt(QfsCoordinator *c) {
  qfs_scrub_stop(c);
  qfs_wake_at(c, c->env->now_us(c->env) + LOOK_US);
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
             c->peer[i].stats.chunks * (c->scrub_state.verifying ? 2 : 1);
  return (guint)MIN(c->scrub_state.rows * 100 / MAX(total, 1), 99);
}

/* ---- requests ---- */

void qfs_scrub_take_bad_rows(QfsCoordinator *c, QfsPeer *peer, const QfsMessage *reply) {
  for (guint i = 0; reply->bad_rows != NULL && i < reply->bad_rows->len; i++) {
    const QfsBadRow *bad = g_ptr_array_index(reply->bad_rows, i);
    g_autofree char *reason =
        bad->is_chunk ? g_strdup("a chunk does not match its checksum")
                      : g_strdup_printf("the record of key \"%s\" does not match its checksum", bad->key);
    qfs_mend_bad_row(c, peer, bad, FALSE, reason);
  }
}

/* ---- the course ---- */

static void take_pause(QfsCoordinator *c, QfsScrub *s) {
  s->stage = STAGE_PAUSE;
  s->next_us = c->env->now_us(c->env);
  if (!s->fast)
    s->next_us += c->flights.length > 0 ? PAUSE_BUSY_US : PAUSE_US;
  else if (c->mends.length > MENDS_MAX)
    s->next_us += LOOK_US;
  qfs_wake_at(c, s->next_us);
}

static void next_node(QfsCoordinator *c, QfsScrubPlace *at) {
  at->chunk = (QfsChunk){.seq = 0};
  for (at->node++; at->node <= QFS_NODES_MAX && !qfs_set_has(c->view.in_sync, at->node);)
    at->node++;
  if (at->node > QFS_NODES_MAX)
    at->pass = QFS_SCRUB_OVER;
}

static void next_pass(QfsCoordinator *c, QfsScrub *s) {
  g_clear_pointer(&c->scrub_range, qfs_scrub_range_free);
  g_free(s->at.key);
  s->at = (QfsScrubPlace){.pass = s->at.pass + 1};
  if (s->at.pass == QFS_SCRUB_DATA && !s->verify)
    s->at.pass = QFS_SCRUB_OVER;
  else if (s->at.pass == QFS_SCRUB_DATA)
    next_node(c, &s->at);
}

gboolean qfs_scrub_goes_on(QfsCoordinator *c) {
  if (c->scrub->epoch == c->view.epoch && may_run(c))
    return TRUE;
  qfs_scrub_interrupt(c);
  return FALSE;
}

void qfs_scrub_range_done(QfsCoordinator *c, const QfsScrubPlace *end) {
  QfsScrub *s = c->scrub;
  if (end == NULL) {
    next_pass(c, s);
  } else {
    g_free(s->at.key);
    s->at.key = g_strdup(end->key);
    s->at.chunk = end->chunk;
  }
  take_pause(c, s);
}

static void verified(QfsCoordinator *c, QfsPeer *peer, QfsMessage *reply, gpointer data) {
  g_autofree guint64 *id = data;
  QfsScrub *s = c->scrub;
  if (s == NULL || s->id != *id)
    return;
  const gboolean ok = reply != NULL && qfs_peer_reply_ok(c, peer, reply);
  if (ok)
    qfs_scrub_take_bad_rows(c, peer, reply);
  else
    qfs_scrub_interrupt(c);
  if (!ok || c->scrub == NULL || c->scrub->id != *id)
    return; /* too many: the node failed */
  c->scrub_state.rows += reply->limit;
  const QfsChunk *last =
      reply->chunks != NULL && reply->chunks->len > 0 ? reply->chunks->pdata[0] : NULL;
  if (reply->more && last != NULL && qfs_chunk_order(last, &s->at.chunk) <= 0) {
    qfs_peer_fail(c, peer, "damaged rows can't be reached by their names", TRUE);
    return;
  }
  if (reply->more && last != NULL)
    s->at.chunk = *last;
  else
    next_node(c, &s->at);
  take_pause(c, s);
}

static void verify_chunks(QfsCoordinator *c, QfsScrub *s) {
  QfsMessage *message = qfs_message_new(QFS_MESSAGE_VERIFY, s->at.node);
  message->limit = CHUNKS_LIMIT;
  if (!qfs_object_is_none(s->at.chunk.object)) {
    message->chunks = qfs_chunks_new();
    g_ptr_array_add(message->chunks, qfs_chunk_copy(&s->at.chunk));
  }
  qfs_rpc_send(c, &c->peer[s->at.node], message, verified, g_memdup2(&s->id, sizeof s->id));
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
  s->stage = STAGE_WAITING;
  switch (s->at.pass) {
  case QFS_SCRUB_RECORDS:
  case QFS_SCRUB_CHUNKS:
    if (c->scrub_range == NULL)
      c->scrub_range = qfs_scrub_range_new(s->at.pass, s->verify);
    qfs_scrub_range_begin(c, c->scrub_range, &s->at, s->fast ? PAGE_ROWS_FAST : PAGE_ROWS);
    break;
  case QFS_SCRUB_DATA:
    verify_chunks(c, s);
    break;
  case QFS_SCRUB_OVER:
    s->stage = STAGE_MENDING;
    s->next_us = c->env->now_us(c->env);
    qfs_wake_at(c, s->next_us);
    break;
  }
}

static void step(QfsCoordinator *c) {
  QfsScrub *s = c->scrub;
  if (!qfs_scrub_goes_on(c) || s->stage == STAGE_WAITING)
    return;
  if (s->stage == STAGE_PAUSE && c->mends.length <= MENDS_MAX) {
    next_page(c, s);
  } else if (s->stage == STAGE_MENDING && g_queue_is_empty(&c->mends)) {
    scrub_end(c, s);
  } else {
    s->next_us = c->env->now_us(c->env) + LOOK_US;
    qfs_wake_at(c, s->next_us);
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
  if (state->resumes && state->verifying == verify) {
    s->at = state->at;
    state->at.key = NULL;
    if (s->at.pass == QFS_SCRUB_DATA && !qfs_set_has(c->view.in_sync, s->at.node))
      next_node(c, &s->at);
  } else {
    g_clear_pointer(&state->at.key, g_free);
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
    if (s->stage != STAGE_WAITING && now_us >= s->next_us)
      step(c);
    else if (s->stage != STAGE_WAITING)
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
  g_clear_pointer(&c->scrub_range, qfs_scrub_range_free);
  if (c->scrub != NULL)
    scrub_free(g_steal_pointer(&c->scrub));
  g_clear_pointer(&c->scrub_state.at.key, g_free);
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
