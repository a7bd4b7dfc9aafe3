/* measure_sqlite.c - one table of one SQLite file, in WAL mode: what a replica costs at the least.
 * synchronous=NORMAL, and FULL for a durable put; one transaction a put. */
#include "measure.h"

#include <sqlite3.h>
#include <string.h>

typedef struct {
  sqlite3 *db;
  sqlite3_stmt *put, *get, *remove, *append;
  gboolean full;
} Sqlite;

static sqlite3_stmt *prepare(sqlite3 *db, const char *sql) {
  sqlite3_stmt *statement = NULL;
  if (sqlite3_prepare_v3(db, sql, -1, SQLITE_PREPARE_PERSISTENT, &statement, NULL) != SQLITE_OK)
    g_printerr("measure: sqlite: %s\n", sqlite3_errmsg(db));
  return statement;
}

static gpointer sqlite_connect(const char *where) {
  Sqlite *s = g_new0(Sqlite, 1);
  if (sqlite3_open(where, &s->db) != SQLITE_OK ||
      sqlite3_exec(s->db,
                   "pragma busy_timeout=10000; pragma journal_mode=wal; pragma synchronous=normal;"
                   "create table if not exists kv(key text primary key, value blob) without rowid",
                   NULL, NULL, NULL) != SQLITE_OK) {
    g_printerr("measure: %s: %s\n", where, sqlite3_errmsg(s->db));
    return NULL;
  }
  s->put = prepare(s->db, "insert or replace into kv values(?1, ?2)");
  s->get = prepare(s->db, "select value from kv where key = ?1");
  s->remove = prepare(s->db, "delete from kv where key = ?1");
  s->append = prepare(s->db, "insert into kv values(?1, ?2) on conflict(key) do update set value = value || ?2");
  return s;
}

static void sqlite_disconnect(gpointer connection) {
  Sqlite *s = connection;
  sqlite3_finalize(s->put);
  sqlite3_finalize(s->get);
  sqlite3_finalize(s->remove);
  sqlite3_finalize(s->append);
  sqlite3_close(s->db);
  g_free(s);
}

static gboolean run(sqlite3_stmt *statement, const char *key, const char *value, gsize size) {
  sqlite3_bind_text(statement, 1, key, -1, SQLITE_STATIC);
  if (value != NULL)
    sqlite3_bind_blob64(statement, 2, value, size, SQLITE_STATIC);
  gboolean good = sqlite3_step(statement) == SQLITE_DONE;
  sqlite3_reset(statement);
  return good;
}

static gboolean sqlite_put(gpointer connection, const char *key, const char *value, gsize size, gboolean durable) {
  Sqlite *s = connection;
  if (durable != s->full) {
    sqlite3_exec(s->db, durable ? "pragma synchronous=full" : "pragma synchronous=normal", NULL, NULL, NULL);
    s->full = durable;
  }
  return run(s->put, key, value, size);
}

static gboolean sqlite_append(gpointer connection, const char *key, const char *value, gsize size) {
  return run(((Sqlite *)connection)->append, key, value, size);
}

static gssize sqlite_get(gpointer connection, const char *key, char *buffer, gsize room) {
  Sqlite *s = connection;
  sqlite3_bind_text(s->get, 1, key, -1, SQLITE_STATIC);
  int rc = sqlite3_step(s->get);
  gssize result = rc == SQLITE_DONE ? -1 : -2;
  if (rc == SQLITE_ROW) {
    result = sqlite3_column_bytes(s->get, 0);
    memcpy(buffer, sqlite3_column_blob(s->get, 0), MIN((gsize)result, room));
  }
  sqlite3_reset(s->get);
  return result;
}

static gboolean sqlite_remove(gpointer connection, const char *key) {
  return run(((Sqlite *)connection)->remove, key, NULL, 0);
}

const Target target_sqlite = {.name = "sqlite",
                              .connect = sqlite_connect,
                              .disconnect = sqlite_disconnect,
                              .put = sqlite_put,
                              .get = sqlite_get,
                              .remove = sqlite_remove,
                              .append = sqlite_append};
