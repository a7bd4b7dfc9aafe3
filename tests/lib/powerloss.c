/* powerloss.c - LD_PRELOAD: a disk that keeps what was synced, beside the files as the processes see them.
 *
 *   QFS_LIVE=DIR    what the program works on. The files here are what the kernel's cache would show.
 *   QFS_DISK=DIR    what would be left if the power failed now; tests/lib/powerloss.py makes it so:
 *                     tree/    the names below QFS_LIVE, as of the latest fsync of each directory
 *                     inode/N  the content of inode N, as of the latest fsync of it; names are links to it
 *   QFS_CUT=N       the program is killed at its N-th change of a file or sync, before or after that (by N's parity)
 *
 * A name is durable only when its directory was synced after it was made, content only when the file was
 * synced: POSIX promises no more. Whatever is mapped (SQLite's -shm) is not seen here, and never durable.
 * fsync does not touch the real disk. Everything on the file system of QFS_LIVE is followed, whatever its name.
 *
 * Safe for any threads: one lock. No file of QFS_LIVE is ever opened here: closing it would drop the
 * process's locks of it.
 */
#undef _FILE_OFFSET_BITS /* both names of each call are defined here; 64-bit systems only */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define BLOCK 4096
#define BUCKETS 1024

typedef struct Inode Inode;
struct Inode {
  Inode *next;
  ino_t number;
  uint64_t *dirty; /* a bit per block */
  size_t words;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static Inode *inodes[BUCKETS];
static char live[PATH_MAX], disk[PATH_MAX];
static dev_t live_device;
static unsigned long cut_at, calls;
static pid_t owner; /* children of a fork are not the program */

static void die(const char *what) {
  dprintf(2, "powerloss: %s: %s\n", what, strerror(errno));
  abort();
}

#define REAL(name, result, ...)                                                                              \
  static result (*real_##name)(__VA_ARGS__);                                                                 \
  if (real_##name == NULL && (*(void **)&real_##name = dlsym(RTLD_NEXT, #name)) == NULL)                     \
  die(#name)

__attribute__((constructor)) static void begin(void) {
  const char *live_name = getenv("QFS_LIVE"), *disk_name = getenv("QFS_DISK"), *cut = getenv("QFS_CUT");
  struct stat st;
  if (live_name == NULL || disk_name == NULL)
    return;
  if (realpath(live_name, live) == NULL || realpath(disk_name, disk) == NULL || stat(live, &st) != 0)
    die("QFS_LIVE or QFS_DISK");
  live_device = st.st_dev;
  cut_at = cut != NULL ? strtoul(cut, NULL, 10) : 0;
  owner = getpid();
}

static int is_ours(int fd, struct stat *st, mode_t type) {
  const int saved = errno;
  const int ours = *live != '\0' && getpid() == owner && fstat(fd, st) == 0 && st->st_dev == live_device &&
                   (st->st_mode & S_IFMT) == type;
  errno = saved;
  return ours;
}

/* Called with the lock, before and after each change. */
static void maybe_cut(int is_after) {
  if (cut_at == 0)
    return;
  if (!is_after)
    calls++;
  if (calls == cut_at && is_after == (int)(cut_at & 1)) {
    kill(getpid(), SIGKILL);
    for (;;)
      pause();
  }
}

static Inode *inode_of(ino_t number) {
  Inode **bucket = &inodes[number % BUCKETS], *inode = *bucket;
  while (inode != NULL && inode->number != number)
    inode = inode->next;
  if (inode == NULL) {
    inode = calloc(1, sizeof *inode);
    if (inode == NULL)
      die("memory");
    inode->number = number;
    inode->next = *bucket;
    *bucket = inode;
  }
  return inode;
}

static void note(ino_t number, off_t offset, size_t len) {
  if (len == 0)
    return;
  Inode *inode = inode_of(number);
  const size_t first = (size_t)offset / BLOCK, last = ((size_t)offset + len - 1) / BLOCK;
  if (last / 64 >= inode->words) {
    const size_t words = (last / 64 + 1) * 2;
    inode->dirty = realloc(inode->dirty, words * sizeof *inode->dirty);
    if (inode->dirty == NULL)
      die("memory");
    memset(inode->dirty + inode->words, 0, (words - inode->words) * sizeof *inode->dirty);
    inode->words = words;
  }
  for (size_t block = first; block <= last; block++)
    inode->dirty[block / 64] |= UINT64_C(1) << (block % 64);
}

static void inode_path(ino_t number, char *out) {
  snprintf(out, PATH_MAX + 64, "%s/inode/%llu", disk, (unsigned long long)number);
}

/* What another file of this number left has nothing to do with the new one. */
static void forget(ino_t number) {
  char path[PATH_MAX + 64];
  inode_path(number, path);
  REAL(unlink, int, const char *);
  real_unlink(path);
  Inode *inode = inode_of(number);
  if (inode->dirty != NULL)
    memset(inode->dirty, 0, inode->words * sizeof *inode->dirty);
}

static int open_disk_inode(ino_t number) {
  char path[PATH_MAX + 64];
  inode_path(number, path);
  REAL(open, int, const char *, int, ...);
  const int fd = real_open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0)
    die(path);
  return fd;
}

/* ---- syncs ---- */

static void sync_file(int fd, const struct stat *st) {
  REAL(ftruncate, int, int, off_t);
  REAL(pwrite, ssize_t, int, const void *, size_t, off_t);
  Inode *inode = inode_of(st->st_ino);
  const int to = open_disk_inode(st->st_ino);
  char block[BLOCK];
  for (size_t word = 0; word < inode->words; word++)
    for (uint64_t bits = inode->dirty[word]; bits != 0; bits &= bits - 1) {
      const off_t offset = (off_t)(word * 64 + (size_t)__builtin_ctzll(bits)) * BLOCK;
      const ssize_t len = pread(fd, block, BLOCK, offset);
      if (len < 0)
        die("reading what is synced");
      if (real_pwrite(to, block, (size_t)len, offset) != len)
        die("writing what is synced");
    }
  if (real_ftruncate(to, st->st_size) != 0)
    die("cutting what is synced");
  close(to);
  if (inode->dirty != NULL)
    memset(inode->dirty, 0, inode->words * sizeof *inode->dirty);
}

static void remove_tree(const char *path) {
  DIR *dir = opendir(path);
  struct dirent *entry;
  REAL(unlink, int, const char *);
  while (dir != NULL && (entry = readdir(dir)) != NULL) {
    char below[PATH_MAX + 256 + 2];
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
      continue;
    snprintf(below, sizeof below, "%s/%s", path, entry->d_name);
    if (real_unlink(below) != 0)
      remove_tree(below);
  }
  if (dir != NULL)
    closedir(dir);
  rmdir(path);
}

static void sync_name(const char *from, const char *to) {
  struct stat there, here, content;
  char path[PATH_MAX + 64];
  REAL(unlink, int, const char *);
  if (lstat(from, &there) != 0)
    return;
  const int known = lstat(to, &here) == 0;
  if (S_ISDIR(there.st_mode)) {
    if (known && !S_ISDIR(here.st_mode))
      real_unlink(to);
    mkdir(to, 0700);
    return;
  }
  if (!S_ISREG(there.st_mode))
    return;
  close(open_disk_inode(there.st_ino));
  inode_path(there.st_ino, path);
  if (known && lstat(path, &content) == 0 && content.st_ino == here.st_ino)
    return;
  if (known)
    remove_tree(to), real_unlink(to);
  if (link(path, to) != 0)
    die(to);
}

static void sync_dir(int fd) {
  char link_name[64], path[PATH_MAX], copy[2 * PATH_MAX + 8];
  snprintf(link_name, sizeof link_name, "/proc/self/fd/%d", fd);
  const ssize_t len = readlink(link_name, path, sizeof path - 1);
  if (len < 0)
    die(link_name);
  path[len] = '\0';
  const size_t prefix = strlen(live);
  if (strncmp(path, live, prefix) != 0 || (path[prefix] != '/' && path[prefix] != '\0'))
    return;
  snprintf(copy, sizeof copy, "%s/tree%s", disk, path + prefix);
  struct stat st;
  if (stat(copy, &st) != 0)
    return; /* its own name is not durable: nothing below can be */
  char from[PATH_MAX + 258], to[2 * PATH_MAX + 266];
  struct dirent *entry;
  DIR *dir = opendir(path);
  while (dir != NULL && (entry = readdir(dir)) != NULL) {
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
      continue;
    snprintf(from, sizeof from, "%s/%s", path, entry->d_name);
    snprintf(to, sizeof to, "%s/%s", copy, entry->d_name);
    sync_name(from, to);
  }
  if (dir != NULL)
    closedir(dir);
  REAL(unlink, int, const char *);
  dir = opendir(copy);
  while (dir != NULL && (entry = readdir(dir)) != NULL) {
    snprintf(from, sizeof from, "%s/%s", path, entry->d_name);
    snprintf(to, sizeof to, "%s/%s", copy, entry->d_name);
    if (lstat(from, &st) != 0 && real_unlink(to) != 0)
      remove_tree(to);
  }
  if (dir != NULL)
    closedir(dir);
}

static int sync_any(int fd) {
  struct stat st;
  const int is_file = is_ours(fd, &st, S_IFREG);
  if (!is_file && !is_ours(fd, &st, S_IFDIR))
    return 0;
  pthread_mutex_lock(&lock);
  maybe_cut(0);
  if (is_file && fstat(fd, &st) == 0)
    sync_file(fd, &st);
  else
    sync_dir(fd);
  maybe_cut(1);
  pthread_mutex_unlock(&lock);
  return 1;
}

int fsync(int fd) {
  REAL(fsync, int, int);
  return sync_any(fd) ? 0 : real_fsync(fd);
}

int fdatasync(int fd) {
  REAL(fdatasync, int, int);
  return sync_any(fd) ? 0 : real_fdatasync(fd);
}

/* ---- changes of files ---- */

#define CHANGE(fd, call, offset, len)                                                                        \
  struct stat st;                                                                                            \
  if (!is_ours(fd, &st, S_IFREG))                                                                            \
    return call;                                                                                             \
  pthread_mutex_lock(&lock);                                                                                 \
  maybe_cut(0);                                                                                              \
  const __typeof__(call) done = call;                                                                        \
  const int saved = errno;                                                                                   \
  if (done >= 0)                                                                                             \
    note(st.st_ino, offset, len);                                                                            \
  maybe_cut(1);                                                                                              \
  pthread_mutex_unlock(&lock);                                                                               \
  errno = saved;                                                                                             \
  return done

ssize_t pwrite(int fd, const void *data, size_t len, off_t offset) {
  REAL(pwrite, ssize_t, int, const void *, size_t, off_t);
  CHANGE(fd, real_pwrite(fd, data, len, offset), offset, len);
}

ssize_t pwrite64(int fd, const void *data, size_t len, off64_t offset) {
  return pwrite(fd, data, len, offset);
}

/* The position is before the data, or at the end with O_APPEND: both are marked. */
ssize_t write(int fd, const void *data, size_t len) {
  REAL(write, ssize_t, int, const void *, size_t);
  struct stat before;
  const off_t at = is_ours(fd, &before, S_IFREG) ? lseek(fd, 0, SEEK_CUR) : 0;
  const off_t first = at < before.st_size ? at : before.st_size;
  const off_t last = (at > before.st_size ? at : before.st_size) + (off_t)len;
  CHANGE(fd, real_write(fd, data, len), first, (size_t)(last - first));
}

/* Sizes need no mark: a sync always takes the size over. What a file shrank to nothing and grew again is
 * not there: holes are marked. */
int ftruncate(int fd, off_t size) {
  REAL(ftruncate, int, int, off_t);
  struct stat before;
  const off_t old = is_ours(fd, &before, S_IFREG) ? before.st_size : size;
  const off_t first = old < size ? old : size, last = old < size ? size : old;
  CHANGE(fd, real_ftruncate(fd, size), first, (size_t)(last - first));
}

int ftruncate64(int fd, off64_t size) {
  return ftruncate(fd, size);
}

int posix_fallocate(int fd, off_t offset, off_t len) {
  REAL(posix_fallocate, int, int, off_t, off_t);
  CHANGE(fd, real_posix_fallocate(fd, offset, len), offset, (size_t)len);
}

int posix_fallocate64(int fd, off64_t offset, off64_t len) {
  return posix_fallocate(fd, offset, len);
}

int fallocate(int fd, int mode, off_t offset, off_t len) {
  REAL(fallocate, int, int, int, off_t, off_t);
  CHANGE(fd, real_fallocate(fd, mode, offset, len), offset, (size_t)len);
}

int fallocate64(int fd, int mode, off64_t offset, off64_t len) {
  return fallocate(fd, mode, offset, len);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
  REAL(writev, ssize_t, int, const struct iovec *, int);
  struct stat before;
  if (is_ours(fd, &before, S_IFREG)) {
    errno = ENOSYS; /* nobody here does */
    die("writev");
  }
  return real_writev(fd, parts, count);
}

/* ---- names: the directories are compared when they are synced; only a cut may come before or after ---- */

#define NAME_CHANGE(call)                                                                                    \
  if (*live == '\0' || getpid() != owner)                                                                    \
    return call;                                                                                             \
  pthread_mutex_lock(&lock);                                                                                 \
  maybe_cut(0);                                                                                              \
  const int done = call;                                                                                     \
  const int saved = errno;                                                                                   \
  maybe_cut(1);                                                                                              \
  pthread_mutex_unlock(&lock);                                                                               \
  errno = saved;                                                                                             \
  return done

int unlink(const char *path) {
  REAL(unlink, int, const char *);
  NAME_CHANGE(real_unlink(path));
}

int rename(const char *from, const char *to) {
  REAL(rename, int, const char *, const char *);
  NAME_CHANGE(real_rename(from, to));
}

int open(const char *path, int flags, ...) {
  REAL(open, int, const char *, int, ...);
  struct stat st;
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(arguments, mode_t) : 0;
  va_end(arguments);
  if (*live == '\0' || !(flags & O_CREAT) || getpid() != owner)
    return real_open(path, flags, mode);
  pthread_mutex_lock(&lock);
  const int is_new = stat(path, &st) != 0;
  const int fd = real_open(path, flags, mode);
  const int saved = errno;
  if (fd >= 0 && is_new && is_ours(fd, &st, S_IFREG)) {
    forget(st.st_ino);
    maybe_cut(0);
  } else if (fd >= 0 && flags & O_TRUNC) {
    errno = ENOSYS;
    die("O_TRUNC");
  }
  pthread_mutex_unlock(&lock);
  errno = saved;
  return fd;
}

int open64(const char *path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(arguments, mode_t) : 0;
  va_end(arguments);
  return open(path, flags, mode);
}
