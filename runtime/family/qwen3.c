/* qwen3: the llama line with a norm over each head of queries and keys, and heads
 * whose size config.json says. */
#include "runtime/family/family.h"

static int from_gguf(struct hr_decoder *d, const struct hr_gguf *g, struct hr_error *err)
{
	d->hparams.rope_style = HR_ROPE_NEOX;
	d->has[HR_QK_NORM] = HR_REQUIRED;
	return hr__decoder_from_gguf(d, g, "qwen3", err);
}

static int from_hf(struct hr_decoder *d, const struct hr_json *config, struct hr_error *err)
{
	static const struct hr_decoder_defaults defaults = {.n_kv_heads = 32, .n_ctx_train = 32768};
	bool                                    bias = false;
	int                                     rc = hr__json_bool(config, "attention_bias", &bias, err);
	d->hparams.head_dim = 128; /* where the config doesn't say */
	d->has[HR_QK_NORM] = HR_REQUIRED;
	d->has[HR_QKV_BIAS] = d->has[HR_O_BIAS] = bias ? HR_REQUIRED : HR_ABSENT;
	if (rc >= 0)
		rc = hr__decoder_from_hf(d, config, &defaults, err);
	return rc < 0 ? rc : hr__qwen_read_window(d, config, err);
}

const struct hr_family hr_family_qwen3 = {
    .name = "qwen3",
    .gguf_arch = "qwen3",
    .hf_model_type = "qwen3",
    .hf_architectures = {"Qwen3ForCausalLM"},
    .block_roles = hr_line_block_roles,
    .end_roles = hr_line_end_roles,
    .hf_block = HR_HF_BLOCK,
    .from_gguf = from_gguf,
    .from_hf = from_hf,
};
