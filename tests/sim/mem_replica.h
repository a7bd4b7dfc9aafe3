/* mem_replica.h - QfsReplicaOps over a MemDisk: the model that the SQLite replica is to behave
 * like.
 *
 * The rules of storage/replica.h and nothing else: no faults (disk.h puts them in front), no files.
 * The disk outlives its replicas. Ownership: the replica is closed by its close function.
 */
#pragma once

#include "mem_disk.h"

/* The only writer; an open transaction is rolled back when it is closed. */
QfsReplica *mem_replica_open(MemDisk *disk);
QfsReplica *mem_replica_open_reader(MemDisk *disk);
