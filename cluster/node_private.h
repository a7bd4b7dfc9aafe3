/* node_private.h - what the files of a node share: node.c (life, batches), node_serve.c (requests). */
#pragma once

#include "cluster/node.h"

G_BEGIN_DECLS

/* Rows of a garbage object that one step removes: about 4 MiB of pages. */
#define DROP_STEP_ROWS 64
/* Requests refused for lack of space that are remembered, and batches that are over. */
#define REFUSED_MAX 1024
#define ENDED_MAX 1024

struct QfsNode {
  QfsEnv *env;
  guint number;
  guint64 incarnation;
  guint64 wiped_incarnation; /* the one that a WIPE was served for */
  QfsReplica *replica;
  QfsNodeMeta meta; /* as last committed */
  QfsFileWatch *watch; /* the replica's; or NULL */
  char *aside;      /* why what lies beside the replica was set aside; NULL: nothing does */
  gboolean is_aside_new; /* ... by this process */
  guint64 room;     /* bytes that may be written before the disk is asked again */
  gboolean is_tight; /* the disk was full: the log is to be moved and given back */
  gboolean corrupt; /* the failure was damage to what is stored */
  char *failure;    /* N3: why everything is refused; NULL while usable */
  guint64 refused[REFUSED_MAX]; /* cookies, a ring: a late copy of one must not work after all */
  guint n_refused;              /* ever */
  guint64 refused_newest;       /* of them: cookies only grow, so what is newer was not refused */
  guint64 ended[ENDED_MAX];     /* intents, a ring: a late copy of one must not bring it back */
  guint n_ended;                /* ever */
  guint64 ended_newest;         /* of them */
  GArray *drops;    /* QfsObjectId: garbage objects of which rows are left */

  /* of the attempt in progress */
  gboolean in_transaction;
  gboolean durable; /* some request wants the commit on stable storage */
  gboolean meta_changed; /* by this batch: `next` is not `meta` */
  QfsNodeMeta next;
  guint64 next_wiped;
};

/* Raises *field; TRUE: it was smaller. */
static inline gboolean qfs_raise_to(guint64 *field, guint64 value) {
  if (value <= *field)
    return FALSE;
  *field = value;
  return TRUE;
}

static inline gboolean qfs_is_bad_row(const GError *error) {
  return g_error_matches(error, QFS_REPLICA_ERROR, QFS_REPLICA_ERROR_BAD_ROW);
}

/* Serves one request within the attempt in progress, in a transaction if qfs_node_writes: node_serve.c. FALSE: failed. */
gboolean qfs_node_serve(QfsNode *node, const QfsMessage *request, QfsMessage *reply, GError **error);
gboolean qfs_node_writes(const QfsMessage *request);

G_END_DECLS
