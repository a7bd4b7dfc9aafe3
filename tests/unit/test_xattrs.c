/* test_xattrs.c - the list of extended attributes as bytes, and what access lists and modes make of each other. */
#include "fs/acl.h"
#include "fs/xattrs.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

static void set(GBytes **list, const char *name, const char *value) {
  GBytes *next = NULL;
  g_assert_cmpint(qfs_xattrs_change(*list, name, value, value != NULL ? strlen(value) : 0, QFS_XATTR_SET, &next), ==, 0);
  g_clear_pointer(list, g_bytes_unref);
  *list = next;
}

static void assert_value(GBytes *list, const char *name, const char *value) {
  gsize len = 0;
  const guint8 *found = qfs_xattrs_find(list, name, &len);
  g_assert_true(found != NULL && len == strlen(value) && memcmp(found, value, len) == 0);
}

static void test_order(void) {
  g_test_message("goal: equal attributes are equal bytes, in whatever order they were set");
  g_autoptr(GBytes) a = NULL;
  g_autoptr(GBytes) b = NULL;
  set(&a, "user.b", "2");
  set(&a, "user.a", "");
  set(&a, "user.bb", "3");
  set(&b, "user.bb", "x");
  set(&b, "user.gone", "x");
  set(&b, "user.a", "");
  set(&b, "user.b", "2");
  set(&b, "user.bb", "3");
  set(&b, "user.gone", NULL);
  g_assert_true(g_bytes_equal(a, b));
  assert_value(a, "user.b", "2");
  assert_value(a, "user.a", "");
  set(&b, "user.a", NULL);
  set(&b, "user.b", NULL);
  set(&b, "user.bb", NULL);
  g_assert_cmpuint(g_bytes_get_size(b), ==, 0);
}

static void test_errors(void) {
  g_test_message("goal: what is there, what is not, and what is too much");
  g_autoptr(GBytes) list = NULL;
  GBytes *none = NULL;
  set(&list, "user.a", "1");
  g_assert_cmpint(qfs_xattrs_change(list, "user.a", "2", 1, QFS_XATTR_CREATE, &none), ==, EEXIST);
  g_assert_cmpint(qfs_xattrs_change(list, "user.b", "2", 1, QFS_XATTR_REPLACE, &none), ==, ENODATA);
  g_assert_cmpint(qfs_xattrs_change(list, "user.b", NULL, 0, QFS_XATTR_SET, &none), ==, ENODATA);
  g_autofree guint8 *big = g_malloc0(QFS_XATTR_VALUE_MAX);
  GBytes *one = NULL;
  g_assert_cmpint(qfs_xattrs_change(list, "user.big", big, QFS_XATTR_VALUE_MAX, QFS_XATTR_SET, &one), ==, 0);
  g_assert_cmpint(qfs_xattrs_change(one, "user.big2", big, QFS_XATTR_VALUE_MAX, QFS_XATTR_SET, &none), ==, ENOSPC);
  g_assert_null(none);
  g_bytes_unref(one);
}

static void test_damage(void) {
  g_test_message("goal: bytes that are no list read as far as they are one");
  g_autoptr(GBytes) list = NULL;
  set(&list, "user.a", "1");
  set(&list, "user.b", "22");
  g_autoptr(GRand) rand = g_rand_new_with_seed(1);
  for (gsize cut = 0; cut <= g_bytes_get_size(list); cut++) {
    g_autoptr(GBytes) part = g_bytes_new_from_bytes(list, 0, cut);
    GByteArray *names = qfs_xattrs_names(part, TRUE);
    g_assert_cmpuint(names->len % strlen("user.a1"), ==, 0);
    g_byte_array_unref(names);
  }
  for (guint i = 0; i < 20000; i++) {
    guint8 bytes[32];
    for (gsize k = 0; k < sizeof bytes; k++)
      bytes[k] = (guint8)(g_rand_int(rand) % 9);
    g_autoptr(GBytes) junk = g_bytes_new(bytes, sizeof bytes);
    GBytes *next = NULL;
    if (qfs_xattrs_change(junk, "user.x", "y", 1, QFS_XATTR_SET, &next) == 0)
      assert_value(next, "user.x", "y");
    g_clear_pointer(&next, g_bytes_unref);
  }
}

/* user::rwx user:7:MASKED group::r-x mask::rw- other::--x, little-endian */
static const guint8 acl[] = {
    2,    0, 0, 0,                            /* version */
    0x01, 0, 7, 0, 0xff, 0xff, 0xff, 0xff,    /* USER_OBJ */
    0x02, 0, 7, 0, 7,    0,    0,    0,       /* USER 7 */
    0x04, 0, 5, 0, 0xff, 0xff, 0xff, 0xff,    /* GROUP_OBJ */
    0x10, 0, 6, 0, 0xff, 0xff, 0xff, 0xff,    /* MASK */
    0x20, 0, 1, 0, 0xff, 0xff, 0xff, 0xff,    /* OTHER */
};

static guint8 perm(GBytes *list, const char *name, guint entry) {
  gsize len = 0;
  const guint8 *value = qfs_xattrs_find(list, name, &len);
  g_assert_cmpuint(len, ==, sizeof acl);
  return value[4 + 8 * entry + 2];
}

static void test_acl(void) {
  g_test_message("goal: access list and mode follow each other; a default list and the mode asked for meet");
  g_assert_true(qfs_acl_is_valid(acl, sizeof acl));
  g_assert_false(qfs_acl_is_valid(acl, sizeof acl - 1));
  g_assert_false(qfs_acl_is_valid(acl, 3));
  mode_t mode = S_IFREG | S_ISGID | 0600;
  g_assert_false(qfs_acl_to_mode(acl, sizeof acl, &mode));
  g_assert_cmphex(mode, ==, S_IFREG | S_ISGID | 0761);
  GBytes *list = NULL;
  g_assert_cmpint(qfs_xattrs_change(NULL, QFS_ACL_ACCESS, acl, sizeof acl, QFS_XATTR_SET, &list), ==, 0);
  g_autoptr(GBytes) changed = qfs_acl_chmod(list, S_IFREG | 0624);
  g_assert_cmpuint(perm(changed, QFS_ACL_ACCESS, 0), ==, 6);
  g_assert_cmpuint(perm(changed, QFS_ACL_ACCESS, 1), ==, 7);
  g_assert_cmpuint(perm(changed, QFS_ACL_ACCESS, 2), ==, 5);
  g_assert_cmpuint(perm(changed, QFS_ACL_ACCESS, 3), ==, 2);
  g_assert_cmpuint(perm(changed, QFS_ACL_ACCESS, 4), ==, 4);
  g_bytes_unref(list);
  g_assert_cmpint(qfs_xattrs_change(NULL, QFS_ACL_DEFAULT, acl, sizeof acl, QFS_XATTR_SET, &list), ==, 0);
  mode = S_IFDIR | 0675;
  g_autoptr(GBytes) inherited = qfs_acl_inherit(list, 077, &mode);
  g_assert_cmphex(mode, ==, S_IFDIR | 0661);
  g_assert_cmpuint(perm(inherited, QFS_ACL_ACCESS, 0), ==, 6);
  g_assert_cmpuint(perm(inherited, QFS_ACL_ACCESS, 3), ==, 6);
  g_assert_cmpuint(perm(inherited, QFS_ACL_ACCESS, 4), ==, 1);
  g_assert_cmpuint(perm(inherited, QFS_ACL_DEFAULT, 0), ==, 7);
  g_bytes_unref(list);
  mode = S_IFREG | 0666;
  g_assert_null(qfs_acl_inherit(NULL, 022, &mode));
  g_assert_cmphex(mode, ==, S_IFREG | 0644);
}

int main(int argc, char **argv) {
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/fs/xattrs/equal-attributes-are-equal-bytes", test_order);
  g_test_add_func("/fs/xattrs/errors", test_errors);
  g_test_add_func("/fs/xattrs/damaged-lists", test_damage);
  g_test_add_func("/fs/acl/list-and-mode", test_acl);
  return g_test_run();
}
