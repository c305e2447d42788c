/* The doctor says one line about everything it promises to look at, measures the
 * disk of the directory it was given, and leaves nothing there. */
#include "headrace/headrace.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

struct found {
	char                 names[16][32];
	enum hr_check_status status[16];
	double               value[16];
	int                  n;
};

static void note(void *user, const struct hr_check *check)
{
	struct found *f = user;
	assert_true(f->n < 16);
	assert_true(strlen(check->detail) > 0);
	assert_true(check->status >= HR_CHECK_OK && check->status <= HR_CHECK_MISSING);
	assert_true(check->status != HR_CHECK_OK || !*check->advice);
	assert_true(check->status == HR_CHECK_OK || *check->advice);
	snprintf(f->names[f->n], sizeof f->names[0], "%s", check->name);
	f->status[f->n] = check->status;
	f->value[f->n++] = check->value;
}

static int find(const struct found *f, const char *name)
{
	for (int i = 0; i < f->n; i++) {
		if (!strcmp(f->names[i], name))
			return i;
	}
	fail_msg("the doctor says nothing about %s", name);
	return -1;
}

static int n_files(const char *directory)
{
	int  n = 0;
	DIR *dir = opendir(directory);
	assert_non_null(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n - 2;
}

static void test_looks_at_everything(void **state)
{
	static const char *const names[] = {"cpu",        "numa",     "memory",   "memlock", "gpu",
	                                    "huge_pages", "io_uring", "o_direct", "disk"};
	char                     directory[] = "/tmp/test_doctor-XXXXXX";
	struct found             found = {0};
	struct hr_error          err = {0};
	(void)state;
	assert_non_null(mkdtemp(directory));
	assert_int_equal(hr_doctor(directory, note, &found, &err), 0);
	assert_int_equal(found.n, sizeof names / sizeof *names);
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		find(&found, names[i]);
	assert_true(found.value[find(&found, "cpu")] >= 1);
	assert_true(found.value[find(&found, "memory")] > 0);
	int disk = find(&found, "disk");
	assert_true(found.status[disk] != HR_CHECK_MISSING);
	assert_true(found.value[disk] > 0.001 && found.value[disk] < 1000);
	assert_int_equal(n_files(directory), 0);
	rmdir(directory);
}

static void test_wants_a_directory(void **state)
{
	struct found    found = {0};
	struct hr_error err = {0};
	(void)state;
	assert_int_equal(hr_doctor("/no/such/directory", note, &found, &err), HR_ENOENT);
	assert_non_null(strstr(err.message, "/no/such/directory"));
	assert_int_equal(hr_doctor("/proc/self/exe", note, &found, &err), HR_EINVAL);
	assert_int_equal(found.n, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_looks_at_everything),
	    cmocka_unit_test(test_wants_a_directory),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
