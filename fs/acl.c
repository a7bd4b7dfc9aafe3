/* acl.c - see acl.h. */
#include "fs/acl.h"
#include "fs/xattrs.h"

#include <string.h>
#include <sys/stat.h>

#define VERSION 2

enum { USER_OBJ = 0x01, USER = 0x02, GROUP_OBJ = 0x04, GROUP = 0x08, MASK = 0x10, OTHER = 0x20 };

/* All little-endian. */
typedef struct {
  guint16 tag;
  guint16 perm;
  guint32 id;
} Entry;
typedef struct {
  guint32 version;
  Entry entry[];
} Acl;
G_STATIC_ASSERT(sizeof(Entry) == 8);

static gsize count(gsize len) {
  return (len - sizeof(Acl)) / sizeof(Entry);
}

gboolean qfs_acl_is_valid(const void *value, gsize len) {
  guint32 version;
  if (len < sizeof(Acl) || (len - sizeof(Acl)) % sizeof(Entry) != 0)
    return FALSE;
  memcpy(&version, value, sizeof version);
  return GUINT32_FROM_LE(version) == VERSION;
}

static guint tag_of(const Entry *entry) {
  return GUINT16_FROM_LE(entry->tag);
}
static guint perm_of(const Entry *entry) {
  return GUINT16_FROM_LE(entry->perm) & 7u;
}
static void set_perm(Entry *entry, guint perm) {
  entry->perm = GUINT16_TO_LE((guint16)(perm & 7u));
}

/* The entry that the group bits of the mode stand for: the mask, else the owning group. */
static Entry *group_class(Acl *acl, gsize n) {
  Entry *group = NULL;
  for (gsize i = 0; i < n; i++) {
    if (tag_of(&acl->entry[i]) == MASK)
      return &acl->entry[i];
    if (tag_of(&acl->entry[i]) == GROUP_OBJ)
      group = &acl->entry[i];
  }
  return group;
}

static Acl *copy(const void *value, gsize len) {
  return g_memdup2(value, len);
}

gboolean qfs_acl_to_mode(const void *value, gsize len, mode_t *mode) {
  g_autofree Acl *acl = copy(value, len);
  gsize n = count(len);
  gboolean plain = TRUE;
  mode_t bits = 0;
  for (gsize i = 0; i < n; i++) {
    const Entry *entry = &acl->entry[i];
    if (tag_of(entry) == USER_OBJ)
      bits |= perm_of(entry) << 6;
    else if (tag_of(entry) == OTHER)
      bits |= perm_of(entry);
    else if (tag_of(entry) != GROUP_OBJ)
      plain = FALSE;
  }
  const Entry *group = group_class(acl, n);
  if (group != NULL)
    bits |= perm_of(group) << 3;
  *mode = (*mode & ~(mode_t)0777) | bits;
  return plain;
}

GBytes *qfs_acl_chmod(GBytes *xattrs, mode_t mode) {
  gsize len;
  const void *value = qfs_xattrs_find(xattrs, QFS_ACL_ACCESS, &len);
  if (value == NULL || !qfs_acl_is_valid(value, len))
    return NULL;
  g_autofree Acl *acl = copy(value, len);
  gsize n = count(len);
  for (gsize i = 0; i < n; i++) {
    if (tag_of(&acl->entry[i]) == USER_OBJ)
      set_perm(&acl->entry[i], mode >> 6);
    else if (tag_of(&acl->entry[i]) == OTHER)
      set_perm(&acl->entry[i], mode);
  }
  Entry *group = group_class(acl, n);
  if (group != NULL)
    set_perm(group, mode >> 3);
  GBytes *list = NULL;
  qfs_xattrs_change(xattrs, QFS_ACL_ACCESS, acl, len, QFS_XATTR_SET, &list); /* of the same length: it fits */
  return list;
}

/* A class of the list and of the mode: both allow what each did. */
static void meet(Entry *entry, guint shift, mode_t *mode) {
  guint both = perm_of(entry) & (*mode >> shift);
  set_perm(entry, both);
  *mode = (*mode & ~(mode_t)(7u << shift)) | (both << shift);
}

GBytes *qfs_acl_inherit(GBytes *dir, mode_t umask, mode_t *mode) {
  gsize len;
  if (S_ISLNK(*mode))
    return NULL;
  const void *value = qfs_xattrs_find(dir, QFS_ACL_DEFAULT, &len);
  if (value == NULL || !qfs_acl_is_valid(value, len)) {
    *mode &= ~umask;
    return NULL;
  }
  g_autofree Acl *acl = copy(value, len);
  gsize n = count(len);
  gboolean plain = TRUE;
  for (gsize i = 0; i < n; i++) {
    guint tag = tag_of(&acl->entry[i]);
    if (tag == USER_OBJ)
      meet(&acl->entry[i], 6, mode);
    else if (tag == OTHER)
      meet(&acl->entry[i], 0, mode);
    else if (tag != GROUP_OBJ)
      plain = FALSE;
  }
  Entry *group = group_class(acl, n);
  if (group != NULL)
    meet(group, 3, mode);
  GBytes *list = NULL, *all = NULL;
  if (!plain)
    qfs_xattrs_change(NULL, QFS_ACL_ACCESS, acl, len, QFS_XATTR_SET, &list);
  if (S_ISDIR(*mode) && qfs_xattrs_change(list, QFS_ACL_DEFAULT, value, len, QFS_XATTR_SET, &all) == 0) {
    g_clear_pointer(&list, g_bytes_unref);
    list = all;
  }
  return list;
}
