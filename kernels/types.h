/* Weight types: one row per type. A later type is one line here, one decoder
 * and its product kernels.
 *
 * A row of a matrix is `cols` elements in blocks of block_elems, each of
 * block_bytes, no padding between rows. Block layouts are those of GGUF
 * (little endian):
 *   Q8_0: f16 d; int8 q[32]                        x = d*q
 *   Q4_0: f16 d; u8 q[16], low nibbles first half  x = d*(q-8)
 *   Q4_1: f16 d, m; u8 q[16], likewise             x = d*q + m
 * and so on: types_unpack.c takes each apart. */
#ifndef HR_KERNELS_TYPES_H
#define HR_KERNELS_TYPES_H

#include <stddef.h>
#include <stdint.h>

/* X(enum, name, GGUF type id or -1, safetensors name or "", elements per block, bytes per block) */
/* Plain floats: an element is just its value. Norms and biases are of these, too. */
#define HR_PLAIN_TYPES(X)                                                                                    \
	X(HR_TYPE_F32, "f32", 0, "F32", 1, 4)                                                                    \
	X(HR_TYPE_F16, "f16", 1, "F16", 1, 2)                                                                    \
	X(HR_TYPE_BF16, "bf16", 30, "BF16", 1, 2)
/* And those of matrices only, of which elements that stand together share a scale that is kept elsewhere. */
#define HR_FLOAT_TYPES(X) HR_PLAIN_TYPES(X) X(HR_TYPE_F8_E4M3, "f8_e4m3", -1, "F8_E4M3", 1, 1)
#define HR_BLOCK_TYPES(X)                                                                                    \
	X(HR_TYPE_Q8_0, "q8_0", 8, "", 32, 34)                                                                   \
	X(HR_TYPE_Q4_0, "q4_0", 2, "", 32, 18)                                                                   \
	X(HR_TYPE_Q4_1, "q4_1", 3, "", 32, 20)                                                                   \
	X(HR_TYPE_Q5_0, "q5_0", 6, "", 32, 22)                                                                   \
	X(HR_TYPE_Q5_1, "q5_1", 7, "", 32, 24)                                                                   \
	X(HR_TYPE_Q2_K, "q2_k", 10, "", 256, 84)                                                                 \
	X(HR_TYPE_Q3_K, "q3_k", 11, "", 256, 110)                                                                \
	X(HR_TYPE_Q4_K, "q4_k", 12, "", 256, 144)                                                                \
	X(HR_TYPE_Q5_K, "q5_k", 13, "", 256, 176)                                                                \
	X(HR_TYPE_Q6_K, "q6_k", 14, "", 256, 210)                                                                \
	X(HR_TYPE_IQ4_NL, "iq4_nl", 20, "", 32, 18)                                                              \
	X(HR_TYPE_IQ4_XS, "iq4_xs", 23, "", 256, 136)                                                            \
	X(HR_TYPE_MXFP4, "mxfp4", 39, "", 32, 17)
#define HR_TYPES(X) HR_FLOAT_TYPES(X) HR_BLOCK_TYPES(X)

enum hr_type {
#define HR_X(id, name, gguf, st, elems, bytes) id,
	HR_TYPES(HR_X)
#undef HR_X
	    HR_TYPE_COUNT
};

static inline int hr_type_is_plain(enum hr_type type) { return type <= HR_TYPE_BF16; }
static inline int hr_type_is_float(enum hr_type type) { return type <= HR_TYPE_F8_E4M3; }

enum { HR_TYPE_PART_ELEMS = 32 };

/* 32 elements of a block, taken apart: x[i] = d[i / 16] * q[i] + m[i / 16]. */
struct hr_type_part {
	float  d[2], m[2];
	int8_t q[HR_TYPE_PART_ELEMS];
};

struct hr_type_info {
	const char *name;
	int         gguf_id;
	const char *safetensors_name;
	uint32_t    block_elems;
	uint32_t    block_bytes;
	/* Reference decoder: n elements (a multiple of block_elems) to f32. */
	void (*to_f32)(const void *src, float *dst, size_t n);
	/* Part `part` (32 elements) of a block; NULL: a float type. */
	void (*unpack)(const uint8_t *block, int part, struct hr_type_part *out);
	/* Encoder, round to nearest; same n. What a block becomes depends on its elements alone. */
	void (*from_f32)(const float *src, void *dst, size_t n);
};

const struct hr_type_info *hr_type_info(enum hr_type type);
/* enum hr_type, or -1. */
int hr_type_of_gguf_id(uint32_t id);
int hr_type_of_safetensors_name(const char *name);
int hr_type_of_name(const char *name);

/* Bytes of a row of `cols` elements; 0 when cols is no multiple of the block. */
static inline size_t hr_type_row_bytes(const struct hr_type_info *t, uint64_t cols)
{
	return cols % t->block_elems ? 0 : (size_t)(cols / t->block_elems * t->block_bytes);
}

#endif
