/* The part of NVIDIA's header of that name that Headrace uses, for the CUDA-on-CPU layer. */
#ifndef CUDA_ON_CPU_CUDA_BF16_H
#define CUDA_ON_CPU_CUDA_BF16_H

#include "kernels/half.h"

struct __nv_bfloat16 {
	unsigned short x;
};

static inline __nv_bfloat16  __ushort_as_bfloat16(unsigned short u) { return __nv_bfloat16{u}; }
static inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 h) { return h.x; }
static inline float          __bfloat162float(__nv_bfloat16 h) { return hr__bf16_to_f32(h.x); }
static inline __nv_bfloat16  __float2bfloat16_rn(float f) { return __nv_bfloat16{hr__f32_to_bf16(f)}; }

#endif
