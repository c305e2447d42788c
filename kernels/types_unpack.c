/* What the bytes of block types mean, in plain C: each unpacker takes a part (32
 * elements) of a block apart into integers, scales and minima. Reference decoders
 * and portable kernels are made of these; other kernels are tested against them.
 *
 * Layouts are GGML's (ggml-common.h, the gguf Python package). Those of 256
 * elements ("K") hold eight parts; scales are six or four bits or a byte, times an
 * f16 for all of the block. */
#include "kernels/types_blocks.h"

#include <stdbool.h>

enum { PART = HR_TYPE_PART_ELEMS };

const int8_t hr__iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
const int8_t hr__mxfp4_values[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

static void set_scales(struct hr_type_part *out, float d, float m)
{
	out->d[0] = out->d[1] = d;
	out->m[0] = out->m[1] = m;
}

/* Element j < 16 is the low half of byte j, element 16 + j the high half. */
static void unpack_nibbles(const uint8_t *packed, struct hr_type_part *out, int zero)
{
	for (int j = 0; j < PART / 2; j++) {
		out->q[j] = (int8_t)((packed[j] & 15) - zero);
		out->q[j + PART / 2] = (int8_t)((packed[j] >> 4) - zero);
	}
}

static void unpack_values(const uint8_t *packed, struct hr_type_part *out, const int8_t values[16])
{
	for (int j = 0; j < PART / 2; j++) {
		out->q[j] = values[packed[j] & 15];
		out->q[j + PART / 2] = values[packed[j] >> 4];
	}
}

/* Bit i of `high` is worth 16 in element i. */
static void add_fifth_bits(const uint8_t *high, struct hr_type_part *out)
{
	for (int j = 0; j < PART; j++)
		out->q[j] = (int8_t)(out->q[j] + 16 * (high[j / 8] >> j % 8 & 1));
}

void hr__unpack_HR_TYPE_Q8_0(const uint8_t *block, int part, struct hr_type_part *out)
{
	(void)part;
	set_scales(out, hr__load_f16(block), 0);
	memcpy(out->q, block + 2, PART);
}

void hr__unpack_HR_TYPE_Q4_0(const uint8_t *block, int part, struct hr_type_part *out)
{
	(void)part;
	set_scales(out, hr__load_f16(block), 0);
	unpack_nibbles(block + 2, out, 8);
}

void hr__unpack_HR_TYPE_Q4_1(const uint8_t *block, int part, struct hr_type_part *out)
{
	(void)part;
	set_scales(out, hr__load_f16(block), hr__load_f16(block + 2));
	unpack_nibbles(block + 4, out, 0);
}

void hr__unpack_HR_TYPE_Q5_0(const uint8_t *block, int part, struct hr_type_part *out)
{
	(void)part;
	set_scales(out, hr__load_f16(block), 0);
	unpack_nibbles(block + 6, out, 16);
	add_fifth_bits(block + 2, out);
}

void hr__unpack_HR_TYPE_Q5_1(const uint8_t *block, int part, struct hr_type_part *out)
{
	(void)part;
	set_scales(out, hr__load_f16(block), hr__load_f16(block + 2));
	unpack_nibbles(block + 8, out, 0);
	add_fifth_bits(block + 4, out);
}

void hr__unpack_HR_TYPE_IQ4_NL(const uint8_t *block, int part, struct hr_type_part *out)
{
	(void)part;
	set_scales(out, hr__load_f16(block), 0);
	unpack_values(block + 2, out, hr__iq4_values);
}

void hr__unpack_HR_TYPE_MXFP4(const uint8_t *block, int part, struct hr_type_part *out)
{
	(void)part;
	set_scales(out, hr__half_of_e8m0(block[0]), 0);
	unpack_values(block + 1, out, hr__mxfp4_values);
}

/* u8 scales[16], low nibble scale, high one minimum; u8 q[64]; f16 d, dmin */
void hr__unpack_HR_TYPE_Q2_K(const uint8_t *block, int part, struct hr_type_part *out)
{
	const uint8_t *q = block + 16 + part / 4 * 32;
	float          d = hr__load_f16(block + 80), dmin = hr__load_f16(block + 82);
	for (int h = 0; h < 2; h++) {
		out->d[h] = d * (float)(block[2 * part + h] & 15);
		out->m[h] = -(dmin * (float)(block[2 * part + h] >> 4));
	}
	for (int j = 0; j < PART; j++)
		out->q[j] = q[j] >> 2 * (part % 4) & 3;
}

/* u8 high bits[32]; u8 q[64]; six-bit scales in 12 bytes; f16 d */
void hr__unpack_HR_TYPE_Q3_K(const uint8_t *block, int part, struct hr_type_part *out)
{
	const uint8_t *q = block + 32 + part / 4 * 32, *s = block + 96;
	float          d = hr__load_f16(block + 108);
	for (int h = 0; h < 2; h++) {
		int i = 2 * part + h, low = i < 8 ? s[i] & 15 : s[i - 8] >> 4, high = s[8 + i % 4] >> i / 4 * 2 & 3;
		out->d[h] = d * (float)((low | high << 4) - 32);
		out->m[h] = 0;
	}
	for (int j = 0; j < PART; j++)
		out->q[j] = (int8_t)((q[j] >> 2 * (part % 4) & 3) + 4 * (block[j] >> part & 1) - 4);
}

static void k_scales(const uint8_t *block, int part, struct hr_type_part *out)
{
	uint8_t scale, min;
	hr__k_scale_min(block + 4, part, &scale, &min);
	set_scales(out, hr__load_f16(block) * (float)scale, -(hr__load_f16(block + 2) * (float)min));
}

/* f16 d, dmin; six-bit scales and minima in 12 bytes; u8 q[128] */
void hr__unpack_HR_TYPE_Q4_K(const uint8_t *block, int part, struct hr_type_part *out)
{
	const uint8_t *q = block + 16 + part / 2 * 32;
	k_scales(block, part, out);
	for (int j = 0; j < PART; j++)
		out->q[j] = q[j] >> 4 * (part % 2) & 15;
}

/* f16 d, dmin; six-bit scales and minima in 12 bytes; u8 high bits[32]; u8 q[128] */
void hr__unpack_HR_TYPE_Q5_K(const uint8_t *block, int part, struct hr_type_part *out)
{
	const uint8_t *q = block + 48 + part / 2 * 32;
	k_scales(block, part, out);
	for (int j = 0; j < PART; j++)
		out->q[j] = (int8_t)((q[j] >> 4 * (part % 2) & 15) + 16 * (block[16 + j] >> part & 1));
}

/* u8 low nibbles[128]; u8 high pairs of bits[64]; int8 scales[16]; f16 d */
void hr__unpack_HR_TYPE_Q6_K(const uint8_t *block, int part, struct hr_type_part *out)
{
	const uint8_t *low = block + part / 4 * 64 + part % 2 * 32, *high = block + 128 + part / 4 * 32;
	float          d = hr__load_f16(block + 208);
	for (int h = 0; h < 2; h++) {
		out->d[h] = d * (float)(int8_t)block[192 + 2 * part + h];
		out->m[h] = 0;
	}
	for (int j = 0; j < PART; j++)
		out->q[j] = (int8_t)((low[j] >> part % 4 / 2 * 4 & 15) + 16 * (high[j] >> 2 * (part % 4) & 3) - 32);
}

/* f16 d; u16 high pairs of bits of scales; u8 low nibbles[4] of scales; u8 q[128] */
void hr__unpack_HR_TYPE_IQ4_XS(const uint8_t *block, int part, struct hr_type_part *out)
{
	int low = block[4 + part / 2] >> 4 * (part % 2) & 15, high = hr__load_u16(block + 2) >> 2 * part & 3;
	set_scales(out, hr__load_f16(block) * (float)((low | high << 4) - 32), 0);
	unpack_values(block + 8 + 16 * part, out, hr__iq4_values);
}
