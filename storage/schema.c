/* schema.c - the tables of a replica, readable with the sqlite3 shell.
 *
 * A replica is one SQLite file, replica.db, with its log (replica.db-wal) and the log's index
 * (replica.db-shm) beside it. Its header carries QFS_SCHEMA_APPLICATION_ID, and the version of the
 * schema as user_version; a file with another id, or of a newer version, is refused and not
 * changed.
 *
 *   sqlite3 replica.db "select dir, name, data from record where name = 'colour'"
 *   sqlite3 replica.db "select * from keys"
 *
 * Numbers. SQLite's integers are signed, ours are unsigned 64-bit. Most are stored as two's
 * complement: what is below 2^63, as every timestamp that the clock issues, prints as it is, and
 * printf('%u', x) prints all of them. SQL never compares them; that is done in C. The exception is
 * the table `chunk`, whose object id and version have their sign bit flipped, so that SQL's signed
 * order is the unsigned one and "the greatest version up to V" is one descent of the tree. The view
 * `chunks` prints them plainly.
 *
 * Keys are TEXT without conversion: any bytes but NUL, compared by memcmp (collation BINARY).
 *
 * Columns stand in the order of their use: `data` is last, so that reading what is before it never
 * touches the overflow pages that hold a long value. That is what listings read. So a row has two
 * sums: `head_checksum` covers every column before `data`, with `checksum` among them, and
 * `checksum` covers the record with its data (checksum.c).
 *
 * The tables with data are rowid tables, each with its key in an index: in a WITHOUT ROWID table
 * every comparison with a row that overflows reads the whole row, and every search makes several.
 * The price is that a damaged index may lead to another row, intact and with a good sum, so whoever
 * reads by an index checks that it got what it asked for, and in order.
 *
 * The index record_seq spells the key out, because (dir, name) does not sort like the key: "a/b"
 * comes after "a-" and before "a0".
 *
 * Comments inside the statements end up in the file: `.schema` shows them.
 */
#include "storage/schema.h"

/* The columns of a version of a key, shared by record and intent. */
#define RECORD_COLUMNS                                                                             \
  "  dir TEXT NOT NULL,               -- path up to the last '/', '' at the top\n"                 \
  "  name TEXT NOT NULL,              -- what follows; '' in '' is the root\n"                     \
  "  timestamp INTEGER NOT NULL,      -- unsigned, the greatest wins\n"                            \
  "  seq INTEGER NOT NULL,            -- operation that wrote it: epoch << 35 | counter\n"         \
  "  kind INTEGER NOT NULL,           -- 0 tombstone 1 value 2 directory 3 symlink 4 special 5 link\n" \
  "                                   -- + 256 * number of links that name it\n"                    \
  "  mode INTEGER NOT NULL,\n"                                                                     \
  "  uid INTEGER NOT NULL,\n"                                                                      \
  "  gid INTEGER NOT NULL,\n"                                                                      \
  "  rdev INTEGER NOT NULL,\n"                                                                     \
  "  size INTEGER NOT NULL,           -- bytes, chunks included\n"                                 \
  "  atime_ns INTEGER NOT NULL,\n"                                                                 \
  "  mtime_ns INTEGER NOT NULL,\n"                                                                 \
  "  ctime_ns INTEGER NOT NULL,\n"                                                                 \
  "  btime_ns INTEGER NOT NULL,\n"                                                                 \
  "  digest INTEGER NOT NULL,         -- of the whole value\n"                                     \
  "  object_placement INTEGER NOT NULL, -- with object_unique: names the chunks; 0, 0: none\n"     \
  "  object_unique INTEGER NOT NULL,\n"                                                            \
  "  tail_offset INTEGER NOT NULL,    -- bytes before it are in chunks, the rest in data\n"        \
  "  checksum INTEGER NOT NULL,       -- XXH3 of everything but hint\n"                            \
  "  head_checksum INTEGER NOT NULL,  -- XXH3 of everything but data\n"                            \
  "  xattrs BLOB NOT NULL,\n"                                                                      \
  "  spans BLOB NOT NULL,             -- numbers of the writes whose chunks it has: pairs (from, to)\n"

#define KIND_WORD                                                                                  \
  "CASE kind & 255 WHEN 0 THEN 'tombstone' WHEN 1 THEN 'value' WHEN 2 THEN 'directory'"            \
  " WHEN 3 THEN 'symlink' WHEN 4 THEN 'special' WHEN 5 THEN 'link' ELSE kind END"

/* Flips the sign bit back and prints unsigned. */
#define PLAIN(column)                                                                              \
  "printf('%u', CASE WHEN " column " < 0 THEN " column " + 9223372036854775807 + 1"                \
  " ELSE " column " - 9223372036854775807 - 1 END)"

/* Collecting tombstones looks at the oldest of them. Since version 2. */
#define TOMBSTONE_INDEX                                                                            \
  "CREATE INDEX record_tombstone ON record (seq, " QFS_SCHEMA_KEY ") WHERE kind = 0;\n"
/* Reclaiming asks which records name an object. Since version 4. */
#define OBJECT_INDEX                                                                               \
  "CREATE INDEX record_object ON record (object_placement, object_unique)"                         \
  " WHERE object_unique <> 0;\n"

/* Of record and intent up to version 3. */
#define COLUMNS_3                                                                                  \
  "dir, name, timestamp, seq, kind, mode, uid, gid, rdev, size, atime_ns, mtime_ns, ctime_ns,"     \
  " btime_ns, digest, object_placement, object_unique, tail_offset, checksum, head_checksum,"      \
  " xattrs"

/* Every key's newest version, tombstones included. Catch-up reads in the order of operations. */
#define RECORD_TABLE                                                                               \
  "CREATE TABLE record (\n"                                                                        \
  "  hint INTEGER NOT NULL,           -- 0; of an earlier design, and verified like the others\n"   \
  RECORD_COLUMNS                                                                                   \
  "  data BLOB NOT NULL,              -- the value from tail_offset on; a symlink's target; a link's file\n"\
  "  PRIMARY KEY (dir, name)\n"                                                                    \
  ");\n"                                                                                           \
  "CREATE INDEX record_seq ON record (seq, " QFS_SCHEMA_KEY ");\n"                                 \
  "CREATE INDEX record_hint ON record (seq) WHERE hint = 1;\n"                                     \
  TOMBSTONE_INDEX OBJECT_INDEX
/* Batches over several keys that were decided and are to be rolled forward. */
#define INTENT_TABLE                                                                               \
  "CREATE TABLE intent (\n"                                                                        \
  "  id INTEGER NOT NULL,\n"                                                                       \
  "  pos INTEGER NOT NULL,            -- from 0\n"                                                 \
  "  total INTEGER NOT NULL,          -- records of this batch, the same in every row\n"           \
  RECORD_COLUMNS "  data BLOB NOT NULL,\n"                                                         \
  "  PRIMARY KEY (id, pos)\n"                                                                      \
  ");\n"
/* For people. */
#define KEYS_VIEW                                                                                  \
  "CREATE VIEW keys AS SELECT\n"                                                                   \
  "  " QFS_SCHEMA_KEY " AS key,\n"                                                                 \
  "  " KIND_WORD " AS kind,\n"                                                                     \
  "  printf('%u', timestamp) AS timestamp,\n"                                                      \
  "  size,\n"                                                                                      \
  "  CASE WHEN kind & 255 IN (1, 3, 5) AND tail_offset = 0 THEN data END AS value -- NULL: in chunks\n"     \
  "FROM record;\n"

/* N and K may change. Since version 3; 0: from before, the store's own. */
#define UNSETTLED_REPLICAS "replicas INTEGER NOT NULL DEFAULT 0 /* of each key, at that time */"

static const char create_sql[] =
    RECORD_TABLE

    /* The parts of long values. A row is replaced by adding one of a higher version; it belongs to the records
     * of which `spans` have its version. */
    "CREATE TABLE chunk (\n"
    "  object_placement INTEGER NOT NULL, -- sign bit flipped, see the view chunks\n"
    "  object_unique INTEGER NOT NULL,  -- sign bit flipped\n"
    "  idx INTEGER NOT NULL,            -- covers bytes [65536 * idx, 65536 * (idx + 1))\n"
    "  version INTEGER NOT NULL,        -- number of the write that brought it; sign bit flipped\n"
    "  seq INTEGER NOT NULL,\n"
    "  checksum INTEGER NOT NULL,       -- XXH3 of everything\n"
    "  head_checksum INTEGER NOT NULL,  -- XXH3 of everything but data\n"
    "  data BLOB NOT NULL,              -- up to 65536 bytes, what is missing reads as zeros\n"
    "  PRIMARY KEY (object_placement, object_unique, idx, version)\n"
    ");\n"
    "CREATE INDEX chunk_seq ON chunk (seq, object_placement, object_unique, idx, version);\n"

    INTENT_TABLE

    /* What the node knows about itself, by name; see meta.c. */
    "CREATE TABLE meta (\n"
    "  name TEXT NOT NULL PRIMARY KEY,\n"
    "  value\n"
    ") WITHOUT ROWID;\n"
    /* Membership as a majority remembers it, beside the rows view_* of meta. */
    "CREATE TABLE view_node (\n"
    "  node INTEGER PRIMARY KEY,        -- from 1\n"
    "  in_sync INTEGER NOT NULL,        -- 1: holds everything that it has to\n"
    "  base INTEGER NOT NULL,           -- 1: in the set for which in-sync nodes hold everything\n"
    "  left_mark INTEGER NOT NULL,      -- settled mark when it was last in sync\n"
    "  generation INTEGER NOT NULL      -- least that its file shows\n"
    ");\n"
    "CREATE TABLE view_unsettled (\n"
    "  pos INTEGER PRIMARY KEY,         -- from 0\n"
    "  nodes INTEGER NOT NULL,          -- bit i-1 stands for node i\n"
    "  " UNSETTLED_REPLICAS "\n"
    ");\n"

    KEYS_VIEW
    "CREATE VIEW chunks AS SELECT\n"
    "  " PLAIN("object_placement") " AS object_placement,\n"
                                   "  " PLAIN(
                                       "object_unique") " AS object_unique,\n"
                                                        "  idx,\n"
                                                        "  " PLAIN(
                                                            "version") " AS version,\n"
                                                                       "  seq,\n"
                                                                       "  length(data) AS bytes\n"
                                                                       "FROM chunk;\n";

/* migrations[i] brings version i + 1 to version i + 2. */
static const char *const migrations[QFS_SCHEMA_VERSION - 1] = {
    TOMBSTONE_INDEX,
    "ALTER TABLE view_unsettled ADD COLUMN " UNSETTLED_REPLICAS,
    /* Spans come before data, where a column that is added would not be: the tables are written anew. */
    "DROP VIEW keys;\n"
    "ALTER TABLE record RENAME TO record_3;\n"
    "DROP INDEX record_seq;\n"
    "DROP INDEX record_hint;\n"
    "DROP INDEX record_tombstone;\n" RECORD_TABLE
    "INSERT INTO record SELECT hint, " COLUMNS_3 ", x'', data FROM record_3;\n"
    "DROP TABLE record_3;\n"
    "ALTER TABLE intent RENAME TO intent_3;\n" INTENT_TABLE
    "INSERT INTO intent SELECT id, pos, total, " COLUMNS_3 ", x'', data FROM intent_3;\n"
    "DROP TABLE intent_3;\n" KEYS_VIEW,
    /* Links, which older programs would take for damage. */
    "DROP VIEW keys;\n" KEYS_VIEW,
    "", /* one more name in meta, which an older program must not drop */
    "", /* the same */
    "", /* a redo log, which an older program must not overlook */
};

gboolean qfs_schema_inspect(QfsConnection *connection, QfsSchemaState *out_state, GError **error) {
  gint64 application_id, version, tables;

  if (!qfs_connection_number(connection, "PRAGMA application_id", &application_id, error) ||
      !qfs_connection_number(connection, "PRAGMA user_version", &version, error) ||
      !qfs_connection_number(connection, "SELECT count(*) FROM sqlite_schema", &tables, error))
    return FALSE;
  if (application_id == 0 && version == 0 && tables == 0) {
    *out_state = QFS_SCHEMA_EMPTY;
    return TRUE;
  }
  if (application_id != QFS_SCHEMA_APPLICATION_ID)
    return qfs_connection_fail_with(connection, QFS_REPLICA_ERROR_FOREIGN, error,
                                    "is a database of another program, not a replica");
  if (version > QFS_SCHEMA_VERSION)
    return qfs_connection_fail_with(connection, QFS_REPLICA_ERROR_FORMAT, error,
                                    "has schema version %" G_GINT64_FORMAT
                                    ", and this program knows none above %d: use a newer quorumfs",
                                    version, QFS_SCHEMA_VERSION);
  if (version < 1)
    return qfs_connection_fail_with(connection, QFS_REPLICA_ERROR_FORMAT, error,
                                    "has the unknown schema version %" G_GINT64_FORMAT, version);
  *out_state = version == QFS_SCHEMA_VERSION ? QFS_SCHEMA_CURRENT : QFS_SCHEMA_OLD;
  return TRUE;
}

static gboolean stamp(QfsConnection *connection, GError **error) {
  g_autofree char *sql = g_strdup_printf("PRAGMA application_id = %d; PRAGMA user_version = %d",
                                         QFS_SCHEMA_APPLICATION_ID, QFS_SCHEMA_VERSION);
  return qfs_connection_exec(connection, sql, error);
}

gboolean qfs_schema_create(QfsConnection *connection, GError **error) {
  return qfs_connection_exec(connection, create_sql, error) && stamp(connection, error);
}

gboolean qfs_schema_migrate(QfsConnection *connection, GError **error) {
  gint64 version;

  if (!qfs_connection_number(connection, "PRAGMA user_version", &version, error))
    return FALSE;
  g_assert(version >= 1 && version <= QFS_SCHEMA_VERSION);
  for (gint64 from = version; from < QFS_SCHEMA_VERSION; from++)
    if (!qfs_connection_exec(connection, migrations[from - 1], error))
      return FALSE;
  return stamp(connection, error);
}
