/* The CUDA device against the layer that stands in for CUDA: what it says when
 * there is no GPU to use, memory, pinning, copies, events, and time. */
#include "base/clock.h"
#include "kernels/device/device_cuda.h"
#include "kernels/device/device_cuda_find.h"
#include "tests/cuda/cuda_testing.h"
#include "tests/patience.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

/* ---- Opening ----------------------------------------------------------------- */

static void expect_refusal(const struct cuda_on_cpu_machine *machine, int ordinal, int code, const char *part)
{
	struct hr_device_cuda_options o = {.ordinal = ordinal};
	struct hr_device             *device = NULL;
	struct hr_error               err = {0};
	assert_int_equal(cuda_on_cpu_reset(machine), 0);
	assert_int_equal(hr_device_cuda_open(&device, &o, &err), code);
	assert_null(device);
	if (!strstr(err.message, part))
		fail_msg("\"%s\" does not say \"%s\"", err.message, part);
}

static void test_no_gpu_is_a_sentence(void **state)
{
	(void)state;
	struct cuda_on_cpu_machine m;
	cuda_on_cpu_machine_init(&m);
	m.driver_version = 0;
	expect_refusal(&m, 0, HR_EUNSUPPORTED, "No NVIDIA driver was found");
	m.driver_version = 11040;
	expect_refusal(&m, 0, HR_EUNSUPPORTED, "too old: it knows CUDA 11.4, and this program needs 13.0");
	cuda_on_cpu_machine_init(&m);
	m.n_devices = 0;
	expect_refusal(&m, 0, HR_EUNSUPPORTED, "shows no GPU");
	cuda_on_cpu_machine_init(&m);
	expect_refusal(&m, 1, HR_EINVAL, "cuda:1 was asked for, but there is only 1");
	m.major = 7;
	m.minor = 5;
	expect_refusal(&m, 0, HR_EUNSUPPORTED, "compute capability 7.5");
	cuda_on_cpu_reset(NULL);
	cuda_on_cpu_fail("cudaGetDeviceCount", 1, cudaErrorUnknown);
	struct hr_device_cuda_options o = {0};
	struct hr_device             *device = NULL;
	struct hr_error               err = {0};
	assert_int_equal(hr_device_cuda_open(&device, &o, &err), HR_EDEVICE);
	assert_non_null(strstr(err.message, "cudaErrorUnknown"));
}

static void write_text(const char *directory, const char *name, const char *text)
{
	char path[600];
	snprintf(path, sizeof path, "%s/%s", directory, name);
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static void test_a_card_without_a_driver_is_noticed(void **state)
{
	(void)state;
	char directory[] = "/tmp/headrace-pci-XXXXXX", device[300];
	assert_non_null(mkdtemp(directory));
	snprintf(device, sizeof device, "%s/0000:01:00.0", directory);
	assert_int_equal(mkdir(device, 0700), 0);
	assert_false(hr__cuda_card_in(directory));
	write_text(device, "vendor", "0x10de\n");
	write_text(device, "class", "0x0c0330\n"); /* its USB controller */
	assert_false(hr__cuda_card_in(directory));
	write_text(device, "class", "0x030200\n");
	assert_true(hr__cuda_card_in(directory));
	write_text(device, "vendor", "0x1002\n");
	assert_false(hr__cuda_card_in(directory));
	cuda_on_cpu_reset(NULL);
	assert_true(hr_device_cuda_expected());
	char command[300];
	snprintf(command, sizeof command, "rm -r %s", directory);
	assert_int_equal(system(command), 0);
	assert_false(hr__cuda_card_in(directory));
}

static void test_it_says_what_it_is(void **state)
{
	(void)state;
	struct hr_device *d = open_cuda(0);
	assert_string_equal(d->kind, "cuda");
	assert_string_equal(d->name, "CUDA on CPU 0");
	assert_false(d->host_addressable);
	d->ops->close(d);
}

/* ---- Memory -------------------------------------------------------------------- */

static void test_memory_is_counted_and_aligned(void **state)
{
	(void)state;
	struct hr_device       *d = open_cuda(0);
	struct hr_device_memory m;
	void                   *a, *b;
	assert_int_equal(d->ops->alloc(d, &a, 1, NULL), 0);
	assert_int_equal(d->ops->alloc(d, &b, 3 * MIB + 5, NULL), 0);
	assert_int_equal((uintptr_t)a % 4096, 0);
	assert_int_equal((uintptr_t)b % 4096, 0);
	assert_int_equal(d->ops->memory(d, &m), 0);
	assert_int_equal(m.total_bytes, 512 * MIB);
	assert_in_range(m.allocated_bytes, 3 * MIB + 6, 3 * MIB + 5 * 4096);
	assert_int_equal(m.free_bytes, 512 * MIB - m.allocated_bytes);
	assert_int_equal(m.margin_bytes, 32 * MIB);
	uint64_t peak = m.peak_bytes;
	d->ops->free(d, a);
	d->ops->free(d, b);
	assert_int_equal(d->ops->memory(d, &m), 0);
	assert_int_equal(m.allocated_bytes, 0);
	assert_int_equal(m.peak_bytes, peak);
	d->ops->close(d);
}

static void test_memory_that_does_not_fit(void **state)
{
	(void)state;
	struct hr_device *d = open_cuda(64 * MIB);
	struct hr_error   err = {0};
	void             *a = NULL, *b = NULL;
	/* beyond the budget */
	assert_int_equal(d->ops->alloc(d, &a, 60 * MIB, &err), 0);
	assert_int_equal(d->ops->alloc(d, &b, 5 * MIB, &err), HR_EDEVMEM);
	assert_null(b);
	assert_non_null(strstr(err.message, "cannot allocate 5.0 MiB"));
	assert_non_null(strstr(err.message, "this session holds 60.0 MiB (the budget is 64.0 MiB)"));
	d->ops->free(d, a);
	/* another program is there first */
	cuda_on_cpu_hold(460 * MIB);
	assert_int_equal(d->ops->alloc(d, &a, 40 * MIB, &err), HR_EDEVMEM);
	assert_non_null(strstr(err.message, "52.0 of 512.0 MiB are free"));
	assert_non_null(strstr(err.message, "other programs hold 460.0 MiB"));
	cuda_on_cpu_hold(0);
	/* another program comes between the look and the allocation: nothing is kept of it */
	struct hr_device_memory m;
	cuda_on_cpu_hold_later("cudaMalloc", 1, 460 * MIB);
	assert_int_equal(d->ops->alloc(d, &a, 40 * MIB, &err), HR_EDEVMEM);
	assert_int_equal(d->ops->memory(d, &m), 0);
	assert_int_equal(m.free_bytes, 52 * MIB);
	assert_int_equal(m.allocated_bytes, 0);
	cuda_on_cpu_hold(0);
	/* CUDA itself refuses, though there seemed to be enough; that breaks nothing */
	cuda_on_cpu_fail("cudaMalloc", 1, cudaErrorMemoryAllocation);
	assert_int_equal(d->ops->alloc(d, &a, MIB, &err), HR_EDEVMEM);
	assert_int_equal(d->ops->alloc(d, &a, MIB, &err), 0);
	d->ops->free(d, a);
	d->ops->close(d);
}

static void test_fresh_memory_is_poisoned(void **state)
{
	(void)state;
	struct hr_device *d = open_cuda(0);
	struct hr_stream *s;
	void             *a;
	float            *host = (float *)map_host(4096);
	assert_int_equal(d->ops->stream_new(d, &s, false, NULL), 0);
	assert_int_equal(d->ops->alloc(d, &a, 4096, NULL), 0);
	assert_int_equal(d->ops->copy(s, host, a, 4096), 0);
	d->ops->stream_free(s);
	for (int i = 0; i < 1024; i++)
		assert_true(host[i] != host[i]);
	d->ops->free(d, a);
	d->ops->close(d);
	munmap(host, 4096);
}

/* ---- Copies and events --------------------------------------------------------- */

struct rig {
	struct hr_device *device;
	struct hr_stream *compute, *copy;
	struct hr_event  *event;
	char             *device_memory, *host;
	size_t            bytes;
};

static void open_rig(struct rig *r, size_t bytes, bool pinned)
{
	r->device = open_cuda(0);
	r->bytes = bytes;
	assert_int_equal(r->device->ops->stream_new(r->device, &r->compute, true, NULL), 0);
	assert_int_equal(r->device->ops->stream_new(r->device, &r->copy, false, NULL), 0);
	assert_int_equal(r->device->ops->event_new(r->device, &r->event, NULL), 0);
	assert_int_equal(r->device->ops->alloc(r->device, (void **)&r->device_memory, bytes, NULL), 0);
	r->host = map_host(2 * bytes);
	if (pinned)
		assert_int_equal(r->device->ops->pin(r->device, r->host, 2 * bytes, NULL), 0);
	for (size_t i = 0; i < bytes; i++)
		r->host[i] = (char)(i * 31 + i / 257);
}

static void close_rig(struct rig *r)
{
	const struct hr_device_ops *ops = r->device->ops;
	ops->event_free(r->event);
	ops->stream_free(r->compute);
	ops->stream_free(r->copy);
	ops->unpin(r->device, r->host);
	ops->free(r->device, r->device_memory);
	ops->close(r->device);
	munmap(r->host, 2 * r->bytes);
}

static void round_trip(bool pinned)
{
	struct rig r;
	open_rig(&r, 3 * MIB, pinned);
	const struct hr_device_ops *ops = r.device->ops;
	static const size_t         sizes[] = {1, 17, 4096, 65537, MIB + 3, 3 * MIB};
	for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
		char *back = r.host + r.bytes;
		memset(back, 0, r.bytes);
		assert_int_equal(ops->copy(r.copy, r.device_memory, r.host, sizes[i]), 0);
		assert_int_equal(ops->event_record(r.event, r.copy), 0);
		assert_int_equal(ops->stream_wait(r.compute, r.event), 0);
		assert_int_equal(ops->copy(r.compute, back, r.device_memory, sizes[i]), 0);
		assert_int_equal(ops->event_record(r.event, r.compute), 0);
		assert_int_equal(ops->event_wait(r.event), 0);
		assert_int_equal(ops->event_query(r.event), 1);
		assert_memory_equal(back, r.host, sizes[i]);
	}
	close_rig(&r);
}

static void test_round_trip_pinned(void **state) { (void)state, round_trip(true); }
static void test_round_trip_pageable(void **state) { (void)state, round_trip(false); }

static void slow_machine(double gb_per_s)
{
	struct cuda_on_cpu_machine m;
	cuda_on_cpu_machine_init(&m);
	m.copy_gb_per_s = gb_per_s;
	assert_int_equal(cuda_on_cpu_reset(&m), 0);
}

/* 4 MiB at 0.02 GB/s: 210 ms. */
static bool copies_asynchronously(void)
{
	struct rig r;
	slow_machine(0.02);
	open_rig(&r, 4 * MIB, true);
	const struct hr_device_ops *ops = r.device->ops;
	assert_int_equal(ops->event_query(r.event), 1); /* events start out complete */
	assert_int_equal(ops->event_wait(r.event), 0);
	uint64_t begin = hr__now_ns();
	assert_int_equal(ops->copy(r.copy, r.device_memory, r.host, r.bytes), 0);
	assert_int_equal(ops->event_record(r.event, r.copy), 0);
	bool later = ops->event_query(r.event) == 0;
	assert_int_equal(ops->event_wait(r.event), 0);
	uint64_t end = hr__now_ns(), at = ops->event_time_ns(r.event);
	assert_true(end - begin > 200000000);
	close_rig(&r);
	return later && at >= begin + 190000000 && at <= end + 10000000;
}

static void test_copies_are_asynchronous(void **state)
{
	(void)state;
	assert_true(ONE_OF_TEN(copies_asynchronously()));
}

static void test_pageable_copies_may_be_reused_at_once(void **state)
{
	(void)state;
	struct rig r;
	slow_machine(0.1);
	open_rig(&r, MIB, false);
	const struct hr_device_ops *ops = r.device->ops;
	char                       *back = r.host + r.bytes;
	assert_int_equal(ops->copy(r.copy, r.device_memory, r.host, r.bytes), 0);
	char first = r.host[0];
	memset(r.host, first + 1, r.bytes);
	assert_int_equal(ops->copy(r.copy, back, r.device_memory, r.bytes), 0);
	assert_int_equal(back[0], first);
	close_rig(&r);
}

static void add_one(void *at) { ++*(char *)at; }
static void triple(void *at) { *(unsigned char *)at = (unsigned char)(*(unsigned char *)at * 3); }

static void test_streams_keep_their_order(void **state)
{
	(void)state;
	struct rig                 r;
	struct cuda_on_cpu_machine m;
	cuda_on_cpu_machine_init(&m);
	m.jitter_us = 300;
	assert_int_equal(cuda_on_cpu_reset(&m), 0);
	open_rig(&r, 4096, true);
	const struct hr_device_ops *ops = r.device->ops;
	unsigned char               want = 0;
	r.host[0] = 0;
	assert_int_equal(ops->copy(r.copy, r.device_memory, r.host, 1), 0);
	for (int i = 0; i < 50; i++) { /* back and forth, each waiting for the other */
		struct hr_stream *from = i % 2 ? r.compute : r.copy, *to = i % 2 ? r.copy : r.compute;
		assert_int_equal(ops->event_record(r.event, from), 0);
		assert_int_equal(ops->stream_wait(to, r.event), 0);
		want = (unsigned char)(i % 2 ? want * 3 : want + 1);
		assert_int_equal(cuda_on_cpu_launch(hr_cuda_stream(to), i % 2 ? triple : add_one, r.device_memory),
		                 0);
	}
	assert_int_equal(ops->copy(r.copy, r.host + 1, r.device_memory, 1), 0);
	assert_int_equal(ops->event_record(r.event, r.copy), 0);
	assert_int_equal(ops->event_wait(r.event), 0);
	assert_int_equal((unsigned char)r.host[1], want);
	close_rig(&r);
}

static bool times_lie_in_between(void)
{
	struct rig r;
	bool       good = true;
	open_rig(&r, 4096, true);
	const struct hr_device_ops *ops = r.device->ops;
	for (int i = 0; i < 12; i++) { /* past the second after which the anchor is set anew */
		uint64_t begin = hr__now_ns();
		usleep(5000);
		assert_int_equal(ops->event_record(r.event, r.compute), 0);
		assert_int_equal(ops->event_wait(r.event), 0);
		usleep(5000);
		uint64_t at = ops->event_time_ns(r.event);
		good &= at >= begin + 2000000 && at <= hr__now_ns() - 2000000;
		usleep(150000);
	}
	close_rig(&r);
	return good;
}

static void test_times_lie_in_between(void **state)
{
	(void)state;
	assert_true(ONE_OF_TEN(times_lie_in_between()));
}

/* ---- Pinning --------------------------------------------------------------------- */

static void test_refused_pinning_is_told_once(void **state)
{
	(void)state;
	struct rig                 r;
	struct cuda_on_cpu_machine m;
	cuda_on_cpu_machine_init(&m);
	m.no_register = true;
	assert_int_equal(cuda_on_cpu_reset(&m), 0);
	open_rig(&r, MIB, true);
	char *more = map_host(4096), *back = r.host + r.bytes;
	assert_int_equal(r.device->ops->pin(r.device, more, 4096, NULL), 0);
	assert_int_equal(n_notices, 1);
	assert_non_null(strstr(last_notice, "could not be registered"));
	assert_int_equal(r.device->ops->copy(r.copy, r.device_memory, r.host, r.bytes), 0);
	assert_int_equal(r.device->ops->copy(r.copy, back, r.device_memory, r.bytes), 0);
	assert_memory_equal(r.host, back, r.bytes);
	r.device->ops->unpin(r.device, more);
	close_rig(&r);
	munmap(more, 4096);
}

/* ---- Other machines ------------------------------------------------------------------ */

static void test_integrated_gpu_shares_memory(void **state)
{
	(void)state;
	struct cuda_on_cpu_machine m;
	cuda_on_cpu_machine_init(&m);
	m.integrated = true;
	assert_int_equal(cuda_on_cpu_reset(&m), 0);
	struct hr_device *d = open_cuda(0);
	struct hr_stream *s;
	char             *a;
	assert_true(d->host_addressable);
	assert_int_equal(d->ops->alloc(d, (void **)&a, 3 * MIB, NULL), 0);
	assert_int_equal(d->ops->stream_new(d, &s, true, NULL), 0);
	a[3 * MIB - 1] = 41; /* as a read would */
	assert_int_equal(cuda_on_cpu_launch(hr_cuda_stream(s), add_one, a + 3 * MIB - 1), 0);
	d->ops->stream_free(s);
	assert_int_equal(a[3 * MIB - 1], 42);
	d->ops->free(d, a);
	d->ops->close(d);
}

static void *use_elsewhere(void *arg)
{
	struct rig *r = arg;
	assert_int_equal(r->device->ops->copy(r->copy, r->device_memory, r->host, r->bytes), 0);
	assert_int_equal(r->device->ops->event_record(r->event, r->copy), 0);
	assert_int_equal(r->device->ops->stream_wait(r->compute, r->event), 0);
	assert_int_equal(cuda_on_cpu_launch(hr_cuda_stream(r->compute), add_one, r->device_memory), 0);
	return NULL;
}

/* Every thread begins on GPU 0; cuda:1 must work from all of them. */
static void test_second_gpu_from_any_thread(void **state)
{
	(void)state;
	struct cuda_on_cpu_machine m;
	cuda_on_cpu_machine_init(&m);
	m.n_devices = 2;
	assert_int_equal(cuda_on_cpu_reset(&m), 0);
	struct hr_device_cuda_options o = {.ordinal = 1};
	struct rig                    r = {.bytes = 4096};
	pthread_t                     thread;
	assert_int_equal(hr_device_cuda_open(&r.device, &o, NULL), 0);
	const struct hr_device_ops *ops = r.device->ops;
	assert_int_equal(ops->stream_new(r.device, &r.compute, true, NULL), 0);
	assert_int_equal(ops->stream_new(r.device, &r.copy, false, NULL), 0);
	assert_int_equal(ops->event_new(r.device, &r.event, NULL), 0);
	assert_int_equal(ops->alloc(r.device, (void **)&r.device_memory, r.bytes, NULL), 0);
	r.host = map_host(2 * r.bytes);
	assert_int_equal(pthread_create(&thread, NULL, use_elsewhere, &r), 0);
	pthread_join(thread, NULL);
	assert_int_equal(ops->event_wait(r.event), 0);
	struct hr_device       *first = open_cuda(0);
	struct hr_device_memory m0, m1;
	assert_int_equal(first->ops->memory(first, &m0), 0);
	assert_int_equal(ops->memory(r.device, &m1), 0);
	assert_int_equal(m0.free_bytes, m0.total_bytes);
	assert_true(m1.free_bytes < m1.total_bytes);
	first->ops->close(first);
	close_rig(&r);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, begin_machine, end_machine)
	const struct CMUnitTest tests[] = {
	    TEST(test_no_gpu_is_a_sentence),
	    TEST(test_a_card_without_a_driver_is_noticed),
	    TEST(test_it_says_what_it_is),
	    TEST(test_memory_is_counted_and_aligned),
	    TEST(test_memory_that_does_not_fit),
	    TEST(test_fresh_memory_is_poisoned),
	    TEST(test_round_trip_pinned),
	    TEST(test_round_trip_pageable),
	    TEST(test_copies_are_asynchronous),
	    TEST(test_pageable_copies_may_be_reused_at_once),
	    TEST(test_streams_keep_their_order),
	    TEST(test_times_lie_in_between),
	    TEST(test_refused_pinning_is_told_once),
	    TEST(test_integrated_gpu_shares_memory),
	    TEST(test_second_gpu_from_any_thread),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
