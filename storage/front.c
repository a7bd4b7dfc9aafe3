/* front.c - see front.h.
 *
 * A transaction begins in front, without SQLite. Its records are `staged` until commit appends them to the redo log. The
 * first call that needs the tables settles it: SQLite's transaction begins, with everything that is in front, then what was
 * staged, and from there on the calls go through.
 *
 * One thread at a time per object.
 */
#include "storage/front.h"

#include "storage/memtable.h"
#include "storage/meta.h"
#include "storage/record_store.h"
#include "storage/redo.h"

#include <string.h>
#include <sys/statvfs.h>

/* A longer record goes to the tables at once. */
#define RECORD_MAX_BYTES (QFS_INLINE_MAX + 4096)
/* So much is in front at most ... */
#define FRONT_MAX_BYTES (2048 * 1024)
#define FRONT_MAX_RECORDS 4096
/* A longer transaction is SQLite's from there on: what is staged is searched from its end. */
#define STAGED_MAX_RECORDS 512
/* ... and from here on it is moved when there is time. Nodes at different times, lest a put should wait for all of them. */
#define FRONT_DUE_BYTES (256 * 1024)
#define FRONT_DUE_STAGGER (48 * 1024)
#define STAGGERED 5
/* With less free on its disk nothing waits: up to 64 nodes may be there, and what waits takes room once more when it moves. */
#define ROOMY_BYTES (64u << 20)
/* With less than this the log of SQLite is moved whenever there is time, and its file cut: it is those who share the disk
 * that may be refused for want of it (node.c wants up to some 12 MiB before a write), and this replica does not hear of it. */
#define TIGHT_BYTES (16u << 20)
/* Rows of a directory that are looked at in one go for one that is alive. */
#define LIVE_ROWS 64

/* By how many the counts of rows change when something goes into the tables. */
typedef struct {
  gint64 records, tombstones;
} Change;

typedef struct {
  QfsReplica base; /* first */
  QfsReplica *tables;
  QfsMemtable *front; /* shared; what a writer put in front */
  char *dir;

  /* writer */
  QfsRedo *redo; /* NULL: a reader */
  guint64 salt;  /* in the tables; 0: none yet */
  gsize due;     /* bytes */
  gboolean is_roomy; /* the disk was, at the latest look */
  gboolean is_tight; /* ... and was this */
  gboolean sync_always;
  gboolean in_transaction;
  gboolean is_settled;  /* SQLite's transaction is open, too */
  gboolean is_broken;   /* a call failed: only rollback may follow */
  guint64 next_salt;    /* is_settled: in the tables from the commit on */
  gboolean in_doubt;    /* SQLite's latest commit failed: at the next opening it may have happened, with another salt */
  gboolean are_tables_synced; /* all that SQLite committed is on stable storage, the salt too (F3) */
  gboolean is_promised; /* some of the redo log was committed as durable: it moves durably (F3) */
  GPtrArray *staged;    /* QfsRecord of the transaction, later ones of a key behind earlier ones */
  Change front_change, staged_change;

  /* reader, while there is no writer: what the redo log has */
  QfsMemtable *left;
} Front;

static Front *front_of(QfsReplica *replica) { return (Front *)replica; }
static const QfsReplicaOps *ops_of(const Front *self) { return self->tables->ops; }
static gboolean is_writer(const Front *self) { return self->redo != NULL; }

/* ---- moving what is in front into the tables ---- */

/* What is known to be newer than the row, which may be damaged. */
static gboolean put_into_tables(Front *self, GPtrArray *records, GError **error) {
  QfsApplyResult result;
  for (guint i = 0; i < records->len; i++)
    if (!ops_of(self)->record_apply(self->tables, records->pdata[i], TRUE, &result, error))
      return FALSE;
  return TRUE;
}

static guint64 new_salt(void) {
  guint64 salt = 0;
  while (salt == 0)
    sqlite3_randomness(sizeof salt, &salt);
  return salt;
}

/* From here on the transaction is SQLite's. */
static gboolean settle(Front *self, GError **error) {
  if (self->is_settled)
    return TRUE;
  if (!ops_of(self)->begin(self->tables, error))
    return FALSE;
  self->is_settled = TRUE;
  g_autoptr(GPtrArray) front = qfs_memtable_all(self->front);
  self->next_salt = new_salt(); /* F2: what comes to the log after this transaction counts only where it is there */
  if (put_into_tables(self, front, error) && put_into_tables(self, self->staged, error) &&
      qfs_meta_store_salt(qfs_connection(self->tables), self->next_salt, error))
    return TRUE;
  self->is_broken = TRUE;
  return FALSE;
}

static void look_for_room(Front *self) {
  struct statvfs disk;
  const gboolean is_known = statvfs(self->dir, &disk) == 0;
  const guint64 left = is_known ? (guint64)disk.f_bavail * disk.f_frsize : 0;
  self->is_roomy = left >= ROOMY_BYTES;
  self->is_tight = is_known && left < TIGHT_BYTES;
}

static gboolean commit_settled(Front *self, gboolean durable, GError **error) {
  const gboolean syncs = durable || self->is_promised || self->sync_always;
  self->are_tables_synced = FALSE;
  self->in_doubt = !ops_of(self)->commit(self->tables, syncs, error);
  if (self->in_doubt)
    return FALSE;
  self->are_tables_synced = syncs;
  self->is_promised = FALSE;
  qfs_redo_restart(self->redo, self->salt = self->next_salt);
  self->is_settled = FALSE;
  qfs_memtable_clear(self->front);
  self->front_change = (Change){0};
  look_for_room(self);
  if (!self->is_roomy)
    qfs_redo_delete(self->redo);
  return TRUE;
}

static void drop(Front *self) {
  if (self->is_settled)
    ops_of(self)->rollback(self->tables);
  self->is_settled = self->is_broken = FALSE;
  g_ptr_array_set_size(self->staged, 0);
  self->staged_change = (Change){0};
}

/* A transaction of its own. */
static gboolean flush(Front *self, GError **error) {
  if (qfs_memtable_size(self->front) == 0)
    return TRUE;
  if (settle(self, error) && commit_settled(self, FALSE, error))
    return TRUE;
  drop(self);
  return FALSE;
}

/* Before the tables are read beyond one record. */
static gboolean look(Front *self, GError **error) {
  if (!is_writer(self) || self->is_settled)
    return TRUE;
  if (!self->in_transaction)
    return flush(self, error);
  return (self->staged->len == 0 && qfs_memtable_size(self->front) == 0) || settle(self, error);
}

/* ---- what is in front, for reading ---- */

/* Nobody writes: what the last writer left in the log when it died. */
static QfsMemtable *load_left(Front *self) {
  g_autoptr(QfsRedo) redo = qfs_redo_new(self->dir);
  g_autoptr(GPtrArray) records = g_ptr_array_new_with_free_func((GDestroyNotify)qfs_record_unref);
  guint64 salt = 0;
  if (self->left == NULL)
    self->left = qfs_memtable_get(NULL);
  qfs_memtable_clear(self->left);
  if (qfs_meta_load_salt(qfs_connection(self->tables), &salt, NULL) && salt != 0)
    qfs_redo_load(redo, salt, records);
  qfs_memtable_put(self->left, records);
  return self->left;
}

static QfsMemtable *in_front(Front *self) {
  return is_writer(self) || qfs_memtable_has_writer(self->front) ? self->front : load_left(self);
}

/* Of this transaction, or in front; NULL: neither. */
static QfsRecord *find(Front *self, const char *key) {
  for (guint i = is_writer(self) ? self->staged->len : 0; i-- > 0;)
    if (strcmp(((QfsRecord *)self->staged->pdata[i])->key, key) == 0)
      return qfs_record_ref(self->staged->pdata[i]);
  return qfs_memtable_find(in_front(self), key);
}

static gboolean record_get(QfsReplica *replica, const char *key, QfsRecord **out_record, GError **error) {
  Front *self = front_of(replica);
  QfsRecord *record = self->is_settled ? NULL : find(self, key);
  if (record == NULL)
    return ops_of(self)->record_get(self->tables, key, out_record, error);
  *out_record = record;
  return TRUE;
}

static const char *name_of(const QfsRecord *record) {
  gsize dir_len;
  const char *name;
  qfs_key_split(record->key, &dir_len, &name);
  return name;
}

/* As a listing shows it. */
static QfsRecord *listed(const QfsRecord *record, gboolean whole) {
  if (whole || record->kind == QFS_KIND_SYMLINK || record->kind == QFS_KIND_LINK)
    return qfs_record_ref(record);
  QfsRecord *copy = qfs_record_copy(record);
  g_bytes_unref(copy->tail);
  copy->tail = qfs_bytes_none();
  return copy;
}

/* Two listings in the order of names become one; of equal names `front` counts. Takes what both have. */
static void merge(GPtrArray *rows, GPtrArray *front, gboolean whole, GPtrArray *out) {
  guint i = 0, j = 0;
  while (i < rows->len || j < front->len) {
    const int order = i == rows->len    ? 1
                      : j == front->len ? -1
                                        : strcmp(name_of(rows->pdata[i]), name_of(front->pdata[j]));
    if (order < 0) {
      g_ptr_array_add(out, qfs_record_ref(rows->pdata[i++]));
      continue;
    }
    g_ptr_array_add(out, listed(front->pdata[j++], whole));
    i += order == 0;
  }
}

static gboolean record_list(QfsReplica *replica, const char *dir, const char *after, guint limit, gboolean whole,
                            GPtrArray *out, gboolean *out_more, GError **error) {
  Front *self = front_of(replica);
  if (!look(self, error))
    return FALSE;
  /* Before the rows are read: what is moved meanwhile is in one of both. The tables of a settled transaction have all. */
  g_autoptr(GPtrArray) front =
      self->is_settled ? NULL : qfs_memtable_children(in_front(self), dir, after != NULL ? after : "");
  if (front == NULL || front->len == 0)
    return ops_of(self)->record_list(self->tables, dir, after, limit, whole, out, out_more, error);
  g_autoptr(GPtrArray) rows = g_ptr_array_new_with_free_func((GDestroyNotify)qfs_record_unref);
  gboolean more;
  if (!ops_of(self)->record_list(self->tables, dir, after, limit, whole, rows, &more, error))
    return FALSE;
  /* Beyond the page's last row there may be rows that come before what is in front. */
  const char *last = more && rows->len > 0 ? name_of(rows->pdata[rows->len - 1]) : NULL;
  while (last != NULL && front->len > 0 && strcmp(name_of(front->pdata[front->len - 1]), last) > 0)
    g_ptr_array_set_size(front, (int)front->len - 1);
  const gsize end = (gsize)out->len + limit;
  merge(rows, front, whole, out);
  *out_more = more || out->len > end;
  if (out->len > end)
    g_ptr_array_set_size(out, (int)end);
  return TRUE;
}

/* Is something alive in the directory, with what is in front? */
static gboolean is_alive(Front *self, const char *dir, gboolean *out_alive, GError **error) {
  g_autofree char *after = NULL;
  gboolean more = TRUE;
  *out_alive = FALSE;
  while (more && !*out_alive) {
    g_autoptr(GPtrArray) rows = g_ptr_array_new_with_free_func((GDestroyNotify)qfs_record_unref);
    if (!record_list(&self->base, dir, after, LIVE_ROWS, FALSE, rows, &more, error))
      return FALSE;
    for (guint i = 0; i < rows->len && !*out_alive; i++)
      *out_alive = qfs_record_exists(rows->pdata[i]);
    g_free(after);
    after = rows->len > 0 ? g_strdup(name_of(rows->pdata[rows->len - 1])) : NULL;
    more = more && rows->len > 0;
  }
  return TRUE;
}

/* The least directory >= from with something alive in front; NULL: none. */
static char *live_in_front(Front *self, const char *from) {
  g_autoptr(GPtrArray) all = qfs_memtable_all(in_front(self));
  for (guint i = 0; i < all->len; i++) {
    const QfsRecord *record = all->pdata[i];
    gsize len;
    const char *name;
    qfs_key_split(record->key, &len, &name);
    g_autofree char *dir = g_strndup(record->key, len);
    if (qfs_record_exists(record) && strcmp(dir, from) >= 0)
      return g_steal_pointer(&dir);
  }
  return NULL;
}

static gboolean live_dir(QfsReplica *replica, const char *from, char **out_dir, GError **error) {
  Front *self = front_of(replica);
  if (!look(self, error))
    return FALSE;
  if (is_writer(self) || qfs_memtable_size(in_front(self)) == 0)
    return ops_of(self)->live_dir(self->tables, from, out_dir, error);
  g_autofree char *front = live_in_front(self, from);
  g_autofree char *next = g_strdup(from);
  while (TRUE) {
    g_autofree char *dir = NULL;
    gboolean alive;
    if (!ops_of(self)->live_dir(self->tables, next, &dir, error))
      return FALSE;
    if (dir == NULL || (front != NULL && strcmp(front, dir) <= 0)) {
      *out_dir = g_steal_pointer(&front);
      return TRUE;
    }
    if (!is_alive(self, dir, &alive, error))
      return FALSE;
    if (alive) {
      *out_dir = g_steal_pointer(&dir);
      return TRUE;
    }
    g_free(next);
    next = g_strconcat(dir, "\1", NULL); /* what comes next */
  }
}

/* ---- transactions ---- */

static gboolean begin(QfsReplica *replica, GError **error) {
  Front *self = front_of(replica);
  g_assert(is_writer(self) && !self->in_transaction);
  if (!qfs_connection_is_usable(qfs_connection(self->tables), error))
    return FALSE;
  self->in_transaction = TRUE;
  self->is_broken = FALSE;
  return TRUE;
}

static void rollback(QfsReplica *replica) {
  Front *self = front_of(replica);
  if (is_writer(self))
    drop(self);
  self->in_transaction = FALSE;
}

static gsize staged_bytes(const Front *self) {
  gsize bytes = 0;
  for (guint i = 0; i < self->staged->len; i++)
    bytes += qfs_redo_record_size(self->staged->pdata[i]);
  return bytes;
}

static gboolean fits_in_front(const Front *self) {
  return self->salt != 0 && self->is_roomy && !self->in_doubt &&
         qfs_redo_size(self->redo) + staged_bytes(self) <= FRONT_MAX_BYTES &&
         qfs_memtable_size(self->front) + self->staged->len <= FRONT_MAX_RECORDS;
}

/* May the transaction wait in front, as far as stable storage goes? */
static gboolean may_wait(const Front *self, gboolean durable) {
  return !self->is_settled && (!durable || self->are_tables_synced);
}

/* F3, where the tables are synced. */
static gboolean sync_front(Front *self, GError **error) {
  self->is_promised |= qfs_redo_size(self->redo) > 0;
  return !qfs_sqlite_replica_syncs() || qfs_redo_sync(self->redo) ||
         qfs_connection_give_up(qfs_connection(self->tables), error, "the redo log can't be synced");
}

static gboolean commit(QfsReplica *replica, gboolean durable, GError **error) {
  Front *self = front_of(replica);
  g_assert(self->in_transaction);
  if (self->is_broken)
    return qfs_connection_fail_with(qfs_connection(self->tables), QFS_REPLICA_ERROR_IO, error,
                                    "an earlier step of the transaction failed");
  durable |= self->sync_always;
  const gboolean waits = may_wait(self, durable) &&
                         (self->staged->len == 0 || (fits_in_front(self) && qfs_redo_append(self->redo, self->staged)));
  if (waits && durable && !sync_front(self, error)) {
    return FALSE;
  } else if (waits) {
    qfs_memtable_put(self->front, self->staged);
    self->front_change.records += self->staged_change.records;
    self->front_change.tombstones += self->staged_change.tombstones;
  } else if (!settle(self, error) || !commit_settled(self, durable, error)) {
    return FALSE;
  }
  g_ptr_array_set_size(self->staged, 0);
  self->staged_change = (Change){0};
  self->in_transaction = FALSE;
  return TRUE;
}

/* ---- what writes ---- */

static gboolean wrote(Front *self, gboolean ok) {
  self->is_broken |= !ok;
  return ok;
}

/* old_kind < 0: there was nothing. */
static void count(Change *change, int old_kind, const QfsRecord *record) {
  change->tombstones += (record->kind == QFS_KIND_TOMBSTONE) - (old_kind == QFS_KIND_TOMBSTONE);
  change->records += (record->kind != QFS_KIND_TOMBSTONE) - (old_kind >= 0 && old_kind != QFS_KIND_TOMBSTONE);
}

static gboolean stage(Front *self, const QfsRecord *record, QfsApplyResult *out_result, GError **error) {
  g_autoptr(QfsRecord) known = find(self, record->key);
  QfsVerdict verdict;
  if (known != NULL)
    verdict = qfs_record_store_compare(record, known);
  else if (!qfs_record_store_judge(self->tables, record, &verdict, error))
    return FALSE;
  if (verdict.stores) {
    g_ptr_array_add(self->staged, qfs_record_ref(record));
    count(&self->staged_change, verdict.kind, record);
  }
  *out_result = verdict.result;
  return TRUE;
}

static gboolean record_apply(QfsReplica *replica, const QfsRecord *record, gboolean force, QfsApplyResult *out_result,
                             GError **error) {
  Front *self = front_of(replica);
  g_assert(self->in_transaction);
  if (!force && !self->is_settled && !self->is_broken && self->staged->len < STAGED_MAX_RECORDS &&
      qfs_redo_record_size(record) <= RECORD_MAX_BYTES)
    return wrote(self, stage(self, record, out_result, error));
  return wrote(self, settle(self, error) && ops_of(self)->record_apply(self->tables, record, force, out_result, error));
}

/* Goes through to the tables, which have everything then. */
#define WRITE(name, ...)                                                                                              \
  Front *self = front_of(replica);                                                                                    \
  g_assert(self->in_transaction);                                                                                     \
  return wrote(self, settle(self, error) && ops_of(self)->name(self->tables, __VA_ARGS__))
/* The same of what reads. */
#define LOOK(name, ...)                                                                                               \
  Front *self = front_of(replica);                                                                                    \
  return look(self, error) && ops_of(self)->name(self->tables, __VA_ARGS__)
/* What is only in the tables. */
#define PASS(name, ...)                                                                                               \
  return ops_of(front_of(replica))->name(front_of(replica)->tables, __VA_ARGS__)

static gboolean meta_store(QfsReplica *replica, const QfsNodeMeta *meta, GError **error) {
  WRITE(meta_store, meta, error);
}
static gboolean record_remove(QfsReplica *replica, const char *key, GError **error) {
  WRITE(record_remove, key, error);
}
static gboolean chunk_put(QfsReplica *replica, const QfsChunk *chunk, GError **error) {
  WRITE(chunk_put, chunk, error);
}
static gboolean chunk_trim(QfsReplica *replica, QfsObjectId object, guint64 index, guint64 keep, GError **error) {
  WRITE(chunk_trim, object, index, keep, error);
}
static gboolean chunk_remove(QfsReplica *replica, QfsObjectId object, guint64 index, guint64 version, GError **error) {
  WRITE(chunk_remove, object, index, version, error);
}
static gboolean object_drop(QfsReplica *replica, QfsObjectId object, guint limit, gboolean *out_more, GError **error) {
  WRITE(object_drop, object, limit, out_more, error);
}
static gboolean record_mend(QfsReplica *replica, const char *key, guint64 print, const QfsRecord *record,
                            gboolean *out_done, GError **error) {
  WRITE(record_mend, key, print, record, out_done, error);
}
static gboolean chunk_mend(QfsReplica *replica, const QfsChunk *id, guint64 print, const QfsChunk *chunk,
                           gboolean *out_done, GError **error) {
  WRITE(chunk_mend, id, print, chunk, out_done, error);
}
static gboolean intent_put(QfsReplica *replica, guint64 id, GPtrArray *records, GError **error) {
  WRITE(intent_put, id, records, error);
}
static gboolean intent_remove(QfsReplica *replica, guint64 id, GError **error) {
  WRITE(intent_remove, id, error);
}
static gboolean wipe(QfsReplica *replica, GError **error) {
  WRITE(wipe, error);
}

/* ---- what reads ---- */

static gboolean record_scan(QfsReplica *replica, guint64 after_seq, const char *after_key, guint limit, GPtrArray *out,
                            gboolean *out_more, GError **error) {
  LOOK(record_scan, after_seq, after_key, limit, out, out_more, error);
}
static gboolean tombstone_scan(QfsReplica *replica, guint64 after_seq, const char *after_key, guint limit, GPtrArray *out,
                               gboolean *out_more, GError **error) {
  LOOK(tombstone_scan, after_seq, after_key, limit, out, out_more, error);
}
static gboolean record_walk(QfsReplica *replica, const char *after_key, const char *until_key, gboolean whole, guint limit,
                            GPtrArray *out, GPtrArray *bad, char **out_end, gboolean *out_more, GError **error) {
  LOOK(record_walk, after_key, until_key, whole, limit, out, bad, out_end, out_more, error);
}
static gboolean record_print(QfsReplica *replica, const char *key, guint64 *out_print, GError **error) {
  LOOK(record_print, key, out_print, error);
}
static gboolean object_records(QfsReplica *replica, QfsObjectId object, GPtrArray *out, GError **error) {
  LOOK(object_records, object, out, error);
}

static gboolean meta_load(QfsReplica *replica, QfsNodeMeta *out_meta, GError **error) {
  PASS(meta_load, out_meta, error);
}
static gboolean chunk_get(QfsReplica *replica, QfsObjectId object, guint64 index, guint64 max_version, QfsChunk **out_chunk,
                          gboolean *out_newer, GError **error) {
  PASS(chunk_get, object, index, max_version, out_chunk, out_newer, error);
}
static gboolean chunk_scan(QfsReplica *replica, guint64 after_seq, const QfsChunk *after, gboolean with_data, guint limit,
                           GPtrArray *out, gboolean *out_more, GError **error) {
  PASS(chunk_scan, after_seq, after, with_data, limit, out, out_more, error);
}
static gboolean chunk_exact(QfsReplica *replica, const QfsChunk *id, QfsChunk **out_chunk, GError **error) {
  PASS(chunk_exact, id, out_chunk, error);
}
static gboolean chunk_print(QfsReplica *replica, const QfsChunk *id, guint64 *out_print, GError **error) {
  PASS(chunk_print, id, out_print, error);
}
static gboolean chunk_walk(QfsReplica *replica, const QfsChunk *after, const QfsChunk *until, gboolean whole, guint limit,
                           GPtrArray *out, GPtrArray *bad, gboolean *out_more, GError **error) {
  PASS(chunk_walk, after, until, whole, limit, out, bad, out_more, error);
}
static gboolean chunk_list(QfsReplica *replica, const QfsChunk *after, guint limit, GPtrArray *out, gboolean *out_more,
                           GError **error) {
  PASS(chunk_list, after, limit, out, out_more, error);
}
static gboolean intent_get(QfsReplica *replica, guint64 id, GPtrArray **out_records, GError **error) {
  PASS(intent_get, id, out_records, error);
}
static gboolean intent_list(QfsReplica *replica, GArray *out_ids, GError **error) {
  PASS(intent_list, out_ids, error);
}
static const QfsBadRow *bad_row(QfsReplica *replica) {
  return ops_of(front_of(replica))->bad_row(front_of(replica)->tables);
}
static QfsFileWatch *watch(QfsReplica *replica) {
  return ops_of(front_of(replica))->watch(front_of(replica)->tables);
}
static gboolean discard_aside(QfsReplica *replica) {
  return ops_of(front_of(replica))->discard_aside(front_of(replica)->tables);
}

/* ---- keeping it small ---- */

/* On a full disk it is the checkpoint that makes room for what is in front. */
static gboolean checkpoint(QfsReplica *replica, gboolean everything, GError **error) {
  Front *self = front_of(replica);
  g_autoptr(GError) local = NULL;
  g_assert(is_writer(self) && !self->in_transaction);
  look_for_room(self);
  everything = everything || (self->is_tight && qfs_connection_file_size(qfs_connection(self->tables), "replica.db-wal") > 0);
  const gboolean due = everything || qfs_redo_size(self->redo) >= self->due;
  if (!due || flush(self, &local))
    return ops_of(self)->checkpoint(self->tables, everything, error);
  if (everything && g_error_matches(local, QFS_REPLICA_ERROR, QFS_REPLICA_ERROR_NO_SPACE))
    return ops_of(self)->checkpoint(self->tables, TRUE, error) && flush(self, error) &&
           ops_of(self)->checkpoint(self->tables, TRUE, error);
  g_propagate_error(error, g_steal_pointer(&local));
  return FALSE;
}

/* Where nobody counted while it came. */
static gboolean count_front(Front *self, Change *out_change, GError **error) {
  g_autoptr(GPtrArray) front = qfs_memtable_all(in_front(self));
  *out_change = (Change){0};
  for (guint i = 0; i < front->len; i++) {
    int kind;
    if (!qfs_record_store_kind(self->tables, ((QfsRecord *)front->pdata[i])->key, &kind, error))
      return FALSE;
    count(out_change, kind, front->pdata[i]);
  }
  return TRUE;
}

static gboolean stats(QfsReplica *replica, QfsReplicaStats *out_stats, GError **error) {
  Front *self = front_of(replica);
  QfsReplicaStats stats;
  Change change = {self->front_change.records + self->staged_change.records,
                   self->front_change.tombstones + self->staged_change.tombstones};
  if (!ops_of(self)->stats(self->tables, &stats, error) || (!is_writer(self) && !count_front(self, &change, error)))
    return FALSE;
  if (!self->is_settled) {
    stats.records = (guint64)MAX((gint64)stats.records + change.records, 0);
    stats.tombstones = (guint64)MAX((gint64)stats.tombstones + change.tombstones, 0);
  }
  stats.owed += is_writer(self) ? qfs_redo_size(self->redo) : 0;
  *out_stats = stats;
  return TRUE;
}

/* ---- life ---- */

static void close_front(QfsReplica *replica) {
  Front *self = front_of(replica);
  if (is_writer(self)) {
    drop(self);
    /* Where it can't be moved it stays in the log, for the next opening. */
    if (flush(self, NULL) && self->salt != 0)
      qfs_redo_delete(self->redo);
    qfs_memtable_set_writer(self->front, FALSE);
    g_ptr_array_unref(self->staged);
  }
  qfs_redo_free(self->redo);
  qfs_replica_close(self->tables);
  qfs_memtable_release(self->front);
  qfs_memtable_release(self->left);
  g_free(self->dir);
  g_free(self);
}

static const QfsReplicaOps front_ops = {
    .close = close_front,
    .begin = begin,
    .commit = commit,
    .rollback = rollback,
    .meta_load = meta_load,
    .meta_store = meta_store,
    .record_get = record_get,
    .record_apply = record_apply,
    .record_remove = record_remove,
    .record_scan = record_scan,
    .record_list = record_list,
    .live_dir = live_dir,
    .tombstone_scan = tombstone_scan,
    .chunk_put = chunk_put,
    .chunk_get = chunk_get,
    .chunk_trim = chunk_trim,
    .chunk_remove = chunk_remove,
    .object_drop = object_drop,
    .chunk_scan = chunk_scan,
    .record_walk = record_walk,
    .bad_row = bad_row,
    .record_print = record_print,
    .record_mend = record_mend,
    .chunk_exact = chunk_exact,
    .chunk_print = chunk_print,
    .chunk_mend = chunk_mend,
    .chunk_walk = chunk_walk,
    .chunk_list = chunk_list,
    .object_records = object_records,
    .intent_put = intent_put,
    .intent_get = intent_get,
    .intent_remove = intent_remove,
    .intent_list = intent_list,
    .wipe = wipe,
    .checkpoint = checkpoint,
    .stats = stats,
    .watch = watch,
    .discard_aside = discard_aside,
};

static Front *front_new(const char *dir, QfsReplica *tables) {
  Front *self = g_new0(Front, 1);
  self->base.ops = &front_ops;
  self->tables = tables;
  self->dir = g_strdup(dir);
  self->front = qfs_memtable_get(dir);
  return self;
}

/* What an earlier writer left in the log when it died. On a full disk it stays in front: there it can be read, and deletes
 * must go on. */
static gboolean take_over(Front *self, GError **error) {
  g_autoptr(GPtrArray) records = g_ptr_array_new_with_free_func((GDestroyNotify)qfs_record_unref);
  g_autoptr(GError) local = NULL;
  if (!qfs_meta_load_salt(qfs_connection(self->tables), &self->salt, error))
    return FALSE;
  if (self->salt != 0 && !qfs_redo_load(self->redo, self->salt, records))
    return qfs_connection_fail_with(qfs_connection(self->tables), QFS_REPLICA_ERROR_IO, error,
                                    "its redo log can't be read");
  qfs_redo_cut(self->redo);
  qfs_memtable_put(self->front, records);
  self->is_promised = records->len > 0; /* it may have been */
  look_for_room(self);
  if (flush(self, &local))
    return TRUE;
  if (g_error_matches(local, QFS_REPLICA_ERROR, QFS_REPLICA_ERROR_NO_SPACE))
    return count_front(self, &self->front_change, error);
  g_propagate_error(error, g_steal_pointer(&local));
  return FALSE;
}

QfsReplica *qfs_sqlite_replica_open(const char *dir, guint32 node, gboolean create, gboolean sync_always, GError **error) {
  QfsReplica *tables = qfs_tables_open(dir, node, create, sync_always, error);
  if (tables == NULL)
    return NULL;
  Front *self = front_new(dir, tables);
  self->redo = qfs_redo_new(dir);
  self->staged = g_ptr_array_new_with_free_func((GDestroyNotify)qfs_record_unref);
  self->sync_always = sync_always;
  self->due = FRONT_DUE_BYTES + FRONT_DUE_STAGGER * (node % STAGGERED);
  qfs_memtable_set_writer(self->front, TRUE);
  if (take_over(self, error))
    return &self->base;
  qfs_memtable_clear(self->front); /* it stays in the log as it was */
  self->salt = 0;
  close_front(&self->base);
  return NULL;
}

QfsReplica *qfs_sqlite_replica_open_reader(const char *dir, GError **error) {
  QfsReplica *tables = qfs_tables_open_reader(dir, error);
  return tables != NULL ? &front_new(dir, tables)->base : NULL;
}
