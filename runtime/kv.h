/* The paged key/value cache of all layers and sequences.
 *
 * A page holds HR_KV_PAGE_TOKENS positions; one page number stands for that page
 * in every layer. A sequence reserves all the pages it can ever need when it
 * joins the batch, so that none can be missing in the middle of a generation. */
#ifndef HR_RUNTIME_KV_H
#define HR_RUNTIME_KV_H

#include "kernels/ops.h"
#include "runtime/format/checkpoint.h"

#define HR_KV_PAGE_TOKENS 32

struct hr_kv {
	struct hr_kv_layer shape; /* k, v: of layer 0 */
	size_t             layer_bytes;
	int                n_pages;
	int32_t           *free_pages; /* stack */
	int                n_free;
};

uint64_t hr__kv_bytes(const struct hr_hparams *h, enum hr_kv_type type, int n_ctx, int n_seqs);

/* `memory`: hr__kv_bytes() of device memory, borrowed. HR_ENOMEM. */
int  hr__kv_init(struct hr_kv *kv, const struct hr_hparams *h, enum hr_kv_type type, int n_ctx, int n_seqs,
                 void *memory);
void hr__kv_release(struct hr_kv *kv); /* a zeroed struct is fine */

struct hr_kv_layer hr__kv_layer(const struct hr_kv *kv, int layer);

static inline int hr__kv_pages_for(int n_tokens)
{
	return (n_tokens + HR_KV_PAGE_TOKENS - 1) / HR_KV_PAGE_TOKENS;
}

/* Take n pages into `pages`, or none: HR_EAGAIN. */
int  hr__kv_take(struct hr_kv *kv, int32_t *pages, int n);
void hr__kv_give_back(struct hr_kv *kv, const int32_t *pages, int n);

#endif
