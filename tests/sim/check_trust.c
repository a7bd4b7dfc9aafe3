/* check_trust.c - what a file system may take on trust (QfsEngineOps.stand): the last answer of a GET, as long as the
 * coordinator's stand is the same and no change of the key was told since it was asked for. See check.h.
 *
 * Nothing is asked: whenever a client is about to get a key, what it could have taken on trust instead is compared with
 * what some client knows to be there. */
#include "check.h"

/* That a value was read is noted in its record without making a version, and told to nobody. */
static gboolean is_outdated(const SimKey *key, const QfsRecord *record) {
  const QfsRecord *floor = key->floor;
  if (floor == NULL || sim_is_purged(key, floor))
    return FALSE;
  gboolean same = record->timestamp == floor->timestamp && record->kind == floor->kind &&
                  record->attr.ctime_ns == floor->attr.ctime_ns;
  return !same && sim_record_order(record, floor) < 0;
}

void sim_trust_ask(Sim *sim, SimKey *key, SimTrust *out) {
  *out = (SimTrust){.stand = sim->coordinator != NULL ? qfs_coordinator_stand(sim->coordinator) : 0,
                    .run = sim->run,
                    .tellings = key->tellings};
  const SimTrust *trust = &key->trust;
  if (out->stand == 0 || trust->record == NULL || trust->stand != out->stand || trust->run != out->run ||
      trust->tellings != out->tellings)
    return;
  SIM_CHECK(sim, !is_outdated(key, trust->record),
            "%s@%" G_GUINT64_FORMAT " would be taken on trust, and there is @%" G_GUINT64_FORMAT, key->name,
            trust->record->timestamp, key->floor->timestamp);
  sim->result->trusted++;
}

void sim_trust_answered(SimKey *key, const SimTrust *asked, QfsRecord *record) {
  if (asked->stand == 0 || asked->tellings != key->tellings || record == NULL)
    return; /* it changed meanwhile */
  qfs_record_unref(key->trust.record);
  key->trust = *asked;
  key->trust.record = qfs_record_ref(record);
}

void sim_trust_told(const char *name, gpointer data) {
  Sim *sim = data;
  SimKey *key = sim_history_find_key(sim->history, name);
  if (key != NULL)
    key->tellings++;
}
