/* walk.h - a directory with files in it that walks from name to name, under everything that befalls the store.
 *
 * One client renames it between three names, another one makes files in it meanwhile. Checked, by what was
 * answered: it is at one name at a time, and wherever it is, all that is known to be in it is there, whole, and
 * nothing of it is left behind under another name.
 *
 * Takes part in some seeds of survivable faults; else every function does nothing.
 */
#pragma once

#include "sim.h"

SimWalk *sim_walk_new(Sim *sim);
void sim_walk_free(SimWalk *walk); /* accepts NULL */
void sim_walk_prepare(Sim *sim);   /* makes the directory; the store is up */
void sim_walk_start(Sim *sim);
void sim_walk_stop(Sim *sim);
/* The files in it, where it was at the last check. Element-type char *. */
GPtrArray *sim_walk_keys(const Sim *sim);
/* The store is at rest. `when` is for the report. */
void sim_walk_check(Sim *sim, const char *when);
