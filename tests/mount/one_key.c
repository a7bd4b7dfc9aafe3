/* one_key.c - writers and readers of one file: no read may be empty, mixed, or stale.
 *
 *   one_key FILE SECONDS [WRITERS [READERS]]
 *
 * A value of 1 to 1,000,000 bytes is written by `>`: open with O_TRUNC, one write(2). Its bytes follow from who wrote
 * it, which one it is, and its length. A read is stale when a write that began after the read one had ended was over,
 * or was seen by somebody, before the read began. Values below 16 bytes come in 64 sorts of each writer and length:
 * there the latest of its sort is taken for the one that was read. Who pauses while he reads, as when the machine stands
 * still, may go on with another value (README, "What an open file shows"): a read that took as long is not judged. The last
 * line tells what happened, and what was wrong; the exit status is 1 if anything was.
 */
#include "tests/sim/random.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define WRITERS_MAX 16
#define RECENT 65536 /* writes of each writer whose times are kept */
#define SMALL 16
#define SORTS 64
#define LEN_MAX 1000000
#define ROOM (LEN_MAX + 1000)
#define PAUSE_US (G_USEC_PER_SEC / 2) /* readers may pause for a second */

typedef struct {
  gint64 number, start_us, end_us; /* end 0: under way */
} Write;

/* Shared by all processes; each Write has one writer. */
typedef struct {
  gint64 stop;
  gint64 written_start_us; /* latest beginning of a write that is over */
  gint64 seen_start_us;    /* ... of one that somebody has read */
  gint64 writes, reads, empty, mixed, stale, failed, paused;
  gint64 latest_small[WRITERS_MAX][SMALL][SORTS]; /* number */
  Write write[WRITERS_MAX][RECENT];
} Shared;

static Shared *shared;
static const char *path;

static gint64 get(const gint64 *at) {
  return __atomic_load_n(at, __ATOMIC_SEQ_CST);
}

static void set(gint64 *at, gint64 value) {
  __atomic_store_n(at, value, __ATOMIC_SEQ_CST);
}

static void add(gint64 *at) {
  __atomic_add_fetch(at, 1, __ATOMIC_SEQ_CST);
}

static void raise_to(gint64 *at, gint64 value) {
  gint64 now = get(at);
  while (now < value && !__atomic_compare_exchange_n(at, &now, value, FALSE, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
    ;
}

/* --- values --- */

typedef struct {
  guint32 writer, len;
  gint64 number;
} Head;

static void fill(guint8 *value, Head head) {
  if (head.len < SMALL) {
    memset(value, (int)(head.writer * SORTS + (guint)(head.number % SORTS)), head.len);
    return;
  }
  memcpy(value, &head, SMALL);
  guint64 word = sim_mix((guint64)head.number * WRITERS_MAX + head.writer);
  for (gsize at = SMALL; at < head.len; at += sizeof word) {
    word = word * G_GUINT64_CONSTANT(6364136223846793005) + 1442695040888963407u;
    memcpy(value + at, &word, MIN(sizeof word, head.len - at));
  }
}

/* Whose value that is; FALSE: nobody's. */
static gboolean identify(const guint8 *value, gsize len, Head *out) {
  static guint8 expected[ROOM + 8];
  if (len < SMALL) {
    *out = (Head){.writer = value[0] / SORTS, .len = (guint32)len};
    if (out->writer >= WRITERS_MAX)
      return FALSE;
    out->number = get(&shared->latest_small[out->writer][len][value[0] % SORTS]);
    for (gsize i = 1; i < len; i++)
      if (value[i] != value[0])
        return FALSE;
    return TRUE;
  }
  memcpy(out, value, SMALL);
  if (out->len != len || out->writer >= WRITERS_MAX)
    return FALSE;
  fill(expected, *out);
  return memcmp(value, expected, len) == 0;
}

/* --- writers --- */

static void complain(const char *what) {
  fprintf(stderr, "%s: %s\n", what, strerror(errno));
  add(&shared->failed);
}

static void write_one(guint8 *value, Head head) {
  Write *write_of = &shared->write[head.writer][head.number % RECENT];
  fill(value, head);
  set(&write_of->end_us, 0);
  set(&write_of->number, head.number);
  set(&write_of->start_us, g_get_monotonic_time());
  if (head.len < SMALL)
    set(&shared->latest_small[head.writer][head.len][head.number % SORTS], head.number);
  const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
  if (fd < 0 || write(fd, value, head.len) != (gssize)head.len) {
    complain("write");
  } else {
    const gint64 end_us = g_get_monotonic_time();
    raise_to(&shared->written_start_us, get(&write_of->start_us));
    set(&write_of->end_us, end_us);
    add(&shared->writes);
  }
  if (fd >= 0)
    close(fd);
}

static void write_all(guint writer, guint64 seed) {
  SimRandom random = {.state = seed};
  guint8 *value = g_malloc(ROOM + 8);
  for (gint64 number = 1; !get(&shared->stop); number++) {
    const gint64 len = sim_random_spread(&random, 1, LEN_MAX);
    write_one(value, (Head){.writer = writer, .len = (guint32)MIN(len, LEN_MAX), .number = number});
  }
  g_free(value);
}

/* --- readers --- */

/* As cat does it. -1: failed. */
static gssize read_value(guint8 *value, gsize piece) {
  const int fd = open(path, O_RDONLY);
  if (fd < 0)
    return -1;
  gsize len = 0;
  gssize n = 1;
  while (len < ROOM && (n = read(fd, value + len, MIN(piece, ROOM - len))) > 0)
    len += (gsize)n;
  close(fd);
  return n < 0 ? -1 : (gssize)len;
}

static void judge(const guint8 *value, gsize len, gint64 not_before_us) {
  Head head;
  if (len == 0) {
    add(&shared->empty);
  } else if (!identify(value, len, &head)) {
    fprintf(stderr, "mixed: %zu bytes, the first %02x %02x\n", len, value[0], len > 1 ? value[1] : 0);
    add(&shared->mixed);
  } else {
    const Write *write_of = &shared->write[head.writer][head.number % RECENT];
    const gint64 start_us = get(&write_of->start_us), end_us = get(&write_of->end_us);
    const gboolean kept = get(&write_of->number) == head.number;
    if (!kept || (end_us != 0 && end_us < not_before_us)) {
      fprintf(stderr, "stale by %" G_GINT64_FORMAT " us: %u bytes\n", kept ? not_before_us - end_us : -1, head.len);
      add(&shared->stale);
    } else {
      raise_to(&shared->seen_start_us, start_us);
    }
  }
}

static void read_all(guint64 seed) {
  static const gsize pieces[] = {131072, 1 << 20, 8192};
  SimRandom random = {.state = seed};
  guint8 *value = g_malloc(ROOM);
  while (!get(&shared->stop)) {
    const gint64 not_before_us = MAX(get(&shared->written_start_us), get(&shared->seen_start_us));
    const gint64 began_us = g_get_monotonic_time();
    const gssize len = read_value(value, pieces[sim_random_below(&random, G_N_ELEMENTS(pieces))]);
    if (len < 0)
      complain("read");
    else if (g_get_monotonic_time() - began_us >= PAUSE_US)
      add(&shared->paused);
    else
      judge(value, (gsize)len, not_before_us);
    add(&shared->reads);
  }
  g_free(value);
}

int main(int argc, char **argv) {
  if (argc < 3 || argc > 5) {
    fprintf(stderr, "usage: one_key FILE SECONDS [WRITERS [READERS]]\n");
    return 2;
  }
  path = argv[1];
  const guint writers = MIN(argc > 3 ? (guint)atoi(argv[3]) : 4, 4); /* a byte tells four of them, of 64 sorts */
  const guint readers = argc > 4 ? (guint)atoi(argv[4]) : 4;
  shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED)
    return 2;
  guint8 *first = g_malloc(ROOM + 8);
  write_one(first, (Head){.writer = 0, .len = 100, .number = 0});
  g_free(first);
  for (guint i = 0; i < writers + readers; i++) {
    if (fork() != 0)
      continue;
    const guint64 seed = sim_mix((guint64)g_get_real_time() + i);
    if (i < writers)
      write_all(i, seed);
    else
      read_all(seed);
    return 0;
  }
  g_usleep((gulong)atoi(argv[2]) * G_USEC_PER_SEC);
  set(&shared->stop, 1);
  while (wait(NULL) > 0)
    ;
  const gint64 wrong = get(&shared->empty) + get(&shared->mixed) + get(&shared->stale) + get(&shared->failed);
  printf("%" G_GINT64_FORMAT " writes, %" G_GINT64_FORMAT " reads: %" G_GINT64_FORMAT " empty, %" G_GINT64_FORMAT
         " mixed, %" G_GINT64_FORMAT " stale, %" G_GINT64_FORMAT " failed, %" G_GINT64_FORMAT " not judged after a pause\n",
         get(&shared->writes), get(&shared->reads), get(&shared->empty), get(&shared->mixed), get(&shared->stale),
         get(&shared->failed), get(&shared->paused));
  return wrong == 0 ? 0 : 1;
}
