/* The host device's memory: alignment, budget, peak; and what control groups
 * leave of the machine's memory, read from made-up trees of files. */
#include "base/mem.h"
#include "kernels/device/device.h"
#include "kernels/device/host_memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <ftw.h>
#include <stdio.h>
#include <sys/stat.h>

#define MIB ((size_t)1 << 20)

static struct hr_device *open_device(uint64_t budget_bytes)
{
	struct hr_device             *d;
	struct hr_device_host_options o = {.n_threads = 1, .budget_bytes = budget_bytes};
	assert_int_equal(hr_device_host_open(&d, &o, NULL), 0);
	return d;
}

static void memory_is_aligned_and_zero(void **state)
{
	(void)state;
	struct hr_device *d = open_device(0);
	const size_t      sizes[] = {1, 4096, 4097, 2 * MIB - 1, 2 * MIB, 5 * MIB + 3};
	void             *m[HR_COUNT_OF(sizes)];
	for (size_t i = 0; i < HR_COUNT_OF(sizes); i++) {
		assert_int_equal(d->ops->alloc(d, &m[i], sizes[i], NULL), 0);
		assert_int_equal((uintptr_t)m[i] % (sizes[i] >= 2 * MIB ? 2 * MIB : 4096), 0);
		assert_int_equal(((char *)m[i])[sizes[i] - 1], 0);
		memset(m[i], 0xa5, sizes[i]);
	}
	for (size_t i = 0; i < HR_COUNT_OF(sizes); i++)
		d->ops->free(d, m[i]);
	d->ops->free(d, NULL);
	d->ops->close(d);
}

static void budget_is_kept(void **state)
{
	(void)state;
	struct hr_device       *d = open_device(8 * MIB);
	struct hr_device_memory m;
	struct hr_error         err = {0};
	void                   *a, *b = NULL;
	assert_int_equal(d->ops->alloc(d, &a, 6 * MIB, &err), 0);
	assert_int_equal(err.code, 0);
	assert_int_equal(d->ops->alloc(d, &b, 2 * MIB + 1, &err), HR_EDEVMEM);
	assert_null(b);
	assert_int_equal(err.code, HR_EDEVMEM);
	assert_non_null(strstr(err.message, "allocate 2.0 MiB"));
	assert_non_null(strstr(err.message, "6.0 MiB are allocated"));
	assert_non_null(strstr(err.message, "budget of 8.0 MiB"));
	assert_int_equal(d->ops->alloc(d, &b, 2 * MIB, &err), 0);
	d->ops->free(d, a);
	assert_int_equal(d->ops->memory(d, &m), 0);
	assert_int_equal(m.allocated_bytes, 2 * MIB);
	assert_int_equal(m.peak_bytes, 8 * MIB);
	assert_true(m.free_bytes > 0 && m.free_bytes <= m.total_bytes);
	assert_int_equal(d->ops->alloc(d, &a, SIZE_MAX / 2 - 4096, &err), HR_EDEVMEM);
	d->ops->close(d); /* b is given back by close */
}

static void more_than_the_machine_has_is_refused(void **state)
{
	(void)state;
	struct hr_device       *d = open_device(0);
	struct hr_device_memory m;
	struct hr_error         err = {0};
	void                   *a;
	assert_int_equal(d->ops->memory(d, &m), 0);
	assert_int_equal(d->ops->alloc(d, &a, m.total_bytes + MIB, &err), HR_EDEVMEM);
	assert_non_null(strstr(err.message, "no budget set"));
	assert_int_equal(d->ops->memory(d, &m), 0);
	assert_int_equal(m.allocated_bytes, 0);
	d->ops->close(d);
}

/* ---- control groups ---- */

static char root[] = "test_device_host_memory.XXXXXX";

static void put(const char *path, const char *text)
{
	char full[512];
	snprintf(full, sizeof(full), "%s%s", root, path);
	for (char *p = strchr(full, '/'); p; p = strchr(p + 1, '/')) {
		*p = 0;
		mkdir(full, 0755);
		*p = '/';
	}
	FILE *f = fopen(full, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)type, (void)ftw;
	return remove(path);
}

static int make_root(void **state)
{
	(void)state;
	memcpy(root + sizeof(root) - 7, "XXXXXX", 6);
	if (!mkdtemp(root))
		return -1;
	put("/proc/meminfo", "MemTotal:  1000 kB\nMemFree:  300 kB\nMemAvailable:  800 kB\n");
	return 0;
}

static int remove_root(void **state)
{
	(void)state;
	return nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void expect(uint64_t total_bytes, uint64_t free_bytes)
{
	struct hr__host_memory m;
	hr__host_memory_read_at(root, &m);
	assert_int_equal(m.total_bytes, total_bytes);
	assert_int_equal(m.free_bytes, free_bytes);
}

static void no_group(void **state)
{
	(void)state;
	expect(1000 * 1024, 800 * 1024);
	put("/proc/self/cgroup", "0::/\n");
	expect(1000 * 1024, 800 * 1024);
}

static void version_2_counts_the_tightest_ancestor(void **state)
{
	(void)state;
	put("/proc/self/cgroup", "0::/a/b\n");
	put("/sys/fs/cgroup/a/b/memory.max", "max\n");
	put("/sys/fs/cgroup/a/b/memory.current", "5\n");
	expect(1000 * 1024, 800 * 1024);
	put("/sys/fs/cgroup/a/memory.max", "500000\n");
	put("/sys/fs/cgroup/a/memory.current", "450000\n");
	expect(500000, 50000);
	put("/sys/fs/cgroup/a/memory.stat", "anon 1\ninactive_file 30000\nactive_file 7\n");
	expect(500000, 80000);
	put("/sys/fs/cgroup/a/b/memory.max", "4\n");
	expect(4, 0);
}

static void version_1_falls_back_to_the_mount(void **state)
{
	(void)state;
	put("/proc/self/cgroup", "9:cpu:/\n4:memory:/docker/not-visible\n0::/\n");
	put("/sys/fs/cgroup/memory/memory.limit_in_bytes", "600000\n");
	put("/sys/fs/cgroup/memory/memory.usage_in_bytes", "100000\n");
	put("/sys/fs/cgroup/memory/memory.stat", "inactive_file 1\ntotal_inactive_file 20000\n");
	expect(600000, 520000);
	put("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
	expect(1000 * 1024, 800 * 1024);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(memory_is_aligned_and_zero),
	    cmocka_unit_test(budget_is_kept),
	    cmocka_unit_test(more_than_the_machine_has_is_refused),
	    cmocka_unit_test_setup_teardown(no_group, make_root, remove_root),
	    cmocka_unit_test_setup_teardown(version_2_counts_the_tightest_ancestor, make_root, remove_root),
	    cmocka_unit_test_setup_teardown(version_1_falls_back_to_the_mount, make_root, remove_root),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
