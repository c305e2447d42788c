/* The vectors of matmul_panel.inc in AVX-512. */
#ifndef HR_KERNELS_CPU_MATMUL_VEC_AVX512_H
#define HR_KERNELS_CPU_MATMUL_VEC_AVX512_H

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

INLINE ivec ivec_broadcast(int32_t i) { return _mm512_set1_epi32(i); }
INLINE ivec ivec_max(ivec a, ivec b) { return _mm512_max_epi32(a, b); }
INLINE ivec ivec_min(ivec a, ivec b) { return _mm512_min_epi32(a, b); }
INLINE vec  vec_of_bits(ivec v) { return _mm512_castsi512_ps(v); }
INLINE ivec look_up(const uint8_t table[16], ivec v)
{
	return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128((const void *)table)), v);
}
INLINE ivec pick_byte(ivec v, int i) /* of each lane, to all its bytes */
{
	const ivec in_lanes = _mm512_broadcast_i32x4(_mm_setr_epi32(0, 0x04040404, 0x08080808, 0x0c0c0c0c));
	return _mm512_shuffle_epi8(v, _mm512_add_epi8(in_lanes, _mm512_set1_epi8((char)i)));
}
INLINE ivec where_bits(ivec v, ivec bits,
                       ivec then) /* bytes of `then` where all of the bits are set, else 0 */
{
	return _mm512_maskz_mov_epi8(_mm512_test_epi8_mask(v, bits), then);
}

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

/* vpdpbusd adds four products of an unsigned and a signed byte to 32 bits, in each
 * lane: weights are the unsigned factor, each plane of x has a chain of its own. */
INLINE ivec dot_of(const ivec *q, int begin, int end, ivec start, const struct hr__matmul_xq *x)
{
	ivec high = _mm512_setzero_si512(), low = start;
	for (int j = begin; j < end; j++) {
		int32_t four[2];
		memcpy(&four[0], x->plane[0] + 4 * j, sizeof four[0]);
		memcpy(&four[1], x->plane[1] + 4 * j, sizeof four[1]);
		high = _mm512_dpbusd_epi32(high, q[j], _mm512_set1_epi32(four[0]));
		low = _mm512_dpbusd_epi32(low, q[j], _mm512_set1_epi32(four[1]));
	}
	return _mm512_add_epi32(_mm512_slli_epi32(high, 8), low);
}

#endif
