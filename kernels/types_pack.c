/* Encoders of block types of 32 elements, round to nearest; types_pack_k.c has those of 256.
 *
 * Scales are chosen as GGML does: the value of largest magnitude (Q8_0,
 * Q4_0, Q5_0) or the two extremes (Q4_1, Q5_1) are representable, the scale is
 * rounded to f16 only when stored, and ties round away from zero. IQ4_NL, whose 16 values
 * are not evenly spaced, looks for its scale: see types_pack_iq4.c.
 *
 * What is infinite or no number spoils its own block and nothing else. */
#include "kernels/types_blocks.h"

#include <math.h>

enum { BLOCK = 32 };

void hr__pack_HR_TYPE_Q8_0(const float *src, void *dst, size_t n)
{
	uint8_t *block = dst;
	for (size_t i = 0; i < n; i += BLOCK, block += 34) {
		float amax = 0;
		for (int j = 0; j < BLOCK; j++)
			amax = fmaxf(amax, fabsf(src[i + j]));
		float d = amax / 127, inverse = d != 0 ? 1 / d : 0;
		hr__store_u16(block, hr__f32_to_f16(d));
		for (int j = 0; j < BLOCK; j++) {
			float q = roundf(src[i + j] * inverse);
			block[2 + j] = (uint8_t)(int8_t)(fabsf(q) <= 127 ? q : 0);
		}
	}
}

static int cut(float x, int max) { return !(x > 0) ? 0 : x >= (float)max ? max : (int)x; }

/* q = floor((x - zero) * inverse + shift), cut to 0..max: nibbles, and fifth bits where max is 31. */
static void pack_quants(const float *src, uint8_t *high, uint8_t *nibbles, float zero, float inverse,
                        float shift, int max)
{
	for (int j = 0; j < BLOCK / 2; j++) {
		int a = cut((src[j] - zero) * inverse + shift, max);
		int b = cut((src[j + BLOCK / 2] - zero) * inverse + shift, max);
		nibbles[j] = (uint8_t)((a & 15) | (b & 15) << 4);
		if (max > 15) {
			high[j / 8] = (uint8_t)(high[j / 8] | a >> 4 << j % 8);
			high[2 + j / 8] = (uint8_t)(high[2 + j / 8] | b >> 4 << j % 8);
		}
	}
}

/* f16 d, `n_high` bytes of fifth bits, nibbles; half: the quant that means 0 */
static void pack_symmetric(const float *src, uint8_t *block, int half, int n_high)
{
	float extreme = 0; /* with its sign: it becomes q = 0 */
	for (int j = 0; j < BLOCK; j++)
		if (fabsf(src[j]) > fabsf(extreme))
			extreme = src[j];
	float d = extreme / (float)-half, inverse = d != 0 ? 1 / d : 0;
	hr__store_u16(block, hr__f32_to_f16(d));
	memset(block + 2, 0, (size_t)n_high);
	pack_quants(src, block + 2, block + 2 + n_high, 0, inverse, (float)half + 0.5f, 2 * half - 1);
}

/* f16 d, min, `n_high` bytes of fifth bits, nibbles */
static void pack_with_min(const float *src, uint8_t *block, int max_quant, int n_high)
{
	float min = src[0], max = src[0];
	for (int j = 1; j < BLOCK; j++) {
		min = fminf(min, src[j]);
		max = fmaxf(max, src[j]);
	}
	float d = (max - min) / (float)max_quant, inverse = d != 0 ? 1 / d : 0;
	hr__store_u16(block, hr__f32_to_f16(d));
	hr__store_u16(block + 2, hr__f32_to_f16(min));
	memset(block + 4, 0, (size_t)n_high);
	pack_quants(src, block + 4, block + 4 + n_high, min, inverse, 0.5f, max_quant);
}

void hr__pack_HR_TYPE_Q4_0(const float *src, void *dst, size_t n)
{
	for (size_t i = 0; i < n / BLOCK; i++)
		pack_symmetric(src + i * BLOCK, (uint8_t *)dst + i * 18, 8, 0);
}

void hr__pack_HR_TYPE_Q4_1(const float *src, void *dst, size_t n)
{
	for (size_t i = 0; i < n / BLOCK; i++)
		pack_with_min(src + i * BLOCK, (uint8_t *)dst + i * 20, 15, 0);
}

void hr__pack_HR_TYPE_Q5_0(const float *src, void *dst, size_t n)
{
	for (size_t i = 0; i < n / BLOCK; i++)
		pack_symmetric(src + i * BLOCK, (uint8_t *)dst + i * 22, 16, 4);
}

void hr__pack_HR_TYPE_Q5_1(const float *src, void *dst, size_t n)
{
	for (size_t i = 0; i < n / BLOCK; i++)
		pack_with_min(src + i * BLOCK, (uint8_t *)dst + i * 24, 31, 4);
}

/* The value nearest to x; the first of two equally near. */
static int nearest_mxfp4(float x, float d)
{
	int   best = 0;
	float least = INFINITY;
	for (int i = 0; i < 16; i++) {
		float error = fabsf(d * (float)hr__mxfp4_values[i] - x);
		if (error < least) {
			least = error;
			best = i;
		}
	}
	return best;
}

/* The scale is that power of 2 with which the largest value's exponent is that of 4..6. */
void hr__pack_HR_TYPE_MXFP4(const float *src, void *dst, size_t n)
{
	uint8_t *block = dst;
	for (size_t i = 0; i < n; i += BLOCK, block += 17) {
		float amax = 0;
		for (int j = 0; j < BLOCK; j++)
			amax = fmaxf(amax, fabsf(src[i + j]));
		int e = (int)(hr__f32_bits(amax) >> 23) - 2;
		block[0] = (uint8_t)(e < 0 ? 0 : e);
		float d = hr__half_of_e8m0(block[0]);
		for (int j = 0; j < BLOCK / 2; j++)
			block[1 + j] =
			    (uint8_t)(nearest_mxfp4(src[i + j], d) | nearest_mxfp4(src[i + j + BLOCK / 2], d) << 4);
	}
}
