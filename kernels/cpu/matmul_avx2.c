/* Matrix products with AVX2, FMA and F16C: the vectors for matmul_float.inc (12
 * of the 16 registers are accumulators: 4 rows x 3 tokens) and the table of kernels. */
#include "kernels/cpu/matmul.h"

#include <immintrin.h>
#include <string.h>

typedef __m256 vec;
typedef __m128 v4;
enum { VEC = 8, MAX_T = 3, FEW_TOKENS = 6 };

#define INLINE static inline __attribute__((always_inline))

INLINE vec vec_zero(void) { return _mm256_setzero_ps(); }

INLINE vec vec_fma(vec a, vec b, vec c) { return _mm256_fmadd_ps(a, b, c); }

INLINE void vec_store(float *p, vec v) { _mm256_storeu_ps(p, v); }

INLINE vec vec_load(enum hr_type type, const void *p)
{
	if (type == HR_TYPE_F32)
		return _mm256_loadu_ps(p);
	__m128i h = _mm_loadu_si128(p);
	if (type == HR_TYPE_F16)
		return _mm256_cvtph_ps(h);
	return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}

INLINE vec vec_load_n(enum hr_type type, const void *p, int n)
{
	char whole[VEC * sizeof(float)] = {0};
	memcpy(whole, p, (size_t)n * (type == HR_TYPE_F32 ? 4 : 2));
	return vec_load(type, whole);
}

/* Lanes l and l + 4, then l + 2, l + 1. */
INLINE __m128 fold(vec v) { return _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1)); }

INLINE v4 vec_sum4(vec va, vec vb, vec vc, vec vd)
{
	__m128 a = fold(va), b = fold(vb), c = fold(vc), d = fold(vd);
	__m128 ab = _mm_add_ps(_mm_unpacklo_ps(a, b), _mm_unpackhi_ps(a, b));
	__m128 cd = _mm_add_ps(_mm_unpacklo_ps(c, d), _mm_unpackhi_ps(c, d));
	return _mm_add_ps(_mm_movelh_ps(ab, cd), _mm_movehl_ps(cd, ab));
}

#include "kernels/cpu/matmul_float.inc"

/* Within each four, those of even columns first. */
INLINE void put_values(struct hr__matmul_xq *xq, const int32_t v[HR__MATMUL_BLOCK])
{
	for (int i = 0; i < HR__MATMUL_BLOCK; i += 4) {
		xq->v[i] = (int16_t)v[i];
		xq->v[i + 1] = (int16_t)v[i + 2];
		xq->v[i + 2] = (int16_t)v[i + 1];
		xq->v[i + 3] = (int16_t)v[i + 3];
	}
}

#include "kernels/cpu/matmul_quantize.inc"

const struct hr__matmul_kernels hr__matmul_avx2 = {
    .tile = HR__MATMUL_FEW,
    .quantize = quantize,
    .rows =
        {
            [HR_TYPE_F32] = rows_float,
            [HR_TYPE_F16] = rows_float,
            [HR_TYPE_BF16] = rows_float,
            [HR__MATMUL_FIRST_BLOCK_TYPE... HR_TYPE_COUNT - 1] = hr__matmul_quant_avx2,
        },
};
