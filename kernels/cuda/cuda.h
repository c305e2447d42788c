/* What all .cu files share: CUDA's headers, the way to launch a kernel, and the few
 * things that nvcc and the CUDA-on-CPU layer of the tests (tests/cuda_on_cpu/) say
 * differently. No other file here knows that there are two. */
#ifndef HR_KERNELS_CUDA_CUDA_H
#define HR_KERNELS_CUDA_CUDA_H

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <math.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/device/device_cuda.h"

#define HR_WARP      32
#define HR_ALL_LANES 0xffffffffu

/* ---- Shared memory ----
 *   HR_SHARED(float, sums, 32);      float sums[32] of the block, aligned to 16 bytes
 *   HR_SHARED_DYNAMIC(float, tile);  float *tile, as large as the launch says
 *
 * hr_copy16_async() copies 16 aligned bytes from global to shared memory in the
 * background; a thread's own copies of all groups but the newest N have arrived after
 * hr_copies_wait<N>(), and other threads see them after a barrier. */
#ifdef __CUDACC__

#define HR_SHARED(type, name, count) __shared__ __align__(16) type name[count]
#define HR_SHARED_DYNAMIC(type, name)                                                                        \
	extern __shared__ __align__(16) unsigned char hr__dynamic_shared[];                                      \
	type                                         *name = (type *)hr__dynamic_shared

static __device__ __forceinline__ void hr_copy16_async(void *shared, const void *global)
{
	asm volatile(
	    "cp.async.cg.shared.global [%0], [%1], 16;" ::"r"((unsigned)__cvta_generic_to_shared(shared)),
	    "l"(global)
	    : "memory");
}
static __device__ __forceinline__ void hr_copies_commit(void)
{
	asm volatile("cp.async.commit_group;" ::: "memory");
}
template <int N> static __device__ __forceinline__ void hr_copies_wait(void)
{
	asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

#else

#define HR_SHARED(type, name, count)                                                                         \
	type *name = (type *)cuda_on_cpu::shared_array(                                                          \
	    []() -> const void * {                                                                               \
		    static const char key = 0;                                                                       \
		    return &key;                                                                                     \
	    }(),                                                                                                 \
	    sizeof(type) * (count))
#define HR_SHARED_DYNAMIC(type, name) type *name = (type *)cuda_on_cpu::dynamic_shared()

static inline void hr_copy16_async(void *shared, const void *global)
{
	cuda_on_cpu::copy_async(shared, global, 16);
}
static inline void                  hr_copies_commit(void) { cuda_on_cpu::commit_copies(); }
template <int N> static inline void hr_copies_wait(void) { cuda_on_cpu::wait_for_copies(N); }

#endif

/* ---- Launching ---- */

/* kernel<<<grid, block, shared_bytes>>>(args...) on `stream`; 0 or HR_EDEVICE. */
template <typename... P, typename... A>
static int hr_cuda_launch(struct hr_stream *stream, const char *name, void (*kernel)(P...), dim3 grid,
                          dim3 block, size_t shared_bytes, A... args)
{
	cudaStream_t cuda = (cudaStream_t)hr_cuda_stream(stream);
#ifdef __CUDACC__
	(void)name;
	kernel<<<grid, block, shared_bytes, cuda>>>(P(args)...);
#else
	cuda_on_cpu::launch(name, grid, block, shared_bytes, cuda, [=] { kernel(P(args)...); });
#endif
	cudaError_t error = cudaGetLastError();
	return hr_cuda_check(stream, error, cudaGetErrorString(error));
}

/* ---- Small things ---- */

static inline __host__ __device__ int64_t hr_div_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

#endif
