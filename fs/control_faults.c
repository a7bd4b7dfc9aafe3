/* control_faults.c - .quorumfs/nodes/I/delay, nodes/I/drop and partition: injected faults of the
 * links. */
#include "fs/control_private.h"

#include <errno.h>
#include <string.h>

#define TEXT_BYTES_MAX (32 << 10)

char *control_fault_text(QfsControl *control, ControlFault fault, guint node) {
  QfsLinks links;
  qfs_links_init(&links, control->engine->config.nodes);
  if (control->engine->ops->read_links != NULL)
    control->engine->ops->read_links(control->engine, &links);
  switch (fault) {
  case CONTROL_DELAY:
    return g_strdup_printf("%u\n", links.delay_ms[node - 1]);
  case CONTROL_DROP: {
    char number[G_ASCII_DTOSTR_BUF_SIZE];
    return g_strdup_printf("%s\n",
                           g_ascii_formatd(number, sizeof number, "%.10g", links.drop[node - 1]));
  }
  case CONTROL_PARTITION:
    return qfs_links_partition_text(&links);
  }
  g_assert_not_reached();
}

gboolean control_faults_allowed(QfsControl *control, const char *path) {
  if (control->engine->config.faults && control->engine->ops->edit_links != NULL)
    return TRUE;
  g_warning(".quorumfs/%s: faults can be injected only into a store that is mounted with the "
            "option 'faults'",
            path);
  return FALSE;
}

typedef struct {
  ControlFault fault;
  guint node;
  const char *text;
  char *why; /* NULL: done */
} Edit;

static void edit_links(QfsLinks *links, gpointer user_data) {
  Edit *edit = user_data;
  switch (edit->fault) {
  case CONTROL_DELAY:
    qfs_links_parse_delay(links, edit->node, edit->text, &edit->why);
    break;
  case CONTROL_DROP:
    qfs_links_parse_drop(links, edit->node, edit->text, &edit->why);
    break;
  case CONTROL_PARTITION:
    qfs_links_parse_partition(links, edit->text, &edit->why);
    break;
  }
}

static char *file_name(ControlFault fault, guint node) {
  if (fault == CONTROL_PARTITION)
    return g_strdup("partition");
  return g_strdup_printf("nodes/%u/%s", node, fault == CONTROL_DELAY ? "delay" : "drop");
}

int control_fault_write(QfsControl *control, ControlFault fault, guint node, GBytes *data) {
  gsize len;
  const char *bytes = g_bytes_get_data(data, &len);
  g_autofree char *text = g_strndup(bytes != NULL ? bytes : "", len);
  g_autofree char *name = file_name(fault, node);
  Edit edit = {.fault = fault, .node = node, .text = text};
  if (len > TEXT_BYTES_MAX)
    edit.why = g_strdup("the text is too long");
  else if (strlen(text) != len)
    edit.why = g_strdup("the text holds a zero byte");
  else
    control->engine->ops->edit_links(control->engine, edit_links, &edit);
  if (edit.why != NULL) {
    g_warning(".quorumfs/%s: %s; nothing was changed", name, edit.why);
    g_free(edit.why);
    return EINVAL;
  }
  g_autofree char *now = control_fault_text(control, fault, node);
  g_message(".quorumfs/%s is now %s", name, g_strdelimit(g_strchomp(now), "\n", ' '));
  return 0;
}
