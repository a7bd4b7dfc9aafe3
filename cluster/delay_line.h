/* delay_line.h - things that arrive later: a queue by time, and the thread that empties it.
 *
 * Owns: the items on their way; the thread, which starts with the first item. Leaves to others:
 * what arrives, and why it is late (env_thread.c).
 *
 * Invariants
 *  Y1. Items arrive in the order of their times, and in the order of pushing when those are equal;
 * each exactly once, by the thread of the line and with no lock held, unless the line stops first:
 * then it is dropped.
 *
 * Threading: push by any thread, also with other locks held; new, stop and free by the owner.
 */
#pragma once

#include <glib.h>

G_BEGIN_DECLS

typedef struct QfsDelayLine QfsDelayLine;
typedef void (*QfsDelayArrive)(gpointer owner, gpointer item); /* takes the item over */

QfsDelayLine *qfs_delay_line_new(QfsDelayArrive arrive, gpointer owner, GDestroyNotify drop);
void qfs_delay_line_push(QfsDelayLine *line, gint64 at_us, gpointer item); /* monotonic time */
/* Blocks until the item that is arriving has; the others are dropped, and all later ones at once.
 */
void qfs_delay_line_stop(QfsDelayLine *line);
void qfs_delay_line_free(QfsDelayLine *line); /* stops it; accepts NULL */

G_END_DECLS
