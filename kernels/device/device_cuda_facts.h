/* What is known about a GPU, see device_cuda_facts.c. */
#ifndef HR_KERNELS_DEVICE_CUDA_FACTS_H
#define HR_KERNELS_DEVICE_CUDA_FACTS_H

#include "kernels/device/device.h"

/* Facts about GPU `ordinal`, as far as CUDA and NVML tell. Takes milliseconds. */
void hr__cuda_facts(int ordinal, struct hr_device_facts *out);

#endif
