/* Rotary embedding, in place: for i < n_freqs, the pair (a, b) of each head of
 * x[t][n_heads][head_dim] is turned by the angle pos[t] * inv_freq[i] and multiplied by
 * the magnitude; see ops.h for which elements make a pair. A thread does one pair of one head; the product
 * that is the angle is rounded to f32, as everywhere. Moves 8 bytes an element. */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/ops.h"

enum { THREADS = 128 };

struct rope_args {
	float         *x;
	int64_t        x_stride;
	int            n_heads, head_dim, n_freqs;
	bool           neighbours;
	const float   *inv_freq;
	float          magnitude;
	const int32_t *pos;
};

static __global__ void rope_kernel(rope_args a)
{
	int item = (int)(blockIdx.x * THREADS + threadIdx.x), t = (int)blockIdx.y;
	if (item >= a.n_heads * a.n_freqs)
		return;
	int    head = item / a.n_freqs, i = item % a.n_freqs;
	float *x = a.x + t * a.x_stride + (int64_t)head * a.head_dim;
	float *first = x + (a.neighbours ? 2 * i : i), *second = a.neighbours ? first + 1 : first + a.n_freqs;
	float  s, c, u = *first, v = *second;
	sincosf((float)a.pos[t] * a.inv_freq[i], &s, &c);
	s *= a.magnitude;
	c *= a.magnitude;
	*first = u * c - v * s;
	*second = v * c + u * s;
}

int hr__cuda_rope(struct hr_ops *ops, struct hr_stream *stream, float *x, int64_t x_stride, int32_t n_heads,
                  int32_t head_dim, enum hr_rope_style style, const float *inv_freq, int32_t n_freqs,
                  float magnitude, const struct hr_batch *batch)
{
	(void)ops;
	if (batch->n_tokens < 0 || n_heads < 1 || n_freqs < 0 || head_dim < 1 || head_dim > 1 << 16 ||
	    n_freqs > head_dim / 2 || x_stride < (int64_t)n_heads * head_dim ||
	    (int64_t)n_heads * n_freqs > INT32_MAX)
		return HR_EINVAL;
	rope_args a = {x,        x_stride,  n_heads,   head_dim, n_freqs, style == HR_ROPE_NORM,
	               inv_freq, magnitude, batch->pos};
	unsigned  blocks = (unsigned)hr_div_up((int64_t)n_heads * n_freqs, THREADS);
	int       rc = 0;
	for (int32_t done = 0, n; blocks && !rc && done < batch->n_tokens; done += n) {
		n = batch->n_tokens - done < 65535 ? batch->n_tokens - done : 65535;
		a.x = x + done * x_stride;
		a.pos = batch->pos + done;
		rc = hr_cuda_launch(stream, "rope", rope_kernel, dim3(blocks, (unsigned)n), dim3(THREADS), 0, a);
	}
	return rc;
}
