/* y[t][r] (+)= sum_k W[r][k] x[t][k] + bias[r], for every weight type.
 *
 * Inside: what matmul.c, which divides the work, shares with the kernels of an
 * instruction set, which compute some rows of one product for all tokens.
 *
 * The order of the sum, one per instruction set, whatever the number of tokens:
 *   float types: lane l of a vector adds the products k = l, l + lanes, ... with
 *     FMA; hr__matmul_* reduce the lanes in one fixed tree at the end.
 *   block types: x is quantised too, 32 values at a time. The dot product of two
 *     blocks is an exact int32 dot; acc = fma(dot, d_w * d_x, acc), block after
 *     block (Q4_1 then adds fma(m_w, d_x * sum x, acc)). As a dot is exact, it
 *     may be computed in any way. */
#ifndef HR_KERNELS_CPU_MATMUL_H
#define HR_KERNELS_CPU_MATMUL_H

#include "kernels/ops.h"

int    hr__cpu_matmul(struct hr_ops *ops, struct hr_stream *stream, const struct hr_matmul *products,
                      int n_products, const float *x, int32_t n_tokens);
size_t hr__cpu_matmul_workspace_bytes(const struct hr_ops *ops, int32_t max_tokens, int32_t max_cols);

enum {
	HR__MATMUL_ROWS = 16,  /* rows of one item of work; fewer at the end of a product */
	HR__MATMUL_TOKENS = 8, /* most tokens that stand together in a quantised tile */
	HR__MATMUL_BLOCK = 32, /* weights of a quantised block */
	HR__MATMUL_PRODUCTS = 4,
};

/* 32 activations: x = d * q, q in -127..127. */
struct hr__matmul_xq {
	int8_t  q[HR__MATMUL_BLOCK];
	float   d;
	float   dsum;          /* d * sum of q */
	int32_t minus_128_sum; /* -128 * sum of q: what q + 128 as weights gives too much */
};

/* One call. Tokens are quantised in tiles of `tile` (a power of two) that stand
 * side by side: xq[token tile][block][token in tile], the last tile padded with zeros. */
struct hr__matmul_job {
	struct hr_matmul                 products[HR__MATMUL_PRODUCTS];
	int32_t                          n_products;
	int32_t                          n_tokens;
	int32_t                          cols;
	int32_t                          tile;
	const float                     *x; /* [n_tokens][cols] */
	struct hr__matmul_xq            *xq;
	const struct hr__matmul_kernels *kernels;
};

/* Rows [begin, end) of one product, all tokens; begin is a multiple of HR__MATMUL_ROWS. */
typedef void hr__matmul_fn(const struct hr__matmul_job *job, const struct hr_matmul *product, int32_t begin,
                           int32_t end);

struct hr__matmul_kernels {
	void (*quantize)(const float *x, struct hr__matmul_xq *xq);
	hr__matmul_fn *rows[HR_TYPE_COUNT];
};

extern const struct hr__matmul_kernels hr__matmul_portable;
extern const struct hr__matmul_kernels hr__matmul_avx2;
extern const struct hr__matmul_kernels hr__matmul_avx512;

hr__matmul_fn hr__matmul_quant_avx2, hr__matmul_quant_avx512; /* products with block types */

/* bias[0..n) of rows begin.. as f32, zeros when there is none. */
void hr__matmul_load_bias(const struct hr_matmul *product, int32_t begin, int32_t n, float *bias);

#endif
