/* y[t][r] (+)= sum_c W[c * column_stride + r] x[t][c] + bias[r] for 1 to 8 tokens, weights in
 * f32, f16 or bf16 that are stored by columns (GPT-2's).
 *
 * A block does 32 rows, one per lane, so that a warp reads 32 neighbours of a column; its 8 warps
 * take every 8th column each, and their sums are added up in order. The order follows from cols
 * alone. Element loads: half of the bandwidth in f16, for models that are small. */
#include "kernels/cuda/matvec.h"

enum { WARPS = 8 };

template <int TYPE, int T>
static __global__ void __launch_bounds__(WARPS *HR_WARP)
    matvec_columns_kernel(hr_matvec_products list, const float *x, int n_tokens)
{
	HR_SHARED(float, parts, T *WARPS *HR_WARP);
	hr_matvec_product p = hr_matvec_product_of(list, (int)blockIdx.x);
	int               warp = (int)threadIdx.x / HR_WARP, lane = (int)threadIdx.x % HR_WARP;
	int               row = ((int)blockIdx.x - p.first_block) * HR_WARP + lane;
	float             sums[T] = {};
#pragma unroll 4
	for (int c = warp; c < list.cols && row < p.rows; c += WARPS) {
		float w = hr_float<TYPE>::load(p.w + ((size_t)c * (size_t)p.column_stride + (size_t)row) *
		                                         hr_float<TYPE>::BYTES);
#pragma unroll
		for (int t = 0; t < T; t++)
			if (t < n_tokens)
				sums[t] = fmaf(w, x[(int64_t)t * list.cols + c], sums[t]);
	}
#pragma unroll
	for (int t = 0; t < T; t++)
		parts[(t * WARPS + warp) * HR_WARP + lane] = sums[t];
	__syncthreads();
	if (warp >= n_tokens || row >= p.rows)
		return;
	float sum = 0;
#pragma unroll
	for (int i = 0; i < WARPS; i++)
		sum += parts[(warp * WARPS + i) * HR_WARP + lane];
	hr_matvec_write(p, row, warp, sum);
}

template <int TYPE>
static int launch(struct hr_stream *stream, const struct hr_matmul *products, int n_products, const float *x,
                  int32_t n_tokens)
{
	hr_matvec_products list = hr_matvec_list(products, n_products, HR_WARP, 0);
	auto               kernel =
        n_tokens == 1 ? matvec_columns_kernel<TYPE, 1> : matvec_columns_kernel<TYPE, HR_CUDA_FEW_TOKENS>;
	return hr_cuda_launch(stream, "matvec_columns", kernel, dim3((unsigned)list.n_blocks),
	                      dim3(WARPS * HR_WARP), 0, list, x, (int)n_tokens);
}

int hr__cuda_matvec_columns(struct hr_stream *stream, const struct hr_matmul *products, int n_products,
                            const float *x, int32_t n_tokens)
{
	switch (products[0].w.type) {
	case HR_TYPE_F32:
		return launch<HR_TYPE_F32>(stream, products, n_products, x, n_tokens);
	case HR_TYPE_F16:
		return launch<HR_TYPE_F16>(stream, products, n_products, x, n_tokens);
	default:
		return launch<HR_TYPE_BF16>(stream, products, n_products, x, n_tokens);
	}
}
