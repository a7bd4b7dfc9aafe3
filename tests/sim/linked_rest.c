/* linked_rest.c - the linked files of a store at rest. See linked.h. */
#include "linked_private.h"

#include "ask.h"
#include "check.h"
#include "content.h"

GPtrArray *sim_linked_keys(const Sim *sim) {
  GPtrArray *keys = g_ptr_array_new_with_free_func(g_free);
  SimLinked *linked = sim->linked;
  for (guint i = 0; linked != NULL && i < linked->values->len; i++)
    g_ptr_array_add(keys, g_strdup_printf("/orphan/%u", i));
  for (guint i = 0; linked != NULL && i < SIM_LINKED_NAMES; i++) {
    char *name = sim_linked_name(i);
    g_ptr_array_add(keys, name);
    for (guint node = 1; node <= sim->nodes_all; node++) {
      g_autoptr(QfsRecord) record = sim_disk_record(&((Sim *)sim)->disk[node], name);
      if (qfs_record_is_link(record))
        g_ptr_array_add(keys, qfs_record_link_target(record));
    }
  }
  return keys;
}

static void check_bytes(Sim *sim, QfsRecord *record, guint value) {
  QfsRequest *read = qfs_request_new(QFS_REQUEST_READ, record->key, NULL, NULL);
  read->record = qfs_record_ref(record);
  read->length = record->attr.size;
  sim_ask(sim, read);
  SIM_CHECK(sim, read->status == QFS_OK && sim_value_is(read->data, SIM_LINKED_VALUE_BASE + value, record->attr.size),
            "%s is not the value %u: %s", record->key, value, qfs_status_name(read->status));
  qfs_request_free(read);
}

/* NULL: there is none. */
static QfsRecord *get(Sim *sim, const char *key) {
  QfsRequest *request = sim_ask(sim, qfs_request_new(QFS_REQUEST_GET, key, NULL, NULL));
  SIM_CHECK(sim, request->status == QFS_OK || request->status == QFS_NOT_FOUND, "%s: %s", key,
            qfs_status_name(request->status));
  QfsRecord *record = request->status == QFS_OK ? qfs_record_ref(request->record) : NULL;
  qfs_request_free(request);
  return record;
}

static void check_names(Sim *sim, const char *when) {
  SimLinked *linked = sim->linked;
  gboolean known = linked->known;
  QfsRecord *records[SIM_LINKED_NAMES];
  for (guint i = 0; i < SIM_LINKED_NAMES; i++) {
    g_autofree char *name = sim_linked_name(i);
    records[i] = get(sim, name);
    SIM_CHECK(sim, !known || (records[i] != NULL) == (linked->name[i] != SIM_LINKED_NONE), "%s is %s after %s", name,
              records[i] != NULL ? "there" : "missing", when);
    if (known && records[i] != NULL)
      sim_linked_check_record(sim, i, records[i]);
    sim_check_owners_agree(sim, name);
  }
  for (guint i = 0; i < SIM_LINKED_NAMES; i++)
    if (sim_linked_is_there_now(linked, i, records[i]))
      sim_linked_identify(sim, i, records[i]);
  sim_linked_check_counts(sim, (const QfsRecord *const *)records);
  for (guint i = 0; i < SIM_LINKED_NAMES; i++) {
    if (records[i] == NULL)
      continue;
    check_bytes(sim, records[i], sim_linked_file_at(linked, i)->value);
    sim_check_owners_agree(sim, records[i]->key);
    if (!sim_linked_is_own_key(records[i]->key))
      g_clear_pointer(&sim_linked_file_at(linked, i)->key, g_free);
    qfs_record_unref(records[i]);
  }
  linked->known = !linked->wild;
}

static void check_files(Sim *sim, const char *when) {
  g_autoptr(GPtrArray) files = sim_ask_list(sim, QFS_LINK_DIR);
  for (guint i = 0; i < files->len; i++) {
    const QfsRecord *file = files->pdata[i];
    gboolean named = FALSE;
    for (guint k = 0; k < SIM_LINKED_NAMES && !named; k++)
      named = sim->linked->name[k] != SIM_LINKED_NONE && g_strcmp0(sim_linked_file_at(sim->linked, k)->key, file->key) == 0;
    SIM_CHECK(sim, named, "%s counts %u names, and none leads there, after %s", file->key, file->attr.nlink, when);
  }
}

static void check_orphans(Sim *sim, const char *when) {
  SimLinked *linked = sim->linked;
  for (guint i = 0; i < linked->orphans->len; i++) {
    SimOrphan *orphan = linked->orphans->pdata[i];
    g_autoptr(QfsRecord) record = get(sim, orphan->key);
    SIM_CHECK(sim, record != NULL || !orphan->certain, "%s was kept, and is missing after %s", orphan->key, when);
    if (record == NULL)
      continue;
    SIM_CHECK(sim, record->attr.nlink == 0, "%s counts %u names", orphan->key, record->attr.nlink);
    check_bytes(sim, record, orphan->value);
    sim_check_owners_agree(sim, orphan->key);
    orphan->certain = TRUE;
  }
}

void sim_linked_check(Sim *sim, const char *when) {
  if (sim->linked == NULL)
    return;
  sim_linked_note_power_loss(sim);
  check_names(sim, when);
  check_files(sim, when);
  check_orphans(sim, when);
}
