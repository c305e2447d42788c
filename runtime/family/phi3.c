/* phi3: Phi-3 and Phi-4, the llama line with queries, keys and values in one matrix, and gate
 * and up in another. Phi-4-mini rotates a part of its heads. */
#include "runtime/family/family.h"

/* clang-format off */
static const struct hr_role block_roles[] = {
    {"attn_norm.weight", "input_layernorm.weight", 0, HR_DIM_EMBD, HR_BLOCK(attn_norm)},
    {"attn_qkv.weight", "self_attn.qkv_proj.weight", HR_DIM_Q, HR_DIM_EMBD, HR_BLOCK(q), .whole = HR_DIM_QKV},
    {"attn_qkv.weight", "self_attn.qkv_proj.weight", HR_DIM_KV, HR_DIM_EMBD, HR_BLOCK(k), .whole = HR_DIM_QKV, .before = HR_DIM_Q},
    {"attn_qkv.weight", "self_attn.qkv_proj.weight", HR_DIM_KV, HR_DIM_EMBD, HR_BLOCK(v), .whole = HR_DIM_QKV, .before = HR_DIM_Q_KV},
    {"attn_output.weight", "self_attn.o_proj.weight", HR_DIM_EMBD, HR_DIM_Q, HR_BLOCK(o)},
    {"ffn_norm.weight", "post_attention_layernorm.weight", 0, HR_DIM_EMBD, HR_BLOCK(ffn_norm)},
    {"ffn_up.weight", "mlp.gate_up_proj.weight", HR_DIM_FF, HR_DIM_EMBD, HR_BLOCK(gate), .whole = HR_DIM_2FF},
    {"ffn_up.weight", "mlp.gate_up_proj.weight", HR_DIM_FF, HR_DIM_EMBD, HR_BLOCK(up), .whole = HR_DIM_2FF, .before = HR_DIM_FF},
    {"ffn_down.weight", "mlp.down_proj.weight", HR_DIM_EMBD, HR_DIM_FF, HR_BLOCK(down)},
    {0},
};
/* clang-format on */

static int from_gguf(struct hr_decoder *d, const struct hr_gguf *g, struct hr_error *err)
{
	d->hparams.rope_style = HR_ROPE_NEOX;
	return hr__decoder_from_gguf(d, g, "phi3", err);
}

static int from_hf(struct hr_decoder *d, const struct hr_json *config, struct hr_error *err)
{
	d->hparams.rope_original_context = 4096;
	static const struct hr_decoder_defaults defaults = {.n_ctx_train = 4096, .partial_rotary = 1};
	int rc = hr__json_int(config, "sliding_window", &d->hparams.sliding_window, err);
	return rc < 0 ? rc : hr__decoder_from_hf(d, config, &defaults, err);
}

const struct hr_family hr_family_phi3 = {
    .name = "phi3",
    .gguf_arch = "phi3",
    .hf_model_type = "phi3",
    .hf_architectures = {"Phi3ForCausalLM"},
    .block_roles = block_roles,
    .end_roles = hr_line_end_roles,
    .hf_block = HR_HF_BLOCK,
    .from_gguf = from_gguf,
    .from_hf = from_hf,
};
