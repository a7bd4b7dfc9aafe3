/* fs.h - the store as a mounted filesystem.
 *
 * Owns: the FUSE session, the kernel's view (inodes, handles, caches) and their rules (DESIGN 4).
 * Leaves to others: opening and closing the engine, options, daemonizing, signals (main.c), what
 * the files below .quorumfs say (control.c).
 *
 * Life: qfs_fs_mount, qfs_fs_run (blocks), qfs_fs_free, then close the engine. The engine outlives
 * the QfsFs: free waits until no request of this mount is under way in it.
 *
 * Threading: mount, run and free from one thread; stop from anywhere, also a signal handler;
 * key_changed from any thread, with no lock held. Fork (daemonize) before qfs_fs_mount: it starts
 * threads.
 */
#pragma once

#include "cluster/engine.h"

#include <sys/types.h>

G_BEGIN_DECLS

typedef struct QfsFs QfsFs;

typedef struct {
  QfsEngine *engine;      /* borrowed; outlives the QfsFs */
  const char *mountpoint; /* an existing directory; a stale mount there was cleaned up before */
  const char *fsname;     /* first column of the mount table; NULL: "quorumfs" */
  gboolean
      allow_other; /* users other than the mounter may enter; needs user_allow_other if not root */
  gboolean read_only; /* mounted "ro" */
  gboolean noatime, nodiratime; /* times of last reading are not kept: at all, of directories (atime.h) */
  gboolean debug;     /* libfuse prints every request */
  guint threads;      /* session threads; 0: 3 */
  guint cached_names; /* files that the kernel may know at once (crowd.h); 0: the default */
  uid_t uid;          /* owner of the root directory when it has to be created */
  gid_t gid;
  const char *const *fuse_options; /* NULL-terminated values for libfuse's -o ("noexec",
                                      "max_read=..."); may be NULL */
  /* Called once, by a session thread, when the kernel's INIT was answered and requests are served.
   */
  void (*ready)(gpointer user_data);
  gpointer ready_data;
} QfsFsConfig;

/* Mounts, and creates the root directory's record when there is none (when no quorum is up, later,
 * as soon as there is one). Returns when the kernel has the mount; nothing is served before
 * qfs_fs_run. The strings of `config` are copied. Errors: G_FILE_ERROR or QFS_FS_ERROR, one line.
 * Blocks for at most the engine's timeout. */
QfsFs *qfs_fs_mount(const QfsFsConfig *config, GError **error);

/* Serves until the filesystem is unmounted or qfs_fs_stop was called. 0: one of the two; -1: the
 * session failed (a line was logged). Still mounted after a stop: qfs_fs_free unmounts. */
int qfs_fs_run(QfsFs *fs);

/* Makes qfs_fs_run return within a second, also with open files and waiting calls.
 * Async-signal-safe; may be called before run and more than once. */
void qfs_fs_stop(QfsFs *fs);

/* Unmounts if mounted (calls that still wait are answered ENOTCONN), publishes what open handles
 * owe, persists directory times, waits for the engine to end this mount's requests. Accepts NULL.
 */
void qfs_fs_free(QfsFs *fs);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QfsFs, qfs_fs_free)

/* `key` was changed by somebody else than this mount's requests: the kernel's cached entry,
 * attributes and data of it are dropped, soon, by the notification threads. Fits QfsEngineWatch and
 * qfs_control_new's `changed`. `fs` may be NULL (not mounted yet): nothing to forget. */
void qfs_fs_key_changed(const char *key, gpointer fs);

#define QFS_FS_ERROR (qfs_fs_error_quark())
GQuark qfs_fs_error_quark(void);
typedef enum { QFS_FS_ERROR_MOUNT, QFS_FS_ERROR_OPTION } QfsFsError;

G_END_DECLS
