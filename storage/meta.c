/* meta.c - what a node knows about itself, in rows that people can read.
 *
 *   meta            name, value: node, generation, promised_epoch, mark, settled, ceiling, wiped; with a
 *                   view also view_store, view_nodes, view_replicas, view_epoch, view_former_nodes,
 *                   view_tidy, view_void_below, view_passed (four numbers for each start); checksum; and count_records, count_tombstones, count_chunks, which are
 *                   not summed
 *   view_node       a row for each node of the view that has anything to say
 *   view_unsettled  the sets of unsettled epochs, in order
 *
 * The checksum is XXH3 over a flat encoding of everything (encode() below), so a row that was lost,
 * added or changed is found at loading. The encoding that is in the file is kept in memory, and a
 * store writes only what differs: marks move often, the view hardly ever. What files of schema versions
 * 2, 5 and 6 do not have is encoded only where it says something, so that their checksums hold.
 *
 * One thread at a time, like the connection.
 */
#include "storage/meta.h"

#include "storage/checksum.h"

#include <string.h>

/* Encoding: the scalars, then the view if there is one, then what came with schema version 3, with 6, with 7. */
#define SCALAR_COUNT 6
static const char *const scalar_names[SCALAR_COUNT] = {"node", "generation", "promised_epoch",
                                                       "mark", "settled",    "ceiling"};
#define SCALAR_BYTES (SCALAR_COUNT * 8)
#define ENCODING_MAX_BYTES                                                                         \
  (SCALAR_BYTES + 37 + 2 * 4 + 3 * 8 + QFS_NODES_MAX * 3 * 8 + 4 + QFS_VIEW_SETS_MAX * 8 +       \
   2 * 8 + 4 + QFS_VIEW_SETS_MAX * 4 + 8 + QFS_VIEW_PASSED_MAX * 4 * 8)
/* Of view_passed: no number has more than 20 digits. */
#define PASSED_TEXT_MAX (QFS_VIEW_PASSED_MAX * 4 * 21)

static void scalars_of(const QfsNodeMeta *meta, guint64 out[SCALAR_COUNT]) {
  out[0] = meta->node;
  out[1] = meta->generation;
  out[2] = meta->promised_epoch;
  out[3] = meta->mark;
  out[4] = meta->settled;
  out[5] = meta->ceiling;
}

/* Does the metadata say what an older schema version could not? */
static gboolean has_later_facts(const QfsNodeMeta *meta) {
  gboolean later = meta->wiped != 0 || meta->view.former_nodes != 0 || meta->view.tidy != 0 ||
                   meta->view.void_below != 0 || meta->view.n_passed != 0;

  for (guint i = 0; i < meta->view.n_unsettled; i++)
    later = later || meta->view.unsettled[i].replicas != meta->view.replicas;
  return later;
}

static guint8 *encode_later_facts(guint8 *out, const QfsNodeMeta *meta) {
  out = qfs_put_u64(out, meta->wiped);
  out = qfs_put_u64(out, meta->view.tidy);
  out = qfs_put_u32(out, meta->view.former_nodes);
  for (guint i = 0; i < meta->view.n_unsettled; i++)
    out = qfs_put_u32(out, meta->view.unsettled[i].replicas);
  if (meta->view.void_below != 0 || meta->view.n_passed != 0)
    out = qfs_put_u64(out, meta->view.void_below);
  for (guint i = 0; i < meta->view.n_passed; i++) {
    const QfsViewPassed *passed = &meta->view.passed[i];
    out = qfs_put_u64(out, passed->below);
    out = qfs_put_u64(out, passed->n_sets);
    out = qfs_put_u64(out, passed->seen);
    out = qfs_put_u64(out, passed->given_up);
  }
  return out;
}

static GBytes *encode(const QfsNodeMeta *meta) {
  guint8 *bytes = g_malloc0(ENCODING_MAX_BYTES);
  guint8 *out = bytes;
  const QfsView *view = &meta->view;
  guint64 scalars[SCALAR_COUNT];

  scalars_of(meta, scalars);
  for (guint i = 0; i < SCALAR_COUNT; i++)
    out = qfs_put_u64(out, scalars[i]);
  if (meta->has_view) {
    memcpy(out, view->store, strnlen(view->store, sizeof view->store)); /* zeros follow */
    out = qfs_put_u32(out + sizeof view->store, view->nodes);
    out = qfs_put_u32(out, view->replicas);
    out = qfs_put_u64(out, view->epoch);
    out = qfs_put_u64(out, view->in_sync);
    out = qfs_put_u64(out, view->base);
    for (guint i = 0; i < QFS_NODES_MAX; i++) {
      out = qfs_put_u64(out, view->left_mark[i]);
      out = qfs_put_u64(out, view->generation[i]);
    }
    out = qfs_put_u32(out, view->n_unsettled);
    for (guint i = 0; i < view->n_unsettled; i++)
      out = qfs_put_u64(out, view->unsettled[i].nodes);
  }
  if (has_later_facts(meta))
    out = encode_later_facts(out, meta);
  g_assert(out <= bytes + ENCODING_MAX_BYTES);
  return g_bytes_new_take(bytes, (gsize)(out - bytes));
}

static guint64 digest_of(GBytes *encoding) {
  gsize len;
  gconstpointer data = g_bytes_get_data(encoding, &len);
  return qfs_digest(data, len);
}

static gboolean set_text(QfsConnection *connection, const char *name, const char *value,
                         GError **error) {
  sqlite3_stmt *statement = qfs_connection_statement(connection, QFS_SQL_META_SET, error);

  if (statement == NULL)
    return FALSE;
  sqlite3_bind_text(statement, 1, name, -1, SQLITE_STATIC);
  sqlite3_bind_text(statement, 2, value, -1, SQLITE_STATIC);
  return qfs_connection_run(connection, statement, error);
}

static gboolean set_number(QfsConnection *connection, const char *name, guint64 value,
                           GError **error) {
  sqlite3_stmt *statement = qfs_connection_statement(connection, QFS_SQL_META_SET, error);

  if (statement == NULL)
    return FALSE;
  sqlite3_bind_text(statement, 1, name, -1, SQLITE_STATIC);
  qfs_bind_u64(statement, 2, value);
  return qfs_connection_run(connection, statement, error);
}

static gboolean clear_table(QfsConnection *connection, QfsSql id, GError **error) {
  sqlite3_stmt *statement = qfs_connection_statement(connection, id, error);
  return statement != NULL && qfs_connection_run(connection, statement, error);
}

static gboolean store_view_node(QfsConnection *connection, const QfsView *view, guint index,
                                GError **error) {
  QfsNodeSet bit = (QfsNodeSet)1 << index;
  gboolean is_silent = index >= view->nodes && ((view->in_sync | view->base) & bit) == 0 &&
                       view->left_mark[index] == 0 && view->generation[index] == 0;

  if (is_silent)
    return TRUE;
  sqlite3_stmt *statement = qfs_connection_statement(connection, QFS_SQL_VIEW_NODE_SET, error);
  if (statement == NULL)
    return FALSE;
  sqlite3_bind_int(statement, 1, (int)index + 1);
  sqlite3_bind_int(statement, 2, (view->in_sync & bit) != 0);
  sqlite3_bind_int(statement, 3, (view->base & bit) != 0);
  qfs_bind_u64(statement, 4, view->left_mark[index]);
  qfs_bind_u64(statement, 5, view->generation[index]);
  return qfs_connection_run(connection, statement, error);
}

static gboolean store_passed(QfsConnection *connection, const QfsView *view, GError **error) {
  g_autoptr(GString) text = g_string_sized_new(PASSED_TEXT_MAX);

  for (guint i = 0; i < view->n_passed; i++) {
    const QfsViewPassed *passed = &view->passed[i];
    g_string_append_printf(text,
                           "%s%" G_GUINT64_FORMAT " %" G_GUINT64_FORMAT " %" G_GUINT64_FORMAT
                           " %" G_GUINT64_FORMAT,
                           i > 0 ? " " : "", passed->below, passed->n_sets, passed->seen, passed->given_up);
  }
  return set_text(connection, "view_passed", text->str, error);
}

static gboolean store_view(QfsConnection *connection, const QfsView *view, GError **error) {
  g_autofree char *store = g_strndup(view->store, sizeof view->store - 1);

  if (!set_text(connection, "view_store", store, error) ||
      !set_number(connection, "view_nodes", view->nodes, error) ||
      !set_number(connection, "view_replicas", view->replicas, error) ||
      !set_number(connection, "view_former_nodes", view->former_nodes, error) ||
      !set_number(connection, "view_tidy", view->tidy, error) ||
      !set_number(connection, "view_void_below", view->void_below, error) ||
      !store_passed(connection, view, error) ||
      !set_number(connection, "view_epoch", view->epoch, error) ||
      !clear_table(connection, QFS_SQL_VIEW_NODE_CLEAR, error) ||
      !clear_table(connection, QFS_SQL_VIEW_UNSETTLED_CLEAR, error))
    return FALSE;
  for (guint i = 0; i < QFS_NODES_MAX; i++)
    if (!store_view_node(connection, view, i, error))
      return FALSE;
  for (guint i = 0; i < view->n_unsettled; i++) {
    sqlite3_stmt *statement =
        qfs_connection_statement(connection, QFS_SQL_VIEW_UNSETTLED_SET, error);
    if (statement == NULL)
      return FALSE;
    sqlite3_bind_int(statement, 1, (int)i);
    qfs_bind_u64(statement, 2, view->unsettled[i].nodes);
    sqlite3_bind_int(statement, 3, (int)view->unsettled[i].replicas);
    if (!qfs_connection_run(connection, statement, error))
      return FALSE;
  }
  return TRUE;
}

/* A view that was there and no longer is. */
static gboolean forget_view(QfsConnection *connection, GError **error) {
  return qfs_connection_exec(connection, "DELETE FROM meta WHERE name LIKE 'view\\_%' ESCAPE '\\'",
                             error) &&
         clear_table(connection, QFS_SQL_VIEW_NODE_CLEAR, error) &&
         clear_table(connection, QFS_SQL_VIEW_UNSETTLED_CLEAR, error);
}

static gboolean store_changes(QfsConnection *connection, const QfsNodeMeta *meta, GBytes *encoding,
                              GError **error) {
  gsize len, old_len = 0;
  const guint8 *bytes = g_bytes_get_data(encoding, &len);
  const guint8 *old =
      connection->meta != NULL ? g_bytes_get_data(connection->meta, &old_len) : NULL;
  guint64 scalars[SCALAR_COUNT];

  scalars_of(meta, scalars);
  for (guint i = 0; i < SCALAR_COUNT; i++)
    if ((old == NULL || memcmp(old + i * 8, bytes + i * 8, 8) != 0) &&
        !set_number(connection, scalar_names[i], scalars[i], error))
      return FALSE;
  gboolean is_same_view = old != NULL && len == old_len &&
                          memcmp(old + SCALAR_BYTES, bytes + SCALAR_BYTES, len - SCALAR_BYTES) == 0;
  if (!is_same_view && !((meta->has_view ? store_view(connection, &meta->view, error)
                                         : forget_view(connection, error)) &&
                         set_number(connection, "wiped", meta->wiped, error)))
    return FALSE;
  return set_number(connection, "checksum", digest_of(encoding), error);
}

gboolean qfs_meta_store(QfsReplica *replica, const QfsNodeMeta *meta, GError **error) {
  QfsConnection *connection = qfs_connection(replica);

  if (!qfs_connection_may_write(connection, error))
    return FALSE;
  g_assert(!meta->has_view || (meta->view.n_unsettled <= QFS_VIEW_SETS_MAX &&
                               meta->view.n_passed <= QFS_VIEW_PASSED_MAX));
  g_autoptr(GBytes) encoding = encode(meta);
  if (connection->meta != NULL && g_bytes_equal(encoding, connection->meta))
    return TRUE;
  if (!store_changes(connection, meta, encoding, error))
    return qfs_connection_wrote(connection, FALSE);
  g_clear_pointer(&connection->meta, g_bytes_unref);
  connection->meta = g_steal_pointer(&encoding);
  return TRUE;
}

/* What is no such text does not match the checksum. */
static void take_passed(QfsView *view, const char *text) {
  if (text == NULL || text[0] == '\0')
    return;
  g_auto(GStrv) words = g_strsplit(text, " ", QFS_VIEW_PASSED_MAX * 4);
  guint n = g_strv_length(words) / 4;
  for (guint i = 0; i < n; i++) {
    view->passed[i].below = g_ascii_strtoull(words[i * 4], NULL, 10);
    view->passed[i].n_sets = g_ascii_strtoull(words[i * 4 + 1], NULL, 10);
    view->passed[i].seen = g_ascii_strtoull(words[i * 4 + 2], NULL, 10);
    view->passed[i].given_up = g_ascii_strtoull(words[i * 4 + 3], NULL, 10);
  }
  view->n_passed = n;
}

/* One row of the table meta into `meta`. Names that aren't known are left to whoever wrote them. */
static void take_row(QfsNodeMeta *meta, guint64 *checksum, sqlite3_stmt *row) {
  const char *name = (const char *)sqlite3_column_text(row, 0);
  guint64 number = qfs_column_u64(row, 1);

  if (g_strcmp0(name, "node") == 0)
    meta->node = (guint32)number;
  else if (g_strcmp0(name, "generation") == 0)
    meta->generation = number;
  else if (g_strcmp0(name, "promised_epoch") == 0)
    meta->promised_epoch = number;
  else if (g_strcmp0(name, "mark") == 0)
    meta->mark = number;
  else if (g_strcmp0(name, "settled") == 0)
    meta->settled = number;
  else if (g_strcmp0(name, "ceiling") == 0)
    meta->ceiling = number;
  else if (g_strcmp0(name, "checksum") == 0)
    *checksum = number;
  else if (g_strcmp0(name, "view_nodes") == 0)
    meta->view.nodes = (guint32)number;
  else if (g_strcmp0(name, "view_replicas") == 0)
    meta->view.replicas = (guint32)number;
  else if (g_strcmp0(name, "view_epoch") == 0)
    meta->view.epoch = number;
  else if (g_strcmp0(name, "view_former_nodes") == 0)
    meta->view.former_nodes = (guint32)number;
  else if (g_strcmp0(name, "view_tidy") == 0)
    meta->view.tidy = number;
  else if (g_strcmp0(name, "view_void_below") == 0)
    meta->view.void_below = number;
  else if (g_strcmp0(name, "view_passed") == 0)
    take_passed(&meta->view, (const char *)sqlite3_column_text(row, 1));
  else if (g_strcmp0(name, "wiped") == 0)
    meta->wiped = number;
  else if (g_strcmp0(name, "view_store") == 0) {
    const char *text = (const char *)sqlite3_column_text(row, 1);
    meta->has_view = TRUE;
    g_strlcpy(meta->view.store, text != NULL ? text : "", sizeof meta->view.store);
  }
}

static gboolean take_view_node(QfsView *view, sqlite3_stmt *row) {
  gint64 node = sqlite3_column_int64(row, 0);

  if (node < 1 || node > QFS_NODES_MAX)
    return FALSE;
  guint index = (guint)node - 1;
  if (sqlite3_column_int(row, 1) != 0)
    view->in_sync |= (QfsNodeSet)1 << index;
  if (sqlite3_column_int(row, 2) != 0)
    view->base |= (QfsNodeSet)1 << index;
  view->left_mark[index] = qfs_column_u64(row, 3);
  view->generation[index] = qfs_column_u64(row, 4);
  return TRUE;
}

static gboolean load_view(QfsConnection *connection, QfsView *view, GError **error) {
  gboolean row;
  sqlite3_stmt *statement = qfs_connection_statement(connection, QFS_SQL_VIEW_NODE_ALL, error);

  if (statement == NULL)
    return FALSE;
  g_autoptr(QfsCursor) nodes = statement;
  while (TRUE) {
    if (!qfs_connection_step(connection, nodes, &row, error))
      return FALSE;
    if (!row)
      break;
    if (!take_view_node(view, nodes))
      return qfs_connection_fail_with(connection, QFS_REPLICA_ERROR_CORRUPT, error,
                                      "the view names a node that can't be");
  }
  statement = qfs_connection_statement(connection, QFS_SQL_VIEW_UNSETTLED_ALL, error);
  if (statement == NULL)
    return FALSE;
  g_autoptr(QfsCursor) sets = statement;
  while (TRUE) {
    if (!qfs_connection_step(connection, sets, &row, error))
      return FALSE;
    if (!row)
      return TRUE;
    if (view->n_unsettled == QFS_VIEW_SETS_MAX)
      return qfs_connection_fail_with(connection, QFS_REPLICA_ERROR_CORRUPT, error,
                                      "the view has too many unsettled sets");
    QfsViewSet *set = &view->unsettled[view->n_unsettled++];
    set->nodes = qfs_column_u64(sets, 1);
    set->replicas = (guint32)sqlite3_column_int(sets, 2);
    if (set->replicas == 0) /* of schema version 2: the number never changed */
      set->replicas = view->replicas;
  }
}

static gboolean load_rows(QfsConnection *connection, QfsNodeMeta *meta, guint64 *checksum,
                          GError **error) {
  sqlite3_stmt *statement = qfs_connection_statement(connection, QFS_SQL_META_ALL, error);
  gboolean row;

  if (statement == NULL)
    return FALSE;
  g_autoptr(QfsCursor) cursor = statement;
  while (TRUE) {
    if (!qfs_connection_step(connection, cursor, &row, error))
      return FALSE;
    if (!row)
      break;
    take_row(meta, checksum, cursor);
  }
  return !meta->has_view || load_view(connection, &meta->view, error);
}

gboolean qfs_meta_load(QfsReplica *replica, QfsNodeMeta *out_meta, GError **error) {
  QfsConnection *connection = qfs_connection(replica);
  QfsNodeMeta meta = {0};
  guint64 checksum = 0;
  gboolean opened;

  if (!qfs_connection_begin_read(connection, &opened, error))
    return FALSE;
  gboolean ok = load_rows(connection, &meta, &checksum, error);
  qfs_connection_end_read(connection, opened);
  if (!ok)
    return FALSE;
  g_autoptr(GBytes) encoding = encode(&meta);
  if (digest_of(encoding) != checksum)
    return qfs_connection_fail_with(connection, QFS_REPLICA_ERROR_CORRUPT, error,
                                    "the metadata does not match its checksum");
  *out_meta = meta;
  return TRUE;
}

gboolean qfs_meta_load_counters(QfsConnection *connection, QfsCounters *out_counters,
                                GError **error) {
  QfsCounters counters = {0};
  sqlite3_stmt *statement = qfs_connection_statement(connection, QFS_SQL_META_COUNTS, error);
  gboolean row;

  if (statement == NULL)
    return FALSE;
  g_autoptr(QfsCursor) cursor = statement;
  while (TRUE) {
    if (!qfs_connection_step(connection, cursor, &row, error))
      return FALSE;
    if (!row)
      break;
    const char *name = (const char *)sqlite3_column_text(cursor, 0);
    guint64 number = qfs_column_u64(cursor, 1);
    if (g_strcmp0(name, "count_records") == 0)
      counters.records = number;
    else if (g_strcmp0(name, "count_tombstones") == 0)
      counters.tombstones = number;
    else if (g_strcmp0(name, "count_chunks") == 0)
      counters.chunks = number;
  }
  *out_counters = counters;
  return TRUE;
}

gboolean qfs_meta_store_counters(QfsConnection *connection, GError **error) {
  const QfsCounters *now = &connection->counters;
  const QfsCounters *old = &connection->committed_counters;

  return (now->records == old->records ||
          set_number(connection, "count_records", now->records, error)) &&
         (now->tombstones == old->tombstones ||
          set_number(connection, "count_tombstones", now->tombstones, error)) &&
         (now->chunks == old->chunks || set_number(connection, "count_chunks", now->chunks, error));
}

gboolean qfs_meta_load_salt(QfsConnection *connection, guint64 *out_salt, GError **error) {
  g_autoptr(QfsCursor) cursor = qfs_connection_statement(connection, QFS_SQL_META_SALT, error);
  gboolean row;
  if (cursor == NULL || !qfs_connection_step(connection, cursor, &row, error))
    return FALSE;
  *out_salt = row ? qfs_column_u64(cursor, 0) : 0;
  return TRUE;
}

gboolean qfs_meta_store_salt(QfsConnection *connection, guint64 salt, GError **error) {
  return set_number(connection, "redo_salt", salt, error);
}
