/* parts.h - names of the coordinator's parts, which refer to each other. */
#pragma once

#include "cluster/coordinator.h"
#include "cluster/placement.h"

G_BEGIN_DECLS

typedef struct QfsOp QfsOp;
typedef struct QfsFlight QfsFlight;
typedef struct QfsCatchup QfsCatchup;
typedef struct QfsRecovery QfsRecovery;
typedef struct QfsMover QfsMover;
typedef struct QfsTidy QfsTidy;
typedef struct QfsPurge QfsPurge;
typedef struct QfsMend QfsMend;
typedef struct QfsScrub QfsScrub;
typedef struct QfsScrubRange QfsScrubRange;
typedef struct QfsReclaim QfsReclaim;
typedef struct QfsSubtree QfsSubtree;
typedef struct QfsBatch QfsBatch;

G_END_DECLS
