/* scrub.h - digests of ranges of keys: what a node computes, and how it is carried. Shared by node.c and scrub.c.
 *
 * A node sums up its rows of a range by the set of nodes that has to hold them: who holds the same keys must
 * come to the same sum, whatever else each holds. Pure functions.
 */
#pragma once

#include "cluster/message.h"

G_BEGIN_DECLS

/* All rows of one set of holders (key NULL), or one row. */
typedef struct {
  QfsNodeSet holders;
  guint64 digest;   /* XOR over the rows: so no order matters */
  guint64 count;
  char *key;
} QfsDigest;
void qfs_digest_free(QfsDigest *digest); /* accepts NULL */
GPtrArray *qfs_digests_new(void);        /* array that frees its QfsDigest elements */

/* Adds a row that `holders` have to hold. Sums are few: a linear search. */
void qfs_digests_add(GPtrArray *digests, QfsNodeSet holders, const QfsRecord *record);
/* The sum of `holders`, or NULL. */
const QfsDigest *qfs_digests_find(const GPtrArray *digests, QfsNodeSet holders);

G_END_DECLS
