/* peer.h - what the coordinator knows of a node, and requests to it: coordinator.c, rpc.c. */
#pragma once

#include "cluster/parts.h"

G_BEGIN_DECLS

/* CLOSED -> OPENING -> KNOWN -> (TRUSTED | JOINING -> TRUSTED); any -> CLOSED; TRUSTED, JOINING, KNOWN ->
 * SUSPECT (silent) -> OPENING (greeted anew). */
typedef enum {
  PEER_CLOSED,   /* no process */
  PEER_OPENING,  /* started, not yet answered HELLO */
  PEER_KNOWN,    /* answered; holds nothing that counts yet */
  PEER_JOINING,  /* catching up: gets every new write, counts for nothing */
  PEER_TRUSTED,  /* member of S and has everything that S promises */
  PEER_SUSPECT,  /* silent for too long; its process may live */
} QfsPeerState;

typedef struct {
  guint index;
  QfsPeerState state;
  guint64 incarnation;
  guint64 process;        /* incarnation of the running process; 0: none */
  gint64 opening_since_us;
  gboolean wanted;        /* to be up: the operator did not close it */
  gboolean crashed;       /* closed by QFS_NODE_CRASH */
  gboolean evicted;       /* given up by command, until it is in sync again */
  char *aside;            /* why what lies beside its replica was set aside; NULL: nothing does */
  guint64 aside_process;  /* whose news of that were counted */
  char *aside_wanted;     /* its replica is to be set aside for this reason, not emptied */
  guint unreachable_rows; /* bad ones that were not there by the name they tell */
  guint bad_rows;         /* found since it was started */
  gint64 catchup_at_us;   /* its catch-up met a bad row: again not before */
  gboolean rebuild;       /* what it holds is not to be believed: wipe before joining */
  gboolean filled;        /* ... which was done, and what it holds since then may stay */
  gboolean damaged;       /* to be wiped whatever the view says */
  gboolean restored;      /* the rebuild makes good for what was there and could not be used */
  gboolean retired;       /* no longer part of the store: its replica is being removed */
  char *reason;           /* why it failed; NULL: it did not */
  gint64 retry_at_us;     /* failed: try to open again then */
  guint retries;
  QfsNodeMeta meta;       /* as of HELLO */
  QfsReplicaStats stats;
  gint64 silent_since_us; /* latest answer while requests are unanswered, else 0 */
  gint64 heard_us;        /* latest answer */
  guint64 outstanding;
  GQueue rpcs;            /* QfsRpc not answered, oldest first */
  gint64 rpc_us;          /* usual time from a request to its answer */
  gint64 latest_us;       /* that of the latest answer */
  gint64 read_us, read_at_us; /* usual time of a direct read, as of then: reads.c */
  gint64 unread_since_us; /* first direct read since the latest one that was answered; 0: none */
  gint64 greeted_us;      /* OPENING: greeted anew at; 0: its process was started */
  guint suspicions;       /* SUSPECT so many times in a row: asked less and less often */
  gint64 trusted_since_us;
  gboolean too_slow;      /* SUSPECT, OPENING: answers, but late */
  QfsCatchup *catchup;    /* JOINING */
  gboolean stopping;      /* node_stop asked for, not yet gone */
} QfsPeer;

/* Marks the peer for rebuilding if its file does not belong to the view. */
void qfs_peer_judge(QfsCoordinator *c, QfsPeer *peer);
void qfs_peer_start(QfsCoordinator *c, QfsPeer *peer);
void qfs_peer_greet(QfsCoordinator *c, QfsPeer *peer);
void qfs_peer_lost(QfsCoordinator *c, QfsPeer *peer, QfsPeerState state);
void qfs_peer_fail(QfsCoordinator *c, QfsPeer *peer, const char *reason, gboolean rebuild);
/* Takes over what the reply says of a replica that was set aside. */
void qfs_peer_note_aside(QfsCoordinator *c, QfsPeer *peer, const QfsMessage *reply);
/* Every reply passes here: QFS_IO means that the node failed. FALSE: the reply is of no use. */
gboolean qfs_peer_reply_ok(QfsCoordinator *c, QfsPeer *peer, const QfsMessage *reply);

/* ---- requests to nodes: rpc.c ---- */

/* `reply` NULL: the node is gone or was greeted anew; the outcome is unknown. */
typedef void (*QfsRpcDone)(QfsCoordinator *c, QfsPeer *peer, QfsMessage *reply, gpointer data);

typedef struct {
  guint64 cookie;
  guint node;
  gint64 sent_us, first_us;
  guint tries;
  QfsMessage *message;   /* kept for repetition */
  QfsRpcDone done;
  gpointer data;
  GList link;            /* in its peer's rpcs */
} QfsRpc;

/* Takes `message` over; sets epoch, incarnation and cookie. */
void qfs_rpc_send(QfsCoordinator *c, QfsPeer *peer, QfsMessage *message, QfsRpcDone done,
                  gpointer data);
void qfs_rpc_receive(QfsCoordinator *c, QfsMessage *reply);
void qfs_rpc_drop_peer(QfsCoordinator *c, QfsPeer *peer); /* ends its requests with NULL replies */
void qfs_rpc_tick(QfsCoordinator *c, gint64 now_us);
/* A greeted node answered after `took_us`. TRUE: too late to be of use, and the others can do without it. */
gboolean qfs_rpc_is_too_slow(QfsCoordinator *c, const QfsPeer *peer, gint64 took_us);
/* Trusted nodes that have not answered for long but can't be given up: nobody should wait for them. */
QfsNodeSet qfs_peers_silent(const QfsCoordinator *c);
QfsNodeSet qfs_peers_mute(const QfsCoordinator *c); /* the same for direct reads */
/* Trusted nodes that had been silent for so long at that time, and are. */
QfsNodeSet qfs_peers_silent_for(const QfsCoordinator *c, gint64 for_us, gint64 at_us);
/* Who does not answer for so long is given up ... */
gint64 qfs_rpc_patience_us(const QfsCoordinator *c);
/* ... and is not waited for any more after this time: where all disks are busy at once, waiting is better than refusing. */
gint64 qfs_rpc_silence_us(const QfsCoordinator *c);
/* Nodes that owe no answer for long, and were quick with the latest one. */
QfsNodeSet qfs_rpc_answering(const QfsCoordinator *c, gint64 now_us);
/* Would these nodes do without the others? */
gboolean qfs_rpc_suffice(const QfsCoordinator *c, QfsNodeSet nodes);

G_END_DECLS
