/* stablelm: the llama line with layer norms and a quarter of each head rotated;
 * biases on query, key and value, and attention beside feed-forward instead of before
 * it, where config.json says so. */
#include "runtime/family/family.h"

#include "base/error.h"

static int refuse_qk_norm(const struct hr_json *config, struct hr_error *err)
{
	bool normed = false;
	int  rc = hr__json_bool(config, "qk_layernorm", &normed, err);
	if (rc > 0 && normed)
		return hr__json_fail_option(config, "qk_layernorm", "true", "queries and keys without norms are",
		                            err);
	return rc < 0 ? rc : 0;
}

static int from_gguf(struct hr_decoder *d, const struct hr_gguf *g, struct hr_error *err)
{
	struct hr_hparams *h = &d->hparams;
	h->rope_style = HR_ROPE_NEOX;
	h->layer_norm = true;
	h->norm_eps = 1e-5f;
	d->has[HR_NORM_BIAS] = HR_REQUIRED;
	d->has[HR_QKV_BIAS] = HR_OPTIONAL;
	int rc = hr_gguf_get_bool(g, "stablelm.use_parallel_residual", &h->parallel, err);
	d->has[HR_FFN_NORM] = d->has[HR_FFN_NORM_BIAS] = h->parallel ? HR_ABSENT : HR_REQUIRED;
	return rc < 0 ? rc : hr__decoder_from_gguf(d, g, "stablelm", err);
}

static int from_hf(struct hr_decoder *d, const struct hr_json *config, struct hr_error *err)
{
	static const struct hr_decoder_defaults defaults = {
	    .n_kv_heads = 32, .n_ctx_train = 4096, .partial_rotary = 0.25f};
	struct hr_hparams *h = &d->hparams;
	bool               bias = false;
	int                rc = refuse_qk_norm(config, err);
	h->layer_norm = true;
	d->has[HR_NORM_BIAS] = HR_REQUIRED;
	if (!rc)
		rc = hr__json_bool(config, "use_qkv_bias", &bias, err);
	if (rc >= 0)
		rc = hr__json_bool(config, "use_parallel_residual", &h->parallel, err);
	if (rc >= 0)
		rc = hr__decoder_from_hf(d, config, &defaults, err);
	if (rc < 0)
		return rc;
	d->has[HR_QKV_BIAS] = bias ? HR_REQUIRED : HR_ABSENT;
	d->has[HR_FFN_NORM] = d->has[HR_FFN_NORM_BIAS] = h->parallel ? HR_ABSENT : HR_REQUIRED;
	h->norm_eps = 1e-5f;
	rc = hr__json_float(config, "layer_norm_eps", &h->norm_eps, err);
	return rc < 0 ? rc : 0;
}

const struct hr_family hr_family_stablelm = {
    .name = "stablelm",
    .gguf_arch = "stablelm",
    .hf_model_type = "stablelm",
    .hf_architectures = {"StableLmForCausalLM"},
    .block_roles = hr_line_block_roles,
    .end_roles = hr_line_end_roles,
    .hf_block = HR_HF_BLOCK,
    .from_gguf = from_gguf,
    .from_hf = from_hf,
};
