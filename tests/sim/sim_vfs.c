/* sim_vfs.c - see sim_vfs.h. */
#include "sim_vfs.h"

#include "storage/connection.h"

#include <sqlite3.h>
#include <string.h>

#define SECTOR 512
#define PAGE 4096
#define SHM_LOCKS SQLITE_SHM_NLOCK
#define SHM_REGION 32768

/* Something that is not stable yet. */
typedef struct {
  sqlite3_int64 at; /* a write: where; a truncation: the new size */
  GBytes *data;     /* NULL: a truncation */
  gboolean dropped; /* V2 */
} Change;

typedef struct {
  char *path;
  gboolean present, stable_present;
  GByteArray *now, *stable;
  GPtrArray *changes; /* oldest first */
  guint open;

  guint shared; /* file locks: handles that hold SHARED or more */
  gpointer reserved, exclusive;

  GPtrArray *shm; /* regions */
  guint shm_users;
  int shm_lock[SHM_LOCKS]; /* holders; -1: exclusively held */
} File;

typedef struct {
  sqlite3_file base;
  SimVolume *volume;
  File *file;
  int level;
  gboolean has_shm, temporary;
  guint16 shm_shared, shm_exclusive;
} Handle;

static struct {
  GPtrArray *volumes;
  gboolean quiet;
  SimRandom salts; /* of logs */
} vfs;

/* ---- files ---- */

static void change_free(gpointer data) {
  Change *change = data;
  g_clear_pointer(&change->data, g_bytes_unref);
  g_free(change);
}

static File *file_new(const char *path) {
  File *file = g_new0(File, 1);
  file->path = g_strdup(path);
  file->now = g_byte_array_new();
  file->stable = g_byte_array_new();
  file->changes = g_ptr_array_new_with_free_func(change_free);
  file->shm = g_ptr_array_new_with_free_func(g_free);
  return file;
}

static void file_free(gpointer data) {
  File *file = data;
  g_assert(file->open == 0);
  g_free(file->path);
  g_byte_array_unref(file->now);
  g_byte_array_unref(file->stable);
  g_ptr_array_unref(file->changes);
  g_ptr_array_unref(file->shm);
  g_free(file);
}

static void set_bytes(GByteArray *to, const GByteArray *from) {
  g_byte_array_set_size(to, 0);
  g_byte_array_append(to, from->data, from->len);
}

static void resize(GByteArray *bytes, gsize size) {
  gsize old = bytes->len;
  g_byte_array_set_size(bytes, (guint)size);
  if (size > old)
    memset(bytes->data + old, 0, size - old);
}

static void put(GByteArray *bytes, sqlite3_int64 at, const guint8 *data, gsize len) {
  if (bytes->len < (gsize)at + len)
    resize(bytes, (gsize)at + len);
  if (len > 0)
    memcpy(bytes->data + at, data, len);
}

static File *find(SimVolume *volume, const char *path, gboolean make) {
  for (guint i = 0; i < volume->files->len; i++)
    if (strcmp(((File *)volume->files->pdata[i])->path, path) == 0)
      return volume->files->pdata[i];
  if (!make)
    return NULL;
  File *file = file_new(path);
  g_ptr_array_add(volume->files, file);
  return file;
}

static SimVolume *volume_of(const char *path) {
  for (guint i = 0; i < vfs.volumes->len; i++) {
    SimVolume *volume = vfs.volumes->pdata[i];
    gsize len = strlen(volume->dir);
    if (strncmp(path, volume->dir, len) == 0 && path[len] == '/')
      return volume;
  }
  return NULL;
}

static void apply(GByteArray *to, const Change *change) {
  gsize len;
  if (change->data == NULL) {
    resize(to, (gsize)change->at);
    return;
  }
  const guint8 *data = g_bytes_get_data(change->data, &len);
  put(to, change->at, data, len);
}

static void note(File *file, sqlite3_int64 at, const void *data, gsize len) {
  Change *change = g_new0(Change, 1);
  change->at = at;
  change->data = data != NULL ? g_bytes_new(data, len) : NULL;
  g_ptr_array_add(file->changes, change);
}

/* ---- faults ---- */

static gboolean is_due(SimVolume *volume) {
  if (volume == NULL || vfs.quiet || volume->fail_in == 0)
    return FALSE;
  if (volume->fail_in > 1) {
    volume->fail_in--;
    return FALSE;
  }
  if (!volume->stay)
    volume->fail_in = 0;
  volume->n_failed++;
  return TRUE;
}

/* V1: some sectors of it. */
static void apply_torn(SimVolume *volume, GByteArray *to, const Change *change) {
  gsize len;
  const guint8 *data = g_bytes_get_data(change->data, &len);
  guint percent = sim_random_below(&volume->random, 101);
  volume->n_torn++;
  for (gsize done = 0; done < len;) {
    gsize at = (gsize)change->at + done;
    gsize n = MIN(SECTOR - at % SECTOR, len - done);
    if (sim_random_percent(&volume->random, percent))
      put(to, (sqlite3_int64)at, data + done, n);
    done += n;
  }
}

static void lose_file(SimVolume *volume, File *file) {
  if (!file->present && sim_random_percent(&volume->random, 50)) {
    file->stable_present = FALSE;
    resize(file->stable, 0);
  }
  guint keep = sim_random_below(&volume->random, 101);
  for (guint i = 0; i < file->changes->len; i++) {
    const Change *change = file->changes->pdata[i];
    if (change->dropped || !sim_random_percent(&volume->random, keep))
      continue;
    if (change->data != NULL && sim_random_percent(&volume->random, 30))
      apply_torn(volume, file->stable, change);
    else
      apply(file->stable, change);
    file->stable_present = TRUE;
  }
  g_ptr_array_set_size(file->changes, 0);
  set_bytes(file->now, file->stable);
  file->present = file->stable_present;
}

void sim_volume_lose_power(SimVolume *volume) {
  for (guint i = 0; i < volume->files->len; i++)
    lose_file(volume, volume->files->pdata[i]);
  volume->syncs++;
}

/* V2 */
static void drop_unsynced(SimVolume *volume, File *file) {
  gboolean evicted = FALSE;
  for (guint i = 0; i < file->changes->len; i++) {
    Change *change = file->changes->pdata[i];
    change->dropped = change->dropped || sim_random_percent(&volume->random, 50);
    evicted = evicted || change->dropped;
  }
  volume->n_dropped += evicted;
  if (!evicted || sim_random_percent(&volume->random, 50))
    return;
  set_bytes(file->now, file->stable);
  for (guint i = 0; i < file->changes->len; i++)
    if (!((Change *)file->changes->pdata[i])->dropped)
      apply(file->now, file->changes->pdata[i]);
}

/* ---- SQLite's file methods ---- */

static int on_close(sqlite3_file *base) {
  Handle *handle = (Handle *)base;
  File *file = handle->file;
  file->open--;
  if (file->reserved == handle)
    file->reserved = NULL;
  if (file->exclusive == handle)
    file->exclusive = NULL;
  if (handle->level > 0)
    file->shared--;
  if (handle->temporary)
    file_free(file);
  return SQLITE_OK;
}

static int on_read(sqlite3_file *base, void *to, int n, sqlite3_int64 at) {
  Handle *handle = (Handle *)base;
  const GByteArray *now = handle->file->now;
  SimVolume *volume = handle->volume;
  if (volume != NULL && !vfs.quiet && volume->read_fail_in > 0 && --volume->read_fail_in == 0) {
    volume->n_failed++;
    return SQLITE_IOERR_READ;
  }
  gsize have = at < now->len ? MIN((gsize)n, now->len - (gsize)at) : 0;
  if (have > 0)
    memcpy(to, now->data + at, have);
  if (have == (gsize)n)
    return SQLITE_OK;
  memset((guint8 *)to + have, 0, (gsize)n - have);
  return SQLITE_IOERR_SHORT_READ;
}

static int on_write(sqlite3_file *base, const void *from, int n, sqlite3_int64 at) {
  Handle *handle = (Handle *)base;
  File *file = handle->file;
  SimVolume *volume = handle->volume;
  int code = SQLITE_OK;
  if (volume != NULL && volume->dead)
    return SQLITE_IOERR_WRITE;
  if (is_due(volume))
    code = SQLITE_IOERR_WRITE;
  else if (volume != NULL && volume->full && (gsize)at + (gsize)n > file->now->len)
    code = SQLITE_FULL;
  if (code != SQLITE_OK)
    n = (int)sim_random_below(&volume->random, (guint)n);
  if (n > 0) {
    put(file->now, at, from, (gsize)n);
    note(file, at, from, (gsize)n);
  }
  return code;
}

static int on_truncate(sqlite3_file *base, sqlite3_int64 size) {
  Handle *handle = (Handle *)base;
  if ((handle->volume != NULL && handle->volume->dead) || is_due(handle->volume))
    return SQLITE_IOERR_TRUNCATE;
  resize(handle->file->now, (gsize)size);
  note(handle->file, size, NULL, 0);
  return SQLITE_OK;
}

/* Names are stable in the order of their changes: those of deleted files are gone. */
static void forget_deleted(SimVolume *volume) {
  for (guint i = 0; i < volume->files->len; i++) {
    File *file = volume->files->pdata[i];
    if (file->present || !file->stable_present)
      continue;
    file->stable_present = FALSE;
    resize(file->stable, 0);
  }
  volume->syncs++;
}

static int on_sync(sqlite3_file *base, int flags) {
  Handle *handle = (Handle *)base;
  File *file = handle->file;
  SimVolume *volume = handle->volume;
  if (volume == NULL || volume->dead)
    return volume != NULL ? SQLITE_IOERR_FSYNC : SQLITE_OK;
  if (is_due(volume)) {
    if (!volume->spare)
      drop_unsynced(volume, file);
    return SQLITE_IOERR_FSYNC;
  }
  guint kept = 0;
  for (guint i = 0; i < file->changes->len; i++)
    if (!((Change *)file->changes->pdata[i])->dropped)
      apply(file->stable, file->changes->pdata[i]);
    else
      kept++;
  if (kept == 0)
    g_ptr_array_set_size(file->changes, 0);
  else
    for (guint i = file->changes->len; i-- > 0;)
      if (!((Change *)file->changes->pdata[i])->dropped)
        g_ptr_array_remove_index(file->changes, i);
  file->stable_present = TRUE;
  forget_deleted(volume);
  return SQLITE_OK;
}

static int on_size(sqlite3_file *base, sqlite3_int64 *out) {
  *out = ((Handle *)base)->file->now->len;
  return SQLITE_OK;
}

static int on_lock(sqlite3_file *base, int level) {
  Handle *handle = (Handle *)base;
  File *file = handle->file;
  if (level <= handle->level)
    return SQLITE_OK;
  if (file->exclusive != NULL && file->exclusive != handle)
    return SQLITE_BUSY;
  if (level >= SQLITE_LOCK_RESERVED && file->reserved != NULL && file->reserved != handle)
    return SQLITE_BUSY;
  if (handle->level == 0)
    file->shared++;
  handle->level = MAX(handle->level, MIN(level, SQLITE_LOCK_SHARED));
  if (level >= SQLITE_LOCK_RESERVED)
    file->reserved = handle;
  if (level == SQLITE_LOCK_EXCLUSIVE) {
    if (file->shared > 1)
      return SQLITE_BUSY;
    file->exclusive = handle;
  }
  handle->level = level;
  return SQLITE_OK;
}

static int on_unlock(sqlite3_file *base, int level) {
  Handle *handle = (Handle *)base;
  File *file = handle->file;
  if (level >= handle->level)
    return SQLITE_OK;
  if (file->exclusive == handle)
    file->exclusive = NULL;
  if (file->reserved == handle)
    file->reserved = NULL;
  if (level == SQLITE_LOCK_NONE)
    file->shared--;
  handle->level = level;
  return SQLITE_OK;
}

static int on_check_reserved(sqlite3_file *base, int *out) {
  *out = ((Handle *)base)->file->reserved != NULL;
  return SQLITE_OK;
}

static int on_control(sqlite3_file *base, int op, void *argument) {
  return SQLITE_NOTFOUND;
}

static int on_sector(sqlite3_file *base) {
  return 4096;
}

static int on_traits(sqlite3_file *base) {
  return SQLITE_IOCAP_POWERSAFE_OVERWRITE;
}

/* ---- the log's index: shared memory, gone with its last user ---- */

static int on_shm_map(sqlite3_file *base, int region, int size, int extend, void volatile **out) {
  Handle *handle = (Handle *)base;
  File *file = handle->file;
  if (!handle->has_shm) {
    handle->has_shm = TRUE;
    file->shm_users++;
  }
  *out = NULL;
  if ((guint)region >= file->shm->len && !extend)
    return SQLITE_OK;
  g_assert(size == SHM_REGION);
  while (file->shm->len <= (guint)region)
    g_ptr_array_add(file->shm, g_malloc0((gsize)size));
  *out = file->shm->pdata[region];
  return SQLITE_OK;
}

static int on_shm_lock(sqlite3_file *base, int offset, int n, int flags) {
  Handle *handle = (Handle *)base;
  int *lock = handle->file->shm_lock;
  guint16 mask = (guint16)((1u << (offset + n)) - (1u << offset));
  if (flags & SQLITE_SHM_UNLOCK) {
    for (int i = offset; i < offset + n; i++)
      if (handle->shm_exclusive >> i & 1)
        lock[i] = 0;
      else if (handle->shm_shared >> i & 1)
        lock[i]--;
    handle->shm_exclusive &= (guint16)~mask;
    handle->shm_shared &= (guint16)~mask;
    return SQLITE_OK;
  }
  if (flags & SQLITE_SHM_SHARED) {
    if (lock[offset] < 0)
      return SQLITE_BUSY;
    if ((handle->shm_shared & mask) == 0)
      lock[offset]++;
    handle->shm_shared |= mask;
    return SQLITE_OK;
  }
  for (int i = offset; i < offset + n; i++)
    if (lock[i] != 0 && !(handle->shm_exclusive >> i & 1))
      return SQLITE_BUSY;
  for (int i = offset; i < offset + n; i++)
    lock[i] = -1;
  handle->shm_exclusive |= mask;
  return SQLITE_OK;
}

static void on_shm_barrier(sqlite3_file *base) {}

static int on_shm_unmap(sqlite3_file *base, int delete_it) {
  Handle *handle = (Handle *)base;
  File *file = handle->file;
  if (!handle->has_shm)
    return SQLITE_OK;
  handle->has_shm = FALSE;
  on_shm_lock(base, 0, SHM_LOCKS, SQLITE_SHM_UNLOCK);
  if (--file->shm_users == 0)
    g_ptr_array_set_size(file->shm, 0);
  return SQLITE_OK;
}

static const sqlite3_io_methods methods = {
    .iVersion = 2,
    .xClose = on_close,
    .xRead = on_read,
    .xWrite = on_write,
    .xTruncate = on_truncate,
    .xSync = on_sync,
    .xFileSize = on_size,
    .xLock = on_lock,
    .xUnlock = on_unlock,
    .xCheckReservedLock = on_check_reserved,
    .xFileControl = on_control,
    .xSectorSize = on_sector,
    .xDeviceCharacteristics = on_traits,
    .xShmMap = on_shm_map,
    .xShmLock = on_shm_lock,
    .xShmBarrier = on_shm_barrier,
    .xShmUnmap = on_shm_unmap,
};

/* ---- SQLite's VFS methods ---- */

static int on_open(sqlite3_vfs *self, const char *path, sqlite3_file *base, int flags,
                   int *out_flags) {
  Handle *handle = (Handle *)base;
  *handle = (Handle){.temporary = path == NULL};
  SimVolume *volume = handle->volume = path != NULL ? volume_of(path) : NULL;
  if (path != NULL && volume == NULL)
    return SQLITE_CANTOPEN;
  File *file = handle->file = volume != NULL ? find(volume, path, TRUE) : file_new("");
  if (volume != NULL && !file->present) {
    if (!(flags & SQLITE_OPEN_CREATE) || (volume->dead && volume->shown == NULL))
      return SQLITE_CANTOPEN;
    if (volume->full && !vfs.quiet)
      return SQLITE_FULL;
    file->present = TRUE;
  }
  file->open++;
  base->pMethods = &methods;
  if (out_flags != NULL)
    *out_flags = flags;
  return SQLITE_OK;
}

static void forget_now(File *file) {
  file->present = FALSE;
  resize(file->now, 0);
  g_ptr_array_set_size(file->changes, 0);
}

static int on_delete(sqlite3_vfs *self, const char *path, int sync_directory) {
  SimVolume *volume = volume_of(path);
  File *file = volume != NULL ? find(volume, path, FALSE) : NULL;
  if (file == NULL || !file->present)
    return SQLITE_IOERR_DELETE_NOENT;
  if (volume->dead)
    return SQLITE_IOERR_DELETE;
  volume->n_orphans += file->open > 0;
  forget_now(file);
  if (sync_directory)
    forget_deleted(volume);
  return SQLITE_OK;
}

static int on_access(sqlite3_vfs *self, const char *path, int flags, int *out) {
  SimVolume *volume = volume_of(path);
  const File *file = volume != NULL ? find(volume, path, FALSE) : NULL;
  *out = file != NULL && file->present && (flags != SQLITE_ACCESS_EXISTS || file->now->len > 0);
  return SQLITE_OK;
}

static int on_full_path(sqlite3_vfs *self, const char *path, int size, char *out) {
  g_strlcpy(out, path, (gsize)size);
  return SQLITE_OK;
}

static int on_randomness(sqlite3_vfs *self, int n, char *out) {
  for (int i = 0; i < n; i++)
    out[i] = (char)sim_random_u64(&vfs.salts);
  return n;
}

static int on_sleep(sqlite3_vfs *self, int us) {
  return us;
}

static int on_time(sqlite3_vfs *self, double *out) {
  *out = 2460000.5;
  return SQLITE_OK;
}

static int on_last_error(sqlite3_vfs *self, int size, char *out) {
  return 0;
}

void sim_vfs_init(void) {
  static sqlite3_vfs table = {
      .iVersion = 1,
      .szOsFile = sizeof(Handle),
      .mxPathname = 1024,
      .zName = "simulated",
      .xOpen = on_open,
      .xDelete = on_delete,
      .xAccess = on_access,
      .xFullPathname = on_full_path,
      .xRandomness = on_randomness,
      .xSleep = on_sleep,
      .xCurrentTime = on_time,
      .xGetLastError = on_last_error,
  };
  if (vfs.volumes == NULL) {
    vfs.volumes = g_ptr_array_new();
    int code = sqlite3_config(SQLITE_CONFIG_SINGLETHREAD);
    g_assert(code == SQLITE_OK);
    qfs_connection_configure();
    code = sqlite3_vfs_register(&table, 1);
    g_assert(code == SQLITE_OK);
  }
  if (vfs.volumes->len > 0)
    return;
  /* A new world: what a former one left in this process must not show. */
  vfs.salts = (SimRandom){0};
  vfs.quiet = FALSE;
  sqlite3_randomness(0, NULL);
}

void sim_vfs_set_quiet(gboolean quiet) {
  vfs.quiet = quiet;
}

/* ---- volumes ---- */

SimVolume *sim_volume_new(const char *dir, guint64 seed) {
  SimVolume *volume = g_new0(SimVolume, 1);
  volume->dir = g_strdup(dir);
  volume->random.state = seed;
  volume->files = g_ptr_array_new_with_free_func(file_free);
  g_ptr_array_add(vfs.volumes, volume);
  return volume;
}

void sim_volume_free(SimVolume *volume) {
  if (volume == NULL)
    return;
  g_ptr_array_remove_fast(vfs.volumes, volume);
  g_ptr_array_unref(volume->files);
  g_clear_pointer(&volume->copy, g_ptr_array_unref);
  g_free(volume->dir);
  g_free(volume);
}

/* A file with these bytes, in the cache and on stable storage. */
static void fill(File *file, const GByteArray *bytes) {
  if (file->now != bytes)
    set_bytes(file->now, bytes);
  set_bytes(file->stable, bytes);
  g_ptr_array_set_size(file->changes, 0);
  file->present = file->stable_present = TRUE;
}

/* ---- views ---- */

SimVolume *sim_volume_new_view(const SimVolume *volume, const char *dir) {
  SimVolume *view = sim_volume_new(dir, 0);
  view->shown = volume;
  view->dead = TRUE;
  for (guint i = 0; i < volume->files->len; i++) {
    const File *file = volume->files->pdata[i];
    if (!file->stable_present)
      continue;
    g_autofree char *path = g_strconcat(dir, file->path + strlen(volume->dir), NULL);
    File *same = find(view, path, TRUE);
    g_byte_array_unref(same->now);
    same->now = g_byte_array_ref(file->stable);
    same->present = TRUE;
  }
  return view;
}

static const File *file_in_view(const SimVolume *view, const File *file) {
  const char *name = file->path + strlen(view->shown->dir);
  const gsize dir_len = strlen(view->dir);
  for (guint i = 0; i < view->files->len; i++)
    if (strcmp(((const File *)view->files->pdata[i])->path + dir_len, name) == 0)
      return view->files->pdata[i];
  return NULL;
}

gboolean sim_volume_renew_view(SimVolume *view) {
  const SimVolume *volume = view->shown;
  for (guint i = 0; i < volume->files->len; i++) {
    const File *file = volume->files->pdata[i], *same = file_in_view(view, file);
    if ((same != NULL && same->now == file->stable) != file->stable_present)
      return FALSE;
  }
  for (guint i = 0; i < view->files->len; i++) {
    const File *file = view->files->pdata[i];
    for (guint j = 0; j < file->shm->len; j++) /* who opens a log first makes its index */
      memset(file->shm->pdata[j], 0, SHM_REGION);
  }
  return TRUE;
}

/* ---- copies and damage ---- */

void sim_volume_keep_copy(SimVolume *volume) {
  g_clear_pointer(&volume->copy, g_ptr_array_unref);
  volume->copy = g_ptr_array_new_with_free_func(file_free);
  for (guint i = 0; i < volume->files->len; i++) {
    const File *file = volume->files->pdata[i];
    if (!file->present)
      continue;
    File *copy = file_new(file->path);
    fill(copy, file->now);
    g_ptr_array_add(volume->copy, copy);
  }
}

static void delete_file(File *file) {
  g_assert(file->open == 0);
  forget_now(file);
  file->stable_present = FALSE;
  resize(file->stable, 0);
}

/* The database file or its log, if it has any bytes; else NULL. */
static File *some_file(SimVolume *volume, gboolean log) {
  for (guint i = 0; i < volume->files->len; i++) {
    File *file = volume->files->pdata[i];
    if (file->present && file->now->len > 0 && g_str_has_suffix(file->path, "-wal") == log)
      return file;
  }
  return NULL;
}

static void flip_bits(SimVolume *volume, File *file) {
  SimRandom *random = &volume->random;
  gsize from = 0, len = file->now->len;
  gboolean one_page = sim_random_percent(random, 50);
  if (one_page) {
    from = (gsize)(sim_random_u64(random) % len) / PAGE * PAGE;
    len = MIN(PAGE, len - from);
  }
  for (gint64 i = sim_random_spread(random, 1, one_page ? 20 : 2000); i > 0; i--) {
    gsize at = from + (gsize)(sim_random_u64(random) % len);
    guint8 bit = (guint8)(1u << sim_random_below(random, 8));
    file->now->data[at] ^= bit;
    if (at < file->stable->len)
      file->stable->data[at] ^= bit;
  }
}

static void restore(SimVolume *volume) {
  for (guint i = 0; i < volume->files->len; i++)
    delete_file(volume->files->pdata[i]);
  for (guint i = 0; i < volume->copy->len; i++) {
    const File *copy = volume->copy->pdata[i];
    fill(find(volume, copy->path, TRUE), copy->now);
  }
}

gboolean sim_volume_damage(SimVolume *volume, SimDamage damage) {
  SimRandom *random = &volume->random;
  File *log = some_file(volume, TRUE), *file = some_file(volume, FALSE);
  File *either = log != NULL && (file == NULL || sim_random_percent(random, 50)) ? log : file;
  volume->syncs++;
  switch (damage) {
  case SIM_DAMAGE_DELETE:
    for (guint i = 0; i < volume->files->len; i++)
      delete_file(volume->files->pdata[i]);
    return TRUE;
  case SIM_DAMAGE_NO_LOG:
    if (log != NULL)
      delete_file(log);
    return log != NULL;
  case SIM_DAMAGE_NO_FILE:
    if (file != NULL)
      delete_file(file);
    return file != NULL;
  case SIM_DAMAGE_TRUNCATE:
    if (either == NULL)
      return FALSE;
    resize(either->now, sim_random_u64(random) % either->now->len);
    fill(either, either->now);
    return TRUE;
  case SIM_DAMAGE_GARBAGE:
    if (file == NULL)
      return FALSE;
    for (guint i = 0; i < file->now->len; i++)
      file->now->data[i] = (guint8)sim_random_u64(random);
    fill(file, file->now);
    return TRUE;
  case SIM_DAMAGE_OLD_COPY:
    if (volume->copy != NULL)
      restore(volume);
    return volume->copy != NULL;
  case SIM_DAMAGE_FLIP:
    if (either != NULL)
      flip_bits(volume, either);
    return either != NULL;
  }
  g_assert_not_reached();
}
