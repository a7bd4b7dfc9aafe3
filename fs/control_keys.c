/* control_keys.c - nodes/I/keys: the tree as that replica alone holds it (storage/tree.h), read-only. Every look is
 * a new one at the replica, through a read connection of its own and not through the coordinator. Thread-safe:
 * no state. */
#include "fs/control_private.h"

#include "fs/errno_map.h"
#include "storage/tree.h"

#include <errno.h>
#include <string.h>

gboolean qfs_control_parse_key(QfsControl *control, const char *path, guint *out_node, const char **out_key) {
  gsize digits;
  guint64 node;
  if (!g_str_has_prefix(path, "nodes/"))
    return FALSE;
  const char *number = path + strlen("nodes/");
  digits = strspn(number, "0123456789");
  g_autofree char *text = g_strndup(number, digits);
  if (*number == '0' ||
      !g_ascii_string_to_unsigned(text, 10, 1, control->engine->config.nodes, &node, NULL) ||
      !g_str_has_prefix(number + digits, "/keys"))
    return FALSE;
  const char *rest = number + digits + strlen("/keys");
  if (*rest != '\0' && *rest != '/')
    return FALSE;
  *out_node = (guint)node;
  *out_key = *rest == '/' ? rest + 1 : rest;
  return TRUE;
}

typedef struct {
  const char *key, *after;
  guint limit;
  const QfsRecord *record;
  guint64 offset;
  gsize size;
  QfsRecord *found;
  GPtrArray *entries;
  gboolean more;
  QfsTreeBytes where;
  GBytes *data;
} Look;

static int look(QfsControl *control, guint node, QfsReaderFunc inspect, Look *state) {
  g_autofree char *reason = NULL;
  if (control->engine->ops->inspect == NULL)
    return EOPNOTSUPP;
  QfsStatus status = control->engine->ops->inspect(control->engine, node, inspect, state, &reason);
  if (status == QFS_IO)
    g_warning("node %u: looking at '%s': %s", node, state->key, reason);
  return qfs_status_to_errno(status);
}

static gboolean do_lookup(QfsReplica *reader, gpointer data, GError **error) {
  Look *state = data;
  return qfs_tree_lookup(reader, state->key, &state->found, error);
}

int qfs_control_key_lookup(QfsControl *control, guint node, const char *key, QfsRecord **out_record) {
  Look state = {.key = key};
  gboolean too_long = FALSE;
  if (!qfs_key_is_valid(key, &too_long))
    return too_long ? ENAMETOOLONG : ENOENT;
  int error = look(control, node, do_lookup, &state);
  if (error == 0 && state.found == NULL)
    error = ENOENT;
  if (error == 0)
    *out_record = state.found;
  else
    qfs_record_unref(state.found);
  return error;
}

static gboolean do_list(QfsReplica *reader, gpointer data, GError **error) {
  Look *state = data;
  return qfs_tree_list(reader, state->key, state->after, state->limit, state->entries, &state->more, error);
}

int qfs_control_key_list(QfsControl *control, guint node, const char *dir, const char *after, guint limit,
                         GPtrArray **out_entries, gboolean *out_more) {
  Look state = {.key = dir, .after = after, .limit = limit};
  state.entries = g_ptr_array_new_with_free_func((GDestroyNotify)qfs_record_unref);
  int error = look(control, node, do_list, &state);
  if (error == 0) {
    *out_entries = state.entries;
    *out_more = state.more;
  } else {
    g_ptr_array_unref(state.entries);
  }
  return error;
}

static gboolean do_read(QfsReplica *reader, gpointer data, GError **error) {
  Look *state = data;
  return qfs_tree_read(reader, state->record, state->offset, state->size, &state->where, &state->data, error);
}

int control_key_read(QfsControl *control, guint node, const QfsRecord *record, guint64 offset, gsize size,
                     GBytes **out_data) {
  Look state = {.key = record->key, .record = record, .offset = offset, .size = size};
  int error = look(control, node, do_read, &state);
  if (error == 0 && state.where != QFS_TREE_HERE)
    error = state.where == QFS_TREE_ELSEWHERE ? ENODATA : ESTALE;
  if (error == 0)
    *out_data = state.data;
  else
    g_clear_pointer(&state.data, g_bytes_unref);
  return error;
}
