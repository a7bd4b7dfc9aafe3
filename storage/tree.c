/* tree.c - see tree.h. No state. */
#include "storage/tree.h"

#include <string.h>
#include <sys/stat.h>

#define LIST_ROWS 512

/* ---- implied directories ---- */

/* The least directory >= from with a row that is no tombstone, if it begins with `prefix`; else NULL. Those of the
 * store itself begin with '/'. */
static gboolean next_dir(QfsReplica *replica, const char *prefix, const char *from, char **out_dir, GError **error) {
  g_autofree char *dir = NULL;
  *out_dir = NULL;
  if (!replica->ops->live_dir(replica, from, &dir, error))
    return FALSE;
  if (dir != NULL && *dir == '/') {
    g_clear_pointer(&dir, g_free);
    if (!replica->ops->live_dir(replica, "0", &dir, error)) /* what comes after all that begin with '/' */
      return FALSE;
  }
  if (dir != NULL && g_str_has_prefix(dir, prefix))
    *out_dir = g_steal_pointer(&dir);
  return TRUE;
}

/* Is there something below the key of this length, which need not be in a row itself? */
static gboolean has_below(QfsReplica *replica, const char *key, gsize len, gboolean *out_has, GError **error) {
  g_autofree char *below = g_strdup_printf("%.*s/", (int)len, key), *dir = NULL;
  if (!next_dir(replica, below, below, &dir, error))
    return FALSE;
  *out_has = dir != NULL;
  return TRUE;
}

static gboolean is_implied(QfsReplica *replica, const char *key, gboolean *out_implied, GError **error) {
  g_autofree char *dir = NULL;
  if (!next_dir(replica, key, key, &dir, error))
    return FALSE;
  *out_implied = dir != NULL && strcmp(dir, key) == 0;
  return *out_implied || has_below(replica, key, strlen(key), out_implied, error);
}

static QfsRecord *implied_record(const char *key) {
  QfsRecord *record = qfs_record_new(key);
  record->kind = QFS_KIND_DIRECTORY;
  record->attr.mode = S_IFDIR | 0755;
  return record;
}

/* The least name > after (NULL: any) below `prefix` ("" or "dir/") that is implied by rows further down; NULL: none. */
static gboolean next_implied(QfsReplica *replica, const char *prefix, const char *after, char **out_name,
                             GError **error) {
  gsize prefix_len = strlen(prefix);
  /* Nothing is between a text and the same with one byte 1 behind it: names have no byte 0. */
  g_autofree char *from = g_strconcat(prefix, after != NULL ? after : "", "\001", NULL);
  g_autofree char *dir = NULL;
  *out_name = NULL;
  if (!next_dir(replica, prefix, from, &dir, error))
    return FALSE;
  /* What is below `after`, or below a name that it begins with, comes after it, too. */
  while (dir != NULL && after != NULL) {
    char *end = strchr(dir + prefix_len, '/');
    if (end == NULL)
      break;
    *end = '\0';
    if (strcmp(dir + prefix_len, after) > 0) {
      *end = '/';
      break;
    }
    *end = '/' + 1;
    end[1] = '\0';
    g_autofree char *skip = g_steal_pointer(&dir);
    if (!next_dir(replica, prefix, skip, &dir, error))
      return FALSE;
  }
  if (dir == NULL)
    return TRUE;
  char *name = dir + prefix_len;
  gsize name_len = strcspn(name, "/");
  /* "a/x" comes after "a-b", but the name "a" before "a-b". */
  for (gsize len = 1; len < name_len; len++) {
    g_autofree char *shorter = g_strndup(name, len);
    gboolean has = FALSE;
    if (name[len] >= '/' || (after != NULL && strcmp(shorter, after) <= 0))
      continue;
    if (!has_below(replica, dir, prefix_len + len, &has, error))
      return FALSE;
    if (has) {
      *out_name = g_steal_pointer(&shorter);
      return TRUE;
    }
  }
  *out_name = g_strndup(name, name_len);
  return TRUE;
}

/* ---- looking up ---- */

gboolean qfs_tree_lookup(QfsReplica *replica, const char *key, QfsRecord **out_record, GError **error) {
  g_autoptr(QfsRecord) record = NULL;
  gboolean implied = *key == '\0';
  if (!replica->ops->record_get(replica, key, &record, error))
    return FALSE;
  if (!qfs_record_exists(record) && !implied && !is_implied(replica, key, &implied, error))
    return FALSE;
  if (qfs_record_exists(record))
    *out_record = g_steal_pointer(&record);
  else
    *out_record = implied ? implied_record(key) : NULL;
  return TRUE;
}

/* ---- listing ---- */

typedef struct {
  QfsReplica *replica;
  const char *dir;
  char *prefix;
  GPtrArray *rows; /* a page of them, tombstones included */
  guint at;
  gboolean more;   /* rows follow the page */
  char *name;      /* the next implied one; NULL: none */
  char *last;      /* what was listed last */
} Listing;

static void listing_clear(Listing *listing) {
  g_free(listing->prefix);
  g_free(listing->name);
  g_free(listing->last);
  g_clear_pointer(&listing->rows, g_ptr_array_unref);
}

static const char *name_of(const QfsRecord *record) {
  gsize len;
  const char *name;
  qfs_key_split(record->key, &len, &name);
  return name;
}

/* The next row, tombstones included; NULL: none. */
static gboolean peek_row(Listing *listing, QfsRecord **out_row, GError **error) {
  if (listing->at == listing->rows->len && listing->more) {
    g_autofree char *after =
        listing->at > 0 ? g_strdup(name_of(listing->rows->pdata[listing->at - 1])) : g_strdup(listing->last);
    g_ptr_array_set_size(listing->rows, 0);
    listing->at = 0;
    if (!listing->replica->ops->record_list(listing->replica, listing->dir, after, LIST_ROWS, FALSE, listing->rows,
                                            &listing->more, error))
      return FALSE;
  }
  *out_row = listing->at < listing->rows->len ? listing->rows->pdata[listing->at] : NULL;
  return TRUE;
}

/* The next child, and the listing goes on behind it; NULL: none is left. */
static gboolean next_child(Listing *listing, QfsRecord **out_child, GError **error) {
  *out_child = NULL;
  while (*out_child == NULL) {
    QfsRecord *row;
    if (!peek_row(listing, &row, error))
      return FALSE;
    if (row == NULL && listing->name == NULL)
      return TRUE;
    int order = row == NULL ? 1 : listing->name == NULL ? -1 : strcmp(name_of(row), listing->name);
    if (order <= 0) {
      listing->at++;
      if (qfs_record_exists(row))
        *out_child = qfs_record_ref(row);
    }
    if (order >= 0) {
      g_autofree char *name = g_steal_pointer(&listing->name), *key = qfs_key_join(listing->dir, name);
      if (*out_child == NULL)
        *out_child = implied_record(key);
      if (!next_implied(listing->replica, listing->prefix, name, &listing->name, error)) {
        g_clear_pointer(out_child, qfs_record_unref);
        return FALSE;
      }
    }
  }
  return TRUE;
}

static gboolean list(Listing *listing, guint limit, GPtrArray *out, gboolean *out_more, GError **error) {
  if (!next_implied(listing->replica, listing->prefix, listing->last, &listing->name, error))
    return FALSE;
  for (guint n = 0;; n++) {
    QfsRecord *child;
    if (!next_child(listing, &child, error))
      return FALSE;
    *out_more = child != NULL && n == limit;
    if (child == NULL || n == limit) {
      qfs_record_unref(child);
      return TRUE;
    }
    g_ptr_array_add(out, child);
  }
}

gboolean qfs_tree_list(QfsReplica *replica, const char *dir, const char *after, guint limit, GPtrArray *out,
                       gboolean *out_more, GError **error) {
  guint start = out->len;
  Listing listing = {.replica = replica,
                     .dir = dir,
                     .prefix = *dir != '\0' ? g_strconcat(dir, "/", NULL) : g_strdup(""),
                     .rows = g_ptr_array_new_with_free_func((GDestroyNotify)qfs_record_unref),
                     .more = TRUE,
                     .last = g_strdup(after)};
  gboolean ok = list(&listing, limit, out, out_more, error);
  listing_clear(&listing);
  if (!ok)
    g_ptr_array_set_size(out, (gint)start);
  return ok;
}

/* ---- reading ---- */

static void put_bytes(guint8 *buffer, guint64 from, guint64 to, guint64 at, GBytes *bytes, guint64 end) {
  gsize len;
  const guint8 *data = g_bytes_get_data(bytes, &len);
  guint64 first = MAX(from, at), last = MIN(MIN(to, at + len), end);
  if (first < last)
    memcpy(buffer + (first - from), data + (first - at), last - first);
}

/* Has the replica any chunk of the object? */
static gboolean has_chunks(QfsReplica *replica, QfsObjectId object, gboolean *out_has, GError **error) {
  g_autoptr(GPtrArray) rows = g_ptr_array_new_with_free_func((GDestroyNotify)qfs_chunk_free);
  const QfsChunk before = {.object = {object.placement, object.unique - 1},
                           .index = G_MAXINT64,
                           .version = G_MAXUINT64};
  gboolean more;
  if (!replica->ops->chunk_list(replica, &before, 1, rows, &more, error))
    return FALSE;
  *out_has = rows->len > 0 && qfs_object_equal(((QfsChunk *)rows->pdata[0])->object, object);
  return TRUE;
}

/* Chunk rows of [from, to) of the value, where there are any. */
static gboolean read_chunks(QfsReplica *replica, const QfsRecord *record, guint64 from, guint64 to, guint8 *buffer,
                            QfsTreeBytes *out_where, GError **error) {
  g_autoptr(GBytes) spans = qfs_record_spans(record);
  gboolean found = FALSE, newer = FALSE, has = TRUE;
  guint64 end = MIN(to, record->tail_offset);
  for (guint64 index = from / QFS_CHUNK_SIZE; index * QFS_CHUNK_SIZE < end; index++) {
    g_autoptr(QfsChunk) chunk = NULL;
    gboolean newer_here = FALSE;
    if (!qfs_replica_chunk(replica, record->object, index, spans, &chunk, &newer_here, error))
      return FALSE;
    newer = newer || newer_here;
    found = found || chunk != NULL;
    if (chunk != NULL)
      put_bytes(buffer, from, to, index * QFS_CHUNK_SIZE, chunk->data, record->tail_offset);
  }
  /* Beside its record it was made; a rename leaves it where it was. */
  if (!found && from < end && record->object.placement != qfs_key_hash(record->key) &&
      !has_chunks(replica, record->object, &has, error))
    return FALSE;
  *out_where = newer ? QFS_TREE_CHANGED : has ? QFS_TREE_HERE : QFS_TREE_ELSEWHERE;
  return TRUE;
}

gboolean qfs_tree_read(QfsReplica *replica, const QfsRecord *record, guint64 offset, gsize length,
                       QfsTreeBytes *out_where, GBytes **out_data, GError **error) {
  guint64 from = MIN(offset, record->attr.size), to = from + MIN(length, record->attr.size - from);
  g_autofree guint8 *buffer = g_malloc0(MAX(to - from, 1));
  QfsTreeBytes where = QFS_TREE_HERE;
  if (!qfs_object_is_none(record->object) && !read_chunks(replica, record, from, to, buffer, &where, error))
    return FALSE;
  put_bytes(buffer, from, to, record->tail_offset, record->tail, record->attr.size);
  *out_where = where;
  *out_data = where == QFS_TREE_HERE ? g_bytes_new_take(g_steal_pointer(&buffer), to - from) : NULL;
  return TRUE;
}
