/* What goes element by element:
 *   activate     y[i] = act(x[i]) * up[i], or act(x[i]); y may be x
 *   soft_cap     x[i] = cap * tanh(x[i] / cap)
 *   add          y[i] += x[i]
 *   gather_rows  y[i][:] = x[rows[i]][:]
 * f32, a thread per element; 12 bytes an element are moved, 8 for gather_rows. */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/ops.h"

enum { THREADS = 256 };

static __device__ int64_t element(void) { return (int64_t)blockIdx.x * THREADS + threadIdx.x; }

template <int ACT> static __device__ float act(float x)
{
	switch (ACT) {
	case HR_ACT_SILU:
		return x / (1.0f + expf(-x));
	case HR_ACT_GELU:
		return 0.5f * x * erfcf(-0.70710678118654752f * x);
	case HR_ACT_GELU_TANH: /* (1 + tanh u) / 2 = 1 / (1 + e^-2u) */
		return x / (1.0f + expf(-1.5957691216057308f * (x + 0.044715f * x * x * x)));
	case HR_ACT_RELU:
		return fmaxf(x, 0.0f);
	default:
		return tanhf(x);
	}
}

template <int ACT>
static __global__ void activate_kernel(float *y, const float *x, const float *up, int64_t n)
{
	int64_t i = element();
	if (i < n)
		y[i] = up ? act<ACT>(x[i]) * up[i] : act<ACT>(x[i]);
}

static __global__ void soft_cap_kernel(float *x, float cap, int64_t n)
{
	int64_t i = element();
	if (i < n)
		x[i] = cap * tanhf(x[i] / cap);
}

static __global__ void add_kernel(float *y, const float *x, int64_t n)
{
	int64_t i = element();
	if (i < n)
		y[i] += x[i];
}

static __global__ void gather_kernel(float *y, const float *x, const int32_t *rows, int32_t cols, int64_t n)
{
	int64_t i = element();
	if (i < n)
		y[i] = x[rows[i / cols] * (int64_t)cols + i % cols];
}

static dim3 blocks_for(int64_t n) { return dim3((unsigned)hr_div_up(n, THREADS)); }
static bool is_size(int64_t n) { return n >= 0 && n <= (int64_t)INT32_MAX * THREADS; }

int hr__cuda_activate(struct hr_ops *ops, struct hr_stream *stream, enum hr_activation act, float *y,
                      const float *x, const float *up, int64_t n)
{
	static void (*const kernels[HR_ACT_COUNT])(float *, const float *, const float *, int64_t) = {
	    activate_kernel<HR_ACT_SILU>, activate_kernel<HR_ACT_GELU>, activate_kernel<HR_ACT_GELU_TANH>,
	    activate_kernel<HR_ACT_RELU>, activate_kernel<HR_ACT_TANH>,
	};
	(void)ops;
	if (!is_size(n) || (unsigned)act >= HR_ACT_COUNT)
		return HR_EINVAL;
	if (!n)
		return 0;
	return hr_cuda_launch(stream, "activate", kernels[act], blocks_for(n), dim3(THREADS), 0, y, x, up, n);
}

int hr__cuda_soft_cap(struct hr_ops *ops, struct hr_stream *stream, float *x, float cap, int64_t n)
{
	(void)ops;
	if (!is_size(n) || !(cap > 0))
		return HR_EINVAL;
	if (!n)
		return 0;
	return hr_cuda_launch(stream, "soft_cap", soft_cap_kernel, blocks_for(n), dim3(THREADS), 0, x, cap, n);
}

int hr__cuda_add(struct hr_ops *ops, struct hr_stream *stream, float *y, const float *x, int64_t n)
{
	(void)ops;
	if (!is_size(n) || !n)
		return n ? HR_EINVAL : 0;
	return hr_cuda_launch(stream, "add", add_kernel, blocks_for(n), dim3(THREADS), 0, y, x, n);
}

int hr__cuda_gather_rows(struct hr_ops *ops, struct hr_stream *stream, float *y, const float *x,
                         const int32_t *rows, int32_t n, int32_t cols)
{
	(void)ops;
	int64_t all = (int64_t)n * cols;
	if (n < 0 || cols < 1 || !is_size(all))
		return HR_EINVAL;
	if (!n)
		return 0;
	return hr_cuda_launch(stream, "gather_rows", gather_kernel, blocks_for(all), dim3(THREADS), 0, y, x, rows,
	                      cols, all);
}
