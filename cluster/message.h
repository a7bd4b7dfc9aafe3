/* message.h - what coordinator and nodes say to each other.
 *
 * Requests carry whole state and are idempotent: a lost one is sent again, a repeated one is answered
 * like the first. A node answers each request by one reply with the same type, cookie and incarnation.
 * Links may lose, repeat, delay and (in the simulator) reorder; the coordinator relies on none of it.
 *
 * Ownership: a message belongs to whoever holds it; send and reply take it over. Arrays in it are
 * shared by reference count between the messages to several nodes, and never change.
 */
#pragma once

#include "cluster/status.h"
#include "storage/replica.h"

G_BEGIN_DECLS

typedef enum {
  QFS_MESSAGE_HELLO,        /* -> meta: what the node is and remembers; aside; more: that is new */
  QFS_MESSAGE_PROMISE,      /* id: an epoch; older ones are refused from now on, durably. With `force` it is the
                             * replica's generation, too: what it holds is believed */
  QFS_MESSAGE_VIEW,         /* view; mark, settled, ceiling as SYNC: durable before the reply */
  QFS_MESSAGE_APPLY,        /* records (LWW; `force` replaces whatever is there) */
  QFS_MESSAGE_CHUNKS,       /* chunks */
  QFS_MESSAGE_INTENT,       /* id, records: the batch is durable as an intent, not visible */
  QFS_MESSAGE_COMMIT,       /* id, records: apply these (the node's part); no records: remove the intent */
  QFS_MESSAGE_DISCARD,      /* chunks (data NULL): garbage; see QfsDiscard */
  QFS_MESSAGE_SYNC,         /* mark, settled, ceiling (0: leave each): all before is durable; -> stats */
  QFS_MESSAGE_READ,         /* key -> records[0] or none */
  QFS_MESSAGE_CHUNK_GET,    /* chunks[0] (object, index, version: exactly that row) -> chunks[0] or none */
  QFS_MESSAGE_SCAN_RECORDS, /* after_seq, key, limit -> records, more */
  QFS_MESSAGE_SCAN_CHUNKS,  /* after_seq, chunks[0] or none, limit, with_data -> chunks, more */
  QFS_MESSAGE_INTENTS,      /* -> intents: array of QfsIntent */
  QFS_MESSAGE_REMOVE,       /* key, records[0]: the row goes if it is this version, records[1] (or none)
                             * takes its place (node not in sync) */
  QFS_MESSAGE_WIPE,         /* everything but the metadata goes; mark becomes 0; once per incarnation -> id: epoch.
                             * With `aside` the replica is set aside for that reason, not emptied */
  QFS_MESSAGE_SCAN_TOMBSTONES, /* as SCAN_RECORDS, of tombstones only */
  QFS_MESSAGE_PURGE,        /* records (tombstones), after_seq: what is older than they, of operations up to
                             * after_seq, goes; with `force` the tombstones themselves, too */
  QFS_MESSAGE_LIST_CHUNKS,  /* chunks[0] or none, limit -> chunks in the order of objects, without data; more */
  QFS_MESSAGE_OBJECT_RECORDS, /* chunks (object) -> records that name any of them, without tails */
  QFS_MESSAGE_PING,         /* -> stats */
  QFS_MESSAGE_INSPECT,      /* key -> records[0] or none; or print and bad, if the row is bad; with chunks[0] the same
                             * of exactly that chunk row */
  QFS_MESSAGE_MEND,         /* key, print, records[0] or none: takes the place of the bad row that looks so -> more: it
                             * did; with chunks[0] (data NULL: none) the same of that chunk row, and without a print
                             * it takes the place if there is no such row */
  QFS_MESSAGE_VERIFY,       /* chunks[0] or none, limit: reads and verifies the chunk rows after it -> chunks[0]: the
                             * last one (data NULL) or none, bad_rows, limit: rows looked at, more */
  QFS_MESSAGE_DIGEST,       /* rows after key (NULL: from the first) up to until (NULL: to the last), at most limit, of
                             * operations up to after_seq, that in_sync and replicas make it hold -> digests: sums,
                             * or with `holders` each row of that set; bad_rows; limit: rows looked at; more: it got
                             * to `until` only. with_data: data is read and verified, too */
  QFS_MESSAGE_DIGEST_CHUNKS, /* the same of the names of chunk rows after chunks[0] (object none: from the first) up to
                             * chunks[1] (or none: to the last) -> more: it got to chunks[0] only, where the rows of
                             * an index end. With `holders` all rows, of whatever operation */
  QFS_MESSAGE_TYPES,
} QfsMessageType;

typedef enum {
  QFS_DISCARD_OBJECT,   /* all rows of the object */
  QFS_DISCARD_OLDER,    /* rows of (object, index) older than version */
  QFS_DISCARD_VERSION,  /* exactly that row */
} QfsDiscard;

typedef struct {
  guint64 id;
  GPtrArray *records;
} QfsIntent;
void qfs_intent_free(QfsIntent *intent);

typedef struct {
  QfsMessageType type;
  gboolean is_reply;
  guint node;               /* the node's end of the link, from 1 */
  guint64 incarnation;      /* of the node: replies of an earlier one are dropped */
  guint64 epoch;            /* requests: refused with QFS_STALE when older than the node's promise */
  gboolean is_overdue;      /* requests: others have what it brings, or its chunks are stored: it may use room that is kept for that */
  gboolean of_epoch;        /* ... and never sent in a later one: what it does there is for nodes as this view sees them */
  guint64 cookie;           /* pairs request and reply; 0: no reply wanted */
  QfsStatus status;         /* replies: QFS_OK, QFS_STALE (older epoch), QFS_IO, QFS_NO_SPACE */
  char *reason;             /* replies with QFS_IO or QFS_NO_SPACE: for people */

  gboolean repeated;        /* replies: the request was sent more than once, an earlier one may have worked */
  gboolean corrupt;         /* replies with QFS_IO: what is stored there is damaged */
  char *aside;              /* why what lies beside the replica was set aside; NULL: nothing does */
  QfsBadRow *bad;           /* replies with QFS_IO: only this row is, and the request changed nothing; or NULL */
  GPtrArray *digests;       /* QfsDigest: scrub.h */
  GPtrArray *bad_rows;      /* QfsBadRow */
  char *until;
  QfsNodeSet in_sync, holders;
  guint replicas;           /* DIGEST: K */
  guint64 print;            /* of a bad row: replica.h */

  GPtrArray *records;       /* QfsRecord */
  GPtrArray *chunks;        /* QfsChunk */
  GPtrArray *intents;       /* QfsIntent */
  char *key;
  guint64 id;
  guint64 after_seq;
  guint64 first_seq;        /* APPLY by recovery: of the operation that made the version; 0: as in the record */
  guint limit;
  gboolean more;
  gboolean force, durable, with_data;
  QfsDiscard discard;
  guint64 mark, settled, ceiling, max_seq;
  guint64 newest;           /* APPLY, COMMIT reply: greatest timestamp that was found newer, 0: none */
  QfsView *view;
  QfsNodeMeta *meta;
  QfsReplicaStats stats;
} QfsMessage;

QfsMessage *qfs_message_new(QfsMessageType type, guint node);
/* A reply to `request`: type, node, incarnation, cookie taken over; QFS_OK. */
QfsMessage *qfs_message_new_reply(const QfsMessage *request);
/* Same content (arrays shared), for another node. */
QfsMessage *qfs_message_copy(const QfsMessage *message, guint node);
void qfs_message_free(QfsMessage *message); /* accepts NULL */
gsize qfs_message_size(const QfsMessage *message); /* bytes of payload, for back-pressure */
const char *qfs_message_type_name(QfsMessageType type);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QfsMessage, qfs_message_free)

GPtrArray *qfs_records_new(void); /* array that unrefs its QfsRecord elements */
GPtrArray *qfs_chunks_new(void);  /* array that frees its QfsChunk elements */

G_END_DECLS
