/* checksum.h - bytes of a record as they are hashed and compared. Private to storage/.
 *
 * The canonical encoding of record.h is head followed by tail, so the head alone can be checked
 * where the tail was not read (listings). Pure functions, any thread.
 */
#pragma once

#include "storage/record.h"

G_BEGIN_DECLS

/* Bytes of the canonical encoding before the tail. */
gsize qfs_record_head_size(const QfsRecord *record);
/* Writes them to `out` and returns the byte after them. */
guint8 *qfs_record_encode_head(const QfsRecord *record, guint8 *out);

/* XXH3 over hint, checksum, key, timestamp, seq and the head: all of a row but the tail, for which
 * `checksum` (qfs_record_checksum) stands. */
guint64 qfs_record_head_checksum(const QfsRecord *record, guint64 checksum, gboolean hint);
/* The same for a chunk row: all of it but the data. */
guint64 qfs_chunk_head_checksum(QfsObjectId object, guint64 index, guint64 version, guint64 seq,
                                guint64 checksum);

/* Big-endian, returning the byte after. */
static inline guint8 *qfs_put_u32(guint8 *out, guint32 value) {
  out[0] = (guint8)(value >> 24);
  out[1] = (guint8)(value >> 16);
  out[2] = (guint8)(value >> 8);
  out[3] = (guint8)value;
  return out + 4;
}
static inline guint8 *qfs_put_u64(guint8 *out, guint64 value) {
  return qfs_put_u32(qfs_put_u32(out, (guint32)(value >> 32)), (guint32)value);
}

G_END_DECLS
