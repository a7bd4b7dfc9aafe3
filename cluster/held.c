/* held.c - records that are to be copied to a node while what must be there first is on its way (lack.c).
 *
 * What is sent waits for that (flight.c), and so does what others copy from those who have both already.
 */
#include "cluster/private.h"

static gboolean must_wait(QfsCoordinator *c, guint node, const QfsRecord *record) {
  return qfs_set_has(qfs_lack(c, record), node);
}

gboolean qfs_held_add(QfsCoordinator *c, GPtrArray *held, guint node, QfsRecord *record) {
  if (!must_wait(c, node, record))
    return FALSE;
  g_ptr_array_add(held, qfs_record_ref(record));
  return TRUE;
}

GPtrArray *qfs_held_take(QfsCoordinator *c, GPtrArray *held, guint node) {
  GPtrArray *ready = NULL;
  for (guint i = 0; i < held->len;) {
    if (must_wait(c, node, held->pdata[i])) {
      i++;
      continue;
    }
    if (ready == NULL)
      ready = qfs_records_new();
    g_ptr_array_add(ready, g_ptr_array_steal_index(held, i));
  }
  c->held_waits |= held->len > 0;
  return ready;
}

void qfs_held_wake(QfsCoordinator *c) {
  c->view_dirty |= c->held_waits;
  c->held_waits = FALSE;
}
