/* What the two attention kernels share: where a position's keys and values are. */
#ifndef HR_KERNELS_CUDA_ATTENTION_H
#define HR_KERNELS_CUDA_ATTENTION_H

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/ops.h"

/* First position that a token at `pos` sees. */
static __device__ __forceinline__ int hr_first_seen(int pos, int window)
{
	return window && pos >= window ? pos - window + 1 : 0;
}

/* Last one. */
static __device__ __forceinline__ int hr_last_seen(const hr__cuda_attn &a, int seq, int pos)
{
	return a.batch.length ? a.batch.length[seq] - 1 : pos;
}

static __device__ __forceinline__ float hr_capped(float score, float cap)
{
	return cap > 0 ? cap * tanhf(score / cap) : score;
}

/* sum + a . b, one element after the other. */
static __device__ __forceinline__ float hr_dot4(const float4 &a, const float4 &b, float sum)
{
	return fmaf(a.w, b.w, fmaf(a.z, b.z, fmaf(a.y, b.y, fmaf(a.x, b.x, sum))));
}

/* Row of head_dim elements, in k and in v, of position p of sequence seq. */
static __device__ __forceinline__ int64_t hr_kv_row(const hr__cuda_attn &a, int seq, int kv_head, int p)
{
	int64_t page = a.batch.page_table[(int64_t)seq * a.batch.max_pages + p / a.kv.page_tokens];
	return (page * a.kv.n_kv_heads + kv_head) * a.kv.page_tokens + p % a.kv.page_tokens;
}

static __device__ __forceinline__ float hr_kv_load(const __half *p) { return __half2float(*p); }
static __device__ __forceinline__ float hr_kv_load(const float *p) { return *p; }

static __device__ __forceinline__ float4 hr_kv_load4(const float *p) { return *(const float4 *)p; }
static __device__ __forceinline__ float4 hr_kv_load4(const __half *p)
{
	uint2 u = *(const uint2 *)p;
	return make_float4(__half2float(__ushort_as_half((unsigned short)u.x)),
	                   __half2float(__ushort_as_half((unsigned short)(u.x >> 16))),
	                   __half2float(__ushort_as_half((unsigned short)u.y)),
	                   __half2float(__ushort_as_half((unsigned short)(u.y >> 16))));
}

/* Elements d .. d+3 of a row of n; zeros behind the end. n % 4 == 0 means aligned rows. */
template <typename KV> static __device__ __forceinline__ float4 hr_kv_load4(const KV *row, int d, int n)
{
	if (n % 4 == 0)
		return hr_kv_load4(row + d);
	return make_float4(hr_kv_load(row + d), d + 1 < n ? hr_kv_load(row + d + 1) : 0.0f,
	                   d + 2 < n ? hr_kv_load(row + d + 2) : 0.0f,
	                   d + 3 < n ? hr_kv_load(row + d + 3) : 0.0f);
}

#endif
