#include "cluster/placement.h"

/* Finaliser of SplitMix64 (Steele, Lea, Flood 2014): every input bit reaches every output bit. */
static guint64 mix(guint64 x) {
  x += G_GUINT64_CONSTANT(0x9e3779b97f4a7c15);
  x = (x ^ (x >> 30)) * G_GUINT64_CONSTANT(0xbf58476d1ce4e5b9);
  x = (x ^ (x >> 27)) * G_GUINT64_CONSTANT(0x94d049bb133111eb);
  return x ^ (x >> 31);
}

static guint64 weight(guint64 hash, guint node) { return mix(hash ^ mix(node)); }

guint qfs_placement_order(guint64 hash, QfsNodeSet among, guint *out) {
  guint64 weights[QFS_NODES_MAX];
  guint n = 0;
  for (QfsNodeSet rest = among; rest != 0; rest &= rest - 1) {
    guint node = (guint)__builtin_ctzll(rest) + 1;
    guint64 w = weight(hash, node);
    guint at = n++;
    for (; at > 0 && weights[at - 1] < w; at--) {
      weights[at] = weights[at - 1];
      out[at] = out[at - 1];
    }
    weights[at] = w;
    out[at] = node;
  }
  return n;
}

QfsNodeSet qfs_placement_holders(guint64 hash, QfsNodeSet among, guint replicas) {
  if (qfs_set_size(among) <= replicas)
    return among;
  guint order[QFS_NODES_MAX];
  guint n = qfs_placement_order(hash, among, order);
  QfsNodeSet holders = 0;
  for (guint i = 0; i < n && i < replicas; i++)
    holders |= QFS_NODE_BIT(order[i]);
  return holders;
}
