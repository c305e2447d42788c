/* Keys and values of a pass to their pages: element c of token t goes to
 * [page][head c / head_dim][pos % page_tokens][c % head_dim], rounded to f16 where the
 * cache is. A thread does one element of both, a block one token; 8 bytes in and 4 or 8
 * out an element. */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/ops.h"

enum { THREADS = 256 };

struct kv_store_args {
	struct hr_kv_layer kv;
	const float       *k, *v;
	int64_t            k_stride, v_stride;
	struct hr_batch    batch;
};

static __device__ void store(void *to, float x) { *(float *)to = x; }
static __device__ void store_half(void *to, float x) { *(__half *)to = __float2half_rn(x); }

static __global__ void kv_store_kernel(kv_store_args a)
{
	int64_t t = blockIdx.x;
	int     pos = a.batch.pos[t], cols = a.kv.n_kv_heads * a.kv.head_dim;
	int64_t page = a.batch.page_table[(int64_t)a.batch.seq[t] * a.batch.max_pages + pos / a.kv.page_tokens];
	for (int c = (int)threadIdx.x; c < cols; c += THREADS) {
		int64_t row =
		    (page * a.kv.n_kv_heads + c / a.kv.head_dim) * a.kv.page_tokens + pos % a.kv.page_tokens;
		int64_t at = row * a.kv.head_dim + c % a.kv.head_dim;
		float   k = a.k[t * a.k_stride + c], v = a.v[t * a.v_stride + c];
		if (a.kv.type == HR_KV_F16) {
			store_half((__half *)a.kv.k + at, k);
			store_half((__half *)a.kv.v + at, v);
		} else {
			store((float *)a.kv.k + at, k);
			store((float *)a.kv.v + at, v);
		}
	}
}

int hr__cuda_kv_store(struct hr_ops *ops, struct hr_stream *stream, const struct hr_kv_layer *kv,
                      const float *k, int64_t k_stride, const float *v, int64_t v_stride,
                      const struct hr_batch *batch)
{
	(void)ops;
	int64_t cols = (int64_t)kv->n_kv_heads * kv->head_dim;
	if (batch->n_tokens < 0 || kv->n_kv_heads < 1 || kv->head_dim < 1 || kv->page_tokens < 1 ||
	    cols > INT32_MAX || k_stride < cols || v_stride < cols)
		return HR_EINVAL;
	if (!batch->n_tokens)
		return 0;
	kv_store_args a = {*kv, k, v, k_stride, v_stride, *batch};
	return hr_cuda_launch(stream, "kv_store", kv_store_kernel, dim3((unsigned)batch->n_tokens), dim3(THREADS),
	                      0, a);
}
