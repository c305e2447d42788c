/* Blocks in parts: what is kept of a streamed block, and what is streamed; see cut.c. */
#ifndef HR_RUNTIME_CUT_H
#define HR_RUNTIME_CUT_H

#include "runtime/model.h"

/* The ways to cut the blocks of a model that is laid out. HR_ENOMEM. */
int  hr__cuts_init(struct hr_model *model);
void hr__cuts_release(struct hr_cuts *cuts);

/* The blocks of a plan, as they lie in memory. */
struct hr_part {
	struct hr_layer layer;        /* the block, or what is streamed of it */
	struct hr_layer kept;         /* the rest; no bytes: the block is in one piece */
	struct hr_block offsets;      /* of every weight in its part */
	uint64_t        kept_weights; /* which lie in `kept` */
	int             kept_layer;   /* `kept` in the window's list, once it is made */
};

/* [n_blocks] of the model, for what `placement` keeps and streams; NULL: out of memory. */
struct hr_part *hr__parts_new(const struct hr_model *model, const struct hr_placement *placement);
void            hr__parts_free(struct hr_part *parts, int n_blocks);

/* The block's weights, its parts being at `base` and `kept`. */
struct hr_block hr__part_at(const struct hr_part *part, const void *base, const void *kept);

#endif
