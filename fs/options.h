/* options.h - what `-o` says, parsed and checked without touching the disk.
 *
 * Owns: the names, ranges and defaults of the mount options; which of them go on to libfuse. Leaves
 * to others: whether the store and the mountpoint are usable (cli_mount.c, mountpoint.c).
 *
 * Use: new, add for each -o in order, finish, perhaps adopt_store, settle; then `engine` is
 * complete. Of an option that is given twice the last one counts. A comma or a backslash in a value
 * is written
 * `\,` or `\\`. Errors (QFS_OPTIONS_ERROR) are one line, fit for standard error.
 *
 * Threading: one thread at a time per object.
 */
#pragma once

#include "cluster/engine.h"

G_BEGIN_DECLS

#define QFS_OPTIONS_NODES_DEFAULT 5
#define QFS_OPTIONS_TIMEOUT_MS_DEFAULT 2000
#define QFS_OPTIONS_TIMEOUT_MS_MIN 100
#define QFS_OPTIONS_TIMEOUT_MS_MAX 600000
#define QFS_OPTIONS_GRACE_S_DEFAULT 86400
#define QFS_OPTIONS_SCRUB_S_DEFAULT 86400

typedef struct {
  QfsEngineConfig engine; /* nodes, replicas: 0 until given or settled; paths are owned */
  guint cached_names;     /* 0: the default */
  gboolean ephemeral;     /* `engine.store` is chosen, made and removed by who mounts */
  gboolean allow_other;   /* allow_other or allow_root is among `fuse` */
  gboolean fsname_given;
  GPtrArray *fuse; /* element-type char*: options for libfuse, each unescaped */
} QfsOptions;

QfsOptions *qfs_options_new(void);
void qfs_options_free(QfsOptions *options); /* accepts NULL */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QfsOptions, qfs_options_free)

/* Adds one comma-separated list. On failure `options` is fit only for free. */
gboolean qfs_options_add(QfsOptions *options, const char *list, GError **error);

/* Fills in the store's directory and makes paths absolute; refuses options that exclude each other.
 */
gboolean qfs_options_finish(QfsOptions *options, GError **error);

/* An existing store has, or is about to have, `nodes` and `replicas`: they stand in for what was not given. */
void qfs_options_adopt_store(QfsOptions *options, guint nodes, guint replicas);

/* Fills in defaults of nodes and replicas and checks them against each other and against nodeI=. */
gboolean qfs_options_settle(QfsOptions *options, GError **error);

/* The options for libfuse as one -o argument, escaped, the store's directory as fsname unless
 * another was given; newly allocated. */
char *qfs_options_fuse_string(const QfsOptions *options);
/* Is `name` among the options for libfuse? */
gboolean qfs_options_has_fuse(const QfsOptions *options, const char *name);

#define QFS_OPTIONS_ERROR (qfs_options_error_quark())
GQuark qfs_options_error_quark(void);

G_END_DECLS
