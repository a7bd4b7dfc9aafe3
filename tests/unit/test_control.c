/* Goal: the files below .quorumfs say and do what fs/control.h promises, over an engine that only
 * records. */
#include "fs/control.h"
#include "fs/log.h"

#include <errno.h>
#include <fcntl.h>
#include <json-glib/json-glib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The engine: remembers what it was asked, answers at once with `status`, or later when `hold` is
 * set. */
static struct {
  QfsEngine engine;
  QfsLinks links;
  QfsStatus status;
  gboolean hold, superseded;
  QfsRequest *held;
  GPtrArray *log; /* element-type char*: one line per request */
  GByteArray *staged;
  GBytes *value;       /* of the latest WRITE that published */
  const char *present; /* the only parent that a GET finds */
  guint discarded;
  GPtrArray *changed;
} fake;

static void answer(QfsRequest *request) {
  request->status = fake.status;
  if (request->type == QFS_REQUEST_GET)
    request->status = g_strcmp0(request->key, fake.present) == 0 ? QFS_OK : QFS_NOT_FOUND;
  if (request->type == QFS_REQUEST_WRITE && (request->flags & QFS_WRITE_STAGE) &&
      fake.status == QFS_OK) {
    g_assert_cmpuint(request->offset, ==, fake.staged->len);
    g_assert_cmpuint(request->offset % QFS_CHUNK_SIZE, ==, 0);
    g_byte_array_append(fake.staged, g_bytes_get_data(request->data, NULL),
                        (guint)g_bytes_get_size(request->data));
    request->object = (QfsObjectId){7, 9};
  } else if (request->type == QFS_REQUEST_WRITE || request->type == QFS_REQUEST_REMOVE) {
    if (request->status == QFS_OK && fake.superseded) {
      request->superseded = TRUE;
      request->superseded_by = 9;
    } else if (request->status == QFS_OK) {
      request->record = qfs_record_new_tombstone(request->key, request->timestamp);
    }
  }
  request->done(request, request->user_data);
}

static void fake_submit(QfsEngine *engine, QfsRequest *request) {
  static const char *const names[] = {"get", "read", "seek", "list",   "write", "create",
                                      "setattr", "remove", "rename", "sync",  "node"};
  g_ptr_array_add(fake.log, g_strdup_printf("%s %s %u %" G_GUINT64_FORMAT, names[request->type],
                                            request->key != NULL ? request->key : "-",
                                            request->flags, request->timestamp));
  if (request->type == QFS_REQUEST_WRITE && !(request->flags & QFS_WRITE_STAGE)) {
    g_clear_pointer(&fake.value, g_bytes_unref);
    if (request->flags & QFS_WRITE_STAGED)
      g_assert_cmpuint(request->staged_size, ==, fake.staged->len);
    else
      fake.value = g_bytes_ref(request->data);
  }
  if (fake.hold && request->type != QFS_REQUEST_GET)
    fake.held = request;
  else
    answer(request);
}

static void release(void) {
  g_assert_nonnull(fake.held);
  answer(g_steal_pointer(&fake.held));
}

static QfsEngineStatus *fake_status(QfsEngine *engine) {
  QfsEngineStatus *status = g_new0(QfsEngineStatus, 1);
  status->nodes = 5;
  status->replicas = 3;
  status->write_quorum = 2;
  status->quorum = TRUE;
  status->unsettled = 4;
  status->node[0].state = QFS_NODE_STATE_UP;
  status->node[0].in_sync = TRUE;
  status->node[0].dir = g_strdup("/s/node-1");
  status->node[1].state = QFS_NODE_STATE_CATCHING_UP;
  status->node[1].progress = 41;
  status->node[2].state = QFS_NODE_STATE_FAILED;
  status->node[2].reason = g_strdup("disk\nbroken");
  status->node[3].state = QFS_NODE_STATE_CRASHED;
  status->node[4].state = QFS_NODE_STATE_REBUILDING;
  status->node[4].progress = 10;
  status->node[4].replica.records = 77;
  status->count.puts = 11;
  status->count.deletes = 12;
  status->count.hedged = 13;
  status->count.sent[QFS_MESSAGE_APPLY] = 14;
  status->count.copied_records = 15;
  return status;
}

static void fake_read_links(QfsEngine *engine, QfsLinks *out) {
  *out = fake.links;
}

static void fake_edit_links(QfsEngine *engine, QfsLinksEdit edit, gpointer user_data) {
  g_assert_true(engine->config.faults);
  edit(&fake.links, user_data);
}

static void fake_discard(QfsEngine *engine, QfsObjectId object) {
  g_assert_true(qfs_object_equal(object, (QfsObjectId){7, 9}));
  fake.discarded++;
}

static const QfsEngineOps fake_ops = {.submit = fake_submit,
                                      .status = fake_status,
                                      .discard = fake_discard,
                                      .read_links = fake_read_links,
                                      .edit_links = fake_edit_links};

static void on_changed(const char *key, gpointer user_data) {
  g_ptr_array_add(fake.changed, g_strdup(key));
}

typedef struct {
  QfsControl *control;
} Fixture;

static void set_up(Fixture *fixture, gconstpointer data) {
  memset(&fake, 0, sizeof fake);
  fake.engine.ops = &fake_ops;
  fake.engine.config.store = (char *)"/s";
  fake.engine.config.nodes = 5;
  qfs_links_init(&fake.links, 5);
  fake.log = g_ptr_array_new_with_free_func(g_free);
  fake.changed = g_ptr_array_new_with_free_func(g_free);
  fake.staged = g_byte_array_new();
  fixture->control = qfs_control_new(&fake.engine, on_changed, NULL);
}

static void tear_down(Fixture *fixture, gconstpointer data) {
  qfs_control_free(fixture->control);
  g_ptr_array_unref(fake.log);
  g_ptr_array_unref(fake.changed);
  g_byte_array_unref(fake.staged);
  g_clear_pointer(&fake.value, g_bytes_unref);
}

static void assert_lines(GPtrArray *lines, const char *expected) {
  g_autoptr(GString) joined = g_string_new(NULL);
  for (guint i = 0; i < lines->len; i++)
    g_string_append_printf(joined, "%s%s", i > 0 ? "|" : "", (char *)g_ptr_array_index(lines, i));
  g_assert_cmpstr(joined->str, ==, expected);
}

/* Synchronous faces of the asynchronous calls; EINPROGRESS while the answer is out. */
typedef struct {
  int error;
  gsize written;
  char *text;
} Outcome;

static void on_written(int error, gsize written, gpointer user_data) {
  Outcome *outcome = user_data;
  g_assert_cmpint(outcome->error, ==, EINPROGRESS);
  outcome->error = error;
  outcome->written = written;
}

static void on_read(int error, GBytes *data, gpointer user_data) {
  Outcome *outcome = user_data;
  g_assert_cmpint(outcome->error, ==, EINPROGRESS);
  outcome->error = error;
  if (data != NULL) {
    outcome->text = g_strndup(g_bytes_get_data(data, NULL), g_bytes_get_size(data));
    g_bytes_unref(data);
  }
}

static int write_bytes(QfsControlFile *file, const void *bytes, gsize len) {
  Outcome outcome = {.error = EINPROGRESS};
  qfs_control_write(file, 0, g_bytes_new(bytes, len), on_written, &outcome);
  g_assert_cmpint(outcome.error, !=, EINPROGRESS);
  g_assert_true(outcome.error != 0 || outcome.written == len);
  return outcome.error;
}

static int write_text(QfsControlFile *file, const char *text) {
  return write_bytes(file, text, strlen(text));
}

static char *read_text(QfsControlFile *file, off_t offset, gsize size, int *out_error) {
  Outcome outcome = {.error = EINPROGRESS};
  qfs_control_read(file, offset, size, on_read, &outcome);
  g_assert_cmpint(outcome.error, !=, EINPROGRESS);
  if (out_error != NULL)
    *out_error = outcome.error;
  return outcome.text;
}

static void assert_reads(QfsControlFile *file, const char *expected) {
  int error;
  g_autofree char *text = read_text(file, 0, 100000, &error);
  g_assert_cmpint(error, ==, 0);
  g_assert_cmpstr(text, ==, expected);
}

static QfsControlFile *open_as(Fixture *fixture, const char *path, int flags, uid_t uid,
                               int *out_error) {
  return qfs_control_open(fixture->control, path, flags, uid, 100, out_error);
}

static QfsControlFile *open_root(Fixture *fixture, const char *path, int flags) {
  int error = 0;
  QfsControlFile *file = open_as(fixture, path, flags, 0, &error);
  g_assert_cmpint(error, ==, 0);
  g_assert_nonnull(file);
  return file;
}

static void assert_file_says(Fixture *fixture, const char *path, const char *expected) {
  QfsControlFile *file = open_root(fixture, path, O_RDONLY);
  assert_reads(file, expected);
  qfs_control_close(file);
}

static void test_tree(Fixture *fixture, gconstpointer data) {
  static const char *const absent[] = {"x",
                                       "nodes/",
                                       "nodes/0",
                                       "nodes/6",
                                       "nodes/01",
                                       "nodes/+1",
                                       "nodes/1/",
                                       "nodes/1/statex",
                                       "nodes//1",
                                       "/status",
                                       "status/",
                                       "nodes/-1",
                                       "nodes/18446744073709551617"};
  for (gsize i = 0; i < G_N_ELEMENTS(absent); i++)
    g_assert_cmpuint(qfs_control_mode(fixture->control, absent[i]), ==, 0);
  g_assert_cmpuint(qfs_control_mode(fixture->control, ""), ==, S_IFDIR | 0555);
  g_assert_cmpuint(qfs_control_mode(fixture->control, "status"), ==, S_IFREG | 0444);
  g_assert_cmpuint(qfs_control_mode(fixture->control, "nodes/5/state"), ==, S_IFREG | 0644);
  g_assert_cmpuint(qfs_control_mode(fixture->control, "rpc"), ==, S_IFREG | 0600);
  /* Whatever is listed is there, all the way down. */
  g_auto(GStrv) nodes = qfs_control_list(fixture->control, "nodes");
  g_assert_cmpuint(g_strv_length(nodes), ==, 5);
  g_auto(GStrv) root = qfs_control_list(fixture->control, "");
  for (char **name = root; *name != NULL; name++)
    g_assert_cmpuint(qfs_control_mode(fixture->control, *name), !=, 0);
  g_auto(GStrv) node = qfs_control_list(fixture->control, "nodes/3");
  g_assert_cmpstr(node[0], ==, "state");
  g_assert_null(qfs_control_list(fixture->control, "status"));
  g_assert_null(qfs_control_list(fixture->control, "nope"));
}

static void test_status(Fixture *fixture, gconstpointer data) {
  QfsControlFile *file = open_root(fixture, "status.json", O_RDONLY);
  g_autofree char *text = read_text(file, 0, 100000, NULL);
  g_autofree char *tail = read_text(file, 10, 5, NULL);
  g_autofree char *beyond = read_text(file, 1000000, 5, NULL);
  g_assert_true(strncmp(tail, text + 10, 5) == 0 && strlen(tail) == 5);
  g_assert_cmpstr(beyond, ==, "");
  qfs_control_close(file);
  g_autoptr(JsonParser) parser = json_parser_new();
  g_assert_true(json_parser_load_from_data(parser, text, -1, NULL));
  JsonObject *object = json_node_get_object(json_parser_get_root(parser));
  g_assert_cmpint(json_object_get_int_member(object, "nodes"), ==, 5);
  g_assert_cmpint(json_object_get_int_member(object, "unsettled"), ==, 4);
  g_assert_cmpint(json_object_get_int_member(object, "pid"), ==, getpid());
  JsonArray *nodes = json_object_get_array_member(object, "node");
  g_assert_cmpuint(json_array_get_length(nodes), ==, 5);
  JsonObject *second = json_array_get_object_element(nodes, 1);
  g_assert_cmpstr(json_object_get_string_member(second, "state"), ==, "catching-up");
  g_assert_cmpint(json_object_get_int_member(second, "progress_percent"), ==, 41);
  QfsControlFile *table = open_root(fixture, "status", O_RDONLY);
  g_autofree char *human = read_text(table, 0, 100000, NULL);
  g_assert_nonnull(strstr(human, "catching-up 41%"));
  g_assert_nonnull(strstr(human, "/s/node-1"));
  qfs_control_close(table);
  g_assert_cmpuint(fake.log->len, ==, 0); /* no request: status touches no replica */
}

static void test_states(Fixture *fixture, gconstpointer data) {
  assert_file_says(fixture, "nodes/1/state", "up\n");
  assert_file_says(fixture, "nodes/2/state", "catching-up 41%\n");
  assert_file_says(fixture, "nodes/3/state", "failed: disk broken\n");
  assert_file_says(fixture, "nodes/4/state", "crashed\n");
  assert_file_says(fixture, "nodes/5/state", "rebuilding 10%\n");
}

static void test_commands(Fixture *fixture, gconstpointer data) {
  QfsControlFile *file = open_root(fixture, "nodes/3/state", O_WRONLY | O_TRUNC);
  g_assert_cmpint(write_text(file, "down\n"), ==, 0);
  g_assert_cmpint(write_text(file, "up"), ==, 0);
  g_assert_cmpint(write_text(file, " crash \n"), ==, 0);
  g_assert_cmpint(write_text(file, "evict\n"), ==, 0);
  g_assert_cmpuint(fake.log->len, ==, 4);
  static const char *const wrong[] = {"", "\n", "Down\n", "downs\n", "evicted\n", "up down\n"};
  for (gsize i = 0; i < G_N_ELEMENTS(wrong); i++)
    g_assert_cmpint(write_text(file, wrong[i]), ==, EINVAL);
  g_assert_cmpint(write_bytes(file, "up\0x", 4), ==, EINVAL);
  g_autofree char *lengthy = g_strnfill(100000, ' ');
  g_assert_cmpint(write_text(file, lengthy), ==, EINVAL);
  g_assert_cmpuint(fake.log->len, ==, 4);
  fake.status = QFS_UNKNOWN;
  g_assert_cmpint(write_text(file, "down\n"), ==, ETIMEDOUT);
  fake.status = QFS_BUSY;
  g_assert_cmpint(write_text(file, "evict\n"), ==, EBUSY);
  qfs_control_close(file);
}

static void test_command_ends_when_done(Fixture *fixture, gconstpointer data) {
  QfsControlFile *file = open_root(fixture, "nodes/3/state", O_WRONLY);
  Outcome outcome = {.error = EINPROGRESS};
  fake.hold = TRUE;
  qfs_control_write(file, 0, g_bytes_new_static("down\n", 5), on_written, &outcome);
  g_assert_cmpint(outcome.error, ==, EINPROGRESS);
  g_assert_cmpuint(fake.held->node, ==, 3);
  g_assert_cmpint(fake.held->action, ==, QFS_NODE_DOWN);
  release();
  g_assert_cmpint(outcome.error, ==, 0);
  g_assert_cmpuint(outcome.written, ==, 5);
  qfs_control_close(file);
}

static void assert_refused(Fixture *fixture, const char *path, const char *text, const char *why) {
  g_test_expect_message("quorumfs", G_LOG_LEVEL_WARNING, why);
  QfsControlFile *file = open_root(fixture, path, O_WRONLY);
  g_assert_cmpint(write_text(file, text), ==, EINVAL);
  qfs_control_close(file);
  g_test_assert_expected_messages();
}

static void assert_takes(Fixture *fixture, const char *path, const char *text) {
  QfsControlFile *file = open_root(fixture, path, O_WRONLY | O_TRUNC);
  g_assert_cmpint(write_text(file, text), ==, 0);
  qfs_control_close(file);
}

static void test_faults(Fixture *fixture, gconstpointer data) {
  fake.engine.config.faults = TRUE;
  assert_file_says(fixture, "nodes/2/delay", "0\n");
  assert_file_says(fixture, "nodes/2/drop", "0\n");
  assert_file_says(fixture, "partition", "1 2 3 4 5\n");
  assert_takes(fixture, "nodes/2/delay", "2000\n");
  assert_takes(fixture, "nodes/5/drop", "0.3\n");
  assert_takes(fixture, "partition", "1 2 3 | 4 5 1>2\n");
  assert_file_says(fixture, "nodes/2/delay", "2000\n");
  assert_file_says(fixture, "nodes/5/drop", "0.3\n");
  assert_file_says(fixture, "partition", "1 2 3 | 4 5\n1>2\n");
  assert_refused(fixture, "nodes/2/delay", "soon\n", "*nodes/2/delay: *; nothing was changed");
  assert_refused(fixture, "nodes/2/drop", "2\n", "*nodes/2/drop: *; nothing was changed");
  assert_refused(fixture, "partition", "1 2\n", "*partition: node 3 is in no group; nothing*");
  assert_refused(fixture, "partition", "", "*partition: *; nothing was changed");
  g_autofree char *lengthy = g_strnfill(100000, ' ');
  assert_refused(fixture, "partition", lengthy, "*partition: the text is too long*");
  assert_file_says(fixture, "partition", "1 2 3 | 4 5\n1>2\n");
  assert_takes(fixture, "partition", "heal");
  assert_file_says(fixture, "partition", "1 2 3 4 5\n");
  assert_file_says(fixture, "nodes/2/delay", "2000\n");
}

/* Without the option they can be read, and writing them is refused with its name. */
static void test_faults_need_the_option(Fixture *fixture, gconstpointer data) {
  static const char *const paths[] = {"nodes/1/delay", "nodes/5/drop", "partition"};
  for (gsize i = 0; i < G_N_ELEMENTS(paths); i++) {
    int error = 0;
    g_test_expect_message("quorumfs", G_LOG_LEVEL_WARNING, "*option 'faults'*");
    g_assert_null(open_as(fixture, paths[i], O_WRONLY, 0, &error));
    g_assert_cmpint(error, ==, EPERM);
    g_test_assert_expected_messages();
    QfsControlFile *file = open_root(fixture, paths[i], O_RDONLY);
    g_assert_cmpint(write_text(file, "heal"), ==, EBADF);
    qfs_control_close(file);
  }
}

static void test_metrics(Fixture *fixture, gconstpointer data) {
  static const char *const lines[] = {
      "\nquorumfs_puts_total 11\n",
      "\nquorumfs_deletes_total 12\n",
      "\nquorumfs_hedged_reads_total 13\n",
      "\nquorumfs_messages_sent_total{type=\"apply\"} 14\n",
      "\nquorumfs_catchup_copied_total{kind=\"record\"} 15\n",
      "\nquorumfs_unsettled_versions 4\n",
      "\nquorumfs_node_keys{node=\"5\"} 77\n",
      "\nquorumfs_node_state{node=\"2\",state=\"catching-up\"} 1\n",
      "\nquorumfs_node_state{node=\"2\",state=\"up\"} 0\n",
      "\nquorumfs_node_in_sync{node=\"1\"} 1\n",
      "\nquorumfs_fuse_requests_total{operation=\"open\"} 2\n",
      "\nquorumfs_fuse_requests_total{operation=\"other\"} 1\n",
      "\n# TYPE quorumfs_puts_total counter\n",
      "\n# TYPE quorumfs_node_bytes gauge\n",
  };
  qfs_control_count_request(fixture->control, 14);
  qfs_control_count_request(fixture->control, 14);
  qfs_control_count_request(fixture->control, 4096);
  QfsControlFile *file = open_root(fixture, "metrics", O_RDONLY);
  g_autofree char *text = read_text(file, 0, 100000, NULL);
  qfs_control_close(file);
  for (gsize i = 0; i < G_N_ELEMENTS(lines); i++)
    g_assert_nonnull(strstr(text, lines[i]));
  /* Every sample follows the HELP and TYPE of its own name. */
  g_auto(GStrv) all = g_strsplit(text, "\n", -1);
  g_autofree char *name = NULL;
  for (char **line = all; **line != '\0'; line++) {
    if (g_str_has_prefix(*line, "# HELP ")) {
      g_free(name);
      name = g_strndup(*line + 7, strcspn(*line + 7, " "));
      g_autofree char *type = g_strconcat("# TYPE ", name, " ", NULL);
      g_assert_true(g_str_has_prefix(*++line, type));
    } else {
      g_assert_cmpuint(strcspn(*line, " {"), ==, strlen(name));
      g_assert_true(g_str_has_prefix(*line, name));
    }
  }
  g_assert_cmpuint(fake.log->len, ==, 0);
}

static void test_permissions(Fixture *fixture, gconstpointer data) {
  const uid_t stranger = geteuid() + 1;
  static const struct {
    const char *path;
    int flags, stranger, root;
  } cases[] = {
      {"status", O_RDONLY, 0, 0},           {"status", O_WRONLY, EACCES, EACCES},
      {"nodes/1/state", O_RDONLY, 0, 0},    {"nodes/1/state", O_WRONLY | O_TRUNC, EACCES, 0},
      {"rpc", O_RDWR, EACCES, 0},           {"rpc", O_RDONLY, EACCES, EINVAL},
      {"rpc", O_WRONLY, EACCES, EINVAL},    {"nodes", O_RDONLY, EISDIR, EISDIR},
      {"absent", O_RDONLY, ENOENT, ENOENT},
  };
  for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
    for (int as_root = 0; as_root < 2; as_root++) {
      int error = 0;
      QfsControlFile *file =
          open_as(fixture, cases[i].path, cases[i].flags, as_root ? 0 : stranger, &error);
      g_assert_cmpint(error, ==, as_root ? cases[i].root : cases[i].stranger);
      g_assert_true((file != NULL) == (error == 0));
      qfs_control_close(file);
    }
  }
}

static void test_put(Fixture *fixture, gconstpointer data) {
  QfsControlFile *file = open_root(fixture, "rpc", O_RDWR);
  g_assert_cmpint(write_text(file, "put 5 a%20b%0A%25\n"), ==, 0);
  g_assert_cmpint(write_text(file, "val"), ==, 0);
  g_assert_cmpint(write_text(file, "ue"), ==, 0);
  assert_reads(file, "applied 5\n");
  assert_reads(file, "applied 5\n"); /* carried out once */
  g_autofree char *tail = read_text(file, 8, 100, NULL);
  g_assert_cmpstr(tail, ==, "5\n");
  g_assert_cmpint(write_text(file, "more"), ==, EINVAL);
  qfs_control_close(file);
  g_autofree char *expected =
      g_strdup_printf("write a b\n%% %d 5", QFS_WRITE_REPLACE | QFS_WRITE_CREATE |
                                                QFS_WRITE_PARENTS | QFS_WRITE_TIMESTAMP);
  assert_lines(fake.log, expected);
  assert_lines(fake.changed, "a b\n%");
  g_assert_cmpuint(g_bytes_get_size(fake.value), ==, 5);
  g_assert_cmpmem(g_bytes_get_data(fake.value, NULL), 5, "value", 5);
}

static void test_put_in_one_write(Fixture *fixture, gconstpointer data) {
  QfsControlFile *file = open_root(fixture, "rpc", O_RDWR);
  g_assert_cmpint(write_text(file, "put - k\nline\n"), ==, 0);
  assert_reads(file, "applied 0\n");
  qfs_control_close(file);
  g_assert_cmpmem(g_bytes_get_data(fake.value, NULL), g_bytes_get_size(fake.value), "line\n", 5);
  g_autofree char *expected =
      g_strdup_printf("write k %d 0", QFS_WRITE_REPLACE | QFS_WRITE_CREATE | QFS_WRITE_PARENTS);
  assert_lines(fake.log, expected);
}

static void test_put_of_nothing(Fixture *fixture, gconstpointer data) {
  QfsControlFile *file = open_root(fixture, "rpc", O_RDWR);
  g_assert_cmpint(write_text(file, "put 18446744073709551615 k\n"), ==, 0);
  assert_reads(file, "applied 18446744073709551615\n");
  qfs_control_close(file);
  g_assert_cmpuint(g_bytes_get_size(fake.value), ==, 0);
}

static void test_delete(Fixture *fixture, gconstpointer data) {
  QfsControlFile *file = open_root(fixture, "rpc", O_RDWR);
  g_assert_cmpint(write_text(file, "delete 7 d/k\n"), ==, 0);
  assert_reads(file, "applied 7\n");
  qfs_control_close(file);
  g_autofree char *expected = g_strdup_printf("remove d/k %d 7", QFS_REMOVE_TIMESTAMP);
  assert_lines(fake.log, expected);
  assert_lines(fake.changed, "d/k");
  file = open_root(fixture, "rpc", O_RDWR);
  g_assert_cmpint(write_text(file, "delete 7 d/k\nx"), ==, EINVAL);
  qfs_control_close(file);
}

static void test_superseded(Fixture *fixture, gconstpointer data) {
  fake.superseded = TRUE;
  QfsControlFile *file = open_root(fixture, "rpc", O_RDWR);
  g_assert_cmpint(write_text(file, "put 5 k\nold"), ==, 0);
  assert_reads(file, "superseded 9\n");
  qfs_control_close(file);
}

static void test_refused(Fixture *fixture, gconstpointer data) {
  fake.status = QFS_NO_QUORUM;
  QfsControlFile *file = open_root(fixture, "rpc", O_RDWR);
  g_assert_cmpint(write_text(file, "put - k\nx"), ==, 0);
  g_autofree char *text = read_text(file, 0, 1000, NULL);
  g_autofree char *expected =
      g_strdup_printf("error %d %s\n", EHOSTDOWN, qfs_control_explain(EHOSTDOWN));
  g_assert_cmpstr(text, ==, expected);
  g_assert_cmpuint(fake.changed->len, ==, 0);
  qfs_control_close(file);
  assert_file_says(fixture, "last-error", "put of 'k' failed: no-quorum\n");
  fake.status = QFS_UNKNOWN; /* perhaps applied: caches must not keep the old value */
  file = open_root(fixture, "rpc", O_RDWR);
  g_assert_cmpint(write_text(file, "put - k\nx"), ==, 0);
  g_autofree char *unknown = read_text(file, 0, 1000, NULL);
  g_assert_true(g_str_has_prefix(unknown, "error 110 "));
  assert_lines(fake.changed, "k");
  qfs_control_close(file);
}

static void test_parents(Fixture *fixture, gconstpointer data) {
  fake.present = "a/b";
  QfsControlFile *file = open_root(fixture, "rpc", O_RDWR);
  g_assert_cmpint(write_text(file, "put - a/b/c/d/k\nx"), ==, 0);
  assert_reads(file, "applied 0\n");
  qfs_control_close(file);
  assert_lines(fake.changed, "a/b/c|a/b/c/d|a/b/c/d/k");
}

static void test_deep_parents(Fixture *fixture, gconstpointer data) {
  g_autoptr(GString) key = g_string_new("k");
  while (key->len + 2 <= QFS_KEY_MAX)
    g_string_append(key, "/k");
  g_autofree char *header = g_strdup_printf("put - %s\n", key->str);
  QfsControlFile *file = open_root(fixture, "rpc", O_RDWR);
  g_assert_cmpint(write_text(file, header), ==, 0);
  assert_reads(file, "applied 0\n");
  qfs_control_close(file);
  g_assert_cmpuint(fake.changed->len, ==, QFS_KEY_MAX / 2 + 1);
}

static void put_large(Fixture *fixture, gsize size) {
  g_autofree guint8 *value = g_malloc(size);
  for (gsize i = 0; i < size; i++)
    value[i] = (guint8)(i * 7 + i / 65536);
  QfsControlFile *file = open_root(fixture, "rpc", O_RDWR);
  g_assert_cmpint(write_text(file, "put - k\n"), ==, 0);
  for (gsize at = 0, piece = 1; at < size; at += piece, piece = piece * 3 + 1) {
    piece = MIN(MIN(piece, 1 << 20), size - at);
    g_assert_cmpint(write_bytes(file, value + at, piece), ==, 0);
  }
  assert_reads(file, "applied 0\n");
  qfs_control_close(file);
  if (fake.value != NULL)
    g_assert_cmpmem(g_bytes_get_data(fake.value, NULL), g_bytes_get_size(fake.value), value, size);
  else
    g_assert_cmpmem(fake.staged->data, fake.staged->len, value, size);
  g_assert_cmpuint(fake.discarded, ==, 0);
  g_byte_array_set_size(fake.staged, 0);
  g_clear_pointer(&fake.value, g_bytes_unref);
}

static void test_large(Fixture *fixture, gconstpointer data) {
  put_large(fixture, 65536);
  put_large(fixture, (1 << 20) - 1);
  put_large(fixture, 1 << 20);
  put_large(fixture, (1 << 20) + 1);
  put_large(fixture, (9 << 20) + 12345);
}

static void test_dropped(Fixture *fixture, gconstpointer data) {
  g_autofree char *piece = g_strnfill(3 << 20, 'x');
  QfsControlFile *file = open_root(fixture, "rpc", O_RDWR);
  g_assert_cmpint(write_text(file, "put - k\n"), ==, 0);
  g_assert_cmpint(write_text(file, piece), ==, 0);
  qfs_control_close(file); /* not read: not carried out */
  g_assert_cmpuint(fake.discarded, ==, 1);
  g_assert_cmpuint(fake.changed->len, ==, 0);
  fake.status = QFS_NO_QUORUM;
  file = open_root(fixture, "rpc", O_RDWR);
  g_assert_cmpint(write_text(file, "put - k\n"), ==, 0);
  g_assert_cmpint(write_text(file, piece), ==, EHOSTDOWN);
  g_assert_cmpint(write_text(file, "x"), ==, EHOSTDOWN); /* a put with a hole must not happen */
  int error;
  g_assert_null(read_text(file, 0, 100, &error));
  g_assert_cmpint(error, ==, EHOSTDOWN);
  qfs_control_close(file);
  g_assert_cmpuint(fake.discarded, ==, 1);
}

static void test_overlap(Fixture *fixture, gconstpointer data) {
  Outcome outcome = {.error = EINPROGRESS};
  QfsControlFile *file = open_root(fixture, "rpc", O_RDWR);
  g_assert_cmpint(write_text(file, "put - k\nx"), ==, 0);
  fake.hold = TRUE;
  qfs_control_read(file, 0, 100, on_read, &outcome);
  g_assert_cmpint(outcome.error, ==, EINPROGRESS);
  g_assert_cmpint(write_text(file, "y"), ==, EBUSY);
  int error;
  g_assert_null(read_text(file, 0, 100, &error));
  g_assert_cmpint(error, ==, EBUSY);
  qfs_control_close(file); /* while it is under way: the answer still comes */
  release();
  g_assert_cmpint(outcome.error, ==, 0);
  g_assert_cmpstr(outcome.text, ==, "applied 0\n");
  g_free(outcome.text);
}

static void test_wrong_headers(Fixture *fixture, gconstpointer data) {
  static const char *const wrong[] = {
      "\n",
      "put\n",
      "put -\n",
      "put - \n",
      "get - k\n",
      "put x k\n",
      "put -1 k\n",
      "put 18446744073709551616 k\n",
      "put - a%00b\n",
      "put - a%zz\n",
      "put - /a\n",
      "put - a/\n",
      "put - a//b\n",
      "put - ../a\n",
      "put - .quorumfs/x\n",
      "delete - .quorumfs\n",
      "put  k\n",
  };
  for (gsize i = 0; i < G_N_ELEMENTS(wrong); i++) {
    QfsControlFile *file = open_root(fixture, "rpc", O_RDWR);
    g_assert_cmpint(write_text(file, wrong[i]), ==, EINVAL);
    qfs_control_close(file);
  }
  g_autofree char *component = g_strnfill(256, 'a');
  g_autofree char *header = g_strdup_printf("put - %s\n", component);
  QfsControlFile *file = open_root(fixture, "rpc", O_RDWR);
  g_assert_cmpint(write_text(file, header), ==, ENAMETOOLONG);
  qfs_control_close(file);
  g_autofree char *endless = g_strnfill(20000, 'a');
  file = open_root(fixture, "rpc", O_RDWR);
  g_assert_cmpint(write_text(file, endless), ==, EINVAL);
  qfs_control_close(file);
  file = open_root(fixture, "rpc", O_RDWR);
  int error;
  g_assert_null(read_text(file, 0, 100, &error)); /* nothing was asked for */
  g_assert_cmpint(error, ==, EINVAL);
  qfs_control_close(file);
  g_assert_cmpuint(fake.log->len, ==, 0);
}

#define ADD(path, function)                                                                        \
  g_test_add("/fs/control/" path, Fixture, NULL, set_up, function, tear_down)

int main(int argc, char **argv) {
  g_test_init(&argc, &argv, NULL);
  g_log_set_always_fatal(G_LOG_FATAL_MASK); /* warnings are what last-error is about */
  qfs_log_init(TRUE);
  ADD("the-tree-is-what-it-lists", test_tree);
  ADD("status-is-told-without-a-request", test_status);
  ADD("states-are-one-line-each", test_states);
  ADD("state-takes-up-down-crash-and-nothing-else", test_commands);
  ADD("faults-are-read-and-written", test_faults);
  ADD("faults-need-the-option", test_faults_need_the_option);
  ADD("metrics", test_metrics);
  ADD("a-command-ends-when-it-is-carried-out", test_command_ends_when_done);
  ADD("strangers-may-look-and-not-touch", test_permissions);
  ADD("rpc/put", test_put);
  ADD("rpc/put-in-one-write", test_put_in_one_write);
  ADD("rpc/put-of-an-empty-value-at-the-last-timestamp", test_put_of_nothing);
  ADD("rpc/delete", test_delete);
  ADD("rpc/superseded-tells-by-what", test_superseded);
  ADD("rpc/errors-are-answers", test_refused);
  ADD("rpc/parents-that-were-missing-are-forgotten-by-caches", test_parents);
  ADD("rpc/two-thousand-missing-parents", test_deep_parents);
  ADD("rpc/large-values-are-staged", test_large);
  ADD("rpc/what-is-not-finished-is-dropped", test_dropped);
  ADD("rpc/one-call-at-a-time", test_overlap);
  ADD("rpc/wrong-headers-are-refused", test_wrong_headers);
  return g_test_run();
}
