#include "cluster/message.h"

static const char *const type_names[] = {
    "hello", "promise", "view", "apply", "chunks", "intent", "commit", "discard", "sync", "read",
    "chunk-get", "scan-records", "scan-chunks", "intents", "remove", "wipe", "scan-tombstones", "purge",
    "list-chunks", "object-records", "ping",
    "inspect", "mend", "verify", "digest", "digest-chunks",
};

const char *qfs_message_type_name(QfsMessageType type) {
  g_return_val_if_fail((guint)type < G_N_ELEMENTS(type_names), "?");
  return type_names[type];
}

void qfs_intent_free(QfsIntent *intent) {
  if (intent == NULL)
    return;
  g_clear_pointer(&intent->records, g_ptr_array_unref);
  g_free(intent);
}

QfsMessage *qfs_message_new(QfsMessageType type, guint node) {
  QfsMessage *message = g_slice_new0(QfsMessage);
  message->type = type;
  message->node = node;
  return message;
}

QfsMessage *qfs_message_new_reply(const QfsMessage *request) {
  QfsMessage *reply = qfs_message_new(request->type, request->node);
  reply->is_reply = TRUE;
  reply->incarnation = request->incarnation;
  reply->epoch = request->epoch;
  reply->cookie = request->cookie;
  return reply;
}

static GPtrArray *array_ref(GPtrArray *array) { return array ? g_ptr_array_ref(array) : NULL; }

QfsMessage *qfs_message_copy(const QfsMessage *message, guint node) {
  QfsMessage *copy = g_slice_dup(QfsMessage, message);
  copy->node = node;
  copy->reason = g_strdup(message->reason);
  copy->aside = g_strdup(message->aside);
  copy->until = g_strdup(message->until);
  copy->digests = array_ref(message->digests);
  copy->bad_rows = array_ref(message->bad_rows);
  copy->key = g_strdup(message->key);
  copy->bad = qfs_bad_row_copy(message->bad);
  copy->records = array_ref(message->records);
  copy->chunks = array_ref(message->chunks);
  copy->intents = array_ref(message->intents);
  copy->view = message->view ? g_memdup2(message->view, sizeof *message->view) : NULL;
  copy->meta = message->meta ? g_memdup2(message->meta, sizeof *message->meta) : NULL;
  return copy;
}

void qfs_message_free(QfsMessage *message) {
  if (message == NULL)
    return;
  g_free(message->reason);
  g_free(message->aside);
  g_free(message->until);
  g_clear_pointer(&message->digests, g_ptr_array_unref);
  g_clear_pointer(&message->bad_rows, g_ptr_array_unref);
  g_free(message->key);
  g_clear_pointer(&message->records, g_ptr_array_unref);
  g_clear_pointer(&message->chunks, g_ptr_array_unref);
  g_clear_pointer(&message->intents, g_ptr_array_unref);
  qfs_bad_row_free(message->bad);
  g_free(message->view);
  g_free(message->meta);
  g_slice_free(QfsMessage, message);
}

gsize qfs_message_size(const QfsMessage *message) {
  gsize size = sizeof *message;
  for (guint i = 0; message->records != NULL && i < message->records->len; i++) {
    const QfsRecord *record = g_ptr_array_index(message->records, i);
    size += sizeof *record + g_bytes_get_size(record->tail) + g_bytes_get_size(record->xattrs) +
            g_bytes_get_size(record->spans);
  }
  for (guint i = 0; message->chunks != NULL && i < message->chunks->len; i++) {
    const QfsChunk *chunk = g_ptr_array_index(message->chunks, i);
    size += sizeof *chunk + (chunk->data ? g_bytes_get_size(chunk->data) : 0);
  }
  return size;
}

GPtrArray *qfs_records_new(void) {
  return g_ptr_array_new_with_free_func((GDestroyNotify)qfs_record_unref);
}

GPtrArray *qfs_chunks_new(void) {
  return g_ptr_array_new_with_free_func((GDestroyNotify)qfs_chunk_free);
}
