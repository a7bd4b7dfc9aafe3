/* redo.h - the redo log of a replica: transactions that are not in SQLite's file yet.
 *
 * One append of some hundred bytes is what a put costs instead of a transaction of SQLite. front.h says when the log is
 * written, and moves what is in it into the file.
 *
 * Format of replica.db-redo: entries one behind the other from the start of the file, numbers big-endian:
 *   u32 length of what follows the sum, u64 sum, records (their fields in the order of QfsRecord, see redo.c).
 * The sum is XXH3 over the rest of the entry, seeded with the sum of the entry before, the first one's with the *salt*.
 *
 * Invariants
 *  R1. The salt is in SQLite's file, drawn anew in each transaction there, which has the log's content, too: from that commit
 *      on nothing in the log counts, and the next entry overwrites it from the start. So entries never count for a state of
 *      the file that lacks a transaction from before them, as a loss of power may leave it.
 *  R2. Entries count up to the first whose sum is wrong, as frames do in SQLite's log: what a loss of power leaves is a
 *      beginning of what was appended to this very state of the file, or nothing.
 *  R3. A failed append changes nothing: its place is the next one's.
 *  R4. What does not count never will: behind the last entry nothing is left when the next one is appended. (An entry
 *      that was damaged and is written again, byte for byte, would otherwise bring back those that followed it.)
 *
 * Goes through SQLite's default VFS, as the file itself does. Threading: one thread at a time.
 */
#pragma once

#include "storage/record.h"

G_BEGIN_DECLS

typedef struct QfsRedo QfsRedo;

/* Of the replica in `dir`. Touches no file. */
QfsRedo *qfs_redo_new(const char *dir);
void qfs_redo_free(QfsRedo *redo); /* accepts NULL */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QfsRedo, qfs_redo_free)

/* Appends what the file has under this salt to `out` (element-type QfsRecord, in their order), and goes on behind it.
 * A file that is not there has nothing. FALSE: it is there and can't be read. */
gboolean qfs_redo_load(QfsRedo *redo, guint64 salt, GPtrArray *out);
/* After loading, for who appends: takes away what is behind the last entry (R4). Until that is possible nothing can be
 * appended. */
void qfs_redo_cut(QfsRedo *redo);
/* The salt in SQLite's file is this one now. */
void qfs_redo_restart(QfsRedo *redo, guint64 salt);
/* One entry; makes the file when there is none. FALSE: it can't be written. */
gboolean qfs_redo_append(QfsRedo *redo, GPtrArray *records);
/* All entries are on stable storage. FALSE: unknown; what the file has of them on the disk may be less than it shows. */
gboolean qfs_redo_sync(QfsRedo *redo);
/* Bytes of all entries since it was started anew. */
gsize qfs_redo_size(const QfsRedo *redo);
/* Deletes the file, which has nothing that counts. */
void qfs_redo_delete(QfsRedo *redo);

/* Bytes that the record takes in an entry. */
gsize qfs_redo_record_size(const QfsRecord *record);

G_END_DECLS
