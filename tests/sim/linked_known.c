/* linked_known.c - what the names of linked files must be, as far as that is known. See linked.h. */
#include "linked_private.h"

#include "check.h"

#include <string.h>

char *sim_linked_name(guint i) { return g_strdup_printf(i % 2 == 0 ? "linked%u" : "+linked%u", i); }

gboolean sim_linked_is_own_key(const char *key) { return g_str_has_prefix(key, QFS_LINK_DIR "/"); }

/* ---- what is known ---- */

void sim_linked_forget(SimLinked *linked) {
  linked->known = FALSE;
  linked->learning = 0;
}

/* What was not asked to be durable may be undone. */
void sim_linked_note_power_loss(Sim *sim) {
  SimLinked *linked = sim->linked;
  if (linked->power_losses == sim->power_losses)
    return;
  linked->power_losses = sim->power_losses;
  sim_linked_forget(linked);
  for (guint i = 0; i < linked->orphans->len; i++)
    ((SimOrphan *)linked->orphans->pdata[i])->certain = FALSE;
}

guint sim_linked_count(const SimLinked *linked, guint file) {
  guint n = 0;
  for (guint i = 0; i < SIM_LINKED_NAMES; i++)
    n += linked->name[i] == file;
  return n;
}

static guint new_file(SimLinked *linked, guint value) {
  SimLinkedFile *file = g_new0(SimLinkedFile, 1);
  file->value = value;
  g_ptr_array_add(linked->files, file);
  return linked->files->len - 1;
}

SimLinkedFile *sim_linked_file_at(const SimLinked *linked, guint name) { return linked->files->pdata[linked->name[name]]; }

static void lose(SimLinked *linked, guint name, const SimLinkedAsk *ask) {
  const guint file = linked->name[name];
  linked->name[name] = SIM_LINKED_NONE;
  if (file == SIM_LINKED_NONE || ask->keep == NULL || sim_linked_count(linked, file) > 0)
    return;
  SimOrphan *orphan = g_new(SimOrphan, 1);
  *orphan = (SimOrphan){g_strdup(ask->keep), ((const SimLinkedFile *)linked->files->pdata[file])->value, TRUE};
  g_ptr_array_add(linked->orphans, orphan);
}

/* What the operation must come to as things are. */
QfsStatus sim_linked_expected(const SimLinked *linked, const SimLinkedAsk *ask) {
  gboolean a = linked->name[ask->a] != SIM_LINKED_NONE, b = linked->name[ask->b] != SIM_LINKED_NONE;
  if (ask->kind == MAKE)
    return a ? QFS_EXISTS : QFS_OK;
  if (!a || (ask->kind == EXCHANGE && !b))
    return QFS_NOT_FOUND;
  return ask->kind == LINK && b ? QFS_EXISTS : QFS_OK;
}

void sim_linked_apply(SimLinked *linked, const SimLinkedAsk *ask) {
  guint *a = &linked->name[ask->a], *b = &linked->name[ask->b], was = *a;
  switch (ask->kind) {
  case MAKE:
    *a = new_file(linked, ask->value);
    break;
  case WRITE:
    sim_linked_file_at(linked, ask->a)->value = ask->value;
    break;
  case LINK:
    *b = *a;
    break;
  case UNLINK:
    lose(linked, ask->a, ask);
    break;
  case RENAME:
    if (*a == *b)
      break;
    lose(linked, ask->b, ask);
    *a = SIM_LINKED_NONE;
    *b = was;
    break;
  case EXCHANGE:
    *a = *b;
    *b = was;
    break;
  case READ:
    break;
  }
}

/* The record that a GET of the name gave is what it must be. */
void sim_linked_check_record(Sim *sim, guint i, const QfsRecord *record) {
  SimLinked *linked = sim->linked;
  g_autofree char *name = sim_linked_name(i);
  SimLinkedFile *file = sim_linked_file_at(linked, i);
  const guint n = sim_linked_count(linked, linked->name[i]);
  SIM_CHECK(sim, record->attr.size == g_array_index(linked->values, gsize, file->value),
            "%s has %" G_GUINT64_FORMAT " bytes, and not the value %u", name, record->attr.size, file->value);
  if (!sim_linked_is_own_key(record->key)) {
    SIM_CHECK(sim, n == 1 && strcmp(record->key, name) == 0, "%s is at %s, and has %u names", name, record->key, n);
    return;
  }
  SIM_CHECK(sim, record->attr.nlink == n, "%s counts %u names of %u", name, record->attr.nlink, n);
  SIM_CHECK(sim, file->key == NULL || strcmp(file->key, record->key) == 0, "%s is at %s, not at %s", name, record->key,
            file->key);
  if (file->key == NULL)
    file->key = g_strdup(record->key);
}

/* ---- learning: every name's turn comes, so that nothing asked for earlier is still to come; then all are read ---- */

gboolean sim_linked_is_there_now(SimLinked *linked, guint i, const QfsRecord *record) {
  if (record == NULL) {
    linked->name[i] = SIM_LINKED_NONE;
    return FALSE;
  }
  for (guint k = 0; k < i; k++)
    if (linked->name[k] != SIM_LINKED_NONE && g_strcmp0(sim_linked_file_at(linked, k)->key, record->key) == 0) {
      linked->name[i] = linked->name[k];
      return TRUE;
    }
  linked->name[i] = new_file(linked, SIM_LINKED_NONE);
  sim_linked_file_at(linked, i)->key = g_strdup(record->key);
  return TRUE;
}

/* Which value it is: by its bytes if they are there, else by its size, which each value has for itself. */
void sim_linked_identify(Sim *sim, guint i, const QfsRecord *record) {
  SimLinked *linked = sim->linked;
  guint found = SIM_LINKED_NONE;
  for (guint v = 0; v < linked->values->len && found == SIM_LINKED_NONE; v++)
    if (g_array_index(linked->values, gsize, v) == record->attr.size)
      found = v;
  SIM_CHECK(sim, found != SIM_LINKED_NONE, "nobody wrote %" G_GUINT64_FORMAT " bytes to %s", record->attr.size, record->key);
  SIM_CHECK(sim, sim_linked_file_at(linked, i)->value == SIM_LINKED_NONE || sim_linked_file_at(linked, i)->value == found,
            "%s has the value %u by one name and %u by another", record->key, sim_linked_file_at(linked, i)->value, found);
  sim_linked_file_at(linked, i)->value = found;
}

void sim_linked_check_counts(Sim *sim, const QfsRecord *const *records) {
  SimLinked *linked = sim->linked;
  for (guint i = 0; i < SIM_LINKED_NAMES; i++) {
    if (records[i] == NULL)
      continue;
    const guint n = sim_linked_count(linked, linked->name[i]);
    SIM_CHECK(sim, records[i]->attr.nlink == (sim_linked_is_own_key(records[i]->key) ? n : 0),
              "%s counts %u names, and has %u", records[i]->key, records[i]->attr.nlink, n);
    SIM_CHECK(sim, sim_linked_is_own_key(records[i]->key) || n == 1, "%s is at a name, and has %u", records[i]->key, n);
  }
}
