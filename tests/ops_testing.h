/* What tests of the CPU operations share: the operations of each instruction set
 * this machine has, on any number of threads; random numbers; outputs that are
 * poisoned before and fenced in. */
#ifndef HR_TESTS_OPS_TESTING_H
#define HR_TESTS_OPS_TESTING_H

#include "kernels/ops.h"
#include "tests/random_blocks.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const test_isas[] = {"portable", "avx2", "avx512", "amx"};

struct rig {
	struct hr_device *device;
	struct hr_stream *stream;
	struct hr_event  *event;
	struct hr_ops    *ops;
};

/* False: this machine lacks the instruction set. */
static inline bool rig_open(struct rig *r, const char *isa, int n_threads)
{
	struct hr_device_host_options options = {.n_threads = n_threads};
	assert_int_equal(hr_device_host_open(&r->device, &options, NULL), 0);
	int rc = hr_ops_cpu_open(&r->ops, r->device, isa, NULL);
	if (rc) {
		assert_int_equal(rc, HR_EUNSUPPORTED);
		r->device->ops->close(r->device);
		return false;
	}
	assert_int_equal(r->device->ops->stream_new(r->device, &r->stream, true, NULL), 0);
	assert_int_equal(r->device->ops->event_new(r->device, &r->event, NULL), 0);
	return true;
}

static inline void rig_finish(struct rig *r)
{
	assert_int_equal(r->device->ops->event_record(r->event, r->stream), 0);
	assert_int_equal(r->device->ops->event_wait(r->event), 0);
}

static inline void rig_close(struct rig *r)
{
	r->ops->table->close(r->ops);
	r->device->ops->event_free(r->event);
	r->device->ops->stream_free(r->stream);
	r->device->ops->close(r->device);
}

#define FENCE 40

/* n floats of NaN between fences, one element off any alignment. */
static inline float *fenced_new(size_t n)
{
	float *p = malloc((n + 2 * FENCE + 1) * sizeof(*p));
	assert_non_null(p);
	for (size_t i = 0; i < n + 2 * FENCE + 1; i++)
		p[i] = i < FENCE + 1 || i >= FENCE + 1 + n ? 12345.0f : NAN;
	return p + FENCE + 1;
}

static inline void fenced_free(float *p, size_t n)
{
	for (int i = 1; i <= FENCE; i++) {
		assert_true(p[-i] == 12345.0f);
		assert_true(p[n + (size_t)i - 1] == 12345.0f);
	}
	free(p - FENCE - 1);
}

static inline float *random_new(size_t n, float size, uint32_t *seed)
{
	float *p = fenced_new(n);
	for (size_t i = 0; i < n; i++)
		p[i] = size * random_float(seed);
	return p;
}

static inline void assert_near(const char *what, size_t i, double got, double want, double tolerance)
{
	if (!(fabs(got - want) <= tolerance))
		fail_msg("%s[%zu] is %.9g, should be %.9g +- %.2g", what, i, got, want, tolerance);
}

#endif
