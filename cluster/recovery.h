/* recovery.h - what the files of a start share: recovery.c (which view, who takes part, its end), recovery_rows.c (what is
 * found, and completing it), recovery_batches.c (intents, and what nodes that are no members have of them). */
#pragma once

#include "cluster/private.h"

G_BEGIN_DECLS

typedef struct {
  QfsChunk id;             /* no data */
  QfsNodeSet at;
} QfsFoundChunk;

typedef struct {
  guint64 id;
  GPtrArray *records;
  QfsNodeSet at;
  gboolean abandoned;      /* decided once, by what the nodes hold */
  guint64 void_since;      /* operations from here on are of lives that had seen what became of it; 0: none had */
  gboolean seen_without;   /* whatever was acknowledged of its keys is at nodes that do not have it, too */
} QfsFoundIntent;

/* A row of a node that is no member. */
typedef struct {
  guint node;
  QfsRecord *record;
} QfsRecoveryGuest;

struct QfsRecovery {
  guint64 generation;      /* callbacks of an earlier attempt are ignored */
  gboolean removing_intents;
  gboolean marking;        /* the view that says what is void is under way */
  gboolean marks_all;      /* ... of all keys; else of those that are not blocked */
  guint64 void_below;      /* what the view said of that when it began */
  gboolean unites;         /* with what nodes that left S have: unite.c */
  gboolean voids_count;    /* unites: what starts did without may be all that is left (U3) */
  QfsNodeSet relied;       /* unites: it began because these are there, and ends with any of them */
  guint64 from;            /* operations above this are looked at */
  QfsNodeSet members, scanned;
  QfsNodeSet seen_before;  /* c->seen is put back to this if it does not come to its end */
  guint left;              /* scans, then comparisons of intents, under way */
  GHashTable *records;     /* key -> QfsRecord, newest; until all is scanned, of members only */
  GHashTable *guests;      /* key -> GPtrArray of QfsRecoveryGuest: it is the intents that say which of them count */
  GHashTable *winners;     /* QfsObjectId -> QfsRecord of `records`: the newest that names it */
  GHashTable *chunks;      /* QfsFoundChunk set, keyed by itself */
  GHashTable *intents;     /* id -> QfsFoundIntent */
  GPtrArray *todo_records, *todo_chunks;
  guint next_record, next_chunk, in_flight;
};

/* What a callback belongs to. */
typedef struct {
  guint64 generation;
  guint node;
} QfsRecoveryStep;

QfsRecoveryStep *qfs_recovery_step(QfsRecovery *r, guint node);
/* Is the callback of the recovery that is under way now? */
gboolean qfs_recovery_is_current(QfsCoordinator *c, const QfsRecoveryStep *step);
/* The reply is of use, and so is what it is for. */
gboolean qfs_recovery_reply_ok(QfsCoordinator *c, QfsPeer *peer, QfsMessage *reply, QfsRecoveryStep *step);
void qfs_recovery_mark(QfsCoordinator *c); /* all that was found is at all holders */
void qfs_recovery_end(QfsCoordinator *c);

/* ---- recovery_rows.c ---- */

void qfs_recovery_init_rows(QfsRecovery *r);
void qfs_recovery_scan_records(QfsCoordinator *c, QfsPeer *peer, guint64 after_seq, const char *after);
void qfs_recovery_take_record(QfsRecovery *r, QfsRecord *record); /* it is the newest of its key, unless one is known */
void qfs_recovery_everything_found(QfsCoordinator *c);
void qfs_recovery_write_more(QfsCoordinator *c);

/* ---- recovery_batches.c ---- */

void qfs_recovery_init_batches(QfsRecovery *r);
/* A row of `node`, which is no member. What an earlier start did without may be undone in part there: FALSE. */
gboolean qfs_recovery_counts(const QfsCoordinator *c, guint node, const QfsRecord *record);
void qfs_recovery_note_guest(QfsRecovery *r, guint node, QfsRecord *record);
void qfs_recovery_scan_intents(QfsCoordinator *c, QfsPeer *peer); /* the last scan of a node */
void qfs_recovery_spread_intents(QfsCoordinator *c);
void qfs_recovery_remove_intents(QfsCoordinator *c);

G_END_DECLS
