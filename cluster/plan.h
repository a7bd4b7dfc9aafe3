/* plan.h - turns a change of a value's bytes into a new layout: which chunks, which tail.
 *
 * Owns: the rules of where bytes of a value lie (record.h R4). Pure: no I/O; the bytes of chunks that are
 * only partly overwritten are asked for by need_base and merged by qfs_plan_chunk_data.
 */
#pragma once

#include "storage/record.h"
#include "storage/replica.h"

G_BEGIN_DECLS

typedef struct {
  guint64 index;
  gboolean need_base;   /* keeps some of the bytes that it has now */
  gboolean had_base;    /* a row may exist: the older one becomes garbage */
  guint cut;            /* base bytes beyond this are dropped (QFS_CHUNK_SIZE: none) */
  guint n_parts;        /* bytes put over the base, in order */
  struct {
    guint offset;       /* within the chunk */
    GBytes *bytes;
  } part[3];            /* at most: end of the chunked bytes, old tail, new bytes */
} QfsPlanChunk;

typedef struct {
  guint64 size;
  guint64 tail_offset;
  GBytes *tail;
  gboolean needs_object; /* there are chunks */
  gboolean drops_object; /* no chunk of the base is used any more */
  GArray *chunks;        /* QfsPlanChunk, ascending index */
} QfsPlan;

/* `base` NULL or with `replace`: the value is built from nothing. Inline up to QFS_INLINE_MAX when built
 * from nothing, else up to QFS_TAIL_MAX of tail. */
QfsPlan *qfs_plan_write(const QfsRecord *base, gboolean replace, guint64 offset, GBytes *data);
/* Sets the size: cuts, or extends by a hole. */
QfsPlan *qfs_plan_truncate(const QfsRecord *base, guint64 size);
/* The bytes [offset, offset + length) become zeros, holes where whole chunks do; beyond the end, unless `keep_size`, the
 * value is extended by a hole. */
QfsPlan *qfs_plan_zero(const QfsRecord *base, guint64 offset, guint64 length, gboolean keep_size);
/* The plan of a change of `base` becomes one for a new object: what it left alone is copied. */
void qfs_plan_relayout(QfsPlan *plan, const QfsRecord *base);
/* Bytes of the chunk after the change; `base` (NULL: no row) is the data it has now. */
GBytes *qfs_plan_chunk_data(const QfsPlanChunk *chunk, GBytes *base);
void qfs_plan_free(QfsPlan *plan);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QfsPlan, qfs_plan_free)

G_END_DECLS
