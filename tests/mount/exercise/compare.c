/* compare.c - the real files against the model. */
#include "exercise.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/xattr.h>
#include <unistd.h>

static gint64 to_ns(struct timespec time) {
  return (gint64)time.tv_sec * G_GINT64_CONSTANT(1000000000) + time.tv_nsec;
}

static gint64 now_ns(void) {
  return g_get_real_time() * 1000;
}

/* --- attributes --- */

static void compare_time(Exercise *e, const Node *node, Stamp *stamp, struct timespec seen, const char *name,
                         const char *how) {
  const Stamp was = *stamp;
  if (!stamp_check(stamp, to_ns(seen), now_ns()))
    differ(e, "node %u: %s by %s is %" G_GINT64_FORMAT ", and not %s %" G_GINT64_FORMAT, node->serial, name, how,
           to_ns(seen),
           was.state == STAMP_SEEN ? "" : "from then on:", was.state == STAMP_SEEN ? was.value : was.low);
}

static guint64 node_size(const Node *node) {
  if (node_is_file(node))
    return node->bytes->len;
  return S_ISLNK(node->mode) ? strlen(node->target) : 0;
}

void compare_stat(Exercise *e, Node *node, const struct stat *st, const char *how) {
  if (st->st_mode != node->mode)
    differ(e, "node %u: mode by %s is %o, not %o", node->serial, how, st->st_mode, node->mode);
  if (st->st_uid != node->uid || st->st_gid != node->gid)
    differ(e, "node %u: owner by %s is %u:%u, not %u:%u", node->serial, how, st->st_uid, st->st_gid, node->uid,
           node->gid);
  if (!node_is_dir(node) && (guint64)st->st_size != node_size(node))
    differ(e, "node %u: size by %s is %" G_GINT64_FORMAT ", not %" G_GUINT64_FORMAT, node->serial, how,
           (gint64)st->st_size, node_size(node));
  if (!node_is_dir(node) && st->st_nlink != node->names->len)
    differ(e, "node %u: links by %s are %u, not %u", node->serial, how, (guint)st->st_nlink, node->names->len);
  /* Filesystems may say 1: directories are not counted. */
  if (node_is_dir(node) && st->st_nlink != 1 && node->names->len > 0 && st->st_nlink != 2 + node->subdirs)
    differ(e, "node %u: links by %s are %u, with %u directories in it", node->serial, how, (guint)st->st_nlink,
           node->subdirs);
  if (node->ino != 0 && node->ino != st->st_ino)
    differ(e, "node %u: number by %s is %lu, and was %lu", node->serial, how, st->st_ino, node->ino);
  node->ino = st->st_ino;
  compare_time(e, node, &node->atime, st->st_atim, "atime", how);
  if (node->mapped)
    return;
  compare_time(e, node, &node->mtime, st->st_mtim, "mtime", how);
  compare_time(e, node, &node->ctime, st->st_ctim, "ctime", how);
}

static void add_names(GString *all, const char *names, gsize len) {
  for (gsize at = 0; at < len; at += strlen(names + at) + 1)
    if (g_str_has_prefix(names + at, "user."))
      g_string_append_printf(all, "%s ", names + at);
}

static gint compare_strings(gconstpointer a, gconstpointer b) {
  return strcmp(*(char *const *)a, *(char *const *)b);
}

/* In the order of names. */
static char *sorted(const char *names) {
  g_auto(GStrv) parts = g_strsplit(names, " ", -1);
  qsort(parts, g_strv_length(parts), sizeof *parts, compare_strings);
  return g_strjoinv(" ", parts);
}

static gboolean check_xattr(gpointer key, gpointer value, gpointer user_data) {
  gconstpointer *args = (gconstpointer *)user_data;
  Exercise *e = (Exercise *)args[0];
  const Node *node = args[1];
  const int fd = GPOINTER_TO_INT(args[3]);
  guint8 got[4096];
  gsize len;
  gconstpointer bytes = g_bytes_get_data(value, &len);
  const gssize n =
      args[2] != NULL ? lgetxattr(args[2], key, got, sizeof got) : fgetxattr(fd, key, got, sizeof got);
  if (n < 0)
    differ(e, "node %u: attribute %s: %s", node->serial, (char *)key, g_strerror(errno));
  if ((gsize)n != len || (len > 0 && memcmp(got, bytes, len) != 0))
    differ(e, "node %u: attribute %s is another one, of %zd bytes and not %zu", node->serial, (char *)key, n, len);
  return FALSE;
}

static gboolean append_key(gpointer key, gpointer value, gpointer user_data) {
  g_string_append_printf(user_data, "%s ", (char *)key);
  return FALSE;
}

/* By path, or by descriptor when that is NULL. */
static void compare_xattrs(Exercise *e, Node *node, const char *path, int fd) {
  if (!node_is_dir(node) && !node_is_file(node))
    return;
  char names[8192];
  const gssize len = path != NULL ? llistxattr(path, names, sizeof names) : flistxattr(fd, names, sizeof names);
  if (len < 0)
    differ(e, "node %u: list of attributes: %s", node->serial, g_strerror(errno));
  g_autoptr(GString) real = g_string_new(NULL);
  g_autoptr(GString) wanted = g_string_new(NULL);
  add_names(real, names, (gsize)len);
  g_tree_foreach(node->xattrs, append_key, wanted);
  g_autofree char *a = sorted(real->str);
  g_autofree char *b = sorted(wanted->str);
  if (strcmp(a, b) != 0)
    differ(e, "node %u: attributes are '%s', not '%s'", node->serial, a, b);
  gconstpointer args[] = {e, node, path, GINT_TO_POINTER(fd)};
  g_tree_foreach(node->xattrs, check_xattr, args);
}

/* --- bytes --- */

static void compare_bytes(Exercise *e, const Node *node, guint64 offset, const guint8 *got, gsize len,
                          const char *how) {
  if (len == 0 || memcmp(got, node->bytes->data + offset, len) == 0)
    return;
  gsize at = 0;
  while (got[at] == node->bytes->data[offset + at])
    at++;
  gsize wrong = 0;
  for (gsize i = at; i < len; i++)
    wrong += got[i] != node->bytes->data[offset + i];
  differ(e, "node %u: %zu bytes by %s differ, the first at %" G_GUINT64_FORMAT ": %02x, not %02x; the size is %u",
         node->serial, wrong, how, offset + at, got[at], node->bytes->data[offset + at], node->bytes->len);
}

/* All of it, by pieces of a size that is drawn. */
static void compare_read(Exercise *e, Node *node, int fd, const char *how) {
  static const gsize pieces[] = {1 << 22, 1 << 22, 131072, 5000};
  const gsize piece = pieces[below(e, G_N_ELEMENTS(pieces))];
  g_autofree guint8 *buffer = g_malloc(MIN(piece, node->bytes->len + 1024));
  const gsize room = MIN(piece, node->bytes->len + 1024);
  for (guint64 offset = 0;;) {
    const gssize n = pread(fd, buffer, room, (off_t)offset);
    if (n < 0)
      differ(e, "node %u: read by %s at %" G_GUINT64_FORMAT ": %s", node->serial, how, offset, g_strerror(errno));
    if (offset + (gsize)n > node->bytes->len || (n == 0 && offset < node->bytes->len))
      differ(e, "node %u: read by %s at %" G_GUINT64_FORMAT " gives %zd bytes; the size is %u", node->serial, how,
             offset, n, node->bytes->len);
    if (n == 0)
      return;
    compare_bytes(e, node, offset, buffer, (gsize)n, how);
    offset += (gsize)n;
  }
}

static void compare_map(Exercise *e, Node *node, int fd) {
  const gsize len = node->bytes->len;
  if (len == 0)
    return;
  guint8 *start = mmap(NULL, len, PROT_READ, percent(e, 50) ? MAP_SHARED : MAP_PRIVATE, fd, 0);
  if (start == MAP_FAILED && errno == ENODEV && !e->maps_direct) /* a reader beside writers */
    start = mmap(NULL, len, PROT_READ, MAP_PRIVATE, fd, 0);
  if (start == MAP_FAILED)
    differ(e, "node %u: mmap: %s", node->serial, g_strerror(errno));
  compare_bytes(e, node, 0, start, len, "mmap");
  munmap(start, len);
}

/* What is called a hole reads as zeros, and bytes are where the file says. */
static void compare_holes(Exercise *e, const Node *node, int fd) {
  const off_t before = lseek(fd, 0, SEEK_CUR);
  const off_t size = node->bytes->len;
  off_t at = 0;
  while (at < size) {
    off_t data = lseek(fd, at, SEEK_DATA);
    if (data < 0 && errno != ENXIO)
      differ(e, "node %u: SEEK_DATA: %s", node->serial, g_strerror(errno));
    if (data < 0)
      data = size;
    for (off_t i = at; i < data; i++)
      if (node->bytes->data[i] != 0)
        differ(e, "node %u: byte %ld is in what is called a hole, %ld to %ld", node->serial, (long)i, (long)at,
               (long)data);
    if (data == size)
      break;
    at = lseek(fd, data, SEEK_HOLE);
    if (at <= data)
      differ(e, "node %u: SEEK_HOLE from %ld: %ld, %s", node->serial, (long)data, (long)at, g_strerror(errno));
  }
  lseek(fd, before, SEEK_SET);
}

static void compare_by_path(Exercise *e, Node *node, const char *path) {
  struct stat st;
  if (lstat(path, &st) != 0)
    differ(e, "node %u, %s: lstat: %s", node->serial, path, g_strerror(errno));
  compare_stat(e, node, &st, "lstat");
  compare_xattrs(e, node, path, -1);
  if (S_ISLNK(node->mode)) {
    char target[PATH_MAX];
    const gssize len = readlink(path, target, sizeof target);
    node->atime.state = STAMP_UNKNOWN;
    if (len < 0 || (gsize)len != strlen(node->target) || memcmp(target, node->target, (gsize)len) != 0)
      differ(e, "node %u, %s: its target is another one", node->serial, path);
  }
  if (!node_is_file(node))
    return;
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0)
    differ(e, "node %u, %s: open for reading: %s", node->serial, path, g_strerror(errno));
  node->atime.state = STAMP_UNKNOWN;
  if (percent(e, 15))
    compare_map(e, node, fd);
  else
    compare_read(e, node, fd, "a new descriptor");
  if (percent(e, 10))
    compare_holes(e, node, fd);
  if (fstat(fd, &st) != 0)
    differ(e, "node %u: fstat: %s", node->serial, g_strerror(errno));
  compare_stat(e, node, &st, "fstat of a new descriptor");
  close(fd);
}

void compare_fd(Exercise *e, Node *node, int fd, int flags) {
  struct stat st;
  if (fstat(fd, &st) != 0)
    differ(e, "node %u: fstat: %s", node->serial, g_strerror(errno));
  compare_stat(e, node, &st, "fstat");
  if (percent(e, 30))
    compare_xattrs(e, node, NULL, fd);
  if ((flags & O_ACCMODE) == O_WRONLY)
    return;
  node->atime.state = STAMP_UNKNOWN;
  if (percent(e, 15))
    compare_map(e, node, fd);
  else
    compare_read(e, node, fd,
                 (flags & O_ACCMODE) == O_RDONLY ? "a descriptor for reading" : "a descriptor for both");
  if (percent(e, 10))
    compare_holes(e, node, fd);
}

static void compare_maps(Exercise *e, Node *node) {
  for (guint i = 0; i < e->maps->len; i++) {
    const Map *map = g_ptr_array_index(e->maps, i);
    if (map->node != node)
      continue;
    node->atime.state = STAMP_UNKNOWN;
    compare_bytes(e, node, 0, map->start, MIN(map->len, node->bytes->len), "a standing mapping");
  }
}

/* By its name or by what is open of it: not always by both, so that what caches hold stays untouched. */
void compare_node(Exercise *e, Node *node) {
  gboolean seen = FALSE;
  for (guint i = 0; i < e->open->len; i++) {
    const Open *open = g_ptr_array_index(e->open, i);
    if (open->node != node || !percent(e, 60))
      continue;
    compare_fd(e, node, open->fd, open->flags);
    seen = TRUE;
  }
  g_autofree char *path = node_path(node, below(e, 8));
  if (path != NULL && (!seen || percent(e, 30)))
    compare_by_path(e, node, path);
  if (node_is_file(node) && percent(e, 50))
    compare_maps(e, node);
}

/* --- directories --- */

static gboolean note_missing(gpointer key, gpointer value, gpointer user_data) {
  gpointer *args = user_data;
  if (g_hash_table_contains(args[0], key))
    return FALSE;
  args[1] = key;
  return TRUE;
}

void compare_listing(Exercise *e, Node *dir) {
  g_autofree char *path = node_path(dir, 0);
  DIR *stream = opendir(path);
  if (stream == NULL)
    differ(e, "%s: opendir: %s", path, g_strerror(errno));
  dir->atime.state = STAMP_UNKNOWN;
  g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
  errno = 0;
  for (const struct dirent *entry; (entry = readdir(stream)) != NULL;) {
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
      continue;
    const Name *name = model_find(dir, entry->d_name);
    if (name == NULL)
      differ(e, "%s lists '%s', which is not there", path, entry->d_name);
    if (!g_hash_table_add(seen, g_strdup(entry->d_name)))
      differ(e, "%s lists '%s' twice", path, entry->d_name);
    if (entry->d_type != DT_UNKNOWN && entry->d_type != IFTODT(name->node->mode))
      differ(e, "%s lists '%s' with type %u", path, entry->d_name, entry->d_type);
    if (name->node->ino != 0 && name->node->ino != entry->d_ino)
      differ(e, "%s lists '%s' with number %lu, and it was %lu", path, entry->d_name, entry->d_ino,
             name->node->ino);
  }
  if (errno != 0)
    differ(e, "%s: readdir: %s", path, g_strerror(errno));
  closedir(stream);
  gpointer args[] = {seen, NULL};
  g_tree_foreach(dir->children, note_missing, args);
  if (args[1] != NULL)
    differ(e, "%s does not list '%s'", path, (char *)args[1]);
}

void compare_tree(Exercise *e) {
  compare_listing(e, e->model->root);
  g_autoptr(GHashTable) numbers = g_hash_table_new(g_direct_hash, g_direct_equal);
  for (guint i = 0; i < e->model->names->len; i++) {
    const Name *name = g_ptr_array_index(e->model->names, i);
    Node *node = name->node;
    g_autofree char *path = name_path(name->dir, name->text);
    compare_by_path(e, node, path);
    if (node_is_dir(node))
      compare_listing(e, node);
    const Node *other = g_hash_table_lookup(numbers, GSIZE_TO_POINTER(node->ino));
    if (other != NULL && other != node)
      differ(e, "nodes %u and %u have the number %lu", other->serial, node->serial, node->ino);
    g_hash_table_insert(numbers, GSIZE_TO_POINTER(node->ino), node);
  }
  for (guint i = 0; i < e->open->len; i++) {
    const Open *open = g_ptr_array_index(e->open, i);
    compare_fd(e, open->node, open->fd, open->flags);
  }
  for (guint i = 0; i < e->maps->len; i++)
    compare_maps(e, ((const Map *)g_ptr_array_index(e->maps, i))->node);
}
