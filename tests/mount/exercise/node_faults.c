/* node_faults.c - one or two of five nodes are down, crashed, or on their way back, all the time.
 *
 * Two are a minority that everything must survive, but a version that is not settled survives the loss of one node
 * only: so a node crashes while another is away only after all is settled, for which operations are held up.
 */
#include "exercise.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define NODES 5
#define AWAY_MAX 2
#define DEADLINE_US (60 * G_USEC_PER_SEC)

struct NodeFaults {
  char *mount; /* absolute */
  SimRandom random;
  GThread *thread;
  GMutex quiet; /* held by each operation, and by who waits until all is settled */
  GMutex lock;
  GCond stopped;
  gboolean stop; /* lock */
  gboolean away[NODES + 1];
  guint count;
};

static void fatal(const char *what, const char *path) {
  g_printerr("node faults: %s: %s: %s\n", what, path, g_strerror(errno));
  exit(1);
}

static char *state_path(const NodeFaults *faults, guint node) {
  return g_strdup_printf("%s/.quorumfs/nodes/%u/state", faults->mount, node);
}

static void set_state(NodeFaults *faults, guint node, const char *state) {
  g_autofree char *path = state_path(faults, node);
  const int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0 || write(fd, state, strlen(state)) < 0)
    fatal(state, path);
  close(fd);
  faults->count++;
}

static gboolean file_says(const char *path, const char *text) {
  g_autofree char *got = NULL;
  return g_file_get_contents(path, &got, NULL, NULL) && strstr(got, text) != NULL;
}

/* Waits for `text`, or for the end. */
static void wait_for(NodeFaults *faults, const char *path, const char *text) {
  const gint64 deadline = g_get_monotonic_time() + DEADLINE_US;
  while (!file_says(path, text)) {
    if (g_get_monotonic_time() > deadline)
      fatal(text, path);
    g_usleep(10000);
  }
}

static void bring_back(NodeFaults *faults, guint node) {
  g_autofree char *path = state_path(faults, node);
  set_state(faults, node, "up");
  wait_for(faults, path, "up\n");
  faults->away[node] = FALSE;
}

static void take_away(NodeFaults *faults, guint node, gboolean alone) {
  const gboolean crash = sim_random_percent(&faults->random, 50);
  if (crash && !alone) {
    g_autofree char *path = g_strdup_printf("%s/.quorumfs/status.json", faults->mount);
    g_mutex_lock(&faults->quiet);
    wait_for(faults, path, "\"unsettled\" : 0");
    set_state(faults, node, "crash");
    g_mutex_unlock(&faults->quiet);
  } else {
    set_state(faults, node, crash ? "crash" : "down");
  }
  faults->away[node] = TRUE;
}

/* Until the next fault; FALSE: it is over. */
static gboolean pause_ms(NodeFaults *faults, guint ms) {
  const gint64 until = g_get_monotonic_time() + ms * G_TIME_SPAN_MILLISECOND;
  g_mutex_lock(&faults->lock);
  while (!faults->stop && g_cond_wait_until(&faults->stopped, &faults->lock, until))
    ;
  const gboolean go_on = !faults->stop;
  g_mutex_unlock(&faults->lock);
  return go_on;
}

static gpointer run(gpointer data) {
  NodeFaults *faults = data;
  while (pause_ms(faults, 1 + sim_random_below(&faults->random, 300))) {
    guint away = 0;
    for (guint i = 1; i <= NODES; i++)
      away += faults->away[i];
    const guint node = 1 + sim_random_below(&faults->random, NODES);
    if (faults->away[node])
      bring_back(faults, node);
    else if (away < AWAY_MAX)
      take_away(faults, node, away == 0);
  }
  for (guint i = 1; i <= NODES; i++)
    if (faults->away[i])
      bring_back(faults, i);
  return NULL;
}

NodeFaults *node_faults_start(const char *mount, guint64 seed) {
  NodeFaults *faults = g_new0(NodeFaults, 1);
  faults->mount = g_canonicalize_filename(mount, NULL);
  faults->random.state = sim_mix(seed);
  g_mutex_init(&faults->quiet);
  g_mutex_init(&faults->lock);
  g_cond_init(&faults->stopped);
  faults->thread = g_thread_new("node-faults", run, faults);
  return faults;
}

void node_faults_enter(NodeFaults *faults) {
  if (faults != NULL)
    g_mutex_lock(&faults->quiet);
}

void node_faults_leave(NodeFaults *faults) {
  if (faults != NULL)
    g_mutex_unlock(&faults->quiet);
}

guint node_faults_stop(NodeFaults *faults) {
  g_mutex_lock(&faults->lock);
  faults->stop = TRUE;
  g_cond_signal(&faults->stopped);
  g_mutex_unlock(&faults->lock);
  g_thread_join(faults->thread);
  const guint count = faults->count;
  g_mutex_clear(&faults->quiet);
  g_mutex_clear(&faults->lock);
  g_cond_clear(&faults->stopped);
  g_free(faults->mount);
  g_free(faults);
  return count;
}
