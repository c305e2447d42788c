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

/* Random bytes for n elements in blocks, and small numbers for scales. */
static inline void random_blocks(enum hr_type type, uint8_t *data, size_t n, uint32_t *seed)
{
	const struct hr_type_info *info = hr_type_info(type);
	size_t at = type == HR_TYPE_Q2_K ? 80 : type == HR_TYPE_Q3_K ? 108 : type == HR_TYPE_Q6_K ? 208 : 0;
	bool   has_min = type == HR_TYPE_Q4_1 || type == HR_TYPE_Q5_1 || type == HR_TYPE_Q2_K ||
	               type == HR_TYPE_Q4_K || type == HR_TYPE_Q5_K;
	for (size_t i = 0; i < n / info->block_elems; i++, data += info->block_bytes) {
		float d[2] = {random_float(seed) * 0.01f, random_float(seed) * 0.01f};
		for (size_t k = 0; k < info->block_bytes; k++)
			data[k] = (uint8_t)(int)(random_float(seed) * 128);
		if (type == HR_TYPE_MXFP4)
			data[0] = (uint8_t)(120 + data[0] % 4);
		else
			hr_type_info(HR_TYPE_F16)->from_f32(d, data + at, has_min ? 2 : 1);
	}
}

#endif
