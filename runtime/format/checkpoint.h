/* A checkpoint: a model as it lies on disk, whatever its format, validated
 * before anything is believed. GGUF (v2, v3, split) and Hugging Face
 * directories (config.json, *.safetensors, tokenizer.json) end up here. */
#ifndef HR_RUNTIME_CHECKPOINT_H
#define HR_RUNTIME_CHECKPOINT_H

#include "io/file.h"
#include "kernels/ops.h"
#include "kernels/types.h"
#include "runtime/tokenizer/tokenizer.h"

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
};

enum hr_rope_scaling { HR_ROPE_SCALING_NONE, HR_ROPE_SCALING_LINEAR, HR_ROPE_SCALING_LLAMA3 };

/* What a decoder of the llama line needs to know. */
struct hr_hparams {
	char    family[32]; /* "llama", "mistral", "qwen2" */
	int32_t n_layers, n_embd, n_heads, n_kv_heads, head_dim, n_ff, n_vocab, n_ctx_train;
	float   rms_eps;

	enum hr_rope_style   rope_style;
	int32_t              n_rot; /* rotated elements per head, even */
	float                rope_theta;
	enum hr_rope_scaling rope_scaling;
	/* LLAMA3 is config.json's; a GGUF of Llama 3.1 has NONE and a tensor of factors instead. */
	float   rope_factor, rope_low_freq_factor, rope_high_freq_factor;
	int32_t rope_original_context;

	int32_t sliding_window; /* 0: none */
	bool    tied;           /* the head is the embedding */
};

/* The weights of one block and of the ends; indexes tensors[] below, -1: absent
 * (biases, a tied head, rope factors). Shapes have been checked against hparams. */
struct hr_block_tensors {
	int attn_norm, q, k, v, o, q_bias, k_bias, v_bias, o_bias;
	int ffn_norm, gate, up, down;
};

struct hr_checkpoint {
	char                    *path;
	bool                     is_gguf;
	struct hr_file          *files; /* [n_files] */
	int                      n_files;
	struct hr_tensor        *tensors; /* [n_tensors] */
	int                      n_tensors;
	struct hr_hparams        hparams;
	struct hr_block_tensors *blocks; /* [n_layers] */
	int                      embedding, final_norm, head /* = embedding when tied */, rope_factors;
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
