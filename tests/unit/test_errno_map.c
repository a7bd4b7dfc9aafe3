/* Goal: every outcome has the errno that the documentation promises, and none is forgotten. */
#include "fs/errno_map.h"

#include <errno.h>

static const struct {
  QfsStatus status;
  int error;
} table[] = {
    {QFS_OK, 0},
    {QFS_NOT_FOUND, ENOENT},
    {QFS_EXISTS, EEXIST},
    {QFS_NOT_DIRECTORY, ENOTDIR},
    {QFS_IS_DIRECTORY, EISDIR},
    {QFS_NOT_EMPTY, ENOTEMPTY},
    {QFS_STALE, ESTALE},
    {QFS_NO_QUORUM, EHOSTDOWN},
    {QFS_UNKNOWN, ETIMEDOUT},
    {QFS_IO, EIO},
    {QFS_NO_SPACE, ENOSPC},
    {QFS_NAME_TOO_LONG, ENAMETOOLONG},
    {QFS_TOO_BIG, EFBIG},
    {QFS_OVERFLOW, EOVERFLOW},
    {QFS_INVALID, EINVAL},
    {QFS_CROSS, EXDEV},
    {QFS_CANCELED, EINTR},
    {QFS_BUSY, EBUSY},
    {QFS_TOO_MANY_LINKS, EMLINK},
};

static void test_every_status(void) {
  for (gsize i = 0; i < G_N_ELEMENTS(table); i++)
    g_assert_cmpint(qfs_status_to_errno(table[i].status), ==, table[i].error);
  /* The table is complete: its statuses are consecutive and the next number has no name. */
  for (gsize i = 0; i < G_N_ELEMENTS(table); i++)
    g_assert_cmpint((int)table[i].status, ==, (int)i);
  g_assert_cmpint((int)QFS_TOO_MANY_LINKS + 1, ==, (int)G_N_ELEMENTS(table));
}

static void test_never_misleading(void) {
  for (gsize i = 0; i < G_N_ELEMENTS(table); i++) {
    int error = qfs_status_to_errno(table[i].status);
    g_assert_cmpint(error, !=, EACCES);
    g_assert_cmpint(error, !=, ENOTCONN);
    g_assert_true((error == EINTR) == (table[i].status == QFS_CANCELED));
    g_assert_true((error == 0) == (table[i].status == QFS_OK));
  }
}

int main(int argc, char **argv) {
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/fs/errno-map/every-status-has-its-errno", test_every_status);
  g_test_add_func("/fs/errno-map/no-outcome-looks-like-another-trouble", test_never_misleading);
  return g_test_run();
}
