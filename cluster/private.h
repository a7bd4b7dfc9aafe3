/* private.h - the coordinator itself, and all its parts; for its files only.
 *
 *   coordinator.c  life, events, peers
 *   peer.h     what is known of a node, requests to it           coordinator.c, rpc.c
 *   flight.h   replicated writes on their way                    flight.c, lack.c, held.c
 *   keys.h     the order of changes to a key, its newest record  keys.c, recent.c, fetch.c
 *   reads.h    direct reads, avoiding slow nodes                 reads.c, chunk_read.c
 *   op.h       requests that are being served                    op*.c, patience.c, batch.c, linked.c, moved_chunks.c
 *   subtree.h  directories that are being renamed                subtree.c
 *   objects.h  chunks, garbage, orphans                          objects.c, reclaim.c
 *   view.h     epochs, the in-sync set, settling                 view.c, passed.c, settle.c
 *   start.h    start of the store, return of a node              recovery*.c, unite.c, catchup.c
 *   move.h     another N, K or set of nodes; tombstones          mover.c, resize.c, tidy.c, evict.c, purge.c
 *   mend.h     bad rows, differences between holders             mend*.c, scrub*.c
 *
 * Everything here runs under the environment's one-event-at-a-time rule; nothing blocks.
 */
#pragma once

#include "cluster/clock.h"
#include "cluster/coordinator.h"
#include "cluster/flight.h"
#include "cluster/keys.h"
#include "cluster/mend.h"
#include "cluster/move.h"
#include "cluster/objects.h"
#include "cluster/op.h"
#include "cluster/peer.h"
#include "cluster/placement.h"
#include "cluster/plan.h"
#include "cluster/reads.h"
#include "cluster/start.h"
#include "cluster/subtree.h"
#include "cluster/view.h"

G_BEGIN_DECLS

void qfs_log(QfsCoordinator *c, GLogLevelFlags level, const char *format, ...) G_GNUC_PRINTF(3, 4);
void qfs_wake_at(QfsCoordinator *c, gint64 at_us);
/* Bookkeeping that may be due after any event. */
void qfs_after_event(QfsCoordinator *c);

struct QfsCoordinator {
  QfsEnv *env;
  QfsCoordinatorConfig config;
  guint n_peers;                  /* node processes; N is the view's */
  QfsPeer peer[QFS_NODES_MAX + 1]; /* from 1 */
  char *failure;
  gboolean serving, closing;

  /* views */
  QfsView view;                   /* durable at a majority */
  gboolean view_known;
  gboolean view_proven;           /* ... which this coordinator has seen; else a start chose it */
  gboolean view_stable;           /* no proposal under way */
  gboolean view_wants_untidy;     /* the next one is not to call the nodes tidy */
  guint64 base_epoch;             /* of the view that brought its B, N and K */
  guint64 set_after;              /* operations above this were sent under its S, N and K */
  gboolean quorum;                /* a majority of the nodes answers and S may be changed at will */
  QfsView proposal;
  QfsNodeSet proposal_promised, proposal_acked, proposal_sent;
  QfsNodeSet proposal_believed;   /* whose replicas take its epoch as their generation when they promise */
  guint64 proposal_id;
  guint64 proposal_ceiling;
  gboolean view_stale;            /* nodes may have promised an epoch newer than the view's */
  guint64 first_epoch;            /* least epoch of this coordinator's life */
  guint64 epoch_seen;             /* greatest epoch ever seen or proposed */
  gboolean view_dirty;            /* peers changed: qfs_after_event looks again */
  gboolean held_waits;            /* records that are to be copied wait for what must come first */
  gboolean joiner_lost;           /* so are flights that waited only for it: they may be complete */
  QfsNodeSet seen;                /* nodes whose operations past the settled mark have been taken in */
  gboolean recover_again;         /* keys were opened by command: what was kept meanwhile is to be judged */
  QfsNodeSet waits_told;          /* these were waited for, and the log says so */
  gboolean blocked;               /* some keys may have newer versions at nodes not seen */
  gboolean phase_known;           /* the sets since S was last equal to B are all in `phase` */
  guint n_phase;
  struct {
    QfsViewSet set;
    guint64 after;                /* operations above this were sent under it or a later one */
  } phase[QFS_VIEW_SETS_MAX];

  /* sequence */
  guint64 counter;
  guint64 last_seq;                 /* of the flight being made: qfs_next_seq */
  guint64 n_issued, n_issued_at_settle, n_settled;
  QfsClock clock;
  gboolean raising_ceiling;

  /* in flight */
  GQueue flights;                 /* QfsFlight by seq */
  GPtrArray *intents;             /* those of them that are intents */
  gint64 full_retry_us;           /* flights wait for space: ask again then; 0: none */
  gboolean has_obsolete;          /* some flight under way or retained is */
  GQueue retained;                /* complete but not settled: sent again if their holders change */
  gsize flight_bytes;             /* payload of all of them */
  GHashTable *rpcs;               /* cookie -> QfsRpc */
  gint64 ping_at_us, repeat_at_us;
  guint64 next_cookie;
  guint64 next_incarnation;
  GQueue ops;                     /* QfsOp by deadline */
  GQueue open_ops;                /* QfsOp that sent chunks */
  GQueue stalled;                 /* QfsOp waiting for a view or the clock */
  GHashTable *keys;               /* key -> QfsKey */
  guint64 key_counters[QFS_KEY_COUNTERS];
  GHashTable *recent;             /* key -> its newest version: recent.c */
  GQueue recent_order;
  gsize recent_bytes;
  GHashTable *creating;           /* directory -> number of creations under way below it */
  QfsSubtree *tree;                  /* a directory that is being renamed; or NULL */
  GHashTable *removing;           /* directories whose removal is under way -> by how many */
  GHashTable *objects;            /* QfsObjectId* -> QfsObject */
  GQueue garbage;                 /* QfsGarbage by seq */
  GHashTable *given_up;           /* QfsObjectId -> number of a write that was given up (guint64 *) */
  GHashTable *staged;             /* set of QfsObjectId */
  guint64 extend_above;           /* spans that end up to here are not extended: qfs_writes_uncertain */
  guint64 next_object;
  GQueue node_ops;                /* QfsOp of QFS_REQUEST_NODE and SYNC that wait for settling */

  /* direct reads */
  GQueue asks;                    /* QfsAsk by id */
  guint64 next_ask;
  guint64 reads_started, reads_ticked; /* now, and at the last tick */

  /* settling */
  guint64 settled;                /* mark: durable on all holders */
  guint64 settled_told;           /* value that every in-sync node has been told */
  gboolean settling;
  guint64 settle_mark, settle_told_next;
  QfsNodeSet settle_waiting;
  gint64 settle_at_us;            /* 0: nothing to settle */
  guint64 settle_id;              /* of the round that began last */
  guint64 settle_done;            /* of the round that ended well last */

  QfsRecovery *recovery;
  QfsMover *mover;
  QfsTidy *tidy;
  guint64 tidied_epoch;           /* view in which a run came to its end */
  guint want_nodes, want_replicas; /* 0: as they are */
  gboolean resize_told;
  guint intents_leaving;          /* nodes asked to remove an intent, not yet answered */
  QfsPurge *purge;                /* the run under way */
  gint64 purge_at_us;             /* the next one by schedule */
  gboolean purge_again;           /* a run is to begin in the new epoch that it asked for */
  guint64 tidying_epoch;          /* in which rows were last removed from nodes that do not own them */
  gboolean purge_wants_epoch;     /* ... which is not there yet */
  gboolean purge_forced;          /* by command, whatever the age, once operations up to */
  guint64 purge_forced_seq;       /* ... this one are settled */
  guint64 purge_last_removed;
  gint64 purge_last_ms;           /* wall clock; 0: no run ended yet */
  GQueue mends;                   /* QfsMend in the order in which they were found */
  guint mends_running;
  QfsScrub *scrub;                /* the run under way */
  QfsScrubRange *scrub_range;     /* ... and the rows that it compares */
  QfsScrubState scrub_state;
  GQueue mend_waiters;            /* QfsMendWaiter */
  QfsReclaim *reclaim;            /* the run under way */
  gboolean reclaim_wanted;
  gboolean reclaim_forced;        /* by command, which waits for its end */
  guint64 reclaim_last_removed;
  guint64 reclaim_runs;           /* that passed nothing over */
  guint64 reclaim_seq;            /* ... once operations up to this one are settled */
  gint64 reclaim_at_us;           /* ... not before */
  gboolean reclaim_proving;       /* a run has ended, and its proof waits until operations up to */
  guint64 reclaim_proof_seq;      /* ... this one are settled and all nodes know it */
  guint64 reclaim_proof;          /* ... to become the next: */
  guint64 reclaimed;              /* rows of writes below this number are all some record's */
  gint64 view_changed_us;         /* when S changed last */
  gint64 wake_us;                 /* wish that the environment knows of; 0: none */
  QfsEngineCounters stat;
  guint64 restored_records, restored_chunks; /* copied to nodes that are rebuilt because of damage */
};

G_END_DECLS
