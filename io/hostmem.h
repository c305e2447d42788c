/* Memory that reads land in: anonymous, huge pages where they can be had, on
 * the NUMA node of the device that will fetch from it. Aligned to
 * HR_IO_ALIGN at least (2 MiB when larger than that). Zero-filled. */
#ifndef HR_IO_HOSTMEM_H
#define HR_IO_HOSTMEM_H

#include "headrace/error.h"

#include <stdbool.h>
#include <stddef.h>

struct hr_hostmem {
	void  *base;
	size_t bytes; /* as mapped */
	bool   huge;  /* explicit or transparent huge pages were granted */
};

/* `node`: NUMA node, or -1. HR_ENOMEM. */
int  hr_hostmem_init(struct hr_hostmem *mem, size_t bytes, int node, struct hr_error *err);
void hr_hostmem_release(struct hr_hostmem *mem); /* a zeroed struct is fine */

/* Bytes this process may still lock or pin (RLIMIT_MEMLOCK); SIZE_MAX: no limit
 * (CAP_IPC_LOCK or an unlimited rlimit). */
size_t hr_hostmem_lockable_bytes(void);

#endif
