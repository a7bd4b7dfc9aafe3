/* statements.c - the text of every statement that a replica runs more than once.
 *
 * Parameters are numbered where the order of binding isn't that of the columns. The tables are
 * described in schema.c, the meaning of each statement where it is used.
 */
#include "storage/schema.h"

/* Columns that a record is read from; row.h knows their positions. */
#define HEAD                                                                                       \
  "hint, dir, name, timestamp, seq, kind, mode, uid, gid, rdev, size, atime_ns, mtime_ns,"         \
  " ctime_ns, btime_ns, digest, object_placement, object_unique, tail_offset, checksum,"           \
  " head_checksum, xattrs, spans"
/* A listing shows where a symlink points to and which file a link names, and reads no other data. */
#define HEAD_AND_TARGET HEAD ", CASE WHEN kind & 255 IN (3, 5) THEN data END"
#define BODY                                                                                       \
  "dir, name, timestamp, seq, kind, mode, uid, gid, rdev, size, atime_ns, mtime_ns, ctime_ns,"     \
  " btime_ns, digest, object_placement, object_unique, tail_offset, checksum, head_checksum,"      \
  " xattrs, spans, data"
#define BODY_PLACES "?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?"
#define BODY_EXCLUDED                                                                              \
  "hint = excluded.hint, timestamp = excluded.timestamp, seq = excluded.seq,"                      \
  " kind = excluded.kind, mode = excluded.mode, uid = excluded.uid,"                               \
  " gid = excluded.gid, rdev = excluded.rdev, size = excluded.size,"                               \
  " atime_ns = excluded.atime_ns, mtime_ns = excluded.mtime_ns,"                                   \
  " ctime_ns = excluded.ctime_ns, btime_ns = excluded.btime_ns,"                                   \
  " digest = excluded.digest, object_placement = excluded.object_placement,"                       \
  " object_unique = excluded.object_unique, tail_offset = excluded.tail_offset,"                   \
  " checksum = excluded.checksum, head_checksum = excluded.head_checksum,"                         \
  " xattrs = excluded.xattrs, spans = excluded.spans, data = excluded.data"

#define CHUNK_HEAD "object_placement, object_unique, idx, version, seq, checksum, head_checksum"
#define CHUNK_IS "object_placement = ?1 AND object_unique = ?2"
#define CHUNK_AFTER                                                                                \
  " FROM chunk WHERE (seq, object_placement, object_unique, idx, version) > (?1, ?2, ?3, ?4, ?5)"  \
  " ORDER BY seq, object_placement, object_unique, idx, version"

const char *const qfs_sql_text[QFS_SQL_COUNT] = {
    [QFS_SQL_BEGIN_READ] = "BEGIN DEFERRED",
    [QFS_SQL_BEGIN_WRITE] = "BEGIN IMMEDIATE",
    [QFS_SQL_COMMIT] = "COMMIT",

    [QFS_SQL_META_SET] = "INSERT INTO meta (name, value) VALUES (?1, ?2)"
                         " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
    [QFS_SQL_META_ALL] = "SELECT name, value FROM meta",
    [QFS_SQL_META_COUNTS] =
        "SELECT name, value FROM meta WHERE name BETWEEN 'count_' AND 'count_~'",
    [QFS_SQL_META_SALT] = "SELECT value FROM meta WHERE name = 'redo_salt'",
    [QFS_SQL_VIEW_NODE_SET] = "INSERT INTO view_node (node, in_sync, base, left_mark, generation)"
                              " VALUES (?1, ?2, ?3, ?4, ?5)",
    [QFS_SQL_VIEW_NODE_ALL] =
        "SELECT node, in_sync, base, left_mark, generation FROM view_node",
    [QFS_SQL_VIEW_NODE_CLEAR] = "DELETE FROM view_node",
    [QFS_SQL_VIEW_UNSETTLED_SET] = "INSERT INTO view_unsettled (pos, nodes, replicas) VALUES (?1, ?2, ?3)",
    [QFS_SQL_VIEW_UNSETTLED_ALL] = "SELECT pos, nodes, replicas FROM view_unsettled ORDER BY pos",
    [QFS_SQL_VIEW_UNSETTLED_CLEAR] = "DELETE FROM view_unsettled",

    [QFS_SQL_RECORD_GET] = "SELECT " HEAD ", data FROM record WHERE dir = ?1 AND name = ?2",
    [QFS_SQL_RECORD_HEAD] = "SELECT " HEAD " FROM record WHERE dir = ?1 AND name = ?2",
    [QFS_SQL_RECORD_KIND] = "SELECT dir, name, kind FROM record WHERE dir = ?1 AND name = ?2",
    /* A row keeps its place and its entry in the index of keys. */
    [QFS_SQL_RECORD_PUT] = "INSERT INTO record (hint, " BODY ") VALUES (0, " BODY_PLACES ")"
                           " ON CONFLICT (dir, name) DO UPDATE SET " BODY_EXCLUDED,
    [QFS_SQL_RECORD_REMOVE] = "DELETE FROM record WHERE dir = ?1 AND name = ?2",
    [QFS_SQL_RECORD_SCAN_EQUAL] = "SELECT " HEAD ", data FROM record WHERE seq = ?1"
                                  " AND " QFS_SCHEMA_KEY " > ?2 ORDER BY " QFS_SCHEMA_KEY,
    [QFS_SQL_RECORD_SCAN_ABOVE] = "SELECT " HEAD ", data FROM record WHERE seq > ?1"
                                  " ORDER BY seq, " QFS_SCHEMA_KEY,
    [QFS_SQL_TOMBSTONE_SCAN_EQUAL] =
        "SELECT " HEAD ", data FROM record WHERE kind = 0 AND seq = ?1"
        " AND " QFS_SCHEMA_KEY " > ?2 ORDER BY " QFS_SCHEMA_KEY,
    [QFS_SQL_TOMBSTONE_SCAN_ABOVE] =
        "SELECT " HEAD ", data FROM record WHERE kind = 0 AND seq > ?1"
        " ORDER BY seq, " QFS_SCHEMA_KEY,
    [QFS_SQL_RECORD_LIST] =
        "SELECT " HEAD_AND_TARGET " FROM record WHERE dir = ?1 AND name > ?2 ORDER BY name",
    [QFS_SQL_RECORD_LIVE_DIR] = "SELECT dir FROM record WHERE dir >= ?1 AND kind <> 0 ORDER BY dir LIMIT 1",
    [QFS_SQL_RECORD_LIST_WHOLE] =
        "SELECT " HEAD ", data FROM record WHERE dir = ?1 AND name > ?2 ORDER BY name",
    [QFS_SQL_RECORD_WALK] = "SELECT " HEAD ", data FROM record WHERE (dir, name) >= (?1, ?2) ORDER BY dir, name",
    [QFS_SQL_RECORD_WALK_HEADS] = "SELECT " HEAD " FROM record WHERE (dir, name) >= (?1, ?2) ORDER BY dir, name",
    [QFS_SQL_RECORD_OF_OBJECT] =
        "SELECT " HEAD " FROM record WHERE object_unique <> 0 AND object_placement = ?1"
        " AND object_unique = ?2",
    [QFS_SQL_RECORD_CLEAR] = "DELETE FROM record",

    [QFS_SQL_CHUNK_INSERT] = "INSERT OR IGNORE INTO chunk (" CHUNK_HEAD ", data)"
                             " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    [QFS_SQL_CHUNK_UPDATE] =
        "UPDATE chunk SET seq = ?5, checksum = ?6, head_checksum = ?7, data = ?8"
        " WHERE " CHUNK_IS " AND idx = ?3 AND version = ?4",
    /* The wanted row, then a newer one, of one snapshot. */
    [QFS_SQL_CHUNK_GET] = "SELECT * FROM (SELECT " CHUNK_HEAD ", data FROM chunk WHERE " CHUNK_IS
                          " AND idx = ?3 AND version <= ?4 ORDER BY version DESC LIMIT 1)"
                          " UNION ALL "
                          "SELECT * FROM (SELECT " CHUNK_HEAD ", NULL FROM chunk WHERE " CHUNK_IS
                          " AND idx = ?3 AND version > ?4 ORDER BY version LIMIT 1)",
    [QFS_SQL_CHUNK_TRIM] = "DELETE FROM chunk WHERE " CHUNK_IS " AND idx = ?3 AND version < ?4",
    [QFS_SQL_CHUNK_REMOVE] = "DELETE FROM chunk WHERE " CHUNK_IS " AND idx = ?3 AND version = ?4",
    [QFS_SQL_CHUNK_DROP] =
        "DELETE FROM chunk WHERE " CHUNK_IS " AND (idx, version) IN"
        " (SELECT idx, version FROM chunk WHERE " CHUNK_IS " ORDER BY idx, version LIMIT ?3)",
    [QFS_SQL_CHUNK_ANY] = "SELECT 1 FROM chunk WHERE " CHUNK_IS " LIMIT 1",
    [QFS_SQL_CHUNK_EXACT] =
        "SELECT " CHUNK_HEAD ", data FROM chunk WHERE " CHUNK_IS " AND idx = ?3 AND version = ?4",
    [QFS_SQL_CHUNK_WALK] = "SELECT " CHUNK_HEAD ", data FROM chunk"
                           " WHERE (object_placement, object_unique, idx, version) > (?2, ?3, ?4, ?5)"
                           " ORDER BY object_placement, object_unique, idx, version",
    [QFS_SQL_CHUNK_SCAN] = "SELECT " CHUNK_HEAD CHUNK_AFTER,
    [QFS_SQL_CHUNK_SCAN_DATA] = "SELECT " CHUNK_HEAD ", data" CHUNK_AFTER,
    [QFS_SQL_CHUNK_LIST] =
        "SELECT " CHUNK_HEAD " FROM chunk"
        " WHERE (object_placement, object_unique, idx, version) > (?2, ?3, ?4, ?5)"
        " ORDER BY object_placement, object_unique, idx, version",
    [QFS_SQL_CHUNK_CLEAR] = "DELETE FROM chunk",

    [QFS_SQL_INTENT_PUT] =
        "INSERT INTO intent (id, pos, total, " BODY ") VALUES (?, ?, ?, " BODY_PLACES ")",
    [QFS_SQL_INTENT_GET] = "SELECT 0, " BODY ", pos, total FROM intent WHERE id = ?1 ORDER BY pos",
    [QFS_SQL_INTENT_REMOVE] = "DELETE FROM intent WHERE id = ?1",
    [QFS_SQL_INTENT_LIST] = "SELECT DISTINCT id FROM intent",
    [QFS_SQL_INTENT_CLEAR] = "DELETE FROM intent",
};
