/* Products with quantised weights in AVX-512 VNNI. */
#include "kernels/cpu/matmul_vec_avx512.h"

#include "kernels/cpu/matmul_panel.inc"

enum { TILE = HR__MATMUL_FEW };

INLINE void prepare(enum hr_type type, struct panel *p)
{
	(void)type;
	(void)p;
}

INLINE void tile_dots(enum hr_type type, int n, const struct panel *p, const struct hr__matmul_xq *x,
                      vec acc[TILE])
{
	dots(type, TILE, n, p, x, TILE, acc);
}

#include "kernels/cpu/matmul_quant.inc"

void hr__matmul_quant_avx512(const struct hr__matmul_job *job, const struct hr_matmul *product, int32_t begin,
                             int32_t end)
{
	rows_of[product->w.type](job, product, begin, end);
}
