/* record.c - records in memory, the order of versions, and the anatomy of keys.
 *
 * Pure functions over immutable objects with an atomic reference count: any thread.
 * The bytes that order and sums are computed from are defined in checksum.c.
 *
 * A key is split at its last '/', and (directory, name) joined by '/' is the key again. The store's
 * own keys begin with '/'; so that "/x" and "x" stay different, slashes that lead up to the name
 * belong to the directory: "/x" is "x" in "/". Splitting loses nothing for any sequence of bytes.
 */
#include "storage/record.h"

#include <string.h>

/* Length of the run of '/' that `key` begins with. */
static gsize leading_slashes(const char *key) {
  return strspn(key, "/");
}

/* "" or slashes only: a name follows without another one. */
static gboolean is_slashes(const char *dir) {
  return dir[leading_slashes(dir)] == '\0';
}

GBytes *qfs_bytes_none(void) {
  static GBytes *none;
  if (g_once_init_enter(&none))
    g_once_init_leave(&none, g_bytes_new_static("", 0));
  return g_bytes_ref(none);
}

/* Room for a key of so many bytes with its NUL follows the record. */
static QfsRecord *new_empty(gsize key_size) {
  QfsRecord *record = g_malloc(sizeof *record + key_size);
  memset(record, 0, sizeof *record);
  g_atomic_ref_count_init(&record->refs);
  record->key = (char *)(record + 1);
  record->kind = QFS_KIND_TOMBSTONE;
  record->tail = qfs_bytes_none();
  record->xattrs = qfs_bytes_none();
  record->spans = qfs_bytes_none();
  return record;
}

QfsRecord *qfs_record_new(const char *key) {
  g_assert(key != NULL);
  QfsRecord *record = new_empty(0);
  record->key = g_strdup(key);
  return record;
}

QfsRecord *qfs_record_new_in(const char *dir, const char *name) {
  const gsize dir_len = strlen(dir), name_size = strlen(name) + 1;
  const gboolean joined = !is_slashes(dir);
  QfsRecord *record = new_empty(dir_len + (joined ? 1 : 0) + name_size);
  char *end = record->key;
  memcpy(end, dir, dir_len);
  end += dir_len;
  if (joined)
    *end++ = '/';
  memcpy(end, name, name_size);
  return record;
}

QfsRecord *qfs_record_new_tombstone(const char *key, guint64 timestamp) {
  QfsRecord *record = qfs_record_new(key);
  record->timestamp = timestamp;
  return record;
}

QfsRecord *qfs_record_new_link(const char *key, const QfsRecord *file, guint64 timestamp) {
  QfsRecord *link = qfs_record_new(key);
  const gsize len = strlen(file->key);
  link->kind = QFS_KIND_LINK;
  link->timestamp = timestamp;
  link->attr.mode = file->attr.mode;
  link->attr.btime_ns = file->attr.btime_ns;
  link->attr.size = len; /* as of a symlink */
  g_bytes_unref(link->tail);
  link->tail = g_bytes_new(file->key, len);
  link->digest = qfs_digest(file->key, len);
  return link;
}

char *qfs_record_link_target(const QfsRecord *link) {
  gsize len;
  const char *key = g_bytes_get_data(link->tail, &len);
  return g_strndup(key, len);
}

QfsRecord *qfs_record_copy(const QfsRecord *record) {
  QfsRecord *copy = g_new(QfsRecord, 1);
  *copy = *record;
  g_atomic_ref_count_init(&copy->refs);
  copy->key = g_strdup(record->key);
  copy->tail = g_bytes_ref(record->tail);
  copy->xattrs = g_bytes_ref(record->xattrs);
  copy->spans = g_bytes_ref(record->spans);
  return copy;
}

QfsRecord *qfs_record_ref(const QfsRecord *record) {
  QfsRecord *shared = (QfsRecord *)record; /* the count is the only field that ever changes (R1) */
  g_atomic_ref_count_inc(&shared->refs);
  return shared;
}

void qfs_record_unref(QfsRecord *record) {
  if (record == NULL || !g_atomic_ref_count_dec(&record->refs))
    return;
  if (record->key != (char *)(record + 1))
    g_free(record->key);
  g_bytes_unref(record->tail);
  g_bytes_unref(record->xattrs);
  g_bytes_unref(record->spans);
  g_free(record);
}

GBytes *qfs_record_spans(const QfsRecord *record) {
  if (g_bytes_get_size(record->spans) > 0 || qfs_object_is_none(record->object))
    return g_bytes_ref(record->spans);
  return qfs_spans_new(0, record->timestamp);
}

guint64 qfs_record_newest_write(const QfsRecord *record) {
  g_autoptr(GBytes) spans = qfs_record_spans(record);
  return qfs_spans_newest(spans);
}

QfsRecord *qfs_record_successor(const QfsRecord *record) {
  QfsRecord *copy = qfs_record_copy(record);
  g_bytes_unref(copy->spans);
  copy->spans = qfs_record_spans(record);
  return copy;
}

gboolean qfs_record_owns(const QfsRecord *record, guint64 number) {
  g_autoptr(GBytes) spans = qfs_record_spans(record);
  return qfs_spans_have(spans, number);
}

/* What replicas mostly have of one version: then nothing is to be encoded. */
static gboolean is_same_state(const QfsRecord *a, const QfsRecord *b) {
  G_STATIC_ASSERT(sizeof(QfsAttr) == 4 * sizeof(guint32) + 6 * sizeof(guint64)); /* without gaps */
  return a->kind == b->kind && a->digest == b->digest && a->tail_offset == b->tail_offset &&
         qfs_object_equal(a->object, b->object) && memcmp(&a->attr, &b->attr, sizeof a->attr) == 0 &&
         g_bytes_equal(a->tail, b->tail) && g_bytes_equal(a->xattrs, b->xattrs) && g_bytes_equal(a->spans, b->spans);
}

int qfs_record_compare(const QfsRecord *a, const QfsRecord *b) {
  if (a == b)
    return 0;
  if (a == NULL || b == NULL)
    return a == NULL ? -1 : 1;
  if (a->timestamp != b->timestamp)
    return a->timestamp < b->timestamp ? -1 : 1;

  gboolean a_is_tombstone = a->kind == QFS_KIND_TOMBSTONE;
  gboolean b_is_tombstone = b->kind == QFS_KIND_TOMBSTONE;
  if (a_is_tombstone != b_is_tombstone)
    return b_is_tombstone ? -1 : 1;

  if (is_same_state(a, b))
    return 0;
  g_autoptr(GBytes) a_bytes = qfs_record_canonical(a);
  g_autoptr(GBytes) b_bytes = qfs_record_canonical(b);
  int order = g_bytes_compare(a_bytes, b_bytes); /* memcmp, then the shorter first */
  return order < 0 ? -1 : order > 0 ? 1 : 0;
}

void qfs_key_split(const char *key, gsize *out_dir_len, const char **out_name) {
  const char *slash = strrchr(key, '/');

  if (slash == NULL) {
    *out_dir_len = 0;
    *out_name = key;
    return;
  }
  gsize dir_len = (gsize)(slash - key);
  if (*key == '/' && leading_slashes(key) == dir_len + 1)
    dir_len++; /* nothing but slashes before the name: "/x" */
  *out_dir_len = dir_len;
  *out_name = slash + 1;
}

int qfs_key_order(const char *a, const char *b) {
  gsize a_len, b_len;
  const char *a_name, *b_name;
  qfs_key_split(a, &a_len, &a_name);
  qfs_key_split(b, &b_len, &b_name);
  int order = memcmp(a, b, MIN(a_len, b_len));
  if (order == 0)
    order = (a_len > b_len) - (a_len < b_len);
  return order != 0 ? order : strcmp(a_name, b_name);
}

char *qfs_key_join(const char *dir, const char *name) {
  if (is_slashes(dir))
    return g_strconcat(dir, name, NULL);
  return g_strconcat(dir, "/", name, NULL);
}

const char *qfs_key_below(const char *dir, const char *key) {
  const gsize len = strlen(dir);
  return strncmp(key, dir, len) == 0 && key[len] == '/' ? key + len + 1 : NULL;
}

char *qfs_key_parent(const char *key) {
  gsize dir_len;
  const char *name;

  qfs_key_split(key, &dir_len, &name);
  if (*name == '\0' && leading_slashes(key) == dir_len)
    dir_len = 0; /* the parent of "/" is "", so that walking upwards ends */
  return g_strndup(key, dir_len);
}

static gboolean component_is_valid(const char *name, gsize len, gboolean is_first,
                                   gboolean *out_too_long) {
  static const char reserved[] = ".quorumfs";

  if (len > QFS_NAME_MAX) {
    *out_too_long = TRUE;
    return FALSE;
  }
  if (len == 0 || (len == 1 && name[0] == '.') || (len == 2 && name[0] == '.' && name[1] == '.'))
    return FALSE;
  return !(is_first && len == sizeof reserved - 1 && memcmp(name, reserved, len) == 0);
}

gboolean qfs_key_is_valid(const char *key, gboolean *out_too_long) {
  gboolean too_long_unused;
  gboolean *too_long = out_too_long != NULL ? out_too_long : &too_long_unused;

  *too_long = FALSE;
  if (*key == '\0')
    return TRUE;
  if (strlen(key) > QFS_KEY_MAX) {
    *too_long = TRUE;
    return FALSE;
  }
  for (const char *name = key;;) {
    gsize len = strcspn(name, "/");
    if (!component_is_valid(name, len, name == key, too_long))
      return FALSE;
    if (name[len] == '\0')
      return TRUE;
    name += len + 1;
  }
}
