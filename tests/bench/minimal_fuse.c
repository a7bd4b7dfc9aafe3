/* minimal_fuse.c - the least that a FUSE filesystem can do, on libfuse's own loop: the bound that others are compared with.
 *
 *   minimal_fuse MOUNTPOINT [FUSE OPTIONS]
 *
 * One directory of files in memory. A get of a known file is one request (OPEN; pages, attributes and names stay with
 * the kernel, there is no FLUSH, and RELEASE is not waited for); a put is OPEN or CREATE and WRITE. Nothing is
 * stored, replicated or checked, nothing is ever forgotten.
 */
#define FUSE_USE_VERSION 314
#include <errno.h>
#include <fuse_lowlevel.h>
#include <glib.h>
#include <string.h>

#define FOREVER 1e6

typedef struct {
  GByteArray *data;
  fuse_ino_t ino;
} File;

static GMutex lock;
static GHashTable *by_name, *by_ino;
static fuse_ino_t next_ino = FUSE_ROOT_ID + 1;

static void fill_stat(const File *file, struct stat *st) {
  memset(st, 0, sizeof *st);
  st->st_ino = file != NULL ? file->ino : FUSE_ROOT_ID;
  st->st_mode = file != NULL ? S_IFREG | 0644 : S_IFDIR | 0755;
  st->st_nlink = file != NULL ? 1 : 2;
  st->st_size = file != NULL ? file->data->len : 0;
  st->st_blksize = 4096;
}

static struct fuse_entry_param entry_of(const File *file) {
  struct fuse_entry_param entry = {.ino = file->ino, .attr_timeout = FOREVER, .entry_timeout = FOREVER};
  fill_stat(file, &entry.attr);
  return entry;
}

static File *file_of(fuse_ino_t ino) { return g_hash_table_lookup(by_ino, GSIZE_TO_POINTER(ino)); }

static void minimal_init(void *data, struct fuse_conn_info *conn) {
  conn->want |= conn->capable & FUSE_CAP_ATOMIC_O_TRUNC;
}

static void minimal_lookup(fuse_req_t req, fuse_ino_t parent, const char *name) {
  g_mutex_lock(&lock);
  File *file = g_hash_table_lookup(by_name, name);
  struct fuse_entry_param entry = {.entry_timeout = FOREVER};
  if (file != NULL)
    entry = entry_of(file);
  g_mutex_unlock(&lock);
  fuse_reply_entry(req, &entry);
}

static void minimal_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi) {
  struct stat st;
  g_mutex_lock(&lock);
  fill_stat(file_of(ino), &st);
  g_mutex_unlock(&lock);
  fuse_reply_attr(req, &st, FOREVER);
}

static void minimal_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set,
                            struct fuse_file_info *fi) {
  minimal_getattr(req, ino, fi);
}

static void opened(struct fuse_file_info *fi, File *file) {
  fi->noflush = 1;
  if ((fi->flags & O_ACCMODE) == O_RDONLY)
    fi->keep_cache = 1;
  else
    fi->direct_io = 1;
  if (fi->flags & O_TRUNC)
    g_byte_array_set_size(file->data, 0);
}

static void minimal_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
                           struct fuse_file_info *fi) {
  g_mutex_lock(&lock);
  File *file = g_hash_table_lookup(by_name, name);
  if (file == NULL) {
    file = g_new(File, 1);
    *file = (File){.data = g_byte_array_new(), .ino = next_ino++};
    g_hash_table_insert(by_name, g_strdup(name), file);
    g_hash_table_insert(by_ino, GSIZE_TO_POINTER(file->ino), file);
  }
  opened(fi, file);
  struct fuse_entry_param entry = entry_of(file);
  g_mutex_unlock(&lock);
  fuse_reply_create(req, &entry, fi);
}

static void minimal_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi) {
  g_mutex_lock(&lock);
  opened(fi, file_of(ino));
  g_mutex_unlock(&lock);
  fuse_reply_open(req, fi);
}

static void minimal_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi) {
  g_mutex_lock(&lock);
  const File *file = file_of(ino);
  gsize start = MIN((gsize)offset, file->data->len);
  fuse_reply_buf(req, (const char *)file->data->data + start, MIN(size, file->data->len - start));
  g_mutex_unlock(&lock);
}

static void minimal_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t offset,
                          struct fuse_file_info *fi) {
  g_mutex_lock(&lock);
  File *file = file_of(ino);
  gsize at = fi->flags & O_APPEND ? file->data->len : (gsize)offset;
  if (at + size > file->data->len)
    g_byte_array_set_size(file->data, (guint)(at + size));
  memcpy(file->data->data + at, data, size);
  g_mutex_unlock(&lock);
  fuse_reply_write(req, size);
}

static void minimal_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi) {
  fuse_reply_err(req, 0);
}

static void minimal_unlink(fuse_req_t req, fuse_ino_t parent, const char *name) {
  g_mutex_lock(&lock);
  int error = g_hash_table_remove(by_name, name) ? 0 : ENOENT;
  g_mutex_unlock(&lock);
  fuse_reply_err(req, error);
}

int main(int argc, char **argv) {
  struct fuse_args args = FUSE_ARGS_INIT(argc, argv);
  struct fuse_cmdline_opts options;
  const struct fuse_lowlevel_ops ops = {.init = minimal_init,
                                        .lookup = minimal_lookup,
                                        .getattr = minimal_getattr,
                                        .setattr = minimal_setattr,
                                        .create = minimal_create,
                                        .open = minimal_open,
                                        .read = minimal_read,
                                        .write = minimal_write,
                                        .fsync = minimal_fsync,
                                        .unlink = minimal_unlink};
  if (fuse_parse_cmdline(&args, &options) != 0 || options.mountpoint == NULL) {
    g_printerr("usage: minimal_fuse MOUNTPOINT [FUSE OPTIONS]\n");
    return 2;
  }
  by_name = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
  by_ino = g_hash_table_new(NULL, NULL);
  struct fuse_session *session = fuse_session_new(&args, &ops, sizeof ops, NULL);
  if (session == NULL || fuse_set_signal_handlers(session) != 0 || fuse_session_mount(session, options.mountpoint) != 0)
    return 1;
  fuse_daemonize(options.foreground);
  struct fuse_loop_config *loop = fuse_loop_cfg_create();
  int result = options.singlethread ? fuse_session_loop(session) : fuse_session_loop_mt(session, loop);
  fuse_loop_cfg_destroy(loop);
  fuse_session_unmount(session);
  fuse_remove_signal_handlers(session);
  fuse_session_destroy(session);
  return result != 0;
}
