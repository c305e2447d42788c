/* A model: a checkpoint, its tokenizer, and its weights laid out as layers. */
#ifndef HR_RUNTIME_MODEL_H
#define HR_RUNTIME_MODEL_H

#include "headrace/headrace.h"
#include "kernels/ops.h"
#include "runtime/format/checkpoint.h"
#include "scheduler/plan.h"

/* The weights of one block, and the small ones of the ends, always on the device. In a model, `data`
 * holds the offset in the layer's memory; hr__part_place() and hr_ends_at() turn it into addresses. An
 * absent weight has rows 0. */
#define HR_X(name) struct hr_weight name;
struct hr_block {
	HR_BLOCK_WEIGHTS(HR_X)
};
struct hr_ends {
	HR_END_WEIGHTS(HR_X) /* embedding and head: absent, below; but an encoder's head stands here */
};
#undef HR_X

/* A matrix that is a layer of its own: the head, a part of it, or the embedding. */
struct hr_matrix_layer {
	struct hr_layer  layer;
	struct hr_weight weight; /* data: offset, as above; rows of this part only */
	int32_t          first_row;
};

/* Ways to cut blocks into what is kept and pieces that are streamed, in the order of ever fewer streamed
 * bytes; see cut.c. */
struct hr_cuts {
	int            n;
	uint64_t       piece_bytes;
	uint64_t      *kept;  /* [n] the weights that are kept: a bit for each, in the order of struct hr_block */
	struct hr_cut *bytes; /* [n][n_blocks] */
};

struct hr_model {
	struct hr_checkpoint checkpoint;
	struct hr_tokenizer *tokenizer; /* NULL: none; tokenizer_error says why */
	struct hr_error      tokenizer_error;
	struct hr_model_info info;

	int                     n_blocks;
	struct hr_layer        *block_layers; /* [n_blocks] */
	struct hr_block        *blocks;       /* [n_blocks] */
	struct hr_cuts          cuts;
	struct hr_matrix_layer  embedding;  /* whole; also what row reads go by */
	struct hr_matrix_layer  head;       /* whole; an encoder has none, and no parts */
	struct hr_matrix_layer *head_parts; /* [n_head_parts]: the same rows, each much smaller than a block */
	int                     n_head_parts;
	struct hr_layer         globals; /* the small weights of the ends */
	struct hr_ends          ends;
};

/* The address of an offset weight whose layer lies at `base`. */
static inline struct hr_weight hr_weight_at(struct hr_weight w, const void *base)
{
	if (w.rows)
		w.data = (const char *)base + (uintptr_t)w.data;
	if (w.scale.rows)
		w.scale.data = (const char *)base + (uintptr_t)w.scale.data;
	return w;
}
static inline uint64_t hr_weight_bytes(const struct hr_weight *w)
{
	return w->rows ? (uint64_t)w->rows * hr_type_row_bytes(hr_type_info(w->type), (uint64_t)w->cols) : 0;
}
struct hr_ends hr_ends_at(const struct hr_ends *offsets, const void *base);

enum { HR_N_BLOCK_WEIGHTS = sizeof(struct hr_block) / sizeof(struct hr_weight) };

/* A model of an open checkpoint, which is taken over, also on failure. */
int hr__model_of_checkpoint(struct hr_model **out, struct hr_checkpoint *checkpoint, struct hr_error *err);

/* Lay a model's tensors out as layers; see layout.c. */
int hr__layout_model(struct hr_model *model, struct hr_error *err);
/* Those weights of block i whose bits are set in `which` as a layer of their own; sets their offsets.
 * layer->extents is allocated. HR_ENOMEM. */
int  hr__layout_block(struct hr_layer *layer, struct hr_block *offsets, const struct hr_checkpoint *c, int i,
                      uint64_t which);
void hr__layout_release(struct hr_model *model);

#endif
