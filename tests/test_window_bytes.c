/* Every byte that compute sees is the right one, pass after pass, for every mix
 * of tiers, slots, chunks and staging, on devices with and without memory of
 * their own, with reads in any order and everything taking random time. The fake
 * device and reader count whoever touches memory too early. */
#include "base/mem.h"
#include "tests/window_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

static struct rig random_rig(uint32_t seed, bool host_addressable)
{
	uint32_t   random = seed;
	struct rig r = {.seed = seed};
	r.n_layers = 1 + (int)rig_random(&random, 9);
	r.slots = 1 + (int)rig_random(&random, 5);
	r.chunk_bytes = HR_IO_ALIGN << rig_random(&random, 6);
	r.staging_buffers = 1 + (int)rig_random(&random, 6);
	r.layer_bytes = 1000 + rig_random(&random, 60000);
	r.part_bytes = rig_random(&random, 2) ? r.layer_bytes / 8 : 0;
	for (int i = 0; i < r.n_layers; i++)
		r.tiers[i] = rig_random(&random, 3) ? HR_TIER_DISK : HR_TIER_DEVICE;
	if (!host_addressable && rig_random(&random, 2)) {
		for (int i = 0; i < r.n_layers; i++)
			r.tiers[i] = rig_random(&random, 2) ? HR_TIER_HOST : r.tiers[i];
	}
	r.kernel_us = rig_random(&random, 2) ? (int)rig_random(&random, 300) : 0;
	r.device_options = (struct fake_device_options){.host_addressable = host_addressable, .seed = seed};
	r.device_options.copy_delay_us = rig_random(&random, 2) ? (int)rig_random(&random, 300) : 0;
	r.reader_options = (struct fake_reader_options){.seed = seed, .reorder = rig_random(&random, 2)};
	r.reader_options.latency_us = rig_random(&random, 2) ? (int)rig_random(&random, 300) : 0;
	r.reader_options.n_threads = 1 + (int)rig_random(&random, 6);
	return r;
}

static void run(struct rig *r, int n_passes)
{
	struct hr_error err = {0};
	int             rc = rig_open(r, &err);
	if (rc == 0)
		rc = hr_window_load(r->window, NULL, NULL, &err);
	for (int i = 0; i < n_passes && rc == 0; i++)
		rc = rig_pass(r, &err);
	assert_string_equal(err.message, "");
	assert_int_equal(rc, 0);
	rig_wait(r);
	assert_int_equal(atomic_load(&r->n_checked), n_passes * r->n_layers * 2); /* a fake kernel looks twice */
	rig_close(r);
}

static void test_device_with_own_memory(void **state)
{
	(void)state;
	for (uint32_t seed = 1; seed <= 60; seed++) {
		struct rig r = random_rig(seed, false);
		run(&r, 6);
	}
}

static void test_device_in_host_memory(void **state)
{
	(void)state;
	for (uint32_t seed = 1001; seed <= 1060; seed++) {
		struct rig r = random_rig(seed, true);
		run(&r, 6);
	}
}

/* The case that one guard too few survives longest: slow copies, fast reads, and the
 * other way round slow kernels and fast everything else. */
static void test_slow_copies_out_of_few_buffers(void **state)
{
	(void)state;
	struct rig r = {.n_layers = 4,
	                .slots = 3,
	                .chunk_bytes = 8192,
	                .staging_buffers = 2,
	                .layer_bytes = 40000,
	                .tiers = {HR_TIER_DISK, HR_TIER_DISK, HR_TIER_DEVICE, HR_TIER_DISK},
	                .seed = 5,
	                .device_options = {.copy_delay_us = 1000, .seed = 5}};
	run(&r, 4);
}

static void test_slow_kernels(void **state)
{
	(void)state;
	for (int direct = 0; direct < 2; direct++) {
		struct rig r = {.n_layers = 5,
		                .slots = 2,
		                .chunk_bytes = 65536,
		                .staging_buffers = 4,
		                .layer_bytes = 20000,
		                .tiers = {HR_TIER_DISK, HR_TIER_DISK, HR_TIER_DISK, HR_TIER_DEVICE, HR_TIER_DISK},
		                .kernel_us = 3000,
		                .seed = 6,
		                .device_options = {.host_addressable = direct, .seed = 6}};
		run(&r, 4);
	}
}

/* What is held and moved is what was promised. */
static void test_stats_count_bytes(void **state)
{
	(void)state;
	struct rig      r = {.n_layers = 4,
	                     .slots = 2,
	                     .chunk_bytes = 16384,
	                     .staging_buffers = 3,
	                     .layer_bytes = 30000,
	                     .tiers = {HR_TIER_DISK, HR_TIER_HOST, HR_TIER_DEVICE, HR_TIER_DISK},
	                     .seed = 7};
	struct hr_error err = {0};
	assert_int_equal(rig_open(&r, &err), 0);
	assert_int_equal(hr_window_load(r.window, NULL, NULL, &err), 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(rig_pass(&r, &err), 0);
	rig_wait(&r);
	struct hr_window_stats s;
	hr_window_stats(r.window, &s);
	uint64_t disk = r.layers[0].file_bytes + r.layers[3].file_bytes, link = disk + r.layers[1].file_bytes;
	uint64_t slot = r.layers[0].memory_bytes;
	for (int i = 0; i < 4; i++) {
		if (i != 2 && slot < r.layers[i].memory_bytes)
			slot = r.layers[i].memory_bytes;
	}
	/* Three passes, and at most two slots and three staging buffers ahead. */
	assert_in_range(s.disk_bytes, 3 * disk, 4 * disk);
	assert_in_range(s.link_bytes, 3 * link, 4 * link);
	assert_true(s.link_busy_ns > 0);
	assert_true(s.compute_ns > 0);
	assert_int_equal(s.device_bytes, 2 * slot + r.layers[2].memory_bytes);
	assert_int_equal(s.host_bytes, 3 * r.chunk_bytes + r.layers[1].memory_bytes);
	rig_close(&r);
}

/* With two slots, a block and the parts that fit into the other slot are brought ahead, and no more; the
 * drive reads on, as far as there is staging. */
static void test_parts_are_read_ahead(void **state)
{
	(void)state;
	struct rig r = {.n_layers = 8,
	                .slots = 2,
	                .chunk_bytes = 16384,
	                .staging_buffers = 32,
	                .layer_bytes = 600000,
	                .part_bytes = 10000,
	                .seed = 3};
	for (int i = 0; i < r.n_layers; i++)
		r.tiers[i] = HR_TIER_DISK;
	struct hr_window_stats s = {0};
	uint64_t               parts = 0, ahead = 0;
	assert_int_equal(rig_open(&r, NULL), 0);
	for (int i = 0; i < r.n_layers; i++) {
		parts += i ? r.layers[i].memory_bytes : 0;
		ahead += r.layers[i].file_bytes;
	}
	assert_true(parts < r.layers[0].memory_bytes);
	assert_int_equal(hr_window_load(r.window, NULL, NULL, NULL), 0);
	for (int i = 0; i < 5000 && (s.link_bytes < ahead || s.disk_bytes <= ahead); i++, usleep(1000))
		hr_window_stats(r.window, &s);
	usleep(20000);
	hr_window_stats(r.window, &s);
	assert_int_equal(s.link_bytes, ahead);
	assert_in_range(s.disk_bytes, ahead + 1, ahead + 32 * 16384);
	for (int i = 0; i < 3; i++)
		assert_int_equal(rig_pass(&r, NULL), 0);
	rig_close(&r);
}

/* Residents are there at any time, as often as one likes, held or not. */
static void test_residents_at_any_time(void **state)
{
	(void)state;
	struct rig      r = {.n_layers = 3,
	                     .slots = 1,
	                     .chunk_bytes = 16384,
	                     .staging_buffers = 2,
	                     .layer_bytes = 30000,
	                     .tiers = {HR_TIER_DISK, HR_TIER_DEVICE, HR_TIER_DISK},
	                     .seed = 8};
	struct hr_error err = {0};
	void           *a, *b;
	assert_int_equal(rig_open(&r, &err), 0);
	assert_int_equal(hr_window_load(r.window, NULL, NULL, &err), 0);
	assert_int_equal(hr_window_acquire(r.window, 1, &a, &err), 0);
	for (int i = 0; i < 300; i++) /* more than there are stretches to measure */
		assert_int_equal(hr_window_acquire(r.window, 1, &b, &err), 0);
	assert_ptr_equal(a, b);
	for (int i = 0; i < 3; i++)
		assert_int_equal(rig_pass(&r, &err), 0);
	rig_close(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_device_with_own_memory),
	    cmocka_unit_test(test_device_in_host_memory),
	    cmocka_unit_test(test_slow_copies_out_of_few_buffers),
	    cmocka_unit_test(test_slow_kernels),
	    cmocka_unit_test(test_stats_count_bytes),
	    cmocka_unit_test(test_parts_are_read_ahead),
	    cmocka_unit_test(test_residents_at_any_time),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
