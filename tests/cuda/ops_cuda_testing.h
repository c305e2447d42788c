/* What the tests of the CUDA operations share: the operations on a device, which may be
 * a card or the CUDA-on-CPU layer, and beside them the portable CPU ones; device memory
 * that stands between fences and starts as NaNs; random numbers. */
#ifndef HR_TESTS_CUDA_OPS_CUDA_TESTING_H
#define HR_TESTS_CUDA_OPS_CUDA_TESTING_H

#include "kernels/device/device_cuda.h"
#include "tests/ops_testing.h"

#define GPU_FENCE 256
#define GPU_MAX   64

struct gpu_block {
	char  *memory; /* [GPU_FENCE] fence, shift, bytes, [GPU_FENCE] fence; all 0xff at first */
	size_t shift, bytes;
};

struct gpu {
	struct hr_device *device;
	struct hr_stream *stream;
	struct hr_event  *event;
	struct hr_ops    *ops;
	struct gpu_block  blocks[GPU_MAX];
	int               n_blocks;
};

static inline void gpu_finish(struct gpu *g)
{
	assert_int_equal(g->device->ops->event_record(g->event, g->stream), 0);
	assert_int_equal(g->device->ops->event_wait(g->event), 0);
}

static inline void gpu_copy(struct gpu *g, void *dst, const void *src, size_t bytes)
{
	if (bytes)
		assert_int_equal(g->device->ops->copy(g->stream, dst, src, bytes), 0);
	gpu_finish(g);
}

/* `bytes` of NaNs, `shift` bytes off alignment; see gpu_release(). */
static inline void *gpu_new(struct gpu *g, size_t bytes, size_t shift)
{
	size_t all = bytes + shift + 2 * GPU_FENCE;
	void  *memory = NULL, *ones = malloc(all);
	assert_true(g->n_blocks < GPU_MAX);
	assert_int_equal(g->device->ops->alloc(g->device, &memory, all, NULL), 0);
	memset(ones, 0xff, all);
	gpu_copy(g, memory, ones, all);
	free(ones);
	g->blocks[g->n_blocks++] = (struct gpu_block){memory, shift, bytes};
	return (char *)memory + GPU_FENCE + shift;
}

static inline void *gpu_put(struct gpu *g, const void *host, size_t bytes, size_t shift)
{
	void *memory = gpu_new(g, bytes, shift);
	gpu_copy(g, memory, host, bytes);
	return memory;
}

static inline float *gpu_floats(struct gpu *g, const float *host, size_t n)
{
	return gpu_put(g, host, n * sizeof(*host), 0);
}

/* A copy on the host, free() it. */
static inline void *gpu_get(struct gpu *g, const void *memory, size_t bytes)
{
	void *host = malloc(bytes);
	assert_non_null(host);
	gpu_copy(g, host, memory, bytes);
	return host;
}

/* Give back all blocks but the first `keep` (the workspace is the first). */
static inline void gpu_release(struct gpu *g, int keep)
{
	while (g->n_blocks > keep) {
		struct gpu_block b = g->blocks[--g->n_blocks];
		unsigned char   *front = gpu_get(g, b.memory, GPU_FENCE + b.shift);
		unsigned char   *back = gpu_get(g, b.memory + GPU_FENCE + b.shift + b.bytes, GPU_FENCE);
		for (size_t i = 0; i < GPU_FENCE + b.shift; i++)
			assert_true(front[i] == 0xff && (i >= GPU_FENCE || back[i] == 0xff));
		free(front);
		free(back);
		g->device->ops->free(g->device, b.memory);
	}
}

/* Ends the program as skipped where there is no card and no layer. */
static inline void gpu_open(struct gpu *g, int32_t max_tokens, int32_t max_rows, int32_t max_cols)
{
	struct hr_device_cuda_options options = {.ordinal = 0};
	struct hr_error               err = {0};
	*g = (struct gpu){0};
	int rc = hr_device_cuda_open(&g->device, &options, &err);
	if (rc == HR_EUNSUPPORTED) {
		fprintf(stderr, "skipped: %s\n", err.message);
		exit(77);
	}
	assert_int_equal(rc, 0);
	assert_int_equal(hr_ops_cuda_open(&g->ops, g->device, &err), 0);
	assert_int_equal(g->device->ops->stream_new(g->device, &g->stream, true, NULL), 0);
	assert_int_equal(g->device->ops->event_new(g->device, &g->event, NULL), 0);
	g->ops->workspace_bytes = g->ops->table->workspace_bytes(g->ops, max_tokens, max_rows, max_cols);
	g->ops->workspace = gpu_new(g, g->ops->workspace_bytes, 0);
}

static inline void gpu_close(struct gpu *g)
{
	gpu_release(g, 0);
	g->ops->table->close(g->ops);
	g->device->ops->event_free(g->event);
	g->device->ops->stream_free(g->stream);
	g->device->ops->close(g->device);
}

/* Random weights of a type, in its bytes; free() them. *values, if not NULL: as f32. */
static inline void *random_bytes(enum hr_type type, size_t n, float **values, uint32_t *seed)
{
	const struct hr_type_info *info = hr_type_info(type);
	size_t                     bytes = n / info->block_elems * info->block_bytes;
	float                     *x = malloc(n * sizeof(*x));
	void                      *data = malloc(bytes);
	for (size_t i = 0; i < n; i++)
		x[i] = random_float(seed);
	if (info->from_f32)
		info->from_f32(x, data, n);
	else
		random_blocks(type, data, n, seed);
	info->to_f32(data, x, n);
	if (values)
		*values = x;
	else
		free(x);
	return data;
}

#endif
