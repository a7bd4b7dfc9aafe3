/* What a replica keeps in front of SQLite: never seen late, never lost by the death of the process, never brought back. */
#include "fault_vfs.h"
#include "replica_fixture.h"

#include <sys/stat.h>
#include "storage/aside.h"

#define ROWS_IN_TABLES "select group_concat(dir || '/' || name || '=' || cast(data as text), ' ') from record"

/* What the tables have, without moving anything there. */
static char *in_tables(Fixture *fixture) {
  Fixture beside = {.dir = fixture->dir};
  return raw_text(&beside, ROWS_IN_TABLES);
}

static void assert_in_tables(Fixture *fixture, const char *expected) {
  g_autofree char *rows = in_tables(fixture);
  g_assert_cmpstr(rows, ==, expected);
}

/* The first commit of a replica's life brings the salt, and goes to the tables. */
static void set_up(Fixture *fixture, gconstpointer data) {
  fault_vfs_reset();
  fixture_set_up(fixture, data);
  put_text(fixture->replica, "first", 1, 1, "1");
  assert_in_tables(fixture, "/first=1");
}

static void tear_down(Fixture *fixture, gconstpointer data) {
  fault_vfs_reset();
  fixture_tear_down(fixture, data);
}

/* What the death of the process leaves: the files as they are. `n_redo` bytes of the redo log; -1: all. */
static Fixture after_death(const Fixture *fixture, gssize n_redo) {
  static const char *const names[] = {"replica.db", "replica.db-wal", "replica.db-redo"};
  Fixture left = {.dir = g_dir_make_tmp("qfs-left-XXXXXX", NULL)};
  for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
    g_autofree char *from = g_build_filename(fixture->dir, names[i], NULL);
    g_autofree char *to = g_build_filename(left.dir, names[i], NULL);
    g_autofree char *command = g_strdup_printf("cp '%s' '%s' 2>/dev/null", from, to);
    /* Another process: closing a descriptor of a file here would drop SQLite's locks. */
    if (system(command) == 0 && n_redo >= 0 && i == 2)
      g_assert_cmpint(truncate(to, n_redo), ==, 0);
  }
  return left;
}

static void end_left(Fixture *left) {
  fixture_close(left);
  remove_tree(left->dir);
  g_free(left->dir);
}

static void assert_after_death(const Fixture *fixture, const char *key, const char *text) {
  Fixture left = after_death(fixture, -1);
  fixture_open(&left);
  assert_text(left.replica, key, text);
  end_left(&left);
}

static gsize redo_size(const Fixture *fixture) {
  g_autofree char *path = g_build_filename(fixture->dir, "replica.db-redo", NULL);
  GStatBuf st;
  return g_stat(path, &st) == 0 ? (gsize)st.st_size : 0;
}

static gboolean has_redo(const Fixture *fixture) {
  g_autofree char *path = g_build_filename(fixture->dir, "replica.db-redo", NULL);
  return g_file_test(path, G_FILE_TEST_EXISTS);
}

static char *listing(QfsReplica *replica, const char *dir, guint limit, gboolean whole) {
  GString *text = g_string_new(NULL);
  g_autofree char *after = NULL;
  gboolean more = TRUE;
  while (more) {
    g_autoptr(GPtrArray) rows = new_records();
    g_assert_true(replica->ops->record_list(replica, dir, after, limit, whole, rows, &more, NULL));
    g_assert_cmpuint(rows->len, <=, limit);
    g_assert_true(rows->len > 0 || !more);
    for (guint i = 0; i < rows->len; i++) {
      const QfsRecord *record = rows->pdata[i];
      g_string_append_printf(text, "%s@%" G_GUINT64_FORMAT ":%d:%.*s ", record->key, record->timestamp, (int)record->kind,
                             (int)g_bytes_get_size(record->tail), (const char *)g_bytes_get_data(record->tail, NULL));
      g_free(after);
      after = g_strdup(strrchr(record->key, '/') != NULL ? strrchr(record->key, '/') + 1 : record->key);
    }
  }
  return g_string_free(text, FALSE);
}

static char *live_dirs(QfsReplica *replica) {
  GString *text = g_string_new(NULL);
  g_autofree char *from = g_strdup("");
  while (TRUE) {
    g_autofree char *dir = NULL;
    g_assert_true(replica->ops->live_dir(replica, from, &dir, NULL));
    if (dir == NULL)
      return g_string_free(text, FALSE);
    g_string_append_printf(text, "'%s' ", dir);
    g_free(from);
    from = g_strconcat(dir, "\1", NULL);
  }
}

/* A small transaction is not in the tables, and everybody sees it all the same. */
static void is_seen_at_once(Fixture *fixture, gconstpointer data) {
  g_autoptr(QfsReplica) reader = fixture_reader(fixture);
  g_autoptr(QfsReplica) other = fixture_reader(fixture);
  put_text(fixture->replica, "d/k", 2, 2, "new");
  assert_in_tables(fixture, "/first=1");
  assert_text(fixture->replica, "d/k", "new");
  assert_text(reader, "d/k", "new");
  assert_text(other, "d/k", "new");
  g_autofree char *rows = listing(reader, "d", 10, TRUE), *dirs = live_dirs(reader);
  g_assert_cmpstr(rows, ==, "d/k@2:1:new ");
  g_assert_cmpstr(dirs, ==, "'' 'd' ");
  QfsReplicaStats stats;
  g_assert_true(fixture->replica->ops->stats(fixture->replica, &stats, NULL));
  g_assert_cmpuint(stats.records, ==, 2);
  g_assert_cmpuint(stats.owed, >=, redo_size(fixture));

  /* What is not committed, nobody else sees; what is rolled back, nobody. */
  g_autoptr(QfsRecord) later = value_of("d/k", 3, 3, "later");
  begin(fixture->replica);
  apply(fixture->replica, later, FALSE);
  assert_text(fixture->replica, "d/k", "later");
  assert_text(reader, "d/k", "new");
  g_autofree char *own = listing(fixture->replica, "d", 10, TRUE);
  g_assert_cmpstr(own, ==, "d/k@3:1:later ");
  fixture->replica->ops->rollback(fixture->replica);
  assert_text(fixture->replica, "d/k", "new");
}

/* The last writer wins there, too. */
static void obeys_the_rule(Fixture *fixture, gconstpointer data) {
  QfsReplica *replica = fixture->replica;
  g_assert_cmpint(put_text(replica, "first", 1, 1, "1"), ==, QFS_APPLY_SAME);
  g_assert_cmpint(put_text(replica, "k", 5, 5, "five"), ==, QFS_APPLY_APPLIED);
  g_assert_cmpint(put_text(replica, "k", 4, 6, "four"), ==, QFS_APPLY_SUPERSEDED);
  g_assert_cmpint(put_text(replica, "k", 5, 5, "five"), ==, QFS_APPLY_SAME);
  g_assert_cmpint(put_text(replica, "k", 5, 7, "five"), ==, QFS_APPLY_SAME);
  g_assert_cmpint(put_text(replica, "k", 5, 3, "five"), ==, QFS_APPLY_SAME);
  g_autoptr(QfsRecord) tombstone = qfs_record_new_tombstone("k", 5);
  g_assert_cmpint(put(replica, tombstone), ==, QFS_APPLY_APPLIED); /* equal: a tombstone wins */
  g_assert_cmpint(put_text(replica, "k", 5, 8, "five"), ==, QFS_APPLY_SUPERSEDED);
  g_assert_cmpint(put_text(replica, "k", 6, 9, "six"), ==, QFS_APPLY_APPLIED);
  begin(replica); /* within a transaction, too */
  g_autoptr(QfsRecord) seven = value_of("k", 7, 10, "seven"), old = value_of("k", 6, 11, "old");
  g_assert_cmpint(apply(replica, seven, FALSE), ==, QFS_APPLY_APPLIED);
  g_assert_cmpint(apply(replica, old, FALSE), ==, QFS_APPLY_SUPERSEDED);
  commit(replica);
  assert_in_tables(fixture, "/first=1");
  settle(replica);
  assert_in_tables(fixture, "/first=1 /k=seven");
  g_autoptr(QfsRecord) found = get(replica, "k");
  g_assert_cmpuint(found->seq, ==, 10);
}

/* A higher number of the operation of the very version is kept, also when it waits in front. */
static void higher_seq_is_kept(Fixture *fixture, gconstpointer data) {
  g_assert_cmpint(put_text(fixture->replica, "first", 1, 9, "1"), ==, QFS_APPLY_SAME);
  g_autoptr(QfsRecord) before = get(fixture->replica, "first");
  settle(fixture->replica);
  g_autoptr(QfsRecord) after = get(fixture->replica, "first");
  g_assert_cmpuint(before->seq, ==, 9);
  g_assert_cmpuint(after->seq, ==, 9);
}

/* Every field of a record comes through the log. */
static void record_comes_back_whole(Fixture *fixture, gconstpointer data) {
  g_autoptr(QfsRecord) record = value_of("d/e/k\377", G_MAXUINT64 - 5, 77, "tail");
  record->kind = QFS_KIND_SPECIAL;
  record->attr = (QfsAttr){.mode = 020644, .uid = 1, .gid = 2, .nlink = 3, .rdev = 4, .size = 5,
                           .atime_ns = -6, .mtime_ns = 7, .ctime_ns = -8, .btime_ns = G_MAXINT64};
  record->object = (QfsObjectId){G_MAXUINT64, 9};
  record->tail_offset = 65536;
  record->digest = G_MAXUINT64 - 1;
  g_bytes_unref(record->xattrs);
  record->xattrs = g_bytes_new("x\0y", 3);
  g_bytes_unref(record->spans);
  record->spans = qfs_spans_new(3, 9);
  put(fixture->replica, record);
  g_assert_cmpuint(redo_size(fixture), >, 0);
  Fixture left = after_death(fixture, -1);
  g_autoptr(QfsReplica) reader = fixture_reader(&left); /* before anybody writes */
  fixture_open(&left);
  QfsReplica *const where[] = {fixture->replica, reader, left.replica};
  for (guint i = 0; i < G_N_ELEMENTS(where); i++) {
    g_autoptr(QfsRecord) found = get(where[i], record->key);
    g_assert_nonnull(found);
    g_assert_cmpint(qfs_record_compare(found, record), ==, 0);
    g_assert_cmpuint(found->seq, ==, 77);
    g_assert_cmpmem(&found->attr, sizeof found->attr, &record->attr, sizeof record->attr);
    g_assert_true(g_bytes_equal(found->spans, record->spans) && g_bytes_equal(found->xattrs, record->xattrs));
  }
  g_clear_pointer(&reader, qfs_replica_close);
  end_left(&left);
}

/* Whatever is left of the log, it is a beginning of what was committed; readers and the next writer agree on it. */
static void death_leaves_a_beginning(Fixture *fixture, gconstpointer data) {
  for (guint i = 1; i <= 4; i++) {
    g_autofree char *text = g_strdup_printf("%u", i);
    g_autoptr(QfsRecord) a = value_of("a", i + 1, i, text), b = value_of("b", i + 1, i, text);
    begin(fixture->replica);
    apply(fixture->replica, a, FALSE);
    apply(fixture->replica, b, FALSE);
    commit(fixture->replica);
  }
  const gsize size = redo_size(fixture);
  guint64 last = 0;
  g_assert_cmpuint(size, >, 400);
  for (gsize cut = 0; cut <= size; cut += cut + 40 < size ? 37 : 1) {
    Fixture left = after_death(fixture, (gssize)cut);
    QfsReplica *reader = fixture_reader(&left);
    g_autoptr(QfsRecord) seen = get(reader, "a");
    qfs_replica_close(reader);
    fixture_open(&left);
    g_autoptr(QfsRecord) a = get(left.replica, "a"), b = get(left.replica, "b");
    const guint64 version = a != NULL ? a->timestamp : 0;
    g_assert_cmpuint(version, ==, b != NULL ? b->timestamp : 0);
    g_assert_cmpuint(version, ==, seen != NULL ? seen->timestamp : 0);
    g_assert_cmpuint(version, >=, last);
    last = version;
    /* It is in the tables now, and nothing of the log counts any more. */
    Fixture again = after_death(&left, -1);
    fixture_open(&again);
    g_autoptr(QfsRecord) still = get(again.replica, "a");
    g_assert_cmpuint(still != NULL ? still->timestamp : 0, ==, version);
    end_left(&again);
    end_left(&left);
  }
  g_assert_cmpuint(last, ==, 5);
}

/* A log that belongs to an earlier state of the tables is not applied to a later one. */
static void moved_log_is_void(Fixture *fixture, gconstpointer data) {
  put_text(fixture->replica, "k", 5, 5, "old");
  g_autofree char *redo = g_build_filename(fixture->dir, "replica.db-redo", NULL);
  g_autofree char *bytes = NULL;
  gsize len;
  g_assert_true(g_file_get_contents(redo, &bytes, &len, NULL));
  settle(fixture->replica);
  begin(fixture->replica);
  g_assert_true(fixture->replica->ops->record_remove(fixture->replica, "k", NULL)); /* collected */
  commit(fixture->replica);
  Fixture left = after_death(fixture, -1);
  g_autofree char *to = g_build_filename(left.dir, "replica.db-redo", NULL);
  g_assert_true(g_file_set_contents(to, bytes, (gssize)len, NULL));
  fixture_open(&left);
  assert_text(left.replica, "k", NULL);
  end_left(&left);
  /* Entries of the time before the tables were moved never follow new ones, wherever those end. */
  put_text(fixture->replica, "x", 6, 6, "a");
  Fixture after = after_death(fixture, -1);
  fixture_open(&after);
  assert_text(after.replica, "x", "a");
  assert_text(after.replica, "k", NULL);
  end_left(&after);
}

/* Closing moves all of it, and leaves no log. */
static void closing_leaves_none(Fixture *fixture, gconstpointer data) {
  put_text(fixture->replica, "k", 5, 5, "x");
  g_assert_true(has_redo(fixture));
  fixture_close(fixture);
  g_assert_false(has_redo(fixture));
  assert_in_tables(fixture, "/first=1 /k=x");
  fixture_open(fixture);
}

/* A log that somebody deleted is there again as soon as the tables have what was in it. */
static void deleted_log_comes_back(Fixture *fixture, gconstpointer data) {
  g_autofree char *redo = g_build_filename(fixture->dir, "replica.db-redo", NULL);
  put_text(fixture->replica, "k", 5, 5, "x");
  g_assert_cmpint(g_unlink(redo), ==, 0);
  put_text(fixture->replica, "k", 6, 6, "y");
  settle(fixture->replica);
  put_text(fixture->replica, "k", 7, 7, "z");
  assert_in_tables(fixture, "/first=1 /k=y");
  assert_after_death(fixture, "k", "z");
}

/* What can't be written to the log goes to the tables; what can't be written at all fails, and is in neither. */
static void log_that_fails(Fixture *fixture, gconstpointer data) {
  g_autofree char *redo = g_build_filename(fixture->dir, "replica.db-redo", NULL);
  g_assert_cmpint(g_mkdir(redo, 0700), ==, 0);
  put_text(fixture->replica, "k", 5, 5, "x");
  assert_in_tables(fixture, "/first=1 /k=x");
  g_assert_cmpint(g_rmdir(redo), ==, 0);

  put_text(fixture->replica, "k", 6, 6, "y");
  g_autoptr(QfsRecord) record = value_of("k", 7, 7, "z");
  begin(fixture->replica);
  apply(fixture->replica, record, FALSE);
  fault.countdown = 0;
  fault.code = SQLITE_FULL;
  g_autoptr(GError) error = NULL;
  g_assert_false(fixture->replica->ops->commit(fixture->replica, FALSE, &error));
  g_assert_error(error, QFS_REPLICA_ERROR, QFS_REPLICA_ERROR_NO_SPACE);
  fixture->replica->ops->rollback(fixture->replica);
  assert_text(fixture->replica, "k", "y");
  fault_vfs_reset(); /* there is room again */
  assert_after_death(fixture, "k", "y");
  put_text(fixture->replica, "k", 8, 8, "later");
  assert_after_death(fixture, "k", "later");
}

/* A transaction of SQLite that failed may be there after a death. What is committed next is there in any case. */
static void failed_commit_in_doubt(Fixture *fixture, gconstpointer data) {
  put_text(fixture->replica, "k", 5, 5, "x");
  fault.lies = TRUE;
  fault.code = SQLITE_FULL;
  begin(fixture->replica);
  fault.countdown = 0;
  g_assert_false(fixture->replica->ops->commit(fixture->replica, TRUE, NULL));
  fixture->replica->ops->rollback(fixture->replica);
  fault_vfs_reset();
  assert_after_death(fixture, "k", "x");
  put_text(fixture->replica, "k", 6, 6, "y");
  assert_after_death(fixture, "k", "y");
}

/* What is no file at the log's name is no log, and nobody waits for who might write to it. */
static void fifo_is_no_log(Fixture *fixture, gconstpointer data) {
  g_autofree char *redo = g_build_filename(fixture->dir, "replica.db-redo", NULL);
  fixture_close(fixture);
  g_assert_cmpint(mkfifo(redo, 0600), ==, 0);
  fixture_open(fixture);
  put_text(fixture->replica, "k", 5, 5, "x");
  assert_in_tables(fixture, "/first=1 /k=x");
}

/* With a full disk what a dead process left is there to be read, and goes to the tables when there is room. */
static void full_disk_at_start(Fixture *fixture, gconstpointer data) {
  put_text(fixture->replica, "k", 5, 5, "x");
  Fixture left = after_death(fixture, -1);
  Fixture check = after_death(fixture, -1);
  fault.countdown = 0;
  fault.code = SQLITE_FULL;
  fixture_open(&left);
  g_autoptr(QfsReplica) reader = fixture_reader(&left);
  assert_text(left.replica, "k", "x");
  assert_text(reader, "k", "x");
  QfsReplicaStats stats;
  g_assert_true(left.replica->ops->stats(left.replica, &stats, NULL));
  g_assert_cmpuint(stats.records, ==, 2);
  fault_vfs_reset();
  put_text(left.replica, "k2", 6, 6, "y");
  settle(left.replica);
  assert_in_tables(&left, "/first=1 /k=x /k2=y");
  g_clear_pointer(&reader, qfs_replica_close);
  end_left(&left);
  end_left(&check);
}

/* After a failed sync nothing goes to the log either: its state of the tables may be gone. */
static void failed_sync_ends_the_log(Fixture *fixture, gconstpointer data) {
  put_text(fixture->replica, "k", 5, 5, "x");
  begin(fixture->replica);
  fault.syncs_only = TRUE;
  fault.countdown = 0;
  g_assert_false(fixture->replica->ops->commit(fixture->replica, TRUE, NULL));
  fixture->replica->ops->rollback(fixture->replica);
  fault_vfs_reset();
  const gsize size = redo_size(fixture);
  g_assert_false(fixture->replica->ops->begin(fixture->replica, NULL));
  g_assert_cmpuint(redo_size(fixture), ==, size);
  fixture_close(fixture);
  fixture_open(fixture);
  assert_text(fixture->replica, "k", "x");
}

static void flip(const Fixture *fixture, gsize at) {
  g_autofree char *path = g_build_filename(fixture->dir, "replica.db-redo", NULL);
  g_autofree char *bytes = NULL;
  gsize len;
  g_assert_true(g_file_get_contents(path, &bytes, &len, NULL));
  g_assert_cmpuint(at, <, len);
  bytes[at] ^= 1;
  g_assert_true(g_file_set_contents(path, bytes, (gssize)len, NULL));
}

/* Entries behind a damaged one are void for good, also when the very entry that was damaged is written again. */
static void damaged_log_stays_void(Fixture *fixture, gconstpointer data) {
  put_text(fixture->replica, "k", 5, 5, "damaged");
  put_text(fixture->replica, "x", 6, 6, "behind it");
  Fixture left = after_death(fixture, -1);
  flip(&left, 60);
  fixture_open(&left);
  assert_text(left.replica, "k", NULL);
  assert_text(left.replica, "x", NULL);
  g_autofree char *long_text = g_strnfill(80000, 'y');
  put_text(left.replica, "x", 20, 20, long_text);
  put_text(left.replica, "k", 5, 5, "damaged");
  Fixture again = after_death(&left, -1);
  fixture_open(&again);
  assert_text(again.replica, "k", "damaged");
  assert_text(again.replica, "x", long_text);
  end_left(&again);
  end_left(&left);
}

/* What was appended although the disk said no is void once the tables have it. */
static void failed_append_is_void(Fixture *fixture, gconstpointer data) {
  fault.lies = fault.once = TRUE;
  fault.code = SQLITE_FULL;
  fault.countdown = 0;
  put_text(fixture->replica, "k", 5, 5, "old");
  fault_vfs_reset();
  assert_in_tables(fixture, "/first=1 /k=old");
  g_autofree char *long_text = g_strnfill(80000, 'y');
  put_text(fixture->replica, "k", 6, 6, long_text);
  Fixture left = after_death(fixture, -1);
  fixture_open(&left);
  assert_text(left.replica, "k", long_text);
  end_left(&left);
}

/* Whatever somebody puts behind the entries, they count; and no more is read than there can be. */
static void long_rest_is_ignored(Fixture *fixture, gconstpointer data) {
  put_text(fixture->replica, "k", 5, 5, "x");
  Fixture left = after_death(fixture, -1);
  g_autofree char *redo = g_build_filename(left.dir, "replica.db-redo", NULL);
  g_assert_cmpint(truncate(redo, G_GINT64_CONSTANT(3) << 30), ==, 0);
  fixture_open(&left);
  assert_text(left.replica, "k", "x");
  g_assert_cmpuint(redo_size(&left), <, 1000000);
  end_left(&left);
}

/* On a full disk the tables' log is moved although what is in front does not fit there: that makes room for it. */
static void makes_room_on_a_full_disk(Fixture *fixture, gconstpointer data) {
  g_autofree char *long_text = g_strnfill(80000, 'y');
  put_text(fixture->replica, "long", 2, 2, long_text);
  g_assert_true(fixture->replica->ops->checkpoint(fixture->replica, TRUE, NULL));
  for (guint i = 3; i < 20; i++)
    put_text(fixture->replica, "long", i, i, long_text);
  put_text(fixture->replica, "k", 5, 5, "x");
  fault.room = 0;
  g_autoptr(GError) error = NULL;
  fixture->replica->ops->checkpoint(fixture->replica, TRUE, &error);
  g_assert_no_error(error);
  g_assert_cmpint(fault.room, >, 0);
  fault_vfs_reset();
  g_autofree char *k = raw_text(&(Fixture){.dir = fixture->dir}, "select cast(data as text) from record where name = 'k'");
  g_assert_cmpstr(k, ==, "x");
}

/* A log that is there and can't be read is no empty one. */
static void unreadable_log_is_a_failure(Fixture *fixture, gconstpointer data) {
  put_text(fixture->replica, "k", 5, 5, "x");
  Fixture left = after_death(fixture, -1);
  fault.unreadable = "-redo";
  g_autoptr(GError) error = NULL;
  g_assert_null(qfs_sqlite_replica_open(left.dir, 3, TRUE, FALSE, &error));
  g_assert_error(error, QFS_REPLICA_ERROR, QFS_REPLICA_ERROR_IO);
  fault_vfs_reset();
  fixture_open(&left);
  assert_text(left.replica, "k", "x");
  end_left(&left);
}

/* Long transactions are SQLite's, and all of it is there. */
static void long_transactions_do_not_wait(Fixture *fixture, gconstpointer data) {
  begin(fixture->replica);
  for (guint i = 0; i < 1000; i++) {
    g_autofree char *key = g_strdup_printf("many/%u", i);
    g_autoptr(QfsRecord) record = value_of(key, 5, 5, "x");
    apply(fixture->replica, record, FALSE);
  }
  commit(fixture->replica);
  g_autofree char *count = raw_text(&(Fixture){.dir = fixture->dir}, "select count(*) from record where dir = 'many'");
  g_assert_cmpstr(count, ==, "1000");
}

/* What is no log of ours is not set aside with the file, time and again. */
static void directory_stays(Fixture *fixture, gconstpointer data) {
  g_autofree char *redo = g_build_filename(fixture->dir, "replica.db-redo", NULL);
  for (guint i = 0; i < 4; i++) {
    if (i % 2 == 0)
      g_assert_cmpint(g_mkdir(redo, 0700), ==, 0);
    put_text(fixture->replica, "k", 5, 5, "x");
    fixture_close(fixture);
    g_autoptr(GError) error = NULL;
    g_assert_true(qfs_replica_set_aside(fixture->dir, "tried", NULL, &error));
    g_assert_no_error(error);
    g_assert_cmpint(g_file_test(redo, G_FILE_TEST_IS_DIR), ==, i % 2 == 0);
    if (i % 2 == 0)
      g_assert_cmpint(g_rmdir(redo), ==, 0);
    fixture_open(fixture);
    put_text(fixture->replica, "first", 1, 1, "1");
  }
}

/* What waits is bounded, whatever the sizes; long records don't wait. */
static void is_bounded(Fixture *fixture, gconstpointer data) {
  g_autofree char *text = g_strnfill(7000, 'x'), *long_text = g_strnfill(80000, 'y');
  gsize most = 0;
  for (guint i = 2; i <= 400; i++) {
    put_text(fixture->replica, "k", i, i, text);
    most = MAX(most, redo_size(fixture));
  }
  g_assert_cmpuint(most, >, 1024 * 1024);
  g_assert_cmpuint(most, <=, 2048 * 1024);
  put_text(fixture->replica, "long", 2, 2, long_text);
  g_autofree char *long_one = g_strdup_printf("/first=1 /k=%s /long=%s", text, long_text);
  assert_in_tables(fixture, long_one); /* in their order: F2 */
  /* A checkpoint moves what is due, and only that. */
  put_text(fixture->replica, "k", 500, 500, "few");
  g_assert_true(fixture->replica->ops->checkpoint(fixture->replica, FALSE, NULL));
  assert_in_tables(fixture, long_one);
  for (guint i = 501; i <= 570; i++)
    put_text(fixture->replica, "k", i, i, text);
  g_assert_true(fixture->replica->ops->checkpoint(fixture->replica, FALSE, NULL));
  g_autofree char *value = raw_text(&(Fixture){.dir = fixture->dir}, "select timestamp from record where name = 'k'");
  g_assert_cmpstr(value, ==, "570");
}

static void put_as(Fixture *fixture, const char *key, guint64 timestamp, const char *text, gboolean durable) {
  g_autoptr(QfsRecord) record = value_of(key, timestamp, timestamp, text);
  begin(fixture->replica);
  apply(fixture->replica, record, FALSE);
  g_assert_true(fixture->replica->ops->commit(fixture->replica, durable, NULL));
}

/* What is durable waits in front, too, for one sync; the tables must have been synced once for it. */
static void durable_waits_in_front(Fixture *fixture, gconstpointer data) {
  put_as(fixture, "first", 2, "2", TRUE);
  assert_in_tables(fixture, "/first=2");
  for (guint i = 3; i < 10; i++) {
    const guint before = fault.syncs;
    g_autofree char *text = g_strdup_printf("%u", i);
    put_as(fixture, "k", i, text, TRUE);
    assert_in_tables(fixture, "/first=2");
    g_assert_cmpuint(fault.syncs, ==, before + 1);
    begin(fixture->replica); /* nothing is new */
    g_assert_true(fixture->replica->ops->commit(fixture->replica, TRUE, NULL));
    g_assert_cmpuint(fault.syncs, ==, before + 1);
  }
  guint before = fault.syncs; /* it moves as durably as it was */
  settle(fixture->replica);
  g_assert_cmpuint(fault.syncs, ==, before + 1);
  put_as(fixture, "k", 10, "10", TRUE);
  assert_in_tables(fixture, "/first=2 /k=9");
  put_as(fixture, "k", 11, "11", FALSE);
  settle(fixture->replica);
  put_as(fixture, "k", 12, "12", FALSE);
  before = fault.syncs;
  settle(fixture->replica); /* nothing was promised */
  g_assert_cmpuint(fault.syncs, ==, before);
  put_as(fixture, "k", 13, "13", TRUE);
  assert_in_tables(fixture, "/first=2 /k=13");
}

/* Files as a loss of power may leave them: of each in `stale` what it was when it was synced, of others all. */
static Fixture after_power_cut(const Fixture *fixture, const char *synced_dir, guint stale) {
  static const char *const names[] = {"replica.db", "replica.db-wal", "replica.db-redo"};
  Fixture left = {.dir = g_dir_make_tmp("qfs-cut-XXXXXX", NULL)};
  for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
    g_autofree char *command = g_strdup_printf("cp '%s/%s' '%s' 2>/dev/null",
                                               (stale >> i & 1) != 0 ? synced_dir : fixture->dir, names[i], left.dir);
    g_assert_cmpint(system(command), !=, -1); /* some are not there */
  }
  return left;
}

/* What came to the log after a transaction of SQLite does not outlive it, though it is another file. */
static void log_counts_for_its_tables_only(Fixture *fixture, gconstpointer data) {
  g_autofree char *synced_dir = g_dir_make_tmp("qfs-synced-XXXXXX", NULL);
  g_autofree char *long_text = g_strnfill(80000, 'y');
  fault.image_dir = synced_dir;
  put_as(fixture, "first", 2, "2", FALSE);
  g_assert_true(fixture->replica->ops->checkpoint(fixture->replica, TRUE, NULL));
  put_text(fixture->replica, "first", 3, 3, long_text); /* to the tables, where nothing waits */
  put_text(fixture->replica, "second", 4, 4, "x");
  fault.image_dir = NULL;
  Fixture left = after_power_cut(fixture, synced_dir, 1 << 1);
  fixture_open(&left);
  assert_text(left.replica, "first", "2");
  g_assert_null(get(left.replica, "second"));
  end_left(&left);
  remove_tree(synced_dir);
}

#define CUT_KEYS 5

/* What is there is what the puts up to some one from `least` to `most` made: put i was of key i % CUT_KEYS. */
static void assert_is_a_beginning(Fixture *left, guint least, guint most) {
  guint64 found[CUT_KEYS], last = 0;
  for (guint i = 0; i < CUT_KEYS; i++) {
    g_autofree char *key = g_strdup_printf("cut/%u", i);
    g_autoptr(QfsRecord) record = get(left->replica, key);
    found[i] = record != NULL ? record->timestamp : 0;
    last = MAX(last, found[i]);
  }
  g_assert_cmpuint(last, >=, least);
  g_assert_cmpuint(last, <=, most);
  for (guint64 i = last; i > 0 && i + CUT_KEYS > last; i--)
    g_assert_cmpuint(found[i % CUT_KEYS], ==, i);
}

static void cut_power(Fixture *fixture, const char *synced_dir, guint least, guint most) {
  fault.image_dir = NULL;
  for (guint stale = 0; stale < 8; stale++) {
    Fixture left = after_power_cut(fixture, synced_dir, stale);
    fixture_open(&left);
    assert_is_a_beginning(&left, least, most);
    end_left(&left);
  }
  fault.image_dir = synced_dir;
}

/* The process dies and another one goes on. */
static void live_again(Fixture *fixture) {
  const char *const synced_dir = fault.image_dir;
  fault.image_dir = NULL;
  Fixture left = after_death(fixture, -1);
  end_left(fixture);
  *fixture = left;
  fault.image_dir = synced_dir;
  fixture_open(fixture);
}

/* Whatever of what was not synced a loss of power takes, in whichever file: a beginning is left, with all that was durable. */
static void power_cut_takes_no_promise(Fixture *fixture, gconstpointer data) {
  enum { PUTS = 500, STEPS = 14 };
  g_autofree char *synced_dir = g_dir_make_tmp("qfs-synced-XXXXXX", NULL);
  g_autofree char *long_text = g_strnfill(80000, 'y');
  g_autoptr(GRand) dice = g_rand_new_with_seed(11);
  guint durable_up_to = 0;
  fixture_close(fixture);
  g_autofree char *copy = g_strdup_printf("cp '%s'/replica.* '%s'", fixture->dir, synced_dir);
  g_assert_cmpint(system(copy), ==, 0);
  fault.image_dir = synced_dir;
  fixture_open(fixture);
  for (guint i = 1; i <= PUTS; i++) {
    const gint step = g_rand_int_range(dice, 0, 100);
    const gboolean durable = g_rand_int_range(dice, 0, i / 100 % 2 == 0 ? 3 : 20) == 0;
    g_autofree char *key = g_strdup_printf("cut/%u", i % CUT_KEYS);
    put_as(fixture, key, i, step < 4 ? long_text : "x", durable);
    durable_up_to = durable ? i : durable_up_to;
    if (step >= 90 && step < 94)
      settle(fixture->replica);
    else if (step == 94)
      g_assert_true(fixture->replica->ops->checkpoint(fixture->replica, TRUE, NULL));
    else if (step >= 95 && step < 97)
      live_again(fixture);
    if (g_rand_int_range(dice, 0, STEPS) == 0)
      cut_power(fixture, synced_dir, durable_up_to, i);
  }
  fault_vfs_reset();
  remove_tree(synced_dir);
}

/* What somebody reads is the same wherever it is, whatever was done before. */
static void makes_no_difference(Fixture *fixture, gconstpointer data) {
  static const char *const dirs[] = {"", "a", "a/b", "a-", "b"};
  g_autoptr(GRand) dice = g_rand_new_with_seed(7);
  g_autoptr(QfsReplica) reader = fixture_reader(fixture);
  for (guint round = 0; round < 300; round++) {
    for (guint n = (guint)g_rand_int_range(dice, 1, 12), i = 0; i < n; i++) {
      g_autofree char *name = g_strdup_printf("n%d", g_rand_int_range(dice, 0, 9));
      g_autofree char *key = qfs_key_join(dirs[g_rand_int_range(dice, 0, 5)], name);
      const guint64 timestamp = (guint64)g_rand_int_range(dice, 1, 60);
      g_autofree char *text = g_strdup_printf("%" G_GUINT64_FORMAT, timestamp);
      g_autoptr(QfsRecord) record = g_rand_int_range(dice, 0, 3) == 0 ? qfs_record_new_tombstone(key, timestamp)
                                                                      : value_of(key, timestamp, round * 20 + i, text);
      if (g_rand_int_range(dice, 0, 20) == 0) {
        begin(fixture->replica);
        g_assert_true(fixture->replica->ops->record_remove(fixture->replica, key, NULL));
        commit(fixture->replica);
      } else {
        put(fixture->replica, record);
      }
    }
    const guint limit = (guint)g_rand_int_range(dice, 1, 8);
    QfsReplicaStats stats_before, stats_after;
    g_assert_true(fixture->replica->ops->stats(fixture->replica, &stats_before, NULL));
    g_autofree char *live_before = live_dirs(reader);
    g_autoptr(GPtrArray) before = g_ptr_array_new_with_free_func(g_free);
    for (guint d = 0; d < G_N_ELEMENTS(dirs); d++)
      g_ptr_array_add(before, listing(reader, dirs[d], limit, round % 2));
    settle(fixture->replica);
    g_autofree char *live_after = live_dirs(reader);
    g_assert_cmpstr(live_before, ==, live_after);
    for (guint d = 0; d < G_N_ELEMENTS(dirs); d++) {
      g_autofree char *after = listing(reader, dirs[d], limit, round % 2);
      g_assert_cmpstr(before->pdata[d], ==, after);
    }
    g_assert_true(fixture->replica->ops->stats(fixture->replica, &stats_after, NULL));
    g_assert_cmpuint(stats_before.records, ==, stats_after.records);
    g_assert_cmpuint(stats_before.tombstones, ==, stats_after.tombstones);
  }
}

/* Readers of other threads never miss what was committed, while it moves from one place to the other. */
typedef struct {
  QfsReplica *reader;
  gint committed, quit; /* atomic */
} Watcher;

static gpointer watch(gpointer data) {
  Watcher *watcher = data;
  while (!g_atomic_int_get(&watcher->quit)) {
    const guint64 least = (guint64)g_atomic_int_get(&watcher->committed);
    g_autoptr(QfsRecord) found = get(watcher->reader, "k");
    g_assert_cmpuint(found != NULL ? found->timestamp : 0, >=, least);
    g_autoptr(GPtrArray) rows = new_records();
    gboolean more;
    const guint64 listed_least = (guint64)g_atomic_int_get(&watcher->committed);
    g_assert_true(watcher->reader->ops->record_list(watcher->reader, "", NULL, 10, FALSE, rows, &more, NULL));
    g_assert_cmpuint(rows->len, ==, 2);
    g_assert_cmpuint(((QfsRecord *)rows->pdata[1])->timestamp, >=, listed_least);
  }
  return NULL;
}

static void nobody_misses_it(Fixture *fixture, gconstpointer data) {
  put_text(fixture->replica, "k", 2, 2, "x");
  Watcher watcher = {.reader = fixture_reader(fixture), .committed = 2};
  GThread *thread = g_thread_new("watch", watch, &watcher);
  for (guint i = 3; i < 6000; i++) {
    put_text(fixture->replica, "k", i, i, "x");
    g_atomic_int_set(&watcher.committed, (gint)i);
    if (i % 3 == 0)
      settle(fixture->replica);
  }
  g_atomic_int_set(&watcher.quit, 1);
  g_thread_join(thread);
  qfs_replica_close(watcher.reader);
}

int main(int argc, char **argv) {
  g_test_init(&argc, &argv, NULL);
  fault_vfs_install();
#define FRONT(path, function) g_test_add("/storage/front/" path, Fixture, NULL, set_up, function, tear_down)
  FRONT("is-seen-at-once", is_seen_at_once);
  FRONT("obeys-the-rule", obeys_the_rule);
  FRONT("higher-seq-is-kept", higher_seq_is_kept);
  FRONT("record-comes-back-whole", record_comes_back_whole);
  FRONT("death-leaves-a-beginning", death_leaves_a_beginning);
  FRONT("moved-log-is-void", moved_log_is_void);
  FRONT("closing-leaves-none", closing_leaves_none);
  FRONT("deleted-log-comes-back", deleted_log_comes_back);
  FRONT("log-that-fails", log_that_fails);
  FRONT("failed-commit-in-doubt", failed_commit_in_doubt);
  FRONT("fifo-is-no-log", fifo_is_no_log);
  FRONT("full-disk-at-start", full_disk_at_start);
  FRONT("failed-sync-ends-the-log", failed_sync_ends_the_log);
  FRONT("damaged-log-stays-void", damaged_log_stays_void);
  FRONT("failed-append-is-void", failed_append_is_void);
  FRONT("long-rest-is-ignored", long_rest_is_ignored);
  FRONT("makes-room-on-a-full-disk", makes_room_on_a_full_disk);
  FRONT("unreadable-log-is-a-failure", unreadable_log_is_a_failure);
  FRONT("long-transactions-do-not-wait", long_transactions_do_not_wait);
  FRONT("directory-stays", directory_stays);
  FRONT("is-bounded", is_bounded);
  FRONT("durable-waits-in-front", durable_waits_in_front);
  FRONT("log-counts-for-its-tables-only", log_counts_for_its_tables_only);
  FRONT("power-cut-takes-no-promise", power_cut_takes_no_promise);
  FRONT("makes-no-difference", makes_no_difference);
  FRONT("nobody-misses-it", nobody_misses_it);
  return g_test_run();
}
