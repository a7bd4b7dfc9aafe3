/* redo.c - see redo.h. */
#include "storage/redo.h"

#include "storage/checksum.h"

#include <sqlite3.h>
#include <string.h>
#include <xxhash.h>

#define HEAD_BYTES 12
/* No entry is longer: what claims to be is none. */
#define ENTRY_MAX_BYTES (4u << 20)
/* No log is longer: what is behind that is somebody else's. */
#define FILE_MAX_BYTES (8u << 20)
/* timestamp, seq, kind, mode, uid, gid, nlink, rdev, size, four times, object (2), tail_offset, digest, four lengths. */
#define FIXED_BYTES (12 * 8 + 5 * 4 + 4 * 4)

struct QfsRedo {
  char *path;
  sqlite3_file *file; /* NULL: not open */
  gboolean is_gone;   /* deleted, and not made again by us */
  gsize at;           /* of the next entry */
  guint64 chain;      /* seed of its sum */
  gboolean has_rest;  /* behind `at` there may be what would count one day */
  gboolean is_synced; /* every entry is on stable storage */
  GByteArray *entry;  /* being built */
};

QfsRedo *qfs_redo_new(const char *dir) {
  QfsRedo *redo = g_new0(QfsRedo, 1);
  redo->path = g_build_filename(dir, "replica.db-redo", NULL);
  redo->entry = g_byte_array_new();
  return redo;
}

static void close_file(QfsRedo *redo) {
  if (redo->file == NULL)
    return;
  redo->file->pMethods->xClose(redo->file);
  g_clear_pointer(&redo->file, g_free);
}

void qfs_redo_free(QfsRedo *redo) {
  if (redo == NULL)
    return;
  close_file(redo);
  g_byte_array_unref(redo->entry);
  g_free(redo->path);
  g_free(redo);
}

static gboolean open_file(QfsRedo *redo, gboolean create) {
  sqlite3_vfs *vfs = sqlite3_vfs_find(NULL);
  int flags = SQLITE_OPEN_MAIN_JOURNAL | (create ? SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE : SQLITE_OPEN_READONLY);
  if (redo->file != NULL)
    return TRUE;
  redo->file = g_malloc0((gsize)vfs->szOsFile);
  redo->is_gone = FALSE;
  if (vfs->xOpen(vfs, redo->path, redo->file, flags, &flags) == SQLITE_OK)
    return TRUE;
  if (redo->file->pMethods != NULL)
    redo->file->pMethods->xClose(redo->file);
  g_clear_pointer(&redo->file, g_free);
  return FALSE;
}

/* Opened anew by the next append: what somebody deleted or exchanged meanwhile is not written to for ever. */
void qfs_redo_restart(QfsRedo *redo, guint64 salt) {
  close_file(redo);
  redo->at = 0;
  redo->chain = salt;
  redo->has_rest = FALSE;
  redo->is_synced = TRUE;
}

void qfs_redo_cut(QfsRedo *redo) {
  if (redo->has_rest && open_file(redo, TRUE) &&
      redo->file->pMethods->xTruncate(redo->file, (sqlite3_int64)redo->at) == SQLITE_OK)
    redo->has_rest = FALSE;
}

gsize qfs_redo_size(const QfsRedo *redo) { return redo->at; }

void qfs_redo_delete(QfsRedo *redo) {
  sqlite3_vfs *vfs = sqlite3_vfs_find(NULL);
  close_file(redo);
  if (!redo->is_gone)
    vfs->xDelete(vfs, redo->path, 0);
  redo->is_gone = TRUE;
}

/* ---- records as bytes ---- */

gsize qfs_redo_record_size(const QfsRecord *record) {
  return FIXED_BYTES + strlen(record->key) + g_bytes_get_size(record->tail) + g_bytes_get_size(record->xattrs) +
         g_bytes_get_size(record->spans);
}

static guint8 *put_bytes(guint8 *out, GBytes *bytes) {
  gsize len;
  gconstpointer data = g_bytes_get_data(bytes, &len);
  if (len > 0)
    memcpy(out, data, len);
  return out + len;
}

static guint8 *put_record(guint8 *out, const QfsRecord *record) {
  const QfsAttr *attr = &record->attr;
  const guint64 wide[] = {record->timestamp, record->seq, attr->rdev, attr->size, (guint64)attr->atime_ns,
                          (guint64)attr->mtime_ns, (guint64)attr->ctime_ns, (guint64)attr->btime_ns,
                          record->object.placement, record->object.unique, record->tail_offset, record->digest};
  const guint32 narrow[] = {(guint32)record->kind, attr->mode, attr->uid, attr->gid, attr->nlink,
                            (guint32)strlen(record->key), (guint32)g_bytes_get_size(record->tail),
                            (guint32)g_bytes_get_size(record->xattrs), (guint32)g_bytes_get_size(record->spans)};
  for (guint i = 0; i < G_N_ELEMENTS(wide); i++)
    out = qfs_put_u64(out, wide[i]);
  for (guint i = 0; i < G_N_ELEMENTS(narrow); i++)
    out = qfs_put_u32(out, narrow[i]);
  memcpy(out, record->key, narrow[5]);
  return put_bytes(put_bytes(put_bytes(out + narrow[5], record->tail), record->xattrs), record->spans);
}

static guint32 get_u32(const guint8 *from) {
  return (guint32)from[0] << 24 | (guint32)from[1] << 16 | (guint32)from[2] << 8 | from[3];
}
static guint64 get_u64(const guint8 *from) { return (guint64)get_u32(from) << 32 | get_u32(from + 4); }

static GBytes *take_bytes(const guint8 **from, guint32 len) {
  GBytes *bytes = g_bytes_new(*from, len);
  *from += len;
  return bytes;
}

/* NULL: what is left there is no record. */
static QfsRecord *get_record(const guint8 **from, const guint8 *end) {
  guint64 wide[12];
  guint32 narrow[9];
  if (end - *from < FIXED_BYTES)
    return NULL;
  for (guint i = 0; i < G_N_ELEMENTS(wide); i++, *from += 8)
    wide[i] = get_u64(*from);
  for (guint i = 0; i < G_N_ELEMENTS(narrow); i++, *from += 4)
    narrow[i] = get_u32(*from);
  if ((guint64)narrow[5] + narrow[6] + narrow[7] + narrow[8] > (guint64)(end - *from))
    return NULL;
  g_autofree char *key = g_strndup((const char *)*from, narrow[5]);
  *from += narrow[5];
  QfsRecord *record = qfs_record_new(key);
  record->timestamp = wide[0];
  record->seq = wide[1];
  record->kind = (QfsKind)narrow[0];
  record->attr = (QfsAttr){.mode = narrow[1], .uid = narrow[2], .gid = narrow[3], .nlink = narrow[4],
                           .rdev = wide[2], .size = wide[3], .atime_ns = (gint64)wide[4], .mtime_ns = (gint64)wide[5],
                           .ctime_ns = (gint64)wide[6], .btime_ns = (gint64)wide[7]};
  record->object = (QfsObjectId){.placement = wide[8], .unique = wide[9]};
  record->tail_offset = wide[10];
  record->digest = wide[11];
  GBytes **const parts[] = {&record->tail, &record->xattrs, &record->spans};
  for (guint i = 0; i < G_N_ELEMENTS(parts); i++) {
    g_bytes_unref(*parts[i]);
    *parts[i] = take_bytes(from, narrow[6 + i]);
  }
  return record;
}

/* ---- entries ---- */

/* Over the length and the records. */
static guint64 sum_of(const guint8 *entry, gsize len, guint64 chain) {
  return XXH3_64bits_withSeed(entry + HEAD_BYTES, len - HEAD_BYTES, chain ^ (guint64)len);
}

gboolean qfs_redo_append(QfsRedo *redo, GPtrArray *records) {
  gsize len = HEAD_BYTES;
  for (guint i = 0; i < records->len; i++)
    len += qfs_redo_record_size(records->pdata[i]);
  if (redo->has_rest || len > ENTRY_MAX_BYTES || redo->at + len > FILE_MAX_BYTES || !open_file(redo, TRUE))
    return FALSE;
  g_byte_array_set_size(redo->entry, (guint)len);
  guint8 *out = redo->entry->data + HEAD_BYTES;
  for (guint i = 0; i < records->len; i++)
    out = put_record(out, records->pdata[i]);
  g_assert(out == redo->entry->data + len);
  const guint64 sum = sum_of(redo->entry->data, len, redo->chain);
  qfs_put_u64(qfs_put_u32(redo->entry->data, (guint32)(len - HEAD_BYTES)), sum);
  if (redo->file->pMethods->xWrite(redo->file, redo->entry->data, (int)len, (sqlite3_int64)redo->at) != SQLITE_OK) {
    redo->has_rest = TRUE; /* it may have been written all the same */
    qfs_redo_cut(redo);
    return FALSE;
  }
  redo->at += len;
  redo->chain = sum;
  redo->is_synced = FALSE;
  return TRUE;
}

/* The first sync of a file that SQLite's VFS opened to make it syncs its directory, too. */
gboolean qfs_redo_sync(QfsRedo *redo) {
  const int flags = SQLITE_SYNC_NORMAL | SQLITE_SYNC_DATAONLY;
  if (!redo->is_synced)
    redo->is_synced = redo->file != NULL && redo->file->pMethods->xSync(redo->file, flags) == SQLITE_OK;
  return redo->is_synced;
}

/* Asked for first: opening what is not there is an error that SQLite logs. What is no file has no entries either, and
 * opening it may wait for ever. */
static gboolean is_there(const QfsRedo *redo) {
  sqlite3_vfs *vfs = sqlite3_vfs_find(NULL);
  int exists = 0;
  return vfs->xAccess(vfs, redo->path, SQLITE_ACCESS_EXISTS, &exists) == SQLITE_OK && exists &&
         (!g_file_test(redo->path, G_FILE_TEST_EXISTS) || g_file_test(redo->path, G_FILE_TEST_IS_REGULAR));
}

/* As much of the file as can count. FALSE: it can't be read. */
static gboolean read_file(QfsRedo *redo, GBytes **out_bytes) {
  sqlite3_int64 size = 0;
  if (!open_file(redo, FALSE))
    return FALSE;
  gboolean ok = redo->file->pMethods->xFileSize(redo->file, &size) == SQLITE_OK;
  const gsize len = (gsize)CLAMP(size, 0, FILE_MAX_BYTES);
  g_autofree guint8 *data = g_malloc(len + 1);
  ok = ok && (len == 0 || redo->file->pMethods->xRead(redo->file, data, (int)len, 0) == SQLITE_OK);
  close_file(redo); /* it was opened for reading only */
  redo->has_rest = !ok || size > 0;
  if (ok)
    *out_bytes = g_bytes_new_take(g_steal_pointer(&data), len);
  return ok;
}

/* The records of one entry, all or none. */
static gboolean take_entry(const guint8 *entry, gsize len, GPtrArray *out) {
  const guint before = out->len;
  const guint8 *from = entry + HEAD_BYTES;
  while (from < entry + len) {
    QfsRecord *record = get_record(&from, entry + len);
    if (record == NULL) {
      g_ptr_array_set_size(out, (int)before);
      return FALSE;
    }
    g_ptr_array_add(out, record);
  }
  return TRUE;
}

/* The entry at `at`; FALSE: there is none that counts. */
static gboolean next_entry(QfsRedo *redo, const guint8 *data, gsize size, GPtrArray *out) {
  if (size - redo->at < HEAD_BYTES)
    return FALSE;
  const guint8 *entry = data + redo->at;
  const gsize len = (gsize)get_u32(entry) + HEAD_BYTES;
  if (len > MIN(size - redo->at, ENTRY_MAX_BYTES) || len == HEAD_BYTES)
    return FALSE;
  const guint64 sum = get_u64(entry + 4);
  if (sum != sum_of(entry, len, redo->chain) || !take_entry(entry, len, out))
    return FALSE;
  redo->at += len;
  redo->chain = sum;
  redo->is_synced = FALSE;
  return TRUE;
}

gboolean qfs_redo_load(QfsRedo *redo, guint64 salt, GPtrArray *out) {
  g_autoptr(GBytes) bytes = NULL;
  qfs_redo_restart(redo, salt);
  if (!is_there(redo))
    return TRUE;
  if (!read_file(redo, &bytes))
    return FALSE;
  gsize size = 0;
  const guint8 *data = g_bytes_get_data(bytes, &size);
  while (next_entry(redo, data, size, out)) {
  }
  return TRUE;
}
