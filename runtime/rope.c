/* The inverse frequencies of RoPE, theta^(-2i / n_rot), scaled as the model says. */
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

void hr__rope_freqs(const struct hr_hparams *h, const float *factors, bool sliding, float *freqs)
{
	bool own = sliding && h->rope_theta_sliding > 0; /* a base of their own, without scaling */
	for (int i = 0; i < h->n_rot / 2; i++) {
		double theta = own ? h->rope_theta_sliding : h->rope_theta;
		double freq = pow(theta, -2.0 * i / h->n_rot);
		if (factors && !own)
			freq /= factors[i];
		else if (h->rope_scaling == HR_ROPE_SCALING_LLAMA3 && !own)
			freq = llama3_scaled(h, freq);
		else if (h->rope_scaling == HR_ROPE_SCALING_LINEAR && !own)
			freq /= h->rope_factor;
		freqs[i] = (float)freq;
	}
}
