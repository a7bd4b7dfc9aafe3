/* directed.c - scenarios that are written out, step by step (hand.h): what random faults meet too rarely to be relied on.
 *
 * Each is a test point of its own; the first one that fails ends the process. */
#include "hand.h"

int hand_run_directed(char *program, char *path, gboolean tap) {
  char how[] = "-q", tap_how[] = "--tap", only[] = "-p";
  char *arguments[] = {program, tap ? tap_how : how, path != NULL ? only : NULL, path, NULL};
  char **argv = arguments;
  int argc = path != NULL ? 4 : 2;
  g_test_init(&argc, &argv, NULL);
  directed_batches_add();
  directed_starts_add();
  directed_sizes_add();
  directed_damage_add();
  directed_forget_add();
  directed_passed_add();
  directed_catchup_add();
  directed_chunks_add();
  directed_patience_add();
  directed_listing_add();
  directed_storage_add();
  return g_test_run();
}
