/* objects.h - chunks of values, and what becomes of those that no record has: objects.c, reclaim.c. */
#pragma once

#include "cluster/flight.h"

G_BEGIN_DECLS

/* Above every timestamp that the clock issues: versions of chunk rows of before there were write numbers. */
#define QFS_WRITE_NUMBER(epoch, counter) ((G_GUINT64_CONSTANT(1) << 63) | QFS_SEQ(epoch, counter))

typedef struct {
  QfsObjectId id;
  guint pins;
  GPtrArray *flights;     /* chunk flights not complete */
} QfsObject;

QfsObject *qfs_object_find(QfsCoordinator *c, QfsObjectId id);
QfsObject *qfs_object_use(QfsCoordinator *c, QfsObjectId id);
void qfs_object_release_if_idle(QfsCoordinator *c, QfsObject *object);
/* Chunks flight; registers it with its object until complete. */
QfsFlight *qfs_object_send_chunks(QfsCoordinator *c, QfsObjectId id, GPtrArray *chunks, gboolean durable,
                                  gpointer data, QfsFlightDone on_quorum, QfsFlightDone on_refused);
/* Chunk flights that are not at all holders: known to their object. */
void qfs_object_add_flight(QfsCoordinator *c, QfsFlight *flight);
void qfs_object_remove_flight(QfsCoordinator *c, QfsFlight *flight); /* does nothing when it is not there */
/* Nodes that have every chunk of the object up to write number `version`. */
QfsNodeSet qfs_object_readable(QfsCoordinator *c, QfsObjectId id, guint64 version);
/* Garbage: removed once operation `seq` is durable at all holders and nobody pins the object. Takes `chunks` over. */
void qfs_garbage_add(QfsCoordinator *c, guint64 seq, QfsDiscard discard, QfsObjectId id,
                     GPtrArray *chunks);
/* The intent `id` is removed everywhere once the batch of operation `seq` is durable at all holders. */
void qfs_garbage_add_intent(QfsCoordinator *c, guint64 seq, guint64 id);
void qfs_garbage_collect(QfsCoordinator *c);
gboolean qfs_garbage_has_intents(const QfsCoordinator *c);
gboolean qfs_garbage_waits(const QfsCoordinator *c); /* for a round to begin, not for a pin */
void qfs_garbage_round(QfsCoordinator *c); /* a round of settling begins */

guint qfs_object_id_hash(gconstpointer id);
gboolean qfs_object_id_equal(gconstpointer a, gconstpointer b);
/* A write's number: of the rows that it brings, above those of every earlier write, never given again. */
guint64 qfs_next_write(QfsCoordinator *c);
/* Rows of writes up to now may come to light that no version that is known has: a new life began, or the trusted
 * nodes were lost and what they find now is all that is believed. */
void qfs_writes_uncertain(QfsCoordinator *c);
/* The write's chunks found no room and no record will have them, but they may be at some nodes. */
void qfs_object_give_up(QfsCoordinator *c, QfsObjectId id, guint64 number);
/* Are the rows newer than `newest`, up to now, all known? */
gboolean qfs_object_may_extend(QfsCoordinator *c, QfsObjectId id, guint64 newest);
/* An object that is built piece by piece in this life, before a record names it. */
void qfs_object_stage(QfsCoordinator *c, QfsObjectId id);
void qfs_object_unstage(QfsCoordinator *c, QfsObjectId id);
gboolean qfs_object_is_staged(const QfsCoordinator *c, QfsObjectId id);

/* ---- orphans: reclaim.c ---- */

void qfs_reclaim_want(QfsCoordinator *c); /* something happened that may leave chunk rows that no record has */
void qfs_reclaim_consider(QfsCoordinator *c);
void qfs_reclaim_stop(QfsCoordinator *c);
/* A run is under way, or could be at once. */
gboolean qfs_reclaim_is_due(const QfsCoordinator *c);
/* A write was given up: what was proved of its time does not hold any more. */
void qfs_reclaim_unprove(QfsCoordinator *c);
/* A version has these: so many that a run which proves that gaps between them are empty is worth it? */
void qfs_reclaim_note_spans(QfsCoordinator *c, GBytes *spans);
/* The flight carries records or chunks: their objects are alive. */
void qfs_reclaim_note_flight(QfsCoordinator *c, const QfsMessage *message);

G_END_DECLS
