/* session.c - the loop that takes requests from the kernel.
 *
 * One thread at a time listens; what a RELEASE will publish is announced before the next request
 * is read (the kernel sends RELEASE after close(2) returned, so `: > k; echo x > k` would lose the
 * echo otherwise).
 *
 * The listener carries out what it received itself and then listens again: waking another thread
 * for it costs more than most requests. It hands the listening over before it works when that
 * pays: there is a backlog and there are processors for it, or the request moves many bytes, or it
 * is the first after a pause, or goes on after its answer (a listing that reads ahead). A thread that sleeps looks every RESCUE_US, while requests come, whether the
 * listener got stuck in its request. Before the listener sleeps in poll it spins: an answer to a
 * process that asks again at once comes twice as fast. Between its looks it lets others have its processor: the kernel
 * often wakes who was answered on the very one that answered.
 *
 * While requests wait the listener gathers: the nodes are left asleep, and when no request waits any more, or after
 * GATHER_US, it does their work for all that it submitted. To wake a thread costs more than what it then does for one.
 *
 * Stopping: an eventfd wakes the listener, whatever files are open. Notifications under way may
 * wait for pages whose READ only this loop answers, so it serves until they are through, at most
 * STOP_US.
 *
 * Threading: stop from anywhere; the rest by the owner of the QfsFs.
 */
#include "fs/handle.h"
#include "fs/notify.h"

#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define SPIN_US 75
/* Requests keep coming while the last one is no older than this. */
#define ACTIVE_US 10000
#define RESCUE_US 1000
/* So many requests in a row that were waiting already are a backlog; a few are usual, since the
 * kernel sends RELEASE beside what comes next. With two processors sharing the work was measured to
 * cost half the throughput, with one client as with four. */
#define BACKLOG 16
#define BACKLOG_PROCESSORS_MIN 4
/* With fewer in a row a thread does the nodes' work for its request at once; with more it gathers. */
#define LEND_BACKLOG 3
/* ... and for so long after somebody else's request had to wait for that. */
#define LEND_PAUSE_US 10000
/* Nodes are left asleep no longer than this, and than a quick request takes. */
#define GATHER_US 200
/* A READ of more bytes than this may be worth another thread. */
#define HEAVY_READ 65536
#define STOP_US 500000
#define BUFFERS_MAX 8
/* From here on a WRITE's bytes stay in the receive buffer and the thread gets another one. */
#define TAKE_MIN 65536

typedef struct {
  QfsSession *session;
  struct fuse_buf buf; /* mem: malloc'ed by libfuse, of its size */
  gboolean taken;      /* the current request's bytes went to a GBytes */
  pid_t pid;           /* whose request the current one is */
  gboolean may_lend;
  gint64 now;          /* when the current request came */
  gint64 gathered_us;  /* since when nodes are left asleep; 0: none are */
} Worker;

struct QfsSession {
  QfsFs *fs;
  int stop_fd;
  GMutex lock;
  GCond wake;
  gboolean listening; /* lock: some thread is the listener */
  gboolean offered;   /* lock: ... none is, and a sleeping thread was woken to be it */
  guint sleeping;     /* lock: threads in g_cond_wait */
  guint backlog_max;  /* constant */
  guint backlog;      /* the listener's: requests in a row that were waiting already */
  gint lent_to;       /* atomic: pid whose request, the last one, was served by a lent thread; 0: none */
  gint64 lend_from_us; /* the listener's */
  gboolean ended;     /* lock; set by the listener */
  gboolean failed;    /* lock */
  gint64 last_us;     /* lock: when the last request came; else the listener's own */
  gint64 stop_by_us;  /* the listener's: 0, or the end of the serving after a stop */
  gint stopping;      /* atomic */
  gint announced;     /* atomic: ready was called */
};

static __thread Worker *current_worker;

/* --- receive buffers: process-wide pool, since a GBytes may outlive the session --- */

static GMutex buffers_lock;
static void *buffers[BUFFERS_MAX]; /* buffers_lock */
static guint n_buffers;            /* buffers_lock */

static void buffer_release(gpointer mem) {
  g_mutex_lock(&buffers_lock);
  if (n_buffers < BUFFERS_MAX) {
    buffers[n_buffers++] = mem;
    mem = NULL;
  }
  g_mutex_unlock(&buffers_lock);
  free(mem);
}

static void *buffer_take(void) {
  g_mutex_lock(&buffers_lock);
  void *mem = n_buffers > 0 ? buffers[--n_buffers] : NULL;
  g_mutex_unlock(&buffers_lock);
  return mem;
}

GBytes *qfs_session_take_bytes(const char *bytes, gsize size) {
  Worker *worker = current_worker;
  if (size < TAKE_MIN || worker == NULL || worker->taken)
    return g_bytes_new(bytes, size);
  worker->taken = TRUE;
  return g_bytes_new_with_free_func(bytes, size, buffer_release, worker->buf.mem);
}

QfsLend qfs_session_lends(void) {
  Worker *worker = current_worker;
  if (worker == NULL)
    return QFS_LEND_NOTHING;
  if (worker->may_lend) {
    g_atomic_int_set(&worker->session->lent_to, worker->pid);
    return QFS_LEND_ALL;
  }
  if (worker->gathered_us == 0)
    worker->gathered_us = worker->now;
  return QFS_LEND_GATHER;
}

static void release_nodes(Worker *worker) {
  if (worker->gathered_us == 0)
    return;
  worker->gathered_us = 0;
  qfs_engine_release(worker->session->fs->engine);
}

void qfs_session_hand_over(void) {
  QfsSession *session = current_worker != NULL ? current_worker->session : NULL;
  if (session == NULL)
    return;
  g_mutex_lock(&session->lock);
  if (!session->listening && session->sleeping > 0) {
    session->offered = TRUE;
    g_cond_signal(&session->wake);
  }
  g_mutex_unlock(&session->lock);
}

/* Nobody waits for the answer, or it is no request of its own. */
static gboolean is_by_the_way(const struct fuse_in_header *header) {
  return header->opcode == FUSE_RELEASE || header->opcode == FUSE_RELEASEDIR || header->opcode == FUSE_FORGET ||
         header->opcode == FUSE_BATCH_FORGET || header->opcode == FUSE_INTERRUPT;
}

/* May the thread that serves this request do the work of nodes for it? Others' requests must not queue up behind that. */
static void decide_on_lending(Worker *worker, gboolean waited, gint64 now) {
  QfsSession *session = worker->session;
  const struct fuse_in_header *header = worker->buf.mem;
  const pid_t lent_to = g_atomic_int_get(&session->lent_to);
  worker->pid = (pid_t)header->pid;
  if (!waited && lent_to != 0 && worker->pid != lent_to && !is_by_the_way(header))
    session->lend_from_us = now + LEND_PAUSE_US;
  worker->may_lend = session->backlog < LEND_BACKLOG && now >= session->lend_from_us;
  if (!is_by_the_way(header))
    g_atomic_int_set(&session->lent_to, 0);
}

/* --- receiving --- */

static void announce(QfsFs *fs, const struct fuse_buf *buf) {
  const struct fuse_in_header *header = buf->mem;
  qfs_control_count_request(fs->control, header->opcode);
  if (header->opcode != FUSE_RELEASE || buf->size < sizeof *header + sizeof(struct fuse_release_in))
    return;
  const struct fuse_release_in *release = (const void *)(header + 1);
  qfs_handle_announce_release(fs, release->fh);
}

/* After a stop: TRUE when the loop may end. */
static gboolean may_end(QfsSession *session) {
  gint64 now = g_get_monotonic_time();
  if (session->stop_by_us == 0) {
    qfs_notify_quiesce(session->fs->notify);
    session->stop_by_us = now + STOP_US;
  }
  return now >= session->stop_by_us || qfs_notify_is_idle(session->fs->notify);
}

/* Sleeps until there is something to do. */
static void wait_for_request(QfsSession *session) {
  struct pollfd fds[2] = {{.fd = fuse_session_fd(session->fs->se), .events = POLLIN},
                          {.fd = session->stop_fd, .events = POLLIN}};
  gboolean stopping = g_atomic_int_get(&session->stopping);
  poll(fds, stopping ? 1 : 2, stopping ? 5 : -1);
}

/* Requests keep coming, and nothing is under way whose threads need the processor. */
static gboolean spin_pays(const QfsSession *session, gint64 now) {
  return now - session->last_us < ACTIVE_US && g_atomic_int_get(&session->fs->in_flight) == 0;
}

/* Reads one request into worker->buf. *out_waited: it came after this call began. <=0: no more will
 * come. */
static int listen_once(Worker *worker, gboolean *out_waited) {
  QfsSession *session = worker->session;
  gint64 spin_until = 0;
  *out_waited = FALSE;
  for (;;) {
    if (g_atomic_int_get(&session->stopping) && may_end(session))
      return 0;
    int res = fuse_session_receive_buf(session->fs->se, &worker->buf);
    if (res == -EINTR)
      continue;
    if (res != -EAGAIN) /* 0: unmounted */
      return res;
    *out_waited = TRUE;
    release_nodes(worker);
    gint64 now = g_get_monotonic_time();
    if (spin_until == 0)
      spin_until = spin_pays(session, now) ? now + SPIN_US : now;
    if (now < spin_until) {
      sched_yield();
      continue;
    }
    wait_for_request(session);
    spin_until = 0;
  }
}

/* Waits until there is no listener: at once for a thread that comes from its request; for one that
 * slept, until the listening is offered to it, or the listener is stuck. Lock held. FALSE: the loop
 * ended. */
static gboolean become_listener_locked(QfsSession *session) {
  gboolean slept = FALSE;
  while (!session->ended) {
    gint64 now = g_get_monotonic_time();
    if (!session->listening &&
        (!slept || session->offered || now - session->last_us >= RESCUE_US / 2))
      break;
    slept = TRUE;
    session->sleeping++;
    if (now - session->last_us < ACTIVE_US)
      g_cond_wait_until(&session->wake, &session->lock, now + RESCUE_US);
    else
      g_cond_wait(&session->wake, &session->lock);
    session->sleeping--;
  }
  session->offered = FALSE;
  session->listening = TRUE;
  return !session->ended;
}

static gboolean is_heavy(const struct fuse_buf *buf) {
  const struct fuse_in_header *header = buf->mem;
  const struct fuse_read_in *read = (const void *)(header + 1);
  return header->len > TAKE_MIN ||
         (header->opcode == FUSE_READ && buf->size >= sizeof *header + sizeof *read &&
          read->size > HEAVY_READ);
}

/* It waits for no disk, as a rule, and moves few bytes. */
static gboolean is_quick(const struct fuse_buf *buf) {
  const struct fuse_in_header *header = buf->mem;
  const struct fuse_open_in *open = (const void *)(header + 1);
  switch (header->opcode) {
  case FUSE_WRITE:
    return header->len <= TAKE_MIN;
  case FUSE_OPEN:
    return buf->size >= sizeof *header + sizeof *open && (open->flags & O_TRUNC) != 0;
  case FUSE_CREATE:
    return TRUE;
  default:
    return is_by_the_way(header);
  }
}

/* The next request into worker->buf. FALSE: no more will come. */
static gboolean receive(Worker *worker) {
  QfsSession *session = worker->session;
  g_mutex_lock(&session->lock);
  if ((session->listening || session->ended) && worker->gathered_us != 0) { /* it will wait, or end */
    g_mutex_unlock(&session->lock);
    release_nodes(worker);
    g_mutex_lock(&session->lock);
  }
  if (!become_listener_locked(session)) {
    g_mutex_unlock(&session->lock);
    return FALSE;
  }
  g_mutex_unlock(&session->lock);

  gboolean waited;
  int res = listen_once(worker, &waited);
  gint64 now = g_get_monotonic_time();
  if (res > 0)
    announce(session->fs, &worker->buf);

  g_mutex_lock(&session->lock);
  session->backlog = waited ? 0 : session->backlog + 1;
  if (res > 0)
    decide_on_lending(worker, waited, now);
  gboolean hand_over = session->backlog >= session->backlog_max ||
                       now - session->last_us > ACTIVE_US || (res > 0 && is_heavy(&worker->buf));
  session->last_us = now;
  session->listening = FALSE;
  if (res <= 0) {
    session->ended = TRUE;
    session->failed = res < 0;
    g_cond_broadcast(&session->wake);
  } else if (hand_over && session->sleeping > 0) {
    session->offered = TRUE;
    g_cond_signal(&session->wake);
  }
  g_mutex_unlock(&session->lock);
  worker->now = now;
  if (worker->gathered_us != 0 && (res <= 0 || now - worker->gathered_us >= GATHER_US || !is_quick(&worker->buf)))
    release_nodes(worker);
  return res > 0;
}

static gpointer serve(gpointer data) {
  Worker *worker = data;
  QfsSession *session = worker->session;
  QfsFs *fs = session->fs;
  current_worker = worker;
  for (;;) {
    if (worker->buf.mem == NULL)
      worker->buf.mem = buffer_take();
    if (!receive(worker))
      break;
    worker->taken = FALSE;
    fuse_session_process_buf(fs->se, &worker->buf);
    if (worker->taken)
      worker->buf.mem = NULL;
    /* The first request is INIT, and it has been answered. */
    if (!g_atomic_int_get(&session->announced) &&
        g_atomic_int_compare_and_exchange(&session->announced, 0, 1))
      qfs_fs_serving(fs);
  }
  current_worker = NULL;
  if (worker->buf.mem != NULL)
    buffer_release(worker->buf.mem);
  return NULL;
}

/* --- life --- */

QfsSession *qfs_session_new(QfsFs *fs) {
  QfsSession *session = g_new0(QfsSession, 1);
  session->fs = fs;
  session->backlog_max = g_get_num_processors() < BACKLOG_PROCESSORS_MIN ? G_MAXUINT : BACKLOG;
  session->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  g_mutex_init(&session->lock);
  g_cond_init(&session->wake);
  return session;
}

int qfs_session_run(QfsSession *session) {
  QfsFs *fs = session->fs;
  int fd = fuse_session_fd(fs->se);
  fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
  Worker *workers = g_new0(Worker, fs->threads);
  GThread **threads = g_new0(GThread *, fs->threads);
  for (guint i = 0; i < fs->threads; i++)
    workers[i].session = session;

  sigset_t all, before; /* signals are the calling thread's business */
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  for (guint i = 1; i < fs->threads; i++)
    threads[i] = g_thread_new("qfs-session", serve, &workers[i]);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  serve(&workers[0]);
  for (guint i = 1; i < fs->threads; i++)
    g_thread_join(threads[i]);
  g_free(threads);
  g_free(workers);
  return session->failed ? -1 : 0;
}

void qfs_session_stop(QfsSession *session) {
  guint64 one = 1;
  int saved = errno;
  g_atomic_int_set(&session->stopping, 1);
  if (write(session->stop_fd, &one, sizeof one) < 0) {
    /* Full: it was asked for already. */
  }
  errno = saved;
}

void qfs_session_free(QfsSession *session) {
  if (session == NULL)
    return;
  close(session->stop_fd);
  g_mutex_clear(&session->lock);
  g_cond_clear(&session->wake);
  g_free(session);
}
