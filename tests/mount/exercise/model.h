/* model.h - what a directory tree must look like, in memory.
 *
 * Owns: nodes, their names, bytes, attributes, and what is known of their times. Leaves to others: the real files.
 * A node lives while it has names, open descriptors or mappings; names of a node that is a directory are one at
 * most.
 */
#pragma once

#include <glib.h>
#include <sys/stat.h>

G_BEGIN_DECLS

/* A time that the filesystem chooses. */
typedef enum {
  STAMP_UNKNOWN, /* anything */
  STAMP_SEEN,    /* `value` exactly: seen so, or set so, and nothing has changed it since */
  STAMP_CHANGED, /* not before `low` */
  STAMP_PERHAPS, /* either */
  STAMP_ANY,     /* anything, but then it stays */
} StampState;

typedef struct {
  StampState state;
  gint64 value, low;
} Stamp;

typedef struct Node Node;
typedef struct Name Name;

struct Name {
  Node *dir;
  char *text;
  Node *node;
  guint index; /* in Model.names */
};

struct Node {
  guint serial;
  guint refs; /* names, descriptors, mappings */
  mode_t mode;
  uid_t uid;
  gid_t gid;
  ino_t ino; /* 0: not seen since it was mounted */
  Stamp mtime, ctime, atime;
  GPtrArray *names;  /* of Name, not owned */
  GTree *children;   /* directories: text -> Name, owned */
  GByteArray *bytes; /* files */
  char *target;      /* symlinks */
  GTree *xattrs;     /* name -> GBytes */
  guint subdirs;
  gboolean mapped; /* pages of a shared mapping may not be written back: times are anybody's guess */
};

typedef struct {
  Node *root;       /* no name */
  GPtrArray *names; /* of Name, all but the root's, in no order that matters beyond the seed */
  guint next_serial;
  uid_t uid;
  gid_t gid;
} Model;

Model *model_new(void);
void model_free(Model *model);

Node *node_ref(Node *node);
void node_unref(Node *node); /* accepts NULL */
static inline gboolean node_is_dir(const Node *node) {
  return S_ISDIR(node->mode);
}
static inline gboolean node_is_file(const Node *node) {
  return S_ISREG(node->mode);
}

/* A new node without a name; times are from `now_ns` on. The caller owns the reference. */
Node *model_node_new(Model *model, mode_t mode, gint64 now_ns);
/* Gives it a name, which must be free. The directory's times change. */
Name *model_link(Model *model, Node *dir, const char *text, Node *node, gint64 now_ns);
/* Takes it away, and the reference with it. */
void model_unlink(Model *model, Name *name, gint64 now_ns);
/* The nodes of two names are exchanged. */
void model_exchange(Model *model, Name *a, Name *b, gint64 now_ns);

Name *model_find(const Node *dir, const char *text);
/* Relative to the root, which is ".". NULL: it has no name. Any of several, by `which`. */
char *node_path(const Node *node, guint which);
char *name_path(const Node *dir, const char *text);
guint node_depth(const Node *dir);
/* Is `node` in the directory, or the directory itself? */
gboolean node_is_below(const Node *node, const Node *dir);

/* What the file is after the bytes were written at this offset; zeros fill what is between. */
void node_write(Node *node, guint64 offset, gconstpointer bytes, gsize len);
void node_resize(Node *node, guint64 size);
void node_zero(Node *node, guint64 offset, guint64 len); /* up to the end of the file */

void stamp_set(Stamp *stamp, gint64 value);
void stamp_changed(Stamp *stamp, gint64 now_ns);
void stamp_perhaps(Stamp *stamp, gint64 now_ns);
/* FALSE: that cannot be. Otherwise what was seen is what it must be from now on. */
gboolean stamp_check(Stamp *stamp, gint64 seen, gint64 now_ns);
/* Bytes or size changed; attributes or names changed. */
void node_modified(Node *node, gint64 now_ns);
/* ... by write(2), truncate(2) and the like: set-id bits go unless root does it. */
void node_written(Node *node, gint64 now_ns);
void node_drop_setid(Node *node);
/* Nothing of its mappings is on its way any more: its times, of the stores or set since, stay. */
void node_written_back(Node *node);
void node_status_changed(Node *node, gint64 now_ns);

G_END_DECLS
