/* tree.h - the tree of keys as one replica alone holds it, for looking at: rows become names, sizes and bytes.
 *
 * Owns: what a replica's rows look like as directories and files. A replica holds some of the keys only, so the
 * directory of a key that it holds may be at others: such a directory is *implied*, with a record that has
 * the timestamp 0 and the mode 0755. Tombstones, and the store's own keys, are not shown.
 * Leaves to others: whether the replica is whole, current, or of use at all.
 *
 * Threading and errors: the replica's, which may be a reader. Each call sees the rows of its own moments.
 */
#pragma once

#include "storage/replica.h"

G_BEGIN_DECLS

typedef enum {
  QFS_TREE_HERE,
  QFS_TREE_ELSEWHERE, /* a renamed value, of which other replicas have the chunks */
  QFS_TREE_CHANGED,   /* that version's chunks were replaced meanwhile */
} QfsTreeBytes;

static inline gboolean qfs_tree_is_implied(const QfsRecord *record) {
  return record->kind == QFS_KIND_DIRECTORY && record->timestamp == 0 && record->attr.btime_ns == 0;
}

/* *out_record NULL: there is nothing. */
gboolean qfs_tree_lookup(QfsReplica *replica, const char *key, QfsRecord **out_record, GError **error);
/* Children of `dir` with name > `after` (NULL: from the first) by name, at most `limit` (not 0), implied ones included;
 * appended to `out` (owned by it), without tails but for symlinks. */
gboolean qfs_tree_list(QfsReplica *replica, const char *dir, const char *after, guint limit, GPtrArray *out,
                       gboolean *out_more, GError **error);
/* Bytes of the value `record`, cut at its size. *out_data is NULL unless *out_where is HERE. Chunks that the
 * replica lacks and holes look alike: both read as zeros, unless it has none at all of a renamed value. */
gboolean qfs_tree_read(QfsReplica *replica, const QfsRecord *record, guint64 offset, gsize length,
                       QfsTreeBytes *out_where, GBytes **out_data, GError **error);

G_END_DECLS
