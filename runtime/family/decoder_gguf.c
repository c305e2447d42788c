/* The llama line's hyperparameters out of GGUF metadata.
 *
 * Keys are the architecture's name, a dot and a suffix. What is missing and
 * cannot be inferred is an error; what changes the computation in a way that the
 * forward pass does not have (experts, per-layer sizes) is refused by name. */
#include "runtime/family/family.h"

#include "base/error.h"

#include <stdio.h>
#include <string.h>

struct keys {
	const struct hr_gguf *g;
	const char           *arch;
	struct hr_error      *err;
	char                  name[128];
};

static const char *key_of(struct keys *k, const char *suffix)
{
	snprintf(k->name, sizeof k->name, "%s.%s", k->arch, suffix);
	return k->name;
}

static int get_int(struct keys *k, const char *suffix, int32_t *out)
{
	return hr_gguf_get_i32(k->g, key_of(k, suffix), out, k->err);
}

static int need_int(struct keys *k, const char *suffix, int32_t *out)
{
	int rc = get_int(k, suffix, out);
	if (rc == 0)
		return hr__fail(k->err, HR_EFORMAT, "%s: the key %s is missing; the file is incomplete.", k->g->path,
		                k->name);
	return rc < 0 ? rc : 0;
}

static int get_float(struct keys *k, const char *suffix, float *out)
{
	return hr_gguf_get_f32(k->g, key_of(k, suffix), out, k->err);
}

/* llama.cpp reads the factor of the attention out of one key, its converter writes that of a config.json
 * under another. */
static int read_yarn(struct keys *k, struct hr_hparams *h)
{
	float extrapolation = 1, magnitude = 0;
	h->rope_beta_fast = 32;
	h->rope_beta_slow = 1;
	int rc = get_float(k, "rope.scaling.yarn_beta_fast", &h->rope_beta_fast);
	if (rc >= 0)
		rc = get_float(k, "rope.scaling.yarn_beta_slow", &h->rope_beta_slow);
	if (rc >= 0)
		rc = get_float(k, "rope.scaling.yarn_ext_factor", &extrapolation);
	if (rc >= 0)
		rc = get_float(k, "rope.scaling.yarn_attn_factor", &magnitude);
	if (rc < 0)
		return rc;
	if (extrapolation >= 0 && extrapolation != 1) /* below 0: not said */
		return hr__fail(k->err, HR_EUNSUPPORTED,
		                "%s: the extrapolation factor of its yarn RoPE scaling is %g; only 1 is supported.",
		                k->g->path, (double)extrapolation);
	h->rope_scaling = HR_ROPE_SCALING_YARN;
	h->rope_magnitude =
	    rc ? magnitude
	       : hr__rope_yarn_magnitude(h->rope_factor, 1) * (h->rope_magnitude != 0 ? h->rope_magnitude : 1);
	h->rope_original_context = h->rope_original_context ? h->rope_original_context : h->n_ctx_train;
	return 0;
}

/* Linear is what a factor without a type means. Llama 3's scaling comes as a tensor, and longrope's lists
 * do, often without the type: see hr__checkpoint_open_gguf(). */
static int read_rope_scaling(struct keys *k, struct hr_hparams *h)
{
	const char *type = "linear";
	float       factor = 0;
	int         rc = hr_gguf_get_string(k->g, key_of(k, "rope.scaling.type"), &type, k->err);
	if (rc < 0)
		return rc;
	bool yarn = strcmp(type, "yarn") == 0;
	if (strcmp(type, "longrope") == 0)
		h->rope_scaling = HR_ROPE_SCALING_LONGROPE;
	if (strcmp(type, "none") == 0 || strcmp(type, "longrope") == 0)
		return 0;
	if (strcmp(type, "linear") != 0 && !yarn)
		return hr__fail(
		    k->err, HR_EUNSUPPORTED,
		    "%s: the RoPE scaling '%s' is not supported; supported are none, linear, yarn, longrope, and the "
		    "factors of Llama 3 (a tensor rope_freqs.weight).",
		    k->g->path, type);
	rc = get_float(k, "rope.scaling.factor", &factor);
	if (rc == 0)
		rc = get_float(k, "rope.scale_linear", &factor); /* the key of older files */
	if (rc < 0)
		return rc;
	if (yarn || (factor != 0 && factor != 1)) {
		h->rope_scaling = HR_ROPE_SCALING_LINEAR;
		h->rope_factor = factor != 0 ? factor : 1;
	}
	return yarn ? read_yarn(k, h) : 0;
}

static int read_rope(struct keys *k, struct hr_hparams *h)
{
	h->n_rot = h->head_dim;
	h->rope_theta = 10000;
	int rc = get_int(k, "rope.dimension_count", &h->n_rot);
	if (rc > 0 && h->n_rot == 0)
		rc = hr__fail(k->err, HR_EFORMAT, "%s: %s is 0; an even number up to %d is needed.", k->g->path,
		              k->name, h->head_dim);
	if (rc >= 0)
		rc = get_float(k, "rope.freq_base", &h->rope_theta);
	if (rc >= 0)
		rc = get_int(k, "rope.scaling.original_context_length", &h->rope_original_context);
	if (rc >= 0)
		rc = get_float(k, "rope.scaling.attn_factor", &h->rope_magnitude);
	if (rc >= 0)
		rc = read_rope_scaling(k, h);
	return rc < 0 ? rc : 0;
}

static int read_heads(struct keys *k, struct hr_hparams *h)
{
	int rc = need_int(k, "attention.head_count", &h->n_heads);
	if (rc)
		return rc;
	h->n_kv_heads = h->n_heads;
	rc = get_int(k, "attention.head_count_kv", &h->n_kv_heads);
	if (rc >= 0)
		rc = get_int(k, "attention.key_length", &h->head_dim);
	if (rc < 0)
		return rc;
	if (rc == 0) {
		if (h->n_heads == 0 || h->n_embd % h->n_heads)
			return hr__fail(
			    k->err, HR_EFORMAT,
			    "%s: %s.embedding_length is %d, which %s.attention.head_count (%d) does not divide, and "
			    "%s.attention.key_length is not given.",
			    k->g->path, k->arch, h->n_embd, k->arch, h->n_heads, k->arch);
		h->head_dim = h->n_embd / h->n_heads;
	}
	int32_t value_dim = h->head_dim;
	rc = get_int(k, "attention.value_length", &value_dim);
	if (rc > 0 && value_dim != h->head_dim)
		return hr__fail(
		    k->err, HR_EUNSUPPORTED,
		    "%s: keys have %d elements per head and values %d; different sizes are not supported.",
		    k->g->path, h->head_dim, value_dim);
	return rc < 0 ? rc : 0;
}

static int refuse_experts(struct keys *k)
{
	int32_t n_experts = 0;
	int     rc = get_int(k, "expert_count", &n_experts);
	if (rc > 0 && n_experts > 0)
		return hr__fail(k->err, HR_EUNSUPPORTED,
		                "%s: the model is a mixture of %d experts, which is not supported; dense models are.",
		                k->g->path, n_experts);
	return rc < 0 ? rc : 0;
}

int hr__decoder_from_gguf(struct hr_decoder *d, const struct hr_gguf *g, const char *arch,
                          struct hr_error *err)
{
	struct hr_hparams *h = &d->hparams;
	struct keys        k = {.g = g, .arch = arch, .err = err};
	int                rc = refuse_experts(&k);
	if (!rc)
		rc = need_int(&k, "block_count", &h->n_layers);
	if (!rc)
		rc = need_int(&k, "embedding_length", &h->n_embd);
	if (!rc)
		rc = need_int(&k, "feed_forward_length", &h->n_ff);
	if (!rc)
		rc = need_int(&k, "context_length", &h->n_ctx_train);
	if (!rc)
		rc = read_heads(&k, h);
	if (!rc)
		rc = read_rope(&k, h);
	if (rc)
		return rc;
	rc = get_int(&k, "vocab_size", &h->n_vocab);
	if (rc >= 0)
		rc = get_int(&k, "attention.sliding_window", &h->sliding_window);
	if (rc >= 0)
		rc =
		    get_float(&k, h->layer_norm ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon",
		              &h->norm_eps);
	if (rc == 0)
		return hr__fail(err, HR_EFORMAT, "%s: the key %s is missing; the file is incomplete.", g->path,
		                k.name);
	return rc < 0 ? rc : 0;
}
