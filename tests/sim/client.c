/* client.c - see client.h. */
#include "client.h"

#include "check.h"
#include "content.h"

#include <sys/stat.h>

/* A value that changes under every attempt to read it: the version alone is checked then. */
#define READ_TRIES 6
/* Answers may be this late: ticks and completions have their own delay. */
#define DEADLINE_SLACK_US (400 * SIM_MS)
#define TICK_US (20 * SIM_MS)

static void on_done(QfsRequest *request, gpointer user_data);

void sim_client_init(SimClient *client, Sim *sim, guint id, void (*on_idle)(SimClient *client)) {
  *client = (SimClient){.sim = sim, .id = id, .on_idle = on_idle};
  client->bytes = g_byte_array_new();
}

void sim_client_clear(SimClient *client) {
  g_clear_pointer(&client->got, qfs_request_free);
  g_clear_pointer(&client->later, qfs_request_free);
  g_clear_pointer(&client->staging, g_bytes_unref);
  g_clear_pointer(&client->bytes, g_byte_array_unref);
}

static void submit(SimClient *client, QfsRequest *request) {
  Sim *sim = client->sim;
  client->asked_us = sim->now_us;
  gboolean same_run = client->run == sim->run || qfs_object_is_none(client->pinned);
  if (!same_run)
    client->pinned = (QfsObjectId){0, 0}; /* pins died with the daemon */
  client->run = sim->run;
  if (request->type == QFS_REQUEST_GET)
    sim_trust_ask(sim, client->op->key, &client->asked);
  if (sim->coordinator != NULL && same_run) {
    qfs_coordinator_submit(sim->coordinator, request);
    return;
  }
  request->status = QFS_UNKNOWN; /* the daemon died between two requests of one operation */
  on_done(request, client);
}

static void unpin(SimClient *client) {
  Sim *sim = client->sim;
  if (!qfs_object_is_none(client->pinned) && sim->coordinator != NULL && client->run == sim->run)
    qfs_coordinator_unpin(sim->coordinator, client->pinned);
  client->pinned = (QfsObjectId){0, 0};
}

/* The operation ends with this answer. */
static void end(SimClient *client, QfsRequest *answer, GBytes *data) {
  SimOp *op = client->op;
  unpin(client);
  g_clear_pointer(&client->staging, g_bytes_unref);
  client->op = NULL;
  if (client->power_losses != client->sim->power_losses && !sim_op_changes(op))
    answer->status = QFS_UNKNOWN; /* who was reading went down with the machine */
  sim_history_end(client->sim, op, answer, data);
  qfs_request_free(answer);
  client->on_idle(client);
}

/* ---- get ---- */

static QfsRequest *request_new(SimClient *client, QfsRequestType type, const char *key) {
  QfsRequest *request = qfs_request_new(type, key, on_done, client);
  request->now_ns = SIM_OP_NS(client->op->id);
  return request;
}

static void on_read_on(Sim *sim, gpointer data) {
  SimClient *client = data;
  submit(client, g_steal_pointer(&client->later));
}

/* What is said of the value's holes, from its beginning to its end, is compared with its bytes. */
static void seek_on(SimClient *client) {
  QfsRequest *request = request_new(client, QFS_REQUEST_SEEK, client->op->key->name);
  if (client->seek == SEEK_NOT_YET) {
    client->seek = SEEK_DATA_NEXT;
    client->sought = 0;
  }
  request->record = qfs_record_ref(client->got->record);
  request->offset = client->sought;
  request->flags = client->seek == SEEK_HOLE_NEXT ? QFS_SEEK_HOLE : 0;
  submit(client, request);
}

static void read_more(SimClient *client) {
  QfsRecord *record = client->got->record;
  guint64 done = client->bytes->len;
  if (done == record->attr.size && client->seek != SEEK_OVER &&
      (client->seek != SEEK_NOT_YET || sim_random_percent(&client->sim->random, 10))) {
    seek_on(client);
    return;
  }
  if (done == record->attr.size) {
    g_autoptr(GBytes) data = g_bytes_new_static(client->bytes->data, client->bytes->len); /* nobody keeps it */
    end(client, g_steal_pointer(&client->got), data);
    return;
  }
  QfsRequest *request = request_new(client, QFS_REQUEST_READ, client->op->key->name);
  request->record = qfs_record_ref(record);
  request->offset = done;
  request->length = (guint64)sim_random_spread(&client->sim->random, 512, 1024 * 1024);
  if (!client->slow) {
    submit(client, request);
    return;
  }
  request->length = MIN(request->length, 2 * QFS_CHUNK_SIZE);
  client->later = request;
  sim_after(client->sim, sim_random_spread(&client->sim->random, 1 * SIM_MS, 1500 * SIM_MS),
            on_read_on, client);
}

static void got(SimClient *client, QfsRequest *request) {
  Sim *sim = client->sim;
  QfsRecord *record = request->record;
  gboolean has_bytes =
      request->status == QFS_OK && record != NULL && record->kind == QFS_KIND_VALUE;
  if (!has_bytes) {
    end(client, request, NULL);
    return;
  }
  if (record->tail_offset == 0 && sim_random_percent(&sim->random, 50)) {
    gsize tail_len = g_bytes_get_size(record->tail);
    guint8 *bytes = g_malloc0(record->attr.size + 1);
    memcpy(bytes, g_bytes_get_data(record->tail, NULL), MIN(tail_len, record->attr.size));
    g_autoptr(GBytes) data = g_bytes_new_take(bytes, record->attr.size);
    end(client, request, data);
    return;
  }
  client->got = request;
  client->seek = SEEK_NOT_YET;
  g_byte_array_set_size(client->bytes, 0);
  client->pinned = record->object;
  client->slow = record->tail_offset > 0 && sim_random_percent(&sim->random, 5);
  qfs_coordinator_pin(sim->coordinator, record->object);
  read_more(client);
}

static void was_sought(SimClient *client, QfsRequest *request) {
  Sim *sim = client->sim;
  guint64 from = client->sought, to = request->offset, size = client->bytes->len;
  gboolean hole = client->seek == SEEK_HOLE_NEXT;
  gboolean answered = request->status == QFS_OK;
  qfs_request_free(request);
  if (answered) {
    SIM_CHECK(sim, to >= from && to <= size && (!hole || to > from || from == size),
              "%s: a %s after %" G_GUINT64_FORMAT " was said to be at %" G_GUINT64_FORMAT " of %" G_GUINT64_FORMAT,
              sim_op_text(client->op), hole ? "hole" : "byte", from, to, size);
    for (guint64 at = from; !hole && at < to; at++)
      SIM_CHECK(sim, client->bytes->data[at] == 0, "%s: %" G_GUINT64_FORMAT " was said to be in a hole",
                sim_op_text(client->op), at);
    client->sought = to;
  }
  client->seek = !answered || to == size ? SEEK_OVER : hole ? SEEK_DATA_NEXT : SEEK_HOLE_NEXT;
  read_more(client);
}

static void was_read(SimClient *client, QfsRequest *request) {
  Sim *sim = client->sim;
  QfsStatus status = request->status;
  if (status == QFS_OK) {
    guint64 left = client->got->record->attr.size - client->bytes->len;
    gsize len = request->data != NULL ? g_bytes_get_size(request->data) : 0;
    SIM_CHECK(sim, len == MIN(left, request->length),
              "%s: a read of %" G_GUINT64_FORMAT " bytes gave %" G_GSIZE_FORMAT
              " of %" G_GUINT64_FORMAT,
              sim_op_text(client->op), request->length, len, left);
    g_byte_array_append(client->bytes, g_bytes_get_data(request->data, NULL), (guint)len);
    qfs_request_free(request);
    read_more(client);
    return;
  }
  qfs_request_free(request);
  if (status == QFS_STALE && ++client->tries < READ_TRIES) {
    SIM_TRACE(sim, "%s: read again", sim_op_text(client->op));
    unpin(client);
    g_clear_pointer(&client->got, qfs_request_free);
    submit(client, request_new(client, QFS_REQUEST_GET, client->op->key->name));
    return;
  }
  if (status != QFS_STALE)
    client->got->status = status;
  end(client, g_steal_pointer(&client->got), NULL);
}

/* ---- staged write ---- */

/* Extended attributes say who set them: who created the key, or changed its attributes last. */
static GBytes *xattrs_of(const SimOp *op) {
  guint32 id = op->id;
  return g_bytes_new(&id, sizeof id);
}

static void set_write_flags(const SimOp *op, QfsRequest *request) {
  request->flags |= QFS_WRITE_CREATE;
  request->xattrs = xattrs_of(op);
  request->attr.mode = S_IFREG | 0644;
  if (op->exclusive)
    request->flags |= QFS_WRITE_EXCLUSIVE;
  if (op->conditional) {
    request->flags |= QFS_WRITE_IF_TIMESTAMP;
    request->if_timestamp = op->if_timestamp;
  }
  if (op->has_timestamp) {
    request->flags |= QFS_WRITE_TIMESTAMP;
    request->timestamp = op->timestamp;
  }
  if (op->durable)
    request->flags |= QFS_WRITE_DURABLE;
}

static void stage_more(SimClient *client) {
  gsize size = g_bytes_get_size(client->staging);
  QfsRequest *request = request_new(client, QFS_REQUEST_WRITE, client->op->key->name);
  if (client->staged == size) {
    request->flags = QFS_WRITE_REPLACE | QFS_WRITE_STAGED;
    request->object = client->object;
    request->staged_size = size;
    set_write_flags(client->op, request);
  } else {
    gsize piece = QFS_CHUNK_SIZE * (1 + sim_random_below(&client->sim->random, 3));
    request->flags = QFS_WRITE_STAGE;
    request->object = client->object;
    request->offset = client->staged;
    request->data =
        g_bytes_new_from_bytes(client->staging, client->staged, MIN(piece, size - client->staged));
  }
  submit(client, request);
}

static void on_stage_on(Sim *sim, gpointer data) {
  SimClient *client = data;
  if (sim->coordinator != NULL && client->run == sim->run) {
    stage_more(client);
    return;
  }
  QfsRequest *request = request_new(client, QFS_REQUEST_WRITE, client->op->key->name);
  request->status = QFS_NO_QUORUM; /* what was staged died with the daemon */
  end(client, request, NULL);
}

static void was_staged(SimClient *client, QfsRequest *request) {
  Sim *sim = client->sim;
  if (request->status == QFS_OK) {
    client->staged += g_bytes_get_size(request->data);
    client->object = request->object;
    qfs_request_free(request);
    if (client->slow)
      sim_after(sim, sim_random_spread(&sim->random, 1 * SIM_MS, 1500 * SIM_MS), on_stage_on, client);
    else
      stage_more(client);
    return;
  }
  if (sim->coordinator != NULL && client->run == sim->run && !qfs_object_is_none(client->object))
    qfs_coordinator_discard(sim->coordinator, client->object);
  request->status = QFS_NO_QUORUM; /* nothing was published: certainly without effect */
  end(client, request, NULL);
}

/* What was certainly not published is of no use to anybody. */
static void was_published(SimClient *client, QfsRequest *request) {
  Sim *sim = client->sim;
  gboolean perhaps = request->status == QFS_OK || request->status == QFS_UNKNOWN;
  if ((!perhaps || request->superseded) && sim->coordinator != NULL && client->run == sim->run)
    qfs_coordinator_discard(sim->coordinator, client->object);
  end(client, request, NULL);
}

/* ---- one request ---- */

static GBytes *bytes_of(const SimOp *op) {
  switch (op->kind) {
  case SIM_OP_APPEND:
    return sim_line_bytes(op->id, op->size);
  case SIM_OP_PATCH:
    return sim_cell_bytes(op->id, op->first, op->count);
  default:
    if (op->key->class == SIM_KEY_LOG && op->size > 0)
      return sim_line_bytes(op->id, op->size);
    return sim_value_bytes(op->id, op->size);
  }
}

static QfsRequest *write_request(SimClient *client, const SimOp *op) {
  QfsRequest *request = request_new(client, QFS_REQUEST_WRITE, op->key->name);
  if (op->kind == SIM_OP_WRITE)
    request->flags = QFS_WRITE_REPLACE;
  else if (op->kind == SIM_OP_APPEND)
    request->flags = QFS_WRITE_APPEND;
  request->offset = (guint64)op->first * SIM_CELL;
  request->data = bytes_of(op);
  set_write_flags(op, request);
  return request;
}

static QfsRequest *zero_request(SimClient *client, const SimOp *op) {
  QfsRequest *request = request_new(client, QFS_REQUEST_WRITE, op->key->name);
  request->flags = op->bare;
  request->offset = (guint64)op->first * SIM_CELL;
  request->length = (guint64)op->count * SIM_CELL;
  return request;
}

static QfsRequest *create_request(SimClient *client, const SimOp *op) {
  QfsRequest *request = request_new(client, QFS_REQUEST_CREATE, op->key->name);
  request->xattrs = xattrs_of(op);
  request->kind = op->kind == SIM_OP_MKDIR ? QFS_KIND_DIRECTORY : QFS_KIND_VALUE;
  request->attr.mode = op->kind == SIM_OP_MKDIR ? S_IFDIR | 0755 : S_IFREG | 0644;
  return request;
}

static QfsRequest *setattr_request(SimClient *client, const SimOp *op) {
  QfsRequest *request = request_new(client, QFS_REQUEST_SETATTR, op->key->name);
  request->mask = op->kind == SIM_OP_TRUNCATE ? QFS_ATTR_SIZE : QFS_ATTR_MODE | QFS_ATTR_XATTRS;
  if (op->kind == SIM_OP_SETATTR)
    request->data = xattrs_of(op);
  if (op->kind == SIM_OP_NOTE)
    request->mask = QFS_ATTR_ATIME;
  request->attr.size = (guint64)op->first * SIM_CELL;
  request->attr.mode = op->id & 0777;
  request->attr.atime_ns = SIM_OP_NS(op->id);
  return request;
}

static QfsRequest *remove_request(SimClient *client, const SimOp *op) {
  QfsRequest *request = request_new(client, QFS_REQUEST_REMOVE, op->key->name);
  if (op->kind == SIM_OP_RMDIR)
    request->flags = QFS_REMOVE_DIRECTORY | QFS_REMOVE_MUST_EXIST;
  else if (op->key->class == SIM_KEY_CHILD || op->key->class == SIM_KEY_TOKEN)
    request->flags = QFS_REMOVE_NON_DIRECTORY | QFS_REMOVE_MUST_EXIST;
  if (op->has_timestamp) {
    request->flags |= QFS_REMOVE_TIMESTAMP;
    request->timestamp = op->timestamp;
  }
  if (op->durable)
    request->flags |= QFS_REMOVE_DURABLE;
  return request;
}

static QfsRequest *first_request(SimClient *client, const SimOp *op) {
  QfsRequest *request = NULL;
  switch (op->kind) {
  case SIM_OP_GET:
    return request_new(client, QFS_REQUEST_GET, op->key->name);
  case SIM_OP_LIST:
    request = request_new(client, QFS_REQUEST_LIST, op->dir);
    request->after = g_strdup(op->after);
    request->limit = op->limit;
    return request;
  case SIM_OP_SYNC:
    return request_new(client, QFS_REQUEST_SYNC, op->key != NULL ? op->key->name : NULL);
  case SIM_OP_WRITE:
  case SIM_OP_APPEND:
  case SIM_OP_PATCH:
    return write_request(client, op);
  case SIM_OP_ZERO:
    return zero_request(client, op);
  case SIM_OP_CREATE:
  case SIM_OP_MKDIR:
    return create_request(client, op);
  case SIM_OP_SETATTR:
  case SIM_OP_NOTE:
  case SIM_OP_TRUNCATE:
    return setattr_request(client, op);
  case SIM_OP_REMOVE:
  case SIM_OP_RMDIR:
    return remove_request(client, op);
  case SIM_OP_RENAME:
    request = request_new(client, QFS_REQUEST_RENAME, op->key->name);
    request->key2 = g_strdup(op->key2->name);
    request->flags = op->exclusive ? QFS_RENAME_NOREPLACE : 0;
    return request;
  }
  g_assert_not_reached();
}

/* A majority has answered lately, if only pings to who owes nothing. */
static gboolean majority_answers(const Sim *sim) {
  if (sim->coordinator == NULL) /* it was killed meanwhile */
    return TRUE;
  const guint nodes = qfs_coordinator_nodes(sim->coordinator);
  const gint64 lately_us = (gint64)sim->config.timeout_ms * SIM_MS * 3 / 2 + DEADLINE_SLACK_US;
  guint answering = 0;
  for (guint i = 1; i <= nodes; i++)
    answering += sim->now_us - sim->node[i].replied_us <= lately_us;
  return answering >= nodes / 2 + 1;
}

/* Its deadline, or as much again while nodes are given up; not so when a majority can't be reached. */
static void check_in_time(const SimClient *client) {
  Sim *sim = client->sim;
  const gint64 timeout_us = (gint64)sim->config.timeout_ms * SIM_MS, took_us = sim->now_us - client->asked_us;
  const gboolean in_time = took_us <= timeout_us + DEADLINE_SLACK_US;
  SIM_CHECK(sim, in_time || (took_us <= 2 * timeout_us + DEADLINE_SLACK_US && majority_answers(sim)),
            "%s was answered after %" G_GINT64_FORMAT " us", sim_op_text(client->op), took_us);
  sim->result->prolonged += took_us > timeout_us + TICK_US;
}

static void on_done(QfsRequest *request, gpointer user_data) {
  SimClient *client = user_data;
  check_in_time(client);
  if (request->type == QFS_REQUEST_GET && request->status == QFS_OK)
    sim_trust_answered(client->op->key, &client->asked, request->record);
  if (request->type == QFS_REQUEST_GET)
    got(client, request);
  else if (request->type == QFS_REQUEST_READ)
    was_read(client, request);
  else if (request->type == QFS_REQUEST_SEEK)
    was_sought(client, request);
  else if (request->type == QFS_REQUEST_WRITE && (request->flags & QFS_WRITE_STAGE))
    was_staged(client, request);
  else if (request->type == QFS_REQUEST_WRITE && (request->flags & QFS_WRITE_STAGED))
    was_published(client, request);
  else
    end(client, request, NULL);
}

void sim_client_run(SimClient *client, SimOp *op, gboolean staged) {
  g_assert(client->op == NULL);
  client->op = op;
  client->power_losses = client->sim->power_losses;
  client->tries = 0;
  client->object = (QfsObjectId){0, 0};
  client->staged = 0;
  SIM_TRACE(client->sim, "begin %s size %" G_GSIZE_FORMAT " cells %u+%u%s", sim_op_text(op),
            op->size, op->first, op->count, staged ? " staged" : "");
  if (op->kind == SIM_OP_WRITE && staged) {
    client->staging = bytes_of(op);
    client->slow = sim_random_percent(&client->sim->random, 30);
    stage_more(client);
    return;
  }
  submit(client, first_request(client, op));
}
