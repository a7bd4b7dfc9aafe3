/* mend.h - looking for damage and differences, and mending them: mend*.c, scrub.c, scrub_range.c. */
#pragma once

#include "cluster/peer.h"

G_BEGIN_DECLS

/* `peer` has this row, and it does not match its checksum. `needed`: not by a direct read; if there is no good copy
 * the node fails. */
void qfs_mend_bad_row(QfsCoordinator *c, QfsPeer *peer, const QfsBadRow *bad, gboolean needed,
                      const char *reason);
/* The holders of `key` differ, or so it seemed without its lock. */
void qfs_mend_key(QfsCoordinator *c, const char *key);
/* Some record has this chunk row, and not all of its holders have it. */
void qfs_mend_missing(QfsCoordinator *c, const QfsChunk *row);
struct QfsMend {
  char *key;             /* NULL: of a chunk row */
  QfsChunk chunk;        /* no data */
  guint64 hash;          /* who holds it */
  QfsNodeSet subjects;   /* nodes to look at beside the holders */
  QfsNodeSet reported;   /* of them: told of a bad row */
  QfsNodeSet needed;     /* of them: something can't go on before, whose node fails if there is no good copy */
  gboolean missing;      /* a chunk row that a record has, and that some holder seemed to lack */
  gboolean running;
  QfsOp *op;             /* running, and waiting for the key's lock */
  gint64 at_us;
  guint tries;
};
/* More rows than this that can't be reached by the names they tell, and the node is rebuilt. */
#define QFS_UNREACHABLE_ROWS_MAX 3
void qfs_mend_over(QfsCoordinator *c, QfsMend *mend, QfsStatus status);
void qfs_mend_chunk_start(QfsCoordinator *c, QfsMend *mend); /* mend_chunk.c */
/* mend_known.c: of a bad record, is the version in memory that belongs there? Then the key's lock is not needed. */
gboolean qfs_mend_is_known(QfsCoordinator *c, const QfsMend *mend);
void qfs_mend_known_start(QfsCoordinator *c, QfsMend *mend);
/* It told of a bad row and has none by that name: the name is damaged, too, and the row can't be reached. */
void qfs_mend_unreachable(QfsCoordinator *c, QfsPeer *peer);
void qfs_mends_consider(QfsCoordinator *c);
gboolean qfs_mends_records(const QfsCoordinator *c); /* are records waiting to be mended? */
void qfs_mends_clear(QfsCoordinator *c);
typedef struct {
  void (*resume)(QfsCoordinator *c, gpointer data);
  gpointer data;
} QfsMendWaiter;
/* `resume` is called when some key was mended, or could not be. */
void qfs_mend_wait(QfsCoordinator *c, void (*resume)(QfsCoordinator *c, gpointer data), gpointer data);

/* ---- looking for damage and differences: scrub.c, scrub_range.c ---- */

/* Records are compared, then the names of chunk rows, then chunks are verified node by node. */
typedef enum { QFS_SCRUB_RECORDS, QFS_SCRUB_CHUNKS, QFS_SCRUB_DATA, QFS_SCRUB_OVER } QfsScrubPass;
typedef struct {
  QfsScrubPass pass;
  char *key;                      /* RECORDS: this one and those before it are done; NULL: none is */
  QfsChunk chunk;                 /* the others: the same of the row of this name; object none: none is */
  guint node;                     /* DATA: its rows */
} QfsScrubPlace;
typedef struct {
  gboolean forced, forced_verify; /* by command */
  gboolean due;                   /* by schedule */
  gboolean compare;               /* a node came back */
  gint64 at_us;                   /* the next one by schedule */
  gboolean resumes, verifying;    /* a run was interrupted, at: */
  QfsScrubPlace at;
  guint64 rows;                   /* looked at in this run */
  guint64 bad_before, mended_before, lost_before;
  guint64 runs;                   /* that came to their end */
  gint64 last_ms;                 /* wall clock; 0: none yet */
  gboolean last_verified;
  guint64 last_bad, last_mended, last_lost;
} QfsScrubState;
void qfs_scrub_consider(QfsCoordinator *c);
void qfs_scrub_stop(QfsCoordinator *c); /* it goes on when it can */
void qfs_scrub_clear(QfsCoordinator *c);
void qfs_scrub_compare_soon(QfsCoordinator *c);
const char *qfs_scrub_reason(const QfsCoordinator *c); /* what it waits for; NULL: for nothing */
guint qfs_scrub_progress(const QfsCoordinator *c);     /* percent */
void qfs_op_scrub(QfsCoordinator *c, QfsRequest *request);
/* The rows after `at` are compared, at most `rows` of them: scrub_range.c. Ends with qfs_scrub_range_done, which moves
 * `at` on, or with qfs_scrub_interrupt; qfs_scrub_stop ends it, too. */
QfsScrubRange *qfs_scrub_range_new(QfsScrubPass pass, gboolean verify);
void qfs_scrub_range_free(QfsScrubRange *range); /* accepts NULL */
void qfs_scrub_range_begin(QfsCoordinator *c, QfsScrubRange *range, const QfsScrubPlace *at, guint rows);
/* `end`: the place up to which rows were compared; NULL: all were. */
void qfs_scrub_range_done(QfsCoordinator *c, const QfsScrubPlace *end);
gboolean qfs_scrub_goes_on(QfsCoordinator *c); /* FALSE: it was interrupted */
void qfs_scrub_interrupt(QfsCoordinator *c);
void qfs_scrub_take_bad_rows(QfsCoordinator *c, QfsPeer *peer, const QfsMessage *reply);

G_END_DECLS
