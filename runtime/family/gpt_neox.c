/* gpt_neox: GPT-NeoX and Pythia. Attention and feed-forward read the same input, each through
 * its own norm; a part of each head is rotated. Hugging Face files hold
 * queries, keys and values of a head side by side, GGUF files one after the other. */
#include "runtime/family/family.h"

/* clang-format off */
static const struct hr_role block_roles[] = {
    {"attn_norm.weight", "input_layernorm.weight", 0, HR_DIM_EMBD, HR_BLOCK(attn_norm)},
    {"attn_norm.bias", "input_layernorm.bias", 0, HR_DIM_EMBD, HR_BLOCK(attn_norm_bias)},
    {NULL, "attention.query_key_value.weight", HR_DIM_QKV, HR_DIM_EMBD, HR_BLOCK(qkv)},
    {NULL, "attention.query_key_value.bias", 0, HR_DIM_QKV, HR_BLOCK(qkv_bias), HR_QKV_BIAS},
    {"attn_qkv.weight", NULL, HR_DIM_Q, HR_DIM_EMBD, HR_BLOCK(q), .whole = HR_DIM_QKV},
    {"attn_qkv.weight", NULL, HR_DIM_KV, HR_DIM_EMBD, HR_BLOCK(k), .whole = HR_DIM_QKV, .before = HR_DIM_Q},
    {"attn_qkv.weight", NULL, HR_DIM_KV, HR_DIM_EMBD, HR_BLOCK(v), .whole = HR_DIM_QKV, .before = HR_DIM_Q_KV},
    {"attn_qkv.bias", NULL, 0, HR_DIM_Q, HR_BLOCK(q_bias), .whole = HR_DIM_QKV},
    {"attn_qkv.bias", NULL, 0, HR_DIM_KV, HR_BLOCK(k_bias), .whole = HR_DIM_QKV, .before = HR_DIM_Q},
    {"attn_qkv.bias", NULL, 0, HR_DIM_KV, HR_BLOCK(v_bias), .whole = HR_DIM_QKV, .before = HR_DIM_Q_KV},
    {"attn_output.weight", "attention.dense.weight", HR_DIM_EMBD, HR_DIM_Q, HR_BLOCK(o)},
    {"attn_output.bias", "attention.dense.bias", 0, HR_DIM_EMBD, HR_BLOCK(o_bias), HR_QKV_BIAS},
    {"ffn_norm.weight", "post_attention_layernorm.weight", 0, HR_DIM_EMBD, HR_BLOCK(ffn_norm)},
    {"ffn_norm.bias", "post_attention_layernorm.bias", 0, HR_DIM_EMBD, HR_BLOCK(ffn_norm_bias)},
    {"ffn_up.weight", "mlp.dense_h_to_4h.weight", HR_DIM_FF, HR_DIM_EMBD, HR_BLOCK(up)},
    {"ffn_up.bias", "mlp.dense_h_to_4h.bias", 0, HR_DIM_FF, HR_BLOCK(up_bias)},
    {"ffn_down.weight", "mlp.dense_4h_to_h.weight", HR_DIM_EMBD, HR_DIM_FF, HR_BLOCK(down)},
    {"ffn_down.bias", "mlp.dense_4h_to_h.bias", 0, HR_DIM_EMBD, HR_BLOCK(down_bias)},
    {0},
};

static const struct hr_role end_roles[] = {
    {"token_embd.weight", "embed_in.weight", HR_DIM_VOCAB, HR_DIM_EMBD, HR_END(embedding)},
    {"output_norm.weight", "final_layer_norm.weight", 0, HR_DIM_EMBD, HR_END(final_norm)},
    {"output_norm.bias", "final_layer_norm.bias", 0, HR_DIM_EMBD, HR_END(final_norm_bias)},
    {"output.weight", "/embed_out.weight", HR_DIM_VOCAB, HR_DIM_EMBD, HR_END(head), HR_HEAD},
    {0},
};
/* clang-format on */

static int from_gguf(struct hr_decoder *d, const struct hr_gguf *g, struct hr_error *err)
{
	struct hr_hparams *h = &d->hparams;
	h->layer_norm = h->parallel = true;
	h->activation = HR_ACT_GELU;
	h->rope_style = HR_ROPE_NEOX;
	d->has[HR_QKV_BIAS] = HR_REQUIRED;
	int rc = hr_gguf_get_bool(g, "gptneox.use_parallel_residual", &h->parallel, err);
	return rc < 0 ? rc : hr__decoder_from_gguf(d, g, "gptneox", err);
}

/* RoPE under its older names, then under the newer ones. */
static int read_rope(struct hr_hparams *h, const struct hr_json *config, struct hr_error *err)
{
	float theta = 10000, part = 0.25f;
	int   rc = hr__json_float(config, "rotary_emb_base", &theta, err);
	if (rc >= 0)
		rc = hr__json_float(config, "rotary_pct", &part, err);
	return rc < 0 ? rc : hr__hf_read_rope(h, config, theta, part, err);
}

static int from_hf(struct hr_decoder *d, const struct hr_json *config, struct hr_error *err)
{
	struct hr_hparams *h = &d->hparams;
	bool               bias = true;
	h->layer_norm = h->parallel = true;
	h->norm_eps = 1e-5f;
	h->n_ctx_train = 2048;
	int rc = hr__hf_read_sizes(h, config, &hr_usual_keys, err);
	if (!rc)
		rc = hr__decoder_split_heads(h, config, err);
	if (!rc)
		rc = read_rope(h, config, err);
	if (rc)
		return rc;
	rc = hr__json_bool(config, "use_parallel_residual", &h->parallel, err);
	if (rc >= 0)
		rc = hr__json_bool(config, "attention_bias", &bias, err);
	if (rc >= 0)
		rc = hr__json_bool(config, "tie_word_embeddings", &h->tied, err);
	d->has[HR_QKV_BIAS] = bias ? HR_REQUIRED : HR_ABSENT;
	return rc < 0 ? rc : 0;
}

const struct hr_family hr_family_gpt_neox = {
    .name = "gpt_neox",
    .gguf_arch = "gptneox",
    .hf_model_type = "gpt_neox",
    .hf_architectures = {"GPTNeoXForCausalLM"},
    .block_roles = block_roles,
    .end_roles = end_roles,
    .hf_block = "layers.%d.",
    .hf_prefix = "gpt_neox.",
    .ignored = {"*.attention.bias", "*.attention.masked_bias"},
    .from_gguf = from_gguf,
    .from_hf = from_hf,
};
