/* vfs.c - see vfs.h. The real file is the default VFS's, as it is when the file is opened: tests put others there. */
#include "storage/vfs.h"

#include "storage/shm_locks.h"

#include <string.h>

#define VFS_NAME "quorumfs"
#define LOG_HEADER 32
#define FRAME_HEADER 24
#define PAGE_MIN 512
/* More of one transaction goes to the log in several writes: SQLite's own VFS writes less than 128 KiB at once, whatever
 * it is given, and one more frame (up to 64 KiB) may follow. */
#define COLLECT_MAX (60 * 1024)

typedef struct {
  sqlite3_file base;   /* first: SQLite's */
  sqlite3_file *real;
  sqlite3_vfs *vfs;    /* of `real` */
  /* of a log */
  GByteArray *frames;  /* V1; NULL: no log */
  sqlite3_int64 at;    /* where they belong */
  sqlite3_int64 next;  /* where the next transaction's frames are expected; 0: not known */
  gboolean in_frame;   /* a header was collected, its page is to come */
  gboolean last;       /* ... and it is the last frame of its transaction */
  /* of a database */
  char *path;
  int open_flags;
  QfsShmLocks *locks;  /* NULL: the index is not mapped */
  guint refused;
  gboolean moves_log;
} File;

static File *file_of(sqlite3_file *file) { return (File *)file; }
static sqlite3_file *real_of(sqlite3_file *file) { return file_of(file)->real; }
static const sqlite3_io_methods *methods_of(sqlite3_file *file) { return real_of(file)->pMethods; }

/* ---- the log ---- */

static int flush(File *file) {
  if (file->frames == NULL || file->frames->len == 0)
    return SQLITE_OK;
  const int len = (int)file->frames->len;
  int code = file->real->pMethods->xWrite(file->real, file->frames->data, len, file->at);
  file->next = file->at + len;
  file->in_frame = FALSE;
  g_byte_array_set_size(file->frames, 0);
  return code;
}

/* The database's size after the transaction, in its last frame; 0 in others. */
static gboolean is_last_frame(const guint8 *header) {
  return (header[4] | header[5] | header[6] | header[7]) != 0;
}

/* A frame's header where frames are being added, or its page behind it; else it is neither. */
static gboolean is_added(const File *file, int amount, sqlite3_int64 offset) {
  const gboolean behind = offset == (file->frames->len > 0 ? file->at + (sqlite3_int64)file->frames->len : file->next);
  return behind && (file->in_frame ? amount >= PAGE_MIN : amount == FRAME_HEADER);
}

static int write_through(File *file, const void *data, int amount, sqlite3_int64 offset) {
  int code = flush(file);
  if (code == SQLITE_OK)
    code = file->real->pMethods->xWrite(file->real, data, amount, offset);
  if (offset == 0 && amount == LOG_HEADER)
    file->next = LOG_HEADER;
  else if (amount >= PAGE_MIN) /* pages of this transaction are written again in their places */
    file->next = MAX(file->next, offset + amount);
  return code;
}

static int log_write(File *file, const void *data, int amount, sqlite3_int64 offset) {
  if (!is_added(file, amount, offset))
    return write_through(file, data, amount, offset);
  if (file->frames->len == 0)
    file->at = offset;
  g_byte_array_append(file->frames, data, (guint)amount);
  file->in_frame = !file->in_frame;
  if (file->in_frame)
    file->last = is_last_frame(data);
  return !file->in_frame && (file->last || file->frames->len >= COLLECT_MAX) ? flush(file) : SQLITE_OK;
}

/* ---- any file ---- */

static int on_close(sqlite3_file *f) {
  File *file = file_of(f);
  if (file->locks != NULL)
    qfs_shm_locks_release(file->locks);
  int code = file->real->pMethods->xClose(file->real);
  if (file->frames != NULL)
    g_byte_array_unref(file->frames); /* what is left there was not committed */
  g_free(file->real);
  g_free(file->path);
  return code;
}

static int on_read(sqlite3_file *f, void *to, int amount, sqlite3_int64 offset) {
  int code = flush(file_of(f));
  return code == SQLITE_OK ? methods_of(f)->xRead(real_of(f), to, amount, offset) : code;
}

static int on_write(sqlite3_file *f, const void *from, int amount, sqlite3_int64 offset) {
  File *file = file_of(f);
  if (file->frames != NULL)
    return log_write(file, from, amount, offset);
  return methods_of(f)->xWrite(real_of(f), from, amount, offset);
}

static int on_truncate(sqlite3_file *f, sqlite3_int64 size) {
  int code = flush(file_of(f));
  file_of(f)->next = 0;
  return code == SQLITE_OK ? methods_of(f)->xTruncate(real_of(f), size) : code;
}

static int on_sync(sqlite3_file *f, int flags) {
  int code = flush(file_of(f));
  return code == SQLITE_OK ? methods_of(f)->xSync(real_of(f), flags) : code;
}

static int on_size(sqlite3_file *f, sqlite3_int64 *out) {
  int code = flush(file_of(f));
  return code == SQLITE_OK ? methods_of(f)->xFileSize(real_of(f), out) : code;
}

static int on_lock(sqlite3_file *f, int level) { return methods_of(f)->xLock(real_of(f), level); }
static int on_unlock(sqlite3_file *f, int level) { return methods_of(f)->xUnlock(real_of(f), level); }
static int on_check(sqlite3_file *f, int *out) { return methods_of(f)->xCheckReservedLock(real_of(f), out); }
static int on_sector(sqlite3_file *f) { return methods_of(f)->xSectorSize(real_of(f)); }
static int on_device(sqlite3_file *f) { return methods_of(f)->xDeviceCharacteristics(real_of(f)); }

static int on_control(sqlite3_file *f, int op, void *arg) {
  int code = flush(file_of(f));
  return code == SQLITE_OK ? methods_of(f)->xFileControl(real_of(f), op, arg) : code;
}

/* ---- the log's index ---- */

static int on_shm_map(sqlite3_file *f, int region, int size, int extend, void volatile **out) {
  File *file = file_of(f);
  int code = methods_of(f)->xShmMap(file->real, region, size, extend, out);
  /* With the first call, whatever there is to map: locks that are taken must be given back the same way. */
  if (file->locks != NULL || (code != SQLITE_OK && (code & 0xff) != SQLITE_READONLY))
    return code;
  file->locks = qfs_shm_locks_get(file->vfs, file->path, file->open_flags);
  return file->locks != NULL ? code : SQLITE_IOERR_SHMOPEN;
}

static int on_shm_lock(sqlite3_file *f, int first, int n, int flags) {
  File *file = file_of(f);
  if (file->locks == NULL)
    return methods_of(f)->xShmLock(file->real, first, n, flags);
  return qfs_shm_locks_lock(file->locks, first, n, flags, &file->refused, file->moves_log);
}

static void on_shm_barrier(sqlite3_file *f) { methods_of(f)->xShmBarrier(real_of(f)); }

static int on_shm_unmap(sqlite3_file *f, int removes) {
  File *file = file_of(f);
  if (file->locks != NULL)
    qfs_shm_locks_release(g_steal_pointer(&file->locks));
  return methods_of(f)->xShmUnmap(file->real, removes);
}

static int on_fetch(sqlite3_file *f, sqlite3_int64 offset, int amount, void **out) {
  *out = NULL; /* not mapped: read */
  return SQLITE_OK;
}

static int on_unfetch(sqlite3_file *f, sqlite3_int64 offset, void *page) { return SQLITE_OK; }

static const sqlite3_io_methods methods = {.iVersion = 3,
                                           .xClose = on_close,
                                           .xRead = on_read,
                                           .xWrite = on_write,
                                           .xTruncate = on_truncate,
                                           .xSync = on_sync,
                                           .xFileSize = on_size,
                                           .xLock = on_lock,
                                           .xUnlock = on_unlock,
                                           .xCheckReservedLock = on_check,
                                           .xFileControl = on_control,
                                           .xSectorSize = on_sector,
                                           .xDeviceCharacteristics = on_device,
                                           .xShmMap = on_shm_map,
                                           .xShmLock = on_shm_lock,
                                           .xShmBarrier = on_shm_barrier,
                                           .xShmUnmap = on_shm_unmap,
                                           .xFetch = on_fetch,
                                           .xUnfetch = on_unfetch};

/* ---- the VFS ---- */

static sqlite3_vfs *beneath(void) { return sqlite3_vfs_find(NULL); }

static int on_open(sqlite3_vfs *vfs, const char *path, sqlite3_file *f, int flags, int *out_flags) {
  File *file = file_of(f);
  *file = (File){.vfs = beneath()};
  file->real = g_malloc0((gsize)file->vfs->szOsFile);
  int code = file->vfs->xOpen(file->vfs, path, file->real, flags, out_flags);
  if (code != SQLITE_OK) {
    if (file->real->pMethods != NULL)
      file->real->pMethods->xClose(file->real);
    g_clear_pointer(&file->real, g_free);
    return code;
  }
  if (flags & SQLITE_OPEN_WAL)
    file->frames = g_byte_array_new();
  if (flags & SQLITE_OPEN_MAIN_DB)
    file->path = g_strdup(path);
  file->open_flags = flags & ~SQLITE_OPEN_CREATE;
  file->base.pMethods = &methods;
  return SQLITE_OK;
}

static int on_delete(sqlite3_vfs *vfs, const char *path, int sync) { return beneath()->xDelete(beneath(), path, sync); }

static int on_access(sqlite3_vfs *vfs, const char *path, int flags, int *out) {
  return beneath()->xAccess(beneath(), path, flags, out);
}

static int on_full_path(sqlite3_vfs *vfs, const char *path, int size, char *out) {
  return beneath()->xFullPathname(beneath(), path, size, out);
}

static int on_random(sqlite3_vfs *vfs, int size, char *out) { return beneath()->xRandomness(beneath(), size, out); }
static int on_sleep(sqlite3_vfs *vfs, int us) { return beneath()->xSleep(beneath(), us); }
static int on_time(sqlite3_vfs *vfs, double *out) { return beneath()->xCurrentTime(beneath(), out); }
static int on_error(sqlite3_vfs *vfs, int size, char *out) {
  return beneath()->xGetLastError != NULL ? beneath()->xGetLastError(beneath(), size, out) : 0;
}

const char *qfs_vfs(void) {
  static sqlite3_vfs vfs = {.iVersion = 1,
                            .szOsFile = sizeof(File),
                            .mxPathname = 4096,
                            .zName = VFS_NAME,
                            .xOpen = on_open,
                            .xDelete = on_delete,
                            .xAccess = on_access,
                            .xFullPathname = on_full_path,
                            .xRandomness = on_random,
                            .xSleep = on_sleep,
                            .xCurrentTime = on_time,
                            .xGetLastError = on_error};
  static gsize done = 0;
  if (g_once_init_enter(&done)) {
    sqlite3_vfs_register(&vfs, 0);
    g_once_init_leave(&done, 1);
  }
  return VFS_NAME;
}

void qfs_vfs_moves_log(sqlite3 *db, gboolean moves) {
  sqlite3_file *f = NULL;
  if (sqlite3_file_control(db, "main", SQLITE_FCNTL_FILE_POINTER, &f) == SQLITE_OK && f != NULL &&
      f->pMethods == &methods)
    file_of(f)->moves_log = moves;
}
