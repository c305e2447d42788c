/* Blocks in parts: what is kept of a streamed block, and what is streamed, in pieces; see cut.c. */
#ifndef HR_RUNTIME_CUT_H
#define HR_RUNTIME_CUT_H

#include "runtime/model.h"

/* The steps of a block, each of which needs its matrices and no others; what norms there are is needed by
 * several. */
enum hr_step { HR_STEP_QKV, HR_STEP_O, HR_STEP_UP, HR_STEP_GATE, HR_STEP_DOWN, HR_N_STEPS };

#define HR_ONE_PIECE     UINT64_MAX
#define HR_PIECE_OF_STEP 0

/* The ways to cut the blocks of a model that is laid out, in pieces that need not be smaller than
 * `piece_bytes`: HR_ONE_PIECE, HR_PIECE_OF_STEP (one for each), or bytes in between. HR_ENOMEM. */
int  hr__cuts_init(struct hr_model *model, uint64_t piece_bytes);
void hr__cuts_release(struct hr_cuts *cuts);

/* The blocks of a plan, as they lie in memory. */
struct hr_part {
	struct hr_layer pieces[HR_MAX_PIECES]; /* the block, or what is streamed of it, in the order of use */
	int             n_pieces;
	int             piece_of[HR_N_STEPS];   /* with which a step is computed; ascending */
	uint64_t        weights[HR_MAX_PIECES]; /* that lie in a piece: a bit for each */
	struct hr_layer kept;                   /* the rest; no bytes: the block is in one piece */
	uint64_t        kept_weights;
	struct hr_block offsets;                 /* of every weight in its piece, or in `kept` */
	int             first_layer, kept_layer; /* in the window's list, once it is made */
};

/* [n_blocks] of the model, for what `placement` keeps and streams; NULL: out of memory. */
struct hr_part *hr__parts_new(const struct hr_model *model, const struct hr_placement *placement);
void            hr__parts_free(struct hr_part *parts, int n_blocks);

/* Let those weights of `at` that are set in `which` point to where their piece lies; `base` NULL: nowhere. */
void hr__part_place(struct hr_block *at, const struct hr_part *part, uint64_t which, const void *base);

#endif
