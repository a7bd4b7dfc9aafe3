/* walk.c - see walk.h. */
#include "walk.h"

#include "ask.h"
#include "check.h"
#include "content.h"

#include <sys/stat.h>

#define NAMES 3
#define FILES_MAX 14
/* Numbers of values, apart from those of other operations. */
#define VALUE_BASE 1000000

typedef struct {
  char *path;      /* below the directory */
  guint value;
  gsize size;
  gboolean certain; /* acknowledged; else it may be there or not */
  gboolean kept;    /* ... and a loss of power must leave it */
} File;

struct SimWalk {
  gboolean active, moving, making;
  guint at;         /* index of its name; NAMES: not known */
  guint moves;      /* begun or ended */
  guint power_losses;
  GPtrArray *files; /* File */
  guint left;       /* moves still to be tried */
  guint next;       /* number of the next file: none is used again */
};

static SimRandom *dice(Sim *sim) { return &sim->random; }

static void file_free(gpointer data) {
  g_free(((File *)data)->path);
  g_free(data);
}

SimWalk *sim_walk_new(Sim *sim) {
  if (sim->options.unlimited || !sim_random_percent(dice(sim), 30))
    return NULL;
  SimWalk *walk = g_new0(SimWalk, 1);
  walk->files = g_ptr_array_new_with_free_func(file_free);
  return walk;
}

void sim_walk_free(SimWalk *walk) {
  if (walk == NULL)
    return;
  g_ptr_array_unref(walk->files);
  g_free(walk);
}

static char *path_at(guint name, const char *path) { return g_strdup_printf("walk%u/%s", name, path); }

static File *file_new(SimWalk *walk, const char *path, gsize size) {
  File *file = g_new0(File, 1);
  file->path = g_strdup(path);
  file->value = VALUE_BASE + walk->next++;
  file->size = size;
  return file;
}

static QfsRequest *write_request(const File *file, guint name, QfsRequestDone done, gpointer data) {
  g_autofree char *key = path_at(name, file->path);
  QfsRequest *request = qfs_request_new(QFS_REQUEST_WRITE, key, done, data);
  request->flags = QFS_WRITE_CREATE | QFS_WRITE_EXCLUSIVE | QFS_WRITE_REPLACE;
  request->attr.mode = S_IFREG | 0644;
  request->data = sim_value_bytes(file->value, file->size);
  return request;
}

static QfsRequest *mkdir_request(const char *key) {
  QfsRequest *request = qfs_request_new(QFS_REQUEST_CREATE, key, NULL, NULL);
  request->kind = QFS_KIND_DIRECTORY;
  request->attr.mode = S_IFDIR | 0755;
  return request;
}

void sim_walk_prepare(Sim *sim) {
  static const char *const paths[] = {"a", "b", "s/c"};
  SimWalk *walk = sim->walk;
  if (walk == NULL)
    return;
  gboolean ok = sim_ask_status(sim, mkdir_request("walk0")) == QFS_OK && sim_ask_status(sim, mkdir_request("walk0/s")) == QFS_OK;
  for (guint i = 0; ok && i < G_N_ELEMENTS(paths); i++) {
    File *file = file_new(walk, paths[i], i == 1 ? 150000 : 300);
    file->certain = file->kept = TRUE;
    g_ptr_array_add(walk->files, file);
    ok = sim_ask_status(sim, write_request(file, 0, NULL, NULL)) == QFS_OK;
  }
  ok = ok && sim_ask_status(sim, qfs_request_new(QFS_REQUEST_SYNC, NULL, NULL, NULL)) == QFS_OK;
  SIM_CHECK(sim, ok, "a directory to walk about can't be made");
}

/* What was not asked to be durable may be undone. */
static void note_power_loss(Sim *sim) {
  SimWalk *walk = sim->walk;
  if (walk->power_losses == sim->power_losses)
    return;
  walk->power_losses = sim->power_losses;
  walk->at = NAMES;
  for (guint i = 0; i < walk->files->len; i++)
    ((File *)walk->files->pdata[i])->certain = ((File *)walk->files->pdata[i])->kept;
}

/* ---- the one that moves it ---- */

typedef struct {
  Sim *sim;
  guint from, to;
} Move;

static void on_move(Sim *sim, gpointer unused);
static void on_make(Sim *sim, gpointer unused);

static void again(Sim *sim, SimEventFn fn) {
  gint64 pause_us = sim->fast ? 20 * SIM_MS : 300 * SIM_MS;
  sim_after(sim, sim_random_range(dice(sim), 1, 2 * pause_us), fn, NULL);
}

static void moved(QfsRequest *request, gpointer data) {
  g_autofree Move *move = data;
  Sim *sim = move->sim;
  SimWalk *walk = sim->walk;
  note_power_loss(sim);
  gboolean known = walk->at < NAMES;
  SIM_TRACE(sim, "walk%u -> walk%u: %s", move->from, move->to, qfs_status_name(request->status));
  walk->moving = FALSE;
  walk->moves++;
  switch (request->status) {
  case QFS_OK:
    SIM_CHECK(sim, !known || walk->at == move->from, "walk%u was moved, but it was at walk%u", move->from, walk->at);
    walk->at = move->to;
    break;
  case QFS_NO_QUORUM:
  case QFS_NO_SPACE:
    break; /* no effect */
  case QFS_NOT_FOUND:
    SIM_CHECK(sim, !known || walk->at != move->from, "walk%u was not found", move->from);
    break;
  case QFS_NOT_EMPTY:
    SIM_CHECK(sim, !known || walk->at == move->to, "walk%u is not empty, but all of it should be at walk%u", move->to,
              walk->at);
    break;
  case QFS_UNKNOWN:
  case QFS_IO:
    walk->at = NAMES;
    break;
  default:
    sim_fail(sim, "moving walk%u to walk%u: %s", move->from, move->to, qfs_status_name(request->status));
  }
  qfs_request_free(request);
  again(sim, on_move);
}

static void on_move(Sim *sim, gpointer unused) {
  SimWalk *walk = sim->walk;
  if (!walk->active || walk->left == 0)
    return;
  if (!sim_daemon_is_up(sim)) {
    again(sim, on_move);
    return;
  }
  walk->left--;
  note_power_loss(sim);
  Move *move = g_new(Move, 1);
  move->sim = sim;
  move->from = walk->at < NAMES && sim_random_percent(dice(sim), 90) ? walk->at : sim_random_below(dice(sim), NAMES);
  move->to = (move->from + 1 + sim_random_below(dice(sim), NAMES - 1)) % NAMES;
  g_autofree char *from = g_strdup_printf("walk%u", move->from), *to = g_strdup_printf("walk%u", move->to);
  QfsRequest *request = qfs_request_new(QFS_REQUEST_RENAME, from, moved, move);
  request->key2 = g_strdup(to);
  walk->moving = TRUE;
  walk->moves++;
  qfs_coordinator_submit(sim->coordinator, request);
}

/* ---- the one that makes files in it ---- */

typedef struct {
  Sim *sim;
  File *file;
  guint name;
  gboolean sure; /* the directory was there when it was asked */
  guint moves;
} Make;

static void made(QfsRequest *request, gpointer data) {
  g_autofree Make *make = data;
  Sim *sim = make->sim;
  SimWalk *walk = sim->walk;
  SIM_TRACE(sim, "%s in walk%u: %s", make->file->path, make->name, qfs_status_name(request->status));
  walk->making = FALSE;
  make->sure = make->sure && walk->power_losses == sim->power_losses;
  note_power_loss(sim);
  switch (request->status) {
  case QFS_OK:
    make->file->certain = TRUE;
    break;
  case QFS_UNKNOWN:
  case QFS_IO:
    break;
  case QFS_NOT_FOUND:
    SIM_CHECK(sim, !make->sure || walk->moves != make->moves, "walk%u was not found to make %s in it", make->name,
              make->file->path);
    g_clear_pointer(&make->file, file_free);
    break;
  case QFS_NO_QUORUM:
  case QFS_NO_SPACE:
    g_clear_pointer(&make->file, file_free);
    break;
  default:
    sim_fail(sim, "making %s in walk%u: %s", make->file->path, make->name, qfs_status_name(request->status));
  }
  if (make->file != NULL)
    g_ptr_array_add(walk->files, make->file);
  qfs_request_free(request);
  again(sim, on_make);
}

static void on_make(Sim *sim, gpointer unused) {
  SimWalk *walk = sim->walk;
  if (!walk->active || walk->files->len >= FILES_MAX)
    return;
  if (!sim_daemon_is_up(sim)) {
    again(sim, on_make);
    return;
  }
  note_power_loss(sim);
  g_autofree char *path = g_strdup_printf("%sf%u", sim_random_percent(dice(sim), 30) ? "s/" : "", walk->next);
  Make *make = g_new(Make, 1);
  make->sim = sim;
  make->name = walk->at < NAMES && sim_random_percent(dice(sim), 80) ? walk->at : sim_random_below(dice(sim), NAMES);
  make->file = file_new(walk, path, sim_random_percent(dice(sim), 15) ? 100000 : 100);
  make->sure = walk->at == make->name && !walk->moving;
  make->moves = walk->moves;
  QfsRequest *request = write_request(make->file, make->name, made, make);
  request->follow = sim_random_percent(dice(sim), 50);
  walk->making = TRUE;
  qfs_coordinator_submit(sim->coordinator, request);
}

void sim_walk_start(Sim *sim) {
  if (sim->walk == NULL)
    return;
  sim->walk->active = TRUE;
  sim->walk->left = 12 + sim_random_below(dice(sim), 30);
  again(sim, on_move);
  again(sim, on_make);
}

static gboolean is_idle(Sim *sim) { return !sim->walk->moving && !sim->walk->making; }

void sim_walk_stop(Sim *sim) {
  if (sim->walk == NULL)
    return;
  sim->walk->active = FALSE;
  SIM_CHECK(sim, sim_run_until(sim, is_idle, 60 * SIM_SECOND), "the walking directory's requests have no end");
}

/* ---- what is where ---- */

GPtrArray *sim_walk_keys(const Sim *sim) {
  GPtrArray *keys = g_ptr_array_new_with_free_func(g_free);
  for (guint i = 0; sim->walk != NULL && i < sim->walk->files->len; i++)
    g_ptr_array_add(keys, path_at(sim->walk->at, ((const File *)sim->walk->files->pdata[i])->path));
  return keys;
}

static File *find(const SimWalk *walk, const char *path) {
  for (guint i = 0; i < walk->files->len; i++)
    if (strcmp(((const File *)walk->files->pdata[i])->path, path) == 0)
      return walk->files->pdata[i];
  return NULL;
}

static gboolean is_there(Sim *sim, const char *key) {
  QfsStatus status = sim_ask_status(sim, qfs_request_new(QFS_REQUEST_GET, key, NULL, NULL));
  SIM_CHECK(sim, status == QFS_OK || status == QFS_NOT_FOUND, "%s: %s", key, qfs_status_name(status));
  return status == QFS_OK;
}

static void check_bytes(Sim *sim, const char *key, const File *file) {
  QfsRequest *got = sim_ask(sim, qfs_request_new(QFS_REQUEST_GET, key, NULL, NULL));
  SIM_CHECK(sim, got->status == QFS_OK, "%s: %s", key, qfs_status_name(got->status));
  QfsRequest *read = qfs_request_new(QFS_REQUEST_READ, key, NULL, NULL);
  read->record = qfs_record_ref(got->record);
  read->length = got->record->attr.size;
  sim_ask(sim, read);
  SIM_CHECK(sim, read->status == QFS_OK && sim_value_is(read->data, file->value, file->size),
            "%s is not as it was written: %s, %" G_GUINT64_FORMAT " bytes", key, qfs_status_name(read->status),
            got->record->attr.size);
  qfs_request_free(got);
  qfs_request_free(read);
}

/* Returns how many entries of the directory and the one below it are files that are known; others fail. */
static guint check_files_at(Sim *sim, guint name, const char *when) {
  static const char *const dirs[] = {"", "/s"};
  guint n = 0;
  for (guint d = 0; d < G_N_ELEMENTS(dirs); d++) {
    g_autofree char *dir = g_strdup_printf("walk%u%s", name, dirs[d]);
    g_autoptr(GPtrArray) entries = sim_ask_list(sim, dir);
    for (guint i = 0; i < entries->len; i++) {
      const QfsRecord *entry = entries->pdata[i];
      const char *path = strchr(entry->key, '/') + 1;
      if (strcmp(path, "s") == 0)
        continue;
      File *file = find(sim->walk, path);
      SIM_CHECK(sim, file != NULL, "%s is there after %s, though it was refused or never made", entry->key, when);
      check_bytes(sim, entry->key, file);
      file->certain = file->kept = TRUE;
      n++;
    }
  }
  return n;
}

static void check_left_nothing(Sim *sim, guint name, const char *when) {
  g_autofree char *dir = g_strdup_printf("walk%u", name), *below = g_strdup_printf("walk%u/s", name);
  g_autoptr(GPtrArray) entries = sim_ask_list(sim, dir), more = sim_ask_list(sim, below);
  SIM_CHECK(sim, entries->len == 0 && more->len == 0, "%s is left behind after %s",
            ((const QfsRecord *)(entries->len > 0 ? entries : more)->pdata[0])->key, when);
}

void sim_walk_check(Sim *sim, const char *when) {
  SimWalk *walk = sim->walk;
  if (walk == NULL)
    return;
  note_power_loss(sim);
  guint at = NAMES;
  for (guint name = 0; name < NAMES; name++) {
    g_autofree char *dir = g_strdup_printf("walk%u", name);
    if (!is_there(sim, dir))
      continue;
    SIM_CHECK(sim, at == NAMES, "the directory is both at walk%u and walk%u after %s", at, name, when);
    at = name;
  }
  SIM_CHECK(sim, at < NAMES, "the walking directory is gone after %s", when);
  SIM_CHECK(sim, walk->at == NAMES || walk->at == at, "the directory is at walk%u after %s, not at walk%u", at, when,
            walk->at);
  walk->at = at;
  for (guint name = 0; name < NAMES; name++)
    if (name != at)
      check_left_nothing(sim, name, when);
  check_files_at(sim, at, when);
  for (guint i = walk->files->len; i > 0; i--) {
    const File *file = walk->files->pdata[i - 1];
    g_autofree char *key = path_at(at, file->path);
    gboolean there = is_there(sim, key);
    SIM_CHECK(sim, there || !file->certain, "%s is missing after %s", key, when);
    if (there)
      sim_check_owners_agree(sim, key);
    else
      g_ptr_array_remove_index(walk->files, i - 1);
  }
}
