/* y[t][r] (+)= sum_k W[r][k] x[t][k] + bias[r] for 1 to 8 tokens, weights in f32, f16 or
 * bf16. One reading of the weights is all that matters: 2 rows * cols bytes in f16.
 *
 * A warp does R rows (2, or 4 from 3 tokens on, so that an x that was loaded serves more
 * weights). A lane takes 16 bytes of weights at 16 * (lane + 32 i): loads are whole lines,
 * marked to pass L1 by, and U of them in each of R rows are on their way before the first
 * is used: 8 * 512 bytes a warp, 16 warps on each of 132 multiprocessors: 8.6 MB, twice
 * what 4.8 TB/s * 0.8 us need. x is read from L1, 4 bytes a token for 2 R bytes of f16.
 * Instructions a weight at one token: 1/8 load, 1 conversion, 1 FMA, 1/8 for x: less than 3,
 * where 128 a clock may issue and 10.4 weights a clock arrive: 25 %.
 *
 * The sum's order depends on cols and the type alone: lane l adds its elements in order, then
 * hr_warp_sum()'s tree. Rows that don't begin at 16 bytes (or x that does not) are loaded in
 * smaller pieces, by the same lanes in the same order. */
#include "kernels/cuda/matvec.h"

enum { WARPS = 4 };

/* A lane's E elements from k on, zeros behind the end. Aligned: all or none is there. */
template <int TYPE, bool ALIGNED, int E>
static __device__ __forceinline__ void convert(const uint4 &raw, const uint8_t *row, int k, int cols,
                                               float (&w)[E])
{
	if constexpr (ALIGNED) {
		hr_float<TYPE>::words(raw, w);
	} else {
#pragma unroll
		for (int i = 0; i < E; i++)
			w[i] = k + i < cols ? hr_float<TYPE>::load(row + (size_t)(k + i) * hr_float<TYPE>::BYTES) : 0.0f;
	}
}

template <bool ALIGNED, int E>
static __device__ __forceinline__ void load_x(const float *x, int k, int cols, float (&v)[E])
{
#pragma unroll
	for (int i = 0; i < E; i += 4) {
		if constexpr (ALIGNED) {
			float4 f = *(const float4 *)(x + k + i);
			v[i] = f.x, v[i + 1] = f.y, v[i + 2] = f.z, v[i + 3] = f.w;
		} else {
#pragma unroll
			for (int j = i; j < i + 4; j++)
				v[j] = k + j < cols ? x[k + j] : 0.0f;
		}
	}
}

template <int TYPE, int T, bool ALIGNED>
static __global__ void __launch_bounds__(WARPS *HR_WARP)
    matvec_float_kernel(hr_matvec_products list, const float *x, int n_tokens)
{
	const int         R = T <= 2 ? 2 : 4, U = 8 / R, E = 16 / hr_float<TYPE>::BYTES, STEP = HR_WARP * E;
	hr_matvec_product p = hr_matvec_product_of(list, (int)blockIdx.x);
	int               lane = (int)threadIdx.x % HR_WARP, cols = list.cols;
	int               first = (((int)blockIdx.x - p.first_block) * WARPS + (int)threadIdx.x / HR_WARP) * R;
	if (first >= p.rows)
		return;
	const uint8_t *rows[R];
	float          sums[T * R];
#pragma unroll
	for (int r = 0; r < R; r++)
		rows[r] = p.w + (size_t)(first + r < p.rows ? first + r : first) * p.row_bytes;
#pragma unroll
	for (int i = 0; i < T * R; i++)
		sums[i] = 0;

	for (int begin = lane * E; begin < cols; begin += U * STEP) {
		uint4 raw[U][R];
#pragma unroll
		for (int u = 0; u < U; u++)
#pragma unroll
			for (int r = 0; r < R; r++)
				if (ALIGNED && begin + u * STEP < cols)
					raw[u][r] = __ldcs((const uint4 *)rows[r] + (begin + u * STEP) / E);
#pragma unroll
		for (int u = 0; u < U; u++) {
			int   k = begin + u * STEP;
			float w[R][E], v[E];
			if (k >= cols)
				break;
#pragma unroll
			for (int r = 0; r < R; r++)
				convert<TYPE, ALIGNED>(raw[u][r], rows[r], k, cols, w[r]);
#pragma unroll
			for (int t = 0; t < T; t++) {
				if (t >= n_tokens)
					break;
				load_x<ALIGNED>(x + (int64_t)t * cols, k, cols, v);
#pragma unroll
				for (int r = 0; r < R; r++)
#pragma unroll
					for (int i = 0; i < E; i++)
						sums[t * R + r] = fmaf(w[r][i], v[i], sums[t * R + r]);
			}
		}
	}
	hr_matvec_finish<T, R>(sums, p, first, n_tokens);
}

/* Do all rows, of the weights and of x, begin at 16 bytes? */
static bool is_aligned(const hr_matvec_products *list, const float *x)
{
	bool aligned = (uintptr_t)x % 16 == 0 && list->cols % 4 == 0;
	for (int i = 0; i < list->n; i++)
		aligned = aligned && (uintptr_t)list->p[i].w % 16 == 0 && list->p[i].row_bytes % 16 == 0;
	return aligned;
}

template <int TYPE, int T>
static int launch(struct hr_stream *stream, const struct hr_matmul *products, int n_products, const float *x,
                  int32_t n_tokens)
{
	hr_matvec_products list = hr_matvec_list(products, n_products, WARPS * (T <= 2 ? 2 : 4), 0);
	auto               kernel =
        is_aligned(&list, x) ? matvec_float_kernel<TYPE, T, true> : matvec_float_kernel<TYPE, T, false>;
	return hr_cuda_launch(stream, "matvec_float", kernel, dim3((unsigned)list.n_blocks),
	                      dim3(WARPS * HR_WARP), 0, list, x, (int)n_tokens);
}

template <int TYPE>
static int launch_for(struct hr_stream *stream, const struct hr_matmul *products, int n_products,
                      const float *x, int32_t n_tokens)
{
	auto f = n_tokens == 1   ? launch<TYPE, 1>
	         : n_tokens == 2 ? launch<TYPE, 2>
	         : n_tokens <= 4 ? launch<TYPE, 4>
	                         : launch<TYPE, 8>;
	return f(stream, products, n_products, x, n_tokens);
}

int hr__cuda_matvec_float(struct hr_stream *stream, const struct hr_matmul *products, int n_products,
                          const float *x, int32_t n_tokens)
{
	switch (products[0].w.type) {
	case HR_TYPE_F32:
		return launch_for<HR_TYPE_F32>(stream, products, n_products, x, n_tokens);
	case HR_TYPE_F16:
		return launch_for<HR_TYPE_F16>(stream, products, n_products, x, n_tokens);
	default:
		return launch_for<HR_TYPE_BF16>(stream, products, n_products, x, n_tokens);
	}
}
