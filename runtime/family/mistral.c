/* mistral: llama with a sliding window of attention. Its GGUF files say "llama"
 * and are read as such. In a config.json a window that is left out is 4096
 * tokens, one that is null is none, as in Transformers. */
#include "runtime/family/family.h"

static int from_hf(struct hr_decoder *d, const struct hr_json *config, struct hr_error *err)
{
	static const struct hr_decoder_defaults defaults = {.n_kv_heads = 8, .n_ctx_train = 131072};
	if (!json_object_get(config->object, "sliding_window"))
		d->hparams.sliding_window = 4096;
	int rc = hr__json_int(config, "sliding_window", &d->hparams.sliding_window, err);
	if (rc < 0)
		return rc;
	return hr__decoder_from_hf(d, config, &defaults, err);
}

const struct hr_family hr_family_mistral = {
    .name = "mistral",
    .gguf_as = "llama",
    .hf_model_type = "mistral",
    .hf_architectures = {"MistralForCausalLM"},
    .block_roles = hr_line_block_roles,
    .end_roles = hr_line_end_roles,
    .hf_block = HR_HF_BLOCK,
    .from_hf = from_hf,
};
