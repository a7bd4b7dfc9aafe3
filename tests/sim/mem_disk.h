/* mem_disk.h - what one node has on its disk, in memory: the rows behind mem_replica.c.
 *
 * Owns: the rows (records, chunks, intents, metadata) in the orders that a replica is asked for,
 * the open transaction, and the history back to the last durable commit. Leaves to others: the
 * rules of a replica (mem_replica.c) and every fault but the loss of power (disk.h).
 *
 * Invariants
 *  M1. Every change of a row goes through mem_disk_set_* and leaves an undo entry, so that both a
 *      rollback and a power loss are: undo entries, newest first.
 *  M2. What a power loss leaves is the state after some commit that is not older than the last
 *      durable one.
 */
#pragma once

#include "storage/replica.h"

typedef struct {
  QfsRecord *record;
  gboolean bad; /* can't be read: it rotted */
} MemRow;

typedef struct {
  guint64 id;
  GPtrArray *records;
} MemIntent;

typedef struct {
  QfsNodeMeta meta;
  GHashTable *row_of; /* key -> MemRow; looked up, never walked */
  GTree *rows;        /* the same by (directory, name) */
  guint tombstones;   /* of them */
  GTree *rows_by_seq; /* the same by (seq, key) */
  GTree *chunks;      /* QfsChunk by (object, index, version) */
  GTree *chunks_by_seq;
  GTree *intents;     /* MemIntent by id */
  GPtrArray *undo;    /* of the open transaction; NULL: none is open */
  GPtrArray *commits; /* undo arrays of the commits since the last durable one, oldest first */
  GPtrArray *older;   /* those between the copy that was kept and `commits`; NULL: none was kept */
  gboolean open;      /* a writer has it */
} MemDisk;

MemDisk *mem_disk_new(guint32 node);
void mem_disk_free(MemDisk *disk);

void mem_disk_begin(MemDisk *disk);
void mem_disk_commit(MemDisk *disk, gboolean durable);
void mem_disk_rollback(MemDisk *disk); /* no transaction: does nothing */

/* Keeps the oldest `keep` of the commits that are not durable. */
void mem_disk_lose_power(MemDisk *disk, guint keep);
guint mem_disk_volatile_commits(const MemDisk *disk);

/* A copy of all there is, to go back to later. FALSE: something is not durable, and the copy is the one before. */
gboolean mem_disk_keep_copy(MemDisk *disk);
gboolean mem_disk_restore_copy(MemDisk *disk); /* FALSE: there is none */
/* Leaves a new disk. */
void mem_disk_erase(MemDisk *disk);

/* The row, which is there, can't be read any more. */
void mem_disk_rot_row(MemDisk *disk, const char *key);

/* The same of a chunk row: its data is not what its checksum says. */
void mem_disk_rot_chunk(MemDisk *disk, const QfsChunk *id);
gboolean mem_chunk_is_bad(const QfsChunk *chunk);

/* Lookups; owned by the disk, NULL: no such row. */
const MemRow *mem_disk_row(const MemDisk *disk, const char *key);
const MemIntent *mem_disk_intent(const MemDisk *disk, guint64 id);
/* The row's record as it would be after a power loss that takes all it can. */
const QfsRecord *mem_disk_durable_record(const MemDisk *disk, const char *key);

/* Changes, within a transaction. `record` NULL, `records` NULL: the row goes. */
void mem_disk_set_row(MemDisk *disk, const char *key, const QfsRecord *record);
void mem_disk_set_chunk(MemDisk *disk, const QfsChunk *chunk);
void mem_disk_unset_chunk(MemDisk *disk, const QfsChunk *chunk);
void mem_disk_set_intent(MemDisk *disk, guint64 id, GPtrArray *records);
void mem_disk_set_meta(MemDisk *disk, const QfsNodeMeta *meta);

/* Nodes of the trees for scans: the first one greater than the probe. Key NULL: greater than every
 * key of that sequence number, and from the first row on when that is 0. */
GTreeNode *mem_disk_rows_after(const MemDisk *disk, const char *key);
GTreeNode *mem_disk_rows_after_seq(const MemDisk *disk, guint64 seq, const char *key);
