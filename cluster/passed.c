/* passed.c - what starts did without, that had not met all nodes.
 *
 * While some keys are blocked the others are served, and what is done then builds on what was found of them. A directory
 * of which only a node that is away has the tombstone, which nobody acknowledged, is there, and files are made in it. When
 * that node returns, in this life or in a later one, the tombstone must not win, as it would by its timestamp. So before
 * anything is served the view says which nodes were met: of a key that was not blocked nothing else counts of the time before.
 *
 * P1. The unsettled sets of a view keep their places while some are blocked, so that the first n_sets are those that were
 *     unsettled then. When they are dropped everything is settled, and void_below takes the place of what is here.
 * P2. An entry goes when a later one accounts for all keys for which it did. If there are too many all the same, all keys
 *     are blocked instead: nothing can build on what was found then.
 */
#include "cluster/private.h"

static gboolean accounted_for(const QfsCoordinator *c, const QfsViewPassed *passed, guint64 hash) {
  g_assert(passed->n_sets <= c->view.n_unsettled); /* P1 */
  for (guint i = 0; i < passed->n_sets; i++)
    if (qfs_view_set_hides(c, i, &hash, passed->seen, passed->given_up))
      return FALSE;
  return TRUE;
}

guint64 qfs_passed_over(const QfsCoordinator *c, guint64 seq, guint64 hash) {
  for (guint i = 0; i < c->view.n_passed; i++) {
    const QfsViewPassed *passed = &c->view.passed[i];
    if (seq < passed->below && accounted_for(c, passed, hash))
      return passed->below;
  }
  return 0;
}

/* Are all keys accounted for by `later` for which `earlier` does that? */
static gboolean is_implied(const QfsCoordinator *c, const QfsViewPassed *earlier, const QfsViewPassed *later) {
  if ((earlier->seen & ~later->seen) != 0 || (earlier->given_up & ~later->given_up) != 0)
    return FALSE;
  for (guint i = (guint)earlier->n_sets; i < later->n_sets; i++)
    if (qfs_view_set_hides(c, i, NULL, later->seen, later->given_up))
      return FALSE;
  return TRUE;
}

void qfs_passed_note(const QfsCoordinator *c, QfsView *view) {
  const QfsViewPassed now = {.below = QFS_SEQ(c->first_epoch, 0),
                             .n_sets = c->view.n_unsettled,
                             .seen = c->seen,
                             .given_up = qfs_evicted(c)};
  guint n = 0;
  for (guint i = 0; i < c->view.n_passed; i++)
    if (!is_implied(c, &c->view.passed[i], &now))
      view->passed[n++] = c->view.passed[i];
  if (n < QFS_VIEW_PASSED_MAX)
    view->passed[n++] = now;
  else
    qfs_view_add_all(view); /* P2 */
  view->n_passed = n;
}

void qfs_passed_settled(const QfsCoordinator *c, QfsView *view) {
  if (view->n_passed > 0)
    view->void_below = MAX(view->void_below, QFS_SEQ(c->first_epoch, 0));
  view->n_passed = 0;
}
