/* qwen2: biases on query, key and value, never on the output; RoPE rotates
 * halves in both formats. Its config.json can ask for a sliding window in the layers from
 * max_window_layers on. */
#include "runtime/family/family.h"

#include "base/error.h"

#include <string.h>

static int from_gguf(struct hr_decoder *d, const struct hr_gguf *g, struct hr_error *err)
{
	d->hparams.rope_style = HR_ROPE_NEOX;
	d->has[HR_QKV_BIAS] = HR_REQUIRED;
	return hr__decoder_from_gguf(d, g, "qwen2", err);
}

int hr__qwen_read_window(struct hr_decoder *d, const struct hr_json *config, struct hr_error *err)
{
	struct hr_hparams *h = &d->hparams;
	bool               use = false;
	int32_t            first = 28;
	int                rc = hr__json_bool(config, "use_sliding_window", &use, err);
	if (rc < 0 || !use || json_is_null(json_object_get(config->object, "sliding_window")))
		return rc < 0 ? rc : 0;
	h->sliding_window = 4096;
	rc = hr__json_int(config, "sliding_window", &h->sliding_window, err);
	if (rc >= 0)
		rc = hr__json_int(config, "max_window_layers", &first, err);
	if (rc >= 0)
		rc = hr__hf_read_sliding_layers(h, config, 0, err);
	bool listed = json_is_array(json_object_get(config->object, "layer_types"));
	for (int i = 0; i < first && i < h->n_layers && i < HR_MAX_LAYERS && !listed; i++)
		h->full_layers[i / 8] |= (uint8_t)(1u << i % 8);
	return rc < 0 ? rc : 0;
}

static int from_hf(struct hr_decoder *d, const struct hr_json *config, struct hr_error *err)
{
	static const struct hr_decoder_defaults defaults = {.n_kv_heads = 32, .n_ctx_train = 32768};
	d->has[HR_QKV_BIAS] = HR_REQUIRED;
	int rc = hr__decoder_from_hf(d, config, &defaults, err);
	return rc ? rc : hr__qwen_read_window(d, config, err);
}

const struct hr_family hr_family_qwen2 = {
    .name = "qwen2",
    .gguf_arch = "qwen2",
    .hf_model_type = "qwen2",
    .hf_architectures = {"Qwen2ForCausalLM"},
    .block_roles = hr_line_block_roles,
    .end_roles = hr_line_end_roles,
    .hf_block = HR_HF_BLOCK,
    .from_gguf = from_gguf,
    .from_hf = from_hf,
};
