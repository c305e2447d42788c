/* One vector of floats, as wide as this translation unit's flags allow: the
 * kernels of an instruction set are the same source, compiled with its flags.
 *
 * vf holds VF_LANES floats, vi as many int32_t. Arithmetic, comparisons and
 * shifts are the compiler's own on vector types; here is what needs an
 * instruction of its own. Tails go through the same arithmetic with
 * vf_load_part() and vf_store_part(), so that an element's bits never depend on
 * where in an array it stands. */
#ifndef HR_KERNELS_CPU_SIMD_H
#define HR_KERNELS_CPU_SIMD_H

#include "kernels/half.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

#if defined(__clang__)
#define HR_UNROLL _Pragma("unroll")
#else
#define HR_UNROLL _Pragma("GCC unroll 16")
#endif

#define HR_INLINE static inline __attribute__((always_inline, unused))

#if defined(__AVX512F__)

#define VF_LANES 16
typedef __m512  vf;
typedef int32_t vi __attribute__((vector_size(64)));

HR_INLINE vf   vf_set1(float x) { return _mm512_set1_ps(x); }
HR_INLINE vf   vf_load(const float *p) { return _mm512_loadu_ps(p); }
HR_INLINE void vf_store(float *p, vf x) { _mm512_storeu_ps(p, x); }
HR_INLINE vf   vf_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
/* b where either is NaN, as in all sets */
HR_INLINE vf vf_max(vf a, vf b) { return _mm512_max_ps(a, b); }
HR_INLINE vf vf_min(vf a, vf b) { return _mm512_min_ps(a, b); }
HR_INLINE vf vf_load_f16(const uint16_t *p)
{
	return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}
HR_INLINE void vf_store_f16(uint16_t *p, vf x)
{
	_mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
}
HR_INLINE vf vf_load_bf16(const uint16_t *p)
{
	__m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));
	return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}
/* Lanes 2i and 2i+1 exchanged. */
HR_INLINE vf vf_swap_pairs(vf x) { return _mm512_permute_ps(x, 0xb1); }
/* a0 b0 a1 b1 ...: the first half of it, and the second. */
HR_INLINE void vf_interleave(vf a, vf b, vf *low, vf *high)
{
	const __m512i l = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
	const __m512i h = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
	*low = _mm512_permutex2var_ps(a, l, b);
	*high = _mm512_permutex2var_ps(a, h, b);
}

/* Lanes are reduced pairwise, always in the same tree. */
HR_INLINE float vf_sum(vf x) { return _mm512_reduce_add_ps(x); }
HR_INLINE float vf_largest(vf x) { return _mm512_reduce_max_ps(x); }

#elif defined(__AVX2__)

#define VF_LANES 8
typedef __m256  vf;
typedef int32_t vi __attribute__((vector_size(32)));

HR_INLINE vf   vf_set1(float x) { return _mm256_set1_ps(x); }
HR_INLINE vf   vf_load(const float *p) { return _mm256_loadu_ps(p); }
HR_INLINE void vf_store(float *p, vf x) { _mm256_storeu_ps(p, x); }
HR_INLINE vf   vf_fma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
HR_INLINE vf   vf_max(vf a, vf b) { return _mm256_max_ps(a, b); }
HR_INLINE vf   vf_min(vf a, vf b) { return _mm256_min_ps(a, b); }
HR_INLINE vf   vf_load_f16(const uint16_t *p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)); }
HR_INLINE void vf_store_f16(uint16_t *p, vf x)
{
	_mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
}
HR_INLINE vf vf_load_bf16(const uint16_t *p)
{
	__m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));
	return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}
HR_INLINE vf   vf_swap_pairs(vf x) { return _mm256_permute_ps(x, 0xb1); }
HR_INLINE void vf_interleave(vf a, vf b, vf *low, vf *high)
{
	vf l = _mm256_unpacklo_ps(a, b), h = _mm256_unpackhi_ps(a, b);
	*low = _mm256_permute2f128_ps(l, h, 0x20);
	*high = _mm256_permute2f128_ps(l, h, 0x31);
}

HR_INLINE float vf_sum(vf x)
{
	__m128 h = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
	h = _mm_add_ps(h, _mm_movehl_ps(h, h));
	return _mm_cvtss_f32(_mm_add_ss(h, _mm_movehdup_ps(h)));
}
HR_INLINE float vf_largest(vf x)
{
	__m128 h = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
	h = _mm_max_ps(h, _mm_movehl_ps(h, h));
	return _mm_cvtss_f32(_mm_max_ss(h, _mm_movehdup_ps(h)));
}

#else

#define VF_LANES 4
typedef float   vf __attribute__((vector_size(16)));
typedef int32_t vi __attribute__((vector_size(16)));

HR_INLINE vf vf_set1(float x) { return (vf){x, x, x, x}; }
HR_INLINE vf vf_load(const float *p)
{
	vf x;
	memcpy(&x, p, sizeof(x));
	return x;
}
HR_INLINE void vf_store(float *p, vf x) { memcpy(p, &x, sizeof(x)); }
HR_INLINE vf   vf_fma(vf a, vf b, vf c) { return a * b + c; }
HR_INLINE vf   vf_choose(vi which, vf a, vf b) { return (vf)(((vi)a & which) | ((vi)b & ~which)); }
HR_INLINE vf   vf_max(vf a, vf b) { return vf_choose(a > b, a, b); }
HR_INLINE vf   vf_min(vf a, vf b) { return vf_choose(a < b, a, b); }
HR_INLINE vf   vf_load_f16(const uint16_t *p)
{
	uint16_t h[4];
	memcpy(h, p, sizeof(h));
	return (vf){hr__f16_to_f32(h[0]), hr__f16_to_f32(h[1]), hr__f16_to_f32(h[2]), hr__f16_to_f32(h[3])};
}
HR_INLINE void vf_store_f16(uint16_t *p, vf x)
{
	for (int i = 0; i < VF_LANES; i++)
		p[i] = hr__f32_to_f16(x[i]);
}
HR_INLINE vf vf_load_bf16(const uint16_t *p)
{
	uint16_t h[4];
	memcpy(h, p, sizeof(h));
	return (vf){hr__bf16_to_f32(h[0]), hr__bf16_to_f32(h[1]), hr__bf16_to_f32(h[2]), hr__bf16_to_f32(h[3])};
}
HR_INLINE vf   vf_swap_pairs(vf x) { return __builtin_shufflevector(x, x, 1, 0, 3, 2); }
HR_INLINE void vf_interleave(vf a, vf b, vf *low, vf *high)
{
	*low = __builtin_shufflevector(a, b, 0, 4, 1, 5);
	*high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
}
HR_INLINE float vf_sum(vf x) { return (x[0] + x[2]) + (x[1] + x[3]); }
HR_INLINE float vf_largest(vf x)
{
	x = vf_max(x, __builtin_shufflevector(x, x, 2, 3, 0, 1));
	return x[0] > x[1] ? x[0] : x[1];
}

#endif

HR_INLINE vf vf_zero(void) { return vf_set1(0); }

/* The first n < VF_LANES elements; the other lanes are 0. */
HR_INLINE vf vf_load_part(const float *p, int64_t n)
{
	float x[VF_LANES] = {0};
	memcpy(x, p, (size_t)n * sizeof(*p));
	return vf_load(x);
}

HR_INLINE void vf_store_part(float *p, vf v, int64_t n)
{
	float x[VF_LANES];
	vf_store(x, v);
	memcpy(p, x, (size_t)n * sizeof(*p));
}

/* e^x within 2 ulp; 0 below 2^-126, so that no subnormal slows what follows;
 * infinity above FLT_MAX; e^0 is 1.
 * x = n ln 2 + r, |r| <= ln 2 / 2: n by adding and subtracting 1.5 * 2^23, r with
 * ln 2 in two parts of which the first has few bits. e^r = 1 + r + r^2 P(r), P of
 * degree 4 fitted at Chebyshev nodes (1e-8 off). 2^n in two factors, since 2^128
 * is no float. */
HR_INLINE vf vf_exp(vf x)
{
	const vf magic = vf_set1(12582912.0f);
	vf       in = vf_max(vf_set1(-104.0f), vf_min(vf_set1(90.0f), x));
	vf       shifted = vf_fma(in, vf_set1(1.44269504f), magic);
	vf       n = shifted - magic;
	vf       r = vf_fma(n, vf_set1(-0.693359375f), in);
	r = vf_fma(n, vf_set1(2.12194442e-4f), r);
	vf p = vf_set1(0.00139345450f);
	p = vf_fma(p, r, vf_set1(0.00836377684f));
	p = vf_fma(p, r, vf_set1(0.0416664556f));
	p = vf_fma(p, r, vf_set1(0.166665733f));
	p = vf_fma(p, r, vf_set1(0.5f));
	p = vf_fma(p, r * r, r) + vf_set1(1.0f);
	vi whole = (vi)shifted - (vi)magic, half = whole >> 1;
	vf scaled = p * (vf)((half + 127) << 23) * (vf)((whole - half + 127) << 23);
	return (vf)((vi)scaled & ~(vi)(x < vf_set1(-87.33654f)));
}

#endif
