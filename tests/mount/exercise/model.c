/* model.c - see model.h. */
#include "model.h"

#include <string.h>
#include <unistd.h>

/* Clocks of files are coarser than ours. */
#define SLACK_NS (G_GINT64_CONSTANT(50) * 1000000)

/* --- times --- */

void stamp_set(Stamp *stamp, gint64 value) {
  *stamp = (Stamp){.state = STAMP_SEEN, .value = value};
}

void stamp_changed(Stamp *stamp, gint64 now_ns) {
  *stamp = (Stamp){.state = STAMP_CHANGED, .low = now_ns - SLACK_NS};
}

void stamp_perhaps(Stamp *stamp, gint64 now_ns) {
  if (stamp->state != STAMP_SEEN)
    return; /* what is allowed already is more */
  stamp->state = STAMP_PERHAPS;
  stamp->low = now_ns - SLACK_NS;
}

gboolean stamp_check(Stamp *stamp, gint64 seen, gint64 now_ns) {
  const gboolean after = seen >= stamp->low && seen <= now_ns + SLACK_NS;
  switch (stamp->state) {
  case STAMP_UNKNOWN:
    return TRUE;
  case STAMP_SEEN:
    return seen == stamp->value;
  case STAMP_CHANGED:
    if (!after)
      return FALSE;
    break;
  case STAMP_PERHAPS:
    if (!after && seen != stamp->value)
      return FALSE;
    break;
  case STAMP_ANY:
    break;
  }
  stamp_set(stamp, seen);
  return TRUE;
}

void node_modified(Node *node, gint64 now_ns) {
  stamp_changed(&node->mtime, now_ns);
  stamp_changed(&node->ctime, now_ns);
}

void node_written(Node *node, gint64 now_ns) {
  node_modified(node, now_ns);
  node_drop_setid(node);
}

void node_drop_setid(Node *node) {
  if (geteuid() != 0)
    node->mode &= ~((mode_t)S_ISUID | (node->mode & S_IXGRP ? S_ISGID : 0));
}

void node_written_back(Node *node) {
  if (node->mapped)
    node->mtime.state = node->ctime.state = STAMP_ANY;
  node->mapped = FALSE;
}

void node_status_changed(Node *node, gint64 now_ns) {
  stamp_changed(&node->ctime, now_ns);
}

/* --- nodes --- */

static gint compare_text(gconstpointer a, gconstpointer b, gpointer user_data) {
  return strcmp(a, b);
}

static void name_free(gpointer data) {
  Name *name = data;
  node_unref(name->node);
  g_free(name->text);
  g_free(name);
}

Node *node_ref(Node *node) {
  node->refs++;
  return node;
}

void node_unref(Node *node) {
  if (node == NULL || --node->refs > 0)
    return;
  g_clear_pointer(&node->children, g_tree_unref);
  g_clear_pointer(&node->bytes, g_byte_array_unref);
  g_ptr_array_unref(node->names);
  g_tree_unref(node->xattrs);
  g_free(node->target);
  g_free(node);
}

Node *model_node_new(Model *model, mode_t mode, gint64 now_ns) {
  Node *node = g_new0(Node, 1);
  node->serial = model->next_serial++;
  node->refs = 1;
  node->mode = mode;
  node->uid = model->uid;
  node->gid = model->gid;
  node->names = g_ptr_array_new();
  node->xattrs = g_tree_new_full(compare_text, NULL, g_free, (GDestroyNotify)g_bytes_unref);
  node_modified(node, now_ns);
  if (S_ISDIR(mode))
    node->children = g_tree_new_full(compare_text, NULL, NULL, name_free);
  if (S_ISREG(mode))
    node->bytes = g_byte_array_new();
  return node;
}

Model *model_new(void) {
  Model *model = g_new0(Model, 1);
  model->uid = geteuid();
  model->gid = getegid();
  model->names = g_ptr_array_new();
  model->root = model_node_new(model, S_IFDIR | 0755, 0);
  return model;
}

void model_free(Model *model) {
  node_unref(model->root);
  g_ptr_array_unref(model->names);
  g_free(model);
}

/* --- names --- */

static void parent_changed(Node *dir, gint64 now_ns) {
  node_modified(dir, now_ns);
}

Name *model_link(Model *model, Node *dir, const char *text, Node *node, gint64 now_ns) {
  g_assert(model_find(dir, text) == NULL);
  Name *name = g_new0(Name, 1);
  name->dir = dir;
  name->text = g_strdup(text);
  name->node = node_ref(node);
  name->index = model->names->len;
  g_ptr_array_add(model->names, name);
  g_ptr_array_add(node->names, name);
  g_tree_insert(dir->children, name->text, name);
  if (node_is_dir(node))
    dir->subdirs++;
  parent_changed(dir, now_ns);
  return name;
}

void model_unlink(Model *model, Name *name, gint64 now_ns) {
  Node *dir = name->dir;
  Name *last = g_ptr_array_index(model->names, model->names->len - 1);
  last->index = name->index;
  g_ptr_array_remove_index_fast(model->names, name->index);
  g_ptr_array_remove(name->node->names, name);
  if (node_is_dir(name->node))
    dir->subdirs--;
  if (name->node->names->len > 0)
    node_status_changed(name->node, now_ns);
  else
    stamp_perhaps(&name->node->ctime, now_ns); /* POSIX leaves it open */
  g_tree_remove(dir->children, name->text);    /* frees it */
  parent_changed(dir, now_ns);
}

void model_exchange(Model *model, Name *a, Name *b, gint64 now_ns) {
  Node *first = a->node, *second = b->node;
  g_ptr_array_remove(first->names, a);
  g_ptr_array_remove(second->names, b);
  a->node = second;
  b->node = first;
  g_ptr_array_add(second->names, a);
  g_ptr_array_add(first->names, b);
  a->dir->subdirs += node_is_dir(second) - node_is_dir(first);
  b->dir->subdirs += node_is_dir(first) - node_is_dir(second);
  parent_changed(a->dir, now_ns);
  parent_changed(b->dir, now_ns);
}

Name *model_find(const Node *dir, const char *text) {
  return g_tree_lookup(dir->children, text);
}

char *node_path(const Node *node, guint which) {
  if (node->names->len == 0)
    return node->serial == 0 ? g_strdup(".") : NULL;
  const Name *name = g_ptr_array_index(node->names, which % node->names->len);
  return name_path(name->dir, name->text);
}

char *name_path(const Node *dir, const char *text) {
  g_autofree char *above = node_path(dir, 0);
  g_assert(above != NULL);
  return strcmp(above, ".") == 0 ? g_strdup(text) : g_strconcat(above, "/", text, NULL);
}

guint node_depth(const Node *dir) {
  guint depth = 0;
  for (; dir->names->len > 0; depth++)
    dir = ((const Name *)g_ptr_array_index(dir->names, 0))->dir;
  return depth;
}

gboolean node_is_below(const Node *node, const Node *dir) {
  while (node != dir) {
    if (node->names->len == 0)
      return FALSE;
    node = ((const Name *)g_ptr_array_index(node->names, 0))->dir;
  }
  return TRUE;
}

/* --- bytes --- */

void node_resize(Node *node, guint64 size) {
  const guint old = node->bytes->len;
  g_byte_array_set_size(node->bytes, (guint)size);
  if (size > old)
    memset(node->bytes->data + old, 0, (gsize)size - old);
}

void node_write(Node *node, guint64 offset, gconstpointer bytes, gsize len) {
  if (len == 0)
    return;
  if (offset + len > node->bytes->len)
    node_resize(node, offset + len);
  memcpy(node->bytes->data + offset, bytes, len);
}

void node_zero(Node *node, guint64 offset, guint64 len) {
  const guint64 size = node->bytes->len;
  if (offset < size)
    memset(node->bytes->data + offset, 0, MIN(len, size - offset));
}
