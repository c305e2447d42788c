/* Matrix products on the CPU: checks a call, quantises the activations when a
 * weight type wants that, and divides the rows among the compute threads.
 *
 * An item of work is HR__MATMUL_ROWS rows of one product, with all tokens; the
 * items of all products of a call form one sequence and one launch. Threads take
 * `grain` neighbouring items at a time, so each reads a long run of weights, and
 * weights are read from memory once however many tokens there are (as long as
 * the rows at hand stay in the cache). Kernels are looked up by instruction set
 * and weight type; nothing about bits depends on the division.
 *
 * Workspace: one struct hr__matmul_xq for 32 activations of a token. */
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

static bool is_float(enum hr_type type) { return hr_type_info(type)->block_elems == 1; }

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
	(void)ops;
	size_t tokens = (size_t)div_up(max_tokens, HR__MATMUL_TILE) * HR__MATMUL_TILE;
	return tokens * (size_t)div_up(max_cols, HR__MATMUL_BLOCK) * sizeof(struct hr__matmul_xq);
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
	if (p->w.rows < 1 || p->w.cols != cols || cols < 1 || p->y_stride < p->w.rows)
		return false;
	if (!hr_type_row_bytes(hr_type_info(p->w.type), (uint64_t)cols))
		return false;
	if (p->w.column_stride && p->w.column_stride < p->w.rows)
		return false;
	return !p->bias.data || (is_float(p->bias.type) && p->bias.cols == p->w.rows);
}

/* One item: all blocks of one tile of tokens. */
static void quantize(const void *args, int64_t begin, int64_t end)
{
	const struct hr__matmul_job *job = args;
	int32_t                      n_blocks = job->cols / HR__MATMUL_BLOCK;
	for (int64_t item = begin; item < end; item++)
		for (int32_t i = 0; i < job->tile; i++) {
			int64_t               t = item * job->tile + i;
			struct hr__matmul_xq *xq = job->xq + item * job->tile * n_blocks + i;
			for (int32_t b = 0; b < n_blocks; b++, xq += job->tile)
				if (t < job->n_tokens)
					job->kernels->quantize(job->x + t * job->cols + b * HR__MATMUL_BLOCK, xq);
				else
					memset(xq, 0, sizeof *xq);
		}
}

/* Items of all products, one after the other. */
static void multiply(const void *args, int64_t begin, int64_t end)
{
	const struct hr__matmul_job *job = args;
	int64_t                      first = 0;
	for (int i = 0; i < job->n_products; i++) {
		const struct hr_matmul *p = &job->products[i];
		int64_t                 last = first + div_up(p->w.rows, HR__MATMUL_ROWS);
		int64_t                 from = begin > first ? begin : first, to = end < last ? end : last;
		if (from < to) {
			int64_t row_end = (to - first) * HR__MATMUL_ROWS;
			job->kernels->rows[p->w.type](job, p, (int32_t)((from - first) * HR__MATMUL_ROWS),
			                              (int32_t)(row_end < p->w.rows ? row_end : p->w.rows));
		}
		first = last;
	}
}

/* Long runs of rows for each thread, in whole groups of 64 where they are long, but
 * about eight turns for everyone. */
static int64_t grain_of(int64_t n_items, int n_threads)
{
	int64_t grain = n_items / ((int64_t)n_threads * 8);
	return grain < 1 ? 1 : grain > 16 ? 16 : grain > 4 ? grain / 4 * 4 : grain;
}

int hr__cpu_matmul(struct hr_ops *ops, struct hr_stream *stream, const struct hr_matmul *products,
                   int n_products, const float *x, int32_t n_tokens)
{
	struct hr__matmul_job job = {
	    .n_products = n_products, .n_tokens = n_tokens, .x = x, .kernels = kernels_of(ops)};
	_Static_assert(sizeof job <= HR_HOST_ARGS_MAX, "a job travels as the launch's arguments");
	if (n_products < 1 || n_products > HR__MATMUL_PRODUCTS || n_tokens < 1)
		return HR_EINVAL;
	job.tile = tile_of(job.kernels, n_tokens);
	bool    all_float = true;
	int64_t n_items = 0;
	job.cols = products[0].w.cols;
	for (int i = 0; i < n_products; i++) {
		if (!is_valid(&products[i], job.cols))
			return HR_EINVAL;
		if (!job.kernels->rows[products[i].w.type] ||
		    (products[i].w.column_stride && !is_float(products[i].w.type)))
			return HR_EUNSUPPORTED;
		job.products[i] = products[i];
		all_float = all_float && is_float(products[i].w.type);
		n_items += div_up(products[i].w.rows, HR__MATMUL_ROWS);
	}
	if (!all_float) {
		if (ops->workspace_bytes < hr__cpu_matmul_workspace_bytes(ops, n_tokens, job.cols))
			return HR_EINVAL;
		job.xq = ops->workspace;
		int r = hr_host_launch(stream, quantize, &job, sizeof job, div_up(n_tokens, job.tile), 1);
		if (r)
			return r;
	}
	return hr_host_launch(stream, multiply, &job, sizeof job, n_items,
	                      grain_of(n_items, hr_host_n_threads(ops->device)));
}
