/* ops_dir.c - listing directories.
 *
 * A handle holds one page of the engine's list, and perhaps the next one, never the directory. Cookies are ordinals: 1 and 2
 * are "." and "..", entry i is i + 3. The sequence goes on by name, so changes on the way skip
 * nothing; for seekdir the handle keeps the name at which each page before the one in memory began. A reply never crosses a
 * page, so that what the kernel asks again (it could not deliver all) is still in memory.
 *
 * READDIRPLUS hands out inodes from a page that may be older than the last change in the
 * directory: then only inodes that are known (and so current) are handed out, and other names
 * without one; the kernel looks those up when it needs them.
 *
 * Who reads on behind the first page gets the next one read ahead, by the thread that answered, while the caller works on
 * what it got. A page that was read ahead is used if nothing changed in the directory since it was asked for, as if it
 * had been asked for just now; else it is thrown away and asked for again.
 *
 * Threading: the handle by its own lock; the kernel sends one request per open directory at a
 * time, except after an interrupted one.
 */
#include "fs/atime.h"
#include "fs/handle.h"
#include "fs/names.h"
#include "fs/ops_control.h"

#include <string.h>

#define PAGE_ENTRIES 512
#define FIRST_COOKIE 2 /* "." and ".." come before entry 0 */

typedef struct {
  guint64 first; /* ordinal of the first entry behind it */
  char *after;   /* name before it; NULL: the beginning */
} Mark;

/* A page that is asked for before the kernel wants it. */
typedef struct {
  QfsFs *fs;         /* constant, as all but what says otherwise */
  QfsDirHandle *dir; /* referenced until it is here */
  guint64 first;
  char *key, *after;
  guint64 changes, doubts, moves_done; /* the directory's, and of fs, when it was asked for */
  gboolean dropped;   /* dir->lock: nobody wants it any more */
  gboolean here;      /* dir->lock: the engine has answered */
  GPtrArray *entries; /* dir->lock: NULL: there was no good answer */
  gboolean more;      /* dir->lock */
  GSList *calls;      /* dir->lock: of QfsCall: run again when it is here */
} Ahead;

struct QfsDirHandle {
  QfsInode *inode; /* constant, referenced */
  guint refs; /* fs->lock: the kernel's, and of calls (one may outlive RELEASEDIR if interrupted) */
  GList link; /* fs->lock: in fs->dir_handles */
  GMutex lock;
  GArray *marks;      /* lock: of Mark, by ordinal; page boundaries met so far */
  GPtrArray *entries; /* lock: the page: of QfsRecord; NULL: none */
  guint64 first;      /* lock: ordinal of entries[0] */
  gboolean more;      /* lock: something follows the page */
  guint64 changes;    /* lock: inode->changes when the page was asked for */
  guint64 doubts;     /* lock: fs->doubts then */
  Ahead *ahead;       /* lock: NULL: nothing was asked for */
};

static QfsDirHandle *dir_of(const struct fuse_file_info *fi) {
  return (QfsDirHandle *)(gsize)fi->fh;
}

static void mark_clear(gpointer data) {
  g_free(((Mark *)data)->after);
}

static void ahead_free(Ahead *ahead) {
  g_clear_pointer(&ahead->entries, g_ptr_array_unref);
  g_free(ahead->key);
  g_free(ahead->after);
  g_slice_free(Ahead, ahead);
}

/* It is not wanted any more. Lock dir->lock. */
static void drop_ahead_locked(QfsDirHandle *dir) {
  Ahead *ahead = g_steal_pointer(&dir->ahead);
  if (ahead != NULL && ahead->here)
    ahead_free(ahead);
  else if (ahead != NULL)
    ahead->dropped = TRUE;
}

void qfs_dir_handle_unref(QfsFs *fs, QfsDirHandle *dir) {
  if (dir == NULL)
    return;
  g_mutex_lock(&fs->lock);
  gboolean last = --dir->refs == 0;
  if (last) {
    g_queue_unlink(&fs->dir_handles, &dir->link);
    qfs_inode_unref_locked(fs, dir->inode);
  }
  g_mutex_unlock(&fs->lock);
  if (!last)
    return;
  drop_ahead_locked(dir);
  g_clear_pointer(&dir->entries, g_ptr_array_unref);
  g_array_unref(dir->marks);
  g_mutex_clear(&dir->lock);
  g_slice_free(QfsDirHandle, dir);
}

void qfs_dir_handles_free(QfsFs *fs) {
  while (!g_queue_is_empty(&fs->dir_handles))
    qfs_dir_handle_unref(fs, fs->dir_handles.head->data);
}

static void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi) {
  QfsFs *fs = fuse_req_userdata(req);
  QfsInode *inode = qfs_inode_get(fs, ino);
  if (inode == NULL) {
    fuse_reply_err(req, ESTALE);
    return;
  }
  QfsDirHandle *dir = g_slice_new0(QfsDirHandle);
  dir->inode = inode;
  dir->refs = 1;
  dir->link.data = dir;
  dir->marks = g_array_new(FALSE, TRUE, sizeof(Mark));
  g_array_set_clear_func(dir->marks, mark_clear);
  g_mutex_init(&dir->lock);
  g_mutex_lock(&fs->lock);
  g_queue_push_tail_link(&fs->dir_handles, &dir->link);
  qfs_atime_note_locked(fs, inode, fi->flags);
  g_mutex_unlock(&fs->lock);
  fi->fh = (guint64)(gsize)dir;
  if (fuse_reply_open(req, fi) != 0)
    qfs_dir_handle_unref(fs, dir);
}

static void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi) {
  qfs_dir_handle_unref(fuse_req_userdata(req), dir_of(fi));
  fuse_reply_err(req, 0);
}

static const char *entry_name(const QfsRecord *record) {
  const char *slash = strrchr(record->key, '/');
  return slash != NULL ? slash + 1 : record->key;
}

/* --- pages --- */

/* Files that were created and not yet published belong to the listing too. Lock fs->lock. */
static void add_pending_locked(QfsFs *fs, QfsDirHandle *dir, GPtrArray *entries, const char *after,
                               gboolean more) {
  if (dir->inode->pending_children == 0 || !dir->inode->named)
    return;
  const char *last = more && entries->len > 0 ? entry_name(entries->pdata[entries->len - 1]) : NULL;
  for (GList *l = fs->pending.head; l != NULL; l = l->next) {
    QfsInode *inode = l->data;
    if (inode->parent != dir->inode)
      continue;
    gsize len;
    const char *name;
    qfs_key_split(inode->key, &len, &name);
    if ((after != NULL && strcmp(name, after) <= 0) || (last != NULL && strcmp(name, last) >= 0))
      continue;
    guint at = 0;
    while (at < entries->len && strcmp(entry_name(entries->pdata[at]), name) < 0)
      at++;
    if (at < entries->len && strcmp(entry_name(entries->pdata[at]), name) == 0)
      continue;
    QfsRecord *record = qfs_record_new(inode->key);
    record->kind = QFS_KIND_VALUE;
    record->attr = inode->attr;
    g_ptr_array_insert(entries, (gint)at, record);
  }
}

static GPtrArray *control_entries(QfsFs *fs, QfsInode *inode) {
  GPtrArray *entries = g_ptr_array_new_with_free_func((GDestroyNotify)qfs_record_unref);
  char **names = qfs_control_list(fs->control, qfs_control_path(inode));
  for (char **name = names; name != NULL && *name != NULL; name++) {
    char *key = g_strconcat(inode->key, "/", *name, NULL);
    QfsRecord *record = qfs_record_new(key);
    mode_t mode = qfs_control_mode(fs->control, key + strlen(QFS_CONTROL_NAME) + 1);
    record->kind = S_ISDIR(mode) ? QFS_KIND_DIRECTORY : QFS_KIND_VALUE;
    record->attr.mode = mode;
    g_ptr_array_add(entries, record);
    g_free(key);
  }
  g_strfreev(names);
  return entries;
}

static void take_page(QfsDirHandle *dir, GPtrArray *entries, guint64 first, gboolean more) {
  g_clear_pointer(&dir->entries, g_ptr_array_unref);
  dir->entries = entries;
  dir->first = first;
  dir->more = more;
  /* What follows is counted from here: the page may have more or fewer names than when it was read last. */
  while (dir->marks->len > 0 && g_array_index(dir->marks, Mark, dir->marks->len - 1).first > first)
    g_array_set_size(dir->marks, dir->marks->len - 1);
  if (more && entries->len > 0) {
    Mark mark = {first + entries->len, g_strdup(entry_name(entries->pdata[entries->len - 1]))};
    g_array_append_val(dir->marks, mark);
  }
}

/* Is entry `ordinal` answered by the page in memory? Lock dir->lock. */
static gboolean has_page_locked(QfsDirHandle *dir, guint64 ordinal) {
  if (dir->entries == NULL || ordinal < dir->first)
    return FALSE;
  guint64 end = dir->first + dir->entries->len;
  return ordinal < end || (ordinal >= end && !dir->more);
}

/* --- answers --- */

/* Attributes for one entry of a READDIRPLUS, or a nodeid of 0. So, too, for what the kernel knows already: told again it
 * would forget the access list, and `ls -l` would have it ask for that of each file. */
static void fill_entry(QfsFs *fs, QfsDirHandle *dir, QfsRecord *record, gboolean link,
                       struct fuse_entry_param *entry) {
  g_mutex_lock(&fs->lock);
  QfsInode *known = qfs_inode_by_key_locked(fs, record->key);
  gboolean current = dir->changes == dir->inode->changes && dir->doubts == fs->doubts;
  if (known == NULL && current && link && !dir->inode->control && qfs_record_is_link(record)) {
    known = qfs_names_of_link_locked(fs, record);
    if (known != NULL)
      qfs_inode_add_link_locked(fs, known, record->key);
  }
  memset(entry, 0, sizeof *entry);
  entry->attr.st_ino = known != NULL ? known->st_ino : qfs_inode_number_locked(fs, record);
  entry->attr.st_mode = record->attr.mode;
  if (record->kind == QFS_KIND_DIRECTORY)
    entry->attr.st_mode = S_IFDIR | (record->attr.mode & 07777);
  else if (record->kind == QFS_KIND_SYMLINK || (record->kind == QFS_KIND_LINK && dir->inode->control))
    entry->attr.st_mode = S_IFLNK | 0777;
  else if (record->kind == QFS_KIND_VALUE)
    entry->attr.st_mode = S_IFREG | (record->attr.mode & 07777);
  if (link && !dir->inode->control && (known == NULL || !qfs_inode_was_told_locked(known, record->key))) {
    if (known != NULL && (known->pending || known->known != QFS_KNOWN_NOTHING)) {
      qfs_inode_entry_locked(fs, known, entry);
    } else if (current && !qfs_record_is_link(record)) {
      QfsInode *inode = qfs_inode_of_record_locked(fs, record, QFS_KNOWN_ATTRS, dir->doubts, FALSE);
      qfs_inode_entry_locked(fs, inode, entry);
      qfs_inode_unref_locked(fs, inode);
    }
  }
  g_mutex_unlock(&fs->lock);
}

typedef struct {
  fuse_req_t req;
  char *buf;
  gsize size, used;
  gboolean plus;
  GArray *linked; /* fuse_ino_t handed out: taken back if the kernel did not get the answer */
} Reply;

static gboolean add(Reply *reply, const char *name, const struct fuse_entry_param *entry,
                    off_t next) {
  gsize room = reply->size - reply->used;
  gsize need =
      reply->plus
          ? fuse_add_direntry_plus(reply->req, reply->buf + reply->used, room, name, entry, next)
          : fuse_add_direntry(reply->req, reply->buf + reply->used, room, name, &entry->attr, next);
  if (need > room)
    return FALSE;
  reply->used += need;
  if (entry->ino != 0)
    g_array_append_val(reply->linked, entry->ino);
  return TRUE;
}

static void add_dots(QfsFs *fs, QfsDirHandle *dir, Reply *reply, guint64 *cookie) {
  struct fuse_entry_param entry = {.attr = {.st_mode = S_IFDIR, .st_ino = dir->inode->st_ino}};
  if (*cookie == 0 && add(reply, ".", &entry, 1))
    *cookie = 1;
  if (*cookie != 1)
    return;
  g_mutex_lock(&fs->lock);
  char *above = dir->inode->named && !dir->inode->control ? qfs_key_parent(dir->inode->key) : NULL;
  QfsInode *parent = above != NULL ? qfs_inode_by_key_locked(fs, above) : NULL;
  entry.attr.st_ino = parent != NULL ? parent->st_ino : FUSE_ROOT_ID;
  g_mutex_unlock(&fs->lock);
  g_free(above);
  if (add(reply, "..", &entry, FIRST_COOKIE))
    *cookie = FIRST_COOKIE;
}

static Ahead *plan_ahead_locked(QfsFs *fs, QfsDirHandle *dir);
static void ask_ahead(Ahead *ahead);

static void answer(QfsCall *call, QfsDirHandle *dir) {
  QfsFs *fs = call->fs;
  Reply reply = {.req = call->req, .size = call->size, .plus = call->flags != 0};
  if (!qfs_call_claim(call)) {
    qfs_call_end_late(call);
    return;
  }
  reply.buf = g_malloc(call->size);
  reply.linked = g_array_new(FALSE, FALSE, sizeof(fuse_ino_t));
  guint64 cookie = call->offset;
  g_mutex_lock(&dir->lock);
  if (cookie < FIRST_COOKIE)
    add_dots(fs, dir, &reply, &cookie);
  while (cookie >= FIRST_COOKIE && has_page_locked(dir, cookie - FIRST_COOKIE)) {
    guint64 at = cookie - FIRST_COOKIE - dir->first;
    if (at >= dir->entries->len)
      break;
    QfsRecord *record = dir->entries->pdata[at];
    struct fuse_entry_param entry;
    fill_entry(fs, dir, record, reply.plus, &entry);
    if (!add(&reply, entry_name(record), &entry, (off_t)cookie + 1)) {
      if (entry.ino != 0)
        qfs_inode_forget(fs, entry.ino, 1);
      break;
    }
    cookie++;
  }
  Ahead *ahead = plan_ahead_locked(fs, dir);
  g_mutex_unlock(&dir->lock);
  if (fuse_reply_buf(reply.req, reply.buf, reply.used) != 0)
    for (guint i = 0; i < reply.linked->len; i++)
      qfs_inode_forget(fs, g_array_index(reply.linked, fuse_ino_t, i), 1);
  g_array_unref(reply.linked);
  g_free(reply.buf);
  qfs_call_end(call);
  if (ahead != NULL)
    ask_ahead(ahead);
}

/* --- reading ahead --- */

/* The page behind the one in memory, if that is not the first and nobody looked beyond it yet; NULL: nothing is to be
 * asked for. Lock dir->lock. */
static Ahead *plan_ahead_locked(QfsFs *fs, QfsDirHandle *dir) {
  if (dir->ahead != NULL || dir->entries == NULL || !dir->more || dir->first == 0 || dir->inode->control ||
      g_atomic_int_get(&fs->closing))
    return NULL;
  const Mark *next = &g_array_index(dir->marks, Mark, dir->marks->len - 1);
  if (next->first != dir->first + dir->entries->len)
    return NULL;
  g_mutex_lock(&fs->lock);
  if (dir->inode->named) {
    dir->refs++;
    dir->ahead = g_slice_new(Ahead);
    *dir->ahead = (Ahead){.fs = fs,
                          .dir = dir,
                          .first = next->first,
                          .key = g_strdup(dir->inode->key),
                          .after = g_strdup(next->after),
                          .changes = dir->inode->changes,
                          .doubts = fs->doubts,
                          .moves_done = fs->moves_done};
  }
  g_mutex_unlock(&fs->lock);
  return dir->ahead;
}

/* Calls that waited for a page: it is here, or they share its failure. */
static void run_waiting(GSList *calls, QfsStatus status) {
  if (status == QFS_OK || status == QFS_NOT_FOUND) {
    qfs_calls_run(calls);
    return;
  }
  for (GSList *l = calls; l != NULL; l = l->next)
    qfs_call_reply_status(l->data, "listing", status);
  g_slist_free(calls);
}

static void ahead_done(QfsRequest *request, gpointer user_data) {
  Ahead *ahead = user_data;
  QfsFs *fs = ahead->fs;
  QfsDirHandle *dir = ahead->dir;
  g_mutex_lock(&dir->lock);
  if (request->status == QFS_OK && request->entries->len > 0)
    ahead->entries = g_steal_pointer(&request->entries);
  ahead->more = request->more;
  ahead->here = TRUE;
  GSList *calls = g_slist_reverse(g_steal_pointer(&ahead->calls));
  if (ahead->dropped)
    ahead_free(ahead);
  g_mutex_unlock(&dir->lock);
  run_waiting(calls, request->status);
  qfs_dir_handle_unref(fs, dir);
  qfs_fs_request_end(fs, request);
}

/* Others may listen for requests meanwhile: the engine reads in this thread. */
static void ask_ahead(Ahead *ahead) {
  QfsRequest *request = qfs_request_new(QFS_REQUEST_LIST, ahead->key, ahead_done, ahead);
  request->after = g_strdup(ahead->after);
  request->limit = PAGE_ENTRIES;
  qfs_session_hand_over();
  qfs_fs_submit(ahead->fs, request);
}

/* Would the engine answer the same now? Lock fs->lock. */
static gboolean is_as_new_locked(const QfsFs *fs, const Ahead *ahead) {
  const QfsInode *inode = ahead->dir->inode;
  return ahead->entries != NULL && inode->named && ahead->changes == inode->changes && ahead->doubts == fs->doubts &&
         ahead->moves_done == fs->moves_done && fs->moves == NULL;
}

/* --- fetching --- */

static void run_readdir(QfsCall *call);

static void list_done(QfsCall *call, QfsRequest *request) {
  QfsFs *fs = call->fs;
  QfsDirHandle *dir = call->dir_handle;
  GPtrArray *entries = g_steal_pointer(&request->entries);
  if (request->status == QFS_NOT_FOUND) { /* removed while it is open: it is empty */
    g_clear_pointer(&entries, g_ptr_array_unref);
    entries = g_ptr_array_new_with_free_func((GDestroyNotify)qfs_record_unref);
  } else if (request->status != QFS_OK) {
    g_clear_pointer(&entries, g_ptr_array_unref);
    qfs_call_reply_status(call, "listing", request->status);
    return;
  }
  g_mutex_lock(&fs->lock);
  add_pending_locked(fs, dir, entries, request->after, request->more);
  g_mutex_unlock(&fs->lock);
  g_mutex_lock(&dir->lock);
  dir->changes = call->page_changes;
  dir->doubts = call->doubts;
  take_page(dir, entries, call->page_first, request->more && entries->len > 0);
  g_mutex_unlock(&dir->lock);
  run_readdir(call);
}

/* Takes what was read ahead, which begins at call->page_first. TRUE: it is the page in memory now, or the call runs again
 * when it is here. Lock dir->lock, released if TRUE. */
static gboolean take_ahead_unlock(QfsCall *call) {
  QfsFs *fs = call->fs;
  QfsDirHandle *dir = call->dir_handle;
  Ahead *ahead = dir->ahead;
  if (ahead == NULL || ahead->first != call->page_first) {
    drop_ahead_locked(dir);
    return FALSE;
  }
  if (!ahead->here) {
    call->attempts--; /* it comes back to the same place */
    ahead->calls = g_slist_prepend(ahead->calls, call);
    g_mutex_unlock(&dir->lock);
    return TRUE;
  }
  g_mutex_lock(&fs->lock);
  const gboolean good = is_as_new_locked(fs, ahead);
  if (good)
    add_pending_locked(fs, dir, ahead->entries, ahead->after, ahead->more);
  g_mutex_unlock(&fs->lock);
  if (good) {
    dir->changes = ahead->changes;
    dir->doubts = ahead->doubts;
    take_page(dir, g_steal_pointer(&ahead->entries), ahead->first, ahead->more);
  }
  drop_ahead_locked(dir);
  if (good) {
    g_mutex_unlock(&dir->lock);
    run_readdir(call);
  }
  return good;
}

/* A page of what one replica holds, read at once. Lock dir->lock, released. */
static void fetch_replica_unlock(QfsCall *call, const char *after) {
  QfsDirHandle *dir = call->dir_handle;
  g_autofree char *from = g_strdup(after);
  GPtrArray *entries = NULL;
  gboolean more = FALSE;
  g_mutex_unlock(&dir->lock);
  int error = qfs_keys_page(call->fs, dir->inode, from, PAGE_ENTRIES, &entries, &more);
  if (error != 0) {
    qfs_call_reply_errno(call, error);
    return;
  }
  g_mutex_lock(&dir->lock);
  take_page(dir, entries, call->page_first, more);
  g_mutex_unlock(&dir->lock);
  run_readdir(call);
}

/* The list from the last page boundary at or before `ordinal`. Lock dir->lock, released. */
static void fetch_unlock(QfsCall *call, guint64 ordinal) {
  QfsFs *fs = call->fs;
  QfsDirHandle *dir = call->dir_handle;
  const Mark *from = NULL;
  for (guint i = dir->marks->len; i > 0 && from == NULL; i--)
    if (g_array_index(dir->marks, Mark, i - 1).first <= ordinal)
      from = &g_array_index(dir->marks, Mark, i - 1);
  call->page_first = from != NULL ? from->first : 0;
  if (dir->inode->control) {
    fetch_replica_unlock(call, from != NULL ? from->after : NULL);
    return;
  }
  if (take_ahead_unlock(call))
    return;
  QfsRequest *request = qfs_request_new(QFS_REQUEST_LIST, NULL, NULL, NULL);
  request->after = from != NULL ? g_strdup(from->after) : NULL;
  request->limit = PAGE_ENTRIES;
  g_mutex_unlock(&dir->lock);

  g_mutex_lock(&fs->lock);
  gboolean removed = !dir->inode->named;
  request->key = removed ? NULL : g_strdup(dir->inode->key);
  call->page_changes = dir->inode->changes;
  g_mutex_unlock(&fs->lock);
  if (removed) {
    qfs_request_free(request);
    g_mutex_lock(&dir->lock);
    take_page(dir, g_ptr_array_new_with_free_func((GDestroyNotify)qfs_record_unref),
              call->page_first, FALSE);
    g_mutex_unlock(&dir->lock);
    answer(call, dir);
    return;
  }
  qfs_call_submit(call, request, list_done);
}

static void run_readdir(QfsCall *call) {
  QfsDirHandle *dir = call->dir_handle;
  guint64 ordinal = call->offset > FIRST_COOKIE ? call->offset - FIRST_COOKIE : 0;
  g_mutex_lock(&dir->lock);
  if (call->offset == 0 && !call->got) { /* from the beginning: a fresh list */
    call->got = TRUE;
    g_clear_pointer(&dir->entries, g_ptr_array_unref);
    g_array_set_size(dir->marks, 0);
    drop_ahead_locked(dir);
  }
  guint node;
  const char *key;
  if (dir->inode->control && dir->entries == NULL && !qfs_keys_is_dir(call->fs, dir->inode, &node, &key))
    take_page(dir, control_entries(call->fs, dir->inode), 0, FALSE);
  /* Everything before a page boundary may have shrunk meanwhile; go on at most so many pages. */
  if (has_page_locked(dir, ordinal) || call->attempts++ > dir->marks->len + 1) {
    g_mutex_unlock(&dir->lock);
    answer(call, dir);
    return;
  }
  fetch_unlock(call, ordinal);
}

static void start(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
                  struct fuse_file_info *fi, gboolean plus) {
  QfsCall *call = qfs_call_new(req, run_readdir);
  g_mutex_lock(&call->fs->lock);
  call->dir_handle = dir_of(fi);
  call->dir_handle->refs++;
  g_mutex_unlock(&call->fs->lock);
  call->size = size;
  call->offset = (guint64)offset;
  call->flags = plus;
  run_readdir(call);
}

static void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
                       struct fuse_file_info *fi) {
  start(req, ino, size, offset, fi, FALSE);
}

static void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
                           struct fuse_file_info *fi) {
  start(req, ino, size, offset, fi, TRUE);
}

/* --- fsyncdir: which names are in it is told by the records of all of them --- */

static void fsyncdir_done(QfsCall *call, QfsRequest *request) {
  qfs_call_reply_status(call, "fsync", request->status);
}

static void op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi) {
  QfsCall *call = qfs_call_new(req, NULL);
  call->inode = qfs_inode_get(call->fs, ino);
  if (call->inode == NULL || call->inode->control)
    qfs_call_reply_errno(call, 0);
  else
    qfs_call_submit(call, qfs_request_new(QFS_REQUEST_SYNC, NULL, NULL, NULL), fsyncdir_done);
}

void qfs_ops_dir_init(struct fuse_lowlevel_ops *ops) {
  ops->opendir = op_opendir;
  ops->readdir = op_readdir;
  ops->readdirplus = op_readdirplus;
  ops->releasedir = op_releasedir;
  ops->fsyncdir = op_fsyncdir;
}
