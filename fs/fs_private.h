/* fs_private.h - what the files behind fs.h share: the mount object and the rules of its one lock.
 *
 * Invariants
 *   F1. fs->lock guards every inode, handle, parked call and the tables. It is never held across
 *       an engine call, a FUSE reply or a kernel notification, and nothing blocks under it.
 *   F2. Every engine request is counted in `in_flight` from before its submission until its
 *       `done` has returned; the QfsFs outlives them.
 *   F3. A kernel notification is sent by a notification thread only (notify.h), and the only
 *       answers that wait for one are those of notify.h N2.
 *
 * Threading: lock order is fs->lock alone; calls_lock, the timer's and the notifiers' locks are
 * leaves.
 */
#pragma once

#define FUSE_USE_VERSION 314

#include "fs/conditions.h"
#include "fs/control.h"
#include "fs/errno_map.h"
#include "fs/fs.h"

#include <errno.h>
#include <fuse_lowlevel.h>
#include <sys/stat.h>

G_BEGIN_DECLS

typedef struct QfsInode QfsInode;
typedef struct QfsHandle QfsHandle;
typedef struct QfsDirHandle QfsDirHandle;
typedef struct QfsCall QfsCall;
typedef struct QfsTimer QfsTimer;
typedef struct QfsNotify QfsNotify;
typedef struct QfsSession QfsSession;
typedef struct QfsMove QfsMove;

#define QFS_CONTROL_NAME ".quorumfs"
#define QFS_ORPHAN_DIR "/orphan"
/* Caches are dropped by what changes, never by age. */
#define QFS_CACHE_SECONDS 3600.0
/* How long an open waits for readers or for a replacing writer, ... */
#define QFS_OPEN_WAIT_US 20000
/* ... and how long while these were active in the last QFS_ACTIVE_US: if a cached reader's read(2)
 * is under way when the kernel truncates at the writer's open, it may return nothing; and a file
 * just created is empty. */
#define QFS_OPEN_WAIT_MAX_US 200000
#define QFS_ACTIVE_US 100000
/* How long a direct reader keeps its version without reading on. */
#define QFS_PIN_US G_USEC_PER_SEC
/* Readers and replacing writers met at this inode: for so long its readers are direct and pinned.
 */
#define QFS_CONTENDED_US G_USEC_PER_SEC
/* Largest WRITE and, as st_blksize, what cp and cat use. */
#define QFS_MAX_WRITE 1048576

struct QfsFs {
  QfsEngine *engine;
  QfsControl *control;
  struct fuse_session *se;
  QfsSession *session;
  QfsTimer *timer;
  QfsNotify *notify;
  QfsConditions *conditions;
  char *mountpoint;
  guint threads;
  uid_t uid;
  gid_t gid;
  void (*ready)(gpointer user_data);
  gpointer ready_data;
  gint64 mounted_ns;

  GMutex lock;
  GHashTable *by_ino;    /* lock: fuse_ino_t -> QfsInode */
  GHashTable *by_key;    /* lock: key -> QfsInode that has that name now */
  GHashTable *by_link;   /* lock: name -> QfsInode with a key of its own to which it leads: names.h */
  GHashTable *by_st_ino; /* lock: st_ino -> QfsInode, so that no two known inodes share one */
  guint64 next_ino;      /* lock */
  guint64 next_orphan;   /* lock */
  guint64 doubts;       /* lock: raised when a record may have changed behind an answer under way */
  gint64 last_birth_ns; /* lock: birth times are unique, they make st_ino */
  GQueue pending;       /* lock: of QfsInode: created, not yet published */
  GSList *moves;        /* lock: of QfsMove: directories that are being renamed (move.h) */
  gint n_moves;         /* atomic: how many */
  guint64 moves_done;   /* lock: how many succeeded */
  guint64 moves_begun;  /* lock: move.h T3 */
  guint handing;        /* lock: T3: changes that were decided on and are not yet the engine's */
  GSList *held;         /* lock: of QfsRequest: wait for the end of moves */
  GSList *undecided;    /* lock: QfsRequest that were noted, and neither held nor sent yet: they follow a rename */
  GQueue dirty_dirs; /* lock: directories whose times are not yet stored; each holds a reference */
  GQueue crowd;         /* lock: of QfsInode: files that the kernel knows, by age (crowd.h) */
  guint cached_names;   /* constant: how many of them it may know */
  gboolean flush_armed; /* lock: the timer that stores them runs */
  gboolean root_stored; /* lock */
  GQueue read_inodes;   /* lock: of QfsInode whose atime is not yet stored (atime.h); each holds a reference */
  guint atimes_in_flight;           /* lock */
  gboolean atimes_armed;            /* lock: the timer that stores them runs */
  gint64 atimes_until_us;           /* constant once closing */
  gboolean atime_files, atime_dirs; /* constant */
  GQueue dir_handles;   /* lock: open directories */
  QfsInode *root;       /* constant */

  GMutex calls_lock;
  GQueue calls; /* calls_lock: every QfsCall alive */

  gint init_answered;     /* atomic: direct_map.h */
  gint in_flight;         /* atomic */
  gint closing;           /* atomic: no new publication is waited for */
  gint64 quorum_until_us; /* atomic by calls_lock: a quorum was seen less than 10 ms ago */
  gint64 warned_second;   /* calls_lock: rate limit of the log */
  guint warned;
};

/* Wall clock in ns. */
gint64 qfs_fs_now_ns(void);
/* As now, but never the same twice. Takes no lock: lock held by the caller. */
gint64 qfs_fs_birth_ns_locked(QfsFs *fs);

/* Submits; `request->done` must end with qfs_fs_request_end, its last touch of fs. Fills now_ns. */
void qfs_fs_submit(QfsFs *fs, QfsRequest *request);
/* The last part of submit, also for what move.c held: to the engine, unless it is held (again). */
void qfs_fs_send(QfsFs *fs, QfsRequest *request);
void qfs_fs_request_end(QfsFs *fs, QfsRequest *request);

/* Are writes possible? Remembers a yes for 10 ms, never a no. */
gboolean qfs_fs_may_write(QfsFs *fs);

/* One line for a request that the store could not carry out; few per second. Statuses that are an
 * ordinary answer (QFS_NOT_FOUND ...) are not logged. */
void qfs_fs_log_failure(QfsFs *fs, const char *what, const char *key, QfsStatus status);

/* Creates the root's record if it is absent; asynchronous, repeated by the timer until it is there.
 */
void qfs_fs_ensure_root(QfsFs *fs);
/* INIT was answered: called once, by a session thread. */
void qfs_fs_serving(QfsFs *fs);
/* Stores the times of directories that changed. all: also what changed this moment (at the end). */
void qfs_fs_store_dir_times(QfsFs *fs);

/* Operation tables, filled by the ops_*.c files. */
void qfs_ops_open_init(struct fuse_lowlevel_ops *ops);
void qfs_ops_file_init(struct fuse_lowlevel_ops *ops);
void qfs_ops_space_init(struct fuse_lowlevel_ops *ops);
void qfs_ops_name_init(struct fuse_lowlevel_ops *ops);
void qfs_ops_link_init(struct fuse_lowlevel_ops *ops);
void qfs_ops_dir_init(struct fuse_lowlevel_ops *ops);
void qfs_ops_attr_init(struct fuse_lowlevel_ops *ops);
void qfs_ops_xattr_init(struct fuse_lowlevel_ops *ops);

/* ops_dir.c */
void qfs_dir_handle_unref(QfsFs *fs, QfsDirHandle *dir); /* accepts NULL */
void qfs_dir_handles_free(QfsFs *fs); /* those that the kernel will not release any more */

/* session.c */
QfsSession *qfs_session_new(QfsFs *fs);
int qfs_session_run(QfsSession *session);
void qfs_session_stop(QfsSession *session); /* async-signal-safe */
void qfs_session_free(QfsSession *session);
/* For a request that the calling thread is about to submit. All, if it serves a request of the kernel and no others wait
 * for it; while others do it gathers. */
QfsLend qfs_session_lends(void);
/* The calling thread has answered its request and goes on working: another one may listen at once. */
void qfs_session_hand_over(void);
/* The bytes of a WRITE being processed by this thread: large ones are taken over with the thread's
 * receive buffer, small ones copied. */
GBytes *qfs_session_take_bytes(const char *buf, gsize size);

/* timer.c: calls `fire` once at or after the monotonic time `at_us`, on the timer's thread, without
 * locks. At qfs_timer_free what is left fires at once. */
typedef void (*QfsTimerFire)(gpointer data);
QfsTimer *qfs_timer_new(void);
void qfs_timer_add(QfsTimer *timer, gint64 at_us, QfsTimerFire fire, gpointer data);
void qfs_timer_free(QfsTimer *timer);

G_END_DECLS
