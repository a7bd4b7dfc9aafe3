/* keys.h - the order of changes to a key, and its newest record: keys.c, recent.c, fetch.c. */
#pragma once

#include "cluster/flight.h"

G_BEGIN_DECLS

#define QFS_KEY_COUNTERS 4096

typedef struct {
  char *key;
  guint64 hash;
  guint uses;             /* ops that plan or wait, flights not complete */
  QfsOp *planner;
  GQueue waiting;         /* QfsOp wanting to plan */
  gboolean have_base;     /* acked and newest mean something */
  GQueue ack_waiters;     /* QfsOp to be stepped when an acknowledgement changes `acked` */
  QfsRecord *acked;       /* newest acknowledged version, NULL: absent */
  QfsRecord *newest;      /* newest sent version */
} QfsKey;

QfsKey *qfs_key_find(QfsCoordinator *c, const char *key);
QfsKey *qfs_key_use(QfsCoordinator *c, const char *key);   /* finds or makes; uses++ */
void qfs_key_done(QfsCoordinator *c, QfsKey *key);         /* uses--; may free */
/* Lets `op` plan on key: TRUE at once, or FALSE and op->step is called when its turn comes. */
gboolean qfs_key_lock(QfsKey *key, QfsOp *op);
/* TRUE: nothing in flight is newer than what was acknowledged; else op is stepped after the next one. */
gboolean qfs_key_wait_acked(QfsKey *key, QfsOp *op);
void qfs_key_acked(QfsCoordinator *c, QfsKey *key, QfsRecord *record);
/* The newest version was in `refused`, which nobody has: what was sent before it is the newest. */
void qfs_key_take_back(QfsCoordinator *c, QfsKey *key, const QfsFlight *refused);
void qfs_key_set_base(QfsKey *key, QfsRecord *record);
void qfs_key_unlock(QfsCoordinator *c, QfsKey *key, QfsOp *op);
guint64 qfs_key_counter(QfsCoordinator *c, guint64 hash);  /* changes whenever the key's state may have */
void qfs_key_bump(QfsCoordinator *c, guint64 hash);

/* The node's row of the key goes back to the acknowledged version: what is in flight is to be sent there (again). Nothing
 * is sent before the next qfs_flights_dispatch. */
void qfs_flights_lost_row(QfsCoordinator *c, const QfsKey *key, guint node);

/* ---- versions used lately: recent.c ---- */

void qfs_recent_init(QfsCoordinator *c);
void qfs_recent_clear(QfsCoordinator *c);
/* What is certainly the newest acknowledged version, as if read now; borrowed, NULL: to be read. */
QfsRecord *qfs_recent_find(QfsCoordinator *c, const char *key, guint64 hash);
/* `record` (may be NULL) is the newest acknowledged version as of the key's counter now. */
void qfs_recent_note(QfsCoordinator *c, QfsRecord *record, guint64 hash);

/* ---- the newest record of a key: fetch.c ---- */

/* status QFS_OK: `record` (may be a tombstone or NULL); else why not. Called once, perhaps at once. */
typedef void (*QfsFetchDone)(QfsCoordinator *c, QfsStatus status, QfsRecord *record, gpointer data);
void qfs_fetch(QfsCoordinator *c, const char *key, QfsFetchDone done, gpointer data);
/* As base of a write: versions used lately are not read again. */
void qfs_fetch_base(QfsCoordinator *c, const char *key, QfsFetchDone done, gpointer data);
/* What the trusted nodes have, though it may have been recovered and never acknowledged: not to be shown. */
void qfs_fetch_any(QfsCoordinator *c, const char *key, QfsFetchDone done, gpointer data);

G_END_DECLS
