/* lack.c - what a node must have before it is given a record.
 *
 * Its chunks: after a loss of power the record may be all that is left of a value, and would be spread with holes. And the
 * intents of earlier batches that changed its key: the record may be all that is left of what the batch did, or of what was
 * written over that, and the other parts would not be rolled forward. Both as far as they are not settled; what is at all who
 * are to have it is retained until then, and sent again when others are to have it (flight.c).
 */
#include "cluster/private.h"

QfsNodeSet qfs_lack_chunks(QfsCoordinator *c, QfsObjectId id, guint64 seq) {
  const QfsObject *object = qfs_object_is_none(id) ? NULL : qfs_object_find(c, id);
  QfsNodeSet lack = 0;
  for (guint i = 0; object != NULL && i < object->flights->len; i++) {
    QfsFlight *chunks = object->flights->pdata[i];
    if (chunks->seq < seq)
      lack |= qfs_flight_targets(c, chunks) & ~chunks->acked;
  }
  return lack;
}

static gboolean has_hash(const QfsFlight *flight, guint64 hash) {
  for (guint i = 0; i < flight->n_hashes; i++)
    if (flight->hashes[i] == hash)
      return TRUE;
  return FALSE;
}

static QfsNodeSet lack_intents(QfsCoordinator *c, guint64 hash, guint64 seq) {
  QfsNodeSet lack = 0;
  for (guint i = 0; i < c->intents->len; i++) {
    const QfsFlight *intent = c->intents->pdata[i];
    if (intent->seq < seq && has_hash(intent, hash))
      lack |= qfs_key_targets(c, hash) & ~intent->acked;
  }
  return lack;
}

QfsNodeSet qfs_lack(QfsCoordinator *c, const QfsRecord *record) {
  const QfsNodeSet lack = qfs_lack_chunks(c, record->object, record->seq);
  return c->intents->len == 0 ? lack : lack | lack_intents(c, qfs_key_hash(record->key), record->seq);
}

static gboolean is_part_of(const QfsFlight *flight, const QfsFlight *intent) {
  return flight->message->type == QFS_MESSAGE_COMMIT && flight->message->id == intent->seq;
}

/* Later versions of what is obsolete: a node that has these takes no record any more whose chunks it will not get. */
static QfsNodeSet lack_newer(QfsCoordinator *c, const QfsFlight *flight) {
  QfsNodeSet lack = 0;
  for (GList *link = c->flights.tail; link != NULL; link = link->prev) {
    const QfsFlight *later = link->data;
    if (later->seq <= flight->seq)
      break;
    if (later->message->records == NULL || later->message->type == QFS_MESSAGE_INTENT)
      continue;
    for (guint i = 0; i < flight->n_hashes; i++)
      if (has_hash(later, flight->hashes[i]))
        lack |= qfs_key_targets(c, flight->hashes[i]) & ~later->acked;
  }
  return lack;
}

QfsNodeSet qfs_flight_lack(QfsCoordinator *c, const QfsFlight *flight) {
  const GPtrArray *records = flight->message->records;
  QfsNodeSet lack = flight->obsolete ? lack_newer(c, flight) : 0;
  if (flight->message->type == QFS_MESSAGE_INTENT)
    return 0; /* it is no change yet */
  for (guint i = 0; records != NULL && i < records->len; i++)
    lack |= qfs_lack_chunks(c, ((const QfsRecord *)records->pdata[i])->object, flight->seq);
  for (guint i = 0; records != NULL && i < c->intents->len; i++) {
    const QfsFlight *intent = c->intents->pdata[i];
    if (is_part_of(flight, intent)) /* it goes to the same nodes */
      lack |= ~intent->acked;
    else if (intent->seq < flight->seq)
      for (guint k = 0; k < flight->n_hashes; k++)
        if (has_hash(intent, flight->hashes[k]))
          lack |= qfs_key_targets(c, flight->hashes[k]) & ~intent->acked;
  }
  return lack;
}

gboolean qfs_flight_names(const QfsFlight *flight, QfsObjectId id) {
  const GPtrArray *records = flight->message->records;
  for (guint i = 0; records != NULL && i < records->len; i++)
    if (qfs_object_equal(((const QfsRecord *)records->pdata[i])->object, id))
      return TRUE;
  return FALSE;
}

gboolean qfs_flight_waits_for(const QfsFlight *flight, const QfsFlight *first) {
  if (first->message->chunks != NULL)
    return qfs_flight_names(flight, ((const QfsChunk *)first->message->chunks->pdata[0])->object);
  if (first->message->type != QFS_MESSAGE_INTENT || flight->message->records == NULL)
    return FALSE;
  for (guint i = 0; i < flight->n_hashes && !is_part_of(flight, first); i++)
    if (has_hash(first, flight->hashes[i]))
      return TRUE;
  return is_part_of(flight, first);
}
