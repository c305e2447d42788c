/* Matrix products on the CPU: checks a call, quantises the activations when a
 * weight type wants that (or splits them, where many tokens go another way than
 * single ones), and divides the rows among the compute threads.
 *
 * An item of work is HR__MATMUL_ROWS rows of one product, with all tokens; the
 * items of all products of a call form one sequence and one launch. Threads take
 * `grain` neighbouring items at a time, so each reads a long run of weights, and
 * weights are read from memory once however many tokens there are (as long as
 * the rows at hand stay in the cache; once for each slab of tokens that are split). Kernels are looked up by
 * instruction set and weight type; nothing about bits depends on the division.
 *
 * Workspace: one struct hr__matmul_xq for 32 activations of a token; or the parts of
 * those of as many tokens as are split at a time. */
#include "kernels/cpu/matmul.h"
#include "kernels/cpu/cpu.h"

#include <string.h>

static const struct hr__matmul_kernels *kernels_of(const struct hr_ops *ops)
{
	switch (hr__cpu_const(ops)->isa) {
#ifdef HR_CPU_X86
	case HR_CPU_AMX:
		return &hr__matmul_amx;
	case HR_CPU_AVX512:
		return &hr__matmul_avx512;
	case HR_CPU_AVX2:
		return &hr__matmul_avx2;
#endif
	default:
		return &hr__matmul_portable;
	}
}

/* Tiles take 32 columns at a time, of one scale. */
static bool has_many(const struct hr__matmul_kernels *k, const struct hr_weight *w)
{
	int32_t run = hr__run_of(w);
	return k->rows_many && hr_type_is_float(w->type) && (run == w->cols || run % HR__MATMUL_BLOCK == 0);
}

static int32_t tile_of(const struct hr__matmul_kernels *kernels, int32_t n_tokens)
{
	int32_t tile = 1;
	while (tile < n_tokens)
		tile *= 2;
	return tile <= HR__MATMUL_FEW ? tile : kernels->tile;
}

static int32_t div_up(int32_t a, int32_t b) { return (int32_t)(((int64_t)a + b - 1) / b); }

size_t hr__cpu_matmul_workspace_bytes(const struct hr_ops *ops, int32_t max_tokens, int32_t max_cols)
{
	size_t tokens = (size_t)div_up(max_tokens, HR__MATMUL_TILE) * HR__MATMUL_TILE;
	size_t slab = tokens < HR__MATMUL_SLAB ? tokens : HR__MATMUL_SLAB;
	size_t quantised = tokens * sizeof(struct hr__matmul_xq), parts = slab * HR__MATMUL_SPLIT_BYTES;
	bool   splits = kernels_of(ops)->split != NULL;
	return (size_t)div_up(max_cols, HR__MATMUL_BLOCK) * (splits && parts > quantised ? parts : quantised);
}

void hr__matmul_load_bias(const struct hr_matmul *product, int32_t begin, int32_t n, float *bias)
{
	const struct hr_weight *b = &product->bias;
	memset(bias, 0, (size_t)n * sizeof *bias);
	if (b->data)
		hr_type_info(b->type)->to_f32((const char *)b->data +
		                                  hr_type_row_bytes(hr_type_info(b->type), (uint64_t)begin),
		                              bias, (size_t)n);
}

static bool is_valid(const struct hr_matmul *p, int32_t cols)
{
	if (!hr_weight_is_valid(&p->w) || p->w.cols != cols || p->y_stride < p->w.rows)
		return false;
	return !p->bias.data || (hr_type_is_plain(p->bias.type) && p->bias.cols == p->w.rows);
}

/* One item: all blocks of one tile of tokens. */
static void quantize(const void *args, int64_t begin, int64_t end)
{
	const struct hr__matmul_job *job = args;
	int32_t                      n_blocks = job->cols / HR__MATMUL_BLOCK;
	for (int64_t item = begin; item < end; item++)
		for (int32_t i = 0; i < job->tile; i++) {
			int64_t               t = item * job->tile + i;
			struct hr__matmul_xq *xq =
			    (struct hr__matmul_xq *)job->workspace + item * job->tile * n_blocks + i;
			for (int32_t b = 0; b < n_blocks; b++, xq += job->tile)
				if (t < job->n_tokens)
					job->kernels->quantize(job->x + t * job->cols + b * HR__MATMUL_BLOCK, xq);
				else
					memset(xq, 0, sizeof *xq);
		}
}

/* Items of all products, one after the other. */
static void multiply(const struct hr__matmul_job *job, int64_t begin, int64_t end, bool many)
{
	int64_t first = 0;
	for (int i = 0; i < job->n_products; i++) {
		const struct hr_matmul *p = &job->products[i];
		int64_t                 last = first + div_up(p->w.rows, HR__MATMUL_ROWS);
		int64_t                 from = begin > first ? begin : first, to = end < last ? end : last;
		hr__matmul_fn          *rows = many ? job->kernels->rows_many : job->kernels->rows[p->w.type];
		if (from < to) {
			int64_t row_end = (to - first) * HR__MATMUL_ROWS;
			rows(job, p, (int32_t)((from - first) * HR__MATMUL_ROWS),
			     (int32_t)(row_end < p->w.rows ? row_end : p->w.rows));
		}
		first = last;
	}
}

static void multiply_rows(const void *args, int64_t begin, int64_t end) { multiply(args, begin, end, false); }
static void multiply_many(const void *args, int64_t begin, int64_t end) { multiply(args, begin, end, true); }

static int64_t count_items(const struct hr__matmul_job *job)
{
	int64_t n = 0;
	for (int i = 0; i < job->n_products; i++)
		n += div_up(job->products[i].w.rows, HR__MATMUL_ROWS);
	return n;
}

/* Long runs of rows for each thread, in whole groups of 64 where they are long, but
 * about eight turns for everyone. */
static int64_t grain_of(int64_t n_items, int n_threads)
{
	int64_t grain = n_items / ((int64_t)n_threads * 8);
	return grain < 1 ? 1 : grain > 16 ? 16 : grain > 4 ? grain / 4 * 4 : grain;
}

static int64_t grain_of_many(int64_t n_items, int n_threads)
{
	int64_t grain = n_items / ((int64_t)n_threads * 2), most = HR__MATMUL_MANY / HR__MATMUL_ROWS;
	return grain < 1 ? 1 : grain > most ? most : grain;
}

static bool quantises(const struct hr__matmul_job *job)
{
	for (int i = 0; i < job->n_products; i++)
		if (!hr_type_is_float(job->products[i].w.type))
			return true;
	return false;
}

/* All tokens of the job, as single ones. */
static int launch_rows(struct hr_ops *ops, struct hr_stream *stream, struct hr__matmul_job *job)
{
	if (!job->n_products || !job->n_tokens)
		return 0;
	job->tile = tile_of(job->kernels, job->n_tokens);
	if (quantises(job)) {
		int r = hr_host_launch(stream, quantize, job, sizeof *job, div_up(job->n_tokens, job->tile), 1);
		if (r)
			return r;
	}
	int64_t n_items = count_items(job);
	return hr_host_launch(stream, multiply_rows, job, sizeof *job, n_items,
	                      grain_of(n_items, hr_host_n_threads(ops->device)));
}

/* The job without its first n_skip tokens. */
static struct hr__matmul_job skip_tokens(struct hr__matmul_job job, int32_t n_skip)
{
	job.x += (int64_t)n_skip * job.cols;
	job.n_tokens -= n_skip;
	for (int i = 0; i < job.n_products; i++)
		job.products[i].y += n_skip * job.products[i].y_stride;
	return job;
}

/* All tokens of the job, as many. */
static int launch_many(struct hr_ops *ops, struct hr_stream *stream, const struct hr__matmul_job *all)
{
	int64_t n_items = count_items(all);
	for (int32_t done = 0; done < all->n_tokens && n_items; done += HR__MATMUL_SLAB) {
		struct hr__matmul_job job = skip_tokens(*all, done);
		if (job.n_tokens > HR__MATMUL_SLAB)
			job.n_tokens = HR__MATMUL_SLAB;
		int64_t n_chunks = div_up(job.cols, HR__MATMUL_BLOCK);
		int     r = hr_host_launch(stream, job.kernels->split, &job, sizeof job,
		                           div_up(job.n_tokens, HR__MATMUL_TILE) * n_chunks, 32);
		if (!r)
			r = hr_host_launch(stream, multiply_many, &job, sizeof job, n_items,
			                   grain_of_many(n_items, hr_host_n_threads(ops->device)));
		if (r)
			return r;
	}
	return 0;
}

int hr__cpu_matmul(struct hr_ops *ops, struct hr_stream *stream, const struct hr_matmul *products,
                   int n_products, const float *x, int32_t n_tokens, int32_t n_single)
{
	const struct hr__matmul_kernels *k = kernels_of(ops);
	if (n_products < 1 || n_products > HR__MATMUL_PRODUCTS || n_tokens < 1 || n_single < 0 ||
	    n_single > n_tokens)
		return HR_EINVAL;
	struct hr__matmul_job one_way = {
	    .n_tokens = n_tokens, .cols = products[0].w.cols, .x = x, .workspace = ops->workspace, .kernels = k};
	struct hr__matmul_job two_ways = one_way;
	_Static_assert(sizeof one_way <= HR_HOST_ARGS_MAX, "a job travels as the launch's arguments");
	for (int i = 0; i < n_products; i++) {
		const struct hr_matmul *p = &products[i];
		if (!is_valid(p, one_way.cols))
			return HR_EINVAL;
		struct hr__matmul_job *job = has_many(k, &p->w) ? &two_ways : &one_way;
		job->products[job->n_products++] = *p;
	}
	bool needs_workspace = two_ways.n_products || quantises(&one_way);
	if (needs_workspace && ops->workspace_bytes < hr__cpu_matmul_workspace_bytes(ops, n_tokens, one_way.cols))
		return HR_EINVAL;
	struct hr__matmul_job many = skip_tokens(two_ways, n_single);
	two_ways.n_tokens = n_single;
	int r = launch_rows(ops, stream, &one_way);
	if (!r)
		r = launch_rows(ops, stream, &two_ways);
	return r ? r : launch_many(ops, stream, &many);
}
