/* checksum.c - canonical encoding and the XXH3 sums over it. Pure functions, any thread.
 *
 * Canonical encoding of a record, all numbers big-endian:
 *
 *   head  kind u8 (its top bit set: number of names u32 follows), mode u32, uid u32, gid u32, rdev u64, size u64,
 *         atime, mtime, ctime, btime (64-bit two's complement each), digest u64,
 *         length of xattrs u32 (its top bit set: spans follow), xattrs,
 *         object placement u64, object unique u64, tail_offset u64,
 *         number of spans u32, spans: left out when there are none, as they were up to schema 3
 *   tail  the bytes of the tail, up to the end
 *
 * The lengths in it make the encoding injective: two records have the same encoding only when
 * every field in it is the same. So comparing encodings by memcmp is a total order of versions.
 *
 * Sums. The sum of a record covers key (with its NUL), timestamp, seq, head and tail. The sum of a
 * head covers hint, the record's sum, key, timestamp, seq and head: whoever reads a row without its
 * tail verifies everything that was read, and a later reader of the tail verifies the rest. A chunk
 * has the same pair.
 */
#include "storage/checksum.h"
#include "storage/replica.h"

#include <string.h>
#include <xxhash.h>

/* kind, mode, uid, gid, rdev, size, times, digest, length of xattrs; then object and tail_offset.
 */
#define HEAD_FIXED_BYTES (1 + 3 * 4 + 2 * 8 + 4 * 8 + 8 + 4 + 2 * 8 + 8)
#define SPANS_FOLLOW (1u << 31)
#define LINKS_FOLLOW (1u << 7)
/* Up to this much is gathered on the stack and hashed in one call: a state to be fed costs more than the copy. */
#define STACK_BYTES 4096

gsize qfs_record_head_size(const QfsRecord *record) {
  gsize spans = g_bytes_get_size(record->spans);
  return HEAD_FIXED_BYTES + g_bytes_get_size(record->xattrs) + (spans > 0 ? 4 + spans : 0) +
         (record->attr.nlink > 0 ? 4 : 0);
}

guint8 *qfs_record_encode_head(const QfsRecord *record, guint8 *out) {
  const QfsAttr *attr = &record->attr;
  gsize xattrs_len, spans_len;
  const guint8 *xattrs = g_bytes_get_data(record->xattrs, &xattrs_len);
  const guint8 *spans = g_bytes_get_data(record->spans, &spans_len);

  g_assert(xattrs_len < SPANS_FOLLOW);
  *out++ = (guint8)(record->kind | (attr->nlink > 0 ? LINKS_FOLLOW : 0));
  if (attr->nlink > 0)
    out = qfs_put_u32(out, attr->nlink);
  out = qfs_put_u32(out, attr->mode);
  out = qfs_put_u32(out, attr->uid);
  out = qfs_put_u32(out, attr->gid);
  out = qfs_put_u64(out, attr->rdev);
  out = qfs_put_u64(out, attr->size);
  out = qfs_put_u64(out, (guint64)attr->atime_ns);
  out = qfs_put_u64(out, (guint64)attr->mtime_ns);
  out = qfs_put_u64(out, (guint64)attr->ctime_ns);
  out = qfs_put_u64(out, (guint64)attr->btime_ns);
  out = qfs_put_u64(out, record->digest);
  out = qfs_put_u32(out, (guint32)xattrs_len | (spans_len > 0 ? SPANS_FOLLOW : 0));
  if (xattrs_len > 0)
    memcpy(out, xattrs, xattrs_len);
  out += xattrs_len;
  out = qfs_put_u64(out, record->object.placement);
  out = qfs_put_u64(out, record->object.unique);
  out = qfs_put_u64(out, record->tail_offset);
  if (spans_len == 0)
    return out;
  out = qfs_put_u32(out, qfs_spans_count(record->spans));
  memcpy(out, spans, spans_len);
  return out + spans_len;
}

GBytes *qfs_record_canonical(const QfsRecord *record) {
  gsize tail_len;
  const guint8 *tail = g_bytes_get_data(record->tail, &tail_len);
  gsize total = qfs_record_head_size(record) + tail_len;
  guint8 *bytes = g_malloc(total);
  guint8 *end = qfs_record_encode_head(record, bytes);

  if (tail_len > 0)
    memcpy(end, tail, tail_len);
  return g_bytes_new_take(bytes, total);
}

/* Sum of `head` followed by `rest`, without a copy when there is much. `head` has room for
 * STACK_BYTES when head_len + rest_len fits into it. */
static guint64 sum_of_two(guint8 *head, gsize head_len, gconstpointer rest, gsize rest_len) {
  if (rest_len == 0)
    return XXH3_64bits(head, head_len);
  if (head_len + rest_len <= STACK_BYTES) {
    memcpy(head + head_len, rest, rest_len);
    return XXH3_64bits(head, head_len + rest_len);
  }
  XXH3_state_t *state = XXH3_createState();
  g_assert(state != NULL);
  XXH3_64bits_reset(state);
  XXH3_64bits_update(state, head, head_len);
  XXH3_64bits_update(state, rest, rest_len);
  guint64 sum = XXH3_64bits_digest(state);
  XXH3_freeState(state);
  return sum;
}

/* Sum of `prefix`, key, timestamp, seq, head and `rest`. */
static guint64 record_sum(const QfsRecord *record, const guint8 *prefix, gsize prefix_len,
                          gconstpointer rest, gsize rest_len) {
  gsize key_bytes = strlen(record->key) + 1;
  gsize len = prefix_len + key_bytes + 2 * 8 + qfs_record_head_size(record);
  guint8 stack[STACK_BYTES];
  g_autofree guint8 *heap = len > sizeof stack ? g_malloc(len) : NULL;
  guint8 *start = heap != NULL ? heap : stack;
  guint8 *out = start;

  if (prefix_len > 0)
    memcpy(out, prefix, prefix_len);
  out += prefix_len;
  memcpy(out, record->key, key_bytes);
  out += key_bytes;
  out = qfs_put_u64(out, record->timestamp);
  out = qfs_put_u64(out, record->seq);
  out = qfs_record_encode_head(record, out);
  g_assert((gsize)(out - start) == len);
  return sum_of_two(start, len, rest, rest_len);
}

guint64 qfs_record_checksum(const QfsRecord *record) {
  gsize tail_len;
  gconstpointer tail = g_bytes_get_data(record->tail, &tail_len);
  return record_sum(record, NULL, 0, tail, tail_len);
}

guint64 qfs_record_version_digest(const QfsRecord *record) {
  QfsRecord version = *record;
  version.seq = 0;
  return record_sum(&version, NULL, 0, NULL, 0);
}

guint64 qfs_record_head_checksum(const QfsRecord *record, guint64 checksum, gboolean hint) {
  guint8 prefix[1 + 8];

  prefix[0] = hint ? 1 : 0;
  qfs_put_u64(prefix + 1, checksum);
  return record_sum(record, prefix, sizeof prefix, NULL, 0);
}

static guint8 *encode_chunk_head(guint8 *out, QfsObjectId object, guint64 index, guint64 version,
                                 guint64 seq) {
  out = qfs_put_u64(out, object.placement);
  out = qfs_put_u64(out, object.unique);
  out = qfs_put_u64(out, index);
  out = qfs_put_u64(out, version);
  return qfs_put_u64(out, seq);
}

guint64 qfs_chunk_checksum(QfsObjectId object, guint64 index, guint64 version, guint64 seq,
                           GBytes *data) {
  guint8 head[STACK_BYTES];
  guint8 *end = encode_chunk_head(head, object, index, version, seq);
  gsize data_len = 0;
  gconstpointer bytes = data != NULL ? g_bytes_get_data(data, &data_len) : NULL;
  return sum_of_two(head, (gsize)(end - head), bytes, data_len);
}

guint64 qfs_chunk_head_checksum(QfsObjectId object, guint64 index, guint64 version, guint64 seq,
                                guint64 checksum) {
  guint8 head[6 * 8];
  guint8 *end = qfs_put_u64(encode_chunk_head(head, object, index, version, seq), checksum);
  return XXH3_64bits(head, (gsize)(end - head));
}

guint64 qfs_digest(gconstpointer data, gsize len) {
  return XXH3_64bits(len > 0 ? data : "", len);
}

guint64 qfs_key_hash(const char *key) {
  guint64 hash = XXH3_64bits(key, strlen(key));
  return hash != 0 ? hash : 1; /* 0 would read as "no object" in a QfsObjectId */
}
