/* The k best of each row of x[n][cols]: largest value first, of equal ones the lower column.
 *
 * A value and its column become one number of 64 bits that orders as they do (hr_key), so that a
 * maximum of integers is all there is to find, and no order of work can change it. A block takes
 * PIECE columns, 16 a thread in registers, and k times its largest key out of them; a thread looks at
 * its 16 again only when it was its own. The k best of every piece are the next launch's columns,
 * until there is one piece: two launches up to 262144 columns with k = 64, 128k columns read once
 * and 32 * 8 k bytes written. k rounds of one barrier each: about 0.5 us a round. */
#include "kernels/cuda/cuda.h"

#include "kernels/cuda/ops.h"

enum { THREADS = 256, EACH = 16, PIECE = THREADS * EACH, WARPS = THREADS / HR_WARP };

/* Of floats -0 counts as 0, and a NaN is less than all; no key of a column is 0. */
static __device__ __forceinline__ uint64_t hr_key(float v, int column)
{
	unsigned bits = __float_as_uint(v == 0.0f ? 0.0f : v);
	unsigned order = v != v ? 0u : bits >> 31 ? ~bits : bits | 0x80000000u;
	return (uint64_t)order << 32 | (unsigned)~column;
}

static __device__ __forceinline__ hr_top hr_key_opened(uint64_t key)
{
	unsigned order = (unsigned)(key >> 32);
	hr_top   top = {__uint_as_float(order >> 31 ? order & 0x7fffffffu : ~order), (int32_t) ~(unsigned)key};
	return top;
}

static __device__ __forceinline__ uint64_t larger(uint64_t a, uint64_t b) { return a > b ? a : b; }

struct top_args {
	const float    *x;    /* [n][cols], or ... */
	const uint64_t *from; /* ... keys [n][cols] of an earlier launch */
	uint64_t       *to;   /* keys [n][pieces][k], or ... */
	hr_top         *top;  /* ... in the last launch [n][k] */
	int             cols, k;
};

static __global__ void __launch_bounds__(THREADS) top_kernel(top_args a)
{
	HR_SHARED(uint64_t, best, 2 * WARPS); /* of each warp; this round's and the last one's */
	int      row = (int)blockIdx.y, piece = (int)blockIdx.x, n_pieces = (int)gridDim.x;
	int      lane = (int)threadIdx.x % HR_WARP, warp = (int)threadIdx.x / HR_WARP;
	uint64_t keys[EACH], mine = 0;
#pragma unroll
	for (int i = 0; i < EACH; i++) {
		int     column = piece * PIECE + i * THREADS + (int)threadIdx.x;
		int64_t at = (int64_t)row * a.cols + column;
		keys[i] = column >= a.cols ? 0 : a.x ? hr_key(a.x[at], column) : a.from[at];
		mine = larger(mine, keys[i]);
	}
	for (int r = 0; r < a.k; r++) {
		uint64_t *shared = best + r % 2 * WARPS, all = mine;
#pragma unroll
		for (int d = HR_WARP / 2; d; d /= 2)
			all = larger(all, __shfl_xor_sync(HR_ALL_LANES, all, d));
		if (lane == 0)
			shared[warp] = all;
		__syncthreads();
#pragma unroll
		for (int w = 0; w < WARPS; w++)
			all = larger(all, shared[w]);
		if (threadIdx.x == 0 && a.top)
			a.top[(int64_t)row * a.k + r] = hr_key_opened(all);
		if (threadIdx.x == 0 && !a.top)
			a.to[((int64_t)row * n_pieces + piece) * a.k + r] = all;
		if (mine == all) {
			mine = 0;
#pragma unroll
			for (int i = 0; i < EACH; i++) {
				keys[i] = keys[i] == all ? 0 : keys[i];
				mine = larger(mine, keys[i]);
			}
		}
	}
}

/* Bytes for the keys between launches, of one row; there are two such buffers. */
static size_t row_bytes(int32_t cols, int32_t k)
{
	return (size_t)hr_div_up(cols, PIECE) * (size_t)k * sizeof(uint64_t);
}

size_t hr__cuda_top_scratch_bytes(int32_t max_cols) { return 2 * row_bytes(max_cols, HR_TOP_MAX); }

/* n rows, for which there is scratch. */
static int find(struct hr_stream *stream, hr_top *top, const float *x, int32_t n, int32_t cols, int32_t k,
                char *scratch, size_t buffer_bytes)
{
	top_args a = {x, NULL, NULL, NULL, cols, k};
	int      rc = 0;
	for (int i = 0; !rc && !a.top; i++) {
		int n_pieces = (int)hr_div_up(a.cols, PIECE);
		a.to = (uint64_t *)(scratch + i % 2 * buffer_bytes);
		a.top = n_pieces == 1 ? top : NULL;
		rc = hr_cuda_launch(stream, "top", top_kernel, dim3((unsigned)n_pieces, (unsigned)n), dim3(THREADS),
		                    0, a);
		a.x = NULL;
		a.from = a.to;
		a.cols = n_pieces * k;
	}
	return rc;
}

int hr__cuda_top(struct hr_ops *ops, struct hr_stream *stream, struct hr_top *top, const float *x, int32_t n,
                 int32_t cols, int32_t k)
{
	size_t bytes = row_bytes(cols, k), scratch = hr__cuda_scratch_bytes(ops);
	if (n < 0 || cols < 1 || k < 1 || k > HR_TOP_MAX || k > cols || scratch < 2 * bytes)
		return HR_EINVAL;
	int32_t fit = (int32_t)(scratch / (2 * bytes) < 65535 ? scratch / (2 * bytes) : 65535);
	int     rc = 0;
	for (int32_t done = 0, now; !rc && done < n; done += now) {
		now = n - done < fit ? n - done : fit;
		rc = find(stream, top + (int64_t)done * k, x + (int64_t)done * cols, now, cols, k,
		          (char *)ops->workspace, (size_t)now * bytes);
	}
	return rc;
}
