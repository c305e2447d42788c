/* The table of weight types, and the reference decoders and encoders of floats.
 *
 * These say what the bytes mean; kernels are tested against them and may be as
 * clever as they like. Everything goes through memcpy, so no pointer needs any
 * alignment. Block types are taken apart in types_unpack.c and made in types_pack.c.
 *
 * A type's functions are named after its enum, so that the table writes itself. */
#include "kernels/types.h"
#include "kernels/types_blocks.h"

static void decode_HR_TYPE_F32(const void *src, float *dst, size_t n) { memcpy(dst, src, n * sizeof *dst); }
static void encode_f32(const float *src, void *dst, size_t n) { memcpy(dst, src, n * sizeof *src); }

static void decode_HR_TYPE_F16(const void *src, float *dst, size_t n)
{
	for (size_t i = 0; i < n; i++)
		dst[i] = hr__load_f16((const uint8_t *)src + 2 * i);
}

static void encode_f16(const float *src, void *dst, size_t n)
{
	for (size_t i = 0; i < n; i++)
		hr__store_u16((uint8_t *)dst + 2 * i, hr__f32_to_f16(src[i]));
}

static void decode_HR_TYPE_BF16(const void *src, float *dst, size_t n)
{
	for (size_t i = 0; i < n; i++)
		dst[i] = hr__bf16_to_f32(hr__load_u16((const uint8_t *)src + 2 * i));
}

static void encode_bf16(const float *src, void *dst, size_t n)
{
	for (size_t i = 0; i < n; i++)
		hr__store_u16((uint8_t *)dst + 2 * i, hr__f32_to_bf16(src[i]));
}

static void decode_HR_TYPE_F8_E4M3(const void *src, float *dst, size_t n)
{
	for (size_t i = 0; i < n; i++)
		dst[i] = hr__f8_e4m3_to_f32(((const uint8_t *)src)[i]);
}

static void encode_f8(const float *src, void *dst, size_t n)
{
	for (size_t i = 0; i < n; i++)
		((uint8_t *)dst)[i] = hr__f32_to_f8_e4m3(src[i]);
}

/* Floats have no parts. */
#define hr__unpack_HR_TYPE_F32     NULL
#define hr__unpack_HR_TYPE_F16     NULL
#define hr__unpack_HR_TYPE_BF16    NULL
#define hr__unpack_HR_TYPE_F8_E4M3 NULL
#define hr__pack_HR_TYPE_F32       encode_f32
#define hr__pack_HR_TYPE_F16       encode_f16
#define hr__pack_HR_TYPE_BF16      encode_bf16
#define hr__pack_HR_TYPE_F8_E4M3   encode_f8

static void decode_blocks(enum hr_type id, const void *src, float *dst, size_t n)
{
	const struct hr_type_info *type = hr_type_info(id);
	for (size_t i = 0; i < n; i += HR_TYPE_PART_ELEMS) {
		struct hr_type_part part;
		type->unpack((const uint8_t *)src + i / type->block_elems * type->block_bytes,
		             (int)(i % type->block_elems / HR_TYPE_PART_ELEMS), &part);
		for (int j = 0; j < HR_TYPE_PART_ELEMS; j++)
			dst[i + (size_t)j] = part.d[j / 16] * (float)part.q[j] + part.m[j / 16];
	}
}

#define HR_X(id, ...)                                                                                        \
	static void decode_##id(const void *src, float *dst, size_t n) { decode_blocks(id, src, dst, n); }
HR_BLOCK_TYPES(HR_X)
#undef HR_X

static const struct hr_type_info types[HR_TYPE_COUNT] = {
#define HR_X(id, type_name, gguf, safetensors, elems, bytes)                                                 \
	[id] = {.name = type_name,                                                                               \
	        .gguf_id = gguf,                                                                                 \
	        .safetensors_name = safetensors,                                                                 \
	        .block_elems = elems,                                                                            \
	        .block_bytes = bytes,                                                                            \
	        .to_f32 = decode_##id,                                                                           \
	        .unpack = hr__unpack_##id,                                                                       \
	        .from_f32 = hr__pack_##id},
    HR_TYPES(HR_X)
#undef HR_X
};

const struct hr_type_info *hr_type_info(enum hr_type type) { return &types[type]; }

int hr_type_of_gguf_id(uint32_t id)
{
	for (int i = 0; i < HR_TYPE_COUNT; i++)
		if (types[i].gguf_id >= 0 && (uint32_t)types[i].gguf_id == id)
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
