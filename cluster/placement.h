/* placement.h - which nodes hold a key: rendezvous (highest random weight) hashing.
 *
 * Source: Thaler, Ravishankar, "Using Name-Based Mappings to Increase Hit Rates", 1998. Every node gets a
 * weight for the key's hash; the nodes in order of weight are the key's rendezvous order. Taking a
 * node out of a set moves only the keys it held; nobody else's keys move.
 * Pure functions, any thread.
 */
#pragma once

#include "storage/replica.h"

#define QFS_NODE_BIT(node) (G_GUINT64_CONSTANT(1) << ((node)-1))

static inline guint qfs_set_size(QfsNodeSet set) { return (guint)__builtin_popcountll(set); }
static inline gboolean qfs_set_has(QfsNodeSet set, guint node) {
  return (set & QFS_NODE_BIT(node)) != 0;
}
static inline QfsNodeSet qfs_set_all(guint nodes) {
  return nodes == 64 ? ~G_GUINT64_CONSTANT(0) : (G_GUINT64_CONSTANT(1) << nodes) - 1;
}

/* H(hash, among): the first `replicas` nodes of `among` in the rendezvous order of `hash`; all of
 * `among` when it has fewer. */
QfsNodeSet qfs_placement_holders(guint64 hash, QfsNodeSet among, guint replicas);

/* Writes the nodes of `among` in rendezvous order to `out` (room for QFS_NODES_MAX); returns how many. */
guint qfs_placement_order(guint64 hash, QfsNodeSet among, guint *out);
