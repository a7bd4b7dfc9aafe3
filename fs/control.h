/* control.h - the files below .quorumfs: what they say when read and do when written.
 *
 * Owns: the virtual tree (names, modes, contents, commands) and the request protocol of `rpc`, which the
 * command line's put and delete use. Leaves to others: inodes, handles and FUSE replies
 * (ops_control.c), the command line's side (cli_*.c).
 *
 * Paths are relative to .quorumfs, without leading '/': "" is the directory itself, "status",
 * "nodes", "nodes/1", "nodes/1/state". The tree never depends on a node being up and touches no replica, except
 * below nodes/I/keys: that is the tree as node I alone holds it, read-only, and all about it fails with EHOSTDOWN
 * while node I is closed. Modes and names there are for others to ask for (qfs_control_key_lookup).
 *
 * `rpc` is for quorumfs's own commands. One open handle is one request: the first line written is
 * "put TIMESTAMP|- KEY-ESCAPED\n", "put-if STORED TIMESTAMP|- KEY-ESCAPED\n" (only if the stored timestamp is STORED, 0: if
 * there is none; else "error ESTALE ...") or "delete TIMESTAMP|- KEY-ESCAPED\n" (g_uri_escape_bytes escapes; `-`: the
 * store's clock), all further bytes written are the value, streamed into a staged object when it is
 * large; the first read carries it out and returns one line: "applied TIMESTAMP\n",
 * "superseded TIMESTAMP\n" or "error ERRNO MESSAGE\n". A close without a read drops everything.
 * A put makes missing parent directories.
 *
 * `events` tells acknowledged changes: events.h.
 *
 * Threading: any thread; a QfsControlFile is used by one request at a time only if its opener does so,
 * hence it has its own lock. `done` callbacks run once, by any thread, perhaps before the call returns.
 */
#pragma once

#include "cluster/engine.h"

#include <sys/types.h>

G_BEGIN_DECLS

typedef struct QfsControl QfsControl;
typedef struct QfsControlFile QfsControlFile;

/* `changed` is called (any thread, no locks) with each key that a put or delete through rpc has
 * changed, after it was acknowledged and before its answer is given: the kernel's caches must forget it. */
QfsControl *qfs_control_new(QfsEngine *engine, void (*changed)(const char *key, gpointer user_data),
                            gpointer user_data);
/* After all files were closed. */
void qfs_control_free(QfsControl *control);
/* What becomes of the tokens of qfs_control_poll: see QfsEventsWake. Before the first poll. */
void qfs_control_on_wake(QfsControl *control,
                         void (*wake)(gpointer token, gboolean readable, gpointer user_data));

/* Who knows which names lead to a file with several names, by its own key: NULL-terminated, newly allocated. Before the
 * first change. */
void qfs_control_on_names(QfsControl *control, char **(*names)(const char *key, gpointer user_data));

/* The kernel sent a request of this sort (FUSE's opcode): `metrics` counts them. Any thread. */
void qfs_control_count_request(QfsControl *control, guint opcode);

/* What `error` (an errno) means for the value that was asked for, in a few words; NULL: it speaks for
 * itself. Static. */
const char *qfs_control_explain(int error);

/* Mode (with file type) of a path; 0: there is no such path. */
mode_t qfs_control_mode(QfsControl *control, const char *path);
/* Size of the file at `path`, as far as it is told before the file is read: 0 but for `events`. */
guint64 qfs_control_size(QfsControl *control, const char *path);
/* Is `path` nodes/I/keys or below it? *out_key: what follows, borrowed; "" is the root of node I's tree. */
gboolean qfs_control_parse_key(QfsControl *control, const char *path, guint *out_node, const char **out_key);
/* What node `node` alone has under `key`, and its children in the directory `dir` after the name `after` (tree.h). 0, or
 * EHOSTDOWN: the node is closed; ENOENT, ENAMETOOLONG, EIO, EOPNOTSUPP. They read the replica. */
int qfs_control_key_lookup(QfsControl *control, guint node, const char *key, QfsRecord **out_record);
int qfs_control_key_list(QfsControl *control, guint node, const char *dir, const char *after, guint limit,
                         GPtrArray **out_entries, gboolean *out_more);
/* Names in a control directory, newly allocated, NULL-terminated; NULL if it is none. */
char **qfs_control_list(QfsControl *control, const char *path);

/* Opens a control file; contents of plain ones are generated here, once per open, so that two reads of
 * one handle never tear. `flags` as open(2); `uid`, `gid` of the caller. NULL: *out_errno. */
QfsControlFile *qfs_control_open(QfsControl *control, const char *path, int flags, uid_t uid, gid_t gid,
                                 int *out_errno);
void qfs_control_close(QfsControlFile *file);
/* `error` is 0 or an errno; `data` (may be NULL at end of file) is the callee's to unref. */
typedef void (*QfsControlReadDone)(int error, GBytes *data, gpointer user_data);
void qfs_control_read(QfsControlFile *file, off_t offset, gsize size, QfsControlReadDone done,
                      gpointer user_data);
/* Would a read return something at once? Files other than `events`: always. Takes `token` over (NULL: none) until it
 * is given back by `wake`. */
gboolean qfs_control_poll(QfsControlFile *file, gpointer token);
typedef void (*QfsControlWriteDone)(int error, gsize written, gpointer user_data);
/* Takes `data` over. Commands below nodes/ end when they are carried out. */
void qfs_control_write(QfsControlFile *file, off_t offset, GBytes *data, QfsControlWriteDone done,
                       gpointer user_data);

G_END_DECLS
