/* opt: learned positions of which the first two are never used, layer norms, biases,
 * ReLU. The smallest models but one put their norms behind both parts. GGUF files of it are our own:
 * llama.cpp has no such architecture; the two positions are cut off there. */
#include "runtime/family/family.h"

#include "base/error.h"

/* clang-format off */
static const struct hr_role block_roles[] = {
    {"attn_norm.weight", "self_attn_layer_norm.weight", 0, HR_DIM_EMBD, HR_BLOCK(attn_norm)},
    {"attn_norm.bias", "self_attn_layer_norm.bias", 0, HR_DIM_EMBD, HR_BLOCK(attn_norm_bias)},
    {"attn_q.weight", "self_attn.q_proj.weight", HR_DIM_Q, HR_DIM_EMBD, HR_BLOCK(q)},
    {"attn_q.bias", "self_attn.q_proj.bias", 0, HR_DIM_Q, HR_BLOCK(q_bias), HR_QKV_BIAS},
    {"attn_k.weight", "self_attn.k_proj.weight", HR_DIM_KV, HR_DIM_EMBD, HR_BLOCK(k)},
    {"attn_k.bias", "self_attn.k_proj.bias", 0, HR_DIM_KV, HR_BLOCK(k_bias), HR_QKV_BIAS},
    {"attn_v.weight", "self_attn.v_proj.weight", HR_DIM_KV, HR_DIM_EMBD, HR_BLOCK(v)},
    {"attn_v.bias", "self_attn.v_proj.bias", 0, HR_DIM_KV, HR_BLOCK(v_bias), HR_QKV_BIAS},
    {"attn_output.weight", "self_attn.out_proj.weight", HR_DIM_EMBD, HR_DIM_Q, HR_BLOCK(o)},
    {"attn_output.bias", "self_attn.out_proj.bias", 0, HR_DIM_EMBD, HR_BLOCK(o_bias), HR_QKV_BIAS},
    {"ffn_norm.weight", "final_layer_norm.weight", 0, HR_DIM_EMBD, HR_BLOCK(ffn_norm)},
    {"ffn_norm.bias", "final_layer_norm.bias", 0, HR_DIM_EMBD, HR_BLOCK(ffn_norm_bias)},
    {"ffn_up.weight", "fc1.weight", HR_DIM_FF, HR_DIM_EMBD, HR_BLOCK(up)},
    {"ffn_up.bias", "fc1.bias", 0, HR_DIM_FF, HR_BLOCK(up_bias), HR_QKV_BIAS},
    {"ffn_down.weight", "fc2.weight", HR_DIM_EMBD, HR_DIM_FF, HR_BLOCK(down)},
    {"ffn_down.bias", "fc2.bias", 0, HR_DIM_EMBD, HR_BLOCK(down_bias), HR_QKV_BIAS},
    {0},
};

static const struct hr_role end_roles[] = {
    {"token_embd.weight", "decoder.embed_tokens.weight", HR_DIM_VOCAB, HR_DIM_EMBD, HR_END(embedding)},
    {"position_embd.weight", "decoder.embed_positions.weight", HR_DIM_POSITIONS, HR_DIM_EMBD, HR_END(position_embedding)},
    {"output_norm.weight", "decoder.final_layer_norm.weight", 0, HR_DIM_EMBD, HR_END(final_norm), HR_FINAL_NORM},
    {"output_norm.bias", "decoder.final_layer_norm.bias", 0, HR_DIM_EMBD, HR_END(final_norm_bias), HR_FINAL_NORM},
    {"output.weight", "/lm_head.weight", HR_DIM_VOCAB, HR_DIM_EMBD, HR_END(head), HR_HEAD},
    {0},
};
/* clang-format on */

static int read_options(struct hr_decoder *d, const struct hr_json *config, struct hr_error *err)
{
	struct hr_hparams *h = &d->hparams;
	bool               before = true, bias = true, affine = true, removed = false;
	int32_t            projected = h->n_embd;
	int                rc = hr__json_bool(config, "do_layer_norm_before", &before, err);
	if (rc >= 0)
		rc = hr__json_bool(config, "enable_bias", &bias, err);
	if (rc >= 0)
		rc = hr__json_bool(config, "layer_norm_elementwise_affine", &affine, err);
	if (rc >= 0)
		rc = hr__json_bool(config, "_remove_final_layer_norm", &removed, err);
	if (rc >= 0)
		rc = hr__json_int(config, "word_embed_proj_dim", &projected, err);
	if (rc < 0)
		return rc;
	if (projected != h->n_embd)
		return hr__json_fail_option(config, "word_embed_proj_dim", "not \"hidden_size\"",
		                            "embeddings as wide as the layers are", err);
	if (!affine)
		return hr__json_fail_option(config, "layer_norm_elementwise_affine", "false", "norms have weights",
		                            err);
	h->norm_after = !before;
	d->has[HR_QKV_BIAS] = bias ? HR_REQUIRED : HR_ABSENT;
	d->has[HR_FINAL_NORM] = before && !removed ? HR_REQUIRED : HR_ABSENT;
	return 0;
}

static int from_hf(struct hr_decoder *d, const struct hr_json *config, struct hr_error *err)
{
	struct hr_size_keys keys = hr_usual_keys;
	struct hr_hparams  *h = &d->hparams;
	keys.n_ff = "ffn_dim";
	keys.activation = "activation_function";
	keys.default_activation = "relu";
	keys.norm_eps = NULL;
	h->layer_norm = h->tied = true;
	h->norm_eps = 1e-5f;
	h->position_offset = 2;
	h->n_ctx_train = 2048;
	int rc = hr__hf_read_sizes(h, config, &keys, err);
	if (!rc)
		rc = hr__decoder_split_heads(h, config, err);
	if (!rc)
		rc = read_options(d, config, err);
	if (rc)
		return rc;
	rc = hr__json_bool(config, "tie_word_embeddings", &h->tied, err);
	return rc < 0 ? rc : 0;
}

static int from_gguf(struct hr_decoder *d, const struct hr_gguf *g, struct hr_error *err)
{
	d->hparams.layer_norm = true;
	d->hparams.activation = HR_ACT_RELU;
	d->has[HR_QKV_BIAS] = d->has[HR_FINAL_NORM] = HR_OPTIONAL;
	int rc = hr__decoder_from_gguf(d, g, "opt", err);
	d->hparams.n_rot = 0;
	d->hparams.rope_theta = 0;
	return rc;
}

const struct hr_family hr_family_opt = {
    .name = "opt",
    .gguf_arch = "opt",
    .gguf_own = true,
    .hf_model_type = "opt",
    .hf_architectures = {"OPTForCausalLM"},
    .block_roles = block_roles,
    .end_roles = end_roles,
    .hf_block = "decoder.layers.%d.",
    .hf_prefix = "model.",
    .from_gguf = from_gguf,
    .from_hf = from_hf,
};
