/* Records: order of versions, canonical encoding, sums, keys. */
#include "storage/record.h"

#include <string.h>

static QfsRecord *value(const char *key, guint64 timestamp, const char *text) {
  QfsRecord *record = qfs_record_new(key);
  record->timestamp = timestamp;
  record->kind = QFS_KIND_VALUE;
  record->attr.mode = 0100644;
  record->attr.size = strlen(text);
  g_bytes_unref(record->tail);
  record->tail = g_bytes_new(text, strlen(text));
  record->digest = qfs_digest(text, strlen(text));
  return record;
}

/* A higher timestamp wins whatever the rest says, up to the end of the unsigned range. */
static void newer_timestamp_wins(void) {
  const guint64 ascending[] = {0,
                               1,
                               1000,
                               G_MAXINT64 - 1,
                               G_MAXINT64,
                               (guint64)G_MAXINT64 + 1,
                               (guint64)G_MAXINT64 + 2,
                               G_MAXUINT64 - 1,
                               G_MAXUINT64};

  for (guint i = 0; i < G_N_ELEMENTS(ascending); i++)
    for (guint j = 0; j < G_N_ELEMENTS(ascending); j++) {
      g_autoptr(QfsRecord) a = value("k", ascending[i], "zzz");
      g_autoptr(QfsRecord) b = value("k", ascending[j], "zzz");
      g_assert_cmpint(qfs_record_compare(a, b), ==, i < j ? -1 : i > j ? 1 : 0);
    }
  g_autoptr(QfsRecord) tombstone = qfs_record_new_tombstone("k", 5);
  g_autoptr(QfsRecord) later = value("k", 6, "a");
  g_assert_cmpint(qfs_record_compare(tombstone, later), <, 0);
}

/* At equal timestamps a tombstone beats every other kind. */
static void tombstone_beats_value(void) {
  for (QfsKind kind = QFS_KIND_VALUE; kind <= QFS_KIND_SPECIAL; kind++) {
    g_autoptr(QfsRecord) tombstone = qfs_record_new_tombstone("k", G_MAXUINT64);
    g_autoptr(QfsRecord) other = value("k", G_MAXUINT64, "zzzz");
    other->kind = kind;
    g_assert_cmpint(qfs_record_compare(tombstone, other), >, 0);
    g_assert_cmpint(qfs_record_compare(other, tombstone), <, 0);
  }
}

/* Absence is older than everything, and as old as itself. */
static void absent_is_oldest(void) {
  g_autoptr(QfsRecord) tombstone = qfs_record_new_tombstone("k", 0);

  g_assert_cmpint(qfs_record_compare(NULL, NULL), ==, 0);
  g_assert_cmpint(qfs_record_compare(NULL, tombstone), <, 0);
  g_assert_cmpint(qfs_record_compare(tombstone, NULL), >, 0);
  g_assert_false(qfs_record_exists(NULL));
  g_assert_false(qfs_record_exists(tombstone));
}

/* The operation that wrote a version is no part of its identity. */
static void seq_takes_no_part(void) {
  g_autoptr(QfsRecord) a = value("k", 3, "blue");
  g_autoptr(QfsRecord) b = qfs_record_copy(a);

  b->seq = QFS_SEQ(7, 9);
  g_assert_cmpint(qfs_record_compare(a, b), ==, 0);
  g_assert_cmpuint(qfs_record_checksum(a), !=, qfs_record_checksum(b));
  g_assert_cmpuint(QFS_SEQ_EPOCH(b->seq), ==, 7);
  g_assert_cmpuint(QFS_SEQ_COUNTER(b->seq), ==, 9);
}

static GBytes *random_bytes(GRand *rand) {
  guint8 bytes[6];
  gsize len = (gsize)g_rand_int_range(rand, 0, sizeof bytes + 1);
  for (gsize i = 0; i < len; i++)
    bytes[i] = (guint8)g_rand_int_range(rand, 0, 2);
  return g_bytes_new(bytes, len);
}

/* Few values per field, so that records often agree in most of them. */
static guint64 random_u64(GRand *rand) {
  const guint64 values[] = {0, 1, 255, (guint64)1 << 63, G_MAXUINT64};
  return values[g_rand_int_range(rand, 0, G_N_ELEMENTS(values))];
}

static QfsRecord *random_record(GRand *rand) {
  QfsRecord *record = qfs_record_new("k");
  record->timestamp = random_u64(rand) & 1;
  record->kind = (QfsKind)g_rand_int_range(rand, 0, 3);
  guint field = (guint)g_rand_int_range(rand, 0, 10);
  record->attr.mode = field == 0 ? (guint32)random_u64(rand) : 0;
  record->attr.size = field == 1 ? random_u64(rand) : 0;
  record->attr.rdev = field == 2 ? random_u64(rand) : 0;
  record->attr.mtime_ns = field == 3 ? (gint64)random_u64(rand) : 0;
  record->attr.uid = field == 4 ? (guint32)random_u64(rand) : 0;
  record->digest = field == 5 ? random_u64(rand) : 0;
  record->object.unique = field == 6 ? random_u64(rand) : 0;
  record->tail_offset = field == 7 ? random_u64(rand) : 0;
  g_bytes_unref(record->tail);
  g_bytes_unref(record->xattrs);
  record->tail = random_bytes(rand);
  record->xattrs = random_bytes(rand);
  return record;
}

/* The order is total: antisymmetric, transitive, and 0 only for the same encoding. */
static void order_is_total(void) {
  g_autoptr(GRand) rand = g_rand_new_with_seed(42);

  for (guint round = 0; round < 20000; round++) {
    g_autoptr(QfsRecord) a = random_record(rand);
    g_autoptr(QfsRecord) b = random_record(rand);
    g_autoptr(QfsRecord) c = random_record(rand);
    int ab = qfs_record_compare(a, b), bc = qfs_record_compare(b, c), ac = qfs_record_compare(a, c);
    g_assert_cmpint(ab, ==, -qfs_record_compare(b, a));
    if (ab <= 0 && bc <= 0)
      g_assert_cmpint(ac, <=, 0);
    if (ab >= 0 && bc >= 0)
      g_assert_cmpint(ac, >=, 0);
    g_autoptr(GBytes) a_bytes = qfs_record_canonical(a);
    g_autoptr(GBytes) b_bytes = qfs_record_canonical(b);
    gboolean is_same = a->timestamp == b->timestamp && g_bytes_equal(a_bytes, b_bytes);
    g_assert_cmpint(ab == 0, ==, is_same);
  }
}

typedef void (*Change)(QfsRecord *record);
static void change_kind(QfsRecord *r) {
  r->kind = QFS_KIND_SYMLINK;
}
static void change_mode(QfsRecord *r) {
  r->attr.mode++;
}
static void change_uid(QfsRecord *r) {
  r->attr.uid++;
}
static void change_gid(QfsRecord *r) {
  r->attr.gid++;
}
static void change_rdev(QfsRecord *r) {
  r->attr.rdev++;
}
static void change_size(QfsRecord *r) {
  r->attr.size++;
}
static void change_atime(QfsRecord *r) {
  r->attr.atime_ns--;
}
static void change_mtime(QfsRecord *r) {
  r->attr.mtime_ns--;
}
static void change_ctime(QfsRecord *r) {
  r->attr.ctime_ns--;
}
static void change_btime(QfsRecord *r) {
  r->attr.btime_ns--;
}
static void change_digest(QfsRecord *r) {
  r->digest++;
}
static void change_placement(QfsRecord *r) {
  r->object.placement++;
}
static void change_unique(QfsRecord *r) {
  r->object.unique++;
}
static void change_tail_offset(QfsRecord *r) {
  r->tail_offset++;
}
static void change_tail(QfsRecord *r) {
  g_bytes_unref(r->tail);
  r->tail = g_bytes_new_static("bluf", 4);
}
static void change_xattrs(QfsRecord *r) {
  g_bytes_unref(r->xattrs);
  r->xattrs = g_bytes_new_static("", 1);
}
static void change_nlink(QfsRecord *r) {
  r->attr.nlink++;
}
static void change_spans(QfsRecord *r) {
  g_bytes_unref(r->spans);
  r->spans = qfs_spans_new(0, 7);
}
/* The same bytes, cut differently between xattrs and what follows. */
static void move_the_border(QfsRecord *r) {
  g_bytes_unref(r->xattrs);
  r->xattrs = g_bytes_new_static("\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 24);
}

/* No two different records have the same encoding or the same checksum. */
static void every_field_is_encoded(void) {
  static const Change changes[] = {
      change_kind,   change_mode,      change_uid,    change_gid,         change_rdev,
      change_size,   change_atime,     change_mtime,  change_ctime,       change_btime,
      change_digest, change_placement, change_unique, change_tail_offset, change_tail,
      change_xattrs, change_nlink,     change_spans,  move_the_border};
  g_autoptr(QfsRecord) original = value("k", 3, "blue");
  g_autoptr(GBytes) bytes = qfs_record_canonical(original);

  for (guint i = 0; i < G_N_ELEMENTS(changes); i++) {
    g_autoptr(QfsRecord) changed = qfs_record_copy(original);
    changes[i](changed);
    g_autoptr(GBytes) changed_bytes = qfs_record_canonical(changed);
    g_assert_false(g_bytes_equal(bytes, changed_bytes));
    g_assert_cmpint(qfs_record_compare(original, changed), !=, 0);
    g_assert_cmpint(qfs_record_compare(original, changed), ==, -qfs_record_compare(changed, original));
    g_assert_cmpuint(qfs_record_checksum(original), !=, qfs_record_checksum(changed));
  }
  g_autoptr(QfsRecord) other_key = value("l", 3, "blue");
  g_autoptr(QfsRecord) other_time = value("k", 4, "blue");
  g_assert_cmpuint(qfs_record_checksum(original), !=, qfs_record_checksum(other_key));
  g_assert_cmpuint(qfs_record_checksum(original), !=, qfs_record_checksum(other_time));
}

/* The canonical encoding is what other versions of the program compute too: fixed for ever. */
static void encoding_never_changes(void) {
  static const guint8 expected[] = {1,                                              /* kind */
                                    0,    0,    0x81, 0xa4,                         /* mode */
                                    0,    0,    0,    1,                            /* uid */
                                    0,    0,    0,    2,                            /* gid */
                                    0,    0,    0,    0,    0,    0,    0,    3,    /* rdev */
                                    0,    0,    0,    0,    0,    0,    0,    2,    /* size */
                                    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, /* atime: -1 */
                                    0,    0,    0,    0,    0,    0,    0,    5,    /* mtime */
                                    0,    0,    0,    0,    0,    0,    0,    6,    /* ctime */
                                    0,    0,    0,    0,    0,    0,    0,    7,    /* btime */
                                    1,    2,    3,    4,    5,    6,    7,    8,    /* digest */
                                    0,    0,    0,    1,    'x',                    /* xattrs */
                                    0,    0,    0,    0,    0,    0,    0,    9,    /* object */
                                    0,    0,    0,    0,    0,    0,    0,    10,   /* */
                                    0,    0,    0,    0,    0,    0,    0,    11, /* tail_offset */
                                    'h',  'i'};
  g_autoptr(QfsRecord) record = value("k", 3, "hi");

  record->attr.uid = 1;
  record->attr.gid = 2;
  record->attr.rdev = 3;
  record->attr.atime_ns = -1;
  record->attr.mtime_ns = 5;
  record->attr.ctime_ns = 6;
  record->attr.btime_ns = 7;
  record->digest = G_GUINT64_CONSTANT(0x0102030405060708);
  record->object = (QfsObjectId){9, 10};
  record->tail_offset = 11;
  g_bytes_unref(record->xattrs);
  record->xattrs = g_bytes_new_static("x", 1);
  g_autoptr(GBytes) bytes = qfs_record_canonical(record);
  g_assert_cmpmem(g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes), expected,
                  sizeof expected);
  g_assert_cmpuint(qfs_digest("", 0), ==, G_GUINT64_CONSTANT(0x2d06800538d394c2)); /* XXH3("") */
  g_assert_cmpuint(qfs_digest(NULL, 0), ==, qfs_digest("", 0));
}

/* Sums don't depend on whether a value is short enough to be hashed in one piece. */
static void checksum_covers_long_values(void) {
  for (gsize len = 700; len < 1200; len++) {
    g_autofree char *text = g_strnfill(len, 'a');
    g_autoptr(QfsRecord) record = value("some/key", 1, text);
    guint64 sum = qfs_record_checksum(record);
    g_autoptr(QfsRecord) copy = qfs_record_copy(record);
    text[len - 1] = 'b';
    g_bytes_unref(copy->tail);
    copy->tail = g_bytes_new(text, len);
    g_assert_cmpuint(qfs_record_checksum(copy), !=, sum);
    g_autoptr(GBytes) data = g_bytes_new(text, len);
    g_assert_cmpuint(qfs_chunk_checksum((QfsObjectId){1, 2}, 3, 4, 5, data), !=,
                     qfs_chunk_checksum((QfsObjectId){1, 2}, 3, 4, 6, data));
  }
  g_autofree char *key = g_strnfill(QFS_KEY_MAX, 'k');
  g_autoptr(QfsRecord) record = value(key, 1, "blue");
  g_assert_cmpuint(qfs_record_checksum(record), ==, qfs_record_checksum(record));
}

/* A copy shares nothing that can change. */
static void copy_is_private(void) {
  g_autoptr(QfsRecord) record = value("a/b", 3, "blue");
  g_autoptr(QfsRecord) shared = qfs_record_ref(record);
  g_autoptr(QfsRecord) copy = qfs_record_copy(record);

  g_assert_true(shared == record);
  g_assert_true(copy != record && copy->key != record->key);
  copy->timestamp = 4;
  g_assert_cmpuint(record->timestamp, ==, 3);
  g_assert_cmpint(qfs_record_compare(record, copy), <, 0);
  qfs_record_unref(NULL);
}

static void check_split(const char *key, const char *dir, const char *name) {
  gsize dir_len;
  const char *found_name;

  qfs_key_split(key, &dir_len, &found_name);
  g_autofree char *found_dir = g_strndup(key, dir_len);
  g_autofree char *joined = qfs_key_join(dir, name);
  g_assert_cmpstr(found_dir, ==, dir);
  g_assert_cmpstr(found_name, ==, name);
  g_assert_cmpstr(joined, ==, key);
  g_autoptr(QfsRecord) record = qfs_record_new_in(dir, name);
  g_assert_cmpstr(record->key, ==, key);
  g_autoptr(QfsRecord) copy = qfs_record_copy(record);
  g_assert_cmpstr(copy->key, ==, key);
}

/* A key is directory and name, and joining them gives the key again. */
static void key_splits_at_last_slash(void) {
  check_split("", "", "");
  check_split("a", "", "a");
  check_split("a/b", "a", "b");
  check_split("a/b/c", "a/b", "c");
  /* The store's own keys never meet a user's. */
  check_split("/a", "/", "a");
  check_split("/a/b", "/a", "b");
  check_split("//a", "//", "a");

  g_assert_cmpstr(qfs_key_below("a", "a/b/c"), ==, "b/c");
  g_assert_null(qfs_key_below("a", "a"));
  g_assert_null(qfs_key_below("a", "ab/c"));
  g_autofree char *of_top = qfs_key_parent("a");
  g_autofree char *of_deep = qfs_key_parent("a/b/c");
  g_autofree char *of_root = qfs_key_parent("");
  g_autofree char *of_own = qfs_key_parent("/");
  g_assert_cmpstr(of_top, ==, "");
  g_assert_cmpstr(of_deep, ==, "a/b");
  g_assert_cmpstr(of_root, ==, "");
  g_assert_cmpstr(of_own, ==, "");
}

/* No two sequences of bytes share directory and name. */
static void key_split_loses_nothing(void) {
  g_autoptr(GRand) rand = g_rand_new_with_seed(7);

  for (guint round = 0; round < 20000; round++) {
    char key[8] = {0};
    for (gint i = 0, len = g_rand_int_range(rand, 0, sizeof key); i < len; i++)
      key[i] = "//a\xff"[g_rand_int_range(rand, 0, 4)];
    gsize dir_len;
    const char *name;
    qfs_key_split(key, &dir_len, &name);
    g_autofree char *dir = g_strndup(key, dir_len);
    g_autofree char *joined = qfs_key_join(dir, name);
    g_assert_cmpstr(joined, ==, key);
  }
}

static void check_validity(const char *key, gboolean valid, gboolean too_long) {
  gboolean found_too_long = !too_long;
  g_assert_cmpint(qfs_key_is_valid(key, &found_too_long), ==, valid);
  g_assert_cmpint(found_too_long, ==, too_long);
  g_assert_cmpint(qfs_key_is_valid(key, NULL), ==, valid);
}

/* Names are any bytes within the limits, but nothing that a path could mean otherwise. */
static void key_validity(void) {
  check_validity("", TRUE, FALSE);
  check_validity("a", TRUE, FALSE);
  check_validity("a/b\n\xff\x01 /c", TRUE, FALSE);
  check_validity("...", TRUE, FALSE);
  check_validity(".quorumfsx", TRUE, FALSE);
  check_validity("a/.quorumfs", TRUE, FALSE);
  check_validity("/a", FALSE, FALSE);
  check_validity("a/", FALSE, FALSE);
  check_validity("a//b", FALSE, FALSE);
  check_validity("/", FALSE, FALSE);
  check_validity(".", FALSE, FALSE);
  check_validity("a/..", FALSE, FALSE);
  check_validity("a/./b", FALSE, FALSE);
  check_validity(".quorumfs", FALSE, FALSE);
  check_validity(".quorumfs/status", FALSE, FALSE);

  g_autofree char *name = g_strnfill(QFS_NAME_MAX, 'n');
  g_autofree char *long_name = g_strnfill(QFS_NAME_MAX + 1, 'n');
  check_validity(name, TRUE, FALSE);
  check_validity(long_name, FALSE, TRUE);

  g_autoptr(GString) key = g_string_new(NULL);
  while (key->len < QFS_KEY_MAX)
    g_string_append(key, key->len % 2 == 0 ? "x" : "/");
  g_assert_cmpuint(key->len, ==, QFS_KEY_MAX);
  check_validity(key->str, TRUE, FALSE);
  g_string_append(key, "x");
  check_validity(key->str, FALSE, TRUE);
}

/* Placement hashes are of the bytes alone, and never 0. */
static void key_hash(void) {
  g_assert_cmpuint(qfs_key_hash("a/b"), ==, qfs_digest("a/b", 3));
  g_assert_cmpuint(qfs_key_hash(""), !=, 0);
  g_assert_cmpuint(qfs_key_hash("a"), !=, qfs_key_hash("b"));
}

int main(int argc, char **argv) {
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/storage/record/newer-timestamp-wins-as-unsigned", newer_timestamp_wins);
  g_test_add_func("/storage/record/tombstone-beats-value-at-equal-timestamps",
                  tombstone_beats_value);
  g_test_add_func("/storage/record/absent-is-older-than-everything", absent_is_oldest);
  g_test_add_func("/storage/record/seq-takes-no-part-in-the-order", seq_takes_no_part);
  g_test_add_func("/storage/record/order-is-total", order_is_total);
  g_test_add_func("/storage/record/every-field-is-encoded", every_field_is_encoded);
  g_test_add_func("/storage/record/encoding-never-changes", encoding_never_changes);
  g_test_add_func("/storage/record/checksum-covers-long-values", checksum_covers_long_values);
  g_test_add_func("/storage/record/copy-is-private", copy_is_private);
  g_test_add_func("/storage/key/splits-at-its-last-slash", key_splits_at_last_slash);
  g_test_add_func("/storage/key/splitting-loses-nothing", key_split_loses_nothing);
  g_test_add_func("/storage/key/is-valid-within-limits", key_validity);
  g_test_add_func("/storage/key/hash-is-never-zero", key_hash);
  return g_test_run();
}
