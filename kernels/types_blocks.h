/* Between the table of types and the files behind it: one unpacker and, where
 * there is one, one encoder for each block type, named after its enum. */
#ifndef HR_KERNELS_TYPES_BLOCKS_H
#define HR_KERNELS_TYPES_BLOCKS_H

#include "kernels/half.h"
#include "kernels/types.h"

/* unpack: a part of a block; pack: n elements, whole blocks. */
#define HR__X(id, ...)                                                                                       \
	void hr__unpack_##id(const uint8_t *block, int part, struct hr_type_part *out);                          \
	void hr__pack_##id(const float *src, void *dst, size_t n);
HR_BLOCK_TYPES(HR__X)
#undef HR__X

static inline uint16_t hr__load_u16(const void *src)
{
	uint16_t u;
	memcpy(&u, src, sizeof u);
	return u;
}

static inline float hr__load_f16(const void *src) { return hr__f16_to_f32(hr__load_u16(src)); }

static inline void hr__store_u16(void *dst, uint16_t u) { memcpy(dst, &u, sizeof u); }

/* MXFP4's scale, half of 2^(e - 127), for quants that are doubled. */
static inline float hr__half_of_e8m0(uint8_t e)
{
	return hr__f32_of_bits(e < 2 ? (uint32_t)0x00200000 << e : (uint32_t)(e - 1) << 23);
}

/* The six-bit scale and minimum of part i of Q4_K and Q5_K, out of 12 bytes. */
static inline void hr__k_scale_min(const uint8_t *s, int i, uint8_t *scale, uint8_t *min)
{
	if (i < 4) {
		*scale = s[i] & 63;
		*min = s[4 + i] & 63;
	} else {
		*scale = (uint8_t)((s[4 + i] & 15) | (s[i - 4] >> 6) << 4);
		*min = (uint8_t)((s[4 + i] >> 4) | (s[i] >> 6) << 4);
	}
}

/* The whole number nearest to x, the even one of two, within min..max (min for what is no number);
 * neither a call nor a branch. */
static inline float hr__nearest(float x, float min, float max)
{
	x = x > min ? x : min;
	x = x < max ? x : max;
	return (x + 0x1.8p23f) - 0x1.8p23f;
}

extern const int8_t hr__iq4_values[16], hr__mxfp4_values[16];

#endif
