/* The throttle: the rate it was given, spans that look like a slow disk's, and
 * the behaviour of the reader inside, played by the test where it must be late or fail. */
#include "base/clock.h"
#include "base/error.h"
#include "io/read_queue.h"

#include "io_testing.h"
#include "patience.h"

#include <stdatomic.h>

#define SIZE (1u << 20)
#define MS   1000000ull

static char  path[] = "test_io_throttle.XXXXXX";
static char *content;

/* A reader that holds what it is given until the test lets it go. */
struct puppet {
	struct hr_reader reader;
	pthread_mutex_t  lock;
	struct hr_read  *held[64];
	int              n_held, n_submitted;
	bool             draining, closed;
};

static void puppet_submit(struct hr_reader *reader, struct hr_read *read)
{
	struct puppet *p = (struct puppet *)reader;
	pthread_mutex_lock(&p->lock);
	read->status = 0;
	p->held[p->n_held++] = read;
	p->n_submitted++;
	pthread_mutex_unlock(&p->lock);
}

static void puppet_finish(struct puppet *p, int i, int status)
{
	struct hr_read *read = p->held[i];
	read->status = status;
	read->start_ns = read->end_ns = hr__now_ns();
	if (status)
		hr__fail(&read->error, status, "The puppet fails.");
	read->done(read);
}

static void puppet_drain(struct hr_reader *reader)
{
	struct puppet *p = (struct puppet *)reader;
	for (int i = 0; i < p->n_held; i++)
		puppet_finish(p, i, HR_ECANCELED);
	p->n_held = 0;
}

static void puppet_close(struct hr_reader *reader) { ((struct puppet *)reader)->closed = true; }

static const struct hr_reader_ops puppet_ops = {
    .name = "puppet", .submit = puppet_submit, .drain = puppet_drain, .close = puppet_close};

#define PUPPET_INIT                                                                                          \
	{                                                                                                        \
		.reader = {&puppet_ops, 4096, 1}, .lock = PTHREAD_MUTEX_INITIALIZER                                  \
	}

static struct hr_reader *throttle(struct puppet *p, uint64_t bytes_per_second)
{
	struct hr_reader *reader = NULL;
	assert_int_equal(hr__reader_throttle_open(&reader, &p->reader, bytes_per_second, NULL), 0);
	return reader;
}

enum { N = 100, BYTES = 123457, STRIDE = 128 * 1024 };

static void check_spans(const struct hr_read *reads, uint64_t begin, uint64_t rate)
{
	for (int i = 0; i < N; i++) {
		assert_int_equal(reads[i].status, 0);
		assert_memory_equal(reads[i].dst, content + 100, BYTES);
		double span = (double)(reads[i].end_ns - reads[i].start_ns) * 1e-9;
		assert_true(span > 0.99 * BYTES / (double)rate);
		assert_true(reads[i].end_ns >= (i ? reads[i - 1].end_ns : begin));
		if (i)
			assert_true(reads[i].start_ns <= reads[i - 1].end_ns);
	}
}

/* Never too fast; true when not too slow either. */
static bool keeps_rate(enum hr_reader_kind kind, const struct hr_file *file)
{
	const uint64_t    rate = 20000000; /* 0.617 s */
	struct hr_reader *reader = open_reader(kind, 65536, 4, rate);
	if (!reader)
		return true;
	assert_string_equal(reader->ops->name, kind == HR_READER_URING ? "io_uring" : "pread");
	struct counter over = COUNTER_INIT;
	struct hr_read reads[N];
	char          *memory = aligned_memory(N * STRIDE);
	uint64_t       begin = hr__now_ns();
	for (int i = 0; i < N; i++) {
		char *dst = memory + i * STRIDE + 100;
		reads[i] = (struct hr_read){
		    .file = file, .offset = 100, .length = BYTES, .dst = dst, .done = count_done, .user = &over};
		reader->ops->submit(reader, &reads[i]);
	}
	wait_for(&over, N);
	double seconds = (double)(hr__now_ns() - begin) * 1e-9, ideal = (double)N * BYTES / (double)rate;
	check_spans(reads, begin, rate);
	free(memory);

	struct hr_reader_stats stats;
	reader->ops->stats(reader, &stats);
	reader->ops->close(reader);
	double busy = (double)stats.busy_ns * 1e-9;
	assert_int_equal(stats.bytes, N * BYTES);
	assert_int_equal(stats.reads, N);
	assert_true(seconds > 0.999 * ideal);
	return seconds < 1.02 * ideal && busy > 0.98 * ideal && busy < 1.02 * ideal;
}

static void the_rate_is_kept_within_two_percent(void **state)
{
	(void)state;
	struct hr_file file;
	open_file(&file, path);
	for (enum hr_reader_kind kind = HR_READER_URING; kind <= HR_READER_PREAD; kind++)
		assert_true(ONE_OF_TEN(keeps_rate(kind, &file)));
	hr_file_close(&file);
}

struct order {
	struct counter  over;
	struct hr_read *ended[8];
	uint64_t        at_ns[8];
};

static void note_order(struct hr_read *read)
{
	struct order *order = read->user;
	order->ended[order->over.n] = read; /* done() is called by one thread */
	order->at_ns[order->over.n] = hr__now_ns();
	count_one(&order->over);
}

static void a_read_is_held_back_until_due_in_order(void **state)
{
	(void)state;
	struct puppet     puppet = PUPPET_INIT;
	struct hr_reader *reader = throttle(&puppet, 1000000); /* 1 byte: 1 us */
	struct order      order = {.over = COUNTER_INIT};
	struct hr_read    reads[3];
	uint64_t          begin = hr__now_ns();
	for (int i = 0; i < 3; i++) {
		reads[i] = (struct hr_read){.length = 20000, .done = note_order, .user = &order};
		reader->ops->submit(reader, &reads[i]);
	}
	for (int i = 3; i--;)
		puppet_finish(&puppet, i, 0);
	wait_for(&order.over, 3);
	for (int i = 0; i < 3; i++) {
		assert_ptr_equal(order.ended[i], &reads[i]);
		assert_true(order.at_ns[i] >= begin + 20 * MS * (uint64_t)(i + 1));
		assert_true(reads[i].done == note_order);
	}
	puppet.n_held = 0;
	reader->ops->close(reader);
	assert_true(puppet.closed);
}

static bool delivers_at_once_what_comes_late(void)
{
	struct puppet     puppet = PUPPET_INIT;
	struct hr_reader *reader = throttle(&puppet, 1000000);
	struct order      order = {.over = COUNTER_INIT};
	struct hr_read    reads[2];
	uint64_t          begin = hr__now_ns();
	for (int i = 0; i < 2; i++) {
		reads[i] = (struct hr_read){.length = 100000, .done = note_order, .user = &order};
		reader->ops->submit(reader, &reads[i]);
	}
	usleep(300000); /* both were due after 200 ms */
	uint64_t late = hr__now_ns();
	puppet_finish(&puppet, 0, 0);
	puppet_finish(&puppet, 1, 0);
	wait_for(&order.over, 2);
	bool at_once = order.at_ns[1] - late < 80 * MS; /* not 100 ms apart, as on time */
	assert_true(reads[0].end_ns >= late);
	/* The disk was busy with them all the time, and is free now: no debt, no credit. */
	struct hr_reader_stats stats;
	reader->ops->stats(reader, &stats);
	assert_true(stats.busy_ns <= hr__now_ns() - begin);
	bool busy = stats.busy_ns >= late - begin - 2 * MS;
	puppet.n_held = 0;
	uint64_t again = hr__now_ns();
	reads[0].length = 30000;
	reader->ops->submit(reader, &reads[0]);
	puppet_finish(&puppet, 0, 0);
	wait_for(&order.over, 3);
	assert_true(order.at_ns[2] - again >= 30 * MS);
	puppet.n_held = 0;
	reader->ops->close(reader);
	return at_once && busy && order.at_ns[2] - again < 120 * MS;
}

static void what_comes_late_is_delivered_at_once(void **state)
{
	(void)state;
	assert_true(ONE_OF_TEN(delivers_at_once_what_comes_late()));
}

static void failures_are_not_held_back(void **state)
{
	(void)state;
	struct puppet     puppet = PUPPET_INIT;
	struct hr_reader *reader = throttle(&puppet, 1000); /* due in 100 s */
	struct order      order = {.over = COUNTER_INIT};
	struct hr_read    reads[2];
	for (int i = 0; i < 2; i++) {
		reads[i] = (struct hr_read){.length = 100000, .done = note_order, .user = &order};
		reader->ops->submit(reader, &reads[i]);
	}
	puppet_finish(&puppet, 0, 0);
	puppet_finish(&puppet, 1, HR_EIO);
	wait_for(&order.over, 1);
	assert_ptr_equal(order.ended[0], &reads[1]);
	assert_int_equal(reads[1].status, HR_EIO);
	assert_string_equal(reads[1].error.message, "The puppet fails.");
	puppet.n_held = 0;
	reader->ops->close(reader); /* drains: does not wait 100 s for the other */
	assert_int_equal(order.over.n, 2);
	assert_int_equal(reads[0].status, 0);
}

struct chain {
	struct hr_reader *reader;
	atomic_int        n;
};

static void submit_again(struct hr_read *read)
{
	struct chain *chain = read->user;
	chain->n++;
	if (!read->status)
		chain->reader->ops->submit(chain->reader, read);
}

static void what_is_submitted_during_a_drain_goes_nowhere(void **state)
{
	(void)state;
	struct puppet     puppet = PUPPET_INIT;
	struct hr_reader *reader = throttle(&puppet, 1000);
	struct chain      chain = {.reader = reader};
	struct hr_read    read = {.length = 100000, .done = submit_again, .user = &chain};
	reader->ops->submit(reader, &read);
	puppet_finish(&puppet, 0, 0); /* held back for 100 s, until the drain; then it submits again */
	puppet.n_held = 0;
	reader->ops->drain(reader);
	assert_int_equal(puppet.n_submitted, 1);
	assert_int_equal(chain.n, 2);
	assert_int_equal(read.status, HR_ECANCELED);
	reader->ops->close(reader);
}

static void a_drain_ends_what_submits_itself_again(void **state)
{
	(void)state;
	struct hr_file    file;
	struct hr_reader *reader = open_reader(HR_READER_AUTO, 65536, 4, 1000000000);
	char             *memory = aligned_memory(65536);
	open_file(&file, path);
	struct chain   chain = {.reader = reader};
	struct hr_read read = {
	    .file = &file, .length = 65536, .dst = memory, .done = submit_again, .user = &chain};
	reader->ops->submit(reader, &read);
	while (chain.n < 3)
		usleep(1000);
	reader->ops->drain(reader);
	assert_int_equal(read.status, HR_ECANCELED);
	chain.n = 0;
	read.done = submit_again;
	reader->ops->submit(reader, &read); /* and the reader works on */
	while (chain.n < 2)
		usleep(1000);
	reader->ops->close(reader);
	hr_file_close(&file);
	free(memory);
}

static int set_up(void **state)
{
	(void)state;
	make_file(path, SIZE, &content);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	free(content);
	return unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(the_rate_is_kept_within_two_percent),
	    cmocka_unit_test(a_read_is_held_back_until_due_in_order),
	    cmocka_unit_test(what_comes_late_is_delivered_at_once),
	    cmocka_unit_test(failures_are_not_held_back),
	    cmocka_unit_test(what_is_submitted_during_a_drain_goes_nowhere),
	    cmocka_unit_test(a_drain_ends_what_submits_itself_again),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
