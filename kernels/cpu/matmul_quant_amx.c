/* Products of many tokens with quantised weights in AMX tiles; those of few tokens
 * are AVX-512 VNNI's, and so are all bits: a dot is exact either way, and what
 * follows it is the same arithmetic.
 *
 * A panel lies in memory as a tile wants its second factor: 8 rows of four columns
 * of 16 rows of weights. The first factor is one plane of 16 tokens (rows, 32
 * bytes each, or either half of them where scales are of 16 weights). tdpbssd gives 16 tokens x 16 rows of
 * int32, a vector for each token, that go to memory and from there into vectors: tiles hold no floats. While
 * the tiles of one block are under way, the vectors work on the one before. */
#include "kernels/cpu/matmul_vec_avx512.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/tiles_amx.h"

#include "kernels/cpu/matmul_panel.inc"

enum { TILE = HR__MATMUL_TILE };

/* tmm0..3: products of half 0 (or both) and half 1 with the planes; tmm4, 5: planes; tmm6: panel */
static const struct tile_config configs[2] = {
    {.palette = 1, .row_bytes = {64, 64, 0, 0, 32, 32, 64}, .rows = {TILE, TILE, 0, 0, TILE, TILE, VECTORS}},
    {.palette = 1,
     .row_bytes = {64, 64, 64, 64, 16, 16, 64},
     .rows = {TILE, TILE, TILE, TILE, TILE, TILE, VECTORS / 2}},
};

/* Tiles multiply signed bytes, and panels of all types are some when 0 is 0. */
INLINE void prepare(enum hr_type type, struct panel *p)
{
	for (int j = 0; j < VECTORS && zero_shift(type) >= 0; j++)
		p->q[j] = _mm512_sub_epi8(p->q[j], _mm512_set1_epi8((char)(1 << zero_shift(type))));
}

struct products {
	ivec half[2][2][TILE]; /* with either plane; half[0] alone where scales are of 32 weights */
};

INLINE void start_block(enum hr_type type, const struct panel *p, const struct hr__matmul_xq *x,
                        struct products *to)
{
	TILE_LOAD(6, p->q, sizeof(ivec));
	TILE_LOAD(4, x->plane[0], sizeof *x);
	TILE_ZERO(0);
	TILE_DOT_I8(0, 4, 6);
	TILE_LOAD(5, x->plane[1], sizeof *x);
	TILE_ZERO(1);
	TILE_DOT_I8(1, 5, 6);
	if (has_halves(type)) {
		TILE_LOAD(6, p->q + VECTORS / 2, sizeof(ivec));
		TILE_LOAD(4, x->plane[0] + BLOCK / 2, sizeof *x);
		TILE_ZERO(2);
		TILE_DOT_I8(2, 4, 6);
		TILE_LOAD(5, x->plane[1] + BLOCK / 2, sizeof *x);
		TILE_ZERO(3);
		TILE_DOT_I8(3, 5, 6);
	}
	TILE_STORE(0, to->half[0][0]);
	TILE_STORE(1, to->half[0][1]);
	if (has_halves(type)) {
		TILE_STORE(2, to->half[1][0]);
		TILE_STORE(3, to->half[1][1]);
	}
}

INLINE void end_block(enum hr_type type, const struct panel *p, const struct hr__matmul_xq *x,
                      const struct products *from, vec acc[TILE])
{
	HR_UNROLL
	for (int t = 0; t < TILE; t++)
		for (int h = 0; h < (has_halves(type) ? 2 : 1); h++) {
			ivec dot = _mm512_add_epi32(_mm512_slli_epi32(from->half[h][0][t], 8), from->half[h][1][t]);
			acc[t] = vec_fma(vec_of_int(dot), vec_mul(p->d[h], vec_set1(x[t].d)), acc[t]);
			if (has_min(type))
				acc[t] = vec_fma(p->m[h], vec_set1(has_halves(type) ? x[t].dhalf[h] : x[t].dsum), acc[t]);
		}
}

INLINE void tile_dots(enum hr_type type, int n, const struct panel *p, const struct hr__matmul_xq *x,
                      vec acc_out[TILE])
{
	struct products products[2];
	vec             acc[TILE];
	HR_UNROLL
	for (int t = 0; t < TILE; t++)
		acc[t] = acc_out[t];
	start_block(type, p, x, &products[0]);
	for (int b = 1; b < n; b++) {
		start_block(type, p + b, x + b * TILE, &products[b & 1]);
		end_block(type, p + b - 1, x + (b - 1) * TILE, &products[(b - 1) & 1], acc);
	}
	end_block(type, p + n - 1, x + (n - 1) * TILE, &products[(n - 1) & 1], acc);
	HR_UNROLL
	for (int t = 0; t < TILE; t++)
		acc_out[t] = acc[t];
}

#include "kernels/cpu/matmul_quant.inc"

void hr__matmul_quant_amx(const struct hr__matmul_job *job, const struct hr_matmul *product, int32_t begin,
                          int32_t end)
{
	TILES_BEGIN(configs[has_halves(product->w.type)]);
	rows_of[product->w.type](job, product, begin, end);
	TILES_END();
}
