/* A failure reaches the caller once, in the reader's own words, and nothing ever
 * hangs: not a failed load, a failed pass, a broken device, a close in the
 * middle. Every test ends with rig_close(), which looks for leaks. */
#include "base/mem.h"
#include "tests/window_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

static struct rig small_rig(bool host_addressable)
{
	return (struct rig){
	    .n_layers = 6,
	    .slots = 2,
	    .chunk_bytes = 8192,
	    .staging_buffers = 3,
	    .layer_bytes = 30000,
	    .tiers = {HR_TIER_DISK, HR_TIER_DEVICE, HR_TIER_DISK, HR_TIER_DISK, HR_TIER_DEVICE, HR_TIER_DISK},
	    .seed = 3,
	    .device_options = {.host_addressable = host_addressable, .seed = 3},
	    .reader_options = {.seed = 3, .latency_us = 100, .reorder = true}};
}

static void open_rig(struct rig *r)
{
	struct hr_error err = {0};
	rig_open(r, &err);
	assert_string_equal(err.message, "");
}

/* Reads until load is over, so that a later one fails in a pass. */
static int reads_of_load(bool host_addressable)
{
	struct rig r = small_rig(host_addressable);
	int        n = 0;
	open_rig(&r);
	for (int i = 0; i < r.n_layers; i++) {
		struct hr_layer_cursor at = {0};
		struct hr_chunk        chunk;
		while (r.tiers[i] == HR_TIER_DEVICE && hr_layer_next_chunk(&r.layers[i], &at, r.chunk_bytes, &chunk))
			n++;
	}
	rig_close(&r);
	return n;
}

static void fail_read_in_pass(bool host_addressable, int after, int code)
{
	struct rig      r = small_rig(host_addressable);
	struct hr_error err = {0};
	void           *weights;
	r.reader_options.fail_read = reads_of_load(host_addressable) + after;
	r.reader_options.fail_code = code;
	open_rig(&r);
	int rc = hr_window_load(r.window, NULL, NULL, &err);
	for (int i = 0; i < 200 && rc == 0; i++)
		rc = rig_pass(&r, &err);
	assert_int_equal(rc, code);
	assert_int_equal(err.code, code);
	assert_non_null(strstr(err.message, "failed on request"));
	assert_int_equal(hr_window_acquire(r.window, 0, &weights, &err), HR_ECANCELED);
	assert_non_null(strstr(err.message, "earlier failure: fake."));
	assert_int_equal(hr_window_acquire(r.window, 1, &weights, &err), HR_ECANCELED);
	rig_close(&r);
}

static void test_read_fails_in_pass(void **state)
{
	(void)state;
	for (int after = 1; after < 40; after += 5) {
		fail_read_in_pass(false, after, HR_EIO);
		fail_read_in_pass(true, after, HR_ETRUNCATED);
	}
}

static void test_read_fails_in_load(void **state)
{
	(void)state;
	for (int direct = 0; direct < 2; direct++) {
		struct rig      r = small_rig(direct);
		struct hr_error err = {0};
		void           *weights;
		r.reader_options.fail_read = 2;
		r.reader_options.fail_code = HR_EIO;
		open_rig(&r);
		assert_int_equal(hr_window_load(r.window, NULL, NULL, &err), HR_EIO);
		assert_non_null(strstr(err.message, "failed on request"));
		assert_int_equal(hr_window_acquire(r.window, 1, &weights, &err), HR_ECANCELED);
		rig_close(&r);
	}
}

static void test_device_fails(void **state)
{
	(void)state;
	for (int nth = 1; nth < 60; nth += 6) {
		struct rig      r = small_rig(false);
		struct hr_error err = {0};
		r.device_options.fail_copy = nth;
		r.device_options.copy_delay_us = 50;
		open_rig(&r);
		int rc = hr_window_load(r.window, NULL, NULL, &err);
		for (int i = 0; i < 200 && rc == 0; i++)
			rc = rig_pass(&r, &err);
		assert_int_equal(rc, HR_EDEVICE);
		assert_non_null(strstr(err.message, "Device fake failed"));
		rig_close(&r);
	}
}

static int stop_at(void *user, uint64_t done, uint64_t total)
{
	return done * 100 >= total * *(uint64_t *)user;
}

static void test_load_is_stopped(void **state)
{
	(void)state;
	for (uint64_t percent = 0; percent <= 100; percent += 50) {
		struct rig      r = small_rig(percent == 50);
		struct hr_error err = {0};
		open_rig(&r);
		assert_int_equal(hr_window_load(r.window, stop_at, &percent, &err), HR_ECANCELED);
		assert_non_null(strstr(err.message, "stopped by the caller"));
		rig_close(&r);
	}
}

struct progress {
	uint64_t done, total;
	int      calls;
};

static int watch(void *user, uint64_t done, uint64_t total)
{
	struct progress *p = user;
	p->calls += done >= p->done;
	p->done = done;
	p->total = total;
	return 0;
}

static void test_load_tells_progress(void **state)
{
	(void)state;
	struct rig      r = small_rig(false);
	struct progress p = {0};
	open_rig(&r);
	assert_int_equal(hr_window_load(r.window, watch, &p, NULL), 0);
	assert_int_equal(p.done, r.layers[1].file_bytes + r.layers[4].file_bytes);
	assert_int_equal(p.total, p.done);
	assert_true(p.calls > 1);
	rig_close(&r);
}

/* Close after open, after load, with layers held, with everything on its way. */
static void test_close_at_any_time(void **state)
{
	(void)state;
	for (int stage = 0; stage < 12; stage++) {
		struct rig r = small_rig(stage % 2);
		void      *weights;
		r.kernel_us = 500;
		r.device_options.copy_delay_us = stage % 3 ? 300 : 0;
		open_rig(&r);
		if (stage >= 2)
			assert_int_equal(hr_window_load(r.window, NULL, NULL, NULL), 0);
		for (int i = 0; i < stage - 3; i++)
			assert_int_equal(rig_pass(&r, NULL), 0);
		if (stage >= 3)
			assert_int_equal(hr_window_acquire(r.window, 0, &weights, NULL), 0);
		usleep((useconds_t)(stage * 97));
		rig_close(&r);
	}
}

/* Residents too are freed only after the kernels that read them. */
static void test_close_waits_for_kernels(void **state)
{
	(void)state;
	struct rig r = {
	    .n_layers = 2, .chunk_bytes = 8192, .staging_buffers = 2, .layer_bytes = 9000, .kernel_us = 20000};
	open_rig(&r);
	assert_int_equal(hr_window_load(r.window, NULL, NULL, NULL), 0);
	assert_int_equal(rig_pass(&r, NULL), 0);
	rig_close(&r);
}

static void test_wrong_order_is_refused(void **state)
{
	(void)state;
	struct rig      r = small_rig(false);
	struct hr_error err = {0};
	void           *weights;
	open_rig(&r);
	assert_int_equal(hr_window_load(r.window, NULL, NULL, &err), 0);
	assert_int_equal(hr_window_acquire(r.window, 2, &weights, &err), HR_EINVAL);
	assert_non_null(strstr(err.message, "the next streamed layer is layer.0"));
	assert_int_equal(hr_window_acquire(r.window, 0, &weights, &err), 0);
	assert_int_equal(hr_window_acquire(r.window, 2, &weights, &err), 0);
	assert_int_equal(hr_window_acquire(r.window, 3, &weights, &err), HR_EINVAL);
	assert_non_null(strstr(err.message, "while 2 are held"));
	hr_window_release(r.window, 0);
	assert_int_equal(hr_window_acquire(r.window, 3, &weights, &err), 0);
	hr_window_release(r.window, 3);
	assert_int_equal(hr_window_acquire(r.window, 0, &weights, &err), HR_EINVAL);
	assert_non_null(strstr(err.message, "layer.3 was released out of order"));
	rig_close(&r);
}

static void test_no_memory_leaves_nothing_behind(void **state)
{
	(void)state;
	struct rig      r = small_rig(false);
	struct hr_error err = {0};
	r.device_options.budget_bytes = 4096;
	assert_int_equal(rig_open(&r, &err), HR_EDEVMEM);
	assert_null(r.window);
	rig_close(&r);

	r = small_rig(true);
	r.tiers[0] = HR_TIER_HOST;
	assert_int_equal(rig_open(&r, &err), HR_EINVAL);
	rig_close(&r);

	r = small_rig(true);
	r.chunk_bytes = 5000;
	assert_int_equal(rig_open(&r, &err), HR_EINVAL);
	rig_close(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_read_fails_in_pass),
	    cmocka_unit_test(test_read_fails_in_load),
	    cmocka_unit_test(test_device_fails),
	    cmocka_unit_test(test_load_is_stopped),
	    cmocka_unit_test(test_load_tells_progress),
	    cmocka_unit_test(test_close_at_any_time),
	    cmocka_unit_test(test_close_waits_for_kernels),
	    cmocka_unit_test(test_wrong_order_is_refused),
	    cmocka_unit_test(test_no_memory_leaves_nothing_behind),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
