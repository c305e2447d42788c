/* A device that is only threads and memory, made to catch a scheduler that is
 * too early. Streams run their work in order, on threads of their own, with delays.
 *
 *  - A copy fills its destination with junk when it begins and reads its source when it ends.
 *  - A copy registers its source from the moment it is put on the stream, a kernel
 *    its weights while it runs. Whoever writes there meanwhile (a copy, or a fake
 *    read, through fake_device_check_write) is counted as a violation.
 *  - A copy to or from host memory that is not pinned is a violation; so is
 *    freeing or unpinning memory that work under way uses.
 *  - Fresh and freed memory is filled with junk. */
#ifndef HR_TESTS_FAKE_DEVICE_H
#define HR_TESTS_FAKE_DEVICE_H

#include "kernels/device/device.h"

struct fake_device_options {
	bool     host_addressable;
	uint64_t budget_bytes;  /* 0: no limit */
	int      copy_delay_us; /* a copy takes between half of this and all of it */
	int      fail_copy;     /* the n-th copy (from 1) breaks the device; 0: never */
	uint32_t seed;
};

struct hr_device *fake_device_open(const struct fake_device_options *options);

/* A kernel that reads `bytes` at `weights` twice, at its begin and after about `delay_us`,
 * and calls check(user, weights) both times on the stream's thread. */
int fake_device_launch(struct hr_stream *stream, const void *weights, size_t bytes, int delay_us,
                       void (*check)(void *user, const void *weights), void *user);

/* Somebody is about to write here. Any thread. */
void fake_device_check_write(struct hr_device *device, const void *base, size_t bytes);

int         fake_device_violations(struct hr_device *device);
const char *fake_device_first_violation(struct hr_device *device);  /* "" : none */
uint64_t    fake_device_live_allocations(struct hr_device *device); /* memory, pins, streams, events */

#endif
