/* What the files of the CUDA device share. */
#ifndef HR_KERNELS_DEVICE_CUDA_INTERNAL_H
#define HR_KERNELS_DEVICE_CUDA_INTERNAL_H

#include "kernels/device/device_cuda.h"

#include <cuda_runtime_api.h>
#include <pthread.h>
#include <stdatomic.h>

/* Device memory, or a registration of host memory. */
struct hr__cuda_block {
	void                  *memory; /* as handed out or in */
	void                  *base;   /* as CUDA or the system gave it; NULL: nothing to give back */
	size_t                 bytes;
	struct hr__cuda_block *next;
};

struct hr__cuda_device {
	struct hr_device      base; /* first */
	int                   ordinal;
	uint64_t              budget_bytes, margin_bytes;
	bool                  register_own; /* own memory is the host's and needs registering */
	struct hr_notice_sink notices;
	atomic_int            failed; /* the cudaError_t that made it so */
	atomic_bool           told_unregistered;
	void                 *marks; /* NVTX's domain; NULL: no profiler watches */

	pthread_mutex_t        lock; /* protects what follows; held while CUDA allocates */
	struct hr__cuda_block *blocks, *pins;
	uint64_t               allocated_bytes, peak_bytes;

	pthread_mutex_t clock_lock; /* protects what follows; a leaf */
	cudaStream_t    clock_stream;
	cudaEvent_t     anchor;
	uint64_t        anchor_ns;
};

static inline struct hr__cuda_device *hr__cuda(struct hr_device *device)
{
	return (struct hr__cuda_device *)device;
}

/* ---- Failure: device_cuda.c ---- */

/* The device is FAILED from now on; told once. HR_EDEVICE. */
int hr__cuda_fail(struct hr__cuda_device *d, int error, const char *text);
/* Any error but success is a failure. */
int hr__cuda_result(struct hr__cuda_device *d, cudaError_t error);
/* Make the GPU the calling thread's; HR_EDEVICE when the device is FAILED. */
int hr__cuda_enter(struct hr__cuda_device *d);
/* HR_EDEVICE with a sentence about what it was doing. */
int hr__cuda_fail_sentence(struct hr__cuda_device *d, const char *doing, struct hr_error *err);

/* ---- Memory: device_cuda_memory.c, as in device.h ---- */

int  hr__cuda_alloc(struct hr_device *device, void **out, size_t bytes, struct hr_error *err);
void hr__cuda_free(struct hr_device *device, void *memory);
int  hr__cuda_pin(struct hr_device *device, void *base, size_t bytes, struct hr_error *err);
void hr__cuda_unpin(struct hr_device *device, void *base);
int  hr__cuda_memory(struct hr_device *device, struct hr_device_memory *out);

/* ---- Streams, events and their clock: device_cuda_streams.c, as in device.h ---- */

int hr__cuda_stream_new(struct hr_device *device, struct hr_stream **out, bool compute, struct hr_error *err);
void hr__cuda_stream_free(struct hr_stream *stream);
int  hr__cuda_copy(struct hr_stream *stream, void *dst, const void *src, size_t bytes);

int      hr__cuda_event_new(struct hr_device *device, struct hr_event **out, struct hr_error *err);
void     hr__cuda_event_free(struct hr_event *event);
int      hr__cuda_event_record(struct hr_event *event, struct hr_stream *stream);
int      hr__cuda_stream_wait(struct hr_stream *stream, struct hr_event *event);
int      hr__cuda_event_wait(struct hr_event *event);
int      hr__cuda_event_query(struct hr_event *event);
uint64_t hr__cuda_event_time_ns(struct hr_event *event);

int  hr__cuda_open_clock(struct hr__cuda_device *d);
void hr__cuda_close_clock(struct hr__cuda_device *d);

/* ---- Marks: device_cuda_marks.c, as in device.h ---- */

void     hr__cuda_open_marks(struct hr__cuda_device *d);
void     hr__cuda_close_marks(struct hr__cuda_device *d);
uint64_t hr__cuda_mark_begin(struct hr_device *device, const char *what, const char *name);
void     hr__cuda_mark_end(struct hr_device *device, uint64_t mark);

#endif
