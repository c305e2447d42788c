/* The table of CUDA operations. Kernels are in files of their own, and the sizes of their
 * workspace stand next to them; nothing is allocated here but the struct (and, by cuBLAS,
 * what its handle takes, outside of any workspace). */
#include "kernels/cuda/cublas_lazy.h"
#include "kernels/cuda/ops.h"

#include "base/error.h"
#include "base/mem.h"

#include <stdlib.h>

static size_t max_size(size_t a, size_t b) { return a > b ? a : b; }

/* So much that hr__cuda_scratch_bytes() of it is at least what the operations need. */
static size_t workspace_bytes(const struct hr_ops *ops, int32_t max_tokens, int32_t max_rows,
                              int32_t max_cols)
{
	(void)ops;
	size_t matmul = hr__cuda_matmul_scratch_bytes(max_tokens, max_rows, max_cols);
	size_t others =
	    max_size(hr__cuda_attention_scratch_bytes(max_cols), hr__cuda_top_scratch_bytes(max_rows));
	size_t scratch = hr__align_up(max_size(matmul, others), 1024);
	size_t share = hr__align_up(scratch / 3 + 1, 1024);
	return scratch + (share < HR_CUDA_BLAS_BYTES ? share : HR_CUDA_BLAS_BYTES);
}

static void close_ops(struct hr_ops *ops)
{
	hr__cuda_gemm_close(hr__cuda(ops));
	free(hr__cuda(ops));
}

static const struct hr_ops_table cuda_table = {
    .name = "cuda",
    .workspace_bytes = workspace_bytes,
    .embed = hr__cuda_embed,
    .gather_rows = hr__cuda_gather_rows,
    .rms_norm = hr__cuda_rms_norm,
    .layer_norm = hr__cuda_layer_norm,
    .matmul = hr__cuda_matmul,
    .rope = hr__cuda_rope,
    .kv_store = hr__cuda_kv_store,
    .attention = hr__cuda_attention,
    .activate = hr__cuda_activate,
    .soft_cap = hr__cuda_soft_cap,
    .add = hr__cuda_add,
    .top = hr__cuda_top,
    .close = close_ops,
};

struct opened {
	struct hr__cuda_ops ops; /* first */
	struct hr__cublas   cublas;
};

int hr_ops_cuda_open(struct hr_ops **out, struct hr_device *device, struct hr_error *err)
{
	struct opened *o = hr__calloc(1, sizeof *o);
	if (!o)
		return hr__fail(err, HR_ENOMEM, "No memory for the CUDA operations.");
	struct hr__cuda_ops *ops = &o->ops;
	int                  rc = hr__cublas_load(&o->cublas, err);
	if (rc) {
		free(o);
		return rc;
	}
	ops->table = cuda_table;
	ops->base.table = &ops->table;
	ops->base.device = device;
	ops->cublas = &o->cublas;
	*out = &ops->base;
	return 0;
}
