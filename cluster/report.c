/* report.c - what the coordinator tells of its nodes and of itself. */
#include "cluster/private.h"

#include <string.h>

/* ---- nodes ---- */

static const char *silence(const QfsPeer *peer) {
  return peer->too_slow ? "answers too slowly" : "does not answer";
}

static QfsNodeState closed_state(const QfsPeer *peer) {
  if (peer->evicted && !peer->wanted)
    return QFS_NODE_STATE_EVICTED;
  if (peer->reason != NULL)
    return QFS_NODE_STATE_FAILED;
  if (peer->crashed)
    return QFS_NODE_STATE_CRASHED;
  return peer->wanted ? QFS_NODE_STATE_OPENING : QFS_NODE_STATE_DOWN;
}

static QfsNodeState state_of(const QfsCoordinator *c, const QfsPeer *peer) {
  switch (peer->state) {
  case PEER_TRUSTED:
    return qfs_set_has(qfs_peers_silent(c), peer->index) ? QFS_NODE_STATE_FAILED : QFS_NODE_STATE_UP;
  case PEER_JOINING:
  case PEER_KNOWN:
    return peer->rebuild ? QFS_NODE_STATE_REBUILDING : QFS_NODE_STATE_CATCHING_UP;
  case PEER_OPENING:
    return peer->greeted_us == 0 ? QFS_NODE_STATE_OPENING : QFS_NODE_STATE_FAILED;
  case PEER_SUSPECT:
    return QFS_NODE_STATE_FAILED;
  case PEER_CLOSED:
    break;
  }
  return closed_state(peer);
}

QfsNodeState qfs_coordinator_node_state(const QfsCoordinator *c, guint node) {
  return node >= 1 && node <= c->n_peers ? state_of(c, &c->peer[node]) : QFS_NODE_STATE_DOWN;
}

QfsNodeSet qfs_coordinator_in_sync(const QfsCoordinator *c) { return qfs_peers_in(c, PEER_TRUSTED); }

static void node_status(const QfsCoordinator *c, const QfsPeer *peer, QfsNodeStatus *out) {
  out->state = state_of(c, peer);
  out->in_sync = peer->state == PEER_TRUSTED;
  out->lag = peer->outstanding;
  out->answer_us = (guint64)peer->rpc_us;
  out->read_us = (guint64)qfs_read_estimate(peer, c->env->now_us(c->env));
  out->replica = peer->stats;
  gboolean mute = out->state == QFS_NODE_STATE_FAILED && peer->state != PEER_CLOSED;
  out->reason = g_strdup(mute ? silence(peer) : peer->reason);
  out->aside = g_strdup(peer->aside);
  if (peer->state == PEER_JOINING)
    out->progress = qfs_catchup_progress(peer);
}

/* ---- the store ---- */

guint qfs_coordinator_nodes(const QfsCoordinator *c) {
  return c->view_known ? qfs_view_nodes(c) : c->config.nodes;
}

gboolean qfs_coordinator_is_recovering(const QfsCoordinator *c) { return !c->serving || c->recovery != NULL; }

guint64 qfs_coordinator_stand(const QfsCoordinator *c) {
  if (qfs_coordinator_is_recovering(c) || c->blocked || !c->view_stable)
    return 0;
  const guint64 spread = G_GUINT64_CONSTANT(0x9e3779b97f4a7c15); /* odd: different epochs, different products */
  return MAX(c->view.epoch * spread ^ qfs_peers_in(c, PEER_TRUSTED), 1);
}

guint64 qfs_coordinator_scrubs(const QfsCoordinator *c) { return c->scrub_state.runs; }

void qfs_coordinator_status(const QfsCoordinator *c, QfsEngineStatus *out) {
  memset(out, 0, sizeof *out);
  out->nodes = c->n_peers;
  out->replicas = c->view_known ? qfs_replicas(c) : c->config.replicas;
  out->write_quorum = qfs_write_quorum(out->replicas);
  out->epoch = c->view.epoch;
  out->nodes_in_force = qfs_coordinator_nodes(c);
  out->resizing = qfs_resize_is_wanted(c);
  out->wanted_nodes = out->resizing ? c->want_nodes : out->nodes_in_force;
  out->wanted_replicas = out->resizing ? c->want_replicas : out->replicas;
  out->resize_progress = out->resizing ? qfs_resize_progress(c) : 0;
  out->resize_waits_for = qfs_resize_reason(c);
  QfsNodeSet answer = qfs_peers_alive(c) & ~qfs_peers_silent(c);
  out->quorum = c->serving && c->quorum && qfs_view_has_majority(c, answer);
  out->recovering = qfs_coordinator_is_recovering(c);
  out->waits_for = qfs_waits_for_text(c);
  out->unsettled = c->n_issued - MIN(c->n_settled, c->n_issued);
  out->purge_running = c->purge != NULL || c->purge_forced || c->purge_again || c->reclaim_forced;
  out->reclaim_last_removed = c->reclaim_last_removed;
  out->reclaim_runs = c->reclaim_runs;
  out->purge_waits_for = qfs_purge_reason(c);
  out->purge_last_ms = c->purge_last_ms;
  out->purge_last_removed = c->purge_last_removed;
  const QfsScrubState *scrub = &c->scrub_state;
  out->scrub_running = c->scrub != NULL || scrub->forced || scrub->resumes;
  out->scrub_wanted = scrub->forced;
  out->scrub_last_lost = scrub->last_lost;
  out->scrub_verifies = c->scrub != NULL ? scrub->verifying : scrub->forced_verify;
  out->scrub_waits_for = qfs_scrub_reason(c);
  out->scrub_progress = qfs_scrub_progress(c);
  out->scrub_last_ms = scrub->last_ms;
  out->scrub_last_verified = scrub->last_verified;
  out->scrub_last_bad = scrub->last_bad;
  out->scrub_last_mended = scrub->last_mended;
  out->scrub_runs = qfs_coordinator_scrubs(c);
  out->count = c->stat;
  out->count.mended_records += c->restored_records;
  out->count.mended_chunks += c->restored_chunks;
  g_strlcpy(out->store, c->view.store, sizeof out->store);
  for (guint i = 1; i <= c->n_peers; i++)
    node_status(c, &c->peer[i], &out->node[i - 1]);
}
