/* linked.c - see linked.h. */
#include "linked_private.h"

#include "check.h"
#include "content.h"

#include <sys/stat.h>

#define CLIENTS 2

static void file_free(gpointer data) {
  g_free(((SimLinkedFile *)data)->key);
  g_free(data);
}

static void orphan_free(gpointer data) {
  g_free(((SimOrphan *)data)->key);
  g_free(data);
}

SimLinked *sim_linked_new(Sim *sim) {
  SimRandom own = {sim->options.seed ^ G_GUINT64_CONSTANT(0x6c696e6b)};
  if (sim->options.unlimited || !sim_random_percent(&own, 40))
    return NULL;
  SimLinked *linked = g_new0(SimLinked, 1);
  linked->random = own;
  linked->wild = sim_random_percent(&linked->random, 35);
  linked->known = !linked->wild;
  linked->files = g_ptr_array_new_with_free_func(file_free);
  linked->orphans = g_ptr_array_new_with_free_func(orphan_free);
  linked->values = g_array_new(FALSE, FALSE, sizeof(gsize));
  for (guint i = 0; i < SIM_LINKED_NAMES; i++)
    linked->name[i] = SIM_LINKED_NONE;
  return linked;
}

void sim_linked_free(SimLinked *linked) {
  if (linked == NULL)
    return;
  g_ptr_array_unref(linked->files);
  g_ptr_array_unref(linked->orphans);
  g_array_unref(linked->values);
  g_free(linked);
}

/* ---- the clients ---- */

static void on_turn(Sim *sim, gpointer unused);

static void again(Sim *sim) {
  gint64 pause_us = sim->fast ? SIM_MS : 15 * SIM_MS;
  sim_after(sim, sim_random_range(&sim->linked->random, 1, 2 * pause_us), on_turn, NULL);
}

static void learned(Sim *sim, const SimLinkedAsk *ask, const QfsRequest *request) {
  SimLinked *linked = sim->linked;
  gboolean clear = request->status == QFS_OK || request->status == QFS_NOT_FOUND;
  if (!clear) {
    linked->learning = 0;
    return;
  }
  if (++linked->learning <= SIM_LINKED_NAMES)
    return;
  const QfsRecord *record = request->status == QFS_OK ? request->record : NULL;
  if (sim_linked_is_there_now(linked, ask->a, record))
    sim_linked_identify(sim, ask->a, record);
  if (linked->learning == 2 * SIM_LINKED_NAMES) {
    for (guint i = 0; i < SIM_LINKED_NAMES; i++)
      if (linked->name[i] != SIM_LINKED_NONE && !sim_linked_is_own_key(sim_linked_file_at(linked, i)->key))
        g_clear_pointer(&sim_linked_file_at(linked, i)->key, g_free);
    linked->known = TRUE;
  }
}

static void judged(Sim *sim, const SimLinkedAsk *ask, const QfsRequest *request) {
  SimLinked *linked = sim->linked;
  const QfsStatus status = request->status;
  if (status == QFS_NO_QUORUM || status == QFS_NO_SPACE)
    return; /* no effect */
  if (status == QFS_UNKNOWN || status == QFS_IO) {
    if (ask->kind != READ)
      sim_linked_forget(linked);
    return;
  }
  gboolean possible = status == QFS_OK || status == QFS_NOT_FOUND || status == QFS_EXISTS;
  SIM_CHECK(sim, possible, "operation %d on linked%u, linked%u: %s", ask->kind, ask->a, ask->b, qfs_status_name(status));
  if (!linked->known)
    return;
  const QfsStatus wanted = sim_linked_expected(linked, ask);
  SIM_CHECK(sim, status == wanted, "operation %d on linked%u, linked%u: %s, not %s", ask->kind, ask->a, ask->b,
            qfs_status_name(status), qfs_status_name(wanted));
  if (status != QFS_OK)
    return;
  if (ask->kind == READ)
    sim_linked_check_record(sim, ask->a, request->record);
  sim_linked_apply(linked, ask);
}

static void answered(QfsRequest *request, gpointer data) {
  SimLinkedAsk *ask = data;
  Sim *sim = ask->sim;
  SimLinked *linked = sim->linked;
  SIM_TRACE(sim, "linked: %s%d %u %u: %s", ask->learns ? "learning " : "", ask->kind, ask->a, ask->b,
            qfs_status_name(request->status));
  linked->busy--;
  sim_linked_note_power_loss(sim);
  if (!ask->learns)
    judged(sim, ask, request);
  else if (!linked->known && linked->learning == ask->value)
    learned(sim, ask, request);
  qfs_request_free(request);
  g_free(ask->keep);
  g_free(ask);
  again(sim);
}

/* The value was staged under the name: published, it goes to where the name leads. */
static void staged(QfsRequest *request, gpointer data) {
  SimLinkedAsk *ask = data;
  if (request->status != QFS_OK) {
    answered(request, ask);
    return;
  }
  QfsRequest *publish = qfs_request_new(QFS_REQUEST_WRITE, request->key, answered, ask);
  publish->flags = QFS_WRITE_REPLACE | QFS_WRITE_STAGED;
  publish->attr = request->attr;
  publish->object = request->object;
  publish->staged_size = g_bytes_get_size(request->data);
  qfs_request_free(request);
  qfs_coordinator_submit(ask->sim->coordinator, publish);
}

static void stage(QfsRequest *request) {
  request->done = staged;
  request->flags = QFS_WRITE_STAGE;
}

/* Every value has a size of its own. */
static guint new_value(SimLinked *linked) {
  const gsize size = (sim_random_percent(&linked->random, 25) ? 100000 : 100) + linked->values->len;
  g_array_append_val(linked->values, size);
  return linked->values->len - 1;
}

static QfsRequest *request_of(SimLinked *linked, SimLinkedAsk *ask) {
  static const QfsRequestType types[] = {[MAKE] = QFS_REQUEST_WRITE,    [WRITE] = QFS_REQUEST_WRITE,
                                         [LINK] = QFS_REQUEST_LINK,     [UNLINK] = QFS_REQUEST_REMOVE,
                                         [RENAME] = QFS_REQUEST_RENAME, [EXCHANGE] = QFS_REQUEST_RENAME,
                                         [READ] = QFS_REQUEST_GET};
  g_autofree char *a = sim_linked_name(ask->a);
  QfsRequest *request = qfs_request_new(types[ask->kind], a, answered, ask);
  if (ask->kind == MAKE || ask->kind == WRITE) {
    request->flags = QFS_WRITE_REPLACE | (ask->kind == MAKE ? QFS_WRITE_CREATE | QFS_WRITE_EXCLUSIVE : 0);
    request->attr.mode = S_IFREG | 0644;
    ask->value = new_value(linked);
    request->data = sim_value_bytes(SIM_LINKED_VALUE_BASE + ask->value, g_array_index(linked->values, gsize, ask->value));
    if (ask->kind == WRITE && g_bytes_get_size(request->data) >= 100000 && sim_random_percent(&linked->random, 50))
      stage(request);
  } else if (ask->kind == UNLINK) {
    request->flags = QFS_REMOVE_MUST_EXIST | QFS_REMOVE_NON_DIRECTORY;
  } else if (ask->kind != READ) {
    request->key2 = sim_linked_name(ask->b);
    request->flags = ask->kind == EXCHANGE ? QFS_RENAME_EXCHANGE : 0;
  }
  if ((ask->kind == UNLINK || ask->kind == RENAME) && sim_random_percent(&linked->random, 50)) {
    request->keep = g_strdup_printf("/orphan/%u", linked->values->len);
    g_array_append_val(linked->values, ((gsize){0})); /* no number is used again */
    ask->keep = g_strdup(request->keep);
  }
  return request;
}

/* A turn of each name behind whatever was asked for earlier, then a look at each. */
static QfsRequest *learning_request(SimLinked *linked, SimLinkedAsk *ask) {
  ask->a = linked->learning % SIM_LINKED_NAMES;
  ask->value = linked->learning;
  ask->kind = READ;
  ask->learns = TRUE;
  g_autofree char *name = sim_linked_name(ask->a);
  if (linked->learning >= SIM_LINKED_NAMES)
    return qfs_request_new(QFS_REQUEST_GET, name, answered, ask);
  QfsRequest *request = qfs_request_new(QFS_REQUEST_SETATTR, name, answered, ask);
  request->mask = QFS_ATTR_MODE;
  request->attr.mode = 0600;
  return request;
}

/* What is known is made use of: mostly names that are there, and free ones to link to. */
static void choose_names(SimLinked *linked, SimLinkedAsk *ask) {
  for (guint tries = 0; tries < 4; tries++) {
    ask->a = sim_random_below(&linked->random, SIM_LINKED_NAMES);
    ask->b = (ask->a + 1 + sim_random_below(&linked->random, SIM_LINKED_NAMES - 1)) % SIM_LINKED_NAMES;
    if (sim_linked_expected(linked, ask) == QFS_OK)
      return;
  }
}

static void on_turn(Sim *sim, gpointer unused) {
  static const guint weights[] = {
      [MAKE] = 18, [WRITE] = 11, [LINK] = 26, [UNLINK] = 17, [RENAME] = 14, [EXCHANGE] = 4, [READ] = 10};
  SimLinked *linked = sim->linked;
  if (!linked->active || linked->left == 0)
    return;
  if (!sim_daemon_is_up(sim)) {
    again(sim);
    return;
  }
  sim_linked_note_power_loss(sim);
  SimLinkedAsk *ask = g_new0(SimLinkedAsk, 1);
  ask->sim = sim;
  QfsRequest *request;
  if (!linked->known && !linked->wild) {
    request = learning_request(linked, ask);
  } else {
    linked->left--;
    guint roll = sim_random_below(&linked->random, 100);
    while (roll >= weights[ask->kind])
      roll -= weights[ask->kind++];
    choose_names(linked, ask);
    request = request_of(linked, ask);
  }
  linked->busy++;
  qfs_coordinator_submit(sim->coordinator, request);
}

void sim_linked_start(Sim *sim) {
  SimLinked *linked = sim->linked;
  if (linked == NULL)
    return;
  linked->active = TRUE;
  linked->left = 30 + sim_random_below(&linked->random, 60);
  for (guint i = 0; i < (linked->wild ? CLIENTS : 1); i++)
    again(sim);
}

static gboolean is_idle(Sim *sim) { return sim->linked->busy == 0; }

void sim_linked_stop(Sim *sim) {
  if (sim->linked == NULL)
    return;
  sim->linked->active = FALSE;
  SIM_CHECK(sim, sim_run_until(sim, is_idle, 60 * SIM_SECOND), "the linking clients' requests have no end");
}
