/* bad_row.h - rows that do not match their checksum: naming them, and replacing them. Private to storage/.
 *
 * Threading and errors: like the connection.
 */
#pragma once

#include "storage/connection.h"

G_BEGIN_DECLS

void qfs_bad_row_note_record(QfsConnection *connection, const char *key);
void qfs_bad_row_note_chunk(QfsConnection *connection, const QfsChunk *chunk);

/* Digest over the columns of the current row as they are stored; never 0. */
guint64 qfs_bad_row_print(sqlite3_stmt *row);

/* See QfsReplicaOps. */
const QfsBadRow *qfs_bad_row(QfsReplica *replica);
gboolean qfs_bad_row_record_print(QfsReplica *replica, const char *key, guint64 *out_print,
                                  GError **error);
gboolean qfs_bad_row_record_mend(QfsReplica *replica, const char *key, guint64 print,
                                 const QfsRecord *record, gboolean *out_done,
                                 GError **error);
gboolean qfs_bad_row_record_walk(QfsReplica *replica, const char *after_key, const char *until_key,
                                 gboolean whole, guint limit, GPtrArray *out, GPtrArray *bad,
                                 char **out_end, gboolean *out_more, GError **error);

G_END_DECLS
