/* What a pass holds of the window: one layer at a time, or one piece of a block.
 *
 * A block that comes in pieces is gone through in steps; each says which weights it needs. The layers of a
 * pass are taken in the order of the window's list, all of them, whether their weights are
 * needed or not. */
#ifndef HR_RUNTIME_HOLD_H
#define HR_RUNTIME_HOLD_H

#include "runtime/cut.h"
#include "scheduler/window.h"

struct hr_hold {
	struct hr_window     *window;
	const struct hr_part *parts; /* [n_blocks] */
	struct hr_error      *err;   /* where a failure of the window is told */
	bool                  told;  /* one was */
	int                   layer; /* of the window, that is held; -1: none */
	const struct hr_part *part;  /* the block that is held */
	struct hr_block       block; /* its weights: those of the step that is reached, and what is kept */
};

/* At the beginning of a pass: nothing is held. */
void hr__hold_init(struct hr_hold *hold, struct hr_window *window, const struct hr_part *parts,
                   struct hr_error *err);

/* Give back what is held and take what comes next (a step: if its weights are not held already). They block
 * until the weights are there; errors as hr_window_acquire(), in hold->err. */
int  hr__hold_layer(struct hr_hold *hold, int layer, void **weights);
int  hr__hold_block(struct hr_hold *hold, int block);        /* from its first piece on */
int  hr__hold_step(struct hr_hold *hold, enum hr_step step); /* steps only go forward */
int  hr__hold_rest(struct hr_hold *hold);                    /* of the block, one piece after the other */
void hr__hold_end(struct hr_hold *hold);

/* Whether the weights of `step`, which is not behind, are held already. */
bool hr__hold_reaches(const struct hr_hold *hold, enum hr_step step);

#endif
