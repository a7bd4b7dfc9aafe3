/* diskfault.c - LD_PRELOAD: a disk whose calls fail while the file $QFS_FAULTS says so.
 *
 * The file holds "CALLS ERRNO PREFIX\n", padded to LENGTH bytes, which whoever changes it replaces in one write(2):
 * calls of the kinds in CALLS (w: write, truncate, allocate, remove and rename; s: sync; r: read; o: open) on files whose
 * path begins with PREFIX fail with ERRNO. CALLS of "-": none. What is mapped is not touched. Safe for any threads.
 */
#undef _FILE_OFFSET_BITS /* both names of each call are defined here; 64-bit systems only */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define LENGTH 512

static const char *rule;

#define REAL(name, result, ...)                                                                              \
  static result (*real_##name)(__VA_ARGS__);                                                                 \
  if (real_##name == NULL && (*(void **)&real_##name = dlsym(RTLD_NEXT, #name)) == NULL)                     \
  abort()

__attribute__((constructor)) static void begin(void) {
  const char *name = getenv("QFS_FAULTS");
  REAL(open, int, const char *, int, ...);
  const int fd = name != NULL ? real_open(name, O_RDONLY | O_CLOEXEC) : -1;
  void *mapped = fd >= 0 ? mmap(NULL, LENGTH, PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;
  if (mapped != MAP_FAILED)
    rule = mapped;
}

/* errno is set when it does. */
static int fails_path(char call, const char *path) {
  char copy[LENGTH + 1] = "", calls[16] = "", prefix[LENGTH] = "";
  int code = 0;
  if (rule == NULL || rule[0] == '-')
    return 0;
  memcpy(copy, rule, LENGTH);
  if (sscanf(copy, "%15s %d %511s", calls, &code, prefix) != 3 || strchr(calls, call) == NULL ||
      strncmp(path, prefix, strlen(prefix)) != 0)
    return 0;
  errno = code;
  return 1;
}

static int fails(char call, int fd) {
  char name[64], path[PATH_MAX];
  const int saved = errno;
  if (rule == NULL || rule[0] == '-')
    return 0;
  snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
  const ssize_t len = readlink(name, path, sizeof path - 1);
  errno = saved;
  if (len < 0)
    return 0;
  path[len] = '\0';
  return fails_path(call, path);
}

ssize_t pwrite(int fd, const void *data, size_t len, off_t offset) {
  REAL(pwrite, ssize_t, int, const void *, size_t, off_t);
  return fails('w', fd) ? -1 : real_pwrite(fd, data, len, offset);
}
ssize_t pwrite64(int fd, const void *data, size_t len, off64_t offset) {
  return pwrite(fd, data, len, offset);
}

ssize_t write(int fd, const void *data, size_t len) {
  REAL(write, ssize_t, int, const void *, size_t);
  return fails('w', fd) ? -1 : real_write(fd, data, len);
}

ssize_t pread(int fd, void *data, size_t len, off_t offset) {
  REAL(pread, ssize_t, int, void *, size_t, off_t);
  return fails('r', fd) ? -1 : real_pread(fd, data, len, offset);
}
ssize_t pread64(int fd, void *data, size_t len, off64_t offset) {
  return pread(fd, data, len, offset);
}

int ftruncate(int fd, off_t size) {
  REAL(ftruncate, int, int, off_t);
  return fails('w', fd) ? -1 : real_ftruncate(fd, size);
}
int ftruncate64(int fd, off64_t size) {
  return ftruncate(fd, size);
}

int fallocate(int fd, int mode, off_t offset, off_t len) {
  REAL(fallocate, int, int, int, off_t, off_t);
  return fails('w', fd) ? -1 : real_fallocate(fd, mode, offset, len);
}
int fallocate64(int fd, int mode, off64_t offset, off64_t len) {
  return fallocate(fd, mode, offset, len);
}

int fsync(int fd) {
  REAL(fsync, int, int);
  return fails('s', fd) ? -1 : real_fsync(fd);
}

int fdatasync(int fd) {
  REAL(fdatasync, int, int);
  return fails('s', fd) ? -1 : real_fdatasync(fd);
}

int unlink(const char *path) {
  REAL(unlink, int, const char *);
  return fails_path('w', path) ? -1 : real_unlink(path);
}

int rename(const char *from, const char *to) {
  REAL(rename, int, const char *, const char *);
  return fails_path('w', to) ? -1 : real_rename(from, to);
}

int open(const char *path, int flags, ...) {
  REAL(open, int, const char *, int, ...);
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(arguments, mode_t) : 0;
  va_end(arguments);
  if (fails_path('o', path) || ((flags & O_ACCMODE) != O_RDONLY && fails_path('w', path)))
    return -1;
  return real_open(path, flags, mode);
}

int open64(const char *path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(arguments, mode_t) : 0;
  va_end(arguments);
  return open(path, flags, mode);
}
