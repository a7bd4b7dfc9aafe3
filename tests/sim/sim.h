/* sim.h - one simulated world: a store, its nodes, links, disks and clients, in virtual time.
 *
 * Owns: the event loop, and the struct that the parts share. Parts:
 *   env_sim.c                 QfsEnv: clocks, links between coordinator and nodes, direct reads
 *   daemon.c                  lives of the daemon and of node processes: start, kill -9, power loss, crash of a node
 *   disk*.c, fault_replica.c  storage with faults
 *   mem_disk.c, mem_replica.c the storage model            sim_vfs.c    files under SQLite
 *   workload.c, client.c      clients                      content.c    what they write
 *   faults*.c, moments.c      what goes wrong, and when
 *   history.c                 what was asked and answered
 *   check*.c, linear.c        whether that was right
 *   scenario.c, walk.c        the course of one seed       main.c, jobs.c, story.c  many seeds
 *
 * Invariants
 *  W1. Everything that happens is an event; nothing depends on real time, addresses or hash order,
 * so a seed and the options decide every event. W2. State machines are entered from events only,
 * never from their own effects (env.h E1).
 *
 * Threading: one thread.
 */
#pragma once

#include "cluster/coordinator.h"
#include "cluster/node.h"
#include "disk.h"
#include "queue.h"
#include "random.h"
#include "trace.h"

/* Virtual time begins here, in wall milliseconds. */
#define SIM_WALL_START_MS G_GINT64_CONSTANT(1700000000000)
#define SIM_MS 1000
#define SIM_SECOND 1000000

#define SIM_FAULT_KINDS_MAX 40

typedef enum { SIM_STORAGE_AUTO, SIM_STORAGE_MEMORY, SIM_STORAGE_SQLITE } SimStorage;

typedef struct {
  guint64 seed;
  gboolean unlimited; /* faults beyond what the store must survive */
  SimStorage storage;
  guint nodes, replicas; /* 0: drawn from the seed */
} SimOptions;

/* Lies in memory shared with the parent process; plain data. */
typedef struct {
  gboolean finished, failed;
  gboolean waiting; /* unlimited: keys wait for a disk that was lost */
  char message[1024];
  guint nodes, replicas;
  gboolean sqlite;
  guint64 operations, acked_puts, gets, crashes, node_crashes, lost, faults, events, hedged, trusted, prolonged;
  gint64 virtual_us;
  guint64 digest, lines;
  guint linear_checked, linear_open; /* histories decided, and given up at the bound */
  guint64 duplicated;                /* messages that arrived twice */
  guint fault_count[SIM_FAULT_KINDS_MAX]; /* by kind: sim_fault_name */
} SimResult;

typedef struct {
  guint loss_percent, duplicate_percent;
  gint64 delay_us; /* on top of the usual latency */
  gboolean cut;
  gint64 last_us; /* arrival of the latest message: links keep order unless told otherwise */
} SimLink;

/* One node's process. closed -> started (node_start) -> open -> closed (node_gone is on its way).
 */
typedef struct {
  guint number;
  gboolean started;
  guint64 process;    /* the incarnation that it was started as */
  guint64 aside_incarnation; /* in which its replica was set aside by command */
  QfsNode *node;      /* NULL: not open */
  QfsReplica *reader; /* for direct reads; opened when first used */
  GPtrArray *inbox;   /* QfsMessage that arrived */
  gboolean working;   /* an event to look at the inbox, or to idle, is on its way */
  gint64 service_us;  /* upper bound of the time to serve a batch */
  gint64 busy_us;     /* ... and so much more, or half of that; 0: none */
  gint64 replied_us;  /* its latest answer arrived */
  SimLink to, from;   /* seen from the coordinator */
} SimNode;

typedef struct SimHistory SimHistory;
typedef struct SimClients SimClients;
typedef struct SimFaults SimFaults;
typedef struct SimWalk SimWalk;
typedef struct SimLinked SimLinked;

/* The n-th event of these kinds from now on (moments.h). */
typedef struct {
  guint types, left;
} SimAwaited;
#define SIM_MOMENTS_MAX 8

struct Sim {
  QfsEnv env; /* first: effects find the world by it */
  SimOptions options;
  SimResult *result;
  SimRandom random;
  SimTrace trace;
  SimQueue queue;
  gint64 now_us;
  guint nodes_n, replicas_k;     /* what the store is to have */
  guint asked_n, asked_in;       /* N that the daemon was asked for last, and in which life */
  guint former_n, former_k;      /* the least since it was last at rest with what it was to have */
  guint nodes_all;               /* nodes that there may ever be */
  gboolean sqlite;
  gboolean reorder;  /* links may overtake */
  gboolean fast;     /* clients hardly think, and faults come as fast */
  gint64 latency_us; /* usual upper bound */
  gint64 read_us;    /* the same for each half of a direct read */
  guint ghost_percent; /* of repeated messages: the copy arrives much later */

  /* the daemon */
  QfsCoordinator *coordinator; /* NULL: not running */
  QfsCoordinatorConfig config; /* its nodes: those that store.conf knows of */
  gboolean closing;         /* shutting down in good order */
  guint run;                /* which life of the daemon, from 1 */
  gint64 monotonic_base_us; /* virtual time at which this boot's monotonic clock read 0 */
  gint64 wall_offset_ms;
  gint64 greatest_wall_ms; /* ever shown */
  gint64 wake_us;          /* G_MAXINT64: none */
  guint64 wake_id;
  gboolean loss_accepted;  /* what was acknowledged may be lost from here on: the operator gave it up */
  gboolean collect_forced; /* tombstones are collected whatever their age */
  guint power_losses;
  gint64 first_power_loss_us;

  SimNode node[QFS_NODES_MAX + 1]; /* from 1 */
  SimDisk disk[QFS_NODES_MAX + 1];

  SimHistory *history;
  SimClients *clients;
  SimFaults *faults;
  SimWalk *walk; /* NULL: none in this seed */
  SimLinked *linked; /* the same */
  SimAwaited awaited[SIM_MOMENTS_MAX];
};

/* ---- events ---- */

void sim_after(Sim *sim, gint64 delay_us, SimEventFn fn, gpointer data);
/* Bound to this life of the daemon; `drop` frees data if it ends first. */
void sim_after_in_run(Sim *sim, gint64 delay_us, SimEventFn fn, gpointer data, GDestroyNotify drop);
typedef gboolean (*SimCondition)(Sim *sim);
/* Runs events until the condition holds after one (TRUE), or until the deadline (FALSE). */
gboolean sim_run_until(Sim *sim, SimCondition condition, gint64 timeout_us);
void sim_run_for(Sim *sim, gint64 time_us);

/* An invariant does not hold: reports it and ends the process. */
void sim_fail(Sim *sim, const char *format, ...) G_GNUC_PRINTF(2, 3) G_GNUC_NORETURN;
#define SIM_CHECK(sim, condition, ...)                                                             \
  G_STMT_START {                                                                                   \
    if (G_UNLIKELY(!(condition)))                                                                  \
      sim_fail(sim, __VA_ARGS__);                                                                  \
  }                                                                                                \
  G_STMT_END
/* Exit status of the process that sim_fail ends. */
#define SIM_EXIT_FAILED 3

/* ---- env_sim.c ---- */

void sim_env_init(Sim *sim);
/* Hands the node's messages to it, or lets it idle, soon. */
void sim_env_poke(Sim *sim, SimNode *node);

/* ---- daemon.c ---- */

/* Starts a coordinator, and through it the nodes. */
void sim_daemon_start(Sim *sim, gboolean create);
/* Asks for a collection of tombstones. */
void sim_daemon_collect(Sim *sim);
/* Asks for a scrub; and how many have come to their end in this life. */
void sim_daemon_scrub(Sim *sim);
guint64 sim_daemon_scrubs(Sim *sim);
/* kill -9: everything in memory is gone. Requests under way end with QFS_UNKNOWN. */
void sim_daemon_kill(Sim *sim);
/* kill -9 of everything, and the disks lose what is not on stable storage. */
void sim_daemon_lose_power(Sim *sim);
/* The store is to have other N and K from its next start on. */
void sim_daemon_resize(Sim *sim, guint nodes, guint replicas);
guint sim_write_quorum(const Sim *sim);
gboolean sim_daemon_is_up(const Sim *sim); /* runs, and clients may come */
/* Effects of the environment (env.h). */
void sim_node_start(Sim *sim, guint number, guint64 incarnation);
void sim_node_stop(Sim *sim, guint number);
void sim_node_remove(Sim *sim, guint number, guint64 incarnation);
/* As cluster/node_thread.c does when it is asked to. */
void sim_node_set_aside(Sim *sim, SimNode *node, const QfsMessage *wipe);
/* The node's process ends now; the coordinator hears of it soon. */
void sim_node_crash(Sim *sim, guint number, const char *reason);

/* ---- scenario.c ---- */

/* Which storage a seed runs on. */
SimStorage sim_storage_of(const SimOptions *options, guint64 seed);
/* The whole course of one seed; returns when every check has passed. */
void sim_run_seed(const SimOptions *options, const SimTrace *trace, SimResult *result);
