/* y[t][r] (+)= sum_k W[r][k] x[t][k] + bias[r], for every weight type.
 *
 * Inside: what matmul.c, which divides the work, shares with the kernels of an
 * instruction set, which compute some rows of one product for all tokens.
 *
 * The order of the sum, one per instruction set, whatever the number of tokens:
 *   float types: lane l of a vector adds the products k = l, l + lanes, ... with
 *     FMA; hr__matmul_* reduce the lanes in one fixed tree at the end. With AMX that
 *     is so for single tokens only; the others go another way, matmul_float_amx.c's.
 *     f8: a weight is first multiplied by its scale and rounded to f32 (with AMX, the
 *     sum of the columns that share a scale is multiplied instead).
 *   block types: x is quantised too, to 16 bits, 32 values at a time. The dot
 *     product of two blocks is an exact int32 dot; acc = fma(dot, d_w * d_x, acc),
 *     block after block (types with a minimum then add fma(m_w, d_x * sum x, acc)).
 *     Types with scales of 16 weights do this for either half of a block in turn. As
 *     a dot is exact, it may be computed in any way.
 *
 * Why 16 bits: a few channels of a transformer's activations are some hundred
 * times larger than their neighbours, and the largest of 32 sets the step of all.
 * In 8 bits the neighbours are lost; in 16 they keep as many bits as they have in
 * a block of their own in 8, and what is lost is less than the rounding of the
 * weights by orders of magnitude. */
#ifndef HR_KERNELS_CPU_MATMUL_H
#define HR_KERNELS_CPU_MATMUL_H

#include "kernels/half.h"
#include "kernels/ops.h"

#include <string.h>

int    hr__cpu_matmul(struct hr_ops *ops, struct hr_stream *stream, const struct hr_matmul *products,
                      int n_products, const float *x, int32_t n_tokens, int32_t n_single);
size_t hr__cpu_matmul_workspace_bytes(const struct hr_ops *ops, int32_t max_tokens, int32_t max_cols);

enum {
	HR__MATMUL_ROWS = 16,         /* rows of one item of work; fewer at the end of a product */
	HR__MATMUL_FEW = 8,           /* most tokens that are multiplied with weights straight from memory */
	HR__MATMUL_TILE = 16,         /* most tokens that stand together in a quantised tile */
	HR__MATMUL_BLOCK = 32,        /* weights of a quantised block */
	HR__MATMUL_MANY = 256,        /* most rows that rows_many is asked for, and */
	HR__MATMUL_SLAB = 256,        /* most tokens that are split into parts at a time, and */
	HR__MATMUL_SPLIT_BYTES = 192, /* what 32 activations of one of them take */
	HR__MATMUL_PRODUCTS = 4,
};

/* 32 activations: x = d * v, v in -32512..32512, as the instruction set wants them. */
struct hr__matmul_xq {
	union {
		int16_t v[HR__MATMUL_BLOCK];
		int8_t  plane[2][HR__MATMUL_BLOCK]; /* v = 256 * plane[0] + plane[1] */
	};
	float   d;
	float   dsum;      /* d * sum of v */
	int32_t minus_sum; /* -(sum of v): what weights that are too large by 1 give too much */
	float   dhalf[2];  /* the same of either half, for types with scales of 16 weights */
	int32_t minus_half[2];
	int32_t padding; /* to 96 bytes: no plane crosses a cache line */
};

/* Some products of a call, with some of its tokens. Where tokens are quantised, they are in tiles of
 * `tile` (a power of two) that stand side by side: [token tile][block][token in tile], the last tile
 * padded with zeros. */
struct hr__matmul_job {
	struct hr_matmul                 products[HR__MATMUL_PRODUCTS];
	int32_t                          n_products;
	int32_t                          n_tokens;
	int32_t                          cols;
	int32_t                          tile;
	const float                     *x;         /* [n_tokens][cols] */
	void                            *workspace; /* struct hr__matmul_xq, or as `split` makes it */
	const struct hr__matmul_kernels *kernels;
};

/* Rows [begin, end) of one product, all tokens; begin is a multiple of HR__MATMUL_ROWS. */
typedef void hr__matmul_fn(const struct hr__matmul_job *job, const struct hr_matmul *product, int32_t begin,
                           int32_t end);

enum { HR__MATMUL_FIRST_BLOCK_TYPE = HR_TYPE_Q8_0 }; /* the others follow */

struct hr__matmul_kernels {
	int32_t tile; /* tokens that stand together when they are more than HR__MATMUL_FEW */
	void (*quantize)(const float *x, struct hr__matmul_xq *xq);
	hr__matmul_fn *rows[HR_TYPE_COUNT];
	/* Float types, many tokens; NULL: as `rows` does. An item of split is 32 columns of a tile. */
	void (*split)(const void *job, int64_t begin, int64_t end);
	hr__matmul_fn *rows_many;
};

extern const struct hr__matmul_kernels hr__matmul_portable;
extern const struct hr__matmul_kernels hr__matmul_avx2;
extern const struct hr__matmul_kernels hr__matmul_avx512;
extern const struct hr__matmul_kernels hr__matmul_amx;

hr__matmul_fn hr__matmul_quant_avx2, hr__matmul_quant_avx512, hr__matmul_quant_amx; /* block types */
hr__matmul_fn hr__matmul_float_amx;
void          hr__matmul_split_amx(const void *job, int64_t begin, int64_t end);

/* Bytes of an element of a float type. */
static inline int hr__elem_bytes(enum hr_type type)
{
	return type == HR_TYPE_F32 ? 4 : type == HR_TYPE_F8_E4M3 ? 1 : 2;
}

/* Columns of f8 weights that share a scale. */
static inline int32_t hr__run_of(const struct hr_weight *w)
{
	return w->scale.rows && w->scale.cols < w->cols ? w->scale.cols : w->cols;
}

/* Vectors read f8 as f16 with bits of the same meaning, whose exponents are 8 lower: so scales come
 * 2^8 larger. Those of n runs of a row, and of one. */
#define HR__F8_SHIFT 0x1p-8f
static inline void hr__scales_of(const struct hr_weight *w, int32_t row, int32_t run, int32_t n, float *out)
{
	const struct hr_scale *s = &w->scale;
	size_t                 elem = (size_t)hr__elem_bytes(s->type);
	const char            *from = s->data;
	if (s->rows)
		from += (size_t)(((int64_t)row + s->skip) / s->rows * (((int64_t)w->cols - 1) / s->cols + 1) + run) *
		        elem;
	for (int32_t i = 0; i < n; i++, from += elem) {
		float    f = 1;
		uint16_t h;
		if (s->rows && s->type == HR_TYPE_F32) {
			memcpy(&f, from, sizeof f);
		} else if (s->rows) {
			memcpy(&h, from, sizeof h);
			f = s->type == HR_TYPE_F16 ? hr__f16_to_f32(h) : hr__bf16_to_f32(h);
		}
		out[i] = f / HR__F8_SHIFT;
	}
}

static inline float hr__scale_of(const struct hr_weight *w, int32_t row, int32_t run)
{
	float scale;
	hr__scales_of(w, row, run, 1, &scale);
	return scale;
}

/* bias[0..n) of rows begin.. as f32, zeros when there is none. */
void hr__matmul_load_bias(const struct hr_matmul *product, int32_t begin, int32_t n, float *bias);

#endif
