/* request.h - what an engine is asked to do, and the answer, in one object.
 *
 * Life: qfs_request_new, fill the inputs of the type, qfs_engine_submit; `done` is called exactly once,
 * by any thread, perhaps before submit returns, with no lock held; then the requester reads the
 * outputs and calls qfs_request_free. Between submit and done the request belongs to the engine.
 * Every request ends by its deadline (the store's `timeout`), whatever the nodes do.
 */
#pragma once

#include "cluster/status.h"
#include "storage/replica.h"

G_BEGIN_DECLS

typedef enum {
  /* Current record of `key`: QFS_OK and `record`, or QFS_NOT_FOUND. Tombstones are not returned, but
   * `record` is set to the tombstone beside QFS_NOT_FOUND when there is one. */
  QFS_REQUEST_GET,
  /* Bytes [offset, offset + length) of the version `record` (input, not NULL), cut at its size: `data`.
   * QFS_STALE when an in-place write has replaced parts of that version meanwhile: GET again. */
  QFS_REQUEST_READ,
  /* The first byte at or after `offset` of the version `record` (input) that may be other than zero, or, with
   * QFS_SEEK_HOLE, that certainly belongs to a hole: `offset`; its size if there is none. QFS_STALE as READ. */
  QFS_REQUEST_SEEK,
  /* Children of directory `key` after name `after` (NULL: from the first), in memcmp order, at most
   * `limit`: `entries` (QfsRecord, tails empty but for symlinks), `more`. Complete or failed, never cut. */
  QFS_REQUEST_LIST,
  /* Makes a new version of the value `key` from `data`; see QFS_WRITE_* flags. Outputs: `record` (the
   * version now current), `superseded`, `superseded_by`, `offset` (where an append went). */
  QFS_REQUEST_WRITE,
  /* Creates `key` of `kind` with `attr` and, for a symlink, `data` as its target; QFS_EXISTS when
   * there is one already. The parent must be a directory. Output: `record`. */
  QFS_REQUEST_CREATE,
  /* Changes attributes named in `mask` to those in `attr` (SIZE truncates or extends; XATTRS replaces the
   * whole list by `data`). Output: `record`. ATIME alone notes that the value was read: nothing happens unless it is
   * later than the stored one, ctime stays, and so does the timestamp (of equal ones the later atime wins), so
   * that reading a key supersedes nothing. */
  QFS_REQUEST_SETATTR,
  /* Tombstone over `key`, checked as QFS_REMOVE_* flags say. Output: `record`, the tombstone; or the file, if it has
   * other names or was kept (see `keep`). */
  QFS_REQUEST_REMOVE,
  /* Moves `key` to `key2` in one step: all or nothing, also across a crash. A directory goes with all that is
   * below it, up to 10 keys for each millisecond of the timeout, 100,000 at most, and 32 MiB of records (chunks do not
   * count): beyond, QFS_CROSS, and nothing happens. Replaces an existing target as rename(2) does (QFS_RENAME_NOREPLACE: QFS_EXISTS).
   * QFS_RENAME_EXCHANGE: each takes the other's name. Output: `record` under its new key, `replaced` (the
   * target's former record, or as it is kept; exchanged: under its new key; or NULL). Of a link they are the file. */
  QFS_REQUEST_RENAME,
  /* Makes `key2` another name of the file `key` (anything but a directory), which may also be given as the key that
   * answers name for a file with several names. QFS_EXISTS, QFS_IS_DIRECTORY, QFS_TOO_MANY_LINKS. Output: `record`,
   * the file; its key stays while it has names. From then on a GET of any of its names answers with it, WRITE and
   * SETATTR change it, REMOVE and a RENAME over a name take one name away, and the file goes with the last one. */
  QFS_REQUEST_LINK,
  /* Everything acknowledged so far for `key` (NULL: for all keys) is on stable storage on W replicas. */
  QFS_REQUEST_SYNC,
  /* Applies `action` to node `node`. QFS_NODE_DOWN settles first, and where writes would be refused
   * without the node waits for those that are catching up; QFS_BUSY when that takes long. Ends when done (UP: when opened;
   * it then catches up in the background). QFS_NODE_EVICT: see evict.c; QFS_BUSY: the node is in use, QFS_INVALID:
   * no other node that has data is up. */
  QFS_REQUEST_NODE,
  /* Asks for a collection of tombstones of any age, as soon as it is possible; ends at once. The status of the
   * engine tells how it goes. */
  QFS_REQUEST_GC,
  /* Asks for a comparison of all holders of all keys, whose differences are mended; with QFS_SCRUB_VERIFY all
   * data is read and verified, too. Ends at once, like GC. */
  QFS_REQUEST_SCRUB,
} QfsRequestType;

enum {
  QFS_WRITE_REPLACE = 1 << 0,   /* build on an empty value (attributes stay); else on the current value */
  QFS_WRITE_APPEND = 1 << 1,    /* at the current end; `offset` is ignored and set */
  QFS_WRITE_CREATE = 1 << 2,    /* an absent key is created with `attr`; without it: QFS_NOT_FOUND */
  QFS_WRITE_EXCLUSIVE = 1 << 3, /* an existing key: QFS_EXISTS */
  QFS_WRITE_TIMESTAMP = 1 << 4, /* use `timestamp`; an older one ends QFS_OK with `superseded` */
  QFS_WRITE_IF_TIMESTAMP = 1 << 5, /* only if the stored timestamp equals `if_timestamp` (0: absent): QFS_STALE, `record` */
  QFS_WRITE_DURABLE = 1 << 6,   /* acknowledged from stable storage */
  QFS_WRITE_KEEP_SETID = 1 << 7, /* do not clear set-id bits */
  QFS_WRITE_STAGED = 1 << 8,    /* the value is the staged object `object`, `staged_size` bytes (see STAGE) */
  /* `data` goes into the not yet published object `object` at `offset`; no record changes. With a zero
   * `object` a new one is made and returned. The object is dropped by an unfinished stage's
   * qfs_engine_discard, or becomes the value by a WRITE with REPLACE|STAGED. Offsets must be multiples of
   * QFS_CHUNK_SIZE except that the last piece may have any length. */
  QFS_WRITE_STAGE = 1 << 9,
  /* Of a value that exists, without `data`: the `length` bytes at `offset` become zeros, and whatever chunk holds no
   * others takes no space any more; with KEEP_SIZE only as far as the value goes. */
  QFS_WRITE_ZERO = 1 << 11,
  QFS_WRITE_KEEP_SIZE = 1 << 12,
  QFS_WRITE_GROW = 1 << 13,     /* ... it is `offset` + `length` bytes long at least, and no byte changes */
  QFS_WRITE_PARENTS = 1 << 10,  /* make missing parent directories (mode 0755, owner as `attr`) */
};

/* SETATTR: it follows from a change of another key (a directory's times): watchers are not told, and a later ctime that is
 * there already stays. */
enum { QFS_SETATTR_IMPLIED = 1 << 0 };

enum {
  QFS_REMOVE_ANY = 0,               /* API delete: an absent key gets a tombstone and succeeds */
  QFS_REMOVE_NON_DIRECTORY = 1 << 0, /* unlink(2): QFS_IS_DIRECTORY */
  QFS_REMOVE_DIRECTORY = 1 << 1,     /* rmdir(2): QFS_NOT_DIRECTORY, QFS_NOT_EMPTY */
  QFS_REMOVE_MUST_EXIST = 1 << 2,    /* QFS_NOT_FOUND */
  QFS_REMOVE_TIMESTAMP = 1 << 3,     /* use `timestamp` */
  QFS_REMOVE_DURABLE = 1 << 4,
};
enum { QFS_SEEK_HOLE = 1 << 0 };
enum { QFS_RENAME_NOREPLACE = 1 << 0, QFS_RENAME_EXCHANGE = 1 << 1 };
enum { QFS_SCRUB_VERIFY = 1 << 0 };

enum {
  QFS_ATTR_MODE = 1 << 0,  /* permission bits only; the file type never changes */
  QFS_ATTR_UID = 1 << 1,
  QFS_ATTR_GID = 1 << 2,
  QFS_ATTR_SIZE = 1 << 3,
  QFS_ATTR_ATIME = 1 << 4,
  QFS_ATTR_MTIME = 1 << 5,
  QFS_ATTR_CTIME = 1 << 6,
  QFS_ATTR_XATTRS = 1 << 7,
};

typedef enum { QFS_NODE_UP, QFS_NODE_DOWN, QFS_NODE_CRASH, QFS_NODE_EVICT } QfsNodeAction;

/* May submit carry out the short work of nodes in the calling thread before it returns? Handing it over costs more than
 * the work. */
typedef enum {
  QFS_LEND_NOTHING,
  QFS_LEND_FOR_ANSWER, /* of as many as the answer needs: for a caller that waits for submit's return */
  QFS_LEND_ALL,        /* the others' too, once the request was answered: for a thread that has nothing better to do then */
  QFS_LEND_GATHER,     /* of all, but not before the thread calls qfs_engine_release, which it does soon; until then nodes that
                        * sleep are left asleep: for one that has more to submit at once. Set it in the thread that submits */
} QfsLend;

typedef struct QfsRequest QfsRequest;
typedef void (*QfsRequestDone)(QfsRequest *request, gpointer user_data);

struct QfsRequest {
  QfsRequestType type;
  QfsRequestDone done;
  gpointer user_data;

  /* inputs; owned by the request */
  char *key;
  char *key2;
  char *after;
  char *keep;           /* REMOVE, RENAME: a key of the store's own, not used before: what loses its last name, and is no
                         * directory, goes there, in the same step */
  guint flags;
  QfsLend lend;
  gboolean follow;      /* if `key` or `key2` lies in a directory that is being renamed, its new name is meant */
  guint mask;
  guint limit;
  guint64 offset;       /* WRITE APPEND, SEEK: also an output */
  guint64 length;
  GBytes *data;         /* READ: output */
  QfsKind kind;
  QfsAttr attr;         /* WRITE CREATE, CREATE, SETATTR */
  GBytes *xattrs;       /* WRITE CREATE, CREATE: of what is created; may be NULL */
  guint64 timestamp;
  guint64 if_timestamp;
  QfsObjectId object;   /* STAGE: also an output */
  guint64 staged_size;
  gint64 now_ns;        /* wall time of the call: becomes mtime and ctime of what changes */
  guint node;
  QfsNodeAction action;

  /* outputs; owned by the request */
  QfsStatus status;
  QfsRecord *record;    /* READ, SEEK: input */
  QfsRecord *replaced;
  gboolean superseded;
  guint64 superseded_by;
  GPtrArray *entries;
  gboolean more;

  guint64 mark;         /* the requester's own */
  gpointer op;          /* the engine's own */
};

/* Every pointer NULL, every number 0; key is copied (may be NULL). */
QfsRequest *qfs_request_new(QfsRequestType type, const char *key, QfsRequestDone done, gpointer user_data);
void qfs_request_free(QfsRequest *request); /* accepts NULL */

G_END_DECLS
