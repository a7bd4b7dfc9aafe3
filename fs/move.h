/* move.h - directories that are being renamed: what comes meanwhile, and the names of what is below them.
 *
 * Invariants
 *   T1. While a directory is on its way a change below its old or new name is held back until the rename is over, and
 *       then sent with the names that hold by then. The engine does the same with what it had received before.
 *   T2. An answer to a read that was asked for before a directory was renamed, and came after it, may be about
 *       names that mean something else by now: such a call runs again. One that found nothing while a directory is on
 *       its way waits for it.
 *   T3. A change whose names were looked up before a directory began to be renamed reaches the engine before the rename
 *       does, or is held back: the rename waits while changes that were decided on are being handed over. So
 *       none comes after it with a name of before. Until it is held or sent it follows a rename that ends.
 */
#pragma once

#include "fs/call.h"

G_BEGIN_DECLS

/* Lock held. `dir` is blocked (inode.h I4) until the end. `request` is the rename, which is submitted next. */
void qfs_move_begin_locked(QfsFs *fs, QfsInode *dir, const QfsRequest *request);
/* `moved`: the inodes below follow. Returns what was held back, for qfs_move_send without the lock. */
GSList *qfs_move_end_locked(QfsFs *fs, QfsInode *dir, gboolean moved);
void qfs_move_send(QfsFs *fs, GSList *held);

/* T3: lock held: a change whose names are what they are now is about to be submitted; and: it was. */
void qfs_move_note_locked(QfsFs *fs, QfsRequest *request);
void qfs_move_handed_over(QfsFs *fs, guint64 mark);
/* TRUE: the change is kept until a rename is over, or the rename until T3 holds. Takes the lock. */
gboolean qfs_move_holds(QfsFs *fs, QfsRequest *request);
/* T2: TRUE: the call was parked or run again, and the answer is of no use. Takes the lock. */
gboolean qfs_move_outran(QfsCall *call, const QfsRequest *answer);

/* A created file below `key` that was not published yet; NULL: there is none. Lock held. */
QfsInode *qfs_move_pending_locked(QfsFs *fs, const char *key);

G_END_DECLS
