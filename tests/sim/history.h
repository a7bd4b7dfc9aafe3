/* history.h - what clients asked, when, and what they were told: the material of every check.
 *
 * Owns: the keys, the operations, and per key the *floor*: the newest version that some client
 * knows to be there, because its write was acknowledged or because a read returned it. A later read
 * must not return anything older.
 *
 * Every operation leaves its number in the record that it makes: as ctime (and as mtime when it
 * wrote bytes), so that a version says who made it.
 *
 * Outcomes. A change was APPLIED (acknowledged, is a version of its key), SUPERSEDED (acknowledged,
 * an explicit timestamp lost), REFUSED (certainly without effect) or UNKNOWN. A loss of power turns
 * those APPLIED changes that nobody had been promised to be on stable storage into UNKNOWN ones.
 */
#pragma once

#include "sim.h"

typedef enum {
  SIM_KEY_VALUE,     /* whole values, exclusive creation, compare-and-swap, attributes */
  SIM_KEY_STAMPED,   /* whole values, with explicit timestamps among them */
  SIM_KEY_LOG,       /* lines that are appended */
  SIM_KEY_PATCHED,   /* cells that are overwritten in place */
  SIM_KEY_TOKEN,     /* values that move from name to name */
  SIM_KEY_DIRECTORY, /* a directory that comes and goes */
  SIM_KEY_CHILD,     /* values in it */
} SimKeyClass;

/* An answer of a GET, and under what it was asked for (check_trust.c). */
typedef struct {
  QfsRecord *record;
  guint64 stand;
  guint run, tellings;
} SimTrust;

typedef struct {
  guint index;
  char *name;
  SimKeyClass class;
  guint group;            /* keys of one group are checked for linearizability together */
  QfsRecord *floor;       /* NULL: nothing known, absent is right */
  gint64 floor_invoke_us; /* when the operation that made the floor began; -1: none did */
  QfsRecord
      *acked; /* newest version of which the write was acknowledged, or a loss of power left */
  gint64 acked_invoke_us, acked_us;
  QfsRecord *purged; /* newest tombstone that some node collected: up to it nothing need be known */
  guint64 purged_seq; /* greatest operation of a collected tombstone */
  gint64 purged_us;
  QfsRecord *durable; /* the same for what a loss of power must leave */
  gint64 durable_invoke_us;
  GPtrArray *ops; /* SimOp that may change it, in order of invocation */
  guint tellings;   /* how often anybody was told that it changed */
  SimTrust trust;   /* the last answer; NULL: none yet */
  GHashTable *told; /* timestamps that watchers were told of in this life; looked up, never walked */
} SimKey;

typedef enum {
  SIM_OP_GET,
  SIM_OP_LIST,
  SIM_OP_SYNC,
  SIM_OP_WRITE, /* the whole value */
  SIM_OP_APPEND,
  SIM_OP_PATCH,    /* `count` cells from `first` on */
  SIM_OP_TRUNCATE, /* to `first` cells */
  SIM_OP_ZERO,     /* `count` cells from `first` on, as `bare` says */
  SIM_OP_CREATE,   /* an empty value, exclusively */
  SIM_OP_MKDIR,
  SIM_OP_SETATTR,
  SIM_OP_NOTE, /* that it was read: its number becomes the atime, if it is greater; no version of its own */
  SIM_OP_REMOVE,
  SIM_OP_RMDIR,
  SIM_OP_RENAME,
} SimOpKind;

typedef enum {
  SIM_PENDING,
  SIM_ANSWERED, /* reads */
  SIM_APPLIED,
  SIM_SUPERSEDED,
  SIM_REFUSED,
  SIM_UNKNOWN, /* changes; reads and syncs that failed */
} SimOutcome;

typedef struct {
  QfsRecord *record;
  gint64 invoke_us;
} SimFloor;

typedef struct {
  guint id; /* from 1 */
  guint client;
  SimOpKind kind;
  SimKey *key, *key2; /* LIST: NULL; SYNC: NULL is all keys */
  char *dir, *after;  /* LIST */
  guint limit;
  gint64 invoke_us, end_us; /* end: G_MAXINT64 while pending */
  SimOutcome outcome;
  QfsStatus status;

  gsize size;           /* WRITE, APPEND: bytes */
  guint first, count;   /* cells */
  guint bare;           /* ZERO: QFS_WRITE_ZERO, QFS_WRITE_KEEP_SIZE with it, or QFS_WRITE_GROW */
  gboolean exclusive;   /* WRITE; RENAME: no replacing */
  gboolean conditional; /* WRITE: only if the version is `if_timestamp` */
  guint64 if_timestamp;
  guint if_version;       /* the operation that made it; 0: absent */
  gboolean has_timestamp; /* WRITE, REMOVE */
  guint64 timestamp;
  gboolean durable;

  SimFloor floor, floor2; /* of key and key2 when it began */
  SimFloor *floors;       /* of every key; SYNC: what was acknowledged of it */
  guint64 issued_floor;   /* greatest timestamp acknowledged before it began */

  QfsRecord *record; /* the version made or, for reads, seen; NULL: absent, or not known */
  guint64 offset;    /* APPEND: where the line went */
  guint seen_content, seen_version; /* GET: operations that wrote the bytes and made the version */
} SimOp;

struct SimHistory {
  GPtrArray *keys;         /* SimKey */
  GPtrArray *ops;          /* SimOp; element i has id i + 1 */
  GHashTable *by_name;     /* looked up, never walked */
  guint64 greatest_issued; /* acknowledged timestamps that the store issued for keys without
                              explicit ones */
  GHashTable *issued;      /* timestamp -> SimOp; looked up, never walked */
};

#define SIM_OP_NS(id) (SIM_WALL_START_MS * 1000000 + (gint64)(id))
static inline guint sim_op_of_ns(gint64 ns) {
  gint64 id = ns - SIM_WALL_START_MS * 1000000;
  return id > 0 && id < G_MAXINT32 ? (guint)id : 0;
}

SimHistory *sim_history_new(void);
void sim_history_free(SimHistory *history);
SimKey *sim_history_add_key(SimHistory *history, const char *name, SimKeyClass class, guint group);
SimKey *sim_history_find_key(const SimHistory *history, const char *name); /* NULL: none */
SimOp *sim_history_op(const SimHistory *history, guint id);                /* NULL: none */

/* A new operation that begins now; the caller then fills in what is particular to its kind. */
SimOp *sim_history_begin(Sim *sim, guint client, SimOpKind kind, SimKey *key, SimKey *key2);
/* The same for listings of `dir` from `after` (NULL: the first) on. */
SimOp *sim_history_begin_list(Sim *sim, guint client, const char *dir, const char *after,
                              guint limit);
/* The answer; checks it. `data` is the whole value that a GET read, or NULL. */
void sim_history_end(Sim *sim, SimOp *op, const QfsRequest *request, GBytes *data);

/* Everything acknowledged so far is on stable storage (the coordinator said that it is settled). */
void sim_history_settled(Sim *sim);
void sim_history_power_lost(Sim *sim);
/* After kill -9: what was acknowledged is still on W replicas. */
void sim_history_check_kept(Sim *sim);

/* The change that made `record` of `key` was acknowledged. */
void sim_history_acked(SimKey *key, const SimOp *op, const QfsRecord *record);

/* DESIGN 1.2, from its words and not from the code: higher timestamp, then tombstone, then memcmp. */
int sim_record_order(const QfsRecord *a, const QfsRecord *b); /* NULL is older than everything */

/* Is `record` a tombstone that may have been collected meanwhile, or older than one? */
static inline gboolean sim_is_purged(const SimKey *key, const QfsRecord *record) {
  return key != NULL && record != NULL && key->purged != NULL &&
         sim_record_order(record, key->purged) <= 0;
}
/* A tombstone that was collected elsewhere and stayed: it says nothing. */
static inline gboolean sim_is_leftover(const SimKey *key, const QfsRecord *record) {
  return sim_is_purged(key, record) && record->kind == QFS_KIND_TOMBSTONE &&
         record->seq <= key->purged_seq;
}
/* What the floor still asks for. */
static inline const QfsRecord *sim_floor_record(const SimKey *key, const SimFloor *floor) {
  return sim_is_purged(key, floor->record) ? NULL : floor->record;
}
/* A node collected `tombstone`. */
void sim_history_purged(Sim *sim, SimKey *key, const QfsRecord *tombstone);

/* Does the operation change its key (or keys)? */
gboolean sim_op_changes(const SimOp *op);
/* May it have had, or still have, an effect? */
static inline gboolean sim_op_possible(const SimOp *op) {
  return op->outcome == SIM_PENDING || op->outcome == SIM_APPLIED || op->outcome == SIM_UNKNOWN;
}
gboolean sim_op_removes(const SimOp *op, const SimKey *key);
gboolean sim_op_creates(const SimOp *op, const SimKey *key);
const char *sim_op_kind_name(SimOpKind kind);
/* "op 17 write h0 [applied]", for messages; valid until the next few calls. */
const char *sim_op_text(const SimOp *op);
