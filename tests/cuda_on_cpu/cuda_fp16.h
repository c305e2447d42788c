/* The part of NVIDIA's header of that name that Headrace uses, for the CUDA-on-CPU layer. */
#ifndef CUDA_ON_CPU_CUDA_FP16_H
#define CUDA_ON_CPU_CUDA_FP16_H

#include "kernels/half.h"

struct __half {
	unsigned short x;
};
struct alignas(4) __half2 {
	__half x, y;
};

static inline __half         __ushort_as_half(unsigned short u) { return __half{u}; }
static inline unsigned short __half_as_ushort(__half h) { return h.x; }
static inline float          __half2float(__half h) { return hr__f16_to_f32(h.x); }
static inline __half         __float2half_rn(float f) { return __half{hr__f32_to_f16(f)}; }

#endif
