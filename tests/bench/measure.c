/* measure.c - runs one operation on one store for a while and prints how long it took, as one line of JSON.
 *
 *   measure KIND:WHERE OPERATION [--size BYTES] [--clients N] [--seconds S] [--count N] [--keys N] [--random] [--tag TEXT]
 *
 * KIND:WHERE is file:DIRECTORY, sqlite:FILE, engine:STORE, redis:PORT or etcd:PORT. OPERATION:
 *   fill            makes the keys that the others use (not measured)
 *   get             of one of `keys` values, in turn or by lot   missing   of a key that is not there
 *   get-each        of each value once, and no more           stat, pread  (of an open file)
 *   put             over existing values                      put-new   of keys that were not there
 *   put-durable     over existing values, on stable storage   append, delete
 *   mixed           95 gets to 5 puts, keys by lot
 *
 * Each client is a thread with a connection of its own, and with keys of its own where it writes. Latencies are taken
 * around each operation. Prints {"ops":,"failed":,"seconds":,"median_us":,"p99_us":,"p999_us":,"max_us":}; of mixed also
 * "put_p99_us", and "torn", the gets that met a value that was being replaced: empty or in part. Exit status 1 if an operation failed.
 */
#include "measure.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MIXED_PUTS 20    /* one of so many is a put */
#define DELETE_BATCH 200 /* values made, unmeasured, before so many deletes */

static struct {
  gint size, clients, count, keys;
  gboolean random;
  double seconds;
  char *tag;
} options = {.size = 1024, .clients = 1, .count = 0, .keys = 100, .seconds = 0.5};

static const GOptionEntry entries[] = {
    {"size", 0, 0, G_OPTION_ARG_INT, &options.size, "Bytes of a value (1024)", "BYTES"},
    {"clients", 0, 0, G_OPTION_ARG_INT, &options.clients, "Threads (1)", "N"},
    {"seconds", 0, 0, G_OPTION_ARG_DOUBLE, &options.seconds, "How long (0.5)", "S"},
    {"count", 0, 0, G_OPTION_ARG_INT, &options.count, "... or how many operations a client", "N"},
    {"keys", 0, 0, G_OPTION_ARG_INT, &options.keys, "How many values there are (100)", "N"},
    {"random", 0, 0, G_OPTION_ARG_NONE, &options.random, "Keys of gets by lot", NULL},
    {"tag", 0, 0, G_OPTION_ARG_STRING, &options.tag, "Part of the names of new keys", "TEXT"},
    {NULL, 0, 0, 0, NULL, NULL, NULL}};

typedef struct {
  guint number;
  const Target *target;
  gpointer connection;
  const char *operation;
  GArray *took;     /* ns, guint64 */
  GArray *puts;     /* of mixed */
  guint64 failed;
  guint64 torn;     /* gets of mixed that read less than a value */
  char *value, *buffer;
  guint64 random;
} Client;

static guint64 now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (guint64)t.tv_sec * 1000000000u + (guint64)t.tv_nsec;
}

static guint64 next_random(Client *client) {
  client->random ^= client->random << 13;
  client->random ^= client->random >> 7;
  client->random ^= client->random << 17;
  return client->random;
}

/* ---- one operation ---- */

static void shared_key(char *key, guint64 i) { g_snprintf(key, 64, "k%u", (guint)(i % (guint)options.keys)); }

/* Clients write keys of their own: what is measured is the store and not their quarrel. */
static void own_key(const Client *client, char *key, guint64 i) {
  guint each = MAX((guint)options.keys / (guint)options.clients, 1);
  g_snprintf(key, 64, "k%u", (guint)((client->number * each + i % each) % (guint)options.keys));
}

static void new_key(const Client *client, char *key, guint64 i) {
  g_snprintf(key, 64, "n%s-%u-%u", options.tag != NULL ? options.tag : "", client->number, (guint)i);
}

static gboolean get(Client *client, const char *key) {
  return client->target->get(client->connection, key, client->buffer, (gsize)options.size + 1) == options.size;
}

static gboolean put(Client *client, const char *key, gboolean durable) {
  return client->target->put(client->connection, key, client->value, (gsize)options.size, durable);
}

typedef gboolean (*Operation)(Client *client, guint64 i);

static gboolean do_get(Client *client, guint64 i) {
  char key[64];
  shared_key(key, options.random ? next_random(client) >> 32 : i);
  return get(client, key);
}

static gboolean do_missing(Client *client, guint64 i) {
  return client->target->get(client->connection, "absent", client->buffer, 1) == -1;
}

static gboolean do_stat(Client *client, guint64 i) {
  char key[64];
  shared_key(key, i);
  return client->target->stat(client->connection, key);
}

static gboolean do_pread(Client *client, guint64 i) {
  return client->target->read_open(client->connection, client->buffer, (gsize)options.size + 1) == options.size;
}

static gboolean do_put(Client *client, guint64 i) {
  char key[64];
  own_key(client, key, i);
  return put(client, key, FALSE);
}

static gboolean do_put_durable(Client *client, guint64 i) {
  char key[64];
  own_key(client, key, i);
  return put(client, key, TRUE);
}

static gboolean do_put_new(Client *client, guint64 i) {
  char key[64];
  new_key(client, key, i);
  return put(client, key, FALSE);
}

static gboolean do_append(Client *client, guint64 i) {
  char key[64];
  g_snprintf(key, sizeof key, "a%s-%u", options.tag != NULL ? options.tag : "", client->number);
  return client->target->append(client->connection, key, client->value, (gsize)options.size);
}

static gboolean do_delete(Client *client, guint64 i) {
  char key[64];
  new_key(client, key, i);
  return client->target->remove(client->connection, key);
}

static const struct {
  const char *name;
  Operation run;
} operations[] = {{"get", do_get},         {"get-each", do_get},   {"missing", do_missing},
                  {"stat", do_stat},       {"pread", do_pread},    {"put", do_put},
                  {"put-new", do_put_new}, {"append", do_append},  {"put-durable", do_put_durable},
                  {"delete", do_delete}};

/* ---- one client ---- */

static void measured(Client *client, Operation operation, guint64 i) {
  guint64 before = now_ns();
  gboolean good = operation(client, i);
  guint64 took = now_ns() - before;
  g_array_append_val(client->took, took);
  if (!good && client->failed++ == 0)
    g_printerr("measure: %s %s failed: %s\n", client->target->name, client->operation, g_strerror(errno));
}

static gboolean goes_on(const Client *client, guint64 i, guint64 until_ns) {
  if (options.count > 0)
    return i < (guint64)options.count;
  return now_ns() < until_ns && client->failed == 0;
}

static void run_mixed(Client *client, guint64 until_ns) {
  for (guint64 i = 0; goes_on(client, i, until_ns); i++) {
    char key[64];
    guint64 drawn = next_random(client);
    gboolean puts = drawn % MIXED_PUTS == 0;
    if (puts)
      own_key(client, key, drawn >> 32);
    else
      shared_key(key, drawn >> 32);
    guint64 before = now_ns();
    gssize got = puts ? (put(client, key, FALSE) ? options.size : -1)
                      : client->target->get(client->connection, key, client->buffer, (gsize)options.size + 1);
    guint64 took = now_ns() - before;
    g_array_append_val(puts ? client->puts : client->took, took);
    client->failed += got < 0;
    client->torn += got >= 0 && got != options.size;
  }
}

static void run_delete(Client *client, guint64 until_ns) {
  guint64 made = 0;
  for (guint64 i = 0; goes_on(client, i, until_ns); i++) {
    for (; i == made && made < i + DELETE_BATCH; made++)
      if (!do_put_new(client, made))
        client->failed++;
    for (; i + 1 < made; i++)
      measured(client, do_delete, i);
    measured(client, do_delete, i);
  }
}

static gpointer run(gpointer data) {
  Client *client = data;
  guint64 until_ns = now_ns() + (guint64)(options.seconds * 1e9);
  if (strcmp(client->operation, "fill") == 0) {
    for (guint64 i = client->number; i < (guint64)options.keys; i += (guint64)options.clients) {
      char key[64];
      shared_key(key, i);
      client->failed += !put(client, key, FALSE);
    }
  } else if (strcmp(client->operation, "mixed") == 0) {
    run_mixed(client, until_ns);
  } else if (strcmp(client->operation, "delete") == 0) {
    run_delete(client, until_ns);
  } else {
    for (guint o = 0; o < G_N_ELEMENTS(operations); o++)
      if (strcmp(operations[o].name, client->operation) == 0)
        for (guint64 i = 0; goes_on(client, i, until_ns); i++)
          measured(client, operations[o].run, i);
  }
  return NULL;
}

/* ---- the answer ---- */

static gint compare(gconstpointer a, gconstpointer b) {
  guint64 x = *(const guint64 *)a, y = *(const guint64 *)b;
  return x < y ? -1 : x > y;
}

static double quantile_us(const GArray *sorted, double q) {
  if (sorted->len == 0)
    return 0;
  guint at = MIN((guint)(q * sorted->len), sorted->len - 1);
  return (double)g_array_index(sorted, guint64, at) / 1000.0;
}

static void collect(GArray *all, GArray *part) {
  g_array_append_vals(all, part->data, part->len);
  g_array_unref(part);
}

static int print_result(Client *clients, double seconds) {
  g_autoptr(GArray) took = g_array_new(FALSE, FALSE, sizeof(guint64));
  g_autoptr(GArray) puts = g_array_new(FALSE, FALSE, sizeof(guint64));
  guint64 failed = 0, torn = 0;
  for (gint i = 0; i < options.clients; i++) {
    collect(took, clients[i].took);
    collect(puts, clients[i].puts);
    failed += clients[i].failed;
    torn += clients[i].torn;
  }
  g_array_sort(took, compare);
  g_array_sort(puts, compare);
  g_print("{\"ops\":%u,\"failed\":%" G_GUINT64_FORMAT ",\"seconds\":%.4f,\"median_us\":%.2f,\"p99_us\":%.2f,\"p999_us\":%.2f,"
          "\"max_us\":%.2f",
          took->len + puts->len, failed, seconds, quantile_us(took, 0.5), quantile_us(took, 0.99),
          quantile_us(took, 0.999), quantile_us(took, 1));
  if (puts->len > 0)
    g_print(",\"put_median_us\":%.2f,\"put_p99_us\":%.2f,\"torn\":%" G_GUINT64_FORMAT, quantile_us(puts, 0.5),
            quantile_us(puts, 0.99), torn);
  g_print("}\n");
  return failed > 0 ? 1 : 0;
}

static const Target *find_target(const char *text) {
  const Target *all[] = {&target_file, &target_sqlite, &target_engine,
#ifdef HAVE_HIREDIS
                         &target_redis,
#endif
#ifdef HAVE_CURL
                         &target_etcd,
#endif
  };
  for (guint i = 0; i < G_N_ELEMENTS(all); i++)
    if (g_str_has_prefix(text, all[i]->name) && text[strlen(all[i]->name)] == ':')
      return all[i];
  return NULL;
}

static gboolean can(const Target *target, const char *operation) {
  if (strcmp(operation, "stat") == 0)
    return target->stat != NULL;
  if (strcmp(operation, "pread") == 0)
    return target->open != NULL;
  if (strcmp(operation, "append") == 0)
    return target->append != NULL;
  gboolean known = strcmp(operation, "fill") == 0 || strcmp(operation, "mixed") == 0;
  for (guint i = 0; i < G_N_ELEMENTS(operations); i++)
    known |= strcmp(operations[i].name, operation) == 0;
  return known;
}

static gboolean connect_client(Client *client, const char *where) {
  client->connection = client->target->connect(where);
  client->took = g_array_sized_new(FALSE, FALSE, sizeof(guint64), 4096);
  client->puts = g_array_new(FALSE, FALSE, sizeof(guint64));
  client->value = g_malloc((gsize)options.size + 1);
  memset(client->value, 'v', (gsize)options.size);
  client->buffer = g_malloc((gsize)options.size + 1);
  client->random = 88172645463325252u + client->number * 7919u;
  return client->connection != NULL &&
         (strcmp(client->operation, "pread") != 0 || client->target->open(client->connection, "k0"));
}

int main(int argc, char **argv) {
  g_autoptr(GOptionContext) context = g_option_context_new("KIND:WHERE OPERATION");
  g_autoptr(GError) error = NULL;
  g_option_context_add_main_entries(context, entries, NULL);
  if (!g_option_context_parse(context, &argc, &argv, &error)) {
    g_printerr("measure: %s\n", error->message);
    return 2;
  }
  const Target *target = argc == 3 ? find_target(argv[1]) : NULL;
  if (target == NULL || !can(target, argv[2]) || options.clients < 1 || options.keys < 1 || options.size < 0) {
    g_printerr("measure: no such store or operation; see measure --help\n");
    return 2;
  }
  const char *where = strchr(argv[1], ':') + 1;
  if (target->start != NULL && !target->start(where))
    return 1;
  if (strcmp(argv[2], "get-each") == 0)
    options.count = options.keys;
  g_autofree Client *clients = g_new0(Client, (gsize)options.clients);
  g_autofree GThread **threads = g_new0(GThread *, (gsize)options.clients);
  for (gint i = 0; i < options.clients; i++) {
    clients[i] = (Client){.number = (guint)i, .target = target, .operation = argv[2]};
    if (!connect_client(&clients[i], where))
      return 1;
  }
  guint64 before = now_ns();
  for (gint i = 0; i < options.clients; i++)
    threads[i] = g_thread_new("client", run, &clients[i]);
  for (gint i = 0; i < options.clients; i++)
    g_thread_join(threads[i]);
  double seconds = (double)(now_ns() - before) / 1e9;
  int result = print_result(clients, seconds);
  for (gint i = 0; i < options.clients; i++)
    target->disconnect(clients[i].connection);
  if (target->stop != NULL)
    target->stop();
  return result;
}
