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
INLINE ivec ivec_broadcast(int32_t i) { return _mm256_set1_epi32(i); }
INLINE ivec ivec_max(ivec a, ivec b) { return _mm256_max_epi32(a, b); }
INLINE ivec ivec_min(ivec a, ivec b) { return _mm256_min_epi32(a, b); }
INLINE vec  vec_of_bits(ivec v) { return _mm256_castsi256_ps(v); }
INLINE ivec look_up(const uint8_t table[16], ivec v)
{
	return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128((const void *)table)), v);
}
INLINE ivec pick_byte(ivec v, int i) /* of each lane, to all its bytes */
{
	const ivec in_lanes = _mm256_broadcastsi128_si256(_mm_setr_epi32(0, 0x04040404, 0x08080808, 0x0c0c0c0c));
	return _mm256_shuffle_epi8(v, _mm256_add_epi8(in_lanes, _mm256_set1_epi8((char)i)));
}
INLINE ivec where_bits(ivec v, ivec bits,
                       ivec then) /* bytes of `then` where all of the bits are set, else 0 */
{
	return _mm256_and_si256(_mm256_cmpeq_epi8(_mm256_and_si256(v, bits), bits), then);
}

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

INLINE ivec dot_of(const ivec *q, int begin, int end, ivec start, const struct hr__matmul_xq *x)
{
	ivec sum = start;
	for (int j = begin; j < end; j++) {
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
	rows_of[product->w.type](job, product, begin, end);
}
