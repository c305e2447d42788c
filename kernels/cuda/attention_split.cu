/* Attention for sequences with few tokens in the pass (decode): the context is divided.
 *
 * A block does one token, one KV head with up to HEADS of its query heads, and one chunk of
 * CHUNK positions, [c * CHUNK, (c + 1) * CHUNK) counted from the sequence's beginning, so that
 * what it adds up does not depend on the batch. In three steps:
 *   scores   a thread has a position: its key against all heads' queries (in shared memory)
 *   softmax  a warp has a head: the chunk's largest score m, weights e^(s - m), their sum l
 *   values   a thread has two dimensions and every n-th position, for all heads; the n parts
 *            are then added up in order (n = 128 threads / pairs of dimensions)
 * and writes acc[head_dim], m, l to the workspace, which a second kernel merges in order of
 * chunks; with a single chunk in the whole pass, it writes the result, which has the same bits.
 *
 * q and out f32, K and V f16 or f32 [page][head][slot][head_dim <= 256]; out overlaps nothing.
 * Keys and values are read once for HEADS query heads; that is all the traffic that counts.
 * Workspace: [n_tokens][n_heads][n_chunks][head_dim + 2] f32; a pass for which it is too small
 * is done some tokens at a time. */
#include "kernels/cuda/attention.h"
#include "kernels/cuda/reduce.h"

enum { THREADS = 128, CHUNK = 256, MAX_CHUNKS = 512, MAX_DIM = 256 };

struct split_args {
	hr__cuda_attn a;
	float        *partials;
	int           n_chunks, first_token;
};

/* Queries of up to HEADS heads, times scale, zeros for heads that are not there. */
template <int HEADS>
static __device__ __forceinline__ void load_queries(const hr__cuda_attn &a, int64_t t, int head, int n_heads,
                                                    float *to)
{
	int dim = a.kv.head_dim;
	for (int i = (int)threadIdx.x; i < HEADS * MAX_DIM; i += THREADS) {
		int h = i / MAX_DIM, d = i % MAX_DIM;
		to[i] = h < n_heads && d < dim ? a.q[t * a.q_stride + (int64_t)(head + h) * dim + d] * a.scale : 0.0f;
	}
}

template <typename KV, int HEADS>
static __device__ __forceinline__ void score(const KV *key, int dim, const float *queries, float cap,
                                             float *scores)
{
	float sums[HEADS];
#pragma unroll
	for (int h = 0; h < HEADS; h++)
		sums[h] = 0;
#pragma unroll 4
	for (int d = 0; d < dim; d += 4) {
		float4 k = hr_kv_load4(key, d, dim);
#pragma unroll
		for (int h = 0; h < HEADS; h++)
			sums[h] = hr_dot4(*(const float4 *)(queries + h * MAX_DIM + d), k, sums[h]);
	}
#pragma unroll
	for (int h = 0; h < HEADS; h++)
		scores[h * CHUNK] = hr_capped(sums[h], cap);
}

/* One head's scores become weights; its largest score and sum of weights, for all lanes. */
static __device__ __forceinline__ void soften(float *scores, int n, float *largest, float *total)
{
	int   lane = (int)threadIdx.x % HR_WARP;
	float m = -INFINITY, l = 0;
	for (int i = lane; i < n; i += HR_WARP)
		m = fmaxf(m, scores[i]);
	m = hr_warp_max(m);
	for (int i = lane; i < n; i += HR_WARP) {
		scores[i] = expf(scores[i] - m);
		l += scores[i];
	}
	*largest = m;
	*total = hr_warp_sum(l);
}

template <typename KV, int HEADS> static __global__ void __launch_bounds__(THREADS) split_kernel(split_args s)
{
	const hr__cuda_attn &a = s.a;
	HR_SHARED(float, queries, HEADS *MAX_DIM); /* then the parts of the values */
	HR_SHARED(float, scores, HEADS *CHUNK);
	HR_SHARED(int64_t, rows, CHUNK);
	HR_SHARED(float, ml, HEADS * 2);
	int     tid = (int)threadIdx.x, dim = a.kv.head_dim, group = a.n_heads / a.kv.n_kv_heads;
	int     per_kv = (group + HEADS - 1) / HEADS, chunk = (int)blockIdx.x;
	int     kv_head = (int)blockIdx.y / per_kv, part = (int)blockIdx.y % per_kv;
	int     head = kv_head * group + part * HEADS;
	int     n_heads = group - part * HEADS < HEADS ? group - part * HEADS : HEADS;
	int64_t t = s.first_token + (int64_t)blockIdx.z;
	int     pos = a.batch.pos[t], seq = a.batch.seq[t], seen = hr_first_seen(pos, a.window);
	int     begin = seen > chunk * CHUNK ? seen : chunk * CHUNK;
	int     end = hr_last_seen(a, seq, pos) + 1;
	end = end < (chunk + 1) * CHUNK ? end : (chunk + 1) * CHUNK;
	int n = end - begin;
	if (n <= 0)
		return;
	load_queries<HEADS>(a, t, head, n_heads, queries);
	for (int i = tid; i < n; i += THREADS)
		rows[i] = hr_kv_row(a, seq, kv_head, begin + i) * dim;
	__syncthreads();

	for (int i = tid; i < n; i += THREADS)
		score<KV, HEADS>((const KV *)a.kv.k + rows[i], dim, queries, a.soft_cap, scores + i);
	__syncthreads();

	for (int h = tid / HR_WARP; h < HEADS; h += THREADS / HR_WARP) {
		float m, l;
		soften(scores + h * CHUNK, n, &m, &l);
		if (tid % HR_WARP == 0) {
			ml[2 * h] = m;
			ml[2 * h + 1] = l;
		}
	}
	__syncthreads();

	int    pairs = (dim + 1) / 2, n_parts = THREADS / pairs, mine = tid / pairs, d = tid % pairs * 2;
	float  acc[HEADS][2] = {};
	float *parts = queries; /* [d][part][head]: 2 * pairs * n_parts <= MAX_DIM */
	if (mine < n_parts) {
#pragma unroll 4
		for (int i = mine; i < n; i += n_parts) {
			const KV *value = (const KV *)a.kv.v + rows[i] + d;
			float     v0 = hr_kv_load(value), v1 = d + 1 < dim ? hr_kv_load(value + 1) : 0.0f;
#pragma unroll
			for (int h = 0; h < HEADS; h++) {
				acc[h][0] = fmaf(scores[h * CHUNK + i], v0, acc[h][0]);
				acc[h][1] = fmaf(scores[h * CHUNK + i], v1, acc[h][1]);
			}
		}
#pragma unroll
		for (int h = 0; h < HEADS; h++)
#pragma unroll
			for (int k = 0; k < 2; k++)
				parts[((d + k) * n_parts + mine) * HEADS + h] = acc[h][k];
	}
	__syncthreads();

	for (int i = tid; i < n_heads * dim; i += THREADS) {
		int   h = i / dim, e = i % dim;
		float sum = 0;
		for (int k = 0; k < n_parts; k++)
			sum += parts[(e * n_parts + k) * HEADS + h];
		if (s.n_chunks == 1)
			a.out[(t * a.n_heads + head + h) * dim + e] = sum / ml[2 * h + 1];
		else
			s.partials[(((int64_t)blockIdx.z * a.n_heads + head + h) * s.n_chunks + chunk) * (dim + 2) + e] =
			    sum;
	}
	if (s.n_chunks > 1 && tid < 2 * n_heads)
		s.partials[(((int64_t)blockIdx.z * a.n_heads + head + tid / 2) * s.n_chunks + chunk) * (dim + 2) +
		           dim + tid % 2] = ml[tid];
}

/* A block merges the chunks of a token's head, a thread has every 128th dimension. */
static __global__ void __launch_bounds__(THREADS) merge_kernel(split_args s)
{
	const hr__cuda_attn &a = s.a;
	int64_t              t = s.first_token + (int64_t)blockIdx.y;
	int                  dim = a.kv.head_dim, head = (int)blockIdx.x, pos = a.batch.pos[t];
	int                  first = hr_first_seen(pos, a.window) / CHUNK;
	int                  last = hr_last_seen(a, a.batch.seq[t], pos) / CHUNK;
	const float *from = s.partials + ((int64_t)blockIdx.y * a.n_heads + head) * s.n_chunks * (dim + 2);
	float        m = -INFINITY, l = 0;
	for (int c = first; c <= last; c++)
		m = fmaxf(m, from[c * (dim + 2) + dim]);
	for (int c = first; c <= last; c++)
		l = fmaf(expf(from[c * (dim + 2) + dim] - m), from[c * (dim + 2) + dim + 1], l);
	for (int d = (int)threadIdx.x; d < dim; d += THREADS) {
		float sum = 0;
		for (int c = first; c <= last; c++)
			sum = fmaf(expf(from[c * (dim + 2) + dim] - m), from[c * (dim + 2) + d], sum);
		a.out[(t * a.n_heads + head) * dim + d] = sum / l;
	}
}

/* ---- The host's side ---- */

static int64_t n_chunks(const hr__cuda_attn *a)
{
	int64_t context =
	    a->batch.max_context ? a->batch.max_context : (int64_t)a->batch.max_pages * a->kv.page_tokens;
	return context <= CHUNK ? 1 : hr_div_up(context, CHUNK);
}

static size_t token_bytes(const hr__cuda_attn *a)
{
	return (size_t)(a->n_heads * n_chunks(a)) * (size_t)(a->kv.head_dim + 2) * sizeof(float);
}

/* Enough for one token of MAX_CHUNKS chunks, when n_heads * head_dim <= max_cols, and no head is tiny. */
size_t hr__cuda_attention_scratch_bytes(int32_t max_cols)
{
	return (size_t)MAX_CHUNKS * sizeof(float) * ((size_t)max_cols + (size_t)max_cols / 16);
}

bool hr__cuda_attention_split_fits(const struct hr_ops *ops, const hr__cuda_attn *a)
{
	return n_chunks(a) == 1 || (ops->workspace && token_bytes(a) <= hr__cuda_scratch_bytes(ops));
}

template <typename KV>
static int launch(struct hr_stream *stream, const split_args &s, int n_tokens, int64_t n_group)
{
	int  heads = n_group > 4 ? 8 : n_group > 1 ? 4 : 1;
	auto kernel = heads == 8 ? split_kernel<KV, 8> : heads == 4 ? split_kernel<KV, 4> : split_kernel<KV, 1>;
	dim3 grid((unsigned)s.n_chunks, (unsigned)(s.a.kv.n_kv_heads * hr_div_up(n_group, heads)),
	          (unsigned)n_tokens);
	int  rc = hr_cuda_launch(stream, "attention_split", kernel, grid, dim3(THREADS), 0, s);
	if (rc || s.n_chunks == 1)
		return rc;
	return hr_cuda_launch(stream, "attention_merge", merge_kernel,
	                      dim3((unsigned)s.a.n_heads, (unsigned)n_tokens), dim3(THREADS), 0, s);
}

int hr__cuda_attention_split(struct hr_ops *ops, struct hr_stream *stream, const hr__cuda_attn *a)
{
	split_args s = {*a, (float *)ops->workspace, (int)n_chunks(a), 0};
	int64_t    at_once = s.n_chunks == 1 ? 65535 : (int64_t)(hr__cuda_scratch_bytes(ops) / token_bytes(a));
	int        rc = 0, n;
	at_once = at_once < 65535 ? at_once : 65535;
	for (; !rc && s.first_token < a->batch.n_tokens; s.first_token += n) {
		int left = a->batch.n_tokens - s.first_token;
		n = left < at_once ? left : (int)at_once;
		rc = a->kv.type == HR_KV_F16 ? launch<__half>(stream, s, n, a->n_heads / a->kv.n_kv_heads)
		                             : launch<float>(stream, s, n, a->n_heads / a->kv.n_kv_heads);
	}
	return rc;
}
