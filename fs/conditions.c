/* conditions.c - see conditions.h. */
#include "fs/conditions.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define ANCESTORS_MAX 8
#define INIT 1

typedef struct {
  struct {
    pid_t process;
    guint64 start;
  } at[ANCESTORS_MAX]; /* the parent first; without init */
  guint n;
} Ancestors;

typedef struct {
  guint64 id;
  guint64 file;
  char *key;
  guint64 timestamp;
  gboolean refused; /* an open, which the kernel may repeat */
  QfsProcess owner;
  Ancestors above;
} Condition;

struct QfsConditions {
  QfsProcessRead read;
  gint count; /* atomic: length of the queue */
  GMutex lock;
  guint64 next_id; /* lock */
  GQueue queue;    /* lock: Condition, the latest last */
};

/* ---- processes ---- */

/* Parent, state and start of a process from /proc/N/stat; the name in it may hold anything. */
static gboolean read_stat(pid_t process, char *out_state, pid_t *out_parent, guint64 *out_start) {
  g_autofree char *path = g_strdup_printf("/proc/%d/stat", (int)process);
  g_autofree char *text = NULL;
  if (!g_file_get_contents(path, &text, NULL, NULL))
    return FALSE;
  const char *after = strrchr(text, ')');
  int parent;
  unsigned long long start;
  if (after == NULL || sscanf(after + 1, " %c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
                              out_state, &parent, &start) != 3)
    return FALSE;
  *out_parent = parent;
  *out_start = start;
  return TRUE;
}

static gboolean read_process_of(pid_t thread, pid_t *out_process) {
  g_autofree char *path = g_strdup_printf("/proc/%d/status", (int)thread);
  g_autofree char *text = NULL;
  int process;
  if (!g_file_get_contents(path, &text, NULL, NULL))
    return FALSE;
  const char *line = strstr(text, "\nTgid:");
  if (line == NULL || sscanf(line, "\nTgid: %d", &process) != 1)
    return FALSE;
  *out_process = process;
  return TRUE;
}

gboolean qfs_process_read(pid_t thread, QfsProcess *out) {
  char state;
  pid_t grandparent;
  *out = (QfsProcess){.thread = thread};
  if (thread <= 0 || !read_process_of(thread, &out->process) ||
      !read_stat(out->process, &state, &out->parent, &out->start) || state == 'Z' || state == 'X')
    return FALSE;
  if (!read_stat(out->parent, &state, &grandparent, &out->parent_start))
    out->parent = 0;
  return TRUE;
}

/* ---- conditions ---- */

static void condition_free(gpointer data) {
  Condition *condition = data;
  g_free(condition->key);
  g_slice_free(Condition, condition);
}

QfsConditions *qfs_conditions_new(QfsProcessRead read) {
  QfsConditions *conditions = g_new0(QfsConditions, 1);
  conditions->read = read;
  g_mutex_init(&conditions->lock);
  g_queue_init(&conditions->queue);
  return conditions;
}

void qfs_conditions_free(QfsConditions *conditions) {
  if (conditions == NULL)
    return;
  g_queue_clear_full(&conditions->queue, condition_free);
  g_mutex_clear(&conditions->lock);
  g_free(conditions);
}

static gboolean is_alive(const QfsConditions *conditions, pid_t process, guint64 start) {
  QfsProcess now;
  return process > 0 && conditions->read(process, &now) && now.start == start;
}

gboolean qfs_conditions_any(const QfsConditions *conditions) {
  return g_atomic_int_get(&conditions->count) > 0;
}

/* Copies (their keys are not), so that processes can be looked at without the lock. Neither file nor key: all. */
static GArray *copies(QfsConditions *conditions, guint64 file, const char *key) {
  GArray *out = g_array_new(FALSE, FALSE, sizeof(Condition));
  g_mutex_lock(&conditions->lock);
  for (GList *l = conditions->queue.head; l != NULL; l = l->next) {
    const Condition *condition = l->data;
    gboolean same = (file != 0 && condition->file == file) ||
                    (key != NULL && g_strcmp0(condition->key, key) == 0);
    if (same || (file == 0 && key == NULL))
      g_array_append_val(out, *condition);
  }
  g_mutex_unlock(&conditions->lock);
  return out;
}

static void drop(QfsConditions *conditions, guint64 id) {
  g_mutex_lock(&conditions->lock);
  for (GList *l = conditions->queue.head; l != NULL; l = l->next) {
    Condition *condition = l->data;
    if (condition->id != id)
      continue;
    g_queue_delete_link(&conditions->queue, l);
    condition_free(condition);
    g_atomic_int_add(&conditions->count, -1);
    break;
  }
  g_mutex_unlock(&conditions->lock);
}

/* Who may use the condition up beside the owner's process: 0: it still lives itself; -1: nobody. */
static pid_t heir(const QfsConditions *conditions, const Condition *condition, guint64 *out_start) {
  if (is_alive(conditions, condition->owner.process, condition->owner.start))
    return 0;
  for (guint i = 0; i < condition->above.n; i++) {
    if (!is_alive(conditions, condition->above.at[i].process, condition->above.at[i].start))
      continue;
    *out_start = condition->above.at[i].start;
    return condition->above.at[i].process;
  }
  return -1;
}

static Ancestors ancestors_of(const QfsConditions *conditions, const QfsProcess *process) {
  Ancestors out = {.n = 0};
  QfsProcess at = *process;
  while (at.parent > INIT && out.n < ANCESTORS_MAX) {
    out.at[out.n].process = at.parent;
    out.at[out.n++].start = at.parent_start;
    if (!conditions->read(at.parent, &at))
      break;
  }
  return out;
}

static gboolean is_or_comes_from(const QfsProcess *writer, const Ancestors *above, pid_t process, guint64 start) {
  gboolean found = writer->process == process && writer->start == start;
  for (guint i = 0; i < above->n && !found; i++)
    found = above->at[i].process == process && above->at[i].start == start;
  return found;
}

static void drop_orphans(QfsConditions *conditions) {
  g_autoptr(GArray) all = copies(conditions, 0, NULL);
  for (guint i = 0; i < all->len; i++) {
    const Condition *condition = &g_array_index(all, Condition, i);
    guint64 start;
    if (heir(conditions, condition, &start) < 0)
      drop(conditions, condition->id);
  }
}

int qfs_conditions_set(QfsConditions *conditions, guint64 file, const char *key, pid_t thread, guint64 timestamp) {
  QfsProcess owner;
  if (!conditions->read(thread, &owner))
    return EOPNOTSUPP;
  g_autoptr(GArray) same = copies(conditions, file, key);
  for (guint i = 0; i < same->len; i++) {
    const Condition *condition = &g_array_index(same, Condition, i);
    if (condition->owner.thread == thread && condition->owner.start == owner.start)
      drop(conditions, condition->id);
  }
  drop_orphans(conditions);
  if (g_atomic_int_get(&conditions->count) >= QFS_CONDITIONS_MAX)
    return ENOSPC;
  Condition *condition = g_slice_new0(Condition);
  condition->file = file;
  condition->key = g_strdup(key);
  condition->timestamp = timestamp;
  condition->owner = owner;
  condition->above = ancestors_of(conditions, &owner);
  g_mutex_lock(&conditions->lock);
  condition->id = ++conditions->next_id;
  g_queue_push_tail(&conditions->queue, condition);
  g_atomic_int_inc(&conditions->count);
  g_mutex_unlock(&conditions->lock);
  return 0;
}

/* How does the condition fit a write by the writer? The greatest counts. */
typedef enum { FIT_NOT, FIT_ANCESTOR, FIT_PROCESS, FIT_UNCLEAR, FIT_THREAD } Fit;

static gboolean thread_lives(const QfsConditions *conditions, const QfsProcess *owner) {
  QfsProcess now;
  return conditions->read(owner->thread, &now) && now.process == owner->process;
}

static Fit fit(const QfsConditions *conditions, const Condition *condition, const QfsProcess *writer,
               const Ancestors *above) {
  const QfsProcess *owner = &condition->owner;
  guint64 start = 0;
  pid_t other = heir(conditions, condition, &start);
  if (other == 0) {
    if (!is_or_comes_from(writer, above, owner->process, owner->start))
      return FIT_NOT;
    if (writer->thread == owner->thread)
      return FIT_THREAD;
    return writer->process == owner->process && thread_lives(conditions, owner) ? FIT_UNCLEAR : FIT_PROCESS;
  }
  return other > 0 && is_or_comes_from(writer, above, other, start) ? FIT_ANCESTOR : FIT_NOT;
}

/* The id of the condition; the others that it makes void are dropped. */
QfsConditionMatch qfs_conditions_look(QfsConditions *conditions, guint64 file, const char *key, pid_t thread,
                                      guint64 *out_timestamp, guint64 *out_id) {
  g_autoptr(GArray) some = copies(conditions, file, key);
  QfsProcess writer;
  if (some->len == 0 || !conditions->read(thread, &writer))
    return QFS_CONDITION_NONE;
  Ancestors above = ancestors_of(conditions, &writer);
  Fit best = FIT_NOT;
  const Condition *chosen = NULL;
  gboolean differ = FALSE;
  for (guint i = 0; i < some->len; i++) {
    const Condition *condition = &g_array_index(some, Condition, i);
    Fit how = fit(conditions, condition, &writer, &above);
    if (how == FIT_NOT || how < best)
      continue;
    /* A script that set it twice means the latest. */
    if (how == FIT_ANCESTOR && chosen != NULL)
      drop(conditions, chosen->id);
    differ = how == best && how == FIT_PROCESS && (differ || condition->timestamp != chosen->timestamp);
    best = how;
    chosen = condition;
  }
  if (chosen == NULL)
    return QFS_CONDITION_NONE;
  if (differ || best == FIT_UNCLEAR)
    return QFS_CONDITION_UNCLEAR;
  *out_timestamp = chosen->timestamp;
  *out_id = chosen->id;
  return QFS_CONDITION_FOUND;
}

QfsConditionMatch qfs_conditions_take(QfsConditions *conditions, guint64 file, const char *key, pid_t thread,
                                      guint64 *out_timestamp) {
  guint64 id;
  QfsConditionMatch match = qfs_conditions_look(conditions, file, key, thread, out_timestamp, &id);
  if (match == QFS_CONDITION_FOUND)
    drop(conditions, id);
  return match;
}

void qfs_conditions_used(QfsConditions *conditions, guint64 id) {
  if (id != 0)
    drop(conditions, id);
}

void qfs_conditions_refused(QfsConditions *conditions, guint64 id) {
  gboolean again = FALSE;
  g_mutex_lock(&conditions->lock);
  for (GList *l = conditions->queue.head; l != NULL; l = l->next) {
    Condition *condition = l->data;
    if (condition->id == id) {
      again = condition->refused;
      condition->refused = TRUE;
    }
  }
  g_mutex_unlock(&conditions->lock);
  if (again)
    drop(conditions, id);
}
