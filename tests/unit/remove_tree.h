/* remove_tree.h - takes away a test's directory with everything in it. */
#pragma once

#include <glib.h>
#include <glib/gstdio.h>

static inline void remove_tree(const char *path) {
  g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
  const char *name = NULL;
  while (dir != NULL && (name = g_dir_read_name(dir)) != NULL) {
    g_autofree char *child = g_build_filename(path, name, NULL);
    remove_tree(child);
  }
  g_remove(path);
}
