/* Attention: checks shapes and chooses the kernel, by n_tokens and n_seqs alone as long as the
 * context fits the workspace: attention_split.cu where sequences have few tokens each, as in
 * decode; attention_tiled.cu where they have many, as in prefill. */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/ops.h"

enum { MAX_HEAD_DIM = 256, FEW_PER_SEQUENCE = 8 };

int hr__cuda_attention(struct hr_ops *ops, struct hr_stream *stream, float *out, const float *q,
                       int64_t q_stride, int32_t n_heads, const struct hr_kv_layer *kv, float scale,
                       float soft_cap, int32_t window, const struct hr_batch *batch)
{
	if (kv->n_kv_heads < 1 || kv->head_dim < 1 || kv->head_dim > MAX_HEAD_DIM || kv->page_tokens < 1 ||
	    window < 0)
		return HR_EINVAL;
	if (!(soft_cap >= 0) || (batch->length && window))
		return HR_EINVAL;
	if (n_heads < 1 || n_heads % kv->n_kv_heads || q_stride < (int64_t)n_heads * kv->head_dim)
		return HR_EINVAL;
	if (batch->n_tokens <= 0)
		return batch->n_tokens ? HR_EINVAL : 0;
	hr__cuda_attn a = {out, q, q_stride, n_heads, *kv, scale, soft_cap, window, *batch};
	bool few = batch->n_tokens <= (int64_t)FEW_PER_SEQUENCE * (batch->n_seqs > 1 ? batch->n_seqs : 1);
	if (few && hr__cuda_attention_split_fits(ops, &a))
		return hr__cuda_attention_split(ops, stream, &a);
	return hr__cuda_attention_tiled(stream, &a);
}
