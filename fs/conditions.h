/* conditions.h - user.quorumfs.if-timestamp: which write is to be conditional on which stored timestamp.
 *
 * The kernel tells of a SETXATTR, an OPEN and a WRITE the inode and the calling thread, not the open file. So a
 * condition belongs to a file and to a process, and is taken by the next write to that file
 *   - by the thread that set it (once that has ended: by its process), or a process that this has started;
 *   - when that process has ended (it was setfattr): by its nearest ancestor that still lives, or one that this
 *     has started.
 * A condition of which all these have ended (init does not count) is dropped. Where nobody knows whether it is meant, the
 * write is refused and uses nothing up: another thread of a process of which one has set a condition, or
 * several conditions that differ.
 *
 * An open that truncates is the beginning of such a write. The kernel repeats an open that fails with ESTALE once: so
 * it only looks, and tells afterwards whether it has used the condition up.
 *
 * A file is known by its number, which is never used twice, and by its key: so neither a rename of the open
 * file nor one that is deleted and made anew gets around the condition.
 *
 * Threading: any thread; one lock, a leaf. /proc is read without it.
 */
#pragma once

#include <glib.h>
#include <sys/types.h>

G_BEGIN_DECLS

typedef struct {
  pid_t thread, process;
  guint64 start;  /* of the process: a number that is given anew is another one's */
  pid_t parent;
  guint64 parent_start;
} QfsProcess;

/* FALSE: there is no such thread, or its process has ended. */
typedef gboolean (*QfsProcessRead)(pid_t thread, QfsProcess *out);
gboolean qfs_process_read(pid_t thread, QfsProcess *out); /* from /proc */

#define QFS_CONDITIONS_MAX 4096

typedef struct QfsConditions QfsConditions;

typedef enum { QFS_CONDITION_NONE, QFS_CONDITION_FOUND, QFS_CONDITION_UNCLEAR } QfsConditionMatch;

QfsConditions *qfs_conditions_new(QfsProcessRead read);
void qfs_conditions_free(QfsConditions *conditions); /* accepts NULL */

/* A condition of the same thread for the same file is replaced. 0; EOPNOTSUPP: the caller is unknown (it is in another PID
 * namespace); ENOSPC: QFS_CONDITIONS_MAX of living processes. */
int qfs_conditions_set(QfsConditions *conditions, guint64 file, const char *key, pid_t thread, guint64 timestamp);
/* Is there any at all? A load. */
gboolean qfs_conditions_any(const QfsConditions *conditions);
/* The condition of a write by `thread`, which is thereby used up; *out_timestamp only if FOUND. `file` 0:
 * not known by number, `key` NULL: not by name. */
QfsConditionMatch qfs_conditions_take(QfsConditions *conditions, guint64 file, const char *key, pid_t thread,
                                      guint64 *out_timestamp);
/* The same, for an open: nothing is used up before one of the next two. `id`: 0 does nothing. */
QfsConditionMatch qfs_conditions_look(QfsConditions *conditions, guint64 file, const char *key, pid_t thread,
                                      guint64 *out_timestamp, guint64 *out_id);
void qfs_conditions_used(QfsConditions *conditions, guint64 id);
/* The open fails with ESTALE because of it: used up the second time. */
void qfs_conditions_refused(QfsConditions *conditions, guint64 id);

G_END_DECLS
