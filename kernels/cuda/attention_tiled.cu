/* Attention for sequences with many tokens in the pass (prefill), without a T x T matrix:
 * online softmax over tiles of keys and values (Dao et al. 2022).
 *
 * A block does a KV head and ROWS rows, pairs of a token and one of the query heads that share
 * the KV head, tokens slowest; 8 rows belong to each of its 4 warps. It walks over its tokens'
 * sequences one after the other, and over a sequence's positions TILE at a time, from multiples
 * of TILE: a tile of keys goes to shared memory, lane j of a warp makes the scores of position j
 * with the warp's 8 rows; then the same memory takes the values, and a lane adds up dimensions
 * lane, lane + 32, ... of the 8 rows. Each row's largest score m and sum l are rescaled as m
 * grows. A tile without a position that a row sees leaves the row as it was, so a row's bits
 * depend on its own sequence only.
 *
 * q and out f32, K and V f16 or f32, head_dim <= 256. Keys and values are read from memory once
 * per block, 4 (head_dim + 4) * TILE bytes of shared memory for them, as much for q, 4 KB for
 * the weights. All in f32: 12 reads of shared memory (16 bytes a lane) for 32 FMAs. */
#include "kernels/cuda/attention.h"
#include "kernels/cuda/reduce.h"

enum { WARPS = 4, WARP_ROWS = 8, ROWS = WARPS * WARP_ROWS, TILE = 32, THREADS = WARPS * HR_WARP };

struct tiled_args {
	hr__cuda_attn a;
	int           group, heads; /* query heads of a KV head; of them, how many a block has */
	int           tokens;       /* of a block */
	int           stride;       /* floats between rows in shared memory */
};

static int row_stride(int head_dim) { return (head_dim + 3) / 4 * 4 + 4; }

static size_t shared_bytes(int head_dim)
{
	return sizeof(float) * (size_t)((ROWS + TILE) * row_stride(head_dim) + ROWS * TILE);
}

/* Row r of the block: its token (or -1) and head. */
struct row {
	int token, head;
};

static __device__ __forceinline__ row row_of(const tiled_args &s, int r)
{
	int per_kv = (s.group + s.heads - 1) / s.heads;
	int kv_head = (int)blockIdx.y / per_kv, h = (int)blockIdx.y % per_kv * s.heads + r % s.heads;
	int t = r / s.heads, token = (int)blockIdx.x * s.tokens + t;
	row out = {token, kv_head * s.group + h};
	if (t >= s.tokens || token >= s.a.batch.n_tokens || h >= s.group)
		out.token = -1;
	return out;
}

static __device__ void load_queries(const tiled_args &s, float *to)
{
	int dim = s.a.kv.head_dim;
	for (int i = (int)threadIdx.x; i < ROWS * s.stride; i += THREADS) {
		int  d = i % s.stride;
		row  r = row_of(s, i / s.stride);
		bool there = r.token >= 0 && d < dim;
		to[i] = there ? s.a.q[r.token * s.a.q_stride + (int64_t)r.head * dim + d] * s.a.scale : 0.0f;
	}
}

/* Positions begin .. begin + TILE - 1 of keys or values; zeros outside of [first, last]. */
template <typename KV>
static __device__ void load_tile(const tiled_args &s, const KV *from, int seq, int kv_head, int begin,
                                 int first, int last, float *to)
{
	int dim = s.a.kv.head_dim, quads = (dim + 3) / 4;
	for (int i = (int)threadIdx.x; i < TILE * quads; i += THREADS) {
		int    p = begin + i / quads, d = i % quads * 4;
		float4 v = make_float4(0, 0, 0, 0);
		if (p >= first && p <= last)
			v = hr_kv_load4(from + hr_kv_row(s.a, seq, kv_head, p) * dim, d, dim);
		*(float4 *)(to + i / quads * s.stride + d) = v;
	}
}

/* What a warp knows of its rows. */
template <int DIMS> struct rows_state {
	float acc[WARP_ROWS][DIMS];
	float m[WARP_ROWS], l[WARP_ROWS];
	int   first[WARP_ROWS], last[WARP_ROWS]; /* positions seen in the sequence at hand; none: last < first */
};

/* The lane's position against the warp's rows. */
static __device__ __forceinline__ void score(const float *queries, const float *key, int stride, int dim,
                                             float cap, float (&sums)[WARP_ROWS])
{
#pragma unroll
	for (int r = 0; r < WARP_ROWS; r++)
		sums[r] = 0;
	for (int d = 0; d < dim; d += 4) {
		float4 k = *(const float4 *)(key + d);
#pragma unroll
		for (int r = 0; r < WARP_ROWS; r++)
			sums[r] = hr_dot4(*(const float4 *)(queries + r * stride + d), k, sums[r]);
	}
#pragma unroll
	for (int r = 0; r < WARP_ROWS; r++)
		sums[r] = hr_capped(sums[r], cap);
}

/* Scores become weights in shared memory; what was added up before is rescaled. */
template <int DIMS>
static __device__ __forceinline__ void soften(rows_state<DIMS> &s, const float (&scores)[WARP_ROWS], int p,
                                              float *weights)
{
	int lane = (int)threadIdx.x % HR_WARP;
#pragma unroll
	for (int r = 0; r < WARP_ROWS; r++) {
		float score = p >= s.first[r] && p <= s.last[r] ? scores[r] : -INFINITY;
		float m = fmaxf(s.m[r], hr_warp_max(score)), weight = 0, factor = 1;
		if (m > -INFINITY) {
			weight = expf(score - m);
			factor = expf(s.m[r] - m);
		}
		s.m[r] = m;
		s.l[r] = s.l[r] * factor + hr_warp_sum(weight);
#pragma unroll
		for (int i = 0; i < DIMS; i++)
			s.acc[r][i] *= factor;
		weights[r * TILE + lane] = weight;
	}
}

template <int DIMS>
static __device__ __forceinline__ void add_values(rows_state<DIMS> &s, const float *values, int stride,
                                                  int dim, const float *weights)
{
	int lane = (int)threadIdx.x % HR_WARP;
#pragma unroll 4
	for (int j = 0; j < TILE; j++) {
		float v[DIMS];
#pragma unroll
		for (int i = 0; i < DIMS; i++)
			v[i] = lane + i * HR_WARP < dim ? values[j * stride + lane + i * HR_WARP] : 0.0f;
#pragma unroll
		for (int r = 0; r < WARP_ROWS; r++)
#pragma unroll
			for (int i = 0; i < DIMS; i++)
				s.acc[r][i] = fmaf(weights[r * TILE + j], v[i], s.acc[r][i]);
	}
}

/* head_dim <= 32 * DIMS */
template <typename KV, int DIMS> static __global__ void __launch_bounds__(THREADS) tiled_kernel(tiled_args s)
{
	HR_SHARED_DYNAMIC(float, shared);
	const hr_batch &batch = s.a.batch;
	int    warp = (int)threadIdx.x / HR_WARP, lane = (int)threadIdx.x % HR_WARP, dim = s.a.kv.head_dim;
	int    kv_head = (int)blockIdx.y / ((s.group + s.heads - 1) / s.heads);
	float *queries = shared, *tile = queries + ROWS * s.stride, *weights = tile + TILE * s.stride;
	int    token = (int)blockIdx.x * s.tokens, token_end = token + s.tokens;
	rows_state<DIMS> state;
	load_queries(s, queries);
	queries += warp * WARP_ROWS * s.stride;
	weights += warp * WARP_ROWS * TILE;
	if (token_end > batch.n_tokens)
		token_end = batch.n_tokens;
#pragma unroll
	for (int r = 0; r < WARP_ROWS; r++) {
		state.m[r] = -INFINITY;
		state.l[r] = 0;
#pragma unroll
		for (int i = 0; i < DIMS; i++)
			state.acc[r][i] = 0;
	}

	while (token < token_end) { /* a sequence */
		int seq = batch.seq[token], next = token + 1;
		while (next < token_end && batch.seq[next] == seq)
			next++;
		int first = hr_first_seen(batch.pos[token], s.a.window),
		    last = hr_last_seen(s.a, seq, batch.pos[next - 1]);
#pragma unroll
		for (int r = 0; r < WARP_ROWS; r++) {
			int  t = row_of(s, warp * WARP_ROWS + r).token;
			bool in = t >= token && t < next;
			state.last[r] = in ? hr_last_seen(s.a, seq, batch.pos[t]) : -1;
			state.first[r] = in ? hr_first_seen(batch.pos[t], s.a.window) : 0;
		}
		for (int begin = first / TILE * TILE; begin <= last; begin += TILE) {
			float scores[WARP_ROWS];
			__syncthreads(); /* nobody reads the tile, or the queries are there */
			load_tile(s, (const KV *)s.a.kv.k, seq, kv_head, begin, first, last, tile);
			__syncthreads();
			score(queries, tile + lane * s.stride, s.stride, dim, s.a.soft_cap, scores);
			soften(state, scores, begin + lane, weights);
			__syncthreads();
			load_tile(s, (const KV *)s.a.kv.v, seq, kv_head, begin, first, last, tile);
			__syncthreads();
			add_values(state, tile, s.stride, dim, weights);
		}
		token = next;
	}

#pragma unroll
	for (int r = 0; r < WARP_ROWS; r++) {
		row at = row_of(s, warp * WARP_ROWS + r);
		if (at.token < 0)
			continue;
#pragma unroll
		for (int i = 0; i < DIMS; i++)
			if (lane + i * HR_WARP < dim)
				s.a.out[((int64_t)at.token * s.a.n_heads + at.head) * dim + lane + i * HR_WARP] =
				    state.acc[r][i] / state.l[r];
	}
}

template <typename KV> static void (*kernel_for(int dim))(tiled_args)
{
	return dim <= 32    ? tiled_kernel<KV, 1>
	       : dim <= 64  ? tiled_kernel<KV, 2>
	       : dim <= 128 ? tiled_kernel<KV, 4>
	                    : tiled_kernel<KV, 8>;
}

int hr__cuda_attention_tiled(struct hr_stream *stream, const hr__cuda_attn *a)
{
	tiled_args s = {*a, a->n_heads / a->kv.n_kv_heads, 0, 0, row_stride(a->kv.head_dim)};
	s.heads = s.group < ROWS ? s.group : ROWS;
	s.tokens = ROWS / s.heads;
	auto kernel =
	    a->kv.type == HR_KV_F16 ? kernel_for<__half>(a->kv.head_dim) : kernel_for<float>(a->kv.head_dim);
	size_t bytes = shared_bytes(a->kv.head_dim);
	dim3   grid((unsigned)hr_div_up(a->batch.n_tokens, s.tokens),
	            (unsigned)(a->kv.n_kv_heads * hr_div_up(s.group, s.heads)));
	hr_cuda_stream(stream); /* the attribute is the current device's */
	if (bytes > 48 << 10) {
		cudaError_t error =
		    cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes);
		if (error)
			return hr_cuda_check(stream, error, cudaGetErrorString(error));
	}
	return hr_cuda_launch(stream, "attention_tiled", kernel, grid, dim3(THREADS), bytes, s);
}
