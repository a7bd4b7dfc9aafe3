/* control_rpc.c - .quorumfs/rpc: one put or delete of the command line per open handle (control.h).
 *
 * Bytes written are kept until a piece is full and then staged, so that a value of any size passes
 * through bounded memory; the first read publishes. Steps that wait for the engine continue in the
 * thread that completes the request.
 *
 * Threading: one call at a time holds `busy`; whoever holds it owns every other field. A call that
 * comes meanwhile gets EBUSY, and a free that comes meanwhile is done by the holder.
 */
#include "fs/control_private.h"

#include "fs/errno_map.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

/* A key of the greatest length, every byte escaped, beside the verb and a timestamp. */
#define HEADER_BYTES_MAX (3 * QFS_KEY_MAX + 64)
#define STAGE_BYTES (16 * QFS_CHUNK_SIZE)

struct ControlRpc {
  GMutex lock; /* protects busy and closed */
  gboolean busy, closed;

  QfsControl *control;
  uid_t uid;
  gid_t gid;
  GByteArray
      *pending; /* the header, until it is complete; then bytes of the value not yet staged */
  char *key;    /* NULL: no header so far */
  gboolean is_delete, has_timestamp, conditional;
  guint64 timestamp, if_timestamp;
  QfsObjectId object;
  guint64 staged_size;
  gboolean publishing; /* `object` is the engine's from here on, unless it is refused for certain */
  int error;           /* what the handle failed with; it stays */
  GBytes *answer;
  GPtrArray *missing; /* parents that were absent, innermost first */
  gint lookup_turns;  /* see find_missing_parents */

  QfsControlWriteDone write_done; /* the call under way: one of the two */
  QfsControlReadDone read_done;
  gpointer user_data;
  gsize written;
  off_t offset;
  gsize size;
};

static void publish(ControlRpc *rpc);

ControlRpc *control_rpc_new(QfsControl *control, uid_t uid, gid_t gid) {
  ControlRpc *rpc = g_new0(ControlRpc, 1);
  g_mutex_init(&rpc->lock);
  rpc->control = control;
  rpc->uid = uid;
  rpc->gid = gid;
  rpc->pending = g_byte_array_new();
  rpc->missing = g_ptr_array_new_with_free_func(g_free);
  return rpc;
}

static void destroy(ControlRpc *rpc) {
  if (!rpc->publishing && !qfs_object_is_none(rpc->object))
    qfs_engine_discard(rpc->control->engine, rpc->object);
  g_byte_array_unref(rpc->pending);
  g_ptr_array_unref(rpc->missing);
  g_free(rpc->key);
  if (rpc->answer != NULL)
    g_bytes_unref(rpc->answer);
  g_mutex_clear(&rpc->lock);
  g_free(rpc);
}

void control_rpc_free(ControlRpc *rpc) {
  g_mutex_lock(&rpc->lock);
  rpc->closed = TRUE;
  gboolean busy = rpc->busy;
  g_mutex_unlock(&rpc->lock);
  if (!busy)
    destroy(rpc);
}

static gboolean enter(ControlRpc *rpc) {
  g_mutex_lock(&rpc->lock);
  gboolean entered = !rpc->busy && !rpc->closed;
  if (entered)
    rpc->busy = TRUE;
  g_mutex_unlock(&rpc->lock);
  return entered;
}

/* Ends the call under way. The reply goes out last: it may bring the next call, or the close, at
 * once. */
static void leave(ControlRpc *rpc, int error) {
  QfsControlWriteDone write_done = g_steal_pointer(&rpc->write_done);
  QfsControlReadDone read_done = g_steal_pointer(&rpc->read_done);
  gpointer user_data = rpc->user_data;
  gsize written = error == 0 ? rpc->written : 0;
  GBytes *data = NULL;
  if (error != 0)
    rpc->error = error;
  else if (read_done != NULL)
    data = control_slice(rpc->answer, rpc->offset, rpc->size);
  g_mutex_lock(&rpc->lock);
  rpc->busy = FALSE;
  gboolean closed = rpc->closed;
  g_mutex_unlock(&rpc->lock);
  if (closed)
    destroy(rpc);
  if (read_done != NULL)
    read_done(error, data, user_data);
  else
    write_done(error, written, user_data);
}

/* "put TIMESTAMP|- KEY" without the line's end. 0 or an errno. */
static int parse_header(ControlRpc *rpc, const char *text) {
  g_autofree char *line = g_strdup(text);
  if (g_str_has_prefix(line, "put-if ")) {
    g_auto(GStrv) parts = g_strsplit(line, " ", 3);
    if (g_strv_length(parts) != 3 ||
        !g_ascii_string_to_unsigned(parts[1], 10, 0, G_MAXUINT64, &rpc->if_timestamp, NULL))
      return EINVAL;
    rpc->conditional = TRUE;
    g_free(line);
    line = g_strconcat("put ", parts[2], NULL);
  }
  g_auto(GStrv) words = g_strsplit(line, " ", 3);
  if (g_strv_length(words) != 3)
    return EINVAL;
  if (strcmp(words[0], "delete") == 0)
    rpc->is_delete = TRUE;
  else if (strcmp(words[0], "put") != 0)
    return EINVAL;
  if (strcmp(words[1], "-") != 0) {
    if (!g_ascii_string_to_unsigned(words[1], 10, 0, G_MAXUINT64, &rpc->timestamp, NULL))
      return EINVAL;
    rpc->has_timestamp = TRUE;
  }
  g_autoptr(GBytes) raw = g_uri_unescape_bytes(words[2], -1, NULL, NULL);
  if (raw == NULL)
    return EINVAL;
  gsize len;
  const char *bytes = g_bytes_get_data(raw, &len);
  g_autofree char *key = g_strndup(bytes, len);
  gboolean too_long = FALSE;
  if (len == 0 || strlen(key) != len)
    return EINVAL;
  if (!qfs_key_is_valid(key, &too_long))
    return too_long ? ENAMETOOLONG : EINVAL;
  rpc->key = g_steal_pointer(&key);
  return 0;
}

static int take_header(ControlRpc *rpc) {
  const guint8 *end = memchr(rpc->pending->data, '\n', rpc->pending->len);
  if (end == NULL)
    return rpc->pending->len > HEADER_BYTES_MAX ? EINVAL : 0;
  gsize len = (gsize)(end - rpc->pending->data);
  g_autofree char *line = g_strndup((const char *)rpc->pending->data, len);
  int error = strlen(line) == len ? parse_header(rpc, line) : EINVAL;
  g_byte_array_remove_range(rpc->pending, 0, (guint)len + 1);
  return error;
}

static gint64 wall_time_ns(void) {
  return g_get_real_time() * 1000;
}

static void staged(QfsRequest *request, gpointer user_data) {
  ControlRpc *rpc = user_data;
  int error = qfs_status_to_errno(request->status);
  if (error == 0) {
    rpc->object = request->object;
    rpc->staged_size += g_bytes_get_size(request->data);
  }
  qfs_request_free(request);
  if (error == 0 && rpc->read_done != NULL)
    publish(rpc);
  else
    leave(rpc, error);
}

/* The first `len` pending bytes go into the staged object. */
static void stage(ControlRpc *rpc, gsize len) {
  QfsRequest *request = qfs_request_new(QFS_REQUEST_WRITE, rpc->key, staged, rpc);
  request->flags = QFS_WRITE_STAGE;
  request->object = rpc->object;
  request->offset = rpc->staged_size;
  request->data = g_bytes_new(rpc->pending->data, len);
  request->now_ns = wall_time_ns();
  g_byte_array_remove_range(rpc->pending, 0, (guint)len);
  qfs_engine_submit(rpc->control->engine, request);
}

void control_rpc_write(ControlRpc *rpc, GBytes *data, QfsControlWriteDone done,
                       gpointer user_data) {
  if (!enter(rpc)) {
    done(EBUSY, 0, user_data);
    return;
  }
  gsize len;
  const guint8 *bytes = g_bytes_get_data(data, &len);
  rpc->write_done = done;
  rpc->user_data = user_data;
  rpc->written = len;
  int error = rpc->answer != NULL ? EINVAL : rpc->error;
  if (error == 0 && len > 0) {
    g_byte_array_append(rpc->pending, bytes, (guint)len);
    if (rpc->key == NULL)
      error = take_header(rpc);
    if (error == 0 && rpc->is_delete && rpc->pending->len > 0)
      error = EINVAL;
  }
  if (error == 0 && rpc->key != NULL && rpc->pending->len >= STAGE_BYTES)
    stage(rpc, rpc->pending->len - rpc->pending->len % QFS_CHUNK_SIZE);
  else
    leave(rpc, error);
}

static void published(QfsRequest *request, gpointer user_data) {
  ControlRpc *rpc = user_data;
  QfsControl *control = rpc->control;
  int error = qfs_status_to_errno(request->status);
  gboolean perhaps_applied = request->status == QFS_OK || request->status == QFS_UNKNOWN;
  if (!perhaps_applied || request->superseded)
    rpc->publishing = FALSE;
  if (perhaps_applied && control->changed != NULL) {
    for (guint i = rpc->missing->len; i-- > 0;)
      control->changed(g_ptr_array_index(rpc->missing, i), control->user_data);
    control->changed(rpc->key, control->user_data);
    if (request->record != NULL && strcmp(request->record->key, rpc->key) != 0)
      control->changed(request->record->key, control->user_data); /* the file that it names */
  }
  guint64 timestamp = request->superseded       ? request->superseded_by
                      : request->record != NULL ? request->record->timestamp
                                                : request->timestamp;
  const char *explanation = qfs_control_explain(error);
  g_autofree char *stale = NULL;
  if (request->status == QFS_STALE && qfs_record_exists(request->record))
    explanation = stale = g_strdup_printf("the stored timestamp is %" G_GUINT64_FORMAT, request->record->timestamp);
  else if (request->status == QFS_STALE)
    explanation = "there is no such key";
  else if (explanation != NULL)
    g_warning("%s of '%s' failed: %s", rpc->is_delete ? "delete" : "put", rpc->key,
              qfs_status_name(request->status));
  char *answer =
      error != 0 ? g_strdup_printf("error %d %s\n", error, explanation != NULL ? explanation : "")
                 : g_strdup_printf("%s %" G_GUINT64_FORMAT "\n",
                                   request->superseded ? "superseded" : "applied", timestamp);
  qfs_request_free(request);
  rpc->answer = g_bytes_new_take(answer, strlen(answer));
  leave(rpc, 0);
}

static void send_request(ControlRpc *rpc) {
  QfsRequest *request = qfs_request_new(rpc->is_delete ? QFS_REQUEST_REMOVE : QFS_REQUEST_WRITE,
                                        rpc->key, published, rpc);
  request->now_ns = wall_time_ns();
  request->timestamp = rpc->timestamp;
  if (rpc->is_delete) {
    request->flags = QFS_REMOVE_ANY | (rpc->has_timestamp ? QFS_REMOVE_TIMESTAMP : 0);
  } else {
    request->flags = QFS_WRITE_REPLACE | QFS_WRITE_CREATE | QFS_WRITE_PARENTS |
                     (rpc->has_timestamp ? QFS_WRITE_TIMESTAMP : 0);
    request->kind = QFS_KIND_VALUE;
    request->attr = (QfsAttr){.mode = S_IFREG | 0644, .uid = rpc->uid, .gid = rpc->gid};
    request->attr.atime_ns = request->attr.mtime_ns = request->now_ns;
    request->attr.ctime_ns = request->attr.btime_ns = request->now_ns;
    if (rpc->conditional) {
      request->flags |= QFS_WRITE_IF_TIMESTAMP;
      request->if_timestamp = rpc->if_timestamp;
      if (rpc->if_timestamp != 0) /* what must be there has parents */
        request->flags &= ~(guint)QFS_WRITE_PARENTS;
    }
    if (qfs_object_is_none(rpc->object)) {
      request->data = g_bytes_new(rpc->pending->data, rpc->pending->len);
      request->length = rpc->pending->len;
    } else {
      request->flags |= QFS_WRITE_STAGED;
      request->object = rpc->object;
      request->staged_size = rpc->staged_size;
    }
    rpc->publishing = TRUE;
  }
  qfs_engine_submit(rpc->control->engine, request);
}

/* A put makes missing parents, and the kernel may remember that they were missing: so ask, from the
 * key upwards, until one is there. A lookup that is answered within submit must not nest the next
 * one: of the submitter and the answer, whoever comes second goes on. */
static void find_missing_parents(ControlRpc *rpc, char *parent);

static void parent_answered(QfsRequest *request, gpointer user_data) {
  ControlRpc *rpc = user_data;
  g_ptr_array_add(rpc->missing, request->status == QFS_NOT_FOUND ? g_strdup(request->key) : NULL);
  qfs_request_free(request);
  if (g_atomic_int_dec_and_test(&rpc->lookup_turns))
    find_missing_parents(rpc, NULL);
}

static void find_missing_parents(ControlRpc *rpc, char *parent) {
  for (;;) {
    if (parent == NULL) {
      const char *last = g_ptr_array_index(rpc->missing, rpc->missing->len - 1);
      if (last == NULL) {
        g_ptr_array_set_size(rpc->missing, (gint)rpc->missing->len - 1);
        break;
      }
      parent = qfs_key_parent(last);
    }
    if (*parent == '\0')
      break;
    QfsRequest *request = qfs_request_new(QFS_REQUEST_GET, parent, parent_answered, rpc);
    g_clear_pointer(&parent, g_free);
    g_atomic_int_set(&rpc->lookup_turns, 2);
    qfs_engine_submit(rpc->control->engine, request);
    if (!g_atomic_int_dec_and_test(&rpc->lookup_turns))
      return;
  }
  g_free(parent);
  send_request(rpc);
}

static void publish(ControlRpc *rpc) {
  if (rpc->is_delete || (rpc->conditional && rpc->if_timestamp != 0))
    send_request(rpc);
  else
    find_missing_parents(rpc, qfs_key_parent(rpc->key));
}

void control_rpc_read(ControlRpc *rpc, off_t offset, gsize size, QfsControlReadDone done,
                      gpointer user_data) {
  if (!enter(rpc)) {
    done(EBUSY, NULL, user_data);
    return;
  }
  rpc->read_done = done;
  rpc->user_data = user_data;
  rpc->offset = offset;
  rpc->size = size;
  if (rpc->error != 0)
    leave(rpc, rpc->error);
  else if (rpc->answer != NULL)
    leave(rpc, 0);
  else if (rpc->key == NULL)
    leave(rpc, EINVAL);
  else if (!qfs_object_is_none(rpc->object) && rpc->pending->len > 0)
    stage(rpc, rpc->pending->len);
  else
    publish(rpc);
}
