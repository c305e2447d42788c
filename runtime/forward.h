/* The forward pass: the one loop over the layers, for every tier, family and device.
 *
 * A forward owns the activations and the batch arrays on the device; it borrows
 * the weights from the window, layer by layer. */
#ifndef HR_RUNTIME_FORWARD_H
#define HR_RUNTIME_FORWARD_H

#include "runtime/embedding.h"
#include "runtime/hold.h"
#include "runtime/kv.h"
#include "runtime/plan.h"

struct hr_forward;

/* Generated tokens are multiplied one for one, those of prompts in the way that is made for many (where a
 * device has two, see ops.h). A session that was asked for more sequences than these takes the way of many
 * for all, for there it is the faster one. So the bits of a sequence follow from what its tokens are and
 * from what was asked for, not from what there was room for, nor from which sequences run. */
#define HR_SINGLE_MAX 8

/* What one pass computes. Host memory; filled by the caller, see hr_batch for the meaning.
 *
 * A pass goes through the layers in chunks of at most n_batch tokens, all of them with
 * one layer before any with the next. A decoder's pass is one chunk; an encoder's holds
 * as many texts as plan->n_pass tokens have room for, each text whole in one chunk. There seq[t] is
 * the row, in its chunk, at which t's text begins, and length of that row its tokens. */
struct hr_pass {
	int            n_tokens, n_seqs, n_outputs;
	int            n_single; /* tokens, the first ones: see HR_SINGLE_MAX */
	int            n_chunks;
	int32_t       *chunk_begin; /* [n_chunks + 1] rows of the pass */
	int32_t       *ids;         /* [n_pass] */
	int32_t       *pos;         /* [n_pass] */
	int32_t       *seq;         /* [n_pass] */
	int32_t       *types;       /* [n_pass] encoder: kind of segment */
	int32_t       *length;      /* [n_pass] encoder */
	int32_t       *page_table;  /* [n_seqs][max_pages] decoder */
	int32_t       *outputs;     /* [max_outputs] rows of the pass whose results are wanted, ascending */
	float         *logits;      /* [max_outputs][n_logits] the result: over the vocabulary, or the labels */
	struct hr_top *top;         /* [max_outputs][n_top] the result instead, when n_top */
	int            n_top; /* 0, or as many of the largest logits of each output will do; 0 after a pass that
	                       * has them all nonetheless */
	bool         keep_states; /* the result is the last layer's output, of all rows when n_outputs is 0 */
	const float *states;      /* it, [n_outputs or n_tokens][n_embd]; an encoder's only */
	int          max_pages;
	int          max_context; /* largest pos + 1 */

	/* Filled by the forward. */
	int32_t *output_begin;            /* [n_chunks + 1] of a chunk's outputs among all */
	int32_t *output_pos, *output_seq; /* [max_outputs] */
};

/* Device bytes for activations, batch arrays, logits and workspace. */
uint64_t hr__forward_bytes(const struct hr_plan *plan, const struct hr_ops *ops);

/* All borrowed until close. In the window, `parts` says where the blocks are; from head_layer on come the
 * head or its parts, the globals and, where it is resident, the embedding. */
struct hr_forward_options {
	const struct hr_model    *model;
	const struct hr_plan     *plan;
	struct hr_device         *device;
	struct hr_ops            *ops;
	struct hr_stream         *compute;
	struct hr_window         *window;
	const struct hr_part     *parts; /* [n_blocks] */
	int                       head_layer;
	struct hr_kv             *kv;   /* NULL: an encoder's keys and values live for a layer */
	struct hr_embedding_rows *rows; /* NULL: the embedding is on the device */
};

int hr__forward_open(struct hr_forward **out, const struct hr_forward_options *options, struct hr_error *err);
void hr__forward_close(struct hr_forward *f); /* NULL is fine */

/* The caller's side of a pass; owned by the forward. */
struct hr_pass *hr__forward_pass(struct hr_forward *f);

/* Run it; blocks until the logits are in pass->logits, or the largest in pass->top. n_outputs may be 0. */
int hr__forward_run(struct hr_forward *f, struct hr_error *err);

#endif
