/* direct_map.c - see direct_map.h.
 *
 * A reader beside a replacing writer reads past the page cache, pinned to one version. The kernel maps such a file
 * MAP_SHARED only where the answer to INIT has FUSE_DIRECT_IO_ALLOW_MMAP, and libfuse before 3.17 cannot ask for that. So
 * the session's writes come through here, and the flag is put into that answer: the first one to a request, as the
 * kernel sends nothing else before it has it. A fill of mapped pages is no read(2): it gets the newest version, as that
 * of a private mapping does (handle.h H3), and pages are dropped by what changes.
 */
#include "fs/direct_map.h"

#include <errno.h>
#include <linux/fuse.h>
#include <sys/uio.h>
#include <unistd.h>

#define DIRECT_IO_ALLOW_MMAP (1u << (36 - 32)) /* of flags2 */

static void add_flag(const struct fuse_out_header *header, const struct iovec *body) {
  struct fuse_init_out *init = body->iov_base;
  if (header->error == 0 && body->iov_len == sizeof *init && (init->flags & FUSE_INIT_EXT) != 0)
    init->flags2 |= DIRECT_IO_ALLOW_MMAP;
}

static ssize_t write_answer(int fd, struct iovec *iov, int count, void *user_data) {
  QfsFs *fs = user_data;
  const struct fuse_out_header *header = iov[0].iov_base;
  /* Notifications have no number. */
  if (!g_atomic_int_get(&fs->init_answered) && header->unique != 0) {
    g_atomic_int_set(&fs->init_answered, 1);
    if (count == 2)
      add_flag(header, &iov[1]);
  }
  return writev(fd, iov, count);
}

static ssize_t read_request(int fd, void *buffer, size_t len, void *user_data) { return read(fd, buffer, len); }

gboolean qfs_direct_map_allow(struct fuse_session *se) {
  const struct fuse_custom_io io = {.writev = write_answer, .read = read_request};
  const int result = fuse_session_custom_io(se, &io, fuse_session_fd(se));
  errno = -result;
  return result == 0;
}
