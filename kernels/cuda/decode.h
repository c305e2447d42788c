/* Weight types on the device. A later type is one decoder here and its row in
 * HR_BLOCK_TYPES: products, embedding and cuBLAS' tiles follow.
 *
 * A block type's decoder, HR_DECODER(), turns 32 neighbouring weights into bytes and scales:
 *     w[i] = d[i / 16] * (q[i] - ZERO) + m[i / 16]
 * (d and m have one value for all 32 unless HALVES is 2; m is there only if MIN). It
 * finds them in `row`, ELEMS weights in BYTES bytes again and again, at any address,
 * in global or shared memory, and touches no byte outside of its 32 weights' block.
 * q holds four weights a word, in order. */
#ifndef HR_KERNELS_CUDA_DECODE_H
#define HR_KERNELS_CUDA_DECODE_H

#include "kernels/cuda/ops.h"

#include "kernels/cuda/cuda.h"

/* ---- Loading from any address ---- */

/* N words from byte address p. Reads aligned words, and none that holds no byte of these. */
template <int N> static __device__ __forceinline__ void hr_load_words(const uint8_t *p, uint32_t (&out)[N])
{
	unsigned        odd = (unsigned)(uintptr_t)p & 3;
	const uint32_t *at = (const uint32_t *)(p - odd);
	uint32_t        low = at[0];
#pragma unroll
	for (int i = 0; i < N; i++) {
		uint32_t high = at[i + 1 < N || odd ? i + 1 : i];
		out[i] = __funnelshift_rc(low, high, 8 * odd);
		low = high;
	}
}

static __device__ __forceinline__ uint16_t hr_load_u16(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

static __device__ __forceinline__ float hr_f16(uint16_t u) { return __half2float(__ushort_as_half(u)); }
static __device__ __forceinline__ float hr_bf16(uint16_t u) { return __uint_as_float((uint32_t)u << 16); }
static __device__ __forceinline__ float hr_load_f16(const uint8_t *p) { return hr_f16(hr_load_u16(p)); }

/* ---- Float types ---- */

template <int TYPE> struct hr_float;
template <> struct hr_float<HR_TYPE_F32> {
	static const int                        BYTES = 4;
	static __device__ __forceinline__ float load(const uint8_t *p)
	{
		return __uint_as_float(hr_load_u16(p) | (uint32_t)hr_load_u16(p + 2) << 16);
	}
	static __device__ __forceinline__ void words(const uint4 &u, float (&w)[4])
	{
		w[0] = __uint_as_float(u.x), w[1] = __uint_as_float(u.y);
		w[2] = __uint_as_float(u.z), w[3] = __uint_as_float(u.w);
	}
};
template <> struct hr_float<HR_TYPE_F16> {
	static const int                        BYTES = 2;
	static __device__ __forceinline__ float load(const uint8_t *p) { return hr_load_f16(p); }
	static __device__ __forceinline__ void  words(const uint4 &u, float (&w)[8])
	{
		const uint32_t word[4] = {u.x, u.y, u.z, u.w};
#pragma unroll
		for (int i = 0; i < 4; i++) {
			w[2 * i] = hr_f16((uint16_t)word[i]);
			w[2 * i + 1] = hr_f16((uint16_t)(word[i] >> 16));
		}
	}
};
template <> struct hr_float<HR_TYPE_BF16> {
	static const int                        BYTES = 2;
	static __device__ __forceinline__ float load(const uint8_t *p) { return hr_bf16(hr_load_u16(p)); }
	static __device__ __forceinline__ void  words(const uint4 &u, float (&w)[8])
	{
		const uint32_t word[4] = {u.x, u.y, u.z, u.w};
#pragma unroll
		for (int i = 0; i < 4; i++) {
			w[2 * i] = __uint_as_float(word[i] << 16);
			w[2 * i + 1] = __uint_as_float(word[i] & 0xffff0000u);
		}
	}
};

/* The bits of a code in the places that f16 has for them mean 2^-8 of its value, subnormal or not; so it
 * is in words(), and scales make up for it. There the first is NaN if any of them is: so their sum becomes.
 */
#define HR_F8_SHIFT 256.0f
template <> struct hr_float<HR_TYPE_F8_E4M3> {
	static const int                        BYTES = 1;
	static __device__ __forceinline__ float load(const uint8_t *p)
	{
		uint32_t b = p[0];
		float    f = hr_f16((uint16_t)((b & 0x80) << 8 | (b & 0x7f) << 7)) * HR_F8_SHIFT;
		return (b & 0x7f) == 0x7f ? NAN : f;
	}
	static __device__ __forceinline__ void words(const uint4 &u, float (&w)[16])
	{
		const uint32_t word[4] = {u.x, u.y, u.z, u.w};
		uint32_t       nan = 0;
#pragma unroll
		for (int i = 0; i < 4; i++) {
			uint32_t even = word[i] << 8, odd = word[i]; /* bytes 0 and 2, and 1 and 3, are the high ones */
			even = (even & 0x80008000u) | (even >> 1 & 0x3f803f80u);
			odd = (odd & 0x80008000u) | (odd >> 1 & 0x3f803f80u);
			w[4 * i] = hr_f16((uint16_t)even);
			w[4 * i + 1] = hr_f16((uint16_t)odd);
			w[4 * i + 2] = hr_f16((uint16_t)(even >> 16));
			w[4 * i + 3] = hr_f16((uint16_t)(odd >> 16));
			nan |= ((word[i] & 0x7f7f7f7fu) + 0x01010101u) & 0x80808080u;
		}
		w[0] = nan ? NAN : w[0];
	}
};

/* Element i of floats of a type known only at run time. */
static __device__ __forceinline__ float hr_load_float(const void *p, int type, int64_t i)
{
	const uint8_t *at = (const uint8_t *)p;
	switch (type) {
	case HR_TYPE_F32:
		return hr_float<HR_TYPE_F32>::load(at + 4 * i);
	case HR_TYPE_F16:
		return hr_float<HR_TYPE_F16>::load(at + 2 * i);
	case HR_TYPE_F8_E4M3:
		return hr_float<HR_TYPE_F8_E4M3>::load(at + i);
	default:
		return hr_float<HR_TYPE_BF16>::load(at + 2 * i);
	}
}

/* Scales of f8, see struct hr_scale. */
struct hr_scale_table {
	const void *data;
	int         type, rows, cols, skip;
	int         n; /* for one row */
};

static inline hr_scale_table hr_scales_of(const struct hr_weight *w)
{
	const struct hr_scale *s = &w->scale;
	hr_scale_table         t = {s->data, s->type, s->rows, s->cols, s->skip, 0};
	t.n = s->rows ? (int)hr_div_up(w->cols, s->cols) : 0;
	return t;
}

/* Where those of a row begin, then the one of column k. */
static __device__ __forceinline__ int64_t hr_scale_row(const hr_scale_table &t, int64_t row)
{
	return t.rows ? (row + t.skip) / t.rows * t.n : 0;
}
static __device__ __forceinline__ float hr_scale_at(const hr_scale_table &t, int64_t begin, int k)
{
	return t.rows ? hr_load_float(t.data, t.type, begin + (t.n > 1 ? k / t.cols : 0)) : 1.0f;
}

/* ---- Block types ---- */

struct hr_block32 {
	uint32_t q[8];
	float    d[2], m[2];
};

/* Low nibbles are the first 16 weights, high ones the others. */
static __device__ __forceinline__ void hr_split_nibbles(const uint32_t (&words)[4], uint32_t (&q)[8])
{
#pragma unroll
	for (int i = 0; i < 4; i++) {
		q[i] = words[i] & 0x0f0f0f0fu;
		q[i + 4] = words[i] >> 4 & 0x0f0f0f0fu;
	}
}

/* Nibbles that choose among 16 bytes, four of them in each word of `values`. */
static __device__ __forceinline__ void hr_look_up_nibbles(const uint32_t (&words)[4],
                                                          const uint32_t (&values)[4], uint32_t (&q)[8])
{
#pragma unroll
	for (int i = 0; i < 4; i++) {
		uint32_t w = words[i], s = w & 0x77777777u, pairs[2];
#pragma unroll
		for (int k = 0; k < 2; k++, s >>= 16, w >>= 16) /* nibbles 0-3, then 4-7, as bytes */
			pairs[k] = __byte_perm(__byte_perm(values[0], values[1], s), __byte_perm(values[2], values[3], s),
			                       0x3210 | (w >> 1 & 0x4444));
		q[i] = __byte_perm(pairs[0], pairs[1], 0x6420);
		q[i + 4] = __byte_perm(pairs[0], pairs[1], 0x7531);
	}
}

/* Bit i of `bits` becomes bit 4 of weight i. */
static __device__ __forceinline__ void hr_add_fifth_bits(uint32_t bits, uint32_t (&q)[8])
{
#pragma unroll
	for (int i = 0; i < 8; i++)
		q[i] |= ((bits >> 4 * i & 15) * 0x00204081u & 0x01010101u) << 4;
}

/* The bits of `mask` in each byte of 8 words, from bit `shift` on, at bit `to`. */
static __device__ __forceinline__ void hr_add_bits(const uint8_t *p, int shift, uint32_t mask, int to,
                                                   uint32_t (&q)[8])
{
	uint32_t words[8];
	hr_load_words(p, words);
#pragma unroll
	for (int i = 0; i < 8; i++)
		q[i] |= (words[i] >> shift & mask * 0x01010101u) << to;
}

static __device__ __forceinline__ void hr_clear(uint32_t (&q)[8])
{
#pragma unroll
	for (int i = 0; i < 8; i++)
		q[i] = 0;
}

#define HR_DECODER(TYPE, ELEMS_, BYTES_, ZERO_, HALVES_, MIN_)                                                 \
	template <> struct hr_decoder<TYPE> {                                                                      \
		static const int                       ELEMS = ELEMS_, BYTES = BYTES_, ZERO = ZERO_, HALVES = HALVES_; \
		static const bool                      MIN = MIN_;                                                     \
		static __device__ __forceinline__ void unpack(const uint8_t *p, int part, hr_block32 &b);              \
		static __device__ __forceinline__ void decode(const uint8_t *row, int i, hr_block32 &b)                \
		{                                                                                                      \
			unpack(row + i / (ELEMS / 32) * BYTES, i % (ELEMS / 32), b);                                       \
		}                                                                                                      \
	};                                                                                                         \
	__device__ __forceinline__ void hr_decoder<TYPE>::unpack(const uint8_t *p, int part, hr_block32 &b)

/* Weights, bytes, ZERO, HALVES, MIN; then how part `part` (32 weights) of the block at p is unpacked. The
 * layouts are described in kernels/types_unpack.c. */
template <int TYPE> struct hr_decoder;

HR_DECODER(HR_TYPE_Q8_0, 32, 34, 0, 1, false)
{
	(void)part;
	b.d[0] = hr_load_f16(p);
	hr_load_words(p + 2, b.q);
}

HR_DECODER(HR_TYPE_Q4_0, 32, 18, 8, 1, false)
{
	uint32_t nibbles[4];
	(void)part;
	b.d[0] = hr_load_f16(p);
	hr_load_words(p + 2, nibbles);
	hr_split_nibbles(nibbles, b.q);
}

HR_DECODER(HR_TYPE_Q4_1, 32, 20, 0, 1, true)
{
	uint32_t nibbles[4];
	(void)part;
	b.d[0] = hr_load_f16(p);
	b.m[0] = hr_load_f16(p + 2);
	hr_load_words(p + 4, nibbles);
	hr_split_nibbles(nibbles, b.q);
}

HR_DECODER(HR_TYPE_Q5_0, 32, 22, 16, 1, false)
{
	uint32_t nibbles[4], high[1];
	(void)part;
	b.d[0] = hr_load_f16(p);
	hr_load_words(p + 2, high);
	hr_load_words(p + 6, nibbles);
	hr_split_nibbles(nibbles, b.q);
	hr_add_fifth_bits(high[0], b.q);
}

HR_DECODER(HR_TYPE_Q5_1, 32, 24, 0, 1, true)
{
	uint32_t nibbles[4], high[1];
	(void)part;
	b.d[0] = hr_load_f16(p);
	b.m[0] = hr_load_f16(p + 2);
	hr_load_words(p + 4, high);
	hr_load_words(p + 8, nibbles);
	hr_split_nibbles(nibbles, b.q);
	hr_add_fifth_bits(high[0], b.q);
}

HR_DECODER(HR_TYPE_Q2_K, 256, 84, 0, 2, true)
{
	float d = hr_load_f16(p + 80), dmin = hr_load_f16(p + 82);
#pragma unroll
	for (int h = 0; h < 2; h++) {
		b.d[h] = d * (float)(p[2 * part + h] & 15);
		b.m[h] = -(dmin * (float)(p[2 * part + h] >> 4));
	}
	hr_clear(b.q);
	hr_add_bits(p + 16 + part / 4 * 32, 2 * (part % 4), 3, 0, b.q);
}

HR_DECODER(HR_TYPE_Q3_K, 256, 110, 4, 2, false)
{
	const uint8_t *s = p + 96;
	float          d = hr_load_f16(p + 108);
#pragma unroll
	for (int h = 0; h < 2; h++) {
		int i = 2 * part + h, low = i < 8 ? s[i] & 15 : s[i - 8] >> 4, high = s[8 + i % 4] >> i / 4 * 2 & 3;
		b.d[h] = d * (float)((low | high << 4) - 32);
	}
	hr_clear(b.q);
	hr_add_bits(p + 32 + part / 4 * 32, 2 * (part % 4), 3, 0, b.q);
	hr_add_bits(p, part, 1, 2, b.q);
}

/* Six-bit scales and minima: those of parts 4 to 7 have their high bits with parts 0 to 3. */
static __device__ __forceinline__ void hr_k_scales(const uint8_t *p, int part, hr_block32 &b)
{
	const uint8_t *s = p + 4;
	int            scale = part < 4 ? s[part] & 63 : (s[part + 4] & 15) | s[part - 4] >> 6 << 4;
	int            min = part < 4 ? s[part + 4] & 63 : s[part + 4] >> 4 | s[part] >> 6 << 4;
	b.d[0] = hr_load_f16(p) * (float)scale;
	b.m[0] = -(hr_load_f16(p + 2) * (float)min);
}

HR_DECODER(HR_TYPE_Q4_K, 256, 144, 0, 1, true)
{
	hr_k_scales(p, part, b);
	hr_clear(b.q);
	hr_add_bits(p + 16 + part / 2 * 32, 4 * (part % 2), 15, 0, b.q);
}

HR_DECODER(HR_TYPE_Q5_K, 256, 176, 0, 1, true)
{
	hr_k_scales(p, part, b);
	hr_clear(b.q);
	hr_add_bits(p + 48 + part / 2 * 32, 4 * (part % 2), 15, 0, b.q);
	hr_add_bits(p + 16, part, 1, 4, b.q);
}

HR_DECODER(HR_TYPE_Q6_K, 256, 210, 32, 2, false)
{
	float d = hr_load_f16(p + 208);
#pragma unroll
	for (int h = 0; h < 2; h++)
		b.d[h] = d * (float)(int8_t)p[192 + 2 * part + h];
	hr_clear(b.q);
	hr_add_bits(p + part / 4 * 64 + part % 2 * 32, part % 4 / 2 * 4, 15, 0, b.q);
	hr_add_bits(p + 128 + part / 4 * 32, 2 * (part % 4), 3, 4, b.q);
}

/* -127 -104 -83 -65 -49 -35 -22 -10 1 13 25 38 53 69 89 113 */
static __device__ __forceinline__ void hr_iq4(const uint8_t *p, hr_block32 &b)
{
	const uint32_t values[4] = {0xbfad9881u, 0xf6eaddcfu, 0x26190d01u, 0x71594535u};
	uint32_t       nibbles[4];
	hr_load_words(p, nibbles);
	hr_look_up_nibbles(nibbles, values, b.q);
}

HR_DECODER(HR_TYPE_IQ4_NL, 32, 18, 0, 1, false)
{
	(void)part;
	b.d[0] = hr_load_f16(p);
	hr_iq4(p + 2, b);
}

HR_DECODER(HR_TYPE_IQ4_XS, 256, 136, 0, 1, false)
{
	int low = p[4 + part / 2] >> 4 * (part % 2) & 15, high = hr_load_u16(p + 2) >> 2 * part & 3;
	b.d[0] = hr_load_f16(p) * (float)((low | high << 4) - 32);
	hr_iq4(p + 8 + 16 * part, b);
}

/* 0 1 2 3 4 6 8 12, then the same negative, in halves of the power of two that byte 0 stands for */
HR_DECODER(HR_TYPE_MXFP4, 32, 17, 0, 1, false)
{
	const uint32_t values[4] = {0x03020100u, 0x0c080604u, 0xfdfeff00u, 0xf4f8fafcu};
	uint32_t       nibbles[4], e = p[0];
	(void)part;
	b.d[0] = __uint_as_float(e < 2 ? 0x00200000u << e : (e - 1) << 23);
	hr_load_words(p + 1, nibbles);
	hr_look_up_nibbles(nibbles, values, b.q);
}

/* Weight k of the 32 as a float, rounded as the reference decoders round. */
template <typename D> static __device__ __forceinline__ float hr_block_weight(const hr_block32 &b, int k)
{
	int   q = (int8_t)(b.q[k / 4] >> 8 * (k % 4)), half = D::HALVES == 2 ? k / 16 : 0;
	float w = b.d[half] * (float)(q - D::ZERO);
	return D::MIN ? w + b.m[half] : w;
}

#endif
