/* Products with quantised weights in AVX-512 VNNI: the vectors for matmul_quant.inc.
 *
 * vpdpbusd adds four products of an unsigned and a signed byte to 32 bits, in
 * each lane. Weights are the unsigned factor: Q8_0 goes in as q + 128, Q4_0 as it
 * lies there (q + 8), and -128 or -8 times the sum of x is where the dot starts. */
#include "kernels/cpu/matmul.h"

#include <immintrin.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

typedef __m512  vec;
typedef __m512i ivec;
enum { ROWS = 16 };

INLINE vec  vec_zero(void) { return _mm512_setzero_ps(); }
INLINE vec  vec_set1(float f) { return _mm512_set1_ps(f); }
INLINE vec  vec_add(vec a, vec b) { return _mm512_add_ps(a, b); }
INLINE vec  vec_mul(vec a, vec b) { return _mm512_mul_ps(a, b); }
INLINE vec  vec_fma(vec a, vec b, vec c) { return _mm512_fmadd_ps(a, b, c); }
INLINE vec  vec_load(const float *p) { return _mm512_loadu_ps(p); }
INLINE void vec_store(float *p, vec v) { _mm512_storeu_ps(p, v); }
INLINE vec  vec_of_int(ivec v) { return _mm512_cvtepi32_ps(v); }
INLINE vec  vec_of_half(ivec v) { return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(v)); }

INLINE ivec ivec_load(const int32_t *p) { return _mm512_loadu_si512(p); }
INLINE ivec ivec_gather(const uint8_t *base, ivec offset) { return _mm512_i32gather_epi32(offset, base, 1); }
INLINE ivec ivec_shift16(ivec v) { return _mm512_srli_epi32(v, 16); }

INLINE ivec low_nibbles(ivec v) { return _mm512_and_si512(v, _mm512_set1_epi8(15)); }
INLINE ivec high_nibbles(ivec v) { return low_nibbles(_mm512_srli_epi16(v, 4)); }
INLINE ivec q8_factor(ivec v) { return _mm512_xor_si512(v, _mm512_set1_epi8((char)0x80)); }

INLINE __m128i load16(const uint8_t *p) { return _mm_loadu_si128((const void *)p); }

INLINE void turn(const uint8_t *const row[ROWS], int64_t at, ivec out[4])
{
	ivec v[4];
	for (int i = 0; i < 4; i++) { /* 128-bit lane l: row 4l + i */
		v[i] = _mm512_castsi128_si512(load16(row[i] + at));
		v[i] = _mm512_inserti32x4(v[i], load16(row[4 + i] + at), 1);
		v[i] = _mm512_inserti32x4(v[i], load16(row[8 + i] + at), 2);
		v[i] = _mm512_inserti32x4(v[i], load16(row[12 + i] + at), 3);
	}
	ivec low01 = _mm512_unpacklo_epi32(v[0], v[1]), low23 = _mm512_unpacklo_epi32(v[2], v[3]);
	ivec high01 = _mm512_unpackhi_epi32(v[0], v[1]), high23 = _mm512_unpackhi_epi32(v[2], v[3]);
	out[0] = _mm512_unpacklo_epi64(low01, low23);
	out[1] = _mm512_unpackhi_epi64(low01, low23);
	out[2] = _mm512_unpacklo_epi64(high01, high23);
	out[3] = _mm512_unpackhi_epi64(high01, high23);
}

INLINE ivec dot_of(enum hr_type type, const ivec q[8], const struct hr__matmul_xq *x)
{
	ivec sum = _mm512_setzero_si512();
	if (type == HR_TYPE_Q8_0)
		sum = _mm512_set1_epi32(x->minus_128_sum);
	if (type == HR_TYPE_Q4_0)
		sum = _mm512_srai_epi32(_mm512_set1_epi32(x->minus_128_sum), 4); /* 128 / 8 = 2^4 */
	for (int j = 0; j < 8; j++) {
		int32_t four;
		memcpy(&four, x->q + 4 * j, sizeof four);
		sum = _mm512_dpbusd_epi32(sum, q[j], _mm512_set1_epi32(four));
	}
	return sum;
}

#include "kernels/cpu/matmul_quant.inc"

void hr__matmul_quant_avx512(const struct hr__matmul_job *job, const struct hr_matmul *product, int32_t begin,
                             int32_t end)
{
	rows_quant(job, product, begin, end);
}
