/* RoPE out of a config.json, as Transformers' modeling_rope_utils reads it.
 *
 * It stands in one of three places: rope_theta with rope_scaling (the type under
 * "rope_type" or the older "type"), or both in rope_parameters. What a kind of scaling
 * multiplies cos and sin with is worked out here, and kept as one number. */
#include "runtime/family/family.h"

#include "base/error.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* `object`: rope_scaling or rope_parameters. */
struct reading {
	struct hr_hparams    *h;
	const struct hr_json *config, *object;
	struct hr_error      *err;
};

float hr__rope_yarn_magnitude(float factor, float mscale)
{
	return factor > 1 ? (float)(0.1 * (double)mscale * log((double)factor) + 1) : 1;
}

static int read_llama3(const struct reading *r)
{
	struct hr_hparams *h = r->h;
	int                rc = hr__json_float(r->object, "low_freq_factor", &h->rope_low_freq_factor, r->err);
	if (rc > 0)
		rc = hr__json_float(r->object, "high_freq_factor", &h->rope_high_freq_factor, r->err);
	if (rc > 0)
		rc = hr__json_int(r->object, "original_max_position_embeddings", &h->rope_original_context, r->err);
	if (rc == 0)
		return hr__fail(r->err, HR_EFORMAT,
		                "%s: the llama3 RoPE scaling needs \"low_freq_factor\", \"high_freq_factor\" and "
		                "\"original_max_position_embeddings\"; one of them is missing.",
		                r->config->path);
	return rc < 0 ? rc : 0;
}

static int read_yarn(const struct reading *r)
{
	struct hr_hparams *h = r->h;
	bool               truncate = true;
	float              mscale = 0, mscale_all = 0;
	int32_t            original = 0;
	h->rope_beta_fast = 32;
	h->rope_beta_slow = 1;
	int rc = hr__json_float(r->object, "beta_fast", &h->rope_beta_fast, r->err);
	if (rc >= 0)
		rc = hr__json_float(r->object, "beta_slow", &h->rope_beta_slow, r->err);
	if (rc >= 0)
		rc = hr__json_float(r->object, "mscale", &mscale, r->err);
	if (rc >= 0)
		rc = hr__json_float(r->object, "mscale_all_dim", &mscale_all, r->err);
	if (rc >= 0)
		rc = hr__json_int(r->object, "original_max_position_embeddings", &original, r->err);
	if (rc >= 0)
		rc = hr__json_bool(r->object, "truncate", &truncate, r->err);
	if (rc >= 0)
		rc = hr__json_float(r->object, "attention_factor", &h->rope_magnitude, r->err);
	if (rc < 0)
		return rc;
	if (!truncate)
		return hr__json_fail_option(r->config, "truncate", "false", "whole dimensions are", r->err);
	h->rope_original_context = original ? original : h->n_ctx_train;
	if (rc == 0 && mscale != 0 && mscale_all != 0)
		h->rope_magnitude = hr__rope_yarn_magnitude(h->rope_factor, mscale) /
		                    hr__rope_yarn_magnitude(h->rope_factor, mscale_all);
	else if (rc == 0)
		h->rope_magnitude = hr__rope_yarn_magnitude(h->rope_factor, 1);
	return 0;
}

static int read_factors(const struct reading *r, const char *key, float *factors)
{
	const json_t *list = json_object_get(r->object->object, key);
	size_t        n = (size_t)r->h->n_rot / 2;
	if (!json_is_array(list))
		return hr__fail(r->err, HR_EFORMAT, "%s: the longrope RoPE scaling needs a list \"%s\".",
		                r->config->path, key);
	if (json_array_size(list) != n)
		return hr__fail(r->err, HR_EFORMAT,
		                "%s: \"%s\" has %zu factors, but %zu pairs of a head's elements are rotated.",
		                r->config->path, key, json_array_size(list), n);
	if (n > HR_MAX_ROPE_FACTORS)
		return hr__fail(r->err, HR_EUNSUPPORTED, "%s: \"%s\" has %zu factors; up to %d are supported.",
		                r->config->path, key, n, HR_MAX_ROPE_FACTORS);
	for (size_t i = 0; i < n; i++)
		factors[i] = (float)json_number_value(json_array_get(list, i));
	return hr__rope_check_factors(factors, (int)n, r->config->path, key, r->err);
}

/* The original context is the config's; in later files it moved to the other parameters. */
static int read_longrope(const struct reading *r)
{
	struct hr_hparams *h = r->h;
	int32_t           *original = &h->rope_original_context;
	float              factor = 1;
	int                rc = hr__json_int(r->config, "original_max_position_embeddings", original, r->err);
	if (rc == 0)
		rc = hr__json_int(r->object, "original_max_position_embeddings", original, r->err);
	if (rc >= 0)
		rc = hr__json_float(r->object, "factor", &factor, r->err);
	if (rc >= 0)
		rc = read_factors(r, "short_factor", h->rope_short);
	if (rc >= 0)
		rc = read_factors(r, "long_factor", h->rope_long);
	if (rc < 0)
		return rc;
	if (*original)
		factor = (float)h->n_ctx_train / (float)*original;
	else
		*original = h->n_ctx_train;
	h->rope_magnitude = factor > 1 ? (float)sqrt(1 + log((double)factor) / log((double)*original)) : 1;
	rc = hr__json_float(r->object, "attention_factor", &h->rope_magnitude, r->err);
	return rc < 0 ? rc : 0;
}

static const struct scaling {
	const char          *name;
	enum hr_rope_scaling scaling;
	bool                 has_factor;
	int (*read)(const struct reading *r);
} scalings[] = {
    {"default", HR_ROPE_SCALING_NONE, false, NULL},
    {"linear", HR_ROPE_SCALING_LINEAR, true, NULL},
    {"llama3", HR_ROPE_SCALING_LLAMA3, true, read_llama3},
    {"yarn", HR_ROPE_SCALING_YARN, true, read_yarn},
    {"longrope", HR_ROPE_SCALING_LONGROPE, false, read_longrope},
    {"su", HR_ROPE_SCALING_LONGROPE, false, read_longrope}, /* what Phi-3's first files call it */
};

static int fail_scaling(const struct reading *r, const char *type)
{
	char   list[128] = "";
	size_t used = 0;
	for (size_t i = 0; i < HR_COUNT_OF(scalings); i++)
		used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : "", scalings[i].name);
	return hr__fail(r->err, HR_EUNSUPPORTED, "%s: the RoPE scaling '%s' is not supported; supported are %s.",
	                r->config->path, type, list);
}

static int read_scaling(const struct reading *r)
{
	const char           *type = "default";
	const struct scaling *s = scalings, *end = scalings + HR_COUNT_OF(scalings);
	int                   rc = hr__json_string(r->object, "rope_type", &type, r->err);
	if (rc == 0)
		rc = hr__json_string(r->object, "type", &type, r->err);
	if (rc >= 0)
		rc = hr__json_float(r->object, "rope_theta", &r->h->rope_theta, r->err);
	if (rc < 0)
		return rc;
	while (s < end && strcmp(s->name, type) != 0)
		s++;
	if (s == end)
		return fail_scaling(r, type);
	r->h->rope_scaling = s->scaling;
	rc = s->has_factor ? hr__json_float(r->object, "factor", &r->h->rope_factor, r->err) : 1;
	if (rc == 0)
		return hr__fail(r->err, HR_EFORMAT, "%s: the RoPE scaling '%s' has no \"factor\".", r->config->path,
		                type);
	return rc < 0 || !s->read ? (rc < 0 ? rc : 0) : s->read(r);
}

int hr__hf_read_rope(struct hr_hparams *h, const struct hr_json *config, float theta, float partial,
                     struct hr_error *err)
{
	h->rope_style = HR_ROPE_NEOX;
	h->rope_theta = theta;
	int rc = hr__json_float(config, "rope_theta", &h->rope_theta, err);
	if (rc >= 0)
		rc = hr__json_float(config, "partial_rotary_factor", &partial, err);
	if (rc < 0)
		return rc;
	if (!(partial > 0 && partial <= 1))
		return hr__fail(err, HR_EFORMAT,
		                "%s: \"partial_rotary_factor\" is %g, but a share of a head is needed.", config->path,
		                (double)partial);
	h->n_rot = (int32_t)((float)h->head_dim * partial);
	static const char *const places[] = {"rope_parameters", "rope_scaling"};
	for (int i = 0; i < 2; i++) {
		const json_t *object = json_object_get(config->object, places[i]);
		if (!object || json_is_null(object))
			continue;
		if (!json_is_object(object))
			return hr__fail(err, HR_EFORMAT, "%s: \"%s\" must be an object or null.", config->path,
			                places[i]);
		if (json_is_object(json_object_get(object, "full_attention")))
			return hr__json_fail_option(config, places[i], "different for different layers", "one for all is",
			                            err);
		struct hr_json rope = {.path = config->path, .object = object};
		struct reading r = {h, config, &rope, err};
		return read_scaling(&r);
	}
	return 0;
}
