/* qwen2: biases on query, key and value, never on the output; RoPE rotates
 * halves in both formats. Its config.json can ask for a sliding window in the layers from
 * max_window_layers on: all layers or none are supported, a mixture is not. */
#include "runtime/family/family.h"

#include "base/error.h"

#include <string.h>

static int from_gguf(struct hr_decoder *d, const struct hr_gguf *g, struct hr_error *err)
{
	d->hparams.rope_style = HR_ROPE_NEOX;
	d->qkv_bias = HR_REQUIRED;
	return hr__decoder_from_gguf(d, g, "qwen2", err);
}

/* How many of the n layers slide, once use_sliding_window is true; a newer config lists them. */
static int count_sliding(int32_t *out, const struct hr_json *config, int32_t n_layers, struct hr_error *err)
{
	const json_t *types = json_object_get(config->object, "layer_types");
	if (json_is_array(types)) {
		*out = 0;
		for (size_t i = 0; i < json_array_size(types); i++) {
			const char *type = json_string_value(json_array_get(types, i));
			*out += type && strcmp(type, "sliding_attention") == 0;
		}
		return 0;
	}
	int32_t first = 28;
	int     rc = hr__json_int(config, "max_window_layers", &first, err);
	*out = first < n_layers ? n_layers - first : 0;
	return rc < 0 ? rc : 0;
}

static int read_window(struct hr_decoder *d, const struct hr_json *config, struct hr_error *err)
{
	bool    use = false;
	int32_t window = 4096, n_sliding;
	int     rc = hr__json_bool(config, "use_sliding_window", &use, err);
	if (rc < 0 || !use)
		return rc < 0 ? rc : 0;
	if (json_is_null(json_object_get(config->object, "sliding_window")))
		return 0;
	rc = hr__json_int(config, "sliding_window", &window, err);
	if (rc >= 0)
		rc = count_sliding(&n_sliding, config, d->hparams.n_layers, err);
	if (rc)
		return rc;
	if (n_sliding != 0 && n_sliding != d->hparams.n_layers)
		return hr__fail(err, HR_EUNSUPPORTED,
		                "%s: %d of %d layers have a sliding window; only all or none are supported.",
		                config->path, n_sliding, d->hparams.n_layers);
	d->hparams.sliding_window = n_sliding ? window : 0;
	return 0;
}

static int from_hf(struct hr_decoder *d, const struct hr_json *config, struct hr_error *err)
{
	static const struct hr_decoder_defaults defaults = {.n_kv_heads = 32, .n_ctx_train = 32768};
	d->qkv_bias = HR_REQUIRED;
	int rc = hr__decoder_from_hf(d, config, &defaults, err);
	return rc ? rc : read_window(d, config, err);
}

const struct hr_family hr_family_qwen2 = {
    .name = "qwen2",
    .gguf_arch = "qwen2",
    .hf_model_type = "qwen2",
    .hf_architecture = "Qwen2ForCausalLM",
    .from_gguf = from_gguf,
    .from_hf = from_hf,
};
