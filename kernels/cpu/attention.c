/* Attention: checks shapes and divides the work; the kernels are in
 * attention.inc.
 *
 * An item is a KV head and a block of tokens. Large blocks use keys and values
 * best, so a block is as large as the rows allow, unless that leaves threads
 * without work. When even single tokens are too few, as when one sequence
 * decodes, the context is divided too: chunks are items, their results go to the
 * workspace, and a second kernel merges them. Which way it goes changes no bit. */
#include "kernels/cpu/kernels.h"

static bool shapes_are_fine(const struct hr_kv_layer *kv, int32_t n_heads, int64_t q_stride, int32_t window)
{
	if (kv->n_kv_heads < 1 || kv->head_dim < 1 || kv->page_tokens < 1 || window < 0)
		return false;
	if (n_heads < 1 || n_heads % kv->n_kv_heads || q_stride < (int64_t)n_heads * kv->head_dim)
		return false;
	return hr__attention_scratch_bytes(n_heads / kv->n_kv_heads, kv->head_dim) <= HR_HOST_SCRATCH_BYTES;
}

/* Tokens per item; see the top of the file. */
static int32_t choose_block_tokens(const struct hr_batch *batch, const struct hr_kv_layer *kv,
                                   int32_t n_group, int64_t items_wanted)
{
	int32_t run = batch->n_seqs > 1 ? (batch->n_tokens + batch->n_seqs - 1) / batch->n_seqs : batch->n_tokens;
	int32_t n = HR__ATTN_ROWS / n_group;
	if (n > run)
		n = run;
	while (n > 1 && (hr__attention_scratch_bytes(n * n_group, kv->head_dim) > HR_HOST_SCRATCH_BYTES ||
	                 (int64_t)(batch->n_tokens + n - 1) / n * kv->n_kv_heads < items_wanted))
		n /= 2;
	return n < 1 ? 1 : n;
}

/* Chunks to divide among items; 0 when that is not wanted, or the workspace too small. */
static int32_t choose_chunks(const struct hr_ops *ops, const struct hr_batch *batch,
                             const struct hr_kv_layer *kv, int32_t n_heads, int64_t n_items,
                             int64_t items_wanted)
{
	int64_t n = ((int64_t)batch->max_context + HR__ATTN_CHUNK - 1) / HR__ATTN_CHUNK;
	int64_t bytes =
	    n * batch->n_tokens * n_heads * hr__attention_row_floats(kv->head_dim) * (int64_t)sizeof(float);
	if (n < 2 || n_items >= items_wanted || !ops->workspace || bytes > (int64_t)ops->workspace_bytes)
		return 0;
	return (int32_t)n;
}

int hr__cpu_attention(struct hr_ops *ops, struct hr_stream *stream, float *out, const float *q,
                      int64_t q_stride, int32_t n_heads, const struct hr_kv_layer *kv, float scale,
                      float soft_cap, int32_t window, const struct hr_batch *batch)
{
	const struct hr__cpu_kernels *kernels = hr__cpu_kernels(hr__cpu_const(ops));
	if (!shapes_are_fine(kv, n_heads, q_stride, window) || !(soft_cap >= 0) || (batch->length && window))
		return HR_EINVAL;
	if (batch->n_tokens <= 0)
		return batch->n_tokens ? HR_EINVAL : 0;
	int64_t wanted = hr_host_n_threads(ops->device) > 1 ? 4 * hr_host_n_threads(ops->device) : 1;
	struct hr__attention_args a = {out,      q,      q_stride, n_heads, *kv, scale,
	                               soft_cap, window, *batch,   0,       0,   NULL};
	a.block_tokens = choose_block_tokens(batch, kv, n_heads / kv->n_kv_heads, wanted);
	int64_t n_items = (int64_t)(batch->n_tokens + a.block_tokens - 1) / a.block_tokens * kv->n_kv_heads;
	a.n_chunks = choose_chunks(ops, batch, kv, n_heads, n_items, wanted);
	if (!a.n_chunks)
		return hr_host_launch(stream, kernels->attention, &a, sizeof(a), n_items, 1);

	a.partials = ops->workspace;
	int rc = hr_host_launch(stream, kernels->attention_chunk, &a, sizeof(a), n_items * a.n_chunks, 1);
	if (rc)
		return rc;
	return hr_host_launch(stream, kernels->attention_merge, &a, sizeof(a), (int64_t)batch->n_tokens * n_heads,
	                      16);
}
