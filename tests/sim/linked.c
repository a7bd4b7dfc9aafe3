/* linked.c - see linked.h. */
#include "linked.h"

#include "ask.h"
#include "check.h"
#include "content.h"

#include <sys/stat.h>

#define NAMES 5
#define CLIENTS 2
#define NONE G_MAXUINT
/* Numbers of values, apart from those of other operations. */
#define VALUE_BASE 2000000

typedef struct {
  guint value;  /* index in values */
  char *key;    /* its own; NULL: it has one name only, or its key is not known */
} File;

typedef struct {
  char *key;
  guint value;
  gboolean certain;
} Orphan;

struct SimLinked {
  SimRandom random;
  gboolean active, wild;
  guint busy;         /* clients whose request is under way */
  guint left;         /* operations still to begin */
  gboolean known;     /* what follows is so */
  guint name[NAMES];  /* index of its file, or NONE */
  GPtrArray *files;   /* File, also those that are gone */
  guint learning;     /* names whose turn came, then names read; restarts at 0 */
  guint power_losses;
  GArray *values;     /* gsize: sizes of all values ever written; their numbers count from VALUE_BASE */
  GPtrArray *orphans; /* Orphan */
};

typedef enum { MAKE, WRITE, LINK, UNLINK, RENAME, EXCHANGE, READ } Kind;

typedef struct {
  Sim *sim;
  Kind kind;
  guint a, b, value; /* of what it learns: how much had been learnt */
  gboolean learns; /* not of the workload */
  char *keep;
} Ask;

static void file_free(gpointer data) {
  g_free(((File *)data)->key);
  g_free(data);
}

static void orphan_free(gpointer data) {
  g_free(((Orphan *)data)->key);
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
  for (guint i = 0; i < NAMES; i++)
    linked->name[i] = NONE;
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

/* Names sort before and after the keys of files. */
static char *name_of(guint i) { return g_strdup_printf(i % 2 == 0 ? "linked%u" : "+linked%u", i); }

static gboolean is_own_key(const char *key) { return g_str_has_prefix(key, QFS_LINK_DIR "/"); }

/* ---- what is known ---- */

static void forget(SimLinked *linked) {
  linked->known = FALSE;
  linked->learning = 0;
}

/* What was not asked to be durable may be undone. */
static void note_power_loss(Sim *sim) {
  SimLinked *linked = sim->linked;
  if (linked->power_losses == sim->power_losses)
    return;
  linked->power_losses = sim->power_losses;
  forget(linked);
  for (guint i = 0; i < linked->orphans->len; i++)
    ((Orphan *)linked->orphans->pdata[i])->certain = FALSE;
}

static guint count(const SimLinked *linked, guint file) {
  guint n = 0;
  for (guint i = 0; i < NAMES; i++)
    n += linked->name[i] == file;
  return n;
}

static guint new_file(SimLinked *linked, guint value) {
  File *file = g_new0(File, 1);
  file->value = value;
  g_ptr_array_add(linked->files, file);
  return linked->files->len - 1;
}

static File *file_at(const SimLinked *linked, guint name) { return linked->files->pdata[linked->name[name]]; }

static void lose(SimLinked *linked, guint name, const Ask *ask) {
  const guint file = linked->name[name];
  linked->name[name] = NONE;
  if (file == NONE || ask->keep == NULL || count(linked, file) > 0)
    return;
  Orphan *orphan = g_new(Orphan, 1);
  *orphan = (Orphan){g_strdup(ask->keep), ((const File *)linked->files->pdata[file])->value, TRUE};
  g_ptr_array_add(linked->orphans, orphan);
}

/* What the operation must come to as things are. */
static QfsStatus expected(const SimLinked *linked, const Ask *ask) {
  gboolean a = linked->name[ask->a] != NONE, b = linked->name[ask->b] != NONE;
  if (ask->kind == MAKE)
    return a ? QFS_EXISTS : QFS_OK;
  if (!a || (ask->kind == EXCHANGE && !b))
    return QFS_NOT_FOUND;
  return ask->kind == LINK && b ? QFS_EXISTS : QFS_OK;
}

static void apply(SimLinked *linked, const Ask *ask) {
  guint *a = &linked->name[ask->a], *b = &linked->name[ask->b], was = *a;
  switch (ask->kind) {
  case MAKE:
    *a = new_file(linked, ask->value);
    break;
  case WRITE:
    file_at(linked, ask->a)->value = ask->value;
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
    *a = NONE;
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
static void check_record(Sim *sim, guint i, const QfsRecord *record) {
  SimLinked *linked = sim->linked;
  g_autofree char *name = name_of(i);
  File *file = file_at(linked, i);
  const guint n = count(linked, linked->name[i]);
  SIM_CHECK(sim, record->attr.size == g_array_index(linked->values, gsize, file->value),
            "%s has %" G_GUINT64_FORMAT " bytes, and not the value %u", name, record->attr.size, file->value);
  if (!is_own_key(record->key)) {
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

static gboolean is_there_now(SimLinked *linked, guint i, const QfsRecord *record) {
  if (record == NULL) {
    linked->name[i] = NONE;
    return FALSE;
  }
  for (guint k = 0; k < i; k++)
    if (linked->name[k] != NONE && g_strcmp0(file_at(linked, k)->key, record->key) == 0) {
      linked->name[i] = linked->name[k];
      return TRUE;
    }
  linked->name[i] = new_file(linked, NONE);
  file_at(linked, i)->key = g_strdup(record->key);
  return TRUE;
}

/* Which value it is: by its bytes if they are there, else by its size, which each value has for itself. */
static void identify(Sim *sim, guint i, const QfsRecord *record) {
  SimLinked *linked = sim->linked;
  guint found = NONE;
  for (guint v = 0; v < linked->values->len && found == NONE; v++)
    if (g_array_index(linked->values, gsize, v) == record->attr.size)
      found = v;
  SIM_CHECK(sim, found != NONE, "nobody wrote %" G_GUINT64_FORMAT " bytes to %s", record->attr.size, record->key);
  SIM_CHECK(sim, file_at(linked, i)->value == NONE || file_at(linked, i)->value == found,
            "%s has the value %u by one name and %u by another", record->key, file_at(linked, i)->value, found);
  file_at(linked, i)->value = found;
}

static void check_counts(Sim *sim, const QfsRecord *const *records) {
  SimLinked *linked = sim->linked;
  for (guint i = 0; i < NAMES; i++) {
    if (records[i] == NULL)
      continue;
    const guint n = count(linked, linked->name[i]);
    SIM_CHECK(sim, records[i]->attr.nlink == (is_own_key(records[i]->key) ? n : 0),
              "%s counts %u names, and has %u", records[i]->key, records[i]->attr.nlink, n);
    SIM_CHECK(sim, is_own_key(records[i]->key) || n == 1, "%s is at a name, and has %u", records[i]->key, n);
  }
}

/* ---- the clients ---- */

static void on_turn(Sim *sim, gpointer unused);

static void again(Sim *sim) {
  gint64 pause_us = sim->fast ? SIM_MS : 15 * SIM_MS;
  sim_after(sim, sim_random_range(&sim->linked->random, 1, 2 * pause_us), on_turn, NULL);
}

static void learned(Sim *sim, const Ask *ask, const QfsRequest *request) {
  SimLinked *linked = sim->linked;
  gboolean clear = request->status == QFS_OK || request->status == QFS_NOT_FOUND;
  if (!clear) {
    linked->learning = 0;
    return;
  }
  if (++linked->learning <= NAMES)
    return;
  const QfsRecord *record = request->status == QFS_OK ? request->record : NULL;
  if (is_there_now(linked, ask->a, record))
    identify(sim, ask->a, record);
  if (linked->learning == 2 * NAMES) {
    for (guint i = 0; i < NAMES; i++)
      if (linked->name[i] != NONE && !is_own_key(file_at(linked, i)->key))
        g_clear_pointer(&file_at(linked, i)->key, g_free);
    linked->known = TRUE;
  }
}

static void judged(Sim *sim, const Ask *ask, const QfsRequest *request) {
  SimLinked *linked = sim->linked;
  const QfsStatus status = request->status;
  if (status == QFS_NO_QUORUM || status == QFS_NO_SPACE)
    return; /* no effect */
  if (status == QFS_UNKNOWN || status == QFS_IO) {
    if (ask->kind != READ)
      forget(linked);
    return;
  }
  gboolean possible = status == QFS_OK || status == QFS_NOT_FOUND || status == QFS_EXISTS;
  SIM_CHECK(sim, possible, "operation %d on linked%u, linked%u: %s", ask->kind, ask->a, ask->b, qfs_status_name(status));
  if (!linked->known)
    return;
  const QfsStatus wanted = expected(linked, ask);
  SIM_CHECK(sim, status == wanted, "operation %d on linked%u, linked%u: %s, not %s", ask->kind, ask->a, ask->b,
            qfs_status_name(status), qfs_status_name(wanted));
  if (status != QFS_OK)
    return;
  if (ask->kind == READ)
    check_record(sim, ask->a, request->record);
  apply(linked, ask);
}

static void answered(QfsRequest *request, gpointer data) {
  Ask *ask = data;
  Sim *sim = ask->sim;
  SimLinked *linked = sim->linked;
  SIM_TRACE(sim, "linked: %s%d %u %u: %s", ask->learns ? "learning " : "", ask->kind, ask->a, ask->b,
            qfs_status_name(request->status));
  linked->busy--;
  note_power_loss(sim);
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
  Ask *ask = data;
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

static QfsRequest *request_of(SimLinked *linked, Ask *ask) {
  static const QfsRequestType types[] = {[MAKE] = QFS_REQUEST_WRITE,    [WRITE] = QFS_REQUEST_WRITE,
                                         [LINK] = QFS_REQUEST_LINK,     [UNLINK] = QFS_REQUEST_REMOVE,
                                         [RENAME] = QFS_REQUEST_RENAME, [EXCHANGE] = QFS_REQUEST_RENAME,
                                         [READ] = QFS_REQUEST_GET};
  g_autofree char *a = name_of(ask->a);
  QfsRequest *request = qfs_request_new(types[ask->kind], a, answered, ask);
  if (ask->kind == MAKE || ask->kind == WRITE) {
    request->flags = QFS_WRITE_REPLACE | (ask->kind == MAKE ? QFS_WRITE_CREATE | QFS_WRITE_EXCLUSIVE : 0);
    request->attr.mode = S_IFREG | 0644;
    ask->value = new_value(linked);
    request->data = sim_value_bytes(VALUE_BASE + ask->value, g_array_index(linked->values, gsize, ask->value));
    if (ask->kind == WRITE && g_bytes_get_size(request->data) >= 100000 && sim_random_percent(&linked->random, 50))
      stage(request);
  } else if (ask->kind == UNLINK) {
    request->flags = QFS_REMOVE_MUST_EXIST | QFS_REMOVE_NON_DIRECTORY;
  } else if (ask->kind != READ) {
    request->key2 = name_of(ask->b);
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
static QfsRequest *learning_request(SimLinked *linked, Ask *ask) {
  ask->a = linked->learning % NAMES;
  ask->value = linked->learning;
  ask->kind = READ;
  ask->learns = TRUE;
  g_autofree char *name = name_of(ask->a);
  if (linked->learning >= NAMES)
    return qfs_request_new(QFS_REQUEST_GET, name, answered, ask);
  QfsRequest *request = qfs_request_new(QFS_REQUEST_SETATTR, name, answered, ask);
  request->mask = QFS_ATTR_MODE;
  request->attr.mode = 0600;
  return request;
}

/* What is known is made use of: mostly names that are there, and free ones to link to. */
static void choose_names(SimLinked *linked, Ask *ask) {
  for (guint tries = 0; tries < 4; tries++) {
    ask->a = sim_random_below(&linked->random, NAMES);
    ask->b = (ask->a + 1 + sim_random_below(&linked->random, NAMES - 1)) % NAMES;
    if (expected(linked, ask) == QFS_OK)
      return;
  }
}

static void on_turn(Sim *sim, gpointer unused) {
  static const guint weights[] = {[MAKE] = 18, [WRITE] = 11, [LINK] = 26, [UNLINK] = 17, [RENAME] = 14, [EXCHANGE] = 4, [READ] = 10};
  SimLinked *linked = sim->linked;
  if (!linked->active || linked->left == 0)
    return;
  if (!sim_daemon_is_up(sim)) {
    again(sim);
    return;
  }
  note_power_loss(sim);
  Ask *ask = g_new0(Ask, 1);
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

/* ---- at rest ---- */

GPtrArray *sim_linked_keys(const Sim *sim) {
  GPtrArray *keys = g_ptr_array_new_with_free_func(g_free);
  SimLinked *linked = sim->linked;
  for (guint i = 0; linked != NULL && i < linked->values->len; i++)
    g_ptr_array_add(keys, g_strdup_printf("/orphan/%u", i));
  for (guint i = 0; linked != NULL && i < NAMES; i++) {
    char *name = name_of(i);
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
  SIM_CHECK(sim, read->status == QFS_OK && sim_value_is(read->data, VALUE_BASE + value, record->attr.size),
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
  QfsRecord *records[NAMES];
  for (guint i = 0; i < NAMES; i++) {
    g_autofree char *name = name_of(i);
    records[i] = get(sim, name);
    SIM_CHECK(sim, !known || (records[i] != NULL) == (linked->name[i] != NONE), "%s is %s after %s", name,
              records[i] != NULL ? "there" : "missing", when);
    if (known && records[i] != NULL)
      check_record(sim, i, records[i]);
    sim_check_owners_agree(sim, name);
  }
  for (guint i = 0; i < NAMES; i++)
    if (is_there_now(linked, i, records[i]))
      identify(sim, i, records[i]);
  check_counts(sim, (const QfsRecord *const *)records);
  for (guint i = 0; i < NAMES; i++) {
    if (records[i] == NULL)
      continue;
    check_bytes(sim, records[i], file_at(linked, i)->value);
    sim_check_owners_agree(sim, records[i]->key);
    if (!is_own_key(records[i]->key))
      g_clear_pointer(&file_at(linked, i)->key, g_free);
    qfs_record_unref(records[i]);
  }
  linked->known = !linked->wild;
}

static void check_files(Sim *sim, const char *when) {
  g_autoptr(GPtrArray) files = sim_ask_list(sim, QFS_LINK_DIR);
  for (guint i = 0; i < files->len; i++) {
    const QfsRecord *file = files->pdata[i];
    gboolean named = FALSE;
    for (guint k = 0; k < NAMES && !named; k++)
      named = sim->linked->name[k] != NONE && g_strcmp0(file_at(sim->linked, k)->key, file->key) == 0;
    SIM_CHECK(sim, named, "%s counts %u names, and none leads there, after %s", file->key, file->attr.nlink, when);
  }
}

static void check_orphans(Sim *sim, const char *when) {
  SimLinked *linked = sim->linked;
  for (guint i = 0; i < linked->orphans->len; i++) {
    Orphan *orphan = linked->orphans->pdata[i];
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
  note_power_loss(sim);
  check_names(sim, when);
  check_files(sim, when);
  check_orphans(sim, when);
}
