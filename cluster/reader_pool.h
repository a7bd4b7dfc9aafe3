/* reader_pool.h - read connections of one node, lent to whichever thread serves a get.
 *
 * Owns: the idle connections of one replica and whether the node is open for reading. Leaves to
 * others: the writer, and what to do when the node is closed.
 *
 * Invariants
 *  P1. After qfs_reader_pool_close returned, no file of the replica is open through this pool,
 *      and every read ends QFS_NO_QUORUM until the next qfs_reader_pool_open.
 *  P2. No lock is held while SQLite runs.
 *
 * Threading: any thread may run reads; open and close belong to the node's thread.
 */
#pragma once

#include "cluster/env.h"

G_BEGIN_DECLS

/* Idle connections that are kept; more may be lent at once. */
#define QFS_READERS_IDLE_MAX 4

typedef struct QfsReaderPool QfsReaderPool;

QfsReaderPool *qfs_reader_pool_new(const char *dir); /* closed */
void qfs_reader_pool_free(QfsReaderPool *pool);      /* closes it; accepts NULL */

/* `watch` (may be NULL) is the file's: what was read while it objects counts as damaged. */
void qfs_reader_pool_open(QfsReaderPool *pool, QfsFileWatch *watch);
/* Waits for the reads that are being run: the time of one SQLite call each. */
void qfs_reader_pool_close(QfsReaderPool *pool);

/* Answers `read`: QFS_OK, QFS_IO with a reason, or QFS_NO_QUORUM when the node is closed. */
void qfs_reader_pool_run(QfsReaderPool *pool, QfsRead *read);

/* Calls `inspect` with a read connection, in this thread. QFS_OK; QFS_IO with *out_reason (newly allocated);
 * QFS_NO_QUORUM when the node is closed. Errors must be the replica's. */
typedef gboolean (*QfsReaderFunc)(QfsReplica *reader, gpointer user_data, GError **error);
QfsStatus qfs_reader_pool_inspect(QfsReaderPool *pool, QfsReaderFunc inspect, gpointer user_data, char **out_reason);

G_END_DECLS
