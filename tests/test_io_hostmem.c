/* Host memory: alignment, zeroes, impossible sizes; and io_uring told to leave
 * memory unregistered where locking is limited. */
#include "io/hostmem.h"

#include "io_testing.h"

#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

static void memory_is_aligned_zeroed_and_there(void **state)
{
	(void)state;
	static const size_t sizes[] = {1, 4096, 5000, (2 << 20) - 1, 2 << 20, (7 << 20) + 3};
	for (size_t i = 0; i < HR_COUNT_OF(sizes); i++) {
		struct hr_hostmem mem = {0};
		struct hr_error   err = {0};
		assert_int_equal(hr_hostmem_init(&mem, sizes[i], i % 2 ? -1 : 0, &err), 0);
		assert_true(mem.bytes >= sizes[i]);
		assert_int_equal((uintptr_t)mem.base % (sizes[i] >= 2 << 20 ? 2 << 20 : 4096), 0);
		for (size_t k = 0; k < mem.bytes; k++)
			if (((char *)mem.base)[k])
				fail_msg("byte %zu is not zero", k);
		memset(mem.base, 1, mem.bytes);
		hr_hostmem_release(&mem);
		assert_null(mem.base);
		hr_hostmem_release(&mem);
	}
}

static void impossible_sizes_are_refused(void **state)
{
	(void)state;
	static const size_t sizes[] = {SIZE_MAX, SIZE_MAX - (1 << 20), SIZE_MAX - (5 << 20), SIZE_MAX / 2};
	for (size_t i = 0; i < HR_COUNT_OF(sizes); i++) {
		struct hr_hostmem mem = {0};
		struct hr_error   err = {0};
		assert_int_equal(hr_hostmem_init(&mem, sizes[i], -1, &err), HR_ENOMEM);
		assert_int_equal(err.code, HR_ENOMEM);
		assert_null(mem.base);
	}
}

static int n_notices;

static void on_notice(void *user, const char *sentence)
{
	(void)user;
	n_notices += strstr(sentence, "ulimit -l") != NULL;
}

/* In a process without CAP_IPC_LOCK and 1 MiB to lock. */
static int limited(void)
{
	struct rlimit limit = {1 << 20, 1 << 20};
	if (setrlimit(RLIMIT_MEMLOCK, &limit) || (!geteuid() && setresuid(65534, 65534, 65534)))
		return 11;
	size_t lockable = hr_hostmem_lockable_bytes();
	if (lockable > 1 << 20)
		return 1;
	struct hr_reader_options options = {.kind = HR_READER_URING, .notices = {.fn = on_notice}};
	struct hr_reader        *reader;
	struct hr_hostmem        mem;
	if (hr_reader_open(&reader, &options, NULL))
		return 11;
	if (hr_hostmem_init(&mem, 8 << 20, -1, NULL))
		return 2;
	reader->ops->register_memory(reader, mem.base, mem.bytes);
	reader->ops->register_memory(reader, mem.base, mem.bytes);
	reader->ops->close(reader);
	hr_hostmem_release(&mem);
	return n_notices == 1 ? 10 : 3;
}

static void limited_locking_is_told_once(void **state)
{
	(void)state;
	int   status;
	pid_t child = fork();
	assert_true(child >= 0);
	if (!child)
		_exit(limited());
	assert_int_equal(waitpid(child, &status, 0), child);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 11)
		skip();
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(memory_is_aligned_zeroed_and_there),
	    cmocka_unit_test(impossible_sizes_are_refused),
	    cmocka_unit_test(limited_locking_is_told_once),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
