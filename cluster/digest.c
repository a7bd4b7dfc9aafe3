/* digest.c - see scrub.h: sums of rows. Pure functions. */
#include "cluster/scrub.h"

void qfs_digest_free(QfsDigest *digest) {
  if (digest == NULL)
    return;
  g_free(digest->key);
  g_free(digest);
}

GPtrArray *qfs_digests_new(void) {
  return g_ptr_array_new_with_free_func((GDestroyNotify)qfs_digest_free);
}

const QfsDigest *qfs_digests_find(const GPtrArray *digests, QfsNodeSet holders) {
  for (guint i = 0; digests != NULL && i < digests->len; i++) {
    const QfsDigest *digest = g_ptr_array_index(digests, i);
    if (digest->holders == holders)
      return digest;
  }
  return NULL;
}

void qfs_digests_add(GPtrArray *digests, QfsNodeSet holders, const QfsRecord *record) {
  QfsDigest *sum = (QfsDigest *)qfs_digests_find(digests, holders);
  if (sum == NULL) {
    sum = g_new0(QfsDigest, 1);
    sum->holders = holders;
    g_ptr_array_add(digests, sum);
  }
  sum->digest ^= qfs_record_version_digest(record);
  sum->count++;
}
