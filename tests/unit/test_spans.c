/* test_spans.c - storage/spans.h, and how a record's spans decide which chunk rows are its own. */
#include "replica_fixture.h"

#include "storage/spans.h"

#define N(i) (((guint64)1 << 63) + (i))

static void assert_spans(GBytes *spans, const char *expected) {
  GString *text = g_string_new(NULL);
  for (guint i = 0; i < qfs_spans_count(spans); i++) {
    QfsSpan span = qfs_spans_get(spans, i);
    g_string_append_printf(text, "%s%" G_GUINT64_FORMAT "-%" G_GUINT64_FORMAT, i > 0 ? " " : "",
                           span.lo, span.hi);
  }
  g_autofree char *found = g_string_free(text, FALSE);
  g_assert_cmpstr(found, ==, expected);
}

static void spans_grow(void) {
  g_autoptr(GBytes) first = qfs_spans_new(0, 4);
  g_autoptr(GBytes) second = qfs_spans_extend(first, 6);
  g_autoptr(GBytes) third = qfs_spans_append(second, 9);
  g_autoptr(GBytes) fourth = qfs_spans_extend(third, 11);
  g_autoptr(GBytes) fifth = qfs_spans_append(fourth, 20);
  assert_spans(first, "0-4");
  assert_spans(second, "0-6");
  assert_spans(third, "0-6 9-9");
  assert_spans(fifth, "0-6 9-11 20-20");
  g_assert_cmpuint(qfs_spans_newest(fifth), ==, 20);
  for (guint64 i = 0; i < 25; i++)
    g_assert_cmpint(qfs_spans_have(fifth, i), ==, i <= 6 || (i >= 9 && i <= 11) || i == 20);
  guint64 found = 99;
  g_assert_true(qfs_spans_floor(fifth, 19, &found));
  g_assert_cmpuint(found, ==, 11);
  g_autoptr(GBytes) late = qfs_spans_new(3, 4);
  g_assert_false(qfs_spans_floor(late, 2, &found));
}

/* Only gaps that end below the number are closed. */
static void spans_merge(void) {
  g_autoptr(GBytes) one = qfs_spans_new(0, 6);
  g_autoptr(GBytes) two = qfs_spans_append(one, 9);
  g_autoptr(GBytes) spans = qfs_spans_append(two, 20);
  g_autoptr(GBytes) none = qfs_spans_merge(spans, 8);
  g_autoptr(GBytes) some = qfs_spans_merge(spans, 9);
  g_autoptr(GBytes) all = qfs_spans_merge(spans, 100);
  g_autoptr(GBytes) nothing = g_bytes_new_static("", 0);
  g_autoptr(GBytes) still_nothing = qfs_spans_merge(nothing, 100);
  assert_spans(none, "0-6 9-9 20-20");
  assert_spans(some, "0-9 20-20");
  assert_spans(all, "0-20");
  assert_spans(still_nothing, "");
}

/* Records with spans have their own encoding, others the one that they always had. */
static void spans_are_encoded(void) {
  g_autoptr(QfsRecord) record = value_of("k", 7, 1, "text");
  record->object = (QfsObjectId){1, 2};
  g_autoptr(GBytes) before = qfs_record_canonical(record);
  g_assert_cmpuint(g_bytes_get_size(before), ==, 97 + 4);
  g_assert_true(qfs_record_owns(record, 7) && !qfs_record_owns(record, 8));
  g_autoptr(QfsRecord) next = qfs_record_successor(record);
  next->timestamp = 9;
  g_assert_true(qfs_record_owns(next, 7) && !qfs_record_owns(next, 8));
  g_autoptr(GBytes) after = qfs_record_canonical(next);
  g_assert_cmpuint(g_bytes_get_size(after), ==, 97 + 4 + 4 + 16);
  /* Not the same as a record with those bytes in its tail. */
  g_autoptr(QfsRecord) other = qfs_record_copy(record);
  gsize len;
  const guint8 *bytes = g_bytes_get_data(after, &len);
  set_tail(other, bytes + 97, len - 97);
  g_autoptr(GBytes) encoded = qfs_record_canonical(other);
  g_assert_cmpuint(g_bytes_get_size(encoded), ==, len);
  g_assert_false(g_bytes_equal(encoded, after));
}

static const QfsObjectId object = {3, 4};

static char *text_of(Fixture *fixture, guint64 index, GBytes *spans, gboolean *out_newer) {
  g_autoptr(QfsChunk) chunk = NULL;
  g_assert_true(
      qfs_replica_chunk(fixture->replica, object, index, spans, &chunk, out_newer, NULL));
  if (chunk == NULL)
    return g_strdup("-");
  return g_strndup(g_bytes_get_data(chunk->data, NULL), g_bytes_get_size(chunk->data));
}

static void assert_read(Fixture *fixture, GBytes *spans, const char *expected, gboolean newer) {
  gboolean found_newer = !newer;
  g_autofree char *text = text_of(fixture, 0, spans, &found_newer);
  g_assert_cmpstr(text, ==, expected);
  g_assert_cmpint(found_newer, ==, newer);
}

/* Rows of writes in the gaps are passed over, wherever they lie. */
static void rows_of_others_are_not_read(Fixture *fixture, gconstpointer data) {
  g_autoptr(GBytes) one = qfs_spans_new(0, N(2));
  g_autoptr(GBytes) spans = qfs_spans_append(one, N(5));
  g_autoptr(GBytes) longer = qfs_spans_append(spans, N(8));
  assert_read(fixture, spans, "-", FALSE);
  put_chunk(fixture->replica, object, 0, N(7), 1, "later");
  assert_read(fixture, spans, "-", TRUE);
  assert_read(fixture, longer, "-", FALSE);
  put_chunk(fixture->replica, object, 0, N(3), 2, "lost");
  put_chunk(fixture->replica, object, 0, N(4), 2, "lost too");
  assert_read(fixture, longer, "-", FALSE);
  put_chunk(fixture->replica, object, 0, 0, 3, "staged");
  assert_read(fixture, spans, "staged", FALSE);
  put_chunk(fixture->replica, object, 0, N(1), 3, "old");
  assert_read(fixture, longer, "old", FALSE);
  put_chunk(fixture->replica, object, 0, N(5), 4, "new");
  assert_read(fixture, longer, "new", FALSE);
  assert_read(fixture, one, "old", FALSE);
}

/* Records are found by the object that they name, chunks in the order of objects. */
static void objects_are_found(Fixture *fixture, gconstpointer data) {
  QfsReplica *replica = fixture->replica;
  const QfsObjectId other = {(guint64)1 << 63, 5};
  g_autoptr(QfsRecord) a = full_record("a", 100), b = full_record("b", 0);
  g_autoptr(QfsRecord) plain = value_of("c", 1, 1, "x");
  a->object = b->object = object;
  put(replica, a);
  put(replica, b);
  put(replica, plain);
  g_autoptr(GPtrArray) found = new_records(), none = new_records();
  g_assert_true(replica->ops->object_records(replica, object, found, NULL));
  g_assert_true(replica->ops->object_records(replica, other, none, NULL));
  g_assert_cmpuint(found->len, ==, 2);
  g_assert_cmpuint(none->len, ==, 0);
  g_assert_cmpuint(g_bytes_get_size(((QfsRecord *)found->pdata[0])->tail), ==, 0);
  g_assert_true(g_bytes_equal(((QfsRecord *)found->pdata[0])->spans, a->spans));

  put_chunk(replica, other, 0, N(1), 1, "5");
  put_chunk(replica, object, 1, N(9), 2, "3");
  put_chunk(replica, object, 1, 0, 9, "2");
  put_chunk(replica, object, 0, N(9), 8, "1");
  put_chunk(replica, object, 2, 7, 3, "4");
  GPtrArray *rows = new_chunks();
  const QfsChunk *after = NULL;
  gboolean more = TRUE;
  for (guint page = 0; more; page++) {
    g_assert_true(replica->ops->chunk_list(replica, after, 2, rows, &more, NULL));
    after = rows->pdata[rows->len - 1];
    g_assert_cmpuint(rows->len, ==, MIN(2 * (page + 1), 5));
  }
  for (guint i = 0; i < rows->len; i++) {
    const QfsChunk *row = rows->pdata[i];
    g_assert_null(row->data);
    g_assert_true(qfs_object_equal(row->object, i < 4 ? object : other));
  }
  g_assert_cmpuint(((QfsChunk *)rows->pdata[1])->version, ==, 0);
  g_ptr_array_unref(rows);
}

int main(int argc, char **argv) {
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/storage/spans/grow", spans_grow);
  g_test_add_func("/storage/spans/merge", spans_merge);
  g_test_add_func("/storage/spans/are-encoded", spans_are_encoded);
  ADD("/storage/spans/rows-of-others-are-not-read", rows_of_others_are_not_read);
  ADD("/storage/spans/objects-are-found", objects_are_found);
  return g_test_run();
}
