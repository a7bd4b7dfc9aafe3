/* The node against a SQLite replica in a temporary directory, with faults injected between the two.
 */
#include "cluster/node.h"
#include "cluster/placement.h"

#include <glib/gstdio.h>
#include <sqlite3.h>

/* Faults: the replica's table of functions, with a countdown before each. */

static const QfsReplicaOps *real;
static int countdown; /* 0: no fault; 1: the next call fails */
static QfsReplicaError fault_code;
static const QfsReplicaStats *disk; /* what the file and its disk are said to have; NULL: what they have */
static const char *fault_key; /* record_apply of this key finds the disk full, always */
static guint commits, durable_commits, rollbacks;
static gboolean in_transaction;

static gboolean trip(GError **error) {
  if (countdown == 0 || --countdown > 0)
    return FALSE;
  g_set_error(error, QFS_REPLICA_ERROR, (gint)fault_code, "injected");
  return TRUE;
}

static gboolean f_begin(QfsReplica *self, GError **error) {
  if (trip(error))
    return FALSE;
  g_assert_false(in_transaction);
  in_transaction = TRUE;
  return real->begin(self, error);
}

static gboolean f_commit(QfsReplica *self, gboolean durable, GError **error) {
  if (trip(error) || !real->commit(self, durable, error))
    return FALSE;
  in_transaction = FALSE;
  commits++;
  durable_commits += durable ? 1 : 0;
  return TRUE;
}

static void f_rollback(QfsReplica *self) {
  in_transaction = FALSE;
  rollbacks++;
  real->rollback(self);
}

static gboolean f_record_apply(QfsReplica *self, const QfsRecord *record, gboolean force,
                               QfsApplyResult *out_result, GError **error) {
  if (g_strcmp0(record->key, fault_key) == 0) {
    g_set_error(error, QFS_REPLICA_ERROR, QFS_REPLICA_ERROR_NO_SPACE, "disk full");
    return FALSE;
  }
  return !trip(error) && real->record_apply(self, record, force, out_result, error);
}

static gboolean f_meta_store(QfsReplica *self, const QfsNodeMeta *meta, GError **error) {
  return !trip(error) && real->meta_store(self, meta, error);
}

static gboolean f_record_get(QfsReplica *self, const char *key, QfsRecord **out, GError **error) {
  return !trip(error) && real->record_get(self, key, out, error);
}

static gboolean f_chunk_put(QfsReplica *self, const QfsChunk *chunk, GError **error) {
  return !trip(error) && real->chunk_put(self, chunk, error);
}

static gboolean f_checkpoint(QfsReplica *self, gboolean everything, GError **error) {
  return !trip(error) && real->checkpoint(self, everything, error);
}

static gboolean f_object_drop(QfsReplica *self, QfsObjectId object, guint limit, gboolean *out_more,
                              GError **error) {
  return !trip(error) && real->object_drop(self, object, limit, out_more, error);
}

static gboolean f_stats(QfsReplica *self, QfsReplicaStats *out, GError **error) {
  if (trip(error) || !real->stats(self, out, error))
    return FALSE;
  if (disk != NULL) {
    out->disk_free = disk->disk_free;
    out->reusable = disk->reusable;
    out->owed = disk->owed;
  }
  return TRUE;
}

/* Fixture. */

typedef struct {
  QfsEnv env; /* first */
  char *dir;
  QfsReplicaOps faulty;
  QfsNode *node;
  guint64 incarnation;
  guint64 epoch;
  GPtrArray *batch, *replies;
} Fixture;

static void collect(QfsEnv *env, QfsMessage *reply) {
  g_assert_false(in_transaction); /* N1 */
  g_ptr_array_add(((Fixture *)env)->replies, reply);
}

static void open_node(Fixture *f) {
  g_autoptr(GError) error = NULL;
  QfsReplica *replica = qfs_sqlite_replica_open(f->dir, 2, TRUE, FALSE, &error);
  g_assert_no_error(error);
  real = replica->ops;
  f->faulty = *real;
  f->faulty.begin = f_begin;
  f->faulty.commit = f_commit;
  f->faulty.rollback = f_rollback;
  f->faulty.record_apply = f_record_apply;
  f->faulty.meta_store = f_meta_store;
  f->faulty.record_get = f_record_get;
  f->faulty.chunk_put = f_chunk_put;
  f->faulty.checkpoint = f_checkpoint;
  f->faulty.object_drop = f_object_drop;
  f->faulty.stats = f_stats;
  replica->ops = &f->faulty;
  f->node = qfs_node_new(&f->env, 2, ++f->incarnation, replica, &error);
  g_assert_no_error(error);
  g_assert_nonnull(f->node);
}

static void reopen_node(Fixture *f) {
  qfs_node_free(f->node);
  countdown = 0;
  fault_key = NULL;
  open_node(f);
}

static void set_up(Fixture *f, gconstpointer data) {
  countdown = 0;
  disk = NULL;
  fault_key = NULL;
  commits = durable_commits = rollbacks = 0;
  in_transaction = FALSE;
  f->env.reply = collect;
  f->dir = g_dir_make_tmp("qfs-node-XXXXXX", NULL);
  f->batch = g_ptr_array_new();
  f->replies = g_ptr_array_new_with_free_func((GDestroyNotify)qfs_message_free);
  open_node(f);
}

static void tear_down(Fixture *f, gconstpointer data) {
  qfs_node_free(f->node);
  g_ptr_array_unref(f->batch);
  g_ptr_array_unref(f->replies);
  g_autoptr(GDir) dir = g_dir_open(f->dir, 0, NULL);
  const char *name = NULL;
  while ((name = g_dir_read_name(dir)) != NULL) {
    g_autofree char *path = g_build_filename(f->dir, name, NULL);
    g_unlink(path);
  }
  g_rmdir(f->dir);
  g_free(f->dir);
}

static QfsMessage *add(Fixture *f, QfsMessageType type) {
  QfsMessage *message = qfs_message_new(type, 2);
  message->incarnation = f->incarnation;
  message->epoch = f->epoch;
  message->cookie = 100 + f->batch->len;
  g_ptr_array_add(f->batch, message);
  return message;
}

static void run(Fixture *f) {
  g_ptr_array_set_size(f->replies, 0);
  qfs_node_handle(f->node, f->batch);
  g_assert_cmpuint(f->batch->len, ==, 0);
}

static QfsMessage *reply(Fixture *f, guint i) {
  g_assert_cmpuint(i, <, f->replies->len);
  QfsMessage *message = g_ptr_array_index(f->replies, i);
  g_assert_true(message->is_reply);
  g_assert_cmpuint(message->incarnation, ==, f->incarnation);
  return message;
}

static QfsRecord *value(const char *key, guint64 timestamp, guint64 seq, const char *text) {
  QfsRecord *record = qfs_record_new(key);
  record->kind = QFS_KIND_VALUE;
  record->timestamp = timestamp;
  record->seq = seq;
  record->attr.mode = 0100644;
  record->attr.size = strlen(text);
  g_bytes_unref(record->tail);
  record->tail = g_bytes_new(text, strlen(text));
  record->digest = qfs_digest(text, strlen(text));
  return record;
}

static QfsMessage *add_put(Fixture *f, const char *key, guint64 timestamp, guint64 seq,
                           const char *text) {
  QfsMessage *message = add(f, QFS_MESSAGE_APPLY);
  message->records = qfs_records_new();
  g_ptr_array_add(message->records, value(key, timestamp, seq, text));
  return message;
}

static QfsMessage *add_chunks(Fixture *f, QfsMessageType type, QfsObjectId object, guint64 version,
                              guint n, const char *text) {
  QfsMessage *message = add(f, type);
  message->chunks = qfs_chunks_new();
  for (guint i = 0; i < n; i++) {
    QfsChunk *chunk = g_new0(QfsChunk, 1);
    *chunk = (QfsChunk){.object = object, .index = i, .version = version, .seq = 1};
    chunk->data = text != NULL ? g_bytes_new(text, strlen(text)) : NULL;
    g_ptr_array_add(message->chunks, chunk);
  }
  return message;
}

/* Timestamp of what the node holds for `key`; 0: nothing. */
static guint64 held(Fixture *f, const char *key) {
  add(f, QFS_MESSAGE_READ)->key = g_strdup(key);
  run(f);
  const QfsMessage *answer = reply(f, 0);
  g_assert_cmpint(answer->status, ==, QFS_OK);
  return answer->records->len > 0 ? ((QfsRecord *)g_ptr_array_index(answer->records, 0))->timestamp
                                  : 0;
}

static guint chunks_held(Fixture *f, guint64 after_seq) {
  QfsMessage *scan = add(f, QFS_MESSAGE_SCAN_CHUNKS);
  scan->after_seq = after_seq;
  scan->limit = 10000;
  run(f);
  g_assert_cmpint(reply(f, 0)->status, ==, QFS_OK);
  g_assert_false(reply(f, 0)->more);
  return reply(f, 0)->chunks->len;
}

static QfsNodeMeta meta_of(Fixture *f) {
  add(f, QFS_MESSAGE_HELLO);
  run(f);
  g_assert_cmpint(reply(f, 0)->status, ==, QFS_OK);
  return *reply(f, 0)->meta;
}

static void add_view(Fixture *f, guint64 epoch) {
  QfsMessage *message = add(f, QFS_MESSAGE_VIEW);
  message->epoch = epoch;
  message->view = g_new0(QfsView, 1);
  message->view->nodes = 3;
  message->view->replicas = 3;
  message->view->epoch = epoch;
}

/* Tests. */

static void test_hello(Fixture *f, gconstpointer data) {
  /* A fresh node says its number and that it has no view; a repeated HELLO is answered the same. */
  for (guint i = 0; i < 2; i++) {
    const QfsNodeMeta meta = meta_of(f);
    g_assert_cmpuint(meta.node, ==, 2);
    g_assert_false(meta.has_view);
    g_assert_cmpuint(meta.promised_epoch, ==, 0);
    g_assert_cmpuint(reply(f, 0)->stats.disk_total, >, 0);
  }
}

static void test_wrong_number(Fixture *f, gconstpointer data) {
  /* A replica that belongs to another node is refused and closed. */
  qfs_node_free(g_steal_pointer(&f->node));
  g_autoptr(GError) error = NULL;
  QfsReplica *replica = qfs_sqlite_replica_open(f->dir, 2, FALSE, FALSE, &error);
  g_assert_no_error(error);
  g_assert_null(qfs_node_new(&f->env, 3, 1, replica, &error));
  g_assert_error(error, QFS_REPLICA_ERROR, QFS_REPLICA_ERROR_FORMAT);
  open_node(f);
}

static void test_epochs(Fixture *f, gconstpointer data) {
  /* A view is a durable promise: older epochs change nothing, also later in the same batch (N2). */
  f->epoch = 4;
  add_put(f, "a", 10, 1, "old");
  add_view(f, 5);
  add_put(f, "a", 20, 2, "late");
  run(f);
  g_assert_cmpint(reply(f, 0)->status, ==, QFS_OK);
  g_assert_cmpint(reply(f, 1)->status, ==, QFS_OK);
  g_assert_cmpint(reply(f, 2)->status, ==, QFS_STALE);
  g_assert_cmpuint(reply(f, 2)->epoch, ==, 5);
  g_assert_cmpuint(commits, ==, 1);
  g_assert_cmpuint(durable_commits, ==, 1);

  reopen_node(f);
  add_view(f, 4);
  run(f);
  g_assert_cmpint(reply(f, 0)->status, ==, QFS_STALE);
  const QfsNodeMeta meta = meta_of(f);
  g_assert_true(meta.has_view);
  g_assert_cmpuint(meta.promised_epoch, ==, 5);
  g_assert_cmpuint(meta.view.epoch, ==, 5);
  g_assert_cmpuint(meta.generation, ==, 5);
  f->epoch = 5;
  g_assert_cmpuint(held(f, "a"), ==, 10);
}

static void test_promise(Fixture *f, gconstpointer data) {
  /* A promise is durable, leaves the view alone, and refuses what is older, views and promises too. It raises the
   * generation if the replica is believed. */
  f->epoch = 5;
  add_view(f, 5);
  add(f, QFS_MESSAGE_PROMISE)->id = 7;
  run(f);
  g_assert_cmpint(reply(f, 1)->status, ==, QFS_OK);
  g_assert_cmpuint(durable_commits, ==, 1);
  reopen_node(f);
  const QfsNodeMeta meta = meta_of(f);
  g_assert_cmpuint(meta.promised_epoch, ==, 7);
  g_assert_cmpuint(meta.view.epoch, ==, 5);
  g_assert_cmpuint(meta.generation, ==, 5);
  f->epoch = 6;
  add_put(f, "a", 10, 1, "late");
  add_view(f, 6);
  add(f, QFS_MESSAGE_PROMISE)->id = 6;
  run(f);
  for (guint i = 0; i < 3; i++) {
    g_assert_cmpint(reply(f, i)->status, ==, QFS_STALE);
    g_assert_cmpuint(reply(f, i)->epoch, ==, 7);
  }
  f->epoch = 7;
  add(f, QFS_MESSAGE_PROMISE)->id = 7; /* repeated */
  add_view(f, 7);
  run(f);
  g_assert_cmpint(reply(f, 0)->status, ==, QFS_OK);
  g_assert_cmpint(reply(f, 1)->status, ==, QFS_OK);
  QfsMessage *believed = add(f, QFS_MESSAGE_PROMISE);
  believed->id = 8;
  believed->force = TRUE;
  run(f);
  reopen_node(f);
  g_assert_cmpuint(meta_of(f).generation, ==, 8);
  g_assert_cmpuint(meta_of(f).view.epoch, ==, 7);
}

static void test_newest(Fixture *f, gconstpointer data) {
  /* An older version changes nothing and the reply tells the timestamp that beat it; force
   * replaces. */
  add_put(f, "a", 20, 2, "new");
  add_put(f, "a", 10, 1, "old");
  add_put(f, "a", 20, 2, "new");
  run(f);
  g_assert_cmpuint(reply(f, 0)->newest, ==, 0);
  g_assert_cmpuint(reply(f, 1)->newest, ==, 20);
  g_assert_cmpuint(reply(f, 2)->newest, ==, 0);
  g_assert_cmpuint(held(f, "a"), ==, 20);
  add_put(f, "a", 10, 3, "forced")->force = TRUE;
  run(f);
  g_assert_cmpuint(reply(f, 0)->newest, ==, 0);
  g_assert_cmpuint(held(f, "a"), ==, 10);
}

static void test_remove(Fixture *f, gconstpointer data) {
  /* A row is removed only while it is the version that was meant; without a row there is nothing to
   * do. */
  add_put(f, "a", 10, 1, "1");
  run(f);
  static const guint64 timestamps[] = {9, 11, 10, 10};
  static const guint64 left[] = {10, 10, 0, 0};
  for (guint i = 0; i < G_N_ELEMENTS(left); i++) {
    QfsMessage *remove_row = add(f, QFS_MESSAGE_REMOVE);
    remove_row->key = g_strdup("a");
    remove_row->records = qfs_records_new();
    g_ptr_array_add(remove_row->records, value("a", timestamps[i], 1, "1"));
    run(f);
    g_assert_cmpint(reply(f, 0)->status, ==, QFS_OK);
    g_assert_cmpuint(held(f, "a"), ==, left[i]);
  }
}

static void test_group_commit(Fixture *f, gconstpointer data) {
  /* A batch is one transaction, durable when one request asks for it; reads in it see earlier
   * writes and open none of their own; no cookie, no reply. */
  add_put(f, "a", 10, 1, "1");
  add(f, QFS_MESSAGE_READ)->key = g_strdup("a");
  add_put(f, "b", 10, 2, "2")->durable = TRUE;
  add_put(f, "c", 10, 3, "3")->cookie = 0;
  run(f);
  g_assert_cmpuint(commits, ==, 1);
  g_assert_cmpuint(durable_commits, ==, 1);
  g_assert_cmpuint(f->replies->len, ==, 3);
  g_assert_cmpuint(reply(f, 1)->records->len, ==, 1);
  g_assert_cmpuint(reply(f, 2)->cookie, ==, 102);
  g_assert_cmpuint(held(f, "c"), ==, 10);
  g_assert_cmpuint(commits, ==, 1);
}

static void test_incarnations(Fixture *f, gconstpointer data) {
  /* A new HELLO begins a new life; what was sent to an earlier one is lost (N4). */
  add_put(f, "a", 10, 1, "1");
  add(f, QFS_MESSAGE_HELLO)->incarnation = ++f->incarnation;
  add_put(f, "b", 10, 2, "2")->incarnation = f->incarnation - 1;
  add(f, QFS_MESSAGE_HELLO)->incarnation = f->incarnation - 1;
  add_put(f, "c", 10, 3, "3");
  run(f);
  g_assert_cmpuint(f->replies->len, ==, 3);
  g_assert_cmpuint(((QfsMessage *)g_ptr_array_index(f->replies, 0))->incarnation, ==,
                   f->incarnation - 1);
  g_assert_cmpint(reply(f, 1)->type, ==, QFS_MESSAGE_HELLO);
  g_assert_cmpint(reply(f, 2)->type, ==, QFS_MESSAGE_APPLY);
  g_assert_cmpuint(held(f, "a"), ==, 10);
  g_assert_cmpuint(held(f, "b"), ==, 0);
  g_assert_cmpuint(held(f, "c"), ==, 10);
}

static void test_intents(Fixture *f, gconstpointer data) {
  /* An intent is durable but not visible; its commit applies and removes it, also twice. */
  for (guint i = 0; i < 2; i++) {
    QfsMessage *intent = add(f, QFS_MESSAGE_INTENT);
    intent->id = 7;
    intent->durable = TRUE;
    intent->records = qfs_records_new();
    g_ptr_array_add(intent->records, value("a", 10, 1, "1"));
    g_ptr_array_add(intent->records, value("b", 10, 1, "2"));
  }
  run(f);
  reopen_node(f);
  g_assert_cmpuint(held(f, "a"), ==, 0);
  add(f, QFS_MESSAGE_INTENTS);
  run(f);
  g_assert_cmpuint(reply(f, 0)->intents->len, ==, 1);
  const QfsIntent *stored = g_ptr_array_index(reply(f, 0)->intents, 0);
  g_assert_cmpuint(stored->id, ==, 7);
  g_assert_cmpuint(stored->records->len, ==, 2);
  for (guint i = 0; i < 2; i++) {
    QfsMessage *commit = add(f, QFS_MESSAGE_COMMIT);
    commit->id = 7;
    commit->records = qfs_records_new();
    g_ptr_array_add(commit->records, value("b", 10, 1, "2"));
  }
  add(f, QFS_MESSAGE_INTENTS); /* kept until the effect is durable everywhere */
  QfsMessage *end = add(f, QFS_MESSAGE_COMMIT);
  end->id = 7;
  end->records = qfs_records_new();
  add(f, QFS_MESSAGE_INTENTS);
  run(f);
  g_assert_cmpint(reply(f, 1)->status, ==, QFS_OK);
  g_assert_cmpuint(reply(f, 2)->intents->len, ==, 1);
  g_assert_cmpint(reply(f, 3)->status, ==, QFS_OK);
  g_assert_cmpuint(reply(f, 4)->intents->len, ==, 0);
  g_assert_cmpuint(held(f, "b"), ==, 10);
  g_assert_cmpuint(held(f, "a"), ==, 0);
  QfsMessage *late = add(f, QFS_MESSAGE_INTENT); /* a late copy does not bring it back */
  late->id = 7;
  late->records = qfs_records_new();
  g_ptr_array_add(late->records, value("a", 10, 1, "1"));
  add(f, QFS_MESSAGE_INTENTS);
  run(f);
  g_assert_cmpuint(reply(f, 1)->intents->len, ==, 0);
}

static void test_chunks(Fixture *f, gconstpointer data) {
  /* Chunks are read by their version, trimmed below one, removed one by one. */
  const QfsObjectId object = {.placement = 3, .unique = 4};
  add_chunks(f, QFS_MESSAGE_CHUNKS, object, 10, 2, "old");
  add_chunks(f, QFS_MESSAGE_CHUNKS, object, 20, 1, "new");
  QfsMessage *get = add_chunks(f, QFS_MESSAGE_CHUNK_GET, object, 10, 1, NULL);
  g_assert_nonnull(get);
  run(f);
  g_assert_cmpuint(reply(f, 2)->chunks->len, ==, 1);
  g_assert_cmpuint(((QfsChunk *)g_ptr_array_index(reply(f, 2)->chunks, 0))->version, ==, 10);
  g_assert_cmpuint(chunks_held(f, 0), ==, 3);

  add_chunks(f, QFS_MESSAGE_DISCARD, object, 20, 1, NULL)->discard = QFS_DISCARD_OLDER;
  add_chunks(f, QFS_MESSAGE_CHUNK_GET, object, 10, 1, NULL);
  add_chunks(f, QFS_MESSAGE_CHUNK_GET, object, 21, 1, NULL);
  run(f);
  g_assert_cmpuint(reply(f, 1)->chunks->len, ==, 0);
  g_assert_cmpuint(reply(f, 2)->chunks->len, ==, 0); /* not the next best */
  add_chunks(f, QFS_MESSAGE_DISCARD, object, 20, 1, NULL)->discard = QFS_DISCARD_VERSION;
  run(f);
  g_assert_cmpuint(chunks_held(f, 0), ==, 1);
}

static void test_drop_object(Fixture *f, gconstpointer data) {
  /* A large object goes in bounded steps while idle, other objects stay, and faults do not lose
   * work that a full disk put off. */
  const QfsObjectId object = {.placement = 3, .unique = 4}, other = {.placement = 3, .unique = 5};
  add_chunks(f, QFS_MESSAGE_CHUNKS, object, 10, 200, "x");
  add_chunks(f, QFS_MESSAGE_CHUNKS, other, 10, 3, "y");
  run(f);
  add_chunks(f, QFS_MESSAGE_DISCARD, object, 0, 1, NULL)->discard = QFS_DISCARD_OBJECT;
  run(f);
  const guint first = chunks_held(f, 0);
  g_assert_cmpuint(first, >, 3);
  fault_code = QFS_REPLICA_ERROR_NO_SPACE;
  countdown = 3; /* checkpoint, begin, object_drop */
  g_assert_false(qfs_node_idle(f->node));
  g_assert_cmpuint(chunks_held(f, 0), ==, first);
  guint steps = 1;
  while (qfs_node_idle(f->node))
    steps++;
  g_assert_cmpuint(steps, >, 1);
  g_assert_cmpuint(chunks_held(f, 0), ==, 3);
}

static void test_sync(Fixture *f, gconstpointer data) {
  /* Marks are raised, never lowered, durably. */
  QfsMessage *sync = add(f, QFS_MESSAGE_SYNC);
  sync->mark = 5;
  sync->settled = 4;
  sync->ceiling = 1000;
  sync = add(f, QFS_MESSAGE_SYNC);
  sync->mark = 3;
  sync->ceiling = 2000;
  run(f);
  g_assert_cmpuint(durable_commits, ==, 1);
  reopen_node(f);
  QfsNodeMeta meta = meta_of(f);
  g_assert_cmpuint(meta.mark, ==, 5);
  g_assert_cmpuint(meta.settled, ==, 4);
  g_assert_cmpuint(meta.ceiling, ==, 2000);

  add_put(f, "a", 10, 1, "1");
  add(f, QFS_MESSAGE_WIPE);
  run(f);
  meta = meta_of(f);
  g_assert_cmpuint(meta.mark, ==, 0);
  g_assert_cmpuint(meta.settled, ==, 0);
  g_assert_cmpuint(meta.ceiling, ==, 2000);
  g_assert_cmpuint(held(f, "a"), ==, 0);
}

static void test_wipe_repeated(Fixture *f, gconstpointer data) {
  /* A repeated wipe takes nothing away that came after the first, and one that was rolled back is
   * done again when its batch is served piece by piece. */
  add_put(f, "a", 10, 1, "1");
  run(f);
  fault_key = "big";
  add(f, QFS_MESSAGE_WIPE);
  add_put(f, "big", 10, 2, "2");
  run(f);
  g_assert_cmpint(reply(f, 0)->status, ==, QFS_OK);
  g_assert_cmpint(reply(f, 1)->status, ==, QFS_NO_SPACE);
  g_assert_cmpuint(held(f, "a"), ==, 0);
  add_put(f, "b", 10, 3, "3");
  add(f, QFS_MESSAGE_WIPE);
  run(f);
  g_assert_cmpuint(held(f, "b"), ==, 10);
}

/* The next key from number *from on that node 2 of three owns, or not, if one copy is kept. */
static char *next_key(gboolean owned, guint *from) {
  for (;;) {
    char *key = g_strdup_printf("k%04u", (*from)++);
    if (owned == qfs_set_has(qfs_placement_holders(qfs_key_hash(key), qfs_set_all(3), 1), 2))
      return key;
    g_free(key);
  }
}

static void test_scans(Fixture *f, gconstpointer data) {
  /* Records are scanned by sequence number, a limited number at a time. */
  char *key[6] = {NULL};
  guint from = 0;
  for (guint i = 1; i <= 5; i++) {
    key[i] = next_key(i > 3, &from);
    add_put(f, key[i], 10, i, "v");
  }
  QfsMessage *scan = add(f, QFS_MESSAGE_SCAN_RECORDS);
  scan->after_seq = 2;
  scan->key = g_strdup(key[2]);
  scan->limit = 2;
  run(f);
  g_assert_cmpuint(reply(f, 5)->records->len, ==, 2);
  g_assert_true(reply(f, 5)->more);
  g_assert_cmpstr(((QfsRecord *)g_ptr_array_index(reply(f, 5)->records, 0))->key, ==, key[3]);

  for (guint i = 1; i <= 5; i++)
    g_free(key[i]);
}

static QfsRecord *tombstone_of(const char *key, guint64 timestamp, guint64 seq) {
  QfsRecord *tombstone = qfs_record_new_tombstone(key, timestamp);
  tombstone->seq = seq;
  return tombstone;
}

static QfsMessage *add_purge(Fixture *f, const char *key, guint64 timestamp, guint64 seq,
                             gboolean itself) {
  QfsMessage *purge = add(f, QFS_MESSAGE_PURGE);
  purge->records = qfs_records_new();
  g_ptr_array_add(purge->records, tombstone_of(key, timestamp, seq));
  purge->after_seq = 8;
  purge->force = itself;
  return purge;
}

static void test_purge(Fixture *f, gconstpointer data) {
  /* First what is older than the tombstone goes, then the tombstone, and never what is newer. */
  add_put(f, "old", 10, 1, "v");
  add_put(f, "new", 30, 9, "v");
  QfsMessage *apply = add(f, QFS_MESSAGE_APPLY);
  apply->records = qfs_records_new();
  g_ptr_array_add(apply->records, tombstone_of("gone", 20, 2));
  run(f);
  for (guint i = 0; i < 2; i++) {
    add_purge(f, "old", 20, 2, i == 1);
    add_purge(f, "gone", 20, 2, i == 1);
    add_purge(f, "new", 20, 2, i == 1);
    run(f);
    g_assert_cmpuint(held(f, "old"), ==, 0);
    g_assert_cmpuint(held(f, "gone"), ==, i == 0 ? 20 : 0);
    g_assert_cmpuint(held(f, "new"), ==, 30);
  }
  /* A tombstone that was collected elsewhere gives way to a later operation, and to no earlier one. */
  apply = add(f, QFS_MESSAGE_APPLY);
  apply->records = qfs_records_new();
  g_ptr_array_add(apply->records, tombstone_of("stayed", 20, 5));
  add_put(f, "stayed", 15, 4, "earlier");
  run(f);
  g_assert_cmpuint(held(f, "stayed"), ==, 20);
  add_put(f, "stayed", 15, 6, "later");
  run(f);
  g_assert_cmpuint(held(f, "stayed"), ==, 15);
}

static void test_no_space(Fixture *f, gconstpointer data) {
  /* On a full disk only the requests that do not fit fail, and the node stays usable (N3). */
  fault_key = "big";
  add_put(f, "a", 10, 1, "1");
  add_put(f, "big", 10, 2, "2");
  add(f, QFS_MESSAGE_READ)->key = g_strdup("a");
  add_put(f, "b", 10, 3, "3")->durable = TRUE;
  run(f);
  g_assert_cmpint(reply(f, 0)->status, ==, QFS_OK);
  g_assert_cmpint(reply(f, 1)->status, ==, QFS_NO_SPACE);
  g_assert_nonnull(reply(f, 1)->reason);
  g_assert_cmpint(reply(f, 2)->status, ==, QFS_OK);
  g_assert_cmpuint(reply(f, 2)->records->len, ==, 1);
  g_assert_cmpint(reply(f, 3)->status, ==, QFS_OK);
  g_assert_cmpuint(commits, ==, 2);
  g_assert_cmpuint(durable_commits, ==, 1);
  add_put(f, "big", 10, 4, "2");
  run(f);
  g_assert_cmpint(reply(f, 0)->status, ==, QFS_NO_SPACE);
  /* A late copy of a request that was refused must not work after all. */
  fault_key = NULL;
  add_put(f, "big", 10, 4, "2");
  run(f);
  g_assert_cmpint(reply(f, 0)->status, ==, QFS_NO_SPACE);
  g_assert_cmpuint(held(f, "big"), ==, 0);
  add_put(f, "big", 10, 5, "2")->cookie = 200;
  run(f);
  g_assert_cmpint(reply(f, 0)->status, ==, QFS_OK);
  g_assert_cmpuint(held(f, "big"), ==, 10);
}

typedef enum { NEW, OVERDUE, TOMBSTONE } Brings;

/* 0.5 MiB that are new, or that others have already, or a tombstone: the answer with so many MiB that are free, that can
 * be used again in the file, and that the file is yet to grow by. */
static QfsStatus with_room(Fixture *f, Brings what, guint64 free_mib, guint64 reusable_mib, guint64 owed_mib) {
  static guint64 cookie = 1000;
  g_autofree char *data = g_strnfill(QFS_CHUNK_SIZE, 'x');
  const QfsReplicaStats said = {
      .disk_free = free_mib << 20, .reusable = reusable_mib << 20, .owed = owed_mib << 20};
  QfsMessage *message = what == TOMBSTONE ? add_put(f, "gone", 10, 1, "")
                                          : add_chunks(f, QFS_MESSAGE_CHUNKS, (QfsObjectId){1, 2}, 10, 8, data);
  if (what == TOMBSTONE)
    ((QfsRecord *)message->records->pdata[0])->kind = QFS_KIND_TOMBSTONE;
  message->is_overdue = what == OVERDUE;
  message->cookie = cookie++;
  disk = &said;
  run(f);
  disk = NULL;
  return reply(f, 0)->status;
}

static void test_room(Fixture *f, gconstpointer data) {
  /* With three replicas 0.5 MiB take up to 3.75 MiB, 4 MiB are a reserve. Where the file itself has room, 1 MiB of the
   * disk and what one copy takes stay free: for a node that lacks what others took. Deletes need nothing. */
  add_view(f, 1);
  f->epoch = 1;
  run(f);
  g_assert_cmpint(with_room(f, NEW, 20, 0, 0), ==, QFS_OK);
  g_assert_cmpint(with_room(f, NEW, 7, 0, 0), ==, QFS_NO_SPACE);
  g_assert_cmpint(with_room(f, NEW, 3, 30, 0), ==, QFS_OK);
  g_assert_cmpint(with_room(f, NEW, 2, 30, 0), ==, QFS_NO_SPACE);
  g_assert_cmpint(with_room(f, NEW, 12, 0, 2), ==, QFS_NO_SPACE); /* its neighbours may owe as much */
  g_assert_cmpint(with_room(f, OVERDUE, 3, 0, 0), ==, QFS_OK);
  g_assert_cmpint(with_room(f, OVERDUE, 3, 0, 2), ==, QFS_NO_SPACE);
  g_assert_cmpint(with_room(f, OVERDUE, 1, 0, 0), ==, QFS_NO_SPACE);
  g_assert_cmpint(with_room(f, TOMBSTONE, 0, 0, 0), ==, QFS_OK);
}

static void test_corrupt_read(Fixture *f, gconstpointer data) {
  /* A damaged record fails the node, which refuses everything until reopened. */
  add_put(f, "a", 10, 1, "1");
  run(f);
  fault_code = QFS_REPLICA_ERROR_CORRUPT;
  countdown = 1;
  add(f, QFS_MESSAGE_READ)->key = g_strdup("a");
  run(f);
  g_assert_cmpint(reply(f, 0)->status, ==, QFS_IO);
  g_assert_cmpstr(reply(f, 0)->reason, ==, "injected");
  add(f, QFS_MESSAGE_PING);
  run(f);
  g_assert_cmpint(reply(f, 0)->status, ==, QFS_IO);
  g_assert_false(qfs_node_idle(f->node));
  reopen_node(f);
  g_assert_cmpuint(held(f, "a"), ==, 10);
}

static void test_bad_row(Fixture *f, gconstpointer data) {
  /* A record that does not match its checksum fails the requests that need it, and no others. */
  add_put(f, "a", 10, 1, "1");
  add_put(f, "b", 10, 2, "2");
  add(f, QFS_MESSAGE_SYNC)->durable = TRUE; /* into the tables */
  run(f);
  g_autofree char *path = g_build_filename(f->dir, "replica.db", NULL);
  sqlite3 *db = NULL;
  g_assert_cmpint(sqlite3_open(path, &db), ==, SQLITE_OK);
  g_assert_cmpint(sqlite3_exec(db, "UPDATE record SET mode = 1 WHERE name = 'a'", NULL, NULL, NULL), ==,
                  SQLITE_OK);
  sqlite3_close(db);
  reopen_node(f); /* which knows of no row what it wrote itself */
  add_put(f, "b", 11, 3, "3");
  add_put(f, "a", 11, 4, "4");
  add(f, QFS_MESSAGE_READ)->key = g_strdup("a");
  add(f, QFS_MESSAGE_READ)->key = g_strdup("b");
  add(f, QFS_MESSAGE_INSPECT)->key = g_strdup("a");
  run(f);
  for (guint i = 1; i <= 2; i++) {
    g_assert_cmpint(reply(f, i)->status, ==, QFS_IO);
    g_assert_cmpstr(reply(f, i)->bad->key, ==, "a");
    g_assert_false(reply(f, i)->corrupt);
  }
  g_assert_cmpint(reply(f, 0)->status, ==, QFS_OK);
  g_assert_cmpint(reply(f, 3)->status, ==, QFS_OK);
  g_assert_cmpint(reply(f, 4)->status, ==, QFS_OK);
  const guint64 print = reply(f, 4)->print;
  g_assert_cmpuint(held(f, "b"), ==, 11);
  g_assert_cmpuint(print, !=, 0);
  for (guint i = 0; i < 2; i++) { /* a repeated request finds nothing to mend */
    QfsMessage *mend = add(f, QFS_MESSAGE_MEND);
    mend->key = g_strdup("a");
    mend->print = print;
    mend->records = qfs_records_new();
    g_ptr_array_add(mend->records, value("a", 11 + i, 4, "4"));
    run(f);
    g_assert_cmpint(reply(f, 0)->status, ==, QFS_OK);
    g_assert_cmpint(reply(f, 0)->more, ==, i == 0);
    g_assert_cmpuint(held(f, "a"), ==, 11);
  }
}

static void test_fault_at_each_call(Fixture *f, gconstpointer data) {
  /* Whichever storage call of a batch fails: every request in it is answered with the failure,
   * nothing of it is kept, the node refuses more, and a reopened one serves the same batch (N1,
   * N3). */
  const QfsObjectId object = {.placement = 3, .unique = 4};
  f->epoch = 5;
  guint call = 0;
  gboolean failed = TRUE;
  while (failed) {
    add_view(f, 5);
    add_put(f, "a", 10, 1, "1");
    add_put(f, "a", 5, 1, "0");
    add_chunks(f, QFS_MESSAGE_CHUNKS, object, 10, 2, "x");
    add(f, QFS_MESSAGE_PING);
    add_chunks(f, QFS_MESSAGE_DISCARD, object, 0, 1, NULL)->discard = QFS_DISCARD_OBJECT;
    fault_code = QFS_REPLICA_ERROR_IO;
    countdown = (int)++call;
    rollbacks = 0;
    run(f);
    failed = countdown == 0;
    g_assert_cmpuint(f->replies->len, ==, 6);
    for (guint i = 0; i < 6; i++)
      g_assert_cmpint(reply(f, i)->status, ==, failed ? QFS_IO : QFS_OK);
    if (failed) {
      g_assert_cmpuint(rollbacks, ==, call == 1 ? 0 : 1);
      add(f, QFS_MESSAGE_HELLO);
      run(f);
      g_assert_cmpint(reply(f, 0)->status, ==, QFS_IO);
    }
    reopen_node(f);
    g_assert_cmpuint(held(f, "a"), ==, failed ? 0 : 10);
    g_assert_cmpuint(chunks_held(f, 0), ==, 0);
    g_assert_cmpuint(meta_of(f).promised_epoch, ==, failed ? 0 : 5);
  }
  g_assert_cmpuint(call, >, 8);
}

int main(int argc, char **argv) {
  g_test_init(&argc, &argv, NULL);
#define ADD(path, test) g_test_add("/cluster/node/" path, Fixture, NULL, set_up, test, tear_down)
  ADD("hello-tells-what-the-node-remembers", test_hello);
  ADD("replica-of-another-node-is-refused", test_wrong_number);
  ADD("older-epochs-change-nothing", test_epochs);
  ADD("a-promise-refuses-older-epochs-and-changes-no-view", test_promise);
  ADD("apply-tells-the-newer-timestamp", test_newest);
  ADD("remove-takes-only-the-version-meant", test_remove);
  ADD("batch-is-one-transaction", test_group_commit);
  ADD("message-of-an-earlier-life-is-lost", test_incarnations);
  ADD("intent-is-invisible-until-committed", test_intents);
  ADD("chunks-are-read-and-trimmed-by-version", test_chunks);
  ADD("large-object-is-dropped-in-steps", test_drop_object);
  ADD("marks-only-rise-until-wiped", test_sync);
  ADD("repeated-wipe-takes-nothing-more", test_wipe_repeated);
  ADD("scans-are-limited", test_scans);
  ADD("purge-is-in-order", test_purge);
  ADD("full-disk-fails-only-what-does-not-fit", test_no_space);
  ADD("room-that-is-kept-for-what-others-have", test_room);
  ADD("damaged-record-fails-the-node", test_corrupt_read);
  ADD("bad-record-fails-only-what-needs-it", test_bad_row);
  ADD("fault-at-each-storage-call-changes-nothing", test_fault_at_each_call);
#undef ADD
  return g_test_run();
}
