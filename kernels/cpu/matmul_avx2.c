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

INLINE vec vec_mul(vec a, float b) { return _mm256_mul_ps(a, _mm256_set1_ps(b)); }

INLINE vec of_f8(__m128i b)
{
	__m128i h = _mm_slli_epi16(_mm_cvtepi8_epi16(b), 7); /* the sign twice */
	__m128i number = _mm_and_si128(h, _mm_set1_epi16(0x3f80));
	__m128i nan = _mm_cmpeq_epi16(number, _mm_set1_epi16(0x3f80)); /* as f16, all ones are one, too */
	h = _mm_and_si128(h, _mm_set1_epi16((short)0xbfff));
	return _mm256_cvtph_ps(_mm_or_si128(h, nan));
}

enum { CODES = 32 };
typedef __m256i codes;

/* Where the exponent is 0, or NaN: twice the code, without its sign, is at most 14, or 254. */
INLINE codes special_codes(const void *p)
{
	__m256i b = _mm256_add_epi8(_mm256_loadu_si256(p), _mm256_set1_epi8(1));
	b = _mm256_add_epi8(b, b);
	return _mm256_cmpeq_epi8(_mm256_min_epu8(b, _mm256_set1_epi8(16)), b);
}

INLINE bool has_any(codes c) { return _mm256_movemask_epi8(c) != 0; }

/* Sign and the rest to their places; 112 + 15 is the exponent's bias in f32. */
INLINE vec vec_load_normal(const void *p)
{
	__m256i v = _mm256_slli_epi32(_mm256_cvtepi8_epi32(_mm_loadl_epi64(p)), 20);
	v = _mm256_and_si256(v, _mm256_set1_epi32((int)0x87f00000));
	return _mm256_castsi256_ps(_mm256_or_si256(v, _mm256_set1_epi32(112 << 23)));
}

INLINE vec vec_load(enum hr_type type, const void *p)
{
	if (type == HR_TYPE_F32)
		return _mm256_loadu_ps(p);
	if (type == HR_TYPE_F8_E4M3)
		return of_f8(_mm_loadl_epi64(p));
	__m128i h = _mm_loadu_si128(p);
	if (type == HR_TYPE_F16)
		return _mm256_cvtph_ps(h);
	return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}

INLINE vec vec_load_n(enum hr_type type, const void *p, int n)
{
	char whole[VEC * sizeof(float)] = {0};
	memcpy(whole, p, (size_t)(n * hr__elem_bytes(type)));
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
            [HR_TYPE_F8_E4M3] = rows_float,
            [HR__MATMUL_FIRST_BLOCK_TYPE... HR_TYPE_COUNT - 1] = hr__matmul_quant_avx2,
        },
};
