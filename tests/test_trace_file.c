/* The trace file is JSON that viewers understand: named lanes, spans of one row never
 * overlap, nothing beyond the capacity, nothing half-written left behind. */
#include "base/mem.h"
#include "scheduler/trace.h"

#include <dirent.h>
#include <jansson.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char directory[] = "/tmp/hr-trace-XXXXXX";
static char path[64];

static int make_directory(void **state)
{
	(void)state;
	if (!mkdtemp(directory))
		return -1;
	snprintf(path, sizeof path, "%s/t.json", directory);
	return 0;
}

static int count_files(void)
{
	int            n = 0;
	DIR           *d = opendir(directory);
	struct dirent *entry;
	while (d && (entry = readdir(d)))
		n += entry->d_name[0] != '.';
	if (d)
		closedir(d);
	return n;
}

static int remove_directory(void **state)
{
	(void)state;
	unlink(path);
	return rmdir(directory);
}

static json_t *write_and_load(struct hr_trace *t)
{
	struct hr_error err = {0};
	hr_trace_write(t, path, &err);
	assert_string_equal(err.message, "");
	assert_int_equal(count_files(), 1);
	json_t *root = json_load_file(path, 0, NULL);
	assert_non_null(root);
	return root;
}

static void test_spans_and_lanes(void **state)
{
	(void)state;
	struct hr_trace *t;
	assert_int_equal(hr_trace_new(&t, 10, NULL), 0);
	hr_trace_span(t, HR_LANE_COMPUTE, "model.layers.3", 5000500, 5002000, 0);
	hr_trace_span(t, HR_LANE_DISK, "a \"quoted\\\n\xff name", 5000000, 5001000, 4096);
	hr_trace_span(t, HR_LANE_DISK, "b", 5000400, 5001200, 1);
	hr_trace_span(t, HR_LANE_DISK, "c", 5001000, 5001300, 1);
	hr_trace_span(NULL, HR_LANE_DISK, "nothing", 1, 2, 3);
	json_t *root = write_and_load(t), *event;
	size_t  i;
	int     tid_a = 0, tid_b = 0, tid_c = 0, n_names = 0;
	json_array_foreach(json_object_get(root, "traceEvents"), i, event)
	{
		const char *name = json_string_value(json_object_get(event, "name"));
		int         tid = (int)json_integer_value(json_object_get(event, "tid"));
		double      ts = json_number_value(json_object_get(event, "ts"));
		double      dur = json_number_value(json_object_get(event, "dur"));
		n_names += !strcmp(name, "thread_name") || !strcmp(name, "process_name");
		if (!strcmp(name, "model.layers.3")) {
			assert_true(ts > 0.4999 && ts < 0.5001);
			assert_true(dur > 1.4999 && dur < 1.5001);
		}
		if (!strcmp(name, "a \"quoted\\?? name")) {
			tid_a = tid;
			assert_int_equal(json_integer_value(json_object_get(json_object_get(event, "args"), "bytes")),
			                 4096);
		}
		tid_b = !strcmp(name, "b") ? tid : tid_b;
		tid_c = !strcmp(name, "c") ? tid : tid_c;
	}
	assert_true(tid_a && tid_b && tid_a != tid_b); /* they overlap */
	assert_int_equal(tid_c, tid_a);                /* the first row is free again */
	assert_int_equal(n_names, 1 + 2 + 1);          /* the process, two rows of disk, one of compute */
	json_decref(root);
	hr_trace_free(t);
}

#define N_THREADS  4
#define PER_THREAD 3000

static void *record(void *trace)
{
	for (int i = 0; i < PER_THREAD; i++)
		hr_trace_span(trace, HR_LANE_HOST, "span", (uint64_t)i, (uint64_t)i + 1, 0);
	return NULL;
}

static void test_capacity_under_threads(void **state)
{
	(void)state;
	struct hr_trace *t;
	pthread_t        threads[N_THREADS];
	int              capacity = N_THREADS * PER_THREAD / 2, spans = 0;
	assert_int_equal(hr_trace_new(&t, capacity, NULL), 0);
	for (int i = 0; i < N_THREADS; i++)
		pthread_create(&threads[i], NULL, record, t);
	assert_int_equal(hr_trace_write(t, path, NULL), 0); /* while they record */
	for (int i = 0; i < N_THREADS; i++)
		pthread_join(threads[i], NULL);
	json_t *root = write_and_load(t), *event;
	size_t  i;
	json_array_foreach(json_object_get(root, "traceEvents"), i, event)
	{
		spans += !strcmp(json_string_value(json_object_get(event, "ph")), "X");
	}
	assert_int_equal(spans, capacity);
	json_t *dropped = json_object_get(json_object_get(root, "otherData"), "dropped_spans");
	assert_int_equal(json_integer_value(dropped), N_THREADS * PER_THREAD - capacity);
	json_decref(root);
	hr_trace_free(t);
}

static void test_unwritable_path(void **state)
{
	(void)state;
	struct hr_trace *t;
	struct hr_error  err = {0};
	char             bad[96];
	snprintf(bad, sizeof bad, "%s/no/such/t.json", directory);
	assert_int_equal(hr_trace_new(&t, 1, NULL), 0);
	assert_int_equal(hr_trace_write(t, bad, &err), HR_EIO);
	assert_non_null(strstr(err.message, bad));
	assert_non_null(strstr(err.message, "No such file or directory."));
	snprintf(bad, sizeof bad, "%s/folder", directory);
	assert_int_equal(mkdir(bad, 0700), 0);
	assert_int_equal(hr_trace_write(t, bad, &err), HR_EIO); /* the rename fails */
	assert_int_equal(count_files(), 2);                     /* the folder, t.json of the tests before */
	assert_int_equal(rmdir(bad), 0);
	hr_trace_free(t);
	assert_int_equal(hr_trace_new(&t, 0, &err), HR_EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_spans_and_lanes),
	    cmocka_unit_test(test_capacity_under_threads),
	    cmocka_unit_test(test_unwritable_path),
	};
	return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
