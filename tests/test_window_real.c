/* The window over the real host device and the real readers: every byte that
 * compute sees is the right one, with io_uring, with pread and under a throttle. */
#include "base/mem.h"
#include "tests/window_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

static struct hr_file files[2];
static char           paths[2][64];

static int make_files(void **state)
{
	(void)state;
	char *content = malloc(RIG_FILE_BYTES);
	for (int i = 0; i < 2; i++) {
		snprintf(paths[i], sizeof paths[i], "hr-window-%d-%d.bin", (int)getpid(), i);
		FILE          *f = fopen(paths[i], "wbe");
		struct hr_file seed = {.mtime_ns = i + 1};
		fake_file_fill(&seed, 0, content, RIG_FILE_BYTES);
		if (!f || fwrite(content, 1, RIG_FILE_BYTES, f) != RIG_FILE_BYTES || fclose(f))
			return -1;
		struct hr_error err = {0};
		if (hr_file_open(&files[i], paths[i], &err)) {
			print_error("%s\n", err.message);
			return -1;
		}
	}
	free(content);
	return 0;
}

static int remove_files(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++) {
		hr_file_close(&files[i]);
		unlink(paths[i]);
	}
	return 0;
}

static void run(enum hr_reader_kind kind, uint64_t rate, uint32_t seed, bool truncated)
{
	uint32_t                 random = seed;
	struct hr_error          err = {0};
	struct hr_reader_options o = {.kind = kind,
	                              .chunk_bytes = HR_IO_ALIGN << rig_random(&random, 6),
	                              .depth = 1 + (int)rig_random(&random, 8),
	                              .max_bytes_per_second = rate};
	struct rig               r = {.seed = seed, .files = files, .chunk_bytes = o.chunk_bytes};
	r.n_layers = 2 + (int)rig_random(&random, 8);
	r.slots = 1 + (int)rig_random(&random, 4);
	r.layer_bytes = 1000 + rig_random(&random, 200000);
	r.part_bytes = rig_random(&random, 2) ? r.layer_bytes / 8 : 0;
	for (int i = 1; i < r.n_layers; i++)
		r.tiers[i] = rig_random(&random, 3) ? HR_TIER_DISK : HR_TIER_DEVICE;
	r.tiers[0] = HR_TIER_DISK;

	int rc = hr_reader_open(&r.reader, &o, &err);
	if (rc == HR_EUNSUPPORTED && kind == HR_READER_URING)
		skip();
	struct hr_device_host_options device = {.n_threads = 2};
	if (rc == 0)
		rc = hr_device_host_open(&r.device, &device, &err);
	if (rc == 0)
		rc = rig_open(&r, &err);
	if (rc == 0)
		rc = hr_window_load(r.window, NULL, NULL, &err);
	for (int i = 0; i < 5 && rc == 0; i++)
		rc = rig_pass(&r, &err);
	if (truncated) {
		for (int i = 0; i < 50 && rc == 0; i++)
			rc = rig_pass(&r, &err);
		assert_true(rc == HR_ETRUNCATED || rc == HR_EIO || rc == HR_ECHANGED);
	} else {
		assert_string_equal(err.message, "");
		rig_wait(&r);
		assert_int_equal(atomic_load(&r.n_checked), 5 * r.n_layers);
	}
	rig_close(&r);
	r.reader->ops->close(r.reader);
	r.device->ops->close(r.device);
}

static void test_uring(void **state)
{
	(void)state;
	for (uint32_t seed = 1; seed <= 12; seed++)
		run(HR_READER_URING, 0, seed, false);
}

static void test_pread(void **state)
{
	(void)state;
	for (uint32_t seed = 21; seed <= 32; seed++)
		run(HR_READER_PREAD, 0, seed, false);
}

static void test_throttled(void **state)
{
	(void)state;
	run(HR_READER_AUTO, 20000000, 41, false);
}

/* The file shrinks after it was opened. Last, since it spoils the files. */
static void test_truncated_file(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++)
		assert_int_equal(truncate(paths[i], 5000), 0);
	run(HR_READER_AUTO, 0, 51, true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_uring),
	    cmocka_unit_test(test_pread),
	    cmocka_unit_test(test_throttled),
	    cmocka_unit_test(test_truncated_file),
	};
	return cmocka_run_group_tests(tests, make_files, remove_files);
}
