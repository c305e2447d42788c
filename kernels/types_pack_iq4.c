/* Encoders of IQ4_NL and IQ4_XS, whose 16 values lie closer to each other around zero.
 *
 * Scales that put the element of largest magnitude on the first value, on the last, or near them
 * are tried; each gives quants, these the scale of least squares, and the best is kept. Errors of large
 * weights count more. */
#include "kernels/types_blocks.h"

#include <math.h>

enum { BLOCK = 32, SUPER = 256, STEPS = 8 };

static int lies_above(float x, int i) { return 2 * x > (float)(hr__iq4_values[i] + hr__iq4_values[i + 1]); }

/* How many of the 15 middles between values lie below x: a search by halves, without branches. */
static int nearest_value(float x)
{
	int n = 8 * lies_above(x, 7);
	n += 4 * lies_above(x, n + 3);
	n += 2 * lies_above(x, n + 1);
	return n + lies_above(x, n);
}

/* x = scale * value for 32 elements. */
static float fit(const float *x)
{
	float extreme = 0, best = 0, most = 0;
	for (int i = 0; i < BLOCK; i++)
		if (fabsf(x[i]) > fabsf(extreme))
			extreme = x[i];
	if (fabsf(extreme) < 0x1p-100f)
		return 0;
	for (int step = -STEPS; step <= STEPS; step++)
		for (int end = 0; end < 16; end += 15) {
			float inverse = ((float)hr__iq4_values[end] + 2.0f * (float)step) / extreme, sqx = 0, sqq = 0;
			for (int i = 0; i < BLOCK; i++) {
				float q = (float)hr__iq4_values[nearest_value(inverse * x[i])], w = x[i] * x[i];
				sqx += w * q * x[i];
				sqq += w * q * q;
			}
			if (sqq > 0 && sqx * sqx > most * sqq) { /* what it takes off the sum of squares */
				most = sqx * sqx / sqq;
				best = sqx / sqq;
			}
		}
	return best;
}

static void pack_values(const float *x, uint8_t *packed, float scale)
{
	float inverse = scale != 0 ? 1 / scale : 0;
	for (int j = 0; j < BLOCK / 2; j++)
		packed[j] = (uint8_t)(nearest_value(inverse * x[j]) | nearest_value(inverse * x[j + BLOCK / 2]) << 4);
}

void hr__pack_HR_TYPE_IQ4_NL(const float *src, void *dst, size_t n)
{
	uint8_t *block = dst;
	for (size_t i = 0; i < n; i += BLOCK, block += 18) {
		hr__store_u16(block, hr__f32_to_f16(fit(src + i)));
		pack_values(src + i, block + 2, hr__load_f16(block));
	}
}

/* f16 d; u16 high pairs of bits of scales; u8 low nibbles[4] of scales; u8 q[128] */
static void pack_iq4_xs(const float *x, uint8_t *block)
{
	float    scale[SUPER / BLOCK], extreme = 0;
	uint16_t high = 0;
	for (int i = 0; i < SUPER / BLOCK; i++) {
		scale[i] = fit(x + i * BLOCK);
		if (fabsf(scale[i]) > fabsf(extreme))
			extreme = scale[i];
	}
	memset(block, 0, 8);
	hr__store_u16(block, hr__f32_to_f16(extreme / -32));
	float d = hr__load_f16(block);
	for (int i = 0; i < SUPER / BLOCK; i++) {
		int whole = d != 0 ? (int)hr__nearest(scale[i] / d, -32, 31) : 0, u = whole + 32;
		block[4 + i / 2] = (uint8_t)(block[4 + i / 2] | (u & 15) << i % 2 * 4);
		high = (uint16_t)(high | u >> 4 << 2 * i);
		pack_values(x + i * BLOCK, block + 8 + i * BLOCK / 2, d * (float)whole);
	}
	hr__store_u16(block + 2, high);
}

void hr__pack_HR_TYPE_IQ4_XS(const float *src, void *dst, size_t n)
{
	for (size_t i = 0; i < n / SUPER; i++)
		pack_iq4_xs(src + i * SUPER, (uint8_t *)dst + i * 136);
}
