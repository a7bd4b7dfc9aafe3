/* status.h - how a request ended. errno exists only in fs/errno_map.c.
 * "Certainly not applied" and "outcome unknown" are different values on purpose (DESIGN 1.7, 5). */
#pragma once

#include <glib.h>

typedef enum {
  QFS_OK = 0,
  QFS_NOT_FOUND,      /* no such key (or a tombstone) */
  QFS_EXISTS,         /* exclusive creation of an existing key */
  QFS_NOT_DIRECTORY,  /* a parent, or the key itself, is not a directory */
  QFS_IS_DIRECTORY,
  QFS_NOT_EMPTY,
  QFS_STALE,          /* compare-and-swap: the stored timestamp is another one; or the version read is gone */
  QFS_NO_QUORUM,      /* refused before anything was sent: certainly not applied */
  QFS_UNKNOWN,        /* deadline passed or replicas disagree: may or may not have been applied */
  QFS_IO,             /* checksum or storage failure that no replica can mend */
  QFS_NO_SPACE,       /* the disks of a majority are full; not applied */
  QFS_NAME_TOO_LONG,
  QFS_TOO_BIG,
  QFS_OVERFLOW,       /* no timestamp above the stored one exists */
  QFS_INVALID,
  QFS_CROSS,          /* rename that must be done by copying (EXDEV) */
  QFS_CANCELED,
  QFS_BUSY,           /* a node that is in use cannot be evicted */
  QFS_TOO_MANY_LINKS, /* a file can't have more names */
} QfsStatus;

const char *qfs_status_name(QfsStatus status); /* "no-quorum"; static */
