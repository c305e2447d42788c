/* Where the kernel refuses io_uring: the step down and its notice, and a ring
 * that is taken away while it is in use. A seccomp filter plays the container;
 * it can't be undone, so each test has a process of its own. */
#include "io_testing.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static char path[] = "test_io_refused.XXXXXX";

/* From now on, in all threads, system call `nr` fails with `error`. */
static int refuse(unsigned nr, unsigned error)
{
	struct sock_filter filter[] = {
	    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {HR_COUNT_OF(filter), filter};
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return -1;
	return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program);
}

enum { PASSED = 10, SKIPPED = 11 }; /* a crash, or a check of the sanitizers, is neither */

#define CHECK(condition)                                                                                     \
	do                                                                                                       \
		if (!(condition)) {                                                                                  \
			fprintf(stderr, "line %d: %s\n", __LINE__, #condition);                                          \
			_exit(1);                                                                                        \
		}                                                                                                    \
	while (0)

static void in_a_child(void (*body)(void))
{
	int   status;
	pid_t child = fork();
	assert_true(child >= 0);
	if (!child) {
		alarm(60);
		body();
		_exit(PASSED);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	if (WIFEXITED(status) && WEXITSTATUS(status) == SKIPPED)
		skip();
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), PASSED);
}

static int  n_notices;
static char last_notice[1000];

static void on_notice(void *user, const char *sentence)
{
	(void)user;
	n_notices++;
	snprintf(last_notice, sizeof last_notice, "%s", sentence);
}

static void step_down(void)
{
	struct hr_reader_options options = {.depth = 3, .notices = {.fn = on_notice}};
	struct hr_reader        *reader = NULL;
	struct hr_error          err = {0};
	struct hr_file           file;
	char                     bytes[100];
	if (refuse(SYS_io_uring_setup, EPERM))
		_exit(SKIPPED);

	CHECK(hr_reader_open(&reader, &options, &err) == 0);
	CHECK(!strcmp(reader->ops->name, "pread"));
	CHECK(n_notices == 1);
	CHECK(strstr(last_notice, strerror(EPERM)) && strstr(last_notice, "3 pread threads"));
	CHECK(!hr_file_open(&file, path, &err));
	CHECK(!hr_reader_read_blocking(reader, &file, 17, bytes, sizeof bytes, &err));
	reader->ops->close(reader);

	reader = NULL;
	options.kind = HR_READER_URING;
	CHECK(hr_reader_open(&reader, &options, &err) == HR_EUNSUPPORTED);
	CHECK(!reader && err.code == HR_EUNSUPPORTED && strstr(err.message, strerror(EPERM)));
	CHECK(n_notices == 1);
	hr_file_close(&file);
}

static void lose_the_ring(void)
{
	struct hr_reader *reader = open_reader(HR_READER_URING, 4096, 2, 0);
	struct hr_file    file;
	struct hr_error   err = {0};
	char             *memory = aligned_memory(1 << 20);
	if (!reader)
		_exit(SKIPPED);
	CHECK(!hr_file_open(&file, path, &err));
	CHECK(!hr_reader_read_blocking(reader, &file, 0, memory, 65536, &err));
	if (refuse(SYS_io_uring_enter, EACCES))
		_exit(SKIPPED);
	/* The thread may still be inside a call that began before; the next one fails. */
	struct counter over = COUNTER_INIT;
	struct hr_read reads[20];
	for (int i = 0; i < 20; i++)
		reads[i] = (struct hr_read){
		    .file = &file, .length = 32768, .dst = memory + i * 32768, .done = count_done, .user = &over};
	for (int i = 0; i < 20; i++)
		reader->ops->submit(reader, &reads[i]);
	wait_for(&over, 20);
	CHECK(reads[19].status == HR_EIO && strstr(reads[19].error.message, strerror(EACCES)));
	CHECK(hr_reader_read_blocking(reader, &file, 5, memory, 10, &err) == HR_EIO);
	reader->ops->register_memory(reader, memory, 1 << 20); /* does not hang either */
	reader->ops->close(reader);
	CHECK(over.n == 20);
}

static void auto_steps_down_to_pread_with_a_notice(void **state)
{
	(void)state;
	in_a_child(step_down);
}

static void a_lost_ring_fails_reads_and_hangs_nothing(void **state)
{
	(void)state;
	in_a_child(lose_the_ring);
}

static int set_up(void **state)
{
	(void)state;
	make_file(path, 1 << 20, NULL);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	return unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(auto_steps_down_to_pread_with_a_notice),
	    cmocka_unit_test(a_lost_ring_fails_reads_and_hangs_nothing),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
