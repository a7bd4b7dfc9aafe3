/* op_list.c - LIST: one page of a directory, merged from enough in-sync nodes to see every key.
 *
 * Any N-K+1 of the base nodes include a holder of every key. Rows whose key has something in flight are
 * replaced by what is acknowledged, both as of the start and as of the end of the page. Tombstones count as rows, and a
 * directory may have had a million of names: as long as the nodes answer, who asked goes on waiting.
 */
#include "cluster/private.h"

#include <string.h>

#define LIST_LIMIT_MAX 4096
#define WHOLE_LIMIT 1024

typedef struct {
  char *dir, *after;
  guint limit;
  guint reach;             /* rows that are read from a node at once; more and more while they are tombstones */
  QfsNodeSet failed;
  guint left, tries;
  guint64 base_epoch;      /* `left` was reckoned by the base of this view */
  QfsStatus status;
  gboolean mending;        /* a bad row was met */
  gboolean whole;          /* with data and tombstones */
  gboolean more;
  char *cut;               /* smallest last name of the nodes that have more: beyond it is unknown */
  GHashTable *found;       /* key -> QfsRecord, newest */
  QfsOp *op;               /* borrowed, of `data`; NULL: none waits for it */
  QfsListDone done;
  gpointer data;
} Page;

static void page_start(QfsCoordinator *c, Page *page);

static void page_free(Page *page) {
  g_free(page->dir);
  g_free(page->after);
  g_free(page->cut);
  g_hash_table_unref(page->found);
  g_slice_free(Page, page);
}

static const char *name_of(const QfsRecord *record) {
  const char *name;
  gsize dir_len;
  qfs_key_split(record->key, &dir_len, &name);
  return name;
}

static void found(Page *page, QfsRecord *record) {
  QfsRecord *known = g_hash_table_lookup(page->found, record->key);
  if (known == NULL || qfs_record_compare(record, known) > 0)
    g_hash_table_replace(page->found, record->key, qfs_record_ref(record));
}

/* What is in memory about children of the directory. `override`: it decides, whatever was read. */
static void overlay(QfsCoordinator *c, Page *page, gboolean override) {
  GHashTableIter iter;
  gpointer value;
  gsize len = strlen(page->dir);
  g_hash_table_iter_init(&iter, c->keys);
  while (g_hash_table_iter_next(&iter, NULL, &value)) {
    QfsKey *key = value;
    const char *name;
    gsize dir_len;
    qfs_key_split(key->key, &dir_len, &name);
    if (!key->have_base || dir_len != len || memcmp(key->key, page->dir, len) != 0 ||
        name[0] == '\0' || (page->after != NULL && strcmp(name, page->after) <= 0))
      continue;
    if (key->key[0] == '/' && len == 0)
      continue;
    if (override)
      g_hash_table_remove(page->found, key->key);
    if (key->acked != NULL)
      found(page, key->acked);
  }
}

static gint by_name(gconstpointer a, gconstpointer b) {
  return strcmp(name_of(*(QfsRecord *const *)a), name_of(*(QfsRecord *const *)b));
}

static void page_end(QfsCoordinator *c, Page *page) {
  overlay(c, page, TRUE);
  g_autoptr(GPtrArray) rows = qfs_records_new();
  GHashTableIter iter;
  gpointer value;
  g_hash_table_iter_init(&iter, page->found);
  while (g_hash_table_iter_next(&iter, NULL, &value))
    if (page->cut == NULL || strcmp(name_of(value), page->cut) <= 0)
      g_ptr_array_add(rows, qfs_record_ref(value));
  g_ptr_array_sort(rows, by_name);
  GPtrArray *entries = qfs_records_new();
  gboolean more = page->cut != NULL;
  for (guint i = 0; i < rows->len; i++) {
    QfsRecord *record = rows->pdata[i];
    if (entries->len == page->limit) {
      more = TRUE;
      break;
    }
    if (page->whole || qfs_record_exists(record)) /* tombstones count as places, not as entries */
      g_ptr_array_add(entries, qfs_record_ref(record));
  }
  if (more && entries->len == 0 && page->cut != NULL) { /* nothing but tombstones so far: go on */
    g_ptr_array_unref(entries);
    g_free(page->after);
    page->after = g_steal_pointer(&page->cut);
    page->reach = MIN(page->reach * 4, LIST_LIMIT_MAX);
    g_hash_table_remove_all(page->found);
    if (page->op != NULL)
      qfs_op_goes_on(c, page->op);
    page_start(c, page);
    return;
  }
  page->done(c, QFS_OK, entries, more, page->data);
  g_ptr_array_unref(entries);
  page_free(page);
}

static void node_listed(QfsCoordinator *c, QfsRead *read, gpointer data) {
  Page *page = data;
  if (read->status != QFS_OK) {
    page->failed |= qfs_read_bit(read);
    page->status = read->status;
    if (read->bad != NULL && c->peer[read->node].state == PEER_TRUSTED &&
        c->peer[read->node].incarnation == read->incarnation) {
      qfs_mend_bad_row(c, &c->peer[read->node], read->bad, FALSE, read->reason);
      page->mending = TRUE;
    } else if (read->status == QFS_IO && c->peer[read->node].state == PEER_TRUSTED &&
        qfs_view_allows(c, qfs_peers_in(c, PEER_TRUSTED) & ~QFS_NODE_BIT(read->node)))
      qfs_peer_fail(c, &c->peer[read->node], read->reason ? read->reason : "read failed", read->corrupt);
  } else {
    for (guint i = 0; i < read->list->len; i++)
      found(page, read->list->pdata[i]);
    if (read->more && read->list->len > 0) {
      const char *last = name_of(read->list->pdata[read->list->len - 1]);
      if (page->cut == NULL || strcmp(last, page->cut) < 0) {
        g_free(page->cut);
        page->cut = g_strdup(last);
      }
    }
  }
  if (page->status == QFS_OK && --page->left > 0)
    return;
  if (page->status == QFS_OK && page->base_epoch == c->base_epoch) {
    page_end(c, page);
    return;
  }
  g_hash_table_remove_all(page->found);
  g_clear_pointer(&page->cut, g_free);
  page_start(c, page);
}

QfsNodeSet qfs_listable(const QfsCoordinator *c) {
  return c->serving ? qfs_peers_in(c, PEER_TRUSTED) & c->view.in_sync & c->view.base : 0;
}

static void page_again(QfsCoordinator *c, gpointer data) { page_start(c, data); }

static void page_start(QfsCoordinator *c, Page *page) {
  QfsNodeSet trusted = qfs_listable(c) & ~page->failed & ~qfs_peers_mute(c);
  guint base = qfs_set_size(c->view.base), need = base - MIN(base, qfs_replicas(c)) + 1;
  if (qfs_set_size(trusted) < need && page->mending && !g_queue_is_empty(&c->mends)) {
    page->mending = FALSE;
    page->failed = 0;
    qfs_mend_wait(c, page_again, page); /* the others do not suffice */
    return;
  }
  const gboolean given_up = page->op != NULL && page->op->dead;
  if (given_up || c->blocked || qfs_set_size(trusted) < need || ++page->tries > 10000) {
    QfsStatus status = page->status == QFS_IO ? QFS_IO : QFS_NO_QUORUM;
    page->done(c, status, NULL, FALSE, page->data);
    page_free(page);
    return;
  }
  page->status = QFS_OK;
  page->base_epoch = c->base_epoch;
  overlay(c, page, FALSE);
  page->left = need;
  QfsRead *what = qfs_read_new(QFS_READ_LIST, 0);
  what->key = g_strdup(page->dir);
  what->after = g_strdup(page->after);
  what->limit = page->reach;
  what->whole = page->whole;
  qfs_ask(c, what, qfs_key_hash(page->dir), trusted, page->failed, need, node_listed, page);
}

/* A node has K of N names: so many rows of each node make a page, and some more, since they are not spread evenly. */
static guint first_reach(const QfsCoordinator *c, guint limit) {
  const guint base = MAX(qfs_set_size(c->view.base), 1), replicas = MIN(qfs_replicas(c), base);
  return MIN(limit, limit * replicas / base + limit / 16 + 8);
}

static void list_page(QfsCoordinator *c, QfsOp *op, const char *dir, const char *after, guint limit, gboolean whole,
                      QfsListDone done, gpointer data) {
  Page *page = g_slice_new0(Page);
  page->op = op;
  page->dir = g_strdup(dir);
  page->after = g_strdup(after);
  page->limit = CLAMP(limit, 1, LIST_LIMIT_MAX);
  page->reach = first_reach(c, page->limit);
  page->whole = whole;
  page->found =
      g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify)qfs_record_unref);
  page->done = done;
  page->data = data;
  page_start(c, page);
}

/* ---- the request ---- */

static void listed(QfsCoordinator *c, QfsStatus status, GPtrArray *entries, gboolean more,
                   gpointer data) {
  QfsOp *op = data;
  if (op->request != NULL) {
    if (status == QFS_OK) {
      op->request->entries = g_ptr_array_ref(entries);
      op->request->more = more;
    }
    qfs_op_finish(c, op, status);
  }
  qfs_op_unref(c, op);
}

static void no_step(QfsCoordinator *c, QfsOp *op) {}

void qfs_op_list(QfsCoordinator *c, QfsRequest *request) {
  QfsOp *op = qfs_op_new(c, request, no_step);
  op->sent = TRUE; /* nothing to unwind */
  qfs_wake_at(c, op->deadline_us);
  list_page(c, op, request->key, request->after, request->limit != 0 ? request->limit : 512, FALSE, listed,
            qfs_op_ref(op));
}

void qfs_list_whole(QfsCoordinator *c, const char *dir, const char *after, QfsListDone done, gpointer data) {
  list_page(c, NULL, dir, after, WHOLE_LIMIT, TRUE, done, data);
}

/* ---- is a directory empty? ---- */

typedef struct {
  QfsEmptyDone done;
  gpointer data;
} Empty;

static void first_listed(QfsCoordinator *c, QfsStatus status, GPtrArray *entries, gboolean more,
                         gpointer data) {
  Empty *empty = data;
  empty->done(c, status, status == QFS_OK && entries->len == 0, empty->data);
  g_free(empty);
}

void qfs_list_is_empty(QfsCoordinator *c, QfsOp *op, const char *dir, QfsEmptyDone done, gpointer data) {
  Empty *empty = g_new(Empty, 1);
  empty->done = done;
  empty->data = data;
  list_page(c, op, dir, NULL, 16, FALSE, first_listed, empty);
}
