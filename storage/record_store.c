/* record_store.c - records of a SQLite replica: the last-writer rule, scans and listings.
 *
 * The rule (S1): what is stored is compared with what comes, in C and as unsigned. Timestamps
 * decide nearly always, so only the head of the stored row is read, and its sum verified: a
 * timestamp that rotted must not turn a newer version away. Equal timestamps read the whole row.
 * Of a row that this connection stored lately the head is known (heads.h).
 *
 * One thread at a time, like the connection.
 */
#include "storage/record_store.h"
#include "storage/row.h"

#include <string.h>

/* A scan stops after about this much. */
#define SCAN_BYTES (1024 * 1024)

/* The stored row of `key` in `shape` (whole or head); *out_record NULL when there is none. */
static gboolean read_row(QfsConnection *connection, const char *key, QfsRowShape shape,
                         QfsRecord **out_record, GError **error) {
  gboolean row;
  g_autoptr(QfsCursor) cursor = qfs_row_find(
      connection, shape == QFS_ROW_WHOLE ? QFS_SQL_RECORD_GET : QFS_SQL_RECORD_HEAD, key, &row, error);

  if (cursor == NULL)
    return FALSE;
  QfsRecord *record = NULL;
  if (row) {
    record = qfs_row_read(connection, cursor, shape, error);
    if (record == NULL)
      return FALSE;
    if (strcmp(record->key, key) != 0) {
      qfs_record_unref(record);
      return qfs_row_astray(connection, "keys", error);
    }
  }
  *out_record = record;
  return TRUE;
}

gboolean qfs_record_store_get(QfsReplica *replica, const char *key, QfsRecord **out_record,
                              GError **error) {
  return read_row(qfs_connection(replica), key, QFS_ROW_WHOLE, out_record, error);
}

/* Counts a row in (+1) or out (-1). A count that rot made wrong stays at 0. */
static void count_row(QfsConnection *connection, gboolean is_tombstone, int change) {
  guint64 *counter =
      is_tombstone ? &connection->counters.tombstones : &connection->counters.records;
  if (change > 0)
    (*counter)++;
  else if (*counter > 0)
    (*counter)--;
}

/* Stores `record` whatever is there; old_kind < 0: nothing is there. */
static gboolean put_row(QfsConnection *connection, const QfsRecord *record, int old_kind,
                        GError **error) {
  sqlite3_stmt *statement = qfs_connection_statement(connection, QFS_SQL_RECORD_PUT, error);

  if (statement == NULL)
    return FALSE;
  qfs_row_bind(statement, 1, record);
  if (!qfs_connection_run(connection, statement, error))
    return FALSE;
  if (old_kind >= 0)
    count_row(connection, old_kind == QFS_KIND_TOMBSTONE, -1);
  count_row(connection, record->kind == QFS_KIND_TOMBSTONE, +1);
  qfs_heads_note(connection->heads, record->key, record->timestamp, (int)record->kind);
  return TRUE;
}

/* Kind of the row of `key` without a look at its sum; -1: there is none. */
static gboolean stored_kind(QfsConnection *connection, const char *key, int *out_kind,
                            GError **error) {
  const QfsHead *known = qfs_heads_find(connection->heads, key);
  gboolean row;

  if (known != NULL) {
    *out_kind = known->kind;
    return TRUE;
  }
  g_autoptr(QfsCursor) cursor = qfs_row_find(connection, QFS_SQL_RECORD_KIND, key, &row, error);

  if (cursor == NULL)
    return FALSE;
  if (row) {
    const char *dir = (const char *)sqlite3_column_text(cursor, 0);
    const char *name = (const char *)sqlite3_column_text(cursor, 1);
    g_autofree char *found = dir != NULL && name != NULL ? qfs_key_join(dir, name) : NULL;
    if (g_strcmp0(found, key) != 0)
      return qfs_row_astray(connection, "keys", error);
  }
  *out_kind = row ? MAX(sqlite3_column_int(cursor, 2), 0) : -1;
  return TRUE;
}

/* Repair overwrites rows that are corrupt, so the old row is not verified. */
static gboolean apply_by_force(QfsConnection *connection, const QfsRecord *record,
                               QfsApplyResult *out_result, GError **error) {
  int old_kind = -1;

  if (!stored_kind(connection, record->key, &old_kind, error) ||
      !put_row(connection, record, old_kind, error))
    return FALSE;
  *out_result = QFS_APPLY_APPLIED;
  return TRUE;
}

/* What decides by the rule, of the row that is stored; *out_kind < 0: there is none. */
static gboolean stored_head(QfsConnection *connection, const char *key, guint64 *out_timestamp, int *out_kind,
                            GError **error) {
  const QfsHead *known = qfs_heads_find(connection->heads, key);
  if (known != NULL) {
    *out_timestamp = known->timestamp;
    *out_kind = known->kind;
    return TRUE;
  }
  g_autoptr(QfsRecord) head = NULL;
  if (!read_row(connection, key, QFS_ROW_HEAD, &head, error))
    return FALSE;
  *out_timestamp = head != NULL ? head->timestamp : 0;
  *out_kind = head != NULL ? (int)head->kind : -1;
  return TRUE;
}

gboolean qfs_record_store_judge(QfsReplica *replica, const QfsRecord *record, QfsVerdict *out_verdict, GError **error) {
  QfsConnection *connection = qfs_connection(replica);
  guint64 timestamp;
  int kind;

  if (!stored_head(connection, record->key, &timestamp, &kind, error))
    return FALSE;
  if (kind >= 0 && timestamp == record->timestamp && connection->heads != NULL) {
    qfs_heads_forget(connection->heads, record->key); /* a repair, perhaps of what was written: the row itself counts */
    if (!stored_head(connection, record->key, &timestamp, &kind, error))
      return FALSE;
  }
  if (kind < 0 || timestamp != record->timestamp) {
    const gboolean newer = kind < 0 || record->timestamp > timestamp;
    *out_verdict = (QfsVerdict){newer ? QFS_APPLY_APPLIED : QFS_APPLY_SUPERSEDED, newer, kind};
    return TRUE;
  }
  g_autoptr(QfsRecord) whole = NULL;
  if (!read_row(connection, record->key, QFS_ROW_WHOLE, &whole, error))
    return FALSE;
  if (whole == NULL) /* it was there a moment ago */
    return qfs_row_astray(connection, "keys", error);
  *out_verdict = qfs_record_store_compare(record, whole);
  return TRUE;
}

/* Of the very version that is stored the seq may rise. */
QfsVerdict qfs_record_store_compare(const QfsRecord *record, const QfsRecord *stored) {
  const int order = qfs_record_compare(record, stored);
  return (QfsVerdict){order > 0 ? QFS_APPLY_APPLIED : order == 0 ? QFS_APPLY_SAME : QFS_APPLY_SUPERSEDED,
                      order > 0 || (order == 0 && record->seq > stored->seq), (int)stored->kind};
}

static gboolean apply_by_rule(QfsConnection *connection, const QfsRecord *record,
                              QfsApplyResult *out_result, GError **error) {
  QfsVerdict verdict;

  if (!qfs_record_store_judge(&connection->base, record, &verdict, error) ||
      (verdict.stores && !put_row(connection, record, verdict.kind, error)))
    return FALSE;
  *out_result = verdict.result;
  return TRUE;
}

gboolean qfs_record_store_apply(QfsReplica *replica, const QfsRecord *record, gboolean force,
                                QfsApplyResult *out_result, GError **error) {
  QfsConnection *connection = qfs_connection(replica);

  if (!qfs_connection_may_write(connection, error))
    return FALSE;
  return qfs_connection_wrote(connection,
                              force ? apply_by_force(connection, record, out_result, error)
                                    : apply_by_rule(connection, record, out_result, error));
}

gboolean qfs_record_store_kind(QfsReplica *replica, const char *key, int *out_kind, GError **error) {
  return stored_kind(qfs_connection(replica), key, out_kind, error);
}

static gboolean remove_row(QfsConnection *connection, const char *key, GError **error) {
  int kind = -1;

  if (!stored_kind(connection, key, &kind, error))
    return FALSE;
  qfs_heads_forget(connection->heads, key);
  if (kind < 0)
    return TRUE;
  sqlite3_stmt *statement = qfs_connection_statement(connection, QFS_SQL_RECORD_REMOVE, error);
  if (statement == NULL)
    return FALSE;
  qfs_row_bind_key(statement, 1, key);
  if (!qfs_connection_run(connection, statement, error))
    return FALSE;
  count_row(connection, kind == QFS_KIND_TOMBSTONE, -1);
  return TRUE;
}

gboolean qfs_record_store_remove(QfsReplica *replica, const char *key, GError **error) {
  QfsConnection *connection = qfs_connection(replica);

  if (!qfs_connection_may_write(connection, error))
    return FALSE;
  return qfs_connection_wrote(connection, remove_row(connection, key, error));
}

/* A page of records that is being collected. */
typedef struct {
  GPtrArray *out;
  gsize end; /* of `out` when it is full */
  gssize bytes_left;
  const char *dir;  /* a listing's directory; NULL: a scan */
  gboolean whole;   /* a listing with the data */
  guint64 last_seq; /* the place after which the next record must be ... */
  const char *last; /* ... with the key of a scan (NULL: after last_seq), the name of a listing */
} Page;

/* Is the record where the index says it is? Otherwise paging might go round for ever. */
static gboolean is_next(Page *page, const QfsRecord *record) {
  gsize dir_len;
  const char *name;

  if (page->dir == NULL) {
    gboolean is_above =
        record->seq > page->last_seq || (record->seq == page->last_seq && page->last != NULL &&
                                         strcmp(record->key, page->last) > 0);
    page->last_seq = record->seq;
    page->last = record->key;
    return is_above;
  }
  qfs_key_split(record->key, &dir_len, &name);
  gboolean is_child = strlen(page->dir) == dir_len && memcmp(page->dir, record->key, dir_len) == 0;
  gboolean is_above = strcmp(name, page->last) > 0;
  page->last = name;
  return is_child && is_above;
}

/* Appends rows to the page until they end (*out_more FALSE) or it is full while another row follows
 * (*out_more TRUE). Resets the statement. */
static gboolean collect(QfsConnection *connection, sqlite3_stmt *statement, Page *page,
                        gboolean *out_more, GError **error) {
  g_autoptr(QfsCursor) cursor = statement;
  QfsRowShape shape = page->dir != NULL && !page->whole ? QFS_ROW_LISTED : QFS_ROW_WHOLE;

  while (TRUE) {
    gboolean row;
    if (!qfs_connection_step(connection, cursor, &row, error))
      return FALSE;
    if (!row || page->out->len >= page->end || page->bytes_left <= 0) {
      *out_more = row;
      return TRUE;
    }
    QfsRecord *record = qfs_row_read(connection, cursor, shape, error);
    if (record == NULL)
      return FALSE;
    g_ptr_array_add(page->out, record);
    if (!is_next(page, record))
      return qfs_row_astray(connection, page->dir != NULL ? "keys" : "operations", error);
    page->bytes_left -= (gssize)(sizeof *record + strlen(record->key) +
                                 g_bytes_get_size(record->tail) + g_bytes_get_size(record->xattrs));
  }
}

/* The rest of after_seq, then what is above it: SQLite finds the place in the index for an equality
 * and one inequality, not for an inequality of pairs with an expression among them. */
static gboolean scan_rows(QfsConnection *connection, gboolean tombstones, Page *page,
                          gboolean *out_more, GError **error) {
  guint64 after_seq = page->last_seq;
  sqlite3_stmt *statement;

  if (page->last != NULL) {
    statement = qfs_connection_statement(
        connection, tombstones ? QFS_SQL_TOMBSTONE_SCAN_EQUAL : QFS_SQL_RECORD_SCAN_EQUAL, error);
    if (statement == NULL)
      return FALSE;
    qfs_bind_u64(statement, 1, after_seq);
    sqlite3_bind_text(statement, 2, page->last, -1, SQLITE_STATIC);
    if (!collect(connection, statement, page, out_more, error))
      return FALSE;
    if (*out_more)
      return TRUE;
  }
  statement = qfs_connection_statement(
      connection, tombstones ? QFS_SQL_TOMBSTONE_SCAN_ABOVE : QFS_SQL_RECORD_SCAN_ABOVE, error);
  if (statement == NULL)
    return FALSE;
  qfs_bind_u64(statement, 1, after_seq);
  return collect(connection, statement, page, out_more, error);
}

static gboolean scan(QfsReplica *replica, gboolean tombstones, guint64 after_seq,
                     const char *after_key, guint limit, GPtrArray *out, gboolean *out_more,
                     GError **error) {
  QfsConnection *connection = qfs_connection(replica);
  guint start = out->len;
  Page page = {.out = out,
               .end = (gsize)start + limit,
               .bytes_left = SCAN_BYTES,
               .last_seq = after_seq,
               .last = after_key};
  gboolean opened, more = FALSE;

  if (after_seq > G_MAXINT64) { /* nothing can be above it */
    *out_more = FALSE;
    return TRUE;
  }
  if (!qfs_connection_begin_read(connection, &opened, error))
    return FALSE;
  gboolean ok = scan_rows(connection, tombstones, &page, &more, error);
  qfs_connection_end_read(connection, opened);
  if (ok)
    *out_more = more;
  else
    g_ptr_array_set_size(out, (int)start);
  return ok;
}

gboolean qfs_record_store_scan(QfsReplica *replica, guint64 after_seq, const char *after_key,
                               guint limit, GPtrArray *out, gboolean *out_more, GError **error) {
  return scan(replica, FALSE, after_seq, after_key, limit, out, out_more, error);
}

gboolean qfs_record_store_tombstone_scan(QfsReplica *replica, guint64 after_seq,
                                         const char *after_key, guint limit, GPtrArray *out,
                                         gboolean *out_more, GError **error) {
  return scan(replica, TRUE, after_seq, after_key, limit, out, out_more, error);
}

gboolean qfs_record_store_list(QfsReplica *replica, const char *dir, const char *after, guint limit, gboolean whole,
                               GPtrArray *out, gboolean *out_more, GError **error) {
  QfsConnection *connection = qfs_connection(replica);
  guint start = out->len;
  Page page = {.out = out,
               .end = (gsize)start + limit,
               .bytes_left = whole ? SCAN_BYTES : G_MAXSSIZE,
               .dir = dir,
               .whole = whole,
               /* Names are not empty but for the root's, which is so left out. */
               .last = after != NULL ? after : ""};
  gboolean more = FALSE;
  sqlite3_stmt *statement = qfs_connection_statement(
      connection, whole ? QFS_SQL_RECORD_LIST_WHOLE : QFS_SQL_RECORD_LIST, error);

  if (statement == NULL)
    return FALSE;
  sqlite3_bind_text(statement, 1, dir, -1, SQLITE_STATIC);
  sqlite3_bind_text(statement, 2, page.last, -1, SQLITE_STATIC);
  gboolean ok = collect(connection, statement, &page, &more, error);
  if (ok)
    *out_more = more;
  else
    g_ptr_array_set_size(out, (int)start);
  return ok;
}

gboolean qfs_record_store_live_dir(QfsReplica *replica, const char *from, char **out_dir, GError **error) {
  QfsConnection *connection = qfs_connection(replica);
  g_autoptr(QfsCursor) cursor = qfs_connection_statement(connection, QFS_SQL_RECORD_LIVE_DIR, error);
  gboolean row;
  if (cursor == NULL)
    return FALSE;
  sqlite3_bind_text(cursor, 1, from, -1, SQLITE_STATIC);
  if (!qfs_connection_step(connection, cursor, &row, error))
    return FALSE;
  *out_dir = row ? g_strdup((const char *)sqlite3_column_text(cursor, 0)) : NULL;
  return TRUE;
}

gboolean qfs_record_store_object_records(QfsReplica *replica, QfsObjectId object, GPtrArray *out,
                                         GError **error) {
  QfsConnection *connection = qfs_connection(replica);
  sqlite3_stmt *statement = qfs_connection_statement(connection, QFS_SQL_RECORD_OF_OBJECT, error);

  if (statement == NULL)
    return FALSE;
  g_autoptr(QfsCursor) cursor = statement;
  qfs_bind_u64(cursor, 1, object.placement);
  qfs_bind_u64(cursor, 2, object.unique);
  while (TRUE) {
    gboolean row;
    if (!qfs_connection_step(connection, cursor, &row, error))
      return FALSE;
    if (!row)
      return TRUE;
    QfsRecord *record = qfs_row_read(connection, cursor, QFS_ROW_HEAD, error);
    if (record == NULL)
      return FALSE;
    g_ptr_array_add(out, record);
    if (!qfs_object_equal(record->object, object))
      return qfs_row_astray(connection, "objects", error);
  }
}

gboolean qfs_record_store_wipe(QfsConnection *connection, GError **error) {
  sqlite3_stmt *statement = qfs_connection_statement(connection, QFS_SQL_RECORD_CLEAR, error);

  if (statement == NULL || !qfs_connection_run(connection, statement, error))
    return FALSE;
  connection->counters.records = connection->counters.tombstones = 0;
  qfs_heads_forget_all(connection->heads);
  return TRUE;
}
