/* story.h - what a person wants to read first of a failed run: a choice of its trace.
 *
 * Owns: which lines matter: faults, lives and deaths, the store's log, everything about the keys that the failure
 * names, and the last lines as they are. Leaves to others: making the trace.
 */
#pragma once

#include <glib.h>
#include <stdio.h>

/* `trace`: the whole trace, from its beginning on. `why`: the failure. Prints at most about `n` lines of each sort. */
void sim_story_print(FILE *trace, const char *why, guint n, FILE *out);
