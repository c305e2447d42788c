/* Matrix products with AVX-512: the vectors for matmul_float.inc (24 of the 32
 * registers are accumulators: 4 rows x 6 tokens) and the table of kernels. */
#include "kernels/cpu/f8_avx512.h"
#include "kernels/cpu/matmul.h"

#include <immintrin.h>
#include <string.h>

typedef __m512 vec;
typedef __m128 v4;
enum { VEC = 16, MAX_T = 6, FEW_TOKENS = 12 };

#define INLINE static inline __attribute__((always_inline))

INLINE vec vec_zero(void) { return _mm512_setzero_ps(); }

INLINE vec vec_fma(vec a, vec b, vec c) { return _mm512_fmadd_ps(a, b, c); }

INLINE void vec_store(float *p, vec v) { _mm512_storeu_ps(p, v); }

INLINE vec vec_mul(vec a, float b) { return _mm512_mul_ps(a, _mm512_set1_ps(b)); }

INLINE vec of_bf16(__m256i h) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16)); }

enum { CODES = 64 };
typedef __mmask64 codes;

/* Where the exponent is 0, or NaN: twice the code, without its sign, is at most 14, or 254. */
INLINE codes special_codes(const void *p)
{
	__m512i b = _mm512_add_epi8(_mm512_loadu_si512(p), _mm512_set1_epi8(1));
	return _mm512_cmple_epu8_mask(_mm512_add_epi8(b, b), _mm512_set1_epi8(16));
}

INLINE bool has_any(codes c) { return c != 0; }

/* Sign and the rest to their places; 112 + 15 is the exponent's bias in f32. */
INLINE vec vec_load_normal(const void *p)
{
	__m512i v = _mm512_slli_epi32(_mm512_cvtepi8_epi32(_mm_loadu_si128(p)), 20);
	return _mm512_castsi512_ps(_mm512_ternarylogic_epi32(v, _mm512_set1_epi32((int)0x87f00000),
	                                                     _mm512_set1_epi32(112 << 23), 0xea)); /* a & b | c */
}

INLINE vec vec_load(enum hr_type type, const void *p)
{
	if (type == HR_TYPE_F32)
		return _mm512_loadu_ps(p);
	if (type == HR_TYPE_F8_E4M3)
		return of_f8(_mm_loadu_si128(p));
	__m256i h = _mm256_loadu_si256(p);
	return type == HR_TYPE_F16 ? _mm512_cvtph_ps(h) : of_bf16(h);
}

INLINE vec vec_load_n(enum hr_type type, const void *p, int n)
{
	__mmask16 mask = (__mmask16)((1u << n) - 1);
	if (type == HR_TYPE_F32)
		return _mm512_maskz_loadu_ps(mask, p);
	if (type == HR_TYPE_F8_E4M3)
		return of_f8(_mm_maskz_loadu_epi8(mask, p));
	__m256i h = _mm256_maskz_loadu_epi16(mask, p);
	return type == HR_TYPE_F16 ? _mm512_cvtph_ps(h) : of_bf16(h);
}

/* Lanes l and l + 8, then l + 4, l + 2, l + 1. */
INLINE __m128 fold(vec v)
{
	__m256 half = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
	return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}

INLINE v4 vec_sum4(vec va, vec vb, vec vc, vec vd)
{
	__m128 a = fold(va), b = fold(vb), c = fold(vc), d = fold(vd);
	__m128 ab = _mm_add_ps(_mm_unpacklo_ps(a, b), _mm_unpackhi_ps(a, b));
	__m128 cd = _mm_add_ps(_mm_unpacklo_ps(c, d), _mm_unpackhi_ps(c, d));
	return _mm_add_ps(_mm_movelh_ps(ab, cd), _mm_movehl_ps(cd, ab));
}

#include "kernels/cpu/matmul_float.inc"

/* Two planes of bytes. */
INLINE void put_values(struct hr__matmul_xq *xq, const int32_t v[HR__MATMUL_BLOCK])
{
	for (int i = 0; i < HR__MATMUL_BLOCK; i++) {
		xq->plane[0][i] = (int8_t)((v[i] + 128) >> 8);
		xq->plane[1][i] = (int8_t)v[i];
	}
}

#include "kernels/cpu/matmul_quantize.inc"

const struct hr__matmul_kernels hr__matmul_avx512 = {
    .tile = HR__MATMUL_FEW,
    .quantize = quantize,
    .rows =
        {
            [HR_TYPE_F32] = rows_float,
            [HR_TYPE_F16] = rows_float,
            [HR_TYPE_BF16] = rows_float,
            [HR_TYPE_F8_E4M3] = rows_float,
            [HR__MATMUL_FIRST_BLOCK_TYPE... HR_TYPE_COUNT - 1] = hr__matmul_quant_avx512,
        },
};

const struct hr__matmul_kernels hr__matmul_amx = {
    .tile = HR__MATMUL_TILE,
    .quantize = quantize,
    .rows =
        {
            [HR_TYPE_F32] = rows_float,
            [HR_TYPE_F16] = rows_float,
            [HR_TYPE_BF16] = rows_float,
            [HR_TYPE_F8_E4M3] = rows_float,
            [HR__MATMUL_FIRST_BLOCK_TYPE... HR_TYPE_COUNT - 1] = hr__matmul_quant_amx,
        },
    .split = hr__matmul_split_amx,
    .rows_many = hr__matmul_float_amx,
};
