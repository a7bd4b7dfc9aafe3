/* change.c - see change.h. Safe across threads: `order` is held while the watcher is called and while it is
 * exchanged, `lock` guards the queue; order before lock. */
#include "cluster/change.h"

#include <pthread.h>

typedef struct {
  QfsChangeKind kind;
  QfsRecord *record;
  char *former_key;
  GList link;
} Entry;

struct QfsChangeFeed {
  pthread_mutex_t order;
  QfsChangeFunc func; /* order */
  gpointer user_data; /* order */
  gint watched;       /* atomic: func is not NULL */
  pthread_mutex_t lock;
  GQueue queue;       /* lock: Entry */
};

const char *qfs_change_kind_name(QfsChangeKind kind) {
  switch (kind) {
  case QFS_CHANGE_NONE:
    return "none";
  case QFS_CHANGE_PUT:
    return "put";
  case QFS_CHANGE_ATTR:
    return "attr";
  case QFS_CHANGE_MKDIR:
    return "mkdir";
  case QFS_CHANGE_SYMLINK:
    return "symlink";
  case QFS_CHANGE_MKNOD:
    return "mknod";
  case QFS_CHANGE_DELETE:
    return "delete";
  case QFS_CHANGE_RENAME:
    return "rename";
  case QFS_CHANGE_LINK:
    return "link";
  }
  return "none";
}

QfsChangeFeed *qfs_change_feed_new(void) {
  QfsChangeFeed *feed = g_new0(QfsChangeFeed, 1);
  pthread_mutex_init(&feed->order, NULL);
  pthread_mutex_init(&feed->lock, NULL);
  g_queue_init(&feed->queue);
  return feed;
}

static void entry_free(Entry *entry) {
  qfs_record_unref(entry->record);
  g_free(entry->former_key);
  g_slice_free(Entry, entry);
}

static Entry *take(QfsChangeFeed *feed) {
  pthread_mutex_lock(&feed->lock);
  GList *link = g_queue_pop_head_link(&feed->queue);
  pthread_mutex_unlock(&feed->lock);
  return link != NULL ? link->data : NULL;
}

void qfs_change_feed_free(QfsChangeFeed *feed) {
  if (feed == NULL)
    return;
  for (Entry *entry = take(feed); entry != NULL; entry = take(feed))
    entry_free(entry);
  pthread_mutex_destroy(&feed->order);
  pthread_mutex_destroy(&feed->lock);
  g_free(feed);
}

void qfs_change_feed_watch(QfsChangeFeed *feed, QfsChangeFunc func, gpointer user_data) {
  pthread_mutex_lock(&feed->order);
  feed->func = func;
  feed->user_data = user_data;
  g_atomic_int_set(&feed->watched, func != NULL);
  pthread_mutex_unlock(&feed->order);
}

gboolean qfs_change_feed_push(QfsChangeFeed *feed, const QfsChange *change) {
  if (!g_atomic_int_get(&feed->watched))
    return FALSE;
  Entry *entry = g_slice_new0(Entry);
  entry->kind = change->kind;
  entry->record = qfs_record_ref(change->record);
  entry->former_key = g_strdup(change->former_key);
  entry->link.data = entry;
  pthread_mutex_lock(&feed->lock);
  g_queue_push_tail_link(&feed->queue, &entry->link);
  pthread_mutex_unlock(&feed->lock);
  return TRUE;
}

void qfs_change_feed_deliver(QfsChangeFeed *feed) {
  pthread_mutex_lock(&feed->order);
  for (Entry *entry = take(feed); entry != NULL; entry = take(feed)) {
    const QfsChange change = {entry->kind, entry->record, entry->former_key};
    if (feed->func != NULL)
      feed->func(&change, feed->user_data);
    entry_free(entry);
  }
  pthread_mutex_unlock(&feed->order);
}
