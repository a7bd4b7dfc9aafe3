/* measure_redis.c - a Redis server on loopback. Whether a put is durable is the server's setting. */
#include "measure.h"

#include <hiredis/hiredis.h>
#include <string.h>

static gpointer redis_connect(const char *where) {
  redisContext *redis = redisConnect("127.0.0.1", atoi(where));
  if (redis == NULL || redis->err != 0) {
    g_printerr("measure: redis: %s\n", redis != NULL ? redis->errstr : "no memory");
    return NULL;
  }
  return redis;
}

static void redis_disconnect(gpointer connection) { redisFree(connection); }

static gboolean end(redisReply *reply) {
  gboolean good = reply != NULL && reply->type != REDIS_REPLY_ERROR;
  freeReplyObject(reply);
  return good;
}

static gboolean redis_put(gpointer connection, const char *key, const char *value, gsize size, gboolean durable) {
  return end(redisCommand(connection, "SET %s %b", key, value, size));
}

static gboolean redis_append(gpointer connection, const char *key, const char *value, gsize size) {
  return end(redisCommand(connection, "APPEND %s %b", key, value, size));
}

static gboolean redis_remove(gpointer connection, const char *key) { return end(redisCommand(connection, "DEL %s", key)); }

static gssize redis_get(gpointer connection, const char *key, char *buffer, gsize room) {
  redisReply *reply = redisCommand(connection, "GET %s", key);
  gssize result = -2;
  if (reply != NULL && reply->type == REDIS_REPLY_NIL) {
    result = -1;
  } else if (reply != NULL && reply->type == REDIS_REPLY_STRING) {
    result = (gssize)reply->len;
    memcpy(buffer, reply->str, MIN(reply->len, room));
  }
  freeReplyObject(reply);
  return result;
}

const Target target_redis = {.name = "redis",
                             .connect = redis_connect,
                             .disconnect = redis_disconnect,
                             .put = redis_put,
                             .get = redis_get,
                             .remove = redis_remove,
                             .append = redis_append};
