/* events.h - the latest acknowledged changes as text, one line each: what .quorumfs/events reads.
 *
 *     TIMESTAMP put|attr|mkdir|symlink|mknod|delete KEY
 *     TIMESTAMP rename|link KEY<TAB>NEW-KEY
 *
 * Keys are escaped so that a change is one line (qfs_events_escape); the root is ".".
 *
 * The file only grows: byte N of it is byte N of all lines since the mount. The latest `bytes_max` bytes of whole
 * lines are kept. A reader that begins at offset 0 gets what is kept, from the oldest line on. A reader that goes on
 * where it was and finds that gone has fallen behind: it gets the line "0 lost N" in place of the N
 * lines that it missed (an end of line before it if it had read half a line), and goes on at the oldest one.
 * Elsewhere what is gone reads as ENODATA.
 *
 * Threading: any thread; one lock, a leaf but for `wake`, which is called without it. One reader is used by one
 * thread at a time.
 */
#pragma once

#include "cluster/change.h"

G_BEGIN_DECLS

#define QFS_EVENTS_BYTES_MAX (1u << 20)

typedef struct QfsEvents QfsEvents;
typedef struct QfsEventsReader QfsEventsReader;

/* A token given to qfs_events_poll comes back exactly once: `readable`, its reader has something to read; else
 * it is to be freed only. */
typedef void (*QfsEventsWake)(gpointer token, gboolean readable, gpointer user_data);

QfsEvents *qfs_events_new(gsize bytes_max, QfsEventsWake wake, gpointer user_data);
void qfs_events_free(QfsEvents *events); /* accepts NULL; after its readers were closed */

void qfs_events_add(QfsEvents *events, const QfsChange *change);
/* The same of something that has this name, instead of the record's key; and this former one. */
void qfs_events_add_as(QfsEvents *events, const QfsChange *change, const char *key, const char *former_key);
guint64 qfs_events_size(QfsEvents *events); /* bytes of all lines so far */

QfsEventsReader *qfs_events_open(QfsEvents *events);
void qfs_events_close(QfsEventsReader *reader); /* accepts NULL */
/* 0 and what is there (empty at the end), or ENODATA. */
int qfs_events_read(QfsEventsReader *reader, guint64 offset, gsize size, GBytes **out_data);
/* Is there something behind what was read last? If not, `token` (NULL: none) is kept until there is; a former token
 * is given back. */
gboolean qfs_events_poll(QfsEventsReader *reader, gpointer token);

/* Backslash and control characters as printf %b of the shell understands them: \\, \n, \t, \r, \0ooo. */
void qfs_events_escape(GString *out, const char *key);
/* The reverse; newly allocated. */
char *qfs_events_unescape(const char *text, gsize len);

G_END_DECLS
