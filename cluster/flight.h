/* flight.h - replicated writes on their way to the nodes, and what has to be there before them. */
#pragma once

#include "cluster/peer.h"

G_BEGIN_DECLS

/* More than this on its way and new writes wait: memory stays bounded when a node is slow. */
#define QFS_FLIGHT_BYTES_MAX (32u << 20)
#define QFS_FLIGHTS_MAX 4096

typedef void (*QfsFlightDone)(QfsCoordinator *c, QfsFlight *flight, gpointer data);

struct QfsFlight {
  guint64 seq;
  QfsMessage *message;     /* template; records are cut down to each node's own */
  guint n_hashes;
  guint64 *hashes;         /* one per record; or one for all that the message carries */
  gboolean split;          /* node gets only the records it holds (hashes[i] belongs to record i) */
  QfsNodeSet acked, outstanding, full;
  gint64 full_since_us;    /* first answer for lack of space; 0: none */
  gboolean tainted;        /* lack of space does not prove that it was not applied */
  gboolean quorum;
  gboolean obsolete;       /* what it names is being discarded: newer versions are known, and a node gets these before */
  gboolean recovery;       /* complete when all of H(hash, S) have it, though S be smaller than W */
  guint round;             /* of split flights: answers of an earlier round are for other parts */
  gsize bytes;
  QfsFlightDone on_quorum; /* once; NULL after it was called */
  QfsFlightDone on_complete; /* once, when every holder has it; the flight is freed afterwards */
  QfsFlightDone on_refused;  /* no space anywhere, nothing applied; the flight is freed afterwards; or NULL */
  gpointer data;
  GList link;              /* in c->flights, by seq */
};

/* Numbers and sends a flight; hashes are copied. Must be called only while writes are possible. */
QfsFlight *qfs_flight_start(QfsCoordinator *c, QfsMessage *message, const guint64 *hashes,
                            guint n_hashes, gboolean split, gpointer data, QfsFlightDone on_quorum,
                            QfsFlightDone on_complete, QfsFlightDone on_refused);
/* The number of the next flight; records and chunks of it carry it. */
guint64 qfs_next_seq(QfsCoordinator *c);
void qfs_flights_dispatch(QfsCoordinator *c);          /* after a view change or a new joiner */
gboolean qfs_flight_is_under_way(QfsCoordinator *c, guint64 seq); /* not yet at all holders */
void qfs_flight_forget(QfsCoordinator *c, guint64 seq); /* complete, and not to be sent again */
/* The object is garbage: who lacks chunks of it, perhaps for want of room, does not get them after they were discarded. */
void qfs_flights_end_chunks(QfsCoordinator *c, QfsObjectId id);
void qfs_flights_tick(QfsCoordinator *c, gint64 now_us);
void qfs_flights_revive(QfsCoordinator *c);            /* after S changed */
void qfs_flights_join(QfsCoordinator *c);              /* after a node began to join */
void qfs_flights_settled(QfsCoordinator *c);           /* after the mark moved */
void qfs_flights_forget_peer(QfsCoordinator *c, QfsPeer *peer, gboolean lost); /* its outstanding bits */
QfsNodeSet qfs_flight_targets(QfsCoordinator *c, const QfsFlight *flight);
QfsNodeSet qfs_key_targets(QfsCoordinator *c, guint64 hash); /* of what changes the key alone */

/* ---- what must come first: lack.c ---- */

/* Nodes that must not get it yet: what has to be there before it is on its way to them. */
QfsNodeSet qfs_lack(QfsCoordinator *c, const QfsRecord *record);
QfsNodeSet qfs_flight_lack(QfsCoordinator *c, const QfsFlight *flight);
/* The same of the chunks of the object which a record with number `seq` may name. */
QfsNodeSet qfs_lack_chunks(QfsCoordinator *c, QfsObjectId id, guint64 seq);
/* May `flight` have been held back because of `first`, which is chunks or an intent? */
gboolean qfs_flight_waits_for(const QfsFlight *flight, const QfsFlight *first);
/* Does some record of it name the object? */
gboolean qfs_flight_names(const QfsFlight *flight, QfsObjectId id);

/* ---- records to be copied to a node that lacks what must come first: held.c ---- */

/* TRUE: not yet, and it was added to `held`. */
gboolean qfs_held_add(QfsCoordinator *c, GPtrArray *held, guint node, QfsRecord *record);
/* Takes those out that need not wait any more; NULL: none. Then the view is evaluated again when that may have changed. */
GPtrArray *qfs_held_take(QfsCoordinator *c, GPtrArray *held, guint node);
void qfs_held_wake(QfsCoordinator *c); /* something has arrived somewhere, or does not come */

G_END_DECLS
