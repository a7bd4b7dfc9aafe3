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

#define MIX_KEYS 4
#define LONG_BYTES 80000 /* goes to the tables at once */

/* Put i of the mix is of key i % MIX_KEYS. */
static gboolean put_mixed(Disk *disk, guint64 i, gboolean is_long, gboolean durable) {
  static const char *const keys[MIX_KEYS] = {"m0", "m1", "m2", "m3"};
  if (!is_long)
    return put(disk, keys[i % MIX_KEYS], i, durable);
  const QfsReplicaOps *ops = disk->replica->ops;
  g_autoptr(QfsRecord) record = qfs_record_new(keys[i % MIX_KEYS]);
  record->timestamp = record->seq = i;
  record->kind = QFS_KIND_VALUE;
  g_bytes_unref(record->tail);
  record->tail = g_bytes_new_take(g_strnfill(LONG_BYTES, 'x'), LONG_BYTES);
  record->attr.size = LONG_BYTES;
  QfsApplyResult result;
  return ops->begin(disk->replica, NULL) && ops->record_apply(disk->replica, record, FALSE, &result, NULL) &&
         ops->commit(disk->replica, durable, NULL);
}

static void move_into_tables(Disk *disk) {
  g_autoptr(GPtrArray) rows = g_ptr_array_new_with_free_func((GDestroyNotify)qfs_record_unref);
  gboolean more;
  g_assert_true(disk->replica->ops->record_scan(disk->replica, 0, NULL, 1, rows, &more, NULL));
}

/* The last put of those that are there, which must be all up to it. */
static guint64 last_of_mix(Disk *disk) {
  guint64 found[MIX_KEYS], last = 0;
  for (guint i = 0; i < MIX_KEYS; i++) {
    g_autofree char *key = g_strdup_printf("m%u", i);
    last = MAX(last, found[i] = version(disk, key));
  }
  for (guint64 i = last; i > 0 && i + MIX_KEYS > last; i--)
    g_assert_cmpuint(found[i % MIX_KEYS], ==, i);
  return last;
}

static void test_promises(void) {
  /* The same of what is durable and what is not, in the log and in the tables, moved now and then, through several lives of
   * the process and losses of power. */
  for (guint64 seed = 1; seed <= 2 * DRAWS; seed++) {
    g_autoptr(GRand) dice = g_rand_new_with_seed((guint32)seed);
    guint64 i = 0;
    Disk disk;
    disk_begin(&disk, seed);
    for (guint round = 0; round < 4; round++) {
      guint64 promised = i;
      const gint durable_of = g_rand_int_range(dice, 2, 12);
      for (gint steps = g_rand_int_range(dice, 1, 30); steps > 0; steps--) {
        const gboolean durable = g_rand_int_range(dice, 0, durable_of) == 0;
        g_assert_true(put_mixed(&disk, ++i, g_rand_int_range(dice, 0, 8) == 0, durable));
        promised = durable ? i : promised;
        if (g_rand_int_range(dice, 0, 8) == 0)
          move_into_tables(&disk);
        if (g_rand_int_range(dice, 0, 12) == 0) {
          disk_kill(&disk);
          disk_open(&disk);
        }
      }
      disk_kill(&disk);
      sim_volume_lose_power(disk.volume);
      disk_open(&disk);
      g_assert_cmpuint(last_of_mix(&disk), >=, promised);
      i = last_of_mix(&disk);
      g_assert_true(put_mixed(&disk, ++i, FALSE, TRUE)); /* what was seen is promised with it */
    }
    disk_end(&disk);
  }
}

void directed_storage_add(void) {
  g_test_add_func("/storage/after-a-failed-sync", test_failed_sync);
  g_test_add_func("/storage/power-leaves-a-beginning", test_beginning);
  g_test_add_func("/storage/power-takes-no-promise", test_promises);
}
