/* The window over the CUDA device: its staging, its copy stream and its guards, with
 * copies slowed down and work delayed at random. Every byte that kernels see is
 * checked. Then guards are taken away: a device that does not wait where it is
 * told to must be found out, or these tests would prove nothing. */
#include "tests/cuda/cuda_testing.h"
#include "tests/patience.h"
#include "tests/window_rig.h"

struct look {
	void (*check)(void *user, const void *weights);
	void       *user;
	const void *weights;
};

static int         kernel_us;
static struct look looks[4096]; /* in turn; far fewer are ever under way */
static unsigned    n_looks;

/* Looks when it begins and when it ends. */
static void look_twice(void *arg)
{
	struct look *l = arg;
	l->check(l->user, l->weights);
	if (kernel_us) {
		usleep((useconds_t)kernel_us);
		l->check(l->user, l->weights);
	}
}

static void launch(struct hr_stream *stream, void (*check)(void *user, const void *weights), void *user,
                   const void *weights)
{
	struct look *l = &looks[n_looks++ % 4096];
	*l = (struct look){check, user, weights};
	cuda_on_cpu_launch(hr_cuda_stream(stream), look_twice,
	                   l); /* a GPU that has failed is noticed elsewhere */
}

static struct rig random_rig(uint32_t seed, bool integrated)
{
	uint32_t   random = seed;
	struct rig r = {.seed = seed, .launch = launch};
	r.n_layers = 1 + (int)rig_random(&random, 9);
	r.slots = 1 + (int)rig_random(&random, 4);
	r.chunk_bytes = HR_IO_ALIGN << rig_random(&random, 5);
	r.staging_buffers = 1 + (int)rig_random(&random, 5);
	r.layer_bytes = 1000 + rig_random(&random, 100000);
	r.part_bytes = rig_random(&random, 2) ? r.layer_bytes / 8 : 0;
	for (int i = 0; i < r.n_layers; i++)
		r.tiers[i] = rig_random(&random, 3) ? HR_TIER_DISK : HR_TIER_DEVICE;
	for (int i = 0; !integrated && i < r.n_layers && seed % 2; i++)
		r.tiers[i] = rig_random(&random, 2) ? HR_TIER_HOST : r.tiers[i];
	r.reader_options = (struct fake_reader_options){.seed = seed, .reorder = rig_random(&random, 2)};
	r.reader_options.latency_us = rig_random(&random, 2) ? (int)rig_random(&random, 200) : 0;
	kernel_us = rig_random(&random, 2) ? (int)rig_random(&random, 200) : 0;
	struct cuda_on_cpu_machine m;
	cuda_on_cpu_machine_init(&m);
	m.memory_bytes = 64 * MIB;
	m.integrated = integrated;
	m.no_register = seed % 5 == 0;
	m.copy_gb_per_s = rig_random(&random, 2) ? 1 : 0;
	m.jitter_us = rig_random(&random, 2) ? 100 : 0;
	m.seed = seed;
	m.profiler = seed % 2 == 0; /* whose ranges must all end */
	assert_int_equal(cuda_on_cpu_reset(&m), 0);
	return r;
}

static int run_passes(struct rig *r, int n_passes, struct hr_error *err)
{
	int rc = rig_open(r, err);
	if (rc == 0)
		rc = hr_window_load(r->window, NULL, NULL, err);
	for (int i = 0; i < n_passes && rc == 0; i++)
		rc = rig_pass(r, err);
	return rc;
}

static void run(uint32_t seed, bool integrated)
{
	struct hr_error err = {0};
	struct rig      r = random_rig(seed, integrated);
	r.device = open_cuda(0);
	assert_int_equal(r.device->host_addressable, integrated);
	run_passes(&r, 5, &err);
	assert_string_equal(err.message, "");
	rig_wait(&r);
	assert_int_equal(atomic_load(&r.n_checked), 5 * r.n_layers * (kernel_us ? 2 : 1));
	rig_close(&r);
	assert_int_equal(cuda_on_cpu_n_live(), 2); /* the device's clock: a stream and an event */
	r.device->ops->close(r.device);
	assert_string_equal(cuda_on_cpu_misuse(), "");
	assert_int_equal(cuda_on_cpu_n_live(), 0);
}

static void test_card_with_memory(void **state)
{
	(void)state;
	for (uint32_t seed = 1; seed <= 40; seed++)
		run(seed, false);
}

static void test_integrated_gpu(void **state)
{
	(void)state;
	for (uint32_t seed = 101; seed <= 120; seed++)
		run(seed, true);
}

/* Who watches through NVTX is told of every layer, copy and read; nobody else costs anything. */
static void test_profiler_sees_all(void **state)
{
	(void)state;
	for (int watched = 0; watched < 2; watched++) {
		struct hr_error            err = {0};
		struct rig                 r = random_rig(4, false);
		struct cuda_on_cpu_machine m;
		cuda_on_cpu_machine_init(&m);
		m.profiler = watched;
		assert_int_equal(cuda_on_cpu_reset(&m), 0);
		r.n_layers = 4;
		r.slots = 2;
		r.chunk_bytes = 2 * HR_IO_ALIGN;
		r.layer_bytes = 40000;
		for (int i = 0; i < r.n_layers; i++)
			r.tiers[i] = i ? HR_TIER_DISK : HR_TIER_DEVICE;
		r.device = open_cuda(0);
		run_passes(&r, 3, &err);
		assert_string_equal(err.message, "");
		assert_int_equal(cuda_on_cpu_n_ranges("compute"), watched * 3 * 4);
		assert_true(cuda_on_cpu_n_ranges("link") >= watched * 3 * 3 * 2); /* chunks of streamed layers */
		assert_true(cuda_on_cpu_n_ranges("disk") >= watched * (4 + 2 * 3) * 2);
		assert_int_equal(cuda_on_cpu_n_ranges("link") > 0, watched);
		assert_int_equal(cuda_on_cpu_n_ranges("disk") > 0, watched);
		rig_close(&r);
		assert_int_equal(cuda_on_cpu_n_live(), 2); /* the device's clock, and no range */
		r.device->ops->close(r.device);
	}
}

/* ---- Failures ------------------------------------------------------------------- */

/* The n-th copy or kernel breaks the GPU: the caller is told, and all ends. */
static void test_gpu_fails_under_the_window(void **state)
{
	(void)state;
	for (int n = 1; n <= 60; n += 7) {
		struct hr_error err = {0};
		struct rig      r = random_rig(4, false);
		r.device = open_cuda(0);
		cuda_on_cpu_fail_work(n, cudaErrorIllegalAddress);
		int rc = run_passes(&r, 50, &err);
		assert_int_equal(rc, HR_EDEVICE);
		assert_true(err.message[0]);
		rig_close(&r);
		r.device->ops->close(r.device);
		assert_int_equal(cuda_on_cpu_n_live(), 0);
	}
}

/* The host tier is pinned layer by layer while it is loaded; that may break, too. */
static void test_gpu_fails_while_pinning(void **state)
{
	(void)state;
	for (int n = 1; n <= 4; n++) { /* the staging buffers, and then three layers */
		struct hr_error err = {0};
		struct rig      r = random_rig(4, false);
		r.n_layers = 5;
		for (int i = 0; i < 5; i++)
			r.tiers[i] = i % 2 ? HR_TIER_DISK : HR_TIER_HOST;
		r.device = open_cuda(0);
		cuda_on_cpu_fail("cudaHostRegister", n, cudaErrorLaunchFailure);
		assert_int_equal(run_passes(&r, 1, &err), HR_EDEVICE);
		assert_true(err.message[0]);
		rig_close(&r);
		r.device->ops->close(r.device);
		assert_int_equal(cuda_on_cpu_n_live(), 0);
	}
}

/* What opening a window needs is refused, one call after the other. */
static void test_window_opens_or_leaves_nothing(void **state)
{
	(void)state;
	int n = 1, opened = 0;
	for (; !opened; n++) {
		struct hr_error   err = {0};
		struct rig        r = random_rig(6, false);
		struct hr_window *w = NULL;
		r.device = open_cuda(0);
		r.reader = fake_reader_open(&r.reader_options);
		r.reader->chunk_bytes = r.chunk_bytes;
		assert_int_equal(r.device->ops->stream_new(r.device, &r.compute, true, NULL), 0);
		enum hr_tier     tiers[2] = {HR_TIER_DISK, HR_TIER_HOST};
		struct hr_file   file = {.path = "fake", .size_bytes = 1 << 20};
		struct hr_extent extent = {.file = &file, .length = 50000};
		struct hr_layer  layers[2] = {
		     {"a", &extent, 1, 50000, 53248},
		     {"b", &extent, 1, 50000, 53248},
        };
		struct hr_window_options o = {.device = r.device,
		                              .reader = r.reader,
		                              .compute = r.compute,
		                              .layers = layers,
		                              .tiers = tiers,
		                              .n_layers = 2,
		                              .slots = 2,
		                              .chunk_bytes = 8192,
		                              .staging_buffers = 2};
		cuda_on_cpu_fail(NULL, n, cudaErrorUnknown);
		int rc = hr_window_open(&w, &o, &err);
		opened = rc == 0 && cuda_on_cpu_n_calls() < n;
		assert_int_equal(err.code, rc);
		cuda_on_cpu_fail(NULL, 0, cudaSuccess);
		hr_window_close(w);
		r.device->ops->stream_free(r.compute);
		r.reader->ops->close(r.reader);
		r.device->ops->close(r.device);
		assert_int_equal(cuda_on_cpu_n_live(), 0);
	}
	assert_true(n > 100); /* 2 meters of many events */
}

/* ---- Guards taken away ------------------------------------------------------------ */

static const struct hr_device_ops *real;
static atomic_bool                 waits_on_host, waits_on_stream;

static int event_wait(struct hr_event *event)
{
	return atomic_load(&waits_on_host) ? real->event_wait(event) : 0;
}

static int stream_wait(struct hr_stream *stream, struct hr_event *event)
{
	return atomic_load(&waits_on_stream) ? real->stream_wait(stream, event) : 0;
}

/* A window over a device whose table has been tampered with. Returns how many looks found wrong bytes. */
static int run_unguarded(bool on_host, bool on_stream, char misuse[200])
{
	struct hr_error            err = {0};
	struct cuda_on_cpu_machine m;
	cuda_on_cpu_machine_init(&m);
	m.copy_gb_per_s = 0.02; /* 8 KiB: 0.4 ms */
	assert_int_equal(cuda_on_cpu_reset(&m), 0);
	struct rig r = {.n_layers = 4,
	                .slots = 2,
	                .chunk_bytes = 8192,
	                .staging_buffers = 2,
	                .layer_bytes = 40000,
	                .tiers = {HR_TIER_DISK, HR_TIER_DISK, HR_TIER_DISK, HR_TIER_DISK},
	                .seed = 3,
	                .launch = launch};
	kernel_us = 3000;
	r.device = open_cuda(0);
	real = r.device->ops;
	struct hr_device_ops tampered = *real;
	tampered.event_wait = event_wait;
	tampered.stream_wait = stream_wait;
	r.device->ops = &tampered;
	atomic_store(&waits_on_host, on_host);
	atomic_store(&waits_on_stream, on_stream);
	assert_int_equal(run_passes(&r, 3, &err), 0);
	atomic_store(&waits_on_host, true);
	atomic_store(&waits_on_stream, true);
	rig_wait(&r);
	int n_wrong = atomic_exchange(&r.n_wrong, 0);
	rig_close(&r);
	real->close(r.device);
	snprintf(misuse, 200, "%s", cuda_on_cpu_misuse());
	assert_int_equal(cuda_on_cpu_reset(NULL), 0);
	return n_wrong;
}

static void test_both_guards(void **state)
{
	(void)state;
	char misuse[200];
	assert_int_equal(run_unguarded(true, true, misuse), 0);
	assert_string_equal(misuse, "");
}

static bool early_refill_is_caught(void)
{
	char misuse[200];
	return run_unguarded(false, true, misuse) > 0 &&
	       strstr(misuse, "written while an asynchronous copy out of it was under way");
}

/* Guard 1: staging is refilled while the copy engine still reads it. */
static void test_early_refill_of_staging_is_caught(void **state)
{
	(void)state;
	assert_true(ONE_OF_TEN(early_refill_is_caught()));
}

/* Guard 2: a slot is overwritten while kernels read it, or read before it is filled. */
static void test_early_use_of_a_slot_is_caught(void **state)
{
	(void)state;
	char misuse[200];
	assert_true(ONE_OF_TEN(run_unguarded(true, false, misuse) > 0));
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, begin_machine, end_machine)
	struct CMUnitTest tests[] = {
	    TEST(test_card_with_memory),
	    TEST(test_integrated_gpu),
	    TEST(test_profiler_sees_all),
	    TEST(test_gpu_fails_under_the_window),
	    TEST(test_gpu_fails_while_pinning),
	    TEST(test_window_opens_or_leaves_nothing),
	    TEST(test_both_guards),
	    TEST(test_early_refill_of_staging_is_caught),
	    TEST(test_early_use_of_a_slot_is_caught),
	};
#ifdef __SANITIZE_THREAD__
	/* There the races that are planted here would be reported, rightly. */
	return _cmocka_run_group_tests("window", tests, sizeof tests / sizeof *tests - 2, NULL, NULL);
#else
	return cmocka_run_group_tests(tests, NULL, NULL);
#endif
}
