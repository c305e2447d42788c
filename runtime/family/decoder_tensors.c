/* The tensors of a decoder of the llama line, in one table: what each is called
 * in a GGUF and in a Hugging Face file, and what shape the hyperparameters give it. */
#include "runtime/family/family.h"

#include "base/mem.h"

#define BLOCK(f) offsetof(struct hr_block_tensors, f)
#define END(f)   offsetof(struct hr_checkpoint, f)

const struct hr_role hr_block_roles[] = {
    {"attn_norm.weight", "input_layernorm.weight", 0, HR_DIM_EMBD, HR_ROLE_NORM, BLOCK(attn_norm)},
    {"attn_q.weight", "self_attn.q_proj.weight", HR_DIM_Q, HR_DIM_EMBD, HR_ROLE_MATRIX, BLOCK(q)},
    {"attn_q.bias", "self_attn.q_proj.bias", 0, HR_DIM_Q, HR_ROLE_QKV_BIAS, BLOCK(q_bias)},
    {"attn_k.weight", "self_attn.k_proj.weight", HR_DIM_KV, HR_DIM_EMBD, HR_ROLE_MATRIX, BLOCK(k)},
    {"attn_k.bias", "self_attn.k_proj.bias", 0, HR_DIM_KV, HR_ROLE_QKV_BIAS, BLOCK(k_bias)},
    {"attn_v.weight", "self_attn.v_proj.weight", HR_DIM_KV, HR_DIM_EMBD, HR_ROLE_MATRIX, BLOCK(v)},
    {"attn_v.bias", "self_attn.v_proj.bias", 0, HR_DIM_KV, HR_ROLE_QKV_BIAS, BLOCK(v_bias)},
    {"attn_output.weight", "self_attn.o_proj.weight", HR_DIM_EMBD, HR_DIM_Q, HR_ROLE_MATRIX, BLOCK(o)},
    {"attn_output.bias", "self_attn.o_proj.bias", 0, HR_DIM_EMBD, HR_ROLE_O_BIAS, BLOCK(o_bias)},
    {"ffn_norm.weight", "post_attention_layernorm.weight", 0, HR_DIM_EMBD, HR_ROLE_NORM, BLOCK(ffn_norm)},
    {"ffn_gate.weight", "mlp.gate_proj.weight", HR_DIM_FF, HR_DIM_EMBD, HR_ROLE_MATRIX, BLOCK(gate)},
    {"ffn_up.weight", "mlp.up_proj.weight", HR_DIM_FF, HR_DIM_EMBD, HR_ROLE_MATRIX, BLOCK(up)},
    {"ffn_down.weight", "mlp.down_proj.weight", HR_DIM_EMBD, HR_DIM_FF, HR_ROLE_MATRIX, BLOCK(down)},
};
const int hr_n_block_roles = HR_COUNT_OF(hr_block_roles);

const struct hr_role hr_end_roles[] = {
    {"token_embd.weight", "model.embed_tokens.weight", HR_DIM_VOCAB, HR_DIM_EMBD, HR_ROLE_MATRIX,
     END(embedding)},
    {"output_norm.weight", "model.norm.weight", 0, HR_DIM_EMBD, HR_ROLE_NORM, END(final_norm)},
    {"output.weight", "lm_head.weight", HR_DIM_VOCAB, HR_DIM_EMBD, HR_ROLE_HEAD, END(head)},
    {"rope_freqs.weight", NULL, 0, HR_DIM_HALF_ROT, HR_ROLE_ROPE_FACTORS, END(rope_factors)},
};
const int hr_n_end_roles = HR_COUNT_OF(hr_end_roles);

uint64_t hr_dim_size(enum hr_dim dim, const struct hr_hparams *h)
{
	switch (dim) {
	case HR_DIM_EMBD:
		return (uint64_t)h->n_embd;
	case HR_DIM_Q:
		return (uint64_t)h->n_heads * (uint64_t)h->head_dim;
	case HR_DIM_KV:
		return (uint64_t)h->n_kv_heads * (uint64_t)h->head_dim;
	case HR_DIM_FF:
		return (uint64_t)h->n_ff;
	case HR_DIM_VOCAB:
		return (uint64_t)h->n_vocab;
	case HR_DIM_HALF_ROT:
		return (uint64_t)h->n_rot / 2;
	case HR_DIM_NONE:
		break;
	}
	return 0;
}

/* Rotary frequencies, which follow from the config; Transformers once saved them. */
bool hr_tensor_is_ignorable(const char *name)
{
	static const char suffix[] = ".rotary_emb.inv_freq";
	size_t            length = strlen(name);
	return length >= sizeof suffix - 1 && strcmp(name + length - (sizeof suffix - 1), suffix) == 0;
}
