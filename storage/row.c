/* row.c - records to and from the columns of a statement, with their sums.
 *
 * Whatever is read has been verified: the head's sum always, the record's sum when the tail was
 * read. Kinds and types that can't be are taken as they come, and found by the sum.
 *
 * One thread at a time, like the connection.
 */
#include "storage/row.h"

#include "storage/bad_row.h"
#include "storage/checksum.h"

#include <string.h>

/* Positions in HEAD; BODY is the same without hint. */
enum {
  COLUMN_HINT,
  COLUMN_DIR,
  COLUMN_NAME,
  COLUMN_TIMESTAMP,
  COLUMN_SEQ,
  COLUMN_KIND,
  COLUMN_MODE,
  COLUMN_UID,
  COLUMN_GID,
  COLUMN_RDEV,
  COLUMN_SIZE,
  COLUMN_ATIME,
  COLUMN_MTIME,
  COLUMN_CTIME,
  COLUMN_BTIME,
  COLUMN_DIGEST,
  COLUMN_OBJECT_PLACEMENT,
  COLUMN_OBJECT_UNIQUE,
  COLUMN_TAIL_OFFSET,
  COLUMN_CHECKSUM,
  COLUMN_HEAD_CHECKSUM,
  COLUMN_XATTRS,
  COLUMN_SPANS,
  COLUMN_DATA,
};
G_STATIC_ASSERT(COLUMN_DATA == QFS_ROW_HEAD_COLUMNS);

void qfs_row_bind_key(sqlite3_stmt *statement, int first, const char *key) {
  gsize dir_len;
  const char *name;

  qfs_key_split(key, &dir_len, &name);
  sqlite3_bind_text(statement, first, key, (int)dir_len, SQLITE_STATIC);
  sqlite3_bind_text(statement, first + 1, name, -1, SQLITE_STATIC);
}

void qfs_row_bind(sqlite3_stmt *statement, int first, const QfsRecord *record) {
  const QfsAttr *attr = &record->attr;
  guint64 checksum = qfs_record_checksum(record);
  int base = first - COLUMN_DIR; /* parameter of a column */

  g_assert(record->seq <= G_MAXINT64); /* SQL orders it */
  qfs_row_bind_key(statement, first, record->key);
  qfs_bind_u64(statement, base + COLUMN_TIMESTAMP, record->timestamp);
  qfs_bind_u64(statement, base + COLUMN_SEQ, record->seq);
  sqlite3_bind_int64(statement, base + COLUMN_KIND, (gint64)record->kind | (gint64)attr->nlink << 8);
  sqlite3_bind_int64(statement, base + COLUMN_MODE, attr->mode);
  sqlite3_bind_int64(statement, base + COLUMN_UID, attr->uid);
  sqlite3_bind_int64(statement, base + COLUMN_GID, attr->gid);
  qfs_bind_u64(statement, base + COLUMN_RDEV, attr->rdev);
  qfs_bind_u64(statement, base + COLUMN_SIZE, attr->size);
  sqlite3_bind_int64(statement, base + COLUMN_ATIME, attr->atime_ns);
  sqlite3_bind_int64(statement, base + COLUMN_MTIME, attr->mtime_ns);
  sqlite3_bind_int64(statement, base + COLUMN_CTIME, attr->ctime_ns);
  sqlite3_bind_int64(statement, base + COLUMN_BTIME, attr->btime_ns);
  qfs_bind_u64(statement, base + COLUMN_DIGEST, record->digest);
  qfs_bind_u64(statement, base + COLUMN_OBJECT_PLACEMENT, record->object.placement);
  qfs_bind_u64(statement, base + COLUMN_OBJECT_UNIQUE, record->object.unique);
  qfs_bind_u64(statement, base + COLUMN_TAIL_OFFSET, record->tail_offset);
  qfs_bind_u64(statement, base + COLUMN_CHECKSUM, checksum);
  qfs_bind_u64(statement, base + COLUMN_HEAD_CHECKSUM,
               qfs_record_head_checksum(record, checksum, FALSE));
  qfs_bind_bytes(statement, base + COLUMN_XATTRS, record->xattrs);
  qfs_bind_bytes(statement, base + COLUMN_SPANS, record->spans);
  qfs_bind_bytes(statement, base + COLUMN_DATA, record->tail);
}

sqlite3_stmt *qfs_row_find(QfsConnection *connection, QfsSql id, const char *key, gboolean *out_row,
                           GError **error) {
  g_autoptr(QfsCursor) cursor = qfs_connection_statement(connection, id, error);

  if (cursor == NULL)
    return NULL;
  qfs_row_bind_key(cursor, 1, key);
  return qfs_connection_step(connection, cursor, out_row, error) ? g_steal_pointer(&cursor) : NULL;
}

/* A record with the key of the row; "" when there is none in it. */
static QfsRecord *read_key(sqlite3_stmt *row) {
  const char *dir = (const char *)sqlite3_column_text(row, COLUMN_DIR);
  const char *name = (const char *)sqlite3_column_text(row, COLUMN_NAME);
  return dir != NULL && name != NULL ? qfs_record_new_in(dir, name) : qfs_record_new_in("", "");
}

static void read_bytes(sqlite3_stmt *row, int column, GBytes **bytes) {
  g_bytes_unref(*bytes);
  *bytes = qfs_column_bytes(row, column);
}

static QfsRecord *read_columns(sqlite3_stmt *row, gboolean with_tail) {
  QfsRecord *record = read_key(row);
  QfsAttr *attr = &record->attr;

  record->timestamp = qfs_column_u64(row, COLUMN_TIMESTAMP);
  record->seq = qfs_column_u64(row, COLUMN_SEQ);
  gint64 kind = sqlite3_column_int64(row, COLUMN_KIND);
  record->kind = QFS_ROW_KIND(kind);
  attr->nlink = QFS_ROW_NLINK(kind);
  attr->mode = (guint32)sqlite3_column_int64(row, COLUMN_MODE);
  attr->uid = (guint32)sqlite3_column_int64(row, COLUMN_UID);
  attr->gid = (guint32)sqlite3_column_int64(row, COLUMN_GID);
  attr->rdev = qfs_column_u64(row, COLUMN_RDEV);
  attr->size = qfs_column_u64(row, COLUMN_SIZE);
  attr->atime_ns = sqlite3_column_int64(row, COLUMN_ATIME);
  attr->mtime_ns = sqlite3_column_int64(row, COLUMN_MTIME);
  attr->ctime_ns = sqlite3_column_int64(row, COLUMN_CTIME);
  attr->btime_ns = sqlite3_column_int64(row, COLUMN_BTIME);
  record->digest = qfs_column_u64(row, COLUMN_DIGEST);
  record->object.placement = qfs_column_u64(row, COLUMN_OBJECT_PLACEMENT);
  record->object.unique = qfs_column_u64(row, COLUMN_OBJECT_UNIQUE);
  record->tail_offset = qfs_column_u64(row, COLUMN_TAIL_OFFSET);
  read_bytes(row, COLUMN_XATTRS, &record->xattrs);
  read_bytes(row, COLUMN_SPANS, &record->spans);
  if (with_tail)
    read_bytes(row, COLUMN_DATA, &record->tail);
  return record;
}

QfsRecord *qfs_row_read(QfsConnection *connection, sqlite3_stmt *row, QfsRowShape shape,
                        GError **error) {
  QfsKind kind = QFS_ROW_KIND(sqlite3_column_int64(row, COLUMN_KIND));
  gboolean with_tail = shape == QFS_ROW_WHOLE ||
                       (shape == QFS_ROW_LISTED && (kind == QFS_KIND_SYMLINK || kind == QFS_KIND_LINK));
  gint64 hint = sqlite3_column_int64(row, COLUMN_HINT);
  guint64 checksum = qfs_column_u64(row, COLUMN_CHECKSUM);
  g_autoptr(QfsRecord) record = read_columns(row, with_tail);

  gboolean is_intact = (hint == 0 || hint == 1) && (guint)record->kind <= QFS_KIND_LINK &&
                       g_bytes_get_size(record->spans) % sizeof(QfsSpan) == 0 &&
                       qfs_column_u64(row, COLUMN_HEAD_CHECKSUM) ==
                           qfs_record_head_checksum(record, checksum, hint != 0) &&
                       (!with_tail || checksum == qfs_record_checksum(record));
  if (!is_intact) {
    g_autofree char *key = g_strescape(record->key, NULL);
    qfs_bad_row_note_record(connection, record->key);
    qfs_connection_fail_with(connection, QFS_REPLICA_ERROR_BAD_ROW, error,
                             "the record of key \"%s\" does not match its checksum", key);
    return NULL;
  }
  return g_steal_pointer(&record);
}

gboolean qfs_row_astray(QfsConnection *connection, const char *what, GError **error) {
  return qfs_connection_fail_with(connection, QFS_REPLICA_ERROR_CORRUPT, error,
                                  "the index of %s leads to the wrong row", what);
}
