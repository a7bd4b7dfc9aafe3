/* memtable.c - see memtable.h. */
#include "storage/memtable.h"

#include <pthread.h>
#include <string.h>

struct QfsMemtable {
  char *dir;             /* constant; NULL: in no table */
  guint refs;            /* tables_lock */
  pthread_mutex_t lock;
  GHashTable *records;   /* lock: key -> QfsRecord, which owns the key */
  gint size;             /* atomic: of `records` */
  gint has_writer;       /* atomic */
};

static pthread_mutex_t tables_lock = PTHREAD_MUTEX_INITIALIZER;
static GHashTable *tables; /* tables_lock: dir -> QfsMemtable; NULL: none */

static QfsMemtable *table_new(const char *dir) {
  QfsMemtable *table = g_new0(QfsMemtable, 1);
  table->dir = g_strdup(dir);
  pthread_mutex_init(&table->lock, NULL);
  table->records = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify)qfs_record_unref);
  return table;
}

QfsMemtable *qfs_memtable_get(const char *dir) {
  pthread_mutex_lock(&tables_lock);
  if (tables == NULL)
    tables = g_hash_table_new(g_str_hash, g_str_equal);
  QfsMemtable *table = dir != NULL ? g_hash_table_lookup(tables, dir) : NULL;
  if (table == NULL) {
    table = table_new(dir);
    if (dir != NULL)
      g_hash_table_insert(tables, table->dir, table);
  }
  table->refs++;
  pthread_mutex_unlock(&tables_lock);
  return table;
}

void qfs_memtable_release(QfsMemtable *table) {
  if (table == NULL)
    return;
  pthread_mutex_lock(&tables_lock);
  const gboolean last = --table->refs == 0;
  if (last && table->dir != NULL)
    g_hash_table_remove(tables, table->dir);
  pthread_mutex_unlock(&tables_lock);
  if (!last)
    return;
  g_hash_table_unref(table->records);
  pthread_mutex_destroy(&table->lock);
  g_free(table->dir);
  g_free(table);
}

void qfs_memtable_set_writer(QfsMemtable *table, gboolean has_writer) {
  qfs_memtable_clear(table);
  g_atomic_int_set(&table->has_writer, has_writer);
}

gboolean qfs_memtable_has_writer(QfsMemtable *table) { return g_atomic_int_get(&table->has_writer); }

guint qfs_memtable_size(QfsMemtable *table) { return (guint)g_atomic_int_get(&table->size); }

QfsRecord *qfs_memtable_find(QfsMemtable *table, const char *key) {
  if (qfs_memtable_size(table) == 0)
    return NULL;
  pthread_mutex_lock(&table->lock);
  const QfsRecord *record = g_hash_table_lookup(table->records, key);
  QfsRecord *found = record != NULL ? qfs_record_ref(record) : NULL;
  pthread_mutex_unlock(&table->lock);
  return found;
}

void qfs_memtable_put(QfsMemtable *table, GPtrArray *records) {
  pthread_mutex_lock(&table->lock);
  for (guint i = 0; i < records->len; i++) {
    QfsRecord *record = qfs_record_ref(records->pdata[i]);
    g_hash_table_replace(table->records, record->key, record);
  }
  g_atomic_int_set(&table->size, (gint)g_hash_table_size(table->records));
  pthread_mutex_unlock(&table->lock);
}

void qfs_memtable_clear(QfsMemtable *table) {
  pthread_mutex_lock(&table->lock);
  g_hash_table_remove_all(table->records);
  g_atomic_int_set(&table->size, 0);
  pthread_mutex_unlock(&table->lock);
}

static gint order(gconstpointer a, gconstpointer b) {
  return qfs_key_order((*(QfsRecord *const *)a)->key, (*(QfsRecord *const *)b)->key);
}

static gboolean is_child(const QfsRecord *record, const char *dir, const char *after) {
  gsize len;
  const char *name;
  qfs_key_split(record->key, &len, &name);
  return strlen(dir) == len && memcmp(dir, record->key, len) == 0 && strcmp(name, after) > 0;
}

/* dir NULL: of all. */
static GPtrArray *collect(QfsMemtable *table, const char *dir, const char *after) {
  GPtrArray *out = g_ptr_array_new_with_free_func((GDestroyNotify)qfs_record_unref);
  GHashTableIter iter;
  gpointer value;
  if (qfs_memtable_size(table) == 0)
    return out;
  pthread_mutex_lock(&table->lock);
  g_hash_table_iter_init(&iter, table->records);
  while (g_hash_table_iter_next(&iter, NULL, &value))
    if (dir == NULL || is_child(value, dir, after))
      g_ptr_array_add(out, qfs_record_ref(value));
  pthread_mutex_unlock(&table->lock);
  g_ptr_array_sort(out, order);
  return out;
}

GPtrArray *qfs_memtable_all(QfsMemtable *table) { return collect(table, NULL, NULL); }

GPtrArray *qfs_memtable_children(QfsMemtable *table, const char *dir, const char *after) {
  return collect(table, dir, after);
}
