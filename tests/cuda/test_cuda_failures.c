/* Errors of the CUDA device. Everything a session does with a device is done here
 * in small, and then again with the first call failing, the second, and so on to
 * the last; and with the first copy or kernel failing as it runs, and so on. Each
 * time the failure must be told, nothing may hang, and nothing may stay behind. */
#include "tests/cuda/cuda_testing.h"

#define BYTES (64u << 10)

static void add_one(void *at) { ++*(char *)at; }

struct things {
	struct hr_device *device;
	struct hr_stream *compute, *copy;
	struct hr_event  *ready, *done;
	char             *memory, *host;
	bool              pinned;
};

static int make(struct things *t, struct hr_error *err)
{
	struct hr_device_cuda_options o = {.notices = {count_notice, NULL}};
	int                           rc = hr_device_cuda_open(&t->device, &o, err);
	if (rc)
		return rc;
	const struct hr_device_ops *ops = t->device->ops;
	if ((rc = ops->alloc(t->device, (void **)&t->memory, BYTES, err)))
		return rc;
	if ((rc = ops->stream_new(t->device, &t->compute, true, err)))
		return rc;
	if ((rc = ops->stream_new(t->device, &t->copy, false, err)))
		return rc;
	if ((rc = ops->event_new(t->device, &t->ready, err)))
		return rc;
	if ((rc = ops->event_new(t->device, &t->done, err)))
		return rc;
	rc = ops->pin(t->device, t->host, BYTES, err);
	t->pinned = rc == 0;
	return rc;
}

static int add_one_there(struct things *t)
{
	cudaError_t error = cuda_on_cpu_launch(hr_cuda_stream(t->compute), add_one, t->memory);
	return hr_cuda_check(t->compute, (int)error, cudaGetErrorString(error));
}

/* In, one kernel, and out again, with both guards; twice. */
static int use(struct things *t)
{
	const struct hr_device_ops *ops = t->device->ops;
	int                         rc = 0;
	for (int i = 0; i < 2 && !rc; i++) {
		memset(t->host, 40 + i, BYTES);
		rc = ops->copy(t->copy, t->memory, t->host, BYTES);
		if (!rc)
			rc = ops->event_record(t->ready, t->copy);
		if (!rc)
			rc = ops->stream_wait(t->compute, t->ready);
		if (!rc)
			rc = add_one_there(t);
		if (!rc)
			rc = ops->event_record(t->done, t->compute);
		if (!rc)
			rc = ops->stream_wait(t->copy, t->done);
		if (!rc)
			rc = ops->event_wait(t->ready); /* guard 1: the host buffer may be written again */
		if (!rc)
			rc = ops->copy(t->copy, t->host, t->memory, BYTES);
		if (!rc)
			rc = ops->event_record(t->ready, t->copy);
		if (!rc)
			rc = ops->event_wait(t->ready);
		if (!rc)
			rc = ops->event_query(t->done) == 1 ? 0 : HR_EDEVICE;
		if (!rc && !ops->event_time_ns(t->done))
			rc = HR_EINTERNAL;
		if (!rc && (t->host[0] != 41 + i || t->host[1] != 40 + i))
			rc = HR_EINTERNAL;
	}
	return rc;
}

static void unmake(struct things *t)
{
	if (!t->device)
		return;
	const struct hr_device_ops *ops = t->device->ops;
	ops->event_free(t->ready);
	ops->event_free(t->done);
	ops->stream_free(t->copy);
	ops->stream_free(t->compute);
	if (t->pinned)
		ops->unpin(t->device, t->host);
	if (t->memory)
		ops->free(t->device, t->memory);
	ops->close(t->device);
}

/* 0 only if all of it went well. *failed: the device says so itself. */
static int run(bool *failed)
{
	struct things   t = {.host = map_host(BYTES)};
	struct hr_error err = {0};
	n_notices = 0;
	int rc = make(&t, &err);
	if (rc && (err.code != rc || !err.message[0]))
		fail_msg("%d was returned without a sentence", rc);
	if (!rc) {
		rc = use(&t);
		*failed = rc && t.device->ops->event_wait(t.done) == HR_EDEVICE;
	}
	if (rc == HR_EINTERNAL)
		fail_msg("Wrong bytes arrived and nobody noticed.");
	unmake(&t);
	munmap(t.host, BYTES);
	return rc;
}

static int count_calls(void)
{
	bool failed;
	assert_int_equal(cuda_on_cpu_reset(NULL), 0);
	assert_int_equal(run(&failed), 0);
	return cuda_on_cpu_n_calls();
}

static void fail_each(cudaError_t error)
{
	int n_calls = count_calls(), n_failed = 0;
	assert_in_range(n_calls, 50, 200);
	for (int n = 1; n <= n_calls; n++) {
		bool failed = false;
		assert_int_equal(cuda_on_cpu_reset(NULL), 0);
		cuda_on_cpu_fail(NULL, n, error);
		int rc = run(&failed);
		n_failed += rc != 0;
		if (cuda_on_cpu_n_live() || cuda_on_cpu_misuse()[0])
			fail_msg("Call %d failing with %s leaves %d things behind. %s", n, cudaGetErrorName(error),
			         cuda_on_cpu_n_live(), cuda_on_cpu_misuse());
		if (n_notices > 1)
			fail_msg("Call %d failing is told %d times, last: %s", n, n_notices, last_notice);
	}
	/* Only giving back may fail unseen, and pinning has an answer. */
	print_message("%d of %d failing calls were fatal (%s)\n", n_failed, n_calls, cudaGetErrorName(error));
	assert_true(n_failed > n_calls * 2 / 3);
}

static void test_each_call_fails(void **state) { (void)state, fail_each(cudaErrorUnknown); }
static void test_each_call_fails_for_good(void **state) { (void)state, fail_each(cudaErrorLaunchFailure); }
static void test_each_call_is_out_of_memory(void **state)
{
	(void)state;
	fail_each(cudaErrorMemoryAllocation);
}

static void test_each_work_fails_as_it_runs(void **state)
{
	(void)state;
	count_calls();
	int n_work = cuda_on_cpu_n_work();
	assert_int_equal(n_work, 6);
	for (int n = 1; n <= n_work; n++) {
		bool failed = false;
		assert_int_equal(cuda_on_cpu_reset(NULL), 0);
		cuda_on_cpu_fail_work(n, cudaErrorIllegalAddress);
		assert_int_equal(run(&failed), HR_EDEVICE);
		assert_true(failed);
		assert_int_equal(n_notices, 1);
		assert_non_null(strstr(last_notice, "an illegal memory access was encountered"));
		assert_int_equal(cuda_on_cpu_n_live(), 0);
	}
}

/* A refused record would leave its event looking complete. */
static void test_refused_record_completes_nothing(void **state)
{
	(void)state;
	struct hr_device *d = open_cuda(0);
	struct hr_stream *s;
	struct hr_event  *e;
	assert_int_equal(d->ops->stream_new(d, &s, true, NULL), 0);
	assert_int_equal(d->ops->event_new(d, &e, NULL), 0);
	cuda_on_cpu_fail("cudaEventRecord", 1, cudaErrorUnknown);
	assert_int_equal(d->ops->event_record(e, s), HR_EDEVICE);
	assert_int_equal(d->ops->event_wait(e), HR_EDEVICE);
	assert_int_equal(d->ops->event_query(e), HR_EDEVICE);
	assert_int_equal(d->ops->stream_wait(s, e), HR_EDEVICE);
	d->ops->event_free(e);
	d->ops->stream_free(s);
	d->ops->close(d);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, begin_machine, end_machine)
	const struct CMUnitTest tests[] = {
	    TEST(test_each_call_fails),
	    TEST(test_each_call_fails_for_good),
	    TEST(test_each_call_is_out_of_memory),
	    TEST(test_each_work_fails_as_it_runs),
	    TEST(test_refused_record_completes_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
