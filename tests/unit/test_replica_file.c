/* The SQLite replica as a file: opening, damage, faults of the disk, crashes, and the log's length.
 */
#include "replica_fixture.h"

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static guint64 size_of(Fixture *fixture, const char *name) {
  g_autofree char *path = g_build_filename(fixture->dir, name, NULL);
  struct stat st;
  return stat(path, &st) == 0 ? (guint64)st.st_size : 0;
}

/* Opening as writer and as reader fails with `code` and, if not NULL, these words. */
static void assert_refused(Fixture *fixture, gboolean create, int code, const char *words) {
  g_autoptr(GError) error = NULL;
  g_autoptr(GError) reader_error = NULL;

  g_assert_null(qfs_sqlite_replica_open(fixture->dir, 3, create, FALSE, &error));
  g_assert_error(error, QFS_REPLICA_ERROR, code);
  g_assert_true(words == NULL || strstr(error->message, words) != NULL);
  g_assert_null(qfs_sqlite_replica_open_reader(fixture->dir, &reader_error));
  g_assert_error(reader_error, QFS_REPLICA_ERROR, code);
}

static void write_file(Fixture *fixture, const char *name, const char *bytes, gsize len) {
  g_autofree char *path = g_build_filename(fixture->dir, name, NULL);
  g_assert_true(g_file_set_contents(path, bytes, (gssize)len, NULL));
}

/* Where there is no replica, opening says so and makes nothing. */
static void absent_is_told(Fixture *fixture, gconstpointer data) {
  g_autofree char *deep = g_build_filename(fixture->dir, "x", "y", NULL);
  g_autoptr(GError) error = NULL;

  g_assert_null(qfs_sqlite_replica_open(deep, 3, FALSE, FALSE, &error));
  g_assert_error(error, QFS_REPLICA_ERROR, QFS_REPLICA_ERROR_ABSENT);
  g_assert_false(g_file_test(deep, G_FILE_TEST_EXISTS));

  g_autoptr(QfsReplica) made = qfs_sqlite_replica_open(deep, 60, TRUE, FALSE, NULL);
  g_assert_nonnull(made);
  QfsNodeMeta meta;
  g_assert_true(made->ops->meta_load(made, &meta, NULL));
  g_assert_cmpuint(meta.node, ==, 60);

  /* A file that was cut to nothing holds no replica either; nothing of its log comes back. */
  put_text(fixture->replica, "k", 1, 1, "x");
  fixture_close(fixture);
  write_file(fixture, "replica.db", "", 0);
  assert_refused(fixture, FALSE, QFS_REPLICA_ERROR_ABSENT, "holds no replica");
  fixture_open(fixture);
  assert_text(fixture->replica, "k", NULL);
}

/* A deleted file's log is not taken for a new file's. */
static void orphaned_log_is_ignored(Fixture *fixture, gconstpointer data) {
  g_autofree char *path = g_build_filename(fixture->dir, "replica.db", NULL);
  g_autofree char *log = g_build_filename(fixture->dir, "replica.db-wal", NULL);
  g_autofree char *bytes = NULL;
  gsize len;

  put_text(fixture->replica, "k", 1, 1, "x");
  g_assert_true(g_file_get_contents(log, &bytes, &len, NULL));
  g_assert_cmpuint(len, >, 0);
  fixture_close(fixture);
  g_assert_cmpint(g_remove(path), ==, 0);
  write_file(fixture, "replica.db-wal", bytes, len);
  fixture_open(fixture);
  assert_text(fixture->replica, "k", NULL);
}

/* There is one writer, and the second is told why. */
static void second_writer_is_refused(Fixture *fixture, gconstpointer data) {
  g_autoptr(GError) error = NULL;

  g_assert_null(qfs_sqlite_replica_open(fixture->dir, 3, TRUE, FALSE, &error));
  g_assert_error(error, QFS_REPLICA_ERROR, QFS_REPLICA_ERROR_IO);
  g_assert_true(g_str_has_suffix(error->message, "is in use by another process"));
  put_text(fixture->replica, "k", 1, 1, "x"); /* the first is not disturbed */
  fixture_close(fixture);
  fixture_open(fixture);
  assert_text(fixture->replica, "k", "x");
}

/* A file of a newer format, or of another program, is refused and not changed. */
static void foreign_files_are_refused(Fixture *fixture, gconstpointer data) {
  fixture_close(fixture);
  raw_sql(fixture, "PRAGMA user_version = 9");
  assert_refused(fixture, TRUE, QFS_REPLICA_ERROR_FORMAT, "has schema version 9");
  g_autofree char *version = raw_text(fixture, "PRAGMA user_version");
  g_assert_cmpstr(version, ==, "9");

  raw_sql(fixture, "PRAGMA user_version = 1; PRAGMA application_id = 77");
  assert_refused(fixture, TRUE, QFS_REPLICA_ERROR_FOREIGN, "another program");

  g_autofree char *path = g_build_filename(fixture->dir, "replica.db", NULL);
  g_assert_cmpint(g_remove(path), ==, 0);
  raw_sql(fixture, "CREATE TABLE mine (x)");
  assert_refused(fixture, TRUE, QFS_REPLICA_ERROR_FOREIGN, "another program");
}

/* What version 4 brought is taken away. */
#define TO_SCHEMA_3                                                                                \
  "DROP INDEX record_object; ALTER TABLE record DROP COLUMN spans;"                                \
  "ALTER TABLE intent DROP COLUMN spans;"

/* A file of schema version 3 is brought up: the tables are those of a new one, the rows are what they were
 * and pass their sums. */
static void schema_3_is_migrated(Fixture *fixture, gconstpointer data) {
  static const char tables[] = "SELECT group_concat(sql) FROM sqlite_schema WHERE tbl_name IN"
                               " ('record', 'intent', 'keys') AND sql IS NOT NULL ORDER BY name";
  g_autofree char *fresh = raw_text(fixture, tables);
  g_autoptr(QfsRecord) record = full_record("a/b", 5000);
  record->timestamp = 77;
  g_bytes_unref(record->spans); /* there were none */
  record->spans = g_bytes_new_static("", 0);
  record->object = (QfsObjectId){5, 6};
  put(fixture->replica, record);
  g_autoptr(GPtrArray) batch = g_ptr_array_new();
  g_ptr_array_add(batch, record);
  begin(fixture->replica);
  g_assert_true(fixture->replica->ops->intent_put(fixture->replica, 7, batch, NULL));
  commit(fixture->replica);
  fixture_close(fixture);
  raw_sql(fixture, TO_SCHEMA_3 "PRAGMA user_version = 3");
  fixture_open(fixture);
  g_autofree char *migrated = raw_text(fixture, tables);
  g_assert_cmpstr(migrated, ==, fresh);
  g_autoptr(QfsRecord) found = get(fixture->replica, "a/b");
  assert_same(found, record);
  g_assert_true(qfs_record_owns(found, 0) && qfs_record_owns(found, record->timestamp) &&
                !qfs_record_owns(found, record->timestamp + 1));
  g_autoptr(GPtrArray) intent = NULL;
  g_assert_true(fixture->replica->ops->intent_get(fixture->replica, 7, &intent, NULL));
  assert_same(intent->pdata[0], record);
}

/* A file of schema version 2 is brought up, and its metadata is what it was. */
static void old_schema_is_migrated(Fixture *fixture, gconstpointer data) {
  QfsNodeMeta meta = {.node = 3, .mark = 7, .has_view = TRUE};
  meta.view = (QfsView){.nodes = 5, .replicas = 3, .epoch = 9, .n_unsettled = 2};
  meta.view.unsettled[0] = (QfsViewSet){0x1f, 3};
  meta.view.unsettled[1] = (QfsViewSet){0x0f, 3};
  store_meta(fixture->replica, &meta);
  fixture_close(fixture);
  raw_sql(fixture, TO_SCHEMA_3 "ALTER TABLE view_unsettled DROP COLUMN replicas;"
                   "DELETE FROM meta WHERE name IN ('wiped', 'view_tidy', 'view_former_nodes', 'view_void_below', 'view_passed');"
                   "PRAGMA user_version = 2");
  fixture_open(fixture);
  QfsNodeMeta found;
  g_assert_true(fixture->replica->ops->meta_load(fixture->replica, &found, NULL));
  g_assert_cmpmem(&found, sizeof found, &meta, sizeof meta);
  meta.view.unsettled[1].replicas = 2;
  store_meta(fixture->replica, &meta);
  fixture_close(fixture);
  fixture_open(fixture);
  g_assert_true(fixture->replica->ops->meta_load(fixture->replica, &found, NULL));
  g_assert_cmpuint(found.view.unsettled[1].replicas, ==, 2);
}

/* What is no database at all is corrupt. */
static void garbage_is_refused(Fixture *fixture, gconstpointer data) {
  g_autofree char *garbage = g_strnfill(20000, 'g');

  fixture_close(fixture);
  write_file(fixture, "replica.db", garbage, 20000);
  assert_refused(fixture, TRUE, QFS_REPLICA_ERROR_CORRUPT, "replica.db");
  write_file(fixture, "replica.db", "SQLite format 3", 16);
  assert_refused(fixture, TRUE, QFS_REPLICA_ERROR_CORRUPT, NULL);
}

static void assert_failed(gboolean ok, GError *error, QfsReplicaError code, const char *words) {
  g_assert_false(ok);
  g_assert_error(error, QFS_REPLICA_ERROR, (gint)code);
  g_assert_true(strstr(error->message, words) != NULL);
  g_error_free(error);
}
/* `call` hands over &error. */
#define ASSERT_FAILED(call, code, words)                                                           \
  do {                                                                                             \
    GError *error = NULL;                                                                          \
    gboolean call_ok = (call);                                                                     \
    assert_failed(call_ok, error, code, words);                                                    \
  } while (0)
#define ASSERT_CORRUPT(call, words) ASSERT_FAILED(call, QFS_REPLICA_ERROR_CORRUPT, words)
#define ASSERT_BAD_ROW(call, words) ASSERT_FAILED(call, QFS_REPLICA_ERROR_BAD_ROW, words)

/* Every way of reading the record "d/k" must find the damage; a listing only that of what it shows.
 */
static void assert_record_damage(Fixture *fixture, const char *sql, gboolean is_in_tail) {
  QfsReplica *replica = fixture->replica;
  g_autoptr(QfsReplica) reader = fixture_reader(fixture);
  g_autoptr(GPtrArray) out = new_records();
  g_autoptr(QfsRecord) good = value_of("d/k", 5, 5, "some text");
  QfsRecord *found = (QfsRecord *)0x1;
  QfsApplyResult result;
  gboolean more;

  begin(replica);
  apply(replica, good, TRUE);
  commit(replica);
  g_ptr_array_add(out, qfs_record_ref(good)); /* stays, whatever fails */
  raw_sql(fixture, sql);
  ASSERT_BAD_ROW(reader->ops->record_get(reader, "d/k", &found, &error), "d/k");
  g_assert_true(found == (QfsRecord *)0x1);
  ASSERT_BAD_ROW(reader->ops->record_scan(reader, 0, NULL, 9, out, &more, &error), "d/k");
  if (!is_in_tail)
    ASSERT_BAD_ROW(reader->ops->record_list(reader, "d", NULL, 9, FALSE, out, &more, &error), "d/k");
  g_assert_cmpuint(out->len, ==, 1);

  /* Neither a new version nor a retry is judged by a rotten one ... */
  begin(replica);
  ASSERT_BAD_ROW(replica->ops->record_apply(replica, good, FALSE, &result, &error), "d/k");
  g_assert_false(replica->ops->commit(replica, FALSE, NULL));
  replica->ops->rollback(replica);
  /* ... but repair overwrites it. */
  begin(replica);
  g_assert_cmpint(apply(replica, good, TRUE), ==, QFS_APPLY_APPLIED);
  commit(replica);
  assert_text(reader, "d/k", "some text");
}

/* A change of any stored column is found by its checksum, in every way of reading. */
static void damaged_record_is_found(Fixture *fixture, gconstpointer data) {
  static const char *const columns[] = {
      "seq",           "kind",        "mode",         "uid",
      "gid",           "rdev",        "size",         "atime_ns",
      "mtime_ns",      "ctime_ns",    "btime_ns",     "digest",
      "checksum",      "hint",        "timestamp",    "object_placement",
      "object_unique", "tail_offset", "head_checksum"};

  put_text(fixture->replica, "d/k", 1, 1, "x");
  for (guint i = 0; i < G_N_ELEMENTS(columns); i++) {
    g_autofree char *sql = g_strdup_printf("UPDATE record SET %s = %s + 1", columns[i], columns[i]);
    assert_record_damage(fixture, sql, FALSE);
  }
  assert_record_damage(fixture, "UPDATE record SET xattrs = x'00'", FALSE);
  assert_record_damage(fixture, "UPDATE record SET data = CAST('same text' AS BLOB)", TRUE);
  assert_record_damage(fixture, "UPDATE record SET data = x''", TRUE);
  assert_record_damage(fixture, "UPDATE record SET size = 'nine'", FALSE);
}

/* A flipped bit in the name of a column: nobody can use the table as it is. */
static void damaged_schema_is_found(Fixture *fixture, gconstpointer data) {
  g_autoptr(QfsRecord) found = NULL;

  put_text(fixture->replica, "k", 1, 1, "x");
  fixture_close(fixture);
  raw_sql(fixture, "ALTER TABLE record RENAME COLUMN tail_offset TO tail_offseu");
  fixture_open(fixture);
  ASSERT_FAILED(fixture->replica->ops->record_get(fixture->replica, "k", &found, &error), QFS_REPLICA_ERROR_CORRUPT,
                "tail_offset");
}

/* A timestamp that rotted doesn't turn a newer version away. */
static void damaged_timestamp_is_found(Fixture *fixture, gconstpointer data) {
  QfsReplica *replica = fixture->replica;
  g_autoptr(QfsRecord) newer = value_of("k", 6, 6, "new");
  QfsApplyResult result;

  put_text(replica, "k", 5, 5, "old");
  raw_sql(fixture, "UPDATE record SET timestamp = 4611686018427387909");
  fixture_close(fixture); /* who wrote the row himself knows better: heads.h */
  fixture_open(fixture);
  replica = fixture->replica;
  begin(replica);
  ASSERT_BAD_ROW(replica->ops->record_apply(replica, newer, FALSE, &result, &error),
                 "\"k\"");
  replica->ops->rollback(replica);
}

static guint64 print_of(QfsReplica *replica, const char *key) {
  guint64 print = 7;
  g_assert_true(replica->ops->record_print(replica, key, &print, NULL));
  return print;
}

static gboolean mend(QfsReplica *replica, const char *key, guint64 print, const QfsRecord *record) {
  gboolean done = 7;
  begin(replica);
  g_assert_true(replica->ops->record_mend(replica, key, print, record, &done, NULL));
  commit(replica);
  return done;
}

/* A bad row is named, and replaced only while it is the one that was looked at. */
static void bad_row_is_mended(Fixture *fixture, gconstpointer data) {
  QfsReplica *replica = fixture->replica;
  g_autoptr(QfsRecord) good = value_of("d/k", 5, 5, "good");
  QfsRecord *found = NULL;

  put_text(replica, "d/k", 5, 5, "good");
  guint64 healthy = print_of(replica, "d/k");
  raw_sql(fixture, "UPDATE record SET data = 'bad!'");
  ASSERT_BAD_ROW(replica->ops->record_get(replica, "d/k", &found, &error), "d/k");
  g_assert_false(replica->ops->bad_row(replica)->is_chunk);
  g_assert_cmpstr(replica->ops->bad_row(replica)->key, ==, "d/k");
  guint64 print = print_of(replica, "d/k");
  g_assert_cmpuint(print, !=, healthy);
  g_assert_cmpuint(print_of(replica, "other"), ==, 0);
  g_assert_false(mend(replica, "d/k", healthy, good));
  g_assert_false(mend(replica, "other", 0, good));
  g_assert_true(mend(replica, "d/k", print, good));
  assert_text(replica, "d/k", "good");
  g_assert_cmpuint(print_of(replica, "d/k"), ==, healthy);
  g_assert_false(mend(replica, "d/k", print, NULL));
  assert_text(replica, "d/k", "good");
  raw_sql(fixture, "UPDATE record SET mode = 1");
  g_assert_true(mend(replica, "d/k", print_of(replica, "d/k"), NULL));
  g_assert_cmpuint(print_of(replica, "d/k"), ==, 0);
}

/* Damage of a chunk is found by a get and by a scan, that of its data by reading the data. */
static void damaged_chunk_is_found(Fixture *fixture, gconstpointer data) {
  static const char *const damages[] = {
      "UPDATE chunk SET seq = seq + 1", "UPDATE chunk SET checksum = checksum + 1",
      "UPDATE chunk SET head_checksum = 0", "UPDATE chunk SET version = version + 1",
      "UPDATE chunk SET data = x'00'"};
  const QfsObjectId object = {1, 2};
  QfsReplica *replica = fixture->replica;

  for (guint i = 0; i < G_N_ELEMENTS(damages); i++) {
    g_autoptr(GPtrArray) out = new_chunks();
    QfsChunk *chunk = NULL;
    gboolean more, is_in_data = strstr(damages[i], "data") != NULL;
    begin(replica);
    g_assert_true(replica->ops->wipe(replica, NULL));
    commit(replica);
    put_chunk(replica, object, 0, 5, 5, "text");
    raw_sql(fixture, damages[i]);
    ASSERT_BAD_ROW(replica->ops->chunk_get(replica, object, 0, 99, &chunk, NULL, &error),
                   "chunk 0 of object 1-2");
    ASSERT_BAD_ROW(replica->ops->chunk_scan(replica, 0, NULL, TRUE, 9, out, &more, &error),
                   "chunk 0");
    g_assert_cmpuint(out->len, ==, 0);
    if (is_in_data)
      g_assert_true(replica->ops->chunk_scan(replica, 0, NULL, FALSE, 9, out, &more, NULL));
    else
      ASSERT_BAD_ROW(replica->ops->chunk_scan(replica, 0, NULL, FALSE, 9, out, &more, &error),
                     "chunk 0");
  }
}

/* A row of an intent or of the metadata that changed or vanished is missed. */
static void damaged_intent_and_metadata_are_found(Fixture *fixture, gconstpointer data) {
  QfsReplica *replica = fixture->replica;
  g_autoptr(GPtrArray) records = new_records();
  GPtrArray *found = NULL;
  QfsNodeMeta meta = {.node = 3, .has_view = TRUE, .view = {.nodes = 3, .n_unsettled = 2}};

  for (guint i = 0; i < 3; i++)
    g_ptr_array_add(records, value_of("k", i, i, "x"));
  begin(replica);
  for (guint id = 1; id <= 3; id++)
    g_assert_true(replica->ops->intent_put(replica, id, records, NULL));
  g_assert_true(replica->ops->meta_store(replica, &meta, NULL));
  commit(replica);
  raw_sql(fixture, "DELETE FROM intent WHERE id = 1 AND pos = 2;"
                   "DELETE FROM intent WHERE id = 2 AND pos = 0;"
                   "UPDATE intent SET data = 'y' WHERE id = 3 AND pos = 1");
  ASSERT_CORRUPT(replica->ops->intent_get(replica, 1, &found, &error), "intent 1");
  ASSERT_CORRUPT(replica->ops->intent_get(replica, 2, &found, &error), "intent 2");
  ASSERT_CORRUPT(replica->ops->intent_get(replica, 3, &found, &error), "\"k\"");

  static const char *const damages[] = {
      "UPDATE meta SET value = value + 1 WHERE name = 'mark'", "DELETE FROM view_unsettled",
      "UPDATE view_node SET in_sync = 1 - in_sync", "INSERT INTO view_node VALUES (65,0,0,0,0)"};
  for (guint i = 0; i < G_N_ELEMENTS(damages); i++) {
    QfsNodeMeta loaded;
    meta.mark = i;
    begin(replica);
    g_assert_true(replica->ops->meta_store(replica, &meta, NULL));
    commit(replica);
    raw_sql(fixture, damages[i]);
    ASSERT_CORRUPT(replica->ops->meta_load(replica, &loaded, &error), "replica.db");
    fixture_close(fixture); /* opened again, everything is stored anew */
    fixture_open(fixture);
    replica = fixture->replica;
    begin(replica);
    g_assert_true(replica->ops->meta_store(replica, &meta, NULL));
    commit(replica);
    raw_sql(fixture, "DELETE FROM view_node WHERE node > 64");
    g_assert_true(replica->ops->meta_load(replica, &loaded, NULL));
  }
}

/* Whatever page of the file is damaged, reading gives what was stored, nothing, or an error. */
static void damaged_pages_never_lie(Fixture *fixture, gconstpointer data) {
  g_autoptr(GRand) rand = g_rand_new_with_seed(11);
  g_autofree char *path = g_build_filename(fixture->dir, "replica.db", NULL);
  g_autofree char *bytes = NULL;
  gsize len;

  for (guint i = 0; i < 200; i++) {
    g_autofree char *key = g_strdup_printf("dir/key%u", i);
    put_text(fixture->replica, key, i + 1, i + 1, key);
  }
  fixture_close(fixture);
  g_assert_true(g_file_get_contents(path, &bytes, &len, NULL));
  for (guint round = 0; round < 150; round++) {
    g_autofree char *damaged = g_memdup2(bytes, len);
    for (guint i = 0; i < 20; i++)
      damaged[g_rand_int_range(rand, 100, (gint32)len)] ^=
          (char)(1 << g_rand_int_range(rand, 0, 8));
    write_file(fixture, "replica.db", damaged, len);
    g_autoptr(QfsReplica) reader = qfs_sqlite_replica_open_reader(fixture->dir, NULL);
    for (guint i = 0; reader != NULL && i < 200; i++) {
      g_autofree char *key = g_strdup_printf("dir/key%u", i);
      g_autoptr(QfsRecord) record = NULL;
      if (reader->ops->record_get(reader, key, &record, NULL) && record != NULL)
        g_assert_cmpmem(g_bytes_get_data(record->tail, NULL), g_bytes_get_size(record->tail), key,
                        strlen(key));
    }
    g_autoptr(GPtrArray) out = new_records();
    gboolean more;
    if (reader != NULL && reader->ops->record_scan(reader, 0, NULL, 500, out, &more, NULL))
      for (guint i = 0; i < out->len; i++)
        g_assert_cmpuint(((QfsRecord *)g_ptr_array_index(out, i))->timestamp, <=, 200);
  }
}

/* What was committed is there after the process died without closing anything. */
static void survives_kill(Fixture *fixture, gconstpointer data) {
  fixture_close(fixture);
  pid_t child = fork();
  if (child == 0) {
    fixture_open(fixture);
    for (guint i = 0; i < 100; i++) {
      g_autofree char *key = g_strdup_printf("k%u", i);
      put_text(fixture->replica, key, 1, i, key);
    }
    g_autoptr(QfsRecord) open = value_of("open", 1, 1, "x");
    begin(fixture->replica);
    apply(fixture->replica, open, FALSE);
    _exit(0);
  }
  int status = -1;
  g_assert_cmpint(waitpid(child, &status, 0), ==, child);
  g_assert_cmpint(status, ==, 0);
  g_assert_cmpuint(size_of(fixture, "replica.db-wal"), >, 0);
  g_autoptr(QfsReplica) reader = fixture_reader(fixture); /* recovers the log by itself */
  assert_text(reader, "k7", "k7");
  fixture_open(fixture);
  assert_text(fixture->replica, "k99", "k99");
  assert_text(fixture->replica, "open", NULL);
  g_assert_cmpuint(stats_of(fixture->replica).records, ==, 100);
}

static guint64 write_much(Fixture *fixture, guint rounds, QfsReplica *reader, guint64 *timestamp) {
  guint64 longest = 0;

  for (guint i = 0; i < rounds; i++) {
    g_autofree char *key = g_strdup_printf("k%u", i % 20);
    g_autofree char *text = g_strnfill(50000, (char)('a' + ++*timestamp % 26)); /* no page stays */
    put_text(fixture->replica, key, *timestamp, *timestamp, text);
    if (reader != NULL) {
      g_autoptr(QfsRecord) record = get(reader, key);
      g_assert_cmpuint(record->timestamp, ==, *timestamp);
    }
    g_assert_true(fixture->replica->ops->checkpoint(fixture->replica, FALSE, NULL));
    longest = MAX(longest, size_of(fixture, "replica.db-wal"));
  }
  return longest;
}

/* The log stays short under constant writing and reading; with `everything` it becomes empty. */
static void checkpoint_bounds_log(Fixture *fixture, gconstpointer data) {
  g_autoptr(QfsReplica) reader = fixture_reader(fixture);
  guint64 timestamp = 0;

  g_assert_cmpuint(write_much(fixture, 1000, reader, &timestamp), <, 8 * 1024 * 1024);
  g_assert_true(fixture->replica->ops->checkpoint(fixture->replica, TRUE, NULL));
  g_assert_cmpuint(size_of(fixture, "replica.db-wal"), ==, 0);
}

/* A reader that keeps its snapshot holds the log up; when it lets go, the log is short again. */
static void reader_holds_log_up_for_a_while(Fixture *fixture, gconstpointer data) {
  g_autofree char *path = g_build_filename(fixture->dir, "replica.db", NULL);
  guint64 timestamp = 0;
  sqlite3 *db = NULL;

  put_text(fixture->replica, "k", 1, 1, "x");
  g_assert_cmpint(sqlite3_open(path, &db), ==, SQLITE_OK);
  sqlite3_exec(db, "BEGIN; SELECT count(*) FROM record", NULL, NULL, NULL);
  g_assert_cmpuint(write_much(fixture, 400, NULL, &timestamp), >, 8 * 1024 * 1024);
  g_assert_true(fixture->replica->ops->checkpoint(fixture->replica, TRUE, NULL));
  sqlite3_exec(db, "COMMIT", NULL, NULL, NULL);
  g_assert_cmpint(sqlite3_close(db), ==, SQLITE_OK);

  write_much(fixture, 400, NULL, &timestamp);
  guint64 frames_before = size_of(fixture, "replica.db-wal");
  write_much(fixture, 400, NULL, &timestamp);
  g_assert_cmpuint(size_of(fixture, "replica.db-wal"), ==, frames_before);
  g_assert_cmpuint(frames_before, <=, 17 * 1024 * 1024);
}

/* People read a replica with the sqlite3 shell. */
static void file_is_readable_by_people(Fixture *fixture, gconstpointer data) {
  put_text(fixture->replica, "kv/colour", G_MAXUINT64 - 1, 1, "blue");
  put_text(fixture->replica, "top", 1764547200000, 1, "x");
  put_chunk(fixture->replica, (QfsObjectId){G_MAXUINT64, 7}, 0, 1764547200000, 1, "text");
  const char *const questions[][2] = {
      {"select data from record where name = 'colour'", "blue"},
      {"select value from keys where key = 'kv/colour'", "blue"},
      {"select timestamp from keys where key = 'kv/colour'", "18446744073709551614"},
      {"select kind from keys where key = 'top'", "value"},
      {"select timestamp from record where dir = '' and name = 'top'", "1764547200000"},
      {"select object_placement || ' ' || object_unique || ' ' || version from chunks",
       "18446744073709551615 7 1764547200000"},
      {"select value from meta where name = 'node'", "3"},
      {"pragma integrity_check", "ok"}};
  for (guint i = 0; i < G_N_ELEMENTS(questions); i++) {
    g_autofree char *answer = raw_text(fixture, questions[i][0]);
    g_assert_cmpstr(answer, ==, questions[i][1]);
  }
}

typedef struct {
  const char *dir;
  int stop; /* atomic */
  guint reads;
} Reading;

static gpointer read_until_told(gpointer data) {
  Reading *reading = data;
  g_autoptr(QfsReplica) reader = qfs_sqlite_replica_open_reader(reading->dir, NULL);
  guint64 latest = 0;

  do {
    g_autoptr(QfsRecord) record = get(reader, "k");
    g_autoptr(GPtrArray) page = new_records();
    gboolean more;
    g_assert_cmpuint(record->timestamp, >=, latest);
    latest = record->timestamp;
    g_assert_true(reader->ops->record_scan(reader, 0, NULL, 10, page, &more, NULL));
    g_assert_cmpuint(page->len, ==, 2);
    reading->reads++;
  } while (!g_atomic_int_get(&reading->stop));
  return NULL;
}

/* Readers in other threads see versions rise, each whole, while the writer writes and checkpoints.
 */
static void readers_run_beside_the_writer(Fixture *fixture, gconstpointer data) {
  Reading readings[3] = {{.dir = fixture->dir}, {.dir = fixture->dir}, {.dir = fixture->dir}};
  GThread *threads[3];

  put_text(fixture->replica, "other", 1, 1, "x");
  put_text(fixture->replica, "k", 1, 1, "x");
  settle(fixture->replica); /* scans of a reader see the tables: storage/front.h */
  for (guint i = 0; i < 3; i++)
    threads[i] = g_thread_new("reader", read_until_told, &readings[i]);
  for (guint64 i = 2; i < 3000; i++) {
    g_autofree char *text = g_strnfill(i * 7 % 20000, 'x');
    put_text(fixture->replica, "k", i, i, text);
    g_assert_true(fixture->replica->ops->checkpoint(fixture->replica, i % 500 == 0, NULL));
  }
  for (guint i = 0; i < 3; i++) {
    g_atomic_int_set(&readings[i].stop, 1);
    g_thread_join(threads[i]);
    g_assert_cmpuint(readings[i].reads, >, 0);
  }
}

int main(int argc, char **argv) {
  g_test_init(&argc, &argv, NULL);
  ADD("/storage/replica/absence-is-told-and-nothing-made", absent_is_told);
  ADD("/storage/replica/orphaned-log-is-ignored", orphaned_log_is_ignored);
  ADD("/storage/replica/second-writer-is-refused", second_writer_is_refused);
  ADD("/storage/replica/newer-and-foreign-files-are-refused", foreign_files_are_refused);
  ADD("/storage/replica/schema-version-3-is-brought-up", schema_3_is_migrated);
  ADD("/storage/replica/schema-version-2-is-brought-up", old_schema_is_migrated);
  ADD("/storage/replica/garbage-is-refused", garbage_is_refused);
  ADD("/storage/replica/damaged-record-is-found", damaged_record_is_found);
  ADD("/storage/replica/damaged-schema-is-found", damaged_schema_is_found);
  ADD("/storage/replica/damaged-timestamp-is-found-by-apply", damaged_timestamp_is_found);
  ADD("/storage/replica/bad-row-is-mended-if-it-is-still-that-one", bad_row_is_mended);
  ADD("/storage/replica/damaged-chunk-is-found", damaged_chunk_is_found);
  ADD("/storage/replica/damaged-intent-and-metadata-are-found",
      damaged_intent_and_metadata_are_found);
  ADD("/storage/replica/damaged-pages-never-lie", damaged_pages_never_lie);
  ADD("/storage/replica/commits-survive-kill", survives_kill);
  ADD("/storage/replica/checkpoint-bounds-the-log", checkpoint_bounds_log);
  ADD("/storage/replica/reader-holds-the-log-up-for-a-while", reader_holds_log_up_for_a_while);
  ADD("/storage/replica/file-is-readable-by-people", file_is_readable_by_people);
  ADD("/storage/replica/readers-run-beside-the-writer", readers_run_beside_the_writer);
  return g_test_run();
}
