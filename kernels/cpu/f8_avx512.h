/* 8-bit floats (E4M3) in AVX-512, for vectors and for tiles. */
#ifndef HR_KERNELS_CPU_F8_AVX512_H
#define HR_KERNELS_CPU_F8_AVX512_H

#include <immintrin.h>

/* 16 codes as f16 with bits of the same meaning, as f32; see HR__F8_SHIFT. */
static inline __attribute__((always_inline)) __m512 of_f8(__m128i b)
{
	__mmask16 number = _mm_cmpneq_epi8_mask(_mm_or_si128(b, _mm_set1_epi8((char)0x80)), _mm_set1_epi8(-1));
	__m256i   h = _mm256_slli_epi16(_mm256_cvtepi8_epi16(b), 7); /* the sign twice */
	h = _mm256_and_si256(h, _mm256_set1_epi16((short)0xbfff));
	return _mm512_mask_cvtph_ps(_mm512_set1_ps(__builtin_nanf("")), number, h);
}

#endif
