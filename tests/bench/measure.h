/* measure.h - what can be measured of a store, whatever it is.
 *
 * A Target is one kind of store; a connection to it is used by one thread. Keys are short names without '/'.
 * Every function returns FALSE (or a negative number) when the store refused, with errno or a message
 * on standard error: a measurement with failures is thrown away by its caller.
 */
#pragma once

#include <glib.h>

G_BEGIN_DECLS

typedef struct {
  const char *name;
  /* Once for the process, before any connect; NULL: nothing to do. `where` is what follows "name:" on the command line. */
  gboolean (*start)(const char *where);
  void (*stop)(void);
  gpointer (*connect)(const char *where);
  void (*disconnect)(gpointer connection);
  /* Replaces or creates; `durable`: on stable storage when it returns, where the store lets the client choose. */
  gboolean (*put)(gpointer connection, const char *key, const char *value, gsize size, gboolean durable);
  /* The size of the value, which is in `buffer`; -1: no such key; -2: failed. */
  gssize (*get)(gpointer connection, const char *key, char *buffer, gsize room);
  gboolean (*remove)(gpointer connection, const char *key);
  /* The rest may be NULL: the store has no such thing. */
  gboolean (*append)(gpointer connection, const char *key, const char *value, gsize size);
  gboolean (*stat)(gpointer connection, const char *key);
  /* Opens `key` for `read_open`, which reads all of it again. */
  gboolean (*open)(gpointer connection, const char *key);
  gssize (*read_open)(gpointer connection, char *buffer, gsize room);
} Target;

extern const Target target_file;
extern const Target target_sqlite;
extern const Target target_engine;
#ifdef HAVE_HIREDIS
extern const Target target_redis;
#endif
#ifdef HAVE_CURL
extern const Target target_etcd;
#endif

G_END_DECLS
