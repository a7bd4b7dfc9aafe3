/* engine.c - what all engines share; see engine.h. Pure, no state. */
#include "cluster/engine.h"

GQuark qfs_engine_error_quark(void) { return g_quark_from_static_string("qfs-engine-error"); }

void qfs_engine_status_free(QfsEngineStatus *status) {
  if (status == NULL)
    return;
  for (guint i = 0; i < QFS_NODES_MAX; i++) {
    g_free(status->node[i].reason);
    g_free(status->node[i].aside);
    g_free(status->node[i].dir);
  }
  g_free(status->purge_waits_for);
  g_free(status->waits_for);
  g_free(status->resize_waits_for);
  g_free(status);
}
