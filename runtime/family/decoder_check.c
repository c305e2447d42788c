/* What a decoder's hyperparameters must satisfy, whatever format they come from:
 * the rest of the runtime multiplies and divides by them without asking again. */
#include "runtime/family/family.h"

#include "base/error.h"
#include "base/mem.h"

#include <math.h>

/* Far above every model that exists, and small enough that products of two fit int32 or int64 everywhere. */
static int check_sizes(const struct hr_hparams *h, const char *path, struct hr_error *err)
{
	const struct {
		const char *name;
		int32_t     value, max;
	} sizes[] = {
	    {"layers", h->n_layers, HR_MAX_LAYERS},      {"embedding length", h->n_embd, 1 << 18},
	    {"attention heads", h->n_heads, 1 << 14},    {"key/value heads", h->n_kv_heads, 1 << 14},
	    {"elements per head", h->head_dim, 1 << 14}, {"feed-forward length", h->n_ff, 1 << 22},
	    {"context length", h->n_ctx_train, 1 << 30},
	};
	for (size_t i = 0; i < HR_COUNT_OF(sizes); i++)
		if (sizes[i].value < 1 || sizes[i].value > sizes[i].max)
			return hr__fail(err, HR_EFORMAT, "%s: the model's number of %s is %d; 1 to %d are possible.",
			                path, sizes[i].name, sizes[i].value, sizes[i].max);
	if (h->n_vocab > 1 << 24)
		return hr__fail(err, HR_EFORMAT, "%s: a vocabulary of %d tokens is absurdly large (%d at most).",
		                path, h->n_vocab, 1 << 24);
	if ((int64_t)h->n_heads * h->head_dim > 1 << 20)
		return hr__fail(err, HR_EFORMAT, "%s: %d heads of %d elements are absurdly many.", path, h->n_heads,
		                h->head_dim);
	return 0;
}

static int check_rope(const struct hr_hparams *h, const char *path, struct hr_error *err)
{
	if (h->n_rot == 0)
		return 0;
	if (h->n_rot == h->head_dim && h->head_dim % 2)
		return hr__fail(err, HR_EFORMAT,
		                "%s: heads of %d elements cannot be rotated; the number must be even.", path,
		                h->head_dim);
	if (h->n_rot < 0 || h->n_rot % 2 || h->n_rot > h->head_dim)
		return hr__fail(
		    err, HR_EFORMAT,
		    "%s: %d rotated elements of a head of %d make no sense; an even number up to that is needed.",
		    path, h->n_rot, h->head_dim);
	if (!(h->rope_theta > 0))
		return hr__fail(err, HR_EFORMAT, "%s: the RoPE base is %g, but must be positive.", path,
		                h->rope_theta);
	bool has_factor = h->rope_scaling != HR_ROPE_SCALING_NONE && h->rope_scaling != HR_ROPE_SCALING_LONGROPE;
	if (has_factor && !(h->rope_factor > 0))
		return hr__fail(err, HR_EFORMAT, "%s: the RoPE scaling factor is %g, but must be positive.", path,
		                h->rope_factor);
	if (h->rope_scaling == HR_ROPE_SCALING_LLAMA3 &&
	    !(h->rope_low_freq_factor > 0 && h->rope_high_freq_factor > h->rope_low_freq_factor &&
	      h->rope_original_context > 0))
		return hr__fail(
		    err, HR_EFORMAT,
		    "%s: the llama3 RoPE scaling has the factors low %g and high %g for a context of %d; 0 < low < "
		    "high and a positive context are needed.",
		    path, h->rope_low_freq_factor, h->rope_high_freq_factor, h->rope_original_context);
	if (h->rope_scaling == HR_ROPE_SCALING_YARN && !(h->rope_beta_fast > 0 && h->rope_beta_slow > 0 &&
	                                                 h->rope_theta > 1 && h->rope_original_context > 0))
		return hr__fail(
		    err, HR_EFORMAT,
		    "%s: the yarn RoPE scaling has the betas %g and %g for a base of %g and a context of %d; a base "
		    "above 1 and positive numbers are needed.",
		    path, h->rope_beta_fast, h->rope_beta_slow, h->rope_theta, h->rope_original_context);
	if (!(h->rope_magnitude >= 0 && h->rope_magnitude < 1e6f))
		return hr__fail(err, HR_EFORMAT,
		                "%s: RoPE multiplies by %g (the attention factor), which makes no sense.", path,
		                h->rope_magnitude);
	return 0;
}

int hr__rope_check_factors(const float *factors, int n, const char *path, const char *what,
                           struct hr_error *err)
{
	for (int i = 0; i < n; i++)
		if (!(factors[i] > 0 && factors[i] < INFINITY))
			return hr__fail(err, HR_EFORMAT, "%s: factor %d of \"%s\" is %g; positive numbers are needed.",
			                path, i, what, factors[i]);
	return 0;
}

int hr__decoder_check(const struct hr_decoder *d, const char *path, struct hr_error *err)
{
	const struct hr_hparams *h = &d->hparams;
	int                      rc = check_sizes(h, path, err);
	if (rc)
		return rc;
	if (h->n_heads % h->n_kv_heads)
		return hr__fail(err, HR_EFORMAT, "%s: %d attention heads cannot share %d key/value heads evenly.",
		                path, h->n_heads, h->n_kv_heads);
	if (!(h->norm_eps >= 0 && h->norm_eps < 1))
		return hr__fail(err, HR_EFORMAT, "%s: a norm's epsilon of %g makes no sense.", path, h->norm_eps);
	return check_rope(h, path, err);
}
