/* node.h - one node: applies requests to its replica, in batches, and answers them.
 *
 * Owns: the promise of epochs, the batch transaction (group commit), the node's metadata in memory
 * as last committed. Leaves to others: queueing and threads (env_thread.c), which requests to send.
 *
 * Invariants
 *  N1. A reply is emitted only after the transaction that holds its effect committed.
 *  N2. A request of an epoch older than promised_epoch changes nothing and is answered QFS_STALE.
 *  N3. After any storage failure the batch is rolled back, every request in it is answered with the
 *      failure, and the node refuses everything until reopened (QFS_IO), except that QFS_NO_SPACE and a
 *      row that does not match its checksum (QFS_IO with `bad`) are the failure of that request only.
 *  N4. A HELLO of a higher incarnation begins a new life of the node for its coordinator; what
 *      was sent to an earlier one is dropped unanswered, as on a connection that was closed.
 *
 *  N5. Nothing is answered from a file that was deleted, replaced or written to by somebody else.
 *
 * Threading: one thread at a time.
 */
#pragma once

#include "cluster/env.h"

G_BEGIN_DECLS

typedef struct QfsNode QfsNode;

/* Takes over `replica` (closes it on failure too) and loads its metadata, which must bear number
 * `node`. */
QfsNode *qfs_node_new(QfsEnv *env, guint node, guint64 incarnation, QfsReplica *replica,
                      GError **error);
void qfs_node_free(QfsNode *node); /* closes the replica; accepts NULL */

/* What lies beside the replica was set aside for this reason (NULL: nothing does); told in the answer to HELLO.
 * is_new: since the node was asked to start. */
void qfs_node_note_aside(QfsNode *node, const char *reason, gboolean is_new);
/* The file that it uses; NULL: not known. */
QfsFileWatch *qfs_node_watch(const QfsNode *node);
/* As last committed; borrowed. NULL: the node has failed. */
const QfsNodeMeta *qfs_node_meta(const QfsNode *node);

/* Handles the requests in `batch` (element-type QfsMessage, emptied) in order, writes in as few
 * transactions as the kinds of requests allow, and emits the replies through env->reply. */
void qfs_node_handle(QfsNode *node, GPtrArray *batch);

/* Idle work: moves the log into the file, a bounded step of object dropping. TRUE: more is to be
 * done. */
gboolean qfs_node_idle(QfsNode *node);

G_END_DECLS
