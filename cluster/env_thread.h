/* env_thread.h - the product's environment: runs one coordinator and its nodes on threads.
 *
 * Owns: the lock around the coordinator (the monitor), the timer, one node_thread.h per node, and
 * when effects run. Leaves to others: what events mean (coordinator.h), the store's directory
 * (store.h).
 *
 * How an event runs: the monitor is taken, the coordinator is called, the monitor is released; then
 * the same thread, holding no lock, does what the coordinator asked for: it wakes nodes, reads
 * (entering again with each answer), completes requests. So a hot get is served by its caller
 * alone, and a put by the thread that completes its quorum: a node's, or its own (V3). An event caused from
 * inside `done` leaves its effects to the loop that is already running in that thread: no
 * recursion.
 *
 * Injected faults (links.h): each message and each direct read passes `detour` on its way there and
 * on its way back, where it is lost or delayed; while there are no faults that costs one relaxed
 * load.
 *
 * The coordinator's time is awake_clock.h: while the whole process stands still it stands still, too.
 *
 * Lock order: monitor, then the links' lock, then a node's queue or the delay line's. Nothing
 * blocks under any.
 *
 * Invariants
 *  V1. The coordinator is touched only under the monitor, and calls the environment only there.
 *  V2. Effects run in the thread that caused them, in the order in which they were emitted.
 *  V3. A thread that is lent (QfsRequest.lend) does the short work of up to two sleeping nodes itself, for as long as
 *      what its request caused goes on: handing work to another thread and back costs more than the work.
 *      The other nodes' turn is after that, when what is completed was answered: they are woken, or, if all is lent, the
 *      thread does their work as well. On two processors a third thread would be in the way of who asked.
 *  V4. A node that a gathering thread (QFS_LEND_GATHER) left asleep sleeps until that thread's release, which does its
 *      short work like a lent thread, for all requests at once, or wakes it.
 *
 * Threading: any thread may call anything, except new, run, stop and free, which belong to the
 * owner. `done` must not wait for another request of the same thread, nor call stop.
 */
#pragma once

#include "cluster/coordinator.h"
#include "cluster/links.h"
#include "cluster/reader_pool.h"

G_BEGIN_DECLS

typedef struct QfsEnvThread QfsEnvThread;

/* `dirs`: one directory for each of `nodes` nodes; copied. `watch` (may be NULL) is called without
 * locks. */
QfsEnvThread *qfs_env_thread_new(guint nodes, char *const *dirs, gboolean sync,
                                 QfsEngineWatch watch, gpointer watch_data);
void qfs_env_thread_free(QfsEnvThread *self); /* stops it first if need be; accepts NULL */

/* Before run: faults may be injected, so that links may lose messages. */
void qfs_env_thread_allow_faults(QfsEnvThread *self);
void qfs_env_thread_read_links(QfsEnvThread *self, QfsLinks *out);
/* `edit` may change the table; called once, under the links' lock. Only where faults are allowed.
 */
void qfs_env_thread_edit_links(QfsEnvThread *self, QfsLinksEdit edit, gpointer user_data);

/* Makes a coordinator from `config` (its `watch` and `changed` are replaced; `resized` is called without locks) and starts it and its nodes. Once. */
void qfs_env_thread_run(QfsEnvThread *self, const QfsCoordinatorConfig *config);

void qfs_env_thread_submit(QfsEnvThread *self, QfsRequest *request);
void qfs_env_thread_release(QfsEnvThread *self); /* QfsEngineOps.release */
void qfs_env_thread_pin(QfsEnvThread *self, QfsObjectId object);
void qfs_env_thread_unpin(QfsEnvThread *self, QfsObjectId object);
void qfs_env_thread_discard(QfsEnvThread *self, QfsObjectId object);
void qfs_env_thread_shutdown(QfsEnvThread *self); /* qfs_coordinator_shutdown */
/* qfs_coordinator_resize, at most to the number of nodes that this was made with. */
void qfs_env_thread_resize(QfsEnvThread *self, guint nodes, guint replicas);

/* QfsEngineOps.watch. Any time after new. */
void qfs_env_thread_watch(QfsEnvThread *self, QfsChangeFunc func, gpointer user_data);

/* QfsEngineOps.inspect. */
QfsStatus qfs_env_thread_inspect(QfsEnvThread *self, guint node, QfsReaderFunc inspect, gpointer user_data,
                                 char **out_reason);

/* Questions. */
guint64 qfs_env_thread_stand(QfsEnvThread *self); /* QfsEngineOps.stand */
QfsNodeSet qfs_env_thread_holders(QfsEnvThread *self, const char *key); /* QfsEngineOps.holders */
void qfs_env_thread_status(QfsEnvThread *self, QfsEngineStatus *out);
char *qfs_env_thread_failure(QfsEnvThread *self); /* qfs_coordinator_failure, newly allocated */
typedef gboolean (*QfsCoordinatorTest)(const QfsCoordinator *coordinator);
/* Waits until `test` holds, at most `timeout_ms`; returns what it gave last. */
gboolean qfs_env_thread_wait(QfsEnvThread *self, QfsCoordinatorTest test, guint timeout_ms);

/* Ends and joins all threads, closes all files, frees the coordinator; requests that are still open
 * end with QFS_UNKNOWN. Later requests end with QFS_NO_QUORUM. Blocks for the batches under way. */
void qfs_env_thread_stop(QfsEnvThread *self);

G_END_DECLS
