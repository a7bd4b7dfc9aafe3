#include "tests/lib/engine_memory.h"

#include <string.h>
#include <sys/stat.h>

/* Longer values go to an object, as in the product, so that READ and pins have something to do. */
#define INLINE_MAX 16384

typedef struct {
  GBytes *data;
  guint64 version; /* timestamp of the record that it belongs to now */
  guint pins;
  gboolean dropped; /* no record has it any more */
} Object;

typedef struct {
  QfsEngine engine;
  GMutex lock;
  GHashTable *dirs;      /* lock: directory -> GTree of name -> QfsRecord, tombstones left out */
  GHashTable *objects;   /* lock: unique -> Object */
  guint64 clock;         /* lock */
  guint64 next_object;   /* lock */
  gboolean quorum;       /* lock */
  QfsStatus fail_status; /* lock */
  guint fail_count;      /* lock */
  guint delay_us;
  GAsyncQueue *queue;
  GThread *thread;
} Memory;

static QfsRequest stop_request;

/* --- records and objects --- */

static int compare_names(gconstpointer a, gconstpointer b, gpointer data) {
  return strcmp(a, b);
}

static GTree *dir_tree(Memory *m, const char *key, const char **out_name, gboolean make) {
  gsize len;
  qfs_key_split(key, &len, out_name);
  char *dir = *key == '\0' ? g_strdup("//") : g_strndup(key, len); /* the root's own record */
  GTree *tree = g_hash_table_lookup(m->dirs, dir);
  if (tree == NULL && make) {
    tree = g_tree_new_full(compare_names, NULL, g_free, (GDestroyNotify)qfs_record_unref);
    g_hash_table_insert(m->dirs, dir, tree);
    return tree;
  }
  g_free(dir);
  return tree;
}

static QfsRecord *find(Memory *m, const char *key) {
  const char *name;
  GTree *tree = dir_tree(m, key, &name, FALSE);
  return tree != NULL ? g_tree_lookup(tree, name) : NULL;
}

static void object_free(gpointer data) {
  Object *object = data;
  g_bytes_unref(object->data);
  g_free(object);
}

static Object *object_of(Memory *m, QfsObjectId id) {
  return g_hash_table_lookup(m->objects, &id.unique);
}

static void object_release(Memory *m, QfsObjectId id) {
  Object *object = object_of(m, id);
  if (object == NULL)
    return;
  object->dropped = TRUE;
  if (object->pins == 0)
    g_hash_table_remove(m->objects, &id.unique);
}

static Object *object_make(Memory *m, QfsRecord *record) {
  Object *object = g_new0(Object, 1);
  object->data = g_bytes_new_static("", 0);
  record->object = (QfsObjectId){1, ++m->next_object};
  g_hash_table_insert(m->objects, g_memdup2(&record->object.unique, sizeof(guint64)), object);
  return object;
}

static void store(Memory *m, QfsRecord *record) {
  const char *name;
  GTree *tree = dir_tree(m, record->key, &name, TRUE);
  g_tree_replace(tree, g_strdup(name), qfs_record_ref(record));
}

static void erase(Memory *m, const char *key) {
  const char *name;
  GTree *tree = dir_tree(m, key, &name, FALSE);
  if (tree != NULL)
    g_tree_remove(tree, name);
}

static gboolean has_children(Memory *m, const char *key) {
  GTree *tree = g_hash_table_lookup(m->dirs, key);
  return tree != NULL && g_tree_nnodes(tree) > 0;
}

static QfsStatus check_parent(Memory *m, const char *key) {
  if (*key == '/' || *key == '\0')
    return QFS_OK;
  g_autofree char *parent = qfs_key_parent(key);
  QfsRecord *record = find(m, parent);
  if (record == NULL)
    return QFS_NOT_FOUND;
  return record->kind == QFS_KIND_DIRECTORY ? QFS_OK : QFS_NOT_DIRECTORY;
}

static QfsRecord *next_version(Memory *m, const QfsRecord *old, const char *key) {
  QfsRecord *record;
  if (old != NULL) {
    record = qfs_record_copy(old);
    g_free(record->key);
    record->key = g_strdup(key);
  } else {
    record = qfs_record_new(key);
  }
  m->clock = MAX(m->clock, old != NULL ? old->timestamp : 0) + 1;
  record->timestamp = m->clock;
  return record;
}

static GBytes *contents(Memory *m, const QfsRecord *record) {
  if (record == NULL)
    return g_bytes_new_static("", 0);
  if (qfs_object_is_none(record->object))
    return g_bytes_ref(record->tail);
  Object *object = object_of(m, record->object);
  return g_bytes_ref(object->data);
}

/* Gives `record` these contents; `fresh`: not in the old version's object. Takes `data`. */
static void set_contents(Memory *m, QfsRecord *record, GBytes *data, gboolean fresh) {
  gsize size = g_bytes_get_size(data);
  record->attr.size = size;
  if (size <= INLINE_MAX && (fresh || qfs_object_is_none(record->object))) {
    if (!qfs_object_is_none(record->object))
      object_release(m, record->object);
    record->object = (QfsObjectId){0, 0};
    record->tail_offset = 0;
    g_bytes_unref(record->tail);
    record->tail = data;
    return;
  }
  Object *object = qfs_object_is_none(record->object) ? NULL : object_of(m, record->object);
  if (fresh && object != NULL) {
    object_release(m, record->object);
    object = NULL;
  }
  if (object == NULL)
    object = object_make(m, record);
  g_bytes_unref(object->data);
  object->data = data;
  object->version = record->timestamp;
  record->tail_offset = size;
  g_bytes_unref(record->tail);
  record->tail = g_bytes_new_static("", 0);
}

static GBytes *patched(GBytes *old, guint64 offset, GBytes *data, guint64 size) {
  gsize old_size, data_size = 0;
  gconstpointer old_bytes = g_bytes_get_data(old, &old_size);
  gconstpointer bytes = data != NULL ? g_bytes_get_data(data, &data_size) : NULL;
  guint8 *result = g_malloc0(size + 1);
  if (old_size > 0)
    memcpy(result, old_bytes, MIN(old_size, size));
  if (data_size > 0)
    memcpy(result + offset, bytes, data_size);
  return g_bytes_new_take(result, size);
}

/* --- requests --- */

static QfsStatus do_get(Memory *m, QfsRequest *r) {
  QfsRecord *record = find(m, r->key);
  if (record == NULL)
    return QFS_NOT_FOUND;
  r->record = qfs_record_ref(record);
  return QFS_OK;
}

static QfsStatus do_read(Memory *m, QfsRequest *r) {
  g_autoptr(GBytes) data = NULL;
  if (qfs_object_is_none(r->record->object)) {
    data = g_bytes_ref(r->record->tail);
  } else {
    Object *object = object_of(m, r->record->object);
    if (object == NULL || object->version != r->record->timestamp)
      return QFS_STALE;
    data = g_bytes_ref(object->data);
  }
  gsize size = g_bytes_get_size(data);
  gsize from = MIN(r->offset, size);
  r->data = g_bytes_new_from_bytes(data, from, MIN(r->length, size - from));
  return QFS_OK;
}

static QfsStatus do_list(Memory *m, QfsRequest *r) {
  r->entries = g_ptr_array_new_with_free_func((GDestroyNotify)qfs_record_unref);
  QfsRecord *self = *r->key == '/' ? NULL : find(m, r->key);
  if (*r->key != '/' && self == NULL)
    return QFS_NOT_FOUND;
  if (self != NULL && self->kind != QFS_KIND_DIRECTORY)
    return QFS_NOT_DIRECTORY;
  GTree *tree = g_hash_table_lookup(m->dirs, r->key);
  if (tree == NULL)
    return QFS_OK;
  GTreeNode *node = r->after != NULL ? g_tree_upper_bound(tree, r->after) : g_tree_node_first(tree);
  for (; node != NULL && r->entries->len < r->limit; node = g_tree_node_next(node)) {
    QfsRecord *record = qfs_record_copy(g_tree_node_value(node));
    if (record->kind != QFS_KIND_SYMLINK) {
      g_bytes_unref(record->tail);
      record->tail = g_bytes_new_static("", 0);
    }
    g_ptr_array_add(r->entries, record);
  }
  r->more = node != NULL;
  return QFS_OK;
}

static void make_parents(Memory *m, QfsRequest *r) {
  for (const char *slash = strchr(r->key, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
    g_autofree char *dir = g_strndup(r->key, slash - r->key);
    if (find(m, dir) != NULL)
      continue;
    g_autoptr(QfsRecord) record = next_version(m, NULL, dir);
    record->kind = QFS_KIND_DIRECTORY;
    record->attr = r->attr;
    record->attr.mode = S_IFDIR | 0755;
    store(m, record);
  }
}

static QfsStatus do_stage(Memory *m, QfsRequest *r) {
  g_autoptr(QfsRecord) scratch = qfs_record_new("");
  Object *object;
  if (qfs_object_is_none(r->object)) {
    object = object_make(m, scratch);
    r->object = scratch->object;
  } else {
    object = object_of(m, r->object);
  }
  if (object == NULL)
    return QFS_INVALID;
  guint64 size = MAX(g_bytes_get_size(object->data), r->offset + g_bytes_get_size(r->data));
  GBytes *data = patched(object->data, r->offset, r->data, size);
  g_bytes_unref(object->data);
  object->data = data;
  return QFS_OK;
}

static void take_xattrs(QfsRecord *record, GBytes *xattrs) {
  if (xattrs == NULL)
    return;
  g_bytes_unref(record->xattrs);
  record->xattrs = g_bytes_ref(xattrs);
}

static QfsStatus check_write(QfsRequest *r, const QfsRecord *old) {
  if (old != NULL && old->kind == QFS_KIND_DIRECTORY)
    return QFS_IS_DIRECTORY;
  if (old != NULL && (r->flags & QFS_WRITE_EXCLUSIVE))
    return QFS_EXISTS;
  if (old == NULL && (r->flags & QFS_WRITE_CREATE) == 0)
    return QFS_NOT_FOUND;
  if ((r->flags & QFS_WRITE_IF_TIMESTAMP) && r->if_timestamp != (old != NULL ? old->timestamp : 0))
    return QFS_STALE;
  return QFS_OK;
}

static QfsStatus do_write(Memory *m, QfsRequest *r) {
  if (r->flags & QFS_WRITE_STAGE)
    return do_stage(m, r);
  QfsRecord *old = find(m, r->key);
  if (old == NULL && (r->flags & QFS_WRITE_CREATE) && (r->flags & QFS_WRITE_PARENTS))
    make_parents(m, r);
  QfsStatus status = check_parent(m, r->key);
  if (status == QFS_OK)
    status = check_write(r, old);
  if (status != QFS_OK)
    return status;
  if ((r->flags & QFS_WRITE_TIMESTAMP) && old != NULL && r->timestamp < old->timestamp) {
    r->superseded = TRUE;
    r->superseded_by = old->timestamp;
    r->record = qfs_record_ref(old);
    return QFS_OK;
  }
  g_autoptr(QfsRecord) record = next_version(m, old, r->key);
  if (old == NULL) {
    record->kind = QFS_KIND_VALUE;
    record->attr = r->attr;
    record->attr.mode = S_IFREG | (r->attr.mode & 07777);
    if (record->attr.btime_ns == 0)
      record->attr.btime_ns = r->now_ns;
    record->attr.atime_ns = r->now_ns;
    take_xattrs(record, r->xattrs);
  }
  if (r->flags & QFS_WRITE_TIMESTAMP)
    record->timestamp = r->timestamp;
  if ((r->flags & QFS_WRITE_KEEP_SETID) == 0)
    record->attr.mode &= ~(guint32)S_ISUID;
  record->attr.mtime_ns = record->attr.ctime_ns = r->now_ns;
  if (r->flags & QFS_WRITE_STAGED) {
    if (!qfs_object_is_none(record->object))
      object_release(m, record->object);
    record->object = r->object;
    record->attr.size = record->tail_offset = r->staged_size;
    object_of(m, r->object)->version = record->timestamp;
  } else if (r->flags & (QFS_WRITE_ZERO | QFS_WRITE_GROW)) {
    g_autoptr(GBytes) base = contents(m, old);
    guint64 end = g_bytes_get_size(base), to = r->offset + r->length;
    guint64 stop = r->flags & QFS_WRITE_KEEP_SIZE ? MIN(to, end) : to;
    g_autoptr(GBytes) blank =
        (r->flags & QFS_WRITE_ZERO) && stop > r->offset ? g_bytes_new_take(g_malloc0(stop - r->offset), stop - r->offset) : NULL;
    set_contents(m, record, patched(base, blank != NULL ? r->offset : 0, blank, MAX(end, stop)), FALSE);
  } else {
    gboolean replace = (r->flags & QFS_WRITE_REPLACE) != 0 || old == NULL;
    g_autoptr(GBytes) base = contents(m, replace ? NULL : old);
    guint64 end = g_bytes_get_size(base);
    if (r->flags & QFS_WRITE_APPEND)
      r->offset = end;
    gsize len = g_bytes_get_size(r->data);
    GBytes *data = patched(base, r->offset, r->data, len > 0 ? MAX(end, r->offset + len) : end);
    set_contents(m, record, data, replace);
  }
  store(m, record);
  r->record = g_steal_pointer(&record);
  return QFS_OK;
}

static QfsStatus do_create(Memory *m, QfsRequest *r) {
  QfsStatus status = check_parent(m, r->key);
  if (status != QFS_OK)
    return status;
  if (find(m, r->key) != NULL)
    return QFS_EXISTS;
  g_autoptr(QfsRecord) record = next_version(m, NULL, r->key);
  record->kind = r->kind;
  record->attr = r->attr;
  record->attr.size = 0;
  take_xattrs(record, r->xattrs);
  if (r->data != NULL)
    set_contents(m, record, g_bytes_ref(r->data), TRUE);
  store(m, record);
  r->record = g_steal_pointer(&record);
  return QFS_OK;
}

static QfsStatus do_setattr(Memory *m, QfsRequest *r) {
  QfsRecord *old = find(m, r->key);
  if (old == NULL)
    return QFS_NOT_FOUND;
  if ((r->mask & QFS_ATTR_SIZE) && old->kind != QFS_KIND_VALUE)
    return old->kind == QFS_KIND_DIRECTORY ? QFS_IS_DIRECTORY : QFS_INVALID;
  if (r->mask == QFS_ATTR_ATIME && old->attr.atime_ns >= r->attr.atime_ns) {
    r->record = qfs_record_ref(old);
    return QFS_OK;
  }
  g_autoptr(QfsRecord) record = next_version(m, old, r->key);
  QfsAttr *attr = &record->attr;
  if (r->mask == QFS_ATTR_ATIME)
    record->timestamp = old->timestamp;
  if (r->mask & QFS_ATTR_MODE)
    attr->mode = (attr->mode & S_IFMT) | (r->attr.mode & 07777);
  if (r->mask & QFS_ATTR_UID)
    attr->uid = r->attr.uid;
  if (r->mask & QFS_ATTR_GID)
    attr->gid = r->attr.gid;
  if (r->mask & QFS_ATTR_ATIME)
    attr->atime_ns = r->attr.atime_ns;
  if (r->mask & QFS_ATTR_MTIME)
    attr->mtime_ns = r->attr.mtime_ns;
  if (r->mask != QFS_ATTR_ATIME)
    attr->ctime_ns = r->mask & QFS_ATTR_CTIME ? r->attr.ctime_ns : r->now_ns;
  if (r->mask & QFS_ATTR_XATTRS)
    take_xattrs(record, r->data);
  if (r->mask & QFS_ATTR_SIZE) {
    g_autoptr(GBytes) base = contents(m, old);
    set_contents(m, record, patched(base, 0, NULL, r->attr.size), FALSE);
  } else if (!qfs_object_is_none(record->object)) {
    object_of(m, record->object)->version = record->timestamp;
  }
  store(m, record);
  r->record = g_steal_pointer(&record);
  return QFS_OK;
}

/* What loses its only name goes to a key of its own. */
static void keep(Memory *m, const QfsRequest *r, const QfsRecord *old, QfsRecord **out_kept) {
  g_autoptr(QfsRecord) kept = next_version(m, old, r->keep);
  kept->attr.ctime_ns = r->now_ns;
  if (!qfs_object_is_none(kept->object))
    object_of(m, kept->object)->version = kept->timestamp;
  store(m, kept);
  *out_kept = g_steal_pointer(&kept);
}

static QfsStatus do_remove(Memory *m, QfsRequest *r) {
  QfsRecord *old = find(m, r->key);
  if (old == NULL)
    return r->flags & QFS_REMOVE_MUST_EXIST ? QFS_NOT_FOUND : QFS_OK;
  gboolean directory = old->kind == QFS_KIND_DIRECTORY;
  if ((r->flags & QFS_REMOVE_NON_DIRECTORY) && directory)
    return QFS_IS_DIRECTORY;
  if ((r->flags & QFS_REMOVE_DIRECTORY) && !directory)
    return QFS_NOT_DIRECTORY;
  if (directory && has_children(m, r->key))
    return QFS_NOT_EMPTY;
  m->clock = MAX(m->clock, old->timestamp) + 1;
  if (r->keep != NULL && !directory)
    keep(m, r, old, &r->record);
  else
    object_release(m, old->object);
  if (r->record == NULL)
    r->record = qfs_record_new_tombstone(r->key, m->clock);
  erase(m, r->key);
  return QFS_OK;
}

static QfsStatus check_rename(Memory *m, QfsRequest *r, const QfsRecord *from,
                              const QfsRecord *to) {
  if (from == NULL)
    return QFS_NOT_FOUND;
  if (r->flags & QFS_RENAME_EXCHANGE)
    return QFS_INVALID; /* not offered here */
  QfsStatus status = check_parent(m, r->key2);
  if (status != QFS_OK)
    return status;
  gboolean directory = from->kind == QFS_KIND_DIRECTORY;
  if (to != NULL && (r->flags & QFS_RENAME_NOREPLACE))
    return QFS_EXISTS;
  if (to != NULL && (to->kind == QFS_KIND_DIRECTORY) != directory)
    return directory ? QFS_NOT_DIRECTORY : QFS_IS_DIRECTORY;
  if (to != NULL && directory && has_children(m, r->key2))
    return QFS_NOT_EMPTY;
  if (directory && has_children(m, r->key))
    return QFS_CROSS;
  return QFS_OK;
}

static QfsStatus do_rename(Memory *m, QfsRequest *r) {
  QfsRecord *from = find(m, r->key);
  QfsRecord *to = find(m, r->key2);
  QfsStatus status = check_rename(m, r, from, to);
  if (status != QFS_OK)
    return status;
  g_autoptr(QfsRecord) record = next_version(m, from, r->key2);
  if (to != NULL) {
    record->timestamp = m->clock = MAX(m->clock, to->timestamp + 1);
    if (r->keep != NULL && to->kind != QFS_KIND_DIRECTORY) {
      keep(m, r, to, &r->replaced);
    } else {
      r->replaced = qfs_record_ref(to);
      object_release(m, to->object);
    }
  }
  record->attr.ctime_ns = r->now_ns;
  if (!qfs_object_is_none(record->object))
    object_of(m, record->object)->version = record->timestamp;
  erase(m, r->key);
  store(m, record);
  r->record = g_steal_pointer(&record);
  return QFS_OK;
}

static QfsStatus carry_out(Memory *m, QfsRequest *r) {
  switch (r->type) {
  case QFS_REQUEST_GET:
    return do_get(m, r);
  case QFS_REQUEST_READ:
    return do_read(m, r);
  case QFS_REQUEST_SEEK: /* it knows no holes */
    r->offset = r->flags & QFS_SEEK_HOLE ? r->record->attr.size : MIN(r->offset, r->record->attr.size);
    return QFS_OK;
  case QFS_REQUEST_LIST:
    return do_list(m, r);
  case QFS_REQUEST_WRITE:
    return do_write(m, r);
  case QFS_REQUEST_CREATE:
    return do_create(m, r);
  case QFS_REQUEST_SETATTR:
    return do_setattr(m, r);
  case QFS_REQUEST_REMOVE:
    return do_remove(m, r);
  case QFS_REQUEST_RENAME:
    return do_rename(m, r);
  case QFS_REQUEST_SYNC:
    return QFS_OK;
  case QFS_REQUEST_LINK: /* nor several names */
  case QFS_REQUEST_GC: /* tombstones are not kept here */
  case QFS_REQUEST_SCRUB: /* nor copies */
  case QFS_REQUEST_NODE:
    return QFS_INVALID;
  }
  return QFS_INVALID;
}

static gboolean is_change(const QfsRequest *r) {
  return r->type != QFS_REQUEST_GET && r->type != QFS_REQUEST_READ && r->type != QFS_REQUEST_LIST &&
         r->type != QFS_REQUEST_SEEK;
}

static void answer(Memory *m, QfsRequest *r) {
  g_mutex_lock(&m->lock);
  if (is_change(r) && !m->quorum) {
    r->status = QFS_NO_QUORUM;
  } else if (is_change(r) && m->fail_count > 0) {
    m->fail_count--;
    r->status = m->fail_status;
  } else {
    r->status = carry_out(m, r);
  }
  g_mutex_unlock(&m->lock);
  r->done(r, r->user_data);
}

static gpointer memory_main(gpointer data) {
  Memory *m = data;
  for (;;) {
    QfsRequest *r = g_async_queue_pop(m->queue);
    if (r == &stop_request)
      return NULL;
    g_usleep(m->delay_us);
    answer(m, r);
  }
}

/* --- the table --- */

static void memory_submit(QfsEngine *engine, QfsRequest *r) {
  Memory *m = (Memory *)engine;
  if (m->delay_us > 0 && is_change(r))
    g_async_queue_push(m->queue, r);
  else
    answer(m, r);
}

static QfsEngineStatus *memory_status(QfsEngine *engine) {
  Memory *m = (Memory *)engine;
  QfsEngineStatus *status = g_new0(QfsEngineStatus, 1);
  status->nodes = status->replicas = status->write_quorum = 1;
  g_mutex_lock(&m->lock);
  status->quorum = m->quorum;
  g_mutex_unlock(&m->lock);
  status->node[0].state = QFS_NODE_STATE_UP;
  status->node[0].replica.disk_total = G_GUINT64_CONSTANT(1) << 34;
  status->node[0].replica.disk_free = G_GUINT64_CONSTANT(1) << 33;
  return status;
}

static void memory_pin(QfsEngine *engine, QfsObjectId id) {
  Memory *m = (Memory *)engine;
  g_mutex_lock(&m->lock);
  Object *object = object_of(m, id);
  if (object != NULL)
    object->pins++;
  g_mutex_unlock(&m->lock);
}

static void memory_unpin(QfsEngine *engine, QfsObjectId id) {
  Memory *m = (Memory *)engine;
  g_mutex_lock(&m->lock);
  Object *object = object_of(m, id);
  if (object != NULL && object->pins > 0 && --object->pins == 0 && object->dropped)
    g_hash_table_remove(m->objects, &id.unique);
  g_mutex_unlock(&m->lock);
}

static void memory_discard(QfsEngine *engine, QfsObjectId id) {
  Memory *m = (Memory *)engine;
  g_mutex_lock(&m->lock);
  object_release(m, id);
  g_mutex_unlock(&m->lock);
}

static void memory_close(QfsEngine *engine, guint timeout_ms) {
  Memory *m = (Memory *)engine;
  g_async_queue_push(m->queue, &stop_request);
  g_thread_join(m->thread);
  g_async_queue_unref(m->queue);
  g_hash_table_unref(m->dirs);
  g_hash_table_unref(m->objects);
  g_mutex_clear(&m->lock);
  g_free(m);
}

static const QfsEngineOps memory_ops = {
    .submit = memory_submit,
    .status = memory_status,
    .pin = memory_pin,
    .unpin = memory_unpin,
    .discard = memory_discard,
    .close = memory_close,
};

QfsEngine *qfs_memory_engine_new(guint delay_us) {
  Memory *m = g_new0(Memory, 1);
  m->engine.ops = &memory_ops;
  m->engine.config.timeout_ms = 2000;
  m->engine.config.nodes = m->engine.config.replicas = 1;
  g_mutex_init(&m->lock);
  m->dirs = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)g_tree_unref);
  m->objects = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, object_free);
  m->quorum = TRUE;
  m->delay_us = delay_us;
  m->queue = g_async_queue_new();
  m->thread = g_thread_new("memory-engine", memory_main, m);
  return &m->engine;
}

void qfs_memory_engine_set_quorum(QfsEngine *engine, gboolean quorum) {
  Memory *m = (Memory *)engine;
  g_mutex_lock(&m->lock);
  m->quorum = quorum;
  g_mutex_unlock(&m->lock);
}

void qfs_memory_engine_fail(QfsEngine *engine, QfsStatus status, guint count) {
  Memory *m = (Memory *)engine;
  g_mutex_lock(&m->lock);
  m->fail_status = status;
  m->fail_count = count;
  g_mutex_unlock(&m->lock);
}
