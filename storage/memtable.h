/* memtable.h - the newest records of a replica that are not in SQLite's file yet, for its writer and its readers.
 *
 * Invariants
 *  M1. A record in here is newer than the row of its key, or the very version with a higher number of its operation.
 *  M2. It leaves after SQLite committed it: who finds nothing here, and looks into the file then, misses nothing.
 *  M3. While no writer is there, it is empty; who reads then takes the redo log from the disk (front.c).
 *
 * All replica objects of a process for one directory share one. Threading: any.
 */
#pragma once

#include "storage/record.h"

G_BEGIN_DECLS

typedef struct QfsMemtable QfsMemtable;

/* The one of `dir`; to be released once per call. NULL: one that is nobody else's. */
QfsMemtable *qfs_memtable_get(const char *dir);
void qfs_memtable_release(QfsMemtable *table); /* accepts NULL */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QfsMemtable, qfs_memtable_release)

/* A writer comes or goes; either empties it. */
void qfs_memtable_set_writer(QfsMemtable *table, gboolean has_writer);
gboolean qfs_memtable_has_writer(QfsMemtable *table);

guint qfs_memtable_size(QfsMemtable *table); /* records */
QfsRecord *qfs_memtable_find(QfsMemtable *table, const char *key); /* a reference; NULL: not here */
void qfs_memtable_put(QfsMemtable *table, GPtrArray *records);     /* all at once; a later one of a key replaces the earlier */
void qfs_memtable_clear(QfsMemtable *table);

/* References, in the order of qfs_key_order. */
GPtrArray *qfs_memtable_all(QfsMemtable *table);
/* The same of directory `dir` only, names > after. */
GPtrArray *qfs_memtable_children(QfsMemtable *table, const char *dir, const char *after);

G_END_DECLS
