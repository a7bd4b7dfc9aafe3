/* store.h - the directory of a store: its lock, its identity, the places of its nodes.
 *
 * Owns: `lock` (flock, holds the process id), `store.conf` (store_conf.h), making and unmaking the
 * directories. Leaves to others: what is inside a node's directory.
 *
 * Invariants
 *  D1. At most one process holds a store. Replicas are touched only while it is held.
 *  D2. A failed open leaves the file system as it was.
 *  D3. While store.conf says `creating`, nothing was ever acknowledged: the next open removes
 *      what the nodes hold and begins again. It says `ready` before the first request is taken.
 *
 * Threading: one thread. Errors: QFS_ENGINE_ERROR, one line, fit for standard error.
 */
#pragma once

#include "cluster/engine.h"

G_BEGIN_DECLS

typedef struct QfsStore QfsStore;

/* Checks `config`, takes the lock, and reads the store or makes a new one. Blocks on files only. */
QfsStore *qfs_store_open(const QfsEngineConfig *config, GError **error);

gboolean qfs_store_is_new(const QfsStore *store);
gboolean qfs_store_is_resized(const QfsStore *store); /* another N or K is wanted than last time */
guint qfs_store_known(const QfsStore *store);  /* nodes that may hold something: opened at the start */
guint qfs_store_places(const QfsStore *store); /* these and those that are wanted */
const char *qfs_store_uuid(const QfsStore *store);
const char *qfs_store_dir(const QfsStore *store);                  /* absolute */
const char *qfs_store_node_dir(const QfsStore *store, guint node); /* absolute; from 1 */

/* The store serves: store.conf says so durably, with the places of the nodes as they are (D3), and the N and K that
 * are wanted. Replicas that were moved are removed from where they were. */
gboolean qfs_store_ready(QfsStore *store, GError **error);
/* Nodes above N hold nothing any more: store.conf forgets them. Any thread, one at a time. */
gboolean qfs_store_resized(QfsStore *store, GError **error);

/* Gives the lock back. A new store that never became ready is removed (D2). Accepts NULL. No file
 * of a node may be open. */
void qfs_store_close(QfsStore *store);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QfsStore, qfs_store_close)

G_END_DECLS
