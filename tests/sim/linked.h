/* linked.h - a few names that are linked, renamed over each other and removed, under everything that befalls the store.
 *
 * One client knows what each name must be: after an answer that leaves it open, or a loss of power, it makes every
 * name's turn come once more, and reads them all. In other seeds two clients do so at the same time and know nothing.
 * Checked at rest, and by the one client all the time: names of one file have one value, and each file as many names as
 * it counts, none without any; what was acknowledged is so; what was kept without names is there.
 *
 * Takes part in some seeds of survivable faults, with lots of its own, so that the other seeds are what they are without
 * it; there every function does nothing.
 */
#pragma once

#include "sim.h"

SimLinked *sim_linked_new(Sim *sim);
void sim_linked_free(SimLinked *linked); /* accepts NULL */
void sim_linked_start(Sim *sim);
void sim_linked_stop(Sim *sim);
/* Keys that may have chunks. Element-type char *. */
GPtrArray *sim_linked_keys(const Sim *sim);
/* The store is at rest. `when` is for the report. */
void sim_linked_check(Sim *sim, const char *when);
