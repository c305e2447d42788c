/* y[t][r] (+)= sum_k W[r][k] x[t][k] + bias[r] for 1 to 8 tokens, weights in block types.
 *
 * Activations are quantised first, in blocks of 32, to 16 bits in two planes of 8:
 *     x = d * (256 * hi + lo),  d = max|x| / 32639,  hi, lo in -128..127
 * so that a block's product is integer and exact: 16 dp4a of four products each, one
 * multiplication by both scales, and an error of 2^-16 of the block's largest x.
 *
 * Blocks of 18, 20 or 34 bytes begin anywhere. A warp takes R rows (2, or 4 from 3 tokens
 * on), 1024 weights of each at a time: it copies that span, rounded out to 16 bytes, to
 * shared memory in the background (cp.async), STAGES * R spans ahead (8: 4.6 KB a warp in
 * Q4_0, 74 KB on a multiprocessor with 16 warps, where 29 KB cover 4.8 TB/s * 0.8 us), and
 * lane l then decodes the 32 weights that are block l of the span.
 *
 * Instructions for 32 weights of Q4_0 at one token: copy 2, words 5 and shifts 5, nibbles 12,
 * scale 4, x 5 / R, dp4a 16, finish 5, loop 4: 56, that is 1.7 a weight. At 65 % of 4.8 TB/s
 * 24 weights a clock and multiprocessor arrive, 41 of 128 issue slots. At 8 tokens dp4a
 * bounds: 4 a weight of the 64 a clock. Shared memory: 18 bytes in, 20 out, of 128 a clock.
 *
 * A block's integer product is exact and lane l adds its blocks in order, then hr_warp_sum()'s
 * tree: bits depend on the row and the token alone. */
#include "kernels/cuda/matvec.h"

enum {
	WARPS = 4,
	SPAN = 1024, /* weights: a block of 32 for each lane */
	SPREAD = 8,  /* STAGES * R */
};

/* 1024 activations of a token. A lane reads 16 bytes at a time, all lanes 512. */
struct xq_span {
	int4 planes[4][HR_WARP]; /* hi[0..15], hi[16..31], lo[0..15], lo[16..31] of each block */
	int4 scale[HR_WARP];     /* d as float bits; sums of 256 hi + lo: first 16, last 16; 0 */
};

size_t hr__cuda_quant_bytes(int32_t n_tokens, int32_t cols)
{
	return (size_t)n_tokens * (size_t)hr_div_up(cols, SPAN) * sizeof(xq_span);
}

/* ---- Quantisation ---- */

enum { QUANTIZE_THREADS = 256 };

/* The sum or maximum over 4 or 8 neighbouring lanes. */
static __device__ __forceinline__ int sum_of_4(int v)
{
	v += __shfl_xor_sync(HR_ALL_LANES, v, 1);
	return v + __shfl_xor_sync(HR_ALL_LANES, v, 2);
}

static __device__ __forceinline__ float max_of_8(float v)
{
#pragma unroll
	for (int d = 1; d < 8; d *= 2)
		v = fmaxf(v, __shfl_xor_sync(HR_ALL_LANES, v, d));
	return v;
}

/* A thread does four neighbours, eight threads a block; cols is a multiple of 32. */
static __global__ void quantize_kernel(xq_span *xq, const float *x, int cols)
{
	int          at = (int)(blockIdx.x * QUANTIZE_THREADS + threadIdx.x) * 4;
	const float *row = x + (int64_t)blockIdx.y * cols;
	float        v[4], largest = 0, broken = 0;
#pragma unroll
	for (int i = 0; i < 4; i++) {
		v[i] = at < cols ? row[at + i] : 0.0f;
		largest = fmaxf(largest, fabsf(v[i]));
		broken = fmaxf(broken, v[i] - v[i] == 0 ? 0.0f : 1.0f); /* infinity or NaN */
	}
	largest = max_of_8(largest);
	broken = max_of_8(broken);
	float inverse = largest > 0 && broken == 0 ? 32639.0f / largest : 0.0f;
	int   hi = 0, lo = 0, sum = 0;
#pragma unroll
	for (int i = 0; i < 4; i++) {
		int q = broken == 0 ? (int)rintf(v[i] * inverse) : 0, h = (q + 128) >> 8;
		hi |= (int)((unsigned)(h & 255) << 8 * i);
		lo |= (int)((unsigned)((q - 256 * h) & 255) << 8 * i);
		sum += q;
	}
	int first = sum_of_4(sum), second = __shfl_xor_sync(HR_ALL_LANES, first, 4);
	if (at >= cols)
		return;
	xq_span *span = xq + (int64_t)blockIdx.y * hr_div_up(cols, SPAN) + at / SPAN;
	int      block = at / 32 % HR_WARP, part = at % 32 / 16, word = at % 16 / 4;
	((int *)&span->planes[part][block])[word] = hi;
	((int *)&span->planes[part + 2][block])[word] = lo;
	float d = broken == 0 ? largest / 32639.0f : NAN;
	if (at % 32 == 0)
		span->scale[block] = make_int4((int)__float_as_uint(d), first, second, 0);
}

int hr__cuda_quantize(struct hr_stream *stream, void *xq, const float *x, int32_t n_tokens, int32_t cols)
{
	dim3 grid((unsigned)hr_div_up(cols, QUANTIZE_THREADS * 4), (unsigned)n_tokens);
	return hr_cuda_launch(stream, "quantize", quantize_kernel, grid, dim3(QUANTIZE_THREADS), 0, (xq_span *)xq,
	                      x, (int)cols);
}

/* ---- Products ---- */

/* A lane's activations of one token. */
struct activations {
	int   hi[8], lo[8];
	float d;
	int   sum[2];
};

static __device__ __forceinline__ void put(int (&to)[8], int4 first, int4 last)
{
	to[0] = first.x, to[1] = first.y, to[2] = first.z, to[3] = first.w;
	to[4] = last.x, to[5] = last.y, to[6] = last.z, to[7] = last.w;
}

static __device__ __forceinline__ void load(activations &x, const xq_span *span, int lane)
{
	put(x.hi, span->planes[0][lane], span->planes[1][lane]);
	put(x.lo, span->planes[2][lane], span->planes[3][lane]);
	int4 scale = span->scale[lane];
	x.d = __uint_as_float((unsigned)scale.x);
	x.sum[0] = scale.y;
	x.sum[1] = scale.z;
}

template <typename D>
static __device__ __forceinline__ float multiply(const hr_block32 &b, const activations &x, float sum)
{
	const int WORDS = 8 / D::HALVES; /* that share a scale */
#pragma unroll
	for (int half = 0; half < D::HALVES; half++) {
		int hi = 0, lo = 0, total = D::HALVES == 2 ? x.sum[half] : x.sum[0] + x.sum[1];
#pragma unroll
		for (int i = half * WORDS; i < (half + 1) * WORDS; i++) {
			hi = __dp4a((int)b.q[i], x.hi[i], hi);
			lo = __dp4a((int)b.q[i], x.lo[i], lo);
		}
		sum = fmaf(b.d[half] * x.d, (float)(256 * hi + lo - D::ZERO * total), sum);
		if (D::MIN)
			sum = fmaf(b.m[half] * x.d, (float)total, sum);
	}
	return sum;
}

/* Send span `i` of each of the warp's rows on its way to its stage. */
template <typename D, int R, int STRIDE>
static __device__ __forceinline__ void fetch(const uint8_t *const (&rows)[R], size_t row_bytes, int i,
                                             uint8_t *stage)
{
	const size_t BYTES = (size_t)(SPAN / D::ELEMS * D::BYTES), at = (size_t)i * BYTES;
	if (at < row_bytes) {
		int n = (int)(row_bytes - at < BYTES ? row_bytes - at : BYTES);
#pragma unroll
		for (int r = 0; r < R; r++) {
			const uint8_t *from = rows[r] + at;
			int            odd = (int)((uintptr_t)from & 15);
			for (int c = (int)threadIdx.x % HR_WARP * 16; c < odd + n; c += HR_WARP * 16)
				hr_copy16_async(stage + r * STRIDE + c, from - odd + c);
		}
	}
	hr_copies_commit();
}

template <int TYPE, int T>
static __global__ void __launch_bounds__(WARPS *HR_WARP)
    matvec_quant_kernel(hr_matvec_products list, const xq_span *xq, int n_tokens)
{
	typedef hr_decoder<TYPE> D;
	const int                R = T <= 2 ? 2 : 4, STAGES = SPREAD / R;
	const int                BYTES = SPAN / D::ELEMS * D::BYTES, STRIDE = (BYTES + 15) / 16 * 16 + 16;
	HR_SHARED(uint8_t, ring, WARPS * SPREAD * STRIDE);
	hr_matvec_product p = hr_matvec_product_of(list, (int)blockIdx.x);
	int               warp = (int)threadIdx.x / HR_WARP, lane = (int)threadIdx.x % HR_WARP;
	int               first = (((int)blockIdx.x - p.first_block) * WARPS + warp) * R;
	int               n_blocks = list.cols / 32, n_spans = (int)hr_div_up(list.cols, SPAN);
	if (first >= p.rows)
		return;
	uint8_t       *stages = ring + warp * SPREAD * STRIDE;
	const uint8_t *rows[R];
	float          sums[T * R];
	hr_matvec_begin<T, R>(p, first, rows, sums);
#pragma unroll
	for (int i = 0; i < STAGES - 1; i++)
		fetch<D, R, STRIDE>(rows, p.row_bytes, i, stages + i * R * STRIDE);

	for (int i = 0; i < n_spans; i++) {
		int            next = i + STAGES - 1;
		const uint8_t *stage = stages + i % STAGES * R * STRIDE;
		bool           mine = i * HR_WARP + lane < n_blocks;
		activations    x = {};
		fetch<D, R, STRIDE>(rows, p.row_bytes, next, stages + next % STAGES * R * STRIDE);
		if (mine)
			load(x, xq + i, lane);
		hr_copies_wait<STAGES - 1>();
		__syncwarp(); /* what the other lanes copied is here, too */
		if (mine) {
			hr_block32 b[R];
#pragma unroll
			for (int r = 0; r < R; r++) {
				size_t odd = (size_t)(rows[r] + (size_t)i * (size_t)BYTES) & 15;
				D::decode(stage + r * STRIDE + odd, lane, b[r]);
			}
#pragma unroll
			for (int t = 0; t < T; t++) {
				if (t >= n_tokens)
					break;
				if (t)
					load(x, xq + (int64_t)t * n_spans + i, lane);
#pragma unroll
				for (int r = 0; r < R; r++)
					sums[t * R + r] = multiply<D>(b[r], x, sums[t * R + r]);
			}
		}
		__syncwarp(); /* everybody has read this stage, which is fetched into next */
	}
	hr_matvec_finish<T, R>(sums, p, first, n_tokens);
}

template <int TYPE, int T>
static int launch(struct hr_stream *stream, const struct hr_matmul *products, int n_products,
                  const xq_span *xq, int32_t first_token, int32_t n_tokens)
{
	hr_matvec_products list = hr_matvec_list(products, n_products, WARPS * (T <= 2 ? 2 : 4), first_token);
	return hr_cuda_launch(stream, "matvec_quant", matvec_quant_kernel<TYPE, T>, dim3((unsigned)list.n_blocks),
	                      dim3(WARPS * HR_WARP), 0, list, xq, (int)n_tokens);
}

template <int TYPE>
static int launch_for(struct hr_stream *stream, const struct hr_matmul *products, int n_products,
                      const xq_span *xq, int32_t first_token, int32_t n_tokens)
{
	auto f = n_tokens == 1   ? launch<TYPE, 1>
	         : n_tokens == 2 ? launch<TYPE, 2>
	         : n_tokens <= 4 ? launch<TYPE, 4>
	                         : launch<TYPE, 8>;
	return f(stream, products, n_products, xq, first_token, n_tokens);
}

bool hr__cuda_quant_has(enum hr_type type)
{
	switch ((int)type) {
#define HR_X(TYPE, ...) case TYPE:
		HR_BLOCK_TYPES(HR_X)
#undef HR_X
		return true;
	}
	return false;
}

int hr__cuda_matvec_quant(struct hr_stream *stream, const struct hr_matmul *products, int n_products,
                          const void *xq, int32_t first_token, int32_t n_tokens)
{
	int32_t        cols = products[0].w.cols;
	const xq_span *x = (const xq_span *)xq + (int64_t)first_token * hr_div_up(cols, SPAN);
	switch ((int)products[0].w.type) {
#define HR_X(TYPE, ...)                                                                                      \
	case TYPE:                                                                                               \
		return launch_for<TYPE>(stream, products, n_products, x, first_token, n_tokens);
		HR_BLOCK_TYPES(HR_X)
#undef HR_X
	}
	return HR_EUNSUPPORTED;
}
