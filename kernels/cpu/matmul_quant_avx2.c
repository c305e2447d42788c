/* Products with quantised weights in AVX2: the vectors for matmul_quant.inc.
 *
 * vpmaddubsw multiplies unsigned by signed bytes and adds two products in 16
 * bits, where nothing may overflow:
 *   4-bit weights go in as they are, 0..15: the sums of all eight vectors fit
 *     (8 * 2 * 15 * 127 = 30480) and are widened once; Q4_0's -8 is taken off
 *     with the sum of x.
 *   Q8_0 weights give their magnitude, and their sign to x: 2 * 128 * 127 fits. */
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
INLINE ivec q8_factor(ivec v) { return v; }

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

INLINE ivec dot_of(enum hr_type type, const ivec q[8], const struct hr__matmul_xq *x)
{
	ivec ones = _mm256_set1_epi16(1), sum = _mm256_setzero_si256();
	for (int j = 0; j < 8; j++) {
		int32_t four;
		memcpy(&four, x->q + 4 * j, sizeof four);
		ivec x4 = _mm256_set1_epi32(four);
		if (type == HR_TYPE_Q8_0) {
			ivec pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(q[j]), _mm256_sign_epi8(x4, q[j]));
			sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, ones));
		} else {
			sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(q[j], x4));
		}
	}
	if (type == HR_TYPE_Q8_0)
		return sum;
	sum = _mm256_madd_epi16(sum, ones);
	if (type == HR_TYPE_Q4_0) /* 128 / 8 = 16 */
		sum = _mm256_add_epi32(sum, _mm256_set1_epi32(x->minus_128_sum / 16));
	return sum;
}

#include "kernels/cpu/matmul_quant.inc"

void hr__matmul_quant_avx2(const struct hr__matmul_job *job, const struct hr_matmul *product, int32_t begin,
                           int32_t end)
{
	rows_quant(job, product, begin, end);
}
