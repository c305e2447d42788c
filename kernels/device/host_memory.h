/* How much memory this process may still use, see host_memory.c. */
#ifndef HR_KERNELS_DEVICE_HOST_MEMORY_H
#define HR_KERNELS_DEVICE_HOST_MEMORY_H

#include <stdint.h>

/* Memory that this process may use in all and what of it could be had now. */
struct hr__host_memory {
	uint64_t total_bytes;
	uint64_t free_bytes;
};
void hr__host_memory_read(struct hr__host_memory *out);

/* Same, with files below `root` instead of "" (tests). */
void hr__host_memory_read_at(const char *root, struct hr__host_memory *out);

#endif
