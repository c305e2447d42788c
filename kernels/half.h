/* 16-bit and 8-bit floats in plain C: what hardware does in one instruction, for the
 * reference decoders and the portable kernels. Rounding is to nearest even;
 * NaN stays NaN; no table, no branch on the machine. */
#ifndef HR_KERNELS_HALF_H
#define HR_KERNELS_HALF_H

#include <stdint.h>
#include <string.h>

static inline uint32_t hr__f32_bits(float x)
{
	uint32_t u;
	memcpy(&u, &x, sizeof u);
	return u;
}

static inline float hr__f32_of_bits(uint32_t u)
{
	float x;
	memcpy(&x, &u, sizeof x);
	return x;
}

/* The 15 bits below the sign, moved to f32's places, are the value times 2^-112,
 * subnormals included: one multiplication sets the exponent right. */
static inline float hr__f16_to_f32(uint16_t h)
{
	uint32_t sign = (uint32_t)(h & 0x8000) << 16, rest = (uint32_t)(h & 0x7fff) << 13;
	if (rest >= 0x7c00u << 13) /* infinity or NaN; the multiplication would lose it */
		return hr__f32_of_bits(sign | 0x7f800000 | rest);
	return hr__f32_of_bits(sign | hr__f32_bits(hr__f32_of_bits(rest) * 0x1p112f));
}

/* 4 bits of exponent, 3 of mantissa, no infinity; all ones are the NaN. As above, with 2^-120. */
static inline float hr__f8_e4m3_to_f32(uint8_t b)
{
	uint32_t sign = (uint32_t)(b & 0x80) << 24, rest = (uint32_t)(b & 0x7f) << 20;
	if ((b & 0x7f) == 0x7f)
		return hr__f32_of_bits(sign | 0x7fc00000);
	return hr__f32_of_bits(sign | hr__f32_bits(hr__f32_of_bits(rest) * 0x1p120f));
}

/* What is too large becomes 448, the largest. */
static inline uint8_t hr__f32_to_f8_e4m3(float x)
{
	uint32_t u = hr__f32_bits(x), sign = u >> 24 & 0x80, a = u & 0x7fffffff;
	if (a > 0x7f800000)
		return (uint8_t)(sign | 0x7f);
	if (a >= 0x43e00000)
		return (uint8_t)(sign | 0x7e);
	if (a < 0x3c800000) /* subnormal: 2^14 has its last bit where f8 ends, so the addition rounds */
		return (uint8_t)(sign | (hr__f32_bits(hr__f32_of_bits(a) + 0x1p14f) - hr__f32_bits(0x1p14f)));
	return (uint8_t)(sign | (a - (120u << 23) + 0x7ffff + (a >> 20 & 1)) >> 20);
}

static inline uint16_t hr__f32_to_f16(float x)
{
	uint32_t u = hr__f32_bits(x), sign = u >> 16 & 0x8000, a = u & 0x7fffffff;
	if (a > 0x7f800000) /* NaN, made quiet */
		return (uint16_t)(sign | 0x7e00 | (a >> 13 & 0x3ff));
	if (a >= 0x47800000) /* 65536 and above */
		return (uint16_t)(sign | 0x7c00);
	if (a < 0x38800000) /* subnormal: 0.5 has its last bit where f16 ends, so the addition rounds */
		return (uint16_t)(sign | (hr__f32_bits(hr__f32_of_bits(a) + 0.5f) - hr__f32_bits(0.5f)));
	return (uint16_t)(sign | (a - (112u << 23) + 0xfff + (a >> 13 & 1)) >> 13);
}

static inline float hr__bf16_to_f32(uint16_t h) { return hr__f32_of_bits((uint32_t)h << 16); }

static inline uint16_t hr__f32_to_bf16(float x)
{
	uint32_t u = hr__f32_bits(x);
	if ((u & 0x7fffffff) > 0x7f800000) /* NaN, made quiet */
		return (uint16_t)(u >> 16 | 0x40);
	return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

#endif
