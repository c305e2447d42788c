/* CUDA that runs without a GPU: the kernel half of the test-only layer, what a
 * .cu file finds when g++ compiles it as C++.
 *
 * A launch becomes a task on a stream. It runs the blocks of the grid one after
 * the other, in an order that changes from launch to launch, and every thread of
 * a block as a fiber: it runs on until it meets a barrier or a warp function, and
 * the order in which fibers get their turn changes from block to block. A kernel
 * that lacks a barrier therefore reads what has not been written, or reads it
 * too late, and its result is wrong in every test that looks.
 *
 * It is stricter than CUDA where that finds bugs:
 *  - all threads of a block must meet at the same __syncthreads() in the source,
 *    and none may have left the kernel by then;
 *  - all lanes of a mask must meet at the same warp function, and read from lanes of
 *    that mask only;
 *  - shared memory starts as NaNs, stands between fences that are looked at when the
 *    block ends, and is heap memory of its own, so that AddressSanitizer sees a
 *    step beside it;
 *  - an asynchronous copy to shared memory arrives when it is waited for, not before.
 * What breaks a rule is told on stderr, with kernel, block and thread, and aborts.
 *
 * Device code must say HR_SHARED() and HR_LAUNCH() (kernels/cuda/cuda.h). */
#ifndef CUDA_ON_CPU_KERNEL_H
#define CUDA_ON_CPU_KERNEL_H

#include "runtime.h"

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>

#define __global__
#define __device__
#define __host__
#define __constant__    static const
#define __forceinline__ inline
#define __launch_bounds__(...)

struct dim3 {
	unsigned x, y, z;
	constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
struct uint3 {
	unsigned x, y, z;
};

#define CUDA_ON_CPU_VECTORS(X, type, name)                                                                   \
	struct alignas(2 * sizeof(type)) name##2 { type x, y; };                                                 \
	struct alignas(4 * sizeof(type)) name##4 { type x, y, z, w; };                                           \
	static inline name##2 make_##name##2(type x, type y) { return name##2 {x, y}; }                          \
	static inline name##4 make_##name##4(type x, type y, type z, type w) { return name##4 {x, y, z, w}; }
CUDA_ON_CPU_VECTORS(X, float, float)
CUDA_ON_CPU_VECTORS(X, int, int)
CUDA_ON_CPU_VECTORS(X, unsigned, uint)
#undef CUDA_ON_CPU_VECTORS

extern __thread uint3 threadIdx, blockIdx;
extern __thread dim3  blockDim, gridDim;
static const int      warpSize = 32;

namespace cuda_on_cpu
{

/* Where in the source a call stands; two calls meet when they have the same. As
 * default arguments, so that it is the caller's place. */
struct Place {
	const char *file;
	int         line;
};
#define CUDA_ON_CPU_HERE const char *file = __builtin_FILE(), int line = __builtin_LINE()

/* Run the grid here and now; what a launch does on its stream. */
void run_grid(const char *kernel, dim3 grid, dim3 block, size_t shared_bytes,
              const std::function<void()> &thread);
void launch(const char *kernel, dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream,
            std::function<void()> thread);
/* All later orders follow from this number; each launch uses another one. */
void seed_orders(uint32_t seed);

void barrier(Place place);
/* Meet the lanes of `mask`; returns what lane `source` brought. `source` is taken
 * modulo 32 and must be in the mask. *brought, if not NULL: what each lane did. */
uint64_t meet(unsigned mask, uint64_t value, int source, uint64_t *brought, Place place);
int      lane();

/* The block's shared array of a place in the source; *key is its identity. */
void *shared_array(const void *key, size_t bytes);
void *dynamic_shared();

void copy_async(void *shared, const void *global, size_t bytes);
void commit_copies();
void wait_for_copies(int n_pending_groups);

template <typename T> inline uint64_t to_bits(T value)
{
	static_assert(sizeof(T) <= 8, "a lane brings at most eight bytes");
	uint64_t bits = 0;
	memcpy(&bits, &value, sizeof value);
	return bits;
}

template <typename T> inline T of_bits(uint64_t bits)
{
	T value;
	memcpy(&value, &bits, sizeof value);
	return value;
}

} // namespace cuda_on_cpu

/* ---- Threads that meet ---- */

static inline void __syncthreads(CUDA_ON_CPU_HERE) { cuda_on_cpu::barrier({file, line}); }

static inline void __syncwarp(unsigned mask = ~0u, CUDA_ON_CPU_HERE)
{
	cuda_on_cpu::meet(mask, 0, cuda_on_cpu::lane(), nullptr, {file, line});
}

template <typename T> inline T __shfl_sync(unsigned mask, T value, int source, CUDA_ON_CPU_HERE)
{
	return cuda_on_cpu::of_bits<T>(
	    cuda_on_cpu::meet(mask, cuda_on_cpu::to_bits(value), source, nullptr, {file, line}));
}

template <typename T> inline T __shfl_xor_sync(unsigned mask, T value, int with, CUDA_ON_CPU_HERE)
{
	return __shfl_sync(mask, value, cuda_on_cpu::lane() ^ with, file, line);
}

static inline unsigned __ballot_sync(unsigned mask, int yes, CUDA_ON_CPU_HERE)
{
	uint64_t brought[32];
	unsigned ballot = 0;
	cuda_on_cpu::meet(mask, yes != 0, cuda_on_cpu::lane(), brought, {file, line});
	for (int i = 0; i < 32; i++)
		ballot |= (mask >> i & 1 && brought[i]) ? 1u << i : 0;
	return ballot;
}

/* ---- Arithmetic ---- */

static inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }

static inline int __dp4a(int a, int b, int c)
{
	for (int i = 0; i < 4; i++)
		c += (int8_t)((unsigned)a >> 8 * i) * (int8_t)((unsigned)b >> 8 * i);
	return c;
}

/* Nibble i of `selector` chooses byte i out of high:low; one above 7 the sign of its byte, which nobody
 * wants. */
static inline unsigned __byte_perm(unsigned low, unsigned high, unsigned selector)
{
	uint64_t bytes = (uint64_t)high << 32 | low;
	unsigned out = 0;
	for (int i = 0; i < 4; i++)
		out |= (unsigned)(bytes >> 8 * (selector >> 4 * i & 7) & 255) << 8 * i;
	return out;
}

/* The low word of hi:lo >> min(shift, 32). */
static inline unsigned __funnelshift_rc(unsigned lo, unsigned hi, unsigned shift)
{
	return shift >= 32 ? hi : (unsigned)(((uint64_t)hi << 32 | lo) >> shift);
}

static inline unsigned __float_as_uint(float x)
{
	return cuda_on_cpu::of_bits<unsigned>(cuda_on_cpu::to_bits(x));
}
static inline float __uint_as_float(unsigned x)
{
	return cuda_on_cpu::of_bits<float>(cuda_on_cpu::to_bits(x));
}

template <typename T> inline T __ldg(const T *p) { return *p; }
template <typename T> inline T __ldcs(const T *p) { return *p; }

/* Every block here may have all the shared memory it asks for. */
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
template <typename F> inline cudaError_t cudaFuncSetAttribute(F *, cudaFuncAttribute, int)
{
	return cudaSuccess;
}

#endif
