/* hr_file: opening, both descriptors, changes noticed, errors that say where. */
#include "base/mem.h"
#include "io/file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define SIZE 10000u

static char path[] = "test_io_file.XXXXXX";

static void write_file(void)
{
	char bytes[SIZE];
	for (size_t i = 0; i < SIZE; i++)
		bytes[i] = (char)(i * 7);
	int fd = open(path, O_WRONLY | O_TRUNC);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes, SIZE), SIZE);
	close(fd);
}

static int make_path(void **state)
{
	(void)state;
	int fd = mkstemp(path);
	if (fd < 0)
		return -1;
	close(fd);
	return 0;
}

static int remove_path(void **state)
{
	(void)state;
	return unlink(path);
}

static void opens_and_reads(void **state)
{
	(void)state;
	write_file();
	struct hr_file  file = {0};
	struct hr_error err = {0};
	char            bytes[100];
	assert_int_equal(hr_file_open(&file, path, &err), 0);
	assert_string_equal(file.path, path);
	assert_true(file.fd_buffered >= 0);
	assert_int_equal(file.size_bytes, SIZE);
	assert_true(file.fd_direct >= 0 ? !file.direct_refused[0] : file.direct_refused[0]);
	if (file.fd_direct >= 0)
		assert_true(fcntl(file.fd_direct, F_GETFL) & O_DIRECT);
	assert_int_equal(hr_file_read_exact(&file, 4999, bytes, sizeof bytes, &err), 0);
	for (size_t i = 0; i < sizeof bytes; i++)
		assert_int_equal(bytes[i], (char)((4999 + i) * 7));
	assert_int_equal(err.code, 0);
	hr_file_close(&file);
	hr_file_close(&file);
}

static void short_file_names_wanted_and_got(void **state)
{
	(void)state;
	write_file();
	struct hr_file  file = {0};
	struct hr_error err = {0};
	char            bytes[100];
	assert_int_equal(hr_file_open(&file, path, &err), 0);
	assert_int_equal(hr_file_read_exact(&file, SIZE - 40, bytes, 100, &err), HR_ETRUNCATED);
	assert_int_equal(err.code, HR_ETRUNCATED);
	assert_non_null(strstr(err.message, path));
	assert_non_null(strstr(err.message, "100 bytes"));
	assert_non_null(strstr(err.message, "offset 9960"));
	assert_non_null(strstr(err.message, "got 40"));
	hr_file_close(&file);
}

static void change_is_noticed(void **state)
{
	(void)state;
	write_file();
	struct hr_file  file = {0};
	struct hr_error err = {0};
	assert_int_equal(hr_file_open(&file, path, &err), 0);
	assert_int_equal(hr_file_check_unchanged(&file, &err), 0);
	struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = 1000000000}};
	assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
	assert_int_equal(hr_file_check_unchanged(&file, &err), HR_ECHANGED);
	hr_file_close(&file);

	assert_int_equal(hr_file_open(&file, path, &err), 0);
	assert_int_equal(truncate(path, 77), 0);
	assert_int_equal(hr_file_check_unchanged(&file, &err), HR_ECHANGED);
	assert_non_null(strstr(err.message, "has 77 now"));
	hr_file_close(&file);
}

static void what_is_no_file_is_refused(void **state)
{
	(void)state;
	struct hr_file  file = {0};
	struct hr_error err = {0};
	assert_int_equal(hr_file_open(&file, "no/such/file", &err), HR_ENOENT);
	assert_non_null(strstr(err.message, "no/such/file"));
	assert_int_equal(hr_file_open(&file, ".", &err), HR_EFORMAT);
	assert_int_equal(hr_file_open(&file, "/dev/null", &err), HR_EFORMAT);
	hr_file_close(&file);
}

/* Not every machine has a tmpfs, nor does every kernel refuse O_DIRECT there. */
static void works_on_tmpfs(void **state)
{
	(void)state;
	char name[] = "/dev/shm/test_io_file.XXXXXX";
	int  fd = mkstemp(name);
	if (fd < 0)
		skip();
	assert_int_equal(write(fd, "headrace", 8), 8);
	close(fd);
	struct hr_file  file = {0};
	struct hr_error err = {0};
	char            bytes[8];
	assert_int_equal(hr_file_open(&file, name, &err), 0);
	unlink(name);
	assert_true(file.fd_direct >= 0 || file.direct_refused[0]);
	assert_int_equal(hr_file_read_exact(&file, 0, bytes, 8, &err), 0);
	assert_memory_equal(bytes, "headrace", 8);
	hr_file_close(&file);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(opens_and_reads),   cmocka_unit_test(short_file_names_wanted_and_got),
	    cmocka_unit_test(change_is_noticed), cmocka_unit_test(what_is_no_file_is_refused),
	    cmocka_unit_test(works_on_tmpfs),
	};
	return cmocka_run_group_tests(tests, make_path, remove_path);
}
