/* Memory of the host that serves as device memory, see host_map.c. */
#ifndef HR_KERNELS_DEVICE_HOST_MAP_H
#define HR_KERNELS_DEVICE_HOST_MAP_H

#include <stddef.h>

/* `bytes`, a multiple of 4096, on a 2 MiB boundary if as large as that. NULL with
 * errno set: the system refused. */
void *hr__host_map(size_t bytes);
void  hr__host_unmap(void *base, size_t bytes);

#endif
