/* The plan: a tier for every layer, the slots, the staging, chunk and depth,
 * all inside a budget that is fixed before the first pass.
 *
 * Layers are used cyclically, pass after pass. On a cyclic scan a cache of
 * W < L layers that evicts the oldest never hits, so the budget is split in two:
 * R residents that stay for good, spread evenly so that the link can work while
 * they compute, and a small ring of slots through which the rest is streamed.
 *
 * What is planned: the n_layers transformer blocks, the head (one piece when
 * resident; row parts much smaller than a block when streamed) and the embedding
 * (resident, or read by rows: a pass needs n_tokens rows of it, not the matrix).
 *
 * A block that is streamed need not be streamed whole, nor in one piece. With a part of every
 * block kept on the device, the budget's last bytes are of use, too; and where what is streamed of a
 * block comes in pieces that are used one after the other, a slot holds a piece: two whole slots of a model
 * of 22 layers are a tenth of it. The ways in which blocks can be cut are the model's.
 *
 * Of all splits that fit, the one that streams the fewest bytes per pass is taken, where bytes that a fast
 * drive would bring too late count more (plan.c). It consists of
 *   1. globals (norms and other small tensors), fixed (KV cache, activations)
 *   2. two slots, if anything is to be streamed
 *   3. the head, which a tied embedding shares, and as many blocks, or parts of blocks, as fit
 *   4. more slots, while they are so small that two keep too few bytes in flight
 *   5. an untied embedding
 * The host tier (pinned RAM) takes streamed blocks while host_budget_bytes last; it
 * does not exist on a device that the host can address. */
#ifndef HR_SCHEDULER_PLAN_H
#define HR_SCHEDULER_PLAN_H

#include "base/notice.h"
#include "headrace/error.h"
#include "scheduler/layer.h"

#include <stdbool.h>

#define HR_PLAN_AUTO (-1)

struct hr_cost;

#define HR_MAX_PIECES 5 /* of a block */

/* A streamed block in two parts: one stays on the device for good, one goes through the slots. */
struct hr_cut {
	uint64_t kept_bytes;               /* memory footprint of the part that stays */
	uint64_t memory_bytes, file_bytes; /* of the part that is streamed, all its pieces; never 0 */
	uint64_t slot_bytes;               /* memory footprint of its largest piece */
	uint64_t pieces[HR_MAX_PIECES];    /* file bytes of each, in the order of use */
	int      n_pieces;
};

struct hr_plan_request {
	/* The model, in bytes of memory footprint. */
	const struct hr_layer *blocks; /* [n_blocks] */
	int                    n_blocks;
	double                 kv_share;        /* of the last block: what computes keys and values */
	const struct hr_cut   *cuts;            /* [n_cuts][n_blocks]: ways to cut all blocks that are streamed */
	int                    n_cuts;          /* 0: they are streamed whole */
	uint64_t               head_bytes;      /* the whole head */
	uint64_t               head_part_bytes; /* the largest of its parts when streamed */
	uint64_t               embedding_bytes; /* 0 when tied to the head */
	bool                   tied;
	uint64_t               globals_bytes;
	uint64_t fixed_bytes; /* KV cache, activations, workspace: what else the device budget must hold */

	/* The budgets. */
	uint64_t device_budget_bytes;
	uint64_t host_budget_bytes; /* for the host tier and staging; ignored when host_addressable */
	bool     host_addressable;

	/* Wishes: upper bounds, HR_PLAN_AUTO for none. A number of layers is one of whole layers:
	 * with a window or residents wished for, or a map, nothing is cut. */
	int    window_layers; /* residents + slots; n_blocks or more means everything that fits */
	int    resident_layers;
	int    slots;           /* exact when it fits, at least 2 */
	size_t chunk_bytes;     /* 0: 2 MiB */
	int    read_depth;      /* 0: 8 */
	int    staging_buffers; /* 0: reads in flight and some that are copied; more where RAM and disk mix */
	/* NULL, or [n_blocks + 2]: a tier per block, then embedding, then head: the device map
	 * as given, taken as it is; what does not fit the budget is an error. Where the host
	 * can address the device, "host" means "device"; an embedding on the host is read by rows. */
	const enum hr_tier *map;
	/* NULL: the best plan by bytes. Otherwise the one whose pass is predicted to
	 * be the shortest (rates.h), over the slots, chunks and depths that are left open above. */
	const struct hr_cost *cost;
};

/* (The public header has a struct hr_plan of its own, which wraps this.) */
struct hr_placement {
	int           n_blocks;
	enum hr_tier *block_tier; /* [n_blocks] */
	enum hr_tier  head_tier;
	enum hr_tier  embedding_tier; /* DISK: read by rows */
	int           slots;          /* 0 when nothing is streamed */
	uint64_t      slot_bytes;
	int           cut; /* that the streamed blocks are cut by: an index; -1: they are streamed whole */
	int           staging_buffers; /* 0 when host_addressable */
	size_t        chunk_bytes;
	int           read_depth;

	/* Derived, for whoever prints. */
	int      n_resident, n_host, n_disk; /* blocks */
	uint64_t device_bytes;               /* everything the plan takes on the device */
	uint64_t kept_bytes;                 /* of it: parts of streamed blocks */
	uint64_t host_bytes;
	uint64_t streamed_bytes_per_pass; /* through the slots: from disk and host tier */
	uint64_t disk_bytes_per_pass;
	char     fallback[8][200]; /* sentences: what was asked for and not done, and why */
	int      n_fallbacks;
};

/* HR_EBUDGET: the message ends with the smallest budget that works, in bytes and
 * as a flag to paste. HR_EINVAL: slots < 2. The plan is filled on success only. */
int  hr_plan_make(struct hr_placement *plan, const struct hr_plan_request *request, struct hr_error *err);
void hr_plan_release(struct hr_placement *plan); /* a zeroed struct is fine */

/* What is kept and what streamed of a streamed block under `cut`, -1 being none. */
struct hr_cut hr_plan_cut(const struct hr_plan_request *request, int cut, int block);

#endif
