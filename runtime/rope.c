/* The inverse frequencies of RoPE, theta^(-2i / n_rot), scaled as the model says.
 *
 * longrope has two lists of factors. Which one holds is chosen once, by the context that a session is opened
 * with, as llama.cpp does: chosen by the length of a sequence, as in Transformers, keys in the cache would
 * have to be turned again as soon as a sequence became longer than the original context. */
#include "runtime/forward_memory.h"

#include <math.h>

/* Llama 3.1's scaling of one inverse frequency; as in Transformers'
 * _compute_llama3_parameters. */
static double llama3_scaled(const struct hr_hparams *h, double freq)
{
	double wavelength = 2 * M_PI / freq;
	double low = h->rope_original_context / (double)h->rope_low_freq_factor;
	double high = h->rope_original_context / (double)h->rope_high_freq_factor;
	if (wavelength < high)
		return freq;
	if (wavelength > low)
		return freq / h->rope_factor;
	double smooth = (h->rope_original_context / wavelength - h->rope_low_freq_factor) /
	                ((double)h->rope_high_freq_factor - h->rope_low_freq_factor);
	return (1 - smooth) * freq / h->rope_factor + smooth * freq;
}

/* The pair of which `turns` turns fit the original context; as in Transformers' find_correction_dim. */
static double yarn_place(const struct hr_hparams *h, double turns)
{
	return h->n_rot * log(h->rope_original_context / (turns * 2 * M_PI)) / (2 * log((double)h->rope_theta));
}

/* YaRN: fast pairs stay, slow ones are divided by the factor, in between lies a ramp. */
static double yarn_scaled(const struct hr_hparams *h, double freq, int i)
{
	double first = fmax(floor(yarn_place(h, h->rope_beta_fast)), 0);
	double last = fmin(ceil(yarn_place(h, h->rope_beta_slow)), h->n_rot - 1);
	double ramp = fmin(fmax((i - first) / (last == first ? 0.001 : last - first), 0), 1);
	return ramp * freq / (double)h->rope_factor + (1 - ramp) * freq;
}

/* Layers that slide may have a base of their own, without scaling. */
static bool is_own(const struct hr_hparams *h, bool sliding) { return sliding && h->rope_theta_sliding > 0; }

float hr__rope_magnitude(const struct hr_hparams *h, bool sliding)
{
	return is_own(h, sliding) ? 1 : h->rope_magnitude;
}

void hr__rope_freqs(const struct hr_hparams *h, const float *factors, int n_ctx, bool sliding, float *freqs)
{
	bool own = is_own(h, sliding);
	if (!factors && h->rope_scaling == HR_ROPE_SCALING_LONGROPE)
		factors = n_ctx > h->rope_original_context ? h->rope_long : h->rope_short;
	for (int i = 0; i < h->n_rot / 2; i++) {
		double theta = own ? h->rope_theta_sliding : h->rope_theta;
		double freq = pow(theta, -2.0 * i / h->n_rot);
		if (factors && !own)
			freq /= factors[i];
		else if (h->rope_scaling == HR_ROPE_SCALING_LLAMA3 && !own)
			freq = llama3_scaled(h, freq);
		else if (h->rope_scaling == HR_ROPE_SCALING_YARN && !own)
			freq = yarn_scaled(h, freq, i);
		else if (h->rope_scaling == HR_ROPE_SCALING_LINEAR && !own)
			freq /= h->rope_factor;
		freqs[i] = (float)freq;
	}
}
