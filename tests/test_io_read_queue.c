/* The queue of reads against a kernel that is played by the test: short reads in
 * every place, interruptions, the end of the file, failures in any order. */
#include "io/read_queue.h"

#include "io_testing.h"

#include <errno.h>

#define CHUNK (4 * HR_IO_ALIGN)

static struct hr__read_queue queue;
static struct hr_file        file;
static int                   n_done, n_wakes;

static void on_done(struct hr_read *read)
{
	(void)read;
	n_done++;
}

static void on_wake(struct hr__read_queue *q)
{
	(void)q;
	n_wakes++;
}

static char path[] = "test_io_read_queue.XXXXXX";

static int set_up(void **state)
{
	(void)state;
	queue = (struct hr__read_queue){.reader = {.chunk_bytes = CHUNK, .depth = 4}, .wake = on_wake};
	n_done = n_wakes = 0;
	return hr__read_queue_init(&queue, NULL);
}

static int tear_down(void **state)
{
	(void)state;
	hr__read_queue_release(&queue);
	return 0;
}

static int open_shared_file(void **state)
{
	(void)state;
	make_file(path, 10 * CHUNK, NULL);
	open_file(&file, path);
	return 0;
}

static int close_shared_file(void **state)
{
	(void)state;
	hr_file_close(&file);
	return unlink(path);
}

/* Memory is never touched here, only addressed. */
static struct hr_read make_read(uint64_t offset, uint64_t length)
{
	return (struct hr_read){.file = &file,
	                        .offset = offset,
	                        .length = length,
	                        .dst = (void *)(uintptr_t)(0x10000000 + offset % HR_IO_ALIGN),
	                        .done = on_done};
}

static struct hr__piece take_piece(void)
{
	struct hr__piece piece = {0};
	assert_int_equal(hr__read_queue_next(&queue, &piece, NULL), 1);
	return piece;
}

static void take_nothing(void)
{
	struct hr__piece piece;
	assert_int_equal(hr__read_queue_next(&queue, &piece, NULL), 0);
}

static void pieces_cover_the_superset_on_the_grid(void **state)
{
	(void)state;
	struct hr_read read = make_read(5000, 2 * CHUNK);
	hr__read_queue_submit(&queue.reader, &read);
	struct hr__piece p[3];
	for (int i = 0; i < 3; i++) {
		p[i] = take_piece();
		assert_int_equal(p[i].offset, HR_IO_ALIGN + i * CHUNK);
		assert_ptr_equal(p[i].dst, (char *)0x10000000 + i * CHUNK);
		assert_int_equal(p[i].bytes, i < 2 ? CHUNK : HR_IO_ALIGN);
	}
	take_nothing();
	assert_false(hr__read_queue_complete(&queue, &p[2], p[2].bytes));
	assert_false(hr__read_queue_complete(&queue, &p[0], p[0].bytes));
	assert_int_equal(n_done, 0);
	assert_false(hr__read_queue_complete(&queue, &p[1], p[1].bytes));
	assert_int_equal(n_done, 1);
	assert_int_equal(read.status, 0);
	assert_true(read.start_ns && read.end_ns >= read.start_ns);
}

static void short_reads_go_on_at_a_block(void **state)
{
	(void)state;
	struct hr_read read = make_read(0, CHUNK);
	hr__read_queue_submit(&queue.reader, &read);
	struct hr__piece p = take_piece();
	assert_true(hr__read_queue_complete(&queue, &p, 2 * HR_IO_ALIGN + 17));
	assert_int_equal(p.offset, 2 * HR_IO_ALIGN);
	assert_int_equal(p.bytes, 2 * HR_IO_ALIGN);
	assert_ptr_equal(p.dst, (char *)0x10000000 + 2 * HR_IO_ALIGN);
	assert_true(hr__read_queue_complete(&queue, &p, 17)); /* no whole block: asked again */
	assert_int_equal(p.offset, 2 * HR_IO_ALIGN);
	assert_true(hr__read_queue_complete(&queue, &p, HR_IO_ALIGN));
	assert_true(hr__read_queue_complete(&queue, &p, -EINTR));
	assert_true(hr__read_queue_complete(&queue, &p, -EAGAIN));
	assert_int_equal(p.offset, 3 * HR_IO_ALIGN);
	assert_false(hr__read_queue_complete(&queue, &p, HR_IO_ALIGN));
	assert_int_equal(n_done, 1);
	assert_int_equal(read.status, 0);
}

static void end_of_file_beyond_what_is_wanted_is_fine(void **state)
{
	(void)state;
	struct hr_read read = make_read(100, 50);
	hr__read_queue_submit(&queue.reader, &read);
	struct hr__piece p = take_piece();
	assert_int_equal(p.bytes, HR_IO_ALIGN);
	assert_false(hr__read_queue_complete(&queue, &p, 150));
	assert_int_equal(read.status, 0);
}

static void end_of_file_before_is_told_with_wanted_and_got(void **state)
{
	(void)state;
	struct hr_read read = make_read(100, 50);
	hr__read_queue_submit(&queue.reader, &read);
	struct hr__piece p = take_piece();
	assert_true(hr__read_queue_complete(&queue, &p, 149));
	assert_false(hr__read_queue_complete(&queue, &p, 149));
	assert_int_equal(n_done, 1);
	assert_int_equal(read.status, HR_ETRUNCATED);
	assert_int_equal(read.error.code, HR_ETRUNCATED);
	assert_non_null(strstr(read.error.message, path));
	assert_non_null(strstr(read.error.message, "50 bytes wanted at offset 100, got 49"));

	read = make_read(HR_IO_ALIGN + 100, 50);
	hr__read_queue_submit(&queue.reader, &read);
	p = take_piece();
	assert_false(hr__read_queue_complete(&queue, &p, 0));
	assert_non_null(strstr(read.error.message, "got 0"));
}

static void the_lowest_failure_is_told_and_the_rest_not_issued(void **state)
{
	(void)state;
	struct hr_read read = make_read(0, 4 * CHUNK), next = make_read(0, 1);
	hr__read_queue_submit(&queue.reader, &read);
	hr__read_queue_submit(&queue.reader, &next);
	struct hr__piece p[3];
	for (int i = 0; i < 3; i++)
		p[i] = take_piece();
	assert_false(hr__read_queue_complete(&queue, &p[2], 0));
	assert_false(hr__read_queue_complete(&queue, &p[1], -EIO));
	struct hr__piece q = take_piece();
	assert_ptr_equal(q.read, &next);
	assert_int_equal(n_done, 0);
	assert_false(hr__read_queue_complete(&queue, &p[0], CHUNK));
	assert_int_equal(n_done, 1);
	assert_int_equal(read.status, HR_EIO);
	assert_non_null(strstr(read.error.message, strerror(EIO)));
	assert_non_null(strstr(read.error.message, "at offset 16384"));
	assert_false(hr__read_queue_complete(&queue, &q, 1));
	assert_int_equal(next.status, 0);
	assert_int_equal(n_done, 2);

	struct hr_reader_stats stats;
	hr__read_queue_stats(&queue.reader, &stats);
	assert_int_equal(stats.reads, 2);
	assert_int_equal(stats.bytes, 1);
}

static void endless_interruption_is_a_failure(void **state)
{
	(void)state;
	struct hr_read read = make_read(0, 1);
	hr__read_queue_submit(&queue.reader, &read);
	struct hr__piece p = take_piece();
	for (int i = 0; hr__read_queue_complete(&queue, &p, -EAGAIN); i++)
		assert_true(i < 1000000);
	assert_int_equal(read.status, HR_EIO);
	assert_int_equal(n_done, 1);
}

static void what_breaks_the_rules_is_refused(void **state)
{
	(void)state;
	struct hr_read bad[] = {make_read(0, 0), make_read(UINT64_MAX - 5, 10), make_read(7, 10)};
	bad[2].dst = (char *)bad[2].dst + 1;
	for (size_t i = 0; i < HR_COUNT_OF(bad); i++)
		hr__read_queue_submit(&queue.reader, &bad[i]);
	take_nothing();
	for (size_t i = 0; i < HR_COUNT_OF(bad); i++) {
		assert_int_equal(bad[i].status, HR_EINVAL);
		assert_int_equal(bad[i].error.code, HR_EINVAL);
	}
	assert_int_equal(n_done, 3);
}

static void only_sleepers_are_woken(void **state)
{
	(void)state;
	struct hr_read a = make_read(0, 1), b = make_read(0, 1), c = make_read(0, 1);
	hr__read_queue_submit(&queue.reader, &a); /* nobody has ever looked: nobody sleeps */
	assert_int_equal(n_wakes, 0);
	struct hr__piece p = take_piece(), q;
	take_nothing();
	hr__read_queue_submit(&queue.reader, &b);
	hr__read_queue_submit(&queue.reader, &c);
	assert_int_equal(n_wakes, 1);
	q = take_piece();
	hr__read_queue_complete(&queue, &p, 1);
	hr__read_queue_complete(&queue, &q, 1);
	q = take_piece();
	hr__read_queue_complete(&queue, &q, 1);
	assert_int_equal(n_done, 3);
}

static void pieces_of_one_read_wake_many(void **state)
{
	(void)state;
	struct hr_read   read = make_read(0, 3 * CHUNK);
	struct hr__piece p[3];
	queue.sleepers = 2; /* as if two threads waited */
	hr__read_queue_submit(&queue.reader, &read);
	assert_int_equal(n_wakes, 1);
	p[0] = take_piece();
	assert_int_equal(n_wakes, 2);
	p[1] = take_piece();
	p[2] = take_piece();
	assert_int_equal(n_wakes, 2);
	for (int i = 0; i < 3; i++)
		hr__read_queue_complete(&queue, &p[i], CHUNK);
	assert_int_equal(n_done, 1);
}

static void a_changed_file_is_told(void **state)
{
	(void)state;
	struct hr_file older = file;
	older.mtime_ns--;
	struct hr_read read = make_read(0, 1);
	read.file = &older;
	hr__read_queue_submit(&queue.reader, &read);
	struct hr__piece p = take_piece();
	hr__read_queue_complete(&queue, &p, HR_IO_ALIGN);
	assert_int_equal(read.status, HR_ECHANGED);
	assert_int_equal(read.error.code, HR_ECHANGED);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
	    TEST(pieces_cover_the_superset_on_the_grid),
	    TEST(short_reads_go_on_at_a_block),
	    TEST(end_of_file_beyond_what_is_wanted_is_fine),
	    TEST(end_of_file_before_is_told_with_wanted_and_got),
	    TEST(the_lowest_failure_is_told_and_the_rest_not_issued),
	    TEST(endless_interruption_is_a_failure),
	    TEST(what_breaks_the_rules_is_refused),
	    TEST(only_sleepers_are_woken),
	    TEST(pieces_of_one_read_wake_many),
	    TEST(a_changed_file_is_told),
	};
	return cmocka_run_group_tests(tests, open_shared_file, close_shared_file);
}
