/* A reader without a disk. The bytes of a file are a function of its seed
 * (mtime_ns) and the offset, so that every byte that arrives anywhere can be
 * checked. Reads take their time, come back in any order, and fail on request.
 * Like a direct read, one covers the whole aligned superset of what was asked
 * for, with junk while it lasts. */
#ifndef HR_TESTS_FAKE_READER_H
#define HR_TESTS_FAKE_READER_H

#include "io/reader.h"
#include "kernels/device/device.h"

struct fake_reader_options {
	struct hr_device *device;     /* a fake one, told of every write; or NULL */
	int               n_threads;  /* reads in flight; 0: 4 */
	int               latency_us; /* a read takes between half of this and all of it; 0: none */
	bool              reorder;    /* a free thread takes any of the waiting reads */
	int               fail_read;  /* the n-th read (from 1) fails ... */
	int               fail_code;  /* ... with this code */
	uint32_t          seed;
};

struct hr_reader *fake_reader_open(const struct fake_reader_options *options);

uint8_t fake_file_byte(const struct hr_file *file, uint64_t offset);
/* 0: `bytes` at `memory` are what the file has at `offset`. */
int  fake_file_compare(const struct hr_file *file, uint64_t offset, const void *memory, uint64_t bytes);
void fake_file_fill(const struct hr_file *file, uint64_t offset, void *memory, uint64_t bytes);

int fake_reader_n_submitted(struct hr_reader *reader);
int fake_reader_n_misuses(struct hr_reader *reader); /* unaligned or overlapping destinations */

#endif
