/* sim_vfs.h - the disks under SQLite replicas: files in memory, behind SQLite's VFS interface.
 *
 * Owns: the files of every volume (one per node), each as the processes see it (the page cache) and
 * as stable storage holds it, with the writes between the two in order. Leaves to others: when
 * something breaks (faults.c), and the storage code itself, which runs on it unchanged.
 *
 * Model
 *  V1. A write, truncation or creation is stable once the file was synced after it, a deletion once
 *      any file was. A loss of power keeps an arbitrary part of what was not: each write, in
 *      512-byte sectors, or not.
 *  V2. A sync that fails drops part of what it should have made stable: later syncs do not bring
 *      it, and the cache may or may not still show it. A write that fails has written a part.
 *  V3. While `dead` is set (the process was killed) nothing changes any more.
 *
 * One thread; sim_vfs_init makes it SQLite's default VFS.
 */
#pragma once

#include "random.h"

typedef struct SimVolume SimVolume;
struct SimVolume {
  char *dir;
  SimRandom random;
  GPtrArray *files; /* File */
  GPtrArray *copy;  /* File: an older copy of all of them; NULL: none was taken */
  guint64 syncs;    /* changes whenever stable storage did */
  const SimVolume *shown; /* this is a view of it; NULL: it is not */

  /* faults asked for */
  gboolean dead;
  gboolean full;      /* nothing can grow */
  guint fail_in;      /* the n-th write, sync or truncation from now fails (0: none), */
  gboolean stay;      /* and all after it */
  gboolean spare;     /* a failed sync drops nothing */
  guint read_fail_in; /* the n-th read from now fails, once */

  /* what happened */
  guint64 n_torn, n_failed, n_dropped;
  guint64 n_orphans; /* files that were deleted while somebody had them open */
};

typedef enum {
  SIM_DAMAGE_DELETE,   /* all files */
  SIM_DAMAGE_NO_LOG,   /* only the log */
  SIM_DAMAGE_NO_FILE,  /* all but the log */
  SIM_DAMAGE_TRUNCATE, /* the file or the log ends somewhere else */
  SIM_DAMAGE_GARBAGE,  /* the file is random bytes */
  SIM_DAMAGE_OLD_COPY, /* as sim_volume_keep_copy found them */
  SIM_DAMAGE_FLIP,     /* some bits of the file or the log, or of one page of it */
} SimDamage;

void sim_vfs_init(void);
/* While TRUE nothing fails: the simulation itself looks. */
void sim_vfs_set_quiet(gboolean quiet);

/* All files whose path begins with `dir`. */
SimVolume *sim_volume_new(const char *dir, guint64 seed);
void sim_volume_free(SimVolume *volume); /* no file may be open; accepts NULL */
/* A view, under directory `dir`, of what is certainly stable in `volume`, which outlives it. Nothing can be changed
 * in it (always `dead`). */
SimVolume *sim_volume_new_view(const SimVolume *volume, const char *dir);
/* To be called before looking when `syncs` of what is shown changed; files that are open in the view stay open.
 * FALSE: files came or went: the view is to be made anew. */
gboolean sim_volume_renew_view(SimVolume *view);

/* No file may be open for these two. FALSE: there is no copy to go back to. */
void sim_volume_lose_power(SimVolume *volume);
gboolean sim_volume_damage(SimVolume *volume, SimDamage damage);
void sim_volume_keep_copy(SimVolume *volume);
