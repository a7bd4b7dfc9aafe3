/* view.h - epochs, the in-sync set and who holds what; what is settled: view.c, passed.c, settle.c. */
#pragma once

#include "cluster/parts.h"
#include "cluster/peer.h"

G_BEGIN_DECLS

/* Looks whether S should change and whether quorum is there; starts a proposal if so. */
void qfs_view_evaluate(QfsCoordinator *c);
void qfs_view_propose(QfsCoordinator *c, QfsNodeSet in_sync, QfsNodeSet base);
void qfs_view_propose_layout(QfsCoordinator *c, QfsNodeSet in_sync, QfsNodeSet base, guint nodes,
                             guint replicas);
/* May S shrink to `in_sync` without leaving a key with no holder that is whole? */
gboolean qfs_view_allows(const QfsCoordinator *c, QfsNodeSet in_sync);
/* The mark of who is in S. One of S may know of settled operations of earlier lives of which this one, started without it,
 * did not: the others have them, by other numbers perhaps. Their marks follow, or by its word they would look like older
 * copies to the next start. */
guint64 qfs_view_settled_by_any(const QfsCoordinator *c, QfsNodeSet in_sync);
/* Why the node's file does not belong to this view and must be rebuilt; NULL: it does. */
const char *qfs_view_objection(const QfsView *view, const QfsNodeMeta *meta, guint64 settled,
                               gboolean *out_is_damage);
/* It was emptied, and what it holds since then is sound, but not all. */
gboolean qfs_view_is_filled(const QfsView *view, const QfsNodeMeta *meta);
void qfs_view_update_blocked(QfsCoordinator *c);
/* All that anybody missed is at the members of S: what is known of earlier sets does not matter any more. */
void qfs_view_begin_phase(QfsCoordinator *c);
/* N and K of the view in force, and its nodes. W of K replicas acknowledge. */
guint qfs_view_nodes(const QfsCoordinator *c);
guint qfs_replicas(const QfsCoordinator *c);
QfsNodeSet qfs_view_all(const QfsCoordinator *c);
static inline guint qfs_write_quorum(guint replicas) { return replicas / 2 + 1; }
gboolean qfs_view_is_majority(const QfsView *view, QfsNodeSet nodes);
/* Are there enough nodes in `nodes` for a decision on the view? */
gboolean qfs_view_has_majority(const QfsCoordinator *c, QfsNodeSet nodes);
/* Those who have to accept the proposal are among these, or have accepted it. */
gboolean qfs_view_is_hopeful(const QfsCoordinator *c, QfsNodeSet nodes);
/* Who held the key under such a set; and: have so many of them been seen that every write that they may have
 * acknowledged was? */
QfsNodeSet qfs_set_holders(const QfsViewSet *set, guint64 hash);
gboolean qfs_set_was_met(const QfsViewSet *set, guint64 hash, QfsNodeSet seen);
QfsNodeSet qfs_peers_in(const QfsCoordinator *c, QfsPeerState state);
QfsNodeSet qfs_peers_alive(const QfsCoordinator *c); /* answer messages */
gboolean qfs_can_write(const QfsCoordinator *c);
QfsNodeSet qfs_holders(const QfsCoordinator *c, guint64 hash);  /* H(hash, S) */
gboolean qfs_is_blocked(const QfsCoordinator *c, guint64 hash); /* an unseen newer version may exist */
QfsNodeSet qfs_view_hidden(const QfsCoordinator *c); /* nodes that may have such versions */
/* An unsettled set of the view; of too many to remember any node may have been a member. */
QfsViewSet qfs_view_unsettled(const QfsCoordinator *c, guint i);
/* May the unsettled set `i` hide versions of the key, or of some key (NULL), from a start that met these nodes? */
gboolean qfs_view_set_hides(const QfsCoordinator *c, guint i, const guint64 *hash, QfsNodeSet seen,
                            QfsNodeSet given_up);
/* Any W nodes may have what nobody else has, until everything is settled. */
void qfs_view_add_all(QfsView *view);
void qfs_view_suspect_all(QfsCoordinator *c);

/* ---- what starts did without, that could not say so of all keys: passed.c ---- */

/* 0: nothing is known that speaks against operation `seq` on the key; else the number from which on operations are of lives
 * that began without it. */
guint64 qfs_passed_over(const QfsCoordinator *c, guint64 seq, guint64 hash);
void qfs_passed_note(const QfsCoordinator *c, QfsView *view); /* this life has begun without whom it did not meet */
void qfs_passed_settled(const QfsCoordinator *c, QfsView *view); /* all of before this life is */

/* ---- settling: settle.c ---- */

#define QFS_SETTLE_DELAY_US (300 * 1000)
#define QFS_CLOSING_DELAY_US 2000
#define QFS_CEILING_AHEAD_MS 60000

void qfs_settle_dirty(QfsCoordinator *c);
void qfs_settle_now(QfsCoordinator *c);
void qfs_settle_tick(QfsCoordinator *c, gint64 now_us);

gboolean qfs_is_settled(const QfsCoordinator *c);
void qfs_ceiling_raise(QfsCoordinator *c);

G_END_DECLS
