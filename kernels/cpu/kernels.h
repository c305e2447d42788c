/* Between the operations (ops_cpu.c, attention.c), which check, size and divide
 * the work, and the kernels of an instruction set (kernels_*.c), which do it:
 * one table of kernels per set, and the arguments of each kernel. */
#ifndef HR_KERNELS_CPU_KERNELS_H
#define HR_KERNELS_CPU_KERNELS_H

#include "kernels/cpu/cpu.h"

struct hr__rms_norm_args { /* item: row */
	float           *y;
	const float     *x;
	struct hr_weight w;
	float            shift, eps;
};

struct hr__layer_norm_args { /* item: row */
	float           *y;
	const float     *x;
	struct hr_weight w, bias;
	float            eps;
};

struct hr__rope_args { /* item: token */
	float             *x;
	int64_t            x_stride;
	int32_t            n_heads;
	int32_t            head_dim;
	enum hr_rope_style style;
	const float       *inv_freq;
	int32_t            n_freqs;
	float              magnitude;
	const int32_t     *pos;
};

struct hr__kv_store_args { /* item: token */
	struct hr_kv_layer kv;
	const float       *k, *v;
	int64_t            k_stride, v_stride;
	struct hr_batch    batch;
};

struct hr__activate_args { /* item: element */
	enum hr_activation act;
	float             *y;
	const float       *x, *up;
};

struct hr__soft_cap_args { /* item: element */
	float *x;
	float  cap;
};

struct hr__add_args { /* item: element */
	float       *y;
	const float *x;
};

enum {
	HR__ATTN_BLOCK = 32,  /* positions whose scores are made together */
	HR__ATTN_CHUNK = 512, /* positions after which sums begin anew, a multiple of the block */
	HR__ATTN_ROWS = 64,   /* rows (token, head) of one item, unless one token has more */
};

struct hr__attention_args {
	float             *out;
	const float       *q;
	int64_t            q_stride;
	int32_t            n_heads;
	struct hr_kv_layer kv;
	float              scale, soft_cap;
	int32_t            window;
	struct hr_batch    batch;
	int32_t            block_tokens; /* tokens of one item */
	/* Only when chunks are divided among items: */
	int32_t n_chunks;
	float  *partials; /* [n_tokens][n_heads][n_chunks][hr__attention_row_floats()] */
};

/* Attention comes as a whole, or in parts that give the same bits:
 *   attention        item: KV head and token block, all chunks
 *   attention_chunk  item: KV head, chunk and token block; to partials
 *   attention_merge  item: token and head; from partials */
struct hr__cpu_kernels {
	hr_host_kernel rms_norm, layer_norm, rope, kv_store, activate, soft_cap, add;
	hr_host_kernel attention, attention_chunk, attention_merge;
};

extern const struct hr__cpu_kernels hr__cpu_kernels_portable, hr__cpu_kernels_avx2, hr__cpu_kernels_avx512;

const struct hr__cpu_kernels *hr__cpu_kernels(const struct hr__cpu_ops *ops);

/* A head's sums are padded to whole pairs of the widest vectors. */
static inline int32_t hr__attention_padded(int32_t head_dim) { return (head_dim + 31) / 32 * 32; }

/* A partial result: the sums, the largest score, the sum of weights. */
static inline int32_t hr__attention_row_floats(int32_t head_dim)
{
	return hr__attention_padded(head_dim) + 2;
}

/* Scratch for `rows` rows: see struct rows in attention.inc. */
static inline size_t hr__attention_scratch_bytes(int32_t rows, int32_t head_dim)
{
	size_t padded = (size_t)hr__attention_padded(head_dim);
	return sizeof(float) *
	       ((size_t)rows * (3 * padded + HR__ATTN_BLOCK + 4) + (2 * HR__ATTN_BLOCK + 1) * padded);
}

int hr__cpu_attention(struct hr_ops *ops, struct hr_stream *stream, float *out, const float *q,
                      int64_t q_stride, int32_t n_heads, const struct hr_kv_layer *kv, float scale,
                      float soft_cap, int32_t window, const struct hr_batch *batch);
/* As much as the partials of a few tokens need; what one pass is too large for is not divided. */
#define HR__ATTN_WORKSPACE_BYTES ((size_t)4 << 20)

#endif
