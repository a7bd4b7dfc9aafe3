/* engine_memory.h - an engine in one process's memory, so that fs/ can be tried and tested alone.
 * Everything that QfsEngineOps promises except durability and replication. Thread-safe: one mutex.
 */
#pragma once

#include "cluster/engine.h"

G_BEGIN_DECLS

/* delay_us: 0: requests are answered inside submit. Else changes are answered, in the order of
 * their submission, by another thread after so long; reads are answered at once and see what was
 * answered so far. */
QfsEngine *qfs_memory_engine_new(guint delay_us);
/* Without a quorum changes end with QFS_NO_QUORUM and the status says so. */
void qfs_memory_engine_set_quorum(QfsEngine *engine, gboolean quorum);
/* Changes submitted from now on end with `status` instead, `count` times. */
void qfs_memory_engine_fail(QfsEngine *engine, QfsStatus status, guint count);

G_END_DECLS
