/* queue.c - see queue.h. */
#include "queue.h"

/* Children of one event: flat heaps move fewer events. */
#define ARITY 4

static gboolean earlier(const SimEvent *a, const SimEvent *b) {
  return a->at_us != b->at_us ? a->at_us < b->at_us : a->order < b->order;
}

void sim_queue_push(SimQueue *queue, const SimEvent *event) {
  if (queue->len == queue->allocated) {
    queue->allocated = MAX(64, 2 * queue->allocated);
    queue->heap = g_renew(SimEvent, queue->heap, queue->allocated);
  }
  SimEvent fresh = *event;
  fresh.order = ++queue->next_order;
  guint at = queue->len++;
  while (at > 0 && earlier(&fresh, &queue->heap[(at - 1) / ARITY])) {
    queue->heap[at] = queue->heap[(at - 1) / ARITY];
    at = (at - 1) / ARITY;
  }
  queue->heap[at] = fresh;
}

gboolean sim_queue_pop(SimQueue *queue, SimEvent *out_event) {
  if (queue->len == 0)
    return FALSE;
  *out_event = queue->heap[0];
  SimEvent last = queue->heap[--queue->len];
  guint at = 0;
  for (;;) {
    const guint first = ARITY * at + 1, end = MIN(first + ARITY, queue->len);
    if (first >= end)
      break;
    guint child = first;
    for (guint i = first + 1; i < end; i++)
      if (earlier(&queue->heap[i], &queue->heap[child]))
        child = i;
    if (!earlier(&queue->heap[child], &last))
      break;
    queue->heap[at] = queue->heap[child];
    at = child;
  }
  queue->heap[at] = last;
  return TRUE;
}

gint64 sim_queue_next_us(const SimQueue *queue) {
  return queue->len > 0 ? queue->heap[0].at_us : G_MAXINT64;
}

void sim_queue_clear(SimQueue *queue) {
  for (guint i = 0; i < queue->len; i++)
    if (queue->heap[i].drop != NULL)
      queue->heap[i].drop(queue->heap[i].data);
  g_free(queue->heap);
  *queue = (SimQueue){0};
}
