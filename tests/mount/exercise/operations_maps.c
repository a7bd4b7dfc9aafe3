/* operations_maps.c - files mapped into memory, shared and private. */
#include "exercise.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

void unmap_one(Exercise *e, guint index) {
  Map *map = g_ptr_array_index(e->maps, index);
  g_ptr_array_remove_index_fast(e->maps, index);
  munmap(map->start, map->len);
  node_unref(map->node);
  g_free(map);
}

static Open *open_for_map(Exercise *e, int access) {
  for (guint i = 0; i < 6 && e->open->len > 0; i++) {
    Open *open = g_ptr_array_index(e->open, below(e, e->open->len));
    const int has = open->flags & O_ACCMODE;
    if (has != O_WRONLY && (access == O_RDONLY || has == O_RDWR) && open->node->bytes->len > 0)
      return open;
  }
  return NULL;
}

/* A private mapping shows the file, and what is written there is nobody else's. */
static void map_private(Exercise *e) {
  Open *open = open_for_map(e, O_RDONLY);
  if (open == NULL)
    return;
  Node *node = open->node;
  const gsize len = node->bytes->len;
  operation_begin(e, "private mapping of node %u", node->serial);
  guint8 *start = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE, open->fd, 0);
  if (start == MAP_FAILED)
    differ(e, "mmap: %s", g_strerror(errno));
  node->atime.state = STAMP_UNKNOWN;
  if (memcmp(start, node->bytes->data, len) != 0)
    differ(e, "a private mapping has other bytes");
  memset(start + below(e, (guint)len), 'p', 1);
  compare_node(e, node);
  munmap(start, len);
}

static void map_shared(Exercise *e) {
  const gboolean writable = percent(e, 70);
  Open *open = open_for_map(e, writable ? O_RDWR : O_RDONLY);
  if (open == NULL || e->maps->len >= MAPS_MAX)
    return;
  Node *node = open->node;
  const gsize len = node->bytes->len;
  operation_begin(e, "shared mapping of node %u, %zu%s", node->serial, len, writable ? ", for writing" : "");
  guint8 *start = mmap(NULL, len, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, open->fd, 0);
  if (start == MAP_FAILED && errno == ENODEV && (open->flags & O_ACCMODE) == O_RDONLY && !e->maps_direct)
    return; /* a reader beside writers: only private mappings */
  if (start == MAP_FAILED)
    differ(e, "mmap: %s", g_strerror(errno));
  node->atime.state = STAMP_UNKNOWN;
  Map *map = g_new0(Map, 1);
  *map = (Map){.start = start, .len = len, .writable = writable, .node = node_ref(node)};
  g_ptr_array_add(e->maps, map);
  compare_node(e, node);
}

static Map *any_map(Exercise *e) {
  return e->maps->len > 0 ? g_ptr_array_index(e->maps, below(e, e->maps->len)) : NULL;
}

/* What is stored in memory is in the file at once. */
static void write_map(Exercise *e) {
  Map *map = any_map(e);
  if (map == NULL || !map->writable)
    return;
  Node *node = map->node;
  const guint room = (guint)MIN(map->len, node->bytes->len);
  if (room == 0)
    return;
  const guint offset = below(e, room);
  const guint len = 1 + below(e, MIN(room - offset, 9000));
  operation_begin(e, "store to mapping of node %u, %u at %u", node->serial, len, offset);
  memset(map->start + offset, 'A' + (int)below(e, 26), len);
  node_write(node, offset, map->start + offset, len);
  node->mapped = TRUE;
  node->atime.state = STAMP_UNKNOWN; /* the page may have been read for it */
  compare_node(e, node);
}

static void sync_all_of(Exercise *e, const Node *node) {
  for (guint i = 0; i < e->maps->len; i++) {
    const Map *map = g_ptr_array_index(e->maps, i);
    if (map->node == node && msync(map->start, map->len, MS_SYNC) != 0)
      differ(e, "msync: %s", g_strerror(errno));
  }
}

/* Afterwards nothing is on its way any more, and times stay. */
static void sync_map(Exercise *e) {
  Map *map = any_map(e);
  if (map == NULL)
    return;
  Node *node = map->node;
  operation_begin(e, "msync node %u", node->serial);
  sync_all_of(e, node);
  node_written_back(node);
  compare_node(e, node);
}

static void unmap_any(Exercise *e) {
  if (e->maps->len == 0)
    return;
  const guint index = below(e, e->maps->len);
  Node *node = node_ref(((Map *)g_ptr_array_index(e->maps, index))->node);
  operation_begin(e, "unmap node %u", node->serial);
  unmap_one(e, index);
  compare_node(e, node);
  node_unref(node);
}

void operate_on_maps(Exercise *e) {
  static void (*const operations[])(Exercise *) = {map_private, map_shared, map_shared, write_map, write_map,
                                                   write_map,   write_map,  sync_map,   unmap_any};
  operations[below(e, G_N_ELEMENTS(operations))](e);
}
