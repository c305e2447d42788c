/* llama: Llama 2 and 3, TinyLlama, SmolLM2 and what else says it is one. GGUF
 * converters permute its query and key rows so that RoPE rotates neighbours;
 * config.json's attention_bias puts biases on all four projections. */
#include "runtime/family/family.h"

static int from_gguf(struct hr_decoder *d, const struct hr_gguf *g, struct hr_error *err)
{
	d->hparams.rope_style = HR_ROPE_NORM;
	d->has[HR_QKV_BIAS] = d->has[HR_O_BIAS] = HR_OPTIONAL;
	return hr__decoder_from_gguf(d, g, "llama", err);
}

static int from_hf(struct hr_decoder *d, const struct hr_json *config, struct hr_error *err)
{
	static const struct hr_decoder_defaults defaults = {.n_ctx_train = 2048};
	bool                                    bias = false;
	int                                     rc = hr__json_bool(config, "attention_bias", &bias, err);
	if (rc < 0)
		return rc;
	d->has[HR_QKV_BIAS] = d->has[HR_O_BIAS] = bias ? HR_REQUIRED : HR_ABSENT;
	return hr__decoder_from_hf(d, config, &defaults, err);
}

const struct hr_family hr_family_llama = {
    .name = "llama",
    .gguf_arch = "llama",
    .hf_model_type = "llama",
    .hf_architectures = {"LlamaForCausalLM"},
    .block_roles = hr_line_block_roles,
    .end_roles = hr_line_end_roles,
    .hf_block = HR_HF_BLOCK,
    .from_gguf = from_gguf,
    .from_hf = from_hf,
};
