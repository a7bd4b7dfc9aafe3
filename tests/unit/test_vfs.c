/* test_vfs.c - storage/vfs.h and storage/shm_locks.h: one write for what a commit adds to the log, and everybody else who
 * has the file open, by way of SQLite's own locks, is as safe as without. */
#include "fault_vfs.h"
#include "replica_fixture.h"

static void put_number(QfsReplica *replica, guint i) {
  g_autofree char *text = g_strdup_printf("%u", i);
  begin(replica);
  for (guint k = 0; k < 2; k++) {
    g_autofree char *key = g_strdup_printf("pair/%u", k);
    g_autoptr(QfsRecord) record = value_of(key, i, i, text);
    apply(replica, record, FALSE);
  }
  commit(replica);
}

static void a_commit_is_one_write(Fixture *fixture, gconstpointer data) {
  for (guint i = 1; i <= 3; i++)
    put_number(fixture->replica, i);
  guint writes = fault.writes;
  for (guint i = 4; i <= 13; i++)
    put_number(fixture->replica, i);
  g_assert_cmpuint(fault.writes, ==, writes + 10);
}

static sqlite3 *open_as_others_do(Fixture *fixture) {
  g_autofree char *path = g_build_filename(fixture->dir, "replica.db", NULL);
  sqlite3 *db = NULL;
  g_assert_cmpint(sqlite3_open(path, &db), ==, SQLITE_OK);
  return db;
}

/* The two values, of one snapshot. */
static void read_pair(sqlite3 *db, int *a, int *b) {
  sqlite3_stmt *statement = NULL;
  g_assert_cmpint(sqlite3_prepare_v2(db,
                                     "select cast(data as text) from record where dir = 'pair' or dir = 'pair/' order by name",
                                     -1, &statement, NULL),
                  ==, SQLITE_OK);
  g_assert_cmpint(sqlite3_step(statement), ==, SQLITE_ROW);
  *a = sqlite3_column_int(statement, 0);
  g_assert_cmpint(sqlite3_step(statement), ==, SQLITE_ROW);
  *b = sqlite3_column_int(statement, 0);
  sqlite3_finalize(statement);
}

/* A snapshot stays whole while the log is moved again and again, and the next one is the newest. */
static void others_read_what_is_there(Fixture *fixture, gconstpointer data) {
  put_number(fixture->replica, 1);
  sqlite3 *db = open_as_others_do(fixture);
  for (guint i = 2; i <= 400; i++) {
    int a, b;
    g_assert_cmpint(sqlite3_exec(db, "begin", NULL, NULL, NULL), ==, SQLITE_OK);
    read_pair(db, &a, &b);
    g_assert_cmpint(a, ==, (int)i - 1);
    put_number(fixture->replica, i);
    g_assert_true(fixture->replica->ops->checkpoint(fixture->replica, i % 3 == 0, NULL));
    put_number(fixture->replica, ++i);
    read_pair(db, &a, &b);
    g_assert_cmpint(a, ==, (int)i - 2);
    g_assert_cmpint(b, ==, a);
    g_assert_cmpint(sqlite3_exec(db, "commit", NULL, NULL, NULL), ==, SQLITE_OK);
    put_number(fixture->replica, ++i);
    g_assert_true(fixture->replica->ops->checkpoint(fixture->replica, TRUE, NULL));
  }
  sqlite3_close(db);
}

/* Somebody else's transaction and ours exclude each other. */
static void others_write_in_turn(Fixture *fixture, gconstpointer data) {
  sqlite3 *db = open_as_others_do(fixture);
  g_autoptr(QfsRecord) record = value_of("a", 1, 1, "x");
  begin(fixture->replica);
  apply(fixture->replica, record, TRUE); /* which goes to the tables at once */
  g_assert_cmpint(sqlite3_exec(db, "begin immediate", NULL, NULL, NULL), ==, SQLITE_BUSY);
  commit(fixture->replica);
  g_assert_cmpint(sqlite3_exec(db, "begin immediate", NULL, NULL, NULL), ==, SQLITE_OK);
  g_autoptr(GError) error = NULL;
  QfsApplyResult result;
  begin(fixture->replica);
  g_assert_false(fixture->replica->ops->record_apply(fixture->replica, record, TRUE, &result, &error)); /* after a while */
  fixture->replica->ops->rollback(fixture->replica);
  g_assert_cmpint(sqlite3_exec(db, "commit", NULL, NULL, NULL), ==, SQLITE_OK);
  put_number(fixture->replica, 1);
  sqlite3_close(db);
}

/* Readers that come and go all the time don't keep the log from being moved and begun anew. */
static void readers_let_the_log_go(Fixture *fixture, gconstpointer data) {
  g_autofree char *log = g_build_filename(fixture->dir, "replica.db-wal", NULL);
  g_autofree char *text = g_strnfill(3000, 'x');
  GStatBuf st;
  QfsReplica *reader[3];
  put_number(fixture->replica, 1);
  for (guint i = 0; i < 3; i++)
    g_assert_nonnull(reader[i] = qfs_sqlite_replica_open_reader(fixture->dir, NULL));
  for (guint i = 1; i <= 6000; i++) {
    g_autoptr(QfsRecord) record = value_of("k", i, i, text);
    begin(fixture->replica);
    apply(fixture->replica, record, FALSE);
    commit(fixture->replica);
    assert_text(reader[i % 3], "k", text);
    g_assert_true(fixture->replica->ops->checkpoint(fixture->replica, FALSE, NULL));
  }
  g_assert_cmpint(g_stat(log, &st), ==, 0);
  g_assert_cmpint(st.st_size, <, 16 * 1024 * 1024);
  for (guint i = 0; i < 3; i++)
    qfs_replica_close(reader[i]);
  fixture_close(fixture);
  g_assert_cmpint(g_stat(log, &st), ==, -1); /* moved, and gone, as SQLite does it at the last close */
  fixture_open(fixture);
  assert_text(fixture->replica, "k", text);
}

int main(int argc, char **argv) {
  g_test_init(&argc, &argv, NULL);
  fault_vfs_install();
  fault_vfs_reset();
  g_test_add("/storage/vfs/one-write", Fixture, NULL, fixture_set_up, a_commit_is_one_write, fixture_tear_down);
  g_test_add("/storage/vfs/others-read", Fixture, NULL, fixture_set_up, others_read_what_is_there, fixture_tear_down);
  g_test_add("/storage/vfs/others-write", Fixture, NULL, fixture_set_up, others_write_in_turn, fixture_tear_down);
  g_test_add("/storage/vfs/log-moves", Fixture, NULL, fixture_set_up, readers_let_the_log_go, fixture_tear_down);
  return g_test_run();
}
