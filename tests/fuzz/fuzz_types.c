/* Fuzzes the blocks of weight types: any bytes are weights, and any floats can be written as any
 * type. The first byte picks the type. The two ways to take a block apart agree, and decoding what
 * was encoded ends, whatever is infinite or no number. */
#include "kernels/types.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

enum { MAX_ELEMS = 256 };

static bool same(float a, float b) { return a == b || (isnan(a) && isnan(b)); }

static void decode(const struct hr_type_info *t, const uint8_t *block)
{
	float x[MAX_ELEMS];
	t->to_f32(block, x, t->block_elems);
	if (!t->unpack)
		return;
	for (int part = 0; part < (int)t->block_elems / HR_TYPE_PART_ELEMS; part++) {
		struct hr_type_part p;
		t->unpack(block, part, &p);
		for (int i = 0; i < HR_TYPE_PART_ELEMS; i++)
			if (!same(x[part * HR_TYPE_PART_ELEMS + i], p.d[i / 16] * (float)p.q[i] + p.m[i / 16]))
				abort();
	}
}

static void encode(const struct hr_type_info *t, const float x[MAX_ELEMS])
{
	float    back[MAX_ELEMS];
	uint8_t *block = malloc(t->block_bytes);
	t->from_f32(x, block, t->block_elems);
	t->to_f32(block, back, t->block_elems);
	free(block);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	if (!n)
		return 0;
	const struct hr_type_info *t = hr_type_info((enum hr_type)(data[0] % HR_TYPE_COUNT));
	data++, n--;
	for (size_t at = 0; at + t->block_bytes <= n; at += t->block_bytes) {
		uint8_t *block = malloc(t->block_bytes); /* so that a byte too many is noticed */
		memcpy(block, data + at, t->block_bytes);
		decode(t, block);
		free(block);
	}
	float x[MAX_ELEMS] = {0};
	memcpy(x, data, n < sizeof x ? n : sizeof x);
	if (t->from_f32)
		encode(t, x);
	return 0;
}
