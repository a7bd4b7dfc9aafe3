/* subtree.h - directories with all below them, while they are renamed: subtree.c. */
#pragma once

#include "cluster/parts.h"

G_BEGIN_DECLS

/* What is below `from` and below `to` is `op`'s alone until qfs_subtree_release: who comes later waits. FALSE: parked,
 * another one is under way. Its keys are locked. */
gboolean qfs_subtree_claim(QfsCoordinator *c, QfsOp *op, const char *from, const char *to, gboolean exchange);
/* Nothing is under way there any more. FALSE: parked. */
gboolean qfs_subtree_is_quiet(QfsCoordinator *c, QfsOp *op);
/* Reads both trees. QFS_CROSS: there is too much below them for one step. Called once, perhaps at once. */
typedef void (*QfsSubtreeDone)(QfsCoordinator *c, QfsStatus status, gpointer data);
void qfs_subtree_read(QfsCoordinator *c, QfsSubtreeDone done, gpointer data);
/* Newest record of each key that was read, tombstones too; below one of the two directories. In the order of keys.
 * Element-type QfsRecord, a new array. */
GPtrArray *qfs_subtree_records(const QfsCoordinator *c);
QfsRecord *qfs_subtree_find(const QfsCoordinator *c, const char *key); /* borrowed; NULL: no row */
gboolean qfs_subtree_has(const QfsCoordinator *c, const char *dir); /* anything that exists below it */
/* The key's place in the other tree, newly allocated; NULL: it is in none. */
char *qfs_subtree_other(const QfsCoordinator *c, const char *key);
/* `moved`: the requests that waited, and that say so, go on with the new names. Nothing when it is not `op`'s. */
void qfs_subtree_release(QfsCoordinator *c, QfsOp *op, gboolean moved);
/* At the head of qfs_op_lock_keys. TRUE: parked. */
gboolean qfs_subtree_holds_back(QfsCoordinator *c, QfsOp *op);

G_END_DECLS
