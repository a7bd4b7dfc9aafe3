/* Files with several names, as the users of the embedded engine see them. */
#include "engine_fixture.h"

#include "storage/replica.h"

static QfsStatus run(Fixture *f, QfsRequest *request, QfsRecord **out_record) {
  const QfsStatus status = run_request(f, request);
  if (out_record != NULL)
    *out_record = request->record != NULL ? qfs_record_ref(request->record) : NULL;
  qfs_request_free(request);
  return status;
}

static QfsStatus link_to(Fixture *f, const char *key, const char *name, QfsRecord **out_file) {
  QfsRequest *request = qfs_request_new(QFS_REQUEST_LINK, key, NULL, NULL);
  request->key2 = g_strdup(name);
  return run(f, request, out_file);
}

static QfsStatus rename_to(Fixture *f, const char *key, const char *name, guint flags, const char *keep) {
  QfsRequest *request = qfs_request_new(QFS_REQUEST_RENAME, key, NULL, NULL);
  request->key2 = g_strdup(name);
  request->flags = flags;
  request->keep = g_strdup(keep);
  return run(f, request, NULL);
}

static QfsStatus unlink_name(Fixture *f, const char *key, const char *keep, QfsRecord **out_record) {
  QfsRequest *request = qfs_request_new(QFS_REQUEST_REMOVE, key, NULL, NULL);
  request->flags = QFS_REMOVE_MUST_EXIST | QFS_REMOVE_NON_DIRECTORY;
  request->keep = g_strdup(keep);
  return run(f, request, out_record);
}

static QfsRecord *record_of(Fixture *f, const char *key) {
  QfsRecord *record = NULL;
  QfsStatus status = run(f, qfs_request_new(QFS_REQUEST_GET, key, NULL, NULL), &record);
  g_assert_cmpint(status, ==, qfs_record_exists(record) ? QFS_OK : QFS_NOT_FOUND);
  if (status != QFS_OK)
    g_clear_pointer(&record, qfs_record_unref);
  return record;
}

/* The key has this value, of a file with so many names (0: a key without links; value NULL: there is none). */
static void assert_is(Fixture *f, const char *key, const char *value, guint nlink) {
  g_autofree char *found = get(f, key, NULL);
  g_assert_cmpstr(found, ==, value);
  g_autoptr(QfsRecord) record = record_of(f, key);
  g_assert_cmpuint(record != NULL ? record->attr.nlink : 0, ==, nlink);
}

static GPtrArray *list(Fixture *f, const char *dir) {
  QfsRequest *request = qfs_request_new(QFS_REQUEST_LIST, dir, NULL, NULL);
  g_assert_cmpint(run_request(f, request), ==, QFS_OK);
  GPtrArray *entries = g_ptr_array_ref(request->entries);
  qfs_request_free(request);
  return entries;
}

static void assert_count(Fixture *f, const char *dir, guint n) {
  g_autoptr(GPtrArray) entries = list(f, dir);
  g_assert_cmpuint(entries->len, ==, n);
}

static void test_link(Fixture *f, gconstpointer data) {
  /* All names of a file have its value and its attributes, whichever it is changed by; nothing is left when the last is
   * gone. */
  g_autoptr(QfsRecord) file = NULL;
  g_assert_cmpint(put(f, "a", "one"), ==, QFS_OK);
  g_autoptr(QfsRecord) before = record_of(f, "a");
  g_assert_cmpint(link_to(f, "a", "b", &file), ==, QFS_OK);
  g_assert_true(g_str_has_prefix(file->key, QFS_LINK_DIR "/"));
  g_assert_cmpint(file->attr.btime_ns, ==, before->attr.btime_ns);
  g_assert_cmpint(file->attr.mtime_ns, ==, before->attr.mtime_ns);
  g_assert_cmpint(file->attr.ctime_ns, >, before->attr.ctime_ns);
  g_assert_cmpint(link_to(f, "b", "c", NULL), ==, QFS_OK);
  g_assert_cmpint(link_to(f, file->key, "d", NULL), ==, QFS_OK);
  assert_is(f, "a", "one", 4);
  g_assert_cmpint(put(f, "c", "two"), ==, QFS_OK);
  for (const char *name = "abcd"; *name != '\0'; name++) {
    const char key[] = {*name, '\0'};
    assert_is(f, key, "two", 4);
  }
  assert_is(f, file->key, "two", 4);
  g_assert_cmpint(unlink_name(f, "a", NULL, NULL), ==, QFS_OK);
  g_assert_cmpint(unlink_name(f, "d", "/orphan/1", NULL), ==, QFS_OK);
  assert_is(f, "a", NULL, 0);
  assert_is(f, "b", "two", 2);
  assert_count(f, "/orphan", 0);
  close_engine(f);
  open_engine(f);
  assert_is(f, "c", "two", 2);
  g_assert_cmpint(unlink_name(f, "b", NULL, NULL), ==, QFS_OK);
  assert_is(f, "c", "two", 1);
  g_assert_cmpint(unlink_name(f, "c", NULL, NULL), ==, QFS_OK);
  assert_count(f, QFS_LINK_DIR, 0);
  assert_count(f, "", 0);
}

static void test_refusals(Fixture *f, gconstpointer data) {
  /* What cannot be linked, or where, is refused and changes nothing. */
  g_assert_cmpint(put(f, "d/a", "one"), ==, QFS_OK);
  g_assert_cmpint(put(f, "b", "two"), ==, QFS_OK);
  g_assert_cmpint(link_to(f, "d", "e", NULL), ==, QFS_IS_DIRECTORY);
  g_assert_cmpint(link_to(f, "d/a", "b", NULL), ==, QFS_EXISTS);
  g_assert_cmpint(link_to(f, "d/a", "d/a", NULL), ==, QFS_EXISTS);
  g_assert_cmpint(link_to(f, "none", "e", NULL), ==, QFS_NOT_FOUND);
  g_assert_cmpint(link_to(f, "d/a", "none/e", NULL), ==, QFS_NOT_FOUND);
  g_assert_cmpint(link_to(f, "d/a", "b/e", NULL), ==, QFS_NOT_DIRECTORY);
  assert_is(f, "d/a", "one", 0);
  assert_count(f, QFS_LINK_DIR, 0);
  g_assert_cmpint(link_to(f, "d/a", "e", NULL), ==, QFS_OK);
  g_assert_cmpint(put(f, "e/x", "no"), ==, QFS_NOT_DIRECTORY);
  g_assert_cmpint(rename_to(f, "e", "d", 0, NULL), ==, QFS_IS_DIRECTORY);
  g_assert_cmpint(rename_to(f, "d", "e", 0, NULL), ==, QFS_NOT_DIRECTORY);
  g_assert_cmpint(rename_to(f, "e", "d/a", QFS_RENAME_NOREPLACE, NULL), ==, QFS_EXISTS);
}

static void test_rename(Fixture *f, gconstpointer data) {
  /* A name moves, is replaced, and is exchanged without the file; of two names of one file rename changes nothing. */
  g_assert_cmpint(put(f, "a", "one"), ==, QFS_OK);
  g_assert_cmpint(put(f, "p", "plain"), ==, QFS_OK);
  g_assert_cmpint(link_to(f, "a", "b", NULL), ==, QFS_OK);
  g_assert_cmpint(rename_to(f, "a", "b", 0, NULL), ==, QFS_OK);
  assert_is(f, "a", "one", 2);
  g_assert_cmpint(rename_to(f, "a", "c", 0, NULL), ==, QFS_OK);
  assert_is(f, "a", NULL, 0);
  assert_is(f, "c", "one", 2);
  g_assert_cmpint(rename_to(f, "c", "p", QFS_RENAME_EXCHANGE, NULL), ==, QFS_OK);
  assert_is(f, "c", "plain", 0);
  assert_is(f, "p", "one", 2);
  g_assert_cmpint(rename_to(f, "c", "p", 0, "/orphan/1"), ==, QFS_OK);
  assert_is(f, "p", "plain", 0);
  assert_is(f, "b", "one", 1);
  assert_count(f, "/orphan", 0);
  g_assert_cmpint(rename_to(f, "p", "b", 0, "/orphan/2"), ==, QFS_OK);
  assert_is(f, "b", "plain", 0);
  assert_is(f, "/orphan/2", "one", 0);
  assert_count(f, QFS_LINK_DIR, 0);
  g_assert_cmpint(put(f, "q", "other"), ==, QFS_OK);
  g_assert_cmpint(rename_to(f, "q", "b", 0, "/orphan/3"), ==, QFS_OK);
  assert_is(f, "/orphan/3", "plain", 0);
}

static void test_tree(Fixture *f, gconstpointer data) {
  /* A directory is renamed with the links in it, which lead where they led. */
  g_assert_cmpint(put(f, "d/s/a", "one"), ==, QFS_OK);
  g_assert_cmpint(link_to(f, "d/s/a", "d/b", NULL), ==, QFS_OK);
  g_assert_cmpint(link_to(f, "d/b", "out", NULL), ==, QFS_OK);
  g_assert_cmpint(rename_to(f, "d", "e", 0, NULL), ==, QFS_OK);
  assert_is(f, "e/s/a", "one", 3);
  g_assert_cmpint(put(f, "e/b", "two"), ==, QFS_OK);
  assert_is(f, "out", "two", 3);
  g_assert_cmpint(unlink_name(f, "e/b", NULL, NULL), ==, QFS_OK);
  assert_is(f, "e/s/a", "two", 2);
}

static void test_kept(Fixture *f, gconstpointer data) {
  /* A file in chunks that is to be kept when it loses its last name stays readable under the key given. */
  g_autofree char *large = g_strnfill(300000, 'x');
  g_autoptr(QfsRecord) kept = NULL;
  g_assert_cmpint(put(f, "a", large), ==, QFS_OK);
  g_assert_cmpint(link_to(f, "a", "b", NULL), ==, QFS_OK);
  g_assert_cmpint(unlink_name(f, "b", "/orphan/1", NULL), ==, QFS_OK);
  g_assert_cmpint(unlink_name(f, "a", "/orphan/2", &kept), ==, QFS_OK);
  g_assert_cmpstr(kept->key, ==, "/orphan/2");
  assert_count(f, "/orphan", 1);
  assert_count(f, QFS_LINK_DIR, 0);
  wait_settled(f, 5);
  QfsRequest *request = qfs_request_new(QFS_REQUEST_READ, kept->key, NULL, NULL);
  request->record = qfs_record_ref(kept);
  request->length = 300000;
  g_assert_cmpint(run_request(f, request), ==, QFS_OK);
  g_assert_cmpmem(g_bytes_get_data(request->data, NULL), g_bytes_get_size(request->data), large, 300000);
  qfs_request_free(request);
  g_assert_cmpint(link_to(f, kept->key, "c", NULL), ==, QFS_NOT_FOUND);
}

static QfsStatus delete_at(Fixture *f, const char *key, guint64 timestamp, gboolean *out_superseded) {
  QfsRequest *request = qfs_request_new(QFS_REQUEST_REMOVE, key, NULL, NULL);
  request->flags = QFS_REMOVE_TIMESTAMP;
  request->timestamp = timestamp;
  const QfsStatus status = run_request(f, request);
  *out_superseded = request->superseded;
  qfs_request_free(request);
  return status;
}

static QfsStatus put_at(Fixture *f, const char *key, const char *value, guint64 timestamp) {
  QfsRequest *request = qfs_request_new(QFS_REQUEST_WRITE, key, NULL, NULL);
  request->flags = QFS_WRITE_REPLACE | QFS_WRITE_CREATE | QFS_WRITE_TIMESTAMP;
  request->data = g_bytes_new(value, strlen(value));
  request->timestamp = timestamp;
  return run(f, request, NULL);
}

static void test_timestamps(Fixture *f, gconstpointer data) {
  /* A delete with a timestamp takes the name away if no newer version of the file is stored, and is remembered. */
  gboolean superseded;
  g_assert_cmpint(put(f, "a", "one"), ==, QFS_OK);
  g_assert_cmpint(link_to(f, "a", "b", NULL), ==, QFS_OK);
  g_autoptr(QfsRecord) file = record_of(f, "a");
  const guint64 above = file->timestamp + 1000;
  g_assert_cmpint(put_at(f, "b", "two", above), ==, QFS_OK);
  assert_is(f, "a", "two", 2);
  g_assert_cmpint(delete_at(f, "a", above - 1, &superseded), ==, QFS_OK);
  g_assert_true(superseded);
  assert_is(f, "a", "two", 2);
  g_assert_cmpint(delete_at(f, "a", above, &superseded), ==, QFS_OK);
  g_assert_false(superseded);
  assert_is(f, "a", NULL, 0);
  assert_is(f, "b", "two", 1);
  g_assert_cmpint(put_at(f, "a", "old", above - 1), ==, QFS_OK);
  assert_is(f, "a", NULL, 0);
  g_assert_cmpint(put_at(f, "b", "last", G_MAXUINT64), ==, QFS_OK);
  g_assert_cmpint(unlink_name(f, "b", NULL, NULL), ==, QFS_OK);
  assert_count(f, QFS_LINK_DIR, 0);
}

static void test_many(Fixture *f, gconstpointer data) {
  /* The number of names goes beyond a byte. */
  g_assert_cmpint(put(f, "n0", "one"), ==, QFS_OK);
  guint n = 1;
  for (; n < 300; n++) {
    g_autofree char *name = g_strdup_printf("n%u", n);
    g_assert_cmpint(link_to(f, "n0", name, NULL), ==, QFS_OK);
  }
  assert_is(f, "n17", "one", 300);
}

/* In the closed store the file has so many names; the records of most of them are missing. Returns how many nodes
 * hold the file. */
static guint claim_names(Fixture *f, const char *key, guint nlink) {
  guint holders = 0;
  for (guint node = 1; node <= f->config.nodes; node++) {
    g_autofree char *dir = g_strdup_printf("%s/node-%u", f->config.store, node);
    g_autoptr(GError) error = NULL;
    g_autoptr(QfsReplica) replica = qfs_sqlite_replica_open(dir, node, FALSE, TRUE, &error);
    g_assert_no_error(error);
    g_autoptr(QfsRecord) record = NULL;
    g_assert_true(replica->ops->record_get(replica, key, &record, NULL));
    if (record == NULL)
      continue;
    g_autoptr(QfsRecord) changed = qfs_record_copy(record);
    changed->attr.nlink = nlink;
    QfsApplyResult result;
    g_assert_true(replica->ops->begin(replica, NULL) &&
                  replica->ops->record_apply(replica, changed, TRUE, &result, NULL) &&
                  replica->ops->commit(replica, TRUE, NULL));
    holders++;
  }
  return holders;
}

static void test_limit(Fixture *f, gconstpointer data) {
  /* The last name that a file may have is given, the next one is refused and changes nothing, and is given again when
   * another one is gone. */
  g_autoptr(QfsRecord) file = NULL;
  g_assert_cmpint(put(f, "a", "one"), ==, QFS_OK);
  g_assert_cmpint(link_to(f, "a", "b", &file), ==, QFS_OK);
  wait_settled(f, 5);
  close_engine(f);
  g_assert_cmpuint(claim_names(f, file->key, QFS_LINKS_MAX - 1), ==, 3);
  open_engine(f);
  g_assert_cmpint(link_to(f, "a", "c", NULL), ==, QFS_OK);
  assert_is(f, "c", "one", QFS_LINKS_MAX);
  g_assert_cmpint(link_to(f, "a", "d", NULL), ==, QFS_TOO_MANY_LINKS);
  assert_is(f, "d", NULL, 0);
  assert_is(f, "a", "one", QFS_LINKS_MAX);
  g_assert_cmpint(unlink_name(f, "c", NULL, NULL), ==, QFS_OK);
  g_assert_cmpint(link_to(f, "a", "d", NULL), ==, QFS_OK);
  assert_is(f, "d", "one", QFS_LINKS_MAX);
}

int main(int argc, char **argv) {
  g_test_init(&argc, &argv, NULL);
#define ADD(path, func) g_test_add("/cluster/linked/" path, Fixture, NULL, set_up, func, tear_down)
  ADD("all-names-are-one-file", test_link);
  ADD("refusals-change-nothing", test_refusals);
  ADD("names-move-without-the-file", test_rename);
  ADD("links-in-a-renamed-directory", test_tree);
  ADD("kept-without-names", test_kept);
  ADD("explicit-timestamps", test_timestamps);
  ADD("many-names", test_many);
  ADD("no-more-names-than-65000", test_limit);
  return g_test_run();
}
