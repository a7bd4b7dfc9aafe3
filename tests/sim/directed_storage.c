/* directed_storage.c - scenarios of one replica on SQLite, over files that fail and lose power (sim_vfs.h). */
#include "hand.h"
#include "sim_vfs.h"

#include <glib/gstdio.h>

/* What is lost by a failing disk is drawn: each scenario is tried with so many draws. */
#define DRAWS 80

typedef struct {
  char *dir; /* for the lock file; the others are in the volume */
  SimVolume *volume;
  QfsReplica *replica;
} Disk;

static void disk_open(Disk *disk) {
  g_autoptr(GError) error = NULL;
  disk->replica = qfs_sqlite_replica_open(disk->dir, 1, TRUE, FALSE, &error);
  g_assert_no_error(error);
}

static void disk_begin(Disk *disk, guint64 seed) {
  sim_vfs_init();
  disk->dir = g_dir_make_tmp("qfs-sim-XXXXXX", NULL);
  disk->volume = sim_volume_new(disk->dir, seed);
  disk_open(disk);
}

/* Its process is killed: nothing that closing does reaches the files. */
static void disk_kill(Disk *disk) {
  disk->volume->dead = TRUE;
  g_clear_pointer(&disk->replica, qfs_replica_close);
  disk->volume->dead = FALSE;
}

static void disk_end(Disk *disk) {
  g_autofree char *lock = g_build_filename(disk->dir, "replica.lock", NULL);
  g_clear_pointer(&disk->replica, qfs_replica_close);
  sim_volume_free(disk->volume);
  g_unlink(lock);
  g_rmdir(disk->dir);
  g_free(disk->dir);
}

static gboolean put(Disk *disk, const char *key, guint64 timestamp, gboolean durable) {
  const QfsReplicaOps *ops = disk->replica->ops;
  g_autoptr(QfsRecord) record = qfs_record_new(key);
  record->timestamp = record->seq = timestamp;
  record->kind = QFS_KIND_VALUE;
  QfsApplyResult result;
  const gboolean ok = ops->begin(disk->replica, NULL) && ops->record_apply(disk->replica, record, FALSE, &result, NULL) &&
                      ops->commit(disk->replica, durable, NULL);
  if (!ok)
    ops->rollback(disk->replica);
  return ok;
}

/* 0: there is none. */
static guint64 version(Disk *disk, const char *key) {
  g_autoptr(QfsRecord) record = NULL;
  g_assert_true(disk->replica->ops->record_get(disk->replica, key, &record, NULL));
  return record != NULL ? record->timestamp : 0;
}

static void test_failed_sync(void) {
  /* A sync fails: the kernel has dropped some of what it was to bring to the disk, which later syncs do not bring, while it
   * still shows it. Whoever opens the replica afterwards and commits durably has promised all that he could see. */
  guint n_failed = 0;
  for (guint64 seed = 1; seed <= DRAWS; seed++) {
    Disk disk;
    disk_begin(&disk, seed);
    for (guint i = 1; i <= 5; i++)
      g_assert_true(put(&disk, "a", i, TRUE));
    for (guint i = 6; i <= 9; i++)
      g_assert_true(put(&disk, i % 2 ? "a" : "b", i, FALSE));
    disk.volume->fail_in = 2; /* the log's write, and its sync */
    if (!put(&disk, "c", 10, TRUE)) {
      n_failed++;
      g_assert_false(disk.replica->ops->begin(disk.replica, NULL));
    }
    disk_kill(&disk);
    disk_open(&disk);
    g_assert_true(put(&disk, "d", 11, TRUE));
    const guint64 a = version(&disk, "a"), b = version(&disk, "b"), c = version(&disk, "c");
    g_assert_cmpuint(a, >=, 5);
    disk_kill(&disk);
    sim_volume_lose_power(disk.volume);
    disk_open(&disk);
    g_assert_cmpuint(version(&disk, "a"), ==, a);
    g_assert_cmpuint(version(&disk, "b"), ==, b);
    g_assert_cmpuint(version(&disk, "c"), ==, c);
    g_assert_cmpuint(version(&disk, "d"), ==, 11);
    disk_end(&disk);
  }
  g_assert_cmpuint(n_failed, >, DRAWS / 2);
}

static void test_beginning(void) {
  /* The power fails: what is left is a beginning of what was committed, with all that was durable, wherever it was. */
  for (guint64 seed = 1; seed <= DRAWS; seed++) {
    Disk disk;
    disk_begin(&disk, seed);
    for (guint64 i = 1; i <= 60; i++)
      g_assert_true(put(&disk, i % 2 ? "odd" : "even", i, i == 20 + seed % 20));
    disk_kill(&disk);
    disk_open(&disk);
    g_assert_cmpuint(version(&disk, "even"), ==, 60); /* the death of the process alone loses nothing */
    for (guint64 i = 61; i <= 70; i++)
      g_assert_true(put(&disk, i % 2 ? "odd" : "even", i, FALSE));
    disk_kill(&disk);
    sim_volume_lose_power(disk.volume);
    disk_open(&disk);
    const guint64 odd = version(&disk, "odd"), even = version(&disk, "even");
    g_assert_cmpuint(MAX(odd, even), >=, 20 + seed % 20);
    g_assert_true(odd + 1 == even || even + 1 == odd);
    disk_end(&disk);
  }
}

void directed_storage_add(void) {
  g_test_add_func("/storage/after-a-failed-sync", test_failed_sync);
  g_test_add_func("/storage/power-leaves-a-beginning", test_beginning);
}
