/* CUDA that runs without a GPU: the runtime half of the test-only layer.
 *
 * A make-believe machine with one or more make-believe GPUs. Device memory is
 * host memory of its own, capped, filled with NaNs when it is allocated and
 * gone for good (any touch faults) when it is freed, with a guard page on either
 * side. A stream is a thread that works its queue off in order; copies to and
 * from registered memory are asynchronous, those to and from other host memory
 * wait where CUDA's do. Errors come as CUDA's do: at the call, or from work on a
 * stream, and then they stick until reset.
 *
 * It is stricter than CUDA where that finds bugs:
 *  - a copy fills its destination with NaNs when it begins and copies when it ends;
 *  - host memory that changes under a copy out of it is a misuse (an early refill);
 *  - so is unregistering memory under a copy, and destroying what is not there;
 *  - the default stream is refused, because it would wait for the whole device;
 *  - whatever still lives when the process ends is told, and makes it end with 99.
 *
 * The environment variable CUDA_ON_CPU describes the machine to programs that
 * can't call this: "memory=64,held=16,rate=0.5,devices=1,driver=13000,jitter=50,
 * integrated=1,no_nvml=1,no_cublas=1,hold=cudaMalloc:1:40,fail=cudaMalloc:3:2", MiB, GB/s and
 * microseconds; hold=call:n:MiB, fail=call:n:error.
 *
 * It proves nothing about speed, and real GPUs remain the judge. */
#ifndef CUDA_ON_CPU_RUNTIME_H
#define CUDA_ON_CPU_RUNTIME_H

#include "cuda_runtime_api.h"

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct cuda_on_cpu_machine {
	int      n_devices;
	int      driver_version; /* as 13000; 0: no driver is installed */
	int      major, minor;   /* compute capability */
	bool     integrated;     /* the GPU has no memory of its own and reads the host's */
	bool     no_register;    /* the kernel refuses to register host memory */
	bool     no_nvml;        /* the driver came without it */
	bool     no_cublas;      /* it is not installed */
	bool     profiler;       /* one watches through NVTX */
	size_t   memory_bytes;   /* of each device */
	double   copy_gb_per_s;  /* each direction; 0: as fast as they go */
	int      jitter_us;      /* work on a stream begins up to this much later */
	uint32_t seed;
};

/* Another machine, with no calls made and no errors; NULL: one device of 512 MiB.
 * Nothing may be alive (returns how many things are, and leaves it at that). */
int  cuda_on_cpu_reset(const struct cuda_on_cpu_machine *machine);
void cuda_on_cpu_machine_init(struct cuda_on_cpu_machine *machine);

/* Another process holds so much of each device: from now on, or from the n-th
 * (from 1) call of `call` on. */
void cuda_on_cpu_hold(size_t bytes);
void cuda_on_cpu_hold_later(const char *call, int n, size_t bytes);
/* The n-th (from 1) call of `call` (NULL: of any) from now on returns `error`,
 * and later ones too if it is of the sticky kind. */
void cuda_on_cpu_fail(const char *call, int n, cudaError_t error);
/* The n-th copy or kernel from now on fails when it runs; the error sticks. */
void cuda_on_cpu_fail_work(int n, cudaError_t error);

int      cuda_on_cpu_n_calls(void);       /* since reset */
int      cuda_on_cpu_n_work(void);        /* copies and kernels put on streams since reset */
uint64_t cuda_on_cpu_bytes_to_host(void); /* copied since reset */
/* Ranges of NVTX whose names begin with this word, begun since reset. */
int cuda_on_cpu_n_ranges(const char *what);
/* Allocations, registrations, streams and events that exist, and ranges that have not ended. */
int cuda_on_cpu_n_live(void);
/* The first misuse since reset, or "". */
const char *cuda_on_cpu_misuse(void);

/* A kernel of a test: fn(user) on the stream's thread. */
cudaError_t cuda_on_cpu_launch(cudaStream_t stream, void (*fn)(void *user), void *user);

/* For the rest of the layer. Every entry point begins with enter(): it counts the
 * call and returns the error that it is to fail with. */
cudaError_t cuda_on_cpu_enter(const char *call);
/* Work on a stream found an error (a trap, a bad address); it sticks. */
void cuda_on_cpu_raise(cudaError_t error);
/* Note `error` as the thread's last one; returns it. */
cudaError_t cuda_on_cpu_return(cudaError_t error);

#ifdef __cplusplus
}

#include <functional>

/* Put a kernel on a stream. Errors come back through cudaGetLastError(). */
void cuda_on_cpu_enqueue(cudaStream_t stream, std::function<void()> work);
#endif
#endif
