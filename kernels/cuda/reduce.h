/* Sums and maxima over a warp or a block, in one fixed order: lanes 16 apart first,
 * then 8, 4, 2 and 1; then warps in order. All threads of the warp or block call. */
#ifndef HR_KERNELS_CUDA_REDUCE_H
#define HR_KERNELS_CUDA_REDUCE_H

#include "kernels/cuda/cuda.h"

static __device__ __forceinline__ float hr_warp_sum(float v)
{
#pragma unroll
	for (int d = HR_WARP / 2; d; d /= 2)
		v += __shfl_xor_sync(HR_ALL_LANES, v, d);
	return v;
}

static __device__ __forceinline__ float hr_warp_max(float v)
{
#pragma unroll
	for (int d = HR_WARP / 2; d; d /= 2)
		v = fmaxf(v, __shfl_xor_sync(HR_ALL_LANES, v, d));
	return v;
}

/* Sums of N values at once (a power of two, at most 32): lane l returns the sum of
 * value l / (32 / N), added up in hr_warp_sum()'s order. N - 1 shuffles and a few
 * instead of 5 N: in each step a lane gives half of its values away, until it has one.
 * A step is a call, since a loop over steps was not unrolled for N >= 16, and v was in memory then. */
template <int N, int KEPT = N> static __device__ __forceinline__ float hr_warp_sums(float (&v)[N])
{
	const int D = HR_WARP / 2 * KEPT / N;
	if constexpr (KEPT > 1) {
		bool upper = (int)threadIdx.x % HR_WARP & D;
#pragma unroll
		for (int i = 0; i < KEPT / 2; i++) {
			float keep = upper ? v[i + KEPT / 2] : v[i], give = upper ? v[i] : v[i + KEPT / 2];
			v[i] = keep + __shfl_xor_sync(HR_ALL_LANES, give, D);
		}
		return hr_warp_sums<N, KEPT / 2>(v);
	} else {
#pragma unroll
		for (int d = D; d; d /= 2)
			v[0] += __shfl_xor_sync(HR_ALL_LANES, v[0], d);
		return v[0];
	}
}

/* blockDim.x is a multiple of 32; a block may call it again after a barrier. */
static __device__ __forceinline__ float hr_block_sum(float v)
{
	HR_SHARED(float, sums, HR_WARP);
	int n_warps = (int)blockDim.x / HR_WARP, lane = (int)threadIdx.x % HR_WARP;
	v = hr_warp_sum(v);
	if (lane == 0)
		sums[threadIdx.x / HR_WARP] = v;
	__syncthreads();
	return hr_warp_sum(lane < n_warps ? sums[lane] : 0.0f);
}

#endif
