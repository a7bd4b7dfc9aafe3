/* subtree.c - a directory with all that is below it, while it is renamed (op_rename.c).
 *
 * One at a time, for the tree at its old name and the one at its new name together:
 *
 *   claim -> quiet -> read both -> (op_rename.c sends the batch) -> release
 *
 * From the claim on, operations on keys below either name wait before they lock them; those that hold a lock
 * already, or whose version is not acknowledged, are waited for. So what is read then is all there is, and nothing
 * changes until the batch was decided. Who waited and asks for it (request.follow) goes on with the new name: the
 * file that it means is there now.
 */
#include "cluster/private.h"

#include <string.h>

#define TREE_KEYS_MAX 100000
/* Nodes do nothing else while they carry out the batch: with more, those who wait for them would give them up. */
#define TREE_KEYS_PER_MS_OF_TIMEOUT 10
#define TREE_BYTES_MAX (32u << 20)
/* What it may take longer than other requests. */
#define DEADLINE_FACTOR 10

struct QfsSubtree {
  QfsOp *op;             /* whose it is; not a reference */
  char *root[2];         /* old and new name */
  gboolean exchange;
  GHashTable *found;     /* key -> QfsRecord */
  GHashTable *queued;    /* set of paths below the roots: directories */
  GQueue dirs;           /* ... of which these are still to be listed, in both trees */
  guint side;            /* the tree being listed */
  char *dir;             /* the path being listed */
  char *listing;         /* ... as key */
  gsize bytes;
  gboolean too_much;
  QfsSubtreeDone done;
  gpointer data;
};

static gboolean is_in(const QfsSubtree *tree, const QfsKey *key) {
  return key != NULL && (qfs_key_below(tree->root[0], key->key) != NULL || qfs_key_below(tree->root[1], key->key) != NULL);
}

/* ---- one at a time ---- */

gboolean qfs_subtree_claim(QfsCoordinator *c, QfsOp *op, const char *from, const char *to, gboolean exchange) {
  if (c->tree != NULL && c->tree->op == op)
    return TRUE;
  if (c->tree != NULL) {
    qfs_op_park(c, op);
    return FALSE;
  }
  QfsSubtree *tree = g_new0(QfsSubtree, 1);
  tree->op = op;
  tree->root[0] = g_strdup(from);
  tree->root[1] = g_strdup(to);
  tree->exchange = exchange;
  tree->found = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify)qfs_record_unref);
  tree->queued = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
  g_queue_init(&tree->dirs);
  c->tree = tree;
  qfs_op_extend(c, op, DEADLINE_FACTOR);
  return TRUE;
}

static void tree_free(QfsSubtree *tree) {
  g_free(tree->root[0]);
  g_free(tree->root[1]);
  g_hash_table_unref(tree->found);
  g_queue_clear(&tree->dirs);
  g_hash_table_unref(tree->queued);
  g_free(tree->listing);
  g_free(tree);
}

static void follow(QfsCoordinator *c, QfsKey **key, char **name) {
  if (*key == NULL || (!c->tree->exchange && qfs_key_below(c->tree->root[0], (*key)->key) == NULL))
    return;
  char *other = qfs_subtree_other(c, (*key)->key);
  if (other == NULL)
    return;
  qfs_key_done(c, *key);
  *key = qfs_key_use(c, other);
  g_free(*name);
  *name = other;
}

void qfs_subtree_release(QfsCoordinator *c, QfsOp *op, gboolean moved) {
  if (c->tree == NULL || c->tree->op != op)
    return;
  for (GList *link = c->ops.head; link != NULL; link = link->next) {
    QfsOp *waiting = link->data;
    if (moved && waiting->held_back && waiting->request->follow) {
      follow(c, &waiting->key, &waiting->request->key);
      follow(c, &waiting->key2, &waiting->request->key2);
    }
    waiting->held_back = FALSE;
  }
  tree_free(c->tree);
  c->tree = NULL;
}

static gboolean holds(const QfsKey *key, const QfsOp *op) { return key != NULL && key->planner == op; }

gboolean qfs_subtree_holds_back(QfsCoordinator *c, QfsOp *op) {
  const QfsSubtree *tree = c->tree;
  if (tree == NULL || tree->op == op || op->locked || op->locked2 || holds(op->key, op) || holds(op->key2, op))
    return FALSE;
  if (!is_in(tree, op->key) && !is_in(tree, op->key2))
    return FALSE;
  op->held_back = TRUE;
  qfs_op_park(c, op);
  return TRUE;
}

static gboolean is_busy(const QfsKey *key) {
  return key->planner != NULL || key->waiting.length > 0 || (key->have_base && key->newest != key->acked);
}

gboolean qfs_subtree_is_quiet(QfsCoordinator *c, QfsOp *op) {
  GHashTableIter iter;
  gpointer value;
  g_hash_table_iter_init(&iter, c->keys);
  while (g_hash_table_iter_next(&iter, NULL, &value))
    if (is_in(c->tree, value) && is_busy(value)) {
      qfs_op_park(c, op);
      return FALSE;
    }
  return TRUE;
}

/* ---- reading ---- */

static void next_page(QfsCoordinator *c, QfsSubtree *tree, const char *after);

static void queue_dir(QfsSubtree *tree, const char *path) {
  if (g_hash_table_contains(tree->queued, path))
    return;
  char *copy = g_strdup(path);
  g_hash_table_add(tree->queued, copy);
  g_queue_push_tail(&tree->dirs, copy);
}

static guint keys_max(const QfsCoordinator *c) {
  return MIN(TREE_KEYS_MAX, c->config.timeout_ms * TREE_KEYS_PER_MS_OF_TIMEOUT);
}

static void take(const QfsCoordinator *c, QfsSubtree *tree, QfsRecord *record) {
  g_hash_table_replace(tree->found, record->key, qfs_record_ref(record));
  tree->bytes += sizeof *record + strlen(record->key) + g_bytes_get_size(record->tail) +
                 g_bytes_get_size(record->xattrs) + g_bytes_get_size(record->spans);
  if (g_hash_table_size(tree->found) > keys_max(c) || tree->bytes > TREE_BYTES_MAX)
    tree->too_much = TRUE;
  if (record->kind == QFS_KIND_DIRECTORY)
    queue_dir(tree, qfs_key_below(tree->root[tree->side], record->key));
}

static void read_over(QfsCoordinator *c, QfsSubtree *tree, QfsStatus status) { tree->done(c, status, tree->data); }

static void next_dir(QfsCoordinator *c, QfsSubtree *tree) {
  if (tree->dir != NULL && tree->side == 0) {
    tree->side = 1;
  } else {
    tree->side = 0;
    tree->dir = g_queue_pop_head(&tree->dirs);
    if (tree->dir == NULL) {
      read_over(c, tree, QFS_OK);
      return;
    }
  }
  g_free(tree->listing);
  tree->listing = tree->dir[0] == '\0' ? g_strdup(tree->root[tree->side])
                                       : g_strconcat(tree->root[tree->side], "/", tree->dir, NULL);
  next_page(c, tree, NULL);
}

static void page_read(QfsCoordinator *c, QfsStatus status, GPtrArray *entries, gboolean more, gpointer data) {
  QfsOp *op = data;
  QfsSubtree *tree = c->tree;
  if (tree == NULL || tree->op != op) { /* the request is over */
    qfs_op_unref(c, op);
    return;
  }
  const char *last = NULL;
  for (guint i = 0; status == QFS_OK && i < entries->len; i++) {
    QfsRecord *record = entries->pdata[i];
    take(c, tree, record);
    last = strrchr(record->key, '/') + 1;
  }
  if (status == QFS_OK && tree->too_much)
    qfs_log(c, G_LOG_LEVEL_WARNING,
            "'%s' is not renamed in one step: more than %u names or %u MiB of small values are below it; mv copies instead",
            tree->root[tree->side], keys_max(c), TREE_BYTES_MAX >> 20);
  if (status != QFS_OK || tree->too_much)
    read_over(c, tree, status != QFS_OK ? status : QFS_CROSS);
  else if (more && last != NULL)
    next_page(c, tree, last);
  else
    next_dir(c, tree);
  qfs_op_unref(c, op);
}

static void next_page(QfsCoordinator *c, QfsSubtree *tree, const char *after) {
  qfs_list_whole(c, tree->listing, after, page_read, qfs_op_ref(tree->op));
}

void qfs_subtree_read(QfsCoordinator *c, QfsSubtreeDone done, gpointer data) {
  QfsSubtree *tree = c->tree;
  g_hash_table_remove_all(tree->found);
  g_queue_clear(&tree->dirs);
  g_hash_table_remove_all(tree->queued);
  tree->bytes = 0;
  tree->dir = NULL;
  tree->done = done;
  tree->data = data;
  queue_dir(tree, "");
  next_dir(c, tree);
}

/* ---- what was read ---- */

static gint by_key(gconstpointer a, gconstpointer b) {
  return strcmp((*(QfsRecord *const *)a)->key, (*(QfsRecord *const *)b)->key);
}

GPtrArray *qfs_subtree_records(const QfsCoordinator *c) {
  GPtrArray *records = qfs_records_new();
  GHashTableIter iter;
  gpointer value;
  g_hash_table_iter_init(&iter, c->tree->found);
  while (g_hash_table_iter_next(&iter, NULL, &value))
    g_ptr_array_add(records, qfs_record_ref(value));
  g_ptr_array_sort(records, by_key);
  return records;
}

QfsRecord *qfs_subtree_find(const QfsCoordinator *c, const char *key) {
  return g_hash_table_lookup(c->tree->found, key);
}

gboolean qfs_subtree_has(const QfsCoordinator *c, const char *dir) {
  GHashTableIter iter;
  gpointer value;
  g_hash_table_iter_init(&iter, c->tree->found);
  while (g_hash_table_iter_next(&iter, NULL, &value))
    if (qfs_record_exists(value) && qfs_key_below(dir, ((const QfsRecord *)value)->key) != NULL)
      return TRUE;
  return FALSE;
}

char *qfs_subtree_other(const QfsCoordinator *c, const char *key) {
  for (guint side = 0; side < 2; side++) {
    const char *path = qfs_key_below(c->tree->root[side], key);
    if (path != NULL)
      return g_strconcat(c->tree->root[1 - side], "/", path, NULL);
  }
  return NULL;
}
