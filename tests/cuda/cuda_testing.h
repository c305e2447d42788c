/* What the tests of the CUDA device share: a device that opens or fails the test,
 * memory of the host like the window's, notices that are counted, and a watchdog. */
#ifndef HR_TESTS_CUDA_CUDA_TESTING_H
#define HR_TESTS_CUDA_CUDA_TESTING_H

#include "kernels/device/device_cuda.h"
#include "tests/cuda_on_cpu/runtime.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)

static int  n_notices;
static char last_notice[1200];

__attribute__((unused)) static void count_notice(void *user, const char *sentence)
{
	(void)user;
	n_notices++;
	snprintf(last_notice, sizeof last_notice, "%s", sentence);
}

static inline struct hr_device *open_cuda(uint64_t budget_bytes)
{
	struct hr_device_cuda_options o = {.budget_bytes = budget_bytes, .notices = {count_notice, NULL}};
	struct hr_device             *device = NULL;
	struct hr_error               err = {0};
	if (hr_device_cuda_open(&device, &o, &err))
		fail_msg("%s", err.message);
	return device;
}

static inline char *map_host(size_t bytes)
{
	char *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(base != MAP_FAILED);
	return base;
}

/* A machine of its own for each test, and nothing left of it. */
__attribute__((unused)) static int begin_machine(void **state)
{
	(void)state;
	n_notices = 0;
	alarm(300); /* no error hangs */
	return cuda_on_cpu_reset(NULL);
}

__attribute__((unused)) static int end_machine(void **state)
{
	(void)state;
	if (cuda_on_cpu_misuse()[0])
		print_error("misuse: %s\n", cuda_on_cpu_misuse());
	if (cuda_on_cpu_n_live())
		print_error("%d things are still alive\n", cuda_on_cpu_n_live());
	return cuda_on_cpu_n_live() || cuda_on_cpu_misuse()[0];
}

#endif
