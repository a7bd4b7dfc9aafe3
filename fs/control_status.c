/* control_status.c - what .quorumfs/status, status.json, gc, scrub, repair and nodes/I/state say. */
#include "fs/control_private.h"

#include <json-glib/json-glib.h>
#include <unistd.h>

const char *control_state_name(QfsNodeState state) {
  switch (state) {
  case QFS_NODE_STATE_DOWN:
    return "down";
  case QFS_NODE_STATE_CRASHED:
    return "crashed";
  case QFS_NODE_STATE_OPENING:
    return "opening";
  case QFS_NODE_STATE_CATCHING_UP:
    return "catching-up";
  case QFS_NODE_STATE_REBUILDING:
    return "rebuilding";
  case QFS_NODE_STATE_UP:
    return "up";
  case QFS_NODE_STATE_FAILED:
    return "failed";
  case QFS_NODE_STATE_EVICTED:
    return "evicted";
  }
  return "unknown";
}

static gboolean has_progress(QfsNodeState state) {
  return state == QFS_NODE_STATE_CATCHING_UP || state == QFS_NODE_STATE_REBUILDING;
}

char *control_node_state_text(const QfsNodeStatus *node) {
  if (has_progress(node->state))
    return g_strdup_printf("%s %u%%", control_state_name(node->state), MIN(node->progress, 100));
  if (node->state == QFS_NODE_STATE_FAILED) {
    g_autofree char *reason = g_strdup(node->reason != NULL ? node->reason : "no reason known");
    return g_strdup_printf("failed: %s", g_strdelimit(reason, "\n\r", ' '));
  }
  return g_strdup(control_state_name(node->state));
}

static char *size_text(guint64 bytes) {
  return g_format_size_full(bytes, G_FORMAT_SIZE_IEC_UNITS);
}

static void append_damage_counts(GString *out, const QfsEngineCounters *count) {
  g_string_append_printf(out,
                         "%" G_GUINT64_FORMAT " bad records, %" G_GUINT64_FORMAT
                         " bad chunks; mended %" G_GUINT64_FORMAT " records, %" G_GUINT64_FORMAT
                         " chunks; %" G_GUINT64_FORMAT " replicas set aside, %" G_GUINT64_FORMAT
                         " rebuilt\n",
                         count->bad_records, count->bad_chunks, count->mended_records,
                         count->mended_chunks, count->set_aside, count->rebuilt);
}

static void append_scrub(GString *out, const QfsEngineStatus *status) {
  const char *name = status->scrub_verifies ? "scrub" : "repair";
  if (status->scrub_waits_for != NULL)
    g_string_append_printf(out, "%s waits for %s\n", name, status->scrub_waits_for);
  else if (status->scrub_running)
    g_string_append_printf(out, "%s %u%%\n", name, status->scrub_progress);
  else
    g_string_append(out, "idle\n");
}

static void append_node(GString *out, guint number, const QfsNodeStatus *node) {
  g_autofree char *state = control_node_state_text(node);
  g_autofree char *bytes = size_text(node->replica.bytes);
  g_autofree char *space = size_text(node->replica.disk_free);
  g_string_append_printf(out,
                         "%-4u  %-16s  %-7s  %6" G_GUINT64_FORMAT "  %10" G_GUINT64_FORMAT
                         "  %10" G_GUINT64_FORMAT "  %10s  %10s  %s\n",
                         number, state, node->in_sync ? "yes" : "no", node->lag,
                         node->replica.records, node->replica.tombstones, bytes, space,
                         node->dir != NULL ? node->dir : "-");
  if (node->aside != NULL)
    g_string_append_printf(out, "      set aside as replica.damaged: %s\n", node->aside);
}

char *control_status_text(const QfsEngineStatus *status, const QfsEngineConfig *config) {
  GString *out = g_string_new(NULL);
  guint up = 0;
  for (guint i = 0; i < status->nodes; i++)
    up += status->node[i].state == QFS_NODE_STATE_UP;
  g_string_append_printf(out, "store      %s (%s)\n", config->store, status->store);
  g_string_append_printf(out, "daemon     quorumfs %s, process %d\n", QFS_VERSION, (int)getpid());
  g_string_append_printf(out,
                         "nodes      %u, %u up; %u replicas of each key, %u acknowledge a write\n",
                         status->nodes, up, status->replicas, status->write_quorum);
  if (status->resizing)
    g_string_append_printf(out, "moving     to %u nodes, %u replicas: %u%%%s%s\n",
                           status->wanted_nodes, status->wanted_replicas, status->resize_progress,
                           status->resize_waits_for != NULL ? ", waits for " : "",
                           status->resize_waits_for != NULL ? status->resize_waits_for : "");
  g_string_append_printf(out, "quorum     %s%s\n", status->quorum ? "yes" : "NO: every write fails",
                         status->recovering ? "; start is not finished" : "");
  if (status->waits_for != NULL)
    g_string_append_printf(out, "waits      for %s to return with what only they may have, or to be evicted\n",
                           status->waits_for);
  g_string_append_printf(out, "unsettled  %" G_GUINT64_FORMAT "\n", status->unsettled);
  guint64 tombstones = 0;
  for (guint i = 0; i < status->nodes; i++)
    tombstones += status->node[i].replica.tombstones;
  g_string_append_printf(out, "tombstones %" G_GUINT64_FORMAT " rows, collecting %s%s\n", tombstones,
                         status->purge_waits_for != NULL ? "waits for "
                         : status->purge_running         ? "is under way"
                                                         : "goes by age",
                         status->purge_waits_for != NULL ? status->purge_waits_for : "");
  g_string_append(out, "damage     ");
  append_damage_counts(out, &status->count);
  g_string_append(out, "scrub      ");
  append_scrub(out, status);
  g_string_append_printf(out, "reclaimed  %" G_GUINT64_FORMAT " chunks that no value had, since the mount\n",
                         status->count.chunks_reclaimed);
  g_string_append_printf(out, "epoch      %" G_GUINT64_FORMAT "\n", status->epoch);
  g_string_append_printf(out,
                         "requests   %" G_GUINT64_FORMAT " puts, %" G_GUINT64_FORMAT
                         " acknowledged, %" G_GUINT64_FORMAT " timed out, %" G_GUINT64_FORMAT
                         " refused; %" G_GUINT64_FORMAT " gets, %" G_GUINT64_FORMAT " deletes\n\n",
                         status->count.puts, status->count.acknowledged, status->count.timed_out,
                         status->count.refused, status->count.gets, status->count.deletes);
  g_string_append_printf(out, "%-4s  %-16s  %-7s  %6s  %10s  %10s  %10s  %10s  %s\n", "node",
                         "state", "in-sync", "lag", "keys", "tombstones", "bytes", "free",
                         "directory");
  for (guint i = 0; i < status->nodes; i++)
    append_node(out, i + 1, &status->node[i]);
  return g_string_free(out, FALSE);
}

char *control_gc_text(const QfsEngineStatus *status) {
  GString *out = g_string_new(status->purge_running ? "running\n" : "idle\n");
  if (status->purge_waits_for != NULL)
    g_string_append_printf(out, "waits for %s\n", status->purge_waits_for);
  if (status->purge_last_ms != 0) {
    g_autoptr(GDateTime) at = g_date_time_new_from_unix_local(status->purge_last_ms / 1000);
    g_autofree char *text = at != NULL ? g_date_time_format_iso8601(at) : NULL;
    g_string_append_printf(out, "last run %s, %" G_GUINT64_FORMAT " collected\n",
                           text != NULL ? text : "at an unknown time", status->purge_last_removed);
  }
  g_string_append_printf(out, "%" G_GUINT64_FORMAT " collected since the mount\n", status->count.tombstones_collected);
  g_string_append_printf(out, "%" G_GUINT64_FORMAT " chunks reclaimed since the mount\n", status->count.chunks_reclaimed);
  return g_string_free(out, FALSE);
}

char *control_scrub_text(const QfsEngineStatus *status, gboolean verify) {
  GString *out = g_string_new(NULL);
  append_scrub(out, status);
  if (status->scrub_last_ms != 0) {
    g_autoptr(GDateTime) at = g_date_time_new_from_unix_local(status->scrub_last_ms / 1000);
    g_autofree char *text = at != NULL ? g_date_time_format_iso8601(at) : NULL;
    g_string_append_printf(out,
                           "last run %s (%s), %" G_GUINT64_FORMAT " bad rows found, %" G_GUINT64_FORMAT
                           " rows mended, %" G_GUINT64_FORMAT " without a good copy\n",
                           text != NULL ? text : "at an unknown time",
                           status->scrub_last_verified ? "scrub" : "repair", status->scrub_last_bad,
                           status->scrub_last_mended, status->scrub_last_lost);
  }
  g_string_append_printf(out, "since the mount: ");
  append_damage_counts(out, &status->count);
  return g_string_free(out, FALSE);
}

static void add_number(JsonBuilder *json, const char *name, guint64 number) {
  json_builder_set_member_name(json, name);
  json_builder_add_int_value(json, (gint64)MIN(number, (guint64)G_MAXINT64));
}

static void add_flag(JsonBuilder *json, const char *name, gboolean value) {
  json_builder_set_member_name(json, name);
  json_builder_add_boolean_value(json, value != FALSE);
}

static void add_text(JsonBuilder *json, const char *name, const char *text) {
  json_builder_set_member_name(json, name);
  if (text == NULL) {
    json_builder_add_null_value(json);
    return;
  }
  g_autofree char *valid = g_utf8_make_valid(text, -1); /* file names need not be UTF-8 */
  json_builder_add_string_value(json, valid);
}

static void add_node(JsonBuilder *json, guint number, const QfsNodeStatus *node) {
  json_builder_begin_object(json);
  add_number(json, "node", number);
  add_text(json, "state", control_state_name(node->state));
  if (has_progress(node->state))
    add_number(json, "progress_percent", MIN(node->progress, 100));
  if (node->state == QFS_NODE_STATE_FAILED)
    add_text(json, "reason", node->reason);
  add_text(json, "set_aside", node->aside);
  add_flag(json, "in_sync", node->in_sync);
  add_number(json, "lag", node->lag);
  add_number(json, "keys", node->replica.records);
  add_number(json, "tombstones", node->replica.tombstones);
  add_number(json, "chunks", node->replica.chunks);
  add_number(json, "answer_us", node->answer_us);
  add_number(json, "read_us", node->read_us);
  add_number(json, "bytes", node->replica.bytes);
  add_number(json, "disk_total_bytes", node->replica.disk_total);
  add_number(json, "disk_free_bytes", node->replica.disk_free);
  add_text(json, "directory", node->dir);
  json_builder_end_object(json);
}

char *control_status_json(const QfsEngineStatus *status, const QfsEngineConfig *config) {
  g_autoptr(JsonBuilder) json = json_builder_new();
  json_builder_begin_object(json);
  add_text(json, "version", QFS_VERSION);
  add_number(json, "pid", (guint64)getpid());
  add_text(json, "store", config->store);
  add_text(json, "store_id", status->store);
  add_number(json, "nodes", status->nodes);
  add_number(json, "replicas", status->replicas);
  add_number(json, "write_quorum", status->write_quorum);
  add_number(json, "nodes_in_force", status->nodes_in_force);
  add_flag(json, "moving", status->resizing);
  add_number(json, "wanted_nodes", status->wanted_nodes);
  add_number(json, "wanted_replicas", status->wanted_replicas);
  add_number(json, "moving_percent", status->resize_progress);
  add_text(json, "moving_waits_for", status->resize_waits_for);
  add_flag(json, "quorum", status->quorum);
  add_flag(json, "recovering", status->recovering);
  add_text(json, "waits_for", status->waits_for);
  add_number(json, "epoch", status->epoch);
  add_number(json, "unsettled", status->unsettled);
  add_flag(json, "gc_running", status->purge_running);
  add_text(json, "gc_waits_for", status->purge_waits_for);
  add_number(json, "gc_last_ms", (guint64)MAX(status->purge_last_ms, 0));
  add_number(json, "gc_last_collected", status->purge_last_removed);
  add_number(json, "gc_collected", status->count.tombstones_collected);
  add_number(json, "gc_last_chunks", status->reclaim_last_removed);
  add_number(json, "gc_chunks", status->count.chunks_reclaimed);
  add_number(json, "puts", status->count.puts);
  add_number(json, "gets", status->count.gets);
  add_number(json, "deletes", status->count.deletes);
  add_number(json, "renames", status->count.renames);
  add_number(json, "acknowledged", status->count.acknowledged);
  add_number(json, "timed_out", status->count.timed_out);
  add_number(json, "refused", status->count.refused);
  add_number(json, "lost_values", status->count.lost_values);
  add_flag(json, "scrub_running", status->scrub_running);
  add_flag(json, "scrub_wanted", status->scrub_wanted);
  add_text(json, "scrub_waits_for", status->scrub_waits_for);
  add_number(json, "scrub_progress_percent", status->scrub_progress);
  add_number(json, "scrub_runs", status->scrub_runs);
  add_number(json, "scrub_last_ms", (guint64)MAX(status->scrub_last_ms, 0));
  add_flag(json, "scrub_last_verified", status->scrub_last_verified);
  add_number(json, "scrub_last_bad", status->scrub_last_bad);
  add_number(json, "scrub_last_mended", status->scrub_last_mended);
  add_number(json, "scrub_last_lost", status->scrub_last_lost);
  add_number(json, "bad_records", status->count.bad_records);
  add_number(json, "bad_chunks", status->count.bad_chunks);
  add_number(json, "mended_records", status->count.mended_records);
  add_number(json, "mended_chunks", status->count.mended_chunks);
  add_number(json, "replicas_set_aside", status->count.set_aside);
  add_number(json, "replicas_rebuilt", status->count.rebuilt);
  json_builder_set_member_name(json, "node");
  json_builder_begin_array(json);
  for (guint i = 0; i < status->nodes; i++)
    add_node(json, i + 1, &status->node[i]);
  json_builder_end_array(json);
  json_builder_end_object(json);
  g_autoptr(JsonNode) root = json_builder_get_root(json);
  g_autofree char *text = json_to_string(root, TRUE);
  return g_strconcat(text, "\n", NULL);
}
