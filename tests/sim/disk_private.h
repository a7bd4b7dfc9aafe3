/* disk_private.h - what the parts of disk.h share.
 *
 * disk.c  life, and looking from outside      fault_replica.c  the replica that a node has
 * disk_rot.c  rows that change silently
 */
#pragma once

#include "disk.h"

/* Takes over `real`. */
QfsReplica *sim_fault_replica_new(SimDisk *disk, QfsReplica *real, gboolean reader);

/* SQLite: a reader that is no node's; owned by the disk, NULL: nothing can be read. */
QfsReplica *sim_disk_peek(SimDisk *disk);
void sim_disk_close_peeks(SimDisk *disk);
