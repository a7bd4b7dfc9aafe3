/* operations_names.c - making, removing, linking and renaming. */
#include "exercise.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define DEPTH_MAX 4

/* --- choosing --- */

Name *any_name(Exercise *e) {
  GPtrArray *names = e->model->names;
  return names->len > 0 ? g_ptr_array_index(names, below(e, names->len)) : NULL;
}

Node *any_dir(Exercise *e) {
  for (guint i = 0; i < 6; i++) {
    const Name *name = any_name(e);
    if (name != NULL && node_is_dir(name->node) && percent(e, 80))
      return name->node;
  }
  return e->model->root;
}

Node *any_file(Exercise *e) {
  for (guint i = 0; i < 12; i++) {
    const Name *name = any_name(e);
    if (name != NULL && node_is_file(name->node))
      return name->node;
  }
  return NULL;
}

const char *any_text(Exercise *e) {
  static char text[256];
  static const char *const odd[] = {"with space",       "new\nline", "-rf",     "\xff\xfe",
                                    "\xc3\xa4\xc3\xb6", "%s",        ".hidden", "a\\b"};
  const guint kind = below(e, 100);
  if (kind < 90) {
    g_snprintf(text, sizeof text, "%c%u", 'a' + (char)below(e, 6), below(e, 4));
  } else if (kind < 97) {
    g_strlcpy(text, odd[below(e, G_N_ELEMENTS(odd))], sizeof text);
  } else {
    memset(text, 'l', 255);
    text[255] = '\0';
    text[254] = (char)('a' + below(e, 3));
  }
  return text;
}

/* A directory and a name in it: one that exists, or any. */
static void any_place(Exercise *e, Node **dir, char **text) {
  const Name *name = percent(e, 55) ? any_name(e) : NULL;
  *dir = name != NULL ? name->dir : any_dir(e);
  *text = g_strdup(name != NULL ? name->text : any_text(e));
}

static void compare_dir(Exercise *e, Node *dir) {
  struct stat st;
  g_autofree char *path = node_path(dir, 0);
  if (stat(path, &st) != 0)
    differ(e, "%s: stat: %s", path, g_strerror(errno));
  compare_stat(e, dir, &st, "stat");
  if (percent(e, 25))
    compare_listing(e, dir);
}

/* Absent, for lookups by every way. */
static void compare_absent(Exercise *e, const char *path) {
  struct stat st;
  if (lstat(path, &st) == 0)
    differ(e, "%s is there", path);
  if (errno != ENOENT)
    differ(e, "%s: lstat: %s", path, g_strerror(errno));
}

/* --- making --- */

static void added(Exercise *e, Node *dir, const char *text, Node *node) {
  model_link(e->model, dir, text, node, e->now_ns);
  compare_dir(e, dir);
  compare_node(e, node);
  node_unref(node);
}

static void make_dir(Exercise *e, Node *dir, const char *text) {
  const mode_t mode = 0700 | below(e, 0100);
  const Name *there = model_find(dir, text);
  g_autofree char *path = name_path(dir, text);
  operation_begin(e, "mkdir '%s' %o", path, mode);
  expect(e, mkdir(path, mode), there != NULL ? EEXIST : 0);
  if (there == NULL)
    added(e, dir, text, model_node_new(e->model, S_IFDIR | (mode & ~022U), e->now_ns));
}

static void make_symlink(Exercise *e, Node *dir, const char *text) {
  const Name *there = model_find(dir, text);
  g_autofree char *path = name_path(dir, text);
  g_autofree char *target = percent(e, 70) ? g_strdup(any_text(e)) : g_strnfill(1 + below(e, 3000), 't');
  operation_begin(e, "symlink '%.100s' '%s'", target, path);
  expect(e, symlink(target, path), there != NULL ? EEXIST : 0);
  if (there != NULL)
    return;
  Node *node = model_node_new(e->model, S_IFLNK | 0777, e->now_ns);
  node->target = g_steal_pointer(&target);
  added(e, dir, text, node);
}

static void make_fifo(Exercise *e, Node *dir, const char *text) {
  const Name *there = model_find(dir, text);
  g_autofree char *path = name_path(dir, text);
  operation_begin(e, "mkfifo '%s'", path);
  expect(e, mkfifo(path, 0666), there != NULL ? EEXIST : 0);
  if (there == NULL)
    added(e, dir, text, model_node_new(e->model, S_IFIFO | 0644, e->now_ns));
}

static void make_link(Exercise *e, Node *dir, const char *text) {
  const Name *from = any_name(e);
  if (from == NULL)
    return;
  const Name *there = model_find(dir, text);
  Node *node = from->node;
  g_autofree char *path = name_path(dir, text);
  g_autofree char *old = name_path(from->dir, from->text);
  operation_begin(e, "link '%s' '%s'", old, path);
  expect(e, link(old, path), there != NULL ? EEXIST : node_is_dir(node) ? EPERM : 0);
  if (there != NULL || node_is_dir(node))
    return;
  node_status_changed(node, e->now_ns);
  added(e, dir, text, node_ref(node));
}

static void make(Exercise *e) {
  Node *dir = any_dir(e);
  g_autofree char *text = g_strdup(any_text(e));
  const guint kind = below(e, 100);
  if (kind < 35 && node_depth(dir) < DEPTH_MAX)
    make_dir(e, dir, text);
  else if (kind < 60)
    make_symlink(e, dir, text);
  else if (kind < 70)
    make_fifo(e, dir, text);
  else
    make_link(e, dir, text);
}

/* --- removing --- */

static void removed(Exercise *e, Name *name) {
  Node *node = node_ref(name->node);
  Node *dir = name->dir;
  g_autofree char *path = name_path(dir, name->text);
  model_unlink(e->model, name, e->now_ns);
  compare_absent(e, path);
  compare_dir(e, dir);
  if (!node_is_dir(node))
    compare_node(e, node); /* by another name, or by what is open */
  node_unref(node);
}

static void remove_file(Exercise *e) {
  g_autofree char *text = NULL;
  Node *dir;
  any_place(e, &dir, &text);
  Name *name = model_find(dir, text);
  g_autofree char *path = name_path(dir, text);
  operation_begin(e, "unlink '%s'", path);
  expect(e, unlink(path), name == NULL ? ENOENT : node_is_dir(name->node) ? EISDIR : 0);
  if (name != NULL && !node_is_dir(name->node))
    removed(e, name);
}

static void remove_dir(Exercise *e) {
  g_autofree char *text = NULL;
  Node *dir;
  any_place(e, &dir, &text);
  Name *name = model_find(dir, text);
  g_autofree char *path = name_path(dir, text);
  const int error = name == NULL                              ? ENOENT
                    : !node_is_dir(name->node)                ? ENOTDIR
                    : g_tree_nnodes(name->node->children) > 0 ? ENOTEMPTY
                                                              : 0;
  operation_begin(e, "rmdir '%s'", path);
  expect(e, rmdir(path), error);
  if (error == 0)
    removed(e, name);
}

/* --- renaming --- */

/* As Linux checks it, in this order. */
static int rename_error(const Name *from, const Node *dir, const Name *to, guint flags) {
  if (from == NULL)
    return ENOENT;
  if (to != NULL && (flags & RENAME_NOREPLACE))
    return EEXIST;
  if (to == NULL && (flags & RENAME_EXCHANGE))
    return ENOENT;
  if (node_is_dir(from->node) && node_is_below(dir, from->node))
    return EINVAL;
  if (to != NULL && node_is_dir(to->node) && node_is_below(from->dir, to->node))
    return flags & RENAME_EXCHANGE ? EINVAL : ENOTEMPTY;
  if (to == NULL || to->node == from->node || (flags & RENAME_EXCHANGE))
    return 0;
  if (node_is_dir(from->node) != node_is_dir(to->node))
    return node_is_dir(from->node) ? ENOTDIR : EISDIR;
  return node_is_dir(to->node) && g_tree_nnodes(to->node->children) > 0 ? ENOTEMPTY : 0;
}

static guint height(const Node *node);

static gboolean raise_height(gpointer key, gpointer value, gpointer user_data) {
  guint *highest = user_data;
  *highest = MAX(*highest, 1 + height(((const Name *)value)->node));
  return FALSE;
}

static guint height(const Node *node) {
  guint highest = 0;
  if (node_is_dir(node))
    g_tree_foreach(node->children, raise_height, &highest);
  return highest;
}

static void exchange(Exercise *e, Name *from, Name *to) {
  model_exchange(e->model, from, to, e->now_ns);
  Node *const nodes[] = {from->node, to->node};
  for (guint i = 0; i < 2; i++) {
    stamp_perhaps(&nodes[i]->ctime, e->now_ns);
    if (node_is_dir(nodes[i]))
      stamp_perhaps(&nodes[i]->mtime, e->now_ns);
    compare_node(e, nodes[i]);
  }
  compare_dir(e, from->dir);
  compare_dir(e, to->dir);
}

static void replace(Exercise *e, Name *from, Node *dir, const char *text, Name *to) {
  Node *node = node_ref(from->node);
  Node *from_dir = from->dir;
  Node *victim = to != NULL ? node_ref(to->node) : NULL;
  g_autofree char *old = name_path(from->dir, from->text);
  if (to != NULL)
    model_unlink(e->model, to, e->now_ns);
  stamp_perhaps(&node->ctime, e->now_ns);
  const Stamp ctime = node->ctime;
  model_unlink(e->model, from, e->now_ns);
  node->ctime = ctime;
  model_link(e->model, dir, text, node, e->now_ns);
  compare_absent(e, old);
  compare_dir(e, from_dir);
  compare_dir(e, dir);
  compare_node(e, node);
  if (victim != NULL && !node_is_dir(victim))
    compare_node(e, victim);
  node_unref(victim);
  node_unref(node);
}

static void rename_any(Exercise *e) {
  g_autofree char *text = NULL, *text2 = NULL;
  Node *dir, *dir2;
  any_place(e, &dir, &text);
  any_place(e, &dir2, &text2);
  Name *from = model_find(dir, text), *to = model_find(dir2, text2);
  if (from != NULL && height(from->node) + node_depth(dir2) > DEPTH_MAX)
    return;
  if (to != NULL && height(to->node) + node_depth(dir) > DEPTH_MAX)
    return;
  static const guint all_flags[] = {0, 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE};
  const guint flags = all_flags[below(e, G_N_ELEMENTS(all_flags))];
  g_autofree char *path = name_path(dir, text);
  g_autofree char *path2 = name_path(dir2, text2);
  const int error = rename_error(from, dir2, to, flags);
  operation_begin(e, "rename '%s' '%s' %s", path, path2,
                  flags == 0                 ? ""
                  : flags == RENAME_EXCHANGE ? "exchange"
                                             : "noreplace");
  expect(e, renameat2(AT_FDCWD, path, AT_FDCWD, path2, flags), error);
  if (error != 0 || from == to || (to != NULL && from->node == to->node))
    return;
  if (flags & RENAME_EXCHANGE)
    exchange(e, from, to);
  else
    replace(e, from, dir2, text2, to);
}

void operate_on_names(Exercise *e) {
  /* Trees that are small are made larger, and the other way round. */
  const guint size = e->model->names->len;
  const guint kind = below(e, 100);
  if (size < 10 ? kind < 70 : size < 60 ? kind < 35 : kind < 10)
    make(e);
  else if (kind < 75)
    rename_any(e);
  else if (kind < 92)
    remove_file(e);
  else
    remove_dir(e);
}
