/* check_list.c - a page of a listing against what is known of each key in it; see check.h (i).
 *
 * A listing is no snapshot of several keys (readdir(3) is none either): each key is judged alone,
 * by what may have been true of it at some time between the beginning and the end.
 */
#include "check.h"

#include <string.h>

/* Is `key` a child of the directory whose name sorts into this page? `last` NULL: it has no end. */
static gboolean is_in_page(const SimKey *key, const SimOp *op, const char *last) {
  gsize dir_len;
  const char *name;
  qfs_key_split(key->name, &dir_len, &name);
  return dir_len == strlen(op->dir) && strncmp(key->name, op->dir, dir_len) == 0 &&
         (op->after == NULL || strcmp(name, op->after) > 0) &&
         (last == NULL || strcmp(name, last) <= 0);
}

static gboolean is_version(const QfsRecord *listed, const QfsRecord *whole) {
  return whole != NULL && listed->timestamp == whole->timestamp && listed->kind == whole->kind &&
         listed->digest == whole->digest && listed->attr.ctime_ns == whole->attr.ctime_ns &&
         listed->attr.atime_ns == whole->attr.atime_ns;
}

/* A listed record comes without its bytes, and so does not compare; the whole one may be known. */
static void check_version(Sim *sim, SimOp *op, SimKey *key, const QfsRecord *entry,
                          const SimFloor *floor) {
  const SimOp *maker = sim_check_maker(sim, op, key, entry);
  const QfsRecord *before = sim_floor_record(key, floor);
  if (is_version(entry, key->floor))
    sim_check_seen(sim, op, key, key->floor, floor);
  else if (is_version(entry, before))
    sim_check_seen(sim, op, key, before, floor);
  else if (is_version(entry, maker->record))
    sim_check_seen(sim, op, key, maker->record, floor);
  else /* of versions that differ by when they were read the later one counts */
    SIM_CHECK(sim,
              before == NULL || entry->timestamp > before->timestamp ||
                  (entry->timestamp == before->timestamp && entry->attr.atime_ns >= before->attr.atime_ns),
              "%s saw %s@%" G_GUINT64_FORMAT ", older than @%" G_GUINT64_FORMAT
              ", known before it began",
              sim_op_text(op), key->name, entry->timestamp, floor->record->timestamp);
}

static void check_entry(Sim *sim, SimOp *op, const QfsRecord *entry, const char *previous) {
  gsize dir_len;
  const char *name;
  qfs_key_split(entry->key, &dir_len, &name);
  SIM_CHECK(sim, previous == NULL || strcmp(name, previous) > 0, "%s: %s after %s", sim_op_text(op),
            name, previous);
  SIM_CHECK(sim, entry->kind != QFS_KIND_TOMBSTONE, "%s: %s is a tombstone", sim_op_text(op),
            entry->key);
  SimKey *key = sim_history_find_key(sim->history, entry->key);
  SIM_CHECK(sim, key != NULL && is_in_page(key, op, NULL), "%s: nobody wrote %s", sim_op_text(op),
            entry->key);
  const SimFloor *floor = &op->floors[key->index];
  check_version(sim, op, key, entry, floor);
  SIM_CHECK(sim, sim_may_exist(key, floor, NULL), "%s: %s was absent throughout", sim_op_text(op),
            entry->key);
}

static gboolean is_listed(GPtrArray *entries, const char *key) {
  for (guint i = 0; i < entries->len; i++)
    if (strcmp(((const QfsRecord *)g_ptr_array_index(entries, i))->key, key) == 0)
      return TRUE;
  return FALSE;
}

void sim_check_list(Sim *sim, SimOp *op, GPtrArray *entries, gboolean more) {
  const char *last = NULL;
  for (guint i = 0; i < entries->len; i++) {
    const QfsRecord *entry = g_ptr_array_index(entries, i);
    check_entry(sim, op, entry, last);
    gsize dir_len;
    qfs_key_split(entry->key, &dir_len, &last);
  }
  SIM_CHECK(sim, !more || entries->len > 0, "%s: more, but nothing yet", sim_op_text(op));
  for (guint i = 0; i < sim->history->keys->len; i++) {
    const SimKey *key = g_ptr_array_index(sim->history->keys, i);
    if (is_in_page(key, op, more ? last : NULL) && !is_listed(entries, key->name))
      SIM_CHECK(sim, sim_may_be_absent(key, &op->floors[i], NULL), "%s: %s is missing",
                sim_op_text(op), key->name);
  }
}
