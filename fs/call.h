/* call.h - one FUSE request on its way: answered once, parked, interrupted, sent to the engine.
 *
 * Invariants
 *   C1. A request gets exactly one answer. Who wins qfs_call_claim sends it: the operation, the
 *       interrupt's timer, or the unmount.
 *   C2. An operation is a `run` function that looks at the state from the beginning each time it
 *       runs; it ends by an answer, by a submission, or by parking. So whatever wakes it, it
 *       decides anew.
 *   C3. A call whose answer was given early (interrupt) still runs to its end in the engine;
 *       what it changed is then dropped from the kernel's caches, which took the call for
 *       failed.
 *
 * A signal that ends the caller, or asks it to (SIGINT, SIGTERM, SIGQUIT, SIGHUP), answers a call with EINTR when it
 * waited QFS_INTERRUPT_GRACE_US longer. What else a program handles (SIGALRM, SIGCHLD), and being stopped (Ctrl-Z), leaves
 * it its own answer.
 *
 * Threading: a call is run by one thread at a time.
 */
#pragma once

#include "fs/inode.h"

G_BEGIN_DECLS

#define QFS_INTERRUPT_GRACE_US 150000

typedef void (*QfsCallRun)(QfsCall *call);
typedef void (*QfsCallDone)(QfsCall *call, QfsRequest *request);

struct QfsCall {
  QfsFs *fs;
  fuse_req_t req;
  gint answered; /* atomic, C1 */
  gatomicrefcount refs;
  GList link; /* fs->calls_lock: in fs->calls */
  QfsCallRun run;
  QfsCallDone done;
  uid_t uid;
  gid_t gid;
  pid_t thread; /* the caller's; 0: of another PID namespace */
  mode_t umask;     /* of who creates something */
  gboolean mutates; /* C3 */
  guint64 doubts;   /* fs->doubts at the last submission */
  guint64 stand;    /* OPEN: qfs_engine_stand before the engine was asked */
  guint64 moves_done; /* fs->moves_done then */

  /* Parking; fs->lock. */
  QfsInode *parked_on;
  GList park_link;
  gboolean timed;    /* a timer runs */
  gboolean waited;   /* ... and ended: don't wait again */
  gint64 queued_us;  /* since when it waits in inode->openers */
  gboolean holding;  /* inode->blocked, and target's, are raised: qfs_call_hold_unlock */
  QfsStatus failure; /* what a publication on behalf of this call came to */

  /* Arguments and progress of the operation; owned by the call. */
  QfsInode *inode, *target, *dir, *dir2;
  QfsHandle *handle; /* referenced: its RELEASE may come before the end of an interrupted call */
  QfsDirHandle *dir_handle; /* referenced */
  guint64 page_first;       /* READDIR: ordinal at which the page asked for begins, */
  guint64 page_changes;     /* and the directory's state when it was asked for */
  char *name, *name2;
  char *text;
  struct fuse_file_info fi;
  gsize size;
  guint64 offset;
  guint flags;
  guint mask;
  guint attempts;
  QfsAttr attr;
  GBytes *xattrs;     /* of what is created; NULL: none */
  gboolean got_group; /* who sets an access list is in the file's group */
  gboolean blocks;    /* SETATTR: the inode's list of attributes changes, too */
  GBytes *data;
  QfsRecord *pin; /* an engine pin is held on its object */
  gboolean got;
  GList opener_link;  /* fs->lock: in inode->openers */
  gboolean queued;    /* fs->lock: it is */
  gboolean pinned;    /* READ of the handle's pinned version */
  gboolean replacing; /* WRITE that is the handle's REPLACE */
  gboolean conditional; /* OPEN, CREATE, WRITE: user.quorumfs.if-timestamp was set for it */
  guint64 if_timestamp;
  guint64 condition; /* OPEN, CREATE: its id, until it is known whether it is used up */
};

/* Takes the request over and starts to listen for its interruption. */
QfsCall *qfs_call_new(fuse_req_t req, QfsCallRun run);
QfsCall *qfs_call_ref(QfsCall *call);
void qfs_call_unref(QfsCall *call);
void qfs_call_run(QfsCall *call);
void qfs_calls_run(GSList *calls); /* frees the list */

/* TRUE: the caller must answer call->req now, once. */
gboolean qfs_call_claim(QfsCall *call);
/* The operation is over. Call it after the answer; drops everything that the call owns. */
void qfs_call_end(QfsCall *call);
/* As end, for a call that lost its claim: C3. */
void qfs_call_end_late(QfsCall *call);

/* Takes the condition that was set for what the caller does to `key` (NULL: of call->inode); opens: looks only. FALSE: it
 * is unclear whether one is meant, and the call was answered. */
gboolean qfs_call_take_condition(QfsCall *call, const char *key, gboolean open);

/* Answer and end. */
void qfs_call_reply_errno(QfsCall *call, int error);
void qfs_call_reply_status(QfsCall *call, const char *what,
                           QfsStatus status); /* logs real failures */

/* Sends `request`; `done` gets it, may steal its outputs, and it is freed afterwards. The caller
 * does not touch the call any more. */
void qfs_call_submit(QfsCall *call, QfsRequest *request, QfsCallDone done);
/* As submit, counting the request in inode->mutations; call with the lock held, it is released. */
void qfs_call_submit_mutation_unlock(QfsCall *call, QfsInode *inode, QfsRequest *request,
                                     QfsCallDone done);

/* Parks until `inode` changes, or with a limit (once per call; `waited` is then set). Lock held;
 * the caller unlocks and returns. */
void qfs_call_park_locked(QfsCall *call, QfsInode *inode, gint64 limit_us);

/* `inode`, and `target` if it is not NULL, become the call's and blocked (inode.h I4), and the call waits until what is
 * under way there has ended: then what it asks of the engine comes after all that. Lock held. FALSE: held still; the
 * answer of what is submitted now is to lower `blocked` again. TRUE: released, the call is parked and runs again. */
gboolean qfs_call_hold_unlock(QfsCall *call, QfsInode *inode, QfsInode *target);
/* Gives up, or takes back what qfs_call_hold_unlock did. The lock is held; run the result after unlocking. */
GSList *qfs_call_let_go_locked(QfsCall *call);

/* Answers every call alive with ENOTCONN (unmount). */
void qfs_calls_cut_off(QfsFs *fs);

G_END_DECLS
