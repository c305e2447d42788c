/* Page arithmetic and the free list of the key/value cache. */
#include "runtime/kv.h"

#include "base/mem.h"

static size_t page_bytes(const struct hr_hparams *h, enum hr_kv_type type)
{
	return (size_t)HR_KV_PAGE_TOKENS * (size_t)h->n_kv_heads * (size_t)h->head_dim *
	       (type == HR_KV_F32 ? 4 : 2);
}

static int pages_for(int n_ctx, int n_seqs) { return hr__kv_pages_for(n_ctx) * n_seqs; }

uint64_t hr__kv_bytes(const struct hr_hparams *h, enum hr_kv_type type, int n_ctx, int n_seqs)
{
	return (uint64_t)h->n_layers * 2 * page_bytes(h, type) * (uint64_t)pages_for(n_ctx, n_seqs);
}

int hr__kv_init(struct hr_kv *kv, const struct hr_hparams *h, enum hr_kv_type type, int n_ctx, int n_seqs,
                void *memory)
{
	int      n_pages = pages_for(n_ctx, n_seqs);
	int32_t *free_pages = hr__calloc((size_t)n_pages, sizeof *free_pages);
	if (!free_pages)
		return HR_ENOMEM;
	for (int i = 0; i < n_pages; i++)
		free_pages[i] = n_pages - 1 - i; /* page 0 is taken first */
	size_t half = page_bytes(h, type) * (size_t)n_pages;
	*kv = (struct hr_kv){
	    .shape = {.k = memory,
	              .v = (char *)memory + half,
	              .type = type,
	              .n_kv_heads = h->n_kv_heads,
	              .head_dim = h->head_dim,
	              .page_tokens = HR_KV_PAGE_TOKENS},
	    .layer_bytes = 2 * half,
	    .n_pages = n_pages,
	    .free_pages = free_pages,
	    .n_free = n_pages,
	};
	return 0;
}

void hr__kv_release(struct hr_kv *kv)
{
	free(kv->free_pages);
	kv->free_pages = NULL;
}

struct hr_kv_layer hr__kv_layer(const struct hr_kv *kv, int layer)
{
	struct hr_kv_layer l = kv->shape;
	l.k = (char *)l.k + (size_t)layer * kv->layer_bytes;
	l.v = (char *)l.v + (size_t)layer * kv->layer_bytes;
	return l;
}

int hr__kv_take(struct hr_kv *kv, int32_t *pages, int n)
{
	if (n > kv->n_free)
		return HR_EAGAIN;
	for (int i = 0; i < n; i++)
		pages[i] = kv->free_pages[--kv->n_free];
	return 0;
}

void hr__kv_give_back(struct hr_kv *kv, const int32_t *pages, int n)
{
	for (int i = n - 1; i >= 0; i--)
		kv->free_pages[kv->n_free++] = pages[i];
}
