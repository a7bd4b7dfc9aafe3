/* heads.h - what the writer of a replica knows of rows without reading them: the timestamps that it stored last.
 *
 * A key that is written again and again need not be read for the last-writer rule: the writer itself wrote what is stored.
 *
 * Invariants
 *  H1. What is found here is what the row of that key holds: the writer tells of each row that it stores or removes, and
 *      all is forgotten when a transaction is rolled back and, at the next one, when somebody else wrote to the file.
 *  H2. Bounded: an entry takes the place of another one.
 *
 * Threading: the connection's.
 */
#pragma once

#include <glib.h>

G_BEGIN_DECLS

typedef struct {
  char *key; /* NULL: none */
  guint64 timestamp;
  int kind;
} QfsHead;

typedef struct QfsHeads QfsHeads;

QfsHeads *qfs_heads_new(void);
void qfs_heads_free(QfsHeads *heads); /* accepts NULL */
const QfsHead *qfs_heads_find(const QfsHeads *heads, const char *key); /* NULL: not known; accepts NULL */
void qfs_heads_note(QfsHeads *heads, const char *key, guint64 timestamp, int kind);
void qfs_heads_forget(QfsHeads *heads, const char *key);
void qfs_heads_forget_all(QfsHeads *heads);

G_END_DECLS
