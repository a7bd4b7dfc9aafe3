/* reads.h - direct reads of nodes, avoiding slow ones: reads.c, chunk_read.c. */
#pragma once

#include "cluster/peer.h"

G_BEGIN_DECLS

typedef struct QfsAsk QfsAsk;
/* `read` is borrowed. QFS_NO_QUORUM: nobody who may answer did; then its node may be 0, too. */
typedef void (*QfsReadDone)(QfsCoordinator *c, QfsRead *read, gpointer data);
/* Asks `what` (its node is 0; what it holds is taken over) of `need` of the nodes that may answer it, other than `except`. Those
 * are for RECORD qfs_readable(hash), for CHUNKS qfs_object_readable, for LIST qfs_listable; `all`: of now, without
 * the mute ones. `done` is called once per answer, `need` times; or until the first failure, which is the
 * last call. Not before this returns. */
void qfs_ask(QfsCoordinator *c, const QfsRead *what, guint64 hash, QfsNodeSet all, QfsNodeSet except,
             guint need, QfsReadDone done, gpointer data);
void qfs_reads_receive(QfsCoordinator *c, QfsRead *read); /* takes it over */
void qfs_reads_peer_lost(QfsCoordinator *c, QfsPeer *peer);
void qfs_reads_tick(QfsCoordinator *c, gint64 now_us);
void qfs_reads_clear(QfsCoordinator *c);
gint64 qfs_read_estimate(const QfsPeer *peer, gint64 now_us); /* usual time of a direct read there */
QfsNodeSet qfs_listable(const QfsCoordinator *c); /* nodes whose listings count */
/* Nodes that may answer for `hash` alone: trusted members of H(hash, B). */
QfsNodeSet qfs_readable(const QfsCoordinator *c, guint64 hash);
guint qfs_pick(QfsCoordinator *c, guint64 hash, QfsNodeSet among); /* a node of the set; 0: it is empty */
/* The node of a read, which may be none. */
static inline QfsNodeSet qfs_read_bit(const QfsRead *read) {
  return read->node != 0 ? QFS_NODE_BIT(read->node) : 0;
}
/* A read failed at its node: demote it if others can answer. TRUE: ask another one. */
gboolean qfs_read_failed(QfsCoordinator *c, guint64 hash, QfsRead *read);

/* Chunks of a version from `nodes`, rather not those of `bad_at`; `done` as of qfs_ask with a need of 1, perhaps after
 * a second node confirmed that there is no row: chunk_read.c. */
void qfs_chunks_read(QfsCoordinator *c, QfsRecord *record, guint64 index, guint count, QfsNodeSet nodes,
                     QfsNodeSet bad_at, QfsReadDone done, gpointer data);

G_END_DECLS
