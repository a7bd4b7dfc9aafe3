/* schema.h - tables of a replica's file, their version and its migrations. Private to storage/.
 *
 * The format is described in schema.c. Threading: like the connection that is passed in.
 */
#pragma once

#include "storage/connection.h"

G_BEGIN_DECLS

#define QFS_SCHEMA_VERSION 8
/* "QFSr", in the file's header: what file(1) and this program recognise a replica by. */
#define QFS_SCHEMA_APPLICATION_ID 0x51465372

/* The key of a row of record, as the index record_seq spells it (see record.h, qfs_key_join). */
#define QFS_SCHEMA_KEY "CASE WHEN ltrim(dir, '/') = '' THEN dir || name ELSE dir || '/' || name END"

typedef enum {
  QFS_SCHEMA_EMPTY,   /* no tables: new, or its creation never committed */
  QFS_SCHEMA_CURRENT, /* ready for use */
  QFS_SCHEMA_OLD,     /* of an older version that qfs_schema_migrate can bring up */
} QfsSchemaState;

/* Looks at the file and changes nothing. FALSE: foreign or of a newer version (FORMAT), or
 * unreadable. */
gboolean qfs_schema_inspect(QfsConnection *connection, QfsSchemaState *out_state, GError **error);
/* Tables, version and application id, within the caller's transaction. */
gboolean qfs_schema_create(QfsConnection *connection, GError **error);
/* From the file's version to QFS_SCHEMA_VERSION, within the caller's transaction. */
gboolean qfs_schema_migrate(QfsConnection *connection, GError **error);

G_END_DECLS
