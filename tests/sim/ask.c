/* ask.c - see ask.h. */
#include "ask.h"

#include "check.h"

static gboolean answered; /* of the one question at a time */

static void on_answered(QfsRequest *request, gpointer data) { answered = TRUE; }

static gboolean is_answered(Sim *sim) { return answered; }

QfsRequest *sim_ask(Sim *sim, QfsRequest *request) {
  answered = FALSE;
  request->done = on_answered;
  SIM_CHECK(sim, sim->coordinator != NULL, "nobody to ask for %s", request->key);
  qfs_coordinator_submit(sim->coordinator, request);
  SIM_CHECK(sim, sim_run_until(sim, is_answered, 60 * SIM_SECOND), "%s was never answered", request->key);
  return request;
}

QfsStatus sim_ask_status(Sim *sim, QfsRequest *request) {
  QfsStatus status = sim_ask(sim, request)->status;
  qfs_request_free(request);
  return status;
}

GPtrArray *sim_ask_list(Sim *sim, const char *dir) {
  QfsRequest *request = sim_ask(sim, qfs_request_new(QFS_REQUEST_LIST, dir, NULL, NULL));
  SIM_CHECK(sim, request->status == QFS_OK && !request->more, "listing %s: %s", dir, qfs_status_name(request->status));
  GPtrArray *entries = g_ptr_array_ref(request->entries);
  qfs_request_free(request);
  return entries;
}

/* A tombstone that is no longer needed goes from one node after the other, also while this looks. */
void sim_check_owners_agree(Sim *sim, const char *key) {
  const QfsNodeSet owners = qfs_coordinator_owners(sim->coordinator, key);
  g_autoptr(QfsRecord) first = NULL;
  for (QfsNodeSet rest = owners; rest != 0; rest &= rest - 1) {
    const guint node = (guint)__builtin_ctzll(rest) + 1;
    QfsRecord *record = sim_disk_record(&sim->disk[node], key);
    const gboolean exists = qfs_record_exists(record);
    const gboolean same = exists ? sim_record_order(record, first) == 0 : !qfs_record_exists(first);
    SIM_CHECK(sim, rest == owners || same, "%s differs at node %u from the other owners", key, node);
    qfs_record_unref(first);
    first = record;
  }
}
