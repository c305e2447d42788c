/* The operations of a forward pass, as a table: one implementation per device.
 *
 * All activations are f32, row-major, slowest dimension first, densely packed.
 * Pointers are device memory unless said otherwise. Every function puts work on
 * `stream` and returns at once: 0, HR_EINVAL (a shape that breaks a stated
 * precondition), HR_EUNSUPPORTED (a weight type without a kernel) or HR_EDEVICE.
 *
 *     What is promised about bits. Equal calls give equal bits. On the CPU an
 *     output element depends on its own inputs only: not on the number of threads,
 *     nor on which other tokens are in the pass, nor on where the weights lie; in a
 *     matmul also on whether its token is one of the single ones. On
 *     CUDA the same holds for all operations but two, which have two ways each:
 *       matmul     up to 8 tokens in the call, 32 for block types: as above. More:
 *                  cuBLAS, whose bits follow from the number of tokens, the shape
 *                  and type of the matrix, the alignment of its address (up to 16
 *                  bytes) and the size of the workspace.
 *       attention  up to 8 tokens per sequence of the pass on average (n_tokens <=
 *                  8 * n_seqs) and else; on each of the two ways as above.
 *     Two devices may differ. */
#ifndef HR_KERNELS_OPS_H
#define HR_KERNELS_OPS_H

#include "kernels/device/device.h"
#include "kernels/types.h"

/* What the elements of an f8 matrix are multiplied by, in f32: element (r, c) by the one at [(r + skip) /
 * rows][c / cols], of a plain type, row-major, [...][ceil(W's cols / cols)]. As f8, it may lie anywhere. */
struct hr_scale {
	const void  *data;
	enum hr_type type;
	int32_t      rows, cols; /* of W that share one; rows 0: there are none, as if all were 1 */
	int32_t      skip;       /* rows of the first scales that stand before W */
};

/* A matrix of weights: y = W x, W[rows][cols], each row in blocks of its type.
 * `data` needs no alignment beyond the type's own element (2 or 4 bytes), and
 * may have less in a safetensors file: kernels load unaligned. */
struct hr_weight {
	const void  *data;
	enum hr_type type;
	int32_t      rows; /* outputs */
	int32_t      cols; /* inputs */
	/* 0: as said above. Else W is stored by columns, element (r, c) at data[c * column_stride + r];
	 * f32, f16 and bf16 matrices of a matmul only. */
	int32_t         column_stride;
	struct hr_scale scale; /* f8 only */
};

static inline bool hr_weight_is_valid(const struct hr_weight *w)
{
	const struct hr_scale *s = &w->scale;
	if (w->rows < 1 || w->cols < 1 || !hr_type_row_bytes(hr_type_info(w->type), (uint64_t)w->cols))
		return false;
	if (w->column_stride && (!hr_type_is_plain(w->type) || w->column_stride < w->rows))
		return false;
	return !s->rows || (w->type == HR_TYPE_F8_E4M3 && hr_type_is_plain(s->type) && s->rows > 0 &&
	                    s->cols > 0 && s->skip >= 0);
}

/* Rows [first, first + n) of a matrix that is stored by rows. */
static inline struct hr_weight hr_weight_rows(struct hr_weight w, int32_t first, int32_t n)
{
	w.data = (const char *)w.data + (size_t)first * hr_type_row_bytes(hr_type_info(w.type), (uint64_t)w.cols);
	w.rows = n;
	w.scale.skip += first;
	return w;
}

/* One product of a matmul call: y[n_tokens][y_stride] (+)= W x + bias. */
struct hr_matmul {
	struct hr_weight w;
	struct hr_weight bias;     /* data NULL: none; else [1][w.rows] of a plain type */
	float           *y;        /* first column to write; row t begins at y + t * y_stride */
	int64_t          y_stride; /* >= w.rows */
	bool             add;      /* y += instead of y = */
};

enum hr_rope_style {
	HR_ROPE_NORM, /* rotates neighbours (2i, 2i+1): GGUF llama */
	HR_ROPE_NEOX, /* rotates halves (i, i + n_rot/2): Hugging Face, GGUF qwen2 */
};

enum hr_activation {
	HR_ACT_SILU,      /* x / (1 + e^-x) */
	HR_ACT_GELU,      /* x * Phi(x), Phi of the normal distribution. Hendrycks & Gimpel 2016 */
	HR_ACT_GELU_TANH, /* x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))) */
	HR_ACT_RELU,
	HR_ACT_TANH,
	HR_ACT_COUNT
};

enum hr_kv_type { HR_KV_F16, HR_KV_F32 };

/* The key/value cache of one layer, in pages of page_tokens tokens:
 * keys and values each [n_pages][n_kv_heads][page_tokens][head_dim]. */
struct hr_kv_layer {
	void           *k, *v;
	enum hr_kv_type type;
	int32_t         n_kv_heads;
	int32_t         head_dim;
	int32_t         page_tokens;
};

/* Which token is what in this pass; arrays in device memory. Tokens of one
 * sequence stand together, in order of position. Position p of sequence s lives
 * in page page_table[s * max_pages + p / page_tokens], at p % page_tokens. */
struct hr_batch {
	int32_t        n_tokens;
	int32_t        n_seqs;
	const int32_t *pos;        /* [n_tokens] position in its sequence */
	const int32_t *seq;        /* [n_tokens] row of page_table, and of length */
	const int32_t *page_table; /* [n_seqs][max_pages] */
	int32_t        max_pages;
	int32_t        max_context; /* host side: at least the largest pos + 1 of this pass; 0: unknown */
	const int32_t *length; /* NULL: a token sees what stands before it; else all length[seq] of its own */
};

#define HR_TOP_MAX 64 /* of a row, at most */
struct hr_top {
	float   value;
	int32_t id;
};

struct hr_ops;

struct hr_ops_table {
	const char *name; /* "cpu: avx512-vnni", ...: what was chosen for this machine */

	/* Bytes of workspace that calls with up to these sizes need; rows and cols of any
	 * matrix, cols also n_heads * head_dim. */
	size_t (*workspace_bytes)(const struct hr_ops *ops, int32_t max_tokens, int32_t max_rows,
	                          int32_t max_cols);

	/* y[n][cols] = scale * rows ids[i] of table, as f32. */
	int (*embed)(struct hr_ops *ops, struct hr_stream *stream, float *y, const struct hr_weight *table,
	             float scale, const int32_t *ids, int32_t n);

	/* y[i][:] = x[rows[i]][:], for i < n; x[*][cols]. */
	int (*gather_rows)(struct hr_ops *ops, struct hr_stream *stream, float *y, const float *x,
	                   const int32_t *rows, int32_t n, int32_t cols);

	/* y = x / sqrt(mean(x^2) + eps) * (shift + w), each of n rows of w->cols; y may be x.
	 * w is [1][cols] of a plain type; shift is 0, or 1 for weights around zero. Zhang & Sennrich 2019. */
	int (*rms_norm)(struct hr_ops *ops, struct hr_stream *stream, float *y, const float *x,
	                const struct hr_weight *w, float shift, float eps, int32_t n);

	/* y = (x - mean(x)) / sqrt(var(x) + eps) * w + bias, each of n rows of w->cols; y may be x.
	 * w and bias are [1][cols] of a plain type; bias->data NULL: none. Ba et al. 2016. */
	int (*layer_norm)(struct hr_ops *ops, struct hr_stream *stream, float *y, const float *x,
	                  const struct hr_weight *w, const struct hr_weight *bias, float eps, int32_t n);

	/* n_products (1..4) products that share x[n_tokens][cols]. y may not overlap x. The first
	 * n_single tokens go the way that is fastest for a few of them, the others that for many. */
	int (*matmul)(struct hr_ops *ops, struct hr_stream *stream, const struct hr_matmul *products,
	              int n_products, const float *x, int32_t n_tokens, int32_t n_single);

	/* Rotate the first 2*n_freqs of every head's head_dim elements of
	 * x[n_tokens][n_heads][head_dim] (row t begins at x + t * x_stride) by
	 * pos[t] * inv_freq[i] and multiply them by magnitude, in place. Su et al. 2021. */
	int (*rope)(struct hr_ops *ops, struct hr_stream *stream, float *x, int64_t x_stride, int32_t n_heads,
	            int32_t head_dim, enum hr_rope_style style, const float *inv_freq, int32_t n_freqs,
	            float magnitude, const struct hr_batch *batch);

	/* Write k and v, both [n_tokens][n_kv_heads][head_dim] with row strides, to their pages. */
	int (*kv_store)(struct hr_ops *ops, struct hr_stream *stream, const struct hr_kv_layer *kv,
	                const float *k, int64_t k_stride, const float *v, int64_t v_stride,
	                const struct hr_batch *batch);

	/* out[t][h][:] = softmax(c(scale * q[t][h] . K)) V over the positions
	 * max(0, pos[t] - window + 1) .. pos[t] of t's own sequence (window 0: all), or with
	 * batch->length 0 .. length - 1 (window must be 0), which must have been stored.
	 * c(s) = soft_cap * tanh(s / soft_cap); soft_cap 0: c(s) = s. Query head h reads KV head
	 * h / (n_heads / n_kv_heads). out[n_tokens][n_heads][head_dim] is dense. */
	int (*attention)(struct hr_ops *ops, struct hr_stream *stream, float *out, const float *q,
	                 int64_t q_stride, int32_t n_heads, const struct hr_kv_layer *kv, float scale,
	                 float soft_cap, int32_t window, const struct hr_batch *batch);

	/* y[i] = act(x[i]) * up[i] for i < n, or act(x[i]) where up is NULL; y may be x. */
	int (*activate)(struct hr_ops *ops, struct hr_stream *stream, enum hr_activation act, float *y,
	                const float *x, const float *up, int64_t n);

	/* x[i] = cap * tanh(x[i] / cap) for i < n, cap > 0, in place. */
	int (*soft_cap)(struct hr_ops *ops, struct hr_stream *stream, float *x, float cap, int64_t n);

	/* y[i] += x[i] for i < n. */
	int (*add)(struct hr_ops *ops, struct hr_stream *stream, float *y, const float *x, int64_t n);

	/* top[n][k] = the k <= HR_TOP_MAX largest of each row of x[n][cols], the largest first, of equal ones
	 * the lower id first (-0 is 0); what follows the last number are NaNs. NULL: the host looks itself. */
	int (*top)(struct hr_ops *ops, struct hr_stream *stream, struct hr_top *top, const float *x, int32_t n,
	           int32_t cols, int32_t k);

	void (*close)(struct hr_ops *ops);
};

struct hr_ops {
	const struct hr_ops_table *table;
	struct hr_device          *device;
	void                      *workspace; /* workspace_bytes(), at 256 bytes, set by the caller */
	size_t                     workspace_bytes;
};

/* The CPU operations on a host device. `isa`: NULL or "auto" for the best this
 * machine has; "portable", "avx2", "avx512", "amx" to force one (HR_EUNSUPPORTED when
 * the machine lacks it). */
int hr_ops_cpu_open(struct hr_ops **out, struct hr_device *device, const char *isa, struct hr_error *err);

/* The CUDA operations on a device of kind "cuda" (in builds that have one). */
int hr_ops_cuda_open(struct hr_ops **out, struct hr_device *device, struct hr_error *err);

#endif
