/* hand.h - a small world in which a test decides what arrives, who is there and what a loss of power takes.
 *
 * The real coordinator and nodes over the storage model (mem_disk.h), in virtual time and without chance: messages arrive
 * in the order in which they were sent, but for those that the test loses or keeps back. For what random faults meet too
 * rarely; directed_*.c.
 *
 * Threading: one thread. Errors: what does not come within its time ends the process (g_assert).
 */
#pragma once

#include "cluster/coordinator.h"
#include "cluster/node.h"
#include "cluster/placement.h"
#include "mem_replica.h"

#define HAND_SECOND G_GINT64_CONSTANT(1000000)

typedef struct {
  MemDisk *disk;
  QfsNode *node;        /* NULL: not open */
  QfsReplica *reader;
  guint64 process;      /* incarnation of the running process; 0: none */
  guint to_lost, from_lost; /* requests and replies of these types (as bits) are lost */
  guint late;           /* requests of these types take so much longer: */
  gint64 late_us;
  gint64 still_us;      /* none arrives before */
} HandNode;

typedef struct {
  QfsEnv env;           /* first */
  guint nodes, replicas;
  gint64 now_us, wake_us;
  guint64 random, next_id;
  GQueue events;        /* by time */
  QfsCoordinatorConfig config;
  QfsCoordinator *coordinator; /* NULL: not running */
  HandNode node[QFS_NODES_MAX + 1]; /* from 1 */
  QfsNodeSet away;      /* can't be opened */
  QfsNodeSet full;      /* refuse whatever takes space, or: */
  guint full_types;     /* these types alone; 0: all that do */
  gint64 read_us;       /* a read takes so much longer */
  gint64 remove_us;     /* so does removing a node's replica */
  guint kept_type, kept_node; /* of such requests a copy is kept, to arrive again later */
  GPtrArray *kept;
  guint sent[QFS_NODES_MAX + 1][QFS_MESSAGE_TYPES]; /* requests that left, lost ones too */
} Hand;

#define HAND_TYPE(NAME) (1u << QFS_MESSAGE_##NAME)
#define HAND_ALL (~0u)

#define NODES(...) hand_nodes((const guint[]){__VA_ARGS__, 0})
QfsNodeSet hand_nodes(const guint *numbers); /* up to a 0 */

Hand *hand_new(guint nodes, guint replicas); /* a new store, all is settled */
void hand_free(Hand *hand);

/* ---- its course ---- */

/* Starts the daemon; TRUE: it serves, else it is stuck. */
gboolean hand_start(Hand *hand);
void hand_begin(Hand *hand); /* the same, and does not wait */
void hand_kill(Hand *hand);
/* Kills it, and all nodes but these lose what is not on stable storage. */
void hand_lose_power(Hand *hand, QfsNodeSet keep);
void hand_crash(Hand *hand, guint node); /* its process ends; it is opened again unless it is away */
void hand_run(Hand *hand, gint64 time_us);
typedef gboolean (*HandCondition)(Hand *hand, gconstpointer data);
void hand_run_until(Hand *hand, HandCondition condition, gconstpointer data);
void hand_take_away(Hand *hand, guint node); /* it can't be opened any more, its process ends, and it is not in sync */
gboolean hand_is_without(Hand *hand, gconstpointer node); /* a condition: the node, by GUINT_TO_POINTER, is not in sync */
void hand_settle(Hand *hand, QfsNodeSet in_sync); /* until these and no others are in sync, and all is quiet */
void hand_lose(Hand *hand, guint node, guint types); /* requests to the node from now on; 0: none */
void hand_lose_replies(Hand *hand, guint node, guint types);
void hand_slow_down(Hand *hand, guint node, guint types, gint64 late_us); /* requests from now on */
void hand_stall(Hand *hand, guint node, gint64 time_us); /* it handles nothing for so long */
void hand_keep(Hand *hand, guint node, QfsMessageType type);
void hand_deliver_kept(Hand *hand); /* and keeps no more */

/* ---- requests ---- */

void hand_submit(Hand *hand, QfsRequest *request);
gboolean hand_is_answered(const QfsRequest *request);
QfsStatus hand_wait(Hand *hand, QfsRequest *request); /* frees it */
QfsRequest *hand_put_request(const char *key, const char *value);
QfsRequest *hand_append_request(const char *key, const char *value);
QfsRequest *hand_two_keys(QfsRequestType type, const char *key, const char *key2); /* RENAME, LINK */
QfsStatus hand_put(Hand *hand, const char *key, const char *value);
QfsStatus hand_rename(Hand *hand, const char *key, const char *key2);
QfsStatus hand_link(Hand *hand, const char *key, const char *key2);
QfsStatus hand_remove(Hand *hand, const char *key);
QfsRequest *hand_mkdir_request(const char *key);
QfsRequest *hand_rmdir_request(const char *key);
QfsStatus hand_mkdir(Hand *hand, const char *key);
QfsStatus hand_rmdir(Hand *hand, const char *key);
/* The value; NULL: there is none. Newly allocated. Chunks are read, too. */
char *hand_get(Hand *hand, const char *key);
guint hand_links(Hand *hand, const char *key); /* how many names the file counts; 0: it is not there */

/* ---- looking ---- */

/* A name with this prefix whose owners are exactly these; newly allocated. */
char *hand_key(Hand *hand, const char *prefix, QfsNodeSet owners);
/* The same, and `next` is to hold it when `gone` is away. */
char *hand_key_with_next(Hand *hand, const char *prefix, QfsNodeSet owners, guint gone, guint next);
const QfsRecord *hand_row(Hand *hand, guint node, const char *key); /* as committed; or NULL */
guint hand_intents(Hand *hand, guint node);
QfsNodeMeta hand_meta(Hand *hand, guint node);

#define hand_assert_value(hand, key, value)                                                        \
  G_STMT_START {                                                                                   \
    g_autofree char *held_ = hand_get(hand, key);                                                  \
    g_assert_cmpstr(held_, ==, value);                                                             \
  }                                                                                                \
  G_STMT_END

/* ---- directed.c ---- */

/* `path` NULL: all of them. */
int hand_run_directed(char *program, char *path, gboolean tap);
void directed_batches_add(void);
void directed_starts_add(void);
void directed_sizes_add(void);
void directed_damage_add(void);
void directed_forget_add(void);
void directed_passed_add(void);
void directed_catchup_add(void);
void directed_chunks_add(void);
void directed_listing_add(void);
void directed_storage_add(void);
void directed_patience_add(void);
