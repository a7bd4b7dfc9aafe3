/* inode.c - see inode.h. Thread-safe by fs->lock, as named. */
#include "fs/inode.h"
#include "fs/acl.h"
#include "fs/crowd.h"
#include "fs/handle.h"
#include "fs/names.h"

#include <string.h>

#define NS_PER_S G_GINT64_CONSTANT(1000000000)
/* Bytes of a value that stay in memory with an inode that is not open. */
#define TAIL_KEEP_MAX 256
/* How long an answer of the engine is taken for what it would still answer. */
#define TRUST_US G_USEC_PER_SEC

static gpointer number_key(guint64 number) {
  return (gpointer)(gsize)number;
}

/* --- numbers --- */

static guint64 mix(guint64 x) { /* splitmix64's finalizer */
  x = (x ^ (x >> 30)) * G_GUINT64_CONSTANT(0xbf58476d1ce4e5b9);
  x = (x ^ (x >> 27)) * G_GUINT64_CONSTANT(0x94d049bb133111eb);
  return x ^ (x >> 31);
}

/* The birth time survives rename and remount and differs for a file made anew under an old name. */
static guint64 free_number_locked(QfsFs *fs, const char *key, gint64 birth_ns) {
  guint64 number = birth_ns != 0 ? mix((guint64)birth_ns) : qfs_key_hash(key);
  while (number <= FUSE_ROOT_ID || g_hash_table_contains(fs->by_st_ino, number_key(number)))
    number = mix(number + 1);
  return number;
}

guint64 qfs_inode_number_locked(QfsFs *fs, const QfsRecord *record) {
  QfsInode *inode = qfs_record_is_link(record) ? qfs_names_of_link_locked(fs, record) : NULL;
  if (inode == NULL)
    inode = qfs_inode_by_key_locked(fs, record->key);
  if (inode != NULL)
    return inode->st_ino;
  return free_number_locked(fs, record->key, record->attr.btime_ns);
}

/* --- table --- */

static QfsInode *inode_new_locked(QfsFs *fs, const char *key, fuse_ino_t ino, guint64 st_ino) {
  QfsInode *inode = g_slice_new0(QfsInode);
  inode->ino = ino;
  inode->st_ino = st_ino;
  inode->key = g_strdup(key);
  inode->named = TRUE;
  inode->refs = 1;
  g_hash_table_insert(fs->by_ino, number_key(ino), inode);
  g_hash_table_insert(fs->by_st_ino, number_key(st_ino), inode);
  gboolean fresh = g_hash_table_replace(fs->by_key, inode->key, inode);
  g_assert(fresh); /* I1 */
  return inode;
}

static mode_t kind_type(const QfsRecord *record) {
  switch (record->kind) {
  case QFS_KIND_DIRECTORY:
    return S_IFDIR;
  case QFS_KIND_SYMLINK:
  case QFS_KIND_LINK: /* as one replica has it: it may lack the file */
    return S_IFLNK;
  case QFS_KIND_SPECIAL:
    return record->attr.mode & S_IFMT;
  case QFS_KIND_VALUE:
  case QFS_KIND_TOMBSTONE:
    break;
  }
  return S_IFREG;
}

void qfs_inode_table_init(QfsFs *fs) {
  fs->by_ino = g_hash_table_new(g_direct_hash, g_direct_equal);
  fs->by_st_ino = g_hash_table_new(g_direct_hash, g_direct_equal);
  fs->by_key = g_hash_table_new(g_str_hash, g_str_equal);
  qfs_names_init(fs);
  g_queue_init(&fs->dirty_dirs);
  g_queue_init(&fs->crowd);
  fs->next_ino = FUSE_ROOT_ID + 1;
  fs->root = inode_new_locked(fs, "", FUSE_ROOT_ID, FUSE_ROOT_ID);
  fs->root->mode = S_IFDIR;
  fs->root->attr = (QfsAttr){.mode = S_IFDIR | 0755,
                             .uid = fs->uid,
                             .gid = fs->gid,
                             .atime_ns = fs->mounted_ns,
                             .mtime_ns = fs->mounted_ns,
                             .ctime_ns = fs->mounted_ns,
                             .btime_ns = fs->mounted_ns};
}

static void inode_free(QfsInode *inode) {
  g_assert(g_queue_is_empty(&inode->parked) && g_queue_is_empty(&inode->handles));
  g_assert(inode->parent == NULL);
  g_clear_pointer(&inode->links, g_hash_table_unref);
  qfs_record_unref(inode->record);
  g_clear_pointer(&inode->xattrs, g_bytes_unref);
  g_free(inode->key);
  g_slice_free(QfsInode, inode);
}

void qfs_inode_table_free(QfsFs *fs) {
  GHashTableIter iter;
  gpointer value;
  g_hash_table_iter_init(&iter, fs->by_ino);
  while (g_hash_table_iter_next(&iter, NULL, &value))
    inode_free(value); /* what the kernel did not forget before the unmount */
  g_hash_table_unref(fs->by_ino);
  g_hash_table_unref(fs->by_st_ino);
  g_hash_table_unref(fs->by_key);
  qfs_names_free(fs);
}

QfsInode *qfs_inode_ref_locked(QfsInode *inode) {
  inode->refs++;
  return inode;
}

void qfs_inode_unref_locked(QfsFs *fs, QfsInode *inode) {
  if (inode == NULL)
    return;
  g_assert(inode->refs > 0);
  if (--inode->refs > 0)
    return;
  g_hash_table_remove(fs->by_ino, number_key(inode->ino));
  g_hash_table_remove(fs->by_st_ino, number_key(inode->st_ino));
  if (inode->named)
    g_hash_table_remove(fs->by_key, inode->key);
  qfs_inode_drop_links_locked(fs, inode);
  inode_free(inode);
}

void qfs_inode_unref(QfsFs *fs, QfsInode *inode) {
  if (inode == NULL)
    return;
  g_mutex_lock(&fs->lock);
  qfs_inode_unref_locked(fs, inode);
  g_mutex_unlock(&fs->lock);
}

QfsInode *qfs_inode_get_locked(QfsFs *fs, fuse_ino_t ino) {
  QfsInode *inode = g_hash_table_lookup(fs->by_ino, number_key(ino));
  return inode != NULL ? qfs_inode_ref_locked(inode) : NULL;
}

QfsInode *qfs_inode_get(QfsFs *fs, fuse_ino_t ino) {
  g_mutex_lock(&fs->lock);
  QfsInode *inode = qfs_inode_get_locked(fs, ino);
  g_mutex_unlock(&fs->lock);
  return inode;
}

void qfs_inode_forget(QfsFs *fs, fuse_ino_t ino, guint64 nlookup) {
  g_mutex_lock(&fs->lock);
  QfsInode *inode = g_hash_table_lookup(fs->by_ino, number_key(ino));
  if (inode != NULL && inode->nlookup > 0) {
    inode->nlookup -= MIN(nlookup, inode->nlookup);
    if (inode->nlookup == 0) {
      qfs_crowd_remove_locked(fs, inode);
      qfs_inode_unref_locked(fs, inode);
    }
  }
  g_mutex_unlock(&fs->lock);
}

QfsInode *qfs_inode_by_key_locked(QfsFs *fs, const char *key) {
  QfsInode *inode = g_hash_table_lookup(fs->by_key, key);
  return inode != NULL ? inode : g_hash_table_lookup(fs->by_link, key);
}

QfsInode *qfs_inode_of_record_locked(QfsFs *fs, QfsRecord *record, QfsKnown known, guint64 doubts,
                                     gboolean keep) {
  QfsInode *inode = g_hash_table_lookup(fs->by_key, record->key);
  if (inode != NULL && inode->mode != kind_type(record)) {
    /* Deleted and made anew as something else behind the kernel's back. */
    qfs_inode_unname_locked(fs, inode, NULL);
    inode = NULL;
  }
  if (inode == NULL) {
    inode = inode_new_locked(fs, record->key, fs->next_ino++,
                             free_number_locked(fs, record->key, record->attr.btime_ns));
    inode->mode = kind_type(record);
    inode->record = qfs_record_ref(record);
    inode->known = doubts == fs->doubts ? known : QFS_KNOWN_NOTHING;
    if (!keep)
      qfs_inode_trim_locked(inode);
    return inode;
  }
  qfs_inode_learn_locked(fs, inode, record, known, doubts);
  if (!keep)
    qfs_inode_trim_locked(inode);
  return qfs_inode_ref_locked(inode);
}

QfsInode *qfs_inode_new_control_locked(QfsFs *fs, const char *key, mode_t mode) {
  QfsInode *inode = g_hash_table_lookup(fs->by_key, key);
  if (inode != NULL)
    return qfs_inode_ref_locked(inode);
  inode = inode_new_locked(fs, key, fs->next_ino++, free_number_locked(fs, key, 0));
  inode->control = TRUE;
  inode->mode = mode & S_IFMT;
  return inode;
}

gboolean qfs_inode_is_replica_of_locked(const QfsInode *inode, const QfsRecord *record) {
  return inode->mode == kind_type(record) &&
         (record->kind != QFS_KIND_SYMLINK || g_bytes_equal(inode->record->tail, record->tail));
}

void qfs_inode_take_replica_locked(QfsInode *inode, QfsRecord *record) {
  qfs_record_ref(record);
  qfs_record_unref(inode->record);
  inode->record = record;
  qfs_inode_trim_locked(inode);
}

QfsInode *qfs_inode_new_replica_locked(QfsFs *fs, const char *key, QfsRecord *record) {
  QfsInode *inode = g_hash_table_lookup(fs->by_key, key);
  if (inode != NULL && !qfs_inode_is_replica_of_locked(inode, record)) {
    g_hash_table_remove(fs->by_key, inode->key); /* a control inode keeps its key */
    inode->named = FALSE;
    inode = NULL;
  }
  if (inode == NULL) { /* numbered by its place: the number of its birth is the key's own */
    inode = inode_new_locked(fs, key, fs->next_ino++, free_number_locked(fs, key, 0));
    inode->control = inode->replica = TRUE;
    inode->mode = kind_type(record);
  } else {
    qfs_inode_ref_locked(inode);
  }
  qfs_inode_take_replica_locked(inode, record);
  return inode;
}

QfsInode *qfs_inode_new_pending_locked(QfsFs *fs, QfsInode *parent, const char *key,
                                       const QfsAttr *attr) {
  QfsInode *inode =
      inode_new_locked(fs, key, fs->next_ino++, free_number_locked(fs, key, attr->btime_ns));
  inode->mode = S_IFREG;
  inode->attr = *attr;
  inode->pending = TRUE;
  inode->parent = qfs_inode_ref_locked(parent);
  inode->pending_link.data = inode;
  g_queue_push_tail_link(&fs->pending, &inode->pending_link);
  parent->pending_children++;
  return inode;
}

/* --- what is known --- */

void qfs_inode_doubt_locked(QfsFs *fs, QfsInode *inode) {
  inode->known = QFS_KNOWN_NOTHING;
  fs->doubts++;
}

gboolean qfs_inode_is_trusted_locked(QfsFs *fs, const QfsInode *inode) {
  return inode->known != QFS_KNOWN_NOTHING && inode->record != NULL && inode->stand != 0 &&
         g_get_monotonic_time() < inode->trusted_until_us && inode->stand == qfs_engine_stand(fs->engine);
}

void qfs_inode_trust_locked(QfsInode *inode, guint64 stand) {
  inode->stand = stand;
  inode->trusted_until_us = g_get_monotonic_time() + TRUST_US;
}

/* Values that nobody has open are remembered without their bytes: who reads past the page cache asks the engine. */
static QfsRecord *without_tail(QfsRecord *record) {
  if (record->kind != QFS_KIND_VALUE || g_bytes_get_size(record->tail) <= TAIL_KEEP_MAX)
    return NULL;
  QfsRecord *light = qfs_record_copy(record);
  g_bytes_unref(light->tail);
  light->tail = qfs_bytes_none();
  return light;
}

void qfs_inode_trim_locked(QfsInode *inode) {
  if (inode->record == NULL || !g_queue_is_empty(&inode->handles) || inode->key == NULL)
    return;
  QfsRecord *light = without_tail(inode->record);
  if (light == NULL)
    return;
  qfs_record_unref(inode->record);
  inode->record = light;
  inode->known = MIN(inode->known, QFS_KNOWN_ATTRS);
}

/* Versions by timestamp; bytes decide between equal ones only when both are complete. */
static int compare(const QfsInode *inode, const QfsRecord *record, QfsKnown known) {
  const QfsRecord *own = inode->record;
  if (own == NULL || record->timestamp != own->timestamp)
    return own == NULL || record->timestamp > own->timestamp ? 1 : -1;
  return known == QFS_KNOWN_ALL && inode->known == QFS_KNOWN_ALL ? qfs_record_compare(record, own)
                                                                 : 0;
}

void qfs_inode_learn_locked(QfsFs *fs, QfsInode *inode, QfsRecord *record, QfsKnown known,
                            guint64 doubts) {
  if (inode->key != NULL && strcmp(record->key, inode->key) != 0)
    return;             /* an answer from before a rename */
  if (inode->pending) { /* somebody published the name first */
    qfs_inode_settle_pending_locked(fs, inode);
    inode->known = QFS_KNOWN_NOTHING;
  }
  gboolean certain = doubts == fs->doubts;
  gboolean doubtful = inode->known == QFS_KNOWN_NOTHING;
  int order = compare(inode, record, known);
  if (order < 0 && !(certain && doubtful && inode->mutations == 0))
    return; /* else: deleted, forgotten, and made anew with a lower explicit timestamp */
  if (order == 0 && (!certain || known <= inode->known))
    return;
  if (order != 0 && inode->mutations == 0)
    inode->pages_of = 0; /* changed by others: cached pages belong to the old version */
  qfs_record_ref(record);
  qfs_record_unref(inode->record);
  inode->record = record;
  inode->known = certain ? known : QFS_KNOWN_NOTHING;
}

void qfs_inode_mutated_locked(QfsFs *fs, QfsInode *inode, const QfsRequest *request,
                              guint64 doubts) {
  g_assert(inode->mutations > 0);
  switch (request->status) {
  case QFS_OK:
    if (qfs_record_exists(request->record)) {
      guint64 was = inode->record != NULL ? inode->record->timestamp : 0;
      qfs_inode_learn_locked(fs, inode, request->record, QFS_KNOWN_ALL, doubts);
      if (inode->pages_of == was && was != 0)
        inode->pages_of = inode->record->timestamp; /* the kernel's pages took part in the change */
    }
    break;
  case QFS_UNKNOWN:
  case QFS_IO:
  case QFS_CANCELED:
  case QFS_STALE:
  case QFS_NOT_FOUND:
  case QFS_EXISTS:
    qfs_inode_doubt_locked(fs, inode);
    break;
  default:
    break; /* certainly not applied */
  }
  inode->mutations--;
  qfs_inode_trim_locked(inode);
  if (inode->key != NULL && inode->named)
    qfs_inode_child_changed_locked(fs, inode->key);
}

void qfs_inode_child_changed_locked(QfsFs *fs, const char *key) {
  char dir[QFS_KEY_MAX + 1];
  gsize len;
  const char *name;
  qfs_key_split(key, &len, &name);
  if (len > QFS_KEY_MAX || *name == '\0')
    return;
  memcpy(dir, key, len);
  dir[len] = '\0';
  QfsInode *parent = g_hash_table_lookup(fs->by_key, dir);
  if (parent != NULL)
    parent->changes++;
}

/* --- names --- */

void qfs_inode_unname_locked(QfsFs *fs, QfsInode *inode, char *key) {
  if (inode->named) {
    qfs_inode_child_changed_locked(fs, inode->key);
    g_hash_table_remove(fs->by_key, inode->key);
  }
  qfs_inode_drop_links_locked(fs, inode);
  inode->named = FALSE;
  g_free(inode->key);
  inode->key = key;
}

void qfs_inode_rename_locked(QfsFs *fs, QfsInode *inode, const char *key) {
  qfs_inode_unname_locked(fs, inode, g_strdup(key));
  QfsInode *old = g_hash_table_lookup(fs->by_key, key);
  if (old != NULL)
    qfs_inode_unname_locked(fs, old, NULL);
  qfs_names_drop_link_locked(fs, key);
  inode->named = TRUE;
  g_hash_table_replace(fs->by_key, inode->key, inode);
  qfs_inode_child_changed_locked(fs, inode->key);
}

void qfs_inode_settle_pending_locked(QfsFs *fs, QfsInode *inode) {
  if (!inode->pending)
    return;
  inode->pending = FALSE;
  g_queue_unlink(&fs->pending, &inode->pending_link);
  inode->parent->pending_children--;
  qfs_inode_unref_locked(fs, inode->parent);
  inode->parent = NULL;
}

GSList *qfs_inode_wake_locked(QfsInode *inode) {
  GSList *calls = NULL;
  GList *link;
  while ((link = g_queue_pop_tail_link(&inode->parked)) != NULL) {
    QfsCall *call = link->data;
    call->parked_on = NULL;
    calls = g_slist_prepend(calls, call); /* in the order of arrival */
  }
  return calls;
}

static void dir_times_due(gpointer data) {
  qfs_fs_store_dir_times(data);
}

void qfs_inode_touch_dir_locked(QfsFs *fs, QfsInode *dir, gint64 now_ns) {
  dir->changes++;
  dir->times_ns = MAX(dir->times_ns, now_ns);
  qfs_inode_times_dirty_locked(fs, dir);
}

void qfs_inode_times_dirty_locked(QfsFs *fs, QfsInode *dir) {
  if (dir->times_dirty)
    return;
  dir->times_dirty = TRUE;
  g_queue_push_tail(&fs->dirty_dirs, qfs_inode_ref_locked(dir));
  if (!fs->flush_armed) {
    fs->flush_armed = TRUE;
    qfs_timer_add(fs->timer, g_get_monotonic_time() + G_USEC_PER_SEC, dir_times_due, fs);
  }
}

gboolean qfs_inode_is_dir(const QfsInode *inode) {
  return S_ISDIR(inode->mode);
}

int qfs_inode_child_key_locked(const QfsInode *dir, const char *name, char **out_key) {
  if (strlen(name) > QFS_NAME_MAX)
    return ENAMETOOLONG;
  if (dir->key == NULL || !dir->named)
    return ENOENT; /* a removed directory that is still somebody's working directory */
  if (dir->replica || (dir->control && g_str_has_suffix(dir->key, "/keys")))
    return EROFS;
  if (dir->control || (dir->key[0] == '\0' && strcmp(name, QFS_CONTROL_NAME) == 0))
    return EPERM;
  char *key = qfs_key_join(dir->key, name);
  gboolean too_long = FALSE;
  if (!qfs_key_is_valid(key, &too_long)) {
    g_free(key);
    return too_long ? ENAMETOOLONG : EINVAL;
  }
  *out_key = key;
  return 0;
}

/* --- attributes --- */

void qfs_inode_child_attr_locked(QfsFs *fs, const QfsInode *dir, mode_t mode, uid_t uid, gid_t gid,
                                 QfsAttr *out_attr) {
  const QfsAttr *above = dir->record != NULL ? &dir->record->attr : &dir->attr;
  gint64 now = qfs_fs_birth_ns_locked(fs);
  gboolean inherit = (above->mode & S_ISGID) != 0;
  *out_attr = (QfsAttr){.mode = mode | (inherit && S_ISDIR(mode) ? S_ISGID : 0),
                        .uid = uid,
                        .gid = inherit ? above->gid : gid,
                        .atime_ns = now,
                        .mtime_ns = now,
                        .ctime_ns = now,
                        .btime_ns = now};
}

GBytes *qfs_inode_child_xattrs_locked(const QfsInode *dir, mode_t umask, mode_t *mode) {
  return qfs_acl_inherit(dir->record != NULL ? dir->record->xattrs : NULL, umask, mode);
}

static struct timespec to_timespec(gint64 ns) {
  gint64 seconds = ns / NS_PER_S;
  gint64 rest = ns % NS_PER_S;
  if (rest < 0) {
    rest += NS_PER_S;
    seconds--;
  }
  return (struct timespec){.tv_sec = seconds, .tv_nsec = rest};
}

static void fill_control(QfsFs *fs, const QfsInode *inode, struct stat *st) {
  const char *path = inode->key + strlen(QFS_CONTROL_NAME);
  st->st_mode = qfs_control_mode(fs->control, *path == '/' ? path + 1 : path);
  if (st->st_mode == 0)
    st->st_mode = inode->mode;
  st->st_uid = fs->uid;
  st->st_gid = fs->gid;
  st->st_size = (off_t)qfs_control_size(fs->control, *path == '/' ? path + 1 : path);
  st->st_blocks = (st->st_size + 511) / 512;
  st->st_mtim = st->st_atim = st->st_ctim = to_timespec(qfs_fs_now_ns());
}

gboolean qfs_inode_attr_locked(QfsFs *fs, QfsInode *inode, struct stat *st) {
  memset(st, 0, sizeof *st);
  st->st_ino = inode->st_ino;
  st->st_nlink = qfs_inode_nlink_locked(inode);
  st->st_blksize = QFS_MAX_WRITE;
  if (inode->control && !inode->replica) {
    fill_control(fs, inode, st);
    return TRUE;
  }
  const QfsAttr *attr;
  if (inode->record != NULL)
    attr = &inode->record->attr;
  else if (inode->pending || inode == fs->root)
    attr = &inode->attr;
  else
    return FALSE;
  st->st_mode = inode->mode | (attr->mode & 07777);
  st->st_uid = attr->uid;
  st->st_gid = attr->gid;
  st->st_rdev = attr->rdev;
  st->st_size = inode->mode == S_IFDIR ? 0 : (off_t)attr->size;
  st->st_blocks = (st->st_size + 511) / 512;
  st->st_atim = to_timespec(inode->atime_ns != 0 ? inode->atime_ns : attr->atime_ns);
  st->st_mtim = to_timespec(inode->times_ns != 0 ? inode->times_ns : attr->mtime_ns);
  st->st_ctim = to_timespec(inode->times_ns != 0 ? MAX(attr->ctime_ns, inode->times_ns) : attr->ctime_ns);
  return TRUE;
}

static gboolean may_keep_attr(const QfsInode *inode) {
  if (inode->control || inode->pending || inode->known == QFS_KNOWN_NOTHING)
    return FALSE;
  for (const GList *l = inode->handles.head; l != NULL; l = l->next) {
    const QfsHandle *handle = l->data;
    if (handle->owes || handle->pinned)
      return FALSE;
  }
  return TRUE;
}

double qfs_inode_attr_timeout_locked(QfsInode *inode) {
  gboolean keep = may_keep_attr(inode);
  inode->told = keep && inode->record != NULL ? inode->record->timestamp : 0;
  return keep ? QFS_CACHE_SECONDS : 0;
}

/* The times of a directory change without its record, and one of several names may be new to the kernel. */
gboolean qfs_inode_was_told_locked(const QfsInode *inode, const char *key) {
  return inode->nlookup > 0 && inode->told != 0 && inode->known != QFS_KNOWN_NOTHING && inode->record != NULL &&
         inode->told == inode->record->timestamp && inode->mutations == 0 && inode->named && strcmp(inode->key, key) == 0 &&
         !qfs_inode_is_dir(inode);
}

gboolean qfs_inode_entry_locked(QfsFs *fs, QfsInode *inode, struct fuse_entry_param *out_entry) {
  memset(out_entry, 0, sizeof *out_entry);
  if (!qfs_inode_attr_locked(fs, inode, &out_entry->attr))
    return FALSE;
  out_entry->ino = inode->ino;
  out_entry->attr_timeout = qfs_inode_attr_timeout_locked(inode);
  out_entry->entry_timeout = inode->control ? 0 : QFS_CACHE_SECONDS;
  if (inode->nlookup++ == 0)
    qfs_crowd_add_locked(fs, qfs_inode_ref_locked(inode));
  return TRUE;
}
