/* The table of weight types and their reference decoders and encoders.
 *
 * These say what the bytes mean; kernels are tested against them and may be as
 * clever as they like. Everything goes through memcpy, so no pointer needs any
 * alignment. The block encoders choose scales as GGML does: the value of largest
 * magnitude (Q8_0, Q4_0) or the two extremes (Q4_1) are representable, the scale
 * is rounded to f16 only when stored, and ties round away from zero.
 *
 * A type's functions are named after its enum, so that the table writes itself. */
#include "kernels/types.h"
#include "kernels/half.h"

#include <math.h>
#include <string.h>

enum { BLOCK = 32 };

static void decode_HR_TYPE_F32(const void *src, float *dst, size_t n) { memcpy(dst, src, n * sizeof *dst); }
static void encode_HR_TYPE_F32(const float *src, void *dst, size_t n) { memcpy(dst, src, n * sizeof *src); }

static uint16_t load_u16(const void *src)
{
	uint16_t u;
	memcpy(&u, src, sizeof u);
	return u;
}

static float load_f16(const void *src) { return hr__f16_to_f32(load_u16(src)); }

static void store_u16(void *dst, uint16_t u) { memcpy(dst, &u, sizeof u); }

static void decode_HR_TYPE_F16(const void *src, float *dst, size_t n)
{
	for (size_t i = 0; i < n; i++)
		dst[i] = load_f16((const uint8_t *)src + 2 * i);
}

static void encode_HR_TYPE_F16(const float *src, void *dst, size_t n)
{
	for (size_t i = 0; i < n; i++)
		store_u16((uint8_t *)dst + 2 * i, hr__f32_to_f16(src[i]));
}

static void decode_HR_TYPE_BF16(const void *src, float *dst, size_t n)
{
	for (size_t i = 0; i < n; i++)
		dst[i] = hr__bf16_to_f32(load_u16((const uint8_t *)src + 2 * i));
}

static void encode_HR_TYPE_BF16(const float *src, void *dst, size_t n)
{
	for (size_t i = 0; i < n; i++)
		store_u16((uint8_t *)dst + 2 * i, hr__f32_to_bf16(src[i]));
}

static void decode_HR_TYPE_Q8_0(const void *src, float *dst, size_t n)
{
	const uint8_t *block = src;
	for (size_t i = 0; i < n; i += BLOCK, block += 34) {
		float d = load_f16(block);
		for (int j = 0; j < BLOCK; j++)
			dst[i + j] = d * (int8_t)block[2 + j];
	}
}

static void encode_HR_TYPE_Q8_0(const float *src, void *dst, size_t n)
{
	uint8_t *block = dst;
	for (size_t i = 0; i < n; i += BLOCK, block += 34) {
		float amax = 0;
		for (int j = 0; j < BLOCK; j++)
			amax = fmaxf(amax, fabsf(src[i + j]));
		float d = amax / 127, inverse = d != 0 ? 1 / d : 0;
		store_u16(block, hr__f32_to_f16(d));
		for (int j = 0; j < BLOCK; j++)
			block[2 + j] = (uint8_t)(int8_t)roundf(src[i + j] * inverse);
	}
}

/* Element j < 16 is the low half of byte j, element 16 + j the high half. */
static void unpack_nibbles(const uint8_t *packed, float *dst, float d, float offset, float m)
{
	for (int j = 0; j < BLOCK / 2; j++) {
		dst[j] = d * ((float)(packed[j] & 15) - offset) + m;
		dst[j + BLOCK / 2] = d * ((float)(packed[j] >> 4) - offset) + m;
	}
}

static uint8_t to_nibble(float x) { return x <= 0 ? 0 : x >= 15 ? 15 : (uint8_t)x; }

/* q = floor((x - zero) * inverse + shift), cut to 0..15. */
static void pack_nibbles(const float *src, uint8_t *packed, float zero, float inverse, float shift)
{
	for (int j = 0; j < BLOCK / 2; j++) {
		uint8_t low = to_nibble((src[j] - zero) * inverse + shift);
		uint8_t high = to_nibble((src[j + BLOCK / 2] - zero) * inverse + shift);
		packed[j] = (uint8_t)(low | high << 4);
	}
}

static void decode_HR_TYPE_Q4_0(const void *src, float *dst, size_t n)
{
	const uint8_t *block = src;
	for (size_t i = 0; i < n; i += BLOCK, block += 18)
		unpack_nibbles(block + 2, dst + i, load_f16(block), 8, 0);
}

static void encode_HR_TYPE_Q4_0(const float *src, void *dst, size_t n)
{
	uint8_t *block = dst;
	for (size_t i = 0; i < n; i += BLOCK, block += 18) {
		float extreme = 0; /* with its sign: it becomes q = 0 */
		for (int j = 0; j < BLOCK; j++)
			if (fabsf(src[i + j]) > fabsf(extreme))
				extreme = src[i + j];
		float d = extreme / -8, inverse = d != 0 ? 1 / d : 0;
		store_u16(block, hr__f32_to_f16(d));
		pack_nibbles(src + i, block + 2, 0, inverse, 8.5f);
	}
}

static void decode_HR_TYPE_Q4_1(const void *src, float *dst, size_t n)
{
	const uint8_t *block = src;
	for (size_t i = 0; i < n; i += BLOCK, block += 20)
		unpack_nibbles(block + 4, dst + i, load_f16(block), 0, load_f16(block + 2));
}

static void encode_HR_TYPE_Q4_1(const float *src, void *dst, size_t n)
{
	uint8_t *block = dst;
	for (size_t i = 0; i < n; i += BLOCK, block += 20) {
		float min = src[i], max = src[i];
		for (int j = 1; j < BLOCK; j++) {
			min = fminf(min, src[i + j]);
			max = fmaxf(max, src[i + j]);
		}
		float d = (max - min) / 15, inverse = d != 0 ? 1 / d : 0;
		store_u16(block, hr__f32_to_f16(d));
		store_u16(block + 2, hr__f32_to_f16(min));
		pack_nibbles(src + i, block + 4, min, inverse, 0.5f);
	}
}

static const struct hr_type_info types[HR_TYPE_COUNT] = {
#define HR_X(id, type_name, gguf, safetensors, elems, bytes)                                                 \
	[id] = {.name = type_name,                                                                               \
	        .gguf_id = gguf,                                                                                 \
	        .safetensors_name = safetensors,                                                                 \
	        .block_elems = elems,                                                                            \
	        .block_bytes = bytes,                                                                            \
	        .to_f32 = decode_##id,                                                                           \
	        .from_f32 = encode_##id},
    HR_TYPES(HR_X)
#undef HR_X
};

const struct hr_type_info *hr_type_info(enum hr_type type) { return &types[type]; }

int hr_type_of_gguf_id(uint32_t id)
{
	for (int i = 0; i < HR_TYPE_COUNT; i++)
		if ((uint32_t)types[i].gguf_id == id)
			return i;
	return -1;
}

int hr_type_of_safetensors_name(const char *name)
{
	for (int i = 0; i < HR_TYPE_COUNT; i++)
		if (*name && !strcmp(types[i].safetensors_name, name))
			return i;
	return -1;
}

int hr_type_of_name(const char *name)
{
	for (int i = 0; i < HR_TYPE_COUNT; i++)
		if (!strcmp(types[i].name, name))
			return i;
	return -1;
}
