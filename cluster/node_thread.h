/* node_thread.h - the thread, the queue and the files of one node.
 *
 * Owns: one thread per node slot for the life of the environment; the queue of messages and
 * commands for it; opening and closing the replica; the pool of read connections. Leaves to others:
 * what a message does (node.h), locks above it (env_thread.c).
 *
 * Invariants
 *  T1. Commands and messages take effect in the order in which they were queued, except that a stop
 *      makes every message before it lost.
 *  T2. A start that fails ends with `gone` and a reason. Each stop ends with `gone` and none,
 *      after all files of the node are closed; a start that it overtakes is left out.
 *  T3. Hooks are called by the thread that serves with no lock of this module held.
 *  T4. One thread serves at a time: the node's own, or, while that one sleeps, one that was lent by help. A lent thread does
 *      short work only, that never waits for a disk, and whatever takes long is left to the node's own for a while;
 *      two threads at most are lent at once, whatever hangs.
 *
 * Threading: send, start and stop may be called by any thread, also with the environment's lock
 * held (they take only the queue's own lock, for a few instructions). When they return TRUE the
 * thread sleeps and qfs_node_thread_wake or _help must follow, best after the caller's lock was released.
 */
#pragma once

#include "cluster/node.h"
#include "cluster/reader_pool.h"

G_BEGIN_DECLS

typedef struct {
  gpointer owner;
  /* Takes the elements over and leaves the array empty. */
  void (*receive)(gpointer owner, GPtrArray *replies);
  void (*gone)(gpointer owner, guint node, guint64 incarnation, const char *reason);
} QfsNodeHooks;

typedef struct QfsNodeThread QfsNodeThread;

/* Starts the thread; the node is closed. `sync`: every commit reaches the disk. */
QfsNodeThread *qfs_node_thread_new(guint number, const char *dir, gboolean sync,
                                   const QfsNodeHooks *hooks);
/* After qfs_node_thread_join. Accepts NULL. */
void qfs_node_thread_free(QfsNodeThread *thread);

gboolean qfs_node_thread_send(QfsNodeThread *thread, QfsMessage *message); /* takes it over */
gboolean qfs_node_thread_start(QfsNodeThread *thread, guint64 incarnation);
gboolean qfs_node_thread_stop(QfsNodeThread *thread);
/* Closes the node and removes its replica's files. Ends with `gone`. */
gboolean qfs_node_thread_remove(QfsNodeThread *thread, guint64 incarnation);
void qfs_node_thread_wake(QfsNodeThread *thread);
/* Does what is queued in the calling thread, which holds no lock, or wakes the node's own for it (T4). */
void qfs_node_thread_help(QfsNodeThread *thread);

/* Answers `read` in the calling thread through a pooled read connection. */
void qfs_node_thread_read(QfsNodeThread *thread, QfsRead *read);

/* qfs_reader_pool_inspect. */
QfsStatus qfs_node_thread_inspect(QfsNodeThread *thread, QfsReaderFunc inspect, gpointer user_data,
                                  char **out_reason);

/* Ends the thread after its current batch, drops its queue, closes the files; no hook is called for
 * it. */
void qfs_node_thread_quit(QfsNodeThread *thread);
void qfs_node_thread_join(QfsNodeThread *thread); /* blocks */

G_END_DECLS
