/* Random numbers and random weights, the same ones each time. */
#ifndef HR_TESTS_RANDOM_BLOCKS_H
#define HR_TESTS_RANDOM_BLOCKS_H

#include "kernels/types.h"

/* Random numbers in -1..1. */
static inline float random_float(uint32_t *seed)
{
	*seed = *seed * 1664525 + 1013904223;
	return (float)(int32_t)*seed * 0x1p-31f;
}

/* n elements in blocks of a type without encoder: random bytes, and numbers for scales. */
static inline void random_blocks(enum hr_type type, uint8_t *data, size_t n, uint32_t *seed)
{
	const struct hr_type_info *info = hr_type_info(type);
	size_t                     scale = type == HR_TYPE_Q2_K ? 80 : type == HR_TYPE_Q3_K ? 108 : 0;
	for (size_t i = 0; i < n / info->block_elems * info->block_bytes; i++)
		data[i] = (uint8_t)(random_float(seed) * 128);
	for (size_t i = 0; i < n / info->block_elems; i++) {
		float d[2] = {random_float(seed) * 0.01f, random_float(seed) * 0.01f};
		hr_type_info(HR_TYPE_F16)
		    ->from_f32(d, data + i * info->block_bytes + scale, type == HR_TYPE_Q2_K ? 2 : 1);
	}
}

#endif
