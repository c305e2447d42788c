/* Products: checks shapes and chooses the way, by the weights' type and the number of
 * tokens alone.
 *
 *     float types       up to 8 tokens: matvec_float.cu, matvec_columns.cu; more: cuBLAS
 *     block types       up to 32 tokens: matvec_quant.cu, 8 at a time; more: cuBLAS
 *
 * Reading quantised weights four times costs what decoding them once to 16 bits, writing that
 * and reading it again does. Products of one type go in one launch: on a small matrix half
 * of the time is the beginning and the end of the launch. */
#include "kernels/cuda/ops.h"

static size_t max_size(size_t a, size_t b) { return a > b ? a : b; }

size_t hr__cuda_matmul_scratch_bytes(int32_t max_tokens, int32_t max_rows, int32_t max_cols)
{
	int32_t few = max_tokens < HR_CUDA_QUANT_TOKENS ? max_tokens : HR_CUDA_QUANT_TOKENS;
	size_t  gemm =
        max_tokens > HR_CUDA_FEW_TOKENS ? hr__cuda_gemm_scratch_bytes(max_tokens, max_rows, max_cols) : 0;
	return max_size(hr__cuda_quant_bytes(few, max_cols), gemm);
}

static bool is_valid(const struct hr_matmul *p, int32_t cols)
{
	if (!hr_weight_is_valid(&p->w) || p->w.cols != cols || p->y_stride < p->w.rows)
		return false;
	return !p->bias.data || (hr_type_is_plain(p->bias.type) && p->bias.cols == p->w.rows);
}

static bool is_small(const struct hr_matmul *p, int32_t n_tokens)
{
	return n_tokens <= (hr_type_is_float(p->w.type) ? HR_CUDA_FEW_TOKENS : HR_CUDA_QUANT_TOKENS);
}

/* Products of one type, which is_small(). */
static int multiply_same(struct hr_ops *ops, struct hr_stream *stream, const struct hr_matmul *products,
                         int n, const float *x, int32_t n_tokens)
{
	if (products[0].w.column_stride)
		return hr__cuda_matvec_columns(stream, products, n, x, n_tokens);
	if (hr_type_is_float(products[0].w.type))
		return hr__cuda_matvec_float(stream, products, n, x, n_tokens);
	int rc = 0;
	for (int32_t t = 0; !rc && t < n_tokens; t += HR_CUDA_FEW_TOKENS) {
		int32_t now = n_tokens - t < HR_CUDA_FEW_TOKENS ? n_tokens - t : HR_CUDA_FEW_TOKENS;
		rc = hr__cuda_matvec_quant(stream, products, n, ops->workspace, t, now);
	}
	return rc;
}

/* All products of a kind among these, copied to `out`. */
static int select_kind(const struct hr_matmul *products, int n, int type, bool by_columns,
                       struct hr_matmul *out)
{
	int found = 0;
	for (int i = 0; i < n; i++)
		if ((int)products[i].w.type == type && (products[i].w.column_stride != 0) == by_columns)
			out[found++] = products[i];
	return found;
}

static int multiply_small(struct hr_ops *ops, struct hr_stream *stream, const struct hr_matmul *products,
                          int n, const float *x, int32_t n_tokens)
{
	int32_t cols = products[0].w.cols;
	bool    all_float = true;
	for (int i = 0; i < n; i++)
		all_float = all_float && hr_type_is_float(products[i].w.type);
	int rc = 0;
	if (!all_float && hr__cuda_scratch_bytes(ops) < hr__cuda_quant_bytes(n_tokens, cols))
		return HR_EINVAL;
	if (!all_float)
		rc = hr__cuda_quantize(stream, ops->workspace, x, n_tokens, cols);
	for (int kind = 0; !rc && kind < 2 * HR_TYPE_COUNT; kind++) {
		struct hr_matmul same[HR_CUDA_PRODUCTS];
		int              n_same = select_kind(products, n, kind / 2, kind % 2, same);
		if (n_same)
			rc = multiply_same(ops, stream, same, n_same, x, n_tokens);
	}
	return rc;
}

int hr__cuda_matmul(struct hr_ops *ops, struct hr_stream *stream, const struct hr_matmul *products,
                    int n_products, const float *x, int32_t n_tokens, int32_t n_single)
{
	(void)n_single; /* the way follows from n_tokens */
	struct hr_matmul small[HR_CUDA_PRODUCTS], large[HR_CUDA_PRODUCTS];
	int              n_small = 0, n_large = 0, rc = 0;
	if (n_products < 1 || n_products > HR_CUDA_PRODUCTS || n_tokens < 1)
		return HR_EINVAL;
	for (int i = 0; i < n_products; i++) {
		const struct hr_matmul *p = &products[i];
		if (!is_valid(p, products[0].w.cols))
			return HR_EINVAL;
		if (!hr_type_is_float(p->w.type) && !hr__cuda_quant_has(p->w.type))
			return HR_EUNSUPPORTED;
		if (is_small(p, n_tokens))
			small[n_small++] = *p;
		else
			large[n_large++] = *p;
	}
	if (n_small)
		rc = multiply_small(ops, stream, small, n_small, x, n_tokens);
	if (!rc && n_large)
		rc = hr__cuda_gemm(ops, stream, large, n_large, x, n_tokens);
	return rc;
}
