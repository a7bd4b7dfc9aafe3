/* ops_xattr.c - extended attributes. Those in the table below are virtual: computed when asked for, never listed,
 * never stored. All names that begin with "user.quorumfs." are theirs; a record holds the others (xattr_stored.c). */
#include "fs/handle.h"
#include "fs/ops_control.h"
#include "fs/xattr_stored.h"

#include <string.h>

#define OWN_PREFIX "user.quorumfs."

typedef struct {
  const char *name; /* behind the prefix */
  /* Of the current version `record`; newly allocated, NULL: the file has none. Or NULL: it can't be read. */
  char *(*of_record)(const QfsRecord *record);
  /* Of the key, without its record; blocks on replicas. Or NULL. */
  char *(*of_key)(QfsFs *fs, const char *key);
  /* Takes the value; 0 or an errno. Or NULL: it can't be set. */
  int (*set)(QfsFs *fs, QfsInode *inode, const char *key, pid_t thread, const char *value);
} Virtual;

/* ---- what they say ---- */

static char *timestamp_of(const QfsRecord *record) {
  return g_strdup_printf("%" G_GUINT64_FORMAT, record->timestamp);
}

/* Versions of a key with the same text are the same, byte for byte and attribute for attribute. */
static char *version_of(const QfsRecord *record) {
  return g_strdup_printf("%" G_GUINT64_FORMAT "-%016" G_GINT64_MODIFIER "x", record->timestamp,
                         qfs_record_version_digest(record));
}

static char *birthtime_of(const QfsRecord *record) {
  const gint64 second = G_GINT64_CONSTANT(1000000000);
  gint64 seconds = record->attr.btime_ns / second, rest = record->attr.btime_ns % second;
  if (rest < 0) {
    rest += second;
    seconds--;
  }
  return g_strdup_printf("%" G_GINT64_FORMAT ".%09" G_GINT64_FORMAT, seconds, rest);
}

static gboolean get_record(QfsReplica *reader, gpointer data, GError **error) {
  QfsRecord **record = data;
  g_autofree char *key = g_steal_pointer(&(*record)->key); /* what is asked for */
  qfs_record_unref(*record);
  *record = NULL;
  return reader->ops->record_get(reader, key, record, error);
}

/* "1=TIMESTAMP", "=deleted:TIMESTAMP", "=none", "=down", "=failed". */
static void append_node(QfsFs *fs, GString *text, guint node, const char *key, gboolean is_holder) {
  QfsEngine *engine = fs->engine;
  g_autoptr(QfsRecord) record = qfs_record_new(key);
  g_autofree char *reason = NULL;
  QfsStatus status = engine->ops->inspect(engine, node, get_record, &record, &reason);
  gboolean has = status == QFS_OK && record != NULL;
  if (!is_holder && !has)
    return;
  g_string_append_printf(text, "%s%u=", text->len > 0 ? " " : "", node);
  if (has)
    g_string_append_printf(text, "%s%" G_GUINT64_FORMAT, record->kind == QFS_KIND_TOMBSTONE ? "deleted:" : "",
                           record->timestamp);
  else
    g_string_append(text, status == QFS_OK ? "none" : status == QFS_NO_QUORUM ? "down" : "failed");
}

static char *replicas_of(QfsFs *fs, const char *key) {
  QfsEngine *engine = fs->engine;
  if (engine->ops->inspect == NULL || engine->ops->holders == NULL)
    return NULL;
  QfsNodeSet holders = engine->ops->holders(engine, key);
  GString *text = g_string_new(NULL);
  for (guint node = 1; node <= engine->config.nodes; node++)
    append_node(fs, text, node, key, (holders >> (node - 1)) & 1);
  return g_string_free(text, FALSE);
}

static int set_if_timestamp(QfsFs *fs, QfsInode *inode, const char *key, pid_t thread, const char *value) {
  guint64 timestamp;
  if (!S_ISREG(inode->mode) || !g_ascii_string_to_unsigned(value, 10, 0, G_MAXUINT64, &timestamp, NULL))
    return EINVAL;
  return qfs_conditions_set(fs->conditions, inode->ino, key, thread, timestamp);
}

static const Virtual table[] = {
    {"timestamp", timestamp_of, NULL, NULL},
    {"version", version_of, NULL, NULL},
    {"birthtime", birthtime_of, NULL, NULL},
    {"replicas", NULL, replicas_of, NULL},
    {"if-timestamp", NULL, NULL, set_if_timestamp},
};

static const Virtual *find(const char *name) {
  if (!g_str_has_prefix(name, OWN_PREFIX))
    return NULL;
  for (gsize i = 0; i < G_N_ELEMENTS(table); i++)
    if (strcmp(name + strlen(OWN_PREFIX), table[i].name) == 0)
      return &table[i];
  return NULL;
}

/* ---- get ---- */

static void reply_value(QfsCall *call, const char *value) {
  gsize len = value != NULL ? strlen(value) : 0;
  if (value == NULL || (call->size > 0 && len > call->size)) {
    qfs_call_reply_errno(call, value == NULL ? ENODATA : ERANGE);
    return;
  }
  if (!qfs_call_claim(call)) {
    qfs_call_end_late(call);
    return;
  }
  if (call->size == 0)
    fuse_reply_xattr(call->req, len);
  else
    fuse_reply_buf(call->req, value, len);
  qfs_call_end(call);
}

static void got_record(QfsCall *call, QfsRequest *request) {
  if (request->status != QFS_OK && request->status != QFS_NOT_FOUND) {
    qfs_call_reply_status(call, "getxattr", request->status);
    return;
  }
  g_autofree char *value = request->status == QFS_OK ? find(call->name)->of_record(request->record) : NULL;
  reply_value(call, value);
}

static void run_getxattr(QfsCall *call) {
  QfsFs *fs = call->fs;
  const Virtual *attribute = find(call->name);
  g_mutex_lock(&fs->lock);
  /* Not yet published, or renamed over: there is no such version. */
  g_autofree char *key = call->inode->pending ? NULL : g_strdup(call->inode->key);
  g_mutex_unlock(&fs->lock);
  if (key != NULL && attribute->of_key != NULL) {
    g_autofree char *value = attribute->of_key(fs, key);
    reply_value(call, value);
  } else if (key != NULL && attribute->of_record != NULL) {
    qfs_call_submit(call, qfs_request_new(QFS_REQUEST_GET, key, NULL, NULL), got_record);
  } else {
    reply_value(call, NULL);
  }
}

static gboolean is_own(const char *name) {
  return g_str_has_prefix(name, OWN_PREFIX);
}

static void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size) {
  if (!is_own(name)) {
    qfs_stored_getxattr(req, ino, name, size);
    return;
  }
  if (find(name) == NULL) {
    fuse_reply_err(req, ENODATA);
    return;
  }
  QfsCall *call = qfs_call_new(req, run_getxattr);
  call->inode = qfs_inode_get(call->fs, ino);
  call->name = g_strdup(name);
  call->size = size;
  if (call->inode == NULL || call->inode->control)
    qfs_call_reply_errno(call, call->inode == NULL ? ESTALE : ENODATA);
  else
    run_getxattr(call);
}

static void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size) {
  qfs_stored_getxattr(req, ino, NULL, size);
}

/* ---- set ---- */

static void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size, int flags) {
  QfsFs *fs = fuse_req_userdata(req);
  const Virtual *attribute = find(name);
  if (!is_own(name)) {
    qfs_stored_setxattr(req, ino, name, value, size, flags);
    return;
  }
  if (attribute == NULL || attribute->set == NULL) {
    fuse_reply_err(req, EPERM);
    return;
  }
  QfsInode *inode = qfs_inode_get(fs, ino);
  if (inode == NULL || inode->control) {
    fuse_reply_err(req, inode == NULL ? ESTALE : EPERM);
    qfs_inode_unref(fs, inode);
    return;
  }
  g_autofree char *text = g_strndup(value, size);
  g_mutex_lock(&fs->lock);
  g_autofree char *key = g_strdup(inode->key);
  g_mutex_unlock(&fs->lock);
  int error = strlen(text) != size ? EINVAL : attribute->set(fs, inode, key, fuse_req_ctx(req)->pid, text);
  qfs_inode_unref(fs, inode);
  fuse_reply_err(req, error);
}

static void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name) {
  if (is_own(name))
    fuse_reply_err(req, EPERM);
  else
    qfs_stored_removexattr(req, ino, name);
}

void qfs_ops_xattr_init(struct fuse_lowlevel_ops *ops) {
  ops->getxattr = op_getxattr;
  ops->listxattr = op_listxattr;
  ops->setxattr = op_setxattr;
  ops->removexattr = op_removexattr;
}
