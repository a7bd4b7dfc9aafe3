/* heads.c - see heads.h: a table in which the key alone says where its entry is. */
#include "storage/heads.h"

#include <string.h>

#define PLACES 512

struct QfsHeads {
  QfsHead place[PLACES];
};

QfsHeads *qfs_heads_new(void) {
  return g_new0(QfsHeads, 1);
}

void qfs_heads_free(QfsHeads *heads) {
  if (heads == NULL)
    return;
  qfs_heads_forget_all(heads);
  g_free(heads);
}

static guint place_of(const char *key) {
  return g_str_hash(key) % PLACES;
}

const QfsHead *qfs_heads_find(const QfsHeads *heads, const char *key) {
  const QfsHead *head = heads != NULL ? &heads->place[place_of(key)] : NULL;
  return head != NULL && head->key != NULL && strcmp(head->key, key) == 0 ? head : NULL;
}

void qfs_heads_note(QfsHeads *heads, const char *key, guint64 timestamp, int kind) {
  QfsHead *head = &heads->place[place_of(key)];
  if (head->key == NULL || strcmp(head->key, key) != 0) {
    g_free(head->key);
    head->key = g_strdup(key);
  }
  head->timestamp = timestamp;
  head->kind = kind;
}

void qfs_heads_forget(QfsHeads *heads, const char *key) {
  QfsHead *head = &heads->place[place_of(key)];
  if (head->key != NULL && strcmp(head->key, key) == 0)
    g_clear_pointer(&head->key, g_free);
}

void qfs_heads_forget_all(QfsHeads *heads) {
  for (guint i = 0; i < PLACES; i++)
    g_clear_pointer(&heads->place[i].key, g_free);
}
