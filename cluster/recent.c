/* recent.c - the newest acknowledged versions of keys that were used lately, as a base for writes.
 *
 * A write builds on the version before it; programs write the same keys again and again, and all names of a directory
 * ask for its record. An entry is a direct read that may have taken long: it counts like one (C3), while the
 * key's counter and the epoch are what they were when it was made, and where a direct read would be possible now.
 * Only versions that exist: whether a tombstone is still there is the nodes' to say. Gets do not use it:
 * they are to find rows that have gone bad.
 */
#include "cluster/private.h"

#include <string.h>

typedef struct {
  QfsRecord *record;
  guint64 counter, epoch;
  gsize size;
  GList link; /* in c->recent_order, the one used last at its head */
} Recent;

static void recent_free(gpointer data) {
  Recent *recent = data;
  qfs_record_unref(recent->record);
  g_slice_free(Recent, recent);
}

void qfs_recent_init(QfsCoordinator *c) {
  c->recent = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, recent_free);
  g_queue_init(&c->recent_order);
}

void qfs_recent_clear(QfsCoordinator *c) { g_clear_pointer(&c->recent, g_hash_table_unref); }

static void drop(QfsCoordinator *c, Recent *recent) {
  c->recent_bytes -= recent->size;
  g_queue_unlink(&c->recent_order, &recent->link);
  g_hash_table_remove(c->recent, recent->record->key);
}

QfsRecord *qfs_recent_find(QfsCoordinator *c, const char *key, guint64 hash) {
  Recent *recent = g_hash_table_lookup(c->recent, key);
  if (recent == NULL)
    return NULL;
  if (recent->epoch != c->view.epoch || recent->counter != qfs_key_counter(c, hash)) {
    drop(c, recent);
    return NULL;
  }
  g_queue_unlink(&c->recent_order, &recent->link);
  g_queue_push_head_link(&c->recent_order, &recent->link);
  return recent->record;
}

static gsize size_of(const QfsRecord *record) {
  return sizeof(Recent) + sizeof *record + strlen(record->key) + g_bytes_get_size(record->tail) +
         g_bytes_get_size(record->xattrs) + g_bytes_get_size(record->spans);
}

void qfs_recent_note(QfsCoordinator *c, QfsRecord *record, guint64 hash) {
  gsize size = qfs_record_exists(record) ? size_of(record) : 0;
  if (size == 0 || size > c->config.recent_bytes / 16)
    return;
  Recent *recent = g_hash_table_lookup(c->recent, record->key);
  if (recent != NULL)
    drop(c, recent);
  recent = g_slice_new0(Recent);
  recent->record = qfs_record_ref(record);
  recent->counter = qfs_key_counter(c, hash);
  recent->epoch = c->view.epoch;
  recent->size = size;
  recent->link.data = recent;
  g_hash_table_insert(c->recent, record->key, recent);
  g_queue_push_head_link(&c->recent_order, &recent->link);
  c->recent_bytes += size;
  while (c->recent_bytes > c->config.recent_bytes)
    drop(c, g_queue_peek_tail(&c->recent_order));
}
