/* content.h - bytes that say who wrote them, so that a reader can tell a whole value from a mixed
 * one.
 *
 * Three shapes, each a pure function of the number of the operation that wrote it (and a size):
 *   value  "v<op>:<size>:" and pseudo-random bytes; sizes below SIM_VALUE_MIN only hold part of the
 * head line   "<op>:<length> " and letters, ending in a newline cell   SIM_CELL bytes for one place
 * of a patched value; all zeros: nobody wrote there
 */
#pragma once

#include <glib.h>

#define SIM_VALUE_MIN 24
#define SIM_CELL 1000
#define SIM_CELLS_MAX 300

GBytes *sim_value_bytes(guint op, gsize size);
/* Is `data` exactly the value of operation `op`? */
gboolean sim_value_is(GBytes *data, guint op, gsize size);

/* A line of `size` bytes (at least 24) with its newline. */
GBytes *sim_line_bytes(guint op, gsize size);
/* Reads the line at *at and moves past it; FALSE: not a whole line as somebody wrote it. */
gboolean sim_line_parse(const guint8 *data, gsize len, gsize *at, guint *out_op);

/* Cells first .. first+count-1 as operation `op` writes them. */
GBytes *sim_cell_bytes(guint op, guint first, guint count);
/* Who wrote the cell (0: nobody, zeros); FALSE: torn. */
gboolean sim_cell_parse(const guint8 *data, guint cell, guint *out_op);
