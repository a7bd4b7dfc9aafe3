/* operations_bytes.c - opening, reading, writing, truncating, making holes. */
#include "exercise.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* --- descriptors --- */

void close_one(Exercise *e, guint index) {
  Open *open = g_ptr_array_index(e->open, index);
  g_ptr_array_remove_index_fast(e->open, index);
  if (close(open->fd) != 0)
    differ(e, "close: %s", g_strerror(errno));
  node_unref(open->node);
  g_free(open);
}

void close_all(Exercise *e) {
  while (e->open->len > 0)
    close_one(e, e->open->len - 1);
  while (e->maps->len > 0)
    unmap_one(e, e->maps->len - 1);
}

static Open *any_open(Exercise *e) {
  return e->open->len > 0 ? g_ptr_array_index(e->open, below(e, e->open->len)) : NULL;
}

static gboolean reads(const Open *open) {
  return (open->flags & O_ACCMODE) != O_WRONLY;
}

static gboolean writes(const Open *open) {
  return (open->flags & O_ACCMODE) != O_RDONLY;
}

static void keep(Exercise *e, int fd, int flags, Node *node) {
  Open *open = g_new0(Open, 1);
  *open = (Open){.fd = fd, .flags = flags, .node = node_ref(node)};
  g_ptr_array_add(e->open, open);
}

/* --- bytes --- */

static guint8 *random_bytes(Exercise *e, gsize len) {
  guint8 *bytes = g_malloc(len + 8);
  SimRandom fast = {.state = sim_random_u64(&e->random)};
  for (gsize i = 0; i < len; i += 8) {
    const guint64 word = sim_random_u64(&fast);
    memcpy(bytes + i, &word, 8);
  }
  return bytes;
}

/* Mostly small, sometimes large, often at the edges of pages and chunks. */
static guint64 any_length(Exercise *e) {
  guint64 len = (guint64)sim_random_spread(&e->random, 1, e->size_max / 2);
  if (percent(e, 15))
    len = (1 + below(e, 3)) * 65536 + below(e, 3) - 1;
  else if (percent(e, 15))
    len = (1 + below(e, 8)) * 4096 + below(e, 3) - 1;
  return MIN(len, e->size_max / 2);
}

static guint64 any_offset(Exercise *e, const Node *node) {
  const guint size = node->bytes->len;
  const guint kind = below(e, 100);
  guint64 offset = size;
  if (kind < 25)
    offset = 0;
  else if (kind < 65 && size > 0)
    offset = below(e, size);
  else if (kind < 75)
    offset = below(e, e->size_max / 2);
  else if (kind < 85)
    offset = below(e, size / 65536 + 2) * 65536;
  return MIN(offset, e->size_max / 2);
}

/* --- open --- */

static int any_flags(Exercise *e) {
  static const int access[] = {O_RDONLY, O_WRONLY, O_RDWR, O_RDWR};
  int flags = access[below(e, 4)] | O_CLOEXEC;
  if ((flags & O_ACCMODE) != O_RDONLY && percent(e, 25))
    flags |= O_APPEND;
  if (percent(e, 3))
    flags |= O_SYNC;
  return flags;
}

static void opened(Exercise *e, Node *node, int fd, int flags) {
  if ((flags & O_ACCMODE) == O_RDONLY)
    node->atime.state = STAMP_UNKNOWN;
  compare_fd(e, node, fd, flags);
  if (e->open->len < OPEN_MAX_FILES && percent(e, 80))
    keep(e, fd, flags, node);
  else if (close(fd) != 0)
    differ(e, "close: %s", g_strerror(errno));
  compare_node(e, node);
}

/* O_CREAT, with or without O_EXCL, by any access. */
static void create(Exercise *e) {
  Node *dir = any_dir(e);
  g_autofree char *text = g_strdup(any_text(e));
  g_autofree char *path = name_path(dir, text);
  Name *there = model_find(dir, text);
  const int flags = any_flags(e) | O_CREAT | (percent(e, 40) ? O_EXCL : 0);
  const mode_t mode = 0600 | below(e, 0200);
  const gboolean exclusive = (flags & O_EXCL) != 0;
  if (there != NULL && !exclusive && !node_is_file(there->node) && !node_is_dir(there->node))
    return; /* a fifo would wait, a symlink be followed */
  operation_begin(e, "create '%s' flags %o mode %o", path, flags, mode);
  const int fd = open(path, flags, mode);
  const int error = there == NULL ? 0 : exclusive ? EEXIST : node_is_dir(there->node) ? EISDIR : 0;
  expect(e, fd, error);
  if (error != 0)
    return;
  Node *node =
      there != NULL ? node_ref(there->node) : model_node_new(e->model, S_IFREG | (mode & ~022U), e->now_ns);
  if (there == NULL)
    model_link(e->model, dir, text, node, e->now_ns);
  opened(e, node, fd, flags);
  node_unref(node);
}

/* Through a symlink beside it now and then. */
static void open_existing(Exercise *e) {
  Node *node = any_file(e);
  if (node == NULL)
    return;
  g_autofree char *path = node_path(node, below(e, 8));
  int flags = any_flags(e);
  if ((flags & O_ACCMODE) == O_RDWR && percent(e, 15))
    flags |= O_TRUNC;
  operation_begin(e, "open '%s' flags %o", path, flags);
  const int fd = open(path, flags);
  expect(e, fd, 0);
  if (flags & O_TRUNC) {
    node_resize(node, 0);
    node_written(node, e->now_ns);
  }
  opened(e, node, fd, flags);
}

static void follow_symlink(Exercise *e) {
  const Name *name = any_name(e);
  if (name == NULL || !S_ISLNK(name->node->mode))
    return;
  const Name *to = strlen(name->node->target) < 256 ? model_find(name->dir, name->node->target) : NULL;
  if (to != NULL && !node_is_file(to->node) && !node_is_dir(to->node))
    return;
  g_autofree char *path = name_path(name->dir, name->text);
  const gboolean dots = strlen(name->node->target) > 255;
  operation_begin(e, "open through '%s'", path);
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  name->node->atime.state = STAMP_UNKNOWN;
  expect(e, fd, to != NULL ? 0 : dots ? ENAMETOOLONG : ENOENT);
  if (to == NULL)
    return;
  to->node->atime.state = STAMP_UNKNOWN;
  if (node_is_file(to->node))
    compare_fd(e, to->node, fd, O_RDONLY);
  close(fd);
}

/* --- write --- */

static void wrote(Exercise *e, Node *node, guint64 offset, const guint8 *bytes, gsize len, gssize result) {
  if (result < 0 || (gsize)result != len)
    differ(e, "write: %zd of %zu, %s", result, len, g_strerror(errno));
  node_write(node, offset, bytes, len);
  if (len > 0)
    node_written(node, e->now_ns);
}

static void write_open(Exercise *e) {
  Open *open = any_open(e);
  if (open == NULL || !writes(open))
    return;
  Node *node = open->node;
  const gboolean append = (open->flags & O_APPEND) != 0;
  const gboolean positioned = percent(e, 70);
  guint64 offset = append ? node->bytes->len : positioned ? any_offset(e, node) : open->offset;
  if (offset + 1 >= e->size_max)
    return;
  const gsize len = MIN(any_length(e), e->size_max - offset);
  g_autofree guint8 *bytes = random_bytes(e, len);
  if (percent(e, 10))
    memset(bytes, 0, len);
  operation_begin(e, "%s node %u flags %o, %zu at %" G_GUINT64_FORMAT, positioned ? "pwrite" : "write",
                  node->serial, open->flags, len, offset);
  const gssize result = positioned ? pwrite(open->fd, bytes, len, (off_t)offset) : write(open->fd, bytes, len);
  wrote(e, node, offset, bytes, len, result);
  if (!positioned)
    open->offset = offset + len;
  compare_node(e, node);
}

/* `>`: what is there is replaced by what is written, by one write or several. */
static void replace_file(Exercise *e) {
  Node *dir = any_dir(e);
  g_autofree char *text = g_strdup(any_text(e));
  Name *there = model_find(dir, text);
  if (percent(e, 60)) {
    Node *node = any_file(e);
    if (node != NULL) {
      there = g_ptr_array_index(node->names, 0);
      dir = there->dir;
      g_free(text);
      text = g_strdup(there->text);
    }
  }
  if (there != NULL && !node_is_file(there->node))
    return;
  g_autofree char *path = name_path(dir, text);
  const guint pieces = percent(e, 70) ? 1 : below(e, 4);
  const gsize len = pieces == 0 ? 0 : any_length(e) / pieces;
  operation_begin(e, "replace '%s' by %u times %zu", path, pieces, len);
  const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  expect(e, fd, 0);
  Node *node = there != NULL ? node_ref(there->node) : model_node_new(e->model, S_IFREG | 0644, e->now_ns);
  if (there == NULL)
    model_link(e->model, dir, text, node, e->now_ns);
  node_resize(node, 0);
  node_written(node, e->now_ns);
  for (guint i = 0; i < pieces; i++) {
    g_autofree guint8 *bytes = random_bytes(e, len);
    wrote(e, node, i * len, bytes, len, write(fd, bytes, len));
  }
  if (close(fd) != 0)
    differ(e, "close: %s", g_strerror(errno));
  compare_node(e, node);
  node_unref(node);
}

/* `>>` by a descriptor of its own. */
static void append_file(Exercise *e) {
  Node *node = any_file(e);
  if (node == NULL || node->bytes->len >= e->size_max)
    return;
  g_autofree char *path = node_path(node, below(e, 8));
  const gsize len = MIN(any_length(e), e->size_max - node->bytes->len);
  g_autofree guint8 *bytes = random_bytes(e, len);
  operation_begin(e, "append to '%s' node %u, %zu", path, node->serial, len);
  const int fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
  expect(e, fd, 0);
  wrote(e, node, node->bytes->len, bytes, len, write(fd, bytes, len));
  if (close(fd) != 0)
    differ(e, "close: %s", g_strerror(errno));
  compare_node(e, node);
}

/* --- read --- */

static void read_open(Exercise *e) {
  Open *open = any_open(e);
  if (open == NULL || !reads(open))
    return;
  Node *node = open->node;
  const gboolean positioned = percent(e, 50);
  const guint64 offset = positioned ? any_offset(e, node) : open->offset;
  const gsize len = any_length(e);
  const gsize wanted = offset >= node->bytes->len ? 0 : MIN(len, node->bytes->len - offset);
  g_autofree guint8 *bytes = g_malloc(len);
  operation_begin(e, "%s node %u, %zu at %" G_GUINT64_FORMAT, positioned ? "pread" : "read", node->serial, len,
                  offset);
  const gssize result = positioned ? pread(open->fd, bytes, len, (off_t)offset) : read(open->fd, bytes, len);
  node->atime.state = STAMP_UNKNOWN;
  if (result < 0 || (gsize)result != wanted)
    differ(e, "read: %zd and not %zu, %s", result, wanted, g_strerror(errno));
  if (wanted > 0 && memcmp(bytes, node->bytes->data + offset, wanted) != 0)
    differ(e, "read: other bytes");
  if (!positioned)
    open->offset = offset + wanted;
}

static void seek_open(Exercise *e) {
  Open *open = any_open(e);
  if (open == NULL)
    return;
  const gboolean end = percent(e, 30);
  const guint64 offset = end ? open->node->bytes->len : any_offset(e, open->node);
  operation_begin(e, "seek node %u to %s %" G_GUINT64_FORMAT, open->node->serial, end ? "the end" : "", offset);
  const off_t result = end ? lseek(open->fd, 0, SEEK_END) : lseek(open->fd, (off_t)offset, SEEK_SET);
  if (result != (off_t)offset)
    differ(e, "lseek: %ld", (long)result);
  open->offset = offset;
}

/* --- sizes and holes --- */

static void truncate_any(Exercise *e) {
  Open *open = any_open(e);
  const gboolean by_fd = open != NULL && writes(open) && percent(e, 60);
  Node *node = by_fd ? open->node : any_file(e);
  if (node == NULL)
    return;
  const guint64 size = any_offset(e, node);
  g_autofree char *path = node_path(node, below(e, 8));
  operation_begin(e, "%s node %u from %u to %" G_GUINT64_FORMAT, by_fd ? "ftruncate" : "truncate", node->serial,
                  node->bytes->len, size);
  expect(e, by_fd ? ftruncate(open->fd, (off_t)size) : truncate(path, (off_t)size), 0);
  if (size == node->bytes->len) {
    stamp_perhaps(&node->mtime, e->now_ns);
    stamp_perhaps(&node->ctime, e->now_ns);
    node_drop_setid(node);
  } else {
    node_written(node, e->now_ns);
  }
  node_resize(node, size);
  compare_node(e, node);
}

static void allocate(Exercise *e) {
  static const int modes[] = {0,
                              FALLOC_FL_KEEP_SIZE,
                              FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE,
                              FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE,
                              FALLOC_FL_ZERO_RANGE,
                              FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE};
  Open *open = any_open(e);
  if (open == NULL || !writes(open))
    return;
  Node *node = open->node;
  const int mode = modes[below(e, G_N_ELEMENTS(modes))];
  const guint64 offset = any_offset(e, node);
  const guint64 len = MIN(any_length(e), e->size_max - offset);
  operation_begin(e, "fallocate node %u mode %d, %" G_GUINT64_FORMAT " at %" G_GUINT64_FORMAT, node->serial, mode,
                  len, offset);
  expect(e, fallocate(open->fd, mode, (off_t)offset, (off_t)len), 0);
  if ((mode & FALLOC_FL_KEEP_SIZE) == 0 && offset + len > node->bytes->len)
    node_resize(node, offset + len);
  if (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
    node_zero(node, offset, len);
  node_drop_setid(node);
  stamp_perhaps(&node->mtime, e->now_ns);
  stamp_perhaps(&node->ctime, e->now_ns);
  compare_node(e, node);
}

/* From one descriptor to another, as cp does it. */
static void copy_range(Exercise *e) {
  Open *from = any_open(e), *to = any_open(e);
  if (from == NULL || !reads(from) || !writes(to) || (to->flags & O_APPEND) || from->node == to->node)
    return;
  off_t offset = (off_t)any_offset(e, from->node), offset2 = (off_t)any_offset(e, to->node);
  const guint64 from_offset = (guint64)offset, to_offset = (guint64)offset2;
  gsize len = MIN(any_length(e), e->size_max - (gsize)offset2);
  len = from_offset >= from->node->bytes->len ? 0 : MIN(len, from->node->bytes->len - from_offset);
  operation_begin(e, "copy %zu from node %u at %ld to node %u at %ld", len, from->node->serial, (long)offset,
                  to->node->serial, (long)offset2);
  for (gsize done = 0; done < len;) {
    const gssize n = copy_file_range(from->fd, &offset, to->fd, &offset2, len - done, 0);
    if (n <= 0)
      differ(e, "copy_file_range: %zd, %s", n, g_strerror(errno));
    done += (gsize)n;
  }
  from->node->atime.state = STAMP_UNKNOWN;
  if (len > 0) {
    node_write(to->node, to_offset, from->node->bytes->data + from_offset, len);
    node_written(to->node, e->now_ns);
  }
  compare_node(e, to->node);
}

static void sync_open(Exercise *e) {
  Open *open = any_open(e);
  if (open == NULL || !(writes(open) || reads(open)))
    return;
  operation_begin(e, "fsync node %u", open->node->serial);
  expect(e, percent(e, 50) ? fsync(open->fd) : fdatasync(open->fd), 0);
  node_written_back(open->node);
  compare_node(e, open->node);
}

static void close_any(Exercise *e) {
  if (e->open->len == 0)
    return;
  const guint index = below(e, e->open->len);
  const Open *open = g_ptr_array_index(e->open, index);
  Node *node = node_ref(open->node);
  operation_begin(e, "close node %u flags %o", node->serial, open->flags);
  close_one(e, index);
  compare_node(e, node);
  node_unref(node);
}

void operate_on_bytes(Exercise *e) {
  static void (*const operations[])(Exercise *) = {
      create,     create,     open_existing, open_existing, open_existing, write_open,   write_open,  write_open,
      write_open, write_open, write_open,    replace_file,  replace_file,  replace_file, append_file, append_file,
      read_open,  read_open,  read_open,     seek_open,     truncate_any,  truncate_any, allocate,    allocate,
      copy_range, copy_range, close_any,     close_any,     follow_symlink};
  if (percent(e, 1))
    sync_open(e);
  else
    operations[below(e, G_N_ELEMENTS(operations))](e);
}
