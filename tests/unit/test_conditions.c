/* Goal: a condition is taken by the write that is meant, by nobody else's, and once (fs/conditions.h). */
#include "fs/conditions.h"

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The processes that there are: {thread, process, start, parent, parent's start}. */
static QfsProcess table[16];
static guint n_table;

static gboolean read_table(pid_t thread, QfsProcess *out) {
  for (guint i = 0; i < n_table; i++)
    if (table[i].thread == thread) {
      *out = table[i];
      return TRUE;
    }
  return FALSE;
}

static void lives(pid_t thread, pid_t process, guint64 start, pid_t parent, guint64 parent_start) {
  table[n_table++] = (QfsProcess){thread, process, start, parent, parent_start};
}

static void ends(pid_t thread) {
  for (guint i = 0; i < n_table; i++)
    if (table[i].thread == thread)
      table[i] = table[--n_table];
}

/* Shells 10 and 20, children of 1; 11, 12 run by 10; a program 30 with the threads 30, 31, 32 and a child 33. */
static QfsConditions *set_up(void) {
  n_table = 0;
  lives(1, 1, 100, 0, 0);
  lives(10, 10, 110, 1, 100);
  lives(20, 20, 120, 1, 100);
  lives(11, 11, 111, 10, 110);
  lives(12, 12, 112, 10, 110);
  lives(30, 30, 130, 10, 110);
  lives(31, 30, 130, 10, 110);
  lives(32, 30, 130, 10, 110);
  lives(33, 33, 133, 30, 130);
  return qfs_conditions_new(read_table);
}

static void sets(QfsConditions *conditions, guint64 file, pid_t thread, guint64 timestamp) {
  g_assert_cmpint(qfs_conditions_set(conditions, file, "k", thread, timestamp), ==, 0);
}

static void takes(QfsConditions *conditions, guint64 file, const char *key, pid_t thread, guint64 expected) {
  guint64 timestamp = 0;
  g_assert_cmpint(qfs_conditions_take(conditions, file, key, thread, &timestamp), ==, QFS_CONDITION_FOUND);
  g_assert_cmpuint(timestamp, ==, expected);
}

static void takes_none(QfsConditions *conditions, guint64 file, const char *key, pid_t thread) {
  guint64 timestamp = 77;
  g_assert_cmpint(qfs_conditions_take(conditions, file, key, thread, &timestamp), ==, QFS_CONDITION_NONE);
  g_assert_cmpuint(timestamp, ==, 77);
}

static void test_program(void) {
  QfsConditions *conditions = set_up();
  takes_none(conditions, 5, "k", 30);
  sets(conditions, 5, 30, 1);
  takes_none(conditions, 6, "other", 30);
  takes_none(conditions, 5, "k", 12); /* another child of the same shell */
  takes_none(conditions, 5, "k", 10); /* the shell, while the program lives */
  takes_none(conditions, 5, "k", 20);
  takes(conditions, 5, "k", 30, 1);
  takes_none(conditions, 5, "k", 30);
  sets(conditions, 5, 30, 2);
  takes(conditions, 5, "k", 33, 2); /* a child of the program */
  sets(conditions, 5, 30, 3);
  sets(conditions, 5, 30, 4); /* replaced */
  takes(conditions, 5, "k", 30, 4);
  takes_none(conditions, 5, "k", 30);
  qfs_conditions_free(conditions);
}

static void test_threads(void) {
  QfsConditions *conditions = set_up();
  sets(conditions, 5, 30, 1);
  sets(conditions, 5, 31, 2);
  guint64 timestamp;
  g_assert_cmpint(qfs_conditions_take(conditions, 5, "k", 32, &timestamp), ==, QFS_CONDITION_UNCLEAR);
  takes(conditions, 5, "k", 31, 2);
  g_assert_cmpint(qfs_conditions_take(conditions, 5, "k", 31, &timestamp), ==, QFS_CONDITION_UNCLEAR);
  takes(conditions, 5, "k", 30, 1);
  takes_none(conditions, 5, "k", 31);
  sets(conditions, 5, 31, 3);
  ends(31);
  takes(conditions, 5, "k", 32, 3); /* of a thread that has ended */
  sets(conditions, 5, 30, 4);
  sets(conditions, 5, 32, 5);
  g_assert_cmpint(qfs_conditions_take(conditions, 5, "k", 33, &timestamp), ==, QFS_CONDITION_UNCLEAR);
  qfs_conditions_free(conditions);
}

static void test_script(void) {
  QfsConditions *conditions = set_up();
  sets(conditions, 5, 11, 1); /* setfattr */
  ends(11);
  takes_none(conditions, 5, "k", 20);
  takes(conditions, 5, "k", 10, 1); /* echo, by the shell itself */
  lives(11, 11, 115, 10, 110);
  sets(conditions, 5, 11, 2);
  ends(11);
  takes(conditions, 5, "k", 12, 2); /* cat, run by the shell */
  lives(11, 11, 116, 10, 110);
  sets(conditions, 5, 11, 3);
  ends(11);
  lives(11, 11, 117, 10, 110); /* the number once more: another setfattr */
  sets(conditions, 5, 11, 4);
  ends(11);
  takes(conditions, 5, "k", 10, 4);
  takes_none(conditions, 5, "k", 10);
  lives(11, 11, 118, 10, 110);
  sets(conditions, 5, 11, 5);
  ends(11);
  takes(conditions, 5, "k", 33, 5); /* in a subshell of a subshell */
  qfs_conditions_free(conditions);
}

/* `timeout 5 setfattr`, or setfattr in a subshell. */
static void test_wrapped(void) {
  QfsConditions *conditions = set_up();
  lives(13, 13, 113, 12, 112);
  sets(conditions, 5, 13, 1);
  ends(13);
  takes_none(conditions, 5, "k", 10); /* 12, which ran it, still lives */
  ends(12);
  takes(conditions, 5, "k", 10, 1);
  sets(conditions, 5, 20, 2);
  ends(20);
  takes_none(conditions, 5, "k", 1); /* init is nobody's shell */
  takes_none(conditions, 5, "k", 10);
  qfs_conditions_free(conditions);
}

static void test_numbers_given_anew(void) {
  QfsConditions *conditions = set_up();
  sets(conditions, 5, 33, 1);
  ends(33);
  ends(30);
  lives(30, 30, 999, 20, 120); /* has the number of the one that is meant */
  takes_none(conditions, 5, "k", 30);
  sets(conditions, 5, 11, 2);
  ends(11);
  lives(11, 11, 998, 20, 120); /* that of setfattr */
  takes_none(conditions, 5, "k", 11);
  takes(conditions, 5, "k", 10, 2);
  qfs_conditions_free(conditions);
}

static void test_files(void) {
  QfsConditions *conditions = set_up();
  sets(conditions, 5, 30, 1);
  takes(conditions, 5, "renamed", 30, 1);
  sets(conditions, 5, 30, 2);
  takes(conditions, 6, "k", 30, 2); /* deleted and made anew */
  qfs_conditions_free(conditions);
}

/* The kernel repeats an open that fails with ESTALE. */
static void test_opens(void) {
  QfsConditions *conditions = set_up();
  guint64 timestamp, id;
  sets(conditions, 5, 30, 1);
  for (guint i = 0; i < 2; i++) {
    g_assert_cmpint(qfs_conditions_look(conditions, 0, "k", 30, &timestamp, &id), ==, QFS_CONDITION_FOUND);
    g_assert_cmpuint(timestamp, ==, 1);
    qfs_conditions_refused(conditions, id);
  }
  takes_none(conditions, 5, "k", 30);
  sets(conditions, 5, 30, 2);
  g_assert_cmpint(qfs_conditions_look(conditions, 5, NULL, 30, &timestamp, &id), ==, QFS_CONDITION_FOUND);
  g_assert_true(qfs_conditions_any(conditions));
  qfs_conditions_used(conditions, id);
  g_assert_false(qfs_conditions_any(conditions));
  qfs_conditions_used(conditions, id);
  qfs_conditions_free(conditions);
}

static void test_bound(void) {
  QfsConditions *conditions = set_up();
  g_assert_cmpint(qfs_conditions_set(conditions, 5, "k", 0, 1), ==, EOPNOTSUPP);
  g_assert_cmpint(qfs_conditions_set(conditions, 5, "k", 99, 1), ==, EOPNOTSUPP);
  for (guint i = 0; i < QFS_CONDITIONS_MAX; i++) {
    g_autofree char *key = g_strdup_printf("k%u", i);
    g_assert_cmpint(qfs_conditions_set(conditions, 100 + i, key, 33, i), ==, 0);
  }
  g_assert_cmpint(qfs_conditions_set(conditions, 5, "k", 30, 1), ==, ENOSPC);
  ends(33);
  g_assert_cmpint(qfs_conditions_set(conditions, 5, "k", 10, 1), ==, ENOSPC);
  ends(30);
  g_assert_cmpint(qfs_conditions_set(conditions, 5, "k", 10, 1), ==, ENOSPC);
  ends(10); /* all these are gone */
  g_assert_cmpint(qfs_conditions_set(conditions, 5, "k", 20, 1), ==, 0);
  qfs_conditions_free(conditions);
}

static void test_own_process(void) {
  QfsProcess self, parent;
  g_assert_true(qfs_process_read((pid_t)syscall(SYS_gettid), &self));
  g_assert_cmpint(self.process, ==, getpid());
  g_assert_cmpint(self.parent, ==, getppid());
  g_assert_cmpuint(self.start, >, 0);
  g_assert_true(qfs_process_read(getppid(), &parent));
  g_assert_cmpuint(parent.start, ==, self.parent_start);
  g_assert_false(qfs_process_read(0, &self));
}

int main(int argc, char **argv) {
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/fs/conditions/of-a-program", test_program);
  g_test_add_func("/fs/conditions/of-threads", test_threads);
  g_test_add_func("/fs/conditions/of-a-script", test_script);
  g_test_add_func("/fs/conditions/of-a-script-that-wraps-its-helper", test_wrapped);
  g_test_add_func("/fs/conditions/numbers-of-processes-are-given-anew", test_numbers_given_anew);
  g_test_add_func("/fs/conditions/files-by-number-and-by-key", test_files);
  g_test_add_func("/fs/conditions/opens-look-first", test_opens);
  g_test_add_func("/fs/conditions/bounded", test_bound);
  g_test_add_func("/fs/conditions/processes-are-read-from-proc", test_own_process);
  return g_test_run();
}
