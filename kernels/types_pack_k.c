/* Encoders of block types of 256 elements ("K").
 *
 * For each part, scales around the one that takes the extremes in are tried; each gives
 * quants, these give the scale (and the minimum) of least squares, and the best is kept. Errors of
 * large weights count more, for they are multiplied with more. The parts' scales are
 * then rounded themselves, and quants chosen anew with what was stored. */
#include "kernels/types_blocks.h"

#include <math.h>

enum { BLOCK = 32, SUPER = 256, SMALL = 16 };

/* x = scale * q - min for n elements, q in 0..max, min >= 0. */
static void fit_with_min(const float *x, int n, int max, float *scale_out, float *min_out)
{
	float low = 0, high = x[0], squares = 0, w[BLOCK], least = INFINITY;
	for (int i = 0; i < n; i++) {
		low = fminf(low, x[i]);
		high = fmaxf(high, x[i]);
		squares += x[i] * x[i];
	}
	*scale_out = 0;
	*min_out = -low;
	if (!(high > low))
		return;
	float rms = sqrtf(squares / (float)n);
	for (int i = 0; i < n; i++)
		w[i] = rms + fabsf(x[i]);
	for (int step = -10; step <= 10; step++) {
		float inverse = ((float)max + 0.1f * (float)step) / (high - low), q[BLOCK];
		float sw = 0, sx = 0, sq = 0, sqq = 0, sqx = 0, error = 0;
		for (int i = 0; i < n; i++) {
			q[i] = hr__nearest(inverse * (x[i] - low), 0, (float)max);
			sw += w[i];
			sx += w[i] * x[i];
			sq += w[i] * q[i];
			sqq += w[i] * q[i] * q[i];
			sqx += w[i] * q[i] * x[i];
		}
		float determinant = sw * sqq - sq * sq;
		if (!(determinant > 0))
			continue;
		float scale = (sw * sqx - sx * sq) / determinant, min = (sqq * sx - sq * sqx) / determinant;
		if (min > 0) {
			min = 0;
			scale = sqx / sqq;
		}
		for (int i = 0; i < n; i++) {
			float e = scale * q[i] + min - x[i];
			error += w[i] * e * e;
		}
		if (error < least) {
			least = error;
			*scale_out = scale;
			*min_out = -min;
		}
	}
}

/* Eight six-bit scales and minima as hr__k_scale_min() reads them. */
static void put_k_scales(uint8_t *s, const int scale[8], const int min[8])
{
	for (int i = 0; i < 4; i++) {
		s[i] = (uint8_t)(scale[i] | scale[4 + i] >> 4 << 6);
		s[4 + i] = (uint8_t)(min[i] | min[4 + i] >> 4 << 6);
		s[8 + i] = (uint8_t)((scale[4 + i] & 15) | (min[4 + i] & 15) << 4);
	}
}

/* Header and quants of Q4_K and Q5_K. */
static void quantize_k(const float *x, int max, uint8_t *header, uint8_t q[SUPER])
{
	float scale[8], min[8], max_scale = 0, max_min = 0;
	int   scale_q[8], min_q[8];
	for (int i = 0; i < 8; i++) {
		fit_with_min(x + i * BLOCK, BLOCK, max, &scale[i], &min[i]);
		max_scale = fmaxf(max_scale, scale[i]);
		max_min = fmaxf(max_min, min[i]);
	}
	hr__store_u16(header, hr__f32_to_f16(max_scale / 63));
	hr__store_u16(header + 2, hr__f32_to_f16(max_min / 63));
	float d = hr__load_f16(header), dmin = hr__load_f16(header + 2);
	for (int i = 0; i < 8; i++) {
		scale_q[i] = d > 0 ? (int)hr__nearest(scale[i] / d, 0, 63) : 0;
		min_q[i] = dmin > 0 ? (int)hr__nearest(min[i] / dmin, 0, 63) : 0;
		float step = d * (float)scale_q[i], zero = dmin * (float)min_q[i];
		for (int j = i * BLOCK; j < (i + 1) * BLOCK; j++)
			q[j] = (uint8_t)(step > 0 ? hr__nearest((x[j] + zero) / step, 0, (float)max) : 0);
	}
	put_k_scales(header + 4, scale_q, min_q);
}

void hr__pack_HR_TYPE_Q4_K(const float *src, void *dst, size_t n)
{
	uint8_t *block = dst, q[SUPER];
	for (size_t i = 0; i < n; i += SUPER, block += 144) {
		quantize_k(src + i, 15, block, q);
		for (int j = 0; j < SUPER / 2; j++) {
			const uint8_t *pair = q + j / 32 * 64 + j % 32;
			block[16 + j] = (uint8_t)(pair[0] | pair[32] << 4);
		}
	}
}

void hr__pack_HR_TYPE_Q5_K(const float *src, void *dst, size_t n)
{
	uint8_t *block = dst, q[SUPER];
	for (size_t i = 0; i < n; i += SUPER, block += 176) {
		quantize_k(src + i, 31, block, q);
		memset(block + 16, 0, 32);
		for (int j = 0; j < SUPER; j++)
			block[16 + j % 32] = (uint8_t)(block[16 + j % 32] | q[j] >> 4 << j / 32);
		for (int j = 0; j < SUPER / 2; j++) {
			const uint8_t *pair = q + j / 32 * 64 + j % 32;
			block[48 + j] = (uint8_t)((pair[0] & 15) | (pair[32] & 15) << 4);
		}
	}
}

/* x = scale * q for n elements, q in -half..half - 1; errors count with x^2. */
static float fit_symmetric(const float *x, int n, int half)
{
	float extreme = 0, best = 0, most = 0;
	for (int i = 0; i < n; i++)
		if (fabsf(x[i]) > fabsf(extreme))
			extreme = x[i];
	if (fabsf(extreme) < 0x1p-100f)
		return 0;
	for (int step = -9; step <= 9; step++) {
		float inverse = -((float)half + 0.1f * (float)step) / extreme, sqx = 0, sqq = 0;
		for (int i = 0; i < n; i++) {
			float q = hr__nearest(inverse * x[i], (float)-half, (float)half - 1), w = x[i] * x[i];
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

static void pack_q6_k(const float *x, uint8_t *block)
{
	float   scale[16], extreme = 0;
	uint8_t q[SUPER];
	for (int i = 0; i < 16; i++) {
		scale[i] = fit_symmetric(x + i * 16, 16, 32);
		if (fabsf(scale[i]) > fabsf(extreme))
			extreme = scale[i];
	}
	hr__store_u16(block + 208, hr__f32_to_f16(extreme / -128));
	float d = hr__load_f16(block + 208);
	for (int i = 0; i < 16; i++) {
		int s = d != 0 ? (int)hr__nearest(scale[i] / d, -128, 127) : 0;
		block[192 + i] = (uint8_t)(int8_t)s;
		float step = d * (float)s;
		for (int j = i * 16; j < (i + 1) * 16; j++)
			q[j] = (uint8_t)(32 + (step != 0 ? hr__nearest(x[j] / step, -32, 31) : 0));
	}
	for (int j = 0; j < SUPER / 2; j++) { /* a byte holds nibbles that are 64 apart */
		const uint8_t *pair = q + j / 64 * 128 + j % 64;
		block[j] = (uint8_t)((pair[0] & 15) | (pair[64] & 15) << 4);
	}
	for (int j = 0; j < SUPER / 4; j++) { /* and pairs of bits that are 32 apart */
		const uint8_t *four = q + j / 32 * 128 + j % 32;
		block[128 + j] =
		    (uint8_t)(four[0] >> 4 | four[32] >> 4 << 2 | four[64] >> 4 << 4 | four[96] >> 4 << 6);
	}
}

void hr__pack_HR_TYPE_Q6_K(const float *src, void *dst, size_t n)
{
	for (size_t i = 0; i < n / SUPER; i++)
		pack_q6_k(src + i * SUPER, (uint8_t *)dst + i * 210);
}

/* u8 scales[16], low nibble scale, high one minimum; u8 q[64]; f16 d, dmin */
static void pack_q2_k(const float *x, uint8_t *block)
{
	float   scale[SMALL], min[SMALL], max_scale = 0, max_min = 0;
	uint8_t q[SUPER];
	for (int i = 0; i < SMALL; i++) {
		fit_with_min(x + i * SMALL, SMALL, 3, &scale[i], &min[i]);
		max_scale = fmaxf(max_scale, scale[i]);
		max_min = fmaxf(max_min, min[i]);
	}
	hr__store_u16(block + 80, hr__f32_to_f16(max_scale / 15));
	hr__store_u16(block + 82, hr__f32_to_f16(max_min / 15));
	float d = hr__load_f16(block + 80), dmin = hr__load_f16(block + 82);
	for (int i = 0; i < SMALL; i++) {
		int   s = d > 0 ? (int)hr__nearest(scale[i] / d, 0, 15) : 0;
		int   m = dmin > 0 ? (int)hr__nearest(min[i] / dmin, 0, 15) : 0;
		float step = d * (float)s, zero = dmin * (float)m;
		block[i] = (uint8_t)(s | m << 4);
		for (int j = i * SMALL; j < (i + 1) * SMALL; j++)
			q[j] = (uint8_t)(step > 0 ? hr__nearest((x[j] + zero) / step, 0, 3) : 0);
	}
	for (int j = 0; j < SUPER / 4; j++) { /* a byte holds pairs of bits that are 32 apart */
		const uint8_t *four = q + j / 32 * 128 + j % 32;
		block[16 + j] = (uint8_t)(four[0] | four[32] << 2 | four[64] << 4 | four[96] << 6);
	}
}

void hr__pack_HR_TYPE_Q2_K(const float *src, void *dst, size_t n)
{
	for (size_t i = 0; i < n / SUPER; i++)
		pack_q2_k(src + i * SUPER, (uint8_t *)dst + i * 84);
}

/* u8 high bits[32]; u8 q[64]; six-bit scales in 12 bytes; f16 d */
static void pack_q3_k(const float *x, uint8_t *block)
{
	float   scale[SMALL], extreme = 0;
	uint8_t q[SUPER], *s = block + 96;
	for (int i = 0; i < SMALL; i++) {
		scale[i] = fit_symmetric(x + i * SMALL, SMALL, 4);
		if (fabsf(scale[i]) > fabsf(extreme))
			extreme = scale[i];
	}
	memset(block, 0, 108);
	hr__store_u16(block + 108, hr__f32_to_f16(extreme / -32));
	float d = hr__load_f16(block + 108);
	for (int i = 0; i < SMALL; i++) {
		int   whole = d != 0 ? (int)hr__nearest(scale[i] / d, -32, 31) : 0, u = whole + 32;
		float step = d * (float)whole;
		s[i % 8] = (uint8_t)(s[i % 8] | (u & 15) << i / 8 * 4);
		s[8 + i % 4] = (uint8_t)(s[8 + i % 4] | u >> 4 << i / 4 * 2);
		for (int j = i * SMALL; j < (i + 1) * SMALL; j++)
			q[j] = (uint8_t)(4 + (step != 0 ? hr__nearest(x[j] / step, -4, 3) : 0));
	}
	for (int j = 0; j < SUPER; j++)
		block[j % 32] = (uint8_t)(block[j % 32] | q[j] >> 2 << j / 32);
	for (int j = 0; j < SUPER / 4; j++) {
		const uint8_t *four = q + j / 32 * 128 + j % 32;
		block[32 + j] =
		    (uint8_t)((four[0] & 3) | (four[32] & 3) << 2 | (four[64] & 3) << 4 | (four[96] & 3) << 6);
	}
}

void hr__pack_HR_TYPE_Q3_K(const float *src, void *dst, size_t n)
{
	for (size_t i = 0; i < n / SUPER; i++)
		pack_q3_k(src + i * SUPER, (uint8_t *)dst + i * 110);
}
