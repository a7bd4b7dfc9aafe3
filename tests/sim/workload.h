/* workload.h - what the clients of a run do: keys, and a random choice of operations on them.
 *
 * Owns: the clients. Few hot keys, so that operations meet; some cold ones in a directory, so that
 * listings have something to list; keys for appends, for in-place writes, for explicit timestamps,
 * names that values are moved between, and a directory that comes and goes.
 */
#pragma once

#include "client.h"

/* The keys and the clients; the directories that are always there are made by sim_clients_prepare.
 */
SimClients *sim_clients_new(Sim *sim);
void sim_clients_free(SimClients *clients);
/* Makes the directories; the store must serve. */
void sim_clients_prepare(Sim *sim);

/* Starts clients that begin about `operations` operations altogether, then fall silent. */
void sim_clients_start(Sim *sim, guint operations);
void sim_clients_stop(Sim *sim);         /* begin nothing more */
gboolean sim_clients_are_idle(Sim *sim); /* nothing under way, and nothing more to come */

/* One operation by a client that does nothing else; runs the world until it has ended. */
SimOp *sim_clients_get(Sim *sim, SimKey *key);
SimOp *sim_clients_change(Sim *sim, SimKey *key); /* a plain change that suits the key */
SimOp *sim_clients_remove(Sim *sim, SimKey *key);
