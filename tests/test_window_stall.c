/* Stall is the time in which compute was ready and the weights were not: nothing
 * with instant reads however slow the caller is, everything with slow reads and
 * instant compute. */
#include "base/clock.h"
#include "base/mem.h"
#include "tests/patience.h"
#include "tests/window_rig.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

static struct rig streaming_rig(bool host_addressable)
{
	return (struct rig){.n_layers = 4,
	                    .slots = 2,
	                    .chunk_bytes = 16384,
	                    .staging_buffers = 4,
	                    .layer_bytes = 30000,
	                    .tiers = {HR_TIER_DISK, HR_TIER_DISK, HR_TIER_DISK, HR_TIER_DISK},
	                    .seed = 11,
	                    .device_options = {.host_addressable = host_addressable}};
}

static void open_and_load(struct rig *r)
{
	assert_int_equal(rig_open(r, NULL), 0);
	assert_int_equal(hr_window_load(r->window, NULL, NULL, NULL), 0);
}

static void assert_shows(bool (*trial)(bool direct))
{
	for (int direct = 0; direct < 2; direct++)
		assert_true(ONE_OF_TEN(trial(direct)));
}

static bool slow_caller_does_not_stall(bool direct)
{
	struct rig             r = streaming_rig(direct);
	struct hr_window_stats before, after;
	open_and_load(&r);
	usleep(20000);
	hr_window_stats(r.window, &before);
	uint64_t begin_ns = hr__now_ns();
	for (int pass = 0; pass < 3; pass++) {
		for (int i = 0; i < r.n_layers; i++) {
			void *weights;
			assert_int_equal(hr_window_acquire(r.window, i, &weights, NULL), 0);
			hr_window_release(r.window, i);
			usleep(10000);
		}
		usleep(30000); /* between the passes */
	}
	uint64_t elapsed_ns = hr__now_ns() - begin_ns;
	rig_wait(&r);
	hr_window_stats(r.window, &after);
	rig_close(&r);
	return after.stall_ns - before.stall_ns < elapsed_ns / 5;
}

static void test_slow_caller_does_not_stall(void **state)
{
	(void)state;
	assert_shows(slow_caller_does_not_stall);
}

static bool slow_reads_stall_all_the_time(bool direct)
{
	struct rig             r = streaming_rig(direct);
	struct hr_window_stats before, after;
	r.reader_options = (struct fake_reader_options){.n_threads = 1, .latency_us = 6000};
	open_and_load(&r);
	assert_int_equal(rig_pass(&r, NULL), 0);
	rig_wait(&r);
	hr_window_stats(r.window, &before);
	uint64_t begin_ns = hr__now_ns();
	for (int i = 0; i < 3; i++)
		assert_int_equal(rig_pass(&r, NULL), 0);
	rig_wait(&r);
	uint64_t elapsed_ns = hr__now_ns() - begin_ns, stall_ns;
	hr_window_stats(r.window, &after);
	rig_close(&r);
	stall_ns = after.stall_ns - before.stall_ns;
	return stall_ns > elapsed_ns * 7 / 10 && stall_ns <= elapsed_ns;
}

static void test_slow_reads_stall_all_the_time(void **state)
{
	(void)state;
	assert_shows(slow_reads_stall_all_the_time);
}

static void test_compute_time_is_measured(void **state)
{
	(void)state;
	struct rig             r = streaming_rig(true);
	struct hr_window_stats s;
	r.kernel_us = 5000;
	open_and_load(&r);
	uint64_t begin_ns = hr__now_ns();
	for (int i = 0; i < 3; i++)
		assert_int_equal(rig_pass(&r, NULL), 0);
	rig_wait(&r);
	uint64_t elapsed_ns = hr__now_ns() - begin_ns;
	hr_window_stats(r.window, &s);
	assert_in_range(s.compute_ns, 12 * 5000000ull, elapsed_ns);
	rig_close(&r);
}

static bool reads_overlap_compute(bool direct)
{
	struct rig r = streaming_rig(direct);
	r.chunk_bytes = 1 << 20; /* one read per extent */
	r.reader_options = (struct fake_reader_options){.n_threads = 8, .latency_us = 20000};
	r.kernel_us = 20000;
	open_and_load(&r);
	assert_int_equal(rig_pass(&r, NULL), 0);
	uint64_t begin_ns = hr__now_ns();
	for (int i = 0; i < 2; i++)
		assert_int_equal(rig_pass(&r, NULL), 0);
	rig_wait(&r);
	uint64_t compute_ns = 2 * 4 * 20000000ull, elapsed_ns = hr__now_ns() - begin_ns;
	rig_close(&r);
	return elapsed_ns < compute_ns + compute_ns / 2; /* one after the other: 1.9 times */
}

/* Reads of the next layer run while this one computes: a pass takes the time of the
 * slower of the two, not of both. */
static void test_reads_overlap_compute(void **state)
{
	(void)state;
	assert_shows(reads_overlap_compute);
}

static bool prefetch_crosses_the_end_of_a_pass(bool direct)
{
	struct rig r = streaming_rig(direct);
	void      *weights;
	r.reader_options = (struct fake_reader_options){.n_threads = 1, .latency_us = 10000};
	open_and_load(&r);
	assert_int_equal(rig_pass(&r, NULL), 0);
	usleep(250000); /* the head samples a token, very slowly */
	uint64_t begin_ns = hr__now_ns();
	for (int i = 0; i < r.slots; i++)
		assert_int_equal(hr_window_acquire(r.window, i, &weights, NULL), 0);
	uint64_t elapsed_ns = hr__now_ns() - begin_ns;
	rig_close(&r);
	return elapsed_ns < 5000000; /* one read takes twice as long */
}

/* The first layers of the next pass are on their way while nobody asks for them. */
static void test_prefetch_crosses_the_end_of_a_pass(void **state)
{
	(void)state;
	assert_shows(prefetch_crosses_the_end_of_a_pass);
}

/* Every lane tells its part, with names and bytes. */
static void test_trace_has_all_lanes(void **state)
{
	(void)state;
	struct rig r = streaming_rig(false);
	char       path[] = "/tmp/hr-window-trace-XXXXXX";
	int        fd = mkstemp(path);
	assert_true(fd >= 0);
	close(fd);
	r.reader_options.latency_us = 2000;
	assert_int_equal(hr_trace_new(&r.trace, 1000, NULL), 0);
	open_and_load(&r);
	for (int i = 0; i < 2; i++)
		assert_int_equal(rig_pass(&r, NULL), 0);
	rig_wait(&r);
	struct hr_window_stats s;
	hr_window_stats(r.window, &s); /* looks up what has ended */
	assert_int_equal(hr_trace_write(r.trace, path, NULL), 0);
	rig_close(&r);
	hr_trace_free(r.trace);

	json_t *root = json_load_file(path, 0, NULL), *event;
	size_t  i;
	int     disk = 0, link = 0, compute = 0, stall = 0;
	json_array_foreach(json_object_get(root, "traceEvents"), i, event)
	{
		const char *cat = json_string_value(json_object_get(event, "cat"));
		const char *name = json_string_value(json_object_get(event, "name"));
		if (!cat)
			continue;
		disk += !strcmp(cat, "disk") && !strncmp(name, "layer.", 6);
		link += !strcmp(cat, "link") && !strncmp(name, "layer.", 6);
		compute += !strcmp(cat, "compute") && !strncmp(name, "layer.", 6);
		stall += !strcmp(cat, "host") && !strncmp(name, "stall layer.", 12);
	}
	json_decref(root);
	unlink(path);
	assert_int_equal(compute, 8);
	assert_true(disk >= 8 && link >= 8 && stall >= 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_slow_caller_does_not_stall),
	    cmocka_unit_test(test_slow_reads_stall_all_the_time),
	    cmocka_unit_test(test_compute_time_is_measured),
	    cmocka_unit_test(test_reads_overlap_compute),
	    cmocka_unit_test(test_prefetch_crosses_the_end_of_a_pass),
	    cmocka_unit_test(test_trace_has_all_lanes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
