/* replica_fixture.h - a replica in a temporary directory, records to put into it, and SQL beside
 * it. */
#pragma once

#include "storage/replica.h"
#include "tests/unit/remove_tree.h"

#include <glib/gstdio.h>
#include <sqlite3.h>
#include <string.h>

typedef struct {
  char *dir;
  QfsReplica *replica;
} Fixture;

static inline void fixture_open(Fixture *fixture) {
  g_autoptr(GError) error = NULL;
  fixture->replica = qfs_sqlite_replica_open(fixture->dir, 3, TRUE, FALSE, &error);
  g_assert_no_error(error);
  g_assert_nonnull(fixture->replica);
}

static inline void fixture_set_up(Fixture *fixture, gconstpointer data) {
  g_autoptr(GError) error = NULL;
  fixture->dir = g_dir_make_tmp("qfs-replica-XXXXXX", &error);
  g_assert_no_error(error);
  fixture_open(fixture);
}

static inline void fixture_close(Fixture *fixture) {
  g_clear_pointer(&fixture->replica, qfs_replica_close);
}

static inline void fixture_tear_down(Fixture *fixture, gconstpointer data) {
  fixture_close(fixture);
  remove_tree(fixture->dir);
  g_free(fixture->dir);
}

static inline QfsReplica *fixture_reader(Fixture *fixture) {
  g_autoptr(GError) error = NULL;
  QfsReplica *reader = qfs_sqlite_replica_open_reader(fixture->dir, &error);
  g_assert_no_error(error);
  return reader;
}

/* What is in front of the tables (storage/front.h) goes into them. */
static inline void settle(QfsReplica *replica) {
  g_autoptr(GPtrArray) rows = g_ptr_array_new_with_free_func((GDestroyNotify)qfs_record_unref);
  gboolean more;
  g_assert_true(replica->ops->record_scan(replica, 0, NULL, 1, rows, &more, NULL)); /* a scan reads the tables alone */
}

/* Runs SQL as someone with the sqlite3 shell would, after everything went into the tables. */
static inline void raw_sql(Fixture *fixture, const char *sql) {
  if (fixture->replica != NULL)
    settle(fixture->replica);
  g_autofree char *path = g_build_filename(fixture->dir, "replica.db", NULL);
  sqlite3 *db = NULL;
  g_assert_cmpint(sqlite3_open(path, &db), ==, SQLITE_OK);
  sqlite3_exec(db, sql, NULL, NULL, NULL);
  g_assert_cmpstr(sqlite3_errmsg(db), ==, "not an error");
  g_assert_cmpint(sqlite3_close(db), ==, SQLITE_OK);
}

/* The first column of the first row; NULL when there is none. */
static inline char *raw_text(Fixture *fixture, const char *sql) {
  if (fixture->replica != NULL)
    settle(fixture->replica);
  g_autofree char *path = g_build_filename(fixture->dir, "replica.db", NULL);
  sqlite3 *db = NULL;
  sqlite3_stmt *statement = NULL;
  g_assert_cmpint(sqlite3_open(path, &db), ==, SQLITE_OK);
  g_assert_cmpint(sqlite3_prepare_v2(db, sql, -1, &statement, NULL), ==, SQLITE_OK);
  char *text = sqlite3_step(statement) == SQLITE_ROW
                   ? g_strdup((const char *)sqlite3_column_text(statement, 0))
                   : NULL;
  sqlite3_finalize(statement);
  g_assert_cmpint(sqlite3_close(db), ==, SQLITE_OK);
  return text;
}

static inline void set_tail(QfsRecord *record, gconstpointer bytes, gsize len) {
  g_bytes_unref(record->tail);
  record->tail = g_bytes_new(bytes, len);
}

static inline QfsRecord *value_of(const char *key, guint64 timestamp, guint64 seq,
                                  const char *text) {
  QfsRecord *record = qfs_record_new(key);
  record->timestamp = timestamp;
  record->seq = seq;
  record->kind = QFS_KIND_VALUE;
  record->attr.mode = 0100644;
  record->attr.size = strlen(text);
  record->digest = qfs_digest(text, strlen(text));
  set_tail(record, text, strlen(text));
  return record;
}

static inline void begin(QfsReplica *replica) {
  g_autoptr(GError) error = NULL;
  g_assert_true(replica->ops->begin(replica, &error));
  g_assert_no_error(error);
}

static inline void commit(QfsReplica *replica) {
  g_autoptr(GError) error = NULL;
  g_assert_true(replica->ops->commit(replica, FALSE, &error));
  g_assert_no_error(error);
}

static inline void store_meta(QfsReplica *replica, const QfsNodeMeta *meta) {
  begin(replica);
  g_assert_true(replica->ops->meta_store(replica, meta, NULL));
  commit(replica);
}

/* Within an open transaction. */
static inline QfsApplyResult apply(QfsReplica *replica, const QfsRecord *record,
                                   gboolean force) {
  g_autoptr(GError) error = NULL;
  QfsApplyResult result = (QfsApplyResult)-1;
  g_assert_true(replica->ops->record_apply(replica, record, force, &result, &error));
  g_assert_no_error(error);
  return result;
}

/* In a transaction of its own. */
static inline QfsApplyResult put(QfsReplica *replica, const QfsRecord *record) {
  begin(replica);
  QfsApplyResult result = apply(replica, record, FALSE);
  commit(replica);
  return result;
}

static inline QfsApplyResult put_text(QfsReplica *replica, const char *key, guint64 timestamp,
                                      guint64 seq, const char *text) {
  g_autoptr(QfsRecord) record = value_of(key, timestamp, seq, text);
  return put(replica, record);
}

static inline QfsRecord *get(QfsReplica *replica, const char *key) {
  g_autoptr(GError) error = NULL;
  QfsRecord *record = NULL;
  g_assert_true(replica->ops->record_get(replica, key, &record, &error));
  g_assert_no_error(error);
  return record;
}

static inline void assert_text(QfsReplica *replica, const char *key, const char *text) {
  g_autoptr(QfsRecord) record = get(replica, key);
  if (text == NULL) {
    g_assert_null(record);
    return;
  }
  g_assert_nonnull(record);
  g_assert_cmpmem(g_bytes_get_data(record->tail, NULL), g_bytes_get_size(record->tail), text,
                  strlen(text));
}

static inline void put_chunk(QfsReplica *replica, QfsObjectId object, guint64 index,
                             guint64 version, guint64 seq, const char *text) {
  g_autoptr(GError) error = NULL;
  g_autoptr(GBytes) data = g_bytes_new(text, strlen(text));
  QfsChunk chunk = {.object = object, .index = index, .version = version, .seq = seq, .data = data};
  begin(replica);
  g_assert_true(replica->ops->chunk_put(replica, &chunk, &error));
  g_assert_no_error(error);
  commit(replica);
}

static inline QfsReplicaStats stats_of(QfsReplica *replica) {
  g_autoptr(GError) error = NULL;
  QfsReplicaStats stats = {0};
  g_assert_true(replica->ops->stats(replica, &stats, &error));
  g_assert_no_error(error);
  return stats;
}

static inline GPtrArray *new_records(void) {
  return g_ptr_array_new_with_free_func((GDestroyNotify)qfs_record_unref);
}
static inline GPtrArray *new_chunks(void) {
  return g_ptr_array_new_with_free_func((GDestroyNotify)qfs_chunk_free);
}

static inline void assert_same(const QfsRecord *found, const QfsRecord *expected) {
  g_assert_nonnull(found);
  g_assert_cmpstr(found->key, ==, expected->key);
  g_assert_cmpuint(found->timestamp, ==, expected->timestamp);
  g_assert_cmpuint(found->seq, ==, expected->seq);
  g_assert_cmpint(found->kind, ==, expected->kind);
  g_assert_cmpuint(found->attr.mode, ==, expected->attr.mode);
  g_assert_cmpuint(found->attr.uid, ==, expected->attr.uid);
  g_assert_cmpuint(found->attr.gid, ==, expected->attr.gid);
  g_assert_cmpuint(found->attr.rdev, ==, expected->attr.rdev);
  g_assert_cmpuint(found->attr.size, ==, expected->attr.size);
  g_assert_cmpint(found->attr.atime_ns, ==, expected->attr.atime_ns);
  g_assert_cmpint(found->attr.mtime_ns, ==, expected->attr.mtime_ns);
  g_assert_cmpint(found->attr.ctime_ns, ==, expected->attr.ctime_ns);
  g_assert_cmpint(found->attr.btime_ns, ==, expected->attr.btime_ns);
  g_assert_true(qfs_object_equal(found->object, expected->object));
  g_assert_cmpuint(found->tail_offset, ==, expected->tail_offset);
  g_assert_true(g_bytes_equal(found->tail, expected->tail));
  g_assert_true(g_bytes_equal(found->xattrs, expected->xattrs));
  g_assert_true(g_bytes_equal(found->spans, expected->spans));
  g_assert_cmpuint(found->digest, ==, expected->digest);
}

/* Extremes of every field; `bytes` of tail. */
static inline QfsRecord *full_record(const char *key, gsize bytes) {
  g_autofree guint8 *tail = g_malloc(bytes + 1);
  QfsRecord *record = qfs_record_new(key);

  for (gsize i = 0; i < bytes; i++)
    tail[i] = (guint8)(i * 7);
  record->timestamp = G_MAXUINT64;
  record->seq = QFS_SEQ((1 << 28) - 1, ((guint64)1 << 35) - 1);
  record->kind = QFS_KIND_SPECIAL;
  record->attr = (QfsAttr){.mode = G_MAXUINT32,
                           .uid = G_MAXUINT32 - 1,
                           .gid = G_MAXUINT32 - 2,
                           .rdev = G_MAXUINT64,
                           .size = QFS_VALUE_MAX,
                           .atime_ns = G_MININT64,
                           .mtime_ns = -1,
                           .ctime_ns = G_MAXINT64,
                           .btime_ns = 7};
  record->object = (QfsObjectId){G_MAXUINT64, (guint64)1 << 63};
  record->tail_offset = (guint64)1 << 63;
  record->digest = G_MAXUINT64 - 5;
  set_tail(record, tail, bytes);
  g_bytes_unref(record->xattrs);
  record->xattrs = g_bytes_new_static("\0user.x\0\xff", 9);
  g_bytes_unref(record->spans);
  record->spans = qfs_spans_new((guint64)1 << 63, G_MAXUINT64);
  return record;
}

/* g_test_add for a test over Fixture. */
#define ADD(path, function)                                                                        \
  g_test_add(path, Fixture, NULL, fixture_set_up, function, fixture_tear_down)
