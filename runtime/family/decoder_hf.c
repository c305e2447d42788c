/* The llama line's hyperparameters out of a config.json, read as Transformers
 * reads it: the same defaults for what is left out, null as absent. An option that
 * the forward pass does not have is refused by name, never ignored. */
#include "runtime/family/family.h"

#include "base/error.h"

#include <stdio.h>
#include <string.h>

/* ---- Sizes --------------------------------------------------------------------- */

const struct hr_size_keys hr_usual_keys = {
    .n_layers = "num_hidden_layers",
    .n_embd = "hidden_size",
    .n_heads = "num_attention_heads",
    .n_ff = "intermediate_size",
    .activation = "hidden_act",
    .default_activation = "gelu",
    .n_ctx_train = "max_position_embeddings",
    .norm_eps = "layer_norm_eps",
};

int hr__hf_read_sizes(struct hr_hparams *h, const struct hr_json *config, const struct hr_size_keys *keys,
                      struct hr_error *err)
{
	const struct {
		const char *key;
		int32_t    *size;
	} sizes[] = {{keys->n_layers, &h->n_layers},
	             {keys->n_embd, &h->n_embd},
	             {keys->n_heads, &h->n_heads},
	             {keys->n_ff, &h->n_ff},
	             {"vocab_size", &h->n_vocab}};
	int rc = 0;
	for (size_t i = 0; i < HR_COUNT_OF(sizes) && !rc; i++)
		rc = sizes[i].key ? hr__json_need_int(config, sizes[i].key, sizes[i].size, err) : 0;
	if (!rc && h->n_vocab == 0)
		rc = hr__fail(err, HR_EFORMAT, "%s: \"vocab_size\" is 0.", config->path);
	if (!rc)
		rc = hr__hf_read_activation(&h->activation, config, keys->activation, keys->default_activation, err);
	if (!rc && keys->n_ctx_train)
		rc = hr__json_int(config, keys->n_ctx_train, &h->n_ctx_train, err);
	if (rc >= 0 && keys->norm_eps)
		rc = hr__json_float(config, keys->norm_eps, &h->norm_eps, err);
	return rc < 0 ? rc : 0;
}

int hr__decoder_split_heads(struct hr_hparams *h, const struct hr_json *config, struct hr_error *err)
{
	if (h->n_heads < 1 || h->n_embd % h->n_heads)
		return hr__fail(err, HR_EFORMAT, "%s: layers %d wide cannot be divided among %d attention heads.",
		                config->path, h->n_embd, h->n_heads);
	h->n_kv_heads = h->n_heads;
	h->head_dim = h->n_embd / h->n_heads;
	return 0;
}

/* ---- The rest ---------------------------------------------------------------- */

static int read_heads(struct hr_hparams *h, const struct hr_json *config,
                      const struct hr_decoder_defaults *defaults, struct hr_error *err)
{
	h->n_kv_heads = h->n_heads;
	if (defaults->n_kv_heads && !json_object_get(config->object, "num_key_value_heads"))
		h->n_kv_heads = defaults->n_kv_heads;
	int rc = hr__json_int(config, "num_key_value_heads", &h->n_kv_heads, err);
	if (rc >= 0)
		rc = hr__json_int(config, "head_dim", &h->head_dim, err);
	if (rc || h->head_dim)
		return rc < 0 ? rc : 0;
	if (h->n_heads == 0 || h->n_embd % h->n_heads)
		return hr__fail(
		    err, HR_EFORMAT,
		    "%s: \"hidden_size\" is %d, which \"num_attention_heads\" (%d) does not divide, and \"head_dim\" "
		    "is not given.",
		    config->path, h->n_embd, h->n_heads);
	h->head_dim = h->n_embd / h->n_heads;
	return 0;
}

static const struct {
	const char        *name;
	enum hr_activation activation;
} activations[] = {
    {"silu", HR_ACT_SILU},          {"swish", HR_ACT_SILU},          {"gelu", HR_ACT_GELU},
    {"gelu_new", HR_ACT_GELU_TANH}, {"gelu_fast", HR_ACT_GELU_TANH}, {"gelu_pytorch_tanh", HR_ACT_GELU_TANH},
    {"relu", HR_ACT_RELU},          {"tanh", HR_ACT_TANH},
};

bool hr__activation_of_name(enum hr_activation *out, const char *name)
{
	for (size_t i = 0; i < HR_COUNT_OF(activations); i++)
		if (strcmp(activations[i].name, name) == 0) {
			*out = activations[i].activation;
			return true;
		}
	return false;
}

const char *hr__activation_name(enum hr_activation activation)
{
	size_t i = 0;
	while (i + 1 < HR_COUNT_OF(activations) && activations[i].activation != activation)
		i++;
	return activations[i].name;
}

int hr__hf_read_activation(enum hr_activation *out, const struct hr_json *config, const char *key,
                           const char *default_name, struct hr_error *err)
{
	int rc = hr__json_string(config, key, &default_name, err);
	if (rc < 0)
		return rc;
	if (hr__activation_of_name(out, default_name))
		return 0;
	char   list[160] = "supported are";
	size_t used = strlen(list);
	for (size_t i = 0; i < HR_COUNT_OF(activations); i++)
		used += (size_t)snprintf(list + used, sizeof list - used, "%s %s", i ? "," : "", activations[i].name);
	return hr__json_fail_option(config, key, default_name, list, err);
}

static void set_full(struct hr_hparams *h, int layer)
{
	if (layer < HR_MAX_LAYERS)
		h->full_layers[layer / 8] |= (uint8_t)(1u << layer % 8);
}

int hr__hf_read_sliding_layers(struct hr_hparams *h, const struct hr_json *config, int pattern,
                               struct hr_error *err)
{
	const json_t *types = json_object_get(config->object, "layer_types");
	size_t        n = json_array_size(types);
	if (types && !json_is_null(types) && n != (size_t)h->n_layers)
		return hr__fail(err, HR_EFORMAT,
		                "%s: \"layer_types\" describes %zu layers, but \"num_hidden_layers\" is %d.",
		                config->path, n, h->n_layers);
	for (int i = 0; i < h->n_layers && i < HR_MAX_LAYERS; i++) {
		const char *type = json_string_value(json_array_get(types, (size_t)i));
		if (n && (!type || (strcmp(type, "full_attention") != 0 && strcmp(type, "sliding_attention") != 0)))
			return hr__fail(err, HR_EUNSUPPORTED,
			                "%s: \"layer_types\" has the type '%s' for layer %d, which is not supported; "
			                "full_attention and sliding_attention are.",
			                config->path, type ? type : "?", i);
		if (n ? strcmp(type, "full_attention") == 0 : pattern && (i + 1) % pattern == 0)
			set_full(h, i);
	}
	return 0;
}

int hr__decoder_from_hf(struct hr_decoder *d, const struct hr_json *config,
                        const struct hr_decoder_defaults *defaults, struct hr_error *err)
{
	struct hr_hparams *h = &d->hparams;
	h->n_ctx_train = defaults->n_ctx_train;
	h->norm_eps = 1e-6f;
	struct hr_size_keys keys = hr_usual_keys;
	keys.default_activation = "silu";
	keys.norm_eps = "rms_norm_eps";
	bool mlp_bias = false;
	int  rc = hr__hf_read_sizes(h, config, &keys, err);
	if (!rc)
		rc = read_heads(h, config, defaults, err);
	if (!rc)
		rc = hr__hf_read_rope(h, config, 10000, defaults->partial_rotary > 0 ? defaults->partial_rotary : 1,
		                      err);
	if (rc)
		return rc;
	if (h->n_rot != h->head_dim && !(defaults->partial_rotary > 0))
		return hr__json_fail_option(config, "partial_rotary_factor", "not 1", "whole heads are rotated", err);
	rc = hr__json_bool(config, "mlp_bias", &mlp_bias, err);
	if (rc < 0)
		return rc;
	if (mlp_bias)
		return hr__json_fail_option(config, "mlp_bias", "true", "feed-forward layers have no biases", err);
	rc = hr__json_bool(config, "tie_word_embeddings", &h->tied, err);
	return rc < 0 ? rc : 0;
}
