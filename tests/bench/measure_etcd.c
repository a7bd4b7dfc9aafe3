/* measure_etcd.c - an etcd cluster, through the HTTP gateway of one member, over one connection kept open. */
#include "measure.h"

#include <curl/curl.h>
#include <json-glib/json-glib.h>
#include <string.h>

typedef struct {
  CURL *curl;
  struct curl_slist *headers;
  GString *answer;
  guint port;
} Etcd;

static gboolean etcd_start(const char *where) { return curl_global_init(CURL_GLOBAL_DEFAULT) == 0; }

static void etcd_stop(void) { curl_global_cleanup(); }

static size_t receive(char *data, size_t size, size_t n, void *answer) {
  g_string_append_len(answer, data, (gssize)(size * n));
  return size * n;
}

static gpointer etcd_connect(const char *where) {
  Etcd *etcd = g_new0(Etcd, 1);
  etcd->curl = curl_easy_init();
  etcd->answer = g_string_new(NULL);
  etcd->port = (guint)atoi(where);
  etcd->headers = curl_slist_append(curl_slist_append(NULL, "Content-Type: application/json"), "Expect:");
  curl_easy_setopt(etcd->curl, CURLOPT_HTTPHEADER, etcd->headers);
  curl_easy_setopt(etcd->curl, CURLOPT_WRITEFUNCTION, receive);
  curl_easy_setopt(etcd->curl, CURLOPT_WRITEDATA, etcd->answer);
  curl_easy_setopt(etcd->curl, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(etcd->curl, CURLOPT_NOPROXY, "*");
  return etcd;
}

static void etcd_disconnect(gpointer connection) {
  Etcd *etcd = connection;
  curl_easy_cleanup(etcd->curl);
  curl_slist_free_all(etcd->headers);
  g_string_free(etcd->answer, TRUE);
  g_free(etcd);
}

static gboolean post(Etcd *etcd, const char *path, const char *body) {
  char url[64];
  long status = 0;
  g_snprintf(url, sizeof url, "http://127.0.0.1:%u/v3/kv/%s", etcd->port, path);
  g_string_truncate(etcd->answer, 0);
  curl_easy_setopt(etcd->curl, CURLOPT_URL, url);
  curl_easy_setopt(etcd->curl, CURLOPT_POSTFIELDSIZE, (long)strlen(body));
  curl_easy_setopt(etcd->curl, CURLOPT_POSTFIELDS, body);
  if (curl_easy_perform(etcd->curl) != CURLE_OK)
    return FALSE;
  curl_easy_getinfo(etcd->curl, CURLINFO_RESPONSE_CODE, &status);
  return status == 200;
}

static char *base64(const char *text, gsize size) { return g_base64_encode((const guchar *)text, size); }

static gboolean etcd_put(gpointer connection, const char *key, const char *value, gsize size, gboolean durable) {
  g_autofree char *key64 = base64(key, strlen(key)), *value64 = base64(value, size);
  g_autofree char *body = g_strdup_printf("{\"key\":\"%s\",\"value\":\"%s\"}", key64, value64);
  return post(connection, "put", body);
}

static gboolean etcd_remove(gpointer connection, const char *key) {
  g_autofree char *key64 = base64(key, strlen(key));
  g_autofree char *body = g_strdup_printf("{\"key\":\"%s\"}", key64);
  return post(connection, "deleterange", body);
}

static gssize etcd_get(gpointer connection, const char *key, char *buffer, gsize room) {
  Etcd *etcd = connection;
  g_autofree char *key64 = base64(key, strlen(key));
  g_autofree char *body = g_strdup_printf("{\"key\":\"%s\"}", key64);
  if (!post(etcd, "range", body))
    return -2;
  g_autoptr(JsonParser) parser = json_parser_new();
  if (!json_parser_load_from_data(parser, etcd->answer->str, (gssize)etcd->answer->len, NULL))
    return -2;
  JsonObject *object = json_node_get_object(json_parser_get_root(parser));
  if (!json_object_has_member(object, "kvs"))
    return -1;
  JsonObject *found = json_array_get_object_element(json_object_get_array_member(object, "kvs"), 0);
  gsize size;
  g_autofree guchar *value = g_base64_decode(json_object_get_string_member(found, "value"), &size);
  memcpy(buffer, value, MIN(size, room));
  return (gssize)size;
}

const Target target_etcd = {.name = "etcd",
                            .start = etcd_start,
                            .stop = etcd_stop,
                            .connect = etcd_connect,
                            .disconnect = etcd_disconnect,
                            .put = etcd_put,
                            .get = etcd_get,
                            .remove = etcd_remove};
