/* timer.c - one thread that calls functions when their time came. Thread-safe: one lock, a leaf. */
#include "fs/fs_private.h"

typedef struct {
  gint64 at_us;
  QfsTimerFire fire;
  gpointer data;
} Entry;

struct QfsTimer {
  GMutex lock;
  GCond wake;
  GQueue
      entries;   /* lock: by time; nearly all have the same delay, so appending is the usual case */
  gboolean stop; /* lock */
  GThread *thread;
};

static gpointer timer_main(gpointer data) {
  QfsTimer *timer = data;
  g_mutex_lock(&timer->lock);
  for (;;) {
    Entry *first = g_queue_peek_head(&timer->entries);
    if (first == NULL && timer->stop)
      break;
    if (first == NULL) {
      g_cond_wait(&timer->wake, &timer->lock);
      continue;
    }
    if (!timer->stop && g_get_monotonic_time() < first->at_us) {
      g_cond_wait_until(&timer->wake, &timer->lock, first->at_us);
      continue;
    }
    g_queue_pop_head(&timer->entries);
    g_mutex_unlock(&timer->lock);
    first->fire(first->data);
    g_slice_free(Entry, first);
    g_mutex_lock(&timer->lock);
  }
  g_mutex_unlock(&timer->lock);
  return NULL;
}

QfsTimer *qfs_timer_new(void) {
  QfsTimer *timer = g_new0(QfsTimer, 1);
  g_mutex_init(&timer->lock);
  g_cond_init(&timer->wake);
  g_queue_init(&timer->entries);
  timer->thread = g_thread_new("qfs-timer", timer_main, timer);
  return timer;
}

void qfs_timer_add(QfsTimer *timer, gint64 at_us, QfsTimerFire fire, gpointer data) {
  Entry *entry = g_slice_new(Entry);
  *entry = (Entry){.at_us = at_us, .fire = fire, .data = data};
  g_mutex_lock(&timer->lock);
  GList *after = timer->entries.tail;
  while (after != NULL && ((Entry *)after->data)->at_us > at_us)
    after = after->prev;
  if (after == NULL) {
    g_queue_push_head(&timer->entries, entry);
    g_cond_signal(&timer->wake);
  } else {
    g_queue_insert_after(&timer->entries, after, entry);
  }
  g_mutex_unlock(&timer->lock);
}

void qfs_timer_free(QfsTimer *timer) {
  if (timer == NULL)
    return;
  g_mutex_lock(&timer->lock);
  timer->stop = TRUE;
  g_cond_signal(&timer->wake);
  g_mutex_unlock(&timer->lock);
  g_thread_join(timer->thread);
  g_mutex_clear(&timer->lock);
  g_cond_clear(&timer->wake);
  g_free(timer);
}
