/* Finding a GPU, see device_cuda_find.c. */
#ifndef HR_KERNELS_DEVICE_CUDA_FIND_H
#define HR_KERNELS_DEVICE_CUDA_FIND_H

#include "headrace/error.h"

#include <cuda_runtime_api.h>
#include <stdbool.h>

/* The properties of GPU `ordinal`, or a sentence why it can't be used:
 * HR_EUNSUPPORTED, HR_EINVAL, HR_EDEVICE. */
int hr__cuda_find(int ordinal, struct cudaDeviceProp *out, struct hr_error *err);

/* Is there an NVIDIA display controller in this directory of PCI devices, as in sysfs? */
bool hr__cuda_card_in(const char *directory);

#endif
