/* record.h - the unit that is stored, replicated and compared: one version of one key.
 *
 * Owns: the in-memory form of a record, its canonical encoding, the total order of versions, its
 * checksum, and how a key splits into directory and name. Leaves to others: where records live
 * (replica.h), which nodes hold them (cluster/placement.h), what a file operation means (cluster/plan.h).
 *
 * Invariants
 *  R1. A QfsRecord never changes once it was published (qfs_record_ref'd by anyone else): every
 *      change is a new record. So it may be shared between threads without a lock.
 *  R2. Versions of one key are totally ordered (qfs_record_compare): by timestamp as unsigned; at
 *      equal timestamps a tombstone beats anything, else memcmp of the canonical encoding decides.
 *  R3. A record holds whole state, never a difference: applying it needs no earlier version.
 *  R4. Bytes [0, tail_offset) of a value live in chunk rows of `object`; bytes
 *      [tail_offset, attr.size) are `tail` (shorter tail: the rest reads as zeros). A value without
 *      chunks has tail_offset 0 and a zero object id.
 *  R5. Of the object's rows those belong to a version that its spans name (qfs_record_spans); per index
 *      the newest of them counts. Every version that has chunks of the one before has its spans, too.
 *
 * Threading: the functions are pure; reference counts are atomic.
 */
#pragma once

#include "storage/spans.h"

G_BEGIN_DECLS

/* Limits (DESIGN section 1.16), in bytes. */
#define QFS_NAME_MAX 255
#define QFS_KEY_MAX 4095
/* A value written in one go stays inline up to this; beyond it goes to chunks. */
#define QFS_INLINE_MAX 65536
/* A tail that grew by appends or patches is moved into chunks beyond this. */
#define QFS_TAIL_MAX 16384
/* Bytes that one chunk row covers; 64 to 128 KiB is where SQLite blobs stop paying. */
#define QFS_CHUNK_SIZE 65536
/* Largest file: 2^62 bytes (so that offsets never overflow a signed 64-bit sum). */
#define QFS_VALUE_MAX (G_GUINT64_CONSTANT(1) << 62)

/* Operation sequence number: which operation of which coordinator epoch wrote a version. Catch-up
 * follows it because explicit timestamps give no usable order. epoch: 28 bits, counter: 35 bits; the
 * result fits a signed 64-bit SQLite integer. 0 means "none". */
#define QFS_SEQ_COUNTER_BITS 35
#define QFS_SEQ(epoch, counter) (((guint64)(epoch) << QFS_SEQ_COUNTER_BITS) | (guint64)(counter))
#define QFS_SEQ_EPOCH(seq) ((guint64)(seq) >> QFS_SEQ_COUNTER_BITS)
#define QFS_SEQ_COUNTER(seq) ((guint64)(seq) & ((G_GUINT64_CONSTANT(1) << QFS_SEQ_COUNTER_BITS) - 1))

/* Stored numbers: never renumber. */
typedef enum {
  QFS_KIND_TOMBSTONE = 0,
  QFS_KIND_VALUE = 1,     /* a regular file */
  QFS_KIND_DIRECTORY = 2,
  QFS_KIND_SYMLINK = 3,   /* the target is the tail */
  QFS_KIND_SPECIAL = 4,   /* fifo, socket, device: type in mode, device number in rdev */
  QFS_KIND_LINK = 5,      /* one of the names of a file: the tail is the key (below QFS_LINK_DIR) that the file has; its
                           * own mode and birth time are the file's, for listings */
} QfsKind;

typedef struct {
  guint32 mode;  /* st_mode: file type and permissions */
  guint32 uid;
  guint32 gid;
  guint32 nlink; /* LINKs that name it; 0: it is no such file */
  guint64 rdev;
  guint64 size;  /* bytes; 0 for directories and tombstones */
  gint64 atime_ns, mtime_ns, ctime_ns, btime_ns; /* nanoseconds since 1970, may be negative */
} QfsAttr;

/* Files that have, or had, several names are at keys of their own below this. */
#define QFS_LINK_DIR "/link"
/* As many names as ext4 gives a file. */
#define QFS_LINKS_MAX 65000

/* Names a value's chunk rows. `placement` decides the nodes (it is the hash of the key for which the
 * object was made, so at first chunks lie beside their record, and a rename leaves them alone);
 * `unique` is unique in the store. Both zero: no object. */
typedef struct {
  guint64 placement;
  guint64 unique;
} QfsObjectId;

typedef struct {
  gatomicrefcount refs;
  char *key;            /* path relative to the root, no leading or trailing '/'; "" is the root;
                         * keys that begin with '/' are the store's own and never visible */
  guint64 timestamp;
  guint64 seq;          /* operation that wrote this version; not part of the version's identity */
  QfsKind kind;
  QfsAttr attr;
  QfsObjectId object;
  guint64 tail_offset;
  GBytes *tail;         /* never NULL; may be empty */
  GBytes *xattrs;       /* never NULL; canonical list: see qfs_xattrs in fs/; opaque here */
  GBytes *spans;        /* never NULL; see spans.h; empty with an object: of the time before there were any */
  guint64 digest;       /* digest of the data: XXH3 of the bytes for inline values, chained for others */
} QfsRecord;

/* No bytes, always the same ones: a new reference. */
GBytes *qfs_bytes_none(void);

QfsRecord *qfs_record_new(const char *key);           /* zeroed, empty tail, xattrs and spans, kind TOMBSTONE */
/* The same of the key of `name` in `dir` (qfs_key_join). Key and record are one allocation: the key stays as it is. */
QfsRecord *qfs_record_new_in(const char *dir, const char *name);
QfsRecord *qfs_record_copy(const QfsRecord *record);  /* a private, changeable copy (bytes are shared) */
QfsRecord *qfs_record_ref(const QfsRecord *record);
void qfs_record_unref(QfsRecord *record);             /* accepts NULL */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QfsRecord, qfs_record_unref)

/* A tombstone of `key` at `timestamp` (seq 0, all else zero or empty). */
QfsRecord *qfs_record_new_tombstone(const char *key, guint64 timestamp);

static inline gboolean qfs_object_is_none(QfsObjectId id) { return id.placement == 0 && id.unique == 0; }
static inline gboolean qfs_object_equal(QfsObjectId a, QfsObjectId b) {
  return a.placement == b.placement && a.unique == b.unique;
}
static inline gboolean qfs_record_exists(const QfsRecord *record) {
  return record != NULL && record->kind != QFS_KIND_TOMBSTONE;
}

static inline gboolean qfs_record_is_link(const QfsRecord *record) {
  return record != NULL && record->kind == QFS_KIND_LINK;
}
/* A LINK at `key` that names `file`, which is at its key already. */
QfsRecord *qfs_record_new_link(const char *key, const QfsRecord *file, guint64 timestamp);
char *qfs_record_link_target(const QfsRecord *link); /* newly allocated */

/* The numbers of the chunk rows that belong to the version; records of before there were spans own what is not
 * above their timestamp. A new reference. */
GBytes *qfs_record_spans(const QfsRecord *record);
/* The greatest of them; 0: none. */
guint64 qfs_record_newest_write(const QfsRecord *record);
/* A changeable copy to make the next version of: its spans are spelt out. */
QfsRecord *qfs_record_successor(const QfsRecord *record);
/* Does the row of this write number belong to the version? */
gboolean qfs_record_owns(const QfsRecord *record, guint64 number);

/* <0, 0, >0 as version a is older than, the same as, newer than b (R2). Either may be NULL: absent,
 * older than everything. `seq` does not take part. */
int qfs_record_compare(const QfsRecord *a, const QfsRecord *b);

/* Canonical encoding used by the tie rule and by checksums: fixed-width big-endian fields in the order
 * kind, number of names, attributes, digest, xattrs, object, tail_offset, spans, tail. Timestamp, seq and key are not in it. */
GBytes *qfs_record_canonical(const QfsRecord *record);

/* XXH3 over key, timestamp, seq and canonical encoding: what the replica stores and verifies. */
guint64 qfs_record_checksum(const QfsRecord *record);

/* XXH3 over key, timestamp and all but the bytes of the tail, for which `digest` stands: which version it is,
 * wherever it came from. */
guint64 qfs_record_version_digest(const QfsRecord *record);

/* XXH3 over object, index, version, seq and data of one chunk row. */
guint64 qfs_chunk_checksum(QfsObjectId object, guint64 index, guint64 version, guint64 seq, GBytes *data);

/* XXH3 of bytes; used for digests. */
guint64 qfs_digest(gconstpointer data, gsize len);

/* Splits `key` at its last '/': *out_dir_len bytes of directory, the name begins at *out_name.
 * "a/b/c" -> "a/b", "c"; "a" -> "", "a"; "" -> "", "". The store's own "/a" is "a" in "/", not in "". */
void qfs_key_split(const char *key, gsize *out_dir_len, const char **out_name);
/* By directory, then by name: <0, 0, >0. */
int qfs_key_order(const char *a, const char *b);
char *qfs_key_join(const char *dir, const char *name);   /* newly allocated */
char *qfs_key_parent(const char *key);                    /* newly allocated; "" for top-level keys */
/* The path of `key` below `dir`, which is not the root: "a", "a/b/c" -> "b/c"; NULL: it is not below it. */
const char *qfs_key_below(const char *dir, const char *key);

/* Is `key` one that a user may store: length <= QFS_KEY_MAX, components 1..QFS_NAME_MAX bytes and none
 * of them "." or "..", no empty component, first component not ".quorumfs"; the root "" is valid.
 * *out_too_long (may be NULL) tells a length error from a malformed key. */
gboolean qfs_key_is_valid(const char *key, gboolean *out_too_long);

/* Placement hash of a key: XXH3 of its bytes, never 0. */
guint64 qfs_key_hash(const char *key);

G_END_DECLS
