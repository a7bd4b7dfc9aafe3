/* links.h - injected faults of the links between the coordinator and its nodes: a table, and its
 * text forms.
 *
 * Owns: per node a delay and a probability of loss; the groups of a partition and its one-way cuts;
 * what all that means for a message. Leaves to others: clocks, randomness and delivery
 * (env_thread.c), who may change it (fs/control_faults.c).
 *
 * Meaning
 *  L1. The coordinator is with the first group, at that group's lowest node ("its place"; node 1
 * unless the groups say otherwise). Messages flow between the coordinator and nodes only. L2. A
 * node outside of the first group is cut off in both directions. L3. A cut `A>B` loses what goes
 * from A to B: with A the coordinator's place, requests to B; with B its place, answers of A. Cuts
 * between two other nodes change nothing: nodes do not talk to one another. L4. A node with delay D
 * answers D later: half of it on the way there, half on the way back. Each message, request or
 * answer, is lost with the node's probability of loss.
 *
 * A pure value: no allocation, no threads; copied by assignment.
 */
#pragma once

#include "storage/replica.h"

G_BEGIN_DECLS

#define QFS_LINKS_DELAY_MAX_MS 600000

typedef struct {
  guint nodes;
  guint groups;                    /* number of groups, at least 1 */
  QfsNodeSet group[QFS_NODES_MAX]; /* each node is in exactly one */
  QfsNodeSet cut[QFS_NODES_MAX];   /* element a-1: the nodes b of cuts a>b */
  guint delay_ms[QFS_NODES_MAX];   /* element i-1: of node i */
  gdouble drop[QFS_NODES_MAX];     /* 0 to 1 */
} QfsLinks;

void qfs_links_init(QfsLinks *links, guint nodes); /* no faults */
gboolean qfs_links_are_clean(const QfsLinks *links);

typedef void (*QfsLinksEdit)(QfsLinks *links, gpointer user_data);

typedef enum { QFS_LINK_TO_NODE, QFS_LINK_FROM_NODE } QfsLinkWay;

guint qfs_links_place(const QfsLinks *links); /* L1 */
gboolean qfs_links_is_cut(const QfsLinks *links, guint node, QfsLinkWay way);
/* Is a message lost? `chance` is uniform over all 64-bit numbers. */
gboolean qfs_links_loses(const QfsLinks *links, guint node, QfsLinkWay way, guint64 chance);
/* How much later it arrives. */
gint64 qfs_links_delay_us(const QfsLinks *links, guint node, QfsLinkWay way);

/* Partition: "1 2 3 | 4 5", then one-way cuts "1>4 5>1", or "heal". Blanks, line ends and commas
 * separate. Without groups all nodes are in one. Each node must be in one group. FALSE: nothing
 * changed, and
 * `*out_why` is a newly allocated line for people. */
gboolean qfs_links_parse_partition(QfsLinks *links, const char *text, char **out_why);
/* The groups in one line; the cuts, if any, in a second one. Parses to the same. */
char *qfs_links_partition_text(const QfsLinks *links);

/* Milliseconds, 0 to QFS_LINKS_DELAY_MAX_MS. */
gboolean qfs_links_parse_delay(QfsLinks *links, guint node, const char *text, char **out_why);
/* A probability, 0 to 1, such as 0.3. */
gboolean qfs_links_parse_drop(QfsLinks *links, guint node, const char *text, char **out_why);

G_END_DECLS
