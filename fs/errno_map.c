#include "fs/errno_map.h"

#include <errno.h>

int qfs_status_to_errno(QfsStatus status) {
  switch (status) {
  case QFS_OK:
    return 0;
  case QFS_NOT_FOUND:
    return ENOENT;
  case QFS_EXISTS:
    return EEXIST;
  case QFS_NOT_DIRECTORY:
    return ENOTDIR;
  case QFS_IS_DIRECTORY:
    return EISDIR;
  case QFS_NOT_EMPTY:
    return ENOTEMPTY;
  case QFS_STALE:
    return ESTALE;
  case QFS_NO_QUORUM:
    return EHOSTDOWN;
  case QFS_UNKNOWN:
    return ETIMEDOUT;
  case QFS_IO:
    return EIO;
  case QFS_NO_SPACE:
    return ENOSPC;
  case QFS_NAME_TOO_LONG:
    return ENAMETOOLONG;
  case QFS_TOO_BIG:
    return EFBIG;
  case QFS_OVERFLOW:
    return EOVERFLOW;
  case QFS_INVALID:
    return EINVAL;
  case QFS_CROSS:
    return EXDEV;
  case QFS_CANCELED:
    return EINTR;
  case QFS_BUSY:
    return EBUSY;
  case QFS_TOO_MANY_LINKS:
    return EMLINK;
  }
  return EIO;
}
