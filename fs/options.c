#include "fs/options.h"

#include <string.h>

GQuark qfs_options_error_quark(void) {
  return g_quark_from_static_string("qfs-options-error");
}

/* Go on to libfuse as they are. With a trailing '=': any value. `sync` is ours; default_permissions
 * is always on, and `subtype` always "quorumfs": mounts are recognised by it. max_read and the like
 * are not offered: one write(2) of the promised size must travel in one request. */
static const char *const fuse_names[] = {
    "allow_other", "allow_root",  "auto_unmount",  "debug",   "ro",      "rw",
    "suid",        "nosuid",      "dev",           "nodev",   "exec",    "noexec",
    "noatime",     "nodiratime",  "nostrictatime", "dirsync", "fsname=", "context=",
    "fscontext=",  "defcontext=", "rootcontext=",
};

/* For mount(8) and fstab; nothing to do here. */
static const char *const ignored_names[] = {
    "defaults",   "default_permissions",
    "auto",       "noauto",
    "_netdev",    "nofail",
    "user",       "nouser",
    "users",      "owner",
    "group",      "atime",
    "diratime",   "relatime",
    "norelatime", "strictatime",
    "lazytime",   "nolazytime",
    "iversion",   "noiversion",
    "silent",     "loud",
    "subtype=",   "user=",
    "comment=",
};

static gboolean in_table(const char *item, const char *const *names, gsize n_names) {
  for (gsize i = 0; i < n_names; i++) {
    gsize len = strlen(names[i]);
    if (names[i][len - 1] == '=' ? strncmp(item, names[i], len) == 0 : strcmp(item, names[i]) == 0)
      return TRUE;
  }
  return FALSE;
}

static gboolean fail(GError **error, const char *format, ...) G_GNUC_PRINTF(2, 3);
static gboolean fail(GError **error, const char *format, ...) {
  va_list args;
  va_start(args, format);
  if (error != NULL)
    *error = g_error_new_valist(QFS_OPTIONS_ERROR, 0, format, args);
  va_end(args);
  return FALSE;
}

QfsOptions *qfs_options_new(void) {
  QfsOptions *options = g_new0(QfsOptions, 1);
  options->engine.timeout_ms = QFS_OPTIONS_TIMEOUT_MS_DEFAULT;
  options->engine.tombstone_grace_s = QFS_OPTIONS_GRACE_S_DEFAULT;
  options->engine.scrub_period_s = QFS_OPTIONS_SCRUB_S_DEFAULT;
  options->fuse = g_ptr_array_new_with_free_func(g_free);
  return options;
}

void qfs_options_free(QfsOptions *options) {
  if (options == NULL)
    return;
  g_free(options->engine.store);
  for (guint i = 0; i < QFS_NODES_MAX; i++)
    g_free(options->engine.node_dirs[i]);
  g_ptr_array_unref(options->fuse);
  g_free(options);
}

static gboolean parse_number(const char *name, const char *value, guint min, guint max, guint *out,
                             GError **error) {
  guint64 number;
  if (!g_ascii_string_to_unsigned(value, 10, min, max, &number, NULL))
    return fail(error, "option %s=%s: not a number from %u to %u", name, value, min, max);
  *out = (guint)number;
  return TRUE;
}

static gboolean parse_dir(const char *name, const char *value, char **out, GError **error) {
  if (*value == '\0')
    return fail(error, "option %s: a directory is missing after '='", name);
  g_free(*out);
  /* The shell expands "~" only at the start of a word, and a directory named "~" helps nobody. */
  if (strcmp(value, "~") == 0 || g_str_has_prefix(value, "~/"))
    *out = g_build_filename(g_get_home_dir(), value + 1, NULL);
  else
    *out = g_strdup(value);
  return TRUE;
}

/* "node7" -> 7; 0 for any other name. */
static guint node_of_name(const char *name) {
  guint64 node;
  if (!g_str_has_prefix(name, "node") || name[4] == '0' ||
      !g_ascii_string_to_unsigned(name + 4, 10, 1, QFS_NODES_MAX, &node, NULL))
    return 0;
  return (guint)node;
}

static gboolean is_flag(const char *name) {
  static const char *const flags[] = {"sync", "async", "ephemeral", "faults"};
  return in_table(name, flags, G_N_ELEMENTS(flags)) ||
         in_table(name, fuse_names, G_N_ELEMENTS(fuse_names)) ||
         in_table(name, ignored_names, G_N_ELEMENTS(ignored_names));
}

static gboolean add_named(QfsOptions *options, const char *name, const char *value,
                          GError **error) {
  QfsEngineConfig *engine = &options->engine;
  guint node = node_of_name(name);
  if (node != 0)
    return parse_dir(name, value, &engine->node_dirs[node - 1], error);
  if (strcmp(name, "store") == 0)
    return parse_dir(name, value, &engine->store, error);
  if (strcmp(name, "nodes") == 0)
    return parse_number(name, value, 1, QFS_NODES_MAX, &engine->nodes, error);
  if (strcmp(name, "replicas") == 0)
    return parse_number(name, value, 1, QFS_NODES_MAX, &engine->replicas, error);
  if (strcmp(name, "timeout") == 0)
    return parse_number(name, value, QFS_OPTIONS_TIMEOUT_MS_MIN, QFS_OPTIONS_TIMEOUT_MS_MAX,
                        &engine->timeout_ms, error);
  if (strcmp(name, "tombstone_grace") == 0)
    return parse_number(name, value, 0, G_MAXINT32, &engine->tombstone_grace_s, error);
  if (strcmp(name, "scrub_period") == 0)
    return parse_number(name, value, 0, G_MAXINT32, &engine->scrub_period_s, error);
  if (strcmp(name, "cached_names") == 0)
    return parse_number(name, value, 1, G_MAXINT32, &options->cached_names, error);
  if (strcmp(name, "engine") == 0) {
    if (strcmp(value, "embedded") == 0)
      return TRUE;
    if (strcmp(value, "etcd") == 0)
      return fail(error, "option engine=etcd: not available in this build");
    return fail(error, "option engine=%s: not an engine (there is: embedded)", value);
  }
  if (is_flag(name))
    return fail(error, "option '%s' takes no value: %s=%s", name, name, value);
  return fail(error, "unknown option '%s='", name);
}

static gboolean add_flag(QfsOptions *options, const char *name, GError **error) {
  static const char *const need_value[] = {"store",           "nodes",  "replicas", "timeout",
                                           "tombstone_grace", "scrub_period", "cached_names", "engine", "fsname"};
  if (strcmp(name, "sync") == 0)
    options->engine.sync = TRUE;
  else if (strcmp(name, "async") == 0)
    options->engine.sync = FALSE;
  else if (strcmp(name, "ephemeral") == 0)
    options->ephemeral = TRUE;
  else if (strcmp(name, "faults") == 0)
    options->engine.faults = TRUE;
  else if (in_table(name, need_value, G_N_ELEMENTS(need_value)) || node_of_name(name) != 0)
    return fail(error, "option %s needs a value: %s=VALUE", name, name);
  else
    return fail(error, "unknown option '%s'", name);
  return TRUE;
}

static gboolean add_item(QfsOptions *options, const char *item, GError **error) {
  if (*item == '\0' || g_str_has_prefix(item, "x-") || g_str_has_prefix(item, "X-") ||
      in_table(item, ignored_names, G_N_ELEMENTS(ignored_names)))
    return TRUE;
  if (in_table(item, fuse_names, G_N_ELEMENTS(fuse_names))) {
    if (g_str_has_suffix(item, "=") && strchr(item, '=')[1] == '\0')
      return fail(error, "option %.*s needs a value: %sVALUE", (int)strlen(item) - 1, item, item);
    if (strcmp(item, "allow_other") == 0 || strcmp(item, "allow_root") == 0)
      options->allow_other = TRUE;
    if (g_str_has_prefix(item, "fsname="))
      options->fsname_given = TRUE;
    g_ptr_array_add(options->fuse, g_strdup(item));
    return TRUE;
  }
  const char *equals = strchr(item, '=');
  if (equals == NULL)
    return add_flag(options, item, error);
  g_autofree char *name = g_strndup(item, (gsize)(equals - item));
  return add_named(options, name, equals + 1, error);
}

gboolean qfs_options_add(QfsOptions *options, const char *list, GError **error) {
  g_autoptr(GString) item = g_string_new(NULL);
  for (const char *c = list;; c++) {
    if (*c == ',' || *c == '\0') {
      if (!add_item(options, item->str, error))
        return FALSE;
      g_string_truncate(item, 0);
      if (*c == '\0')
        return TRUE;
    } else {
      if (*c == '\\' && (c[1] == ',' || c[1] == '\\'))
        c++;
      g_string_append_c(item, *c);
    }
  }
}

static void make_absolute(char **path) {
  if (*path == NULL)
    return;
  char *absolute = g_canonicalize_filename(*path, NULL);
  g_free(*path);
  *path = absolute;
}

gboolean qfs_options_finish(QfsOptions *options, GError **error) {
  QfsEngineConfig *engine = &options->engine;
  if (options->ephemeral) {
    if (engine->store != NULL)
      return fail(error, "options ephemeral and store= exclude each other");
    for (guint i = 0; i < QFS_NODES_MAX; i++)
      if (engine->node_dirs[i] != NULL)
        return fail(error, "options ephemeral and node%u= exclude each other", i + 1);
  } else if (engine->store == NULL) {
    engine->store = g_build_filename(g_get_user_data_dir(), "quorumfs", "default", NULL);
  }
  make_absolute(&engine->store);
  for (guint i = 0; i < QFS_NODES_MAX; i++)
    make_absolute(&engine->node_dirs[i]);
  return TRUE;
}

void qfs_options_adopt_store(QfsOptions *options, guint nodes, guint replicas) {
  QfsEngineConfig *engine = &options->engine;
  if (engine->nodes == 0)
    engine->nodes = nodes;
  if (engine->replicas == 0)
    engine->replicas = replicas;
}

gboolean qfs_options_settle(QfsOptions *options, GError **error) {
  QfsEngineConfig *engine = &options->engine;
  if (engine->nodes == 0)
    engine->nodes = QFS_OPTIONS_NODES_DEFAULT;
  if (engine->replicas == 0)
    engine->replicas = (engine->nodes + 1) / 2;
  if (engine->replicas > engine->nodes)
    return fail(error, "option replicas=%u: there are only %u nodes", engine->replicas,
                engine->nodes);
  for (guint i = 0; i < QFS_NODES_MAX; i++) {
    if (engine->node_dirs[i] == NULL)
      continue;
    if (i >= engine->nodes)
      return fail(error, "option node%u=: there are only %u nodes", i + 1, engine->nodes);
    for (guint j = 0; j < i; j++)
      if (engine->node_dirs[j] != NULL && strcmp(engine->node_dirs[i], engine->node_dirs[j]) == 0)
        return fail(error, "options node%u= and node%u= name the same directory", j + 1, i + 1);
  }
  return TRUE;
}

static void append_escaped(GString *string, const char *name, const char *text) {
  if (string->len > 0)
    g_string_append_c(string, ',');
  g_string_append(string, name);
  for (const char *c = text; *c != '\0'; c++) {
    if (*c == ',' || *c == '\\')
      g_string_append_c(string, '\\');
    g_string_append_c(string, *c);
  }
}

gboolean qfs_options_has_fuse(const QfsOptions *options, const char *name) {
  for (guint i = 0; i < options->fuse->len; i++)
    if (strcmp(options->fuse->pdata[i], name) == 0)
      return TRUE;
  return FALSE;
}

char *qfs_options_fuse_string(const QfsOptions *options) {
  GString *string = g_string_new(NULL);
  if (!options->fsname_given && options->engine.store != NULL)
    append_escaped(string, "fsname=", options->engine.store);
  for (guint i = 0; i < options->fuse->len; i++)
    append_escaped(string, "", g_ptr_array_index(options->fuse, i));
  return g_string_free(string, FALSE);
}
