/* move.h - data on the move, and what may go: mover.c, resize.c, tidy.c, evict.c, purge.c. */
#pragma once

#include "cluster/parts.h"
#include "cluster/peer.h"

G_BEGIN_DECLS

/* Where a move leads: S = B = set, with this N and K. */
typedef struct {
  QfsNodeSet set;
  guint nodes, replicas;
} QfsMoveTarget;

void qfs_mover_consider(QfsCoordinator *c);
void qfs_mover_stop(QfsCoordinator *c);
gboolean qfs_mover_is_due(const QfsCoordinator *c);  /* to be done or under way */
gboolean qfs_mover_is_done(const QfsCoordinator *c, QfsMoveTarget *out_target); /* the view may switch */
guint qfs_mover_progress(const QfsCoordinator *c);
QfsNodeSet qfs_mover_holders(const QfsCoordinator *c, guint64 hash); /* who is to hold it; 0: no move */

void qfs_resize_consider(QfsCoordinator *c);
gboolean qfs_resize_is_wanted(const QfsCoordinator *c);
gboolean qfs_resize_is_over(const QfsCoordinator *c);
gboolean qfs_resize_grows(const QfsCoordinator *c); /* the view may take the greater N */
gboolean qfs_resize_introduces(const QfsCoordinator *c); /* new nodes are to get the next view first */
gboolean qfs_resize_target(const QfsCoordinator *c, QfsMoveTarget *out); /* FALSE: nothing to be moved now */
gboolean qfs_resize_marks_leavers(const QfsCoordinator *c); /* the next view says that they are unusable */
guint qfs_resize_progress(const QfsCoordinator *c);
/* What it waits for, newly allocated; NULL: it goes on. */
char *qfs_resize_reason(const QfsCoordinator *c);

void qfs_tidy_consider(QfsCoordinator *c);
void qfs_tidy_stop(QfsCoordinator *c);
gboolean qfs_tidy_is_due(const QfsCoordinator *c);  /* to be done or under way */
gboolean qfs_tidy_is_done(const QfsCoordinator *c); /* the next view may say so */

/* ---- evicted nodes: evict.c ---- */

QfsNodeSet qfs_evicted(const QfsCoordinator *c);
QfsNodeSet qfs_evicted_away(const QfsCoordinator *c); /* of these, the ones that are closed */
/* Has the operator accepted the loss of what only these nodes have? */
gboolean qfs_is_given_up(const QfsCoordinator *c, QfsNodeSet missing);
/* Have some keys, or has this one, lost all holders? */
gboolean qfs_has_lost(const QfsCoordinator *c);
gboolean qfs_is_lost(const QfsCoordinator *c, guint64 hash);
void qfs_evict_strays(QfsCoordinator *c); /* before the view that says that others took over */
gboolean qfs_evictions_are_remembered(const QfsCoordinator *c); /* by the view */
QfsStatus qfs_evict(QfsCoordinator *c, QfsPeer *peer); /* QFS_OK: decided, the node is to be closed */
gboolean qfs_evict_is_done(const QfsCoordinator *c, const QfsPeer *peer);

/* ---- tombstones: purge.c ---- */

void qfs_purge_consider(QfsCoordinator *c);
void qfs_purge_stop(QfsCoordinator *c);
/* Every node is in sync or given up, and nothing moves. */
gboolean qfs_purge_may_run(const QfsCoordinator *c);
/* What collecting tombstones waits for, newly allocated; NULL: for nothing but its time. */
char *qfs_purge_reason(const QfsCoordinator *c);
void qfs_op_gc(QfsCoordinator *c, QfsRequest *request);

G_END_DECLS
