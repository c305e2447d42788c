/* Random weights, faster than a drive takes them.
 *
 * Everything is a function of (seed, index): a counter goes through SplitMix64's
 * finaliser (Steele, Lea, Flood 2014), so any part of a tensor can be made by
 * itself and no libm is involved: the same seed gives the same bytes anywhere.
 *
 * Floats: 12 random bits pick one of 4096 normal deviates, encoded once per
 * tensor; four elements per random word. The deviates come in pairs x, -x, so
 * their mean is exact. Quantized blocks: sums of two uniform quants, symmetric
 * about zero, made eight or sixteen at a time inside a 64-bit word; the block's
 * scale is one of 64 that differ by up to a factor of 5/3, so that a kernel which
 * takes the wrong block's scale is found out. Other block types draw whole blocks, out
 * of 4096 deviates encoded once per tensor, block by block with such scales. */
#include "runtime/format/synth.h"

#include <endian.h>
#include <string.h>

#define LANES4 0x1111111111111111ull /* a 1 in each nibble */
#define LANES8 0x0101010101010101ull /* a 1 in each byte */

/* Standard deviation of the sum of two uniform quants of 0..7, and of 0..127: sqrt((n^2 - 1) / 6). */
#define Q4_SIGMA 3.2403703f
#define Q8_SIGMA 52.25419f

uint64_t hr__synth_mix(uint64_t seed, uint64_t index)
{
	uint64_t x = seed + (index + 1) * 0x9e3779b97f4a7c15ull;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
	return x ^ (x >> 31);
}

/* Sum of twelve uniform numbers, less 6: normal up to about 3 sigma, and exact in double. */
static double deviate(uint64_t seed, uint64_t index)
{
	uint64_t sum = 0;
	for (uint64_t i = 0; i < 3; i++) {
		uint64_t x = hr__synth_mix(seed, 3 * index + i);
		sum += (x & 0xffff) + (x >> 16 & 0xffff) + (x >> 32 & 0xffff) + (x >> 48);
	}
	return ((double)sum + 6.0) / 65536.0 - 6.0;
}

/* Blocks of the types made here have a scale of their own; for floats, it is 1. */
static float scale_of(int block, int n_blocks) { return 0.75f + 0.5f * (float)block / (float)(n_blocks - 1); }

static void init_values(struct hr_synth_weights *w, float mean, float sigma)
{
	float x[HR_SYNTH_VALUES];
	int   block = (int)hr_type_info(w->type)->block_elems;
	for (int i = 0; i < HR_SYNTH_VALUES; i += 2) {
		float d = (float)deviate(~w->seed, (uint64_t)i) * sigma;
		if (block > 1)
			d *= scale_of(i / block, HR_SYNTH_VALUES / block);
		x[i] = mean + d;
		x[i + 1] = mean - d;
	}
	hr_type_info(w->type)->from_f32(x, w->values, HR_SYNTH_VALUES);
}

static void init_scales(struct hr_synth_weights *w, float sigma)
{
	float d = sigma / (w->type == HR_TYPE_Q8_0 ? Q8_SIGMA : Q4_SIGMA);
	for (int i = 0; i < HR_SYNTH_SCALES; i++) {
		float pair[2] = {d * scale_of(i, HR_SYNTH_SCALES)};
		pair[1] = -8 * pair[0];
		hr_type_info(HR_TYPE_F16)->from_f32(pair, w->scales[i], 2);
	}
}

void hr__synth_weights_init(struct hr_synth_weights *w, enum hr_type type, float mean, float sigma,
                            uint64_t seed)
{
	w->type = type;
	w->seed = seed;
	if (type == HR_TYPE_Q8_0 || type == HR_TYPE_Q4_0 || type == HR_TYPE_Q4_1)
		init_scales(w, sigma);
	else
		init_values(w, mean, sigma);
}

/* `size` is 2 or 4, a constant where this is inlined. */
static inline void fill_floats(const struct hr_synth_weights *w, uint8_t *dst, uint64_t first, uint64_t n,
                               size_t size)
{
	for (uint64_t i = 0; i < n; i += 4) {
		uint64_t x = hr__synth_mix(w->seed, (first + i) / 4);
		for (uint64_t k = 0; k < 4 && i + k < n; k++, x >>= 16)
			memcpy(dst + (i + k) * size, w->values + (x & (HR_SYNTH_VALUES - 1)) * size, size);
	}
}

static void put_word(uint8_t *dst, uint64_t x)
{
	x = htole64(x);
	memcpy(dst, &x, sizeof x);
}

/* Nibbles of 1..15 about a mean of 8. */
static uint64_t nibbles(uint64_t a, uint64_t b) { return (a & 7 * LANES4) + (b & 7 * LANES4) + LANES4; }

/* Bytes of -127..127 about a mean of 0: sums of 0..254, less 127. */
static uint64_t signed_bytes(uint64_t a, uint64_t b)
{
	uint64_t sum = (a & 127 * LANES8) + (b & 127 * LANES8);
	return ((sum & 127 * LANES8) + LANES8) ^ ((sum ^ 129 * LANES8) & 128 * LANES8); /* + 129 in each byte */
}

static void fill_q4(const struct hr_synth_weights *w, uint8_t *dst, uint64_t block, uint64_t n,
                    size_t scale_bytes)
{
	for (uint64_t i = 0; i < n; i++, dst += scale_bytes + 16) {
		uint64_t at = 5 * (block + i);
		memcpy(dst, w->scales[hr__synth_mix(w->seed, at) % HR_SYNTH_SCALES], scale_bytes);
		for (uint64_t k = 0; k < 2; k++)
			put_word(dst + scale_bytes + 8 * k,
			         nibbles(hr__synth_mix(w->seed, at + 1 + 2 * k), hr__synth_mix(w->seed, at + 2 + 2 * k)));
	}
}

static void fill_q8(const struct hr_synth_weights *w, uint8_t *dst, uint64_t block, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++, dst += 34) {
		uint64_t at = 9 * (block + i);
		memcpy(dst, w->scales[hr__synth_mix(w->seed, at) % HR_SYNTH_SCALES], 2);
		for (uint64_t k = 0; k < 4; k++)
			put_word(dst + 2 + 8 * k, signed_bytes(hr__synth_mix(w->seed, at + 1 + 2 * k),
			                                       hr__synth_mix(w->seed, at + 2 + 2 * k)));
	}
}

static void fill_blocks(const struct hr_synth_weights *w, uint8_t *dst, uint64_t first, uint64_t n)
{
	const struct hr_type_info *type = hr_type_info(w->type);
	uint64_t                   n_blocks = HR_SYNTH_VALUES / type->block_elems;
	for (uint64_t i = 0; i < n; i += type->block_elems, dst += type->block_bytes) {
		uint64_t block = hr__synth_mix(w->seed, (first + i) / type->block_elems) % n_blocks;
		memcpy(dst, w->values + block * type->block_bytes, type->block_bytes);
	}
}

void hr__synth_weights_fill(const struct hr_synth_weights *w, void *dst, uint64_t first, uint64_t n)
{
	switch (w->type) {
	case HR_TYPE_F32:
		fill_floats(w, dst, first, n, 4);
		break;
	case HR_TYPE_F16:
	case HR_TYPE_BF16:
		fill_floats(w, dst, first, n, 2);
		break;
	case HR_TYPE_Q8_0:
		fill_q8(w, dst, first / 32, n / 32);
		break;
	case HR_TYPE_Q4_0:
		fill_q4(w, dst, first / 32, n / 32, 2);
		break;
	case HR_TYPE_Q4_1:
		fill_q4(w, dst, first / 32, n / 32, 4);
		break;
	default:
		fill_blocks(w, dst, first, n);
		break;
	}
}
