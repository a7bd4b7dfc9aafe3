/* store_conf.h - the file `store.conf` of a store: what it is, before any replica is opened.
 *
 * A GLib key file with one group:
 *     [store]
 *     format=1                     this layout; a higher number is refused
 *     uuid=...                     identity of the store
 *     nodes=5                      as asked for last: data may still move
 *     replicas=3
 *     places=7                     while it does: nodes that may hold something, if more than `nodes`
 *     state=creating | ready       creating: nothing was ever acknowledged, so it may be made anew
 *     node2=/disk2/qfs             only for nodes that are not in their default place, `node-I`
 *
 * Replaced as a whole: written beside, synced, renamed, directory synced.
 * Threading: the functions are pure apart from the file. Errors: QFS_ENGINE_ERROR, one line.
 */
#pragma once

#include "cluster/engine.h"

G_BEGIN_DECLS

#define QFS_STORE_FORMAT 1

typedef struct {
  char uuid[37];
  guint nodes, replicas;
  guint places;             /* never less than nodes */
  gboolean creating;
  char *node_dirs[QFS_NODES_MAX]; /* NULL: default */
} QfsStoreConf;

void qfs_store_conf_clear(QfsStoreConf *conf);

/* TRUE with *out_found FALSE: there is no such file. *out is set only when it was found. */
gboolean qfs_store_conf_read(const char *dir, QfsStoreConf *out, gboolean *out_found,
                             GError **error);
/* Durable when it returns TRUE; does nothing when the file already says so. */
gboolean qfs_store_conf_write(const char *dir, const QfsStoreConf *conf, GError **error);

G_END_DECLS
