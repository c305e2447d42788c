/* The operations of kernels/ops.h on CUDA: one .cu file each, which opens with what
 * it computes and how; ops_cuda.c holds the table. */
#ifndef HR_KERNELS_CUDA_OPS_H
#define HR_KERNELS_CUDA_OPS_H

#ifdef __cplusplus
extern "C" {
#endif

#include "kernels/ops.h"

struct hr__cublas;

enum {
	HR_CUDA_FEW_TOKENS = 8,    /* most that a product takes in one reading of its weights */
	HR_CUDA_QUANT_TOKENS = 32, /* most that quantised weights are read again and again for */
	HR_CUDA_PRODUCTS = 4,
};

struct hr__cuda_ops {
	struct hr_ops            base; /* first */
	struct hr_ops_table      table;
	const struct hr__cublas *cublas;
	void                    *blas;        /* cublasHandle_t; NULL until the first large product */
	const void              *blas_memory; /* its workspace, as last set */
	void                    *blas_stream; /* likewise */
};

static inline struct hr__cuda_ops *hr__cuda(struct hr_ops *ops) { return (struct hr__cuda_ops *)ops; }

/* The workspace has two parts: one that every operation uses as it likes and leaves
 * behind, and cuBLAS' own at the end, which is a fixed share of the whole. */
#define HR_CUDA_BLAS_BYTES ((size_t)32 << 20)
static inline size_t hr__cuda_blas_bytes(size_t workspace_bytes)
{
	size_t share = workspace_bytes / 4 / 256 * 256;
	return share < HR_CUDA_BLAS_BYTES ? share : HR_CUDA_BLAS_BYTES;
}
static inline size_t hr__cuda_scratch_bytes(const struct hr_ops *ops)
{
	return (ops->workspace_bytes - hr__cuda_blas_bytes(ops->workspace_bytes)) / 256 * 256;
}

int hr__cuda_embed(struct hr_ops *ops, struct hr_stream *stream, float *y, const struct hr_weight *table,
                   float scale, const int32_t *ids, int32_t n);
int hr__cuda_gather_rows(struct hr_ops *ops, struct hr_stream *stream, float *y, const float *x,
                         const int32_t *rows, int32_t n, int32_t cols);
int hr__cuda_rms_norm(struct hr_ops *ops, struct hr_stream *stream, float *y, const float *x,
                      const struct hr_weight *w, float shift, float eps, int32_t n);
int hr__cuda_layer_norm(struct hr_ops *ops, struct hr_stream *stream, float *y, const float *x,
                        const struct hr_weight *w, const struct hr_weight *bias, float eps, int32_t n);
int hr__cuda_rope(struct hr_ops *ops, struct hr_stream *stream, float *x, int64_t x_stride, int32_t n_heads,
                  int32_t head_dim, enum hr_rope_style style, const float *inv_freq, int32_t n_freqs,
                  float magnitude, const struct hr_batch *batch);
int hr__cuda_kv_store(struct hr_ops *ops, struct hr_stream *stream, const struct hr_kv_layer *kv,
                      const float *k, int64_t k_stride, const float *v, int64_t v_stride,
                      const struct hr_batch *batch);
int hr__cuda_activate(struct hr_ops *ops, struct hr_stream *stream, enum hr_activation act, float *y,
                      const float *x, const float *up, int64_t n);
int hr__cuda_soft_cap(struct hr_ops *ops, struct hr_stream *stream, float *x, float cap, int64_t n);
int hr__cuda_add(struct hr_ops *ops, struct hr_stream *stream, float *y, const float *x, int64_t n);

int hr__cuda_top(struct hr_ops *ops, struct hr_stream *stream, struct hr_top *top, const float *x, int32_t n,
                 int32_t cols, int32_t k);
size_t hr__cuda_top_scratch_bytes(int32_t max_cols);

/* attention.cu chooses between the two kernels: attention_split.cu, attention_tiled.cu. */
struct hr__cuda_attn {
	float             *out;
	const float       *q;
	int64_t            q_stride;
	int32_t            n_heads;
	struct hr_kv_layer kv;
	float              scale, soft_cap;
	int32_t            window;
	struct hr_batch    batch;
};
int    hr__cuda_attention(struct hr_ops *ops, struct hr_stream *stream, float *out, const float *q,
                          int64_t q_stride, int32_t n_heads, const struct hr_kv_layer *kv, float scale,
                          float soft_cap, int32_t window, const struct hr_batch *batch);
bool   hr__cuda_attention_split_fits(const struct hr_ops *ops, const struct hr__cuda_attn *a);
int    hr__cuda_attention_split(struct hr_ops *ops, struct hr_stream *stream, const struct hr__cuda_attn *a);
int    hr__cuda_attention_tiled(struct hr_stream *stream, const struct hr__cuda_attn *a);
size_t hr__cuda_attention_scratch_bytes(int32_t max_cols);

/* matmul.c chooses between products read straight from the weights (matvec_float.cu,
 * matvec_quant.cu) and cuBLAS (gemm.cu). All get products of one type. */
int    hr__cuda_matmul(struct hr_ops *ops, struct hr_stream *stream, const struct hr_matmul *products,
                       int n_products, const float *x, int32_t n_tokens, int32_t n_single);
size_t hr__cuda_matmul_scratch_bytes(int32_t max_tokens, int32_t max_rows, int32_t max_cols);

/* n_tokens <= HR_CUDA_FEW_TOKENS; by rows, and by columns (column_stride). */
int hr__cuda_matvec_columns(struct hr_stream *stream, const struct hr_matmul *products, int n_products,
                            const float *x, int32_t n_tokens);
int hr__cuda_matvec_float(struct hr_stream *stream, const struct hr_matmul *products, int n_products,
                          const float *x, int32_t n_tokens);

/* x as two planes of 8 bits, see matvec_quant.cu; then products for few tokens of it. */
bool   hr__cuda_quant_has(enum hr_type type);
size_t hr__cuda_quant_bytes(int32_t n_tokens, int32_t cols);
int    hr__cuda_quantize(struct hr_stream *stream, void *xq, const float *x, int32_t n_tokens, int32_t cols);
int    hr__cuda_matvec_quant(struct hr_stream *stream, const struct hr_matmul *products, int n_products,
                             const void *xq, int32_t first_token, int32_t n_tokens);

size_t hr__cuda_gemm_scratch_bytes(int32_t n_tokens, int32_t max_rows, int32_t max_cols);
int    hr__cuda_gemm(struct hr_ops *ops, struct hr_stream *stream, const struct hr_matmul *products,
                     int n_products, const float *x, int32_t n_tokens);
void   hr__cuda_gemm_close(struct hr__cuda_ops *ops);

#ifdef __cplusplus
}
#endif
#endif
