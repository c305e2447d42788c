/* Products for many tokens, by cuBLAS, with f32 sums: y[t][r] (+)= sum_k W[r][k] x[t][k].
 *
 * cuBLAS multiplies what has one type: x is rounded to the weights' 16 bits first (f16
 * saturates), bf16 for bf16 weights and f16 for f16, f8 and all block types, whose weights are
 * decoded to it (f8 times its scale), some rows at a time, into the workspace. f32 weights are multiplied in
 * f32, not TF32. So are weights of any type that do not lie at 16 bytes copied by rows.
 *
 * To cuBLAS, whose matrices stand on end, y is [n_tokens columns][rows] = op(W) op(x):
 * W transposed with cols as its leading dimension (or as it is, when it is stored by columns, and
 * then in any place that its elements' size divides), x as it is. A bias is written to y (or
 * added) first, and the product added to it.
 *
 * Bits: the tiles and the calls follow from the shape (rows, cols, n_tokens), the type and the
 * alignment of the weights, and the size of cuBLAS' workspace; one stream, no atomics: equal
 * calls give equal bits. What cuBLAS chooses for other shapes may add up in another order.
 *
 * Scratch: x [n_tokens][cols] in 16 bits, then the tile, at 256 bytes. */
#include "kernels/cuda/decode.h"

#include "kernels/cuda/cublas_lazy.h"

enum { THREADS = 256 };
#define TILE_BYTES    ((size_t)32 << 20)
#define MIN_TILE_ROWS ((size_t)16)

static size_t align_up(size_t bytes) { return (bytes + 255) / 256 * 256; }

static size_t x_bytes(int32_t n_tokens, int32_t cols)
{
	return align_up((size_t)n_tokens * (size_t)cols * 2);
}

/* Rows of a tile, at most: whole, or what TILE_BYTES hold. */
static int32_t tile_rows(int32_t rows, int32_t cols, size_t elem_bytes)
{
	size_t fit = TILE_BYTES / ((size_t)cols * elem_bytes);
	fit = fit < MIN_TILE_ROWS ? MIN_TILE_ROWS : fit;
	return (size_t)rows < fit ? rows : (int32_t)fit;
}

size_t hr__cuda_gemm_scratch_bytes(int32_t n_tokens, int32_t max_rows, int32_t max_cols)
{
	size_t rows = (size_t)tile_rows(max_rows, max_cols, 4) * (size_t)max_cols * 4;
	size_t all = (size_t)max_rows * (size_t)max_cols * 4; /* narrower matrices may need more of the tile */
	return x_bytes(n_tokens, max_cols) + (all < TILE_BYTES ? all : rows > TILE_BYTES ? rows : TILE_BYTES);
}

/* ---- Conversions ---- */

static __device__ void store(float *to, float v) { *to = v; }
static __device__ void store(__nv_bfloat16 *to, float v) { *to = __float2bfloat16_rn(v); }
static __device__ void store(__half *to, float v)
{
	*to = __float2half_rn(v > 65504.0f ? 65504.0f : v < -65504.0f ? -65504.0f : v);
}

template <typename OUT> static __global__ void round_kernel(OUT *y, const float *x, int64_t n)
{
	int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
	if (i < n)
		store(y + i, x[i]);
}

/* y[outer][inner] of w, whose inner ones are neighbours and outer ones `stride` apart; n in all. */
template <int TYPE, typename OUT>
static __global__ void decode_float_kernel(OUT *y, const uint8_t *w, int64_t inner, int64_t stride, int64_t n)
{
	int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
	if (i < n)
		store(y + i, hr_float<TYPE>::load(w + (i / inner * stride + i % inner) * hr_float<TYPE>::BYTES));
}

/* f8, by rows. */
template <typename OUT>
static __global__ void decode_f8_kernel(OUT *y, const uint8_t *w, hr_scale_table scales, int cols, int64_t n)
{
	int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
	if (i < n)
		store(y + i, hr_float<HR_TYPE_F8_E4M3>::load(w + i) *
		                 hr_scale_at(scales, hr_scale_row(scales, i / cols), (int)(i % cols)));
}

/* n weights; a thread does 32. */
template <int TYPE, typename OUT>
static __global__ void decode_block_kernel(OUT *y, const uint8_t *w, int64_t n)
{
	int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
	if (i >= n / 32)
		return;
	hr_block32 b;
	int64_t    per_unit = hr_decoder<TYPE>::ELEMS / 32;
	hr_decoder<TYPE>::decode(w + i / per_unit * hr_decoder<TYPE>::BYTES, (int)(i % per_unit), b);
#pragma unroll
	for (int k = 0; k < 32; k++)
		store(y + 32 * i + k, hr_block_weight<hr_decoder<TYPE>>(b, k));
}

static dim3 blocks_for(int64_t n) { return dim3((unsigned)hr_div_up(n, THREADS)); }

template <typename OUT> static int round_x(struct hr_stream *stream, void *y, const float *x, int64_t n)
{
	return hr_cuda_launch(stream, "round", round_kernel<OUT>, blocks_for(n), dim3(THREADS), 0, (OUT *)y, x,
	                      n);
}

template <int TYPE, typename OUT>
static int decode_float(struct hr_stream *stream, void *y, const struct hr_weight *w)
{
	int64_t n = (int64_t)w->rows * w->cols, inner = w->column_stride ? w->rows : w->cols;
	return hr_cuda_launch(stream, "decode", decode_float_kernel<TYPE, OUT>, blocks_for(n), dim3(THREADS), 0,
	                      (OUT *)y, (const uint8_t *)w->data, inner,
	                      (int64_t)(w->column_stride ? w->column_stride : w->cols), n);
}

/* Weights to y, densely, in the type that they are multiplied in. */
static int decode(struct hr_stream *stream, void *y, const struct hr_weight *w)
{
	switch ((int)w->type) {
	case HR_TYPE_F32:
		return decode_float<HR_TYPE_F32, float>(stream, y, w);
	case HR_TYPE_F16:
		return decode_float<HR_TYPE_F16, __half>(stream, y, w);
	case HR_TYPE_BF16:
		return decode_float<HR_TYPE_BF16, __nv_bfloat16>(stream, y, w);
	case HR_TYPE_F8_E4M3:
		return hr_cuda_launch(stream, "decode", decode_f8_kernel<__half>,
		                      blocks_for((int64_t)w->rows * w->cols), dim3(THREADS), 0, (__half *)y,
		                      (const uint8_t *)w->data, hr_scales_of(w), (int)w->cols,
		                      (int64_t)w->rows * w->cols);
#define HR_X(TYPE, ...)                                                                                      \
	case TYPE:                                                                                               \
		return hr_cuda_launch(stream, "decode", decode_block_kernel<TYPE, __half>,                           \
		                      blocks_for((int64_t)w->rows * w->cols / 32), dim3(THREADS), 0, (__half *)y,    \
		                      (const uint8_t *)w->data, (int64_t)w->rows * w->cols);
		HR_BLOCK_TYPES(HR_X)
#undef HR_X
	}
	return HR_EUNSUPPORTED;
}

struct bias_args {
	float      *y;
	int64_t     y_stride;
	const void *bias;
	int         type, rows;
	bool        add;
};

static __global__ void bias_kernel(bias_args a)
{
	int    r = (int)(blockIdx.x * THREADS + threadIdx.x);
	float *y = a.y + (int64_t)blockIdx.y * a.y_stride + r;
	if (r < a.rows)
		*y = (a.add ? *y : 0.0f) + hr_load_float(a.bias, a.type, r);
}

static int write_bias(struct hr_stream *stream, const struct hr_matmul *p, int32_t n_tokens)
{
	int rc = 0;
	for (int32_t done = 0, n; !rc && done < n_tokens; done += n) {
		n = n_tokens - done < 65535 ? n_tokens - done : 65535;
		bias_args a = {p->y + done * p->y_stride, p->y_stride, p->bias.data, p->bias.type, p->w.rows, p->add};
		dim3      grid((unsigned)hr_div_up(p->w.rows, THREADS), (unsigned)n);
		rc = hr_cuda_launch(stream, "bias", bias_kernel, grid, dim3(THREADS), 0, a);
	}
	return rc;
}

/* ---- cuBLAS ---- */

static int check(struct hr_ops *ops, struct hr_stream *stream, cublasStatus_t status)
{
	return status ? hr_cuda_check(stream, cudaErrorUnknown, hr__cuda(ops)->cublas->status_string(status)) : 0;
}

/* The handle, on this stream and with its part of the workspace. */
static int prepare(struct hr_ops *ops, struct hr_stream *stream, cublasHandle_t *out)
{
	struct hr__cuda_ops *o = hr__cuda(ops);
	void                *cuda = hr_cuda_stream(stream);
	size_t               bytes = hr__cuda_blas_bytes(ops->workspace_bytes);
	char                *memory = (char *)ops->workspace + hr__cuda_scratch_bytes(ops);
	int                  rc = 0;
	if (!o->blas) {
		cublasHandle_t handle;
		rc = check(ops, stream, o->cublas->create(&handle));
		o->blas = rc ? NULL : handle;
	}
	*out = (cublasHandle_t)o->blas;
	if (rc || (o->blas_stream == cuda && o->blas_memory == memory))
		return rc;
	rc = check(ops, stream, o->cublas->set_stream(*out, (cudaStream_t)cuda));
	if (!rc)
		rc = check(ops, stream, o->cublas->set_workspace(*out, memory, bytes));
	o->blas_stream = cuda;
	o->blas_memory = memory;
	return rc;
}

void hr__cuda_gemm_close(struct hr__cuda_ops *ops)
{
	if (ops->blas)
		ops->cublas->destroy((cublasHandle_t)ops->blas);
}

/* y[n_tokens][y_stride], w->rows of them, from w and x[n_tokens][cols], both of `type`. */
static int multiply(struct hr_ops *ops, cublasHandle_t handle, struct hr_stream *stream,
                    const struct hr_weight *w, cudaDataType_t type, const void *x, float *y, int64_t y_stride,
                    bool add, int32_t n_tokens)
{
	float             one = 1, beta = add ? 1.0f : 0.0f;
	cublasOperation_t op = w->column_stride ? CUBLAS_OP_N : CUBLAS_OP_T;
	if (y_stride > INT32_MAX)
		return HR_EINVAL;
	return check(ops, stream,
	             hr__cuda(ops)->cublas->gemm_ex(handle, op, CUBLAS_OP_N, w->rows, n_tokens, w->cols, &one,
	                                            w->data, type, w->column_stride ? w->column_stride : w->cols,
	                                            x, type, w->cols, &beta, y, CUDA_R_32F, (int)y_stride,
	                                            CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT));
}

/* Can cuBLAS read the weights where they are? */
static bool is_direct(const struct hr_weight *w, size_t row_bytes)
{
	if (w->column_stride)
		return (uintptr_t)w->data % hr_type_info(w->type)->block_bytes == 0;
	return hr_type_is_plain(w->type) && (uintptr_t)w->data % 16 == 0 && row_bytes % 16 == 0;
}

static int multiply_all(struct hr_ops *ops, struct hr_stream *stream, const struct hr_matmul *p,
                        const void *x, cudaDataType_t type, void *tile, int32_t n_tokens)
{
	size_t         row_bytes = hr_type_row_bytes(hr_type_info(p->w.type), (uint64_t)p->w.cols);
	bool           direct = is_direct(&p->w, row_bytes);
	int32_t        step = direct ? p->w.rows : tile_rows(p->w.rows, p->w.cols, type == CUDA_R_32F ? 4 : 2);
	cublasHandle_t handle;
	int            rc = prepare(ops, stream, &handle);
	for (int32_t row = 0; !rc && row < p->w.rows; row += step) {
		struct hr_weight from = p->w;
		from.rows = p->w.rows - row < step ? p->w.rows - row : step;
		from.data = (const uint8_t *)p->w.data +
		            (size_t)row * (from.column_stride ? hr_type_info(from.type)->block_bytes : row_bytes);
		from.scale.skip += row;
		if (!direct)
			rc = decode(stream, tile, &from);
		from.data = direct ? from.data : tile;
		from.column_stride = direct || !from.column_stride ? from.column_stride : from.rows;
		if (!rc)
			rc = multiply(ops, handle, stream, &from, type, x, p->y + row, p->y_stride,
			              p->add || p->bias.data, n_tokens);
	}
	return rc;
}

int hr__cuda_gemm(struct hr_ops *ops, struct hr_stream *stream, const struct hr_matmul *p, int n_products,
                  const float *x, int32_t n_tokens)
{
	int     rc = 0;
	int64_t n = (int64_t)n_tokens * p->w.cols;
	void   *rounded = ops->workspace;
	for (int i = 0; !rc && i < n_products; i++) {
		bool   f32 = p[i].w.type == HR_TYPE_F32, bf16 = p[i].w.type == HR_TYPE_BF16;
		bool   again = i && bf16 == (p[i - 1].w.type == HR_TYPE_BF16) && p[i - 1].w.type != HR_TYPE_F32;
		size_t at = x_bytes(n_tokens, p->w.cols);
		size_t tile =
		    (size_t)tile_rows(p[i].w.rows, p->w.cols, f32 ? 4 : 2) * (size_t)p->w.cols * (f32 ? 4 : 2);
		if (hr__cuda_scratch_bytes(ops) < at + tile)
			return HR_EINVAL;
		if (p[i].bias.data)
			rc = write_bias(stream, &p[i], n_tokens);
		if (!rc && !f32 && !again)
			rc =
			    bf16 ? round_x<__nv_bfloat16>(stream, rounded, x, n) : round_x<__half>(stream, rounded, x, n);
		if (!rc)
			rc = multiply_all(ops, stream, &p[i], f32 ? (const void *)x : rounded,
			                  f32    ? CUDA_R_32F
			                  : bf16 ? CUDA_R_16BF
			                         : CUDA_R_16F,
			                  (char *)ops->workspace + at, n_tokens);
	}
	return rc;
}
