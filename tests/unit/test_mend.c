/* Damage of replicas below a running store: what was damaged is answered from a good copy, and mended. */
#include "engine_fixture.h"

#include <sqlite3.h>

#define KEYS 60

static sqlite3 *open_replica(Fixture *f, guint node) {
  g_autofree char *path = g_strdup_printf("%s/node-%u/replica.db", f->config.store, node);
  sqlite3 *db = NULL;
  g_assert_cmpint(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL), ==, SQLITE_OK);
  sqlite3_busy_timeout(db, 5000);
  /* Whoever moves the log into the file counts as one who damages it. */
  sqlite3_exec(db, "PRAGMA wal_autocheckpoint = 0", NULL, NULL, NULL);
  return db;
}

/* Runs SQL on a node's replica as someone with the sqlite3 shell would; returns how many rows changed. */
static int run_sql(Fixture *f, guint node, const char *sql) {
  sqlite3 *db = open_replica(f, node);
  g_assert_cmpint(sqlite3_exec(db, sql, NULL, NULL, NULL), ==, SQLITE_OK);
  const int changed = sqlite3_changes(db);
  sqlite3_close(db);
  return changed;
}

/* The first column of all rows, each followed by ';'. */
static char *query(Fixture *f, guint node, const char *sql) {
  sqlite3 *db = open_replica(f, node);
  sqlite3_stmt *statement = NULL;
  GString *text = g_string_new(NULL);
  g_assert_cmpint(sqlite3_prepare_v2(db, sql, -1, &statement, NULL), ==, SQLITE_OK);
  while (sqlite3_step(statement) == SQLITE_ROW)
    g_string_append_printf(text, "%s;", (const char *)sqlite3_column_text(statement, 0));
  sqlite3_finalize(statement);
  sqlite3_close(db);
  return g_string_free(text, FALSE);
}

static void put_keys(Fixture *f) {
  for (guint i = 0; i < KEYS; i++) {
    g_autofree char *key = g_strdup_printf("key%u", i);
    g_assert_cmpint(put(f, key, key), ==, QFS_OK);
  }
}

static void assert_keys(Fixture *f) {
  for (guint i = 0; i < KEYS; i++) {
    g_autofree char *key = g_strdup_printf("key%u", i);
    QfsStatus status = QFS_OK;
    g_autofree char *value = get(f, key, &status);
    g_assert_cmpint(status, ==, QFS_OK);
    g_assert_cmpstr(value, ==, key);
  }
}

typedef gboolean (*Holds)(Fixture *f, const QfsEngineStatus *status);

static void wait_until(Fixture *f, Holds holds) {
  const gint64 until_us = g_get_monotonic_time() + DEADLINE_S * G_USEC_PER_SEC;
  for (gboolean done = FALSE; !done;) {
    QfsEngineStatus *status = qfs_engine_status(f->engine);
    done = holds(f, status);
    if (!done && g_get_monotonic_time() > until_us)
      g_error("waited in vain: quorum %d, unsettled %" G_GUINT64_FORMAT ", bad %" G_GUINT64_FORMAT "+%" G_GUINT64_FORMAT
              ", mended %" G_GUINT64_FORMAT, status->quorum, status->unsettled, status->count.bad_records,
              status->count.bad_chunks, status->count.mended_records);
    qfs_engine_status_free(status);
    g_usleep(2000);
  }
}

static gboolean is_settled(Fixture *f, const QfsEngineStatus *status) {
  guint in_sync = 0;
  for (guint i = 0; i < status->nodes; i++)
    in_sync += status->node[i].in_sync ? 1 : 0;
  return in_sync == status->nodes && status->unsettled == 0 && status->quorum;
}

#define DUMP "SELECT dir || '/' || name || ' ' || timestamp || ' ' || digest || ' ' || checksum || ' ' || hint" \
             " FROM record WHERE name <> 'pushes' ORDER BY dir, name"

static gboolean all_mended(Fixture *f, const QfsEngineStatus *status) {
  return status->count.bad_records > 0 && status->count.mended_records == status->count.bad_records;
}

static gboolean all_mended_that_gets_met(Fixture *f, const QfsEngineStatus *status) {
  if (status->count.bad_records == 0)
    assert_keys(f);
  return all_mended(f, status);
}

static void test_get(Fixture *f, gconstpointer data) {
  /* Every record at one node rots: gets still answer, and those that they met are as before. */
  put_keys(f);
  wait_until(f, is_settled);
  g_autofree char *before = query(f, 2, DUMP);
  const int n = run_sql(f, 2, "UPDATE record SET data = data || x'00' WHERE kind = 1");
  g_assert_cmpint(n, >, 10);
  assert_keys(f);
  /* A node that answered late is not asked for a while: until then no get meets its rows. */
  wait_until(f, all_mended_that_gets_met);
  wait_until(f, is_settled);
  /* Not all of them were met. Each that was good is as it was, each that was bad is as it was, or still bad. */
  g_autofree char *after = query(f, 2, DUMP);
  g_assert_cmpstr(after, ==, before);
  g_autofree char *left = query(f, 2, "SELECT count(*) FROM record WHERE kind = 1 AND hex(data) LIKE '%00'");
  g_assert_cmpint(atoi(left), <, n);
  QfsEngineStatus *status = qfs_engine_status(f->engine);
  g_assert_cmpuint(status->count.mended_records, ==, (guint)(n - atoi(left)));
  g_assert_cmpuint(status->count.rebuilt, ==, 0);
  qfs_engine_status_free(status);
}

static void test_put(Fixture *f, gconstpointer data) {
  /* Every record at one node rots so that nothing can be compared with it: puts and deletes go on, and reach
   * that node, too. */
  put_keys(f);
  wait_until(f, is_settled);
  close_engine(f); /* a node knows of no row that an earlier one of its lives wrote */
  g_assert_cmpint(run_sql(f, 3, "UPDATE record SET mode = mode + 1 WHERE kind = 1"), >, 10);
  open_engine(f);
  put_keys(f);
  assert_keys(f);
  wait_until(f, all_mended);
  wait_until(f, is_settled);
  g_autofree char *left = query(f, 3, "SELECT count(*) FROM record WHERE kind = 1 AND mode <> 33188");
  g_assert_cmpstr(left, ==, "0;");
  QfsEngineStatus *status = qfs_engine_status(f->engine);
  g_assert_cmpuint(status->count.rebuilt, ==, 0);
  qfs_engine_status_free(status);
}

static void test_put_needs_row(Fixture *f, gconstpointer data) {
  /* With two replicas a put needs both. One of them has a bad row there: the put waits until that is mended, which
   * must not wait for the put; and a rename, which keeps its keys locked, neither. */
  close_engine(f);
  remove_tree(f->config.store);
  f->config.nodes = f->config.replicas = 2;
  open_engine(f);
  put_keys(f);
  wait_until(f, is_settled);
  g_assert_cmpint(run_sql(f, 2, "UPDATE record SET mode = mode + 1 WHERE kind = 1"), ==, KEYS);
  for (guint i = 0; i < KEYS; i += 2) {
    g_autofree char *key = g_strdup_printf("key%u", i), *to = g_strdup_printf("key%u", i + 1);
    QfsRequest *request = qfs_request_new(QFS_REQUEST_RENAME, key, NULL, NULL);
    request->key2 = g_strdup(to);
    g_assert_cmpint(run_request(f, request), ==, QFS_OK);
    qfs_request_free(request);
    g_assert_cmpint(put(f, key, key), ==, QFS_OK);
    g_assert_cmpint(put(f, to, to), ==, QFS_OK);
  }
  assert_keys(f);
  wait_until(f, is_settled);
  QfsEngineStatus *status = qfs_engine_status(f->engine);
  g_assert_cmpuint(status->count.rebuilt, ==, 0);
  g_assert_cmpuint(status->count.timed_out, ==, 0);
  qfs_engine_status_free(status);
}

/* Scrub. */

static void scrub(Fixture *f, guint flags) {
  QfsRequest *request = qfs_request_new(QFS_REQUEST_SCRUB, NULL, NULL, NULL);
  request->flags = flags;
  g_assert_cmpint(run_request(f, request), ==, QFS_OK);
  qfs_request_free(request);
}

static gboolean scrub_is_done(Fixture *f, const QfsEngineStatus *status) {
  return status->scrub_runs > 0 && !status->scrub_wanted;
}

static void assert_scrubbed(Fixture *f, guint bad, guint mended) {
  wait_until(f, scrub_is_done);
  QfsEngineStatus *status = qfs_engine_status(f->engine);
  g_assert_cmpuint(status->scrub_last_bad, ==, bad);
  g_assert_cmpuint(status->scrub_last_mended, ==, mended);
  g_assert_cmpuint(status->scrub_last_lost, ==, 0);
  qfs_engine_status_free(status);
}

/* What waits in front of the tables is moved there when something new is settled. */
static void move_into_tables(Fixture *f) {
  g_assert_cmpint(put(f, "pushes", "x"), ==, QFS_OK);
  wait_until(f, is_settled);
}

static void test_scrub(Fixture *f, gconstpointer data) {
  /* A scrub finds every bad row and every difference, and afterwards each replica is as before. */
  put_keys(f);
  wait_until(f, is_settled);
  g_autofree char *before1 = query(f, 1, DUMP), *before2 = query(f, 2, DUMP), *before3 = query(f, 3, DUMP);
  const int rotten = run_sql(f, 2, "UPDATE record SET data = data || x'00' WHERE kind = 1");
  const int gone = run_sql(f, 1, "DELETE FROM record WHERE kind = 1 AND rowid % 2 = 0");
  g_assert_cmpint(rotten, >, 5);
  g_assert_cmpint(gone, >, 2);
  scrub(f, QFS_SCRUB_VERIFY);
  assert_scrubbed(f, (guint)rotten, (guint)(rotten + gone));
  move_into_tables(f);
  g_autofree char *after1 = query(f, 1, DUMP), *after2 = query(f, 2, DUMP), *after3 = query(f, 3, DUMP);
  g_assert_cmpstr(after1, ==, before1);
  g_assert_cmpstr(after2, ==, before2);
  g_assert_cmpstr(after3, ==, before3);
  assert_keys(f);
}

static void test_repair(Fixture *f, gconstpointer data) {
  /* A repair compares: it brings back what a replica lost and leaves data alone that it does not read; a scrub then
   * finds that, too. */
  put_keys(f);
  wait_until(f, is_settled);
  g_autofree char *before = query(f, 2, DUMP);
  const int gone = run_sql(f, 2, "DELETE FROM record WHERE kind = 1 AND rowid % 2 = 0");
  const int rotten = run_sql(f, 2, "UPDATE record SET data = data || x'00' WHERE kind = 1");
  scrub(f, 0);
  assert_scrubbed(f, 0, (guint)gone);
  scrub(f, QFS_SCRUB_VERIFY);
  assert_scrubbed(f, (guint)rotten, (guint)rotten);
  g_autofree char *after = query(f, 2, DUMP);
  g_assert_cmpstr(after, ==, before);
}

static void test_resurrected(Fixture *f, gconstpointer data) {
  /* A row that came back at one node out of nothing is not spread: it goes. */
  g_assert_cmpint(put(f, "kept", "x"), ==, QFS_OK);
  g_assert_cmpint(put(f, "ghost", "x"), ==, QFS_OK);
  wait_until(f, is_settled);
  guint node = 0, holders = 0;
  for (guint i = 1; i <= 5; i++) {
    g_autofree char *n = query(f, i, "SELECT count(*) FROM record WHERE name = 'ghost'");
    if (atoi(n) == 0)
      continue;
    holders++;
    if (node == 0)
      node = i;
    else
      run_sql(f, i, "DELETE FROM record WHERE name = 'ghost'");
  }
  g_assert_cmpuint(holders, ==, 3);
  scrub(f, 0);
  assert_scrubbed(f, 0, 1);
  g_autofree char *left = query(f, node, "SELECT count(*) FROM record WHERE name = 'ghost'");
  g_assert_cmpstr(left, ==, "0;");
  QfsStatus status;
  g_autofree char *kept = get(f, "kept", &status);
  g_assert_cmpstr(kept, ==, "x");
  g_assert_null(get(f, "ghost", &status));
  g_assert_cmpint(status, ==, QFS_NOT_FOUND);
}

#define CHUNK_DUMP "SELECT object_unique || ' ' || idx || ' ' || version || ' ' || checksum || ' ' || hex(substr(data, 1, 64))" \
                   " || length(data) FROM chunk ORDER BY object_placement, object_unique, idx, version"

static QfsStatus read_all(Fixture *f, const char *key, char **out) {
  QfsRequest *found = qfs_request_new(QFS_REQUEST_GET, key, NULL, NULL);
  g_assert_cmpint(run_request(f, found), ==, QFS_OK);
  QfsRequest *read = qfs_request_new(QFS_REQUEST_READ, NULL, NULL, NULL);
  read->record = qfs_record_ref(found->record);
  read->length = found->record->attr.size;
  const QfsStatus status = run_request(f, read);
  if (status == QFS_OK)
    *out = g_strndup(g_bytes_get_data(read->data, NULL), g_bytes_get_size(read->data));
  qfs_request_free(read);
  qfs_request_free(found);
  return status;
}

#define BIG_KEYS 8

static void put_big(Fixture *f, const char *value) {
  for (guint i = 0; i < BIG_KEYS; i++) {
    g_autofree char *key = g_strdup_printf("big%u", i);
    g_assert_cmpint(put(f, key, value), ==, QFS_OK);
  }
  wait_until(f, is_settled);
}

static void assert_big(Fixture *f, const char *value) {
  for (guint i = 0; i < BIG_KEYS; i++) {
    g_autofree char *key = g_strdup_printf("big%u", i);
    g_autofree char *got = NULL;
    g_assert_cmpint(read_all(f, key, &got), ==, QFS_OK);
    g_assert_cmpuint(strlen(got), ==, strlen(value));
    g_assert_true(strcmp(got, value) == 0);
  }
}

static void test_chunks(Fixture *f, gconstpointer data) {
  /* Chunks that rot at one node: reads are answered from the others, a scrub mends all of them. */
  g_autofree char *value = g_strnfill(1000000, 'v');
  put_big(f, value);
  g_autofree char *before = query(f, 2, CHUNK_DUMP);
  const int rotten = run_sql(f, 2, "UPDATE chunk SET data = data || x'00' WHERE rowid % 3 = 0");
  g_assert_cmpint(rotten, >, 5);
  assert_big(f, value);
  scrub(f, QFS_SCRUB_VERIFY);
  wait_until(f, scrub_is_done);
  QfsEngineStatus *status = qfs_engine_status(f->engine);
  g_assert_cmpuint(status->count.bad_chunks, ==, (guint)rotten);
  g_assert_cmpuint(status->count.mended_chunks, ==, (guint)rotten);
  g_assert_cmpuint(status->count.rebuilt, ==, 0);
  qfs_engine_status_free(status);
  g_autofree char *after = query(f, 2, CHUNK_DUMP);
  g_assert_cmpstr(after, ==, before);
}

static QfsStatus rename_key(Fixture *f, const char *from, const char *to) {
  QfsRequest *request = qfs_request_new(QFS_REQUEST_RENAME, from, NULL, NULL);
  request->key2 = g_strdup(to);
  const QfsStatus status = run_request(f, request);
  qfs_request_free(request);
  return status;
}

static gboolean some_are_mended(Fixture *f, const QfsEngineStatus *status) {
  g_autofree char *value = g_strnfill(1000000, 'v');
  assert_big(f, value);
  return status->count.mended_chunks > 0;
}

static void test_holes(Fixture *f, gconstpointer data) {
  /* Before anybody looks for rows that are gone: readers see no zeros in their place, and who writes in the middle of a
   * chunk keeps its other bytes. What they met is given back. */
  g_autofree char *value = g_strnfill(1000000, 'v');
  put_big(f, value);
  for (guint node = 2; node <= 3; node++) /* a chunk that is gone at both would be lost: half of them at each */
    g_assert_cmpint(run_sql(f, node, node == 2 ? "DELETE FROM chunk WHERE idx % 2 = 0" : "DELETE FROM chunk WHERE idx % 2 = 1"),
                    >, 5);
  wait_until(f, some_are_mended); /* a node that answered late is not asked for a while */
  memcpy(value + 200000, "patch", 5);
  for (guint i = 0; i < BIG_KEYS; i++) {
    g_autofree char *key = g_strdup_printf("big%u", i);
    g_assert_cmpint(patch(f, key, 200000, "patch"), ==, QFS_OK);
  }
  assert_big(f, value);
}

static gboolean no_chunk_is_superseded(Fixture *f, const QfsEngineStatus *status) {
  for (guint node = 1; node <= 5; node++) {
    g_autofree char *n = query(f, node, "SELECT count(*) FROM chunk AS old WHERE EXISTS (SELECT 1 FROM chunk AS new"
                                        " WHERE new.object_unique = old.object_unique AND new.idx = old.idx"
                                        " AND new.version > old.version)");
    if (atoi(n) > 0)
      return FALSE;
  }
  return is_settled(f, status);
}

static void test_missing_chunks(Fixture *f, gconstpointer flags) {
  /* Chunk rows that are gone at one node, of whatever write and under whatever name of the key, are given back by a
   * scrub, and by a repair, which reads no data. */
  g_autofree char *value = g_strnfill(1000000, 'v');
  put_big(f, value);
  for (guint i = 0; i < BIG_KEYS; i += 2) { /* data of several writes, and at other nodes than the record */
    g_autofree char *key = g_strdup_printf("big%u", i), *name = g_strdup_printf("moved%u", i);
    for (guint k = 0; k < 3; k++)
      g_assert_cmpint(patch(f, key, 1 + i * 65536 + k * 200000, "p"), ==, QFS_OK);
    g_assert_cmpint(rename_key(f, key, name), ==, QFS_OK);
    g_assert_cmpint(rename_key(f, name, key), ==, QFS_OK);
    g_assert_cmpint(rename_key(f, key, name), ==, QFS_OK);
  }
  wait_until(f, no_chunk_is_superseded);
  g_autofree char *before = query(f, 2, CHUNK_DUMP), *other = query(f, 3, CHUNK_DUMP);
  const int gone = run_sql(f, 2, "DELETE FROM chunk WHERE rowid % 3 < 2");
  g_assert_cmpint(gone, >, 20);
  scrub(f, GPOINTER_TO_UINT(flags));
  assert_scrubbed(f, 0, (guint)gone);
  g_autofree char *after = query(f, 2, CHUNK_DUMP), *other_after = query(f, 3, CHUNK_DUMP);
  g_assert_cmpstr(after, ==, before);
  g_assert_cmpstr(other_after, ==, other);
  QfsEngineStatus *status = qfs_engine_status(f->engine);
  g_assert_cmpuint(status->count.mended_chunks, ==, (guint)gone);
  g_assert_cmpuint(status->count.rebuilt, ==, 0);
  qfs_engine_status_free(status);
  scrub(f, GPOINTER_TO_UINT(flags)); /* nothing is left to do */
  assert_scrubbed(f, 0, 0);
}

static void test_unneeded_chunks(Fixture *f, gconstpointer data) {
  /* Chunk rows that no record has, at one node only, are not spread. */
  g_autofree char *value = g_strnfill(1000000, 'v');
  put_big(f, value);
  /* The sign bit of numbers in `chunk` is flipped. */
  const int gone = run_sql(f, 2, "DELETE FROM chunk WHERE object_unique = (SELECT CASE WHEN min(object_unique) < 0"
                                 " THEN min(object_unique) + 9223372036854775807 + 1"
                                 " ELSE min(object_unique) - 9223372036854775807 - 1 END"
                                 " FROM record WHERE tail_offset > 0)");
  g_assert_cmpint(gone, >, 10);
  g_autofree char *before = query(f, 2, CHUNK_DUMP);
  g_autofree char *name = query(f, 2, "SELECT name FROM record WHERE object_unique ="
                                      " (SELECT min(object_unique) FROM record WHERE tail_offset > 0)");
  g_autofree char *sql = g_strdup_printf("DELETE FROM record WHERE name || ';' = '%s'", name);
  int records = 0;
  for (guint node = 1; node <= 5; node++)
    records += run_sql(f, node, sql);
  g_assert_cmpint(records, ==, 3);
  scrub(f, QFS_SCRUB_VERIFY);
  assert_scrubbed(f, 0, 0);
  g_autofree char *after = query(f, 2, CHUNK_DUMP);
  g_assert_cmpstr(after, ==, before);
}

static gboolean a_scrub_ran(Fixture *f, const QfsEngineStatus *status) {
  return status->scrub_runs > 1 && status->scrub_last_verified && status->count.mended_records > 0;
}

static void test_schedule(Fixture *f, gconstpointer data) {
  /* By schedule, without a command. */
  close_engine(f);
  f->config.scrub_period_s = 1;
  open_engine(f);
  put_keys(f);
  wait_until(f, is_settled);
  g_autofree char *before = query(f, 4, DUMP);
  run_sql(f, 4, "UPDATE record SET data = data || x'00' WHERE kind = 1");
  wait_until(f, a_scrub_ran);
  wait_until(f, all_mended);
  g_autofree char *after = query(f, 4, DUMP);
  g_assert_cmpstr(after, ==, before);
}

/* Files changed behind the daemon's back. */

static gboolean node_two_is_back(Fixture *f, const QfsEngineStatus *status) {
  return status->count.rebuilt > 0 && is_settled(f, status);
}

static char *replica_path(Fixture *f, const char *name) {
  return g_strdup_printf("%s/node-2/%s", f->config.store, name);
}

static void assert_rebuilt(Fixture *f, const char *before, gboolean is_aside) {
  g_autofree char *aside = replica_path(f, "replica.damaged");
  wait_until(f, node_two_is_back);
  assert_keys(f);
  g_autofree char *after = query(f, 2, DUMP);
  g_assert_cmpstr(after, ==, before);
  QfsEngineStatus *status = qfs_engine_status(f->engine);
  g_assert_cmpint(status->node[1].aside != NULL, ==, is_aside);
  g_assert_cmpint(g_file_test(aside, G_FILE_TEST_EXISTS), ==, is_aside);
  g_assert_cmpuint(status->count.set_aside, ==, is_aside ? 1 : 0);
  qfs_engine_status_free(status);
}

/* What happens to the file while the store runs; `old` is a copy made before the keys were put. */
static void damage_file(Fixture *f, const char *how, const char *path, const char *old, gsize old_len) {
  g_autofree char *other = replica_path(f, "other");
  if (strcmp(how, "deleted") == 0) {
    g_assert_cmpint(g_unlink(path), ==, 0);
  } else if (strcmp(how, "truncated") == 0) {
    g_assert_cmpint(truncate(path, 5000), ==, 0);
  } else if (strcmp(how, "replaced") == 0) { /* by another file of the same name */
    g_assert_true(g_file_set_contents(other, old, (gssize)old_len, NULL));
    g_assert_cmpint(g_rename(other, path), ==, 0);
  } else { /* in its place */
    FILE *file = fopen(path, "r+");
    g_assert_nonnull(file);
    g_assert_cmpuint(fwrite(old, 1, old_len, file), ==, old_len);
    g_assert_cmpint(fclose(file), ==, 0);
    g_assert_cmpint(truncate(path, (off_t)old_len), ==, 0);
  }
}

static void test_file(Fixture *f, gconstpointer how) {
  /* It is noticed without a write or a restart, and no get is answered from it. */
  g_autofree char *path = replica_path(f, "replica.db");
  g_autofree char *old = NULL;
  gsize old_len = 0;
  g_assert_cmpint(put(f, "before", "x"), ==, QFS_OK);
  wait_until(f, is_settled);
  close_engine(f);
  g_assert_true(g_file_get_contents(path, &old, &old_len, NULL));
  open_engine(f);
  put_keys(f);
  wait_until(f, is_settled);
  g_autofree char *before = query(f, 2, DUMP);
  damage_file(f, how, path, old, old_len);
  assert_keys(f);
  assert_rebuilt(f, before, strcmp(how, "deleted") != 0);
}

static void test_file_at_start(Fixture *f, gconstpointer how) {
  /* The same while it is closed: found when it is opened. */
  g_autofree char *path = replica_path(f, "replica.db");
  g_autofree char *old = NULL;
  gsize old_len = 0;
  g_assert_cmpint(put(f, "before", "x"), ==, QFS_OK);
  wait_until(f, is_settled);
  close_engine(f);
  g_assert_true(g_file_get_contents(path, &old, &old_len, NULL));
  open_engine(f);
  put_keys(f);
  wait_until(f, is_settled);
  g_autofree char *before = query(f, 2, DUMP);
  close_engine(f);
  damage_file(f, how, path, old, old_len);
  open_engine(f);
  assert_keys(f);
  assert_rebuilt(f, before, strcmp(how, "deleted") != 0);
}

static void test_foreign(Fixture *f, gconstpointer data) {
  /* A database of another program in a replica's place is kept, and does not stop the node. */
  g_autofree char *path = replica_path(f, "replica.db");
  put_keys(f);
  wait_until(f, is_settled);
  g_autofree char *before = query(f, 2, DUMP);
  close_engine(f);
  g_assert_cmpint(g_unlink(path), ==, 0);
  sqlite3 *db = NULL;
  g_assert_cmpint(sqlite3_open(path, &db), ==, SQLITE_OK);
  g_assert_cmpint(sqlite3_exec(db, "CREATE TABLE t (a)", NULL, NULL, NULL), ==, SQLITE_OK);
  sqlite3_close(db);
  open_engine(f);
  assert_rebuilt(f, before, TRUE);
}

int main(int argc, char **argv) {
  g_test_init(&argc, &argv, NULL);
  g_log_set_always_fatal(G_LOG_LEVEL_ERROR | G_LOG_LEVEL_CRITICAL);
#define ADD(path, test) g_test_add("/cluster/mend/" path, Fixture, NULL, set_up, test, tear_down)
  ADD("gets-are-answered-and-what-they-met-is-mended", test_get);
  ADD("puts-go-on-and-reach-the-damaged-node", test_put);
  ADD("put-that-needs-the-bad-row-does-not-wait-for-itself", test_put_needs_row);
  ADD("scrub-mends-all", test_scrub);
  ADD("repair-compares-only", test_repair);
  ADD("chunks-are-mended-row-by-row", test_chunks);
  g_test_add("/cluster/mend/missing-chunks-are-found-by-scrub", Fixture, GUINT_TO_POINTER(QFS_SCRUB_VERIFY),
             set_up_without_faults, test_missing_chunks, tear_down);
  g_test_add("/cluster/mend/missing-chunks-are-found-by-repair", Fixture, GUINT_TO_POINTER(0), set_up_without_faults,
             test_missing_chunks, tear_down);
  ADD("missing-chunks-are-no-holes", test_holes);
  ADD("chunks-that-nobody-needs-do-not-spread", test_unneeded_chunks);
  ADD("resurrected-row-does-not-spread", test_resurrected);
  ADD("scrub-runs-by-schedule", test_schedule);
#undef ADD
  static const char *const ways[] = {"deleted", "truncated", "replaced", "overwritten"};
  for (guint i = 0; i < G_N_ELEMENTS(ways); i++) {
    g_autofree char *running = g_strdup_printf("/cluster/mend/file-%s-while-it-is-open", ways[i]);
    g_autofree char *closed = g_strdup_printf("/cluster/mend/file-%s-while-it-is-closed", ways[i]);
    g_test_add(running, Fixture, ways[i], set_up_without_faults, test_file, tear_down);
    g_test_add(closed, Fixture, ways[i], set_up_without_faults, test_file_at_start, tear_down);
  }
  g_test_add("/cluster/mend/foreign-file-is-set-aside", Fixture, NULL, set_up, test_foreign, tear_down);
  return g_test_run();
}
