/* ask.h - requests that the scenario asks, one at a time, and waits for while the simulated time goes on. */
#pragma once

#include "sim.h"

/* The answered request (whose `done` was NULL); it is the caller's. */
QfsRequest *sim_ask(Sim *sim, QfsRequest *request);
QfsStatus sim_ask_status(Sim *sim, QfsRequest *request);
/* All entries of the directory. */
GPtrArray *sim_ask_list(Sim *sim, const char *dir);

/* DESIGN 1.8: all owners have the same version of the key. */
void sim_check_owners_agree(Sim *sim, const char *key);
