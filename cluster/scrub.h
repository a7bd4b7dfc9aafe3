/* scrub.h - digests of ranges of rows: what a node computes, and how it is carried. Shared by node.c and scrub_range.c.
 *
 * A node sums up its rows of a range by the set of nodes that has to hold them: who holds the same keys, or objects,
 * must come to the same sum, whatever else each holds. Pure functions.
 */
#pragma once

#include "cluster/message.h"

G_BEGIN_DECLS

/* All rows of one set of holders, or one row. */
typedef struct {
  QfsNodeSet holders;
  guint64 digest;   /* XOR over the rows: so no order matters */
  guint64 count;
  char *key;        /* of one record */
  QfsChunk chunk;   /* of one chunk row: its name */
} QfsDigest;
void qfs_digest_free(QfsDigest *digest); /* accepts NULL */
GPtrArray *qfs_digests_new(void);        /* array that frees its QfsDigest elements */

/* Adds a row that `holders` have to hold. Sums are few: a linear search. */
void qfs_digests_add(GPtrArray *digests, QfsNodeSet holders, guint64 digest);
/* The sum of `holders`, or NULL. */
const QfsDigest *qfs_digests_find(const GPtrArray *digests, QfsNodeSet holders);
/* Adds to `out` (element-type QfsNodeSet) the sets of holders whose members among `nodes` come to different sums.
 * sums[node]: that node's, or NULL. */
void qfs_digests_compare(GPtrArray *const *sums, QfsNodeSet nodes, GArray *out);

/* Rows of one index of one object belong together. How many of `rows`, which are in order, make whole groups, when
 * there are more after them? */
gboolean qfs_chunk_same_group(const QfsChunk *a, const QfsChunk *b);
guint qfs_chunks_whole_groups(GPtrArray *rows, gboolean more);

/* What node `number` answers to DIGEST and DIGEST_CHUNKS. */
gboolean qfs_digest_records(QfsReplica *replica, guint number, const QfsMessage *request, QfsMessage *reply,
                            GError **error);
gboolean qfs_digest_chunks(QfsReplica *replica, guint number, const QfsMessage *request, QfsMessage *reply,
                           GError **error);

G_END_DECLS
