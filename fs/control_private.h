/* control_private.h - shared by control.c and control_*.c only. */
#pragma once

#include "fs/control.h"
#include "fs/events.h"

G_BEGIN_DECLS

#define CONTROL_OPCODES 64 /* of requests; 0: others */

struct QfsControl {
  gint requests[CONTROL_OPCODES]; /* atomic */
  QfsEngine *engine;
  void (*changed)(const char *key, gpointer user_data);
  gpointer user_data;
  QfsEvents *events;
  void (*wake)(gpointer token, gboolean readable, gpointer user_data);
  char **(*names)(const char *key, gpointer user_data);
};

/* control_status.c, control_metrics.c: the texts. `status` is borrowed. */
char *control_metrics_text(const QfsEngineStatus *status, gint *requests);
char *control_status_text(const QfsEngineStatus *status, const QfsEngineConfig *config);
char *control_gc_text(const QfsEngineStatus *status);
char *control_scrub_text(const QfsEngineStatus *status, gboolean verify);
char *control_status_json(const QfsEngineStatus *status, const QfsEngineConfig *config);
const char *control_state_name(QfsNodeState state);
char *control_node_state_text(const QfsNodeStatus *node); /* "catching-up 41%", no line end */

/* control_keys.c: bytes of the value `record` as node `node` has them; 0, or as for the lookup, or ENODATA (they are at
 * other nodes), ESTALE (replaced meanwhile). */
int control_key_read(QfsControl *control, guint node, const QfsRecord *record, guint64 offset, gsize size,
                     GBytes **out_data);

/* control_faults.c */
typedef enum { CONTROL_DELAY, CONTROL_DROP, CONTROL_PARTITION } ControlFault;
char *control_fault_text(QfsControl *control, ControlFault fault,
                         guint node); /* node: not for PARTITION */
/* FALSE: a line was logged that tells what is missing. */
gboolean control_faults_allowed(QfsControl *control, const char *path);
/* Only where allowed. 0, or EINVAL after a line was logged: then nothing changed. `data` is
 * borrowed. */
int control_fault_write(QfsControl *control, ControlFault fault, guint node, GBytes *data);

/* control_rpc.c: one request of the command line. Calls on one object never overlap. */
typedef struct ControlRpc ControlRpc;
ControlRpc *control_rpc_new(QfsControl *control, uid_t uid, gid_t gid);
/* Drops what was staged and not published. */
void control_rpc_free(ControlRpc *rpc);
/* Takes the next bytes of the request (`data` is borrowed); `done` once, by any thread, perhaps
 * before return. */
void control_rpc_write(ControlRpc *rpc, GBytes *data, QfsControlWriteDone done, gpointer user_data);
/* The first one carries the request out; later ones return the same answer. */
void control_rpc_read(ControlRpc *rpc, off_t offset, gsize size, QfsControlReadDone done,
                      gpointer user_data);

/* The part of `text` that a read of `size` bytes at `offset` returns; never NULL. */
GBytes *control_slice(GBytes *text, off_t offset, gsize size);

G_END_DECLS
