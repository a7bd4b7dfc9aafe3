/* fault_vfs.h - a default VFS for SQLite that counts, fails on demand, and knows what a power cut
 * leaves.
 *
 * Set up once by fault_vfs_install(); everything goes on to the real VFS. The journal's and the
 * file's writes and syncs count as steps; when `fault_countdown` reaches 0 that step fails, and all
 * after it (a disk that broke stays broken) until fault_vfs_reset(). With `fault_image_dir` set,
 * each sync copies the file to there as it is: the directory is what stable storage holds. One
 * thread.
 */
#pragma once

#include <glib.h>
#include <glib/gstdio.h>
#include <sqlite3.h>
#include <string.h>

static struct {
  sqlite3_vfs vfs;
  sqlite3_vfs *real;
  int countdown; /* steps until the first failure; -1: none */
  int code;      /* what a failing write answers; a failing sync answers IOERR_FSYNC, and never fails with SQLITE_FULL */
  gboolean syncs_only;
  gboolean lies; /* a write that fails has written all the same */
  gboolean once; /* only one step fails */
  gssize room;   /* by how many bytes files may grow; -1: without end */
  const char *unreadable; /* files whose names end so can't be read; NULL: none */
  guint syncs, reads, writes;
  const char *image_dir;
} fault;

typedef struct {
  sqlite3_file base;
  char *name;
  sqlite3_file *real; /* directly behind this struct */
} FaultFile;

static inline sqlite3_file *fault_real(sqlite3_file *file) {
  return ((FaultFile *)file)->real;
}

static inline void fault_vfs_reset(void) {
  fault.countdown = -1;
  fault.code = SQLITE_IOERR_WRITE;
  fault.syncs_only = fault.lies = fault.once = FALSE;
  fault.unreadable = NULL;
  fault.room = -1;
  fault.syncs = fault.reads = fault.writes = 0;
  fault.image_dir = NULL;
}

static gboolean fault_is_due(gboolean is_sync) {
  if (fault.countdown < 0 || (fault.syncs_only && !is_sync))
    return FALSE;
  if (is_sync && fault.code == SQLITE_FULL) /* a full disk syncs */
    return FALSE;
  if (fault.countdown > 0) {
    fault.countdown--;
    return FALSE;
  }
  if (fault.once)
    fault.countdown = -1;
  return TRUE;
}

static gssize fault_length(sqlite3_file *file) {
  sqlite3_int64 size = 0;
  g_assert_cmpint(fault_real(file)->pMethods->xFileSize(fault_real(file), &size), ==, SQLITE_OK);
  return (gssize)size;
}

/* Is there room for the file to become so long? */
static gboolean fault_has_room(sqlite3_file *file, gssize end) {
  if (fault.room < 0)
    return TRUE;
  const gssize more = MAX(end - fault_length(file), 0);
  if (more > fault.room)
    return FALSE;
  fault.room -= more;
  return TRUE;
}

static int fault_close(sqlite3_file *file) {
  int code = fault_real(file)->pMethods->xClose(fault_real(file));
  g_free(((FaultFile *)file)->name);
  return code;
}
static int fault_read(sqlite3_file *file, void *to, int n, sqlite3_int64 at) {
  fault.reads++;
  if (fault.unreadable != NULL && g_str_has_suffix(((FaultFile *)file)->name, fault.unreadable))
    return SQLITE_IOERR_READ;
  return fault_real(file)->pMethods->xRead(fault_real(file), to, n, at);
}
static int fault_write(sqlite3_file *file, const void *from, int n, sqlite3_int64 at) {
  if (fault_is_due(FALSE)) {
    if (fault.lies)
      fault_real(file)->pMethods->xWrite(fault_real(file), from, n, at);
    return fault.code;
  }
  if (!fault_has_room(file, (gssize)at + n))
    return SQLITE_FULL;
  fault.writes++;
  return fault_real(file)->pMethods->xWrite(fault_real(file), from, n, at);
}
static int fault_truncate(sqlite3_file *file, sqlite3_int64 size) {
  if (fault_is_due(FALSE))
    return SQLITE_IOERR_TRUNCATE;
  if (fault.room >= 0)
    fault.room += MAX(fault_length(file) - (gssize)size, 0);
  return fault_real(file)->pMethods->xTruncate(fault_real(file), size);
}
static void fault_copy_to_image(const char *name) {
  g_autofree char *base = g_path_get_basename(name);
  g_autofree char *path = g_build_filename(fault.image_dir, base, NULL);
  g_autofree char *bytes = NULL;
  gsize len;
  /* A descriptor of its own on a file that SQLite locks would drop the locks: only the log and the
   * file are copied, and no other process is there. */
  g_assert_true(g_file_get_contents(name, &bytes, &len, NULL));
  g_assert_true(g_file_set_contents(path, bytes, (gssize)len, NULL));
}
static int fault_sync(sqlite3_file *file, int flags) {
  if (fault_is_due(TRUE))
    return SQLITE_IOERR_FSYNC;
  fault.syncs++;
  if (fault.image_dir != NULL)
    fault_copy_to_image(((FaultFile *)file)->name);
  return fault_real(file)->pMethods->xSync(fault_real(file), flags);
}
static int fault_size(sqlite3_file *file, sqlite3_int64 *out) {
  return fault_real(file)->pMethods->xFileSize(fault_real(file), out);
}
static int fault_lock(sqlite3_file *file, int level) {
  return fault_real(file)->pMethods->xLock(fault_real(file), level);
}
static int fault_unlock(sqlite3_file *file, int level) {
  return fault_real(file)->pMethods->xUnlock(fault_real(file), level);
}
static int fault_check(sqlite3_file *file, int *out) {
  return fault_real(file)->pMethods->xCheckReservedLock(fault_real(file), out);
}
static int fault_control(sqlite3_file *file, int op, void *argument) {
  return fault_real(file)->pMethods->xFileControl(fault_real(file), op, argument);
}
static int fault_sector(sqlite3_file *file) {
  return fault_real(file)->pMethods->xSectorSize(fault_real(file));
}
static int fault_traits(sqlite3_file *file) {
  return fault_real(file)->pMethods->xDeviceCharacteristics(fault_real(file));
}
static int fault_shm_map(sqlite3_file *file, int page, int size, int extend, void volatile **out) {
  return fault_real(file)->pMethods->xShmMap(fault_real(file), page, size, extend, out);
}
static int fault_shm_lock(sqlite3_file *file, int offset, int n, int flags) {
  return fault_real(file)->pMethods->xShmLock(fault_real(file), offset, n, flags);
}
static void fault_shm_barrier(sqlite3_file *file) {
  fault_real(file)->pMethods->xShmBarrier(fault_real(file));
}
static int fault_shm_unmap(sqlite3_file *file, int del) {
  return fault_real(file)->pMethods->xShmUnmap(fault_real(file), del);
}

static const sqlite3_io_methods fault_methods = {
    .iVersion = 2,
    .xClose = fault_close,
    .xRead = fault_read,
    .xWrite = fault_write,
    .xTruncate = fault_truncate,
    .xSync = fault_sync,
    .xFileSize = fault_size,
    .xLock = fault_lock,
    .xUnlock = fault_unlock,
    .xCheckReservedLock = fault_check,
    .xFileControl = fault_control,
    .xSectorSize = fault_sector,
    .xDeviceCharacteristics = fault_traits,
    .xShmMap = fault_shm_map,
    .xShmLock = fault_shm_lock,
    .xShmBarrier = fault_shm_barrier,
    .xShmUnmap = fault_shm_unmap,
};

static int fault_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags,
                      int *out_flags) {
  FaultFile *self = (FaultFile *)file;

  self->real = (sqlite3_file *)(self + 1);
  int code = fault.real->xOpen(fault.real, name, self->real, flags, out_flags);
  file->pMethods = NULL;
  if (self->real->pMethods == NULL)
    return code;
  self->name = g_strdup(name);
  file->pMethods = &fault_methods;
  return code;
}

/* Becomes the default of every connection that is opened from now on. */
static inline void fault_vfs_install(void) {
  fault.real = sqlite3_vfs_find(NULL);
  fault.vfs = *fault.real;
  fault.vfs.zName = "fault";
  fault.vfs.xOpen = fault_open;
  fault.vfs.szOsFile = (int)sizeof(FaultFile) + fault.real->szOsFile;
  fault_vfs_reset();
  g_assert_cmpint(sqlite3_vfs_register(&fault.vfs, 1), ==, SQLITE_OK);
}
