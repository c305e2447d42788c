/* The table of CPU operations: what this machine can do is asked once, at open,
 * and every operation here checks its shapes, fills in the arguments of a kernel
 * and puts it on the stream, divided into pieces of some ten thousand elements:
 * a few microseconds, worth waking a thread for. Attention and matmul, which
 * have more to decide, are next door. */
#include "kernels/cpu/cpu.h"

#include "base/error.h"
#include "base/mem.h"
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/matmul.h"

#include <stdlib.h>
#include <string.h>

#ifdef HR_CPU_X86
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#define PIECE_ELEMENTS 8192

/* Rows per piece. */
static int64_t grain_of(int64_t cols) { return cols >= PIECE_ELEMENTS ? 1 : PIECE_ELEMENTS / cols; }

/* ---- what the machine has ---- */

#if defined(HR_CPU_X86) && defined(__linux__)
/* The state of tiles is large, so Linux gives it to processes that ask. */
static bool may_use_amx(void)
{
	enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 };        /* ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA */
	unsigned a, b, c, d, tiles = 1u << 22 | 1u << 24 | 1u << 25; /* amx-bf16, amx-tile, amx-int8 */
	return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & tiles) == tiles &&
	       syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
}
#else
static bool may_use_amx(void) { return false; }
#endif

enum hr__cpu_isa hr__cpu_best_isa(void)
{
#ifdef HR_CPU_X86
	unsigned a, b, c, d;
	bool     f16c = __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
	if (!f16c || !__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma"))
		return HR_CPU_PORTABLE;
	if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
	    __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
	    __builtin_cpu_supports("avx512vnni"))
		return may_use_amx() ? HR_CPU_AMX : HR_CPU_AVX512;
	return HR_CPU_AVX2;
#else
	return HR_CPU_PORTABLE;
#endif
}

static const char *const isa_names[HR_CPU_ISA_COUNT] = {"portable", "avx2", "avx512", "amx"};
static const char *const table_names[HR_CPU_ISA_COUNT] = {"cpu: portable", "cpu: avx2", "cpu: avx512-vnni",
                                                          "cpu: amx"};

static int choose_isa(const char *name, enum hr__cpu_isa *out, struct hr_error *err)
{
	enum hr__cpu_isa best = hr__cpu_best_isa();
	if (!name || !strcmp(name, "auto")) {
		*out = best;
		return 0;
	}
	for (int i = 0; i < HR_CPU_ISA_COUNT; i++) {
		if (strcmp(name, isa_names[i]))
			continue;
		if (i > (int)best)
			return hr__fail(err, HR_EUNSUPPORTED, "This machine has no %s; the best it has is %s.", name,
			                isa_names[best]);
		*out = (enum hr__cpu_isa)i;
		return 0;
	}
	return hr__fail(err, HR_EINVAL,
	                "There is no CPU instruction set \"%s\"; use auto, portable, avx2, avx512 or amx.", name);
}

const struct hr__cpu_kernels *hr__cpu_kernels(const struct hr__cpu_ops *ops)
{
	switch (ops->isa) {
#ifdef HR_CPU_X86
	case HR_CPU_AMX:
	case HR_CPU_AVX512:
		return &hr__cpu_kernels_avx512;
	case HR_CPU_AVX2:
		return &hr__cpu_kernels_avx2;
#endif
	default:
		return &hr__cpu_kernels_portable;
	}
}

static const struct hr__cpu_kernels *kernels(struct hr_ops *ops) { return hr__cpu_kernels(hr__cpu(ops)); }

/* ---- operations without variants ---- */

struct embed_args { /* item: row of y */
	float           *y;
	struct hr_weight table;
	float            scale;
	const int32_t   *ids;
};

/* Multiply row `row`, as f32, by its scales. */
static void scale_row(const struct hr_weight *w, int32_t row, float *y)
{
	int32_t run = hr__run_of(w);
	for (int32_t k = 0; k < w->cols && w->scale.rows; k += run) {
		float   scale = hr__scale_of(w, row, k / run) * HR__F8_SHIFT;
		int32_t n = w->cols - k < run ? w->cols - k : run;
		for (int32_t i = k; i < k + n; i++)
			y[i] *= scale;
	}
}

static void embed_kernel(const void *args, int64_t begin, int64_t end)
{
	const struct embed_args   *a = args;
	const struct hr_type_info *type = hr_type_info(a->table.type);
	size_t                     cols = (size_t)a->table.cols, row_bytes = hr_type_row_bytes(type, cols);
	for (int64_t i = begin; i < end; i++) {
		float *y = a->y + (size_t)i * cols;
		type->to_f32((const char *)a->table.data + (size_t)a->ids[i] * row_bytes, y, cols);
		scale_row(&a->table, a->ids[i], y);
		for (size_t k = 0; a->scale != 1 && k < cols; k++)
			y[k] *= a->scale;
	}
}

static int embed(struct hr_ops *ops, struct hr_stream *stream, float *y, const struct hr_weight *table,
                 float scale, const int32_t *ids, int32_t n)
{
	(void)ops;
	if (n < 0 || !hr_weight_is_valid(table))
		return HR_EINVAL;
	struct embed_args a = {y, *table, scale, ids};
	return hr_host_launch(stream, embed_kernel, &a, sizeof(a), n, grain_of(table->cols));
}

struct gather_args { /* item: row of y */
	float         *y;
	const float   *x;
	const int32_t *rows;
	size_t         cols;
};

static void gather_kernel(const void *args, int64_t begin, int64_t end)
{
	const struct gather_args *a = args;
	for (int64_t i = begin; i < end; i++)
		memcpy(a->y + (size_t)i * a->cols, a->x + (size_t)a->rows[i] * a->cols, a->cols * sizeof(float));
}

static int gather_rows(struct hr_ops *ops, struct hr_stream *stream, float *y, const float *x,
                       const int32_t *rows, int32_t n, int32_t cols)
{
	(void)ops;
	if (n < 0 || cols < 1)
		return HR_EINVAL;
	struct gather_args a = {y, x, rows, (size_t)cols};
	return hr_host_launch(stream, gather_kernel, &a, sizeof(a), n, grain_of(cols));
}

/* ---- operations with variants ---- */

static int rms_norm(struct hr_ops *ops, struct hr_stream *stream, float *y, const float *x,
                    const struct hr_weight *w, float shift, float eps, int32_t n)
{
	if (n < 0 || w->cols < 1)
		return HR_EINVAL;
	if (!hr_type_is_plain(w->type))
		return HR_EUNSUPPORTED;
	struct hr__rms_norm_args a = {y, x, *w, shift, eps};
	return hr_host_launch(stream, kernels(ops)->rms_norm, &a, sizeof(a), n, grain_of(w->cols));
}

static int layer_norm(struct hr_ops *ops, struct hr_stream *stream, float *y, const float *x,
                      const struct hr_weight *w, const struct hr_weight *bias, float eps, int32_t n)
{
	if (n < 0 || w->cols < 1 || (bias->data && bias->cols != w->cols))
		return HR_EINVAL;
	if (!hr_type_is_plain(w->type) || (bias->data && !hr_type_is_plain(bias->type)))
		return HR_EUNSUPPORTED;
	struct hr__layer_norm_args a = {y, x, *w, *bias, eps};
	return hr_host_launch(stream, kernels(ops)->layer_norm, &a, sizeof(a), n, grain_of(w->cols));
}

static int rope(struct hr_ops *ops, struct hr_stream *stream, float *x, int64_t x_stride, int32_t n_heads,
                int32_t head_dim, enum hr_rope_style style, const float *inv_freq, int32_t n_freqs,
                float magnitude, const struct hr_batch *batch)
{
	int64_t cols = (int64_t)n_heads * head_dim;
	if (batch->n_tokens < 0 || n_heads < 1 || n_freqs < 0 || head_dim < 1 || n_freqs > head_dim / 2 ||
	    x_stride < cols || head_dim > 1 << 16)
		return HR_EINVAL;
	struct hr__rope_args a = {x,        x_stride, n_heads,   head_dim,  style,
	                          inv_freq, n_freqs,  magnitude, batch->pos};
	return hr_host_launch(stream, kernels(ops)->rope, &a, sizeof(a), batch->n_tokens, grain_of(cols));
}

static int kv_store(struct hr_ops *ops, struct hr_stream *stream, const struct hr_kv_layer *kv,
                    const float *k, int64_t k_stride, const float *v, int64_t v_stride,
                    const struct hr_batch *batch)
{
	int64_t cols = (int64_t)kv->n_kv_heads * kv->head_dim;
	if (batch->n_tokens < 0 || kv->n_kv_heads < 1 || kv->head_dim < 1 || kv->page_tokens < 1 ||
	    k_stride < cols || v_stride < cols)
		return HR_EINVAL;
	struct hr__kv_store_args a = {*kv, k, v, k_stride, v_stride, *batch};
	return hr_host_launch(stream, kernels(ops)->kv_store, &a, sizeof(a), batch->n_tokens, grain_of(cols));
}

static int activate(struct hr_ops *ops, struct hr_stream *stream, enum hr_activation act, float *y,
                    const float *x, const float *up, int64_t n)
{
	if ((unsigned)act >= HR_ACT_COUNT)
		return HR_EINVAL;
	struct hr__activate_args a = {act, y, x, up};
	return hr_host_launch(stream, kernels(ops)->activate, &a, sizeof(a), n, PIECE_ELEMENTS);
}

static int soft_cap(struct hr_ops *ops, struct hr_stream *stream, float *x, float cap, int64_t n)
{
	if (!(cap > 0))
		return HR_EINVAL;
	struct hr__soft_cap_args a = {x, cap};
	return hr_host_launch(stream, kernels(ops)->soft_cap, &a, sizeof(a), n, PIECE_ELEMENTS);
}

static int add(struct hr_ops *ops, struct hr_stream *stream, float *y, const float *x, int64_t n)
{
	struct hr__add_args a = {y, x};
	return hr_host_launch(stream, kernels(ops)->add, &a, sizeof(a), n, PIECE_ELEMENTS);
}

/* ---- the table ---- */

/* Operations use it one after the other, so the largest counts. */
static size_t workspace_bytes(const struct hr_ops *ops, int32_t max_tokens, int32_t max_rows,
                              int32_t max_cols)
{
	(void)max_rows;
	size_t matmul = hr__cpu_matmul_workspace_bytes(ops, max_tokens, max_cols);
	return matmul > HR__ATTN_WORKSPACE_BYTES ? matmul : HR__ATTN_WORKSPACE_BYTES;
}

static void close_ops(struct hr_ops *ops) { free(hr__cpu(ops)); }

static const struct hr_ops_table cpu_table = {
    .workspace_bytes = workspace_bytes,
    .embed = embed,
    .gather_rows = gather_rows,
    .rms_norm = rms_norm,
    .layer_norm = layer_norm,
    .matmul = hr__cpu_matmul,
    .rope = rope,
    .kv_store = kv_store,
    .attention = hr__cpu_attention,
    .activate = activate,
    .soft_cap = soft_cap,
    .add = add,
    .close = close_ops,
};

int hr_ops_cpu_open(struct hr_ops **out, struct hr_device *device, const char *isa, struct hr_error *err)
{
	enum hr__cpu_isa chosen = HR_CPU_PORTABLE;
	int              rc = choose_isa(isa, &chosen, err);
	if (rc)
		return rc;
	struct hr__cpu_ops *ops = calloc(1, sizeof(*ops));
	if (!ops)
		return hr__fail(err, HR_ENOMEM, "No memory for the CPU operations.");
	ops->isa = chosen;
	ops->table = cpu_table;
	ops->table.name = table_names[chosen];
	ops->base.table = &ops->table;
	ops->base.device = device;
	*out = &ops->base;
	return 0;
}
