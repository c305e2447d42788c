/* gpt2: learned positions, layer norms, biases everywhere, no gate. Its Hugging Face
 * files hold matrices by columns, queries, keys and values side by side in one. */
#include "runtime/family/family.h"

#include "base/error.h"

/* clang-format off */
static const struct hr_role block_roles[] = {
    {"attn_norm.weight", "ln_1.weight", 0, HR_DIM_EMBD, HR_BLOCK(attn_norm)},
    {"attn_norm.bias", "ln_1.bias", 0, HR_DIM_EMBD, HR_BLOCK(attn_norm_bias)},
    {"attn_qkv.weight", "attn.c_attn.weight", HR_DIM_Q, HR_DIM_EMBD, HR_BLOCK(q), .whole = HR_DIM_QKV, .hf_by_columns = true},
    {"attn_qkv.weight", "attn.c_attn.weight", HR_DIM_KV, HR_DIM_EMBD, HR_BLOCK(k), .whole = HR_DIM_QKV, .before = HR_DIM_Q, .hf_by_columns = true},
    {"attn_qkv.weight", "attn.c_attn.weight", HR_DIM_KV, HR_DIM_EMBD, HR_BLOCK(v), .whole = HR_DIM_QKV, .before = HR_DIM_Q_KV, .hf_by_columns = true},
    {"attn_qkv.bias", "attn.c_attn.bias", 0, HR_DIM_Q, HR_BLOCK(q_bias), .whole = HR_DIM_QKV},
    {"attn_qkv.bias", "attn.c_attn.bias", 0, HR_DIM_KV, HR_BLOCK(k_bias), .whole = HR_DIM_QKV, .before = HR_DIM_Q},
    {"attn_qkv.bias", "attn.c_attn.bias", 0, HR_DIM_KV, HR_BLOCK(v_bias), .whole = HR_DIM_QKV, .before = HR_DIM_Q_KV},
    {"attn_output.weight", "attn.c_proj.weight", HR_DIM_EMBD, HR_DIM_Q, HR_BLOCK(o), .hf_by_columns = true},
    {"attn_output.bias", "attn.c_proj.bias", 0, HR_DIM_EMBD, HR_BLOCK(o_bias)},
    {"ffn_norm.weight", "ln_2.weight", 0, HR_DIM_EMBD, HR_BLOCK(ffn_norm)},
    {"ffn_norm.bias", "ln_2.bias", 0, HR_DIM_EMBD, HR_BLOCK(ffn_norm_bias)},
    {"ffn_up.weight", "mlp.c_fc.weight", HR_DIM_FF, HR_DIM_EMBD, HR_BLOCK(up), .hf_by_columns = true},
    {"ffn_up.bias", "mlp.c_fc.bias", 0, HR_DIM_FF, HR_BLOCK(up_bias)},
    {"ffn_down.weight", "mlp.c_proj.weight", HR_DIM_EMBD, HR_DIM_FF, HR_BLOCK(down), .hf_by_columns = true},
    {"ffn_down.bias", "mlp.c_proj.bias", 0, HR_DIM_EMBD, HR_BLOCK(down_bias)},
    {0},
};

static const struct hr_role end_roles[] = {
    {"token_embd.weight", "wte.weight", HR_DIM_VOCAB, HR_DIM_EMBD, HR_END(embedding)},
    {"position_embd.weight", "wpe.weight", HR_DIM_POSITIONS, HR_DIM_EMBD, HR_END(position_embedding)},
    {"output_norm.weight", "ln_f.weight", 0, HR_DIM_EMBD, HR_END(final_norm)},
    {"output_norm.bias", "ln_f.bias", 0, HR_DIM_EMBD, HR_END(final_norm_bias)},
    {"output.weight", "/lm_head.weight", HR_DIM_VOCAB, HR_DIM_EMBD, HR_END(head), HR_HEAD},
    {0},
};
/* clang-format on */

static int from_gguf(struct hr_decoder *d, const struct hr_gguf *g, struct hr_error *err)
{
	d->hparams.layer_norm = true;
	d->hparams.activation = HR_ACT_GELU_TANH;
	int rc = hr__decoder_from_gguf(d, g, "gpt2", err);
	d->hparams.n_rot = 0;
	d->hparams.rope_theta = 0;
	return rc;
}

static int read_options(struct hr_hparams *h, const struct hr_json *config, struct hr_error *err)
{
	bool by_layer = false, scaled = true;
	int  rc = hr__json_bool(config, "scale_attn_by_inverse_layer_idx", &by_layer, err);
	if (rc >= 0)
		rc = hr__json_bool(config, "scale_attn_weights", &scaled, err);
	if (rc < 0)
		return rc;
	if (by_layer)
		return hr__json_fail_option(config, "scale_attn_by_inverse_layer_idx", "true",
		                            "one scale for all layers is", err);
	h->attention_scale = scaled ? 0 : 1;
	return 0;
}

static int from_hf(struct hr_decoder *d, const struct hr_json *config, struct hr_error *err)
{
	static const struct hr_size_keys keys = {.n_layers = "n_layer",
	                                         .n_embd = "n_embd",
	                                         .n_heads = "n_head",
	                                         .activation = "activation_function",
	                                         .default_activation = "gelu_new",
	                                         .n_ctx_train = "n_positions",
	                                         .norm_eps = "layer_norm_epsilon"};
	struct hr_hparams               *h = &d->hparams;
	h->layer_norm = h->tied = true;
	h->norm_eps = 1e-5f;
	h->n_ctx_train = 1024;
	int rc = read_options(h, config, err);
	if (!rc)
		rc = hr__hf_read_sizes(h, config, &keys, err);
	if (rc)
		return rc;
	h->n_ff = h->n_embd < 1 << 18 ? 4 * h->n_embd : 0;
	rc = hr__json_int(config, "n_inner", &h->n_ff, err);
	if (rc >= 0)
		rc = hr__json_bool(config, "tie_word_embeddings", &h->tied, err);
	return rc < 0 ? rc : hr__decoder_split_heads(h, config, err);
}

const struct hr_family hr_family_gpt2 = {
    .name = "gpt2",
    .gguf_arch = "gpt2",
    .hf_model_type = "gpt2",
    .hf_architectures = {"GPT2LMHeadModel"},
    .block_roles = block_roles,
    .end_roles = end_roles,
    .hf_block = "h.%d.",
    .hf_prefix = "transformer.",
    .ignored = {"*.attn.bias", "*.attn.masked_bias"},
    .from_gguf = from_gguf,
    .from_hf = from_hf,
};
