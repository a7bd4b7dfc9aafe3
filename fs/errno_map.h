/* errno_map.h - the one place where outcomes become errno values (DESIGN section 5). */
#pragma once

#include "cluster/status.h"

/* Positive errno; 0 for QFS_OK. Never EACCES, EINTR (except QFS_CANCELED). */
int qfs_status_to_errno(QfsStatus status);
