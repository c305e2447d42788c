/* The tensors of a decoder of the llama line, in one table: what each is called
 * in a GGUF and in a Hugging Face file, and what shape the hyperparameters give it. */
#include "runtime/family/family.h"

#include <fnmatch.h>

/* clang-format off */
const struct hr_role hr_line_block_roles[] = {
    {"attn_norm.weight", "input_layernorm.weight", 0, HR_DIM_EMBD, HR_BLOCK(attn_norm)},
    {"attn_norm.bias", "input_layernorm.bias", 0, HR_DIM_EMBD, HR_BLOCK(attn_norm_bias), HR_NORM_BIAS},
    {"attn_q.weight", "self_attn.q_proj.weight", HR_DIM_Q, HR_DIM_EMBD, HR_BLOCK(q)},
    {"attn_q.bias", "self_attn.q_proj.bias", 0, HR_DIM_Q, HR_BLOCK(q_bias), HR_QKV_BIAS},
    {"attn_q_norm.weight", "self_attn.q_norm.weight", 0, HR_DIM_HEAD, HR_BLOCK(q_norm), HR_QK_NORM},
    {"attn_k.weight", "self_attn.k_proj.weight", HR_DIM_KV, HR_DIM_EMBD, HR_BLOCK(k)},
    {"attn_k.bias", "self_attn.k_proj.bias", 0, HR_DIM_KV, HR_BLOCK(k_bias), HR_QKV_BIAS},
    {"attn_k_norm.weight", "self_attn.k_norm.weight", 0, HR_DIM_HEAD, HR_BLOCK(k_norm), HR_QK_NORM},
    {"attn_v.weight", "self_attn.v_proj.weight", HR_DIM_KV, HR_DIM_EMBD, HR_BLOCK(v)},
    {"attn_v.bias", "self_attn.v_proj.bias", 0, HR_DIM_KV, HR_BLOCK(v_bias), HR_QKV_BIAS},
    {"attn_output.weight", "self_attn.o_proj.weight", HR_DIM_EMBD, HR_DIM_Q, HR_BLOCK(o)},
    {"attn_output.bias", "self_attn.o_proj.bias", 0, HR_DIM_EMBD, HR_BLOCK(o_bias), HR_O_BIAS},
    {"ffn_norm.weight", "post_attention_layernorm.weight", 0, HR_DIM_EMBD, HR_BLOCK(ffn_norm), HR_FFN_NORM},
    {"ffn_norm.bias", "post_attention_layernorm.bias", 0, HR_DIM_EMBD, HR_BLOCK(ffn_norm_bias), HR_FFN_NORM_BIAS},
    {"ffn_gate.weight", "mlp.gate_proj.weight", HR_DIM_FF, HR_DIM_EMBD, HR_BLOCK(gate)},
    {"ffn_up.weight", "mlp.up_proj.weight", HR_DIM_FF, HR_DIM_EMBD, HR_BLOCK(up)},
    {"ffn_down.weight", "mlp.down_proj.weight", HR_DIM_EMBD, HR_DIM_FF, HR_BLOCK(down)},
    {0},
};

const struct hr_role hr_line_end_roles[] = {
    {"token_embd.weight", "model.embed_tokens.weight", HR_DIM_VOCAB, HR_DIM_EMBD, HR_END(embedding)},
    {"output_norm.weight", "model.norm.weight", 0, HR_DIM_EMBD, HR_END(final_norm)},
    {"output_norm.bias", "model.norm.bias", 0, HR_DIM_EMBD, HR_END(final_norm_bias), HR_NORM_BIAS},
    {"output.weight", "lm_head.weight", HR_DIM_VOCAB, HR_DIM_EMBD, HR_END(head), HR_HEAD},
    {"rope_freqs.weight", NULL, 0, HR_DIM_HALF_ROT, HR_END(rope_factors), HR_ROPE_FACTORS},
    {"rope_factors_short.weight", NULL, 0, HR_DIM_HALF_ROT, HR_END(rope_short), HR_LONGROPE_FACTORS},
    {"rope_factors_long.weight", NULL, 0, HR_DIM_HALF_ROT, HR_END(rope_long), HR_LONGROPE_FACTORS},
    {0},
};
/* clang-format on */

uint64_t hr_dim_size(enum hr_dim dim, const struct hr_hparams *h)
{
	uint64_t q = (uint64_t)h->n_heads * (uint64_t)h->head_dim;
	uint64_t kv = (uint64_t)h->n_kv_heads * (uint64_t)h->head_dim;
	switch (dim) {
	case HR_DIM_EMBD:
		return (uint64_t)h->n_embd;
	case HR_DIM_Q:
		return q;
	case HR_DIM_KV:
		return kv;
	case HR_DIM_Q_KV:
		return q + kv;
	case HR_DIM_QKV:
		return q + 2 * kv;
	case HR_DIM_HEAD:
		return (uint64_t)h->head_dim;
	case HR_DIM_FF:
		return (uint64_t)h->n_ff;
	case HR_DIM_2FF:
		return 2 * (uint64_t)h->n_ff;
	case HR_DIM_VOCAB:
		return (uint64_t)h->n_vocab;
	case HR_DIM_HALF_ROT:
		return (uint64_t)h->n_rot / 2;
	case HR_DIM_POSITIONS:
		return (uint64_t)h->n_ctx_train + (uint64_t)h->position_offset;
	case HR_DIM_TYPES:
		return (uint64_t)h->n_types;
	case HR_DIM_LABELS:
		return (uint64_t)h->n_labels;
	case HR_DIM_NONE:
		break;
	}
	return 0;
}

/* Rotary frequencies, which follow from the config, and what the family says; Transformers once saved them.
 */
bool hr_tensor_is_ignorable(const struct hr_family *family, const char *name)
{
	bool ignorable = fnmatch("*.rotary_emb.inv_freq", name, 0) == 0;
	for (size_t i = 0; i < HR_COUNT_OF(family->ignored) && family->ignored[i]; i++)
		ignorable |= fnmatch(family->ignored[i], name, 0) == 0;
	return ignorable;
}
