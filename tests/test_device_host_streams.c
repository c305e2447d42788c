/* The host device's streams and events: order, waits across streams, records
 * that replace each other, rings that fill up, kernels on several threads. */
#include "base/clock.h"
#include "base/mem.h"
#include "kernels/device/device.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

static struct hr_device *device;
static struct hr_stream *compute, *copy;
static struct hr_event  *event;

static void open_all(int n_threads)
{
	struct hr_device_host_options o = {.n_threads = n_threads};
	assert_int_equal(hr_device_host_open(&device, &o, NULL), 0);
	assert_int_equal(hr_host_n_threads(device), n_threads);
	assert_int_equal(device->ops->stream_new(device, &compute, true, NULL), 0);
	assert_int_equal(device->ops->stream_new(device, &copy, false, NULL), 0);
	assert_int_equal(device->ops->event_new(device, &event, NULL), 0);
}

static void close_all(void)
{
	device->ops->event_free(event);
	device->ops->stream_free(compute);
	device->ops->stream_free(copy);
	device->ops->close(device);
}

static void finish(struct hr_stream *s)
{
	struct hr_event *e;
	assert_int_equal(device->ops->event_new(device, &e, NULL), 0);
	assert_int_equal(device->ops->event_record(e, s), 0);
	assert_int_equal(device->ops->event_wait(e), 0);
	assert_int_equal(device->ops->event_query(e), 1);
	device->ops->event_free(e);
}

/* A kernel that holds its stream until the test opens the gate. */
static void hold(const void *args, int64_t begin, int64_t end)
{
	(void)begin, (void)end;
	atomic_bool *open;
	memcpy(&open, args, sizeof(open));
	while (!atomic_load(open))
		usleep(100);
}

static void hold_stream(struct hr_stream *s, atomic_bool *open)
{
	assert_int_equal(hr_host_launch(s, hold, &open, sizeof(open), 1, 1), 0);
}

static void events_begin_complete(void **state)
{
	(void)state;
	open_all(1);
	assert_int_equal(device->ops->event_query(event), 1);
	assert_int_equal(device->ops->event_wait(event), 0);
	assert_int_equal(device->ops->stream_wait(copy, event), 0);
	finish(copy);
	close_all();
}

static void an_event_completes_when_its_stream_gets_there(void **state)
{
	(void)state;
	open_all(2);
	for (int round = 0; round < 3; round++) {
		atomic_bool open = false;
		uint64_t    before = hr__now_ns();
		hold_stream(compute, &open);
		assert_int_equal(device->ops->event_record(event, compute), 0);
		assert_int_equal(device->ops->event_query(event), 0);
		usleep(2000);
		assert_int_equal(device->ops->event_query(event), 0);
		atomic_store(&open, true);
		assert_int_equal(device->ops->event_wait(event), 0);
		assert_int_equal(device->ops->event_query(event), 1);
		assert_true(device->ops->event_time_ns(event) >= before + 2000000);
		assert_true(device->ops->event_time_ns(event) <= hr__now_ns());
	}
	close_all();
}

static void a_stream_waits_for_another(void **state)
{
	(void)state;
	open_all(1);
	int         from = 1, to = 0;
	atomic_bool open = false;
	hold_stream(compute, &open);
	device->ops->event_record(event, compute);
	device->ops->stream_wait(copy, event);
	device->ops->copy(copy, &to, &from, sizeof(to));
	struct hr_event *copied;
	device->ops->event_new(device, &copied, NULL);
	device->ops->event_record(copied, copy);
	usleep(2000);
	assert_int_equal(device->ops->event_query(copied), 0);
	atomic_store(&open, true);
	device->ops->event_wait(copied);
	assert_int_equal(to, 1);
	device->ops->event_free(copied);
	close_all();
}

/* The wait is for the record that was there, not for a later one of the same event. */
static void a_wait_is_for_the_record_it_saw(void **state)
{
	(void)state;
	open_all(1);
	atomic_bool first = false, second = false;
	hold_stream(compute, &first);
	device->ops->event_record(event, compute);
	device->ops->stream_wait(copy, event);
	hold_stream(compute, &second);
	device->ops->event_record(event, compute);
	atomic_store(&first, true);
	finish(copy);
	assert_int_equal(device->ops->event_query(event), 0);
	atomic_store(&second, true);
	device->ops->event_wait(event);
	close_all();
}

static void an_event_may_be_freed_on_its_way(void **state)
{
	(void)state;
	open_all(1);
	atomic_bool      open = false;
	struct hr_event *e;
	device->ops->event_new(device, &e, NULL);
	hold_stream(compute, &open);
	device->ops->event_record(e, compute);
	device->ops->stream_wait(copy, e);
	device->ops->event_free(e);
	atomic_store(&open, true);
	finish(copy);
	finish(compute);
	close_all();
}

/* ---- a ring that fills up, from two producers ---- */

#define N_PUT 3000

static int counted[2];

static void count(const void *args, int64_t begin, int64_t end)
{
	const int *which = args;
	counted[which[0]] += counted[which[0]] == which[1] && end - begin == 1;
}

static void *produce(void *arg)
{
	for (int i = 0; i < N_PUT; i++) {
		int which[2] = {*(int *)arg, i};
		if (hr_host_launch(compute, count, which, sizeof(which), 1, 1))
			return arg;
	}
	return NULL;
}

static void a_full_ring_blocks_and_keeps_order(void **state)
{
	(void)state;
	open_all(2);
	counted[0] = counted[1] = 0;
	atomic_bool open = false;
	pthread_t   t[2];
	int         id[2] = {0, 1};
	hold_stream(compute, &open);
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&t[i], NULL, produce, &id[i]), 0);
	usleep(5000);
	atomic_store(&open, true);
	for (int i = 0; i < 2; i++) {
		void *failed;
		pthread_join(t[i], &failed);
		assert_null(failed);
	}
	finish(compute);
	assert_int_equal(counted[0], N_PUT);
	assert_int_equal(counted[1], N_PUT);
	close_all();
}

/* ---- kernels on several threads ---- */

struct add_args {
	int    *values; /* [n] */
	int64_t grain;
	int64_t n;
	int     expect; /* what the kernel before left */
	char    padding[400];
};

static atomic_int n_bad;

static void add_one(const void *p, int64_t begin, int64_t end)
{
	const struct add_args *a = p;
	char                  *scratch = hr_host_scratch();
	bool bad = begin % a->grain || end - begin > a->grain || (end - begin < a->grain && end != a->n);
	bad |= !scratch || (uintptr_t)scratch % 64;
	memset(scratch, (int)begin, 64);
	for (int64_t i = begin; i < end; i++)
		bad |= a->values[i]++ != a->expect;
	for (int i = 0; i < 64; i++)
		bad |= scratch[i] != (char)begin;
	scratch[HR_HOST_SCRATCH_BYTES - 1] = 1;
	atomic_fetch_add(&n_bad, bad);
}

static void every_item_is_done_once_before_the_next_kernel(void **state)
{
	(void)state;
	const struct {
		int64_t n, grain;
	} shapes[] = {{1, 1}, {2, 1}, {7, 3}, {64, 1}, {100, 1000}, {1000, 7}};
	for (int n_threads = 1; n_threads <= 5; n_threads++) {
		open_all(n_threads);
		for (size_t s = 0; s < HR_COUNT_OF(shapes); s++) {
			int values[1000] = {0};
			for (int i = 0; i < 300; i++) {
				struct add_args a = {values, shapes[s].grain, shapes[s].n, i, {0}};
				assert_int_equal(hr_host_launch(compute, add_one, &a, sizeof(a), a.n, a.grain), 0);
				memset(&a, 0xff, sizeof(a)); /* it was copied */
				if (i % 100 == 99)
					usleep(300); /* let the threads fall asleep */
			}
			finish(compute);
			assert_int_equal(atomic_load(&n_bad), 0);
			for (int64_t i = 0; i < shapes[s].n; i++)
				assert_int_equal(values[i], 300);
		}
		close_all();
	}
}

struct late_args {
	atomic_bool *started;
	int         *written;
};

/* Item 1 is late, on another thread than item 0, which waits for it to begin. */
static void write_late(const void *p, int64_t begin, int64_t end)
{
	const struct late_args *a = p;
	(void)end;
	if (begin == 0) {
		while (!atomic_load(a->started))
			usleep(10);
		return;
	}
	atomic_store(a->started, true);
	usleep(3000);
	*a->written = 1;
}

static void read_written(const void *p, int64_t begin, int64_t end)
{
	const struct late_args *a = p;
	(void)begin, (void)end;
	*a->written += *a->written == 1;
}

static void a_kernel_ends_when_its_last_thread_does(void **state)
{
	(void)state;
	open_all(2);
	atomic_bool      started = false;
	int              written = 0;
	struct late_args a = {&started, &written};
	assert_int_equal(hr_host_launch(compute, write_late, &a, sizeof(a), 2, 1), 0);
	assert_int_equal(hr_host_launch(compute, read_written, &a, sizeof(a), 1, 1), 0);
	finish(compute);
	assert_int_equal(written, 2);
	close_all();
}

static void bad_launches_are_refused(void **state)
{
	(void)state;
	open_all(1);
	char args[HR_HOST_ARGS_MAX + 1] = {0};
	assert_int_equal(hr_host_launch(copy, count, args, 8, 1, 1), HR_EINVAL);
	assert_int_equal(hr_host_launch(compute, count, args, sizeof(args), 1, 1), HR_EINVAL);
	assert_int_equal(hr_host_launch(compute, count, args, 8, -1, 1), HR_EINVAL);
	assert_int_equal(hr_host_launch(compute, count, args, 8, 1, 0), HR_EINVAL);
	assert_int_equal(hr_host_launch(compute, count, args, 8, 0, 1), 0);
	close_all();
	struct hr_device_host_options o = {.n_threads = -1};
	struct hr_error               err = {0};
	assert_int_equal(hr_device_host_open(&device, &o, &err), HR_EINVAL);
	assert_int_equal(err.code, HR_EINVAL);
}

static void bound_threads_work_too(void **state)
{
	(void)state;
	struct hr_device_host_options o = {.bind = true};
	assert_int_equal(hr_device_host_open(&device, &o, NULL), 0);
	assert_true(hr_host_n_threads(device) >= 1);
	assert_int_equal(device->ops->stream_new(device, &compute, true, NULL), 0);
	int             values[40] = {0};
	struct add_args a = {values, 1, 40, 0, {0}};
	assert_int_equal(hr_host_launch(compute, add_one, &a, sizeof(a), 40, 1), 0);
	device->ops->stream_free(compute); /* waits */
	for (int i = 0; i < 40; i++)
		assert_int_equal(values[i], 1);
	device->ops->close(device);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(events_begin_complete),
	    cmocka_unit_test(an_event_completes_when_its_stream_gets_there),
	    cmocka_unit_test(a_stream_waits_for_another),
	    cmocka_unit_test(a_wait_is_for_the_record_it_saw),
	    cmocka_unit_test(an_event_may_be_freed_on_its_way),
	    cmocka_unit_test(a_full_ring_blocks_and_keeps_order),
	    cmocka_unit_test(every_item_is_done_once_before_the_next_kernel),
	    cmocka_unit_test(a_kernel_ends_when_its_last_thread_does),
	    cmocka_unit_test(bad_launches_are_refused),
	    cmocka_unit_test(bound_threads_work_too),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
