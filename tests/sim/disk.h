/* disk.h - one node's storage as the simulation sees it: a real replica behind injected faults.
 *
 * Owns: which storage a node has (the in-memory model or SQLite in a directory), the faults at each
 * of its steps, and looking at it from outside. Survives every node process and every daemon.
 *
 * Invariants, checked at every step
 *  D1. A stored record is never replaced by an older version, except by force, and by force only on
 * a node that is not in sync. D2. Rows that exist are taken away only from a node that is not in
 * sync; rows that were kept for others only when what was acknowledged has W holders without them.
 *  D3. A replica that never lost anything and was not given up is never wiped.
 *  D4. After a failed step the node comes back only by being opened again.
 *  D5. What a node promised never goes back: epochs, its view, its generation, the clock's ceiling.
 */
#pragma once

#include "mem_replica.h"
#include "sim_vfs.h"

typedef struct Sim Sim;

typedef enum { SIM_CRASH_NONE, SIM_CRASH_BEFORE_COMMIT, SIM_CRASH_AFTER_COMMIT } SimCrashPoint;

typedef struct {
  Sim *sim;
  guint node;
  MemDisk *mem;     /* or */
  char *dir;        /* SQLite */
  SimVolume *volume; /* SQLite: its files */
  QfsReplica *peek;  /* SQLite: looks from outside; opened when first used */
  SimVolume *stable; /* SQLite: what is certainly on stable storage, as of `stable_syncs` */
  QfsReplica *stable_peek;
  guint64 stable_syncs;
  guint64 orphans;   /* SQLite: volume->n_orphans when `peek` was opened */
  gboolean writer_open;

  /* faults asked for */
  gboolean absent;    /* cannot be opened */
  gboolean full;      /* no space for anything new */
  guint fail_in;      /* the n-th storage step from now fails (0: none), and so do all after it */
  guint read_fail_in; /* the n-th direct read from now fails, once */
  guint corrupt_in;   /* the n-th step or direct read from now finds damage (in-memory only) */
  SimCrashPoint crash_point;
  guint crash_in; /* at the n-th commit from now */

  /* what became of them, until the next opening */
  gboolean failed;
  gboolean crashed;
  gboolean rolled_back; /* ever lost something that had been committed */
  gboolean dying;       /* its process is being killed: closing changes nothing */
  gboolean lost;        /* lost something that counts as there until the node is in sync again */
  gboolean ever_lost;   /* the same for good */
  gboolean fresh;       /* never in sync since the store got it */
  gboolean rotten;      /* SQLite: damaged, and not replaced or wiped since */
  GPtrArray *bad_chunks; /* QfsChunk without data: rows that sim_disk_rot_chunk made unreadable */
  GHashTable *planted;  /* keys whose rows sim_disk_plant changed */
  GPtrArray *lost_chunks; /* QfsChunk without data: rows that sim_disk_lose_chunk took */
  GHashTable *bad_rows; /* key -> QfsRecord: records that sim_disk_rot_row made unreadable */

  guint64 copy_generation;   /* of the copy that is kept */
  gboolean collecting;       /* a PURGE is among the requests being handled */
  guint64 wipe_incarnation;  /* of the node: asked for by the WIPE being handled */
  guint64 wiped_incarnation; /* in which it was wiped last */
} SimDisk;

/* dir NULL: in memory; else SQLite in that directory (taken over). */
void sim_disk_init(SimDisk *disk, Sim *sim, guint node, char *dir);
void sim_disk_clear(SimDisk *disk);

/* The node's writer. `create`: it may be new. */
QfsReplica *sim_disk_open(SimDisk *disk, gboolean create, GError **error);
QfsReplica *sim_disk_open_reader(SimDisk *disk, GError **error);

/* Loses a random part of what is not on stable storage. */
void sim_disk_lose_power(SimDisk *disk);
/* Something happens to the files of a node that is closed. In memory there is no file to cut or to
 * overwrite: they are gone then. FALSE: nothing happened. */
gboolean sim_disk_damage(SimDisk *disk, SimDamage damage);
/* The row of `key`, if there is one, does not match its checksum any more; the node is open. FALSE: none is there. */
gboolean sim_disk_rot_row(SimDisk *disk, const char *key);
/* The same of some chunk row. */
gboolean sim_disk_rot_chunk(SimDisk *disk);
/* The row of `key` silently becomes `record`; NULL: it is gone. Nothing tells it from what the node did. FALSE: it
 * can't be done. */
gboolean sim_disk_plant(SimDisk *disk, const char *key, const QfsRecord *record);
/* Some chunk row is silently gone, one that hides no older one of its index. FALSE: there is none. */
gboolean sim_disk_lose_chunk(SimDisk *disk);
/* Is one of those rotten ones still there? */
gboolean sim_disk_has_bad_rows(SimDisk *disk);
/* Keeps a copy of the files as they are now. */
void sim_disk_keep_copy(SimDisk *disk);
/* Is the copy from since the latest opening that a majority remembers? Then, with the same settled mark, it looks like the
 * file itself. */
gboolean sim_disk_copy_is_recent(SimDisk *disk);
/* What cannot be opened is set aside, as cluster/node_thread.c does. */
void sim_disk_set_aside(SimDisk *disk);
void sim_disk_heal(SimDisk *disk); /* ends the faults asked for */

/* What it holds now, as committed; NULL: no row, or (after damage) none that can be read. */
QfsRecord *sim_disk_record(SimDisk *disk, const char *key);
/* What a power loss would certainly leave. */
QfsRecord *sim_disk_durable_record(SimDisk *disk, const char *key);
/* How many intents it holds. */
guint sim_disk_intents(SimDisk *disk);
/* What it knows of itself, as committed. FALSE: it cannot be read. */
gboolean sim_disk_meta(SimDisk *disk, QfsNodeMeta *out_meta);
/* The names of all chunk rows, in the order of (object, index, version). */
GPtrArray *sim_disk_chunks(SimDisk *disk);
/* The newest chunk row for (object, index) that the spans have, or NULL. */
QfsChunk *sim_disk_chunk(SimDisk *disk, QfsObjectId object, guint64 index, GBytes *spans);
