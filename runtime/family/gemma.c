/* gemma2 and gemma3: norms before and behind both parts, with weights around zero in
 * Hugging Face files (a GGUF's are around one); embeddings scaled by the root of their
 * length; layers that slide between layers that don't. Gemma 2 caps scores and logits, every
 * second layer is full. Gemma 3 norms queries and keys instead, every sixth layer is
 * full, and those that slide rotate with a base of their own. */
#include "runtime/family/family.h"

#include "base/error.h"

#include <math.h>

/* clang-format off */
static const struct hr_role block_roles[] = {
    {"attn_norm.weight", "input_layernorm.weight", 0, HR_DIM_EMBD, HR_BLOCK(attn_norm)},
    {"attn_q.weight", "self_attn.q_proj.weight", HR_DIM_Q, HR_DIM_EMBD, HR_BLOCK(q)},
    {"attn_q_norm.weight", "self_attn.q_norm.weight", 0, HR_DIM_HEAD, HR_BLOCK(q_norm), HR_QK_NORM},
    {"attn_k.weight", "self_attn.k_proj.weight", HR_DIM_KV, HR_DIM_EMBD, HR_BLOCK(k)},
    {"attn_k_norm.weight", "self_attn.k_norm.weight", 0, HR_DIM_HEAD, HR_BLOCK(k_norm), HR_QK_NORM},
    {"attn_v.weight", "self_attn.v_proj.weight", HR_DIM_KV, HR_DIM_EMBD, HR_BLOCK(v)},
    {"attn_output.weight", "self_attn.o_proj.weight", HR_DIM_EMBD, HR_DIM_Q, HR_BLOCK(o)},
    {"post_attention_norm.weight", "post_attention_layernorm.weight", 0, HR_DIM_EMBD, HR_BLOCK(attn_post_norm)},
    {"ffn_norm.weight", "pre_feedforward_layernorm.weight", 0, HR_DIM_EMBD, HR_BLOCK(ffn_norm)},
    {"ffn_gate.weight", "mlp.gate_proj.weight", HR_DIM_FF, HR_DIM_EMBD, HR_BLOCK(gate)},
    {"ffn_up.weight", "mlp.up_proj.weight", HR_DIM_FF, HR_DIM_EMBD, HR_BLOCK(up)},
    {"ffn_down.weight", "mlp.down_proj.weight", HR_DIM_EMBD, HR_DIM_FF, HR_BLOCK(down)},
    {"post_ffw_norm.weight", "post_feedforward_layernorm.weight", 0, HR_DIM_EMBD, HR_BLOCK(ffn_post_norm)},
    {0},
};
/* clang-format on */

static void describe(struct hr_hparams *h, float query_scalar)
{
	h->embedding_scale = sqrtf((float)h->n_embd);
	h->attention_scale = 1.0f / sqrtf(query_scalar);
}

static void set_full_layers(struct hr_hparams *h, int pattern)
{
	for (int i = pattern - 1; i < h->n_layers && i < HR_MAX_LAYERS; i += pattern)
		h->full_layers[i / 8] |= (uint8_t)(1u << i % 8);
}

static int gguf_common(struct hr_decoder *d, const struct hr_gguf *g, const char *arch, int pattern,
                       struct hr_error *err)
{
	struct hr_hparams *h = &d->hparams;
	h->rope_style = HR_ROPE_NEOX;
	h->activation = HR_ACT_GELU_TANH;
	h->sliding_window = 4096;
	int rc = hr__decoder_from_gguf(d, g, arch, err);
	if (rc)
		return rc;
	/* As llama.cpp: the largest models scale by the width of their heads' share, which a GGUF doesn't say. */
	bool largest = (pattern == 2 && h->n_layers == 46) || (pattern == 6 && h->n_layers == 62);
	describe(h, (float)(largest ? h->n_embd / h->n_heads : h->head_dim));
	set_full_layers(h, pattern);
	return 0;
}

static int gemma2_from_gguf(struct hr_decoder *d, const struct hr_gguf *g, struct hr_error *err)
{
	d->hparams.attention_soft_cap = 50;
	d->hparams.logit_soft_cap = 30;
	int rc = hr_gguf_get_f32(g, "gemma2.attn_logit_softcapping", &d->hparams.attention_soft_cap, err);
	if (rc >= 0)
		rc = hr_gguf_get_f32(g, "gemma2.final_logit_softcapping", &d->hparams.logit_soft_cap, err);
	return rc < 0 ? rc : gguf_common(d, g, "gemma2", 2, err);
}

static int gemma3_from_gguf(struct hr_decoder *d, const struct hr_gguf *g, struct hr_error *err)
{
	d->has[HR_QK_NORM] = HR_REQUIRED;
	d->hparams.rope_theta_sliding = 10000;
	int rc = hr_gguf_get_f32(g, "gemma3.rope.freq_base_swa", &d->hparams.rope_theta_sliding, err);
	return rc < 0 ? rc : gguf_common(d, g, "gemma3", 6, err);
}

static int hf_common(struct hr_decoder *d, const struct hr_json *config, int pattern, struct hr_error *err)
{
	static const struct hr_decoder_defaults defaults = {.n_kv_heads = 4, .n_ctx_train = 8192};
	struct hr_hparams                      *h = &d->hparams;
	enum hr_activation                      activation;
	float                                   scalar = 256;
	h->head_dim = 256;
	h->norm_shift = 1;
	h->tied = true;
	h->sliding_window = 4096;
	int rc = hr__decoder_from_hf(d, config, &defaults, err);
	if (!rc)
		rc = hr__hf_read_activation(&activation, config, "hidden_activation", "gelu_pytorch_tanh", err);
	if (rc)
		return rc;
	h->activation = activation; /* not "hidden_act", which is there, too, and means nothing */
	rc = hr__json_float(config, "query_pre_attn_scalar", &scalar, err);
	if (rc >= 0)
		rc = hr__json_int(config, "sliding_window", &h->sliding_window, err);
	if (rc < 0)
		return rc;
	if (!(scalar > 0))
		return hr__fail(err, HR_EFORMAT, "%s: \"query_pre_attn_scalar\" is %g, but must be positive.",
		                config->path, (double)scalar);
	describe(h, scalar);
	return hr__hf_read_sliding_layers(h, config, pattern, err);
}

/* A cap that is left out has the family's value, one that is null is none. */
static int read_cap(float *cap, const struct hr_json *config, const char *key, float value,
                    struct hr_error *err)
{
	*cap = json_object_get(config->object, key) ? 0 : value;
	int rc = hr__json_float(config, key, cap, err);
	return rc < 0 ? rc : 0;
}

static int gemma2_from_hf(struct hr_decoder *d, const struct hr_json *config, struct hr_error *err)
{
	int rc = read_cap(&d->hparams.attention_soft_cap, config, "attn_logit_softcapping", 50, err);
	if (!rc)
		rc = read_cap(&d->hparams.logit_soft_cap, config, "final_logit_softcapping", 30, err);
	return rc ? rc : hf_common(d, config, 2, err);
}

static int gemma3_from_hf(struct hr_decoder *d, const struct hr_json *config, struct hr_error *err)
{
	int32_t pattern = 6;
	d->has[HR_QK_NORM] = HR_REQUIRED;
	d->hparams.rope_theta_sliding = 10000;
	int rc = hr__json_float(config, "rope_local_base_freq", &d->hparams.rope_theta_sliding, err);
	if (rc >= 0)
		rc = read_cap(&d->hparams.attention_soft_cap, config, "attn_logit_softcapping", 0, err);
	if (rc >= 0)
		rc = read_cap(&d->hparams.logit_soft_cap, config, "final_logit_softcapping", 0, err);
	if (rc >= 0)
		rc = hr__json_int(config, "sliding_window_pattern", &pattern, err);
	return rc < 0 ? rc : hf_common(d, config, pattern, err);
}

const struct hr_family hr_family_gemma2 = {
    .name = "gemma2",
    .gguf_arch = "gemma2",
    .hf_model_type = "gemma2",
    .hf_architectures = {"Gemma2ForCausalLM"},
    .block_roles = block_roles,
    .end_roles = hr_line_end_roles,
    .hf_block = HR_HF_BLOCK,
    .from_gguf = gemma2_from_gguf,
    .from_hf = gemma2_from_hf,
};

const struct hr_family hr_family_gemma3 = {
    .name = "gemma3",
    .gguf_arch = "gemma3",
    .hf_model_type = "gemma3_text",
    .hf_architectures = {"Gemma3ForCausalLM"},
    .block_roles = block_roles,
    .end_roles = hr_line_end_roles,
    .hf_block = HR_HF_BLOCK,
    .from_gguf = gemma3_from_gguf,
    .from_hf = gemma3_from_hf,
};
