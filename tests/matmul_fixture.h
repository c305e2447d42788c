/* What the tests of the CPU's matmul share: the operation under each instruction
 * set this machine has, and random products. */
#ifndef HR_TESTS_MATMUL_FIXTURE_H
#define HR_TESTS_MATMUL_FIXTURE_H

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/matmul.h"
#include "tests/random_blocks.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

static const char *const isa_names[HR_CPU_ISA_COUNT] = {"portable", "avx2", "avx512", "amx"};

static inline bool isa_is_here(int isa) { return isa <= (int)hr__cpu_best_isa(); }

struct fixture {
	struct hr_device  *device;
	struct hr_stream  *stream;
	struct hr_event   *event;
	struct hr__cpu_ops ops;
};

static inline void fixture_open(struct fixture *f, int isa, int n_threads, int32_t max_tokens,
                                int32_t max_cols)
{
	struct hr_device_host_options options = {.n_threads = n_threads};
	*f = (struct fixture){.ops.isa = (enum hr__cpu_isa)isa};
	assert_int_equal(hr_device_host_open(&f->device, &options, NULL), 0);
	assert_int_equal(f->device->ops->stream_new(f->device, &f->stream, true, NULL), 0);
	assert_int_equal(f->device->ops->event_new(f->device, &f->event, NULL), 0);
	struct hr_ops *ops = &f->ops.base;
	ops->device = f->device;
	ops->workspace_bytes = hr__cpu_matmul_workspace_bytes(ops, max_tokens, max_cols);
	ops->workspace = aligned_alloc(64, (ops->workspace_bytes + 63) / 64 * 64);
	assert_non_null(ops->workspace);
}

static inline void fixture_close(struct fixture *f)
{
	f->device->ops->event_free(f->event);
	f->device->ops->stream_free(f->stream);
	f->device->ops->close(f->device);
	free(f->ops.base.workspace);
}

static inline void fixture_multiply(struct fixture *f, const struct hr_matmul *products, int n_products,
                                    const float *x, int32_t n_tokens, int32_t n_single)
{
	assert_int_equal(hr__cpu_matmul(&f->ops.base, f->stream, products, n_products, x, n_tokens, n_single), 0);
	assert_int_equal(f->device->ops->event_record(f->event, f->stream), 0);
	assert_int_equal(f->device->ops->event_wait(f->event), 0);
}

/* Random weights of a type (f8: of the sharing that seed / 64 says), `shift` bytes off alignment, with
 * nothing readable behind them but what malloc adds; free(*memory). */
static inline struct hr_weight random_weight(enum hr_type type, int32_t rows, int32_t cols, size_t shift,
                                             uint32_t *seed, void **memory)
{
	const struct hr_type_info *info = hr_type_info(type);
	size_t                     n = (size_t)rows * (size_t)cols;
	size_t                     bytes = (size_t)rows * hr_type_row_bytes(info, (uint64_t)cols);
	struct hr_scale            scale = {0};
	size_t                     scale_bytes = 0;
	if (type == HR_TYPE_F8_E4M3) {
		scale = random_sharings[*seed / 64 % N_RANDOM_SHARINGS];
		scale_bytes = count_scales(&scale, rows, cols) * hr_type_info(scale.type)->block_bytes;
	}
	uint8_t *data = malloc(bytes + shift + scale_bytes);
	assert_non_null(data);
	if (info->block_elems > 1)
		random_blocks(type, data + shift, n, seed);
	if (type == HR_TYPE_F8_E4M3) {
		random_codes(data + shift, n, seed);
		scale.data = data + shift + bytes;
		random_scales(scale.type, data + shift + bytes, scale_bytes / hr_type_info(scale.type)->block_bytes,
		              seed);
	}
	for (size_t i = 0; i < n && hr_type_is_plain(type); i++) {
		float x = random_float(seed);
		info->from_f32(&x, data + shift + i * info->block_bytes, 1);
	}
	*memory = data;
	return (struct hr_weight){.data = data + shift, .type = type, .rows = rows, .cols = cols, .scale = scale};
}

#endif
