/* start.h - start of the store and return of a node: recovery*.c, unite.c, catchup.c. */
#pragma once

#include "cluster/peer.h"

G_BEGIN_DECLS

void qfs_recovery_consider(QfsCoordinator *c);
void qfs_recovery_peer_changed(QfsCoordinator *c, QfsPeer *peer);
void qfs_recovery_view_done(QfsCoordinator *c);
void qfs_recovery_free(QfsCoordinator *c);
gboolean qfs_recovery_unites(const QfsCoordinator *c);
void qfs_recovery_mark_view(const QfsCoordinator *c, QfsView *view); /* the next one; when it is to say what is void */
/* While keys are blocked, a node whose unsettled operations were not seen yet is a reason to begin again. */
gboolean qfs_recovery_somebody_unseen(const QfsCoordinator *c);

QfsNodeSet qfs_unite_present(const QfsCoordinator *c); /* answer with files that belong to the view */
/* Members of S that answer with files that belong to the view. */
QfsNodeSet qfs_members_present(const QfsCoordinator *c);
/* `members` are too few. Is everything acknowledged at those who are there, members of S or not? */
gboolean qfs_unite_may(const QfsCoordinator *c, QfsNodeSet members);
guint64 qfs_unite_from(const QfsCoordinator *c); /* operations above this are to be looked at */
guint64 qfs_unite_settled_at(const QfsCoordinator *c, guint node); /* operations up to this were settled when it left S */
gboolean qfs_unite_has_all(const QfsCoordinator *c); /* U3 */
QfsNodeSet qfs_unite_begin(QfsCoordinator *c, QfsNodeSet members); /* the members to begin with */
void qfs_unite_tell(QfsCoordinator *c); /* once, what is waited for */
char *qfs_waits_for_text(const QfsCoordinator *c); /* newly allocated; NULL: for nothing */
void qfs_catchup_start(QfsCoordinator *c, QfsPeer *peer);
void qfs_catchup_stop(QfsCoordinator *c, QfsPeer *peer);
void qfs_catchup_restart_all(QfsCoordinator *c); /* all begin anew when they are considered next */
/* Notes that what `message` carries is copied to a node that lacks it. */
void qfs_count_copied(QfsCoordinator *c, const QfsMessage *message);
void qfs_catchup_consider(QfsCoordinator *c);
gboolean qfs_catchup_was_from_nothing(const QfsPeer *peer); /* copied all that it has to hold */
/* The trusted nodes are too few: will they do with those that can catch up from them? */
gboolean qfs_catchup_may_complete(const QfsCoordinator *c);
gboolean qfs_catchup_ready(const QfsCoordinator *c, const QfsPeer *peer);
guint qfs_catchup_progress(const QfsPeer *peer);

G_END_DECLS
