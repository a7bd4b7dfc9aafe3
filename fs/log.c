#define FUSE_USE_VERSION 314
#include "fs/log.h"

#include <fuse_log.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>

static gint to_system;   /* atomic */
static gboolean verbose; /* constant */
static GMutex lock;      /* protects last_fault */
static char *last_fault;

static int priority_of(GLogLevelFlags level) {
  if (level & (G_LOG_LEVEL_ERROR | G_LOG_LEVEL_CRITICAL))
    return LOG_ERR;
  if (level & G_LOG_LEVEL_WARNING)
    return LOG_WARNING;
  if (level & G_LOG_LEVEL_MESSAGE)
    return LOG_NOTICE;
  return level & G_LOG_LEVEL_INFO ? LOG_INFO : LOG_DEBUG;
}

static GLogWriterOutput write_log(GLogLevelFlags level, const GLogField *fields, gsize n_fields,
                                  gpointer user_data) {
  const char *message = NULL, *domain = NULL;
  for (gsize i = 0; i < n_fields; i++) {
    if (strcmp(fields[i].key, "MESSAGE") == 0)
      message = fields[i].value;
    else if (strcmp(fields[i].key, "GLIB_DOMAIN") == 0)
      domain = fields[i].value;
  }
  level &= G_LOG_LEVEL_MASK; /* the lower, the worse */
  if (message == NULL || g_log_writer_default_would_drop(level, domain))
    return G_LOG_WRITER_HANDLED;
  g_autofree char *line = g_strdup(message);
  g_strdelimit(line, "\n\r", ' ');
  g_strchomp(line);
  if (g_atomic_int_get(&to_system))
    syslog(priority_of(level), "%s", line);
  else if (verbose || level <= G_LOG_LEVEL_WARNING)
    fprintf(stderr, "quorumfs: %s\n", line);
  if (level <= G_LOG_LEVEL_WARNING) {
    g_mutex_lock(&lock);
    char *former = g_steal_pointer(&last_fault);
    last_fault = g_steal_pointer(&line);
    g_mutex_unlock(&lock);
    g_free(former);
  }
  return G_LOG_WRITER_HANDLED;
}

static void write_fuse_log(enum fuse_log_level level, const char *format, va_list args) {
  g_autofree char *line = g_strdup_vprintf(format, args);
  g_strchomp(line);
  if (level <= FUSE_LOG_WARNING)
    g_warning("%s", line);
  else
    g_message("%s", line);
}

void qfs_log_init(gboolean be_verbose) {
  verbose = be_verbose;
  g_log_set_writer_func(write_log, NULL, NULL);
  fuse_set_log_func(write_fuse_log);
}

void qfs_log_to_system(void) {
  openlog("quorumfs", LOG_PID, LOG_DAEMON);
  g_atomic_int_set(&to_system, TRUE);
}

char *qfs_log_last_fault(void) {
  g_mutex_lock(&lock);
  char *line = g_strdup(last_fault);
  g_mutex_unlock(&lock);
  return line;
}
