/* client.h - one client: carries out one operation at a time, in as many requests as it takes.
 *
 * Owns: the requests of an operation and what was read so far. Leaves to others: which operation
 * (workload.c, scenario.c), judging the answer (history.c).
 *
 * A get is GET and then READs until the value is whole (again from GET when parts of it were
 * overwritten meanwhile); a staged write is STAGEs and then one WRITE; everything else is one
 * request. Every request must be answered by its deadline.
 */
#pragma once

#include "history.h"

typedef enum { SEEK_NOT_YET, SEEK_DATA_NEXT, SEEK_HOLE_NEXT, SEEK_OVER } SimSeek;

typedef struct SimClient SimClient;
struct SimClient {
  Sim *sim;
  guint id;
  SimOp *op; /* NULL: idle */
  void (*on_idle)(SimClient *client);
  gint64 asked_us; /* when the request under way was submitted */
  SimTrust asked;  /* GET */
  guint run;       /* life of the daemon that it was submitted to */
  guint power_losses; /* of the machine, when the operation began */

  QfsRequest *got; /* the answered GET, while its value is being read */
  QfsObjectId pinned;
  GByteArray *bytes;
  guint tries;
  gboolean slow;     /* takes its time between reads */
  QfsRequest *later; /* the next of them */
  SimSeek seek;      /* where its bytes end and begin, after it was read */
  guint64 sought;

  GBytes *staging; /* value that is being staged */
  gsize staged;
  QfsObjectId object;
};

void sim_client_init(SimClient *client, Sim *sim, guint id, void (*on_idle)(SimClient *client));
void sim_client_clear(SimClient *client);

/* Starts `op`, fresh from sim_history_begin and filled in. `staged`: a WRITE goes by way of STAGE.
 */
void sim_client_run(SimClient *client, SimOp *op, gboolean staged);
