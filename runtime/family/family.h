/* Families: how each spells its hyperparameters and tensors.
 *
 * A family is a row of HR_FAMILIES and a file of its own. All that are
 * known are decoders of the llama line: they share decoder.c and state only
 * where they differ. A later family of the line is one row and one short file. */
#ifndef HR_RUNTIME_FAMILY_H
#define HR_RUNTIME_FAMILY_H

#include "runtime/format/checkpoint.h"
#include "runtime/format/gguf.h"
#include "runtime/format/json.h"

#include <stddef.h>

enum hr_presence { HR_ABSENT, HR_OPTIONAL, HR_REQUIRED };

/* What reading a model's description gives: the hyperparameters, and what the tensors must agree with. */
struct hr_decoder {
	struct hr_hparams hparams; /* n_vocab 0: the file doesn't say, take the embedding's rows */
	enum hr_presence  qkv_bias, o_bias;
	bool tied_by_tensors; /* no head among the tensors means tied (GGUF); else hparams.tied says it */
};

struct hr_family {
	const char *name;
	const char *gguf_arch;       /* general.architecture; NULL: its GGUF files go by another family's name */
	const char *hf_model_type;   /* config.json's model_type ... */
	const char *hf_architecture; /* ... and architectures[0] */
	int (*from_gguf)(struct hr_decoder *d, const struct hr_gguf *g, struct hr_error *err);
	int (*from_hf)(struct hr_decoder *d, const struct hr_json *config, struct hr_error *err);
};

/* X(name): all families, in the order in which lists name them. */
#define HR_FAMILIES(X)                                                                                       \
	X(llama)                                                                                                 \
	X(mistral)                                                                                               \
	X(qwen2)

#define HR_X(name) extern const struct hr_family hr_family_##name;
HR_FAMILIES(HR_X)
#undef HR_X

/* Find the family that the file names and read its description, checked: every size is positive and sane,
 * heads divide. HR_EUNSUPPORTED: an unknown family (named, with those supported) or an option that the
 * forward pass does not have; HR_EFORMAT: a key that is missing, or a contradiction. */
int hr_family_from_gguf(struct hr_decoder *d, const struct hr_gguf *g, struct hr_error *err);
int hr_family_from_hf(struct hr_decoder *d, const struct hr_json *config, struct hr_error *err);

/* ---- What the llama line has in common: decoder_gguf.c, decoder_hf.c, decoder_check.c ------------- */

/* All but rope_style and the biases. */
int hr__decoder_from_gguf(struct hr_decoder *d, const struct hr_gguf *g, const char *arch,
                          struct hr_error *err);

/* Values that a config.json may leave out, as Transformers fills them in. */
struct hr_decoder_defaults {
	int32_t n_kv_heads; /* 0: as many as heads */
	int32_t n_ctx_train;
};
/* All but sliding_window and the biases. */
int hr__decoder_from_hf(struct hr_decoder *d, const struct hr_json *config,
                        const struct hr_decoder_defaults *defaults, struct hr_error *err);

/* The checks named at hr_family_from_gguf(). */
int hr__decoder_check(const struct hr_decoder *d, const char *path, struct hr_error *err);

/* ---- The tensors of the line: decoder_tensors.c ---------------------------------- */

enum hr_dim { HR_DIM_NONE, HR_DIM_EMBD, HR_DIM_Q, HR_DIM_KV, HR_DIM_FF, HR_DIM_VOCAB, HR_DIM_HALF_ROT };

enum hr_role_kind {
	HR_ROLE_MATRIX,
	HR_ROLE_NORM,
	HR_ROLE_QKV_BIAS,
	HR_ROLE_O_BIAS,
	HR_ROLE_HEAD,
	HR_ROLE_ROPE_FACTORS,
};

/* One tensor of a block or of the ends: its names, its shape ([cols], or [rows][cols]), and the int it
 * is kept in: a field of hr_block_tensors or of hr_checkpoint. */
struct hr_role {
	const char       *gguf, *hf; /* after the block's prefix; NULL: not in this format */
	enum hr_dim       rows, cols;
	enum hr_role_kind kind;
	size_t            field;
};

extern const struct hr_role hr_block_roles[], hr_end_roles[];
extern const int            hr_n_block_roles, hr_n_end_roles;

/* What stands before a block's names. */
#define HR_GGUF_BLOCK "blk.%d."
#define HR_HF_BLOCK   "model.layers.%d."

uint64_t hr_dim_size(enum hr_dim dim, const struct hr_hparams *h);

/* A tensor that some converters write and no forward pass needs. */
bool hr_tensor_is_ignorable(const char *name);

#endif
