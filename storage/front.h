/* front.h - what a replica keeps in front of SQLite: small transactions wait in memory and in a log of their own.
 *
 * A transaction of SQLite costs some 25 to 80 us, most of a put. So a transaction that only applies small records is
 * appended to the redo log (redo.h) and kept in the memtable (memtable.h), in which reads look first. Everything else, and
 * whatever reads more than one record, first moves them into the tables, in one transaction of SQLite: only the newest of
 * each key.
 *
 * Invariants
 *  F1. A commit that is not durable survives the death of the process once it returned, as a commit of SQLite does.
 *  F2. What is in front was committed after everything in the tables: they never show a later transaction without an earlier
 *      one, also after a loss of power.
 *  F3. After commit(durable) all that is in front is on stable storage, with the state of the tables that it counts for. Where
 *      that state is there already, a sync of the redo log is enough; else all moves, and the tables are synced. What was
 *      promised so is never overwritten in the log before the tables have it there.
 *  F4. Where the redo log can't be written, or the disk has little room, SQLite is.
 *
 * A reader sees what is in front by record_get, record_list and live_dir; its scans (record_scan, tombstone_scan,
 * record_walk, object_records) see the tables, as somebody with the sqlite3 shell does. Here is where qfs_sqlite_replica_open
 * and qfs_sqlite_replica_open_reader are. Threading: replica.h.
 */
#pragma once

#include "storage/replica.h"

G_BEGIN_DECLS

/* The tables alone (replica.c): as qfs_sqlite_replica_open and _reader. A QfsConnection. */
QfsReplica *qfs_tables_open(const char *dir, guint32 node, gboolean create, gboolean sync_always, GError **error);
QfsReplica *qfs_tables_open_reader(const char *dir, GError **error);

G_END_DECLS
