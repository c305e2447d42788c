/* What the doctor says of GPUs: lines for each one, with figures that are true of the
 * machine that the layer makes up; one line when there is none; nothing left behind. */
#include "headrace/headrace.h"
#include "tests/cuda/cuda_testing.h"
#include "tests/model_run.h"

struct line {
	char                 name[32], detail[1200], advice[400];
	enum hr_check_status status;
	double               value;
};
static struct line lines[64];
static int         n_lines;

static void keep_gpu_line(void *user, const struct hr_check *c)
{
	(void)user;
	if (strncmp(c->name, "gpu", 3) && strncmp(c->name, "link", 4))
		return;
	assert_true(n_lines < 64);
	struct line *l = &lines[n_lines++];
	snprintf(l->name, sizeof l->name, "%s", c->name);
	snprintf(l->detail, sizeof l->detail, "%s", c->detail);
	snprintf(l->advice, sizeof l->advice, "%s", c->advice);
	l->status = c->status;
	l->value = c->value;
	assert_true((c->status == HR_CHECK_OK) == !*c->advice);
}

static void ask(const struct cuda_on_cpu_machine *machine, size_t held_bytes)
{
	struct hr_error err = {0};
	n_lines = 0;
	assert_int_equal(cuda_on_cpu_reset(machine), 0);
	cuda_on_cpu_hold(held_bytes);
	if (hr_doctor("/proc", keep_gpu_line, NULL, &err)) /* no disk to measure */
		fail_msg("%s", err.message);
	assert_int_equal(cuda_on_cpu_n_live(), 0);
}

static const struct line *find(const char *name)
{
	for (int i = 0; i < n_lines; i++)
		if (!strcmp(lines[i].name, name))
			return &lines[i];
	fail_msg("the doctor says nothing about %s", name);
	return NULL;
}

static void expect(const char *name, enum hr_check_status status, const char *part)
{
	const struct line *l = find(name);
	if (l->status != status || !strstr(l->detail, part))
		fail_msg("%s: %d \"%s\", not %d \"%s\"", name, l->status, l->detail, status, part);
}

static void test_a_card_and_its_link(void **state)
{
	(void)state;
	struct cuda_on_cpu_machine m;
	cuda_on_cpu_machine_init(&m);
	m.copy_gb_per_s = 2;
	ask(&m, 0);
	expect("gpu", HR_CHECK_OK, "cuda:0, CUDA on CPU 0, compute capability 9.0");
	expect("gpu_driver", HR_CHECK_OK, "580.00, knows CUDA 13.0; built with 13.0");
	expect("gpu_memory", HR_CHECK_OK, "0.5 GiB free of 0.5 GiB");
	expect("gpu_numa", HR_CHECK_OK, "node");
	expect("gpu_link", HR_CHECK_SLOW,
	       "PCIe generation 4, 8 lanes under load (at best generation 4, 16 lanes)");
	expect("link_to_gpu", HR_CHECK_SLOW, "GB/s to the GPU, pinned"); /* of 15.7 */
	expect("link_from_gpu", HR_CHECK_SLOW, "GB/s from the GPU, pinned");
	expect("link_to_gpu_pageable", HR_CHECK_OK, "GB/s");
	expect("link_from_gpu_pageable", HR_CHECK_OK, "GB/s");
	expect("gpu_copy", HR_CHECK_OK, "GB/s read and written on the device");
	assert_int_equal(n_lines, 10);
	assert_true(find("link_to_gpu")->value > 0.01 && find("link_to_gpu")->value < 2.6);
	assert_true(find("link_from_gpu")->value > 0.01 && find("link_from_gpu")->value < 2.6);
	assert_true(find("gpu")->value == 9.0);
}

static void test_a_card_that_is_taken(void **state)
{
	(void)state;
	ask(NULL, 500 * MIB);
	expect("gpu_memory", HR_CHECK_SLOW, "hog (pid 4242) holds 0.5 GiB");
	assert_true(find("gpu_memory")->value == 12.0 * (double)MIB);
	expect("gpu_link", HR_CHECK_MISSING, "not measured: ");
}

static void test_two_cards(void **state)
{
	(void)state;
	struct cuda_on_cpu_machine m;
	cuda_on_cpu_machine_init(&m);
	m.n_devices = 2;
	ask(&m, 0);
	assert_int_equal(n_lines, 20);
	assert_non_null(strstr(lines[10].detail, "cuda:1, CUDA on CPU 1"));
}

static void test_a_card_that_uses_host_memory(void **state)
{
	(void)state;
	struct cuda_on_cpu_machine m;
	cuda_on_cpu_machine_init(&m);
	m.integrated = true;
	ask(&m, 0);
	expect("gpu_link", HR_CHECK_OK, "this GPU uses the host's memory");
	assert_int_equal(n_lines, 6);
}

static void test_no_card_is_one_line(void **state)
{
	(void)state;
	struct cuda_on_cpu_machine m;
	cuda_on_cpu_machine_init(&m);
	m.driver_version = 0;
	ask(&m, 0);
	assert_int_equal(n_lines, 1);
	expect("gpu", HR_CHECK_MISSING, "No NVIDIA driver was found");
}

/* Whatever fails, there are lines, and nothing stays. */
static void test_each_call_fails(void **state)
{
	(void)state;
	for (int n = 1; n < 150; n += 1 + n / 8) {
		struct hr_error err = {0};
		assert_int_equal(cuda_on_cpu_reset(NULL), 0);
		n_lines = 0;
		cuda_on_cpu_fail(NULL, n, cudaErrorLaunchFailure);
		assert_int_equal(hr_doctor("/proc", keep_gpu_line, NULL, &err), 0);
		assert_true(n_lines > 0);
		assert_int_equal(cuda_on_cpu_n_live(), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin_machine, end_machine)
	    TEST(test_a_card_and_its_link),          TEST(test_a_card_that_is_taken), TEST(test_two_cards),
	    TEST(test_a_card_that_uses_host_memory), TEST(test_no_card_is_one_line),  TEST(test_each_call_fails),
	};
	cuda_on_cpu_reset(NULL);
	struct hr_error err = {0};
	n_lines = 0;
	if (!hr_doctor("/proc", keep_gpu_line, NULL, &err) && strstr(lines[0].detail, "build has no CUDA")) {
		fprintf(stderr, "skipped: %s\n", lines[0].detail); /* no kernels yet */
		return RUN_SKIP;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
