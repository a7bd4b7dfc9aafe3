#include "cluster/status.h"

const char *qfs_status_name(QfsStatus status) {
  switch (status) {
  case QFS_OK:
    return "ok";
  case QFS_NOT_FOUND:
    return "not-found";
  case QFS_EXISTS:
    return "exists";
  case QFS_NOT_DIRECTORY:
    return "not-directory";
  case QFS_IS_DIRECTORY:
    return "is-directory";
  case QFS_NOT_EMPTY:
    return "not-empty";
  case QFS_STALE:
    return "stale";
  case QFS_NO_QUORUM:
    return "no-quorum";
  case QFS_UNKNOWN:
    return "unknown";
  case QFS_IO:
    return "io";
  case QFS_NO_SPACE:
    return "no-space";
  case QFS_NAME_TOO_LONG:
    return "name-too-long";
  case QFS_TOO_BIG:
    return "too-big";
  case QFS_OVERFLOW:
    return "overflow";
  case QFS_INVALID:
    return "invalid";
  case QFS_CROSS:
    return "cross";
  case QFS_CANCELED:
    return "canceled";
  case QFS_BUSY:
    return "busy";
  case QFS_TOO_MANY_LINKS:
    return "too-many-links";
  }
  return "?";
}
