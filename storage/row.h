/* row.h - records to and from the columns of a statement. Private to storage/.
 *
 * Positions follow the macros HEAD and BODY of statements.c. Threading: like the connection.
 */
#pragma once

#include "storage/connection.h"

G_BEGIN_DECLS

/* What a row carries of the tail. */
typedef enum {
  QFS_ROW_WHOLE,  /* column `data` */
  QFS_ROW_LISTED, /* column `data` only for symlinks and links, NULL for others */
  QFS_ROW_HEAD,   /* no such column */
} QfsRowShape;

/* Column `kind`: the kind, and the number of names above it. */
#define QFS_ROW_KIND(column) ((QfsKind)((column) & 255))
#define QFS_ROW_NLINK(column) ((guint32)((column) >> 8))

#define QFS_ROW_HEAD_COLUMNS 23
/* Columns of a whole row; what a statement selects beside it comes after. */
#define QFS_ROW_COLUMNS (QFS_ROW_HEAD_COLUMNS + 1)

/* Binds ?first = directory and ?first+1 = name of `key`, which must live until the statement is
 * reset. */
void qfs_row_bind_key(sqlite3_stmt *statement, int first, const char *key);
/* The statement `id`, at the row of `key` if *out_row; to be reset (QfsCursor). NULL: failed. */
sqlite3_stmt *qfs_row_find(QfsConnection *connection, QfsSql id, const char *key, gboolean *out_row,
                           GError **error);
/* Binds the columns BODY from ?first on, sums included; `record` must live until the reset. */
void qfs_row_bind(sqlite3_stmt *statement, int first, const QfsRecord *record);

/* The record in the current row, its sums verified (S4); NULL with BAD_ROW. Without a tail in the
 * row, the record's is empty. */
QfsRecord *qfs_row_read(QfsConnection *connection, sqlite3_stmt *row, QfsRowShape shape,
                        GError **error);

/* The row is intact and not the one that was asked for: "PATH: the index of WHAT leads astray".
 * FALSE. */
gboolean qfs_row_astray(QfsConnection *connection, const char *what, GError **error);

G_END_DECLS
