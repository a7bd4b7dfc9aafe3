/* check_content.c - the bytes that a get read are those of exactly the version that it returned.
 *
 * For lines and cells the value is the sum of several operations. Those whose version is known are
 * replayed in version order; those whose outcome is unknown may or may not be there.
 */
#include "check.h"
#include "content.h"

/* Does the operation leave nothing of what the key held before? */
static gboolean clears(const SimOp *op, const SimKey *key) {
  return op->kind == SIM_OP_WRITE || op->kind == SIM_OP_CREATE || sim_op_removes(op, key);
}

static gboolean has_version(const SimOp *op) {
  return op->record != NULL && (op->outcome == SIM_APPLIED || op->outcome == SIM_UNKNOWN);
}

/* Is it certain that `a` is an older version than `b`, both being possible? */
static gboolean certainly_older(const SimOp *a, const SimOp *b) {
  if (has_version(a) && has_version(b))
    return a->record->timestamp < b->record->timestamp;
  return a->end_us <= b->invoke_us;
}

/* ---- whole values ---- */

static void check_value(Sim *sim, SimOp *op, const QfsRecord *record, GBytes *data) {
  guint writer_id = sim_op_of_ns(record->attr.mtime_ns);
  const SimOp *writer = sim_history_op(sim->history, writer_id);
  SIM_CHECK(sim, writer != NULL, "%s read a value that nobody wrote", sim_op_text(op));
  gboolean moved = op->key->class == SIM_KEY_TOKEN;
  SIM_CHECK(sim, moved ? writer->key->class == SIM_KEY_TOKEN : writer->key == op->key,
            "%s read what %s wrote", sim_op_text(op), sim_op_text(writer));
  SIM_CHECK(sim, sim_op_possible(writer), "%s read what %s certainly did not write",
            sim_op_text(op), sim_op_text(writer));
  SIM_CHECK(sim, record->attr.size == writer->size,
            "%s: size %" G_GUINT64_FORMAT ", but %s wrote %" G_GSIZE_FORMAT, sim_op_text(op),
            record->attr.size, sim_op_text(writer), writer->size);
  if (data != NULL)
    SIM_CHECK(sim, sim_value_is(data, writer_id, writer->size), "%s read other bytes than %s wrote",
              sim_op_text(op), sim_op_text(writer));
  op->seen_content = writer_id;
}

/* ---- lines ---- */

/* The operations of which lines are there, in order; each line whole, each operation once. */
static GPtrArray *parse_lines(Sim *sim, SimOp *op, GBytes *data) {
  GPtrArray *lines = g_ptr_array_new();
  gsize len, at = 0;
  const guint8 *bytes = g_bytes_get_data(data, &len);
  while (at < len) {
    gsize start = at;
    guint id;
    SIM_CHECK(sim, sim_line_parse(bytes, len, &at, &id),
              "%s read a broken line at %" G_GSIZE_FORMAT " of %" G_GSIZE_FORMAT, sim_op_text(op),
              start, len);
    SimOp *writer = sim_history_op(sim->history, id);
    SIM_CHECK(sim, writer != NULL && writer->key == op->key && sim_op_possible(writer),
              "%s read the line of %s", sim_op_text(op), sim_op_text(writer));
    SIM_CHECK(sim, !g_ptr_array_find(lines, writer, NULL), "%s read the line of %s twice",
              sim_op_text(op), sim_op_text(writer));
    if (writer->kind == SIM_OP_APPEND && writer->outcome == SIM_APPLIED)
      SIM_CHECK(sim, writer->offset == start,
                "%s read at %" G_GSIZE_FORMAT " the line of %s, put at %" G_GUINT64_FORMAT,
                sim_op_text(op), start, sim_op_text(writer), writer->offset);
    g_ptr_array_add(lines, writer);
  }
  return lines;
}

/* Is there a clearing that explains why `line` is not in version `timestamp`? */
static gboolean may_be_cleared(const SimKey *key, const SimOp *line, guint64 timestamp) {
  for (guint i = 0; i < key->ops->len; i++) {
    const SimOp *op = g_ptr_array_index(key->ops, i);
    if (op == line || !clears(op, key) || !sim_op_possible(op) || certainly_older(op, line))
      continue;
    if (!has_version(op) || op->record->timestamp <= timestamp)
      return TRUE;
  }
  return FALSE;
}

static gboolean is_cleared(const SimKey *key, const SimOp *line, guint64 timestamp) {
  for (guint i = 0; i < key->ops->len; i++) {
    const SimOp *op = g_ptr_array_index(key->ops, i);
    if (op != line && clears(op, key) && op->outcome == SIM_APPLIED && has_version(op) &&
        op->record->timestamp <= timestamp && certainly_older(line, op))
      return TRUE;
  }
  return FALSE;
}

static void check_lines(Sim *sim, SimOp *op, const QfsRecord *record, GBytes *data) {
  if (data == NULL)
    return;
  g_autoptr(GPtrArray) lines = parse_lines(sim, op, data);
  guint64 timestamp = record->timestamp;
  for (guint i = 0; i < lines->len; i++) {
    const SimOp *line = g_ptr_array_index(lines, i);
    SIM_CHECK(sim, !has_version(line) || line->record->timestamp <= timestamp,
              "%s read at @%" G_GUINT64_FORMAT " the later line of %s", sim_op_text(op), timestamp,
              sim_op_text(line));
    SIM_CHECK(sim, i == 0 || !certainly_older(line, g_ptr_array_index(lines, i - 1)),
              "%s read the line of %s after a later one", sim_op_text(op), sim_op_text(line));
    SIM_CHECK(sim, !is_cleared(op->key, line, timestamp),
              "%s read the line of %s, which was cleared", sim_op_text(op), sim_op_text(line));
  }
  for (guint i = 0; i < op->key->ops->len; i++) {
    SimOp *line = g_ptr_array_index(op->key->ops, i);
    gboolean is_line =
        line->kind == SIM_OP_APPEND || (line->kind == SIM_OP_WRITE && line->size > 0);
    if (!is_line || line->outcome != SIM_APPLIED || line->record->timestamp > timestamp)
      continue;
    SIM_CHECK(sim, g_ptr_array_find(lines, line, NULL) || may_be_cleared(op->key, line, timestamp),
              "%s read @%" G_GUINT64_FORMAT " without the line of %s @%" G_GUINT64_FORMAT,
              sim_op_text(op), timestamp, sim_op_text(line), line->record->timestamp);
  }
}

/* ---- cells ---- */

/* What `op` leaves in the cell: its number, or 0 for zeros. FALSE: it does not touch it. */
static gboolean leaves(const SimOp *op, const SimKey *key, guint cell, guint *out_id) {
  *out_id = 0;
  if (op->kind == SIM_OP_PATCH) {
    *out_id = op->id;
    return cell >= op->first && cell < op->first + op->count;
  }
  if (op->kind == SIM_OP_ZERO)
    return (op->bare & QFS_WRITE_ZERO) != 0 && cell >= op->first && cell < op->first + op->count;
  if (op->kind == SIM_OP_TRUNCATE)
    return cell >= op->first;
  return clears(op, key);
}

static void check_cell(Sim *sim, SimOp *op, guint64 timestamp, guint cell, guint seen) {
  const SimKey *key = op->key;
  const SimOp *last = NULL; /* the newest certain one that touched it */
  guint wanted = 0, id;
  for (guint i = 0; i < key->ops->len; i++) {
    const SimOp *other = g_ptr_array_index(key->ops, i);
    if (other->outcome == SIM_APPLIED && has_version(other) &&
        other->record->timestamp <= timestamp && leaves(other, key, cell, &id) &&
        (last == NULL || other->record->timestamp > last->record->timestamp)) {
      last = other;
      wanted = id;
    }
  }
  if (seen == wanted)
    return;
  for (guint i = 0; i < key->ops->len; i++) {
    const SimOp *other = g_ptr_array_index(key->ops, i);
    if (other->outcome != SIM_APPLIED && sim_op_possible(other) && leaves(other, key, cell, &id) &&
        id == seen && (last == NULL || !certainly_older(other, last)))
      return;
  }
  sim_fail(sim, "%s read @%" G_GUINT64_FORMAT " cell %u as op %u left it, not as %s",
           sim_op_text(op), timestamp, cell, seen, sim_op_text(last));
}

static void check_cells(Sim *sim, SimOp *op, const QfsRecord *record, GBytes *data) {
  SIM_CHECK(sim, record->attr.size % SIM_CELL == 0, "%s: size %" G_GUINT64_FORMAT, sim_op_text(op),
            record->attr.size);
  if (data == NULL)
    return;
  const guint8 *bytes = g_bytes_get_data(data, NULL);
  for (guint cell = 0; cell < SIM_CELLS_MAX; cell++) {
    guint seen = 0; /* beyond the end */
    if (cell < record->attr.size / SIM_CELL)
      SIM_CHECK(sim, sim_cell_parse(bytes + (gsize)cell * SIM_CELL, cell, &seen),
                "%s read a torn cell %u", sim_op_text(op), cell);
    check_cell(sim, op, record->timestamp, cell, seen);
  }
}

void sim_check_content(Sim *sim, SimOp *op, const QfsRecord *record, GBytes *data) {
  if (data != NULL)
    SIM_CHECK(sim, g_bytes_get_size(data) == record->attr.size,
              "%s read %" G_GSIZE_FORMAT " bytes of %" G_GUINT64_FORMAT, sim_op_text(op),
              g_bytes_get_size(data), record->attr.size);
  switch (op->key->class) {
  case SIM_KEY_LOG:
    check_lines(sim, op, record, data);
    break;
  case SIM_KEY_PATCHED:
    check_cells(sim, op, record, data);
    break;
  case SIM_KEY_VALUE:
  case SIM_KEY_STAMPED:
  case SIM_KEY_TOKEN:
  case SIM_KEY_CHILD:
    check_value(sim, op, record, data);
    break;
  case SIM_KEY_DIRECTORY:
    break;
  }
}
