/* operations_attributes.c - modes, owners, times, extended attributes, statfs. */
#include "exercise.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#define XATTR_NAMES 6

/* What is changed: by a path, or by a descriptor, which may be all that a node has. */
typedef struct {
  Node *node;
  char *path;
  int fd; /* -1: by path */
} Target;

static gboolean choose(Exercise *e, Target *out) {
  *out = (Target){.fd = -1};
  if (e->open->len > 0 && percent(e, 40)) {
    const Open *open = g_ptr_array_index(e->open, below(e, e->open->len));
    out->node = open->node;
    out->fd = open->fd;
    return TRUE;
  }
  const Name *name = any_name(e);
  if (name == NULL || S_ISLNK(name->node->mode))
    return FALSE;
  out->node = name->node;
  out->path = name_path(name->dir, name->text);
  return TRUE;
}

static void change_mode(Exercise *e, const Target *target) {
  Node *node = target->node;
  mode_t mode = 0600 | below(e, 0200);
  if (node_is_dir(node))
    mode |= 0100 | (percent(e, 10) ? S_ISVTX : 0);
  else if (percent(e, 20))
    mode |= percent(e, 50) ? S_ISUID : S_ISGID;
  operation_begin(e, "chmod %s node %u %o", target->path != NULL ? target->path : "fd", node->serial, mode);
  expect(e, target->fd >= 0 ? fchmod(target->fd, mode) : chmod(target->path, mode), 0);
  node->mode = (node->mode & S_IFMT) | mode;
  node_status_changed(node, e->now_ns);
}

/* Only root may; set-id bits of what may be executed go. */
static void change_owner(Exercise *e, const Target *target) {
  if (geteuid() != 0)
    return;
  Node *node = target->node;
  const uid_t uid = 1000 * below(e, 3);
  const gid_t gid = 1000 * below(e, 3);
  operation_begin(e, "chown %s node %u %u:%u", target->path != NULL ? target->path : "fd", node->serial, uid, gid);
  expect(e, target->fd >= 0 ? fchown(target->fd, uid, gid) : lchown(target->path, uid, gid), 0);
  node->uid = uid;
  node->gid = gid;
  if (!node_is_dir(node))
    node->mode &= ~((mode_t)S_ISUID | (node->mode & S_IXGRP ? S_ISGID : 0));
  node_status_changed(node, e->now_ns);
}

static struct timespec any_time(Exercise *e) {
  return (struct timespec){.tv_sec = sim_random_range(&e->random, -1000000000, G_GINT64_CONSTANT(8000000000)),
                           .tv_nsec = below(e, 1000000000)};
}

static gint64 to_ns(struct timespec time) {
  return (gint64)time.tv_sec * G_GINT64_CONSTANT(1000000000) + time.tv_nsec;
}

static void change_times(Exercise *e, const Target *target) {
  Node *node = target->node;
  struct timespec times[2] = {any_time(e), any_time(e)};
  if (percent(e, 20))
    times[below(e, 2)].tv_nsec = UTIME_OMIT;
  if (percent(e, 10))
    times[1].tv_nsec = UTIME_NOW;
  operation_begin(e, "utimens %s node %u %ld.%09ld %ld.%09ld", target->path != NULL ? target->path : "fd",
                  node->serial, (long)times[0].tv_sec, times[0].tv_nsec, (long)times[1].tv_sec, times[1].tv_nsec);
  expect(e,
         target->fd >= 0 ? futimens(target->fd, times)
                         : utimensat(AT_FDCWD, target->path, times, AT_SYMLINK_NOFOLLOW),
         0);
  if (times[0].tv_nsec != UTIME_OMIT)
    stamp_set(&node->atime, to_ns(times[0]));
  if (times[1].tv_nsec == UTIME_NOW)
    stamp_changed(&node->mtime, e->now_ns);
  else if (times[1].tv_nsec != UTIME_OMIT)
    stamp_set(&node->mtime, to_ns(times[1]));
  node_status_changed(node, e->now_ns);
}

static void change_xattr(Exercise *e, const Target *target) {
  Node *node = target->node;
  if (!node_is_dir(node) && !node_is_file(node))
    return;
  g_autofree char *name = g_strdup_printf("user.x%u", below(e, XATTR_NAMES));
  const gboolean there = g_tree_lookup(node->xattrs, name) != NULL;
  if (percent(e, 30)) {
    operation_begin(e, "remove attribute %s of node %u", name, node->serial);
    expect(e, target->fd >= 0 ? fremovexattr(target->fd, name) : removexattr(target->path, name),
           there ? 0 : ENODATA);
    g_tree_remove(node->xattrs, name);
    if (there)
      node_status_changed(node, e->now_ns);
    return;
  }
  static const int all_flags[] = {0, 0, XATTR_CREATE, XATTR_REPLACE};
  const int flags = all_flags[below(e, G_N_ELEMENTS(all_flags))];
  const gsize len = below(e, 200);
  g_autofree char *value = g_strnfill(len, 'a' + (char)below(e, 26));
  const int error = there && flags == XATTR_CREATE ? EEXIST : !there && flags == XATTR_REPLACE ? ENODATA : 0;
  operation_begin(e, "set attribute %s of node %u flags %d, %zu", name, node->serial, flags, len);
  expect(e,
         target->fd >= 0 ? fsetxattr(target->fd, name, value, len, flags)
                         : setxattr(target->path, name, value, len, flags),
         error);
  if (error != 0)
    return;
  g_autoptr(GBytes) bytes = g_bytes_new(value, len);
  const GBytes *old = g_tree_lookup(node->xattrs, name);
  if (old != NULL && g_bytes_equal(old, bytes))
    stamp_perhaps(&node->ctime, e->now_ns); /* nothing changes */
  else
    node_status_changed(node, e->now_ns);
  g_tree_replace(node->xattrs, g_strdup(name), g_steal_pointer(&bytes));
}

static void look_at_space(Exercise *e) {
  struct statvfs st;
  operation_begin(e, "statvfs");
  expect(e, statvfs(".", &st), 0);
  if (st.f_namemax != 255 || st.f_bsize == 0 || st.f_blocks == 0 || st.f_bfree > st.f_blocks ||
      st.f_bavail > st.f_bfree || st.f_ffree > st.f_files)
    differ(e, "statvfs: namemax %lu, %lu of %lu blocks free, %lu of %lu files", st.f_namemax, st.f_bfree,
           st.f_blocks, st.f_ffree, st.f_files);
}

void operate_on_attributes(Exercise *e) {
  static void (*const operations[])(Exercise *, const Target *) = {change_mode, change_owner, change_times,
                                                                   change_xattr, change_xattr};
  Target target;
  if (percent(e, 3)) {
    look_at_space(e);
  } else if (choose(e, &target)) {
    operations[below(e, G_N_ELEMENTS(operations))](e, &target);
    compare_node(e, target.node);
    g_free(target.path);
  }
}
