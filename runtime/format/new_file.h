/* A file that appears under its name only when it is whole and on the disk. */
#ifndef HR_RUNTIME_NEW_FILE_H
#define HR_RUNTIME_NEW_FILE_H

#include "headrace/error.h"

#include <stddef.h>
#include <stdint.h>

struct hr_new_file {
	const char *path;      /* borrowed */
	char       *temporary; /* its name until then; NULL: there is no file */
	int         fd;
	uint64_t    total_bytes;
};

/* Begin a file of `total_bytes` under a temporary name beside `path`, its bytes reserved where the file
 * system can promise that. HR_EIO: no room (how much is wanted and free), or what the system says;
 * HR_ENOMEM. hr__new_file_release() in any case. */
int hr__new_file_create(struct hr_new_file *f, const char *path, uint64_t total_bytes, struct hr_error *err);

/* From any thread. What is never written is zero. HR_EIO. */
int hr__new_file_write(struct hr_new_file *f, const void *data, size_t bytes, uint64_t offset,
                       struct hr_error *err);

/* Bring what was written to the disk; then, its name. What had that name before is replaced. HR_EIO. */
int hr__new_file_sync(struct hr_new_file *f, struct hr_error *err);
int hr__new_file_publish(struct hr_new_file *f, struct hr_error *err);

/* Removes what was not published; after _create(), also a failed one. */
void hr__new_file_release(struct hr_new_file *f);

#endif
