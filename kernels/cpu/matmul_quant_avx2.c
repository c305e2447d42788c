/* Products with quantised weights in AVX2: the vectors for matmul_panel.inc.
 *
 * vpmaddwd multiplies 16-bit numbers and adds two products in 32 bits. The even
 * and the odd bytes of the weights become such numbers by a mask and a shift;
 * activations stand in the same order (see put_values() in matmul_avx2.c). */
#include "kernels/cpu/matmul.h"

#include <immintrin.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

typedef __m256  vec;
typedef __m256i ivec;
enum { ROWS = 8 };

INLINE vec  vec_zero(void) { return _mm256_setzero_ps(); }
INLINE vec  vec_set1(float f) { return _mm256_set1_ps(f); }
INLINE vec  vec_add(vec a, vec b) { return _mm256_add_ps(a, b); }
INLINE vec  vec_mul(vec a, vec b) { return _mm256_mul_ps(a, b); }
INLINE vec  vec_fma(vec a, vec b, vec c) { return _mm256_fmadd_ps(a, b, c); }
INLINE vec  vec_load(const float *p) { return _mm256_loadu_ps(p); }
INLINE void vec_store(float *p, vec v) { _mm256_storeu_ps(p, v); }
INLINE vec  vec_of_int(ivec v) { return _mm256_cvtepi32_ps(v); }

INLINE vec vec_of_half(ivec v)
{
	v = _mm256_and_si256(v, _mm256_set1_epi32(0xffff));
	return _mm256_cvtph_ps(_mm_packus_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1)));
}

INLINE ivec ivec_load(const int32_t *p) { return _mm256_loadu_si256((const void *)p); }
INLINE ivec ivec_gather(const uint8_t *base, ivec offset)
{
	return _mm256_i32gather_epi32((const void *)base, offset, 1);
}
INLINE ivec ivec_shift16(ivec v) { return _mm256_srli_epi32(v, 16); }

INLINE ivec low_nibbles(ivec v) { return _mm256_and_si256(v, _mm256_set1_epi8(15)); }
INLINE ivec high_nibbles(ivec v) { return low_nibbles(_mm256_srli_epi16(v, 4)); }
INLINE ivec flip_signs(ivec v) { return _mm256_xor_si256(v, _mm256_set1_epi8((char)0x80)); }

INLINE __m128i load16(const uint8_t *p) { return _mm_loadu_si128((const void *)p); }

INLINE void turn(const uint8_t *const row[ROWS], int64_t at, ivec out[4])
{
	ivec v[4];
	for (int i = 0; i < 4; i++) /* 128-bit lane l: row 4l + i */
		v[i] =
		    _mm256_inserti128_si256(_mm256_castsi128_si256(load16(row[i] + at)), load16(row[4 + i] + at), 1);
	ivec low01 = _mm256_unpacklo_epi32(v[0], v[1]), low23 = _mm256_unpacklo_epi32(v[2], v[3]);
	ivec high01 = _mm256_unpackhi_epi32(v[0], v[1]), high23 = _mm256_unpackhi_epi32(v[2], v[3]);
	out[0] = _mm256_unpacklo_epi64(low01, low23);
	out[1] = _mm256_unpackhi_epi64(low01, low23);
	out[2] = _mm256_unpacklo_epi64(high01, high23);
	out[3] = _mm256_unpackhi_epi64(high01, high23);
}

INLINE ivec dot_of(const ivec q[8], int zero_shift, const struct hr__matmul_xq *x)
{
	ivec sum = _mm256_setzero_si256();
	if (zero_shift >= 0)
		sum = _mm256_slli_epi32(_mm256_set1_epi32(x->minus_sum), zero_shift);
	for (int j = 0; j < 8; j++) {
		int32_t even, odd;
		memcpy(&even, x->v + 4 * j, sizeof even);
		memcpy(&odd, x->v + 4 * j + 2, sizeof odd);
		ivec low = _mm256_and_si256(q[j], _mm256_set1_epi16(255)), high = _mm256_srli_epi16(q[j], 8);
		sum = _mm256_add_epi32(sum, _mm256_madd_epi16(low, _mm256_set1_epi32(even)));
		sum = _mm256_add_epi32(sum, _mm256_madd_epi16(high, _mm256_set1_epi32(odd)));
	}
	return sum;
}

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

void hr__matmul_quant_avx2(const struct hr__matmul_job *job, const struct hr_matmul *product, int32_t begin,
                           int32_t end)
{
	rows_quant(job, product, begin, end);
}
