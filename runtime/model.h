/* A model: a checkpoint, its tokenizer, and its weights laid out as layers. */
#ifndef HR_RUNTIME_MODEL_H
#define HR_RUNTIME_MODEL_H

#include "headrace/headrace.h"
#include "kernels/ops.h"
#include "runtime/format/checkpoint.h"
#include "scheduler/layer.h"

/* The weights of one block. In a model, `data` holds the offset in the layer's
 * memory; hr_block_at() turns it into addresses. An absent weight has rows 0. */
struct hr_block {
	struct hr_weight attn_norm, q, k, v, o, q_bias, k_bias, v_bias, o_bias;
	struct hr_weight ffn_norm, gate, up, down;
};

/* A matrix that is a layer of its own: the head, a part of it, or the embedding. */
struct hr_matrix_layer {
	struct hr_layer  layer;
	struct hr_weight weight; /* data: offset, as above; rows of this part only */
	int32_t          first_row;
};

struct hr_model {
	struct hr_checkpoint checkpoint;
	struct hr_tokenizer *tokenizer; /* NULL: none; tokenizer_error says why */
	struct hr_error      tokenizer_error;
	struct hr_model_info info;

	int                    n_blocks;
	struct hr_layer       *block_layers; /* [n_blocks] */
	struct hr_block       *blocks;       /* [n_blocks] */
	struct hr_matrix_layer embedding;    /* whole; also what row reads go by */
	struct hr_matrix_layer head;         /* whole */
	struct hr_matrix_layer
	                *head_parts; /* [n_head_parts]: the same rows, none larger than the largest block */
	int              n_head_parts;
	struct hr_layer  globals; /* the final norm */
	struct hr_weight final_norm;
};

/* The address of an offset weight whose layer lies at `base`. */
static inline struct hr_weight hr_weight_at(struct hr_weight w, const void *base)
{
	if (w.rows)
		w.data = (const char *)base + (uintptr_t)w.data;
	return w;
}
struct hr_block hr_block_at(const struct hr_block *offsets, const void *base);

/* Lay a model's tensors out as layers; see layout.c. */
int  hr__layout_model(struct hr_model *model, struct hr_error *err);
void hr__layout_release(struct hr_model *model);

#endif
