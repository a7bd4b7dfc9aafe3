/* Goal: the file of changes keeps its promises (fs/events.h): it grows, forgets whole lines, and tells who fell
 * behind; and changes reach the watcher once and in order (cluster/change.h). */
#include "fs/events.h"

#include <errno.h>
#include <string.h>

static GPtrArray *returned; /* tokens, with '+' before those that are readable */

static void on_wake(gpointer token, gboolean readable, gpointer user_data) {
  g_ptr_array_add(returned, g_strconcat(readable ? "+" : "-", token, NULL));
}

static void set_up(void) {
  g_clear_pointer(&returned, g_ptr_array_unref);
  returned = g_ptr_array_new_with_free_func(g_free);
}

static void add(QfsEvents *events, QfsChangeKind kind, guint64 timestamp, const char *key, const char *former) {
  g_autoptr(QfsRecord) record = qfs_record_new_tombstone(key, timestamp);
  qfs_events_add(events, &(QfsChange){kind, record, former});
}

static void reads(QfsEventsReader *reader, guint64 offset, gsize size, const char *expected) {
  g_autoptr(GBytes) data = NULL;
  g_assert_cmpint(qfs_events_read(reader, offset, size, &data), ==, 0);
  g_autofree char *text = g_strndup(g_bytes_get_data(data, NULL), g_bytes_get_size(data));
  g_assert_cmpstr(text, ==, expected);
}

/* One change is one line, whatever is in the names. */
static void test_lines(void) {
  set_up();
  QfsEvents *events = qfs_events_new(1000, on_wake, NULL);
  QfsEventsReader *reader = qfs_events_open(events);
  add(events, QFS_CHANGE_PUT, G_MAXUINT64, "a/b c", NULL);
  add(events, QFS_CHANGE_MKDIR, 1, "", NULL);
  add(events, QFS_CHANGE_DELETE, 2, "x\ny\\z\x01\xc3\xa4\t", NULL);
  add(events, QFS_CHANGE_RENAME, 3, "new\tname", "old name");
  const char *text = "18446744073709551615 put a/b c\n"
                     "1 mkdir .\n"
                     "2 delete x\\ny\\\\z\\0001\xc3\xa4\\t\n"
                     "3 rename old name\tnew\\tname\n";
  reads(reader, 0, 1000, text);
  g_assert_cmpuint(qfs_events_size(events), ==, strlen(text));
  reads(reader, strlen(text), 1000, "");
  reads(reader, strlen(text) + 50, 1000, "");
  reads(reader, 4, 5, "67440");
  qfs_events_close(reader);
  qfs_events_free(events);
}

static void test_escaping(void) {
  for (guint byte = 1; byte < 256; byte++) {
    char key[] = {'a', (char)byte, '0', '1', 0};
    g_autoptr(GString) escaped = g_string_new(NULL);
    qfs_events_escape(escaped, key);
    for (const char *c = escaped->str; *c != '\0'; c++)
      g_assert_true((guchar)*c >= 0x20 && *c != 0x7f);
    g_autofree char *back = qfs_events_unescape(escaped->str, escaped->len);
    g_assert_cmpstr(back, ==, key);
  }
  /* What was not made by the above is taken as it is. */
  g_autofree char *odd = qfs_events_unescape("\\q\\01\\", 6);
  g_assert_cmpstr(odd, ==, "\\q\\01\\");
}

/* Bounded memory: whole lines go, the size stays true, and the beginning of the file is what is left. */
static void test_forgets_oldest(void) {
  set_up();
  QfsEvents *events = qfs_events_new(64, on_wake, NULL);
  QfsEventsReader *reader = qfs_events_open(events);
  for (guint i = 0; i < 100; i++)
    add(events, QFS_CHANGE_PUT, 10 + i, "k", NULL); /* 9 bytes up to 99, then 10 */
  g_assert_cmpuint(qfs_events_size(events), ==, 90 * 9 + 10 * 10);
  const char *left = "104 put k\n105 put k\n106 put k\n107 put k\n108 put k\n109 put k\n";
  reads(reader, 0, 1000, left);
  reads(reader, strlen(left), 1000, "");
  QfsEventsReader *tail = qfs_events_open(events); /* places count from the beginning of all */
  reads(tail, 90 * 9 + 10 * 9, 1000, "109 put k\n");
  g_autoptr(GBytes) data = NULL;
  g_assert_cmpint(qfs_events_read(tail, 9, 10, &data), ==, ENODATA);
  qfs_events_close(tail);
  qfs_events_close(reader);
  qfs_events_free(events);
}

/* Who fell behind is told so, how much he missed, and goes on behind that. */
static void test_falls_behind(void) {
  set_up();
  QfsEvents *events = qfs_events_new(64, on_wake, NULL);
  QfsEventsReader *whole = qfs_events_open(events), *half = qfs_events_open(events);
  for (guint i = 0; i < 4; i++)
    add(events, QFS_CHANGE_PUT, 10 + i, "k", NULL);
  reads(whole, 0, 18, "10 put k\n11 put k\n");
  reads(half, 0, 21, "10 put k\n11 put k\n12 ");
  for (guint i = 0; i < 10; i++)
    add(events, QFS_CHANGE_PUT, 20 + i, "k", NULL); /* 23 ... 29 are left */
  reads(whole, 18, 1000, "0 lost 5\n");
  reads(whole, 27, 20, "23 put k\n24 put k\n25");
  reads(whole, 47, 1000, " put k\n26 put k\n27 put k\n28 put k\n29 put k\n");
  reads(half, 21, 3, "\n0 ");
  reads(half, 24, 100, "lost 5\n");
  add(events, QFS_CHANGE_PUT, 30, "k", NULL); /* and again: 23 is gone, too */
  reads(half, 31, 1000, "0 lost 1\n");
  reads(half, 40, 9, "24 put k\n");
  qfs_events_close(whole);
  qfs_events_close(half);
  qfs_events_free(events);
}

/* A token comes back once: when there is something to read, replaced, or at the close. */
static void test_poll(void) {
  set_up();
  QfsEvents *events = qfs_events_new(64, on_wake, NULL);
  QfsEventsReader *reader = qfs_events_open(events), *other = qfs_events_open(events);
  g_assert_false(qfs_events_poll(reader, (gpointer) "a"));
  g_assert_false(qfs_events_poll(reader, (gpointer) "b"));
  g_assert_false(qfs_events_poll(other, (gpointer) "c"));
  g_assert_cmpuint(returned->len, ==, 1);
  g_assert_cmpstr(returned->pdata[0], ==, "-a");
  qfs_events_close(other);
  g_assert_cmpstr(returned->pdata[1], ==, "-c");
  add(events, QFS_CHANGE_PUT, 1, "k", NULL);
  g_assert_cmpuint(returned->len, ==, 3);
  g_assert_cmpstr(returned->pdata[2], ==, "+b");
  g_assert_true(qfs_events_poll(reader, (gpointer) "d"));
  g_assert_cmpstr(returned->pdata[3], ==, "-d");
  reads(reader, 0, 100, "1 put k\n");
  g_assert_false(qfs_events_poll(reader, NULL));
  add(events, QFS_CHANGE_PUT, 2, "k", NULL);
  g_assert_true(qfs_events_poll(reader, NULL));
  g_assert_cmpuint(returned->len, ==, 4);
  qfs_events_close(reader);
  qfs_events_free(events);
}

/* ---- the feed ---- */

#define THREADS 4
#define CHANGES 5000

typedef struct {
  QfsChangeFeed *feed;
  GMutex lock; /* the coordinator's: pushes come one at a time */
  guint64 pushed;
  guint64 delivered; /* by the watcher, which is called by one thread at a time */
  gint inside;
} Feed;

static void on_change(const QfsChange *change, gpointer user_data) {
  Feed *feed = user_data;
  g_assert_true(g_atomic_int_compare_and_exchange(&feed->inside, 0, 1));
  g_assert_cmpuint(change->record->timestamp, ==, feed->delivered + 1);
  feed->delivered++;
  g_atomic_int_set(&feed->inside, 0);
}

static gpointer push_some(gpointer data) {
  Feed *feed = data;
  for (guint i = 0; i < CHANGES; i++) {
    g_mutex_lock(&feed->lock);
    guint64 own = ++feed->pushed;
    g_autoptr(QfsRecord) record = qfs_record_new_tombstone("k", own);
    g_assert_true(qfs_change_feed_push(feed->feed, &(QfsChange){QFS_CHANGE_DELETE, record, NULL}));
    g_mutex_unlock(&feed->lock);
    qfs_change_feed_deliver(feed->feed);
    g_assert_cmpuint(__atomic_load_n(&feed->delivered, __ATOMIC_RELAXED), >=, own); /* W2 */
  }
  return NULL;
}

static void test_feed_keeps_order(void) {
  Feed feed = {.feed = qfs_change_feed_new()};
  g_autoptr(QfsRecord) record = qfs_record_new_tombstone("k", 1);
  const QfsChange change = {QFS_CHANGE_DELETE, record, NULL};
  g_mutex_init(&feed.lock);
  g_assert_false(qfs_change_feed_push(feed.feed, &change)); /* nobody watches */
  qfs_change_feed_watch(feed.feed, on_change, &feed);
  GThread *threads[THREADS];
  for (guint i = 0; i < THREADS; i++)
    threads[i] = g_thread_new("push", push_some, &feed);
  for (guint i = 0; i < THREADS; i++)
    g_thread_join(threads[i]);
  g_assert_cmpuint(feed.delivered, ==, THREADS * CHANGES);
  qfs_change_feed_watch(feed.feed, NULL, NULL);
  g_assert_false(qfs_change_feed_push(feed.feed, &change));
  qfs_change_feed_deliver(feed.feed);
  qfs_change_feed_free(feed.feed);
  g_mutex_clear(&feed.lock);
}

int main(int argc, char **argv) {
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/fs/events/a-change-is-one-line", test_lines);
  g_test_add_func("/fs/events/escaping-is-undone", test_escaping);
  g_test_add_func("/fs/events/the-oldest-lines-go", test_forgets_oldest);
  g_test_add_func("/fs/events/who-falls-behind-is-told", test_falls_behind);
  g_test_add_func("/fs/events/tokens-come-back-once", test_poll);
  g_test_add_func("/cluster/change/once-and-in-order-from-many-threads", test_feed_keeps_order);
  int status = g_test_run();
  g_clear_pointer(&returned, g_ptr_array_unref);
  return status;
}
