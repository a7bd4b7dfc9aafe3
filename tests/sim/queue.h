/* queue.h - what is going to happen: events ordered by virtual time, then by the order of
 * scheduling.
 *
 * Owns: the events until they are popped or dropped. A binary heap; no allocation per event.
 * `run` binds an event to one life of the daemon (0: to none): whoever pops it drops it when that
 * life is over.
 */
#pragma once

#include <glib.h>

typedef struct Sim Sim;
typedef void (*SimEventFn)(Sim *sim, gpointer data);

typedef struct {
  gint64 at_us;
  guint64 order;
  guint run;
  SimEventFn fn;
  gpointer data;
  GDestroyNotify drop; /* frees data of an event that never happens; may be NULL */
} SimEvent;

typedef struct {
  SimEvent *heap;
  guint len, allocated;
  guint64 next_order;
} SimQueue;

void sim_queue_push(SimQueue *queue, const SimEvent *event);  /* sets `order` */
gboolean sim_queue_pop(SimQueue *queue, SimEvent *out_event); /* FALSE: empty */
gint64 sim_queue_next_us(const SimQueue *queue);              /* G_MAXINT64: empty */
void sim_queue_clear(SimQueue *queue);                        /* drops everything */
