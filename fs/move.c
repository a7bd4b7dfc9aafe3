/* move.c - see move.h. */
#include "fs/move.h"

#include "fs/names.h"

#include <string.h>

struct QfsMove {
  QfsInode *dir;   /* referenced */
  char *root[2];   /* old and new name */
  gboolean exchange;
  const QfsRequest *own; /* the rename */
  guint64 number;
  guint waits;         /* T3: for so many changes of before */
  QfsRequest *kept;    /* the rename, meanwhile */
};

static gboolean is_below(const char *dir, const char *key) {
  return key != NULL && qfs_key_below(dir, key) != NULL;
}

static QfsMove *move_of_locked(const QfsFs *fs, const QfsRequest *request) {
  for (const GSList *l = fs->moves; l != NULL; l = l->next)
    if (((QfsMove *)l->data)->own == request)
      return l->data;
  return NULL;
}

void qfs_move_begin_locked(QfsFs *fs, QfsInode *dir, const QfsRequest *request) {
  QfsMove *move = g_new0(QfsMove, 1);
  move->dir = qfs_inode_ref_locked(dir);
  move->root[0] = g_strdup(request->key);
  move->root[1] = g_strdup(request->key2);
  move->exchange = (request->flags & QFS_RENAME_EXCHANGE) != 0;
  move->own = request;
  move->number = ++fs->moves_begun;
  move->waits = fs->handing;
  fs->moves = g_slist_append(fs->moves, move);
  g_atomic_int_inc(&fs->n_moves);
}

static QfsMove *take_move_locked(QfsFs *fs, const QfsInode *dir) {
  for (GSList *l = fs->moves; l != NULL; l = l->next) {
    QfsMove *move = l->data;
    if (move->dir != dir)
      continue;
    fs->moves = g_slist_delete_link(fs->moves, l);
    g_atomic_int_add(&fs->n_moves, -1);
    return move;
  }
  g_assert_not_reached();
}

/* What the key is called after the move; NULL: as before. */
static char *moved_name(const QfsMove *move, const char *key) {
  for (guint i = 0; key != NULL && i < (move->exchange ? 2 : 1); i++) {
    const char *rest = qfs_key_below(move->root[i], key);
    if (rest != NULL)
      return g_strconcat(move->root[1 - i], "/", rest, NULL);
  }
  return NULL;
}

/* Both move together: with two trees that are exchanged a file's new name may be a link's old one. */
static void rename_below_locked(QfsFs *fs, const QfsMove *move) {
  g_autoptr(GPtrArray) inodes = g_ptr_array_new();
  g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
  g_autoptr(GPtrArray) linked = g_ptr_array_new();
  g_autoptr(GPtrArray) links = g_ptr_array_new_with_free_func(g_free);
  g_autoptr(GPtrArray) former = g_ptr_array_new_with_free_func(g_free);
  GHashTableIter iter;
  gpointer key, value;
  g_hash_table_iter_init(&iter, fs->by_key);
  while (g_hash_table_iter_next(&iter, NULL, &value)) {
    char *name = moved_name(move, ((const QfsInode *)value)->key);
    if (name == NULL)
      continue;
    g_ptr_array_add(inodes, value);
    g_ptr_array_add(names, name);
  }
  g_hash_table_iter_init(&iter, fs->by_link);
  while (g_hash_table_iter_next(&iter, &key, &value)) {
    char *name = moved_name(move, key);
    if (name == NULL)
      continue;
    g_ptr_array_add(linked, value);
    g_ptr_array_add(links, name);
    g_ptr_array_add(former, g_strdup(key));
  }
  for (guint i = 0; i < inodes->len; i++)
    qfs_inode_unname_locked(fs, inodes->pdata[i], NULL);
  for (guint i = 0; i < linked->len; i++)
    qfs_names_drop_link_locked(fs, former->pdata[i]);
  for (guint i = 0; i < inodes->len; i++) {
    qfs_inode_rename_locked(fs, inodes->pdata[i], names->pdata[i]);
    qfs_inode_doubt_locked(fs, inodes->pdata[i]); /* its record bears the old name */
  }
  for (guint i = 0; i < linked->len; i++)
    qfs_inode_add_link_locked(fs, linked->pdata[i], links->pdata[i]);
}

/* A change that was decided on under the names of before. */
static void follow_locked(const QfsMove *move, QfsRequest *request) {
  char *name = moved_name(move, request->key), *name2 = moved_name(move, request->key2);
  if (name != NULL) {
    g_free(request->key);
    request->key = name;
  }
  if (name2 != NULL) {
    g_free(request->key2);
    request->key2 = name2;
  }
}

GSList *qfs_move_end_locked(QfsFs *fs, QfsInode *dir, gboolean moved) {
  QfsMove *move = take_move_locked(fs, dir);
  GSList *free_now = NULL, *still = NULL;
  if (moved) {
    rename_below_locked(fs, move);
    fs->moves_done++;
    for (GSList *l = fs->undecided; l != NULL; l = l->next)
      follow_locked(move, l->data);
  }
  for (GSList *l = fs->held; l != NULL; l = l->next) {
    QfsRequest *request = l->data;
    if (moved)
      follow_locked(move, request);
    if (fs->moves == NULL) {
      qfs_move_note_locked(fs, request); /* a rename that begins before it is sent waits for it */
      free_now = g_slist_prepend(free_now, request);
    } else {
      still = g_slist_prepend(still, request); /* looked at again at the end of the last one */
    }
  }
  g_slist_free(fs->held);
  fs->held = g_slist_reverse(still);
  qfs_inode_unref_locked(fs, move->dir);
  g_free(move->root[0]);
  g_free(move->root[1]);
  g_free(move);
  return g_slist_reverse(free_now);
}

void qfs_move_send(QfsFs *fs, GSList *held) {
  for (GSList *l = held; l != NULL; l = l->next)
    qfs_fs_send(fs, l->data);
  g_slist_free(held);
}

static gboolean is_below_a_move_locked(const QfsFs *fs, const char *key) {
  for (const GSList *l = fs->moves; l != NULL; l = l->next) {
    const QfsMove *move = l->data;
    if (is_below(move->root[0], key) || is_below(move->root[1], key))
      return TRUE;
  }
  return FALSE;
}

static gboolean is_read(const QfsRequest *request) {
  return request->type == QFS_REQUEST_GET || request->type == QFS_REQUEST_LIST;
}

void qfs_move_note_locked(QfsFs *fs, QfsRequest *request) {
  if (move_of_locked(fs, request) != NULL)
    return; /* a rename does not wait for itself */
  request->mark = fs->moves_begun + 1;
  fs->handing++;
  fs->undecided = g_slist_prepend(fs->undecided, request);
}

void qfs_move_handed_over(QfsFs *fs, guint64 mark) {
  GSList *ready = NULL;
  g_mutex_lock(&fs->lock);
  fs->handing--;
  for (GSList *l = fs->moves; l != NULL; l = l->next) {
    QfsMove *move = l->data;
    if (move->number < mark)
      continue; /* it had begun before */
    if (--move->waits == 0 && move->kept != NULL)
      ready = g_slist_prepend(ready, g_steal_pointer(&move->kept));
  }
  g_mutex_unlock(&fs->lock);
  for (GSList *l = ready; l != NULL; l = l->next)
    qfs_fs_send(fs, l->data);
  g_slist_free(ready);
}

gboolean qfs_move_holds(QfsFs *fs, QfsRequest *request) {
  const gboolean reads = is_read(request) || request->type == QFS_REQUEST_READ;
  if (request->mark == 0 && (g_atomic_int_get(&fs->n_moves) == 0 || reads))
    return FALSE;
  g_mutex_lock(&fs->lock);
  if (request->mark != 0)
    fs->undecided = g_slist_remove(fs->undecided, request);
  QfsMove *own = move_of_locked(fs, request);
  gboolean early = own != NULL && own->waits > 0;
  if (early)
    own->kept = request;
  gboolean held = early || is_below_a_move_locked(fs, request->key) || is_below_a_move_locked(fs, request->key2);
  if (held && !early)
    fs->held = g_slist_append(fs->held, request);
  g_mutex_unlock(&fs->lock);
  return held;
}

gboolean qfs_move_outran(QfsCall *call, const QfsRequest *answer) {
  QfsFs *fs = call->fs;
  if (!is_read(answer) || call->run == NULL)
    return FALSE;
  g_mutex_lock(&fs->lock);
  gboolean again = call->moves_done != fs->moves_done;
  gboolean nothing = answer->type == QFS_REQUEST_LIST || answer->status == QFS_NOT_FOUND;
  gboolean wait = !again && nothing && is_below_a_move_locked(fs, answer->key);
  /* A directory is itself below no move, but what is listed of it is. */
  for (const GSList *l = fs->moves; !again && !wait && nothing && l != NULL; l = l->next) {
    const QfsMove *move = l->data;
    wait = g_strcmp0(answer->key, move->root[0]) == 0 || g_strcmp0(answer->key, move->root[1]) == 0;
  }
  if (wait)
    qfs_call_park_locked(call, ((const QfsMove *)fs->moves->data)->dir, 0);
  g_mutex_unlock(&fs->lock);
  if (again)
    qfs_call_run(call);
  return again || wait;
}

QfsInode *qfs_move_pending_locked(QfsFs *fs, const char *key) {
  for (const GList *l = fs->pending.head; l != NULL; l = l->next)
    if (is_below(key, ((const QfsInode *)l->data)->key))
      return l->data;
  return NULL;
}
