/* control.c - the tree below .quorumfs: which files there are, and what opening, reading and
 * writing do. */
#include "fs/control_private.h"

#include "fs/errno_map.h"
#include "fs/log.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define COMMAND_BYTES_MAX 64

typedef enum {
  ENTRY_NONE,
  ENTRY_ROOT,
  ENTRY_STATUS,
  ENTRY_STATUS_JSON,
  ENTRY_LAST_ERROR,
  ENTRY_RPC,
  ENTRY_NODES,
  ENTRY_NODE,
  ENTRY_STATE,
  ENTRY_DELAY,
  ENTRY_DROP,
  ENTRY_PARTITION,
  ENTRY_METRICS,
  ENTRY_GC,
  ENTRY_SCRUB,
  ENTRY_REPAIR,
  ENTRY_EVENTS,
  ENTRY_KEYS, /* nodes/I/keys itself */
  ENTRY_KEY   /* below it */
} Entry;

struct QfsControlFile {
  QfsControl *control;
  Entry entry;
  guint node; /* ENTRY_STATE, ENTRY_DELAY, ENTRY_DROP, ENTRY_KEY */
  gboolean writer;
  GBytes *text;    /* what reads return; NULL for rpc */
  ControlRpc *rpc; /* ENTRY_RPC */
  QfsEventsReader *events; /* ENTRY_EVENTS */
  QfsRecord *record;       /* ENTRY_KEY */
};

static void events_wake(gpointer token, gboolean readable, gpointer user_data) {
  QfsControl *control = user_data;
  control->wake(token, readable, control->user_data);
}

static gboolean is_own_key(const char *key) { return key != NULL && *key == '/'; }

/* Of a file with several names: told under each that is known, and the one that was given. */
static void told_by_names(QfsControl *control, const QfsChange *change) {
  g_auto(GStrv) names = control->names != NULL ? control->names(change->record->key, control->user_data) : NULL;
  const char *given = change->former_key;
  for (char **name = names; name != NULL && *name != NULL; name++) {
    qfs_events_add_as(control->events, change, *name, NULL);
    if (g_strcmp0(*name, given) == 0)
      given = NULL;
  }
  if (given != NULL)
    qfs_events_add_as(control->events, change, given, NULL);
}

/* A further name: told with a former one. */
static void told_of_link(QfsControl *control, const QfsChange *change) {
  g_auto(GStrv) names = control->names != NULL ? control->names(change->former_key, control->user_data) : NULL;
  gboolean known = names != NULL && names[0] != NULL;
  qfs_events_add_as(control->events, change, change->record->key, known ? names[0] : change->record->key);
}

static void engine_changed(const QfsChange *change, gpointer user_data) {
  QfsControl *control = user_data;
  if (is_own_key(change->record->key))
    told_by_names(control, change);
  else if (change->kind == QFS_CHANGE_LINK && is_own_key(change->former_key))
    told_of_link(control, change);
  else
    qfs_events_add(control->events, change);
}

void qfs_control_on_names(QfsControl *control, char **(*names)(const char *key, gpointer user_data)) {
  control->names = names;
}

QfsControl *qfs_control_new(QfsEngine *engine, void (*changed)(const char *key, gpointer user_data),
                            gpointer user_data) {
  QfsControl *control = g_new0(QfsControl, 1);
  control->engine = engine;
  control->changed = changed;
  control->user_data = user_data;
  control->events = qfs_events_new(QFS_EVENTS_BYTES_MAX, events_wake, control);
  if (engine->ops->watch != NULL)
    engine->ops->watch(engine, engine_changed, control);
  return control;
}

void qfs_control_free(QfsControl *control) {
  if (control == NULL)
    return;
  if (control->engine->ops->watch != NULL)
    control->engine->ops->watch(control->engine, NULL, NULL);
  qfs_events_free(control->events);
  g_free(control);
}

void qfs_control_on_wake(QfsControl *control,
                         void (*wake)(gpointer token, gboolean readable, gpointer user_data)) {
  control->wake = wake;
}

const char *qfs_control_explain(int error) {
  switch (error) {
  case EHOSTDOWN:
    return "too few nodes are up; nothing was changed";
  case ETIMEDOUT:
    return "the outcome is unknown: it may or may not have been applied";
  case EIO:
    return "no replica could do it";
  case ENOSPC:
    return "the disks of a majority are full; nothing was changed";
  case EOVERFLOW:
    return "no timestamp is above the stored one";
  default:
    return NULL;
  }
}

/* "3" or "3/state" below nodes/; numbers only as they are listed: no sign, no leading zero. */
static Entry parse_node(QfsControl *control, const char *rest, guint *out_node) {
  gsize digits = strspn(rest, "0123456789");
  g_autofree char *number = g_strndup(rest, digits);
  guint64 node;
  if (digits == 0 || *rest == '0' ||
      !g_ascii_string_to_unsigned(number, 10, 1, control->engine->config.nodes, &node, NULL))
    return ENTRY_NONE;
  *out_node = (guint)node;
  if (rest[digits] == '\0')
    return ENTRY_NODE;
  if (strcmp(rest + digits, "/delay") == 0)
    return ENTRY_DELAY;
  if (strcmp(rest + digits, "/drop") == 0)
    return ENTRY_DROP;
  if (strcmp(rest + digits, "/keys") == 0)
    return ENTRY_KEYS;
  if (g_str_has_prefix(rest + digits, "/keys/"))
    return ENTRY_KEY;
  return strcmp(rest + digits, "/state") == 0 ? ENTRY_STATE : ENTRY_NONE;
}

/* FALSE: the file is not about injected faults. */
static gboolean is_fault(Entry entry, ControlFault *out_fault) {
  *out_fault = entry == ENTRY_DELAY  ? CONTROL_DELAY
               : entry == ENTRY_DROP ? CONTROL_DROP
                                     : CONTROL_PARTITION;
  return entry == ENTRY_DELAY || entry == ENTRY_DROP || entry == ENTRY_PARTITION;
}

static Entry parse_path(QfsControl *control, const char *path, guint *out_node) {
  static const struct {
    const char *path;
    Entry entry;
  } table[] = {
      {"", ENTRY_ROOT},
      {"status", ENTRY_STATUS},
      {"status.json", ENTRY_STATUS_JSON},
      {"last-error", ENTRY_LAST_ERROR},
      {"rpc", ENTRY_RPC},
      {"nodes", ENTRY_NODES},
      {"partition", ENTRY_PARTITION},
      {"metrics", ENTRY_METRICS},
      {"gc", ENTRY_GC},
      {"scrub", ENTRY_SCRUB},
      {"repair", ENTRY_REPAIR},
      {"events", ENTRY_EVENTS},
  };
  for (gsize i = 0; i < G_N_ELEMENTS(table); i++)
    if (strcmp(path, table[i].path) == 0)
      return table[i].entry;
  return g_str_has_prefix(path, "nodes/") ? parse_node(control, path + strlen("nodes/"), out_node)
                                          : ENTRY_NONE;
}

mode_t qfs_control_mode(QfsControl *control, const char *path) {
  guint node;
  switch (parse_path(control, path, &node)) {
  case ENTRY_NONE:
  case ENTRY_KEY:
    return 0;
  case ENTRY_KEYS: /* directories that hide what is below them may be at other nodes */
    return S_IFDIR | 0500;
  case ENTRY_ROOT:
  case ENTRY_NODES:
  case ENTRY_NODE:
    return S_IFDIR | 0555;
  case ENTRY_STATUS:
  case ENTRY_STATUS_JSON:
  case ENTRY_LAST_ERROR:
  case ENTRY_METRICS:
    return S_IFREG | 0444;
  case ENTRY_EVENTS: /* it tells names that directories may hide */
    return S_IFREG | 0400;
  case ENTRY_GC:
  case ENTRY_SCRUB:
  case ENTRY_REPAIR:
  case ENTRY_STATE:
  case ENTRY_DELAY:
  case ENTRY_DROP:
  case ENTRY_PARTITION:
    return S_IFREG | 0644;
  case ENTRY_RPC:
    return S_IFREG | 0600;
  }
  return 0;
}

guint64 qfs_control_size(QfsControl *control, const char *path) {
  return strcmp(path, "events") == 0 ? qfs_events_size(control->events) : 0;
}

char **qfs_control_list(QfsControl *control, const char *path) {
  static const char *const root[] = {"status", "status.json", "metrics",   "last-error",
                                     "rpc",    "nodes",       "partition", "gc",
                                     "scrub",  "repair",      "events",    NULL};
  static const char *const node_dir[] = {"state", "delay", "drop", "keys", NULL};
  guint node;
  switch (parse_path(control, path, &node)) {
  case ENTRY_ROOT:
    return g_strdupv((char **)root);
  case ENTRY_NODE:
    return g_strdupv((char **)node_dir);
  case ENTRY_NODES: {
    guint nodes = control->engine->config.nodes;
    char **names = g_new0(char *, nodes + 1);
    for (guint i = 0; i < nodes; i++)
      names[i] = g_strdup_printf("%u", i + 1);
    return names;
  }
  default:
    return NULL;
  }
}

static char *make_text(QfsControl *control, Entry entry, guint node) {
  if (entry == ENTRY_LAST_ERROR) {
    g_autofree char *fault = qfs_log_last_fault();
    return fault != NULL ? g_strconcat(fault, "\n", NULL) : g_strdup("");
  }
  ControlFault fault;
  if (is_fault(entry, &fault))
    return control_fault_text(control, fault, node);
  QfsEngineStatus *status = qfs_engine_status(control->engine);
  char *text;
  if (entry == ENTRY_STATUS) {
    text = control_status_text(status, &control->engine->config);
  } else if (entry == ENTRY_STATUS_JSON) {
    text = control_status_json(status, &control->engine->config);
  } else if (entry == ENTRY_METRICS) {
    text = control_metrics_text(status, control->requests);
  } else if (entry == ENTRY_GC) {
    text = control_gc_text(status);
  } else if (entry == ENTRY_SCRUB || entry == ENTRY_REPAIR) {
    text = control_scrub_text(status, entry == ENTRY_SCRUB);
  } else {
    g_autofree char *state = control_node_state_text(&status->node[node - 1]);
    text = g_strconcat(state, "\n", NULL);
  }
  qfs_engine_status_free(status);
  return text;
}

/* A value below nodes/I/keys. */
static QfsControlFile *open_key(QfsControl *control, const char *path, gboolean writer, int *out_errno) {
  guint node;
  const char *key;
  QfsRecord *record = NULL;
  int error = writer ? EROFS : 0;
  if (error == 0 && !qfs_control_parse_key(control, path, &node, &key))
    error = ENOENT;
  if (error == 0)
    error = qfs_control_key_lookup(control, node, key, &record);
  if (error == 0 && record->kind != QFS_KIND_VALUE) {
    error = record->kind == QFS_KIND_DIRECTORY ? EISDIR : ESTALE;
    qfs_record_unref(record);
  }
  if (error != 0) {
    *out_errno = error;
    return NULL;
  }
  QfsControlFile *file = g_new0(QfsControlFile, 1);
  file->control = control;
  file->entry = ENTRY_KEY;
  file->node = node;
  file->record = record;
  return file;
}

QfsControlFile *qfs_control_open(QfsControl *control, const char *path, int flags, uid_t uid,
                                 gid_t gid, int *out_errno) {
  guint node = 0;
  Entry entry = parse_path(control, path, &node);
  mode_t mode = qfs_control_mode(control, path);
  gboolean writer = (flags & O_ACCMODE) != O_RDONLY;
  gboolean trusted = uid == 0 || uid == geteuid();
  ControlFault fault;
  if (entry == ENTRY_KEY)
    return open_key(control, path, writer || (flags & O_TRUNC) != 0, out_errno);
  if (entry == ENTRY_NONE)
    *out_errno = ENOENT;
  else if (S_ISDIR(mode))
    *out_errno = EISDIR;
  else if ((writer && ((mode & 0222) == 0 || !trusted)) || (entry == ENTRY_RPC && !trusted))
    *out_errno = EACCES;
  else if (entry == ENTRY_EVENTS && !trusted)
    *out_errno = EACCES;
  else if (entry == ENTRY_RPC && (flags & O_ACCMODE) != O_RDWR)
    *out_errno = EINVAL;
  else if (writer && is_fault(entry, &fault) && !control_faults_allowed(control, path))
    *out_errno = EPERM;
  else {
    QfsControlFile *file = g_new0(QfsControlFile, 1);
    file->control = control;
    file->entry = entry;
    file->node = node;
    file->writer = writer;
    if (entry == ENTRY_RPC) {
      file->rpc = control_rpc_new(control, uid, gid);
    } else if (entry == ENTRY_EVENTS) {
      file->events = qfs_events_open(control->events);
    } else {
      char *text = make_text(control, entry, node);
      file->text = g_bytes_new_take(text, strlen(text));
    }
    return file;
  }
  return NULL;
}

void qfs_control_close(QfsControlFile *file) {
  if (file == NULL)
    return;
  if (file->text != NULL)
    g_bytes_unref(file->text);
  if (file->rpc != NULL)
    control_rpc_free(file->rpc);
  qfs_events_close(file->events);
  qfs_record_unref(file->record);
  g_free(file);
}

GBytes *control_slice(GBytes *text, off_t offset, gsize size) {
  gsize len = g_bytes_get_size(text);
  gsize from = offset < 0 ? 0 : MIN((guint64)offset, len);
  return g_bytes_new_from_bytes(text, from, MIN(size, len - from));
}

void qfs_control_read(QfsControlFile *file, off_t offset, gsize size, QfsControlReadDone done,
                      gpointer user_data) {
  if (file->rpc != NULL) {
    control_rpc_read(file->rpc, offset, size, done, user_data);
  } else if (file->events != NULL) {
    GBytes *data = NULL;
    int error = qfs_events_read(file->events, (guint64)MAX(offset, 0), size, &data);
    done(error, data, user_data);
  } else if (file->record != NULL) {
    GBytes *data = NULL;
    int error = control_key_read(file->control, file->node, file->record, (guint64)MAX(offset, 0), size, &data);
    done(error, data, user_data);
  } else {
    done(0, control_slice(file->text, offset, size), user_data);
  }
}

gboolean qfs_control_poll(QfsControlFile *file, gpointer token) {
  if (file->events != NULL)
    return qfs_events_poll(file->events, token);
  if (token != NULL)
    file->control->wake(token, FALSE, file->control->user_data);
  return TRUE;
}

typedef struct {
  QfsControlWriteDone done;
  gpointer user_data;
  gsize written;
} StateWrite;

static void state_written(QfsRequest *request, gpointer user_data) {
  StateWrite *write = user_data;
  int error = qfs_status_to_errno(request->status);
  qfs_request_free(request);
  write->done(error, error == 0 ? write->written : 0, write->user_data);
  g_free(write);
}

/* The word in `data`; NULL: there is none, or more than that. */
static char *parse_word(GBytes *data) {
  gsize len;
  const char *bytes = g_bytes_get_data(data, &len);
  if (len == 0 || len > COMMAND_BYTES_MAX)
    return NULL;
  char *word = g_strndup(bytes, len);
  if (strlen(word) != len)
    *word = '\0';
  return g_strstrip(word);
}

static gboolean parse_action(GBytes *data, QfsNodeAction *out_action) {
  g_autofree char *word = parse_word(data);
  if (word == NULL)
    return FALSE;
  if (strcmp(word, "up") == 0)
    *out_action = QFS_NODE_UP;
  else if (strcmp(word, "down") == 0)
    *out_action = QFS_NODE_DOWN;
  else if (strcmp(word, "crash") == 0)
    *out_action = QFS_NODE_CRASH;
  else if (strcmp(word, "evict") == 0)
    *out_action = QFS_NODE_EVICT;
  else
    return FALSE;
  return TRUE;
}

/* gc, scrub, repair. */
static void run_now(QfsControlFile *file, GBytes *data, QfsControlWriteDone done, gpointer user_data) {
  g_autofree char *word = parse_word(data);
  const char *name = file->entry == ENTRY_GC ? "gc" : file->entry == ENTRY_SCRUB ? "scrub" : "repair";
  if (g_strcmp0(word, "now") != 0) {
    g_warning("%s: only 'now' can be written there", name);
    done(EINVAL, 0, user_data);
    return;
  }
  StateWrite *write = g_new(StateWrite, 1);
  *write = (StateWrite){
      .done = done, .user_data = user_data, .written = g_bytes_get_size(data)};
  QfsRequest *request = qfs_request_new(file->entry == ENTRY_GC ? QFS_REQUEST_GC : QFS_REQUEST_SCRUB, NULL,
                                        state_written, write);
  request->flags = file->entry == ENTRY_SCRUB ? QFS_SCRUB_VERIFY : 0;
  qfs_engine_submit(file->control->engine, request);
}

void qfs_control_write(QfsControlFile *file, off_t offset, GBytes *data, QfsControlWriteDone done,
                       gpointer user_data) {
  g_autoptr(GBytes) owned = data;
  if (file->rpc != NULL) {
    control_rpc_write(file->rpc, data, done, user_data);
    return;
  }
  QfsNodeAction action;
  if (!file->writer) {
    done(EBADF, 0, user_data);
    return;
  }
  ControlFault fault;
  if (is_fault(file->entry, &fault)) {
    int error = control_fault_write(file->control, fault, file->node, data);
    done(error, error == 0 ? g_bytes_get_size(data) : 0, user_data);
    return;
  }
  if (file->entry == ENTRY_GC || file->entry == ENTRY_SCRUB || file->entry == ENTRY_REPAIR) {
    run_now(file, data, done, user_data);
    return;
  }
  if (!parse_action(data, &action)) {
    done(EINVAL, 0, user_data);
    return;
  }
  StateWrite *write = g_new0(StateWrite, 1);
  write->done = done;
  write->user_data = user_data;
  write->written = g_bytes_get_size(data);
  QfsRequest *request = qfs_request_new(QFS_REQUEST_NODE, NULL, state_written, write);
  request->node = file->node;
  request->action = action;
  qfs_engine_submit(file->control->engine, request);
}
