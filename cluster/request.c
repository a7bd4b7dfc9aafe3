#include "cluster/request.h"

QfsRequest *qfs_request_new(QfsRequestType type, const char *key, QfsRequestDone done,
                            gpointer user_data) {
  QfsRequest *request = g_slice_new0(QfsRequest);
  request->type = type;
  request->key = g_strdup(key);
  request->done = done;
  request->user_data = user_data;
  return request;
}

void qfs_request_free(QfsRequest *request) {
  if (request == NULL)
    return;
  g_free(request->key);
  g_free(request->key2);
  g_free(request->after);
  g_free(request->keep);
  g_clear_pointer(&request->data, g_bytes_unref);
  g_clear_pointer(&request->xattrs, g_bytes_unref);
  qfs_record_unref(request->record);
  qfs_record_unref(request->replaced);
  g_clear_pointer(&request->entries, g_ptr_array_unref);
  g_slice_free(QfsRequest, request);
}
