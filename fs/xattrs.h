/* xattrs.h - the list of a record's extended attributes (QfsRecord.xattrs), as bytes.
 *
 * Entries in the order of their names' bytes, each once, so that equal attributes are equal bytes: length of the name
 * (u8), name, length of the value (u32, big-endian), value. No entries: no bytes.
 *
 * Pure functions, any thread. Bytes that are no such list read as far as they are one.
 */
#pragma once

#include <glib.h>

G_BEGIN_DECLS

/* Of one value: what the kernel takes. Of the whole list: every change of the file, also of its bytes, writes it. Of
 * all names, each with a NUL: what listxattr(2) can return. */
#define QFS_XATTR_VALUE_MAX 65536
#define QFS_XATTRS_MAX 131072
#define QFS_XATTR_NAMES_MAX 65536

typedef enum { QFS_XATTR_SET, QFS_XATTR_CREATE, QFS_XATTR_REPLACE } QfsXattrHow;

/* The value in it, NULL: there is none. Borrowed from `list` (which may be NULL). */
const guint8 *qfs_xattrs_find(GBytes *list, const char *name, gsize *out_len);
/* A list with the attribute set, or without it (value NULL). 0, or EEXIST, ENODATA, ENOSPC. */
int qfs_xattrs_change(GBytes *list, const char *name, const void *value, gsize len, QfsXattrHow how, GBytes **out);
/* All names, each with its NUL; without those of "trusted." unless `trusted`. */
GByteArray *qfs_xattrs_names(GBytes *list, gboolean trusted);

G_END_DECLS
