/* vfs.h - how SQLite gets at a replica's files: through the default VFS, with two differences.
 *
 *  V1. What a transaction adds to the log goes to the file in one write instead of two a page. SQLite adds frames of 24
 *      bytes and a page each, the last one of a transaction with the size of the database in it; they are collected until
 *      that one is there. If the write fails, so does the transaction. Nobody looks at a frame before the index tells of
 *      it, which is later. Whatever else is done with the log writes first what was collected.
 *  V2. The locks of the log's index are shm_locks.h's.
 *
 * Threading: as SQLite's.
 */
#pragma once

#include <glib.h>
#include <sqlite3.h>

G_BEGIN_DECLS

/* Registers it, beside the default, when it is not yet; its name for sqlite3_open_v2. */
const char *qfs_vfs(void);
/* The connection begins or ends to move its log: shm_locks.h L3. */
void qfs_vfs_moves_log(sqlite3 *db, gboolean moves);

G_END_DECLS
