/* moments.h - faults that wait for their moment: a chosen message at a node, an acknowledgement.
 *
 * Owns: what is waited for. Random times hit the few microseconds between two steps of a protocol rarely; these
 * hit them always. Leaves to others: when one is set (faults.c), and what ends then.
 */
#pragma once

#include "sim.h"

typedef enum {
  SIM_MOMENT_CRASH,         /* a broken node, when it has handled the message */
  SIM_MOMENT_KILL,          /* the daemon, when a node has */
  SIM_MOMENT_KILL_AND_AWAY, /* and that node is not there at the next start */
  SIM_MOMENT_KILL_AT_ACK,   /* the daemon, when a change was acknowledged */
  SIM_MOMENT_LATE_COPY,     /* the message arrives once more, long after */
  SIM_MOMENT_KEEP_COPY,     /* the node's files as they are when it has handled the message come back later */
  SIM_MOMENTS,
} SimMoment;

/* Waits for one of the next few messages of a kind that is drawn, or for one of the next acknowledgements. Replaces
 * what was waited for before. */
void sim_moments_set(Sim *sim, SimMoment moment);

/* A node has handled messages of these types (as bits). */
void sim_moments_handled(Sim *sim, guint node, guint types);
void sim_moments_acknowledged(Sim *sim);
/* When another copy of this message, sent now, is to arrive; 0: never. */
gint64 sim_moments_copy_us(Sim *sim, const QfsMessage *message);
