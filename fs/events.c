/* events.c - see events.h. `lock` guards everything but constants; tokens are given back after it was released. */
#include "fs/events.h"

#include <errno.h>
#include <string.h>

struct QfsEvents {
  QfsEventsWake wake;
  gpointer user_data;
  gsize bytes_max;
  GMutex lock;
  char *ring;        /* byte N of the file is ring[N % bytes_max]; NULL: nothing was added yet */
  guint64 start;     /* the oldest line that is kept begins here */
  guint64 size;
  guint64 dropped;   /* lines before `start` */
  GQueue waiting;    /* readers with a token */
};

struct QfsEventsReader {
  QfsEvents *events;
  guint64 shift;     /* offset + shift is the place in the file, modulo 2^64 */
  guint64 end;       /* behind what was read last */
  guint64 seen;      /* ends of lines up to there */
  gboolean within;   /* it is inside of a line */
  char *gap;         /* "0 lost N\n", which it gets at the offset gap_at; or NULL */
  guint64 gap_at;
  gpointer token;
  GList link;        /* in events->waiting while it has a token */
};

/* ---- text ---- */

void qfs_events_escape(GString *out, const char *key) {
  static const char plain[] = "\\\n\t\r", escaped[] = "\\ntr";
  for (const char *c = key; *c != '\0'; c++) {
    const char *at = strchr(plain, *c);
    if (at != NULL)
      g_string_append_printf(out, "\\%c", escaped[at - plain]);
    else if ((guchar)*c < 0x20 || *c == 0x7f)
      g_string_append_printf(out, "\\0%03o", (guchar)*c);
    else
      g_string_append_c(out, *c);
  }
}

char *qfs_events_unescape(const char *text, gsize len) {
  static const char plain[] = "\\\n\t\r", escaped[] = "\\ntr";
  GString *out = g_string_sized_new(len);
  for (gsize i = 0; i < len; i++) {
    const char *at = text[i] == '\\' && i + 1 < len ? strchr(escaped, text[i + 1]) : NULL;
    if (at != NULL && *at != '\0') {
      g_string_append_c(out, plain[at - escaped]);
      i++;
    } else if (text[i] == '\\' && i + 4 < len && text[i + 1] == '0') {
      int value = (text[i + 2] - '0') * 64 + (text[i + 3] - '0') * 8 + text[i + 4] - '0';
      g_string_append_c(out, (char)value);
      i += 4;
    } else {
      g_string_append_c(out, text[i]);
    }
  }
  return g_string_free(out, FALSE);
}

static GString *line_of(const QfsChange *change, const char *key, const char *former_key) {
  GString *line = g_string_new(NULL);
  g_string_append_printf(line, "%" G_GUINT64_FORMAT " %s ", change->record->timestamp,
                         qfs_change_kind_name(change->kind));
  if (change->kind == QFS_CHANGE_RENAME || change->kind == QFS_CHANGE_LINK) {
    qfs_events_escape(line, former_key);
    g_string_append_c(line, '\t');
  }
  qfs_events_escape(line, *key != '\0' ? key : ".");
  g_string_append_c(line, '\n');
  return line;
}

/* ---- the ring ---- */

static void copy_in_locked(QfsEvents *events, const char *text, gsize len) {
  gsize at = events->size % events->bytes_max, first = MIN(len, events->bytes_max - at);
  memcpy(events->ring + at, text, first);
  memcpy(events->ring, text + first, len - first);
}

static void copy_out_locked(const QfsEvents *events, guint64 from, char *out, gsize len) {
  gsize at = from % events->bytes_max, first = MIN(len, events->bytes_max - at);
  memcpy(out, events->ring + at, first);
  memcpy(out + first, events->ring, len - first);
}

static void drop_oldest_locked(QfsEvents *events) {
  while (events->ring[events->start++ % events->bytes_max] != '\n')
    ;
  events->dropped++;
}

static guint64 count_lines_locked(const QfsEvents *events, guint64 from, guint64 to) {
  guint64 n = 0;
  for (guint64 i = from; i < to; i++)
    n += events->ring[i % events->bytes_max] == '\n';
  return n;
}

QfsEvents *qfs_events_new(gsize bytes_max, QfsEventsWake wake, gpointer user_data) {
  QfsEvents *events = g_new0(QfsEvents, 1);
  events->bytes_max = bytes_max;
  events->wake = wake;
  events->user_data = user_data;
  g_mutex_init(&events->lock);
  g_queue_init(&events->waiting);
  return events;
}

void qfs_events_free(QfsEvents *events) {
  if (events == NULL)
    return;
  g_assert(g_queue_is_empty(&events->waiting));
  g_mutex_clear(&events->lock);
  g_free(events->ring);
  g_free(events);
}

static gpointer take_token_locked(QfsEventsReader *reader) {
  if (reader->token != NULL)
    g_queue_unlink(&reader->events->waiting, &reader->link);
  return g_steal_pointer(&reader->token);
}

/* NULL: nobody waits. */
static gpointer take_waiting_locked(QfsEvents *events) {
  GList *first = events->waiting.head;
  return first != NULL ? take_token_locked(first->data) : NULL;
}

void qfs_events_add(QfsEvents *events, const QfsChange *change) {
  qfs_events_add_as(events, change, change->record->key, change->former_key);
}

void qfs_events_add_as(QfsEvents *events, const QfsChange *change, const char *key, const char *former_key) {
  GString *line = line_of(change, key, former_key);
  g_assert(line->len <= events->bytes_max);
  GSList *woken = NULL;
  g_mutex_lock(&events->lock);
  if (events->ring == NULL)
    events->ring = g_malloc(events->bytes_max);
  while (events->size + line->len - events->start > events->bytes_max)
    drop_oldest_locked(events);
  copy_in_locked(events, line->str, line->len);
  events->size += line->len;
  for (gpointer token = take_waiting_locked(events); token != NULL; token = take_waiting_locked(events))
    woken = g_slist_prepend(woken, token);
  g_mutex_unlock(&events->lock);
  for (GSList *l = woken; l != NULL; l = l->next)
    events->wake(l->data, TRUE, events->user_data);
  g_slist_free(woken);
  g_string_free(line, TRUE);
}

guint64 qfs_events_size(QfsEvents *events) {
  g_mutex_lock(&events->lock);
  guint64 size = events->size;
  g_mutex_unlock(&events->lock);
  return size;
}

/* ---- readers ---- */

QfsEventsReader *qfs_events_open(QfsEvents *events) {
  QfsEventsReader *reader = g_new0(QfsEventsReader, 1);
  reader->events = events;
  reader->link.data = reader;
  return reader;
}

static void give_back(QfsEvents *events, gpointer token) {
  if (token != NULL)
    events->wake(token, FALSE, events->user_data);
}

void qfs_events_close(QfsEventsReader *reader) {
  if (reader == NULL)
    return;
  QfsEvents *events = reader->events;
  g_mutex_lock(&events->lock);
  gpointer token = take_token_locked(reader);
  g_mutex_unlock(&events->lock);
  give_back(events, token);
  g_free(reader->gap);
  g_free(reader);
}

/* The reader went on at `offset`, and what it was about to read is gone. */
static void make_gap_locked(QfsEventsReader *reader, guint64 offset) {
  const QfsEvents *events = reader->events;
  g_free(reader->gap);
  reader->gap = g_strdup_printf("%s0 lost %" G_GUINT64_FORMAT "\n", reader->within ? "\n" : "",
                                events->dropped - reader->seen);
  reader->gap_at = offset;
  reader->shift = events->start - (offset + strlen(reader->gap));
  reader->end = events->start;
  reader->seen = events->dropped;
  reader->within = FALSE;
}

/* The rest of the line about what was lost; NULL: `offset` is elsewhere. */
static GBytes *read_gap(const QfsEventsReader *reader, guint64 offset, gsize size) {
  gsize len = reader->gap != NULL ? strlen(reader->gap) : 0;
  if (offset < reader->gap_at || offset - reader->gap_at >= len)
    return NULL;
  gsize from = offset - reader->gap_at;
  return g_bytes_new(reader->gap + from, MIN(size, len - from));
}

static GBytes *read_locked(QfsEventsReader *reader, guint64 from, gsize size) {
  const QfsEvents *events = reader->events;
  gsize len = from < events->size ? MIN(size, events->size - from) : 0;
  char *text = g_malloc(MAX(len, 1));
  if (len > 0)
    copy_out_locked(events, from, text, len);
  if (from != reader->end) {
    guint64 known = MIN(from, events->size);
    reader->seen = events->dropped + count_lines_locked(events, events->start, known);
    reader->within = known > events->start && events->ring[(known - 1) % events->bytes_max] != '\n';
  }
  for (gsize i = 0; i < len; i++)
    reader->seen += text[i] == '\n';
  if (len > 0)
    reader->within = text[len - 1] != '\n';
  reader->end = from + len;
  return g_bytes_new_take(text, len);
}

int qfs_events_read(QfsEventsReader *reader, guint64 offset, gsize size, GBytes **out_data) {
  QfsEvents *events = reader->events;
  int error = 0;
  g_mutex_lock(&events->lock);
  GBytes *data = read_gap(reader, offset, size);
  guint64 from = offset + reader->shift;
  if (data == NULL && from < events->start && offset == 0) {
    from = reader->shift = events->start;
  } else if (data == NULL && from < events->start) {
    if (from == reader->end) {
      make_gap_locked(reader, offset);
      data = read_gap(reader, offset, size);
    } else {
      error = ENODATA;
    }
  }
  if (data == NULL && error == 0)
    data = read_locked(reader, from, size);
  g_mutex_unlock(&events->lock);
  if (error == 0)
    *out_data = data;
  return error;
}

gboolean qfs_events_poll(QfsEventsReader *reader, gpointer token) {
  QfsEvents *events = reader->events;
  g_mutex_lock(&events->lock);
  gpointer former = take_token_locked(reader);
  gboolean readable = reader->end < events->size;
  if (!readable && token != NULL) {
    reader->token = token;
    g_queue_push_tail_link(&events->waiting, &reader->link);
  }
  g_mutex_unlock(&events->lock);
  give_back(events, former);
  if (readable)
    give_back(events, token);
  return readable;
}
