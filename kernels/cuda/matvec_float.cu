/* y[t][r] (+)= sum_k W[r][k] x[t][k] + bias[r] for 1 to 8 tokens, weights in f32, f16, bf16
 * or f8. One reading of the weights is all that matters: 2 rows * cols bytes in f16.
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
 * hr_warp_sum()'s tree. The same lanes take the same elements in the same order wherever rows
 * begin: at 16 bytes; at 8, as half of all safetensors files have it, in two loads for one;
 * anywhere, in five. Only rows that are no multiple of 16 bytes long (or an x that does not begin at 16)
 * are loaded element by element.
 *
 * f8: the 16 weights of a load have a sum of their own, which is added times their scale. Where they don't
 * share one, a warp does a row, and a lane every 32nd element. */
#include "kernels/cuda/matvec.h"

enum { WARPS = 4 };

/* What rows begin at. */
enum { AT_16, AT_8, ANYWHERE, ELEMENTS };

template <int AT> static __device__ __forceinline__ uint4 load16(const uint8_t *p)
{
	if constexpr (AT == AT_16) {
		return __ldcs((const uint4 *)p);
	} else if constexpr (AT == AT_8) {
		uint2 low = __ldcs((const uint2 *)p), high = __ldcs((const uint2 *)p + 1);
		return make_uint4(low.x, low.y, high.x, high.y);
	} else {
		uint32_t words[4];
		hr_load_words(p, words);
		return make_uint4(words[0], words[1], words[2], words[3]);
	}
}

/* A lane's E elements from k on, zeros behind the end; or as they were loaded, where all or none is there. */
template <int TYPE, int AT, int E>
static __device__ __forceinline__ void convert(const uint4 &raw, const uint8_t *row, int k, int cols,
                                               float (&w)[E])
{
	if constexpr (AT != ELEMENTS) {
		hr_float<TYPE>::words(raw, w);
	} else {
#pragma unroll
		for (int i = 0; i < E; i++) {
			w[i] = k + i < cols ? hr_float<TYPE>::load(row + (size_t)(k + i) * hr_float<TYPE>::BYTES) : 0.0f;
			if (TYPE == HR_TYPE_F8_E4M3)
				w[i] /= HR_F8_SHIFT;
		}
	}
}

template <int AT, int E>
static __device__ __forceinline__ void load_x(const float *x, int k, int cols, float (&v)[E])
{
#pragma unroll
	for (int i = 0; i < E; i += 4) {
		if constexpr (AT != ELEMENTS) {
			float4 f = *(const float4 *)(x + k + i);
			v[i] = f.x, v[i + 1] = f.y, v[i + 2] = f.z, v[i + 3] = f.w;
		} else {
#pragma unroll
			for (int j = i; j < i + 4; j++)
				v[j] = k + j < cols ? x[k + j] : 0.0f;
		}
	}
}

template <int TYPE, int T, int AT>
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
	hr_matvec_begin<T, R>(p, first, rows, sums);
	int64_t scales[R];
#pragma unroll
	for (int r = 0; r < R; r++)
		scales[r] = hr_scale_row(p.scales, first + r < p.rows ? first + r : first);

	for (int begin = lane * E; begin < cols; begin += U * STEP) {
		uint4 raw[U][R];
#pragma unroll
		for (int u = 0; u < U; u++)
#pragma unroll
			for (int r = 0; r < R; r++)
				if (AT != ELEMENTS && begin + u * STEP < cols)
					raw[u][r] = load16<AT>(rows[r] + (size_t)(begin + u * STEP) * hr_float<TYPE>::BYTES);
#pragma unroll
		for (int u = 0; u < U; u++) {
			int   k = begin + u * STEP;
			float w[R][E], v[E], scale[R];
			if (k >= cols)
				break;
#pragma unroll
			for (int r = 0; r < R; r++) {
				convert<TYPE, AT>(raw[u][r], rows[r], k, cols, w[r]);
				if (TYPE == HR_TYPE_F8_E4M3)
					scale[r] = hr_scale_at(p.scales, scales[r], k) * HR_F8_SHIFT;
			}
#pragma unroll
			for (int t = 0; t < T; t++) {
				if (t >= n_tokens)
					break;
				load_x<AT>(x + (int64_t)t * cols, k, cols, v);
#pragma unroll
				for (int r = 0; r < R; r++) {
					float sum = TYPE == HR_TYPE_F8_E4M3 ? 0.0f : sums[t * R + r];
#pragma unroll
					for (int i = 0; i < E; i++)
						sum = fmaf(w[r][i], v[i], sum);
					sums[t * R + r] = TYPE == HR_TYPE_F8_E4M3 ? fmaf(scale[r], sum, sums[t * R + r]) : sum;
				}
			}
		}
	}
	hr_matvec_finish<T, R>(sums, p, first, n_tokens);
}

/* Where all rows of the products begin at, so that whole loads are all there is. */
static int alignment(const hr_matvec_products *list, const float *x)
{
	uintptr_t begins = 0, lengths = 0;
	for (int i = 0; i < list->n; i++) {
		begins |= (uintptr_t)list->p[i].w;
		lengths |= list->p[i].row_bytes;
	}
	if ((uintptr_t)x % 16 || list->cols % 4 || lengths % 16)
		return ELEMENTS;
	return begins % 16 == 0 ? AT_16 : begins % 8 == 0 ? AT_8 : ANYWHERE;
}

template <int T>
static __global__ void __launch_bounds__(WARPS *HR_WARP)
    matvec_f8_kernel(hr_matvec_products list, const float *x, int n_tokens)
{
	hr_matvec_product p = hr_matvec_product_of(list, (int)blockIdx.x);
	int               lane = (int)threadIdx.x % HR_WARP;
	int               row = ((int)blockIdx.x - p.first_block) * WARPS + (int)threadIdx.x / HR_WARP;
	if (row >= p.rows)
		return;
	const uint8_t *codes = p.w + (size_t)row * p.row_bytes;
	int64_t        scales = hr_scale_row(p.scales, row);
	float          sums[T] = {};
	for (int k = lane; k < list.cols; k += HR_WARP) {
		float w = hr_float<HR_TYPE_F8_E4M3>::load(codes + k) * hr_scale_at(p.scales, scales, k);
#pragma unroll
		for (int t = 0; t < T; t++)
			if (t < n_tokens)
				sums[t] = fmaf(w, x[(int64_t)t * list.cols + k], sums[t]);
	}
#pragma unroll
	for (int t = 0; t < T; t++) {
		float sum = hr_warp_sum(sums[t]);
		if (lane == 0 && t < n_tokens)
			hr_matvec_write(p, row, t, sum);
	}
}

template <int TYPE, int T>
static int launch(struct hr_stream *stream, const struct hr_matmul *products, int n_products, const float *x,
                  int32_t n_tokens)
{
	static constexpr void (*kernels[])(hr_matvec_products, const float *, int) = {
	    matvec_float_kernel<TYPE, T, AT_16>, matvec_float_kernel<TYPE, T, AT_8>,
	    matvec_float_kernel<TYPE, T, ANYWHERE>, matvec_float_kernel<TYPE, T, ELEMENTS>};
	hr_matvec_products list = hr_matvec_list(products, n_products, WARPS * (T <= 2 ? 2 : 4), 0);
	auto               kernel = kernels[alignment(&list, x)];
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

/* Those whose loads have one scale, then the others. */
static int launch_f8(struct hr_stream *stream, const struct hr_matmul *products, int n, const float *x,
                     int32_t n_tokens)
{
	struct hr_matmul whole[HR_CUDA_PRODUCTS], odd[HR_CUDA_PRODUCTS];
	int              n_whole = 0, n_odd = 0, rc = 0;
	for (int i = 0; i < n; i++) {
		const struct hr_weight *w = &products[i].w;
		if (!w->scale.rows || w->scale.cols >= w->cols || w->scale.cols % 16 == 0)
			whole[n_whole++] = products[i];
		else
			odd[n_odd++] = products[i];
	}
	if (n_whole)
		rc = launch_for<HR_TYPE_F8_E4M3>(stream, whole, n_whole, x, n_tokens);
	if (rc || !n_odd)
		return rc;
	hr_matvec_products list = hr_matvec_list(odd, n_odd, WARPS, 0);
	return hr_cuda_launch(stream, "matvec_f8", matvec_f8_kernel<HR_CUDA_FEW_TOKENS>,
	                      dim3((unsigned)list.n_blocks), dim3(WARPS * HR_WARP), 0, list, x, (int)n_tokens);
}

int hr__cuda_matvec_float(struct hr_stream *stream, const struct hr_matmul *products, int n_products,
                          const float *x, int32_t n_tokens)
{
	switch (products[0].w.type) {
	case HR_TYPE_F32:
		return launch_for<HR_TYPE_F32>(stream, products, n_products, x, n_tokens);
	case HR_TYPE_F16:
		return launch_for<HR_TYPE_F16>(stream, products, n_products, x, n_tokens);
	case HR_TYPE_F8_E4M3:
		return launch_f8(stream, products, n_products, x, n_tokens);
	default:
		return launch_for<HR_TYPE_BF16>(stream, products, n_products, x, n_tokens);
	}
}
