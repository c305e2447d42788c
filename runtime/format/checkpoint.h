/* A checkpoint: a model as it lies on disk, whatever its format, validated
 * before anything is believed. GGUF (v2, v3, split) and Hugging Face
 * directories (config.json, *.safetensors, tokenizer.json) end up here. */
#ifndef HR_RUNTIME_CHECKPOINT_H
#define HR_RUNTIME_CHECKPOINT_H

#include "io/file.h"
#include "kernels/ops.h"
#include "kernels/types.h"
#include "runtime/format/encoder_files.h"
#include "runtime/tokenizer/tokenizer.h"

/* What the elements of a matrix of 8-bit floats are multiplied by: [ceil(its rows / rows)][ceil(its columns /
 * columns)], one for each block of so many rows and columns. */
struct hr_scales {
	const struct hr_file *file; /* NULL: there are none, as if all were 1 */
	uint64_t              offset;
	enum hr_type          type;
	uint64_t              rows, cols;
	uint64_t              skip; /* rows of the first block that stand before a view */
};

/* A tensor in a file. shape is row-major, slowest dimension first (GGUF's order
 * reversed): a matrix y = W x is [rows][cols]. bytes is what type and shape ask
 * for; [offset, offset+bytes) lies inside the file and overlaps no other tensor. */
struct hr_tensor {
	char                 *name; /* as the file spells it */
	enum hr_type          type;
	int                   n_dims; /* 1..4 */
	uint64_t              shape[4];
	const struct hr_file *file;
	uint64_t              offset;
	uint64_t              bytes;
	struct hr_scales      scales;
	uint64_t              column_stride; /* of a view of a matrix stored by columns, see hr_weight; else 0 */
};

enum hr_rope_scaling {
	HR_ROPE_SCALING_NONE,
	HR_ROPE_SCALING_LINEAR,
	HR_ROPE_SCALING_LLAMA3,
	HR_ROPE_SCALING_YARN,
	HR_ROPE_SCALING_LONGROPE,
};

enum { HR_MAX_ROPE_FACTORS = 256 }; /* pairs of a head that LONGROPE can have a factor for */

enum { HR_MAX_LAYERS = 4096 };

/* What the forward pass needs to know of a model. Behind the sizes stands what differs between
 * families; all zero (and what hr_family_from_*() fills in) is the llama line. What is there or not
 * there among a block's weights is not said again: biases, gates, norms of queries and keys, norms
 * behind attention and feed-forward, learned positions. */
struct hr_hparams {
	char    family[32]; /* "llama", "bert", ... */
	int32_t n_layers, n_embd, n_heads, n_kv_heads, head_dim, n_ff, n_vocab, n_ctx_train;

	bool               encoder;    /* a token sees all of its text; no cache, no head over the vocabulary */
	bool               layer_norm; /* instead of RMS norms */
	bool               norm_after; /* x = norm(x + f(x)) instead of x + f(norm(x)) */
	bool               parallel;   /* attention and feed-forward both read the block's input */
	enum hr_activation activation;
	float              norm_eps;
	float              norm_shift;                         /* added to the weights of norms */
	float              embedding_scale;                    /* 0 becomes 1 */
	float              attention_scale;                    /* 0 becomes 1 / sqrt(head_dim) */
	float              attention_soft_cap, logit_soft_cap; /* 0: none */
	int32_t            position_offset;                    /* row of position 0 among learned positions */
	int32_t            n_types;                            /* encoder: kinds of segments */
	int32_t            n_labels;                           /* encoder: outputs of its classifier */
	enum hr_activation dense_activation;                   /* encoder: of the layer before the classifier */

	enum hr_rope_style   rope_style;
	int32_t              n_rot; /* rotated elements per head, even; 0: no RoPE */
	float                rope_theta;
	float                rope_theta_sliding; /* of layers that slide; 0: as the others, with their scaling */
	enum hr_rope_scaling rope_scaling;
	/* LLAMA3 is config.json's; a GGUF of Llama 3.1 has NONE and a tensor of factors instead. */
	float   rope_factor, rope_low_freq_factor, rope_high_freq_factor;
	float   rope_beta_fast, rope_beta_slow; /* YARN */
	float   rope_magnitude;                 /* of what is rotated; 0 becomes 1 */
	int32_t rope_original_context;
	/* LONGROPE: frequency i is divided by [i], one list for contexts of up to rope_original_context tokens,
	 * the other for longer ones. */
	float rope_short[HR_MAX_ROPE_FACTORS], rope_long[HR_MAX_ROPE_FACTORS];

	int32_t sliding_window;                 /* 0: none */
	uint8_t full_layers[HR_MAX_LAYERS / 8]; /* bit i: layer i does not slide, though others do */
	bool    tied;                           /* the head is the embedding */
};

static inline bool hr_layer_slides(const struct hr_hparams *h, int layer)
{
	return h->sliding_window && !(h->full_layers[layer / 8] >> layer % 8 & 1);
}

/* All weights that a block can have. `qkv` is q, k and v by heads: head 0's q, k, v, head 1's ... */
#define HR_BLOCK_WEIGHTS(X)                                                                                  \
	X(attn_norm)                                                                                             \
	X(attn_norm_bias)                                                                                        \
	X(q)                                                                                                     \
	X(q_bias)                                                                                                \
	X(k)                                                                                                     \
	X(k_bias)                                                                                                \
	X(v)                                                                                                     \
	X(v_bias)                                                                                                \
	X(qkv)                                                                                                   \
	X(qkv_bias)                                                                                              \
	X(q_norm)                                                                                                \
	X(k_norm)                                                                                                \
	X(o)                                                                                                     \
	X(o_bias)                                                                                                \
	X(attn_post_norm)                                                                                        \
	X(ffn_norm)                                                                                              \
	X(ffn_norm_bias)                                                                                         \
	X(gate)                                                                                                  \
	X(up)                                                                                                    \
	X(up_bias)                                                                                               \
	X(down)                                                                                                  \
	X(down_bias)                                                                                             \
	X(ffn_post_norm)

/* And the ends of a model. `dense` stands between an encoder and its classifier, the head. */
#define HR_END_WEIGHTS(X)                                                                                    \
	X(embedding)                                                                                             \
	X(position_embedding)                                                                                    \
	X(type_embedding)                                                                                        \
	X(embedding_norm)                                                                                        \
	X(embedding_norm_bias)                                                                                   \
	X(final_norm)                                                                                            \
	X(final_norm_bias)                                                                                       \
	X(dense)                                                                                                 \
	X(dense_bias)                                                                                            \
	X(head)                                                                                                  \
	X(head_bias)                                                                                             \
	X(rope_factors)                                                                                          \
	X(rope_short)                                                                                            \
	X(rope_long)

/* Indexes of tensors[] below, -1: absent. Shapes have been checked against hparams. */
#define HR_X(name) int name;
struct hr_block_tensors {
	HR_BLOCK_WEIGHTS(HR_X)
};
struct hr_end_tensors {
	HR_END_WEIGHTS(HR_X)
};
#undef HR_X

struct hr_checkpoint {
	char                    *path;
	bool                     is_gguf;
	struct hr_file          *files; /* [n_files] */
	int                      n_files;
	struct hr_tensor        *tensors; /* [n_tensors], then [n_views]: parts of them as matrices */
	int                      n_tensors, n_views;
	struct hr_hparams        hparams;
	struct hr_block_tensors *blocks; /* [n_layers] */
	struct hr_end_tensors    ends;   /* head = embedding when tied */
	struct hr_encoder_use    use;    /* encoder */
	bool                     has_vocab;
	struct hr_vocab          vocab; /* taken over by the tokenizer */
	struct hr_error vocab_error;    /* code not 0: there is a tokenizer, of a kind that is not supported */
	uint64_t        n_params;
	uint64_t        weight_bytes;
	char            dtype[16]; /* of most weight bytes: "q4_1" */
};

/* Open a GGUF file (its first shard when split) or a Hugging Face directory.
 * HR_ENOENT, HR_EIO, HR_EFORMAT, HR_ETRUNCATED, HR_EUNSUPPORTED, HR_ENOMEM; HR_EINVAL: a shard that is
 * not the first. A model without a tokenizer, or with one of an unsupported kind, opens with has_vocab false.
 */
int  hr_checkpoint_open(struct hr_checkpoint *c, const char *path, struct hr_error *err);
void hr_checkpoint_release(struct hr_checkpoint *c); /* a zeroed struct is fine */

/* "llama, mistral, qwen2": from the table that the code uses. */
const char *hr_family_list(void);

#endif
