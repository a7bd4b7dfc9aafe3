/* control_metrics.c - .quorumfs/metrics: the status as Prometheus text, format version 0.0.4. */
#include "fs/control_private.h"

static void header(GString *out, const char *name, const char *type, const char *help) {
  g_string_append_printf(out, "# HELP quorumfs_%s %s\n# TYPE quorumfs_%s %s\n", name, help, name,
                         type);
}

static void sample(GString *out, const char *name, const char *labels, guint64 value) {
  g_string_append_printf(out, "quorumfs_%s%s %" G_GUINT64_FORMAT "\n", name, labels, value);
}

static void single(GString *out, const char *name, const char *type, guint64 value,
                   const char *help) {
  header(out, name, type, help);
  sample(out, name, "", value);
}

static void requests(GString *out, const QfsEngineCounters *count) {
  single(out, "puts_total", "counter", count->puts,
         "Writes, creations and changes of attributes that were asked for.");
  single(out, "gets_total", "counter", count->gets, "Gets that were asked for.");
  single(out, "deletes_total", "counter", count->deletes, "Deletes that were asked for.");
  single(out, "renames_total", "counter", count->renames, "Renames that were asked for.");
  single(out, "acknowledged_total", "counter", count->acknowledged,
         "Changes that a majority acknowledged.");
  single(out, "timeouts_total", "counter", count->timed_out, "Changes whose outcome is unknown.");
  single(out, "refused_total", "counter", count->refused,
         "Changes that were refused for lack of a quorum, without effect.");
}

static const char *const opcodes[CONTROL_OPCODES] = {
    [0] = "other",        [1] = "lookup",     [2] = "forget",      [3] = "getattr",       [4] = "setattr",
    [5] = "readlink",     [6] = "symlink",    [8] = "mknod",       [9] = "mkdir",         [10] = "unlink",
    [11] = "rmdir",       [12] = "rename",    [13] = "link",       [14] = "open",         [15] = "read",
    [16] = "write",       [17] = "statfs",    [18] = "release",    [20] = "fsync",        [21] = "setxattr",
    [22] = "getxattr",    [23] = "listxattr", [24] = "removexattr", [25] = "flush",       [26] = "init",
    [27] = "opendir",     [28] = "readdir",   [29] = "releasedir", [30] = "fsyncdir",     [34] = "access",
    [35] = "create",      [36] = "interrupt", [40] = "poll",       [42] = "batch_forget", [43] = "fallocate",
    [44] = "readdirplus", [45] = "rename2",   [46] = "lseek",      [47] = "copy_file_range"};

void qfs_control_count_request(QfsControl *control, guint opcode) {
  const guint at = opcode < CONTROL_OPCODES && opcodes[opcode] != NULL ? opcode : 0;
  g_atomic_int_inc(&control->requests[at]);
}

static void kernel(GString *out, gint *requests) {
  header(out, "fuse_requests_total", "counter", "Requests of the kernel; they wrap at 2^32.");
  for (guint i = 0; i < CONTROL_OPCODES; i++) {
    if (opcodes[i] == NULL)
      continue;
    g_autofree char *labels = g_strdup_printf("{operation=\"%s\"}", opcodes[i]);
    sample(out, "fuse_requests_total", labels, (guint)g_atomic_int_get(&requests[i]));
  }
}

static void by_type(GString *out, const char *name, const char *help, const guint64 *counts) {
  header(out, name, "counter", help);
  for (guint type = 0; type < QFS_MESSAGE_TYPES; type++) {
    g_autofree char *labels = g_strdup_printf("{type=\"%s\"}", qfs_message_type_name(type));
    sample(out, name, labels, counts[type]);
  }
}

static void work(GString *out, const QfsEngineCounters *count) {
  by_type(out, "messages_sent_total",
          "Requests that the coordinator sent to nodes, repeated ones too.", count->sent);
  by_type(out, "messages_received_total", "Answers of nodes that reached the coordinator.",
          count->received);
  single(out, "hedged_reads_total", "counter", count->hedged,
         "Reads that another node was asked as well, because one was late.");
  header(
      out, "repairs_total", "counter",
      "Versions that a read wrote back to a majority, and unusable replicas that were wiped to be "
      "copied anew.");
  sample(out, "repairs_total", "{kind=\"write_back\"}", count->written_back);
  sample(out, "repairs_total", "{kind=\"rebuild\"}", count->rebuilt);
  header(out, "lost_values_total", "counter",
         "Values that were removed because their data was only at nodes that were evicted.");
  sample(out, "lost_values_total", "", count->lost_values);
  header(out, "bad_rows_total", "counter", "Rows that did not match their checksum.");
  sample(out, "bad_rows_total", "{kind=\"record\"}", count->bad_records);
  sample(out, "bad_rows_total", "{kind=\"chunk\"}", count->bad_chunks);
  header(out, "mended_rows_total", "counter",
         "Rows that were replaced by a good copy, or taken away because most holders have none.");
  sample(out, "mended_rows_total", "{kind=\"record\"}", count->mended_records);
  sample(out, "mended_rows_total", "{kind=\"chunk\"}", count->mended_chunks);
  single(out, "lost_rows_total", "counter", count->lost_rows, "Bad rows for which there was no good copy.");
  single(out, "replicas_set_aside_total", "counter", count->set_aside,
         "Replicas that could not be used and were kept under another name.");
  single(out, "chunks_reclaimed_total", "counter", count->chunks_reclaimed,
         "Chunk rows that no value had, which were discarded.");
  header(out, "catchup_copied_total", "counter",
         "What was copied to nodes that caught up or took over from others.");
  sample(out, "catchup_copied_total", "{kind=\"record\"}", count->copied_records);
  sample(out, "catchup_copied_total", "{kind=\"chunk\"}", count->copied_chunks);
}

/* ---- per node ---- */

static void states(GString *out, const QfsEngineStatus *status) {
  static const QfsNodeState all[] = {QFS_NODE_STATE_UP,         QFS_NODE_STATE_CATCHING_UP,
                                     QFS_NODE_STATE_REBUILDING, QFS_NODE_STATE_OPENING,
                                     QFS_NODE_STATE_DOWN,       QFS_NODE_STATE_CRASHED,
                                     QFS_NODE_STATE_FAILED,     QFS_NODE_STATE_EVICTED};
  header(out, "node_state", "gauge", "1 for the state that the node is in, 0 for the others.");
  for (guint i = 0; i < status->nodes; i++)
    for (guint s = 0; s < G_N_ELEMENTS(all); s++) {
      g_autofree char *labels =
          g_strdup_printf("{node=\"%u\",state=\"%s\"}", i + 1, control_state_name(all[s]));
      sample(out, "node_state", labels, status->node[i].state == all[s]);
    }
}

typedef guint64 (*NodeValue)(const QfsNodeStatus *node);
static guint64 in_sync(const QfsNodeStatus *node) {
  return node->in_sync ? 1 : 0;
}
static guint64 lag(const QfsNodeStatus *node) {
  return node->lag;
}
static guint64 keys(const QfsNodeStatus *node) {
  return node->replica.records;
}
static guint64 tombstones(const QfsNodeStatus *node) {
  return node->replica.tombstones;
}
static guint64 chunks(const QfsNodeStatus *node) {
  return node->replica.chunks;
}
static guint64 bytes(const QfsNodeStatus *node) {
  return node->replica.bytes;
}
static guint64 disk_total(const QfsNodeStatus *node) {
  return node->replica.disk_total;
}
static guint64 disk_free(const QfsNodeStatus *node) {
  return node->replica.disk_free;
}
static guint64 answer_us(const QfsNodeStatus *node) {
  return node->answer_us;
}
static guint64 read_us(const QfsNodeStatus *node) {
  return node->read_us;
}

static void nodes(GString *out, const QfsEngineStatus *status) {
  static const struct {
    const char *name, *help;
    NodeValue value;
  } gauges[] = {
      {"node_in_sync", "1: the node counts towards quorums and serves reads.", in_sync},
      {"node_lag_operations", "Requests sent to the node and not yet answered.", lag},
      {"node_keys", "Keys that the node's replica holds.", keys},
      {"node_tombstones", "Tombstones that the node's replica holds.", tombstones},
      {"node_chunks", "Chunks of large values that the node's replica holds.", chunks},
      {"node_bytes", "Size of the node's replica.", bytes},
      {"node_disk_total_bytes", "Size of the file system that holds the replica.", disk_total},
      {"node_disk_free_bytes", "Free space of the file system that holds the replica.", disk_free},
      {"node_answer_microseconds", "Usual time from a request to the node's answer.", answer_us},
      {"node_read_microseconds", "Usual time of a direct read of the node.", read_us},
  };
  states(out, status);
  for (guint g = 0; g < G_N_ELEMENTS(gauges); g++) {
    header(out, gauges[g].name, "gauge", gauges[g].help);
    for (guint i = 0; i < status->nodes; i++) {
      g_autofree char *labels = g_strdup_printf("{node=\"%u\"}", i + 1);
      sample(out, gauges[g].name, labels, gauges[g].value(&status->node[i]));
    }
  }
}

char *control_metrics_text(const QfsEngineStatus *status, gint *requests_of_kernel) {
  GString *out = g_string_new(NULL);
  header(out, "build_info", "gauge", "1, with the version of the daemon.");
  sample(out, "build_info", "{version=\"" QFS_VERSION "\"}", 1);
  single(out, "nodes", "gauge", status->nodes, "Nodes of the store.");
  single(out, "replicas", "gauge", status->replicas, "Replicas of each key.");
  single(out, "write_quorum", "gauge", status->write_quorum, "Replicas that acknowledge a write.");
  single(out, "quorum", "gauge", status->quorum ? 1 : 0, "1: writes are possible.");
  single(out, "recovering", "gauge", status->recovering ? 1 : 0, "1: the start is not finished.");
  single(out, "epoch", "gauge", status->epoch, "Number of the current epoch.");
  single(out, "unsettled_versions", "gauge", status->unsettled,
         "Versions that are not yet on stable storage at all their holders.");
  single(out, "scrub_runs_total", "counter", status->scrub_runs,
         "Comparisons of all replicas that came to their end.");
  single(out, "scrub_last_seconds", "gauge", (guint64)MAX(status->scrub_last_ms, 0) / 1000,
         "When the last one ended, in seconds since 1970; 0: none did.");
  single(out, "reclaim_runs_total", "counter", status->reclaim_runs,
         "Searches for chunks that no value has which looked at all chunks.");
  requests(out, &status->count);
  kernel(out, requests_of_kernel);
  work(out, &status->count);
  nodes(out, status);
  return g_string_free(out, FALSE);
}
