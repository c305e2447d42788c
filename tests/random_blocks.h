/* Random numbers and random weights, the same ones each time. */
#ifndef HR_TESTS_RANDOM_BLOCKS_H
#define HR_TESTS_RANDOM_BLOCKS_H

#include "kernels/ops.h"

/* Random numbers in -1..1. */
static inline float random_float(uint32_t *seed)
{
	*seed = *seed * 1664525 + 1013904223;
	return (float)(int32_t)*seed * 0x1p-31f;
}

/* Ways to share scales among the elements of an f8 matrix, of which rows 0 is none and INT32_MAX all. */
static const struct hr_scale random_sharings[] = {
    {.type = HR_TYPE_F32, .rows = 0},
    {.type = HR_TYPE_F32, .rows = INT32_MAX, .cols = INT32_MAX},
    {.type = HR_TYPE_F32, .rows = 1, .cols = INT32_MAX},
    {.type = HR_TYPE_BF16, .rows = 1, .cols = INT32_MAX},
    {.type = HR_TYPE_F32, .rows = 128, .cols = 128, .skip = 70},
    {.type = HR_TYPE_BF16, .rows = 16, .cols = 32, .skip = 3},
    {.type = HR_TYPE_F16, .rows = 7, .cols = 48},
    {.type = HR_TYPE_F32, .rows = 3, .cols = 1, .skip = 2},
};
enum { N_RANDOM_SHARINGS = sizeof random_sharings / sizeof *random_sharings };

/* How many scales a rows x cols matrix of such a sharing has. */
static inline size_t count_scales(const struct hr_scale *s, int32_t rows, int32_t cols)
{
	size_t high = s->rows ? ((size_t)rows + (size_t)s->skip - 1) / (size_t)s->rows + 1 : 0;
	return high * (((size_t)cols - 1) / (size_t)(s->cols ? s->cols : 1) + 1);
}

/* n random scales of a type; some are zero, or less. */
static inline void random_scales(enum hr_type type, uint8_t *data, size_t n, uint32_t *seed)
{
	for (size_t i = 0; i < n; i++) {
		float x = random_float(seed) * 0.01f;
		if (i % 11 == 5)
			x = 0;
		hr_type_info(type)->from_f32(&x, data + i * hr_type_info(type)->block_bytes, 1);
	}
}

/* Any codes but those of NaN. */
static inline void random_codes(uint8_t *data, size_t n, uint32_t *seed)
{
	for (size_t i = 0; i < n; i++)
		do
			data[i] = (uint8_t)(int)(random_float(seed) * 128);
		while ((data[i] & 0x7f) == 0x7f);
}

/* Rows of a matrix as f32, scales and all. */
static inline void weight_to_f32(const struct hr_weight *w, float *out)
{
	const struct hr_scale     *s = &w->scale;
	const struct hr_type_info *type = hr_type_info(s->type);
	size_t                     n = (size_t)w->rows * (size_t)w->cols,
	       wide = s->rows ? ((size_t)w->cols - 1) / (size_t)s->cols + 1 : 0;
	hr_type_info(w->type)->to_f32(w->data, out, n);
	for (size_t i = 0; i < n && s->rows; i++) {
		size_t at = (i / (size_t)w->cols + (size_t)s->skip) / (size_t)s->rows * wide +
		            i % (size_t)w->cols / (size_t)s->cols;
		float scale;
		type->to_f32((const char *)s->data + at * type->block_bytes, &scale, 1);
		out[i] *= scale;
	}
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
