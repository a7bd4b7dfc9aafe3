/* linked_private.h - what the files of the linking clients share: linked.c (the clients), linked_known.c (what must be so),
 * linked_rest.c (whether it is, at rest). See linked.h. */
#pragma once

#include "linked.h"

#define SIM_LINKED_NAMES 5
#define SIM_LINKED_NONE G_MAXUINT
/* Numbers of values, apart from those of other operations. */
#define SIM_LINKED_VALUE_BASE 2000000

typedef struct {
  guint value;  /* index in values */
  char *key;    /* its own; NULL: it has one name only, or its key is not known */
} SimLinkedFile;

typedef struct {
  char *key;
  guint value;
  gboolean certain;
} SimOrphan;

struct SimLinked {
  SimRandom random;
  gboolean active, wild;
  guint busy;         /* clients whose request is under way */
  guint left;         /* operations still to begin */
  gboolean known;     /* what follows is so */
  guint name[SIM_LINKED_NAMES];  /* index of its file, or SIM_LINKED_NONE */
  GPtrArray *files;   /* SimLinkedFile, also those that are gone */
  guint learning;     /* names whose turn came, then names read; restarts at 0 */
  guint power_losses;
  GArray *values;     /* gsize: sizes of all values ever written; their numbers count from SIM_LINKED_VALUE_BASE */
  GPtrArray *orphans; /* SimOrphan */
};

typedef enum { MAKE, WRITE, LINK, UNLINK, RENAME, EXCHANGE, READ } SimLinkedKind;

typedef struct {
  Sim *sim;
  SimLinkedKind kind;
  guint a, b, value; /* of what it learns: how much had been learnt */
  gboolean learns; /* not of the workload */
  char *keep;
} SimLinkedAsk;

/* Names sort before and after the keys of files. */
char *sim_linked_name(guint i);
gboolean sim_linked_is_own_key(const char *key);
void sim_linked_forget(SimLinked *linked);
void sim_linked_note_power_loss(Sim *sim);
guint sim_linked_count(const SimLinked *linked, guint file); /* its names */
SimLinkedFile *sim_linked_file_at(const SimLinked *linked, guint name);
QfsStatus sim_linked_expected(const SimLinked *linked, const SimLinkedAsk *ask);
void sim_linked_apply(SimLinked *linked, const SimLinkedAsk *ask);
/* What was read of a name that is known. */
void sim_linked_check_record(Sim *sim, guint i, const QfsRecord *record);
/* What was read of a name that is not: learns which file it is; which value that has. */
gboolean sim_linked_is_there_now(SimLinked *linked, guint i, const QfsRecord *record);
void sim_linked_identify(Sim *sim, guint i, const QfsRecord *record);
void sim_linked_check_counts(Sim *sim, const QfsRecord *const *records);
