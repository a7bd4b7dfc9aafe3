/* op_list.c - LIST: one page of a directory, merged from enough in-sync nodes to see every key.
 *
 * Any N-K+1 of the base nodes include a holder of every key. Rows whose key has something in flight are
 * replaced by what is acknowledged, both as of the start and as of the end of the page. Tombstones count as rows, and a
 * directory may have had a million of names: as long as the nodes answer, who asked goes on waiting. All lists are in
 * the order of names, and so is what they become.
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
  gsize name_at;           /* where the name begins in a key of the directory */
  GPtrArray *found;        /* QfsRecord in the order of names, of each the newest; NULL: nothing was asked yet */
  QfsOp *op;               /* borrowed, of `data`; NULL: none waits for it */
  QfsListDone done;
  gpointer data;
} Page;

static void page_start(QfsCoordinator *c, Page *page);

static void page_free(Page *page) {
  g_free(page->dir);
  g_free(page->after);
  g_free(page->cut);
  g_clear_pointer(&page->found, g_ptr_array_unref);
  g_slice_free(Page, page);
}

static const char *name_in(const Page *page, const char *key) { return key + page->name_at; }

static const char *name_of(const Page *page, const QfsRecord *record) { return name_in(page, record->key); }

/* Which of two lists has the next name: <0 a, >0 b, 0 both. */
static int next_of(const char *a, const char *b) { return a == NULL ? 1 : b == NULL ? -1 : strcmp(a, b); }

static const char *name_at(const Page *page, const GPtrArray *records, guint i) {
  return i < records->len ? name_of(page, records->pdata[i]) : NULL;
}

/* The newer of two versions; the other one is given back. */
static QfsRecord *newer(QfsRecord *a, QfsRecord *b) {
  const gboolean first = qfs_record_compare(a, b) >= 0;
  qfs_record_unref(first ? b : a);
  return first ? a : b;
}

/* What a node answered, in the order of names, comes to what was found. Takes the records. */
static void found(Page *page, GPtrArray *list) {
  GPtrArray *known = page->found, *both = g_ptr_array_new_full(known->len + list->len, (GDestroyNotify)qfs_record_unref);
  for (guint i = 0, j = 0; i < known->len || j < list->len;) {
    const int next = next_of(name_at(page, known, i), name_at(page, list, j));
    QfsRecord *a = next <= 0 ? known->pdata[i++] : NULL, *b = next >= 0 ? list->pdata[j++] : NULL;
    g_ptr_array_add(both, next == 0 ? newer(a, b) : next < 0 ? a : b);
  }
  g_free(g_ptr_array_steal(known, NULL));
  g_free(g_ptr_array_steal(list, NULL));
  g_ptr_array_unref(known);
  page->found = both;
}

static gint by_name(gconstpointer a, gconstpointer b) { /* keys of one directory */
  return strcmp((*(QfsKey *const *)a)->key, (*(QfsKey *const *)b)->key);
}

/* Those that are in memory of the directory behind the page's beginning, in the order of names. */
static GPtrArray *keys_in_memory(QfsCoordinator *c, Page *page) {
  GPtrArray *keys = g_ptr_array_new();
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
    g_ptr_array_add(keys, key);
  }
  g_ptr_array_sort(keys, by_name);
  return keys;
}

/* What is acknowledged of keys in memory when the nodes are asked. */
static void find_in_memory(QfsCoordinator *c, Page *page) {
  g_autoptr(GPtrArray) keys = keys_in_memory(c, page);
  g_clear_pointer(&page->found, g_ptr_array_unref);
  page->found = qfs_records_new();
  for (guint i = 0; i < keys->len; i++) {
    const QfsKey *key = keys->pdata[i];
    if (key->acked != NULL)
      g_ptr_array_add(page->found, qfs_record_ref(key->acked));
  }
}

/* Puts what was found into `entries`, up to the cut and as many as are wanted. What is in memory of a key by now decides,
 * whatever was read. TRUE: there is more, within the cut. */
static gboolean fill(Page *page, const GPtrArray *keys, GPtrArray *entries) {
  for (guint i = 0, j = 0; i < page->found->len || j < keys->len;) {
    const QfsKey *key = j < keys->len ? keys->pdata[j] : NULL;
    const char *in_memory = key != NULL ? name_in(page, key->key) : NULL, *read = name_at(page, page->found, i);
    const int next = next_of(read, in_memory);
    QfsRecord *record = next < 0 ? page->found->pdata[i] : key->acked;
    if (page->cut != NULL && strcmp(next < 0 ? read : in_memory, page->cut) > 0)
      return FALSE;
    i += next <= 0;
    j += next >= 0;
    if (record != NULL && entries->len == page->limit)
      return TRUE;
    if (record != NULL && (page->whole || qfs_record_exists(record))) /* tombstones count as places, not as entries */
      g_ptr_array_add(entries, qfs_record_ref(record));
  }
  return FALSE;
}

static void page_end(QfsCoordinator *c, Page *page) {
  g_autoptr(GPtrArray) keys = keys_in_memory(c, page);
  g_autoptr(GPtrArray) entries = g_ptr_array_new_full(page->limit, (GDestroyNotify)qfs_record_unref);
  const gboolean more = fill(page, keys, entries) || page->cut != NULL;
  if (more && entries->len == 0 && page->cut != NULL) { /* nothing but tombstones so far: go on */
    g_free(page->after);
    page->after = g_steal_pointer(&page->cut);
    page->reach = MIN(page->reach * 4, LIST_LIMIT_MAX);
    if (page->op != NULL)
      qfs_op_goes_on(c, page->op);
    page_start(c, page);
    return;
  }
  page->done(c, QFS_OK, entries, more, page->data);
  page_free(page);
}

/* Beyond the last name of a node that has more anything may be. */
static void cut_at(Page *page, const char *last) {
  if (page->cut != NULL && strcmp(last, page->cut) >= 0)
    return;
  g_free(page->cut);
  page->cut = g_strdup(last);
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
    if (read->more && read->list->len > 0)
      cut_at(page, name_at(page, read->list, read->list->len - 1));
    found(page, read->list);
  }
  if (page->status == QFS_OK && --page->left > 0)
    return;
  if (page->status == QFS_OK && page->base_epoch == c->base_epoch) {
    page_end(c, page);
    return;
  }
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
  find_in_memory(c, page);
  page->left = need;
  const QfsRead what = {.kind = QFS_READ_LIST,
                        .key = g_ref_string_new(page->dir),
                        .after = g_strdup(page->after),
                        .limit = page->reach,
                        .whole = page->whole};
  qfs_ask(c, &what, qfs_key_hash(page->dir), trusted, page->failed, need, node_listed, page);
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
  g_autofree char *first = qfs_key_join(dir, "");
  page->name_at = strlen(first);
  page->after = g_strdup(after);
  page->limit = CLAMP(limit, 1, LIST_LIMIT_MAX);
  page->reach = first_reach(c, page->limit);
  page->whole = whole;
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
