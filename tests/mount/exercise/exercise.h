/* exercise.h - a run of the exerciser: its options, its generator, and what it has open.
 *
 * Every operation is logged (operation_begin), then done to the real files and to the model, and what came out is
 * compared at once. Where the two differ the run ends: differ() prints the seed, the last operations and the
 * command that replays them. All that decides anything is drawn from `random`, so that a seed is replayed
 * identically; node faults underneath are the exception.
 */
#pragma once

#include "model.h"
#include "tests/sim/random.h"

G_BEGIN_DECLS

#define OPEN_MAX_FILES 12
#define MAPS_MAX 4
#define LOG_LEN 60

typedef struct {
  int fd;
  int flags;
  Node *node;     /* referenced */
  guint64 offset; /* where read(2) and write(2) go on */
} Open;

typedef struct {
  guint8 *start;
  gsize len; /* bytes */
  gboolean writable;
  Node *node; /* referenced */
} Map;

typedef struct {
  /* Options. */
  const char *program, *directory;
  const char *remount; /* a command, or NULL */
  const char *faults;  /* the mount whose nodes fail, or NULL */
  guint64 seed, operations;
  guint size_max; /* bytes of a file */
  gboolean trace;
  gboolean maps_direct; /* Linux maps MAP_SHARED what is read past the page cache: since 6.6 */

  SimRandom random;
  Model *model;
  GPtrArray *open; /* of Open */
  GPtrArray *maps; /* of Map */
  guint64 count;   /* operations so far */
  gint64 now_ns;   /* when the operation began */
  char *log[LOG_LEN];
  guint64 logged;
  guint faults_done;
} Exercise;

static inline guint below(Exercise *e, guint n) {
  return sim_random_below(&e->random, n);
}
static inline gboolean percent(Exercise *e, guint n) {
  return sim_random_percent(&e->random, n);
}

void operation_begin(Exercise *e, const char *format, ...) G_GNUC_PRINTF(2, 3);
void differ(Exercise *e, const char *format, ...) G_GNUC_PRINTF(2, 3) G_GNUC_NORETURN;
/* The call returned `result`, with errno; it must have failed with `error`, or succeeded when that is 0. */
void expect(Exercise *e, long result, int error);

/* compare.c. Each ends the run when anything differs. */
void compare_stat(Exercise *e, Node *node, const struct stat *st, const char *how);
void compare_fd(Exercise *e, Node *node, int fd, int flags); /* attributes, and bytes if it is open for reading */
void compare_node(Exercise *e, Node *node);                  /* in one of several ways */
void compare_listing(Exercise *e, Node *dir);                /* names, types */
void compare_tree(Exercise *e);                              /* everything */

/* operations_*.c: one operation of their kind. */
void operate_on_names(Exercise *e);
void operate_on_bytes(Exercise *e);
void operate_on_attributes(Exercise *e);
void operate_on_maps(Exercise *e);

/* Something to work on; NULL when there is none. */
Node *any_dir(Exercise *e);
Name *any_name(Exercise *e);
Node *any_file(Exercise *e);
/* A name for that directory, which may exist or not. Valid until the next call. */
const char *any_text(Exercise *e);

void close_one(Exercise *e, guint index);
void unmap_one(Exercise *e, guint index);
void close_all(Exercise *e);

/* node_faults.c: a minority of the nodes fails and returns, in a thread of its own. */
typedef struct NodeFaults NodeFaults;
NodeFaults *node_faults_start(const char *mount, guint64 seed);
/* Around each operation: a second node crashes only when all is settled, and nothing happens until it is. */
void node_faults_enter(NodeFaults *faults);
void node_faults_leave(NodeFaults *faults);
/* All nodes are up again. Returns how many faults there were. */
guint node_faults_stop(NodeFaults *faults);

G_END_DECLS
