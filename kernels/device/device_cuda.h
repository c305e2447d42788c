/* An NVIDIA GPU as a device, see device_cuda.c. */
#ifndef HR_KERNELS_DEVICE_CUDA_H
#define HR_KERNELS_DEVICE_CUDA_H

#include "kernels/device/device.h"

#ifdef __cplusplus
extern "C" {
#endif

struct hr_device_cuda_options {
	int                   ordinal;      /* as the CUDA runtime counts, CUDA_VISIBLE_DEVICES respected */
	uint64_t              budget_bytes; /* most that alloc() hands out; 0: no limit but the card's */
	struct hr_notice_sink notices;      /* called from any thread */
};

/* HR_EUNSUPPORTED: no driver, too old a driver, no GPU, too old a GPU. HR_EINVAL:
 * no GPU of that number. HR_EDEVICE, HR_ENOMEM. */
int hr_device_cuda_open(struct hr_device **out, const struct hr_device_cuda_options *options,
                        struct hr_error *err);

/* Is there a driver, or a card without one? Where neither is, nobody expects a GPU
 * and none need be told that there is none. */
bool hr_device_cuda_expected(void);

/* ---- For the kernels ---- */

/* The cudaStream_t to launch on. Makes its GPU the calling thread's current one. */
void *hr_cuda_stream(struct hr_stream *stream);

/* What a CUDA or cuBLAS call on `stream` returned: 0 for success; otherwise the
 * device is FAILED from now on, its user is told what `error_text` says of it, and
 * HR_EDEVICE is returned. */
int hr_cuda_check(struct hr_stream *stream, int error, const char *error_text);

#ifdef __cplusplus
}
#endif
#endif
