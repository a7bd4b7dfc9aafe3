/* xattrs.c - see xattrs.h. */
#include "fs/xattrs.h"

#include <errno.h>
#include <string.h>

typedef struct {
  const guint8 *start; /* of the entry */
  const guint8 *name;
  gsize name_len;
  const guint8 *value;
  gsize value_len;
} Entry;

/* The entry at *at, which moves behind it. FALSE: there is none. */
static gboolean next(GBytes *list, gsize *at, Entry *out) {
  gsize len = 0;
  const guint8 *bytes = list != NULL ? g_bytes_get_data(list, &len) : NULL;
  if (*at + 1 > len || *at + 1 + bytes[*at] + 4 > len)
    return FALSE;
  out->start = bytes + *at;
  out->name_len = bytes[*at];
  out->name = bytes + *at + 1;
  guint32 value_len;
  memcpy(&value_len, out->name + out->name_len, sizeof value_len);
  out->value_len = GUINT32_FROM_BE(value_len);
  out->value = out->name + out->name_len + 4;
  gsize end = (gsize)(out->value - bytes) + out->value_len;
  if (out->name_len == 0 || end > len)
    return FALSE;
  *at = end;
  return TRUE;
}

/* <0, 0, >0 as the entry's name is before, the same as, or after `name`. */
static int order(const Entry *entry, const char *name) {
  gsize len = strlen(name);
  int bytes = memcmp(entry->name, name, MIN(entry->name_len, len));
  return bytes != 0 ? bytes : (entry->name_len > len) - (entry->name_len < len);
}

const guint8 *qfs_xattrs_find(GBytes *list, const char *name, gsize *out_len) {
  Entry entry;
  for (gsize at = 0; next(list, &at, &entry);) {
    if (order(&entry, name) != 0)
      continue;
    *out_len = entry.value_len;
    return entry.value;
  }
  return NULL;
}

static void append(GByteArray *out, const char *name, const void *value, gsize len) {
  guint8 name_len = (guint8)strlen(name);
  guint32 value_len = GUINT32_TO_BE((guint32)len);
  g_byte_array_append(out, &name_len, 1);
  g_byte_array_append(out, (const guint8 *)name, name_len);
  g_byte_array_append(out, (const guint8 *)&value_len, sizeof value_len);
  if (len > 0)
    g_byte_array_append(out, value, (guint)len);
}

int qfs_xattrs_change(GBytes *list, const char *name, const void *value, gsize len, QfsXattrHow how, GBytes **out) {
  gsize old_len;
  gboolean exists = qfs_xattrs_find(list, name, &old_len) != NULL;
  g_assert(strlen(name) >= 1 && strlen(name) <= G_MAXUINT8 && len <= QFS_XATTR_VALUE_MAX);
  if (exists && how == QFS_XATTR_CREATE)
    return EEXIST;
  if (!exists && (how == QFS_XATTR_REPLACE || value == NULL))
    return ENODATA;
  GByteArray *bytes = g_byte_array_new();
  gboolean put = value == NULL;
  gsize names = 0;
  Entry entry;
  for (gsize at = 0; next(list, &at, &entry);) {
    int side = order(&entry, name);
    if (side >= 0 && !put) {
      append(bytes, name, value, len);
      put = TRUE;
    }
    if (side == 0)
      continue;
    names += entry.name_len + 1;
    g_byte_array_append(bytes, entry.start, (guint)(entry.value + entry.value_len - entry.start));
  }
  if (!put)
    append(bytes, name, value, len);
  if (value != NULL && (bytes->len > QFS_XATTRS_MAX || names + strlen(name) + 1 > QFS_XATTR_NAMES_MAX)) {
    g_byte_array_unref(bytes);
    return ENOSPC;
  }
  *out = g_byte_array_free_to_bytes(bytes);
  return 0;
}

GByteArray *qfs_xattrs_names(GBytes *list, gboolean trusted) {
  static const char prefix[] = "trusted.";
  GByteArray *names = g_byte_array_new();
  Entry entry;
  for (gsize at = 0; next(list, &at, &entry);) {
    gboolean hidden = entry.name_len >= strlen(prefix) && memcmp(entry.name, prefix, strlen(prefix)) == 0;
    if (hidden && !trusted)
      continue;
    g_byte_array_append(names, entry.name, (guint)entry.name_len);
    g_byte_array_append(names, (const guint8 *)"", 1);
  }
  return names;
}
