/* jobs.c - see jobs.h. */
#include "jobs.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <malloc.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

/* Lies in memory shared with the process that runs the seeds. */
typedef struct {
  guint at; /* the seed of the batch that is under way */
  SimResult result[SIM_BATCH_MAX];
} Shared;

typedef struct {
  pid_t pid; /* 0: free */
  guint64 first;
  guint n;
  guint reported; /* of them */
  Shared *shared;
  int log_fd; /* what the seed under way wrote to standard error */
} Job;

/* ---- in the process of a seed ---- */

/* Where a seed of the process `owner` has its directories; it runs there, so that its trace does not tell. */
static char *scratch_dir(pid_t owner, guint64 seed) {
  const char *base = g_file_test("/dev/shm", G_FILE_TEST_IS_DIR) ? "/dev/shm" : g_get_tmp_dir();
  return g_strdup_printf("%s/qfs-sim-%d-%" G_GUINT64_FORMAT, base, (int)owner, seed);
}

static void remove_tree(const char *path) {
  GDir *dir = g_dir_open(path, 0, NULL);
  for (const char *name; dir != NULL && (name = g_dir_read_name(dir)) != NULL;) {
    g_autofree char *child = g_build_filename(path, name, NULL);
    if (g_file_test(child, G_FILE_TEST_IS_DIR))
      remove_tree(child);
    else
      g_unlink(child);
  }
  if (dir != NULL)
    g_dir_close(dir);
  g_rmdir(path);
}

/* Of the processor, which a busy machine does not change. 0: no limit. */
static void limit_time(gint seconds) {
  struct itimerval limit = {.it_value.tv_sec = seconds};
  setitimer(ITIMER_PROF, &limit, NULL);
}

static void run_seed(const SimJobsConfig *config, guint64 seed, const SimTrace *trace,
                     SimResult *result) {
  g_autofree char *scratch = scratch_dir(getppid(), seed);
  SimOptions options = config->options;
  options.seed = seed;
  if (sim_storage_of(&options, seed) == SIM_STORAGE_SQLITE &&
      (g_mkdir_with_parents(scratch, 0700) != 0 || chdir(scratch) != 0))
    g_error("cannot use %s: %s", scratch, g_strerror(errno));
  memset(result, 0, sizeof *result);
  limit_time(config->timeout_s);
  sim_run_seed(&options, trace, result);
  limit_time(0);
  if (result->sqlite) {
    if (chdir("/") != 0)
      g_error("cannot leave %s", scratch);
    remove_tree(scratch);
  }
}

static void prepare_process(void) {
  mallopt(M_MMAP_THRESHOLD, 1 << 26); /* files of simulated disks come and go */
  mallopt(M_TRIM_THRESHOLD, 1 << 28);
  mallopt(M_TOP_PAD, 1 << 22);
}

/* ---- processes ---- */

static void *shared_new(gsize size) {
  void *shared = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED)
    g_error("no memory to share");
  return shared;
}

static void reset_log(int fd) {
  if (ftruncate(fd, 0) != 0 || lseek(fd, 0, SEEK_SET) != 0)
    g_error("cannot reset a log");
}

static char *read_log(int fd) {
  GString *text = g_string_new(NULL);
  char buffer[4096];
  lseek(fd, 0, SEEK_SET);
  for (ssize_t n; (n = read(fd, buffer, sizeof buffer)) > 0;)
    g_string_append_len(text, buffer, n);
  return g_string_free(text, text->len == 0);
}

static pid_t fork_or_die(void) {
  fflush(NULL);
  pid_t pid = fork();
  if (pid < 0)
    g_error("cannot fork: %s", g_strerror(errno));
  return pid;
}

static void start(const SimJobsConfig *config, Job *job, guint64 first, guint n) {
  job->first = first;
  job->n = n;
  job->reported = 0;
  job->shared->at = 0;
  memset(&job->shared->result[0], 0, sizeof job->shared->result[0]);
  job->pid = fork_or_die();
  if (job->pid > 0)
    return;
  dup2(job->log_fd, STDERR_FILENO);
  prepare_process();
  SimTrace no_trace = {0};
  for (guint i = 0; i < n; i++) {
    reset_log(job->log_fd);
    job->shared->at = i;
    run_seed(config, first + i, &no_trace, &job->shared->result[i]);
  }
  fflush(NULL);
  _exit(0);
}

/* What ended the process of a seed; NULL: it is fine. */
static char *verdict(const SimResult *result, int wait_status) {
  if (WIFSIGNALED(wait_status))
    return g_strdup_printf("%s (signal %d)", WTERMSIG(wait_status) == SIGPROF ? "hangs" : "crashed",
                           WTERMSIG(wait_status));
  if (result->failed)
    return g_strdup(result->message);
  if (WEXITSTATUS(wait_status) != 0 || !result->finished)
    return g_strdup_printf("ended with status %d", WEXITSTATUS(wait_status));
  return NULL;
}

static void remove_scratch(guint64 seed) {
  g_autofree char *scratch = scratch_dir(getpid(), seed);
  remove_tree(scratch);
}

/* Reports the seeds that the process has come to the end of. TRUE: its last one failed. */
static gboolean finish(Job *job, int wait_status, SimSeedDone done, gpointer data) {
  const guint last = job->shared->at;
  for (guint i = 0; i < last; i++)
    done(job->first + i, &job->shared->result[i], NULL, NULL, data);
  g_autofree char *why = verdict(&job->shared->result[last], wait_status);
  g_autofree char *log = why != NULL ? read_log(job->log_fd) : NULL;
  done(job->first + last, &job->shared->result[last], why, log, data);
  if (why != NULL)
    remove_scratch(job->first + last);
  job->reported = last + 1;
  job->pid = 0;
  return why != NULL;
}

/* ---- many ---- */

/* Few seeds are shared out evenly. */
static guint batch_size(const SimJobsConfig *config, guint64 next, guint64 end) {
  return (guint)CLAMP((end - next) / (2 * config->jobs), 1, SIM_BATCH_MAX);
}

void sim_jobs_run(const SimJobsConfig *config, guint64 first, guint64 n, SimSeedDone done,
                  gpointer data) {
  Job jobs[SIM_JOBS_MAX];
  guint running = 0;
  guint64 next = first, end = first + n;
  gboolean failed = FALSE;
  g_assert(config->jobs >= 1 && config->jobs <= SIM_JOBS_MAX);
  for (guint i = 0; i < config->jobs; i++)
    jobs[i] = (Job){.log_fd = memfd_create("sim-log", 0), .shared = shared_new(sizeof(Shared))};
  gboolean left = TRUE; /* seeds to begin */
  while (left || running > 0) {
    left = FALSE;
    for (guint i = 0; i < config->jobs; i++) {
      Job *job = &jobs[i];
      if (job->pid != 0 || (failed && config->until_failure))
        continue;
      if (job->reported < job->n) { /* those behind a failed one */
        start(config, job, job->first + job->reported, job->n - job->reported);
        running++;
      } else if (next < end) {
        guint size = batch_size(config, next, end);
        start(config, job, next, size);
        next += size;
        running++;
      }
    }
    if (running == 0)
      break;
    left = TRUE;
    int wait_status;
    pid_t pid = wait(&wait_status);
    for (guint i = 0; i < config->jobs && pid > 0; i++)
      if (jobs[i].pid == pid) {
        running--;
        failed |= finish(&jobs[i], wait_status, done, data);
      }
  }
  for (guint i = 0; i < config->jobs; i++) {
    close(jobs[i].log_fd);
    munmap(jobs[i].shared, sizeof(Shared));
  }
}

/* ---- one, with its trace ---- */

char *sim_jobs_trace(const SimJobsConfig *config, guint64 seed, FILE *out, SimResult *out_result) {
  SimResult *result = shared_new(sizeof *result);
  SimTrace trace = {.on = TRUE, .out = out};
  pid_t pid = fork_or_die();
  if (pid == 0) {
    prepare_process();
    run_seed(config, seed, &trace, result);
    fflush(NULL);
    _exit(0);
  }
  int wait_status = 0;
  waitpid(pid, &wait_status, 0);
  char *why = verdict(result, wait_status);
  if (out_result != NULL)
    *out_result = *result;
  munmap(result, sizeof *result);
  remove_scratch(seed);
  return why;
}
