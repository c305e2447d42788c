/* rms_norm:    y[t][i] = x[t][i] / sqrt(mean(x[t]^2) + eps) * (shift + w[i])
 * layer_norm:  y[t][i] = (x[t][i] - mean(x[t])) / sqrt(var(x[t]) + eps) * w[i] + bias[i]
 *
 * x, y [n][cols] f32, y may be x; w, bias [cols] f32, f16 or bf16 at any address. A block
 * does a row, a thread every blockDim-th element: read, add up, read again (from L1) and
 * write; the number of threads follows from cols alone, and so does the order of the sum.
 * Moves 8 bytes an element and row: a matter of latency when n is small. */
#include "kernels/cuda/decode.h"
#include "kernels/cuda/reduce.h"

struct norm_args {
	float       *y;
	const float *x;
	const void  *w, *bias;
	int          w_type, bias_type, cols;
	float        shift, eps;
};

static __global__ void rms_norm_kernel(norm_args a)
{
	const float *x = a.x + (int64_t)blockIdx.x * a.cols;
	float       *y = a.y + (int64_t)blockIdx.x * a.cols, sum = 0;
	for (int i = (int)threadIdx.x; i < a.cols; i += (int)blockDim.x)
		sum = fmaf(x[i], x[i], sum);
	float norm = 1.0f / sqrtf(hr_block_sum(sum) / (float)a.cols + a.eps);
	for (int i = (int)threadIdx.x; i < a.cols; i += (int)blockDim.x)
		y[i] = x[i] * norm * (a.shift + hr_load_float(a.w, a.w_type, i));
}

static __global__ void layer_norm_kernel(norm_args a)
{
	const float *x = a.x + (int64_t)blockIdx.x * a.cols;
	float       *y = a.y + (int64_t)blockIdx.x * a.cols, sum = 0, squares = 0;
	for (int i = (int)threadIdx.x; i < a.cols; i += (int)blockDim.x)
		sum += x[i];
	float mean = hr_block_sum(sum) / (float)a.cols;
	__syncthreads();
	for (int i = (int)threadIdx.x; i < a.cols; i += (int)blockDim.x)
		squares = fmaf(x[i] - mean, x[i] - mean, squares);
	float norm = 1.0f / sqrtf(hr_block_sum(squares) / (float)a.cols + a.eps);
	for (int i = (int)threadIdx.x; i < a.cols; i += (int)blockDim.x) {
		float scaled = (x[i] - mean) * norm * hr_load_float(a.w, a.w_type, i);
		y[i] = a.bias ? scaled + hr_load_float(a.bias, a.bias_type, i) : scaled;
	}
}

static int launch(struct hr_stream *stream, const char *name, void (*kernel)(norm_args), const norm_args *a,
                  int32_t n)
{
	if (n < 0 || a->cols < 1)
		return HR_EINVAL;
	if (!hr_type_is_plain((enum hr_type)a->w_type) ||
	    (a->bias && !hr_type_is_plain((enum hr_type)a->bias_type)))
		return HR_EUNSUPPORTED;
	if (!n)
		return 0;
	int64_t threads = hr_div_up(hr_div_up(a->cols, 4), HR_WARP) * HR_WARP;
	threads = threads > 1024 ? 1024 : threads;
	return hr_cuda_launch(stream, name, kernel, dim3((unsigned)n), dim3((unsigned)threads), 0, *a);
}

int hr__cuda_rms_norm(struct hr_ops *ops, struct hr_stream *stream, float *y, const float *x,
                      const struct hr_weight *w, float shift, float eps, int32_t n)
{
	norm_args a = {y, x, w->data, NULL, w->type, w->type, w->cols, shift, eps};
	(void)ops;
	return launch(stream, "rms_norm", rms_norm_kernel, &a, n);
}

int hr__cuda_layer_norm(struct hr_ops *ops, struct hr_stream *stream, float *y, const float *x,
                        const struct hr_weight *w, const struct hr_weight *bias, float eps, int32_t n)
{
	norm_args a = {y, x, w->data, bias->data, w->type, bias->type, w->cols, 0, eps};
	(void)ops;
	return launch(stream, "layer_norm", layer_norm_kernel, &a, n);
}
