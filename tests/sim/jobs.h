/* jobs.h - many seeds in processes of their own, so that a crash is that seed's failure only.
 *
 * Owns: the processes, the memory shared with them, and noticing how a seed ended. A process runs
 * several seeds one after another (memory that was touched once is cheap), up to the first that fails;
 * the rest of its seeds then goes to a new one. Leaves to others: what is reported (main.c).
 *
 * One thread.
 */
#pragma once

#include "sim.h"

#define SIM_JOBS_MAX 64
#define SIM_BATCH_MAX 16

typedef struct {
  SimOptions options; /* the seed is each job's own */
  gint timeout_s;     /* a seed that takes more seconds of the processor hangs */
  gboolean until_failure;
  guint jobs;
} SimJobsConfig;

/* A seed has ended; `why` NULL: it passed. `log` is what it wrote to standard error, or NULL. */
typedef void (*SimSeedDone)(guint64 seed, const SimResult *result, const char *why, const char *log,
                            gpointer data);

/* Runs `n` seeds from `first` on. */
void sim_jobs_run(const SimJobsConfig *config, guint64 first, guint64 n, SimSeedDone done,
                  gpointer data);

/* Runs one seed with its trace going to `out` (NULL: nowhere). Returns why it failed, newly allocated, or NULL. */
char *sim_jobs_trace(const SimJobsConfig *config, guint64 seed, FILE *out, SimResult *out_result);
