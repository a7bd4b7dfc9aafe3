/* delay_line.c - see delay_line.h. Safe across threads: everything below `lock` is guarded by it.
 */
#include "cluster/delay_line.h"

#include <pthread.h>

typedef struct {
  gint64 at_us;
  guint64 order;
  gpointer item;
} Late;

struct QfsDelayLine {
  QfsDelayArrive arrive;
  gpointer owner;
  GDestroyNotify drop;
  pthread_mutex_t lock;
  pthread_cond_t changed;
  GThread *thread;  /* NULL: not started */
  GSequence *items; /* Late, by time */
  guint64 next_order;
  gboolean stopped;
};

static gint by_time(gconstpointer a, gconstpointer b, gpointer unused) {
  const Late *x = a, *y = b;
  if (x->at_us != y->at_us)
    return x->at_us < y->at_us ? -1 : 1;
  return x->order < y->order ? -1 : x->order > y->order;
}

QfsDelayLine *qfs_delay_line_new(QfsDelayArrive arrive, gpointer owner, GDestroyNotify drop) {
  QfsDelayLine *line = g_new0(QfsDelayLine, 1);
  line->arrive = arrive;
  line->owner = owner;
  line->drop = drop;
  line->items = g_sequence_new(NULL);
  pthread_condattr_t attr;
  pthread_condattr_init(&attr);
  pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
  pthread_mutex_init(&line->lock, NULL);
  pthread_cond_init(&line->changed, &attr);
  pthread_condattr_destroy(&attr);
  return line;
}

static gpointer run(gpointer data) {
  QfsDelayLine *line = data;
  pthread_mutex_lock(&line->lock);
  while (!line->stopped) {
    GSequenceIter *first = g_sequence_get_begin_iter(line->items);
    if (g_sequence_iter_is_end(first)) {
      pthread_cond_wait(&line->changed, &line->lock);
      continue;
    }
    Late *late = g_sequence_get(first);
    if (late->at_us > g_get_monotonic_time()) {
      const struct timespec until = {.tv_sec = late->at_us / G_USEC_PER_SEC,
                                     .tv_nsec = late->at_us % G_USEC_PER_SEC * 1000};
      pthread_cond_timedwait(&line->changed, &line->lock, &until);
      continue;
    }
    g_sequence_remove(first);
    pthread_mutex_unlock(&line->lock);
    line->arrive(line->owner, late->item);
    g_free(late);
    pthread_mutex_lock(&line->lock);
  }
  pthread_mutex_unlock(&line->lock);
  return NULL;
}

void qfs_delay_line_push(QfsDelayLine *line, gint64 at_us, gpointer item) {
  pthread_mutex_lock(&line->lock);
  const gboolean stopped = line->stopped;
  if (!stopped) {
    Late *late = g_new(Late, 1);
    *late = (Late){.at_us = at_us, .order = line->next_order++, .item = item};
    g_sequence_insert_sorted(line->items, late, by_time, NULL);
    if (line->thread == NULL)
      line->thread = g_thread_new("qfs-links", run, line);
  }
  pthread_mutex_unlock(&line->lock);
  pthread_cond_signal(&line->changed);
  if (stopped)
    line->drop(item);
}

static void drop_late(gpointer data, gpointer user_data) {
  Late *late = data;
  ((QfsDelayLine *)user_data)->drop(late->item);
  g_free(late);
}

void qfs_delay_line_stop(QfsDelayLine *line) {
  pthread_mutex_lock(&line->lock);
  line->stopped = TRUE;
  GThread *thread = g_steal_pointer(&line->thread);
  pthread_mutex_unlock(&line->lock);
  pthread_cond_signal(&line->changed);
  if (thread != NULL)
    g_thread_join(thread);
  /* Stopped: nothing is added any more. */
  g_sequence_foreach(line->items, drop_late, line);
  g_sequence_remove_range(g_sequence_get_begin_iter(line->items),
                          g_sequence_get_end_iter(line->items));
}

void qfs_delay_line_free(QfsDelayLine *line) {
  if (line == NULL)
    return;
  qfs_delay_line_stop(line);
  g_sequence_free(line->items);
  pthread_cond_destroy(&line->changed);
  pthread_mutex_destroy(&line->lock);
  g_free(line);
}
